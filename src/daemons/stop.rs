//! Making a daemon leave, with all that it started, and nobody else.
//!
//! # Theory
//!
//! The order is what makes it safe. The recorded process is pinned first, read second, proven to live third, and compared
//! with the record; unless that says *same*, nobody is signalled. Nor is anybody because of a record alone, which somebody
//! may have forged: the kernel has to show that the process belongs to this life ([`super::membership`]). While it is proven
//! to live, the members of its session are pinned as well: a session's number is the daemon's as long as the daemon lives,
//! and says nothing afterwards. From then on everybody is reached through a pin. The daemon is asked, gets its time of grace
//! and is killed, then the same is done to the rest of its session.
//!
//! The daemon's monitor sees its end, writes it down and clears up by itself. Only when it has left, or was not there, and
//! the life lock is still held, the holders of that are made to leave here, under the monitor's lock.
//!
//! The request is written down before the first signal, so that the keeper finds it when it sees the end.
//!
//! What breaks if this is wrong: a stranger is killed who has got the pid since, or half of a daemon goes on.
//!
//! Limits: a process that has left the session and has closed the life lock is not found, unless it is below the monitor.

use std::ffi::OsStr;
use std::fmt;
use std::time::{Duration, Instant};

use super::ensure::{Chance, Daemons, TURN_TAKES};
use super::locks::MonitorLock;
use super::look;
use super::membership::{Belonging, belonging};
use super::observe::Observer;
use super::orphans::{Anchor, Cleared, Leftovers};
use super::paths::{self, DaemonPlace};
use super::records::{self, Ended, Life, Read, SCHEMA, StopRequest};
use super::state::{Evidence, LockSight, Standing, judge};
use crate::base::failpoint::Failpoint;
use crate::base::wait_until::wait_until;
use crate::ownership::start_lock::Turn;
use crate::settings::daemon_definition::{Definition, Name, StopSignal};
use crate::system::identity::{self, Difference, Observation, Pid, Proof, Sameness};
use crate::system::platform::Pinned;
use crate::system::storage;
use crate::system::{Open, Real, Signal, World};

/// How long the rest of a daemon gets after it, once it has been asked.
const REST_TAKES: Duration = Duration::from_secs(1);
/// How long the kernel may take to carry out a KILL.
const KILL_TAKES: Duration = Duration::from_secs(2);
/// How long a monitor may take to write down the end and to clear up.
const MONITOR_TAKES: Duration = Duration::from_secs(5);
/// Between two looks at somebody else's work.
const PAUSE: Duration = Duration::from_millis(5);

/// What is true after a daemon was asked to leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// It did not run.
    NotRunning,
    /// It has left.
    Left {
        /// The pid it had.
        pid: Pid,
        /// How.
        how: Departure,
    },
    /// It did not run, and what a former life had left behind has left.
    Rest {
        /// The pids.
        pids: Vec<Pid>,
    },
}

/// How a daemon left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// On being asked, or by itself at the same time.
    Asked,
    /// Only when it was killed.
    Killed,
}

/// Why a daemon was not stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No process is provably the daemon: nobody was signalled.
    NotProven(String),
    /// These were signalled and have not ended: frozen, or in uninterruptible sleep, where even a KILL waits.
    StillThere(Vec<Pid>),
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotProven(why) => write!(formatter, "nobody was signalled, because {why}"),
            Self::StillThere(pids) => {
                let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
                write!(formatter, "the signal is pending: frozen or in uninterruptible sleep: pid {}", pids.join(", "))
            }
        }
    }
}

impl Daemons {
    /// Makes a daemon leave. The definition is asked how, if no life of it is recorded.
    ///
    /// It takes at most the time of grace and some seconds, and the daemon is not started again by the keeper.
    ///
    /// # Errors
    /// A refusal. Unless it says that somebody was signalled, nobody was.
    pub fn stop(&self, name: &Name, definition: Option<&Definition>) -> Result<Stopped, Refusal> {
        let place = DaemonPlace::new(&self.home, name);
        if self.world.open_directory(place.directory()).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        {
            return Ok(Stopped::NotRunning);
        }
        // Others would start it while it leaves.
        let _turn = self.turn_to_stop(&place);
        let evidence = self.look_until_forked(&place);
        match &evidence.life {
            Read::Some((life, Sameness::Same(_))) => self.stop_living(&place, life),
            Read::Some((life, Sameness::Different(Difference::PidReused))) if !is_identity_asked() => {
                self.stop_living(&place, life)
            }
            Read::Some((_, Sameness::Unknown(why))) => Err(Refusal::NotProven(why.clone())),
            Read::Some((_, Sameness::Different(_))) | Read::None | Read::Damaged(_) => {
                let signal = recorded(&evidence).or(definition).map_or(StopSignal::Term, |known| known.stop_signal);
                self.stop_absent(&place, &evidence, signal)
            }
        }
    }

    /// Forgets what the keeper remembers of a daemon: that it was given up, and how often it was started again.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn forget_restarts(&self, name: &Name) -> std::io::Result<()> {
        let place = DaemonPlace::new(&self.home, name);
        match self.world.open_directory(place.directory()) {
            Ok(directory) => storage::remove(self.world.as_ref(), &directory, OsStr::new(paths::KEEP)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn turn_to_stop(&self, place: &DaemonPlace) -> Option<Turn<Real>> {
        let mut observer = Observer::new(self.world.as_ref(), place);
        let end = Instant::now() + TURN_TAKES;
        loop {
            let glance = observer.glance();
            let left = end.saturating_duration_since(Instant::now());
            match self.take_turn(place, &mut observer, glance, left) {
                Chance::Turn(turn) => return Some(turn),
                Chance::Missed if !left.is_zero() => {}
                Chance::Missed | Chance::Untold => return None,
            }
        }
    }

    /// A monitor that is about to start the daemon is given the time to do so: what does not exist cannot be stopped.
    fn look_until_forked(&self, place: &DaemonPlace) -> Evidence {
        let look = || Some(self.evidence(place)).filter(|seen| judge(seen) != Standing::Starting { pid: None });
        wait_until(MONITOR_TAKES, PAUSE, look).unwrap_or_else(|| self.evidence(place))
    }

    fn stop_living(&self, place: &DaemonPlace, life: &Life) -> Result<Stopped, Refusal> {
        let Some(process) = self.prove(place, life)? else {
            // It has ended between two looks, and is to stay so.
            self.request(place, life.generation);
            self.finish(place, life.definition.stop_signal, &Cleared::default())?;
            return Ok(Stopped::NotRunning);
        };
        let members = Leftovers::of_session(life.session, Anchor::Living(&process)).unwrap_or_default();
        self.request(place, life.generation);
        let left = make_leave(&process, &life.definition).inspect_err(|_| self.withdraw(place))?;
        let cleared = members.make_leave(life.definition.stop_signal, REST_TAKES);
        self.finish(place, life.definition.stop_signal, &cleared)?;
        Ok(Stopped::Left { pid: life.pid(), how: left })
    }

    /// Proves that the recorded process lives and is of this life. `None`: it has ended.
    fn prove(&self, place: &DaemonPlace, life: &Life) -> Result<Option<Pinned>, Refusal> {
        let world = self.world.as_ref();
        let pid = life.pid();
        let process =
            world.pin(pid).map_err(|error| Refusal::NotProven(format!("pid {pid} cannot be pinned: {error}")))?;
        let seen = process.as_ref().map_or(Observation::Gone, |process| world.observe(process));
        let sameness = if is_identity_asked() {
            identity::compare(&life.process, &seen, &self.here)
        } else {
            Sameness::Same(Proof::PidfdInode)
        };
        match sameness {
            Sameness::Same(_) => {}
            Sameness::Different(Difference::Gone) => return Ok(None),
            Sameness::Different(difference) => {
                return Err(Refusal::NotProven(format!("pid {pid} is not the recorded daemon: {difference}")));
            }
            Sameness::Unknown(why) => return Err(Refusal::NotProven(why)),
        }
        let Some(process) = process else { return Ok(None) };
        match belonging(world, place, life, &process) {
            Belonging::Proven(_) => {}
            Belonging::Ended => return Ok(None),
            Belonging::NotProven(why) => return Err(Refusal::NotProven(why)),
        }
        // A test that pauses here sees that the pin holds whatever becomes of the pid.
        drop(world.reach(Failpoint::DaemonStopProven));
        Ok(Some(process))
    }

    /// A daemon that does not live is to stay so, and what it left behind is to leave.
    fn stop_absent(&self, place: &DaemonPlace, seen: &Evidence, signal: StopSignal) -> Result<Stopped, Refusal> {
        match judge(seen) {
            Standing::Unknown(why) => return Err(Refusal::NotProven(why)),
            standing @ Standing::Starting { .. } => return Err(Refusal::NotProven(format!("it {standing}"))),
            _ => {}
        }
        if let Some(generation) = self.last_generation(place, seen) {
            self.request(place, generation);
        }
        let pids = self.clear_holders(place, signal)?;
        Ok(if pids.is_empty() { Stopped::NotRunning } else { Stopped::Rest { pids } })
    }

    fn last_generation(&self, place: &DaemonPlace, seen: &Evidence) -> Option<u64> {
        let directory = self.world.open_directory(place.directory()).ok()?;
        let ended = records::read::<Ended, _>(self.world.as_ref(), &directory, paths::END);
        let begun = seen.life.known().map(|(life, _)| life.generation);
        begun.max(ended.known().map(|ended| ended.generation))
    }

    /// Waits for the monitor, and sees to it that nothing is left.
    fn finish(&self, place: &DaemonPlace, signal: StopSignal, cleared: &Cleared) -> Result<(), Refusal> {
        if !cleared.still_there.is_empty() {
            return Err(Refusal::StillThere(cleared.still_there.clone()));
        }
        let has_left = || (self.sight(place, paths::MONITOR) != LockSight::Held).then_some(());
        if wait_until(MONITOR_TAKES, PAUSE, has_left).is_none() {
            self.note(&format!("the monitor of {} has not ended yet", place.name()));
        }
        self.clear_holders(place, signal).map(drop)
    }

    fn sight(&self, place: &DaemonPlace, name: &str) -> LockSight {
        match self.world.open_directory(place.directory()) {
            Ok(directory) => look::lock_sight(self.world.as_ref(), &directory, place, name),
            Err(error) => LockSight::Unreadable(error.to_string()),
        }
    }

    /// Makes those leave who hold the life lock although the daemon has ended. Under the monitor's lock nobody starts the
    /// next life meanwhile; where somebody has it, that one clears up.
    fn clear_holders(&self, place: &DaemonPlace, signal: StopSignal) -> Result<Vec<Pid>, Refusal> {
        if self.sight(place, paths::LIFE_LOCK) != LockSight::Held {
            return Ok(Vec::new());
        }
        let not_cleared = |error: &dyn fmt::Display| Refusal::NotProven(format!("a rest of it lives: {error}"));
        let lock = MonitorLock::try_take(&self.world, place).map_err(|error| not_cleared(&error))?;
        let Some(lock) = lock else { return Ok(Vec::new()) };
        let world = self.world.as_ref();
        let facts = world
            .open_directory(place.directory())
            .and_then(|directory| world.open(&directory, OsStr::new(paths::LIFE_LOCK), Open::Read))
            .and_then(|file| world.facts(&file))
            .map_err(|error| not_cleared(&error))?;
        let holders = Leftovers::holders_of(&facts, &lock).map_err(|error| not_cleared(&error))?;
        let cleared = holders.make_leave(signal, REST_TAKES);
        if cleared.still_there.is_empty() { Ok(holders.pids()) } else { Err(Refusal::StillThere(cleared.still_there)) }
    }

    /// Writes down that a person wants this life to end, so that the keeper leaves it.
    fn request(&self, place: &DaemonPlace, generation: u64) {
        let world = self.world.as_ref();
        let request = StopRequest { schema: SCHEMA, generation, at: world.now().wall_ms };
        let written = world
            .open_directory(place.directory())
            .and_then(|directory| records::write(world, &directory, paths::STOP, &request));
        if let Err(error) = written {
            // A full disk must not keep a person from stopping a daemon. The keeper may then start the next life.
            self.note(&format!("cannot write {}: {error}", place.file(paths::STOP).display()));
        }
    }

    /// Takes the request back: the daemon stays, and if it dies one day, that is not because a person asked for it.
    fn withdraw(&self, place: &DaemonPlace) {
        let world = self.world.as_ref();
        let removed = world
            .open_directory(place.directory())
            .and_then(|directory| storage::remove(world, &directory, OsStr::new(paths::STOP)));
        if let Err(error) = removed {
            self.note(&format!("cannot remove {}: {error}", place.file(paths::STOP).display()));
        }
    }
}

fn is_identity_asked() -> bool {
    Real.is_protected(Failpoint::DaemonStopIdentity)
}

fn recorded(evidence: &Evidence) -> Option<&Definition> {
    evidence.life.known().map(|(life, _)| &life.definition)
}

fn make_leave(process: &Pinned, definition: &Definition) -> Result<Departure, Refusal> {
    let refused = |error: std::io::Error| Refusal::NotProven(format!("the system refuses it: {error}"));
    if !Real.signal(process, definition.stop_signal.into()).map_err(refused)? {
        return Ok(Departure::Asked);
    }
    if Real.wait_for_exit(process, definition.stop_grace).map_err(refused)? {
        return Ok(Departure::Asked);
    }
    if !Real.signal(process, Signal::Kill).map_err(refused)? {
        return Ok(Departure::Asked);
    }
    if Real.wait_for_exit(process, KILL_TAKES).map_err(refused)? {
        return Ok(Departure::Killed);
    }
    Err(Refusal::StillThere(vec![process.pid()]))
}
