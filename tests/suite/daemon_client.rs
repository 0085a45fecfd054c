//! The commands of daemons: attaching, starting, stopping, and what they say about it.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::background::{wait_for_end, wait_for_state};
use crate::support::home::{PROGRAM, finish, make_private, pid_in};
use crate::support::namespace::Namespace;
use crate::support::player::{self, births, noted};
#[cfg(feature = "sync-points")]
use crate::support::sync::Points;
use crate::support::{Answer, Background, SOON, Skip, TestHome, processes, wait_until, wait_until_true};

cases! {
    a_daemon_is_started_once_and_attached_to_then,
    a_daemon_of_the_settings_is_known_by_its_name,
    a_name_that_nobody_knows_is_a_mistake_of_usage,
    json_says_the_same,
    a_daemon_that_fails_is_reported_at_once_with_what_this_life_printed,
    a_long_last_word_is_cut_and_made_safe,
    a_missing_program_is_reported,
    whatever_else_is_at_the_ready_socket_stays_and_nothing_is_started,
    a_stopped_daemon_is_stalled_and_never_doubled,
    a_daemon_that_does_not_answer_is_stalled_and_never_doubled,
    a_daemon_that_is_asked_nothing_notices_nothing_of_those_who_attach,
    a_file_in_the_place_of_the_directory_is_an_error_at_once,
    a_turn_that_cannot_be_had_is_noted_and_the_daemon_starts,
    many_clients_at_once_get_one_daemon,
    many_clients_of_a_broken_daemon_do_not_each_start_it,
    a_kick_does_not_wait_and_its_daemon_comes,
    a_client_that_is_killed_leaves_its_start_to_the_next,
    a_killed_daemon_is_started_again_by_the_next_client,
    a_daemon_without_a_monitor_gets_one_from_the_next_client,
    a_daemon_that_was_given_up_is_refused_until_a_restart,
    stop_ends_all_that_a_daemon_started,
    a_daemon_that_ignores_its_stop_signal_is_killed_after_its_grace,
    stop_sends_the_signal_of_the_settings,
    stop_of_what_does_not_run_is_no_failure,
    a_rest_of_a_dead_daemon_is_stopped,
    a_forged_pid_gets_no_signal,
    a_reused_pid_gets_no_signal,
    #[cfg(feature = "sync-points")]
    without_the_identity_whoever_has_the_pid_is_stopped,
    #[cfg(feature = "sync-points")]
    a_daemon_that_ends_between_proof_and_signal_is_nobody_elses_end,
    a_restart_gives_a_new_life,
    a_restart_needs_no_settings,
    status_tells_each_state_and_exits_by_it,
    status_of_all_lists_the_settings_and_the_past,
    verify_finds_a_second_instance_and_signals_nobody,
    verify_takes_what_a_daemon_forked_for_its_own,
}

/// A home with a daemon `d`, which is a player.
struct Bench {
    home: TestHome,
}

const AT_ONCE: [&str; 2] = ["--ready-delay", "10ms"];

impl Bench {
    fn new() -> Self {
        let bench = Self { home: TestHome::with(&["daemons.stop_grace=2s"]) };
        fs::create_dir(bench.stage()).unwrap();
        bench
    }

    /// Where players note what they do.
    fn stage(&self) -> PathBuf {
        self.home.scratch().join("stage")
    }

    fn path(&self, name: &str) -> String {
        self.home.scratch().join(name).to_str().unwrap().to_owned()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.watch("daemons").join("d").join(name)
    }

    fn record(&self, name: &str) -> Option<Value> {
        serde_json::from_slice(&fs::read(self.file(name)).ok()?).ok()
    }

    fn births(&self) -> usize {
        births(&self.stage())
    }

    /// Lets players go on that await this.
    fn give(&self, name: &str) {
        fs::write(self.stage().join(name), "").unwrap();
    }

    /// `daemon VERB --name d OPTIONS -- PLAYER STEPS`.
    fn command(&self, verb: &str, options: &[&str], steps: &[&str]) -> Command {
        let mut command = self.home.command(&["daemon", verb, "--name", "d"]);
        command.args(options).arg("--").args(player::command(&self.stage(), steps));
        command
    }

    #[track_caller]
    fn ensure(&self, options: &[&str], steps: &[&str]) -> Answer {
        finish(self.command("ensure", options, steps))
    }

    /// Makes sure that a daemon is ready, and gives its pid.
    #[track_caller]
    fn ready(&self, options: &[&str], steps: &[&str]) -> u32 {
        pid_in(&self.ensure(options, steps).expect_code(0).stdout).unwrap()
    }

    #[track_caller]
    fn ask(&self, verb: &str) -> Answer {
        self.home.ask(&["daemon", verb, "d"])
    }

    #[track_caller]
    fn stop(&self) {
        self.ask("stop").expect_code(0);
    }

    #[track_caller]
    fn status(&self) -> Value {
        self.home.ask(&["daemon", "status", "d", "--json"]).json()
    }

    /// The state word of the table, which the exit code must fit.
    #[track_caller]
    fn state(&self) -> String {
        let answer = self.ask("status");
        let word = answer.lines()[1].split_ascii_whitespace().nth(1).unwrap().to_owned();
        let code = match word.as_str() {
            "READY" | "STARTING" => 0,
            "STOPPED" | "BACKOFF" | "FATAL" => 3,
            _ => 4,
        };
        assert_eq!(answer.code, Some(code), "{answer:?}");
        word
    }

    fn monitor(&self) -> u32 {
        u32::try_from(self.record("life.json").unwrap()["monitor"]["pid"].as_u64().unwrap()).unwrap()
    }

    /// Writes a record of the keeper.
    fn keep(&self, course: &Value) {
        let life = self.record("life.json").unwrap();
        let keeping = json!({
            "schema": 1, "generation": life["generation"], "boot_id": life["process"]["boot_id"],
            "past": {"restarts_ms": [], "in_a_row": 0}, "restarts": 3, "course": course,
        });
        fs::write(self.file("keep.json"), keeping.to_string()).unwrap();
    }
}

fn a_daemon_is_started_once_and_attached_to_then() {
    let bench = Bench::new();
    let started = bench.ensure(&AT_ONCE, &["stay"]).expect_code(0);
    let pid = pid_in(&started.stdout).unwrap();
    let lines = started.lines();
    assert!(lines.len() == 1 && lines[0].starts_with(&format!("daemon: started d pid={pid} (ready in ")), "{started:?}");
    assert!(lines[0].ends_with("ms)"), "{started:?}");
    for verb in ["ensure", "kick"] {
        let attached = finish(bench.command(verb, &AT_ONCE, &["stay"])).expect_code(0);
        assert_eq!(attached.stdout, format!("daemon: attached d pid={pid}\n"), "{verb}");
    }
    wait_until_true(SOON, "it runs", || bench.births() == 1);
    let stopped = bench.ask("stop").expect_code(0);
    assert_eq!(stopped.stdout, format!("daemon: stopped d pid={pid}\n"));
    assert_eq!(bench.births(), 1);
    assert!(processes::has_ended(pid));
}

fn a_daemon_of_the_settings_is_known_by_its_name() {
    let bench = Bench::new();
    let command = json!(player::command(&bench.stage(), &["stay"]));
    bench.home.configure(&format!("[daemon.d]\ncommand = {command}\nready = {{ delay = \"10ms\" }}\n"));
    let pid = pid_in(&bench.ask("ensure").expect_code(0).stdout).unwrap();
    assert_eq!(bench.ask("kick").expect_code(0).stdout, format!("daemon: attached d pid={pid}\n"));
    bench.stop();
    assert_eq!(bench.ask("kick").expect_code(0).stdout, "daemon: kicked d\n");
    bench.ask("ensure").expect_code(0);
    bench.stop();
}

fn a_name_that_nobody_knows_is_a_mistake_of_usage() {
    let bench = Bench::new();
    bench.home.configure("[daemon.cache]\ncommand = [\"true\"]\n");
    for verb in ["ensure", "kick", "stop", "restart", "status", "verify"] {
        let answer = bench.home.ask(&["daemon", verb, "cahce"]).expect_code(2);
        assert!(answer.stdout.is_empty() && answer.stderr.contains("is `cache` meant?"), "{verb}: {answer:?}");
        let answer = bench.home.ask(&["daemon", verb, "other"]).expect_code(2);
        assert!(answer.stderr.contains("there is no [daemon.other]"), "{verb}: {answer:?}");
    }
    let answer = bench.home.ask(&["daemon", "ensure", "../x"]).expect_code(2);
    assert!(answer.stderr.contains("is no name for a daemon"), "{answer:?}");
    assert!(!bench.home.watch("daemons").exists());
}

fn json_says_the_same() {
    let bench = Bench::new();
    let mut ensure = bench.home.command(&["--json", "daemon", "ensure", "--name", "d", "--ready-delay", "10ms", "--"]);
    ensure.args(player::command(&bench.stage(), &["stay"]));
    let started = finish(ensure).json();
    assert_eq!((&started["event"], &started["name"], &started["generation"]), (&json!("started"), &json!("d"), &json!(1)));
    assert!(started["ready_ms"].as_u64().unwrap() >= 10, "{started}");
    let status = bench.status();
    for key in ["pid", "generation"] {
        assert_eq!(status[key], started[key], "{status}");
    }
    assert_eq!((&status["state"], &status["restarts"]), (&json!("READY"), &json!(0)), "{status}");
    assert!(status["memory_bytes"].as_u64().unwrap() > 0 && status["cpu_ms"].is_u64(), "{status}");
    let verified = bench.home.ask(&["daemon", "verify", "d", "--json"]).json();
    assert_eq!((&verified["pid"], &verified["others"]), (&started["pid"], &json!([])));
    let stopped = bench.home.ask(&["daemon", "stop", "d", "--json"]).json();
    assert_eq!((&stopped["event"], &stopped["pid"]), (&json!("stopped"), &started["pid"]));
    let mut broken = bench.home.command(&["--json", "daemon", "ensure", "--name", "d", "--"]);
    broken.args(player::command(&bench.stage(), &["say:oh", "exit:7"]));
    let failed = finish(broken).expect_code(1).json();
    assert_eq!((&failed["event"], &failed["last_words"]), (&json!("failed"), &json!("oh")), "{failed}");
}

fn a_daemon_that_fails_is_reported_at_once_with_what_this_life_printed() {
    let bench = Bench::new();
    let first = bench.ensure(&["--ready-fd"], &["say:one", "exit:7"]).expect_code(1);
    assert!(first.stdout.starts_with("daemon: FAILED d - exited with 7"), "{first:?}");
    assert!(first.lines().len() == 1 && first.stderr.contains("d: one"), "{first:?}");
    // The default deadline is half a minute.
    assert!(first.took < Duration::from_secs(10), "{first:?}");
    let second = bench.ensure(&["--ready-fd"], &["say:two", "exit:8"]).expect_code(1);
    assert!(second.stdout.contains("exited with 8"), "{second:?}");
    assert!(second.stderr.contains("d: two") && !second.stderr.contains("one"), "{second:?}");
    let silent = bench.ensure(&["--ready-fd"], &["exit:9"]).expect_code(1);
    assert_eq!(silent.stderr, "");
    let late = bench.ensure(&["--ready-fd", "--ready-timeout", "50ms"], &["say:hm", "stay"]).expect_code(1);
    assert!(late.stdout.starts_with("daemon: FAILED d - ") && late.stderr.contains("d: hm"), "{late:?}");
    assert_eq!(bench.state(), "STOPPED");
}

fn a_long_last_word_is_cut_and_made_safe() {
    let bench = Bench::new();
    let failed = bench.ensure(&["--ready-fd"], &["flood:500", "say:\u{1b}[31mred", "exit:1"]).expect_code(1);
    let lines: Vec<&str> = failed.stderr.lines().collect();
    assert_eq!(lines.len(), 20, "{failed:?}");
    assert!(lines[0].contains("line 481 of many") && lines[19].contains("\\033[31mred"), "{failed:?}");
}

fn a_missing_program_is_reported() {
    let bench = Bench::new();
    let missing = bench.path("nothing/here");
    let answer = bench.home.ask(&["daemon", "ensure", "--name", "d", "--", &missing]).expect_code(1);
    let reason = format!("daemon: FAILED d - cannot execute {missing}: No such file or directory");
    assert!(answer.stdout.starts_with(&reason), "{answer:?}");
}

fn whatever_else_is_at_the_ready_socket_stays_and_nothing_is_started() {
    let bench = Bench::new();
    let path = bench.home.scratch().join("s");
    let refused = |what: &str| {
        let options = ["--ready-socket", path.to_str().unwrap()];
        let answer = bench.ensure(&options, &["stay"]).expect_code(1);
        assert!(answer.stdout.starts_with("daemon: FAILED d - ") && answer.stdout.contains(what), "{what}: {answer:?}");
        assert!(answer.took < Duration::from_secs(10), "{what}: {answer:?}");
        assert_eq!(bench.births(), 0, "{what}");
        fs::symlink_metadata(&path).unwrap().file_type()
    };
    fs::write(&path, "mine").unwrap();
    assert!(refused("is a regular file").is_file());
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(refused("is a directory").is_dir());
    fs::remove_dir(&path).unwrap();
    std::os::unix::fs::symlink("elsewhere", &path).unwrap();
    assert!(refused("is a symbolic link").is_symlink());
    fs::remove_file(&path).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(refused("is a FIFO").is_fifo());
    fs::remove_file(&path).unwrap();
    let _served = UnixListener::bind(&path).unwrap();
    assert!(refused(&format!("is served by pid {}", std::process::id())).is_socket());
}

fn a_stopped_daemon_is_stalled_and_never_doubled() {
    let bench = Bench::new();
    let socket = bench.path("s");
    let (options, steps) = (["--ready-socket", &socket], [format!("serve:{socket}"), "stay".to_owned()]);
    let steps = steps.each_ref().map(String::as_str);
    let pid = bench.ready(&options, &steps);
    bench.home.signal(pid, Signal::STOP);
    wait_for_state(pid, "T");
    assert_eq!(bench.state(), "STALLED");
    let hurried = [&options[..], &["--ready-timeout", "200ms"]].concat();
    let stalled = bench.ensure(&hurried, &steps).expect_code(1);
    assert!(stalled.stdout.contains(&format!("lives as pid {pid}")), "{stalled:?}");
    assert!(stalled.stdout.contains("a signal has stopped it"), "{stalled:?}");
    let kicked = finish(bench.command("kick", &options, &steps)).expect_code(0);
    assert_eq!(kicked.stdout, format!("daemon: attached d pid={pid}\n"));
    bench.home.signal(pid, Signal::CONT);
    assert_eq!(bench.ready(&options, &steps), pid);
    assert_eq!(bench.births(), 1);
    bench.stop();
}

fn a_daemon_that_does_not_answer_is_stalled_and_never_doubled() {
    let bench = Bench::new();
    let socket = bench.path("s");
    let serve = format!("serve-answering:{socket}");
    let options = ["--ready-socket", &socket, "--ready-request", r"ping\n", "--ready-answer", r"pong\n"];
    let pid = bench.ready(&options, &[&serve, "stay"]);
    // Somebody has taken the name away: it can be asked nothing.
    fs::rename(&socket, bench.path("elsewhere")).unwrap();
    let hurried = [&options[..], &["--ready-timeout", "200ms"]].concat();
    let stalled = bench.ensure(&hurried, &[&serve, "stay"]).expect_code(1);
    assert!(stalled.stdout.contains(&format!("lives as pid {pid} and does not answer")), "{stalled:?}");
    assert_eq!(bench.state(), "STALLED");
    assert_eq!(bench.status()["pid"], json!(pid));
    fs::rename(bench.path("elsewhere"), &socket).unwrap();
    assert_eq!((bench.state().as_str(), bench.ready(&options, &[&serve, "stay"])), ("READY", pid));
    assert_eq!(bench.births(), 1);
    bench.stop();
}

fn a_daemon_that_is_asked_nothing_notices_nothing_of_those_who_attach() {
    let bench = Bench::new();
    let socket = bench.path("s");
    let (options, steps) = (["--ready-socket", &socket], [&format!("serve-greeting:{socket}"), "stay"]);
    let pid = bench.ready(&options, &steps);
    wait_until(SOON, "its monitor has taken leave", || noted(&bench.stage(), "greeted-0"));
    assert_eq!((bench.ready(&options, &steps), bench.state().as_str()), (pid, "READY"));
    // The very next connection is this one.
    let mut met = String::new();
    UnixStream::connect(&socket).unwrap().read_to_string(&mut met).unwrap();
    wait_until(SOON, "it is greeted", || noted(&bench.stage(), "greeted-1"));
    assert_eq!(met, "hello\n");
    // Another socket under the same name is looked at closely.
    fs::rename(&socket, bench.path("elsewhere")).unwrap();
    let thief = UnixListener::bind(&socket).unwrap();
    drop(thief);
    assert_eq!(bench.state(), "STALLED");
    bench.stop();
}

fn a_file_in_the_place_of_the_directory_is_an_error_at_once() {
    let bench = Bench::new();
    bench.home.make_watch();
    make_private(&bench.home.watch("daemons"));
    let path = bench.home.watch("daemons").join("d");
    fs::write(&path, "mine").unwrap();
    for verb in ["ensure", "kick"] {
        let answer = finish(bench.command(verb, &AT_ONCE, &["stay"])).expect_code(1);
        assert!(answer.stdout.starts_with("daemon: FAILED d - "), "{answer:?}");
        assert!(answer.stdout.contains(path.to_str().unwrap()), "{answer:?}");
        assert!(answer.took < Duration::from_secs(10), "{answer:?}");
    }
    assert_eq!(bench.state(), "UNKNOWN");
    assert_eq!((bench.births(), fs::read_to_string(&path).unwrap().as_str()), (0, "mine"));
}

fn a_turn_that_cannot_be_had_is_noted_and_the_daemon_starts() {
    let bench = Bench::new();
    bench.home.make_watch();
    make_private(&bench.file("start"));
    let answer = bench.ensure(&AT_ONCE, &["stay"]).expect_code(0);
    assert!(answer.stdout.starts_with("daemon: started d "), "{answer:?}");
    assert!(answer.stderr.contains("starting without taking turns"), "{answer:?}");
    bench.stop();
}

/// Starts clients that all want the same, at once.
fn crowd(bench: &Bench, size: usize, options: &[&str], steps: &[&str]) -> Vec<Background> {
    (0..size)
        .map(|_| {
            let mut command = bench.home.command(&["--json", "daemon", "ensure", "--name", "d"]);
            command.args(options).arg("--").args(player::command(&bench.stage(), steps));
            Background::spawn(command)
        })
        .collect()
}

fn many_clients_at_once_get_one_daemon() {
    let bench = Bench::new();
    for round in 1..=3 {
        let answers: Vec<Value> = crowd(&bench, 20, &AT_ONCE, &["stay"])
            .into_iter()
            .map(|client| client.finish(SOON).expect_code(0).json())
            .collect();
        let whom = |answer: &Value| (answer["pid"].clone(), answer["generation"].clone());
        assert!(answers.iter().all(|answer| whom(answer) == whom(&answers[0])), "{answers:#?}");
        assert_eq!(answers[0]["generation"], json!(round));
        assert_eq!(answers.iter().filter(|answer| answer["event"] == "started").count(), 1, "{answers:#?}");
        wait_until_true(SOON, "it runs", || bench.births() == round);
        bench.stop();
        assert_eq!(bench.births(), round);
    }
}

fn many_clients_of_a_broken_daemon_do_not_each_start_it() {
    let bench = Bench::new();
    let clients = crowd(&bench, 10, &["--ready-fd"], &["await:fail", "exit:7"]);
    wait_until_true(SOON, "the daemon runs", || bench.births() == 1);
    // Whoever has the directory open has looked, or is just looking. The one who started it need not.
    let directory = bench.file("");
    let has_looked = |client: &Background| {
        let paths = processes::descriptors(client.pid());
        paths.iter().any(|(_, path)| path.join("") == directory)
    };
    let waiting = || clients.iter().filter(|client| has_looked(client)).count();
    wait_until_true(SOON, "all clients wait", || waiting() + 1 >= clients.len());
    bench.give("fail");
    for client in clients {
        let failed = client.finish(SOON).expect_code(1).json();
        assert!(failed["reason"].as_str().unwrap().starts_with("exited with 7"), "{failed}");
    }
    // One that had just begun to look may have come too late to share the failure.
    assert!(bench.births() <= 3, "{} starts", bench.births());
}

fn a_kick_does_not_wait_and_its_daemon_comes() {
    let bench = Bench::new();
    let steps = ["await:go", "ready-descriptor", "stay"];
    let kicked = finish(bench.command("kick", &["--ready-fd"], &steps)).expect_code(0);
    assert_eq!(kicked.stdout, "daemon: kicked d\n");
    wait_until_true(SOON, "the daemon runs", || bench.births() == 1);
    let client = Background::spawn(bench.command("ensure", &["--ready-fd"], &steps));
    let again = finish(bench.command("kick", &["--ready-fd"], &steps)).expect_code(0);
    assert!(again.stdout.starts_with("daemon: starting d pid="), "{again:?}");
    assert_eq!(bench.state(), "STARTING");
    bench.give("go");
    let attached = client.finish(SOON).expect_code(0);
    assert!(attached.stdout.starts_with("daemon: attached d pid="), "{attached:?}");
    assert_eq!(bench.births(), 1);
    bench.stop();
}

fn a_client_that_is_killed_leaves_its_start_to_the_next() {
    let bench = Bench::new();
    let steps = ["await:go", "ready-descriptor", "stay"];
    let client = Background::spawn(bench.command("ensure", &["--ready-fd"], &steps));
    wait_until_true(SOON, "the daemon runs", || bench.births() == 1);
    client.signal(Signal::KILL);
    client.finish(SOON);
    bench.give("go");
    let next = bench.ensure(&["--ready-fd"], &steps).expect_code(0);
    assert!(next.stdout.starts_with("daemon: attached d pid="), "{next:?}");
    assert_eq!(bench.births(), 1);
    bench.stop();
}

fn a_killed_daemon_is_started_again_by_the_next_client() {
    let bench = Bench::new();
    let first = bench.ready(&AT_ONCE, &["stay"]);
    bench.home.kill(first);
    let next = bench.ensure(&AT_ONCE, &["stay"]).expect_code(0);
    assert!(next.stdout.starts_with("daemon: started d pid="), "{next:?}");
    assert_ne!(pid_in(&next.stdout), Some(first));
    assert_eq!(bench.status()["generation"], json!(2));
    bench.stop();
}

fn a_daemon_without_a_monitor_gets_one_from_the_next_client() {
    let bench = Bench::new();
    let pid = bench.ready(&AT_ONCE, &["await:speak", "say:still here", "stay"]);
    let first = bench.monitor();
    bench.home.kill(first);
    assert_eq!(bench.state(), "READY");
    assert_eq!(bench.ready(&AT_ONCE, &["stay"]), pid);
    wait_until_true(SOON, "it has another monitor", || bench.monitor() != first);
    bench.give("speak");
    let log = || fs::read_to_string(bench.file("log")).unwrap_or_default();
    wait_until_true(SOON, "its output is read", || log().contains("still here"));
    assert_eq!(bench.births(), 1);
    bench.stop();
    assert!(processes::has_ended(pid));
}

fn a_daemon_that_was_given_up_is_refused_until_a_restart() {
    let bench = Bench::new();
    let pid = bench.ready(&AT_ONCE, &["stay"]);
    bench.home.kill(pid);
    wait_until(SOON, "its end is recorded", || bench.record("end.json"));
    bench.keep(&json!({"is": "given-up", "restarts": 5, "window": 300_000}));
    for verb in ["ensure", "kick"] {
        let refused = finish(bench.command(verb, &AT_ONCE, &["stay"])).expect_code(1);
        let reason = "daemon: FAILED d - given up after 5 restarts in 5m (last: was ended by signal 9); `";
        assert!(refused.stdout.starts_with(reason), "{refused:?}");
        let way_out = format!("`{} --home {} daemon restart d`", *PROGRAM, bench.home.root().display());
        assert!(refused.stdout.contains(&way_out), "{refused:?}");
    }
    assert_eq!(bench.state(), "FATAL");
    assert_eq!(bench.births(), 1);
    let restarted = bench.ask("restart").expect_code(0);
    assert!(restarted.stdout.starts_with("daemon: started d pid="), "{restarted:?}");
    assert_eq!(bench.state(), "READY");
    bench.stop();
}

fn stop_ends_all_that_a_daemon_started() {
    let bench = Bench::new();
    let pid = bench.ready(&AT_ONCE, &["child:near", "child-of-own-session:far", "note:ready", "stay"]);
    wait_until(SOON, "it has children", || noted(&bench.stage(), "ready"));
    let children = ["near", "far"].map(|name| noted(&bench.stage(), name).unwrap());
    bench.stop();
    for each in [pid, children[0], children[1]] {
        assert!(processes::has_ended(each), "pid {each}");
    }
    assert_eq!(bench.state(), "STOPPED");
}

fn a_daemon_that_ignores_its_stop_signal_is_killed_after_its_grace() {
    let bench = Bench { home: TestHome::with(&["daemons.stop_grace=100ms"]) };
    fs::create_dir(bench.stage()).unwrap();
    let pid = bench.ready(&["--ready-fd"], &["ignore-term", "ready-descriptor", "stay"]);
    let stopped = bench.ask("stop").expect_code(0);
    assert_eq!(stopped.stdout, format!("daemon: stopped d pid={pid}\n"));
    assert!(stopped.stderr.contains("did not leave on being asked and was killed"), "{stopped:?}");
    assert!(processes::has_ended(pid));
    assert_eq!(bench.record("end.json").unwrap()["end"]["signal"], json!(9));
}

fn stop_sends_the_signal_of_the_settings() {
    let bench = Bench::new();
    let command = json!(player::command(&bench.stage(), &["ignore-term", "ready-descriptor", "stay"]));
    let settings = format!("[daemon.d]\ncommand = {command}\nready = {{ fd = true }}\nstop_signal = \"USR1\"\n");
    bench.home.configure(&settings);
    bench.ask("ensure").expect_code(0);
    bench.stop();
    wait_until(SOON, "its end is recorded", || bench.record("end.json"));
    assert_eq!(bench.record("end.json").unwrap()["end"]["signal"], json!(Signal::USR1.as_raw()));
}

fn stop_of_what_does_not_run_is_no_failure() {
    let bench = Bench::new();
    bench.home.configure("[daemon.d]\ncommand = [\"true\"]\n");
    let answer = bench.ask("stop").expect_code(0);
    assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("", "fm-watch: d does not run\n"));
    assert!(!bench.home.watch("daemons").exists());
    assert_eq!(bench.state(), "STOPPED");
}

fn a_rest_of_a_dead_daemon_is_stopped() {
    let bench = Bench::new();
    let pid = bench.ready(&AT_ONCE, &["child-of-own-session:far", "note:ready", "stay"]);
    wait_until(SOON, "it has a child", || noted(&bench.stage(), "ready"));
    let child = noted(&bench.stage(), "far").unwrap();
    bench.home.kill(bench.monitor());
    bench.home.kill(pid);
    assert!(processes::is_alive(child));
    let stopped = bench.ask("stop").expect_code(0);
    assert!(stopped.stdout.is_empty() && stopped.stderr.contains(&format!("pid {child}")), "{stopped:?}");
    assert!(processes::has_ended(child));
}

fn a_forged_pid_gets_no_signal() {
    let bench = Bench::new();
    let pid = bench.ready(&AT_ONCE, &["stay"]);
    bench.stop();
    let mut stranger = bench.home.bare("sleep");
    stranger.arg("1000");
    let mut stranger = Background::spawn(stranger);
    let mut life = bench.record("life.json").unwrap();
    assert_eq!(life["process"]["pid"], json!(pid));
    life["process"]["pid"] = json!(stranger.pid());
    life["session"] = json!(stranger.pid());
    fs::write(bench.file("life.json"), life.to_string()).unwrap();
    let answer = bench.ask("stop").expect_code(0);
    assert_eq!(answer.stdout, "", "{answer:?}");
    assert_eq!(bench.state(), "STOPPED");
    // A record from nobody knows where proves nothing either.
    life["process"]["pid_namespace"] = json!(1);
    fs::write(bench.file("life.json"), life.to_string()).unwrap();
    let answer = bench.ask("stop").expect_code(1);
    assert!(answer.stderr.contains("nobody was signalled"), "{answer:?}");
    assert_eq!(bench.state(), "UNKNOWN");
    let refused = bench.ensure(&AT_ONCE, &["stay"]).expect_code(1);
    assert!(refused.stdout.contains("may or may not run"), "{refused:?}");
    assert_eq!(stranger.ended(), None);
    assert_eq!(bench.births(), 1);
}

/// An innocent process gets the pid of a dead daemon, whose record still says that it lives.
const STRANGER: &str = r#"
    field() { sed "s/.*\"$1\":{\"pid\":\([0-9]*\).*/\1/" "$STATE/watch/daemons/d/life.json"; }
    fm daemon ensure --name d --ready-delay 10ms -- sleep 1000 > /dev/null
    daemon=$(field process); monitor=$(field monitor)
    kill -9 $monitor; wait_for eval "! kill -0 $monitor 2> /dev/null"
    kill -9 $daemon; wait_for eval "! kill -0 $daemon 2> /dev/null"
    next_pid $daemon; sleep 1000 & victim=$!
    [ $victim = $daemon ] || { echo "pid $victim instead of $daemon" >&2; exit 98; }
"#;

fn a_reused_pid_gets_no_signal() -> Result<(), Skip> {
    let home = TestHome::new();
    Namespace::Pids.required(&home)?;
    let script = format!(
        r"{STRANGER}
        fm daemon stop d
        kill -0 $victim
        fm daemon status d && exit 1 || [ $? = 3 ]
        # Nothing of it lives, so the next one may begin.
        fm daemon ensure --name d --ready-delay 10ms -- sleep 1000
        [ $(field process) != $victim ]
        fm daemon restart d
        fm daemon stop d
        kill -0 $victim
        "
    );
    finish(Namespace::Pids.script(&home, &script)).expect_code(0);
    Ok(())
}

#[cfg(feature = "sync-points")]
fn without_the_identity_whoever_has_the_pid_is_stopped() -> Result<(), Skip> {
    let home = TestHome::new();
    Namespace::Pids.required(&home)?;
    let script = format!(
        r#"{STRANGER}
        FM_WATCH_WITHOUT=DaemonStopIdentity,DaemonStopSecondProof fm daemon stop d || :
        wait $victim && exit 1 || code=$?
        echo "the innocent process ended with $code"
        "#
    );
    let answer = finish(Namespace::Pids.script(&home, &script)).expect_code(0);
    assert_eq!(answer.lines().last(), Some(&"the innocent process ended with 143"), "{answer:?}");
    Ok(())
}

#[cfg(feature = "sync-points")]
fn a_daemon_that_ends_between_proof_and_signal_is_nobody_elses_end() {
    let bench = Bench::new();
    let pid = bench.ready(&AT_ONCE, &["stay"]);
    let points = Points::new(&bench.home, "stop");
    let mut stop = bench.home.command(&["daemon", "stop", "d"]);
    points.pause(&mut stop, &["DaemonStopProven"]);
    let stop = Background::spawn(stop);
    points.wait_until_reached("DaemonStopProven");
    bench.home.kill(pid);
    points.go("DaemonStopProven");
    let stopped = stop.finish(SOON).expect_code(0);
    assert_eq!(stopped.stdout, format!("daemon: stopped d pid={pid}\n"));
    assert_eq!(bench.state(), "STOPPED");
}

fn a_restart_gives_a_new_life() {
    let bench = Bench::new();
    let command = json!(player::command(&bench.stage(), &["stay"]));
    bench.home.configure(&format!("[daemon.d]\ncommand = {command}\nready = {{ delay = \"10ms\" }}\n"));
    let fresh = bench.ask("restart").expect_code(0);
    let first = pid_in(&fresh.stdout).unwrap();
    assert!(fresh.lines().len() == 1 && fresh.stdout.starts_with("daemon: started d "), "{fresh:?}");
    // Ready by a delay says nothing of how far the program has come, and one that is stopped earlier notes no birth.
    wait_until_true(SOON, "the first one runs", || bench.births() == 1);
    let restarted = bench.ask("restart").expect_code(0);
    assert_eq!(restarted.lines()[0], format!("daemon: stopped d pid={first}"));
    assert!(restarted.lines()[1].starts_with("daemon: started d pid="), "{restarted:?}");
    assert!(processes::has_ended(first));
    wait_until_true(SOON, "the second one runs", || bench.births() == 2);
    assert_eq!(bench.status()["generation"].as_u64(), Some(2));
    bench.stop();
}

fn a_restart_needs_no_settings() {
    let bench = Bench::new();
    let first = bench.ready(&AT_ONCE, &["stay"]);
    let restarted = bench.ask("restart").expect_code(0);
    let second = pid_in(restarted.lines()[1]).unwrap();
    assert_ne!(first, second);
    assert_eq!(processes::command_line(second), Some(player::command(&bench.stage(), &["stay"])));
    bench.stop();
}

fn status_tells_each_state_and_exits_by_it() {
    let bench = Bench::new();
    let pid = bench.ready(&AT_ONCE, &["stay"]);
    let table = bench.ask("status").expect_code(0);
    let row: Vec<&str> = table.lines()[1].split_ascii_whitespace().collect();
    assert!(table.lines()[0].starts_with("NAME  STATE  PID"), "{table:?}");
    assert_eq!(row[..3], ["d", "READY", &pid.to_string()], "{table:?}");
    bench.home.kill(pid);
    wait_until(SOON, "its end is recorded", || bench.record("end.json"));
    wait_for_end(bench.monitor(), "the monitor");
    assert_eq!(bench.state(), "STOPPED");
    assert_eq!(bench.status()["why"], json!("was ended by signal 9"));
    let never = u64::MAX / 2;
    bench.keep(&json!({"is": "backing-off", "until_ms": never}));
    assert_eq!((bench.state().as_str(), &bench.status()["restarts"]), ("BACKOFF", &json!(3)));
    // Whoever stops it keeps the keeper from starting it again.
    bench.stop();
    assert_eq!(bench.state(), "STOPPED");
    bench.keep(&json!({"is": "given-up", "restarts": 5, "window": 60_000}));
    assert_eq!(bench.state(), "FATAL");
    let why = bench.status()["why"].as_str().unwrap().to_owned();
    assert_eq!(why, "given up after 5 restarts in 1m, last: was ended by signal 9");
}

fn status_of_all_lists_the_settings_and_the_past() {
    let bench = Bench::new();
    let none = bench.home.ask(&["daemon", "status"]).expect_code(0);
    assert_eq!((none.stdout.as_str(), none.stderr.as_str()), ("", "fm-watch: this home has no daemons\n"));
    bench.home.configure("[daemon.z]\ncommand = [\"true\"]\n\n[daemon.b]\ncommand = [\"true\"]\n");
    bench.ready(&AT_ONCE, &["stay"]);
    let all = bench.home.ask(&["daemon", "status"]).expect_code(3);
    let names: Vec<_> = all.lines()[1..].iter().map(|line| line.split_ascii_whitespace().next().unwrap()).collect();
    assert_eq!(names, ["z", "b", "d"]);
    let objects = bench.home.ask(&["--json", "daemon", "status"]).expect_code(3);
    let objects: Vec<Value> = objects.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.iter().map(|object| object["state"].as_str().unwrap()).collect::<Vec<_>>(), [
        "STOPPED", "STOPPED", "READY"
    ]);
    bench.stop();
}

fn verify_finds_a_second_instance_and_signals_nobody() {
    let bench = Bench::new();
    let command = player::command(&bench.stage(), &["stay"]);
    let pid = bench.ready(&AT_ONCE, &["stay"]);
    let alone = bench.ask("verify").expect_code(0);
    assert_eq!(alone.stdout, format!("daemon: alone d pid={pid}\n"));
    let mut by_hand = bench.home.bare(&command[0]);
    by_hand.args(&command[1..]);
    let mut second = Background::spawn(by_hand);
    wait_until_true(SOON, "the second one runs", || bench.births() == 2);
    let mut other = bench.home.bare(&command[0]);
    other.args(&command[1..]).arg("stay");
    let _of_other_arguments = Background::spawn(other);
    wait_until_true(SOON, "the third one runs", || bench.births() == 3);
    let expected = format!("daemon: second d pid={} - {}\n", second.pid(), command.join(" "));
    let found = bench.ask("verify").expect_code(1);
    assert_eq!(found.stdout, expected);
    assert!(found.stderr.contains("nobody was signalled"), "{found:?}");
    bench.stop();
    assert_eq!(second.ended(), None);
    // Also if the recorded one does not run.
    assert_eq!(bench.ask("verify").expect_code(1).stdout, expected);
    second.signal(Signal::KILL);
    second.finish(SOON);
    let none = bench.ask("verify").expect_code(3);
    assert!(none.stdout.is_empty() && none.stderr.contains("does not run"), "{none:?}");
}

fn verify_takes_what_a_daemon_forked_for_its_own() {
    let bench = Bench::new();
    // They have the arguments of their parent.
    bench.ready(&AT_ONCE, &["child:near", "child-of-own-session:far", "note:ready", "stay"]);
    wait_until(SOON, "it has children", || noted(&bench.stage(), "ready"));
    bench.ask("verify").expect_code(0);
    bench.stop();
}
