//! Who a process is, beyond its pid.
//!
//! A pid is a number that the kernel gives away again: with forced reuse, 295 of 300 reused pids even
//! had the same start tick. So a process is recorded as an [`Identity`] of many independent facts, and a
//! record is compared with what lives under its pid today by the pure function [`compare`]. It has three
//! answers, and [`Sameness::Unknown`] authorises nothing: not a signal, not a takeover, not the word "dead".
//!
//! What decides, in this order: another pid namespace cannot be compared; another boot is another process;
//! the pidfd inode (Linux 6.9 and later) is never reused within a boot and decides alone; a different
//! start tick is a different process; the same tick and the same executable (device and inode, so that an
//! upgraded binary is still recognised) are the same process; anything less is unknown.
//!
//! Limits: facts written by the same user can be forged. Whoever signals asks the kernel besides
//! who took the home's lock .

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A process number that may be acted on: never 0, never 1, never beyond `i32::MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Pid(NonZeroU32);

impl Pid {
    /// The number, if it can be the pid of an ordinary process.
    pub fn new(number: u32) -> Option<Self> {
        let is_ordinary = number > 1 && i32::try_from(number).is_ok();
        NonZeroU32::new(number).filter(|_| is_ordinary).map(Self)
    }

    /// The number itself.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

/// A number that no ordinary process can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} cannot be the pid of an ordinary process")]
pub struct NotAPid(u32);

impl TryFrom<u32> for Pid {
    type Error = NotAPid;
    fn try_from(number: u32) -> Result<Self, NotAPid> {
        Self::new(number).ok_or(NotAPid(number))
    }
}

impl From<Pid> for u32 {
    fn from(pid: Pid) -> Self {
        pid.get()
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The executable a process runs: the path is for people, device and inode are for comparing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executable {
    /// The path at the time of recording.
    pub path: PathBuf,
    /// Device of the file.
    pub device: u64,
    /// Inode of the file.
    pub inode: u64,
}

/// Everything that is recorded about a process in order to recognise it later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The process number in its own pid namespace.
    pub pid: Pid,
    /// Start time in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub start_ticks: u64,
    /// The boot in which it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// Inode of its pid namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_namespace: Option<u64>,
    /// Inode of its pidfd where the kernel gives each process one of its own (Linux 6.9).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pidfd_inode: Option<u64>,
    /// Its executable, where it can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<Executable>,
    /// Its real user.
    pub uid: u32,
}

/// What was seen under a pid just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// There is no such process, or it has ended and only waits to be reaped.
    Gone,
    /// Something is there, but it cannot be read.
    Unreadable(String),
    /// This process lives there.
    Seen(Identity),
}

/// Whether a record and what lives under its pid are one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sameness {
    /// They are; the proof says how strong the claim is.
    Same(Proof),
    /// They are not, or nothing lives there.
    Different(Difference),
    /// Nobody can tell, for this reason.
    Unknown(String),
}

/// Why a record and an observation are the same process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The kernel's own number for this one process is the same.
    PidfdInode,
    /// Start tick and executable agree, which is enough to report and to ask, not to kill.
    StartAndExecutable,
    /// The kernel names this process as the one who took the lock in question.
    LockTaker,
    /// The start time agrees, for a protocol that records nothing more.
    Start,
}

/// Why they are not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Nothing lives under that pid.
    Gone,
    /// The machine was started again since.
    OtherBoot,
    /// Another process has the pid now.
    PidReused,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Gone => "no such process",
            Self::OtherBoot => "the machine was restarted since",
            Self::PidReused => "another process has that pid now",
        })
    }
}

/// The observer's own standpoint, which limits what it can compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standpoint {
    /// The boot the observer runs in.
    pub boot_id: Option<String>,
    /// The observer's pid namespace.
    pub pid_namespace: Option<u64>,
    /// The observer's time namespace, which shifts its clocks.
    pub time_namespace: Option<u64>,
}

/// Compares a record with what was seen under its pid.
pub fn compare(recorded: &Identity, seen: &Observation, here: &Standpoint) -> Sameness {
    if let (Some(then), Some(now)) = (&recorded.boot_id, &here.boot_id)
        && then != now
    {
        return Sameness::Different(Difference::OtherBoot);
    }
    if let (Some(theirs), Some(ours)) = (recorded.pid_namespace, here.pid_namespace)
        && theirs != ours
    {
        return Sameness::Unknown(format!("pid {} belongs to another pid namespace", recorded.pid));
    }
    let seen = match seen {
        Observation::Gone => return Sameness::Different(Difference::Gone),
        Observation::Unreadable(why) => return Sameness::Unknown(why.clone()),
        Observation::Seen(seen) => seen,
    };
    if let (Some(then), Some(now)) = (recorded.pidfd_inode, seen.pidfd_inode) {
        return if then == now {
            Sameness::Same(Proof::PidfdInode)
        } else {
            Sameness::Different(Difference::PidReused)
        };
    }
    if recorded.start_ticks != seen.start_ticks {
        return Sameness::Different(Difference::PidReused);
    }
    match (&recorded.executable, &seen.executable) {
        (Some(then), Some(now)) if (then.device, then.inode) == (now.device, now.inode) => {
            Sameness::Same(Proof::StartAndExecutable)
        }
        (Some(_), Some(_)) => {
            Sameness::Unknown(format!("pid {} started at the recorded tick but runs another executable", recorded.pid))
        }
        _ => Sameness::Unknown(format!("the executable of pid {} cannot be read", recorded.pid)),
    }
}

#[cfg(test)]
mod tests;
