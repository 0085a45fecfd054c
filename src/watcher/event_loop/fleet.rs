//! A firstmate home, as far as it is the loop's affair: it begins with the scripts' markers, tells the porter when there
//! may be something to do at the wake queue, and hears what came of it.

use crate::base::error::{Context, Result};
use crate::base::failpoint::Failpoint;
use crate::firstmate::home::Fleet;
use crate::firstmate::markers::{self, Authority, Changes};
use crate::firstmate::queue::Queue;
use crate::firstmate::queue_sync::Bridge;
use crate::firstmate::queue_thread::{Equipment, Order, Porter, Report};
use crate::home::paths::names;
use crate::journal::record::{Mark, Wake};
use crate::ownership::wakeup_fifo;
use crate::settings::Patterns;
use crate::system::World;
use crate::watcher::degradations::Part;
use crate::watcher::event_loop::startup::reporter;
use crate::watcher::event_loop::{Cycle, End, Span};
use crate::watcher::message::Message;
use crate::watcher::sources::panes::PaneCapture;

impl Cycle<'_> {
    /// In a firstmate home: takes over what the markers say, and starts the porter.
    pub(crate) fn join_fleet(&mut self, pending: &[Mark]) {
        let session = self.session;
        let Some(fleet) = self.fleet else { return };
        let world = session.world.as_ref();
        if let Err(error) = fleet.remember(world, self.holding.watch(), &session.home) {
            tracing::warn!("cannot write {}: {error}", session.home.ours(names::FLEET).display());
        }
        let authority = if self.span == Span::Script { Authority::Markers(pending) } else { Authority::Ours };
        let inherited = markers::inherit(world, &self.state, &mut self.seen, authority);
        let begun = markers::begin_heartbeat(world, &self.state);
        let outcome = inherited.and_then(|(panes, news)| begun.map(|()| (panes, news)));
        match outcome {
            Ok((panes, news)) => {
                self.pane_markers = panes;
                self.unsaved += news;
            }
            Err(error) => {
                tracing::warn!("the markers of {} are not read: {error}", self.session.home.state().display());
            }
        }
        match self.equip_porter(fleet) {
            Ok(porter) => self.porter = Some(porter),
            Err(error) => self.degrade(Part::Queue, Err(format!("the wake queue is not watched: {error}"))),
        }
        // What the one before us announced and could not mark any more.
        self.visit_queue(markers::of_signals(&self.seen));
    }

    fn equip_porter(&self, fleet: &Fleet) -> Result<Porter> {
        let (world, home) = (&self.session.world, &self.session.home);
        let generation = self.holding.owner().generation;
        let equipment = Equipment {
            world: world.clone(),
            holding: self.holding.clone(),
            state: world.open_directory(home.state()).doing("open", home.state())?,
            queue: Queue::open(world, fleet)?,
            bridge: Bridge::open(world, home, &self.settings, self.patterns.clone(), generation)?,
        };
        Porter::start(equipment, reporter(&self.sender, Message::Porter)).doing("start a thread for", home.state())
    }

    /// There may be new rows or new wakes. These markers move when the wakes have their rows.
    pub(crate) fn visit_queue(&self, changes: Changes) {
        if let Some(porter) = &self.porter {
            porter.tell(Order::Look(changes));
        }
    }

    pub(crate) fn move_markers_of(&self, wakes: &[Wake]) {
        if self.porter.is_some() {
            self.visit_queue(markers::of_wakes(wakes, &self.pane_markers));
        }
    }

    /// These markers move when everything that was handed to the recorder until now is durable.
    pub(crate) fn move_when_recorded(&mut self, changes: Changes) {
        let is_protected = self.session.world.is_protected(Failpoint::FirstmateSweepAfterRecord);
        if let (Some(last), true) = (self.carried.back_mut(), is_protected) {
            last.markers.extend(changes);
        } else {
            self.visit_queue(changes);
        }
    }

    /// What the panes show is compared with what a shell watcher announced, before ours decides what is news.
    pub(crate) fn mark_panes(&mut self, capture: &PaneCapture) {
        if self.porter.is_some() {
            self.pane_markers.hand_over(capture, &mut self.seen.panes, &mut self.tracker);
            let changes = self.pane_markers.observe(capture);
            self.visit_queue(changes);
        }
    }

    pub(crate) fn hand_patterns_to_porter(&self, patterns: &Patterns) {
        if let Some(porter) = &self.porter {
            porter.tell(Order::Adopt(Box::new(patterns.clone())));
        }
    }

    pub(crate) fn porter_reports(&mut self, report: Report) -> Option<End> {
        match report {
            Report::State(state) => self.degrade(Part::Queue, state),
            Report::Took(wakes) => {
                wakeup_fifo::ring_all(self.holding.watch_path());
                for wake in &wakes {
                    tracing::info!(seq = wake.seq, "from the wake queue: {}", crate::base::escape::line(&wake.text));
                }
                self.notifiers.tell(&wakes);
                if self.span == Span::Script {
                    // A script is woken by what it finds itself.
                    return None;
                }
                // Their marks are the porter's affair, so they move nothing else here.
                self.seen.streak = 0;
                self.visit_queue(markers::of_wakes(&wakes, &self.pane_markers));
                return self.woken_by(wakes);
            }
        }
        None
    }
}
