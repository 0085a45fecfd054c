//! What a storm has seen when it is over, how far it is before, and what that comes to: numbers, and a verdict.

use std::time::Duration;

use super::intervals::{Hold, Overlap, overlaps};
use super::plan::{Promise, Protocol};

/// What a storm has seen.
#[derive(Debug, Clone)]
pub struct Record {
    /// Every hold, in the order in which it was heard that it had ended.
    pub holds: Vec<Hold>,
    /// How long each hold was waited for, in nanoseconds.
    pub waits: Vec<u64>,
    /// The longest wait after the last kill, in nanoseconds: what killed holders left must not block others for long.
    pub longest_calm_wait: u64,
    /// How many workers were killed.
    pub kills: u64,
    /// How many of these were holding.
    pub kills_of_holders: u64,
    /// How long it took.
    pub took: Duration,
    /// How it ended.
    pub end: End,
}

/// How a storm ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Every worker made its holds.
    Complete,
    /// It was asked to stop.
    Interrupted,
    /// A worker failed, or nobody got on: what was found, for people.
    Failed(Vec<String>),
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Of which protocol.
    pub protocol: Protocol,
    /// How many holds there were.
    pub holds: u64,
    /// How many there will be.
    pub of: u64,
    /// How many workers were killed.
    pub kills: u64,
    /// Since when, in nanoseconds.
    pub took: Duration,
}

/// What a storm showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// No two held at once.
    Excluded,
    /// Two held at once, and the protocol had promised that they would not.
    Overlapped,
    /// Two held at once, as such a protocol lets them.
    OverlappedAsExpected,
    /// No two held at once although the protocol promises nothing: the storm was too weak to prove anything.
    NoneSeen,
    /// It was ended early; no two had held at once by then.
    Interrupted,
    /// A worker failed or nobody got on, for these reasons.
    Failed(Vec<String>),
}

/// The numbers of one storm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// By which protocol.
    pub protocol: Protocol,
    /// How many holds there were.
    pub holds: u64,
    /// How many workers were killed.
    pub kills: u64,
    /// How many of these were holding.
    pub kills_of_holders: u64,
    /// Every hold that began while another one lasted.
    pub overlaps: Vec<Overlap>,
    /// How long holds were waited for.
    pub waits: Waits,
    /// How long it took.
    pub took: Duration,
    /// What it showed.
    pub verdict: Verdict,
}

/// How long holds were waited for. Waits that ended with the death of who waited are not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waits {
    /// Half of them were no longer.
    pub p50: Duration,
    /// Of a hundred, ninety-nine were no longer.
    pub p99: Duration,
    /// None was longer.
    pub longest: Duration,
    /// None was longer after the last kill, not counting what was waited before it.
    pub longest_after_kills: Duration,
}

impl Waits {
    fn of(nanoseconds: &[u64], longest_after_kills: u64) -> Self {
        let mut ordered = nanoseconds.to_vec();
        ordered.sort_unstable();
        Self {
            p50: percentile(&ordered, 50),
            p99: percentile(&ordered, 99),
            longest: percentile(&ordered, 100),
            longest_after_kills: Duration::from_nanos(longest_after_kills),
        }
    }
}

/// The smallest value that so many of a hundred do not exceed.
fn percentile(ordered: &[u64], hundredths: usize) -> Duration {
    let rank = (ordered.len() * hundredths).div_ceil(100);
    Duration::from_nanos(ordered.get(rank.saturating_sub(1)).copied().unwrap_or(0))
}

impl Summary {
    /// Of a record.
    pub fn of(protocol: Protocol, record: &Record) -> Self {
        let overlaps = overlaps(&record.holds);
        Self {
            protocol,
            holds: record.holds.len() as u64,
            kills: record.kills,
            kills_of_holders: record.kills_of_holders,
            waits: Waits::of(&record.waits, record.longest_calm_wait),
            took: record.took,
            verdict: judge(protocol.promise(), overlaps.len(), &record.end),
            overlaps,
        }
    }

    /// Of a storm that could not even begin.
    pub fn not_begun(protocol: Protocol, why: String) -> Self {
        Self {
            protocol,
            holds: 0,
            kills: 0,
            kills_of_holders: 0,
            overlaps: Vec::new(),
            waits: Waits::default(),
            took: Duration::ZERO,
            verdict: Verdict::Failed(vec![why]),
        }
    }
}

/// An overlap that was seen stays seen, however the storm ended. But one between protocols that promise nothing excuses
/// no failure.
fn judge(promise: Promise, overlaps: usize, end: &End) -> Verdict {
    match (promise, overlaps, end) {
        (Promise::Exclusion, 1.., _) => Verdict::Overlapped,
        (_, _, End::Failed(reasons)) => Verdict::Failed(reasons.clone()),
        (Promise::Nothing, 1.., _) => Verdict::OverlappedAsExpected,
        (_, 0, End::Interrupted) => Verdict::Interrupted,
        (Promise::Exclusion, 0, End::Complete) => Verdict::Excluded,
        (Promise::Nothing, 0, End::Complete) => Verdict::NoneSeen,
    }
}

impl Verdict {
    /// Whether the command has failed.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Overlapped | Self::Failed(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::Kind;
    use crate::storm::intervals::Ending;

    const KERNEL: Protocol = Protocol::Family(Kind::Kernel);

    fn record(holds: &[(u64, u64)], end: End) -> Record {
        let hold = |&(from, until): &(u64, u64)| Hold { pid: 1, from, until, ending: Ending::Released };
        Record {
            holds: holds.iter().map(hold).collect(),
            waits: (1..=200).collect(),
            longest_calm_wait: 0,
            kills: 3,
            kills_of_holders: 1,
            took: Duration::from_secs(1),
            end,
        }
    }

    fn verdict(protocol: Protocol, holds: &[(u64, u64)], end: End) -> Verdict {
        Summary::of(protocol, &record(holds, end)).verdict
    }

    #[test]
    fn a_promise_is_kept_or_broken_and_no_promise_must_be_seen_to_be_worth_nothing() {
        let (apart, together) = ([(0, 1), (1, 2)], [(0, 2), (1, 3)]);
        assert_eq!(verdict(KERNEL, &apart, End::Complete), Verdict::Excluded);
        assert_eq!(verdict(KERNEL, &together, End::Complete), Verdict::Overlapped);
        assert_eq!(verdict(Protocol::Naive, &apart, End::Complete), Verdict::NoneSeen);
        assert_eq!(verdict(Protocol::Unlink, &together, End::Complete), Verdict::OverlappedAsExpected);
    }

    #[test]
    fn neither_a_failure_nor_an_early_end_hides_an_overlap() {
        let together = [(0, 2), (1, 3)];
        let failed = End::Failed(vec!["pid 1 failed".to_owned()]);
        assert_eq!(verdict(KERNEL, &together, failed.clone()), Verdict::Overlapped);
        assert_eq!(verdict(KERNEL, &together, End::Interrupted), Verdict::Overlapped);
        assert_eq!(verdict(KERNEL, &[], failed.clone()), Verdict::Failed(vec!["pid 1 failed".to_owned()]));
        assert!(verdict(Protocol::Naive, &together, failed).is_failure());
        assert_eq!(verdict(KERNEL, &[], End::Interrupted), Verdict::Interrupted);
        assert_eq!(verdict(Protocol::Naive, &[], End::Interrupted), Verdict::Interrupted);
    }

    #[test]
    fn waits_are_counted_by_rank() {
        let waits = Summary::of(KERNEL, &record(&[], End::Complete)).waits;
        let nanoseconds = [waits.p50, waits.p99, waits.longest].map(|wait| wait.as_nanos());
        assert_eq!(nanoseconds, [100, 198, 200]);
        assert_eq!(Waits::of(&[], 0), Waits::default());
        assert_eq!(Waits::of(&[7], 0).p50, Duration::from_nanos(7));
    }
}
