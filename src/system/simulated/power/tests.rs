//! What a power cut does to a file that is replaced, at every moment of it.

use std::path::Path;
use std::sync::Arc;

use crate::system::simulated::explorer::{Bounds, Explored, explore};
use crate::system::simulated::scenario::Outcome;
use crate::system::simulated::scenario::Scenario;
use crate::system::simulated::{Machine, SimWorld};
use crate::system::storage::{Durability, read, replace};
use crate::system::{Open, World};

const FILE: &str = "/home/record";
const OLD: &[u8] = b"the old content\n";
const NEW: &[u8] = b"and the new\n";

fn home() -> Machine {
    Machine::default().with_directory("/home").with_file(FILE, OLD).with_power_to_lose()
}

/// After every cut the file holds the old content or the new, and the new one once somebody was told so.
fn is_whole_after_every_cut(machine: &Machine) -> Outcome {
    let allowed: &[&[u8]] = if machine.ledger.promises().is_empty() { &[OLD, NEW] } else { &[NEW] };
    for cut in machine.cuts() {
        let after = machine.after_cut(cut);
        match after.content(FILE) {
            Some(content) if allowed.contains(&content) => {}
            found => return Err(format!("{:?} after {cut:?}", found.map(String::from_utf8_lossy)).into()),
        }
    }
    Ok(())
}

/// Replaces the file and says that it is done, in every order with itself.
fn replacing(durability: Durability) -> Explored {
    let program = move |world: &Arc<SimWorld>| {
        let replaced = || -> std::io::Result<()> {
            let directory = world.open_directory(Path::new("/home"))?;
            replace(&**world, &directory, "record", NEW, durability)?;
            world.promise("the new content");
            Ok(())
        };
        Ok(replaced()?)
    };
    let scenario = Scenario::on(home()).actors(["a", "b"], program).always(is_whole_after_every_cut);
    explore(&scenario, Bounds::of(1, 1, 0))
}

#[test]
fn what_is_replaced_for_a_power_cut_is_whole_after_one() {
    replacing(Durability::Power).assert_holds();
}

#[test]
fn what_is_replaced_without_syncs_is_empty_after_a_power_cut() {
    let violation = replacing(Durability::Process).assert_found();
    assert!(violation.what.starts_with("Some(\"\") after"), "{violation}");
}

#[test]
fn a_sync_that_fails_is_told_once_and_the_bytes_are_lost() {
    let [world] = SimWorld::undirected(home());
    let directory = world.open_directory(Path::new("/home")).unwrap();
    let node = world.open(&directory, "log".as_ref(), Open::Append).unwrap();
    world.sync_all(&directory).unwrap();
    world.append(&node, b"lost").unwrap();
    world.with_machine(|machine| machine.bad_syncs = 1);
    assert!(world.sync_data(&node).is_err());
    assert!(world.sync_data(&node).is_ok(), "the kernel takes the pages for clean");
    assert_eq!(read(&*world, &directory, "log".as_ref(), 9).unwrap().as_deref(), Some(b"lost".as_slice()));
    world.with_machine(|machine| {
        for cut in machine.cuts() {
            assert_eq!(machine.after_cut(cut).content("/home/log"), Some(b"".as_slice()), "{cut:?}");
        }
    });
}
