//! What a source of wakes is to the event loop, and what the loop gives it to work with.
//!
//! # Theory
//!
//! A [`Source`] owns the state of one cause of wakes: what it has found, what is being written, its threads. The loop
//! calls it: at each poll, when a file event concerns it, when its deadline has passed, when one of its threads reports,
//! and when wakes are durable. It answers by what it does to the [`LoopContext`]: it records wakes, says how its part fares,
//! and moves its markers in the checkpoint. Sources do not know each other. What one has and another needs stands in the
//! context (the tasks, the pane tracker), or is said as a [`Note`], which the loop passes on.
//!
//! Markers move when wakes are durable ([`Source::recorded`], [`Source::announced`]), not when they are handed over: a
//! watcher that dies in between announces again.
//!
//! # Limits
//!
//! Every method runs on the loop's thread, so none may wait: what could take long runs in a thread of the source's own
//! and reports through a [`mailbox`].

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::checkpoint::Seen;
use super::degradations::{Change, Condition, Degradations, Part};
use super::events::{Event, Tag};
use super::journal_thread::{self, BeatWriter, JournalThread, Request};
use super::notifiers::Notifiers;
use super::sources::pane_tracker::{PaneCapture, PaneTracker};
use super::tasks::Tasks;
use crate::base::error::{Context, Result};
use crate::base::failpoint::Failpoint;
use crate::journal::record::{Delivery, Draft, Mark, Wake};
use crate::ownership::context::{HomeContext, Surroundings};
use crate::ownership::held_home::Holding;
use crate::ownership::wakeup_fifo;
use crate::settings::{Patterns, Settings};
use crate::system::requests;
use crate::system::{Real, World};

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

/// One thing that happened to the loop: it waits on a single channel.
#[derive(Debug)]
pub enum Message {
    /// A file changed.
    Event(Event),
    /// A thread of the source of this name has put a report into its mailbox.
    Source(&'static str),
    /// The journal thread is done with a request.
    Journal(journal_thread::Report),
    /// How writing `beat.json` went.
    Beacon(Condition),
    /// How telling a program of `[[notify]]` went.
    Notified(Condition),
    /// Somebody asks for something.
    Request(requests::Request),
}

impl From<Event> for Message {
    fn from(event: Event) -> Self {
        Self::Event(event)
    }
}

/// How a thread reports to its source. Without a listener the loop has ended, and nobody is to be told.
pub type Reporter<T> = Arc<dyn Fn(T) + Send + Sync>;

/// A way for the threads of the source of this name to report to it: the loop is woken once for each report.
pub fn mailbox<T: Send + 'static>(name: &'static str, messages: &Sender<Message>) -> (Reporter<T>, Receiver<T>) {
    let (sender, reports) = channel();
    let messages = messages.clone();
    let reporter = move |report| {
        if sender.send(report).is_ok() {
            let _unheard = messages.send(Message::Source(name));
        }
    };
    (Arc::new(reporter), reports)
}

/// Whether a source has looked at all that there was to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// A report of one of its threads will say.
    Awaited,
    /// It has.
    Over,
}

/// What may be done with a wake that could not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unrecorded {
    /// Its cause is still where it was and will be seen again.
    FoundAgain,
    /// No source would show it again: the loop keeps it and tries again.
    Keep,
}

/// What one source says to the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A sweep of the checks is over.
    ChecksSwept,
    /// The panes were read. The others hear of it before the panes' own source goes on.
    PanesRead(PaneCapture),
}

/// A cause of wakes.
pub trait Source {
    /// Its name, by which its reports and its wakes come back to it.
    fn name(&self) -> &'static str;

    /// Gets ready. `pending` are the marks of the wakes that nobody has acknowledged.
    fn begin(&mut self, _context: &mut LoopContext<'_>, _pending: &[Mark]) {}

    /// Looks at everything. `listed` are the names in the state directory, unless it cannot be listed.
    fn poll(&mut self, context: &mut LoopContext<'_>, listed: Option<&[OsString]>) -> Progress;

    /// Whether an event about this name is for this source. It is for the first that says so.
    fn is_concerned_by(&self, _directory: Tag, _name: &OsStr) -> bool {
        false
    }

    /// Something happened to a name that concerns it.
    fn event(&mut self, _context: &mut LoopContext<'_>, _name: &OsStr) {}

    /// When [`Source::due`] is to be called, by the monotonic clock.
    fn deadline(&self) -> Option<Duration> {
        None
    }

    /// The deadline has passed.
    fn due(&mut self, _context: &mut LoopContext<'_>) {}

    /// Takes one report out of its mailbox.
    fn report(&mut self, _context: &mut LoopContext<'_>) -> Progress {
        Progress::Over
    }

    /// Whether results are awaited without which a life that ends with a wake does not end.
    fn is_sweeping(&self) -> bool {
        false
    }

    /// The wakes that it recorded with this ticket are durable. Waiters were not told yet.
    fn recorded(&mut self, _context: &mut LoopContext<'_>, _ticket: u64) {}

    /// These wakes, of whatever source, are durable, the checkpoint knows of them, and waiters were told.
    fn announced(&mut self, _context: &mut LoopContext<'_>, _wakes: &[Wake]) {}

    /// A wake that it recorded with this ticket could not be written.
    fn not_recorded(&mut self, _ticket: u64, _draft: &Draft) -> Unrecorded {
        Unrecorded::FoundAgain
    }

    /// Another source said this.
    fn heard(&mut self, _context: &mut LoopContext<'_>, _note: &Note) {}

    /// The settings in the context are new.
    fn reload(&mut self, _context: &mut LoopContext<'_>) {}

    /// A moment for tidying up, at each checkpoint of a poll.
    fn tidy(&mut self, _context: &mut LoopContext<'_>) {}

    /// The loop has ended: ends what runs. What it has recorded is still being written.
    fn stop(&mut self) {}

    /// Everything is written that can be. Says whether wakes are missing where their readers look for them.
    fn finish(&mut self, _context: &LoopContext<'_>) -> Condition {
        Condition::Works
    }
}

/// Wakes that the journal thread has not answered for yet, and what is to happen when they are durable.
#[derive(Debug, Clone)]
pub(crate) struct Outstanding {
    /// Whose they are.
    pub(crate) source: &'static str,
    /// What that source knows them by.
    pub(crate) ticket: u64,
    /// How many.
    pub(crate) wakes: usize,
    /// What is to be said then.
    pub(crate) notes: Vec<Note>,
}

/// What the loop and its sources work with.
pub struct LoopContext<'a> {
    /// The home.
    pub session: &'a HomeContext,
    /// Whether a wake ends the loop.
    pub span: Span,
    /// The held home.
    pub holding: Arc<Holding<Real>>,
    /// The state directory.
    pub state: File,
    /// The settings as they were read last.
    pub settings: Settings,
    /// Their patterns.
    pub patterns: Patterns,
    /// What has been announced.
    pub seen: Seen,
    /// How many changes the checkpoint on disk does not have.
    pub unsaved: usize,
    /// The tasks in flight.
    pub tasks: Tasks,
    /// Which panes stand still.
    pub tracker: PaneTracker,
    /// The programs that are told of wakes.
    pub notifiers: Notifiers,
    /// In a life that ends with a wake: the wakes that came.
    pub woken: Vec<Wake>,
    pub(crate) degradations: Degradations,
    pub(crate) beats: u64,
    pub(crate) beat_writer: BeatWriter,
    pub(crate) journal: JournalThread,
    pub(crate) outstanding: VecDeque<Outstanding>,
    pub(crate) notes: Vec<Note>,
}

impl LoopContext<'_> {
    /// The time of the monotonic clock.
    pub fn now(&self) -> Duration {
        self.session.world.now().monotonic
    }

    /// How much of what a wake is about goes with it, in bytes.
    pub fn context_cap(&self) -> usize {
        usize::try_from(self.settings.context_max).unwrap_or(usize::MAX)
    }

    /// Hands wakes of a source over to the journal thread. They come back to it with the ticket.
    pub fn record(&mut self, source: &'static str, ticket: u64, drafts: Vec<Draft>) {
        self.record_again(Outstanding { source, ticket, wakes: drafts.len(), notes: Vec::new() }, drafts);
    }

    pub(crate) fn record_again(&mut self, request: Outstanding, mut drafts: Vec<Draft>) {
        if drafts.is_empty() {
            return;
        }
        self.outstanding.push_back(request);
        for draft in &mut drafts {
            draft.delivery = self.patterns.delivery(&draft.kind, &draft.key, &draft.text);
        }
        self.journal.ask(Request::Record(drafts));
    }

    /// Whether wakes are being written.
    pub fn is_recording(&self) -> bool {
        !self.outstanding.is_empty()
    }

    /// Says something to the other sources.
    pub fn say(&mut self, note: Note) {
        self.notes.push(note);
    }

    /// Says something to the other sources when everything that was handed over until now is durable.
    pub fn say_when_recorded(&mut self, note: Note) {
        let is_protected = self.session.world.is_protected(Failpoint::FirstmateSweepAfterRecord);
        match self.outstanding.back_mut() {
            Some(last) if is_protected => last.notes.push(note),
            _ => self.say(note),
        }
    }

    /// Wakes up the waiters.
    pub fn ring(&self) {
        wakeup_fifo::ring_all(self.holding.watch_path());
    }

    /// Keeps what these wakes mean for a life that ends with one.
    pub fn woken_by(&mut self, wakes: Vec<Wake>) {
        let is_due = wakes.iter().any(|wake| wake.delivery == Delivery::Now);
        if self.span.ends_with_a_wake() && (is_due || !self.woken.is_empty()) {
            self.woken.extend(wakes.into_iter().filter(|wake| wake.delivery != Delivery::Never));
        }
    }

    /// Says how a part fares. Observers hear of a change soon.
    pub fn degrade(&mut self, part: Part, condition: Condition) {
        if self.degradations.set(part, condition) == Change::Changed && part != Part::Beacon {
            self.write_beat();
        }
    }

    pub(crate) fn write_beat(&mut self) {
        self.beats += 1;
        let beat = self.holding.new_beat(self.beats, self.settings.poll, self.degradations.in_words());
        self.beat_writer.write(beat);
    }

    /// Where programs of the home run.
    pub fn working_directory(&self) -> PathBuf {
        match &self.session.surroundings {
            Surroundings::Home => self.session.home.root().to_owned(),
            Surroundings::Caller(here) => here.clone(),
        }
    }

    /// What programs of the home see of the environment.
    pub fn child_environment(&self) -> Vec<(String, OsString)> {
        child_environment(self.session, &self.settings)
    }
}

/// What programs of a home see of the environment.
pub(crate) fn child_environment(session: &HomeContext, settings: &Settings) -> Vec<(String, OsString)> {
    if let Surroundings::Caller(_) = session.surroundings {
        // Not even this home by name: a check may call a script of another home, which finds its home by itself.
        return session.environment.for_child_of_caller();
    }
    let mut environment = session.environment.for_child(&settings.pass);
    environment.push(("FM_HOME".to_owned(), session.home.root().into()));
    environment.push(("FM_STATE_OVERRIDE".to_owned(), session.home.state().into()));
    environment
}

/// Starts the threads for the programs that are told of wakes.
pub(crate) fn start_notifiers(
    session: &HomeContext,
    settings: &Settings,
    messages: &Sender<Message>,
) -> Result<Notifiers> {
    let messages = messages.clone();
    let report = move |condition| {
        // Without a listener the loop has ended, and nobody needs to know any more.
        let _unheard = messages.send(Message::Notified(condition));
    };
    Notifiers::start(settings, &session.home, &child_environment(session, settings), report)
        .doing("start a thread for", session.home.state())
}
