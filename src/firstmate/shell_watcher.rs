//! The shell watcher that holds the home, if one does.
//!
//! # Theory
//!
//! Shell watchers know nothing of our lock. One of them holds a home if its pid is in `.watch.lock` and lives, and that
//! alone keeps ours out. Whether it is *this home's watcher* is another question, which the scripts answer by five facts:
//! the pid lives, the home and the path of the watcher are their own texts, the recorded identity is what `ps` lists of
//! the pid now, and the beacon is fresh. The same five are asked here, and turned into the verdict that every command
//! acts on:
//!
//! | lock | what it tells | beacon | verdict |
//! |---|---|---|---|
//! | nobody has it | | | that on ours alone |
//! | is being taken | | | `starting` |
//! | a live pid, for less than five seconds | not all of it, or half of a line | | `starting` |
//! | a live pid | nothing, another home or program, no identity, or one that proves nothing | | `unknown`, with that reason |
//! | a live pid | all of it | younger than the grace | `ok` |
//! | a live pid | all of it | none, and the lock is younger than the grace | `starting` |
//! | a live pid | all of it | older, or none for so long | `stuck` |
//! | a live pid | all of it | in the future | `unknown`: the clock was set |
//!
//! The grace is that of the scripts: `FM_GUARD_GRACE`, else five minutes.
//!
//! If this were wrong, two watchers would serve one home, or a stranger would be signalled.
//!
//! # Beside the scripts
//!
//! They compare the identity as text, as `ps` of the caller's locale and time zone prints it. Here a text of another
//! locale is the same ([`crate::lock::owner_link`]); one of another time zone proves nothing, as with them, and so
//! authorises nothing. Times are those of files, since a shell watcher tells no others.

use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::home::{Fleet, Script, names, owner_directory};
use super::published_lock::PublishedLock;
use crate::base::error::{Context, Result};
use crate::base::failpoint::Failpoint;
use crate::lock::owner_link::OwnerLinkLock;
use crate::lock::owner_link::claims::{Claims, LockState};
use crate::lock::{Attempt, Guard, Lock};
use crate::ownership::foreign_holder::{ForeignClaim, ForeignHolder, ForeignKind, ForeignObservation, ForeignState};
use crate::ownership::home_lock;
use crate::ownership::terminate::{Proven, Refusal};
use crate::system::World;
use crate::system::identity::{Difference, Observation, Pid, Sameness};

/// The bound for a fresh beacon where nobody has set one (`FM_GUARD_GRACE`).
const GRACE: Duration = Duration::from_secs(300);
/// How long a shell watcher may take to tell what it is after it has the lock: it runs four programs for that, on a machine
/// that may be busy.
const TELLS_WITHIN: Duration = Duration::from_secs(5);
/// How far ahead of the clock a beacon may be by rounding.
const ROUNDING_MS: i64 = 2000;
/// How long a shell watcher has for leaving when it is asked to.
const LEAVES_WITHIN: Duration = Duration::from_secs(5);

/// Whoever holds the home by the scripts' lock.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ShellHolder {
    who: Who,
    beacon: Beacon,
}

/// What is known of a holder.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    /// Somebody is taking the lock, and has not said who it is.
    Nobody,
    /// A process that has the lock.
    Process {
        /// Its pid.
        pid: Pid,
        /// Whether it is this home's watcher.
        verification: Verification,
        /// For how long it has had the lock.
        held_for: Duration,
    },
    /// Something that nobody can judge, and why.
    Unjudged(String),
}

/// Whether a process is this home's watcher.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verification {
    /// Home, program and identity prove it.
    Proven,
    /// It has told nothing yet.
    Untold,
    /// Nothing proves it, for this reason.
    Doubtful(String),
}

/// The beacon that shell watchers touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beacon {
    /// There is none.
    Missing,
    /// It was touched so long ago.
    Touched(Duration),
    /// It was touched in the future.
    Ahead,
}

impl ShellHolder {
    /// Looks who holds the scripts' lock. `None`: nobody, or nobody who lives.
    fn look<W: World>(world: &Arc<W>, fleet: &Fleet) -> Option<Self> {
        let who = match sight(world, fleet) {
            Ok(LockState::Free) => return None,
            Ok(LockState::Changing) => Who::Nobody,
            Ok(LockState::Held(claims)) => who(&claims, fleet),
            // What is no lock of theirs holds nothing, but ours cannot take its place either.
            Ok(LockState::Unjudged(why)) => Who::Unjudged(why),
            Err(error) => Who::Unjudged(error.to_string()),
        };
        Some(Self { who, beacon: beacon(world.as_ref(), fleet) })
    }

    /// What the core is told of it: pure.
    fn observation(&self) -> ForeignObservation {
        let (pid, held_for) = match &self.who {
            Who::Process { pid, held_for, .. } => (Some(*pid), Some(*held_for)),
            Who::Nobody | Who::Unjudged(_) => (None, None),
        };
        let last_beat = match self.beacon {
            Beacon::Missing => None,
            Beacon::Touched(beat) => Some(beat),
            Beacon::Ahead => Some(Duration::ZERO),
        };
        ForeignObservation { pid, name: self.to_string(), state: self.state(), last_beat, held_for }
    }

    fn state(&self) -> ForeignState {
        let lock = names::WATCH_LOCK;
        match &self.who {
            Who::Nobody => ForeignState::Starting,
            Who::Unjudged(why) => ForeignState::Unclear(format!("{lock}, the scripts' lock: {why}")),
            Who::Process { verification: Verification::Untold | Verification::Doubtful(_), held_for, .. }
                if *held_for < TELLS_WITHIN =>
            {
                ForeignState::Starting
            }
            Who::Process { pid, verification: Verification::Untold, .. } => {
                ForeignState::Unclear(format!("pid {pid} holds {lock} and does not tell what it is"))
            }
            Who::Process { pid, verification: Verification::Doubtful(why), .. } => {
                ForeignState::Unclear(format!("pid {pid} holds {lock}, but {why}"))
            }
            Who::Process { pid, verification: Verification::Proven, .. } if self.beacon == Beacon::Ahead => {
                ForeignState::Unclear(format!(
                    "shell watcher pid {pid} has last beaten in the future: the clock was set"
                ))
            }
            Who::Process { pid, verification: Verification::Proven, .. } => {
                ForeignState::Proven { pid: *pid, bound: GRACE }
            }
        }
    }
}

impl<W: World> ForeignHolder<W> for Fleet {
    fn kind(&self) -> ForeignKind {
        ForeignKind { name: "watcher of the shell scripts", short: "shell watcher" }
    }

    fn lock(&self) -> PathBuf {
        self.file(names::WATCH_LOCK)
    }

    fn observe(&self, world: &Arc<W>) -> Option<ForeignObservation> {
        ShellHolder::look(world, self).map(|holder| holder.observation())
    }

    fn last_beat_ns(&self, world: &W) -> Option<i64> {
        world.facts_of_path(&self.file(names::LAST_BEAT)).ok().map(|facts| facts.mtime_ns)
    }

    fn claim(&self, world: &Arc<W>) -> Result<Attempt<Box<dyn ForeignClaim>, ()>> {
        Ok(match PublishedLock::claim(world, self)? {
            Attempt::Taken(view) => Attempt::Taken(Box::new(view)),
            Attempt::Busy(()) => Attempt::Busy(()),
        })
    }

    fn prove(
        &self,
        world: &Arc<W>,
        seen: &ForeignObservation,
    ) -> std::result::Result<Option<Proven<W::Process>>, Refusal> {
        let Some(pid) = seen.pid else {
            return Err(Refusal::NotProven(format!("nobody can tell who has {}", names::WATCH_LOCK)));
        };
        if world.is_protected(Failpoint::FirstmateOwnRecord) {
            written_by_us(world.as_ref(), self).map_err(|error| Refusal::NotProven(error.to_string()))?;
        }
        let pinned =
            world.pin(pid).map_err(|error| Refusal::NotProven(format!("pid {pid} cannot be pinned: {error}")))?;
        let Some(process) = pinned else { return Ok(None) };
        // The pin comes first: what is read from now on is of the pinned process, if that still lives afterwards.
        let again = ShellHolder::look(world, self);
        if matches!(world.observe(&process), Observation::Gone) {
            return Ok(None);
        }
        let verification = match again.map(|again| again.who) {
            Some(Who::Process { pid: now, verification, .. }) if now == pid => verification,
            _ => return Ok(None),
        };
        let is_protected = world.is_protected(Failpoint::FirstmateProof);
        match verification {
            Verification::Proven => {}
            _ if !is_protected => {}
            Verification::Untold => return Err(Refusal::NotProven(format!("pid {pid} has not told what it is"))),
            Verification::Doubtful(why) => return Err(Refusal::NotProven(why)),
        }
        // What happens to a test that pauses here is that the pin holds whatever becomes of the pid.
        drop(world.reach(Failpoint::FirstmateProven));
        Ok(Some(Proven::of(process)))
    }

    fn clear_record(&self, world: &Arc<W>, seen: &ForeignObservation) -> Result<bool> {
        let contender = || OwnerLinkLock::at(world, &self.file(names::WATCH_LOCK));
        let LockState::Held(claims) = contender()?.state()? else { return Ok(false) };
        let is_of_this_home = claims.home.as_deref() == Some(self.home())
            && claims.watcher_path.as_deref() == Some(self.script(Script::Watch).as_os_str());
        if !is_of_this_home || seen.pid.map(Pid::get) != Some(claims.pid) {
            return Ok(false);
        }
        match contender()?.believing_the_command().attempt()? {
            Attempt::Taken(guard) => guard.release().map(|()| true),
            Attempt::Busy(()) => Ok(false),
        }
    }

    fn leaves_within(&self) -> Duration {
        LEAVES_WITHIN
    }

    fn variables(&self) -> Vec<(&'static str, &OsStr)> {
        Fleet::variables(self)
    }
}

/// For people: `pid 12, which is this home's watcher of the shell scripts`.
impl fmt::Display for ShellHolder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.who {
            Who::Nobody => formatter.write_str("somebody is taking it"),
            Who::Unjudged(why) => formatter.write_str(why),
            Who::Process { pid, verification: Verification::Proven, .. } => {
                write!(formatter, "pid {pid}, this home's watcher of the shell scripts")
            }
            Who::Process { pid, verification: Verification::Untold, .. } => {
                write!(formatter, "pid {pid}, which has not told what it is")
            }
            Who::Process { pid, verification: Verification::Doubtful(why), .. } => {
                write!(formatter, "pid {pid}, but {why}")
            }
        }
    }
}

/// A record that others could have written proves nothing: it may name any process of ours.
fn written_by_us<W: World>(world: &W, fleet: &Fleet) -> Result<()> {
    let (state, lock) = (fleet.state(), fleet.file(names::WATCH_LOCK));
    let directory = world.open_directory(state).doing("open", state)?;
    home_lock::check_private(state, &world.facts(&directory).doing("examine", state)?)?;
    let owner = owner_directory(world, &directory).doing("open", &lock)?;
    home_lock::check_private(&lock, &world.facts(&owner).doing("examine", &lock)?)
}

/// What is at the scripts' lock.
fn sight<W: World>(world: &Arc<W>, fleet: &Fleet) -> Result<LockState> {
    OwnerLinkLock::at(world, &fleet.file(names::WATCH_LOCK))?.stale_after(fleet.lock_stale_after()).state()
}

fn who(claims: &Claims, fleet: &Fleet) -> Who {
    match Pid::new(claims.pid) {
        Some(pid) => Who::Process { pid, verification: verification(claims, fleet), held_for: claims.held_for },
        None => Who::Unjudged(format!("its pid is {}, which is no ordinary process", claims.pid)),
    }
}

/// Whether what a holder tells is what this home's watcher would tell.
fn verification(claims: &Claims, fleet: &Fleet) -> Verification {
    let Claims { home, watcher_path, identity, .. } = claims;
    let (Some(home), Some(path)) = (home, watcher_path) else {
        return Verification::Untold;
    };
    let shown = |text: &OsStr| crate::base::escape::line(&text.to_string_lossy());
    if home != fleet.home() {
        return Verification::Doubtful(format!("it serves the home {}, not {}", shown(home), shown(fleet.home())));
    }
    let script = fleet.script(Script::Watch);
    if path != script.as_os_str() {
        return Verification::Doubtful(format!("it runs {}, not {}", shown(path), script.display()));
    }
    match identity {
        Sameness::Same(_) => Verification::Proven,
        Sameness::Different(difference) => Verification::Doubtful(in_words(difference)),
        Sameness::Unknown(why) => Verification::Doubtful(format!("nothing proves that it is who took it: {why}")),
    }
}

fn in_words(difference: &Difference) -> String {
    format!("it is not who took it: {difference}")
}

fn beacon<W: World>(world: &W, fleet: &Fleet) -> Beacon {
    match world.facts_of_path(&fleet.file(names::LAST_BEAT)) {
        Ok(facts) => age(world.now().wall_ms, facts.mtime_ns / 1_000_000),
        // One that cannot be looked at has told nobody anything.
        Err(_) => Beacon::Missing,
    }
}

fn age(now_ms: i64, touched_ms: i64) -> Beacon {
    match now_ms.saturating_sub(touched_ms) {
        ahead if ahead < -ROUNDING_MS => Beacon::Ahead,
        age => Beacon::Touched(Duration::from_millis(u64::try_from(age).unwrap_or(0))),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make and remove files of their own")]
mod tests;
