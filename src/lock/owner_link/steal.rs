//! The mutex of those who reclaim: `<lock>.steal`.
//!
//! Shell peers remove a dead lock by its path. While one of them is at it, nobody else may touch the lock, and while we
//! are at it, they may not. So whoever reclaims first takes `<lock>.steal`, in the same way as the lock itself.
//!
//! A contender that dies with the mutex leaves a dead one. A shell peer reclaims it under a mutex of its own,
//! `<lock>.steal.steal`, and so on without end. We never take that one. We take over a dead mutex in one step, and *then*
//! look at `<lock>.steal.steal`. If nobody alive has it at that moment, then every peer that will take it comes too late:
//! after it has taken it, it looks at the mutex again, finds us there, alive, and leaves. If somebody has it, we undo the
//! step. A dead `<lock>.steal.steal` hinders nobody but shell peers; as soon as the mutex is ours, it has no meaning, and
//! is removed for them.
//!
//! The step is an [`Adoption`] where the dead owner is known. A mutex without a pid, or without an owner
//! directory, is [swapped](super::exchange) out, as a dead lock is.
//!
//! Contenders of ours that judge the same dead mutex take turns by the kernel's lock on its owner directory. Its holder
//! keeps it to the end, so what the directory says of its former owner misleads none of ours meanwhile. (A child that
//! this process is just starting has a copy of the descriptor until it executes its program, and the turn with it; an
//! attempt in that instant says "busy".)

use super::exchange::{Swap, put_back_stranded};
use super::judge::{Judge, Judged};
use super::owner::{self, Owner, Signature};
use super::path::LinkPath;
use super::published::{Adoption, Claim, Undo};
use super::record::{Record, Shape};
use super::verdict::{Stale, Verdict};
use crate::base::error::{Context, Result};
use crate::base::failpoint::Failpoint;
use crate::system::{Claim as Turn, World};

/// Takes the mutex of a lock. `None`: somebody has it.
///
/// # Errors
/// Those of the system, and of what no mutex looks like.
pub(super) fn take<W: World>(judge: &mut Judge, lock: &LinkPath<W>) -> Result<Option<Claim<W>>> {
    let steal = lock.steal();
    let claim = match judge.observe(&steal)? {
        Judged::Nothing => take_free(judge, &steal)?,
        Judged::Stale(dead, verdict) => take_dead(judge, &steal, dead, verdict)?,
        Judged::Held(..) | Judged::Changing => None,
    };
    let Some(claim) = claim else { return Ok(None) };
    if !claim.ownership()?.is_held() {
        return Ok(None);
    }
    if let Judged::Stale(dead, _) = judge.observe(&steal.steal())? {
        let _it_hinders_peers_only = remove_meaningless(&steal.steal(), &dead);
    }
    Ok(Some(claim))
}

/// The mutex belongs to the process that acts, which need not be the one for which the lock is taken.
fn signature<W: World>(steal: &LinkPath<W>) -> Signature {
    Signature::of(steal.world().own_pid())
}

fn take_free<W: World>(judge: &mut Judge, steal: &LinkPath<W>) -> Result<Option<Claim<W>>> {
    let owner = Owner::prepare(steal, &signature(steal))?;
    let Some(claim) = Claim::publish(steal, owner)? else { return Ok(None) };
    Ok(nobody_reclaims_it(judge, steal)?.then_some(claim))
}

fn take_dead<W: World>(
    judge: &mut Judge,
    steal: &LinkPath<W>,
    dead: Record<W>,
    verdict: Verdict,
) -> Result<Option<Claim<W>>> {
    if !is_our_turn(steal, &dead)? || !nobody_reclaims_it(judge, steal)? {
        return Ok(None);
    }
    // Whoever had the turn before us may have taken it over.
    match judge.observe(steal)? {
        Judged::Stale(again, _) if again.is_same(&dead) => {}
        _ => return Ok(None),
    }
    match (&dead.shape, verdict) {
        (Shape::Link(..), Verdict::Stale(Stale::Died(former, _))) => succeed(judge, steal, dead, former),
        _ => swap(judge, steal, dead),
    }
}

fn succeed<W: World>(judge: &mut Judge, steal: &LinkPath<W>, dead: Record<W>, former: u32) -> Result<Option<Claim<W>>> {
    if put_back_stranded(judge, steal, &dead)? {
        return Ok(None);
    }
    let Some(adoption) = Adoption::make(steal, dead, former, steal.world().own_pid())? else { return Ok(None) };
    Ok(adoption.keep_if(nobody_reclaims_it(judge, steal))?.map(Adoption::settle))
}

fn swap<W: World>(judge: &mut Judge, steal: &LinkPath<W>, dead: Record<W>) -> Result<Option<Claim<W>>> {
    let owner = Owner::prepare(steal, &signature(steal))?;
    let Some(swap) = Swap::make(judge, owner, dead, steal)? else { return Ok(None) };
    Ok(swap.keep_if(nobody_reclaims_it(judge, steal))?.map(Swap::settle))
}

/// Takes the turn among contenders of ours. It ends when the record is dropped.
fn is_our_turn<W: World>(steal: &LinkPath<W>, dead: &Record<W>) -> Result<bool> {
    match &dead.shape {
        Shape::Link(_, directory) | Shape::Directory(directory) => {
            Ok(steal.world().try_lock(directory).doing("lock the owner directory of", steal.path())? == Turn::Taken)
        }
        Shape::Dangling(_) => Ok(true),
    }
}

/// Whether no living peer is reclaiming the mutex right now.
fn nobody_reclaims_it<W: World>(judge: &mut Judge, steal: &LinkPath<W>) -> Result<bool> {
    if !steal.world().is_protected(Failpoint::OwnerLinkStealOfSteal) {
        return Ok(true);
    }
    Ok(matches!(judge.observe(&steal.steal())?, Judged::Nothing | Judged::Stale(..)))
}

fn remove_meaningless<W: World>(at: &LinkPath<W>, dead: &Record<W>) -> std::io::Result<()> {
    match &dead.shape {
        Shape::Link(owner, directory) => {
            at.location().unlink_if(at.name(), &dead.facts)?;
            owner::remove(at, owner, directory)
        }
        Shape::Dangling(_) => at.location().unlink_if(at.name(), &dead.facts),
        Shape::Directory(_) => Ok(()),
    }
}
