//! A firstmate home whose scripts this program stands in for. The scripts are small ones of the tests' own, which say what
//! the known ones say and do nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use super::home::{PROGRAM, finish};
use super::{Answer, Background, TestHome};

/// The scripts, each with what it says.
pub const SCRIPTS: [(&str, &str); 5] = [
    ("fm-watch.sh", "watcher: already running signal: stale: check: heartbeat"),
    ("fm-watch-arm.sh", "watcher: started watcher: healthy watcher: FAILED [--restart]"),
    ("fm-guard.sh", "WATCHER DOWN queued wakes pending"),
    ("fm-wake-drain.sh", "fm-wake-lib.sh"),
    ("fm-wake-lib.sh", "a library"),
];

/// Knobs with which a watcher reacts at once.
const FAST: [(&str, &str); 2] = [("FM_POLL", "0.2"), ("FM_SIGNAL_GRACE", "0")];

/// A firstmate home.
#[derive(Debug)]
pub struct Fleet {
    /// The home itself.
    pub home: TestHome,
}

impl Fleet {
    /// One with its own scripts.
    pub fn new() -> Self {
        let home = TestHome::new();
        let fleet = Self { home };
        fs::create_dir(fleet.bin()).unwrap();
        for (name, says) in SCRIPTS {
            fleet.write(name, &format!("#!/usr/bin/env bash\necho '{says}'\n"));
        }
        fleet
    }

    /// One that was adopted.
    pub fn adopted() -> Self {
        let fleet = Self::new();
        fleet.adopt(&[]).expect_code(0);
        fleet
    }

    /// Where the scripts are.
    pub fn bin(&self) -> PathBuf {
        self.home.root().join("bin")
    }

    /// Writes a script.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.bin().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The command that adopts.
    pub fn adopting(&self, flags: &[&str]) -> Command {
        let mut command = self.home.bare(*PROGRAM);
        command.arg("adopt");
        if !flags.contains(&"--undo") {
            command.arg("firstmate");
        }
        command.arg(self.home.root()).args(flags);
        command
    }

    /// Adopts.
    #[track_caller]
    pub fn adopt(&self, flags: &[&str]) -> Answer {
        finish(self.adopting(flags))
    }

    /// A script, with knobs (`NAME=VALUE`) and arguments.
    pub fn script(&self, name: &str, knobs: &[(&str, &str)], arguments: &[&str]) -> Command {
        let mut command = self.home.bare(self.bin().join(name));
        command.envs(FAST).envs(knobs.iter().copied()).args(arguments);
        command
    }

    /// Runs a script to its end.
    #[track_caller]
    pub fn ask(&self, name: &str, knobs: &[(&str, &str)], arguments: &[&str]) -> Answer {
        finish(self.script(name, knobs, arguments))
    }

    /// Starts a script beside the test.
    pub fn spawn(&self, name: &str, knobs: &[(&str, &str)], arguments: &[&str]) -> Background {
        Background::spawn(self.script(name, knobs, arguments))
    }
}
