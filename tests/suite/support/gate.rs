//! Many processes that start at the same instant.

use std::io::{PipeReader, PipeWriter};
use std::process::Command;

use super::background::Background;
use super::home::TestHome;

/// A gate before which programs wait. Opening it lets all of them go at once.
#[derive(Debug)]
pub struct Gate {
    behind: PipeReader,
    shut: PipeWriter,
}

impl Gate {
    /// A gate that is shut.
    pub fn new() -> Self {
        let (behind, shut) = std::io::pipe().unwrap();
        Self { behind, shut }
    }

    /// Starts a program of the home that waits before the gate. Its pid is the one that the program will have.
    pub fn spawn(&self, home: &TestHome, command: &Command) -> Background {
        let mut waiting = home.bare("sh");
        waiting.args(["-c", "read -r line; exec \"$@\"", "gate"]).arg(command.get_program()).args(command.get_args());
        waiting.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        waiting.stdin(self.behind.try_clone().unwrap());
        Background::spawn_reading(waiting)
    }

    /// Opens it.
    pub fn open(self) {
        drop(self.shut);
    }
}
