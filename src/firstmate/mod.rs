//! Everything that exists only for firstmate homes: homes whose code has `bin/fm-watch.sh`.
//!
//! # Theory
//!
//! The kernel lock of the home stays the authority among watchers of ours. Beside it stands what shell scripts look at,
//! and ours speaks that as well: after the kernel lock it takes theirs, and gives it up before. So neither side ever
//! watches beside the other, and who looks with the eyes of a script sees what is true.
//!
//! One value, [`home::Fleet`], says that a home is such a home. Without it nothing of this module runs.
//!
//! | module | its noun |
//! |---|---|
//! | [`home`] | where the scripts are, and what they call the home |
//! | [`published_lock`] | what shell scripts see of our watcher |
//! | [`shell_watcher`] | what ours sees of a shell watcher: **pure verdict**, and the proof before a signal |
//! | [`queue`], [`row`] | the wake queue as files, and one row of it as bytes |
//! | [`queue_sync`], [`journal_view`], [`row_map`] | the way between queue and journal; the journal as the queue's side sees it; which rows are known |
//! | [`queue_thread`], [`drain`] | the two who cross: a thread of the watcher, and the drain |
//! | [`source`] | all this as a source of the watcher |
//! | [`markers`] | what was announced, as the scripts write it down |
//! | [`script_output`] | what the scripts say: **pure** |
//! | [`adopt`], [`shim`] | putting small scripts in place of theirs, and taking them away |

pub mod adopt;
pub mod drain;
pub mod home;
pub mod journal_view;
pub mod markers;
pub mod published_lock;
pub mod queue;
pub mod queue_sync;
pub mod queue_thread;
pub mod row;
pub mod row_map;
pub mod script_output;
pub mod shell_watcher;
pub mod shim;
pub mod source;
