//! The plan of a storm: which protocol is put to the test, who contends, how often, and who is killed.
//!
//! The protocols are every kind of lock of the family, and two protocols that promise nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::lock::Kind;
use crate::system::platform;

/// What a storm does, for whatever protocol.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many processes contend at a time.
    pub workers: u32,
    /// How many holds each of them makes; a killed one is replaced by another process that makes the rest.
    pub rounds: u32,
    /// One worker is killed each time this interval has passed; `None`: nobody is.
    pub kill_interval: Option<Duration>,
    /// A program of somebody else, which every second worker is.
    pub peer: Option<String>,
    /// Of the random numbers that say whom to kill and how long to hold. The same seed gives the same ones.
    pub seed: u64,
    /// A storm in which nobody gets the lock for so long has failed.
    pub patience: Duration,
    /// This program, which the workers run.
    pub program: PathBuf,
}

impl Plan {
    /// How many holds all workers make together.
    pub fn holds(&self) -> u64 {
        u64::from(self.workers) * u64::from(self.rounds)
    }

    /// After so many holds nobody is killed any more, so that it is seen whether those who are left get on.
    pub fn holds_before_calm(&self) -> u64 {
        self.holds() / 10 * 9
    }

    /// How many of the workers are the program of somebody else.
    pub fn peers(&self) -> u32 {
        if self.peer.is_some() { self.workers / 2 } else { 0 }
    }

    /// How a worker is started that makes so many holds at a path.
    pub fn worker_command(&self, protocol: Protocol, path: &Path, rounds: u32, seed: u64) -> Command {
        let mut command = platform::own_command(&self.program);
        // So that a person who looks at the failure of a storm finds in it what the workers wait for.
        let silence = (self.patience / 3).as_millis();
        command.arg("storm-worker");
        command.args(["--kind", &protocol.to_string(), "--rounds", &rounds.to_string()]);
        command.args(["--seed", &seed.to_string(), "--silence", &format!("{silence}ms")]).arg("--").arg(path);
        command
    }
}

/// How a program of somebody else is started: one simple command as a shell reads it, with the path and the number of
/// rounds behind.
pub fn peer_command(peer: &str, path: &Path, rounds: u32) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(format!("exec {peer} \"$@\"")).arg("peer").arg(path).arg(rounds.to_string());
    command
}

/// A protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// One of the family, which promises that one holds at a time.
    Family(Kind),
    /// See [`super::naive`].
    Naive,
    /// See [`super::unlink`].
    Unlink,
}

/// What a protocol promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// At every instant at most one holds.
    Exclusion,
    /// Nothing: a storm has to see it fail.
    Nothing,
}

impl Protocol {
    /// What it promises.
    pub fn promise(self) -> Promise {
        match self {
            Self::Family(_) => Promise::Exclusion,
            Self::Naive | Self::Unlink => Promise::Nothing,
        }
    }

    /// All that promise exclusion.
    pub fn promising() -> Vec<Self> {
        Self::value_variants().iter().copied().filter(|protocol| protocol.promise() == Promise::Exclusion).collect()
    }

    /// Whether it is worth no more than the kernel's locks on this file system are.
    pub fn stands_on_kernel_locks(self) -> bool {
        matches!(self, Self::Family(Kind::Kernel | Kind::Pidfile | Kind::Socket))
    }
}

impl ValueEnum for Protocol {
    fn value_variants<'a>() -> &'a [Self] {
        static ALL: OnceLock<Vec<Protocol>> = OnceLock::new();
        ALL.get_or_init(|| {
            let family = Kind::value_variants().iter().copied().map(Self::Family);
            family.chain([Self::Naive, Self::Unlink]).collect()
        })
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::Family(kind) => kind.to_possible_value(),
            Self::Naive => {
                Some(PossibleValue::new("naive").help("Check the pid in a file, then write ours; promises nothing"))
            }
            Self::Unlink => {
                Some(PossibleValue::new("unlink").help("A marker that is broken by unlink; promises nothing"))
            }
        }
    }
}

/// The name, as `--kind` takes it.
impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.to_possible_value().as_ref().map_or("?", PossibleValue::get_name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back_and_all_but_two_promise_exclusion() {
        for protocol in Protocol::value_variants() {
            assert_eq!(Protocol::from_str(&protocol.to_string(), false), Ok(*protocol));
        }
        assert_eq!(Protocol::promising().len(), Protocol::value_variants().len() - 2);
        assert!(Protocol::promising().contains(&Protocol::Family(Kind::Kernel)));
    }
}
