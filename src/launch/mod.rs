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

pub mod failure;
mod replace;
pub mod spawn;

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use self::failure::Failure;
use self::replace::Replaced;
pub use self::replace::Replacement;
pub use self::spawn::Wish;
use self::spawn::{BoundWatcher, Launch, Lifetime, Mode, Start};
use crate::base::console::Note;
use crate::base::failpoint::Failpoint;
use crate::base::wait_until::wait_until;
use crate::lock::Attempt;
use crate::ownership::context::HomeContext;
use crate::ownership::foreign_holder::ForeignObservation;
use crate::ownership::held_home;
use crate::ownership::home_lock;
use crate::ownership::records::Owner;
use crate::ownership::start_lock::StartLock;
use crate::ownership::verdict::{Evidence, HowLeft, OwnerEvidence, Verdict};
use crate::system::identity::Pid;
use crate::system::status_pipe::StartStatus;
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
        child: Option<BoundWatcher>,
    },
    /// One was running already.
    Healthy {
        /// The watcher.
        pid: Pid,
        /// Age of its last beat.
        beat: Duration,
    },
}

impl fmt::Display for Obtained {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { pid, .. } => write!(formatter, "watcher: started pid={pid} (beacon fresh)"),
            Self::Healthy { pid, beat } => write!(formatter, "watcher: healthy pid={pid} (beacon {}s)", beat.as_secs()),
        }
    }
}

/// How long to pause between two looks at somebody else's start. Many may be looking, and the start is to come first.
const PAUSE: Duration = Duration::from_millis(10);

/// How long one start may keep the others waiting.
const TURN_TAKES: Duration = Duration::from_secs(2);

/// Obtains a watcher for a home. `tell` hears what happens meanwhile, at the moment it does.
///
/// # Errors
/// The reason why none could be had.
pub fn obtain(context: &HomeContext, wish: Wish, tell: &mut dyn FnMut(Note)) -> Result<Obtained, Failure> {
    obtain_as(context, wish, Lifetime::Own, tell)
}

/// As [`obtain`]; a watcher that is started has this lifetime. With [`Lifetime::Starter`], the thread that calls this must live as
/// long as the watcher shall.
///
/// # Errors
/// As [`obtain`].
pub fn obtain_as(
    context: &HomeContext,
    wish: Wish,
    lifetime: Lifetime,
    tell: &mut dyn FnMut(Note),
) -> Result<Obtained, Failure> {
    let deadline = Instant::now() + context.settings().arm_timeout;
    let mut launch = Launch { context, wish, lifetime, deadline, tell };
    let mut lost_to = None;
    // Many may lose one watcher at the same instant. Looking costs more than asking for the turn, so whoever is to
    // replace it asks first, and the one who gets the turn is not held up by the looks of all the others.
    let mut turn = match wish {
        Wish::Kept if is_removed(context).is_none() => match take_turn(&mut launch) {
            Chance::Turn(turn) => Some(turn),
            Chance::Missed | Chance::Untold => None,
        },
        Wish::Kept | Wish::Any | Wish::New => None,
    };
    loop {
        let (evidence, verdict) = look(&launch);
        (launch.tell)(Note::Detail(format!("{}: {verdict}", verdict.word())));
        let outcome = match decide(&evidence, &verdict, (wish, lost_to), || is_removed(context))? {
            Step::Use { pid, beat } => return Ok(Obtained::Healthy { pid, beat }),
            Step::Start => start(&mut launch, turn.take())?,
            Step::Clear(seen) if replace::clear(&mut launch, seen) => Replaced::LostTo(lost_to),
            Step::Clear(_) => return Err(Failure::Unreplaceable(verdict)),
            Step::ReplaceForeign(seen) => replace::foreign(&mut launch, seen, verdict)?,
            Step::ReplaceOwn(owner) => replace::own(&mut launch, owner)?,
        };
        match outcome {
            Replaced::By { pid, replaced, child } => return Ok(Obtained::Started { pid, replaced, child }),
            Replaced::LostTo(winner) => lost_to = winner,
        }
        if Instant::now() >= deadline {
            return Err(Failure::LostEveryRace);
        }
    }
}

/// What a verdict asks for.
enum Step<'a> {
    /// The watcher that is there is good enough.
    Use { pid: Pid, beat: Duration },
    /// Nobody watches.
    Start,
    /// It may be that another program has the pid of a foreign watcher.
    Clear(&'a ForeignObservation),
    /// A foreign watcher is to leave.
    ReplaceForeign(&'a ForeignObservation),
    /// A watcher of ours is to leave.
    ReplaceOwn(&'a Owner),
}

/// What is to be done by a verdict. `is_removed` says whether a person has removed the home, and is only asked if it matters.
fn decide<'a>(
    evidence: &'a Evidence,
    verdict: &Verdict,
    (wish, lost_to): (Wish, Option<Pid>),
    is_removed: impl FnOnce() -> Option<PathBuf>,
) -> Result<Step<'a>, Failure> {
    match (verdict, wish) {
        (&Verdict::Ok { pid, beat } | &Verdict::Slow { pid, beat }, Wish::Any | Wish::Kept) => {
            return Ok(Step::Use { pid, beat });
        }
        // Whoever won the race against our own start is as new as it can be.
        (&Verdict::Ok { pid, beat }, Wish::New) if lost_to == Some(pid) => return Ok(Step::Use { pid, beat }),
        (&Verdict::Stopped { last: Some((pid, HowLeft::Stopped)) }, Wish::Kept) => return Err(Failure::Stopped(pid)),
        _ => {}
    }
    if wish == Wish::Kept
        && let Some(state) = is_removed()
    {
        return Err(Failure::Removed(state));
    }
    let foreign = evidence.foreign_holder();
    let is_proven = foreign.is_some_and(ForeignObservation::is_proven);
    match (verdict, wish, foreign, &evidence.owner) {
        (Verdict::Stopped { .. } | Verdict::Dead { .. }, ..) => Ok(Step::Start),
        (Verdict::Unknown { .. }, Wish::New, Some(seen), _) => Ok(Step::Clear(seen)),
        (Verdict::Ok { .. } | Verdict::Stuck { .. } | Verdict::Starting { .. }, _, Some(seen), _) if is_proven => {
            Ok(Step::ReplaceForeign(seen))
        }
        (Verdict::Stuck { .. }, _, _, OwnerEvidence::Recorded(owner, _))
        | (
            Verdict::Ok { .. } | Verdict::Slow { .. } | Verdict::Starting { .. },
            Wish::New,
            _,
            OwnerEvidence::Recorded(owner, _),
        ) => Ok(Step::ReplaceOwn(owner)),
        _ => Err(Failure::Unreplaceable(verdict.clone())),
    }
}

/// Looks until no start is under way. Whoever is to replace a foreign watcher that is proven need not wait for its beat.
fn look(launch: &Launch<'_>) -> (Evidence, Verdict) {
    let (evidence, verdict) = launch.context.verdict();
    if launch.wish == Wish::New && evidence.foreign_holder().is_some_and(ForeignObservation::is_proven) {
        return (evidence, verdict);
    }
    launch.context.settled_verdict(launch.left())
}

/// The state directory, if a person has removed it under whoever was waiting in it.
fn is_removed(context: &HomeContext) -> Option<PathBuf> {
    let state = context.home.state();
    let looked = context.world.facts_of_path(state);
    looked.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound).then(|| state.to_owned())
}

/// What became of asking for the turn to start a watcher.
enum Chance {
    /// It is ours.
    Turn(StartLock<Real>),
    /// Somebody else had it, and a watcher holds the home now.
    Missed,
    /// Turns cannot be taken here, or somebody keeps one for too long. The home's own lock decides all the same; a start
    /// may only be in vain.
    Untold,
}

/// Waits for the turn, or for a watcher that somebody else has started meanwhile.
fn take_turn(launch: &mut Launch<'_>) -> Chance {
    let world = launch.context.world.as_ref();
    // A starter that was stopped, say, keeps its turn and must not keep everybody from starting.
    let at_most = launch.left().min(TURN_TAKES);
    let ask = || match StartLock::try_take(world, &launch.context.home) {
        Ok(Attempt::Taken(turn)) => Some(Chance::Turn(turn)),
        Ok(Attempt::Busy(())) => home_lock::is_marked(world, &launch.context.place).then_some(Chance::Missed),
        Err(error) => {
            launch.note(format!("starting without taking turns: {error}"));
            Some(Chance::Untold)
        }
    };
    wait_until(at_most, PAUSE, ask).unwrap_or(Chance::Untold)
}

fn start(launch: &mut Launch<'_>, turn: Option<StartLock<Real>>) -> Result<Replaced, Failure> {
    let context = launch.context;
    // A person may have removed parts of the home since.
    held_home::prepare(context.world.as_ref(), &context.home, &context.place)?;
    let _turn = match turn {
        Some(turn) => Some(turn),
        None => match take_turn(launch) {
            Chance::Turn(turn) => Some(turn),
            Chance::Missed => return Ok(Replaced::LostTo(None)),
            Chance::Untold => None,
        },
    };
    // Whoever had the turn before may have started one meanwhile.
    if !matches!(context.verdict().1, Verdict::Stopped { .. } | Verdict::Dead { .. }) {
        return Ok(Replaced::LostTo(None));
    }
    if launch.lifetime == Lifetime::Own
        && context.world.is_protected(Failpoint::ObtainStartThroughManager)
        && let Some(pid) = replace::start_by_manager(launch)
    {
        return Ok(Replaced::By { pid, replaced: None, child: None });
    }
    let start = Start::spawn(context, Mode::AtOnce, launch.lifetime)?;
    match start.next_word(launch.deadline)? {
        StartStatus::Ready { pid, .. } | StartStatus::Taken { pid } => replace::by(pid, None, start),
        StartStatus::Lost { pid } => Ok(Replaced::LostTo(pid.and_then(Pid::new))),
        StartStatus::Failed { reason } => Err(Failure::Child(reason)),
        StartStatus::Standby { .. } => Err(Failure::UnaskedStandby),
    }
}
