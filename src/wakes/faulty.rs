//! The real world with a bad disk, for tests.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::liveness::identity::{Observation, Pid, Standpoint};
use crate::platform::Pinned;
use crate::world::{Claim, Exchange, Facts, Kind, LockTaker, Now, Open, Real, Signal, World};

/// Delegates to [`Real`], except for what a test wants to fail.
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

impl World for Faulty {
    type Node = File;
    type Process = Pinned;

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

    fn open_directory(&self, path: &Path) -> io::Result<File> {
        Real.open_directory(path)
    }
    fn open_directory_at(&self, directory: &File, name: &OsStr) -> io::Result<File> {
        Real.open_directory_at(directory, name)
    }
    fn make_directory(&self, directory: &File, name: &OsStr) -> io::Result<()> {
        Real.make_directory(directory, name)
    }
    fn open(&self, directory: &File, name: &OsStr, how: Open) -> io::Result<File> {
        Real.open(directory, name, how)
    }
    fn facts(&self, node: &File) -> io::Result<Facts> {
        Real.facts(node)
    }
    fn facts_at(&self, directory: &File, name: &OsStr) -> io::Result<Facts> {
        Real.facts_at(directory, name)
    }
    fn facts_of_path(&self, path: &Path) -> io::Result<Facts> {
        Real.facts_of_path(path)
    }
    fn names(&self, directory: &File) -> io::Result<Vec<OsString>> {
        Real.names(directory)
    }
    fn read_at(&self, node: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        Real.read_at(node, offset, buffer)
    }
    fn rename(&self, directory: &File, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Real.rename(directory, from, to)
    }
    fn link(&self, directory: &File, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Real.link(directory, from, to)
    }
    fn exchange(&self, directory: &File, one: &OsStr, other: &OsStr) -> io::Result<Exchange> {
        Real.exchange(directory, one, other)
    }
    fn symlink(&self, directory: &File, target: &OsStr, name: &OsStr) -> io::Result<()> {
        Real.symlink(directory, target, name)
    }
    fn read_link(&self, directory: &File, name: &OsStr) -> io::Result<OsString> {
        Real.read_link(directory, name)
    }
    fn overwrite(&self, node: &File, bytes: &[u8]) -> io::Result<()> {
        Real.overwrite(node, bytes)
    }
    fn may_write(&self, directory: &File, name: &OsStr) -> io::Result<bool> {
        Real.may_write(directory, name)
    }
    fn set_mode(&self, node: &File, mode: u32) -> io::Result<()> {
        Real.set_mode(node, mode)
    }
    fn remove_directory(&self, directory: &File, name: &OsStr) -> io::Result<()> {
        Real.remove_directory(directory, name)
    }
    fn unlink(&self, directory: &File, name: &OsStr) -> io::Result<()> {
        Real.unlink(directory, name)
    }
    fn trusted_file_system(&self, node: &File) -> io::Result<Result<&'static str, String>> {
        Real.trusted_file_system(node)
    }
    fn try_lock(&self, node: &File) -> io::Result<Claim> {
        Real.try_lock(node)
    }
    fn raise_mark(&self, node: &File, kind: Kind) -> io::Result<()> {
        Real.raise_mark(node, kind)
    }
    fn is_marked(&self, node: &File) -> io::Result<bool> {
        Real.is_marked(node)
    }
    fn publish_beat(&self, node: &File, at: Duration) -> io::Result<()> {
        Real.publish_beat(node, at)
    }
    fn published_beat(&self, node: &File) -> io::Result<Option<Duration>> {
        Real.published_beat(node)
    }
    fn lock_taker(&self, node: &File) -> io::Result<LockTaker> {
        Real.lock_taker(node)
    }
    fn now(&self) -> Now {
        Real.now()
    }
    fn boot_id(&self) -> Option<String> {
        Real.boot_id()
    }
    fn nonce(&self) -> io::Result<[u8; 16]> {
        Real.nonce()
    }
    fn own_pid(&self) -> u32 {
        Real.own_pid()
    }
    fn exists(&self, pid: u32) -> io::Result<bool> {
        Real.exists(pid)
    }
    fn start_ticks(&self, pid: u32) -> Option<u64> {
        Real.start_ticks(pid)
    }
    fn processes(&self) -> io::Result<Vec<u32>> {
        Real.processes()
    }
    fn innermost_pid(&self, pid: u32) -> Option<u32> {
        Real.innermost_pid(pid)
    }
    fn standpoint(&self) -> Standpoint {
        Real.standpoint()
    }
    fn host_name(&self) -> Vec<u8> {
        Real.host_name()
    }
    fn has_common_start_times(&self) -> bool {
        Real.has_common_start_times()
    }
    fn pause(&self, at_most: Duration) {
        Real.pause(at_most);
    }
    fn pin(&self, pid: Pid) -> io::Result<Option<Pinned>> {
        Real.pin(pid)
    }
    fn observe(&self, process: &Pinned) -> Observation {
        Real.observe(process)
    }
    fn signal(&self, process: &Pinned, signal: Signal) -> io::Result<bool> {
        Real.signal(process, signal)
    }
    fn wait_for_exit(&self, process: &Pinned, at_most: Duration) -> io::Result<bool> {
        Real.wait_for_exit(process, at_most)
    }
}
