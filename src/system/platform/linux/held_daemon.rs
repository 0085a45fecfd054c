//! A daemon as a child that begins only when it is told to, on Linux.
//!
//! It is somebody else's program, and it outlives whoever asked for it: a session of its own, nothing to read, its output
//! into one descriptor, the directory, the environment and the umask of its owner, signals as every program expects them,
//! and of this process's descriptors only those that it is to inherit. Everything else is closed right after the fork, not
//! only at the execution, so that a child which waits (or which somebody stops while it waits) holds nothing of ours.
//!
//! [`HeldDaemon::fork`] makes the process, so that it can be recorded, and lets it wait on a pipe. [`HeldDaemon::start`]
//! writes a byte into that pipe; only then is the program executed. When this process ends before that, however it comes,
//! the pipe is at its end and the child leaves. A second pipe, closed by a successful execution, carries the reason of a
//! failed one.
//!
//! If this is wrong, a program runs that nobody has recorded, a caller's pipe stays open for as long as a daemon lives, or
//! a daemon cannot be asked to leave because it was born with signals ignored.
//!
//! Limits: a program is executed, not read: a text without a first line `#!` is refused by the kernel.

#![expect(unsafe_code, reason = "the work of the child between fork and exec cannot be done through a safe interface")]

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::children::reap;
use super::process::{Pinned, is_readable_within, signal};
use super::spawn::give_back_own_ways;
use super::start_gate::{ChildEnds, Gate, Life, Pipes, c_strings, error_number, pointers};
use crate::system::Signal;

/// What is to be executed, and what it is given.
#[derive(Debug)]
pub struct Birth<'a> {
    /// Where the program may be, in the order in which it is tried.
    pub programs: &'a [PathBuf],
    /// Its arguments, the first being its own name.
    pub arguments: &'a [String],
    /// All of its environment.
    pub environment: &'a [(String, OsString)],
    /// Its working directory.
    pub directory: &'a Path,
    /// What its standard output and error are.
    pub output: BorrowedFd<'a>,
    /// What it inherits besides, each under its own number.
    pub inherited: &'a [BorrowedFd<'a>],
}

/// A daemon's process that waits for permission to execute its program. One that is dropped is ended.
#[derive(Debug)]
pub struct HeldDaemon {
    process: Option<Pinned>,
    gate: Gate,
}

/// Why the program of a daemon does not run.
#[derive(Debug)]
pub enum NotStarted {
    /// The working directory cannot be entered.
    Directory(io::Error),
    /// The program cannot be executed.
    Program(io::Error),
    /// Something else failed in the child.
    Preparation(io::Error),
    /// The child did not get as far as that in time, for example because somebody stopped it.
    Late,
}

/// Which step failed, as the child tells it.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Step {
    Preparation = 0,
    Directory = 1,
    Program = 2,
}

impl HeldDaemon {
    /// Makes the process that will execute the program, once it may.
    ///
    /// # Errors
    /// No process, pipe or pidfd is to be had, or something holds a NUL. Nothing runs then.
    pub fn fork(birth: &Birth<'_>) -> io::Result<Self> {
        let programs = c_strings(birth.programs.iter().map(|path| path.as_os_str()))?;
        let arguments = c_strings(birth.arguments.iter().map(OsStr::new))?;
        let environment = variables(birth.environment)?;
        let directory = CString::new(birth.directory.as_os_str().as_bytes())?;
        let pipes = Pipes::new()?;
        let ends = pipes.child_ends();
        let nothing = File::open("/dev/null")?;
        let inherited: Vec<RawFd> = birth.inherited.iter().map(AsRawFd::as_raw_fd).collect();
        let own = [ends.gate, ends.last_word, nothing.as_raw_fd(), birth.output.as_raw_fd()];
        let child = Child {
            programs: &pointers(&programs),
            arguments: &pointers(&arguments),
            environment: &pointers(&environment),
            directory: &directory,
            closed: &gaps(own.iter().chain(&inherited).copied()),
            ends,
            nothing: nothing.as_raw_fd(),
            output: birth.output.as_raw_fd(),
            inherited: &inherited,
        };
        // SAFETY: the child makes only calls that are safe after a fork (see `Child::live`).
        let (process, gate) = unsafe { pipes.fork(&child) }?;
        Ok(Self { process: Some(process), gate })
    }

    /// The process. Its number stays its own until it is reaped.
    pub fn process(&self) -> Option<&Pinned> {
        self.process.as_ref()
    }

    /// Lets it execute the program, and waits until it has, at most so long.
    ///
    /// # Errors
    /// The program does not run. Its process has ended then, and is reaped.
    pub fn start(mut self, at_most: Duration) -> Result<Pinned, NotStarted> {
        self.gate.open();
        match self.last_word(at_most) {
            Ok(()) => self.process.take().ok_or(NotStarted::Late),
            Err(why) => Err(why),
        }
    }

    /// What the child says about a failure; nothing once it is the program.
    fn last_word(&mut self, at_most: Duration) -> Result<(), NotStarted> {
        if !is_readable_within(&self.gate, at_most).map_err(NotStarted::Preparation)? {
            return Err(NotStarted::Late);
        }
        let word = self.gate.last_word().map_err(NotStarted::Preparation)?;
        let Some((step, reason)) = understood(&word) else { return Ok(()) };
        let error = io::Error::from_raw_os_error(reason);
        Err(match step {
            step if step == Step::Directory as u32 => NotStarted::Directory(error),
            step if step == Step::Program as u32 => NotStarted::Program(error),
            _ => NotStarted::Preparation(error),
        })
    }
}

/// The step and the error number in a child's last word.
fn understood(word: &[u8]) -> Option<(u32, i32)> {
    let (step, reason) = word.split_first_chunk()?;
    Some((u32::from_ne_bytes(*step), i32::from_ne_bytes(reason.try_into().ok()?)))
}

impl Drop for HeldDaemon {
    fn drop(&mut self) {
        // It has not become its program, so it has done nothing that a kill could harm.
        if let Some(process) = self.process.take() {
            let _ended_already = signal(&process, Signal::Kill);
            drop(reap(process.pid().get()));
        }
    }
}

fn variables(environment: &[(String, OsString)]) -> io::Result<Vec<CString>> {
    let entry = |(name, value): &(String, OsString)| [name.as_bytes(), b"=", value.as_bytes()].concat();
    environment.iter().map(|variable| Ok(CString::new(entry(variable))?)).collect()
}

/// The ranges of descriptors beyond the standard three that are none of these.
fn gaps(kept: impl Iterator<Item = RawFd>) -> Vec<(u32, u32)> {
    let mut kept: Vec<u32> = kept.filter_map(|number| u32::try_from(number).ok()).collect();
    kept.sort_unstable();
    let mut first = 3;
    let mut gaps = Vec::new();
    for number in kept.into_iter().filter(|&number| number >= 3) {
        if number > first {
            gaps.push((first, number - 1));
        }
        first = first.max(number + 1);
    }
    gaps.push((first, u32::MAX));
    gaps
}

/// What the child knows: numbers and pointers made before the fork, so that nothing is allocated after it.
struct Child<'a> {
    /// Of C strings, with a null pointer at the end, as the two after it.
    programs: &'a [*const libc::c_char],
    arguments: &'a [*const libc::c_char],
    environment: &'a [*const libc::c_char],
    directory: &'a CString,
    closed: &'a [(u32, u32)],
    ends: ChildEnds,
    nothing: RawFd,
    output: RawFd,
    inherited: &'a [RawFd],
}

impl Life for Child<'_> {
    /// The life of the child until it is the program. Only system calls that are safe after a fork are made.
    fn live(&self) -> ! {
        // Also the gate's other end.
        if !self.close_the_rest() {
            self.fail(Step::Preparation);
        }
        give_back_own_ways();
        set_default_signals();
        // SAFETY: the calls take integers and pointers into memory that the fork copied.
        unsafe {
            if libc::setsid() == -1 || !self.set_streams() {
                self.fail(Step::Preparation);
            }
            if !self.ends.opens() {
                libc::_exit(0);
            }
            if libc::chdir(self.directory.as_ptr()) == -1 {
                self.fail(Step::Directory);
            }
        }
        for &descriptor in self.inherited {
            // SAFETY: the call takes integers.
            unsafe { libc::fcntl(descriptor, libc::F_SETFD, 0) };
        }
        self.execute()
    }
}

impl Child<'_> {
    fn close_the_rest(&self) -> bool {
        // SAFETY: the call takes integers; no value of this process is used any more that owns one of them.
        self.closed.iter().all(|&(first, last)| unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) == 0 })
    }

    fn set_streams(&self) -> bool {
        // SAFETY: the call takes integers.
        let lead = |stream, to| unsafe { libc::dup2(to, stream) != -1 };
        lead(0, self.nothing) && lead(1, self.output) && lead(2, self.output)
    }

    /// Executes the first program that can be. One that is there and must not be executed is what the report is about.
    fn execute(&self) -> ! {
        let mut reason = libc::ENOENT;
        for &program in self.programs.iter().filter(|program| !program.is_null()) {
            match self.try_to_execute(program) {
                libc::ENOENT | libc::ENOTDIR => {}
                error => reason = error,
            }
        }
        self.fail_with(Step::Program, reason)
    }

    /// Comes back only with the reason why it could not. A program that somebody is just writing is tried for a while.
    fn try_to_execute(&self, program: *const libc::c_char) -> i32 {
        const TRIES: u32 = 100;
        const PAUSE_MS: i32 = 5;
        let mut reason = 0;
        for _ in 0..TRIES {
            // SAFETY: all pointers are to C strings, or to lists of such with a null pointer at the end, in memory that
            // the fork copied; poll without descriptors only waits.
            unsafe {
                libc::execve(program, self.arguments.as_ptr(), self.environment.as_ptr());
                reason = error_number();
                if reason != libc::ETXTBSY {
                    break;
                }
                libc::poll(std::ptr::null_mut(), 0, PAUSE_MS);
            }
        }
        reason
    }

    /// Tells which step failed and why, and ends.
    fn fail(&self, step: Step) -> ! {
        self.fail_with(step, error_number())
    }

    fn fail_with(&self, step: Step, reason: i32) -> ! {
        self.ends.fail([(step as u32).to_ne_bytes(), reason.to_ne_bytes()].as_flattened())
    }
}

/// Signals as every program expects them: none ignored, none held back.
fn set_default_signals() {
    /// The last signal of Linux.
    const LAST: i32 = 64;
    /// How long the kernel's sets of signals are, in bytes.
    const SET: usize = 8;
    // The kernel's own structures, all zero: the default action, and the empty set. They are no longer than this. The C
    // library would refuse two numbers that it keeps for itself, and could have been started with those ignored.
    let nothing = [0_u64; 8];
    // SAFETY: the kernel reads no more than these structures and writes nothing; numbers that cannot be set are refused.
    unsafe {
        let none = std::ptr::null_mut::<u64>();
        for number in 1..=LAST {
            libc::syscall(libc::SYS_rt_sigaction, number, nothing.as_ptr(), none, SET);
        }
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, nothing.as_ptr(), none, SET);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_descriptors_but_the_kept_ones_are_in_the_gaps() {
        assert_eq!(gaps([].into_iter()), [(3, u32::MAX)]);
        assert_eq!(gaps([1, 7, 3, 4, 7, 9].into_iter()), [(5, 6), (8, 8), (10, u32::MAX)]);
        assert_eq!(gaps([5].into_iter()), [(3, 4), (6, u32::MAX)]);
    }
}
