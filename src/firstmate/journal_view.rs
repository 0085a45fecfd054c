//! The journal as the queue's side sees it: which wakes are pending, and which rows became wakes.
//!
//! A look costs a listing and a `stat` per segment once the journal was read. Contexts are left out: no row has one.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::row::{Content, Row};
use crate::base::error::Result;
use crate::journal::record::{Delivery, Mark, Wake};
use crate::journal::{Follower, Start};
use crate::system::World;

/// About so many of the last rows are known again at least.
const KEPT: usize = 100_000;

/// What the journal holds for the queue.
#[derive(Debug)]
pub struct JournalView {
    follower: Follower,
    pending: BTreeMap<u64, Wake>,
    taken: HashMap<String, u64>,
    acknowledged: u64,
    last: u64,
}

impl Default for JournalView {
    fn default() -> Self {
        let follower = Follower::new(Start::After(0));
        Self { follower, pending: BTreeMap::new(), taken: HashMap::new(), acknowledged: 0, last: 0 }
    }
}

impl JournalView {
    /// Learns what is new in the journal. `path` is for messages.
    ///
    /// # Errors
    /// A directory or segment that cannot be opened.
    pub fn look<W: World>(&mut self, world: &W, directory: &W::Node, path: &Path) -> Result<()> {
        let look = self.follower.look(world, directory, path)?;
        for wake in look.wakes {
            self.last = self.last.max(wake.seq);
            if let Some(Mark::Row { fingerprint }) = &wake.mark {
                self.taken.insert(fingerprint.clone(), wake.seq);
                self.forget_old();
            }
            if wake.delivery != Delivery::Never {
                self.pending.insert(wake.seq, Wake { context: None, ..wake });
            }
        }
        self.acknowledge(look.acknowledged);
        Ok(())
    }

    /// A watcher lives for months, and a row is in the queue for minutes.
    fn forget_old(&mut self) {
        if self.taken.len() > 2 * KEPT {
            let oldest = self.last.saturating_sub(KEPT as u64);
            self.taken.retain(|_, wake| *wake > oldest);
        }
    }

    /// Takes note that wakes are acknowledged up to a number.
    pub fn acknowledge(&mut self, through: u64) {
        self.acknowledged = through;
        self.pending = self.pending.split_off(&through.saturating_add(1));
    }

    /// Up to which number wakes are acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The number of the last wake.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The pending wakes, by number.
    pub fn pending(&self) -> impl Iterator<Item = &Wake> {
        self.pending.values()
    }

    /// The wake that a row became, as far as the journal still has it.
    pub fn wake_of(&self, fingerprint: &str) -> Option<u64> {
        self.taken.get(fingerprint).copied()
    }

    /// What is to be told in rows of the pending wakes after a number.
    pub fn untold(&self, published: u64) -> impl Iterator<Item = (u64, Content)> {
        let later = self.pending.range(published.saturating_add(1)..);
        later.filter_map(|(seq, wake)| Some((*seq, Content::of(wake)?)))
    }

    /// The wake after a number that says the same as a row.
    pub fn twin_of(&self, row: &Row, published: u64) -> Option<u64> {
        self.untold(published).find(|(_, content)| row.says(content)).map(|(seq, _)| seq)
    }
}
