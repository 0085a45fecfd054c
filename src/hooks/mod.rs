//! Hooks: what a session of an agent harness asks at its start, before a tool, and at the end of a turn.

pub mod event;
pub mod harness;
pub mod install;
