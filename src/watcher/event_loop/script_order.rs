//! The order in which the watcher script of a firstmate home looks at its sources.
//!
//! # Theory
//!
//! A wake ends such a life, so the order decides which wake it is, and whether a source is ever looked at: checks come
//! before signals, or chatty signals would keep slow checks from ever running; then panes; and the heartbeat only when
//! nothing else happened. What comes later is left for the next life, unmarked. A watcher that stays looks at all of them at
//! once and needs no order.
//!
//! # Limits
//!
//! A slow check holds up everything after it, as it does there.

use super::dispatch::Sweep;
use super::{Cycle, Span};
use crate::system::World;
use crate::watcher::sources::panes;
use std::ffi::OsString;

impl Cycle<'_> {
    /// Looks at the checks, and at the rest if there are none to wait for.
    pub(crate) fn look_in_order(&mut self, listed: &[OsString]) {
        debug_assert_eq!(self.span, Span::Script);
        if self.sweep_checks(listed) == Sweep::Over && self.is_undisturbed() {
            self.look_at_rest_of(listed);
        }
    }

    /// Looks at what comes after the checks.
    pub(crate) fn look_at_rest(&mut self) {
        // A directory that cannot be listed is listed again at the next poll, which says so.
        if let Ok(listed) = self.session.world.names(&self.state) {
            self.look_at_rest_of(&listed);
        }
    }

    fn look_at_rest_of(&mut self, listed: &[OsString]) {
        self.scan_signals(listed);
        if !self.is_undisturbed() {
            return;
        }
        if panes::windows(self.tasks.iter()).is_empty() {
            self.beat_heart();
        } else {
            // The heartbeat comes after what they show.
            self.read_panes();
        }
    }

    /// Whether nothing has happened that may end this life.
    pub(crate) fn is_undisturbed(&self) -> bool {
        self.carried.is_empty() && self.woken.is_empty() && self.coalescer.due_at().is_none()
    }
}
