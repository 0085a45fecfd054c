//! File systems whose locks do nothing, hang or are refused, and what the self-test says of them.
//!
//! They are mounted through FUSE, which needs root. The file system is the test's own, so nothing else can hang in it.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

use crate::support::contest::names_in;
use crate::support::fuse::{Exchanges, Locks, Manners, Mounted};
use crate::support::home::finish;
use crate::support::{Answer, Background, SOON, Skip, TestHome, processes, wait_until_true};

cases! {
    locks_hold_where_the_tests_run,
    locks_that_hold_on_an_unknown_file_system_are_told_and_it_stays_untrusted,
    a_lock_that_everybody_gets_is_found,
    a_lock_call_that_hangs_is_found_within_two_seconds_and_blocks_nobody,
    without_a_deadline_a_hanging_lock_call_never_answers,
    a_refused_lock_is_told_with_the_reason_of_the_system,
    locks_that_misbehave_in_other_ways_are_found,
    a_directory_that_cannot_be_used_is_told,
    a_storm_does_not_begin_where_locks_do_not_hold,
    a_worker_that_not_even_a_kill_ends_is_left_and_told,
    the_lock_of_a_home_is_refused_there_before_any_lock_call,
    an_exchange_can_be_refused,
}

/// The self-test with enough time for a busy machine.
fn self_test(home: &TestHome, directory: &std::path::Path) -> Command {
    let directory = directory.to_str().unwrap();
    home.command(&["storm", "--self-test", "--patience", "30s", "--dir", directory])
}

#[track_caller]
fn verdict(answer: &Answer) -> String {
    answer.json()["verdict"].as_str().unwrap().to_owned()
}

fn locks_hold_where_the_tests_run() {
    let home = TestHome::new();
    let answer = finish(self_test(&home, home.scratch())).expect_code(0);
    assert!(answer.stdout.starts_with(home.scratch().to_str().unwrap()), "{answer:?}");
    assert!(answer.stdout.contains("locks hold here") && answer.stderr.is_empty(), "{answer:?}");
    assert_eq!(names_in(home.scratch()).len(), 3, "only the directories of the test are left");
}

fn locks_that_hold_on_an_unknown_file_system_are_told_and_it_stays_untrusted() -> Result<(), Skip> {
    let home = TestHome::new();
    let mounted = Mounted::in_home(&home, Manners::of_locks(Locks::Kernel))?;
    let answer = finish(self_test(&home, mounted.path())).expect_code(0);
    assert!(answer.stdout.contains("(FUSE): locks hold here"), "{answer:?}");
    assert!(answer.stdout.contains("goes on refusing it"), "{answer:?}");
    assert_eq!(names_in(mounted.path()), Vec::<String>::new(), "it sweeps behind itself");
    Ok(())
}

fn a_lock_that_everybody_gets_is_found() -> Result<(), Skip> {
    let home = TestHome::new();
    let mounted = Mounted::in_home(&home, Manners::of_locks(Locks::NoOp))?;
    // What the self-test is for: here two descriptors do hold one lock.
    let take = |file: &std::fs::File| flock(file, FlockOperation::NonBlockingLockExclusive);
    let open = || std::fs::OpenOptions::new().create(true).append(true).open(mounted.path().join("file")).unwrap();
    let (one, other) = (open(), open());
    assert_eq!((take(&one), take(&other)), (Ok(()), Ok(())));
    drop((one, other));
    let mut command = self_test(&home, mounted.path());
    command.arg("--json");
    let answer = finish(command).expect_code(1);
    assert_eq!(verdict(&answer), "no-op");
    assert!(answer.json()["remedy"].as_str().unwrap().contains("--runtime-dir"), "{answer:?}");
    assert_eq!(names_in(mounted.path()), ["file"]);
    Ok(())
}

fn a_lock_call_that_hangs_is_found_within_two_seconds_and_blocks_nobody() -> Result<(), Skip> {
    let home = TestHome::new();
    let mounted = Mounted::in_home(&home, Manners::of_locks(Locks::Hang))?;
    let test = home.spawn(&["storm", "--self-test", "--dir", mounted.path().to_str().unwrap()]);
    let answer = test.finish(Duration::from_secs(10)).expect_code(1);
    assert!(answer.stdout.contains("hangs") && answer.stdout.contains("--runtime-dir"), "{answer:?}");
    assert!(answer.took < Duration::from_secs(2), "{answer:?}");
    // The process in the call cannot even be killed while the file system does not answer.
    assert_eq!(mounted.hanging(), 1);
    assert_eq!(processes::naming(mounted.path()).len(), 1, "it is left behind");
    mounted.let_go();
    wait_until_true(SOON, "the process that hung has ended", || processes::naming(mounted.path()).is_empty());
    assert_eq!(names_in(mounted.path()), Vec::<String>::new());
    Ok(())
}

/// The twin: a process that makes the call itself is lost, and not even a kill ends it.
fn without_a_deadline_a_hanging_lock_call_never_answers() -> Result<(), Skip> {
    let home = TestHome::new();
    crate::support::requires("flock")?;
    let mounted = Mounted::in_home(&home, Manners::of_locks(Locks::Hang))?;
    let mut command = home.bare("flock");
    command.arg("--nonblock").arg(mounted.path().join("file")).arg("true");
    let mut caller = Background::spawn(command);
    wait_until_true(SOON, "the call hangs", || mounted.hanging() == 1);
    caller.signal(Signal::KILL);
    crate::support::stays_true(Duration::from_millis(300), "it is still there", || caller.ended().is_none());
    mounted.let_go();
    assert_eq!(caller.finish(SOON).signal, Some(9));
    Ok(())
}

fn a_refused_lock_is_told_with_the_reason_of_the_system() -> Result<(), Skip> {
    for (number, said) in [(libc::ENOLCK, "No locks available"), (libc::ENOSYS, "Function not implemented")] {
        let home = TestHome::new();
        let mounted = Mounted::in_home(&home, Manners::of_locks(Locks::Refuse(number)))?;
        let answer = finish(self_test(&home, mounted.path())).expect_code(1);
        assert!(answer.stdout.contains(&format!("cannot lock a file here: {said}")), "{answer:?}");
        assert!(answer.stdout.contains("--runtime-dir"), "{answer:?}");
    }
    Ok(())
}

fn locks_that_misbehave_in_other_ways_are_found() -> Result<(), Skip> {
    for (locks, expected) in [
        (Locks::Refuse(libc::EAGAIN), "always-busy"),
        (Locks::Forever, "outlives"),
        (Locks::NoRecords, "no-mark"),
    ] {
        let home = TestHome::new();
        let mounted = Mounted::in_home(&home, Manners::of_locks(locks))?;
        let directory = mounted.path().to_str().unwrap();
        // Whether a lock outlives its holder is only known after a while.
        let answer =
            home.ask(&["storm", "--self-test", "--patience", "8s", "--json", "--dir", directory]).expect_code(1);
        assert_eq!(verdict(&answer), expected, "{answer:?}");
        assert_eq!(names_in(mounted.path()), Vec::<String>::new(), "{answer:?}");
    }
    Ok(())
}

fn a_directory_that_cannot_be_used_is_told() {
    let home = TestHome::new();
    let answer = finish(self_test(&home, &home.scratch().join("missing"))).expect_code(1);
    assert!(answer.stdout.contains("missing: cannot make a file here: No such file or directory"), "{answer:?}");
}

fn a_storm_does_not_begin_where_locks_do_not_hold() -> Result<(), Skip> {
    let home = TestHome::new();
    let mounted = Mounted::in_home(&home, Manners::of_locks(Locks::NoOp))?;
    let directory = mounted.path().to_str().unwrap();
    let answer = home.ask(&["storm", "--kind", "kernel", "--json", "--dir", directory]).expect_code(1);
    let storm = answer.json();
    assert_eq!((storm["verdict"].as_str(), storm["holds"].as_u64()), (Some("failed"), Some(0)));
    assert!(answer.stderr.contains("two processes hold the same one at once"), "{answer:?}");
    Ok(())
}

fn a_worker_that_not_even_a_kill_ends_is_left_and_told() -> Result<(), Skip> {
    let home = TestHome::new();
    crate::support::requires("flock")?;
    let mounted = Mounted::in_home(&home, Manners::of_locks(Locks::Hang))?;
    // The kind takes no lock of the kernel, but every second worker does, and is stuck in that.
    let peer = home.scratch().join("peer");
    std::fs::write(&peer, "#!/bin/sh\nexec flock \"$1\" true\n").unwrap();
    std::fs::set_permissions(&peer, std::fs::Permissions::from_mode(0o700)).unwrap();
    let (directory, peer) = (mounted.path().to_str().unwrap(), peer.to_str().unwrap());
    let arguments =
        ["storm", "--kind", "naive", "--workers", "4", "--peer", peer, "--patience", "1s", "--dir", directory];
    let answer = home.spawn(&arguments).finish(SOON * 2).expect_code(1);
    assert!(answer.stderr.contains("nobody has got the lock for 1s"), "{answer:?}");
    assert_eq!(answer.stderr.matches("it is stuck in the kernel").count(), 2, "{answer:?}");
    mounted.let_go();
    wait_until_true(SOON, "they have ended", || processes::naming(mounted.path()).is_empty());
    Ok(())
}

fn the_lock_of_a_home_is_refused_there_before_any_lock_call() -> Result<(), Skip> {
    let home = TestHome::new();
    let mounted = Mounted::in_home(&home, Manners::of_locks(Locks::Hang))?;
    let inside = mounted.path().join("home");
    let mut command = home.bare(*crate::support::home::PROGRAM);
    command.arg("--home").arg(&inside).arg("run");
    let answer = finish(command).expect_code(1);
    assert!(answer.stderr.contains("is on FUSE") && answer.stderr.contains("--runtime-dir"), "{answer:?}");
    assert!(answer.stderr.contains("storm --self-test --dir"), "it says how to find out: {answer:?}");
    assert_eq!(mounted.hanging(), 0);
    Ok(())
}

fn an_exchange_can_be_refused() -> Result<(), Skip> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    for (exchanges, expected) in [
        (Exchanges::Done, Ok(())),
        (Exchanges::Refuse(libc::EINVAL), Err(rustix::io::Errno::INVAL)),
    ] {
        let home = TestHome::new();
        let mounted = Mounted::in_home(&home, Manners { locks: Locks::Kernel, exchanges })?;
        let (one, other) = (mounted.path().join("one"), mounted.path().join("other"));
        std::fs::write(&one, "1").unwrap();
        std::fs::write(&other, "2").unwrap();
        assert_eq!(renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE), expected);
        let swapped = expected.is_ok();
        assert_eq!(std::fs::read_to_string(&one).unwrap(), if swapped { "2" } else { "1" });
        std::fs::rename(&one, &other).unwrap();
        assert_eq!(names_in(mounted.path()), ["other"]);
    }
    Ok(())
}
