//! A home: the directory that one watcher serves, its state and its wakes.
//!
//! What is the state of this home?
//!
//! ```no_run
//! use fm_watch::home::{Home, State};
//!
//! let home = Home::open("/srv/agents")?;
//! match home.status().state {
//!     State::Ok { pid, .. } => println!("watched by pid {pid}"),
//!     state => println!("not watched: {state:?}"),
//! }
//! # Ok::<(), fm_watch::error::Error>(())
//! ```
//!
//! Add a wake and wait for one:
//!
//! ```
//! use std::time::Duration;
//! use fm_watch::home::Home;
//!
//! # let directory = tempfile::tempdir()?;
//! # let directory = directory.path();
//! let home = Home::create(directory)?;
//! let added = home.wake("deploy", "version 7 is out")?;
//! let due = home.wait(Duration::from_secs(5))?;
//! assert_eq!(due[0].text, "custom: deploy: version 7 is out");
//! home.ack(due[0].seq)?;
//! assert!(home.drain()?.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Limits: what is said of a watcher was true when it was looked at. It may have ended since.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use thiserror::Error;

use super::waiter::{self, OnLoss, Waiter, Woken};
use super::wakes::{self, Added};
use crate::base::environment::Environment;
use crate::base::error::{Error, Result};
use crate::firstmate::home::Fleet;
use crate::journal::record;
use crate::launch::failure::Failure;
use crate::launch::{Obtained, Wish, obtain};
use crate::layout::paths::{self, Selection};
use crate::ownership::context::{HomeContext, Request};
use crate::ownership::verdict::Verdict;
use crate::settings::{Overrides, Reading};
use crate::system::identity::Pid;
use crate::system::program;
use crate::watcher::facts;

/// A home, with the settings that were in force when it was opened.
#[derive(Debug)]
pub struct Home {
    pub(crate) context: HomeContext,
}

impl Home {
    /// Opens the home at a directory. Nothing is created, and nothing needs to exist yet.
    ///
    /// # Errors
    /// Its settings file cannot be read or understood.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self> {
        let environment = Environment::of_this_process();
        let selection = Selection { home: Some(directory.as_ref().to_owned()), state: None };
        let home = paths::Home::resolve(&selection, &environment, std::env::current_dir().ok().as_deref())?;
        let request = Request { overrides: Overrides::default(), reading: Reading::Strict };
        let mut context = HomeContext::open(home, environment, request)?;
        let fleet = Fleet::find(context.world.as_ref(), &context.home, &context.environment, context.settings());
        context.foreign = fleet.map(|fleet| Arc::new(fleet) as _);
        context.program =
            context.environment.path("PATH").and_then(|path| program::find_in(path.as_os_str(), "fm-watch"));
        Ok(Self { context })
    }

    /// Opens the home at a directory and makes what is missing of it, private to this user.
    ///
    /// # Errors
    /// As [`Home::open`]; directories that cannot be made, or that other users could write to.
    pub fn create(directory: impl AsRef<Path>) -> Result<Self> {
        let mut home = Self::open(directory)?;
        home.context.prepare()?;
        Ok(home)
    }

    /// Starts this program as the watcher and for daemons. Without it, that is the `fm-watch` found on `PATH`.
    #[must_use]
    pub fn with_program(mut self, program: impl Into<PathBuf>) -> Self {
        self.context.program = Some(program.into());
        self
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        self.context.home.root()
    }

    /// Looks at the home. Takes no lock and writes nothing. A state that a moment can change is looked at twice, which takes
    /// up to 100 ms.
    pub fn status(&self) -> Status {
        let (_, verdict) = self.context.verdict();
        let told = facts::told(self.context.world.as_ref(), &self.context.home);
        Status { description: verdict.to_string(), state: State::from(&verdict), waiters: told.waiters() }
    }

    /// Makes sure that a watcher runs: uses the one that does, or starts one and waits until it says that it watches, for
    /// the setting `arm_timeout` at most. A watcher that is stuck is replaced.
    ///
    /// # Errors
    /// Why no watcher could be had.
    pub fn arm(&self) -> Result<Armed, ArmError> {
        match obtain(&self.context, Wish::Any, &mut |_| ()) {
            Ok(Obtained::Started { pid, .. }) => Ok(Armed::Started { pid: pid.get() }),
            Ok(Obtained::Healthy { pid, beat }) => Ok(Armed::Healthy { pid: pid.get(), beat }),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Adds a wake of the kind `custom` and returns its number. It is durable then. `None`: the journal was busy for too
    /// long, and the wake stands in the inbox, where the watcher gives it a number.
    ///
    /// # Errors
    /// It can be written nowhere.
    pub fn wake(&self, key: &str, text: &str) -> Result<Option<u64>> {
        match wakes::add(&self.context, record::Kind::Custom.as_str(), key, text)? {
            Added::Recorded(wakes) => Ok(wakes.first().map(|wake| wake.seq)),
            Added::LeftInInbox(_) => Ok(None),
        }
    }

    /// Waits until wakes are due, and returns the newest of each kind and key; none if the time has passed. They count as
    /// presented, and come again after the setting `redeliver_after` unless they are acknowledged. While it waits, other
    /// processes see a waiter. It starts no watcher.
    ///
    /// # Errors
    /// The journal cannot be read. The home must have been created.
    pub fn wait(&self, timeout: Duration) -> Result<Vec<Wake>> {
        let mut waiter = Waiter::begin(&self.context, Some(timeout), waiter::stop(), |_| ())?;
        match waiter.until_due(OnLoss::Tell)? {
            Woken::Due(due) => {
                waiter.mark_presented(&due);
                Ok(wakes::newest(&due.iter().collect::<Vec<_>>()).into_iter().map(Wake::from).collect())
            }
            Woken::Late | Woken::Asked(_) | Woken::Lost(_) => Ok(Vec::new()),
        }
    }

    /// The wakes that nobody has acknowledged, the newest of each kind and key, in the order of their numbers. They count as
    /// presented.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn drain(&self) -> Result<Vec<Wake>> {
        let Some(reading) = wakes::read(&self.context)? else { return Ok(Vec::new()) };
        let pending = reading.pending();
        let newest = wakes::newest(&pending);
        let shown: Vec<record::Wake> = pending.into_iter().cloned().collect();
        if !shown.is_empty() {
            // If that fails they come again sooner, which loses nothing.
            let _again = reading.mark_presented(&self.context, &shown);
        }
        Ok(newest.into_iter().map(Wake::from).collect())
    }

    /// Acknowledges every wake up to and including this number: it never comes again.
    ///
    /// # Errors
    /// The number was never issued, or it cannot be written.
    pub fn ack(&self, seq: u64) -> Result<()> {
        wakes::acknowledge(&self.context, seq).map(drop)
    }
}

/// What was seen of a home.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The state of its watcher.
    pub state: State,
    /// The same in words, with the cause.
    pub description: String,
    /// How many processes wait for a wake; `None` if that cannot be seen.
    pub waiters: Option<usize>,
}

/// The state of a home's watcher.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It runs and its event loop goes round.
    Ok {
        /// Its process.
        pid: u32,
        /// The age of its last beat.
        beat: Duration,
    },
    /// It is about to record itself or to beat for the first time.
    Starting {
        /// Its process, once that is recorded.
        pid: Option<u32>,
    },
    /// Its beat is late, but within the bound.
    Slow {
        /// Its process.
        pid: u32,
        /// The age of its last beat.
        beat: Duration,
    },
    /// Its process lives, but its event loop does not go round.
    Stuck {
        /// Its process.
        pid: u32,
        /// The age of its last beat; `None` if it never made one.
        beat: Option<Duration>,
    },
    /// It was killed, crashed, or ended with the machine.
    Dead {
        /// The pid it had.
        pid: u32,
    },
    /// None runs, and the last one, if there was one, left as it should.
    Stopped,
    /// The lock is held by a process that is not a watcher of this home.
    Foreign,
    /// It cannot be determined.
    Unknown,
}

impl From<&Verdict> for State {
    fn from(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Ok { pid, beat } => Self::Ok { pid: pid.get(), beat: *beat },
            Verdict::Starting { pid } => Self::Starting { pid: pid.map(Pid::get) },
            Verdict::Slow { pid, beat } => Self::Slow { pid: pid.get(), beat: *beat },
            Verdict::Stuck { pid, beat, .. } => Self::Stuck { pid: pid.get(), beat: *beat },
            Verdict::Dead { pid, .. } => Self::Dead { pid: pid.get() },
            Verdict::Stopped { .. } => Self::Stopped,
            Verdict::Foreign { .. } => Self::Foreign,
            Verdict::Unknown { .. } => Self::Unknown,
        }
    }
}

/// A watcher that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Armed {
    /// It was started.
    Started {
        /// Its process.
        pid: u32,
    },
    /// It was running already.
    Healthy {
        /// Its process.
        pid: u32,
        /// The age of its last beat.
        beat: Duration,
    },
}

/// Why no watcher could be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ArmError {
    /// Other processes started watchers faster, each time. Trying again is right.
    #[error("{0}")]
    LostRace(String),
    /// What holds the home cannot be proven to be its watcher, or does not leave. No signal was sent without proof.
    #[error("{0}")]
    Held(String),
    /// A watcher was started and failed, for this reason of its own.
    #[error("{0}")]
    NotStarted(String),
    /// The home cannot be made ready, or no process could be started.
    #[error(transparent)]
    Program(#[from] Error),
}

impl From<Failure> for ArmError {
    fn from(failure: Failure) -> Self {
        let reason = failure.to_string();
        match failure {
            Failure::LostEveryRace => Self::LostRace(reason),
            Failure::Program(error) => Self::Program(error),
            Failure::Child(_)
            | Failure::NoWord { .. }
            | Failure::ImpossiblePid(_)
            | Failure::UnaskedStandby
            | Failure::LastingStandby
            | Failure::NoSuccessor { .. } => Self::NotStarted(reason),
            Failure::Stopped(_)
            | Failure::Removed(_)
            | Failure::Unreplaceable(_)
            | Failure::Foreign { .. }
            | Failure::NotReplaced { .. }
            | Failure::StillThere { .. } => Self::Held(reason),
        }
    }
}

/// A durable reason to act.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wake {
    /// Its number in this home: grows with each wake and is never used again.
    pub seq: u64,
    /// When it was recorded, by the wall clock.
    pub at: SystemTime,
    /// `signal`, `check`, `stale`, `heartbeat`, `daemon` or `custom`.
    pub kind: String,
    /// What it is about.
    pub key: String,
    /// The reason, in one line.
    pub text: String,
    /// What a reader would otherwise have to fetch: the bytes added to a status file, a check's output, a pane's last lines.
    pub context: Option<String>,
}

impl From<record::Wake> for Wake {
    fn from(wake: record::Wake) -> Self {
        let since_1970 = Duration::from_millis(u64::try_from(wake.at).unwrap_or(0));
        Self {
            seq: wake.seq,
            at: SystemTime::UNIX_EPOCH + since_1970,
            kind: wake.kind.as_str().to_owned(),
            key: wake.key,
            text: wake.text,
            context: wake.context,
        }
    }
}
