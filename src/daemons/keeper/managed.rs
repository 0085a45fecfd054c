//! One kept daemon: what the keeper has under way for it, how an observation of it turns into acts, and what is remembered
//! and not written down yet.
//!
//! An end counts as dealt with on disk only when its wake is in the journal, so that a watcher that is killed in between
//! announces it again. Until then, and while the disk is full, the keeper goes by what it has in mind ([`Memory`]). A
//! person who takes the file away (`daemon restart`) wins over that: what was thought of on the base of another file is
//! forgotten.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::decide::{self, Action, Attempt, Care, Clock, Presence, Subject};
use super::observe::{self, View};
use crate::base::failpoint::Failpoint;
use crate::daemons::log;
use crate::daemons::paths::{self, DaemonPaths};
use crate::daemons::records::{self, Keeping};
use crate::daemons::spawn_monitor::{MonitorStatus, Start, StartRequest, Starter};
use crate::layout::paths::Home;
use crate::lock::Ownership;
use crate::ownership::held_home::Holding;
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

/// What the keeper tells the loop.
#[derive(Debug)]
pub enum Report {
    /// Something happened to a daemon that somebody should know of. [`Keeper::recorded`](super::Keeper::recorded) takes the number back.
    Happened {
        /// The number of this announcement.
        number: u64,
        /// The daemon.
        name: Name,
        /// What happened, as a phrase after the name.
        what: String,
        /// What the daemon printed last, if it printed anything.
        last_words: Option<String>,
    },
    /// What cannot be kept although it is to be, and why; `None` if everything can.
    Trouble(Option<String>),
}

/// What one observation acts through.
pub(super) struct Context {
    /// The watcher's hold on the home.
    pub holding: Arc<Holding<Real>>,
    /// How monitors are started.
    pub starter: Starter,
    /// Where reports go.
    pub report: Box<dyn Fn(Report) + Send>,
    /// The number of the last announcement.
    pub announced: Number,
    /// Whether the thread goes on.
    pub course: Course,
}

/// Whether the keeper's thread goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// It does.
    Keeping,
    /// It was told to leave, or somebody else has the home.
    Leaving,
}

impl Context {
    /// Announces what happened to a daemon, with what it printed last. The number comes back once that is recorded.
    fn announce(&mut self, name: &Name, what: String, last_words: Option<String>) -> Number {
        self.announced += 1;
        tracing::debug!("daemon {name} {what}");
        (self.report)(Report::Happened { number: self.announced, name: name.clone(), what, last_words });
        self.announced
    }

    /// Whether this process still is the one to act in this home.
    fn may_act(&mut self) -> bool {
        match self.holding.check() {
            Ok(Ownership::Held) => true,
            Ok(Ownership::Lost(eviction)) => {
                tracing::info!("the daemons are kept no longer: {eviction}");
                self.course = Course::Leaving;
                false
            }
            Err(error) => {
                tracing::debug!("cannot look whether the home is still held: {error}");
                false
            }
        }
    }
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
    Fingerprint,
}

/// One daemon of the settings that is to be kept.
#[derive(Debug)]
pub(super) struct Managed {
    name: Name,
    paths: DaemonPaths,
    definition: Definition,
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

impl Managed {
    pub(super) fn new(home: &Home, name: Name, definition: Definition) -> Self {
        Self {
            paths: DaemonPaths::new(home, &name),
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
    pub(super) fn descriptors(&self) -> impl Iterator<Item = HandleRef<'_>> {
        let status = self.start.as_ref().map(AsHandle::as_handle);
        status.into_iter().chain(self.awaited.as_ref().map(AsHandle::as_handle))
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
        context: &mut Context,
    ) {
        /// Remembering and looking again comes to an end after at most three steps.
        const STEPS: usize = 8;
        if depth == Depth::Fingerprint && self.is_calm(world) {
            return;
        }
        let directory = world.facts_of_path(self.paths.directory()).ok();
        self.hear();
        (self.due, self.trouble) = (None, None);
        for _ in 0..STEPS {
            let view = observe::view(world, &self.paths, here);
            if self.write_down(world, view.keeping.as_ref(), context) == Next::LookAgain {
                continue;
            }
            let action = self.decide(world, &view);
            if self.act(world, view, action, turn, context) == Next::Wait {
                break;
            }
        }
        let is_settled = self.due.is_none() && self.start.is_none() && self.memory.is_empty();
        // What could not be told may be told another time without a change.
        let is_calm = is_settled && self.trouble.is_none();
        self.calm = directory.filter(|directory| is_calm && has_telling_times(directory, world.now().wall_ms));
    }

    fn is_calm(&self, world: &Arc<Real>) -> bool {
        let now = world.facts_of_path(self.paths.directory()).ok();
        self.calm.is_some() && self.calm == now
    }

    /// Takes in what its monitor has said so far.
    fn hear(&mut self) {
        while let Some(start) = &self.start {
            match start.next_status(Instant::now()) {
                Ok(MonitorStatus::Forked { pid, generation }) => {
                    tracing::info!("daemon {} is starting as pid {pid}, life {generation}", self.name);
                    continue;
                }
                Ok(MonitorStatus::Ready { pid, generation, after }) => {
                    tracing::info!("daemon {} is ready: pid {pid}, life {generation}, after {after:?}", self.name);
                }
                Ok(MonitorStatus::Lost) => tracing::debug!("somebody else has started daemon {}", self.name),
                Ok(MonitorStatus::Failed { reason }) => self.failed = Some(reason),
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
        let rules = decide::rules(&self.definition);
        let subject = Subject { name: &self.name, rules: &rules };
        decide::decide(subject, &view.seen, &attempt, keeping.as_ref(), &clock)
    }

    fn act(
        &mut self,
        world: &Arc<Real>,
        view: View<Pinned>,
        action: Action,
        turn: Turn,
        context: &mut Context,
    ) -> Next {
        let now = world.now().monotonic;
        let is_up = matches!(view.seen.presence, Presence::Alive { care: Care::Attended, .. });
        if is_up && self.start.is_none() {
            (self.failed, self.adopted, self.first) = (None, None, First::Behind);
        }
        self.awaited = view.awaited;
        match action {
            Action::Remember(keeping) => {
                self.memory.keep(view.keeping.clone(), keeping, None);
                self.write_down(world, view.keeping.as_ref(), context);
                return Next::LookAgain;
            }
            Action::Announce { keeping, what } => {
                let number = context.announce(&self.name, what, self.last_words(world));
                let number = Some(number).filter(|_| world.is_protected(Failpoint::KeeperRecordedFirst));
                self.memory.keep(view.keeping.clone(), keeping, number);
                (self.failed, self.first) = (None, First::Behind);
                self.write_down(world, view.keeping.as_ref(), context);
                return Next::LookAgain;
            }
            // It is told when that one is through.
            Action::Start if turn == Turn::AfterOthers => self.due = Some(now + LOOK_AGAIN),
            Action::Start => {
                self.due = Some(now + LOOK_AGAIN);
                return self.begin(Errand::Start, world, context);
            }
            Action::Adopt => match (&self.adopted, view.life) {
                (Some(at), _) if now < *at + ADOPT_AGAIN => self.due = Some(*at + ADOPT_AGAIN),
                (_, Some(life)) => {
                    tracing::info!("daemon {} lives as pid {} without a monitor", self.name, life.pid());
                    (self.adopted, self.due) = (Some(now), Some(now + LOOK_AGAIN));
                    return self.begin(Errand::Adopt, world, context);
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
        let directory = world.open_directory(self.paths.directory()).ok()?;
        let tail = log::tail(world.as_ref(), &directory, LINES, BYTES).ok()?;
        Some(String::from_utf8_lossy(&tail).into_owned()).filter(|text| !text.is_empty())
    }

    fn begin(&mut self, errand: Errand, world: &Arc<Real>, context: &mut Context) -> Next {
        if !context.may_act() {
            return Next::Wait;
        }
        let begun = match errand {
            Errand::Start => {
                let request = StartRequest::new(world.as_ref(), &self.paths, &self.definition);
                context.starter.start(&self.name, &request)
            }
            Errand::Adopt => context.starter.adopt(&self.name),
        };
        match begun {
            Ok(start) => {
                self.failed = None;
                self.start = Some(start);
                Next::Wait
            }
            Err(why) => {
                self.failed = Some(why.to_string());
                Next::LookAgain
            }
        }
    }

    /// Writes what may be written, if that is still what follows from what is on disk. What was seen before is old then.
    fn write_down(&mut self, world: &Arc<Real>, disk: Option<&Keeping>, context: &mut Context) -> Next {
        self.memory.recall(disk.cloned());
        let Some(keeping) = self.memory.due() else { return Next::Wait };
        if !context.may_act() {
            return Next::Wait;
        }
        match self.write(world, keeping) {
            Ok(()) => {
                self.memory.written();
                Next::LookAgain
            }
            Err(error) => {
                let path = self.paths.file(paths::KEEP);
                self.trouble = Some(format!("cannot write {}: {error}", path.display()));
                Next::Wait
            }
        }
    }

    fn write(&self, world: &Arc<Real>, keeping: &Keeping) -> std::io::Result<()> {
        storage::make_directories(self.paths.directory()).map_err(std::io::Error::other)?;
        world.reach(Failpoint::KeeperRecorded)?;
        let directory = world.open_directory(self.paths.directory())?;
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

/// The number of an announcement, unique in one run of the keeper.
pub(super) type Number = u64;

/// What is in mind and not on disk.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Pending {
    /// What was on disk when it was thought of.
    base: Option<Keeping>,
    keeping: Keeping,
    /// Announcements that have to be recorded first.
    awaited: BTreeSet<Number>,
}

impl Memory {
    /// What is in force, with this on disk.
    pub(super) fn recall(&mut self, disk: Option<Keeping>) -> Option<Keeping> {
        match &self.pending {
            Some(pending) if pending.base == disk => Some(pending.keeping.clone()),
            _ => {
                self.pending = None;
                disk
            }
        }
    }

    /// Whether everything is on disk.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_none()
    }

    /// Keeps this in mind, with this on disk. `announcement` has to be recorded before it may be written.
    pub(super) fn keep(&mut self, disk: Option<Keeping>, keeping: Keeping, announcement: Option<Number>) {
        let before = self.pending.take().filter(|pending| pending.base == disk);
        let mut awaited = before.map(|pending| pending.awaited).unwrap_or_default();
        awaited.extend(announcement);
        self.pending = Some(Pending { base: disk, keeping, awaited });
    }

    /// Takes note that an announcement is recorded, and says whether it is one that is waited for.
    pub(super) fn recorded(&mut self, number: Number) -> bool {
        self.pending.as_mut().is_some_and(|pending| pending.awaited.remove(&number))
    }

    /// What may be written now.
    pub(super) fn due(&self) -> Option<&Keeping> {
        self.pending.as_ref().filter(|pending| pending.awaited.is_empty()).map(|pending| &pending.keeping)
    }

    /// Takes note that it is on disk.
    pub(super) fn written(&mut self) {
        self.pending = None;
    }
}
