//! Putting a new watcher in the place of one that lives.
//!
//! The successor stands by first, and only then is the old one asked to leave, once it is proven to be this home's watcher.
//! One of ours that does not leave in its time of grace is killed.
//!
//! A watcher of a foreign program is respected: only a person's `arm --restart` replaces it. It is asked to leave, has the
//! time that its program gives it, and is never killed: it may be in the middle of something that only it knows.
//!
//! # A watcher that a service manager keeps
//!
//! When a watcher that the user's service manager keeps has crashed, its manager starts the next one a moment later.
//! If this program were faster, the manager's would find a watcher, leave content, and nobody would keep what runs.
//! So the manager is told to start it at once, and only if that comes to nothing does this program start one.
//!
//! Its manager starts and ends it. If this program asked such a watcher to leave and put one of its own in its place, the
//! manager would see its child end well, as after a stop by a person, and nobody would keep the successor. So the
//! manager is told to restart it, and what is true afterwards is read from the home, never from the manager's answer alone.
//!
//! A manager ends the old one before it starts the next, and nobody would watch if that one could not start. So a
//! successor of ours stands by meanwhile: without one that can, nothing is restarted, and when the old one leaves it
//! watches until the manager's takes its place a moment later. If the manager refuses, or starts nothing, it simply
//! stays.
//!
//! That a manager keeps a watcher is proven by two who know it: the process that holds the home, verified, is the main
//! process that the manager names.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::failure::Failure;
use super::spawn::{BoundWatcher, Launch, Mode, Start, Wish};
use crate::base::failpoint::Failpoint;
use crate::base::wait_until::wait_until;
use crate::ownership::context::HomeContext;
use crate::ownership::foreign_holder::ForeignObservation;
use crate::ownership::records::Owner;
use crate::ownership::terminate::{self, Left, Proven, Refusal};
use crate::ownership::verdict::Verdict;
use crate::service::installed::{self, Keeper};
use crate::service::manager::ManagerError;
use crate::system::identity::Pid;
use crate::system::status_pipe::{NoStatus, StartStatus};
use crate::system::{KILL_TIMEOUT, World, platform};

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
    let patience = grace + launch.left() + SLACK.max(KILL_TIMEOUT);
    let successor = Start::spawn(context, Mode::Standby(patience), launch.lifetime)?;
    let (successor, process) = match standing_by(successor, launch.deadline, old, process)? {
        ControlFlow::Continue(both) => both,
        ControlFlow::Break(over) => return Ok(over),
    };
    // What stands by now watches if the manager ends the old one and cannot start the next.
    if let Some(keeper) = &keeper {
        match by_manager(launch, keeper, old) {
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

/// What the manager may take besides the times that the watcher has for leaving and for starting.
const SLACK: Duration = Duration::from_secs(5);

/// How long the manager may take to start a watcher before this program does it.
const STARTS_WITHIN: Duration = Duration::from_secs(3);
/// Between two looks whether it has.
const PAUSE: Duration = Duration::from_millis(10);

/// Has the manager start its watcher, if it is meant to run one. `None`: it is not, or nothing came of it.
pub(super) fn start_by_manager(launch: &mut Launch<'_>) -> Option<Pid> {
    let keeper = launch.heard(installed::next_keeper(launch.context))?;
    let end = launch.deadline.min(Instant::now() + STARTS_WITHIN);
    let left = || end.saturating_duration_since(Instant::now());
    if let Err(why) = keeper.systemctl.order(&[keeper.start(), &keeper.unit], left()) {
        launch.note(format!("{} does not start the watcher: {why}", keeper.unit));
        return None;
    }
    let look = || match launch.context.verdict().1 {
        Verdict::Ok { pid, .. } | Verdict::Slow { pid, .. } => Some(pid),
        _ => None,
    };
    wait_until(left(), PAUSE, look)
}

/// Why a manager has not replaced its watcher, or why what watches now is not the manager's.
#[derive(Debug, Error)]
enum NotByManager {
    /// It does not do what it is told.
    #[error(transparent)]
    Manager(#[from] ManagerError),
    /// The old one has not ended.
    #[error("its manager says that it has restarted pid {0}, which is still there")]
    StillThere(Pid),
    /// Nobody watches.
    #[error("it was restarted, but {0}")]
    NotWatching(Verdict),
    /// Somebody else watches.
    #[error("it was restarted, but does not keep what watches now: {0}")]
    NotKept(Verdict),
}

/// Has the manager restart its watcher, and says who watches then.
fn by_manager(launch: &Launch<'_>, keeper: &Keeper, old: Pid) -> Result<Pid, NotByManager> {
    let starting = launch.left();
    let at_most = launch.context.settings().stop_grace + starting + SLACK;
    keeper.systemctl.order(&["restart", &keeper.unit], at_most)?;
    let kept = keeper.systemctl.state(&keeper.unit)?.pid;
    match launch.context.settled_verdict(starting.max(SLACK)).1 {
        verdict if verdict.living_pid() == Some(old) => Err(NotByManager::StillThere(old)),
        verdict if !verdict.is_watching() => Err(NotByManager::NotWatching(verdict)),
        verdict => match verdict.living_pid() {
            Some(pid) if kept == Some(pid) => Ok(pid),
            _ => Err(NotByManager::NotKept(verdict)),
        },
    }
}
