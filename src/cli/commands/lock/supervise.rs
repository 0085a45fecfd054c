//! The time while a command runs under a lock.
//!
//! Signals that are the command's are passed on, and the path of the lock is looked at now and then: a person can remove
//! the file of a held lock, and a peer can break it. Whoever comes next could then have the lock too, so the command is
//! asked to leave, once, and the loss is told at the time it is seen.
//!
//! Limits: between two looks there is time for two holders. A command that removes the file as its very last step is
//! not disturbed as long as it then ends before the next look.
//!
//! # Which signals are the command's
//!
//! The command is in the process group of this process, so what the terminal sends reaches both, and passing it on would
//! deliver it twice. What a process sends to this process alone reaches the command only if it is passed on.
//!
//! The kernel does not say whether a process signalled this process or the whole group. Then the command gets
//! the signal twice, as with timeout(1); better than never.

use std::time::{Duration, Instant};

use crate::base::console::Console;
use crate::base::failpoint::Failpoint;
use crate::lock::any::AnyGuard;
use crate::lock::{Guard, Loss, Ownership};
use crate::system::platform::{Caught, Happening, HeldCommand, Sender, Signals, leads_session, wait_for_happening};
use crate::system::{Real, Signal, World};

/// How often the path of the lock is looked at.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// What became of the lock meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watched {
    /// It was held all the time.
    Kept,
    /// It was lost, and the command was asked to leave.
    Lost,
}

/// Watches until the command has ended, or nothing can be waited for any more but its end.
pub(crate) fn keep(console: Console, command: &HeldCommand, guard: &AnyGuard, signals: &Signals) -> Watched {
    let place = if leads_session() { Place::Leader } else { Place::Member };
    let mut watched = Watched::Kept;
    let mut next_check = Instant::now() + CHECK_EVERY;
    loop {
        match wait_for_happening(Some(command), signals, next_check.saturating_duration_since(Instant::now())) {
            Ok(Happening::Ended) => return watched,
            Ok(Happening::Caught(caught))
                if is_passed_on(caught, place) || !Real.is_protected(Failpoint::LockRelay) =>
            {
                tell_failure(console, command, command.signal(caught.signal));
            }
            Ok(Happening::Caught(_) | Happening::Nothing) => {}
            Err(error) => {
                console.error(format!("cannot listen to signals any more: {error}; waiting for the command to end"));
                return watched;
            }
        }
        if Instant::now() >= next_check {
            next_check = Instant::now() + CHECK_EVERY;
            if watched == Watched::Kept
                && let Some(loss) = loss_of(guard)
            {
                watched = Watched::Lost;
                evict(console, command, guard, loss);
            }
        }
    }
}

/// Whether the lock is known to be lost. That nobody can look proves nothing.
fn loss_of(guard: &AnyGuard) -> Option<Loss> {
    if !Real.is_protected(Failpoint::LockVigil) {
        return None;
    }
    match guard.check() {
        Ok(Ownership::Lost(loss)) => Some(loss),
        Ok(Ownership::Held) | Err(_) => None,
    }
}

fn evict(console: Console, command: &HeldCommand, guard: &AnyGuard, loss: Loss) {
    let (path, pid) = (guard.path().display(), command.pid());
    console.error(format!(
        "{path} {loss}, so others may hold it now; the command, pid {pid}, is asked to leave; \
         find out what changed {path}, then run it again"
    ));
    tell_failure(console, command, command.signal(Signal::Terminate));
}

fn tell_failure(console: Console, command: &HeldCommand, sent: std::io::Result<()>) {
    if let Err(error) = sent {
        console.note(format!("cannot signal the command, pid {}: {error}", command.pid()));
    }
}

/// The place of this process in its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It leads it. The kernel tells the leader alone when the terminal goes away.
    Leader,
    /// Somebody else does.
    Member,
}

/// Whether the command has to be told by us.
pub(crate) fn is_passed_on(caught: Caught, place: Place) -> bool {
    match (caught.sender, caught.signal) {
        // The terminal's keys, sent to all of its foreground group.
        (Sender::Kernel, Signal::Interrupt | Signal::Quit) => false,
        // The end of the terminal: to its session's leader first, to the group when that has left.
        (Sender::Kernel, Signal::HangUp) => place == Place::Leader,
        // The kernel's rest is for this process alone: for example an alarm that was set before this program was
        // executed in its setter's place.
        (Sender::Process | Sender::Kernel, _) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caught(signal: Signal, sender: Sender) -> Caught {
        Caught { signal, sender }
    }

    #[test]
    fn what_a_process_sends_is_passed_on() {
        for signal in [Signal::HangUp, Signal::Interrupt, Signal::Quit, Signal::Terminate, Signal::User1] {
            assert!(is_passed_on(caught(signal, Sender::Process), Place::Member), "{signal:?}");
        }
    }

    #[test]
    fn what_the_terminal_sends_to_the_group_is_not() {
        for signal in [Signal::Interrupt, Signal::Quit, Signal::HangUp] {
            assert!(!is_passed_on(caught(signal, Sender::Kernel), Place::Member), "{signal:?}");
        }
    }

    #[test]
    fn what_the_kernel_sends_to_this_process_alone_is_passed_on() {
        assert!(is_passed_on(caught(Signal::HangUp, Sender::Kernel), Place::Leader));
        assert!(is_passed_on(caught(Signal::Alarm, Sender::Kernel), Place::Member));
    }
}
