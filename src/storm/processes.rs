//! The processes of a storm: starting one, hearing it, killing it, reaping it.
//!
//! A worker never outlives its value: dropping it kills its process group and reaps its leader, waiting only a moment,
//! because one that is stuck in the kernel does not end. It does not outlive this process either (the kernel kills it
//! when the thread that started it ends), so workers are started by the thread that coordinates them.

use std::io::{self, Read};
use std::process::{ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::worker::now;
use super::worker_history::{Doing, History};
use crate::base::failpoint::{Failpoint, is_protected};
use crate::system::handle::{self, AsHandle, HandleRef};
use crate::system::platform::{self, GroupChild};

/// How long a killed worker, or one that has closed its output, may take to end.
const ENDS_WITHIN: Duration = Duration::from_secs(2);
/// How much of a worker's last words on stderr is kept.
const LAST_WORDS: usize = 2048;
/// No line of a worker is longer.
const LONGEST_LINE: usize = 16 * 1024;

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    child: GroupChild,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    unread: Vec<u8>,
    last_words: Vec<u8>,
    fate: Fate,
    /// What it has said so far.
    pub history: History,
    /// When it was started, in nanoseconds of `CLOCK_MONOTONIC`.
    pub started: u64,
}

/// What has been done to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Nothing.
    Runs,
    /// It was killed, and had not been before this instant.
    Killed(u64),
    /// It has ended, and nothing is left of it.
    Reaped,
    /// It was killed and did not end in time.
    GivenUp,
}

/// What became of a worker's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// More may come.
    Open,
    /// It is closed.
    Ended,
}

impl Worker {
    /// Starts a command as a worker.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(mut command: Command) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = now();
        let mut child = if is_protected(Failpoint::StormBound) {
            platform::spawn_bound(command)?
        } else {
            platform::spawn_group(command)?
        };
        let (stdout, stderr) = (child.child().stdout.take(), child.child().stderr.take());
        let history = History::new(child.pid());
        let worker = Self {
            child,
            stdout,
            stderr,
            unread: Vec::new(),
            last_words: Vec::new(),
            fate: Fate::Runs,
            history,
            started,
        };
        for pipe in worker.pipes() {
            handle::set_nonblocking(pipe)?;
        }
        Ok(worker)
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    fn pipes(&self) -> impl Iterator<Item = HandleRef<'_>> {
        self.stdout.as_ref().map(AsHandle::as_handle).into_iter().chain(self.stderr.as_ref().map(AsHandle::as_handle))
    }

    /// Takes in what it has said since, without waiting.
    ///
    /// # Errors
    /// Its pipe cannot be read, or it says something endless.
    pub fn read(&mut self) -> io::Result<(Vec<String>, Output)> {
        self.read_last_words();
        let mut buffer = [0; LONGEST_LINE];
        let output = match self.stdout.as_mut().map(|pipe| pipe.read(&mut buffer)) {
            None | Some(Ok(0)) => Output::Ended,
            Some(Ok(taken)) => {
                self.unread.extend_from_slice(&buffer[..taken]);
                Output::Open
            }
            Some(Err(error)) if is_later(&error) => Output::Open,
            Some(Err(error)) => return Err(error),
        };
        if output == Output::Ended {
            self.stdout = None;
        }
        let lines = whole_lines(&mut self.unread);
        if self.unread.len() > LONGEST_LINE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line without end"));
        }
        Ok((lines, output))
    }

    fn read_last_words(&mut self) {
        let mut buffer = [0; LAST_WORDS];
        match self.stderr.as_mut().map(|pipe| pipe.read(&mut buffer)) {
            Some(Ok(taken @ 1..)) => {
                self.last_words.extend_from_slice(&buffer[..taken]);
                let excess = self.last_words.len().saturating_sub(LAST_WORDS);
                self.last_words.drain(..excess);
            }
            Some(Err(error)) if is_later(&error) => {}
            None | Some(_) => self.stderr = None,
        }
    }

    /// What it is doing and since when, for people who want to know why it does not get on.
    pub fn in_words(&self, now: u64) -> String {
        let pid = self.pid();
        let seconds = |since: u64| now.saturating_sub(since) / 1_000_000_000;
        let doing = match self.history.doing() {
            Doing::Nothing => format!("pid {pid} does not try; it was started {} s ago", seconds(self.started)),
            Doing::Trying(since) => format!("pid {pid} has been trying for {} s", seconds(since)),
            Doing::Holding(since) => format!("pid {pid} has been holding for {} s", seconds(since)),
        };
        match self.history.waits_for() {
            Some(why) => format!("{doing}; it says that it waits {why}"),
            None => doing,
        }
    }

    /// The end of what it has said on stderr.
    pub fn last_words(&mut self) -> String {
        // Whoever has ended has said everything; a pipe holds no more than these reads take.
        for _ in 0..64 {
            self.read_last_words();
        }
        String::from_utf8_lossy(&self.last_words).trim().to_owned()
    }

    /// Kills it with its group, and waits for nobody. Gives the instant before, in nanoseconds of `CLOCK_MONOTONIC`: until
    /// then nothing had been done to it. Killing it again changes nothing.
    pub fn kill(&mut self) -> u64 {
        let now = now();
        match self.fate {
            Fate::Killed(before) => before,
            Fate::Runs => {
                self.fate = Fate::Killed(now);
                self.child.kill_group();
                now
            }
            // A number that was reaped may be somebody else's by now.
            Fate::Reaped | Fate::GivenUp => now,
        }
    }

    /// Waits for its end until a deadline, and reaps it. `None`: it has not ended, and is left alone from now on if it was
    /// killed.
    ///
    /// # Errors
    /// Those of the system.
    pub fn reap(&mut self, deadline: Instant) -> io::Result<Option<ExitStatus>> {
        let status = self.child.reap_within(deadline.saturating_duration_since(Instant::now()))?;
        self.fate = match (status, self.fate) {
            (Some(_), _) => Fate::Reaped,
            (None, Fate::Killed(_)) => Fate::GivenUp,
            (None, fate) => fate,
        };
        Ok(status)
    }
}

/// Until when whoever is killed now, or has closed its output, should have ended.
pub fn end_awaited() -> Instant {
    Instant::now() + ENDS_WITHIN
}

impl Drop for Worker {
    fn drop(&mut self) {
        if matches!(self.fate, Fate::Runs | Fate::Killed(_)) {
            self.kill();
            // One that does not end is the child of whoever reaps orphans, when this process has ended.
            drop(self.reap(end_awaited()));
        }
    }
}

/// Waits until one of the workers says something or ends, at most so long.
///
/// # Errors
/// Those of the system.
pub fn wait_for_word<'a>(workers: impl Iterator<Item = &'a Worker>, at_most: Duration) -> io::Result<()> {
    platform::wait_for_any(&workers.flat_map(Worker::pipes).collect::<Vec<_>>(), Some(at_most)).map(drop)
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Takes the whole lines out of what was read.
fn whole_lines(unread: &mut Vec<u8>) -> Vec<String> {
    let end = unread.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
    let whole: Vec<u8> = unread.drain(..end).collect();
    String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::wait_until::wait_until;

    const SOON: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Worker {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        Worker::start(command).unwrap()
    }

    fn hear_until_closed(worker: &mut Worker) -> Vec<String> {
        let mut lines = Vec::new();
        let closed = wait_until(SOON, Duration::from_millis(1), || {
            let (more, output) = worker.read().unwrap();
            lines.extend(more);
            (output == Output::Ended).then_some(())
        });
        assert!(closed.is_some(), "{lines:?}");
        lines
    }

    #[test]
    fn lines_are_whole_whatever_was_read_at_once() {
        let mut unread = b"one\ntwo\nthr".to_vec();
        assert_eq!(whole_lines(&mut unread), ["one", "two"]);
        assert_eq!(whole_lines(&mut unread), Vec::<String>::new());
        unread.extend(b"ee\n");
        assert_eq!(whole_lines(&mut unread), ["three"]);
        assert!(unread.is_empty());
    }

    #[test]
    fn a_worker_is_heard_to_its_end_and_its_last_words_are_kept() {
        let mut worker = shell("echo a; echo b; echo sorry >&2; exit 3");
        assert_eq!(hear_until_closed(&mut worker), ["a", "b"]);
        assert_eq!(worker.reap(end_awaited()).unwrap().unwrap().code(), Some(3));
        assert_eq!(worker.last_words(), "sorry");
    }

    #[test]
    fn a_killed_worker_is_reaped_at_once_with_its_group() {
        let mut worker = shell("sleep 1000 & echo $!; wait");
        let grandchild: u32 = {
            let mut lines = Vec::new();
            wait_until(SOON, Duration::from_millis(1), || {
                lines.extend(worker.read().unwrap().0);
                lines.first()?.parse().ok()
            })
            .unwrap()
        };
        let pid = worker.pid();
        let before = worker.kill();
        assert!(before <= now() && worker.kill() == before);
        assert!(worker.reap(end_awaited()).unwrap().is_some());
        assert!(!platform::exists(pid).unwrap(), "not even a zombie is left");
        // Whoever inherits orphans here may leave them unreaped.
        let grandchild = platform::pin_reported(grandchild).unwrap();
        assert!(grandchild.is_none_or(|process| platform::wait_for_exit(&process, SOON).unwrap()));
    }

    #[test]
    fn a_worker_ends_with_its_value() {
        let worker = shell("echo ready; exec sleep 1000");
        let pid = worker.pid();
        drop(worker);
        assert!(!platform::exists(pid).unwrap());
    }

    #[test]
    fn a_worker_ends_with_the_thread_that_started_it() {
        let pid = std::thread::spawn(|| {
            let worker = std::mem::ManuallyDrop::new(shell("exec sleep 1000"));
            worker.pid()
        })
        .join()
        .unwrap();
        // Nobody has reaped it, so the number is still its own.
        let process = platform::pin_reported(pid).unwrap().unwrap();
        assert!(platform::wait_for_exit(&process, SOON).unwrap());
    }
}
