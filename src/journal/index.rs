//! What a writer knows of all segments.
//!
//! It is brought up to date under the journal's lock: other processes append too. Knowledge is kept between two
//! appends, so that the usual case costs a directory listing and one `stat`: nobody else has written, and only the
//! last segment of each generation may have changed at all.

use std::collections::BTreeMap;
use std::io;

use super::scan::LineEnd;
use super::segment::{self, Ending, Last, SegmentName, is_unchanged};
use crate::system::{Facts, Kind, Open, World};

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
        let names = segment::list(world, directory)?;
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
        segment::issued(self.entries.values().map(|entry| &entry.ending))
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
