//! The signals to the scripts of a firstmate home: what was ignored at the start stays so, nobody outlives the arm by whom
//! it was started, whenever that dies, and a reason that was told reaches whoever waits for it.

use std::fs;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::background::wait_for_end;
use crate::support::home::{PROGRAM, finish, pid_in};
use crate::support::shims::Fleet;
use crate::support::strace::{requires_strace, traced};
#[cfg(feature = "sync-points")]
use crate::support::sync::{Points, kill_at, without};
use crate::support::{Background, SOON, Skip, processes, stays_true, wait_until, wait_until_true};

cases! {
    an_arm_that_dies_before_its_watcher_is_executed_leaves_none,
    #[cfg(feature = "sync-points")]
    without_the_default_action_a_watcher_that_is_not_executed_yet_outlives_its_arm,
    #[cfg(feature = "sync-points")]
    an_arm_that_dies_before_its_watcher_listens_leaves_none,
    #[cfg(feature = "sync-points")]
    without_reading_first_a_watcher_that_does_not_listen_yet_outlives_its_arm,
    an_arm_and_its_watcher_outlive_what_was_ignored_at_the_start,
    #[cfg(feature = "sync-points")]
    without_looking_what_was_ignored_an_arm_dies_of_its_terminal,
    a_watcher_outlives_what_was_ignored_at_the_start,
    whoever_waits_for_a_resident_watcher_outlives_what_was_ignored_at_the_start,
    a_resident_watcher_reads_its_settings_again_although_it_was_to_outlive_its_terminal,
    a_watcher_can_be_asked_to_leave_whatever_its_starter_ignores,
    a_killed_arm_takes_its_watcher_along_whatever_it_had_blocked,
    #[cfg(feature = "sync-points")]
    without_letting_it_act_a_blocked_request_leaves_the_watcher,
    a_drain_goes_on_at_what_was_ignored_at_the_start,
    #[cfg(feature = "sync-points")]
    a_reason_reaches_the_arms_caller_whatever_becomes_of_the_watcher_that_told_it,
    #[cfg(feature = "sync-points")]
    without_a_look_at_what_was_told_the_reason_of_a_killed_watcher_is_lost,
    a_watcher_whose_line_nobody_takes_leaves_no_lock_and_the_next_one_tells_it,
    #[cfg(feature = "sync-points")]
    without_leaving_a_watcher_whose_line_nobody_takes_counts_as_dead,
}

/// For how long something is seen not to happen.
const A_WHILE: Duration = Duration::from_millis(300);

/// The processes of this test that another one has started.
fn children_of(fleet: &Fleet, parent: u32) -> Vec<u32> {
    let parent = Some(parent.to_string());
    let all = processes::naming(fleet.home.scratch()).into_iter().map(|(pid, _)| pid);
    all.filter(|&pid| processes::stat_field(pid, 4) == parent).collect()
}

/// Whether a traced process waits at the beginning of a call.
fn is_at_call(pid: u32, number: libc::c_long) -> bool {
    let told = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    told.split(' ').next() == Some(number.to_string().as_str())
}

/// Kills an arm while its child is between fork and exec, and gives the child.
fn killed_before_exec(fleet: &Fleet, prepare: impl FnOnce(&mut Command)) -> Result<(Background, u32), Skip> {
    requires_strace(&fleet.home)?;
    let delay = ["trace=close_range", "inject=close_range:delay_enter=3000000"];
    let mut command = traced(&fleet.home, &delay, &["arm", "--tracked"]);
    prepare(&mut command);
    let tracer = Background::spawn(command);
    let child = wait_until(SOON, "the arm's child is between fork and exec", || {
        let arms = children_of(fleet, tracer.pid());
        let children = arms.into_iter().flat_map(|arm| children_of(fleet, arm).into_iter().map(move |child| (arm, child)));
        children.into_iter().find(|&(_, child)| is_at_call(child, libc::SYS_close_range))
    });
    fleet.home.kill(child.0);
    Ok((tracer, child.1))
}

fn an_arm_that_dies_before_its_watcher_is_executed_leaves_none() -> Result<(), Skip> {
    let fleet = Fleet::new();
    let (tracer, child) = killed_before_exec(&fleet, |_| ())?;
    wait_for_end(child, "the child that was not executed yet");
    tracer.finish(SOON);
    assert_eq!(fleet.home.owner(), None, "it has watched, not even for an instant");
    Ok(())
}

/// What outlives its arm.
#[cfg(feature = "sync-points")]
#[track_caller]
fn outlives(fleet: &Fleet, watcher: u32) {
    fleet.home.wait_until_watched_by(watcher);
    stays_true(A_WHILE, "it goes on", || processes::is_alive(watcher));
    fleet.home.kill(watcher);
}

#[cfg(feature = "sync-points")]
fn without_the_default_action_a_watcher_that_is_not_executed_yet_outlives_its_arm() -> Result<(), Skip> {
    let fleet = Fleet::new();
    let (_tracer, child) = killed_before_exec(&fleet, |arm| without(arm, &["SpawnActs"]))?;
    outlives(&fleet, child);
    Ok(())
}

/// Kills an arm while its watcher begins to listen to signals, and gives the watcher.
#[cfg(feature = "sync-points")]
fn killed_before_listening(fleet: &Fleet, prepare: impl FnOnce(&mut Command)) -> u32 {
    let points = Points::new(&fleet.home, "watcher");
    let mut arm = fleet.script("fm-watch-arm.sh", &[], &[]);
    points.pause(&mut arm, &["RunInsists"]);
    prepare(&mut arm);
    let arm = Background::spawn(arm);
    points.wait_until_reached("RunInsists");
    let watcher = children_of(fleet, arm.pid())[0];
    arm.signal(Signal::KILL);
    arm.finish(SOON);
    points.go("RunInsists");
    watcher
}

#[cfg(feature = "sync-points")]
fn an_arm_that_dies_before_its_watcher_listens_leaves_none() {
    let fleet = Fleet::adopted();
    let watcher = killed_before_listening(&fleet, |_| ());
    wait_for_end(watcher, "the watcher that did not listen yet");
}

#[cfg(feature = "sync-points")]
fn without_reading_first_a_watcher_that_does_not_listen_yet_outlives_its_arm() {
    let fleet = Fleet::adopted();
    let watcher = killed_before_listening(&fleet, |arm| without(arm, &["RunReadsFirst"]));
    outlives(&fleet, watcher);
}

/// A command that was started with these signals ignored, as `nohup` and a shell's `&` do it.
fn deaf_to(fleet: &Fleet, signals: &str, command: &Command) -> Command {
    let mut deaf = fleet.home.bare("sh");
    deaf.args(["-c", &format!("trap '' {signals}; exec \"$@\""), "sh"]);
    deaf.arg(command.get_program()).args(command.get_args());
    deaf.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    deaf
}

/// An arm that was started with these signals ignored, and its watcher.
fn deaf_arm(fleet: &Fleet, signals: &str, prepare: impl FnOnce(&mut Command)) -> (Background, u32) {
    let mut arm = fleet.script("fm-watch-arm.sh", &[], &[]);
    prepare(&mut arm);
    let arm = Background::spawn(deaf_to(fleet, signals, &arm));
    let watcher = pid_in(&arm.wait_for_line("watcher: started")).unwrap();
    (arm, watcher)
}

fn an_arm_and_its_watcher_outlive_what_was_ignored_at_the_start() {
    let fleet = Fleet::adopted();
    let (mut arm, watcher) = deaf_arm(&fleet, "HUP INT", |_| ());
    for signal in [Signal::HUP, Signal::INT] {
        arm.signal(signal);
        fleet.home.signal(watcher, signal);
    }
    stays_true(A_WHILE, "both go on", || arm.ended().is_none() && processes::is_alive(watcher));
    fleet.home.write_status("task", "done\n");
    let answer = arm.finish(SOON).expect_code(0);
    assert!(answer.lines()[1].starts_with("signal: "), "{answer:?}");
    // Whatever else is asked of it is heard.
    fs::remove_file(fleet.home.state().join("task.status")).unwrap();
    fleet.ask("fm-wake-drain.sh", &[], &[]).expect_code(0);
    let (arm, watcher) = deaf_arm(&fleet, "HUP INT", |_| ());
    arm.signal(Signal::TERM);
    arm.finish(SOON).expect_code(143);
    wait_for_end(watcher, "the arm's watcher");
}

#[cfg(feature = "sync-points")]
fn without_looking_what_was_ignored_an_arm_dies_of_its_terminal() {
    let fleet = Fleet::adopted();
    let (arm, _) = deaf_arm(&fleet, "HUP INT", |arm| without(arm, &["SignalsIgnored"]));
    arm.signal(Signal::HUP);
    arm.finish(SOON).expect_code(129);
}

fn a_watcher_outlives_what_was_ignored_at_the_start() {
    let fleet = Fleet::adopted();
    let mut watcher = Background::spawn(deaf_to(&fleet, "HUP INT TERM", &fleet.script("fm-watch.sh", &[], &[])));
    fleet.home.wait_until_watched_by(watcher.pid());
    for signal in [Signal::HUP, Signal::INT, Signal::TERM] {
        watcher.signal(signal);
    }
    stays_true(A_WHILE, "it goes on", || watcher.ended().is_none());
    fleet.home.write_status("task", "done\n");
    assert!(watcher.finish(SOON).expect_code(0).stdout.starts_with("signal: "));
}

fn whoever_waits_for_a_resident_watcher_outlives_what_was_ignored_at_the_start() {
    let fleet = Fleet::adopted();
    fleet.home.configure("[firstmate]\nresident = true\n");
    let (mut arm, _) = deaf_arm(&fleet, "HUP INT", |_| ());
    for signal in [Signal::HUP, Signal::INT] {
        arm.signal(signal);
    }
    stays_true(A_WHILE, "it goes on to wait", || arm.ended().is_none());
    arm.signal(Signal::TERM);
    arm.finish(SOON).expect_code(143);
}

fn a_resident_watcher_reads_its_settings_again_although_it_was_to_outlive_its_terminal() {
    let fleet = Fleet::new();
    let watcher = Background::spawn(deaf_to(&fleet, "HUP INT", &fleet.home.command(&["run"])));
    fleet.home.wait_until_watched_by(watcher.pid());
    fleet.home.configure("poll = \"never\"\n");
    watcher.signal(Signal::HUP);
    wait_until_true(SOON, "it says that these settings cannot be read", || {
        fleet.home.beat().is_some_and(|beat| beat["degraded"].to_string().contains("settings not read again"))
    });
    watcher.signal(Signal::INT);
    watcher.signal(Signal::TERM);
    // INT would have another code.
    watcher.finish(SOON).expect_code(0);
}

fn a_watcher_can_be_asked_to_leave_whatever_its_starter_ignores() {
    let fleet = Fleet::adopted();
    let (arm, watcher) = deaf_arm(&fleet, "TERM", |_| ());
    fleet.home.signal(watcher, Signal::TERM);
    arm.finish(SOON).expect_code(143);
    let (mut arm, watcher) = deaf_arm(&fleet, "TERM", |_| ());
    arm.signal(Signal::TERM);
    stays_true(A_WHILE, "the arm goes on", || arm.ended().is_none());
    arm.signal(Signal::KILL);
    arm.finish(SOON);
    wait_for_end(watcher, "the killed arm's watcher");
    // One that is nobody's descendant leaves on being asked as well.
    finish(deaf_to(&fleet, "TERM INT", &fleet.home.command(&["arm", "--no-wait"]))).expect_code(0);
    let answer = fleet.home.ask(&["stop"]).expect_code(0);
    assert!(answer.stdout.starts_with("watcher: stopped pid=") && !answer.stderr.contains("killed"), "{answer:?}");
}

/// Kills an arm that was started with TERM blocked, and gives its watcher.
fn killed_while_blocked(fleet: &Fleet, prepare: impl FnOnce(&mut Command)) -> Result<u32, Skip> {
    let mut probe = fleet.home.bare("env");
    probe.args(["--block-signal=TERM", "true"]);
    let answer = finish(probe);
    if answer.code != Some(0) {
        return Err(Skip(format!("env(1) cannot block signals here: {}", answer.stderr.trim())));
    }
    let mut arm = fleet.home.bare("env");
    arm.arg("--block-signal=TERM").arg(fleet.bin().join("fm-watch-arm.sh")).env("FM_POLL", "0.2");
    prepare(&mut arm);
    let arm = Background::spawn(arm);
    let watcher = pid_in(&arm.wait_for_line("watcher: started")).unwrap();
    arm.signal(Signal::KILL);
    arm.finish(SOON);
    Ok(watcher)
}

fn a_killed_arm_takes_its_watcher_along_whatever_it_had_blocked() -> Result<(), Skip> {
    let fleet = Fleet::adopted();
    let watcher = killed_while_blocked(&fleet, |_| ())?;
    wait_for_end(watcher, "the killed arm's watcher");
    Ok(())
}

#[cfg(feature = "sync-points")]
fn without_letting_it_act_a_blocked_request_leaves_the_watcher() -> Result<(), Skip> {
    let fleet = Fleet::adopted();
    let watcher = killed_while_blocked(&fleet, |arm| without(arm, &["SpawnActs"]))?;
    outlives(&fleet, watcher);
    Ok(())
}

fn a_drain_goes_on_at_what_was_ignored_at_the_start() {
    let fleet = Fleet::adopted();
    fleet.home.make_state();
    let lock = fleet.home.state().join(".wake-queue.lock");
    fs::create_dir(&lock).unwrap();
    fs::write(lock.join("pid"), "1\n").unwrap();
    let mut drain = Background::spawn(deaf_to(&fleet, "TERM", &fleet.script("fm-wake-drain.sh", &[], &[])));
    wait_until_true(SOON, "it listens", || is_program(drain.pid()) && is_caught(drain.pid(), Signal::INT));
    drain.signal(Signal::TERM);
    stays_true(A_WHILE, "it waits for the lock", || drain.ended().is_none());
    drain.signal(Signal::INT);
    drain.finish(SOON).expect_code(130);
}

/// Whether a process has become the program. The shell before it may have handlers of its own.
fn is_program(pid: u32) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| program == fs::canonicalize(*PROGRAM).unwrap())
}

/// Whether a process has a handler for a signal.
fn is_caught(pid: u32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or_default();
    caught & (1 << (signal.as_raw() - 1)) != 0
}

/// An arm whose watcher is killed when it has told of a wake that was there before.
#[cfg(feature = "sync-points")]
fn killed_when_told(fleet: &Fleet, prepare: impl FnOnce(&mut Command)) -> crate::support::Answer {
    fleet.home.write_status("task", "done\n");
    let mut arm = fleet.script("fm-watch-arm.sh", &[], &[]);
    kill_at(&mut arm, "RunTold");
    prepare(&mut arm);
    finish(arm)
}

#[cfg(feature = "sync-points")]
fn a_reason_reaches_the_arms_caller_whatever_becomes_of_the_watcher_that_told_it() {
    let fleet = Fleet::adopted();
    let answer = killed_when_told(&fleet, |_| ()).expect_code(137);
    // On a busy machine its first look takes so long that the arm has said before that it is started.
    let reason = format!("signal: {}", fleet.home.state().join("task.status").display());
    assert_eq!(answer.lines().last(), Some(&reason.as_str()), "{answer:?}");
}

#[cfg(feature = "sync-points")]
fn without_a_look_at_what_was_told_the_reason_of_a_killed_watcher_is_lost() {
    let is_lost = || {
        let fleet = Fleet::adopted();
        let answer = killed_when_told(&fleet, |arm| without(arm, &["TrackedAnyReason"]));
        answer.code == Some(1) && !answer.stdout.contains("signal: ")
    };
    assert!((0..20).any(|_| is_lost()), "it was passed on each time");
}

/// A watcher whose line nobody can take.
fn told_to_nobody(fleet: &Fleet, prepare: impl FnOnce(&mut Command)) {
    fleet.home.write_status("task", "done\n");
    let mut watcher = fleet.home.bare("sh");
    watcher.args(["-c", "exec \"$@\" > /dev/full", "sh"]).arg(fleet.bin().join("fm-watch.sh"));
    watcher.env("FM_POLL", "0.2").env("FM_SIGNAL_GRACE", "0");
    prepare(&mut watcher);
    let answer = finish(watcher).expect_code(1);
    assert!(answer.stderr.contains("stdout"), "{answer:?}");
}

fn a_watcher_whose_line_nobody_takes_leaves_no_lock_and_the_next_one_tells_it() {
    let fleet = Fleet::adopted();
    told_to_nobody(&fleet, |_| ());
    assert!(!fleet.home.state().join(".watch.lock").is_symlink(), "no dead lock is left");
    assert_eq!(fleet.home.verdict(), "stopped");
    let expected = format!("signal: {}\n", fleet.home.state().join("task.status").display());
    assert_eq!(fleet.ask("fm-watch.sh", &[], &[]).expect_code(0).stdout, expected);
}

#[cfg(feature = "sync-points")]
fn without_leaving_a_watcher_whose_line_nobody_takes_counts_as_dead() {
    let fleet = Fleet::adopted();
    told_to_nobody(&fleet, |watcher| without(watcher, &["RunLeaves"]));
    assert_eq!(fleet.home.verdict(), "dead");
}
