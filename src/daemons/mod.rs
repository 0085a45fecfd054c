//! Daemons: programs of which a home keeps exactly one each.
//!
//! # Theory
//!
//! A daemon is alive if and only if a process holds its *life lock*, a kernel lock that the daemon inherits by an open
//! descriptor and knows nothing of. A program that closes every descriptor gives that lock back while it lives, so nobody
//! takes a free lock for a death: *absent* needs the lock free, the recorded identity gone, and nothing that answers at
//! its socket ([`state`], a pure function). Only what is absent is started.
//!
//! Each running daemon has a *monitor*, a small process of ours that is nobody's descendant. It alone starts the daemon,
//! records it before the daemon may execute, judges when it is ready, keeps its log within its bounds, sees its end, and
//! writes that down. Neither the client that asked for the daemon nor the watcher need live on. A monitor that is killed
//! takes nothing with it: the daemon goes on, and the next monitor adopts it by its identity.
//!
//! Records are stamped with a generation that grows with every life. A monitor writes a record only while it holds the
//! monitor's lock and its generation is still the last one, so the late end of an old life never stands in for the new one.

pub mod ensure;
pub mod find_duplicates;
pub mod keeper;
pub mod locks;
pub mod log;
pub mod log_reader;
pub mod membership;
pub mod monitor;
pub mod observe;
pub mod orphans;
pub mod paths;
pub mod records;
pub mod report;
pub mod restart_policy;
pub mod spawn_monitor;
pub mod state;
pub mod stop;
