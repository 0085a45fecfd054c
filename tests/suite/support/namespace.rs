//! Namespaces: chosen pids, small disks, hidden `/proc`.

use std::process::Command;

use super::home::{PROGRAM, TestHome};
use super::skip::{Skip, requires, requires_root};

/// What is unshared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    /// Pids, with a `/proc` of their own.
    Pids,
    /// Pids, while `/proc` still shows the outer ones.
    PidsWithOuterProc,
    /// Mounts.
    Mounts,
}

impl Namespace {
    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Pids => &["--pid", "--fork", "--kill-child", "--mount-proc"],
            Self::PidsWithOuterProc => &["--pid", "--fork", "--kill-child"],
            Self::Mounts => &["--mount"],
        }
    }

    /// Makes sure that it can be had here.
    pub fn required(self, home: &TestHome) -> Result<(), Skip> {
        requires("unshare")?;
        requires_root()?;
        let mut probe = home.bare("unshare");
        probe.args(self.flags()).arg("true");
        let answer = super::home::finish(probe);
        let why = || Skip(format!("unshare {} is refused here: {}", self.flags().join(" "), answer.stderr.trim()));
        if answer.code == Some(0) { Ok(()) } else { Err(why()) }
    }

    /// A bash script inside, which stops at the first failure. `fm ARG...` runs the program on the home, `watch &`
    /// is a watcher whose pid is `$!`, `$STATE` is the state directory, `$SCRATCH` the test's own, `wait_for CONDITION...` waits until a command succeeds, and
    /// `next_pid N` makes the next process of a pid namespace have that pid.
    pub fn script(self, home: &TestHome, script: &str) -> Command {
        let mut command = home.bare("unshare");
        let flags = home.flags();
        command
            .args(self.flags())
            .args(["bash", "-c", &format!("{PRELUDE}\n{script}"), "script", *PROGRAM])
            .args(flags)
            .env("STATE", home.state())
            .env("SCRATCH", home.scratch());
        command
    }
}

const PRELUDE: &str = r#"
set -euo pipefail
program=("$@")
fm() { "${program[@]}" "$@"; }
watch() { exec "${program[@]}" run "$@"; }
next_pid() { echo $(($1 - 1)) > /proc/sys/kernel/ns_last_pid; }
wait_for() {
    local end=$((SECONDS + 20))
    until "$@"; do
        [ $SECONDS -lt $end ] || { echo "waited in vain for: $*" >&2; exit 99; }
        read -rt 0.01 <> <(:) || :
    done
}
"#;
