//! Named points at which the real program is paused or killed, and named protections that are taken away.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::home::TestHome;
use super::{SOON, wait_until_true};

/// The directory through which a test and a paused program speak.
#[derive(Debug)]
pub struct Points {
    directory: PathBuf,
}

impl Points {
    /// Points of their own; a test may need more than one set, each with a name.
    pub fn new(home: &TestHome, name: &str) -> Self {
        let directory = home.scratch().join(format!("points-{name}"));
        fs::create_dir(&directory).unwrap();
        Self { directory }
    }

    /// Makes a command pause at these points.
    pub fn pause(&self, command: &mut Command, points: &[&str]) {
        let plan: Vec<_> = points.iter().map(|point| format!("{point}=pause:{}", self.directory.display())).collect();
        command.env("FM_WATCH_SYNC", plan.join(";"));
    }

    /// Waits until the program has reached a point.
    #[track_caller]
    pub fn wait_until_reached(&self, point: &str) {
        let reached = self.directory.join(format!("{point}.reached"));
        wait_until_true(SOON, &format!("the point {point} is reached"), || reached.exists());
    }

    /// Makes the program wait at a point again, from which it was let go.
    pub fn hold(&self, point: &str) {
        fs::remove_file(self.directory.join(format!("{point}.go"))).unwrap();
        fs::remove_file(self.directory.join(format!("{point}.reached"))).unwrap();
    }

    /// Lets the program go on from a point.
    pub fn go(&self, point: &str) {
        fs::write(self.directory.join(format!("{point}.go")), "").unwrap();
    }
}

/// Makes a command die at a point as by `kill -9`.
pub fn kill_at(command: &mut Command, point: &str) {
    command.env("FM_WATCH_SYNC", format!("{point}=kill"));
}

/// Takes protections away from a command.
pub fn without(command: &mut Command, protections: &[&str]) {
    command.env("FM_WATCH_WITHOUT", protections.join(","));
}
