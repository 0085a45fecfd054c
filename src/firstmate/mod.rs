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
//! | [`fleet`], [`memory`] | where the scripts are, and what they call the home; where the code is, when the variables do not tell |
//! | [`view`] | what shell scripts see of our watcher |
//! | [`holder`] | what ours sees of a shell watcher: **pure verdict**, and the proof before a signal |
//! | [`queue`], [`row`] | the wake queue as files, and one row of it as bytes |
//! | [`bridge`], [`mirror`], [`ledger`] | the way between queue and journal; the journal as the queue's side sees it; which rows are known |
//! | [`porter`], [`drain`] | the two who cross: a thread of the watcher, and the drain |
//! | [`markers`] | what was announced, as the scripts write it down |
//! | [`contract`] | what the scripts say: **pure** |
//! | [`adopt`], [`shim`] | putting small scripts in place of theirs, and taking them away |

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
