//! Asking a home's own watcher to leave, and nobody else.
//!
//! The order is what makes it safe: pin the process first, read what it is, prove that it still lives, compare it with
//! the record, and ask the kernel who took this home's lock. Only if all of that names one process is it signalled, and
//! only through the pin. So a pid that was given away, a forged record and a process that ends in between
//! are never signalled. A KILL goes through the same pin, after the time of grace.

use std::fmt;
use std::time::Duration;

use super::home_lock::{self, LockLocation};
use super::records::Owner;
use crate::base::failpoint::{Failpoint, is_protected, reach};
use crate::system::identity::{self, Observation, Sameness, Standpoint};
use crate::system::{KILL_TIMEOUT, LockTaker, Signal, World};

/// How a watcher left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// It was gone already.
    Already,
    /// On being asked.
    Asked,
    /// Only when it was killed.
    Killed,
}

/// Why no signal was sent, or why it did not help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The process is not provably this home's watcher: nothing was signalled.
    NotProven(String),
    /// It was signalled and has not ended: in uninterruptible sleep or frozen, where even a KILL waits.
    StillThere,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotProven(why) => write!(formatter, "no signal was sent, because {why}"),
            Self::StillThere => {
                formatter.write_str("the signal is pending: the process is frozen or in uninterruptible sleep")
            }
        }
    }
}

/// A process that is proven to be this home's watcher, held fast.
#[derive(Debug)]
pub struct Proven<P> {
    process: P,
}

/// Proves that the recorded holder is this home's living watcher. `Ok(None)`: it is gone.
///
/// # Errors
/// A refusal, with the reason why it is not proven.
pub fn prove<W: World>(
    world: &W,
    place: &LockLocation,
    owner: &Owner,
    here: &Standpoint,
) -> Result<Option<Proven<W::Process>>, Refusal> {
    let process = world
        .pin(owner.pid())
        .map_err(|error| Refusal::NotProven(format!("pid {} cannot be pinned: {error}", owner.pid())))?;
    let seen = process.as_ref().map_or(Observation::Gone, |process| world.observe(process));
    let sameness = if is_protected(Failpoint::LeaveIdentity) {
        identity::compare(&owner.identity, &seen, here)
    } else {
        Sameness::Same(identity::Proof::PidfdInode)
    };
    match sameness {
        Sameness::Different(identity::Difference::Gone) => return Ok(None),
        Sameness::Different(difference) => {
            return Err(Refusal::NotProven(format!("pid {} is not the recorded watcher: {difference}", owner.pid())));
        }
        Sameness::Unknown(why) => return Err(Refusal::NotProven(why)),
        Sameness::Same(_) => {}
    }
    let Some(process) = process else { return Ok(None) };
    if is_protected(Failpoint::LeaveLockTaker) {
        prove_by_lock(world, place, owner)?;
    }
    // What happens to a test that pauses here is that the pin holds whatever becomes of the pid.
    drop(reach(Failpoint::LeaveProven));
    Ok(Some(Proven { process }))
}

fn prove_by_lock<W: World>(world: &W, place: &LockLocation, owner: &Owner) -> Result<(), Refusal> {
    match home_lock::taker(world, place) {
        Ok(LockTaker::Taken(taker)) if taker == owner.pid().get() => Ok(()),
        Ok(LockTaker::Taken(taker)) => Err(Refusal::NotProven(format!(
            "the kernel says that pid {taker} took this home's lock, not the recorded pid {}",
            owner.pid()
        ))),
        Ok(LockTaker::NotSeen) => Err(Refusal::NotProven(format!(
            "the kernel does not show pid {} as the one who took this home's lock",
            owner.pid()
        ))),
        Err(error) => Err(Refusal::NotProven(error.to_string())),
    }
}

impl<P: Send + Sync + 'static> Proven<P> {
    /// A process that was proven by other means than the record of a watcher of ours.
    pub(crate) fn of(process: P) -> Self {
        Self { process }
    }

    /// Asks it to leave, and insists after the time of grace.
    ///
    /// # Errors
    /// Only that it is still there although it was killed, or that the system refuses the signal.
    pub fn make_leave<W: World<Process = P>>(&self, world: &W, grace: Duration) -> Result<Left, Refusal> {
        if self.ask(world)? == Left::Already {
            return Ok(Left::Already);
        }
        if world.wait_for_exit(&self.process, grace).map_err(refused)? {
            return Ok(Left::Asked);
        }
        self.insist(world)
    }

    /// Waits for its end, at most so long. Says whether it has come.
    pub fn has_ended_within<W: World<Process = P>>(&self, world: &W, at_most: Duration) -> bool {
        world.wait_for_exit(&self.process, at_most).unwrap_or(false)
    }

    /// Asks it to leave, and does not wait.
    ///
    /// # Errors
    /// The system refuses the signal.
    pub fn ask<W: World<Process = P>>(&self, world: &W) -> Result<Left, Refusal> {
        let was_there = world.signal(&self.process, Signal::Terminate).map_err(refused)?;
        Ok(if was_there { Left::Asked } else { Left::Already })
    }

    /// Kills it, and waits for its end.
    ///
    /// # Errors
    /// It is still there although it was killed, or the system refuses the signal.
    pub fn insist<W: World<Process = P>>(&self, world: &W) -> Result<Left, Refusal> {
        if !world.signal(&self.process, Signal::Kill).map_err(refused)? {
            return Ok(Left::Asked);
        }
        if world.wait_for_exit(&self.process, KILL_TIMEOUT).map_err(refused)? {
            Ok(Left::Killed)
        } else {
            Err(Refusal::StillThere)
        }
    }
}

// It is handed over as a function, by value.
#[expect(clippy::needless_pass_by_value, reason = "it stands where a function of one value is wanted")]
fn refused(error: std::io::Error) -> Refusal {
    Refusal::NotProven(format!("the system refuses it: {error}"))
}
