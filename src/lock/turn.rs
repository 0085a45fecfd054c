//! A turn: a lock for a short piece of work that only one process should do at a time.
//!
//! It decides nothing about who watches. Without it, many processes that find no watcher would each start one, and all
//! but one of the starts would be in vain and in the way of the one. The kernel gives it back when its holder dies. A
//! turn that cannot be had for another reason than "busy" is reported, and work goes on without it.

use std::ffi::OsStr;

use super::{Attempt, Somebody};
use crate::error::{Context, Result};
use crate::home::{Home, names};
use crate::world::{Claim, Open, World};

/// The turn of the one who starts a watcher. Dropping it ends it.
#[derive(Debug)]
pub struct Turn<W: World> {
    // Held for its lock, which goes with it.
    _file: W::Node,
}

impl<W: World> Turn<W> {
    /// Takes the turn to start this home's watcher, if nobody has it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn try_take(world: &W, home: &Home) -> Result<Attempt<Self, Somebody>> {
        let path = home.ours(names::START);
        let watch = world.open_directory(&home.watch()).doing("open the directory", home.watch())?;
        let file = world.open(&watch, OsStr::new(names::START), Open::Lock).doing("open", &path)?;
        Ok(match world.try_lock(&file).doing("lock", &path)? {
            Claim::Taken => Attempt::Taken(Self { _file: file }),
            Claim::Busy => Attempt::Busy(Somebody),
        })
    }
}
