//! Starting processes on Linux without leaking anything into them.
//!
//! Every child is started here. All descriptors beyond the standard three are marked close-on-exec between fork and
//! exec, also those that a careless parent of ours left open, so no child can keep a caller's pipe or a lock alive.
//!
//! A *detached* child is forked twice with a new session in between: it is nobody's descendant, so a harness that
//! kills process groups, sessions or trees cannot reach it. A *group* child leads its own process group, which is
//! killed as a whole while the leader is still unreaped, so the group's number cannot have been given away.

#![expect(
    unsafe_code,
    reason = "work between fork and exec is only possible through the unsafe hook of the standard library"
)]
#![expect(clippy::disallowed_methods, reason = "this is the one door to new processes")]

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::fs::FileType;
use rustix::io::FdFlags;

use super::process::{Pinned, pin_reported, wait_for_exit};
use super::signals::let_act;
use crate::base::failpoint::{Failpoint, is_protected};

/// A command that runs a program of ours, under the name that it has in lists of processes.
pub fn own_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.arg0("fm-watch");
    command
}

/// Starts a command that is nobody's descendant: own session, orphaned at once, and of all open descriptors only
/// the standard streams as set in `command`, and each of `inherit` under its own number. It can be asked to leave (TERM,
/// INT) also if its starter was told to ignore that, which was not said of what outlives it.
///
/// # Errors
/// The reason why the program could not be executed, as of the last fork.
pub fn spawn_detached(mut command: Command, inherit: &[BorrowedFd<'_>]) -> io::Result<()> {
    let kept: Vec<RawFd> = inherit.iter().map(AsRawFd::as_raw_fd).collect();
    // SAFETY: between fork and exec only async-signal-safe calls are made: signal, sigmask, close_range, fcntl, setsid,
    // fork, _exit.
    unsafe {
        command.pre_exec(move || {
            become_child()?;
            let_act(libc::SIGTERM)?;
            let_act(libc::SIGINT)?;
            let is_handed_down = |&number: &RawFd| libc::fcntl(number, libc::F_SETFD, 0) != -1;
            if !kept.iter().all(is_handed_down) || libc::setsid() == -1 {
                return Err(io::Error::last_os_error());
            }
            match libc::fork() {
                -1 => Err(io::Error::last_os_error()),
                0 => Ok(()),
                _ => libc::_exit(0),
            }
        });
    }
    // This child is the one in the middle. It ends at once, and the standard library's own pipe has told by then
    // whether its child could execute the program.
    command.spawn()?.wait().map(drop)
}

/// Takes over a pipe that this process was started with, by its number, and keeps it from its own children.
///
/// Nothing that is open already can be taken over by mistake, nor anything twice: whatever this process itself opens is
/// close-on-exec, as this pipe is from now on, and what was handed down to it cannot be.
///
/// # Errors
/// A number that is not an open pipe which was handed down.
pub fn adopt_pipe(number: RawFd) -> io::Result<File> {
    adopt(number, FileType::Fifo)
}

/// Takes over a regular file or a [`memory_file`] in the same way.
///
/// # Errors
/// As [`adopt_pipe`].
pub fn adopt_file(number: RawFd) -> io::Result<File> {
    adopt(number, FileType::RegularFile)
}

fn adopt(number: RawFd, kind: FileType) -> io::Result<File> {
    if number <= 2 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: the number is only looked at; if it is not open, fstat says so.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let facts = rustix::fs::fstat(borrowed)?;
    if FileType::from_raw_mode(facts.st_mode) != kind {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("not a {kind:?}")));
    }
    if rustix::io::fcntl_getfd(borrowed)?.contains(FdFlags::CLOEXEC) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not handed down"));
    }
    rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    // SAFETY: the descriptor is open, came to this process with its start, and nothing else in it owns it: see above.
    Ok(unsafe { File::from_raw_fd(number) })
}

/// A file without a name that holds these bytes and is read from its beginning: for a child that is to be told more than
/// a command line should show.
///
/// # Errors
/// Those of the system.
pub fn memory_file(name: &str, content: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file.into())
}

/// A running child that leads a process group of its own.
#[derive(Debug)]
pub struct GroupChild {
    child: Child,
    leader: Option<Pinned>,
}

/// Starts a command as the leader of a new process group.
pub fn spawn_group(command: Command) -> io::Result<GroupChild> {
    spawn_group_with(command, &[])
}

/// Starts a command as [`spawn_group`] does, which also gets each of `inherit` under its own number.
///
/// # Errors
/// The reason why the program could not be executed.
pub fn spawn_group_with(mut command: Command, inherit: &[BorrowedFd<'_>]) -> io::Result<GroupChild> {
    command.process_group(0);
    let kept: Vec<RawFd> = inherit.iter().map(AsRawFd::as_raw_fd).collect();
    // SAFETY: signal, close_range and fcntl are async-signal-safe, and nothing else happens between fork and exec.
    unsafe {
        command.pre_exec(move || {
            become_child()?;
            let is_handed_down = |&number: &RawFd| libc::fcntl(number, libc::F_SETFD, 0) != -1;
            if kept.iter().all(is_handed_down) { Ok(()) } else { Err(io::Error::last_os_error()) }
        });
    }
    let child = command.spawn()?;
    // Pinned before anyone can reap it, so the number is still its own. Without pidfds the exit is found by asking.
    let leader = pin_reported(child.id()).unwrap_or(None);
    Ok(GroupChild { child, leader })
}

/// Starts a command as [`spawn_group`] does, and has the kernel kill it when the thread that calls this ends, however it
/// ends. Only the command itself is bound so, not what it starts.
///
/// # Errors
/// The reason why the program could not be executed.
pub fn spawn_bound(mut command: Command) -> io::Result<GroupChild> {
    bind(&mut command, libc::SIGKILL);
    spawn_group(command)
}

/// Starts a command as [`spawn_group_with`] does, and has the kernel ask it to leave (TERM) when the thread that calls
/// this ends, however it ends. Until the command listens to that signal, it ends by it.
///
/// # Errors
/// The reason why the program could not be executed.
pub fn spawn_companion(mut command: Command, inherit: &[BorrowedFd<'_>]) -> io::Result<GroupChild> {
    if is_protected(Failpoint::SpawnActs) {
        // Before the bond, because the kernel asks once. A forked child still has its starter's handlers, and one of
        // them would take the signal and do nothing with it.
        // SAFETY: between fork and exec only async-signal-safe calls are made: signal, sigmask.
        unsafe { command.pre_exec(|| let_act(libc::SIGTERM)) };
    }
    bind(&mut command, libc::SIGTERM);
    spawn_group_with(command, inherit)
}

/// Has the kernel send this signal to the command when the calling thread ends.
fn bind(command: &mut Command, signal: libc::c_int) {
    // SAFETY: getpid only answers.
    let starter = unsafe { libc::getpid() };
    // SAFETY: between fork and exec only async-signal-safe calls are made: prctl, getppid, _exit.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, signal) == -1 {
                return Err(io::Error::last_os_error());
            }
            // The starter may have ended before the kernel was told.
            if libc::getppid() != starter {
                libc::_exit(1);
            }
            Ok(())
        });
    }
}

impl GroupChild {
    /// The leader's pid, which stays its own until it is reaped.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child itself, to take its pipes from.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for the leader to end, without reaping it. Says whether it has.
    pub fn wait_for_exit(&mut self, at_most: Duration) -> io::Result<bool> {
        match &self.leader {
            Some(leader) => wait_for_exit(leader, at_most),
            None => Err(io::Error::other("this kernel has no pidfd to wait on")),
        }
    }

    /// Kills what is left of the group, then reaps the leader.
    pub fn kill_group_and_reap(mut self) -> io::Result<ExitStatus> {
        self.kill_group();
        self.child.wait()
    }

    /// Kills what is left of the group, and waits for nobody. To be called before the leader is reaped.
    pub fn kill_group(&self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            // The leader is unreaped, so the number is still its group's. An empty group is an error of no interest.
            let _nobody_left = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }

    /// Waits for the leader to end, at most so long, and reaps it. `None`: it has not ended. One that was killed can be
    /// stuck in a call that the kernel does not give up.
    pub fn reap_within(&mut self, at_most: Duration) -> io::Result<Option<ExitStatus>> {
        if self.wait_for_exit(at_most)? { self.child.wait().map(Some) } else { Ok(None) }
    }
}

/// What a write beyond the limit of a file's size did when this process was started, which its children get back.
static ON_FILE_SIZE: OnceLock<libc::sighandler_t> = OnceLock::new();

/// Makes a write beyond the limit of a file's size fail like any other, instead of killing this process.
pub fn ignore_file_size_signal() {
    // SAFETY: ignoring a signal installs no handler.
    let before = unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let _known_already = ON_FILE_SIZE.set(before);
}

/// The umask that this process was started with, which its children get back.
static UMASK: OnceLock<libc::mode_t> = OnceLock::new();

/// Makes everything that this process creates its owner's alone, whatever umask it was started with: a stricter one
/// would lock the owner out, a laxer one let others in.
pub fn keep_files_private() {
    // SAFETY: umask only sets a number of this process.
    let before = unsafe { libc::umask(0o077) };
    let _known_already = UMASK.set(before);
}

/// This program, for children that are to be the same one even if it was replaced on disk since.
pub fn own_program() -> PathBuf {
    // In the child it names the program of its parent until another one is executed.
    PathBuf::from("/proc/self/exe")
}

/// What is undone of this process's own ways in a child, and which descriptors it does not get.
fn become_child() -> io::Result<()> {
    give_back_own_ways();
    mark_all_close_on_exec()
}

/// Undoes this process's own ways in a child.
pub(crate) fn give_back_own_ways() {
    // SAFETY: no program is started with a handler, so what was there before is none; between fork and exec both calls
    // are async-signal-safe.
    unsafe {
        libc::signal(libc::SIGXFSZ, ON_FILE_SIZE.get().copied().unwrap_or(libc::SIG_DFL));
        if let Some(&before) = UMASK.get() {
            libc::umask(before);
        }
    }
}

fn mark_all_close_on_exec() -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: the call takes three integers and touches no memory of ours.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
