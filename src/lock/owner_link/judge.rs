//! The facts about a record, gathered for [`verdict`](super::verdict).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::time::Duration;

use super::identity::Belief;
use super::path::LinkPath;
use super::record::{Observation, Record};
use super::verdict::{self, FLOOR, Life, Seen, Verdict, Written};
use crate::base::error::Result;
use crate::base::failpoint::Failpoint;
use crate::lock::unchanged::Unchanged;
use crate::system::World;
use crate::system::identity::Pid;

/// Judges records, and remembers for how long it has seen an unfinished one as it is.
#[derive(Debug, Clone)]
pub(super) struct Judge {
    stale_after: Duration,
    belief: Belief,
    /// By name, what was seen there.
    watched: BTreeMap<OsString, Unchanged<(u64, u64, i64)>>,
}

/// What is at a place, judged.
#[derive(Debug)]
pub(super) enum Judged<W: World> {
    /// Nothing.
    Nothing,
    /// Something that changes while it is looked at, so somebody uses it.
    Changing,
    /// A record that nobody may take.
    Held(Record<W>, Verdict),
    /// A record that may be taken over.
    Stale(Record<W>, Verdict),
}

impl<W: World> Judged<W> {
    pub(super) fn verdict(&self) -> Option<&Verdict> {
        match self {
            Self::Nothing | Self::Changing => None,
            Self::Held(_, verdict) | Self::Stale(_, verdict) => Some(verdict),
        }
    }

    /// The record that may be taken over, if there is one.
    pub(super) fn into_stale(self) -> Option<Record<W>> {
        match self {
            Self::Stale(record, _) => Some(record),
            Self::Nothing | Self::Changing | Self::Held(..) => None,
        }
    }
}

impl Judge {
    pub(super) fn patient_for(stale_after: Duration) -> Self {
        Self { stale_after, belief: Belief::default(), watched: BTreeMap::new() }
    }

    pub(super) fn believing(self, belief: Belief) -> Self {
        Self { belief, ..self }
    }

    /// How long a record without a pid is left alone.
    fn patience<W: World>(&self, world: &W) -> Duration {
        if world.is_protected(Failpoint::OwnerLinkFloor) { self.stale_after.max(FLOOR) } else { self.stale_after }
    }

    /// Looks at a place and judges what is there.
    ///
    /// # Errors
    /// Those of looking.
    pub(super) fn observe<W: World>(&mut self, at: &LinkPath<W>) -> Result<Judged<W>> {
        self.observe_name(at, at.name())
    }

    /// As [`Judge::observe`], at another name with the same kind of owner directories.
    ///
    /// # Errors
    /// Those of looking.
    pub(super) fn observe_name<W: World>(&mut self, at: &LinkPath<W>, name: &OsStr) -> Result<Judged<W>> {
        let record = match Record::observe(at, name)? {
            Observation::Nothing => return Ok(Judged::Nothing),
            Observation::Changing => return Ok(Judged::Changing),
            Observation::Record(record) => record,
        };
        let world = at.world();
        let life = match record.pid {
            Written::Number(pid) => life(world, pid, &record),
            Written::Nothing | Written::Odd | Written::Zero => Life::Unknown("no pid".to_owned()),
        };
        let identity = record.identity.clone().filter(|_| world.is_protected(Failpoint::OwnerLinkIdentity));
        let belief = self.belief;
        let seen = Seen { pid: record.pid, life, identity, belief, age: self.age(at, name, &record) };
        Ok(match verdict::judge(&seen, self.patience(world)) {
            verdict @ Verdict::Held(_) => Judged::Held(record, verdict),
            verdict @ Verdict::Stale(_) => Judged::Stale(record, verdict),
        })
    }

    /// How old an unfinished record is: by its files' times or, since a clock that was set back would make it young for
    /// years, by our own watch. Whichever is longer counts. It is a courtesy to whoever is in the middle of taking the
    /// lock; what keeps such a one from holding a lock that it lost is its own last look.
    fn age<W: World>(&mut self, at: &LinkPath<W>, name: &OsStr, record: &Record<W>) -> Duration {
        let by_files = at.location().age(record.changed_ns).unwrap_or_default();
        let fingerprint = (record.facts.device, record.facts.inode, record.changed_ns);
        let watched = self.watched.entry(name.to_owned()).or_default();
        by_files.max(watched.watch(fingerprint, at.world().now().monotonic))
    }
}

/// What is under a pid now. Its listing is only read where there is a record to compare it with.
fn life<W: World>(world: &W, pid: u32, record: &Record<W>) -> Life {
    match world.exists(pid) {
        Ok(false) => Life::Gone,
        Ok(true) if has_ended(world, pid) => Life::Gone,
        Ok(true) => Life::Lives(record.identity.as_ref().and_then(|_| world.listing(pid))),
        Err(error) => Life::Unknown(format!("pid {pid} cannot be examined: {error}")),
    }
}

/// Whether a process has ended and only waits to be reaped, for ever where nobody does that. Peers take it for alive, so
/// none of them comes in between when ours succeeds it.
fn has_ended<W: World>(world: &W, pid: u32) -> bool {
    let pinned = Pid::new(pid).and_then(|pid| world.pin(pid).ok().flatten());
    pinned.is_some_and(|process| matches!(world.wait_for_exit(&process, Duration::ZERO), Ok(true)))
}
