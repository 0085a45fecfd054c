//! Storms over the family of locks, in their short form: `scripts/soak locks` lets the long ones blow.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use fm_watch::storm::plan::Protocol;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::background::LEAVES_WITHIN;
use crate::support::home::PROGRAM;
use crate::support::{Answer, Background, SOON, TestHome, processes, wait_until, wait_until_true};

cases! {
    no_two_hold_at_once_of_any_kind_that_promises_it,
    a_check_before_a_write_is_seen_to_overlap,
    a_break_by_unlink_is_seen_to_overlap,
    a_break_by_unlink_without_deaths_proves_nothing_and_says_so,
    a_peer_that_keeps_the_protocol_takes_its_turns,
    a_peer_that_ignores_the_lock_is_seen_to_overlap,
    what_a_peer_says_must_make_sense,
    a_worker_that_fails_ends_the_storm_with_its_error,
    #[cfg(feature = "sync-points")]
    a_lock_that_fails_ends_the_storm_with_its_error,
    a_storm_in_which_nobody_gets_on_ends_and_says_what_each_waits_for,
    a_storm_with_a_stopped_worker_ends,
    a_killed_coordinator_leaves_nobody_behind,
    #[cfg(feature = "sync-points")]
    without_their_bond_peers_outlive_the_coordinator,
    an_interrupted_storm_prints_what_it_has_seen,
    a_terminated_storm_leaves_nobody_and_nothing_behind,
    a_command_line_without_sense_is_a_usage_error,
    a_directory_that_is_not_there_is_told,
}

/// How long a short storm may take on a busy machine.
const BLOWS_AT_MOST: Duration = Duration::from_secs(120);

/// Where the storms of a test blow. What they leave there is what they should not have left.
fn field(home: &TestHome) -> PathBuf {
    let field = home.scratch().join("field");
    crate::support::home::make_private(&field);
    field
}

fn spawn(home: &TestHome, arguments: &[&str]) -> Background {
    let field = field(home);
    let mut all = vec!["storm", "--dir", field.to_str().unwrap()];
    all.extend(arguments);
    home.spawn(&all)
}

#[track_caller]
fn storm(home: &TestHome, arguments: &[&str]) -> Answer {
    spawn(home, arguments).finish(BLOWS_AT_MOST)
}

/// The objects in an answer of `--json`.
#[track_caller]
fn objects(answer: &Answer) -> Vec<Value> {
    let object = |line: &str| -> Value {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {answer:?}"));
        assert_eq!(object["schema"], 1, "{line}");
        object
    };
    answer.stdout.lines().map(object).collect()
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).unwrap().next().is_none()
}

/// A program of somebody else: a shell script that gets the path and the number of rounds.
fn peer(home: &TestHome, script: &str) -> String {
    let path = home.scratch().join("peer");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A script that is a worker of this kind.
fn worker_of(kind: &str) -> String {
    format!("exec {} storm-worker --kind {kind} --rounds \"$2\" --seed 1 --silence 5s -- \"$1\"", *PROGRAM)
}

fn no_two_hold_at_once_of_any_kind_that_promises_it() {
    let home = TestHome::new();
    let answer = storm(&home, &["--workers", "8", "--rounds", "40", "--kill", "5ms", "--json"]).expect_code(0);
    let storms = objects(&answer);
    let kinds: Vec<_> = storms.iter().map(|storm| storm["kind"].as_str().unwrap().to_owned()).collect();
    let promising: Vec<_> = Protocol::promising().iter().map(ToString::to_string).collect();
    assert_eq!(kinds, promising);
    for storm in &storms {
        assert_eq!((&storm["verdict"], &storm["overlaps"]), (&"excluded".into(), &0.into()), "{storm}");
        assert_eq!(storm["holds"], 8 * 40, "also those of killed workers: {storm}");
        assert!(storm["kills"].as_u64().unwrap() > 0 && storm["failures"] == serde_json::json!([]), "{storm}");
        assert!(storm["p50_wait_ns"].as_u64() <= storm["p99_wait_ns"].as_u64(), "{storm}");
        assert!(storm["p99_wait_ns"].as_u64() <= storm["longest_wait_ns"].as_u64(), "{storm}");
    }
    assert!(is_empty(&field(&home)), "nothing is left");
}

fn a_check_before_a_write_is_seen_to_overlap() {
    let home = TestHome::new();
    let answer = storm(&home, &["--kind", "naive"]).expect_code(0);
    assert!(answer.stdout.contains("overlaps, as expected"), "{answer:?}");
    let pairs: Vec<_> = answer.stdout.lines().filter(|line| line.starts_with("naive: pid ")).collect();
    assert!(!pairs.is_empty() && pairs.iter().all(|line| line.contains(" held from ")), "{answer:?}");
    assert!(answer.stderr.is_empty() && is_empty(&field(&home)), "{answer:?}");
}

fn a_break_by_unlink_is_seen_to_overlap() {
    let home = TestHome::new();
    // Two must judge the same dead holder at the same instant; it is a matter of chance how soon.
    let seen = (1..=10).any(|_| {
        let answer =
            storm(&home, &["--kind", "unlink", "--workers", "32", "--rounds", "100", "--kill", "4ms", "--json"]);
        let storm = &objects(&answer.expect_code(0))[0];
        let is_seen = storm["verdict"] == "overlapped-as-expected";
        assert!(!is_seen || storm["kills_of_holders"].as_u64().unwrap() > 0, "{storm}");
        is_seen
    });
    assert!(seen, "ten storms could not break it");
}

fn a_break_by_unlink_without_deaths_proves_nothing_and_says_so() {
    let home = TestHome::new();
    let answer = storm(&home, &["--kind", "unlink", "--workers", "4", "--rounds", "10"]).expect_code(0);
    assert!(answer.stdout.contains("none seen: this run proves nothing"), "{answer:?}");
}

fn a_peer_that_keeps_the_protocol_takes_its_turns() {
    let home = TestHome::new();
    let peer = peer(&home, &worker_of("kernel"));
    let arguments =
        ["--kind", "kernel", "--peer", &peer, "--workers", "6", "--rounds", "30", "--kill", "5ms", "--json"];
    let answer = storm(&home, &arguments).expect_code(0);
    let storm = &objects(&answer)[0];
    assert_eq!((&storm["verdict"], &storm["peers"], &storm["holds"]), (&"excluded".into(), &3.into(), &180.into()));
}

/// The twin: among workers that keep a lock's promise are some that do not know of it, and that is seen.
fn a_peer_that_ignores_the_lock_is_seen_to_overlap() {
    let home = TestHome::new();
    let peer = peer(&home, &worker_of("naive"));
    let answer = storm(&home, &["--kind", "kernel", "--peer", &peer, "--workers", "8", "--rounds", "40"]);
    let answer = answer.expect_code(1);
    assert!(answer.stdout.contains("OVERLAPS: this lock does not exclude"), "{answer:?}");
    assert!(answer.stdout.lines().any(|line| line.starts_with("kernel: pid ")), "{answer:?}");
    assert!(!is_empty(&field(&home)), "where it was found stays to be looked at");
    assert!(answer.stderr.contains(field(&home).to_str().unwrap()), "and its path is said: {answer:?}");
}

fn what_a_peer_says_must_make_sense() {
    for (script, said) in [
        ("echo hello; exec sleep 1000", "said \"hello\", which is none of"),
        ("echo 'try 1'; exec sleep 1000", "no time of CLOCK_MONOTONIC"),
        ("echo 'begin 1'; exec sleep 1000", "said `begin 1` while it was not trying"),
        ("exit 0", "ended 20 holds too early, of 20"),
        ("echo no such thing >&2; exit 3", "no such thing"),
        ("exec >&-; exec sleep 1000", "has closed its output and goes on"),
    ] {
        let home = TestHome::new();
        let peer = peer(&home, script);
        let answer = storm(&home, &["--kind", "kernel", "--peer", &peer, "--workers", "2", "--rounds", "20"]);
        let answer = answer.expect_code(1);
        assert!(answer.stdout.contains("FAILED") && answer.stderr.contains(said), "{said}: {answer:?}");
    }
}

/// The workers of a storm that blows in this home.
fn workers(home: &TestHome) -> Vec<u32> {
    let field = field(home);
    let all = processes::naming(&field).into_iter();
    all.filter(|(_, line)| line.contains("storm-worker")).map(|(pid, _)| pid).collect()
}

/// Starts a storm that would go on for ever, and waits until all workers are there.
#[track_caller]
fn long_storm(home: &TestHome, arguments: &[&str]) -> Background {
    let mut all = vec!["--kind", "kernel", "--workers", "8", "--rounds", "1000000"];
    all.extend(arguments);
    let storm = spawn(home, &all);
    wait_until_true(SOON, "all workers are there", || workers(home).len() == 8);
    storm
}

fn a_worker_that_fails_ends_the_storm_with_its_error() {
    let home = TestHome::new();
    let storm = long_storm(&home, &[]);
    let victim = workers(&home)[3];
    assert!(processes::signal_if_naming(victim, home.scratch(), Signal::TERM));
    let answer = storm.finish(SOON).expect_code(1);
    assert!(answer.stderr.contains(&format!("pid {victim} failed (signal: 15")), "{answer:?}");
    assert_eq!(workers(&home), Vec::<u32>::new());
}

#[cfg(feature = "sync-points")]
fn a_lock_that_fails_ends_the_storm_with_its_error() {
    let home = TestHome::new();
    let field = field(&home);
    let mut command = home.command(&["storm", "--kind", "kernel", "--dir", field.to_str().unwrap()]);
    command.env("FM_WATCH_SYNC", format!("KernelOpened=error:{}", libc::ENOLCK));
    let answer = crate::support::home::finish(command).expect_code(1);
    assert!(answer.stderr.contains("No locks available"), "{answer:?}");
}

fn a_storm_in_which_nobody_gets_on_ends_and_says_what_each_waits_for() {
    let home = TestHome::new();
    // It takes the lock and says nothing.
    let peer = peer(&home, "exec 9>>\"$1\"; flock 9; exec sleep 1000");
    let storm =
        ["--kind", "kernel", "--peer", &peer, "--workers", "4", "--rounds", "1000000", "--patience", "3s", "--json"];
    let answer = self::storm(&home, &storm).expect_code(1);
    assert_eq!(objects(&answer)[0]["verdict"], "failed", "{answer:?}");
    for said in ["nobody has got the lock for 3s", "has been trying for", "does not try; it was started"] {
        assert!(answer.stderr.contains(said), "{said}: {answer:?}");
    }
    assert!(answer.stderr.contains("waits for the lock, which is held by "), "{answer:?}");
    assert!(answer.took < BLOWS_AT_MOST / 2, "{answer:?}");
}

fn a_storm_with_a_stopped_worker_ends() {
    let home = TestHome::new();
    let storm = spawn(&home, &["--kind", "kernel", "--workers", "4", "--rounds", "300", "--patience", "2s"]);
    let victim = wait_until(SOON, "a worker is there", || workers(&home).first().copied());
    assert!(processes::signal_if_naming(victim, home.scratch(), Signal::STOP));
    let answer = storm.finish(BLOWS_AT_MOST).expect_code(1);
    assert!(answer.stderr.contains("nobody has got the lock for 2s"), "{answer:?}");
    assert!(answer.stderr.contains(&format!("pid {victim} ")), "{answer:?}");
    assert_eq!(workers(&home), Vec::<u32>::new(), "also the stopped one is gone");
}

/// A storm of four workers and four peers that do nothing but live.
fn storm_with_silent_peers(home: &TestHome) -> std::process::Command {
    // Nobody ever writes to it.
    let fifo = home.scratch().join("peer.fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let peer = peer(home, "read -r line < \"$0.fifo\"");
    let field = field(home);
    let arguments = ["storm", "--kind", "kernel", "--workers", "8", "--rounds", "1000000", "--peer", &peer, "--dir"];
    let mut command = home.command(&arguments);
    command.arg(field);
    command
}

fn silent_peers(home: &TestHome) -> Vec<u32> {
    let all = processes::naming(home.scratch()).into_iter();
    all.filter(|(_, line)| line.starts_with("/bin/sh /")).map(|(pid, _)| pid).collect()
}

#[track_caller]
fn kill_when_all_are_there(storm: Background, home: &TestHome) {
    wait_until_true(SOON, "all are there", || (workers(home).len(), silent_peers(home).len()) == (4, 4));
    storm.signal(Signal::KILL);
    assert_eq!(storm.finish(SOON).signal, Some(9));
}

fn a_killed_coordinator_leaves_nobody_behind() {
    let home = TestHome::new();
    kill_when_all_are_there(Background::spawn(storm_with_silent_peers(&home)), &home);
    wait_until_true(SOON, "nobody is left", || processes::naming(home.scratch()).is_empty());
}

/// The twin.
#[cfg(feature = "sync-points")]
fn without_their_bond_peers_outlive_the_coordinator() {
    let home = TestHome::new();
    let mut command = storm_with_silent_peers(&home);
    crate::support::sync::without(&mut command, &["StormBound"]);
    kill_when_all_are_there(Background::spawn(command), &home);
    wait_until_true(SOON, "workers see that nobody listens", || workers(&home).is_empty());
    assert_eq!(silent_peers(&home).len(), 4);
    for peer in silent_peers(&home) {
        assert!(processes::signal_if_naming(peer, home.scratch(), Signal::KILL));
    }
    wait_until_true(SOON, "nobody is left", || processes::naming(home.scratch()).is_empty());
}

fn an_interrupted_storm_prints_what_it_has_seen() {
    let home = TestHome::new();
    let storm = long_storm(&home, &[]);
    storm.signal(Signal::INT);
    let answer = storm.finish(LEAVES_WITHIN * 3).expect_code(130);
    assert!(answer.stdout.contains("interrupted, no overlap so far"), "{answer:?}");
    assert!(workers(&home).is_empty() && is_empty(&field(&home)), "{answer:?}");
}

fn a_terminated_storm_leaves_nobody_and_nothing_behind() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129)] {
        let home = TestHome::new();
        let storm = long_storm(&home, &["--json"]);
        storm.signal(signal);
        let answer = storm.finish(LEAVES_WITHIN * 3).expect_code(code);
        assert_eq!(objects(&answer)[0]["verdict"], "interrupted");
        assert!(workers(&home).is_empty() && is_empty(&field(&home)), "{answer:?}");
    }
}

fn a_command_line_without_sense_is_a_usage_error() {
    let home = TestHome::new();
    let names: Vec<_> = Protocol::value_variants().iter().map(ToString::to_string).collect();
    let answer = storm(&home, &["--kind", "nonsense"]).expect_code(2);
    assert!(names.iter().all(|name| answer.stderr.contains(name)), "it names all kinds: {answer:?}");
    for arguments in [&["--workers", "1"][..], &["--rounds", "0"], &["--kill", "0s"], &["--self-test", "--kill"]] {
        let answer = storm(&home, arguments).expect_code(2);
        assert!(answer.stdout.is_empty() && !answer.stderr.is_empty(), "{answer:?}");
    }
    assert!(is_empty(&field(&home)));
}

fn a_directory_that_is_not_there_is_told() {
    let home = TestHome::new();
    let missing = home.scratch().join("missing");
    let answer = home.ask(&["storm", "--kind", "naive", "--dir", missing.to_str().unwrap()]).expect_code(1);
    assert!(answer.stderr.contains(missing.to_str().unwrap()) && answer.stdout.is_empty(), "{answer:?}");
}
