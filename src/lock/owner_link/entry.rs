//! A known file of an owner directory, read without trusting it.
//!
//! Anything may stand under a known name: a FIFO would hang a reader, a link would lead it to somebody else's file, and
//! a huge one would fill its memory. So only a regular file is read, and of that no more than a bound.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use crate::base::error::{Context, Error, Result};
use crate::lock::location::{description, found};
use crate::system::storage;
use crate::system::{Facts, Kind, Open, World};

/// The files that the protocol knows. Peers remove these and then the directory, so there must be no others.
pub(super) const KNOWN: [&str; 4] = [PID, HOME, WATCHER_PATH, IDENTITY];
pub(super) const PID: &str = "pid";
pub(crate) const HOME: &str = "fm-home";
pub(crate) const WATCHER_PATH: &str = "watcher-path";
pub(super) const IDENTITY: &str = "pid-identity";

/// What a known file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// There is no such file.
    Missing,
    /// It is longer than anybody writes it.
    TooLong(Facts),
    /// All of it.
    Bytes(Vec<u8>, Facts),
}

/// Reads at most `limit` bytes.
///
/// # Errors
/// Those of the system, and a refusal of anything but a regular file.
pub(super) fn read<W: World>(
    world: &W,
    (directory, directory_path): (&W::Node, &Path),
    name: &str,
    limit: usize,
) -> Result<Content> {
    let path = || directory_path.join(name);
    let name = OsStr::new(name);
    let Some(facts) = found(world.facts_at(directory, name)).doing("examine", path())? else {
        return Ok(Content::Missing);
    };
    only_a_file(&facts, &path())?;
    let Some(file) = found(world.open(directory, name, Open::Read)).doing("open", path())? else {
        return Ok(Content::Missing);
    };
    let facts = world.facts(&file).doing("examine", path())?;
    only_a_file(&facts, &path())?;
    // One byte more than there should be, to see whether there is more.
    let expected = usize::try_from(facts.size).unwrap_or(limit).min(limit);
    let bytes = storage::read_from(world, &file, 0, expected + 1).doing("read", path())?;
    // A file that grew under the reader is as good as one that is too long: nobody writes it like that.
    Ok(if bytes.len() > expected { Content::TooLong(facts) } else { Content::Bytes(bytes, facts) })
}

fn only_a_file(facts: &Facts, path: &Path) -> Result<()> {
    if facts.kind == Kind::File {
        return Ok(());
    }
    Err(Error::refused(
        path,
        format!("{}, where a lock's owner keeps a regular file", description(facts.kind)),
        "find out what made it and remove it; nothing was changed",
    ))
}

/// Makes a known file that is not there yet.
pub(super) fn write<W: World>(world: &W, directory: &W::Node, name: &str, bytes: &[u8]) -> io::Result<()> {
    let file = world.open(directory, OsStr::new(name), Open::CreateNew)?;
    storage::append_all(world, &file, bytes)
}

/// Removes the known files, and the stray links of peers: a shell's `ln -s` that loses against ours lands inside the
/// directory that our link points at, and stays there if that shell dies at once.
///
/// # Errors
/// Those of the system. What is left is then no lock of anybody.
pub(super) fn clear<W: World>(world: &W, directory: &W::Node, stray_prefix: &OsStr) -> io::Result<()> {
    for name in world.names(directory)? {
        let is_known = KNOWN.iter().any(|known| name == *known);
        let is_stray = || {
            name.as_encoded_bytes().starts_with(stray_prefix.as_encoded_bytes())
                && world.facts_at(directory, &name).is_ok_and(|facts| facts.kind == Kind::Link)
        };
        if is_known || is_stray() {
            found(world.unlink(directory, &name))?;
        }
    }
    Ok(())
}
