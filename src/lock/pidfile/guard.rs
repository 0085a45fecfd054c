//! A pid file that is ours, for as long as it is, and the process that it names.

use std::path::Path;

use super::record;
use super::staleness::Snapshot;
use crate::base::error::{Context, Error, Result};
use crate::base::failpoint::Failpoint;
use crate::lock::location::Location;
use crate::lock::temp_name::{OwnName, PrivateName};
use crate::lock::{Guard, Loss, Ownership};
use crate::system::identity::{Observation, Pid};
use crate::system::storage;
use crate::system::{Claim, Facts, Open, World};

/// How the private names of this kind end.
pub(super) const KIND: &str = "pidfile";
const NAME_A_LIVE_ONE: &str = "name a process that lives";
const USE_ANOTHER_KIND: &str = "use a lock of the kind `kernel`";

/// The process that a file will name.
#[derive(Debug)]
pub(super) enum Subject<W: World> {
    /// The one that takes the lock.
    Myself,
    /// Another one, pinned.
    Other(W::Process),
}

impl<W: World> Subject<W> {
    /// Another process, which lives now.
    pub(super) fn other(location: &Location<W>, pid: u32) -> Result<Self> {
        let pid = ordinary(&location.path, pid)?;
        match location.world.pin(pid).doing("record a process in", &location.path)? {
            Some(process) => Ok(Self::Other(process)),
            None => Err(ended(&location.path)),
        }
    }

    /// What a file would say about it now.
    pub(super) fn claim(&self, location: &Location<W>) -> Result<record::Claim> {
        let Location { world, path, .. } = location;
        let identity = match self.observed(location)? {
            Observation::Seen(identity) => identity,
            Observation::Gone => return Err(ended(path)),
            Observation::Unreadable(why) => {
                return Err(Error::refused(path, format!("must say who holds it, and {why}"), USE_ANOTHER_KIND));
            }
        };
        // Readers elsewhere would take our shifted start time for another process's.
        if identity.pidfd_inode.is_none() && !world.has_common_start_times() {
            let found = "must say when its holder started, and start times are shifted in this time namespace";
            return Err(Error::refused(path, found, USE_ANOTHER_KIND));
        }
        Ok(record::Claim { identity, nonce: world.nonce().doing("make a name beside", path)? })
    }

    fn observed(&self, location: &Location<W>) -> Result<Observation> {
        let world = &*location.world;
        match self {
            Self::Other(process) => Ok(world.observe(process)),
            // Asked for each time: after a fork it is another.
            Self::Myself => {
                let pinned = world.pin(ordinary(&location.path, world.own_pid())?);
                let pinned = pinned.doing("record this process in", &location.path)?;
                Ok(pinned.map_or(Observation::Gone, |process| world.observe(&process)))
            }
        }
    }
}

fn ordinary(path: &Path, pid: u32) -> Result<Pid> {
    let found = || format!("cannot record pid {pid}, which is no ordinary process");
    Pid::new(pid).ok_or_else(|| Error::refused(path, found(), USE_ANOTHER_KIND))
}

fn ended(path: &Path) -> Error {
    Error::refused(path, "is meant for a process that has ended", NAME_A_LIVE_ONE)
}

/// The held lock.
#[derive(Debug)]
pub struct PidfileGuard<W: World> {
    claimed: Claimed<W>,
}

/// A file that holds our record, locked and open, so that its inode stays its own.
#[derive(Debug)]
pub(super) struct Claimed<W: World> {
    name: OwnName<W>,
    // Held for its lock, which goes with it.
    _node: W::Node,
    pub(super) facts: Facts,
    record: Vec<u8>,
}

impl<W: World> Claimed<W> {
    /// Writes a complete record under a private name.
    pub(super) fn write(location: &Location<W>, private: &PrivateName<W>, claim: &record::Claim) -> Result<Self> {
        let Location { world, directory, path, .. } = location;
        let node = world.open(directory, private.name(), Open::CreateNew).doing("make a file beside", path)?;
        Self::fill(location, node, claim)
    }

    /// Fills a new file. It is locked before it says anything, so that nobody who reads it finds it unlocked.
    pub(super) fn fill(location: &Location<W>, node: W::Node, claim: &record::Claim) -> Result<Self> {
        let Location { world, path, .. } = location;
        if world.try_lock(&node).doing("lock a file beside", path)? == Claim::Busy {
            return Err(Error::refused(
                path,
                "has a new file beside it that somebody else has locked already",
                "find out which program locks the files of others there, then try again",
            ));
        }
        let record = claim.render().into_bytes();
        storage::append_all(&**world, &node, &record).doing("write a file beside", path)?;
        let facts = world.facts(&node).doing("examine a file beside", path)?;
        Ok(Self { name: OwnName::not_yet(location), _node: node, facts, record })
    }

    /// The same, now that it has the lock's name.
    pub(super) fn published(mut self) -> PidfileGuard<W> {
        self.name.note_published();
        PidfileGuard { claimed: self }
    }

    /// Removes the file, if it is still ours. Nobody of this protocol replaces it meanwhile: it is locked.
    fn withdraw(&mut self) -> Result<()> {
        let Self { name, facts, record, .. } = self;
        name.withdraw(Failpoint::PidfileReleasing, Failpoint::PidfileMaker, |location, there| {
            let is_protected = location.world.is_protected(Failpoint::PidfileOwnInodeOnRelease);
            Ok(is_ours(location, there, facts, record)? || !is_protected)
        })
    }
}

/// Whether what the lock's name stands for is our inode, with what we wrote.
fn is_ours<W: World>(location: &Location<W>, there: &Facts, own: &Facts, record: &[u8]) -> Result<bool> {
    Ok(there.is_same_inode(own) && Snapshot::take(location)?.is_some_and(|snapshot| snapshot.shows(own, record)))
}

impl<W: World> Drop for Claimed<W> {
    fn drop(&mut self) {
        // Who cares for a failure calls `release`.
        drop(self.withdraw());
    }
}

impl<W: World> Guard for PidfileGuard<W> {
    fn path(&self) -> &Path {
        &self.claimed.name.location().path
    }

    fn check(&self) -> Result<Ownership> {
        let Claimed { name, facts, record, .. } = &self.claimed;
        let location = name.location();
        Ok(match location.facts_by_path().doing("examine", &location.path)? {
            None => Ownership::Lost(Loss::Removed),
            Some(there) if is_ours(location, &there, facts, record)? => Ownership::Held,
            Some(_) => Ownership::Lost(Loss::Replaced),
        })
    }

    fn release(mut self) -> Result<()> {
        self.claimed.withdraw()
    }
}
