//! A pid file that is ours, for as long as it is.

use std::path::Path;

use super::record;
use super::sight::Sight;
use crate::base::error::{Context, Error, Result};
use crate::base::failpoint::Failpoint;
use crate::lock::location::Spot;
use crate::lock::{Guard, Loss, Ownership};
use crate::system::storage;
use crate::system::{Claim, Facts, World};

/// The held lock.
#[derive(Debug)]
pub struct PidfileGuard<W: World> {
    claimed: Claimed<W>,
}

/// A file that holds our record, locked and open, so that its inode stays its own.
#[derive(Debug)]
pub(super) struct Claimed<W: World> {
    spot: Spot<W>,
    // Held for its lock, which goes with it.
    _node: W::Node,
    pub(super) facts: Facts,
    record: Vec<u8>,
    name: Name,
    maker: u32,
}

/// Which name a claim has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    /// The lock's own: dropping the claim removes it.
    Published,
    /// Another one, or none any more.
    Private,
}

impl<W: World> Claimed<W> {
    /// Fills a new file. It is locked before it says anything, so that nobody who reads it finds it unlocked.
    pub(super) fn fill(spot: &Spot<W>, node: W::Node, claim: &record::Claim) -> Result<Self> {
        let Spot { world, path, .. } = spot;
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
        Ok(Self { spot: spot.clone(), _node: node, facts, record, name: Name::Private, maker: world.own_pid() })
    }

    /// The same, now that it has the lock's name.
    pub(super) fn published(mut self) -> PidfileGuard<W> {
        self.name = Name::Published;
        PidfileGuard { claimed: self }
    }

    /// Whether this is what the lock's name stands for: the same inode, with what we wrote.
    fn is_at(&self, facts: &Facts) -> Result<bool> {
        Ok(facts.is_same_inode(&self.facts)
            && Sight::look(&self.spot)?.is_some_and(|sight| sight.shows(&self.facts, &self.record)))
    }

    /// Removes the file, if it is still ours. Nobody of this protocol replaces it meanwhile: it is locked.
    fn withdraw(&mut self) -> Result<()> {
        let Spot { world, directory, name, path } = &self.spot;
        let was_published = std::mem::replace(&mut self.name, Name::Private) == Name::Published;
        // A forked copy of this process has a copy of the guard, and lets go of nothing.
        if !was_published || (world.own_pid() != self.maker && world.is_protected(Failpoint::PidfileMaker)) {
            return Ok(());
        }
        world.reach(Failpoint::PidfileReleasing).doing("remove", path)?;
        let is_ours = match self.spot.facts().doing("examine", path)? {
            Some(facts) => self.is_at(&facts)? || !world.is_protected(Failpoint::PidfileOwnInodeOnRelease),
            None => false,
        };
        if is_ours { storage::remove(&**world, directory, name).doing("remove", path) } else { Ok(()) }
    }
}

impl<W: World> Drop for Claimed<W> {
    fn drop(&mut self) {
        // Who cares for a failure calls `release`.
        drop(self.withdraw());
    }
}

impl<W: World> Guard for PidfileGuard<W> {
    fn path(&self) -> &Path {
        &self.claimed.spot.path
    }

    fn check(&self) -> Result<Ownership> {
        let Claimed { spot, .. } = &self.claimed;
        Ok(match spot.facts_by_path().doing("examine", &spot.path)? {
            None => Ownership::Lost(Loss::Removed),
            Some(facts) if self.claimed.is_at(&facts)? => Ownership::Held,
            Some(_) => Ownership::Lost(Loss::Replaced),
        })
    }

    fn release(mut self) -> Result<()> {
        self.claimed.withdraw()
    }
}
