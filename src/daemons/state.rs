//! The state of a daemon: one pure function over what was observed.
//!
//! # Theory
//!
//! Three facts are asked for: the life lock (a kernel fact), the recorded process (compared by identity, never by its
//! bare number), and who answers at the ready socket, where there is one. Only if all three say "nobody" is the daemon
//! [`State::Absent`], and only that permits a start. A deadline that passes, a record that cannot be read and a
//! process that cannot be compared are [`State::Unknown`] or [`State::Stalled`], which permit nothing.

use std::fmt;

use super::records::{Life, Phase, Read};
use crate::base::error::Error;
use crate::lock::socket::probe::Readiness;
use crate::system::identity::{Pid, Sameness};

/// Whether a lock is held, as its visible mark shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockState {
    /// Nobody holds it.
    Free,
    /// Somebody holds it.
    Held,
    /// It cannot be told, for this reason.
    Unreadable(String),
}

/// What was observed of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The life lock.
    pub lock: LockState,
    /// The monitor's lock.
    pub monitor: LockState,
    /// The recorded life, and whether its process is the one that was recorded.
    pub life: Read<(Box<Life>, Sameness)>,
    /// What is at the ready socket, if there is to be one and it was asked.
    pub socket: Option<SocketState>,
}

impl Evidence {
    /// The recorded life, if its process is the one that was recorded.
    pub fn living(&self) -> Option<&Life> {
        let (life, _) = self.life.known().filter(|(_, sameness)| matches!(sameness, Sameness::Same(_)))?;
        Some(life)
    }
}

/// The state of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketState {
    /// Nobody.
    Absent,
    /// A server that does its work.
    Answers,
    /// A server that does not answer, or not yet.
    Silent(String),
    /// Somebody else, or what cannot be asked.
    Foreign(String),
}

impl From<Result<Readiness, Error>> for SocketState {
    fn from(answer: Result<Readiness, Error>) -> Self {
        match answer {
            Ok(Readiness::Ready(_)) => Self::Answers,
            Ok(Readiness::Absent(_)) => Self::Absent,
            Ok(silent @ (Readiness::Starting | Readiness::Stalled(_))) => Self::Silent(silent.to_string()),
            Ok(foreign @ Readiness::Foreign(_)) => Self::Foreign(foreign.to_string()),
            // What cannot be asked is not absent.
            Err(error) => Self::Foreign(format!("cannot be asked: {error}")),
        }
    }
}

/// Judges what was observed.
pub fn judge(evidence: &Evidence) -> State {
    match &evidence.life {
        Read::Some((life, Sameness::Same(_))) => living(life, evidence),
        Read::Some((life, Sameness::Different(_))) => gone(Some(life.generation), evidence),
        Read::None => gone(None, evidence),
        // Nobody lives who kept the lock; a program that gave it back cannot be recognised without its record.
        Read::Damaged(_) if (&evidence.lock, &evidence.monitor) == (&LockState::Free, &LockState::Free) => {
            unlocked(evidence)
        }
        Read::Some((_, Sameness::Unknown(why))) | Read::Damaged(why) => State::Unknown(why.clone()),
    }
}

fn living(life: &Life, evidence: &Evidence) -> State {
    let (pid, generation) = (life.pid(), life.generation);
    let stalled = |why: &str| State::Stalled { pid, generation, why: why.to_owned() };
    match (life.phase, &evidence.socket) {
        (_, Some(SocketState::Foreign(who))) => State::Foreign(who.clone()),
        // Its monitor judges, as long as there is one.
        (Phase::Starting, _) if evidence.monitor != LockState::Free => State::Starting { pid: Some(pid) },
        (Phase::Ready { .. }, None) | (_, Some(SocketState::Answers)) => State::Ready { pid, generation },
        (Phase::Ready { .. }, Some(SocketState::Absent)) => stalled("its socket is gone"),
        (Phase::Ready { .. }, Some(SocketState::Silent(why))) => stalled(why),
        (Phase::Starting, _) => stalled("it was not ready when its monitor ended"),
    }
}

/// Judges a daemon whose recorded process, if there is one, has ended.
fn gone(generation: Option<u64>, evidence: &Evidence) -> State {
    match &evidence.lock {
        LockState::Unreadable(why) => State::Unknown(why.clone()),
        // A monitor is about to start the next life, or to clear up after the last one.
        _ if evidence.monitor == LockState::Held => State::Starting { pid: None },
        LockState::Held => State::Leftover { generation },
        LockState::Free => unlocked(evidence),
    }
}

/// Judges a daemon whose life lock nobody holds.
fn unlocked(evidence: &Evidence) -> State {
    match &evidence.socket {
        None | Some(SocketState::Absent) => State::Absent,
        Some(SocketState::Answers) => {
            State::Foreign("is served by a process that is not the recorded daemon".to_owned())
        }
        Some(SocketState::Silent(why) | SocketState::Foreign(why)) => State::Foreign(why.clone()),
    }
}

/// A phrase that goes on after the daemon's name: `is ready, pid 12`.
impl fmt::Display for State {
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
