//! A directory with one lock in it, and whatever a test wants to have lain there before.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use fm_watch::lock::owner_link::{OwnerLinkGuard, OwnerLinkLock};
use fm_watch::lock::{Attempt, Lock};
use fm_watch::system::World;

use super::staged::Staged;
use crate::support::contest::names_in;
use crate::support::{Background, TestHome};

/// The directory.
#[derive(Debug)]
pub struct Arena {
    pub home: TestHome,
    pub lock: PathBuf,
}

impl Arena {
    pub fn new() -> Self {
        let home = TestHome::new();
        let directory = home.scratch().join("arena");
        fs::create_dir(&directory).unwrap();
        Self { lock: directory.join("state.lock"), home }
    }

    pub fn steal(&self) -> PathBuf {
        longer(&self.lock, ".steal")
    }

    pub fn steal_of_steal(&self) -> PathBuf {
        longer(&self.lock, ".steal.steal")
    }

    /// The names in the directory, sorted.
    pub fn names(&self) -> Vec<String> {
        names_in(self.lock.parent().unwrap())
    }

    /// A contender of ours in the name of this test.
    pub fn ours(&self) -> OwnerLinkLock<Staged> {
        self.ours_in(&Staged::new())
    }

    /// A contender of ours in a world.
    pub fn ours_in<W: World>(&self, world: &Arc<W>) -> OwnerLinkLock<W> {
        OwnerLinkLock::at(world, &self.lock).unwrap()
    }

    /// One attempt of ours.
    #[track_caller]
    pub fn try_ours(&self) -> Option<OwnerLinkGuard<Staged>> {
        attempt(&mut self.ours())
    }

    /// One attempt of ours in a world.
    #[track_caller]
    pub fn try_in(&self, world: &Arc<Staged>) -> Option<OwnerLinkGuard<Staged>> {
        attempt(&mut self.ours_in(world))
    }

    /// A peer's `pid`, read as every reader does: through the link.
    pub fn pid(&self) -> Option<u32> {
        fs::read_to_string(self.lock.join("pid")).ok()?.trim().parse().ok()
    }
}

/// One attempt.
#[track_caller]
pub fn attempt<W: World>(lock: &mut OwnerLinkLock<W>) -> Option<OwnerLinkGuard<W>> {
    match lock.try_acquire().unwrap() {
        Attempt::Taken(guard) => Some(guard),
        Attempt::Busy(_) => None,
    }
}

pub fn longer(path: &Path, end: &str) -> PathBuf {
    let mut longer = path.as_os_str().to_owned();
    longer.push(end);
    longer.into()
}

/// Lays a record at a path, as its owner left it. Gives the owner directory.
pub fn lay(lock: &Path, suffix: &str, pid: &str) -> PathBuf {
    let owner = lay_owner(lock, suffix, pid);
    symlink(&owner, lock).unwrap();
    owner
}

/// Lays an owner directory and no link.
pub fn lay_owner(lock: &Path, suffix: &str, pid: &str) -> PathBuf {
    let owner = longer(lock, &format!(".owner.{suffix}"));
    fs::create_dir(&owner).unwrap();
    if !pid.is_empty() {
        fs::write(owner.join("pid"), format!("{pid}\n")).unwrap();
    }
    owner
}

/// Lays the record of a process that has ended.
pub fn lay_dead(lock: &Path) -> PathBuf {
    lay(lock, "dead00", &dead_pid().to_string())
}

/// The pid of a process that has ended and was reaped.
pub fn dead_pid() -> u32 {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

/// A process that lives until its value is dropped.
pub fn sleeper(home: &TestHome) -> Background {
    let mut command = home.bare("sleep");
    command.arg("1000");
    Background::spawn(command)
}
