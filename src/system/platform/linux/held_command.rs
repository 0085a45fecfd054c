//! A user's own command as a child that begins only when it is told to, on Linux.
//!
//! It is the command of a wrapper such as flock(1), not a part of this program: it keeps the process group, the session,
//! the terminal, the working directory, the environment and every descriptor that the user gave, and gets back the
//! umask and the signals as the user had them. Of this program's own descriptors it gets none but the one that it is
//! to inherit; all others are close-on-exec from their beginning.
//!
//! [`HeldCommand::fork`] makes the process, so that its pid is known, and lets it wait on a pipe. [`HeldCommand::start`]
//! writes a byte into that pipe; only then is the command executed. When this process ends before that, however it
//! comes, the pipe is at its end and the child leaves. A second pipe, closed by a successful execution, carries the
//! reason of a failed one.
//!
//! If this is wrong, a command runs without its lock, or a wrapper that was killed leaves a process behind.
//!
//! Limits: whoever closed one of the standard streams gives the command `/dev/null` there, because Rust's runtime
//! opens that in its place.

#![expect(unsafe_code, reason = "the work of the child between fork and exec cannot be done through a safe interface")]

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use super::children::{Ending, reap, wait_for_any, wait_for_end};
use super::process::{Pinned, signal as signal_process};
use super::signals::{Caught, Original, Signals};
use super::spawn::give_back_own_ways;
use super::start_gate::{ChildEnds, Gate, Life, Pipes, c_strings, error_number, pointers};
use crate::system::Signal;

/// A command in a process of its own: first waiting for permission, then running, at last ended and not yet reaped.
#[derive(Debug)]
pub struct HeldCommand {
    process: Pinned,
    gate: Gate,
}

/// What happened first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// The command has ended.
    Ended,
    /// A signal arrived.
    Caught(Caught),
    /// Nothing, for so long.
    Nothing,
}

impl HeldCommand {
    /// Makes the process that will execute the command, a program (found on `PATH`) and its arguments, once it may. One
    /// descriptor of this process can be handed down to it.
    ///
    /// # Errors
    /// No process or pipe is to be had, or the kernel has no pidfd. Nothing runs then.
    pub fn fork(command: &[OsString], handed_down: Option<BorrowedFd<'_>>, signals: &Signals) -> io::Result<Self> {
        let words = c_strings(command.iter().map(OsString::as_os_str))?;
        let pipes = Pipes::new()?;
        let child = Child {
            arguments: &pointers(&words),
            ends: pipes.child_ends(),
            handed_down: handed_down.map(|descriptor| descriptor.as_raw_fd()),
            original: signals.original(),
        };
        // SAFETY: the child makes only calls that are safe after a fork (see `Child::live`).
        let (process, gate) = unsafe { pipes.fork(&child) }?;
        Ok(Self { process, gate })
    }

    /// Its pid. The number stays its own until it is reaped.
    pub fn pid(&self) -> u32 {
        self.process.pid().get()
    }

    /// Lets it execute the command, and waits until it has.
    ///
    /// # Errors
    /// The command cannot be executed. Its process has ended then, and is unreaped.
    pub fn start(&mut self) -> io::Result<()> {
        self.gate.open();
        let reason = self.gate.last_word()?;
        reason.try_into().map_or(Ok(()), |number| Err(io::Error::from_raw_os_error(i32::from_ne_bytes(number))))
    }

    /// Sends it a signal, unless it has ended. It is unreaped, so nobody else can be hit.
    ///
    /// # Errors
    /// It has become another user's.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        signal_process(&self.process, signal).map(drop)
    }

    /// Waits until it has ended, and leaves it unreaped.
    ///
    /// # Errors
    /// Those of the system.
    pub fn wait_for_end(&self) -> io::Result<()> {
        wait_for_end(self.pid())
    }

    /// Waits until it has ended, gives its pid back to the system, and says how it ended.
    ///
    /// # Errors
    /// Those of the system.
    pub fn reap(mut self) -> io::Result<Ending> {
        self.gate.forbid();
        reap(self.pid())
    }
}

impl Drop for HeldCommand {
    fn drop(&mut self) {
        // One that runs goes on without us. One that was never told to begin would leave by itself, unless somebody has
        // stopped it; it has done nothing yet that a kill could harm.
        if self.gate.is_shut() {
            let _ended_already = self.signal(Signal::Kill);
            let _reaped = reap(self.pid());
        }
    }
}

/// Waits until the command ends or a signal arrives, at most so long. A command's end comes before any signal.
///
/// # Errors
/// Those of the system.
pub fn wait_for_happening(
    command: Option<&HeldCommand>,
    signals: &Signals,
    at_most: Duration,
) -> io::Result<Happening> {
    let mut waited = vec![signals.as_fd()];
    waited.extend(command.map(|command| command.process.as_fd()));
    match wait_for_any(&waited, Some(at_most))?.as_slice() {
        [_, true] => Ok(Happening::Ended),
        [true, ..] => Ok(signals.next()?.map_or(Happening::Nothing, Happening::Caught)),
        // Being stopped and continued interrupts as well.
        _ => Ok(Happening::Nothing),
    }
}

/// What the child knows: numbers and pointers made before the fork, so that nothing is allocated after it.
struct Child<'a> {
    /// Of C strings, with a null pointer at the end.
    arguments: &'a [*const libc::c_char],
    ends: ChildEnds,
    handed_down: Option<RawFd>,
    original: Original,
}

impl Life for Child<'_> {
    /// The life of the child until it is the command.
    fn live(&self) -> ! {
        give_back_own_ways();
        self.original.restore();
        // SAFETY: only system calls are made, and execvp, which in this C library uses nothing but the stack; all
        // pointers are into memory that the fork copied. The descriptors are this process's copies.
        unsafe {
            libc::close(self.ends.permission);
            if !self.ends.opens() {
                libc::_exit(0);
            }
            if let Some(descriptor) = self.handed_down {
                libc::fcntl(descriptor, libc::F_SETFD, 0);
            }
            libc::execvp(self.arguments[0], self.arguments.as_ptr());
        }
        self.ends.fail(&error_number().to_ne_bytes())
    }
}
