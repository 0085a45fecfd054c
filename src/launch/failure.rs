//! Why no watcher could be had.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::base::error::Error as ProgramError;
use crate::ownership::terminate::Refusal;
use crate::ownership::verdict::Verdict;
use crate::system::identity::Pid;
use crate::system::status_pipe::NoStatus;

/// The text is the reason in the line `watcher: FAILED - <reason>`.
#[derive(Debug, Error)]
pub enum Failure {
    /// A person has stopped the watcher, so nobody replaces it unasked.
    #[error("pid {0} was stopped on request, and is not replaced")]
    Stopped(Pid),
    /// A person has removed the home under whoever was waiting in it.
    #[error("{} was removed; it is not made again", .0.display())]
    Removed(PathBuf),
    /// What holds the home cannot be replaced.
    #[error("{0}")]
    Unreplaceable(Verdict),
    /// A foreign watcher holds the home, and nobody has asked for a new one.
    #[error("{verdict}; it is a {kind}, and only this replaces it: {restart}")]
    Foreign {
        /// How it stands.
        verdict: Verdict,
        /// What it is called.
        kind: &'static str,
        /// The command that replaces it.
        restart: String,
    },
    /// The holder was not, or could not be, asked to leave.
    #[error("pid {pid} is not replaced: {refusal}")]
    NotReplaced {
        /// The holder.
        pid: Pid,
        /// Why not.
        refusal: Refusal,
    },
    /// The holder was not asked to leave, because nobody could take its place.
    #[error("pid {pid} stays, because its successor failed: {reason}")]
    NoSuccessor {
        /// The holder.
        pid: Pid,
        /// The successor's own reason.
        reason: String,
    },
    /// A foreign watcher does not leave, and is not killed.
    #[error(
        "pid {pid} was asked to leave and is still there after {}s; a {kind} is not killed, so find out what it is doing",
        waited.as_secs()
    )]
    StillThere {
        /// The holder.
        pid: Pid,
        /// For how long it was waited for.
        waited: Duration,
        /// What it is called.
        kind: &'static str,
    },
    /// Other starts were faster, each time.
    #[error("other starts won every race until the deadline")]
    LostEveryRace,
    /// The new watcher failed, for this reason of its own.
    #[error("{0}")]
    Child(String),
    /// The new watcher did not say what became of it.
    #[error("{}", without_word(silence, log))]
    NoWord {
        /// What came instead.
        silence: NoStatus,
        /// Where it may have said why.
        log: PathBuf,
    },
    /// The new watcher says something that makes no sense.
    #[error("the new watcher says that it is pid {0}")]
    ImpossiblePid(u32),
    /// The new watcher waits for something that nobody told it to wait for.
    #[error("the new watcher stands by although nobody asked it to")]
    UnaskedStandby,
    /// The successor still waits although it need not.
    #[error("the successor stands by although the lock is free")]
    LastingStandby,
    /// No process could be started, or the home cannot be made ready.
    #[error(transparent)]
    Program(#[from] ProgramError),
}

fn without_word(silence: &NoStatus, log: &std::path::Path) -> String {
    match silence {
        NoStatus::Ended => format!("the new watcher ended without a word; see {}", log.display()),
        NoStatus::DeadlinePassed => {
            format!("the new watcher has not said a word by the deadline; see {}", log.display())
        }
        NoStatus::Broken(error) => format!("the new watcher cannot be understood: {error}"),
    }
}
