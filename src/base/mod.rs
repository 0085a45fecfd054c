//! What every storey may use: errors, exit codes, text that is safe to print, the environment, the streams, named steps
//! for tests, and the one helper that sleeps. Nothing here knows a home, a lock or a process.

pub mod console;
pub mod environment;
pub mod error;
pub mod escape;
pub mod exit;
pub mod failpoint;
pub mod wait_until;
