//! A lock of whatever kind, chosen by its name.

use std::path::Path;
use std::sync::Arc;

use super::holder::Holder;
use super::kernel::{KernelGuard, KernelLock};
use super::owner_link::{OwnerLinkGuard, OwnerLinkLock};
use super::{Attempt, Guard, Lock, Loss, Somebody};
use crate::error::Result;
use crate::world::Real;

/// The kinds of lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Kind {
    /// The kernel's own, as flock(1) takes it; ends with its holder
    Kernel,
    /// The symbolic link of firstmate's shell scripts, shared with live ones
    OwnerLink,
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
    /// See [`Kind::OwnerLink`].
    OwnerLink(OwnerLinkLock<Real>),
}

/// What an [`AnyLock`] gives.
#[derive(Debug)]
pub enum AnyGuard {
    /// See [`Kind::Kernel`].
    Kernel(KernelGuard<Real>),
    /// See [`Kind::OwnerLink`].
    OwnerLink(OwnerLinkGuard<Real>),
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
            Kind::OwnerLink => {
                let lock = OwnerLinkLock::at(&world, path)?;
                Self::OwnerLink(match subject {
                    Subject::Myself => lock,
                    Subject::Child(pid) => lock.for_process(pid),
                })
            }
        })
    }
}

impl Lock for AnyLock {
    type Guard = AnyGuard;

    fn path(&self) -> &Path {
        match self {
            Self::Kernel(lock) => lock.path(),
            Self::OwnerLink(lock) => lock.path(),
        }
    }

    fn attempt(&mut self) -> Result<Attempt<AnyGuard, Somebody>> {
        Ok(match self {
            Self::Kernel(lock) => lock.attempt()?.map(AnyGuard::Kernel),
            Self::OwnerLink(lock) => lock.attempt()?.map(AnyGuard::OwnerLink),
        })
    }

    fn holder(&self) -> Holder {
        match self {
            Self::Kernel(lock) => lock.holder(),
            Self::OwnerLink(lock) => lock.holder(),
        }
    }
}

impl Guard for AnyGuard {
    fn path(&self) -> &Path {
        match self {
            Self::Kernel(guard) => guard.path(),
            Self::OwnerLink(guard) => guard.path(),
        }
    }

    fn check(&self) -> Result<Result<(), Loss>> {
        match self {
            Self::Kernel(guard) => guard.check(),
            Self::OwnerLink(guard) => guard.check(),
        }
    }

    fn release(self) -> Result<()> {
        match self {
            Self::Kernel(guard) => guard.release(),
            Self::OwnerLink(guard) => guard.release(),
        }
    }
}
