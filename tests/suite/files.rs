//! Files that are not what they should be: whatever stands in the place of one of ours, nothing is followed, nothing
//! blocks, and what can be mended is mended (Q24, and what a person could do to a home).

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::home::{copy_program, finish};
use crate::support::strace::{calls_in, killed_at, recorded, requires_strace};
use crate::support::{SOON, Skip, TestHome, requires_root, wait_until_true};

cases! {
    a_checkpoint_killed_at_any_call_is_old_or_new,
    links_in_the_place_of_our_files_are_never_followed,
    fifos_in_the_place_of_our_files_block_nobody,
    directories_in_the_place_of_our_files_are_told_or_worked_around,
    a_link_in_the_place_of_a_directory_of_ours_is_refused,
    what_it_writes_is_for_its_owner_only,
    a_state_directory_that_cannot_be_read_fails_clearly,
    a_watcher_whose_journal_was_removed_leaves_and_says_why,
}

/// The files of ours that are replaced or appended to, below `state/watch`.
const FILES: [&str; 6] =
    ["seen.json", "history.jsonl", "log/watch.log", "wakes/acknowledged.json", "wakes/presented.json", "episode.json"];

/// Does everything that writes one of [`FILES`].
fn work(home: &TestHome) {
    let watcher = home.watcher();
    home.write_status("task", "more\n");
    home.wait_for_wake("signal", "task.status");
    home.ask(&["drain"]);
    home.ask(&["drain", "--consume"]);
    home.ask(&["guard"]).expect_code(0);
    watcher.signal(Signal::TERM);
    let end = watcher.finish(Duration::from_secs(5));
    assert!(end.code.is_some() && !end.stderr.contains("panicked"), "{end:?}");
    home.ask(&["guard"]).expect_code(0);
}

/// A home in which everything was written once, with a task so that the guard has something to say.
fn used_home() -> TestHome {
    let home = TestHome::new();
    home.meta("task", &["kind=worker"]);
    work(&home);
    home
}

fn put(path: &Path, make: impl FnOnce(&Path)) {
    if fs::symlink_metadata(path).is_ok() {
        fs::remove_file(path).unwrap();
    }
    make(path);
}

/// Q24: `run --once` replaces `seen.json`, `owner.json`, `generation` and `beat.json`.
fn a_checkpoint_killed_at_any_call_is_old_or_new() -> Result<(), Skip> {
    let home = TestHome::new();
    requires_strace(&home)?;
    home.write_status("task", "0\n");
    finish(recorded(&home, "renameat,renameat2,rename,fsync,fdatasync", &["run", "--once"])).expect_code(0);
    let mut counts = std::collections::BTreeMap::new();
    for (thread, name, _) in calls_in(&home) {
        *counts.entry((name, thread)).or_insert(0_usize) += 1;
    }
    let mut most = std::collections::BTreeMap::new();
    for ((name, _), count) in counts {
        let entry = most.entry(name).or_insert(0);
        *entry = count.max(*entry);
    }
    assert!(most.values().sum::<usize>() >= 4, "{most:?}");
    for (name, count) in most {
        for number in 1..=count {
            let text = format!("{name} {number}\n");
            home.write_status("task", &text);
            finish(killed_at(&home, &name, number, &["run", "--once"]));
            for file in ["owner.json", "beat.json", "seen.json", "wakes/acknowledged.json", "wakes/presented.json"] {
                let Ok(content) = fs::read(home.watch(file)) else { continue };
                let whole = serde_json::from_slice::<serde_json::Value>(&content);
                assert!(whole.is_ok(), "killed at {text}{file} is {:?}", String::from_utf8_lossy(&content));
            }
            let generation = fs::read_to_string(home.watch("generation")).unwrap();
            assert!(generation.trim().parse::<u64>().is_ok(), "{generation:?}");
            // Whatever was left, the next one works and what was written is told.
            let watcher = home.watcher();
            wait_until_true(SOON, "what was written is told", || {
                home.drain_json().iter().any(|wake| wake["context"].as_str().is_some_and(|said| said.contains(&text)))
            });
            home.ask(&["drain", "--consume"]).expect_code(0);
            watcher.signal(Signal::TERM);
            watcher.finish(SOON).expect_code(0);
        }
    }
    Ok(())
}

fn facts(path: &Path) -> (u64, u32, i64, i64, Vec<u8>) {
    let facts = fs::metadata(path).unwrap();
    (facts.ino(), facts.mode(), facts.mtime_nsec(), facts.ctime_nsec(), fs::read(path).unwrap())
}

fn links_in_the_place_of_our_files_are_never_followed() {
    let home = used_home();
    let victim = home.scratch().join("victim");
    fs::write(&victim, "precious\n").unwrap();
    let before = facts(&victim);
    let ghost = home.scratch().join("ghost");
    for target in [&victim, &ghost] {
        for name in FILES {
            put(&home.watch(name), |path| std::os::unix::fs::symlink(target, path).unwrap());
        }
        work(&home);
        assert_eq!(facts(&victim), before, "the victim was touched");
        assert!(!ghost.exists(), "a dangling link was followed");
    }
}

fn fifos_in_the_place_of_our_files_block_nobody() {
    let home = used_home();
    for name in FILES {
        put(&home.watch(name), |path| {
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        });
    }
    work(&home);
    assert_eq!(home.verdict(), "stopped");
}

fn directories_in_the_place_of_our_files_are_told_or_worked_around() {
    for name in FILES {
        let home = used_home();
        put(&home.watch(name), |path| fs::create_dir(path).unwrap());
        let keep = home.watch(name).join("keep");
        fs::write(&keep, "mine").unwrap();
        let watcher = home.watcher();
        home.write_status("task", "more\n");
        home.wait_for_wake("signal", "task.status");
        let verdict = home.verdict();
        assert!(verdict == "ok" || verdict == "slow", "{name}: {verdict}");
        let guard = home.ask(&["guard"]).expect_code(0);
        assert!(!guard.stderr.contains("panicked"), "{guard:?}");
        watcher.signal(Signal::TERM);
        let end = watcher.finish(Duration::from_secs(5));
        assert!(end.code.is_some() && !end.stderr.contains("panicked"), "{name}: {end:?}");
        assert_eq!(fs::read_to_string(&keep).unwrap(), "mine", "{name}");
    }
}

fn a_link_in_the_place_of_a_directory_of_ours_is_refused() {
    for name in ["wakes", "inbox", "waiters", "log"] {
        let home = used_home();
        let elsewhere = home.scratch().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::rename(home.watch(name), home.scratch().join("moved")).unwrap();
        std::os::unix::fs::symlink(&elsewhere, home.watch(name)).unwrap();
        let answer = home.ask(&["run", "--once"]);
        assert_eq!(answer.code, Some(1), "{name}: {answer:?}");
        assert!(answer.stderr.contains(name) && answer.stderr.lines().count() == 1, "{name}: {answer:?}");
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0, "{name}: something was written through the link");
    }
}

/// X14: whatever the caller's umask says.
fn what_it_writes_is_for_its_owner_only() {
    for mask in ["000", "777", "022"] {
        let home = TestHome::new();
        home.meta("task", &["kind=worker"]);
        let mut command = home.bare("sh");
        command.args(["-c", "umask $0; exec \"$@\"", mask, *crate::support::home::PROGRAM]);
        command.args(home.flags()).args(["arm", "--no-wait"]);
        finish(command).expect_code(0);
        home.write_status("task", "done\n");
        home.wait_for_wake("signal", "task.status");
        home.ask(&["drain", "--consume"]).expect_code(0);
        home.ask(&["stop"]).expect_code(0);
        let mut waiting: Vec<PathBuf> = vec![home.state().join("watch")];
        let mut seen = 0;
        while let Some(path) = waiting.pop() {
            let facts = fs::symlink_metadata(&path).unwrap();
            let expected = if facts.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(facts.permissions().mode() & 0o7777, expected, "umask {mask}: {}", path.display());
            seen += 1;
            if facts.is_dir() {
                waiting.extend(fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()));
            }
        }
        assert!(seen >= 10, "only {seen} files were made");
    }
}

fn a_state_directory_that_cannot_be_read_fails_clearly() -> Result<(), Skip> {
    requires_root()?;
    let home = used_home();
    // Root may read everything, so somebody else looks.
    let program = home.scratch().join("fm-watch");
    copy_program(&program);
    fs::set_permissions(home.scratch(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(home.root(), fs::Permissions::from_mode(0o755)).unwrap();
    let as_nobody = |arguments: &[&str]| {
        let mut command = home.bare("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
        command.args(home.flags()).args(arguments).current_dir("/");
        finish(command)
    };
    let status = as_nobody(&["status", "--json"]).expect_code(4);
    assert_eq!(status.json()["verdict"], "unknown", "what cannot be read is not dead: {status:?}");
    for arguments in
        [&["run"][..], &["drain"], &["wake", "custom", "a", "text"], &["ack", "1"], &["wait", "--timeout", "1s"]]
    {
        let answer = as_nobody(arguments).expect_code(1);
        assert!(answer.stderr.contains(home.state().to_str().unwrap()), "{arguments:?}: {answer:?}");
    }
    let guard = as_nobody(&["guard"]).expect_code(0);
    assert!(guard.stdout.is_empty() && !guard.stderr.is_empty(), "it says that it cannot look: {guard:?}");
    Ok(())
}

fn a_watcher_whose_journal_was_removed_leaves_and_says_why() {
    let home = TestHome::new();
    let watcher = home.watcher();
    home.write_status("before", "done\n");
    home.wait_for_wake("signal", "before.status");
    fs::remove_dir_all(home.watch("wakes")).unwrap();
    home.write_status("task", "done\n");
    let answer = watcher.finish(SOON);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(answer.stderr.contains("the journal of wakes was moved away"), "{answer:?}");
    let _next = home.watcher();
    home.wait_for_wake("signal", "task.status");
}
