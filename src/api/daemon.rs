//! Daemons: programs of which a home has exactly one each.
//!
//! However many processes ask for a daemon at the same time, one is started and all of them attach to it. A daemon lives
//! on when whoever asked for it ends.
//!
//! Exactly one daemon:
//!
//! ```no_run
//! use fm_watch::daemon::{Daemon, Ensured, Ready};
//! use fm_watch::home::Home;
//!
//! let home = Home::create("/srv/agents")?;
//! let cache = Daemon::new("cache", ["redis-server", "--port", "0", "--unixsocket", "/srv/agents/cache.sock"])?
//!     .ready(Ready::Socket("/srv/agents/cache.sock".into()));
//! match cache.ensure(&home)? {
//!     Ensured::Attached { pid, .. } => println!("it was running, as pid {pid}"),
//!     Ensured::Started { pid, after, .. } => println!("pid {pid} was ready after {after:?}"),
//!     other => println!("it is ready: {other:?}"),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Limits: that a daemon is ready was true when it was asked. It may have ended since. The processes that keep a daemon
//! are those of the `fm-watch` program: see [`Home::with_program`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error as DeriveError;

use super::home::Home;
use crate::base::error::{Error, Result};
use crate::daemons::ensure::{self, Daemons, Failure};
use crate::daemons::report::{Report, Status as ReportStatus};
use crate::daemons::stop::{self, Refusal};
use crate::settings::daemon_definition::{self, Definition, Name, Restart};
use crate::settings::{self, Origin};
use crate::system::identity::Pid;

/// A daemon: its name in the home, and what it is.
#[derive(Debug, Clone)]
pub struct Daemon {
    defined: settings::Daemon,
}

/// How a daemon says that it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ready {
    /// It accepts connections on this Unix socket.
    Socket(PathBuf),
    /// It writes its pid into this file.
    Pidfile(PathBuf),
    /// It writes a byte to the descriptor whose number is in `FM_WATCH_READY_FD`.
    Descriptor,
    /// It sends `READY=1` to the socket named in `NOTIFY_SOCKET`, as `sd_notify(3)` does.
    Notify,
    /// It prints a line that matches this regular expression.
    LogLine(String),
    /// It is still running after this time.
    Delay(Duration),
}

impl Daemon {
    /// A daemon by its name, up to 64 letters, digits, `-`, `_` and `.`, and its program with arguments. It runs in the
    /// home's directory, counts as ready when it is still running after the setting's default delay, and is not restarted.
    ///
    /// # Errors
    /// The name cannot be one.
    pub fn new(name: &str, command: impl IntoIterator<Item = impl Into<String>>) -> Result<Self> {
        let name = Name::new(name).map_err(|error| Error::Usage(error.to_string()))?;
        let command = command.into_iter().map(Into::into).collect();
        Ok(Self { defined: settings::Daemon::of_command(name, command, Origin::Flag("daemon.NAME")) })
    }

    /// The daemon that the home's settings define by this name, `[daemon.NAME]`.
    ///
    /// # Errors
    /// They define none.
    pub fn of_settings(home: &Home, name: &str) -> Result<Self> {
        let name = Name::new(name).map_err(|error| Error::Usage(error.to_string()))?;
        match home.context.settings().daemon(&name) {
            Ok(daemon) => Ok(Self { defined: daemon.clone() }),
            Err(_) => Err(Error::refused(
                home.context.home.settings_file(),
                format!("there is no [daemon.{name}]"),
                "define it there, or use Daemon::new",
            )),
        }
    }

    /// How it says that it is ready.
    #[must_use]
    pub fn ready(mut self, ready: Ready) -> Self {
        use daemon_definition::Ready as Defined;
        self.defined.ready = Some(match ready {
            Ready::Socket(path) => Defined::Socket { path, exchange: None },
            Ready::Pidfile(path) => Defined::Pidfile(path),
            Ready::Descriptor => Defined::Descriptor,
            Ready::Notify => Defined::Notify,
            Ready::LogLine(pattern) => Defined::LogLine(pattern),
            Ready::Delay(delay) => Defined::Delay(delay),
        });
        self
    }

    /// How long it may take to be ready.
    #[must_use]
    pub fn ready_timeout(mut self, timeout: Duration) -> Self {
        self.defined.ready_timeout = Some(timeout);
        self
    }

    /// Its working directory, absolute.
    #[must_use]
    pub fn directory(mut self, directory: impl AsRef<Path>) -> Self {
        self.defined.cwd = Some(directory.as_ref().to_owned());
        self
    }

    /// A variable of its environment, besides the fixed list that every child gets.
    #[must_use]
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.defined.env.insert(name.into(), value.into());
        self
    }

    /// Has the home's watcher start it again whenever it ends.
    #[must_use]
    pub fn kept(mut self) -> Self {
        self.defined.restart = Restart::Always;
        self
    }

    /// Makes sure that it is ready: uses the one that runs, or starts one and waits until it is ready. One that runs is used
    /// as it is, also if it was started by another definition.
    ///
    /// # Errors
    /// It cannot be had.
    pub fn ensure(&self, home: &Home) -> Result<Ensured, DaemonError> {
        match daemons(home)?.ensure(&self.defined.name, &self.definition(home))? {
            ensure::Ensured::Attached { pid, generation } => Ok(Ensured::Attached { pid: pid.get(), generation }),
            ensure::Ensured::Started { pid, generation, after } => {
                Ok(Ensured::Started { pid: pid.get(), generation, after })
            }
        }
    }

    /// Makes sure that it runs or is being started, and does not wait for it.
    ///
    /// # Errors
    /// It cannot be had.
    pub fn kick(&self, home: &Home) -> Result<(), DaemonError> {
        daemons(home)?.kick(&self.defined.name, &self.definition(home))?;
        Ok(())
    }

    /// Stops it with all that it started, and nobody else: only what is proven to be this daemon is signalled. Returns the
    /// pid it had; `None` if it did not run.
    ///
    /// # Errors
    /// It cannot be proven, or does not end.
    pub fn stop(&self, home: &Home) -> Result<Option<u32>, DaemonError> {
        match daemons(home)?.stop(&self.defined.name, Some(&self.definition(home)))? {
            stop::Stopped::Left { pid, .. } => Ok(Some(pid.get())),
            stop::Stopped::NotRunning | stop::Stopped::Rest { .. } => Ok(None),
        }
    }

    /// Looks at it, and changes nothing.
    ///
    /// # Errors
    /// The `fm-watch` program cannot be found.
    pub fn status(&self, home: &Home) -> Result<State, DaemonError> {
        let report = daemons(home)?.report(&self.defined.name);
        Ok(State::from(&report))
    }

    fn definition(&self, home: &Home) -> Definition {
        self.defined.definition(home.root(), home.context.settings())
    }
}

fn daemons(home: &Home) -> Result<Daemons, DaemonError> {
    Daemons::of_home(&home.context)
        .map_err(|why| DaemonError::Failed { reason: why.to_string(), last_words: String::new() })
}

/// A daemon that is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ensured {
    /// It was running already, or somebody else started it meanwhile.
    Attached {
        /// Its process.
        pid: u32,
        /// Grows with each life of the daemon.
        generation: u64,
    },
    /// It was started.
    Started {
        /// Its process.
        pid: u32,
        /// Grows with each life of the daemon.
        generation: u64,
        /// How long it took to be ready.
        after: Duration,
    },
}

/// The state of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It is being started.
    Starting {
        /// Its process, once it exists.
        pid: Option<u32>,
    },
    /// It is ready.
    Ready {
        /// Its process.
        pid: u32,
    },
    /// It runs and does not answer.
    Stalled {
        /// Its process.
        pid: u32,
        /// How that shows.
        reason: String,
    },
    /// It does not run. The watcher may start it again.
    Stopped {
        /// How its last life ended, if that is known.
        last: Option<String>,
    },
    /// The watcher has given up starting it again.
    GivenUp {
        /// After what.
        reason: String,
    },
    /// It cannot be determined, or something else is where it should be: it is not started then.
    Unknown {
        /// What was found.
        reason: String,
    },
}

impl From<&Report> for State {
    fn from(report: &Report) -> Self {
        let reason = || report.why().unwrap_or_default();
        match (report.status, report.pid().map(Pid::get)) {
            (ReportStatus::Starting, pid) => Self::Starting { pid },
            (ReportStatus::Ready, Some(pid)) => Self::Ready { pid },
            (ReportStatus::Stalled, Some(pid)) => Self::Stalled { pid, reason: reason() },
            (ReportStatus::Backoff | ReportStatus::Stopped, _) => Self::Stopped { last: report.why() },
            (ReportStatus::Fatal, _) => Self::GivenUp { reason: reason() },
            (ReportStatus::Ready | ReportStatus::Stalled | ReportStatus::Foreign | ReportStatus::Unknown, _) => {
                Self::Unknown { reason: reason() }
            }
        }
    }
}

/// Why a daemon cannot be had or stopped.
#[derive(Debug, DeriveError)]
#[non_exhaustive]
pub enum DaemonError {
    /// Other starts were faster, each time. Trying again is right.
    #[error("{0}")]
    LostRace(String),
    /// Its restarts were given up; `fm-watch daemon restart` starts it again.
    #[error("{0}")]
    GivenUp(String),
    /// What was found permits neither its use nor a start.
    #[error("{0}")]
    Refused(String),
    /// It was started and failed.
    #[error("{reason}")]
    Failed {
        /// Why.
        reason: String,
        /// The last lines that it printed, safe for a terminal.
        last_words: String,
    },
    /// It was not stopped.
    #[error("{0}")]
    NotStopped(String),
}

impl From<Failure> for DaemonError {
    fn from(failure: Failure) -> Self {
        let reason = failure.to_string();
        match failure {
            Failure::LostEveryRace => Self::LostRace(reason),
            Failure::GivenUp { .. } => Self::GivenUp(reason),
            Failure::State(_) | Failure::TooLong(_) => Self::Refused(reason),
            Failure::NotReady { last_words, .. } => Self::Failed { reason, last_words },
            Failure::Directory(_) | Failure::NotStarted(_) | Failure::NoStatus(_) => {
                Self::Failed { reason, last_words: String::new() }
            }
        }
    }
}

impl From<Refusal> for DaemonError {
    fn from(refusal: Refusal) -> Self {
        Self::NotStopped(refusal.to_string())
    }
}
