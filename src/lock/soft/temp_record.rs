//! A record that is complete before it has a name that means anything.
//!
//! A process that creates the marker and then fills it can be killed in between, and the empty marker it leaves blocks
//! every peer for ever. So the record is written under a private name, and a second step gives it a name that counts.
//! A process that is killed before that leaves a private name, which nobody minds.

use std::ffi::{OsStr, OsString};
use std::io;

use super::decimal::Decimal;
use super::marker::Record;
use super::names;
use crate::base::failpoint::Failpoint;
use crate::lock::location::{Location, Publication};
use crate::system::storage;
use crate::system::{Facts, Open, World};

/// Everybody may read a marker, for everybody must be able to judge it, and nobody else may write it.
const MODE: u32 = 0o644;

/// A marker of ours that is open for writing.
#[derive(Debug)]
pub(super) struct Own<W: World> {
    /// The descriptor that it was created with. As long as it is open, no other file can get its inode number.
    pub(super) node: W::Node,
    /// Which file it is.
    pub(super) facts: Facts,
    /// The private name that it has kept, if it has.
    pub(super) private: Option<OsString>,
}

impl<W: World> Own<W> {
    /// Whether it has a name besides its private one.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn has_a_public_name(&self, world: &W) -> io::Result<bool> {
        Ok(world.facts(&self.node)?.links > u64::from(self.private.is_some()))
    }
}

/// A complete record of ours under a private name.
#[derive(Debug)]
pub(super) struct TempRecord<'a, W: World> {
    location: &'a Location<W>,
    name: OsString,
    own: Own<W>,
}

impl<'a, W: World> TempRecord<'a, W> {
    /// Writes it.
    ///
    /// # Errors
    /// Those of the system; then nothing is left behind.
    pub(super) fn write(location: &'a Location<W>, record: &Record) -> io::Result<Self> {
        let world = &*location.world;
        let name = names::private(&location.name, world.own_pid(), world.nonce()?);
        let node = world.open(&location.directory, &name, Open::CreateNew)?;
        let written = fill(world, &node, record).and_then(|()| world.facts(&node));
        match written {
            Ok(facts) => Ok(Self { location, name, own: Own { node, facts, private: None } }),
            Err(error) => {
                // What is left cannot be told from what a killed process leaves, and is as harmless.
                let _left_behind = world.unlink(&location.directory, &name);
                Err(error)
            }
        }
    }

    /// The file and its private name.
    pub(super) fn into_parts(self) -> (Own<W>, OsString) {
        (self.own, self.name)
    }

    /// Gives it the lock's name in place of its private one, if nothing has that name. `None`: something has.
    ///
    /// # Errors
    /// Those of the system; then it has not got the name.
    pub(super) fn publish_and_forget(self) -> io::Result<Option<Own<W>>> {
        let Location { world, directory, .. } = self.location;
        let published = world.reach(Failpoint::SoftPrepared).and_then(|()| self.location.publish(&self.name));
        // Also when it was linked: the private name has done its work. If it stays, that does no harm.
        let _left_behind = world.unlink(directory, &self.name);
        Ok((published? == Publication::Published).then_some(self.own))
    }

    /// Gives it a breaker's name instead, for an exchange with what has the lock's. The name carries the recorded pid,
    /// because it is by the record in its place that others find what a dead breaker took away.
    ///
    /// # Errors
    /// Those of the system; then nothing is left behind.
    pub(super) fn stand_aside(self, recorded: u32) -> io::Result<(OsString, Own<W>)> {
        let Location { world, directory, name: lock, .. } = self.location;
        let renamed = world.reach(Failpoint::SoftPrepared).and_then(|()| {
            let aside = names::aside(lock, &Decimal::from(recorded), world.nonce()?);
            world.rename(directory, &self.name, &aside).map(|()| aside)
        });
        renamed.map(|aside| (aside, self.own)).inspect_err(|_| {
            let _left_behind = world.unlink(directory, &self.name);
        })
    }
}

/// Creates the marker under the lock's name and fills it then, which is what must never be done.
///
/// # Errors
/// Those of the system.
pub(super) fn create_then_fill<W: World>(location: &Location<W>, record: &Record) -> io::Result<Option<Own<W>>> {
    let world = &*location.world;
    let node = match world.open(&location.directory, OsStr::new(&location.name), Open::CreateNew) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        opened => opened?,
    };
    fill(world, &node, record)?;
    let facts = world.facts(&node)?;
    Ok(Some(Own { node, facts, private: None }))
}

fn fill<W: World>(world: &W, node: &W::Node, record: &Record) -> io::Result<()> {
    world.reach(Failpoint::SoftCreated)?;
    storage::append_all(world, node, &record.to_bytes())?;
    world.set_mode(node, MODE)
}
