//! The signals of a process that stands before another one, on Linux.
//!
//! Whoever waits in a command's stead gets the signals that were meant for the command. It keeps them from acting
//! ([`Signals::hold`] blocks them) and reads them one by one, each with the word of the kernel on who sent it: a signal
//! of the terminal has reached the whole process group already, one of another process only us.
//!
//! The command must find signals as they were when this process was started. That state is lost early: Rust's runtime
//! ignores SIGPIPE before `main`, so a constructor remembers it before that, as [`Original`] does the rest.
//!
//! What a program of ours itself listens to is chosen by [`requests`](crate::system::requests), and what ends a child that does not listen yet is
//! [`let_act`]'s.
//!
//! If this is wrong, a command cannot be interrupted, is interrupted twice, or dies of (or survives) a closed pipe
//! although its caller wanted it otherwise.
//!
//! Limits: equal signals that arrive before one of them was read are one, as everywhere. Real-time signals and those
//! whose default is not to end a process are left alone.

#![expect(unsafe_code, reason = "signal sets and signalfd are not covered by the safe library")]

use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use super::children::Ending;
use super::process::named;
use crate::base::failpoint::{Failpoint, is_protected};
use crate::system::Signal;

/// The signals that people and programs send to end a process or to tell it something.
const HEEDED: [Signal; 7] =
    [Signal::HangUp, Signal::Interrupt, Signal::Quit, Signal::User1, Signal::User2, Signal::Alarm, Signal::Terminate];

/// Whether this process was started with SIGPIPE ignored.
static PIPE_WAS_IGNORED: AtomicBool = AtomicBool::new(false);

extern "C" fn remember_pipe() {
    PIPE_WAS_IGNORED.store(is_ignored(libc::SIGPIPE), Ordering::Relaxed);
}

// SAFETY: entries of this section are pointers to functions that the C library calls before `main`, in the only thread.
// This one calls sigaction and stores a byte; it needs nothing that is set up later.
#[used]
#[unsafe(link_section = ".init_array")]
static REMEMBER_PIPE: extern "C" fn() = remember_pipe;

/// What signals did when this process was started.
#[derive(Clone, Copy)]
pub struct Original {
    mask: libc::sigset_t,
    on_child: libc::sighandler_t,
}

/// Who sent a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// The kernel by itself: the terminal's keys, its end, a timer.
    Kernel,
    /// A process, to this one or to a group that it is in.
    Process,
}

/// A signal that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caught {
    /// Which one it is.
    pub signal: Signal,
    /// Who sent it.
    pub sender: Sender,
}

impl Caught {
    /// The exit code of a process that ends by this signal, as a shell says it.
    pub fn exit_code(self) -> u8 {
        Ending::Killed(named(self.signal).as_raw()).exit_code()
    }
}

/// Signals that do not act but can be read.
pub struct Signals {
    descriptor: OwnedFd,
    original: Original,
}

impl Signals {
    /// From now on, signals that would end this process can be read instead. Those that it was started with as ignored
    /// or blocked stay so. Its children can be waited for, also if it was started with SIGCHLD ignored.
    ///
    /// # Errors
    /// No descriptor is to be had.
    pub fn hold() -> io::Result<Self> {
        let mask = change_mask(libc::SIG_BLOCK, &set_of(&[]))?;
        let heeded: Vec<i32> =
            HEEDED.map(number_of).into_iter().filter(|&signal| !is_ignored(signal) && !is_in(&mask, signal)).collect();
        let heeded = set_of(&heeded);
        // SAFETY: `heeded` is a valid set, and -1 asks for a new descriptor.
        let descriptor = unsafe { libc::signalfd(-1, &raw const heeded, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if descriptor == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was made just now and nobody else knows it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        change_mask(libc::SIG_BLOCK, &heeded)?;
        // SAFETY: the default action is not a handler.
        let on_child = unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
        Ok(Self { descriptor, original: Original { mask, on_child } })
    }

    /// The next signal that has arrived, if one has.
    ///
    /// # Errors
    /// Those of the system.
    pub fn next(&self) -> io::Result<Option<Caught>> {
        // SAFETY: the struct holds integers only, for which all bits zero is a valid value.
        let mut read: libc::signalfd_siginfo = unsafe { mem::zeroed() };
        let size = mem::size_of::<libc::signalfd_siginfo>();
        // SAFETY: the kernel writes at most `size` bytes into a struct of that size that outlives the call.
        let taken = unsafe { libc::read(self.descriptor.as_raw_fd(), (&raw mut read).cast(), size) };
        if taken == -1 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
        }
        let is_it = |&signal: &Signal| u32::try_from(number_of(signal)) == Ok(read.ssi_signo);
        // The descriptor gives nothing else.
        let signal = HEEDED.into_iter().find(is_it).ok_or(io::ErrorKind::InvalidData)?;
        let sender = if read.ssi_code == SI_KERNEL { Sender::Kernel } else { Sender::Process };
        Ok(Some(Caught { signal, sender }))
    }

    /// What a command must get back.
    pub fn original(&self) -> Original {
        self.original
    }
}

/// `si_code` of a signal that no process sent (asm-generic/siginfo.h).
const SI_KERNEL: i32 = 0x80;

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Signals").field(&self.descriptor).finish()
    }
}

impl Original {
    /// Gives this process back what it was started with. Async-signal-safe.
    pub(crate) fn restore(&self) {
        let on_pipe = if PIPE_WAS_IGNORED.load(Ordering::Relaxed) { libc::SIG_IGN } else { libc::SIG_DFL };
        // SAFETY: no handlers are installed: this process was just executed when SIGCHLD's action was read, so that is
        // "default" or "ignore", too. The set is valid.
        unsafe {
            libc::signal(libc::SIGPIPE, on_pipe);
            libc::signal(libc::SIGCHLD, self.on_child);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.mask, std::ptr::null_mut());
        }
    }
}

/// Whether this process leads its session: the kernel tells the leader alone that the terminal is gone.
///
/// A leader outside of this process's pid namespace has no number in it: the kernel then answers 0, which is nobody's
/// pid, so the answer is compared as it is.
pub fn leads_session() -> bool {
    // SAFETY: both calls only read kernel state of this process.
    unsafe { libc::getsid(0) == libc::getpid() }
}

/// Whether this process was not started to ignore this signal. It must be asked before the signal is listened to.
pub(crate) fn is_heeded(signal: i32) -> bool {
    !is_ignored(signal) || !is_protected(Failpoint::SignalsIgnored)
}

fn number_of(signal: Signal) -> i32 {
    named(signal).as_raw()
}

/// From now on this signal does what it does by default, whatever was set and whether or not it was blocked.
/// Async-signal-safe.
///
/// # Errors
/// A signal whose action cannot be set.
pub(crate) fn let_act(signal: i32) -> io::Result<()> {
    // SAFETY: the default action is not a handler.
    if unsafe { libc::signal(signal, libc::SIG_DFL) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    change_mask(libc::SIG_UNBLOCK, &set_of(&[signal])).map(drop)
}

fn is_ignored(signal: i32) -> bool {
    // SAFETY: the struct is plain data for which all bits zero is valid; the kernel writes the present action into it.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

fn set_of(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: the set is plain data, emptied before it is used; adding changes it only.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for &signal in signals {
            libc::sigaddset(&raw mut set, signal);
        }
        set
    }
}

fn is_in(set: &libc::sigset_t, signal: i32) -> bool {
    // SAFETY: the set is valid and only read.
    unsafe { libc::sigismember(set, signal) == 1 }
}

/// Changes which signals this thread holds back, and gives what it was before.
fn change_mask(how: libc::c_int, set: &libc::sigset_t) -> io::Result<libc::sigset_t> {
    let mut before = set_of(&[]);
    // SAFETY: both sets are valid for the whole call.
    let answer = unsafe { libc::pthread_sigmask(how, set, &raw mut before) };
    if answer == 0 { Ok(before) } else { Err(io::Error::from_raw_os_error(answer)) }
}
