//! What a daemon prints, from its FIFO into its log.
//!
//! The FIFO has a name and both ends open on both sides. So a daemon never sees a broken pipe, whatever becomes of its
//! monitor, and what it prints while none is there waits in the kernel's buffer for the next one. A daemon that prints more
//! than fits there has to wait for a monitor.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use super::records::Records;
use crate::base::error::{Context, Result};
use crate::daemons::log::CappedLog;
use crate::daemons::paths;
use crate::system::handle::{AsHandle, HandleRef};
use crate::system::platform;
use crate::system::{Real, World};

/// How much is read before something else gets its turn, in pieces of [`PIECE`].
const PIECES_PER_TURN: usize = 16;
/// How much is read at a time, in bytes.
const PIECE: usize = 64 * 1024;

/// The reading end and the log.
#[derive(Debug)]
pub struct Output {
    fifo: File,
    log: CappedLog<Real>,
    piece: Vec<u8>,
}

/// Whether more is waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pumped {
    /// Nothing.
    Dry,
    /// There may be more.
    Some,
}

impl Output {
    /// Opens the FIFO, making it if need be, and the log.
    ///
    /// # Errors
    /// Those of the file system, and something else in the FIFO's place.
    pub fn open(records: &Records<'_>, log_max: u64) -> Result<Self> {
        let path = records.assignment.paths.file(paths::OUTPUT);
        let fifo = platform::open_reading_fifo(&records.directory, OsStr::new(paths::OUTPUT)).doing("open", path)?;
        let directory = records.assignment.paths.directory();
        let of_log = records.world().open_directory(directory).doing("open the directory", directory)?;
        let log = CappedLog::open(Arc::clone(records.world()), of_log, log_max);
        Ok(Self { fifo, log, piece: vec![0; PIECE] })
    }

    /// Begins a new line for a new life.
    pub fn begin(&mut self) {
        self.log.end_line();
    }

    /// The end for the daemon.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn for_daemon(records: &Records<'_>) -> Result<File> {
        let path = records.assignment.paths.file(paths::OUTPUT);
        platform::open_writing_fifo(&records.directory, OsStr::new(paths::OUTPUT)).doing("open", path)
    }

    /// Writes what has come into the log and shows it to `listen`, up to a bound.
    ///
    /// # Errors
    /// Those of reading; writing never fails.
    pub fn pump(&mut self, mut listen: impl FnMut(&[u8])) -> io::Result<Pumped> {
        for _ in 0..PIECES_PER_TURN {
            match self.fifo.read(&mut self.piece) {
                Ok(0) => return Ok(Pumped::Dry),
                Ok(taken) => {
                    listen(&self.piece[..taken]);
                    self.log.write(&self.piece[..taken]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Pumped::Dry),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Pumped::Some)
    }

    /// Writes all that has come into the log, up to what can be waiting in the kernel's buffer: others may go on printing.
    pub fn drain(&mut self, mut listen: impl FnMut(&[u8])) {
        const TURNS: usize = 4;
        for _ in 0..TURNS {
            if !matches!(self.pump(&mut listen), Ok(Pumped::Some)) {
                return;
            }
        }
    }
}

impl AsHandle for Output {
    fn as_handle(&self) -> HandleRef<'_> {
        self.fifo.as_handle()
    }
}
