//! The processes below and around a daemon's monitor, on Linux: how one ended, which hold a lock, with which environment one
//! began, and whose ends this process hears of.
//!
//! **Subreaper.** A process that orphans itself, as daemons of the old school do, becomes the child of the nearest living
//! ancestor that asked for that. So every descendant of a monitor stays one as long as the monitor lives.
//!
//! **Who holds a lock.** Many look at the file of a lock and few hold it: whoever only asks whether it is held has it open
//! too. What tells them apart is `/proc/PID/fdinfo/N`, which lists the locks that were taken through this very open file.
//!
//! Limits: processes of other users do not show their descriptors. They hold nothing then, so nobody signals them.

#![expect(unsafe_code, reason = "signal sets, signalfd and credentials are not covered by the safe library")]

use std::fs;
use std::io::{self, Read};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid as Number, WaitId, WaitIdOptions, WaitIdStatus};

use super::process::poll;
use crate::base::exit;

/// How a child ended.
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

/// Makes orphaned descendants of this process its children.
///
/// # Errors
/// A kernel without subreapers (before Linux 3.4).
pub fn adopt_orphans() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Waits for the end of a child, gives its number back to the system, and says how it ended.
///
/// # Errors
/// It is no child of this process.
pub fn reap(pid: u32) -> io::Result<Ending> {
    wait(pid, WaitIdOptions::EXITED)?.and_then(|status| ending(&status)).ok_or_else(|| no_word(pid))
}

/// Waits for the end of a child, and leaves it unreaped.
///
/// # Errors
/// It is no child of this process.
pub(crate) fn wait_for_end(pid: u32) -> io::Result<()> {
    wait(pid, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).map(drop)
}

/// How a child has ended, which stays unreaped. `None`: it has not.
///
/// # Errors
/// It is no child of this process.
pub fn ending_of(pid: u32) -> io::Result<Option<Ending>> {
    let how = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Ok(wait(pid, how)?.and_then(|status| ending(&status)))
}

/// Reaps the children that have ended, up to the first that is spared.
///
/// # Errors
/// Those of the system.
pub fn reap_all_but(spared: Option<u32>) -> io::Result<()> {
    while let Some(pid) = ended_child()?.filter(|&pid| Some(pid) != spared) {
        reap(pid)?;
    }
    Ok(())
}

/// A child that has ended and is unreaped, which it stays.
fn ended_child() -> io::Result<Option<u32>> {
    loop {
        // SAFETY: the struct is plain data for which all bits zero is valid, and the kernel writes into it; its pid is
        // zero where no child has ended.
        let (answer, pid) = unsafe {
            let mut news: libc::siginfo_t = mem::zeroed();
            let answer = libc::waitid(libc::P_ALL, 0, &raw mut news, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT);
            (answer, news.si_pid())
        };
        if answer == 0 {
            return Ok(u32::try_from(pid).ok().filter(|&pid| pid != 0));
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => {}
            // It has no children at all.
            error if error.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
            error => return Err(error),
        }
    }
}

fn wait(pid: u32, how: WaitIdOptions) -> io::Result<Option<WaitIdStatus>> {
    let number = number_of(pid)?;
    loop {
        match rustix::process::waitid(WaitId::Pid(number), how) {
            Ok(status) => return Ok(status),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn ending(status: &WaitIdStatus) -> Option<Ending> {
    status.exit_status().map(Ending::Exited).or_else(|| status.terminating_signal().map(Ending::Killed))
}

fn number_of(pid: u32) -> io::Result<Number> {
    i32::try_from(pid).ok().and_then(Number::from_raw).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
}

fn no_word(pid: u32) -> io::Error {
    io::Error::other(format!("the kernel did not say how pid {pid} ended"))
}

/// Whether a process has this inode open through an open file that holds a `flock` of it.
pub fn holds(pid: u32, device: u64, inode: u64) -> bool {
    has_descriptor(pid, device, inode, |number| {
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
        info.lines().any(|line| line.starts_with("lock:") && line.contains("FLOCK"))
    })
}

/// Whether a process has this inode open at all, which proves nothing about locks.
pub fn has_open(pid: u32, device: u64, inode: u64) -> bool {
    has_descriptor(pid, device, inode, |_| true)
}

/// The environment that a process was given when it executed its program, or inherited when it was forked, unless it has
/// overwritten it: each variable with a NUL at its end. Of an exceedingly long one, the beginning.
///
/// # Errors
/// There is no such process, or it may not be examined.
pub fn initial_environment(pid: u32) -> io::Result<Vec<u8>> {
    /// More than the kernel lets arguments and environment be together, with any limit of the stack that is usual.
    const LIMIT: u64 = 8 * 1024 * 1024;
    let mut environment = Vec::new();
    fs::File::open(format!("/proc/{pid}/environ"))?.take(LIMIT).read_to_end(&mut environment)?;
    Ok(environment)
}

fn has_descriptor(pid: u32, device: u64, inode: u64, is_wanted: impl Fn(&str) -> bool) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors.flatten().any(|entry| {
        let is_it = fs::metadata(entry.path()).is_ok_and(|file| (file.dev(), file.ino()) == (device, inode));
        is_it && entry.file_name().to_str().is_some_and(&is_wanted)
    })
}

/// Makes this process deaf to what ends others, so that only a KILL ends it, and lets it be told of its children's ends,
/// also if it was started with those ignored.
///
/// # Errors
/// No descriptor is to be had.
pub fn outlive_requests() -> io::Result<ChildNews> {
    const DEAF_TO: [i32; 8] = [
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGHUP,
        libc::SIGPIPE,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGALRM,
    ];
    // SAFETY: ignoring and the default are not handlers. The set is plain data, emptied before it is used.
    let descriptor = unsafe {
        for number in DEAF_TO {
            libc::signal(number, libc::SIG_IGN);
        }
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        let answer = libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        if answer != 0 {
            return Err(io::Error::from_raw_os_error(answer));
        }
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if descriptor == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was made just now and nobody else knows it.
    Ok(ChildNews { descriptor: unsafe { OwnedFd::from_raw_fd(descriptor) } })
}

/// Can be read when a child of this process may have ended.
#[derive(Debug)]
pub struct ChildNews {
    descriptor: OwnedFd,
}

impl ChildNews {
    /// Takes note of the news so far.
    pub fn take(&self) {
        let mut news = [0_u8; mem::size_of::<libc::signalfd_siginfo>()];
        // SAFETY: the kernel writes at most as many bytes as there are.
        while unsafe { libc::read(self.descriptor.as_raw_fd(), news.as_mut_ptr().cast(), news.len()) } > 0 {}
    }
}

impl AsFd for ChildNews {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Waits until one of these can be read, is at its end, or (a pinned process) has ended; `None` waits for ever. Says which.
///
/// # Errors
/// Those of the system.
pub fn wait_for_any(descriptors: &[BorrowedFd<'_>], at_most: Option<Duration>) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> = descriptors.iter().map(|each| PollFd::new(each, PollFlags::IN)).collect();
    match poll(&mut polled, at_most) {
        Ok(_) => Ok(polled.iter().map(|each| !each.revents().is_empty()).collect()),
        Err(Errno::INTR) => Ok(vec![false; descriptors.len()]),
        Err(error) => Err(error.into()),
    }
}
