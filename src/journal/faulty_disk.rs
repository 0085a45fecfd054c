//! The real world with a bad disk, for tests.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::system::altered::Altered;
use crate::system::{Real, World};

/// What a test wants to fail.
#[derive(Debug)]
pub(crate) struct Faulty {
    /// How many more bytes the disk takes.
    room: AtomicU64,
    /// With which error a full disk answers.
    full: AtomicUsize,
    /// The most that one write takes.
    bite: AtomicUsize,
    /// How many of the next syncs of files fail.
    bad_syncs: AtomicUsize,
    /// How many of the next syncs of directories fail.
    bad_directory_syncs: AtomicUsize,
}

impl Default for Faulty {
    fn default() -> Self {
        Self {
            room: AtomicU64::new(u64::MAX),
            full: AtomicUsize::new(28),
            bite: AtomicUsize::new(usize::MAX),
            bad_syncs: AtomicUsize::new(0),
            bad_directory_syncs: AtomicUsize::new(0),
        }
    }
}

impl Faulty {
    pub(crate) fn leave_room(&self, bytes: u64, error: usize) {
        self.room.store(bytes, Ordering::SeqCst);
        self.full.store(error, Ordering::SeqCst);
    }

    pub(crate) fn take_at_most(&self, bytes: usize) {
        self.bite.store(bytes, Ordering::SeqCst);
    }

    pub(crate) fn fail_syncs(&self, files: usize, directories: usize) {
        self.bad_syncs.store(files, Ordering::SeqCst);
        self.bad_directory_syncs.store(directories, Ordering::SeqCst);
    }
}

fn fails(counter: &AtomicUsize) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

fn errno(number: usize) -> io::Error {
    io::Error::from_raw_os_error(i32::try_from(number).unwrap())
}

impl Altered for Faulty {
    fn append(&self, node: &File, bytes: &[u8]) -> io::Result<usize> {
        let room = usize::try_from(self.room.load(Ordering::SeqCst)).unwrap();
        let taken = bytes.len().min(self.bite.load(Ordering::SeqCst)).min(room);
        if taken == 0 && !bytes.is_empty() {
            return Err(errno(self.full.load(Ordering::SeqCst)));
        }
        let taken = Real.append(node, &bytes[..taken])?;
        if room != usize::MAX {
            self.room.fetch_sub(taken as u64, Ordering::SeqCst);
        }
        Ok(taken)
    }
    fn sync_data(&self, node: &File) -> io::Result<()> {
        if fails(&self.bad_syncs) { Err(errno(5)) } else { Real.sync_data(node) }
    }
    fn sync_all(&self, node: &File) -> io::Result<()> {
        if fails(&self.bad_directory_syncs) { Err(errno(5)) } else { Real.sync_all(node) }
    }
}
