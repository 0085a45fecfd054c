//! A lock of whatever kind, chosen by its name.

use std::path::Path;
use std::sync::Arc;

use super::holder::Holder;
use super::kernel::{KernelGuard, KernelLock};
use super::owner_link::{OwnerLinkGuard, OwnerLinkLock};
use super::pidfile::{PidfileGuard, PidfileLock};
use super::socket::{SocketGuard, SocketLock};
use super::soft::{SoftGuard, SoftLock};
use super::{Attempt, Guard, Lock, Ownership};
use crate::base::error::Result;
use crate::system::Real;
use crate::system::handle::HandleRef;

/// The kinds of lock.
// These comments are the help as well, and a terminal shows them as they are.
#[allow(clippy::doc_markdown)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Kind {
    /// The kernel's own, as flock(1) takes it; ends with its holder
    Kernel,
    /// The marker file of the Python package filelock (SoftFileLock), shared with Python programs
    Soft,
    /// A symbolic link to its owner's directory, shared with firstmate's shell scripts
    OwnerLink,
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
            Self::Kernel | Self::Socket => Tie::Descriptor,
            Self::Soft | Self::OwnerLink | Self::Pidfile => Tie::Record,
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

/// Declares contender and guard as one variant per kind, and hands every call on to it.
macro_rules! kinds {
    ($($kind:ident: $lock:ident, $guard:ident;)+) => {
        /// A contender of one of the kinds.
        #[derive(Debug)]
        #[allow(clippy::large_enum_variant)]
        pub enum AnyLock {
            $(#[doc = concat!("See [`Kind::", stringify!($kind), "`].")] $kind($lock<Real>),)+
        }

        /// What an [`AnyLock`] gives.
        #[derive(Debug)]
        pub enum AnyGuard {
            $(#[doc = concat!("See [`Kind::", stringify!($kind), "`].")] $kind($guard<Real>),)+
        }

        impl Lock for AnyLock {
            type Guard = AnyGuard;

            fn path(&self) -> &Path {
                match self { $(Self::$kind(lock) => lock.path(),)+ }
            }

            fn attempt(&mut self) -> Result<Attempt<AnyGuard, ()>> {
                Ok(match self { $(Self::$kind(lock) => lock.attempt()?.map(AnyGuard::$kind),)+ })
            }

            fn holder(&self) -> Holder {
                match self { $(Self::$kind(lock) => lock.holder(),)+ }
            }
        }

        impl Guard for AnyGuard {
            fn path(&self) -> &Path {
                match self { $(Self::$kind(guard) => guard.path(),)+ }
            }

            fn check(&self) -> Result<Ownership> {
                match self { $(Self::$kind(guard) => guard.check(),)+ }
            }

            fn release(self) -> Result<()> {
                match self { $(Self::$kind(guard) => guard.release(),)+ }
            }
        }
    };
}

kinds! {
    Kernel: KernelLock, KernelGuard;
    Soft: SoftLock, SoftGuard;
    OwnerLink: OwnerLinkLock, OwnerLinkGuard;
    Pidfile: PidfileLock, PidfileGuard;
    Socket: SocketLock, SocketGuard;
}

impl AnyLock {
    /// A contender for the lock at this path.
    ///
    /// # Errors
    /// Those of the kind.
    pub fn at(kind: Kind, path: &Path, subject: Subject) -> Result<Self> {
        let world = Arc::new(Real);
        Ok(match (kind, subject) {
            (Kind::Kernel, _) => Self::Kernel(KernelLock::at(&world, path)?),
            (Kind::Socket, _) => Self::Socket(SocketLock::at(&world, path)?),
            (Kind::Soft, Subject::Myself) => Self::Soft(SoftLock::at(&world, path)?),
            (Kind::Soft, Subject::Child(pid)) => Self::Soft(SoftLock::at(&world, path)?.for_process(pid)),
            (Kind::OwnerLink, Subject::Myself) => Self::OwnerLink(OwnerLinkLock::at(&world, path)?),
            (Kind::OwnerLink, Subject::Child(pid)) => {
                Self::OwnerLink(OwnerLinkLock::at(&world, path)?.for_process(pid))
            }
            (Kind::Pidfile, Subject::Myself) => Self::Pidfile(PidfileLock::at(&world, path)?),
            (Kind::Pidfile, Subject::Child(pid)) => Self::Pidfile(PidfileLock::at(&world, path)?.for_process(pid)?),
        })
    }
}

impl AnyGuard {
    /// The descriptor that keeps the lock for whoever inherits it, for kinds with [`Tie::Descriptor`].
    pub fn descriptor(&self) -> Option<HandleRef<'_>> {
        match self {
            Self::Kernel(guard) => Some(guard.descriptor()),
            Self::Socket(guard) => Some(guard.descriptor()),
            Self::Soft(_) | Self::OwnerLink(_) | Self::Pidfile(_) => None,
        }
    }
}
