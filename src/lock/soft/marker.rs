//! What is at a lock's name, and what a marker holds: who took the lock.
//!
//! Anything may be there: a link to a victim, a FIFO that nobody writes to, a file of a terabyte. Nothing is followed,
//! nothing blocks, and at most one byte more than a record can have is read.
//!
//! The form is `<pid>\n<host>\n` and, where a start can be read, `<start>\n`. What a peer writes differently is read as
//! the peer itself reads it, down to which characters end a line in Python: a record that one side takes for damaged and
//! the other for a live holder would make two holders.

use std::ffi::OsStr;
use std::io;

use thiserror::Error;

use super::decimal::Decimal;
use super::process_id::Start;
use crate::lock::location::{Location, description, found};
use crate::system::storage;
use crate::system::{Facts, Kind, Open, World};

/// A longer file is no record.
pub const LONGEST: usize = 1024;
/// What the peer's strict kind of lock leaves at the path for as long as anybody may hold it.
const STRICT: &str = "1\nfilelock-strict-v1\0\n0\n";
/// What begins the text that a breaker of the peer's leaves at the path while it works; its pid follows.
const PLACEHOLDER: &str = "filelock/break\n";
/// What a holder writes over its record when it lets go while somebody has set its marker aside. Nobody reads it as a
/// record, so it ages out.
pub const RELEASED: &[u8] = b"filelock/released\n";

/// Who took a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The holder's pid, from 1 to 2^31 - 1.
    pub pid: u32,
    /// Where that pid means something; see [`process_id::host`](super::process_id::host).
    pub host: String,
    /// When the holder started, if it could read that.
    pub start: Option<Start>,
}

impl Record {
    /// The bytes of the marker.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { pid, host, start } = self;
        let start = start.as_ref().map(|start| format!("{start}\n")).unwrap_or_default();
        format!("{pid}\n{host}\n{start}").into_bytes()
    }
}

/// What is at a lock's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A file of length 0: a holder that writes no record, or one that was killed before it wrote it.
    Empty,
    /// The sign of the peer's strict lock.
    Strict,
    /// A record.
    Record(Record),
    /// No record.
    Malformed(Malformed),
}

/// Why something is no record, in words that go on after what it is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Malformed {
    /// It is no file.
    #[error("{}", description(*.0))]
    Kind(Kind),
    /// It is longer than [`LONGEST`] bytes.
    #[error("is too long for a record")]
    TooLong,
    /// It is not UTF-8.
    #[error("is not text")]
    NotText,
    /// It does not end with a line end: somebody is still writing it, or died over that.
    #[error("has no whole record yet")]
    Cut,
    /// It has another number of lines than two or three.
    #[error("has not the lines of a record")]
    Lines,
    /// Its first line is no pid.
    #[error("names no pid")]
    Pid,
    /// Its third line is no number.
    #[error("tells no start")]
    Start,
    /// A breaker left it, whose pid tells under which names what it took may be found.
    #[error("was left by a breaker")]
    Placeholder(Decimal),
}

impl Content {
    /// Reads the first [`LONGEST`] + 1 bytes of a file.
    pub fn read(bytes: &[u8]) -> Self {
        if bytes.len() > LONGEST {
            return Self::Malformed(Malformed::TooLong);
        }
        match std::str::from_utf8(bytes) {
            Ok("") => Self::Empty,
            Ok(STRICT) => Self::Strict,
            Ok(text) => record_in(text).map_or_else(Self::Malformed, Self::Record),
            Err(_) => Self::Malformed(Malformed::NotText),
        }
    }
}

fn record_in(text: &str) -> Result<Record, Malformed> {
    let whole = text.strip_suffix('\n').ok_or(Malformed::Cut)?;
    if let Some(pid) = whole.strip_prefix(PLACEHOLDER).and_then(Decimal::parse) {
        return Err(Malformed::Placeholder(pid));
    }
    let lines = lines(text.trim_matches(is_space));
    let (pid, host, start) = match lines.as_slice() {
        [pid, host] => (pid, host, None),
        [pid, host, start] => (pid, host, Some(start)),
        _ => return Err(Malformed::Lines),
    };
    let pid = Decimal::parse(pid).ok_or(Malformed::Pid)?;
    let start = start.map(|start| Start::parse(start).ok_or(Malformed::Start)).transpose()?;
    Ok(Record { pid: pid_of(&pid).ok_or(Malformed::Pid)?, host: (*host).to_owned(), start })
}

/// The pid that a number can be.
pub fn pid_of(number: &Decimal) -> Option<u32> {
    let pid = u32::try_from(number.as_word()?).ok()?;
    (pid >= 1 && i32::try_from(pid).is_ok()).then_some(pid)
}

/// The text that a breaker leaves which cannot finish; see [`Malformed::Placeholder`].
pub fn placeholder(pid: u32) -> Vec<u8> {
    format!("{PLACEHOLDER}{pid}\n").into_bytes()
}

/// Python's `str.isspace`: Unicode's white space, and the four separators that Unicode only calls controls.
fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{1c}'..='\u{1f}')
}

/// Python's `str.splitlines`.
fn lines(text: &str) -> Vec<&str> {
    let (mut lines, mut rest) = (Vec::new(), text);
    while let Some((at, end)) = rest.char_indices().find(|&(_, character)| ends_a_line(character)) {
        lines.push(&rest[..at]);
        rest = &rest[at..];
        rest = rest.strip_prefix("\r\n").unwrap_or(&rest[end.len_utf8()..]);
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

fn ends_a_line(character: char) -> bool {
    matches!(character, '\n'..='\r' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

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
pub(super) fn read<W: World>(location: &Location<W>, name: &OsStr) -> io::Result<Option<Marker>> {
    let Some(facts) = location.facts_of(name)? else { return Ok(None) };
    if facts.kind != Kind::File {
        return Ok(Some(no_file(facts)));
    }
    let Some(node) = found(location.world.open(&location.directory, name, Open::Read))? else { return Ok(None) };
    let facts = location.world.facts(&node)?;
    if facts.kind != Kind::File {
        return Ok(Some(no_file(facts)));
    }
    let content = Content::read(&storage::read_from(&*location.world, &node, 0, LONGEST + 1)?);
    Ok(Some(Marker { facts, content }))
}

fn no_file(facts: Facts) -> Marker {
    Marker { content: Content::Malformed(Malformed::Kind(facts.kind)), facts }
}

#[cfg(test)]
mod tests;
