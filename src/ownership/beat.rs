//! `beat.json`: the loop's own sign of life.
//!
//! Only the work loop beats, so a fresh beat means that the loop goes round, not that some timer thread is alive. A
//! beat counts only if it carries the nonce and the generation of the recorded holder and was made in this boot;
//! ages are differences of `CLOCK_MONOTONIC`, so neither a stepped wall clock nor a closed lid makes one late. The
//! same time is published in the kernel beside the lock, and the newer of the two counts: a disk that cannot be
//! written never makes a healthy watcher look stuck.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The longest record that is read, in bytes.
pub const LIMIT: usize = 64 * 1024;

/// One beat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Version of this format; fields are only ever added.
    pub schema: u32,
    /// The acquisition of the one who beats.
    pub generation: u64,
    /// The nonce of that acquisition.
    pub nonce: String,
    /// Its pid, for people.
    pub pid: u32,
    /// Grows by one with each beat.
    pub counter: u64,
    /// When, in milliseconds since 1970 (for people).
    pub at: i64,
    /// The boot in which it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// When, in milliseconds of the clock that does not count suspend.
    pub monotonic_ms: u64,
    /// The poll interval in force, in milliseconds: the settings may have been read again.
    #[serde(default)]
    pub poll_ms: u64,
    /// What works only in a slower or poorer way at present, in words.
    #[serde(default)]
    pub degraded: Vec<String>,
}

impl Beat {
    /// Reads a record; a damaged one is none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// When it was made, on the clock that does not count suspend.
    pub fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_ms)
    }
}
