//! What a person can act on: what failed, where, why, and what to do next.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A result of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every way in which this library fails. The text is for people; the variant is for programs and stays.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused an operation.
    #[error("cannot {doing} {}: {source}", path.display())]
    System {
        /// What was attempted, as a verb that takes the path as its object.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's own reason.
        source: io::Error,
    },
    /// Something was found that must not be acted on.
    #[error("{}: {found}; {next}", path.display())]
    Refused {
        /// Where.
        path: PathBuf,
        /// What was found there.
        found: String,
        /// What a person should do next.
        next: String,
    },
    /// A setting cannot be understood.
    #[error("{origin}: {problem}; allowed: {allowed}")]
    Setting {
        /// Where the value came from: a file and line, a variable, a flag.
        origin: String,
        /// What is wrong with it.
        problem: String,
        /// What would be right.
        allowed: String,
    },
    /// The command line asks for something that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Anything else, told in one sentence.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// A system error at a path.
    pub(crate) fn system(doing: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::System { doing, path: path.as_ref().to_owned(), source }
    }

    /// A refusal: where, what was found, what to do next.
    pub(crate) fn refused(path: impl AsRef<Path>, found: impl Display, next: impl Display) -> Self {
        Self::Refused { path: path.as_ref().to_owned(), found: found.to_string(), next: next.to_string() }
    }

    /// Whether it only says that a reader went away.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::System { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The exit code with which a command ends on this error.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Setting { .. } | Self::Usage(_) => crate::base::exit::USAGE,
            Self::System { .. } | Self::Refused { .. } | Self::Failed(_) => crate::base::exit::FAILED,
        }
    }
}

/// Adds to a system error what was attempted and where.
pub trait Context<T> {
    /// Turns an [`io::Error`] into an [`enum@Error`] that names the operation and the path.
    fn doing(self, doing: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn doing(self, doing: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| Error::system(doing, path, source))
    }
}
