//! One holder at every instant, whatever dies, is removed or is forged.

use std::fs;
use std::process::Command;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use fm_watch::layout::paths::Home;
use fm_watch::lock::Attempt;
use fm_watch::ownership::home_lock::{HomeLock, LockLocation};
use fm_watch::system::Real;
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

use crate::support::background::{wait_for_end, wait_for_state};
use crate::support::gate::Gate;
use crate::support::home::{PROGRAM, finish, pid_in};
use crate::support::strace::{calls_in, killed_at, recorded, requires_strace, traced};
#[cfg(feature = "sync-points")]
use crate::support::sync::{Points, without};
use crate::support::{Background, SOON, Skip, TestHome, processes, stays_true, wait_until, wait_until_true};

cases! {
    of_64_contenders_at_once_one_holds_and_the_others_name_it,
    a_check_before_a_write_lets_all_contenders_win,
    a_contender_of_a_settled_holder_leaves_at_once,
    the_next_start_works_after_a_kill_at_any_step_of_a_life,
    a_start_by_arm_works_after_a_kill_at_any_step_of_arm,
    a_takeover_killed_at_any_step_leaves_one_watcher_or_room_for_the_next,
    a_pid_file_blocks_the_next_start_after_a_kill,
    a_removed_lock_file_makes_no_room_for_a_second_holder,
    a_replaced_lock_file_makes_no_room_for_a_second_holder,
    #[cfg(feature = "sync-points")]
    without_the_lock_of_the_directory_a_removed_file_makes_two_holders,
    #[cfg(feature = "sync-points")]
    a_file_replaced_between_open_and_lock_makes_no_second_holder,
    #[cfg(feature = "sync-points")]
    without_both_protections_a_replaced_file_makes_two_holders,
    #[cfg(feature = "sync-points")]
    a_contender_whose_file_was_unlinked_by_an_older_version_does_not_hold,
    #[cfg(feature = "sync-points")]
    without_the_second_look_an_unlinked_file_is_held_beside_its_successor,
    a_detached_watcher_has_no_descriptor_of_its_caller,
    a_check_has_no_descriptor_of_the_watcher,
    an_inherited_descriptor_would_keep_the_lock_of_a_dead_holder,
    no_call_in_a_life_unlocks,
    an_unlock_in_a_child_would_drop_the_lock_of_its_parent,
    of_two_threads_of_one_process_one_holds,
    record_locks_would_let_two_threads_of_one_process_hold,
    a_stopped_watcher_is_stuck_and_not_doubled_and_resumes,
    a_lease_by_age_would_double_a_stopped_watcher,
    arm_cures_a_stuck_watcher,
    a_damaged_owner_record_is_mended_and_decides_nothing,
    an_owner_record_of_an_earlier_life_is_mended,
    a_record_without_a_lock_makes_no_holder,
    a_restart_of_a_healthy_watcher_never_makes_two,
    an_error_of_the_lock_is_never_taken_for_the_lock,
    an_interrupted_lock_is_tried_again,
    a_foreign_lock_is_never_taken_over,
}

/// The generation on disk; it grows with each acquisition, so it counts the holders that there were.
fn generation(home: &TestHome) -> u64 {
    fs::read_to_string(home.watch("generation")).map_or(0, |text| text.trim().parse().unwrap())
}

fn of_64_contenders_at_once_one_holds_and_the_others_name_it() {
    let home = TestHome::new();
    let gate = Gate::new();
    let contenders: Vec<_> = (0..64).map(|_| gate.spawn(&home, &home.command(&["run"]))).collect();
    gate.open();
    let holder = wait_until(SOON, "one holds", || home.beat().and_then(|_| home.pid()));
    let (held, lost): (Vec<_>, Vec<_>) = contenders.into_iter().partition(|contender| contender.pid() == holder);
    assert_eq!(held.len(), 1, "the holder is one of the contenders");
    for loser in lost {
        let answer = loser.finish(SOON).expect_code(0);
        assert_eq!(answer.stdout, format!("watcher: already running pid {holder}\n"));
    }
    assert_eq!(generation(&home), 1, "nobody else held, not even for an instant");
    assert_eq!(home.verdict(), "ok");
    let mut held = held;
    assert!(held[0].ended().is_none());
}

/// The twin: the classic pid file under the same 64 contenders, counted in the same way.
fn a_check_before_a_write_lets_all_contenders_win() {
    let home = TestHome::new();
    let path = Arc::new(home.scratch().join("pid"));
    let all_have_looked = Arc::new(Barrier::new(64));
    let contend = |number: u32| {
        let (path, all_have_looked) = (Arc::clone(&path), Arc::clone(&all_have_looked));
        std::thread::spawn(move || {
            let is_free = !path.exists();
            all_have_looked.wait();
            if is_free {
                fs::write(path.as_ref(), number.to_string()).unwrap();
            }
            is_free
        })
    };
    let threads: Vec<_> = (0..64).map(contend).collect();
    let winners = threads.into_iter().map(|thread| thread.join().unwrap()).filter(|&won| won).count();
    assert!(winners > 1, "{winners} winner");
}

fn a_contender_of_a_settled_holder_leaves_at_once() {
    let home = TestHome::new();
    let holder = home.watcher();
    let answer = home.ask(&["run"]).expect_code(0);
    assert_eq!(answer.stdout, format!("watcher: already running pid {}\n", holder.pid()));
    assert!(answer.took < Duration::from_secs(2), "{answer:?}");
}

/// Every system call of a life that has an effect outside the process.
const EFFECTS: &str = "openat,mkdir,mkdirat,flock,fcntl,write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,\
                       unlink,unlinkat,ftruncate,close";

/// How often the busiest thread makes each call in a whole life, from a recording.
fn most_calls_of_one_thread(home: &TestHome) -> Vec<(String, usize)> {
    let mut counts = std::collections::BTreeMap::<(String, u32), usize>::new();
    for (thread, name, _) in calls_in(home) {
        *counts.entry((name, thread)).or_default() += 1;
    }
    let mut most = std::collections::BTreeMap::<String, usize>::new();
    for ((name, _), count) in counts {
        let entry = most.entry(name).or_default();
        *entry = count.max(*entry);
    }
    most.into_iter().collect()
}

/// Lives one life: starts, is asked to leave once it has beaten, and leaves or is killed by strace on the way.
fn live_and_leave(home: &TestHome, command: Command) {
    let before = home.pid();
    let mut life = Background::spawn(command);
    let tracer = life.pid();
    let watcher = wait_until(SOON, "the watcher beats or is killed", || {
        if life.ended().is_some() {
            return Some(None);
        }
        let pid = home.pid().filter(|&pid| Some(pid) != before && is_child_of(pid, tracer))?;
        (home.beat()?["pid"] == pid).then_some(Some(pid))
    });
    if let Some(pid) = watcher {
        processes::signal_if_naming(pid, home.scratch(), Signal::TERM);
    }
    life.finish(SOON);
}

fn is_child_of(pid: u32, parent: u32) -> bool {
    processes::stat_field(pid, 4).is_some_and(|field| field == parent.to_string())
}

/// A start without any cleaning works, holds alone, and leaves.
#[track_caller]
fn next_start_works(home: &TestHome, after: &str) {
    let before = generation(home);
    let next = home.spawn(&["run"]);
    let pid = next.pid();
    wait_until(SOON, &format!("the next start works after {after}"), || {
        (home.pid() == Some(pid) && home.beat()?["pid"] == pid).then_some(())
    });
    assert!(generation(home) > before, "the generation grows after {after}");
    next.signal(Signal::TERM);
    next.finish(SOON).expect_code(0);
}

fn the_next_start_works_after_a_kill_at_any_step_of_a_life() -> Result<(), Skip> {
    let home = TestHome::with(&["poll=5s"]);
    requires_strace(&home)?;
    live_and_leave(&home, recorded(&home, EFFECTS, &["run"]));
    let calls = most_calls_of_one_thread(&home);
    assert!(calls.iter().any(|(name, _)| name == "flock"), "a life takes the lock: {calls:?}");
    let mut kills = 0;
    for (call, most) in &calls {
        // Closing and opening has effects only through the calls around it; every fifth is enough.
        let step = if matches!(call.as_str(), "close" | "openat" | "fcntl") { 5 } else { 1 };
        for number in (1..=*most).step_by(step) {
            // A fresh home for every second kill, so that both the first start and a later one are covered.
            let fresh = (number % 2 == 0).then(|| TestHome::with(&["poll=5s"]));
            let home = fresh.as_ref().unwrap_or(&home);
            live_and_leave(home, killed_at(home, call, number, &["run"]));
            next_start_works(home, &format!("a kill at {call} {number}"));
            kills += 1;
        }
    }
    assert!(kills > 20, "only {kills} kills: {calls:?}");
    Ok(())
}

fn a_start_by_arm_works_after_a_kill_at_any_step_of_arm() -> Result<(), Skip> {
    let home = TestHome::with(&["poll=5s"]);
    requires_strace(&home)?;
    for call in ["clone3", "vfork", "execve", "pipe2", "write", "mkdir", "mkdirat", "flock"] {
        for number in 1..=3 {
            let home = TestHome::with(&["poll=5s"]);
            finish(killed_without_its_children(&home, call, number, &["arm", "--no-wait"]));
            let answer = home.ask(&["arm", "--no-wait"]).expect_code(0);
            let pid = pid_in(&answer.stdout).unwrap();
            home.wait_until_watched_by(pid);
            assert_eq!(generation(&home), 1, "one holder, whoever started it ({call} {number})");
        }
    }
    Ok(())
}

/// As [`killed_at`], but the watcher that it starts is not traced: whether that one is killed is another test's matter.
fn killed_without_its_children(home: &TestHome, call: &str, number: usize, arguments: &[&str]) -> Command {
    let mut command = home.bare("strace");
    command.args(["-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={call}:signal=KILL:when={number}"), *PROGRAM]);
    command.args(home.flags()).args(arguments);
    command
}

fn a_takeover_killed_at_any_step_leaves_one_watcher_or_room_for_the_next() -> Result<(), Skip> {
    let home = TestHome::new();
    requires_strace(&home)?;
    home.arm();
    let mut killed = 0;
    for call in ["clone3", "execve", "pipe2", "poll", "ppoll", "pidfd_open", "pidfd_send_signal", "read", "write"] {
        for number in [1, 2, 3, 5, 8] {
            let answer = finish(killed_without_its_children(&home, call, number, &["arm", "--restart", "--no-wait"]));
            killed += u32::from(answer.signal == Some(9));
            // A successor that stands by may still be waiting for a watcher that was never asked to leave; and one that
            // was asked may be told of here, a moment before it hands the home over.
            let told = home.ask(&["arm", "--no-wait"]).expect_code(0);
            let told = pid_in(&told.stdout).unwrap();
            home.wait_for_verdict("ok");
            let has_left = |pid: u32| home.history().iter().any(|life| life["pid"] == pid);
            wait_until_true(SOON, &format!("pid {told} holds, or has left, after a kill at {call} {number}"), || {
                home.pid() == Some(told) || has_left(told)
            });
        }
    }
    assert!(killed >= 10, "only {killed} of the takeovers were killed");
    wait_until_true(SOON, "every watcher but the last has left by itself", || {
        home.history().len() as u64 + 1 == generation(&home)
    });
    // The last one dies while its successor stands by; a home that is then stopped stays so.
    let last = finish(killed_without_its_children(&home, "pidfd_send_signal", 1, &["arm", "--restart", "--no-wait"]));
    assert_eq!(last.signal, Some(9), "{last:?}");
    home.ask(&["stop"]).expect_code(0);
    stays_true(Duration::from_secs(1), "the home stays stopped", || home.verdict() == "stopped");
    Ok(())
}

/// The twin: with a pid file that is created exclusively and removed at the end, a kill leaves nobody able to start.
fn a_pid_file_blocks_the_next_start_after_a_kill() {
    let home = TestHome::new();
    let script = "set -C; echo $$ > \"$0\" || exit 1; read -r line < \"$1\"; rm \"$0\"";
    let fifo = home.scratch().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let start = || {
        let mut command = home.bare("sh");
        command.args(["-c", script]).arg(home.scratch().join("pid")).arg(&fifo);
        Background::spawn(command)
    };
    let first = start();
    wait_until_true(SOON, "the first holds", || home.scratch().join("pid").exists());
    first.signal(Signal::KILL);
    first.finish(SOON);
    start().finish(SOON).expect_code(1);
}

/// What somebody does to the lock file of a holder that cannot notice, because it is stopped.
fn a_second_start_after(home: &TestHome, tamper: impl FnOnce(&TestHome)) {
    let holder = home.watcher();
    holder.signal(Signal::STOP);
    wait_for_state(holder.pid(), "T");
    tamper(home);
    let answer = home.ask(&["run"]);
    assert!(!answer.stdout.is_empty() || answer.code != Some(0), "{answer:?}");
    assert_eq!(generation(home), 1, "nobody else became the holder: {answer:?}");
    assert_eq!(home.pid(), Some(holder.pid()));
    holder.signal(Signal::CONT);
    let answer = holder.finish(SOON).expect_code(0);
    assert!(answer.stderr.contains("lock file"), "it says why it leaves: {answer:?}");
    next_start_works(home, "the holder has left");
}

fn a_removed_lock_file_makes_no_room_for_a_second_holder() {
    a_second_start_after(&TestHome::new(), |home| fs::remove_file(home.watch("lock")).unwrap());
}

fn a_replaced_lock_file_makes_no_room_for_a_second_holder() {
    a_second_start_after(&TestHome::new(), |home| {
        fs::write(home.watch("other"), "").unwrap();
        fs::rename(home.watch("other"), home.watch("lock")).unwrap();
    });
}

#[cfg(feature = "sync-points")]
fn run_without(home: &TestHome, protections: &[&str]) -> Command {
    let mut command = home.command(&["run"]);
    without(&mut command, protections);
    command
}

#[cfg(feature = "sync-points")]
fn without_the_lock_of_the_directory_a_removed_file_makes_two_holders() {
    let home = TestHome::new();
    let first = Background::spawn(run_without(&home, &["LockDirectory"]));
    home.wait_until_watched_by(first.pid());
    first.signal(Signal::STOP);
    wait_for_state(first.pid(), "T");
    fs::remove_file(home.watch("lock")).unwrap();
    let second = Background::spawn(run_without(&home, &["LockDirectory"]));
    home.wait_until_watched_by(second.pid());
    assert_eq!(generation(&home), 2);
    assert!(processes::is_alive(first.pid()), "the first lives and still has its lock: two holders");
}

/// A contender opens the lock file and is paused; the file is replaced and another start takes the new one; then the
/// first goes on. Says how many of them have held at the end, while all of them live.
#[cfg(feature = "sync-points")]
fn holders_after_a_replacement(protections: &[&str]) -> u64 {
    let home = TestHome::with(&["arm_timeout=2s"]);
    let points = Points::new(&home, "paused");
    let mut command = run_without(&home, protections);
    points.pause(&mut command, &["LockFileOpened", "HoldingAcquired"]);
    let mut paused = Background::spawn(command);
    points.wait_until_reached("LockFileOpened");
    fs::remove_file(home.watch("lock")).unwrap();
    fs::write(home.watch("lock"), "").unwrap();
    let mut other = Background::spawn(run_without(&home, protections));
    wait_until(SOON, "the other start holds or gives up", || {
        (other.ended().is_some() || home.pid() == Some(other.pid())).then_some(())
    });
    let is_held_by_the_other = other.ended().is_none();
    if is_held_by_the_other {
        other.signal(Signal::STOP);
        wait_for_state(other.pid(), "T");
    }
    points.go("LockFileOpened");
    wait_until(SOON, "the paused one holds or gives up", || {
        let has_acquired = home.scratch().join("points-paused/HoldingAcquired.reached").exists();
        (paused.ended().is_some() || has_acquired).then_some(())
    });
    u64::from(is_held_by_the_other) + u64::from(paused.ended().is_none())
}

#[cfg(feature = "sync-points")]
fn a_file_replaced_between_open_and_lock_makes_no_second_holder() {
    assert_eq!(holders_after_a_replacement(&[]), 1, "with both protections");
    assert_eq!(holders_after_a_replacement(&["LockRecheck"]), 1, "the lock of the directory is enough");
    assert_eq!(holders_after_a_replacement(&["LockDirectory"]), 1, "the second look is enough");
}

#[cfg(feature = "sync-points")]
fn without_both_protections_a_replaced_file_makes_two_holders() {
    assert_eq!(holders_after_a_replacement(&["LockRecheck", "LockDirectory"]), 2);
}

/// An older version, played by the test, holds the lock file alone and unlinks it when it leaves; the contender has
/// opened the file before that. A third one takes the new file in between. Says whether the contender holds.
#[cfg(feature = "sync-points")]
fn holds_an_unlinked_file(protections: &[&str]) -> bool {
    let home = TestHome::with(&["arm_timeout=2s"]);
    let points = Points::new(&home, "paused");
    let mut command = run_without(&home, protections);
    points.pause(&mut command, &["LockFileOpened"]);
    let mut contender = Background::spawn(command);
    points.wait_until_reached("LockFileOpened");
    fs::remove_file(home.watch("lock")).unwrap();
    let older = fs::OpenOptions::new().create_new(true).write(true).open(home.watch("lock")).unwrap();
    flock(&older, FlockOperation::NonBlockingLockExclusive).unwrap();
    points.go("LockFileOpened");
    wait_until(SOON, "the contender holds or gives up", || {
        if contender.ended().is_some() {
            return Some(false);
        }
        (home.pid() == Some(contender.pid())).then_some(true)
    })
}

#[cfg(feature = "sync-points")]
fn a_contender_whose_file_was_unlinked_by_an_older_version_does_not_hold() {
    assert!(!holds_an_unlinked_file(&[]));
}

#[cfg(feature = "sync-points")]
fn without_the_second_look_an_unlinked_file_is_held_beside_its_successor() {
    assert!(holds_an_unlinked_file(&["LockRecheck"]));
}

fn a_detached_watcher_has_no_descriptor_of_its_caller() {
    let home = TestHome::new();
    let leaked = home.scratch().join("leaked");
    fs::write(&leaked, "").unwrap();
    let arm = home.command(&["arm", "--no-wait"]);
    let mut caller = home.bare("bash");
    caller.args(["-c", "exec 9<\"$0\" 8> >(cat >/dev/null) 63<\"$0\"; \"$@\""]).arg(&leaked);
    caller.arg(arm.get_program()).args(arm.get_args());
    let answer = finish(caller).expect_code(0);
    let watcher = pid_in(&answer.stdout).unwrap();
    let descriptors = processes::descriptors(watcher);
    for (number, target) in &descriptors {
        assert_ne!(target, &leaked, "descriptor {number} of {descriptors:?}");
        let is_a_stream = *number <= 2;
        let is_ours = target.starts_with(home.root()) || target == std::path::Path::new("/dev/null");
        assert!(!is_a_stream || is_ours, "descriptor {number} leads to {}", target.display());
    }
    assert!(!descriptors.iter().any(|(number, _)| [63].contains(number)), "{descriptors:?}");
}

fn a_check_has_no_descriptor_of_the_watcher() {
    let home = TestHome::with(&["check_interval=200ms"]);
    home.make_state();
    let leaked = home.scratch().join("leaked");
    fs::write(&leaked, "").unwrap();
    let script = home.state().join("list.check.sh");
    let seen = home.scratch().join("seen");
    fs::write(
        &script,
        format!("#!/bin/sh\nfor d in /proc/$$/fd/*; do readlink $d; done > {0}.new; mv {0}.new {0}\n", seen.display()),
    )
    .unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let run = home.command(&["run"]);
    let mut caller = home.bare("bash");
    caller.args(["-c", "exec 9<\"$0\"; exec \"$@\""]).arg(&leaked).arg(run.get_program()).args(run.get_args());
    let watcher = Background::spawn(caller);
    let list = wait_until(SOON, "the check has run", || fs::read_to_string(&seen).ok());
    assert!(processes::descriptors(watcher.pid()).iter().any(|(_, target)| *target == leaked), "the leak is real");
    let is_expected = |target: &str| {
        target == "/dev/null"
            || target.starts_with("pipe:")
            || target == script.to_str().unwrap()
            || target == format!("{}.new", seen.display())
    };
    for target in list.lines().filter(|line| !line.is_empty()) {
        assert!(is_expected(target), "the check has {target}: {list}");
    }
}

/// The twin: a child that inherits the descriptor keeps the lock.
fn an_inherited_descriptor_would_keep_the_lock_of_a_dead_holder() {
    let home = TestHome::new();
    let path = home.scratch().join("lock");
    let open = || fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).unwrap();
    let file = open();
    flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    let mut command = home.bare("sleep");
    // As stdout it is inherited on purpose.
    command.arg("1000").stdout(file.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    drop((command, file));
    let taken = flock(open(), FlockOperation::NonBlockingLockExclusive);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(taken, Err(rustix::io::Errno::WOULDBLOCK));
    // A child that another test is just starting may still have the descriptor, until it executes its program.
    wait_until(SOON, "the lock is free", || flock(open(), FlockOperation::NonBlockingLockExclusive).ok());
}

fn no_call_in_a_life_unlocks() -> Result<(), Skip> {
    let home = TestHome::new();
    requires_strace(&home)?;
    live_and_leave(&home, recorded(&home, "flock,fcntl", &["run"]));
    let calls = calls_in(&home);
    let locks: Vec<_> = calls.iter().filter(|(_, name, _)| name == "flock").map(|(_, _, line)| line).collect();
    assert!(locks.iter().any(|line| line.contains("LOCK_EX|LOCK_NB")), "{locks:?}");
    assert!(!locks.iter().any(|line| line.contains("LOCK_UN")), "{locks:?}");
    assert!(!locks.iter().any(|line| !line.contains("LOCK_NB")), "a lock that may block: {locks:?}");
    let classic = |line: &str| line.contains("F_SETLK,") || line.contains("F_SETLKW") || line.contains("F_SETLK64");
    let records: Vec<_> = calls.iter().map(|(_, _, line)| line).filter(|line| classic(line)).collect();
    assert!(records.is_empty(), "record locks of the process are dropped by any close: {records:?}");
    Ok(())
}

/// The twin: an unlock through a shared open file description, as a forked child would do it.
fn an_unlock_in_a_child_would_drop_the_lock_of_its_parent() {
    let home = TestHome::new();
    let path = home.scratch().join("lock");
    let open = || fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).unwrap();
    let parents = open();
    flock(&parents, FlockOperation::NonBlockingLockExclusive).unwrap();
    let childs = parents.try_clone().unwrap();
    flock(&childs, FlockOperation::Unlock).unwrap();
    assert_eq!(flock(open(), FlockOperation::NonBlockingLockExclusive), Ok(()), "the parent believes to hold it");
}

fn of_two_threads_of_one_process_one_holds() {
    let home = TestHome::new();
    home.make_watch();
    let place = LockLocation::inside(&Home::at(home.root()));
    let world = Arc::new(Real);
    let all = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (place, world, all) = (place.clone(), Arc::clone(&world), Arc::clone(&all));
            std::thread::spawn(move || {
                all.wait();
                let attempt = HomeLock::try_take(&world, &place).unwrap();
                // Nobody lets go before everybody has tried.
                all.wait();
                matches!(attempt, Attempt::Taken(_))
            })
        })
        .collect();
    let holders = threads.into_iter().map(|thread| thread.join().unwrap()).filter(|&holds| holds).count();
    assert_eq!(holders, 1);
    // A child that another test has forked shares the lock for the instant before it executes its program.
    let is_free = || matches!(HomeLock::try_take(&world, &place).unwrap(), Attempt::Taken(_));
    wait_until_true(SOON, "dropping lets go", is_free);
}

/// The twin: record locks belong to the process, so its second thread gets one too.
fn record_locks_would_let_two_threads_of_one_process_hold() {
    let home = TestHome::new();
    let path = home.scratch().join("lock");
    let open = || fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).unwrap();
    let (first, second) = (open(), open());
    let lock = |file: &fs::File| rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockExclusive);
    assert_eq!((lock(&first), lock(&second)), (Ok(()), Ok(())));
}

fn a_stopped_watcher_is_stuck_and_not_doubled_and_resumes() {
    let home = TestHome::with(&["stuck_after=1s"]);
    home.meta("task", &["window=none"]);
    let watcher = home.watcher();
    watcher.signal(Signal::STOP);
    home.wait_for_verdict("stuck");
    let status = home.ask(&["status"]).expect_code(4);
    assert!(status.stdout.starts_with(&format!("stuck: watcher pid {} is stuck", watcher.pid())), "{status:?}");
    let banner = home.ask(&["guard"]).expect_code(0).stderr;
    assert!(banner.contains("is stuck"), "{banner}");
    let answer = home.ask(&["run"]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(answer.stderr.contains("heartbeat is stale"), "{answer:?}");
    assert_eq!((generation(&home), home.pid()), (1, Some(watcher.pid())));
    watcher.signal(Signal::CONT);
    home.wait_for_verdict("ok");
    assert_eq!((generation(&home), home.pid()), (1, Some(watcher.pid())));
}

/// The twin: who takes a home by the age of its beat takes it from a process that still lives and will go on.
fn a_lease_by_age_would_double_a_stopped_watcher() {
    let home = TestHome::with(&["stuck_after=1s"]);
    let watcher = home.watcher();
    watcher.signal(Signal::STOP);
    let is_over =
        || fs::metadata(home.watch("beat.json")).unwrap().modified().unwrap().elapsed().unwrap().as_secs() >= 1;
    wait_until_true(SOON, "the beat is over the bound", is_over);
    watcher.signal(Signal::CONT);
    wait_until_true(SOON, "the old holder goes on as if nothing had happened", || !is_over());
    assert_eq!(home.pid(), Some(watcher.pid()));
}

fn arm_cures_a_stuck_watcher() {
    let home = TestHome::with(&["stuck_after=1s", "stop_grace=200ms"]);
    let old = home.arm();
    home.signal(old, Signal::STOP);
    home.wait_for_verdict("stuck");
    let answer = home.ask(&["arm", "--no-wait"]).expect_code(0);
    let new = pid_in(&answer.stdout).unwrap();
    assert_eq!(answer.stdout, format!("watcher: started pid={new} (beacon fresh)\n"));
    assert_ne!(new, old);
    wait_for_end(old, "the stuck watcher");
    assert_eq!((home.verdict().as_str(), home.pid()), ("ok", Some(new)));
}

fn a_damaged_owner_record_is_mended_and_decides_nothing() {
    let home = TestHome::new();
    let mut watcher = home.watcher();
    let whole = fs::read(home.watch("owner.json")).unwrap();
    let damages: [(&str, Option<Vec<u8>>); 6] = [
        ("missing", None),
        ("empty", Some(Vec::new())),
        ("torn", Some(whole[..whole.len() / 2].to_vec())),
        ("NUL", Some(vec![0; whole.len()])),
        ("another thing", Some(b"[1,2,3]".to_vec())),
        ("too long", Some(vec![b' '; 1 << 20])),
    ];
    for (what, bytes) in damages {
        match bytes {
            None => fs::remove_file(home.watch("owner.json")).unwrap(),
            Some(bytes) => fs::write(home.watch("owner.json"), bytes).unwrap(),
        }
        let answer = home.ask(&["run"]);
        assert_eq!(answer.code, Some(0), "the lock decides ({what}): {answer:?}");
        assert!(answer.stdout.starts_with("watcher: already running"), "{what}: {answer:?}");
        wait_until(SOON, &format!("a record that is {what} is mended"), || {
            assert!(watcher.ended().is_none(), "it stays: {}", watcher.stderr());
            (fs::read(home.watch("owner.json")).ok()? == whole).then_some(())
        });
        assert_eq!((generation(&home), home.verdict().as_str()), (1, "ok"), "{what}");
    }
    assert!(processes::is_alive(watcher.pid()));
}

fn an_owner_record_of_an_earlier_life_is_mended() {
    let home = TestHome::new();
    let first = home.watcher();
    let earlier = fs::read(home.watch("owner.json")).unwrap();
    first.signal(Signal::KILL);
    first.finish(SOON);
    let mut second = home.watcher();
    // Somebody restores yesterday's copy.
    fs::write(home.watch("owner.json"), earlier).unwrap();
    wait_until(SOON, "the record names the holder again", || {
        assert!(second.ended().is_none(), "it stays: {}", second.stderr());
        (home.pid() == Some(second.pid())).then_some(())
    });
    stays_true(Duration::from_millis(500), "the holder stays", || processes::is_alive(second.pid()));
}

fn a_record_without_a_lock_makes_no_holder() {
    let home = TestHome::new();
    let old = home.watcher();
    let mut record = home.owner().unwrap();
    let beat = home.beat().unwrap();
    old.signal(Signal::KILL);
    old.finish(SOON);
    // A process that lives and whose identity is recorded truly, but which holds nothing.
    let elsewhere = TestHome::new();
    let stranger = elsewhere.watcher();
    let theirs = elsewhere.owner().unwrap();
    for field in ["pid", "start_ticks", "pidfd_inode", "executable", "boot_id", "pid_namespace", "uid"] {
        record[field] = theirs[field].clone();
    }
    fs::write(home.watch("owner.json"), record.to_string()).unwrap();
    fs::write(home.watch("beat.json"), beat.to_string()).unwrap();
    assert_eq!(home.verdict(), "dead", "a record is no life");
    home.ask(&["stop"]).expect_code(0);
    assert!(processes::is_alive(stranger.pid()));
    let next = home.watcher();
    assert!(processes::is_alive(stranger.pid()) && processes::is_alive(next.pid()));
}

fn a_restart_of_a_healthy_watcher_never_makes_two() {
    let home = TestHome::new();
    let mut old = home.arm();
    for round in 1..=5 {
        let answer = home.ask(&["arm", "--restart", "--no-wait"]).expect_code(0);
        let new = pid_in(&answer.stdout).unwrap();
        assert_eq!(answer.stdout, format!("watcher: started pid={new} (beacon fresh)\n"));
        assert_ne!(new, old, "round {round}");
        wait_for_end(old, "the old watcher");
        let history = home.history();
        let life = history.last().unwrap();
        assert_eq!((&life["pid"], &life["generation"]), (&old.into(), &round.into()), "{history:?}");
        let since = home.owner().unwrap()["since"].as_i64().unwrap();
        assert!(since >= life["ended"].as_i64().unwrap(), "the new one began after the old one ended: {life}");
        assert_eq!(generation(&home), round + 1);
        old = new;
    }
}

fn an_error_of_the_lock_is_never_taken_for_the_lock() -> Result<(), Skip> {
    let home = TestHome::new();
    requires_strace(&home)?;
    home.make_state();
    for (number, said) in [
        ("ENOLCK", "No locks available"),
        ("ENOSYS", "Function not implemented"),
        ("EOPNOTSUPP", "Operation not supported"),
        ("EACCES", "Permission denied"),
        ("EIO", "Input/output error"),
    ] {
        for which in ["1", "2"] {
            let inject = format!("inject=flock:error={number}:when={which}");
            let answer = finish(traced(&home, &["trace=flock", &inject], &["run"]));
            assert_eq!(answer.code, Some(1), "{number} at {which}: {answer:?}");
            assert!(answer.stderr.contains(said), "{number} at {which}: {answer:?}");
            assert!(answer.stderr.contains(home.state().to_str().unwrap()), "it names the path: {answer:?}");
            assert!(!answer.stdout.contains("already running"), "{number} is not busy: {answer:?}");
            assert_eq!((generation(&home), home.owner()), (0, None), "{number}: nothing was acquired");
        }
    }
    Ok(())
}

fn an_interrupted_lock_is_tried_again() -> Result<(), Skip> {
    let home = TestHome::new();
    requires_strace(&home)?;
    live_and_leave(&home, traced(&home, &["trace=flock", "inject=flock:error=EINTR:when=1..2"], &["run"]));
    assert_eq!(generation(&home), 1);
    assert_eq!(home.history().len(), 1);
    Ok(())
}

fn a_foreign_lock_is_never_taken_over() {
    let home = TestHome::new();
    home.make_watch();
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(home.watch("lock")).unwrap();
    flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    assert_eq!(home.verdict(), "foreign");
    let answer = home.ask(&["run"]);
    assert_eq!(generation(&home), 0, "{answer:?}");
    assert_ne!(answer.code, Some(0), "a stranger's lock is no watcher: {answer:?}");
    assert!(answer.stderr.contains(&std::process::id().to_string()), "it names who holds it: {answer:?}");
    let answer = home.ask(&["arm", "--no-wait"]).expect_code(1);
    assert!(answer.stdout.starts_with("watcher: FAILED - "), "{answer:?}");
    home.ask(&["stop"]).expect_code(1);
    drop(file);
    home.watcher();
}
