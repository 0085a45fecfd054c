//! Starting this program once more, as a process that is nobody's descendant.
//!
//! Own session, orphaned at once, working directory `/`, standard streams to nowhere (errors to the log), and an
//! environment that the caller gives whole: nothing of the starter's reaches the new process by accident.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::platform;
use crate::base::error::{Context, Result};

/// This program; if it was replaced on disk, the one that took its place.
///
/// # Errors
/// It cannot be found.
pub fn program() -> Result<PathBuf> {
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
