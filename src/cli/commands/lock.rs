//! `lock`: run a command under a lock, as flock(1) does.
//!
//! # Theory
//!
//! This process stays the parent and the command is its child, so that somebody is there to pass signals on, to see that
//! the lock is lost, and to release it in an orderly way. But the lock must not hang on this process's life: whoever
//! kills it with -9 must not free a lock under a running command. So the command itself holds it, by what locks of the
//! kind are [held by](HeldBy). Either it inherits the descriptor: then the lock is taken first and the process made after.
//! Or the lock's record names its pid: then the process is made first and waits, the lock is taken on behalf of its pid,
//! and only then may it begin. When this process dies on the way, a waiting child leaves without having begun, and a record
//! that names it is stale.
//!
//! When the command has ended, the lock is released first and the process reaped second: until the record is gone,
//! peers that judge by the pid see that it exists and cannot see a stranger under the same number.
//!
//! The parts: `wait` waits for the lock, `supervise` watches while the command runs and passes its signals on.
//!
//! If this is wrong, two commands run at once, or one that never had the lock runs.
//!
//! Limits: a command that is asked to leave because its lock was lost may take its time, and only it is asked, not what
//! it has started.

mod supervise;
mod wait;

use std::ffi::OsString;
use std::io;
use std::path::Path;

use self::supervise::supervise;
use self::wait::{Acquired, Obstacle, Patience};
use crate::base::console::Console;
use crate::base::error::{Context, Result};
use crate::base::exit;
use crate::base::failpoint::Failpoint;
use crate::cli::args;
use crate::lock::{AnyGuard, AnyLock, Guard, HeldBy, Holder, Ownership, Subject};
use crate::system::handle::HandleRef;
use crate::system::platform::{Ending, HeldCommand, Signals};
use crate::system::{Real, World};

/// Runs a command under a lock and gives its exit code.
///
/// # Errors
/// The lock can neither be taken nor be called busy, or no process can be made. The command has not begun then.
pub fn lock(console: Console, options: &args::Lock) -> Result<u8> {
    let signals = Signals::hold().doing("listen to", "signals")?;
    let patience = match (options.instant, options.wait) {
        (true, _) => Patience::None,
        (false, Some(limit)) => Patience::AtMost(limit),
        (false, None) => Patience::Endless,
    };
    let order = Order { console, options, signals, patience };
    match order.held_by() {
        HeldBy::Descriptor => order.take_then_make(),
        HeldBy::Record => order.make_then_take(),
    }
}

struct Order<'a> {
    console: Console,
    options: &'a args::Lock,
    signals: Signals,
    patience: Patience,
}

impl Order<'_> {
    /// Without the protection, every kind is taken as if a record named the command.
    fn held_by(&self) -> HeldBy {
        if Real.is_protected(Failpoint::LockDescriptor) { self.options.kind.held_by() } else { HeldBy::Record }
    }

    fn take_then_make(&self) -> Result<u8> {
        let mut lock = AnyLock::at(self.options.kind, &self.options.path, Subject::Myself)?;
        match self.patience.acquire(&mut lock, &self.signals, None)? {
            Acquired::Held(guard) => self.run(self.make(guard.descriptor())?, *guard),
            Acquired::Refused(obstacle) => self.refused(&obstacle, None),
        }
    }

    fn make_then_take(&self) -> Result<u8> {
        let command = self.make(None)?;
        let mut lock = AnyLock::at(self.options.kind, &self.options.path, Subject::Child(command.pid()))?;
        match self.patience.acquire(&mut lock, &self.signals, Some(&command))? {
            Acquired::Held(guard) => self.run(command, *guard),
            Acquired::Refused(obstacle) => self.refused(&obstacle, Some(command)),
        }
    }

    fn make(&self, handed_down: Option<HandleRef<'_>>) -> Result<HeldCommand> {
        let command = HeldCommand::fork(&self.options.command, handed_down, &self.signals);
        command.doing("make a process for", self.program())
    }

    /// The lock is held: lets the command begin, and stays with it to its end.
    fn run(&self, mut command: HeldCommand, guard: AnyGuard) -> Result<u8> {
        Real.reach(Failpoint::LockTaken).doing("lock", guard.path())?;
        if let Err(error) = command.start() {
            self.end(command, guard)?;
            return Ok(self.not_executed(&error));
        }
        let ownership = supervise(self.console, &command, &guard, &self.signals);
        command.wait_for_end().doing("wait for", self.program())?;
        let ending = self.end(command, guard)?;
        Ok(match ownership {
            Ownership::Held => ending.exit_code(),
            Ownership::Lost(_) => exit::LOST,
        })
    }

    fn end(&self, command: HeldCommand, guard: AnyGuard) -> Result<Ending> {
        const BETWEEN: Failpoint = Failpoint::LockBetweenReleaseAndReap;
        let path = guard.path().to_owned();
        if Real.is_protected(Failpoint::LockReleaseBeforeReap) {
            self.release(guard);
            Real.reach(BETWEEN).doing("release", path)?;
            command.reap().doing("wait for", self.program())
        } else {
            let ending = command.reap().doing("wait for", self.program());
            Real.reach(BETWEEN).doing("release", path)?;
            self.release(guard);
            ending
        }
    }

    /// The command's own exit code says more than a lock that could not be released.
    fn release(&self, guard: AnyGuard) {
        if let Err(error) = guard.release() {
            self.console.error(error);
        }
    }

    /// The lock was not taken, so the command has not begun and never will.
    fn refused(&self, obstacle: &Obstacle, waiting: Option<HeldCommand>) -> Result<u8> {
        Ok(match (obstacle, waiting) {
            (Obstacle::Busy(holder), _) => {
                self.console.note(self.busy(holder));
                exit::BUSY
            }
            (Obstacle::Asked(signal), _) => signal.exit_code(),
            (Obstacle::CommandEnded, Some(killed)) => killed.reap().doing("wait for", self.program())?.exit_code(),
            (Obstacle::CommandEnded, None) => exit::FAILED,
        })
    }

    fn busy(&self, holder: &Holder) -> String {
        let path = self.options.path.display();
        let next = holder.remedy.clone().unwrap_or_else(|| self.patience.next_step());
        format!("{path} is held {holder}; {next}")
    }

    fn not_executed(&self, error: &io::Error) -> u8 {
        let program = self.program().display();
        self.console.error(format!("cannot execute {program}: {error}; {} is free again", self.options.path.display()));
        if error.kind() == io::ErrorKind::NotFound { exit::NOT_FOUND } else { exit::NOT_EXECUTABLE }
    }

    fn program(&self) -> &Path {
        self.options.command.first().map(OsString::as_os_str).unwrap_or_default().as_ref()
    }
}
