//! `history.jsonl`: one line per life, so that "when was nobody watching, and why" has an answer.
//!
//! A holder that leaves on its own feet writes its own line, also when it was evicted. The line of one that was killed
//! is written by its successor, from what the dead one left behind. The file is size-capped: when it would grow beyond
//! the cap, its older half goes.

use std::ffi::OsStr;
use std::io;

use serde::{Deserialize, Serialize};

use crate::layout::paths::names;
use crate::system::storage::{self, Durability};
use crate::system::{Kind, Open, World};

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
pub fn record<W: World>(world: &W, watch: &W::Node, life: &Life, cap: u64) -> io::Result<()> {
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
pub fn last<W: World>(world: &W, watch: &W::Node) -> io::Result<Option<Life>> {
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
