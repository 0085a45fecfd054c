//! Whether a marker still stands for somebody.
//!
//! A marker may be taken only on proof that its owner is gone, so every doubt is a verdict of [`Verdict::Held`]: another
//! machine, a pid namespace of which we see nothing, a start that cannot be read. This is pure; what is known of the
//! world comes in as values, gathered by [`super::observation`].

use std::time::Duration;

use super::decimal::Decimal;
use super::marker::{Content, Malformed, Record};
use super::process_id::{Boot, NAMESPACE_MARK, Start};
use crate::system::Facts;
use crate::system::identity::Difference;

/// For how long something that is no record must be unchanged before it may be taken.
pub const UNCHANGED_FOR: Duration = Duration::from_secs(2);

/// By what something that is no record is known again. The time of the last change of an inode cannot be set: with it, a
/// new file that happens to have the number and the time of an old one does not inherit its age.
pub fn fingerprint(facts: &Facts) -> (i64, u64, i64) {
    (facts.mtime_ns, facts.inode, facts.ctime_ns)
}

/// What may be done with a marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: it is held, or nobody can prove that it is not.
    Held(Held),
    /// It may be taken at once: its owner is gone.
    Gone {
        /// What became of the owner.
        how: Difference,
        /// Under whose names a breaker may have left what it took; see [`super::recovery`].
        breaker: Decimal,
    },
    /// It may be taken when it has not changed for a while: nobody's record, or one that is being written.
    Malformed {
        /// Why it is no record.
        why: Malformed,
        /// As above, if the text names one.
        breaker: Option<Decimal>,
    },
}

/// Why a marker counts as held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// Its owner lives: pid and start are those of a process here.
    ByOwner,
    /// A process has the pid, and the record tells no start.
    ByPid,
    /// A process has the pid, and its start cannot be read or compared here.
    StartUnreadable,
    /// A process of another pid namespace is the owner.
    Elsewhere,
    /// The owner is on another machine or in another pid namespace.
    OtherHost,
    /// There is no record, and there may never be one.
    Empty,
    /// The peer's strict lock is in use at this path.
    Strict,
    /// The system did not tell whether the owner lives.
    Unknown(String),
}

/// From where we judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Here {
    /// The text for this machine and pid namespace.
    pub host: String,
    /// This boot.
    pub boot: Boot,
    /// Whether starts that are read here are the same that others read.
    pub clocks: Clocks,
}

/// Whether the starts of processes can be compared with recorded ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clocks {
    /// They can.
    Common,
    /// They cannot: this process is in a time namespace with an offset.
    Shifted,
}

/// What is known of the process under the recorded pid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// There is none.
    Gone,
    /// There is one, a zombie perhaps, that started then, if that can be read.
    Alive(Option<Start>),
    /// The system does not say.
    Unknown(String),
}

/// What a record alone, without a search among all processes, tells of its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// It counts as alive.
    Held(Held),
    /// It is gone.
    Gone(Difference),
    /// It is gone, unless one of the processes here [is it](can_be_owner) under another number.
    GoneUnlessElsewhere(Difference),
}

/// Judges the owner of a record by what lives under its pid.
pub fn owner(record: &Record, here: &Here, life: &Life) -> Owner {
    if record.host != here.host {
        return Owner::Held(Held::OtherHost);
    }
    let how = match (life, &record.start) {
        (Life::Unknown(why), _) => return Owner::Held(Held::Unknown(why.clone())),
        (Life::Alive(_), None) => return Owner::Held(Held::ByPid),
        (Life::Alive(None), Some(_)) => return Owner::Held(Held::StartUnreadable),
        (Life::Alive(Some(now)), Some(then)) if now.is_same(then) => return Owner::Held(Held::ByOwner),
        (Life::Alive(Some(_)), Some(then)) if !then.can_be_of(here.boot) => Difference::OtherBoot,
        (Life::Alive(Some(_)), Some(_)) => Difference::PidReused,
        (Life::Gone, _) => Difference::Gone,
    };
    if can_be_elsewhere(record, here) { Owner::GoneUnlessElsewhere(how) } else { Owner::Gone(how) }
}

/// Whether a process in another pid namespace can have written it. Releases of the peer that did not mark the namespace
/// recorded the number that it has in there.
fn can_be_elsewhere(record: &Record, here: &Here) -> bool {
    let is_marked = record.host.contains(NAMESPACE_MARK);
    !is_marked && record.start.as_ref().is_some_and(|start| start.can_be_of(here.boot))
}

/// Whether a process of another number can be the owner of a record, as far as its start tells. It is the owner if it
/// has the recorded number in its own pid namespace as well.
pub fn can_be_owner(task: u32, start: Option<&Start>, record: &Record, clocks: Clocks) -> bool {
    task != record.pid
        && match (clocks, start, &record.start) {
            (Clocks::Shifted, _, _) => true,
            (Clocks::Common, Some(now), Some(then)) => now.is_same(then),
            (Clocks::Common, _, _) => false,
        }
}

/// The verdict on a content, given a way to judge the owner of a record.
pub fn verdict(content: &Content, owner: impl FnOnce(&Record) -> Result<Difference, Held>) -> Verdict {
    match content {
        Content::Empty => Verdict::Held(Held::Empty),
        Content::Strict => Verdict::Held(Held::Strict),
        Content::Record(record) => match owner(record) {
            Err(held) => Verdict::Held(held),
            Ok(how) => Verdict::Gone { how, breaker: Decimal::from(record.pid) },
        },
        Content::Malformed(why) => {
            let breaker = if let Malformed::Placeholder(pid) = why { Some(pid.clone()) } else { None };
            Verdict::Malformed { why: why.clone(), breaker }
        }
    }
}

#[cfg(test)]
mod tests;
