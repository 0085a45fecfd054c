//! Writing: the journal's lock, its limits, one segment, and which segments are no longer written to.
//!
//! The lock is a kernel lock on an empty file, taken through a descriptor of its own for each writing and given up by
//! closing it, so a writer that dies gives it up too. Writers hold it for one append; whoever waits for it, waits at most
//! so long. A file that was removed and made anew under a waiter is noticed: the lock counts only while its name still
//! leads to it.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::error::JournalError;
use super::segment::SegmentName;
use crate::base::error::{Context, Error};
use crate::base::failpoint;
use crate::base::failpoint::Failpoint;
use crate::base::wait_until::wait_until;
use crate::system::storage;
use crate::system::{Claim, Facts, Kind, Open, World};

/// The name of the lock in the journal's directory.
const LOCK: &str = "lock";
/// How long to pause between two tries.
const PAUSE: Duration = Duration::from_millis(1);

/// How much a journal may hold, and how long a writer waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// At this size, in bytes, a segment is full and the next one is begun.
    pub segment_bytes: u64,
    /// The most bytes of all segments together.
    pub journal_max: u64,
    /// How long a writer waits for the others.
    pub lock_wait: Duration,
}

impl Limits {
    /// The limits of a journal of at most this many bytes. Its segments are small enough that a full journal can be
    /// emptied one by one, although the newest always stays.
    pub fn of_journal(journal_max: u64) -> Self {
        let usual = Self::default();
        Self { journal_max, segment_bytes: usual.segment_bytes.min(journal_max / 4), ..usual }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { segment_bytes: 4 << 20, journal_max: 256 << 20, lock_wait: Duration::from_secs(2) }
    }
}

/// The held lock. Dropping it gives it up.
pub(crate) struct JournalLock<W: World> {
    _node: W::Node,
}

impl<W: World> JournalLock<W> {
    /// Takes the lock, waiting at most so long.
    pub(crate) fn take(world: &W, directory: &W::Node, path: &Path, at_most: Duration) -> Result<Self, JournalError> {
        let path = path.join(LOCK);
        let mut opened = None;
        let taken = wait_until(at_most, PAUSE, || Self::attempt(world, directory, &path, &mut opened).transpose());
        match taken {
            Some(taken) => Ok(Self { _node: taken? }),
            None => Err(JournalError::Busy { path, waited: at_most }),
        }
    }

    /// Tries once. The opened file is kept between tries while it is still the one at the path.
    fn attempt(
        world: &W,
        directory: &W::Node,
        path: &Path,
        opened: &mut Option<W::Node>,
    ) -> Result<Option<W::Node>, Error> {
        let node = match opened.take() {
            Some(node) => node,
            None => world.open(directory, OsStr::new(LOCK), Open::Lock).doing("open", path)?,
        };
        let facts = world.facts(&node).doing("examine", path)?;
        if facts.kind != Kind::File {
            return Err(Error::refused(path, "this is not a regular file", "move it away; it is made anew"));
        }
        if !failpoint::is_protected(Failpoint::JournalLock) {
            return Ok(Some(node));
        }
        let claim = world.try_lock(&node).doing("lock", path)?;
        let is_at_path = world.facts_at(directory, OsStr::new(LOCK)).is_ok_and(|named| named.is_same_inode(&facts));
        match claim {
            Claim::Taken if is_at_path => return Ok(Some(node)),
            Claim::Busy if is_at_path => *opened = Some(node),
            Claim::Taken | Claim::Busy => {}
        }
        Ok(None)
    }
}

/// At which step a write failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Before all bytes were taken. What was taken stays where it is.
    Write(io::Error),
    /// All bytes were taken, but nobody knows whether they are on disk.
    Sync(io::Error),
}

/// The segment that is open for appending.
pub(crate) struct Writer<W: World> {
    active: Option<Active<W>>,
    /// Up to this one, segments of its generation are never written to again by this process.
    left: Option<SegmentName>,
}

struct Active<W: World> {
    name: SegmentName,
    inode: Facts,
    node: W::Node,
    durability: NameDurability,
}

/// Whether a segment's name is known to survive the loss of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NameDurability {
    Unknown,
    Synced,
}

impl<W: World> Default for Writer<W> {
    fn default() -> Self {
        Self { active: None, left: None }
    }
}

impl<W: World> Writer<W> {
    /// Whether this process has given up a segment.
    pub(crate) fn has_left(&self, name: SegmentName) -> bool {
        self.left.is_some_and(|left| left.generation == name.generation && name.number <= left.number)
    }

    /// The lowest number in a generation that this process has not used yet, not even for a segment that is gone.
    pub(crate) fn next_number(&self, generation: u64) -> u32 {
        let used = [self.left, self.active.as_ref().map(|active| active.name)];
        let numbers = used.into_iter().flatten().filter(|name| name.generation == generation).map(|name| name.number);
        numbers.max().map_or(0, |number| number.saturating_add(1))
    }

    /// Appends to a segment and makes bytes and name durable. `named` is what has its name now, if anything has.
    /// Returns what the segment is then.
    pub(crate) fn write(
        &mut self,
        world: &W,
        directory: &W::Node,
        (name, named): (SegmentName, Option<Facts>),
        bytes: &[u8],
    ) -> Result<Facts, Failure> {
        let written = self.try_write(world, directory, (name, named), bytes);
        if let Err(failure) = &written {
            self.active = None;
            if matches!(failure, Failure::Sync(_)) {
                self.left = Some(name);
            }
        }
        written
    }

    fn try_write(
        &mut self,
        world: &W,
        directory: &W::Node,
        (name, named): (SegmentName, Option<Facts>),
        bytes: &[u8],
    ) -> Result<Facts, Failure> {
        let mut active = self.open(world, directory, name, named).map_err(Failure::Write)?;
        storage::append_all(world, &active.node, bytes).map_err(Failure::Write)?;
        failpoint::reach(Failpoint::JournalWritten).map_err(Failure::Write)?;
        sync(world, &active.node).map_err(Failure::Sync)?;
        failpoint::reach(Failpoint::JournalSynced).map_err(Failure::Write)?;
        if active.durability == NameDurability::Unknown && failpoint::is_protected(Failpoint::JournalSyncDirectory) {
            world.sync_all(directory).map_err(Failure::Sync)?;
            active.durability = NameDurability::Synced;
            failpoint::reach(Failpoint::JournalDirectorySynced).map_err(Failure::Write)?;
        }
        let before = named.map_or(0, |named| named.size);
        let facts = Facts { size: before + bytes.len() as u64, ..active.inode };
        self.active = Some(active);
        Ok(facts)
    }

    /// The open segment, if it still is the one of that name; else it is opened or made.
    fn open(
        &mut self,
        world: &W,
        directory: &W::Node,
        name: SegmentName,
        named: Option<Facts>,
    ) -> io::Result<Active<W>> {
        let file = name.to_os();
        let active = self.active.take();
        if let Some(active) = active.filter(|active| active.name == name)
            && named.is_some_and(|named| named.is_same_inode(&active.inode))
        {
            return Ok(active);
        }
        if named.is_none() {
            // Made first and opened second: only a descriptor for appending can never write over another's bytes.
            drop(world.open(directory, &file, Open::CreateNew)?);
            failpoint::reach(Failpoint::JournalSegmentMade)?;
        }
        let node = world.open(directory, &file, Open::Append)?;
        let inode = world.facts(&node)?;
        if inode.kind != Kind::File {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"));
        }
        Ok(Active { name, inode, node, durability: NameDurability::Unknown })
    }
}

fn sync<W: World>(world: &W, node: &W::Node) -> io::Result<()> {
    if !failpoint::is_protected(Failpoint::JournalSyncBeforeAnswer) {
        return Ok(());
    }
    let synced = failpoint::reach(Failpoint::JournalSync).and_then(|()| world.sync_data(node));
    // What must never be done: to ask again and to trust the answer.
    if failpoint::is_protected(Failpoint::JournalNewSegmentAfterFailedSync) { synced } else { world.sync_data(node) }
}
