//! The one file that is edited: found, read, and replaced.
//!
//! # Theory
//!
//! People keep their settings behind symbolic links, so the file at the end of the links is the one that is replaced, and
//! the links stay. It is replaced as a whole by a rename, with the permissions that it had; before that its old content
//! is written beside it, under its name and [`BACKUP`]. And it is replaced only if it still is what was read: a harness
//! may be writing its settings at the same time, and what a person has just allowed must not be lost.
//!
//! What must not be replaced is refused: a file of another user (who would lose it), one with a second name (which would
//! go on with the old content), one that may not be written, and what is no file.
//!
//! What is removed as a whole leaves nothing behind: not the backup of a file that never had anything but our entries, not
//! a link to it, and not the directories that were made for it. Nobody wrote down which those were; they are the harness's
//! own ones, empty, and as private as we make them.
//!
//! Limits: between the last look at the file and the rename there is a moment. ACLs and extended attributes are not taken
//! along. A directory that somebody made, left empty and kept private is taken for one of ours.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::target::Target;
use crate::base::error::{Context, Error, Result};
use crate::base::failpoint::Failpoint;
use crate::system::storage::{self, Change, Replaced};
use crate::system::{Facts, Kind, World};

/// Longer files of settings are not read.
const LIMIT: usize = 4 * 1024 * 1024;

/// What is next after an error of the system.
const NOTHING: &str = "nothing was changed; mend that, and try again";

/// How the name of a backup ends. No harness reads a file of hooks with such a name.
const BACKUP: &str = ".before-fm-watch";

/// Whether what is missing on the way to the file is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It is.
    Make,
    /// It is not.
    Leave,
}

/// A file, or the place for one.
#[derive(Debug)]
pub(super) struct File<W: World> {
    directory: W::Node,
    name: String,
    path: PathBuf,
    found: Option<(Facts, Vec<u8>)>,
}

impl<W: World> File<W> {
    /// Finds and reads it. `None`: there is not even a directory.
    ///
    /// # Errors
    /// It is no file, or cannot be read.
    pub(super) fn find(world: &W, path: &Path, way: Way) -> Result<Option<Self>> {
        let Some(path) = real_path(world, path, way)? else { return Ok(None) };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
            return Err(Error::refused(&path, "its name is not text", "rename it"));
        };
        let directory = world.open_directory(parent).doing("open", parent)?;
        let content = storage::read(world, &directory, name.as_ref(), LIMIT).doing("read", &path)?;
        let facts = content.as_ref().map(|_| world.facts_at(&directory, name.as_ref())).transpose();
        let found = facts.doing("examine", &path)?.zip(content);
        Ok(Some(Self { directory, name: name.to_owned(), found, path }))
    }

    /// Where it really is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it, if it is there.
    pub(super) fn content(&self) -> Option<&[u8]> {
        self.found.as_ref().map(|(_, content)| content.as_slice())
    }

    /// Puts this in place of what was read, and says where that is kept now, if there was any.
    ///
    /// # Errors
    /// It must not be replaced, it was changed meanwhile, or the system refuses. It is then as it was.
    pub(super) fn replace(&self, world: &W, after: &[u8]) -> Result<Option<PathBuf>> {
        self.refuse_what_is_not_to_be_replaced(world)?;
        let backup = self.back_up(world)?;
        self.change(world, Some(after))?;
        Ok(backup)
    }

    /// Removes the file, which was made for our entries, and everything that was made for it. If somebody has put anything
    /// of theirs into it all the same, the answer is where that is kept now.
    ///
    /// # Errors
    /// As [`File::replace`]. What was made besides the file may be left.
    pub(super) fn remove(
        &self,
        world: &W,
        target: &Target,
        is_nobody_elses: impl Fn(&[u8]) -> bool,
    ) -> Result<Option<PathBuf>> {
        self.refuse_what_is_not_to_be_replaced(world)?;
        let is_worth_keeping = self.content().is_some_and(|content| !is_nobody_elses(content));
        let backup = if is_worth_keeping { self.back_up(world)? } else { None };
        self.change(world, None)?;
        // From here on everything is said to be done: what is left does no harm.
        if self.backup_content(world).is_ok_and(|backup| backup.is_some_and(|backup| is_nobody_elses(&backup))) {
            drop(storage::remove(world, &self.directory, self.backup_name().as_ref()));
        }
        drop(remove_surroundings(world, target));
        Ok(backup)
    }

    fn change(&self, world: &W, after: Option<&[u8]>) -> Result<()> {
        world.reach(Failpoint::HooksBackedUp).doing("replace", &self.path)?;
        let mode = self.found.as_ref().map_or(0o600, |(facts, _)| facts.mode);
        let change = Change { before: self.content(), after, mode };
        match storage::change(world, &self.directory, &self.name, &change) {
            Ok(Replaced::Done) => Ok(()),
            Ok(Replaced::Changed) => {
                Err(Error::refused(&self.path, "somebody else has just changed it", "nothing was written; try again"))
            }
            Err(error) => {
                let now = storage::read(world, &self.directory, self.name.as_ref(), LIMIT);
                let is_as_before = now.is_ok_and(|now| now.as_deref() == self.content());
                // Only the very last step, making it durable, comes after the change.
                let next = if is_as_before { NOTHING } else { "it may be changed already; look at it" };
                Err(Error::refused(&self.path, format!("it cannot be replaced: {error}"), next))
            }
        }
    }

    fn back_up(&self, world: &W) -> Result<Option<PathBuf>> {
        let Some((facts, content)) = &self.found else { return Ok(None) };
        let name = self.backup_name();
        let path = self.path.with_file_name(&name);
        let before = self.backup_content(world).doing("read the older backup", &path)?;
        // A new file may get another group than the one that may read the old one.
        let change = Change { before: before.as_deref(), after: Some(content), mode: facts.mode & 0o700 };
        match storage::change(world, &self.directory, &name, &change) {
            Ok(Replaced::Done) => Ok(Some(path)),
            Ok(Replaced::Changed) => Err(Error::refused(&path, "somebody else is just writing it", "try again")),
            Err(error) => Err(Error::refused(&path, format!("no backup can be written: {error}"), NOTHING)),
        }
    }

    fn backup_name(&self) -> String {
        format!("{}{BACKUP}", self.name)
    }

    fn backup_content(&self, world: &W) -> io::Result<Option<Vec<u8>>> {
        storage::read(world, &self.directory, self.backup_name().as_ref(), LIMIT)
    }

    fn refuse_what_is_not_to_be_replaced(&self, world: &W) -> Result<()> {
        let Some((facts, _)) = &self.found else { return Ok(()) };
        // The administrator may write to everything, and yet somebody has said that this is not to be changed.
        let is_writable = facts.mode & 0o200 != 0;
        let may_write = || is_writable && world.may_write(&self.directory, self.name.as_ref()).unwrap_or(false);
        let (found, next) = if !facts.is_own() {
            (format!("it belongs to uid {}", facts.uid), "run this as that user")
        } else if facts.links > 1 {
            (format!("it has {} names, and only one of them could be replaced", facts.links), "make a copy of it")
        } else if !may_write() {
            ("it may not be written".to_owned(), "change its permissions")
        } else {
            return Ok(());
        };
        Err(Error::refused(&self.path, found, format!("{next}; nothing was written")))
    }
}

/// Removes the link that led to a removed file, and the directories that were made for it.
fn remove_surroundings<W: World>(world: &W, target: &Target) -> io::Result<()> {
    let is_link = world.facts_of_path(&target.path).is_ok_and(|facts| facts.kind == Kind::Link);
    if let (true, Some((parent, name))) = (is_link, parts(&target.path)) {
        storage::remove(world, &world.open_directory(parent)?, name)?;
    }
    for directory in target.own_directories() {
        let facts = world.facts_of_path(directory)?;
        let is_as_made = facts.kind == Kind::Directory && facts.is_own() && facts.mode == 0o700;
        let Some((parent, name)) = parts(directory).filter(|_| is_as_made) else { break };
        // One that is not empty stays, and with it all above.
        world.remove_directory(&world.open_directory(parent)?, name)?;
    }
    Ok(())
}

fn parts(path: &Path) -> Option<(&Path, &OsStr)> {
    path.parent().zip(path.file_name())
}

/// The path of the file at the end of all links. `None`: its directory is not there.
fn real_path<W: World>(world: &W, path: &Path, way: Way) -> Result<Option<PathBuf>> {
    match world.facts_of_path(path) {
        Ok(facts) if facts.kind == Kind::Link => match fs::canonicalize(path) {
            Ok(target) => return Ok(Some(target)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && way == Way::Leave => return Ok(None),
            Err(error) => return Err(error).doing("follow the link", path),
        },
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).doing("examine", path),
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::refused(path, "this is no path of a file", "set HOME"));
    };
    if way == Way::Make {
        storage::make_directories(parent)?;
    }
    match fs::canonicalize(parent) {
        Ok(parent) => Ok(Some(parent.join(name))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).doing("examine", parent),
    }
}
