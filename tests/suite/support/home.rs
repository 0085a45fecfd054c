//! A home of its own for each test: nothing from outside gets in, and nothing that runs in it outlives it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::background::{Answer, Background, LEAVES_WITHIN, wait_for_end};
use super::{SOON, processes, wait_until};

/// The program under test.
pub static PROGRAM: LazyLock<&'static str> = LazyLock::new(|| {
    // `CARGO_BIN_EXE_fm-watch` would do, but a compiler wrapper that is a plain shell script cannot pass such a name on.
    let program = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("fm-watch");
    assert!(program.is_file(), "{} is built together with the tests", program.display());
    String::leak(program.into_os_string().into_string().unwrap())
});

/// Settings with which a watcher reacts at once.
const FAST: [&str; 2] = ["poll=200ms", "signal_grace=0s"];

/// How long a command that should answer at once may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// A hermetic home.
#[derive(Debug)]
pub struct TestHome {
    directory: tempfile::TempDir,
    settings: Vec<String>,
}

impl TestHome {
    /// A fresh home whose watcher reacts at once.
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// A fresh home whose watcher reacts at once, with more settings (`key=value`) for every command.
    pub fn with(settings: &[&str]) -> Self {
        Self::plain().set(&FAST).set(settings)
    }

    /// A fresh home with nothing set at all.
    pub fn plain() -> Self {
        let directory = tempfile::Builder::new().prefix("fm-watch-test-").tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        for name in ["home", "user", "run"] {
            fs::create_dir(directory.path().join(name)).unwrap();
            fs::set_permissions(directory.path().join(name), fs::Permissions::from_mode(0o700)).unwrap();
        }
        Self { directory, settings: Vec::new() }
    }

    /// The same home, with more settings.
    pub fn set(mut self, settings: &[&str]) -> Self {
        self.settings.extend(settings.iter().map(|&setting| setting.to_owned()));
        self
    }

    /// A directory of the test's own, outside the home, which vanishes with it.
    pub fn scratch(&self) -> &Path {
        self.directory.path()
    }

    /// The home directory.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.root().join("state")
    }

    /// A file of ours, in `state/watch`.
    pub fn watch(&self, name: &str) -> PathBuf {
        self.state().join("watch").join(name)
    }

    /// A command in this test's hermetic environment: nothing of the caller's but `PATH`.
    pub fn bare(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let user = self.directory.path().join("user");
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &user)
            .env("XDG_STATE_HOME", user.join("state"))
            .env("XDG_CONFIG_HOME", user.join("config"))
            .env("XDG_RUNTIME_DIR", self.directory.path().join("run"))
            .env("LANG", "C.UTF-8")
            .current_dir(&user);
        command
    }

    /// The flags that every command of this home gets.
    pub fn flags(&self) -> Vec<String> {
        let mut flags = vec!["--home".to_owned(), self.root().to_str().unwrap().to_owned()];
        flags.extend(self.settings.iter().flat_map(|setting| ["--set".to_owned(), setting.clone()]));
        flags
    }

    /// The real program on this home.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare(*PROGRAM);
        command.args(self.flags()).args(arguments);
        command
    }

    /// Runs the program to its end.
    #[track_caller]
    pub fn ask(&self, arguments: &[&str]) -> Answer {
        finish(self.command(arguments))
    }

    /// Starts the program beside the test.
    pub fn spawn(&self, arguments: &[&str]) -> Background {
        Background::spawn(self.command(arguments))
    }

    /// Starts a watcher in the foreground beside the test, and waits until it has beaten.
    #[track_caller]
    pub fn watcher(&self) -> Background {
        let watcher = self.spawn(&["run"]);
        self.wait_until_watched_by(watcher.pid());
        watcher
    }

    /// Starts a detached watcher with `arm --no-wait` and gives its pid.
    #[track_caller]
    pub fn arm(&self) -> u32 {
        let answer = self.ask(&["arm", "--no-wait"]).expect_code(0);
        pid_in(&answer.stdout).unwrap_or_else(|| panic!("no pid in {answer:?}"))
    }

    /// Waits until this process is recorded as the holder and the verdict is `ok`.
    #[track_caller]
    pub fn wait_until_watched_by(&self, pid: u32) {
        wait_until(SOON, &format!("pid {pid} watches"), || {
            (self.pid() == Some(pid) && self.beat().is_some_and(|beat| beat["pid"] == pid)).then_some(())
        });
    }

    /// `owner.json`, if it is there and whole.
    pub fn owner(&self) -> Option<Value> {
        json_in(&self.watch("owner.json"))
    }

    /// `beat.json`, if it is there and whole.
    pub fn beat(&self) -> Option<Value> {
        json_in(&self.watch("beat.json"))
    }

    /// The pid in `owner.json`. It is information, and need not live.
    pub fn pid(&self) -> Option<u32> {
        u32::try_from(self.owner()?["pid"].as_u64()?).ok()
    }

    /// The lines of `history.jsonl`.
    pub fn history(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.watch("history.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// `status --json`.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.ask(&["status", "--json"]).json()
    }

    /// The word of the verdict.
    #[track_caller]
    pub fn verdict(&self) -> String {
        self.status()["verdict"].as_str().unwrap().to_owned()
    }

    /// Waits for a verdict.
    #[track_caller]
    pub fn wait_for_verdict(&self, verdict: &str) {
        wait_until(SOON, &format!("the verdict is {verdict}"), || (self.verdict() == verdict).then_some(()));
    }

    /// Appends to `<name>.status`, as an agent does.
    pub fn write_status(&self, name: &str, text: &str) {
        self.make_state();
        let path = self.state().join(format!("{name}.status"));
        let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// Writes `<name>.meta`: a task is in flight.
    pub fn meta(&self, name: &str, lines: &[&str]) {
        self.make_state();
        fs::write(self.state().join(format!("{name}.meta")), lines.join("\n") + "\n").unwrap();
    }

    /// Writes the settings file of the home.
    pub fn configure(&self, text: &str) {
        let directory = self.root().join("config");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("fm-watch.toml"), text).unwrap();
    }

    /// Makes the state directory as fm-watch would, for tests that put something in it first.
    pub fn make_state(&self) {
        make_private(&self.state());
    }

    /// Makes `state/watch` as fm-watch would.
    pub fn make_watch(&self) {
        self.make_state();
        make_private(&self.state().join("watch"));
    }

    /// Signals this home's process with this pid, after checking that it is one.
    #[track_caller]
    pub fn signal(&self, pid: u32, signal: Signal) {
        assert!(processes::signal_if_naming(pid, self.scratch(), signal), "pid {pid} is no process of this home");
    }

    /// Kills this home's process with this pid as `kill -9` does, and waits for its end.
    #[track_caller]
    pub fn kill(&self, pid: u32) {
        self.signal(pid, Signal::KILL);
        wait_for_end(pid, "the killed process");
    }

    /// Ends what runs in this home, by verified pid; says what was there.
    fn end_all(&self) -> Vec<(u32, String)> {
        if let Some(pid) = self.pid()
            && processes::signal_if_naming(pid, self.scratch(), Signal::TERM)
        {
            // Asked first, so that it ends what it has started itself. One that is stopped must go on to hear it.
            processes::signal_if_naming(pid, self.scratch(), Signal::CONT);
            let ended = || processes::has_ended(pid).then_some(());
            if fm_watch::base::wait_until::wait_until(LEAVES_WITHIN, Duration::from_millis(1), ended).is_none() {
                processes::signal_if_naming(pid, self.scratch(), Signal::KILL);
                wait_for_end(pid, "this home's watcher");
            }
        }
        // What the watcher had started ends by itself, or is a leak.
        let gone = || processes::naming(self.scratch()).is_empty().then_some(());
        if fm_watch::base::wait_until::wait_until(Duration::from_secs(3), Duration::from_millis(5), gone).is_some() {
            return Vec::new();
        }
        let left = processes::naming(self.scratch());
        for (pid, _) in &left {
            processes::signal_if_naming(*pid, self.scratch(), Signal::KILL);
        }
        left
    }
}

impl Drop for TestHome {
    fn drop(&mut self) {
        let left = self.end_all();
        if !std::thread::panicking() {
            assert!(left.is_empty(), "the test left processes behind: {left:#?}");
        }
    }
}

/// Runs a command to its end.
#[track_caller]
pub fn finish(command: Command) -> Answer {
    Background::spawn(command).finish(ANSWERS_WITHIN)
}

/// Copies the program. Another process writes the copy: a child that some other test forks just then would keep a file of
/// ours open for writing, and nobody can execute such a file.
#[track_caller]
pub fn copy_program(to: &Path) {
    let mut cp = Command::new("cp");
    cp.arg(*PROGRAM).arg(to);
    finish(cp).expect_code(0);
}

/// The number after `pid=` or `pid ` in a line.
pub fn pid_in(line: &str) -> Option<u32> {
    let (_, rest) = line.split_once("pid=").or_else(|| line.split_once("pid "))?;
    rest.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

/// Makes a directory of mode 0700, if it is not there.
pub fn make_private(path: &Path) {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).unwrap();
}

/// A test may have put anything there; opening it must not block.
fn json_in(path: &Path) -> Option<Value> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    file.metadata().ok()?.is_file().then_some(())?;
    serde_json::from_reader(file).ok()
}
