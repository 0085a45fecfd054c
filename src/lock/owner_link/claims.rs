//! What a held lock tells of its owner, for those who ask what it is rather than whether they may have it.
//!
//! Nothing is taken and nothing is changed. What the files say is only what somebody wrote; the proof of identity is the
//! comparison with what lives under the pid now.

use std::ffi::OsString;
use std::time::Duration;

use super::judge::{Judge, Judged};
use super::path::LinkPath;
use super::verdict::{Held, Verdict};
use super::{OwnerLinkLock, entry};
use crate::base::error::Result;
use crate::system::World;
use crate::system::identity::Sameness;

/// What is at the lock now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockState {
    /// Nobody has it: nothing is there, or the record of a dead owner.
    Free,
    /// Somebody is about to take it, or it changes hands.
    Changing,
    /// An owner has it, as far as anybody can tell.
    Held(Claims),
    /// It is held by something that nobody can judge, and why.
    Unjudged(String),
}

/// What an owner tells of itself, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Its pid.
    pub pid: u32,
    /// Whether what lives under that pid is the process that recorded itself.
    pub identity: Sameness,
    /// The home that it serves (file `fm-home`).
    pub home: Option<OsString>,
    /// The program that it runs (file `watcher-path`).
    pub watcher_path: Option<OsString>,
    /// For how long it has had the lock. It comes from file times, so a stepped clock makes it wrong.
    pub held_for: Duration,
}

impl<W: World> OwnerLinkLock<W> {
    /// Looks at the lock.
    ///
    /// # Errors
    /// Those of the system, and a refusal of what no lock of this protocol looks like.
    pub fn state(&self) -> Result<LockState> {
        // A judge of its own: looking must not count as watching.
        state(&mut self.judge.clone(), &self.at)
    }
}

fn state<W: World>(judge: &mut Judge, at: &LinkPath<W>) -> Result<LockState> {
    let (record, held) = match judge.observe(at)? {
        Judged::Nothing | Judged::Stale(..) | Judged::Held(_, Verdict::Stale(_)) => return Ok(LockState::Free),
        Judged::Changing => return Ok(LockState::Changing),
        Judged::Held(record, Verdict::Held(held)) => (record, held),
    };
    Ok(match held {
        Held::BeingTaken(_) => LockState::Changing,
        Held::Unjudged(why) => LockState::Unjudged(why),
        Held::Lives(pid, identity) => LockState::Held(Claims {
            pid,
            identity,
            home: record.told(at, entry::HOME),
            watcher_path: record.told(at, entry::WATCHER_PATH),
            held_for: at.location().age(record.facts.mtime_ns).unwrap_or_default(),
        }),
    })
}
