//! Homes with daemons: a real program that behaves as its arguments say, and what is seen of it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use fm_watch::daemons::records::last_generation;
use fm_watch::daemons::spawn_monitor::StartRequest;
use fm_watch::settings::daemon_definition::Definition;
use fm_watch::system::{Real, World};
use rustix::process::Signal;
use serde_json::Value;

use super::background::Answer;
use super::home::{PROGRAM, TestHome, finish, pid_in};
use super::skip::{Skip, requires};
use super::{SOON, processes, wait_until_true};

/// The source of the daemon that does what its arguments say.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/daemon.c");

/// The daemon, compiled once for all tests.
static DAEMON: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
    let directory = Path::new(*PROGRAM).parent().unwrap();
    let (made, program) = (directory.join(format!("daemon-{}", std::process::id())), directory.join("test-daemon"));
    let compiled = Command::new("cc").args(["-O1", "-o"]).arg(&made).arg(SOURCE).output();
    let compiled = compiled.map_err(|error| format!("needs the program cc: {error}"))?;
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    fs::rename(&made, &program).unwrap();
    Ok(program)
});

/// The path of the daemon that does what its arguments say.
pub fn program() -> Result<&'static str, Skip> {
    requires("cc")?;
    DAEMON.as_ref().map(|path| path.to_str().unwrap()).map_err(|why| Skip(why.clone()))
}

/// A home with daemons, none of which outlives the value.
#[derive(Debug)]
pub struct Daemons {
    /// The home.
    pub home: TestHome,
}

impl Daemons {
    /// A home without any.
    pub fn new() -> Self {
        Self { home: TestHome::new() }
    }

    /// A home whose settings file says this, with `{scratch}` and `{daemon}` filled in.
    pub fn configured(text: &str) -> Result<Self, Skip> {
        let daemons = Self::new();
        let text = text.replace("{daemon}", program()?).replace("{scratch}", daemons.home.scratch().to_str().unwrap());
        daemons.home.configure(&text);
        Ok(daemons)
    }

    /// A path of the test's own, as text.
    pub fn path(&self, name: &str) -> String {
        self.home.scratch().join(name).to_str().unwrap().to_owned()
    }

    /// A file of a daemon's directory.
    pub fn file(&self, daemon: &str, name: &str) -> PathBuf {
        self.home.watch("daemons").join(daemon).join(name)
    }

    /// The command `daemon ...`.
    pub fn command(&self, words: &[&str]) -> Command {
        self.home.command(&[&["daemon"], words].concat())
    }

    /// Runs `daemon ...` to its end.
    #[track_caller]
    pub fn ask(&self, words: &[&str]) -> Answer {
        finish(self.command(words))
    }

    /// `daemon ensure NAME`, which must succeed: the pid.
    #[track_caller]
    pub fn ensure(&self, name: &str) -> u32 {
        let answer = self.ask(&["ensure", name]).expect_code(0);
        pid_in(&answer.stdout).unwrap_or_else(|| panic!("no pid in {answer:?}"))
    }

    /// The record of the life.
    pub fn life(&self, name: &str) -> Option<Value> {
        serde_json::from_slice(&fs::read(self.file(name, "life.json")).ok()?).ok()
    }

    /// The record of the last end.
    pub fn end(&self, name: &str) -> Option<Value> {
        serde_json::from_slice(&fs::read(self.file(name, "end.json")).ok()?).ok()
    }

    /// The recorded pid of the daemon.
    pub fn pid(&self, name: &str) -> Option<u32> {
        u32::try_from(self.life(name)?["process"]["pid"].as_u64()?).ok()
    }

    /// The recorded pid of its monitor.
    pub fn monitor(&self, name: &str) -> Option<u32> {
        u32::try_from(self.life(name)?["monitor"]["pid"].as_u64()?).ok()
    }

    /// The living processes of the test's daemon program in this home.
    pub fn instances(&self) -> BTreeSet<u32> {
        let program = DAEMON.as_ref().unwrap().to_str().unwrap();
        let all = processes::naming(self.home.scratch()).into_iter();
        all.filter(|(_, line)| line.starts_with(program)).map(|(pid, _)| pid).collect()
    }

    /// The pids that were noted in a file by everyone who has ever got so far.
    pub fn noted(&self, name: &str) -> Vec<u32> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// Everything in this home but the watcher is killed.
    pub fn kill_all(&self) {
        wait_until_true(SOON, "nothing lives in the home any more", || {
            let all = processes::naming(self.home.scratch());
            for (pid, _) in &all {
                processes::signal_if_naming(*pid, self.home.scratch(), Signal::KILL);
            }
            all.is_empty()
        });
    }
}

impl Drop for Daemons {
    fn drop(&mut self) {
        self.kill_all();
    }
}

/// An order to start the next life in a daemon's directory, given now.
pub fn order(directory: &Path, definition: &Definition) -> StartRequest {
    let after = Real.open_directory(directory).map_or(0, |directory| last_generation(&Real, &directory));
    StartRequest { definition: definition.clone(), after }
}

/// Who answers at a socket of the test's daemon.
pub fn pid_at(socket: &str) -> Option<u32> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(b"pid\n").ok()?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).ok()?;
    answer.trim().parse().ok()
}
