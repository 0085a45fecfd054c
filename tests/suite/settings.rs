//! Settings: a bad value says where it stands and what is allowed, and changes nothing on disk; the strongest source
//! wins and says so; a running watcher reads them again on request and keeps the old ones if the new ones are bad.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::home::finish;
use crate::support::{Answer, SOON, TestHome, stays_true, wait_until, wait_until_true};

cases! {
    a_bad_value_names_its_file_and_line_and_what_is_allowed,
    a_bad_value_of_a_variable_or_a_flag_names_it,
    bad_settings_stop_every_command_before_it_touches_the_disk,
    an_unknown_key_names_its_line_and_the_nearest_key,
    a_program_that_may_not_run_is_refused,
    every_variable_of_the_contract_counts_and_takes_plain_seconds,
    the_strongest_source_wins_and_show_names_it,
    what_show_prints_is_a_settings_file,
    a_hangup_makes_the_watcher_read_its_settings_again,
    bad_settings_at_a_hangup_change_nothing_and_are_told,
    the_knobs_of_arm_reach_the_watcher_it_starts,
    odd_texts_never_panic,
}

/// Every file and directory below a path, with what can be told of it.
fn everything_below(path: &Path) -> BTreeMap<PathBuf, (u64, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut waiting = vec![path.to_owned()];
    while let Some(path) = waiting.pop() {
        let Ok(facts) = fs::symlink_metadata(&path) else { continue };
        if facts.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()));
        }
        let content = if facts.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        all.insert(path, (facts.len(), content));
    }
    all
}

/// One line that is an error of usage and says all of this.
#[track_caller]
fn assert_says(answer: &Answer, parts: &[&str]) {
    assert_eq!(answer.code, Some(2), "{answer:?}");
    let said = format!("{}{}", answer.stdout, answer.stderr);
    assert_eq!(said.lines().count(), 1, "{answer:?}");
    for part in parts {
        assert!(said.contains(part), "{part:?} is missing in {said:?}");
    }
}

fn a_bad_value_names_its_file_and_line_and_what_is_allowed() {
    let home = TestHome::plain();
    let cases = [
        ("# a comment\n\npoll = \"5x\"", "toml:3: poll", "a duration from"),
        ("poll = 5", "toml:1: poll", "\"15s\""),
        ("poll = \"0s\"", "toml:1: poll", "10ms"),
        ("poll = \"-5s\"", "toml:1: poll", "a duration from"),
        ("poll = \"99999999999999999999s\"", "toml:1: poll", "a duration from"),
        ("checks_at_once = 0", "toml:1: checks_at_once", "from 1 to"),
        ("context_max = \"4 parsecs\"", "toml:1: context_max", "a size from"),
        ("log_level = \"loud\"", "toml:1: log_level", "\"debug\""),
        ("busy_regex = \"(\"", "toml:1: busy_regex", "a regular expression"),
        ("runtime_dir = \"relative\"", "toml:1: runtime_dir", "absolute"),
        ("[environment]\npass = [\"FM_HOME\"]", "toml:2: environment.pass", "FM_HOME"),
        ("\n[[rule]]\ndeliver = \"soon\"", "toml:3: rule.deliver", "\"batch\""),
        ("[[rule]]\nkind = \"x\"", "toml:1: ", "deliver"),
        ("[[notify]]\nexec = []", "toml:2: notify.exec", "a list"),
        ("[[notify]]\nexec = [\"relative\"]", "toml:2: notify.exec", "absolute"),
        ("poll = ", "toml:1: ", "key = value"),
        ("poll = \"5s\"\npoll = \"6s\"", "toml:2: ", "allowed"),
    ];
    for (text, place, allowed) in cases {
        home.configure(text);
        let answer = home.ask(&["config", "check"]);
        assert_says(&answer, &[place, allowed]);
        assert!(answer.stdout.contains(home.root().to_str().unwrap()), "{answer:?}");
    }
    home.configure("poll = \"5s\"");
    let answer = home.ask(&["config", "check"]).expect_code(0);
    assert!(answer.stdout.starts_with("ok: "), "{answer:?}");
}

fn a_bad_value_of_a_variable_or_a_flag_names_it() {
    let home = TestHome::plain();
    for (variable, value) in [
        ("FM_POLL", "abc"),
        ("FM_POLL", "-1"),
        ("FM_POLL", "1e400"),
        ("FM_SIGNAL_GRACE", "soon"),
        ("FM_CHECK_INTERVAL", "NaN"),
        ("FM_CHECK_TIMEOUT", "5 parsecs"),
        ("FM_HEARTBEAT", "0"),
        ("FM_HEARTBEAT_MAX", "x"),
        ("FM_GUARD_GRACE", "x"),
        ("FM_ARM_CONFIRM_TIMEOUT", "x"),
        ("FM_BUSY_REGEX", "("),
    ] {
        let mut command = home.command(&["config", "check"]);
        command.env(variable, value);
        assert_says(&finish(command), &[&format!("{variable}: "), "allowed: "]);
        // An empty variable counts as not set, as shells have it.
        let mut command = home.command(&["config", "check"]);
        command.env(variable, "");
        finish(command).expect_code(0);
    }
    for flag in ["poll=x", "poll", "poll=", "pol=1s", "rule=x", "=x"] {
        let answer = home.ask(&["--set", flag, "config", "check"]);
        assert_says(&answer, &["--set", "allowed: "]);
    }
}

fn bad_settings_stop_every_command_before_it_touches_the_disk() {
    let home = TestHome::new();
    home.wake("custom", "a", "text");
    home.configure("poll = \"never\"\n");
    home.meta("task", &["kind=worker"]);
    let before = everything_below(&home.root());
    for arguments in [
        &["run"][..],
        &["run", "--once"],
        &["arm", "--no-wait"],
        &["arm", "--restart", "--no-wait"],
        &["wait", "--timeout", "1s"],
        &["stop"],
        &["status"],
        &["wake", "custom", "b", "text"],
        &["config", "show"],
    ] {
        let mut command = home.bare(*crate::support::home::PROGRAM);
        command.arg("--home").arg(home.root()).args(arguments);
        let answer = finish(command);
        assert_says(&answer, &["toml:1: poll", "allowed: "]);
        assert_eq!(answer.stdout, "", "{arguments:?}");
        assert_eq!(everything_below(&home.root()), before, "{arguments:?} changed something");
    }
    // The guard warns and never fails its caller.
    let mut command = home.bare(*crate::support::home::PROGRAM);
    command.arg("--home").arg(home.root()).arg("guard");
    let guard = finish(command).expect_code(0);
    assert!(guard.stdout.is_empty() && guard.stderr.contains("toml:1: poll"), "{guard:?}");
    assert_eq!(everything_below(&home.root()), before);
}

fn an_unknown_key_names_its_line_and_the_nearest_key() {
    let home = TestHome::plain();
    for (text, place, near) in [
        ("poll = \"1s\"\npol = \"1s\"", "toml:2: unknown key `pol`", "`poll`"),
        ("sgnal_grace = \"1s\"", "toml:1: unknown key `sgnal_grace`", "`signal_grace`"),
        ("[environment]\nfoo = []", "toml:2: unknown key", "allowed"),
        ("[[rule]]\ndeliver = \"now\"\nkeys = \"x\"", "toml:3: unknown key `rule.keys`", "`key`"),
        ("[nonsense]\na = 1", "toml:1: unknown key `nonsense`", "config show"),
        ("[[notify]]\nexec = [\"/bin/true\"]\npoll = \"1s\"", "toml:3: unknown key `notify.poll`", "above the first"),
    ] {
        home.configure(text);
        assert_says(&home.ask(&["config", "check"]), &[place, near]);
    }
}

/// X10.
fn a_program_that_may_not_run_is_refused() {
    let home = TestHome::plain();
    let program = home.scratch().join("program");
    let check = || {
        home.configure(&format!("[[notify]]\nexec = [\"{}\"]\n", program.display()));
        home.ask(&["config", "check"])
    };
    assert_says(&check(), &[program.to_str().unwrap()]);
    fs::write(&program, "#!/bin/sh\n").unwrap();
    for mode in [0o600, 0o777, 0o722, 0o770] {
        fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
        assert_says(&check(), &[program.to_str().unwrap()]);
    }
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    check().expect_code(0);
}

/// The value of a key in `config show --origin`, and where it comes from.
#[track_caller]
fn shown(answer: &Answer, key: &str) -> (String, String) {
    let prefix = format!("{key} = ");
    let line = answer.stdout.lines().find_map(|line| line.strip_prefix(&prefix));
    let (value, origin) = line.and_then(|line| line.split_once("  # ")).unwrap_or_else(|| panic!("{key}: {answer:?}"));
    (value.to_owned(), origin.to_owned())
}

fn every_variable_of_the_contract_counts_and_takes_plain_seconds() {
    let home = TestHome::plain();
    let cases = [
        ("FM_POLL", "0.25", "poll", "\"250ms\""),
        ("FM_POLL", "2", "poll", "\"2s\""),
        ("FM_POLL", "1500ms", "poll", "\"1s 500ms\""),
        ("FM_SIGNAL_GRACE", "0", "signal_grace", "\"0s\""),
        ("FM_CHECK_INTERVAL", "999999", "check_interval", "\"11days 13h 46m 39s\""),
        ("FM_CHECK_TIMEOUT", ".5", "check_timeout", "\"500ms\""),
        ("FM_HEARTBEAT", "60", "heartbeat", "\"1m\""),
        ("FM_HEARTBEAT_MAX", "7000.0", "heartbeat_max", "\"1h 56m 40s\""),
        ("FM_GUARD_GRACE", "300", "stuck_after", "\"5m\""),
        ("FM_ARM_CONFIRM_TIMEOUT", "3", "arm_timeout", "\"3s\""),
        ("FM_BUSY_REGEX", "busy|Working", "busy_regex", "\"busy|Working\""),
    ];
    for (variable, text, key, value) in cases {
        let mut command = home.command(&["config", "show", "--origin"]);
        command.env(variable, text);
        let answer = finish(command).expect_code(0);
        assert_eq!(shown(&answer, key), (value.to_owned(), variable.to_owned()), "{variable}={text}");
    }
}

fn the_strongest_source_wins_and_show_names_it() {
    let home = TestHome::plain();
    let show = |variable: Option<&str>, flag: Option<&str>| {
        let mut command = home.command(&[]);
        if let Some(flag) = flag {
            command.args(["--set", flag]);
        }
        if let Some(value) = variable {
            command.env("FM_POLL", value);
        }
        command.args(["config", "show", "--origin"]);
        shown(&finish(command).expect_code(0), "poll")
    };
    assert_eq!(show(None, None), ("\"15s\"".to_owned(), "default".to_owned()));
    home.configure("\npoll = \"4s\"\n");
    let file = format!("{}:2", home.root().join("config/fm-watch.toml").display());
    assert_eq!(show(None, None), ("\"4s\"".to_owned(), file));
    assert_eq!(show(Some("3"), None), ("\"3s\"".to_owned(), "FM_POLL".to_owned()));
    assert_eq!(show(Some("3"), Some("poll=2s")), ("\"2s\"".to_owned(), "--set poll".to_owned()));
}

fn what_show_prints_is_a_settings_file() {
    let home = TestHome::plain();
    home.configure(
        "poll = \"3s\"\nbusy_regex = 'a\"b\\\\c'\n[environment]\npass = [\"EDITOR\"]\n[[rule]]\nkind = \"^h\"\ndeliver = \"batch\"\n\
         [[notify]]\nexec = [\"/bin/true\", \"-x\"]\nkinds = [\"signal\"]\n",
    );
    let printed = home.ask(&["config", "show"]).expect_code(0).stdout;
    let json = home.ask(&["config", "show", "--json"]).expect_code(0).json();
    assert_eq!(json["schema"], 1);
    home.configure(&printed);
    home.ask(&["config", "check"]).expect_code(0);
    assert_eq!(home.ask(&["config", "show", "--json"]).expect_code(0).json()["settings"], json["settings"]);
    assert_eq!(home.ask(&["config", "show"]).expect_code(0).stdout, printed);
}

fn a_hangup_makes_the_watcher_read_its_settings_again() {
    let home = TestHome::plain().set(&["poll=200ms"]);
    home.configure("signal_grace = \"1h\"\n");
    let watcher = home.watcher();
    home.write_status("task", "done\n");
    stays_true(Duration::from_secs(1), "it lingers", || home.drain().is_empty());
    home.configure("signal_grace = \"0s\"\n");
    watcher.signal(Signal::HUP);
    home.wait_for_wake("signal", "task.status");
    assert_eq!(home.pid(), Some(watcher.pid()), "it is the same watcher");
}

fn bad_settings_at_a_hangup_change_nothing_and_are_told() {
    let home = TestHome::plain().set(&["poll=200ms"]);
    home.configure("signal_grace = \"0s\"\n");
    let watcher = home.watcher();
    home.configure("signal_grace = \"soon\"\n");
    watcher.signal(Signal::HUP);
    // Whoever asks now has bad settings, too; so the beat itself is looked at.
    wait_until(SOON, "the watcher says so in its beat", || {
        home.beat().filter(|beat| beat["degraded"].to_string().contains("signal_grace"))
    });
    home.write_status("task", "done\n");
    wait_until_true(SOON, "it works on with the old ones", || {
        home.segments().iter().any(|segment| fs::read_to_string(segment).unwrap().contains("task.status"))
    });
    home.configure("signal_grace = \"0s\"\n");
    watcher.signal(Signal::HUP);
    wait_until_true(SOON, "it is content again", || home.status()["degraded"] == serde_json::json!([]));
    assert_eq!(home.pid(), Some(watcher.pid()));
}

/// The knobs that `arm` was given reach the watcher, resolved, whatever else its environment holds.
fn the_knobs_of_arm_reach_the_watcher_it_starts() {
    let home = TestHome::plain().set(&["signal_grace=0s"]);
    let mut command = home.command(&["arm", "--no-wait"]);
    command.env("FM_POLL", "0.3").env("FM_GUARD_GRACE", "7").env("FM_HOME", "/nonexistent");
    let answer = finish(command).expect_code(0);
    assert!(answer.stdout.starts_with("watcher: started pid="), "{answer:?}");
    let owner = home.owner().unwrap();
    assert_eq!((owner["poll_ms"].as_u64(), owner["stuck_after_ms"].as_u64()), (Some(300), Some(7000)), "{owner}");
    home.write_status("task", "done\n");
    home.wait_for_wake("signal", "task.status");
    home.ask(&["stop"]).expect_code(0);
}

/// No text in a settings file reaches a panic, and nothing raw reaches the terminal.
fn odd_texts_never_panic() {
    let home = TestHome::plain();
    let long = format!("poll = \"{}\"", "9".repeat(100_000));
    let nested = format!("poll = {}{}", "[".repeat(5000), "]".repeat(5000));
    let odd: [&[u8]; 9] = [
        b"\xff\xfe",
        b"\0\0\0",
        b"poll = \"\\u001b[31m\"",
        b"\"\\u001b[2J\" = 1",
        b"[[rule]]\nkind = \"(((((((((((((\"\ndeliver = \"now\"",
        b"busy_regex = \"a{1000}{1000}{1000}\"",
        long.as_bytes(),
        nested.as_bytes(),
        b"rule = 1\nnotify = {}\nenvironment = []",
    ];
    for text in odd {
        home.configure("");
        fs::write(home.root().join("config/fm-watch.toml"), text).unwrap();
        let answer = home.ask(&["config", "check"]);
        assert_eq!(answer.code, Some(2), "{:?}: {answer:?}", String::from_utf8_lossy(&text[..text.len().min(50)]));
        let said = format!("{}{}", answer.stdout, answer.stderr);
        assert!(!said.contains('\u{1b}') && !said.contains("panicked"), "{said:?}");
        assert!(said.len() < 20_000, "no flood: {} bytes", said.len());
    }
}
