//! What the loop starts with: the markers, brought up to date, the threads, and the sources.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::{CHECKPOINT_EVERY, EventLoop, EventProof, QUICK_CHECKS, Start};
use crate::base::error::{Context, Result};
use crate::journal::due::{self, Moment, Presented, Shown, View};
use crate::journal::record::{Mark, Wake};
use crate::journal::{Journal, Limits, read_all};
use crate::layout::paths::names;
use crate::ownership::context::HomeContext;
use crate::ownership::held_home::Holding;
use crate::settings::Patterns;
use crate::system::sd_notify::ServiceNotifier;
use crate::system::storage;
use crate::system::{Real, World};
use crate::watcher::checkpoint::{Origin, Seen};
use crate::watcher::degradations::{Condition, Degradations, Part};
use crate::watcher::journal_thread::{BeatWriter, JournalThread};
use crate::watcher::source::{LoopContext, Message, Span, start_notifiers};
use crate::watcher::sources::panes::tracker;
use crate::watcher::sources::{self, inbox};
use crate::watcher::tasks::Tasks;

impl<'a> EventLoop<'a> {
    /// Gets everything ready. Takes as long as reading the markers takes; the first beat was published before.
    ///
    /// # Errors
    /// The state directory or the journal cannot be opened, or there is no thread left.
    pub fn start(start: Start<'a>) -> Result<Self> {
        let Start {
            session,
            span,
            holding,
            patterns,
            channel: (sender, messages),
            events,
            more_sources,
            on_first_poll,
        } = start;
        let (mut context, pending) = context(session, span, holding, patterns, &sender)?;
        context.degradations.set(Part::Events, Condition::of(events.as_ref()));
        let (mut sources, in_turn) = sources::all(span, &context.settings, &sender, more_sources);
        let now = context.now();
        for source in &mut sources {
            source.begin(&mut context, &pending);
        }
        Ok(Self {
            context,
            sources,
            in_turn,
            messages,
            sender,
            events: events.ok(),
            proof: EventProof::Awaited,
            voice: ServiceNotifier::of(&session.environment, session.world.own_pid()),
            on_first_poll,
            quick_checks_until: now + QUICK_CHECKS,
            next_poll: now,
            next_check: now,
            next_checkpoint: now + CHECKPOINT_EVERY,
            kept: Vec::new(),
            acknowledgement: None,
        })
    }
}

/// What the sources work with, and the marks of the wakes that nobody has acknowledged.
fn context<'a>(
    session: &'a HomeContext,
    span: Span,
    holding: Arc<Holding<Real>>,
    patterns: Patterns,
    messages: &Sender<Message>,
) -> Result<(LoopContext<'a>, Vec<Mark>)> {
    let settings = session.settings().clone();
    let state = session.world.open_directory(session.home.state()).doing("open", session.home.state())?;
    sweep_leftovers(session, &holding);
    inbox::tidy(session);
    let mut degradations = Degradations::default();
    let Recalled { seen, untold, pending } = recall(session, span, &holding, &mut degradations)?;
    let journal = journal_thread(session, &holding, settings.journal_max, messages)?;
    let beats = messages.clone();
    let report = move |condition| drop(beats.send(Message::Beacon(condition)));
    let beat_writer = BeatWriter::start(Arc::clone(&holding), report);
    let context = LoopContext {
        beat_writer: beat_writer.doing("start a thread for", session.home.state())?,
        notifiers: start_notifiers(session, &settings, messages)?,
        tracker: tracker(&settings, &patterns, span),
        tasks: Tasks::default(),
        woken: untold,
        unsaved: 0,
        beats: 0,
        outstanding: VecDeque::new(),
        notes: Vec::new(),
        session,
        span,
        holding,
        state,
        settings,
        patterns,
        seen,
        degradations,
        journal,
    };
    Ok((context, pending))
}

fn journal_thread(
    session: &HomeContext,
    holding: &Arc<Holding<Real>>,
    journal_max: u64,
    messages: &Sender<Message>,
) -> Result<JournalThread> {
    let path = session.home.ours(names::WAKES);
    let directory = session.world.open_directory(&path).doing("open", &path)?;
    let journal = Journal::open(Arc::clone(&session.world), directory, path, Limits::of_journal(journal_max));
    let messages = messages.clone();
    let report = move |report| drop(messages.send(Message::Journal(report)));
    JournalThread::start(Arc::clone(&session.world), Arc::clone(holding), journal, report)
        .doing("start a thread for", session.home.state())
}

/// What a life begins with.
struct Recalled {
    /// The markers: the checkpoint, brought up to date by the journal.
    seen: Seen,
    /// What a life that ends with a wake has to tell first: wakes that were recorded and that nobody was told of, because
    /// the one who recorded them died before it could.
    untold: Vec<Wake>,
    /// The marks of the wakes that nobody has acknowledged.
    pending: Vec<Mark>,
}

fn recall(
    session: &HomeContext,
    span: Span,
    holding: &Holding<Real>,
    degradations: &mut Degradations,
) -> Result<Recalled> {
    let world = session.world.as_ref();
    let (mut seen, origin) = Seen::load(world, holding.watch());
    if let Origin::Damaged(why) = origin {
        degradations.set(Part::Checkpoint, Condition::Impaired(why));
    }
    let path = session.home.ours(names::WAKES);
    let directory = world.open_directory(&path).doing("open", &path)?;
    let contents = read_all(world, &directory, &path)?;
    for damage in &contents.damage {
        tracing::error!("{damage}");
    }
    if seen.through_seq > contents.last_seq {
        // The journal was moved away, or restored from a copy. What it has from now on is not known yet.
        tracing::warn!("seen.json knows of wakes up to {}, the journal up to {}", seen.through_seq, contents.last_seq);
        seen.through_seq = contents.last_seq;
    }
    for wake in &contents.wakes {
        if wake.seq > seen.through_seq {
            inbox::remove_recorded(session, wake);
        }
        seen.apply(wake);
    }
    let presented = Presented::read(world, &directory);
    let moment = Moment::of(world);
    let pending = due::pending(&contents.wakes, contents.acknowledged);
    let due = || {
        let patience = session.settings().patience();
        let view = View { presented: &presented, presented_at_start: presented.through(), moment: &moment, patience };
        due::due(&pending, &view).into_iter().cloned()
    };
    let untold = match span {
        Span::Resident => Vec::new(),
        Span::Once => due().collect(),
        // A script tells a wake once, and nothing of what others have put into the queue: the queue itself is there for that.
        Span::Script => due().filter(|wake| is_news_to_scripts(wake, &presented, &moment)).collect(),
    };
    let pending = pending.iter().filter_map(|wake| wake.mark.clone()).collect();
    Ok(Recalled { seen, untold, pending })
}

fn is_news_to_scripts(wake: &Wake, presented: &Presented, moment: &Moment) -> bool {
    !matches!(wake.mark, Some(Mark::Row { .. })) && presented.shown(wake.seq, moment) == Shown::Never
}

/// Removes the temporary files of writers that were killed.
fn sweep_leftovers(session: &HomeContext, holding: &Holding<Real>) {
    let world = session.world.as_ref();
    let wakes = world.open_directory(&session.home.ours(names::WAKES));
    for directory in std::iter::once(holding.watch()).chain(wakes.as_ref().ok()) {
        if let Err(error) = storage::sweep(world, directory) {
            tracing::debug!("cannot sweep {}: {error}", session.home.watch().display());
        }
    }
}
