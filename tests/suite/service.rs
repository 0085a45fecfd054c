//! The watcher as a service: what is written is what the managers read, the loop itself speaks to the manager that
//! started it, a stranger's file stays, and a forced restart goes through the manager that keeps the watcher.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::background::wait_for_state;
use crate::support::home::{PROGRAM, finish, pid_in};
#[cfg(feature = "sync-points")]
use crate::support::sync::{Points, without};
use crate::support::{Answer, Background, SOON, Skip, TestHome, requires, wait_until};

cases! {
    systemd_accepts_the_printed_unit,
    a_unit_that_systemd_would_refuse_is_refused_by_the_same_check,
    the_printed_agent_is_read_back_word_by_word,
    printing_writes_nothing,
    the_loop_tells_its_manager_that_it_is_ready_well_and_stopping,
    a_stopped_watcher_is_silent_and_a_continued_one_speaks_again,
    a_manager_in_the_abstract_namespace_is_heard_as_well,
    a_manager_that_is_gone_disturbs_nobody,
    a_service_that_finds_a_watcher_is_content,
    a_service_is_installed_once_and_removed_without_a_trace,
    without_systemctl_the_unit_is_written_and_nothing_started,
    a_file_that_is_not_ours_is_neither_replaced_nor_removed,
    two_homes_have_two_services_and_two_ways_to_one_home_have_one,
    a_manager_that_refuses_is_told_with_the_way_back,
    a_forced_restart_goes_through_the_manager_that_keeps_the_watcher,
    a_manager_that_cannot_restart_leaves_the_watcher_in_place,
    a_watcher_that_the_manager_does_not_keep_is_replaced_as_ever,
    a_stuck_watcher_of_the_manager_is_replaced_by_it,
    a_watcher_of_the_manager_that_crashed_is_started_by_it,
    a_service_that_is_not_meant_to_run_starts_nothing,
    a_manager_that_cannot_start_the_watcher_does_not_keep_arm_from_it,
    #[cfg(feature = "sync-points")]
    a_loop_that_stands_still_is_silent_although_its_process_runs,
    #[cfg(feature = "sync-points")]
    a_restart_past_the_manager_leaves_it_keeping_nothing,
    #[cfg(feature = "sync-points")]
    a_start_past_the_manager_leaves_it_keeping_nothing,
    #[cfg(feature = "sync-points")]
    without_looking_for_the_mark_a_strangers_file_is_replaced,
}

/// The manager's side of `NOTIFY_SOCKET`.
struct Ear(UnixDatagram);

impl Ear {
    fn at(path: &Path) -> Self {
        Self::listening(UnixDatagram::bind(path).unwrap())
    }

    fn listening(socket: UnixDatagram) -> Self {
        socket.set_nonblocking(true).unwrap();
        Self(socket)
    }

    /// The next message, if there is one.
    fn heard(&self) -> Option<String> {
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
    }

    #[track_caller]
    fn next(&self) -> String {
        wait_until(SOON, "the manager hears something", || self.heard())
    }

    /// Waits for a message with this line.
    #[track_caller]
    fn hears(&self, line: &str) {
        wait_until(SOON, &format!("the manager hears {line}"), || {
            self.heard().filter(|text| text.lines().any(|other| other == line))
        });
    }
}

/// `run` as a manager starts it.
fn run_under(home: &TestHome, socket: &str, allowed: Duration) -> Command {
    let mut command = home.command(&["run"]);
    command.env("NOTIFY_SOCKET", socket).env("WATCHDOG_USEC", allowed.as_micros().to_string());
    command
}

fn unit_path(home: &TestHome) -> PathBuf {
    let printed = home.ask(&["service", "print", "--json"]).expect_code(0).json();
    printed["path"].as_str().unwrap().into()
}

/// A command whose `PATH` has this directory only.
fn with_path(home: &TestHome, path: &Path, arguments: &[&str]) -> Answer {
    let mut command = home.command(arguments);
    command.env("PATH", path);
    finish(command)
}

fn verify(home: &TestHome, analyze: &Path, name: &str, text: &str) -> Answer {
    let unit = home.scratch().join(name);
    fs::write(&unit, text).unwrap();
    let mut command = home.bare(analyze);
    command.args(["--user", "verify"]).arg(&unit);
    finish(command)
}

fn systemd_accepts_the_printed_unit() -> Result<(), Skip> {
    let analyze = requires("systemd-analyze")?;
    let home = TestHome::new();
    for name in ["plain", "a b", "100% $HOME \"x\" \\y; z", "é"] {
        let odd = home.scratch().join(name);
        let mut command = home.bare(*PROGRAM);
        command.arg("--home").arg(&odd).args(["service", "print"]);
        let unit = finish(command).expect_code(0).stdout;
        let answer = verify(&home, &analyze, "fm-watch-test.service", &unit);
        assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""), "{unit}");
        assert!(!odd.exists(), "printing made {}", odd.display());
    }
    Ok(())
}

fn a_unit_that_systemd_would_refuse_is_refused_by_the_same_check() -> Result<(), Skip> {
    let analyze = requires("systemd-analyze")?;
    let home = TestHome::new();
    let unit = home.ask(&["service", "print"]).expect_code(0).stdout;
    let broken = unit.replace("KillMode=process", "KillMode=whatever").replace("Type=notify", "Type=odd");
    let answer = verify(&home, &analyze, "fm-watch-test.service", &broken);
    assert_ne!((answer.code, answer.stderr.as_str()), (Some(0), ""));
    assert!(answer.stderr.contains("service type") && answer.stderr.contains("kill mode"), "{answer:?}");
    Ok(())
}

fn the_printed_agent_is_read_back_word_by_word() -> Result<(), Skip> {
    let python = requires("python3")?;
    let home = TestHome::new();
    let odd = home.scratch().join("a&b <c> 'd' \"e\" é");
    let mut command = home.bare(*PROGRAM);
    command.arg("--home").arg(&odd).args(["service", "print", "--manager", "launchd"]);
    let printed = finish(command).expect_code(0).stdout;
    let agent = home.scratch().join("agent.plist");
    fs::write(&agent, printed).unwrap();
    let mut command = home.bare(python);
    let script = "import json, plistlib, sys; print(json.dumps(plistlib.load(open(sys.argv[1], 'rb'))))";
    command.args(["-c", script]).arg(&agent);
    let read = finish(command).expect_code(0).json();
    let words: Vec<&str> = read["ProgramArguments"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(words[1..], ["--home", odd.to_str().unwrap(), "run"]);
    assert!(Path::new(words[0]).is_absolute());
    assert_eq!(read["KeepAlive"]["SuccessfulExit"], false);
    assert_eq!((&read["RunAtLoad"], &read["AbandonProcessGroup"]), (&true.into(), &true.into()));
    assert!(read["Label"].as_str().unwrap().starts_with("fm-watch-"));
    Ok(())
}

fn printing_writes_nothing() {
    let home = TestHome::new();
    home.ask(&["service", "print"]).expect_code(0);
    home.ask(&["service", "print", "--manager", "launchd"]).expect_code(0);
    home.ask(&["service", "status"]).expect_code(3);
    assert!(!unit_path(&home).exists() && !home.root().join("state").exists());
}

fn the_loop_tells_its_manager_that_it_is_ready_well_and_stopping() {
    let home = TestHome::new();
    let path = home.scratch().join("manager");
    let ear = Ear::at(&path);
    let watcher = Background::spawn(run_under(&home, path.to_str().unwrap(), Duration::from_secs(1)));
    // Nothing may come before it is ready.
    assert_eq!(ear.next(), "READY=1\nWATCHDOG=1");
    assert_eq!(home.pid(), Some(watcher.pid()));
    ear.hears("WATCHDOG=1");
    ear.hears("WATCHDOG=1");
    watcher.signal(Signal::TERM);
    ear.hears("STOPPING=1");
    assert_eq!(watcher.finish(SOON).code, Some(0));
}

fn a_stopped_watcher_is_silent_and_a_continued_one_speaks_again() {
    let home = TestHome::new();
    let path = home.scratch().join("manager");
    let ear = Ear::at(&path);
    let watcher = Background::spawn(run_under(&home, path.to_str().unwrap(), Duration::from_millis(300)));
    ear.hears("READY=1");
    ear.hears("WATCHDOG=1");
    watcher.signal(Signal::STOP);
    wait_for_state(watcher.pid(), "T");
    while ear.heard().is_some() {}
    // Ten times as long as it has for a word.
    crate::support::stays_true(Duration::from_secs(1), "the manager hears nothing", || ear.heard().is_none());
    watcher.signal(Signal::CONT);
    ear.hears("WATCHDOG=1");
}

fn a_manager_in_the_abstract_namespace_is_heard_as_well() {
    let home = TestHome::new();
    let name = home.scratch().to_str().unwrap().to_owned();
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let ear = Ear::listening(UnixDatagram::bind_addr(&address).unwrap());
    let watcher = Background::spawn(run_under(&home, &format!("@{name}"), Duration::from_secs(1)));
    ear.hears("READY=1");
    watcher.signal(Signal::TERM);
    ear.hears("STOPPING=1");
}

fn a_manager_that_is_gone_disturbs_nobody() {
    let home = TestHome::new();
    for socket in [home.scratch().join("nobody").to_str().unwrap(), "relative", "@"] {
        let watcher = Background::spawn(run_under(&home, socket, Duration::from_millis(100)));
        home.wait_until_watched_by(watcher.pid());
        home.wait_for_verdict("ok");
        watcher.signal(Signal::TERM);
        assert_eq!(watcher.finish(SOON).code, Some(0), "{socket}");
    }
}

fn a_service_that_finds_a_watcher_is_content() {
    let home = TestHome::new();
    let pid = home.arm();
    let path = home.scratch().join("manager");
    let ear = Ear::at(&path);
    let answer = finish(run_under(&home, path.to_str().unwrap(), Duration::from_secs(1))).expect_code(0);
    assert_eq!(answer.stdout, format!("watcher: already running pid {pid}\n"));
    let said = ear.next();
    assert!(said.starts_with("READY=1\n") && said.ends_with("\nSTOPPING=1"), "{said}");
}

/// A stand-in for `systemctl`: it writes down how it is called, and keeps one process.
struct StandIn {
    directory: PathBuf,
}

impl StandIn {
    /// `restart` is what it does for that verb, with `$new` being the command line of a watcher.
    fn new(home: &TestHome, restart: &str) -> Self {
        let directory = home.scratch().join("bin");
        fs::create_dir(&directory).unwrap();
        let new = format!("setsid {} {} run", *PROGRAM, home.flags().join(" "));
        let script = format!(
            "#!/bin/sh\nPATH=/usr/bin:/bin\ncd '{at}' || exit 9\necho \"$*\" >> calls\ncase $3 in\n\
             show) echo ActiveState=$(cat active 2>/dev/null || echo active); echo Result=success; echo MainPID=$(cat pid 2>/dev/null || echo 0);;\n\
             restart) new='{new}'; owner='{owner}'\n{restart}\n;;\n\
             start) [ ! -e broken ] || {{ echo no bus >&2; exit 1; }}\n\
             [ ! -e starts ] || {{ {new} </dev/null >/dev/null 2>&1 & echo $! > pid;\n\
             until grep -q \"\\\"pid\\\":$(cat pid),\" '{owner}'; do sleep 0.01; done; }};;\nesac\n",
            at = directory.display(),
            owner = home.watch("owner.json").display(),
        );
        let path = directory.join("systemctl");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self { directory }
    }

    /// Restarts the watcher as systemd does, and returns when the new one has the home.
    fn that_restarts(home: &TestHome) -> Self {
        Self::new(
            home,
            "old=$(cat pid)\nkill -TERM $old; kill -CONT $old\n\
             while grep -q ') [^Z]' /proc/$old/stat 2>/dev/null; do sleep 0.01; done\n\
             $new </dev/null >/dev/null 2>&1 &\necho $! > pid\n\
             until grep -q \"\\\"pid\\\":$(cat pid),\" $owner; do sleep 0.01; done",
        )
    }

    fn keeps(&self, pid: u32) {
        fs::write(self.directory.join("pid"), pid.to_string()).unwrap();
    }

    fn kept(&self) -> u32 {
        fs::read_to_string(self.directory.join("pid")).unwrap().trim().parse().unwrap()
    }

    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.directory.join("calls")).unwrap_or_default();
        calls.lines().map(|call| call.trim_start_matches("--user --no-pager ").to_owned()).collect()
    }

    fn ask(&self, home: &TestHome, arguments: &[&str]) -> Answer {
        with_path(home, &self.directory, arguments)
    }
}

fn a_service_is_installed_once_and_removed_without_a_trace() {
    let home = TestHome::new();
    let systemd = StandIn::new(&home, "");
    let path = unit_path(&home);
    let unit = path.file_name().unwrap().to_str().unwrap().to_owned();
    let answer = systemd.ask(&home, &["service", "install"]).expect_code(0);
    assert_eq!(fs::read_to_string(&path).unwrap(), answer.stdout, "what is written was shown");
    assert!(answer.stderr.contains("enable-linger"), "{answer:?}");
    let show = format!("show --property=ActiveState,Result,MainPID {unit}");
    let expected = ["daemon-reload", &format!("enable {unit}"), &show, &format!("start {unit}")];
    assert_eq!(systemd.calls(), expected);
    let written = fs::metadata(&path).unwrap();
    systemd.ask(&home, &["service", "install"]).expect_code(0);
    assert_eq!(fs::metadata(&path).unwrap().ino(), written.ino(), "the same text is not written again");
    systemd.ask(&home, &["service", "status"]).expect_code(0);
    systemd.ask(&home, &["service", "uninstall"]).expect_code(0);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    assert!(systemd.calls().contains(&format!("disable --now {unit}")), "{:?}", systemd.calls());
    systemd.ask(&home, &["service", "uninstall"]).expect_code(0);
    systemd.ask(&home, &["service", "status"]).expect_code(3);
}

fn without_systemctl_the_unit_is_written_and_nothing_started() {
    let home = TestHome::new();
    let empty = home.scratch().join("empty");
    fs::create_dir(&empty).unwrap();
    let answer = with_path(&home, &empty, &["service", "install"]).expect_code(0);
    assert!(answer.stderr.contains("systemctl is not there"), "{answer:?}");
    assert_eq!(fs::read_to_string(unit_path(&home)).unwrap(), answer.stdout);
    assert_eq!(home.verdict(), "stopped");
    with_path(&home, &empty, &["service", "uninstall"]).expect_code(0);
    assert!(!unit_path(&home).exists());
}

fn a_file_that_is_not_ours_is_neither_replaced_nor_removed() {
    let home = TestHome::new();
    let systemd = StandIn::new(&home, "");
    let path = unit_path(&home);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "[Service]\nExecStart=/bin/true\n").unwrap();
    for verb in ["install", "uninstall"] {
        let answer = systemd.ask(&home, &["service", verb]).expect_code(1);
        assert!(answer.stderr.contains("not the service of this home"), "{answer:?}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "[Service]\nExecStart=/bin/true\n");
    // A link that leads elsewhere is not followed either.
    let victim = home.scratch().join("victim");
    fs::write(&victim, "mine").unwrap();
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&victim, &path).unwrap();
    systemd.ask(&home, &["service", "install"]).expect_code(1);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    assert_eq!(systemd.calls(), [""; 0]);
}

fn two_homes_have_two_services_and_two_ways_to_one_home_have_one() {
    let home = TestHome::new();
    let label = |root: &Path| {
        let mut command = home.bare(*PROGRAM);
        command.arg("--home").arg(root).args(["--json", "service", "print"]);
        finish(command).expect_code(0).json()["label"].as_str().unwrap().to_owned()
    };
    let link = home.scratch().join("link");
    std::os::unix::fs::symlink(home.root(), &link).unwrap();
    assert_eq!(label(&link), label(&home.root()));
    let scratch = home.scratch();
    assert_ne!(label(&scratch.join("a/b")), label(&scratch.join("a-b")));
    assert_ne!(label(&scratch.join("a-b")), label(&scratch.join("a_2db")));
}

fn a_manager_that_refuses_is_told_with_the_way_back() {
    let home = TestHome::new();
    let systemd = StandIn::new(&home, "");
    fs::write(systemd.directory.join("broken"), "").unwrap();
    let answer = systemd.ask(&home, &["service", "install"]).expect_code(1);
    for part in ["no bus", "systemctl --user start", "service uninstall"] {
        assert!(answer.stderr.contains(part), "{part} is missing in {answer:?}");
    }
}

fn restarts(calls: &[String]) -> usize {
    calls.iter().filter(|call| call.starts_with("restart ")).count()
}

/// A home whose service is on disk, without anything having been started.
fn installed(home: &TestHome) {
    let empty = home.scratch().join("empty");
    fs::create_dir(&empty).unwrap();
    with_path(home, &empty, &["service", "install"]).expect_code(0);
}

fn a_forced_restart_goes_through_the_manager_that_keeps_the_watcher() {
    let home = TestHome::new();
    installed(&home);
    let systemd = StandIn::that_restarts(&home);
    let old = home.arm();
    systemd.keeps(old);
    // One that the manager keeps is as healthy as any.
    let answer = systemd.ask(&home, &["arm", "--no-wait"]).expect_code(0);
    assert!(answer.stdout.starts_with(&format!("watcher: healthy pid={old} ")), "{answer:?}");
    assert_eq!(systemd.calls(), [""; 0]);
    let answer = systemd.ask(&home, &["arm", "--restart", "--no-wait"]).expect_code(0);
    assert!(answer.stdout.starts_with("watcher: started pid="), "{answer:?}");
    let new = pid_in(&answer.stdout).unwrap();
    assert_eq!((new, restarts(&systemd.calls())), (systemd.kept(), 1));
    assert_ne!(new, old);
    home.wait_until_watched_by(new);
    let status = systemd.ask(&home, &["service", "status"]).expect_code(0);
    assert!(status.stdout.contains(&format!("pid {new}, kept by this service")), "{status:?}");
}

fn a_manager_that_cannot_restart_leaves_the_watcher_in_place() {
    let home = TestHome::new();
    installed(&home);
    let systemd = StandIn::new(&home, "echo no bus >&2; exit 1");
    let pid = home.arm();
    systemd.keeps(pid);
    let answer = systemd.ask(&home, &["arm", "--restart", "--no-wait"]).expect_code(1);
    assert!(answer.stdout.starts_with(&format!("watcher: FAILED - pid {pid} is kept by ")), "{answer:?}");
    assert!(answer.stdout.contains("no bus"), "{answer:?}");
    assert_eq!((home.pid(), home.verdict().as_str()), (Some(pid), "ok"));
}

fn a_watcher_that_the_manager_does_not_keep_is_replaced_as_ever() {
    let home = TestHome::new();
    installed(&home);
    let systemd = StandIn::that_restarts(&home);
    let old = home.arm();
    let answer = systemd.ask(&home, &["arm", "--restart", "--no-wait"]).expect_code(0);
    assert!(answer.stdout.starts_with("watcher: started pid="), "{answer:?}");
    assert_ne!(pid_in(&answer.stdout), Some(old));
    assert_eq!(restarts(&systemd.calls()), 0);
}

fn a_stuck_watcher_of_the_manager_is_replaced_by_it() {
    let home = TestHome::new().set(&["stuck_after=500ms"]);
    installed(&home);
    let systemd = StandIn::that_restarts(&home);
    let old = home.arm();
    systemd.keeps(old);
    home.signal(old, Signal::STOP);
    home.wait_for_verdict("stuck");
    let answer = systemd.ask(&home, &["arm", "--no-wait"]).expect_code(0);
    assert_eq!((pid_in(&answer.stdout), restarts(&systemd.calls())), (Some(systemd.kept()), 1), "{answer:?}");
}

/// A home whose watcher, kept by the manager, has crashed; the manager is in this state.
fn crashed(home: &TestHome, active: &str, restarts: &str) -> StandIn {
    installed(home);
    let systemd = StandIn::new(home, "");
    fs::write(systemd.directory.join("active"), active).unwrap();
    fs::write(systemd.directory.join(restarts), "").unwrap();
    let old = home.arm();
    systemd.keeps(old);
    home.kill(old);
    systemd
}

fn starts(systemd: &StandIn) -> usize {
    systemd.calls().iter().filter(|call| call.starts_with("start ")).count()
}

fn a_watcher_of_the_manager_that_crashed_is_started_by_it() {
    for active in ["activating", "active"] {
        let home = TestHome::new();
        let systemd = crashed(&home, active, "starts");
        let answer = systemd.ask(&home, &["arm", "--no-wait"]).expect_code(0);
        assert_eq!((pid_in(&answer.stdout), starts(&systemd)), (Some(systemd.kept()), 1), "{answer:?}");
        home.wait_until_watched_by(systemd.kept());
    }
}

fn a_service_that_is_not_meant_to_run_starts_nothing() {
    for active in ["inactive", "failed"] {
        let home = TestHome::new();
        let systemd = crashed(&home, active, "starts");
        let answer = systemd.ask(&home, &["arm", "--no-wait"]).expect_code(0);
        assert!(answer.stdout.starts_with("watcher: started pid="), "{answer:?}");
        assert_eq!(starts(&systemd), 0);
    }
}

fn a_manager_that_cannot_start_the_watcher_does_not_keep_arm_from_it() {
    // It refuses, or it says that it has and nothing comes of it.
    for how in ["broken", "idle"] {
        let home = TestHome::new();
        let systemd = crashed(&home, "activating", how);
        let answer = systemd.ask(&home, &["arm", "--no-wait"]).expect_code(0);
        assert!(answer.stdout.starts_with("watcher: started pid="), "{answer:?}");
        assert_eq!((starts(&systemd), answer.stderr.contains("no bus")), (1, how == "broken"), "{answer:?}");
    }
}

/// The twin of `a_watcher_of_the_manager_that_crashed_is_started_by_it`.
#[cfg(feature = "sync-points")]
fn a_start_past_the_manager_leaves_it_keeping_nothing() {
    let home = TestHome::new();
    let systemd = crashed(&home, "activating", "starts");
    let mut command = home.command(&["arm", "--no-wait"]);
    command.env("PATH", &systemd.directory);
    without(&mut command, &["obtain.start-through-manager"]);
    let answer = finish(command).expect_code(0);
    assert_ne!(pid_in(&answer.stdout), Some(systemd.kept()));
    assert_eq!(starts(&systemd), 0);
}

#[cfg(feature = "sync-points")]
fn a_loop_that_stands_still_is_silent_although_its_process_runs() {
    let home = TestHome::new();
    let path = home.scratch().join("manager");
    let ear = Ear::at(&path);
    let points = Points::new(&home, "loop");
    let mut command = run_under(&home, path.to_str().unwrap(), Duration::from_millis(100));
    points.pause(&mut command, &["cycle.round"]);
    let watcher = Background::spawn(command);
    points.wait_until_reached("cycle.round");
    home.wait_until_watched_by(watcher.pid());
    crate::support::stays_true(Duration::from_millis(500), "the manager hears nothing", || ear.heard().is_none());
    points.go("cycle.round");
    ear.hears("READY=1");
    ear.hears("WATCHDOG=1");
}

/// The twin of `a_forced_restart_goes_through_the_manager_that_keeps_the_watcher`.
#[cfg(feature = "sync-points")]
fn a_restart_past_the_manager_leaves_it_keeping_nothing() {
    let home = TestHome::new();
    installed(&home);
    let systemd = StandIn::that_restarts(&home);
    let old = home.arm();
    systemd.keeps(old);
    let mut command = home.command(&["arm", "--restart", "--no-wait"]);
    command.env("PATH", &systemd.directory);
    without(&mut command, &["obtain.through-manager"]);
    let answer = finish(command).expect_code(0);
    assert_eq!((restarts(&systemd.calls()), systemd.kept()), (0, old));
    assert_ne!(pid_in(&answer.stdout), Some(old), "the manager's process has left, and nobody keeps the new one");
}

/// The twin of `a_file_that_is_not_ours_is_neither_replaced_nor_removed`.
#[cfg(feature = "sync-points")]
fn without_looking_for_the_mark_a_strangers_file_is_replaced() {
    let home = TestHome::new();
    let systemd = StandIn::new(&home, "");
    let path = unit_path(&home);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "mine").unwrap();
    let mut command = home.command(&["service", "install"]);
    command.env("PATH", &systemd.directory);
    without(&mut command, &["service.mark"]);
    finish(command).expect_code(0);
    assert_ne!(fs::read_to_string(&path).unwrap(), "mine");
}
