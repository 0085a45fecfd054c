//! A watcher that lives with its starter.
//!
//! # Theory
//!
//! The scripts of a firstmate home are the parents of the watchers that they start, and people rely on it: whoever ends
//! the script has ended the watcher. So such a watcher is bound to the thread that started it by the kernel, which asks
//! it to leave (TERM) when that thread ends, in whatever way. Nothing that the starter would still have to do is needed
//! for that, and a starter that ends before its child has told the kernel so is seen by the child. It is asked and not
//! killed, so that it leaves nothing behind: no half-written file, no record of a dead holder. One whose loop stands still
//! insists on itself after the time of grace.
//!
//! What it prints comes to its starter through a pipe, which needs no file and vanishes with the two.
//!
//! If this is wrong, a killed script leaves a watcher that nobody waits for, and its wake reaches nobody.
//!
//! # Limits
//!
//! One that somebody has stopped (SIGSTOP) leaves when it is let go on. The kernel does that by itself where its process
//! group is left without a parent in the session, which is the usual case.

use std::fs::File;
use std::io::{self, Read};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use crate::system::handle::Handle;
use crate::system::platform::{self, GroupChild};
use crate::system::status_pipe::{NoStatus, StartStatus, StatusReader};

/// A running watcher that is this process's child. Dropping it kills it.
#[derive(Debug)]
pub struct BoundChild {
    child: Option<GroupChild>,
    stdout: Option<File>,
}

/// A watcher that lives with its starter, and what became of its first look.
#[derive(Debug)]
pub struct BoundWatcher {
    /// The watcher.
    pub child: BoundChild,
    /// Whether it waits by now.
    pub first_look: FirstLook,
}

/// What became of the first look of a watcher at everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstLook {
    /// It found nothing, and the watcher waits.
    Over,
    /// The watcher has ended.
    Ended,
    /// It takes long.
    UnderWay,
}

impl BoundChild {
    /// Takes charge of a child whose stdout is a pipe.
    pub(crate) fn new(mut child: GroupChild) -> Self {
        let stdout = child.child().stdout.take().map(|pipe| File::from(Handle::from(pipe)));
        Self { child: Some(child), stdout }
    }

    /// The process, so that somebody else can signal it.
    pub fn pin(&self) -> Option<platform::Pinned> {
        platform::pin_reported(self.child.as_ref()?.pid()).ok().flatten()
    }

    /// Waits for its end, and gives what it printed and how it ended.
    ///
    /// # Errors
    /// Those of the system.
    pub fn follow(mut self) -> io::Result<(Vec<u8>, ExitStatus)> {
        let mut printed = Vec::new();
        if let Some(stdout) = &mut self.stdout {
            stdout.read_to_end(&mut printed)?;
        }
        let mut child = self.child.take().ok_or(io::ErrorKind::NotFound)?;
        let ended = child.child().wait()?;
        Ok((printed, ended))
    }
}

impl Drop for BoundChild {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            // Whoever drops it wants it gone, and it may be gone already.
            drop(child.kill_group_and_reap());
        }
    }
}

/// Waits until a watcher that holds the home has looked at everything once, at most so long.
pub(crate) fn first_look(listener: &StatusReader<StartStatus>, at_most: Duration) -> FirstLook {
    match listener.next(Instant::now() + at_most) {
        Ok(_) => FirstLook::Over,
        Err(NoStatus::Ended) => FirstLook::Ended,
        Err(NoStatus::DeadlinePassed | NoStatus::Broken(_)) => FirstLook::UnderWay,
    }
}
