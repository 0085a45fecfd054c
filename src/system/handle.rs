//! Handles: what this process has open and can wait for or hand down, under names that another platform can give too.
//!
//! A handle is a file descriptor here. Rooms other than `system` hold handles, wait for them ([`platform::wait_for_any`])
//! and hand them to children, whom they tell the number; what a handle is made of is said here only.
//!
//! [`platform::wait_for_any`]: crate::system::platform::wait_for_any

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
pub use std::os::fd::{BorrowedFd as HandleRef, OwnedFd as Handle, RawFd as HandleNumber};

/// Whatever has a handle.
pub trait AsHandle {
    /// Its handle.
    fn as_handle(&self) -> HandleRef<'_>;
}

impl<T: AsFd> AsHandle for T {
    fn as_handle(&self) -> HandleRef<'_> {
        self.as_fd()
    }
}

/// The number under which a child that inherits this handle finds it.
pub fn number_of(handle: &impl AsHandle) -> HandleNumber {
    handle.as_handle().as_raw_fd()
}

/// Standard input without a buffer.
///
/// # Errors
/// It is closed, or no handle is to be had.
pub fn standard_input() -> io::Result<File> {
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

/// Writes to standard output with one system call and without a buffer; says how much was taken, which may be less.
///
/// # Errors
/// Those of the system.
pub fn write_to_standard_output(bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::io::write(io::stdout().as_fd(), bytes)?)
}

/// From now on, reading or writing this pipe never waits.
///
/// # Errors
/// Those of the system.
pub fn set_nonblocking(pipe: HandleRef<'_>) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(pipe, true)?)
}
