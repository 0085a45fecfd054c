//! `owner.json`: who holds the lock, as the holder itself wrote it down.
//!
//! The record informs and never decides: a torn, missing or forged one changes nothing about who holds the lock. The
//! holder rewrites it when it finds it damaged, and leaves when it finds another holder's valid record of a later
//! generation. Unknown fields, which a newer version may have written, are ignored.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::identity::{Identity, Pid};

/// The longest record that is read, in bytes.
pub const LIMIT: usize = 64 * 1024;

/// The record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Version of this format; fields are only ever added.
    pub schema: u32,
    /// The number of the acquisition.
    pub generation: u64,
    /// A random number in hexadecimal that names this one acquisition.
    pub nonce: String,
    /// Which process it is.
    #[serde(flatten)]
    pub identity: Identity,
    /// Inode of its time namespace: its times can be compared only with those of the same one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_namespace: Option<u64>,
    /// The directory outside the home in which its lock is, if that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_dir: Option<PathBuf>,
    /// The machine's name, for people.
    #[serde(default)]
    pub host: String,
    /// The home it serves, for people: homes are compared by device and inode.
    #[serde(default)]
    pub home: PathBuf,
    /// The version of the program.
    #[serde(default)]
    pub version: String,
    /// When the lock was taken, in milliseconds since 1970 (for people).
    #[serde(default)]
    pub since: i64,
    /// When the lock was taken, in milliseconds of the clock that does not count suspend.
    #[serde(default)]
    pub since_monotonic_ms: u64,
    /// The holder's poll interval in milliseconds.
    #[serde(default)]
    pub poll_ms: u64,
    /// Without a beat for so long, in milliseconds, the holder counts as stuck.
    #[serde(default)]
    pub stuck_after_ms: u64,
    /// Set by the holder as its last act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Departure>,
}

/// How a holder left on its own feet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departure {
    /// When, in milliseconds since 1970 (for people).
    pub at: i64,
    /// Why, in a few words.
    pub how: String,
}

impl Owner {
    /// The recorded pid.
    pub fn pid(&self) -> Pid {
        self.identity.pid
    }

    /// Reads a record. The text of the error is for people.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| format!("damaged: {error}"))
    }
}

/// `stop.json`: a person asked this acquisition to end, so nobody should replace it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRequest {
    /// Version of this format.
    pub schema: u32,
    /// Which acquisition.
    pub generation: u64,
    /// When, in milliseconds since 1970 (for people).
    pub at: i64,
}
