//! What the loop begins with: the markers, brought up to date, and what each source needs to know.

use std::ffi::OsString;
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::Span;
use crate::api::wakes::patience;
use crate::base::error::{Context, Result};
use crate::firstmate::markers;
use crate::home::paths::names;
use crate::journal::delivered::{self, Presented, Shown};
use crate::journal::due::{self, View};
use crate::journal::read_all;
use crate::journal::record::{Mark, Wake};
use crate::ownership::context::{HomeContext, Surroundings};
use crate::ownership::held_home::Holding;
use crate::settings::{Patterns, Settings};
use crate::system::regular_file::Signature;
use crate::system::storage;
use crate::system::{Real, World};
use crate::watcher::checkpoint::{Origin, Seen};
use crate::watcher::degradations::{Degradations, Part};
use crate::watcher::message::Message;
use crate::watcher::notifiers::Notifiers;
use crate::watcher::sources::checks::CheckRules;
use crate::watcher::sources::inbox::{self, Inbox};
use crate::watcher::sources::pane_tracker::PaneTracker;
use crate::watcher::sources::panes::PaneRules;

/// What a life begins with.
pub(crate) struct Recalled {
    /// The markers: the checkpoint, brought up to date by the journal.
    pub(crate) seen: Seen,
    /// What a life that ends with a wake has to tell first: wakes that were recorded and that nobody was told of, because
    /// the one who recorded them died before it could.
    pub(crate) untold: Vec<Wake>,
    /// The marks of the wakes that nobody has acknowledged.
    pub(crate) pending: Vec<Mark>,
}

pub(crate) fn recall(
    session: &HomeContext,
    span: Span,
    holding: &Holding<Real>,
    degradations: &mut Degradations,
) -> Result<Recalled> {
    let world = session.world.as_ref();
    let (mut seen, origin) = Seen::load(world, holding.watch());
    if let Origin::Damaged(why) = origin {
        degradations.set(Part::Checkpoint, Err(why));
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
            clear_drop_in(session, wake);
        }
        seen.apply(wake);
    }
    let presented = Presented::read(world, &directory);
    let moment = delivered::Moment::of(world);
    let pending = due::pending(&contents.wakes, contents.acknowledged);
    let due = || {
        let patience = patience(session.settings());
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

fn is_news_to_scripts(wake: &Wake, presented: &Presented, moment: &delivered::Moment) -> bool {
    !matches!(wake.mark, Some(Mark::Row { .. })) && presented.shown(wake.seq, moment) == Shown::Never
}

pub(crate) fn reporter<T: 'static>(
    sender: &Sender<Message>,
    wrap: fn(T) -> Message,
) -> impl Fn(T) + Clone + Send + 'static {
    let sender = sender.clone();
    move |report| {
        // The loop has ended; nobody needs to know any more.
        let _unheard = sender.send(wrap(report));
    }
}

pub(crate) fn notifiers(session: &HomeContext, settings: &Settings, sender: &Sender<Message>) -> Result<Notifiers> {
    Notifiers::start(settings, &session.home, &children(session, settings), reporter(sender, Message::Notified))
        .doing("start a thread for", session.home.state())
}

/// What children see.
pub(crate) fn children(session: &HomeContext, settings: &Settings) -> Vec<(String, OsString)> {
    if let Surroundings::Caller(_) = session.surroundings {
        // Not even this home by name: a check may call a script of another home, which finds its home by itself.
        return session.environment.for_child_of_caller();
    }
    let mut environment = session.environment.for_child(&settings.pass);
    environment.push(("FM_HOME".to_owned(), session.home.root().into()));
    environment.push(("FM_STATE_OVERRIDE".to_owned(), session.home.state().into()));
    environment
}

pub(crate) fn check_rules(session: &HomeContext, settings: &Settings) -> CheckRules {
    CheckRules {
        interval: settings.check_interval,
        timeout: settings.check_timeout,
        at_most: match session.surroundings {
            Surroundings::Home => settings.checks_at_once,
            // One after the other, as the scripts run them.
            Surroundings::Caller(_) => 1,
        },
        output_cap: 64 * 1024,
        state: session.home.state().to_owned(),
        working_directory: match &session.surroundings {
            Surroundings::Home => session.home.root().to_owned(),
            Surroundings::Caller(here) => here.clone(),
        },
        environment: children(session, settings),
    }
}

/// Removes the temporary files of writers that were killed.
pub(crate) fn sweep_leftovers(session: &HomeContext, holding: &Holding<Real>) {
    let world = session.world.as_ref();
    let wakes = world.open_directory(&session.home.ours(names::WAKES));
    for directory in std::iter::once(holding.watch()).chain(wakes.as_ref().ok()) {
        if let Err(error) = storage::sweep(world, directory) {
            tracing::debug!("cannot sweep {}: {error}", session.home.watch().display());
        }
    }
}

/// Sets aside what scripts began to write into the inbox and never finished.
pub(crate) fn set_abandoned_aside(session: &HomeContext) {
    let path = session.home.ours(names::INBOX);
    let world = session.world.as_ref();
    let renamed = world.open_directory(&path).and_then(|directory| inbox::set_abandoned_aside(world, &directory));
    match renamed {
        Ok(0) => {}
        Ok(count) => tracing::warn!("{count} files in {} were begun and never finished", path.display()),
        Err(error) => tracing::debug!("cannot clear {}: {error}", path.display()),
    }
}

/// Removes a drop-in whose wake is in the journal already: its watcher died before it could.
pub(crate) fn clear_drop_in(session: &HomeContext, wake: &Wake) {
    let Some(Mark::Inbox { name, inode, size, mtime_ns }) = &wake.mark else { return };
    let recorded = Signature { size: *size, mtime_ns: *mtime_ns, inode: *inode };
    let path = session.home.ours(names::INBOX);
    let world = session.world.as_ref();
    let cleared = world
        .open_directory(&path)
        .and_then(|directory| Inbox::default().remove_recorded(world, &directory, name, recorded));
    if let Err(error) = cleared {
        tracing::warn!("cannot remove {name} from {}: {error}", path.display());
    }
}

pub(crate) fn tracker(settings: &Settings, patterns: &Patterns, span: Span) -> PaneTracker {
    let polls = match span {
        Span::Resident | Span::Once => 1,
        Span::Script => markers::ENOUGH,
    };
    PaneTracker::new(patterns.busy.clone(), usize::try_from(settings.context_max).unwrap_or(usize::MAX), polls)
}

pub(crate) fn pane_rules(session: &HomeContext, settings: &Settings) -> PaneRules {
    /// tmux answers within milliseconds; one that does not is stopped.
    const DEADLINE: Duration = Duration::from_secs(10);
    PaneRules {
        deadline: DEADLINE,
        working_directory: match &session.surroundings {
            Surroundings::Home => session.home.root().to_owned(),
            Surroundings::Caller(here) => here.clone(),
        },
        environment: children(session, settings),
    }
}
