//! The pid file that is checked and then written: a protocol that promises nothing.
//!
//! # Theory
//!
//! A contender reads the pid in the file. If it names a living process the lock is busy; otherwise the contender writes
//! its own pid and believes to hold. Two that look at the same time both believe it. So does one that looks while
//! another has made the file and not yet filled it. This is how the build tool fbuild kept its daemon alone, and nothing
//! here is slowed down to make it fail: all only look often and at the same instants, so that a short storm sees what a
//! long life would.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::base::error::{Context, Result};
use crate::lock::location::Location;
use crate::lock::{Attempt, Guard, Holder, Lock, Loss, Ownership};
use crate::system::storage;
use crate::system::{Open, World};

/// From one look to the next.
const STEP: Duration = Duration::from_millis(1);

/// A contender.
#[derive(Debug)]
pub struct NaiveLock<W: World> {
    location: Location<W>,
}

impl<W: World> NaiveLock<W> {
    /// A contender for the file at this path.
    ///
    /// # Errors
    /// Those of opening its directory.
    pub fn at(world: &Arc<W>, path: &Path) -> Result<Self> {
        Ok(Self { location: Location::open(world, path)? })
    }

    fn write_pid(&self) -> io::Result<()> {
        let Location { world, directory, name, .. } = &self.location;
        let file = world.open(directory, name, Open::Lock)?;
        world.overwrite(&file, format!("{}\n", world.own_pid()).as_bytes())
    }
}

/// The living process that a file names.
fn recorded_holder<W: World>(location: &Location<W>) -> io::Result<Option<u32>> {
    match recorded_pid(location)? {
        Some(pid) => Ok(location.world.exists(pid)?.then_some(pid)),
        None => Ok(None),
    }
}

/// Looks at every full millisecond of the clock, as programs do that one timer or one event wakes. The others of the
/// family take care not to look in step; a protocol that needs that care is not worth much.
pub(super) fn acquire_in_step<L: Lock, W: World>(
    lock: &mut L,
    world: &W,
    at_most: Duration,
) -> Result<Attempt<L::Guard>> {
    let began = world.now().monotonic;
    loop {
        if let Attempt::Taken(guard) = lock.attempt()? {
            return Ok(Attempt::Taken(guard));
        }
        let now = world.now().monotonic;
        if now.saturating_sub(began) >= at_most {
            return Ok(Attempt::Busy(lock.holder()));
        }
        world.pause(until_next(now));
    }
}

fn until_next(now: Duration) -> Duration {
    let into = u64::from(now.subsec_nanos()) % u64::from(STEP.subsec_nanos());
    STEP.saturating_sub(Duration::from_nanos(into))
}

impl<W: World> Lock for NaiveLock<W> {
    type Guard = NaiveGuard<W>;

    fn path(&self) -> &Path {
        &self.location.path
    }

    fn attempt(&mut self) -> Result<Attempt<NaiveGuard<W>, ()>> {
        if recorded_holder(&self.location).doing("read", &self.location.path)?.is_some() {
            return Ok(Attempt::Busy(()));
        }
        self.write_pid().doing("write", &self.location.path)?;
        Ok(Attempt::Taken(NaiveGuard::at(&self.location)))
    }

    fn holder(&self) -> Holder {
        holder_in(&self.location)
    }

    fn acquire(&mut self, at_most: Duration) -> Result<Attempt<NaiveGuard<W>>> {
        let world = Arc::clone(&self.location.world);
        acquire_in_step(self, world.as_ref(), at_most)
    }
}

/// What a contender of a protocol that promises nothing believes to hold: a file that names its pid, until it is let go
/// of. [`unlink`](super::unlink) gets there in another way, looks at it and lets go of it alike.
#[derive(Debug)]
pub struct NaiveGuard<W: World> {
    held: Option<Location<W>>,
    path: PathBuf,
}

impl<W: World> NaiveGuard<W> {
    /// What has this contender's pid in it now.
    pub(super) fn at(location: &Location<W>) -> Self {
        Self { held: Some(location.clone()), path: location.path.clone() }
    }

    /// Removes the name, once.
    fn remove(&mut self) -> io::Result<()> {
        let held = self.held.take();
        held.map_or(Ok(()), |location| storage::remove(location.world.as_ref(), &location.directory, &location.name))
    }
}

impl<W: World> Guard for NaiveGuard<W> {
    fn path(&self) -> &Path {
        &self.path
    }

    fn check(&self) -> Result<Ownership> {
        let Some(location) = &self.held else { return Ok(Ownership::Lost(Loss::Removed)) };
        Ok(match recorded_pid(location).doing("read", &self.path)? {
            Some(pid) if pid == location.world.own_pid() => Ownership::Held,
            Some(_) => Ownership::Lost(Loss::Replaced),
            None => Ownership::Lost(Loss::Removed),
        })
    }

    fn release(mut self) -> Result<()> {
        self.remove().doing("remove", &self.path)
    }
}

impl<W: World> Drop for NaiveGuard<W> {
    fn drop(&mut self) {
        // What is left names a process that no longer means it, and is stale as soon as that has ended.
        drop(self.remove());
    }
}

/// The pid in a file, if there is one that can be read.
pub(super) fn recorded_pid<W: World>(location: &Location<W>) -> io::Result<Option<u32>> {
    let bytes = storage::read(location.world.as_ref(), &location.directory, &location.name, 64)?;
    Ok(bytes.and_then(|bytes| std::str::from_utf8(&bytes).ok()?.trim().parse().ok()))
}

/// A holder whose pid is all that is known.
pub(super) fn holder_in<W: World>(location: &Location<W>) -> Holder {
    match recorded_pid(location) {
        Ok(pid) => Holder { pid, ..Holder::unknown("as the file says, and nobody can tell more") },
        Err(error) => Holder::unknown(error.to_string()),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make and remove files of their own")]
mod tests {
    use super::*;
    use crate::system::Real;

    #[test]
    fn one_after_the_other_it_seems_to_work() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let contender = || NaiveLock::at(&Arc::new(Real), &path).unwrap();
        let Attempt::Taken(guard) = contender().attempt().unwrap() else { panic!("it is free") };
        assert_eq!(guard.check().unwrap(), Ownership::Held);
        assert!(matches!(contender().attempt().unwrap(), Attempt::Busy(())));
        assert_eq!(contender().holder().pid, Some(std::process::id()));
        guard.release().unwrap();
        assert!(!path.exists());
        std::fs::write(&path, "torn").unwrap();
        assert!(matches!(contender().attempt().unwrap(), Attempt::Taken(_)));
    }
}
