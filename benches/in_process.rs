//! What `scripts/bench` cannot measure from outside: steps that take less time than a process takes to start.
//!
//! `in_process lock HOME ROUNDS` prints the median of acquiring and releasing a home's kernel lock, in nanoseconds.
//! `in_process file HOME ROUNDS` prints the same for the kernel lock of one file there, from its path on.
//! `in_process soft HOME ROUNDS` prints the same for the soft lock, with one contender that takes it again and again.
//! `in_process append HOME ROUNDS` prints two medians, of a durable append of one wake and of a bare write and fdatasync
//! of as many bytes beside it, taken in turns. `in_process fill HOME COUNT` puts so many wakes into a home's journal.
//!
//! It is a report and judges nothing.

// A measurement may stop at the first surprise, and it writes the bare file itself because that is what it measures.
#![allow(clippy::expect_used, clippy::print_stdout, clippy::disallowed_methods)]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use fm_watch::journal::record::{Delivery, Draft, Kind};
use fm_watch::journal::{Journal, Limits};
use fm_watch::layout::paths::{Home, names};
use fm_watch::lock::kernel::KernelLock;
use fm_watch::lock::soft::SoftLock;
use fm_watch::lock::{Attempt, Guard, Lock};
use fm_watch::ownership::held_home;
use fm_watch::ownership::home_lock::{HomeLock, LockLocation};
use fm_watch::system::{Real, World};

fn main() {
    // Cargo adds a flag of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [what, home, count] = arguments.as_slice() else {
        println!("usage: in_process lock|file|soft|append|fill HOME COUNT (scripts/bench does this)");
        return;
    };
    let world = Arc::new(Real);
    let home = Home::at(home);
    let count = count.parse().expect("the last argument is a number");
    let place = LockLocation::inside(&home);
    held_home::prepare(world.as_ref(), &home, &place).expect("the home can be made");
    match what.as_str() {
        "lock" => println!("{}", median(&measure_lock(&world, &place, count))),
        "file" => println!("{}", median(&measure_file(&world, &home.root().join("file"), count))),
        "soft" => println!("{}", median(&measure_soft(&world, &home.root().join("soft"), count))),
        "append" => measure_append(&world, &home, count),
        "fill" => fill(&world, &home, count),
        other => println!("nothing is called {other}"),
    }
}

fn measure_lock(world: &Arc<Real>, place: &LockLocation, rounds: usize) -> Vec<u128> {
    let acquire_and_release = || {
        let began = Instant::now();
        let attempt = HomeLock::try_take(world, place).expect("the lock can be examined");
        assert!(matches!(attempt, Attempt::Taken(_)), "the lock is free");
        drop(attempt);
        began.elapsed().as_nanos()
    };
    (0..rounds).map(|_| acquire_and_release()).collect()
}

fn measure_file(world: &Arc<Real>, path: &Path, rounds: usize) -> Vec<u128> {
    let acquire_and_release = || {
        let began = Instant::now();
        let attempt = KernelLock::at(world, path).and_then(|mut lock| lock.try_acquire()).expect("it can be locked");
        assert!(matches!(attempt, Attempt::Taken(_)), "the lock is free");
        drop(attempt);
        began.elapsed().as_nanos()
    };
    (0..rounds).map(|_| acquire_and_release()).collect()
}

fn measure_soft(world: &Arc<Real>, path: &Path, rounds: usize) -> Vec<u128> {
    let mut lock = SoftLock::at(world, path).expect("its directory can be opened");
    let mut acquire_and_release = || {
        let began = Instant::now();
        let attempt = lock.try_acquire().expect("it can be locked");
        let Attempt::Taken(guard) = attempt else { panic!("the lock is free") };
        guard.release().expect("it can be released");
        began.elapsed().as_nanos()
    };
    (0..rounds).map(|_| acquire_and_release()).collect()
}

/// In turns, so that a disk that grows slower or faster meanwhile does so for both.
fn measure_append(world: &Arc<Real>, home: &Home, rounds: usize) {
    let mut journal = journal(world, home);
    let line_length = appended_bytes(world, home, &mut journal);
    let line = vec![b'x'; line_length];
    let mut bare = File::create(home.root().join("bare")).expect("a file beside the journal");
    let (mut appends, mut writes) = (Vec::new(), Vec::new());
    for number in 0..rounds {
        let drafts = [draft(number)];
        let began = Instant::now();
        journal.append(1, &drafts).expect("the journal takes a wake");
        appends.push(began.elapsed().as_nanos());
        let began = Instant::now();
        bare.write_all(&line).and_then(|()| bare.sync_data()).expect("the bare file takes a line");
        writes.push(began.elapsed().as_nanos());
    }
    println!("{} {}", median(&appends), median(&writes));
}

/// How many bytes one wake takes in the journal.
fn appended_bytes(world: &Arc<Real>, home: &Home, journal: &mut Journal<Real>) -> usize {
    let size = || {
        let directory = world.open_directory(&home.ours(names::WAKES)).expect("the journal's directory");
        let names = world.names(&directory).expect("the names in it");
        names.iter().filter_map(|name| world.facts_at(&directory, name).ok()).map(|facts| facts.size).sum::<u64>()
    };
    journal.append(1, &[draft(0)]).expect("the journal takes a wake");
    let before = size();
    journal.append(1, &[draft(1)]).expect("the journal takes a wake");
    usize::try_from(size() - before).expect("a line is short")
}

fn fill(world: &Arc<Real>, home: &Home, count: usize) {
    const BATCH: usize = 1000;
    let mut journal = journal(world, home);
    for first in (0..count).step_by(BATCH) {
        let drafts: Vec<Draft> = (first..count.min(first + BATCH)).map(draft).collect();
        journal.append(1, &drafts).expect("the journal takes wakes");
    }
}

fn journal(world: &Arc<Real>, home: &Home) -> Journal<Real> {
    let path = home.ours(names::WAKES);
    let directory = world.open_directory(&path).expect("the journal's directory");
    Journal::open(Arc::clone(world), directory, path, Limits::default())
}

fn draft(number: usize) -> Draft {
    let file = Path::new("state").join(format!("task-{number}.status"));
    Draft {
        kind: Kind::Signal,
        key: format!("task-{number}.status"),
        text: format!("signal: {}", file.display()),
        context: Some(format!("working: step {number} of what this task has to do\n")),
        mark: None,
        delivery: Delivery::Now,
    }
}

fn median(times: &[u128]) -> u128 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}
