//! Where a lock of the family is: an open directory and a name in it.
//!
//! Every step of a protocol is made relative to the open directory, so a path that is re-pointed under a contender
//! cannot lead half of its steps elsewhere. Whether the path still leads there is asked when a lock has been taken.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::error::{Context, Error, Result};
use crate::system::{Facts, Kind, World};

/// The place of one lock.
#[derive(Debug)]
pub struct Spot<W: World> {
    /// The world it is in.
    pub world: Arc<W>,
    /// The directory, open.
    pub directory: Arc<W::Node>,
    /// The lock's name in it.
    pub name: OsString,
    /// The path that people know it by.
    pub path: PathBuf,
}

impl<W: World> Clone for Spot<W> {
    fn clone(&self) -> Self {
        Self {
            world: Arc::clone(&self.world),
            directory: Arc::clone(&self.directory),
            name: self.name.clone(),
            path: self.path.clone(),
        }
    }
}

impl<W: World> Spot<W> {
    /// Opens the directory of a lock. Links on the way to it are followed.
    ///
    /// # Errors
    /// A path without a file name, and those of the system.
    pub fn open(world: &Arc<W>, path: &Path) -> Result<Self> {
        let name =
            path.file_name().ok_or_else(|| Error::refused(path, "has no file name", "give the path of a file"))?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // The last component of what is opened is never followed; with the dot it is the directory itself.
        let directory = world.open_directory(&parent.join(".")).doing("open the directory", parent)?;
        Ok(Self {
            world: Arc::clone(world),
            directory: Arc::new(directory),
            name: name.to_owned(),
            path: path.to_owned(),
        })
    }

    /// What is at the lock's name now, without following a link.
    ///
    /// # Errors
    /// Those of the system; that nothing is there is none.
    pub fn facts(&self) -> io::Result<Option<Facts>> {
        self.facts_of(&self.name)
    }

    /// As [`Spot::facts`], for another name in the same directory.
    ///
    /// # Errors
    /// Those of the system; that nothing is there is none.
    pub fn facts_of(&self, name: &OsStr) -> io::Result<Option<Facts>> {
        found(self.world.facts_at(&self.directory, name))
    }

    /// What the path leads to now, which is something else once a directory on the way was replaced.
    ///
    /// # Errors
    /// Those of the system; that nothing is there is none.
    pub fn facts_by_path(&self) -> io::Result<Option<Facts>> {
        found(self.world.facts_of_path(&self.path))
    }
}

/// Turns "there is no such name" into an answer.
///
/// # Errors
/// All others.
pub fn found<T>(looked: io::Result<T>) -> io::Result<Option<T>> {
    match looked {
        Ok(there) => Ok(Some(there)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a thing is, in words that follow its path.
pub fn description(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "is a regular file",
        Kind::Directory => "is a directory",
        Kind::Link => "is a symbolic link",
        Kind::Fifo => "is a FIFO",
        Kind::Socket => "is a socket",
        Kind::Other => "is a device",
    }
}
