//! How the journal refuses.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::base::error::Error;

/// Every way in which an append, an acknowledgement or a compaction fails. Nothing was promised then.
#[derive(Debug, Error)]
pub enum JournalError {
    /// Other processes kept the journal's lock until the deadline. Trying again is right.
    #[error("{}: the lock of the wake journal was held by another process for {waited:?}; try again", path.display())]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The journal is at its limit. The oldest wakes are kept; new ones are refused until some are acknowledged.
    #[error(
        "{}: the wake journal is full ({size} of at most {limit} bytes); nobody acknowledges: run `fm-watch drain`, \
         then `fm-watch ack SEQ`",
        path.display()
    )]
    Full {
        /// The journal's directory.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The most that it may have.
        limit: u64,
    },
    /// A wake was to be acknowledged that was never issued.
    #[error("cannot acknowledge wake {asked}: the last one is {last}; `fm-watch drain` shows the numbers")]
    BeyondLast {
        /// The number that was given.
        asked: u64,
        /// The last one that was issued.
        last: u64,
    },
    /// Anything else.
    #[error(transparent)]
    Other(#[from] Error),
}

impl From<JournalError> for Error {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Other(error) => error,
            other => Self::Failed(other.to_string()),
        }
    }
}
