//! The records of a home: who holds it, the last beat, and the lives that were.
//!
//! # `owner.json`
//!
//! It says who holds the lock, as the holder itself wrote it down.
//!
//! The record informs and never decides: a torn, missing or forged one changes nothing about who holds the lock. The
//! holder rewrites it when it finds it damaged, and leaves when it finds another holder's valid record of a later
//! generation. Unknown fields, which a newer version may have written, are ignored.
//!
//! # `beat.json`
//!
//! It is the loop's own sign of life.
//!
//! Only the work loop beats, so a fresh beat means that the loop goes round, not that some timer thread is alive. A
//! beat counts only if it carries the nonce and the generation of the recorded holder and was made in this boot;
//! ages are differences of `CLOCK_MONOTONIC`, so neither a stepped wall clock nor a closed lid makes one late. The
//! same time is published in the kernel beside the lock, and the newer of the two counts: a disk that cannot be
//! written never makes a healthy watcher look stuck.
//!
//! # `history.jsonl`
//!
//! It has one line per life, so that "when was nobody watching, and why" has an answer.
//!
//! A holder that leaves on its own feet writes its own line, also when it was evicted. The line of one that was killed
//! is written by its successor, from what the dead one left behind. The file is size-capped: when it would grow beyond
//! the cap, its older half goes.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::layout::paths::names;
use crate::system::identity::{Identity, Pid};
use crate::system::storage::{self, Durability};
use crate::system::{Kind, Open, World};

/// The longest record that is read, in bytes.
pub const LIMIT: usize = 64 * 1024;

/// The record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Version of this format; fields are only ever added.
    pub schema: u32,
    /// The number of the acquisition.
    pub generation: u64,
    /// A random number in hexadecimal that names this one acquisition.
    pub nonce: String,
    /// Which process it is.
    #[serde(flatten)]
    pub identity: Identity,
    /// Inode of its time namespace: its times can be compared only with those of the same one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_namespace: Option<u64>,
    /// The directory outside the home in which its lock is, if that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_dir: Option<PathBuf>,
    /// The machine's name, for people.
    #[serde(default)]
    pub host: String,
    /// The home it serves, for people: homes are compared by device and inode.
    #[serde(default)]
    pub home: PathBuf,
    /// The version of the program.
    #[serde(default)]
    pub version: String,
    /// When the lock was taken, in milliseconds since 1970 (for people).
    #[serde(default)]
    pub since: i64,
    /// When the lock was taken, in milliseconds of the clock that does not count suspend.
    #[serde(default)]
    pub since_monotonic_ms: u64,
    /// The holder's poll interval in milliseconds.
    #[serde(default)]
    pub poll_ms: u64,
    /// Without a beat for so long, in milliseconds, the holder counts as stuck.
    #[serde(default)]
    pub stuck_after_ms: u64,
    /// Set by the holder as its last act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Departure>,
}

/// How a holder left on its own feet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departure {
    /// When, in milliseconds since 1970 (for people).
    pub at: i64,
    /// Why, in a few words.
    pub how: String,
}

impl Owner {
    /// The recorded pid.
    pub fn pid(&self) -> Pid {
        self.identity.pid
    }

    /// Reads a record.
    ///
    /// # Errors
    /// It is damaged.
    pub fn parse(bytes: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(bytes)
    }
}

/// `stop.json`: a person asked this acquisition to end, so nobody should replace it. Or a foreign watcher was asked,
/// which has no acquisition: then it counts until somebody watches again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRequest {
    /// Version of this format.
    pub schema: u32,
    /// Which acquisition. With a foreign watcher: the last one before it, or 0.
    pub generation: u64,
    /// When, in milliseconds since 1970 (for people).
    pub at: i64,
    /// The foreign watcher that was asked instead.
    #[serde(rename = "shell", default, skip_serializing_if = "Option::is_none")]
    pub foreign: Option<StoppedForeign>,
}

/// A foreign watcher that a person has stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedForeign {
    /// The pid it had.
    pub pid: Pid,
    /// When its program beat last, in nanoseconds since 1970, as could be seen when the watcher had gone. `None` as long as
    /// it is leaving, or if there was no beat.
    #[serde(rename = "beacon_ns", default, skip_serializing_if = "Option::is_none")]
    pub last_beat_ns: Option<i64>,
}

impl StopRequest {
    /// The acquisition that is to end, if the request is about one of ours.
    pub fn acquisition(&self) -> Option<u64> {
        self.foreign.is_none().then_some(self.generation)
    }

    /// The foreign watcher that was stopped, if nobody has watched since: one of ours would have made an acquisition, and
    /// a foreign one would have beaten. `generation` is that of the owner record, `last_beat_ns` the time of the last foreign
    /// beat as it is now.
    pub fn stopped_foreign(&self, generation: Option<u64>, last_beat_ns: Option<i64>) -> Option<Pid> {
        let foreign = self.foreign.as_ref()?;
        let has_not_beaten = foreign.last_beat_ns.is_none() || foreign.last_beat_ns == last_beat_ns;
        (self.generation == generation.unwrap_or(0) && has_not_beaten).then_some(foreign.pid)
    }
}

/// One beat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Version of this format; fields are only ever added.
    pub schema: u32,
    /// The acquisition of the one who beats.
    pub generation: u64,
    /// The nonce of that acquisition.
    pub nonce: String,
    /// Its pid, for people.
    pub pid: u32,
    /// Grows by one with each beat.
    pub counter: u64,
    /// When, in milliseconds since 1970 (for people).
    pub at: i64,
    /// The boot in which it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// When, in milliseconds of the clock that does not count suspend.
    pub monotonic_ms: u64,
    /// The poll interval in force, in milliseconds: the settings may have been read again.
    #[serde(default)]
    pub poll_ms: u64,
    /// What works only in a slower or poorer way at present, in words.
    #[serde(default)]
    pub degraded: Vec<String>,
}

impl Beat {
    /// Reads a record; a damaged one is none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// When it was made, on the clock that does not count suspend.
    pub fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_ms)
    }
}

/// One life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// Version of this format.
    pub schema: u32,
    /// The acquisition.
    pub generation: u64,
    /// The process.
    pub pid: u32,
    /// When it took the lock, in milliseconds since 1970.
    pub started: i64,
    /// When it ended, or was found ended, in milliseconds since 1970.
    pub ended: i64,
    /// How it ended, in a few words.
    pub how: String,
    /// When it beat last, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_beat: Option<i64>,
}

/// Adds a line.
///
/// # Errors
/// Those of the file system. History is for people: callers report such an error and go on.
pub fn add_life<W: World>(world: &W, watch: &W::Node, life: &Life, cap: u64) -> io::Result<()> {
    let mut text = serde_json::to_vec(life).map_err(io::Error::other)?;
    text.push(b'\n');
    match world.facts_at(watch, OsStr::new(names::HISTORY)) {
        Ok(facts) if facts.kind != Kind::File => {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "history.jsonl is not a regular file"));
        }
        Ok(facts) if facts.size + text.len() as u64 > cap => trim(world, watch, cap / 2)?,
        _ => {}
    }
    let (node, _) = storage::open_to_append(world, watch, OsStr::new(names::HISTORY))?;
    storage::append_all(world, &node, &text)
}

/// The life that was written down last.
///
/// # Errors
/// Those of the file system.
pub fn last_life<W: World>(world: &W, watch: &W::Node) -> io::Result<Option<Life>> {
    const LONGEST: usize = 4096;
    let node = match world.open(watch, OsStr::new(names::HISTORY), Open::Read) {
        Ok(node) => node,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let from = world.facts(&node)?.size.saturating_sub(LONGEST as u64);
    let tail = storage::read_from(world, &node, from, LONGEST)?;
    Ok(tail.split(|&byte| byte == b'\n').rev().find_map(|line| serde_json::from_slice(line).ok()))
}

/// Keeps whole lines at the end, at most so many bytes of them.
fn trim<W: World>(world: &W, watch: &W::Node, keep: u64) -> io::Result<()> {
    let node = world.open(watch, OsStr::new(names::HISTORY), Open::Read)?;
    let size = world.facts(&node)?.size;
    let keep = usize::try_from(keep).unwrap_or(usize::MAX);
    let tail = storage::read_from(world, &node, size.saturating_sub(keep as u64), keep)?;
    let whole_lines = tail.iter().position(|&byte| byte == b'\n').map_or(&[][..], |end| &tail[end + 1..]);
    storage::replace(world, watch, names::HISTORY, whole_lines, Durability::Process)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_foreign_watcher_counts_until_somebody_watches() {
        let pid = Pid::new(7).unwrap();
        let request = |last_beat_ns| StopRequest {
            schema: 1,
            generation: 3,
            at: 0,
            foreign: Some(StoppedForeign { pid, last_beat_ns }),
        };
        for (request, generation, last_beat_ns, expected) in [
            (request(None), Some(3), Some(5), Some(pid)),
            (request(Some(5)), Some(3), Some(5), Some(pid)),
            (request(Some(5)), Some(3), Some(6), None),
            (request(Some(5)), Some(3), None, None),
            (request(Some(5)), Some(4), Some(5), None),
            (request(None), None, Some(5), None),
            (StopRequest { generation: 0, ..request(None) }, None, None, Some(pid)),
            (StopRequest { foreign: None, ..request(None) }, Some(3), Some(5), None),
        ] {
            assert_eq!(request.stopped_foreign(generation, last_beat_ns), expected, "{request:?} {generation:?}");
            assert_eq!(request.acquisition(), request.foreign.is_none().then_some(3));
        }
    }

    #[test]
    fn a_request_without_a_foreign_watcher_is_written_as_ever() {
        let request = StopRequest { schema: 1, generation: 3, at: 9, foreign: None };
        let text = r#"{"schema":1,"generation":3,"at":9}"#;
        assert_eq!(serde_json::to_string(&request).unwrap(), text);
        assert_eq!(serde_json::from_str::<StopRequest>(text).unwrap(), request);
    }
}
