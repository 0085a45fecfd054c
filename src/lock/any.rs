//! A lock of whatever kind, chosen by its name.

use std::path::Path;
use std::sync::Arc;

use super::kernel::{KernelGuard, KernelLock};
use super::owner_link::{OwnerLinkGuard, OwnerLinkLock};
use super::pidfile::{PidfileGuard, PidfileLock};
use super::socket::{SocketGuard, SocketLock};
use super::soft::{SoftGuard, SoftLock};
use super::{Attempt, Guard, Holder, Lock, Ownership};
use crate::base::error::Result;
use crate::system::Real;
use crate::system::handle::HandleRef;

/// The kinds of lock.
#[expect(clippy::doc_markdown, reason = "these comments are the help as well, and a terminal shows them as they are")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
#[non_exhaustive]
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
pub(crate) enum HeldBy {
    /// By a descriptor that it inherits ([`AnyGuard::descriptor`]), and so can its own children.
    Descriptor,
    /// By a record of its pid ([`Subject::Child`]): it and nobody else.
    Record,
}

impl Kind {
    /// By what another process holds a lock of this kind.
    pub(crate) fn held_by(self) -> HeldBy {
        match self {
            Self::Kernel | Self::Socket => HeldBy::Descriptor,
            Self::Soft | Self::OwnerLink | Self::Pidfile => HeldBy::Record,
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
pub struct AnyLock(Contender);

/// What an [`AnyLock`] gives.
#[derive(Debug)]
pub struct AnyGuard(Held);

/// Declares contender and guard as one variant per kind, and hands every call on to it.
macro_rules! kinds {
    ($($kind:ident: $lock:ident, $guard:ident;)+) => {
        #[derive(Debug)]
        enum Contender {
            $($kind($lock<Real>),)+
        }

        #[derive(Debug)]
        enum Held {
            $($kind($guard<Real>),)+
        }

        impl Lock for AnyLock {
            type Guard = AnyGuard;

            fn path(&self) -> &Path {
                match &self.0 { $(Contender::$kind(lock) => lock.path(),)+ }
            }

            fn attempt(&mut self) -> Result<Attempt<AnyGuard, ()>> {
                Ok(match &mut self.0 {
                    $(Contender::$kind(lock) => lock.attempt()?.map(|guard| AnyGuard(Held::$kind(guard))),)+
                })
            }

            fn holder(&self) -> Holder {
                match &self.0 { $(Contender::$kind(lock) => lock.holder(),)+ }
            }
        }

        impl Guard for AnyGuard {
            fn path(&self) -> &Path {
                match &self.0 { $(Held::$kind(guard) => guard.path(),)+ }
            }

            fn check(&self) -> Result<Ownership> {
                match &self.0 { $(Held::$kind(guard) => guard.check(),)+ }
            }

            fn release(self) -> Result<()> {
                match self.0 { $(Held::$kind(guard) => guard.release(),)+ }
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
    /// A contender for the lock at this path. The directory must exist, the lock need not.
    ///
    /// # Errors
    /// Those of the kind.
    pub fn at(kind: Kind, path: &Path, subject: Subject) -> Result<Self> {
        let world = Arc::new(Real);
        Ok(Self(match (kind, subject) {
            (Kind::Kernel, _) => Contender::Kernel(KernelLock::at(&world, path)?),
            (Kind::Socket, _) => Contender::Socket(SocketLock::at(&world, path)?),
            (Kind::Soft, Subject::Myself) => Contender::Soft(SoftLock::at(&world, path)?),
            (Kind::Soft, Subject::Child(pid)) => Contender::Soft(SoftLock::at(&world, path)?.for_process(pid)),
            (Kind::OwnerLink, Subject::Myself) => Contender::OwnerLink(OwnerLinkLock::at(&world, path)?),
            (Kind::OwnerLink, Subject::Child(pid)) => {
                Contender::OwnerLink(OwnerLinkLock::at(&world, path)?.for_process(pid))
            }
            (Kind::Pidfile, Subject::Myself) => Contender::Pidfile(PidfileLock::at(&world, path)?),
            (Kind::Pidfile, Subject::Child(pid)) => {
                Contender::Pidfile(PidfileLock::at(&world, path)?.for_process(pid)?)
            }
        }))
    }
}

impl AnyGuard {
    /// The descriptor that keeps the lock for whoever inherits it, for kinds with [`HeldBy::Descriptor`].
    pub(crate) fn descriptor(&self) -> Option<HandleRef<'_>> {
        match &self.0 {
            Held::Kernel(guard) => Some(guard.descriptor()),
            Held::Socket(guard) => Some(guard.descriptor()),
            Held::Soft(_) | Held::OwnerLink(_) | Held::Pidfile(_) => None,
        }
    }
}
