//! Where a monitor works: the open directory of its daemon, under its lock, and the records that it alone writes.
//!
//! A record is written only while the lock is still the one that others would ask for and the recorded life is the one that
//! the record is about. So a monitor whose lock file was taken away, and which therefore has a successor, can come as late
//! as it may: it writes nothing any more.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::sync::Arc;

use crate::base::error::{Context, Error, Result};
use crate::base::failpoint::Failpoint;
use crate::daemons::locks::MonitorLock;
use crate::daemons::observe;
use crate::daemons::paths::{self, DaemonPaths};
use crate::daemons::records::{self, Ended, Life, Read, last_generation};
use crate::daemons::spawn_monitor::StartRequest;
use crate::lock::Ownership;
use crate::settings::daemon_definition::Definition;
use crate::system::identity::{Identity, Observation, Pid, Sameness, Standpoint};
use crate::system::platform::Pinned;
use crate::system::storage;
use crate::system::{Facts, Real, World};

/// What a monitor is told at its start.
#[derive(Debug)]
pub struct Assignment {
    /// The outside.
    pub world: Arc<Real>,
    /// Which daemon of which home.
    pub paths: DaemonPaths,
    /// From where this process sees others.
    pub here: Standpoint,
    /// What to start if nothing lives. `None`: nothing.
    pub request: Option<StartRequest>,
    /// The environment that a daemon gets, without its own variables.
    pub environment: Vec<(String, OsString)>,
}

/// An assignment under its lock.
#[derive(Debug)]
pub struct Records<'a> {
    /// What it is.
    pub assignment: &'a Assignment,
    /// The daemon's directory.
    pub directory: File,
    /// This process.
    pub monitor: Identity,
    lock: MonitorLock,
    /// The last life that was written down when the lock was taken.
    found: u64,
}

impl<'a> Records<'a> {
    /// Takes the place, unless another monitor has it. Nothing but the directory is made before that.
    ///
    /// # Errors
    /// Those of the system, with the path.
    pub fn take(assignment: &'a Assignment) -> Result<Option<Self>> {
        let (world, paths) = (&assignment.world, &assignment.paths);
        storage::make_directories(paths.directory())?;
        let Some(lock) = MonitorLock::try_take(world, paths)? else { return Ok(None) };
        let directory = world.open_directory(paths.directory()).doing("open the directory", paths.directory())?;
        let own = Pid::new(world.own_pid()).ok_or_else(|| Error::Failed("a monitor cannot be pid 1".to_owned()))?;
        let pinned = world.pin(own).doing("pin this process for", paths.directory())?;
        let seen = pinned.map_or(Observation::Gone, |process| world.observe(&process));
        let monitor = identity(seen).map_err(|why| Error::Failed(why.to_string()))?;
        let found = last_generation(world.as_ref(), &directory);
        Ok(Some(Self { assignment, directory, monitor, lock, found }))
    }

    /// The outside.
    pub fn world(&self) -> &Arc<Real> {
        &self.assignment.world
    }

    /// The lock that makes this the only monitor.
    pub fn lock(&self) -> &MonitorLock {
        &self.lock
    }

    /// What to start if nothing lives, if the request is still good: no life has begun since it was made.
    pub fn wanted(&self) -> Option<&Definition> {
        let is_good = |request: &&StartRequest| {
            request.after == self.found || !self.world().is_protected(Failpoint::DaemonOrderFence)
        };
        self.assignment.request.as_ref().filter(is_good).map(|request| &request.definition)
    }

    /// The recorded life, and whether its process lives.
    pub fn recorded(&self) -> Read<(Box<Life>, Sameness)> {
        observe::life(self.world().as_ref(), &self.directory, &self.assignment.here)
    }

    /// The number of the next life.
    pub fn next_generation(&self) -> u64 {
        last_generation(self.world().as_ref(), &self.directory).saturating_add(1)
    }

    /// The file of the life lock as it is now.
    ///
    /// # Errors
    /// Those of the system.
    pub fn life_lock(&self) -> Result<Facts> {
        let path = self.assignment.paths.file(paths::LIFE_LOCK);
        self.world().facts_at(&self.directory, OsStr::new(paths::LIFE_LOCK)).doing("examine", path)
    }

    /// Writes down the beginning of a life.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn begin(&self, life: &Life) -> Result<()> {
        self.write(paths::LIFE, life)?;
        // Whoever asked for this life, the keeper holds on to it from now on.
        self.assignment.paths.wake_keeper();
        Ok(())
    }

    /// Writes down how far a life has come, unless it is no longer the recorded one.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn go_on(&self, life: &Life) -> Result<()> {
        if self.is_recorded(life) { self.write(paths::LIFE, life) } else { Ok(()) }
    }

    /// Writes down the end of a life, unless it is no longer the recorded one.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn end(&self, life: &Life, end: &Ended) -> Result<()> {
        let may_write = self.is_recorded(life) || !self.world().is_protected(Failpoint::DaemonLateEnd);
        if may_write { self.write(paths::END, end) } else { Ok(()) }
    }

    fn write<T: serde::Serialize>(&self, name: &str, record: &T) -> Result<()> {
        let written = records::write(self.world().as_ref(), &self.directory, name, record);
        written.doing("write", self.assignment.paths.file(name))
    }

    fn is_recorded(&self, life: &Life) -> bool {
        let is_same = |other: &Life| (other.generation, &other.nonce) == (life.generation, &life.nonce);
        // Without a record nobody else's can be harmed.
        let recorded = match records::read::<Life, _>(self.world().as_ref(), &self.directory, paths::LIFE) {
            Read::Some(recorded) => is_same(&recorded),
            Read::None | Read::Damaged(_) => true,
        };
        recorded && matches!(self.lock.check(), Ok(Ownership::Held))
    }

    /// Marks a step of the protocol.
    ///
    /// # Errors
    /// Only what a test injects.
    pub fn reach(&self, step: Failpoint) -> Result<()> {
        self.world().reach(step).doing("work in", self.assignment.paths.directory())
    }

    /// What a pinned process is.
    ///
    /// # Errors
    /// It has ended, or it cannot be read.
    pub fn observe(&self, process: &Pinned) -> std::result::Result<Identity, Unobservable> {
        identity(self.world().observe(process))
    }
}

/// Why nobody can tell what a process is.
#[derive(Debug, thiserror::Error)]
pub enum Unobservable {
    /// It is there no more.
    #[error("it has ended")]
    Ended,
    /// The system does not let it be read, for this reason.
    #[error("{0}")]
    Unreadable(String),
}

fn identity(seen: Observation) -> std::result::Result<Identity, Unobservable> {
    match seen {
        Observation::Seen(identity) => Ok(identity),
        Observation::Gone => Err(Unobservable::Ended),
        Observation::Unreadable(why) => Err(Unobservable::Unreadable(why)),
    }
}
