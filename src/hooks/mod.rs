//! Hooks: what a session of an agent harness asks at its start, before a tool, and at the end of a turn.
//!
//! # Theory of operation
//!
//! A hook is one process that lives for milliseconds inside somebody else's turn. It reads what the harness says
//! ([`payload`]), makes sure that this harness is the one it was installed for ([`origin`]), finds out whether this session
//! is the one responsible for the home ([`session_lease`]), and turns the verdict that every command shares into one
//! [`decision`]. What the decision may become on stdout, on stderr and as exit code is an [`answer`]; everything in which one
//! harness differs from another, its contract included, stands in its own file under [`harness`].
//!
//! If this is wrong, people are trapped in a loop that they cannot leave, or work without supervision and are told that all
//! is well. Hence: whoever cannot be proven to be responsible is left alone, a turn is held at most twice per
//! episode ([`hold_limit`], counted on disk *before* the turn is held), and whatever fails inside is an exit code of 0.
//!
//! Nothing here is needed for supervision to go on: a watcher belongs to no session, and a hook that never fires costs
//! only its warning.

pub mod answer;
#[cfg(test)]
mod contract;
pub mod decision;
pub mod event;
#[cfg(test)]
mod fuzz;
pub mod harness;
pub mod hold_limit;
pub mod install;
pub mod kill_guard;
pub mod origin;
pub mod payload;
pub mod session_lease;
