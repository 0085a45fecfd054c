//! Locks as values: taking one gives a value, dropping the value releases it.
//!
//! # Theory
//!
//! There are five kinds, because people share files with programs that speak other protocols: `kernel` (what flock(1)
//! takes), `soft` (the marker file of the Python package filelock), `owner_link` (the symbolic link of firstmate's
//! shell scripts), `pidfile` and `socket` (a daemon that claims an address); see [`Kind`]. They have one shape, [`Lock`]:
//! try, try until a deadline, and a [`Guard`] whose drop releases. The lock of a home is not one of them.
//!
//! "Busy" and "broken" can never be confused: busy is an answer ([`Attempt::Busy`]) and carries what is known of the
//! holder; everything else that is not "taken" is an error. A lock whose holder's life nobody can judge is busy.
//!
//! Only the kernel kind ends with its holder by itself. The others leave a record that somebody must judge later; each
//! module says when a record may be taken over, and what its protocol cannot promise.
//!
//! # Running under a lock
//!
//! A tool that knows the kind only when it runs uses [`AnyLock`]:
//!
//! ```
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("build.lock");
//! use std::time::Duration;
//! use fm_watch::lock::{AnyLock, Attempt, Guard, Kind, Lock, Ownership, Subject};
//!
//! let mut lock = AnyLock::at(Kind::Kernel, &path, Subject::Myself)?;
//! match lock.acquire(Duration::from_secs(5))? {
//!     Attempt::Taken(guard) => {
//!         // The work is done here. One that takes long asks now and then whether it still has the lock.
//!         assert_eq!(guard.check()?, Ownership::Held);
//!         // Dropping the guard releases as well; this way a failure is told.
//!         guard.release()?;
//!     }
//!     Attempt::Busy(holder) => println!("{} is held {holder}", lock.path().display()),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod any;
#[cfg(test)]
pub(crate) mod exploration;
pub(crate) mod location;
mod temp_name;
mod unchanged;

// The suite of tests looks into the kinds; everybody else takes them by their names.
#[cfg(not(feature = "test-support"))]
pub(crate) mod kernel;
#[cfg(feature = "test-support")]
pub mod kernel;
#[cfg(not(feature = "test-support"))]
pub(crate) mod owner_link;
#[cfg(feature = "test-support")]
pub mod owner_link;
#[cfg(not(feature = "test-support"))]
pub(crate) mod pidfile;
#[cfg(feature = "test-support")]
pub mod pidfile;
#[cfg(not(feature = "test-support"))]
pub(crate) mod socket;
#[cfg(feature = "test-support")]
pub mod socket;
#[cfg(not(feature = "test-support"))]
pub(crate) mod soft;
#[cfg(feature = "test-support")]
pub mod soft;

pub use crate::system::identity::{Difference, Proof, Sameness};
pub(crate) use any::HeldBy;
pub use any::{AnyGuard, AnyLock, Kind, Subject};

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::base::error::{Error, Result};
use crate::base::wait_until;
use crate::system::{Facts, platform};

/// The answer to an attempt that does not wait.
#[derive(Debug)]
pub enum Attempt<L, H = Holder> {
    /// The lock is held for as long as the value lives.
    Taken(L),
    /// Somebody else holds it.
    Busy(H),
}

impl<L, H> Attempt<L, H> {
    /// The same answer with another value for what was taken.
    pub fn map<M>(self, wrap: impl FnOnce(L) -> M) -> Attempt<M, H> {
        match self {
            Self::Taken(lock) => Attempt::Taken(wrap(lock)),
            Self::Busy(holder) => Attempt::Busy(holder),
        }
    }

    /// The same answer with another word about who holds it.
    pub fn map_busy<M>(self, word: impl FnOnce(H) -> M) -> Attempt<L, M> {
        match self {
            Self::Taken(lock) => Attempt::Taken(lock),
            Self::Busy(holder) => Attempt::Busy(word(holder)),
        }
    }
}

/// A lock at a path, not held. One value is one contender: some protocols remember between two attempts what they saw.
pub trait Lock {
    /// What a success gives.
    type Guard: Guard;

    /// The path that people know it by.
    fn path(&self) -> &Path;

    /// Takes it if it is free, without waiting for any other process to do anything, and asks nothing about a holder.
    ///
    /// # Errors
    /// Everything that is neither "taken" nor "busy". Nothing at the path has changed then.
    fn attempt(&mut self) -> Result<Attempt<Self::Guard, ()>>;

    /// What is known of the holder now. Takes nothing, changes nothing; a holder that has just let go is unknown.
    fn holder(&self) -> Holder;

    /// Takes it if it is free, or says who has it.
    ///
    /// # Errors
    /// Those of [`Lock::attempt`].
    fn try_acquire(&mut self) -> Result<Attempt<Self::Guard>> {
        self.acquire(Duration::ZERO)
    }

    /// Tries until it is taken or this much time has passed, then says who has it.
    ///
    /// # Errors
    /// Those of [`Lock::attempt`], at once.
    fn acquire(&mut self, at_most: Duration) -> Result<Attempt<Self::Guard>> {
        let (began, mut pace) = (Instant::now(), Pace::default());
        loop {
            let tried = Instant::now();
            if let Attempt::Taken(guard) = self.attempt()? {
                return Ok(Attempt::Taken(guard));
            }
            let cost = tried.elapsed();
            let left = at_most.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Ok(Attempt::Busy(self.holder()));
            }
            wait_until::pause(pace.next_pause(cost).min(left));
        }
    }
}

/// A held lock. Dropping it releases it; a failure to do so is then only seen by who takes it next.
pub trait Guard: fmt::Debug {
    /// The path that people know it by.
    fn path(&self) -> &Path;

    /// Whether the path still names what this guard holds. A person can remove the file of a held lock, and some
    /// peers break locks by age.
    ///
    /// # Errors
    /// Those of the system, which prove nothing.
    fn check(&self) -> Result<Ownership>;

    /// Releases it and says whether that worked.
    ///
    /// # Errors
    /// Those of the system. What is left at the path is then stale as soon as this process has ended.
    fn release(self) -> Result<()>;
}

/// The holder of a busy lock, as far as anybody can tell.
///
/// It informs and never authorises: whether a lock may be taken over is each protocol's own judgement, made before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its pid, on its own machine and in its own pid namespace.
    pub pid: Option<u32>,
    /// Its machine, as its protocol writes it. `None`: this one, or the protocol does not say.
    pub host: Option<String>,
    /// For how long at least it has held the lock. It comes from file times, so a stepped clock makes it wrong.
    pub since: Option<Duration>,
    /// Whether the process under that pid today is the one that took the lock.
    pub identity: Sameness,
    /// What a person can do when it is known that the lock should be free, if there is anything to do but wait.
    pub remedy: Option<String>,
}

impl Holder {
    /// A holder of whom nothing is known but why that is so.
    pub fn unknown(why: impl Into<String>) -> Self {
        Self { pid: None, host: None, since: None, identity: Sameness::Unknown(why.into()), remedy: None }
    }
}

/// A phrase that goes on after "is held": ` by pid 12 on buildhost for 3s (another pid namespace)`.
impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(formatter, "by pid {pid}")?,
            None => formatter.write_str("by an unknown process")?,
        }
        if let Some(host) = &self.host {
            write!(formatter, " on {host}")?;
        }
        if let Some(since) = self.since {
            // Tenths of seconds are enough for people.
            let rounded = Duration::from_millis(u64::try_from(since.as_millis() / 100 * 100).unwrap_or(u64::MAX));
            write!(formatter, " for {}", humantime::format_duration(rounded))?;
        }
        match &self.identity {
            Sameness::Same(_) => Ok(()),
            Sameness::Different(difference) => write!(formatter, " ({difference})"),
            Sameness::Unknown(why) => write!(formatter, " ({why})"),
        }
    }
}

/// What one look came to; see [`until_answered`].
pub(crate) enum Once<L, B = ()> {
    /// It was taken.
    Taken(L),
    /// Somebody has it.
    Busy(B),
    /// Something changed meanwhile; nothing is held any more.
    Again,
}

/// Looks until that is an answer. The two words are for people: where, and what was being done (`locked`).
///
/// What an attempt has found at a path may be another thing by the time it acts on it. That is no answer: neither is
/// the lock busy, nor is anything broken. So the attempt begins again. Each time somebody else has got on, so it ends;
/// but a program that replaces the path for ever must not keep anybody here for ever, and is reported.
///
/// # Errors
/// Those of a look, at once, and one when all looks were in vain.
pub(crate) fn until_answered<L, B>(
    path: impl AsRef<Path>,
    done: &str,
    mut look: impl FnMut() -> Result<Once<L, B>>,
) -> Result<Attempt<L, B>> {
    /// How often something that is replaced under us is looked at again before that is reported.
    const RETRIES: usize = 100;
    for _ in 0..RETRIES {
        match look()? {
            Once::Taken(taken) => return Ok(Attempt::Taken(taken)),
            Once::Busy(why) => return Ok(Attempt::Busy(why)),
            Once::Again => {}
        }
    }
    Err(Error::refused(
        path.as_ref(),
        format!("was replaced {RETRIES} times while it was being {done}"),
        "find out which program replaces it, then try again",
    ))
}

/// Whether a holder still has what it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Ownership<L = Loss> {
    /// It has.
    Held,
    /// It has lost it, in this way. Somebody else may hold it by now.
    Lost(L),
}

impl Ownership {
    /// That of a file, by what is at its path now: another inode there is another lock. The caller keeps its own open,
    /// so that the number stays its own.
    fn by_inode(there: Option<Facts>, own: &Facts) -> Self {
        match there {
            None => Self::Lost(Loss::Removed),
            Some(there) if there.is_same_inode(own) => Self::Held,
            Some(_) => Self::Lost(Loss::Replaced),
        }
    }
}

impl<L> Ownership<L> {
    /// Whether it is still held.
    pub fn is_held(&self) -> bool {
        matches!(self, Self::Held)
    }
}

/// How a lock was lost while it was held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// Nothing is at its path any more.
    Removed,
    /// Something else is at its path.
    Replaced,
}

impl fmt::Display for Loss {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Removed => "was removed while it was held",
            Self::Replaced => "was replaced while it was held",
        })
    }
}

/// How long a contender lets others go on before it looks again: little at first, then ever longer, and never in step
/// with others.
///
/// What a look costs counts as well. Some protocols make and remove files in a look, and many contenders that do so all
/// the time keep the holder from its own work; so one that has waited for a while takes about a hundredth of a processor
/// at most. On a busy machine looks take longer, and contenders hold back by themselves.
#[derive(Debug)]
pub(crate) struct Pace {
    next: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { next: Self::FIRST }
    }
}

impl Pace {
    const FIRST: Duration = Duration::from_micros(500);
    /// The longest pause where a look costs little.
    const LONGEST: Duration = Duration::from_millis(20);
    /// The longest one at all.
    const LONGEST_OF_DEAR: Duration = Duration::from_millis(100);
    /// How many times longer than the look before it a pause is at least while they grow, and when they have grown.
    const LOOKS: (u32, u32) = (20, 100);

    /// The length of the next pause, after a look that took so long.
    pub(crate) fn next_pause(&mut self, look: Duration) -> Duration {
        let clock = platform::monotonic().subsec_nanos();
        self.pause(look, clock ^ std::process::id())
    }

    fn pause(&mut self, look: Duration, chance: u32) -> Duration {
        let looks = if self.next < Self::LONGEST { Self::LOOKS.0 } else { Self::LOOKS.1 };
        let pause = look.saturating_mul(looks).clamp(self.next, Self::LONGEST_OF_DEAR);
        self.next = (self.next * 2).min(Self::LONGEST);
        // Between half and all of it. Contenders that started together would otherwise look together for ever.
        let share = chance.wrapping_mul(0x9E37_79B9) >> 24;
        pause / 2 + pause / 512 * share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Duration = Duration::from_micros(10);

    #[test]
    fn pauses_grow_to_a_bound_and_differ_by_chance() {
        let pauses = |chance| {
            let mut pace = Pace::default();
            (0..10).map(|_| pace.pause(CHEAP, chance)).collect::<Vec<_>>()
        };
        let (one, other) = (pauses(1), pauses(2));
        assert!(one.iter().zip(&other).all(|(one, other)| one != other), "{one:?} {other:?}");
        for pauses in [one, other] {
            assert!(pauses[0] <= Pace::FIRST && pauses[0] >= Pace::FIRST / 2, "{pauses:?}");
            assert!(pauses.is_sorted() && pauses[9] <= Pace::LONGEST && pauses[9] >= Pace::LONGEST / 2, "{pauses:?}");
        }
    }

    #[test]
    fn a_dear_look_lengthens_pauses_and_most_those_of_who_has_waited_for_a_while() {
        let after = |look: Duration| {
            let mut pace = Pace::default();
            let first = pace.pause(look, 0);
            let later = (0..10).map(|_| pace.pause(look, 0)).last();
            (first, later.unwrap())
        };
        let halves = |first: Duration, later: Duration| (first / 2, later / 2);
        assert_eq!(after(CHEAP), halves(Pace::FIRST, Pace::LONGEST));
        assert_eq!(after(Duration::from_micros(600)), halves(Duration::from_millis(12), Duration::from_millis(60)));
        assert_eq!(after(Duration::from_secs(1)), halves(Pace::LONGEST_OF_DEAR, Pace::LONGEST_OF_DEAR));
    }
}
