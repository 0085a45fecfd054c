//! The monitor's own word to the client that started it: one JSON object per line on a pipe.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::system::identity::Pid;
use crate::system::status_pipe::Status;

/// What a monitor may say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "lowercase")]
pub enum MonitorWord {
    /// The daemon's process exists and is recorded; it is about to execute its program.
    Forked {
        /// The daemon.
        pid: Pid,
        /// Its life.
        generation: u64,
    },
    /// It is ready. The last word.
    Ready {
        /// The daemon.
        pid: Pid,
        /// Its life.
        generation: u64,
        /// How long it took.
        #[serde(with = "milliseconds")]
        after: Duration,
    },
    /// There is another monitor, or the daemon lives already. The last word.
    Lost,
    /// The daemon cannot be had. The last word.
    Failed {
        /// Why.
        reason: String,
    },
}

impl Status for MonitorWord {
    fn is_last(&self) -> bool {
        !matches!(self, Self::Forked { .. })
    }
}

/// Times in records are whole milliseconds.
pub mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// As a number.
    ///
    /// # Errors
    /// Those of the format.
    pub fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    /// From a number.
    ///
    /// # Errors
    /// Those of the format.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}
