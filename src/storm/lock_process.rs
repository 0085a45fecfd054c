//! A lock process: a process that makes one step on a file system at a time, when it is told to, and says what came of it.
//!
//! The [`self_test`](super::self_test) touches the file system through probes only, because any call on it may hang. A lock
//! process reads a step per line from its standard input and answers each with one line. It ends when nobody tells it
//! anything any more, and the kernel ends it with the process that started it.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use crate::base::error::{Context, Result};
use crate::base::escape;
use crate::layout::paths::names;
use crate::system::FileSystem;
use crate::system::platform::{self, GroupChild};
use crate::system::{Claim, Kind, Open, Real, World};

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Make a directory and in it the file to be locked.
    Make,
    /// Take the kernel's lock on the file, without waiting, and keep it.
    Take,
    /// Show the mark of a held lock.
    Mark,
    /// Look for the mark of somebody else.
    Look,
    /// Remove what was made.
    Sweep,
}

impl Step {
    const ALL: [Self; 5] = [Self::Make, Self::Take, Self::Mark, Self::Look, Self::Sweep];

    /// What it does, as words that go on after "cannot".
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Make => "make a file",
            Self::Take => "lock a file",
            Self::Mark => "set a record lock",
            Self::Look => "ask for a record lock",
            Self::Sweep => "remove a file",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Make => "make",
            Self::Take => "take",
            Self::Mark => "mark",
            Self::Look => "look",
            Self::Sweep => "sweep",
        }
    }
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is done. For [`Step::Make`]: on which file system. For [`Step::Look`]: the mark is there.
    Done(String),
    /// Somebody else holds the lock; for [`Step::Look`]: no mark is there.
    Not,
    /// The system refused it.
    Refused(String),
}

impl Answer {
    fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "done" => Some(Self::Done(rest.to_owned())),
            "not" => Some(Self::Not),
            "refused" => Some(Self::Refused(rest.to_owned())),
            _ => None,
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(what) => write!(formatter, "done {}", escape::line(what)),
            Self::Not => formatter.write_str("not"),
            Self::Refused(why) => write!(formatter, "refused {}", escape::line(why)),
        }
    }
}

/// Is a probe: makes the steps that it is told on its standard input, until that ends.
///
/// # Errors
/// Nobody listens.
pub fn serve(directory: &Path, name: &str) -> Result<()> {
    let mut site = Site { directory: directory.to_owned(), name: name.into(), held: None };
    for line in io::stdin().lock().lines() {
        let line = line.doing("read from", "stdin")?;
        let Some(step) = Step::ALL.into_iter().find(|step| step.word() == line) else { continue };
        let answer = site.make_step(step).unwrap_or_else(|error| Answer::Refused(error.to_string()));
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{answer}").and_then(|()| stdout.flush()).doing("write to", "stdout")?;
    }
    Ok(())
}

/// The directory in which the steps are made.
struct Site {
    directory: PathBuf,
    name: OsString,
    held: Option<std::fs::File>,
}

impl Site {
    fn make_step(&mut self, step: Step) -> io::Result<Answer> {
        let around = Real.open_directory(&self.directory.join("."))?;
        if step == Step::Make {
            Real.make_directory(&around, &self.name)?;
        }
        let inside = Real.open_directory_at(&around, &self.name)?;
        let lock = names::LOCK.as_ref();
        let done = || Answer::Done(String::new());
        Ok(match step {
            Step::Make => {
                drop(Real.open(&inside, lock, Open::CreateNew)?);
                Answer::Done(file_system(&inside)?)
            }
            Step::Take => {
                let file = self.held.insert(Real.open(&inside, lock, Open::Lock)?);
                if Real.try_lock(file)? == Claim::Taken { done() } else { Answer::Not }
            }
            Step::Mark => {
                let Some(file) = &self.held else { return Err(io::Error::other("nothing is held")) };
                Real.raise_mark(file, Kind::File)?;
                done()
            }
            Step::Look => {
                let is_marked = Real.is_marked(&Real.open(&inside, lock, Open::Read)?)?;
                if is_marked { done() } else { Answer::Not }
            }
            Step::Sweep => {
                Real.unlink(&inside, lock)?;
                Real.remove_directory(&around, &self.name)?;
                done()
            }
        })
    }
}

fn file_system(directory: &std::fs::File) -> io::Result<String> {
    Ok(match Real.file_system(directory)? {
        FileSystem::Trusted(name) => name.to_owned(),
        FileSystem::Untrusted(other) => format!("{UNTRUSTED}{other}"),
    })
}

/// How the name of a file system begins whose locks nobody has measured for good.
pub(super) const UNTRUSTED: &str = "untrusted ";

/// A probe, as whoever started it sees it. Dropping it ends it; one that is stuck in a call is left to the kernel.
#[derive(Debug)]
pub struct LockProcess {
    child: GroupChild,
    steps: Option<ChildStdin>,
    answers: ChildStdout,
    unread: Vec<u8>,
}

/// What was heard of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// An answer.
    Answer(Answer),
    /// Nothing by the deadline.
    Nothing,
    /// The probe ended, or cannot be spoken to, for this reason.
    Lost(String),
}

/// How long a killed probe may take to end before it is left alone.
const ENDS_WITHIN: Duration = Duration::from_millis(100);

impl LockProcess {
    /// Starts a probe for a directory to be made in this one.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(program: &Path, directory: &Path, name: &str) -> io::Result<Self> {
        let mut command = platform::own_command(program);
        command.arg("storm-probe").arg("--").arg(directory).arg(name);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = platform::spawn_bound(command)?;
        let pipes = (child.child().stdin.take(), child.child().stdout.take());
        let (Some(steps), Some(answers)) = pipes else { return Err(io::Error::other("it has no pipes")) };
        Ok(Self { child, steps: Some(steps), answers, unread: Vec::new() })
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Tells it to make a step, and waits for the answer.
    pub fn ask(&mut self, step: Step, deadline: Instant) -> Heard {
        let told = self.steps.as_mut().map(|pipe| writeln!(pipe, "{}", step.word()));
        match told {
            Some(Ok(())) => self.listen(deadline).unwrap_or_else(|error| Heard::Lost(error.to_string())),
            _ => Heard::Lost("it has ended".to_owned()),
        }
    }

    fn listen(&mut self, deadline: Instant) -> io::Result<Heard> {
        loop {
            if let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                let answer = Answer::parse(line.trim_end());
                return Ok(answer.map_or_else(|| Heard::Lost(format!("it said {line:?}")), Heard::Answer));
            }
            if !platform::is_readable_within(&self.answers, deadline.saturating_duration_since(Instant::now()))? {
                return Ok(Heard::Nothing);
            }
            let mut buffer = [0; 4096];
            match self.answers.read(&mut buffer)? {
                0 => return Ok(Heard::Lost("it has ended".to_owned())),
                taken => self.unread.extend_from_slice(&buffer[..taken]),
            }
        }
    }

    /// Kills it. Says whether it has ended by the deadline.
    pub fn kill(&mut self, at_most: Duration) -> bool {
        self.child.kill_group();
        matches!(self.child.reap_within(at_most), Ok(Some(_)))
    }
}

impl Drop for LockProcess {
    fn drop(&mut self) {
        // One that cannot be killed now ends when its call does.
        let _has_ended = self.kill(ENDS_WITHIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_was_said_is_read_as_it_was() {
        for answer in
            [Answer::Done("ext4".into()), Answer::Done(String::new()), Answer::Not, Answer::Refused("a b".into())]
        {
            assert_eq!(Answer::parse(answer.to_string().trim_end()), Some(answer));
        }
        assert_eq!(Answer::parse("what"), None);
    }

    #[test]
    fn a_site_is_made_locked_and_swept() {
        let directory = tempfile::tempdir().unwrap();
        let site = || Site { directory: directory.path().to_owned(), name: "site".into(), held: None };
        let (mut one, mut other) = (site(), site());
        assert!(one.make_step(Step::Take).is_err(), "nothing is there yet");
        assert!(matches!(one.make_step(Step::Make).unwrap(), Answer::Done(_)));
        assert!(one.make_step(Step::Make).is_err(), "it is made once");
        assert_eq!(one.make_step(Step::Take).unwrap(), Answer::Done(String::new()));
        assert_eq!(other.make_step(Step::Take).unwrap(), Answer::Not);
        assert_eq!(other.make_step(Step::Look).unwrap(), Answer::Not);
        assert_eq!(one.make_step(Step::Mark).unwrap(), Answer::Done(String::new()));
        assert_eq!(other.make_step(Step::Look).unwrap(), Answer::Done(String::new()));
        assert_eq!(other.make_step(Step::Sweep).unwrap(), Answer::Done(String::new()));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
