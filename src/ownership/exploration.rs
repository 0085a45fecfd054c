//! The home's lock beside somebody who removes or replaces its file at any moment.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::home_lock::{HomeLock, LockLocation};
use crate::base::failpoint::Failpoint;
use crate::lock::Attempt;
use crate::lock::exploration::{HOLD, Outcome, assert_holds, assert_two_hold, take_alone};
use crate::system::Open;
use crate::system::World;
use crate::system::simulated::Machine;
use crate::system::simulated::SimWorld;
use crate::system::simulated::explorer::Bounds;
use crate::system::simulated::scenario::Scenario;

fn place() -> LockLocation {
    LockLocation { directory: "/home/state".into(), inner: "/home/state/watch".into() }
}

fn watcher(world: &Arc<SimWorld>) -> Outcome {
    for _ in 0..2 {
        match HomeLock::try_take(world, &place()) {
            Ok(Attempt::Taken(lock)) => {
                world.hold(HOLD, || ());
                drop(lock);
                return Ok(());
            }
            Ok(Attempt::Busy(())) => world.pause(Duration::from_millis(1)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Somebody with a shell.
fn one_who_removes(world: &Arc<SimWorld>) -> Outcome {
    let removed =
        world.open_directory(&place().inner).and_then(|directory| world.unlink(&directory, OsStr::new("lock")));
    match removed {
        // There need not be such a file.
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Somebody who moves another file over it.
fn one_who_replaces(world: &Arc<SimWorld>) -> Outcome {
    let replaced = || -> std::io::Result<()> {
        let directory = world.open_directory(&place().inner)?;
        drop(world.open(&directory, OsStr::new("other"), Open::CreateNew)?);
        world.rename(&directory, OsStr::new("other"), OsStr::new("lock"))
    };
    Ok(replaced()?)
}

fn home(machine: Machine) -> Scenario {
    Scenario::on(machine.with_directory("/home/state/watch"))
        .afterwards(|world| take_alone(world, 1, || HomeLock::try_take(world, &place())))
}

fn with_removal(machine: Machine) -> Scenario {
    home(machine).actors(["a", "b"], watcher).actor("rm", one_who_removes)
}

/// A program that puts a home back from a copy, and does so only while it holds the home's lock.
fn one_who_restores(world: &Arc<SimWorld>) -> Outcome {
    let Ok(Attempt::Taken(lock)) = HomeLock::try_take(world, &place()) else { return Ok(()) };
    let restored = || -> std::io::Result<()> {
        let home = world.open_directory(Path::new("/home"))?;
        world.exchange(&home, OsStr::new("state"), OsStr::new("copy")).map(drop)
    };
    let restored = world.hold(HOLD, restored);
    drop(lock);
    Ok(restored?)
}

fn with_restoring(machine: Machine) -> Scenario {
    home(machine.with_directory("/home/copy/watch"))
        .actors(["a", "b"], watcher)
        .actor("restore", one_who_restores)
        .actor("rm", one_who_removes)
}

/// All that goes wrong in at most so many ways together, one of them a death.
fn bounds(together: usize) -> Bounds {
    Bounds::of(3, 1, 0).together(together)
}

#[test]
fn one_who_removes_the_file_makes_no_second_holder() {
    assert_holds(&with_removal(Machine::default()), bounds(2));
}

#[test]
fn one_who_replaces_the_file_makes_no_second_holder() {
    let scenario = home(Machine::default()).actors(["a", "b"], watcher).actor("mv", one_who_replaces);
    assert_holds(&scenario, bounds(2));
}

#[test]
fn one_who_replaces_the_whole_home_under_its_lock_makes_no_second_holder() {
    assert_holds(&with_restoring(Machine::default()), Bounds::of(2, 0, 0));
}

#[test]
fn two_watchers_alone_never_hold_it_both() {
    let scenario = home(Machine::default()).actors(["a", "b"], watcher);
    assert_holds(&scenario, bounds(3));
}

#[test]
fn without_the_directorys_lock_a_removed_file_makes_two_holders() {
    let scenario = with_removal(Machine::default().without(&[Failpoint::LockDirectory]));
    assert_two_hold(&scenario, bounds(2));
}

#[test]
fn without_the_second_look_a_lock_of_a_home_that_was_replaced_counts() {
    let scenario = with_restoring(Machine::default().without(&[Failpoint::LockRecheck]));
    assert_two_hold(&scenario, Bounds::of(2, 0, 0));
}
