//! The reason line of each kind of wake, in one place.
//!
//! Scripts read these lines, so their prefixes are a contract: `signal: <file>`, `stale: <window>`,
//! `check: <script>: <output>`, `heartbeat`, `daemon: <name> <what>`, `custom: <key>: <text>`. A signal's path is one
//! word, because several of them share a line when they are shown; the other texts are kept as they are and made safe
//! where they are shown.

use std::path::Path;

use super::record::{Delivery, Draft, Kind, Mark};
use crate::base::escape;

/// Why somebody should act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason<'a> {
    /// A task's status changed or its turn ended.
    Signal {
        /// The absolute path of the file.
        file: &'a Path,
    },
    /// A task's pane stands still.
    Stale {
        /// The window.
        window: &'a str,
    },
    /// A check had something to say.
    Check {
        /// The absolute path of the script.
        script: &'a Path,
        /// What it said.
        output: &'a str,
    },
    /// Nothing happened for long.
    Heartbeat,
    /// Something happened to a kept daemon.
    Daemon {
        /// Its name.
        name: &'a str,
        /// What happened.
        what: &'a str,
    },
    /// A person or a script wants it.
    Custom {
        /// What it is about.
        key: &'a str,
        /// The text.
        text: &'a str,
    },
}

impl Reason<'_> {
    /// The kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Signal { .. } => Kind::Signal,
            Self::Stale { .. } => Kind::Stale,
            Self::Check { .. } => Kind::Check,
            Self::Heartbeat => Kind::Heartbeat,
            Self::Daemon { .. } => Kind::Daemon,
            Self::Custom { .. } => Kind::Custom,
        }
    }

    /// What it is about.
    pub fn key(&self) -> String {
        match self {
            Self::Signal { file } => file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned(),
            Self::Stale { window } => (*window).to_owned(),
            Self::Check { script, .. } => script.to_string_lossy().into_owned(),
            Self::Heartbeat => Kind::Heartbeat.as_str().to_owned(),
            Self::Daemon { name, .. } => (*name).to_owned(),
            Self::Custom { key, .. } => (*key).to_owned(),
        }
    }

    /// The reason line. It may have several lines where an output has.
    pub fn text(&self) -> String {
        let kind = self.kind();
        match self {
            Self::Signal { file } => format!("{kind}: {}", escape::word(&file.to_string_lossy())),
            Self::Stale { window } => format!("{kind}: {window}"),
            Self::Check { script, output } => format!("{kind}: {}: {output}", script.display()),
            Self::Heartbeat => kind.to_string(),
            Self::Daemon { name, what } => format!("{kind}: {name} {what}"),
            Self::Custom { key, text } => format!("{kind}: {key}: {text}"),
        }
    }

    /// A wake for this reason, to be delivered at once, without context.
    pub fn draft(&self, mark: Option<Mark>) -> Draft {
        let (kind, key, text) = (self.kind(), self.key(), self.text());
        Draft { kind, key, text, context: None, mark, delivery: Delivery::Now }
    }
}
