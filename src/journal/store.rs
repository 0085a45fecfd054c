//! The journal: where a wake becomes durable.
//!
//! # Theory of operation
//!
//! An append is one critical section under the journal's lock: notice what others appended, give out numbers, write all
//! lines of the batch with one `write` to the newest segment of the caller's own generation, `fdatasync`, answer. Only
//! then may the caller move a marker that hides the cause. Numbers grow by one and are never used again, also not after
//! damage or compaction: the segment with the highest number is never removed, and a torn tail counts as
//! many numbers as it has room for.
//!
//! What can go wrong, and what is done:
//! - *The writer dies, or the disk is full, within a line.* What was written stays; a segment whose end is not a clean
//!   line end is never appended to again, by anyone. The next append opens the segment with the next number.
//! - *A sync fails.* The kernel may have dropped the pages and will report success the next time. So the segment is
//!   suspect: the batch is written again, under the same numbers, to a new segment; readers take the first of two wakes
//!   with one number. If that fails too, the append fails.
//! - *The name of a new segment is lost with the power.* Whoever first uses a segment syncs the directory before it
//!   answers, whether it made the segment or found it made by somebody who may have died before doing so.
//! - *An old holder wakes up and writes.* Its wakes go to the segment of its own generation and are read like all others.
//!
//! Torn bytes are left where they are, because nothing is ever cut or rewritten; [`Journal::compact`] copies them aside
//! before it removes their segment.
//!
//! Limits: a batch that fails half-way may leave its first wakes behind, whole and visible. They are told; a caller that
//! tries again tells them twice. A process that may meet a file size limit must ignore `SIGXFSZ`.

use std::path::PathBuf;
use std::sync::Arc;

use super::acknowledgement::Claim;
use super::codec;
use super::error::JournalError;
use super::error::{Damage, Harm};
use super::record::{Delivery, Draft, Wake};
use super::segment::Index;
use super::segment::{Ending, SegmentName};
use super::writer::{Failure, JournalLock, Limits, Writer};
use crate::base::error::{Context, Error, Result};
use crate::base::failpoint;
use crate::base::failpoint::Failpoint;
use crate::system::World;

/// A writer of the journal. Any number of them, in any number of processes, may be open at once.
pub struct Journal<W: World> {
    pub(crate) world: Arc<W>,
    pub(crate) directory: W::Node,
    pub(crate) path: PathBuf,
    limits: Limits,
    pub(crate) index: Index,
    /// What no new number may be below; `None` until the acknowledgement was read.
    floor: Option<u64>,
    writer: Writer<W>,
    pub(crate) damage: Vec<Damage>,
}

/// A batch that is ready to be written.
struct Batch {
    wakes: Vec<Wake>,
    bytes: Vec<u8>,
    deliverable: u64,
}

impl<W: World> Journal<W> {
    /// Opens a journal in a directory that exists. `path` is for messages. Nothing is read or written yet.
    pub fn open(world: Arc<W>, directory: W::Node, path: PathBuf, limits: Limits) -> Self {
        let (index, damage) = (Index::default(), Vec::new());
        Self { world, directory, path, limits, index, floor: None, writer: Writer::default(), damage }
    }

    /// Appends wakes, all with one sync, and returns them with their numbers. They are durable when this returns.
    ///
    /// # Errors
    /// [`JournalError::Busy`], [`JournalError::Full`], and those of the system. No wake was promised then, and later
    /// appends work as soon as the cause is gone.
    pub fn append(&mut self, generation: u64, drafts: &[Draft]) -> Result<Vec<Wake>, JournalError> {
        if drafts.is_empty() {
            return Ok(Vec::new());
        }
        let _lock = self.lock()?;
        failpoint::reach(Failpoint::JournalLocked).doing("append to", &self.path)?;
        let floor = self.catch_up()?;
        let batch = self.prepare(floor, generation, drafts)?;
        let size = self.index.size();
        if size.saturating_add(batch.bytes.len() as u64) > self.limits.journal_max {
            return Err(JournalError::Full { path: self.path.clone(), size, limit: self.limits.journal_max });
        }
        self.write_durably(generation, &batch)?;
        self.floor = batch.wakes.last().map(|wake| wake.seq);
        Ok(batch.wakes)
    }

    /// The highest number that any process has given out until now.
    ///
    /// # Errors
    /// [`JournalError::Busy`] and those of the system.
    pub fn issued(&mut self) -> Result<u64, JournalError> {
        // Without the lock, a line that another process is just writing would look like a torn end.
        let _lock = self.lock()?;
        Ok(self.catch_up()?)
    }

    /// Keeps all writers out as long as the answer lives. Whoever removes a journal does it under that: a writer that was
    /// waiting meanwhile finds no journal and says so, instead of writing where nobody looks any more.
    ///
    /// # Errors
    /// [`JournalError::Busy`] and those of the system.
    pub fn keep_writers_out(&self) -> Result<impl Sized + use<W>, JournalError> {
        self.lock()
    }

    /// What this writer has found damaged since it was asked last.
    pub fn take_damage(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.damage)
    }

    pub(crate) fn lock(&self) -> Result<JournalLock<W>, JournalError> {
        JournalLock::take(&*self.world, &self.directory, &self.path, self.limits.lock_wait)
    }

    /// Learns what others have written. Returns the highest number that may have been issued.
    pub(crate) fn catch_up(&mut self) -> Result<u64> {
        self.index.refresh(&*self.world, &self.directory).doing("read", &self.path)?;
        let known = match self.floor {
            Some(floor) => floor,
            None => self.check_acknowledgement()?,
        };
        let floor = known.max(self.index.issued());
        self.floor = Some(floor);
        Ok(floor)
    }

    /// Reads the acknowledgement once. One that claims more than the journal has is replaced before its numbers
    /// are given out, or it would retire wakes that nobody has seen.
    fn check_acknowledgement(&mut self) -> Result<u64> {
        let acknowledgement = Claim::read(&*self.world, &self.directory).against(self.index.issued());
        if let Some(damage) = &acknowledgement.damage {
            acknowledgement.write(&*self.world, &self.directory, &self.path)?;
            self.damage.push(damage.clone());
        }
        Ok(acknowledgement.issued)
    }

    fn prepare(&self, floor: u64, generation: u64, drafts: &[Draft]) -> Result<Batch> {
        let at = self.world.now().wall_ms;
        let mut batch = Batch { wakes: Vec::new(), bytes: Vec::new(), deliverable: self.index.deliverable() };
        let mut seq = floor;
        for draft in drafts {
            seq = seq.checked_add(1).ok_or_else(|| {
                Error::refused(&self.path, "its wake numbers are used up", "move the directory away to begin anew")
            })?;
            let mut wake = wake_of(draft, seq, generation, at);
            if wake.delivery != Delivery::Never {
                batch.deliverable = seq;
            }
            batch.bytes.extend(codec::encode(&mut wake, batch.deliverable).doing("append to", &self.path)?);
            batch.wakes.push(wake);
        }
        Ok(batch)
    }

    fn write_durably(&mut self, generation: u64, batch: &Batch) -> Result<()> {
        match self.write_once(generation, batch) {
            Err((name, Failure::Sync(error))) => {
                self.damage.push(Damage::whole(name.to_string(), format!("a sync failed ({error}); no longer used")));
                self.write_once(generation, batch).map_err(|(name, failure)| self.explain(name, failure))
            }
            other => other.map_err(|(name, failure)| self.explain(name, failure)),
        }
    }

    fn write_once(&mut self, generation: u64, batch: &Batch) -> Result<(), (SegmentName, Failure)> {
        let name = self.choose_segment(generation);
        let last = batch.wakes.last().map_or(0, |wake| wake.seq);
        let named = self.index.get(name).map(|entry| entry.facts);
        let written = self.writer.write(&*self.world, &self.directory, (name, named), &batch.bytes);
        match written {
            Ok(facts) => {
                self.index.note_append(name, facts, last, batch.deliverable);
                Ok(())
            }
            Err(failure) => {
                self.index.forget(name);
                Err((name, failure))
            }
        }
    }

    /// The segment that this generation appends to now: its newest, or the one after it.
    fn choose_segment(&mut self, generation: u64) -> SegmentName {
        let newest = self.index.newest_of(generation);
        if let Some((name, entry)) = newest {
            let is_open = entry.ending.is_clean() || !failpoint::is_protected(Failpoint::JournalTornTailClosesSegment);
            if is_open && entry.facts.size < self.limits.segment_bytes && !self.writer.has_left(name) {
                return name;
            }
            if entry.ending == Ending::UNUSABLE {
                self.damage.push(Damage::whole(name.to_string(), "not a regular file"));
            } else if entry.ending.torn() > 0 {
                let harm = Harm::TornTail { offset: entry.ending.covered, length: entry.ending.torn() };
                self.damage.push(Damage { file: name.to_string(), harm });
            }
        }
        let next = newest.map_or(0, |(name, _)| name.number.saturating_add(1));
        SegmentName { generation, number: next.max(self.writer.next_number(generation)) }
    }

    fn explain(&self, name: SegmentName, failure: Failure) -> Error {
        let path = self.path.join(name.to_string());
        match failure {
            Failure::Write(error) => Error::system("append to", path, error),
            Failure::Sync(error) => Error::system("make durable", path, error),
        }
    }
}

fn wake_of(draft: &Draft, seq: u64, generation: u64, at: i64) -> Wake {
    let Draft { kind, key, text, context, mark, delivery } = draft.clone();
    Wake { seq, generation, at, kind, key, text, context, mark, delivery }
}

#[cfg(test)]
mod tests;
