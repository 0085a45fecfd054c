//! Small questions about files that each platform answers in its own way, on Linux.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{Access, StatVfsMountFlags};

/// A name made of bytes that another process or the kernel wrote.
pub fn os_string(bytes: Vec<u8>) -> OsString {
    OsString::from_vec(bytes)
}

/// Opens a file for reading. A FIFO does not hang us, and a terminal does not become ours.
///
/// # Errors
/// Those of the system.
pub fn open_without_waiting(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

/// Whether this process may execute a path, as the system itself judges that.
pub fn may_execute(path: &Path) -> bool {
    rustix::fs::access(path, Access::EXEC_OK).is_ok()
}

/// What a file system has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// Nothing can be written to it.
    ReadOnly,
    /// So many bytes are free for this user.
    Free(u64),
}

/// What the file system of a path has left.
///
/// # Errors
/// Those of the system.
pub fn space(path: &Path) -> io::Result<Space> {
    let facts = rustix::fs::statvfs(path)?;
    if facts.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(Space::ReadOnly);
    }
    Ok(Space::Free(facts.f_bavail.saturating_mul(facts.f_frsize)))
}

/// A limit of the system on watching files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchLimit {
    /// No further file can be watched.
    Watches,
    /// No further set of files can be watched, or no further file opened.
    Instances,
}

/// The limit that an attempt to watch files ran into, if it did.
pub fn watch_limit(error: &io::Error) -> Option<WatchLimit> {
    match error.raw_os_error()? {
        libc::ENOSPC => Some(WatchLimit::Watches),
        libc::EMFILE => Some(WatchLimit::Instances),
        _ => None,
    }
}
