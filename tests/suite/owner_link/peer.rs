//! Shell peers: real processes that speak the published protocol and can be stopped at any of its steps.

use std::fs;
use std::io::PipeWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Background, Skip, SOON, TestHome, requires, wait_until_true};

/// The program, as text, so that a moved test binary still has it.
const PROGRAM: &str = include_str!("../../peers/owner_link.sh");

/// Writes the program into the test's own directory.
pub fn install(home: &TestHome) -> Result<PathBuf, Skip> {
    for tool in ["bash", "mktemp", "readlink", "stat", "ln"] {
        requires(tool)?;
    }
    let path = home.scratch().join("owner_link.sh");
    if !path.exists() {
        fs::write(&path, PROGRAM).unwrap();
    }
    Ok(path)
}

/// A command of the peer on a lock.
pub fn command(home: &TestHome, arguments: &[&str], lock: &Path) -> Result<Command, Skip> {
    let mut command = home.bare("bash");
    command.arg(install(home)?).args(arguments).arg(lock);
    Ok(command)
}

/// One shell peer with one attempt.
#[derive(Debug)]
pub struct Peer {
    child: Background,
    points: PathBuf,
    /// Closing it makes the peer release.
    stdin: Option<PipeWriter>,
}

/// A shell peer that is ready to be started.
#[derive(Debug)]
pub struct Entrance {
    command: Command,
    points: PathBuf,
    stdin: PipeWriter,
}

impl Entrance {
    /// An attempt that stops at some steps, or dies at one.
    fn new(home: &TestHome, lock: &Path, verb: &str, (variable, steps): (&str, &str)) -> Result<Self, Skip> {
        let points = tempfile::tempdir_in(home.scratch()).unwrap().keep();
        let (reader, stdin) = std::io::pipe().unwrap();
        let mut command = command(home, &[verb], lock)?;
        command.env("OL_POINTS", &points).env(variable, steps).stdin(reader);
        Ok(Self { command, points, stdin })
    }

    /// Starts it.
    pub fn start(self) -> Peer {
        Peer { child: Background::spawn_reading(self.command), points: self.points, stdin: Some(self.stdin) }
    }
}

impl Peer {
    /// One that will stop at these steps.
    pub fn prepared(home: &TestHome, lock: &Path, pauses: &[&str]) -> Result<Entrance, Skip> {
        Entrance::new(home, lock, "try", ("OL_PAUSE", &pauses.join(" ")))
    }

    /// Starts an attempt that stops at these steps.
    pub fn start(home: &TestHome, lock: &Path, pauses: &[&str]) -> Result<Self, Skip> {
        Ok(Self::prepared(home, lock, pauses)?.start())
    }

    /// Starts one that dies at a step.
    pub fn dying(home: &TestHome, lock: &Path, step: &str) -> Result<Self, Skip> {
        Ok(Entrance::new(home, lock, "try", ("OL_KILL", step))?.start())
    }

    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Waits until it has stopped at a step.
    #[track_caller]
    pub fn wait_until_at(&self, step: &str) {
        let reached = self.points.join(format!("{step}.reached"));
        wait_until_true(SOON, &format!("the peer is at {step}"), || reached.exists());
    }

    /// Lets it go on from a step.
    pub fn go(&self, step: &str) {
        fs::write(self.points.join(format!("{step}.go")), "").unwrap();
    }

    /// Waits for its answer: whether it holds the lock.
    #[track_caller]
    pub fn has_taken(&self) -> bool {
        let answer = self.child.wait_for_line("");
        assert!(["taken", "busy"].contains(&answer.as_str()), "{answer}: {}", self.child.stderr());
        answer == "taken"
    }

    /// Lets it release, or end, and waits for that.
    #[track_caller]
    pub fn finish(mut self) {
        drop(self.stdin.take());
        self.child.finish(SOON);
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn wait_for_end(self) {
        self.finish();
    }

    /// Kills it and waits for its end.
    #[track_caller]
    pub fn kill(mut self) {
        self.child.signal(rustix::process::Signal::KILL);
        drop(self.stdin.take());
        self.child.finish(SOON);
    }
}

/// Whether one attempt of a fresh peer takes the lock; it gives it back at once.
#[track_caller]
pub fn can_take(home: &TestHome, lock: &Path) -> Result<bool, Skip> {
    let peer = Peer::start(home, lock, &[])?;
    let taken = peer.has_taken();
    peer.finish();
    Ok(taken)
}
