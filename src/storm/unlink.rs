//! The marker that is broken by unlink: a protocol that promises nothing.
//!
//! # Theory
//!
//! A contender writes its pid under a private name and links that to the lock's name, so the marker is complete as soon
//! as it is there, and only one link succeeds. When the marker names a process that has ended, it is removed, and the
//! contender links its own. Of two contenders that see the same dead holder, the slower one removes the marker of the
//! faster one, who holds already, and both hold. That needs a holder that died, so a storm without kills proves nothing.
//!
//! Nothing here is slowed down to make it fail; see [`naive`](super::naive).

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::naive::{NaiveGuard, acquire_in_step, holder_in, recorded_pid};
use crate::base::error::{Context, Result};
use crate::lock::location::{Location, Publication};
use crate::lock::{Attempt, Holder, Lock};
use crate::system::storage;
use crate::system::{Open, World};

/// A contender.
#[derive(Debug)]
pub struct UnlinkLock<W: World> {
    location: Location<W>,
    private: OsString,
}

impl<W: World> UnlinkLock<W> {
    /// A contender for the marker at this path.
    ///
    /// # Errors
    /// Its private file cannot be written.
    pub fn at(world: &Arc<W>, path: &Path) -> Result<Self> {
        let location = Location::open(world, path)?;
        let mut private = location.name.clone();
        private.push(format!(".{}", world.own_pid()));
        write_pid(&location, &private).doing("write beside", path)?;
        Ok(Self { location, private })
    }

    /// Links the private file to the lock's name. Says whether the name was free.
    fn claim(&self) -> io::Result<bool> {
        Ok(self.location.publish(&self.private)? == Publication::Published)
    }

    /// Removes a marker whose process has ended. Says whether there is room now.
    fn break_dead(&self) -> io::Result<bool> {
        let Some(pid) = recorded_pid(&self.location)? else { return Ok(true) };
        if self.location.world.exists(pid)? {
            return Ok(false);
        }
        storage::remove(self.location.world.as_ref(), &self.location.directory, &self.location.name)?;
        Ok(true)
    }
}

fn write_pid<W: World>(location: &Location<W>, name: &OsStr) -> io::Result<()> {
    let world = location.world.as_ref();
    // A process that had the same pid and was killed may have left one.
    storage::remove(world, &location.directory, name)?;
    let file = world.open(&location.directory, name, Open::CreateNew)?;
    storage::append_all(world, &file, format!("{}\n", world.own_pid()).as_bytes())
}

impl<W: World> Lock for UnlinkLock<W> {
    type Guard = NaiveGuard<W>;

    fn path(&self) -> &Path {
        &self.location.path
    }

    fn attempt(&mut self) -> Result<Attempt<NaiveGuard<W>, ()>> {
        let path = &self.location.path;
        let is_ours = self.claim().doing("claim", path)?
            || (self.break_dead().doing("break", path)? && self.claim().doing("claim", path)?);
        if !is_ours {
            return Ok(Attempt::Busy(()));
        }
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

impl<W: World> Drop for UnlinkLock<W> {
    fn drop(&mut self) {
        // Nobody reads a private file but its owner.
        drop(storage::remove(self.location.world.as_ref(), &self.location.directory, &self.private));
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make and remove files of their own")]
mod tests {
    use super::*;
    use crate::lock::{Guard, Ownership};
    use crate::system::Real;

    #[test]
    fn one_after_the_other_it_seems_to_work() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let mut contender = UnlinkLock::at(&Arc::new(Real), &path).unwrap();
        let Attempt::Taken(guard) = contender.attempt().unwrap() else { panic!("it is free") };
        assert_eq!(guard.check().unwrap(), Ownership::Held);
        assert!(matches!(contender.attempt().unwrap(), Attempt::Busy(())));
        guard.release().unwrap();
        assert!(!path.exists());
        // No process can have this number.
        std::fs::write(&path, format!("{}\n", i32::MAX)).unwrap();
        assert!(matches!(contender.attempt().unwrap(), Attempt::Taken(_)));
        drop(contender);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing private is left");
    }

    #[test]
    fn the_slower_of_two_breakers_removes_the_marker_of_the_faster_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        std::fs::write(&path, format!("{}\n", i32::MAX)).unwrap();
        let mut faster = UnlinkLock::at(&Arc::new(Real), &path).unwrap();
        // Both have seen the dead holder.
        assert_eq!(recorded_pid(&faster.location).unwrap(), Some(i32::MAX.cast_unsigned()));
        let Attempt::Taken(first) = faster.attempt().unwrap() else { panic!("its holder is dead") };
        storage::remove(&Real, &faster.location.directory, &faster.location.name).unwrap();
        let Attempt::Taken(_second) = faster.attempt().unwrap() else { panic!("its marker is gone") };
        assert_eq!(first.check().unwrap(), Ownership::Held, "both believe to hold");
    }
}
