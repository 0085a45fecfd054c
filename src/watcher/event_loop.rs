//! The event loop.
//!
//! # Theory
//!
//! One thread owns everything that decides and waits on one channel. File events only say where to look sooner; every
//! `poll` all [sources](super::sources) look at everything again, and that is the truth. Whatever could take long (checks,
//! tmux, the disk, other programs) runs in a thread of its own and reports over the channel. So the loop comes round at
//! least once per `TICK`, and the beat that it publishes then is an honest sign of health.
//!
//! At each round, and before each side effect, it asks whether it still holds the home. If not, it stops at
//! once and leaves the survivor's files alone.
//!
//! What a source finds goes to the journal thread; the markers in memory move when that says that the wakes are
//! durable. A watcher that dies in between announces again.
//!
//! # The order of the watcher script
//!
//! The watcher script of a firstmate home looks at its sources in an order. A wake ends such a life, so the order
//! decides which wake it is, and whether a source is ever looked at: checks come before signals, or chatty signals
//! would keep slow checks from ever running; then panes; and the heartbeat only when nothing else happened. These
//! sources take turns: each is looked at when the one before has found nothing. What comes later is left for the next
//! life, unmarked. A watcher that stays looks at all of them at once and needs no order.
//!
//! Limits: in that order a slow check holds up everything after it, as it does there.

mod startup;

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use super::degradations::{Condition, Part};
use super::events::{Event, Events};
use super::journal_thread::{self, Report};
use super::source::{LoopContext, Message, Outstanding, Progress, Source, Span, Unrecorded, start_notifiers};
use crate::base::error::Result;
use crate::base::escape;
use crate::base::failpoint::Failpoint;
use crate::journal::ACKNOWLEDGED;
use crate::journal::record::{Draft, Wake};
use crate::layout::paths::names;
use crate::lock::Ownership;
use crate::ownership::context::HomeContext;
use crate::ownership::held_home::{Eviction, Holding};
use crate::ownership::waiters;
use crate::settings::{Loaded, Patterns};
use crate::system::requests::{Cause, Request};
use crate::system::sd_notify::ServiceNotifier;
use crate::system::{Facts, Real, World};

/// The longest time between two rounds: the bound on noticing a takeover.
const TICK: Duration = Duration::from_secs(1);
/// Checks that take no longer count as a part of the first look.
const QUICK_CHECKS: Duration = Duration::from_millis(150);
/// Takeovers are looked for at most so often during a burst of events.
const LEAST_BETWEEN_CHECKS: Duration = Duration::from_millis(50);
/// Markers that changed are written down after so long even if few did, and room is made in the journal.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);
/// After so many wakes the markers are written down, so that a restart has little to replay.
const WAKES_PER_CHECKPOINT: usize = 1000;
/// Wakes that no source would show again and that cannot be written are kept up to this number.
const KEPT_AT_MOST: usize = 1000;
/// So many messages at most are handled in one round.
const MESSAGES_PER_ROUND: usize = 1000;

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

/// The watcher at work.
pub struct EventLoop<'a> {
    context: LoopContext<'a>,
    sources: Vec<Box<dyn Source>>,
    /// So many of the first sources are looked at in turn: see "The order of the watcher script" above.
    in_turn: usize,
    messages: Receiver<Message>,
    sender: Sender<Message>,
    // Dropping it ends the events.
    events: Option<Events>,
    proof: EventProof,
    /// What the service manager hears, if one started this process.
    voice: ServiceNotifier,
    /// What is to happen once everything was looked at and nothing was found.
    on_first_poll: Option<OnFirstPoll<'a>>,
    quick_checks_until: Duration,
    next_poll: Duration,
    next_check: Duration,
    next_checkpoint: Duration,
    /// Wakes that no source would show again and that cannot be written.
    kept: Vec<(Outstanding, Draft)>,
    acknowledgement: Option<Facts>,
}

/// Whether file events are known to arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EventProof {
    Awaited,
    Seen,
}

/// What the loop starts with.
pub struct Start<'a> {
    /// The home.
    pub session: &'a HomeContext,
    /// Whether a wake ends it.
    pub span: Span,
    /// The held home.
    pub holding: Arc<Holding<Real>>,
    /// The compiled patterns of the settings.
    pub patterns: Patterns,
    /// What the loop waits on, and what speaks to it.
    pub channel: (Sender<Message>, Receiver<Message>),
    /// File events, or why there are none.
    pub events: Result<Events, super::events::Degraded>,
    /// Sources that only this kind of home has.
    pub more_sources: Vec<Box<dyn Source>>,
    /// What is to happen once everything was looked at and no wake is under way that would end a `--once` life at once.
    pub on_first_poll: Option<OnFirstPoll<'a>>,
}

/// What is to happen after the first poll.
pub type OnFirstPoll<'a> = Box<dyn FnOnce() + 'a>;

impl EventLoop<'_> {
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
        self.context.notifiers.cancel();
        self.sources.iter_mut().for_each(|source| source.stop());
        self.context.notifiers.stop();
        if !matches!(end, End::Evicted(_)) {
            self.checkpoint();
        }
        self.context.journal.finish();
        let mut end = end;
        for source in &mut self.sources {
            if let (Condition::Impaired(why), End::Woken(_), Span::Script) =
                (source.finish(&self.context), &end, self.context.span)
            {
                // They are in the journal, so the next one tells them, and has another try.
                end = End::Failed(why);
            }
        }
        self.context.beat_writer.finish();
        end
    }

    fn round(&mut self) -> Option<End> {
        let now = self.now();
        if let Some(eviction) = self.check_ownership(now) {
            return Some(End::Evicted(eviction));
        }
        if now >= self.next_poll {
            self.next_poll = now + self.context.settings.poll;
            self.poll();
        }
        self.call_due_sources();
        if let Err(error) = self.context.session.world.reach(Failpoint::CycleRound) {
            tracing::debug!("not paused: {error}");
        }
        self.tell_of_first_poll();
        self.voice.came_round(self.now());
        // This loop itself holds a sender, so the channel cannot close: an error is the end of the wait.
        let mut message = self.messages.recv_timeout(self.wait()).ok();
        // What has gathered is handled in one go, but never so much that the round takes long.
        let enough = self.now() + TICK / 10;
        for _ in 0..MESSAGES_PER_ROUND {
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

    /// Asks whether the home is still held, and shows those who look at the lock that the loop comes round.
    fn check_ownership(&mut self, now: Duration) -> Option<Eviction> {
        if now < self.next_check {
            return None;
        }
        self.next_check = now + LEAST_BETWEEN_CHECKS;
        let holding = &self.context.holding;
        match holding.check() {
            Ok(Ownership::Held) => {}
            Ok(Ownership::Lost(eviction)) => return Some(eviction),
            Err(error) => tracing::debug!("cannot look whether the home is still held: {error}"),
        }
        if let Err(error) = holding.publish_beat() {
            tracing::warn!("cannot publish a beat beside the lock: {error}");
        }
        None
    }

    /// The earliest deadline first.
    fn call_due_sources(&mut self) {
        let deadlines = self.sources.iter().enumerate().filter_map(|(index, source)| Some((source.deadline()?, index)));
        let mut due: Vec<(Duration, usize)> = deadlines.collect();
        due.sort_unstable();
        for (deadline, index) in due {
            if deadline <= self.now() {
                self.sources[index].due(&mut self.context);
            }
        }
    }

    /// A wake that is being written is waited for, and so are quick checks. One that waits for slow checks, or lingers, is
    /// not: the caller would hear nothing meanwhile.
    fn tell_of_first_poll(&mut self) {
        let is_recording = self.context.is_recording();
        let is_under_way = match (self.is_sweeping(), self.context.woken.is_empty()) {
            (true, _) => is_recording || self.now() < self.quick_checks_until,
            (false, is_asleep) => is_recording || !is_asleep,
        };
        if self.context.beats > 0
            && !is_under_way
            && let Some(tell) = self.on_first_poll.take()
        {
            tell();
        }
    }

    fn now(&self) -> Duration {
        self.context.now()
    }

    fn is_sweeping(&self) -> bool {
        self.sources.iter().any(|source| source.is_sweeping())
    }

    fn wait(&self) -> Duration {
        let now = self.now();
        let first_poll = self.on_first_poll.as_ref().map(|_| self.quick_checks_until).filter(|until| *until > now);
        let of_sources = self.sources.iter().filter_map(|source| source.deadline());
        let others = [self.voice.due_at(), first_poll].into_iter().flatten();
        let next = of_sources.chain(others).fold(self.next_poll, Duration::min);
        next.saturating_sub(now).min(TICK)
    }

    fn handle(&mut self, message: Message) -> Option<End> {
        match message {
            Message::Event(event) => self.event(event),
            Message::Source(name) => {
                self.source_reports(name);
                return self.end_of_once();
            }
            Message::Journal(report) => return self.journal_reports(report),
            Message::Beacon(condition) => self.context.degrade(Part::Beacon, condition),
            Message::Notified(condition) => self.context.degrade(Part::Notify, condition),
            Message::Request(request) => return self.answer(request),
        }
        None
    }

    fn event(&mut self, event: Event) {
        self.proof = EventProof::Seen;
        match event {
            Event::Touched { directory, name } => {
                match self.sources.iter().position(|source| source.is_concerned_by(directory, &name)) {
                    Some(index) if self.is_held_up(index) => {}
                    Some(index) => self.sources[index].event(&mut self.context, &name),
                    None => self.next_check = Duration::ZERO,
                }
            }
            Event::Overflow => self.next_poll = Duration::ZERO,
            Event::Lost(why) => {
                self.next_check = Duration::ZERO;
                self.context.degrade(Part::Events, Condition::Impaired(why));
            }
        }
    }

    fn source_reports(&mut self, name: &str) {
        let Some(index) = self.index_of(name) else { return };
        let progress = self.sources[index].report(&mut self.context);
        self.pass_on_notes(index);
        if progress == Progress::Over {
            self.take_next_turns(index);
        }
    }

    /// The others hear a note before the source that it comes from.
    fn pass_on_notes(&mut self, origin: usize) {
        for note in std::mem::take(&mut self.context.notes) {
            let others = (0..self.sources.len()).filter(|&index| index != origin);
            for index in others.chain([origin]) {
                self.sources[index].heard(&mut self.context, &note);
            }
        }
    }

    /// Looks at everything.
    fn poll(&mut self) {
        self.context.write_beat();
        self.prove_events();
        let listed = self.list();
        if let Some(listed) = &listed {
            let LoopContext { session, state, tasks, .. } = &mut self.context;
            tasks.refresh(session.world.as_ref(), state, listed);
            self.take_turns(0, listed);
        }
        for index in self.in_turn..self.sources.len() {
            self.poll_source(index, listed.as_deref());
        }
        self.retry_kept();
        self.prune_waiters();
        if self.now() >= self.next_checkpoint || self.has_new_acknowledgement() {
            self.checkpoint();
            self.sources.iter_mut().for_each(|source| source.tidy(&mut self.context));
        }
    }

    fn poll_source(&mut self, index: usize, listed: Option<&[OsString]>) -> Progress {
        let progress = self.sources[index].poll(&mut self.context, listed);
        self.pass_on_notes(index);
        progress
    }

    fn list(&mut self) -> Option<Vec<OsString>> {
        let (world, state) = (&self.context.session.world, self.context.session.home.state().display());
        let listed = world.names(&self.context.state);
        let condition = Condition::of(listed.as_ref().map_err(|error| format!("cannot list {state}: {error}")));
        self.context.degrade(Part::Scan, condition);
        listed.ok()
    }

    /// Taking the home changed files that were watched already. If none of that is heard of by the second poll, this
    /// file system tells nothing, although it let itself be asked.
    fn prove_events(&mut self) {
        if self.proof == EventProof::Awaited && self.events.is_some() && self.context.beats > 1 {
            let state = self.context.session.home.state().display();
            let poll = humantime::format_duration(self.context.settings.poll);
            let why = format!("no file events arrive for {state}; changes are found by polling every {poll}");
            self.context.degrade(Part::Events, Condition::Impaired(why));
        }
    }

    fn prune_waiters(&self) {
        let path = self.context.session.home.ours(names::WAITERS);
        let world = self.context.session.world.as_ref();
        if let Err(error) = world.open_directory(&path).and_then(|directory| waiters::prune(world, &directory)) {
            tracing::debug!("cannot clear {}: {error}", path.display());
        }
    }

    /// Whether wakes were acknowledged since the last look: then there may be room to make in the journal.
    fn has_new_acknowledgement(&mut self) -> bool {
        let path = self.context.session.home.ours(names::WAKES).join(ACKNOWLEDGED);
        let now = self.context.session.world.facts_of_path(&path).ok();
        std::mem::replace(&mut self.acknowledgement, now) != now
    }

    fn checkpoint(&mut self) {
        self.context.unsaved = 0;
        self.next_checkpoint = self.now() + CHECKPOINT_EVERY;
        self.context.journal.ask(journal_thread::Request::Checkpoint(Box::new(self.context.seen.clone())));
    }

    fn journal_reports(&mut self, report: Report) -> Option<End> {
        match report {
            Report::Recorded(wakes) => {
                if let Some(request) = self.context.outstanding.pop_front() {
                    self.settle(request);
                }
                return self.recorded(wakes);
            }
            Report::Failed { drafts, why } => return self.not_recorded(drafts, why),
            Report::Checkpointed => self.context.degrade(Part::Checkpoint, Condition::Works),
            Report::NotCheckpointed(why) => self.context.degrade(Part::Checkpoint, Condition::Impaired(why)),
            Report::Evicted(eviction) => return Some(End::Evicted(eviction)),
        }
        None
    }

    fn index_of(&self, name: &str) -> Option<usize> {
        self.sources.iter().position(|source| source.name() == name)
    }

    /// The wakes of this request are durable.
    fn settle(&mut self, request: Outstanding) {
        let Some(index) = self.index_of(request.source) else { return };
        self.sources[index].recorded(&mut self.context, request.ticket);
        self.context.notes.extend(request.notes);
        self.pass_on_notes(index);
    }

    fn recorded(&mut self, wakes: Vec<Wake>) -> Option<End> {
        let context = &mut self.context;
        context.ring();
        context.degrade(Part::Journal, Condition::Works);
        for wake in &wakes {
            tracing::info!(seq = wake.seq, "{}", escape::line(&wake.text));
            context.seen.announce(wake);
        }
        context.notifiers.tell(&wakes);
        self.sources.iter_mut().for_each(|source| source.announced(&mut self.context, &wakes));
        self.context.unsaved += wakes.len();
        if self.context.unsaved >= WAKES_PER_CHECKPOINT {
            self.checkpoint();
        }
        self.context.woken_by(wakes);
        self.end_of_once()
    }

    /// One wake ends a `--once` life, but not in the middle of a sweep: else chatty signals would keep slow checks
    /// from ever coming to their end.
    fn end_of_once(&mut self) -> Option<End> {
        let is_over = !self.context.woken.is_empty() && !self.is_sweeping() && !self.context.is_recording();
        is_over.then(|| End::Woken(std::mem::take(&mut self.context.woken)))
    }

    /// Most wakes are still where they were found, and will be found again. The rest is kept.
    fn not_recorded(&mut self, drafts: Vec<Draft>, why: String) -> Option<End> {
        let request = self.context.outstanding.pop_front()?;
        if self.context.span == Span::Script {
            // Nothing keeps what a check has said beyond this life, so the next one is to ask again.
            self.context.seen.last_check = None;
            return Some(End::Failed(why));
        }
        let source = self.index_of(request.source).map(|index| &mut self.sources[index]);
        if let Some(source) = source {
            keep(source.as_mut(), &request, drafts, &mut self.kept);
        }
        self.context.degrade(Part::Journal, Condition::Impaired(why));
        // A journal that is full may only need what is acknowledged to be removed.
        self.checkpoint();
        self.end_of_once()
    }

    fn retry_kept(&mut self) {
        for (request, draft) in std::mem::take(&mut self.kept) {
            self.context.record_again(request, vec![draft]);
        }
    }

    /// Requests to the watcher: leaving, reading the settings again, a summary for the log.
    fn answer(&mut self, request: Request) -> Option<End> {
        match request {
            Request::Reload => self.reload(),
            Request::Poke => self.log_summary(),
            // Children are reaped by the threads that started them.
            Request::ChildEnded => {}
            Request::Leave(cause) => return Some(End::Asked(cause)),
        }
        None
    }

    fn reload(&mut self) {
        let reloaded = self.context.session.reload().and_then(|loaded| Ok((loaded.compile()?, loaded)));
        match reloaded {
            Ok((patterns, loaded)) => {
                self.context.degrade(Part::Settings, Condition::Works);
                self.adopt(&loaded, patterns);
            }
            Err(error) => {
                let why = format!("settings not read again: {error}");
                self.context.degrade(Part::Settings, Condition::Impaired(why));
            }
        }
    }

    fn adopt(&mut self, loaded: &Loaded, patterns: Patterns) {
        let settings = loaded.settings.clone();
        if settings.notify != self.context.settings.notify {
            match start_notifiers(self.context.session, &settings, &self.sender) {
                Ok(notifiers) => self.context.notifiers = notifiers,
                Err(error) => tracing::error!("{error}"),
            }
        }
        (self.context.patterns, self.context.settings) = (patterns, settings);
        self.sources.iter_mut().for_each(|source| source.reload(&mut self.context));
        self.next_poll = Duration::ZERO;
        tracing::info!("settings read again");
    }

    fn log_summary(&self) {
        let context = &self.context;
        tracing::info!(
            tasks = context.tasks.count(),
            announced = context.seen.signals.len(),
            through_seq = context.seen.through_seq,
            being_written = context.outstanding.iter().map(|request| request.wakes).sum::<usize>(),
            kept = self.kept.len(),
            beats = context.beats,
            degraded = ?context.degradations.in_words(),
            "summary"
        );
    }
}

fn keep(source: &mut dyn Source, request: &Outstanding, drafts: Vec<Draft>, kept: &mut Vec<(Outstanding, Draft)>) {
    for draft in drafts {
        match source.not_recorded(request.ticket, &draft) {
            Unrecorded::FoundAgain => {}
            Unrecorded::Keep if kept.len() < KEPT_AT_MOST => kept.push((request.clone(), draft)),
            Unrecorded::Keep => {
                tracing::error!("dropped, because it can be neither written nor kept: {}", draft.text);
            }
        }
    }
}

impl EventLoop<'_> {
    /// Looks at the sources that take turns, from one of them on, as long as nothing happens and none is waited for.
    pub(super) fn take_turns(&mut self, first: usize, listed: &[OsString]) {
        for index in first..self.in_turn {
            let may_go_on = index == 0 || self.is_undisturbed();
            if !may_go_on || self.poll_source(index, Some(listed)) == Progress::Awaited {
                break;
            }
        }
    }

    /// A source has come to its end: looks at those after it, if it takes turns and has found nothing.
    pub(super) fn take_next_turns(&mut self, index: usize) {
        if index < self.in_turn && self.is_undisturbed() {
            // A directory that cannot be listed is listed again at the next poll, which says so.
            if let Ok(listed) = self.context.session.world.names(&self.context.state) {
                self.take_turns(index + 1, &listed);
            }
        }
    }

    /// Whether a source has to wait for the results of one before it: then it looks at everything when its turn comes.
    pub(super) fn is_held_up(&self, index: usize) -> bool {
        index < self.in_turn && self.sources[..index].iter().any(|source| source.is_sweeping())
    }

    /// Whether nothing has happened that may end this life.
    fn is_undisturbed(&self) -> bool {
        let lingers = self.sources[..self.in_turn].iter().any(|source| source.deadline().is_some());
        !self.context.is_recording() && self.context.woken.is_empty() && !lingers
    }
}
