//! The doctor: what is wrong with a home or with the machine under it, and how to mend it.
//!
//! # Theory
//!
//! Each examination looks at one thing and gives findings: a grade, what was found, and the command that mends it.
//! Looking and judging are apart, as everywhere; the verdict on the watcher is the one that all commands ask for. An
//! examination that cannot look says so as a finding and never ends the round, because it is most needed when
//! much is broken: with settings that cannot be understood the defaults stand in, and only that is wrong.
//!
//! Nothing is changed, but for the self-test of the lock, which makes and removes a directory of its own. A repair is made
//! only when it is asked for, and only if it can lose nothing: see [`repair`].
//!
//! If this is wrong, a person trusts a home that loses wakes, or "mends" one that was well.
//!
//! Limits: it says what is so now, on this machine.

pub mod finding;
mod hooks;
mod locks;
mod machine;
mod places;
pub mod repair;
mod service;
mod settings;
mod wakes;
mod watchers;

use self::finding::Finding;
use crate::commands::context::Session;
use crate::error::Error;

/// Examines a home. `broken` is what kept its session from being opened as it should be.
pub fn examine(session: &Session, broken: &[Error]) -> Vec<Finding> {
    let mut findings = settings::examine(session, broken);
    // By processes of its own, before this one looks into a directory: it may be one in which calls hang.
    let locks = locks::examine(session);
    findings.extend(locks.findings);
    if locks.is_out_of_order {
        return findings;
    }
    let home = places::examine(session);
    findings.extend(home.findings);
    if home.has_state {
        findings.extend(machine::events(session));
    }
    findings.extend(machine::examine(session));
    findings.extend(watchers::examine(session));
    findings.extend(wakes::examine(session));
    findings.extend(service::examine(session));
    findings.extend(hooks::examine(session));
    findings
}
