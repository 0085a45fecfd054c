//! Whether a pid file still has an owner: a pure function ([`judge`]) of what it says and of what was seen under its pid,
//! and the look at a file that gathers both ([`Snapshot`]).
//!
//! A file is stale only on proof of death. Its absence is never inferred from time, from the age of the file or from the
//! lack of an answer.
//!
//! | the file says | seen under the pid | verdict |
//! |---|---|---|
//! | a record of ours | see [`compare`]: another boot, nobody, another process | dead |
//! | a record of ours | the same process, or nobody can tell | held |
//! | a bare pid | nobody, here or in a pid namespace inside ours | dead |
//! | a bare pid without a line end | the same | dead, once the file was watched for [`SETTLES`] and stayed as it is |
//! | a bare pid | anybody | held, by an unknown process: nothing says that it is the one that wrote it |
//! | nothing, blanks | | held: its program may be between creating and filling it |
//! | anything else | | held: nothing says whose it is |
//!
//! A process that has ended and waits to be reaped has let go of everything, and nobody else can have its pid yet. So it
//! is dead, also for a bare pid.
//!
//! Without a line end the number may be the beginning of a longer one. Empty and garbled files are held for ever,
//! however long they stay as they are: there is no process whose death could be proven.
//!
//! Limits: a bare pid does not say in which pid namespace it is meant; a program in one that cannot be seen from here
//! (that of the machine around a container) looks dead. A pid that was given away to another process looks alive. Facts
//! that the same user wrote can be forged.

use std::ffi::OsStr;
use std::io;
use std::time::Duration;

use super::record::{self, FirstLine, Record};
use crate::base::error::{Context, Error, Result};
use crate::base::failpoint::Failpoint;
use crate::lock::location::{Location, description, found};
use crate::system::identity::{Difference, Observation, Pid, Sameness, Standpoint, compare};
use crate::system::storage;
use crate::system::{Facts, Kind, Open, World};

/// How long a file whose only line has no end must stay as it is. It is the same floor as that of the soft lock.
pub const SETTLES: Duration = Duration::from_secs(2);

/// Whether a pid file has an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It has, or nobody can prove that it has not.
    Held(Option<u32>, Sameness),
    /// Its owner is proven to be dead.
    Dead(Difference),
    /// Its owner is dead, if its number is complete.
    DeadOnceStill(Difference),
}

/// What was seen of the process that a file speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Under the pid in this pid namespace.
    pub seen: Observation,
    /// Under the same number in a pid namespace inside this one, which matters for a bare pid only.
    pub inside: Inside,
    /// Whether start times can be compared here.
    pub start_times: StartTimes,
}

/// Whether a process has a number in a pid namespace inside ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inside {
    /// None that can be seen.
    Nobody,
    /// The one with this number in ours.
    Somebody(u32),
    /// Nobody can tell.
    Unknown(String),
}

/// Whether start times that are read here are everybody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartTimes {
    /// They are.
    Common,
    /// A time namespace shifts them by an amount that a record does not tell.
    Shifted,
}

/// The verdict on what a file says, seen from `here`.
pub fn judge(record: &Record, evidence: &Evidence, here: &Standpoint) -> Verdict {
    match record {
        Record::Empty => Verdict::Held(None, unknown("the file is empty: its program may be about to fill it")),
        Record::Garbled(why) => Verdict::Held(None, unknown(format!("the file {why}"))),
        Record::Bare(pid, line) => judge_bare(*pid, *line, evidence),
        Record::Ours(claim) => {
            let pid = claim.identity.pid.get();
            match compare(&claim.identity, &evidence.seen, here) {
                Sameness::Different(Difference::PidReused) if !is_comparable(record, evidence) => {
                    Verdict::Held(Some(pid), unknown("start times are shifted in this time namespace"))
                }
                Sameness::Different(difference) => Verdict::Dead(difference),
                known => Verdict::Held(Some(pid), known),
            }
        }
    }
}

fn judge_bare(pid: u32, line: FirstLine, evidence: &Evidence) -> Verdict {
    let held = |why: String| Verdict::Held(Some(pid), Sameness::Unknown(why));
    match (&evidence.seen, &evidence.inside) {
        (Observation::Unreadable(why), _) | (Observation::Gone, Inside::Unknown(why)) => held(why.clone()),
        (Observation::Seen(_), _) => held("the file says no more than a pid".to_owned()),
        (Observation::Gone, Inside::Somebody(outer)) => held(format!("pid {outer} has this number in its container")),
        (Observation::Gone, Inside::Nobody) => match line {
            FirstLine::Ended => Verdict::Dead(Difference::Gone),
            FirstLine::Open => Verdict::DeadOnceStill(Difference::Gone),
        },
    }
}

/// Whether the record and the process have a number in common that no time namespace shifts, or nothing is shifted.
fn is_comparable(record: &Record, evidence: &Evidence) -> bool {
    let recorded = matches!(record, Record::Ours(claim) if claim.identity.pidfd_inode.is_some());
    let seen = matches!(&evidence.seen, Observation::Seen(identity) if identity.pidfd_inode.is_some());
    evidence.start_times == StartTimes::Common || (recorded && seen)
}

fn unknown(why: impl Into<String>) -> Sameness {
    Sameness::Unknown(why.into())
}

/// A file, open, and what it said when it was looked at.
#[derive(Debug)]
pub(super) struct Snapshot<W: World> {
    pub(super) node: W::Node,
    pub(super) facts: Facts,
    bytes: Vec<u8>,
    pub(super) record: Record,
}

impl<W: World> Snapshot<W> {
    /// Looks at what has the lock's name. `None`: nothing has.
    ///
    /// # Errors
    /// What is no regular file, and those of the system.
    pub(super) fn take(location: &Location<W>) -> Result<Option<Self>> {
        let refused =
            |kind| Error::refused(&location.path, description(kind), "use the path of a regular file or of none");
        match location.facts().doing("examine", &location.path)? {
            None => Ok(None),
            // A device is not even opened: for some that has an effect.
            Some(facts) if facts.kind != Kind::File => Err(refused(facts.kind)),
            Some(_) => match Self::open(location, &location.name).doing("read", &location.path)? {
                Some(snapshot) if snapshot.facts.kind != Kind::File => Err(refused(snapshot.facts.kind)),
                snapshot => Ok(snapshot),
            },
        }
    }

    /// Looks at another name in the same directory.
    pub(super) fn open(location: &Location<W>, name: &OsStr) -> io::Result<Option<Self>> {
        let world = &*location.world;
        let Some(node) = found(world.open(&location.directory, name, Open::Read))? else { return Ok(None) };
        let facts = world.facts(&node)?;
        let bytes = match facts.kind {
            Kind::File => storage::read_from(world, &node, 0, record::LIMIT + 1)?,
            _ => Vec::new(),
        };
        Ok(Some(Self { record: record::parse(&bytes), node, facts, bytes }))
    }

    /// Whether this is that inode with those bytes.
    pub(super) fn shows(&self, facts: &Facts, bytes: &[u8]) -> bool {
        self.facts.is_same_inode(facts) && self.bytes == bytes
    }

    /// Whether both are the same inode with the same bytes.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        self.shows(&other.facts, &other.bytes)
    }

    /// The pid that it names.
    pub(super) fn pid(&self) -> Option<u32> {
        match &self.record {
            Record::Ours(claim) => Some(claim.identity.pid.get()),
            Record::Bare(pid, _) => Some(*pid),
            Record::Empty | Record::Garbled(_) => None,
        }
    }

    /// Whether it has an owner.
    pub(super) fn judge(&self, location: &Location<W>) -> Verdict {
        let world = &*location.world;
        let seen = self.pid().map_or(Observation::Gone, |pid| observed(world, pid));
        let inside = match (&self.record, &seen) {
            (Record::Bare(pid, _), Observation::Gone) => inside(world, *pid),
            _ => Inside::Nobody,
        };
        let start_times = if world.has_common_start_times() { StartTimes::Common } else { StartTimes::Shifted };
        let verdict = judge(&self.record, &Evidence { seen: seen.clone(), inside, start_times }, &world.standpoint());
        match (verdict, self.pid()) {
            // What must not be believed, for the test that shows why: that whoever has the pid is its owner.
            (Verdict::Dead(_), Some(pid))
                if matches!(seen, Observation::Seen(_)) && !world.is_protected(Failpoint::PidfileIdentity) =>
            {
                Verdict::Held(Some(pid), Sameness::Unknown("its pid is alive".to_owned()))
            }
            (verdict, _) => verdict,
        }
    }
}

/// What lives under a number. One that has ended and waits to be reaped is gone.
fn observed<W: World>(world: &W, number: u32) -> Observation {
    let unreadable = |error| Observation::Unreadable(format!("pid {number} cannot be examined: {error}"));
    match Pid::new(number) {
        Some(pid) => match world.pin(pid) {
            Ok(Some(process)) => world.observe(&process),
            Ok(None) => Observation::Gone,
            Err(error) => unreadable(error),
        },
        // Process 1 ends last of all.
        None => Observation::Unreadable(format!("pid {number} is the first process")),
    }
}

/// Who has a number in a pid namespace inside ours: a daemon in a container writes the number that it has there.
fn inside<W: World>(world: &W, number: u32) -> Inside {
    match world.processes() {
        Ok(all) => all
            .into_iter()
            .find(|&outer| outer != number && world.innermost_pid(outer) == Some(number))
            .map_or(Inside::Nobody, Inside::Somebody),
        Err(error) => Inside::Unknown(format!("the processes cannot be listed: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::pidfile::record::Claim;
    use crate::system::identity::{Executable, Identity, Pid, Proof};

    fn identity() -> Identity {
        Identity {
            pid: Pid::new(4711).unwrap(),
            start_ticks: 9,
            boot_id: Some("boot".to_owned()),
            pid_namespace: Some(1),
            pidfd_inode: Some(2),
            executable: Some(Executable { path: "program".into(), device: 3, inode: 4 }),
            uid: 5,
        }
    }

    fn here() -> Standpoint {
        Standpoint { boot_id: Some("boot".to_owned()), pid_namespace: Some(1), time_namespace: None }
    }

    fn seen(seen: Observation) -> Evidence {
        Evidence { seen, inside: Inside::Nobody, start_times: StartTimes::Common }
    }

    fn ours(identity: Identity, evidence: &Evidence) -> Verdict {
        judge(&Record::Ours(Claim { identity, nonce: [0; 16] }), evidence, &here())
    }

    #[test]
    fn a_record_of_ours_is_dead_on_each_proof_and_on_nothing_else() {
        let alive = seen(Observation::Seen(identity()));
        assert_eq!(ours(identity(), &alive), Verdict::Held(Some(4711), Sameness::Same(Proof::PidfdInode)));
        assert_eq!(ours(identity(), &seen(Observation::Gone)), Verdict::Dead(Difference::Gone));
        let other_boot = Identity { boot_id: Some("older".to_owned()), ..identity() };
        assert_eq!(ours(other_boot, &alive), Verdict::Dead(Difference::OtherBoot));
        let other_process = Identity { pidfd_inode: Some(1), ..identity() };
        assert_eq!(ours(other_process, &alive), Verdict::Dead(Difference::PidReused));
        let elsewhere = Identity { pid_namespace: Some(7), ..identity() };
        assert!(matches!(ours(elsewhere, &seen(Observation::Gone)), Verdict::Held(_, Sameness::Unknown(_))));
        let unreadable = seen(Observation::Unreadable("no".to_owned()));
        assert!(matches!(ours(identity(), &unreadable), Verdict::Held(Some(4711), Sameness::Unknown(_))));
    }

    #[test]
    fn shifted_start_times_prove_no_death() {
        let old = Identity { pidfd_inode: None, start_ticks: 8, ..identity() };
        let alive = seen(Observation::Seen(identity()));
        assert_eq!(ours(old.clone(), &alive), Verdict::Dead(Difference::PidReused));
        let shifted = Evidence { start_times: StartTimes::Shifted, ..alive };
        assert!(matches!(ours(old, &shifted), Verdict::Held(_, Sameness::Unknown(_))));
        // The pidfd's inode is not shifted by anything.
        let reused = Identity { pidfd_inode: Some(1), ..identity() };
        assert_eq!(ours(reused, &shifted), Verdict::Dead(Difference::PidReused));
    }

    #[test]
    fn a_bare_pid_is_dead_only_if_nobody_has_it() {
        let bare = |line, evidence: &Evidence| judge(&Record::Bare(12, line), evidence, &here());
        let gone = seen(Observation::Gone);
        assert_eq!(bare(FirstLine::Ended, &gone), Verdict::Dead(Difference::Gone));
        assert_eq!(bare(FirstLine::Open, &gone), Verdict::DeadOnceStill(Difference::Gone));
        let held = [
            seen(Observation::Seen(identity())),
            seen(Observation::Unreadable("no".to_owned())),
            Evidence { inside: Inside::Somebody(99), ..gone.clone() },
            Evidence { inside: Inside::Unknown("no".to_owned()), ..gone },
        ];
        for evidence in held {
            for line in [FirstLine::Ended, FirstLine::Open] {
                let verdict = bare(line, &evidence);
                assert!(matches!(verdict, Verdict::Held(Some(12), Sameness::Unknown(_))), "{evidence:?}: {verdict:?}");
            }
        }
    }

    #[test]
    fn what_names_no_process_is_held_for_ever() {
        for record in [Record::Empty, Record::Garbled("is odd")] {
            let verdict = judge(&record, &seen(Observation::Gone), &here());
            assert!(matches!(verdict, Verdict::Held(None, Sameness::Unknown(_))), "{record:?}: {verdict:?}");
        }
    }
}
