//! The two locks of a daemon's directory that a monitor takes.
//!
//! Both are the kernel's lock on a file, together with its visible mark, so that everybody else can see whether they are
//! held without taking them. They differ in how they end: the *monitor's lock* ends with the process that took it; the
//! *life lock* is inherited by the daemon and closed by the monitor, and ends with the last process that has it open.
//!
//! Whoever holds the monitor's lock is the only one who starts, records and clears up after the daemon. That is why it is
//! a type of its own: what may only be done under it asks for it.

use std::fs::File;
use std::sync::Arc;

use super::paths::{self, DaemonPaths};
use crate::base::error::{Context, Result};
use crate::lock::kernel::{KernelGuard, KernelLock};
use crate::lock::{Attempt, Guard, Lock, Ownership};
use crate::system::handle::HandleRef;
use crate::system::{Facts, Real, World};

/// The held lock of a monitor. Nobody else starts the daemon, writes its records or clears up after it meanwhile.
#[derive(Debug)]
pub struct MonitorLock {
    guard: KernelGuard<Real>,
}

/// The held life lock, not handed down yet.
#[derive(Debug)]
pub struct LifeLock {
    guard: KernelGuard<Real>,
    facts: Facts,
}

impl MonitorLock {
    /// Takes it, unless somebody has it.
    ///
    /// # Errors
    /// It cannot be taken for another reason, which proves nothing.
    pub fn try_take(world: &Arc<Real>, paths: &DaemonPaths) -> Result<Option<Self>> {
        Ok(taken(world, paths, paths::MONITOR)?.map(|(guard, _)| Self { guard }))
    }

    /// Whether it is still the lock that others would ask for.
    ///
    /// # Errors
    /// That cannot be seen.
    pub fn check(&self) -> Result<Ownership> {
        self.guard.check()
    }
}

impl LifeLock {
    /// Takes it, unless somebody has it.
    ///
    /// # Errors
    /// It cannot be taken for another reason, which proves nothing.
    pub fn try_take(world: &Arc<Real>, paths: &DaemonPaths) -> Result<Option<Self>> {
        Ok(taken(world, paths, paths::LIFE_LOCK)?.map(|(guard, facts)| Self { guard, facts }))
    }

    /// What a child must inherit to hold it.
    pub fn descriptor(&self) -> HandleRef<'_> {
        self.guard.descriptor()
    }

    /// Which file it is.
    pub fn facts(&self) -> Facts {
        self.facts
    }
}

fn taken(world: &Arc<Real>, paths: &DaemonPaths, name: &str) -> Result<Option<(KernelGuard<Real>, Facts)>> {
    let path = paths.file(name);
    let Attempt::Taken(guard) = KernelLock::at(world, &path)?.attempt()? else { return Ok(None) };
    // Of the same open file, to which the mark belongs.
    let file: File = guard.descriptor().try_clone_to_owned().doing("mark", &path)?.into();
    let facts = world.facts(&file).doing("examine", &path)?;
    world.raise_mark(&file, facts.kind).doing("mark", &path)?;
    Ok(Some((guard, facts)))
}
