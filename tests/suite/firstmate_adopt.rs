//! `adopt`: four scripts are replaced and nothing else, and undoing leaves the very tree of before.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::support::contest::names_in;
use crate::support::home::{PROGRAM, copy_program, finish, pid_in};
use crate::support::shims::{Fleet, SCRIPTS};
use crate::support::strace::requires_strace;
#[cfg(feature = "sync-points")]
use crate::support::sync::{Points, kill_at};
#[cfg(feature = "sync-points")]
use crate::support::Background;
use crate::support::{SOON, Skip, processes};

cases! {
    adopted_and_undone_the_tree_is_what_it_was,
    adopted_run_and_undone_the_tree_is_what_it_was,
    a_wake_that_no_script_was_told_of_keeps_our_directory,
    #[cfg(feature = "sync-points")]
    an_undoing_that_is_killed_while_it_crosses_is_done_again,
    an_undoing_that_is_killed_while_it_removes_is_done_again,
    rights_that_ours_will_not_accept_are_told_before_anything_changes,
    undoing_gives_each_wake_a_row_that_scripts_can_read,
    our_directory_stays_if_it_was_there_before,
    undoing_asks_the_watcher_to_leave,
    a_dry_run_says_what_would_be_done_and_writes_nothing,
    adopting_twice_changes_nothing,
    a_program_that_has_moved_is_adopted_anew,
    scripts_of_another_contract_are_refused_and_not_touched,
    what_is_no_script_is_refused_also_with_force,
    forced_scripts_of_another_contract_come_back_as_they_were,
    a_script_that_was_written_anew_is_kept,
    a_script_that_somebody_put_back_is_adopted_again_or_left,
    without_an_original_nothing_is_made_up,
    what_is_no_home_is_refused,
    a_wrong_command_line_exits_2,
    #[cfg(feature = "sync-points")]
    killed_at_any_step_a_second_run_finishes_it,
    #[cfg(feature = "sync-points")]
    killed_at_any_step_undoing_mends_it,
    #[cfg(feature = "sync-points")]
    killed_while_undoing_a_second_run_finishes_it,
    #[cfg(feature = "sync-points")]
    two_at_once_do_not_mix,
}

/// Everything below a directory: content, mode and time of modification of each file, and where each link leads.
type Tree = BTreeMap<PathBuf, (Vec<u8>, u32, i64, i64)>;

fn tree(directory: &Path) -> Tree {
    let mut found = Tree::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let facts = path.symlink_metadata().unwrap();
        if facts.is_dir() {
            found.extend(tree(&path));
        } else {
            let content = fs::read_link(&path).map_or_else(
                |_| fs::read(&path).unwrap(),
                |target| target.into_os_string().into_encoded_bytes(),
            );
            found.insert(path, (content, facts.mode(), facts.mtime(), facts.mtime_nsec()));
        }
    }
    found
}

/// A home whose scripts differ in mode and age.
fn aged() -> (Fleet, Tree) {
    let fleet = Fleet::new();
    for (number, (name, _)) in SCRIPTS.into_iter().enumerate() {
        let file = fs::File::open(fleet.bin().join(name)).unwrap();
        file.set_permissions(fs::Permissions::from_mode([0o755, 0o700, 0o775, 0o555, 0o644][number])).unwrap();
        let age = Duration::new(86_400 * (1 + number as u64), 123_456_789);
        file.set_modified(SystemTime::UNIX_EPOCH + age * 100).unwrap();
    }
    let before = tree(&fleet.home.root());
    (fleet, before)
}

fn paths(fleet: &Fleet) -> [String; 4] {
    [0, 1, 2, 3].map(|number| fleet.bin().join(SCRIPTS[number].0).display().to_string())
}

fn adopted_and_undone_the_tree_is_what_it_was() {
    let (fleet, before) = aged();
    let answer = fleet.adopt(&[]).expect_code(0);
    assert_eq!(answer.lines(), paths(&fleet).map(|path| format!("adopt: replaced {path}")));
    assert_eq!(answer.stderr, "");
    let after = tree(&fleet.home.root());
    for (path, facts) in &before {
        let kept = path.with_file_name(format!(".{}.before-fm-watch", path.file_name().unwrap().display()));
        if path.ends_with("fm-wake-lib.sh") {
            assert_eq!(after.get(path), Some(facts), "it is not one of the four");
        } else {
            assert_eq!(after.get(&kept), Some(facts), "it is kept beside the shim");
            assert_eq!(after[path].1, facts.1, "the shim may be run by whoever might run the script");
        }
    }
    let answer = fleet.adopt(&["--undo"]).expect_code(0);
    assert_eq!(answer.lines(), paths(&fleet).map(|path| format!("adopt: restored {path}")));
    assert_eq!(tree(&fleet.home.root()), before);
}

fn adopted_run_and_undone_the_tree_is_what_it_was() {
    let (fleet, _) = aged();
    fleet.home.meta("task", &["window=fm:task"]);
    fleet.home.write_status("task", "begun\n");
    // What the scripts themselves leave in the state directory begins with a dot.
    let tree = || -> Tree {
        let is_theirs = |path: &Path| path.file_name().unwrap().as_encoded_bytes().starts_with(b".");
        let state = fleet.home.state();
        tree(&fleet.home.root()).into_iter().filter(|(path, _)| !(path.starts_with(&state) && is_theirs(path))).collect()
    };
    let before = tree();
    fleet.adopt(&[]).expect_code(0);
    assert!(fleet.ask("fm-watch-arm.sh", &[], &[]).expect_code(0).stdout.contains("signal: "));
    fleet.ask("fm-guard.sh", &[], &[]).expect_code(0);
    let arm = fleet.spawn("fm-watch-arm.sh", &[], &["--restart"]);
    arm.wait_for_line("watcher: started");
    assert_eq!(fleet.ask("fm-wake-drain.sh", &[], &[]).expect_code(0).lines().len(), 1);
    fleet.adopt(&["--undo"]).expect_code(0);
    arm.finish(SOON).expect_code(143);
    assert_eq!(tree(), before);
    assert!(!fleet.home.watch("").exists());
}

fn a_wake_that_no_script_was_told_of_keeps_our_directory() {
    let (fleet, _) = aged();
    fleet.adopt(&[]).expect_code(0);
    fleet.home.ask(&["wake", "custom", "/c", "one"]).expect_code(0);
    let answer = fleet.adopt(&["--undo"]).expect_code(1);
    assert_eq!(answer.lines().len(), 4, "the scripts are back: {answer:?}");
    assert!(answer.stderr.contains("wakes wait") && answer.stderr.contains("one"), "{answer:?}");
    assert!(fleet.home.ask(&["drain"]).stdout.contains("one"), "nothing was lost");
    fleet.home.ask(&["ack", "1"]).expect_code(0);
    fleet.adopt(&["--undo"]).expect_code(0);
    assert!(!fleet.home.watch("").exists());
}

/// Whatever it had done: the next one goes on from there, and no wake is lost or has two rows.
#[cfg(feature = "sync-points")]
fn an_undoing_that_is_killed_while_it_crosses_is_done_again() {
    for step in ["Entered", "Numbered", "Pinned", "Appended", "Saved"] {
        let (fleet, _) = aged();
        fleet.adopt(&[]).expect_code(0);
        fleet.home.ask(&["wake", "check", "/c", "new"]).expect_code(0);
        let mut command = fleet.adopting(&["--undo"]);
        kill_at(&mut command, &format!("Firstmate{step}"));
        assert_eq!(finish(command).signal, Some(9), "{step}");
        assert!(fleet.home.watch("").exists(), "{step}");
        fleet.adopt(&["--undo"]).expect_code(0);
        let rows = fs::read_to_string(fleet.home.state().join(".wake-queue")).unwrap();
        assert_eq!(rows.lines().count(), 1, "{step}: {rows}");
        assert!(rows.ends_with("\tcheck\t/c\tcheck: new\n") && !fleet.home.watch("").exists(), "{step}: {rows}");
        assert!(!names_in(&fleet.home.state()).iter().any(|name| name.contains("fm-watch")), "{step}");
    }
}

/// Whatever it had removed: what is left is not taken for a home, no wake is told again, and nothing stays.
fn an_undoing_that_is_killed_while_it_removes_is_done_again() -> Result<(), Skip> {
    requires_strace(&Fleet::new().home)?;
    let mut number = 0;
    loop {
        number += 1;
        let (fleet, _) = aged();
        fleet.adopt(&[]).expect_code(0);
        fleet.home.ask(&["wake", "check", "/c", "new"]).expect_code(0);
        let mut undoing = fleet.home.bare("strace");
        undoing.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=unlinkat"]);
        undoing.args(["-e", &format!("inject=unlinkat:signal=KILL:when={number}"), *PROGRAM]);
        undoing.args(fleet.adopting(&["--undo"]).get_args());
        let killed = finish(undoing).signal == Some(9);
        let is_whole = || fleet.home.watch("wake-queue.json").exists() && names_in(&fleet.home.watch("wakes")).len() > 1;
        assert!(!fleet.home.watch("").exists() || is_whole(), "{number}: what is half removed is not used again");
        fleet.adopt(&["--undo"]).expect_code(0);
        let rows = fs::read_to_string(fleet.home.state().join(".wake-queue")).unwrap();
        assert_eq!(rows.lines().count(), 1, "{number}: {rows}");
        let left: Vec<_> = names_in(&fleet.home.state()).into_iter().chain(names_in(&fleet.bin())).collect();
        let is_ours = |name: &String| name.contains("fm-watch.") && !SCRIPTS.iter().any(|(script, _)| name == script);
        assert!(!left.iter().any(is_ours), "{number}: {left:?}");
        if !killed {
            break;
        }
    }
    assert!(number > 10, "only {number} steps");
    Ok(())
}

fn rights_that_ours_will_not_accept_are_told_before_anything_changes() {
    let (fleet, _) = aged();
    let state = fleet.home.state();
    let check = state.join("pr.check.sh");
    fs::create_dir_all(&state).unwrap();
    fs::write(&check, "").unwrap();
    for (path, mode) in [(&state, 0o775), (&check, 0o664)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let answer = fleet.adopt(&[]).expect_code(1);
    assert!(answer.stderr.contains("chmod go-w") && answer.stdout.is_empty(), "{answer:?}");
    assert!(!names_in(&fleet.bin()).iter().any(|name| name.contains("before-fm-watch")));
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    let answer = fleet.adopt(&[]).expect_code(0);
    assert!(answer.stderr.contains("pr.check.sh will not be run: others can write it (mode 0664)"), "{answer:?}");
}

fn undoing_gives_each_wake_a_row_that_scripts_can_read() {
    let (fleet, _) = aged();
    fleet.adopt(&[]).expect_code(0);
    // The row of an earlier wake about the same is none of this one.
    let queue = fleet.home.state().join(".wake-queue");
    fs::create_dir_all(fleet.home.state()).unwrap();
    fs::write(&queue, "1\t1\tcheck\t/c\tcheck: /c: old\n").unwrap();
    fleet.home.ask(&["wake", "check", "/c", "new"]).expect_code(0);
    // What a holder that was killed leaves.
    for name in [".wake-queue.fm-watch.new", "../bin/.fm-guard.sh.7.0123456789abcdef.tmp"] {
        fs::write(fleet.home.state().join(name), "half\n").unwrap();
    }
    fleet.adopt(&["--undo"]).expect_code(0);
    let rows = fs::read_to_string(&queue).unwrap();
    let told: Vec<&str> = rows.lines().map(|row| row.rsplit('\t').next().unwrap()).collect();
    assert_eq!(told, ["check: /c: old", "check: new"]);
    assert!(!fleet.home.watch("").exists());
    let left: Vec<_> = names_in(&fleet.home.state()).into_iter().chain(names_in(&fleet.bin())).collect();
    assert!(!left.iter().any(|name| name.contains("fm-watch.new") || name.contains(".tmp")), "{left:?}");
}

fn our_directory_stays_if_it_was_there_before() {
    let (fleet, _) = aged();
    fleet.home.ask(&["wake", "custom", "key", "old"]).expect_code(0);
    fleet.adopt(&[]).expect_code(0);
    fleet.adopt(&["--undo"]).expect_code(0);
    assert!(fleet.home.ask(&["drain"]).stdout.contains("old"));
}

fn undoing_asks_the_watcher_to_leave() {
    let (fleet, before) = aged();
    fleet.home.configure("[firstmate]\nresident = true\n");
    fleet.adopt(&[]).expect_code(0);
    let arm = fleet.spawn("fm-watch-arm.sh", &[], &[]);
    let pid = pid_in(&arm.wait_for_line("watcher: started")).unwrap();
    drop(arm);
    assert!(processes::is_alive(pid), "it is resident");
    fleet.adopt(&["--undo"]).expect_code(0);
    crate::support::background::wait_for_end(pid, "the watcher");
    let after = tree(&fleet.bin());
    assert!(before.iter().all(|(path, facts)| after.get(path) == Some(facts)) && after.len() == before.len());
    assert!(!fleet.home.watch("").exists());
}

fn a_dry_run_says_what_would_be_done_and_writes_nothing() {
    let (fleet, before) = aged();
    let answer = fleet.adopt(&["--dry-run"]).expect_code(0);
    assert_eq!(answer.lines(), paths(&fleet).map(|path| format!("adopt: would replace {path}")));
    assert_eq!(tree(&fleet.home.root()), before);
    fleet.adopt(&[]).expect_code(0);
    let adopted = tree(&fleet.home.root());
    let answer = fleet.adopt(&["--undo", "--dry-run"]).expect_code(0);
    assert_eq!(answer.lines(), paths(&fleet).map(|path| format!("adopt: would restore {path}")));
    assert_eq!(tree(&fleet.home.root()), adopted);
    assert!(!fleet.home.state().exists());
}

fn adopting_twice_changes_nothing() {
    let (fleet, before) = aged();
    fleet.adopt(&[]).expect_code(0);
    let adopted = tree(&fleet.home.root());
    let answer = fleet.adopt(&[]).expect_code(0);
    assert_eq!(answer.lines(), paths(&fleet).map(|path| format!("adopt: unchanged {path}")));
    assert_eq!(tree(&fleet.home.root()), adopted);
    fleet.adopt(&["--undo"]).expect_code(0);
    let answer = fleet.adopt(&["--undo"]).expect_code(0);
    assert_eq!(answer.lines(), paths(&fleet).map(|path| format!("adopt: unchanged {path}")));
    assert_eq!(tree(&fleet.home.root()), before);
}

fn a_program_that_has_moved_is_adopted_anew() {
    let (fleet, before) = aged();
    fleet.adopt(&[]).expect_code(0);
    let moved = fleet.home.scratch().join("it's here");
    fs::create_dir(&moved).unwrap();
    let moved = moved.join("fm-watch");
    if fs::hard_link(*PROGRAM, &moved).is_err() {
        copy_program(&moved);
    }
    let mut command = fleet.home.bare(&moved);
    command.args(["adopt", "firstmate"]).arg(fleet.home.root());
    let answer = finish(command).expect_code(0);
    assert_eq!(answer.lines(), paths(&fleet).map(|path| format!("adopt: replaced {path}")));
    let quoted = format!("fm_program='{}'\n", moved.display().to_string().replace('\'', r"'\''"));
    assert!(fs::read_to_string(fleet.bin().join("fm-guard.sh")).unwrap().contains(&quoted));
    assert_eq!(fleet.ask("fm-watch-arm.sh", &[], &["x"]).expect_code(2).stderr, "usage: fm-watch-arm.sh [--restart]\n");
    fleet.adopt(&["--undo"]).expect_code(0);
    assert_eq!(tree(&fleet.home.root()), before);
}

fn scripts_of_another_contract_are_refused_and_not_touched() {
    for (name, text, reason) in [
        ("fm-watch-arm.sh", "#!/bin/sh\necho watcher: started watcher: healthy [--restart]\n", "`watcher: FAILED`"),
        ("fm-guard.sh", "#!/bin/sh\nexit 0\n", "`WATCHER DOWN`"),
        ("fm-wake-drain.sh", "#!/usr/bin/python3\nprint('fm-wake-lib.sh')\n", "no shell script"),
        ("fm-watch.sh", "", "no shell script"),
    ] {
        let fleet = Fleet::new();
        fleet.write(name, text);
        let before = tree(&fleet.home.root());
        for flags in [&[][..], &["--dry-run"]] {
            let answer = fleet.adopt(flags).expect_code(1);
            assert!(answer.stderr.contains(name) && answer.stderr.contains(reason), "{answer:?}");
            assert!(answer.stderr.contains("--force") && answer.stdout.is_empty(), "{answer:?}");
            assert_eq!(tree(&fleet.home.root()), before);
        }
    }
    let fleet = Fleet::new();
    fs::remove_file(fleet.bin().join("fm-wake-lib.sh")).unwrap();
    assert!(fleet.adopt(&[]).expect_code(1).stderr.contains("fm-wake-lib.sh"));
}

fn what_is_no_script_is_refused_also_with_force() {
    for flags in [&[][..], &["--force"]] {
        let fleet = Fleet::new();
        let path = fleet.bin().join("fm-guard.sh");
        fs::rename(&path, fleet.bin().join("real.sh")).unwrap();
        let before = tree(&fleet.home.root());
        assert!(fleet.adopt(flags).expect_code(1).stderr.contains("it is not there"));
        assert_eq!(tree(&fleet.home.root()), before);
        symlink("real.sh", &path).unwrap();
        let before = tree(&fleet.home.root());
        assert!(fleet.adopt(flags).expect_code(1).stderr.contains("no regular file"));
        assert_eq!(tree(&fleet.home.root()), before);
    }
}

fn forced_scripts_of_another_contract_come_back_as_they_were() {
    let fleet = Fleet::new();
    fleet.write("fm-guard.sh", "#!/bin/sh\nexit 0\n");
    let before = tree(&fleet.home.root());
    fleet.adopt(&["--force"]).expect_code(0);
    assert_eq!(fleet.ask("fm-watch-arm.sh", &[], &["x"]).code, Some(2));
    fleet.adopt(&["--undo"]).expect_code(0);
    assert_eq!(tree(&fleet.home.root()), before);
}

fn a_script_that_was_written_anew_is_kept() {
    let (fleet, _) = aged();
    fleet.adopt(&[]).expect_code(0);
    let (_, arm_says) = SCRIPTS[1];
    let newer = format!("#!/usr/bin/env bash\n# newer\necho '{arm_says}'\n");
    fleet.write("fm-watch-arm.sh", &newer);
    let before = tree(&fleet.home.root());
    let answer = fleet.adopt(&[]).expect_code(1);
    assert!(answer.stderr.contains("written anew"), "{answer:?}");
    assert_eq!(tree(&fleet.home.root()), before);
    // Undoing leaves it and says so; the others are back.
    let answer = fleet.adopt(&["--undo"]).expect_code(1);
    assert_eq!((answer.lines().len(), answer.stderr.contains("written anew")), (3, true), "{answer:?}");
    assert_eq!(fs::read_to_string(fleet.bin().join("fm-watch-arm.sh")).unwrap(), newer);
    assert!(fleet.bin().join(".fm-watch-arm.sh.before-fm-watch").exists());
    // Forced, the newer one is what is kept.
    fleet.adopt(&["--force"]).expect_code(0);
    fleet.adopt(&["--undo"]).expect_code(0);
    assert_eq!(fs::read_to_string(fleet.bin().join("fm-watch-arm.sh")).unwrap(), newer);
    assert_eq!(tree(&fleet.bin()).len(), SCRIPTS.len());
}

fn a_script_that_somebody_put_back_is_adopted_again_or_left() {
    for flags in [&[][..], &["--undo"]] {
        let (fleet, before) = aged();
        fleet.adopt(&[]).expect_code(0);
        let path = fleet.bin().join("fm-guard.sh");
        // As a version control system does: the same content, another file.
        let content = &before[&path].0;
        fs::remove_file(&path).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o775)).unwrap();
        fleet.adopt(flags).expect_code(0);
        assert_eq!(fs::read(&path).unwrap() == *content, !flags.is_empty());
        fleet.adopt(&["--undo"]).expect_code(0);
        assert_eq!(fs::read(&path).unwrap(), *content);
        assert_eq!(tree(&fleet.bin()).len(), SCRIPTS.len());
    }
}

fn without_an_original_nothing_is_made_up() {
    let (fleet, _) = aged();
    fleet.adopt(&[]).expect_code(0);
    fs::remove_file(fleet.bin().join(".fm-guard.sh.before-fm-watch")).unwrap();
    for flags in [&[][..], &["--force"]] {
        assert!(fleet.adopt(flags).expect_code(1).stderr.contains("is gone"));
    }
    let answer = fleet.adopt(&["--undo"]).expect_code(1);
    assert_eq!((answer.lines().len(), answer.stderr.contains("is gone")), (3, true), "{answer:?}");
    // The shim goes on standing in for it.
    assert_eq!(fleet.ask("fm-guard.sh", &[], &[]).code, Some(0));
    // A kept one alone goes back to its name.
    let (fleet, before) = aged();
    fleet.adopt(&[]).expect_code(0);
    fs::remove_file(fleet.bin().join("fm-guard.sh")).unwrap();
    assert!(fleet.adopt(&["--force"]).expect_code(1).stderr.contains("it is gone"));
    fleet.adopt(&["--undo"]).expect_code(0);
    assert_eq!(tree(&fleet.home.root()), before);
}

fn what_is_no_home_is_refused() {
    let fleet = Fleet::new();
    fs::rename(fleet.bin(), fleet.home.root().join("elsewhere")).unwrap();
    for flags in [&[][..], &["--undo"]] {
        assert!(fleet.adopt(flags).expect_code(1).stderr.contains("no directory bin"));
    }
}

fn a_wrong_command_line_exits_2() {
    let fleet = Fleet::new();
    for words in [&["adopt"][..], &["adopt", "."], &["adopt", "other", "."], &["adopt", "--undo", "--force", "."]] {
        let mut command = fleet.home.bare(*PROGRAM);
        command.args(words);
        finish(command).expect_code(2);
    }
    for words in [&["firstmate"][..], &["firstmate", "status"]] {
        let mut command = fleet.home.bare(*PROGRAM);
        command.args(words);
        let answer = finish(command).expect_code(2);
        assert!(answer.stderr.contains("watch, arm, guard, drain"), "{answer:?}");
    }
}

/// The steps of adopting; all but the first come once for each script.
#[cfg(feature = "sync-points")]
const STEPS: [&str; 4] = ["AdoptRemembered", "AdoptKept", "StorageChange", "AdoptReplaced"];

/// Runs until it is no longer killed at this step, and says how often it was.
#[cfg(feature = "sync-points")]
fn run_killed_at(fleet: &Fleet, flags: &[&str], step: &str, mut between: impl FnMut()) -> usize {
    for killed in 0.. {
        assert!(killed < 20, "it never gets past {step}");
        let mut command = fleet.adopting(flags);
        kill_at(&mut command, step);
        let answer = finish(command);
        if answer.signal != Some(9) {
            answer.expect_code(0);
            return killed;
        }
        between();
        if matches!(step, "AdoptKept" | "StorageChange") {
            // From here the same script would be killed at the same step for ever.
            fleet.adopt(flags).expect_code(0);
            return killed + 1;
        }
    }
    unreachable!()
}

/// Each of the four is the script or its shim, whole, and can be run.
#[cfg(feature = "sync-points")]
#[track_caller]
fn each_is_old_or_new(fleet: &Fleet, before: &Tree) {
    for path in paths(fleet) {
        let path = PathBuf::from(path);
        let (content, mode) = (fs::read(&path).unwrap(), path.metadata().unwrap().mode());
        let is_new = content.ends_with(b"\"$@\"\n");
        assert!(content == before[&path].0 || is_new, "{}", path.display());
        assert_eq!(mode, before[&path].1);
    }
}

#[cfg(feature = "sync-points")]
fn killed_at_any_step_a_second_run_finishes_it() {
    for step in STEPS {
        let (fleet, before) = aged();
        let killed = run_killed_at(&fleet, &[], step, || each_is_old_or_new(&fleet, &before));
        assert!(killed >= 1, "{step} is a step");
        assert_eq!(fleet.ask("fm-watch-arm.sh", &[], &["x"]).code, Some(2), "all are adopted");
        fleet.adopt(&["--undo"]).expect_code(0);
        let mut after = tree(&fleet.home.root());
        // What a killed writer leaves has a name that nobody reads.
        after.retain(|path, _| path.extension().is_none_or(|extension| extension != "tmp"));
        assert_eq!(after, before, "{step}");
    }
}

#[cfg(feature = "sync-points")]
fn killed_at_any_step_undoing_mends_it() {
    for step in STEPS {
        let (fleet, before) = aged();
        let mut command = fleet.adopting(&[]);
        kill_at(&mut command, step);
        assert_eq!(finish(command).signal, Some(9), "{step} is a step");
        fleet.adopt(&["--undo"]).expect_code(0);
        let mut after = tree(&fleet.home.root());
        after.retain(|path, _| path.extension().is_none_or(|extension| extension != "tmp"));
        assert_eq!(after, before, "{step}");
    }
}

#[cfg(feature = "sync-points")]
fn killed_while_undoing_a_second_run_finishes_it() {
    let (fleet, before) = aged();
    fleet.adopt(&[]).expect_code(0);
    let killed = run_killed_at(&fleet, &["--undo"], "AdoptRestored", || each_is_old_or_new(&fleet, &before));
    assert_eq!(killed, 4, "once for each script");
    assert_eq!(tree(&fleet.home.root()), before);
}

#[cfg(feature = "sync-points")]
fn two_at_once_do_not_mix() {
    let (fleet, before) = aged();
    let points = Points::new(&fleet.home, "adopting");
    let mut first = fleet.adopting(&[]);
    points.pause(&mut first, &["AdoptRemembered"]);
    let first = Background::spawn(first);
    points.wait_until_reached("AdoptRemembered");
    for flags in [&[][..], &["--undo"]] {
        assert!(fleet.adopt(flags).expect_code(1).stderr.contains("somebody else is adopting"));
    }
    points.go("AdoptRemembered");
    first.finish(SOON).expect_code(0);
    fleet.adopt(&["--undo"]).expect_code(0);
    assert_eq!(tree(&fleet.home.root()), before);
}
