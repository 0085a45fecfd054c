//! Taking the place of a marker whose owner is gone.
//!
//! To unlink a dead marker and to create a new one are two steps, and between the two, or between the judgement and the
//! first, somebody else does the same: two holders. So one atomic exchange puts a complete record of ours in the marker's
//! place and gives us what was there. The lock's name is never free. What came out is then compared with what was judged;
//! if it is something else, it goes back the same way.
//!
//! The one who judges keeps what it judged pinned until this is over, so its inode number means nothing else meanwhile.
//!
//! If this process dies between the exchange and the comparison, what it took stands under a breaker's name and its own
//! record, soon a dead one, at the lock's: [`super::recovery`] is what everybody does with that. Where a file system
//! cannot exchange names, the marker stays, and the lock is held.

use std::ffi::OsStr;
use std::io;
use std::time::Duration;

use super::marker::{self, Content, Marker, Record};
use super::temp_record::{Own, TempRecord};
use crate::base::failpoint::Failpoint;
use crate::lock::location::Location;
use crate::system::{Exchange, World};

/// How a takeover ended.
#[derive(Debug)]
pub(super) enum Takeover<W: World> {
    /// The lock is ours.
    Done(Own<W>),
    /// Something else is in the marker's place by now.
    Overtaken,
    /// It cannot be done, for this reason. What was in the place is there again.
    Impossible(String),
}

/// Takes the place of a marker that was judged and is pinned. `record` is what is to be there.
///
/// # Errors
/// Those of preparing a record. Nothing at the lock's name has changed then.
pub(super) fn take_over<W: World>(location: &Location<W>, judged: &Marker, record: &Record) -> io::Result<Takeover<W>> {
    if !location.world.is_protected(Failpoint::SoftBreakByExchange) {
        return break_by_unlink(location, record);
    }
    let (aside, own) = TempRecord::write(location, record)?.stand_aside(record.pid)?;
    let breaker = Breaker { location, aside: &aside, own: &own, recorded: record.pid };
    match breaker.swap(judged) {
        Ok(Swap::Done) => {}
        other => {
            breaker.discard();
            return Ok(match other {
                Ok(Swap::Unsupported) => Takeover::Impossible("its file system cannot exchange two names".to_owned()),
                Ok(_) => Takeover::Overtaken,
                Err(error) => impossible(&error),
            });
        }
    }
    match breaker.keep(judged) {
        Ok(Taken::WhatWasJudged) => Ok(Takeover::Done(own)),
        other => {
            breaker.put_back();
            Ok(other.map_or_else(|error| impossible(&error), |_| Takeover::Overtaken))
        }
    }
}

fn impossible<W: World>(error: &io::Error) -> Takeover<W> {
    Takeover::Impossible(format!("its place cannot be taken: {error}"))
}

/// What must never be done: the name is free between two steps, and the first may remove what nobody judged.
fn break_by_unlink<W: World>(location: &Location<W>, record: &Record) -> io::Result<Takeover<W>> {
    location.world.reach(Failpoint::SoftRechecked)?;
    location.world.unlink(&location.directory, &location.name)?;
    location.world.reach(Failpoint::SoftExchanged)?;
    Ok(TempRecord::write(location, record)?.publish_and_forget()?.map_or(Takeover::Overtaken, Takeover::Done))
}

/// A takeover in progress: our record stands aside, or at the lock's name, and something else where it is not.
struct Breaker<'a, W: World> {
    location: &'a Location<W>,
    aside: &'a OsStr,
    own: &'a Own<W>,
    recorded: u32,
}

enum Swap {
    Done,
    /// The marker has changed since it was judged; nothing was moved.
    Overtaken,
    Unsupported,
}

enum Taken {
    WhatWasJudged,
    SomethingElse,
}

impl<W: World> Breaker<'_, W> {
    fn swap(&self, judged: &Marker) -> io::Result<Swap> {
        let Location { world, directory, name, .. } = self.location;
        world.reach(Failpoint::SoftSetAside)?;
        // Judging and writing took long enough for somebody to hold the lock by now, and an exchange would move a live
        // marker away.
        let is_there = self.location.facts()?.is_some_and(|facts| judged.is_still(&facts));
        if !is_there && world.is_protected(Failpoint::SoftRecheckBeforeExchange) {
            return Ok(Swap::Overtaken);
        }
        world.reach(Failpoint::SoftRechecked)?;
        match world.exchange(directory, self.aside, name) {
            Ok(Exchange::Done) => Ok(Swap::Done),
            Ok(Exchange::Unsupported) => Ok(Swap::Unsupported),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Swap::Overtaken),
            Err(error) => Err(error),
        }
    }

    /// Compares what came out with what was judged, and does away with it if it is that.
    fn keep(&self, judged: &Marker) -> io::Result<Taken> {
        let Location { world, directory, .. } = self.location;
        world.reach(Failpoint::SoftExchanged)?;
        let is_judged = self.location.facts_of(self.aside)?.is_some_and(|facts| judged.is_still(&facts));
        if !is_judged && world.is_protected(Failpoint::SoftInodeCheck) {
            return Ok(Taken::SomethingElse);
        }
        world.reach(Failpoint::SoftVerified)?;
        world.unlink(directory, self.aside)?;
        Ok(Taken::WhatWasJudged)
    }

    /// Removes our record where it still has the breaker's name.
    fn discard(&self) {
        self.remove_own(self.aside);
    }

    /// Puts back what was taken, and removes our record.
    fn put_back(&self) {
        let put_back = if self.location.world.is_protected(Failpoint::SoftPutBack) {
            self.exchange_back()
        } else {
            Ok(Back::Done)
        };
        if !matches!(put_back, Ok(Back::Done)) {
            return self.leave_a_placeholder();
        }
        self.remove_own(&self.location.name);
        self.remove_own(self.aside);
    }

    /// Our record stays somewhere and names a living process, so it would be held for as long as that lives. As a
    /// placeholder it ages out, and whoever takes it searches for what we took. A marker of another thread of that very
    /// process would be mistaken for the breaker's own; with it, our record stays as it is.
    fn leave_a_placeholder(&self) {
        let taken = marker::read(self.location, self.aside);
        let is_of_another =
            |marker: &Marker| !matches!(&marker.content, Content::Record(of) if of.pid == self.recorded);
        if matches!(&taken, Ok(Some(marker)) if is_of_another(marker)) {
            let _cannot = self.location.world.overwrite(&self.own.node, &marker::placeholder(self.recorded));
        }
    }

    /// Breakers can be nested: each holds what the other put there. One that waits for its own record to come back
    /// gives others the time to go first, and swaps all the same when they stall.
    fn exchange_back(&self) -> io::Result<Back> {
        let Location { world, directory, name, .. } = self.location;
        let now = || world.now().monotonic;
        let deadline = now() + GIVES_UP_AFTER;
        let mut swaps_at = now() + STALL;
        loop {
            world.reach(Failpoint::SoftPuttingBack)?;
            match self.location.facts_of(self.aside)? {
                // Somebody who takes us for dead puts it back in our stead.
                None => return Ok(Back::Done),
                Some(facts) if facts.is_same_inode(&self.own.facts) => return Ok(Back::Done),
                Some(_) if !self.own.has_a_public_name(world)? => return self.drop_what_was_taken(),
                Some(_) => {}
            }
            let Some(there) = self.location.facts()? else { return self.drop_what_was_taken() };
            let is_ours = there.is_same_inode(&self.own.facts);
            let now = now();
            if !is_ours && now >= deadline {
                return Ok(Back::GaveUp);
            }
            if is_ours || now >= swaps_at {
                if world.exchange(directory, self.aside, name)? == Exchange::Unsupported {
                    return Ok(Back::GaveUp);
                }
                swaps_at = now + STALL;
            } else {
                world.pause(STEP);
            }
        }
    }

    /// Somebody has removed our record from the lock's name. That is what a holder does that lets go between our exchange
    /// and its own look and unlink, so what we took is what it wanted to be rid of.
    fn drop_what_was_taken(&self) -> io::Result<Back> {
        self.location.world.unlink(&self.location.directory, self.aside).map(|()| Back::Done)
    }

    fn remove_own(&self, name: &OsStr) {
        // What stays is dead as soon as this process is.
        let _left_behind = self.location.unlink_if(name, &self.own.facts);
    }
}

enum Back {
    Done,
    GaveUp,
}

/// Others need a few system calls to put things back; one that is stopped or dead must not hold us up for ever.
const GIVES_UP_AFTER: Duration = Duration::from_secs(2);
/// How long others may let us wait before we swap out of turn.
const STALL: Duration = Duration::from_millis(10);
/// Between two looks.
const STEP: Duration = Duration::from_micros(500);
