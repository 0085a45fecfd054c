//! Exactly one watcher for each home, exactly one daemon of each name, and wakes that are not lost.
//!
//! A *home* is a directory. The program `fm-watch` keeps one *watcher* alive for it, which looks for reasons to act and
//! records each as a *wake*. With this library another program can do what the commands do:
//!
//! | to | see |
//! |---|---|
//! | keep exactly one daemon of a kind per project, and attach to the one that runs | [`daemon`] |
//! | run something under a lock that its holder's death releases, or one shared with other programs | [`lock`] |
//! | add a wake, wait for one, read and acknowledge them | [`home`] |
//! | learn the state of a home's watcher, and start it | [`home`] |
//! | act on what failed | [`error`] |
//!
//! # Theory of operation
//!
//! Three facts live in three files of a home. `lock` says *alive*: a watcher lives if and only if a process holds the
//! kernel's lock on it, and on the state directory, so that removing the file cannot make two. `owner.json` says *who*,
//! and `beat.json` says *well*. One pure function turns them into a verdict, and every command and [`home::Home::status`]
//! ask that function.
//!
//! A pid is never acted on. A recorded identity (pid, start, boot, pid namespace, executable) is compared with the process
//! that has the pid now; the answer is *same*, *different* or *unknown*, and *unknown* authorises nothing.
//!
//! A wake is on disk before anything moves that would hide its cause, and stays until it is acknowledged.
//!
//! # Limits
//!
//! Linux only, so far. The watcher and the monitors of daemons are processes of the program `fm-watch`, which has to be
//! installed ([`home::Home::with_program`]).

// Tests have dependencies of their own, and not each of them is for the tests in here.
#![cfg_attr(not(test), warn(unused_crate_dependencies))]

pub mod lock;

pub use api::{daemon, home};

/// What a program can act on: what failed, where, why, and what to do next.
pub mod error {
    pub use crate::base::error::{Error, Result};
}
/// Runs the program, for its binary.
#[doc(hidden)]
pub use cli::main as run_program;

mod api;
mod cli;
mod doctor;
mod firstmate;
mod launch;
mod service;
mod watcher;

// The suite of tests looks into these; for everybody else they are private, too.
#[cfg(not(feature = "test-support"))]
mod base;
#[cfg(feature = "test-support")]
pub mod base;
#[cfg(not(feature = "test-support"))]
mod daemons;
#[cfg(feature = "test-support")]
pub mod daemons;
#[cfg(not(feature = "test-support"))]
mod hooks;
#[cfg(feature = "test-support")]
pub mod hooks;
#[cfg(not(feature = "test-support"))]
mod journal;
#[cfg(feature = "test-support")]
pub mod journal;
#[cfg(not(feature = "test-support"))]
mod layout;
#[cfg(feature = "test-support")]
pub mod layout;
#[cfg(not(feature = "test-support"))]
mod ownership;
#[cfg(feature = "test-support")]
pub mod ownership;
#[cfg(not(feature = "test-support"))]
mod settings;
#[cfg(feature = "test-support")]
pub mod settings;
#[cfg(not(feature = "test-support"))]
mod storm;
#[cfg(feature = "test-support")]
pub mod storm;
#[cfg(not(feature = "test-support"))]
mod system;
#[cfg(feature = "test-support")]
pub mod system;
