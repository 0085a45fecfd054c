//! Which signals are the command's.
//!
//! The command is in the process group of this process, so what the terminal sends reaches both, and passing it on would
//! deliver it twice. What a process sends to this process alone reaches the command only if it is passed on.
//!
//! Limits: the kernel does not say whether a process signalled this process or the whole group. Then the command gets
//! the signal twice, as with timeout(1); better than never.

use crate::system::Signal;
use crate::system::platform::{Caught, Sender};

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
