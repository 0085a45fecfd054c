//! What a held lock tells of its owner, for those who ask what it is rather than whether they may have it.
//!
//! Nothing is taken and nothing is changed. What the files say is only what somebody wrote; the proof of identity is the
//! comparison with what lives under the pid now.

use std::ffi::OsString;
use std::time::Duration;

use super::judge::{Judge, Judged};
use super::path::Place;
use super::verdict::{Held, Verdict};
use super::{OwnerLinkLock, entry};
use crate::base::error::Result;
use crate::system::World;
use crate::system::identity::Sameness;

/// What is at the lock now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// Nobody has it: nothing is there, or the record of a dead owner.
    Free,
    /// Somebody is about to take it, or it changes hands.
    Changing,
    /// An owner has it, as far as anybody can tell.
    Held(Testimony),
    /// It is held by something that nobody can judge, and why.
    Unjudged(String),
}

/// What an owner tells of itself, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Testimony {
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
    pub fn sight(&self) -> Result<Sight> {
        // A judge of its own: looking must not count as watching.
        sight(&mut self.judge.clone(), &self.place)
    }
}

fn sight<W: World>(judge: &mut Judge, place: &Place<W>) -> Result<Sight> {
    let (record, held) = match judge.look(place)? {
        Judged::Nothing | Judged::Stale(..) | Judged::Held(_, Verdict::Stale(_)) => return Ok(Sight::Free),
        Judged::Changing => return Ok(Sight::Changing),
        Judged::Held(record, Verdict::Held(held)) => (record, held),
    };
    Ok(match held {
        Held::BeingTaken(_) => Sight::Changing,
        Held::Unjudged(why) => Sight::Unjudged(why),
        Held::Lives(pid, identity) => {
            let since = place.world().now().wall_ms.saturating_sub(record.facts.mtime_ns / 1_000_000);
            Sight::Held(Testimony {
                pid,
                identity,
                home: record.told(place, entry::HOME),
                watcher_path: record.told(place, entry::WATCHER_PATH),
                held_for: Duration::from_millis(u64::try_from(since).unwrap_or(0)),
            })
        }
    })
}
