//! `log/watch.log`: what the watcher did, size-capped in two files.
//!
//! When the file would grow beyond the cap it becomes `watch.log.1`, in place of the older one. A log that cannot be
//! written stops nothing: the line is lost, and the watcher goes on.

use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::time::FormatTime;

use super::paths::{Home, names};
use crate::base::error::{Error, Result};
use crate::system::storage;
use crate::system::{Real, World};

/// The log, shared by all threads of one process.
pub struct Log<W: World> {
    world: Arc<W>,
    directory: W::Node,
    cap: u64,
    current: Mutex<Option<(W::Node, u64)>>,
}

impl<W: World> Log<W> {
    /// A log in its directory. Nothing is opened before the first line.
    pub fn new(world: Arc<W>, directory: W::Node, cap: u64) -> Self {
        Self { world, directory, cap, current: Mutex::new(None) }
    }

    fn write_line(&self, line: &[u8]) -> io::Result<()> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = current.as_ref().is_some_and(|(_, size)| size + line.len() as u64 > self.cap);
        if is_full {
            *current = None;
            self.rotate()?;
        }
        let (node, size) = match current.take() {
            Some(open) => open,
            None => self.open()?,
        };
        let written = storage::append_all(self.world.as_ref(), &node, line);
        *current = Some((node, size + line.len() as u64));
        written
    }

    fn open(&self) -> io::Result<(W::Node, u64)> {
        let log = storage::open_to_append(self.world.as_ref(), &self.directory, OsStr::new(names::LOG));
        log.map(|(node, facts)| (node, facts.size))
    }

    fn rotate(&self) -> io::Result<()> {
        let older = OsString::from(format!("{}.1", names::LOG));
        self.world.rename(&self.directory, OsStr::new(names::LOG), &older)
    }
}

/// One line on its way into the log.
pub struct Line<'a, W: World> {
    log: &'a Log<W>,
}

impl<W: World> io::Write for Line<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.log.write_line(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a, W: World> MakeWriter<'a> for Log<W> {
    type Writer = Line<'a, W>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { log: self }
    }
}

/// Times in the log: UTC, to the millisecond.
#[derive(Debug, Clone, Copy)]
pub struct UtcTime;

impl FormatTime for UtcTime {
    fn format_time(&self, writer: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(writer, "{:.3}", jiff::Timestamp::now())
    }
}

/// The log of a home, for what a process of ours says that nobody listens to.
pub fn open_for_child(home: &Home) -> Option<std::fs::File> {
    let directory = Real.open_directory(&home.ours(names::LOG_DIRECTORY)).ok()?;
    storage::open_to_append(&Real, &directory, OsStr::new(names::LOG)).ok().map(|(log, _)| log)
}

/// Makes this process write its log here from now on.
///
/// # Errors
/// It has one already.
pub fn install<W: World>(log: Log<W>, level: tracing::Level) -> Result<()> {
    install_writer(log, level)
}

/// Makes this process write its log to stderr from now on, which whoever started it has led to a log that others write as
/// well: nobody but the watcher may change that from one file to the next.
///
/// # Errors
/// It has one already.
pub fn install_on_stderr(level: tracing::Level) -> Result<()> {
    install_writer(io::stderr, level)
}

fn install_writer(writer: impl for<'w> MakeWriter<'w> + Send + Sync + 'static, level: tracing::Level) -> Result<()> {
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_timer(UtcTime)
        .with_target(false)
        .with_ansi(false)
        // A disk that is full would otherwise put a line on stderr for each line of the log.
        .log_internal_errors(false)
        .with_writer(writer)
        .try_init()
        .map_err(|error| Error::Failed(error.to_string()))
}
