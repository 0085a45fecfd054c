//! The machine against the real system: the same calls, the same answers.

use std::ffi::OsStr;
use std::fmt::Debug;
use std::io;
use std::time::Duration;

use proptest::prelude::*;

use super::{Machine, SimWorld};
use crate::system::{Facts, Kind, Open, Real, World};

/// One call, on names and on the files that are open.
#[derive(Debug, Clone)]
enum Step {
    Open(usize, usize, Open),
    OpenDirectory(usize, usize),
    Close(usize),
    MakeDirectory(usize),
    Link(usize, usize),
    Rename(usize, usize),
    Exchange(usize, usize),
    Symlink(usize, usize),
    ReadLink(usize),
    Unlink(usize),
    RemoveDirectory(usize),
    FactsAt(usize),
    AreSame(usize, usize),
    Facts(usize),
    Names(usize),
    Append(usize, u8),
    Overwrite(usize, u8),
    Read(usize),
    SetMode(usize),
    Lock(usize),
    Mark(usize, Kind),
    IsMarked(usize),
    IsLocked(usize),
    Beat(u64),
    LastBeat(usize),
}

const NAMES: [&str; 7] = ["a", "b", "l", "d", "d/x", "l/x", "a/x"];
const SLOTS: usize = 4;

fn any_step() -> impl Strategy<Value = Step> {
    let (name, slot) = (|| 0..NAMES.len(), || 0..SLOTS);
    let how =
        prop_oneof![Just(Open::Read), Just(Open::Lock), Just(Open::Append), Just(Open::CreateNew), Just(Open::Pin)];
    let names = prop_oneof![
        name().prop_map(Step::MakeDirectory),
        (name(), name()).prop_map(|(from, to)| Step::Link(from, to)),
        (name(), name()).prop_map(|(from, to)| Step::Rename(from, to)),
        (name(), name()).prop_map(|(one, other)| Step::Exchange(one, other)),
        (name(), name()).prop_map(|(target, name)| Step::Symlink(target, name)),
        name().prop_map(Step::ReadLink),
        name().prop_map(Step::Unlink),
        name().prop_map(Step::RemoveDirectory),
        name().prop_map(Step::FactsAt),
        (name(), name()).prop_map(|(one, other)| Step::AreSame(one, other)),
    ];
    let nodes = prop_oneof![
        slot().prop_map(Step::Close),
        slot().prop_map(Step::Facts),
        slot().prop_map(Step::Names),
        (slot(), any::<u8>()).prop_map(|(slot, byte)| Step::Append(slot, byte)),
        (slot(), any::<u8>()).prop_map(|(slot, byte)| Step::Overwrite(slot, byte)),
        slot().prop_map(Step::Read),
        slot().prop_map(Step::SetMode),
        slot().prop_map(Step::Lock),
        (slot(), prop_oneof![Just(Kind::File), Just(Kind::Directory)]).prop_map(|(slot, kind)| Step::Mark(slot, kind)),
        slot().prop_map(Step::IsMarked),
        slot().prop_map(Step::IsLocked),
        (1_u64..1000).prop_map(Step::Beat),
        slot().prop_map(Step::LastBeat),
    ];
    let opens = prop_oneof![
        3 => (slot(), name(), how).prop_map(|(slot, name, how)| Step::Open(slot, name, how)),
        1 => (slot(), name()).prop_map(|(slot, name)| Step::OpenDirectory(slot, name)),
    ];
    prop_oneof![opens, names, nodes]
}

/// What can be told of an answer in both worlds.
fn told<T: Debug>(answer: io::Result<T>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(error) => format!("error {:?}", error.raw_os_error()),
    }
}

fn outline(facts: Facts) -> impl Debug {
    let is_directory = facts.kind == Kind::Directory;
    let size = (!is_directory).then_some((facts.size, facts.links));
    let mode = (facts.kind != Kind::Link).then_some(facts.mode);
    (facts.kind, size, mode, facts.uid)
}

/// Makes the calls in a world and tells the answers.
fn answers<W: World>(world: &W, root: &W::Node, steps: &[Step]) -> Vec<String> {
    let mut slots: [Option<W::Node>; SLOTS] = [const { None }; SLOTS];
    let name = |number: &usize| OsStr::new(NAMES[*number]);
    let answer = |slots: &mut [Option<W::Node>; SLOTS], step: &Step| match step {
        Step::Open(slot, at, how) => {
            slots[*slot] = None;
            told(world.open(root, name(at), *how).map(|node| slots[*slot] = Some(node)))
        }
        Step::OpenDirectory(slot, at) => {
            slots[*slot] = None;
            told(world.open_directory_at(root, name(at)).map(|node| slots[*slot] = Some(node)))
        }
        Step::Close(slot) => told(Ok(slots[*slot].take().is_some())),
        Step::MakeDirectory(at) => told(world.make_directory(root, name(at))),
        Step::Link(from, to) => told(world.link(root, name(from), name(to))),
        Step::Rename(from, to) => told(world.rename(root, name(from), name(to))),
        Step::Exchange(one, other) => told(world.exchange(root, name(one), name(other))),
        Step::Symlink(target, at) => told(world.symlink(root, name(target), name(at))),
        Step::ReadLink(at) => told(world.read_link(root, name(at))),
        Step::Unlink(at) => told(world.unlink(root, name(at))),
        Step::RemoveDirectory(at) => told(world.remove_directory(root, name(at))),
        Step::FactsAt(at) => told(world.facts_at(root, name(at)).map(outline)),
        Step::AreSame(one, other) => told(
            world
                .facts_at(root, name(one))
                .and_then(|one| world.facts_at(root, name(other)).map(|other| one.is_same_inode(&other))),
        ),
        Step::Beat(at) => slots[0]
            .as_ref()
            .map_or_else(String::new, |node| told(world.publish_beat(node, Duration::from_millis(*at)))),
        Step::Facts(slot)
        | Step::Names(slot)
        | Step::Append(slot, _)
        | Step::Overwrite(slot, _)
        | Step::Read(slot)
        | Step::SetMode(slot)
        | Step::Lock(slot)
        | Step::Mark(slot, _)
        | Step::IsMarked(slot)
        | Step::IsLocked(slot)
        | Step::LastBeat(slot) => slots[*slot].as_ref().map_or_else(String::new, |node| of_node(world, node, step)),
    };
    steps.iter().map(|step| answer(&mut slots, step)).collect()
}

fn of_node<W: World>(world: &W, node: &W::Node, step: &Step) -> String {
    match step {
        Step::Facts(_) => told(world.facts(node).map(outline)),
        Step::Names(_) => told(world.names(node).map(|mut names| {
            names.sort();
            names
        })),
        Step::Append(_, byte) => told(world.append(node, &[*byte, 1])),
        Step::Overwrite(_, byte) => told(world.overwrite(node, &[*byte, 2, 3])),
        Step::Read(_) => {
            let mut buffer = [0; 64];
            told(world.read_at(node, 1, &mut buffer).map(|read| buffer[..read].to_vec()))
        }
        Step::SetMode(_) => told(world.set_mode(node, 0o700)),
        Step::Lock(_) => told(world.try_lock(node)),
        Step::Mark(_, kind) => told(world.raise_mark(node, *kind)),
        Step::IsMarked(_) => told(world.is_marked(node)),
        Step::IsLocked(_) => told(world.lock_taker(node).map(|taker| taker != crate::system::LockTaker::NotSeen)),
        Step::LastBeat(_) => told(world.published_beat(node)),
        _ => String::new(),
    }
}

fn both(steps: &[Step]) -> (Vec<String>, Vec<String>) {
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let real = answers(&Real, &Real.open_directory(directory.path()).unwrap(), steps);
    let [world] = SimWorld::undirected(Machine::default().with_directory("/root"));
    let root = world.open_directory(std::path::Path::new("/root")).unwrap();
    (real, answers(&*world, &root, steps))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]
    #[test]
    fn every_call_is_answered_as_the_real_system_answers(steps in proptest::collection::vec(any_step(), 1..60)) {
        let (real, simulated) = both(&steps);
        for (number, step) in steps.iter().enumerate() {
            prop_assert_eq!(&real[number], &simulated[number], "call {}: {:?}", number, step);
        }
    }
}
