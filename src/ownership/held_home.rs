//! The holder's side of the singleton.
//!
//! # Theory
//!
//! Acquiring: take the kernel lock, and that of a foreign program that may hold this home; make the generation grow,
//! durably; write the owner record. Only then is there a holder, and only then may anything else happen. A process that dies between
//! these steps leaves the lock free (the kernel sees to that), perhaps a generation that nobody used, and the record of
//! its predecessor: nothing that anyone would have to clean up.
//!
//! Holding: before every side effect the holder asks [`Holding::check`] whether the paths still name what it locked,
//! the generation is still its own, and the record still carries its nonce. If not, somebody has taken over, by
//! whatever means, and the holder leaves without touching the survivor's files.
//!
//! If this is wrong, two watchers announce the same wake, or none does.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::foreign_holder::{ForeignClaim, ForeignHolder, Usurper};
use super::home_lock::{self, HomeLock, LockLocation, Lost};
use super::observe;
use super::records::{self, Beat, Departure, Life, Owner};
use crate::base::error::{Context, Error, Result};
use crate::base::escape::hexadecimal;
use crate::base::failpoint::{Failpoint, is_protected, reach};
use crate::layout::paths::{Home, names};
use crate::lock::{Attempt, Ownership};
use crate::system::identity::{Identity, Observation, Pid, Sameness};
use crate::system::storage::{self, Durability};
use crate::system::{Facts, Kind, World};

/// What the holder records of its own settings, so that observers judge it by its own measure.
#[derive(Debug, Clone, Copy)]
pub struct Rhythm {
    /// Its poll interval.
    pub poll: Duration,
    /// Its bound for "stuck".
    pub stuck_after: Duration,
    /// The cap on `history.jsonl`, in bytes.
    pub history_max: u64,
}

/// The held home.
pub struct Holding<W: World> {
    world: Arc<W>,
    /// Where a foreign program may hold the home. It stands before the lock, so that it goes before it.
    foreign: Option<Box<dyn ForeignClaim>>,
    lock: HomeLock<W>,
    watch: W::Node,
    watch_path: std::path::PathBuf,
    history_max: u64,
    owner: Owner,
    /// The records as they were when they were last read and found to be ours. Reading them at every look would wake
    /// whoever listens to file events, this process first.
    verified: Mutex<Option<Records>>,
}

/// What shows that the records have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Records {
    owner: Option<Facts>,
    generation: Option<Facts>,
    /// Which directory the journal is: device and inode.
    journal: Option<(u64, u64)>,
}

impl Records {
    fn look<W: World>(world: &W, watch: &W::Node) -> io::Result<Self> {
        let facts = |name: &str| match world.facts_at(watch, OsStr::new(name)) {
            Ok(facts) => Ok(Some(facts)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        let journal = facts(names::WAKES)?.map(|facts| (facts.device, facts.inode));
        Ok(Self { owner: facts(names::OWNER)?, generation: facts(names::GENERATION)?, journal })
    }
}

/// Why a holder has to leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Eviction {
    /// The lock's own paths have changed.
    Lock(Lost),
    /// Another generation is in force.
    Generation(Option<u64>),
    /// The directory of the journal was moved away or replaced: what is written there would reach nobody.
    Journal,
    /// A foreign watcher has taken the home.
    Foreign(Usurper),
    /// Another holder has recorded itself.
    Owner {
        /// Its pid.
        pid: Pid,
        /// Its generation.
        generation: u64,
    },
}

impl fmt::Display for Eviction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lock(Lost::DirectoryGone) => formatter.write_str("the home's state directory is gone"),
            Self::Lock(Lost::DirectoryReplaced) => formatter.write_str("the home's state directory was replaced"),
            Self::Lock(Lost::FileGone) => formatter.write_str("the lock file was removed"),
            Self::Lock(Lost::FileReplaced) => formatter.write_str("the lock file was replaced"),
            Self::Foreign(usurper) => usurper.fmt(formatter),
            Self::Journal => formatter.write_str("the journal of wakes was moved away"),
            Self::Generation(Some(number)) => write!(formatter, "generation {number} is in force"),
            Self::Generation(None) => formatter.write_str("the generation is no longer recorded"),
            Self::Owner { pid, generation } => write!(formatter, "pid {pid} took over (generation {generation})"),
        }
    }
}

impl<W: World> Holding<W> {
    /// Takes a home whose directories exist. It is also taken by the lock of a foreign program that may hold it; if somebody
    /// has that, it is busy, and nothing has changed.
    ///
    /// # Errors
    /// Everything that makes it unsafe or impossible to hold this home; nothing has been announced then.
    pub fn acquire(
        world: &Arc<W>,
        (home, foreign): (&Home, Option<&dyn ForeignHolder<W>>),
        place: &LockLocation,
        rhythm: Rhythm,
    ) -> Result<Attempt<Self, ()>> {
        let lock = match HomeLock::try_take(world, place)? {
            Attempt::Taken(lock) => lock,
            Attempt::Busy(()) => return Ok(Attempt::Busy(())),
        };
        let watch_path = home.watch();
        let watch = world.open_directory(&watch_path).doing("open the directory", &watch_path)?;
        home_lock::check_private(&watch_path, &world.facts(&watch).doing("examine", &watch_path)?)?;
        let predecessor = read_owner(world.as_ref(), &watch);
        if let Some(predecessor) = &predecessor {
            check_same_host(place, home, predecessor)?;
            check_same_lock(world.as_ref(), place, home, predecessor)?;
        }
        let foreign = match foreign.map(|foreign| foreign.claim(world)).transpose()? {
            Some(Attempt::Taken(claim)) => Some(claim),
            Some(Attempt::Busy(())) => return Ok(Attempt::Busy(())),
            None => None,
        };
        let generation = next_generation(world.as_ref(), &watch, predecessor.as_ref())
            .doing("read the generation in", &watch_path)?;
        reach(Failpoint::HoldingGeneration).doing("record the generation in", &watch_path)?;
        storage::replace(
            world.as_ref(),
            &watch,
            names::GENERATION,
            format!("{generation}\n").as_bytes(),
            Durability::Power,
        )
        .doing("replace", watch_path.join(names::GENERATION))?;
        let owner = new_owner(world.as_ref(), home, place, generation, rhythm)?;
        let holding = Self {
            world: Arc::clone(world),
            foreign,
            lock,
            watch,
            watch_path,
            history_max: rhythm.history_max,
            owner,
            verified: Mutex::default(),
        };
        reach(Failpoint::HoldingOwner).doing("record the owner in", &holding.watch_path)?;
        holding.write_owner().doing("replace", holding.watch_path.join(names::OWNER))?;
        reach(Failpoint::HoldingAcquired).doing("hold", &holding.watch_path)?;
        if let Some(predecessor) = predecessor {
            holding.bury(&predecessor);
        }
        Ok(Attempt::Taken(holding))
    }

    /// Whether this process still is the holder.
    ///
    /// # Errors
    /// Those of the system, which prove nothing: the holder keeps its lock and tries again.
    pub fn check(&self) -> io::Result<Ownership<Eviction>> {
        if !is_protected(Failpoint::HoldingEviction) {
            return Ok(Ownership::Held);
        }
        if let Ownership::Lost(lost) = self.lock.check()? {
            return Ok(Ownership::Lost(Eviction::Lock(lost)));
        }
        if let Some(claim) = &self.foreign
            && let Ownership::Lost(usurper) = claim.check()?
        {
            return Ok(Ownership::Lost(Eviction::Foreign(usurper)));
        }
        let records = Records::look(self.world.as_ref(), &self.watch)?;
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if *verified == Some(records) {
            return Ok(Ownership::Held);
        }
        if verified.is_some_and(|before| before.journal != records.journal) {
            return Ok(Ownership::Lost(Eviction::Journal));
        }
        let answer = self.read_records();
        if matches!(answer, Ok(Ownership::Held)) {
            // As they were before the reading: what changes in between is read the next time.
            *verified = Some(records);
        }
        answer
    }

    /// Reads who holds the home according to the records, and mends ours.
    fn read_records(&self) -> io::Result<Ownership<Eviction>> {
        let recorded = read_owner(self.world.as_ref(), &self.watch);
        if let Some(other) = recorded.as_ref().filter(|other| self.is_successor(other)) {
            return Ok(Ownership::Lost(Eviction::Owner { pid: other.pid(), generation: other.generation }));
        }
        let generation = read_generation(self.world.as_ref(), &self.watch)?;
        if generation != Some(self.owner.generation) {
            // Whoever made it grow records itself next, and then there is a name to tell.
            let successor = read_owner(self.world.as_ref(), &self.watch).filter(|other| self.is_successor(other));
            return Ok(Ownership::Lost(successor.map_or(Eviction::Generation(generation), |other| Eviction::Owner {
                pid: other.pid(),
                generation: other.generation,
            })));
        }
        // A record that is missing, damaged or of an earlier life names no other holder. It is ours to mend.
        let is_ours = recorded.is_some_and(|recorded| recorded.nonce == self.owner.nonce);
        if is_ours { Ok(Ownership::Held) } else { self.write_owner().map(|()| Ownership::Held) }
    }

    fn is_successor(&self, other: &Owner) -> bool {
        other.nonce != self.owner.nonce && other.generation >= self.owner.generation
    }

    /// Publishes a beat: in the kernel, where no disk is needed.
    ///
    /// # Errors
    /// Those of the system.
    pub fn publish_beat(&self) -> io::Result<()> {
        self.lock.publish_beat(self.world.now().monotonic)
    }

    /// The record of a beat now, to be written by [`Holding::write_beat`].
    pub fn new_beat(&self, counter: u64, poll: Duration, degraded: Vec<String>) -> Beat {
        let now = self.world.now();
        Beat {
            schema: 1,
            generation: self.owner.generation,
            nonce: self.owner.nonce.clone(),
            pid: self.owner.pid().get(),
            counter,
            at: now.wall_ms,
            boot_id: self.owner.identity.boot_id.clone(),
            monotonic_ms: u64::try_from(now.monotonic.as_millis()).unwrap_or(u64::MAX),
            poll_ms: millis(poll),
            degraded,
        }
    }

    /// Writes `beat.json`, and shows a foreign program a sign of life. It is not synced: after a power cut it would be of
    /// another boot anyway.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_beat(&self, beat: &Beat) -> io::Result<()> {
        // First, for it needs no room on the disk.
        let shown = self.foreign.as_ref().map_or(Ok(()), |claim| claim.beat());
        let content = serde_json::to_vec(beat).map_err(io::Error::other)?;
        storage::replace(self.world.as_ref(), &self.watch, names::BEAT, &content, Durability::Process)?;
        shown
    }

    /// Leaves as the holder: marks the record and writes the line of this life. The lock goes with the process.
    ///
    /// # Errors
    /// Those of the file system; the lock is released all the same.
    pub fn leave(&self, how: &str) -> io::Result<()> {
        let left = Some(Departure { at: self.world.now().wall_ms, how: how.to_owned() });
        let written = self.write(&Owner { left, ..self.owner.clone() }).and_then(|()| self.record_life(how));
        self.give_claim_up();
        written
    }

    /// Other threads may keep this value until the process ends, so the foreign lock is given up by itself.
    fn give_claim_up(&self) {
        if let Some(Err(error)) = self.foreign.as_ref().map(|claim| claim.give_up()) {
            tracing::warn!("{error}");
        }
    }

    /// Leaves as one who was evicted: only the line of this life is written, and only if the directory is still there.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn give_way(&self, eviction: &Eviction) -> io::Result<()> {
        self.give_claim_up();
        let is_still_ours = match self.world.facts_of_path(&self.watch_path) {
            Ok(facts) => facts.is_same_inode(&self.world.facts(&self.watch)?),
            Err(_) => false,
        };
        if is_still_ours { self.record_life(&format!("evicted: {eviction}")) } else { Ok(()) }
    }

    /// The record of this holder.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Our own directory in the home.
    pub fn watch(&self) -> &W::Node {
        &self.watch
    }

    /// The path of our own directory.
    pub fn watch_path(&self) -> &Path {
        &self.watch_path
    }

    fn write_owner(&self) -> io::Result<()> {
        self.write(&self.owner)
    }

    fn write(&self, owner: &Owner) -> io::Result<()> {
        let content = serde_json::to_vec(owner).map_err(io::Error::other)?;
        storage::replace(self.world.as_ref(), &self.watch, names::OWNER, &content, Durability::Power)
    }

    fn record_life(&self, how: &str) -> io::Result<()> {
        let last_beat = read_beat(self.world.as_ref(), &self.watch)
            .filter(|beat| beat.nonce == self.owner.nonce)
            .map(|beat| beat.at);
        records::add_life(self.world.as_ref(), &self.watch, &self.life(&self.owner, how, last_beat), self.history_max)
    }

    /// Writes the line of a predecessor that could not do it itself. History is for people: failing costs only that.
    fn bury(&self, predecessor: &Owner) {
        if predecessor.left.is_some() {
            return;
        }
        let last_beat = read_beat(self.world.as_ref(), &self.watch)
            .filter(|beat| beat.nonce == predecessor.nonce)
            .map(|beat| beat.at);
        let life = self.life(predecessor, "killed or crashed", last_beat);
        if let Err(error) = records::add_life(self.world.as_ref(), &self.watch, &life, self.history_max) {
            tracing::warn!("cannot write history.jsonl: {error}");
        }
    }

    fn life(&self, owner: &Owner, how: &str, last_beat: Option<i64>) -> Life {
        Life {
            schema: 1,
            generation: owner.generation,
            pid: owner.pid().get(),
            started: owner.since,
            ended: self.world.now().wall_ms,
            how: how.to_owned(),
            last_beat,
        }
    }
}

/// A lock in a local directory keeps out this machine's processes only. The home itself may be shared, so a record
/// of another machine that did not leave keeps us out too, until a person says that it is dead.
fn check_same_host(place: &LockLocation, home: &Home, predecessor: &Owner) -> Result<()> {
    let own = crate::system::platform::host_name();
    if *place == LockLocation::inside(home) || predecessor.left.is_some() || predecessor.host == own {
        return Ok(());
    }
    let path = home.ours(names::OWNER);
    let found = format!("machine {} watches this home as pid {}", predecessor.host, predecessor.pid());
    let next = format!("stop it there; if that machine is gone for good: rm {}", path.display());
    Err(Error::refused(path, found, next))
}

/// Two locks in two places would make two holders. So a living predecessor with its lock elsewhere keeps us out.
fn check_same_lock<W: World>(world: &W, place: &LockLocation, home: &Home, predecessor: &Owner) -> Result<()> {
    if predecessor.left.is_some() || predecessor.runtime_dir.as_deref() == place.runtime_dir() {
        return Ok(());
    }
    match observe::sameness_of(world, predecessor, &crate::system::platform::own_standpoint()) {
        Sameness::Different(_) => Ok(()),
        Sameness::Same(_) | Sameness::Unknown(_) => Err(Error::refused(
            home.ours(names::OWNER),
            format!("pid {} watches this home with a lock in another place", predecessor.pid()),
            "give every command the same runtime_dir, best in the settings file",
        )),
    }
}

/// The record that is in force, if there is a valid one.
pub fn read_owner<W: World>(world: &W, watch: &W::Node) -> Option<Owner> {
    let bytes = storage::read(world, watch, OsStr::new(names::OWNER), records::LIMIT).ok()??;
    Owner::parse(&bytes).ok()
}

fn read_beat<W: World>(world: &W, watch: &W::Node) -> Option<Beat> {
    let bytes = storage::read(world, watch, OsStr::new(names::BEAT), records::LIMIT).ok()??;
    Beat::parse(&bytes)
}

/// The generation on record; `None` if there is none or it is damaged.
///
/// # Errors
/// Those of the system.
pub fn read_generation<W: World>(world: &W, watch: &W::Node) -> io::Result<Option<u64>> {
    const LONGEST: usize = 32;
    match storage::read(world, watch, OsStr::new(names::GENERATION), LONGEST) {
        Ok(bytes) => Ok(bytes.and_then(|bytes| std::str::from_utf8(&bytes).ok()?.strip_suffix('\n')?.parse().ok())),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
        Err(error) => Err(error),
    }
}

/// One more than every generation that left a trace, so that a lost counter never makes one come twice.
fn next_generation<W: World>(world: &W, watch: &W::Node, predecessor: Option<&Owner>) -> io::Result<u64> {
    let counted = read_generation(world, watch)?;
    let recorded = predecessor.map(|owner| owner.generation);
    let written = match world.open_directory_at(watch, OsStr::new(names::WAKES)) {
        Ok(wakes) => world.names(&wakes)?.iter().filter_map(|name| crate::journal::generation_in_name(name)).max(),
        Err(_) => None,
    };
    [counted, recorded, written]
        .into_iter()
        .flatten()
        .max()
        .unwrap_or(0)
        .checked_add(1)
        .ok_or_else(|| io::Error::other("the generation counter is at its end"))
}

fn new_owner<W: World>(world: &W, home: &Home, place: &LockLocation, generation: u64, rhythm: Rhythm) -> Result<Owner> {
    let now = world.now();
    let nonce = world.nonce().doing("draw a nonce for", home.watch())?;
    Ok(Owner {
        schema: 1,
        generation,
        nonce: hexadecimal(&nonce),
        identity: own_identity(world)?,
        time_namespace: crate::system::platform::own_standpoint().time_namespace,
        runtime_dir: place.runtime_dir().map(ToOwned::to_owned),
        host: crate::system::platform::host_name(),
        home: home.root().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        since: now.wall_ms,
        since_monotonic_ms: millis(now.monotonic),
        poll_ms: millis(rhythm.poll),
        stuck_after_ms: millis(rhythm.stuck_after),
        left: None,
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// This process's own identity.
///
/// # Errors
/// A process that cannot be examined by itself cannot hold a home: nobody could ever verify it.
pub fn own_identity<W: World>(world: &W) -> Result<Identity> {
    let number = world.own_pid();
    let pid = Pid::new(number).ok_or_else(|| Error::Failed(format!("cannot watch as pid {number}")))?;
    let pinned = world.pin(pid).doing("pin this process in", "/proc")?;
    match pinned.as_ref().map(|process| world.observe(process)) {
        Some(Observation::Seen(identity)) => Ok(identity),
        Some(Observation::Unreadable(why)) => Err(Error::Failed(format!("cannot record this process: {why}"))),
        Some(Observation::Gone) | None => {
            Err(Error::Failed("cannot record this process: it is not in /proc".to_owned()))
        }
    }
}

/// Makes the directories of a home: the state directory and ours, private to this user.
///
/// # Errors
/// Those of the system, and directories that are not ours alone.
pub fn prepare<W: World>(world: &W, home: &Home, place: &LockLocation) -> Result<()> {
    storage::make_directories(home.state())?;
    if world.facts_of_path(home.state()).doing("examine", home.state())?.kind == Kind::Link {
        let next = "give the directory itself with --state";
        return Err(Error::refused(home.state(), "is a symbolic link, which could be led elsewhere at any time", next));
    }
    let state = world.open_directory(home.state()).doing("open the directory", home.state())?;
    home_lock::check_private(home.state(), &world.facts(&state).doing("examine", home.state())?)?;
    make_directory(world, &state, names::WATCH).doing("make the directory", home.watch())?;
    let watch = world.open_directory(&home.watch()).doing("open the directory", home.watch())?;
    home_lock::check_private(&home.watch(), &world.facts(&watch).doing("examine", home.watch())?)?;
    for name in [names::WAKES, names::INBOX, names::WAITERS, names::LOG_DIRECTORY] {
        make_directory(world, &watch, name).doing("make the directory", home.ours(name))?;
    }
    home_lock::prepare(place)
}

fn make_directory<W: World>(world: &W, parent: &W::Node, name: &str) -> io::Result<()> {
    match world.make_directory(parent, OsStr::new(name)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            match world.facts_at(parent, OsStr::new(name))?.kind {
                Kind::Directory => Ok(()),
                _ => Err(io::Error::from(io::ErrorKind::NotADirectory)),
            }
        }
        made => made,
    }
}
