//! Everything that exists only for firstmate homes: homes whose code has `bin/fm-watch.sh`.
//!
//! # Theory
//!
//! The kernel lock of the home stays the authority among watchers of ours. Beside it stands what shell scripts look at,
//! and ours speaks that as well: after the kernel lock it takes theirs, and gives it up before. So neither side ever
//! watches beside the other, and who looks with the eyes of a script sees what is true.
//!
//! One value, [`fleet::Fleet`], says that a home is such a home. Without it nothing of this module runs.
//!
//! | module | its noun |
//! |---|---|
//! | [`fleet`] | where the scripts are, and what they call the home |
//! | [`memory`] | where the code is, when the variables do not tell |
//! | [`view`] | what shell scripts see of our watcher |
//! | [`holder`] | what ours sees of a shell watcher: **pure verdict**, and the proof before a signal |

pub mod adopt;
pub mod bridge;
pub mod contract;
pub mod drain;
pub mod fleet;
pub mod holder;
pub mod ledger;
pub mod markers;
pub mod memory;
pub mod mirror;
pub mod porter;
pub mod queue;
pub mod row;
pub mod shim;
pub mod view;
