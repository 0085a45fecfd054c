//! What is known of both sides: which row is which wake, and what was told without us.
//!
//! # Theory
//!
//! A wake is pending until it is acknowledged; a row until a drain takes it. The map leads from one to the other. It
//! is read and replaced only under the queue's lock, so the watcher and a drain never disagree about it.
//!
//! - `rows` has the wake of each row that is in the queue and known. A row that is not in it is new and becomes a wake.
//! - `published` is the last wake that was looked at for a row. A later one gets its row.
//! - A known row that is gone was *consumed*: a drain that is not ours printed it. Its wake counts as told, and is
//!   acknowledged as soon as everything before it is. This is no proof after the loss of power, which can take rows
//!   that nobody saw, nor when there is no queue at all: a drain leaves an empty one.
//!
//! If this were wrong, a wake would be told for ever, or not at all. A map that is lost makes everything be told once
//! more: pending wakes get rows again, and rows become wakes again.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;

use serde::{Deserialize, Serialize};

use crate::layout::paths::names;
use crate::system::World;
use crate::system::storage::{self, Durability};
use crate::watcher::checkpoint::read_document;

/// The layout that this program writes.
const SCHEMA: u32 = 1;
/// The longest file that is read, in bytes.
const LIMIT: usize = 64 * 1024 * 1024;

/// The table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowMap {
    schema: u32,
    /// Under which boot it was compared with the queue last; empty where the system does not tell.
    boot_id: String,
    /// The last wake that was looked at for a row.
    pub published: u64,
    /// The highest number of a row that was ever seen or given out here.
    pub numbered: u64,
    /// The wakes of the known rows in the queue, by the rows' fingerprints.
    pub rows: BTreeMap<String, u64>,
    /// The wakes whose rows were consumed, as long as they are not acknowledged.
    pub consumed: BTreeSet<u64>,
}

/// What the absence of a known row means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// Somebody drained it.
    Consumed,
    /// Nothing: it may have been lost.
    Unexplained,
}

impl RowMap {
    /// Reads it from the watch directory. One that is missing or cannot be believed begins with the acknowledged wakes:
    /// they need no rows any more.
    pub fn load<W: World>(world: &W, watch: &W::Node, acknowledged: u64) -> Self {
        let row_map = match read_document(world, watch, names::WAKE_QUEUE, SCHEMA, LIMIT) {
            Ok(Some(row_map)) => row_map,
            Ok(None) => Self { boot_id: boot_id(world), ..Self::default() },
            Err(why) => {
                tracing::warn!("{} cannot be used: {why}; what waits is told once more", names::WAKE_QUEUE);
                Self::default()
            }
        };
        Self { schema: SCHEMA, published: row_map.published.max(acknowledged), ..row_map }
    }

    /// Replaces it durably.
    ///
    /// # Errors
    /// Those of the file system; the old one is then still in place.
    pub fn save<W: World>(&self, world: &W, watch: &W::Node) -> io::Result<()> {
        storage::replace(world, watch, names::WAKE_QUEUE, &serde_json::to_vec(self)?, Durability::Power)
    }

    /// Whether it was read, and is not what stands in for one that could not be.
    pub fn is_loaded(&self) -> bool {
        self.schema == SCHEMA
    }

    /// Whether it was compared with the queue under this boot.
    pub fn is_of_this_boot<W: World>(&self, world: &W) -> bool {
        !self.boot_id.is_empty() && self.boot_id == boot_id(world)
    }

    /// Takes note that what it says is true under this boot.
    pub fn note_boot<W: World>(&mut self, world: &W) {
        self.boot_id = boot_id(world);
    }

    /// Forgets the known rows that are not there any more.
    pub fn forget_absent(&mut self, present: &HashSet<String>, absence: Absence) {
        let gone: Vec<_> = self.rows.keys().filter(|row| !present.contains(*row)).cloned().collect();
        for row in gone {
            let wake = self.rows.remove(&row);
            if absence == Absence::Consumed {
                self.consumed.extend(wake);
            }
        }
    }

    /// Up to which number wakes can be acknowledged because all that are pending up to there were consumed, if that is
    /// further than before. The pending wakes are given by number.
    pub fn retire(&mut self, pending: impl IntoIterator<Item = u64>, acknowledged: u64) -> Option<u64> {
        self.consumed = self.consumed.split_off(&acknowledged.saturating_add(1));
        pending.into_iter().take_while(|seq| self.consumed.contains(seq)).last()
    }
}

fn boot_id<W: World>(world: &W) -> String {
    world.boot_id().unwrap_or_default()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make and remove files of their own")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::system::Real;

    fn with(rows: &[(&str, u64)]) -> RowMap {
        RowMap { rows: rows.iter().map(|(row, wake)| ((*row).to_owned(), *wake)).collect(), ..RowMap::default() }
    }

    fn set(rows: &[&str]) -> HashSet<String> {
        rows.iter().map(|row| (*row).to_owned()).collect()
    }

    #[test]
    fn a_row_that_is_gone_was_consumed_unless_it_may_have_been_lost() {
        let mut row_map = with(&[("a", 3), ("b", 4)]);
        row_map.forget_absent(&set(&["b"]), Absence::Consumed);
        assert_eq!((row_map.rows.len(), &row_map.consumed), (1, &BTreeSet::from([3])));
        let mut row_map = with(&[("a", 3), ("b", 4)]);
        row_map.forget_absent(&set(&["b"]), Absence::Unexplained);
        assert_eq!((row_map.rows.len(), row_map.consumed.len()), (1, 0));
    }

    #[test]
    fn what_was_consumed_is_retired_only_up_to_the_first_that_was_not() {
        let mut row_map = RowMap { consumed: BTreeSet::from([2, 3, 5, 7]), ..RowMap::default() };
        assert_eq!(row_map.retire([3, 5, 6, 7], 2), Some(5));
        assert_eq!(row_map.consumed, BTreeSet::from([3, 5, 7]));
        assert_eq!(row_map.retire([6, 7], 5), None);
        assert_eq!(row_map.retire([], 5), None);
    }

    #[test]
    fn what_is_saved_is_loaded_and_damage_begins_anew() {
        let directory = tempfile::tempdir().unwrap();
        let node = Real.open_directory(directory.path()).unwrap();
        assert_eq!(RowMap::load(&Real, &node, 5).published, 5);
        let mut row_map = RowMap { published: 9, schema: SCHEMA, ..with(&[("a", 3)]) };
        row_map.note_boot(&Real);
        row_map.save(&Real, &node).unwrap();
        assert_eq!(RowMap::load(&Real, &node, 5), row_map);
        assert!(row_map.is_of_this_boot(&Real));
        for content in ["", "{}", "[1]", r#"{"schema":2}"#] {
            std::fs::write(directory.path().join(names::WAKE_QUEUE), content).unwrap();
            let row_map = RowMap::load(&Real, &node, 5);
            assert_eq!((row_map.published, row_map.rows.len()), (5, 0), "{content}");
            assert!(!row_map.is_of_this_boot(&Real));
        }
    }

    proptest! {
        #[test]
        fn nothing_is_retired_that_was_not_consumed(
            pending in prop::collection::btree_set(1..20u64, 0..10), consumed in prop::collection::btree_set(1..20u64, 0..10)
        ) {
            let mut row_map = RowMap { consumed: consumed.clone(), ..RowMap::default() };
            let through = row_map.retire(pending.iter().copied(), 0);
            for seq in pending.iter().filter(|seq| Some(**seq) <= through) {
                prop_assert!(consumed.contains(seq));
            }
        }
    }
}
