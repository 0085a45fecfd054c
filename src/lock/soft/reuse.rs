//! A record that is kept under its private name between two holds.
//!
//! To make a file is by far the dearest step of taking a free lock, and a disk's file system makes it dearer the more
//! files were removed lately. A contender that takes the same lock again and again therefore keeps its file: to hold is
//! then to give it the lock's name as a second one, and to let go is to take that name away.
//!
//! The record is written anew before each hold, so the file's age is that of the hold, for peers who ask for that. A file
//! that somebody else has given a name meanwhile, a breaker that was overtaken, is not used again. The first hold of a
//! contender keeps nothing, so a program that takes a lock once leaves nothing if it is killed while it holds.

use std::ffi::OsString;
use std::io;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use super::marker::Record;
use super::recovery;
use super::temp_record::{Own, TempRecord};
use crate::base::failpoint::Failpoint;
use crate::lock::location::{Location, Publication};
use crate::system::World;

/// What one contender and its guards share.
#[derive(Debug)]
pub(super) struct Reuse<W: World> {
    location: Location<W>,
    kept: Mutex<Kept<W>>,
    swept: Once,
}

#[derive(Debug)]
enum Kept<W: World> {
    /// Nothing was held yet.
    Nothing,
    /// What there was is in use, or was not fit to be used again.
    NotNow,
    /// The file of a process, ready to be linked.
    File { own: Own<W>, name: OsString, of: u32 },
}

impl<W: World> Reuse<W> {
    /// For a contender that has not held yet.
    pub(super) fn new(location: Location<W>) -> Self {
        Self { location, kept: Mutex::new(Kept::Nothing), swept: Once::new() }
    }

    /// Gives a file with this record the lock's name, if nothing has that name. `None`: something has.
    ///
    /// # Errors
    /// Those of the system; then it has not got the name.
    pub(super) fn publish(&self, record: &Record) -> io::Result<Option<Own<W>>> {
        let mut kept = self.kept();
        match std::mem::replace(&mut *kept, Kept::NotNow) {
            Kept::Nothing => {
                let published = TempRecord::write(&self.location, record).and_then(TempRecord::publish_and_forget);
                if !matches!(published, Ok(Some(_))) {
                    *kept = Kept::Nothing;
                }
                published
            }
            // A forked child leaves its parent's file alone.
            Kept::File { own, name, of } if of == self.location.world.own_pid() => {
                self.publish_again(&mut kept, own, name, record)
            }
            Kept::NotNow | Kept::File { .. } => self.publish_new(&mut kept, record),
        }
    }

    fn publish_again(
        &self,
        kept: &mut Kept<W>,
        own: Own<W>,
        name: OsString,
        record: &Record,
    ) -> io::Result<Option<Own<W>>> {
        let Location { world, directory, .. } = &self.location;
        if let Err(error) = world.overwrite(&own.node, &record.to_bytes()) {
            let _left_behind = world.unlink(directory, &name);
            return Err(error);
        }
        match self.link(kept, own, name) {
            // Somebody has removed its private name.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.publish_new(kept, record),
            linked => linked,
        }
    }

    fn publish_new(&self, kept: &mut Kept<W>, record: &Record) -> io::Result<Option<Own<W>>> {
        let (own, name) = TempRecord::write(&self.location, record)?.into_parts();
        self.link(kept, own, name)
    }

    fn link(&self, kept: &mut Kept<W>, own: Own<W>, name: OsString) -> io::Result<Option<Own<W>>> {
        let Location { world, directory, .. } = &self.location;
        match world.reach(Failpoint::SoftPrepared).and_then(|()| self.location.publish(&name)) {
            Ok(Publication::Published) => Ok(Some(Own { private: Some(name), ..own })),
            Ok(Publication::NameTaken) => {
                *kept = Kept::File { own, name, of: world.own_pid() };
                Ok(None)
            }
            Err(error) => {
                let _left_behind = world.unlink(directory, &name);
                Err(error)
            }
        }
    }

    /// Takes a file back that has lost the lock's name and has none but its private one.
    pub(super) fn put_back(&self, mut own: Own<W>) {
        let mut kept = self.kept();
        if matches!(*kept, Kept::File { .. }) {
            return self.discard(&own);
        }
        let Some(name) = own.private.take() else { return };
        *kept = Kept::File { own, name, of: self.location.world.own_pid() };
        drop(kept);
        // Whoever leaves a file here takes some away that others left. Nothing is held now, so nobody waits for that.
        self.swept.call_once(|| recovery::sweep(&self.location));
    }

    /// Does away with a file that must not be used again.
    pub(super) fn discard(&self, own: &Own<W>) {
        if let Some(name) = &own.private {
            let _left_behind = self.location.world.unlink(&self.location.directory, name);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept<W>> {
        // It is whole whenever a thread panics.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: World> Drop for Reuse<W> {
    fn drop(&mut self) {
        let Location { world, directory, .. } = &self.location;
        if let Kept::File { name, of, .. } = &*self.kept()
            && *of == world.own_pid()
        {
            // What stays is nobody's as soon as this process has ended, and is swept.
            let _left_behind = world.unlink(directory, name);
        }
    }
}
