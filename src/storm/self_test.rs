//! The self-test: whether the kernel's locks hold between processes on this file system.
//!
//! # Theory
//!
//! A list of file systems that were measured once (`platform::file_system`) decides where the home's lock may
//! be. This asks the file system itself. Some say "taken" to everybody, some say "not implemented", and on some a lock
//! call hangs although it was asked not to wait. Therefore three processes make the steps, one at a time, and a fourth,
//! this one, never touches the file system: it waits for each answer until a deadline. A process that hangs is killed
//! and, where even that does not end its call, left behind.
//!
//! One process takes the lock of a fresh file and shows its mark. A second one must find the lock busy and see the mark.
//! The first is killed. A third must get the lock, and the mark must have gone.
//!
//! Limits: it proves something about processes of this machine only, and says nothing about the next mount.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::lock_process::{Answer, Heard, LockProcess, Step, UNTRUSTED};
use crate::base::wait_until::pause;
use crate::system::platform;

/// How long the self-test of the command line may take before what has not answered counts as hanging: with starting and
/// sweeping it answers within 2 s.
pub const AT_MOST: Duration = Duration::from_millis(1600);
/// How much longer than that removing the file may take.
const SWEEPING: Duration = Duration::from_millis(200);
/// Between two looks whether a dead holder's lock has become free.
const PAUSE: Duration = Duration::from_millis(5);

/// What a file system's locks are worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// They hold: one takes, others are told that it is busy, and a death frees the lock.
    Holds,
    /// A call has not returned by the deadline. The process is the one that is in it.
    Hangs {
        /// Which call.
        step: Step,
        /// Who is in it, and may stay there.
        pid: u32,
    },
    /// Two processes hold one lock.
    NoOp,
    /// The system refuses a step.
    Refuses {
        /// Which one.
        step: Step,
        /// Its reason.
        why: String,
    },
    /// Nobody can take the lock of a file that nobody else knows.
    AlwaysBusy,
    /// The mark of a held lock cannot be seen by others.
    NoMark,
    /// The lock or its mark outlives the process that held it.
    Outlives,
    /// The test itself could not be made.
    Untested(String),
}

/// What a self-test found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub directory: PathBuf,
    /// Which file system that is, as far as it was learnt.
    pub file_system: Option<FileSystem>,
    /// What its locks are worth.
    pub verdict: Verdict,
    /// What could not be removed.
    pub left: Option<PathBuf>,
}

/// A file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileSystem {
    /// On the list of those whose locks were measured to hold.
    Trusted(String),
    /// Not on it.
    Untrusted(String),
}

impl FileSystem {
    fn parse(text: String) -> Self {
        match text.strip_prefix(UNTRUSTED) {
            Some(name) => Self::Untrusted(name.to_owned()),
            None => Self::Trusted(text),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Trusted(name) | Self::Untrusted(name) => name,
        }
    }
}

/// Tests the kernel's locks in a directory. The answer comes soon after `at_most` at the latest, whatever the file system
/// does; a step that has not been made by then counts as hanging. `program` is this program, which the probes run.
pub fn measure(program: &Path, directory: &Path, at_most: Duration) -> Finding {
    let mut test = match Test::new(program, directory, at_most) {
        Ok(test) => test,
        Err(error) => {
            let verdict = Verdict::Untested(error.to_string());
            return Finding { directory: directory.to_owned(), file_system: None, verdict, left: None };
        }
    };
    let verdict = test.run().map_or_else(|verdict| verdict, |()| Verdict::Holds);
    let left = test.sweep();
    Finding { directory: directory.to_owned(), file_system: test.file_system, verdict, left }
}

struct Test<'a> {
    program: &'a Path,
    directory: &'a Path,
    name: String,
    deadline: Instant,
    file_system: Option<FileSystem>,
}

impl<'a> Test<'a> {
    fn new(program: &'a Path, directory: &'a Path, at_most: Duration) -> io::Result<Self> {
        let nonce = u64::from_le_bytes(platform::nonce()?[..8].try_into().map_err(io::Error::other)?);
        Ok(Self {
            program,
            directory,
            name: format!("fm-watch-self-test-{nonce:016x}"),
            deadline: Instant::now() + at_most,
            file_system: None,
        })
    }

    /// Makes all steps. `Err` is the verdict of the first that shows that locks do not hold.
    fn run(&mut self) -> Result<(), Verdict> {
        let mut first = self.probe()?;
        if let Answer::Done(name) = self.ask(&mut first, Step::Make)? {
            self.file_system = Some(FileSystem::parse(name));
        }
        if self.ask(&mut first, Step::Take)? == Answer::Not {
            return Err(Verdict::AlwaysBusy);
        }
        self.ask(&mut first, Step::Mark)?;
        let mut second = self.probe()?;
        if self.ask(&mut second, Step::Take)? != Answer::Not {
            return Err(Verdict::NoOp);
        }
        if self.ask(&mut second, Step::Look)? == Answer::Not {
            return Err(Verdict::NoMark);
        }
        if !first.kill(self.left()) {
            return Err(Verdict::Untested(format!("pid {} was killed and has not ended", first.pid())));
        }
        self.takes_over()
    }

    /// The lock of the killed process must become free, and its mark must go.
    fn takes_over(&self) -> Result<(), Verdict> {
        let mut third = self.probe()?;
        // Half of what is left: that it is still busy must be said before its silence would count as hanging.
        let patience = Instant::now() + self.left() / 2;
        loop {
            let is_free = self.ask(&mut third, Step::Take)? != Answer::Not;
            if is_free && self.ask(&mut third, Step::Look)? == Answer::Not {
                return Ok(());
            }
            if Instant::now() >= patience {
                return Err(Verdict::Outlives);
            }
            pause(PAUSE);
        }
    }

    fn probe(&self) -> Result<LockProcess, Verdict> {
        LockProcess::start(self.program, self.directory, &self.name)
            .map_err(|error| Verdict::Untested(format!("cannot start {}: {error}", self.program.display())))
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn ask(&self, probe: &mut LockProcess, step: Step) -> Result<Answer, Verdict> {
        match probe.ask(step, self.deadline) {
            Heard::Answer(Answer::Refused(why)) => Err(Verdict::Refuses { step, why }),
            Heard::Answer(answer) => Ok(answer),
            Heard::Nothing => Err(Verdict::Hangs { step, pid: probe.pid() }),
            Heard::Lost(why) => {
                Err(Verdict::Untested(format!("the process that was to {} failed: {why}", step.in_words())))
            }
        }
    }

    /// Removes what was made. Says what could not be removed.
    fn sweep(&self) -> Option<PathBuf> {
        self.file_system.as_ref()?;
        let swept =
            self.probe().ok().map(|mut probe| probe.ask(Step::Sweep, Instant::now() + self.left().max(SWEEPING)));
        match swept {
            Some(Heard::Answer(Answer::Done(_))) => None,
            _ => Some(self.directory.join(&self.name)),
        }
    }
}

impl Verdict {
    /// Its name, for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Hangs { .. } => "hangs",
            Self::NoOp => "no-op",
            Self::Refuses { .. } => "refuses",
            Self::AlwaysBusy => "always-busy",
            Self::NoMark => "no-mark",
            Self::Outlives => "outlives",
            Self::Untested(_) => "untested",
        }
    }
}

/// What was seen, as words that go on after the place.
impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds => formatter.write_str(
                "locks hold here between processes of this machine: one process took a lock, another one found it busy, \
                 and it was free when its holder had been killed",
            ),
            Self::Hangs { step, pid } => write!(
                formatter,
                "a call that may not wait hangs: pid {pid} was to {} and has not answered",
                step.in_words()
            ),
            Self::NoOp => formatter.write_str("locks do nothing here: two processes hold the same one at once"),
            Self::Refuses { step, why } => write!(formatter, "cannot {} here: {why}", step.in_words()),
            Self::AlwaysBusy => {
                formatter.write_str("the lock of a new file, which nobody else knows, is said to be busy")
            }
            Self::NoMark => formatter.write_str("the record lock of one process is not seen by another one"),
            Self::Outlives => formatter.write_str("the lock of a process that was killed is still held"),
            Self::Untested(why) => write!(formatter, "locks could not be tested: {why}"),
        }
    }
}

impl Finding {
    /// Whether calls hang that have nothing to do with locks, so that whoever touches this file system may hang as well.
    pub fn is_out_of_order(&self) -> bool {
        matches!(self.verdict, Verdict::Hangs { step: Step::Make, .. })
    }

    /// What a person should do, if there is anything.
    pub fn remedy(&self) -> Option<String> {
        const ELSEWHERE: &str = "give a local directory for the lock of a home with --runtime-dir DIR or `runtime_dir` in \
                                 the settings, and keep other locks on a local file system";
        match (&self.verdict, &self.file_system) {
            (Verdict::Holds, Some(FileSystem::Untrusted(name))) => Some(format!(
                "{name} is not on the list of file systems whose locks were measured for good (another machine or \
                 another mount may not see them), so fm-watch goes on refusing it; {ELSEWHERE}"
            )),
            (Verdict::Holds, _) => None,
            (Verdict::Refuses { step: Step::Make, .. } | Verdict::Untested(_), _) => {
                Some("mend this, and try again".to_owned())
            }
            _ => Some(ELSEWHERE.to_owned()),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.directory.display())?;
        if let Some(file_system) = &self.file_system {
            write!(formatter, " ({})", file_system.name())?;
        }
        write!(formatter, ": {}", self.verdict)?;
        self.remedy().map_or(Ok(()), |remedy| write!(formatter, "; {remedy}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(verdict: Verdict, file_system: FileSystem) -> Finding {
        Finding { directory: "/mnt".into(), file_system: Some(file_system), verdict, left: None }
    }

    #[test]
    fn every_verdict_but_the_good_one_comes_with_a_remedy() {
        let refuses = |step| Verdict::Refuses { step, why: "No locks available".to_owned() };
        for verdict in [
            Verdict::Hangs { step: Step::Take, pid: 7 },
            Verdict::NoOp,
            refuses(Step::Take),
            refuses(Step::Mark),
            Verdict::AlwaysBusy,
            Verdict::NoMark,
            Verdict::Outlives,
        ] {
            let said = finding(verdict.clone(), FileSystem::Trusted("ext4".into())).to_string();
            assert!(said.starts_with("/mnt (ext4): ") && said.contains("--runtime-dir"), "{said}");
        }
        assert_eq!(finding(Verdict::Holds, FileSystem::Trusted("ext4".into())).remedy(), None);
        assert!(finding(refuses(Step::Make), FileSystem::Trusted("ext4".into())).remedy().is_some());
    }

    #[test]
    fn locks_that_hold_on_an_unknown_file_system_are_not_called_trusted() {
        let said = finding(Verdict::Holds, FileSystem::parse("untrusted FUSE".into())).to_string();
        assert!(said.starts_with("/mnt (FUSE): locks hold here") && said.contains("goes on refusing it"), "{said}");
        assert_eq!(FileSystem::parse("tmpfs".into()), FileSystem::Trusted("tmpfs".into()));
    }
}
