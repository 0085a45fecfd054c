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

// The work of the child between fork and exec cannot be done through a safe interface.
#![allow(unsafe_code)]
// It is also the one door to signals.
#![allow(clippy::disallowed_methods)]

use std::ffi::{CString, OsString};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open};

use super::process::send;
use super::signals::{Caught, Original, Signals};
use super::spawn::give_back_own_ways;
use super::start_gate::opens;
use crate::base::exit;
use crate::system::Signal;

/// A command in a process of its own: first waiting for permission, then running, at last ended and not yet reaped.
#[derive(Debug)]
pub struct HeldCommand {
    pid: Pid,
    pinned: OwnedFd,
    /// There until permission is given. Closing it without a word ends the child.
    permission: Option<PipeWriter>,
    failure: PipeReader,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

impl Ending {
    /// How the end of a child is told; `None` where the kernel does not say.
    pub fn of(status: ExitStatus) -> Option<Self> {
        status.code().map(Self::Exited).or_else(|| status.signal().map(Self::Killed))
    }

    /// The exit code that tells of this end, as a shell says it.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Exited(code) => u8::try_from(code).unwrap_or(exit::FAILED),
            Self::Killed(signal) => exit::SIGNALLED.saturating_add(u8::try_from(signal).unwrap_or(0)),
        }
    }
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
        let words: Vec<CString> = command.iter().map(|word| CString::new(word.as_bytes())).collect::<Result<_, _>>()?;
        let mut arguments: Vec<*const libc::c_char> = words.iter().map(|word| word.as_ptr()).collect();
        arguments.push(std::ptr::null());
        let (gate, permission) = io::pipe()?;
        let (failure, last_word) = io::pipe()?;
        let child = Child {
            arguments: &arguments,
            gate: gate.as_raw_fd(),
            permission: permission.as_raw_fd(),
            last_word: last_word.as_raw_fd(),
            handed_down: handed_down.map(|descriptor| descriptor.as_raw_fd()),
            original: signals.original(),
        };
        // SAFETY: the child makes only calls that are safe after a fork (see `Child::live`) and never returns.
        let number = match unsafe { libc::fork() } {
            0 => child.live(),
            number => number,
        };
        let pid = Pid::from_raw(number).filter(|_| number > 0).ok_or_else(io::Error::last_os_error)?;
        let permission = Some(permission);
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pinned) => Ok(Self { pid, pinned, permission, failure }),
            Err(error) => {
                drop(permission);
                reap(pid)?;
                Err(error.into())
            }
        }
    }

    /// Its pid. The number stays its own until it is reaped.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Lets it execute the command, and waits until it has.
    ///
    /// # Errors
    /// The command cannot be executed. Its process has ended then, and is unreaped.
    pub fn start(&mut self) -> io::Result<()> {
        if let Some(mut permission) = self.permission.take() {
            // One that was killed meanwhile does not read it; its end is seen where all ends are.
            let _nobody_reads = permission.write_all(b"!");
        }
        let mut reason = Vec::new();
        self.failure.read_to_end(&mut reason)?;
        reason.try_into().map_or(Ok(()), |number| Err(io::Error::from_raw_os_error(i32::from_ne_bytes(number))))
    }

    /// Sends it a signal, unless it has ended. It is unreaped, so nobody else can be hit.
    ///
    /// # Errors
    /// It has become another user's.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        send(&self.pinned, signal).map(drop)
    }

    /// Waits until it has ended, and leaves it unreaped.
    ///
    /// # Errors
    /// Those of the system.
    pub fn wait_for_end(&self) -> io::Result<()> {
        wait(self.pid, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).map(drop)
    }

    /// Waits until it has ended, gives its pid back to the system, and says how it ended.
    ///
    /// # Errors
    /// Those of the system.
    pub fn reap(mut self) -> io::Result<Ending> {
        self.permission = None;
        reap(self.pid)
    }
}

impl Drop for HeldCommand {
    fn drop(&mut self) {
        // One that runs goes on without us. One that was never told to begin would leave by itself, unless somebody has
        // stopped it; it has done nothing yet that a kill could harm.
        if self.permission.take().is_some() {
            let _ended_already = self.signal(Signal::Kill);
            let _reaped = reap(self.pid);
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
    let timeout = Timespec {
        tv_sec: i64::try_from(at_most.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: at_most.subsec_nanos().into(),
    };
    let mut polled = vec![PollFd::new(signals, PollFlags::IN)];
    polled.extend(command.map(|command| PollFd::new(&command.pinned, PollFlags::IN)));
    match rustix::event::poll(&mut polled, Some(&timeout)) {
        Ok(_) if polled.get(1).is_some_and(|command| !command.revents().is_empty()) => Ok(Happening::Ended),
        Ok(1..) => Ok(signals.next()?.map_or(Happening::Nothing, Happening::Caught)),
        // Being stopped and continued interrupts as well.
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(Happening::Nothing),
        Err(error) => Err(error.into()),
    }
}

fn reap(pid: Pid) -> io::Result<Ending> {
    let status = wait(pid, WaitIdOptions::EXITED)?;
    status
        .exit_status()
        .map(Ending::Exited)
        .or_else(|| status.terminating_signal().map(Ending::Killed))
        .ok_or_else(|| io::Error::other("the kernel did not say how the command ended"))
}

fn wait(pid: Pid, how: WaitIdOptions) -> io::Result<WaitIdStatus> {
    loop {
        match rustix::process::waitid(WaitId::Pid(pid), how) {
            Ok(Some(status)) => return Ok(status),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What the child knows: numbers and pointers made before the fork, so that nothing is allocated after it.
struct Child<'a> {
    /// Of C strings, with a null pointer at the end.
    arguments: &'a [*const libc::c_char],
    gate: RawFd,
    permission: RawFd,
    last_word: RawFd,
    handed_down: Option<RawFd>,
    original: Original,
}

impl Child<'_> {
    /// The life of the child until it is the command.
    fn live(&self) -> ! {
        give_back_own_ways();
        self.original.restore();
        // SAFETY: only system calls are made, and execvp, which in this C library uses nothing but the stack; all
        // pointers are into memory that the fork copied. The descriptors are this process's copies.
        unsafe {
            // With this copy open, the pipe would never be at its end.
            libc::close(self.permission);
            if !opens(self.gate) {
                libc::_exit(0);
            }
            if let Some(descriptor) = self.handed_down {
                libc::fcntl(descriptor, libc::F_SETFD, 0);
            }
            libc::execvp(self.arguments[0], self.arguments.as_ptr());
            let reason = (*libc::__errno_location()).to_ne_bytes();
            libc::write(self.last_word, reason.as_ptr().cast(), reason.len());
            libc::_exit(127)
        }
    }
}
