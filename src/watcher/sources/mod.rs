//! The sources of wakes: what each finds, when, and what it remembers. To add one, write its file, name it in [`all`], and
//! give it a part in [`degradations`](super::degradations) if it can work in a poorer way.

pub mod check_result;
pub mod checks;
pub mod daemons;
pub mod heartbeat;
pub mod inbox;
pub mod pane_tracker;
pub mod panes;
pub mod signals;

use std::sync::mpsc::Sender;

use self::checks::CheckSource;
use self::daemons::DaemonSource;
use self::heartbeat::HeartbeatSource;
use self::inbox::InboxSource;
use self::panes::PaneSource;
use self::signals::SignalSource;
use crate::settings::Settings;
use crate::watcher::source::{Message, Source, Span};

/// All sources in the order in which they are polled, with those of the home's own kind, and how many of the first take
/// turns: in a life like that of the watcher script, checks, signals, panes and the heartbeat do.
pub(crate) fn all(
    span: Span,
    settings: &Settings,
    messages: &Sender<Message>,
    more: Vec<Box<dyn Source>>,
) -> (Vec<Box<dyn Source>>, usize) {
    let signals = Box::new(SignalSource::new(settings.signal_grace));
    let checks = Box::new(CheckSource::new(messages));
    let panes = Box::new(PaneSource::new(messages));
    let (inbox, heartbeat) = (Box::<InboxSource>::default(), Box::<HeartbeatSource>::default());
    let mut sources: Vec<Box<dyn Source>>;
    match span {
        Span::Script => {
            sources = vec![checks, signals, panes, heartbeat, inbox];
            sources.extend(more);
        }
        Span::Resident | Span::Once => {
            sources = vec![Box::new(DaemonSource::new(messages)), signals, checks, inbox];
            sources.extend(more);
            sources.extend([heartbeat as Box<dyn Source>, panes]);
        }
    }
    let in_turn = if span == Span::Script { 4 } else { 0 };
    (sources, in_turn)
}
