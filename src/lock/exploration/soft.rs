//! The soft lock: contenders of ours and of Python's, deaths at every step, and pids that are given away.

use super::filelock::Filelock;
use super::*;
use crate::base::failpoint::Failpoint;
use crate::lock::soft::SoftLock;
use crate::system::simulated::Machine;

const PATH: &str = "/locks/cache.lock";
/// Nobody has this pid.
const DEAD: &str = "90\nsimulated\n";
/// What a dead breaker with that pid has taken away.
const STRANDED: &str = "/locks/cache.lock.break.90.00112233445566778899aabbccddeeff";
/// The record of a process that lives, and writes no start.
const LIVING: &str = "80\nsimulated\n";

fn ours(world: &Arc<SimWorld>) -> Outcome {
    let mut lock = SoftLock::at(world, Path::new(PATH))?;
    contend(world, &mut lock, 2, 1)
}

/// One that takes it again and again, and so keeps its file.
fn ours_again(world: &Arc<SimWorld>) -> Outcome {
    let mut lock = SoftLock::at(world, Path::new(PATH))?;
    contend(world, &mut lock, 4, 3)
}

fn python(world: &Arc<SimWorld>) -> Outcome {
    let mut lock = Filelock::at(world, Path::new(PATH))?;
    for _ in 0..2 {
        if let Some(held) = lock.attempt()? {
            world.hold(HOLD, || ());
            lock.release(held);
            return Ok(());
        }
        world.pause(Duration::from_millis(50));
    }
    Ok(())
}

/// Whoever comes when all others are gone. An empty marker of a peer that was killed is held for ever.
fn last(world: &Arc<SimWorld>) -> Outcome {
    let mut lock = SoftLock::at(world, Path::new(PATH))?;
    let taken = take_alone(world, 8, || lock.attempt());
    let is_empty = world.with_machine(|machine| machine.content(PATH) == Some(b""));
    if is_empty { Ok(()) } else { taken }
}

fn directory() -> Machine {
    Machine::default().with_directory("/locks")
}

fn with_dead_marker() -> Machine {
    directory().with_file(PATH, DEAD.as_bytes())
}

/// A breaker was killed between its exchange and its look at what it had taken: a living holder's marker.
fn with_stranded_marker() -> Machine {
    let mut machine = with_dead_marker().with_file(STRANDED, LIVING.as_bytes()).with_extra(80);
    let holder = machine.processes.len() - 1;
    assert_eq!(machine.ledger.enter(HOLD, holder), None);
    machine
}

/// We never show an empty marker.
fn is_never_empty(machine: &Machine) -> Outcome {
    if machine.content(PATH) == Some(b"") { Err("an empty marker".into()) } else { Ok(()) }
}

fn three_of_ours(machine: Machine) -> Scenario {
    Scenario::on(machine).actors(["a", "b", "c"], ours).afterwards(last).always(is_never_empty)
}

fn mixed(machine: Machine) -> Scenario {
    Scenario::on(machine).actors(["a", "b"], ours).actor("python", python).afterwards(last)
}

fn again(machine: Machine) -> Scenario {
    Scenario::on(machine).actors(["a", "b"], ours_again).actor("python", python).afterwards(last)
}

fn mostly_python(machine: Machine) -> Scenario {
    Scenario::on(machine).actor("a", ours).actors(["python", "cpython"], python).afterwards(last)
}

/// In the end the marker of the one that lives must be back.
fn restored(machine: Machine) -> Scenario {
    Scenario::on(machine).actors(["a", "b"], ours).actor("python", python).afterwards(|world| {
        let mut lock = SoftLock::at(world, Path::new(PATH))?;
        for _ in 0..8 {
            match lock.attempt() {
                Ok(Attempt::Busy(())) => world.pause(Duration::from_secs(1)),
                other => return Err(format!("{other:?}").into()),
            }
        }
        let content = world.with_machine(|machine| machine.content(PATH).map(<[u8]>::to_vec));
        if content.as_deref() == Some(LIVING.as_bytes()) {
            Ok(())
        } else {
            Err(format!("at the lock: {content:?}").into())
        }
    })
}

/// Pids of those that die are given away.
fn with_reuse(machine: Machine) -> Scenario {
    three_of_ours(machine).actor("fork", |world| {
        for pid in [101, 102] {
            world.give_away_pid(pid, 3);
        }
        Ok(())
    })
}

/// A peer that needs two writes for its record.
fn one_that_writes_slowly(world: &Arc<SimWorld>) -> Outcome {
    let held = || -> std::io::Result<()> {
        let directory = world.open_directory(Path::new("/locks"))?;
        let name = std::ffi::OsStr::new("cache.lock");
        let node = match world.open(&directory, name, crate::system::Open::CreateNew) {
            // Somebody else has it.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
            opened => opened?,
        };
        world.append(&node, b"103\nsimul")?;
        world.append(&node, b"ated\n")?;
        world.hold(HOLD, || ());
        match world.unlink(&directory, name) {
            Err(error) if has_all_protections(world) => Err(error),
            _ => Ok(()),
        }
    };
    Ok(held()?)
}

fn with_a_slow_writer(machine: Machine) -> Scenario {
    Scenario::on(machine).actors(["a", "b"], ours).actor("slow", one_that_writes_slowly).afterwards(last)
}

/// The most of each thing out of the ordinary, and of all together.
fn bounds() -> Bounds {
    Bounds::of(3, 2, 1).together(2)
}

#[test]
fn three_of_ours_at_a_free_lock() {
    assert_holds(&three_of_ours(directory()), bounds());
}

#[test]
fn three_of_ours_break_a_dead_marker_and_one_holds() {
    assert_holds(&three_of_ours(with_dead_marker()), bounds());
}

#[test]
fn two_of_ours_and_a_peer_break_a_dead_marker_and_one_holds() {
    assert_holds(&mixed(with_dead_marker()), bounds());
}

#[test]
fn one_of_ours_and_two_peers_break_a_dead_marker_and_one_holds() {
    assert_holds(&mostly_python(with_dead_marker()), bounds());
}

#[test]
fn one_of_ours_and_two_peers_at_a_free_lock() {
    assert_holds(&mostly_python(directory()), bounds());
}

#[test]
fn contenders_that_take_it_again_and_a_peer() {
    assert_holds(&again(directory()), Bounds::of(2, 1, 0).together(2));
}

#[test]
fn contenders_that_take_it_again_and_a_peer_after_a_dead_holder() {
    assert_holds(&again(with_dead_marker()), bounds().together(1));
}

#[test]
fn a_record_that_is_being_written_is_left_alone() {
    assert_holds(&with_a_slow_writer(directory()), bounds());
}

#[test]
fn a_stranded_marker_goes_back() {
    assert_holds(&restored(with_stranded_marker()), Bounds::of(2, 1, 0).together(2));
}

#[test]
fn a_dead_holders_pid_is_given_away() {
    assert_holds(&with_reuse(directory()), bounds());
}

#[test]
fn breaking_by_unlink_beside_a_peer_makes_two_holders() {
    assert_two_hold(&mixed(with_dead_marker().without(&[Failpoint::SoftBreakByExchange])), bounds());
}

#[test]
fn without_the_inode_check_there_are_two_holders() {
    assert_two_hold(&mixed(with_dead_marker().without(&[Failpoint::SoftInodeCheck])), bounds());
}

#[test]
fn without_the_put_back_there_are_two_holders() {
    assert_two_hold(&mixed(with_dead_marker().without(&[Failpoint::SoftPutBack])), bounds());
}

#[test]
fn without_recovery_a_dead_breaker_makes_two_holders() {
    assert_two_hold(&restored(with_stranded_marker().without(&[Failpoint::SoftRecovery])), bounds());
}

#[test]
fn passing_over_what_vanished_makes_two_holders() {
    assert_two_hold(&restored(with_stranded_marker().without(&[Failpoint::SoftVanishedIsHeld])), bounds());
}

#[test]
fn without_stillness_a_record_that_is_being_written_is_broken() {
    assert_two_hold(&with_a_slow_writer(directory().without(&[Failpoint::SoftStillness])), bounds());
}

#[test]
fn if_an_empty_marker_may_be_broken_there_are_two_holders() {
    assert_two_hold(&mixed(directory().without(&[Failpoint::SoftEmptyIsHeld])), bounds());
}

#[test]
fn a_marker_that_is_created_and_then_filled_can_be_seen_empty() {
    let violation = assert_found(&three_of_ours(directory().without(&[Failpoint::SoftCompleteBeforeName])), bounds());
    assert_eq!(violation.what, "an empty marker");
}

#[test]
fn by_pid_alone_a_dead_holder_holds_for_ever() {
    let violation = assert_found(&with_reuse(directory().without(&[Failpoint::SoftStart])), bounds());
    assert!(violation.what.starts_with("nobody is left, and still it is busy"), "{violation}");
}
