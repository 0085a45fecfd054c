//! How the journal refuses, and what of it could not be read.

use std::fmt;
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

/// Something in the journal's directory that is not what it should be. Everything else was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The name of the file in the journal's directory.
    pub file: String,
    /// What is wrong with it.
    pub harm: Harm,
}

/// How a file is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Harm {
    /// The end of a segment is not a wake: a writer died, the disk was full, or the power failed.
    TornTail {
        /// Where it begins, in bytes.
        offset: u64,
        /// How many bytes.
        length: u64,
    },
    /// Bytes before a whole wake are none: they were changed after they were written.
    Middle {
        /// Where they begin, in bytes.
        offset: u64,
        /// How many bytes.
        length: u64,
    },
    /// The file as a whole cannot be used, for this reason.
    Whole(String),
}

impl Damage {
    /// Damage to a file as a whole.
    pub(crate) fn whole(file: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { file: file.into(), harm: Harm::Whole(reason.into()) }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = &self.file;
        match &self.harm {
            Harm::TornTail { offset, length } => {
                write!(formatter, "{file}: the last {length} bytes (from offset {offset}) are not a whole wake")
            }
            Harm::Middle { offset, length } => {
                write!(
                    formatter,
                    "{file}: {length} bytes at offset {offset} are damaged; the wakes around them are not"
                )
            }
            Harm::Whole(reason) => write!(formatter, "{file}: {reason}"),
        }
    }
}
