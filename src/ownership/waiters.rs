//! Waiters as locked leases: "somebody will be told" is a kernel fact too.
//!
//! Each waiter has a file of its own in `waiters/`, locked and marked like the home's lock before it gets its name. So a
//! file without a mark is one whose waiter has died, and may be removed by anyone; one with a mark counts. No flag that
//! somebody forgot to take back ever says that somebody is listening.

use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::Arc;

use super::wakeup_fifo;
use crate::system::storage;
use crate::system::{Claim, Facts, Kind, Open, World};

/// A waiter's lease. Dropping it ends it.
#[derive(Debug)]
pub struct Lease<W: World> {
    world: Arc<W>,
    directory: W::Node,
    name: OsString,
    facts: Facts,
    // Held for its lock, which goes with it.
    _locked: W::Node,
}

/// How the name of a lease begins that has not been locked yet.
const UNFINISHED: &[u8] = b".";

impl<W: World> Lease<W> {
    /// The lease's name in the directory of waiters.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// Takes a lease in the directory of waiters.
    ///
    /// # Errors
    /// Those of the file system. Waiting is possible without a lease, but then nobody sees the waiter.
    pub fn take(world: &Arc<W>, directory: W::Node) -> io::Result<Self> {
        let nonce = u64::from_le_bytes(world.nonce()?[..8].try_into().map_err(io::Error::other)?);
        let name = OsString::from(format!("{}-{nonce:016x}", world.own_pid()));
        let unfinished = OsString::from(format!(".{}-{nonce:016x}", world.own_pid()));
        let locked = world.open(&directory, &unfinished, Open::CreateNew)?;
        if world.try_lock(&locked)? == Claim::Busy {
            return Err(io::Error::other("somebody locked a new lease before its waiter did"));
        }
        world.raise_mark(&locked, Kind::File)?;
        let facts = world.facts(&locked)?;
        let text = format!("{{\"schema\":1,\"pid\":{},\"since\":{}}}\n", world.own_pid(), world.now().wall_ms);
        // The content is for people; a full disk must not keep anyone from waiting.
        if let Err(error) = storage::append_all(world.as_ref(), &locked, text.as_bytes()) {
            tracing::debug!("a lease without content: {error}");
        }
        world.rename(&directory, &unfinished, &name)?;
        Ok(Self { world: Arc::clone(world), directory, name, facts, _locked: locked })
    }
}

impl<W: World> Drop for Lease<W> {
    fn drop(&mut self) {
        let named = self.world.facts_at(&self.directory, &self.name);
        if named.is_ok_and(|facts| facts.is_same_inode(&self.facts)) {
            // A leftover without a mark counts for nothing and is removed by the next who looks.
            drop(storage::remove(self.world.as_ref(), &self.directory, &self.name));
        }
    }
}

/// How many waiters live.
///
/// # Errors
/// Those of the file system. No directory means no waiter.
pub fn count<W: World>(world: &W, directory: &W::Node) -> io::Result<usize> {
    let mut living = 0;
    for name in world.names(directory)? {
        if !name.as_encoded_bytes().starts_with(UNFINISHED)
            && !wakeup_fifo::is_bell(&name)
            && is_living(world, directory, &name)? == Some(Liveness::Living)
        {
            living += 1;
        }
    }
    Ok(living)
}

/// Removes the leases of dead waiters. An unfinished one is left for a minute, in which its waiter may finish it.
///
/// # Errors
/// Those of the file system.
pub fn prune<W: World>(world: &W, directory: &W::Node) -> io::Result<()> {
    const MINUTE_NS: i64 = 60_000_000_000;
    let listed = world.names(directory)?;
    for name in &listed {
        if wakeup_fifo::is_bell(name) {
            let lease = &name.as_encoded_bytes()[..name.len() - wakeup_fifo::SUFFIX.len()];
            if !listed.iter().any(|other| other.as_encoded_bytes() == lease) {
                storage::remove(world, directory, name)?;
            }
            continue;
        }
        let is_unfinished = name.as_encoded_bytes().starts_with(UNFINISHED);
        let is_recent = || {
            let now = world.now().wall_ms.saturating_mul(1_000_000);
            world.facts_at(directory, name).is_ok_and(|facts| now.saturating_sub(facts.mtime_ns).abs() < MINUTE_NS)
        };
        if is_unfinished && is_recent() {
            continue;
        }
        if is_living(world, directory, name)? == Some(Liveness::Dead) {
            storage::remove(world, directory, name)?;
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Liveness {
    Living,
    Dead,
}

/// `None`: the name is gone by now, or is no lease at all.
fn is_living<W: World>(world: &W, directory: &W::Node, name: &OsStr) -> io::Result<Option<Liveness>> {
    let Ok(node) = world.open(directory, name, Open::Read) else { return Ok(None) };
    if world.facts(&node)?.kind != Kind::File {
        return Ok(None);
    }
    Ok(Some(if world.is_marked(&node)? { Liveness::Living } else { Liveness::Dead }))
}
