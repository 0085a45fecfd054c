//! The order in which the watcher script of a firstmate home looks at its sources.
//!
//! # Theory
//!
//! A wake ends such a life, so the order decides which wake it is, and whether a source is ever looked at: checks come
//! before signals, or chatty signals would keep slow checks from ever running; then panes; and the heartbeat only when
//! nothing else happened. These sources take turns: each is looked at when the one before has found nothing. What comes
//! later is left for the next life, unmarked. A watcher that stays looks at all of them at once and needs no order.
//!
//! # Limits
//!
//! A slow check holds up everything after it, as it does there.

use std::ffi::OsString;

use super::EventLoop;
use crate::system::World;
use crate::watcher::source::Progress;

impl EventLoop<'_> {
    /// Looks at the sources that take turns, from one of them on, as long as nothing happens and none is waited for.
    pub(super) fn take_turns(&mut self, first: usize, listed: &[OsString]) {
        for index in first..self.in_turn {
            let may_go_on = index == 0 || self.is_undisturbed();
            if !may_go_on || self.poll_source(index, Some(listed)) == Progress::Awaited {
                break;
            }
        }
    }

    /// A source has come to its end: looks at those after it, if it takes turns and has found nothing.
    pub(super) fn take_next_turns(&mut self, index: usize) {
        if index < self.in_turn && self.is_undisturbed() {
            // A directory that cannot be listed is listed again at the next poll, which says so.
            if let Ok(listed) = self.context.session.world.names(&self.context.state) {
                self.take_turns(index + 1, &listed);
            }
        }
    }

    /// Whether a source has to wait for the results of one before it: then it looks at everything when its turn comes.
    pub(super) fn is_held_up(&self, index: usize) -> bool {
        index < self.in_turn && self.sources[..index].iter().any(|source| source.is_sweeping())
    }

    /// Whether nothing has happened that may end this life.
    fn is_undisturbed(&self) -> bool {
        let lingers = self.sources[..self.in_turn].iter().any(|source| source.deadline().is_some());
        !self.context.is_recording() && self.context.woken.is_empty() && !lingers
    }
}
