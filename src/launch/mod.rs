//! Obtaining a watcher: use the live one, or start one and hear its own word.
//!
//! # Theory
//!
//! A start is never judged by whether a file appeared or a time passed. The child gets one end of a pipe before it
//! exists; on it, it says in its own words what became of it: ready, lost the race to another, or failed because of a
//! reason. The caller waits for that word, for the child's end (the pipe closes), or for the deadline, whichever is first.
//!
//! Replacing a watcher is the same with two words: the successor first says that it *stands by* (settings read, sources
//! open), only then is the old one asked to leave, and the successor takes the lock the moment it is free. If it
//! cannot stand by, the old one stays. The successor waits for the lock by itself, so it does not matter if the
//! caller dies in between. A watcher that a service manager keeps is replaced by that manager, under the same protection.

pub mod bound_child;
pub mod spawn;
mod via_service;

use std::fmt;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use self::bound_child::{Companion, FirstLook};
use self::spawn::{Kin, Mode, Start};
use crate::base::failpoint::Failpoint;
use crate::base::wait_until::wait_until;
use crate::firstmate::replace_watcher;
use crate::firstmate::shell_watcher::ShellHolder;
use crate::lock::Attempt;
use crate::ownership::context::Session;
use crate::ownership::held_home;
use crate::ownership::home_lock;
use crate::ownership::owner::Owner;
use crate::ownership::start_lock::Turn;
use crate::ownership::terminate::{self, Left, Proven};
use crate::ownership::verdict::{Evidence, OwnerEvidence, STOPPED, Verdict};
use crate::service::installed;
use crate::system::identity::Pid;
use crate::system::platform;
use crate::system::status_pipe::{NoStatus, StartStatus};
use crate::system::{Real, World};

/// What is true after a watcher was obtained.
#[derive(Debug)]
pub enum Obtained {
    /// One was started.
    Started {
        /// The new watcher.
        pid: Pid,
        /// The one it replaced.
        replaced: Option<Replacement>,
        /// The watcher itself, if it is to live with its starter.
        companion: Option<Together>,
    },
    /// One was running already.
    Healthy {
        /// The watcher.
        pid: Pid,
        /// Age of its last beat.
        beat: Duration,
    },
}

/// A watcher that lives with its starter, and what became of its first look.
#[derive(Debug)]
pub struct Together {
    /// The watcher.
    pub companion: Companion,
    /// Whether it waits by now.
    pub first_look: FirstLook,
}

/// A watcher that was replaced.
#[derive(Debug)]
pub struct Replacement {
    /// The pid it had.
    pub pid: Pid,
    /// How it left.
    pub left: Left,
    pub(crate) process: Proven<platform::Pinned>,
}

impl Replacement {
    /// Waits until the process is gone, too: it has no lock and does nothing any more, but ends a little later.
    pub fn see_off(&self, session: &Session) {
        if !self.process.has_ended_within(session.world.as_ref(), session.settings().stop_grace) {
            session.console.note(format!("pid {} has let go of the home, but its process has not ended yet", self.pid));
        }
    }
}

impl fmt::Display for Obtained {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { pid, .. } => write!(formatter, "watcher: started pid={pid} (beacon fresh)"),
            Self::Healthy { pid, beat } => write!(formatter, "watcher: healthy pid={pid} (beacon {}s)", beat.as_secs()),
        }
    }
}

/// Whether a running, healthy watcher is good enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Any healthy watcher will do.
    Any,
    /// Any healthy watcher will do; one that a person has stopped is not replaced.
    Kept,
    /// It must be a new one.
    New,
}

/// How long to pause between two looks at somebody else's start. Many may be looking, and the start is to come first.
const PAUSE: Duration = Duration::from_millis(10);

/// How long one start may keep the others waiting.
const TURN_TAKES: Duration = Duration::from_secs(2);

/// Obtains a watcher for the session's home. The error is the reason, for the line `watcher: FAILED - <reason>`.
pub fn obtain(session: &Session, wish: Wish) -> Result<Obtained, String> {
    obtain_as(session, wish, Kin::Nobody)
}

/// As [`obtain`]; a watcher that is started has this kin. With [`Kin::Starter`], the thread that calls this must live as
/// long as the watcher shall.
///
/// # Errors
/// The reason why none could be had.
pub fn obtain_as(session: &Session, wish: Wish, kin: Kin) -> Result<Obtained, String> {
    let deadline = Instant::now() + session.settings().arm_timeout;
    let mut lost_to = None;
    // Many may lose one watcher at the same instant. Looking costs more than asking for the turn, so whoever is to
    // replace it asks first, and the one who gets the turn is not held up by the looks of all the others.
    let mut turn = match wish {
        Wish::Kept if !is_removed(session) => match take_turn(session, deadline) {
            Chance::Turn(turn) => Some(turn),
            Chance::Missed | Chance::Untold => None,
        },
        Wish::Kept | Wish::Any | Wish::New => None,
    };
    loop {
        let (evidence, verdict) = look(session, wish, deadline);
        session.console.detail(format!("{}: {verdict}", verdict.word()));
        match (verdict, wish) {
            (Verdict::Ok { pid, beat } | Verdict::Slow { pid, beat }, Wish::Any | Wish::Kept) => {
                return Ok(Obtained::Healthy { pid, beat });
            }
            // Whoever won the race against our own start is as new as it can be.
            (Verdict::Ok { pid, beat }, Wish::New) if lost_to == Some(pid) => {
                return Ok(Obtained::Healthy { pid, beat });
            }
            (Verdict::Stopped { last: Some((pid, how)) }, Wish::Kept) if how == STOPPED => {
                return Err(format!("pid {pid} was stopped on request, and is not replaced"));
            }
            (_, Wish::Kept) if is_removed(session) => {
                return Err(format!("{} was removed; it is not made again", session.home.state().display()));
            }
            (Verdict::Stopped { .. } | Verdict::Dead { .. }, _) => match start(session, deadline, turn.take(), kin)? {
                Outcome::Started(pid, companion) => {
                    return Ok(Obtained::Started { pid, replaced: None, companion });
                }
                Outcome::Lost(winner) => lost_to = winner,
            },
            (Verdict::Unknown { .. }, Wish::New) if replace_watcher::clear(session, &evidence) => {}
            (verdict @ (Verdict::Ok { .. } | Verdict::Stuck { .. } | Verdict::Starting { .. }), wish)
                if evidence.shell_holder().is_some_and(ShellHolder::is_proven) =>
            {
                let Some(shell) = evidence.shell_holder() else { continue };
                match replace_watcher::replace(session, shell, (&verdict, wish), deadline, kin)? {
                    Replaced::By(pid, replaced, companion) => {
                        return Ok(Obtained::Started { pid, replaced: Some(replaced), companion });
                    }
                    Replaced::LostTo(winner) => lost_to = winner,
                }
            }
            (Verdict::Stuck { .. }, _)
            | (Verdict::Ok { .. } | Verdict::Slow { .. } | Verdict::Starting { .. }, Wish::New)
                if recorded(&evidence).is_some() =>
            {
                let Some(owner) = recorded(&evidence) else { continue };
                match replace(session, owner, deadline, kin)? {
                    Replaced::By(pid, replaced, companion) => {
                        return Ok(Obtained::Started { pid, replaced: Some(replaced), companion });
                    }
                    Replaced::LostTo(winner) => lost_to = winner,
                }
            }
            (verdict, _) => return Err(verdict.to_string()),
        }
        if Instant::now() >= deadline {
            return Err("other starts won every race until the deadline".to_owned());
        }
    }
}

/// Looks until no start is under way. Whoever is to replace a shell watcher that is proven need not wait for its beat.
fn look(session: &Session, wish: Wish, deadline: Instant) -> (Evidence, Verdict) {
    let (evidence, verdict) = session.verdict();
    if wish == Wish::New && evidence.shell_holder().is_some_and(ShellHolder::is_proven) {
        return (evidence, verdict);
    }
    session.settled_verdict(deadline.saturating_duration_since(Instant::now()))
}

/// Whether a person has removed the home under whoever was waiting in it.
fn is_removed(session: &Session) -> bool {
    let state = session.world.facts_of_path(session.home.state());
    state.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

fn recorded(evidence: &Evidence) -> Option<&Owner> {
    match &evidence.owner {
        OwnerEvidence::Recorded(owner, _) => Some(owner),
        OwnerEvidence::None | OwnerEvidence::Damaged(_) => None,
    }
}

/// What became of asking for the turn to start a watcher.
enum Chance {
    /// It is ours.
    Turn(Turn<Real>),
    /// Somebody else had it, and a watcher holds the home now.
    Missed,
    /// Turns cannot be taken here, or somebody keeps one for too long. The home's own lock decides all the same; a start
    /// may only be in vain.
    Untold,
}

/// Waits for the turn, or for a watcher that somebody else has started meanwhile.
fn take_turn(session: &Session, deadline: Instant) -> Chance {
    let world = session.world.as_ref();
    let ask = || match Turn::try_take(world, &session.home) {
        Ok(Attempt::Taken(turn)) => Some(Chance::Turn(turn)),
        Ok(Attempt::Busy(())) => home_lock::is_marked(world, &session.place).then_some(Chance::Missed),
        Err(error) => {
            session.console.note(format!("starting without taking turns: {error}"));
            Some(Chance::Untold)
        }
    };
    let left = deadline.saturating_duration_since(Instant::now());
    // A starter that was stopped, say, keeps its turn and must not keep everybody from starting.
    wait_until(left.min(TURN_TAKES), PAUSE, ask).unwrap_or(Chance::Untold)
}

enum Outcome {
    Started(Pid, Option<Together>),
    Lost(Option<Pid>),
}

fn start(session: &Session, deadline: Instant, turn: Option<Turn<Real>>, kin: Kin) -> Result<Outcome, String> {
    // A person may have removed parts of the home since.
    held_home::prepare(session.world.as_ref(), &session.home, &session.place).map_err(|error| error.to_string())?;
    let _turn = match turn {
        Some(turn) => Some(turn),
        None => match take_turn(session, deadline) {
            Chance::Turn(turn) => Some(turn),
            Chance::Missed => return Ok(Outcome::Lost(None)),
            Chance::Untold => None,
        },
    };
    // Whoever had the turn before may have started one meanwhile.
    if !matches!(session.verdict().1, Verdict::Stopped { .. } | Verdict::Dead { .. }) {
        return Ok(Outcome::Lost(None));
    }
    if kin == Kin::Nobody
        && session.world.is_protected(Failpoint::ObtainStartThroughManager)
        && let Some(pid) = via_service::start(session, deadline)
    {
        return Ok(Outcome::Started(pid, None));
    }
    let start = Start::spawn(session, &Mode::AtOnce, kin)?;
    match start.next_word(deadline)? {
        StartStatus::Ready { pid, .. } | StartStatus::Taken { pid } => {
            Ok(Outcome::Started(ready(pid)?, start.together()))
        }
        StartStatus::Lost { pid } => Ok(Outcome::Lost(pid.and_then(Pid::new))),
        StartStatus::Failed { reason } => Err(reason),
        StartStatus::Standby { .. } => Err("the new watcher stands by although nobody asked it to".to_owned()),
    }
}

pub(crate) fn ready(pid: u32) -> Result<Pid, String> {
    Pid::new(pid).ok_or_else(|| format!("the new watcher says that it is pid {pid}"))
}

pub(crate) enum Replaced {
    By(Pid, Replacement, Option<Together>),
    LostTo(Option<Pid>),
}

/// Waits until a successor stands by, before the old watcher is asked to leave. What else it says is the outcome.
pub(crate) fn standing_by(
    successor: Start,
    deadline: Instant,
    old: Pid,
    proven: Proven<platform::Pinned>,
) -> Result<ControlFlow<Replaced, (Start, Proven<platform::Pinned>)>, String> {
    Ok(match successor.next_word(deadline)? {
        StartStatus::Standby { .. } => ControlFlow::Continue((successor, proven)),
        StartStatus::Failed { reason } => {
            return Err(format!("pid {old} stays, because its successor failed: {reason}"));
        }
        StartStatus::Lost { pid } => ControlFlow::Break(Replaced::LostTo(pid.and_then(Pid::new))),
        StartStatus::Ready { pid, .. } | StartStatus::Taken { pid } => {
            let replacement = Replacement { pid: old, left: Left::Already, process: proven };
            ControlFlow::Break(Replaced::By(ready(pid)?, replacement, successor.together()))
        }
    })
}

fn replace(session: &Session, owner: &Owner, deadline: Instant, kin: Kin) -> Result<Replaced, String> {
    let world = session.world.as_ref();
    let old = owner.pid();
    let sure = terminate::prove(world, &session.place, owner, &session.here);
    let Some(proven) = sure.map_err(|refusal| format!("pid {old} is not replaced: {refusal}"))? else {
        return Ok(Replaced::LostTo(None));
    };
    let keeper = installed::keeper_of(session, old).filter(|_| world.is_protected(Failpoint::ObtainThroughManager));
    let grace = session.settings().stop_grace;
    // The successor gives up by itself if the lock never becomes free.
    let patience = grace + deadline.saturating_duration_since(Instant::now()) + via_service::SLACK;
    let successor = Start::spawn(session, &Mode::Standby(patience), kin)?;
    let (successor, proven) = match standing_by(successor, deadline, old, proven)? {
        ControlFlow::Continue(both) => both,
        ControlFlow::Break(over) => return Ok(over),
    };
    // What stands by now watches if the manager ends the old one and cannot start the next.
    if let Some(keeper) = &keeper {
        match via_service::replace(session, keeper, old, deadline) {
            Ok(pid) => {
                return Ok(Replaced::By(pid, Replacement { pid: old, left: Left::Asked, process: proven }, None));
            }
            Err(why) => session.console.note(format!(
                "{}: {why}; the watcher is replaced without it, and to have it kept again: {}",
                keeper.unit,
                keeper.way_back()
            )),
        }
    }
    let not_replaced = |refusal: terminate::Refusal| format!("pid {old} is not replaced: {refusal}");
    let mut left = proven.ask(world).map_err(not_replaced)?;
    // Its successor knows first: the lock is free a moment before the process is gone.
    let mut answer = successor.next(Instant::now() + grace);
    if matches!(answer, Err(NoStatus::DeadlinePassed)) {
        left = proven.insist(world).map_err(not_replaced)?;
        answer = successor.next(Instant::now() + session.settings().arm_timeout);
    }
    match answer {
        Ok(StartStatus::Ready { pid, .. } | StartStatus::Taken { pid }) => {
            let replacement = Replacement { pid: old, left, process: proven };
            Ok(Replaced::By(ready(pid)?, replacement, successor.together()))
        }
        Ok(StartStatus::Lost { pid }) => Ok(Replaced::LostTo(pid.and_then(Pid::new))),
        // Nobody watches now, so nothing is given up: the next round starts another one.
        Ok(StartStatus::Failed { reason }) => {
            session.console.note(format!("pid {old} has left, but its successor failed: {reason}"));
            Ok(Replaced::LostTo(None))
        }
        Ok(StartStatus::Standby { .. }) => Err("the successor stands by although the lock is free".to_owned()),
        Err(silence) => {
            session.console.note(format!("pid {old} has left, but {}", successor.in_words(&silence)));
            Ok(Replaced::LostTo(None))
        }
    }
}
