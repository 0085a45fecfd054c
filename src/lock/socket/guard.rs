//! A socket that is ours, for as long as it is.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::error::{Context, Result};
use crate::base::failpoint::Failpoint;
use crate::lock::kernel::KernelGuard;
use crate::lock::location::Spot;
use crate::lock::{Guard, Ownership};
use crate::system::handle::{AsHandle, HandleRef};
use crate::system::storage;
use crate::system::{Binding, Facts, Real, Sockets};

/// The held lock: a listening socket, and the name that leads to it.
#[derive(Debug)]
pub struct SocketGuard<W: Sockets> {
    // The order is that of dropping: first nobody is bound any more, then the name goes, then the lock beside it.
    pub(super) listener: W::Listener,
    pub(super) claimed: Claimed<W>,
}

/// The name of a socket of ours, and the lock under which it was made.
#[derive(Debug)]
pub(super) struct Claimed<W: Sockets> {
    spot: Spot<W>,
    pinned: W::Node,
    pub(super) facts: Facts,
    name: Name,
    maker: u32,
    is_handed_out: AtomicBool,
    _sidecar: Sidecar<W>,
}

/// Which name a socket of ours has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    /// The lock's own: dropping the claim removes it.
    Published,
    /// Another one, or none any more.
    Private,
}

/// The lock on `PATH.lock`.
#[derive(Debug)]
pub(super) enum Sidecar<W: Sockets> {
    /// Taken.
    Held(KernelGuard<W>),
    /// Only in the test that shows why it is needed.
    Without,
}

impl<W: Sockets> Claimed<W> {
    /// A socket of ours under a private name.
    pub(super) fn new(spot: &Spot<W>, pinned: W::Node, facts: Facts, sidecar: Sidecar<W>) -> Self {
        Self {
            spot: spot.clone(),
            pinned,
            facts,
            name: Name::Private,
            maker: spot.world.own_pid(),
            is_handed_out: AtomicBool::new(false),
            _sidecar: sidecar,
        }
    }

    /// Notes that it has the lock's name now.
    pub(super) fn note_published(&mut self) {
        self.name = Name::Published;
    }

    /// Removes the name, if it is still that of our socket and nobody else has that now.
    fn withdraw(&mut self) -> Result<()> {
        let Spot { world, directory, name, path } = &self.spot;
        let was_published = std::mem::replace(&mut self.name, Name::Private) == Name::Published;
        // A forked copy of this process has a copy of the guard, and lets go of nothing.
        if !was_published || (world.own_pid() != self.maker && world.is_protected(Failpoint::SocketMaker)) {
            return Ok(());
        }
        world.reach(Failpoint::SocketReleasing).doing("remove", path)?;
        let is_ours = match self.spot.facts().doing("examine", path)? {
            Some(facts) => facts.is_same_inode(&self.facts) || !world.is_protected(Failpoint::SocketOwnInodeOnRelease),
            None => false,
        };
        if is_ours && self.is_over().doing("probe", path)? {
            storage::remove(&**world, directory, name).doing("remove", path)?;
        }
        Ok(())
    }

    /// Whether our socket, which we have closed, is nobody's now. One that was never handed out is, although a child that
    /// is just being started has a copy of every descriptor until it executes its program.
    fn is_over(&self) -> io::Result<bool> {
        Ok(!self.is_handed_out.load(Ordering::SeqCst) || self.spot.world.binding(&self.pinned)? == Binding::Unbound)
    }
}

impl<W: Sockets> Drop for Claimed<W> {
    fn drop(&mut self) {
        // Who cares for a failure calls `release`.
        drop(self.withdraw());
    }
}

impl<W: Sockets> SocketGuard<W> {
    /// The listening socket. The lock ends with the guard, even if somebody has a duplicate of it.
    pub fn listener(&self) -> &W::Listener {
        &self.listener
    }
}

impl SocketGuard<Real> {
    /// The listening socket, for a child that shall hold the lock too: from now on it is held until the last one has
    /// closed it.
    pub fn descriptor(&self) -> HandleRef<'_> {
        self.claimed.is_handed_out.store(true, Ordering::SeqCst);
        self.listener.as_handle()
    }
}

impl<W: Sockets> Guard for SocketGuard<W> {
    fn path(&self) -> &Path {
        &self.claimed.spot.path
    }

    fn check(&self) -> Result<Ownership> {
        let Claimed { spot, facts, .. } = &self.claimed;
        Ok(Ownership::by_inode(spot.facts_by_path().doing("examine", &spot.path)?, facts))
    }

    fn release(self) -> Result<()> {
        let Self { listener, mut claimed } = self;
        drop(listener);
        claimed.withdraw()
    }
}
