//! The verdict: one pure function from the evidence to the one word that everybody acts on.
//!
//! # The table
//!
//! Rows are tried from the top.
//!
//! | lock | record | beat | verdict |
//! |---|---|---|---|
//! | cannot be examined | | | `unknown` |
//! | free or absent, and a foreign holder is starting | | | `starting` |
//! | free or absent, and a foreign holder is proven to be this home's watcher | | within its bound | `ok` |
//! | free or absent, and a foreign holder is proven to be this home's watcher | | none, within the bound since it took its lock | `starting` |
//! | free or absent, and a foreign holder is proven to be this home's watcher | | over the bound, or none for so long | `stuck` |
//! | free or absent, and a foreign holder about which nobody can tell | | | `unknown`, with its reason |
//! | free or absent | none | | `stopped` |
//! | free or absent | says that its holder left, or the history does, or a stop was asked for | | `stopped` |
//! | free or absent | a holder that did not leave, lives, and has its lock elsewhere (`runtime_dir`) | | `unknown` |
//! | free or absent | any, but a person has stopped a foreign watcher since | | `stopped` |
//! | free or absent | a holder that did not leave | | `dead` |
//! | held without our mark | | | `foreign` |
//! | held | not of a living process, or none | none, or within the bound | `starting` |
//! | held | not of a living process, or none | over the bound | `unknown` |
//! | held | *same* or *unknown*, in another time namespace | | `unknown` |
//! | held | *same* or *unknown* | at most two polls old | `ok` |
//! | held | *same* or *unknown* | later, within the bound | `slow` |
//! | held | *same* or *unknown* | none yet, within the bound since it took the lock | `starting` |
//! | held | *same* | over the bound | `stuck` |
//! | held | *unknown* | over the bound | `unknown` |
//!
//! A fresh beat beside a held lock proves life and health even where the process itself cannot be examined (another pid
//! namespace); what is unknown then is whom to signal, and nothing here authorises that.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::foreign_holder::{ForeignObservation, ForeignState};
use super::home_lock::LockObservation;
use super::records::{Beat, Life, Owner};
use crate::system::Now;
use crate::system::identity::{Difference, Pid, Sameness};

/// What was seen of a home, at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The lock.
    pub lock: LockObservation,
    /// The owner record.
    pub owner: OwnerEvidence,
    /// The beat in `beat.json`, if it can be read.
    pub beat: Option<Beat>,
    /// The life that was written down last.
    pub last_life: Option<Life>,
    /// The acquisition that somebody asked to stop.
    pub stop_requested: Option<u64>,
    /// The foreign watcher that somebody has stopped, if nobody has watched since.
    pub stopped_foreign: Option<Pid>,
    /// The clocks.
    pub now: Now,
    /// This boot.
    pub boot_id: Option<String>,
    /// The observer's time namespace.
    pub time_namespace: Option<u64>,
    /// The directory outside the home in which the observer looks for the lock.
    pub runtime_dir: Option<PathBuf>,
    /// The observer's own bound for "stuck", where one was given explicitly.
    pub stuck_after: Option<Duration>,
    /// Who has the lock of another program, where the home's own lock is free.
    pub foreign: Option<ForeignObservation>,
}

impl Evidence {
    /// The foreign watcher that holds the home. A watcher of ours that has let go of its own lock, and is about to end, is
    /// none.
    pub fn foreign_holder(&self) -> Option<&ForeignObservation> {
        let is_free = matches!(self.lock, LockObservation::Absent | LockObservation::Free);
        self.foreign.as_ref().filter(|foreign| is_free && !self.is_our_own(foreign))
    }

    fn is_our_own(&self, foreign: &ForeignObservation) -> bool {
        match &self.owner {
            OwnerEvidence::Recorded(owner, sameness) => {
                foreign.pid == Some(owner.pid()) && !matches!(sameness, Sameness::Different(_))
            }
            OwnerEvidence::None | OwnerEvidence::Damaged(_) => false,
        }
    }
}

/// What was seen of the owner record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnerEvidence {
    /// There is none.
    None,
    /// There is one, but it cannot be read or understood.
    Damaged(String),
    /// There is one, and this is how it compares with what lives under its pid.
    Recorded(Box<Owner>, Sameness),
}

impl OwnerEvidence {
    /// The last acquisition on record.
    pub fn generation(&self) -> Option<u64> {
        match self {
            Self::Recorded(owner, _) => Some(owner.generation),
            Self::None | Self::Damaged(_) => None,
        }
    }
}

/// The verdict on a home, with its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A watcher lives and its loop goes round.
    Ok {
        /// The watcher.
        pid: Pid,
        /// Age of its last beat.
        beat: Duration,
    },
    /// The lock is taken, and its holder is about to record itself or to beat for the first time.
    Starting {
        /// The holder, once it is recorded.
        pid: Option<Pid>,
    },
    /// The beat is late, but within the bound.
    Slow {
        /// The watcher.
        pid: Pid,
        /// Age of its last beat.
        beat: Duration,
    },
    /// The process lives, but its loop does not go round.
    Stuck {
        /// The watcher.
        pid: Pid,
        /// Age of its last beat; `None` if it never made one.
        beat: Option<Duration>,
        /// The bound that has passed.
        bound: Duration,
    },
    /// The watcher ended without leaving on its own feet.
    Dead {
        /// The pid it had.
        pid: Pid,
        /// What became of the process.
        how: Ending,
        /// Age of its last beat, if that was in this boot.
        beat: Option<Duration>,
    },
    /// No watcher runs, and the last one, if any, left on its own feet.
    Stopped {
        /// Who ran last, and how it left.
        last: Option<(Pid, HowLeft)>,
    },
    /// The lock is held by something that is not a watcher of ours.
    Foreign {
        /// The pid that the kernel names.
        taker: u32,
    },
    /// Nobody can tell.
    Unknown {
        /// Why not.
        why: String,
    },
}

/// How a watcher left on its own feet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HowLeft {
    /// A person has stopped it, and nobody is to replace it unasked.
    Stopped,
    /// In another way, in its own words.
    Otherwise(String),
}

impl HowLeft {
    /// As it is written down.
    fn of(how: &str) -> Self {
        if how == STOPPED { Self::Stopped } else { Self::Otherwise(how.to_owned()) }
    }
}

impl fmt::Display for HowLeft {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Stopped => STOPPED,
            Self::Otherwise(how) => how,
        })
    }
}

/// What became of the process of a dead watcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The process is gone.
    Gone(Difference),
    /// The process lives, or may live, but has let go of the lock.
    LetGo,
}

impl fmt::Display for Ending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone(Difference::Gone) => formatter.write_str("was killed or crashed"),
            Self::Gone(Difference::OtherBoot) => formatter.write_str("ended when the machine was restarted"),
            Self::Gone(Difference::PidReused) => {
                formatter.write_str("was killed or crashed, and another process has its pid now")
            }
            Self::LetGo => formatter.write_str("no longer holds the lock of this home"),
        }
    }
}

impl Verdict {
    /// The one word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ok { .. } => "ok",
            Self::Starting { .. } => "starting",
            Self::Slow { .. } => "slow",
            Self::Stuck { .. } => "stuck",
            Self::Dead { .. } => "dead",
            Self::Stopped { .. } => "stopped",
            Self::Foreign { .. } => "foreign",
            Self::Unknown { .. } => "unknown",
        }
    }

    /// The watcher that lives, according to this verdict.
    pub fn living_pid(&self) -> Option<Pid> {
        match self {
            Self::Ok { pid, .. } | Self::Slow { pid, .. } | Self::Stuck { pid, .. } => Some(*pid),
            Self::Starting { pid } => *pid,
            Self::Dead { .. } | Self::Stopped { .. } | Self::Foreign { .. } | Self::Unknown { .. } => None,
        }
    }

    /// Whether supervision is on: nothing needs to be done.
    pub fn is_watching(&self) -> bool {
        matches!(self, Self::Ok { .. } | Self::Slow { .. } | Self::Starting { .. })
    }
}

/// The true cause, as the end of a sentence that begins with "but".
impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok { pid, beat } => write!(formatter, "watcher pid {pid} is well (last beat {} ago)", age(*beat)),
            Self::Starting { pid: Some(pid) } => write!(formatter, "watcher pid {pid} is starting"),
            Self::Starting { pid: None } => formatter.write_str("a watcher is starting"),
            Self::Slow { pid, beat } => write!(formatter, "watcher pid {pid} is slow (last beat {} ago)", age(*beat)),
            Self::Stuck { pid, beat: Some(beat), bound } => write!(
                formatter,
                "watcher pid {pid} is stuck: it lives, but its last beat was {} ago (bound {})",
                age(*beat),
                age(*bound)
            ),
            Self::Stuck { pid, beat: None, bound } => {
                write!(formatter, "watcher pid {pid} is stuck: it lives, but has not beaten once in {}", age(*bound))
            }
            Self::Dead { pid, how, beat: Some(beat) } => {
                write!(formatter, "watcher pid {pid} {how} (last beat {} ago)", age(*beat))
            }
            Self::Dead { pid, how, beat: None } => write!(formatter, "watcher pid {pid} {how}"),
            Self::Stopped { last: Some((pid, how)) } => {
                write!(formatter, "no watcher runs: the last one, pid {pid}, left ({how})")
            }
            Self::Stopped { last: None } => formatter.write_str("no watcher has been started"),
            Self::Foreign { taker: 0 } => formatter.write_str(
                "the lock is held by a process outside this pid namespace that is not a watcher of this home",
            ),
            Self::Foreign { taker } => {
                write!(formatter, "the lock is held by pid {taker}, which is not a watcher of this home")
            }
            Self::Unknown { why } => write!(formatter, "nobody can tell whether a watcher runs: {why}"),
        }
    }
}

/// A duration for people: whole seconds from one second on, and no more than two units.
pub fn age(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        return format!("{}ms", duration.as_millis());
    }
    let seconds = duration.as_secs();
    match (seconds / 86_400, seconds / 3600, seconds / 60) {
        (0, 0, _) if seconds < 120 => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m {}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {}m", minutes % 60),
        (days, hours, _) => format!("{days}d {}h", hours % 24),
    }
}

/// Turns the evidence into the verdict.
pub fn judge(evidence: &Evidence) -> Verdict {
    match &evidence.lock {
        LockObservation::Unknown(why) => Verdict::Unknown { why: why.clone() },
        LockObservation::Absent | LockObservation::Free => match evidence.foreign_holder() {
            Some(foreign) => judge_foreign(foreign, evidence.stuck_after),
            None => judge_free(evidence),
        },
        LockObservation::Unmarked { taker } => Verdict::Foreign { taker: *taker },
        LockObservation::Marked { beat } => judge_held(evidence, *beat),
    }
}

/// A home that somebody holds by the lock of another program; `bound` is the observer's own, if one was given.
pub(crate) fn judge_foreign(seen: &ForeignObservation, bound: Option<Duration>) -> Verdict {
    let (pid, bound) = match &seen.state {
        ForeignState::Starting => return Verdict::Starting { pid: seen.pid },
        ForeignState::Unclear(why) => return Verdict::Unknown { why: why.clone() },
        ForeignState::Proven { pid, bound: its_own } => (*pid, bound.unwrap_or(*its_own)),
    };
    match seen.last_beat {
        Some(beat) if beat < bound => Verdict::Ok { pid, beat },
        None if seen.held_for.is_some_and(|held_for| held_for < bound) => Verdict::Starting { pid: Some(pid) },
        beat => Verdict::Stuck { pid, beat, bound },
    }
}

fn judge_free(evidence: &Evidence) -> Verdict {
    let stopped_foreign = evidence.stopped_foreign.map(|pid| (pid, HowLeft::Stopped));
    let OwnerEvidence::Recorded(owner, sameness) = &evidence.owner else {
        return Verdict::Stopped { last: stopped_foreign };
    };
    if departure(evidence, owner).is_none()
        && owner.runtime_dir != evidence.runtime_dir
        && !matches!(sameness, Sameness::Different(_))
    {
        return Verdict::Unknown { why: other_lock(owner) };
    }
    if let Some(last) = stopped_foreign.or_else(|| Some((owner.pid(), departure(evidence, owner)?))) {
        return Verdict::Stopped { last: Some(last) };
    }
    let how = match sameness {
        Sameness::Different(difference) => Ending::Gone(difference.clone()),
        Sameness::Same(_) | Sameness::Unknown(_) => Ending::LetGo,
    };
    Verdict::Dead { pid: owner.pid(), how, beat: recorded_beat(evidence, owner) }
}

/// Why a living watcher of this home does not hold the lock that was looked at.
fn other_lock(owner: &Owner) -> String {
    let place = owner
        .runtime_dir
        .as_ref()
        .map_or_else(|| "in the home itself".to_owned(), |directory| format!("in {}", directory.display()));
    format!("pid {} watches it with a lock {place}; give every command the same runtime_dir", owner.pid())
}

/// How the recorded holder left on its own feet, if it did. One that was evicted may only write the line of its life.
fn departure(evidence: &Evidence, owner: &Owner) -> Option<HowLeft> {
    if let Some(departure) = &owner.left {
        return Some(HowLeft::of(&departure.how));
    }
    if evidence.stop_requested == Some(owner.generation) {
        return Some(HowLeft::Stopped);
    }
    let is_its_own = |life: &&Life| life.generation == owner.generation && life.pid == owner.pid().get();
    evidence.last_life.as_ref().filter(is_its_own).map(|life| HowLeft::of(&life.how))
}

/// How a watcher writes down that a person has stopped it.
pub const STOPPED: &str = "stopped";

fn judge_held(evidence: &Evidence, published: Option<Duration>) -> Verdict {
    let published = published.and_then(|at| age_of(evidence.now.monotonic, at));
    let (owner, sameness) = match &evidence.owner {
        OwnerEvidence::Recorded(owner, sameness)
            if !matches!(sameness, Sameness::Different(_)) && owner.left.is_none() =>
        {
            (owner, sameness)
        }
        _ => return judge_unrecorded(evidence, published),
    };
    if let (Some(theirs), Some(ours)) = (owner.time_namespace, evidence.time_namespace)
        && theirs != ours
    {
        return Verdict::Unknown { why: format!("the clock of pid {} is that of another time namespace", owner.pid()) };
    }
    let bound = evidence.stuck_after.unwrap_or(Duration::from_millis(owner.stuck_after_ms));
    let beat = [recorded_beat(evidence, owner), published].into_iter().flatten().min();
    let since = age_of(evidence.now.monotonic, Duration::from_millis(owner.since_monotonic_ms));
    let pid = owner.pid();
    match (beat, sameness) {
        (Some(beat), _) if beat <= 2 * Duration::from_millis(owner.poll_ms) && beat < bound => {
            Verdict::Ok { pid, beat }
        }
        (Some(beat), _) if beat < bound => Verdict::Slow { pid, beat },
        (None, _) if since.is_some_and(|since| since < bound) => Verdict::Starting { pid: Some(pid) },
        (beat, Sameness::Same(_)) => Verdict::Stuck { pid, beat, bound },
        (_, Sameness::Unknown(why)) => Verdict::Unknown { why: format!("no beat for {}, and {why}", age(bound)) },
        (_, Sameness::Different(_)) => judge_unrecorded(evidence, published),
    }
}

/// Somebody of ours holds the lock, but the record is not theirs yet, or no longer.
fn judge_unrecorded(evidence: &Evidence, published: Option<Duration>) -> Verdict {
    let bound = evidence.stuck_after.unwrap_or(UNRECORDED_BOUND);
    match published {
        Some(beat) if beat >= bound => {
            Verdict::Unknown { why: format!("the holder of the lock has no record, and no beat for {}", age(beat)) }
        }
        _ => Verdict::Starting { pid: None },
    }
}

/// A holder whose record, and with it its own bound, is lost is given this long.
const UNRECORDED_BOUND: Duration = Duration::from_secs(60);

/// The age of the beat in `beat.json`, if it is one of this holder and this boot.
fn recorded_beat(evidence: &Evidence, owner: &Owner) -> Option<Duration> {
    let beat = evidence.beat.as_ref()?;
    let is_the_holders = beat.generation == owner.generation && beat.nonce == owner.nonce;
    let is_of_this_boot = beat.boot_id.is_some() && beat.boot_id == evidence.boot_id;
    (is_the_holders && is_of_this_boot).then(|| age_of(evidence.now.monotonic, beat.monotonic()))?
}

/// How long ago that was. A time that lies ahead, beyond the milliseconds that rounding costs, is no time of this clock.
fn age_of(now: Duration, then: Duration) -> Option<Duration> {
    let is_rounded_up = then.saturating_sub(now) <= Duration::from_secs(1);
    now.checked_sub(then).or(is_rounded_up.then_some(Duration::ZERO))
}

#[cfg(test)]
mod tests;
