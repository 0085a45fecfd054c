//! What is known of an agent harness, as one value.
//!
//! Everything in which harnesses differ is a field of [`Profile`]; the rest of the program asks the profile and never by
//! name. Each harness has a file of its own with its profile and, as a function, its contract: what its hooks may answer.

// A terminal shows the variants' docs as they are, so names are not marked up.
#![expect(clippy::doc_markdown, reason = "the docs of the variants are the help of the command line")]

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::hooks::answer::Answer;
use crate::hooks::decision::{Decision, Waking};
use crate::hooks::event::Event;

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
        self.profile().word
    }

    /// What people call it.
    pub fn title(self) -> &'static str {
        self.profile().title
    }
}

impl fmt::Display for Harness {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

/// All in which one harness differs from another.
#[derive(Debug)]
pub struct Profile {
    /// What it is called on the command line.
    pub word: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// How an idle session learns of a wake.
    pub waking: Waking,

    /// The fields of a payload that name the session; the first one that is there counts.
    pub session_fields: &'static [&'static str],
    /// What only its payloads have, if anything.
    pub mark: Option<Mark>,
    /// What it calls a moment, in lower case and without `_`, where that is not the usual name.
    pub own_names: &'static [(Event, &'static [&'static str])],

    /// What a decision becomes at a moment; `None`: it cannot be expressed.
    pub answer: fn(Event, &Decision) -> Option<Answer>,
    /// What stdout has to be where there is nothing to answer and something is on stderr.
    pub empty_answer: &'static str,

    /// What its file of hooks is made of.
    pub form: Form,
    /// Where the file of a user is.
    pub user_file: UserFile,
    /// Where that of a project is, from the project's directory. `None`: it has no hooks of a project.
    pub project_file: Option<&'static str>,
    /// The entries, in the order of a session. None where there are no command hooks.
    pub moments: &'static [Moment],
    /// So many of its units of a timeout are one second.
    pub timeout_units: u32,
    /// Whether it takes every failure of a hook for a refusal.
    pub refuses_on_failure: bool,
    /// How entries stand in the lists of a JSON file.
    pub layout: Layout,

    /// What turns all hooks off.
    pub switches: &'static [Switch],
    /// A file beside those of hooks that has such switches, too.
    pub switches_beside: Option<&'static str>,
    /// Where a JSON file keeps the commands of hooks that a person has turned off one by one.
    pub disabled: Option<&'static [&'static str]>,
    /// The harnesses whose files it reads as well.
    pub also_reads: &'static [Harness],
    /// Whether it runs a command once that stands in its files more often.
    pub runs_once: bool,
    /// What has to be trusted before entries run.
    pub trust: Trust,
    /// Whether it runs hooks in a login shell.
    pub has_login_shell: bool,
}

/// Fields that only one harness's payloads have.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    /// Whose marks are looked for first, for a payload with those of several.
    pub rank: u8,
    /// A payload that has all fields of one of these sets has the mark.
    pub any_of: &'static [&'static [&'static str]],
    /// Whether none of its payloads is without the mark.
    pub is_always_there: bool,
}

/// A moment for which there is an entry.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// In our words.
    pub event: Event,
    /// In the harness's words.
    pub name: &'static str,
    /// Of which tools, for a harness that asks.
    pub matcher: Option<&'static str>,
}

/// What a file of hooks is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// JSON, perhaps with comments, shared with other settings.
    Json,
    /// TOML, shared with other settings.
    Toml,
    /// Code in a file of its own: this, with places for what differs from one installation to another.
    Plugin(&'static str),
}

/// Where the file of a user is. The directories on the way from the one that is there anyway are the harness's own.
#[derive(Debug, Clone, Copy)]
pub enum UserFile {
    /// At this way from the home directory.
    InHome(&'static str),
    /// Unless this variable names another directory, from where the first way counts, at the second from the home directory.
    Movable(&'static str, &'static str, &'static str),
    /// At this way from the directory for configuration, in which others have files, too.
    InConfiguration(&'static str),
}

/// How entries stand in the lists of a JSON file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// In groups.
    Groups,
    /// As they are; and the file must have a version.
    Flat,
}

/// A value in a file that turns all hooks off.
#[derive(Debug, Clone, Copy)]
pub struct Switch {
    /// In files of this form.
    pub form: Form,
    /// The keys that lead to it.
    pub path: &'static [&'static str],
    /// What it is when hooks are off.
    pub off: bool,
}

/// What has to be trusted before entries run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Each entry, by its number; it is recorded which ones are.
    Recorded,
    /// A project for its entries to run; nothing can be read of it.
    Projects(&'static str),
    /// Something else, or nothing; nothing can be read of it.
    Unknown(&'static str),
}

impl Moment {
    pub(super) const fn new(event: Event, name: &'static str) -> Self {
        Self { event, name, matcher: None }
    }

    pub(super) const fn of_tool(event: Event, name: &'static str, tool: &'static str) -> Self {
        Self { event, name, matcher: Some(tool) }
    }
}

/// The moments under the names that most harnesses took over from Claude Code.
pub(super) const USUAL_MOMENTS: &[Moment] = &[
    Moment::new(Event::SessionStart, "SessionStart"),
    Moment::new(Event::UserPrompt, "UserPromptSubmit"),
    Moment::new(Event::PreTool, "PreToolUse"),
    Moment::new(Event::TurnEnd, "Stop"),
];

impl Profile {
    /// What most harnesses have in common, to start a profile from.
    pub(super) const USUAL: Self = Self {
        word: "",
        title: "",
        waking: Waking::Otherwise,
        session_fields: &["session_id", "sessionID", "sessionId"],
        mark: None,
        own_names: &[],
        answer: |_, _| None,
        empty_answer: "",
        form: Form::Json,
        user_file: UserFile::InHome(""),
        project_file: None,
        moments: &[],
        timeout_units: 1,
        refuses_on_failure: false,
        layout: Layout::Groups,
        switches: &[],
        switches_beside: None,
        disabled: None,
        also_reads: &[],
        runs_once: false,
        trust: Trust::Unknown("nothing is known of a trust in hooks"),
        has_login_shell: false,
    };
}
