//! A forked child that waits at a gate until its parent has written down who it is, on Linux.
//!
//! The gate is a pipe: one byte permits, its end without a byte forbids. So a child whose parent dies in between, however
//! that comes, never executes anything. A second pipe, closed by a successful execution, carries the child's own word on
//! what failed. What the child does between the two is its owner's affair ([`HeldCommand`], [`HeldDaemon`]).
//!
//! If this is wrong, a program runs that nobody has recorded, or a child waits for ever.
//!
//! [`HeldCommand`]: super::HeldCommand
//! [`HeldDaemon`]: super::HeldDaemon

#![expect(unsafe_code, reason = "what a child does between fork and exec cannot be done through a safe interface")]

use std::ffi::{CString, OsStr};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use super::children::reap;
use super::process::{Pinned, pin_reported};

/// Both pipes, before the fork.
pub(crate) struct Pipes {
    gate: PipeReader,
    permission: PipeWriter,
    failure: PipeReader,
    last_word: PipeWriter,
}

/// The numbers of the child's ends.
#[derive(Clone, Copy)]
pub(crate) struct ChildEnds {
    pub gate: RawFd,
    pub last_word: RawFd,
    /// The gate's other end, which the child must close: with this copy open, the pipe would never be at its end.
    pub permission: RawFd,
}

/// What a child does until it executes its program or ends.
pub(crate) trait Life {
    fn live(&self) -> !;
}

/// The parent's ends.
#[derive(Debug)]
pub(crate) struct Gate {
    /// There until the gate is opened.
    permission: Option<PipeWriter>,
    failure: PipeReader,
}

impl Pipes {
    pub(crate) fn new() -> io::Result<Self> {
        let (gate, permission) = io::pipe()?;
        let (failure, last_word) = io::pipe()?;
        Ok(Self { gate, permission, failure, last_word })
    }

    pub(crate) fn child_ends(&self) -> ChildEnds {
        ChildEnds {
            gate: self.gate.as_raw_fd(),
            last_word: self.last_word.as_raw_fd(),
            permission: self.permission.as_raw_fd(),
        }
    }

    /// Makes a process of this child, and pins it.
    ///
    /// # Safety
    /// The child may do only what a child may do between `fork` and `exec`.
    ///
    /// # Errors
    /// No process or pidfd is to be had. Nothing runs then.
    pub(crate) unsafe fn fork(self, child: &impl Life) -> io::Result<(Pinned, Gate)> {
        // SAFETY: the caller's promise.
        let number = match unsafe { libc::fork() } {
            0 => child.live(),
            number => u32::try_from(number).map_err(|_| io::Error::last_os_error())?,
        };
        match pin_reported(number) {
            Ok(Some(process)) => Ok((process, Gate { permission: Some(self.permission), failure: self.failure })),
            unpinned => {
                drop(self.permission);
                // It is at its end without its gate; nobody else can have its number before it is reaped.
                drop(reap(number));
                Err(unpinned.err().unwrap_or_else(|| io::Error::other("the new process cannot be pinned")))
            }
        }
    }
}

impl Gate {
    /// Whether the child still waits for permission.
    pub(crate) fn is_shut(&self) -> bool {
        self.permission.is_some()
    }

    /// Permits the child to go on.
    pub(crate) fn open(&mut self) {
        if let Some(mut permission) = self.permission.take() {
            // One that was killed meanwhile does not read it; its end is seen where all ends are.
            let _nobody_reads = permission.write_all(b"!");
        }
    }

    /// Forbids the child to go on, unless it was permitted.
    pub(crate) fn forbid(&mut self) {
        self.permission = None;
    }

    /// What the child says about a failure; nothing once it has executed its program. Waits for it.
    pub(crate) fn last_word(&mut self) -> io::Result<Vec<u8>> {
        let mut word = Vec::new();
        self.failure.read_to_end(&mut word)?;
        Ok(word)
    }
}

/// Can be read when the child has said its last word.
impl AsFd for Gate {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.failure.as_fd()
    }
}

impl ChildEnds {
    /// Waits at the gate, and says whether it opened. It does only what a child may do between `fork` and `exec`.
    pub(crate) fn opens(self) -> bool {
        let mut byte = 0_u8;
        loop {
            // SAFETY: one byte is read into one byte.
            match unsafe { libc::read(self.gate, (&raw mut byte).cast(), 1) } {
                1 => return true,
                -1 if error_number() == libc::EINTR => {}
                _ => return false,
            }
        }
    }

    /// Says the last word, and ends. As [`ChildEnds::opens`].
    pub(crate) fn fail(self, word: &[u8]) -> ! {
        // SAFETY: the bytes are as many as is said.
        unsafe {
            libc::write(self.last_word, word.as_ptr().cast(), word.len());
            libc::_exit(127)
        }
    }
}

/// The number of this thread's last error. As [`ChildEnds::opens`].
pub(crate) fn error_number() -> i32 {
    // SAFETY: errno is this thread's own.
    unsafe { *libc::__errno_location() }
}

/// These words as C has them, made before the fork.
pub(crate) fn c_strings<'a>(words: impl IntoIterator<Item = &'a OsStr>) -> io::Result<Vec<CString>> {
    words.into_iter().map(|word| Ok(CString::new(word.as_bytes())?)).collect()
}

/// The list of them as C has it: with a null pointer at the end.
pub(crate) fn pointers(words: &[CString]) -> Vec<*const libc::c_char> {
    words.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect()
}
