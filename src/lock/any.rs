//! A lock of whatever kind, chosen by its name.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use super::holder::Holder;
use super::kernel::{KernelGuard, KernelLock};
use super::pidfile::{PidfileGuard, PidfileLock};
use super::socket::{SocketGuard, SocketLock};
use super::{Attempt, Guard, Lock, Loss, Somebody};
use crate::error::Result;
use crate::world::Real;

/// The kinds of lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Kind {
    /// The kernel's own, as flock(1) takes it; ends with its holder
    Kernel,
    /// A pid file, stale only when its process is proven to be dead
    Pidfile,
    /// A Unix socket that is bound and listens; ends with the last process that has it open
    Socket,
}

/// By what a process other than the one that took a lock can hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tie {
    /// By a descriptor that it inherits ([`AnyGuard::descriptor`]), and so can its own children.
    Descriptor,
    /// By a record of its pid ([`Subject::Child`]): it and nobody else.
    Record,
}

impl Kind {
    /// By what another process holds a lock of this kind.
    pub fn tie(self) -> Tie {
        match self {
            Self::Kernel => Tie::Descriptor,
        }
    }
}

/// For whom a lock is taken: whose pid a protocol records that records one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// This process.
    Myself,
    /// Another process, which lives now and is a child of this one.
    Child(u32),
}

/// A contender of one of the kinds.
#[derive(Debug)]
pub enum AnyLock {
    /// See [`Kind::Kernel`].
    Kernel(KernelLock<Real>),
    /// See [`Kind::Pidfile`].
    Pidfile(PidfileLock<Real>),
    /// See [`Kind::Socket`].
    Socket(SocketLock<Real>),
}

/// What an [`AnyLock`] gives.
#[derive(Debug)]
pub enum AnyGuard {
    /// See [`Kind::Kernel`].
    Kernel(KernelGuard<Real>),
    /// See [`Kind::Pidfile`].
    Pidfile(PidfileGuard<Real>),
    /// See [`Kind::Socket`].
    Socket(SocketGuard<Real>),
}

impl AnyLock {
    /// A contender for the lock at this path.
    ///
    /// # Errors
    /// Those of the kind.
    pub fn at(kind: Kind, path: &Path, subject: Subject) -> Result<Self> {
        let world = Arc::new(Real);
        Ok(match kind {
            Kind::Kernel => Self::Kernel(KernelLock::at(&world, path)?),
            Kind::Pidfile => Self::Pidfile(match (PidfileLock::at(&world, path)?, subject) {
                (lock, Subject::Myself) => lock,
                (lock, Subject::Child(pid)) => lock.for_process(pid)?,
            }),
            Kind::Socket => Self::Socket(SocketLock::at(&world, path)?),
        })
    }
}

impl AnyGuard {
    /// The descriptor that keeps the lock for whoever inherits it, for kinds with [`Tie::Descriptor`].
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Kernel(guard) => Some(guard.descriptor()),
        }
    }
}

impl Lock for AnyLock {
    type Guard = AnyGuard;

    fn path(&self) -> &Path {
        match self {
            Self::Kernel(lock) => lock.path(),
            Self::Pidfile(lock) => lock.path(),
            Self::Socket(lock) => lock.path(),
        }
    }

    fn attempt(&mut self) -> Result<Attempt<AnyGuard, Somebody>> {
        Ok(match self {
            Self::Kernel(lock) => lock.attempt()?.map(AnyGuard::Kernel),
            Self::Pidfile(lock) => lock.attempt()?.map(AnyGuard::Pidfile),
            Self::Socket(lock) => lock.attempt()?.map(AnyGuard::Socket),
        })
    }

    fn holder(&self) -> Holder {
        match self {
            Self::Kernel(lock) => lock.holder(),
            Self::Pidfile(lock) => lock.holder(),
            Self::Socket(lock) => lock.holder(),
        }
    }
}

impl Guard for AnyGuard {
    fn path(&self) -> &Path {
        match self {
            Self::Kernel(guard) => guard.path(),
            Self::Pidfile(guard) => guard.path(),
            Self::Socket(guard) => guard.path(),
        }
    }

    fn check(&self) -> Result<Result<(), Loss>> {
        match self {
            Self::Kernel(guard) => guard.check(),
            Self::Pidfile(guard) => guard.check(),
            Self::Socket(guard) => guard.check(),
        }
    }

    fn release(self) -> Result<()> {
        match self {
            Self::Kernel(guard) => guard.release(),
            Self::Pidfile(guard) => guard.release(),
            Self::Socket(guard) => guard.release(),
        }
    }
}
