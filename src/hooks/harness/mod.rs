//! The agent harnesses that are known, one file each.
//!
//! To add one, write its file, and name it here and in [`Harness`].

mod claude;
mod codex;
mod cursor;
mod gemini;
mod grok;
mod kimi;
mod opencode;
mod pi;
mod profile;

use super::answer::Answer;
use super::decision::Decision;
use super::event::Event;

pub use self::profile::{Form, Harness, Layout, Moment, Profile, Trust, UserFile};

impl Harness {
    /// All that is known of it.
    pub fn profile(self) -> &'static Profile {
        match self {
            Self::Claude => &claude::PROFILE,
            Self::Codex => &codex::PROFILE,
            Self::Cursor => &cursor::PROFILE,
            Self::Gemini => &gemini::PROFILE,
            Self::Grok => &grok::PROFILE,
            Self::Kimi => &kimi::PROFILE,
            Self::OpenCode => &opencode::PROFILE,
            Self::Pi => &pi::PROFILE,
        }
    }

    /// What its hook answers. What it cannot express becomes the weakest thing it can: a note on stderr, or nothing.
    pub fn answer(self, event: Event, decision: &Decision) -> Answer {
        let expressed = (self.profile().answer)(event, decision);
        expressed.unwrap_or_else(|| match (event, decision) {
            (Event::TurnEnd, Decision::LetGo(message)) => self.note(message.as_str()),
            _ => Answer::default(),
        })
    }

    /// One line for whoever looks at what hooks say; it changes nothing.
    pub fn note(self, text: &str) -> Answer {
        Answer::note(self.profile().empty_answer, text)
    }

    /// That there is no answer, and why.
    pub fn failure(self, why: &str) -> Answer {
        self.note(&format!("fm-watch: the hook has no answer: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn the_word_is_the_same_on_the_command_line_and_in_a_record() {
        for harness in Harness::ALL {
            let flag = harness.to_possible_value().map(|value| value.get_name().to_owned());
            assert_eq!(flag.as_deref(), Some(harness.word()));
            assert_eq!(serde_json::to_value(harness).ok(), Some(harness.word().into()));
        }
    }
}
