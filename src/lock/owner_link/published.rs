//! A link of ours that has a name, and its end; and taking over a dead mutex by becoming its owner.
//!
//! A dead mutex is taken over by putting our pid in the place of the dead one in its owner directory. The link keeps its
//! name, so a shell peer that is about to remove it by its path can at worst remove a mutex of ours, which we notice, and
//! never finds its own mutex swapped out of a name that it has just made. And the file changes in one step, so at each
//! instant the mutex belongs to the dead process or to us, wherever we die.
//!
//! Only a process that is proven dead can be succeeded like this. An owner that never wrote its pid may be asleep, and
//! would find its link still there when it wakes up.
//!
//! The new file is first written under the name of another known file, which no mutex carries: peers remove it.

use std::ffi::OsStr;
use std::io;

use super::entry;
use super::owner::Owner;
use super::path::{LinkPath, Step};
use super::record::Record;
use crate::base::error::{Context, Result};
use crate::base::failpoint::Failpoint;
use crate::lock::location::found;
use crate::lock::{Loss, Ownership};
use crate::system::{Facts, Open, World};

/// A link of ours to an owner directory of ours. Dropping it withdraws it.
#[derive(Debug)]
pub(super) struct Claim<W: World> {
    pub(super) at: LinkPath<W>,
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
    pub(super) fn publish(at: &LinkPath<W>, owner: Owner<W>) -> Result<Option<Self>> {
        let name = at.name().to_owned();
        match Self::link(at, owner, &name) {
            Ok(claim) => {
                if claim.is_some() {
                    at.reach(Step::Linked)?;
                }
                Ok(claim)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(error).doing("lock", at.path()),
        }
    }

    /// Makes the link, at a name beside the lock, and pins it. `None` if somebody removed or replaced it at once.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn link(at: &LinkPath<W>, owner: Owner<W>, name: &OsStr) -> io::Result<Option<Self>> {
        let world = at.world();
        let target = at.absolute(&owner.name).into_os_string();
        world.symlink(at.directory(), &target, name)?;
        let pinned = || -> io::Result<_> {
            let Some(pin) = found(world.open(at.directory(), name, Open::Pin))? else { return Ok(None) };
            let facts = world.facts(&pin)?;
            let is_ours = found(world.read_link(at.directory(), name))?.is_some_and(|there| there == target);
            Ok(is_ours.then_some((pin, facts)))
        };
        match pinned() {
            Ok(Some((pin, facts))) => Ok(Some(Self::of(at, owner, pin, facts))),
            Ok(None) => Ok(None),
            Err(error) => {
                // The name of the owner directory is ours alone, so whatever points at it is.
                if world.read_link(at.directory(), name).is_ok_and(|there| there == target) {
                    let _what_is_left_points_nowhere = world.unlink(at.directory(), name);
                }
                Err(error)
            }
        }
    }

    /// The claim of a link that is pinned already.
    pub(super) fn of(at: &LinkPath<W>, owner: Owner<W>, pin: W::Node, facts: Facts) -> Self {
        Self { at: at.clone(), owner, _pin: pin, facts, state: State::Published }
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
        let there = self.at.location().facts().doing("examine", self.at.path())?;
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
        let at = self.at.clone();
        at.reach(Step::Withdrawing)?;
        let is_protected = at.world().is_protected(Failpoint::OwnerLinkOwnOnlyOnRelease);
        let ownership = if is_protected { self.ownership()? } else { Ownership::Held };
        match ownership {
            Ownership::Held => {
                found(at.world().unlink(at.directory(), at.name())).doing("release", at.path())?;
            }
            // Our link with another pid behind it is a lock that somebody else believes to have.
            Ownership::Lost(_) if self.is_linked()? => self.owner.leave(),
            Ownership::Lost(_) => {}
        }
        at.reach(Step::Withdrawn)
    }

    /// Whether the name stands for our link, whatever is behind it.
    fn is_linked(&self) -> Result<bool> {
        self.at.location().is_at(self.at.name(), &self.facts).doing("examine", self.at.path())
    }
}

impl<W: World> Drop for Claim<W> {
    fn drop(&mut self) {
        let _whoever_is_next_judges_what_is_left = self.withdraw();
    }
}

/// Under which name the file `pid` is made.
const NEXT: &str = entry::HOME;

/// A takeover that is done and can still be undone.
#[derive(Debug)]
pub(super) struct Adoption<W: World> {
    claim: Claim<W>,
    former: u32,
}

/// A takeover that is done and can still be undone.
pub(super) trait Undo: Sized {
    /// Undoes it: what was there is there again, as if we had never been there.
    ///
    /// # Errors
    /// Those of the system.
    fn undo(self) -> Result<()>;

    /// Keeps it if it may stay, and undoes it otherwise.
    ///
    /// # Errors
    /// Those of undoing it, and the one that kept anybody from telling.
    fn keep_if(self, may_stay: Result<bool>) -> Result<Option<Self>> {
        match may_stay {
            Ok(true) => Ok(Some(self)),
            Ok(false) => self.undo().map(|()| None),
            Err(error) => self.undo().and(Err(error)),
        }
    }
}

impl<W: World> Adoption<W> {
    /// Becomes the owner of a record whose process, `former`, is dead. The caller has the turn for this record, and keeps
    /// it with the claim. `None` if it has no owner directory.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn make(at: &LinkPath<W>, dead: Record<W>, former: u32, pid: u32) -> Result<Option<Self>> {
        let Some((pin, facts, owner, node)) = dead.into_link() else { return Ok(None) };
        at.reach(Step::Swapping)?;
        // A peer that removes the directory at this moment leaves no room for a file.
        if found(sign(at.world(), &node, pid)).doing("take over", at.beside(&owner))?.is_none() {
            return Ok(None);
        }
        let owner = Owner::succeed(at, owner, node, pid);
        let adoption = Self { claim: Claim::of(at, owner, pin, facts), former };
        adoption.keep_if(at.reach(Step::Swapped).map(|()| true))
    }

    /// Ends the takeover: the rest of what the directory says is about us as well.
    pub(super) fn settle(self) -> Claim<W> {
        let Self { claim, .. } = self;
        claim.owner.tell_identity();
        claim
    }
}

impl<W: World> Undo for Adoption<W> {
    /// The mutex is the dead one's again. Without its pid it counts as unfinished, and is dead after the floor.
    fn undo(self) -> Result<()> {
        let Self { claim, former } = self;
        let world = claim.at.world();
        let path = claim.at.beside(&claim.owner.name);
        let signed = found(sign(world, claim.owner.node(), former));
        if !matches!(signed, Ok(Some(()))) {
            let _a_mutex_without_a_pid_is_nobodys = world.unlink(claim.owner.node(), OsStr::new(entry::PID));
        }
        claim.leave();
        signed.map(drop).doing("give back", path)
    }
}

/// Changes the pid in one step.
fn sign<W: World>(world: &W, directory: &W::Node, pid: u32) -> io::Result<()> {
    found(world.unlink(directory, OsStr::new(NEXT)))?;
    entry::write(world, directory, NEXT, format!("{pid}\n").as_bytes())?;
    world.rename(directory, OsStr::new(NEXT), OsStr::new(entry::PID))
}
