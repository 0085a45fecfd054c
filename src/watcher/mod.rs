//! The watcher: the loop and its sources.
//!
//! [`cycle`] is the loop. It owns the sources ([`signals`], [`checks`], [`panes`], [`heartbeat`], [`inbox`]), gives
//! what they find to the [`recorder`], and moves the markers in [`seen`] when the wakes are durable. What could take
//! long runs beside it and reports as a [`message`].

pub mod beacon;
pub mod bounded_run;
pub mod check_result;
pub mod checks;
pub mod coalesce;
pub mod cycle;
pub mod degradations;
pub mod events;
pub mod heartbeat;
pub mod inbox;
pub mod message;
pub mod notifiers;
pub mod pane_tracker;
pub mod panes;
pub mod recorder;
pub mod regular_file;
pub mod seen;
pub mod signals;
pub mod tasks;
