//! The process of the agent in whose session a hook runs.
//!
//! It is the nearest ancestor that was not started only to run this hook. Shells and wrappers that were have the hook's own
//! command line among their arguments, whatever they are called, and are passed over.
//!
//! If this names a process that ends with the hook, its session is taken for dead and the next one takes the home over;
//! nothing is signalled on this ground.
//!
//! Limits: a script file that calls the hook is taken for the agent, because its arguments do not show the hook.

use crate::liveness::identity::{Identity, Observation, Pid};
use crate::world::World;

/// What the arguments of every hook have in them.
const SIGN: &[u8] = b"--harness";

/// So many wrappers are passed over.
const WRAPPERS: usize = 8;

/// The agent of this process. `None`: nobody can tell.
pub fn of_this_process<W: World>(world: &W) -> Option<Identity> {
    let mut pid = world.table_entry(world.own_pid())?.parent;
    for _ in 0..WRAPPERS {
        let agent = Pid::new(pid)?;
        let arguments = world.listing(pid)?.arguments;
        if !arguments.windows(SIGN.len()).any(|part| part == SIGN) {
            return identity(world, agent);
        }
        pid = world.table_entry(pid)?.parent;
    }
    None
}

fn identity<W: World>(world: &W, pid: Pid) -> Option<Identity> {
    let process = world.pin(pid).ok()??;
    match world.observe(&process) {
        Observation::Seen(identity) => Some(identity),
        Observation::Gone | Observation::Unreadable(_) => None,
    }
}
