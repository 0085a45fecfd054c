//! Every order of steps, every death between two of them: the locks under the explorer.
//!
//! What holds here holds in all schedules within the bounds that a test names, and protections are seen to be needed
//! for that: without one of them a search comes upon two holders. If this is wrong, a lock is believed that does not
//! hold.
//!
//! Limits: the bounds are those that a test run has time for. Where two protections cover the same mistake, what
//! happens without one of them needs more things out of the ordinary than that; the suite leads such a case to its end,
//! step by step.

mod filelock;
mod kernel;
mod soft;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Attempt, Guard, Lock, Ownership};
use crate::base::error::Result;
use crate::system::World;
use crate::system::simulated::SimWorld;
use crate::system::simulated::explorer::{Bounds, Violation, explore, replay};
use crate::system::simulated::scenario::Scenario;

pub(crate) use crate::system::simulated::scenario::Outcome;

/// What the lock protects, in the ledger.
pub(crate) const HOLD: &str = "the lock";

/// Tries so many times to take a lock, and holds it for a step of work each time that it has been taken, until it was
/// held so often. While it is held it must not seem to be lost.
///
/// An error ends it. Where protections are missing, an error is what should happen instead of a second holder; else it
/// is a fault of its own.
pub(crate) fn contend<L: Lock>(world: &Arc<SimWorld>, lock: &mut L, attempts: usize, holds: usize) -> Outcome {
    let mut held = 0;
    for _ in 0..attempts {
        match lock.attempt() {
            Ok(Attempt::Taken(guard)) => {
                let checked = world.hold(HOLD, || guard.check());
                let is_kept = matches!(checked, Ok(Ownership::Held));
                if !is_kept && has_all_protections(world) {
                    return Err(format!("while it was held: {checked:?}").into());
                }
                drop(guard);
                held += 1;
                if held == holds {
                    return Ok(());
                }
            }
            Ok(Attempt::Busy(())) => world.pause(Duration::from_millis(1)),
            Err(_) if !has_all_protections(world) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

pub(crate) fn has_all_protections(world: &SimWorld) -> bool {
    world.with_machine(|machine| machine.nature.removed.is_empty())
}

/// Takes a lock that must be free by now, within so many attempts, a second apart.
pub(crate) fn take_alone<L>(
    world: &Arc<SimWorld>,
    attempts: usize,
    mut attempt: impl FnMut() -> Result<Attempt<L, ()>>,
) -> Outcome {
    for _ in 0..attempts {
        match attempt() {
            Ok(Attempt::Taken(_)) => return Ok(()),
            Ok(Attempt::Busy(())) => world.pause(Duration::from_secs(1)),
            Err(error) => return Err(format!("nobody is left, and still: {error}").into()),
        }
    }
    Err(format!("nobody is left, and still it is busy after {attempts} attempts").into())
}

/// That nothing is found, everywhere within the bounds.
#[track_caller]
pub(crate) fn assert_holds(scenario: &Scenario, bounds: Bounds) {
    let explored = explore(scenario, bounds);
    println!("{explored}");
    explored.assert_holds();
}

/// That two holders are found at one time, and not only that something fails.
#[track_caller]
pub(crate) fn assert_two_hold(scenario: &Scenario, bounds: Bounds) {
    let violation = assert_found(scenario, bounds);
    assert!(violation.what.starts_with("the lock is held by pid"), "{violation}");
}

/// That something is found, and found again from what is printed of it.
#[track_caller]
pub(crate) fn assert_found(scenario: &Scenario, bounds: Bounds) -> Violation {
    let violation = explore(scenario, bounds).assert_found();
    println!("{violation}");
    let again = replay(scenario, &violation.schedule).assert_found();
    assert_eq!((&again.what, &again.trace), (&violation.what, &violation.trace));
    violation
}
