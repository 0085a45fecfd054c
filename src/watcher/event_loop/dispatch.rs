//! The loop's sources: looking at them, and handing what they found to the recorder.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use super::{Carried, Cycle, End, EventProof, PORTION, Span};
use crate::base::escape;
use crate::firstmate::home;
use crate::firstmate::markers::{self, Changes};
use crate::home::paths::names;
use crate::ownership::waiters;
use crate::system::World;
use crate::watcher::checkpoint::Moment;
use crate::watcher::degradations::Part;
use crate::watcher::events::{Event, Tag};
use crate::watcher::sources::check_result::{CheckResult, Wording};
use crate::watcher::sources::heartbeat::{self, Heartbeat};
use crate::watcher::sources::panes::{self, PaneCapture};
use crate::watcher::sources::signals::{self, Look};

/// What is known of the checks after a look at whether they are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sweep {
    /// Results will arrive.
    Awaited,
    /// None will.
    Over,
}

impl Cycle<'_> {
    pub(crate) fn event(&mut self, event: Event) {
        self.proof = EventProof::Seen;
        match event {
            // A script looks at its signals when the checks are done, and then it looks at all.
            Event::Touched { directory: Tag::State, name } if signals::is_signal(&name) => {
                if self.span != Span::Script || !self.checks.is_sweeping() {
                    self.look_at(&name.to_string_lossy());
                }
            }
            // A queue in another place is looked at by the poll alone.
            Event::Touched { directory: Tag::State, name } if name == home::names::WAKE_QUEUE => {
                self.visit_queue(Changes::new());
            }
            Event::Touched { directory: Tag::Inbox, .. } => self.is_inbox_touched = true,
            Event::Touched { .. } => self.next_check = Duration::ZERO,
            Event::Overflow => self.next_poll = Duration::ZERO,
            Event::Lost(why) => {
                self.next_check = Duration::ZERO;
                self.degrade(Part::Events, Err(why));
            }
        }
    }

    pub(crate) fn scan_signals(&mut self, listed: &[OsString]) {
        let scan = self.signals.scan(self.session.world.as_ref(), &self.state, listed, &self.seen.signals);
        let unreadable = scan.unreadable_names;
        let names = if unreadable == 0 { Ok(()) } else { Err(unreadable) };
        let in_words = |count| format!("{count} signal files are not watched, because their names are not UTF-8");
        self.degrade(Part::Names, names.map_err(in_words));
        for name in scan.vanished {
            self.seen.signals.remove(&name);
            self.unsaved += 1;
        }
        let now = self.now();
        for name in scan.changed {
            self.add_signal(&name, now);
        }
    }

    pub(crate) fn look_at(&mut self, name: &str) {
        match self.signals.look_at(self.session.world.as_ref(), &self.state, name, &self.seen.signals) {
            Look::Changed => self.add_signal(name, self.now()),
            Look::Gone => {
                self.unsaved += usize::from(self.seen.signals.remove(name).is_some());
            }
            Look::Unchanged => {}
        }
    }

    pub(crate) fn add_signal(&mut self, name: &str, now: Duration) {
        // One whose wake is being written is looked at again when that is done.
        if !self.in_flight.contains(name) {
            self.coalescer.add(name, now);
        }
    }

    pub(crate) fn announce(&mut self, files: &[String]) {
        let cap = usize::try_from(self.settings.context_max).unwrap_or(usize::MAX);
        // In portions, so that the first are durable while the next are read, whatever becomes of this process.
        for portion in files.chunks(PORTION) {
            let mut drafts = Vec::new();
            for name in portion {
                let state = (self.session.home.state(), &self.state);
                let draft = self.signals.announce(self.session.world.as_ref(), state, name, &self.seen.signals, cap);
                if let Some(draft) = draft {
                    self.in_flight.insert(name.clone());
                    drafts.push(draft);
                }
            }
            self.record(drafts);
        }
    }

    /// Begins a sweep if one is due, and says whether results are awaited.
    pub(crate) fn sweep_checks(&mut self, listed: &[OsString]) -> Sweep {
        let now = Moment::now(self.session.world.as_ref());
        if !self.checks.due_in(self.seen.last_check.as_ref(), &now).is_zero() {
            return if self.checks.is_sweeping() { Sweep::Awaited } else { Sweep::Over };
        }
        self.seen.checks.retain(|name, _| listed.iter().any(|other| other.to_str() == Some(name)));
        match self.checks.sweep(self.session.world.as_ref(), &self.state, listed) {
            0 if !self.checks.is_sweeping() => {
                self.note_sweep();
                Sweep::Over
            }
            _ => Sweep::Awaited,
        }
    }

    fn note_sweep(&mut self) {
        self.seen.last_check = self.checks.sweep_began().cloned();
        self.unsaved += 1;
        self.move_when_recorded(markers::of_sweep());
    }

    fn sweep_is_over(&mut self) {
        self.note_sweep();
        if self.span == Span::Script && self.is_undisturbed() {
            self.look_at_rest();
        }
    }

    pub(crate) fn check_ended(&mut self, result: &CheckResult) -> Option<End> {
        let wording = if self.span == Span::Script { Wording::Whole } else { Wording::Line };
        let judgement = result.judge(self.seen.checks.get(&result.name()), wording);
        if self.span == Span::Script && judgement.draft.is_some() {
            // The first one that has something to say ends the sweep of a script.
            self.checks.cut_short();
        }
        self.checks.finish(result);
        let memory = (result.name(), judgement.memory);
        if let Some(draft) = judgement.draft {
            self.record_carrying(vec![draft], Carried { check: Some(memory), ..Carried::default() });
        } else {
            self.seen.checks.insert(memory.0, memory.1);
        }
        if !self.checks.is_sweeping() {
            self.sweep_is_over();
        }
        self.end_of_once()
    }

    pub(crate) fn read_inbox(&mut self) {
        let path = self.session.home.ours(names::INBOX);
        let world = self.session.world.as_ref();
        let taken = &self.drop_ins;
        let is_taken = |name: &OsStr| taken.contains_key(name);
        let read = world.open_directory(&path).and_then(|directory| self.inbox.read(world, &directory, is_taken));
        match read {
            Ok(intake) => {
                self.degrade(Part::Inbox, Ok(()));
                let (mut drafts, mut names) = (Vec::new(), Vec::new());
                for drop_in in intake.drop_ins {
                    drafts.push(drop_in.draft.clone());
                    names.push(drop_in.name.clone());
                    self.drop_ins.insert(drop_in.name.clone(), drop_in);
                }
                self.record_carrying(drafts, Carried { drop_ins: names, ..Carried::default() });
            }
            Err(error) => self.degrade(Part::Inbox, Err(format!("cannot read {}: {error}", path.display()))),
        }
    }

    /// The wakes of these drop-ins are durable: their files have done their work.
    pub(crate) fn settle_drop_ins(&mut self, names: &[OsString]) {
        let path = self.session.home.ours(names::INBOX);
        let world = self.session.world.as_ref();
        let Ok(directory) = world.open_directory(&path) else { return };
        for name in names {
            if let Some(drop_in) = self.drop_ins.remove(name) {
                self.inbox.settle(world, &directory, &drop_in);
            }
        }
        // Of very many only a part is read at a time.
        self.is_inbox_touched |= !names.is_empty();
    }

    pub(crate) fn beat_heart(&mut self) {
        let now = Moment::now(self.session.world.as_ref());
        let heart = Heartbeat { base: self.settings.heartbeat, cap: self.settings.heartbeat_max };
        match heart.due_in(self.seen.last_heartbeat.as_ref(), self.seen.streak, &now) {
            None => self.seen.last_heartbeat = Some(now),
            Some(left) if left.is_zero() && !self.is_heartbeat_in_flight => {
                self.is_heartbeat_in_flight = true;
                self.record(vec![heartbeat::draft(self.seen.streak)]);
            }
            Some(_) => {}
        }
    }

    pub(crate) fn read_panes(&mut self) {
        let windows = panes::windows(self.tasks.iter());
        match self.session.world.nonce() {
            Ok(nonce) => self.panes.poll(windows, escape::hexadecimal(&nonce)),
            Err(error) => self.degrade(Part::Panes, Err(format!("panes are not watched: no nonce: {error}"))),
        }
    }

    pub(crate) fn panes_read(&mut self, capture: &PaneCapture) {
        self.degrade(Part::Panes, capture.problem.clone().map_or(Ok(()), Err));
        self.mark_panes(capture);
        let observed = self.tracker.observe(capture, &self.seen.panes);
        for window in observed.forget {
            self.unsaved += usize::from(self.seen.panes.remove(&window).is_some());
        }
        let mut drafts = observed.drafts;
        drafts.retain(|draft| self.windows_in_flight.insert(draft.key.clone()));
        self.record(drafts);
        if self.span == Span::Script && self.is_undisturbed() {
            self.beat_heart();
        }
    }

    pub(crate) fn retry_kept(&mut self) {
        for (draft, carried) in std::mem::take(&mut self.kept) {
            self.record_carrying(vec![draft], carried);
        }
    }

    pub(crate) fn prune_waiters(&self) {
        let path = self.session.home.ours(names::WAITERS);
        let pruned = self
            .session
            .world
            .open_directory(&path)
            .and_then(|directory| waiters::prune(self.session.world.as_ref(), &directory));
        if let Err(error) = pruned {
            tracing::debug!("cannot clear {}: {error}", path.display());
        }
    }
}
