//! Hooks of a home that is in a bad way: whatever stands in the place of its files, an answer comes in time, and it is one
//! that the harness takes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
#[cfg(feature = "sync-points")]
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use fm_watch::layout::paths::{Home, names};
use fm_watch::journal::{Journal, Limits};
use fm_watch::journal::record::{Delivery, Draft, Kind};
use fm_watch::system::{Real, World};
use rustix::fs::{CWD, FlockOperation, Mode, flock, mkfifoat};
use rustix::process::Signal;

use crate::hooks::{CLAUDE_START, CLAUDE_STOP, ENDS, Heard, OTHERS, down, entry, harness_runs, hear, turn_end, watched};
use crate::support::namespace::Namespace;
#[cfg(feature = "sync-points")]
use crate::support::sync::{Points, without};
use crate::support::{Skip, TestHome, home::finish};

cases! {
    whatever_stands_in_the_place_of_a_file_a_hook_answers,
    settings_that_cannot_be_read_hold_nobody,
    a_lock_that_somebody_else_holds_holds_nobody,
    a_stopped_watcher_keeps_no_hook_waiting,
    a_hundred_thousand_wakes_keep_no_hook_waiting,
    on_a_full_disk_nothing_is_held_that_cannot_be_counted,
    #[cfg(feature = "sync-points")]
    an_answer_that_takes_too_long_is_given_up,
    #[cfg(feature = "sync-points")]
    without_a_watchdog_a_hook_hangs_with_its_home,
    three_hundred_bent_payloads_are_answered_as_the_contracts_allow,
    in_a_hook_of_grok_an_entry_of_claude_says_nothing,
}

/// No hook may take longer, whatever state the home is in.
const LIMIT: Duration = Duration::from_secs(2);

const KILL: &str = r#"{"session_id":"s","hook_event_name":"PreToolUse","tool_name":"Bash","tool_input":{"command":"pkill fm-watch"}}"#;
const PROMPT: &str = r#"{"session_id":"s","hook_event_name":"UserPromptSubmit","prompt":"go on"}"#;

/// Every event of Claude Code and what it says then.
const EVENTS: [(&str, &str); 5] = [
    ("session-start", CLAUDE_START),
    ("user-prompt", PROMPT),
    ("pre-tool", KILL),
    ("turn-end", CLAUDE_STOP),
    ("wait", CLAUDE_STOP),
];

/// Asks at every event, and expects an answer in time with an exit code that harms nobody.
#[track_caller]
fn every_event_is_answered(home: &TestHome, what: &str) {
    for (event, says) in EVENTS {
        let heard = harness_runs(entry(home, "claude", event), says, LIMIT);
        let heard = heard.unwrap_or_else(|| panic!("{what}: the hook at {event} took longer than {LIMIT:?}"));
        assert_eq!(heard.code, Some(0), "{what}, {event}: {heard:?}");
        assert!(heard.stderr.lines().count() <= 1 && !heard.stderr.contains("panicked"), "{what}, {event}: {heard:?}");
        assert!(heard.stdout.is_empty() || heard.stderr.is_empty(), "{what}, {event}: {heard:?}");
    }
}

fn put_a_directory(path: &Path) {
    fs::create_dir_all(path.join("in-the-way")).unwrap();
}

fn put_a_fifo(path: &Path) {
    mkfifoat(CWD, path, Mode::from_raw_mode(0o600)).unwrap();
}

fn put_garbage(path: &Path) {
    fs::write(path, vec![0xff; 100_000]).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn put_a_dangling_link(path: &Path) {
    std::os::unix::fs::symlink("/nowhere/at/all", path).unwrap();
}

/// What stands in the way, and how to put it there.
type Obstacle = (&'static str, fn(&Path));

fn whatever_stands_in_the_place_of_a_file_a_hook_answers() {
    let files = [
        "sessions", "sessions/lease.json", "sessions/budget.json", "sessions/start", "owner.json", "beat.json", "lock",
        "waiters", "wakes", "start",
    ];
    let kinds: [Obstacle; 4] = [
        ("a directory", put_a_directory),
        ("a FIFO", put_a_fifo),
        ("garbage", put_garbage),
        ("a dangling link", put_a_dangling_link),
    ];
    for file in files {
        for (kind, put) in kinds {
            let (home, watcher) = watched();
            turn_end(&home);
            watcher.signal(Signal::KILL);
            watcher.finish(crate::support::SOON);
            let path = home.watch(file);
            let facts = fs::symlink_metadata(&path);
            match facts {
                Ok(facts) if facts.is_dir() => fs::remove_dir_all(&path).unwrap(),
                Ok(_) => fs::remove_file(&path).unwrap(),
                Err(_) => {}
            }
            put(&path);
            every_event_is_answered(&home, &format!("{kind} in the place of {file}"));
            assert!(fs::symlink_metadata(home.watch("sessions")).is_ok());
        }
    }
}

fn settings_that_cannot_be_read_hold_nobody() {
    for put in [put_a_directory, put_a_fifo, put_garbage, put_a_dangling_link] {
        let home = down();
        home.configure("");
        fs::remove_file(home.root().join("config/fm-watch.toml")).unwrap();
        put(&home.root().join("config/fm-watch.toml"));
        every_event_is_answered(&home, "settings that cannot be read");
        let heard = turn_end(&home);
        assert_eq!((heard.stdout.as_str(), heard.stderr.lines().count()), ("", 1), "{heard:?}");
        assert!(heard.stderr.contains("fm-watch.toml"), "{heard:?}");
    }
}

fn a_lock_that_somebody_else_holds_holds_nobody() {
    let (home, watcher) = watched();
    assert!(turn_end(&home).is_hold(), "nobody waits");
    watcher.signal(Signal::KILL);
    watcher.finish(crate::support::SOON);
    let lock = fs::File::open(home.watch("lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    // Also the turn to start a watcher is kept.
    let start = fs::File::options().read(true).write(true).create(true).truncate(false).open(home.watch("start")).unwrap();
    flock(&start, FlockOperation::LockExclusive).unwrap();
    every_event_is_answered(&home, "a lock that somebody else holds");
}

fn a_stopped_watcher_keeps_no_hook_waiting() {
    let (home, watcher) = watched();
    watcher.signal(Signal::STOP);
    for (event, says) in &EVENTS[..4] {
        let heard = harness_runs(entry(&home, "claude", event), says, LIMIT);
        assert_eq!(heard.expect("an answer in time").code, Some(0));
    }
    watcher.signal(Signal::CONT);
}

/// So many unread wakes, put into the journal at once.
fn fill(home: &TestHome, count: usize) {
    let (world, home) = (Arc::new(Real), Home::at(home.root()));
    let path = home.ours(names::WAKES);
    let directory = world.open_directory(&path).unwrap();
    let mut journal = Journal::open(Arc::clone(&world), directory, path, Limits::default());
    let draft = |number: usize| Draft {
        kind: Kind::Signal,
        key: format!("task-{number}.status"),
        text: format!("signal: state/task-{number}.status"),
        context: Some(format!("working: step {number}\n")),
        mark: None,
        delivery: Delivery::Now,
    };
    for first in (0..count).step_by(10_000) {
        let drafts: Vec<Draft> = (first..count.min(first + 10_000)).map(draft).collect();
        journal.append(1, &drafts).unwrap();
    }
}

fn a_hundred_thousand_wakes_keep_no_hook_waiting() {
    let (home, watcher) = watched();
    fill(&home, 100_000);
    let answer = |event: &str, says: &str| {
        harness_runs(entry(&home, "claude", event), says, LIMIT).expect("an answer in time")
    };
    answer("session-start", CLAUDE_START).expect_silence();
    answer("user-prompt", PROMPT).expect_silence();
    assert!(answer("turn-end", CLAUDE_STOP).is_hold(), "nobody waits");
    // Reading all of them takes a moment, looking through them for each of them took minutes.
    let woken = harness_runs(entry(&home, "claude", "wait"), CLAUDE_STOP, crate::support::SOON).expect("it wakes");
    assert_eq!((woken.stdout.as_str(), woken.code), ("", Some(2)));
    assert!(woken.stderr.contains("task-0.status") && woken.stderr.len() < 10_000, "{woken:?}");
    watcher.signal(Signal::KILL);
    watcher.finish(crate::support::SOON);
    assert!(!answer("session-start", CLAUDE_START).stdout.is_empty());
    assert!(answer("turn-end", CLAUDE_STOP).is_hold());
}

fn on_a_full_disk_nothing_is_held_that_cannot_be_counted() -> Result<(), Skip> {
    let home = TestHome::with(&["hooks.repair=tell"]);
    Namespace::Mounts.required(&home)?;
    home.make_state();
    fs::write(home.scratch().join("stop"), CLAUDE_STOP).unwrap();
    fs::write(home.scratch().join("start"), CLAUDE_START).unwrap();
    let script = r#"
        mount -t tmpfs -o size=256k,mode=0700 none "$STATE"
        : > "$STATE/task.meta"
        hook() { timeout 2 "${program[@]}" hook --harness claude --event "$1" < "$SCRATCH/$2"; }
        hook turn-end stop > "$SCRATCH/first"
        grep -q '"decision":"block"' "$SCRATCH/first"
        dd if=/dev/zero of="$STATE/filler" bs=4k 2>/dev/null || :
        dd if=/dev/zero of="$STATE/filler2" bs=1 2>/dev/null || :
        for turn in 1 2 3; do hook turn-end stop; done
        hook session-start start > "$SCRATCH/told"
        grep -q 'supervision of this home is off' "$SCRATCH/told"
        # One that was never here cannot become responsible.
        rm "$STATE/watch/sessions/lease.json"
        dd if=/dev/zero of="$STATE/filler3" bs=1 2>/dev/null || :
        hook turn-end stop 2> "$SCRATCH/err"
        [ "$(wc -l < "$SCRATCH/err")" -eq 1 ]
    "#;
    let answer = finish(Namespace::Mounts.script(&home, script)).expect_code(0);
    assert_eq!(answer.stdout.lines().count(), 3, "{answer:?}");
    for line in answer.stdout.lines() {
        assert!(line.contains("systemMessage") && line.contains("it cannot be counted"), "{answer:?}");
    }
    Ok(())
}

/// A hook of a home that never answers.
#[cfg(feature = "sync-points")]
fn hook_that_hangs(home: &TestHome, harness: &str, protections: &[&str]) -> Command {
    let mut command = entry(home, harness, "turn-end");
    Points::new(home, harness).pause(&mut command, &["HooksDecides"]);
    without(&mut command, protections);
    command
}

#[cfg(feature = "sync-points")]
fn an_answer_that_takes_too_long_is_given_up() {
    for (harness, says) in ENDS {
        let home = down();
        let heard = harness_runs(hook_that_hangs(&home, harness, &[]), says, LIMIT * 2).expect("an answer in time");
        let stdout = if harness == "gemini" { "{}\n" } else { "" };
        assert_eq!((heard.stdout.as_str(), heard.code), (stdout, Some(0)), "{harness}: {heard:?}");
        assert!(heard.stderr.contains("no answer was found in time"), "{harness}: {heard:?}");
    }
}

#[cfg(feature = "sync-points")]
fn without_a_watchdog_a_hook_hangs_with_its_home() {
    let home = down();
    let command = hook_that_hangs(&home, "claude", &["HooksInTime"]);
    assert_eq!(harness_runs(command, CLAUDE_STOP, LIMIT + Duration::from_secs(1)), None);
}

/// A short form of the fuzzing of the same parts in one process, through the real program.
fn three_hundred_bent_payloads_are_answered_as_the_contracts_allow() {
    let home = down();
    let says: Vec<(&str, &str, &str)> = ENDS
        .iter()
        .map(|&(harness, says)| (harness, "turn-end", says))
        .chain(OTHERS.iter().map(|&(harness, event, says, _)| (harness, event, says)))
        .collect();
    let mut rng = fastrand::Rng::with_seed(11);
    let (mut silent, mut said) = (0, 0);
    for round in 0..300 {
        let (harness, event, says) = says[round % says.len()];
        let mut bytes = says.as_bytes().to_vec();
        for _ in 0..rng.usize(..4) {
            let at = rng.usize(..bytes.len().max(1));
            match rng.usize(..3) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at.min(bytes.len()), b"{}[]\",:\\x\0"[rng.usize(..10)]),
                _ => drop(bytes.drain(at..bytes.len().min(at + 1 + rng.usize(..9)))),
            }
        }
        let bent = String::from_utf8_lossy(&bytes).into_owned();
        let heard = hear(&home, harness, event, &bent);
        let (stdout, stderr) = (heard.stdout.as_str(), heard.stderr.as_str());
        let is_text = stdout.starts_with("fm-watch: ")
            && matches!((harness, event), ("claude", "session-start" | "user-prompt") | ("kimi", "user-prompt"));
        let is_object = serde_json::from_str::<serde_json::Value>(stdout).is_ok_and(|value| value.is_object());
        let takes_2 = harness == "kimi" && matches!(event, "turn-end" | "pre-tool");
        let is_allowed = match heard.code {
            Some(2) => takes_2 && stdout.is_empty() && !stderr.trim().is_empty(),
            Some(0) if stderr.is_empty() => stdout.is_empty() || is_text || is_object,
            Some(0) => stderr.lines().count() == 1 && stdout == if harness == "gemini" { "{}\n" } else { "" },
            _ => false,
        };
        assert!(is_allowed, "{harness} {event} {bent:?}: {heard:?}");
        if stdout.is_empty() && stderr.is_empty() { silent += 1 } else { said += 1 }
    }
    assert!(silent > 20 && said > 100, "both were tried: {silent} silent, {said} said");
}

fn in_a_hook_of_grok_an_entry_of_claude_says_nothing() {
    let home = down();
    let plain = r#"{"session_id":"s","hook_event_name":"Stop","stop_hook_active":false}"#;
    for event in ["turn-end", "wait"] {
        let mut command = entry(&home, "claude", event);
        command.env("GROK_HOOK_EVENT", "stop");
        harness_runs(command, plain, LIMIT).expect("an answer in time").expect_silence();
    }
    let heard: Heard = hear(&home, "claude", "turn-end", plain);
    assert!(heard.is_hold(), "the payload alone does not show it: {heard:?}");
}
