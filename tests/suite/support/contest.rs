//! Contenders for a lock of whatever kind, and the fights that each kind must stand alike.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Mutex};

use fm_watch::base::error::Result;
use fm_watch::lock::{Attempt, Guard, Holder, Lock, Loss, Ownership};

use super::rigged::Rigged;
use super::{SOON, TestHome};

/// The guard of an attempt that must have succeeded.
#[track_caller]
pub fn taken<G: Guard>(attempt: Result<Attempt<G>>) -> G {
    match attempt.unwrap() {
        Attempt::Taken(guard) => guard,
        Attempt::Busy(holder) => panic!("it is held {holder}"),
    }
}

/// The holder that kept an attempt off.
#[track_caller]
pub fn busy<G: Guard>(attempt: Result<Attempt<G>>) -> Holder {
    match attempt.unwrap() {
        Attempt::Busy(holder) => holder,
        Attempt::Taken(guard) => panic!("it was taken: {guard:?}"),
    }
}

/// Takes what is free. A child that another test is just starting may have a copy of a dead holder's descriptor until
/// it executes its program.
#[track_caller]
pub fn take<L: Lock>(mut contender: L) -> L::Guard {
    taken(contender.acquire(SOON))
}

/// A new directory of the test's own, for a lock and what stands beside it.
pub fn fresh_directory(home: &TestHome, name: &str) -> PathBuf {
    let directory = home.scratch().join(name);
    fs::create_dir(&directory).unwrap();
    directory
}

/// The names in a directory, sorted.
pub fn names_in(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Many threads take, hold and release; no two hold at a time, which each holder sees by itself.
pub fn contend<L: Lock>(threads: u32, rounds: u32, contender: impl Fn() -> L + Sync) {
    let (holders, barrier) = (AtomicU32::new(0), Barrier::new(threads as usize));
    let fight = || {
        barrier.wait();
        for _ in 0..rounds {
            let guard = take(contender());
            assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two hold");
            assert_eq!(guard.check().unwrap(), Ownership::Held);
            std::thread::yield_now();
            assert_eq!(holders.fetch_sub(1, Ordering::SeqCst), 1, "two hold");
            guard.release().unwrap();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(fight);
        }
    });
}

/// So many contenders attempt at the same instant. Gives what they were told, and the guards with that.
pub fn attempt_together<L: Lock>(contenders: usize, contender: impl Fn() -> L + Sync) -> Vec<Attempt<L::Guard>>
where
    L::Guard: Send,
{
    let barrier = Barrier::new(contenders);
    let attempt = || {
        let mut lock = contender();
        barrier.wait();
        lock.try_acquire().unwrap()
    };
    std::thread::scope(|scope| {
        let attempts: Vec<_> = (0..contenders).map(|_| scope.spawn(attempt)).collect();
        attempts.into_iter().map(|attempt| attempt.join().unwrap()).collect()
    })
}

/// A stale lock, and two takers of it. The second one comes at the step at which the first has judged it. Says whether
/// each holds, and whether the second one was seen to be replaced.
pub fn two_takers<L: Lock + 'static>(
    path: &Path,
    judged: &'static str,
    protections: &'static [&'static str],
    contender: fn(&Arc<Rigged>, &Path) -> L,
) -> (bool, bool, bool)
where
    L::Guard: Send + 'static,
{
    let second: Arc<Mutex<Option<L::Guard>>> = Arc::default();
    let was_replaced: Arc<Mutex<bool>> = Arc::default();
    let (at, into) = (path.to_owned(), Arc::clone(&second));
    let (watched, lost) = (Arc::clone(&second), Arc::clone(&was_replaced));
    let world = Rigged::new()
        .without(protections)
        .at(judged, move || {
            let world = Rigged::new().without(protections).ready();
            if let Attempt::Taken(guard) = contender(&world, &at).try_acquire().unwrap() {
                *into.lock().unwrap() = Some(guard);
            }
        })
        .at("TakeoverExchanged", move || {
            let watched = watched.lock().unwrap();
            *lost.lock().unwrap() =
                watched.as_ref().is_some_and(|guard| guard.check().unwrap() == Ownership::Lost(Loss::Replaced));
        })
        .ready();
    let first = contender(&world, path).try_acquire().unwrap();
    let is_second = second.lock().unwrap().is_some();
    let is_lost = *was_replaced.lock().unwrap();
    (matches!(first, Attempt::Taken(_)), is_second, is_lost)
}

/// Drops a guard in what is then a forked copy of its process. Says whether the lock is still at its path.
#[track_caller]
pub fn drop_in_a_forked_copy<L: Lock>(
    path: &Path,
    protections: &[&'static str],
    contender: fn(&Arc<Rigged>, &Path) -> L,
) -> bool {
    let world = Rigged::new().without(protections).ready();
    let guard = taken(contender(&world, path).try_acquire());
    world.become_a_forked_copy();
    drop(guard);
    path.exists()
}
