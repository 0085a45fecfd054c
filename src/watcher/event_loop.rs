//! The loop.
//!
//! # Theory
//!
//! One thread owns everything that decides and waits on one channel. File events only say where to look sooner; every
//! `poll` the whole state directory is looked at again, and that scan is the truth. Whatever could take long (checks,
//! tmux, the disk, other programs) runs in a thread of its own and reports over the channel. So the loop comes round at
//! least once per `TICK`, and the beat that it publishes then is an honest sign of health.
//!
//! At each round, and before each side effect, it asks whether it still holds the home. If not, it stops at
//! once and leaves the survivor's files alone.
//!
//! What it announces goes to the recorder; the markers in memory move when the recorder says that the wakes are
//! durable. A watcher that dies in between announces again.

mod control;
mod daemons;
mod dispatch;
mod fleet;
mod recorded;
mod script_order;
mod startup;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use self::startup::{
    Recalled, check_rules, notifiers, pane_rules, recall, reporter, set_abandoned_aside, sweep_leftovers, tracker,
};
use super::beacon::Beacon;
use super::checkpoint::Seen;
use super::degradations::{self, Degradations, Part};
use super::events::Events;
use super::journal_thread::Recorder;
use super::message::Message;
use super::notifiers::Notifiers;
use super::sources::check_result::CheckMemory;
use super::sources::checks::Checks;
use super::sources::coalesce::Coalescer;
use super::sources::inbox::{DropIn, Inbox};
use super::sources::pane_tracker::PaneTracker;
use super::sources::panes::Panes;
use super::sources::signals::Signals;
use super::tasks::Tasks;
use crate::base::error::{Context, Result};
use crate::base::failpoint::Failpoint;
use crate::daemons::keeper::Keeper;
use crate::firstmate::home::Fleet;
use crate::firstmate::markers::{Changes, PaneMarkers};
use crate::firstmate::queue_thread::Porter;
use crate::home::paths::names;
use crate::journal::record::{Draft, Wake};
use crate::journal::{ACKNOWLEDGED, Journal, Limits};
use crate::lock::Ownership;
use crate::ownership::context::HomeContext;
use crate::ownership::held_home::{Eviction, Holding};
use crate::settings::{Patterns, Settings};
use crate::system::requests::Cause;
use crate::system::sd_notify::ServiceNotifier;
use crate::system::{Facts, Real, World};

/// The longest time between two rounds: the bound on noticing a takeover.
const TICK: Duration = Duration::from_secs(1);
/// Checks that take no longer count as a part of the first look.
const QUICK_CHECKS: Duration = Duration::from_millis(150);
/// Takeovers are looked for at most so often during a burst of events.
const LEAST_BETWEEN_CHECKS: Duration = Duration::from_millis(50);
/// After so many wakes the markers are written down, so that a restart has little to replay.
const WAKES_PER_CHECKPOINT: usize = 1000;
/// Markers that changed are written down after so long even if few did, and room is made in the journal.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);
/// So many files are read before the recorder gets them.
const PORTION: usize = 256;
/// Wakes that no source would show again and that cannot be written are kept up to this number.
const KEPT_AT_MOST: usize = 1000;

/// How the loop ended.
#[derive(Debug)]
pub enum End {
    /// Somebody asked for it, for this cause.
    Asked(Cause),
    /// Somebody else has the home.
    Evicted(Eviction),
    /// `run --once`: these wakes came.
    Woken(Vec<Wake>),
    /// As the watcher script: a wake cannot be told to whoever reads the files, for this reason.
    Failed(String),
}

/// Whether a wake ends the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// It stays whatever comes.
    Resident,
    /// It ends with the first wake.
    Once,
    /// As the watcher script of a firstmate home: it ends with the first wake, or with the first that cannot be written.
    /// Whoever started it hears of it then, and no marker has moved.
    Script,
}

impl Span {
    /// Whether a wake ends the loop.
    pub fn ends_with_a_wake(self) -> bool {
        match self {
            Self::Resident => false,
            Self::Once | Self::Script => true,
        }
    }
}

/// The watcher at work.
pub struct Cycle<'a> {
    session: &'a HomeContext,
    /// None unless this is a firstmate home.
    fleet: Option<&'a Fleet>,
    span: Span,
    holding: Arc<Holding<Real>>,
    state: File,
    settings: Settings,
    patterns: Patterns,
    messages: Receiver<Message>,
    sender: Sender<Message>,
    // Dropping it ends the events.
    events: Option<Events>,
    recorder: Recorder,
    beacon: Beacon,
    notifiers: Notifiers,
    /// None as long as there was nothing to keep.
    keeper: Option<Keeper>,
    /// None unless this is a firstmate home.
    porter: Option<Porter>,
    pane_markers: PaneMarkers,
    tasks: Tasks,
    signals: Signals,
    coalescer: Coalescer,
    checks: Checks<Message>,
    panes: Panes<Message>,
    tracker: PaneTracker,
    seen: Seen,
    /// Signal files whose wakes are being written.
    in_flight: BTreeSet<String>,
    /// Windows whose wakes are being written.
    windows_in_flight: BTreeSet<String>,
    inbox: Inbox,
    /// Something happened in the inbox since it was read last.
    is_inbox_touched: bool,
    /// Drop-in files whose wakes are being written.
    drop_ins: BTreeMap<OsString, DropIn>,
    /// What moves with each request that the recorder has not answered.
    carried: VecDeque<Carried>,
    is_heartbeat_in_flight: bool,
    kept: Vec<(Draft, Carried)>,
    /// `--once`: the wakes that came.
    woken: Vec<Wake>,
    degradations: Degradations,
    /// What the service manager hears, if one started this process.
    voice: ServiceNotifier,
    proof: EventProof,
    /// What is to happen once everything was looked at and nothing was found.
    on_first_look: Option<FirstLook<'a>>,
    quick_checks_until: Duration,
    beats: u64,
    next_poll: Duration,
    next_check: Duration,
    unsaved: usize,
    acknowledgement: Option<Facts>,
    next_checkpoint: Duration,
}

/// What moves when the wakes of a request are durable, besides the marks in the wakes themselves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Carried {
    /// Drop-in files that have done their work then.
    drop_ins: Vec<OsString>,
    /// What to remember of a check then.
    check: Option<(String, CheckMemory)>,
    /// An announcement of the keeper of daemons, which counts then.
    daemon: Option<u64>,
    /// Markers of the scripts that say more than these wakes.
    markers: Changes,
}

/// Whether file events are known to arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EventProof {
    Awaited,
    Seen,
}

/// What a cycle begins with.
pub struct Beginning<'a> {
    /// The home.
    pub session: &'a HomeContext,
    /// What makes it a firstmate home, if it is one.
    pub fleet: Option<&'a Fleet>,
    /// Whether a wake ends it.
    pub span: Span,
    /// The held home.
    pub holding: Arc<Holding<Real>>,
    /// The compiled patterns of the settings.
    pub patterns: Patterns,
    /// The loop's ear, and what speaks to it.
    pub channel: (Sender<Message>, Receiver<Message>),
    /// File events, or why there are none.
    pub events: Result<Events, String>,
    /// What is to happen once everything was looked at and no wake is under way that would end a `--once` life at once.
    pub on_first_look: Option<FirstLook<'a>>,
}

/// What is to happen after the first look.
pub type FirstLook<'a> = Box<dyn FnOnce() + 'a>;

impl<'a> Cycle<'a> {
    /// Gets everything ready. Takes as long as reading the markers takes; the first beat was published before.
    ///
    /// # Errors
    /// The state directory or the journal cannot be opened, or there is no thread left.
    pub fn begin(beginning: Beginning<'a>) -> Result<Self> {
        let Beginning { session, fleet, span, holding, patterns, channel: (sender, messages), events, on_first_look } =
            beginning;
        let world = &session.world;
        let settings = session.settings().clone();
        let state = world.open_directory(session.home.state()).doing("open", session.home.state())?;
        sweep_leftovers(session, &holding);
        set_abandoned_aside(session);
        let mut degradations = Degradations::default();
        let Recalled { seen, untold: woken, pending } = recall(session, span, &holding, &mut degradations)?;
        let path = session.home.ours(names::WAKES);
        let directory = world.open_directory(&path).doing("open", &path)?;
        let limits = Limits::of_journal(settings.journal_max);
        let journal = Journal::open(Arc::clone(world), directory, path, limits);
        let report = reporter(&sender, Message::Recorder);
        let recorder = Recorder::start(Arc::clone(world), Arc::clone(&holding), journal, report)
            .doing("start a thread for", session.home.state())?;
        let beacon = Beacon::start(Arc::clone(&holding), reporter(&sender, Message::Beacon))
            .doing("start a thread for", session.home.state())?;
        degradations.set(Part::Events, events.as_ref().map(|_| ()).map_err(Clone::clone));
        let now = world.now().monotonic;
        let mut cycle = Self {
            keeper: None,
            porter: None,
            pane_markers: PaneMarkers::default(),
            notifiers: notifiers(session, &settings, &sender)?,
            coalescer: Coalescer::new(settings.signal_grace),
            checks: Checks::new(check_rules(session, &settings), sender.clone()),
            panes: Panes::new(pane_rules(session, &settings), sender.clone()),
            tracker: tracker(&settings, &patterns, span),
            tasks: Tasks::default(),
            signals: Signals::default(),
            events: events.ok(),
            in_flight: BTreeSet::new(),
            windows_in_flight: BTreeSet::new(),
            inbox: Inbox::default(),
            is_inbox_touched: false,
            drop_ins: BTreeMap::new(),
            carried: VecDeque::new(),
            is_heartbeat_in_flight: false,
            kept: Vec::new(),
            woken,
            voice: ServiceNotifier::of(&session.environment, world.own_pid()),
            proof: EventProof::Awaited,
            on_first_look,
            quick_checks_until: now + QUICK_CHECKS,
            beats: 0,
            next_poll: now,
            next_check: now,
            unsaved: 0,
            acknowledgement: None,
            next_checkpoint: now + CHECKPOINT_EVERY,
            session,
            fleet,
            span,
            holding,
            state,
            settings,
            patterns,
            messages,
            sender,
            recorder,
            beacon,
            degradations,
            seen,
        };
        cycle.keep_daemons();
        cycle.join_fleet(&pending);
        Ok(cycle)
    }

    /// Goes round until something ends it.
    pub fn run(mut self) -> End {
        let end = self.end_of_once().unwrap_or_else(|| {
            loop {
                if let Some(end) = self.round() {
                    break end;
                }
            }
        });
        self.voice.stops();
        if let Some(keeper) = &self.keeper {
            keeper.leave();
        }
        self.notifiers.cancel();
        self.checks.stop();
        self.notifiers.stop();
        if !matches!(end, End::Evicted(_)) {
            self.checkpoint();
        }
        self.recorder.finish();
        let is_protected = self.session.world.is_protected(Failpoint::FirstmateRowBeforeLine);
        let written = self.porter.map_or(Ok(()), Porter::finish);
        self.beacon.finish();
        match (end, written) {
            // They are in the journal, so the next one tells them, and has another try at their rows.
            (End::Woken(_), Err(why)) if self.span == Span::Script && is_protected => End::Failed(why),
            (end, _) => end,
        }
    }

    fn round(&mut self) -> Option<End> {
        let now = self.now();
        if now >= self.next_check {
            self.next_check = now + LEAST_BETWEEN_CHECKS;
            match self.holding.check() {
                Ok(Ownership::Held) => {}
                Ok(Ownership::Lost(eviction)) => return Some(End::Evicted(eviction)),
                Err(error) => tracing::debug!("cannot look whether the home is still held: {error}"),
            }
            if let Err(error) = self.holding.publish_beat() {
                tracing::warn!("cannot publish a beat beside the lock: {error}");
            }
        }
        if now >= self.next_poll {
            self.next_poll = now + self.settings.poll;
            self.poll();
        }
        if std::mem::take(&mut self.is_inbox_touched) {
            self.read_inbox();
        }
        if let Some(files) = self.coalescer.take_if_due(self.now()) {
            self.announce(&files);
        }
        if let Err(error) = self.session.world.reach(Failpoint::CycleRound) {
            tracing::debug!("not paused: {error}");
        }
        self.tell_of_first_look();
        self.voice.came_round(self.now());
        let wait = self.wait();
        // This cycle itself holds a sender, so the channel cannot close: an error is the end of the wait.
        let mut message = self.messages.recv_timeout(wait).ok();
        // What has gathered is handled in one go, but never so much that the round takes long.
        let enough = self.now() + TICK / 10;
        for _ in 0..1000 {
            let Some(happened) = message.take() else { break };
            if let Some(end) = self.handle(happened) {
                return Some(end);
            }
            if self.now() >= enough {
                break;
            }
            message = self.messages.try_recv().ok();
        }
        message.and_then(|happened| self.handle(happened))
    }

    /// A wake that is being written is waited for, and so are quick checks. One that waits for slow checks, or lingers, is
    /// not: the caller would hear nothing meanwhile.
    fn tell_of_first_look(&mut self) {
        let is_recording = !self.carried.is_empty();
        let is_under_way = match (self.checks.is_sweeping(), self.woken.is_empty()) {
            (true, _) => is_recording || self.now() < self.quick_checks_until,
            (false, is_asleep) => is_recording || !is_asleep,
        };
        if self.beats > 0
            && !is_under_way
            && let Some(tell) = self.on_first_look.take()
        {
            tell();
        }
    }

    fn now(&self) -> Duration {
        self.session.world.now().monotonic
    }

    fn wait(&self) -> Duration {
        let first_look = self.on_first_look.as_ref().map(|_| self.quick_checks_until);
        let first_look = first_look.filter(|until| *until > self.now());
        let deadlines = [Some(self.next_poll), self.coalescer.due_at(), self.voice.due_at(), first_look];
        let next = deadlines.into_iter().flatten().min().unwrap_or(self.next_poll);
        if self.is_inbox_touched { Duration::ZERO } else { next.saturating_sub(self.now()).min(TICK) }
    }

    fn handle(&mut self, message: Message) -> Option<End> {
        match message {
            Message::Event(event) => self.event(event),
            Message::Check(result) => return self.check_ended(&result),
            Message::Panes(capture) => self.panes_read(&capture),
            Message::Recorder(report) => return self.recorder_reports(report),
            Message::Beacon(state) => self.degrade(Part::Beacon, state),
            Message::Notified(state) => self.degrade(Part::Notify, state),
            Message::Daemon(report) => self.keeper_reports(report),
            Message::Porter(report) => return self.porter_reports(report),
            Message::Request(request) => return self.answer(request),
        }
        None
    }

    fn degrade(&mut self, part: Part, state: Result<(), String>) {
        if self.degradations.set(part, state) == degradations::Change::Changed && part != Part::Beacon {
            self.write_beat();
        }
    }

    fn write_beat(&mut self) {
        self.beats += 1;
        let beat = self.holding.new_beat(self.beats, self.settings.poll, self.degradations.in_words());
        self.beacon.write(beat);
    }

    /// Looks at everything.
    fn poll(&mut self) {
        self.write_beat();
        self.prove_events();
        let listed = self.session.world.names(&self.state);
        let state = listed
            .as_ref()
            .map(|_| ())
            .map_err(|error| format!("cannot list {}: {error}", self.session.home.state().display()));
        self.degrade(Part::Scan, state);
        if let Ok(listed) = listed {
            self.tasks.refresh(self.session.world.as_ref(), &self.state, &listed);
            match self.span {
                Span::Script => self.look_in_order(&listed),
                Span::Once | Span::Resident => {
                    self.scan_signals(&listed);
                    self.sweep_checks(&listed);
                }
            }
        }
        self.read_inbox();
        self.visit_queue(Changes::new());
        if self.span != Span::Script {
            self.beat_heart();
            self.read_panes();
        }
        self.retry_kept();
        self.prune_waiters();
        if self.now() >= self.next_checkpoint || self.has_new_acknowledgement() {
            self.checkpoint();
            set_abandoned_aside(self.session);
        }
    }

    /// Taking the home changed files that were watched already. If none of that is heard of by the second poll, this
    /// file system tells nothing, although it let itself be asked.
    fn prove_events(&mut self) {
        if self.proof == EventProof::Awaited && self.events.is_some() && self.beats > 1 {
            let state = self.session.home.state().display();
            let poll = humantime::format_duration(self.settings.poll);
            let why = format!("no file events arrive for {state}; changes are found by polling every {poll}");
            self.degrade(Part::Events, Err(why));
        }
    }

    /// Whether wakes were acknowledged since the last look: then there may be room to make in the journal.
    fn has_new_acknowledgement(&mut self) -> bool {
        let path = self.session.home.ours(names::WAKES).join(ACKNOWLEDGED);
        let now = self.session.world.facts_of_path(&path).ok();
        std::mem::replace(&mut self.acknowledgement, now) != now
    }
}
