//! Whether a process belongs to a recorded life, by what the kernel shows of it and not by what a file says.
//!
//! # Theory
//!
//! A record names a process so exactly that no other process is ever taken for it. That says nothing about who wrote the
//! record: it is a file, and somebody can write any living process's true identity into it, or copy the record of another
//! daemon. So before a process is signalled because it is recorded, the kernel is asked for a second proof, which no file
//! can forge. Each of these is enough:
//!
//! - *It holds the life lock*, through an open file that can only have been inherited from the monitor.
//! - *Its parent holds the monitor's lock*, so it descends from the process that starts this daemon and nothing else.
//! - *Its initial environment has this life's mark*, which the monitor puts there when the process is made. It is left to a
//!   program that closes every descriptor and whose monitor was killed; what it forks has it too.
//!
//! The mark names the life and the directory in which it began, so neither another daemon's process nor that of the home
//! that this one was copied from is taken for this daemon's.
//!
//! The process was pinned before; it is read then, and proven to live last. So what was read was read of it.
//!
//! What breaks if this is wrong: a forged record gets a stranger killed, or a person cannot stop a daemon.
//!
//! Limits: whoever may trace a process can write into its environment, and can signal it as well. A program that closes
//! the life lock and overwrites its environment, or does not let itself be examined, has no proof left once its monitor is
//! killed, and is ended by hand. All that a daemon starts belongs to it, also what it meant to let go.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::paths::{self, DaemonPaths};
use super::records::Life;
use crate::base::failpoint::Failpoint;
use crate::system::platform::{self, Pinned};
use crate::system::{Facts, Kind, World};

/// The variable that has the mark of its life in a daemon's environment.
pub const VARIABLE: &str = "FM_WATCH_LIFE";

/// The mark of the life of this nonce in the directory of these facts.
pub fn mark(nonce: &str, directory: &Facts) -> String {
    format!("{nonce}@{}:{}", directory.device, directory.inode)
}

/// What the kernel shows of a process. That something was not seen proves nothing.
#[derive(Debug)]
pub struct Traces {
    /// Whether it holds the life lock.
    pub holds_life_lock: bool,
    /// Whether its parent holds the monitor's lock.
    pub has_monitor_as_parent: bool,
    /// Its initial environment, each variable with a NUL at its end.
    pub environment: io::Result<Vec<u8>>,
}

/// What proves that a process belongs to a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// It holds the life lock.
    LifeLock,
    /// Its parent is the monitor.
    Parent,
    /// Its initial environment has the mark.
    Environment,
}

/// Whether a process belongs to a life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Membership {
    /// It does, and lives.
    Proven(Proof),
    /// It has ended meanwhile.
    Ended,
    /// Nothing proves it: what was looked for, and what a person can do. It must not be signalled.
    NotProven(String),
}

/// Why nothing proves that a process belongs to a life.
#[derive(Debug, thiserror::Error)]
pub enum Unproven {
    /// None of the traces is there.
    #[error(
        "it does not hold the life lock, its parent does not hold the monitor's lock, and its initial environment has no \
         {} of this life",
        VARIABLE
    )]
    NoTrace,
    /// Two are not there, and nobody can tell about the third.
    #[error(
        "it does not hold the life lock, its parent does not hold the monitor's lock, and its initial environment cannot \
         be read ({0})"
    )]
    NoEnvironment(io::Error),
    /// The daemon's directory cannot be examined.
    #[error("cannot examine {}: {error}", path.display())]
    Directory {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It cannot be seen whether the process still lives.
    #[error("it cannot be watched: {0}")]
    Unwatched(io::Error),
}

/// Judges by what was seen.
///
/// # Errors
/// None of the traces is there.
pub fn judge(traces: Traces, mark: &str) -> Result<Proof, Unproven> {
    if traces.holds_life_lock {
        return Ok(Proof::LifeLock);
    }
    if traces.has_monitor_as_parent {
        return Ok(Proof::Parent);
    }
    let wanted = format!("{VARIABLE}={mark}");
    let environment = traces.environment.map_err(Unproven::NoEnvironment)?;
    let is_marked = environment.split(|&byte| byte == 0).any(|entry| entry == wanted.as_bytes());
    if is_marked { Ok(Proof::Environment) } else { Err(Unproven::NoTrace) }
}

/// Asks the kernel whether a pinned process, which is the recorded one, belongs to the recorded life.
pub fn membership<W: World<Process = Pinned>>(
    world: &W,
    paths: &DaemonPaths,
    life: &Life,
    process: &Pinned,
) -> Membership {
    let judged = if world.is_protected(Failpoint::DaemonStopSecondProof) {
        traces_and_mark(world, paths, life, process).and_then(|(traces, mark)| judge(traces, &mark))
    } else {
        Ok(Proof::LifeLock)
    };
    let has_ended = world.wait_for_exit(process, Duration::ZERO).map_err(Unproven::Unwatched);
    match has_ended.and_then(|has_ended| if has_ended { Ok(None) } else { judged.map(Some) }) {
        Ok(None) => Membership::Ended,
        Ok(Some(proof)) => Membership::Proven(proof),
        Err(why) => Membership::NotProven(in_words(paths, process, &why)),
    }
}

fn in_words(paths: &DaemonPaths, process: &Pinned, why: &Unproven) -> String {
    let (pid, name) = (process.pid(), paths.name());
    format!(
        "only {} says that pid {pid} is {name}: {why}; look with `daemon verify {name}` and `ps -f -p {pid}`, and if it \
         is the daemon, end it by hand: `kill {pid}`",
        paths.file(paths::LIFE).display()
    )
}

fn traces_and_mark<W: World>(
    world: &W,
    paths: &DaemonPaths,
    life: &Life,
    process: &Pinned,
) -> Result<(Traces, String), Unproven> {
    let unreadable = |error| Unproven::Directory { path: paths.directory().to_owned(), error };
    let directory = world.open_directory(paths.directory()).map_err(unreadable)?;
    let mark = mark(&life.nonce, &world.facts(&directory).map_err(unreadable)?);
    // A lock of ours is a file of one name; one of two could be a stranger's that was linked to here.
    let lock = |name: &str| {
        let facts = world.facts_at(&directory, OsStr::new(name)).ok()?;
        (facts.kind == Kind::File && facts.links == 1).then_some(facts)
    };
    let pid = process.pid().get();
    let traces = Traces {
        holds_life_lock: lock(paths::LIFE_LOCK).is_some_and(|lock| holds(pid, &lock)),
        has_monitor_as_parent: lock(paths::MONITOR).is_some_and(|lock| is_child_of_holder(pid, &lock)),
        environment: platform::initial_environment(pid),
    };
    Ok((traces, mark))
}

fn holds(pid: u32, lock: &Facts) -> bool {
    platform::holds(pid, lock.device, lock.inode)
}

/// Whether the parent of a process, pinned before it is examined, holds the monitor's lock.
fn is_child_of_holder(pid: u32, lock: &Facts) -> bool {
    let parent_now = || platform::table_entry(pid).map(|entry| entry.parent);
    let Some(parent) = parent_now() else { return false };
    let Ok(Some(pinned)) = platform::pin_reported(parent) else { return false };
    let is_holder = holds(parent, lock);
    // The number of one that has ended, or is another's parent by now, may be anybody's.
    let was_it = parent_now() == Some(parent) && matches!(platform::wait_for_exit(&pinned, Duration::ZERO), Ok(false));
    is_holder && was_it
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: &str = "c0ffee@7:8";

    fn traces(environment: &[u8]) -> Traces {
        Traces { holds_life_lock: false, has_monitor_as_parent: false, environment: Ok(environment.to_vec()) }
    }

    #[test]
    fn each_trace_is_enough() {
        let proof = |traces| judge(traces, MARK).unwrap();
        assert_eq!(proof(Traces { holds_life_lock: true, ..traces(b"") }), Proof::LifeLock);
        assert_eq!(proof(Traces { has_monitor_as_parent: true, ..traces(b"") }), Proof::Parent);
        assert_eq!(proof(traces(b"A=b\0FM_WATCH_LIFE=c0ffee@7:8\0C=d\0")), Proof::Environment);
    }

    #[test]
    fn without_any_trace_it_is_said_what_was_looked_for() {
        let unreadable = Traces { environment: Err(io::Error::other("Permission denied")), ..traces(b"") };
        for (traces, word) in [(traces(b"A=b\0"), "has no FM_WATCH_LIFE"), (unreadable, "(Permission denied)")] {
            let why = judge(traces, MARK).unwrap_err().to_string();
            assert!(why.contains("the life lock") && why.contains("the monitor's lock") && why.contains(word), "{why}");
        }
    }

    #[test]
    fn only_the_whole_mark_of_this_very_life_counts() {
        for other in [
            "FM_WATCH_LIFE=c0ffee@7:9\0",
            "FM_WATCH_LIFE=c0ffee@7:88\0",
            "FM_WATCH_LIFE=c0ffee\0",
            "FM_WATCH_LIFE=dead@7:8\0",
            "NOT_FM_WATCH_LIFE=c0ffee@7:8\0",
            "A=FM_WATCH_LIFE=c0ffee@7:8\0",
        ] {
            assert!(judge(traces(other.as_bytes()), MARK).is_err(), "{other}");
        }
        // A forged nonce cannot span variables, of which the kernel shows each between two NULs.
        assert!(judge(traces(b"FM_WATCH_LIFE=a\0B=c@7:8\0"), "a\0B=c@7:8").is_err());
    }
}
