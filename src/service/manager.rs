//! The user's service manager: where its files are, and the one program through which it is spoken to.
//!
//! That program is called with a deadline, and only if it is there: a machine without one can still have the file
//! written for the day when it has.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::ValueEnum;
use thiserror::Error as ThisError;

use super::spec::ServiceSpec;
use super::{launchd, systemd};
use crate::base::environment::Environment;
use crate::base::error::{Error, Result};
use crate::system::bounded_command::{self, Ending};
use crate::system::identity::Pid;
use crate::system::platform;
use crate::system::program;
use crate::system::{Kind, Real, World};

/// Which manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Manager {
    /// systemd's user instance
    Systemd,
    /// launchd, for an agent of this user
    Launchd,
}

impl Manager {
    /// The one of this system.
    pub fn of_this_system() -> Self {
        if cfg!(target_os = "macos") { Self::Launchd } else { Self::Systemd }
    }

    /// What is to be written for a plan.
    pub fn text(self, plan: &ServiceSpec) -> String {
        match self {
            Self::Systemd => systemd::unit(plan),
            Self::Launchd => launchd::agent(plan),
        }
    }

    /// Under which name.
    pub fn file_name(self, plan: &ServiceSpec) -> String {
        match self {
            Self::Systemd => systemd::file_name(plan),
            Self::Launchd => launchd::file_name(plan),
        }
    }

    /// In which directory.
    ///
    /// # Errors
    /// Neither `HOME` nor `XDG_CONFIG_HOME` says where the user's files are.
    pub fn directory(self, environment: &Environment) -> Result<PathBuf> {
        let absolute = |name: &str| environment.path(name).filter(|path| path.is_absolute());
        let directory = match self {
            Self::Systemd => absolute("XDG_CONFIG_HOME")
                .or_else(|| Some(absolute("HOME")?.join(".config")))
                .map(|configuration| configuration.join("systemd/user")),
            Self::Launchd => absolute("HOME").map(|home| home.join("Library/LaunchAgents")),
        };
        directory.ok_or_else(|| {
            Error::Usage("no place for a service: HOME is not an absolute path; set it and try again".to_owned())
        })
    }
}

/// The way to systemd's user instance.
#[derive(Debug)]
pub struct Systemctl {
    program: PathBuf,
    environment: Vec<(String, OsString)>,
}

/// What the manager says about a service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnitState {
    /// `active`, `inactive`, `failed`, ... in systemd's own words.
    pub active: String,
    /// How it ended last, in systemd's own words: `success`, `watchdog`, ...
    pub result: String,
    /// Whether it rests between two starts.
    pub is_resting: bool,
    /// Its main process, while it has one.
    pub pid: Option<Pid>,
    /// Whether it is started with its user's manager.
    pub is_enabled: bool,
}

/// Why the manager does not do what it is told.
#[derive(Debug, ThisError)]
pub enum ManagerError {
    /// There is no `systemctl`.
    #[error("systemctl is not on PATH")]
    Missing,
    /// It cannot be run.
    #[error("`systemctl --user {words}` cannot be run: {error}")]
    NotRun {
        /// The order.
        words: String,
        /// The system's own reason.
        error: io::Error,
    },
    /// It does not answer.
    #[error("`systemctl --user {words}` did not answer within {}s", at_most.as_secs())]
    TimedOut {
        /// The order.
        words: String,
        /// How long it had for it.
        at_most: Duration,
    },
    /// It refuses.
    #[error("`systemctl --user {words}` failed: {said}")]
    Failed {
        /// The order.
        words: String,
        /// What it says.
        said: String,
    },
}

/// How long a question may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(4);

impl Systemctl {
    /// `systemctl`, if it is on `PATH`.
    pub fn find(environment: &Environment) -> Option<Self> {
        let program = program::find_in(environment.path("PATH")?.as_os_str(), "systemctl")?;
        let mut environment = environment.for_child(&["DBUS_SESSION_BUS_ADDRESS".to_owned()]);
        let runtime = runtime_directory().filter(|_| environment.iter().all(|(name, _)| name != RUNTIME));
        environment.extend(runtime.map(|directory| (RUNTIME.to_owned(), directory.into())));
        Some(Self { program, environment })
    }

    /// Gives an order, and waits until it is carried out.
    ///
    /// # Errors
    /// What kept it from being carried out.
    pub fn order(&self, words: &[&str], at_most: Duration) -> Result<String, ManagerError> {
        let mut command = Command::new(&self.program);
        command.args(["--user", "--no-pager"]).args(words).env_clear().envs(self.environment.iter().cloned());
        command.current_dir("/");
        let plan = bounded_command::Plan {
            command,
            input: Vec::new(),
            deadline: at_most,
            stdout_limit: 64 * 1024,
            stderr_limit: 1024,
        };
        let words = || words.join(" ");
        let outcome = bounded_command::run(plan, &AtomicBool::new(false))
            .map_err(|error| ManagerError::NotRun { words: words(), error })?;
        match outcome.ending {
            Ending::Exited(0) => Ok(String::from_utf8_lossy(&outcome.stdout).into_owned()),
            Ending::TimedOut => Err(ManagerError::TimedOut { words: words(), at_most }),
            _ => {
                let said = String::from_utf8_lossy(outcome.stderr.trim_ascii()).into_owned();
                Err(ManagerError::Failed { words: words(), said })
            }
        }
    }

    /// Asks how a service stands.
    ///
    /// # Errors
    /// The manager cannot be asked.
    pub fn state(&self, unit: &str) -> Result<UnitState, ManagerError> {
        self.order(&["show", "--property=ActiveState,Result,MainPID,UnitFileState,SubState", unit], ANSWERS_WITHIN)
            .map(|text| UnitState::parse(&text))
    }
}

/// The variable that leads to the user's manager.
const RUNTIME: &str = "XDG_RUNTIME_DIR";

/// Where systemd keeps it for this user, if it does: cron, harnesses and `su` leave the variable out.
fn runtime_directory() -> Option<PathBuf> {
    let uid = platform::effective_uid();
    let directory = PathBuf::from(format!("/run/user/{uid}"));
    let is_ours = Real.facts_of_path(&directory).is_ok_and(|facts| facts.kind == Kind::Directory && facts.is_own());
    is_ours.then_some(directory)
}

impl UnitState {
    /// Reads the lines of `systemctl show`. What is missing is not known.
    fn parse(text: &str) -> Self {
        let value = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default().to_owned()
        };
        let pid = value("MainPID").parse().ok().and_then(Pid::new);
        let is_enabled = matches!(value("UnitFileState").as_str(), "enabled" | "enabled-runtime");
        Self {
            active: value("ActiveState"),
            result: value("Result"),
            pid,
            is_enabled,
            is_resting: value("SubState") == "auto-restart",
        }
    }
}

/// Whether a user's manager lives on when the user has logged out: `None` if nobody can tell.
pub fn lingers(environment: &Environment, lingering: &Path) -> Option<bool> {
    let user = environment.text("USER").or_else(|| environment.text("LOGNAME"))?;
    lingering.is_dir().then(|| lingering.join(user).exists())
}

/// Where systemd notes who lingers.
pub const LINGERING: &str = "/var/lib/systemd/linger";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemctl_shows_is_read_in_any_order() {
        let standing = UnitState::parse("Result=success\nMainPID=42\nActiveState=active\n");
        assert_eq!((standing.active.as_str(), standing.result.as_str()), ("active", "success"));
        assert_eq!(standing.pid.map(Pid::get), Some(42));
        assert_eq!(UnitState::parse("MainPID=0\n").pid, None);
        assert!(UnitState::parse("SubState=auto-restart\n").is_resting);
        let enabled = |state: &str| UnitState::parse(&format!("UnitFileState={state}\n")).is_enabled;
        assert_eq!((enabled("enabled"), enabled("disabled"), enabled("")), (true, false, false));
        assert_eq!(UnitState::parse(""), UnitState::default());
    }

    #[test]
    fn whether_somebody_lingers_is_told_only_where_it_is_noted() {
        let noted = tempfile::tempdir().unwrap();
        let lingers = |pairs: &[(&str, &str)], at: &Path| lingers(&Environment::from_pairs(pairs.iter().copied()), at);
        std::os::unix::fs::symlink("/dev/null", noted.path().join("ann")).unwrap();
        assert_eq!(lingers(&[("USER", "ann")], noted.path()), Some(true));
        assert_eq!(lingers(&[("LOGNAME", "bob")], noted.path()), Some(false));
        assert_eq!(lingers(&[("USER", "ann")], &noted.path().join("absent")), None);
        assert_eq!(lingers(&[], noted.path()), None);
    }

    #[test]
    fn the_files_of_systemd_are_where_the_user_keeps_settings() {
        let directory = |pairs: &[(&str, &str)], manager: Manager| {
            manager.directory(&Environment::from_pairs(pairs.iter().copied())).ok()
        };
        let both = [("HOME", "/h"), ("XDG_CONFIG_HOME", "/c")];
        assert_eq!(directory(&both, Manager::Systemd), Some("/c/systemd/user".into()));
        assert_eq!(directory(&both[..1], Manager::Systemd), Some("/h/.config/systemd/user".into()));
        assert_eq!(directory(&both, Manager::Launchd), Some("/h/Library/LaunchAgents".into()));
        assert_eq!(directory(&[], Manager::Systemd), None);
    }
}
