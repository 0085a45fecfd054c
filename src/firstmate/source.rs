//! A firstmate home as a source of the watcher: it begins with the scripts' markers, tells the queue thread when there may
//! be something to do at the wake queue, and keeps the markers current as wakes become durable.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use super::home::{self, Fleet};
use super::markers::{self, Authority, Changes, PaneMarkers};
use super::queue::Queue;
use super::queue_sync::QueueSync;
use super::queue_thread::{Order, QueueThread, Report, Tools};
use crate::base::error::{Context, Result};
use crate::base::escape;
use crate::base::failpoint::Failpoint;
use crate::journal::record::{Mark, Wake};
use crate::layout::paths::names;
use crate::system::World;
use crate::watcher::degradations::{Condition, Part};
use crate::watcher::events::Tag;
use crate::watcher::source::{LoopContext, Message, Note, Progress, Reporter, Source, Span, mailbox};

const NAME: &str = "firstmate";

/// The source of what the scripts of a firstmate home put into their wake queue.
pub struct FirstmateSource {
    fleet: Arc<Fleet>,
    /// None if it could not be started.
    queue: Option<QueueThread>,
    panes: PaneMarkers,
    reporter: Reporter<Report>,
    reports: Receiver<Report>,
}

impl FirstmateSource {
    /// The source for the home of this fleet.
    pub fn new(fleet: Arc<Fleet>, messages: &Sender<Message>) -> Self {
        let (reporter, reports) = mailbox(NAME, messages);
        Self { fleet, queue: None, panes: PaneMarkers::default(), reporter, reports }
    }

    fn inherit(&mut self, context: &mut LoopContext<'_>, pending: &[Mark]) {
        let (session, world) = (context.session, context.session.world.as_ref());
        if let Err(error) = self.fleet.remember(world, context.holding.watch(), &session.home) {
            tracing::warn!("cannot write {}: {error}", session.home.ours(names::FLEET).display());
        }
        let authority = if context.span == Span::Script { Authority::Markers(pending) } else { Authority::Ours };
        let inherited = markers::inherit(world, &context.state, &mut context.seen, authority);
        let begun = markers::begin_heartbeat(world, &context.state);
        match inherited.and_then(|inherited| begun.map(|()| inherited)) {
            Ok((panes, news)) => {
                self.panes = panes;
                context.unsaved += news;
            }
            Err(error) => {
                tracing::warn!("the markers of {} are not read: {error}", session.home.state().display());
            }
        }
    }

    fn start_thread(&self, context: &LoopContext<'_>) -> Result<QueueThread> {
        let (world, home) = (&context.session.world, &context.session.home);
        let generation = context.holding.owner().generation;
        let tools = Tools {
            world: world.clone(),
            holding: context.holding.clone(),
            state: world.open_directory(home.state()).doing("open", home.state())?,
            queue: Queue::open(world, &self.fleet)?,
            sync: QueueSync::open(world, home, &context.settings, context.patterns.clone(), generation)?,
        };
        let report = Arc::clone(&self.reporter);
        QueueThread::start(tools, move |said| report(said)).doing("start a thread for", home.state())
    }

    /// There may be new rows or new wakes. These markers move when the wakes have their rows.
    fn visit(&self, changes: Changes) {
        self.tell(Order::Cross(changes));
    }

    fn tell(&self, order: Order) {
        if let Some(queue) = &self.queue {
            queue.tell(order);
        }
    }

    fn took(&self, context: &mut LoopContext<'_>, wakes: Vec<Wake>) {
        context.ring();
        for wake in &wakes {
            tracing::info!(seq = wake.seq, "from the wake queue: {}", escape::line(&wake.text));
        }
        context.notifiers.tell(&wakes);
        // A script is woken by what it finds itself.
        if context.span != Span::Script {
            // Their marks are the queue thread's affair, so they move nothing else here.
            context.seen.streak = 0;
            self.visit(markers::of_wakes(&wakes, &self.panes));
            context.woken_by(wakes);
        }
    }
}

impl Source for FirstmateSource {
    fn name(&self) -> &'static str {
        NAME
    }

    /// Takes over what the markers say, and starts the queue thread.
    fn begin(&mut self, context: &mut LoopContext<'_>, pending: &[Mark]) {
        self.inherit(context, pending);
        match self.start_thread(context) {
            Ok(queue) => self.queue = Some(queue),
            Err(error) => {
                let why = format!("the wake queue is not watched: {error}");
                context.degrade(Part::Queue, Condition::Impaired(why));
            }
        }
        // What the one before us announced and could not mark any more.
        self.visit(markers::of_signals(&context.seen));
    }

    fn poll(&mut self, _: &mut LoopContext<'_>, _: Option<&[OsString]>) -> Progress {
        self.visit(Changes::new());
        Progress::Over
    }

    /// A queue in another place is looked at by the poll alone.
    fn is_concerned_by(&self, directory: Tag, name: &OsStr) -> bool {
        directory == Tag::State && name == home::names::WAKE_QUEUE
    }

    fn event(&mut self, _: &mut LoopContext<'_>, _: &OsStr) {
        self.visit(Changes::new());
    }

    fn report(&mut self, context: &mut LoopContext<'_>) -> Progress {
        match self.reports.try_recv() {
            Ok(Report::State(condition)) => context.degrade(Part::Queue, condition),
            Ok(Report::Took(wakes)) => self.took(context, wakes),
            Err(_) => {}
        }
        Progress::Over
    }

    fn announced(&mut self, _: &mut LoopContext<'_>, wakes: &[Wake]) {
        self.visit(markers::of_wakes(wakes, &self.panes));
    }

    fn heard(&mut self, context: &mut LoopContext<'_>, note: &Note) {
        match note {
            Note::ChecksSwept => self.visit(markers::of_sweep()),
            // What the panes show is compared with what a shell watcher announced, before ours decides what is news.
            Note::PanesRead(capture) if self.queue.is_some() => {
                self.panes.hand_over(capture, &mut context.seen.panes, &mut context.tracker);
                let changes = self.panes.observe(capture);
                self.visit(changes);
            }
            Note::PanesRead(_) => {}
        }
    }

    fn reload(&mut self, context: &mut LoopContext<'_>) {
        self.tell(Order::Adopt(Box::new(context.patterns.clone())));
    }

    fn finish(&mut self, context: &LoopContext<'_>) -> Condition {
        let written = self.queue.take().map_or(Condition::Works, QueueThread::finish);
        let is_protected = context.session.world.is_protected(Failpoint::FirstmateRowBeforeLine);
        if is_protected { written } else { Condition::Works }
    }
}
