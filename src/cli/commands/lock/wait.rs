//! How long to wait for a lock, and the waiting.
//!
//! It is the waiting of [`Lock::acquire`](crate::lock::Lock::acquire) with more to listen to: a signal ends it at once, and
//! so does the end of the process for which the lock is taken. A lock is never taken after that, so nothing is left behind.

use std::time::{Duration, Instant};

use crate::base::error::{Context, Result};
use crate::lock::{AnyGuard, AnyLock, Attempt, Holder, Lock, Pace};
use crate::system::platform::{Caught, Happening, HeldCommand, Signals, wait_for_happening};

/// How long to wait for a busy lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// As long as it takes.
    Endless,
    /// Not at all.
    None,
    /// At most so long.
    AtMost(Duration),
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Acquired {
    /// The lock is held.
    Held(Box<AnyGuard>),
    /// It is not, and will not be taken any more.
    Refused(Obstacle),
}

/// Why a lock was not taken.
#[derive(Debug)]
pub(crate) enum Obstacle {
    /// Somebody held it all the time.
    Busy(Holder),
    /// A signal asked this process to leave first.
    Asked(Caught),
    /// The process that was to hold it ended first.
    CommandEnded,
}

impl Patience {
    /// Takes the lock, or says why not. A command for which it is taken is watched meanwhile.
    ///
    /// # Errors
    /// Those of the kind of lock, and of listening.
    pub(crate) fn acquire(
        self,
        lock: &mut AnyLock,
        signals: &Signals,
        command: Option<&HeldCommand>,
    ) -> Result<Acquired> {
        let (began, mut pace) = (Instant::now(), Pace::default());
        loop {
            let tried = Instant::now();
            if let Attempt::Taken(guard) = lock.attempt()? {
                return Ok(Acquired::Held(Box::new(guard)));
            }
            let cost = tried.elapsed();
            let left = self.left_after(began.elapsed());
            if left.is_zero() {
                return Ok(Acquired::Refused(Obstacle::Busy(lock.holder())));
            }
            let pause = pace.next_pause(cost).min(left);
            match wait_for_happening(command, signals, pause).doing("wait for", lock.path())? {
                Happening::Nothing => {}
                Happening::Caught(caught) => return Ok(Acquired::Refused(Obstacle::Asked(caught))),
                Happening::Ended => return Ok(Acquired::Refused(Obstacle::CommandEnded)),
            }
        }
    }

    fn left_after(self, waited: Duration) -> Duration {
        match self {
            Self::Endless => Duration::MAX,
            Self::None => Duration::ZERO,
            Self::AtMost(limit) => limit.saturating_sub(waited),
        }
    }

    /// What a person can do who found the lock busy.
    pub(crate) fn next_step(self) -> String {
        match self {
            Self::Endless | Self::None => "try again later, or wait for it with --wait 30s".to_owned(),
            Self::AtMost(limit) => {
                format!("it was not free within {}; try again later, or wait longer", humantime::format_duration(limit))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_endless_patience_never_runs_out() {
        let hour = Duration::from_secs(3600);
        assert_eq!(Patience::None.left_after(Duration::ZERO), Duration::ZERO);
        assert_eq!(Patience::AtMost(hour).left_after(hour / 4), hour / 4 * 3);
        assert_eq!(Patience::AtMost(hour).left_after(hour * 2), Duration::ZERO);
        assert!(!Patience::Endless.left_after(hour * 1_000_000).is_zero());
    }
}
