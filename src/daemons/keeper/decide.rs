//! What the keeper does next about one daemon: a pure function over what was seen and what it remembers.
//!
//! # Theory
//!
//! Each life has a generation, and the keeper remembers the last one whose end it has *dealt with*. An end beyond that is
//! news: it is announced, and [`restart_policy::after`] says whether and when the next life begins. Remembering it and announcing
//! it go together, so an end is dealt with exactly once in a run of the keeper, and at least once over its deaths.
//!
//! A start is decided only from [`Course::BackingOff`], only when nothing lives and nobody is at work on it, and only
//! without an attempt of its own under way. An attempt that leaves no life behind counts as a failed one, so there are
//! never two starts without an end or a failure remembered in between.
//!
//! What a person did goes first: a life that was asked to end ends in silence and stays ended; one who has no memory of a
//! daemon (it is new, or `daemon restart` took the memory away) starts it afresh; a daemon that was given up stays so.

use std::time::Duration;

use crate::daemons::records::{Course, Ended, Keeping, SCHEMA};
use crate::daemons::restart_policy::{self, Decision, End, Past, Rules};
use crate::settings::daemon_definition::{Definition, Name, Restart, milliseconds};

/// Whether a daemon lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// Nothing of it lives that could not be cleared away, and nobody is at work on it.
    Gone,
    /// A monitor is at work, and the daemon does not live yet, or no more.
    InHand,
    /// It lives.
    Alive {
        /// Its life.
        generation: u64,
        /// Whether it has a monitor.
        care: Care,
    },
    /// Nobody can tell, or somebody else is there.
    Unknown(String),
}

/// Whether a living daemon has a monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Care {
    /// It has.
    Attended,
    /// Its monitor is gone: nobody reads its output, and nobody would see how it ends.
    Alone,
}

/// The beginning of the recorded life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// Which life.
    pub generation: u64,
    /// The boot in which it began.
    pub boot_id: Option<String>,
    /// When, in milliseconds of that boot's clock.
    pub since_ms: u64,
}

/// What was seen of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Whether it lives.
    pub presence: Presence,
    /// The last recorded life.
    pub begun: Option<Begun>,
    /// The last recorded end.
    pub end: Option<Ended>,
    /// The life that a person asked to end.
    pub stopped: Option<u64>,
}

impl Observation {
    /// The last life there is any record of; 0 if there is none.
    fn last(&self) -> u64 {
        let begun = self.begun.as_ref().map_or(0, |begun| begun.generation);
        self.end.as_ref().map_or(0, |end| end.generation).max(begun)
    }

    fn recorded_end(&self, generation: u64) -> Option<&Ended> {
        self.end.as_ref().filter(|end| end.generation == generation)
    }
}

/// What became of the keeper's own last attempt to start it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// There is none to be considered.
    None,
    /// Its monitor has not said its last word.
    UnderWay,
    /// It failed, for this reason. If it left a life behind, the end of that says more.
    Failed(String),
}

/// The clock of the keeper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clock {
    /// Time since boot without suspend.
    pub now: Duration,
    /// The boot.
    pub boot_id: Option<String>,
}

impl Clock {
    fn now_ms(&self) -> u64 {
        milliseconds::of(self.now)
    }
}

/// What the keeper is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Remember this, and look again.
    Remember(Keeping),
    /// Announce what happened, remember this once that is recorded, and look again.
    Announce {
        /// What to remember.
        keeping: Keeping,
        /// What happened, as a phrase after the daemon's name.
        what: String,
    },
    /// Start it.
    Start,
    /// Give it a monitor.
    Adopt,
    /// Nothing before this time, in milliseconds of the clock.
    WaitUntil(u64),
    /// Nothing before something happens.
    Rest,
    /// Nothing, because somebody else is at work, who ends without a sign.
    LookAgain,
    /// Nothing, for this reason.
    Refuse(String),
}

/// One daemon, as far as decisions are concerned.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its name.
    pub name: &'a Name,
    /// When it is restarted.
    pub rules: &'a Rules,
}

/// The rules of a definition.
pub fn rules(definition: &Definition) -> Rules {
    Rules {
        restart: definition.restart,
        backoff: definition.backoff,
        backoff_max: definition.backoff_max,
        brake: definition.brake,
    }
}

/// What to do next.
pub fn decide(
    subject: Subject<'_>,
    seen: &Observation,
    attempt: &Attempt,
    keeping: Option<&Keeping>,
    clock: &Clock,
) -> Action {
    match (&seen.presence, keeping) {
        (Presence::Unknown(why), _) => Action::Refuse(why.clone()),
        (Presence::InHand, _) => Action::LookAgain,
        (Presence::Alive { generation, .. }, None) => Action::Remember(first(generation.saturating_sub(1), clock)),
        (Presence::Alive { generation, care }, Some(keeping)) => alive(seen, *generation, *care, attempt, keeping),
        (Presence::Gone, None) if is_stopped(seen, seen.last()) => Action::Rest,
        (Presence::Gone, None) => Action::Remember(due_now(first(seen.last(), clock), clock)),
        (Presence::Gone, Some(keeping)) => gone(subject, seen, attempt, keeping, clock),
    }
}

fn alive(seen: &Observation, generation: u64, care: Care, attempt: &Attempt, keeping: &Keeping) -> Action {
    // Somebody else started the next life before the last end was dealt with.
    let unheard = seen.end.as_ref().filter(|end| end.generation > keeping.generation && end.generation < generation);
    if let Some(end) = unheard {
        let keeping = Keeping { generation: end.generation, course: Course::Content, ..keeping.clone() };
        return if is_stopped(seen, end.generation) {
            Action::Remember(keeping)
        } else {
            Action::Announce { keeping, what: format!("{} and was started again since", end.end) }
        };
    }
    // A life that began after the keeper had given up, or while it waited, is a person's will.
    if keeping.course != Course::Content && generation > keeping.generation {
        return Action::Remember(Keeping { course: Course::Content, ..keeping.clone() });
    }
    match (care, attempt) {
        (Care::Attended, _) => Action::Rest,
        (Care::Alone, Attempt::UnderWay) => Action::LookAgain,
        (Care::Alone, _) => Action::Adopt,
    }
}

fn gone(subject: Subject<'_>, seen: &Observation, attempt: &Attempt, keeping: &Keeping, clock: &Clock) -> Action {
    let last = seen.last();
    let is_news = last > keeping.generation;
    let content = Keeping { generation: last.max(keeping.generation), course: Course::Content, ..keeping.clone() };
    match (&keeping.course, attempt) {
        (_, Attempt::UnderWay) => Action::LookAgain,
        (Course::GivenUp { .. }, _) => Action::Rest,
        _ if is_stopped(seen, last) && (is_news || keeping.course != Course::Content) => Action::Remember(content),
        _ if is_stopped(seen, last) => Action::Rest,
        _ if is_news && is_of_other_boot(seen, clock) => Action::Remember(due_now(first(last, clock), clock)),
        _ if is_news => after_end(subject, seen, keeping, clock),
        (_, Attempt::Failed(reason)) => {
            let end = End::NotReady { reason: reason.clone() };
            follow(subject, &end, Duration::ZERO, keeping.clone(), clock)
        }
        (Course::Content, Attempt::None) => Action::Rest,
        (Course::BackingOff { .. }, _) if keeping.boot_id != clock.boot_id => Action::Start,
        (Course::BackingOff { until_ms }, _) if *until_ms <= clock.now_ms() => Action::Start,
        (Course::BackingOff { until_ms }, _) => Action::WaitUntil(*until_ms),
    }
}

/// The life before this one ended with its machine, which is nobody's failure.
fn is_of_other_boot(seen: &Observation, clock: &Clock) -> bool {
    let last = seen.last();
    let boots = [
        seen.begun.as_ref().filter(|begun| begun.generation == last).map(|begun| &begun.boot_id),
        seen.recorded_end(last).map(|end| &end.boot_id),
    ];
    boots.into_iter().flatten().any(|boot| boot.is_some() && clock.boot_id.is_some() && *boot != clock.boot_id)
}

fn after_end(subject: Subject<'_>, seen: &Observation, keeping: &Keeping, clock: &Clock) -> Action {
    let last = seen.last();
    let unseen = || {
        let since = seen.begun.as_ref().map_or(0, |begun| begun.since_ms);
        (End::Unseen, Duration::from_millis(clock.now_ms().saturating_sub(since)))
    };
    let as_recorded = |ended: &Ended| (ended.end.clone(), Duration::from_millis(ended.lasted_ms));
    let (end, lasted) = seen.recorded_end(last).map_or_else(unseen, as_recorded);
    follow(subject, &end, lasted, Keeping { generation: last, ..keeping.clone() }, clock)
}

/// What follows an end or a failed start.
fn follow(subject: Subject<'_>, end: &End, lasted: Duration, keeping: Keeping, clock: &Clock) -> Action {
    let past = if keeping.boot_id == clock.boot_id { keeping.past.clone() } else { Past::default() };
    let (decision, past) = restart_policy::after(end, lasted, clock.now, subject.rules, &past);
    let keeping = Keeping { past, boot_id: clock.boot_id.clone(), ..keeping };
    let window = subject.rules.brake.window;
    let (course, restarts, what) = match decision {
        Decision::Leave => (Course::Content, 0, format!("{end}{}", left_so(subject.rules.restart))),
        Decision::StartAfter(pause) => {
            let until_ms = milliseconds::of(clock.now.saturating_add(pause));
            let what = format!("{end}, starting again in {}", humantime::format_duration(pause));
            (Course::BackingOff { until_ms }, 1, what)
        }
        Decision::GiveUp { restarts } => {
            let what = format!(
                "was given up after {restarts} restarts in {}: it {end}; daemon restart {} starts it again",
                humantime::format_duration(window),
                subject.name
            );
            (Course::GivenUp { restarts, window }, 0, what)
        }
    };
    let restarts = keeping.restarts.saturating_add(restarts);
    Action::Announce { keeping: Keeping { restarts, course, ..keeping }, what }
}

fn left_so(restart: Restart) -> &'static str {
    match restart {
        Restart::OnFailure => ", which is no failure, so it is not started again",
        Restart::No | Restart::Always => " and is not started again",
    }
}

fn is_stopped(seen: &Observation, generation: u64) -> bool {
    seen.stopped == Some(generation)
}

fn first(generation: u64, clock: &Clock) -> Keeping {
    let (past, boot_id) = (Past::default(), clock.boot_id.clone());
    Keeping { schema: SCHEMA, generation, boot_id, past, restarts: 0, course: Course::Content }
}

/// A start that is due is remembered before it is made, lest a keeper that dies in between leaves a daemon that never ran.
fn due_now(keeping: Keeping, clock: &Clock) -> Keeping {
    Keeping { course: Course::BackingOff { until_ms: clock.now_ms() }, ..keeping }
}
