//! What is left of a life whose first process is gone, and making it leave.
//!
//! # Theory
//!
//! A daemon starts processes, and its end does not end them. Nobody may be signalled because of a number, a name or an
//! ancestry that was read some time ago, so only two kinds of processes are taken for a rest of a life, each with a proof:
//!
//! - *Holders of its life lock.* The kernel itself says that an open file of the process holds the lock, and that open file
//!   can only have been inherited. To have the file of the lock open is no proof: whoever looks has that too. The monitor's
//!   lock must be held meanwhile, or the holder could be the beginning of the next life.
//! - *Members of its session.* A session's number cannot be given away as long as a process of it lives or waits to be
//!   reaped. So it is listed while such a process, the *anchor*, is known to be there.
//!
//! Each process is pinned first, proven second and signalled through the pin, so that nobody else is hit whatever becomes of
//! its number in between.
//!
//! What breaks if this is wrong: a stranger is killed, or a rest of the last life works beside the next one.
//!
//! Limits: a process that left the session and closed the life lock has left the daemon, and is let alone. Processes of
//! another user cannot be examined, so they are neither signalled nor counted.

use std::io;
use std::time::Duration;

use super::locks::MonitorLock;
use crate::base::failpoint::Failpoint;
use crate::lock::Ownership;
use crate::settings::daemon_definition::StopSignal;
use crate::system::identity::Pid;
use crate::system::platform::{self, Pinned};
use crate::system::{Activity, Facts, KILL_TIMEOUT, Real, Signal, TableEntry, World};

/// Processes that are proven to be of one life, each pinned.
#[derive(Debug, Default)]
pub struct Orphans {
    processes: Vec<Pinned>,
}

/// Why a session's number is still that session's.
#[derive(Debug, Clone, Copy)]
pub enum Anchor<'a> {
    /// This process is proven to be of the life and is pinned; it is not counted as a rest itself.
    Living(&'a Pinned),
    /// A process of the session is a child of this one and will not be reaped meanwhile.
    Unreaped,
}

/// What became of making them leave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cleared {
    /// How many left on being asked, or had left already.
    pub asked: usize,
    /// How many were killed.
    pub killed: usize,
    /// Those that are still there: frozen, in uninterruptible sleep, or of another user.
    pub still_there: Vec<Pid>,
}

impl Orphans {
    /// The living members of a session, other than this process and the anchor. None, if the anchor is not of the session: a
    /// number that somebody wrote down says nothing about whose it is.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn of_session(session: Pid, anchor: Anchor<'_>) -> io::Result<Self> {
        let anchored = match anchor {
            Anchor::Living(process) => process.pid().get(),
            Anchor::Unreaped => std::process::id(),
        };
        let is_of_it = |entry: &TableEntry| entry.session == session.get();
        let is_member =
            |pid| platform::table_entry(pid).is_some_and(|entry| is_of_it(&entry) && entry.activity != Activity::Ended);
        let members = pinned_and_proven(|pid| pid != anchored && is_member(pid), is_member)?;
        // The anchor is looked at last: it was there all the time in which the members were proven.
        let holds = match anchor {
            Anchor::Living(process) => {
                let is_of_it = platform::table_entry(anchored).is_some_and(|entry| is_of_it(&entry));
                (is_of_it || !Real.is_protected(Failpoint::DaemonLeftoverSession))
                    && !platform::wait_for_exit(process, Duration::ZERO)?
            }
            Anchor::Unreaped => true,
        };
        Ok(if holds { members } else { Self::default() })
    }

    /// The processes, other than this one, that hold the life lock whose file this is. Nobody has begun the next life
    /// meanwhile, because the monitor's lock is held; if it is not any more, there are none that could be told apart.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn holders_of(lock: &Facts, held: &MonitorLock) -> io::Result<Self> {
        let (device, inode) = (lock.device, lock.inode);
        let holds = |pid| {
            if Real.is_protected(Failpoint::DaemonLeftoverProof) {
                platform::holds(pid, device, inode)
            } else {
                platform::has_open(pid, device, inode)
            }
        };
        let holders = pinned_and_proven(holds, holds)?;
        // Asked last: whoever was pinned before held the lock while nobody else could begin a life.
        let is_held = matches!(held.check(), Ok(Ownership::Held)) || !Real.is_protected(Failpoint::DaemonLeftoverTurn);
        Ok(if is_held { holders } else { Self::default() })
    }

    /// One of them that is of this session, and so proves whose the session is.
    pub fn member_of(&self, session: Pid) -> Option<&Pinned> {
        let is_member = |process: &&Pinned| {
            platform::table_entry(process.pid().get()).is_some_and(|entry| entry.session == session.get())
        };
        self.processes.iter().find(is_member)
    }

    /// These and others, each once.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        let is_new = |process: &Pinned| self.processes.iter().all(|known| known.pid() != process.pid());
        let new: Vec<Pinned> = others.processes.into_iter().filter(is_new).collect();
        self.processes.extend(new);
        self
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    /// Their pids, for people.
    pub fn pids(&self) -> Vec<Pid> {
        self.processes.iter().map(Pinned::pid).collect()
    }

    /// Asks all of them to leave, and kills those that have not after the time of grace.
    pub fn make_leave(&self, signal: StopSignal, grace: Duration) -> Cleared {
        for process in &self.processes {
            // Whoever cannot be signalled is among those who are still there.
            drop(Real.signal(process, signal.into()));
        }
        let asked_until = Real.now().monotonic + grace;
        let (left, stubborn): (Vec<_>, Vec<_>) =
            self.processes.iter().partition(|process| has_ended_by(process, asked_until));
        for process in &stubborn {
            drop(Real.signal(process, Signal::Kill));
        }
        let killed_until = Real.now().monotonic + KILL_TIMEOUT;
        let (killed, there): (Vec<_>, Vec<_>) =
            stubborn.into_iter().partition(|process| has_ended_by(process, killed_until));
        Cleared { asked: left.len(), killed: killed.len(), still_there: there.iter().map(|each| each.pid()).collect() }
    }
}

/// Waits for an end until a time of the monotonic clock; asks at least once.
fn has_ended_by(process: &Pinned, time: Duration) -> bool {
    platform::wait_for_exit(process, time.saturating_sub(Real.now().monotonic)).unwrap_or(false)
}

/// Those of all processes but this one that seem to belong here, pinned, and proven after they were pinned.
fn pinned_and_proven(seems: impl Fn(u32) -> bool, is_proven: impl Fn(u32) -> bool) -> io::Result<Orphans> {
    let mut processes = Vec::new();
    let own = std::process::id();
    for number in platform::processes()?.into_iter().filter(|&number| number != own && seems(number)) {
        // A process that cannot be pinned cannot be signalled either.
        let Ok(Some(process)) = platform::pin_reported(number) else { continue };
        // What was read was read of the pinned one if that still lives afterwards.
        if is_proven(number) && !platform::wait_for_exit(&process, Duration::ZERO)? {
            processes.push(process);
        }
    }
    Ok(Orphans { processes })
}
