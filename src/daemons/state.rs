//! How things stand with a daemon: one pure function over what was seen.
//!
//! # Theory
//!
//! Three facts are asked for: the life lock (a kernel fact), the recorded process (compared by identity, never by its
//! bare number), and who answers at the ready socket, where there is one. Only if all three say "nobody" is the daemon
//! [`Standing::Absent`], and only that permits a start. A deadline that passes, a record that cannot be read and a
//! process that cannot be compared are [`Standing::Unknown`] or [`Standing::Stalled`], which permit nothing.

use std::fmt;

use super::records::{Life, Phase, Read};
use crate::lock::socket::probe::Readiness;
use crate::system::identity::{Difference, Pid, Sameness};

/// Whether a lock is held, as its visible mark shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockSight {
    /// Nobody holds it.
    Free,
    /// Somebody holds it.
    Held,
    /// It cannot be told, for this reason.
    Unreadable(String),
}

/// What was seen of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The life lock.
    pub lock: LockSight,
    /// The monitor's lock.
    pub monitor: LockSight,
    /// The recorded life, and whether its process is the one that was recorded.
    pub life: Read<(Box<Life>, Sameness)>,
    /// Who answers at the ready socket, if there is to be one and it was asked.
    pub socket: Option<Result<Readiness, String>>,
}

/// How things stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing of it lives: it may be started.
    Absent,
    /// A monitor is at work, and the daemon is not ready yet.
    Starting {
        /// The daemon, once it exists.
        pid: Option<Pid>,
    },
    /// It is ready.
    Ready {
        /// The daemon.
        pid: Pid,
        /// Its life.
        generation: u64,
    },
    /// It lives and does not answer.
    Stalled {
        /// The daemon.
        pid: Pid,
        /// Its life.
        generation: u64,
        /// How that shows.
        why: String,
    },
    /// Its first process is gone, and what it started still holds the life lock.
    Leftover {
        /// The life whose rest it is.
        generation: Option<u64>,
    },
    /// Somebody else is where it should be.
    Foreign(String),
    /// Nobody can tell.
    Unknown(String),
}

/// What is at the ready socket, as far as it decides.
enum Voice {
    /// Nobody.
    Nobody,
    /// The daemon answers, or nothing is there to be asked.
    Well,
    /// It is there and does not answer, or not yet.
    Silent(String),
    /// Somebody else.
    Stranger(String),
}

fn voice(evidence: &Evidence) -> Option<Voice> {
    evidence.socket.as_ref().map(|answer| match answer {
        Ok(Readiness::Ready(_)) => Voice::Well,
        Ok(Readiness::Absent(_)) => Voice::Nobody,
        Ok(silent @ (Readiness::Starting | Readiness::Stalled(_))) => Voice::Silent(silent.to_string()),
        Ok(stranger @ Readiness::Foreign(_)) => Voice::Stranger(stranger.to_string()),
        // What cannot be asked is not absent.
        Err(why) => Voice::Stranger(format!("cannot be asked: {why}")),
    })
}

/// Judges what was seen.
pub fn judge(evidence: &Evidence) -> Standing {
    let (life, sameness) = match &evidence.life {
        Read::Some((life, sameness)) => (life, sameness),
        Read::None => return unrecorded(evidence),
        Read::Damaged(why) => return damaged(evidence, why),
    };
    match sameness {
        Sameness::Same(_) => living(life, evidence),
        Sameness::Unknown(why) => Standing::Unknown(why.clone()),
        Sameness::Different(difference) => gone(life, difference, evidence),
    }
}

fn living(life: &Life, evidence: &Evidence) -> Standing {
    let (pid, generation) = (life.pid(), life.generation);
    match (life.phase, voice(evidence)) {
        (_, Some(Voice::Stranger(who))) => Standing::Foreign(who),
        // Its monitor judges, as long as there is one.
        (Phase::Starting, _) if evidence.monitor != LockSight::Free => Standing::Starting { pid: Some(pid) },
        (Phase::Ready { .. }, None) | (_, Some(Voice::Well)) => Standing::Ready { pid, generation },
        (Phase::Ready { .. }, Some(Voice::Nobody)) => {
            Standing::Stalled { pid, generation, why: "its socket is gone".to_owned() }
        }
        (Phase::Ready { .. }, Some(Voice::Silent(why))) => Standing::Stalled { pid, generation, why },
        (Phase::Starting, _) => {
            Standing::Stalled { pid, generation, why: "it was not ready when its monitor ended".to_owned() }
        }
    }
}

fn gone(life: &Life, _difference: &Difference, evidence: &Evidence) -> Standing {
    match &evidence.lock {
        LockSight::Unreadable(why) => Standing::Unknown(why.clone()),
        // A monitor is about to start the next life, or to clear up after the last one.
        _ if evidence.monitor == LockSight::Held => Standing::Starting { pid: None },
        LockSight::Held => Standing::Leftover { generation: Some(life.generation) },
        LockSight::Free => nobody_holds(evidence),
    }
}

fn unrecorded(evidence: &Evidence) -> Standing {
    match &evidence.lock {
        LockSight::Unreadable(why) => Standing::Unknown(why.clone()),
        _ if evidence.monitor == LockSight::Held => Standing::Starting { pid: None },
        LockSight::Held => Standing::Leftover { generation: None },
        LockSight::Free => nobody_holds(evidence),
    }
}

fn damaged(evidence: &Evidence, why: &str) -> Standing {
    match evidence.lock {
        // Nobody lives who kept the lock; a program that gave it back cannot be recognised without its record.
        LockSight::Free if evidence.monitor == LockSight::Free && evidence.socket.is_none() => Standing::Absent,
        LockSight::Free if evidence.monitor == LockSight::Free => nobody_holds(evidence),
        _ => Standing::Unknown(why.to_owned()),
    }
}

fn nobody_holds(evidence: &Evidence) -> Standing {
    match voice(evidence) {
        None | Some(Voice::Nobody) => Standing::Absent,
        Some(Voice::Well) => Standing::Foreign("is served by a process that is not the recorded daemon".to_owned()),
        Some(Voice::Silent(why) | Voice::Stranger(why)) => Standing::Foreign(why),
    }
}

/// A phrase that goes on after the daemon's name: `is ready, pid 12`.
impl fmt::Display for Standing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => formatter.write_str("does not run"),
            Self::Starting { pid: Some(pid) } => write!(formatter, "is starting, pid {pid}"),
            Self::Starting { pid: None } => formatter.write_str("is starting"),
            Self::Ready { pid, .. } => write!(formatter, "is ready, pid {pid}"),
            Self::Stalled { pid, why, .. } => write!(formatter, "lives as pid {pid} and does not answer: {why}"),
            Self::Leftover { .. } => {
                formatter.write_str("has ended, and processes that it started still hold its life lock")
            }
            Self::Foreign(who) => write!(formatter, "cannot be there, because its socket {who}"),
            Self::Unknown(why) => write!(formatter, "may or may not run: {why}"),
        }
    }
}
