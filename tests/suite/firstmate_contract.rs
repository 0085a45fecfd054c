//! The scripts of a firstmate home, as `adopt` leaves them: every line, its stream and its exit code.
//!
//! The names of the tests begin with the part of the contract that they are about: `a5` the watcher, `a7` the arm, `a8` the
//! guard, `a4` the drain, `a1` the places, `a9` the knobs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;

use crate::panes::Tmux;
use crate::support::background::{wait_for_end, wait_for_state};
use crate::support::home::{finish, pid_in};
use crate::support::namespace::Namespace;
use crate::support::shims::Fleet;
#[cfg(feature = "sync-points")]
use crate::support::sync::{Points, without};
use crate::support::{Background, SOON, Skip, processes, requires, stays_true, wait_until, wait_until_true};

cases! {
    a1_every_shell_and_every_way_of_calling_finds_the_same_home,
    a1_variables_lead_to_other_places,
    a4_drain_prints_five_fields_once_and_consumes_them,
    a4_drain_of_nothing_prints_nothing_and_exits_0,
    a5_signal_names_each_file_once_in_one_line_and_exits_0,
    a5_stale_exits_0,
    a5_stale_needs_three_polls_that_show_the_same,
    a5_a_poll_over_thirty_idle_tasks_starts_one_process,
    a5_checks_come_before_signals_and_the_heartbeat_comes_last,
    a5_the_first_check_with_output_ends_the_sweep,
    a5_a_check_that_says_much_is_told_whole,
    a5_a_marker_that_a_person_removes_counts_no_more,
    a5_a_copied_home_announces_nothing_again,
    a5_what_was_told_or_queued_before_is_not_told_again,
    a4_each_signal_row_has_the_whole_reason,
    a4_a_drain_that_nobody_can_read_exits_1_and_keeps_the_rows,
    a1_a_check_that_calls_the_scripts_of_another_home_is_not_led_to_this_one,
    a1_a_root_without_scripts_is_a_home_of_theirs_all_the_same,
    a5_check_exits_0,
    a5_heartbeat_exits_0,
    a5_prints_one_line_and_the_next_run_prints_the_next,
    a5_already_running_pid_exits_0,
    a5_already_running_without_a_pid_exits_0,
    a5_stale_heartbeat_of_a_live_holder_exits_1,
    #[cfg(feature = "sync-points")]
    a5_live_holder_without_a_heartbeat_exits_1,
    a5_a_live_shell_holder_that_tells_nothing_is_told_of_as_by_the_script,
    a5_evicted_exits_0_without_a_line,
    a5_queue_append_failure_exits_1_without_a_line_or_a_marker,
    #[cfg(feature = "sync-points")]
    twin_a_line_before_the_row_announces_what_no_script_can_drain,
    a5_a_full_disk_exits_1_without_a_line,
    a5_a_check_finds_around_it_what_its_caller_has,
    a5_a_signal_exits_128_and_its_number,
    a7_any_other_first_argument_is_usage_and_exits_2,
    a7_started_then_the_reason_and_the_code_of_the_watcher,
    a7_healthy_exits_0_at_once,
    a7_a_wake_before_the_first_look_is_over_has_no_status_line,
    a7_a_holder_that_is_not_well_has_the_time_of_the_arm,
    a7_restart_clears_the_record_of_a_pid_that_is_another_program_by_now,
    a7_restart_of_a_proven_holder_does_not_wait_for_its_beat,
    undoing_leaves_a_shell_watcher_alone,
    a7_failed_exits_1,
    a7_a_watcher_that_cannot_append_is_failed_and_exits_1,
    a7_one_of_many_arms_starts_and_the_others_are_healthy,
    a7_hup_exits_129_term_and_int_exit_143_and_the_watcher_is_gone,
    a7_a_killed_arm_takes_its_watcher_along,
    #[cfg(feature = "sync-points")]
    a7_a_killed_arm_takes_along_a_watcher_whose_loop_stands_still,
    #[cfg(feature = "sync-points")]
    without_the_bond_a_killed_arm_leaves_its_watcher,
    a7_an_ended_watcher_ends_its_arm_with_its_code,
    a7_restart_replaces_the_watcher_and_the_old_arm_ends,
    a7_restart_without_a_watcher_starts_one,
    a7_a_resident_watcher_stays_when_a_wake_ends_the_arm,
    a8_without_tasks_it_is_silent_whatever_waits,
    a8_the_banner_tells_when_the_watcher_beat_last,
    a8_a_fresh_beacon_keeps_it_silent,
    a8_queued_wakes_are_a_line_of_their_own,
    a8_it_exits_0_whatever_is_wrong,
    a9_a_knob_that_is_no_number_is_refused_by_its_name,
    a9_any_number_counts_as_the_nearest_that_is_possible,
    a9_lock_stale_after_says_when_a_lock_without_a_pid_is_reclaimed,
    a9_wake_queue_and_its_lock_can_be_elsewhere,
    arm_tracked_is_the_same_for_any_home,
}

const RULE_STARTS: &str = "●━━━";

/// An arm that has started a watcher, and the watcher's pid.
fn armed(fleet: &Fleet) -> (Background, u32) {
    let arm = fleet.spawn("fm-watch-arm.sh", &[], &[]);
    let line = arm.wait_for_line("watcher: ");
    let pid = pid_in(&line).unwrap();
    assert_eq!(line, format!("watcher: started pid={pid} (beacon fresh)"));
    (arm, pid)
}

/// A watcher script at work.
fn watching(fleet: &Fleet, knobs: &[(&str, &str)]) -> Background {
    let watcher = fleet.spawn("fm-watch.sh", knobs, &[]);
    fleet.home.wait_until_watched_by(watcher.pid());
    watcher
}

fn drain(fleet: &Fleet) -> String {
    fleet.ask("fm-wake-drain.sh", &[], &[]).expect_code(0).stdout
}

fn a1_every_shell_and_every_way_of_calling_finds_the_same_home() -> Result<(), Skip> {
    let fleet = Fleet::adopted();
    let odd = fleet.home.scratch().join("it's a \"link\" $HOME");
    symlink(fleet.home.root(), &odd).unwrap();
    fleet.home.meta("task", &[]);
    let (root, bin) = (fleet.home.root(), fleet.bin());
    let ways: [(PathBuf, PathBuf); 5] = [
        (PathBuf::from("/"), bin.join("fm-guard.sh")),
        (root.clone(), "bin/fm-guard.sh".into()),
        (bin.clone(), "fm-guard.sh".into()),
        (bin, "./../bin/fm-guard.sh".into()),
        (fleet.home.scratch().to_owned(), odd.join("bin/fm-guard.sh")),
    ];
    let shells: [&[&str]; 4] = [&["dash"], &["bash"], &["bash", "--posix", "-u"], &["busybox", "sh"]];
    let mut seen = 0;
    for shell in shells {
        if requires(shell[0]).is_err() {
            continue;
        }
        seen += 1;
        for (directory, script) in &ways {
            let mut command = fleet.home.bare(shell[0]);
            command.args(&shell[1..]).arg(script).current_dir(directory).env("CDPATH", "/:/tmp");
            let answer = finish(command).expect_code(0);
            assert!(answer.stderr.contains("1 task(s) in flight"), "{shell:?} {}: {answer:?}", script.display());
            assert_eq!(answer.stdout, "", "{shell:?} {}", script.display());
        }
    }
    if seen == 0 { Err(Skip("no shell is here".to_owned())) } else { Ok(()) }
}

fn a1_variables_lead_to_other_places() {
    let fleet = Fleet::adopted();
    let other = fleet.home.scratch().join("other");
    let state = fleet.home.scratch().join("elsewhere");
    for directory in [other.join("state"), state.clone()] {
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("a.meta"), "").unwrap();
    }
    fs::write(state.join("b.meta"), "").unwrap();
    fleet.home.make_state();
    let (other, state) = (other.to_str().unwrap(), state.to_str().unwrap());
    let root = fleet.home.root();
    for (knobs, tasks) in [
        (&[][..], 0),
        (&[("FM_HOME", other)], 1),
        (&[("FM_ROOT_OVERRIDE", other)], 1),
        (&[("FM_ROOT_OVERRIDE", other), ("FM_HOME", root.to_str().unwrap())], 0),
        (&[("FM_HOME", other), ("FM_STATE_OVERRIDE", state)], 2),
        (&[("FM_HOME", ""), ("FM_ROOT_OVERRIDE", ""), ("FM_STATE_OVERRIDE", state)], 2),
    ] {
        let said = fleet.ask("fm-guard.sh", knobs, &[]).expect_code(0).stderr;
        let found = said.contains(&format!("{tasks} task(s) in flight"));
        assert!(if tasks == 0 { said.is_empty() } else { found }, "{knobs:?}: {said}");
    }
}

fn a4_drain_prints_five_fields_once_and_consumes_them() {
    let fleet = Fleet::adopted();
    for text in ["one", "two"] {
        fleet.home.ask(&["wake", "check", "/c.check.sh", text]).expect_code(0);
        fleet.home.ask(&["wake", "signal", "a.status", text]).expect_code(0);
    }
    let rows = drain(&fleet);
    let fields: Vec<Vec<&str>> = rows.lines().map(|row| row.split('\t').collect()).collect();
    assert!(fields.iter().all(|row| row.len() == 5 && row[0].parse::<u64>().is_ok()), "{rows}");
    let told: Vec<_> = fields.iter().map(|row| (row[2], row[3], row[4].ends_with("two"))).collect();
    assert_eq!(told, [("check", "/c.check.sh", true), ("signal", "a.status", true)], "the first's place, the last's text");
    assert_eq!(drain(&fleet), "", "printing is consuming");
}

fn a4_drain_of_nothing_prints_nothing_and_exits_0() {
    let fleet = Fleet::adopted();
    let answer = fleet.ask("fm-wake-drain.sh", &[], &[]).expect_code(0);
    assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("", ""));
}

fn a5_signal_names_each_file_once_in_one_line_and_exits_0() {
    let fleet = Fleet::adopted();
    fleet.home.write_status("a", "done\n");
    fleet.home.write_status("b", "done\n");
    let answer = fleet.ask("fm-watch.sh", &[("FM_SIGNAL_GRACE", "0.3")], &[]).expect_code(0);
    let state = fleet.home.state();
    let state = state.display();
    assert_eq!(answer.stdout, format!("signal: {state}/a.status {state}/b.status\n"));
    assert_eq!(answer.stderr, "");
}

fn a5_stale_exits_0() {
    let fleet = Fleet::adopted();
    fleet.home.ask(&["wake", "stale", "fm:task", "fm:task"]).expect_code(0);
    assert_eq!(fleet.ask("fm-watch.sh", &[], &[]).expect_code(0).stdout, "stale: fm:task\n");
}

/// A window that shows the same at the poll that sees it first and at two more.
fn a5_stale_needs_three_polls_that_show_the_same() -> Result<(), Skip> {
    let tmux = Tmux::new(&[])?;
    tmux.window("quiet");
    tmux.show("fm:quiet", "no more to do");
    let (directory, fleet) = (tmux.home.scratch().to_owned(), Fleet::new());
    fleet.adopt(&[]).expect_code(0);
    fleet.home.meta("quiet", &["window=fm:quiet"]);
    fleet.home.meta("second", &["window=fm:first", "kind=secondmate"]);
    let watch = || {
        let mut command = fleet.script("fm-watch.sh", &[("FM_POLL", "0.3"), ("TERM", "xterm")], &[]);
        command.env("TMUX_TMPDIR", &directory);
        command
    };
    let state = fleet.home.state();
    let count = || fs::read_to_string(state.join(".count-fm_quiet")).ok();
    let first = Background::spawn(watch());
    wait_until_true(SOON, "it was counted once", || count().as_deref() == Some("1\n"));
    first.signal(Signal::TERM);
    first.finish(SOON);
    // The next one goes on counting where that one ended, and it may have counted once more.
    assert_eq!(finish(watch()).expect_code(0).stdout, "stale: fm:quiet\n");
    assert_eq!(count().as_deref(), Some("2\n"));
    assert!(state.join(".stale-fm_quiet").exists() && !state.join(".count-fm_first").exists());
    Ok(())
}

/// The scripts start 1448 processes for that.
fn a5_a_poll_over_thirty_idle_tasks_starts_one_process() -> Result<(), Skip> {
    const POLLS: usize = 5;
    requires("strace")?;
    let (tmux, fleet) = (Tmux::new(&[])?, Fleet::adopted());
    for task in 0..30 {
        tmux.window(&format!("w{task}"));
        fleet.home.meta(&format!("t{task}"), &[&format!("window=fm:w{task}")]);
    }
    let trace = fleet.home.scratch().join("trace");
    let mut command = fleet.home.bare("strace");
    command.args(["-f", "-qq", "-e", "trace=execve", "-e", "status=successful", "-o"]).arg(&trace);
    // Their panes are empty and stand still. A wake would end the watcher.
    command.arg(fleet.bin().join("fm-watch.sh")).env("FM_POLL", "0.3").env("FM_BUSY_REGEX", "idle");
    command.env("TMUX_TMPDIR", tmux.home.scratch()).env("TERM", "xterm");
    for task in 0..30 {
        tmux.show(&format!("fm:w{task}"), "idle");
    }
    let watcher = Background::spawn(command);
    let started = || -> Vec<String> {
        let text = fs::read_to_string(&trace).unwrap_or_default();
        text.lines().filter_map(|line| line.split('"').nth(1)).map(str::to_owned).collect()
    };
    wait_until_true(SOON, "it has polled", || started().len() >= 2 + POLLS);
    let pid = fleet.home.pid().unwrap();
    let others: Vec<_> = started().into_iter().skip(2).filter(|program| !program.ends_with("/tmux")).collect();
    assert_eq!(others, Vec::<String>::new());
    fleet.home.signal(pid, Signal::TERM);
    watcher.finish(SOON).expect_code(143);
    // Each poll is a beat.
    let beats = usize::try_from(fleet.home.beat().unwrap()["counter"].as_u64().unwrap()).unwrap();
    assert!(started().len() <= 2 + beats, "{beats}: {:?}", started());
    Ok(())
}

fn a5_checks_come_before_signals_and_the_heartbeat_comes_last() {
    let fleet = Fleet::adopted();
    fleet.home.write_status("task", "done\n");
    let state = fleet.home.state();
    fs::write(state.join("pr.check.sh"), "echo merged\n").unwrap();
    fs::write(state.join(".last-heartbeat"), "").unwrap();
    let old = SystemTime::now() - Duration::from_secs(86_400);
    fs::File::options().write(true).open(state.join(".last-heartbeat")).unwrap().set_modified(old).unwrap();
    let told: Vec<_> =
        (0..3).map(|_| fleet.ask("fm-watch.sh", &[("FM_HEARTBEAT", "1")], &[]).expect_code(0).stdout).collect();
    let (check, signal) = (state.join("pr.check.sh"), state.join("task.status"));
    let expected =
        [format!("check: {}: merged\n", check.display()), format!("signal: {}\n", signal.display()), "heartbeat\n".into()];
    assert_eq!(told, expected);
    assert_eq!(drain(&fleet).lines().count(), 3);
}

fn a5_the_first_check_with_output_ends_the_sweep() {
    let fleet = Fleet::adopted();
    fleet.home.make_state();
    let state = fleet.home.state();
    let leaves = |name: &str| format!(": > '{}'\n", state.join(name).display());
    fs::write(state.join("a.check.sh"), leaves("a-ran")).unwrap();
    fs::write(state.join("b.check.sh"), "echo b\n").unwrap();
    fs::write(state.join("c.check.sh"), leaves("c-ran") + "echo c\n").unwrap();
    let printed = fleet.ask("fm-watch.sh", &[], &[]).expect_code(0).stdout;
    assert_eq!(printed, format!("check: {}: b\n", state.join("b.check.sh").display()));
    assert!(state.join("a-ran").exists() && !state.join("c-ran").exists());
    assert!(state.join(".last-check").exists(), "the later ones wait for the next interval");
}

fn a5_a_check_that_says_much_is_told_whole() {
    let fleet = Fleet::adopted();
    fleet.home.make_state();
    let script = fleet.home.state().join("pr.check.sh");
    fs::write(&script, "printf ' one\\ttwo\\n\\nthree\\n\\n'; head -c 20000 /dev/zero | tr '\\0' z; echo\n").unwrap();
    let whole = format!("check: {}:  one\ttwo\n\nthree\n\n{}", script.display(), "z".repeat(20_000));
    for name in ["fm-watch.sh", "fm-watch-arm.sh"] {
        assert_eq!(fleet.ask(name, &[], &[]).expect_code(0).stdout, format!("{whole}\n"), "{name}");
        let rows = drain(&fleet);
        let payload = rows.splitn(5, '\t').nth(4).unwrap();
        assert_eq!(payload, format!("{}\n", whole.replace(['\t', '\n'], " ")), "in the queue it is one line");
        fs::remove_file(fleet.home.state().join(".last-check")).unwrap();
    }
}

/// The schedule is in the times of files, and people use that.
fn a5_a_marker_that_a_person_removes_counts_no_more() {
    let fleet = Fleet::adopted();
    fleet.home.write_status("task", "done\n");
    let state = fleet.home.state();
    fs::write(state.join("pr.check.sh"), "echo merged\n").unwrap();
    let watch = || {
        let line = fleet.ask("fm-watch.sh", &[], &[]).expect_code(0).stdout;
        drain(&fleet);
        line.split(':').next().unwrap().to_owned()
    };
    assert_eq!([watch(), watch()], ["check", "signal"]);
    fs::remove_file(state.join(".last-check")).unwrap();
    assert_eq!(watch(), "check");
    let old = SystemTime::now() - Duration::from_secs(3600);
    fs::File::options().write(true).open(state.join(".last-check")).unwrap().set_modified(old).unwrap();
    assert_eq!(watch(), "check");
    fs::remove_file(state.join(".seen-task_status")).unwrap();
    assert_eq!(watch(), "signal");
    fs::write(state.join(".heartbeat-streak"), "garbage\n").unwrap();
    assert_eq!(fleet.ask("fm-watch.sh", &[("FM_HEARTBEAT", "0.3")], &[]).expect_code(0).stdout, "heartbeat\n");
    assert_eq!(fs::read_to_string(state.join(".heartbeat-streak")).unwrap(), "1\n");
}

/// As after a restore: other inodes, and everything else the same.
fn a5_a_copied_home_announces_nothing_again() {
    let fleet = Fleet::adopted();
    fleet.home.write_status("task", "done\n");
    assert!(fleet.ask("fm-watch.sh", &[], &[]).expect_code(0).stdout.starts_with("signal: "));
    drain(&fleet);
    let copy = fleet.home.scratch().join("copy");
    let mut cp = fleet.home.bare("cp");
    cp.arg("-a").arg(fleet.home.root()).arg(&copy);
    finish(cp).expect_code(0);
    let mut watch = fleet.home.bare(copy.join("bin/fm-watch.sh"));
    watch.env("FM_POLL", "0.2").env("FM_SIGNAL_GRACE", "0").env("FM_HEARTBEAT", "0.5");
    assert_eq!(finish(watch).expect_code(0).stdout, "heartbeat\n");
}

/// What is in the queue is there for the drain, whoever put it there.
fn a5_what_was_told_or_queued_before_is_not_told_again() {
    let fleet = Fleet::adopted();
    fleet.home.write_status("task", "done\n");
    let queue = fleet.home.state().join(".wake-queue");
    fs::write(&queue, "1\t1\tsignal\told.status\tsignal: /old.status\n").unwrap();
    assert!(fleet.ask("fm-watch.sh", &[], &[]).expect_code(0).stdout.ends_with("/task.status\n"));
    assert_eq!(fleet.ask("fm-watch.sh", &[("FM_HEARTBEAT", "0.5")], &[]).expect_code(0).stdout, "heartbeat\n");
    let keys: Vec<_> = drain(&fleet).lines().map(|row| row.split('\t').nth(3).unwrap().to_owned()).collect();
    assert_eq!(keys, ["old.status", "task.status", "heartbeat"]);
}

fn a4_each_signal_row_has_the_whole_reason() {
    let fleet = Fleet::adopted();
    for task in ["a", "b"] {
        fleet.home.write_status(task, "done\n");
    }
    fs::write(fleet.home.state().join("a.turn-ended"), "").unwrap();
    let line = fleet.ask("fm-watch.sh", &[], &[]).expect_code(0).stdout;
    let names: Vec<_> = line.split_whitespace().skip(1).map(|file| file.rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["a.status", "b.status", "a.turn-ended"], "as a script goes through them");
    let rows = drain(&fleet);
    let payloads: Vec<_> = rows.lines().map(|row| row.split('\t').nth(4).unwrap()).collect();
    assert_eq!(payloads, [line.trim_end(); 3]);
}

fn a4_a_drain_that_nobody_can_read_exits_1_and_keeps_the_rows() {
    const ROW: &str = "1\t1\tsignal\ta\tsignal: a\n";
    let fleet = Fleet::adopted();
    fleet.home.make_state();
    let queue = fleet.home.state().join(".wake-queue");
    fs::write(&queue, ROW).unwrap();
    for shell in ["dash", "bash"] {
        if requires(shell).is_ok() {
            let mut command = fleet.home.bare(shell);
            command.args(["-c", "exec \"$0\" \"$1\" >&-", shell]).arg(fleet.bin().join("fm-wake-drain.sh"));
            assert!(finish(command).expect_code(1).stderr.contains("stdout is closed"), "{shell}");
        }
    }
    assert_eq!(fs::read_to_string(&queue).unwrap(), ROW);
    assert_eq!(drain(&fleet), ROW);
}

/// A check may look after another home, whose scripts find that by themselves.
fn a1_a_check_that_calls_the_scripts_of_another_home_is_not_led_to_this_one() {
    let (fleet, other) = (Fleet::adopted(), Fleet::adopted());
    for (home, key) in [(&fleet, "mine"), (&other, "other")] {
        home.home.make_state();
        let row = format!("1\t1\tsignal\t{key}.status\tsignal: {key}\n");
        fs::write(home.home.state().join(".wake-queue"), row).unwrap();
    }
    let script = fleet.home.state().join("pr.check.sh");
    fs::write(&script, format!("'{}' | cut -f 4\n", other.bin().join("fm-wake-drain.sh").display())).unwrap();
    // A check that takes its time lets the arm say meanwhile that it has started.
    let printed = fleet.ask("fm-watch-arm.sh", &[], &[]).expect_code(0);
    assert_eq!(*printed.lines().last().unwrap(), format!("check: {}: other.status", script.display()));
    assert!(drain(&fleet).contains("mine.status"));
}

/// Tests of such scripts isolate themselves so.
fn a1_a_root_without_scripts_is_a_home_of_theirs_all_the_same() {
    let fleet = Fleet::adopted();
    let elsewhere = fleet.home.scratch().join("elsewhere");
    fs::create_dir_all(elsewhere.join("state")).unwrap();
    let knobs = [("FM_ROOT_OVERRIDE", elsewhere.to_str().unwrap())];
    let state = elsewhere.join("state");
    for name in ["fm-watch.sh", "fm-watch-arm.sh"] {
        let watcher = fleet.spawn(name, &knobs, &[]);
        wait_until_true(SOON, "the scripts' lock is taken", || state.join(".watch.lock/pid-identity").exists());
        let told = |name: &str| fs::read_to_string(state.join(".watch.lock").join(name)).unwrap();
        assert_eq!(told("fm-home").trim_end(), elsewhere.to_str().unwrap());
        assert_eq!(told("watcher-path").trim_end(), fleet.bin().join("fm-watch.sh").to_str().unwrap());
        fs::write(state.join("task.status"), name).unwrap();
        watcher.finish(SOON).expect_code(0);
        assert!(!state.join(".watch.lock").exists() && state.join(".last-watcher-beat").exists());
        let rows = fleet.ask("fm-wake-drain.sh", &knobs, &[]).expect_code(0).stdout;
        assert!(rows.contains("\tsignal\ttask.status\t"), "{name}: {rows}");
    }
}

fn a5_check_exits_0() {
    let fleet = Fleet::adopted();
    fleet.home.make_state();
    let script = fleet.home.state().join("pr.check.sh");
    fs::write(&script, "echo merged\n").unwrap();
    let answer = fleet.ask("fm-watch.sh", &[], &[]).expect_code(0);
    assert_eq!(answer.stdout, format!("check: {}: merged\n", script.display()));
}

fn a5_heartbeat_exits_0() {
    let fleet = Fleet::adopted();
    assert_eq!(fleet.ask("fm-watch.sh", &[("FM_HEARTBEAT", "0.3")], &[]).expect_code(0).stdout, "heartbeat\n");
}

fn a5_prints_one_line_and_the_next_run_prints_the_next() {
    let fleet = Fleet::adopted();
    fleet.home.ask(&["wake", "check", "/c", "/c: out"]).expect_code(0);
    fleet.home.ask(&["wake", "heartbeat", "heartbeat", "heartbeat"]).expect_code(0);
    assert_eq!(fleet.ask("fm-watch.sh", &[], &[]).expect_code(0).stdout, "check: /c: out\n");
    assert_eq!(fleet.ask("fm-watch.sh", &[], &[]).expect_code(0).stdout, "heartbeat\n");
    assert_eq!(drain(&fleet).lines().count(), 2, "both wait for the drain");
}

fn a5_already_running_pid_exits_0() {
    let fleet = Fleet::adopted();
    let watcher = watching(&fleet, &[]);
    let answer = fleet.ask("fm-watch.sh", &[], &[]).expect_code(0);
    assert_eq!(answer.stdout, format!("watcher: already running pid {}\n", watcher.pid()));
    assert_eq!(answer.stderr, "");
}

fn a5_already_running_without_a_pid_exits_0() {
    let fleet = Fleet::adopted();
    let watcher = watching(&fleet, &[]);
    watcher.signal(Signal::STOP);
    wait_for_state(watcher.pid(), "T");
    fs::remove_file(fleet.home.watch("owner.json")).unwrap();
    let answer = fleet.ask("fm-watch.sh", &[("FM_ARM_CONFIRM_TIMEOUT", "0.2")], &[]).expect_code(0);
    assert_eq!(answer.stdout, "watcher: already running\n");
}

fn a5_stale_heartbeat_of_a_live_holder_exits_1() {
    let fleet = Fleet::adopted();
    let watcher = watching(&fleet, &[]);
    watcher.signal(Signal::STOP);
    wait_for_state(watcher.pid(), "T");
    for knob in ["FM_GUARD_GRACE", "FM_WATCHER_STALE_GRACE"] {
        let ask = || fleet.ask("fm-watch.sh", &[(knob, "1")], &[]);
        let answer = wait_until(SOON, "it is stale", || Some(ask()).filter(|answer| answer.code == Some(1)));
        let (start, end) = answer.stderr.split_once(" is stale for ").unwrap();
        assert_eq!(start, format!("watcher: lock held by live pid {} but heartbeat", watcher.pid()));
        let (age, end) = end.split_once("s ").unwrap();
        assert!(age.parse::<u64>().unwrap() >= 1, "{answer:?}");
        assert_eq!(end, "(>1s); inspect or stop that watcher before re-arming.\n");
        assert_eq!(answer.stdout, "");
    }
    let answer = fleet.ask("fm-watch.sh", &[("FM_GUARD_GRACE", "1"), ("FM_WATCHER_STALE_GRACE", "900")], &[]);
    assert_eq!(answer.expect_code(0).stdout, format!("watcher: already running pid {}\n", watcher.pid()));
}

#[cfg(feature = "sync-points")]
fn a5_live_holder_without_a_heartbeat_exits_1() {
    let fleet = Fleet::adopted();
    let points = Points::new(&fleet.home, "holder");
    let mut holder = fleet.script("fm-watch.sh", &[], &[]);
    points.pause(&mut holder, &["HoldingAcquired"]);
    let holder = Background::spawn(holder);
    points.wait_until_reached("HoldingAcquired");
    let ask = || fleet.ask("fm-watch.sh", &[("FM_GUARD_GRACE", "0.5"), ("FM_ARM_CONFIRM_TIMEOUT", "0.1")], &[]);
    let answer = wait_until(SOON, "it takes too long", || Some(ask()).filter(|answer| answer.code == Some(1)));
    let expected = format!(
        "watcher: lock held by live pid {} but no heartbeat exists; inspect or stop that watcher before re-arming.\n",
        holder.pid()
    );
    assert_eq!((answer.stdout.as_str(), answer.stderr), ("", expected));
}

/// The script looks at nothing but the pid and the beacon.
fn a5_a_live_shell_holder_that_tells_nothing_is_told_of_as_by_the_script() {
    let fleet = Fleet::adopted();
    let mut sleeper = fleet.home.bare("sleep");
    sleeper.arg("1000");
    let holder = Background::spawn(sleeper);
    let pid = holder.pid();
    let state = fleet.home.state();
    let owner = state.join(".watch.lock.owner.abcdef");
    fs::create_dir_all(&owner).unwrap();
    fs::write(owner.join("pid"), format!("{pid}\n")).unwrap();
    symlink(&owner, state.join(".watch.lock")).unwrap();
    let ask = |grace| fleet.ask("fm-watch.sh", &[("FM_GUARD_GRACE", grace), ("FM_ARM_CONFIRM_TIMEOUT", "1")], &[]);
    assert_eq!(ask("300").expect_code(0).stdout, format!("watcher: already running pid {pid}\n"));
    // It has held the lock for longer than this grace, and never beaten.
    let answer = wait_until(SOON, "it has held for longer", || Some(ask("1")).filter(|answer| answer.code == Some(1)));
    let none = "but no heartbeat exists; inspect or stop that watcher before re-arming.\n";
    assert_eq!(answer.stderr, format!("watcher: lock held by live pid {pid} {none}"));
    fs::write(state.join(".last-watcher-beat"), "").unwrap();
    assert_eq!(ask("300").expect_code(0).stdout, format!("watcher: already running pid {pid}\n"));
    let answer = wait_until(SOON, "its beat is old", || Some(ask("1")).filter(|answer| answer.code == Some(1)));
    assert!(answer.stderr.contains(&format!("live pid {pid} but heartbeat is stale for ")), "{answer:?}");
    assert_eq!(fs::read_link(state.join(".watch.lock")).unwrap(), owner);
}

fn a5_evicted_exits_0_without_a_line() {
    let fleet = Fleet::adopted();
    let watcher = watching(&fleet, &[]);
    fs::remove_file(fleet.home.watch("lock")).unwrap();
    assert_eq!(watcher.finish(SOON).expect_code(0).stdout, "");
}

/// A home with a changed signal file and no place for its row.
fn without_a_queue() -> Fleet {
    let fleet = Fleet::adopted();
    fleet.home.write_status("task", "done\n");
    fs::create_dir(fleet.home.state().join(".wake-queue")).unwrap();
    fleet
}

fn a5_queue_append_failure_exits_1_without_a_line_or_a_marker() {
    let fleet = without_a_queue();
    let state = fleet.home.state();
    for _ in 0..2 {
        let answer = fleet.ask("fm-watch.sh", &[], &[]).expect_code(1);
        assert_eq!(answer.stdout, "");
        assert!(answer.stderr.contains(".wake-queue") && answer.stderr.contains("nothing is announced"), "{answer:?}");
        assert!(!state.join(".seen-task_status").exists());
    }
    fs::remove_dir(state.join(".wake-queue")).unwrap();
    let answer = fleet.ask("fm-watch.sh", &[], &[]).expect_code(0);
    assert_eq!(answer.stdout, format!("signal: {}\n", state.join("task.status").display()));
    assert!(state.join(".seen-task_status").exists());
    assert_eq!(drain(&fleet).lines().count(), 1);
}

#[cfg(feature = "sync-points")]
fn twin_a_line_before_the_row_announces_what_no_script_can_drain() {
    let fleet = without_a_queue();
    let mut watch = fleet.script("fm-watch.sh", &[], &[]);
    without(&mut watch, &["FirstmateRowBeforeLine"]);
    assert!(finish(watch).expect_code(0).stdout.starts_with("signal: "));
}

fn a5_a_full_disk_exits_1_without_a_line() -> Result<(), Skip> {
    let fleet = Fleet::adopted();
    fleet.home.make_state();
    Namespace::Mounts.required(&fleet.home)?;
    let script = r#"
        mount -t tmpfs -o size=256k,mode=700 tmpfs "$STATE"
        watch() { FM_POLL=0.2 FM_SIGNAL_GRACE=0 "$BIN/fm-watch.sh"; }
        watch > "$SCRATCH/printed" & watcher=$!
        trap 'kill $watcher || :' EXIT
        says() { fm status --json | grep -q '"verdict":"ok"'; }
        wait_for says
        dd if=/dev/zero of="$STATE/filler" bs=4k 2>/dev/null || :
        touch "$STATE/task.turn-ended"
        code=0
        wait $watcher || code=$?
        trap - EXIT
        [ "$code" = 1 ] && [ ! -s "$SCRATCH/printed" ] && [ ! -e "$STATE/.seen-task_turn-ended" ]
        rm "$STATE/filler"
        [ "$(watch)" = "signal: $STATE/task.turn-ended" ]
    "#;
    let mut command = Namespace::Mounts.script(&fleet.home, script);
    command.env("BIN", fleet.bin());
    finish(command).expect_code(0);
    Ok(())
}

/// It lives no longer than the one who started it, so it may see what that one sees.
fn a5_a_check_finds_around_it_what_its_caller_has() {
    let fleet = Fleet::adopted();
    fleet.home.make_state();
    let script = fleet.home.state().join("pr.check.sh");
    let variables = "${FM_ROOT_OVERRIDE-none} ${FM_HOME-none} ${FM_STATE_OVERRIDE-none} ${FM_WATCH_FLEET_ROOT-none}";
    fs::write(&script, format!("echo \"$SECRET {variables} $PWD\"\n")).unwrap();
    let here = fs::canonicalize(fleet.home.scratch()).unwrap();
    for name in ["fm-watch.sh", "fm-watch-arm.sh"] {
        let mut command = fleet.script(name, &[("SECRET", "token"), ("FM_CHECK_INTERVAL", "0")], &[]);
        command.current_dir(&here);
        let printed = finish(command).expect_code(0).stdout;
        assert_eq!(printed, format!("check: {}: token none none none none {}\n", script.display(), here.display()), "{name}");
        drain(&fleet);
        fs::write(&script, fs::read_to_string(&script).unwrap() + "# once more\n").unwrap();
        fs::remove_file(fleet.home.watch("seen.json")).unwrap();
    }
}

fn a5_a_signal_exits_128_and_its_number() {
    let fleet = Fleet::adopted();
    for (signal, code) in [(Signal::HUP, 129), (Signal::INT, 130), (Signal::TERM, 143)] {
        let watcher = watching(&fleet, &[]);
        watcher.signal(signal);
        assert_eq!(watcher.finish(SOON).expect_code(code).stdout, "");
    }
}

fn a7_any_other_first_argument_is_usage_and_exits_2() {
    let fleet = Fleet::adopted();
    for argument in ["restart", "--help", "--no-wait", "x"] {
        let answer = fleet.ask("fm-watch-arm.sh", &[], &[argument]).expect_code(2);
        assert_eq!(answer.stderr, "usage: fm-watch-arm.sh [--restart]\n");
        assert_eq!(answer.stdout, "");
    }
    assert!(!fleet.home.state().exists(), "nothing was begun");
}

fn a7_started_then_the_reason_and_the_code_of_the_watcher() {
    for argument in [&[][..], &["arm"], &["--arm"]] {
        let fleet = Fleet::adopted();
        let arm = fleet.spawn("fm-watch-arm.sh", &[], argument);
        let pid = pid_in(&arm.wait_for_line("watcher: started")).unwrap();
        assert_eq!(fleet.home.pid(), Some(pid));
        assert_eq!(processes::stat_field(pid, 4), Some(arm.pid().to_string()), "it is the arm's child");
        fleet.home.write_status("task", "done\n");
        let answer = arm.finish(SOON).expect_code(0);
        let reason = format!("signal: {}", fleet.home.state().join("task.status").display());
        assert_eq!(answer.lines(), [format!("watcher: started pid={pid} (beacon fresh)"), reason]);
        assert_eq!(answer.stderr, "");
        assert!(processes::has_ended(pid));
    }
}

fn a7_healthy_exits_0_at_once() {
    let fleet = Fleet::adopted();
    let (arm, pid) = armed(&fleet);
    for argument in [&[][..], &["arm"], &["--arm"]] {
        let answer = fleet.ask("fm-watch-arm.sh", &[], argument).expect_code(0);
        assert_eq!(answer.stdout, format!("watcher: healthy pid={pid} (beacon 0s)\n"));
    }
    // It has started nothing of its own, and what runs goes on.
    assert_eq!(fleet.home.owner().unwrap()["generation"], 1);
    drop(arm);
}

fn a7_a_wake_before_the_first_look_is_over_has_no_status_line() {
    let fleet = Fleet::adopted();
    fleet.home.write_status("task", "done\n");
    let expected = format!("signal: {}\n", fleet.home.state().join("task.status").display());
    assert_eq!(fleet.ask("fm-watch-arm.sh", &[], &[]).expect_code(0).stdout, expected);
    // One that was recorded and told to nobody is as good.
    fleet.home.ask(&["wake", "heartbeat", "heartbeat", "heartbeat"]).expect_code(0);
    assert_eq!(fleet.ask("fm-watch-arm.sh", &[], &["--restart"]).expect_code(0).stdout, "heartbeat\n");
}

fn a7_a_watcher_that_cannot_append_is_failed_and_exits_1() {
    let fleet = without_a_queue();
    let begun = Instant::now();
    let answer = fleet.ask("fm-watch-arm.sh", &[("FM_ARM_CONFIRM_TIMEOUT", "60")], &[]).expect_code(1);
    assert_eq!(answer.stdout, "watcher: FAILED - no live watcher with a fresh beacon\n");
    assert!(answer.stderr.contains("nothing is announced"), "{answer:?}");
    assert!(begun.elapsed() < Duration::from_secs(60), "it does not wait for one that nobody starts");
}

/// What the script's own watcher says of a holder that is not well, and the time that the script gives it.
fn a7_a_holder_that_is_not_well_has_the_time_of_the_arm() -> Result<(), Skip> {
    let fleet = Fleet::adopted();
    let holder = sleeper(&fleet);
    let owner = lay(&fleet, &holder, &listed(&fleet, &holder)?);
    let beacon = fleet.home.state().join(".last-watcher-beat");
    fs::write(&beacon, "").unwrap();
    make_old(&beacon);
    let asked = [("FM_ARM_CONFIRM_TIMEOUT", "1"), ("FM_GUARD_GRACE", "300")];
    let answer = fleet.ask("fm-watch-arm.sh", &asked, &[]).expect_code(1);
    assert_eq!(answer.stdout, "watcher: FAILED - no live watcher with a fresh beacon\n");
    let stale = format!("watcher: lock held by live pid {} but heartbeat is stale for 3", holder.pid());
    assert!(answer.stderr.contains(&stale), "{answer:?}");
    assert!(answer.took >= Duration::from_secs(1), "it had its time: {answer:?}");
    // One that beats again meanwhile is healthy.
    let arm = fleet.spawn("fm-watch-arm.sh", &[("FM_ARM_CONFIRM_TIMEOUT", "60")], &[]);
    wait_until_true(SOON, "it says so", || arm.stderr().contains("but heartbeat is stale for"));
    fs::write(&beacon, "again").unwrap();
    let printed = arm.finish(SOON).expect_code(0).stdout;
    assert_eq!(printed, format!("watcher: healthy pid={} (beacon 0s)\n", holder.pid()));
    assert_eq!(fs::read_link(fleet.home.state().join(".watch.lock")).unwrap(), owner);
    Ok(())
}

fn a7_restart_clears_the_record_of_a_pid_that_is_another_program_by_now() {
    let fleet = Fleet::adopted();
    let mut stranger = sleeper(&fleet);
    lay(&fleet, &stranger, "Fri Nov 20 23:05:27 2020 bash /path/bin/fm-watch.sh");
    let arm = fleet.spawn("fm-watch-arm.sh", &[], &["--restart"]);
    arm.wait_for_line("watcher: started");
    assert!(stranger.ended().is_none(), "it was left alone");
}

fn a7_restart_of_a_proven_holder_does_not_wait_for_its_beat() -> Result<(), Skip> {
    let fleet = Fleet::adopted();
    let holder = sleeper(&fleet);
    lay(&fleet, &holder, &listed(&fleet, &holder)?);
    let arm = fleet.spawn("fm-watch-arm.sh", &[], &["--restart"]);
    arm.wait_for_line("watcher: started");
    assert_eq!(holder.finish(SOON).signal, Some(Signal::TERM.as_raw()));
    Ok(())
}

/// A process that is no watcher, and does nothing.
fn sleeper(fleet: &Fleet) -> Background {
    let mut sleeper = fleet.home.bare("sleep");
    sleeper.arg("1000");
    Background::spawn(sleeper)
}

/// What `ps` lists of it.
fn listed(fleet: &Fleet, process: &Background) -> Result<String, Skip> {
    requires("ps")?;
    let mut ps = fleet.home.bare("ps");
    if let Some(zone) = std::env::var_os("TZ") {
        ps.env("TZ", zone);
    }
    ps.args(["-p", &process.pid().to_string(), "-o", "lstart=", "-o", "command="]);
    Ok(finish(ps).expect_code(0).stdout.trim().to_owned())
}

/// Makes the record of a watcher of this home that has this identity. Gives its directory.
fn lay(fleet: &Fleet, process: &Background, identity: &str) -> PathBuf {
    fleet.home.make_state();
    let owner = fleet.home.state().join(".watch.lock.owner.abcdef");
    fs::create_dir(&owner).unwrap();
    for (name, text) in [
        ("pid", process.pid().to_string()),
        ("fm-home", fleet.home.root().display().to_string()),
        ("watcher-path", fleet.bin().join("fm-watch.sh").display().to_string()),
        ("pid-identity", identity.to_owned()),
    ] {
        fs::write(owner.join(name), format!("{text}\n")).unwrap();
    }
    symlink(&owner, fleet.home.state().join(".watch.lock")).unwrap();
    owner
}

/// A link's own time.
fn make_older(path: &Path, by: Duration) {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
    let then = (SystemTime::now() - by).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let then = Timespec { tv_sec: then.try_into().unwrap(), tv_nsec: 0 };
    let times = Timestamps { last_access: then, last_modification: then };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn make_old(path: &Path) {
    let old = SystemTime::now() - Duration::from_secs(3600);
    fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
}

/// The scripts are its own again, so it is nobody's to stop.
fn undoing_leaves_a_shell_watcher_alone() -> Result<(), Skip> {
    let fleet = Fleet::adopted();
    assert_eq!(fleet.ask("fm-watch.sh", &[("FM_HEARTBEAT", "0.3")], &[]).expect_code(0).stdout, "heartbeat\n");
    assert!(fleet.home.watch("").exists());
    let mut holder = sleeper(&fleet);
    let owner = lay(&fleet, &holder, &listed(&fleet, &holder)?);
    fleet.adopt(&["--undo"]).expect_code(0);
    assert!(holder.ended().is_none() && owner.join("pid").exists());
    assert!(!fleet.home.watch("").exists());
    Ok(())
}

fn a7_failed_exits_1() {
    let fleet = Fleet::adopted();
    fs::write(fleet.home.state(), "in the way").unwrap();
    let answer = fleet.ask("fm-watch-arm.sh", &[], &[]).expect_code(1);
    assert_eq!(answer.stdout, "watcher: FAILED - no live watcher with a fresh beacon\n");
    assert!(answer.stderr.contains("state"), "why is said beside it: {answer:?}");
}

fn a7_one_of_many_arms_starts_and_the_others_are_healthy() {
    let fleet = Fleet::adopted();
    let arms: Vec<_> = (0..12).map(|_| fleet.spawn("fm-watch-arm.sh", &[], &[])).collect();
    let lines: Vec<String> = arms.iter().map(|arm| arm.wait_for_line("watcher: ")).collect();
    let started = lines.iter().position(|line| line.starts_with("watcher: started")).unwrap();
    let pid = pid_in(&lines[started]).unwrap();
    for (number, (arm, line)) in arms.into_iter().zip(&lines).enumerate() {
        if number == started {
            fleet.home.write_status("task", "done\n");
        } else {
            assert!(line.starts_with(&format!("watcher: healthy pid={pid} (beacon ")), "{lines:?}");
        }
        assert_eq!(arm.finish(SOON).expect_code(0).lines().len(), if number == started { 2 } else { 1 });
    }
    assert_eq!(fleet.home.owner().unwrap()["generation"], 1);
}

/// What an arm that is gone may not leave.
#[track_caller]
fn nothing_is_left(fleet: &Fleet, watcher: u32) {
    wait_for_end(watcher, "the arm's watcher");
    wait_until_true(SOON, "nothing runs in the home", || processes::naming(fleet.home.scratch()).is_empty());
    for directory in [fleet.home.state(), fleet.home.watch("")] {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let is_temporary = path.extension().is_some_and(|extension| extension == "tmp");
            assert!(!is_temporary && !path.to_string_lossy().contains("arm-output"), "{} is left", path.display());
        }
    }
}

fn a7_hup_exits_129_term_and_int_exit_143_and_the_watcher_is_gone() {
    let fleet = Fleet::adopted();
    for (signal, code) in [(Signal::HUP, 129), (Signal::TERM, 143), (Signal::INT, 143)] {
        let (arm, pid) = armed(&fleet);
        arm.signal(signal);
        let answer = arm.finish(SOON).expect_code(code);
        assert_eq!(answer.lines().len(), 1, "{answer:?}");
        nothing_is_left(&fleet, pid);
        assert_eq!(fleet.home.verdict(), "stopped", "it left on its own feet");
    }
}

fn a7_a_killed_arm_takes_its_watcher_along() {
    let fleet = Fleet::adopted();
    let (arm, pid) = armed(&fleet);
    arm.signal(Signal::KILL);
    assert_eq!(arm.finish(SOON).signal, Some(9));
    nothing_is_left(&fleet, pid);
    assert_eq!(fleet.home.verdict(), "stopped", "it left on its own feet");
    // One that is stopped does so when it is let go on, which the kernel may see to by itself.
    let (arm, pid) = armed(&fleet);
    fleet.home.signal(pid, Signal::STOP);
    wait_for_state(pid, "T");
    arm.signal(Signal::KILL);
    arm.finish(SOON);
    processes::signal_if_naming(pid, fleet.home.scratch(), Signal::CONT);
    nothing_is_left(&fleet, pid);
}

#[cfg(feature = "sync-points")]
fn a7_a_killed_arm_takes_along_a_watcher_whose_loop_stands_still() {
    let fleet = Fleet::adopted();
    fleet.home.configure("stop_grace = \"200ms\"\n[environment]\npass = [\"FM_WATCH_SYNC\"]\n");
    let points = Points::new(&fleet.home, "loop");
    let mut arm = fleet.script("fm-watch-arm.sh", &[], &[]);
    points.pause(&mut arm, &["CycleRound"]);
    let arm = Background::spawn(arm);
    points.wait_until_reached("CycleRound");
    let pid = fleet.home.pid().unwrap();
    arm.signal(Signal::KILL);
    arm.finish(SOON);
    wait_for_end(pid, "the watcher whose loop stands still");
}

#[cfg(feature = "sync-points")]
fn without_the_bond_a_killed_arm_leaves_its_watcher() {
    let fleet = Fleet::adopted();
    let mut arm = fleet.script("fm-watch-arm.sh", &[], &[]);
    without(&mut arm, &["ObtainBound"]);
    let arm = Background::spawn(arm);
    let pid = pid_in(&arm.wait_for_line("watcher: started")).unwrap();
    arm.signal(Signal::KILL);
    arm.finish(SOON);
    stays_true(Duration::from_millis(300), "its watcher goes on", || processes::is_alive(pid));
    fleet.home.kill(pid);
}

fn a7_an_ended_watcher_ends_its_arm_with_its_code() {
    let fleet = Fleet::adopted();
    for (signal, code) in [(Signal::TERM, 143), (Signal::KILL, 137)] {
        let (arm, pid) = armed(&fleet);
        fleet.home.signal(pid, signal);
        let answer = arm.finish(SOON).expect_code(code);
        assert_eq!(answer.lines().len(), 1, "{answer:?}");
    }
}

fn a7_restart_replaces_the_watcher_and_the_old_arm_ends() {
    let fleet = Fleet::adopted();
    let (old_arm, old) = armed(&fleet);
    let arm = fleet.spawn("fm-watch-arm.sh", &[], &["--restart"]);
    let line = arm.wait_for_line("watcher: ");
    let pid = pid_in(&line).unwrap();
    assert_eq!(line, format!("watcher: started pid={pid} (beacon fresh)"));
    assert_ne!(pid, old);
    let answer = old_arm.finish(SOON).expect_code(143);
    assert_eq!(answer.lines().len(), 1, "{answer:?}");
    assert_eq!(fleet.home.pid(), Some(pid));
    fleet.home.write_status("task", "done\n");
    assert_eq!(arm.finish(SOON).expect_code(0).lines().len(), 2);
}

fn a7_restart_without_a_watcher_starts_one() {
    let fleet = Fleet::adopted();
    let arm = fleet.spawn("fm-watch-arm.sh", &[], &["--restart"]);
    arm.wait_for_line("watcher: started pid=");
    fleet.home.write_status("task", "done\n");
    assert!(arm.finish(SOON).expect_code(0).lines()[1].starts_with("signal: "));
}

fn a7_a_resident_watcher_stays_when_a_wake_ends_the_arm() {
    let fleet = Fleet::adopted();
    fleet.home.configure("[firstmate]\nresident = true\n");
    let (arm, pid) = armed(&fleet);
    let watch = fleet.spawn("fm-watch.sh", &[], &[]);
    wait_until(SOON, "both wait", || (fleet.home.status()["waiters"] == 2).then_some(()));
    fleet.home.write_status("task", "done\n");
    let reason = format!("signal: {}", fleet.home.state().join("task.status").display());
    assert_eq!(arm.finish(SOON).expect_code(0).lines()[1..], [reason.as_str()]);
    assert_eq!(watch.finish(SOON).expect_code(0).lines(), [reason.as_str()]);
    assert_eq!((fleet.home.verdict().as_str(), fleet.home.pid()), ("ok", Some(pid)));
}

fn a8_without_tasks_it_is_silent_whatever_waits() {
    let fleet = Fleet::adopted();
    fleet.home.make_state();
    fs::write(fleet.home.state().join(".wake-queue"), "1\t1\theartbeat\theartbeat\theartbeat\n").unwrap();
    let answer = fleet.ask("fm-guard.sh", &[], &[]).expect_code(0);
    assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("", ""));
}

/// Makes the beacon so old.
fn beacon(fleet: &Fleet, age: Duration) {
    let file = fs::File::create(fleet.home.state().join(".last-watcher-beat")).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}

fn a8_the_banner_tells_when_the_watcher_beat_last() {
    let fleet = Fleet::adopted();
    fleet.home.meta("one", &[]);
    fleet.home.meta("two", &[]);
    let ask = |knobs: &[(&str, &str)]| {
        let answer = fleet.ask("fm-guard.sh", knobs, &[]).expect_code(0);
        assert_eq!(answer.stdout, "");
        answer.stderr
    };
    let said = ask(&[]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 6, "{said}");
    assert!(lines[0].starts_with(RULE_STARTS) && lines[5] == lines[0], "{said}");
    assert_eq!(lines[1], "●  WATCHER DOWN - SUPERVISION IS OFF");
    let cause = "●  2 task(s) in flight, but no watcher has a fresh beacon (last beat: never, grace 300s).";
    assert_eq!(lines[2], cause);
    assert!(lines[3].contains("bin/fm-watch-arm.sh"), "{said}");
    assert_eq!(lines[4], "●  Fix: run bin/fm-watch-arm.sh");
    beacon(&fleet, Duration::from_secs(1000));
    let said = ask(&[("FM_GUARD_GRACE", "500")]);
    let (_, age) = said.split_once("last beat: ").unwrap();
    let age = age.split_once("s ago, grace 500s).").unwrap().0.parse::<u64>().unwrap();
    assert!((1000..1060).contains(&age), "{said}");
    assert_eq!(ask(&[]), ask(&[]), "it is as loud each time");
}

fn a8_a_fresh_beacon_keeps_it_silent() {
    let fleet = Fleet::adopted();
    fleet.home.meta("task", &[]);
    beacon(&fleet, Duration::from_secs(200));
    assert_eq!(fleet.ask("fm-guard.sh", &[], &[]).expect_code(0).stderr, "");
    assert!(fleet.ask("fm-guard.sh", &[("FM_GUARD_GRACE", "100")], &[]).stderr.contains("WATCHER DOWN"));
}

fn a8_queued_wakes_are_a_line_of_their_own() {
    const WARNING: &str = "WARNING: queued wakes pending - drain them with bin/fm-wake-drain.sh before anything else.";
    let fleet = Fleet::adopted();
    fleet.home.meta("task", &[]);
    fs::write(fleet.home.state().join(".wake-queue"), "1\t1\theartbeat\theartbeat\theartbeat\n").unwrap();
    let said = fleet.ask("fm-guard.sh", &[], &[]).expect_code(0).stderr;
    assert_eq!(said.lines().last(), Some(WARNING), "{said}");
    assert!(said.contains("Fix: drain the queued wakes with bin/fm-wake-drain.sh first"), "{said}");
    beacon(&fleet, Duration::ZERO);
    assert_eq!(fleet.ask("fm-guard.sh", &[], &[]).expect_code(0).stderr, format!("{WARNING}\n"));
    // A wake of our own journal is as good as a row.
    fs::remove_file(fleet.home.state().join(".wake-queue")).unwrap();
    fleet.home.ask(&["wake", "heartbeat", "heartbeat", "heartbeat"]).expect_code(0);
    assert_eq!(fleet.ask("fm-guard.sh", &[], &[]).expect_code(0).stderr, format!("{WARNING}\n"));
}

fn a8_it_exits_0_whatever_is_wrong() {
    let fleet = Fleet::adopted();
    fleet.home.meta("task", &[]);
    for knob in ["FM_GUARD_GRACE", "FM_POLL"] {
        let said = fleet.ask("fm-guard.sh", &[(knob, "soon")], &[]).expect_code(0).stderr;
        assert!(said.contains(knob) && said.contains("WATCHER DOWN"), "{said}");
    }
    fleet.home.configure("nonsense");
    assert!(fleet.ask("fm-guard.sh", &[], &[]).expect_code(0).stderr.contains("WATCHER DOWN"));
    let queue = fleet.home.state().join(".wake-queue");
    for (key, knobs) in [("a", &[][..]), ("b", &[("FM_BUSY_REGEX", "ab((c")])] {
        let row = format!("1\t1\tsignal\t{key}\tsignal: {key}\n");
        fs::write(&queue, &row).unwrap();
        assert_eq!(fleet.ask("fm-wake-drain.sh", knobs, &[]).expect_code(0).stdout, row);
    }
    // The program itself is gone: only the guard's caller may go on.
    for name in ["fm-guard.sh", "fm-watch.sh", "fm-watch-arm.sh", "fm-wake-drain.sh"] {
        let text = fs::read_to_string(fleet.bin().join(name)).unwrap();
        let program = text.lines().find(|line| line.starts_with("fm_program=")).unwrap();
        fleet.write(name, &text.replace(program, "fm_program='/nowhere/fm-watch'"));
        let answer = fleet.ask(name, &[], &[]).expect_code(i32::from(name != "fm-guard.sh"));
        let expected = format!("/nowhere/fm-watch is not there any more; install it again, or move .{name}.before-fm-watch");
        assert!(answer.stderr.contains(&expected) && answer.stdout.is_empty(), "{answer:?}");
    }
}

fn a9_a_knob_that_is_no_number_is_refused_by_its_name() {
    const KNOBS: [&str; 9] = [
        "FM_POLL",
        "FM_HEARTBEAT",
        "FM_HEARTBEAT_MAX",
        "FM_CHECK_INTERVAL",
        "FM_CHECK_TIMEOUT",
        "FM_SIGNAL_GRACE",
        "FM_GUARD_GRACE",
        "FM_WATCHER_STALE_GRACE",
        "FM_ARM_CONFIRM_TIMEOUT",
    ];
    let fleet = Fleet::adopted();
    for knob in KNOBS {
        for wrong in ["soon", "-1", "1e3"] {
            let answer = fleet.ask("fm-watch.sh", &[(knob, wrong)], &[]).expect_code(2);
            assert!(answer.stderr.contains(knob) && answer.stdout.is_empty(), "{knob}={wrong}: {answer:?}");
        }
    }
    assert!(fleet.ask("fm-watch.sh", &[("FM_BUSY_REGEX", "(")], &[]).expect_code(2).stderr.contains("FM_BUSY_REGEX"));
    assert!(!fleet.home.watch("generation").exists(), "nothing was begun");
}

fn a9_any_number_counts_as_the_nearest_that_is_possible() {
    let fleet = Fleet::adopted();
    let least = [("FM_POLL", "0"), ("FM_HEARTBEAT", "0"), ("FM_CHECK_INTERVAL", "0"), ("FM_GUARD_GRACE", "99999999999")];
    assert_eq!(fleet.ask("fm-watch.sh", &least, &[]).expect_code(0).stdout, "heartbeat\n");
    drain(&fleet);
    // The cap counts, also below the base.
    let capped = [("FM_HEARTBEAT", "600"), ("FM_HEARTBEAT_MAX", "0.3"), ("FM_CHECK_TIMEOUT", "0")];
    let arm = fleet.ask("fm-watch-arm.sh", &capped, &[]).expect_code(0);
    assert_eq!(arm.stdout.lines().last(), Some("heartbeat"), "{arm:?}");
    fleet.home.meta("task", &[]);
    let said = fleet.ask("fm-guard.sh", &[("FM_GUARD_GRACE", "0")], &[]).expect_code(0).stderr;
    assert!(said.contains("WATCHER DOWN"), "{said}");
}

fn a9_lock_stale_after_says_when_a_lock_without_a_pid_is_reclaimed() {
    let fleet = Fleet::adopted();
    fleet.home.make_state();
    let owner = fleet.home.state().join(".watch.lock.owner.abcdef");
    fs::create_dir(&owner).unwrap();
    symlink(&owner, fleet.home.state().join(".watch.lock")).unwrap();
    let ask = |age| {
        let knobs = [("FM_LOCK_STALE_AFTER", age), ("FM_HEARTBEAT", "0.3")];
        fleet.ask("fm-watch.sh", &knobs, &[]).expect_code(0).stdout
    };
    // Two seconds are the least, and the default; the times are those of the files.
    let lock = fleet.home.state().join(".watch.lock");
    assert_eq!(ask("0"), "watcher: already running\n");
    make_older(&lock, Duration::from_secs(60));
    assert_eq!(ask("1000"), "watcher: already running\n");
    assert_eq!(ask("0"), "heartbeat\n");
}

fn a9_wake_queue_and_its_lock_can_be_elsewhere() {
    let fleet = Fleet::adopted();
    fleet.home.write_status("task", "done\n");
    let elsewhere = fleet.home.scratch().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let (queue, lock) = (elsewhere.join("rows"), elsewhere.join("lock"));
    let knobs = [("FM_WAKE_QUEUE", queue.to_str().unwrap()), ("FM_WAKE_QUEUE_LOCK", lock.to_str().unwrap())];
    for (name, task) in [("fm-watch.sh", "task"), ("fm-watch-arm.sh", "other")] {
        fleet.home.write_status(task, "news\n");
        fleet.ask(name, &knobs, &[]).expect_code(0);
        let rows = fs::read_to_string(&queue).unwrap();
        assert!(rows.contains(&format!("\tsignal\t{task}.status\t")), "{name}: {rows}");
        fleet.home.meta(task, &[]);
        assert!(fleet.ask("fm-guard.sh", &knobs, &[]).stderr.contains("queued wakes pending"));
        assert_eq!(fleet.ask("fm-wake-drain.sh", &knobs, &[]).expect_code(0).stdout, rows);
        assert_eq!(fs::read_to_string(&queue).unwrap(), "");
    }
    assert!(!fleet.home.state().join(".wake-queue").exists() && fleet.home.state().join(".wake-queue.seq").exists());
    fs::create_dir(&lock).unwrap();
    fs::write(lock.join("pid"), "1\n").unwrap();
    let wedged = fleet.spawn("fm-wake-drain.sh", &knobs, &[]);
    stays_true(Duration::from_millis(300), "it waits for that lock", || processes::is_alive(wedged.pid()));
    wedged.signal(Signal::TERM);
    wedged.finish(SOON).expect_code(143);
}

fn arm_tracked_is_the_same_for_any_home() {
    let fleet = Fleet::new();
    let arm = fleet.home.spawn(&["arm", "--tracked"]);
    let pid = pid_in(&arm.wait_for_line("watcher: started")).unwrap();
    let healthy = fleet.home.ask(&["arm", "--tracked"]).expect_code(0).stdout;
    assert_eq!(healthy, format!("watcher: healthy pid={pid} (beacon 0s)\n"));
    arm.signal(Signal::HUP);
    arm.finish(SOON).expect_code(129);
    nothing_is_left(&fleet, pid);
    fs::remove_dir_all(fleet.home.state()).unwrap();
    fs::write(fleet.home.state(), "in the way").unwrap();
    let answer = fleet.home.ask(&["arm", "--tracked"]).expect_code(1);
    assert!(answer.stdout.starts_with("watcher: FAILED - ") && answer.stdout.contains("state"), "{answer:?}");
}
