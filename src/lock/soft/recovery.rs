//! Finishing what a dead breaker began.
//!
//! A breaker that is killed between its exchange and the comparison leaves its own record at the lock's name, and what it
//! took, perhaps the marker of a live holder, under a breaker's name. Whoever judges that record dead and takes its place
//! without looking makes two holders. So before a dead marker is taken, the names that its pid has left are searched, and
//! a live marker among them goes back.
//!
//! Two who do so at once must not undo each other's exchange, so each first renames what it found to a name of its own,
//! and only one rename succeeds. A claim of a dead claimant is found again; one of ours that was left by an exchange that
//! failed is taken up again.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::decimal::Decimal;
use super::marker::{self, Content, Marker};
use super::names::{self, Trace};
use super::observation;
use super::staleness::{Held, Verdict};
use crate::base::failpoint::Failpoint;
use crate::lock::location::Location;
use crate::system::{Exchange, Kind, World};

/// What the search came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Recovery {
    /// Nothing live was stranded: the marker may be taken.
    Nothing,
    /// A live marker went back, or is in somebody's hands. The lock is held.
    Held,
}

/// Searches for what a dead breaker took, and puts it in the place of the breaker's own record.
///
/// # Errors
/// Those of the system; the lock counts as held then.
pub(super) fn recover<W: World>(location: &Location<W>, breaker: &Decimal, judged: &Marker) -> io::Result<Recovery> {
    if !location.world.is_protected(Failpoint::SoftRecovery) {
        return Ok(Recovery::Nothing);
    }
    let Search::Found(stranded) = search(location, breaker)? else { return Ok(Recovery::Held) };
    for found in stranded {
        if restore(location, found, breaker, judged)? == Recovery::Held {
            return Ok(Recovery::Held);
        }
    }
    Ok(Recovery::Nothing)
}

enum Search {
    Found(Vec<Stranded>),
    /// Another process that lives is at it.
    SomebodyElseIs,
}

enum Stranded {
    /// Under the breaker's name, or in the hands of somebody who died over it.
    Unclaimed(OsString),
    /// In our own hands since an earlier attempt.
    Ours(OsString),
}

fn search<W: World>(location: &Location<W>, breaker: &Decimal) -> io::Result<Search> {
    let Location { world, directory, name: lock, .. } = location;
    let mut names = world.names(directory)?;
    // What is renamed while a directory is read can be missed under both of its names, but not twice.
    names.extend(world.names(directory)?);
    names.sort();
    names.dedup();
    world.reach(Failpoint::SoftSearched)?;
    let mut found = Vec::new();
    for name in names {
        let Some(trace) = names::trace(lock, &name) else { continue };
        let is_of_interest = match &trace {
            Trace::Aside(pid) => *pid == breaker.as_str(),
            Trace::Claim(_) => true,
            Trace::Private(_) => false,
        };
        if !is_of_interest {
            continue;
        }
        match location.facts_of(&name)? {
            // It was listed a moment ago, so somebody is at work on it, and what it stood for may be live.
            None if world.is_protected(Failpoint::SoftVanishedIsHeld) => return Ok(Search::SomebodyElseIs),
            Some(facts) if facts.kind == Kind::File => {}
            // Nobody's work: breakers leave regular files only.
            _ => continue,
        }
        found.push(match trace {
            Trace::Claim(pid) if pid == world.own_pid() => Stranded::Ours(name),
            Trace::Claim(pid) if !observation::is_gone(&**world, pid) => return Ok(Search::SomebodyElseIs),
            _ => Stranded::Unclaimed(name),
        });
    }
    Ok(Search::Found(found))
}

fn restore<W: World>(
    location: &Location<W>,
    stranded: Stranded,
    breaker: &Decimal,
    judged: &Marker,
) -> io::Result<Recovery> {
    let Location { world, directory, name: lock, .. } = location;
    let (from, claim) = match stranded {
        Stranded::Unclaimed(name) => (Some(name), names::claim(lock, world.own_pid(), world.nonce()?)),
        Stranded::Ours(name) => (None, name),
    };
    // Before it has the name, so that another thread that then finds the name also finds somebody at work.
    let Some(_at_work) = AtWork::on(&claim) else { return Ok(Recovery::Held) };
    if let Some(name) = from {
        world.reach(Failpoint::SoftClaiming)?;
        if world.rename(directory, &name, &claim).is_err() {
            // Somebody else was first.
            return Ok(Recovery::Held);
        }
    }
    world.reach(Failpoint::SoftClaimed)?;
    let Ok(Some(found)) = marker::read(location, &claim) else {
        return_claim(location, &claim, breaker);
        return Ok(Recovery::Held);
    };
    if !is_live(&**world, &found, breaker) {
        // It is of no use to anybody, and if it stays it is judged again.
        let _left_behind = world.unlink(directory, &claim);
        return Ok(Recovery::Nothing);
    }
    if !matches!(exchange(location, &claim, judged), Ok(Restored::Yes)) {
        return_claim(location, &claim, breaker);
    }
    Ok(Recovery::Held)
}

enum Restored {
    Yes,
    /// It stands under the claim again, or still.
    No,
}

fn exchange<W: World>(location: &Location<W>, claim: &OsStr, judged: &Marker) -> io::Result<Restored> {
    let Location { world, directory, name: lock, .. } = location;
    // If the record that was judged is not there any more, somebody has acted since.
    if !location.facts()?.is_some_and(|facts| judged.is_still(&facts)) {
        return Ok(Restored::No);
    }
    world.reach(Failpoint::SoftRestoring)?;
    if world.exchange(directory, claim, lock)? == Exchange::Unsupported {
        return Ok(Restored::No);
    }
    world.reach(Failpoint::SoftRestored)?;
    if location.is_at(claim, &judged.facts)? {
        world.unlink(directory, claim)?;
        return Ok(Restored::Yes);
    }
    // Somebody acted between the look and the exchange, and we have taken what it put there.
    world.exchange(directory, claim, lock)?;
    Ok(Restored::No)
}

/// Gives a claim up, so that the next who looks finds it. If that fails it stays ours, and our next attempt finds it.
fn return_claim<W: World>(location: &Location<W>, claim: &OsStr, breaker: &Decimal) {
    let Location { world, directory, name: lock, .. } = location;
    let _stays_ours =
        world.nonce().and_then(|nonce| world.rename(directory, claim, &names::aside(lock, breaker, nonce)));
}

/// Whether somebody may hold the lock by a marker that was found. The breaker's own record is its work and no claim.
fn is_live<W: World>(world: &W, found: &Marker, breaker: &Decimal) -> bool {
    if let Content::Record(record) = &found.content
        && Decimal::from(record.pid) == *breaker
        && record.host == observation::here(world).host
    {
        return false;
    }
    match observation::verdict(world, &found.content) {
        Verdict::Held(Held::Empty | Held::Strict) => true,
        Verdict::Held(_) => matches!(found.content, Content::Record(_)),
        Verdict::Gone { .. } | Verdict::Malformed { .. } => false,
    }
}

/// A claim that a thread of this process is working on. Its name has a token that nobody else has.
#[derive(Debug)]
struct AtWork(OsString);

static CLAIMS: Mutex<BTreeSet<OsString>> = Mutex::new(BTreeSet::new());

fn claims() -> MutexGuard<'static, BTreeSet<OsString>> {
    // A set of names is whole whenever a thread panics.
    CLAIMS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AtWork {
    fn on(claim: &OsStr) -> Option<Self> {
        claims().insert(claim.to_owned()).then(|| Self(claim.to_owned()))
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        claims().remove(&self.0);
    }
}

/// How many names of dead contenders are looked at in one go: after a takeover, others wait meanwhile.
const SWEPT_AT_ONCE: usize = 4;

/// Removes what killed contenders left beside the lock, as far as it is of no use to anybody: complete records of owners
/// that are gone, under the names of processes that are gone. What cannot be judged stays.
pub(super) fn sweep<W: World>(location: &Location<W>) {
    let Location { world, directory, name: lock, .. } = location;
    let is_left = |name: &OsString| match names::trace(lock, name) {
        Some(Trace::Private(pid) | Trace::Claim(pid)) => observation::is_gone(&**world, pid),
        Some(Trace::Aside(digits)) => digits.parse().is_ok_and(|pid| observation::is_gone(&**world, pid)),
        None => false,
    };
    let names = world.names(directory).unwrap_or_default();
    for name in names.into_iter().filter(is_left).take(SWEPT_AT_ONCE) {
        let Ok(Some(found)) = marker::read(location, &name) else { continue };
        let is_record = matches!(found.content, Content::Record(_));
        if is_record && matches!(observation::verdict(&**world, &found.content), Verdict::Gone { .. }) {
            let _left_behind = world.unlink(directory, &name);
        }
    }
}
