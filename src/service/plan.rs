//! What a service is to run: plain values, from which the text for each manager is made.

use std::path::PathBuf;
use std::time::Duration;

use super::binary::stable_path;
use super::installed::real;
use super::label::Label;
use crate::commands::context::Session;
use crate::error::{Error, Result};
use crate::obtain::spawn;

/// The least time that a manager waits for a sign of life: a machine that is busy for a moment is not stuck.
const LEAST_PATIENCE: Duration = Duration::from_secs(30);

/// A service of one home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Its name.
    pub label: Label,
    /// The state directory's real path; it marks a service as this home's.
    pub state: String,
    /// The command: an absolute path and its arguments.
    pub command: Vec<String>,
    /// For how long the loop may be silent.
    pub patience: Duration,
    /// How long the watcher may take to leave.
    pub leaves_within: Duration,
    /// The command that removes the service.
    pub removal: String,
}

/// A manager insists a little later than the watcher's own grace ends.
const SLACK: Duration = Duration::from_secs(5);

impl Plan {
    /// The service of this session's home: this program, with the home and the knobs that were given in explicit flags,
    /// so that nothing the manager's environment says can point it at another home.
    ///
    /// # Errors
    /// A path that no manager takes, and a program that has no path.
    pub fn of(session: &Session) -> Result<Self> {
        let state = real(session.home.state().to_owned());
        let resolved = spawn::program().map_err(Error::Failed)?;
        if resolved.starts_with("/proc") {
            let next = "nothing was written; call the program that has taken its place";
            return Err(Error::refused(resolved, "this program was removed from the disk", next));
        }
        let program = stable_path(session.world.as_ref(), &session.environment, resolved);
        let mut command = vec![as_text(program)?];
        for flag in session.home.flags() {
            command.push(as_text(flag.into())?);
        }
        command.push("run".to_owned());
        command.extend(session.loaded.explicit_flags());
        Ok(Self {
            label: Label::of_state(&state),
            state: as_text(state)?,
            command,
            patience: Self::patience(session.settings().stuck_after()),
            leaves_within: session.settings().stop_grace + SLACK,
            removal: session.command_line("service uninstall"),
        })
    }

    /// The time to be given to a loop that counts as stuck after this time.
    fn patience(stuck_after: Duration) -> Duration {
        stuck_after.max(LEAST_PATIENCE)
    }

    /// The line by which a written service is known as one of this home.
    pub fn mark(&self) -> String {
        format!("fm-watch keeps the watcher of {}", crate::escape::line(&self.state))
    }
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
