//! The doctor on homes that are well and on broken ones: each fault is named with what mends it, nothing is changed
//! unless that was asked for, and a repair loses nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::background::wait_for_end;
use crate::support::fuse::{Locks, Manners, Mounted};
use crate::support::home::{PROGRAM, copy_program, finish};
use crate::support::namespace::Namespace;
use crate::support::processes::stat_field;
use crate::support::strace::{requires_strace, traced};
use crate::support::{Answer, Background, SOON, Skip, TestHome, requires, requires_root, wait_until_true};

cases! {
    a_home_that_is_well_has_no_failure,
    a_home_that_does_not_exist_is_told_and_not_made,
    looking_changes_nothing,
    settings_that_cannot_be_understood_hide_nothing_else,
    a_directory_that_others_can_write_to_is_mended_only_on_request,
    what_is_missing_is_made_only_on_request,
    what_is_of_the_wrong_kind_is_never_mended_by_itself,
    what_belongs_to_somebody_else_is_never_mended_by_itself,
    a_dead_watcher_matters_when_a_task_is_in_flight,
    a_stuck_watcher_is_told_with_the_forced_restart,
    a_second_process_that_says_it_watches_is_told,
    wakes_that_reach_nobody_are_told_with_their_age,
    a_stranger_on_the_lock_is_told,
    locks_that_do_nothing_are_told,
    without_file_events_the_limit_is_named,
    a_service_of_somebody_else_is_told,
    a_service_is_told_by_what_it_keeps,
    settings_that_others_can_write_to_are_told,
    settings_of_another_user_are_told,
    a_home_that_cannot_be_looked_into_is_told,
    a_full_disk_is_told,
    a_read_only_file_system_is_told,
    a_boot_without_an_id_is_told,
    a_clock_that_was_set_back_is_told,
    a_kernel_without_pidfds_is_told,
    a_lock_call_that_hangs_is_told_in_time,
    a_journal_that_cannot_be_read_is_told,
    hooks_are_mentioned_only_where_they_are_installed,
    hooks_that_do_not_work_are_told_with_what_mends_them,
    hooks_of_the_project_in_the_home_are_examined,
    each_line_is_one_finding,
    the_object_has_its_documented_shape,
    #[cfg(feature = "sync-points")]
    what_does_not_answer_is_told_in_time,
    #[cfg(feature = "sync-points")]
    without_asking_for_the_owner_a_strangers_directory_is_changed,
}

/// What the doctor found about a thing.
fn about(answer: &Answer, check: &str) -> Vec<(String, String, String)> {
    let findings = answer.json()["findings"].as_array().unwrap().clone();
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap_or_default().to_owned();
    let of_check = findings.iter().filter(|finding| finding["check"] == check);
    of_check.map(|finding| (text(finding, "grade"), text(finding, "found"), text(finding, "mend"))).collect()
}

/// Fails the test unless a finding has this grade and says all this.
#[track_caller]
fn assert_found(answer: &Answer, check: &str, grade: &str, parts: &[&str]) {
    let found = about(answer, check);
    let is_it = |(its_grade, found, mend): &(String, String, String)| {
        its_grade == grade && parts.iter().all(|&part| found.contains(part) || mend.contains(part))
    };
    assert!(found.iter().any(is_it), "no {grade} of {check} with {parts:?} in {found:#?}");
}

fn examine(home: &TestHome) -> Answer {
    home.ask(&["doctor", "--json"])
}

fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Every file below a path, with its permissions and its content.
fn everything_below(path: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut waiting = vec![path.to_owned()];
    while let Some(path) = waiting.pop() {
        let facts = fs::symlink_metadata(&path).unwrap();
        if facts.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let content = if facts.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        all.insert(path, (facts.permissions().mode(), content));
    }
    all
}

fn a_home_that_is_well_has_no_failure() {
    let home = TestHome::new();
    let watcher = home.watcher();
    let answer = examine(&home).expect_code(0);
    assert_found(&answer, "watcher", "PASS", &[&format!("pid {} is well", watcher.pid())]);
    for check in ["settings", "lock", "directories", "duplicates", "wakes", "service", "events"] {
        assert_found(&answer, check, "PASS", &[]);
    }
    for check in ["clock", "identity", "space"] {
        assert_eq!(about(&answer, check).len(), 1, "{answer:?}");
    }
    assert!(answer.json()["worst"] != "FAIL", "{answer:?}");
}

fn a_home_that_does_not_exist_is_told_and_not_made() {
    let home = TestHome::new();
    for arguments in [&["doctor", "--json"][..], &["doctor", "--json", "--fix"]] {
        let answer = home.ask(arguments).expect_code(0);
        assert_found(&answer, "directories", "WARN", &["does not exist yet", "arm --no-wait"]);
        assert!(!home.state().exists());
    }
}

fn looking_changes_nothing() {
    let home = TestHome::new();
    home.wake("custom", "key", "text");
    home.configure("poll = \"never\"\n");
    set_mode(&home.watch("inbox"), 0o777);
    fs::remove_dir(home.watch("waiters")).unwrap();
    let before = everything_below(home.scratch());
    examine(&home).expect_code(1);
    assert_eq!(everything_below(home.scratch()), before);
}

fn settings_that_cannot_be_understood_hide_nothing_else() {
    let home = TestHome::new();
    home.wake("custom", "key", "text");
    home.configure("\npoll = \"never\"\n");
    let answer = examine(&home).expect_code(1);
    assert_found(&answer, "settings", "FAIL", &["toml:2: poll", "config check"]);
    assert_found(&answer, "wakes", "WARN", &["drain"]);
    assert_found(&answer, "lock", "PASS", &[]);
}

fn a_directory_that_others_can_write_to_is_mended_only_on_request() {
    let home = TestHome::new();
    home.wake("custom", "key", "text");
    let inbox = home.watch("inbox");
    set_mode(&home.state(), 0o775);
    set_mode(&inbox, 0o777);
    let answer = examine(&home).expect_code(1);
    assert_found(&answer, "directories", "FAIL", &["has mode 775", &format!("chmod 755 {}", home.state().display())]);
    assert_found(&answer, "directories", "FAIL", &["has mode 777", &format!("chmod 700 {}", inbox.display())]);
    assert_eq!((mode_of(&home.state()), mode_of(&inbox)), (0o775, 0o777));
    let answer = home.ask(&["doctor", "--json", "--fix"]).expect_code(0);
    assert_found(&answer, "directories", "PASS", &[]);
    assert_eq!((mode_of(&home.state()), mode_of(&inbox)), (0o755, 0o700));
    home.arm();
}

fn what_is_missing_is_made_only_on_request() {
    let home = TestHome::new();
    home.wake("custom", "key", "text");
    fs::remove_dir(home.watch("waiters")).unwrap();
    let answer = examine(&home).expect_code(0);
    assert_found(&answer, "directories", "WARN", &["waiters is missing"]);
    assert!(!home.watch("waiters").exists());
    home.ask(&["doctor", "--fix"]).expect_code(0);
    assert_eq!(mode_of(&home.watch("waiters")), 0o700);
}

fn what_is_of_the_wrong_kind_is_never_mended_by_itself() {
    let home = TestHome::new();
    home.make_watch();
    let outside = home.scratch().join("outside");
    fs::create_dir(&outside).unwrap();
    set_mode(&outside, 0o777);
    std::os::unix::fs::symlink(&outside, home.watch("inbox")).unwrap();
    fs::write(home.watch("wakes"), "a file").unwrap();
    std::os::unix::fs::symlink(&outside, home.watch("lock")).unwrap();
    let before = everything_below(home.scratch());
    let answer = home.ask(&["doctor", "--json", "--fix"]).expect_code(1);
    assert_found(&answer, "directories", "FAIL", &["inbox is a symbolic link"]);
    assert_found(&answer, "directories", "FAIL", &["wakes is no directory"]);
    assert_found(&answer, "directories", "FAIL", &["not our lock file"]);
    let after = everything_below(home.scratch());
    // What was missing beside them may have been made.
    assert!(before.iter().all(|(path, facts)| after.get(path) == Some(facts)), "{before:#?} {after:#?}");
}

fn what_belongs_to_somebody_else_is_never_mended_by_itself() -> Result<(), Skip> {
    requires_root()?;
    let home = TestHome::new();
    home.wake("custom", "key", "text");
    let (inbox, beat) = (home.watch("inbox"), home.watch("beat.json"));
    fs::write(&beat, "{}").unwrap();
    set_mode(&inbox, 0o777);
    for path in [&inbox, &beat] {
        std::os::unix::fs::chown(path, Some(12345), None).unwrap();
    }
    let answer = home.ask(&["doctor", "--json", "--fix"]).expect_code(1);
    assert_found(&answer, "directories", "FAIL", &["inbox belongs to uid 12345", "sudo chown"]);
    assert_found(&answer, "directories", "FAIL", &["beat.json belongs to uid 12345"]);
    assert_eq!(mode_of(&inbox), 0o777);
    Ok(())
}

fn a_dead_watcher_matters_when_a_task_is_in_flight() {
    let home = TestHome::new();
    let pid = home.arm();
    home.kill(pid);
    let answer = examine(&home).expect_code(0);
    assert_found(&answer, "watcher", "WARN", &["was killed or crashed", "arm --no-wait"]);
    home.meta("task", &["kind=worker"]);
    let answer = examine(&home).expect_code(1);
    assert_found(&answer, "watcher", "FAIL", &["1 task(s) are in flight", "arm --no-wait"]);
}

fn a_stuck_watcher_is_told_with_the_forced_restart() {
    let home = TestHome::new().set(&["stuck_after=500ms"]);
    let pid = home.arm();
    home.signal(pid, Signal::STOP);
    home.wait_for_verdict("stuck");
    let answer = examine(&home).expect_code(1);
    assert_found(&answer, "watcher", "FAIL", &["is stuck", "arm --restart"]);
}

fn a_second_process_that_says_it_watches_is_told() {
    let home = TestHome::new();
    let watcher = home.watcher();
    let mut command = home.bare("bash");
    // It names the home by another path, and is found all the same.
    let link = home.scratch().join("link");
    std::os::unix::fs::symlink(home.root(), &link).unwrap();
    let pretend = format!("exec -a fm-watch bash -c 'read -r' --home {} run", link.display());
    command.args(["-c", &pretend]).stdin(Stdio::piped());
    let pretender = Background::spawn_reading(command);
    let named = || fs::read(format!("/proc/{}/cmdline", pretender.pid())).unwrap().starts_with(b"fm-watch\0");
    wait_until_true(SOON, "the other process has its name", named);
    let answer = examine(&home).expect_code(0);
    assert_found(&answer, "duplicates", "WARN", &[&format!("pid {} also says", pretender.pid()), "ps -o"]);
    assert_found(&answer, "watcher", "PASS", &[&watcher.pid().to_string()]);
    assert!(stat_field(pretender.pid(), 3).is_some(), "nobody is ended for what a command line says");
}

fn wakes_that_reach_nobody_are_told_with_their_age() {
    let home = TestHome::new();
    let seq = home.wake("custom", "key", "text");
    let answer = examine(&home).expect_code(0);
    assert_found(&answer, "wakes", "WARN", &["at most 1", "the oldest for", "no waiter lives", "drain", "ack"]);
    home.ack(seq);
    assert_found(&examine(&home).expect_code(0), "wakes", "PASS", &[]);
}

fn a_stranger_on_the_lock_is_told() {
    let home = TestHome::new();
    home.make_watch();
    let lock = fs::File::create(home.watch("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let answer = examine(&home).expect_code(1);
    assert_found(&answer, "watcher", "FAIL", &["not a watcher of this home", &std::process::id().to_string()]);
}

fn locks_that_do_nothing_are_told() -> Result<(), Skip> {
    let home = TestHome::new();
    let mounted = Mounted::in_home(&home, Manners::of_locks(Locks::NoOp))?;
    let mut command = home.command(&["--state", mounted.path().to_str().unwrap(), "doctor", "--json"]);
    command.stdin(Stdio::null());
    let answer = finish(command).expect_code(1);
    assert_found(&answer, "lock", "FAIL", &["two processes hold the same one", "--runtime-dir"]);
    Ok(())
}

fn without_file_events_the_limit_is_named() -> Result<(), Skip> {
    requires("unshare")?;
    let home = TestHome::new();
    home.wake("custom", "key", "text");
    let limited = |program: &[&str]| {
        let mut command = home.bare("unshare");
        command.args(["--user", "--map-root-user", "sh", "-c"]);
        command.arg("echo 0 > /proc/sys/user/max_inotify_instances && exec \"$@\"").arg("sh").args(program);
        command
    };
    let probe = finish(limited(&["true"]));
    if probe.code != Some(0) {
        return Err(Skip(format!("no user namespace with limits of its own can be had: {}", probe.stderr.trim())));
    }
    let mut command = limited(&[*PROGRAM]);
    command.args(home.flags()).args(["doctor", "--json"]);
    let answer = finish(command).expect_code(0);
    assert_found(&answer, "events", "WARN", &["max_user_instances", "sysctl"]);
    Ok(())
}

fn a_service_of_somebody_else_is_told() {
    let home = TestHome::new();
    let path = home.ask(&["service", "print", "--json"]).expect_code(0).json()["path"].as_str().unwrap().to_owned();
    fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
    fs::write(&path, "mine").unwrap();
    let answer = home.ask(&["doctor", "--json", "--fix"]).expect_code(0);
    assert_found(&answer, "service", "WARN", &["not the service of this home"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
}

/// What the doctor finds when the manager answers with these lines.
fn under_a_manager(home: &TestHome, lines: &[&str]) -> Answer {
    let directory = home.scratch().join("bin");
    fs::create_dir_all(&directory).unwrap();
    let systemctl = directory.join("systemctl");
    fs::write(&systemctl, format!("#!/bin/sh\nprintf '%s\\n' {}\n", lines.join(" "))).unwrap();
    set_mode(&systemctl, 0o755);
    let mut command = home.command(&["doctor", "--json"]);
    command.env("PATH", &directory);
    finish(command)
}

fn a_service_is_told_by_what_it_keeps() {
    let home = TestHome::new();
    let nowhere = home.scratch().join("nowhere");
    let with_nothing = |arguments: &[&str]| {
        let mut command = home.command(arguments);
        command.env("PATH", &nowhere);
        finish(command)
    };
    with_nothing(&["service", "install"]).expect_code(0);
    assert_found(&with_nothing(&["doctor", "--json"]), "service", "WARN", &["cannot be asked"]);
    let resting = ["ActiveState=inactive", "UnitFileState=enabled"];
    assert_found(&under_a_manager(&home, &resting), "service", "WARN", &["keeps no watcher", "service install"]);
    let watcher = home.watcher();
    let keeps = format!("MainPID={}", watcher.pid());
    let kept = ["ActiveState=active", &keeps, "UnitFileState=enabled"];
    assert_found(&under_a_manager(&home, &kept), "service", "PASS", &[&format!("keeps pid {}", watcher.pid())]);
    let until_logout = ["ActiveState=active", &keeps, "UnitFileState=disabled"];
    assert_found(&under_a_manager(&home, &until_logout), "service", "WARN", &["next login", "systemctl --user enable"]);
    let other = ["ActiveState=active", "MainPID=1", "UnitFileState=enabled"];
    assert_found(&under_a_manager(&home, &other), "service", "WARN", &["watches without it", "service install"]);
    let failed = ["ActiveState=failed", "Result=exit-code", "UnitFileState=enabled"];
    assert_found(&under_a_manager(&home, &failed).expect_code(1), "service", "FAIL", &["exit-code", "journalctl"]);
}

fn settings_that_others_can_write_to_are_told() {
    let home = TestHome::new();
    home.configure("");
    let file = home.root().join("config/fm-watch.toml");
    set_mode(&file, 0o664);
    assert_found(&examine(&home).expect_code(0), "settings", "WARN", &["has mode 664", "chmod go-w"]);
    set_mode(&file, 0o644);
    set_mode(&home.root().join("config"), 0o777);
    let answer = home.ask(&["doctor", "--json", "--fix"]).expect_code(1);
    assert_found(&answer, "settings", "FAIL", &["config has mode 777", "others choose what runs"]);
    assert_eq!(mode_of(&home.root().join("config")), 0o777, "it may be meant so");
    set_mode(&home.root().join("config"), 0o755);
    assert_found(&examine(&home).expect_code(0), "settings", "PASS", &[]);
}

fn settings_of_another_user_are_told() -> Result<(), Skip> {
    requires_root()?;
    let home = TestHome::new();
    home.configure("");
    std::os::unix::fs::chown(home.root().join("config/fm-watch.toml"), Some(12345), None).unwrap();
    assert_found(&examine(&home).expect_code(1), "settings", "FAIL", &["belongs to uid 12345", "sudo chown"]);
    Ok(())
}

fn a_home_that_cannot_be_looked_into_is_told() -> Result<(), Skip> {
    requires_root()?;
    requires("setpriv")?;
    let home = TestHome::new();
    home.wake("custom", "key", "text");
    let program = home.scratch().join("fm-watch");
    copy_program(&program);
    set_mode(home.scratch(), 0o755);
    set_mode(&program, 0o755);
    let mut command = home.bare("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program).args(home.flags());
    command.args(["doctor", "--json"]).current_dir("/");
    let answer = finish(command).expect_code(1);
    assert_found(&answer, "directories", "FAIL", &["cannot examine", "Permission denied"]);
    Ok(())
}

/// What the doctor finds after a script has changed the mounts.
fn after_mounting(home: &TestHome, script: &str) -> Result<Answer, Skip> {
    Namespace::Mounts.required(home)?;
    home.make_state();
    let script = format!("{script}\nfm doctor --json || exit $?");
    let answer = finish(Namespace::Mounts.script(home, &script));
    assert!(answer.took < Duration::from_secs(10), "{answer:?}");
    Ok(answer)
}

fn a_full_disk_is_told() -> Result<(), Skip> {
    let home = TestHome::new();
    let script = r#"
        mount -t tmpfs -o size=256k,mode=0700 none "$STATE"
        fm wake custom key text > "$SCRATCH/seq"
        dd if=/dev/zero of="$STATE/filler" bs=4k 2>/dev/null || :
        dd if=/dev/zero of="$STATE/filler2" bs=1 2>/dev/null || :
    "#;
    let answer = after_mounting(&home, script)?.expect_code(1);
    assert_found(&answer, "space", "FAIL", &["0 MiB are free", "make room"]);
    assert_found(&answer, "wakes", "WARN", &["at most 1"]);
    Ok(())
}

fn a_read_only_file_system_is_told() -> Result<(), Skip> {
    let home = TestHome::new();
    let script = r#"
        fm wake custom key text > "$SCRATCH/seq"
        mount --bind "$STATE" "$STATE"
        mount -o remount,ro,bind "$STATE"
    "#;
    let answer = after_mounting(&home, script)?.expect_code(1);
    assert_found(&answer, "space", "FAIL", &["read-only"]);
    assert_found(&answer, "wakes", "WARN", &["at most 1"]);
    Ok(())
}

fn a_boot_without_an_id_is_told() -> Result<(), Skip> {
    let home = TestHome::new();
    let answer = after_mounting(&home, "mount --bind /dev/null /proc/sys/kernel/random/boot_id")?;
    assert_found(&answer, "clock", "WARN", &["does not tell the id of this boot", "/proc"]);
    Ok(())
}

fn a_clock_that_was_set_back_is_told() {
    let home = TestHome::new();
    let pid = home.arm();
    home.kill(pid);
    wait_for_end(pid, "the watcher");
    let mut owner = home.owner().unwrap();
    assert_found(&examine(&home), "clock", "PASS", &[]);
    // An hour later than the clock says it is now.
    owner["since"] = (owner["since"].as_i64().unwrap() + 3_600_000).into();
    fs::write(home.watch("owner.json"), owner.to_string()).unwrap();
    assert_found(&examine(&home), "clock", "WARN", &["was set back"]);
}

fn a_kernel_without_pidfds_is_told() -> Result<(), Skip> {
    let home = TestHome::new();
    requires_strace(&home)?;
    let expressions = ["trace=pidfd_open", "inject=pidfd_open:error=ENOSYS"];
    let answer = finish(traced(&home, &expressions, &["doctor", "--json"])).expect_code(1);
    assert_found(&answer, "identity", "FAIL", &["cannot be recognised", "Linux 5.3"]);
    Ok(())
}

fn a_lock_call_that_hangs_is_told_in_time() -> Result<(), Skip> {
    let home = TestHome::new();
    let mounted = Mounted::in_home(&home, Manners::of_locks(Locks::Hang))?;
    let command = home.command(&["--state", mounted.path().to_str().unwrap(), "doctor", "--json"]);
    let answer = finish(command).expect_code(1);
    assert!(answer.took < Duration::from_secs(10), "{answer:?}");
    assert_found(&answer, "lock", "FAIL", &["lock a file", "--runtime-dir"]);
    Ok(())
}

fn a_journal_that_cannot_be_read_is_told() {
    let home = TestHome::new();
    home.wake("custom", "key", "text");
    fs::remove_dir_all(home.watch("wakes")).unwrap();
    fs::write(home.watch("wakes"), "a file").unwrap();
    assert_found(&examine(&home).expect_code(1), "wakes", "FAIL", &[]);
}

fn the_object_has_its_documented_shape() {
    let home = TestHome::new();
    home.wake("custom", "key", "text");
    fs::remove_dir(home.watch("waiters")).unwrap();
    let object = examine(&home).expect_code(0).json();
    assert_eq!((&object["schema"], &object["worst"]), (&1.into(), &"WARN".into()));
    assert_eq!(object.as_object().unwrap().len(), 3);
    for finding in object["findings"].as_array().unwrap() {
        let fields: Vec<_> = finding.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, ["check", "found", "grade", "mend", "safe"], "{finding}");
        assert!(finding["mend"].is_string() || finding["mend"].is_null(), "{finding}");
        let is_of_the_missing = finding["found"].as_str().unwrap().ends_with("waiters is missing");
        assert_eq!(finding["safe"], is_of_the_missing, "{finding}");
    }
}

/// A call that the kernel never answers looks like this from outside.
#[cfg(feature = "sync-points")]
fn what_does_not_answer_is_told_in_time() {
    let home = TestHome::new();
    let points = crate::support::sync::Points::new(&home, "doctor");
    let mut command = home.command(&["doctor", "--json"]);
    points.pause(&mut command, &["DoctorLook"]);
    let answer = finish(command).expect_code(1);
    assert!(answer.took < Duration::from_secs(15), "{answer:?}");
    assert_found(&answer, "settings", "FAIL", &["no answer within", "df"]);
}

/// A command of `hooks` in the directory of a project.
#[track_caller]
fn hooks(home: &TestHome, project: &Path, arguments: &[&str]) {
    let mut command = home.bare(*PROGRAM);
    command.arg("hooks").args(arguments).current_dir(project);
    finish(command).expect_code(0);
}

fn hooks_are_mentioned_only_where_they_are_installed() {
    let home = TestHome::new();
    home.wake("custom", "key", "text");
    let user = home.scratch().join("user");
    fs::create_dir(user.join(".gemini")).unwrap();
    fs::write(user.join(".gemini/settings.json"), "this { is not ours and does not parse").unwrap();
    assert_found(&examine(&home), "hooks", "PASS", &["none are installed"]);
    for harness in ["claude", "kimi", "opencode"] {
        hooks(&home, &user, &["install", harness]);
    }
    let answer = examine(&home).expect_code(0);
    let found = about(&answer, "hooks");
    assert_eq!(found.len(), 3, "{found:#?}");
    assert_found(&answer, "hooks", "PASS", &["Claude Code: ", ".claude/settings.json", "its 4 entries run"]);
    assert_found(&answer, "hooks", "PASS", &["Kimi Code: "]);
    assert_found(&answer, "hooks", "PASS", &["OpenCode: ", "its 3 entries run"]);
}

fn hooks_that_do_not_work_are_told_with_what_mends_them() {
    let home = TestHome::new();
    home.wake("custom", "key", "text");
    let user = home.scratch().join("user");
    hooks(&home, &user, &["install", "claude"]);
    hooks(&home, &user, &["install", "codex"]);
    let settings = user.join(".claude/settings.json");
    let text = fs::read_to_string(&settings).unwrap();
    let program = fs::canonicalize(*PROGRAM).unwrap();
    fs::write(&settings, text.replace(program.to_str().unwrap(), "/nowhere/fm-watch")).unwrap();
    let answer = examine(&home).expect_code(1);
    let install = "fm-watch hooks install claude";
    assert_found(&answer, "hooks", "WARN", &["Claude Code: present: 0 of 5", install]);
    assert_found(&answer, "hooks", "FAIL", &["Claude Code: runs: turn-end exited with 127", install]);
    assert_found(&answer, "hooks", "WARN", &["Codex CLI: trusted: ", "review"]);
    fs::write(&settings, &text[..text.len() - 3]).unwrap();
    let answer = examine(&home).expect_code(1);
    assert_found(&answer, "hooks", "FAIL", &["Claude Code: parses: ", "by hand"]);
    hooks(&home, &user, &["uninstall", "codex"]);
    fs::remove_file(&settings).unwrap();
    assert_found(&examine(&home).expect_code(0), "hooks", "PASS", &["none are installed"]);
}

fn hooks_of_the_project_in_the_home_are_examined() {
    let home = TestHome::new();
    home.wake("custom", "key", "text");
    hooks(&home, &home.root(), &["install", "cursor", "--project"]);
    let file = home.root().join(".cursor/hooks.json");
    assert_found(&examine(&home).expect_code(0), "hooks", "PASS", &["Cursor: ", file.to_str().unwrap()]);
    let program = fs::canonicalize(*PROGRAM).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace(program.to_str().unwrap(), "/nowhere/fm-watch")).unwrap();
    let mend = format!("cd {} && {} hooks install cursor --project", home.root().display(), program.display());
    assert_found(&examine(&home).expect_code(1), "hooks", "FAIL", &["exited with 127", &mend]);
}

fn each_line_is_one_finding() {
    let home = TestHome::new();
    home.meta("task", &["kind=worker"]);
    let count = examine(&home).expect_code(1).json()["findings"].as_array().unwrap().len();
    let answer = home.ask(&["doctor"]).expect_code(1);
    assert_eq!(answer.lines().len(), count);
    let has_grade = |line: &&str| ["PASS ", "WARN ", "FAIL "].iter().any(|grade| line.starts_with(grade));
    assert!(answer.lines().iter().all(has_grade), "{answer:?}");
    assert!(answer.stdout.contains(&format!(" -> {} --home ", *PROGRAM)), "{answer:?}");
}

/// The twin of `what_belongs_to_somebody_else_is_never_mended_by_itself`.
#[cfg(feature = "sync-points")]
fn without_asking_for_the_owner_a_strangers_directory_is_changed() -> Result<(), Skip> {
    requires_root()?;
    let home = TestHome::new();
    home.wake("custom", "key", "text");
    let inbox = home.watch("inbox");
    set_mode(&inbox, 0o777);
    std::os::unix::fs::chown(&inbox, Some(12345), None).unwrap();
    let mut command = home.command(&["doctor", "--fix"]);
    crate::support::sync::without(&mut command, &["DoctorOwner"]);
    finish(command);
    assert_eq!(mode_of(&inbox), 0o700);
    Ok(())
}
