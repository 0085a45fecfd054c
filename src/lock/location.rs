//! Where a lock of the family is: an open directory and a name in it.
//!
//! Every step of a protocol is made relative to the open directory, so a path that is re-pointed under a contender
//! cannot lead half of its steps elsewhere. Whether the path still leads there is asked when a lock has been taken.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::base::error::{Context, Error, Result};
use crate::system::{Facts, Kind, World};

/// Where one lock is.
#[derive(Debug)]
pub(crate) struct Location<W: World> {
    /// The world it is in.
    pub(crate) world: Arc<W>,
    /// The directory, open.
    pub(crate) directory: Arc<W::Node>,
    /// The lock's name in it.
    pub(crate) name: OsString,
    /// The path that people know it by.
    pub(crate) path: PathBuf,
}

impl<W: World> Clone for Location<W> {
    fn clone(&self) -> Self {
        Self {
            world: Arc::clone(&self.world),
            directory: Arc::clone(&self.directory),
            name: self.name.clone(),
            path: self.path.clone(),
        }
    }
}

impl<W: World> Location<W> {
    /// Opens the directory of a lock. Links on the way to it are followed.
    ///
    /// # Errors
    /// A path without a file name, and those of the system.
    pub(crate) fn open(world: &Arc<W>, path: &Path) -> Result<Self> {
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
    pub(crate) fn facts(&self) -> io::Result<Option<Facts>> {
        self.facts_of(&self.name)
    }

    /// As [`Location::facts`], for another name in the same directory.
    ///
    /// # Errors
    /// Those of the system; that nothing is there is none.
    pub(crate) fn facts_of(&self, name: &OsStr) -> io::Result<Option<Facts>> {
        found(self.world.facts_at(&self.directory, name))
    }

    /// What the path leads to now, which is something else once a directory on the way was replaced.
    ///
    /// # Errors
    /// Those of the system; that nothing is there is none.
    pub(crate) fn facts_by_path(&self) -> io::Result<Option<Facts>> {
        found(self.world.facts_of_path(&self.path))
    }

    /// Whether a name in the directory stands for this very inode.
    ///
    /// # Errors
    /// Those of the system; that nothing is there is none.
    pub(crate) fn is_at(&self, name: &OsStr, own: &Facts) -> io::Result<bool> {
        Ok(self.facts_of(name)?.is_some_and(|there| there.is_same_inode(own)))
    }

    /// Removes a name, if it still stands for what it should.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn unlink_if(&self, name: &OsStr, own: &Facts) -> io::Result<()> {
        if self.is_at(name, own)? { self.world.unlink(&self.directory, name) } else { Ok(()) }
    }

    /// Gives what has another name the lock's name as well, if nothing has that.
    ///
    /// # Errors
    /// Those of the system; that the name is taken is none.
    pub(crate) fn publish(&self, name: &OsStr) -> io::Result<Publication> {
        match self.world.link(&self.directory, name, &self.name) {
            Ok(()) => Ok(Publication::Published),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Publication::NameTaken),
            Err(error) => Err(error),
        }
    }

    /// For how long something has been as it is that was changed then (nanoseconds since 1970), by the wall clock. A
    /// clock that was set since makes it wrong. `None`: it is from the future.
    pub(crate) fn age(&self, changed_ns: i64) -> Option<Duration> {
        let age_ms = self.world.now().wall_ms.saturating_sub(changed_ns / 1_000_000);
        u64::try_from(age_ms).ok().map(Duration::from_millis)
    }
}

/// Whether something has got the lock's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Publication {
    /// It has.
    Published,
    /// Something has that name already.
    NameTaken,
}

/// Turns "there is no such name" into an answer.
///
/// # Errors
/// All others.
pub(crate) fn found<T>(looked: io::Result<T>) -> io::Result<Option<T>> {
    match looked {
        Ok(there) => Ok(Some(there)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a thing is, in words that follow its path.
pub(crate) fn description(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "is a regular file",
        Kind::Directory => "is a directory",
        Kind::Link => "is a symbolic link",
        Kind::Fifo => "is a FIFO",
        Kind::Socket => "is a socket",
        Kind::Other => "is a device",
    }
}
