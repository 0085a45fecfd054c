//! Reading the journal: all of it, or what is new.
//!
//! A reader takes no lock and may look at any moment. It remembers how far it has read each segment, so a look costs a
//! directory listing and one `stat` per segment, however many wakes are old.
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

use std::path::Path;
use std::time::Duration;

use super::acknowledgement::{Claim, Standing};
use super::damage::Damage;
use super::reader::{Reader, Source};
use super::record::Wake;
use crate::base::error::Result;
use crate::base::wait_until::wait_until;
use crate::system::World;

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
pub struct Look {
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
    pub fn look<W: World>(&mut self, world: &W, directory: &W::Node, path: &Path) -> Result<Look> {
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
        let Standing { through, damage, .. } = claim.against(self.reader.issued());
        if damage != self.reported {
            self.reader.damage.extend(damage.clone());
            self.reported = damage;
        }
        Ok(Look { wakes, acknowledged: through, damage: std::mem::take(&mut self.reader.damage) })
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
    let Look { wakes, acknowledged, mut damage } = follower.look(world, directory, path)?;
    damage.extend(follower.torn_ends(&Source { world, directory, path }));
    let last_seq = wakes.last().map_or(0, |wake| wake.seq);
    Ok(Contents { wakes, acknowledged, damage, last_seq })
}

#[cfg(test)]
mod tests;
