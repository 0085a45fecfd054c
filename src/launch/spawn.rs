//! Starting a watcher that is nobody's descendant.
//!
//! Own session, orphaned at once, working directory `/`, standard streams to nowhere (errors to the log), no inherited
//! descriptor but the word's, an environment from the allow-list, and the home in explicit flags, so that `ps`
//! shows which home it serves and no inherited variable can point it at another one.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Together;
use super::bound_child::{self, Companion};
use crate::base::failpoint::Failpoint;
use crate::firstmate::home::Fleet;
use crate::home::paths::{Home, names};
use crate::ownership::context::Session;
use crate::system::handle::{self, AsHandle};
use crate::system::platform;
use crate::system::status_pipe::{NoStatus, StartStatus, StatusReader};
use crate::system::storage;
use crate::system::{Real, World};

/// When the new watcher takes the home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// At once.
    AtOnce,
    /// When its holder leaves, if that happens within this time.
    Standby(Duration),
}

/// With whom the new watcher lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kin {
    /// With nobody: it outlives its starter, and wakes do not end it.
    Nobody,
    /// With the thread that starts it: it ends with that, or with the first wake.
    Starter,
}

/// A start under way.
#[derive(Debug)]
pub struct Start {
    listener: StatusReader<StartStatus>,
    log: PathBuf,
    /// One that is dropped with its start is killed.
    companion: Option<Companion>,
}

impl Start {
    /// Starts a watcher process for the session's home.
    ///
    /// # Errors
    /// The reason why no process could be started.
    pub fn spawn(session: &Session, mode: &Mode, kin: Kin) -> Result<Self, String> {
        let (listener, writer) = StatusReader::new().map_err(|error| format!("cannot make a pipe: {error}"))?;
        let number = handle::number_of(&writer);
        let command = command(session, mode, kin, number)?;
        let program = command.get_program().to_owned();
        let inherit = [writer.as_handle()];
        let spawned = match kin {
            Kin::Nobody => platform::spawn_detached(command, &inherit).map(|_| None),
            Kin::Starter if session.world.is_protected(Failpoint::ObtainBound) => {
                platform::spawn_companion(command, &inherit).map(Some)
            }
            Kin::Starter => platform::spawn_group_with(command, &inherit).map(Some),
        };
        let child = spawned.map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let log = session.home.ours(names::LOG_DIRECTORY).join(names::LOG);
        Ok(Self { listener, log, companion: child.map(Companion::new) })
    }

    /// The watcher itself, if it lives with its starter and has taken the home. Waits until its first look is over, but
    /// not for long: what holds it up then is a slow disk, and the watcher is there.
    pub fn together(self) -> Option<Together> {
        const LOOK_TAKES: Duration = Duration::from_secs(2);
        let companion = self.companion?;
        Some(Together { companion, first_look: bound_child::first_look(&self.listener, LOOK_TAKES) })
    }

    /// Waits for the next word.
    ///
    /// # Errors
    /// What came instead.
    pub fn next(&self, deadline: Instant) -> Result<StartStatus, NoStatus> {
        self.listener.next(deadline)
    }

    /// Waits for the next word.
    ///
    /// # Errors
    /// That none came, as a reason for people.
    pub fn next_word(&self, deadline: Instant) -> Result<StartStatus, String> {
        self.next(deadline).map_err(|silence| self.in_words(&silence))
    }

    /// What came instead of a word, for people.
    pub fn in_words(&self, silence: &NoStatus) -> String {
        match silence {
            NoStatus::Ended => format!("the new watcher ended without a word; see {}", self.log.display()),
            NoStatus::DeadlinePassed => {
                format!("the new watcher has not said a word by the deadline; see {}", self.log.display())
            }
            NoStatus::Broken(error) => format!("the new watcher cannot be understood: {error}"),
        }
    }
}

fn command(session: &Session, mode: &Mode, kin: Kin, word_descriptor: i32) -> Result<Command, String> {
    let mut command = platform::own_command(program()?);
    command.args(session.home.flags()).arg("run");
    if let Mode::Standby(patience) = mode {
        command.arg("--standby").arg(humantime::format_duration(*patience).to_string().replace(' ', ""));
    }
    if kin == Kin::Starter {
        command.args(["--once", "--tracked"]);
    }
    command.arg("--word-fd").arg(word_descriptor.to_string());
    for flag in session.loaded.explicit_flags() {
        command.arg(flag);
    }
    command
        .env_clear()
        .envs(match kin {
            Kin::Nobody => session.environment.for_child(&session.settings().pass),
            Kin::Starter => session.environment.for_child_of_caller(),
        })
        // They name the home of the flags once more, as the scripts would write it.
        .envs(session.fleet.iter().flat_map(Fleet::variables))
        .stdin(Stdio::null());
    match kin {
        Kin::Nobody => {
            command
                .current_dir("/")
                .stdout(Stdio::null())
                .stderr(log(&session.home).map_or_else(Stdio::null, Stdio::from));
        }
        Kin::Starter => {
            command.stdout(Stdio::piped());
        }
    }
    Ok(command)
}

/// This program; if it was replaced on disk, the one that took its place.
///
/// # Errors
/// It cannot be found.
pub fn program() -> Result<PathBuf, String> {
    const SELF: &str = "/proc/self/exe";
    let path = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    if path.exists() {
        return Ok(path);
    }
    let successor = path.to_str().and_then(|text| text.strip_suffix(" (deleted)")).map(PathBuf::from);
    Ok(successor.filter(|path| path.exists()).unwrap_or_else(|| OsString::from(SELF).into()))
}

/// The watcher's log, for what a process of ours says that nobody listens to.
pub(crate) fn log(home: &Home) -> Option<std::fs::File> {
    let directory = Real.open_directory(&home.ours(names::LOG_DIRECTORY)).ok()?;
    storage::open_to_append(&Real, &directory, OsStr::new(names::LOG)).ok().map(|(log, _)| log)
}
