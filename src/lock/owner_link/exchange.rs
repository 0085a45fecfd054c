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
use super::path::{LinkPath, Step};
use super::published::{Claim, Undo};
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
        at: &LinkPath<W>,
    ) -> Result<Option<Self>> {
        if put_back_stranded(judge, at, &judged)? {
            return Ok(None);
        }
        let aside = aside(&owner.name);
        let Some(claim) = Claim::link(at, owner, &aside).doing("make a link beside", at.path())? else {
            return Ok(None);
        };
        let swap = Self { claim, aside, judged };
        let is_judged = swap.exchange();
        swap.keep_if(is_judged)
    }

    /// Exchanges the names and says whether what came out is what was judged.
    fn exchange(&self) -> Result<bool> {
        let Claim { at, .. } = &self.claim;
        at.reach(Step::Swapping)?;
        if !turn(at, &self.aside)? {
            return Ok(false);
        }
        at.reach(Step::Swapped)?;
        let is_judged = self.has_aside(&self.judged.facts)? && self.points_where_it_was_judged()?;
        Ok(is_judged || !at.world().is_protected(Failpoint::OwnerLinkStealRevalidation))
    }

    fn has_aside(&self, facts: &Facts) -> Result<bool> {
        self.claim.at.location().is_at(&self.aside, facts).doing("examine", self.aside_path())
    }

    /// A link that was put in and taken out again while it was judged may have lent its inode to another's target.
    fn points_where_it_was_judged(&self) -> Result<bool> {
        let Some(owner) = self.judged.owner() else { return Ok(true) };
        let at = &self.claim.at;
        let target = found(at.world().read_link(at.directory(), &self.aside)).doing("read", self.aside_path())?;
        Ok(target.is_some_and(|target| Path::new(&target).file_name() == Some(owner)))
    }

    fn aside_path(&self) -> PathBuf {
        self.claim.at.beside(&self.aside)
    }

    /// Exchanges the names until ours is aside again. Whoever changed the place meanwhile gets it back as well.
    fn turn_back(&self) -> Result<()> {
        let at = &self.claim.at;
        for _ in 0..TURNS {
            if self.has_aside(&self.claim.facts)? {
                return Ok(());
            }
            if !turn(at, &self.aside)? {
                return restore_in_gap(at, &self.aside).doing("give back", at.path());
            }
        }
        Ok(())
    }

    /// Ends the takeover: what was swapped out is removed, with its owner directory. Failures leave something that
    /// nothing points at.
    pub(super) fn settle(self) -> Claim<W> {
        let Self { claim, aside, judged } = self;
        let _nothing_points_at_it = remove_dead(&claim.at, &aside, &judged);
        claim
    }

    pub(super) fn claim(&self) -> &Claim<W> {
        &self.claim
    }
}

impl<W: World> Undo for Swap<W> {
    /// What was there has its name again.
    fn undo(self) -> Result<()> {
        let turned = self.turn_back();
        let Self { claim, aside, .. } = self;
        let _it_points_nowhere_soon = claim.at.location().unlink_if(&aside, &claim.facts);
        // Our own link goes as well, should it still have the name.
        drop(claim);
        turned
    }
}

/// Exchanges the link's name with another. `false`: one of them is not there, or this file system cannot do it.
fn turn<W: World>(at: &LinkPath<W>, aside: &OsStr) -> Result<bool> {
    match found(at.world().exchange(at.directory(), aside, at.name())).doing("take over", at.path())? {
        Some(Exchange::Done) => Ok(true),
        Some(Exchange::Unsupported) | None => Ok(false),
    }
}

/// Gives a name back where somebody has removed it meanwhile, unless it is taken.
fn restore_in_gap<W: World>(at: &LinkPath<W>, aside: &OsStr) -> io::Result<()> {
    let world = at.world();
    match at.location().facts_of(aside)?.map(|facts| facts.kind) {
        Some(Kind::Link) => at.location().publish(aside).and_then(|_| world.unlink(at.directory(), aside)),
        // A directory cannot replace a link, and replaces only an empty directory.
        Some(_) => world.rename(at.directory(), aside, at.name()),
        None => Ok(()),
    }
}

/// Puts back what a dead contender had swapped out and did not live to put back. Says whether it did.
///
/// # Errors
/// Those of the system, and of what no lock looks like.
pub(super) fn put_back_stranded<W: World>(judge: &mut Judge, at: &LinkPath<W>, dead: &Record<W>) -> Result<bool> {
    let is_protected = at.world().is_protected(Failpoint::OwnerLinkStranded);
    let Some(aside) = dead.owner().filter(|_| is_protected).map(aside) else { return Ok(false) };
    if !matches!(judge.observe_name(at, &aside)?, Judged::Held(..)) {
        return Ok(false);
    }
    for _ in 0..TURNS {
        if !turn(at, &aside)? {
            return Ok(false);
        }
        if at.location().is_at(&aside, &dead.facts).doing("examine", at.beside(&aside))? {
            let _nothing_points_at_it = remove_dead(at, &aside, dead);
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes a dead record that has no name any more but this one.
fn remove_dead<W: World>(at: &LinkPath<W>, name: &OsStr, dead: &Record<W>) -> io::Result<()> {
    let world = at.world();
    match &dead.shape {
        Shape::Directory(directory) => {
            entry::clear(world, directory, &at.owner_prefix())?;
            world.remove_directory(at.directory(), name)
        }
        Shape::Dangling(_) => at.location().unlink_if(name, &dead.facts),
        Shape::Link(owner, directory) => {
            at.location().unlink_if(name, &dead.facts)?;
            found(world.unlink(at.directory(), &aside(owner)))?;
            owner::remove(at, owner, directory)
        }
    }
}
