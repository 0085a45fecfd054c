//! Where a value came from.

use std::fmt::{self, Display};
use std::path::Path;
use std::sync::Arc;

use crate::base::error::Error;

/// Where a value came from. Its text is what messages and `config show --origin` say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The compiled-in file.
    Default,
    /// The home's settings file.
    File {
        /// Its path.
        path: Arc<Path>,
        /// The line, counted from 1.
        line: usize,
    },
    /// An environment variable, by name.
    Variable(&'static str),
    /// The flag `--set` for this key.
    Flag(&'static str),
    /// It follows from the value of another key.
    Derived(&'static str),
}

impl Origin {
    /// An error about a value that came from here.
    pub(super) fn error(&self, problem: impl Into<String>, allowed: impl Into<String>) -> Error {
        Error::Setting { origin: self.to_string(), problem: problem.into(), allowed: allowed.into() }
    }
}

impl Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File { path, line } => write!(formatter, "{}:{line}", super::shown(path)),
            Self::Variable(name) => formatter.write_str(name),
            Self::Flag(key) => write!(formatter, "--set {key}"),
            Self::Derived(key) => write!(formatter, "follows {key}"),
        }
    }
}
