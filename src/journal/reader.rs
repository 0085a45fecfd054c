//! How far each segment was read, and what was found on the way.
//!
//! What stands at the end of a segment and is not (yet) a wake is looked at again when the segment has grown; it may be
//! an append in progress.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use super::damage::{Damage, Harm};
use super::record::Wake;
use super::scan::LineEnd;
use super::segment::{self, Ending, Last, SegmentName, seek, walk};
use crate::base::error::{Context, Result};
use crate::system::{Facts, Kind, Open, World};

/// Reading places, and the wakes that nobody has taken yet.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    places: BTreeMap<SegmentName, Place>,
    /// The wakes that were found, in the order of finding, which is nearly that of their numbers.
    found: Vec<Wake>,
    /// Wakes up to this number are of no interest.
    pub(crate) passed: u64,
    /// What was found damaged and not taken yet.
    pub(crate) damage: Vec<Damage>,
}

/// How far a segment was read.
#[derive(Debug, Clone, Copy)]
struct Place {
    facts: Facts,
    /// Where the next walk starts.
    next: u64,
    ending: Ending,
}

/// The journal's directory, in the world it lives in.
pub(crate) struct Source<'a, W: World> {
    pub(crate) world: &'a W,
    pub(crate) directory: &'a W::Node,
    pub(crate) path: &'a Path,
}

impl Reader {
    /// The highest number that the segments prove to be issued.
    pub(crate) fn issued(&self) -> u64 {
        segment::issued(self.places.values().map(|place| &place.ending))
    }

    /// Goes once over all segments and reads what is new in them.
    pub(crate) fn read_new<W: World>(&mut self, source: &Source<'_, W>) -> Result<()> {
        self.visit_all(source, |reader, name, node, facts| {
            reader.read_on(source.world, name, node, facts);
            Ok(())
        })
    }

    /// Goes once over all segments and reads only how they end.
    pub(crate) fn read_ends<W: World>(&mut self, source: &Source<'_, W>) -> Result<()> {
        self.visit_all(source, |reader, name, node, facts| {
            let ending = Ending::read(source.world, node, facts.size)?;
            reader.places.insert(name, Place { facts, next: 0, ending });
            Ok(())
        })
    }

    fn visit_all<W: World>(
        &mut self,
        source: &Source<'_, W>,
        mut visit: impl FnMut(&mut Self, SegmentName, &W::Node, Facts) -> io::Result<()>,
    ) -> Result<()> {
        let names = segment::list(source.world, source.directory).doing("read", source.path)?;
        self.places.retain(|name, _| names.binary_search(name).is_ok());
        for name in names {
            let visited = match self.open_if_unread(source, name) {
                Ok(Some((node, facts))) => visit(self, name, &node, facts),
                Ok(None) => Ok(()),
                // Removed since it was listed: everything in it was acknowledged.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            };
            visited.doing("read", source.path.join(name.to_os()))?;
        }
        Ok(())
    }

    fn open_if_unread<W: World>(
        &mut self,
        source: &Source<'_, W>,
        name: SegmentName,
    ) -> io::Result<Option<(W::Node, Facts)>> {
        let facts = source.world.facts_at(source.directory, &name.to_os())?;
        let place = self.places.get(&name).filter(|place| place.facts.is_same_inode(&facts));
        if place.is_some_and(|place| place.facts.size == facts.size && place.next >= place.ending.covered) {
            return Ok(None);
        }
        if facts.kind != Kind::File {
            self.damage.push(Damage::whole(name.to_string(), "not a regular file; nothing in it is read"));
            self.places.insert(name, Place { facts, next: 0, ending: Ending::UNUSABLE });
            return Ok(None);
        }
        if place.is_none() {
            self.places.remove(&name);
        }
        Ok(Some((source.world.open(source.directory, &name.to_os(), Open::Read)?, facts)))
    }

    /// Reads the wakes of a segment from where the last walk came to.
    fn read_on<W: World>(&mut self, world: &W, name: SegmentName, node: &W::Node, facts: Facts) {
        let place = self.places.get(&name);
        let start = place.map_or(0, |place| place.next).min(facts.size);
        let (mut next, mut last) = (start, place.and_then(|place| place.ending.last));
        let (found, passed) = (&mut self.found, self.passed);
        let walked = walk(world, node, start..u64::MAX, |placed| {
            last = Some(Last::of(&placed));
            // A wake without its line end is read again, or the line end would be taken for damage later.
            next = if placed.ending == LineEnd::Present { placed.end } else { placed.start };
            let wake = placed.record.wake;
            if wake.seq > passed {
                found.push(wake);
            }
            ControlFlow::Continue(())
        });
        let ending = match walked {
            Ok(walked) => {
                let harms =
                    walked.gaps.iter().map(|gap| Harm::Middle { offset: gap.start, length: gap.end - gap.start });
                self.damage.extend(harms.map(|harm| Damage { file: name.to_string(), harm }));
                Ending { size: walked.read, covered: walked.covered, last }
            }
            Err(error) => {
                // The rest of the journal is worth more than silence about all of it.
                self.damage.push(Damage::whole(name.to_string(), format!("unreadable from byte {next} on: {error}")));
                Ending { size: facts.size, covered: next, last }
            }
        };
        self.places.insert(name, Place { facts: Facts { size: ending.size, ..facts }, next, ending });
    }

    /// The wakes that were found, by number. Of two with one number the first found counts.
    pub(crate) fn found(&mut self) -> &[Wake] {
        self.found.sort_by_key(|wake| wake.seq);
        self.found.dedup_by_key(|wake| wake.seq);
        &self.found
    }

    /// Hands out the wakes up to a number, by number, and passes over any that come with such a number later.
    pub(crate) fn take_through(&mut self, seq: u64) -> Vec<Wake> {
        let count = self.found().partition_point(|wake| wake.seq <= seq);
        let later = self.found.split_off(count);
        self.passed = seq;
        std::mem::replace(&mut self.found, later)
    }

    /// After [`Reader::read_ends`]: passes over all wakes up to a number, reading as little of them as can be.
    pub(crate) fn pass_over<W: World>(&mut self, source: &Source<'_, W>, through: u64) -> Result<()> {
        self.passed = through;
        for (name, place) in &mut self.places {
            let Some(last) = place.ending.last.filter(|_| through > 0) else { continue };
            if last.seq <= through && last.ending == LineEnd::Present {
                place.next = place.ending.covered;
                continue;
            }
            // A segment that cannot be opened now is read from its beginning, and is reported then.
            let Ok(node) = source.world.open(source.directory, &name.to_os(), Open::Read) else { continue };
            let found = seek(source.world, &node, place.ending.size, |placed| placed.record.wake.seq > through)
                .doing("read", source.path.join(name.to_os()))?;
            place.next = found.map_or(0, |placed| placed.start);
        }
        Ok(())
    }

    /// The segments whose end is not a wake, each with its facts and the damage.
    pub(crate) fn torn(&self) -> impl Iterator<Item = (Facts, Damage)> {
        let is_torn = |place: &Place| place.ending != Ending::UNUSABLE && place.ending.torn() > 0;
        self.places.iter().filter(move |(_, place)| is_torn(place)).map(|(name, place)| {
            let harm = Harm::TornTail { offset: place.ending.covered, length: place.ending.torn() };
            (place.facts, Damage { file: name.to_string(), harm })
        })
    }
}
