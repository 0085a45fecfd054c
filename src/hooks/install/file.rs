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
//! Limits: between the last look at the file and the rename there is a moment. ACLs and extended attributes are not taken
//! along.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};
use crate::platform;
use crate::storage::{self, Change, Replaced};
use crate::world::{Facts, Kind, World};

/// Longer files of settings are not read.
const LIMIT: usize = 4 * 1024 * 1024;

/// How the name of a backup ends. No harness reads a file of hooks with such a name.
pub const BACKUP: &str = ".before-fm-watch";

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

    /// Puts this in place of what was read; `None` removes the file.
    ///
    /// # Errors
    /// It must not be replaced, it was changed meanwhile, or the system refuses. It is then as it was.
    pub(super) fn replace(&self, world: &W, after: Option<&[u8]>) -> Result<()> {
        self.refuse_what_is_not_to_be_replaced(world)?;
        // A file that is removed as a whole was made for our entries.
        if after.is_some() {
            self.back_up(world)?;
        }
        world.reach("hooks.backed-up").doing("replace", &self.path)?;
        let mode = self.found.as_ref().map_or(0o600, |(facts, _)| facts.mode);
        let change = Change { before: self.content(), after, mode };
        match storage::change(world, &self.directory, &self.name, &change).doing("replace", &self.path)? {
            Replaced::Done => Ok(()),
            Replaced::Changed => {
                Err(Error::refused(&self.path, "somebody else has just changed it", "nothing was written; try again"))
            }
        }
    }

    fn back_up(&self, world: &W) -> Result<()> {
        let Some((facts, content)) = &self.found else { return Ok(()) };
        let name = format!("{}{BACKUP}", self.name);
        let before =
            storage::read(world, &self.directory, name.as_ref(), LIMIT).doing("read the backup of", &self.path)?;
        let change = Change { before: before.as_deref(), after: Some(content), mode: facts.mode };
        match storage::change(world, &self.directory, &name, &change).doing("keep a backup of", &self.path)? {
            Replaced::Done => Ok(()),
            Replaced::Changed => Err(Error::refused(&self.path, "its backup is just being written", "try again")),
        }
    }

    fn refuse_what_is_not_to_be_replaced(&self, world: &W) -> Result<()> {
        let Some((facts, _)) = &self.found else { return Ok(()) };
        let may_write = || world.may_write(&self.directory, self.name.as_ref()).unwrap_or(false);
        let (found, next) = if facts.uid != platform::effective_uid() {
            (format!("it belongs to user {}", facts.uid), "run this as that user")
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

/// The path of the file at the end of all links. `None`: its directory is not there.
fn real_path<W: World>(world: &W, path: &Path, way: Way) -> Result<Option<PathBuf>> {
    match world.facts_of_path(path) {
        Ok(facts) if facts.kind == Kind::Link => match fs::canonicalize(path) {
            Ok(target) => return Ok(Some(target)),
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
