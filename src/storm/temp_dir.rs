//! A fresh directory for what storms do, which vanishes with its value unless somebody wants to look at it.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::error::{Context, Result};
use crate::system::platform;
use crate::system::{Kind, Real, World};

/// Locks leave a few names and at most directories of owners; what is nested more deeply is not ours.
const DEEPEST: usize = 4;

/// The directory.
#[derive(Debug)]
pub struct TempDir {
    parent: File,
    name: String,
    path: PathBuf,
    keep: Keep,
}

/// What becomes of it in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    No,
    Yes,
}

impl TempDir {
    /// Makes one inside a directory, private to this user.
    ///
    /// # Errors
    /// Those of the system.
    pub fn make(parent: &Path) -> Result<Self> {
        let directory = Real.open_directory(&parent.join(".")).doing("open the directory", parent)?;
        let nonce = platform::nonce().doing("name a directory in", parent)?;
        let name = format!("fm-watch-storm-{:08x}", u32::from_le_bytes([nonce[0], nonce[1], nonce[2], nonce[3]]));
        let path = parent.join(&name);
        Real.make_directory(&directory, OsStr::new(&name)).doing("make the directory", &path)?;
        Ok(Self { parent: directory, name, path, keep: Keep::No })
    }

    /// Where it is.
    #[cfg(test)]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a directory inside.
    ///
    /// # Errors
    /// Those of the system.
    pub fn make_inside(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        let directory = Real.open_directory(&self.path).doing("open the directory", &self.path)?;
        Real.make_directory(&directory, OsStr::new(name)).doing("make the directory", &path)?;
        Ok(path)
    }

    /// Leaves it where it is, because there is something to see in it.
    pub fn keep(&mut self) {
        self.keep = Keep::Yes;
    }

    /// Removes it, if nobody wants it kept. `Some`: it is still there, and why.
    pub fn leave(mut self) -> Option<Left> {
        let left = match self.keep {
            Keep::Yes => Some(None),
            Keep::No => self.remove().err().map(Some),
        };
        self.keep = Keep::Yes;
        left.map(|why| Left { path: self.path.clone(), why })
    }

    fn remove(&self) -> io::Result<()> {
        let name = OsStr::new(&self.name);
        empty(&Real.open_directory_at(&self.parent, name)?, DEEPEST)?;
        Real.remove_directory(&self.parent, name)
    }
}

/// What is left of such a directory.
#[derive(Debug)]
pub struct Left {
    /// Where it is.
    pub path: PathBuf,
    /// Why it could not be removed; `None`: because there is something to see in it.
    pub why: Option<io::Error>,
}

impl fmt::Display for Left {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: ", self.path.display())?;
        match &self.why {
            None => formatter.write_str("left as it was found; look at it, then remove it"),
            Some(error) => write!(formatter, "cannot be removed: {error}; remove it yourself"),
        }
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if self.keep == Keep::No {
            // It has a name of its own and is in nobody's way.
            drop(self.remove());
        }
    }
}

/// Removes what is in a directory, without following a link.
fn empty(directory: &File, depth: usize) -> io::Result<()> {
    for name in Real.names(directory)? {
        if Real.facts_at(directory, &name)?.kind == Kind::Directory {
            if depth == 0 {
                return Err(io::Error::other("directories are nested too deeply in it"));
            }
            empty(&Real.open_directory_at(directory, &name)?, depth - 1)?;
            Real.remove_directory(directory, &name)?;
        } else {
            Real.unlink(directory, &name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make and remove files of their own")]
mod tests {
    use super::*;

    #[test]
    fn it_vanishes_with_all_that_is_in_it_and_no_link_is_followed() {
        let around = tempfile::tempdir().unwrap();
        let victim = around.path().join("victim");
        std::fs::create_dir(&victim).unwrap();
        std::fs::write(victim.join("kept"), "").unwrap();
        let temporary = TempDir::make(around.path()).unwrap();
        let inside = temporary.make_inside("soft").unwrap();
        std::os::unix::fs::symlink(&victim, inside.join("link")).unwrap();
        std::fs::write(inside.join("lock"), "").unwrap();
        assert!(temporary.leave().is_none());
        assert_eq!(std::fs::read_dir(around.path()).unwrap().count(), 1);
        assert!(victim.join("kept").exists());
    }

    #[test]
    fn what_somebody_wants_to_see_stays_and_is_said() {
        let around = tempfile::tempdir().unwrap();
        let mut temporary = TempDir::make(around.path()).unwrap();
        let path = temporary.path().to_owned();
        temporary.keep();
        let said = temporary.leave().unwrap().to_string();
        assert!(said.contains(path.to_str().unwrap()) && path.exists(), "{said}");
        drop(TempDir::make(around.path()).unwrap());
        assert_eq!(std::fs::read_dir(around.path()).unwrap().count(), 1);
    }
}
