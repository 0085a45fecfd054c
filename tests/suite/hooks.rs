//! Hooks as a harness runs them: one that waits for the end of the hook's pipes and not for its exit, kills the hook's
//! process group when it takes too long, and runs the entries of its neighbours.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Signal, kill_process_group};
use serde_json::Value;

use crate::support::background::wait_for_end;
use crate::support::home::PROGRAM;
#[cfg(feature = "sync-points")]
use crate::support::sync::without;
use crate::support::{Background, SOON, TestHome, processes, wait_until, wait_until_true};

cases! {
    a_watcher_started_by_a_hook_survives_its_group_and_holds_none_of_its_pipes,
    a_hook_that_leaks_a_pipe_would_hold_the_harness_until_it_kills_the_group,
    of_a_thousand_turn_ends_without_a_watcher_two_are_held,
    a_hold_that_cannot_be_counted_does_not_happen,
    #[cfg(feature = "sync-points")]
    without_the_count_a_turn_is_held_for_ever,
    an_episode_ends_when_all_is_well_and_the_next_one_has_holds_of_its_own,
    a_session_beside_a_living_one_is_left_alone_and_takes_over_when_that_one_is_dead,
    #[cfg(feature = "sync-points")]
    without_proof_a_session_beside_a_living_one_is_held,
    an_entry_that_another_harness_runs_says_nothing,
    each_harness_gets_the_message_where_it_looks_for_it,
    at_prompts_a_session_is_told_once_per_episode_and_at_every_start,
    a_home_that_needs_no_watching_and_a_healthy_one_are_silent,
    a_session_that_only_a_waiter_can_wake_is_held_without_one,
    a_waiter_wakes_its_session_with_what_is_due,
    of_two_waiters_of_a_session_one_waits,
    #[cfg(feature = "sync-points")]
    without_its_lock_every_waiter_of_a_session_waits,
    a_waiter_ends_with_its_agent,
    a_kill_of_the_watcher_is_denied_and_the_safe_command_is_named,
    a_payload_that_says_nothing_is_answered_with_nothing,
    a_harness_that_never_stops_talking_is_answered_in_time,
    what_is_wrong_with_a_home_is_one_line_and_no_hold,
    a_stuck_watcher_is_told_in_time_and_the_named_command_replaces_it,
    records_that_another_hook_keeps_hold_nobody,
    an_entry_of_another_release_does_not_fail,
    an_entry_as_it_is_installed_finds_its_home,
}

/// What each harness says at a session's start, at a prompt and before a tool, and the part of its answer that carries the
/// message; none where it takes no message.
pub(crate) type Saying = (&'static str, &'static str, &'static str, Option<&'static str>);
pub(crate) const OTHERS: [Saying; 18] = [
    (
        "claude",
        "session-start",
        r#"{"session_id":"s","transcript_path":"/t","cwd":"/c","hook_event_name":"SessionStart","source":"startup","model":"m"}"#,
        Some(""),
    ),
    (
        "claude",
        "user-prompt",
        r#"{"session_id":"s","transcript_path":"/t","cwd":"/c","permission_mode":"default","hook_event_name":"UserPromptSubmit","prompt":"go on"}"#,
        Some(""),
    ),
    (
        "claude",
        "pre-tool",
        r#"{"session_id":"s","transcript_path":"/t","cwd":"/c","permission_mode":"default","hook_event_name":"PreToolUse","tool_name":"Bash","tool_input":{"command":"pkill fm-watch"},"tool_use_id":"u"}"#,
        Some("/hookSpecificOutput/permissionDecisionReason"),
    ),
    (
        "codex",
        "session-start",
        r#"{"session_id":"s","transcript_path":null,"cwd":"/c","hook_event_name":"SessionStart","model":"m","permission_mode":"default","source":"startup"}"#,
        Some("/hookSpecificOutput/additionalContext"),
    ),
    (
        "codex",
        "user-prompt",
        r#"{"session_id":"s","turn_id":"t","transcript_path":null,"cwd":"/c","hook_event_name":"UserPromptSubmit","model":"m","permission_mode":"default","prompt":"go on"}"#,
        Some("/hookSpecificOutput/additionalContext"),
    ),
    (
        "codex",
        "pre-tool",
        r#"{"session_id":"s","turn_id":"t","transcript_path":null,"cwd":"/c","hook_event_name":"PreToolUse","model":"m","tool_name":"Bash","tool_input":{"command":"pkill fm-watch"},"tool_use_id":"u"}"#,
        Some("/hookSpecificOutput/permissionDecisionReason"),
    ),
    (
        "cursor",
        "session-start",
        r#"{"conversation_id":"c","generation_id":"g","hook_event_name":"sessionStart","cursor_version":"2","workspace_roots":["/c"],"session_id":"c","is_background_agent":false,"composer_mode":"agent"}"#,
        Some("/additional_context"),
    ),
    (
        "cursor",
        "user-prompt",
        r#"{"conversation_id":"c","generation_id":"g","hook_event_name":"beforeSubmitPrompt","cursor_version":"2","workspace_roots":["/c"],"prompt":"go on"}"#,
        None,
    ),
    (
        "cursor",
        "pre-tool",
        r#"{"conversation_id":"c","generation_id":"g","hook_event_name":"beforeShellExecution","cursor_version":"2","workspace_roots":["/c"],"command":"pkill fm-watch","cwd":"/c"}"#,
        Some("/agent_message"),
    ),
    (
        "gemini",
        "session-start",
        r#"{"session_id":"s","transcript_path":"/t","cwd":"/c","hook_event_name":"SessionStart","timestamp":"2026-08-21T00:00:00Z","source":"startup"}"#,
        Some("/hookSpecificOutput/additionalContext"),
    ),
    (
        "gemini",
        "user-prompt",
        r#"{"session_id":"s","transcript_path":"/t","cwd":"/c","hook_event_name":"BeforeAgent","timestamp":"2026-08-21T00:00:00Z","prompt":"go on"}"#,
        None,
    ),
    (
        "gemini",
        "pre-tool",
        r#"{"session_id":"s","transcript_path":"/t","cwd":"/c","hook_event_name":"BeforeTool","timestamp":"2026-08-21T00:00:00Z","tool_name":"run_shell_command","tool_input":{"command":"pkill fm-watch"}}"#,
        Some("/reason"),
    ),
    (
        "grok",
        "session-start",
        r#"{"hookEventName":"session_start","sessionId":"s","cwd":"/c","workspaceRoot":"/c","timestamp":"2026","source":"startup","modelId":"m"}"#,
        None,
    ),
    (
        "grok",
        "user-prompt",
        r#"{"hookEventName":"user_prompt_submit","sessionId":"s","cwd":"/c","workspaceRoot":"/c","timestamp":"2026","prompt":"go on"}"#,
        None,
    ),
    (
        "grok",
        "pre-tool",
        r#"{"hookEventName":"pre_tool_use","sessionId":"s","cwd":"/c","workspaceRoot":"/c","timestamp":"2026","toolName":"run_terminal_command","toolInput":{"command":"pkill fm-watch"},"toolUseId":"u"}"#,
        Some("/reason"),
    ),
    (
        "kimi",
        "session-start",
        r#"{"hook_event_name":"SessionStart","session_id":"s","session_title":"t","client_type":"cli","cwd":"/c","source":"startup","model":"m","profile":"p"}"#,
        None,
    ),
    (
        "kimi",
        "user-prompt",
        r#"{"hook_event_name":"UserPromptSubmit","session_id":"s","session_title":"t","client_type":"cli","cwd":"/c","prompt":"go on"}"#,
        Some(""),
    ),
    (
        "kimi",
        "pre-tool",
        r#"{"hook_event_name":"PreToolUse","session_id":"s","session_title":"t","client_type":"cli","cwd":"/c","tool_name":"Shell","tool_input":{"command":"pkill fm-watch"},"tool_call_id":"u"}"#,
        Some("stderr"),
    ),
];

/// What each harness says at the end of a turn.
pub(crate) const ENDS: [(&str, &str); 6] = [
    ("claude", r#"{"session_id":"s","transcript_path":"/t","hook_event_name":"Stop","prompt_id":"p","stop_hook_active":false}"#),
    ("codex", r#"{"session_id":"s","turn_id":"t","transcript_path":null,"hook_event_name":"Stop","stop_hook_active":false}"#),
    ("cursor", r#"{"conversation_id":"c","hook_event_name":"stop","cursor_version":"2","status":"completed","loop_count":0}"#),
    ("gemini", r#"{"session_id":"s","hook_event_name":"AfterAgent","timestamp":"2026-08-21T00:00:00Z","stop_hook_active":false}"#),
    ("grok", r#"{"hookEventName":"stop","sessionId":"s","timestamp":"2026","reason":"end_turn","stopHookActive":false}"#),
    ("kimi", r#"{"hook_event_name":"Stop","session_id":"s","session_title":"t","client_type":"cli"}"#),
];

pub(crate) const CLAUDE_STOP: &str = ENDS[0].1;
pub(crate) const CLAUDE_START: &str =
    r#"{"session_id":"s","transcript_path":"/t","hook_event_name":"SessionStart","source":"startup"}"#;

/// No hook may take longer, whatever state the home is in. The rest is for a busy machine.
const LIMIT: Duration = Duration::from_secs(4);

/// What a harness heard from a hook.
#[derive(Debug, PartialEq)]
pub(crate) struct Heard {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: Option<i32>,
}

impl Heard {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    pub(crate) fn is_hold(&self) -> bool {
        self.stdout.contains(r#""decision":"block""#)
    }

    /// Whether it found no answer in time, and said so if it still could.
    fn is_late(&self) -> bool {
        let is_killed = self.code == Some(-9) && self.stdout.is_empty();
        is_killed || self.stderr == "fm-watch: the hook has no answer: no answer was found in time\n"
    }

    #[track_caller]
    pub(crate) fn expect_silence(&self) {
        assert_eq!((self.stdout.as_str(), self.stderr.as_str(), self.code), ("", "", Some(0)));
    }
}

/// What can be written into an empty pipe without anybody reading it, at least (pipe(7)).
const PIPE_HOLDS: usize = 4096;

/// Runs a hook as a harness does: it speaks, waits until nobody holds the pipes any more, and kills the group of a hook that
/// takes longer than it may. `None`: it had to.
pub(crate) fn harness_runs(mut command: Command, says: &str, limit: Duration) -> Option<Heard> {
    let (hears, mut speaks) = std::io::pipe().unwrap();
    command.process_group(0).stdin(Stdio::from(hears)).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A hook that hears nothing for a while is silent; a busy machine must not make it so. What a pipe holds is said before.
    let (first, rest) = says.as_bytes().split_at(says.len().min(PIPE_HOLDS));
    speaks.write_all(first).unwrap();
    let mut hook = command.spawn().unwrap();
    drop(command);
    // A hook may leave without having heard all of it.
    let rest = rest.to_owned();
    let speaker = std::thread::spawn(move || drop(speaks.write_all(&rest)));
    let (sender, ends) = channel();
    let listen = |mut pipe: Box<dyn Read + Send>| {
        let sender = sender.clone();
        std::thread::spawn(move || {
            let mut text = String::new();
            pipe.read_to_string(&mut text).unwrap();
            sender.send(()).unwrap();
            text
        })
    };
    let stdout = listen(Box::new(hook.stdout.take().unwrap()));
    let stderr = listen(Box::new(hook.stderr.take().unwrap()));
    let deadline = Instant::now() + limit;
    let in_time = (0..2).all(|_| ends.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok());
    // The hook is not reaped yet, so its number, and its group's, is still its own.
    let _none_left = kill_process_group(rustix::process::Pid::from_child(&hook), Signal::KILL);
    let ended = hook.wait().unwrap();
    let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
    speaker.join().unwrap();
    in_time.then(|| Heard { stdout, stderr, code: ended.code().or(ended.signal().map(|number| -number)) })
}

pub(crate) fn entry(home: &TestHome, harness: &str, event: &str) -> Command {
    home.command(&["hook", "--harness", harness, "--event", event])
}

/// A hook of an agent that is this very process.
#[track_caller]
pub(crate) fn hear(home: &TestHome, harness: &str, event: &str, says: &str) -> Heard {
    harness_runs(entry(home, harness, event), says, LIMIT).expect("the hook answers in time")
}

pub(crate) fn turn_end(home: &TestHome) -> Heard {
    hear(home, "claude", "turn-end", CLAUDE_STOP)
}

/// A home with work and no watcher, in which hooks start none.
pub(crate) fn down() -> TestHome {
    let home = TestHome::with(&["hooks.repair=tell"]);
    home.meta("task", &["window=w"]);
    home
}

/// A home with work and a watcher.
pub(crate) fn watched() -> (TestHome, Background) {
    let home = down();
    let watcher = home.watcher();
    (home, watcher)
}

/// Whether an agent waits for its hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    Waits,
    GoesOn,
}

/// An agent in a process of its own, which runs hooks one after the other.
pub(crate) struct Agent {
    process: Background,
    stdin: std::io::PipeWriter,
    directory: PathBuf,
    asked: usize,
}

impl Agent {
    pub(crate) fn new(home: &TestHome, name: &str) -> Self {
        let directory = home.scratch().join(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("agent"), "while read -r line; do eval \"$line\"; done\n").unwrap();
        let mut command = home.bare("sh");
        command.arg(directory.join("agent"));
        let (reading, writing) = std::io::pipe().unwrap();
        command.stdin(Stdio::from(reading));
        let process = Background::spawn_reading(command);
        Self { process, stdin: writing, directory, asked: 0 }
    }

    /// Has the agent start a hook and wait for it, and gives the name of the files with its answer.
    pub(crate) fn start(&mut self, command: &Command, says: &str) -> PathBuf {
        self.start_and(Patience::Waits, command, says)
    }

    /// Has the agent start a hook and not wait for it. It runs in a shell of its own, as wrappers do.
    pub(crate) fn start_beside(&mut self, command: &Command, says: &str) -> PathBuf {
        self.start_and(Patience::GoesOn, command, says)
    }

    fn start_and(&mut self, patience: Patience, command: &Command, says: &str) -> PathBuf {
        self.asked += 1;
        let files = self.directory.join(self.asked.to_string());
        let path = |end: &str| format!("'{}'", files.with_extension(end).display());
        fs::write(files.with_extension("in"), says).unwrap();
        let variables = command.get_envs().filter_map(|(name, value)| {
            Some(format!("{}='{}'", name.to_str()?, value?.to_str()?))
        });
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words = words.map(|word| format!("'{}'", word.to_str().unwrap()));
        let line: Vec<_> = variables.chain(words).collect();
        let (line, [said, out, err, code, done]) =
            (line.join(" "), ["in", "out", "err", "code", "done"].map(path));
        let line = format!("{line} < {said} > {out} 2> {err}; echo $? > {code}; mv {code} {done}");
        let line = match patience {
            Patience::Waits => line,
            Patience::GoesOn => format!("sh -c '{}' &", line.replace('\'', r"'\''")),
        };
        writeln!(self.stdin, "{line}").unwrap();
        files
    }

    #[track_caller]
    pub(crate) fn hear(&mut self, command: &Command, says: &str) -> Heard {
        let files = self.start(command, says);
        wait_until_true(SOON, "the agent's hook has answered", || files.with_extension("done").exists());
        let read = |end: &str| fs::read_to_string(files.with_extension(end)).unwrap();
        Heard { stdout: read("out"), stderr: read("err"), code: read("done").trim().parse().ok() }
    }

    pub(crate) fn die(self) {
        self.process.signal(Signal::KILL);
        self.process.finish(SOON);
    }
}

fn a_watcher_started_by_a_hook_survives_its_group_and_holds_none_of_its_pipes() {
    for (event, is_hook) in [("session-start", true), ("", false)] {
        let home = TestHome::new();
        home.meta("task", &["window=w"]);
        let command = if is_hook { entry(&home, "claude", event) } else { home.command(&["arm", "--no-wait"]) };
        let heard = harness_runs(command, CLAUDE_START, LIMIT).expect("nobody keeps the harness waiting");
        assert_eq!(heard.code, Some(0), "{heard:?}");
        let pid = wait_until(SOON, "a watcher is recorded", || home.pid());
        assert!(processes::is_alive(pid), "the kill of the hook's group did not reach it");
        assert_eq!(home.verdict(), "ok");
        let [group, session] = [5, 6].map(|field| processes::stat_field(pid, field));
        assert_eq!(group, session, "it is in the first group of its session");
        assert_ne!(session, processes::stat_field(std::process::id(), 6), "which is not that of the harness");
        // A pipe of the hook would have kept the harness waiting; one that nobody waits for is as foreign.
        let ours = processes::descriptors(std::process::id());
        for (number, leads_to) in processes::descriptors(pid) {
            let is_pipe = leads_to.to_str().is_some_and(|text| text.starts_with("pipe:"));
            assert!(!is_pipe || !ours.iter().any(|(_, other)| *other == leads_to), "{number} leads to {}", leads_to.display());
        }
        assert_eq!(home.ask(&["stop"]).code, Some(0));
    }
}

/// The twin: the stand-in does wait for the end of the pipes, and does kill the group.
fn a_hook_that_leaks_a_pipe_would_hold_the_harness_until_it_kills_the_group() {
    let home = TestHome::new();
    let mut command = home.bare("sh");
    let pid_file = home.scratch().join("pid");
    command.args(["-c", "sleep 1000 & echo $! > \"$1\"", "sh"]).arg(&pid_file);
    assert_eq!(harness_runs(command, "", Duration::from_millis(500)), None);
    let pid: u32 = fs::read_to_string(pid_file).unwrap().trim().parse().unwrap();
    wait_for_end(pid, "what the hook left behind");
}

fn of_a_thousand_turn_ends_without_a_watcher_two_are_held() {
    let home = TestHome::new();
    home.meta("task", &["window=w"]);
    let first = home.arm();
    home.kill(first);
    wait_for_end(first, "the watcher");
    // Each start gets as far as its first record.
    fs::remove_file(home.watch("generation")).unwrap();
    fs::create_dir(home.watch("generation")).unwrap();
    assert!(!home.flags().iter().any(|flag| flag.contains("repair")), "a start is tried at each turn");
    let (mut held, mut explained, mut late) = (0, 0, 0);
    for turn in 0..1000 {
        // A flag that cannot be relied on.
        let says = CLAUDE_STOP.replace("false", if turn % 3 == 1 { "true" } else { "false" });
        let heard = hear(&home, "claude", "turn-end", &says);
        // On a very busy machine some hooks find no answer in time, and some starts take longer than a hook waits.
        if heard.is_late() {
            late += 1;
            continue;
        }
        assert_eq!((heard.code, heard.stderr.as_str()), (Some(0), ""), "{heard:?}");
        held += usize::from(heard.is_hold());
        let told = heard.json()[if heard.is_hold() { "reason" } else { "systemMessage" }].as_str().unwrap().to_owned();
        // One that is under way for longer than a hook looks counts as a watcher, to which nobody listens.
        let is_under_way = told.contains("a watcher watches, but no waiter lives");
        assert!(told.contains("none could be started (") || is_under_way, "{heard:?}");
        explained += usize::from(told.contains("generation"));
    }
    // One that was late may have been held as far as its budget knows.
    assert!(held <= 2 && held + late >= 2, "{held} held, {late} late");
    assert!(explained > 500, "{explained} of 1000 say why, {late} were late");
}

/// A home whose record of holds cannot be written.
fn uncountable() -> TestHome {
    let home = down();
    home.make_watch();
    fs::create_dir_all(home.watch("sessions/budget.json/in-the-way")).unwrap();
    home
}

fn a_hold_that_cannot_be_counted_does_not_happen() {
    let home = uncountable();
    for _ in 0..5 {
        let message = turn_end(&home).json()["systemMessage"].as_str().unwrap().to_owned();
        assert!(message.contains("it cannot be counted"), "{message}");
    }
}

#[cfg(feature = "sync-points")]
fn without_the_count_a_turn_is_held_for_ever() {
    let home = uncountable();
    for _ in 0..5 {
        let mut command = entry(&home, "claude", "turn-end");
        without(&mut command, &["HooksCounted"]);
        assert!(harness_runs(command, CLAUDE_STOP, LIMIT).unwrap().is_hold());
    }
}

fn an_episode_ends_when_all_is_well_and_the_next_one_has_holds_of_its_own() {
    let home = down();
    let holds = |home: &TestHome| (0..4).filter(|_| turn_end(home).is_hold()).count();
    assert_eq!(holds(&home), 2);
    let watcher = home.watcher();
    let waiter = home.spawn(&["wait"]);
    wait_until_true(SOON, "somebody waits", || home.status()["waiters"] == 1);
    turn_end(&home).expect_silence();
    home.ask(&["stop"]).expect_code(0);
    watcher.finish(SOON);
    assert_eq!(holds(&home), 2);
    drop(waiter);
}

/// A home that one agent is responsible for, and another one beside it.
fn two_agents(home: &TestHome) -> (Agent, Agent) {
    let (mut one, two) = (Agent::new(home, "one"), Agent::new(home, "two"));
    assert!(one.hear(&entry(home, "claude", "turn-end"), CLAUDE_STOP).is_hold());
    (one, two)
}

fn a_session_beside_a_living_one_is_left_alone_and_takes_over_when_that_one_is_dead() {
    let home = down();
    let (mut one, mut two) = two_agents(&home);
    let other = CLAUDE_STOP.replace(r#""s""#, r#""t""#);
    for event in ["turn-end", "wait"] {
        // Also under the very name of the first session.
        for says in [other.as_str(), CLAUDE_STOP] {
            two.hear(&entry(&home, "claude", event), says).expect_silence();
        }
    }
    let start = CLAUDE_START.replace(r#""s""#, r#""t""#);
    two.hear(&entry(&home, "claude", "session-start"), &start).expect_silence();
    let sub_agent = CLAUDE_STOP.replace('{', r#"{"agent_id":"a","#);
    one.hear(&entry(&home, "claude", "turn-end"), &sub_agent).expect_silence();
    one.die();
    assert!(two.hear(&entry(&home, "claude", "turn-end"), &other).is_hold());
}

#[cfg(feature = "sync-points")]
fn without_proof_a_session_beside_a_living_one_is_held() {
    let home = down();
    let (_one, mut two) = two_agents(&home);
    let mut command = entry(&home, "claude", "turn-end");
    without(&mut command, &["HooksProof"]);
    assert!(two.hear(&command, &CLAUDE_STOP.replace(r#""s""#, r#""t""#)).is_hold());
}

fn an_entry_that_another_harness_runs_says_nothing() {
    for (runs, says) in ENDS {
        let home = down();
        for (entry, _) in ENDS {
            let heard = hear(&home, entry, "turn-end", says);
            if runs == entry {
                assert_ne!((heard.stdout.as_str(), heard.stderr.as_str()), ("", ""), "{runs} is held");
            } else {
                heard.expect_silence();
            }
        }
        if runs != "claude" {
            hear(&home, "claude", "wait", says).expect_silence();
        }
    }
}

fn each_harness_gets_the_message_where_it_looks_for_it() {
    for (harness, event, says, place) in OTHERS {
        let home = down();
        let heard = hear(&home, harness, event, says);
        let message = match place {
            None => {
                heard.expect_silence();
                continue;
            }
            Some("") => heard.stdout.clone(),
            Some("stderr") => heard.stderr.clone(),
            Some(pointer) => heard.json().pointer(pointer).unwrap().as_str().unwrap().to_owned(),
        };
        assert!(message.starts_with("fm-watch: ") && message.contains("arm"), "{harness} {event}: {heard:?}");
        assert_eq!(heard.code, Some(if place == Some("stderr") { 2 } else { 0 }), "{harness} {event}: {heard:?}");
    }
}

fn at_prompts_a_session_is_told_once_per_episode_and_at_every_start() {
    let home = down();
    let (_, _, prompt, _) = OTHERS[1];
    let told = |event: &str, says: &str| !hear(&home, "claude", event, says).stdout.is_empty();
    assert_eq!([told("user-prompt", prompt), told("user-prompt", prompt)], [true, false]);
    assert_eq!([told("session-start", CLAUDE_START), told("session-start", CLAUDE_START)], [true, true]);
    assert!(turn_end(&home).is_hold(), "what is told does not count as held");
}

fn a_home_that_needs_no_watching_and_a_healthy_one_are_silent() {
    let home = TestHome::with(&["hooks.repair=tell"]);
    for (harness, says) in ENDS {
        hear(&home, harness, "turn-end", says).expect_silence();
    }
    assert!(!home.state().exists(), "a hook makes no home");
    home.make_state();
    turn_end(&home).expect_silence();
    let (home, _watcher) = watched();
    // Codex waits in the foreground and needs no waiter when its turn ends.
    hear(&home, "codex", "turn-end", ENDS[1].1).expect_silence();
    let _waiter = home.spawn(&["wait"]);
    wait_until_true(SOON, "somebody waits", || home.status()["waiters"] == 1);
    turn_end(&home).expect_silence();
    hear(&home, "claude", "session-start", CLAUDE_START).expect_silence();
}

fn a_session_that_only_a_waiter_can_wake_is_held_without_one() {
    let (home, _watcher) = watched();
    let holds: Vec<_> = (0..4).map(|_| turn_end(&home)).filter(Heard::is_hold).collect();
    assert_eq!(holds.len(), 2);
    assert!(holds[0].stdout.contains("no waiter lives"), "{holds:?}");
}

fn a_waiter_wakes_its_session_with_what_is_due() {
    let (home, _watcher) = watched();
    let mut agent = Agent::new(&home, "agent");
    let files = agent.start(&entry(&home, "claude", "wait"), CLAUDE_STOP);
    wait_until_true(SOON, "it waits", || home.status()["waiters"] == 1);
    home.ask(&["wake", "custom", "k", "hello"]).expect_code(0);
    wait_until_true(SOON, "the session is woken", || files.with_extension("done").exists());
    let read = |end: &str| fs::read_to_string(files.with_extension(end)).unwrap();
    assert_eq!((read("out").as_str(), read("done").trim()), ("", "2"));
    let digest = read("err");
    assert!(digest.contains("drain\ncustom: k: hello\n"), "{digest}");
    assert!(!home.watch("sessions").read_dir().unwrap().flatten().any(|file| {
        file.path().extension().is_some_and(|extension| extension == "waiter")
    }));
}

/// Two waiters of one session, started one after the other by one agent; how many there are when the second has begun.
fn waiters_of_two(home: &TestHome, second: &Command) -> (Agent, Option<Heard>) {
    let mut agent = Agent::new(home, "agent");
    agent.start_beside(&entry(home, "claude", "wait"), CLAUDE_STOP);
    wait_until_true(SOON, "it waits", || home.status()["waiters"] == 1);
    let files = agent.start_beside(second, CLAUDE_STOP);
    let heard = wait_until(SOON, "the second has waited or left", || {
        if files.with_extension("done").exists() {
            let read = |end: &str| fs::read_to_string(files.with_extension(end)).unwrap();
            Some(Some(Heard { stdout: read("out"), stderr: read("err"), code: read("done").trim().parse().ok() }))
        } else {
            (home.status()["waiters"] == 2).then_some(None)
        }
    });
    (agent, heard)
}

fn of_two_waiters_of_a_session_one_waits() {
    let (home, _watcher) = watched();
    let (agent, second) = waiters_of_two(&home, &entry(&home, "claude", "wait"));
    second.expect("it leaves").expect_silence();
    assert_eq!(home.status()["waiters"], 1);
    agent.die();
}

#[cfg(feature = "sync-points")]
fn without_its_lock_every_waiter_of_a_session_waits() {
    let (home, _watcher) = watched();
    let mut second = entry(&home, "claude", "wait");
    without(&mut second, &["HooksWaiter"]);
    let (agent, second) = waiters_of_two(&home, &second);
    assert_eq!(second, None, "both wait");
    agent.die();
}

fn a_waiter_ends_with_its_agent() {
    let (home, _watcher) = watched();
    let mut agent = Agent::new(&home, "agent");
    agent.start(&entry(&home, "claude", "wait"), CLAUDE_STOP);
    wait_until_true(SOON, "it waits", || home.status()["waiters"] == 1);
    agent.die();
    wait_until_true(SOON, "nobody waits any more", || home.status()["waiters"] == 0);
}

fn a_kill_of_the_watcher_is_denied_and_the_safe_command_is_named() {
    let home = TestHome::new();
    let pid = home.arm();
    let ask = |command: &str| {
        let says = serde_json::json!({"session_id": "s", "hook_event_name": "PreToolUse", "tool_name": "Bash",
            "tool_input": {"command": command}});
        hear(&home, "claude", "pre-tool", &says.to_string())
    };
    for command in ["pkill -f fm-watch".to_owned(), format!("kill -9 {pid}"), format!("pkill -f {}", home.root().display())] {
        let answer = ask(&command).json();
        let output = &answer["hookSpecificOutput"];
        assert_eq!(output["permissionDecision"], "deny", "{command}: {answer}");
        let reason = output["permissionDecisionReason"].as_str().unwrap();
        assert!(reason.contains("arm --restart") && reason.contains("stop"), "{reason}");
    }
    for command in ["ls".to_owned(), "pkill -f my-server".to_owned(), format!("echo pkill {pid}")] {
        ask(&command).expect_silence();
    }
    home.ask(&["stop"]).expect_code(0);
}

fn a_payload_that_says_nothing_is_answered_with_nothing() {
    let home = down();
    for event in ["session-start", "user-prompt", "pre-tool", "turn-end", "wait"] {
        hear(&home, "claude", event, "").expect_silence();
        for says in ["{", "[]", "\u{0}", "null"] {
            let heard = hear(&home, "claude", event, says);
            assert_eq!((heard.stdout.as_str(), heard.code), ("", Some(0)));
            assert_eq!(heard.stderr.lines().count(), 1, "{heard:?}");
            let heard = hear(&home, "gemini", event, says);
            assert_eq!((heard.stdout.as_str(), heard.code), ("{}\n", Some(0)), "or it would read stderr");
        }
    }
}

fn a_harness_that_never_stops_talking_is_answered_in_time() {
    let home = down();
    let long = format!(r#"{{"session_id":"s","hook_event_name":"Stop","x":"{}"}}"#, "x".repeat(1 << 20));
    let heard = hear(&home, "claude", "turn-end", &long);
    assert_eq!((heard.stdout.as_str(), heard.code), ("", Some(0)));
    assert!(heard.stderr.contains("longer than"), "{heard:?}");
    // One that never closes its end, having said nothing, or half of something.
    for says in ["", "{\"session_id\":"] {
        let (reading, mut writing) = std::io::pipe().unwrap();
        writing.write_all(says.as_bytes()).unwrap();
        let mut command = entry(&home, "claude", "turn-end");
        command.stdin(Stdio::from(reading));
        let answer = Background::spawn_reading(command).finish(SOON).expect_code(0);
        assert_eq!(answer.stdout, "");
        assert!(answer.took < LIMIT, "{answer:?}");
        drop(writing);
    }
    // One that has said all and forgets to close its end.
    let (reading, mut writing) = std::io::pipe().unwrap();
    writing.write_all(CLAUDE_STOP.as_bytes()).unwrap();
    let mut command = entry(&home, "claude", "turn-end");
    command.stdin(Stdio::from(reading));
    let answer = Background::spawn_reading(command).finish(SOON).expect_code(0);
    assert!(answer.stdout.contains(r#""decision":"block""#), "{answer:?}");
    drop(writing);
}

fn what_is_wrong_with_a_home_is_one_line_and_no_hold() {
    let home = down();
    home.configure("pol = 7\n");
    let heard = turn_end(&home);
    assert_eq!((heard.stdout.as_str(), heard.code, heard.stderr.lines().count()), ("", Some(0), 1));
    assert!(heard.stderr.contains("fm-watch.toml:1"), "{heard:?}");
    let home = down();
    home.make_watch();
    fs::write(home.watch("sessions"), "in the way").unwrap();
    let heard = turn_end(&home);
    assert_eq!((heard.stdout.as_str(), heard.code, heard.stderr.lines().count()), ("", Some(0), 1));
}

/// A hook has no time to give a stuck watcher its grace, so it names the command that does.
fn a_stuck_watcher_is_told_in_time_and_the_named_command_replaces_it() {
    let home = TestHome::with(&["stuck_after=500ms", "stop_grace=100ms"]);
    home.meta("task", &["window=w"]);
    let watcher = home.watcher();
    watcher.signal(Signal::STOP);
    home.wait_for_verdict("stuck");
    let heard = turn_end(&home);
    let told = heard.json()["reason"].as_str().unwrap().to_owned();
    assert!(heard.is_hold() && told.contains("is stuck") && told.ends_with(" arm"), "{heard:?}");
    assert!(processes::is_alive(watcher.pid()), "a hook kills nobody");
    home.ask(&["arm", "--no-wait"]).expect_code(0);
    assert_ne!(home.pid(), Some(watcher.pid()));
    let _waiter = home.spawn(&["wait"]);
    wait_until_true(SOON, "somebody waits", || home.status()["waiters"] == 1);
    turn_end(&home).expect_silence();
    home.ask(&["stop"]).expect_code(0);
}

fn records_that_another_hook_keeps_hold_nobody() {
    let home = down();
    assert!(turn_end(&home).is_hold());
    let turn = fs::File::open(home.watch("sessions/start")).unwrap();
    flock(&turn, FlockOperation::LockExclusive).unwrap();
    // It is known to be responsible, and is told; but nobody could count another hold.
    let heard = turn_end(&home);
    assert!(heard.json()["systemMessage"].as_str().unwrap().contains("for too long"), "{heard:?}");
    // One that would have to become responsible first cannot.
    fs::remove_file(home.watch("sessions/lease.json")).unwrap();
    let heard = turn_end(&home);
    assert_eq!((heard.stdout.as_str(), heard.code), ("", Some(0)));
    assert!(heard.stderr.contains("for too long"), "{heard:?}");
}

fn an_entry_of_another_release_does_not_fail() {
    let home = down();
    for arguments in [&["hook", "--harness", "nobody", "--event", "turn-end"][..], &["hook", "--new-flag"], &["hook"]] {
        let answer = home.ask(arguments).expect_code(0);
        assert_eq!((answer.stdout.as_str(), answer.stderr.lines().count()), ("", 1), "{answer:?}");
    }
}

/// No other flag is there, and the home is named by the environment or by the one flag that an entry may have.
fn an_entry_as_it_is_installed_finds_its_home() {
    let home = TestHome::plain();
    home.configure("[hooks]\nrepair = \"tell\"\n");
    home.meta("task", &["window=w"]);
    let words = ["hook", "--harness", "claude", "--event", "turn-end"];
    let mut by_environment = home.bare(*PROGRAM);
    by_environment.args(words).env("FM_HOME", home.root());
    let mut by_flag = home.bare(*PROGRAM);
    by_flag.arg("--home").arg(home.root()).args(words);
    for command in [by_environment, by_flag] {
        let heard = harness_runs(command, CLAUDE_STOP, LIMIT).unwrap();
        assert!(heard.is_hold() && heard.stderr.is_empty(), "{heard:?}");
    }
    let mut elsewhere = home.bare(*PROGRAM);
    elsewhere.args(words);
    harness_runs(elsewhere, CLAUDE_STOP, LIMIT).unwrap().expect_silence();
}
