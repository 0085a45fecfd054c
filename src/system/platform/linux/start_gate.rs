//! The gate at which a forked child waits until its parent has written down who it is.
//!
//! It is a pipe: one byte permits, its end without a byte forbids. So a child whose parent dies in between never executes.

#![allow(unsafe_code)]

use std::os::fd::RawFd;

/// Waits at the gate, and says whether it opened. It does only what a child may do between `fork` and `exec`.
pub(crate) fn opens(gate: RawFd) -> bool {
    let mut byte = 0_u8;
    loop {
        // SAFETY: one byte is read into one byte, and errno is this thread's own.
        unsafe {
            match libc::read(gate, (&raw mut byte).cast(), 1) {
                1 => return true,
                -1 if *libc::__errno_location() == libc::EINTR => {}
                _ => return false,
            }
        }
    }
}
