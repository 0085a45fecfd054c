//! The kernel's lock on one file: what `flock(1)` takes.
//!
//! # Theory
//!
//! A process opens the file, making it if need be, and asks the kernel for an exclusive `flock` without waiting. The
//! kernel lets go when the last descriptor of that opening is closed, which the death of a holder does, however it
//! comes. So there is no stale lock, nothing to judge and nothing to clean up. The file is never removed: removing a
//! locked file makes room for a second holder of a second inode. Somebody else may do so all the same; a contender that
//! locked a file which is no longer at the path sees it at once and begins again, and a holder sees it in
//! [`Guard::check`].
//!
//! A child that inherits the descriptor holds the lock too, also when its parent has ended.
//!
//! Limits: a file that is removed while it is held can be locked by another process under the same path; where that
//! must not be, lock a directory, which can be done here as well, or use the two locks of
//! [`HomeLock`](crate::ownership::home_lock::HomeLock). A file system whose locks nobody measured is refused.
//!
//! ```
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("build.lock");
//! use fm_watch::lock::{AnyLock, Attempt, Kind, Lock, Subject};
//!
//! let contender = || AnyLock::at(Kind::Kernel, &path, Subject::Myself);
//! let Attempt::Taken(guard) = contender()?.try_acquire()? else { panic!("nobody has it") };
//! // Another contender, also one in this process, is told that it is busy.
//! assert!(matches!(contender()?.try_acquire()?, Attempt::Busy(_)));
//! drop(guard);
//! assert!(matches!(contender()?.try_acquire()?, Attempt::Taken(_)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::location::{Location, description, found};
use super::{Attempt, Guard, Holder, Lock, Once, Ownership, until_answered};
use crate::base::error::{Context, Error, Result};
use crate::base::failpoint::Failpoint;
use crate::system::FileSystem;
use crate::system::handle::{AsHandle, HandleRef};
use crate::system::identity::{Proof, Sameness};
use crate::system::{Claim, Facts, Kind, LockTaker, Open, Real, World};

/// A contender for the kernel's lock on a file or directory.
#[derive(Debug)]
pub struct KernelLock<W: World> {
    location: Location<W>,
}

/// The held lock.
#[derive(Debug)]
pub struct KernelGuard<W: World> {
    location: Location<W>,
    node: W::Node,
    facts: Facts,
}

impl<W: World> KernelLock<W> {
    /// A contender for the file at this path, which need not exist; its directory must.
    ///
    /// # Errors
    /// Those of opening the directory.
    pub fn at(world: &Arc<W>, path: &Path) -> Result<Self> {
        Ok(Self { location: Location::open(world, path)? })
    }

    /// Opens what is to be locked. What cannot be written can still be locked, and so can a directory.
    fn open(&self) -> Result<(W::Node, Facts)> {
        let Location { world, directory, name, path } = &self.location;
        let opened = world.open(directory, name, Open::Lock).or_else(|error| match error.kind() {
            io::ErrorKind::IsADirectory => world.open_directory_at(directory, name),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                world.open(directory, name, Open::Read)
            }
            _ => Err(error),
        });
        let node = opened.map_err(|error| match self.location.facts() {
            Ok(Some(facts)) if !can_be_locked(facts.kind) => refused(path, facts.kind),
            _ => Error::system("open", path, error),
        })?;
        let facts = world.facts(&node).doing("examine", path)?;
        if can_be_locked(facts.kind) { Ok((node, facts)) } else { Err(refused(path, facts.kind)) }
    }

    fn attempt_once(&self) -> Result<Once<KernelGuard<W>>> {
        let Location { world, path, .. } = &self.location;
        let (node, facts) = self.open()?;
        if let FileSystem::Untrusted(found) = world.file_system(&node).doing("examine", path)? {
            return Err(Error::refused(
                path,
                format!("is on {found}, where nobody has shown that locks hold"),
                "lock a file on a local file system; `fm-watch storm --self-test --dir DIR` shows what the locks of a file \
                 system do",
            ));
        }
        world.reach(Failpoint::KernelOpened).doing("lock", path)?;
        if world.try_lock(&node).doing("lock", path)? == Claim::Busy {
            return Ok(Once::Busy(()));
        }
        let guard = KernelGuard { location: self.location.clone(), node, facts };
        if world.is_protected(Failpoint::KernelRecheck) && !guard.check()?.is_held() {
            return Ok(Once::Again);
        }
        Ok(Once::Taken(guard))
    }
}

fn can_be_locked(kind: Kind) -> bool {
    matches!(kind, Kind::File | Kind::Directory)
}

fn refused(path: &Path, kind: Kind) -> Error {
    Error::refused(path, description(kind), "lock a regular file or a directory")
}

impl<W: World> Lock for KernelLock<W> {
    type Guard = KernelGuard<W>;

    fn path(&self) -> &Path {
        &self.location.path
    }

    fn attempt(&mut self) -> Result<Attempt<KernelGuard<W>, ()>> {
        until_answered(&self.location.path, "locked", || self.attempt_once())
    }

    fn holder(&self) -> Holder {
        let Location { world, directory, name, .. } = &self.location;
        let node = found(world.open(directory, name, Open::Read));
        let taker = node.and_then(|node| node.map_or(Ok(LockTaker::NotSeen), |node| world.lock_taker(&node)));
        match taker {
            Ok(LockTaker::Taken(pid)) => Holder {
                pid: Some(pid),
                // The kernel itself says that the lock is held. A pid that has ended has left it to a descendant.
                identity: match world.exists(pid) {
                    Ok(false) => Sameness::Unknown("it has ended; a process it started holds the lock".to_owned()),
                    _ => Sameness::Same(Proof::LockTaker),
                },
                ..Holder::unknown("")
            },
            Ok(LockTaker::NotSeen) => Holder::unknown("the kernel's table of locks does not show it"),
            Err(error) => Holder::unknown(format!("the kernel's table of locks cannot be read: {error}")),
        }
    }
}

impl<W: World> Guard for KernelGuard<W> {
    fn path(&self) -> &Path {
        &self.location.path
    }

    fn check(&self) -> Result<Ownership> {
        let there = self.location.facts_by_path().doing("examine", &self.location.path)?;
        Ok(Ownership::by_inode(there, &self.facts))
    }

    fn release(self) -> Result<()> {
        // By closing only: an explicit unlock in one process would drop the lock of all that inherited it.
        drop(self);
        Ok(())
    }
}

impl KernelGuard<Real> {
    /// The descriptor whose opening holds the lock, for a child that shall hold it too.
    pub fn descriptor(&self) -> HandleRef<'_> {
        self.node.as_handle()
    }
}
