//! What shell scripts look at while our watcher holds the home: `.watch.lock`, and the beacon's time.
//!
//! # Theory
//!
//! The kernel lock decides among ours; this one keeps shell watchers out, and keeps ours out where one of them watches.
//! So it is taken after the kernel lock, before anything is written or done, and given up before it. It is taken by the
//! scripts' own protocol ([`crate::lock::owner_link`]), so a dead record, theirs or ours, is reclaimed by exactly one,
//! and a process of ours that is killed leaves one that every shell watcher knows how to reclaim.
//!
//! A shell watcher of an older release does not ask: it writes its pid into `.watch.lock/pid`. Whoever finds another
//! pid there than its own has lost the home, and leaves: shell watchers do so at each poll, and ours at each look
//! ([`ForeignClaim::check`]). It leaves the files alone, which are the other's now, also those that it made itself.
//!
//! A lock that was *removed* names no other watcher. It is taken again, or else a stray `rm` would end a watcher, or
//! leave one that no shell watcher sees.
//!
//! If this were wrong, two watchers would announce the same wakes, or a shell watcher would take ours for a dead one.
//!
//! # Limits
//!
//! - Two looks are at most a second apart. For so long an evicted watcher may go on beside an older shell watcher.
//! - A home that becomes one of firstmate while ours watches is one from the next start on.
//! - A system that cannot list processes as `ps` does tells no identity, and the scripts' `arm` then does not call ours
//!   healthy.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::home::{Fleet, Script, names};
use crate::base::error::{Context, Error, Result};
use crate::base::failpoint::Failpoint;
use crate::lock::owner_link::claims::LockState;
use crate::lock::owner_link::{OwnerLinkGuard, OwnerLinkLock};
use crate::lock::{Attempt, Guard, Lock, Loss, Ownership};
use crate::ownership::foreign_holder::{ForeignClaim, Usurper};
use crate::system::World;

/// What an usurper has taken, for people.
const SCRIPTS_LOCK: &str = ".watch.lock, the lock of the shell scripts";
/// For how long a lock that changes hands just now is waited for.
const CHANGES_WITHIN: Duration = Duration::from_millis(50);

/// The home, as shell scripts see it, for as long as this value lives.
pub struct PublishedLock<W: World> {
    world: Arc<W>,
    fleet: Fleet,
    state: W::Node,
    /// None once it was given up.
    guard: Mutex<Option<OwnerLinkGuard<W>>>,
}

/// What follows from a lost lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Nobody has it: it is taken again.
    Retake,
    /// Somebody may have it in a moment: the next look decides.
    LookAgain,
    /// Another process, with this pid, has the home.
    Leave(u32),
}

impl<W: World> PublishedLock<W> {
    /// Takes the scripts' lock. The caller has the kernel lock of the home.
    ///
    /// # Errors
    /// Something stands in its place that is no lock of this kind, and those of the system.
    pub fn claim(world: &Arc<W>, fleet: &Fleet) -> Result<Attempt<Self, ()>> {
        let state = world.open_directory(fleet.state()).doing("open the directory", fleet.state())?;
        let guard = if world.is_protected(Failpoint::FirstmateClaim) {
            match lock(world, fleet)?.acquire(CHANGES_WITHIN)? {
                Attempt::Taken(guard) => Some(guard),
                Attempt::Busy(_) => return Ok(Attempt::Busy(())),
            }
        } else {
            None
        };
        let view = Self { world: Arc::clone(world), fleet: fleet.clone(), state, guard: Mutex::new(guard) };
        world.reach(Failpoint::FirstmateClaimed).doing("hold", fleet.file(names::WATCH_LOCK))?;
        // At once: a shell watcher that finds a live holder with the old beacon of another one calls it stuck.
        if let Err(error) = view.beat() {
            tracing::warn!("cannot touch {}: {error}", fleet.file(names::LAST_BEAT).display());
        }
        Ok(Attempt::Taken(view))
    }

    fn say_retaken(&self, loss: Loss) {
        tracing::warn!(
            "{} {loss}, by nobody who lives; it was taken again",
            self.fleet.file(names::WATCH_LOCK).display()
        );
    }
}

impl<W: World> ForeignClaim for PublishedLock<W> {
    fn check(&self) -> io::Result<Ownership<Usurper>> {
        let mut held = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(guard) = held.as_ref().filter(|_| self.world.is_protected(Failpoint::FirstmateEviction)) else {
            return Ok(Ownership::Held);
        };
        let Ownership::Lost(loss) = guard.check().map_err(in_io)? else { return Ok(Ownership::Held) };
        let mut contender = lock(&self.world, &self.fleet).map_err(in_io)?;
        match after(&contender.state().map_err(in_io)?, self.world.own_pid()) {
            Next::Leave(pid) => Ok(Ownership::Lost(Usurper { pid, lock: SCRIPTS_LOCK })),
            Next::LookAgain => Ok(Ownership::Held),
            Next::Retake => {
                if let Attempt::Taken(again) = contender.attempt().map_err(in_io)? {
                    self.say_retaken(loss);
                    *held = Some(again);
                }
                Ok(Ownership::Held)
            }
        }
    }

    /// Also tells again who lives if the clock was set since.
    fn beat(&self) -> io::Result<()> {
        self.world.touch(&self.state, OsStr::new(names::LAST_BEAT))?;
        let held = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().map_or(Ok(()), OwnerLinkGuard::renew_identity).map_err(in_io)
    }

    /// Whoever looks for it afterwards finds nothing.
    fn give_up(&self) -> Result<()> {
        let guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner).take();
        guard.map_or(Ok(()), Guard::release)
    }
}

impl<W: World> fmt::Debug for PublishedLock<W> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PublishedLock").field("fleet", &self.fleet).finish_non_exhaustive()
    }
}

/// A contender that tells of itself what a shell watcher of this home would tell.
fn lock<W: World>(world: &Arc<W>, fleet: &Fleet) -> Result<OwnerLinkLock<W>> {
    let lock = OwnerLinkLock::at(world, &fleet.file(names::WATCH_LOCK))?;
    let lock = lock.stale_after(fleet.lock_stale_after());
    Ok(lock.with_home(fleet.home()).with_watcher_path(&fleet.script(Script::Watch)))
}

/// What to do when the lock is not ours any more: pure.
fn after(sight: &LockState, own_pid: u32) -> Next {
    match sight {
        LockState::Free => Next::Retake,
        // Our own pid in a record that we did not make: a copy of ours, which keeps shell watchers out just as well.
        LockState::Held(claims) if claims.pid == own_pid => Next::LookAgain,
        LockState::Held(claims) => Next::Leave(claims.pid),
        LockState::Changing | LockState::Unjudged(_) => Next::LookAgain,
    }
}

// It is handed over as a function, by value.
#[expect(clippy::needless_pass_by_value, reason = "it stands where a function of one value is wanted")]
fn in_io(error: Error) -> io::Error {
    io::Error::other(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::owner_link::claims::Claims;
    use crate::system::identity::Sameness;

    fn held(pid: u32) -> LockState {
        let identity = Sameness::Unknown("it recorded a pid and no identity".to_owned());
        LockState::Held(Claims { pid, identity, home: None, watcher_path: None, held_for: Duration::ZERO })
    }

    #[test]
    fn a_lost_lock_is_taken_again_or_left_to_whoever_has_it() {
        let table = [
            (LockState::Free, Next::Retake),
            (LockState::Changing, Next::LookAgain),
            (LockState::Unjudged("its pid is 0".to_owned()), Next::LookAgain),
            (held(7), Next::LookAgain),
            (held(8), Next::Leave(8)),
        ];
        for (sight, next) in table {
            assert_eq!(after(&sight, 7), next, "{sight:?}");
        }
    }
}
