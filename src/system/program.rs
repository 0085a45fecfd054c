//! How this program is called by people, and by entries and commands that are written down for later.
//!
//! A command that is told to somebody must work where they type it. Whoever calls `fm-watch` by name gets this very
//! program where `PATH` leads to it, and then it is called so, which survives every update. Otherwise it is called by
//! its path, with links resolved.
//!
//! A service is started by a path that must still lead to this program after an upgrade. The path that the kernel tells has
//! all links resolved, and in a package manager's tree it names one release. So the first entry of `PATH` that leads to the
//! very file that runs now is preferred, as it is written there; only without one is the resolved path taken.
//!
//! This program is started once more as a process that is nobody's descendant: own session, orphaned at once, working
//! directory `/`, standard streams to nowhere (errors to the log), and an environment that the caller gives whole:
//! nothing of the starter's reaches the new process by accident.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{World, platform};
use crate::base::environment::Environment;
use crate::base::error::{Context, Result};

/// What the program is called.
pub const NAME: &str = "fm-watch";

/// How the program is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// By its name, which is looked up.
    OnPath,
    /// By its path.
    At(PathBuf),
}

impl Program {
    /// How a program at this path is called in this environment.
    pub fn of(own: &Path, environment: &Environment) -> Self {
        let path = environment.path("PATH").unwrap_or_default();
        let first = std::env::split_paths(&path).map(|directory| directory.join(NAME)).find(|path| path.is_file());
        // A relative directory of PATH is another one wherever it is looked up.
        let is_own = |found: PathBuf| found.is_absolute() && found.canonicalize().ok() == own.canonicalize().ok();
        if first.is_some_and(is_own) { Self::OnPath } else { Self::At(own.to_owned()) }
    }

    /// How this very program is called. `None`: it has no path any more, because it was removed or replaced on disk.
    pub fn of_this_process(environment: &Environment) -> Option<Self> {
        let own = std::fs::read_link(platform::own_program()).ok().filter(|path| path.is_file())?;
        Some(Self::of(&own, environment))
    }

    /// As a word of a shell.
    pub fn word(&self) -> String {
        match self {
            Self::OnPath => NAME.to_owned(),
            Self::At(path) => shell_word(&path.to_string_lossy()),
        }
    }
}

/// This program as a word of a shell. One that was replaced on disk is called by its name.
pub fn word(environment: &Environment) -> String {
    Program::of_this_process(environment).unwrap_or(Program::OnPath).word()
}

/// A word that a shell reads as it is.
pub fn shell_word(text: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_./=:,@%+".contains(character);
    if !text.is_empty() && text.chars().all(is_plain) { text.to_owned() } else { single_quoted(text) }
}

/// A text in single quotes, for a shell. Not `shlex`, which takes double quotes for some texts: entries in files of hooks
/// are known again by these very letters.
pub fn single_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The path to write down for this program, which is at `resolved` now.
pub fn stable_path<W: World>(world: &W, environment: &Environment, resolved: PathBuf) -> PathBuf {
    let Ok(own) = world.facts_of_path(&resolved) else { return resolved };
    let Some(name) = resolved.file_name() else { return resolved };
    let directories = environment.path("PATH").unwrap_or_default();
    let leads_here = |path: &PathBuf| {
        let real = std::fs::canonicalize(path).and_then(|real| world.facts_of_path(&real));
        path.is_absolute() && real.is_ok_and(|facts| facts.is_same_inode(&own))
    };
    std::env::split_paths(&directories).map(|directory| directory.join(name)).find(leads_here).unwrap_or(resolved)
}

/// The first file of this name in the absolute directories of a `PATH` that may be executed.
pub fn find_in(path: &OsStr, name: &str) -> Option<PathBuf> {
    let directories = std::env::split_paths(path).filter(|directory| directory.is_absolute());
    directories.map(|directory| directory.join(name)).find(|path| path.is_file() && platform::may_execute(path))
}

/// This program; if it was replaced on disk, the one that took its place.
///
/// # Errors
/// It cannot be found.
pub fn own_path() -> Result<PathBuf> {
    const SELF: &str = "/proc/self/exe";
    let path = std::env::current_exe().doing("find", "this program")?;
    if path.exists() {
        return Ok(path);
    }
    let successor = path.to_str().and_then(|text| text.strip_suffix(" (deleted)")).map(PathBuf::from);
    Ok(successor.filter(|path| path.exists()).unwrap_or_else(|| OsString::from(SELF).into()))
}

/// A command for a process of this program with this environment and no other.
pub fn command<N: AsRef<OsStr>, V: AsRef<OsStr>>(
    program: &Path,
    environment: impl IntoIterator<Item = (N, V)>,
) -> Command {
    let mut command = platform::own_command(program);
    command.env_clear().envs(environment).stdin(Stdio::null());
    command
}

/// Has a process stand nowhere and say nothing, but what goes wrong to this log.
pub fn detach(command: &mut Command, log: Option<File>) {
    command.current_dir("/").stdout(Stdio::null()).stderr(log.map_or_else(Stdio::null, Stdio::from));
}
