//! What follows from the recorder's answers: markers move, waiters hear, and what could not be written is not lost.

use super::{CHECKPOINT_EVERY, Carried, Cycle, End, KEPT_AT_MOST, Span, WAKES_PER_CHECKPOINT};
use crate::journal::record::{Delivery, Draft, Kind, Mark, Wake};
use crate::ownership::wakeup_fifo;
use crate::watcher::checkpoint::Moment;
use crate::watcher::degradations::Part;
use crate::watcher::journal_thread::{Report, Request};
use crate::watcher::sources::inbox;

impl Cycle<'_> {
    pub(crate) fn record(&mut self, drafts: Vec<Draft>) {
        self.record_carrying(drafts, Carried::default());
    }

    pub(crate) fn record_carrying(&mut self, mut drafts: Vec<Draft>, carried: Carried) {
        if drafts.is_empty() {
            return;
        }
        self.carried.push_back(carried);
        for draft in &mut drafts {
            draft.delivery = self.patterns.delivery(&draft.kind, &draft.key, &draft.text);
        }
        self.recorder.ask(Request::Record(drafts));
    }

    pub(crate) fn recorder_reports(&mut self, report: Report) -> Option<End> {
        match report {
            Report::Recorded(wakes) => {
                let carried = self.carried.pop_front().unwrap_or_default();
                self.settle_drop_ins(&carried.drop_ins);
                self.seen.checks.extend(carried.check);
                if !carried.markers.is_empty() {
                    self.visit_queue(carried.markers);
                }
                if let (Some(keeper), Some(number)) = (&self.keeper, carried.daemon) {
                    keeper.recorded(number);
                }
                return self.recorded(wakes);
            }
            Report::Failed { drafts, why } => {
                let carried = self.carried.pop_front().unwrap_or_default();
                for name in &carried.drop_ins {
                    self.drop_ins.remove(name);
                }
                return self.not_recorded(drafts, &carried, why);
            }
            Report::Checkpointed => self.degrade(Part::Checkpoint, Ok(())),
            Report::NotCheckpointed(why) => self.degrade(Part::Checkpoint, Err(why)),
            Report::Evicted(eviction) => return Some(End::Evicted(eviction)),
        }
        None
    }

    pub(crate) fn recorded(&mut self, wakes: Vec<Wake>) -> Option<End> {
        wakeup_fifo::ring_all(self.holding.watch_path());
        self.degrade(Part::Journal, Ok(()));
        let mut files = Vec::new();
        for wake in &wakes {
            tracing::info!(seq = wake.seq, "{}", crate::base::escape::line(&wake.text));
            self.seen.announce(wake);
            match &wake.mark {
                Some(Mark::Signal { file, .. }) => {
                    self.in_flight.remove(file);
                    files.push(file.clone());
                }
                Some(Mark::Heartbeat { .. }) => {
                    self.is_heartbeat_in_flight = false;
                    self.seen.last_heartbeat = Some(Moment::now(self.session.world.as_ref()));
                }
                Some(Mark::Pane { window, .. }) => {
                    self.windows_in_flight.remove(window);
                }
                Some(Mark::Inbox { .. } | Mark::Row { .. }) | None => {}
            }
        }
        for file in files {
            self.look_at(&file);
        }
        self.notifiers.tell(&wakes);
        self.move_markers_of(&wakes);
        self.unsaved += wakes.len();
        if self.unsaved >= WAKES_PER_CHECKPOINT {
            self.checkpoint();
        }
        self.woken_by(wakes)
    }

    /// What these wakes mean for a life that ends with one.
    pub(crate) fn woken_by(&mut self, wakes: Vec<Wake>) -> Option<End> {
        let is_due = wakes.iter().any(|wake| wake.delivery == Delivery::Now);
        match self.span {
            Span::Once | Span::Script if is_due || !self.woken.is_empty() => {
                self.woken.extend(wakes.into_iter().filter(|wake| wake.delivery != Delivery::Never));
            }
            Span::Once | Span::Script | Span::Resident => {}
        }
        self.end_of_once()
    }

    /// One wake ends a `--once` life, but not in the middle of a sweep: else chatty signals would keep slow checks
    /// from ever coming to their end.
    pub(crate) fn end_of_once(&mut self) -> Option<End> {
        let is_recording = !self.in_flight.is_empty() || !self.carried.is_empty();
        let is_over = !self.woken.is_empty() && !self.checks.is_sweeping() && !is_recording;
        is_over.then(|| End::Woken(std::mem::take(&mut self.woken)))
    }

    /// Signals, panes, heartbeats and drop-ins are still where they were and will be seen again. The rest is kept.
    pub(crate) fn not_recorded(&mut self, drafts: Vec<Draft>, carried: &Carried, why: String) -> Option<End> {
        if self.span == Span::Script {
            // Nothing keeps what a check has said beyond this life, so the next one is to ask again.
            self.seen.last_check = None;
            return Some(End::Failed(why));
        }
        for draft in drafts {
            match &draft.mark {
                Some(Mark::Signal { file, .. }) => {
                    self.in_flight.remove(file);
                }
                Some(Mark::Heartbeat { .. }) => self.is_heartbeat_in_flight = false,
                Some(Mark::Pane { window, .. }) => {
                    self.windows_in_flight.remove(window);
                }
                Some(Mark::Inbox { .. } | Mark::Row { .. }) => {}
                None if matches!(draft.kind, Kind::Check | Kind::Daemon) && self.kept.len() < KEPT_AT_MOST => {
                    self.kept.push((draft, carried.clone()));
                }
                // What the inbox holds and is no wake is still there, too.
                None if draft.key == inbox::KEY => {}
                None => tracing::error!("dropped, because it can be neither written nor kept: {}", draft.text),
            }
        }
        self.degrade(Part::Journal, Err(why));
        // A journal that is full may only need what is acknowledged to be removed.
        self.checkpoint();
        self.end_of_once()
    }

    pub(crate) fn checkpoint(&mut self) {
        self.unsaved = 0;
        self.next_checkpoint = self.now() + CHECKPOINT_EVERY;
        self.recorder.ask(Request::Checkpoint(Box::new(self.seen.clone())));
    }
}
