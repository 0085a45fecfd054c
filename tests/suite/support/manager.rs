//! A service manager in a test's hand: it starts what a unit says, listens to it, kills what is silent for too long, and
//! starts again what failed, as `systemd.service(5)` describes it. Times are the test's own.
//!
//! Its reading of the unit is its own, too, so that a mistake in the writing is not read back as it was meant.

use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::background::Background;
use super::home::TestHome;
use super::{SOON, wait_until};

/// What a unit says.
#[derive(Debug)]
pub struct Unit {
    /// The words of `ExecStart`.
    pub command: Vec<String>,
    /// The variables of `Environment`.
    pub environment: Vec<(String, String)>,
    text: String,
}

impl Unit {
    /// Reads it. What systemd would not take fails the test.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let mut unit = Self { command: Vec::new(), environment: Vec::new(), text: text.to_owned() };
        let words = words(unit.value("ExecStart").expect("a command"));
        assert!(!words[0].contains(['"', '\'', '\\']), "systemd takes no such program: {}", words[0]);
        // The program's path is taken as it is, arguments have their variables expanded.
        unit.command = words[1..].iter().map(|word| without_variables(word)).collect();
        unit.command.insert(0, words[0].clone());
        if let Some(value) = unit.value("Environment") {
            let pair = |word: &String| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
            unit.environment = self::words(value).iter().filter_map(pair).collect();
        }
        unit
    }

    /// The value of a setting.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    }

    fn codes(&self, name: &str) -> Vec<i32> {
        let codes = self.value(name).unwrap_or_default().split_whitespace();
        codes.map(|code| code.parse().unwrap()).collect()
    }

    fn answer_to(&self, status: ExitStatus) -> Next {
        let clean = [Signal::HUP, Signal::INT, Signal::TERM, Signal::PIPE].map(Signal::as_raw);
        let is_clean = match (status.code(), status.signal()) {
            (Some(code), _) => code == 0 || self.codes("SuccessExitStatus").contains(&code),
            (None, signal) => signal.is_some_and(|signal| clean.contains(&signal)),
        };
        let is_prevented = status.code().is_some_and(|code| self.codes("RestartPreventExitStatus").contains(&code));
        match self.value("Restart") {
            Some("on-failure") if !is_clean && !is_prevented => Next::Start,
            _ => Next::Rest,
        }
    }
}

/// The words of a value: each in double quotes, backslashes escape, and no percent sign stands alone.
fn words(value: &str) -> Vec<String> {
    let (mut words, mut characters) = (Vec::new(), value.chars());
    while let Some(character) = characters.next() {
        match character {
            ' ' => {}
            '"' => {
                let mut word = String::new();
                loop {
                    match characters.next().expect("a closing quote") {
                        '"' => break,
                        '\\' => word.push(match characters.next() {
                            Some(escaped @ ('"' | '\\')) => escaped,
                            other => panic!("{other:?} means something else behind a backslash"),
                        }),
                        plain => word.push(plain),
                    }
                }
                assert!(!word.replace("%%", "").contains('%'), "a specifier in {word}");
                words.push(word.replace("%%", "%"));
            }
            other => panic!("{other:?} outside of quotes in {value}"),
        }
    }
    words
}

fn without_variables(word: &str) -> String {
    assert!(!word.replace("$$", "").contains('$'), "a variable in {word}");
    word.replace("$$", "$")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Start,
    Rest,
}

/// The manager.
#[derive(Debug)]
pub struct Manager<'a> {
    home: &'a TestHome,
    unit: Unit,
    socket: UnixDatagram,
    at: PathBuf,
    allowed: Duration,
    process: Option<Background>,
    is_ready: bool,
    last_word: Instant,
    /// How often it has started the watcher.
    pub starts: usize,
    /// How often it has killed it for being silent.
    pub kills: usize,
    /// What it was told last of what the watcher does.
    pub status: String,
}

impl<'a> Manager<'a> {
    /// One that allows so much silence.
    pub fn new(home: &'a TestHome, allowed: Duration) -> Self {
        let text = home.ask(&["service", "print"]).expect_code(0).stdout;
        let at = home.scratch().join("notify");
        let socket = UnixDatagram::bind(&at).unwrap();
        socket.set_nonblocking(true).unwrap();
        let (unit, process, last_word, status) = (Unit::parse(&text), None, Instant::now(), String::new());
        Self { home, unit, socket, at, allowed, process, is_ready: false, last_word, starts: 0, kills: 0, status }
    }

    /// Starts the watcher, with a command that the test may change.
    pub fn start(&mut self, change: impl FnOnce(&mut Command)) {
        // Only the process itself knows its number before it runs.
        let mut command = self.home.bare("/bin/sh");
        command.args(["-c", "WATCHDOG_PID=$$ exec \"$@\"", "sh"]).args(&self.unit.command);
        command.envs(self.unit.environment.iter().cloned()).env("NOTIFY_SOCKET", &self.at);
        command.env("WATCHDOG_USEC", self.allowed.as_micros().to_string());
        change(&mut command);
        self.process = Some(Background::spawn(command));
        (self.is_ready, self.last_word) = (false, Instant::now());
        self.starts += 1;
    }

    /// What its unit says.
    pub fn value(&self, setting: &str) -> Option<&str> {
        self.unit.value(setting)
    }

    /// The pid of what it keeps.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Background::pid)
    }

    /// Sends a signal to what it keeps.
    pub fn signal(&self, signal: Signal) {
        self.process.as_ref().unwrap().signal(signal);
    }

    /// Does its work until something is so.
    #[track_caller]
    pub fn works_until(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        wait_until(SOON, what, || {
            self.work();
            is_so(self).then_some(())
        });
    }

    /// Does its work until it keeps a watcher that is ready, and gives the pid.
    #[track_caller]
    pub fn works_until_ready(&mut self) -> u32 {
        self.works_until("the watcher is ready", |manager| manager.is_ready && manager.process.is_some());
        self.pid().unwrap()
    }

    fn work(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            self.is_ready |= text.lines().any(|line| line == "READY=1");
            if let Some(status) = text.lines().find_map(|line| line.strip_prefix("STATUS=")) {
                status.clone_into(&mut self.status);
            }
            self.last_word = Instant::now();
        }
        let Some(process) = &mut self.process else { return };
        if let Some(status) = process.ended() {
            self.process = None;
            if self.unit.answer_to(status) == Next::Start {
                self.start(|_| {});
            }
        } else if self.is_ready && self.last_word.elapsed() > self.allowed {
            // As systemd does it: the second signal lets a stopped process hear the first.
            process.signal(Signal::ABORT);
            process.signal(Signal::CONT);
            (self.kills, self.last_word) = (self.kills + 1, Instant::now());
        }
    }
}
