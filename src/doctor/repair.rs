//! The repairs that the doctor may make by itself: those that can lose nothing and give nobody more than before.
//!
//! Taking from others the permission to write into a directory of ours, and making a directory that a watcher would make
//! at its next start. What belongs to another user, what is of the wrong kind, and what a person removed is left alone.

use std::fmt;
use std::path::PathBuf;

use crate::base::error::{Context, Error, Result};
use crate::base::failpoint::Failpoint;
use crate::ownership::context::HomeContext;
use crate::ownership::held_home;
use crate::system::World;
use crate::system::platform;

/// A repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// Gives a directory of ours these permissions.
    SetMode {
        /// Which directory.
        path: PathBuf,
        /// The permission bits.
        mode: u32,
    },
    /// Makes the directories that are missing inside `state/watch`.
    MakeDirectories {
        /// The one that is missing.
        path: PathBuf,
    },
}

impl Repair {
    /// Makes it.
    ///
    /// # Errors
    /// Those of the system, and a directory that is not ours any more. Nothing is changed then.
    pub fn make(&self, session: &HomeContext) -> Result<()> {
        match self {
            Self::SetMode { path, mode } => set_mode(session.world.as_ref(), path, *mode),
            Self::MakeDirectories { .. } => held_home::prepare(session.world.as_ref(), &session.home, &session.place),
        }
    }
}

fn set_mode<W: World>(world: &W, path: &PathBuf, mode: u32) -> Result<()> {
    // What is changed is what was opened, whatever the path names by then.
    let directory = world.open_directory(path).doing("open the directory", path)?;
    let facts = world.facts(&directory).doing("examine", path)?;
    if facts.uid != platform::effective_uid() && world.is_protected(Failpoint::DoctorOwner) {
        return Err(Error::refused(path, format!("belongs to uid {}", facts.uid), "nothing was changed"));
    }
    world.set_mode(&directory, mode).doing("set the permissions of", path)
}

impl fmt::Display for Repair {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetMode { path, mode } => write!(formatter, "chmod {mode:o} {}", path.display()),
            Self::MakeDirectories { path } => write!(formatter, "mkdir -m 700 {}", path.display()),
        }
    }
}
