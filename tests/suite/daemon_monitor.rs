//! The monitor of a daemon: how a life begins, is watched over, ends, and what becomes of it when the monitor is killed.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fm_watch::settings::daemon_definition::{Brake, Definition, Exchange, Name, Ready, Restart, StopSignal};
use fm_watch::daemons::spawn_monitor::{MonitorStatus, Start, StartRequest, Starter};
use fm_watch::layout::paths::Home;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::daemons::order;
use crate::support::background::wait_for_end;
use crate::support::home::PROGRAM;
use crate::support::player::{self, births, noted};
#[cfg(feature = "sync-points")]
use crate::support::sync::Points;
use crate::support::{SOON, TestHome, processes, stays_true, wait_until, wait_until_true};

cases! {
    a_daemon_is_recorded_started_and_ready_in_each_way_of_saying_so,
    a_daemon_has_what_it_was_given_and_nothing_of_ours,
    the_life_lock_is_the_daemons_alone,
    an_exit_is_reported_at_once_with_its_code_and_last_output,
    a_daemon_that_is_killed_before_it_is_ready_is_reported,
    a_program_or_directory_that_is_missing_is_reported_and_recorded,
    a_daemon_that_is_never_ready_and_ignores_term_is_gone_after_its_grace,
    a_daemon_of_the_old_school_is_followed_to_its_last_process,
    a_daemon_that_ends_leaves_nobody_of_its_session_or_lock,
    whoever_only_looks_at_the_life_lock_is_no_rest_of_a_life,
    #[cfg(feature = "sync-points")]
    without_the_proof_whoever_looks_at_the_life_lock_is_killed,
    a_monitor_is_deaf_to_requests_and_ends_with_its_daemon,
    what_a_daemon_orphans_is_reaped,
    a_program_that_is_being_written_is_waited_for,
    a_daemon_goes_on_without_its_monitor_and_the_next_one_reads_on,
    a_daemon_that_closed_its_life_lock_is_adopted_and_not_doubled,
    a_rest_of_the_last_life_is_cleared_before_the_next_begins,
    of_many_monitors_at_once_one_starts_the_daemon,
    a_socket_that_somebody_serves_and_what_is_no_socket_stay_and_nothing_starts,
    a_stale_socket_makes_room,
    a_daemon_that_greets_whoever_asks_for_it_is_heard_out,
    #[cfg(feature = "sync-points")]
    without_the_farewell_a_daemon_dies_of_being_asked,
    a_socket_that_another_program_takes_is_not_taken_for_the_daemons,
    output_is_kept_within_its_bounds_and_a_log_that_cannot_be_written_stops_nobody,
    #[cfg(feature = "sync-points")]
    a_monitor_killed_at_any_step_leaves_one_daemon_or_room_for_one,
    #[cfg(feature = "sync-points")]
    a_monitor_killed_at_the_end_of_a_life_leaves_room_for_the_next,
    #[cfg(feature = "sync-points")]
    a_daemon_is_recorded_before_it_executes,
    #[cfg(feature = "sync-points")]
    without_the_record_first_a_daemon_runs_that_nobody_recorded,
    #[cfg(feature = "sync-points")]
    a_late_end_never_stands_in_for_the_next_life,
    #[cfg(feature = "sync-points")]
    without_the_check_a_late_end_is_written_over_the_next_life,
    #[cfg(feature = "sync-points")]
    a_late_monitor_leaves_the_next_life_alone,
    an_order_from_before_the_last_life_starts_nothing,
    #[cfg(feature = "sync-points")]
    without_the_fence_an_old_order_starts_the_daemon_again,
    #[cfg(feature = "sync-points")]
    without_its_lock_a_late_monitor_takes_the_next_life_for_a_rest,
}

/// A home with one daemon, which is a player, and monitors that are started for it.
struct Den {
    home: TestHome,
}

impl Den {
    fn new() -> Self {
        let den = Self { home: TestHome::new() };
        den.home.make_watch();
        fs::create_dir(den.stage()).unwrap();
        den
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

    /// One of the ways of being ready, and the step of a player that leads there.
    fn way(&self, kind: usize) -> (String, Ready) {
        let (socket, pidfile) = (self.path("s"), self.path("p"));
        let exchange = Some(Exchange { request: "ping\n".to_owned(), answer: "pong\n".to_owned() });
        match kind {
            0 => (format!("pidfile:{pidfile}"), Ready::Pidfile(pidfile.into())),
            1 => (format!("serve:{socket}"), Ready::Socket { path: socket.into(), exchange: None }),
            2 => ("ready-notify".to_owned(), Ready::Notify),
            3 => ("ready-descriptor".to_owned(), Ready::Descriptor),
            4 => ("say:now I am up".to_owned(), Ready::LogLine("^now .* up$".to_owned())),
            5 => (format!("serve-answering:{socket}"), Ready::Socket { path: socket.into(), exchange }),
            _ => ("say:it only has to live".to_owned(), Ready::Delay(Duration::from_millis(30))),
        }
    }

    fn definition(&self, steps: &[&str], ready: Ready) -> Definition {
        Definition {
            command: player::command(&self.stage(), steps),
            cwd: self.home.root(),
            env: std::iter::once(("GIVEN".to_owned(), "yes".to_owned())).collect(),
            ready,
            ready_timeout: SOON,
            restart: Restart::No,
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(1),
            brake: Brake { max_restarts: 3, window: Duration::from_secs(60) },
            stop_signal: StopSignal::Term,
            stop_grace: Duration::from_millis(200),
            log_max: 64 * 1024,
        }
    }

    /// Starts a monitor.
    fn start(&self, definition: &Definition) -> Start {
        self.start_with(definition, &[])
    }

    /// Starts a monitor in an environment with more variables than it would have.
    fn start_with(&self, definition: &Definition, variables: &[(&str, &str)]) -> Start {
        self.give(&order(&self.file(""), definition), variables)
    }

    /// Starts a monitor with an order.
    fn give(&self, order: &StartRequest, variables: &[(&str, &str)]) -> Start {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut environment = vec![("PATH".to_owned(), path), ("HOME".to_owned(), self.path("user").into())];
        environment.extend(variables.iter().map(|&(name, value)| (name.to_owned(), value.into())));
        let starter = Starter::new(PathBuf::from(*PROGRAM), &Home::at(self.home.root()), environment);
        starter.start(&Name::new("d").unwrap(), order).unwrap()
    }

    /// Starts a daemon and waits until it is ready.
    #[track_caller]
    fn ready(&self, definition: &Definition) -> u32 {
        ready_pid(&self.start(definition))
    }

    fn record(&self, name: &str) -> Option<Value> {
        serde_json::from_slice(&fs::read(self.file(name)).ok()?).ok()
    }

    fn recorded_pid(&self) -> Option<u32> {
        u32::try_from(self.record("life.json")?["process"]["pid"].as_u64()?).ok()
    }

    #[track_caller]
    fn monitor(&self) -> u32 {
        u32::try_from(self.record("life.json").unwrap()["monitor"]["pid"].as_u64().unwrap()).unwrap()
    }

    fn log(&self) -> String {
        let read = |name| String::from_utf8_lossy(&fs::read(self.file(name)).unwrap_or_default()).into_owned();
        read("log.1") + &read("log")
    }

    /// What runs in this home: monitors and players.
    fn living(&self) -> Vec<(u32, String)> {
        processes::naming(self.home.scratch())
    }

    #[track_caller]
    fn wait_until_all_is_gone(&self) {
        wait_until(SOON, "nothing runs in this home any more", || self.living().is_empty().then_some(()));
    }

    /// Waits until so many players have executed; more are a failure. One whose start only lasts a moment may count as
    /// ready before it has noted its birth.
    #[track_caller]
    fn wait_until_born(&self, count: usize) {
        wait_until_true(SOON, &format!("{count} have executed"), || births(&self.stage()) >= count);
        assert_eq!(births(&self.stage()), count);
    }

    /// Lets a player go on that awaits this.
    fn go(&self, name: &str) {
        fs::write(self.stage().join(name), "").unwrap();
    }

    #[track_caller]
    fn wait_for_note(&self, name: &str) -> u32 {
        wait_until(SOON, &format!("{name} is noted"), || noted(&self.stage(), name))
    }
}

impl Drop for Den {
    /// Ends the daemon; its monitor clears up and ends, which the home checks.
    fn drop(&mut self) {
        if let Some(pid) = self.recorded_pid() {
            processes::signal_if_naming(pid, self.home.scratch(), Signal::KILL);
        }
    }
}

fn next_status(start: &Start) -> MonitorStatus {
    match start.next_status(Instant::now() + SOON * 2) {
        Ok(word) => word,
        Err(silence) => panic!("{}", start.in_words(&silence)),
    }
}

/// The last word of a monitor.
fn last_word(start: &Start) -> MonitorStatus {
    match next_status(start) {
        MonitorStatus::Forked { .. } => next_status(start),
        word => word,
    }
}

#[track_caller]
fn ready_pid(start: &Start) -> u32 {
    match last_word(start) {
        MonitorStatus::Ready { pid, .. } => pid.get(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn failure(start: &Start) -> String {
    match last_word(start) {
        MonitorStatus::Failed { reason } => reason,
        other => panic!("{other:?}"),
    }
}

fn soon_ready() -> Ready {
    Ready::Delay(Duration::from_millis(1))
}

fn a_daemon_is_recorded_started_and_ready_in_each_way_of_saying_so() {
    for kind in 0..7 {
        let den = Den::new();
        let (step, ready) = den.way(kind);
        let mut steps = vec![step.as_str()];
        // What says it in time has to wait until the test has seen that nobody was taken for ready too early.
        let waits = !matches!(ready, Ready::Delay(_));
        if waits {
            steps.insert(0, "await:go");
        }
        steps.push("stay");
        let start = den.start(&den.definition(&steps, ready.clone()));
        let MonitorStatus::Forked { pid, generation: 1 } = next_status(&start) else { panic!("{ready:?}") };
        if waits {
            wait_until_true(SOON, "it has executed", || births(&den.stage()) == 1);
            assert_eq!(den.record("life.json").unwrap()["phase"]["is"], "starting", "{ready:?}");
            den.go("go");
        }
        let MonitorStatus::Ready { pid: ready_pid, generation: 1, .. } = next_status(&start) else { panic!("{ready:?}") };
        assert_eq!(pid, ready_pid);
        let life = den.record("life.json").unwrap();
        assert_eq!((&life["phase"]["is"], &life["session"]), (&"ready".into(), &pid.get().into()), "{ready:?}");
        let executable = life["process"]["executable"]["path"].as_str().unwrap();
        assert_eq!(Path::new(executable), std::env::current_exe().unwrap(), "it is recorded as what it executes");
        den.wait_until_born(1);
    }
}

fn a_daemon_has_what_it_was_given_and_nothing_of_ours() {
    let den = Den::new();
    let pid = den.ready(&den.definition(&["stay"], soon_ready()));
    den.wait_until_born(1);
    let descriptors = processes::descriptors(pid);
    let (output, lock) = (den.file("output"), den.file("lock"));
    assert_eq!(descriptors[0], (0, "/dev/null".into()));
    assert_eq!(descriptors[1..3], [(1, output.clone()), (2, output)]);
    assert_eq!(descriptors.len(), 4, "{descriptors:?}");
    assert_eq!(descriptors[3].1, lock);
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let names: BTreeSet<_> = String::from_utf8_lossy(&environment)
        .split_terminator('\0')
        .map(|pair| pair.split_once('=').unwrap().0.to_owned())
        .collect();
    assert_eq!(names, ["FM_WATCH_LIFE", "GIVEN", "HOME", "PATH"].map(str::to_owned).into());
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), den.home.root());
    let of = |pid: &str, field: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        status.lines().find_map(|line| line.strip_prefix(field).map(|rest| rest.trim().to_owned())).unwrap()
    };
    // The Rust runtime of the player ignores SIGPIPE by itself.
    let ignored = u64::from_str_radix(&of(&pid.to_string(), "SigIgn:"), 16).unwrap();
    assert_eq!(ignored & !(1 << (libc::SIGPIPE - 1)), 0);
    assert_eq!(of(&pid.to_string(), "SigBlk:").trim_start_matches('0'), "");
    assert_eq!(of(&pid.to_string(), "Umask:"), of("self", "Umask:"));
    assert_eq!(processes::stat_field(pid, 6).unwrap(), pid.to_string(), "it leads a session of its own");
}

fn the_life_lock_is_the_daemons_alone() {
    let den = Den::new();
    den.ready(&den.definition(&["stay"], soon_ready()));
    let lock = den.file("lock");
    let has_it = |pid: u32| processes::descriptors(pid).iter().any(|(_, path)| *path == lock);
    assert!(!has_it(den.monitor()), "the monitor's life would be taken for the daemon's");
    assert!(has_it(den.recorded_pid().unwrap()));
}

fn an_exit_is_reported_at_once_with_its_code_and_last_output() {
    let den = Den::new();
    let began = Instant::now();
    let definition = den.definition(&["say:cannot go on", "lasts:20", "exit:7"], Ready::Descriptor);
    let reason = failure(&den.start(&definition));
    let took = began.elapsed();
    assert!(reason.starts_with("exited with 7 after ") && reason.ends_with(" ms"), "{reason}");
    assert!(took < definition.ready_timeout / 4, "{took:?}");
    assert_eq!(den.log(), "cannot go on\n", "the log is complete when the word is said");
    let end = den.record("end.json").unwrap();
    assert_eq!((&end["end"]["how"], &end["end"]["code"]), (&"exited".into(), &7.into()));
    assert!(end["lasted_ms"].as_u64().unwrap() >= 20, "{end}");
    den.wait_until_all_is_gone();
}

fn a_daemon_that_is_killed_before_it_is_ready_is_reported() {
    let den = Den::new();
    let start = den.start(&den.definition(&["stay"], Ready::Descriptor));
    let MonitorStatus::Forked { pid, .. } = next_status(&start) else { panic!() };
    wait_until_true(SOON, "it has executed", || births(&den.stage()) == 1);
    den.home.signal(pid.get(), Signal::KILL);
    assert!(failure(&start).starts_with("was ended by signal 9 after "));
    assert_eq!(den.record("end.json").unwrap()["end"]["signal"], 9);
}

fn a_program_or_directory_that_is_missing_is_reported_and_recorded() {
    let den = Den::new();
    let sane = den.definition(&["stay"], soon_ready());
    let missing = den.path("missing");
    let plain = den.path("plain");
    fs::write(&plain, "no program").unwrap();
    let with = |command: &str, cwd: &str| Definition {
        command: vec![command.to_owned(), den.path("")],
        cwd: cwd.into(),
        ..sane.clone()
    };
    let root = den.home.root();
    let root = root.to_str().unwrap();
    for (definition, expected) in [
        (with(&missing, root), format!("cannot execute {missing}: No such file")),
        (with("no-such-program-anywhere", root), "cannot execute no-such-program-anywhere: No such file".to_owned()),
        (with(&plain, root), format!("cannot execute {plain}: Permission denied")),
        (with("/bin/true", &missing), format!("cannot enter the directory {missing}: No such file")),
    ] {
        let reason = failure(&den.start(&definition));
        assert!(reason.starts_with(&expected), "{reason}");
        let (life, end) = (den.record("life.json").unwrap(), den.record("end.json").unwrap());
        assert_eq!(end["generation"], life["generation"]);
        assert!(end["end"]["reason"].as_str().unwrap().starts_with(&expected), "{end}");
        den.wait_until_all_is_gone();
    }
    assert_eq!(den.record("end.json").unwrap()["generation"], 4);
}

fn a_daemon_that_is_never_ready_and_ignores_term_is_gone_after_its_grace() {
    let den = Den::new();
    let path = den.path("s");
    let mut definition = den.definition(
        &["ignore-term", "child:grandchild", "say:trying", "note:deaf", "stay"],
        Ready::Socket { path: path.clone().into(), exchange: None },
    );
    definition.ready_timeout = Duration::from_millis(300);
    let reason = failure(&den.start(&definition));
    assert_eq!(reason, format!("was not ready: {path} does not exist within 300ms"));
    let end = den.record("end.json").unwrap();
    assert_eq!(end["end"]["how"], "notready", "{end}");
    den.wait_until_all_is_gone();
    assert!(den.log().contains("trying"));
}

fn a_daemon_of_the_old_school_is_followed_to_its_last_process() {
    let double_fork = ["fork:0", "new-session", "fork:0"];
    for kind in 0..5 {
        let den = Den::new();
        let (step, ready) = den.way(kind);
        let mut steps = double_fork.to_vec();
        steps.extend([step.as_str(), "note:last", "stay"]);
        let start = den.start(&den.definition(&steps, ready.clone()));
        let MonitorStatus::Forked { pid: first, .. } = next_status(&start) else { panic!("{ready:?}") };
        let MonitorStatus::Ready { generation: 1, .. } = next_status(&start) else { panic!("{ready:?}") };
        let last = den.wait_for_note("last");
        // Its word can come before its ancestors have ended.
        wait_until_true(SOON, "the last process is recorded", || den.recorded_pid() == Some(last));
        assert_ne!(first.get(), last);
        let session = processes::stat_field(last, 6).unwrap();
        assert_eq!(den.record("life.json").unwrap()["session"].to_string(), session);
        let monitor = den.monitor();
        den.home.signal(last, Signal::TERM);
        wait_for_end(monitor, "the monitor");
        let end = den.record("end.json").unwrap();
        assert_eq!(end["end"]["signal"], 15, "the monitor is its parent and sees how it ends: {ready:?} {end}");
    }
}

fn a_daemon_that_ends_leaves_nobody_of_its_session_or_lock() {
    let den = Den::new();
    let steps = ["child:child", "child-of-own-session:apart", "ignore-term", "child:deaf", "stay"];
    let pid = den.ready(&den.definition(&steps, soon_ready()));
    let left: Vec<u32> = ["child", "apart", "deaf"].map(|name| den.wait_for_note(name)).into();
    den.home.kill(pid);
    den.wait_until_all_is_gone();
    assert!(left.into_iter().all(processes::has_ended));
}

/// A process that has the life lock's file open and nothing else to do with the daemon, when that ends and leaves a rest.
/// Says whether it was spared.
fn bystander_is_spared(variables: &[(&str, &str)]) -> bool {
    let den = Den::new();
    let steps = ["child-of-own-session:apart", "stay"];
    let pid = ready_pid(&den.start_with(&den.definition(&steps, soon_ready()), variables));
    let rest = den.wait_for_note("apart");
    let mut bystander = den.home.bare("sh");
    let script = format!("exec 3<'{}'; echo open; exec sleep 600", den.file("lock").display());
    let mut bystander = crate::support::Background::spawn({
        bystander.args(["-c", &script]);
        bystander
    });
    bystander.wait_for_line("open");
    den.home.kill(pid);
    wait_for_end(rest, "the rest");
    wait_for_end(den.monitor(), "the monitor");
    bystander.ended().is_none()
}

fn whoever_only_looks_at_the_life_lock_is_no_rest_of_a_life() {
    assert!(bystander_is_spared(&[]));
}

#[cfg(feature = "sync-points")]
fn without_the_proof_whoever_looks_at_the_life_lock_is_killed() {
    assert!(!bystander_is_spared(&[("FM_WATCH_WITHOUT", "DaemonLeftoverProof")]));
}

fn a_monitor_is_deaf_to_requests_and_ends_with_its_daemon() {
    let den = Den::new();
    let pid = den.ready(&den.definition(&["stay"], soon_ready()));
    let monitor = den.monitor();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1] {
        den.home.signal(monitor, signal);
    }
    stays_true(Duration::from_millis(200), "both live", || processes::is_alive(monitor) && processes::is_alive(pid));
    den.home.signal(pid, Signal::TERM);
    wait_for_end(monitor, "the monitor");
    assert_eq!(den.record("end.json").unwrap()["end"]["signal"], 15);
}

fn what_a_daemon_orphans_is_reaped() {
    let den = Den::new();
    let pid = den.ready(&den.definition(&["orphans:50", "note:done", "stay"], soon_ready()));
    den.wait_for_note("done");
    let monitor = den.monitor().to_string();
    let is_child = |pid: &u32| processes::stat_field(*pid, 4).is_some_and(|parent| parent == monitor);
    let numbers = || fs::read_dir("/proc").unwrap().flatten();
    let all = || numbers().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    wait_until_true(SOON, "the daemon is the monitor's only child", || all().filter(is_child).eq([pid]));
}

fn a_program_that_is_being_written_is_waited_for() {
    let den = Den::new();
    let program = den.path("program");
    fs::write(&program, "#!/bin/sh\nexit 3\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let definition =
        Definition { command: vec![program.clone()], ..den.definition(&[], Ready::Descriptor) };
    let writer = fs::OpenOptions::new().append(true).open(&program).unwrap();
    let start = den.start(&definition);
    assert!(matches!(next_status(&start), MonitorStatus::Forked { .. }));
    drop(writer);
    let reason = failure(&start);
    assert!(reason.starts_with("exited with 3"), "{reason}");
}

fn a_daemon_goes_on_without_its_monitor_and_the_next_one_reads_on() {
    let den = Den::new();
    let steps = ["say:before", "await:alone", "say:alone", "note:said", "await:again", "say:after", "stay"];
    let definition = den.definition(&steps, Ready::LogLine("before".to_owned()));
    let pid = den.ready(&definition);
    let monitor = den.monitor();
    den.home.kill(monitor);
    den.go("alone");
    den.wait_for_note("said");
    assert!(processes::is_alive(pid), "it has written to nobody and lives");
    assert_eq!(last_word(&den.start(&definition)), MonitorStatus::Lost, "the daemon lives already");
    wait_until_true(SOON, "what it said meanwhile is in its log", || den.log() == "before\nalone\n");
    wait_until_true(SOON, "the new monitor is recorded", || den.monitor() != monitor);
    den.go("again");
    wait_until_true(SOON, "the new monitor reads on", || den.log() == "before\nalone\nafter\n");
    let life = den.record("life.json").unwrap();
    assert_eq!((&life["generation"], &life["phase"]["is"]), (&1.into(), &"ready".into()));
    let monitor = den.monitor();
    den.home.kill(pid);
    wait_for_end(monitor, "the monitor that adopted it");
    assert_eq!(den.record("end.json").unwrap()["end"]["how"], "unseen");
    assert_eq!(births(&den.stage()), 1);
}

fn a_daemon_that_closed_its_life_lock_is_adopted_and_not_doubled() {
    let den = Den::new();
    let definition = den.definition(&["close-all", "note:closed", "stay"], soon_ready());
    let pid = den.ready(&definition);
    den.wait_for_note("closed");
    den.home.kill(den.monitor());
    assert_eq!(last_word(&den.start(&definition)), MonitorStatus::Lost);
    assert_eq!((den.recorded_pid(), births(&den.stage())), (Some(pid), 1));
}

fn a_rest_of_the_last_life_is_cleared_before_the_next_begins() {
    let den = Den::new();
    let definition = den.definition(&["child-of-own-session:apart", "stay"], soon_ready());
    let first = den.ready(&definition);
    let rest = den.wait_for_note("apart");
    den.home.kill(den.monitor());
    den.home.kill(first);
    assert!(processes::is_alive(rest));
    let second = den.ready(&definition);
    assert!(processes::has_ended(rest), "it was gone before the next life began");
    assert_ne!(first, second);
    assert_eq!(den.record("life.json").unwrap()["generation"], 2);
    den.wait_until_born(2);
}

fn of_many_monitors_at_once_one_starts_the_daemon() {
    let den = Den::new();
    let definition = den.definition(&["stay"], soon_ready());
    let starts: Vec<Start> = (0..24).map(|_| den.start(&definition)).collect();
    let words: Vec<MonitorStatus> = starts.iter().map(last_word).collect();
    let (ready, lost): (Vec<_>, Vec<_>) = words.iter().partition(|word| matches!(word, MonitorStatus::Ready { .. }));
    assert_eq!(ready.len(), 1, "{words:?}");
    assert!(lost.iter().all(|word| **word == MonitorStatus::Lost), "{words:?}");
    den.wait_until_born(1);
    assert_eq!(den.record("life.json").unwrap()["generation"], 1);
}

fn a_socket_that_somebody_serves_and_what_is_no_socket_stay_and_nothing_starts() {
    let den = Den::new();
    let path = den.path("s");
    let definition = den.definition(&["stay"], Ready::Socket { path: path.clone().into(), exchange: None });
    let server = UnixListener::bind(&path).unwrap();
    let reason = failure(&den.start(&definition));
    assert!(reason.contains(&format!("{path}: is served by pid {}", std::process::id())), "{reason}");
    assert!(std::os::unix::net::UnixStream::connect(&path).is_ok(), "it serves on");
    drop(server);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "mine").unwrap();
    let reason = failure(&den.start(&definition));
    assert!(reason.contains(&format!("{path}: is a regular file")), "{reason}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    assert_eq!((births(&den.stage()), den.record("life.json")), (0, None));
    den.wait_until_all_is_gone();
}

fn a_stale_socket_makes_room() {
    let den = Den::new();
    let path = den.path("s");
    drop(UnixListener::bind(&path).unwrap());
    let serve = format!("serve:{path}");
    den.ready(&den.definition(&[&serve, "stay"], Ready::Socket { path: path.into(), exchange: None }));
}

fn greeter(den: &Den) -> Definition {
    let socket = den.path("s");
    let ready = Ready::Socket { path: socket.clone().into(), exchange: None };
    den.definition(&[&format!("serve-greeting:{socket}"), "stay"], ready)
}

fn a_daemon_that_greets_whoever_asks_for_it_is_heard_out() {
    let den = Den::new();
    let pid = den.ready(&greeter(&den));
    den.wait_for_note("greeted-0");
    assert_eq!(den.recorded_pid(), Some(pid));
    assert!(den.record("life.json").unwrap()["socket"].is_object());
}

#[cfg(feature = "sync-points")]
fn without_the_farewell_a_daemon_dies_of_being_asked() {
    let den = Den::new();
    drop(den.start_with(&greeter(&den), &[("FM_WATCH_WITHOUT", "ProbeFarewell")]));
    let ended = wait_until(SOON, "its end is recorded", || den.record("end.json"));
    assert_eq!(ended["end"], serde_json::json!({"how": "exited", "code": 9}), "{ended}");
}

fn a_socket_that_another_program_takes_is_not_taken_for_the_daemons() {
    let den = Den::new();
    let path = den.path("s");
    let start = den.start(&den.definition(&["stay"], Ready::Socket { path: path.clone().into(), exchange: None }));
    wait_until_true(SOON, "it has executed", || births(&den.stage()) == 1);
    let _thief = UnixListener::bind(&path).unwrap();
    let reason = failure(&start);
    let thief = std::process::id();
    assert_eq!(reason, format!("was not ready: {path} is served by pid {thief}, which is none of its processes"));
    den.wait_until_all_is_gone();
}

fn output_is_kept_within_its_bounds_and_a_log_that_cannot_be_written_stops_nobody() {
    let den = Den::new();
    // Several times what the kernel's buffer holds.
    let definition = den.definition(&["flood:200000", "note:done", "await:again", "flood:200000", "note:more", "stay"], soon_ready());
    den.ready(&definition);
    den.wait_for_note("done");
    wait_until_true(SOON, "the newest line is in the log", || den.log().ends_with("line 199999 of many\n"));
    let size = |name| fs::metadata(den.file(name)).unwrap().len();
    assert!(size("log") <= definition.log_max && size("log.1") <= definition.log_max);
    fs::remove_file(den.file("log")).unwrap();
    fs::create_dir(den.file("log")).unwrap();
    den.go("again");
    fs::remove_file(den.stage().join("done")).unwrap();
    den.wait_for_note("more");
    assert!(processes::is_alive(den.recorded_pid().unwrap()));
}

/// Every step of a monitor, in order.
#[cfg(feature = "sync-points")]
const STEPS: [&str; 7] = [
    "DaemonMonitorLocked",
    "DaemonLifeLocked",
    "DaemonSocketCleared",
    "DaemonForked",
    "DaemonRecorded",
    "DaemonExecuted",
    "DaemonReadyRecorded",
];

#[cfg(feature = "sync-points")]
fn a_monitor_killed_at_any_step_leaves_one_daemon_or_room_for_one() {
    for (saying, ready) in [("ready-descriptor", Ready::Descriptor), ("say:up", soon_ready())] {
        for step in STEPS {
            let den = Den::new();
            let definition = den.definition(&[saying, "stay"], ready.clone());
            let killed = den.start_with(&definition, &[("FM_WATCH_SYNC", &format!("{step}=kill"))]);
            while killed.next_status(Instant::now() + SOON).is_ok() {}
            wait_until_true(SOON, &format!("after {step} it is ready"), || {
                // The word of a killed monitor ends a moment before its lock does, so whoever lost asks again.
                let word = last_word(&den.start(&definition));
                assert!(matches!(word, MonitorStatus::Ready { .. } | MonitorStatus::Lost), "{step}: {word:?}");
                den.record("life.json").is_some_and(|life| life["phase"]["is"] == "ready")
            });
            let players = || den.living().iter().filter(|(_, line)| line.contains("--play-a-daemon")).count();
            wait_until_true(SOON, &format!("after {step} one daemon lives"), || players() == 1);
            assert!(processes::is_alive(den.recorded_pid().unwrap()), "{step}");
        }
    }
}

#[cfg(feature = "sync-points")]
fn a_monitor_killed_at_the_end_of_a_life_leaves_room_for_the_next() {
    for step in ["DaemonEnded", "DaemonEndRecorded"] {
        let den = Den::new();
        let definition = den.definition(&["child:child", "stay"], soon_ready());
        let first = ready_pid(&den.start_with(&definition, &[("FM_WATCH_SYNC", &format!("{step}=kill"))]));
        let (monitor, rest) = (den.monitor(), den.wait_for_note("child"));
        den.home.kill(first);
        wait_for_end(monitor, "the monitor");
        assert!(processes::is_alive(rest), "nobody has cleared it yet");
        den.ready(&definition);
        assert!(processes::has_ended(rest), "{step}");
        assert_eq!(den.record("life.json").unwrap()["generation"], 2);
        assert_eq!(den.record("end.json").is_some(), step == "DaemonEndRecorded");
    }
}

/// What a monitor leaves that is killed when the process exists: how many daemons executed, and the record.
#[cfg(feature = "sync-points")]
fn killed_when_forked(den: &Den, variables: &[(&str, &str)]) -> Option<Value> {
    let definition = den.definition(&["stay"], soon_ready());
    let mut all = vec![("FM_WATCH_SYNC", "DaemonForked=kill")];
    all.extend(variables);
    let start = den.start_with(&definition, &all);
    assert!(start.next_status(Instant::now() + SOON).is_err(), "it was killed without a word");
    den.record("life.json")
}

#[cfg(feature = "sync-points")]
fn a_daemon_is_recorded_before_it_executes() {
    let den = Den::new();
    assert_eq!(killed_when_forked(&den, &[]), None);
    // Its gate is closed by the death of the monitor, so it ends without having executed anything.
    den.wait_until_all_is_gone();
    assert_eq!(births(&den.stage()), 0);
}

#[cfg(feature = "sync-points")]
fn without_the_record_first_a_daemon_runs_that_nobody_recorded() {
    let den = Den::new();
    assert_eq!(killed_when_forked(&den, &[("FM_WATCH_WITHOUT", "DaemonRecordFirst")]), None);
    wait_until_true(SOON, "it has executed", || births(&den.stage()) == 1);
    let orphans = den.living();
    assert_eq!(orphans.len(), 1, "{orphans:?}");
    den.home.kill(orphans[0].0);
}

/// What there is after a monitor has come late with the end of its life, when the lock's file was removed and the next
/// life has begun.
#[cfg(feature = "sync-points")]
struct AfterLate {
    end: Option<Value>,
    recorded: Option<u32>,
    second: u32,
    is_second_alive: bool,
}

#[cfg(feature = "sync-points")]
fn after_a_late_monitor(without: &str) -> AfterLate {
    let den = Den::new();
    let points = Points::new(&den.home, "late");
    let directory = den.path("points-late");
    let definition = den.definition(&["stay"], soon_ready());
    let sync = format!("DaemonEnded=pause:{directory}");
    let first = ready_pid(&den.start_with(&definition, &[("FM_WATCH_SYNC", &sync), ("FM_WATCH_WITHOUT", without)]));
    let late = den.monitor();
    den.home.kill(first);
    points.wait_until_reached("DaemonEnded");
    fs::remove_file(den.file("monitor")).unwrap();
    let second = den.ready(&definition);
    points.go("DaemonEnded");
    wait_for_end(late, "the late monitor");
    let is_second_alive = processes::is_alive(second);
    let end = den.record("end.json").filter(|end| end["generation"] == 1);
    AfterLate { end, recorded: den.recorded_pid(), second, is_second_alive }
}

#[cfg(feature = "sync-points")]
fn a_late_end_never_stands_in_for_the_next_life() {
    let after = after_a_late_monitor("");
    assert_eq!((after.end, after.recorded), (None, Some(after.second)));
}

#[cfg(feature = "sync-points")]
fn without_the_check_a_late_end_is_written_over_the_next_life() {
    let after = after_a_late_monitor("DaemonLateEnd");
    assert!(after.end.is_some(), "it is the end of the life before");
}

/// Gives an order that was meant for the first life after that one has come and gone. The word on it.
fn word_on_an_old_order(den: &Den, variables: &[(&str, &str)]) -> MonitorStatus {
    let definition = den.definition(&["stay"], soon_ready());
    let old = order(&den.file(""), &definition);
    let pid = ready_pid(&den.give(&old, &[]));
    den.wait_until_born(1);
    den.home.kill(pid);
    den.wait_until_all_is_gone();
    last_word(&den.give(&old, variables))
}

fn an_order_from_before_the_last_life_starts_nothing() {
    let den = Den::new();
    assert_eq!(word_on_an_old_order(&den, &[]), MonitorStatus::Lost);
    den.wait_until_all_is_gone();
    den.wait_until_born(1);
    assert_eq!(den.record("life.json").unwrap()["generation"], 1);
}

#[cfg(feature = "sync-points")]
fn without_the_fence_an_old_order_starts_the_daemon_again() {
    let den = Den::new();
    let word = word_on_an_old_order(&den, &[("FM_WATCH_WITHOUT", "DaemonOrderFence")]);
    assert!(matches!(word, MonitorStatus::Ready { generation: 2, .. }), "{word:?}");
}

#[cfg(feature = "sync-points")]
fn a_late_monitor_leaves_the_next_life_alone() {
    assert!(after_a_late_monitor("").is_second_alive);
}

#[cfg(feature = "sync-points")]
fn without_its_lock_a_late_monitor_takes_the_next_life_for_a_rest() {
    assert!(!after_a_late_monitor("DaemonLeftoverTurn").is_second_alive);
}
