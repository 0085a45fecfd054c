//! Panes, with a real tmux on a server of its own: one tmux process per poll, each stale state told once.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use crate::support::home::finish;
use crate::support::{Background, SOON, Skip, TestHome, requires, stays_true, wait_until_true};

cases! {
    a_pane_that_stands_still_is_told_once_with_what_it_shows,
    a_pane_that_changes_is_told_again_only_when_it_stands_still_again,
    a_busy_mark_keeps_a_still_pane_quiet,
    a_second_mate_is_skipped_and_a_missing_window_spoils_no_other,
    one_tmux_process_serves_all_windows_of_a_poll,
    without_tasks_no_tmux_is_started,
    a_missing_or_dead_tmux_server_is_told_in_status_and_costs_nothing_else,
}

/// A tmux server of the test's own, found through `TMUX_TMPDIR`, and a `tmux` early in `PATH` that counts its calls.
pub struct Tmux {
    pub home: TestHome,
}

impl Tmux {
    pub fn new(settings: &[&str]) -> Result<Self, Skip> {
        let real = requires("tmux")?;
        let home = TestHome::with(settings);
        let bin = home.scratch().join("bin");
        fs::create_dir(&bin).unwrap();
        let wrapper = bin.join("tmux");
        let log = home.scratch().join("calls");
        let script = format!("#!/bin/sh\necho \"$$ $*\" >> {}\nexec {} \"$@\"\n", log.display(), real.display());
        fs::write(&wrapper, script).unwrap();
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
        let tmux = Self { home };
        let started = finish(tmux.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-s",
            "fm",
            "-x",
            "80",
            "-y",
            "24",
            "-n",
            "first",
            "cat",
        ]));
        if started.code != Some(0) {
            return Err(Skip(format!("no tmux server can be started here: {}", started.stderr.trim())));
        }
        Ok(tmux)
    }

    /// The real tmux on this server, past the counting.
    pub fn tmux(&self, arguments: &[&str]) -> Command {
        let mut command = self.home.bare("tmux");
        command.env("TMUX_TMPDIR", self.home.scratch()).env("TERM", "xterm").args(arguments);
        command
    }

    #[track_caller]
    pub fn ask(&self, arguments: &[&str]) -> String {
        finish(self.tmux(arguments)).expect_code(0).stdout
    }

    /// A window in which `cat` shows what is typed.
    pub fn window(&self, name: &str) {
        self.ask(&["new-window", "-d", "-t", "fm:", "-n", name, "cat"]);
    }

    /// Types a line into a window and waits until it is shown.
    #[track_caller]
    pub fn show(&self, window: &str, text: &str) {
        self.ask(&["send-keys", "-t", window, "-l", text]);
        self.ask(&["send-keys", "-t", window, "Enter"]);
        wait_until_true(SOON, &format!("{window} shows {text}"), || {
            self.ask(&["capture-pane", "-p", "-t", window]).matches(text).count() >= 2
        });
    }

    /// The watcher, whose `tmux` is the counting one.
    #[track_caller]
    pub fn watcher(&self) -> Background {
        let mut command = self.home.command(&["run"]);
        let path = format!("{}:{}", self.home.scratch().join("bin").display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).env("TMUX_TMPDIR", self.home.scratch()).env("TERM", "xterm");
        let watcher = Background::spawn(command);
        self.home.wait_until_watched_by(watcher.pid());
        watcher
    }

    /// How many tmux processes the watcher has started.
    fn calls(&self) -> usize {
        fs::read_to_string(self.home.scratch().join("calls")).unwrap_or_default().lines().count()
    }

    /// Waits until so many polls have looked at the panes.
    #[track_caller]
    pub fn wait_for_polls(&self, polls: usize) {
        let before = self.calls();
        wait_until_true(SOON, "the panes are looked at", || self.calls() >= before + polls);
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        finish(self.tmux(&["kill-server"]));
    }
}

fn a_pane_that_stands_still_is_told_once_with_what_it_shows() -> Result<(), Skip> {
    let tmux = Tmux::new(&[])?;
    tmux.home.meta("first", &["window=fm:first", "kind=worker"]);
    tmux.show("fm:first", "what is it you want?");
    let watcher = tmux.watcher();
    let wake = tmux.home.wait_for_wake("stale", "fm:first");
    assert_eq!(wake["text"], "stale: fm:first");
    assert!(wake["context"].as_str().unwrap().contains("what is it you want?"), "{wake}");
    tmux.home.ask(&["drain", "--consume"]).expect_code(0);
    tmux.wait_for_polls(5);
    assert_eq!(tmux.home.drain(), [], "each stale state once");
    // Also after a kill and a new watcher.
    tmux.home.kill(watcher.pid());
    drop(watcher);
    let _next = tmux.watcher();
    tmux.wait_for_polls(5);
    assert_eq!(tmux.home.drain(), [], "and the next watcher knows it");
    Ok(())
}

fn a_pane_that_changes_is_told_again_only_when_it_stands_still_again() -> Result<(), Skip> {
    let tmux = Tmux::new(&[])?;
    tmux.home.meta("first", &["window=fm:first"]);
    tmux.show("fm:first", "one");
    let _watcher = tmux.watcher();
    tmux.home.wait_for_wake("stale", "fm:first");
    tmux.home.ask(&["drain", "--consume"]).expect_code(0);
    tmux.show("fm:first", "two");
    let wake = tmux.home.wait_for_wake("stale", "fm:first");
    assert!(wake["context"].as_str().unwrap().contains("two"), "{wake}");
    tmux.home.ask(&["drain", "--consume"]).expect_code(0);
    // A clock on the screen that never stands still is no reason.
    tmux.ask(&["respawn-window", "-k", "-t", "fm:first", "while :; do date +%N; sleep 0.02; done"]);
    tmux.wait_for_polls(6);
    assert_eq!(tmux.home.drain(), []);
    Ok(())
}

fn a_busy_mark_keeps_a_still_pane_quiet() -> Result<(), Skip> {
    let tmux = Tmux::new(&[])?;
    tmux.home.meta("first", &["window=fm:first"]);
    tmux.show("fm:first", "thinking (esc to interrupt)");
    let _watcher = tmux.watcher();
    tmux.wait_for_polls(6);
    assert_eq!(tmux.home.drain(), []);
    // Seven more lines push the mark out of the last six.
    for line in 0..7 {
        tmux.show("fm:first", &format!("line {line}"));
    }
    tmux.home.wait_for_wake("stale", "fm:first");
    Ok(())
}

fn a_second_mate_is_skipped_and_a_missing_window_spoils_no_other() -> Result<(), Skip> {
    let tmux = Tmux::new(&[])?;
    tmux.window("mate");
    tmux.window("last");
    tmux.window("gone-10");
    tmux.show("fm:mate", "second mate");
    tmux.show("fm:last", "last");
    tmux.home.meta("a", &["window=fm:gone", "kind=worker"]);
    tmux.home.meta("b", &["window=fm:gone-1", "kind=worker"]);
    tmux.home.meta("c", &["window=fm:mate", "kind=secondmate"]);
    tmux.home.meta("d", &["window=no'such;session:\"x\" #{pid}", "kind=worker"]);
    tmux.home.meta("e", &["window=fm:last", "kind=worker"]);
    tmux.home.meta("f", &["kind=worker"]);
    let _watcher = tmux.watcher();
    tmux.home.wait_for_wake("stale", "fm:last");
    tmux.wait_for_polls(5);
    assert_eq!(tmux.home.pending_keys(), ["fm:last"], "no other window is taken for one that is gone");
    assert_eq!(tmux.home.status()["degraded"], serde_json::json!([]));
    Ok(())
}

fn one_tmux_process_serves_all_windows_of_a_poll() -> Result<(), Skip> {
    const WINDOWS: usize = 12;
    let tmux = Tmux::new(&["poll=1s"])?;
    for number in 0..WINDOWS {
        tmux.window(&format!("w{number}"));
        tmux.home.meta(&format!("task-{number}"), &[&format!("window=fm:w{number}")]);
    }
    let start = std::time::Instant::now();
    let _watcher = tmux.watcher();
    wait_until_true(SOON, "all windows are told", || tmux.home.drain().len() == WINDOWS);
    tmux.wait_for_polls(2);
    let (calls, polls) = (tmux.calls() as u64, start.elapsed().as_secs() + 2);
    assert!(calls <= polls, "{calls} tmux processes in at most {polls} polls");
    Ok(())
}

fn without_tasks_no_tmux_is_started() -> Result<(), Skip> {
    let tmux = Tmux::new(&[])?;
    tmux.home.meta("no-window", &["kind=worker"]);
    let _watcher = tmux.watcher();
    tmux.home.write_status("probe", "x");
    tmux.home.wait_for_wake("signal", "probe.status");
    stays_true(Duration::from_secs(1), "no tmux is started", || tmux.calls() == 0);
    Ok(())
}

fn a_missing_or_dead_tmux_server_is_told_in_status_and_costs_nothing_else() -> Result<(), Skip> {
    let tmux = Tmux::new(&[])?;
    tmux.home.meta("first", &["window=fm:first"]);
    let _watcher = tmux.watcher();
    tmux.home.wait_for_wake("stale", "fm:first");
    tmux.ask(&["kill-server"]);
    wait_until_true(SOON, "status says so", || tmux.home.status()["degraded"].to_string().contains("panes"));
    tmux.home.write_status("probe", "x");
    tmux.home.wait_for_wake("signal", "probe.status");
    assert_eq!(tmux.home.status()["verdict"], "ok");
    Ok(())
}
