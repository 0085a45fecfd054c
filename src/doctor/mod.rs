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
//! own and tell what they find as they find it, and [`runner`] waits for each of them only so long: what it has heard by then
//! is told, and so is what does not answer.
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
pub mod runner;
mod service;
mod settings;
mod watchers;

use self::finding::Finding;
use self::runner::Report;
use crate::base::error::Error;
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
