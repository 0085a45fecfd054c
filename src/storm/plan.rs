//! The plan of a storm: who contends, how often, and who is killed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::kind::Protocol;
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
