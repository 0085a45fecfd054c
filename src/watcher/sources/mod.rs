//! Where wakes come from: one file per source, its parsing and its policy pure.

pub mod check_result;
pub mod checks;
pub mod coalesce;
pub mod heartbeat;
pub mod inbox;
pub mod pane_tracker;
pub mod panes;
pub mod signals;
