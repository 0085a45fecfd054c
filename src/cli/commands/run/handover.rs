//! How the watcher that a manager starts waits for a shell watcher to end.
//!
//! # Theory
//!
//! A watcher of the shell scripts is respected: nothing that nobody told to replaces it. But it ends with its next wake,
//! and a service that had left content would be started by nobody then. So the service's process stands by. To its
//! manager it is ready, it says for whom it waits, and it gives the signs of life that it owes. It takes the home once
//! that is free.
//!
//! Two things end it before. Whoever asks it to leave is heard at once. And a person who has stopped the shell watcher
//! wants nobody to watch, so it leaves with success, which no manager answers with another start.
//!
//! # Taking over
//!
//! A watcher of ours that its manager does not keep is replaced by the one that the manager starts. It is the second half of
//! a forced restart, made by the successor itself: it has read its settings and opened its sources, so it *stands by*; only
//! then is the holder proven to be this home's watcher and asked to leave ([`Holder`]), and the successor takes the lock the
//! moment it is free. A holder that does not leave in its time of grace is killed through the same pin. A holder that nobody
//! can prove to be this home's watcher is left alone.
//!
//! It goes in one direction only. A watcher that lost its place this way leaves with success, which no manager answers
//! with another start, and `arm` never asks a healthy watcher to leave without being told to. So nobody fights.
//!
//! If this is wrong, a watcher leaves and nobody takes its place, or a stranger is signalled. Or nobody watches after the next wake of a shell watcher, a stop is undone, or a manager kills a process
//! that waits well.
//!
//! # Limits
//!
//! It notices the end of a shell watcher that was killed by looking, once a second.

use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use crate::base::failpoint::Failpoint;
use crate::cli::session::Session;
use crate::ownership::foreign_holder::ForeignObservation;
use crate::ownership::terminate::{self, Proven};
use crate::ownership::verdict::{Evidence, HowLeft, OwnerEvidence, Verdict};
use crate::system::World;
use crate::system::identity::Pid;
use crate::system::platform;
use crate::system::requests::{Cause, Request};
use crate::system::sd_notify::ServiceNotifier;
use crate::watcher::events::Event;
use crate::watcher::source::Message;

/// How long the end of a shell watcher that leaves no trace may go unnoticed.
const LOOK: Duration = Duration::from_secs(1);

/// How standing by ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// No shell watcher holds the home.
    Free,
    /// This process is asked to leave, for this cause.
    Asked(Cause),
    /// A person has stopped the shell watcher that had this pid.
    Stopped(Pid),
}

/// The shell watcher behind which a service has to wait, if one watches, or is to watch, this home.
pub fn ahead(session: &Session) -> Option<ForeignObservation> {
    let (evidence, verdict) = session.verdict();
    ahead_of_us(&evidence, &verdict).filter(|_| session.world.is_protected(Failpoint::ServiceStandby))
}

/// One that nobody can prove to be this home's watcher is not waited for: that is for a person to look at.
fn ahead_of_us(evidence: &Evidence, verdict: &Verdict) -> Option<ForeignObservation> {
    let is_one = verdict.is_watching() || matches!(verdict, Verdict::Stuck { .. });
    evidence.foreign_holder().filter(|_| is_one).cloned()
}

/// Stands by while a shell watcher holds the home. What else comes meanwhile, and is not only a reason to look at a home
/// that will be looked at anyway, comes again when the home is free.
pub fn until_free(session: &Session, (sender, messages): (&Sender<Message>, &Receiver<Message>)) -> End {
    let Some(mut shell) = ahead(session) else { return End::Free };
    let mut voice = ServiceNotifier::of(&session.environment, session.world.own_pid());
    let (mut said, mut later) = (String::new(), Vec::new());
    let end = loop {
        let behind = name(&shell);
        if behind != said {
            session.console.note(format!("standing by behind {behind}"));
            said.clone_from(&behind);
        }
        let pid = shell.pid;
        voice.stands_by(&behind, session.world.now().monotonic);
        if let Some(cause) = listen(messages, rest(&voice, session), &mut later) {
            voice.stops();
            return End::Asked(cause);
        }
        match ahead(session) {
            Some(next) => shell = next,
            None => break how_it_ended(pid, &session.verdict().1),
        }
    };
    match end {
        End::Stopped(_) => voice.stops(),
        End::Free | End::Asked(_) => voice.stands_by_no_more(),
    }
    for message in later {
        // The receiver is alive: it was borrowed just now.
        let _always_heard = sender.send(message);
    }
    end
}

fn name(shell: &ForeignObservation) -> String {
    shell.pid.map_or_else(|| "whoever takes the home just now".to_owned(), |_| shell.to_string())
}

/// Why the shell watcher holds the home no more: pure.
fn how_it_ended(pid: Option<Pid>, verdict: &Verdict) -> End {
    match (pid, verdict) {
        (Some(pid), Verdict::Stopped { last: Some((last, HowLeft::Stopped)) }) if pid == *last => End::Stopped(pid),
        _ => End::Free,
    }
}

fn rest(voice: &ServiceNotifier, session: &Session) -> Duration {
    let due = voice.due_at().map_or(LOOK, |at| at.saturating_sub(session.world.now().monotonic));
    due.min(LOOK)
}

/// Waits for anything to happen, at most so long, and gives the cause for which this process is asked to leave.
fn listen(messages: &Receiver<Message>, at_most: Duration, later: &mut Vec<Message>) -> Option<Cause> {
    let mut next = messages.recv_timeout(at_most).ok();
    while let Some(message) = next {
        match message {
            Message::Request(Request::Leave(cause @ (Cause::Terminated | Cause::Interrupted))) => return Some(cause),
            Message::Event(Event::Touched { .. } | Event::Overflow) => {}
            Message::Request(request)
                if later.iter().any(|kept| matches!(kept, Message::Request(known) if *known == request)) => {}
            other => later.push(other),
        }
        next = messages.try_recv().ok();
    }
    None
}

/// The holder, proven to be this home's watcher.
pub struct Holder {
    process: Proven<platform::Pinned>,
}

/// Proves who holds the home. `None`: nobody does any more.
///
/// # Errors
/// The reason why nobody may be asked to leave.
pub fn holder(session: &Session) -> Result<Option<Holder>, String> {
    let (evidence, verdict) = session.settled_verdict(session.settings().arm_timeout);
    // What the scripts' lock proves is not enough to end a watcher that nobody asked to replace. Where it proves enough,
    // this process stands by before it comes here.
    if evidence.foreign_holder().is_some() {
        return Err(format!("a watcher of the shell scripts holds it: {verdict}"));
    }
    let OwnerEvidence::Recorded(owner, _) = &evidence.owner else { return Err(verdict.to_string()) };
    let proven = terminate::prove(session.world.as_ref(), &session.place, owner, &session.here);
    proven.map(|proven| proven.map(|process| Holder { process })).map_err(|refusal| refusal.to_string())
}

impl Holder {
    /// Asks it to leave.
    ///
    /// # Errors
    /// The system refuses the signal.
    pub fn ask(&self, session: &Session) -> Result<(), String> {
        self.process.ask(session.world.as_ref()).map(drop).map_err(|refusal| refusal.to_string())
    }

    /// Kills it if it is still there.
    ///
    /// # Errors
    /// It is still there although it was killed, or the system refuses the signal.
    pub fn insist(&self, session: &Session) -> Result<(), String> {
        if self.process.has_ended_within(session.world.as_ref(), Duration::ZERO) {
            return Ok(());
        }
        self.process.insist(session.world.as_ref()).map(drop).map_err(|refusal| refusal.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_counts_if_it_was_that_of_the_one_that_was_waited_for() {
        let pid = |number| Pid::new(number).unwrap();
        let stopped = |number, how| Verdict::Stopped { last: Some((pid(number), how)) };
        for (waited_for, verdict, end) in [
            (Some(pid(7)), stopped(7, HowLeft::Stopped), End::Stopped(pid(7))),
            (Some(pid(7)), stopped(8, HowLeft::Stopped), End::Free),
            (Some(pid(7)), stopped(7, HowLeft::Otherwise("woken".to_owned())), End::Free),
            (None, stopped(7, HowLeft::Stopped), End::Free),
            (Some(pid(7)), Verdict::Stopped { last: None }, End::Free),
            (Some(pid(7)), Verdict::Starting { pid: None }, End::Free),
        ] {
            assert_eq!(how_it_ended(waited_for, &verdict), end, "{waited_for:?} {verdict:?}");
        }
    }

    #[test]
    fn what_is_no_reason_to_leave_comes_again_later() {
        let (sender, messages) = std::sync::mpsc::channel();
        let mut later = Vec::new();
        let touched = || Event::Touched { directory: crate::watcher::events::Tag::State, name: "x".into() };
        for message in [
            Message::Event(touched()),
            Message::Request(Request::Reload),
            Message::Request(Request::Reload),
            Message::Event(Event::Lost("full".to_owned())),
            Message::Event(Event::Overflow),
        ] {
            sender.send(message).unwrap();
        }
        assert_eq!(listen(&messages, Duration::from_secs(60), &mut later), None);
        assert_eq!(later.len(), 2, "{later:?}");
        sender.send(Message::Event(touched())).unwrap();
        sender.send(Message::Request(Cause::Terminated.into())).unwrap();
        assert_eq!(listen(&messages, Duration::from_secs(60), &mut later), Some(Cause::Terminated));
    }
}
