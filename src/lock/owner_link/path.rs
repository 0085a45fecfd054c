//! A path at which the protocol keeps a link: the lock itself, its `.steal`, or the `.steal.steal` of shell peers.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::error::{Context, Result};
use crate::base::failpoint::Failpoint;
use crate::lock::location::Location;
use crate::system::World;

/// Which of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// The lock.
    Lock,
    /// The mutex of those who reclaim the lock.
    Steal,
    /// The mutex of shell peers who reclaim the mutex. We never take it.
    StealOfSteal,
}

/// A step at which a test stops or ends a contender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The owner directory is complete; nothing points at it.
    Prepared,
    /// Our link has the name; nothing is checked yet.
    Linked,
    /// The dead record is about to be taken over.
    Swapping,
    /// It is taken over; nothing is checked yet.
    Swapped,
    /// Our link is about to be removed.
    Withdrawing,
    /// Our link is removed; the owner directory is not.
    Withdrawn,
}

/// One such path.
#[derive(Debug)]
pub(super) struct LinkPath<W: World> {
    pub(super) level: Level,
    location: Location<W>,
    /// The directory's absolute path, which is what targets begin with.
    parent: PathBuf,
}

impl<W: World> Clone for LinkPath<W> {
    fn clone(&self) -> Self {
        Self { level: self.level, location: self.location.clone(), parent: self.parent.clone() }
    }
}

impl<W: World> LinkPath<W> {
    /// The place of a lock.
    pub(super) fn of_lock(world: &Arc<W>, path: &Path) -> Result<Self> {
        let absolute = std::path::absolute(path).doing("find", path)?;
        let parent = absolute.parent().unwrap_or(Path::new("/")).to_owned();
        Ok(Self { level: Level::Lock, location: Location::open(world, path)?, parent })
    }

    /// The place of the mutex under which what is here is reclaimed. There is none above the last.
    pub(super) fn steal(&self) -> Self {
        let level = if self.level == Level::Lock { Level::Steal } else { Level::StealOfSteal };
        let location = Location {
            name: longer(&self.location.name, ".steal"),
            path: longer(self.location.path.as_os_str(), ".steal").into(),
            ..self.location.clone()
        };
        Self { level, location, parent: self.parent.clone() }
    }

    pub(super) fn world(&self) -> &W {
        &self.location.world
    }

    pub(super) fn directory(&self) -> &W::Node {
        &self.location.directory
    }

    pub(super) fn name(&self) -> &OsStr {
        &self.location.name
    }

    pub(super) fn path(&self) -> &Path {
        &self.location.path
    }

    pub(super) fn location(&self) -> &Location<W> {
        &self.location
    }

    /// With what the names of owner directories begin.
    pub(super) fn owner_prefix(&self) -> OsString {
        longer(self.name(), ".owner.")
    }

    /// The path of something beside the lock, as a link's target has it.
    pub(super) fn absolute(&self, name: &OsStr) -> PathBuf {
        self.parent.join(name)
    }

    /// The path of something beside the lock, for people.
    pub(super) fn beside(&self, name: &OsStr) -> PathBuf {
        self.path().with_file_name(name)
    }

    /// Marks a step of the protocol.
    pub(super) fn reach(&self, step: Step) -> Result<()> {
        let name = match (self.level, step) {
            (Level::Lock, Step::Prepared) => Failpoint::OwnerLinkPrepared,
            (Level::Lock, Step::Linked) => Failpoint::OwnerLinkLinked,
            (Level::Lock, Step::Swapping) => Failpoint::OwnerLinkSwapping,
            (Level::Lock, Step::Swapped) => Failpoint::OwnerLinkSwapped,
            (Level::Lock, Step::Withdrawing) => Failpoint::OwnerLinkWithdrawing,
            (Level::Lock, Step::Withdrawn) => Failpoint::OwnerLinkWithdrawn,
            (_, Step::Prepared) => Failpoint::OwnerLinkStealPrepared,
            (_, Step::Linked) => Failpoint::OwnerLinkStealLinked,
            (_, Step::Swapping) => Failpoint::OwnerLinkStealSwapping,
            (_, Step::Swapped) => Failpoint::OwnerLinkStealSwapped,
            (_, Step::Withdrawing) => Failpoint::OwnerLinkStealWithdrawing,
            (_, Step::Withdrawn) => Failpoint::OwnerLinkStealWithdrawn,
        };
        self.world().reach(name).doing("lock", self.path())
    }
}

fn longer(name: &OsStr, end: &str) -> OsString {
    let mut longer = name.to_owned();
    longer.push(end);
    longer
}
