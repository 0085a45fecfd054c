//! Checks run beside the loop: however long, loud or broken one is, nothing waits for it and nothing of it is left.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Background, SOON, TestHome, processes, stays_true, wait_until, wait_until_true};

cases! {
    output_is_a_wake_and_silence_is_none,
    a_slow_check_stops_neither_signals_nor_the_beat,
    a_check_that_takes_too_long_is_killed_with_its_whole_group,
    leaving_kills_what_runs,
    three_failures_in_a_row_are_a_wake_and_one_success_ends_the_row,
    a_script_that_others_may_write_is_refused_once_and_never_run,
    a_descendant_that_keeps_the_pipe_open_holds_nobody,
    a_flood_of_output_is_cut,
    a_check_sees_its_home_and_nothing_of_the_caller,
    checks_are_not_starved_by_signals,
    the_schedule_survives_a_restart,
}

/// A home with a check.
fn with_check(settings: &[&str], script: &str) -> (TestHome, PathBuf) {
    let home = TestHome::with(settings);
    let path = add_check(&home, "task", script);
    (home, path)
}

fn add_check(home: &TestHome, name: &str, script: &str) -> PathBuf {
    home.make_state();
    let path = home.state().join(format!("{name}.check.sh"));
    fs::write(&path, format!("{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn key(path: &std::path::Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// How often something wrote a line to a file of the test.
fn runs(home: &TestHome, name: &str) -> usize {
    fs::read_to_string(home.scratch().join(name)).unwrap_or_default().lines().count()
}

fn output_is_a_wake_and_silence_is_none() {
    let (home, path) = with_check(&[], "echo 'two lines'; echo 'of it'; exit 3");
    let quiet = add_check(&home, "quiet", ":");
    let _watcher = home.watcher();
    let wake = home.wait_for_wake("check", &key(&path));
    let text = wake["text"].as_str().unwrap();
    assert!(text.starts_with(&format!("check: {}: two lines", path.display())), "{text:?}");
    assert_eq!(wake["context"], "two lines\nof it\n", "the whole of it, whatever the exit status");
    assert_eq!(home.drain().len(), 1, "one line in drain");
    assert!(!home.pending_keys().contains(&key(&quiet)));
}

fn a_slow_check_stops_neither_signals_nor_the_beat() {
    let (home, _) = with_check(&["stuck_after=2s", "check_timeout=60s"], "sleep 1000");
    let watcher = home.watcher();
    wait_until_true(SOON, "the check runs", || !children(watcher.pid()).is_empty());
    for number in 0..3 {
        home.write_status(&format!("task-{number}"), "done\n");
        home.wait_for_wake("signal", &format!("task-{number}.status"));
    }
    // Well over the bound.
    stays_true(Duration::from_secs(4), "it is well", || {
        let verdict = home.verdict();
        verdict == "ok" || verdict == "slow"
    });
    assert!(!children(watcher.pid()).is_empty(), "the check runs all the time");
    watcher.signal(Signal::TERM);
    watcher.finish(Duration::from_secs(2)).expect_code(0);
}

/// The living children of a process.
fn children(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| processes::stat_field(*pid, 4) == Some(parent.to_string())).collect()
}

/// The pid that a script wrote to a file of the test.
fn pid_from(home: &TestHome, name: &str) -> u32 {
    wait_until(SOON, &format!("{name} is written"), || {
        fs::read_to_string(home.scratch().join(name)).ok()?.strip_suffix('\n')?.parse().ok()
    })
}

fn a_check_that_takes_too_long_is_killed_with_its_whole_group() {
    let home = TestHome::with(&["check_timeout=500ms", "check_interval=200ms"]);
    let scratch = home.scratch().display().to_string();
    let script = format!(
        "trap '' TERM INT HUP; sleep 1000 & echo $! > {scratch}/grandchild; echo $$ > {scratch}/child; sleep 1000"
    );
    let path = add_check(&home, "task", &script);
    let watcher = home.watcher();
    let (child, grandchild) = (pid_from(&home, "child"), pid_from(&home, "grandchild"));
    wait_until_true(SOON, "the check is gone", || !processes::is_alive(child) && !processes::is_alive(grandchild));
    // Taking too long is a failure like others, and three in a row are told.
    let wake = home.wait_for_wake("check", &key(&path));
    assert!(wake["text"].as_str().unwrap().contains("3 times in a row"), "{wake}");
    drop(watcher);
}

fn leaving_kills_what_runs() {
    let home = TestHome::new();
    let scratch = home.scratch().display().to_string();
    add_check(&home, "task", &format!("trap '' TERM; sleep 1000 & echo $! > {scratch}/grandchild; sleep 1000"));
    let watcher = home.watcher();
    let grandchild = pid_from(&home, "grandchild");
    watcher.signal(Signal::TERM);
    watcher.finish(Duration::from_secs(2)).expect_code(0);
    wait_until_true(SOON, "nothing of it is left", || !processes::is_alive(grandchild));
}

fn three_failures_in_a_row_are_a_wake_and_one_success_ends_the_row() {
    let home = TestHome::with(&["check_interval=100ms"]);
    let scratch = home.scratch().display().to_string();
    // Twice in a row at first, then a success, then for ever.
    let script = format!(
        "echo run >> {scratch}/runs; n=$(wc -l < {scratch}/runs); [ $n -eq 3 ] && exit 0; echo 'no such host' >&2; exit 9"
    );
    let path = add_check(&home, "task", &script);
    let _watcher = home.watcher();
    let wake = home.wait_for_wake("check", &key(&path));
    let text = wake["text"].as_str().unwrap();
    assert!(text.contains("failed 3 times in a row") && text.contains("no such host"), "{text:?}");
    assert!(runs(&home, "runs") >= 6, "the success in between ended the first row");
    home.ask(&["drain", "--consume"]).expect_code(0);
    let before = runs(&home, "runs");
    wait_until_true(SOON, "it fails on", || runs(&home, "runs") > before + 6);
    assert_eq!(home.drain(), [], "once per row");
}

fn a_script_that_others_may_write_is_refused_once_and_never_run() {
    let home = TestHome::with(&["check_interval=100ms"]);
    let scratch = home.scratch().display().to_string();
    let run = format!("echo run >> {scratch}/ran");
    let writable = add_check(&home, "writable", &run);
    fs::set_permissions(&writable, fs::Permissions::from_mode(0o722)).unwrap();
    let real = home.scratch().join("real");
    fs::write(&real, format!("{run}\n")).unwrap();
    let link = home.state().join("link.check.sh");
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let fifo = home.state().join("fifo.check.sh");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let foreign = add_check(&home, "foreign", &run);
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        std::os::unix::fs::chown(&foreign, Some(65534), None).unwrap();
    } else {
        fs::remove_file(&foreign).unwrap();
    }
    let good = add_check(&home, "good", &format!("echo run >> {scratch}/good"));
    let _watcher = home.watcher();
    wait_until_true(SOON, "the good one has run often", || runs(&home, "good") >= 5);
    for path in [&writable, &link, &fifo] {
        let wake = home.wait_for_wake("check", &key(path));
        assert!(wake["text"].as_str().unwrap().contains("refused"), "{wake}");
    }
    let expected = if is_root { 4 } else { 3 };
    assert_eq!(home.drain().len(), expected, "{:?}", home.drain());
    assert_eq!(runs(&home, "ran"), 0, "none of them was run");
    home.ask(&["drain", "--consume"]).expect_code(0);
    let before = runs(&home, "good");
    wait_until_true(SOON, "the good one has run on", || runs(&home, "good") >= before + 5);
    assert_eq!(home.drain(), [], "each is told once");
    fs::set_permissions(&writable, fs::Permissions::from_mode(0o600)).unwrap();
    wait_until_true(SOON, "what was mended is run", || runs(&home, "ran") > 0);
    drop(good);
}

fn a_descendant_that_keeps_the_pipe_open_holds_nobody() {
    let home = TestHome::with(&["check_timeout=30s"]);
    let scratch = home.scratch().display().to_string();
    let script = format!(
        "setsid sleep 1000 & echo $! > {scratch}/daemon; while [ ! -s {scratch}/daemon ]; do :; done; echo said"
    );
    let path = add_check(&home, "task", &script);
    let watcher = home.watcher();
    let wake = home.wait_for_wake("check", &key(&path));
    assert_eq!(wake["context"], "said\n");
    watcher.signal(Signal::TERM);
    watcher.finish(Duration::from_secs(2)).expect_code(0);
    // It left the group of its own will, so it is not ours to kill; it is this test's.
    let daemon = pid_from(&home, "daemon");
    let pid = rustix::process::Pid::from_raw(i32::try_from(daemon).unwrap()).unwrap();
    if processes::command_line(daemon).is_some_and(|line| line == ["sleep", "1000"]) {
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
    }
}

fn a_flood_of_output_is_cut() {
    let (home, path) = with_check(&[], "head -c 50000000 /dev/zero | tr '\\0' x");
    let watcher = home.watcher();
    let wake = home.wait_for_wake("check", &key(&path));
    let length = wake["context"].as_str().unwrap().len() + wake["text"].as_str().unwrap().len();
    assert!(length < 64 * 1024, "{length} bytes");
    let memory = home.status()["memory_bytes"].as_u64().unwrap();
    assert!(memory < 64 << 20, "{memory} bytes of memory");
    drop(watcher);
}

/// X09: what the caller has in its environment does not reach a check, and what tells it its home does.
fn a_check_sees_its_home_and_nothing_of_the_caller() {
    let (home, path) = with_check(&[], "pwd; env | sort");
    let mut command = home.command(&["run"]);
    command.env("SECRET_TOKEN", "hunter2").env("IFS", "x").env("BASH_ENV", "/nonexistent").env("FM_HOME", "/elsewhere");
    let watcher = Background::spawn(command);
    let wake = home.wait_for_wake("check", &key(&path));
    let said = wake["context"].as_str().unwrap();
    assert!(said.starts_with(&format!("{}\n", home.root().display())), "it runs in its home: {said}");
    assert!(said.contains(&format!("FM_HOME={}\n", home.root().display())), "{said}");
    assert!(said.contains(&format!("FM_STATE_OVERRIDE={}\n", home.state().display())), "{said}");
    for secret in ["hunter2", "BASH_ENV", "elsewhere"] {
        assert!(!said.contains(secret), "{said}");
    }
    drop(watcher);
}

fn checks_are_not_starved_by_signals() {
    let home = TestHome::with(&["check_interval=200ms"]);
    let scratch = home.scratch().display().to_string();
    add_check(&home, "task", &format!("echo run >> {scratch}/runs"));
    let _watcher = home.watcher();
    let mut number = 0;
    wait_until_true(SOON, "the check runs amid the chatter", || {
        number += 1;
        home.write_status("chatty", &format!("{number}\n"));
        runs(&home, "runs") >= 5
    });
}

fn the_schedule_survives_a_restart() {
    let home = TestHome::with(&["check_interval=1h"]);
    let scratch = home.scratch().display().to_string();
    add_check(&home, "task", &format!("echo run >> {scratch}/runs"));
    let watcher = home.watcher();
    wait_until_true(SOON, "the check has run", || runs(&home, "runs") == 1);
    home.write_status("probe", "x");
    home.wait_for_wake("signal", "probe.status");
    watcher.signal(Signal::TERM);
    watcher.finish(SOON).expect_code(0);
    let _next = home.watcher();
    stays_true(Duration::from_secs(1), "it is not due again", || runs(&home, "runs") == 1);
}
