//! `daemon logs`: what a daemon printed, and what it prints, within two bounded files and whatever becomes of the disk.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Background, SOON, TestHome, processes, wait_until, wait_until_true};

cases! {
    the_last_lines_are_printed_as_they_are,
    each_line_is_an_object_if_that_is_wanted,
    what_comes_is_followed_over_the_change_of_files,
    following_ends_well_on_a_signal_and_when_nobody_reads,
    a_daemon_that_nobody_knows_is_an_error_and_one_that_never_ran_is_silent,
    the_files_stay_within_their_bound_and_end_with_the_newest_line,
    a_log_that_cannot_be_written_holds_up_no_daemon_and_says_what_is_missing,
}

/// A daemon that prints the lines that it is told.
struct Echo {
    home: TestHome,
    fifo: PathBuf,
}

impl Echo {
    fn start(settings: &str) -> Self {
        let home = TestHome::new();
        let (script, fifo) = (home.scratch().join("echo.sh"), home.scratch().join("fifo"));
        let text = "exec 3<>\"${0%/*}/fifo\"; while read -r line <&3; do printf '%b\\n' \"$line\"; done\n";
        fs::write(&script, text).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        home.configure(&format!(
            "[daemon.echo]\ncommand = [\"/bin/sh\", \"{}\"]\nready = {{ delay = \"1ms\" }}\n{settings}\n\
             [daemon.never]\ncommand = [\"/bin/true\"]\n",
            script.display()
        ));
        home.ask(&["daemon", "ensure", "echo"]).expect_code(0);
        Self { home, fifo }
    }

    fn directory(&self) -> PathBuf {
        self.home.watch("daemons").join("echo")
    }

    /// Has it print lines. Escapes in them are those of printf(1).
    fn print(&self, lines: &[&str]) {
        let mut fifo = fs::OpenOptions::new().write(true).open(&self.fifo).unwrap();
        for line in lines {
            writeln!(fifo, "{line}").unwrap();
        }
    }

    #[track_caller]
    fn wait_until_logged(&self, text: &str) {
        wait_until_true(SOON, &format!("{text:?} is in the log"), || {
            self.home.ask(&["daemon", "logs", "echo", "-n", "3"]).stdout.contains(text)
        });
    }

    fn stop(&self) {
        self.home.ask(&["daemon", "stop", "echo"]).expect_code(0);
    }
}

fn the_last_lines_are_printed_as_they_are() {
    let echo = Echo::start("");
    echo.print(&["one", "two", r"\033[31mthree\0377"]);
    echo.wait_until_logged("three");
    let answer = echo.home.ask(&["daemon", "logs", "echo", "-n", "2"]).expect_code(0);
    // The test reads text; that the last byte is none is seen in the file.
    assert_eq!(answer.stdout, "two\n\u{1b}[31mthree\u{fffd}\n");
    assert!(fs::read(echo.directory().join("log")).unwrap().ends_with(b"three\xff\n"));
    assert_eq!(echo.home.ask(&["daemon", "logs", "echo", "-n", "0"]).expect_code(0).stdout, "");
    echo.stop();
}

fn each_line_is_an_object_if_that_is_wanted() {
    let echo = Echo::start("");
    echo.print(&["one", "two"]);
    echo.wait_until_logged("two");
    let answer = echo.home.ask(&["daemon", "logs", "echo", "--json"]).expect_code(0);
    let lines: Vec<serde_json::Value> = answer.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[1], serde_json::json!({"schema": 1, "name": "echo", "line": "two"}), "{answer:?}");
    echo.stop();
}

fn what_comes_is_followed_over_the_change_of_files() {
    let echo = Echo::start("log_max = \"4KiB\"");
    echo.print(&["before"]);
    echo.wait_until_logged("before");
    let follower = echo.home.spawn(&["daemon", "logs", "echo", "-f"]);
    follower.wait_for_line("before");
    // Each batch is seen before the next is printed, so nothing is lost to a reader who is slow.
    let mut expected = vec!["before".to_owned()];
    for batch in 0..8 {
        let lines: Vec<_> = (0..10).map(|number| format!("{batch}-{number} {}", "x".repeat(100))).collect();
        echo.print(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        follower.wait_for_line(&lines[9]);
        expected.extend(lines);
    }
    assert!(echo.directory().join("log.1").exists(), "the files did change");
    follower.signal(Signal::TERM);
    let answer = follower.finish(SOON).expect_code(0);
    assert_eq!(answer.lines(), expected);
    assert_eq!(answer.stderr, "");
    echo.stop();
}

fn following_ends_well_on_a_signal_and_when_nobody_reads() {
    let echo = Echo::start("");
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        echo.print(&["here"]);
        let follower = echo.home.spawn(&["daemon", "logs", "echo", "-f"]);
        follower.wait_for_line("here");
        follower.signal(signal);
        assert_eq!(follower.finish(SOON).expect_code(0).stderr, "");
    }
    // Nothing more is printed, so only the reader's end can end it.
    let mut command = echo.home.bare("/bin/sh");
    let line = "\"$@\" | head -n 1; echo \"over $?\"";
    command.args(["-c", line, "sh", *crate::support::home::PROGRAM]).args(echo.home.flags());
    command.args(["daemon", "logs", "echo", "-f", "-n", "1"]);
    let answer = Background::spawn(command).finish(SOON).expect_code(0);
    assert_eq!(answer.stdout, "here\nover 0\n", "{answer:?}");
    let left = || processes::naming(echo.home.scratch()).into_iter().any(|(_, line)| line.contains(" logs "));
    wait_until_true(SOON, "the one who followed has left, too", || !left());
    echo.stop();
}

fn a_daemon_that_nobody_knows_is_an_error_and_one_that_never_ran_is_silent() {
    let echo = Echo::start("");
    let answer = echo.home.ask(&["daemon", "logs", "nobody"]).expect_code(2);
    assert!(answer.stderr.contains("nobody"), "{answer:?}");
    assert_eq!(echo.home.ask(&["daemon", "logs", "never"]).expect_code(0).stdout, "");
    echo.stop();
}

fn the_files_stay_within_their_bound_and_end_with_the_newest_line() {
    let echo = Echo::start("log_max = \"4KiB\"");
    for number in 0..200 {
        echo.print(&[&format!("line {number} {}", "y".repeat(60))]);
    }
    echo.wait_until_logged("line 199 ");
    for name in ["log", "log.1"] {
        let size = fs::metadata(echo.directory().join(name)).unwrap().len();
        assert!((1..=4096).contains(&size), "{name} has {size} bytes");
    }
    let answer = echo.home.ask(&["daemon", "logs", "echo", "-n", "1000"]).expect_code(0);
    let lines = answer.lines();
    assert!(lines.len() > 50 && lines.last().unwrap().starts_with("line 199 "), "{lines:?}");
    let numbers: Vec<u32> = lines.iter().map(|line| line.split(' ').nth(1).unwrap().parse().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    echo.stop();
}

fn a_log_that_cannot_be_written_holds_up_no_daemon_and_says_what_is_missing() {
    let echo = Echo::start("");
    echo.print(&["before"]);
    echo.wait_until_logged("before");
    // Somebody has put a directory where the log was: as with a full disk, no write can succeed.
    fs::rename(echo.directory().join("log"), echo.directory().join("elsewhere")).unwrap();
    fs::create_dir(echo.directory().join("log")).unwrap();
    // The open file goes on being written as long as it has a name, so that has to go, too.
    fs::remove_file(echo.directory().join("elsewhere")).unwrap();
    let long = "z".repeat(1000);
    for _ in 0..2000 {
        // It reads on, and the pipe takes only so much: a daemon that waited for its log would stand still here.
        echo.print(&[&long]);
    }
    let pid = wait_until(SOON, "the daemon is known", || {
        let life: serde_json::Value =
            serde_json::from_slice(&fs::read(echo.directory().join("life.json")).ok()?).ok()?;
        u32::try_from(life["process"]["pid"].as_u64()?).ok()
    });
    assert!(processes::is_alive(pid));
    fs::remove_dir(echo.directory().join("log")).unwrap();
    wait_until(Duration::from_secs(20), "the gap is told", || {
        echo.print(&["after"]);
        let answer = echo.home.ask(&["daemon", "logs", "echo", "-n", "100"]);
        (answer.stdout.contains("bytes of output are missing here") && answer.stdout.contains("after")).then_some(())
    });
    echo.stop();
}
