//! Putting a new watcher in the place of one that lives.
//!
//! The successor stands by first, and only then is the old one asked to leave, once it is proven to be this home's watcher.
//! One of ours that does not leave in its time of grace is killed.
//!
//! A watcher of a foreign program is respected: only a person's `arm --restart` replaces it. It is asked to leave, has the
//! time that its program gives it, and is never killed: it may be in the middle of something that only it knows.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::bound_child::BoundWatcher;
use super::failure::Failure;
use super::spawn::{Launch, Mode, Start, Wish};
use super::via_service::{self, SLACK};
use crate::base::failpoint::Failpoint;
use crate::ownership::context::HomeContext;
use crate::ownership::foreign_holder::ForeignObservation;
use crate::ownership::owner::Owner;
use crate::ownership::terminate::{self, Left, Proven, Refusal};
use crate::ownership::verdict::Verdict;
use crate::service::installed;
use crate::system::World;
use crate::system::identity::Pid;
use crate::system::platform;
use crate::system::status_pipe::{NoStatus, StartStatus};

/// How much longer a successor is listened to than it waits.
const MORE: Duration = Duration::from_secs(1);

/// A watcher that was replaced.
#[derive(Debug)]
pub struct Replacement {
    /// The pid it had.
    pub pid: Pid,
    /// How it left.
    pub left: Left,
    process: Proven<platform::Pinned>,
}

impl Replacement {
    /// Waits until the process is gone, too: it has no lock and does nothing any more, but ends a little later. Says whether
    /// it has ended.
    pub fn see_off(&self, context: &HomeContext) -> bool {
        self.process.has_ended_within(context.world.as_ref(), context.settings().stop_grace)
    }
}

/// What became of a start.
pub(super) enum Replaced {
    /// The new watcher has the home.
    By {
        /// It.
        pid: Pid,
        /// Whom it replaced.
        replaced: Option<Replacement>,
        /// The watcher itself, if it lives with its starter.
        child: Option<BoundWatcher>,
    },
    /// Somebody else has it, or had it.
    LostTo(Option<Pid>),
}

/// The new watcher has said that it is ready, and with which pid.
pub(super) fn by(pid: u32, replaced: Option<Replacement>, start: Start) -> Result<Replaced, Failure> {
    let pid = Pid::new(pid).ok_or(Failure::ImpossiblePid(pid))?;
    Ok(Replaced::By { pid, replaced, child: start.bound() })
}

/// Waits until a successor stands by, before the old watcher is asked to leave. What else it says is the outcome.
fn standing_by(
    successor: Start,
    deadline: Instant,
    old: Pid,
    process: Proven<platform::Pinned>,
) -> Result<ControlFlow<Replaced, (Start, Proven<platform::Pinned>)>, Failure> {
    Ok(match successor.next_word(deadline)? {
        StartStatus::Standby { .. } => ControlFlow::Continue((successor, process)),
        StartStatus::Failed { reason } => return Err(Failure::NoSuccessor { pid: old, reason }),
        StartStatus::Lost { pid } => ControlFlow::Break(Replaced::LostTo(pid.and_then(Pid::new))),
        StartStatus::Ready { pid, .. } | StartStatus::Taken { pid } => {
            let replacement = Replacement { pid: old, left: Left::Already, process };
            ControlFlow::Break(by(pid, Some(replacement), successor)?)
        }
    })
}

/// Puts a watcher in the place of one of ours.
///
/// # Errors
/// Why that one stays, or why nobody watches any more.
pub(super) fn own(launch: &mut Launch<'_>, owner: &Owner) -> Result<Replaced, Failure> {
    let context = launch.context;
    let (world, old) = (context.world.as_ref(), owner.pid());
    let not_replaced = |refusal: Refusal| Failure::NotReplaced { pid: old, refusal };
    let proven = terminate::prove(world, &context.place, owner, &context.here).map_err(not_replaced)?;
    let Some(process) = proven else { return Ok(Replaced::LostTo(None)) };
    let keeper = launch.heard(installed::keeper_of(context, old));
    let keeper = keeper.filter(|_| world.is_protected(Failpoint::ObtainThroughManager));
    let grace = context.settings().stop_grace;
    // The successor gives up by itself if the lock never becomes free.
    let patience = grace + launch.left() + SLACK;
    let successor = Start::spawn(context, Mode::Standby(patience), launch.lifetime)?;
    let (successor, process) = match standing_by(successor, launch.deadline, old, process)? {
        ControlFlow::Continue(both) => both,
        ControlFlow::Break(over) => return Ok(over),
    };
    // What stands by now watches if the manager ends the old one and cannot start the next.
    if let Some(keeper) = &keeper {
        match via_service::replace(launch, keeper, old) {
            Ok(pid) => {
                let replaced = Some(Replacement { pid: old, left: Left::Asked, process });
                return Ok(Replaced::By { pid, replaced, child: None });
            }
            Err(why) => launch.note(format!(
                "{}: {why}; the watcher is replaced without it, and to have it kept again: {}",
                keeper.unit,
                keeper.way_back()
            )),
        }
    }
    let mut left = process.ask(world).map_err(not_replaced)?;
    // Its successor knows first: the lock is free a moment before the process is gone.
    let mut answer = successor.next_word(Instant::now() + grace);
    if matches!(answer, Err(Failure::NoWord { silence: NoStatus::DeadlinePassed, .. })) {
        left = process.insist(world).map_err(not_replaced)?;
        answer = successor.next_word(Instant::now() + context.settings().arm_timeout);
    }
    // Where nobody watches now, nothing is given up: the next round starts another one.
    match answer {
        Ok(StartStatus::Ready { pid, .. } | StartStatus::Taken { pid }) => {
            by(pid, Some(Replacement { pid: old, left, process }), successor)
        }
        Ok(StartStatus::Lost { pid }) => Ok(Replaced::LostTo(pid.and_then(Pid::new))),
        Ok(StartStatus::Standby { .. }) => Err(Failure::LastingStandby),
        Ok(StartStatus::Failed { reason }) => {
            launch.note(format!("pid {old} has left, but its successor failed: {reason}"));
            Ok(Replaced::LostTo(None))
        }
        Err(silence) => {
            launch.note(format!("pid {old} has left, but {silence}"));
            Ok(Replaced::LostTo(None))
        }
    }
}

/// Clears the record of a foreign watcher whose pid another program has by now. Says whether that was so.
pub(super) fn clear(launch: &mut Launch<'_>, seen: &ForeignObservation) -> bool {
    let (Some(foreign), Some(pid)) = (&launch.context.foreign, seen.pid) else { return false };
    match foreign.clear_record(&launch.context.world, seen) {
        Ok(true) => {
            launch.note(format!("pid {pid} is another program than the watcher that had it; it was left alone"));
            true
        }
        Ok(false) => false,
        Err(error) => {
            launch.note(error.to_string());
            false
        }
    }
}

/// Puts a watcher of ours in the place of a foreign one that holds the home by this verdict.
///
/// # Errors
/// Why it stays.
pub(super) fn foreign(
    launch: &mut Launch<'_>,
    seen: &ForeignObservation,
    verdict: Verdict,
) -> Result<Replaced, Failure> {
    let context = launch.context;
    let (Some(foreign), Some(old)) = (&context.foreign, seen.pid) else { return Err(Failure::Unreplaceable(verdict)) };
    if launch.wish != Wish::New {
        let restart = context.command_line("arm --restart");
        return Err(Failure::Foreign { verdict, kind: foreign.kind().name, restart });
    }
    let (world, waited) = (context.world.as_ref(), foreign.leaves_within());
    let not_replaced = |refusal: Refusal| Failure::NotReplaced { pid: old, refusal };
    let proven = foreign.prove(&context.world, seen).map_err(not_replaced)?;
    let Some(process) = proven else { return Ok(Replaced::LostTo(None)) };
    let successor = Start::spawn(context, Mode::Standby(waited), launch.lifetime)?;
    let (successor, process) = match standing_by(successor, launch.deadline, old, process)? {
        ControlFlow::Continue(both) => both,
        ControlFlow::Break(over) => return Ok(over),
    };
    let left = process.ask(world).map_err(not_replaced)?;
    match successor.next_word(Instant::now() + waited + MORE) {
        Ok(StartStatus::Ready { pid, .. } | StartStatus::Taken { pid }) => {
            by(pid, Some(Replacement { pid: old, left, process }), successor)
        }
        // Whatever its successor says, or does not: the old one has not let go.
        _ if !process.has_ended_within(world, Duration::ZERO) => {
            Err(Failure::StillThere { pid: old, waited, kind: foreign.kind().short })
        }
        Ok(StartStatus::Failed { reason }) => {
            launch.note(format!("pid {old} has left, but its successor failed: {reason}"));
            Ok(Replaced::LostTo(None))
        }
        // It has gone, and somebody else was faster.
        Ok(StartStatus::Lost { pid }) => Ok(Replaced::LostTo(pid.and_then(Pid::new))),
        Ok(StartStatus::Standby { .. }) | Err(_) => Ok(Replaced::LostTo(None)),
    }
}
