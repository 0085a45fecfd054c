//! Removing segments that nobody can need.
//!
//! A segment goes as a whole or stays as it is. It goes when every wake in it is acknowledged or never delivered, when
//! the summary of its marks is durable elsewhere (the caller says up to which number), and when the numbers that were
//! issued can still be told from the segments that stay. The newest segment always stays. A crash at any step leaves
//! segments behind that could have gone, and nothing else.
//!
//! Damaged bytes are not lost with their segment: they are copied to `<segment>.damaged` first, durably. Of these the
//! newest [`KEPT`] stay, and those that make room are named in the outcome.

use std::ffi::OsString;
use std::io;
use std::ops::{ControlFlow, Range};

use super::acknowledgement::Claim;
use super::error::JournalError;
use super::record::Delivery;
use super::segment::{self, Ending, SegmentName, walk};
use super::store::Journal;
use crate::base::error::{Context, Result};
use crate::base::failpoint;
use crate::base::failpoint::Failpoint;
use crate::system::storage::{self, Durability};
use crate::system::{Open, World};

/// How many files with damaged bytes are kept.
pub const KEPT: usize = 16;
/// The most damaged bytes of one segment that are kept.
const MOST_BYTES: usize = 256 * 1024;
const SUFFIX: &str = ".damaged";

/// What a compaction did, as names of files in the journal's directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compacted {
    /// The segments that were removed.
    pub removed: Vec<String>,
    /// The files that now hold the damaged bytes of removed segments.
    pub set_aside: Vec<String>,
    /// Older files of that sort that made room.
    pub dropped: Vec<String>,
}

/// Up to which numbers wakes can be done without.
#[derive(Debug, Clone, Copy)]
struct Needless {
    acknowledged: u64,
    covered: u64,
}

impl<W: World> Journal<W> {
    /// Removes the segments that nobody can need any more. `covered_by_checkpoint` is the number of the last wake
    /// whose mark is durable outside the journal.
    ///
    /// # Errors
    /// [`JournalError::Busy`] and those of the system. What was removed until then could go.
    pub fn compact(&mut self, covered_by_checkpoint: u64) -> Result<Compacted, JournalError> {
        let _lock = self.lock()?;
        failpoint::reach(Failpoint::JournalCompactLocked).doing("compact", &self.path)?;
        self.catch_up()?;
        let acknowledgement = Claim::read(&*self.world, &self.directory).against(self.index.issued());
        let needless = Needless { acknowledged: acknowledgement.through, covered: covered_by_checkpoint };
        let mut outcome = Compacted::default();
        for name in self.index.iter().map(|(name, _)| name).collect::<Vec<_>>() {
            if self.may_go(name, needless) {
                self.remove_unless_needed(name, needless, &mut outcome)
                    .doing("compact", self.path.join(name.to_os()))?;
            }
        }
        if !outcome.set_aside.is_empty() {
            outcome.dropped = self.drop_oldest_damaged().doing("compact", &self.path)?;
        }
        Ok(outcome)
    }

    /// Judges by the end of a segment alone.
    fn may_go(&self, name: SegmentName, needless: Needless) -> bool {
        let Some(entry) = self.index.get(name) else { return false };
        let others = self.index.iter().filter(|(other, _)| *other != name).map(|(_, entry)| &entry.ending);
        let is_done = |last: segment::Last| last.seq <= needless.covered && last.deliverable <= needless.acknowledged;
        entry.ending != Ending::UNUSABLE
            && self.index.newest() != Some(name)
            && entry.ending.last.is_none_or(is_done)
            && segment::issued(others) == self.index.issued()
    }

    /// Judges by every wake of a segment, saves what is no wake, and removes it.
    fn remove_unless_needed(
        &mut self,
        name: SegmentName,
        needless: Needless,
        outcome: &mut Compacted,
    ) -> io::Result<()> {
        let (world, directory) = (&*self.world, &self.directory);
        let node = world.open(directory, &name.to_os(), Open::Read)?;
        let mut flow = ControlFlow::Continue(());
        let walked = walk(world, &node, 0..u64::MAX, |placed| {
            let wake = &placed.record.wake;
            let is_told = wake.delivery == Delivery::Never || wake.seq <= needless.acknowledged;
            if wake.seq > needless.covered || !is_told {
                flow = ControlFlow::Break(());
            }
            flow
        })?;
        if flow.is_break() {
            return Ok(());
        }
        let mut damaged = walked.gaps;
        if walked.covered < walked.read {
            damaged.push(walked.covered..walked.read);
        }
        if !damaged.is_empty() {
            let aside = format!("{name}{SUFFIX}");
            let bytes = read_ranges(world, &node, &damaged)?;
            storage::replace(world, directory, &aside, &bytes, Durability::Power)?;
            outcome.set_aside.push(aside);
            failpoint::reach(Failpoint::JournalCompactSetAside)?;
        }
        world.unlink(directory, &name.to_os())?;
        self.index.forget(name);
        outcome.removed.push(name.to_string());
        failpoint::reach(Failpoint::JournalCompactRemoved)
    }

    fn drop_oldest_damaged(&self) -> io::Result<Vec<String>> {
        let names = self.world.names(&self.directory)?;
        let is_ours =
            |name: &String| name.strip_suffix(SUFFIX).is_some_and(|of| SegmentName::parse(of.as_ref()).is_some());
        let mut damaged: Vec<String> =
            names.into_iter().filter_map(|name| OsString::into_string(name).ok()).filter(is_ours).collect();
        damaged.sort_unstable();
        damaged.truncate(damaged.len().saturating_sub(KEPT));
        for name in &damaged {
            self.world.unlink(&self.directory, name.as_ref())?;
        }
        Ok(damaged)
    }
}

fn read_ranges<W: World>(world: &W, node: &W::Node, ranges: &[Range<u64>]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for range in ranges {
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let wanted = length.min(MOST_BYTES - bytes.len());
        bytes.extend(storage::read_from(world, node, range.start, wanted)?);
    }
    Ok(bytes)
}
