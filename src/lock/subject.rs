//! For whom a pid file is taken.

use std::path::Path;

use super::location::Spot;
use super::pidfile::record::Claim;
use crate::base::error::{Context, Error, Result};
use crate::system::World;
use crate::system::identity::{Observation, Pid};

const NAME_A_LIVE_ONE: &str = "name a process that lives";
const USE_ANOTHER_KIND: &str = "use a lock of the kind `kernel`";

/// The process that a file will name.
#[derive(Debug)]
pub(crate) enum Subject<W: World> {
    /// The one that takes the lock.
    Myself,
    /// Another one, pinned.
    Other(W::Process),
}

impl<W: World> Subject<W> {
    /// Another process, which lives now.
    pub(crate) fn other(spot: &Spot<W>, pid: u32) -> Result<Self> {
        let pid = ordinary(&spot.path, pid)?;
        match spot.world.pin(pid).doing("record a process in", &spot.path)? {
            Some(process) => Ok(Self::Other(process)),
            None => Err(ended(&spot.path)),
        }
    }

    /// What a file would say about it now.
    pub(crate) fn claim(&self, spot: &Spot<W>) -> Result<Claim> {
        let Spot { world, path, .. } = spot;
        let identity = match self.observed(spot)? {
            Observation::Seen(identity) => identity,
            Observation::Gone => return Err(ended(path)),
            Observation::Unreadable(why) => {
                return Err(Error::refused(path, format!("must say who holds it, and {why}"), USE_ANOTHER_KIND));
            }
        };
        // Readers elsewhere would take our shifted start time for another process's.
        if identity.pidfd_inode.is_none() && !world.has_common_start_times() {
            let found = "must say when its holder started, and start times are shifted in this time namespace";
            return Err(Error::refused(path, found, USE_ANOTHER_KIND));
        }
        Ok(Claim { identity, nonce: world.nonce().doing("make a name beside", path)? })
    }

    fn observed(&self, spot: &Spot<W>) -> Result<Observation> {
        let world = &*spot.world;
        match self {
            Self::Other(process) => Ok(world.observe(process)),
            // Asked for each time: after a fork it is another.
            Self::Myself => {
                let pinned = world.pin(ordinary(&spot.path, world.own_pid())?);
                let pinned = pinned.doing("record this process in", &spot.path)?;
                Ok(pinned.map_or(Observation::Gone, |process| world.observe(&process)))
            }
        }
    }
}

fn ordinary(path: &Path, pid: u32) -> Result<Pid> {
    let found = || format!("cannot record pid {pid}, which is no ordinary process");
    Pid::new(pid).ok_or_else(|| Error::refused(path, found(), USE_ANOTHER_KIND))
}

fn ended(path: &Path) -> Error {
    Error::refused(path, "is meant for a process that has ended", NAME_A_LIVE_ONE)
}
