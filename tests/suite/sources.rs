//! Events are a hint and the scan is the truth: whatever limit, overflow or storm takes the hints away, nothing is
//! missed (group W of the faults). And the two ways in which wakes come and go as programs: the inbox and notifiers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::background::wait_for_state;
use crate::support::home::{PROGRAM, finish};
use crate::support::strace::{requires_strace, traced};
#[cfg(feature = "sync-points")]
use crate::support::sync::Points;
use crate::support::{
    Answer, Background, SOON, Skip, TestHome, processes, requires, stays_true, wait_until, wait_until_true,
};

cases! {
    without_watches_left_the_watcher_polls_and_names_the_limit,
    without_instances_left_the_watcher_polls_and_names_the_limit,
    where_no_events_come_the_scan_finds_everything,
    an_overflow_while_it_was_stopped_loses_no_change,
    with_few_descriptors_it_works_or_says_clearly_why_not,
    a_storm_of_signals_changes_nothing_and_the_first_term_ends_it,
    a_second_term_insists,
    many_children_that_die_leave_no_zombie,
    a_file_that_is_being_written_in_the_inbox_is_not_read,
    an_inbox_file_becomes_one_wake_and_goes,
    what_is_no_wake_in_the_inbox_is_set_aside_and_told,
    files_left_in_the_inbox_while_nobody_watched_are_told,
    #[cfg(feature = "sync-points")]
    a_watcher_killed_between_append_and_removal_tells_a_drop_in_once,
    a_rule_decides_what_is_told_now_later_or_never,
    a_notifier_gets_each_batch_on_its_standard_input,
    a_notifier_that_hangs_or_dies_every_time_stops_nothing,
    a_notifier_that_others_may_write_is_refused,
    a_heartbeat_comes_when_nothing_else_does,
}

/// The watcher in a user namespace of its own with a limit of the kernel lowered. Its pid stays that of the child.
fn limited(home: &TestHome, limit: &str, number: u32) -> Result<Background, Skip> {
    requires("unshare")?;
    let limited = |program: &[&str]| {
        let mut command = home.bare("unshare");
        command.args(["--user", "--map-root-user", "sh", "-c"]);
        command.arg(format!("echo {number} > /proc/sys/user/{limit} && exec \"$@\"")).arg("sh").args(program);
        command
    };
    let probe = finish(limited(&["true"]));
    if probe.code != Some(0) {
        return Err(Skip(format!("no user namespace with its own {limit} can be had here: {}", probe.stderr.trim())));
    }
    let mut command = limited(&[*PROGRAM]);
    command.args(home.flags()).arg("run");
    let watcher = Background::spawn(command);
    home.wait_until_watched_by(watcher.pid());
    Ok(watcher)
}

fn assert_polls_and_names(home: &TestHome, limit: &str) {
    let degraded = || home.status()["degraded"].to_string();
    wait_until_true(SOON, &format!("status names {limit}"), || degraded().contains(limit));
    assert_eq!(degraded().matches("inotify").count(), 1, "one clear line: {}", degraded());
    for name in ["first", "second"] {
        home.write_status(name, "done\n");
        home.wait_for_wake("signal", &format!("{name}.status"));
    }
    home.wake("custom", "from-a-script", "text");
    let told = home.ask(&["wait", "--timeout", "10s"]);
    assert_eq!(told.code, Some(0), "a waiter is told too: {told:?}");
    assert_eq!(home.status()["verdict"], "ok");
}

/// W01.
fn without_watches_left_the_watcher_polls_and_names_the_limit() -> Result<(), Skip> {
    let home = TestHome::new();
    let _watcher = limited(&home, "max_inotify_watches", 1)?;
    assert_polls_and_names(&home, "max_user_watches");
    Ok(())
}

/// W02.
fn without_instances_left_the_watcher_polls_and_names_the_limit() -> Result<(), Skip> {
    let home = TestHome::new();
    let _watcher = limited(&home, "max_inotify_instances", 0)?;
    assert_polls_and_names(&home, "max_user_instances");
    Ok(())
}

/// W07: a file system whose changes raise no events, or that refuses to be watched.
fn where_no_events_come_the_scan_finds_everything() -> Result<(), Skip> {
    for (fault, is_told) in [("retval=1", false), ("error=EOPNOTSUPP", true)] {
        let home = TestHome::new();
        requires_strace(&home)?;
        let inject = format!("inject=inotify_add_watch:{fault}");
        let _tracer = Background::spawn(traced(&home, &["trace=inotify_add_watch", &inject], &["run"]));
        wait_until_true(SOON, "the traced watcher watches", || home.beat().is_some());
        for number in 0..3 {
            home.put_status(&format!("task-{number}"), "done\n");
            home.wait_for_wake("signal", &format!("task-{number}.status"));
        }
        home.drop_in("from-a-script", "text");
        home.wait_for_wake("custom", "from-a-script");
        let status = home.status();
        assert!(status["verdict"] == "ok" || status["verdict"] == "slow", "{fault}: {status}");
        if is_told {
            assert!(status["degraded"].to_string().contains("polling"), "{fault}: {status}");
        }
        home.kill(home.pid().unwrap());
    }
    Ok(())
}

/// W03.
fn an_overflow_while_it_was_stopped_loses_no_change() {
    const FILES: usize = 1000;
    // The kernel keeps this many events for a reader that does not read.
    let queue: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    let home = TestHome::new();
    let watcher = home.watcher();
    watcher.signal(Signal::STOP);
    wait_for_state(watcher.pid(), "T");
    // Two events at the least for each, and no two the same in a row, or the kernel would make one of them.
    for number in 0..queue / 2 + 100 {
        let path = home.state().join(format!("noise-{number}"));
        fs::write(&path, "x").unwrap();
        fs::remove_file(&path).unwrap();
    }
    for number in 0..FILES {
        home.write_status(&format!("task-{number:04}"), "done\n");
    }
    watcher.signal(Signal::CONT);
    wait_until_true(SOON, "every file is told", || home.status()["wakes_pending"].as_u64() >= Some(FILES as u64));
    let keys: std::collections::BTreeSet<_> = home.pending_keys().into_iter().collect();
    assert_eq!(keys, (0..FILES).map(|number| format!("task-{number:04}.status")).collect());
    // After it, events work again or the poll does: either way at once.
    home.ask(&["drain", "--consume"]).expect_code(0);
    home.write_status("later", "x");
    home.wait_for_wake("signal", "later.status");
}

/// W08.
fn with_few_descriptors_it_works_or_says_clearly_why_not() -> Result<(), Skip> {
    requires("prlimit")?;
    let (mut worked, mut refused) = (0, 0);
    for limit in (3..=64).step_by(3) {
        let home = TestHome::new();
        home.write_status("task", "done\n");
        let mut command = home.bare("prlimit");
        command.arg(format!("--nofile={limit}")).arg(*PROGRAM).args(home.flags()).args(["run", "--once"]);
        let mut child = Background::spawn(command);
        // One that started and keeps trying for a while with what it has is no error yet; it must not stay mute.
        let ended =
            fm_watch::base::wait_until::wait_until(Duration::from_secs(8), Duration::from_millis(5), || child.ended());
        if ended.is_none() {
            let degraded = home.status()["degraded"].to_string();
            assert_ne!(degraded, "[]", "with {limit} descriptors it neither works nor says why not");
            child.signal(Signal::KILL);
            child.finish(SOON);
            refused += 1;
            continue;
        }
        let answer = child.finish(SOON);
        if answer.code == Some(0) {
            assert!(answer.stdout.contains("task.status"), "{limit}: {answer:?}");
            worked += 1;
        } else {
            assert!(matches!(answer.code, Some(1 | 127)), "with {limit} descriptors: {answer:?}");
            assert!(!answer.stderr.trim().is_empty() && !answer.stderr.contains("panicked"), "{limit}: {answer:?}");
            refused += 1;
        }
    }
    assert!(worked > 0 && refused > 0, "{worked} worked, {refused} were refused");
    Ok(())
}

/// W15.
fn a_storm_of_signals_changes_nothing_and_the_first_term_ends_it() {
    let home = TestHome::new();
    let watcher = home.watcher();
    let storm = [Signal::HUP, Signal::USR1, Signal::CHILD, Signal::PIPE, Signal::WINCH, Signal::CONT];
    for round in 0..100 {
        for signal in storm {
            watcher.signal(signal);
        }
        if round % 10 == 0 {
            home.write_status(&format!("task-{round}"), "done\n");
        }
    }
    wait_until_true(SOON, "every file is told", || home.pending_keys().len() == 10);
    assert_eq!(home.status()["verdict"], "ok");
    assert_eq!(home.pid(), Some(watcher.pid()));
    for signal in [Signal::HUP, Signal::TERM, Signal::HUP, Signal::USR1] {
        watcher.signal(signal);
    }
    let answer = watcher.finish(Duration::from_secs(2)).expect_code(0);
    assert!(!answer.stderr.contains("panicked"), "{answer:?}");
    assert_eq!(home.verdict(), "stopped");
    assert_eq!(home.history().len(), 1, "one life, one line");
    assert_eq!(home.pending_keys().len(), 10);
}

fn a_second_term_insists() {
    for signals in [[Signal::TERM, Signal::TERM], [Signal::INT, Signal::TERM], [Signal::TERM, Signal::INT]] {
        let home = TestHome::new();
        home.make_state();
        // Something that takes its time while the watcher leaves.
        let check = home.state().join("slow.check.sh");
        write_script(&check, "trap '' TERM; sleep 1000 & wait");
        let watcher = home.watcher();
        for signal in signals {
            watcher.signal(signal);
        }
        let answer = watcher.finish(Duration::from_secs(2));
        assert!(answer.code.is_some(), "{signals:?}: {answer:?}");
        let left = || processes::naming(home.scratch());
        wait_until_true(SOON, "what it had started is gone", || left().is_empty());
        fs::remove_file(check).unwrap();
        let next = home.watcher();
        home.write_status("task", "done\n");
        home.wait_for_wake("signal", "task.status");
        drop(next);
    }
}

fn write_script(path: &std::path::Path, text: &str) {
    fs::write(path, format!("#!/bin/bash\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
}

/// W16.
fn many_children_that_die_leave_no_zombie() {
    let home = TestHome::with(&["check_interval=50ms", "checks_at_once=16"]);
    home.make_state();
    for number in 0..24 {
        write_script(&home.state().join(format!("c{number}.check.sh")), "(exit 3) & (exit 4) & sleep 0.01 & exit 1");
    }
    let watcher = home.watcher();
    let count = || fs::read_dir("/proc").unwrap().flatten();
    let zombies_of = |parent: u32| -> Vec<u32> {
        let pids = count().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let is_its_zombie = |pid: &u32| {
            processes::stat_field(*pid, 4) == Some(parent.to_string())
                && processes::stat_field(*pid, 3).as_deref() == Some("Z")
        };
        pids.filter(is_its_zombie).collect()
    };
    // A few hundred children in the meantime; each is a zombie only for an instant.
    stays_true(Duration::from_secs(3), "its dead are buried", || zombies_of(watcher.pid()).len() <= 24);
    wait_until_true(SOON, "no zombie is left at some instant", || zombies_of(watcher.pid()).is_empty());
    assert_eq!(home.status()["verdict"], "ok");
    let mut ages = zombies_of(watcher.pid());
    wait_until_true(Duration::from_secs(1), "those seen now are gone within a second", || {
        let now = zombies_of(watcher.pid());
        ages.retain(|pid| now.contains(pid));
        ages.is_empty()
    });
}

/// Q19.
fn a_file_that_is_being_written_in_the_inbox_is_not_read() {
    let home = TestHome::new();
    let _watcher = home.watcher();
    let temporary = home.watch("inbox").join("tmp.1234");
    fs::write(&temporary, "custom\thalf\tonly hal").unwrap();
    stays_true(Duration::from_secs(1), "half a file is no wake", || home.drain().is_empty());
    assert!(temporary.exists(), "it is its writer's own");
    fs::write(&temporary, "custom\thalf\tthe whole text").unwrap();
    fs::rename(&temporary, home.watch("inbox").join("1234.wake")).unwrap();
    let wake = home.wait_for_wake("custom", "half");
    assert!(wake["text"].as_str().unwrap().contains("the whole text"), "{wake}");

    // One whose writer died is set aside after a day, so that it neither blocks nor vanishes.
    let abandoned = home.watch("inbox").join("tmp.5678");
    fs::write(&abandoned, "custom\tnever\tfinis").unwrap();
    let file = fs::File::open(&abandoned).unwrap();
    file.set_modified(std::time::SystemTime::now() - Duration::from_secs(25 * 3600)).unwrap();
    drop(file);
    let keys = home.pending_keys();
    home.kill(home.pid().unwrap());
    let _next = home.watcher();
    wait_until_true(SOON, "the abandoned file is set aside", || !abandoned.exists());
    let aside = fs::read_dir(home.watch("inbox")).unwrap().flatten().map(|entry| entry.file_name()).collect::<Vec<_>>();
    assert_eq!(aside.len(), 1, "it is kept for people: {aside:?}");
    assert_eq!(home.pending_keys(), keys);
}

fn an_inbox_file_becomes_one_wake_and_goes() {
    let home = TestHome::new();
    let _watcher = home.watcher();
    home.drop_in("line", "check\tbackup\tit is late");
    home.drop_in("json", r#"{"kind":"custom","key":"deploy","text":"it is done"}"#);
    home.drop_in("plain", "any text at all");
    for (kind, key, text) in
        [("check", "backup", "it is late"), ("custom", "deploy", "it is done"), ("custom", "plain", "any text at all")]
    {
        let wake = home.wait_for_wake(kind, key);
        assert!(wake["text"].as_str().unwrap().contains(text), "{wake}");
    }
    wait_until_true(SOON, "the inbox is empty", || fs::read_dir(home.watch("inbox")).unwrap().next().is_none());
    stays_true(Duration::from_millis(600), "each is told once", || home.drain().len() == 3);
}

fn what_is_no_wake_in_the_inbox_is_set_aside_and_told() {
    let home = TestHome::new();
    home.make_watch();
    let inbox = home.watch("inbox");
    fs::create_dir(&inbox).unwrap();
    let secret = home.scratch().join("secret");
    fs::write(&secret, "not for the journal").unwrap();
    std::os::unix::fs::symlink(&secret, inbox.join("link.wake")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, inbox.join("fifo.wake"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    fs::create_dir(inbox.join("directory.wake")).unwrap();
    fs::write(inbox.join("huge.wake"), vec![b'x'; 1 << 20]).unwrap();
    fs::write(inbox.join("binary.wake"), [0xff, 0, 0x1b, b'[', b'm']).unwrap();
    let _watcher = home.watcher();
    home.drop_in("good", "still told");
    home.wait_for_wake("custom", "good");
    wait_until_true(SOON, "nothing that is read is left", || {
        let names = fs::read_dir(&inbox).unwrap().flatten().map(|entry| entry.file_name());
        !names.into_iter().any(|name| name.to_string_lossy().ends_with(".wake"))
    });
    let shown = home.ask(&["drain", "--json"]).expect_code(0).stdout;
    assert!(shown.contains("is no wake"), "{shown}");
    assert!(!shown.contains("not for the journal"), "no link is followed: {shown}");
    assert_eq!(fs::read_to_string(&secret).unwrap(), "not for the journal");
    assert_eq!(home.status()["verdict"], "ok");
}

fn files_left_in_the_inbox_while_nobody_watched_are_told() {
    let home = TestHome::new();
    for number in 0..300 {
        home.drop_in(&format!("n{number:03}"), "text");
    }
    assert!(home.status()["wakes_pending"].as_u64() >= Some(300), "they are pending before anybody has read them");
    let _watcher = home.watcher();
    wait_until_true(SOON, "all are told", || home.drain().len() == 300);
    wait_until_true(SOON, "the inbox is empty", || fs::read_dir(home.watch("inbox")).unwrap().next().is_none());
}

/// Q19: the wake is durable and its file is still there.
#[cfg(feature = "sync-points")]
fn a_watcher_killed_between_append_and_removal_tells_a_drop_in_once() {
    let home = TestHome::new();
    home.drop_in("once", "told exactly once");
    let points = Points::new(&home, "inbox");
    let mut command = home.command(&["run"]);
    points.pause(&mut command, &["JournalSynced"]);
    let watcher = Background::spawn(command);
    points.wait_until_reached("JournalSynced");
    assert!(home.watch("inbox/once.wake").exists(), "a file goes only after its wake is durable");
    watcher.signal(Signal::KILL);
    watcher.finish(SOON);
    assert_eq!(home.pending_keys(), ["once"]);
    let _next = home.watcher();
    wait_until_true(SOON, "its file is gone", || !home.watch("inbox/once.wake").exists());
    home.write_status("probe", "x");
    home.wait_for_wake("signal", "probe.status");
    let shown = home.ask(&["drain", "--json"]).expect_code(0).stdout;
    assert_eq!(shown.matches("told exactly once").count(), 1, "{shown}");
    let journal: String = home.segments().iter().map(|segment| fs::read_to_string(segment).unwrap()).collect();
    assert_eq!(journal.matches("told exactly once").count(), 1, "{journal}");
}

fn a_rule_decides_what_is_told_now_later_or_never() {
    let home = TestHome::new();
    home.configure(
        r#"
        [[rule]]
        key = "^quiet"
        deliver = "never"
        [[rule]]
        kind = "custom"
        text = "later"
        deliver = "batch"
        "#,
    );
    let _watcher = home.watcher();
    home.write_status("quiet", "nobody hears\n");
    home.wake("custom", "patient", "tell me later");
    let answer = home.ask(&["wait", "--timeout", "2s"]);
    assert_eq!((answer.code, answer.stdout.as_str()), (Some(124), ""), "neither is a reason to wake: {answer:?}");
    let waiter = home.spawn(&["wait", "--timeout", "20s"]);
    wait_until_true(SOON, "the waiter is counted", || home.status()["waiters"] == 1);
    home.write_status("loud", "done\n");
    let answer = waiter.finish(SOON).expect_code(0);
    assert!(answer.stdout.contains("loud.status"), "{answer:?}");
    assert!(answer.stdout.contains("tell me later"), "what was held back goes along: {answer:?}");
    assert!(!home.pending_keys().contains(&"quiet.status".to_owned()));
    // A marker moved all the same, so it is not looked at again and again, and new content is judged anew.
    home.write_status("quiet", "still nobody\n");
    stays_true(Duration::from_millis(600), "it stays quiet", || {
        !home.pending_keys().contains(&"quiet.status".to_owned())
    });
}

/// A home whose notifier is this script. What it prints goes nowhere.
fn with_notifier(script: &str, more: &str) -> (TestHome, PathBuf) {
    let home = TestHome::new();
    let program = home.scratch().join("notifier");
    write_script(&program, &format!("cd {}\n{script}", home.scratch().display()));
    home.configure(&format!("[[notify]]\nexec = [\"{}\", \"argument\"]\n{more}\n", program.display()));
    (home, program)
}

fn a_notifier_gets_each_batch_on_its_standard_input() {
    let (home, _) = with_notifier("cat > said.$$; echo \"$1\" > argument; mv said.$$ \"told.$(date +%s%N)\"", "");
    let _watcher = home.watcher();
    home.put_status("task", "done\n");
    let told = || -> Vec<Value> {
        let names = fs::read_dir(home.scratch()).unwrap().flatten().map(|entry| entry.path());
        let told =
            names.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("told.")));
        told.map(|path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap()).collect()
    };
    let batch = wait_until(SOON, "the notifier is told", || told().pop());
    assert_eq!(batch["schema"], 1, "{batch}");
    assert_eq!(batch["wakes"][0]["key"], "task.status", "{batch}");
    assert_eq!(batch["wakes"][0]["context"], "done\n", "{batch}");
    assert_eq!(fs::read_to_string(home.scratch().join("argument")).unwrap(), "argument\n");
    assert_eq!(home.pending_keys(), ["task.status"], "a notifier acknowledges nothing");
}

/// Q23: a handler that fails every time.
fn a_notifier_that_hangs_or_dies_every_time_stops_nothing() {
    for script in ["cat > /dev/null; kill -9 $$", "sleep 1000 & echo $! > hung; sleep 1000", "exec 0<&-; exit 7"] {
        let (home, _) = with_notifier(script, "timeout = \"300ms\"");
        let watcher = home.watcher();
        let waiter = home.spawn(&["wait", "--timeout", "20s"]);
        wait_until_true(SOON, "the waiter is counted", || home.status()["waiters"] == 1);
        for number in 0..5 {
            home.write_status(&format!("task-{number}"), "done\n");
            home.wait_for_wake("signal", &format!("task-{number}.status"));
        }
        wait_until_true(SOON, "status says so", || home.status()["degraded"].to_string().contains("notifier"));
        assert_eq!(home.status()["verdict"], "ok", "{script}");
        let told = waiter.finish(SOON);
        assert_eq!(told.code, Some(0), "the waiters are told all the same: {told:?}");
        watcher.signal(Signal::TERM);
        watcher.finish(Duration::from_secs(3)).expect_code(0);
        if let Ok(pid) = fs::read_to_string(home.scratch().join("hung")) {
            let pid = pid.trim().parse().unwrap();
            wait_until_true(SOON, "its whole group is killed", || !processes::is_alive(pid));
        }
    }
}

fn a_notifier_that_others_may_write_is_refused() {
    let (home, program) = with_notifier("touch ran", "");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o777)).unwrap();
    let _watcher = home.watcher();
    home.write_status("task", "done\n");
    home.wait_for_wake("signal", "task.status");
    wait_until_true(SOON, "status says so", || home.status()["degraded"].to_string().contains("notifier"));
    assert!(!home.scratch().join("ran").exists(), "it was not run");
    let answer: Answer = home.ask(&["config", "check"]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
}

fn a_heartbeat_comes_when_nothing_else_does() {
    let home = TestHome::with(&["heartbeat=300ms", "heartbeat_max=1s"]);
    let mut command: Command = home.command(&["run", "--once"]);
    command.env("UNUSED", "1");
    let answer = finish(command).expect_code(0);
    assert_eq!(answer.stdout, "heartbeat\n");
    let shown = home.drain();
    assert_eq!((shown.len(), shown[0].kind.as_str(), shown[0].key.as_str()), (1, "heartbeat", "heartbeat"));
}
