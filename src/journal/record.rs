//! A wake: a durable reason to act, and the line in which it says so.
//!
//! Scripts read the reason lines, so their prefixes are a contract: `signal: <file>`, `stale: <window>`,
//! `check: <script>: <output>`, `heartbeat`, `daemon: <name> <what>`, `custom: <key>: <text>`. A signal's path is one
//! word, because several of them share a line when they are shown; the other texts are kept as they are and made safe
//! where they are shown.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of reason it is. The names are what scripts see.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A task's status changed or its turn ended.
    Signal,
    /// A task's pane stands still.
    Stale,
    /// A check had something to say, or fails again and again.
    Check,
    /// Nothing happened for long.
    Heartbeat,
    /// A kept daemon ended, or would not become ready.
    Daemon,
    /// Added by a person or a script.
    Custom,
    /// A kind that a newer version wrote. It is kept and shown under its own name.
    Other(String),
}

impl Kind {
    /// The kinds that may be written today.
    pub const KNOWN: [Self; 6] = [Self::Signal, Self::Stale, Self::Check, Self::Heartbeat, Self::Daemon, Self::Custom];

    /// The name.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Signal => "signal",
            Self::Stale => "stale",
            Self::Check => "check",
            Self::Heartbeat => "heartbeat",
            Self::Daemon => "daemon",
            Self::Custom => "custom",
            Self::Other(name) => name,
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Self {
        let known = Self::KNOWN.into_iter().find(|kind| kind.as_str() == name);
        known.unwrap_or_else(|| Self::Other(name.to_owned()))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Serialize for Kind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from_name(&String::deserialize(deserializer)?))
    }
}

/// How a wake reaches the waiters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Delivery {
    /// At once.
    #[default]
    Now,
    /// Together with the next one that is due at once.
    Batch,
    /// Not at all: only its marker moves.
    Never,
}

/// Which announcement a wake is the record of. The suppression markers in `seen.json` are a summary of these: a
/// watcher that died before it wrote the summary finds the rest in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "kebab-case")]
pub enum Mark {
    /// A signal file, as it was when it was announced.
    Signal {
        /// File name in the state directory.
        file: String,
        /// Size in bytes.
        size: u64,
        /// Modification time in nanoseconds since 1970.
        mtime_ns: i64,
        /// Inode.
        inode: u64,
    },
    /// A pane that stands still with this content.
    Pane {
        /// The window, as recorded in the task's meta file.
        window: String,
        /// A digest of what it shows.
        digest: String,
    },
    /// The heartbeat.
    Heartbeat {
        /// How many came in a row, this one included.
        streak: u32,
    },
    /// A drop-in file of the inbox that is removed once this wake is durable.
    Inbox {
        /// File name in the inbox.
        name: String,
        /// Inode.
        inode: u64,
        /// Size in bytes.
        size: u64,
        /// Modification time in nanoseconds since 1970.
        mtime_ns: i64,
    },
    /// A row that a script of firstmate appended to its wake queue.
    Row {
        /// What the row is known by.
        fingerprint: String,
    },
}

/// A wake that is not written yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// What kind of reason.
    pub kind: Kind,
    /// What it is about: newer wakes of the same kind and key replace older ones when they are shown.
    pub key: String,
    /// The reason line, with its kind as prefix where firstmate's contract has one.
    pub text: String,
    /// What a reader would otherwise have to fetch.
    pub context: Option<String>,
    /// Which announcement it records.
    pub mark: Option<Mark>,
    /// How it reaches the waiters.
    pub delivery: Delivery,
}

impl Draft {
    /// A wake to be delivered at once, without context and mark.
    pub fn new(kind: Kind, key: impl Into<String>, text: impl Into<String>) -> Self {
        Self { kind, key: key.into(), text: text.into(), context: None, mark: None, delivery: Delivery::Now }
    }
}

/// A wake in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wake {
    /// Its number, growing by one with each wake of a home and never used again.
    pub seq: u64,
    /// The acquisition under which it was written.
    pub generation: u64,
    /// When, in milliseconds since 1970 (for people).
    pub at: i64,
    /// What kind of reason.
    pub kind: Kind,
    /// What it is about.
    pub key: String,
    /// The reason line.
    pub text: String,
    /// What a reader would otherwise have to fetch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Which announcement it records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Mark>,
    /// How it reaches the waiters.
    #[serde(default, skip_serializing_if = "is_now")]
    pub delivery: Delivery,
}

// The signature is what `skip_serializing_if` calls for.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_now(delivery: &Delivery) -> bool {
    *delivery == Delivery::Now
}
