//! What a program can do with a home: see its state, obtain its watcher, add, wait for and acknowledge wakes, and obtain
//! its daemons.
//!
//! The types of [`home`] and [`daemon`] are the face of the library. [`waiter`] and [`wakes`] are what stands behind
//! them, which the commands use as well: a command prints what is found out here.

pub mod daemon;
pub mod home;
pub(crate) mod waiter;
pub(crate) mod wakes;
