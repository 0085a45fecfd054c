//! A link of ours that has a name, and its end.

use std::ffi::OsStr;
use std::io;

use super::owner::Owner;
use super::path::{Place, Step};
use crate::base::error::{Context, Result};
use crate::base::failpoint::Failpoint;
use crate::lock::location::found;
use crate::lock::{Loss, Ownership};
use crate::system::{Facts, Open, World};

/// A link of ours to an owner directory of ours. Dropping it withdraws it.
#[derive(Debug)]
pub(super) struct Claim<W: World> {
    pub(super) place: Place<W>,
    pub(super) owner: Owner<W>,
    /// Held open so that the link's inode number stays its own.
    _pin: W::Node,
    pub(super) facts: Facts,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Published,
    Withdrawn,
}

impl<W: World> Claim<W> {
    /// Gives an owner directory the name of the place, if the name is free: making the link chooses the winner.
    ///
    /// # Errors
    /// Those of the system; that the name is taken is none.
    pub(super) fn publish(place: &Place<W>, owner: Owner<W>) -> Result<Option<Self>> {
        let name = place.name().to_owned();
        match Self::link(place, owner, &name) {
            Ok(claim) => {
                if claim.is_some() {
                    place.reach(Step::Linked)?;
                }
                Ok(claim)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(error).doing("lock", place.path()),
        }
    }

    /// Makes the link, at a name beside the lock, and pins it. `None` if somebody removed or replaced it at once.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn link(place: &Place<W>, owner: Owner<W>, name: &OsStr) -> io::Result<Option<Self>> {
        let world = place.world();
        let target = place.absolute(&owner.name).into_os_string();
        world.symlink(place.directory(), &target, name)?;
        let pinned = || -> io::Result<_> {
            let Some(pin) = found(world.open(place.directory(), name, Open::Pin))? else { return Ok(None) };
            let facts = world.facts(&pin)?;
            let is_ours = found(world.read_link(place.directory(), name))?.is_some_and(|there| there == target);
            Ok(is_ours.then_some((pin, facts)))
        };
        match pinned() {
            Ok(Some((pin, facts))) => Ok(Some(Self::of(place, owner, pin, facts))),
            Ok(None) => Ok(None),
            Err(error) => {
                // The name of the owner directory is ours alone, so whatever points at it is.
                if world.read_link(place.directory(), name).is_ok_and(|there| there == target) {
                    let _what_is_left_points_nowhere = world.unlink(place.directory(), name);
                }
                Err(error)
            }
        }
    }

    /// The claim of a link that is pinned already.
    pub(super) fn of(place: &Place<W>, owner: Owner<W>, pin: W::Node, facts: Facts) -> Self {
        Self { place: place.clone(), owner, _pin: pin, facts, state: State::Published }
    }

    /// Leaves link and owner directory as they are: they are somebody else's now.
    pub(super) fn leave(mut self) {
        self.state = State::Withdrawn;
        self.owner.leave();
    }

    /// Whether the link still has the name, and the owner directory still has our pid.
    ///
    /// # Errors
    /// Those of the system, which prove nothing.
    pub(super) fn ownership(&self) -> Result<Ownership> {
        let there = self.place.spot().facts().doing("examine", self.place.path())?;
        Ok(match Ownership::by_inode(there, &self.facts) {
            Ownership::Held if !self.owner.is_signed()? => Ownership::Lost(Loss::Replaced),
            known => known,
        })
    }

    /// Gives the name back, if it is still ours. The owner directory goes with the value: in this order a death in between
    /// leaves a directory that nothing points at.
    ///
    /// # Errors
    /// Those of the system. Link and owner directory are left as they are then.
    pub(super) fn withdraw(&mut self) -> Result<()> {
        if self.state == State::Withdrawn {
            return Ok(());
        }
        self.state = State::Withdrawn;
        self.unlink().inspect_err(|_| self.owner.leave())
    }

    fn unlink(&mut self) -> Result<()> {
        let place = self.place.clone();
        place.reach(Step::Withdrawing)?;
        let is_protected = place.world().is_protected(Failpoint::OwnerLinkOwnOnlyOnRelease);
        let ownership = if is_protected { self.ownership()? } else { Ownership::Held };
        match ownership {
            Ownership::Held => {
                found(place.world().unlink(place.directory(), place.name())).doing("release", place.path())?;
            }
            // Our link with another pid behind it is a lock that somebody else believes to have.
            Ownership::Lost(_) if self.is_linked()? => self.owner.leave(),
            Ownership::Lost(_) => {}
        }
        place.reach(Step::Withdrawn)
    }

    /// Whether the name stands for our link, whatever is behind it.
    fn is_linked(&self) -> Result<bool> {
        let there = self.place.spot().facts().doing("examine", self.place.path())?;
        Ok(there.is_some_and(|there| there.is_same_inode(&self.facts)))
    }
}

impl<W: World> Drop for Claim<W> {
    fn drop(&mut self) {
        let _whoever_is_next_judges_what_is_left = self.withdraw();
    }
}
