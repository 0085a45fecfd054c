//! The bytes and the exit code that a harness understands.
//!
//! Each harness has a contract of its own: one discards an object with a field too many, one takes any text on stdout for
//! context, one takes exit code 2 for "wake me", and one reads stderr when stdout is empty. So each has one small function,
//! in its file under [`super::harness`], that can build nothing but the forms that its contract names; they stand here, as
//! several share them. What a harness cannot express becomes the weakest thing it can: a note on stderr, or nothing.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::decision::{Decision, Message};
use super::event::Event;
use crate::base::exit;

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
    /// Says it, and gives the exit code. A harness that does not listen any more has made up its mind.
    pub fn leave(&self) -> u8 {
        if self.say().is_ok() { self.code } else { exit::OK }
    }

    /// Says it to the harness.
    ///
    /// # Errors
    /// Nobody reads.
    pub fn say(&self) -> io::Result<()> {
        let (mut stdout, mut stderr) = (io::stdout().lock(), io::stderr().lock());
        stdout.write_all(self.stdout.as_bytes()).and_then(|()| stdout.flush())?;
        stderr.write_all(self.stderr.as_bytes()).and_then(|()| stderr.flush())
    }

    /// One line for whoever looks at what hooks say, beside what stdout has to be; it changes nothing.
    pub(super) fn note(stdout: &str, text: &str) -> Self {
        let line = crate::base::escape::line(text);
        Self { stdout: stdout.to_owned(), stderr: format!("{line}\n"), code: 0 }
    }

    pub(super) fn json(value: &Value) -> Self {
        Self { stdout: format!("{value}\n"), ..Self::default() }
    }

    pub(super) fn text(message: &Message) -> Self {
        Self { stdout: format!("{}\n", message.as_str()), ..Self::default() }
    }

    /// What stops a harness that goes by the exit code.
    pub(super) fn held(message: &Message) -> Self {
        Self { stderr: format!("{}\n", message.as_str()), code: HELD, ..Self::default() }
    }

    /// A fact for the agent, in the envelope of an event.
    pub(super) fn context(event: &str, message: &Message) -> Self {
        Self::json(&json!({"hookSpecificOutput": {"hookEventName": event, "additionalContext": message.as_str()}}))
    }

    /// The refusal of a tool, in the envelope of its event.
    pub(super) fn permission_denied(reason: &Message) -> Self {
        Self::json(&json!({"hookSpecificOutput": {
            "hookEventName": "PreToolUse",
            "permissionDecision": "deny",
            "permissionDecisionReason": reason.as_str(),
        }}))
    }

    /// A decision in one word, and why.
    pub(super) fn decided(decision: &str, reason: &Message) -> Self {
        Self::json(&json!({"decision": decision, "reason": reason.as_str()}))
    }

    /// What a plugin of ours understands: the decision under one name.
    pub(super) fn of_plugin(event: Event, decision: &Decision) -> Option<Self> {
        let (name, message) = match (event, decision) {
            (Event::SessionStart | Event::UserPrompt, Decision::Tell(message)) => ("context", message),
            (Event::PreTool, Decision::Deny(message)) => ("deny", message),
            (Event::TurnEnd, Decision::Hold(message)) => ("follow_up", message),
            _ => return None,
        };
        Some(Self::json(&json!({ name: message.as_str() })))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hooks::contract::is_allowed;
    use crate::hooks::harness::Harness;

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
                        let answer = harness.answer(event, &decision);
                        prop_assert!(is_allowed(harness, event, &answer), "{harness} {event} {decision:?} {answer:?}");
                    }
                    prop_assert!(is_allowed(harness, event, &harness.note(&text)));
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
            assert_ne!(harness.answer(Event::TurnEnd, &Decision::Hold(message.clone())), silent);
            assert_ne!(harness.answer(Event::TurnEnd, &Decision::LetGo(message.clone())), silent);
            assert_ne!(harness.answer(Event::PreTool, &Decision::Deny(message)), silent);
        }
    }
}
