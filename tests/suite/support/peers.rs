//! Peers in Python: the releases of filelock that `scripts/test` has installed, and programs that speak with them.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use super::home::{PROGRAM, TestHome};
use super::skip::{Skip, requires};

/// The list of releases, which `scripts/test` reads as well.
const VERSIONS: &str = include_str!("../../peers/versions.txt");

/// The directory of the programs in Python.
const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers");

/// How long a peer may take for an answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// How a release does away with a dead marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breaks {
    /// In one step. Safe beside any other that does so.
    ByExchange,
    /// In two. Safe only where no holder dies.
    ByRename,
}

/// One release of filelock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filelock {
    /// Its version.
    pub version: &'static str,
    /// How it breaks.
    pub breaks: Breaks,
}

impl Filelock {
    /// All releases of the list; the first is the reference.
    pub fn all() -> Vec<Self> {
        VERSIONS.lines().filter_map(Self::listed).collect()
    }

    /// The reference.
    pub fn reference() -> Self {
        Self::all()[0]
    }

    fn listed(line: &'static str) -> Option<Self> {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let version = words.next()?;
        let breaks = match words.next() {
            Some("exchange") => Breaks::ByExchange,
            Some("rename") => Breaks::ByRename,
            other => panic!("{line:?} says {other:?} of how it breaks"),
        };
        Some(Self { version, breaks })
    }

    /// Where it is installed.
    pub fn installed(self) -> Result<PathBuf, Skip> {
        let target = Path::new(*PROGRAM).ancestors().nth(2).unwrap();
        let place = target.join("peers").join(format!("filelock-{}", self.version));
        if place.is_dir() {
            Ok(place)
        } else {
            Err(Skip(format!("needs filelock {}, which scripts/test installs where it can", self.version)))
        }
    }

    /// One of the programs of `tests/peers` with this release.
    pub fn program(self, home: &TestHome, program: &str) -> Result<Command, Skip> {
        let place = self.installed()?;
        let mut command = home.bare(python()?);
        command.arg(Path::new(PROGRAMS).join(program)).env("PYTHONPATH", place).env("PYTHONDONTWRITEBYTECODE", "1");
        Ok(command)
    }

    /// The contender of storms with this release, as a command line for a shell.
    pub fn contender(self) -> Result<String, Skip> {
        let (place, program) = (self.installed()?, Path::new(PROGRAMS).join("filelock_contender.py"));
        let [place, python, program] = [&place, python()?, &program]
            .map(|path| format!("'{}'", path.display().to_string().replace('\'', r"'\''")));
        Ok(format!("env PYTHONPATH={place} PYTHONDONTWRITEBYTECODE=1 {python} {program}"))
    }

    /// A process that does with this release what it is asked for.
    pub fn peer(self, home: &TestHome) -> Result<Peer, Skip> {
        Ok(Peer::start(self.program(home, "filelock_peer.py")?))
    }
}

/// The interpreter itself, not a script that chooses one by its environment.
fn python() -> Result<&'static Path, Skip> {
    static PYTHON: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        let told = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().ok()?;
        Some(PathBuf::from(String::from_utf8(told.stdout).ok()?.trim())).filter(|path| path.is_file())
    });
    requires("python3")?;
    PYTHON.as_deref().ok_or_else(|| Skip("needs a python3 that works".to_owned()))
}

/// A Python process that answers questions; see `tests/peers/filelock_peer.py`.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    questions: ChildStdin,
    answers: Receiver<String>,
}

impl Peer {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (questions, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, questions, answers }
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks without waiting for the answer.
    pub fn ask(&mut self, question: &Value) {
        writeln!(self.questions, "{question}").unwrap();
    }

    /// The answer to the earliest question that has none yet.
    #[track_caller]
    pub fn answer(&self) -> Value {
        let line = self.answers.recv_timeout(ANSWERS_WITHIN);
        let line = line.unwrap_or_else(|error| panic!("the peer (pid {}) says nothing: {error}", self.pid()));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}"))
    }

    /// Asks and waits.
    #[track_caller]
    pub fn tell(&mut self, question: &Value) -> Value {
        self.ask(question);
        self.answer()
    }

    /// Takes the lock at a path: `taken`, `busy`, or the name of an error.
    #[track_caller]
    pub fn acquire(&mut self, path: &Path, timeout: Duration) -> String {
        let answer = self.tell(&json!({"do": "acquire", "path": path, "timeout": timeout.as_secs_f64()}));
        answer.as_str().unwrap().to_owned()
    }

    /// Lets go of it.
    #[track_caller]
    pub fn release(&mut self, path: &Path) {
        assert_eq!(self.tell(&json!({"do": "release", "path": path})), "released");
    }

    /// Dies as by `kill -9`, and is reaped.
    pub fn die(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Nothing happens to one that was reaped.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
