//! The only door through which the process environment is read, and what of it a child may see.

use std::ffi::OsString;
use std::path::PathBuf;

/// The variables that decide anything here, read once and then passed on as a value.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: Vec<(String, OsString)>,
}

/// Variables that every child gets, if they are set: where programs and people's files are, how text looks, and where
/// tmux and the agent for keys listen. Nothing that could point a child at another home, and no secret.
const FOR_CHILDREN: [&str; 16] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "TERM",
    "TMUX",
    "TMUX_TMPDIR",
    "SSH_AUTH_SOCK",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
];

/// What a watcher that is started for a firstmate home is told: where the code is, what the scripts call the home, and
/// the path of the watcher's script. It is for the one that is started, and for no child of it.
pub const FLEET: [&str; 3] = ["FM_WATCH_FLEET_ROOT", "FM_WATCH_FLEET_HOME", "FM_WATCH_FLEET_SCRIPT"];

/// Variables with which a child could speak to the service manager in the watcher's name.
const MANAGER: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];

/// Those, and the variables that would point a child at another home: every child of ours is told its home.
pub const NOT_FOR_CHILDREN: [&str; 6] =
    ["FM_HOME", "FM_STATE_OVERRIDE", "FM_ROOT_OVERRIDE", MANAGER[0], MANAGER[1], MANAGER[2]];

impl Environment {
    /// The environment of this process. Names that are not UTF-8 decide nothing and are left out.
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    pub fn of_this_process() -> Self {
        Self {
            variables: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
                .collect(),
        }
    }

    /// An environment made of pairs, for tests and for children.
    #[cfg(any(test, feature = "test-support"))]
    pub fn from_pairs<N: Into<String>, V: Into<OsString>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        Self { variables: pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect() }
    }

    /// There are few enough that looking through them all is cheaper than sorting them.
    fn value(&self, name: &str) -> Option<&OsString> {
        self.variables.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// A variable as text. An empty one counts as not set, as firstmate's scripts have it.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.value(name)?.to_str().filter(|text| !text.is_empty())
    }

    /// A variable as a path. An empty one counts as not set.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.value(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    /// What a child gets: the fixed list, the locale (`LC_*`), and the names that the settings pass on besides.
    pub fn for_child(&self, also: &[String]) -> Vec<(String, OsString)> {
        let is_passed = |name: &str| {
            FOR_CHILDREN.contains(&name) || name.starts_with("LC_") || also.iter().any(|other| other == name)
        };
        self.variables_that(is_passed)
    }

    /// What a child gets that is to see all that its caller sees: everything, but for what is meant for this process alone.
    pub fn for_child_of_caller(&self) -> Vec<(String, OsString)> {
        self.variables_that(|name| !MANAGER.contains(&name) && !FLEET.contains(&name))
    }

    fn variables_that(&self, is_passed: impl Fn(&str) -> bool) -> Vec<(String, OsString)> {
        let passed = self.variables.iter().filter(|(name, _)| is_passed(name));
        passed.cloned().collect()
    }
}

/// One variable of this process, now.
#[cfg(feature = "sync-points")]
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
