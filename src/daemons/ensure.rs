//! Obtaining a daemon: use the one that is ready, wait for the one that starts, or have one started.
//!
//! # Theory
//!
//! Nothing is started unless nothing of the daemon lives, and that is decided twice: here, so that nobody starts a
//! monitor in vain, and by the monitor, which holds the locks. The monitor alone asks who serves the ready socket
//! before it starts anything; a client asks only whether a daemon that lives does its work.
//!
//! Of many clients that come at once, one takes the turn and starts a monitor; all others wait for that start and for
//! nothing else, at the cost of a [`Glance`](super::observe) each few milliseconds. A turn decides nothing: where none can be
//! had, or somebody keeps one for too long, a start may be in vain, and the monitor's lock says which.
//!
//! A start is judged by what the monitor says about it. A client that did not start the monitor itself reads the same in
//! the records: a start that failed while it waited is its own failure too, and it does not try again at once, so two
//! hundred clients of a broken daemon start it once and not two hundred times.
//!
//! What breaks if this is wrong: a second daemon beside a living one, or a caller that waits for what cannot come.
//!
//! Limits: that a daemon is ready was true when somebody looked. It may have ended since.
//!
//! ```no_run
//! use std::path::PathBuf;
//! use fm_watch::settings::daemon_definition::Name;
//! use fm_watch::daemons::ensure::{Daemons, Ensured};
//! use fm_watch::base::environment::Environment;
//! use fm_watch::home::paths::Home;
//! use fm_watch::settings::{Overrides, Settings};
//!
//! let home = Home::at("/srv/agents");
//! let environment = Environment::of_this_process();
//! let settings = Settings::load(&home, &Overrides::default(), &environment)?.settings;
//! let cache = settings.daemons.iter().find(|daemon| daemon.name.as_str() == "cache").ok_or("no such daemon")?;
//! let definition = cache.definition(home.root(), &settings);
//! let program = PathBuf::from("/usr/local/bin/fm-watch");
//! let daemons = Daemons::new(&home, program, environment.for_child(&settings.pass));
//! match daemons.ensure(&cache.name, &definition) {
//!     Ensured::Attached { pid, .. } => println!("it runs already, as pid {pid}"),
//!     Ensured::Started { pid, after, .. } => println!("pid {pid} was ready after {after:?}"),
//!     Ensured::Failed(failure) => println!("{}: {}", failure.reason, failure.last_words),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::last_words::{self, Begin};
use super::look::{self, Ask};
use super::monitor_status::MonitorWord;
use super::observe::{self, Glance, Observer, Seen};
use super::paths::{self, DaemonPlace};
use super::records::{self, Course, Ended, Keeping, Life, Phase, Read};
use super::restart_policy::End;
use super::spawn_monitor::{Start, Starter};
use super::start_request::{Order, last_generation};
use super::state::{Evidence, LockSight, Standing, judge};
use crate::base::error::Error;
use crate::home::paths::Home;
use crate::lock::Attempt;
use crate::ownership::context::{self, HomeContext};
use crate::ownership::start_lock::{Candidate, Turn};
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
    /// It cannot be had.
    Failed(Failure),
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
    Kicked,
    /// It cannot be had.
    Failed(Failure),
}

/// Why a daemon cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The reason, in one line.
    pub reason: String,
    /// The last lines that it printed, safe for a terminal; empty if it printed none.
    pub last_words: String,
}

impl Failure {
    fn because(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string(), last_words: String::new() }
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
    /// Those of a home, with a program that is `fm-watch`, and the environment that daemons get.
    pub fn new(home: &Home, program: PathBuf, environment: Vec<(String, OsString)>) -> Self {
        let world = Arc::new(Real);
        let here = world.standpoint();
        Self::with(world, home, here, Starter::new(program, home, environment))
    }

    /// Those of a home, with this program.
    ///
    /// # Errors
    /// This program cannot be found any more.
    pub fn of_home(context: &HomeContext) -> Result<Self, Error> {
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

    /// The home.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Makes sure that a daemon is ready, and says how that came. It returns when the daemon is ready, when its start has
    /// failed, or when the times of the definition have passed; then nothing of it is left that was not there before,
    /// unless it lives and does not answer.
    ///
    /// A daemon that lives is used as it is, also if it was started by another definition.
    pub fn ensure(&self, name: &Name, definition: &Definition) -> Ensured {
        let place = DaemonPlace::new(&self.home, name);
        Obtaining::new(self, &place, definition).run().unwrap_or_else(Ensured::Failed)
    }

    /// Makes sure that a daemon runs or is being started, and does not wait for it. It takes no longer than starting a
    /// process does, and the caller may end at once.
    pub fn kick(&self, name: &Name, definition: &Definition) -> Kicked {
        let place = DaemonPlace::new(&self.home, name);
        self.kick_at(&place, definition).unwrap_or_else(Kicked::Failed)
    }

    fn kick_at(&self, place: &DaemonPlace, definition: &Definition) -> Result<Kicked, Failure> {
        let mut observer = Observer::new(self.world.as_ref(), place);
        let glance = observer.glance();
        let evidence = self.evidence(place);
        if !is_startable(&judge(&evidence)) {
            return self.kick_living(place, &evidence);
        }
        self.refuse_if_given_up(place)?;
        make_directory(place)?;
        let chance = self.take_turn(place, &mut observer, glance, INSTANT);
        // Whoever had the turn before may have started one meanwhile.
        let evidence = self.evidence(place);
        match (chance, is_startable(&judge(&evidence))) {
            (_, false) => self.kick_living(place, &evidence),
            (Chance::Missed, true) => Ok(Kicked::Starting { pid: None }),
            (Chance::Turn(_) | Chance::Untold, true) => {
                self.start_monitor(place, definition).map(|_unheard| Kicked::Kicked).map_err(Failure::because)
            }
        }
    }

    fn kick_living(&self, place: &DaemonPlace, evidence: &Evidence) -> Result<Kicked, Failure> {
        let standing = judge(evidence);
        if matches!(standing, Standing::Ready { .. } | Standing::Stalled { .. }) {
            self.adopt_if_unmonitored(place, evidence);
        }
        match standing {
            Standing::Ready { pid, generation } => Ok(Kicked::Attached { pid, generation }),
            // Without a question to its socket, that is one whose monitor ended before it was ready.
            Standing::Stalled { pid, .. } => Ok(Kicked::Starting { pid: Some(pid) }),
            Standing::Starting { pid } => Ok(Kicked::Starting { pid }),
            standing => Err(Failure::because(standing)),
        }
    }

    /// Looks without asking the socket.
    pub(super) fn evidence(&self, place: &DaemonPlace) -> Evidence {
        look::evidence(&self.world, place, None, &self.here, Ask::Nobody)
    }

    /// Looks, asks the socket of a daemon that lives and has nobody who judges it, and notices one that is stopped.
    pub(super) fn look(&self, place: &DaemonPlace) -> (Evidence, Standing) {
        let mut evidence = self.evidence(place);
        let is_silent = |life: &&Life| is_judged(life, &evidence) || look::has_its_socket(&self.world, life);
        let asked = living(&evidence).filter(|life| !is_silent(life));
        evidence.socket = asked.and_then(|life| look::answer(&self.world, &life.definition, Ask::For(QUESTION_TAKES)));
        let standing = self.unless_stopped(judge(&evidence));
        (evidence, standing)
    }

    /// Looks at a daemon whose start was under way a moment ago. Its monitor has just asked the socket, and many may be
    /// waiting to hear the same.
    fn look_after_start(&self, place: &DaemonPlace) -> (Evidence, Standing) {
        let evidence = self.evidence(place);
        let standing = self.unless_stopped(judge(&evidence));
        (evidence, standing)
    }

    /// Looks again at what a moment can change.
    pub(super) fn settled_look(&self, place: &DaemonPlace) -> (Evidence, Standing) {
        let is_settled = |standing: &Standing| !matches!(standing, Standing::Foreign(_) | Standing::Unknown(_));
        let first = self.look(place);
        if is_settled(&first.1) {
            return first;
        }
        let look = || Some(self.look(place)).filter(|(_, standing)| is_settled(standing));
        crate::base::wait_until::wait_until(SECOND_LOOK, SECOND_LOOK / 5, look).unwrap_or(first)
    }

    /// A daemon that a signal has stopped still accepts connections and does nothing.
    fn unless_stopped(&self, standing: Standing) -> Standing {
        match standing {
            Standing::Ready { pid, generation } if self.is_stopped(pid) => {
                let why = format!("a signal has stopped it; `kill -CONT {pid}` lets it go on");
                Standing::Stalled { pid, generation, why }
            }
            standing => standing,
        }
    }

    fn is_stopped(&self, pid: Pid) -> bool {
        self.world.table_entry(pid.get()).is_some_and(|entry| entry.activity == Activity::Stopped)
    }

    /// Waits for the turn, or until somebody else has done something.
    pub(super) fn take_turn(
        &self,
        place: &DaemonPlace,
        observer: &mut Observer<'_, Real>,
        before: Glance,
        at_most: Duration,
    ) -> Chance {
        let without = |error: crate::base::error::Error| {
            self.note(&format!("starting without taking turns: {error}"));
            Chance::Untold
        };
        let world = self.world.as_ref();
        let mut candidate = match Candidate::open(world, place.directory()) {
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
            if observer.glance() != before {
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
    fn adopt_if_unmonitored(&self, place: &DaemonPlace, evidence: &Evidence) {
        if living(evidence).is_none() || evidence.monitor != LockSight::Free {
            return;
        }
        let world = self.world.as_ref();
        let turn = Candidate::open(world, place.directory()).and_then(|candidate| candidate.try_take(world));
        if matches!(turn, Ok(Attempt::Busy(_))) {
            return;
        }
        if let Err(why) = self.starter.adopt(place.name()) {
            self.note(&format!("{} goes on without a monitor: {why}", place.name()));
        }
    }

    /// Starts a monitor that starts the daemon, if no life of it has begun in between.
    fn start_monitor(&self, place: &DaemonPlace, definition: &Definition) -> Result<Start, String> {
        let world = self.world.as_ref();
        // A directory that nobody can open is told of by the monitor.
        let directory = world.open_directory(place.directory()).ok();
        let after = directory.map_or(0, |directory| last_generation(world, &directory));
        self.starter.start(place.name(), &Order { definition: definition.clone(), after })
    }

    /// Says no for a daemon whose restarts the keeper has given up.
    fn refuse_if_given_up(&self, place: &DaemonPlace) -> Result<(), Failure> {
        let Ok(directory) = self.world.open_directory(place.directory()) else { return Ok(()) };
        let keeping = records::read::<Keeping, _>(self.world.as_ref(), &directory, paths::KEEP);
        let Some(Course::GivenUp { restarts, window }) = keeping.known().map(|keeping| &keeping.course) else {
            return Ok(());
        };
        let ended = records::read::<Ended, _>(self.world.as_ref(), &directory, paths::END);
        let last = ended.known().map(|ended| format!(" (last: {})", ended.end)).unwrap_or_default();
        let command = context::command_line(&self.home, &format!("daemon restart {}", place.name()));
        let window = humantime::format_duration(*window);
        Err(Failure::because(format!(
            "given up after {restarts} restarts in {window}{last}; `{command}` starts it again"
        )))
    }
}

/// What became of asking for the turn to start a monitor.
#[derive(Debug)]
pub(super) enum Chance {
    /// It is ours.
    Turn(Turn<Real>),
    /// Somebody else had it and has done something with it.
    Missed,
    /// Turns cannot be taken here, or somebody keeps one for too long. The monitor's lock decides all the same.
    Untold,
}

impl Chance {
    fn turn(self) -> Option<Turn<Real>> {
        match self {
            Self::Turn(turn) => Some(turn),
            Self::Missed | Self::Untold => None,
        }
    }
}

/// The recorded life, if its process is the one that was recorded.
pub(super) fn living(evidence: &Evidence) -> Option<&Life> {
    let (life, _) = evidence.life.known().filter(|(_, sameness)| matches!(sameness, Sameness::Same(_)))?;
    Some(life)
}

/// Whether a start is permitted. A monitor clears leftovers up first.
fn is_startable(standing: &Standing) -> bool {
    matches!(standing, Standing::Absent | Standing::Leftover { .. })
}

/// Whether a monitor is just finding out if the daemon is ready.
fn is_judged(life: &Life, evidence: &Evidence) -> bool {
    life.phase == Phase::Starting && evidence.monitor != LockSight::Free
}

fn make_directory(place: &DaemonPlace) -> Result<(), Failure> {
    storage::make_directories(place.directory()).map_err(Failure::because)
}

/// One client that waits for a daemon.
struct Obtaining<'a> {
    daemons: &'a Daemons,
    place: &'a DaemonPlace,
    definition: &'a Definition,
    began: Instant,
    /// Where what is printed from now on begins in the log.
    output: Begin,
    /// The newest life that had ended before anybody waited.
    past: Option<u64>,
    silent_starts: usize,
}

/// What a round of obtaining came to.
enum Round {
    Done(Ensured),
    Again,
}

impl<'a> Obtaining<'a> {
    fn new(daemons: &'a Daemons, place: &'a DaemonPlace, definition: &'a Definition) -> Self {
        Self { daemons, place, definition, began: Instant::now(), output: Begin::Unknown, past: None, silent_starts: 0 }
    }

    fn run(mut self) -> Result<Ensured, Failure> {
        let daemons = self.daemons;
        let mut observer = Observer::new(daemons.world.as_ref(), self.place);
        let mut was_starting = false;
        loop {
            // What changes after the glance is seen by the look or by the next glance.
            let glance = observer.glance();
            let look = if was_starting { Daemons::look_after_start } else { Daemons::settled_look };
            let (evidence, standing) = look(daemons, self.place);
            was_starting = matches!(standing, Standing::Starting { .. });
            self.remember(&evidence);
            match &standing {
                Standing::Ready { pid, generation } => {
                    daemons.adopt_if_unmonitored(self.place, &evidence);
                    return Ok(Ensured::Attached { pid: *pid, generation: *generation });
                }
                Standing::Absent | Standing::Leftover { .. } => {
                    self.fail_if_a_start_failed(&evidence)?;
                    daemons.refuse_if_given_up(self.place)?;
                    if let Round::Done(ensured) = self.start(&mut observer, glance)? {
                        return Ok(ensured);
                    }
                }
                Standing::Starting { .. } => {
                    if observer.wait(glance, self.deadline()) == Seen::Nothing {
                        return Err(Failure::because(format!("{standing} for too long")));
                    }
                }
                Standing::Stalled { .. } => {
                    daemons.adopt_if_unmonitored(self.place, &evidence);
                    // It gets as long as one that starts; then it lives and does not answer.
                    let end = self.began + self.definition.ready_timeout;
                    daemons.world.pause(QUESTION_TAKES / 20);
                    if Instant::now() >= end {
                        return Err(Failure::because(standing));
                    }
                }
                Standing::Foreign(_) | Standing::Unknown(_) => return Err(Failure::because(standing)),
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
        let Some(ended) = self.ended().filter(|ended| is_awaited && ended.generation == life.generation) else {
            return Ok(());
        };
        let reason = match &ended.end {
            End::NotReady { reason } => reason.clone(),
            end => format!("{end} after {} ms", ended.lasted_ms),
        };
        let last_words = last_words::since(self.daemons.world.as_ref(), self.place, self.output);
        Err(Failure { reason, last_words })
    }

    fn ended(&self) -> Option<Ended> {
        let world = self.daemons.world.as_ref();
        let directory = world.open_directory(self.place.directory()).ok()?;
        records::read::<Ended, _>(world, &directory, paths::END).known().cloned()
    }

    fn start(&mut self, observer: &mut Observer<'_, Real>, glance: Glance) -> Result<Round, Failure> {
        make_directory(self.place)?;
        let left = self.deadline().saturating_duration_since(Instant::now());
        let chance = self.daemons.take_turn(self.place, observer, glance, TURN_TAKES.min(left));
        if matches!(chance, Chance::Missed) {
            return Ok(Round::Again);
        }
        // Whoever had the turn before may have started one meanwhile.
        if !is_startable(&judge(&self.daemons.evidence(self.place))) {
            return Ok(Round::Again);
        }
        self.output = last_words::begin(self.daemons.world.as_ref(), self.place);
        let start = self.daemons.start_monitor(self.place, self.definition).map_err(Failure::because)?;
        self.hear(&start, chance.turn())
    }

    /// Waits for the last word of the monitor. The turn is kept until the first one: from then on everybody sees that it
    /// is there.
    fn hear(&mut self, start: &Start, turn: Option<Turn<Real>>) -> Result<Round, Failure> {
        let mut first = Some(turn);
        loop {
            let word = start.next_word(self.deadline());
            drop(first.take());
            match word {
                Ok(MonitorWord::Forked { .. }) => {}
                Ok(MonitorWord::Ready { pid, generation, after }) => {
                    return Ok(Round::Done(Ensured::Started { pid, generation, after }));
                }
                Ok(MonitorWord::Lost) => return self.go_round(),
                Ok(MonitorWord::Failed { reason }) => {
                    let last_words = last_words::since(self.daemons.world.as_ref(), self.place, self.output);
                    return Err(Failure { reason, last_words });
                }
                Err(NoStatus::Ended) if self.silent_starts + 1 < SILENT_STARTS => {
                    self.silent_starts += 1;
                    return self.go_round();
                }
                Err(silence) => return Err(Failure::because(start.in_words(&silence))),
            }
        }
    }

    /// The winner of a race may not be seen yet.
    fn go_round(&self) -> Result<Round, Failure> {
        if Instant::now() >= self.deadline() {
            return Err(Failure::because("other starts won every race until the deadline"));
        }
        self.daemons.world.pause(INSTANT);
        Ok(Round::Again)
    }
}
