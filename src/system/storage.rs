//! The only door through which anything on disk changes.
//!
//! A whole file is replaced, never rewritten: a complete temporary file of the same directory is renamed over it, so
//! a reader and a crash find the old content or the new, never a mixture. [`Durability::Power`] adds the two syncs
//! without which ext4 was measured to leave an empty file, or none, after a power cut.
//!
//! A reader never follows a link, never blocks on a FIFO, and never takes more than it was told.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use crate::base::error::{Context, Result};
use crate::base::failpoint::Failpoint;

use super::{Facts, Kind, Open, World};

/// What a completed write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The death of any process.
    Process,
    /// The loss of power.
    Power,
}

/// Replaces a file's content atomically.
///
/// # Errors
/// Those of the file system. The old content is then still in place, and no temporary file is left behind if it
/// can be helped.
pub fn replace<W: World>(
    world: &W,
    directory: &W::Node,
    name: &str,
    content: &[u8],
    durability: Durability,
) -> io::Result<()> {
    let temporary = temporary_name(world, name)?;
    let written = write_new(world, directory, &temporary, content, durability)
        .and_then(|()| world.rename(directory, &temporary, OsStr::new(name)));
    if written.is_err() {
        // Best effort: a leftover has a name that nobody reads.
        drop(world.unlink(directory, &temporary));
    }
    written?;
    if durability == Durability::Power {
        world.sync_all(directory)?;
    }
    Ok(())
}

/// A change of a file that somebody else may change as well.
#[derive(Debug)]
pub struct Change<'a> {
    /// What was read; `None` if there was no file.
    pub before: Option<&'a [u8]>,
    /// What is to be there; `None` if no file.
    pub after: Option<&'a [u8]>,
    /// The permission bits that it is to have. It keeps its group, too.
    pub mode: u32,
}

/// What became of a [`Change`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// It is done, and survives the loss of power.
    Done,
    /// The file was not any more what was read. Nothing was changed.
    Changed,
}

/// Replaces or removes a file, unless it is not any more what was read. The last look comes after everything that takes
/// time; a writer in the moment between it and the rename is not seen.
///
/// # Errors
/// Those of the file system. The old content is then still in place.
pub fn change<W: World>(world: &W, directory: &W::Node, name: &str, change: &Change<'_>) -> io::Result<Replaced> {
    let temporary = temporary_name(world, name)?;
    let changed = try_change(world, directory, name, &temporary, change);
    if change.after.is_some() && !matches!(changed, Ok(Replaced::Done)) {
        // Best effort: a leftover has a name that nobody reads.
        drop(world.unlink(directory, &temporary));
    }
    changed
}

fn try_change<W: World>(
    world: &W,
    directory: &W::Node,
    name: &str,
    temporary: &OsStr,
    change: &Change<'_>,
) -> io::Result<Replaced> {
    if let Some(after) = change.after {
        let node = world.open(directory, temporary, Open::CreateNew)?;
        append_all(world, &node, after)?;
        if change.before.is_some() {
            match world.take_group(directory, name.as_ref(), &node) {
                // It has just been removed, which the last look sees.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                taken => taken?,
            }
        }
        // After the group, because another group takes bits away.
        world.set_mode(&node, change.mode)?;
        world.sync_all(&node)?;
    }
    world.reach(Failpoint::StorageChange)?;
    if world.is_protected(Failpoint::StorageLastLook) {
        let longest = change.before.map_or(0, <[u8]>::len);
        match read(world, directory, name.as_ref(), longest) {
            Ok(now) if now.as_deref() == change.before => {}
            Ok(_) => return Ok(Replaced::Changed),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(Replaced::Changed),
            Err(error) => return Err(error),
        }
    }
    match change.after {
        Some(_) => world.rename(directory, temporary, name.as_ref())?,
        None => remove(world, directory, name.as_ref())?,
    }
    world.sync_all(directory)?;
    Ok(Replaced::Done)
}

fn temporary_name<W: World>(world: &W, name: &str) -> io::Result<OsString> {
    let nonce = u64::from_le_bytes(world.nonce()?[..8].try_into().map_err(io::Error::other)?);
    Ok(format!(".{name}.{}.{nonce:016x}{TEMPORARY}", world.own_pid()).into())
}

/// Removes temporary files that no living writer can still need.
///
/// # Errors
/// Those of the file system.
pub fn sweep<W: World>(world: &W, directory: &W::Node) -> io::Result<()> {
    const HOUR: Duration = Duration::from_secs(3600);
    for name in world.names(directory)? {
        let bytes = name.as_encoded_bytes();
        let is_temporary = bytes.starts_with(b".") && bytes.ends_with(TEMPORARY.as_bytes());
        if is_temporary && world.facts_at(directory, &name).is_ok_and(|facts| is_abandoned(world, &name, &facts, HOUR))
        {
            remove(world, directory, &name)?;
        }
    }
    Ok(())
}

/// Whether nobody will finish a temporary file: it was not touched for so long, and the process in its name has ended.
///
/// The clock may step, but a process that lives is not done. One of another pid namespace looks as if it had ended, and a
/// name without a process says nothing: these have only their time.
pub fn is_abandoned<W: World>(world: &W, name: &OsStr, facts: &Facts, after: Duration) -> bool {
    let age_ms = world.now().wall_ms.saturating_sub(facts.mtime_ns.div_euclid(1_000_000));
    let is_old = u64::try_from(age_ms).is_ok_and(|age| Duration::from_millis(age) > after);
    let may_live = |pid| world.exists(pid).unwrap_or(true);
    facts.kind == Kind::File && is_old && !writer_of(name).is_some_and(may_live)
}

/// The process in a name that [`temporary_name`] gave.
fn writer_of(name: &OsStr) -> Option<u32> {
    let stem = name.to_str()?.strip_prefix('.')?.strip_suffix(TEMPORARY)?;
    let (named, nonce) = stem.rsplit_once('.')?;
    let (_, pid) = named.rsplit_once('.')?;
    let is_nonce = nonce.len() == 16 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit());
    pid.parse().ok().filter(|_| is_nonce)
}

/// Removes the temporary files of these names, for somebody who keeps all writers away.
///
/// # Errors
/// Those of the file system.
pub fn sweep_of<W: World>(world: &W, directory: &W::Node, names: &[&str]) -> io::Result<()> {
    for found in world.names(directory)? {
        let bytes = found.as_encoded_bytes();
        let is_of = |name: &&str| bytes.starts_with(format!(".{name}.").as_bytes());
        if bytes.ends_with(TEMPORARY.as_bytes()) && names.iter().any(is_of) {
            remove(world, directory, &found)?;
        }
    }
    Ok(())
}

/// How the name of a temporary file ends.
const TEMPORARY: &str = ".tmp";

fn write_new<W: World>(
    world: &W,
    directory: &W::Node,
    name: &OsStr,
    content: &[u8],
    durability: Durability,
) -> io::Result<()> {
    let node = world.open(directory, name, Open::CreateNew)?;
    append_all(world, &node, content)?;
    match durability {
        Durability::Process => Ok(()),
        Durability::Power => world.sync_data(&node),
    }
}

/// Appends all of the bytes, in as many calls as the system needs.
///
/// # Errors
/// Those of the file system; a part may have been written then. A call that takes nothing is an error too.
pub fn append_all<W: World>(world: &W, node: &W::Node, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match world.append(node, bytes)? {
            0 => return Err(io::Error::from(io::ErrorKind::WriteZero)),
            taken => bytes = &bytes[taken.min(bytes.len())..],
        }
    }
    Ok(())
}

/// Opens a file to write at its end, and makes it if there is none. A file that has a second name is somebody else's
/// too, and is refused like anything that is no regular file.
///
/// # Errors
/// Those of the file system, and `InvalidData`.
pub fn open_to_append<W: World>(world: &W, directory: &W::Node, name: &OsStr) -> io::Result<(W::Node, Facts)> {
    let node = world.open(directory, name, Open::Append)?;
    let facts = world.facts(&node)?;
    if facts.kind == Kind::File && facts.links <= 1 {
        return Ok((node, facts));
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file of one name"))
}

/// Reads a whole regular file of at most `limit` bytes. `Ok(None)` when there is no such name.
///
/// # Errors
/// Anything that is not a regular file, or a longer one, is `InvalidData`.
pub fn read<W: World>(world: &W, directory: &W::Node, name: &OsStr, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let node = match world.open(directory, name, Open::Read) {
        Ok(node) => node,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let facts = world.facts(&node)?;
    if facts.kind != Kind::File {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"));
    }
    if facts.size > limit as u64 {
        let message = format!("{} bytes long, at most {limit} are read", facts.size);
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    read_from(world, &node, 0, limit).map(Some)
}

/// Reads from an offset to the end, but at most `limit` bytes.
pub fn read_from<W: World>(world: &W, node: &W::Node, offset: u64, limit: usize) -> io::Result<Vec<u8>> {
    // Most files are small, and clearing room that is not needed costs more than reading them.
    const FIRST: usize = 4 * 1024;
    const LONGEST: usize = 64 * 1024;
    let mut bytes = Vec::new();
    while bytes.len() < limit {
        let known = bytes.len();
        bytes.resize(limit.min(known + known.clamp(FIRST, LONGEST)), 0);
        let taken = world.read_at(node, offset + known as u64, &mut bytes[known..])?;
        bytes.truncate(known + taken);
        if taken == 0 {
            break;
        }
    }
    Ok(bytes)
}

/// Makes a directory and what is missing of the way to it, each of mode 0700. What exists is left as it is.
///
/// # Errors
/// Those of the system, with the path.
pub fn make_directories(path: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.doing("make the directory", path)
}

/// Removes a directory of ours with all that is in it. No link is followed, and no directory is entered that is nested
/// deeper than ours are.
///
/// # Errors
/// Those of the file system; what was removed stays so.
pub fn remove_tree<W: World>(world: &W, directory: &W::Node, name: &OsStr) -> io::Result<()> {
    const DEEPEST: usize = 8;
    remove_nested(world, directory, name, DEEPEST)
}

fn remove_nested<W: World>(world: &W, directory: &W::Node, name: &OsStr, depth: usize) -> io::Result<()> {
    if world.facts_at(directory, name)?.kind != Kind::Directory {
        return world.unlink(directory, name);
    }
    if depth == 0 {
        return Err(io::Error::other("directories are nested too deeply in it"));
    }
    let inner = world.open_directory_at(directory, name)?;
    for nested in world.names(&inner)? {
        remove_nested(world, &inner, &nested, depth - 1)?;
    }
    world.remove_directory(directory, name)
}

/// Removes a name. One that is gone already is fine.
///
/// # Errors
/// Those of the file system.
pub fn remove<W: World>(world: &W, directory: &W::Node, name: &OsStr) -> io::Result<()> {
    match world.unlink(directory, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make and remove files of their own")]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::system::Real;

    #[test]
    fn a_temporary_file_goes_when_it_is_old_and_its_writer_does_not_live() {
        /// More than any process has for a number.
        const NOBODY: u32 = 2_000_000_000;
        let directory = tempfile::tempdir().unwrap();
        let own = std::process::id();
        let own_old = format!(".a.json.{own}.0123456789abcdef.tmp");
        let of_nobody = format!(".a.json.{NOBODY}.0123456789abcdef.tmp");
        let old = [own_old.as_str(), &of_nobody, ".a.json.tmp", "a.json"];
        let new = [".b.json.tmp"];
        for name in old.iter().chain(&new) {
            fs::write(directory.path().join(name), "x").unwrap();
        }
        for name in old {
            let file = fs::File::options().write(true).open(directory.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(2 * 3600)).unwrap();
        }
        let node = Real.open_directory(directory.path()).unwrap();
        sweep(&Real, &node).unwrap();
        let mut left = Real.names(&node).unwrap();
        left.sort_unstable();
        assert_eq!(left, [own_old.as_str(), ".b.json.tmp", "a.json"]);
    }
}
