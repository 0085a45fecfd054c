//! Signals: what changed is announced once, with what is new in it, however it changed and whoever watched.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::background::wait_for_state;
use crate::support::{Background, SOON, TestHome, stays_true, wait_until_true};

cases! {
    what_was_written_while_nobody_watched_is_found_by_the_next_watcher,
    what_was_announced_is_not_announced_again_by_the_next_watcher,
    a_wake_carries_only_what_is_new,
    a_rewritten_file_is_carried_whole_and_a_long_addition_is_capped,
    a_rewrite_of_the_same_size_within_one_tick_is_seen,
    a_file_that_was_removed_and_made_again_is_announced_again,
    a_task_whose_status_and_turn_end_are_both_there_does_not_linger,
    a_task_without_its_turn_end_lingers_for_the_grace_and_gathers_others,
    a_batch_waits_for_the_turn_end_of_every_task_in_it,
    spaces_and_odd_names_stay_one_word_of_one_line,
    what_is_no_regular_file_is_no_signal_and_blocks_nobody,
    ten_thousand_files_are_all_announced,
    a_watcher_killed_at_once_after_an_append_neither_loses_nor_repeats_what_was_acknowledged,
    a_damaged_checkpoint_announces_again_and_hides_nothing,
}

fn context(wake: &Value) -> &str {
    wake["context"].as_str().unwrap_or_default()
}

/// Ends a watcher as a person would.
#[track_caller]
fn leave(watcher: Background) {
    watcher.signal(Signal::TERM);
    watcher.finish(SOON).expect_code(0);
}

/// Waits until every pending wake is there, then acknowledges all of them.
#[track_caller]
fn consume(home: &TestHome, keys: &[&str]) {
    for key in keys {
        home.wait_for_wake("signal", key);
    }
    home.ask(&["drain", "--consume"]).expect_code(0);
}

fn what_was_written_while_nobody_watched_is_found_by_the_next_watcher() {
    let home = TestHome::new();
    home.write_status("first", "one\n");
    let watcher = home.watcher();
    assert_eq!(context(&home.wait_for_wake("signal", "first.status")), "one\n");
    leave(watcher);
    home.ask(&["drain", "--consume"]).expect_code(0);

    home.write_status("first", "two\n");
    home.write_status("second", "new\n");
    let killed = home.watcher();
    // Only what came since it was announced.
    home.wait_for_context("first.status", "two\n");
    home.wait_for_wake("signal", "second.status");
    home.kill(killed.pid());
    drop(killed);
    home.ask(&["drain", "--consume"]).expect_code(0);

    home.write_status("first", "three\n");
    let _watcher = home.watcher();
    home.wait_for_context("first.status", "three\n");
    assert_eq!(home.pending_keys(), ["first.status"]);
}

fn what_was_announced_is_not_announced_again_by_the_next_watcher() {
    let home = TestHome::new();
    home.write_status("task", "done\n");
    fs::write(home.state().join("task.turn-ended"), "").unwrap();
    let watcher = home.watcher();
    consume(&home, &["task.status", "task.turn-ended"]);
    leave(watcher);
    for _ in 0..2 {
        let watcher = home.watcher();
        home.write_status("later", "x");
        home.wait_for_wake("signal", "later.status");
        assert_eq!(home.pending_keys(), ["later.status"], "each start scans everything, and announces nothing twice");
        home.ask(&["drain", "--consume"]).expect_code(0);
        home.kill(watcher.pid());
        drop(watcher);
    }
}

fn a_wake_carries_only_what_is_new() {
    let home = TestHome::new();
    let _watcher = home.watcher();
    for number in 0..5 {
        let text = format!("line {number}: äöü 🦀\n");
        if number == 0 {
            home.put_status("task", &text);
        } else {
            home.write_status("task", &text);
        }
        let seq = home.wait_for_context("task.status", &text);
        let reason = &home.drain().pop().unwrap().text;
        assert_eq!(reason, &format!("signal: {}", home.state().join("task.status").display()));
        home.ack(seq);
    }
    fs::write(home.state().join("task.turn-ended"), "never read").unwrap();
    let wake = home.wait_for_wake("signal", "task.turn-ended");
    assert_eq!(wake["context"], Value::Null, "the end of a turn has no text");
}

fn a_rewritten_file_is_carried_whole_and_a_long_addition_is_capped() {
    let home = TestHome::with(&["context_max=1KiB"]);
    let _watcher = home.watcher();
    home.write_status("task", "a long first line\n");
    consume(&home, &["task.status"]);
    // A rewrite in place is two steps, so its first half may be told of, too.
    fs::write(home.state().join("task.status"), "short\n").unwrap();
    home.wait_for_context("task.status", "short\n");
    home.ask(&["drain", "--consume"]).expect_code(0);

    let long = format!("beginning {} end\n", "é".repeat(4000));
    home.write_status("task", &long);
    let wake = home.wait_for_wake("signal", "task.status");
    let carried = context(&wake);
    assert!(carried.len() <= 1024 && carried.ends_with("é end\n"), "the newest end of it: {carried:?}");
    assert!(!carried.contains('\u{fffd}'), "no character is cut in half: {carried:?}");
}

/// The clock that stamps files ticks every few milliseconds, so a rewrite can leave size, time and inode as they were.
fn a_rewrite_of_the_same_size_within_one_tick_is_seen() {
    /// Within this time of its modification a file may still change unseen.
    const TICK: Duration = Duration::from_millis(50);
    let home = TestHome::new();
    let watcher = home.watcher();
    let path = home.state().join("task.status");
    let mut seen = 0;
    for round in 0..50 {
        let text = |word: &str| format!("{word} {round}\n");
        let is_recorded = |text: &str| {
            let text = text.trim();
            home.segments().iter().any(|segment| fs::read_to_string(segment).unwrap().contains(text))
        };
        home.put_status("task", &text("one"));
        wait_until_true(SOON, "the file is announced", || is_recorded(&text("one")));
        watcher.signal(Signal::STOP);
        wait_for_state(watcher.pid(), "T");
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let announced = file.metadata().unwrap().modified().unwrap();
        let is_within_a_tick = announced.elapsed().is_ok_and(|age| age < TICK);
        file.write_all_at(text("two").as_bytes(), 0).unwrap();
        if is_within_a_tick {
            // As the clock would have it, had it not ticked.
            file.set_modified(announced).unwrap();
            seen += 1;
        }
        drop(file);
        watcher.signal(Signal::CONT);
        home.wait_for_context("task.status", &text("two"));
        home.ask(&["drain", "--consume"]).expect_code(0);
        if seen == 3 {
            return;
        }
    }
    panic!("this machine is too slow for a rewrite within {TICK:?}");
}

fn a_file_that_was_removed_and_made_again_is_announced_again() {
    let home = TestHome::new();
    let _watcher = home.watcher();
    let path = home.state().join("task.status");
    for round in 0..3 {
        home.put_status("task", "the very same text\n");
        let wake = home.wait_for_wake("signal", "task.status");
        assert_eq!(context(&wake), "the very same text\n", "round {round}");
        home.ask(&["drain", "--consume"]).expect_code(0);
        fs::remove_file(&path).unwrap();
        stays_true(Duration::from_millis(300), "a removal alone is no wake", || home.drain().is_empty());
    }
}

/// Starts `run --once`, waits until it watches, and does something.
fn once(home: &TestHome, act: impl FnOnce()) -> (Background, Instant) {
    let watcher = home.spawn(&["run", "--once"]);
    home.wait_until_watched_by(watcher.pid());
    let start = Instant::now();
    act();
    (watcher, start)
}

/// The base names of the files in a reason line.
fn named(line: &str) -> Vec<String> {
    let files = line.strip_prefix("signal: ").unwrap_or_else(|| panic!("{line:?}"));
    files.split(' ').map(|path| path.rsplit('/').next().unwrap().to_owned()).collect()
}

const LONG_GRACE: [&str; 1] = ["signal_grace=60s"];

fn a_task_whose_status_and_turn_end_are_both_there_does_not_linger() {
    let home = TestHome::with(&LONG_GRACE);
    let (watcher, _) = once(&home, || {
        home.write_status("task", "done\n");
        fs::write(home.state().join("task.turn-ended"), "").unwrap();
    });
    let answer = watcher.finish(SOON).expect_code(0);
    assert_eq!(answer.lines().len(), 1, "one line for the batch: {answer:?}");
    let mut files = named(answer.lines()[0]);
    files.sort();
    assert_eq!(files, ["task.status", "task.turn-ended"]);
}

fn a_task_without_its_turn_end_lingers_for_the_grace_and_gathers_others() {
    let home = TestHome::with(&["signal_grace=2s"]);
    let (watcher, start) = once(&home, || home.write_status("first", "done\n"));
    wait_until_true(SOON, "half of the grace is over", || start.elapsed() > Duration::from_secs(1));
    home.write_status("second", "done\n");
    let answer = watcher.finish(SOON).expect_code(0);
    assert!(start.elapsed() >= Duration::from_millis(1900), "it left after only {:?}", start.elapsed());
    assert_eq!(answer.lines().len(), 1, "{answer:?}");
    assert_eq!(named(answer.lines()[0]), ["first.status", "second.status"], "in the order in which they came");
}

fn a_batch_waits_for_the_turn_end_of_every_task_in_it() {
    let home = TestHome::with(&LONG_GRACE);
    let (mut watcher, _) = once(&home, || {
        home.write_status("first", "done\n");
        home.write_status("second", "done\n");
        fs::write(home.state().join("first.turn-ended"), "").unwrap();
    });
    stays_true(Duration::from_secs(1), "it waits for the second task", || watcher.ended().is_none());
    fs::write(home.state().join("second.turn-ended"), "").unwrap();
    let answer = watcher.finish(SOON).expect_code(0);
    let files: BTreeSet<_> = named(answer.lines()[0]).into_iter().collect();
    assert_eq!(files.len(), 4, "{answer:?}");
}

fn spaces_and_odd_names_stay_one_word_of_one_line() {
    let home = TestHome::new();
    let names = ["two words", "tab\there", "new\nline", "-dash", "quo'te", "ünï", "\u{1b}[31mred", "a$(b)`c`"];
    for name in names {
        home.write_status(name, "done\n");
    }
    let watcher = home.watcher();
    wait_until_true(SOON, "all of them are told", || home.drain_json().len() == names.len());
    let keys: BTreeSet<_> = home.drain_json().iter().map(|wake| wake["key"].as_str().unwrap().to_owned()).collect();
    assert_eq!(keys, names.iter().map(|name| format!("{name}.status")).collect(), "JSON has the names as they are");
    for shown in home.drain() {
        let path = shown.text.strip_prefix("signal: ").unwrap();
        assert!(!path.contains([' ', '\n', '\t', '\u{1b}']), "{path:?} is more than one word");
    }
    home.ask(&["drain", "--consume"]).expect_code(0);
    home.write_status("two words", "more\n");
    assert_eq!(context(&home.wait_for_wake("signal", "two words.status")), "more\n");
    drop(watcher);
}

fn what_is_no_regular_file_is_no_signal_and_blocks_nobody() {
    let home = TestHome::new();
    home.make_state();
    let secret = home.scratch().join("secret");
    fs::write(&secret, "not for the journal").unwrap();
    std::os::unix::fs::symlink(&secret, home.state().join("link.status")).unwrap();
    fs::create_dir(home.state().join("directory.status")).unwrap();
    let fifo = home.state().join("fifo.status");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(home.state().join("socket.status")).unwrap();
    let _watcher = home.watcher();
    home.write_status("real", "done\n");
    home.wait_for_wake("signal", "real.status");
    stays_true(Duration::from_millis(600), "only the file is told", || home.pending_keys() == ["real.status"]);
    assert_eq!(home.status()["verdict"], "ok");
}

fn ten_thousand_files_are_all_announced() {
    const FILES: usize = 10_000;
    let home = TestHome::new();
    home.make_state();
    for number in 0..FILES {
        fs::write(home.state().join(format!("task-{number:05}.status")), format!("{number}\n")).unwrap();
    }
    let watcher = home.watcher();
    let minute = Duration::from_secs(60);
    wait_until_true(minute, "all are pending", || home.status()["wakes_pending"].as_u64() >= Some(FILES as u64));
    let wakes = home.drain_json();
    assert_eq!(wakes.len(), FILES);
    let whole =
        |wake: &Value| wake["key"] == format!("task-{:05}.status", context(wake).trim().parse::<usize>().unwrap());
    assert!(wakes.iter().all(whole));
    let last = wakes.iter().filter_map(|wake| wake["seq"].as_u64()).max().unwrap();
    home.ack(last);
    assert!(home.drain().is_empty());
    // One more of them is still quick, and the only one.
    home.write_status("task-07777", "more\n");
    assert_eq!(context(&home.wait_for_wake("signal", "task-07777.status")), "more\n");
    assert_eq!(home.pending_keys(), ["task-07777.status"]);
    home.wait_for_verdict("ok");
    drop(watcher);
}

fn a_watcher_killed_at_once_after_an_append_neither_loses_nor_repeats_what_was_acknowledged() {
    let home = TestHome::new();
    for round in 0..8 {
        let watcher = home.watcher();
        let key = format!("task-{round}.status");
        home.put_status(&format!("task-{round}"), "done\n");
        // The wake is on disk before any marker has moved there.
        let wake = home.wait_for_wake("signal", &key);
        home.kill(watcher.pid());
        drop(watcher);
        home.ack(wake["seq"].as_u64().unwrap());
        let next = home.watcher();
        home.write_status("probe", &format!("{round}\n"));
        home.wait_for_wake("signal", "probe.status");
        assert_eq!(home.pending_keys(), ["probe.status"], "round {round}: acknowledged wakes do not return");
        home.ask(&["drain", "--consume"]).expect_code(0);
        home.kill(next.pid());
        drop(next);
    }
}

fn a_damaged_checkpoint_announces_again_and_hides_nothing() {
    let home = TestHome::new();
    home.write_status("task", "done\n");
    leave({
        let watcher = home.watcher();
        consume(&home, &["task.status"]);
        watcher
    });
    let good = fs::read(home.watch("seen.json")).unwrap();
    let half = good[..good.len() / 2].to_vec();
    for (what, content) in [("torn", half), ("empty", Vec::new()), ("zeros", vec![0; 100]), ("a list", b"[1]".to_vec())]
    {
        fs::write(home.watch("seen.json"), content).unwrap();
        let watcher = home.watcher();
        home.write_status("probe", what);
        home.wait_for_wake("signal", "probe.status");
        let status = home.status();
        assert_eq!(status["verdict"], "ok", "{what}: {status}");
        home.ask(&["drain", "--consume"]).expect_code(0);
        leave(watcher);
    }
    // And without any: what is there is told at least once.
    fs::remove_file(home.watch("seen.json")).unwrap();
    for segment in home.segments() {
        fs::remove_file(segment).unwrap();
    }
    let watcher = home.watcher();
    home.wait_for_wake("signal", "task.status");
    watcher.signal(Signal::STOP);
    wait_for_state(watcher.pid(), "T");
}
