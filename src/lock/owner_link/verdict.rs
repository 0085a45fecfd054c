//! Whether a record may be taken over: pure.
//!
//! What the published protocol decides by `kill -0`, by the age of a lock without a pid and by nothing else, is decided
//! here by the same facts or more of them, and never in favour of taking over where the protocol says "held", with one
//! exception: a pid whose process is provably not the one that was recorded.

use std::time::Duration;

use super::identity::{self, Belief, Recorded};
use crate::system::Listing;
use crate::system::identity::{Difference, Sameness};

/// For how long a lock without a pid counts as just being taken, however impatient a contender is.
pub(super) const FLOOR: Duration = Duration::from_secs(2);
/// How long a file `pid` may be; one of more bytes holds no number.
pub(super) const PID_LIMIT: usize = 64;

/// What a file `pid` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// Nothing yet: its owner is between two steps, or died there.
    Nothing,
    /// Something that is the number of no process. Peers see "not a number", or a number that cannot live.
    Odd,
    /// Zero, which a shell takes for its own process group and finds alive.
    Zero,
    /// The number of a process.
    Number(u32),
}

impl Written {
    /// Reads it as a shell's `$(cat pid)` does, which drops NULs and final line ends.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let mut bytes: Vec<u8> = bytes.iter().copied().filter(|&byte| byte != 0).collect();
        while bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        if bytes.is_empty() {
            return Self::Nothing;
        }
        if !bytes.iter().all(u8::is_ascii_digit) {
            return Self::Odd;
        }
        let number = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse::<i32>().ok());
        match number.and_then(|number| u32::try_from(number).ok()) {
            Some(0) => Self::Zero,
            Some(number) => Self::Number(number),
            None => Self::Odd,
        }
    }
}

/// What is under a recorded pid now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Life {
    /// No process, or one that has ended.
    Gone,
    /// A process, and what `ps` lists of it where that can be read.
    Lives(Option<Listing>),
    /// The system does not say.
    Unknown(String),
}

/// All that is known of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) pid: Written,
    /// Asked only for a pid.
    pub(super) life: Life,
    pub(super) identity: Option<Recorded>,
    pub(super) belief: Belief,
    /// For how long it has been as it is.
    pub(super) age: Duration,
}

/// The judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nobody may take it.
    Held(Held),
    /// It may be taken over.
    Stale(Stale),
}

/// Why a record stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    /// Its process lives, as far as anybody can tell.
    Lives(u32, Sameness),
    /// It has no pid yet, for this long.
    BeingTaken(Duration),
    /// Nobody can judge it.
    Unjudged(String),
}

/// Why it does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stale {
    /// Its process is no more, or another one has its pid.
    Died(u32, Difference),
    /// It never got a pid.
    NeverTaken,
}

/// Judges a record. `patience` is how long one without a pid is left alone.
pub(super) fn judge(seen: &Seen, patience: Duration) -> Verdict {
    match seen.pid {
        Written::Zero => Verdict::Held(Held::Unjudged("its pid is 0, which names no process".to_owned())),
        Written::Nothing | Written::Odd if seen.age < patience => Verdict::Held(Held::BeingTaken(seen.age)),
        Written::Nothing | Written::Odd => Verdict::Stale(Stale::NeverTaken),
        Written::Number(pid) => judge_process(pid, seen),
    }
}

fn judge_process(pid: u32, seen: &Seen) -> Verdict {
    let listing = match &seen.life {
        Life::Gone => return Verdict::Stale(Stale::Died(pid, Difference::Gone)),
        Life::Unknown(why) => return Verdict::Held(Held::Lives(pid, Sameness::Unknown(why.clone()))),
        Life::Lives(listing) => listing,
    };
    let sameness = match (&seen.identity, listing) {
        (Some(recorded), Some(listing)) => identity::compare(recorded, listing, seen.belief),
        (None, _) => Sameness::Unknown("it recorded a pid and no identity".to_owned()),
        (Some(_), None) => Sameness::Unknown("its process cannot be read".to_owned()),
    };
    match sameness {
        Sameness::Different(difference) => Verdict::Stale(Stale::Died(pid, difference)),
        sameness => Verdict::Held(Held::Lives(pid, sameness)),
    }
}

/// What a contender does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: somebody has the lock, or is about to.
    Wait,
    /// Put a link of its own where nothing is.
    Claim,
    /// Take the mutex, and under it whatever is dead.
    Reclaim,
}

/// Decides from what is at the lock and at its mutex; `None` is nothing.
pub(super) fn next(lock: Option<&Verdict>, steal: Option<&Verdict>) -> Next {
    match (lock, steal) {
        (Some(Verdict::Held(_)), _) | (_, Some(Verdict::Held(_))) => Next::Wait,
        (None, None) => Next::Claim,
        // A dead mutex beside a free lock stops every shell peer for ever, so it is reclaimed as well.
        (Some(Verdict::Stale(_)), _) | (None, Some(Verdict::Stale(_))) => Next::Reclaim,
    }
}

#[cfg(test)]
mod tests;
