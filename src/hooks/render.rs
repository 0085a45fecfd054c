//! A decision as the bytes and the exit code that a harness understands.
//!
//! Each harness has a contract of its own: one discards an object with a field too many, one takes any text on stdout for
//! context, one takes exit code 2 for "wake me", and one reads stderr when stdout is empty. So there is one small
//! function per moment, and it can build nothing but the forms that the contract of that harness names. What a harness
//! cannot express becomes the weakest thing it can: a note on stderr, or nothing.

use serde_json::{Value, json};

use super::decision::{Decision, Message};
use super::event::Event;
use super::harness::Harness;

/// What a hook leaves behind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
    /// The exit code.
    pub code: u8,
}

/// The one exit code besides 0 that has a meaning for harnesses.
const HELD: u8 = 2;

impl Answer {
    fn json(value: &Value) -> Self {
        Self { stdout: format!("{value}\n"), ..Self::default() }
    }

    fn text(message: &Message) -> Self {
        Self { stdout: format!("{}\n", message.as_str()), ..Self::default() }
    }

    fn held(message: &Message) -> Self {
        Self { stderr: format!("{}\n", message.as_str()), code: HELD, ..Self::default() }
    }

    /// One line for whoever looks at what hooks say; it changes nothing.
    pub fn note(harness: Harness, text: &str) -> Self {
        let line = crate::base::escape::line(text);
        // Gemini reads stderr as the answer when stdout is empty.
        let stdout = if harness == Harness::Gemini { "{}\n".to_owned() } else { String::new() };
        Self { stdout, stderr: format!("{line}\n"), code: 0 }
    }
}

/// The answer of a harness's hook.
pub fn render(harness: Harness, event: Event, decision: &Decision) -> Answer {
    match decision {
        Decision::Silent => Answer::default(),
        Decision::Tell(message) => tell(harness, event, message),
        Decision::Deny(message) => deny(harness, event, message),
        Decision::Hold(message) => hold(harness, event, message),
        Decision::LetGo(message) => let_go(harness, event, message),
        Decision::Wake(message) => wake(harness, event, message),
    }
}

/// Gives the agent a fact, where the harness passes one on.
fn tell(harness: Harness, event: Event, message: &Message) -> Answer {
    let envelope = |name: &str| {
        Answer::json(&json!({"hookSpecificOutput": {"hookEventName": name, "additionalContext": message.as_str()}}))
    };
    match (harness, event) {
        (Harness::Claude, Event::SessionStart | Event::UserPrompt) | (Harness::Kimi, Event::UserPrompt) => {
            Answer::text(message)
        }
        (Harness::Codex | Harness::Gemini, Event::SessionStart) => envelope("SessionStart"),
        (Harness::Codex, Event::UserPrompt) => envelope("UserPromptSubmit"),
        (Harness::Cursor, Event::SessionStart) => Answer::json(&json!({"additional_context": message.as_str()})),
        (Harness::OpenCode | Harness::Pi, Event::SessionStart | Event::UserPrompt) => {
            Answer::json(&json!({"context": message.as_str()}))
        }
        _ => Answer::default(),
    }
}

/// Keeps a tool from running.
fn deny(harness: Harness, event: Event, message: &Message) -> Answer {
    if event != Event::PreTool {
        return Answer::default();
    }
    let reason = message.as_str();
    match harness {
        Harness::Claude | Harness::Codex => Answer::json(&json!({"hookSpecificOutput": {
            "hookEventName": "PreToolUse",
            "permissionDecision": "deny",
            "permissionDecisionReason": reason,
        }})),
        Harness::Cursor => {
            Answer::json(&json!({"permission": "deny", "user_message": reason, "agent_message": reason}))
        }
        Harness::Gemini | Harness::Grok => Answer::json(&json!({"decision": "deny", "reason": reason})),
        Harness::Kimi => Answer::held(message),
        Harness::OpenCode | Harness::Pi => Answer::json(&json!({"deny": reason})),
    }
}

/// Keeps a turn from ending, or has it followed by another one.
fn hold(harness: Harness, event: Event, message: &Message) -> Answer {
    if event != Event::TurnEnd {
        return Answer::default();
    }
    let reason = message.as_str();
    match harness {
        Harness::Claude | Harness::Codex | Harness::Grok => {
            Answer::json(&json!({"decision": "block", "reason": reason}))
        }
        Harness::Gemini => Answer::json(&json!({"decision": "deny", "reason": reason})),
        Harness::Cursor => Answer::json(&json!({"followup_message": reason})),
        Harness::Kimi => Answer::held(message),
        Harness::OpenCode | Harness::Pi => Answer::json(&json!({"follow_up": reason})),
    }
}

/// Lets a turn end and says what is wrong, to a person if the harness has a way.
fn let_go(harness: Harness, event: Event, message: &Message) -> Answer {
    match (harness, event) {
        (Harness::Claude, Event::TurnEnd) => Answer::json(&json!({"systemMessage": message.as_str()})),
        (_, Event::TurnEnd) => Answer::note(harness, message.as_str()),
        _ => Answer::default(),
    }
}

/// Wakes an idle session.
fn wake(harness: Harness, event: Event, message: &Message) -> Answer {
    match (harness, event) {
        (Harness::Claude, Event::Wait) => Answer::held(message),
        _ => Answer::default(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hooks::contract::is_allowed;

    fn decisions(text: &str) -> [Decision; 6] {
        let message = || Message::new(text);
        [
            Decision::Silent,
            Decision::Tell(message()),
            Decision::Deny(message()),
            Decision::Hold(message()),
            Decision::LetGo(message()),
            Decision::Wake(message()),
        ]
    }

    proptest! {
        #[test]
        fn no_harness_gets_a_byte_that_its_contract_does_not_allow(text in any::<String>()) {
            for harness in Harness::ALL {
                for event in Event::ALL {
                    for decision in decisions(&text) {
                        let answer = render(harness, event, &decision);
                        prop_assert!(is_allowed(harness, event, &answer), "{harness} {event} {decision:?} {answer:?}");
                    }
                    prop_assert!(is_allowed(harness, event, &Answer::note(harness, &text)));
                }
            }
        }
    }

    #[test]
    fn the_second_telling_of_the_contracts_refuses_what_they_do_not_name() {
        let json = |text: &str| Answer { stdout: text.to_owned(), ..Answer::default() };
        let held = Answer { stderr: "x".to_owned(), code: 2, ..Answer::default() };
        for (harness, event, answer) in [
            (Harness::Codex, Event::TurnEnd, json(r#"{"decision":"block"}"#)),
            (Harness::Codex, Event::TurnEnd, json(r#"{"decision":"block","reason":"r","continue":true}"#)),
            (Harness::Codex, Event::TurnEnd, json("plain text")),
            (Harness::Gemini, Event::TurnEnd, Answer { stderr: "x".to_owned(), ..Answer::default() }),
            (Harness::Cursor, Event::TurnEnd, held.clone()),
            (Harness::Claude, Event::SessionStart, held.clone()),
            (Harness::Claude, Event::TurnEnd, Answer { code: 1, ..Answer::default() }),
            (Harness::Grok, Event::SessionStart, json(r#"{"context":"x"}"#)),
        ] {
            assert!(!is_allowed(harness, event, &answer), "{harness} {event} {answer:?}");
        }
        assert!(!is_allowed(Harness::Kimi, Event::TurnEnd, &Answer { stderr: String::new(), ..held }));
    }

    #[test]
    fn every_harness_can_hold_a_turn_and_deny_a_tool() {
        for harness in Harness::ALL {
            let silent = Answer::default();
            let message = Message::new("x");
            assert_ne!(render(harness, Event::TurnEnd, &Decision::Hold(message.clone())), silent);
            assert_ne!(render(harness, Event::TurnEnd, &Decision::LetGo(message.clone())), silent);
            assert_ne!(render(harness, Event::PreTool, &Decision::Deny(message)), silent);
        }
    }
}
