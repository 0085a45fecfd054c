//! The signals to a watcher.
//!
//! # Theory
//!
//! What listens comes first: from then on a signal is kept until the loop reads it. Only then may anything else be done
//! at a signal, because a handler that is alone swallows what it handles, and a watcher that is bound to its starter is
//! asked to leave once and never again.
//!
//! A signal that was ignored when this process began stays so: whoever starts a command with `nohup`, or behind a
//! shell's `&`, means that, and a shell script in its place could not even choose otherwise. Two are heard all the same.
//! HUP tells a resident watcher to read its settings again, and TERM is how the kernel asks one that is bound to its
//! starter.
//!
//! If this is wrong, a watcher outlives its starter, or dies of a terminal that it was to outlive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::base::exit;
use crate::base::failpoint::{Failpoint, is_protected, reach};
use crate::base::wait_until::wait_until;
use crate::system::platform;
use crate::watcher::event_loop::Span;
use crate::watcher::message::Message;

/// All that mean something to a watcher.
const KNOWN: [i32; 5] = [SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGCHLD];

/// When a request to leave is insisted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Insistence {
    /// When it comes a second time.
    Repeated,
    /// When it has stood for so long. Who asks a script asks it and its group, so it is asked twice at once.
    After(Duration),
    /// In the same way. A watcher that is bound to its starter is asked by the kernel, once for each of the starter's threads
    /// that end one after the other, and by nobody later on.
    Bound(Duration),
}

/// The first TERM or INT asks the loop to leave; what insists on it ends the process whatever the loop is doing.
///
/// # Errors
/// Those of the system.
pub(crate) fn listen(sender: &Sender<Message>, insistence: Insistence, span: Span) -> std::io::Result<()> {
    let heard = heard(insistence, span, &platform::heeded(&KNOWN));
    let read = || Signals::new(&heard);
    let first = is_protected(Failpoint::RunReadsFirst).then(read).transpose()?;
    let is_over = insist(&heard, insistence)?;
    reach(Failpoint::RunInsists)?;
    let mut signals = first.map_or_else(read, Ok)?;
    let sender = sender.clone();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if sender.send(Message::Signal(signal)).is_err() {
                break;
            }
            if let (SIGTERM | SIGINT, Insistence::After(grace) | Insistence::Bound(grace)) = (signal, insistence) {
                let _passed = wait_until(grace, grace, || None::<()>);
                is_over.store(true, Ordering::SeqCst);
                drop(signal_hook::low_level::raise(signal));
            }
        }
    })?;
    Ok(())
}

/// Which signals are listened to, of those that this process was not started to ignore: pure.
fn heard(insistence: Insistence, span: Span, heeded: &[i32]) -> Vec<i32> {
    let is_needed = |signal| match signal {
        SIGTERM => matches!(insistence, Insistence::Bound(_)),
        SIGHUP => !span.ends_with_a_wake(),
        other => other != SIGINT,
    };
    KNOWN.into_iter().filter(|signal| is_needed(*signal) || heeded.contains(signal)).collect()
}

/// Has a request to leave end this process when it is insisted on. Gives what says that it has stood for long enough.
fn insist(heard: &[i32], insistence: Insistence) -> std::io::Result<Arc<AtomicBool>> {
    let is_over = Arc::new(AtomicBool::new(false));
    for (signal, code) in [(SIGTERM, exit::TERMINATED), (SIGINT, exit::INTERRUPTED)] {
        if !heard.contains(&signal) {
            continue;
        }
        let was_asked = match insistence {
            Insistence::Repeated => Arc::new(AtomicBool::new(false)),
            Insistence::After(_) | Insistence::Bound(_) => Arc::clone(&is_over),
        };
        signal_hook::flag::register_conditional_shutdown(signal, code.into(), Arc::clone(&was_asked))?;
        if insistence == Insistence::Repeated {
            signal_hook::flag::register(signal, was_asked)?;
        }
    }
    Ok(is_over)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_ignored_at_the_start_is_heard_only_where_it_is_needed() {
        let (asked, bound) = (Insistence::After(Duration::ZERO), Insistence::Bound(Duration::ZERO));
        for (insistence, span, expected) in [
            (Insistence::Repeated, Span::Resident, vec![SIGHUP, SIGUSR1, SIGCHLD]),
            (Insistence::Repeated, Span::Once, vec![SIGUSR1, SIGCHLD]),
            (asked, Span::Script, vec![SIGUSR1, SIGCHLD]),
            (bound, Span::Script, vec![SIGTERM, SIGUSR1, SIGCHLD]),
        ] {
            assert_eq!(heard(insistence, span, &[]), expected, "{insistence:?} {span:?}");
            assert_eq!(heard(insistence, span, &KNOWN), KNOWN, "{insistence:?} {span:?}");
        }
        assert_eq!(heard(Insistence::Repeated, Span::Once, &[SIGINT]), [SIGINT, SIGUSR1, SIGCHLD]);
    }
}
