//! What has been announced: the checkpoint `seen.json`.
//!
//! Each wake in the journal records what it announced. The sum of these records is what keeps a source from announcing
//! the same thing twice, and this file is that sum up to wake number `through_seq`. It may lag: at start the later wakes are
//! applied to it, so it needs no write before a wake counts, and a watcher that dies at any instant neither loses an
//! announcement nor repeats an acknowledged one. A checkpoint that is damaged or missing is an empty one: everything
//! that is still there is announced again, at least once rather than never.
//!
//! A few schedules live here too (last check sweep, last heartbeat, failing checks). They have no record in the
//! journal; losing them costs an early sweep or a repeated report.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::sources::check_result::CheckMemory;
use crate::journal::record::{Mark, Wake};
use crate::layout::paths::names;
use crate::system::World;
use crate::system::regular_file::Signature;
use crate::system::storage::{self, Durability};

/// The layout this program writes.
const SCHEMA: u32 = 1;

/// The longest checkpoint that is read, in bytes; hundreds of thousands of signals fit.
const LIMIT: usize = 64 * 1024 * 1024;

/// A time that can be compared across processes of one boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The boot; empty where the system does not tell.
    pub boot_id: String,
    /// Milliseconds of the monotonic clock.
    pub monotonic_ms: u64,
}

impl Moment {
    /// The present.
    pub fn now<W: World>(world: &W) -> Self {
        let monotonic = world.now().monotonic.as_millis();
        Self {
            boot_id: world.boot_id().unwrap_or_default(),
            monotonic_ms: u64::try_from(monotonic).unwrap_or(u64::MAX),
        }
    }

    /// How long ago it was. `None` for a time of another boot or in the future, which say nothing.
    pub fn age(&self, now: &Self) -> Option<Duration> {
        if self.boot_id != now.boot_id {
            return None;
        }
        now.monotonic_ms.checked_sub(self.monotonic_ms).map(Duration::from_millis)
    }
}

/// The sum of all announcements up to a wake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Seen {
    /// The layout.
    pub schema: u32,
    /// The last wake whose announcement is in here.
    pub through_seq: u64,
    /// The signals as announced, by file name.
    pub signals: BTreeMap<String, Signature>,
    /// The digests of the stale panes that were announced, by window.
    pub panes: BTreeMap<String, String>,
    /// What is remembered of the checks, by script name.
    pub checks: BTreeMap<String, CheckMemory>,
    /// When the last sweep of the checks began that was completed.
    pub last_check: Option<Moment>,
    /// When the last heartbeat was recorded, or since when one is waited for.
    pub last_heartbeat: Option<Moment>,
    /// How many heartbeats came in a row.
    pub streak: u32,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            schema: SCHEMA,
            through_seq: 0,
            signals: BTreeMap::new(),
            panes: BTreeMap::new(),
            checks: BTreeMap::new(),
            last_check: None,
            last_heartbeat: None,
            streak: 0,
        }
    }
}

/// Where a checkpoint came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The file.
    Checkpoint,
    /// There is no file; the checkpoint is empty.
    Missing,
    /// The file cannot be used, and why; the checkpoint is empty.
    Damaged(String),
}

impl Seen {
    /// Reads the checkpoint of a home from its watch directory. It never fails: see [`Origin`].
    pub fn load<W: World>(world: &W, watch: &W::Node) -> (Self, Origin) {
        match read_document(world, watch, names::SEEN, SCHEMA, LIMIT) {
            Ok(Some(seen)) => (seen, Origin::Checkpoint),
            Ok(None) => (Self::default(), Origin::Missing),
            Err(why) => (Self::default(), damaged(&why)),
        }
    }

    /// Writes the checkpoint.
    ///
    /// # Errors
    /// Those of the file system; the old checkpoint is then still in place, and that is safe.
    pub fn save<W: World>(&self, world: &W, watch: &W::Node) -> io::Result<()> {
        let bytes = serde_json::to_vec(self)?;
        storage::replace(world, watch, names::SEEN, &bytes, Durability::Power)
    }

    /// Adds what a wake announced. One that is in the sum already changes nothing.
    pub fn apply(&mut self, wake: &Wake) {
        if wake.seq > self.through_seq {
            self.announce(wake);
        }
    }

    /// Takes note of a wake that was recorded just now.
    pub fn announce(&mut self, wake: &Wake) {
        self.through_seq = self.through_seq.max(wake.seq);
        self.streak = 0;
        match &wake.mark {
            Some(Mark::Signal { file, size, mtime_ns, inode }) => {
                let signature = Signature { size: *size, mtime_ns: *mtime_ns, inode: *inode };
                self.signals.insert(file.clone(), signature);
            }
            Some(Mark::Pane { window, digest }) => {
                self.panes.insert(window.clone(), digest.clone());
            }
            Some(Mark::Heartbeat { streak }) => {
                self.streak = *streak;
                // The record has no time of this clock; counting begins when somebody next asks.
                self.last_heartbeat = None;
            }
            Some(Mark::Inbox { .. } | Mark::Row { .. }) | None => {}
        }
    }
}

/// Why a document cannot be used.
#[derive(Debug, Error)]
pub enum Unusable {
    /// The file cannot be read.
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    /// It is not JSON, or says something else.
    #[error(transparent)]
    Malformed(#[from] serde_json::Error),
    /// Another version has written it.
    #[error("its layout is {found}, and this program knows {known}")]
    OtherLayout {
        /// Its layout.
        found: u32,
        /// The one that this program writes.
        known: u32,
    },
}

/// Reads a JSON document whose layout is the number in its field `schema`; `None` when there is no such file.
///
/// # Errors
/// It cannot be read, or is of another layout.
pub fn read_document<W: World, T: DeserializeOwned>(
    world: &W,
    directory: &W::Node,
    name: &str,
    known: u32,
    limit: usize,
) -> Result<Option<T>, Unusable> {
    let bytes = storage::read(world, directory, OsStr::new(name), limit)?;
    bytes.map(|bytes| parse(&bytes, known)).transpose()
}

fn parse<T: DeserializeOwned>(bytes: &[u8], known: u32) -> Result<T, Unusable> {
    #[derive(Deserialize)]
    struct Header {
        schema: u32,
    }
    let Header { schema: found } = serde_json::from_slice(bytes)?;
    if found != known {
        return Err(Unusable::OtherLayout { found, known });
    }
    Ok(serde_json::from_slice(bytes)?)
}

fn damaged(problem: &Unusable) -> Origin {
    Origin::Damaged(format!(
        "{} cannot be used: {problem}; everything that is still there is announced again",
        names::SEEN
    ))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make and remove files of their own")]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::journal::record::{Delivery, Kind};
    use crate::system::Real;

    fn wake(seq: u64, mark: Option<Mark>) -> Wake {
        let (text, context, delivery) = (String::new(), None, Delivery::Now);
        Wake { seq, generation: 1, at: 0, kind: Kind::Custom, key: String::new(), text, context, mark, delivery }
    }

    fn signal(file: &str, size: u64) -> Mark {
        Mark::Signal { file: file.into(), size, mtime_ns: 1, inode: 2 }
    }

    #[test]
    fn a_lagging_checkpoint_is_brought_up_to_date_by_the_later_wakes() {
        let mut seen = Seen { through_seq: 2, ..Seen::default() };
        for wake in [wake(2, Some(signal("old", 1))), wake(3, Some(signal("a", 1))), wake(4, Some(signal("a", 5)))] {
            seen.apply(&wake);
        }
        assert_eq!(seen.through_seq, 4);
        assert_eq!(seen.signals.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(seen.signals["a"].size, 5);
    }

    #[test]
    fn heartbeats_make_a_row_and_any_other_wake_ends_it() {
        let mut seen = Seen::default();
        seen.apply(&wake(1, Some(Mark::Heartbeat { streak: 1 })));
        seen.apply(&wake(2, Some(Mark::Heartbeat { streak: 2 })));
        assert_eq!(seen.streak, 2);
        seen.apply(&wake(3, None));
        assert_eq!(seen.streak, 0);
    }

    #[test]
    fn a_moment_of_another_boot_or_in_the_future_has_no_age() {
        let moment = |boot: &str, monotonic_ms| Moment { boot_id: boot.into(), monotonic_ms };
        assert_eq!(moment("a", 1000).age(&moment("a", 3500)), Some(Duration::from_millis(2500)));
        assert_eq!(moment("a", 1000).age(&moment("b", 3500)), None);
        assert_eq!(moment("a", 3501).age(&moment("a", 3500)), None);
    }

    #[test]
    fn what_is_saved_is_loaded_and_stays_small() {
        let directory = tempfile::tempdir().unwrap();
        let node = Real.open_directory(directory.path()).unwrap();
        assert_eq!(Seen::load(&Real, &node), (Seen::default(), Origin::Missing));
        let mut seen = Seen::default();
        for number in 0..10_000 {
            seen.apply(&wake(number + 1, Some(signal(&format!("task-{number}.status"), number))));
        }
        seen.panes.insert("fm:a".into(), "0123".into());
        seen.last_check = Some(Moment::now(&Real));
        seen.save(&Real, &node).unwrap();
        assert_eq!(Seen::load(&Real, &node), (seen, Origin::Checkpoint));
        let size = fs::metadata(directory.path().join(names::SEEN)).unwrap().len();
        assert!(size < 600_000, "{size} bytes for 10,000 signals");
    }

    #[test]
    fn a_damaged_checkpoint_is_empty_and_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let node = Real.open_directory(directory.path()).unwrap();
        for content in ["", "{", "\0\0\0", "[]", "{}", r#"{"schema":2}"#, r#"{"schema":1,"signals":[1]}"#] {
            fs::write(directory.path().join(names::SEEN), content).unwrap();
            let (seen, origin) = Seen::load(&Real, &node);
            assert_eq!(seen, Seen::default());
            assert!(matches!(&origin, Origin::Damaged(why) if why.contains(names::SEEN)), "{content}: {origin:?}");
        }
        fs::write(directory.path().join(names::SEEN), r#"{"schema":1,"through_seq":7,"later":{}}"#).unwrap();
        assert_eq!(Seen::load(&Real, &node).0.through_seq, 7, "fields of a newer version are skipped");
    }

    proptest! {
        #[test]
        fn any_bytes_load_without_a_panic(bytes: Vec<u8>) {
            drop(parse::<Seen>(&bytes, SCHEMA));
        }

        #[test]
        fn replaying_from_any_earlier_checkpoint_gives_the_same_sum(
            files in prop::collection::vec((0..5u8, 0..9u64), 0..30), cut in 0..30usize
        ) {
            let wakes: Vec<Wake> = files.iter().zip(1..)
                .map(|((file, size), seq)| wake(seq, Some(signal(&file.to_string(), *size)))).collect();
            let mut whole = Seen::default();
            for wake in &wakes {
                whole.apply(wake);
            }
            let mut resumed = Seen::default();
            for wake in wakes.iter().take(cut) {
                resumed.apply(wake);
            }
            for wake in &wakes {
                resumed.apply(wake);
            }
            prop_assert_eq!(whole, resumed);
        }
    }
}
