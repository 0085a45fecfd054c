//! The agent harnesses that are known: their names, and nothing of what they do.

// A terminal shows the variants' docs as they are, so names are not marked up.
#![allow(clippy::doc_markdown)]

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A program in which an agent's session runs. Its word is part of entries in settings files and never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Harness {
    /// Claude Code
    #[value(alias = "claude-code")]
    Claude,
    /// Codex CLI
    #[value(alias = "codex-cli")]
    Codex,
    /// Cursor, the editor and `cursor-agent`
    #[value(alias = "cursor-agent")]
    Cursor,
    /// Gemini CLI
    #[value(alias = "gemini-cli")]
    Gemini,
    /// Grok Build CLI
    #[value(alias = "grok-build")]
    Grok,
    /// Kimi Code
    #[value(alias = "kimi-code")]
    Kimi,
    /// OpenCode, through a plugin
    #[value(name = "opencode", alias = "open-code")]
    OpenCode,
    /// Pi, through an extension
    Pi,
}

impl Harness {
    /// All of them, in the order of their words.
    pub const ALL: [Self; 8] =
        [Self::Claude, Self::Codex, Self::Cursor, Self::Gemini, Self::Grok, Self::Kimi, Self::OpenCode, Self::Pi];

    /// What it is called on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Codex => "codex",
            Self::Cursor => "cursor",
            Self::Gemini => "gemini",
            Self::Grok => "grok",
            Self::Kimi => "kimi",
            Self::OpenCode => "opencode",
            Self::Pi => "pi",
        }
    }

    /// What people call it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Claude => "Claude Code",
            Self::Codex => "Codex CLI",
            Self::Cursor => "Cursor",
            Self::Gemini => "Gemini CLI",
            Self::Grok => "Grok Build",
            Self::Kimi => "Kimi Code",
            Self::OpenCode => "OpenCode",
            Self::Pi => "Pi",
        }
    }
}

impl fmt::Display for Harness {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
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
