//! Marker files as tests make them: of dead owners, of living ones, of nobody.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use fm_watch::lock::soft::marker::Record;
use fm_watch::lock::soft::observation;
use fm_watch::lock::soft::{SoftGuard, SoftLock};
use fm_watch::lock::{Attempt, Guard, Holder, Lock, Ownership};
use fm_watch::system::{Real, World};

use super::home::TestHome;
use super::scripted::Scripted;

/// A guard of a made-up process.
pub type Held = SoftGuard<Scripted>;

/// The path of a lock of this test's own.
pub fn lock_path(home: &TestHome) -> PathBuf {
    home.scratch().join("shared.lock")
}

/// A pid that has just ended. It is not given away again until all others were.
pub fn dead_pid() -> u32 {
    let mut child = Command::new("true").stdin(Stdio::null()).spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

/// A process that lives until the test ends it.
#[derive(Debug)]
pub struct Mortal(Child);

impl Mortal {
    /// One that lives.
    pub fn new() -> Self {
        Self(Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap())
    }

    /// Its pid, which is its own until it has died.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Kills and reaps it.
    pub fn die(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // Nothing happens to one that was reaped.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        self.end();
    }
}

/// The record that a process here would write.
pub fn record_of(pid: u32) -> Record {
    observation::record_of(&Real, pid)
}

/// Leaves the marker of a holder that has died.
pub fn leave_dead_marker(path: &Path) {
    fs::write(path, record_of(dead_pid()).to_bytes()).unwrap();
}

/// One attempt of a made-up process; `None`: busy.
#[track_caller]
pub fn attempt(world: &Arc<Scripted>, path: &Path) -> Option<Held> {
    match SoftLock::at(world, path).unwrap().try_acquire().unwrap() {
        Attempt::Taken(guard) => Some(guard),
        Attempt::Busy(_) => None,
    }
}

/// An attempt of a process that may die on the way, and then gets no answer.
pub fn attempt_of_mortal(world: &Arc<Scripted>, path: &Path) -> Option<Held> {
    match SoftLock::at(world, path).ok()?.try_acquire() {
        Ok(Attempt::Taken(guard)) => Some(guard),
        Ok(Attempt::Busy(_)) | Err(_) => None,
    }
}

/// Takes a lock that must be free, as this process.
#[track_caller]
pub fn take(path: &Path) -> SoftGuard<Real> {
    match try_take(path) {
        Ok(guard) => guard,
        Err(holder) => panic!("{} is held {holder}", path.display()),
    }
}

/// Tries to take a lock, as this process.
#[track_caller]
pub fn try_take(path: &Path) -> Result<SoftGuard<Real>, Holder> {
    take_within(path, Duration::ZERO)
}

/// Tries for so long.
#[track_caller]
pub fn take_within(path: &Path, within: Duration) -> Result<SoftGuard<Real>, Holder> {
    match SoftLock::at(&Arc::new(Real), path).unwrap().acquire(within).unwrap() {
        Attempt::Taken(guard) => Ok(guard),
        Attempt::Busy(holder) => Err(holder),
    }
}

/// Fails the test unless a guard still has its lock.
#[track_caller]
pub fn expect_held<W: World>(guard: &SoftGuard<W>, when: &str) {
    assert_eq!(guard.check().unwrap(), Ownership::Held, "{when}");
}

/// Fails the test unless a guard's own marker is at the lock's name.
#[track_caller]
pub fn expect_in_place(path: &Path, marker: u64, when: &str) {
    assert_eq!(inode(path), Some(marker), "{when}: {:?}", names_beside(path));
}

/// The inode at a path.
pub fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(path).ok().map(|file| file.ino())
}

/// The names in a lock's directory that begin with the lock's own.
pub fn names_beside(path: &Path) -> Vec<String> {
    let own = path.file_name().unwrap().to_str().unwrap();
    let entries = fs::read_dir(path.parent().unwrap()).unwrap().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| name != own && name.starts_with(own)).collect();
    names.sort();
    names
}
