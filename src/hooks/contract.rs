//! The contracts of the harnesses a second time, for tests: not what to say, but what may be said.

#![expect(clippy::match_same_arms, reason = "the contracts are told one by one")]

use serde_json::Value;

use super::answer::Answer;
use super::event::Event;
use super::harness::Harness;

/// The contracts, said a second time and the other way round: which answers a harness takes at a moment.
pub(super) fn is_allowed(harness: Harness, event: Event, answer: &Answer) -> bool {
    let is_silent = answer.stdout.is_empty() && answer.stderr.is_empty() && answer.code == 0;
    let is_note = answer.code == 0
        && answer.stderr.lines().count() == 1
        && answer.stdout == if harness == Harness::Gemini { "{}\n" } else { "" };
    if is_silent || is_note {
        return true;
    }
    match answer.code {
        2 => takes_exit_2(harness, event) && answer.stdout.is_empty() && !answer.stderr.trim().is_empty(),
        0 if !answer.stderr.is_empty() => false,
        0 => match serde_json::from_str::<Value>(&answer.stdout) {
            Ok(value) => value.is_object() && forms(harness, event).iter().any(|form| has_form(&value, form)),
            Err(_) => takes_text(harness, event) && !answer.stdout.starts_with(['{', '[']),
        },
        _ => false,
    }
}

fn takes_exit_2(harness: Harness, event: Event) -> bool {
    matches!((harness, event), (Harness::Kimi, Event::PreTool | Event::TurnEnd) | (Harness::Claude, Event::Wait))
}

fn takes_text(harness: Harness, event: Event) -> bool {
    matches!(
        (harness, event),
        (Harness::Claude, Event::SessionStart | Event::UserPrompt) | (Harness::Kimi, Event::UserPrompt)
    )
}

/// The keys that an answer must have, all of them and no other; a value after `=` must be that one.
fn forms(harness: Harness, event: Event) -> &'static [&'static [&'static str]] {
    match (harness, event) {
        (Harness::Codex | Harness::Gemini, Event::SessionStart) => {
            &[&["hookSpecificOutput.hookEventName=SessionStart", "hookSpecificOutput.additionalContext"]]
        }
        (Harness::Codex, Event::UserPrompt) => {
            &[&["hookSpecificOutput.hookEventName=UserPromptSubmit", "hookSpecificOutput.additionalContext"]]
        }
        (Harness::Cursor, Event::SessionStart) => &[&["additional_context"]],
        (Harness::OpenCode | Harness::Pi, Event::SessionStart | Event::UserPrompt) => &[&["context"]],
        (Harness::Claude | Harness::Codex, Event::PreTool) => &[&[
            "hookSpecificOutput.hookEventName=PreToolUse",
            "hookSpecificOutput.permissionDecision=deny",
            "hookSpecificOutput.permissionDecisionReason",
        ]],
        (Harness::Cursor, Event::PreTool) => &[&["permission=deny", "user_message", "agent_message"]],
        (Harness::Gemini | Harness::Grok, Event::PreTool) => &[&["decision=deny", "reason"]],
        (Harness::OpenCode | Harness::Pi, Event::PreTool) => &[&["deny"]],
        (Harness::Claude, Event::TurnEnd) => &[&["decision=block", "reason"], &["systemMessage"]],
        (Harness::Codex | Harness::Grok, Event::TurnEnd) => &[&["decision=block", "reason"]],
        (Harness::Gemini, Event::TurnEnd) => &[&["decision=deny", "reason"]],
        (Harness::Cursor, Event::TurnEnd) => &[&["followup_message"]],
        (Harness::OpenCode | Harness::Pi, Event::TurnEnd) => &[&["follow_up"]],
        _ => &[],
    }
}

fn has_form(value: &Value, form: &[&str]) -> bool {
    let mut leaves = Vec::new();
    gather("", value, &mut leaves);
    leaves.len() == form.len()
        && form.iter().all(|wanted| {
            let (path, exact) = wanted.split_once('=').map_or((*wanted, None), |(path, exact)| (path, Some(exact)));
            leaves
                .iter()
                .any(|(leaf, text)| leaf == path && exact.is_none_or(|exact| exact == text) && !text.is_empty())
        })
}

fn gather(path: &str, value: &Value, leaves: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                gather(&if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, inner, leaves);
            }
        }
        other => leaves.push((path.to_owned(), other.as_str().unwrap_or_default().to_owned())),
    }
}
