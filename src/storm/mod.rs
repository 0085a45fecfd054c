//! A storm: real processes contend for real files and are killed at random, and no two may have held at once.
//!
//! # Theory
//!
//! Exclusion is a claim about instants, so it is proven by comparing intervals on one clock (`CLOCK_MONOTONIC`, which all
//! processes of a machine share), never by a counter that the lock itself would have to protect. Each worker is a
//! process of its own. It says when it begins to try, when it holds (right after the lock was taken) and when it stops
//! to hold (right *before* it lets go). So what is compared lies inside of the true hold at both ends: an
//! overlap that is found is real, while one that is shorter than these ends can escape. A worker that is killed while it
//! holds held at least until the instant before the kill was sent.
//!
//! The [`coordinator`] starts the workers, hears them, kills some, and reaps these at once: a zombie counts as alive for
//! every protocol that asks for a pid. It never blocks: whatever does not get on within a bound of time ends the storm
//! with a reason. Its own death, however it comes, ends every worker, because the kernel is told so when they start.
//!
//! The [kinds](plan::Protocol) are those of the family of locks and two that promise nothing: [`naive`] and
//! [`unlink`]. These must be *seen* to overlap; a storm that cannot break them would prove nothing about the others.
//!
//! Before the kernel's locks are put to the test, the [`self_test`] asks the file system with two processes whether it
//! has any, and gets an answer also where a lock call hangs.
//!
//! If this code is wrong, a lock that does not exclude looks as if it did. Limits: one machine; workers that mean well
//! and tell the truth about their holds.

pub mod coordinator;
pub mod intervals;
pub mod lock_process;
pub mod naive;
pub mod plan;
pub mod processes;
pub mod report;
pub mod self_test;
pub mod summary;
pub mod temp_dir;
pub mod unlink;
pub mod worker;
pub mod worker_history;
