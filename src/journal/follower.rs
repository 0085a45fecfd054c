//! Reading the journal: all of it, or what is new.
//!
//! A reader takes no lock and may look at any moment. It remembers how far it has read each segment, so a look costs a
//! directory listing and one `stat` per segment, however many wakes are old. What stands at the end of a segment and is
//! not (yet) a wake is looked at again when the segment has grown; it may be an append in progress.
//!
//! A look is a consistent cut. Segments are read one after the other, and two generations may append at the same time,
//! so a first round can meet wake 10 in one segment while wake 9 was written to another just after that was read. Whoever
//! then acknowledged 10 would retire 9 unseen. So a second round follows, and only wakes up to the highest number of
//! the first one are handed out: whatever was written before that one is found by then.
//!
//! The acknowledgement is read before the segments, so it can never seem to be ahead of them.
//!
//! Limits: a torn end may be an append in progress. A follower says nothing about it; [`read_all`] reports it if it
//! stands for longer than any append takes.

use super::acknowledgement::{Acknowledgement, Claim};
use super::codec::LineEnd;
use super::error::{Damage, Harm};
use super::record::Wake;
use super::segment::{self, Ending, Last, SegmentName, seek, walk};
use crate::base::error::{Context, Result};
use crate::base::wait_until::wait_until;
use crate::system::{Facts, Kind, Open, World};
use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

/// How long an append may take between its first byte and its last before a reader calls the end torn.
const APPEND_TAKES: Duration = Duration::from_millis(20);
/// An end that was not touched for so long is not in the middle of an append.
const RECENT: Duration = Duration::from_secs(1);

/// Which wakes a follower begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Those that are not acknowledged.
    Unacknowledged,
    /// Those after this number.
    After(u64),
}

/// What one look brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// The wakes that are new since the look before, by number, each once.
    pub wakes: Vec<Wake>,
    /// Up to which number wakes are acknowledged.
    pub acknowledged: u64,
    /// What was found damaged since the look before.
    pub damage: Vec<Damage>,
}

/// All that a journal holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// The wakes that are kept, acknowledged or not, by number, each once.
    pub wakes: Vec<Wake>,
    /// Up to which number wakes are acknowledged.
    pub acknowledged: u64,
    /// What is damaged.
    pub damage: Vec<Damage>,
    /// The number of the last wake; 0 when there is none.
    pub last_seq: u64,
}

/// A reader that hands out each wake once.
#[derive(Debug)]
pub struct Follower {
    stage: Stage,
    reader: Reader,
    /// What was said about the acknowledgement last, so that it is not said at each look.
    reported: Option<Damage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Fresh(Start),
    Following,
}

impl Follower {
    /// A follower that has not looked yet.
    pub fn new(start: Start) -> Self {
        Self { stage: Stage::Fresh(start), reader: Reader::default(), reported: None }
    }

    /// Reads what is new in the journal of a directory, always the same one. `path` is for messages.
    ///
    /// # Errors
    /// A directory or segment that cannot be opened, lest its wakes be passed over in silence.
    pub fn look<W: World>(&mut self, world: &W, directory: &W::Node, path: &Path) -> Result<Update> {
        let source = Source { world, directory, path };
        let claim = Claim::read(world, directory);
        if let Stage::Fresh(start) = self.stage {
            self.reader.read_ends(&source)?;
            let through = match start {
                Start::Unacknowledged => claim.clone().against(self.reader.issued()).through,
                Start::After(seq) => seq,
            };
            self.reader.pass_over(&source, through)?;
        }
        let wakes = self.cut(&source)?;
        self.stage = Stage::Following;
        let Acknowledgement { through, damage, .. } = claim.against(self.reader.issued());
        if damage != self.reported {
            self.reader.damage.extend(damage.clone());
            self.reported = damage;
        }
        Ok(Update { wakes, acknowledged: through, damage: std::mem::take(&mut self.reader.damage) })
    }

    fn cut<W: World>(&mut self, source: &Source<'_, W>) -> Result<Vec<Wake>> {
        let reader = &mut self.reader;
        reader.read_new(source)?;
        let passed = reader.passed;
        let found = reader.found();
        let highest = found.last().map_or(passed, |wake| wake.seq);
        // Without a hole between the wakes handed out before and the highest one, none can be missing.
        let has_hole = found.len() as u64 != highest - passed;
        if self.stage != Stage::Following || has_hole {
            reader.read_new(source)?;
        }
        Ok(reader.take_through(highest))
    }

    /// What stands at the ends of segments and is no wake, once it is certain that nobody is just writing it.
    fn torn_ends<W: World>(&mut self, source: &Source<'_, W>) -> Vec<Damage> {
        let is_recent = |mtime_ns: i64| {
            let age_ms = source.world.now().wall_ms.saturating_sub(mtime_ns / 1_000_000);
            u128::from(age_ms.unsigned_abs()) < RECENT.as_millis()
        };
        // What is found meanwhile waits for the next look, and failures come back there.
        let _settled = wait_until(APPEND_TAKES, Duration::from_millis(1), || {
            let is_settled = !self.reader.torn().any(|(facts, _)| is_recent(facts.mtime_ns));
            (is_settled || self.reader.read_new(source).is_err()).then_some(())
        });
        self.reader.torn().map(|(_, damage)| damage).collect()
    }
}

/// Reads all that a journal holds. `path` is for messages.
///
/// # Errors
/// A directory or segment that cannot be opened, lest its wakes be passed over in silence.
pub fn read_all<W: World>(world: &W, directory: &W::Node, path: &Path) -> Result<Contents> {
    let mut follower = Follower::new(Start::After(0));
    let Update { wakes, acknowledged, mut damage } = follower.look(world, directory, path)?;
    damage.extend(follower.torn_ends(&Source { world, directory, path }));
    let last_seq = wakes.last().map_or(0, |wake| wake.seq);
    Ok(Contents { wakes, acknowledged, damage, last_seq })
}

/// Reading positions, and the wakes that nobody has taken yet.
#[derive(Debug, Default)]
struct Reader {
    positions: BTreeMap<SegmentName, Position>,
    /// The wakes that were found, in the order of finding, which is nearly that of their numbers.
    found: Vec<Wake>,
    /// Wakes up to this number are of no interest.
    passed: u64,
    /// What was found damaged and not taken yet.
    damage: Vec<Damage>,
}

/// How far a segment was read.
#[derive(Debug, Clone, Copy)]
struct Position {
    facts: Facts,
    /// Where the next walk starts.
    next: u64,
    ending: Ending,
}

/// The journal's directory, in the world it lives in.
struct Source<'a, W: World> {
    world: &'a W,
    directory: &'a W::Node,
    path: &'a Path,
}

impl Reader {
    /// The highest number that the segments prove to be issued.
    fn issued(&self) -> u64 {
        segment::issued(self.positions.values().map(|position| &position.ending))
    }

    /// Goes once over all segments and reads what is new in them.
    fn read_new<W: World>(&mut self, source: &Source<'_, W>) -> Result<()> {
        self.visit_all(source, |reader, name, node, facts| {
            reader.read_on(source.world, name, node, facts);
            Ok(())
        })
    }

    /// Goes once over all segments and reads only how they end.
    fn read_ends<W: World>(&mut self, source: &Source<'_, W>) -> Result<()> {
        self.visit_all(source, |reader, name, node, facts| {
            let ending = Ending::read(source.world, node, facts.size)?;
            reader.positions.insert(name, Position { facts, next: 0, ending });
            Ok(())
        })
    }

    fn visit_all<W: World>(
        &mut self,
        source: &Source<'_, W>,
        mut visit: impl FnMut(&mut Self, SegmentName, &W::Node, Facts) -> io::Result<()>,
    ) -> Result<()> {
        let names = segment::list(source.world, source.directory).doing("read", source.path)?;
        self.positions.retain(|name, _| names.binary_search(name).is_ok());
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
        let position = self.positions.get(&name).filter(|position| position.facts.is_same_inode(&facts));
        if position
            .is_some_and(|position| position.facts.size == facts.size && position.next >= position.ending.covered)
        {
            return Ok(None);
        }
        if facts.kind != Kind::File {
            self.damage.push(Damage::whole(name.to_string(), "not a regular file; nothing in it is read"));
            self.positions.insert(name, Position { facts, next: 0, ending: Ending::UNUSABLE });
            return Ok(None);
        }
        if position.is_none() {
            self.positions.remove(&name);
        }
        Ok(Some((source.world.open(source.directory, &name.to_os(), Open::Read)?, facts)))
    }

    /// Reads the wakes of a segment from where the last walk came to.
    fn read_on<W: World>(&mut self, world: &W, name: SegmentName, node: &W::Node, facts: Facts) {
        let position = self.positions.get(&name);
        let start = position.map_or(0, |position| position.next).min(facts.size);
        let (mut next, mut last) = (start, position.and_then(|position| position.ending.last));
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
        self.positions.insert(name, Position { facts: Facts { size: ending.size, ..facts }, next, ending });
    }

    /// The wakes that were found, by number. Of two with one number the first found counts.
    fn found(&mut self) -> &[Wake] {
        self.found.sort_by_key(|wake| wake.seq);
        self.found.dedup_by_key(|wake| wake.seq);
        &self.found
    }

    /// Hands out the wakes up to a number, by number, and passes over any that come with such a number later.
    fn take_through(&mut self, seq: u64) -> Vec<Wake> {
        let count = self.found().partition_point(|wake| wake.seq <= seq);
        let later = self.found.split_off(count);
        self.passed = seq;
        std::mem::replace(&mut self.found, later)
    }

    /// After [`Reader::read_ends`]: passes over all wakes up to a number, reading as little of them as can be.
    fn pass_over<W: World>(&mut self, source: &Source<'_, W>, through: u64) -> Result<()> {
        self.passed = through;
        for (name, position) in &mut self.positions {
            let Some(last) = position.ending.last.filter(|_| through > 0) else { continue };
            if last.seq <= through && last.ending == LineEnd::Present {
                position.next = position.ending.covered;
                continue;
            }
            // A segment that cannot be opened now is read from its beginning, and is reported then.
            let Ok(node) = source.world.open(source.directory, &name.to_os(), Open::Read) else { continue };
            let found = seek(source.world, &node, position.ending.size, |placed| placed.record.wake.seq > through)
                .doing("read", source.path.join(name.to_os()))?;
            position.next = found.map_or(0, |placed| placed.start);
        }
        Ok(())
    }

    /// The segments whose end is not a wake, each with its facts and the damage.
    fn torn(&self) -> impl Iterator<Item = (Facts, Damage)> {
        let is_torn = |position: &Position| position.ending != Ending::UNUSABLE && position.ending.torn() > 0;
        self.positions.iter().filter(move |(_, position)| is_torn(position)).map(|(name, position)| {
            let harm = Harm::TornTail { offset: position.ending.covered, length: position.ending.torn() };
            (position.facts, Damage { file: name.to_string(), harm })
        })
    }
}

#[cfg(test)]
mod tests;
