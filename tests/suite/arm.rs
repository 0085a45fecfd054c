//! `arm`: one true line, then waiting, whatever becomes of the watcher meanwhile.

use std::fs;
use std::os::unix::process::CommandExt;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::background::{wait_for_end, wait_for_state};
use crate::support::gate::Gate;
use crate::support::home::{finish, pid_in};
use crate::support::strace::{requires_strace, traced};
use crate::support::{Background, SOON, Skip, TestHome, processes, stays_true, wait_until};

cases! {
    from_nothing_it_starts_a_watcher_says_so_and_prints_the_reason_of_a_wake,
    beside_a_healthy_watcher_it_says_so_and_starts_none,
    a_wake_that_is_pending_is_told_at_once,
    without_a_wake_it_ends_with_124_and_the_watcher_stays,
    a_signal_ends_it_with_its_own_code_and_the_watcher_stays,
    of_40_arms_over_the_record_of_a_dead_pid_one_starts_a_watcher,
    the_watcher_is_nobodys_descendant,
    the_watcher_survives_the_end_of_its_callers_session,
    a_killed_watcher_is_replaced_under_a_waiting_arm,
    a_stopped_watcher_is_not_replaced_under_a_waiting_arm,
    a_home_that_was_removed_is_not_made_again_under_a_waiting_arm,
    a_waiter_that_cannot_pin_the_watcher_does_not_spin,
    a_restart_replaces_the_watcher_of_this_home_only,
    a_restart_keeps_the_old_watcher_if_the_successor_cannot_stand_by,
    a_restart_with_settings_that_cannot_be_read_keeps_the_old_watcher,
    a_restart_without_a_watcher_starts_one,
    a_restart_under_a_waiting_arm_leaves_the_arm_waiting,
    a_home_in_which_nothing_can_be_made_is_a_failure_in_one_line,
    an_inherited_home_never_leads_a_watcher_astray,
    the_knobs_that_arm_was_given_reach_the_watcher,
    json_lines_have_a_schema,
}

/// A waiting `arm` and the pid in its status line.
fn waiting_arm(home: &TestHome) -> (Background, u32) {
    let arm = home.spawn(&["arm"]);
    let line = arm.wait_for_line("watcher: ");
    let pid = pid_in(&line).unwrap_or_else(|| panic!("no pid in {line}"));
    wait_until(SOON, "it is seen as a waiter", || (home.status()["waiters"].as_u64()? >= 1).then_some(()));
    (arm, pid)
}

fn from_nothing_it_starts_a_watcher_says_so_and_prints_the_reason_of_a_wake() {
    let home = TestHome::new();
    let (arm, pid) = waiting_arm(&home);
    assert_eq!(arm.stdout(), format!("watcher: started pid={pid} (beacon fresh)\n"));
    assert_eq!(home.pid(), Some(pid));
    home.write_status("task", "done\n");
    let answer = arm.finish(SOON).expect_code(0);
    let status = home.state().join("task.status");
    assert_eq!(answer.lines()[1..], [format!("signal: {}", status.display())], "{answer:?}");
    assert_eq!((home.verdict().as_str(), home.pid()), ("ok", Some(pid)), "delivering a wake does not end the watcher");
}

fn beside_a_healthy_watcher_it_says_so_and_starts_none() {
    let home = TestHome::new();
    let pid = home.arm();
    for _ in 0..3 {
        let answer = home.ask(&["arm", "--no-wait"]).expect_code(0);
        assert_eq!(answer.stdout, format!("watcher: healthy pid={pid} (beacon 0s)\n"));
        assert_eq!(answer.stderr, "");
    }
    assert_eq!(home.owner().unwrap()["generation"], 1);
}

fn a_wake_that_is_pending_is_told_at_once() {
    let home = TestHome::new();
    home.ask(&["wake", "custom", "key", "some text"]).expect_code(0);
    let answer = home.ask(&["arm", "--timeout", "60"]).expect_code(0);
    assert_eq!(answer.lines().len(), 2, "{answer:?}");
    assert!(answer.lines()[0].starts_with("watcher: started pid="), "{answer:?}");
    assert_eq!(answer.lines()[1], "custom: key: some text");
    // It was told, so it does not wake the next waiter at once; it is still there until it is acknowledged.
    assert_eq!(home.ask(&["wait", "--timeout", "0.3"]).expect_code(124).stdout, "");
    assert!(home.ask(&["drain"]).stdout.contains("some text"));
}

fn without_a_wake_it_ends_with_124_and_the_watcher_stays() {
    let home = TestHome::new();
    let answer = home.ask(&["arm", "--timeout", "300ms"]).expect_code(124);
    assert_eq!(answer.lines().len(), 1, "{answer:?}");
    let pid = pid_in(&answer.stdout).unwrap();
    assert!(answer.took >= Duration::from_millis(300), "{answer:?}");
    assert_eq!((home.verdict().as_str(), home.pid()), ("ok", Some(pid)));
}

fn a_signal_ends_it_with_its_own_code_and_the_watcher_stays() {
    let home = TestHome::new();
    let watcher = home.arm();
    for (signal, code) in [(Signal::HUP, 129), (Signal::INT, 130), (Signal::TERM, 143)] {
        for command in ["arm", "wait"] {
            let waiter = home.spawn(&[command]);
            wait_until(SOON, "it waits", || (home.status()["waiters"] == 1).then_some(()));
            waiter.signal(signal);
            let answer = waiter.finish(SOON).expect_code(code);
            assert!(answer.stderr.is_empty(), "{command}: {answer:?}");
            assert_eq!(home.status()["waiters"], 0, "the lease is gone");
        }
        assert_eq!((home.verdict().as_str(), home.pid()), ("ok", Some(watcher)));
    }
}

fn of_40_arms_over_the_record_of_a_dead_pid_one_starts_a_watcher() {
    let home = TestHome::new();
    let dead = home.arm();
    home.kill(dead);
    let gate = Gate::new();
    let arms: Vec<_> = (0..40).map(|_| gate.spawn(&home, &home.command(&["arm", "--no-wait"]))).collect();
    gate.open();
    let answers: Vec<_> = arms.into_iter().map(|arm| arm.finish(SOON).expect_code(0)).collect();
    let holder = home.pid().unwrap();
    let started = answers.iter().filter(|answer| answer.stdout.starts_with("watcher: started")).count();
    assert_eq!(started, 1, "{answers:?}");
    assert!(answers.iter().all(|answer| pid_in(&answer.stdout) == Some(holder)), "all name {holder}: {answers:?}");
    assert!(answers.iter().all(|answer| answer.lines().len() == 1), "{answers:?}");
    assert_eq!(home.owner().unwrap()["generation"], 2);
    wait_until(SOON, "the losers have gone", || {
        let watchers = processes::naming(&home.root()).into_iter().filter(|(_, line)| line.contains(" run "));
        (watchers.map(|(pid, _)| pid).collect::<Vec<_>>() == [holder]).then_some(())
    });
}

fn the_watcher_is_nobodys_descendant() {
    let home = TestHome::new();
    let (arm, watcher) = waiting_arm(&home);
    let field = |number| processes::stat_field(watcher, number).unwrap().parse::<u32>().unwrap();
    let (parent, group, session) = (field(4), field(5), field(6));
    assert!(parent != arm.pid() && parent != std::process::id(), "its parent is {parent}");
    let of_arm = processes::stat_field(arm.pid(), 6).unwrap();
    assert_ne!(session.to_string(), of_arm, "a session of its own");
    assert_eq!(group, session);
    assert_ne!(session, watcher, "no leader of it either, so no terminal can ever become its own");
    assert_eq!(fs::read_link(format!("/proc/{watcher}/cwd")).unwrap(), std::path::Path::new("/"));
    let line = processes::command_line(watcher).unwrap().join(" ");
    let expected = format!("fm-watch --home {} run", home.root().display());
    assert!(line == expected || line.starts_with(&format!("{expected} ")), "{line}");
}

fn the_watcher_survives_the_end_of_its_callers_session() {
    let home = TestHome::new();
    // A harness: its own process group, which is killed as a whole.
    let mut harness = home.bare("sh");
    harness.args(["-c", "\"$@\"; exec sleep 1000", "harness"]);
    let arm = home.command(&["arm", "--no-wait"]);
    harness.arg(arm.get_program()).args(arm.get_args()).process_group(0);
    let harness = Background::spawn(harness);
    let watcher = pid_in(&harness.wait_for_line("watcher: started")).unwrap();
    let group = rustix::process::Pid::from_raw(harness.pid().cast_signed()).unwrap();
    rustix::process::kill_process_group(group, Signal::HUP).unwrap();
    rustix::process::kill_process_group(group, Signal::KILL).unwrap();
    harness.finish(SOON);
    let counter = home.beat().unwrap()["counter"].as_u64().unwrap();
    wait_until(SOON, "it beats on", || (home.beat()?["counter"].as_u64()? > counter + 1).then_some(()));
    assert!(processes::is_alive(watcher));
}

fn a_killed_watcher_is_replaced_under_a_waiting_arm() {
    let home = TestHome::new();
    let (mut arm, mut watcher) = waiting_arm(&home);
    for round in 2..=4 {
        home.kill(watcher);
        let next = wait_until(SOON, "the next one watches", || home.pid().filter(|&pid| pid != watcher));
        home.wait_until_watched_by(next);
        assert_eq!(home.owner().unwrap()["generation"], round);
        assert!(arm.ended().is_none(), "arm goes on waiting");
        // The next kill must not come before arm has seen this one.
        wait_until(SOON, "arm has noticed", || {
            (arm.stderr().matches(&format!("pid={next}")).count() >= 1).then_some(())
        });
        watcher = next;
    }
    home.write_status("task", "done\n");
    let answer = arm.finish(SOON).expect_code(0);
    assert_eq!(answer.stdout.matches("watcher: ").count(), 1, "one status line: {answer:?}");
    assert!(answer.lines().last().unwrap().starts_with("signal: "), "{answer:?}");
}

fn a_stopped_watcher_is_not_replaced_under_a_waiting_arm() {
    let home = TestHome::new();
    let (arm, watcher) = waiting_arm(&home);
    assert_eq!(home.ask(&["stop"]).expect_code(0).stdout, format!("watcher: stopped pid={watcher}\n"));
    let answer = arm.finish(SOON).expect_code(1);
    assert!(format!("{}{}", answer.stdout, answer.stderr).contains("stopped on request"), "{answer:?}");
    assert_eq!((home.verdict().as_str(), home.pid()), ("stopped", Some(watcher)));
}

fn a_home_that_was_removed_is_not_made_again_under_a_waiting_arm() {
    let home = TestHome::new();
    let (arm, watcher) = waiting_arm(&home);
    // Renamed first: nobody can put anything into a directory that is being removed.
    let aside = home.scratch().join("aside");
    std::fs::rename(home.state(), &aside).unwrap();
    std::fs::remove_dir_all(&aside).unwrap();
    let answer = arm.finish(SOON).expect_code(1);
    assert!(answer.stdout.contains("was removed"), "{answer:?}");
    wait_for_end(watcher, "the watcher of the removed home");
    assert!(!home.state().exists(), "a home that a person removed stays removed");
}

fn a_waiter_that_cannot_pin_the_watcher_does_not_spin() -> Result<(), Skip> {
    let home = TestHome::new();
    requires_strace(&home)?;
    let watcher = home.arm();
    for error in ["EMFILE", "ENOSYS", "EPERM"] {
        let calls = home.scratch().join("calls");
        let mut waiting = traced(
            &home,
            &["trace=pidfd_open", &format!("inject=pidfd_open:error={error}")],
            &["wait", "--timeout", "1"],
        );
        waiting.env("UNUSED", "1");
        let arguments: Vec<_> = waiting.get_args().map(ToOwned::to_owned).collect();
        let mut recorded = home.bare(waiting.get_program());
        recorded
            .args(arguments.iter().map(|word| if word == "/dev/null" { calls.as_os_str() } else { word.as_os_str() }));
        let answer = finish(recorded);
        assert_eq!(answer.code, Some(124), "{error}: {answer:?}");
        let tries = fs::read_to_string(&calls).unwrap().lines().filter(|line| line.contains("pidfd_open(")).count();
        assert!(tries < 40, "{error}: it looked {tries} times in a second");
    }
    assert_eq!((home.verdict().as_str(), home.pid()), ("ok", Some(watcher)));
    Ok(())
}

fn a_restart_replaces_the_watcher_of_this_home_only() {
    let (home, other) = (TestHome::new(), TestHome::new());
    let (old, others) = (home.arm(), other.arm());
    let answer = home.ask(&["arm", "--restart", "--no-wait"]).expect_code(0);
    let new = pid_in(&answer.stdout).unwrap();
    assert_eq!(answer.stdout, format!("watcher: started pid={new} (beacon fresh)\n"));
    assert!(answer.stderr.contains(&old.to_string()), "it says whom it replaced: {answer:?}");
    assert_ne!(new, old);
    wait_for_end(old, "the old watcher");
    assert_eq!((home.pid(), home.verdict().as_str()), (Some(new), "ok"));
    assert_eq!((other.pid(), other.verdict().as_str()), (Some(others), "ok"));
    assert!(processes::is_alive(others));
}

fn a_restart_keeps_the_old_watcher_if_the_successor_cannot_stand_by() {
    let home = TestHome::new();
    let old = home.arm();
    // `arm` itself needs no pattern for panes; its successor does.
    home.configure("busy_regex = '('\n");
    let answer = home.ask(&["arm", "--restart", "--no-wait"]).expect_code(1);
    assert_eq!(answer.lines().len(), 1, "{answer:?}");
    assert!(answer.stdout.starts_with(&format!("watcher: FAILED - pid {old} stays")), "{answer:?}");
    assert!(answer.stdout.contains("busy_regex"), "it says why: {answer:?}");
    assert_eq!((home.verdict().as_str(), home.pid()), ("ok", Some(old)));
    home.configure("");
    home.ask(&["arm", "--restart", "--no-wait"]).expect_code(0);
    wait_for_end(old, "the old watcher");
}

fn a_restart_with_settings_that_cannot_be_read_keeps_the_old_watcher() {
    let home = TestHome::new();
    let old = home.arm();
    for broken in ["poll = \"soon\"\n", "no_such_key = 1\n", "poll = [\n", "[[notify]]\nexec = ['relative']\n"] {
        home.configure(broken);
        let answer = home.ask(&["arm", "--restart", "--no-wait"]);
        assert!(matches!(answer.code, Some(1 | 2)), "{broken:?}: {answer:?}");
        assert!(!answer.stdout.contains("started"), "{broken:?}: {answer:?}");
        assert!(format!("{}{}", answer.stdout, answer.stderr).contains("fm-watch.toml"), "{broken:?}: {answer:?}");
        assert!(processes::is_alive(old), "{broken:?}");
    }
    home.configure("");
    assert_eq!((home.verdict().as_str(), home.pid()), ("ok", Some(old)));
}

fn a_restart_without_a_watcher_starts_one() {
    let home = TestHome::new();
    for _ in 0..2 {
        let answer = home.ask(&["arm", "--restart", "--no-wait"]).expect_code(0);
        let pid = pid_in(&answer.stdout).unwrap();
        assert_eq!(answer.stdout, format!("watcher: started pid={pid} (beacon fresh)\n"));
        home.kill(pid);
    }
}

fn a_restart_under_a_waiting_arm_leaves_the_arm_waiting() {
    let home = TestHome::new();
    let (mut arm, old) = waiting_arm(&home);
    let answer = home.ask(&["arm", "--restart", "--no-wait"]).expect_code(0);
    let new = pid_in(&answer.stdout).unwrap();
    wait_for_end(old, "the old watcher");
    stays_true(Duration::from_millis(500), "arm waits and the new one stays", || {
        arm.ended().is_none() && home.pid() == Some(new)
    });
    assert_eq!(home.owner().unwrap()["generation"], 2, "the waiting arm started none of its own");
    home.write_status("task", "done\n");
    arm.finish(SOON).expect_code(0);
}

fn a_home_in_which_nothing_can_be_made_is_a_failure_in_one_line() {
    let home = TestHome::new();
    fs::write(home.state(), "a file in the way").unwrap();
    let answer = home.ask(&["arm"]).expect_code(1);
    assert_eq!(answer.lines().len(), 1, "{answer:?}");
    assert!(answer.stdout.starts_with("watcher: FAILED - "), "{answer:?}");
    assert!(answer.stdout.contains(home.state().to_str().unwrap()), "it names the path: {answer:?}");
    assert_eq!(fs::read_to_string(home.state()).unwrap(), "a file in the way");
}

fn an_inherited_home_never_leads_a_watcher_astray() {
    let (home, other) = (TestHome::new(), TestHome::new());
    let others = other.arm();
    let before = fs::read(other.watch("owner.json")).unwrap();
    let mut arm = home.command(&["arm", "--no-wait"]);
    arm.env("FM_HOME", other.root()).env("FM_STATE_OVERRIDE", other.state());
    arm.current_dir(other.root());
    let watcher = pid_in(&finish(arm).expect_code(0).stdout).unwrap();
    assert_eq!((home.pid(), other.pid()), (Some(watcher), Some(others)));
    let mut restart = home.command(&["arm", "--restart", "--no-wait"]);
    restart.env("FM_HOME", other.root()).env("FM_STATE_OVERRIDE", other.state());
    finish(restart).expect_code(0);
    let mut stop = home.command(&["stop"]);
    stop.env("FM_HOME", other.root()).env("FM_STATE_OVERRIDE", other.state());
    finish(stop).expect_code(0);
    assert_eq!(home.verdict(), "stopped");
    assert_eq!((other.verdict().as_str(), fs::read(other.watch("owner.json")).unwrap()), ("ok", before));
}

fn the_knobs_that_arm_was_given_reach_the_watcher() {
    let home = TestHome::plain();
    let mut arm = home.command(&["--set", "stuck_after=77s", "arm", "--no-wait"]);
    arm.env("FM_POLL", "3").env("FM_CHECK_INTERVAL", "11");
    finish(arm).expect_code(0);
    let owner = home.owner().unwrap();
    assert_eq!((&owner["poll_ms"], &owner["stuck_after_ms"]), (&3000.into(), &77_000.into()), "{owner}");
    let line = processes::command_line(home.pid().unwrap()).unwrap().join(" ");
    assert!(line.contains("check_interval=11s"), "resolved, in explicit flags: {line}");
    // Whoever arms without them changes nothing about the running one.
    let answer = home.ask(&["arm", "--no-wait"]).expect_code(0);
    assert!(answer.stdout.starts_with("watcher: healthy"), "{answer:?}");
    assert_eq!(home.owner().unwrap(), owner);
}

fn json_lines_have_a_schema() {
    let home = TestHome::with(&["arm_timeout=1s"]);
    let started = home.ask(&["arm", "--no-wait", "--json"]).expect_code(0).json();
    let pid = home.pid().unwrap();
    assert_eq!((&started["schema"], &started["event"], &started["pid"]), (&1.into(), &"started".into(), &pid.into()));
    let healthy = home.ask(&["arm", "--no-wait", "--json"]).expect_code(0).json();
    assert_eq!((&healthy["schema"], &healthy["event"], &healthy["pid"]), (&1.into(), &"healthy".into(), &pid.into()));
    assert!(healthy["beat_age_ms"].is_u64(), "{healthy}");
    home.signal(pid, Signal::STOP);
    wait_for_state(pid, "T");
    fs::remove_file(home.watch("owner.json")).unwrap();
    let failed = home.ask(&["arm", "--restart", "--no-wait", "--json"]).expect_code(1).json();
    assert_eq!((&failed["schema"], &failed["event"]), (&1.into(), &"failed".into()), "{failed}");
    assert!(!failed["reason"].as_str().unwrap().is_empty());
    home.kill(pid);
}
