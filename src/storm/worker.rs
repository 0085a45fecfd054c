//! One worker: takes the lock so many times, holds it for a moment, and says so.
//!
//! Each line is written with one call, so that a worker that is killed has said a line or has not. "It holds" is read
//! from the clock after the lock was taken, and "it lets go" is said *before* it does: were it said after, a worker
//! killed in between would seem to have held on.
//!
//! The lines ([`Line`]): `try NS`, `begin NS` (right after the lock was taken) and `end NS` (right before it is let go),
//! with the time in decimal nanoseconds of `CLOCK_MONOTONIC`. `wait TEXT` may come while it tries, and says for people
//! what it waits for. Programs of other people speak the same lines (`storm --peer`).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use thiserror::Error;

use super::naive::NaiveLock;
use super::plan::Protocol;
use super::unlink::UnlinkLock;
use crate::base::error::{Context, Result};
use crate::base::escape;
use crate::base::wait_until;
use crate::lock::{AnyLock, Subject};
use crate::lock::{Attempt, Guard, Lock};
use crate::system::Real;
use crate::system::handle;
use crate::system::platform;

/// The longest hold.
const LONGEST_HOLD: Duration = Duration::from_micros(300);
/// The longest time between two holds.
const LONGEST_REST: Duration = Duration::from_micros(600);

/// What a worker is to do.
#[derive(Debug)]
pub struct Assignment {
    /// By which protocol.
    pub protocol: Protocol,
    /// At which path.
    pub path: PathBuf,
    /// How many holds.
    pub rounds: u32,
    /// Of its random numbers.
    pub seed: u64,
    /// How long it tries before it says what it waits for.
    pub silence: Duration,
}

/// Does what it is told.
///
/// # Errors
/// Those of the lock, and nobody who listens.
pub fn work(assignment: &Assignment) -> Result<()> {
    let (world, path) = (Arc::new(Real), assignment.path.as_path());
    match assignment.protocol {
        Protocol::Family(kind) => contend(&mut AnyLock::at(kind, path, Subject::Myself)?, assignment),
        Protocol::Naive => contend(&mut NaiveLock::at(&world, path)?, assignment),
        Protocol::Unlink => contend(&mut UnlinkLock::at(&world, path)?, assignment),
    }
}

fn contend<L: Lock>(lock: &mut L, assignment: &Assignment) -> Result<()> {
    let mut rng = Rng::with_seed(assignment.seed);
    for _ in 0..assignment.rounds {
        say(&Line::Try(now()))?;
        let guard = take(lock, assignment.silence)?;
        say(&Line::Begin(now()))?;
        wait_until::pause(up_to(&mut rng, LONGEST_HOLD));
        say(&Line::End(now()))?;
        guard.release()?;
        // Who lets go and tries again at once would win nearly always, because the others are asleep.
        wait_until::pause(up_to(&mut rng, LONGEST_REST));
    }
    Ok(())
}

/// A time from nothing up to this one.
fn up_to(rng: &mut Rng, longest: Duration) -> Duration {
    Duration::from_nanos(rng.u64(..=u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX)))
}

fn take<L: Lock>(lock: &mut L, silence: Duration) -> Result<L::Guard> {
    loop {
        match lock.acquire(silence)? {
            Attempt::Taken(guard) => return Ok(guard),
            Attempt::Busy(holder) => say(&Line::Wait(format!("for the lock, which is held {holder}")))?,
        }
    }
}

fn say(line: &Line) -> Result<()> {
    handle::write_to_standard_output(line.to_string().as_bytes()).map(drop).doing("write to", Path::new("stdout"))
}

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub(super) fn now() -> u64 {
    u64::try_from(platform::monotonic().as_nanos()).unwrap_or(u64::MAX)
}

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// It begins to try.
    Try(u64),
    /// It holds.
    Begin(u64),
    /// It is about to let go.
    End(u64),
    /// It still tries, for this reason.
    Wait(String),
}

impl Line {
    /// Reads a line, without its end.
    ///
    /// # Errors
    /// Any other text.
    pub fn parse(text: &str) -> std::result::Result<Self, ProtocolError> {
        let not_understood = || ProtocolError::NoLine(text.to_owned());
        let (word, rest) = text.split_once(' ').ok_or_else(not_understood)?;
        let at = || rest.parse().map_err(|_| not_understood());
        match word {
            "try" => Ok(Self::Try(at()?)),
            "begin" => Ok(Self::Begin(at()?)),
            "end" => Ok(Self::End(at()?)),
            "wait" => Ok(Self::Wait(rest.to_owned())),
            _ => Err(not_understood()),
        }
    }
}

/// The line with its end, as it is written.
impl fmt::Display for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Try(at) => writeln!(formatter, "try {at}"),
            Self::Begin(at) => writeln!(formatter, "begin {at}"),
            Self::End(at) => writeln!(formatter, "end {at}"),
            Self::Wait(why) => writeln!(formatter, "wait {}", escape::line(why)),
        }
    }
}

/// What a worker said that makes no sense, in words that follow its name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProtocolError {
    /// It is no [`Line`].
    #[error("said {0:?}, which is none of `try NS`, `begin NS`, `end NS` and `wait TEXT`")]
    NoLine(String),
    /// It does not follow from what was said before.
    #[error("said `{said}` while {meanwhile}")]
    OutOfOrder {
        /// The line.
        said: String,
        /// What it was doing by its own account.
        meanwhile: &'static str,
    },
    /// The time in it cannot be one of the clock that all share.
    #[error("said {at}, which is no time of CLOCK_MONOTONIC between {from} and {until}: another clock?")]
    OtherClock {
        /// The time.
        at: u64,
        /// The earliest that it could be.
        from: u64,
        /// The latest.
        until: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_written_is_read_as_it_was() {
        for line in [Line::Try(0), Line::Begin(17), Line::End(u64::MAX), Line::Wait("held by pid 3".to_owned())] {
            let written = line.to_string();
            assert_eq!(Line::parse(written.strip_suffix('\n').unwrap()), Ok(line));
        }
        assert_eq!(Line::Wait("a\nb".to_owned()).to_string(), "wait a b\n");
    }

    #[test]
    fn times_of_one_seed_repeat_and_stay_in_their_bounds() {
        let times = |seed| {
            let mut rng = Rng::with_seed(seed);
            (0..200).map(|_| up_to(&mut rng, LONGEST_HOLD)).collect::<Vec<_>>()
        };
        assert_eq!(times(7), times(7));
        assert_ne!(times(7), times(8));
        assert!(times(1).iter().all(|time| *time <= LONGEST_HOLD));
        assert_eq!(up_to(&mut Rng::with_seed(1), Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn anything_else_is_an_error_that_quotes_it() {
        for text in ["", "try", "begin x", "end -1", "begin 1 2", "begin 18446744073709551616", "Begin 1", "done 1"] {
            let error = Line::parse(text).unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }
}
