//! What could not be read, for people.

use std::fmt;

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
