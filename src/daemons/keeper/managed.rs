//! One kept daemon: what the keeper has under way for it, and how a look at it turns into acts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::decide::{self, Action, Attempt, Care, Clock, Presence, Subject};
use super::memory::{Memory, Number};
use super::observe::{self, View};
use crate::base::failpoint::Failpoint;
use crate::daemons::log;
use crate::daemons::monitor_status::MonitorWord;
use crate::daemons::paths::{self, DaemonPlace};
use crate::daemons::records::{self, Keeping};
use crate::daemons::restart_policy::Rules;
use crate::daemons::spawn_monitor::{Start, Starter};
use crate::daemons::start_request::{Order, last_generation};
use crate::home::paths::Home;
use crate::settings::daemon_definition::{Definition, Name};
use crate::system::handle::{AsHandle, HandleRef};
use crate::system::identity::Standpoint;
use crate::system::platform::Pinned;
use crate::system::status_pipe::NoStatus;
use crate::system::storage;
use crate::system::{Facts, Real, World};

/// Somebody else's work that ends without a sign is looked at again after so long.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// A living daemon that could not be given a monitor is tried again after so long.
const ADOPT_AGAIN: Duration = Duration::from_secs(15);
/// A directory that was changed this recently may change again without its time showing it.
const TIMES_TELL_AFTER_NS: i64 = 2_000_000_000;

/// What one look may do.
pub(super) trait Hands {
    /// Announces what happened to a daemon, with what it printed last. The number comes back once that is recorded.
    fn announce(&mut self, name: &Name, what: &str, last_words: Option<String>) -> Number;
    /// Whether this process still is the one to act in this home.
    fn may_act(&mut self) -> bool;
    /// How monitors are started.
    fn starter(&self) -> &Starter;
}

/// Whether a daemon may be started yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It may.
    Ours,
    /// One that comes before it in the settings is still on its way.
    AfterOthers,
}

/// How much has to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Everything.
    Full,
    /// Nothing, unless its directory has changed.
    Glance,
}

/// One daemon of the settings that is to be kept.
#[derive(Debug)]
pub(super) struct Kept {
    name: Name,
    place: DaemonPlace,
    definition: Definition,
    rules: Rules,
    memory: Memory,
    start: Option<Start>,
    failed: Option<String>,
    awaited: Option<Pinned>,
    /// Its directory, when nothing in it was to be waited for but a change.
    calm: Option<Facts>,
    /// When it is to be looked at again, whatever happens; of the monotonic clock.
    due: Option<Duration>,
    adopted: Option<Duration>,
    /// Whether it was seen to be up, or to have failed, since the keeper began.
    first: First,
    trouble: Option<String>,
}

/// Whether the first start of a keeper's life is behind a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Ahead,
    Behind,
}

impl Kept {
    pub(super) fn new(home: &Home, name: Name, definition: Definition) -> Self {
        Self {
            place: DaemonPlace::new(home, &name),
            rules: decide::rules(&definition),
            name,
            definition,
            memory: Memory::default(),
            start: None,
            failed: None,
            awaited: None,
            calm: None,
            due: None,
            adopted: None,
            first: First::Ahead,
            trouble: None,
        }
    }

    pub(super) fn name(&self) -> &Name {
        &self.name
    }

    /// Goes by another definition from now on. What lives goes on by the one that it was started with.
    pub(super) fn redefine(&mut self, definition: Definition) {
        self.rules = decide::rules(&definition);
        self.definition = definition;
        self.calm = None;
    }

    /// What the keeper cannot do for it, in words.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Whether those that come after it in the settings still have to wait for it.
    pub(super) fn is_on_its_way(&self) -> bool {
        self.first == First::Ahead
    }

    /// When it is to be looked at again at the latest.
    pub(super) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// The descriptors that tell of its next step.
    pub(super) fn ears(&self) -> impl Iterator<Item = HandleRef<'_>> {
        let word = self.start.as_ref().map(Start::ear);
        word.into_iter().chain(self.awaited.as_ref().map(AsHandle::as_handle))
    }

    pub(super) fn recorded(&mut self, number: Number) {
        if self.memory.recorded(number) {
            self.due = Some(Duration::ZERO);
        }
    }

    /// Looks, and does what follows.
    pub(super) fn look(
        &mut self,
        world: &Arc<Real>,
        here: &Standpoint,
        depth: Depth,
        turn: Turn,
        hands: &mut impl Hands,
    ) {
        /// Remembering and looking again comes to an end after at most three steps.
        const STEPS: usize = 8;
        if depth == Depth::Glance && self.is_calm(world) {
            return;
        }
        let directory = world.facts_of_path(self.place.directory()).ok();
        self.hear();
        (self.due, self.trouble) = (None, None);
        for _ in 0..STEPS {
            let view = observe::view(world, &self.place, here);
            if self.write_down(world, view.keeping.as_ref(), hands) == Next::LookAgain {
                continue;
            }
            let action = self.decide(world, &view);
            if self.act(world, view, action, turn, hands) == Next::Wait {
                break;
            }
        }
        let is_settled = self.due.is_none() && self.start.is_none() && self.memory.is_empty();
        // What could not be told may be told another time without a change.
        let is_calm = is_settled && self.trouble.is_none();
        self.calm = directory.filter(|directory| is_calm && has_telling_times(directory, world.now().wall_ms));
    }

    fn is_calm(&self, world: &Arc<Real>) -> bool {
        let now = world.facts_of_path(self.place.directory()).ok();
        self.calm.is_some() && self.calm == now
    }

    /// Takes in what its monitor has said so far.
    fn hear(&mut self) {
        while let Some(start) = &self.start {
            match start.next_word(Instant::now()) {
                Ok(MonitorWord::Forked { pid, generation }) => {
                    tracing::info!("daemon {} is starting as pid {pid}, life {generation}", self.name);
                    continue;
                }
                Ok(MonitorWord::Ready { pid, generation, after }) => {
                    tracing::info!("daemon {} is ready: pid {pid}, life {generation}, after {after:?}", self.name);
                }
                Ok(MonitorWord::Lost) => tracing::debug!("somebody else has started daemon {}", self.name),
                Ok(MonitorWord::Failed { reason }) => self.failed = Some(reason),
                Err(NoStatus::DeadlinePassed) => return,
                Err(silence) => self.failed = Some(start.in_words(&silence).to_string()),
            }
            self.start = None;
            self.first = First::Behind;
        }
    }

    fn decide(&mut self, world: &Arc<Real>, view: &View<Pinned>) -> Action {
        let attempt = match (&self.start, &self.failed) {
            (Some(_), _) => Attempt::UnderWay,
            (None, Some(why)) => Attempt::Failed(why.clone()),
            (None, None) => Attempt::None,
        };
        let clock = Clock { now: world.now().monotonic, boot_id: world.boot_id() };
        let keeping = self.memory.recall(view.keeping.clone());
        let subject = Subject { name: &self.name, rules: &self.rules };
        decide::decide(subject, &view.sight, &attempt, keeping.as_ref(), &clock)
    }

    fn act(
        &mut self,
        world: &Arc<Real>,
        view: View<Pinned>,
        action: Action,
        turn: Turn,
        hands: &mut impl Hands,
    ) -> Next {
        let now = world.now().monotonic;
        let is_up = matches!(view.sight.presence, Presence::Alive { care: Care::Attended, .. });
        if is_up && self.start.is_none() {
            (self.failed, self.adopted, self.first) = (None, None, First::Behind);
        }
        self.awaited = view.awaited;
        match action {
            Action::Remember(keeping) => {
                self.memory.keep(view.keeping.clone(), keeping, None);
                self.write_down(world, view.keeping.as_ref(), hands);
                return Next::LookAgain;
            }
            Action::Announce { keeping, what } => {
                let number = hands.announce(&self.name, &what, self.last_words(world));
                let number = Some(number).filter(|_| world.is_protected(Failpoint::KeeperRecordedFirst));
                self.memory.keep(view.keeping.clone(), keeping, number);
                (self.failed, self.first) = (None, First::Behind);
                self.write_down(world, view.keeping.as_ref(), hands);
                return Next::LookAgain;
            }
            // It is told when that one is through.
            Action::Start if turn == Turn::AfterOthers => self.due = Some(now + LOOK_AGAIN),
            Action::Start => {
                self.due = Some(now + LOOK_AGAIN);
                return self.begin(Errand::Start, world, hands);
            }
            Action::Adopt => match (&self.adopted, view.life) {
                (Some(at), _) if now < *at + ADOPT_AGAIN => self.due = Some(*at + ADOPT_AGAIN),
                (_, Some(life)) => {
                    tracing::info!("daemon {} lives as pid {} without a monitor", self.name, life.pid());
                    (self.adopted, self.due) = (Some(now), Some(now + LOOK_AGAIN));
                    return self.begin(Errand::Adopt, world, hands);
                }
                (_, None) => self.due = Some(now + LOOK_AGAIN),
            },
            Action::WaitUntil(at) => self.due = Some(Duration::from_millis(at)),
            // What cannot be pinned has to be looked at.
            Action::Rest if is_up && self.awaited.is_none() => self.due = Some(now + LOOK_AGAIN),
            // The word of its monitor will come.
            Action::Rest if self.start.is_some() => {}
            Action::Rest => self.first = First::Behind,
            Action::LookAgain => self.due = Some(now + LOOK_AGAIN),
            Action::Refuse(why) => {
                self.trouble = Some(format!("daemon {} is not kept: {why}", self.name));
                self.first = First::Behind;
            }
        }
        Next::Wait
    }

    /// What it printed last.
    fn last_words(&self, world: &Arc<Real>) -> Option<String> {
        const LINES: usize = 20;
        const BYTES: usize = 4096;
        let directory = world.open_directory(self.place.directory()).ok()?;
        let tail = log::tail(world.as_ref(), &directory, LINES, BYTES).ok()?;
        Some(String::from_utf8_lossy(&tail).into_owned()).filter(|text| !text.is_empty())
    }

    fn begin(&mut self, errand: Errand, world: &Arc<Real>, hands: &mut impl Hands) -> Next {
        if !hands.may_act() {
            return Next::Wait;
        }
        let begun = match errand {
            Errand::Start => hands.starter().start(&self.name, &self.order(world)),
            Errand::Adopt => hands.starter().adopt(&self.name),
        };
        match begun {
            Ok(start) => {
                self.failed = None;
                self.start = Some(start);
                Next::Wait
            }
            Err(why) => {
                self.failed = Some(why);
                Next::LookAgain
            }
        }
    }

    fn order(&self, world: &Arc<Real>) -> Order {
        let directory = world.open_directory(self.place.directory()).ok();
        let after = directory.map_or(0, |directory| last_generation(world.as_ref(), &directory));
        Order { definition: self.definition.clone(), after }
    }

    /// Writes what may be written, if that is still what follows from what is on disk. What was seen before is old then.
    fn write_down(&mut self, world: &Arc<Real>, disk: Option<&Keeping>, hands: &mut impl Hands) -> Next {
        self.memory.recall(disk.cloned());
        let Some(keeping) = self.memory.due() else { return Next::Wait };
        if !hands.may_act() {
            return Next::Wait;
        }
        match self.write(world, keeping) {
            Ok(()) => {
                self.memory.written();
                Next::LookAgain
            }
            Err(error) => {
                let path = self.place.file(paths::KEEP);
                self.trouble = Some(format!("cannot write {}: {error}", path.display()));
                Next::Wait
            }
        }
    }

    fn write(&self, world: &Arc<Real>, keeping: &Keeping) -> std::io::Result<()> {
        storage::make_directories(self.place.directory()).map_err(std::io::Error::other)?;
        world.reach(Failpoint::KeeperRecorded)?;
        let directory = world.open_directory(self.place.directory())?;
        records::write(world.as_ref(), &directory, paths::KEEP, keeping)
    }
}

/// What a monitor is started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Errand {
    Start,
    Adopt,
}

/// What a step leaves to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    LookAgain,
    Wait,
}

/// Whether a change of the directory after this moment shows in its times.
fn has_telling_times(directory: &Facts, wall_ms: i64) -> bool {
    let age = wall_ms.saturating_mul(1_000_000).saturating_sub(directory.mtime_ns);
    age > TIMES_TELL_AFTER_NS
}
