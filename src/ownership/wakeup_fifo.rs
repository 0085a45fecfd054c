//! Bells: how a writer of wakes tells the waiters to look, within microseconds.
//!
//! Each waiter has a FIFO beside its lease; whoever has added wakes writes a byte into each. A bell carries nothing and
//! decides nothing: a waiter that missed it looks by itself soon after, and one that heard it for nothing looks in vain.
//!
//! Why not file events: closing an inotify descriptor waits for a grace period of the kernel, which was measured to
//! keep a process from ending for 10 to 20 ms. A waiter ends on each wake, and somebody waits for its end.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use crate::layout::paths::names;
use crate::system::platform;
use crate::system::storage;
use crate::system::{Real, World};

/// How the name of a bell ends; before that it is the name of its waiter's lease.
pub const SUFFIX: &str = ".bell";

/// A waiter's own bell. Dropping it takes it down.
#[derive(Debug)]
pub struct WakeupFifo {
    fifo: std::fs::File,
    directory: PathBuf,
    name: OsString,
}

impl WakeupFifo {
    /// Hangs a bell into the directory of waiters.
    ///
    /// # Errors
    /// Those of the file system. Waiting is possible without a bell, only slower.
    pub fn hang(directory: &Path, lease: &OsStr) -> io::Result<Self> {
        let mut name = lease.to_owned();
        name.push(SUFFIX);
        let fifo = platform::make_fifo(&Real.open_directory(directory)?, &name)?;
        Ok(Self { fifo, directory: directory.to_owned(), name })
    }

    /// The end to listen at; it may be moved to another thread.
    ///
    /// # Errors
    /// Those of the system.
    pub fn ear(&self) -> io::Result<std::fs::File> {
        self.fifo.try_clone()
    }
}

impl Drop for WakeupFifo {
    fn drop(&mut self) {
        let removed = Real.open_directory(&self.directory).and_then(|open| storage::remove(&Real, &open, &self.name));
        if let Err(error) = removed {
            tracing::debug!("a bell is left: {error}");
        }
    }
}

/// Rings all bells of a home's waiters.
pub fn ring_all(watch: &Path) {
    let Ok(directory) = Real.open_directory(&watch.join(names::WAITERS)) else { return };
    for name in Real.names(&directory).unwrap_or_default() {
        if is_bell(&name)
            && let Err(error) = platform::ring(&directory, &name)
        {
            tracing::debug!("cannot ring {}: {error}", name.display());
        }
    }
}

/// Whether a name is that of a bell.
pub fn is_bell(name: &OsStr) -> bool {
    name.as_encoded_bytes().ends_with(SUFFIX.as_bytes())
}
