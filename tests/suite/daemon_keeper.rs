//! The keeper: daemons that the watcher starts, starts again, gives up, adopts, and leaves running or stops.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::background::wait_for_end;
#[cfg(feature = "sync-points")]
use crate::support::Background;
#[cfg(feature = "sync-points")]
use crate::support::sync::{Points, without};
use crate::support::{SOON, TestHome, processes, stays_true, wait_until, wait_until_true};

cases! {
    a_kept_daemon_starts_with_the_watcher_and_others_do_not,
    daemons_start_in_the_order_of_the_settings,
    a_killed_daemon_is_started_again_after_growing_pauses_and_each_end_is_a_wake,
    a_daemon_that_fails_again_and_again_is_given_up_until_a_person_restarts_it,
    a_daemon_that_is_no_program_is_given_up_too,
    a_clean_end_is_left_so_or_not_as_the_settings_say,
    a_daemon_that_a_person_stopped_stays_stopped,
    a_killed_watcher_leaves_its_daemons_and_the_next_one_keeps_them,
    a_service_manager_that_ends_the_watcher_leaves_its_daemons,
    a_restart_of_the_watcher_leaves_its_daemons,
    a_daemon_whose_monitor_was_killed_gets_another_that_reads_on,
    a_person_who_stops_the_watcher_stops_its_daemons_in_reverse_order,
    settings_that_are_read_again_reach_the_keeper,
    #[cfg(feature = "sync-points")]
    an_end_whose_wake_was_not_recorded_is_announced_by_the_next_watcher,
    #[cfg(feature = "sync-points")]
    without_waiting_for_the_record_the_wake_is_lost,
}

/// A home with daemons. What they are and do stands in scripts whose paths name the home.
struct Bench {
    home: TestHome,
    settings: String,
}

/// Waits for lines at its FIFO and prints them. It has no children, so it ends at once when it is asked to.
const ECHO: &str = "exec 3<>\"$0.fifo\"; echo up; while read -r line <&3; do case $line in end*) exit ${line#end};; esac; echo \"$line\"; done";

impl Bench {
    fn new() -> Self {
        Self { home: TestHome::new(), settings: String::new() }
    }

    fn script(&self, name: &str) -> PathBuf {
        self.home.scratch().join(format!("{name}.sh"))
    }

    /// Adds a daemon that is this shell script.
    fn daemon(mut self, name: &str, text: &str, settings: &str) -> Self {
        let script = self.script(name);
        self.write_script(name, text);
        let fifo = PathBuf::from(format!("{}.fifo", script.display()));
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let table = format!(
            "[daemon.{name}]\ncommand = [\"/bin/sh\", \"{}\"]\nready = {{ delay = \"10ms\" }}\n{settings}\n",
            script.display()
        );
        self.settings.push_str(&table);
        self.home.configure(&self.settings);
        self
    }

    fn write_script(&self, name: &str, text: &str) {
        fs::write(self.script(name), format!("{text}\n")).unwrap();
        fs::set_permissions(self.script(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Sends a line to a daemon that is [`ECHO`].
    fn tell(&self, name: &str, line: &str) {
        let mut fifo = fs::OpenOptions::new().write(true).open(format!("{}.fifo", self.script(name).display())).unwrap();
        writeln!(fifo, "{line}").unwrap();
    }

    fn record(&self, name: &str, file: &str) -> Option<Value> {
        serde_json::from_slice(&fs::read(self.home.watch("daemons").join(name).join(file)).ok()?).ok()
    }

    /// The pid and the generation of the life that is ready.
    fn ready(&self, name: &str) -> Option<(u32, u64)> {
        let life = self.record(name, "life.json")?;
        let pid = u32::try_from(life["process"]["pid"].as_u64()?).unwrap();
        let is_ready = life["phase"]["is"] == "ready" && processes::is_alive(pid);
        is_ready.then_some((pid, life["generation"].as_u64()?))
    }

    #[track_caller]
    fn wait_until_ready(&self, name: &str, generation: u64) -> u32 {
        wait_until(SOON, &format!("life {generation} of {name} is ready"), || {
            self.ready(name).filter(|(_, now)| *now >= generation)
        })
        .0
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.home.watch("daemons").join(name).join("log")).unwrap_or_default()
    }

    fn course(&self, name: &str) -> Option<String> {
        Some(self.record(name, "keep.json")?["course"]["is"].as_str()?.to_owned())
    }

    /// The texts of the wakes about a daemon that are pending.
    fn wakes(&self, name: &str) -> Vec<String> {
        let wakes = self.home.drain_json().into_iter();
        let about_it = wakes.filter(|wake| wake["kind"] == "daemon" && wake["key"] == name);
        about_it.map(|wake| wake["text"].as_str().unwrap().to_owned()).collect()
    }

    #[track_caller]
    fn wait_for_wake(&self, name: &str, text: &str) -> String {
        wait_until(SOON, &format!("a wake says of {name}: {text}"), || {
            self.wakes(name).into_iter().find(|wake| wake.contains(text))
        })
    }

    /// Ends everything as a person would.
    #[track_caller]
    fn stop(&self) {
        self.home.ask(&["stop"]).expect_code(0);
    }
}

const KEPT: &str = "restart = \"on-failure\"\nbackoff = \"20ms\"";

fn a_kept_daemon_starts_with_the_watcher_and_others_do_not() {
    let bench = Bench::new().daemon("kept", ECHO, KEPT).daemon("other", ECHO, "");
    bench.home.arm();
    let pid = bench.wait_until_ready("kept", 1);
    assert!(processes::command_line(pid).unwrap().join(" ").contains("kept.sh"));
    assert!(bench.record("other", "life.json").is_none());
    // One that nobody keeps is left alone when it has ended, and nobody is told.
    bench.home.ask(&["daemon", "ensure", "other"]).expect_code(0);
    bench.tell("other", "end 3");
    wait_until(SOON, "its end is recorded", || bench.record("other", "end.json"));
    let is_left = || bench.ready("other").is_none() && bench.wakes("other").is_empty();
    stays_true(Duration::from_millis(500), "it is left alone", is_left);
    bench.stop();
}

fn daemons_start_in_the_order_of_the_settings() {
    let mut bench = Bench::new();
    for name in ["zebra", "ant", "mole"] {
        bench = bench.daemon(name, ECHO, &format!("{KEPT}\n"));
    }
    bench.settings = bench.settings.replace("10ms", "150ms");
    bench.home.configure(&bench.settings);
    bench.home.arm();
    let begun = ["zebra", "ant", "mole"].map(|name| {
        bench.wait_until_ready(name, 1);
        bench.record(name, "life.json").unwrap()["since_monotonic_ms"].as_u64().unwrap()
    });
    assert!(begun[1] >= begun[0] + 150 && begun[2] >= begun[1] + 150, "{begun:?}");
    bench.stop();
}

fn a_killed_daemon_is_started_again_after_growing_pauses_and_each_end_is_a_wake() {
    let bench = Bench::new().daemon("cache", ECHO, "restart = \"on-failure\"\nbackoff = \"100ms\"");
    bench.home.arm();
    for (generation, pause) in [(1, 100), (2, 200), (3, 400)] {
        let pid = bench.wait_until_ready("cache", generation);
        bench.home.kill(pid);
        bench.wait_for_wake("cache", &format!("was ended by signal 9, starting again in {pause}ms"));
        let end = wait_until(SOON, "the end is recorded", || {
            bench.record("cache", "end.json").filter(|end| end["generation"] == generation)
        });
        bench.wait_until_ready("cache", generation + 1);
        let life = bench.record("cache", "life.json").unwrap();
        let waited = life["since_monotonic_ms"].as_u64().unwrap() - end["at_monotonic_ms"].as_u64().unwrap();
        assert!(waited >= pause, "life {generation} was followed by the next after {waited} ms");
    }
    let keeping = bench.record("cache", "keep.json").unwrap();
    assert_eq!((&keeping["restarts"], &keeping["course"]["is"]), (&3.into(), &"content".into()), "{keeping}");
    bench.stop();
}

const BRAKED: &str = "restart = \"always\"\nbackoff = \"10ms\"\nmax_restarts = 3\nrestart_window = \"5m\"";

fn a_daemon_that_fails_again_and_again_is_given_up_until_a_person_restarts_it() {
    let bench = Bench::new().daemon("sick", "echo no good >&2; exit 7", &BRAKED.replace("always", "on-failure"));
    bench.home.arm();
    let text = bench.wait_for_wake("sick", "was given up");
    assert!(text.starts_with("daemon: sick was given up after 3 restarts in 5m: "), "{text}");
    assert!(text.contains("exited with 7") && text.ends_with("; daemon restart sick starts it again"), "{text}");
    let wake = bench.home.drain_json().into_iter().rfind(|wake| wake["key"] == "sick").unwrap();
    assert_eq!(wake["context"].as_str().unwrap().lines().last(), Some("no good"), "{wake}");
    wait_until_true(SOON, "that is remembered", || bench.course("sick").as_deref() == Some("given-up"));
    let generation = bench.record("sick", "life.json").unwrap()["generation"].clone();
    assert_eq!(generation, 4, "the first start and three more");

    // Neither time nor another watcher changes that.
    bench.home.ask(&["arm", "--restart", "--no-wait"]).expect_code(0);
    let ended = || bench.record("sick", "life.json").unwrap()["generation"] == generation;
    stays_true(Duration::from_millis(600), "it is not started again", ended);
    assert!(bench.home.ask(&["daemon", "ensure", "sick"]).expect_code(1).stdout.contains("FAILED"));
    assert_eq!(bench.course("sick").as_deref(), Some("given-up"));

    bench.write_script("sick", ECHO);
    bench.home.ask(&["daemon", "restart", "sick"]).expect_code(0);
    let pid = bench.wait_until_ready("sick", 5);
    wait_until_true(SOON, "it is kept again", || bench.course("sick").as_deref() == Some("content"));
    bench.home.kill(pid);
    bench.wait_until_ready("sick", 6);
    bench.stop();
}

fn a_daemon_that_is_no_program_is_given_up_too() {
    let mut bench = Bench::new().daemon("none", ECHO, BRAKED);
    bench.settings = bench.settings.replace("/bin/sh", "/nonexistent/program");
    bench.home.configure(&bench.settings);
    bench.home.arm();
    let text = bench.wait_for_wake("none", "was given up");
    assert!(text.contains("/nonexistent/program"), "{text}");
    bench.stop();
}

fn a_clean_end_is_left_so_or_not_as_the_settings_say() {
    let always = "restart = \"always\"\nbackoff = \"10ms\"";
    let bench = Bench::new().daemon("once", ECHO, KEPT).daemon("ever", ECHO, always);
    bench.home.arm();
    for name in ["once", "ever"] {
        bench.wait_until_ready(name, 1);
        bench.tell(name, "end 0");
    }
    bench.wait_until_ready("ever", 2);
    bench.wait_for_wake("ever", "exited with 0, starting again in 10ms");
    bench.wait_for_wake("once", "exited with 0, which is no failure");
    bench.home.ask(&["arm", "--restart", "--no-wait"]).expect_code(0);
    stays_true(Duration::from_millis(500), "it is not started again", || bench.ready("once").is_none());
    bench.stop();
}

fn a_daemon_that_a_person_stopped_stays_stopped() {
    let bench = Bench::new().daemon("cache", ECHO, "restart = \"always\"\nbackoff = \"10ms\"");
    bench.home.arm();
    let pid = bench.wait_until_ready("cache", 1);
    bench.home.ask(&["daemon", "stop", "cache"]).expect_code(0);
    wait_for_end(pid, "the stopped daemon");
    let is_stopped = || bench.ready("cache").is_none() && bench.wakes("cache").is_empty();
    stays_true(Duration::from_millis(500), "it is stopped in silence", is_stopped);
    bench.home.ask(&["arm", "--restart", "--no-wait"]).expect_code(0);
    stays_true(Duration::from_millis(500), "it is stopped in silence", is_stopped);
    // A person starts it again, and from then on it is kept.
    bench.home.ask(&["daemon", "ensure", "cache"]).expect_code(0);
    let pid = bench.wait_until_ready("cache", 2);
    bench.home.kill(pid);
    bench.wait_until_ready("cache", 3);
    bench.wait_for_wake("cache", "was ended by signal 9");
    bench.stop();
}

fn a_killed_watcher_leaves_its_daemons_and_the_next_one_keeps_them() {
    let bench = Bench::new().daemon("cache", ECHO, KEPT);
    let watcher = bench.home.arm();
    let pid = bench.wait_until_ready("cache", 1);
    bench.home.kill(watcher);
    assert!(processes::is_alive(pid));
    bench.home.arm();
    stays_true(Duration::from_millis(500), "it lives on", || bench.ready("cache") == Some((pid, 1)));
    assert_eq!(bench.wakes("cache"), [""; 0]);
    bench.home.kill(pid);
    bench.wait_for_wake("cache", "was ended by signal 9");
    let pid = bench.wait_until_ready("cache", 2);
    // One that ends while nobody watches is started by the next watcher, who has heard of it from its monitor.
    let watcher = bench.home.pid().unwrap();
    bench.home.kill(watcher);
    bench.home.kill(pid);
    wait_until(SOON, "its end is recorded", || bench.record("cache", "end.json").filter(|end| end["generation"] == 2));
    assert!(bench.ready("cache").is_none());
    bench.home.arm();
    bench.wait_until_ready("cache", 3);
    wait_until_true(SOON, "it is told, too", || bench.wakes("cache").iter().any(|text| text.contains("signal 9")));
    bench.stop();
}

fn a_service_manager_that_ends_the_watcher_leaves_its_daemons() {
    let bench = Bench::new().daemon("cache", ECHO, KEPT);
    let watcher = bench.home.watcher();
    let pid = bench.wait_until_ready("cache", 1);
    watcher.signal(Signal::TERM);
    watcher.finish(SOON).expect_code(0);
    stays_true(Duration::from_millis(300), "it lives on", || bench.ready("cache") == Some((pid, 1)));
    // Without a watcher, too, a person's `stop` ends what is kept.
    bench.stop();
    wait_for_end(pid, "the daemon");
}

fn a_restart_of_the_watcher_leaves_its_daemons() {
    let bench = Bench::new().daemon("cache", ECHO, KEPT);
    let before = bench.home.arm();
    let pid = bench.wait_until_ready("cache", 1);
    bench.home.ask(&["arm", "--restart", "--no-wait"]).expect_code(0);
    assert_ne!(bench.home.pid(), Some(before));
    stays_true(Duration::from_millis(500), "it lives on", || bench.ready("cache") == Some((pid, 1)));
    assert_eq!(bench.wakes("cache"), [""; 0]);
    bench.stop();
}

/// The monitors of this home.
fn monitors(bench: &Bench) -> Vec<u32> {
    let all = processes::naming(bench.home.scratch()).into_iter();
    all.filter(|(_, line)| line.contains(" daemon-monitor ")).map(|(pid, _)| pid).collect()
}

fn a_daemon_whose_monitor_was_killed_gets_another_that_reads_on() {
    let bench = Bench::new().daemon("cache", ECHO, KEPT);
    bench.home.arm();
    let pid = bench.wait_until_ready("cache", 1);
    let [first] = monitors(&bench)[..] else { panic!("{:?}", processes::naming(bench.home.scratch())) };
    bench.home.kill(first);
    wait_until(SOON, "another monitor is there", || monitors(&bench).first().copied().filter(|&pid| pid != first));
    bench.tell("cache", "still here");
    wait_until_true(SOON, "its output is read on", || bench.log("cache").contains("still here"));
    assert_eq!(bench.ready("cache"), Some((pid, 1)));
    assert_eq!(bench.wakes("cache"), [""; 0]);
    // Its end is noticed all the same, though nobody is its parent.
    bench.home.kill(pid);
    bench.wait_until_ready("cache", 2);
    bench.wait_for_wake("cache", "ended while nobody was there to see how");
    bench.stop();
}

fn a_person_who_stops_the_watcher_stops_its_daemons_in_reverse_order() {
    let telling = "trap 'echo \"$0\" >>\"${0%/*}/order\"; exit 0' TERM; exec 3<>\"$0.fifo\"; while :; do read -r line <&3; done";
    let mut bench = Bench::new();
    for name in ["first", "second", "third"] {
        bench = bench.daemon(name, telling, KEPT);
    }
    bench = bench.daemon("unkept", ECHO, "");
    let watcher = bench.home.arm();
    let pids = ["first", "second", "third"].map(|name| bench.wait_until_ready(name, 1));
    bench.home.ask(&["daemon", "ensure", "unkept"]).expect_code(0);
    let answer = bench.home.ask(&["stop"]).expect_code(0);
    assert!(answer.stdout.starts_with(&format!("watcher: stopped pid={watcher}\n")), "{answer:?}");
    for pid in pids {
        assert!(processes::has_ended(pid), "{answer:?}");
    }
    let order = fs::read_to_string(bench.home.scratch().join("order")).unwrap();
    let names: Vec<_> = order.lines().filter_map(|line| line.rsplit('/').next()).collect();
    assert_eq!(names, ["third.sh", "second.sh", "first.sh"]);
    assert!(bench.ready("unkept").is_some(), "only what is kept is stopped with its keeper");
    assert_eq!(bench.wakes("first"), [""; 0], "a person asked for it");
    // What was stopped with the watcher starts with it.
    bench.home.arm();
    for name in ["first", "second", "third"] {
        bench.wait_until_ready(name, 2);
    }
    bench.home.ask(&["daemon", "stop", "unkept"]).expect_code(0);
    bench.stop();
}

fn settings_that_are_read_again_reach_the_keeper() {
    let bench = Bench::new().daemon("old", ECHO, KEPT);
    let watcher = bench.home.watcher();
    let old = bench.wait_until_ready("old", 1);
    let before = bench.settings.clone();
    let bench = bench.daemon("new", ECHO, KEPT);
    bench.home.configure(&bench.settings[before.len()..]);
    watcher.signal(Signal::HUP);
    bench.wait_until_ready("new", 1);
    // What is no longer named goes on and is no longer kept.
    assert_eq!(bench.ready("old"), Some((old, 1)));
    bench.home.kill(old);
    wait_until(SOON, "its end is recorded", || bench.record("old", "end.json"));
    stays_true(Duration::from_millis(500), "it is not started again", || bench.ready("old").is_none());
    bench.stop();
}

/// A watcher that is killed when a daemon of it has ended and the journal has not taken the wake yet.
#[cfg(feature = "sync-points")]
fn killed_before_the_record(protections: &[&str]) -> Bench {
    let bench = Bench::new().daemon("cache", ECHO, KEPT);
    let points = Points::new(&bench.home, "journal");
    let mut command = bench.home.command(&["run"]);
    points.pause(&mut command, &["JournalLocked"]);
    without(&mut command, protections);
    let watcher = Background::spawn(command);
    bench.home.wait_until_watched_by(watcher.pid());
    let pid = bench.wait_until_ready("cache", 1);
    bench.home.kill(pid);
    points.wait_until_reached("JournalLocked");
    // A disk that is slow for the journal holds up no daemon.
    bench.wait_until_ready("cache", 2);
    watcher.signal(Signal::KILL);
    watcher.finish(SOON);
    bench.home.arm();
    bench
}

#[cfg(feature = "sync-points")]
fn an_end_whose_wake_was_not_recorded_is_announced_by_the_next_watcher() {
    let bench = killed_before_the_record(&[]);
    bench.wait_for_wake("cache", "was ended by signal 9");
    bench.stop();
}

#[cfg(feature = "sync-points")]
fn without_waiting_for_the_record_the_wake_is_lost() {
    let bench = killed_before_the_record(&["KeeperRecordedFirst"]);
    stays_true(Duration::from_secs(1), "nobody is told", || bench.wakes("cache").is_empty());
    bench.stop();
}

