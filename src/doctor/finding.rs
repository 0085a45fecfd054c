//! A finding: one thing that was examined, how it is, and what mends it.
//!
//! The repairs that the doctor may make by itself are those that can lose nothing and give nobody more than before: taking
//! from others the permission to write into a directory of ours, and making a directory that a watcher would make at its
//! next start. What belongs to another user, what is of the wrong kind, and what a person removed is left alone.

use std::fmt;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::base::error::{Context, Error, Result};
use crate::base::failpoint::Failpoint;
use crate::ownership::context::HomeContext;
use crate::ownership::held_home;
use crate::system::World;
use crate::system::platform;

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// As it should be.
    Pass,
    /// It works, but worse than it could, or not for long.
    Warn,
    /// It does not work, or wakes may be lost or reach nobody.
    Fail,
}

/// What mends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mend {
    /// Nothing is to be mended, or nobody knows how.
    Nothing,
    /// A person runs this, or does this.
    Command(String),
    /// The doctor can do it without losing anything.
    Safe(Repair),
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The thing, in one word that stays between releases.
    pub check: &'static str,
    /// How it is.
    pub grade: Grade,
    /// What was found, in words.
    pub found: String,
    /// What mends it.
    pub mend: Mend,
}

impl Finding {
    /// All is well.
    pub fn pass(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, grade: Grade::Pass, found: found.into(), mend: Mend::Nothing }
    }

    /// Something could be better.
    pub fn warn(check: &'static str, found: impl Into<String>, mend: Mend) -> Self {
        Self { check, grade: Grade::Warn, found: found.into(), mend }
    }

    /// Something is wrong.
    pub fn fail(check: &'static str, found: impl Into<String>, mend: Mend) -> Self {
        Self { check, grade: Grade::Fail, found: found.into(), mend }
    }

    /// It as an object.
    pub fn object(&self) -> Value {
        json!({
            "check": self.check,
            "grade": self.grade.word(),
            "found": self.found,
            "mend": self.mend.in_words(),
            "safe": matches!(self.mend, Mend::Safe(_)),
        })
    }
}

impl Grade {
    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }

    /// The worst of some findings.
    pub fn worst(findings: &[Finding]) -> Self {
        findings.iter().map(|finding| finding.grade).max().unwrap_or(Self::Pass)
    }
}

impl Mend {
    /// A command, or words that say what to do.
    pub fn command(words: impl Into<String>) -> Self {
        Self::Command(words.into())
    }

    /// It in words, if there is anything to do.
    pub fn in_words(&self) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Command(words) => Some(words.clone()),
            Self::Safe(repair) => Some(repair.to_string()),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}: {}", self.grade.word(), self.check, self.found)?;
        self.mend.in_words().map_or(Ok(()), |mend| write!(formatter, " -> {mend}"))
    }
}

/// A repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// Gives a directory of ours these permissions.
    SetMode {
        /// Which directory.
        path: PathBuf,
        /// The permission bits.
        mode: u32,
    },
    /// Makes the directories that are missing inside `state/watch`.
    MakeDirectories {
        /// The one that is missing.
        path: PathBuf,
    },
}

impl Repair {
    /// Makes it.
    ///
    /// # Errors
    /// Those of the system, and a directory that is not ours any more. Nothing is changed then.
    pub fn make(&self, session: &HomeContext) -> Result<()> {
        match self {
            Self::SetMode { path, mode } => set_mode(session.world.as_ref(), path, *mode),
            Self::MakeDirectories { .. } => held_home::prepare(session.world.as_ref(), &session.home, &session.place),
        }
    }
}

fn set_mode<W: World>(world: &W, path: &PathBuf, mode: u32) -> Result<()> {
    // What is changed is what was opened, whatever the path names by then.
    let directory = world.open_directory(path).doing("open the directory", path)?;
    let facts = world.facts(&directory).doing("examine", path)?;
    if facts.uid != platform::effective_uid() && world.is_protected(Failpoint::DoctorOwner) {
        return Err(Error::refused(path, format!("belongs to uid {}", facts.uid), "nothing was changed"));
    }
    world.set_mode(&directory, mode).doing("set the permissions of", path)
}

impl fmt::Display for Repair {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetMode { path, mode } => write!(formatter, "chmod {mode:o} {}", path.display()),
            Self::MakeDirectories { path } => write!(formatter, "mkdir -m 700 {}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides() {
        let [pass, warn, fail] = [
            Finding::pass("a", ""),
            Finding::warn("b", "", Mend::Nothing),
            Finding::fail("c", "", Mend::command("do it")),
        ];
        assert_eq!(Grade::worst(&[]), Grade::Pass);
        assert_eq!(Grade::worst(&[warn.clone(), pass.clone()]), Grade::Warn);
        assert_eq!(Grade::worst(&[warn, fail.clone(), pass]), Grade::Fail);
        assert_eq!(fail.to_string(), "FAIL c:  -> do it");
    }
}
