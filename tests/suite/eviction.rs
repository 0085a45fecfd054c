//! A holder that no longer owns its home stops all side effects, says why, and leaves the survivor's files alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::background::wait_for_state;
#[cfg(feature = "sync-points")]
use crate::support::home::finish;
#[cfg(feature = "sync-points")]
use crate::support::processes;
#[cfg(feature = "sync-points")]
use crate::support::sync::{Points, without};
use crate::support::{Answer, Background, SOON, TestHome, stays_true, wait_until_true};

cases! {
    a_holder_whose_record_names_a_later_holder_leaves_and_touches_nothing,
    a_holder_whose_generation_was_passed_leaves,
    a_holder_whose_lock_file_was_removed_leaves,
    a_holder_whose_lock_file_was_replaced_leaves,
    a_holder_whose_state_directory_was_moved_away_leaves,
    a_holder_whose_state_directory_was_replaced_leaves_the_new_one_alone,
    a_removed_home_is_not_made_again,
    a_removed_state_directory_is_not_made_again,
    a_holder_that_was_passed_while_it_was_stopped_announces_nothing,
    #[cfg(feature = "sync-points")]
    without_eviction_a_passed_holder_stays,
    #[cfg(feature = "sync-points")]
    without_eviction_a_passed_holder_announces_what_is_no_longer_its_own,
    #[cfg(feature = "sync-points")]
    a_late_append_of_a_passed_holder_is_still_delivered,
}

/// How long a holder may take to notice: a poll, and some time for a busy machine.
const NOTICES_WITHIN: Duration = Duration::from_secs(5);

/// A watcher that has gone round more than once, so that what it writes at its start is written.
fn settled_watcher(home: &TestHome) -> Background {
    let watcher = home.watcher();
    wait_until_true(SOON, "it has gone round", || home.beat().is_some_and(|beat| beat["counter"].as_u64() >= Some(2)));
    watcher
}

/// Stops a watcher when it is not in the middle of writing anything.
fn stop_at_rest(home: &TestHome, watcher: &Background) {
    wait_until_true(SOON, "it is stopped at rest", || {
        watcher.signal(Signal::STOP);
        wait_for_state(watcher.pid(), "T");
        let files = tree(&home.state());
        let is_unfinished = files.keys().any(|path| path.extension().is_some_and(|extension| extension == "tmp"));
        if is_unfinished {
            watcher.signal(Signal::CONT);
        }
        !is_unfinished
    });
}

/// All files of a tree, with their content.
fn tree(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else if entry.file_type().unwrap().is_file() {
                files.insert(entry.path(), fs::read(entry.path()).unwrap_or_default());
            }
        }
    }
    files
}

/// The record of a later holder that lives: this test itself.
fn survivors_record(home: &TestHome) -> Value {
    let mut record = home.owner().unwrap();
    record["generation"] = (record["generation"].as_u64().unwrap() + 1).into();
    record["nonce"] = "00112233445566778899aabbccddeeff".into();
    record["pid"] = std::process::id().into();
    record
}

fn put(home: &TestHome, name: &str, content: &str) {
    let new = home.watch(&format!("new-{name}"));
    fs::write(&new, content).unwrap();
    fs::rename(new, home.watch(name)).unwrap();
}

/// It exits 0 with one line on stderr that contains this.
#[track_caller]
fn leaves(watcher: Background, saying: &str) -> Answer {
    let answer = watcher.finish(NOTICES_WITHIN).expect_code(0);
    assert_eq!(answer.stderr.lines().count(), 1, "one line: {answer:?}");
    assert!(answer.stderr.contains("leaving") && answer.stderr.contains(saying), "{saying:?} in {answer:?}");
    assert_eq!(answer.stdout, "", "{answer:?}");
    answer
}

#[track_caller]
fn history_says_evicted(home: &TestHome, pid: u32) {
    let history = home.history();
    let life = history.last().unwrap_or_else(|| panic!("no history"));
    assert_eq!(life["pid"], pid, "{history:?}");
    assert!(life["how"].as_str().unwrap().starts_with("evicted"), "{history:?}");
}

fn a_holder_whose_record_names_a_later_holder_leaves_and_touches_nothing() {
    let home = TestHome::new();
    let watcher = settled_watcher(&home);
    let pid = watcher.pid();
    stop_at_rest(&home, &watcher);
    let record = survivors_record(&home);
    put(&home, "owner.json", &record.to_string());
    put(&home, "generation", &format!("{}\n", record["generation"]));
    put(&home, "beat.json", "{\"theirs\":true}");
    let before = tree(&home.state());
    watcher.signal(Signal::CONT);
    leaves(watcher, &format!("pid {} took over", std::process::id()));
    history_says_evicted(&home, pid);
    let mut after = tree(&home.state());
    let mut before = before;
    for own in ["history.jsonl", "log/watch.log"] {
        before.remove(&home.watch(own));
        after.remove(&home.watch(own));
    }
    assert_eq!(before, after, "nothing but its line in the history and its log has changed");
}

fn a_holder_whose_generation_was_passed_leaves() {
    let home = TestHome::new();
    let watcher = settled_watcher(&home);
    let pid = watcher.pid();
    put(&home, "generation", "7\n");
    leaves(watcher, "generation 7");
    history_says_evicted(&home, pid);
    assert_eq!(fs::read_to_string(home.watch("generation")).unwrap(), "7\n");
    let next = home.watcher();
    assert_eq!(home.owner().unwrap()["generation"], 8);
    drop(next);
}

fn a_holder_whose_lock_file_was_removed_leaves() {
    let home = TestHome::new();
    let watcher = settled_watcher(&home);
    let pid = watcher.pid();
    fs::remove_file(home.watch("lock")).unwrap();
    leaves(watcher, "lock file was removed");
    history_says_evicted(&home, pid);
    home.watcher();
}

fn a_holder_whose_lock_file_was_replaced_leaves() {
    let home = TestHome::new();
    let watcher = settled_watcher(&home);
    let pid = watcher.pid();
    put(&home, "lock", "");
    leaves(watcher, "lock file was replaced");
    history_says_evicted(&home, pid);
    home.watcher();
}

fn a_holder_whose_state_directory_was_moved_away_leaves() {
    let home = TestHome::new();
    let watcher = settled_watcher(&home);
    fs::rename(home.state(), home.root().join("moved")).unwrap();
    leaves(watcher, "gone");
    assert!(!home.state().exists());
}

fn a_holder_whose_state_directory_was_replaced_leaves_the_new_one_alone() {
    let home = TestHome::new();
    let watcher = settled_watcher(&home);
    stop_at_rest(&home, &watcher);
    fs::rename(home.state(), home.root().join("moved")).unwrap();
    let survivor = home.watcher();
    let generation = home.owner().unwrap()["generation"].clone();
    watcher.signal(Signal::CONT);
    leaves(watcher, "state directory was replaced");
    assert_eq!(home.pid(), Some(survivor.pid()));
    assert_eq!(home.owner().unwrap()["generation"], generation);
    assert_eq!(home.verdict(), "ok");
    assert!(home.history().is_empty(), "the line of the old life is not in the new home");
}

/// Asserts that a directory stays away for longer than several polls.
fn stays_away(directory: &Path) {
    stays_true(Duration::from_secs(1), "the directory stays removed", || !directory.exists());
}

fn a_removed_home_is_not_made_again() {
    let home = TestHome::new();
    let watcher = settled_watcher(&home);
    stop_at_rest(&home, &watcher);
    fs::remove_dir_all(home.root()).unwrap();
    watcher.signal(Signal::CONT);
    // It may have been stopped in the middle of looking; then it misses the first thing that is gone.
    leaves(watcher, "");
    stays_away(&home.root());
}

fn a_removed_state_directory_is_not_made_again() {
    let home = TestHome::new();
    for round in 0..5 {
        let watcher = settled_watcher(&home);
        // The watcher may be in the middle of a write, and may notice in the middle of the removal.
        wait_until_true(SOON, "the state directory is removed", || {
            fs::remove_dir_all(home.state()).is_ok() || !home.state().exists()
        });
        let answer = watcher.finish(NOTICES_WITHIN).expect_code(0);
        assert!(answer.stderr.contains("leaving"), "{answer:?}");
        assert!(!home.state().exists(), "round {round}");
    }
    stays_away(&home.state());
}

/// A status is written, and another takes over, while the holder is stopped; then it goes on.
fn passed_with_a_status_pending(home: &TestHome, watcher: &Background) {
    stop_at_rest(home, watcher);
    home.write_status("task", "done\n");
    let record = survivors_record(home);
    put(home, "owner.json", &record.to_string());
    put(home, "generation", &format!("{}\n", record["generation"]));
    watcher.signal(Signal::CONT);
}

fn a_holder_that_was_passed_while_it_was_stopped_announces_nothing() {
    let home = TestHome::new();
    let watcher = settled_watcher(&home);
    passed_with_a_status_pending(&home, &watcher);
    leaves(watcher, "took over");
    let drained = home.ask(&["drain"]).expect_code(0);
    assert_eq!(drained.stdout, "", "the survivor will announce it");
    // And so it does.
    let _next = home.watcher();
    let reason = home.ask(&["wait", "--timeout", "20"]).expect_code(0);
    assert!(reason.stdout.starts_with("signal: "), "{reason:?}");
}

#[cfg(feature = "sync-points")]
fn watcher_without(home: &TestHome, protections: &[&str]) -> Background {
    let mut command = home.command(&["run"]);
    without(&mut command, protections);
    let watcher = Background::spawn(command);
    home.wait_until_watched_by(watcher.pid());
    wait_until_true(SOON, "it has gone round", || home.beat().is_some_and(|beat| beat["counter"].as_u64() >= Some(2)));
    watcher
}

#[cfg(feature = "sync-points")]
fn without_eviction_a_passed_holder_stays() {
    let home = TestHome::new();
    let watcher = watcher_without(&home, &["HoldingEviction"]);
    let record = survivors_record(&home);
    put(&home, "owner.json", &record.to_string());
    put(&home, "beat.json", "{\"theirs\":true}");
    wait_until_true(SOON, "it writes over the survivor's beat", || {
        home.beat().is_some_and(|beat| beat["pid"] == watcher.pid())
    });
    assert!(processes::is_alive(watcher.pid()));
}

#[cfg(feature = "sync-points")]
fn without_eviction_a_passed_holder_announces_what_is_no_longer_its_own() {
    let home = TestHome::new();
    let watcher = watcher_without(&home, &["HoldingEviction"]);
    passed_with_a_status_pending(&home, &watcher);
    wait_until_true(SOON, "it announces the status", || home.ask(&["drain"]).expect_code(0).stdout.contains("signal"));
}

/// The holder is about to append a wake, is passed, and then goes on: its wake lands in its own generation and is
/// delivered.
#[cfg(feature = "sync-points")]
fn a_late_append_of_a_passed_holder_is_still_delivered() {
    let home = TestHome::new();
    let points = Points::new(&home, "append");
    let mut command = home.command(&["run"]);
    points.pause(&mut command, &["JournalLocked"]);
    let watcher = Background::spawn(command);
    home.wait_until_watched_by(watcher.pid());
    home.write_status("task", "done\n");
    points.wait_until_reached("JournalLocked");
    let record = survivors_record(&home);
    put(&home, "owner.json", &record.to_string());
    put(&home, "generation", &format!("{}\n", record["generation"]));
    points.go("JournalLocked");
    leaves(watcher, "took over");
    let drained = finish(home.command(&["drain"])).expect_code(0);
    assert!(drained.stdout.contains("task.status"), "{drained:?}");
}
