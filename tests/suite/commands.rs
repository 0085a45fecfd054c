//! What every command prints, where, and with which exit code.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::background::wait_for_state;
use crate::support::home::{PROGRAM, finish, make_private};
use crate::support::namespace::Namespace;
use crate::support::{SOON, Skip, TestHome, processes, wait_until};

cases! {
    run_leaves_on_a_signal_and_says_how_in_the_record,
    run_insists_on_leaving_at_a_second_signal,
    run_once_prints_the_reason_of_its_first_wake,
    run_once_beside_a_watcher_leaves_at_once,
    wait_blocks_until_a_wake_or_the_time_is_over,
    wait_says_when_nobody_watches,
    stop_is_fine_without_a_watcher,
    stop_ends_the_watcher_within_its_grace,
    status_has_an_exit_code_for_each_kind_of_verdict,
    status_as_json_only_ever_gains_fields,
    status_touches_nothing,
    guard_is_silent_when_nothing_needs_watching_or_all_is_well,
    guard_shows_a_banner_once_per_episode,
    guard_names_the_true_cause,
    guard_warns_of_queued_wakes_and_of_nobody_to_be_told,
    guard_writes_nothing_when_it_may_only_read,
    guard_works_in_a_state_directory_that_cannot_be_written,
    guard_and_status_work_on_a_full_disk,
    guard_never_fails_its_caller,
    drain_prints_lines_of_five_fields_and_removes_nothing,
    ack_retires_what_was_drained_and_refuses_what_was_never_issued,
    wake_prints_its_number_and_refuses_a_strange_kind,
    json_is_one_object_per_line_with_a_schema,
    text_from_files_is_escaped,
    settings_that_cannot_be_understood_name_their_place,
    the_home_is_found_in_the_documented_order,
    usage_errors_exit_with_2,
    every_command_documents_its_exit_codes,
    a_closed_stdout_is_no_panic_and_consumes_nothing,
}

fn run_leaves_on_a_signal_and_says_how_in_the_record() {
    for (signal, code) in [(Signal::TERM, 0), (Signal::INT, 130)] {
        let home = TestHome::new();
        let watcher = home.watcher();
        watcher.signal(signal);
        let answer = watcher.finish(Duration::from_secs(2)).expect_code(code);
        assert_eq!(answer.stdout, "", "{answer:?}");
        assert_eq!(home.verdict(), "stopped");
        assert!(home.owner().unwrap()["left"]["how"].is_string());
        let history = home.history();
        assert_eq!((history.len(), &history[0]["generation"]), (1, &1.into()), "{history:?}");
    }
}

fn run_insists_on_leaving_at_a_second_signal() {
    let home = TestHome::new();
    let watcher = home.watcher();
    // Stopped, it cannot answer the first one before the second is there.
    watcher.signal(Signal::STOP);
    wait_for_state(watcher.pid(), "T");
    watcher.signal(Signal::TERM);
    watcher.signal(Signal::TERM);
    watcher.signal(Signal::CONT);
    let answer = watcher.finish(Duration::from_secs(2));
    assert!(matches!(answer.code, Some(0 | 143)), "{answer:?}");
    home.watcher();
}

fn run_once_prints_the_reason_of_its_first_wake() {
    let home = TestHome::new();
    let once = home.spawn(&["run", "--once"]);
    home.wait_until_watched_by(once.pid());
    home.write_status("task", "done\n");
    let answer = once.finish(SOON).expect_code(0);
    assert_eq!(answer.stdout, format!("signal: {}\n", home.state().join("task.status").display()));
    assert!(matches!(home.verdict().as_str(), "stopped"));
}

fn run_once_beside_a_watcher_leaves_at_once() {
    let home = TestHome::new();
    let watcher = home.watcher();
    let answer = home.ask(&["run", "--once"]).expect_code(0);
    assert_eq!(answer.stdout, format!("watcher: already running pid {}\n", watcher.pid()));
}

fn wait_blocks_until_a_wake_or_the_time_is_over() {
    let home = TestHome::new();
    let _watcher = home.watcher();
    let answer = home.ask(&["wait", "--timeout", "200ms"]).expect_code(124);
    assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("", ""));
    let waiters: Vec<_> = (0..3).map(|_| home.spawn(&["wait"])).collect();
    wait_until(SOON, "three wait", || (home.status()["waiters"] == 3).then_some(()));
    home.write_status("task", "done\n");
    for waiter in waiters {
        let answer = waiter.finish(SOON).expect_code(0);
        assert!(answer.stdout.starts_with("signal: ") && answer.lines().len() == 1, "{answer:?}");
    }
}

fn wait_says_when_nobody_watches() {
    let home = TestHome::new();
    let answer = home.ask(&["wait", "--timeout", "100ms"]).expect_code(124);
    assert!(answer.stderr.contains("no watcher has been started"), "{answer:?}");
    assert_eq!(answer.stdout, "");
    // What scripts add wakes it all the same.
    let wait = home.spawn(&["wait"]);
    wait_until(SOON, "it waits", || (home.status()["waiters"] == 1).then_some(()));
    home.ask(&["wake", "custom", "key", "text"]).expect_code(0);
    assert_eq!(wait.finish(SOON).expect_code(0).stdout, "custom: key: text\n");
}

fn stop_is_fine_without_a_watcher() {
    let home = TestHome::new();
    for _ in 0..2 {
        let answer = home.ask(&["stop"]).expect_code(0);
        assert_eq!(answer.stdout, "");
        assert!(!home.watch("lock").exists(), "stopping makes nothing");
    }
    let pid = home.arm();
    home.kill(pid);
    assert_eq!(home.ask(&["stop"]).expect_code(0).stdout, "", "a dead one needs no stopping");
}

fn stop_ends_the_watcher_within_its_grace() {
    let home = TestHome::new();
    let pid = home.arm();
    let answer = home.ask(&["stop"]).expect_code(0);
    assert_eq!(answer.stdout, format!("watcher: stopped pid={pid}\n"));
    assert!(answer.took < Duration::from_secs(2), "{answer:?}");
    assert!(!processes::is_alive(pid), "it has ended when stop says so");
    assert_eq!(home.verdict(), "stopped");
}

fn status_has_an_exit_code_for_each_kind_of_verdict() {
    let home = TestHome::with(&["stuck_after=1s"]);
    let word = |code: i32| {
        let answer = home.ask(&["status"]).expect_code(code);
        assert_eq!(answer.stderr, "");
        answer.stdout.split_once(':').unwrap().0.to_owned()
    };
    assert_eq!(word(3), "stopped");
    let watcher = home.watcher();
    assert_eq!(word(0), "ok");
    watcher.signal(Signal::STOP);
    home.wait_for_verdict("stuck");
    assert_eq!(word(4), "stuck");
    watcher.signal(Signal::KILL);
    watcher.finish(SOON);
    assert_eq!(word(3), "dead");
    let watcher = home.watcher();
    watcher.signal(Signal::TERM);
    watcher.finish(SOON);
    assert_eq!(word(3), "stopped");
}

fn status_as_json_only_ever_gains_fields() {
    const FIELDS: [&str; 20] = [
        "schema",
        "verdict",
        "cause",
        "pid",
        "beat_age_ms",
        "home",
        "state",
        "lock",
        "generation",
        "owner",
        "identity",
        "poll_ms",
        "memory_bytes",
        "cpu_ms",
        "tasks",
        "wakes_pending",
        "oldest_wake_at",
        "waiters",
        "degraded",
        "schema",
    ];
    let home = TestHome::new();
    let complete = |status: &serde_json::Value| {
        for field in FIELDS {
            assert!(status.as_object().unwrap().contains_key(field), "{field} in {status}");
        }
    };
    complete(&home.status());
    let watcher = home.watcher();
    home.meta("task", &["window=none"]);
    let status = home.status();
    complete(&status);
    assert_eq!(status["schema"], 1);
    assert_eq!((&status["verdict"], &status["pid"]), (&"ok".into(), &watcher.pid().into()));
    assert_eq!((&status["tasks"], &status["waiters"], &status["generation"]), (&1.into(), &0.into(), &1.into()));
    assert_eq!(status["home"], home.root().to_str().unwrap());
}

/// Names, sizes, modes and times of everything in a directory.
fn traces(directory: &Path) -> BTreeMap<PathBuf, (u64, u32, i64, i64)> {
    let mut all = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        let Ok(facts) = fs::symlink_metadata(&path) else { continue };
        all.insert(path.clone(), (facts.len(), facts.mode(), facts.mtime(), facts.mtime_nsec()));
        if facts.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()));
        }
    }
    all
}

fn status_touches_nothing() {
    let home = TestHome::new();
    home.ask(&["status"]).expect_code(3);
    assert!(!home.state().exists(), "looking makes no home");
    let pid = home.arm();
    home.kill(pid);
    let before = traces(&home.root());
    home.ask(&["status"]).expect_code(3);
    assert_eq!(traces(&home.root()), before);
}

fn guard_is_silent_when_nothing_needs_watching_or_all_is_well() {
    let home = TestHome::new();
    let silent = |what: &str| {
        let answer = home.ask(&["guard"]).expect_code(0);
        assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("", ""), "{what}");
    };
    silent("there is no home");
    home.make_state();
    silent("nothing is in flight");
    home.meta("task", &["window=none"]);
    let _watcher = home.watcher();
    silent("a watcher watches");
}

/// The banner's lines, without the command that mends it, which names the path of the home.
fn banner(home: &TestHome) -> Vec<String> {
    let answer = home.ask(&["guard"]).expect_code(0);
    assert_eq!(answer.stdout, "");
    answer.stderr.lines().map(|line| line.replace(home.root().to_str().unwrap(), "HOME")).collect()
}

fn guard_shows_a_banner_once_per_episode() {
    let home = TestHome::new();
    home.meta("one", &["window=none"]);
    home.meta("two", &["window=none"]);
    let first = home.arm();
    home.kill(first);
    let full = banner(&home);
    let rule = format!("●{}", "━".repeat(78));
    assert_eq!(full.len(), 5, "{full:#?}");
    assert_eq!((&full[0], &full[4]), (&rule, &rule));
    assert_eq!(full[1], "●  WATCHER DOWN - SUPERVISION IS OFF");
    assert!(
        full[2].starts_with(&format!("●  2 task(s) in flight, but watcher pid {first} was killed or crashed")),
        "{full:#?}"
    );
    assert!(full[3].ends_with(&format!(" {} --home HOME arm", *PROGRAM)), "{full:#?}");
    for _ in 0..2 {
        let again = banner(&home);
        assert_eq!(again.len(), 1, "one line of reminder: {again:#?}");
        assert!(again[0].contains("WATCHER DOWN"), "{again:#?}");
    }
    // Another holder with the same cause is another episode.
    let second = home.arm();
    assert_eq!(banner(&home), Vec::<String>::new());
    home.kill(second);
    assert_eq!(banner(&home).len(), 5);
    assert_eq!(banner(&home).len(), 1);
}

fn guard_names_the_true_cause() {
    let home = TestHome::with(&["stuck_after=1s"]);
    home.meta("task", &["window=none"]);
    let cause = |expected: &str| {
        let lines = banner(&home);
        assert!(lines[2].contains(expected), "{expected:?} in {lines:#?}");
    };
    home.make_watch();
    cause("no watcher has been started");
    let watcher = home.watcher();
    watcher.signal(Signal::STOP);
    home.wait_for_verdict("stuck");
    cause(&format!("watcher pid {} is stuck", watcher.pid()));
    watcher.signal(Signal::KILL);
    watcher.finish(SOON);
    cause("was killed or crashed");
    let watcher = home.watcher();
    home.ask(&["stop"]).expect_code(0);
    cause(&format!("the last one, pid {}, left", watcher.pid()));
}

fn guard_warns_of_queued_wakes_and_of_nobody_to_be_told() {
    let home = TestHome::new();
    home.meta("task", &["window=none"]);
    let _watcher = home.watcher();
    home.ask(&["wake", "custom", "key"]).expect_code(0);
    let lines = banner(&home);
    assert_eq!(
        lines[0],
        format!("WARNING: queued wakes pending - {} --home HOME drain before anything else.", *PROGRAM),
        "{lines:#?}"
    );
    assert!(lines[1].contains("nobody will be told"), "{lines:#?}");
    assert_eq!(lines.len(), 2, "no banner: a watcher watches");
    home.ask(&["drain"]).expect_code(0);
    let wait = home.spawn(&["wait"]);
    wait_until(SOON, "somebody waits", || (home.status()["waiters"] == 1).then_some(()));
    assert_eq!(banner(&home).len(), 1, "somebody would be told now");
    drop(wait);
    home.ask(&["drain", "--consume"]).expect_code(0);
    assert_eq!(banner(&home), Vec::<String>::new());
}

fn guard_writes_nothing_when_it_may_only_read() {
    let home = TestHome::new();
    home.meta("task", &["window=none"]);
    let pid = home.arm();
    home.kill(pid);
    let before = traces(&home.root());
    for _ in 0..3 {
        let answer = home.ask(&["guard", "--read-only"]).expect_code(0);
        assert_eq!((answer.stdout.as_str(), answer.stderr.lines().count()), ("", 5), "always the full banner");
    }
    assert_eq!(traces(&home.root()), before);
    // The twin: without the flag it does leave its mark, and the comparison sees it.
    home.ask(&["guard"]).expect_code(0);
    assert_ne!(traces(&home.root()), before);
}

fn guard_works_in_a_state_directory_that_cannot_be_written() -> Result<(), Skip> {
    let home = TestHome::new();
    Namespace::Mounts.required(&home)?;
    home.meta("task", &["window=none"]);
    let pid = home.arm();
    home.kill(pid);
    let script = r#"
        mount --bind "$STATE" "$STATE"
        mount -o remount,ro,bind "$STATE"
        ! touch "$STATE/x" 2>/dev/null || exit 7
        fm guard
        fm guard
        fm status || [ $? = 3 ]
    "#;
    let answer = finish(Namespace::Mounts.script(&home, script)).expect_code(0);
    assert_eq!(answer.stderr.matches("WATCHER DOWN - SUPERVISION IS OFF").count(), 2, "{answer:?}");
    assert!(answer.stdout.starts_with("dead: "), "{answer:?}");
    Ok(())
}

fn guard_and_status_work_on_a_full_disk() -> Result<(), Skip> {
    let home = TestHome::new();
    Namespace::Mounts.required(&home)?;
    home.make_state();
    let script = r#"
        mount -t tmpfs -o size=256k,mode=0700 none "$STATE"
        : > "$STATE/task.meta"
        watch & watcher=$!
        wait_for test -e "$STATE/watch/beat.json"
        dd if=/dev/zero of="$STATE/filler" bs=4k 2>/dev/null || :
        dd if=/dev/zero of="$STATE/filler2" bs=1 2>/dev/null || :
        fm status
        fm guard
        # A healthy watcher stays healthy although it can write nothing.
        before=$SECONDS
        while [ $((SECONDS - before)) -lt 3 ]; do fm --set stuck_after=1s status > "$SCRATCH/status"; done
        fm stop
        wait $watcher
        fm status || [ $? = 3 ]
        fm guard
        fm arm --no-wait || echo "arm: $?"
    "#;
    let answer = finish(Namespace::Mounts.script(&home, script)).expect_code(0);
    assert!(answer.stdout.starts_with("ok: "), "{answer:?}");
    assert!(answer.stdout.contains("\nstopped: ") || answer.stdout.contains("\ndead: "), "{answer:?}");
    assert!(answer.stderr.contains("WATCHER DOWN"), "after the stop: {answer:?}");
    assert!(answer.stdout.contains("watcher: FAILED - ") && answer.stdout.ends_with("arm: 1\n"), "{answer:?}");
    assert!(!answer.stderr.contains("panicked"), "{answer:?}");
    Ok(())
}

fn guard_never_fails_its_caller() {
    let home = TestHome::new();
    home.meta("task", &["window=none"]);
    let exits_0 = |what: &str| {
        let answer = home.ask(&["guard"]).expect_code(0);
        assert_eq!(answer.stdout, "", "{what}");
        assert!(!answer.stderr.contains("panicked"), "{what}: {answer:?}");
        answer.stderr
    };
    home.configure("no such = [");
    assert!(!exits_0("broken settings").is_empty(), "it says that it is blind");
    home.configure("");
    home.make_watch();
    for name in ["owner.json", "beat.json", "episode.json", "stop.json", "generation"] {
        fs::write(home.watch(name), [0xff, 0, b'{', 0x1b]).unwrap();
        exits_0(name);
    }
    fs::remove_dir_all(home.state()).unwrap();
    fs::write(home.state(), "a file").unwrap();
    assert!(!exits_0("the state directory is a file").is_empty());
}

fn drain_prints_lines_of_five_fields_and_removes_nothing() {
    let home = TestHome::new();
    assert_eq!(home.ask(&["drain"]).expect_code(0).stdout, "", "nothing is nothing");
    for (key, text) in [("a", "first"), ("b", "second"), ("a", "third")] {
        home.ask(&["wake", "custom", key, text]).expect_code(0);
    }
    for _ in 0..2 {
        let answer = home.ask(&["drain"]).expect_code(0);
        let fields: Vec<Vec<_>> = answer.lines().iter().map(|line| line.split('\t').collect()).collect();
        assert!(fields.iter().all(|line| line.len() == 5 && line[0].parse::<u64>().is_ok()), "{answer:?}");
        let known: Vec<_> = fields.iter().map(|line| &line[1..]).collect();
        // The newest of a key at the place of its first.
        assert_eq!(known, [["3", "custom", "a", "custom: a: third"], ["2", "custom", "b", "custom: b: second"]]);
    }
    assert_eq!(home.ask(&["drain", "--consume"]).expect_code(0).lines().len(), 2);
    assert_eq!(home.ask(&["drain"]).expect_code(0).stdout, "");
}

fn ack_retires_what_was_drained_and_refuses_what_was_never_issued() {
    let home = TestHome::new();
    for key in ["a", "b", "c"] {
        home.ask(&["wake", "custom", key]).expect_code(0);
    }
    home.ask(&["ack", "2"]).expect_code(0);
    let answer = home.ask(&["drain"]).expect_code(0);
    assert!(answer.lines().len() == 1 && answer.stdout.contains("\t3\tcustom\tc\t"), "{answer:?}");
    let refused = home.ask(&["ack", "99"]).expect_code(1);
    assert!(refused.stderr.contains("99"), "{refused:?}");
    assert_eq!(home.ask(&["drain"]).expect_code(0).lines().len(), 1, "nothing was retired");
    home.ask(&["ack", "1"]).expect_code(0);
    assert_eq!(home.ask(&["drain"]).expect_code(0).lines().len(), 1, "an earlier number takes nothing back");
    home.ask(&["ack", "x"]).expect_code(2);
}

fn wake_prints_its_number_and_refuses_a_strange_kind() {
    let home = TestHome::new();
    for (number, kind) in ["signal", "stale", "check", "heartbeat", "daemon", "custom"].into_iter().enumerate() {
        assert_eq!(home.ask(&["wake", kind, "key"]).expect_code(0).stdout, format!("{}\n", number + 1));
    }
    let refused = home.ask(&["wake", "strange", "key"]).expect_code(2);
    assert!(refused.stderr.contains("custom"), "it names what is allowed: {refused:?}");
}

fn json_is_one_object_per_line_with_a_schema() {
    let home = TestHome::new();
    let seen = |arguments: &[&str]| {
        let answer = home.ask(arguments);
        assert!(!answer.stdout.is_empty(), "{arguments:?}: {answer:?}");
        for line in answer.lines() {
            let object: serde_json::Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
            assert_eq!(object["schema"], 1, "{arguments:?}: {line}");
        }
    };
    seen(&["--json", "arm", "--no-wait"]);
    seen(&["--json", "status"]);
    seen(&["--json", "wake", "custom", "key", "text"]);
    seen(&["--json", "wait", "--timeout", "10"]);
    seen(&["--json", "drain"]);
    seen(&["--json", "ack", "1"]);
    seen(&["--json", "config", "show", "--origin"]);
    seen(&["--json", "stop"]);
    seen(&["--json", "stop"]);
}

fn text_from_files_is_escaped() {
    let home = TestHome::new();
    let _watcher = home.watcher();
    home.write_status("bad\u{1b}[31mname", "\u{1b}]0;title\u{7}\ttext\n");
    let wait = home.ask(&["wait", "--timeout", "20"]).expect_code(0);
    let drain = home.ask(&["drain"]).expect_code(0);
    for answer in [&wait, &drain] {
        assert!(!answer.stdout.is_empty());
        let is_plain = |character: char| !character.is_control() || character == '\n' || character == '\t';
        assert!(answer.stdout.chars().all(is_plain), "{answer:?}");
    }
    assert_eq!(drain.stdout.trim_end().split('\t').count(), 5, "{drain:?}");
    home.configure("bad\u{1b}[31mkey = 1\n");
    let config = home.ask(&["config", "check"]).expect_code(2);
    assert!(!config.stdout.contains('\u{1b}') && !config.stderr.contains('\u{1b}'), "{config:?}");
}

fn settings_that_cannot_be_understood_name_their_place() {
    let home = TestHome::plain();
    let refused = |configure: &str, variable: Option<(&str, &str)>, flags: &[&str], named: &[&str]| {
        home.configure(configure);
        for command in ["status", "run"] {
            let mut asked = home.command(&[flags, &[command]].concat());
            asked.envs(variable);
            let answer = finish(asked).expect_code(2);
            assert_eq!(answer.stdout, "", "{answer:?}");
            for word in named {
                assert!(answer.stderr.contains(word), "{word:?} in {answer:?}");
            }
        }
    };
    refused("# one\n# two\npoll = \"soon\"\n", None, &[], &["fm-watch.toml", "3", "poll", "soon"]);
    refused("\nno_such_key = 1\n", None, &[], &["fm-watch.toml", "2", "no_such_key"]);
    refused("", Some(("FM_POLL", "often")), &[], &["FM_POLL", "often"]);
    refused("", None, &["--set", "poll=never"], &["--set", "poll", "never"]);
    refused("", None, &["--set", "pole=1s"], &["pole"]);
    home.configure("poll = \"7s\"\n");
    let shown = home.ask(&["config", "show", "--origin"]).expect_code(0);
    let line = shown.lines().into_iter().find(|line| line.starts_with("poll = ")).unwrap().to_owned();
    assert!(line.starts_with("poll = \"7s\"") && line.contains("fm-watch.toml"), "{line}");
    home.ask(&["config", "check"]).expect_code(0);
}

fn the_home_is_found_in_the_documented_order() {
    let home = TestHome::plain();
    let asked = |arguments: &[&str], variables: &[(&str, &Path)], directory: &Path| {
        let mut command = home.bare(*PROGRAM);
        command.args(arguments).args(["status", "--json"]).envs(variables.iter().copied()).current_dir(directory);
        let status = finish(command).json();
        (PathBuf::from(status["home"].as_str().unwrap()), PathBuf::from(status["state"].as_str().unwrap()))
    };
    let at = |name: &str| home.scratch().join(name);
    let usual = |root: PathBuf| (root.clone(), root.join("state"));
    for name in ["flag", "variable", "found/deep/below", "plain"] {
        make_private(&at(name));
    }
    make_private(&at("found/state/watch"));
    let flag = at("flag");
    let flags = ["--home", flag.to_str().unwrap()];
    let variable = at("variable");
    let (other, found, plain) = (at("other"), at("found/deep/below"), at("plain"));
    assert_eq!(asked(&flags, &[("FM_HOME", &variable), ("FM_STATE_OVERRIDE", &other)], &found), usual(flag.clone()));
    assert_eq!(asked(&[], &[("FM_HOME", &variable)], &found), usual(variable.clone()));
    assert_eq!(asked(&[], &[("FM_HOME", &variable), ("FM_STATE_OVERRIDE", &other)], &found), (variable, other.clone()));
    assert_eq!(asked(&[], &[], &found), usual(at("found")));
    assert_eq!(asked(&[], &[], &plain), usual(at("user/state/fm-watch")));
    let state = ["--home", flag.to_str().unwrap(), "--state", other.to_str().unwrap()];
    assert_eq!(asked(&state, &[], &plain), (flag, other));
}

fn usage_errors_exit_with_2() {
    let home = TestHome::new();
    for arguments in [
        &["no-such-command"][..],
        &["arm", "--no-such-flag"],
        &["arm", "--timeout", "soon"],
        &["arm", "--no-wait", "--timeout", "1s"],
        &["ack"],
        &["wake", "custom"],
        &[],
    ] {
        let answer = home.ask(arguments).expect_code(2);
        assert_eq!(answer.stdout, "", "{arguments:?}");
        assert!(!answer.stderr.is_empty(), "{arguments:?}");
    }
    assert!(!home.state().exists(), "a usage error makes nothing");
}

fn every_command_documents_its_exit_codes() {
    let home = TestHome::new();
    let help = home.ask(&["--help"]).expect_code(0).stdout;
    let commands = help.split_once("Commands:").unwrap().1.split_once("\n\n").unwrap().0;
    let names: Vec<_> = commands.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    assert!(names.len() >= 10, "{names:?}");
    for name in names.iter().filter(|name| !["completions", "man", "config", "", "help"].contains(name)) {
        let help = home.ask(&[name, "--help"]).expect_code(0).stdout;
        assert!(help.contains("Exit code"), "{name}: {help}");
    }
    assert!(home.ask(&["man"]).expect_code(0).stdout.contains(".TH fm-watch"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(home.ask(&["completions", shell]).expect_code(0).stdout.contains("fm-watch"));
    }
}

fn a_closed_stdout_is_no_panic_and_consumes_nothing() {
    let home = TestHome::new();
    home.ask(&["wake", "custom", "key", "text"]).expect_code(0);
    for arguments in [&["drain", "--consume"][..], &["wait", "--timeout", "5"], &["status"], &["drain"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = home.command(arguments);
        let output = command.stdin(std::process::Stdio::null()).stdout(writer).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
        assert!(!output.status.success(), "{arguments:?}: nobody has read it: {stderr}");
    }
    // Nobody has been told, so the next waiter is, at once.
    assert_eq!(home.ask(&["wait", "--timeout", "10"]).expect_code(0).stdout, "custom: key: text\n");
    assert!(home.ask(&["drain"]).expect_code(0).stdout.contains("text"));
    assert_eq!(fs::metadata(home.state().join("watch")).unwrap().permissions().mode() & 0o777, 0o700);
}
