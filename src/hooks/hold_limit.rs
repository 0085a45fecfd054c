//! How often a turn was held in this episode, and whether a prompt was told of it, on disk and per session.
//!
//! An episode begins with the first thing that goes wrong and ends when a hook of the responsible session sees that all
//! is well. It does not end when the cause changes: a watcher that dies again and again, each time in another way, would
//! otherwise hold a turn for ever. Each hold is written down before it happens, and one that cannot be written down does
//! not happen. A harness's own word that it was held before counts too, but never instead of the record.

use std::ffi::OsStr;
use std::io;

use serde::{Deserialize, Serialize};

use super::decision::Allowance;
use super::payload::SessionKey;
use crate::base::failpoint::Failpoint;
use crate::system::World;
use crate::system::storage::{self, Durability};

/// A session is held at most so often in one episode.
pub const HOLDS: u32 = 2;

/// The record in the directory of sessions.
pub const RECORD: &str = "budget.json";

const LIMIT: usize = 16 * 1024;
const SCHEMA: u32 = 1;
/// Of more sessions than this, the counts of those that were held longest ago are forgotten.
const SESSIONS: usize = 64;

/// The holds of this episode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Episode {
    schema: u32,
    sessions: Vec<Count>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Count {
    session: String,
    holds: u32,
    /// Whether a prompt was told.
    #[serde(default)]
    told: bool,
}

impl Default for Episode {
    fn default() -> Self {
        Self { schema: SCHEMA, sessions: Vec::new() }
    }
}

impl Episode {
    /// The episode with one more hold of a session, if it may be held again. `before` is how often its harness says that
    /// the turn was held already.
    pub fn after_holding(&self, session: &SessionKey, before: u32) -> Option<Self> {
        let mut count = self.count(session);
        count.holds = count.holds.max(before);
        if count.holds >= HOLDS {
            return None;
        }
        count.holds += 1;
        Some(self.with(count))
    }

    /// The episode after a prompt of a session was told of it, if none was before.
    pub fn after_telling(&self, session: &SessionKey) -> Option<Self> {
        let count = self.count(session);
        (!count.told).then(|| self.with(Count { told: true, ..count }))
    }

    fn count(&self, session: &SessionKey) -> Count {
        let known = self.sessions.iter().find(|count| count.session == session.as_str());
        let fresh = || Count { session: session.as_str().to_owned(), holds: 0, told: false };
        known.cloned().unwrap_or_else(fresh)
    }

    fn with(&self, changed: Count) -> Self {
        let others = self.sessions.iter().filter(|count| count.session != changed.session);
        let mut sessions: Vec<Count> = others.cloned().collect();
        sessions.drain(..sessions.len().saturating_sub(SESSIONS - 1));
        sessions.push(changed);
        Self { schema: SCHEMA, sessions }
    }
}

/// Counts one hold of a session. The caller has the turn of this directory.
pub fn spend<W: World>(world: &W, directory: &W::Node, session: &SessionKey, before: u32) -> Allowance {
    match try_spend(world, directory, session, before) {
        Ok(allowance) => allowance,
        Err(error) if world.is_protected(Failpoint::HooksCounted) => {
            Allowance::Uncounted(format!("it cannot be counted: {error}"))
        }
        Err(_) => Allowance::Granted,
    }
}

fn try_spend<W: World>(world: &W, directory: &W::Node, session: &SessionKey, before: u32) -> io::Result<Allowance> {
    let Some(next) = read(world, directory)?.after_holding(session, before) else { return Ok(Allowance::Spent) };
    write(world, directory, &next)?;
    Ok(Allowance::Granted)
}

/// Whether a prompt of a session is to be told of this episode: the first one. The caller has the turn of this directory.
///
/// # Errors
/// Those of the file system; nobody can tell then whether one was told.
pub fn tell_once<W: World>(world: &W, directory: &W::Node, session: &SessionKey) -> io::Result<bool> {
    let Some(next) = read(world, directory)?.after_telling(session) else { return Ok(false) };
    write(world, directory, &next)?;
    Ok(true)
}

fn write<W: World>(world: &W, directory: &W::Node, episode: &Episode) -> io::Result<()> {
    let content = serde_json::to_vec(episode).map_err(io::Error::other)?;
    storage::replace(world, directory, RECORD, &content, Durability::Process)
}

/// Whether an episode surely does not last. Nobody needs the turn of this directory to ask.
pub fn is_over<W: World>(world: &W, directory: &W::Node) -> bool {
    let facts = world.facts_at(directory, OsStr::new(RECORD));
    facts.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Ends the episode, if there is one. The caller has the turn of this directory.
///
/// # Errors
/// Those of the file system.
pub fn end_episode<W: World>(world: &W, directory: &W::Node) -> io::Result<()> {
    if is_over(world, directory) { Ok(()) } else { storage::remove(world, directory, OsStr::new(RECORD)) }
}

/// A record that cannot be understood counts nothing; the next hold replaces it.
fn read<W: World>(world: &W, directory: &W::Node) -> io::Result<Episode> {
    let bytes = storage::read(world, directory, OsStr::new(RECORD), LIMIT)?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::harness::Harness;
    use crate::journal::faulty_disk::Faulty;
    use crate::system::Real;

    fn key(id: &str) -> SessionKey {
        SessionKey::of(Harness::Claude, id)
    }

    #[test]
    fn of_a_thousand_turn_ends_two_are_held_per_session() {
        let mut episode = Episode::default();
        let mut held = 0;
        for turn in 0..1000 {
            if let Some(next) = episode.after_holding(&key(if turn % 2 == 0 { "a" } else { "b" }), 0) {
                episode = next;
                held += 1;
            }
        }
        assert_eq!(held, 2 * HOLDS);
    }

    #[test]
    fn telling_and_holding_do_not_count_for_each_other() {
        let told = Episode::default().after_telling(&key("a")).unwrap();
        assert_eq!(told.after_telling(&key("a")), None);
        assert!(told.after_telling(&key("b")).is_some());
        let held = told.after_holding(&key("a"), 0).unwrap();
        assert_eq!(held.after_telling(&key("a")), None);
        assert!(held.after_holding(&key("a"), 0).is_some());
    }

    #[test]
    fn the_word_of_the_harness_counts_besides_the_record() {
        let fresh = Episode::default();
        assert_eq!(fresh.after_holding(&key("a"), HOLDS), None);
        let once = fresh.after_holding(&key("a"), 1).unwrap();
        assert_eq!(once.after_holding(&key("a"), 0), None);
    }

    #[test]
    fn the_record_does_not_grow_without_end() {
        let mut episode = Episode::default();
        for number in 0..1000 {
            episode = episode.after_holding(&key(&number.to_string()), 0).unwrap();
        }
        assert_eq!(episode.sessions.len(), SESSIONS);
        assert!(serde_json::to_vec(&episode).unwrap().len() < LIMIT);
    }

    #[test]
    fn what_cannot_be_counted_is_not_granted() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = Real.open_directory(scratch.path()).unwrap();
        assert_eq!(spend(&Real, &directory, &key("a"), 0), Allowance::Granted);
        end_episode(&Real, &directory).unwrap();
        Real.make_directory(&directory, OsStr::new(RECORD)).unwrap();
        assert!(matches!(spend(&Real, &directory, &key("a"), 0), Allowance::Uncounted(_)));
    }

    #[test]
    fn a_full_disk_grants_nothing_and_keeps_the_count() {
        let scratch = tempfile::tempdir().unwrap();
        let world = Faulty::default();
        let directory = world.open_directory(scratch.path()).unwrap();
        assert_eq!(spend(&world, &directory, &key("a"), 0), Allowance::Granted);
        world.leave_room(10, 28);
        assert!(matches!(spend(&world, &directory, &key("a"), 0), Allowance::Uncounted(_)));
        world.leave_room(u64::MAX, 28);
        assert_eq!(spend(&world, &directory, &key("a"), 0), Allowance::Granted);
        assert_eq!(spend(&world, &directory, &key("a"), 0), Allowance::Spent);
    }

    #[test]
    fn an_episode_ends_and_a_damaged_record_is_replaced() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = Real.open_directory(scratch.path()).unwrap();
        let spend = || spend(&Real, &directory, &key("a"), 0);
        assert_eq!([spend(), spend(), spend()], [Allowance::Granted, Allowance::Granted, Allowance::Spent]);
        end_episode(&Real, &directory).unwrap();
        end_episode(&Real, &directory).unwrap();
        assert_eq!(spend(), Allowance::Granted);
        storage::replace(&Real, &directory, RECORD, b"{", Durability::Process).unwrap();
        assert_eq!([spend(), spend(), spend()], [Allowance::Granted, Allowance::Granted, Allowance::Spent]);
    }
}
