//! Who runs this hook: the harness it was installed for, or another one that loads the file of a neighbour.
//!
//! Cursor and Grok also run what stands in Claude Code's settings. An entry that is run so would be answered twice, in a
//! form that the other harness does not understand, and one that waits would freeze it. So each payload is compared with
//! the marks that only one harness has; whoever is not the one of the entry gets silence.
//!
//! Limits: Claude Code, Codex at its start, and Kimi have payloads without a mark of their own. Those count as whoever the
//! entry names, since none of these loads another's file.

use super::event::Event;
use super::harness::Harness;
use super::payload::{Payload, Reading, parse};
use crate::base::environment::Environment;

/// Whether an entry was run by the one it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// It was, at the moment it is for.
    Expected,
    /// Another harness ran it, or the same one at another moment.
    Other,
}

/// What an entry makes of what it was given.
#[derive(Debug, Clone, PartialEq)]
pub enum Hearing {
    /// Nothing that is meant for it.
    Nothing,
    /// Something that cannot be understood; why not.
    Garbled(String),
    /// What its own harness says.
    Heard(Payload),
}

/// Hears what came on stdin of an entry. Whoever cannot be recognised is not answered.
pub fn hear(bytes: &[u8], harness: Harness, event: Event) -> Hearing {
    match parse(bytes) {
        Reading::Empty => Hearing::Nothing,
        Reading::Broken(why) => Hearing::Garbled(why),
        Reading::Object(payload) => match recognise(&payload, harness, event) {
            Caller::Expected => Hearing::Heard(payload),
            Caller::Other => Hearing::Nothing,
        },
    }
}

/// Compares an entry with the payload it was given.
pub fn recognise(payload: &Payload, harness: Harness, event: Event) -> Caller {
    let is_the_harness = match marked(payload) {
        Some(marked) => marked == harness,
        // These two are never without their mark.
        None => !matches!(harness, Harness::Cursor | Harness::Grok),
    };
    let is_the_moment = payload.event().is_none_or(|name| names(harness, event).contains(&name.as_str()));
    if is_the_harness && is_the_moment { Caller::Expected } else { Caller::Other }
}

/// Whether Grok runs an entry of somebody else. It says so in a variable that it sets for hooks alone; a payload with the mark
/// of the entry's own harness is believed more, since that harness may have been started by a hook of Grok's.
pub fn is_run_by_grok(harness: Harness, payload: &Payload, environment: &Environment) -> bool {
    harness != Harness::Grok && environment.text("GROK_HOOK_EVENT").is_some() && marked(payload) != Some(harness)
}

/// The harness whose mark the payload has.
fn marked(payload: &Payload) -> Option<Harness> {
    let is_plain = payload.has("hook_event_name");
    if payload.has("cursor_version") {
        Some(Harness::Cursor)
    } else if payload.has("hookEventName") {
        Some(Harness::Grok)
    } else if payload.has("turn_id") {
        Some(Harness::Codex)
    } else if payload.has("client_type") {
        Some(Harness::Kimi)
    } else if payload.has("prompt_id") || payload.has("effort") {
        // Before the next one: any harness may come to say when it speaks, and must not fall silent by that.
        Some(Harness::Claude)
    } else if is_plain && payload.has("timestamp") {
        Some(Harness::Gemini)
    } else {
        None
    }
}

/// What a harness calls a moment, in lower case and without `_`.
fn names(harness: Harness, event: Event) -> &'static [&'static str] {
    match (harness, event) {
        (Harness::Cursor, Event::UserPrompt) => &["beforesubmitprompt"],
        (Harness::Cursor, Event::PreTool) => &["pretooluse", "beforeshellexecution"],
        (Harness::Gemini, Event::UserPrompt) => &["beforeagent"],
        (Harness::Gemini, Event::PreTool) => &["beforetool"],
        (Harness::Gemini, Event::TurnEnd) => &["afteragent"],
        (_, Event::SessionStart) => &["sessionstart"],
        (_, Event::UserPrompt) => &["userpromptsubmit"],
        (_, Event::PreTool) => &["pretooluse"],
        (_, Event::TurnEnd) => &["stop"],
        (_, Event::Wait) => &["stop", "sessionstart"],
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn caller(text: &str, harness: Harness, event: Event) -> Caller {
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
                let expected = if runs == entry { Caller::Expected } else { Caller::Other };
                assert_eq!(caller(payload, entry, Event::TurnEnd), expected, "{runs} runs the entry of {entry}");
            }
        }
    }

    #[test]
    fn an_entry_is_silent_at_a_moment_that_it_is_not_for() {
        let start = r#"{"session_id":"s","hook_event_name":"SubagentStop"}"#;
        assert_eq!(caller(start, Harness::Claude, Event::TurnEnd), Caller::Other);
        let start = r#"{"session_id":"s","hook_event_name":"SessionStart","source":"startup"}"#;
        assert_eq!(caller(start, Harness::Codex, Event::SessionStart), Caller::Expected);
        assert_eq!(caller(start, Harness::Codex, Event::TurnEnd), Caller::Other);
        let shell = r#"{"conversation_id":"c","cursor_version":"2","hook_event_name":"beforeShellExecution"}"#;
        assert_eq!(caller(shell, Harness::Cursor, Event::PreTool), Caller::Expected);
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
        assert_eq!(caller(stop, Harness::Claude, Event::TurnEnd), Caller::Expected);
    }

    #[test]
    fn a_payload_without_marks_is_never_cursors_or_groks() {
        for harness in Harness::ALL {
            let expected =
                if matches!(harness, Harness::Cursor | Harness::Grok) { Caller::Other } else { Caller::Expected };
            assert_eq!(caller(r#"{"session_id":"s"}"#, harness, Event::TurnEnd), expected);
        }
    }
}
