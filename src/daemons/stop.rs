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
use super::membership::{Membership, membership};
use super::observe::{self, Observer};
use super::orphans::{Anchor, Cleared, Orphans};
use super::paths::{self, DaemonPaths};
use super::records::{self, Ended, Life, Read, SCHEMA, StopRequest};
use super::state::{Evidence, LockState, State, judge};
use crate::base::failpoint::Failpoint;
use crate::base::wait_until::wait_until;
use crate::ownership::start_lock::StartLock;
use crate::settings::daemon_definition::{Definition, Name, StopSignal};
use crate::system::identity::{Difference, Pid, Proof, Sameness};
use crate::system::platform::Pinned;
use crate::system::{KILL_TIMEOUT, Open, Real, Signal, World};

/// How long the rest of a daemon gets after it, once it has been asked.
const REST_TAKES: Duration = Duration::from_secs(1);
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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No process is provably the daemon: nobody was signalled.
    #[error("nobody was signalled, because {0}")]
    NotProven(String),
    /// These were signalled and have not ended: frozen, or in uninterruptible sleep, where even a KILL waits.
    #[error("the signal is pending: frozen or in uninterruptible sleep: pid {}", shown(.0))]
    StillThere(Vec<Pid>),
}

/// Pids for people.
pub fn shown(pids: &[Pid]) -> String {
    pids.iter().map(Pid::to_string).collect::<Vec<_>>().join(", ")
}

impl Daemons {
    /// Makes a daemon leave. The definition is asked how, if no life of it is recorded.
    ///
    /// It takes at most the time of grace and some seconds, and the daemon is not started again by the keeper.
    ///
    /// # Errors
    /// A refusal. Unless it says that somebody was signalled, nobody was.
    pub fn stop(&self, name: &Name, definition: Option<&Definition>) -> Result<Stopped, Refusal> {
        let paths = DaemonPaths::new(&self.home, name);
        if self.world.open_directory(paths.directory()).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        {
            return Ok(Stopped::NotRunning);
        }
        // Others would start it while it leaves.
        let _turn = self.turn_to_stop(&paths);
        let evidence = self.observe_until_forked(&paths);
        match &evidence.life {
            Read::Some((life, Sameness::Same(_))) => self.stop_living(&paths, life),
            Read::Some((life, Sameness::Different(Difference::PidReused))) if !is_identity_asked() => {
                self.stop_living(&paths, life)
            }
            Read::Some((_, Sameness::Unknown(why))) => Err(Refusal::NotProven(why.clone())),
            Read::Some((_, Sameness::Different(_))) | Read::None | Read::Damaged(_) => {
                let signal = recorded(&evidence).or(definition).map_or(StopSignal::Term, |known| known.stop_signal);
                self.stop_absent(&paths, &evidence, signal)
            }
        }
    }

    /// Forgets what the keeper remembers of a daemon: that it was given up, and how often it was started again.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn forget_restarts(&self, name: &Name) -> std::io::Result<()> {
        records::remove(self.world.as_ref(), &DaemonPaths::new(&self.home, name), paths::KEEP)
    }

    fn turn_to_stop(&self, paths: &DaemonPaths) -> Option<StartLock<Real>> {
        let mut observer = Observer::new(self.world.as_ref(), paths);
        let end = Instant::now() + TURN_TAKES;
        loop {
            let fingerprint = observer.fingerprint();
            let left = end.saturating_duration_since(Instant::now());
            match self.take_turn(paths, &mut observer, fingerprint, left) {
                Chance::Turn(turn) => return Some(turn),
                Chance::Missed if !left.is_zero() => {}
                Chance::Missed | Chance::Untold => return None,
            }
        }
    }

    /// A monitor that is about to start the daemon is given the time to do so: what does not exist cannot be stopped.
    fn observe_until_forked(&self, paths: &DaemonPaths) -> Evidence {
        let observe = || Some(self.evidence(paths)).filter(|seen| judge(seen) != State::Starting { pid: None });
        wait_until(MONITOR_TAKES, PAUSE, observe).unwrap_or_else(|| self.evidence(paths))
    }

    fn stop_living(&self, paths: &DaemonPaths, life: &Life) -> Result<Stopped, Refusal> {
        let Some(process) = self.prove(paths, life)? else {
            // It has ended between two looks, and is to stay so.
            self.request(paths, life.generation);
            self.finish(paths, life.definition.stop_signal, &Cleared::default())?;
            return Ok(Stopped::NotRunning);
        };
        let members = Orphans::of_session(life.session, Anchor::Living(&process)).unwrap_or_default();
        self.request(paths, life.generation);
        let left = make_leave(self.world.as_ref(), &process, &life.definition).inspect_err(|_| self.withdraw(paths))?;
        let cleared = members.make_leave(life.definition.stop_signal, REST_TAKES);
        self.finish(paths, life.definition.stop_signal, &cleared)?;
        Ok(Stopped::Left { pid: life.pid(), how: left })
    }

    /// Proves that the recorded process lives and is of this life. `None`: it has ended.
    fn prove(&self, paths: &DaemonPaths, life: &Life) -> Result<Option<Pinned>, Refusal> {
        let world = self.world.as_ref();
        let pid = life.pid();
        let (process, mut sameness) = observe::pin_recorded(world, &life.process, &self.here)
            .map_err(|error| Refusal::NotProven(format!("pid {pid} cannot be pinned: {error}")))?;
        if !is_identity_asked() {
            sameness = Sameness::Same(Proof::PidfdInode);
        }
        match sameness {
            Sameness::Same(_) => {}
            Sameness::Different(Difference::Gone) => return Ok(None),
            Sameness::Different(difference) => {
                return Err(Refusal::NotProven(format!("pid {pid} is not the recorded daemon: {difference}")));
            }
            Sameness::Unknown(why) => return Err(Refusal::NotProven(why)),
        }
        let Some(process) = process else { return Ok(None) };
        match membership(world, paths, life, &process) {
            Membership::Proven(_) => {}
            Membership::Ended => return Ok(None),
            Membership::NotProven(why) => return Err(Refusal::NotProven(why)),
        }
        // A test that pauses here sees that the pin holds whatever becomes of the pid.
        drop(world.reach(Failpoint::DaemonStopProven));
        Ok(Some(process))
    }

    /// A daemon that does not live is to stay so, and what it left behind is to leave.
    fn stop_absent(&self, paths: &DaemonPaths, seen: &Evidence, signal: StopSignal) -> Result<Stopped, Refusal> {
        match judge(seen) {
            State::Unknown(why) => return Err(Refusal::NotProven(why)),
            state @ State::Starting { .. } => return Err(Refusal::NotProven(format!("it {state}"))),
            _ => {}
        }
        let ended = records::read_in::<Ended, _>(self.world.as_ref(), paths, paths::END);
        let begun = seen.life.known().map(|(life, _)| life.generation);
        if let Some(generation) = begun.max(ended.known().map(|ended| ended.generation)) {
            self.request(paths, generation);
        }
        let pids = self.clear_holders(paths, signal)?;
        Ok(if pids.is_empty() { Stopped::NotRunning } else { Stopped::Rest { pids } })
    }

    /// Waits for the monitor, and sees to it that nothing is left.
    fn finish(&self, paths: &DaemonPaths, signal: StopSignal, cleared: &Cleared) -> Result<(), Refusal> {
        if !cleared.still_there.is_empty() {
            return Err(Refusal::StillThere(cleared.still_there.clone()));
        }
        let has_left = || (self.lock_state(paths, paths::MONITOR) != LockState::Held).then_some(());
        if wait_until(MONITOR_TAKES, PAUSE, has_left).is_none() {
            self.note(&format!("the monitor of {} has not ended yet", paths.name()));
        }
        self.clear_holders(paths, signal).map(drop)
    }

    fn lock_state(&self, paths: &DaemonPaths, name: &str) -> LockState {
        match self.world.open_directory(paths.directory()) {
            Ok(directory) => observe::lock_state(self.world.as_ref(), &directory, paths, name),
            Err(error) => LockState::Unreadable(error.to_string()),
        }
    }

    /// Makes those leave who hold the life lock although the daemon has ended. Under the monitor's lock nobody starts the
    /// next life meanwhile; where somebody has it, that one clears up.
    fn clear_holders(&self, paths: &DaemonPaths, signal: StopSignal) -> Result<Vec<Pid>, Refusal> {
        if self.lock_state(paths, paths::LIFE_LOCK) != LockState::Held {
            return Ok(Vec::new());
        }
        let not_cleared = |error: &dyn fmt::Display| Refusal::NotProven(format!("a rest of it lives: {error}"));
        let lock = MonitorLock::try_take(&self.world, paths).map_err(|error| not_cleared(&error))?;
        let Some(lock) = lock else { return Ok(Vec::new()) };
        let world = self.world.as_ref();
        let facts = world
            .open_directory(paths.directory())
            .and_then(|directory| world.open(&directory, OsStr::new(paths::LIFE_LOCK), Open::Read))
            .and_then(|file| world.facts(&file))
            .map_err(|error| not_cleared(&error))?;
        let holders = Orphans::holders_of(&facts, &lock).map_err(|error| not_cleared(&error))?;
        let cleared = holders.make_leave(signal, REST_TAKES);
        if cleared.still_there.is_empty() { Ok(holders.pids()) } else { Err(Refusal::StillThere(cleared.still_there)) }
    }

    /// Writes down that a person wants this life to end, so that the keeper leaves it.
    fn request(&self, paths: &DaemonPaths, generation: u64) {
        let world = self.world.as_ref();
        let request = StopRequest { schema: SCHEMA, generation, at: world.now().wall_ms };
        let written = world
            .open_directory(paths.directory())
            .and_then(|directory| records::write(world, &directory, paths::STOP, &request));
        if let Err(error) = written {
            // A full disk must not keep a person from stopping a daemon. The keeper may then start the next life.
            self.note(&format!("cannot write {}: {error}", paths.file(paths::STOP).display()));
        }
    }

    /// Takes the request back: the daemon stays, and if it dies one day, that is not because a person asked for it.
    fn withdraw(&self, paths: &DaemonPaths) {
        let removed = records::remove(self.world.as_ref(), paths, paths::STOP);
        if let Err(error) = removed {
            self.note(&format!("cannot remove {}: {error}", paths.file(paths::STOP).display()));
        }
    }
}

fn is_identity_asked() -> bool {
    Real.is_protected(Failpoint::DaemonStopIdentity)
}

fn recorded(evidence: &Evidence) -> Option<&Definition> {
    evidence.life.known().map(|(life, _)| &life.definition)
}

/// Asks a process to leave, and kills it if it has not after the time of grace.
fn make_leave<W: World<Process = Pinned>>(
    world: &W,
    process: &Pinned,
    definition: &Definition,
) -> Result<Departure, Refusal> {
    let refused = |error: std::io::Error| Refusal::NotProven(format!("the system refuses it: {error}"));
    let signal = |signal| world.signal(process, signal).map_err(refused);
    let has_ended_within = |time| world.wait_for_exit(process, time).map_err(refused);
    if !signal(definition.stop_signal.into())? || has_ended_within(definition.stop_grace)? || !signal(Signal::Kill)? {
        return Ok(Departure::Asked);
    }
    if has_ended_within(KILL_TIMEOUT)? {
        return Ok(Departure::Killed);
    }
    Err(Refusal::StillThere(vec![process.pid()]))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test prepares files and processes of its own")]
mod tests {
    use std::io::{self, Read as _};
    use std::process::{Command, Stdio};
    use std::thread;

    use super::*;
    use crate::system::altered::Altered;

    /// A world in which it takes a while until a KILL is carried out, as on a machine that is busy.
    #[derive(Debug)]
    struct SlowToKill(Duration);

    impl Altered for SlowToKill {
        fn signal(&self, process: &Pinned, signal: Signal) -> io::Result<bool> {
            if signal != Signal::Kill {
                return Real.signal(process, signal);
            }
            let (delay, pid) = (self.0, process.pid());
            thread::spawn(move || {
                thread::sleep(delay);
                let process = Real.pin(pid).unwrap().unwrap();
                Real.signal(&process, Signal::Kill).unwrap();
            });
            Ok(true)
        }
    }

    #[test]
    fn a_kill_that_a_busy_machine_carries_out_late_is_waited_for() {
        let told = serde_json::json!({
            "command": ["x"], "cwd": "/", "ready": "notify", "ready_timeout": 1, "restart": "no", "backoff": 1,
            "backoff_max": 1, "brake": {"max_restarts": 1, "window": 1}, "stop_signal": "TERM", "stop_grace": 1,
            "log_max": 4096,
        });
        let definition: Definition = serde_json::from_value(told).unwrap();
        let mut stubborn = Command::new("sh");
        stubborn.args(["-c", "trap '' TERM; echo; exec sleep 60"]);
        let mut child = stubborn.stdout(Stdio::piped()).spawn().unwrap();
        child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        let process = Real.pin(Pid::new(child.id()).unwrap()).unwrap().unwrap();
        let left = make_leave(&SlowToKill(Duration::from_secs(3)), &process, &definition);
        assert_eq!(left, Ok(Departure::Killed));
        child.wait().unwrap();
    }
}
