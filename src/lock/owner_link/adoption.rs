//! Taking over a dead mutex by becoming its owner: our pid takes the place of the dead one in its owner directory.
//!
//! The link keeps its name, so a shell peer that is about to remove it by its path can at worst remove a mutex of ours,
//! which we notice, and never finds its own mutex swapped out of a name that it has just made. And the file changes in
//! one step, so at each instant the mutex belongs to the dead process or to us, wherever we die.
//!
//! Only a process that is proven dead can be succeeded like this. An owner that never wrote its pid may be asleep, and
//! would find its link still there when it wakes up.
//!
//! The new file is first written under the name of another known file, which no mutex carries: peers remove it.

use std::ffi::OsStr;
use std::io;

use super::entry;
use super::owner::Owner;
use super::path::{Place, Step};
use super::published::Claim;
use super::record::Record;
use crate::base::error::{Context, Result};
use crate::lock::location::found;
use crate::system::World;

/// Under which name the file `pid` is made.
const NEXT: &str = entry::HOME;

/// A takeover that is done and can still be undone.
#[derive(Debug)]
pub(super) struct Adoption<W: World> {
    claim: Claim<W>,
    former: u32,
}

impl<W: World> Adoption<W> {
    /// Becomes the owner of a record whose process, `former`, is dead. The caller has the turn for this record, and keeps
    /// it with the claim. `None` if it has no owner directory.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn make(place: &Place<W>, dead: Record<W>, former: u32, pid: u32) -> Result<Option<Self>> {
        let Some((pin, facts, owner, node)) = dead.into_link() else { return Ok(None) };
        place.reach(Step::Swapping)?;
        // A peer that removes the directory at this moment leaves no room for a file.
        if found(sign(place.world(), &node, pid)).doing("take over", place.beside(&owner))?.is_none() {
            return Ok(None);
        }
        let owner = Owner::succeed(place, owner, node, pid);
        let adoption = Self { claim: Claim::of(place, owner, pin, facts), former };
        match place.reach(Step::Swapped) {
            Ok(()) => Ok(Some(adoption)),
            Err(error) => adoption.undo().and(Err(error)),
        }
    }

    /// Undoes the takeover: the mutex is the dead one's again.
    ///
    /// # Errors
    /// Those of the system. Without its pid it counts as unfinished, and is dead after the floor.
    pub(super) fn undo(self) -> Result<()> {
        let Self { claim, former } = self;
        let world = claim.place.world();
        let path = claim.place.beside(&claim.owner.name);
        let signed = found(sign(world, claim.owner.node(), former));
        if !matches!(signed, Ok(Some(()))) {
            let _a_mutex_without_a_pid_is_nobodys = world.unlink(claim.owner.node(), OsStr::new(entry::PID));
        }
        claim.leave();
        signed.map(drop).doing("give back", path)
    }

    /// Ends the takeover: the rest of what the directory says is about us as well.
    pub(super) fn settle(self) -> Claim<W> {
        let Self { claim, .. } = self;
        claim.owner.tell_identity();
        claim
    }
}

/// Changes the pid in one step.
fn sign<W: World>(world: &W, directory: &W::Node, pid: u32) -> io::Result<()> {
    found(world.unlink(directory, OsStr::new(NEXT)))?;
    entry::write(world, directory, NEXT, format!("{pid}\n").as_bytes())?;
    world.rename(directory, OsStr::new(NEXT), OsStr::new(entry::PID))
}
