//! A glance at the journal: does anything wait, and since when?
//!
//! It reads the end of each segment, not the segments: the last line carries the highest number of a wake that is
//! delivered, and that number beyond the acknowledged one means that something waits. Wakes that are never
//! delivered do not move it. The oldest waiting wake is found by halving. It takes no lock and writes nothing.
//!
//! Limits: how many wait is an upper bound, because wakes that are never delivered have numbers too. Of very many
//! segments only the newest [`MOST_SEGMENTS`] are looked at; an older one can then make the oldest look younger.

use std::io;
use std::path::Path;

use super::acknowledgement::Claim;
use super::codec::Placed;
use super::segment::{self, Ending, SegmentName, seek};
use crate::base::error::{Context, Result};
use crate::system::{Kind, Open, World};

/// How many segments are looked at.
pub const MOST_SEGMENTS: usize = 64;

/// What a glance shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Whether wakes wait to be acknowledged.
    pub pending: Pending,
    /// The highest number that was issued, as far as anybody can know; 0 when there is none.
    pub last_seq: u64,
    /// Up to which number wakes are acknowledged.
    pub acknowledged: u64,
}

/// Whether wakes wait to be acknowledged. Those that are never delivered do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pending {
    /// None does.
    None,
    /// At least one.
    Some {
        /// At most so many, before equal ones are folded.
        at_most: u64,
        /// When the oldest was written, in milliseconds since 1970; `None` when it cannot be read.
        oldest_at: Option<i64>,
    },
}

/// Glances at the journal of a directory. `path` is for messages.
///
/// # Errors
/// A directory or segment that cannot be opened: then nobody knows.
pub fn summarize<W: World>(world: &W, directory: &W::Node, path: &Path) -> Result<Summary> {
    let claim = Claim::read(world, directory);
    let mut names = segment::list(world, directory).doing("read", path)?;
    let newest = names.split_off(names.len().saturating_sub(MOST_SEGMENTS));
    let mut ends = Vec::new();
    for name in newest {
        ends.extend(read_end(world, directory, name).doing("read", path.join(name.to_os()))?);
    }
    let last_seq = segment::issued(ends.iter().map(|(ending, _)| ending));
    let acknowledged = claim.against(last_seq).through;
    let deliverable = ends.iter().filter_map(|(ending, _)| ending.last).map(|last| last.deliverable).max().unwrap_or(0);
    let pending = match deliverable.checked_sub(acknowledged) {
        None | Some(0) => Pending::None,
        Some(at_most) => {
            let times = ends.iter().filter_map(|(ending, node)| oldest_in(world, node, ending, acknowledged));
            Pending::Some { at_most, oldest_at: times.min() }
        }
    };
    Ok(Summary { pending, last_seq, acknowledged })
}

fn read_end<W: World>(world: &W, directory: &W::Node, name: SegmentName) -> io::Result<Option<(Ending, W::Node)>> {
    let file = name.to_os();
    let facts = match world.facts_at(directory, &file) {
        Ok(facts) if facts.kind == Kind::File => facts,
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match world.open(directory, &file, Open::Read) {
        Ok(node) => Ok(Some((Ending::read(world, &node, facts.size)?, node))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// When the oldest wake of a segment was written that waits. The running number in each line grows, so the first line
/// in which it is beyond the acknowledged one is that wake's own, or stands after it.
fn oldest_in<W: World>(world: &W, node: &W::Node, ending: &Ending, acknowledged: u64) -> Option<i64> {
    ending.last.filter(|last| last.deliverable > acknowledged)?;
    let is_waiting = |placed: &Placed| placed.record.deliverable > acknowledged;
    Some(seek(world, node, ending.size, is_waiting).ok()??.record.wake.at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::test_journal::{Workbench, draft, never};
    use crate::journal::{Limits, acknowledge};

    #[test]
    fn what_is_never_delivered_does_not_wait() {
        let bench = Workbench::new(Limits::default());
        let mut journal = bench.journal();
        journal.append(1, &[never("a"), never("b")]).unwrap();
        assert_eq!(bench.summary().pending, Pending::None);
        journal.append(1, &[draft("c"), never("d")]).unwrap();
        assert!(matches!(bench.summary().pending, Pending::Some { at_most: 3, oldest_at: Some(_) }));
        acknowledge(bench.world(), bench.directory(), bench.path(), 3, 1).unwrap();
        assert_eq!(bench.summary().pending, Pending::None);
        assert_eq!(bench.summary().last_seq, 4);
    }

    #[test]
    fn the_oldest_waiting_wake_is_found_across_segments() {
        let bench = Workbench::new(Limits { segment_bytes: 2000, ..Limits::default() });
        let mut journal = bench.journal();
        for index in 0..100 {
            journal.append(1 + index / 40, &[draft(&format!("k{index}"))]).unwrap();
        }
        let contents = bench.contents();
        for through in [0, 1, 37, 64, 99] {
            if through > 0 {
                acknowledge(bench.world(), bench.directory(), bench.path(), through, 3).unwrap();
            }
            let oldest = contents.wakes.iter().find(|wake| wake.seq > through).unwrap().at;
            let expected = Pending::Some { at_most: 100 - through, oldest_at: Some(oldest) };
            assert_eq!(bench.summary().pending, expected);
        }
    }

    #[test]
    fn a_missing_journal_is_an_error_and_an_empty_one_is_not() {
        let bench = Workbench::new(Limits::default());
        assert_eq!(bench.summary(), Summary { pending: Pending::None, last_seq: 0, acknowledged: 0 });
    }
}
