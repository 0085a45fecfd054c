//! fm-watch keeps exactly one watcher alive per home, tells the truth about it, and never loses a wake.
//!
//! # Theory of operation
//!
//! A *home* is a directory that one *watcher* serves. The watcher is resident: it looks for reasons to act, writes
//! each one down as a *wake* in a durable journal, and stays. Any number of *waiters* (`arm`, `wait`) come and go; a
//! waiter blocks until a wake is due, says so in one line and leaves.
//!
//! Three facts live in three files. `lock` says *alive*: a watcher lives if and only if a process holds the kernel's
//! lock on it (and on the state directory, so that a stray `rm` cannot make two). `owner.json` says *who*, and
//! `beat.json` says *well*. One pure function, [`system::identity::compare`], turns them into a verdict, and every
//! command asks that function; none decides by itself.
//!
//! Nobody acts on a pid. A recorded [`Identity`](crate::system::identity::Identity) is compared with what lives under its pid
//! today; the answer is *same*, *different* or *unknown*, and unknown authorises nothing.
//!
//! # Map
//!
//! | module | its noun |
//! |---|---|
//! | [`home`] | every path of a home |
//! | [`settings`] | every knob, with the origin of its value |
//! | [`lock`] | locks as values whose drop releases them |
//! | [`ownership`] | the singleton, its owner record, beat, identity, verdict |
//! | [`launch`] | starting a watcher and hearing its own word |
//! | [`firstmate`] | everything that exists only for firstmate homes |
//! | [`service`] | the watcher as a service of the user's manager |
//! | [`doctor`] | what is wrong with a home, and what mends it |
//! | [`storm`] | proof by many processes that a lock excludes, or that it does not |
//! | [`watcher`] | the loop and its sources |
//! | [`journal`] | the journal, presenting and acknowledging |
//! | [`cli::commands`] | one verb per file, thin |
//! | [`system`], [`platform`](crate::system::platform), [`storage`](crate::system::storage) | the outside: the contract, the system, the only writer |

// Tests have dependencies of their own, and not each of them is for the tests in here.
#![cfg_attr(not(test), warn(unused_crate_dependencies))]

pub mod lock;

// The suite of tests looks into every room; for everybody else they are private.
#[cfg(not(feature = "test-support"))]
mod api;
#[cfg(feature = "test-support")]
pub mod api;
#[cfg(not(feature = "test-support"))]
mod base;
#[cfg(feature = "test-support")]
pub mod base;
#[cfg(not(feature = "test-support"))]
mod cli;
#[cfg(feature = "test-support")]
pub mod cli;
#[cfg(not(feature = "test-support"))]
mod daemons;
#[cfg(feature = "test-support")]
pub mod daemons;
#[cfg(not(feature = "test-support"))]
mod doctor;
#[cfg(feature = "test-support")]
pub mod doctor;
#[cfg(not(feature = "test-support"))]
mod firstmate;
#[cfg(feature = "test-support")]
pub mod firstmate;
#[cfg(not(feature = "test-support"))]
mod home;
#[cfg(feature = "test-support")]
pub mod home;
#[cfg(not(feature = "test-support"))]
mod hooks;
#[cfg(feature = "test-support")]
pub mod hooks;
#[cfg(not(feature = "test-support"))]
mod journal;
#[cfg(feature = "test-support")]
pub mod journal;
#[cfg(not(feature = "test-support"))]
mod launch;
#[cfg(feature = "test-support")]
pub mod launch;
#[cfg(not(feature = "test-support"))]
mod ownership;
#[cfg(feature = "test-support")]
pub mod ownership;
#[cfg(not(feature = "test-support"))]
mod service;
#[cfg(feature = "test-support")]
pub mod service;
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
#[cfg(not(feature = "test-support"))]
mod watcher;
#[cfg(feature = "test-support")]
pub mod watcher;

pub use base::error;

/// Runs the program, for its binary.
#[doc(hidden)]
pub use cli::main as run_program;
