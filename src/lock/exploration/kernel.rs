//! The kernel's lock beside a program that removes the file when it lets go (L09, L10).

use std::ffi::OsStr;

use super::*;
use crate::base::failpoint::Failpoint;
use crate::lock::kernel::KernelLock;
use crate::system::simulated::Machine;
use crate::system::{Claim, Open};

const PATH: &str = "/locks/build.lock";

fn ours(world: &Arc<SimWorld>) -> Outcome {
    let mut lock = KernelLock::at(world, Path::new(PATH))?;
    contend(world, &mut lock, 2, 1)
}

/// An older program: it locks the file, checks that it is still there, and removes it before it lets go.
fn one_that_removes(world: &Arc<SimWorld>) -> Outcome {
    let tried = || -> std::io::Result<()> {
        let directory = world.open_directory(Path::new("/locks"))?;
        let name = OsStr::new("build.lock");
        let node = world.open(&directory, name, Open::Lock)?;
        if world.try_lock(&node)? == Claim::Busy {
            return Ok(());
        }
        let facts = world.facts(&node)?;
        if world.facts_at(&directory, name).is_ok_and(|named| named.is_same_inode(&facts)) {
            world.hold(HOLD, || ());
            world.unlink(&directory, name)?;
        }
        Ok(())
    };
    Ok(tried()?)
}

fn beside_one_that_removes(machine: Machine) -> Scenario {
    Scenario::on(machine.with_directory("/locks")).actors(["a", "b"], ours).actor("old", one_that_removes).afterwards(
        |world| {
            let mut lock = KernelLock::at(world, Path::new(PATH))?;
            take_alone(world, 1, || lock.attempt())
        },
    )
}

#[test]
fn a_peer_that_removes_the_file_when_it_lets_go_makes_no_second_holder() {
    assert_holds(&beside_one_that_removes(Machine::default()), Bounds::of(2, 1, 0));
}

#[test]
fn without_the_second_look_a_removed_file_is_held_beside_a_new_one() {
    let scenario = beside_one_that_removes(Machine::default().without(&[Failpoint::KernelRecheck]));
    assert_two_hold(&scenario, Bounds::of(2, 1, 0));
}
