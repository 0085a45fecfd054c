//! The doctor: what is wrong with a home or with the machine under it, and how to mend it.
//!
//! # Theory
//!
//! Each examination looks at one thing and gives findings: a grade, what was found, and the command that mends it.
//! Looking and judging are apart, as everywhere; the verdict on the watcher is the one that all commands ask for. An
//! examination that cannot look says so as a finding and never ends the round, because it is most needed when
//! much is broken: with settings that cannot be understood the defaults stand in, and only that is wrong.
//!
//! A machine on which something does not answer is what a doctor is called for. So the examinations run in a thread of their
//! own and tell what they find as they find it, and [`gather`] waits for each of them only so long: what it has heard by then
//! is told, and so is what does not answer. A call that the kernel does not answer keeps its thread for ever, but not the
//! person who asked.
//!
//! Nothing is changed, but for the self-test of the lock, which makes and removes a directory of its own. A repair is made
//! only when it is asked for, and only if it can lose nothing: see [`finding::Repair`].
//!
//! If this is wrong, a person trusts a home that loses wakes, or "mends" one that was well.
//!
//! Limits: it says what is so now, on this machine.

mod directories;
pub mod finding;
mod hooks;
mod machine;
mod service;
mod settings;
mod watchers;

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use self::finding::{Finding, Mend};
use crate::base::error::{Error, Result};
use crate::base::failpoint::Failpoint;
use crate::ownership::context::HomeContext;
use crate::system::World;

/// Examines a home, and tells what is looked at and what was found. `broken` is what kept its session from being opened as
/// it should be.
pub fn examine(session: &HomeContext, broken: &[Error], tell: &dyn Fn(Report)) {
    let look = |check, findings: &dyn Fn() -> Vec<Finding>| {
        tell(Report::Looking(check));
        if let Err(error) = session.world.reach(Failpoint::DoctorLook) {
            tracing::debug!("not paused: {error}");
        }
        tell(Report::Found(findings()));
    };
    look("settings", &|| settings::examine(session, broken));
    // By processes of its own, before this one looks into a directory: it may be one in which calls hang.
    tell(Report::Looking("lock"));
    let locks = machine::locks(session);
    tell(Report::Found(locks.findings));
    if locks.is_out_of_order {
        return;
    }
    tell(Report::Looking("directories"));
    let home = directories::examine(session);
    tell(Report::Found(home.findings));
    if home.has_state {
        look("events", &|| machine::events(session));
    }
    look("clock", &|| machine::examine(session));
    look("watcher", &|| watchers::examine(session));
    look("wakes", &|| watchers::wakes(session));
    look("service", &|| service::examine(session));
    tell(Report::Looking("hooks"));
    let hooks = hooks::find(session);
    tell(Report::Found(hooks.findings));
    for place in &hooks.places {
        look("hooks", &|| hooks::examine(session, place));
    }
}

/// How long one examination may take. Each takes milliseconds, except the ones of locks and of the service, which wait for
/// others and have deadlines of their own that are shorter than this.
const EACH_WITHIN: Duration = Duration::from_secs(6);

/// What the working thread says.
#[derive(Debug)]
pub enum Report {
    /// It looks at this now.
    Looking(&'static str),
    /// It found this.
    Found(Vec<Finding>),
    /// Something was mended: what was found before may not be so any more.
    Afresh,
    /// It has come to its end.
    Ended(Result<()>),
}

/// Has a thread do the work, and gathers what it finds until it ends or does not go on.
///
/// # Errors
/// The error with which the work ended, and that no thread can be had.
pub fn gather(work: impl FnOnce(&dyn Fn(Report)) -> Result<()> + Send + 'static) -> Result<Vec<Finding>> {
    let (sender, reports) = channel();
    let tell = move |report| {
        // Whoever listened may have given up on this thread.
        let _heard = sender.send(report);
    };
    let examine = move || {
        let ended = work(&tell);
        tell(Report::Ended(ended));
    };
    let thread = thread::Builder::new().name("examination".to_owned()).spawn(examine);
    thread.map_err(|error| Error::Failed(format!("cannot start a thread: {error}")))?;
    listen(&reports, EACH_WITHIN)
}

fn listen(reports: &Receiver<Report>, each_within: Duration) -> Result<Vec<Finding>> {
    let (mut findings, mut at) = (Vec::new(), "home");
    loop {
        match reports.recv_timeout(each_within) {
            Ok(Report::Looking(check)) => at = check,
            Ok(Report::Found(found)) => findings.extend(found),
            Ok(Report::Afresh) => findings.clear(),
            Ok(Report::Ended(outcome)) => return outcome.map(|()| findings),
            Err(why) => {
                findings.push(unanswered(at, why, each_within));
                return Ok(findings);
            }
        }
    }
}

fn unanswered(at: &'static str, why: RecvTimeoutError, each_within: Duration) -> Finding {
    let found = match why {
        RecvTimeoutError::Timeout => format!("no answer within {}s; nothing more was examined", each_within.as_secs()),
        RecvTimeoutError::Disconnected => "the examination broke off; nothing more was examined".to_owned(),
    };
    let mend = "look whether the file system of this home answers, for example with: df; then examine again";
    Finding::fail(at, found, Mend::command(mend))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Grade;

    #[test]
    fn what_was_heard_before_the_silence_is_told() {
        let (sender, reports) = channel();
        sender.send(Report::Looking("settings")).unwrap();
        sender.send(Report::Found(vec![Finding::pass("settings", "")])).unwrap();
        sender.send(Report::Looking("lock")).unwrap();
        let findings = listen(&reports, Duration::from_millis(1)).unwrap();
        let told: Vec<_> = findings.iter().map(|finding| (finding.check, finding.grade)).collect();
        assert_eq!(told, [("settings", Grade::Pass), ("lock", Grade::Fail)]);
    }

    #[test]
    fn after_a_repair_only_what_is_found_again_counts() {
        let work = |tell: &dyn Fn(Report)| {
            tell(Report::Found(vec![Finding::fail("a", "", Mend::Nothing)]));
            tell(Report::Afresh);
            tell(Report::Found(vec![Finding::pass("a", "")]));
            Ok(())
        };
        assert_eq!(gather(work).unwrap(), [Finding::pass("a", "")]);
        assert!(gather(|_| Err(Error::Usage("no home".to_owned()))).is_err());
    }
}
