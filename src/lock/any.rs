//! A lock of whatever kind, chosen by its name.

use std::path::Path;
use std::sync::Arc;

use super::holder::Holder;
use super::kernel::{KernelGuard, KernelLock};
use super::soft::{SoftGuard, SoftLock};
use super::{Attempt, Guard, Lock, Loss, Somebody};
use crate::error::Result;
use crate::world::Real;

/// The kinds of lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Kind {
    /// The kernel's own, as flock(1) takes it; ends with its holder
    Kernel,
    /// The marker file of the Python package filelock (`SoftFileLock`), shared with Python programs
    Soft,
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
    /// See [`Kind::Soft`].
    Soft(SoftLock<Real>),
}

/// What an [`AnyLock`] gives.
#[derive(Debug)]
pub enum AnyGuard {
    /// See [`Kind::Kernel`].
    Kernel(KernelGuard<Real>),
    /// See [`Kind::Soft`].
    Soft(SoftGuard<Real>),
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
            Kind::Soft => Self::Soft(match subject {
                Subject::Myself => SoftLock::at(&world, path)?,
                Subject::Child(pid) => SoftLock::at(&world, path)?.for_process(pid),
            }),
        })
    }
}

impl Lock for AnyLock {
    type Guard = AnyGuard;

    fn path(&self) -> &Path {
        match self {
            Self::Kernel(lock) => lock.path(),
            Self::Soft(lock) => lock.path(),
        }
    }

    fn attempt(&mut self) -> Result<Attempt<AnyGuard, Somebody>> {
        Ok(match self {
            Self::Kernel(lock) => lock.attempt()?.map(AnyGuard::Kernel),
            Self::Soft(lock) => lock.attempt()?.map(AnyGuard::Soft),
        })
    }

    fn holder(&self) -> Holder {
        match self {
            Self::Kernel(lock) => lock.holder(),
            Self::Soft(lock) => lock.holder(),
        }
    }
}

impl Guard for AnyGuard {
    fn path(&self) -> &Path {
        match self {
            Self::Kernel(guard) => guard.path(),
            Self::Soft(guard) => guard.path(),
        }
    }

    fn check(&self) -> Result<Result<(), Loss>> {
        match self {
            Self::Kernel(guard) => guard.check(),
            Self::Soft(guard) => guard.check(),
        }
    }

    fn release(self) -> Result<()> {
        match self {
            Self::Kernel(guard) => guard.release(),
            Self::Soft(guard) => guard.release(),
        }
    }
}
