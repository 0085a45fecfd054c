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

use crate::base::failpoint::{Failpoint, is_protected, reach};
use crate::base::wait_until::wait_until;
use crate::system::requests::{self, Cause, Request, Requests};
use crate::watcher::source::{Message, Span};

/// All that mean something to a watcher: the end of the terminal is the end of one that lives for a wake, and another one
/// is told by the same signal to read its settings again.
fn known(span: Span) -> [Request; 5] {
    let hang_up = if span.ends_with_a_wake() { Cause::HungUp.into() } else { Request::Reload };
    [Cause::Terminated.into(), Cause::Interrupted.into(), hang_up, Request::Poke, Request::ChildEnded]
}

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
    let heard = heard(insistence, span, &requests::heeded(&known(span)));
    let read = || Requests::listen(&heard);
    let first = is_protected(Failpoint::RunReadsFirst).then(read).transpose()?;
    let is_over = insist(&heard, insistence)?;
    reach(Failpoint::RunInsists)?;
    let mut requests = first.map_or_else(read, Ok)?;
    let sender = sender.clone();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for request in requests.forever() {
            if sender.send(Message::Request(request)).is_err() {
                break;
            }
            if let Request::Leave(cause @ (Cause::Terminated | Cause::Interrupted)) = request
                && let Insistence::After(grace) | Insistence::Bound(grace) = insistence
            {
                let _passed = wait_until(grace, grace, || None::<()>);
                is_over.store(true, Ordering::SeqCst);
                drop(requests::repeat(cause));
            }
        }
    })?;
    Ok(())
}

/// Which requests are listened to, of those that this process was not started to ignore: pure.
fn heard(insistence: Insistence, span: Span, heeded: &[Request]) -> Vec<Request> {
    let is_needed = |request| match request {
        Request::Leave(Cause::Terminated) => matches!(insistence, Insistence::Bound(_)),
        Request::Leave(Cause::Interrupted | Cause::HungUp) => false,
        Request::Reload | Request::Poke | Request::ChildEnded => true,
    };
    known(span).into_iter().filter(|request| is_needed(*request) || heeded.contains(request)).collect()
}

/// Has a request to leave end this process when it is insisted on. Gives what says that it has stood for long enough.
fn insist(heard: &[Request], insistence: Insistence) -> std::io::Result<Arc<AtomicBool>> {
    let is_over = Arc::new(AtomicBool::new(false));
    for cause in [Cause::Terminated, Cause::Interrupted] {
        if !heard.contains(&cause.into()) {
            continue;
        }
        let was_asked = match insistence {
            Insistence::Repeated => Arc::new(AtomicBool::new(false)),
            Insistence::After(_) | Insistence::Bound(_) => Arc::clone(&is_over),
        };
        requests::end_when(cause, &was_asked)?;
        if insistence == Insistence::Repeated {
            requests::note(cause, &was_asked)?;
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
            (Insistence::Repeated, Span::Resident, vec![Request::Reload, Request::Poke, Request::ChildEnded]),
            (Insistence::Repeated, Span::Once, vec![Request::Poke, Request::ChildEnded]),
            (asked, Span::Script, vec![Request::Poke, Request::ChildEnded]),
            (bound, Span::Script, vec![Cause::Terminated.into(), Request::Poke, Request::ChildEnded]),
        ] {
            assert_eq!(heard(insistence, span, &[]), expected, "{insistence:?} {span:?}");
            assert_eq!(heard(insistence, span, &known(span)), known(span), "{insistence:?} {span:?}");
        }
        let interrupted = Request::Leave(Cause::Interrupted);
        let expected = [interrupted, Request::Poke, Request::ChildEnded];
        assert_eq!(heard(Insistence::Repeated, Span::Once, &[interrupted]), expected);
    }
}
