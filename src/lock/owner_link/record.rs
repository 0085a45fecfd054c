//! What is at a place, read without changing or trusting it.
//!
//! A record is pinned by an open descriptor for as long as it is known, so its inode number cannot be given to another
//! one: "the same inode" then means "the very record that was judged", where peers can only compare names.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::entry::{self, Content};
use super::identity::{self, Recorded};
use super::path::LinkPath;
use super::verdict::{PID_LIMIT, Written};
use crate::base::error::{Context, Error, Result};
use crate::base::escape;
use crate::base::failpoint::Failpoint;
use crate::lock::location::{description, found};
use crate::system::platform;
use crate::system::{Facts, Kind, Open, World};

/// What is at a place.
#[derive(Debug)]
pub(super) enum Observation<W: World> {
    /// Nothing.
    Nothing,
    /// Something that changed at each look.
    Changing,
    /// A record.
    Record(Record<W>),
}

/// A link to an owner directory, or a directory of the older protocol.
#[derive(Debug)]
pub(super) struct Record<W: World> {
    pub(super) shape: Shape<W>,
    /// Held open so that the inode number stays its own.
    pin: W::Node,
    pub(super) facts: Facts,
    pub(super) pid: Written,
    pub(super) identity: Option<Recorded>,
    /// When any part of it was modified last, in nanoseconds since 1970, by the times that peers look at.
    pub(super) changed_ns: i64,
}

/// How a record is made.
#[derive(Debug)]
pub(super) enum Shape<W: World> {
    /// A link to an owner directory, which is there.
    Link(OsString, W::Node),
    /// A link to an owner directory, which is not there.
    Dangling(OsString),
    /// A plain directory with a file `pid`, as older releases made it.
    Directory(W::Node),
}

/// How often a place that changes is looked at again.
const LOOKS: usize = 8;

impl<W: World> Record<W> {
    /// Looks at a name beside the lock.
    ///
    /// # Errors
    /// Those of the system, and a refusal of what no lock of this protocol looks like.
    pub(super) fn observe(at: &LinkPath<W>, name: &OsStr) -> Result<Observation<W>> {
        for _ in 0..LOOKS {
            if let Some(observed) = observe_once(at, name)? {
                return Ok(observed);
            }
        }
        Ok(Observation::Changing)
    }

    /// Whether both are one record, and say the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.facts.is_same_inode(&other.facts) && self.owner() == other.owner() && self.pid == other.pid
    }

    /// The pinned link, its facts, and its owner directory with its name, if that is there.
    pub(super) fn into_link(self) -> Option<(W::Node, Facts, OsString, W::Node)> {
        match self.shape {
            Shape::Link(owner, directory) => Some((self.pin, self.facts, owner, directory)),
            Shape::Dangling(_) | Shape::Directory(_) => None,
        }
    }

    /// What a file of the owner directory says, without the line end; nothing that cannot be read.
    pub(super) fn told(&self, at: &LinkPath<W>, name: &str) -> Option<OsString> {
        const LIMIT: usize = 16 * 1024;
        let directory = self.shape.directory()?;
        match entry::read(at.world(), (directory, at.path()), name, LIMIT).ok()? {
            Content::Bytes(mut bytes, _) => {
                // As a shell's `$(cat file)` reads it.
                bytes.retain(|&byte| byte != 0);
                bytes.truncate(bytes.iter().rposition(|&byte| byte != b'\n').map_or(0, |last| last + 1));
                Some(platform::os_string(bytes))
            }
            Content::Missing | Content::TooLong(_) => None,
        }
    }

    /// The name of the owner directory, where there is one.
    pub(super) fn owner(&self) -> Option<&OsStr> {
        self.shape.owner()
    }
}

impl<W: World> Shape<W> {
    fn owner(&self) -> Option<&OsStr> {
        match self {
            Self::Link(owner, _) | Self::Dangling(owner) => Some(owner),
            Self::Directory(_) => None,
        }
    }

    /// The directory with the file `pid`.
    fn directory(&self) -> Option<&W::Node> {
        match self {
            Self::Link(_, directory) | Self::Directory(directory) => Some(directory),
            Self::Dangling(_) => None,
        }
    }
}

/// One look; `None` if something changed under it.
fn observe_once<W: World>(at: &LinkPath<W>, name: &OsStr) -> Result<Option<Observation<W>>> {
    let (world, path) = (at.world(), at.beside(name));
    let Some(pin) = found(world.open(at.directory(), name, Open::Pin)).doing("examine", &path)? else {
        return Ok(Some(Observation::Nothing));
    };
    let facts = world.facts(&pin).doing("examine", &path)?;
    let shape = match facts.kind {
        Kind::Link => link(at, name)?,
        Kind::Directory => {
            found(world.open_directory_at(at.directory(), name)).doing("open", &path)?.map(Shape::Directory)
        }
        kind => return Err(refused(&path, description(kind))),
    };
    let Some(shape) = shape else { return Ok(None) };
    let Told { pid, identity, pid_changed_ns } = read(at, &path, &shape)?;
    let changed_ns = pid_changed_ns.map_or(facts.mtime_ns, |changed_ns| changed_ns.max(facts.mtime_ns));
    let record = Record { shape, pin, facts, pid, identity, changed_ns };
    let is_still_there = at.location().is_at(name, &facts).doing("examine", &path)?;
    Ok(is_still_there.then_some(Observation::Record(record)))
}

fn refused(path: &Path, what: &str) -> Error {
    Error::refused(path, format!("{what}, which is no lock of this kind"), "give another path; nothing was changed")
}

/// When a file was written, for a proof: nobody can make this earlier than it was.
fn changed(facts: &Facts) -> i64 {
    facts.mtime_ns.max(facts.ctime_ns)
}

/// Follows a link as far as this protocol made it, and no further.
fn link<W: World>(at: &LinkPath<W>, name: &OsStr) -> Result<Option<Shape<W>>> {
    let (world, path) = (at.world(), at.beside(name));
    let target = match world.read_link(at.directory(), name) {
        // It is no link any more.
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => return Ok(None),
        read => found(read).doing("read the link", &path)?,
    };
    let Some(target) = target.map(PathBuf::from) else { return Ok(None) };
    let owner = target.file_name().filter(|_| target.is_absolute());
    let owner = owner.filter(|owner| has_prefix(owner, &at.owner_prefix()));
    let shown = || escape::line(&target.to_string_lossy());
    let Some(owner) = owner.map(OsStr::to_owned) else {
        return Err(refused(&path, &format!("is a symbolic link to {}", shown())));
    };
    let directory = match world.open_directory_at(at.directory(), &owner) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        opened => Some(opened.doing("open the owner directory", at.beside(&owner))?),
    };
    // The path need not lead anywhere: a home that was moved keeps its links. But it must lead nowhere else, as it does
    // in a home that was copied, whose lock is another one.
    let beside = directory.as_ref().map(|directory| world.facts(directory)).transpose().doing("examine", &path)?;
    match (found(world.facts_of_path(&target)).doing("examine", &target)?, beside) {
        (Some(there), Some(beside)) if there.is_same_inode(&beside) => {}
        (None, _) => {}
        (Some(_), None) if at.location().facts_of(&owner).doing("examine", &path)?.is_some() => return Ok(None),
        (Some(_), _) => {
            return Err(Error::refused(
                &path,
                format!("is a symbolic link to {}, which is in another directory", shown()),
                "if this directory was copied from there, remove the link",
            ));
        }
    }
    Ok(Some(directory.map_or_else(|| Shape::Dangling(owner.clone()), |node| Shape::Link(owner.clone(), node))))
}

fn has_prefix(name: &OsStr, prefix: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(prefix.as_encoded_bytes())
}

/// Whether an identity was written before the pid beside it, and so is that of another process. Each owner writes its pid
/// first. But a peer of the older protocol writes its pid into the file that is there, through the link of whoever has the
/// lock, and leaves that one's identity in place: it lives, and must not be called dead by another one's identity.
fn is_of_an_earlier_pid(identity: &Facts, pid: &Facts) -> bool {
    /// Whoever has the lock may write its pid a second time while it looks.
    const SLACK_NS: i64 = 1_000_000_000;
    pid.mtime_ns > identity.mtime_ns.saturating_add(SLACK_NS)
}

/// What the files of a record say.
struct Told {
    pid: Written,
    identity: Option<Recorded>,
    /// The last change of the file `pid`. Not the directory's own: the stray links of peers that lost move that.
    pid_changed_ns: Option<i64>,
}

fn read<W: World>(at: &LinkPath<W>, path: &Path, shape: &Shape<W>) -> Result<Told> {
    let nothing = Told { pid: Written::Nothing, identity: None, pid_changed_ns: None };
    let Some(directory) = shape.directory() else { return Ok(nothing) };
    let path = shape.owner().map_or_else(|| path.to_owned(), |owner| at.beside(owner));
    let (pid, facts) = match entry::read(at.world(), (directory, &path), entry::PID, PID_LIMIT)? {
        Content::Missing => return Ok(nothing),
        Content::TooLong(facts) => (Written::Odd, facts),
        Content::Bytes(bytes, facts) => (Written::parse(&bytes), facts),
    };
    // Nobody depends on an identity that cannot be read.
    let identity = entry::read(at.world(), (directory, &path), entry::IDENTITY, identity::LIMIT + 1).ok();
    let is_protected = at.world().is_protected(Failpoint::OwnerLinkIdentityOfPid);
    let identity = identity.and_then(|identity| match identity {
        Content::Bytes(_, told) if is_protected && is_of_an_earlier_pid(&told, &facts) => None,
        Content::Bytes(bytes, facts) => Some(Recorded {
            text: String::from_utf8_lossy(&bytes).into_owned(),
            written_at: changed(&facts).div_euclid(1_000_000_000),
        }),
        Content::Missing | Content::TooLong(_) => None,
    });
    Ok(Told { pid, identity, pid_changed_ns: Some(facts.mtime_ns) })
}
