//! Requests to the watcher: leaving, reading the settings again, a summary for the log.

use std::time::Duration;

use super::startup::{check_rules, notifiers, tracker};
use super::{Cycle, End};
use crate::settings::{Loaded, Patterns};
use crate::system::requests::Request;
use crate::watcher::degradations::Part;
use crate::watcher::sources::checks::Checks;
use crate::watcher::sources::coalesce::Coalescer;

impl Cycle<'_> {
    pub(crate) fn answer(&mut self, request: Request) -> Option<End> {
        match request {
            Request::Reload => self.reload(),
            Request::Poke => self.log_summary(),
            // Children are reaped by the threads that started them.
            Request::ChildEnded => {}
            Request::Leave(cause) => return Some(End::Asked(cause)),
        }
        None
    }

    pub(crate) fn reload(&mut self) {
        let reloaded = self.session.reload().and_then(|loaded| Ok((loaded.compile()?, loaded)));
        match reloaded {
            Ok((patterns, loaded)) => {
                self.degrade(Part::Settings, Ok(()));
                self.adopt(&loaded, patterns);
            }
            Err(error) => self.degrade(Part::Settings, Err(format!("settings not read again: {error}"))),
        }
    }

    pub(crate) fn adopt(&mut self, loaded: &Loaded, patterns: Patterns) {
        let settings = loaded.settings.clone();
        if settings.notify != self.settings.notify {
            match notifiers(self.session, &settings, &self.sender) {
                Ok(notifiers) => self.notifiers = notifiers,
                Err(error) => tracing::error!("{error}"),
            }
        }
        // What lingers is still there and will be found again at once.
        self.coalescer = Coalescer::new(settings.signal_grace);
        self.checks = Checks::new(check_rules(self.session, &settings), self.sender.clone());
        self.tracker = tracker(&settings, &patterns, self.span);
        self.hand_patterns_to_porter(&patterns);
        self.patterns = patterns;
        self.settings = settings;
        self.next_poll = Duration::ZERO;
        self.keep_daemons();
        tracing::info!("settings read again");
    }

    pub(crate) fn log_summary(&self) {
        tracing::info!(
            tasks = self.tasks.count(),
            announced = self.seen.signals.len(),
            through_seq = self.seen.through_seq,
            being_written = self.in_flight.len(),
            kept = self.kept.len(),
            beats = self.beats,
            degraded = ?self.degradations.in_words(),
            "summary"
        );
    }
}
