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

pub mod base;
pub mod cli;
pub mod daemons;
pub mod doctor;
pub mod firstmate;
pub mod home;
pub mod hooks;
pub mod journal;
pub mod launch;
pub mod lock;
pub mod ownership;
pub mod service;
pub mod settings;
pub mod storm;
pub mod system;
pub mod watcher;
