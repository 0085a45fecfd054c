//! The segments of the journal: their names, their ends, a place in one, and what a writer knows of all.
//!
//! A segment belongs to the generation in its name and only ever grows at its end, under the journal's lock. Numbers of
//! wakes grow within a segment, so its last wake tells the highest number in it, and any wake is found by halving.
//!
//! Only the segment with the highest number of its generation may still grow, and only while its end is a clean line
//! end: nothing is ever glued to a torn one.
//!
//! A writer's [`Index`] is brought up to date under the journal's lock: other processes append too. Knowledge is kept
//! between two appends, so that the usual case costs a directory listing and one `stat`: nobody else has written, and only
//! the last segment of each generation may have changed at all.

use super::codec::{Follows, LineEnd, Placed, Scanner};
use crate::system::storage;
use crate::system::{Facts, Kind, Open, World};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::ops::{ControlFlow, Range};

/// How much is read first where little is expected.
const SMALL: usize = 4 * 1024;
/// The most that is read at once.
const LARGE: usize = 1024 * 1024;
/// No line is shorter than this, so so many bytes held at most one wake each.
const SHORTEST_LINE: u64 = 64;

/// The name of a segment: `<generation>-<number>.log`. Names sort by generation, then number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SegmentName {
    /// The generation that appends to it.
    pub(crate) generation: u64,
    /// Its number within the generation.
    pub(crate) number: u32,
}

impl SegmentName {
    /// Reads a name exactly as [`fmt::Display`] writes it.
    pub(crate) fn parse(name: &OsStr) -> Option<Self> {
        let name = name.to_str()?;
        let (generation, number) = name.strip_suffix(".log")?.split_once('-')?;
        let parsed = Self { generation: generation.parse().ok()?, number: number.parse().ok()? };
        (parsed.to_string() == name).then_some(parsed)
    }

    /// The name for the file system.
    pub(crate) fn to_os(self) -> OsString {
        self.to_string().into()
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:020}-{:06}.log", self.generation, self.number)
    }
}

/// The segments in a directory, sorted.
pub(crate) fn list<W: World>(world: &W, directory: &W::Node) -> io::Result<Vec<SegmentName>> {
    let names = world.names(directory)?;
    let mut segments: Vec<SegmentName> = names.iter().filter_map(|name| SegmentName::parse(name)).collect();
    segments.sort_unstable();
    Ok(segments)
}

/// What a walk over a part of a segment met besides wakes.
#[derive(Debug)]
pub(crate) struct Walk {
    /// Where the last wake ended, or where the walk began.
    pub(crate) covered: u64,
    /// How far was read.
    pub(crate) read: u64,
    /// What is no wake before or between wakes.
    pub(crate) gaps: Vec<Range<u64>>,
}

/// Hands the wakes within a range of bytes to `sink` until that breaks off. Memory stays bounded.
pub(crate) fn walk<W: World>(
    world: &W,
    node: &W::Node,
    range: Range<u64>,
    mut sink: impl FnMut(Placed) -> ControlFlow<()>,
) -> io::Result<Walk> {
    let mut scanner = Scanner::starting_at(range.start);
    let (mut held, mut offset, mut step) = (Vec::new(), range.start, SMALL);
    loop {
        let next = offset + held.len() as u64;
        let wanted = usize::try_from(range.end.saturating_sub(next)).unwrap_or(usize::MAX).min(step);
        let fresh = storage::read_from(world, node, next, wanted)?;
        let follows = if fresh.len() < step { Follows::Nothing } else { Follows::More };
        held.extend_from_slice(&fresh);
        let (done, flow) = scanner.feed(offset, &held, follows, &mut sink);
        let read = next + fresh.len() as u64;
        if flow.is_break() || follows == Follows::Nothing {
            return Ok(Walk { covered: scanner.covered(), read, gaps: scanner.into_gaps() });
        }
        held.drain(..done);
        offset += done as u64;
        step = (step * 4).min(LARGE);
    }
}

/// How a segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ending {
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Where its last whole wake ends.
    pub(crate) covered: u64,
    /// That wake; `None` when there is none.
    pub(crate) last: Option<Last>,
}

/// The last whole wake of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Last {
    /// Its number, which is the highest in the segment.
    pub(crate) seq: u64,
    /// The highest number up to it of a wake that is delivered.
    pub(crate) deliverable: u64,
    /// Whether its line is complete.
    pub(crate) ending: LineEnd,
}

impl Last {
    pub(crate) fn of(placed: &Placed) -> Self {
        let record = &placed.record;
        Self { seq: record.wake.seq, deliverable: record.deliverable, ending: placed.ending }
    }
}

impl Ending {
    /// The end of a segment that cannot be read as one: nothing is known of it, and nothing is appended to it.
    pub(crate) const UNUSABLE: Self = Self { size: u64::MAX, covered: 0, last: None };

    /// Reads the end of a segment, and of the rest as little as it can.
    pub(crate) fn read<W: World>(world: &W, node: &W::Node, size: u64) -> io::Result<Self> {
        let mut block = SMALL as u64;
        loop {
            let start = size.saturating_sub(block);
            let mut last = None;
            let walked = walk(world, node, start..size, |placed| {
                last = Some(Last::of(&placed));
                ControlFlow::Continue(())
            })?;
            if last.is_some() || start == 0 {
                let covered = if last.is_some() { walked.covered } else { 0 };
                return Ok(Self { size, covered, last });
            }
            block *= 16;
        }
    }

    /// Whether another line may be written after the last one.
    pub(crate) fn is_clean(&self) -> bool {
        self.covered == self.size && self.last.is_none_or(|last| last.ending == LineEnd::Present)
    }

    /// The bytes at the end that are no wake.
    pub(crate) fn torn(&self) -> u64 {
        self.size.saturating_sub(self.covered)
    }
}

/// The highest number that may have been issued, from the ends of all segments in the order of their names.
///
/// A torn tail may have held wakes that somebody has seen, so their numbers count as issued: as many as have room in
/// it. So no number is ever used twice, not even after the last wake was damaged.
pub(crate) fn issued<'a>(endings: impl IntoIterator<Item = &'a Ending>) -> u64 {
    endings.into_iter().filter(|ending| **ending != Ending::UNUSABLE).fold(0, |issued, ending| {
        let known = ending.last.map_or(issued, |last| last.seq);
        let torn = match ending.torn() {
            0 => 0,
            bytes => 1 + bytes / SHORTEST_LINE,
        };
        issued.max(known.saturating_add(torn))
    })
}

/// Finds the first wake that is `beyond` something. In a segment the answers must be "no" up to some wake and "yes"
/// from there on.
pub(crate) fn seek<W: World>(
    world: &W,
    node: &W::Node,
    size: u64,
    is_beyond: impl Fn(&Placed) -> bool,
) -> io::Result<Option<Placed>> {
    // No wake that starts before `low` is beyond; every one that starts at `high` or later is.
    let (mut low, mut high) = (0, size);
    while high.saturating_sub(low) > SMALL as u64 {
        let middle = low + (high - low) / 2;
        match first_where(world, node, middle..size, |_| true)? {
            Some(placed) if placed.start < high && !is_beyond(&placed) => low = placed.end,
            _ => high = middle,
        }
    }
    first_where(world, node, low..size, is_beyond)
}

/// The first wake in a range of bytes that is wanted.
fn first_where<W: World>(
    world: &W,
    node: &W::Node,
    range: Range<u64>,
    is_wanted: impl Fn(&Placed) -> bool,
) -> io::Result<Option<Placed>> {
    let mut found = None;
    walk(world, node, range, |placed| {
        if !is_wanted(&placed) {
            return ControlFlow::Continue(());
        }
        found = Some(placed);
        ControlFlow::Break(())
    })?;
    Ok(found)
}

/// Whether a file still is what it was when these facts were noted, apart from its times.
pub(crate) fn is_unchanged(noted: &Facts, now: &Facts) -> bool {
    noted.is_same_inode(now) && noted.size == now.size
}

/// One segment, as it was seen last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    /// What the file system said.
    pub(crate) facts: Facts,
    /// How it ends.
    pub(crate) ending: Ending,
}

/// All segments, as they were seen last.
#[derive(Debug, Default)]
pub(crate) struct Index {
    entries: BTreeMap<SegmentName, Entry>,
}

impl Index {
    /// Reads what has changed since the last time.
    pub(crate) fn refresh<W: World>(&mut self, world: &W, directory: &W::Node) -> io::Result<()> {
        let names = list(world, directory)?;
        // What was the newest of its generation at the last look may have grown before its successor was made.
        let known: Vec<SegmentName> = self.entries.keys().copied().collect();
        let mut newest: Vec<SegmentName> = newest_of_each(&known).collect();
        if names.len() < self.entries.len() || !self.entries.keys().all(|name| names.binary_search(name).is_ok()) {
            self.entries.retain(|name, _| names.binary_search(name).is_ok());
        }
        newest.extend(newest_of_each(&names));
        for name in names {
            if newest.contains(&name) || !self.entries.contains_key(&name) {
                self.look_at(world, directory, name)?;
            }
        }
        Ok(())
    }

    fn look_at<W: World>(&mut self, world: &W, directory: &W::Node, name: SegmentName) -> io::Result<()> {
        let facts = world.facts_at(directory, &name.to_os())?;
        if self.entries.get(&name).is_some_and(|entry| is_unchanged(&entry.facts, &facts)) {
            return Ok(());
        }
        let ending = match facts.kind {
            Kind::File => {
                let node = world.open(directory, &name.to_os(), Open::Read)?;
                Ending::read(world, &node, facts.size)?
            }
            _ => Ending::UNUSABLE,
        };
        self.entries.insert(name, Entry { facts, ending });
        Ok(())
    }

    /// What is known of a segment.
    pub(crate) fn get(&self, name: SegmentName) -> Option<&Entry> {
        self.entries.get(&name)
    }

    /// Notes what this process has just appended: whole lines, of which the last has these numbers.
    pub(crate) fn note_append(&mut self, name: SegmentName, facts: Facts, seq: u64, deliverable: u64) {
        let last = Some(Last { seq, deliverable, ending: LineEnd::Present });
        let ending = Ending { size: facts.size, covered: facts.size, last };
        self.entries.insert(name, Entry { facts, ending });
    }

    /// Forgets a segment, so that it is read again.
    pub(crate) fn forget(&mut self, name: SegmentName) {
        self.entries.remove(&name);
    }

    /// All segments, in the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SegmentName, &Entry)> {
        self.entries.iter().map(|(name, entry)| (*name, entry))
    }

    /// The last segment of a generation.
    pub(crate) fn newest_of(&self, generation: u64) -> Option<(SegmentName, &Entry)> {
        let first = SegmentName { generation, number: 0 };
        let last = SegmentName { generation, number: u32::MAX };
        self.entries.range(first..=last).next_back().map(|(name, entry)| (*name, entry))
    }

    /// The last segment of all.
    pub(crate) fn newest(&self) -> Option<SegmentName> {
        self.entries.keys().next_back().copied()
    }

    /// The highest number that the segments prove to be issued.
    pub(crate) fn issued(&self) -> u64 {
        issued(self.entries.values().map(|entry| &entry.ending))
    }

    /// The highest number of a wake that is delivered.
    pub(crate) fn deliverable(&self) -> u64 {
        self.entries.values().filter_map(|entry| entry.ending.last).map(|last| last.deliverable).max().unwrap_or(0)
    }

    /// The size of all segments in bytes.
    pub(crate) fn size(&self) -> u64 {
        let regular = self.entries.values().filter(|entry| entry.facts.kind == Kind::File);
        regular.fold(0, |sum, entry| sum.saturating_add(entry.facts.size))
    }
}

/// The newest segment of each generation, of names in order.
fn newest_of_each(names: &[SegmentName]) -> impl Iterator<Item = SegmentName> {
    let is_last = |place: usize| names.get(place + 1).is_none_or(|next| next.generation != names[place].generation);
    (0..names.len()).filter(move |&place| is_last(place)).map(|place| names[place])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::codec;
    use crate::journal::codec::tests::wake;
    use crate::system::{Open, Real};

    fn node_of(bytes: &[u8]) -> (tempfile::TempDir, std::fs::File) {
        let directory = tempfile::tempdir().unwrap();
        let opened = Real.open_directory(directory.path()).unwrap();
        let node = Real.open(&opened, OsStr::new("s"), Open::Append).unwrap();
        storage::append_all(&Real, &node, bytes).unwrap();
        let node = Real.open(&opened, OsStr::new("s"), Open::Read).unwrap();
        (directory, node)
    }

    fn lines(range: Range<u64>) -> Vec<u8> {
        range.flat_map(|seq| codec::encode(&mut wake(seq), seq).unwrap()).collect()
    }

    #[test]
    fn names_are_read_only_as_they_are_written() {
        let name = SegmentName { generation: 7, number: 12 };
        assert_eq!(name.to_string(), "00000000000000000007-000012.log");
        assert_eq!(SegmentName::parse(&name.to_os()), Some(name));
        for other in ["7-12.log", "00000000000000000007-000012.log.torn", "lock", "+0000000000000000007-000012.log"] {
            assert_eq!(SegmentName::parse(OsStr::new(other)), None, "{other}");
        }
    }

    #[test]
    fn a_wake_is_found_by_halving_wherever_it_stands() {
        let bytes = lines(1..400);
        let (_directory, node) = node_of(&bytes);
        for wanted in (1..400).step_by(7) {
            let found = seek(&Real, &node, bytes.len() as u64, |placed| placed.record.wake.seq >= wanted).unwrap();
            assert_eq!(found.unwrap().record.wake.seq, wanted);
        }
        assert!(seek(&Real, &node, bytes.len() as u64, |_| false).unwrap().is_none());
    }

    #[test]
    fn a_wake_is_found_across_a_long_damage() {
        let mut bytes = lines(1..50);
        bytes.extend(vec![0; 300_000]);
        bytes.extend(lines(50..80));
        let (_directory, node) = node_of(&bytes);
        for wanted in 1..80 {
            let found = seek(&Real, &node, bytes.len() as u64, |placed| placed.record.wake.seq >= wanted).unwrap();
            assert_eq!(found.unwrap().record.wake.seq, wanted);
        }
    }

    #[test]
    fn a_nul_tail_of_any_length_is_not_a_clean_end() {
        let lines = lines(1..3);
        for nuls in (1..=4096).step_by(17).chain([4096]) {
            let mut bytes = lines.clone();
            bytes.extend(vec![0; nuls]);
            let (_directory, node) = node_of(&bytes);
            let ending = Ending::read(&Real, &node, bytes.len() as u64).unwrap();
            assert_eq!((ending.torn(), ending.last.unwrap().seq), (nuls as u64, 2));
            assert!(!ending.is_clean());
            assert!(issued([&ending]) > 2);
        }
    }

    #[test]
    fn an_empty_segment_is_clean_and_one_without_a_line_end_is_not() {
        let (_directory, node) = node_of(b"");
        assert!(Ending::read(&Real, &node, 0).unwrap().is_clean());
        let bytes = lines(1..2);
        let (_directory, node) = node_of(&bytes[..bytes.len() - 1]);
        let ending = Ending::read(&Real, &node, bytes.len() as u64 - 1).unwrap();
        assert_eq!(ending.last.unwrap().seq, 1);
        assert!(!ending.is_clean());
    }
}
