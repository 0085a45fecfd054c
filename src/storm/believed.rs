//! What a contender of a protocol that promises nothing believes to hold: a file that names its pid.
//!
//! Both such protocols, [`naive`](super::naive) and [`unlink`](super::unlink), look at it and let go of it alike. They
//! differ in how they get there.

use std::io;
use std::path::{Path, PathBuf};

use crate::base::error::{Context, Result};
use crate::lock::holder::Holder;
use crate::lock::location::Spot;
use crate::lock::{Guard, Loss, Ownership};
use crate::system::World;
use crate::system::storage;

/// The file, until it is let go of.
#[derive(Debug)]
pub struct Believed<W: World> {
    held: Option<Spot<W>>,
    path: PathBuf,
}

impl<W: World> Believed<W> {
    /// What has this contender's pid in it now.
    pub(super) fn at(spot: &Spot<W>) -> Self {
        Self { held: Some(spot.clone()), path: spot.path.clone() }
    }

    /// Removes the name, once.
    fn remove(&mut self) -> io::Result<()> {
        let held = self.held.take();
        held.map_or(Ok(()), |spot| storage::remove(spot.world.as_ref(), &spot.directory, &spot.name))
    }
}

impl<W: World> Guard for Believed<W> {
    fn path(&self) -> &Path {
        &self.path
    }

    fn check(&self) -> Result<Ownership> {
        let Some(spot) = &self.held else { return Ok(Ownership::Lost(Loss::Removed)) };
        Ok(match recorded_pid(spot).doing("read", &self.path)? {
            Some(pid) if pid == spot.world.own_pid() => Ownership::Held,
            Some(_) => Ownership::Lost(Loss::Replaced),
            None => Ownership::Lost(Loss::Removed),
        })
    }

    fn release(mut self) -> Result<()> {
        self.remove().doing("remove", &self.path)
    }
}

impl<W: World> Drop for Believed<W> {
    fn drop(&mut self) {
        // What is left names a process that no longer means it, and is stale as soon as that has ended.
        drop(self.remove());
    }
}

/// The pid in a file, if there is one that can be read.
pub(super) fn recorded_pid<W: World>(spot: &Spot<W>) -> io::Result<Option<u32>> {
    let bytes = storage::read(spot.world.as_ref(), &spot.directory, &spot.name, 64)?;
    Ok(bytes.and_then(|bytes| std::str::from_utf8(&bytes).ok()?.trim().parse().ok()))
}

/// A holder whose pid is all that is known.
pub(super) fn holder_in<W: World>(spot: &Spot<W>) -> Holder {
    match recorded_pid(spot) {
        Ok(pid) => Holder { pid, ..Holder::unknown("as the file says, and nobody can tell more") },
        Err(error) => Holder::unknown(error.to_string()),
    }
}
