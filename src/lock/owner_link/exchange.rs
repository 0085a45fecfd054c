//! Taking over a dead record in one step.
//!
//! The published protocol looks at the record once more, removes it by its path and then makes its own link. Between
//! the look and the removal the path can come to stand for something else: the owner that was judged may only have
//! slept, wake up, find itself reclaimed and withdraw, and a third contender may then make its own link, which the
//! remover removes. So we make our link under a name of our own and *exchange* the two names. What comes out is then
//! in our hands, and its inode says whether it is the record that was judged. If it is not, it goes back.
//!
//! A contender that dies between an exchange and the way back leaves somebody's live link under its own name. Whoever
//! judges that dead contender next finds the link there, by the name, and puts it back first.
//!
//! A file system that cannot exchange names has no takeover: the lock is busy there, and [`holder`] says what to do.
//!
//! [`holder`]: crate::lock::Lock::holder

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use super::entry;
use super::judge::{Judge, Judged};
use super::owner::{self, Owner};
use super::path::{Place, Step};
use super::published::Claim;
use super::record::{Record, Shape};
use crate::base::error::{Context, Result};
use crate::base::failpoint::Failpoint;
use crate::lock::location::found;
use crate::system::{Exchange, Facts, Kind, World};

/// How often an exchange that went wrong is turned back.
const TURNS: usize = 4;

/// A takeover that is done and can still be undone.
#[derive(Debug)]
pub(super) struct Swap<W: World> {
    claim: Claim<W>,
    aside: OsString,
    judged: Record<W>,
}

/// Under which name a contender keeps what it has swapped out.
fn aside(owner: &OsStr) -> OsString {
    let mut name = owner.to_owned();
    name.push(".was");
    name
}

impl<W: World> Swap<W> {
    /// Puts a link of ours in the place of exactly this record. `None` if that is not what was there, or this file
    /// system cannot do it.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn make(
        judge: &mut Judge,
        owner: Owner<W>,
        judged: Record<W>,
        place: &Place<W>,
    ) -> Result<Option<Self>> {
        if put_back_stranded(judge, place, &judged)? {
            return Ok(None);
        }
        let aside = aside(&owner.name);
        let Some(claim) = Claim::link(place, owner, &aside).doing("make a link beside", place.path())? else {
            return Ok(None);
        };
        let swap = Self { claim, aside, judged };
        match swap.exchange() {
            Ok(true) => Ok(Some(swap)),
            Ok(false) => swap.undo().map(|()| None),
            Err(error) => swap.undo().and(Err(error)),
        }
    }

    /// Exchanges the names and says whether what came out is what was judged.
    fn exchange(&self) -> Result<bool> {
        let Claim { place, .. } = &self.claim;
        place.reach(Step::Swapping)?;
        if !turn(place, &self.aside)? {
            return Ok(false);
        }
        place.reach(Step::Swapped)?;
        let is_judged = self.has_aside(&self.judged.facts)? && self.points_where_it_was_judged()?;
        Ok(is_judged || !place.world().is_protected(Failpoint::OwnerLinkStealRevalidation))
    }

    fn has_aside(&self, facts: &Facts) -> Result<bool> {
        let there = self.claim.place.spot().facts_of(&self.aside).doing("examine", self.aside_path())?;
        Ok(there.is_some_and(|there| there.is_same_inode(facts)))
    }

    /// A link that was put in and taken out again while it was judged may have lent its inode to another's target.
    fn points_where_it_was_judged(&self) -> Result<bool> {
        let Some(owner) = self.judged.owner() else { return Ok(true) };
        let place = &self.claim.place;
        let target = found(place.world().read_link(place.directory(), &self.aside)).doing("read", self.aside_path())?;
        Ok(target.is_some_and(|target| Path::new(&target).file_name() == Some(owner)))
    }

    fn aside_path(&self) -> PathBuf {
        self.claim.place.beside(&self.aside)
    }

    /// Exchanges the names until ours is aside again. Whoever changed the place meanwhile gets it back as well.
    fn turn_back(&self) -> Result<()> {
        let place = &self.claim.place;
        for _ in 0..TURNS {
            if self.has_aside(&self.claim.facts)? {
                return Ok(());
            }
            if !turn(place, &self.aside)? {
                return restore_in_gap(place, &self.aside).doing("give back", place.path());
            }
        }
        Ok(())
    }

    /// Undoes the takeover: what was there has its name again, as if we had never been there.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn undo(self) -> Result<()> {
        let turned = self.turn_back();
        let Self { claim, aside, .. } = self;
        let _it_points_nowhere_soon = claim.place.unlink_if(&aside, &claim.facts);
        // Our own link goes as well, should it still have the name.
        drop(claim);
        turned
    }

    /// Ends the takeover: what was swapped out is removed, with its owner directory. Failures leave something that
    /// nothing points at.
    pub(super) fn settle(self) -> Claim<W> {
        let Self { claim, aside, judged } = self;
        let _nothing_points_at_it = remove_dead(&claim.place, &aside, &judged);
        claim
    }

    pub(super) fn claim(&self) -> &Claim<W> {
        &self.claim
    }
}

/// Exchanges the place's name with another. `false`: one of them is not there, or this file system cannot do it.
fn turn<W: World>(place: &Place<W>, aside: &OsStr) -> Result<bool> {
    match found(place.world().exchange(place.directory(), aside, place.name())).doing("take over", place.path())? {
        Some(Exchange::Done) => Ok(true),
        Some(Exchange::Unsupported) | None => Ok(false),
    }
}

/// Gives a name back where somebody has removed it meanwhile, unless it is taken.
fn restore_in_gap<W: World>(place: &Place<W>, aside: &OsStr) -> io::Result<()> {
    let world = place.world();
    match place.spot().facts_of(aside)?.map(|facts| facts.kind) {
        Some(Kind::Link) => match world.link(place.directory(), aside, place.name()) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => world.unlink(place.directory(), aside),
        },
        // A directory cannot replace a link, and replaces only an empty directory.
        Some(_) => world.rename(place.directory(), aside, place.name()),
        None => Ok(()),
    }
}

/// Puts back what a dead contender had swapped out and did not live to put back. Says whether it did.
///
/// # Errors
/// Those of the system, and of what no lock looks like.
pub(super) fn put_back_stranded<W: World>(judge: &mut Judge, place: &Place<W>, dead: &Record<W>) -> Result<bool> {
    let is_protected = place.world().is_protected(Failpoint::OwnerLinkStranded);
    let Some(aside) = dead.owner().filter(|_| is_protected).map(aside) else { return Ok(false) };
    if !matches!(judge.look_at(place, &aside)?, Judged::Held(..)) {
        return Ok(false);
    }
    for _ in 0..TURNS {
        if !turn(place, &aside)? {
            return Ok(false);
        }
        let out = place.spot().facts_of(&aside).doing("examine", place.beside(&aside))?;
        if out.is_some_and(|out| out.is_same_inode(&dead.facts)) {
            let _nothing_points_at_it = remove_dead(place, &aside, dead);
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes a dead record that has no name any more but this one.
fn remove_dead<W: World>(place: &Place<W>, name: &OsStr, dead: &Record<W>) -> io::Result<()> {
    let world = place.world();
    match &dead.shape {
        Shape::Directory(directory) => {
            entry::clear(world, directory, &place.owner_prefix())?;
            world.remove_directory(place.directory(), name)
        }
        Shape::Dangling(_) => place.unlink_if(name, &dead.facts),
        Shape::Link(owner, directory) => {
            place.unlink_if(name, &dead.facts)?;
            found(world.unlink(place.directory(), &aside(owner)))?;
            owner::remove(place, owner, directory)
        }
    }
}
