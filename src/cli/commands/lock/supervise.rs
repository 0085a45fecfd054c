//! The time while a command runs under a lock.
//!
//! Signals that are the command's are passed on, and the path of the lock is looked at now and then: a person can remove
//! the file of a held lock, and a peer can break it. Whoever comes next could then have the lock too, so the command is
//! asked to leave, once, and the loss is told at the time it is seen.
//!
//! The command is in the process group of this process, so what the terminal sends reaches both, and passing it on would
//! deliver it twice. What a process sends to this process alone reaches the command only if it is passed on.
//!
//! Limits: between two looks there is time for two holders. A command that removes the file as its very last step is
//! not disturbed as long as it then ends before the next look. The kernel does not say whether a process signalled this
//! process or the whole group; then the command gets the signal twice, as with timeout(1); better than never.

use std::time::{Duration, Instant};

use crate::base::console::Console;
use crate::base::failpoint::Failpoint;
use crate::lock::{AnyGuard, Guard, Loss, Ownership};
use crate::system::platform::{Caught, Happening, HeldCommand, Sender, Signals, leads_session, wait_for_happening};
use crate::system::{Real, Signal, World};

/// How often the path of the lock is looked at.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// Watches until the command has ended, or nothing can be waited for any more but its end. Says whether the lock was held
/// all the time; if it was lost, the command was asked to leave.
pub(crate) fn supervise(console: Console, command: &HeldCommand, guard: &AnyGuard, signals: &Signals) -> Ownership {
    let role = if leads_session() { SessionRole::Leader } else { SessionRole::Member };
    let mut ownership = Ownership::Held;
    let mut next_check = Instant::now() + CHECK_EVERY;
    loop {
        match wait_for_happening(Some(command), signals, next_check.saturating_duration_since(Instant::now())) {
            Ok(Happening::Ended) => return ownership,
            Ok(Happening::Caught(caught)) if is_passed_on(caught, role) || !Real.is_protected(Failpoint::LockRelay) => {
                tell_failure(console, command, command.signal(caught.signal));
            }
            Ok(Happening::Caught(_) | Happening::Nothing) => {}
            Err(error) => {
                console.error(format!("cannot listen to signals any more: {error}; waiting for the command to end"));
                return ownership;
            }
        }
        // That nobody can look proves nothing.
        if Instant::now() >= next_check {
            next_check = Instant::now() + CHECK_EVERY;
            if ownership.is_held()
                && Real.is_protected(Failpoint::LockVigil)
                && let Ok(Ownership::Lost(loss)) = guard.check()
            {
                ownership = Ownership::Lost(loss);
                evict(console, command, guard, loss);
            }
        }
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

/// What this process is in its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SessionRole {
    /// It leads it. The kernel tells the leader alone when the terminal goes away.
    Leader,
    /// Somebody else does.
    Member,
}

/// Whether the command has to be told by us.
fn is_passed_on(caught: Caught, role: SessionRole) -> bool {
    match (caught.sender, caught.signal) {
        // The terminal's keys, sent to all of its foreground group.
        (Sender::Kernel, Signal::Interrupt | Signal::Quit) => false,
        // The end of the terminal: to its session's leader first, to the group when that has left.
        (Sender::Kernel, Signal::HangUp) => role == SessionRole::Leader,
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
            assert!(is_passed_on(caught(signal, Sender::Process), SessionRole::Member), "{signal:?}");
        }
    }

    #[test]
    fn what_the_terminal_sends_to_the_group_is_not() {
        for signal in [Signal::Interrupt, Signal::Quit, Signal::HangUp] {
            assert!(!is_passed_on(caught(signal, Sender::Kernel), SessionRole::Member), "{signal:?}");
        }
    }

    #[test]
    fn what_the_kernel_sends_to_this_process_alone_is_passed_on() {
        assert!(is_passed_on(caught(Signal::HangUp, Sender::Kernel), SessionRole::Leader));
        assert!(is_passed_on(caught(Signal::Alarm, Sender::Kernel), SessionRole::Member));
    }
}
