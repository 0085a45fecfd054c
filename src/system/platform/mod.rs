//! The operating system, one whole file for each, behind one small contract.
//!
//! This is the only home of `unsafe` and of signals. What a platform must offer is what this module
//! re-exports: clocks, the kernel lock's visible mark and beat, a pinned process, the spawning of children
//! that leak nothing, a user's own command with the signals meant for it, and a daemon with all that it must have and
//! must not have. A platform without a faithful answer does not compile rather than guess.

#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
pub use linux::*;

#[cfg(not(target_os = "linux"))]
compile_error!("fm-watch runs on Linux so far; another platform is one more folder beside src/system/platform/linux");
