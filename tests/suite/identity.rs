//! Nobody is signalled who is not proven to be this home's watcher: pids that were given away, forged records,
//! processes that cannot be examined.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::background::{wait_for_end, wait_for_state};
use crate::support::home::{PROGRAM, copy_program, finish, make_private, pid_in};
use crate::support::namespace::Namespace;
use crate::support::strace::{calls_in, recorded, requires_strace, traced};
#[cfg(feature = "sync-points")]
use crate::support::sync::without;
use crate::support::{
    Answer, Background, SOON, Skip, TestHome, processes, requires, requires_root, stays_true, wait_until,
};

cases! {
    an_innocent_process_with_a_reused_pid_is_never_signalled,
    #[cfg(feature = "sync-points")]
    without_identity_and_lock_taker_an_innocent_process_is_signalled,
    a_process_of_the_same_program_and_the_same_tick_is_not_the_watcher,
    #[cfg(feature = "sync-points")]
    a_pid_reused_between_proof_and_signal_is_not_signalled,
    a_forged_record_of_a_strangers_true_identity_gets_no_signal,
    #[cfg(feature = "sync-points")]
    without_the_lock_taker_a_forged_record_ends_a_stranger,
    another_users_process_is_never_dead_and_never_signalled,
    a_home_that_may_not_be_read_is_unknown_and_not_dead,
    without_pidfds_nobody_is_signalled,
    without_pidfds_a_watcher_refuses_to_start,
    a_record_of_an_old_kernel_is_proven_by_start_and_executable,
    a_zombie_watcher_is_dead_and_needs_no_signal,
    a_watcher_whose_program_was_replaced_on_disk_is_recognised,
    the_executable_alone_is_no_proof,
    another_executable_at_the_recorded_tick_is_no_proof,
    an_unreadable_executable_is_no_proof,
    proc_of_another_pid_namespace_proves_nothing,
    a_watcher_in_another_pid_namespace_is_not_signalled,
    a_process_that_vanishes_while_it_is_read_is_gone_and_no_panic,
    a_group_is_killed_only_while_its_leader_is_unreaped,
    a_watcher_that_ignores_term_is_killed_through_the_same_pin,
    a_stepped_clock_changes_no_identity_and_no_verdict,
}

/// Changes the record on disk. Its holder must be stopped, or it would mend it or leave.
fn forge(home: &TestHome, change: impl FnOnce(&mut Value)) {
    let mut record = home.owner().unwrap();
    change(&mut record);
    let new = home.watch("forged");
    fs::write(&new, record.to_string()).unwrap();
    fs::rename(new, home.watch("owner.json")).unwrap();
}

/// A watcher that lives and holds, but is stopped, so that what is on disk is what the test put there.
fn stopped_watcher(home: &TestHome) -> Background {
    let watcher = home.watcher();
    watcher.signal(Signal::STOP);
    wait_for_state(watcher.pid(), "T");
    watcher
}

/// Every way to end a watcher refuses, says why, and signals nobody.
#[track_caller]
fn no_way_to_end_it(home: &TestHome, what: &str) -> String {
    let stop = home.ask(&["stop"]);
    assert_eq!(stop.code, Some(1), "stop, {what}: {stop:?}");
    assert!(stop.stdout.is_empty(), "stop, {what}: {stop:?}");
    let restart = home.ask(&["arm", "--restart", "--no-wait"]);
    assert_eq!(restart.code, Some(1), "restart, {what}: {restart:?}");
    assert!(restart.stdout.starts_with("watcher: FAILED - "), "restart, {what}: {restart:?}");
    assert_eq!(restart.lines().len(), 1, "restart, {what}: {restart:?}");
    stop.stderr
}

const STRANGER: &str = r#"
    watch & watcher=$!
    wait_for test -e "$STATE/watch/beat.json"
    cp "$STATE/watch/owner.json" "$SCRATCH/old.json"
    kill -9 $watcher; wait $watcher || :
    # An innocent process gets the pid of the dead watcher.
    next_pid $watcher; sleep 1000 & victim=$!
    [ $victim = $watcher ] || { echo "pid $victim instead of $watcher" >&2; exit 98; }
"#;

fn an_innocent_process_with_a_reused_pid_is_never_signalled() -> Result<(), Skip> {
    let home = TestHome::with(&["arm_timeout=2s"]);
    Namespace::Pids.required(&home)?;
    let script = format!(
        r#"{STRANGER}
        # Nobody holds the home: nothing to stop.
        fm stop
        kill -0 $victim
        # Another watcher holds it, is stopped, and the old record comes back.
        watch & holder=$!
        wait_for grep -q "\"pid\":$holder" "$STATE/watch/beat.json"
        kill -STOP $holder
        cp "$STATE/watch/owner.json" "$SCRATCH/new.json"
        cp "$SCRATCH/old.json" "$STATE/watch/owner.json"
        ! fm stop || exit 1
        kill -0 $victim; kill -0 $holder
        ! fm arm --restart --no-wait || exit 2
        kill -0 $victim; kill -0 $holder
        # With its own record the holder is stopped, and only the holder.
        cp "$SCRATCH/new.json" "$STATE/watch/owner.json"
        kill -CONT $holder
        fm stop
        wait $holder
        kill -0 $victim
        # A dead holder is replaced, the innocent one stays.
        cp "$SCRATCH/old.json" "$STATE/watch/owner.json"
        fm arm --restart --no-wait
        kill -0 $victim
        fm stop
        kill -0 $victim
        "#
    );
    finish(Namespace::Pids.script(&home, &script)).expect_code(0);
    Ok(())
}

#[cfg(feature = "sync-points")]
fn without_identity_and_lock_taker_an_innocent_process_is_signalled() -> Result<(), Skip> {
    let home = TestHome::new();
    Namespace::Pids.required(&home)?;
    let script = format!(
        r#"{STRANGER}
        watch & holder=$!
        wait_for grep -q "\"pid\":$holder" "$STATE/watch/beat.json"
        kill -STOP $holder
        cp "$SCRATCH/old.json" "$STATE/watch/owner.json"
        FM_WATCH_WITHOUT=LeaveIdentity,LeaveLockTaker fm stop || :
        wait $victim && exit 1 || code=$?
        echo "the innocent process ended with $code"
        "#
    );
    let answer = finish(Namespace::Pids.script(&home, &script)).expect_code(0);
    assert_eq!(answer.lines().last(), Some(&"the innocent process ended with 143"), "{answer:?}");
    Ok(())
}

fn a_process_of_the_same_program_and_the_same_tick_is_not_the_watcher() {
    let (home, elsewhere) = (TestHome::with(&["arm_timeout=2s"]), TestHome::new());
    let stranger = elsewhere.watcher();
    let holder = stopped_watcher(&home);
    let theirs = elsewhere.owner().unwrap();
    // As if the stranger had got the pid in the very tick in which the watcher began: all is the same but the
    // kernel's own number of the process.
    forge(&home, |record| {
        for field in ["pid", "start_ticks", "executable"] {
            record[field] = theirs[field].clone();
        }
    });
    let said = no_way_to_end_it(&home, "the same tick");
    assert!(said.contains("no signal was sent"), "{said}");
    assert!(processes::is_alive(stranger.pid()) && processes::is_alive(holder.pid()));
    assert_eq!(elsewhere.verdict(), "ok");
}

/// `stop` has proven the watcher and is paused before its signal; the watcher dies and its pid goes to another.
#[cfg(feature = "sync-points")]
fn a_pid_reused_between_proof_and_signal_is_not_signalled() -> Result<(), Skip> {
    let home = TestHome::new();
    Namespace::Pids.required(&home)?;
    let script = r#"
        watch & watcher=$!
        wait_for test -e "$STATE/watch/beat.json"
        mkdir "$SCRATCH/points"
        FM_WATCH_SYNC="LeaveProven=pause:$SCRATCH/points" fm stop & stop=$!
        wait_for test -e "$SCRATCH/points/LeaveProven.reached"
        kill -9 $watcher; wait $watcher || :
        next_pid $watcher; sleep 1000 & victim=$!
        [ $victim = $watcher ] || exit 98
        touch "$SCRATCH/points/LeaveProven.go"
        wait $stop
        kill -0 $victim
        # The twin: whoever keeps the number instead of the process signals the innocent one.
        kill -TERM $watcher
        wait $victim && exit 1 || code=$?
        echo "by number: $code"
    "#;
    let answer = finish(Namespace::Pids.script(&home, script)).expect_code(0);
    assert_eq!(answer.lines().last(), Some(&"by number: 143"), "{answer:?}");
    Ok(())
}

/// Puts the whole true identity of the watcher of one home into the record of another home.
fn forge_identity_of(home: &TestHome, elsewhere: &TestHome) {
    let theirs = elsewhere.owner().unwrap();
    forge(home, |record| {
        for field in ["pid", "start_ticks", "executable", "pidfd_inode", "boot_id", "pid_namespace", "uid"] {
            record[field] = theirs[field].clone();
        }
    });
}

fn a_forged_record_of_a_strangers_true_identity_gets_no_signal() {
    let (home, elsewhere) = (TestHome::with(&["arm_timeout=2s"]), TestHome::new());
    let stranger = elsewhere.watcher();
    let holder = stopped_watcher(&home);
    forge_identity_of(&home, &elsewhere);
    let said = no_way_to_end_it(&home, "a forged identity");
    assert!(said.contains(&holder.pid().to_string()), "it names who really took the lock: {said}");
    assert!(processes::is_alive(stranger.pid()) && processes::is_alive(holder.pid()));
    assert_eq!(elsewhere.verdict(), "ok");
}

#[cfg(feature = "sync-points")]
fn without_the_lock_taker_a_forged_record_ends_a_stranger() {
    let (home, elsewhere) = (TestHome::new(), TestHome::new());
    let stranger = elsewhere.watcher();
    let _holder = stopped_watcher(&home);
    forge_identity_of(&home, &elsewhere);
    let mut stop = home.command(&["stop"]);
    without(&mut stop, &["LeaveLockTaker"]);
    finish(stop);
    stranger.finish(SOON).expect_code(0);
}

/// A command as a user who owns nothing here, in a home that belongs to it.
fn as_nobody(command: &Command) -> Command {
    let mut other = Command::new("setpriv");
    other.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    other.arg(command.get_program()).args(command.get_args()).env_clear();
    other.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir("/");
    other
}

fn give_to_nobody(home: &TestHome) {
    let mut chown = home.bare("chown");
    chown.args(["-R", "65534:65534"]).arg(home.scratch());
    finish(chown).expect_code(0);
}

fn requires_nobody(home: &TestHome) -> Result<(), Skip> {
    requires_root()?;
    requires("setpriv")?;
    let mut version = home.bare(*PROGRAM);
    version.arg("--version");
    let answer = finish(as_nobody(&version));
    if answer.code == Some(0) { Ok(()) } else { Err(Skip("another user cannot execute the program here".to_owned())) }
}

fn another_users_process_is_never_dead_and_never_signalled() -> Result<(), Skip> {
    let home = TestHome::with(&["arm_timeout=2s"]);
    requires_nobody(&home)?;
    give_to_nobody(&home);
    let watcher = Background::spawn(as_nobody(&home.command(&["run"])));
    home.wait_until_watched_by(watcher.pid());
    watcher.signal(Signal::STOP);
    wait_for_state(watcher.pid(), "T");
    // A watcher of root's, in root's own home, recorded with all its true facts in the home of nobody.
    let elsewhere = TestHome::new();
    let roots = elsewhere.watcher();
    forge_identity_of(&home, &elsewhere);
    give_to_nobody(&home);
    let stop = finish(as_nobody(&home.command(&["stop"])));
    assert_eq!((stop.code, stop.stdout.as_str()), (Some(1), ""), "{stop:?}");
    let status = finish(as_nobody(&home.command(&["status", "--json"]))).json();
    assert!(!["dead", "stopped"].contains(&status["verdict"].as_str().unwrap()), "{status}");
    assert!(processes::is_alive(roots.pid()) && processes::is_alive(watcher.pid()));
    Ok(())
}

fn a_home_that_may_not_be_read_is_unknown_and_not_dead() -> Result<(), Skip> {
    let home = TestHome::new();
    requires_nobody(&home)?;
    let watcher = home.watcher();
    // First nothing of the home may be read, then all but the state directory.
    for directory in [home.root(), home.state()] {
        let status = finish(as_nobody(&home.command(&["status"])));
        assert!(matches!(status.code, Some(1 | 4)), "neither running nor not running: {status:?}");
        let is_of_state = directory == home.state();
        assert!(!is_of_state || status.stdout.starts_with("unknown: "), "{status:?}");
        assert!(!is_of_state || status.code == Some(4), "{status:?}");
        let stop = finish(as_nobody(&home.command(&["stop"])));
        assert_eq!((stop.code, stop.stdout.as_str()), (Some(1), ""), "{stop:?}");
        let guard = finish(as_nobody(&home.command(&["guard"])));
        assert_eq!((guard.code, guard.stdout.as_str()), (Some(0), ""), "{guard:?}");
        assert!(!guard.stderr.is_empty(), "the guard says that it cannot look");
        assert!(processes::is_alive(watcher.pid()));
        fs::set_permissions(home.scratch(), fs::Permissions::from_mode(0o711)).unwrap();
        fs::set_permissions(home.root(), fs::Permissions::from_mode(0o711)).unwrap();
    }
    Ok(())
}

fn without_pidfds_nobody_is_signalled() -> Result<(), Skip> {
    let home = TestHome::with(&["arm_timeout=2s"]);
    requires_strace(&home)?;
    let watcher = home.watcher();
    for error in ["ENOSYS", "EPERM", "EMFILE"] {
        let inject = format!("inject=pidfd_open:error={error}");
        let stop = finish(traced(&home, &["trace=pidfd_open", &inject], &["stop"]));
        assert_eq!((stop.code, stop.stdout.as_str()), (Some(1), ""), "{error}: {stop:?}");
        assert!(stop.stderr.contains("no signal was sent"), "{error}: {stop:?}");
        let restart = finish(traced(&home, &["trace=pidfd_open", &inject], &["arm", "--restart", "--no-wait"]));
        assert_eq!(restart.code, Some(1), "{error}: {restart:?}");
        assert!(restart.stdout.starts_with("watcher: FAILED - "), "{error}: {restart:?}");
        let status = finish(traced(&home, &["trace=pidfd_open", &inject], &["status"])).expect_code(0);
        assert!(status.stdout.starts_with("ok"), "a fresh beat needs no pidfd ({error}): {status:?}");
    }
    assert_eq!((home.verdict().as_str(), home.pid()), ("ok", Some(watcher.pid())));
    Ok(())
}

fn without_pidfds_a_watcher_refuses_to_start() -> Result<(), Skip> {
    let home = TestHome::new();
    requires_strace(&home)?;
    let answer = finish(traced(&home, &["trace=pidfd_open", "inject=pidfd_open:error=ENOSYS"], &["run"]));
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(answer.stderr.contains("error"), "{answer:?}");
    assert_eq!(home.owner(), None);
    home.watcher();
    Ok(())
}

fn a_record_of_an_old_kernel_is_proven_by_start_and_executable() {
    let home = TestHome::with(&["stop_grace=100ms", "arm_timeout=2s"]);
    let watcher = stopped_watcher(&home);
    forge(&home, |record| record["start_ticks"] = (record["start_ticks"].as_u64().unwrap() + 1).into());
    forge(&home, |record| drop(record.as_object_mut().unwrap().remove("pidfd_inode")));
    no_way_to_end_it(&home, "another start tick");
    assert!(processes::is_alive(watcher.pid()));
    forge(&home, |record| record["start_ticks"] = (record["start_ticks"].as_u64().unwrap() - 1).into());
    let stop = home.ask(&["stop"]).expect_code(0);
    assert_eq!(stop.stdout, format!("watcher: stopped pid={}\n", watcher.pid()));
    assert_eq!(watcher.finish(SOON).signal, Some(9));
}

fn a_zombie_watcher_is_dead_and_needs_no_signal() {
    let home = TestHome::new();
    let zombie = home.watcher();
    // It is our child and we do not reap it.
    zombie.signal(Signal::KILL);
    wait_for_end(zombie.pid(), "the watcher");
    wait_for_state(zombie.pid(), "Z");
    assert_eq!(home.verdict(), "dead");
    let stop = home.ask(&["stop"]).expect_code(0);
    assert_eq!(stop.stdout, "");
    let next = home.arm();
    assert_ne!(next, zombie.pid());
    home.wait_until_watched_by(next);
}

fn a_watcher_whose_program_was_replaced_on_disk_is_recognised() {
    let home = TestHome::new();
    let installed = home.scratch().join("bin/fm-watch");
    make_private(installed.parent().unwrap());
    let install = || {
        let new = home.scratch().join("bin/new");
        copy_program(&new);
        fs::rename(new, &installed).unwrap();
    };
    let ask = |arguments: &[&str]| {
        let mut command = home.bare(&installed);
        command.args(home.flags()).args(arguments);
        finish(command)
    };
    install();
    let old = pid_in(&ask(&["arm", "--no-wait"]).expect_code(0).stdout).unwrap();
    home.wait_until_watched_by(old);
    let recorded = home.owner().unwrap()["executable"]["path"].as_str().unwrap().to_owned();
    install();
    // The twin: whoever compares the text no longer knows it.
    let text = fs::read_link(format!("/proc/{old}/exe")).unwrap().to_str().unwrap().to_owned();
    assert_eq!(text, format!("{recorded} (deleted)"));
    assert!(home.status()["identity"].as_str().unwrap().contains("same"), "{}", home.status());
    let answer = ask(&["arm", "--restart", "--no-wait"]).expect_code(0);
    let new = pid_in(&answer.stdout).unwrap();
    assert_ne!(new, old, "{answer:?}");
    wait_for_end(old, "the old watcher");
    assert_eq!(fs::read_link(format!("/proc/{new}/exe")).unwrap(), installed);
    assert_eq!(home.verdict(), "ok");
    // And once more with the program gone altogether: the old watcher is still stopped by the other copy.
    fs::remove_file(&installed).unwrap();
    assert_eq!(home.ask(&["stop"]).expect_code(0).stdout, format!("watcher: stopped pid={new}\n"));
}

fn the_executable_alone_is_no_proof() {
    let (home, elsewhere) = (TestHome::with(&["arm_timeout=2s"]), TestHome::new());
    let stranger = elsewhere.watcher();
    let _holder = stopped_watcher(&home);
    forge(&home, |record| {
        record["pid"] = stranger.pid().into();
        record["start_ticks"] = 1.into();
        record.as_object_mut().unwrap().remove("pidfd_inode");
    });
    no_way_to_end_it(&home, "only the executable is the same");
    assert!(processes::is_alive(stranger.pid()));
}

fn another_executable_at_the_recorded_tick_is_no_proof() {
    let home = TestHome::with(&["arm_timeout=2s"]);
    let watcher = stopped_watcher(&home);
    forge(&home, |record| {
        record["executable"]["inode"] = 1.into();
        record.as_object_mut().unwrap().remove("pidfd_inode");
    });
    let said = no_way_to_end_it(&home, "another executable");
    assert!(said.contains("executable"), "{said}");
    assert!(processes::is_alive(watcher.pid()));
}

fn an_unreadable_executable_is_no_proof() {
    let home = TestHome::with(&["arm_timeout=2s"]);
    let watcher = stopped_watcher(&home);
    forge(&home, |record| {
        record.as_object_mut().unwrap().remove("executable");
        record.as_object_mut().unwrap().remove("pidfd_inode");
    });
    let said = no_way_to_end_it(&home, "no executable");
    assert!(said.contains("executable"), "{said}");
    assert!(processes::is_alive(watcher.pid()));
}

fn proc_of_another_pid_namespace_proves_nothing() -> Result<(), Skip> {
    let home = TestHome::new();
    Namespace::PidsWithOuterProc.required(&home)?;
    let answer = finish(Namespace::PidsWithOuterProc.script(&home, "fm run"));
    assert_eq!(answer.code, Some(1), "a watcher that nobody could verify does not start: {answer:?}");
    assert!(answer.stderr.contains("/proc"), "{answer:?}");
    assert_eq!(home.owner(), None);
    Ok(())
}

fn a_watcher_in_another_pid_namespace_is_not_signalled() -> Result<(), Skip> {
    let home = TestHome::with(&["arm_timeout=2s"]);
    Namespace::Pids.required(&home)?;
    let watcher = home.watcher();
    for namespace in [Namespace::Pids, Namespace::PidsWithOuterProc] {
        let script = "fm status; ! fm stop || exit 1; ! fm arm --restart --no-wait || exit 2; fm arm --no-wait";
        let answer = finish(namespace.script(&home, script)).expect_code(0);
        assert!(answer.stdout.starts_with("ok"), "a fresh beat beside a held lock is life: {answer:?}");
        let last = answer.lines().last().copied().unwrap_or_default().to_owned();
        assert!(last.starts_with("watcher: healthy pid="), "{answer:?}");
        assert!(processes::is_alive(watcher.pid()), "{namespace:?}");
    }
    // Stopped and out of sight it is unknown, not dead, and nobody starts a second one.
    watcher.signal(Signal::STOP);
    wait_for_state(watcher.pid(), "T");
    let script = "fm --set stuck_after=300ms status --json || exit 0; exit 1";
    let answer = finish(Namespace::Pids.script(&home, script));
    let unsure = wait_until(SOON, "the beat is over the bound", || {
        let answer = finish(Namespace::Pids.script(&home, script));
        let status: Value = serde_json::from_str(&answer.stdout).ok()?;
        (answer.code == Some(0)).then_some(status)
    });
    assert_eq!(unsure["verdict"], "unknown", "{unsure}, first {answer:?}");
    Ok(())
}

fn a_process_that_vanishes_while_it_is_read_is_gone_and_no_panic() -> Result<(), Skip> {
    let home = TestHome::new();
    requires_strace(&home)?;
    let watcher = home.watcher();
    let vanishing = |injection: &str| {
        let mut command = home.bare("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-P"]).arg(format!("/proc/{}/stat", watcher.pid()));
        command.args(["-e", injection, *PROGRAM]).args(home.flags()).arg("stop");
        finish(command)
    };
    for injection in ["inject=openat:error=ENOENT", "inject=read:error=ESRCH", "inject=read:retval=0"] {
        let answer = vanishing(injection);
        assert_eq!(answer.code, Some(1), "{injection}: {answer:?}");
        assert!(answer.stderr.contains("no signal was sent"), "{injection}: {answer:?}");
    }
    assert!(processes::is_alive(watcher.pid()));
    drop(watcher);
    // The same with real deaths, while others look.
    for _ in 0..10 {
        let watcher = home.watcher();
        let looking: Vec<_> = (0..4).map(|_| home.spawn(&["status"])).collect();
        watcher.signal(Signal::KILL);
        watcher.finish(SOON);
        for look in looking {
            let Answer { code, stdout, stderr, .. } = look.finish(SOON);
            assert!(matches!(code, Some(0 | 3 | 4)), "{code:?} {stdout} {stderr}");
            assert!(!stderr.contains("panicked"), "{stderr}");
        }
        assert_eq!(home.verdict(), "dead");
    }
    Ok(())
}

fn a_group_is_killed_only_while_its_leader_is_unreaped() -> Result<(), Skip> {
    let home = TestHome::with(&["check_interval=200ms", "check_timeout=300ms"]);
    requires_strace(&home)?;
    home.make_state();
    let script = home.state().join("slow.check.sh");
    fs::write(&script, "#!/bin/sh\nsleep 1000 & echo $! > leftover\nexec sleep 1000\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    let mut traced = Background::spawn(recorded(&home, "kill,wait4,waitid", &["run"]));
    // Lines of strace: `PID kill(-GROUP, SIGKILL) = 0` and `PID wait4(LEADER, ...) = LEADER`.
    let kills = || calls_in(&home).into_iter().filter(|(_, name, line)| name == "kill" && line.contains("kill(-"));
    wait_until(SOON, "three groups were killed", || (kills().count() >= 3).then_some(()));
    home.signal(home.pid().unwrap(), Signal::TERM);
    wait_until(SOON, "the watcher has left", || traced.ended());
    let calls = calls_in(&home);
    for (place, (_, name, line)) in calls.iter().enumerate() {
        let Some(group) = line.split_once("kill(-").and_then(|(_, rest)| rest.split_once(',')).map(|(group, _)| group)
        else {
            continue;
        };
        assert_eq!(name, "kill");
        let is_reaping = |(_, name, line): &&(u32, String, String)| {
            (name == "wait4" && line.contains(&format!("= {group}")))
                || (name == "waitid" && line.contains(&format!("si_pid={group}")) && !line.contains("WNOWAIT"))
        };
        let reaped_before = calls[..place].iter().find(is_reaping);
        assert!(reaped_before.is_none(), "group {group} was killed after {reaped_before:?}");
    }
    assert!(calls.iter().all(|(_, name, line)| name != "kill" || line.contains("kill(-") || line.contains(", 0)")));
    Ok(())
}

fn a_watcher_that_ignores_term_is_killed_through_the_same_pin() -> Result<(), Skip> {
    let home = TestHome::with(&["stop_grace=300ms"]);
    requires_strace(&home)?;
    let watcher = stopped_watcher(&home);
    let answer = finish(recorded(&home, "kill,tkill,tgkill,pidfd_open,pidfd_send_signal", &["stop"])).expect_code(0);
    assert_eq!(answer.stdout, format!("watcher: stopped pid={}\n", watcher.pid()));
    assert!(answer.took >= Duration::from_millis(300), "not before the time of grace: {answer:?}");
    assert_eq!(watcher.finish(SOON).signal, Some(9));
    let calls = calls_in(&home);
    let signals: Vec<_> = calls.iter().filter(|(_, name, _)| name == "pidfd_send_signal").collect();
    assert_eq!(signals.len(), 2, "TERM and KILL: {calls:?}");
    let pins: Vec<_> = signals.iter().map(|(_, _, line)| line.split(['(', ',']).nth(1).unwrap()).collect();
    assert_eq!(pins[0], pins[1], "both through one pin: {signals:?}");
    let second = calls.iter().position(|call| &call == signals.last().unwrap()).unwrap();
    let first = calls.iter().position(|call| &call == signals.first().unwrap()).unwrap();
    assert!(calls[first..second].iter().all(|(_, name, _)| name != "pidfd_open"), "not pinned anew: {calls:?}");
    assert!(!calls.iter().any(|(_, name, _)| name.ends_with("kill")), "never by number: {calls:?}");
    Ok(())
}

fn a_stepped_clock_changes_no_identity_and_no_verdict() -> Result<(), Skip> {
    let home = TestHome::new();
    requires("faketime")?;
    let at = |clock: &str, arguments: &[&str]| {
        let command = home.command(arguments);
        let mut stepped = home.bare("faketime");
        stepped.args(["-f", clock]).arg(command.get_program()).args(command.get_args());
        // A step of the clock does not touch the time since boot.
        stepped.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
        stepped
    };
    let real = home.watcher();
    for clock in ["+10y", "-10y", "+400d"] {
        let answer = finish(at(clock, &["status", "--json"])).expect_code(0).json();
        assert_eq!(
            (answer["verdict"].as_str(), answer["pid"].as_u64()),
            (Some("ok"), Some(real.pid().into())),
            "{clock}"
        );
        assert!(answer["identity"].as_str().unwrap().contains("same"), "{clock}: {answer}");
        let answer = finish(at(clock, &["arm", "--no-wait"])).expect_code(0);
        assert!(answer.stdout.starts_with(&format!("watcher: healthy pid={}", real.pid())), "{clock}: {answer:?}");
    }
    drop(real);
    for clock in ["+10y", "-10y"] {
        let mut stepped = Background::spawn(at(clock, &["run"]));
        let pid = wait_until(SOON, &format!("a watcher at {clock} beats"), || {
            assert!(stepped.ended().is_none(), "{}", stepped.stderr());
            let pid = home.pid().filter(|&pid| processes::is_alive(pid))?;
            (home.beat()?["pid"] == pid).then_some(pid)
        });
        let skew = home.owner().unwrap()["since"].as_i64().unwrap() - wall_clock_ms();
        assert!(skew.abs() > 9 * 365 * 86_400_000, "its clock really is stepped: {skew} ms");
        stays_true(Duration::from_millis(600), "it is well", || home.verdict() == "ok");
        home.ask(&["stop"]).expect_code(0);
        wait_for_end(pid, "the watcher with the stepped clock");
        assert_eq!(home.verdict(), "stopped");
    }
    Ok(())
}

fn wall_clock_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}
