//! A contender of ours that dies before any of its changes leaves a lock that the next contender gets, ours or a peer.

use std::fs;
use std::path::Path;

use fm_watch::lock::{Attempt, Guard, Lock};
use rustix::process::Signal;

use super::arena::{Arena, attempt, dead_pid, lay_dead, sleeper};
use super::peer;
use super::staged::Staged;
use crate::support::{SOON, Skip};

cases! {
    after_a_death_at_any_change_the_next_of_ours_takes_a_free_lock,
    after_a_death_at_any_change_the_next_of_ours_takes_a_dead_lock,
    after_a_death_at_any_change_the_next_of_ours_takes_a_dead_lock_with_a_dead_mutex,
    after_a_death_at_any_change_the_next_of_ours_takes_a_free_lock_with_a_dead_mutex,
    after_a_death_at_any_change_the_next_of_ours_takes_a_dead_lock_of_the_older_shape,
    after_a_death_at_any_change_a_shell_peer_takes_a_free_lock,
    after_a_death_at_any_change_a_shell_peer_takes_a_dead_lock,
    after_a_death_at_any_change_a_shell_peer_takes_a_dead_lock_with_a_dead_mutex,
    after_a_death_between_link_and_release_the_lock_is_held_while_the_process_lives,
}

/// What lies there before.
type Scenery = fn(&Arena);

fn free(_: &Arena) {}

fn dead(arena: &Arena) {
    lay_dead(&arena.lock);
}

fn dead_with_a_dead_mutex(arena: &Arena) {
    lay_dead(&arena.lock);
    lay_dead(&arena.steal());
}

fn free_with_a_dead_mutex(arena: &Arena) {
    lay_dead(&arena.steal());
}

fn dead_in_the_older_shape(arena: &Arena) {
    fs::create_dir(&arena.lock).unwrap();
    fs::write(arena.lock.join("pid"), format!("{}\n", dead_pid())).unwrap();
}

/// How many changes a whole life makes: an attempt that takes the lock, and its release.
fn changes_in_a_life(scenery: Scenery) -> usize {
    let arena = Arena::new();
    scenery(&arena);
    let world = Staged::new();
    arena.try_in(&world).unwrap().release().unwrap();
    world.changes()
}

/// Lives a life that ends before the change with this number.
fn life_with_a_death(arena: &Arena, pid: u32, number: usize) {
    let mut contender = arena.ours_in(&Staged::dying_before_change(number).playing(pid));
    let _it_dies_somewhere_in_here = contender.attempt().map(drop);
}

fn next_takes_it(scenery: Scenery, next: impl Fn(&Arena) -> Result<bool, Skip>) -> Result<(), Skip> {
    let changes = changes_in_a_life(scenery);
    assert!(changes > 5, "only {changes} changes");
    for number in 1..=changes {
        let arena = Arena::new();
        scenery(&arena);
        let process = sleeper(&arena.home);
        life_with_a_death(&arena, process.pid(), number);
        process.signal(Signal::KILL);
        process.finish(SOON);
        let left = arena.names();
        assert!(next(&arena)?, "after a death before change {number} of {changes}, which left {left:?}");
        assert!(!exists(&arena.lock) && !exists(&arena.steal()), "{number}: {:?}", arena.names());
    }
    Ok(())
}

fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

#[allow(clippy::unnecessary_wraps)]
fn ours(arena: &Arena) -> Result<bool, Skip> {
    // Not one attempt only: what a thread of this program starts just now has, for an instant, a copy of each descriptor
    // and with it the turn of the contender that died.
    Ok(matches!(arena.ours().acquire(SOON).unwrap(), Attempt::Taken(_)))
}

fn shell(arena: &Arena) -> Result<bool, Skip> {
    peer::can_take(&arena.home, &arena.lock)
}

fn after_a_death_at_any_change_the_next_of_ours_takes_a_free_lock() -> Result<(), Skip> {
    next_takes_it(free, ours)
}

fn after_a_death_at_any_change_the_next_of_ours_takes_a_dead_lock() -> Result<(), Skip> {
    next_takes_it(dead, ours)
}

fn after_a_death_at_any_change_the_next_of_ours_takes_a_dead_lock_with_a_dead_mutex() -> Result<(), Skip> {
    next_takes_it(dead_with_a_dead_mutex, ours)
}

fn after_a_death_at_any_change_the_next_of_ours_takes_a_free_lock_with_a_dead_mutex() -> Result<(), Skip> {
    next_takes_it(free_with_a_dead_mutex, ours)
}

fn after_a_death_at_any_change_the_next_of_ours_takes_a_dead_lock_of_the_older_shape() -> Result<(), Skip> {
    next_takes_it(dead_in_the_older_shape, ours)
}

fn after_a_death_at_any_change_a_shell_peer_takes_a_free_lock() -> Result<(), Skip> {
    next_takes_it(free, shell)
}

fn after_a_death_at_any_change_a_shell_peer_takes_a_dead_lock() -> Result<(), Skip> {
    next_takes_it(dead, shell)
}

fn after_a_death_at_any_change_a_shell_peer_takes_a_dead_lock_with_a_dead_mutex() -> Result<(), Skip> {
    next_takes_it(dead_with_a_dead_mutex, shell)
}

fn after_a_death_between_link_and_release_the_lock_is_held_while_the_process_lives() {
    let changes = changes_in_a_life(free);
    for number in 1..=changes {
        let arena = Arena::new();
        let process = sleeper(&arena.home);
        life_with_a_death(&arena, process.pid(), number);
        let is_linked = exists(&arena.lock);
        assert_eq!(attempt(&mut arena.ours()).is_none(), is_linked, "{number}");
        if is_linked {
            assert_eq!(arena.ours().holder().pid, Some(process.pid()), "{number}");
        }
        process.signal(Signal::KILL);
        process.finish(SOON);
        assert!(arena.try_ours().is_some(), "{number}");
    }
}
