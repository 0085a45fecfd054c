//! The one type that knows every path of a daemon in a home.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::layout::paths::{Home, names};
use crate::settings::daemon_definition::Name;
use crate::system::platform;
use crate::system::{Real, World};

/// The life lock: held by the daemon itself, through a descriptor that it inherited.
pub const LIFE_LOCK: &str = "lock";
/// The lock of the monitor.
pub const MONITOR: &str = "monitor";
/// The life that is or was: [`super::records::Life`].
pub const LIFE: &str = "life.json";
/// How the last life ended: [`super::records::Ended`].
pub const END: &str = "end.json";
/// Which life a person asked to end: [`super::records::StopRequest`].
pub const STOP: &str = "stop.json";
/// What the keeper remembers: [`super::records::Keeping`].
pub const KEEP: &str = "keep.json";
/// The FIFO that is the daemon's standard output and error.
pub const OUTPUT: &str = "output";
/// The newer file of its output.
pub const LOG: &str = "log";
/// The older file of its output.
pub const OLDER_LOG: &str = "log.1";

/// Where a daemon's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonPaths {
    name: Name,
    directory: PathBuf,
}

impl DaemonPaths {
    /// The files of a daemon in a home.
    pub fn new(home: &Home, name: &Name) -> Self {
        Self { name: name.clone(), directory: all(home).join(name.as_str()) }
    }

    /// The daemon's name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The directory of all its files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Tells the keeper of the home, if there is one, to look now. Nothing depends on it: the keeper looks by itself soon.
    pub fn wake_keeper(&self) {
        let Some(all) = self.directory.parent() else { return };
        let written = Real.open_directory(all).and_then(|directory| platform::ring(&directory, OsStr::new(WAKEUP)));
        if let Err(error) = written {
            tracing::debug!("the keeper of the daemons was not told: {error}");
        }
    }

    /// One of its files, by a name of this module.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// The directory of all daemons of a home.
pub fn all(home: &Home) -> PathBuf {
    home.ours(names::DAEMONS)
}

/// The FIFO of the keeper in the directory of all daemons: whoever changes something that is the keeper's affair writes a
/// byte into it (`platform::ring`). No daemon can have this name.
pub const WAKEUP: &str = ".bell";
