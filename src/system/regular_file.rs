//! A regular file of somebody else's, opened without trusting its name.
//!
//! Tasks and scripts put files into the state directory, and anything may lie under a name that looks like theirs: a
//! link, a FIFO that blocks whoever opens it, a directory. A name is looked at first and opened only if it stands for
//! a regular file, without following links and without blocking; what counts afterwards are the facts of the open file,
//! because the name may have been given to something else in between.

use std::ffi::OsStr;
use std::io;

use serde::{Deserialize, Serialize};

use super::storage;
use super::{Facts, Kind, Now, Open, World};

/// How long after a modification another one may still get the same time stamp. Kernels stamp files with a clock that
/// ticks every 1 to 10 ms; some file systems are coarser than that and are covered up to this bound.
const COARSEST_STAMP_MS: i64 = 50;

/// What of a file's facts shows that its content changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, i64, u64)", into = "(u64, i64, u64)")]
pub struct Signature {
    /// Size in bytes.
    pub size: u64,
    /// Time of last modification, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Inode.
    pub inode: u64,
}

impl Signature {
    /// The signature within a file's facts.
    pub fn of(facts: &Facts) -> Self {
        Self { size: facts.size, mtime_ns: facts.mtime_ns, inode: facts.inode }
    }

    /// Whether every later write is sure to change the signature. Right after a modification it is not: a rewrite of
    /// the same size may get the same time stamp.
    pub fn is_settled(&self, now: Now) -> bool {
        (now.wall_ms - self.mtime_ns.div_euclid(1_000_000)).abs() > COARSEST_STAMP_MS
    }
}

impl From<(u64, i64, u64)> for Signature {
    fn from((size, mtime_ns, inode): (u64, i64, u64)) -> Self {
        Self { size, mtime_ns, inode }
    }
}

impl From<Signature> for (u64, i64, u64) {
    fn from(signature: Signature) -> Self {
        (signature.size, signature.mtime_ns, signature.inode)
    }
}

/// An open regular file and what it was when it was opened.
#[derive(Debug)]
pub struct RegularFile<N> {
    /// The open file.
    pub node: N,
    /// Its facts right after opening, before anything was read.
    pub facts: Facts,
}

/// Opens a regular file. `Ok(None)`: the name is gone, or stands for something else.
pub fn open<W: World>(world: &W, directory: &W::Node, name: &OsStr) -> io::Result<Option<RegularFile<W::Node>>> {
    match world.facts_at(directory, name) {
        Ok(facts) if facts.kind == Kind::File => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let node = match world.open(directory, name, Open::Read) {
        Ok(node) => node,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let facts = world.facts(&node)?;
    Ok((facts.kind == Kind::File).then_some(RegularFile { node, facts }))
}

impl<N> RegularFile<N> {
    /// Reads from an offset up to the size that the file had when it was opened, at most `limit` bytes. What was
    /// appended since belongs to the next signature.
    pub fn read<W: World<Node = N>>(&self, world: &W, offset: u64, limit: usize) -> io::Result<Vec<u8>> {
        let left = usize::try_from(self.facts.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        storage::read_from(world, &self.node, offset, limit.min(left))
    }
}

/// Whether a name is what a shell's `*<suffix>` matches: not hidden, and something before the suffix.
pub fn has_suffix(name: &OsStr, suffix: &str) -> bool {
    let name = name.as_encoded_bytes();
    name.len() > suffix.len() && name.ends_with(suffix.as_bytes()) && !name.starts_with(b".")
}

/// The last `cap` bytes of a text at the start of a character, with what is not UTF-8 replaced.
pub fn tail(bytes: &[u8], cap: usize) -> String {
    let mut kept = &bytes[bytes.len().saturating_sub(cap)..];
    if kept.len() < bytes.len() {
        // At most three bytes can belong to a character whose start was cut off.
        let cut = kept.iter().take(3).take_while(|&&byte| byte & 0b1100_0000 == 0b1000_0000).count();
        kept = &kept[cut..];
    }
    String::from_utf8_lossy(kept).into_owned()
}

/// The first `cap` bytes of a text up to the end of a character, with a mark when something was left out.
pub fn head(text: &str, cap: usize) -> String {
    if text.len() <= cap {
        return text.to_owned();
    }
    let end = (0..=cap).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    format!("{} [...]", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_starts_at_a_character() {
        assert_eq!(tail("aäöü".as_bytes(), 5), "öü");
        assert_eq!(tail("aäöü".as_bytes(), 4), "öü");
        assert_eq!(tail("aäöü".as_bytes(), 100), "aäöü");
        assert_eq!(tail(b"\xff\xfeab", 2), "ab");
        assert_eq!(tail(b"abc", 0), "");
    }

    #[test]
    fn a_head_ends_at_a_character_and_says_what_it_left_out() {
        assert_eq!(head("aäöü", 4), "aä [...]");
        assert_eq!(head("aäöü", 7), "aäöü");
    }

    #[test]
    fn names_match_as_a_shell_would_match_them() {
        assert!(has_suffix(OsStr::new("t1.meta"), ".meta"));
        assert!(!has_suffix(OsStr::new(".meta"), ".meta"));
        assert!(!has_suffix(OsStr::new(".t1.meta"), ".meta"));
        assert!(!has_suffix(OsStr::new("t1.meta.tmp"), ".meta"));
    }

    #[test]
    fn a_signature_is_settled_once_the_clock_has_moved_on() {
        let at = |wall_ms| Now { wall_ms, monotonic: std::time::Duration::ZERO };
        let signature = Signature { size: 1, mtime_ns: 1_000_000_000, inode: 1 };
        assert!(!signature.is_settled(at(1_000)));
        assert!(!signature.is_settled(at(1_050)));
        assert!(signature.is_settled(at(1_051)));
        assert!(signature.is_settled(at(0)));
    }
}
