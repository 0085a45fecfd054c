//! A lock of whatever kind, chosen by its name.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use super::holder::Holder;
use super::kernel::{KernelGuard, KernelLock};
use super::{Attempt, Guard, Lock, Loss, Somebody};
use crate::error::Result;
use crate::world::Real;

/// The kinds of lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Kind {
    /// The kernel's own, as flock(1) takes it; ends with its holder
    Kernel,
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
}

/// What an [`AnyLock`] gives.
#[derive(Debug)]
pub enum AnyGuard {
    /// See [`Kind::Kernel`].
    Kernel(KernelGuard<Real>),
}

impl AnyLock {
    /// A contender for the lock at this path.
    ///
    /// # Errors
    /// Those of the kind.
    pub fn at(kind: Kind, path: &Path, _subject: Subject) -> Result<Self> {
        let world = Arc::new(Real);
        Ok(match kind {
            Kind::Kernel => Self::Kernel(KernelLock::at(&world, path)?),
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
        }
    }

    fn attempt(&mut self) -> Result<Attempt<AnyGuard, Somebody>> {
        Ok(match self {
            Self::Kernel(lock) => lock.attempt()?.map(AnyGuard::Kernel),
        })
    }

    fn holder(&self) -> Holder {
        match self {
            Self::Kernel(lock) => lock.holder(),
        }
    }
}

impl Guard for AnyGuard {
    fn path(&self) -> &Path {
        match self {
            Self::Kernel(guard) => guard.path(),
        }
    }

    fn check(&self) -> Result<Result<(), Loss>> {
        match self {
            Self::Kernel(guard) => guard.check(),
        }
    }

    fn release(self) -> Result<()> {
        match self {
            Self::Kernel(guard) => guard.release(),
        }
    }
}
