//! How the keeper hears that it should look now, from clients and from the loop of its own process.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::daemons::paths;
use crate::layout::paths::Home;
use crate::system::handle::{AsHandle, HandleRef};
use crate::system::platform;
use crate::system::storage;
use crate::system::{Real, World};

/// The FIFO by which clients wake the keeper. Without one, the keeper notices changes when it looks by itself.
#[derive(Debug)]
pub(super) struct Wakeup {
    fifo: File,
}

impl Wakeup {
    /// Makes it, in place of an earlier keeper's.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn create(home: &Home) -> io::Result<Self> {
        let path = paths::all(home);
        storage::make_directories(&path).map_err(io::Error::other)?;
        let directory = Real.open_directory(&path)?;
        storage::remove(&Real, &directory, OsStr::new(paths::WAKEUP))?;
        Ok(Self { fifo: platform::make_fifo(&directory, OsStr::new(paths::WAKEUP))? })
    }

    /// Takes in what was written.
    pub(super) fn drain(&self) {
        let mut written = [0; 4096];
        // It is open without waiting, so the end is an error that says so.
        while (&self.fifo).read(&mut written).is_ok_and(|taken| taken == written.len()) {}
    }

    pub(super) fn descriptor(&self) -> HandleRef<'_> {
        self.fifo.as_handle()
    }
}

/// The end that wakes the keeper's thread.
#[derive(Debug)]
pub(super) struct Waker {
    pipe: PipeWriter,
    is_given: Arc<AtomicBool>,
}

/// The end that the keeper's thread waits at.
#[derive(Debug)]
pub(super) struct WakeReceiver {
    pipe: PipeReader,
    is_given: Arc<AtomicBool>,
}

/// A pair of ends.
///
/// # Errors
/// Those of the system.
pub(super) fn waker() -> io::Result<(Waker, WakeReceiver)> {
    let (reader, writer) = io::pipe()?;
    let is_given = Arc::new(AtomicBool::new(false));
    Ok((Waker { pipe: writer, is_given: Arc::clone(&is_given) }, WakeReceiver { pipe: reader, is_given }))
}

impl Waker {
    /// Wakes the thread. Of many before it wakes up only the first is written, so this never waits.
    pub(super) fn give(&self) {
        if !self.is_given.swap(true, Ordering::AcqRel)
            && let Err(error) = (&self.pipe).write_all(b"!")
        {
            tracing::debug!("the keeper of the daemons has ended: {error}");
        }
    }
}

impl WakeReceiver {
    /// Takes it in. Orders that were given before are seen after this.
    pub(super) fn take(&self) {
        if self.is_given.swap(false, Ordering::AcqRel)
            && let Err(error) = (&self.pipe).read_exact(&mut [0])
        {
            tracing::debug!("the watcher's loop has ended: {error}");
        }
    }

    pub(super) fn descriptor(&self) -> HandleRef<'_> {
        self.pipe.as_handle()
    }
}
