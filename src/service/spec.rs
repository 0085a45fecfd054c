//! What a service is to run: plain values, from which the text for each manager is made.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::identity::Label;
use crate::base::error::{Error, Result};
use crate::ownership::context::HomeContext;
use crate::system::program;
use crate::system::program::stable_path;

/// The least time that a manager waits for a sign of life: a machine that is busy for a moment is not stuck.
const LEAST_PATIENCE: Duration = Duration::from_secs(30);

/// A service of one home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Its name.
    pub label: Label,
    /// The state directory's real path; it marks a service as this home's.
    pub state: String,
    /// The command: an absolute path and its arguments.
    pub command: Vec<String>,
    /// Where the watcher finds the programs that it is to start. The manager's own `PATH` is a shorter one, and a check that
    /// works under `arm` must not fail because a service runs it.
    pub search: Option<String>,
    /// For how long the loop may be silent.
    pub patience: Duration,
    /// How long the watcher may take to get ready, with the time for taking another one's place.
    pub starts_within: Duration,
    /// How long the watcher may take to leave.
    pub leaves_within: Duration,
    /// The command that removes the service.
    pub removal: String,
}

/// A manager insists a little later than the watcher's own grace ends.
const SLACK: Duration = Duration::from_secs(5);

/// How long reading a large home may take at the start, besides what the settings allow.
const STARTS_WITHIN: Duration = Duration::from_secs(90);

impl ServiceSpec {
    /// The service of this home: this program, with the home and the knobs that were given in explicit flags,
    /// so that nothing the manager's environment says can point it at another home.
    ///
    /// # Errors
    /// A path that no manager takes, and a program that has no path.
    pub fn of(context: &HomeContext) -> Result<Self> {
        let state = real(context.home.state().to_owned());
        let resolved = program::own_path()?;
        if resolved.starts_with("/proc") {
            let next = "nothing was written; call the program that has taken its place";
            return Err(Error::refused(resolved, "this program was removed from the disk", next));
        }
        let program = stable_path(context.world.as_ref(), &context.environment, resolved);
        let mut command = vec![as_text(program)?];
        for flag in context.home.flags() {
            command.push(as_text(flag.into())?);
        }
        command.extend(["run".to_owned(), "--take-over".to_owned()]);
        command.extend(context.loaded.explicit_flags());
        Ok(Self {
            label: Label::of_state(&state),
            state: as_text(state)?,
            command,
            patience: Self::patience(context.settings().stuck_after()),
            search: context.environment.path("PATH").and_then(|path| search(&path)),
            starts_within: STARTS_WITHIN + context.settings().arm_timeout + context.settings().stop_grace,
            leaves_within: context.settings().stop_grace + SLACK,
            removal: context.command_line("service uninstall"),
        })
    }

    /// The time to be given to a loop that counts as stuck after this time.
    fn patience(stuck_after: Duration) -> Duration {
        stuck_after.max(LEAST_PATIENCE)
    }

    /// The line by which a written service is known as one of this home.
    pub fn mark(&self) -> String {
        format!("fm-watch keeps the watcher of {}", crate::base::escape::line(&self.state))
    }
}

/// A path without links, as far as it exists. What does not exist yet cannot be a link.
pub(super) fn real(path: PathBuf) -> PathBuf {
    if let Ok(real) = std::fs::canonicalize(&path) {
        return real;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => real(parent.to_owned()).join(name),
        _ => path,
    }
}

/// What of a search path is worth writing down: directories that do not depend on where somebody is.
fn search(path: &Path) -> Option<String> {
    let absolute: Vec<PathBuf> = std::env::split_paths(path).filter(|directory| directory.is_absolute()).collect();
    let joined = std::env::join_paths(absolute).ok()?;
    as_text(joined.into()).ok().filter(|text| !text.is_empty())
}

/// A path as text, as service managers want it.
///
/// # Errors
/// A path that is not UTF-8, or has a control character in it.
pub fn as_text(path: PathBuf) -> Result<String> {
    match path.into_os_string().into_string() {
        Ok(text) if !text.chars().any(char::is_control) => Ok(text),
        Ok(text) => Err(refused(&text.into())),
        Err(path) => Err(refused(&path.into())),
    }
}

fn refused(path: &PathBuf) -> Error {
    Error::refused(
        path,
        "a service manager takes only paths of UTF-8 without control characters",
        "nothing was written; give the home another path, or run the watcher with `arm`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_does_not_exist_yet_loses_the_links_that_do() {
        let directory = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(directory.path()).unwrap();
        std::os::unix::fs::symlink(&root, root.join("link")).unwrap();
        assert_eq!(real(root.join("link/a/b")), root.join("a/b"));
    }

    #[test]
    fn only_absolute_directories_are_searched() {
        let searched = |path: &str| search(Path::new(path));
        assert_eq!(searched("/a b:bin::/c:."), Some("/a b:/c".to_owned()));
        assert_eq!((searched(""), searched("bin"), searched("/a\nb")), (None, None, None));
    }
}
