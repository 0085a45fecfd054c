//! The wake queue and the markers of firstmate's scripts: rows and wakes change places once each, whoever dies when, and
//! what one side has announced the other does not repeat.
//!
//! The scripts' side is played by `tests/peers/firstmate_queue.sh`, which was written from the contract.

#[cfg(feature = "sync-points")]
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;

use crate::panes::Tmux;
use crate::support::gate::Gate;
use crate::support::home::{finish, make_private};
use crate::support::namespace::Namespace;
#[cfg(feature = "sync-points")]
use crate::support::sync::Points;
use crate::support::wakes::Shown;
use crate::support::{Answer, Background, SOON, Skip, TestHome, requires, stays_true, wait_until, wait_until_true};

cases! {
    forty_shell_appenders_and_our_drain_lose_no_row_and_no_number_is_used_twice,
    on_a_full_disk_ours_leaves_no_half_of_a_row,
    #[cfg(feature = "sync-points")]
    twin_half_a_row_would_swallow_the_next_of_a_script,
    a_drain_without_the_journal_loses_nothing_of_one_that_died,
    a_lock_from_the_future_without_a_pid_does_not_wedge_the_queue,
    a_row_with_an_endless_kind_keeps_no_other_out,
    two_drains_at_once_print_each_row_once,
    a_drain_prints_five_fields_folds_topics_and_drops_what_is_no_row,
    a_drain_of_an_empty_queue_says_nothing_and_leaves_one,
    a_drain_that_is_interrupted_or_terminated_puts_the_rows_back,
    a_drain_whose_reader_is_gone_puts_the_rows_back,
    a_drain_waits_for_the_lock_of_the_queue,
    #[cfg(feature = "sync-points")]
    twin_without_the_lock_a_drain_takes_rows_from_under_an_appender,
    rows_of_scripts_become_wakes_once,
    #[cfg(feature = "sync-points")]
    twin_without_the_ledger_rows_become_wakes_again,
    our_wakes_become_rows_with_numbers_of_the_same_counter,
    a_corrupt_counter_never_falls_below_the_queue,
    kinds_that_the_contract_has_not_are_no_rows_but_are_drained,
    what_a_shell_drain_consumes_is_acknowledged,
    what_a_killed_shell_drain_moved_aside_comes_back,
    what_is_acknowledged_on_our_side_leaves_the_queue,
    #[cfg(feature = "sync-points")]
    twin_without_taking_out_a_drain_tells_what_was_acknowledged,
    a_home_without_the_scripts_has_no_queue_and_no_markers,
    a_wedged_lock_stops_neither_the_loop_nor_the_wakes_and_status_says_so,
    #[cfg(feature = "sync-points")]
    a_watcher_killed_at_any_step_loses_no_row_and_tells_none_twice,
    #[cfg(feature = "sync-points")]
    twin_without_the_pin_a_drained_row_comes_back,
    #[cfg(feature = "sync-points")]
    a_taking_in_killed_at_any_step_makes_one_wake_of_a_row,
    #[cfg(feature = "sync-points")]
    a_drain_killed_at_any_step_loses_no_row_and_repeats_nothing_acknowledged,
    #[cfg(feature = "sync-points")]
    putting_back_and_taking_out_killed_at_any_step_lose_and_repeat_nothing,
    a_storm_of_killed_watchers_appenders_and_drains_prints_each_row_once,
    what_a_shell_watcher_announced_is_not_announced_again,
    a_pane_that_a_shell_watcher_announced_is_not_told_again_and_its_markers_are_kept,
    the_markers_are_kept_as_a_shell_watcher_would_have_left_them,
    #[cfg(feature = "sync-points")]
    a_marker_moves_only_after_the_row,
    #[cfg(feature = "sync-points")]
    twin_a_marker_before_the_row_hides_a_wake_from_the_scripts,
    #[cfg(feature = "sync-points")]
    a_sweep_is_marked_only_after_what_it_found_is_recorded,
    #[cfg(feature = "sync-points")]
    twin_a_sweep_that_is_marked_at_once_hides_what_it_found,
    #[cfg(feature = "sync-points")]
    twin_without_the_markers_everything_is_announced_again,
    a_run_that_ends_with_a_wake_has_written_its_row_before_it_speaks,
}

const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/firstmate_queue.sh");

/// A firstmate home: one whose code has the watcher's script.
fn fleet() -> TestHome {
    fleet_with(&[])
}

fn fleet_with(settings: &[&str]) -> TestHome {
    let home = TestHome::with(settings);
    make_fleet(&home);
    home
}

fn make_fleet(home: &TestHome) {
    home.make_state();
    make_private(&home.root().join("bin"));
    fs::write(home.root().join("bin/fm-watch.sh"), "#!/bin/sh\n").unwrap();
}

impl TestHome {
    fn queue(&self, end: &str) -> PathBuf {
        self.state().join(format!(".wake-queue{end}"))
    }

    fn peer(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare("bash");
        command.arg(PEER).arg(arguments[0]).arg(self.state()).args(&arguments[1..]);
        command
    }

    #[track_caller]
    fn append(&self, kind: &str, key: &str) {
        finish(self.peer(&["append", kind, key, &format!("{kind}: {key}")])).expect_code(0);
    }

    #[track_caller]
    fn shell_drain(&self) -> Vec<Shown> {
        rows(&finish(self.peer(&["drain"])).expect_code(0))
    }

    #[track_caller]
    fn our_drain(&self) -> Vec<Shown> {
        rows(&self.ask(&["firstmate", "drain"]).expect_code(0))
    }

    /// The rows in the queue.
    fn queued(&self) -> Vec<Shown> {
        fs::read_to_string(self.queue("")).unwrap_or_default().lines().map(Shown::parse).collect()
    }

    fn queued_keys(&self) -> Vec<String> {
        keys(&self.queued())
    }

    #[track_caller]
    fn wait_for_rows(&self, keys: &[&str]) {
        let expected: BTreeSet<_> = keys.iter().map(|key| (*key).to_owned()).collect();
        wait_until_true(SOON, &format!("the rows {keys:?} are queued"), || {
            self.queued_keys().into_iter().collect::<BTreeSet<_>>() == expected
        });
    }

    #[track_caller]
    fn wait_for_pending(&self, keys: &[&str]) {
        wait_until_true(SOON, &format!("the wakes {keys:?} are pending"), || self.pending_keys() == keys);
    }

    /// How many wakes about a key the journal has, acknowledged or not.
    fn times_recorded(&self, key: &str) -> usize {
        let key = format!("\"key\":\"{key}\"");
        self.segments().iter().map(|path| fs::read_to_string(path).unwrap().matches(&key).count()).sum()
    }

    fn marker(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.state().join(name)).ok()
    }

    #[track_caller]
    fn wait_for_marker(&self, name: &str, content: &str) {
        wait_until_true(SOON, &format!("{name} says {content:?}"), || {
            self.marker(name).is_some_and(|marker| marker.trim() == content)
        });
    }

    /// What the scripts' own `stat` prints for a file.
    #[track_caller]
    fn stat(&self, file: &str) -> String {
        let mut stat = self.bare("stat");
        stat.args(["-c", "%s:%Y"]).arg(self.state().join(file));
        finish(stat).expect_code(0).stdout.trim().to_owned()
    }
}

#[track_caller]
fn rows(answer: &Answer) -> Vec<Shown> {
    answer.stdout.lines().map(Shown::parse).collect()
}

fn keys(rows: &[Shown]) -> Vec<String> {
    rows.iter().map(|row| row.key.clone()).collect()
}

#[track_caller]
fn leave(watcher: Background) {
    watcher.signal(Signal::TERM);
    watcher.finish(SOON).expect_code(0);
}

/// A shell that has the queue's lock until it is dropped.
fn hold(home: &TestHome) -> (Background, std::io::PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = home.peer(&["hold"]);
    command.stdin(reader);
    let holder = Background::spawn_reading(command);
    holder.wait_for_line("taken");
    (holder, writer)
}

fn forty_shell_appenders_and_our_drain_lose_no_row_and_no_number_is_used_twice() {
    let home = fleet();
    let _watcher = home.watcher();
    let gate = Gate::new();
    let payload = "signal: with\ttab\rand\nline ends";
    let appenders: Vec<_> = (0..40)
        .map(|number| gate.spawn(&home, &home.peer(&["append", "signal", &format!("task\t{number}"), payload])))
        .collect();
    gate.open();
    let mut drained = Vec::new();
    let mut running = appenders;
    while !running.is_empty() {
        drained.extend(home.our_drain());
        let (ended, left): (Vec<_>, Vec<_>) =
            running.into_iter().map(|mut child| (child.ended().is_some(), child)).partition(|(ended, _)| *ended);
        for (_, child) in ended {
            child.finish(SOON).expect_code(0);
        }
        running = left.into_iter().map(|(_, child)| child).collect();
    }
    drained.extend(home.our_drain());
    // `Shown::parse` fails unless a row has five fields.
    let unique: BTreeSet<_> = drained.iter().map(|row| &row.key).collect();
    let numbers: BTreeSet<_> = drained.iter().map(|row| row.seq).collect();
    assert_eq!((drained.len(), unique.len(), numbers.len()), (40, 40, 40), "{drained:?}");
    assert!(drained.iter().all(|row| row.text == "signal: with tab and line ends"));
    assert_eq!(home.queued(), []);
    assert_eq!(home.drain(), [], "what was printed is acknowledged");
}

/// The bytes of a queue on a full disk, 4089 before, after ours could not append to it.
fn after_an_append_without_space(without: &str) -> Result<String, Skip> {
    let home = fleet();
    Namespace::Mounts.required(&home)?;
    let script = r#"
        mkdir "$SCRATCH/small"
        mount -t tmpfs -o size=16k,mode=700 tmpfs "$SCRATCH/small"
        export FM_WAKE_QUEUE="$SCRATCH/small/rows"
        printf '1\t1\tcheck\tk\t%04076d\n' 0 > "$FM_WAKE_QUEUE"
        dd if=/dev/zero of="$SCRATCH/small/filler" bs=4k 2>/dev/null || :
        echo done > "$STATE/task.status"
        code=0
        "${program[@]}" firstmate watch || code=$?
        [ "$code" = 1 ]
        stat -c %s "$FM_WAKE_QUEUE"
    "#;
    let mut command = Namespace::Mounts.script(&home, script);
    command.env("FM_WATCH_WITHOUT", without);
    Ok(finish(command).expect_code(0).stdout.trim().to_owned())
}

fn on_a_full_disk_ours_leaves_no_half_of_a_row() -> Result<(), Skip> {
    assert_eq!(after_an_append_without_space("")?, "4089");
    Ok(())
}

#[cfg(feature = "sync-points")]
fn twin_half_a_row_would_swallow_the_next_of_a_script() -> Result<(), Skip> {
    assert_eq!(after_an_append_without_space("FirstmateWholeRows")?, "4096");
    Ok(())
}

fn a_drain_without_the_journal_loses_nothing_of_one_that_died() {
    let home = fleet();
    home.append("signal", "first");
    home.our_drain();
    home.append("signal", "second");
    // A crossing that died has left its pin, and what it says cannot be written down.
    fs::write(home.queue(".fm-watch"), "").unwrap();
    fs::remove_file(home.watch("wake-queue.json")).unwrap();
    fs::create_dir(home.watch("wake-queue.json")).unwrap();
    fs::write(home.queue(".drain.4711"), "1\t1\tsignal\tprecious\tsignal: precious\n").unwrap();
    let answer = home.ask(&["firstmate", "drain"]).expect_code(0);
    let keys: Vec<_> = answer.stdout.lines().map(|row| row.split('\t').nth(3).unwrap().to_owned()).collect();
    assert_eq!(keys, ["precious", "second"], "{answer:?}");
    assert!(answer.stderr.contains("wake-queue.json"), "{answer:?}");
    assert!(!home.queue(".drain.4711").exists());
}

fn a_lock_from_the_future_without_a_pid_does_not_wedge_the_queue() {
    let home = fleet();
    home.append("signal", "one");
    let lock = home.queue(".lock");
    fs::create_dir(&lock).unwrap();
    fs::File::open(&lock).unwrap().set_modified(SystemTime::now() + Duration::from_secs(100_000)).unwrap();
    let begun = Instant::now();
    assert_eq!(home.our_drain().len(), 1);
    assert!(begun.elapsed() < Duration::from_secs(25), "it would give up after 30 s");
}

fn a_row_with_an_endless_kind_keeps_no_other_out() {
    let home = fleet();
    fs::write(home.queue(""), format!("1\t1\t{}\tk\tp\n", "x".repeat(70_000))).unwrap();
    home.append("signal", "other");
    let _watcher = home.watcher();
    home.wait_for_wake("signal", "other");
}

fn two_drains_at_once_print_each_row_once() {
    let home = fleet();
    for number in 0..5 {
        home.append("signal", &format!("t{number}.status"));
    }
    let gate = Gate::new();
    let drains: Vec<_> = (0..4)
        .map(|number| match number % 2 {
            0 => gate.spawn(&home, &home.command(&["firstmate", "drain"])),
            _ => gate.spawn(&home, &home.peer(&["drain"])),
        })
        .collect();
    gate.open();
    let printed: Vec<_> = drains.into_iter().flat_map(|drain| rows(&drain.finish(SOON).expect_code(0))).collect();
    assert_eq!(printed.len(), 5, "{printed:?}");
    assert_eq!(home.our_drain(), [], "also what a drain of the scripts printed is told");
}

fn a_drain_prints_five_fields_folds_topics_and_drops_what_is_no_row() {
    let home = fleet();
    let lines = "1\t1\tsignal\ta\told\nno row\n1\t2\theartbeat\tx\theartbeat\n2\t3\tcheck\ta\tcheck: a: \u{e4}\n\
        2\t4\tsignal\ta\tnew\n3\t5\theartbeat\ty\theartbeat\n4\t6\ttide\tk\tt";
    fs::write(home.queue(""), lines).unwrap();
    let shell = fleet();
    fs::write(shell.queue(""), lines).unwrap();
    let expected = "2\t4\tsignal\ta\tnew\n3\t5\theartbeat\ty\theartbeat\n2\t3\tcheck\ta\tcheck: a: \u{e4}\n4\t6\ttide\tk\tt\n";
    assert_eq!(finish(shell.peer(&["drain"])).expect_code(0).stdout, expected);
    let answer = home.ask(&["firstmate", "drain"]).expect_code(0);
    assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), (expected, ""));
    assert_eq!(fs::read(home.queue("")).unwrap(), b"");
    assert_eq!(home.our_drain(), []);
    let mut left = names_of_queue(&home);
    left.retain(|name| name != ".wake-queue" && name != ".wake-queue.seq");
    assert_eq!(left, Vec::<String>::new(), "nothing else is left");
}

fn names_of_queue(home: &TestHome) -> Vec<String> {
    let entries = fs::read_dir(home.state()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    entries.filter(|name| name.starts_with(".wake-queue") || name.starts_with("..wake")).collect()
}

fn a_drain_of_an_empty_queue_says_nothing_and_leaves_one() {
    let home = fleet();
    for _ in 0..2 {
        let answer = home.ask(&["firstmate", "drain"]).expect_code(0);
        assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("", ""));
        assert_eq!(fs::read(home.queue("")).unwrap(), b"");
    }
}

fn a_drain_that_is_interrupted_or_terminated_puts_the_rows_back() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let home = fleet();
        // More than a pipe takes, so that printing waits for a reader.
        for number in 0..3 {
            let row = format!("1\t{number}\tsignal\tt{number}.status\t{}\n", "x".repeat(60_000));
            let queue = fs::read(home.queue("")).unwrap_or_default();
            fs::write(home.queue(""), [queue, row.into_bytes()].concat()).unwrap();
        }
        let before = fs::read(home.queue("")).unwrap();
        let mut command = home.command(&["firstmate", "drain"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        wait_until_true(SOON, "the queue is moved aside", || fs::read(home.queue("")).is_ok_and(|queue| queue.is_empty()));
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        let status = wait_until(SOON, "the drain ends", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(code));
        assert_eq!(fs::read(home.queue("")).unwrap(), before);
        assert_eq!(home.our_drain().len(), 3);
    }
}

fn a_drain_whose_reader_is_gone_puts_the_rows_back() {
    let home = fleet();
    home.append("signal", "a.status");
    let before = fs::read(home.queue("")).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = home.command(&["firstmate", "drain"]).stdin(Stdio::null()).stdout(writer).spawn().unwrap();
    let status = wait_until(SOON, "the drain ends", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(1));
    assert_eq!(fs::read(home.queue("")).unwrap(), before);
    assert_eq!(keys(&home.our_drain()), ["a.status"]);
}

fn a_drain_waits_for_the_lock_of_the_queue() {
    let home = fleet();
    home.append("signal", "a.status");
    let (holder, writer) = hold(&home);
    let mut drain = home.spawn(&["firstmate", "drain"]);
    stays_true(Duration::from_millis(300), "the drain waits", || drain.ended().is_none() && home.queued().len() == 1);
    drop(writer);
    holder.finish(SOON).expect_code(0);
    assert_eq!(rows(&drain.finish(SOON).expect_code(0)).len(), 1);
}

#[cfg(feature = "sync-points")]
fn twin_without_the_lock_a_drain_takes_rows_from_under_an_appender() {
    let home = fleet();
    home.append("signal", "a.status");
    let (holder, writer) = hold(&home);
    let mut command = home.command(&["firstmate", "drain"]);
    command.env("FM_WATCH_WITHOUT", "FirstmateQueueLock");
    assert_eq!(rows(&finish(command).expect_code(0)).len(), 1, "although somebody else has the lock");
    drop(writer);
    holder.finish(SOON).expect_code(0);
}

fn rows_of_scripts_become_wakes_once() {
    let home = fleet();
    home.append("signal", "before.status");
    let watcher = home.watcher();
    home.wait_for_pending(&["before.status"]);
    home.append("check", "/s/a.check.sh");
    home.wait_for_pending(&["before.status", "/s/a.check.sh"]);
    assert_eq!(home.queued().len(), 2, "the rows stay for the scripts' own drain");
    leave(watcher);
    for number in 0..2 {
        let watcher = home.watcher();
        home.append("stale", &format!("fm:{number}"));
        wait_until_true(SOON, "the new row is a wake", || home.times_recorded(&format!("fm:{number}")) == 1);
        home.kill(watcher.pid());
        drop(watcher);
    }
    for key in ["before.status", "/s/a.check.sh", "fm:0", "fm:1"] {
        assert_eq!(home.times_recorded(key), 1, "{key}");
    }
    assert_eq!((home.queued().len(), home.our_drain().len(), home.drain().len()), (4, 4, 0));
}

#[cfg(feature = "sync-points")]
fn twin_without_the_ledger_rows_become_wakes_again() {
    let home = fleet();
    home.append("signal", "a.status");
    let watcher = home.watcher();
    home.wait_for_pending(&["a.status"]);
    leave(watcher);
    fs::remove_file(home.watch("wake-queue.json")).unwrap();
    let watcher = home.watcher();
    stays_true(Duration::from_millis(500), "the journal knows the row", || home.times_recorded("a.status") == 1);
    leave(watcher);
    fs::remove_file(home.watch("wake-queue.json")).unwrap();
    let mut command = home.command(&["run"]);
    command.env("FM_WATCH_WITHOUT", "FirstmateKnownRows");
    let _watcher = Background::spawn(command);
    wait_until_true(SOON, "the row is a second wake", || home.times_recorded("a.status") == 2);
}

fn our_wakes_become_rows_with_numbers_of_the_same_counter() {
    let home = fleet();
    home.append("signal", "shell-1.status");
    let _watcher = home.watcher();
    home.put_status("ours-1", "done\n");
    home.wait_for_rows(&["shell-1.status", "ours-1.status"]);
    home.append("signal", "shell-2.status");
    home.put_status("ours-2", "done\n");
    home.wait_for_rows(&["shell-1.status", "ours-1.status", "shell-2.status", "ours-2.status"]);
    let queued = home.queued();
    let numbers: Vec<_> = queued.iter().map(|row| row.seq).collect();
    assert_eq!(numbers, [1, 2, 3, 4], "{queued:?}");
    assert_eq!(fs::read_to_string(home.queue(".seq")).unwrap(), "4\n");
    let row = queued.iter().find(|row| row.key == "ours-1.status").unwrap();
    let reason = format!("signal: {}", home.state().join("ours-1.status").display());
    assert_eq!((row.kind.as_str(), &row.text), ("signal", &reason));
    wait_until_true(SOON, "four wakes are pending", || home.drain().len() == 4);
    assert_eq!(home.our_drain().len(), 4);
    assert_eq!(home.drain(), []);
    stays_true(Duration::from_millis(500), "nothing comes back", || home.queued().is_empty() && home.drain().is_empty());
    home.append("signal", "shell-3.status");
    assert_eq!(home.queued()[0].seq, 5, "a drain resets no counter");
}

fn a_corrupt_counter_never_falls_below_the_queue() {
    let home = fleet();
    fs::write(home.queue(""), "1\t41\tsignal\told.status\tsignal: old\n").unwrap();
    fs::write(home.queue(".seq"), "garbage that is longer than a number\n").unwrap();
    let _watcher = home.watcher();
    home.put_status("ours", "done\n");
    home.wait_for_rows(&["old.status", "ours.status"]);
    assert_eq!(home.queued()[1].seq, 42);
    assert_eq!(fs::read_to_string(home.queue(".seq")).unwrap(), "42\n");
}

fn kinds_that_the_contract_has_not_are_no_rows_but_are_drained() {
    let home = fleet();
    let _watcher = home.watcher();
    home.wake("custom", "mine", "a word");
    home.put_status("ours", "done\n");
    home.wait_for_rows(&["ours.status"]);
    let printed = home.our_drain();
    let custom = printed.iter().find(|row| row.kind == "custom").unwrap();
    assert_eq!((custom.key.as_str(), custom.text.as_str()), ("mine", "custom: mine: a word"));
    assert_eq!(printed.len(), 2, "{printed:?}");
    assert_eq!(printed.iter().map(|row| row.seq).collect::<BTreeSet<_>>().len(), 2);
    assert_eq!((home.drain(), home.our_drain()), (vec![], vec![]));
}

fn what_a_shell_drain_consumes_is_acknowledged() {
    let home = fleet();
    let _watcher = home.watcher();
    home.put_status("ours", "done\n");
    home.append("signal", "shell.status");
    home.wait_for_rows(&["ours.status", "shell.status"]);
    wait_until_true(SOON, "both are pending", || home.drain().len() == 2);
    assert_eq!(home.shell_drain().len(), 2);
    wait_until_true(SOON, "both are acknowledged", || home.drain().is_empty());
    // A file that vanishes is no drain, and proves nothing.
    home.put_status("second", "done\n");
    home.wait_for_rows(&["second.status"]);
    fs::remove_file(home.queue("")).unwrap();
    stays_true(Duration::from_millis(600), "the wake is still pending", || home.pending_keys() == ["second.status"]);
    // Neither is the old content told beside the new.
    home.put_status("second", "done again\n");
    home.wait_for_rows(&["second.status"]);
    assert_eq!(keys(&home.our_drain()), ["second.status"]);
    home.put_status("third", "done\n");
    home.wait_for_rows(&["third.status"]);
    wait_until_true(SOON, "the crossing is over", || !names_of_queue(&home).iter().any(|name| name.contains("lock")));
    fs::remove_file(home.queue("")).unwrap();
    assert_eq!(keys(&home.our_drain()), ["third.status"], "a row that was lost is told by its wake");
}

fn what_a_killed_shell_drain_moved_aside_comes_back() {
    let home = fleet();
    home.append("signal", "unknown.status");
    let mut drain = home.peer(&["drain"]);
    drain.env("FQ_KILL", "moved");
    assert_eq!(finish(drain).signal, Some(9));
    assert_eq!(home.queued(), []);
    home.append("signal", "newer.status");
    let _watcher = home.watcher();
    home.wait_for_pending(&["unknown.status", "newer.status"]);
    assert_eq!(home.queued_keys(), ["unknown.status", "newer.status"], "in front of what is newer");
    assert_eq!(names_of_queue(&home).iter().filter(|name| name.contains("drain")).count(), 0);
}

fn what_is_acknowledged_on_our_side_leaves_the_queue() {
    let home = fleet();
    let watcher = home.watcher();
    home.put_status("ours", "done\n");
    home.append("signal", "shell.status");
    wait_until_true(SOON, "both are pending", || home.drain().len() == 2);
    home.wait_for_rows(&["ours.status", "shell.status"]);
    home.ask(&["drain", "--consume"]).expect_code(0);
    home.wait_for_rows(&[]);
    home.append("signal", "later.status");
    home.wait_for_pending(&["later.status"]);
    leave(watcher);
    home.ask(&["drain", "--consume"]).expect_code(0);
    home.append("signal", "last.status");
    assert_eq!(keys(&home.our_drain()), ["last.status"], "also without a watcher");
}

#[cfg(feature = "sync-points")]
fn twin_without_taking_out_a_drain_tells_what_was_acknowledged() {
    let home = fleet();
    leave({
        let watcher = home.watcher();
        home.put_status("ours", "done\n");
        home.wait_for_rows(&["ours.status"]);
        watcher
    });
    home.ask(&["drain", "--consume"]).expect_code(0);
    let mut drain = home.command(&["firstmate", "drain"]);
    drain.env("FM_WATCH_WITHOUT", "FirstmateTakeOut");
    assert_eq!(keys(&rows(&finish(drain).expect_code(0))), ["ours.status"]);
}

fn a_home_without_the_scripts_has_no_queue_and_no_markers() {
    let home = TestHome::new();
    let watcher = home.watcher();
    home.put_status("ours", "done\n");
    home.wait_for_wake("signal", "ours.status");
    leave(watcher);
    let names = fs::read_dir(home.state()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.collect::<BTreeSet<_>>(), BTreeSet::from(["ours.status".to_owned(), "watch".to_owned()]));
}

fn a_wedged_lock_stops_neither_the_loop_nor_the_wakes_and_status_says_so() {
    let home = fleet();
    let (holder, writer) = hold(&home);
    let _watcher = home.watcher();
    home.put_status("ours", "done\n");
    home.wait_for_wake("signal", "ours.status");
    let complaint = wait_until(SOON, "status says who has the lock", || {
        let status = home.status();
        let degraded = status["degraded"].as_array()?.iter().filter_map(|why| why.as_str());
        degraded.into_iter().find(|why| why.contains(".wake-queue.lock")).map(str::to_owned)
    });
    assert!(complaint.contains(&format!("pid {}", holder.pid())), "{complaint}");
    let beats = || home.beat().unwrap()["beats"].as_u64().or_else(|| home.beat()?["counter"].as_u64());
    let before = beats();
    wait_until_true(SOON, "the loop goes on", || beats() > before);
    assert_eq!(home.verdict(), "ok");
    assert_eq!((home.queued(), home.marker(".seen-ours_status")), (vec![], None), "no marker before the row");
    drop(writer);
    holder.finish(SOON).expect_code(0);
    home.wait_for_rows(&["ours.status"]);
    home.wait_for_marker(".seen-ours_status", &home.stat("ours.status"));
    wait_until_true(SOON, "nothing is degraded any more", || {
        !home.status()["degraded"].to_string().contains("wake-queue")
    });
}

/// Starts a watcher that kills itself at a step.
#[cfg(feature = "sync-points")]
fn watcher_that_dies_at(home: &TestHome, step: &str, without: &str) {
    let mut command = home.command(&["run"]);
    command.env("FM_WATCH_SYNC", format!("{step}=kill")).env("FM_WATCH_WITHOUT", without);
    let answer = Background::spawn(command).finish(SOON);
    assert_eq!(answer.signal, Some(9), "{step}: {answer:?}");
}

/// One wake of ours, a watcher that dies, drains of the scripts' own before and after the next life: how often each side
/// printed the row.
#[cfg(feature = "sync-points")]
fn times_printed(step: &str, without: &str) -> usize {
    let home = fleet();
    home.put_status("ours", "done\n");
    if step == "FirstmateSaved" || step.starts_with("FirstmateCrossed") || step == "FirstmateMarked" {
        // The first crossing finds nothing, and these steps are at its end, too: have it done before.
        leave(home.watcher());
        let _drained = home.our_drain();
        home.put_status("ours", "again\n");
    }
    watcher_that_dies_at(&home, step, without);
    let mut printed = home.shell_drain().len();
    let watcher = home.watcher();
    wait_until_true(SOON, "the wake is looked after", || {
        // Before it was told of, nothing may be recorded yet.
        home.queued_keys() == ["ours.status"] || printed > 0 && home.drain().is_empty()
    });
    printed += home.shell_drain().len();
    wait_until_true(SOON, "the wake is acknowledged", || home.drain().is_empty());
    home.put_status("later", "x\n");
    home.wait_for_rows(&["later.status"]);
    leave(watcher);
    printed + home.our_drain().iter().filter(|row| row.key == "ours.status").count()
}

#[cfg(feature = "sync-points")]
fn a_watcher_killed_at_any_step_loses_no_row_and_tells_none_twice() {
    for step in ["Entered", "Numbered", "Pinned", "Appended", "Saved", "Crossed", "Marked"] {
        assert_eq!(times_printed(&format!("Firstmate{step}"), ""), 1, "{step}");
    }
}

#[cfg(feature = "sync-points")]
fn twin_without_the_pin_a_drained_row_comes_back() {
    assert_eq!(times_printed("FirstmateAppended", "FirstmatePin"), 2);
}

#[cfg(feature = "sync-points")]
fn a_taking_in_killed_at_any_step_makes_one_wake_of_a_row() {
    for step in ["Entered", "Taken", "Saved", "Crossed"] {
        let home = fleet();
        home.append("signal", "shell.status");
        watcher_that_dies_at(&home, &format!("Firstmate{step}"), "");
        for _ in 0..2 {
            let watcher = home.watcher();
            home.wait_for_pending(&["shell.status"]);
            leave(watcher);
        }
        assert_eq!(home.drain_json().len(), 1, "{step}");
        assert_eq!(home.times_recorded("shell.status"), 1, "{step}");
        assert_eq!(keys(&home.our_drain()), ["shell.status"], "{step}");
        let watcher = home.watcher();
        home.append("signal", "later.status");
        home.wait_for_pending(&["later.status"]);
        leave(watcher);
    }
}

#[cfg(feature = "sync-points")]
fn a_drain_killed_at_any_step_loses_no_row_and_repeats_nothing_acknowledged() {
    let steps = ["Entered", "Taken", "Numbered", "Saved", "Moved", "Emptied", "Printed", "Acknowledged", "Drained"];
    for step in steps {
        let home = fleet();
        home.append("signal", "shell.status");
        home.wake("custom", "mine", "a word");
        let mut command = home.command(&["firstmate", "drain"]);
        command.env("FM_WATCH_SYNC", format!("Firstmate{step}=kill"));
        let killed = finish(command);
        assert_eq!(killed.signal, Some(9), "{step}: {killed:?}");
        let mut times: BTreeMap<String, usize> = BTreeMap::new();
        let mut count = |rows: &[Shown]| rows.iter().for_each(|row| *times.entry(row.key.clone()).or_default() += 1);
        count(&rows(&killed));
        home.append("signal", "newer.status");
        let is_acknowledged = matches!(step, "Acknowledged" | "Drained");
        let again = home.our_drain();
        count(&again);
        if is_acknowledged {
            assert_eq!(keys(&again), ["newer.status"], "{step}");
        } else {
            assert_eq!(keys(&again), ["shell.status", "newer.status", "mine"], "{step}");
        }
        count(&home.our_drain());
        let watcher = home.watcher();
        home.append("signal", "last.status");
        home.wait_for_pending(&["last.status"]);
        leave(watcher);
        let expected = if step == "Printed" { 2 } else { 1 };
        assert_eq!((times["shell.status"], times["mine"], times["newer.status"]), (expected, expected, 1), "{step}");
        assert_eq!(names_of_queue(&home).len(), 2, "{step}: {:?}", names_of_queue(&home));
    }
}

#[cfg(feature = "sync-points")]
fn putting_back_and_taking_out_killed_at_any_step_lose_and_repeat_nothing() {
    for step in ["Made", "Replaced", "PutBack"] {
        let home = fleet();
        home.append("signal", "a.status");
        let mut drain = home.command(&["firstmate", "drain"]);
        drain.env("FM_WATCH_SYNC", "FirstmateMoved=kill");
        assert_eq!(finish(drain).signal, Some(9), "{step}");
        watcher_that_dies_at(&home, &format!("Firstmate{step}"), "");
        home.append("signal", "b.status");
        assert_eq!(keys(&home.our_drain()), ["a.status", "b.status"], "{step}");
        assert_eq!(home.our_drain(), [], "{step}");
    }
    for step in ["Made", "Replaced"] {
        let home = fleet();
        home.append("signal", "a.status");
        let watcher = home.watcher();
        home.wait_for_pending(&["a.status"]);
        leave(watcher);
        home.ask(&["drain", "--consume"]).expect_code(0);
        home.append("signal", "b.status");
        watcher_that_dies_at(&home, &format!("Firstmate{step}"), "");
        let watcher = home.watcher();
        home.wait_for_pending(&["b.status"]);
        home.wait_for_rows(&["b.status"]);
        leave(watcher);
        assert_eq!(keys(&home.our_drain()), ["b.status"], "{step}");
    }
}

/// Watchers are killed at any moment, while scripts and tasks go on and both kinds of drain take turns.
fn a_storm_of_killed_watchers_appenders_and_drains_prints_each_row_once() {
    const ROUNDS: u64 = 16;
    let home = fleet();
    let mut printed = Vec::new();
    for round in 0..ROUNDS {
        let watcher = home.spawn(&["run"]);
        let appenders: Vec<_> = (0..2)
            .map(|number| {
                let key = format!("shell-{round}-{number}.status");
                Background::spawn(home.peer(&["append", "signal", &key, "signal: x"]))
            })
            .collect();
        home.put_status(&format!("ours-{round}"), "done\n");
        stays_true(Duration::from_millis(round * 37 % 150), "the storm goes on", || true);
        if round % 2 == 0 {
            printed.extend(home.our_drain());
        } else {
            printed.extend(home.shell_drain());
        }
        stays_true(Duration::from_millis(round * 53 % 90), "the storm goes on", || true);
        watcher.signal(Signal::KILL);
        watcher.finish(SOON);
        for appender in appenders {
            appender.finish(SOON).expect_code(0);
        }
    }
    let watcher = home.watcher();
    for round in 0..ROUNDS {
        home.wait_for_marker(&format!(".seen-ours-{round}_status"), &home.stat(&format!("ours-{round}.status")));
    }
    leave(watcher);
    printed.extend(home.our_drain());
    let mut printed = keys(&printed);
    printed.sort_unstable();
    let mut expected: Vec<_> = (0..ROUNDS)
        .flat_map(|round| [0, 1].map(|number| format!("shell-{round}-{number}.status")))
        .chain((0..ROUNDS).map(|round| format!("ours-{round}.status")))
        .collect();
    expected.sort_unstable();
    assert_eq!(printed, expected);
    assert_eq!((home.our_drain(), home.drain()), (vec![], vec![]));
}

fn what_a_shell_watcher_announced_is_not_announced_again() {
    let home = fleet();
    home.put_status("old", "announced\n");
    home.put_status("changed", "announced\n");
    fs::write(home.state().join("old.turn-ended"), "").unwrap();
    for (marker, file) in [
        (".seen-old_status", "old.status"),
        (".seen-old_turn-ended", "old.turn-ended"),
        (".seen-changed_status", "changed.status"),
    ] {
        fs::write(home.state().join(marker), home.stat(file)).unwrap();
    }
    fs::write(home.state().join(".heartbeat-streak"), "3\n").unwrap();
    home.put_status("changed", "announced\nand more\n");
    home.put_status("new", "x\n");
    let watcher = home.watcher();
    wait_until_true(SOON, "the news are pending", || home.pending_keys().len() == 2);
    assert_eq!(home.pending_keys().into_iter().collect::<BTreeSet<_>>(), ["changed.status", "new.status"].map(str::to_owned).into());
    leave(watcher);
    assert_eq!(home.pending_keys().len(), 2);
}

fn a_pane_that_a_shell_watcher_announced_is_not_told_again_and_its_markers_are_kept() -> Result<(), Skip> {
    requires("md5sum")?;
    let tmux = Tmux::new(&[])?;
    make_fleet(&tmux.home);
    // As a script has it: read into a variable, then given to the digest.
    let digest = || {
        let script = "shown=$(tmux capture-pane -p -t fm:a -S -40) && printf '%s' \"$shown\" | md5sum";
        let mut command = tmux.home.bare("bash");
        command.env("TMUX_TMPDIR", tmux.home.scratch()).args(["-c", script]);
        finish(command).expect_code(0).stdout.split(' ').next().unwrap().to_owned()
    };
    tmux.window("a");
    tmux.show("fm:a", "old news");
    fs::write(tmux.home.state().join(".stale-fm_a"), digest()).unwrap();
    tmux.home.meta("a", &["window=fm:a"]);
    let _watcher = tmux.watcher();
    tmux.wait_for_polls(5);
    assert_eq!(tmux.home.drain(), []);
    tmux.home.wait_for_marker(".hash-fm_a", &digest());
    tmux.home.wait_for_marker(".count-fm_a", "2");
    tmux.show("fm:a", "fresh news");
    tmux.home.wait_for_wake("stale", "fm:a");
    tmux.home.wait_for_rows(&["fm:a"]);
    for marker in [".hash-fm_a", ".stale-fm_a"] {
        tmux.home.wait_for_marker(marker, &digest());
    }
    Ok(())
}

fn the_markers_are_kept_as_a_shell_watcher_would_have_left_them() {
    let home = fleet_with(&["check_interval=200ms"]);
    let watcher = home.watcher();
    home.wait_for_marker(".last-heartbeat", "");
    home.put_status("a.b", "one\n");
    fs::write(home.state().join("a.b.turn-ended"), "").unwrap();
    wait_until_true(SOON, "both are pending", || home.drain().len() == 2);
    home.wait_for_marker(".seen-a_b_status", &home.stat("a.b.status"));
    home.wait_for_marker(".seen-a_b_turn-ended", &home.stat("a.b.turn-ended"));
    home.wait_for_marker(".heartbeat-streak", "0");
    home.put_status("a.b", "two\n");
    home.wait_for_marker(".seen-a_b_status", &home.stat("a.b.status"));
    fs::write(home.state().join("c.check.sh"), "true\n").unwrap();
    wait_until_true(SOON, "a sweep is marked", || home.marker(".last-check").is_some());
    leave(watcher);
    // One that is lost is made again by the next watcher.
    fs::remove_file(home.state().join(".seen-a_b_status")).unwrap();
    let _watcher = home.watcher();
    home.wait_for_marker(".seen-a_b_status", &home.stat("a.b.status"));
}

/// A watcher that has announced a wake and cannot write its row, because a script keeps the lock of the queue.
#[cfg(feature = "sync-points")]
fn beside_an_unwritten_row(without: &str, look: impl FnOnce(&TestHome)) {
    let home = fleet();
    let (holder, writer) = hold(&home);
    let mut command = home.command(&["run"]);
    command.env("FM_WATCH_WITHOUT", without);
    let _watcher = Background::spawn(command);
    home.put_status("ours", "done\n");
    home.wait_for_wake("signal", "ours.status");
    look(&home);
    assert_eq!(home.queued(), []);
    drop(writer);
    holder.finish(SOON).expect_code(0);
    home.wait_for_rows(&["ours.status"]);
    home.wait_for_marker(".seen-ours_status", &home.stat("ours.status"));
}

#[cfg(feature = "sync-points")]
fn a_marker_moves_only_after_the_row() {
    beside_an_unwritten_row("", |home| {
        stays_true(Duration::from_secs(1), "there is no marker", || home.marker(".seen-ours_status").is_none());
    });
}

#[cfg(feature = "sync-points")]
fn twin_a_marker_before_the_row_hides_a_wake_from_the_scripts() {
    beside_an_unwritten_row("FirstmateRowBeforeMarker", |home| {
        wait_until_true(SOON, "the marker is there", || home.marker(".seen-ours_status").is_some());
    });
}

/// A watcher whose check has said something that is not recorded yet.
#[cfg(feature = "sync-points")]
fn beside_an_unrecorded_check(without: &str, look: impl FnOnce(&TestHome)) {
    let home = fleet();
    let script = home.state().join("c.check.sh");
    fs::write(&script, "echo news\n").unwrap();
    let points = Points::new(&home, "recorder");
    let mut command = home.command(&["run"]);
    command.env("FM_WATCH_WITHOUT", without);
    points.pause(&mut command, &["JournalLocked"]);
    let _watcher = Background::spawn(command);
    points.wait_until_reached("JournalLocked");
    look(&home);
    points.go("JournalLocked");
    home.wait_for_wake("check", script.to_str().unwrap());
    wait_until_true(SOON, "the sweep is marked", || home.marker(".last-check").is_some());
}

#[cfg(feature = "sync-points")]
fn a_sweep_is_marked_only_after_what_it_found_is_recorded() {
    beside_an_unrecorded_check("", |home| {
        stays_true(Duration::from_secs(1), "there is no marker", || home.marker(".last-check").is_none());
    });
}

#[cfg(feature = "sync-points")]
fn twin_a_sweep_that_is_marked_at_once_hides_what_it_found() {
    beside_an_unrecorded_check("FirstmateSweepAfterRecord", |home| {
        wait_until_true(SOON, "the marker is there", || home.marker(".last-check").is_some());
    });
}

#[cfg(feature = "sync-points")]
fn twin_without_the_markers_everything_is_announced_again() {
    let home = fleet();
    home.put_status("old", "announced\n");
    fs::write(home.state().join(".seen-old_status"), home.stat("old.status")).unwrap();
    let mut command = home.command(&["run"]);
    command.env("FM_WATCH_WITHOUT", "FirstmateMarkers");
    let _watcher = Background::spawn(command);
    home.wait_for_pending(&["old.status"]);
}

fn a_run_that_ends_with_a_wake_has_written_its_row_before_it_speaks() {
    let home = fleet();
    let watcher = home.spawn(&["run", "--once"]);
    home.wait_until_watched_by(watcher.pid());
    home.put_status("ours", "done\n");
    watcher.wait_for_line("signal: ");
    assert_eq!(home.queued_keys(), ["ours.status"]);
    watcher.finish(SOON).expect_code(0);
    home.append("signal", "shell.status");
    let woken = home.ask(&["run", "--once"]).expect_code(0);
    assert!(woken.stdout.contains("signal: shell.status"), "{woken:?}");
}
