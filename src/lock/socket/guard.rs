//! A socket that is ours, for as long as it is.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::error::{Context, Result};
use crate::base::failpoint::Failpoint;
use crate::lock::kernel::KernelGuard;
use crate::lock::location::Location;
use crate::lock::temp_name::OwnName;
use crate::lock::{Guard, Ownership};
use crate::system::handle::{AsHandle, HandleRef};
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
    name: OwnName<W>,
    pinned: W::Node,
    pub(super) facts: Facts,
    is_handed_out: AtomicBool,
    _sidecar: Sidecar<W>,
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
    pub(super) fn new(location: &Location<W>, pinned: W::Node, facts: Facts, sidecar: Sidecar<W>) -> Self {
        Self {
            name: OwnName::not_yet(location),
            pinned,
            facts,
            is_handed_out: AtomicBool::new(false),
            _sidecar: sidecar,
        }
    }

    /// Notes that it has the lock's name now.
    pub(super) fn note_published(&mut self) {
        self.name.note_published();
    }

    /// Removes the name, if it is still that of our socket and nobody else has that now.
    fn withdraw(&mut self) -> Result<()> {
        let Self { name, pinned, facts: own, is_handed_out, .. } = self;
        name.withdraw(Failpoint::SocketReleasing, Failpoint::SocketMaker, |Location { world, path, .. }, there| {
            let is_ours = there.is_same_inode(own) || !world.is_protected(Failpoint::SocketOwnInodeOnRelease);
            // Our socket, which we have closed, may be somebody else's now. One that was never handed out is not, although
            // a child that is just being started has a copy of every descriptor until it executes its program.
            let is_somebodys = is_ours
                && is_handed_out.load(Ordering::SeqCst)
                && world.binding(pinned).doing("probe", path)? != Binding::Unbound;
            Ok(is_ours && !is_somebodys)
        })
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
    #[cfg(feature = "test-support")]
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
        &self.claimed.name.location().path
    }

    fn check(&self) -> Result<Ownership> {
        let (location, facts) = (self.claimed.name.location(), &self.claimed.facts);
        Ok(Ownership::by_inode(location.facts_by_path().doing("examine", &location.path)?, facts))
    }

    fn release(self) -> Result<()> {
        let Self { listener, mut claimed } = self;
        drop(listener);
        claimed.withdraw()
    }
}
