//! One worker: takes the lock so many times, holds it for a moment, and says so.
//!
//! Each line is written with one call, so that a worker that is killed has said a line or has not. "It holds" is read
//! from the clock after the lock was taken, and "it lets go" is said *before* it does: were it said after, a worker
//! killed in between would seem to have held on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::dice::Dice;
use super::kind::Protocol;
use super::line::Line;
use super::naive::NaiveLock;
use super::unlink::UnlinkLock;
use crate::base::error::{Context, Result};
use crate::base::wait_until;
use crate::lock::any::{AnyLock, Subject};
use crate::lock::{Attempt, Guard, Lock};
use crate::system::Real;
use crate::system::handle;
use crate::system::platform;

/// The longest hold.
const LONGEST_HOLD: Duration = Duration::from_micros(300);
/// The longest time between two holds.
const LONGEST_REST: Duration = Duration::from_micros(600);

/// What a worker is told.
#[derive(Debug)]
pub struct Orders {
    /// By which protocol.
    pub protocol: Protocol,
    /// At which path.
    pub path: PathBuf,
    /// How many holds.
    pub rounds: u32,
    /// Of its dice.
    pub seed: u64,
    /// How long it tries before it says what it waits for.
    pub silence: Duration,
}

/// Does what it is told.
///
/// # Errors
/// Those of the lock, and nobody who listens.
pub fn work(orders: &Orders) -> Result<()> {
    let (world, path) = (Arc::new(Real), orders.path.as_path());
    match orders.protocol {
        Protocol::Family(kind) => contend(&mut AnyLock::at(kind, path, Subject::Myself)?, orders),
        Protocol::Naive => contend(&mut NaiveLock::at(&world, path)?, orders),
        Protocol::Unlink => contend(&mut UnlinkLock::at(&world, path)?, orders),
    }
}

fn contend<L: Lock>(lock: &mut L, orders: &Orders) -> Result<()> {
    let mut dice = Dice::new(orders.seed);
    for _ in 0..orders.rounds {
        say(&Line::Try(now()))?;
        let guard = take(lock, orders.silence)?;
        say(&Line::Begin(now()))?;
        wait_until::pause(dice.up_to(LONGEST_HOLD));
        say(&Line::End(now()))?;
        guard.release()?;
        // Who lets go and tries again at once would win nearly always, because the others are asleep.
        wait_until::pause(dice.up_to(LONGEST_REST));
    }
    Ok(())
}

fn take<L: Lock>(lock: &mut L, silence: Duration) -> Result<L::Guard> {
    loop {
        match lock.acquire(silence)? {
            Attempt::Taken(guard) => return Ok(guard),
            Attempt::Busy(holder) => say(&Line::Wait(format!("for the lock, which is held {holder}")))?,
        }
    }
}

fn say(line: &Line) -> Result<()> {
    handle::write_to_standard_output(line.to_string().as_bytes()).map(drop).doing("write to", Path::new("stdout"))
}

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub(super) fn now() -> u64 {
    u64::try_from(platform::monotonic().as_nanos()).unwrap_or(u64::MAX)
}
