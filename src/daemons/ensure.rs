//! Obtaining a daemon: use the one that is ready, wait for the one that starts, or have one started.
//!
//! # Theory
//!
//! Nothing is started unless nothing of the daemon lives, and that is decided twice: here, so that nobody starts a
//! monitor in vain, and by the monitor, which holds the locks. The monitor alone asks who serves the ready socket
//! before it starts anything; a client asks only whether a daemon that lives does its work.
//!
//! Of many clients that come at once, one takes the turn and starts a monitor; all others wait for that start and for
//! nothing else, at the cost of a [`Fingerprint`] each few milliseconds. A turn decides nothing: where none can be
//! had, or somebody keeps one for too long, a start may be in vain, and the monitor's lock says which.
//!
//! A start is judged by what the monitor says about it. A client that did not start the monitor itself reads the same in
//! the records: a start that failed while it waited is its own failure too, and it does not try again at once, so two
//! hundred clients of a broken daemon start it once and not two hundred times.
//!
//! What breaks if this is wrong: a second daemon beside a living one, or a caller that waits for what cannot come.
//!
//! Limits: that a daemon is ready was true when somebody looked. It may have ended since.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::log_reader::{self, LogPosition};
use super::observe::{self, Fingerprint, Observer, Waited};
use super::paths::{self, DaemonPaths};
use super::records::{self, Course, Ended, Keeping, Life, Phase, Read};
use super::restart_policy::End;
use super::spawn_monitor::{MonitorStatus, NotStarted, Start, StartRequest, Starter};
use super::state::{Evidence, LockState, State, judge};
use crate::base::error::Error;
use crate::layout::paths::Home;
use crate::lock::Attempt;
use crate::ownership::context::{self, HomeContext};
use crate::ownership::start_lock::{Candidate, StartLock};
use crate::settings::daemon_definition::{Definition, Name};
use crate::system::identity::{Pid, Sameness, Standpoint};
use crate::system::status_pipe::NoStatus;
use crate::system::storage;
use crate::system::{Activity, Real, World};

/// The daemons of one home, for whoever wants to have them.
pub struct Daemons {
    pub(super) world: Arc<Real>,
    pub(super) home: Home,
    pub(super) here: Standpoint,
    starter: Starter,
    notes: Box<dyn Fn(&str) + Send + Sync>,
}

impl fmt::Debug for Daemons {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Daemons").field("home", &self.home).finish_non_exhaustive()
    }
}

/// What is true after a daemon was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ensured {
    /// It was running already, or somebody else started it meanwhile; it is ready.
    Attached {
        /// The daemon.
        pid: Pid,
        /// Its life.
        generation: u64,
    },
    /// It was started, and is ready.
    Started {
        /// The daemon.
        pid: Pid,
        /// Its life.
        generation: u64,
        /// How long it took to be ready.
        after: Duration,
    },
}

/// What is true after a daemon was asked for by somebody who does not wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kicked {
    /// It was running already, and ready when its monitor looked last.
    Attached {
        /// The daemon.
        pid: Pid,
        /// Its life.
        generation: u64,
    },
    /// Somebody else starts it.
    Starting {
        /// The daemon, once it exists.
        pid: Option<Pid>,
    },
    /// Its monitor was started, which needs nobody to go on.
    MonitorStarted,
}

/// Why a daemon cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The state that it is in permits neither its use nor a start.
    #[error("{0}")]
    State(State),
    /// It is in this state for longer than a start can take.
    #[error("{0} for too long")]
    TooLong(State),
    /// The keeper has given up its restarts, and a person has to act.
    #[error(
        "given up after {restarts} restarts in {}{}; `{command}` starts it again",
        humantime::format_duration(*window),
        last.as_ref().map(|end| format!(" (last: {end})")).unwrap_or_default()
    )]
    GivenUp {
        /// After so many restarts ...
        restarts: u32,
        /// ... within this time.
        window: Duration,
        /// How its last life ended, if that is known.
        last: Option<End>,
        /// The command that starts it again.
        command: String,
    },
    /// Its directory cannot be made.
    #[error(transparent)]
    Directory(Error),
    /// Its monitor was not started.
    #[error(transparent)]
    NotStarted(#[from] NotStarted),
    /// Its monitor was started and did not say what became of it.
    #[error("{0}")]
    NoStatus(String),
    /// Each start lost the race to another one.
    #[error("other starts won every race until the deadline")]
    LostEveryRace,
    /// It was started and was not ready.
    #[error("{reason}")]
    NotReady {
        /// Why, in one line.
        reason: String,
        /// The last lines that it printed, safe for a terminal; empty if it printed none.
        last_words: String,
    },
}

impl Failure {
    /// The last lines that the daemon printed before its start failed, safe for a terminal; empty if there are none.
    pub fn last_words(&self) -> &str {
        match self {
            Self::NotReady { last_words, .. } => last_words,
            _ => "",
        }
    }
}

/// How long a start may keep others from starting.
pub(super) const TURN_TAKES: Duration = Duration::from_secs(2);
/// How long one who does not wait gives somebody else who is about to start.
const INSTANT: Duration = Duration::from_millis(10);
/// How long one question to a ready socket may take. Whoever has more time asks again.
const QUESTION_TAKES: Duration = Duration::from_secs(1);
/// How long a monitor may take beyond the times of its daemon: to begin, to clear up, and to say so.
const MONITOR_TAKES: Duration = Duration::from_secs(5);
/// A verdict that a moment can change is only believed if it stands for so long.
const SECOND_LOOK: Duration = Duration::from_millis(100);
/// How many monitors in a row may end without a word.
const SILENT_STARTS: usize = 2;

impl Daemons {
    /// Those of a home, with this program.
    ///
    /// # Errors
    /// This program cannot be found any more.
    pub fn of_home(context: &HomeContext) -> Result<Self, NotStarted> {
        let starter = Starter::under(context, context.settings())?;
        Ok(Self::with(Arc::clone(&context.world), &context.home, context.here.clone(), starter))
    }

    fn with(world: Arc<Real>, home: &Home, here: Standpoint, starter: Starter) -> Self {
        Self { world, home: home.clone(), here, starter, notes: Box::new(|note| tracing::warn!("{note}")) }
    }

    /// Has somebody told what goes wrong and is no failure.
    #[must_use]
    pub fn with_notes(mut self, notes: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.notes = Box::new(notes);
        self
    }

    pub(super) fn note(&self, note: &str) {
        (self.notes)(note);
    }

    /// Makes sure that a daemon is ready, and says how that came. It returns when the daemon is ready, when its start has
    /// failed, or when the times of the definition have passed; then nothing of it is left that was not there before,
    /// unless it lives and does not answer.
    ///
    /// A daemon that lives is used as it is, also if it was started by another definition.
    ///
    /// # Errors
    /// It cannot be had.
    pub fn ensure(&self, name: &Name, definition: &Definition) -> Result<Ensured, Failure> {
        let paths = DaemonPaths::new(&self.home, name);
        Obtaining::new(self, &paths, definition).run()
    }

    /// Makes sure that a daemon runs or is being started, and does not wait for it. It takes no longer than starting a
    /// process does, and the caller may end at once.
    ///
    /// # Errors
    /// It cannot be had.
    pub fn kick(&self, name: &Name, definition: &Definition) -> Result<Kicked, Failure> {
        let paths = DaemonPaths::new(&self.home, name);
        let mut observer = Observer::new(self.world.as_ref(), &paths);
        let fingerprint = observer.fingerprint();
        let evidence = self.evidence(&paths);
        if !is_startable(&judge(&evidence)) {
            return self.kick_living(&paths, &evidence);
        }
        self.refuse_if_given_up(&paths)?;
        storage::make_directories(paths.directory()).map_err(Failure::Directory)?;
        let chance = self.take_turn(&paths, &mut observer, fingerprint, INSTANT);
        // Whoever had the turn before may have started one meanwhile.
        let evidence = self.evidence(&paths);
        match (chance, is_startable(&judge(&evidence))) {
            (_, false) => self.kick_living(&paths, &evidence),
            (Chance::Missed, true) => Ok(Kicked::Starting { pid: None }),
            (Chance::Turn(_) | Chance::Untold, true) => {
                self.start_monitor(&paths, definition)?;
                Ok(Kicked::MonitorStarted)
            }
        }
    }

    fn kick_living(&self, paths: &DaemonPaths, evidence: &Evidence) -> Result<Kicked, Failure> {
        self.adopt_if_unmonitored(paths, evidence);
        match judge(evidence) {
            State::Ready { pid, generation } => Ok(Kicked::Attached { pid, generation }),
            // Without a question to its socket, that is one whose monitor ended before it was ready.
            State::Stalled { pid, .. } => Ok(Kicked::Starting { pid: Some(pid) }),
            State::Starting { pid } => Ok(Kicked::Starting { pid }),
            state => Err(Failure::State(state)),
        }
    }

    /// Observes without asking the socket.
    pub(super) fn evidence(&self, paths: &DaemonPaths) -> Evidence {
        observe::evidence(self.world.as_ref(), paths, &self.here)
    }

    /// Observes, and notices a daemon that is stopped. Of one whose start was under way a moment ago the monitor has just
    /// asked the socket, and many may be waiting to hear the same.
    fn observe_after_start(&self, paths: &DaemonPaths) -> (Evidence, State) {
        let evidence = self.evidence(paths);
        let state = self.unless_stopped(judge(&evidence));
        (evidence, state)
    }

    /// Observes, and asks the socket of a daemon that lives and has nobody who judges it.
    fn observe(&self, paths: &DaemonPaths) -> (Evidence, State) {
        let mut evidence = self.evidence(paths);
        let is_silent = |life: &&Life| is_judged(life, &evidence) || observe::has_its_socket(&self.world, life);
        let asked = evidence.living().filter(|life| !is_silent(life));
        let probed = asked.and_then(|life| observe::probe(&self.world, &life.definition, QUESTION_TAKES));
        evidence.socket = probed.map(|probed| probed.map(|probed| probed.readiness).into());
        let state = self.unless_stopped(judge(&evidence));
        (evidence, state)
    }

    /// Observes again what a moment can change.
    pub(super) fn observe_settled(&self, paths: &DaemonPaths) -> (Evidence, State) {
        let is_settled = |state: &State| !matches!(state, State::Foreign(_) | State::Unknown(_));
        let first = self.observe(paths);
        if is_settled(&first.1) {
            return first;
        }
        let observe = || Some(self.observe(paths)).filter(|(_, state)| is_settled(state));
        crate::base::wait_until::wait_until(SECOND_LOOK, SECOND_LOOK / 5, observe).unwrap_or(first)
    }

    /// A daemon that a signal has stopped still accepts connections and does nothing.
    fn unless_stopped(&self, state: State) -> State {
        match state {
            State::Ready { pid, generation }
                if self.world.table_entry(pid.get()).is_some_and(|entry| entry.activity == Activity::Stopped) =>
            {
                let why = format!("a signal has stopped it; `kill -CONT {pid}` lets it go on");
                State::Stalled { pid, generation, why }
            }
            state => state,
        }
    }

    /// Waits for the turn, or until somebody else has done something.
    pub(super) fn take_turn(
        &self,
        paths: &DaemonPaths,
        observer: &mut Observer<'_, Real>,
        before: Fingerprint,
        at_most: Duration,
    ) -> Chance {
        let without = |error: crate::base::error::Error| {
            self.note(&format!("starting without taking turns: {error}"));
            Chance::Untold
        };
        let world = self.world.as_ref();
        let mut candidate = match Candidate::open(world, paths.directory()) {
            Ok(candidate) => candidate,
            Err(error) => return without(error),
        };
        let (began, mut pause) = (Instant::now(), Duration::ZERO);
        loop {
            candidate = match candidate.try_take(world) {
                Ok(Attempt::Taken(turn)) => return Chance::Turn(turn),
                Ok(Attempt::Busy(candidate)) => candidate,
                Err(error) => return without(error),
            };
            if observer.fingerprint() != before {
                return Chance::Missed;
            }
            let left = at_most.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Chance::Untold;
            }
            pause = observe::longer(pause);
            world.pause(pause.min(left));
        }
    }

    /// Gives a daemon that lives without a monitor a new one, so that somebody reads its output and sees its end. Nobody
    /// waits for that.
    fn adopt_if_unmonitored(&self, paths: &DaemonPaths, evidence: &Evidence) {
        if evidence.living().is_none() || evidence.monitor != LockState::Free {
            return;
        }
        let world = self.world.as_ref();
        let turn = Candidate::open(world, paths.directory()).and_then(|candidate| candidate.try_take(world));
        if matches!(turn, Ok(Attempt::Busy(_))) {
            return;
        }
        if let Err(why) = self.starter.adopt(paths.name()) {
            self.note(&format!("{} goes on without a monitor: {why}", paths.name()));
        }
    }

    /// Starts a monitor that starts the daemon, if no life of it has begun in between.
    fn start_monitor(&self, paths: &DaemonPaths, definition: &Definition) -> Result<Start, NotStarted> {
        self.starter.start(paths.name(), &StartRequest::new(self.world.as_ref(), paths, definition))
    }

    /// Says no for a daemon whose restarts the keeper has given up.
    fn refuse_if_given_up(&self, paths: &DaemonPaths) -> Result<(), Failure> {
        let keeping = records::read_in::<Keeping, _>(self.world.as_ref(), paths, paths::KEEP);
        let Some(Course::GivenUp { restarts, window }) = keeping.known().map(|keeping| &keeping.course) else {
            return Ok(());
        };
        let ended = records::read_in::<Ended, _>(self.world.as_ref(), paths, paths::END);
        Err(Failure::GivenUp {
            restarts: *restarts,
            window: *window,
            last: ended.known().map(|ended| ended.end.clone()),
            command: context::command_line(&self.home, &format!("daemon restart {}", paths.name())),
        })
    }
}

/// What became of asking for the turn to start a monitor.
#[derive(Debug)]
pub(super) enum Chance {
    /// It is ours.
    Turn(StartLock<Real>),
    /// Somebody else had it and has done something with it.
    Missed,
    /// Turns cannot be taken here, or somebody keeps one for too long. The monitor's lock decides all the same.
    Untold,
}

/// Whether a start is permitted. A monitor clears leftovers up first.
fn is_startable(state: &State) -> bool {
    matches!(state, State::Absent | State::Leftover { .. })
}

/// Whether a monitor is just finding out if the daemon is ready.
fn is_judged(life: &Life, evidence: &Evidence) -> bool {
    life.phase == Phase::Starting && evidence.monitor != LockState::Free
}

/// One client that waits for a daemon.
struct Obtaining<'a> {
    daemons: &'a Daemons,
    paths: &'a DaemonPaths,
    definition: &'a Definition,
    began: Instant,
    /// Where what is printed from now on begins in the log.
    output: LogPosition,
    /// The newest life that had ended before anybody waited.
    past: Option<u64>,
    silent_starts: usize,
}

impl<'a> Obtaining<'a> {
    fn new(daemons: &'a Daemons, paths: &'a DaemonPaths, definition: &'a Definition) -> Self {
        Self {
            daemons,
            paths,
            definition,
            began: Instant::now(),
            output: LogPosition::Unknown,
            past: None,
            silent_starts: 0,
        }
    }

    fn run(mut self) -> Result<Ensured, Failure> {
        let daemons = self.daemons;
        let mut observer = Observer::new(daemons.world.as_ref(), self.paths);
        let mut was_starting = false;
        loop {
            // What changes after the fingerprint is seen by the evidence or by the next fingerprint.
            let fingerprint = observer.fingerprint();
            let observe = if was_starting { Daemons::observe_after_start } else { Daemons::observe_settled };
            let (evidence, state) = observe(daemons, self.paths);
            was_starting = matches!(state, State::Starting { .. });
            self.remember(&evidence);
            if matches!(state, State::Ready { .. } | State::Stalled { .. }) {
                daemons.adopt_if_unmonitored(self.paths, &evidence);
            }
            match state {
                State::Ready { pid, generation } => return Ok(Ensured::Attached { pid, generation }),
                State::Absent | State::Leftover { .. } => {
                    self.fail_if_a_start_failed(&evidence)?;
                    daemons.refuse_if_given_up(self.paths)?;
                    if let Some(ensured) = self.start(&mut observer, fingerprint)? {
                        return Ok(ensured);
                    }
                }
                State::Starting { .. } => {
                    if observer.wait(fingerprint, self.deadline()) == Waited::TimedOut {
                        return Err(Failure::TooLong(state));
                    }
                }
                // It gets as long as one that starts; then it lives and does not answer.
                State::Stalled { .. } => {
                    daemons.world.pause(QUESTION_TAKES / 20);
                    if Instant::now() >= self.began + self.definition.ready_timeout {
                        return Err(Failure::State(state));
                    }
                }
                State::Foreign(_) | State::Unknown(_) => return Err(Failure::State(state)),
            }
        }
    }

    fn deadline(&self) -> Instant {
        self.began + self.definition.ready_timeout + self.definition.stop_grace + MONITOR_TAKES
    }

    /// Notes at the first look which lives are over: their ends are nobody's failure now.
    fn remember(&mut self, evidence: &Evidence) {
        if self.past.is_some() {
            return;
        }
        self.past = Some(match &evidence.life {
            Read::Some((life, Sameness::Different(_))) => life.generation,
            Read::Some((life, _)) => life.generation.saturating_sub(1),
            Read::None | Read::Damaged(_) => 0,
        });
    }

    /// A start that failed while this client waited is its failure too.
    fn fail_if_a_start_failed(&self, evidence: &Evidence) -> Result<(), Failure> {
        let Some((life, _)) = evidence.life.known() else { return Ok(()) };
        let is_awaited = self.past.is_some_and(|past| life.generation > past) && life.phase == Phase::Starting;
        let ended = records::read_in::<Ended, _>(self.daemons.world.as_ref(), self.paths, paths::END);
        let Some(ended) = ended.known().filter(|ended| is_awaited && ended.generation == life.generation) else {
            return Ok(());
        };
        Err(self.not_ready(match &ended.end {
            End::NotReady { reason } => reason.clone(),
            end => format!("{end} after {} ms", ended.lasted_ms),
        }))
    }

    fn not_ready(&self, reason: String) -> Failure {
        let last_words = log_reader::last_words(self.daemons.world.as_ref(), self.paths, self.output);
        Failure::NotReady { reason, last_words }
    }

    /// Starts the daemon. `None`: somebody else may have started it, so it is to be observed again.
    fn start(&mut self, observer: &mut Observer<'_, Real>, before: Fingerprint) -> Result<Option<Ensured>, Failure> {
        storage::make_directories(self.paths.directory()).map_err(Failure::Directory)?;
        let left = self.deadline().saturating_duration_since(Instant::now());
        let turn = match self.daemons.take_turn(self.paths, observer, before, TURN_TAKES.min(left)) {
            Chance::Turn(turn) => Some(turn),
            Chance::Untold => None,
            Chance::Missed => return Ok(None),
        };
        // Whoever had the turn before may have started one meanwhile.
        if !is_startable(&judge(&self.daemons.evidence(self.paths))) {
            return Ok(None);
        }
        self.output = log_reader::end_of_log(self.daemons.world.as_ref(), self.paths);
        let start = self.daemons.start_monitor(self.paths, self.definition)?;
        self.hear(&start, turn)
    }

    /// Waits for the last word of the monitor. The turn is kept until the first one: from then on everybody sees that it
    /// is there.
    fn hear(&mut self, start: &Start, turn: Option<StartLock<Real>>) -> Result<Option<Ensured>, Failure> {
        let mut first = Some(turn);
        loop {
            let status = start.next_status(self.deadline());
            drop(first.take());
            match status {
                Ok(MonitorStatus::Forked { .. }) => {}
                Ok(MonitorStatus::Ready { pid, generation, after }) => {
                    return Ok(Some(Ensured::Started { pid, generation, after }));
                }
                Ok(MonitorStatus::Failed { reason }) => return Err(self.not_ready(reason)),
                Ok(MonitorStatus::Lost) => break,
                Err(NoStatus::Ended) if self.silent_starts + 1 < SILENT_STARTS => {
                    self.silent_starts += 1;
                    break;
                }
                Err(silence) => return Err(Failure::NoStatus(start.in_words(&silence).to_string())),
            }
        }
        if Instant::now() >= self.deadline() {
            return Err(Failure::LostEveryRace);
        }
        // The winner of a race may not be seen yet.
        self.daemons.world.pause(INSTANT);
        Ok(None)
    }
}
