//! Who runs this hook: the harness it was installed for, or another one that loads the file of a neighbour.
//!
//! Cursor and Grok also run what stands in Claude Code's settings. An entry that is run so would be answered twice, in a
//! form that the other harness does not understand, and one that waits would freeze it. So each payload is compared with
//! the marks that only one harness has; whoever is not the one of the entry gets silence.
//!
//! Limits: Claude Code, Codex at its start, and Kimi have payloads without a mark of their own. Those count as whoever the
//! entry names, since none of these loads another's file.
//!
//! # The agent's process
//!
//! The process of the agent in whose session a hook runs is the nearest ancestor that was not started only to run
//! this hook. Whatever was has the hook's command line among its own arguments: a shell as its script (`sh -c
//! 'fm-watch hook …'`), a wrapper word by word (`timeout 9 fm-watch hook …`). Those are passed over, whatever they
//! are called. An agent that only *speaks* of hooks, because a person has put such a command into its prompt, is not.
//!
//! If this names a process that ends with the hook, its session is taken for dead and the next one takes the home over;
//! nothing is signalled on this ground.
//!
//! Limits: a script file that calls the hook is taken for the agent, because its arguments do not show the hook.

use super::event::Event;
use super::harness::Harness;
use super::payload::{Payload, Reading, parse};
use crate::base::environment::Environment;
use crate::system::World;
use crate::system::identity::{Identity, Observation, Pid};

/// Whether an entry was run by the one it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was, at the moment it is for.
    Expected,
    /// Another harness ran it, or the same one at another moment.
    Other,
}

/// What an entry makes of what it was given.
#[derive(Debug, Clone, PartialEq)]
pub enum Received {
    /// Nothing that is meant for it.
    Nothing,
    /// Something that cannot be understood; why not.
    Garbled(String),
    /// What its own harness says.
    Payload(Payload),
}

/// Takes what came on stdin of an entry. Whoever cannot be recognised is not answered.
pub fn receive(bytes: &[u8], harness: Harness, event: Event) -> Received {
    match parse(bytes) {
        Reading::Empty => Received::Nothing,
        Reading::Broken(why) => Received::Garbled(why),
        Reading::Object(payload) => match recognise(&payload, harness, event) {
            Origin::Expected => Received::Payload(payload),
            Origin::Other => Received::Nothing,
        },
    }
}

/// Compares an entry with the payload it was given.
pub fn recognise(payload: &Payload, harness: Harness, event: Event) -> Origin {
    let is_the_harness = match marked(payload) {
        Some(marked) => marked == harness,
        None => !harness.profile().mark.is_some_and(|mark| mark.is_always_there),
    };
    let is_the_moment = payload.event().is_none_or(|name| names(harness, event).contains(&name.as_str()));
    if is_the_harness && is_the_moment { Origin::Expected } else { Origin::Other }
}

/// Whether Grok runs an entry of somebody else. It says so in a variable that it sets for hooks alone; a payload with the mark
/// of the entry's own harness is believed more, since that harness may have been started by a hook of Grok's.
pub fn is_run_by_grok(harness: Harness, payload: &Payload, environment: &Environment) -> bool {
    harness != Harness::Grok && environment.text("GROK_HOOK_EVENT").is_some() && marked(payload) != Some(harness)
}

/// The harness whose mark the payload has.
fn marked(payload: &Payload) -> Option<Harness> {
    let rank = |harness: Harness| {
        let mark = harness.profile().mark?;
        let has_mark = mark.any_of.iter().any(|fields| fields.iter().all(|field| payload.has(field)));
        has_mark.then_some((mark.rank, harness))
    };
    Harness::ALL.into_iter().filter_map(rank).min().map(|(_, harness)| harness)
}

/// What a harness calls a moment, in lower case and without `_`.
fn names(harness: Harness, event: Event) -> &'static [&'static str] {
    if let Some((_, names)) = harness.profile().own_names.iter().find(|(of, _)| *of == event) {
        return names;
    }
    match event {
        Event::SessionStart => &["sessionstart"],
        Event::UserPrompt => &["userpromptsubmit"],
        Event::PreTool => &["pretooluse"],
        Event::TurnEnd => &["stop"],
        Event::Wait => &["stop", "sessionstart"],
    }
}

/// So many wrappers are passed over.
const WRAPPERS: usize = 8;

/// The agent of this process. `None`: nobody can tell.
pub fn agent_process<W: World>(world: &W) -> Option<Identity> {
    let mut pid = world.table_entry(world.own_pid())?.parent;
    for _ in 0..WRAPPERS {
        let agent = Pid::new(pid)?;
        if !runs_only_a_hook(&world.arguments(pid)?) {
            return identity(world, agent);
        }
        pid = world.table_entry(pid)?.parent;
    }
    None
}

/// Whether a process with these arguments was started only to run a hook.
fn runs_only_a_hook(arguments: &[u8]) -> bool {
    let words: Vec<&[u8]> = arguments.split(|&byte| byte == 0).collect();
    let is_wrapper = words.windows(2).any(|pair| pair[0] == b"hook" && pair[1].starts_with(b"--"))
        && words.iter().any(|word| *word == b"--harness" || word.starts_with(b"--harness="));
    is_wrapper || scripts(&words).any(|script| contains(script, b"hook") && contains(script, b"--harness"))
}

/// The words that a shell takes for a script: those behind an option that ends in `c`, as `-c` and `-lc` do.
fn scripts<'a>(words: &'a [&'a [u8]]) -> impl Iterator<Item = &'a [u8]> {
    let is_command_option = |word: &&[u8]| word.starts_with(b"-") && !word.starts_with(b"--") && word.ends_with(b"c");
    words.iter().copied().skip_while(move |word| !is_command_option(word)).skip(1)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn identity<W: World>(world: &W, pid: Pid) -> Option<Identity> {
    let process = world.pin(pid).ok()??;
    match world.observe(&process) {
        Observation::Seen(identity) => Some(identity),
        Observation::Gone | Observation::Unreadable(_) => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn origin_of(text: &str, harness: Harness, event: Event) -> Origin {
        match parse(text.as_bytes()) {
            Reading::Object(payload) => recognise(&payload, harness, event),
            other => panic!("{other:?}"),
        }
    }

    /// What each harness says at the end of a turn.
    pub(in crate::hooks) const ENDS: [(Harness, &str); 6] = [
        (
            Harness::Claude,
            r#"{"session_id":"s","transcript_path":"/t","cwd":"/c","permission_mode":"default","prompt_id":"p",
                "hook_event_name":"Stop","stop_hook_active":false,"last_assistant_message":"done","background_tasks":[]}"#,
        ),
        (
            Harness::Codex,
            r#"{"session_id":"s","turn_id":"t","transcript_path":null,"cwd":"/c","hook_event_name":"Stop","model":"m",
                "permission_mode":"default","stop_hook_active":false,"last_assistant_message":null}"#,
        ),
        (
            Harness::Cursor,
            r#"{"conversation_id":"c","generation_id":"g","model":"m","hook_event_name":"stop","cursor_version":"2",
                "workspace_roots":["/c"],"status":"completed","loop_count":0}"#,
        ),
        (
            Harness::Gemini,
            r#"{"session_id":"s","transcript_path":"/t","cwd":"/c","hook_event_name":"AfterAgent",
                "timestamp":"2026-08-21T00:00:00Z","prompt":"p","prompt_response":"r","stop_hook_active":false}"#,
        ),
        (
            Harness::Grok,
            r#"{"hookEventName":"stop","sessionId":"s","cwd":"/c","workspaceRoot":"/c","timestamp":"2026","promptId":"p",
                "reason":"end_turn","stopHookActive":false,"lastAssistantMessage":"done"}"#,
        ),
        (
            Harness::Kimi,
            r#"{"hook_event_name":"Stop","session_id":"s","session_title":"t","client_type":"cli","cwd":"/c"}"#,
        ),
    ];

    #[test]
    fn each_harness_is_answered_in_its_own_entry_and_in_no_other() {
        for (runs, payload) in ENDS {
            for (entry, _) in ENDS {
                let expected = if runs == entry { Origin::Expected } else { Origin::Other };
                assert_eq!(origin_of(payload, entry, Event::TurnEnd), expected, "{runs} runs the entry of {entry}");
            }
        }
    }

    #[test]
    fn an_entry_is_silent_at_a_moment_that_it_is_not_for() {
        let start = r#"{"session_id":"s","hook_event_name":"SubagentStop"}"#;
        assert_eq!(origin_of(start, Harness::Claude, Event::TurnEnd), Origin::Other);
        let start = r#"{"session_id":"s","hook_event_name":"SessionStart","source":"startup"}"#;
        assert_eq!(origin_of(start, Harness::Codex, Event::SessionStart), Origin::Expected);
        assert_eq!(origin_of(start, Harness::Codex, Event::TurnEnd), Origin::Other);
        let shell = r#"{"conversation_id":"c","cursor_version":"2","hook_event_name":"beforeShellExecution"}"#;
        assert_eq!(origin_of(shell, Harness::Cursor, Event::PreTool), Origin::Expected);
    }

    #[test]
    fn an_entry_that_grok_runs_is_silent_even_without_its_mark() {
        let payload = |text: &str| match parse(text.as_bytes()) {
            Reading::Object(payload) => payload,
            other => panic!("{other:?}"),
        };
        let in_a_hook_of_grok = Environment::from_pairs([("GROK_HOOK_EVENT", "stop")]);
        let plain = payload(r#"{"session_id":"s","hook_event_name":"Stop"}"#);
        assert!(is_run_by_grok(Harness::Claude, &plain, &in_a_hook_of_grok));
        assert!(!is_run_by_grok(Harness::Grok, &plain, &in_a_hook_of_grok));
        assert!(!is_run_by_grok(Harness::Claude, &payload(ENDS[0].1), &in_a_hook_of_grok));
        let elsewhere = Environment::from_pairs([("GROK_SESSION_ID", "s")]);
        assert!(!is_run_by_grok(Harness::Claude, &plain, &elsewhere));
    }

    #[test]
    fn a_harness_that_comes_to_say_the_time_is_not_taken_for_another() {
        let stop = r#"{"session_id":"s","hook_event_name":"Stop","prompt_id":"p","timestamp":"2027"}"#;
        assert_eq!(origin_of(stop, Harness::Claude, Event::TurnEnd), Origin::Expected);
    }

    #[test]
    fn a_payload_without_marks_is_never_cursors_or_groks() {
        for harness in Harness::ALL {
            let expected =
                if matches!(harness, Harness::Cursor | Harness::Grok) { Origin::Other } else { Origin::Expected };
            assert_eq!(origin_of(r#"{"session_id":"s"}"#, harness, Event::TurnEnd), expected);
        }
    }

    fn is_passed_over(words: &[&str]) -> bool {
        runs_only_a_hook(format!("{}\0", words.join("\0")).as_bytes())
    }

    #[test]
    fn what_runs_only_a_hook_is_passed_over() {
        let call = "fm-watch hook --harness claude --event turn-end";
        let guarded = format!("command -v fm-watch >/dev/null 2>&1 || exit 0; exec {call}");
        for words in [
            &["/bin/sh", "-c", call][..],
            &["zsh", "-lc", call],
            &["bash", "-l", "-c", &guarded],
            &["bash", "-c", "--", call],
            &["timeout", "9", "fm-watch", "hook", "--harness", "kimi", "--event", "turn-end"],
            &["env", "X=1", "/x/fm-watch", "hook", "--event", "turn-end", "--harness=kimi"],
        ] {
            assert!(is_passed_over(words), "{words:?}");
        }
    }

    #[test]
    fn an_agent_is_not_whatever_it_speaks_of() {
        let prompt = "run fm-watch hook --harness claude --event turn-end and tell me what it says";
        for words in [
            &["claude"][..],
            &["claude", "-p", prompt],
            &["node", "/x/codex.js", "exec", prompt],
            &["orchestrator", "--harness", "claude"],
            &["sh", "-c", "claude --harness x"],
            &[""],
        ] {
            assert!(!is_passed_over(words), "{words:?}");
        }
    }
}
