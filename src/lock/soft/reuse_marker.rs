//! Reading what is at a name, whatever it is, without touching it.
//!
//! Anything may be there: a link to a victim, a FIFO that nobody writes to, a file of a terabyte. Nothing is followed,
//! nothing blocks, and at most one byte more than a record can have is read.

use std::ffi::OsStr;
use std::io;

use super::marker::{Content, LONGEST, Malformed};
use crate::lock::location::{Spot, found};
use crate::system::{Facts, Kind, Open, World};

/// A thing at a name at one moment.
#[derive(Debug, Clone)]
pub struct Marker {
    /// Which thing.
    pub facts: Facts,
    /// What it holds.
    pub content: Content,
}

impl Marker {
    /// Whether a thing is the one that was read, unchanged.
    pub fn is_still(&self, facts: &Facts) -> bool {
        self.facts.is_same_inode(facts) && self.facts.mtime_ns == facts.mtime_ns
    }
}

/// Reads what is at a name in the directory of a lock; `None`: nothing is.
///
/// # Errors
/// Those of the system, which prove nothing.
pub fn read<W: World>(spot: &Spot<W>, name: &OsStr) -> io::Result<Option<Marker>> {
    let Some(facts) = spot.facts_of(name)? else { return Ok(None) };
    if facts.kind != Kind::File {
        return Ok(Some(no_file(facts)));
    }
    let Some(node) = found(spot.world.open(&spot.directory, name, Open::Read))? else { return Ok(None) };
    let facts = spot.world.facts(&node)?;
    if facts.kind != Kind::File {
        return Ok(Some(no_file(facts)));
    }
    let content = Content::read(&beginning(&*spot.world, &node)?);
    Ok(Some(Marker { facts, content }))
}

fn no_file(facts: Facts) -> Marker {
    Marker { content: Content::Malformed(Malformed::Kind(facts.kind)), facts }
}

fn beginning<W: World>(world: &W, node: &W::Node) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; LONGEST + 1];
    let mut length = 0;
    while length < bytes.len() {
        match world.read_at(node, length as u64, &mut bytes[length..])? {
            0 => break,
            read => length += read,
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}
