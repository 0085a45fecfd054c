//! One look at a pid file: what it is, what it says, and what lives under its pid.

use std::ffi::OsStr;
use std::io;

use super::record::{self, Record};
use super::staleness::{Inside, Sighting, StartTimes, Verdict, judge};
use crate::base::error::{Context, Error, Result};
use crate::base::failpoint::Failpoint;
use crate::lock::location::{Spot, description, found};
use crate::system::identity::{Observation, Pid, Sameness};
use crate::system::storage;
use crate::system::{Facts, Kind, Open, World};

/// A file, open, and what it said when it was looked at.
#[derive(Debug)]
pub(super) struct Sight<W: World> {
    pub(super) node: W::Node,
    pub(super) facts: Facts,
    bytes: Vec<u8>,
    pub(super) record: Record,
}

impl<W: World> Sight<W> {
    /// Looks at what has the lock's name. `None`: nothing has.
    ///
    /// # Errors
    /// What is no regular file, and those of the system.
    pub(super) fn look(spot: &Spot<W>) -> Result<Option<Self>> {
        let refused = |kind| Error::refused(&spot.path, description(kind), "use the path of a regular file or of none");
        match spot.facts().doing("examine", &spot.path)? {
            None => Ok(None),
            // A device is not even opened: for some that has an effect.
            Some(facts) if facts.kind != Kind::File => Err(refused(facts.kind)),
            Some(_) => match Self::open(spot, &spot.name).doing("read", &spot.path)? {
                Some(sight) if sight.facts.kind != Kind::File => Err(refused(sight.facts.kind)),
                sight => Ok(sight),
            },
        }
    }

    /// Looks at another name in the same directory.
    pub(super) fn open(spot: &Spot<W>, name: &OsStr) -> io::Result<Option<Self>> {
        let world = &*spot.world;
        let Some(node) = found(world.open(&spot.directory, name, Open::Read))? else { return Ok(None) };
        let facts = world.facts(&node)?;
        let bytes = match facts.kind {
            Kind::File => storage::read_from(world, &node, 0, record::LIMIT + 1)?,
            _ => Vec::new(),
        };
        Ok(Some(Self { record: record::parse(&bytes), node, facts, bytes }))
    }

    /// Whether this is that inode with those bytes.
    pub(super) fn shows(&self, facts: &Facts, bytes: &[u8]) -> bool {
        self.facts.is_same_inode(facts) && self.bytes == bytes
    }

    /// Whether both are the same inode with the same bytes.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        self.shows(&other.facts, &other.bytes)
    }

    /// The pid that it names.
    pub(super) fn pid(&self) -> Option<u32> {
        match &self.record {
            Record::Ours(claim) => Some(claim.identity.pid.get()),
            Record::Bare(pid, _) => Some(*pid),
            Record::Empty | Record::Garbled(_) => None,
        }
    }

    /// Whether it has an owner.
    pub(super) fn judge(&self, spot: &Spot<W>) -> Verdict {
        let world = &*spot.world;
        let seen = self.pid().map_or(Observation::Gone, |pid| observed(world, pid));
        let inside = match (&self.record, &seen) {
            (Record::Bare(pid, _), Observation::Gone) => inside(world, *pid),
            _ => Inside::Nobody,
        };
        let start_times = if world.has_common_start_times() { StartTimes::Common } else { StartTimes::Shifted };
        let verdict = judge(&self.record, &Sighting { seen: seen.clone(), inside, start_times }, &world.standpoint());
        match (verdict, self.pid()) {
            // What must not be believed, for the test that shows why: that whoever has the pid is its owner.
            (Verdict::Dead(_), Some(pid))
                if matches!(seen, Observation::Seen(_)) && !world.is_protected(Failpoint::PidfileIdentity) =>
            {
                Verdict::Held(Some(pid), Sameness::Unknown("its pid is alive".to_owned()))
            }
            (verdict, _) => verdict,
        }
    }
}

/// What lives under a number. One that has ended and waits to be reaped is gone.
fn observed<W: World>(world: &W, number: u32) -> Observation {
    let unreadable = |error| Observation::Unreadable(format!("pid {number} cannot be examined: {error}"));
    match Pid::new(number) {
        Some(pid) => match world.pin(pid) {
            Ok(Some(process)) => world.observe(&process),
            Ok(None) => Observation::Gone,
            Err(error) => unreadable(error),
        },
        // Process 1 ends last of all.
        None => Observation::Unreadable(format!("pid {number} is the first process")),
    }
}

/// Who has a number in a pid namespace inside ours: a daemon in a container writes the number that it has there.
fn inside<W: World>(world: &W, number: u32) -> Inside {
    match world.processes() {
        Ok(all) => all
            .into_iter()
            .find(|&outer| outer != number && world.innermost_pid(outer) == Some(number))
            .map_or(Inside::Nobody, Inside::Somebody),
        Err(error) => Inside::Unknown(format!("the processes cannot be listed: {error}")),
    }
}
