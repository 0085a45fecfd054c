//! The one type that knows every path of a home.
//!
//! A home is named by a path but identified by the device and inode of its state directory, so that a link, a
//! trailing slash or a bind mount never make two homes out of one.

use std::path::{Path, PathBuf};

use crate::base::environment::Environment;
use crate::base::error::{Error, Result};

/// The text of the default settings, `config/fm-watch.toml` of the source tree, compiled in. A home is told from a directory
/// with this very text; what it means is known by `settings`.
pub const DEFAULT_SETTINGS: &str = include_str!("../../config/fm-watch.toml");

/// The names of the files in `<state>/watch`.
pub mod names {
    /// The directory of all that is ours, inside the state directory.
    pub const WATCH: &str = "watch";
    /// The kernel-locked file: alive.
    pub const LOCK: &str = "lock";
    /// The lock of the one who is starting a watcher.
    pub const START: &str = "start";
    /// Who holds the lock, as the holder recorded it.
    pub const OWNER: &str = "owner.json";
    /// The loop's own sign of life.
    pub const BEAT: &str = "beat.json";
    /// The counter of acquisitions.
    pub const GENERATION: &str = "generation";
    /// What has been announced.
    pub const SEEN: &str = "seen.json";
    /// The directory of the journal.
    pub const WAKES: &str = "wakes";
    /// The directory for wakes from shell scripts.
    pub const INBOX: &str = "inbox";
    /// The directory of the waiters' leases.
    pub const WAITERS: &str = "waiters";
    /// The directory of the responsible session and of its hooks.
    pub const SESSIONS: &str = "sessions";
    /// One line per life.
    pub const HISTORY: &str = "history.jsonl";
    /// The directory of the daemons, one directory each.
    pub const DAEMONS: &str = "daemons";
    /// The directory of the log.
    pub const LOG_DIRECTORY: &str = "log";
    /// The watcher's log.
    pub const LOG: &str = "watch.log";
    /// Which acquisition a person asked to stop.
    pub const STOP: &str = "stop.json";
    /// What is known of the rows in the wake queue of firstmate's scripts.
    pub const WAKE_QUEUE: &str = "wake-queue.json";
    /// Where the code of a firstmate home is.
    pub const FLEET: &str = "fleet.json";
    /// Which episode the guard has shown its banner for.
    pub const EPISODE: &str = "episode.json";
}

/// Where a home and its state directory are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
    state: PathBuf,
}

/// What the command line says about the home.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// `--home`.
    pub home: Option<PathBuf>,
    /// `--state`.
    pub state: Option<PathBuf>,
}

impl Home {
    /// A home at a path, with its state directory in the usual place.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let state = root.join("state");
        Self { root, state }
    }

    /// Finds the home: flags first, then the environment, then the nearest ancestor of `working_directory` that looks
    /// like a home, then the user's default home. A flag `--home` also silences `FM_STATE_OVERRIDE`: an explicit
    /// flag always beats the environment.
    ///
    /// # Errors
    /// A relative path that cannot be made absolute, or no home at all because `HOME` is not set.
    pub fn resolve(selection: &Selection, environment: &Environment, working_directory: Option<&Path>) -> Result<Self> {
        let absolute = |path: PathBuf| match working_directory {
            _ if path.is_absolute() => Ok(tidy(&path)),
            Some(directory) => Ok(tidy(&directory.join(path))),
            None => Err(Error::Usage(format!(
                "{} is relative, and the working directory cannot be read; give an absolute path",
                path.display()
            ))),
        };
        let root = match (&selection.home, environment.path("FM_HOME")) {
            (Some(flag), _) => absolute(flag.clone())?,
            (None, Some(variable)) => absolute(variable)?,
            (None, None) => match working_directory.and_then(nearest_home) {
                Some(found) => found,
                None => default_home(environment)?,
            },
        };
        let state_variable = environment.path("FM_STATE_OVERRIDE").filter(|_| selection.home.is_none());
        let state = match (&selection.state, state_variable) {
            (Some(flag), _) => absolute(flag.clone())?,
            (None, Some(variable)) => absolute(variable)?,
            (None, None) => root.join("state"),
        };
        Ok(Self { root, state })
    }

    /// The home directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Our own directory inside the state directory.
    pub fn watch(&self) -> PathBuf {
        self.state.join(names::WATCH)
    }

    /// A file or directory of ours, by its name in [`names`].
    pub fn ours(&self, name: &str) -> PathBuf {
        self.watch().join(name)
    }

    /// The settings file.
    pub fn settings_file(&self) -> PathBuf {
        self.root.join("config").join("fm-watch.toml")
    }

    /// The flags that name this home to a process of ours, whatever its environment and working directory.
    pub fn flags(&self) -> Vec<std::ffi::OsString> {
        let mut flags = vec!["--home".into(), self.root.clone().into()];
        if self.state != self.root.join("state") {
            flags.extend(["--state".into(), self.state.clone().into()]);
        }
        flags
    }
}

/// Removes `.` and doubled slashes without asking the file system. `..` stays: only the system knows what it means
/// behind a link.
fn tidy(path: &Path) -> PathBuf {
    path.components().collect()
}

fn nearest_home(directory: &Path) -> Option<PathBuf> {
    // A settings file that says nothing but the defaults, such as the one in this program's own source tree, makes no
    // home of a directory.
    let is_configured = |path: &Path| {
        let file = path.join("config/fm-watch.toml");
        file.is_file() && !std::fs::read(file).is_ok_and(|text| text == DEFAULT_SETTINGS.as_bytes())
    };
    let is_home = |path: &&Path| is_configured(path) || path.join("state/watch").is_dir();
    directory.ancestors().find(is_home).map(Path::to_owned)
}

fn default_home(environment: &Environment) -> Result<PathBuf> {
    let is_usable = |path: &PathBuf| path.is_absolute();
    let states = environment
        .path("XDG_STATE_HOME")
        .filter(is_usable)
        .or_else(|| Some(environment.path("HOME").filter(is_usable)?.join(".local/state")));
    let states = states.ok_or_else(|| {
        Error::Usage("no home: neither HOME nor XDG_STATE_HOME is an absolute path; give --home DIR".to_owned())
    })?;
    Ok(states.join("fm-watch"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(home: Option<&str>, state: Option<&str>, variables: &[(&str, &str)]) -> (PathBuf, PathBuf) {
        let selection = Selection { home: home.map(Into::into), state: state.map(Into::into) };
        let environment = Environment::from_pairs(variables.iter().copied());
        let home = Home::resolve(&selection, &environment, Some(Path::new("/nowhere/at/all"))).unwrap();
        (home.root().to_owned(), home.state().to_owned())
    }

    #[test]
    fn an_explicit_flag_beats_the_environment() {
        let variables = [("FM_HOME", "/env"), ("FM_STATE_OVERRIDE", "/env/s"), ("HOME", "/h")];
        assert_eq!(resolve(Some("/flag"), None, &variables), ("/flag".into(), "/flag/state".into()));
        assert_eq!(resolve(None, None, &variables), ("/env".into(), "/env/s".into()));
        assert_eq!(resolve(None, Some("/x"), &variables), ("/env".into(), "/x".into()));
    }

    #[test]
    fn the_default_home_follows_xdg() {
        assert_eq!(resolve(None, None, &[("HOME", "/h")]).0, Path::new("/h/.local/state/fm-watch"));
        let both = [("HOME", "/h"), ("XDG_STATE_HOME", "/s")];
        assert_eq!(resolve(None, None, &both).0, Path::new("/s/fm-watch"));
    }

    #[test]
    fn without_any_home_the_error_says_what_to_give() {
        let error = Home::resolve(&Selection::default(), &Environment::default(), None).unwrap_err();
        assert!(error.to_string().contains("--home"), "{error}");
    }

    #[test]
    fn a_relative_path_is_taken_from_the_working_directory() {
        assert_eq!(resolve(Some("a//./b/"), None, &[]).0, Path::new("/nowhere/at/all/a/b"));
    }
}
