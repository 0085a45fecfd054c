//! Whether a program that the settings name may be run.
//!
//! A program that somebody else can change is that somebody acting as us. It must be named by an absolute path (a
//! relative one means something else in each directory), belong to us or to root, and be writable by its owner only.
//!
//! Limits: the directories above it are not examined, and between this look and the start it may change.

use std::path::Path;

use crate::base::error::{Context, Error, Result};
use crate::system::platform;

/// Permission bits with which others than the owner may write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Refuses a program that may not be run. Links are followed: what counts is what would run.
///
/// # Errors
/// What is wrong with it, and what to do.
pub fn check_program(path: &Path) -> Result<()> {
    if !path.is_absolute() {
        return Err(Error::refused(path, "the path of the program is relative", "write its absolute path"));
    }
    let facts = path.metadata().doing("find the program", path)?;
    if !facts.is_file() {
        return Err(Error::refused(path, "this is not a regular file", "name a program"));
    }
    if platform::permissions(&facts) & WRITABLE_BY_OTHERS != 0 {
        let found = format!("others may change this program (mode {:04o})", platform::permissions(&facts));
        return Err(Error::refused(path, found, "run `chmod go-w` on it if you trust what it holds"));
    }
    if ![0, platform::effective_uid()].contains(&platform::owner(&facts)) {
        let found = format!("this program belongs to another user (uid {})", platform::owner(&facts));
        return Err(Error::refused(path, found, "use one that belongs to you or to root"));
    }
    if !platform::may_execute(path) {
        return Err(Error::refused(path, "this file may not be executed", "run `chmod u+x` on it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

    use super::*;

    /// What is said about a script of this mode.
    fn verdict(mode: u32) -> Result<()> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("script");
        let options = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        options.set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
        check_program(&path)
    }

    #[test]
    fn a_program_of_ours_that_nobody_else_can_write_may_run() {
        verdict(0o755).unwrap();
        verdict(0o700).unwrap();
    }

    #[test]
    fn a_program_that_others_can_write_is_refused() {
        for mode in [0o775, 0o757, 0o777] {
            let error = verdict(mode).unwrap_err();
            assert!(error.to_string().contains("chmod go-w"), "{error}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_executed_is_refused() {
        let error = verdict(0o644).unwrap_err();
        assert!(error.to_string().contains("chmod u+x"), "{error}");
    }

    #[test]
    fn a_relative_a_missing_and_a_strange_program_are_refused() {
        for (path, expected) in [("bin/true", "absolute"), ("/no/such/program", "cannot find"), ("/", "regular file")] {
            let error = check_program(Path::new(path)).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
