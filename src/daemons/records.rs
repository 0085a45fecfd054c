//! What is written down about a daemon. A record informs; the locks and the identities decide.
//!
//! Unknown fields, which a newer version may have written, are ignored; fields are only ever added.

use std::ffi::OsStr;
use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::paths::{self, DaemonPaths};
use super::restart_policy::{End, Past};
use crate::settings::daemon_definition::{Definition, milliseconds};
use crate::system::identity::{Identity, Pid};
use crate::system::storage::{self, Durability};
use crate::system::{Facts, World};

/// The longest record that is read, in bytes.
const LIMIT: usize = 256 * 1024;

/// The version of these formats.
pub const SCHEMA: u32 = 1;

/// A life of a daemon, as its monitor wrote it down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// Version of this format.
    pub schema: u32,
    /// The number of this life; it grows with every life.
    pub generation: u64,
    /// A random number in hexadecimal that names this one life.
    pub nonce: String,
    /// How far it has come.
    pub phase: Phase,
    /// The daemon's process.
    pub process: Identity,
    /// Its session, which is the number of its first process.
    pub session: Pid,
    /// Its monitor.
    pub monitor: Identity,
    /// What was started.
    pub definition: Definition,
    /// When it was started, in milliseconds since 1970 (for people).
    pub since: i64,
    /// When it was started, in milliseconds of the clock that does not count suspend.
    pub since_monotonic_ms: u64,
    /// The socket at which it was found ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<SocketInode>,
}

/// Which socket a name led to. A socket is bound to one inode, which never serves another socket while it is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketInode {
    device: u64,
    inode: u64,
    /// The number of an inode can be given to another one.
    ctime_ns: i64,
}

impl SocketInode {
    /// The one with these facts.
    pub fn of(facts: &Facts) -> Self {
        Self { device: facts.device, inode: facts.inode, ctime_ns: facts.ctime_ns }
    }
}

/// How far a life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub enum Phase {
    /// It has not said yet that it is ready.
    Starting,
    /// It is ready.
    Ready {
        /// How long that took, in milliseconds.
        after_ms: u64,
    },
}

impl Life {
    /// The daemon's pid.
    pub fn pid(&self) -> Pid {
        self.process.pid
    }
}

/// The end of a life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Version of this format.
    pub schema: u32,
    /// Which life.
    pub generation: u64,
    /// The pid it had.
    pub pid: Pid,
    /// How it ended.
    pub end: End,
    /// When, in milliseconds since 1970 (for people).
    pub at: i64,
    /// When, in milliseconds of the clock that does not count suspend.
    pub at_monotonic_ms: u64,
    /// How long it lived, in milliseconds of that clock.
    pub lasted_ms: u64,
    /// The boot in which it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
}

/// A person asked this life to end, so nobody should start the next one unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRequest {
    /// Version of this format.
    pub schema: u32,
    /// Which life.
    pub generation: u64,
    /// When, in milliseconds since 1970 (for people).
    pub at: i64,
}

/// What the keeper remembers of a daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keeping {
    /// Version of this format.
    pub schema: u32,
    /// The last life whose end it has dealt with.
    pub generation: u64,
    /// The boot in whose time the times are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// Its restarts.
    pub past: Past,
    /// How many restarts there were in all.
    #[serde(default)]
    pub restarts: u64,
    /// What it does about it now.
    pub course: Course,
}

/// What the keeper does about a daemon that does not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Course {
    /// Nothing is to be done.
    Content,
    /// It starts it again at this time of the clock that does not count suspend.
    BackingOff {
        /// When, in milliseconds.
        until_ms: u64,
    },
    /// It has given up, and a person has to act.
    GivenUp {
        /// After so many restarts ...
        restarts: u32,
        /// ... within this time.
        #[serde(with = "milliseconds")]
        window: std::time::Duration,
    },
}

/// What became of reading a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read<T> {
    /// There is none.
    None,
    /// It says this.
    Some(T),
    /// It cannot be read or understood, for this reason.
    Damaged(String),
}

impl<T> Read<T> {
    /// What it says, if it says anything.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Some(record) => Some(record),
            Self::None | Self::Damaged(_) => None,
        }
    }
}

/// Reads a record of a daemon's directory.
pub fn read<T: DeserializeOwned, W: World>(world: &W, directory: &W::Node, name: &str) -> Read<T> {
    match storage::read(world, directory, OsStr::new(name), LIMIT) {
        Ok(None) => Read::None,
        Ok(Some(bytes)) => match serde_json::from_slice(&bytes) {
            Ok(record) => Read::Some(record),
            Err(error) => Read::Damaged(format!("{name} is damaged: {error}")),
        },
        Err(error) => Read::Damaged(format!("{name} cannot be read: {error}")),
    }
}

/// Reads a record of a daemon. There is none in a directory that cannot be opened.
pub fn read_in<T: DeserializeOwned, W: World>(world: &W, paths: &DaemonPaths, name: &str) -> Read<T> {
    world.open_directory(paths.directory()).map_or(Read::None, |directory| read(world, &directory, name))
}

/// Removes a record of a daemon, if there is one.
///
/// # Errors
/// Those of the file system.
pub fn remove<W: World>(world: &W, paths: &DaemonPaths, name: &str) -> io::Result<()> {
    match world.open_directory(paths.directory()) {
        Ok(directory) => storage::remove(world, &directory, OsStr::new(name)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Puts a record in place of an older one, in one step.
///
/// # Errors
/// Those of the file system; the older one is still in place then.
pub fn write<T: Serialize, W: World>(world: &W, directory: &W::Node, name: &str, record: &T) -> io::Result<()> {
    storage::replace(world, directory, name, &serde_json::to_vec(record)?, Durability::Process)
}

/// What of a record says which life it is about.
#[derive(Deserialize)]
struct Numbered {
    generation: u64,
}

/// The highest number of a life that is written down anywhere in a daemon's directory; 0 if there is none.
pub fn last_generation<W: World>(world: &W, directory: &W::Node) -> u64 {
    let names = [paths::LIFE, paths::END, paths::STOP, paths::KEEP];
    let known =
        names.map(|name| read::<Numbered, W>(world, directory, name).known().map_or(0, |known| known.generation));
    known.into_iter().max().unwrap_or_default()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test prepares files and processes of its own")]
mod tests {
    use super::*;
    use crate::system::Real;

    #[test]
    fn the_last_life_is_the_highest_number_that_is_written_down_anywhere() {
        let directory = tempfile::tempdir().unwrap();
        let node = Real.open_directory(directory.path()).unwrap();
        assert_eq!(last_generation(&Real, &node), 0);
        for (name, text, last) in [
            (paths::LIFE, r#"{"generation":3}"#, 3),
            (paths::STOP, r#"{"generation":9}"#, 9),
            (paths::KEEP, r#"{"generation":4}"#, 9),
            (paths::END, "damaged", 9),
        ] {
            std::fs::write(directory.path().join(name), text).unwrap();
            assert_eq!(last_generation(&Real, &node), last, "{name}");
        }
    }
}
