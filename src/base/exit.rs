//! Every exit code, once.

/// Done, or nothing to do.
pub const OK: u8 = 0;
/// It could not be done; the reason is on stderr (for `arm`: on stdout, in its status line).
pub const FAILED: u8 = 1;
/// The command line, the environment or the settings cannot be understood.
pub const USAGE: u8 = 2;
/// `status`: no watcher runs.
pub const NOT_RUNNING: u8 = 3;
/// `status`: the watcher is stuck, or nobody can tell.
pub const UNCERTAIN: u8 = 4;
/// A lock is busy (`EX_TEMPFAIL` of sysexits.h).
pub const BUSY: u8 = 75;
/// `lock`: the lock was lost while the command ran (the next number after [`BUSY`]).
pub const LOST: u8 = 76;
/// The time given with `--timeout` passed without a wake (as `timeout(1)` says it).
pub const TIMED_OUT: u8 = 124;
/// `lock`: the command was found and cannot be executed (as shells say it).
pub const NOT_EXECUTABLE: u8 = 126;
/// `lock`: the command was not found (as shells say it).
pub const NOT_FOUND: u8 = 127;
/// A signal ended it; its number is added (as shells say it).
pub const SIGNALLED: u8 = 128;
/// The process was asked to leave by SIGHUP.
pub const HUNG_UP: u8 = 128 + 1;
/// The process was asked to leave by SIGINT.
pub const INTERRUPTED: u8 = 128 + 2;
/// The process was asked to leave by SIGTERM.
pub const TERMINATED: u8 = 128 + 15;
