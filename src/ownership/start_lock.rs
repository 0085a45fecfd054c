//! A turn: a lock for a short piece of work that only one process should do at a time.
//!
//! It decides nothing about who watches, or about which daemon lives. Without it, many processes that find none would
//! each start one, and all but one of the starts would be in vain and in the way of the one. The kernel gives it back
//! when its holder dies. A turn that cannot be had for another reason than "busy" is reported, and work goes on
//! without it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::base::error::{Context, Result};
use crate::layout::paths::{Home, names};
use crate::lock::Attempt;
use crate::system::{Claim, Open, World};

/// The turn of the one who starts something. Dropping it ends it.
#[derive(Debug)]
pub struct StartLock<W: World> {
    // Held for its lock, which goes with it.
    _file: W::Node,
}

impl<W: World> StartLock<W> {
    /// Takes the turn to start this home's watcher, if nobody has it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn try_take(world: &W, home: &Home) -> Result<Attempt<Self, ()>> {
        Ok(match Candidate::open(world, &home.watch())?.try_take(world)? {
            Attempt::Taken(turn) => Attempt::Taken(turn),
            Attempt::Busy(_) => Attempt::Busy(()),
        })
    }
}

/// One who asks for a turn, as often as it likes and at little cost.
#[derive(Debug)]
pub struct Candidate<W: World> {
    file: W::Node,
    path: PathBuf,
}

impl<W: World> Candidate<W> {
    /// Opens the turn of a directory, and makes it if there is none.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(world: &W, directory: &Path) -> Result<Self> {
        let path = directory.join(names::START);
        let directory = world.open_directory(directory).doing("open the directory", directory)?;
        let file = world.open(&directory, OsStr::new(names::START), Open::Lock).doing("open", &path)?;
        Ok(Self { file, path })
    }

    /// Takes the turn, if nobody has it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn try_take(self, world: &W) -> Result<Attempt<StartLock<W>, Self>> {
        Ok(match world.try_lock(&self.file).doing("lock", &self.path)? {
            Claim::Taken => Attempt::Taken(StartLock { _file: self.file }),
            Claim::Busy => Attempt::Busy(self),
        })
    }
}
