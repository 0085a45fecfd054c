//! Another program that may hold a home beside the watchers of this one.
//!
//! # Theory
//!
//! Another program may watch the same homes, with a lock and a beacon of its own that know nothing of ours. The core knows
//! it by this contract alone, and an adapter says what stands behind it: [`ForeignHolder`] observes who holds the
//! foreign lock, proves who that is, and takes the lock as a [`ForeignClaim`] for as long as a watcher of ours holds the home.
//! So the foreign program finds a holder where ours watches, and ours finds one where the foreign program does.
//!
//! What was seen is plain data ([`ForeignObservation`]), which [`super::verdict::judge`] decides on without asking
//! again. A home that no other program watches has no foreign holder, and nothing of this is called.
//!
//! If this is wrong, two programs serve one home, or a process that is not the home's watcher is signalled.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::terminate::{Proven, Refusal};
use crate::base::error::Result;
use crate::lock::{Attempt, Ownership};
use crate::system::World;
use crate::system::identity::Pid;

/// A program that may hold this home by a lock of its own.
pub trait ForeignHolder<W: World>: fmt::Debug + Send + Sync {
    /// What its watchers are called: in a sentence, and in short.
    fn kind(&self) -> ForeignKind;

    /// Where the foreign lock is.
    fn lock(&self) -> PathBuf;

    /// Who holds the foreign lock. `None`: nobody, or nobody who lives.
    fn observe(&self, world: &Arc<W>) -> Option<ForeignObservation>;

    /// When its watcher beat last, in nanoseconds since 1970.
    fn last_beat_ns(&self, world: &W) -> Option<i64>;

    /// Takes the foreign lock. The caller has the home's own lock.
    ///
    /// # Errors
    /// Something stands in its place that is no lock of this kind, and those of the system.
    fn claim(&self, world: &Arc<W>) -> Result<Attempt<Box<dyn ForeignClaim>, ()>>;

    /// Pins who was observed, and proves that it is this home's watcher. `Ok(None)`: it is gone, or another one has the lock.
    ///
    /// # Errors
    /// A refusal, with the reason why it is not proven.
    fn prove(
        &self,
        world: &Arc<W>,
        seen: &ForeignObservation,
    ) -> std::result::Result<Option<Proven<W::Process>>, Refusal>;

    /// Clears the record of a process that has the pid of this home's watcher and is another one. The process itself is left
    /// alone. Says whether that was so.
    ///
    /// # Errors
    /// Those of the system.
    fn clear_record(&self, world: &Arc<W>, seen: &ForeignObservation) -> Result<bool>;

    /// How long its watcher has for leaving when it is asked to. It is never killed.
    fn leaves_within(&self) -> Duration;

    /// What a watcher of ours that is started for this home has to find in its environment.
    fn variables(&self) -> Vec<(&'static str, &OsStr)>;
}

/// The foreign lock, held for as long as this value lives.
pub trait ForeignClaim: Send + Sync {
    /// Whether nobody has taken the home by the foreign lock since. A lock that was removed is taken again.
    ///
    /// # Errors
    /// I/O errors; they say nothing about the holder.
    fn check(&self) -> io::Result<Ownership<Usurper>>;

    /// Shows a sign of life to the foreign program.
    ///
    /// # Errors
    /// Those of the file system.
    fn beat(&self) -> io::Result<()>;

    /// Gives the foreign lock up, if it is still ours.
    ///
    /// # Errors
    /// Those of the system. What is left is dead as soon as this process is.
    fn give_up(&self) -> Result<()>;
}

/// What the watchers of a foreign program are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForeignKind {
    /// In a sentence.
    pub name: &'static str,
    /// In short.
    pub short: &'static str,
}

/// Another process, which has taken the home by the foreign lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usurper {
    /// Its pid.
    pub pid: u32,
    /// What it has taken, for people.
    pub lock: &'static str,
}

impl fmt::Display for Usurper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "pid {} has taken {}", self.pid, self.lock)
    }
}

/// What was seen of a foreign holder, at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignObservation {
    /// Its pid, if it has told.
    pub pid: Option<Pid>,
    /// What it is, for people: `pid 12, this home's watcher of the shell scripts`.
    pub name: String,
    /// Whether it is this home's watcher.
    pub state: ForeignState,
    /// The age of its last beat; `None` if there was none.
    pub last_beat: Option<Duration>,
    /// For how long it has had the lock, if that can be told.
    pub held_for: Option<Duration>,
}

/// Whether a foreign holder is this home's watcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForeignState {
    /// It has just taken the lock, and will tell what it is.
    Starting,
    /// It is, as `pid`. Unless the observer has a bound of its own, it is stuck without a beat for so long.
    Proven {
        /// The watcher.
        pid: Pid,
        /// The bound for "stuck".
        bound: Duration,
    },
    /// Nobody can tell, and why not.
    Unclear(String),
}

impl ForeignObservation {
    /// Whether it is proven to be this home's watcher.
    pub fn is_proven(&self) -> bool {
        matches!(self.state, ForeignState::Proven { .. })
    }
}

impl fmt::Display for ForeignObservation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)
    }
}
