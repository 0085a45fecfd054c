//! What a check has found, and where it looks.

use std::fmt;
use std::path::Path;

use crate::base::environment::Environment;
use crate::system::program::Program;

/// How good or bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// As it should be.
    Pass,
    /// It works, or nobody can tell, and a person should know.
    Warn,
    /// It does not work.
    Fail,
}

impl fmt::Display for Grade {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Pass => "PASS",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        })
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How good or bad it is.
    pub grade: Grade,
    /// What was looked at: `present`, `parses`, `enabled`, `trusted`, `doubled` or `runs`.
    pub what: &'static str,
    /// What was found.
    pub text: String,
    /// What mends it, if anything is to be mended.
    pub mend: Option<String>,
}

impl Finding {
    pub(super) fn new(grade: Grade, what: &'static str, text: impl Into<String>) -> Self {
        Self { grade, what, text: text.into(), mend: None }
    }

    pub(super) fn with(self, mend: impl Into<String>) -> Self {
        Self { mend: Some(mend.into()), ..self }
    }
}

/// Where a check looks besides the file itself.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// The variables that say where files are, and what a hook would see.
    pub environment: &'a Environment,
    /// The directory of the project.
    pub project: &'a Path,
    /// What entries should run.
    pub program: &'a Program,
}
