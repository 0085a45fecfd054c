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
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::believed::{Believed, holder_in, recorded_pid};
use crate::base::error::{Context, Result};
use crate::lock::holder::Holder;
use crate::lock::location::Spot;
use crate::lock::{Attempt, Lock};
use crate::system::{Open, World};

/// From one look to the next.
const STEP: Duration = Duration::from_millis(1);

/// A contender.
#[derive(Debug)]
pub struct NaiveLock<W: World> {
    spot: Spot<W>,
}

impl<W: World> NaiveLock<W> {
    /// A contender for the file at this path.
    ///
    /// # Errors
    /// Those of opening its directory.
    pub fn at(world: &Arc<W>, path: &Path) -> Result<Self> {
        Ok(Self { spot: Spot::open(world, path)? })
    }

    fn write_pid(&self) -> io::Result<()> {
        let Spot { world, directory, name, .. } = &self.spot;
        let file = world.open(directory, name, Open::Lock)?;
        world.overwrite(&file, format!("{}\n", world.own_pid()).as_bytes())
    }
}

/// The living process that a file names.
fn recorded_holder<W: World>(spot: &Spot<W>) -> io::Result<Option<u32>> {
    match recorded_pid(spot)? {
        Some(pid) => Ok(spot.world.exists(pid)?.then_some(pid)),
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
    type Guard = Believed<W>;

    fn path(&self) -> &Path {
        &self.spot.path
    }

    fn attempt(&mut self) -> Result<Attempt<Believed<W>, ()>> {
        if recorded_holder(&self.spot).doing("read", &self.spot.path)?.is_some() {
            return Ok(Attempt::Busy(()));
        }
        self.write_pid().doing("write", &self.spot.path)?;
        Ok(Attempt::Taken(Believed::at(&self.spot)))
    }

    fn holder(&self) -> Holder {
        holder_in(&self.spot)
    }

    fn acquire(&mut self, at_most: Duration) -> Result<Attempt<Believed<W>>> {
        let world = Arc::clone(&self.spot.world);
        acquire_in_step(self, world.as_ref(), at_most)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use crate::lock::{Guard, Ownership};
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
