//! The moments of a session at which a harness runs a hook, under one name for all harnesses.

use std::fmt;

use clap::ValueEnum;

/// A moment of a session. Its word is part of entries in settings files and never changes. For entries that are written by
/// hand, it also has the names that the vendors give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
pub enum Event {
    /// A session begins or goes on
    #[value(aliases = ["sessionstart", "session_start"])]
    SessionStart,
    /// A person has sent a prompt
    #[value(aliases = ["userpromptsubmit", "user-prompt-submit", "beforesubmitprompt", "beforeagent"])]
    UserPrompt,
    /// A tool is about to run
    #[value(aliases = ["pretooluse", "pre-tool-use", "beforeshellexecution", "beforetool"])]
    PreTool,
    /// The agent wants to end its turn
    #[value(aliases = ["stop", "afteragent", "turn_end"])]
    TurnEnd,
    /// Wait for a wake, and wake the session (Claude Code only, with asyncRewake)
    #[value(aliases = ["asyncrewake", "waiter"])]
    Wait,
}

impl Event {
    /// All of them, in the order of a session.
    pub const ALL: [Self; 5] = [Self::SessionStart, Self::UserPrompt, Self::PreTool, Self::TurnEnd, Self::Wait];

    /// What it is called on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::SessionStart => "session-start",
            Self::UserPrompt => "user-prompt",
            Self::PreTool => "pre-tool",
            Self::TurnEnd => "turn-end",
            Self::Wait => "wait",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_is_the_one_of_the_command_line() {
        for event in Event::ALL {
            let flag = event.to_possible_value().map(|value| value.get_name().to_owned());
            assert_eq!(flag.as_deref(), Some(event.word()));
        }
    }

    #[test]
    fn the_vendors_names_are_understood_as_well() {
        for (name, event) in [("Stop", Event::TurnEnd), ("AfterAgent", Event::TurnEnd), ("PreToolUse", Event::PreTool)]
        {
            assert_eq!(Event::from_str(name, true).as_ref(), Ok(&event), "{name}");
        }
    }
}
