//! Which session is responsible for a home: one at a time, known by its key and by the identity of its agent.
//!
//! The first session whose hook runs in a home leaves a lease, `sessions/lease.json`. Another session is left alone as long
//! as the process of that agent may live. Once it is proven that it does not (it is gone, its pid belongs to another
//! process, or the machine was restarted), the next session takes the lease over. Unknown proves nothing.
//!
//! An agent keeps its process when a person begins a new conversation in it. So the lease of a process goes over to another
//! key when that key's session shows that a person has turned to it: it was begun in place of another one, or it is given a
//! prompt. A mere end of a turn shows nothing of the kind; there may be several conversations in one process. The same key under another process is a resumed session; it waits for the end of the other one
//! like anybody.
//!
//! If this is wrong, two sessions are held for one home, or none is; no watcher is lost by either.

use std::ffi::OsStr;
use std::io;

use serde::{Deserialize, Serialize};

use super::decision::Role;
use super::event::Event;
use super::harness::Harness;
use super::payload::{Payload, SessionKey};
use crate::base::failpoint::Failpoint;
use crate::system::World;
use crate::system::identity::{Difference, Identity, Observation, Sameness, Standpoint, compare};
use crate::system::storage::{self, Durability};

/// The lease in the directory of sessions.
pub const LEASE: &str = "lease.json";

const LIMIT: usize = 16 * 1024;
const SCHEMA: u32 = 1;

/// Who is responsible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    schema: u32,
    harness: Harness,
    session: String,
    agent: Identity,
    since: i64,
}

/// Who asks to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applicant {
    /// Its harness.
    pub harness: Harness,
    /// Its session.
    pub session: SessionKey,
    /// The process of its agent.
    pub agent: Identity,
    /// What it does.
    pub occasion: Occasion,
}

/// What a session does when it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// A person turns to it.
    Addressed,
    /// It goes on by itself, or nobody can tell.
    GoesOn,
}

impl Occasion {
    /// What it does at this moment. A session that starts up with its program has not taken another one's place.
    pub fn of(event: Event, payload: &Payload) -> Self {
        match event {
            Event::UserPrompt => Self::Addressed,
            Event::SessionStart if payload.source() != Some("startup") => Self::Addressed,
            Event::SessionStart | Event::PreTool | Event::TurnEnd | Event::Wait => Self::GoesOn,
        }
    }
}

/// How an applicant stands to a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseState {
    /// It is its own.
    Own,
    /// It is that of its agent, whose user has turned to this session.
    Renewed,
    /// Its holder is proven to be gone.
    Over(Difference),
    /// Its holder lives, or may live.
    Taken(String),
}

/// Compares an applicant with a lease and with what lives under the pid in it.
pub fn judge(lease: &Lease, applicant: &Applicant, seen: &Observation, here: &Standpoint) -> LeaseState {
    let ours = Observation::Seen(applicant.agent.clone());
    if lease.agent.pid == applicant.agent.pid && matches!(compare(&lease.agent, &ours, here), Sameness::Same(_)) {
        let is_unchanged = lease.harness == applicant.harness && lease.session == applicant.session.as_str();
        return match (is_unchanged, applicant.occasion) {
            (true, _) => LeaseState::Own,
            (false, Occasion::Addressed) => LeaseState::Renewed,
            (false, Occasion::GoesOn) => LeaseState::Taken("another session of this agent is responsible".to_owned()),
        };
    }
    let pid = lease.agent.pid;
    match compare(&lease.agent, seen, here) {
        Sameness::Different(difference) => LeaseState::Over(difference),
        Sameness::Same(_) => {
            LeaseState::Taken(format!("a session of {} (pid {pid}) is responsible", lease.harness.title()))
        }
        Sameness::Unknown(why) => {
            LeaseState::Taken(format!("a session of {} may be responsible: {why}", lease.harness.title()))
        }
    }
}

/// The part that an applicant has already, whatever else is going on: the lease is replaced as a whole and never changed in
/// place, so reading it needs no turn. `None`: there is something to write, for which [`claim`] is.
///
/// # Errors
/// Those of the file system.
pub fn settled_role<W: World>(
    world: &W,
    directory: &W::Node,
    applicant: &Applicant,
    here: &Standpoint,
) -> io::Result<Option<Role>> {
    // A record that cannot be understood proves nothing about anybody, and would be in the way for ever.
    let known = storage::read(world, directory, OsStr::new(LEASE), LIMIT)?
        .and_then(|bytes| serde_json::from_slice::<Lease>(&bytes).ok());
    let Some(lease) = known else { return Ok(None) };
    let seen = observe(world, &lease, applicant);
    Ok(match judge(&lease, applicant, &seen, here) {
        LeaseState::Own => Some(Role::Responsible),
        LeaseState::Taken(why) if world.is_protected(Failpoint::HooksProof) => Some(Role::Bystander(why)),
        LeaseState::Taken(_) | LeaseState::Renewed | LeaseState::Over(_) => None,
    })
}

/// Asks for the responsibility, and takes it if nobody has it. The caller has the turn of this directory.
///
/// # Errors
/// Those of the file system; nobody became responsible then.
pub fn claim<W: World>(world: &W, directory: &W::Node, applicant: &Applicant, here: &Standpoint) -> io::Result<Role> {
    if let Some(role) = settled_role(world, directory, applicant, here)? {
        return Ok(role);
    }
    let lease = Lease {
        schema: SCHEMA,
        harness: applicant.harness,
        session: applicant.session.as_str().to_owned(),
        agent: applicant.agent.clone(),
        since: world.now().wall_ms,
    };
    let content = serde_json::to_vec(&lease).map_err(io::Error::other)?;
    storage::replace(world, directory, LEASE, &content, Durability::Process)?;
    Ok(Role::Responsible)
}

fn observe<W: World>(world: &W, lease: &Lease, applicant: &Applicant) -> Observation {
    // The applicant's agent was observed a moment ago, and runs this very hook.
    if lease.agent.pid == applicant.agent.pid {
        return Observation::Seen(applicant.agent.clone());
    }
    match world.pin(lease.agent.pid) {
        Ok(Some(process)) => world.observe(&process),
        Ok(None) => Observation::Gone,
        Err(error) => Observation::Unreadable(format!("pid {} cannot be examined: {error}", lease.agent.pid)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::payload::{Reading, parse};
    use crate::system::identity::Pid;

    fn here() -> Standpoint {
        Standpoint { boot_id: Some("boot".to_owned()), pid_namespace: Some(1), time_namespace: None }
    }

    fn agent(pid: u32, inode: u64) -> Identity {
        Identity {
            pid: Pid::new(pid).unwrap(),
            start_ticks: inode,
            boot_id: Some("boot".to_owned()),
            pid_namespace: Some(1),
            pidfd_inode: Some(inode),
            executable: None,
            uid: 0,
        }
    }

    fn applicant(id: &str, agent: Identity) -> Applicant {
        let session = SessionKey::of(Harness::Claude, id);
        Applicant { harness: Harness::Claude, session, agent, occasion: Occasion::GoesOn }
    }

    fn lease(of: &Applicant) -> Lease {
        let session = of.session.as_str().to_owned();
        Lease { schema: 1, harness: of.harness, session, agent: of.agent.clone(), since: 0 }
    }

    #[test]
    fn a_lease_follows_the_person_to_another_session_of_the_agent() {
        let one = applicant("s", agent(10, 1));
        let seen = Observation::Seen(one.agent.clone());
        assert_eq!(judge(&lease(&one), &one, &seen, &here()), LeaseState::Own);
        let other = applicant("t", agent(10, 1));
        assert!(matches!(judge(&lease(&one), &other, &seen, &here()), LeaseState::Taken(_)));
        let addressed = Applicant { occasion: Occasion::Addressed, ..other };
        assert_eq!(judge(&lease(&one), &addressed, &seen, &here()), LeaseState::Renewed);
        let elsewhere = Applicant { agent: agent(11, 2), ..addressed };
        assert!(matches!(judge(&lease(&one), &elsewhere, &seen, &here()), LeaseState::Taken(_)));
    }

    #[test]
    fn a_person_turns_to_a_session_by_a_prompt_or_a_command_that_begins_it() {
        let occasion = |event, text: &str| match parse(text.as_bytes()) {
            Reading::Object(payload) => Occasion::of(event, &payload),
            other => panic!("{other:?}"),
        };
        for source in ["clear", "resume", "compact", "fork"] {
            let payload = format!(r#"{{"source":"{source}"}}"#);
            assert_eq!(occasion(Event::SessionStart, &payload), Occasion::Addressed);
            assert_eq!(occasion(Event::TurnEnd, &payload), Occasion::GoesOn);
        }
        assert_eq!(occasion(Event::SessionStart, r#"{"source":"startup"}"#), Occasion::GoesOn);
        assert_eq!(occasion(Event::SessionStart, "{}"), Occasion::Addressed);
        assert_eq!(occasion(Event::UserPrompt, "{}"), Occasion::Addressed);
    }

    #[test]
    fn a_lease_of_a_living_agent_is_never_taken_over_even_by_its_own_key() {
        let one = applicant("s", agent(10, 1));
        let seen = Observation::Seen(one.agent.clone());
        for other in [applicant("t", agent(11, 2)), applicant("s", agent(11, 2))] {
            assert!(matches!(judge(&lease(&one), &other, &seen, &here()), LeaseState::Taken(_)), "{other:?}");
        }
    }

    #[test]
    fn a_takeover_needs_proof() {
        let (one, other) = (applicant("s", agent(10, 1)), applicant("t", agent(11, 2)));
        let judged = |lease: &Lease, seen: &Observation| judge(lease, &other, seen, &here());
        assert_eq!(judged(&lease(&one), &Observation::Gone), LeaseState::Over(Difference::Gone));
        let reused = Observation::Seen(agent(10, 3));
        assert_eq!(judged(&lease(&one), &reused), LeaseState::Over(Difference::PidReused));
        let unreadable = Observation::Unreadable("hidden".to_owned());
        assert!(matches!(judged(&lease(&one), &unreadable), LeaseState::Taken(_)));
        let mut rebooted = lease(&one);
        rebooted.agent.boot_id = Some("earlier".to_owned());
        assert_eq!(judged(&rebooted, &unreadable), LeaseState::Over(Difference::OtherBoot));
        let mut elsewhere = lease(&one);
        elsewhere.agent.pid_namespace = Some(2);
        assert!(matches!(judged(&elsewhere, &Observation::Gone), LeaseState::Taken(_)));
    }

    /// The pid was given to another agent, which asks under the very key of the dead one.
    #[test]
    fn a_reused_pid_is_not_the_agent_that_had_it() {
        let one = applicant("s", agent(10, 1));
        let reused = applicant("s", agent(10, 9));
        let seen = Observation::Seen(reused.agent.clone());
        assert_eq!(judge(&lease(&one), &reused, &seen, &here()), LeaseState::Over(Difference::PidReused));
    }
}
