//! One run of a foreign program that can take neither more time nor more memory than it was given.
//!
//! The program leads its own process group, which is killed as a whole when the leader has ended, when the deadline has
//! passed, or when the run is cancelled. Its pipes are drained by a thread of their own that never blocks on them: a
//! descendant that left the group and keeps a pipe open is not waited for, and output beyond the limit is read and
//! dropped, so a flood neither blocks the program nor fills our memory.
//!
//! The call blocks, and belongs into a thread beside the loop. Limits: a program in uninterruptible sleep cannot be
//! killed, and the call then waits for it; a descendant that left the group survives.

use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use super::platform::{self, GroupChild};
use crate::base::wait_until::wait_until;

/// How soon a cancelled run notices.
const CANCEL_WITHIN: Duration = Duration::from_millis(50);

/// How much is read at once.
const STEP: usize = 64 * 1024;

/// How often a pipe that outlives the program is read in the end; more than a pipe holds.
const LAST_READS: usize = 32;

/// What to run, and its bounds.
#[derive(Debug)]
pub struct Plan {
    /// The program with its arguments, directory and environment. Its standard streams are set by the run.
    pub command: Command,
    /// What it reads from its standard input; with nothing, that is `/dev/null`.
    pub input: Vec<u8>,
    /// How long it may take.
    pub deadline: Duration,
    /// How many bytes of standard output are kept, from its beginning.
    pub stdout_limit: usize,
    /// How many bytes of standard error are kept, from its end.
    pub stderr_limit: usize,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With this exit status.
    Exited(i32),
    /// By a signal.
    Signalled,
    /// By us, because it took too long.
    TimedOut,
    /// By us, because nobody wants it any more.
    Cancelled,
}

/// What a run left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// The beginning of its standard output.
    pub stdout: Vec<u8>,
    /// The end of its standard error.
    pub stderr: Vec<u8>,
}

/// Runs a program to its end, its deadline, or until `cancelled` is set.
///
/// # Errors
/// It could not be started.
pub fn run(plan: Plan, cancelled: &AtomicBool) -> io::Result<Outcome> {
    let Plan { mut command, input, deadline, stdout_limit, stderr_limit } = plan;
    command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let (stop, stopper) = io::pipe()?;
    let mut group = platform::spawn_group(command)?;
    let pump = Pump {
        stdin: Source { pipe: group.child().stdin.take(), left: input },
        stdout: Sink::new(group.child().stdout.take(), Keep::First(stdout_limit)),
        stderr: Sink::new(group.child().stderr.take(), Keep::Last(stderr_limit)),
        stop,
    };
    let pumping = thread::Builder::new().name("pipes".into()).spawn(move || pump.run());
    let pumping = match pumping {
        Ok(pumping) => pumping,
        Err(error) => {
            drop(group.kill_group_and_reap());
            return Err(error);
        }
    };
    let cut_short = wait(&mut group, deadline, cancelled, &pumping);
    let status = group.kill_group_and_reap();
    drop(stopper);
    let (stdout, stderr) = pumping.join().map_err(|_| io::Error::other("the thread that drains the pipes failed"))?;
    let ending = match cut_short {
        Some(ending) => ending,
        None => status?.code().map_or(Ending::Signalled, Ending::Exited),
    };
    Ok(Outcome { ending, stdout, stderr })
}

/// Waits for the leader's end. Says why the wait ended without it.
fn wait<T>(
    group: &mut GroupChild,
    deadline: Duration,
    cancelled: &AtomicBool,
    pumping: &JoinHandle<T>,
) -> Option<Ending> {
    let end = platform::monotonic().saturating_add(deadline);
    loop {
        let left = end.saturating_sub(platform::monotonic());
        let slice = left.min(CANCEL_WITHIN);
        let has_ended = group.wait_for_exit(slice).unwrap_or_else(|_| {
            // Without a pidfd the closing of its pipes has to stand for its end.
            wait_until(slice, Duration::from_millis(5), || pumping.is_finished().then_some(())).is_some()
        });
        if has_ended {
            return None;
        }
        if cancelled.load(Ordering::Acquire) {
            return Some(Ending::Cancelled);
        }
        if left.is_zero() {
            return Some(Ending::TimedOut);
        }
    }
}

/// The pipes of one program.
struct Pump {
    stdin: Source,
    stdout: Sink<ChildStdout>,
    stderr: Sink<ChildStderr>,
    /// Reads as ended when the program has.
    stop: PipeReader,
}

impl Pump {
    /// Serves the pipes until all are closed or the program has ended.
    fn run(mut self) -> (Vec<u8>, Vec<u8>) {
        self.stdin.prepare();
        self.stdout.prepare();
        self.stderr.prepare();
        while self.stdin.pipe.is_some() || self.stdout.pipe.is_some() || self.stderr.pipe.is_some() {
            if self.wait_for_work() == Work::Stop {
                break;
            }
            self.stdin.give();
            self.stdout.take();
            self.stderr.take();
        }
        for _ in 0..LAST_READS {
            self.stdout.take();
            self.stderr.take();
        }
        (self.stdout.finish(), self.stderr.finish())
    }

    fn wait_for_work(&self) -> Work {
        let readers = [self.stdout.descriptor(), self.stderr.descriptor()];
        let mut polled = vec![PollFd::from_borrowed_fd(self.stop.as_fd(), PollFlags::IN)];
        polled.extend(readers.into_iter().flatten().map(|pipe| PollFd::from_borrowed_fd(pipe, PollFlags::IN)));
        polled.extend(self.stdin.descriptor().map(|pipe| PollFd::from_borrowed_fd(pipe, PollFlags::OUT)));
        match rustix::event::poll(&mut polled, None) {
            Ok(_) if polled[0].revents().is_empty() => Work::Go,
            Err(rustix::io::Errno::INTR) => Work::Go,
            _ => Work::Stop,
        }
    }
}

#[derive(PartialEq, Eq)]
enum Work {
    Go,
    Stop,
}

/// What is left to be written.
struct Source {
    pipe: Option<ChildStdin>,
    left: Vec<u8>,
}

impl Source {
    fn prepare(&mut self) {
        close_unless_prepared(&mut self.pipe);
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    fn give(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        match pipe.write(&self.left) {
            Ok(written) => drop(self.left.drain(..written)),
            Err(error) if is_later(&error) => return,
            // A program that closed its input does not want the rest.
            Err(_) => self.left.clear(),
        }
        if self.left.is_empty() {
            self.pipe = None;
        }
    }
}

/// Which part of an output is kept.
#[derive(Clone, Copy)]
enum Keep {
    First(usize),
    Last(usize),
}

/// What was read.
struct Sink<P> {
    pipe: Option<P>,
    kept: Vec<u8>,
    keep: Keep,
    buffer: Vec<u8>,
}

impl<P: Read + AsFd> Sink<P> {
    fn new(pipe: Option<P>, keep: Keep) -> Self {
        Self { pipe, kept: Vec::new(), keep, buffer: vec![0; STEP] }
    }

    fn prepare(&mut self) {
        close_unless_prepared(&mut self.pipe);
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    fn take(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        match pipe.read(&mut self.buffer) {
            Ok(read) if read > 0 => {
                let bytes = &self.buffer[..read];
                match self.keep {
                    Keep::First(limit) => self.kept.extend(&bytes[..read.min(limit - self.kept.len())]),
                    Keep::Last(limit) => {
                        self.kept.extend(bytes);
                        let excess = self.kept.len().saturating_sub(limit);
                        self.kept.drain(..excess);
                    }
                }
            }
            Err(error) if is_later(&error) => {}
            _ => self.pipe = None,
        }
    }

    fn finish(self) -> Vec<u8> {
        self.kept
    }
}

/// Sets a pipe so that it never blocks us; one for which that fails is not used.
fn close_unless_prepared<P: AsFd>(pipe: &mut Option<P>) {
    if pipe.as_ref().is_some_and(|open| rustix::io::ioctl_fionbio(open, true).is_err()) {
        *pipe = None;
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bash(script: &str) -> Plan {
        let mut command = Command::new("/bin/bash");
        command.arg("-c").arg(script).env_clear().env("PATH", "/usr/bin:/bin");
        let deadline = Duration::from_secs(30);
        Plan { command, input: Vec::new(), deadline, stdout_limit: 64 * 1024, stderr_limit: 16 }
    }

    fn run_now(plan: Plan) -> Outcome {
        run(plan, &AtomicBool::new(false)).unwrap()
    }

    #[test]
    fn output_and_status_are_reported() {
        let outcome = run_now(bash("echo out; echo 'a long complaint at the end!' >&2; exit 3"));
        assert_eq!(outcome.ending, Ending::Exited(3));
        assert_eq!(outcome.stdout, b"out\n");
        assert_eq!(outcome.stderr, b"int at the end!\n");
    }

    #[test]
    fn a_program_that_takes_too_long_is_killed_with_its_whole_group() {
        let plan = Plan { deadline: Duration::from_millis(200), ..bash("sleep 1000 & echo $!; sleep 1000") };
        let outcome = run_now(plan);
        assert_eq!(outcome.ending, Ending::TimedOut);
        let grandchild = String::from_utf8(outcome.stdout).unwrap().trim().to_owned();
        assert_dies(&grandchild);
    }

    #[test]
    fn what_a_program_leaves_in_its_group_is_killed_when_it_ends() {
        let outcome = run_now(bash("sleep 1000 & echo $!"));
        assert_eq!(outcome.ending, Ending::Exited(0));
        assert_dies(String::from_utf8(outcome.stdout).unwrap().trim());
    }

    #[test]
    fn a_descendant_that_left_the_group_and_keeps_the_pipe_open_holds_nobody() {
        let start = platform::monotonic();
        let outcome = run_now(bash(
            "setsid sleep 20 & disown\n\
             until read -r _ _ _ _ _ session _ < /proc/$!/stat && [ $session = $! ]; do :; done; echo $!",
        ));
        assert_eq!(outcome.ending, Ending::Exited(0));
        assert!(platform::monotonic() < start + Duration::from_secs(10));
        let survivor: u32 = String::from_utf8(outcome.stdout).unwrap().trim().parse().unwrap();
        if let Some(survivor) = platform::pin_reported(survivor).unwrap() {
            platform::signal(&survivor, crate::system::Signal::Kill).unwrap();
        }
    }

    #[test]
    fn a_flood_is_drained_and_mostly_dropped() {
        let outcome = run_now(bash("head -c 100000000 /dev/zero; head -c 10000000 /dev/zero >&2"));
        assert_eq!(outcome.ending, Ending::Exited(0));
        assert_eq!((outcome.stdout.len(), outcome.stderr.len()), (64 * 1024, 16));
    }

    #[test]
    fn input_larger_than_a_pipe_is_given_and_unwanted_input_is_dropped() {
        let input = vec![b'x'; 1_000_000];
        let outcome = run_now(Plan { input: input.clone(), ..bash("wc -c") });
        assert_eq!(outcome.stdout.trim_ascii(), b"1000000");
        assert_eq!(run_now(Plan { input: input.clone(), ..bash("exec <&-; echo done") }).stdout, b"done\n");
        let plan = Plan { input, deadline: Duration::from_millis(200), ..bash("sleep 1000") };
        assert_eq!(run_now(plan).ending, Ending::TimedOut);
    }

    #[test]
    fn a_cancelled_run_ends_and_a_missing_program_is_an_error() {
        let cancelled = AtomicBool::new(true);
        assert_eq!(run(bash("sleep 1000"), &cancelled).unwrap().ending, Ending::Cancelled);
        let missing = Plan { command: Command::new("/nonexistent"), ..bash("") };
        assert!(run(missing, &cancelled).is_err());
    }

    #[test]
    fn a_signal_is_told_from_a_status() {
        assert_eq!(run_now(bash("kill -9 $$")).ending, Ending::Signalled);
    }

    /// Waits until a killed process is gone or a zombie whose new parent has not reaped it yet.
    fn assert_dies(pid: &str) {
        let stat = format!("/proc/{pid}/stat");
        let died = wait_until(Duration::from_secs(10), Duration::from_millis(5), || {
            let stat = std::fs::read_to_string(&stat);
            stat.map_or(true, |stat| stat.contains(") Z ") || stat.contains(") X ")).then_some(())
        });
        assert!(died.is_some(), "process {pid} lives");
    }
}
