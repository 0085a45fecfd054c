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

use crate::support::background::{wait_for_end, wait_for_state};
use crate::support::home::{PROGRAM, copy_program, finish, pid_in};
use crate::support::manager::{Manager, Unit};
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
    a_watcher_that_stands_still_is_killed_and_started_again,
    a_manager_starts_again_what_failed_and_nothing_else,
    a_manager_that_does_not_read_holds_up_nobody_and_hears_it_later,
    what_the_watcher_starts_hears_nothing_of_the_manager,
    a_manager_in_the_abstract_namespace_is_heard_as_well,
    a_manager_that_is_gone_disturbs_nobody,
    a_service_that_finds_a_watcher_is_content,
    a_service_that_is_content_waits_until_it_is_heard,
    a_service_is_installed_once_and_removed_without_a_trace,
    without_systemctl_the_unit_is_written_and_nothing_started,
    a_file_that_is_not_ours_is_neither_replaced_nor_removed,
    two_homes_have_two_services_and_two_ways_to_one_home_have_one,
    a_manager_that_refuses_is_told_with_the_way_back,
    what_a_person_has_changed_is_neither_replaced_nor_removed,
    paths_that_no_manager_takes_are_refused_in_words,
    every_word_of_the_command_is_read_as_it_was_meant,
    installing_hands_a_running_watcher_over,
    a_stuck_watcher_is_taken_over_as_well,
    whoever_is_not_proven_to_watch_is_not_asked_to_leave,
    uninstalling_says_what_remains,
    a_watcher_that_leaves_the_home_to_another_is_not_started_again,
    a_forced_restart_goes_through_the_manager_that_keeps_the_watcher,
    a_manager_that_cannot_restart_is_done_without,
    a_manager_that_cannot_be_asked_is_done_without,
    a_manager_that_starts_nothing_leaves_the_one_that_stood_by,
    a_successor_that_cannot_stand_by_keeps_the_manager_from_restarting,
    a_watcher_that_the_manager_does_not_keep_is_replaced_as_ever,
    a_stuck_watcher_of_the_manager_is_replaced_by_it,
    a_watcher_of_the_manager_that_crashed_is_started_by_it,
    a_manager_that_rests_between_two_starts_is_not_waited_for,
    a_service_that_is_not_meant_to_run_starts_nothing,
    a_manager_that_cannot_start_the_watcher_does_not_keep_arm_from_it,
    #[cfg(feature = "sync-points")]
    a_loop_that_stands_still_is_silent_although_its_process_runs,
    #[cfg(feature = "sync-points")]
    a_loop_that_hangs_is_killed_and_started_again,
    #[cfg(feature = "sync-points")]
    a_restart_past_the_manager_leaves_it_keeping_nothing,
    #[cfg(feature = "sync-points")]
    a_start_past_the_manager_leaves_it_keeping_nothing,
    #[cfg(feature = "sync-points")]
    without_looking_for_the_mark_a_strangers_file_is_replaced,
    #[cfg(feature = "sync-points")]
    without_looking_for_the_seal_a_persons_changes_are_lost,
    #[cfg(feature = "sync-points")]
    without_taking_over_nobody_keeps_the_watcher,
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
    assert_eq!(words[1..], ["--home", odd.to_str().unwrap(), "run", "--take-over"]);
    assert!(!read["EnvironmentVariables"]["PATH"].as_str().unwrap().is_empty());
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

fn a_watcher_that_stands_still_is_killed_and_started_again() {
    let home = TestHome::new();
    let mut manager = Manager::new(&home, Duration::from_secs(2));
    manager.start(|_| {});
    let old = manager.works_until_ready();
    manager.signal(Signal::STOP);
    manager.works_until("it is killed", |manager| manager.kills > 0);
    manager.works_until("another one is started", |manager| manager.pid().is_some_and(|pid| pid != old));
    home.wait_until_watched_by(manager.works_until_ready());
}

#[cfg(feature = "sync-points")]
fn a_loop_that_hangs_is_killed_and_started_again() {
    let home = TestHome::new();
    let points = Points::new(&home, "loop");
    points.go("CycleRound");
    let mut manager = Manager::new(&home, Duration::from_secs(2));
    manager.start(|command| points.pause(command, &["CycleRound"]));
    let hung = manager.works_until_ready();
    // From now on the process lives and all its other threads run; only the loop does not come round.
    points.hold("CycleRound");
    points.wait_until_reached("CycleRound");
    manager.works_until("it is killed", |manager| manager.kills > 0);
    manager.works_until("another one is started", |manager| manager.pid().is_some_and(|pid| pid != hung));
    home.wait_until_watched_by(manager.works_until_ready());
}

fn a_manager_starts_again_what_failed_and_nothing_else() {
    let home = TestHome::new();
    let mut manager = Manager::new(&home, Duration::from_secs(60));
    manager.start(|_| {});
    let crashed = manager.works_until_ready();
    home.kill(crashed);
    manager.works_until("it is started again", |manager| manager.pid().is_some_and(|pid| pid != crashed));
    manager.works_until_ready();
    assert_eq!(manager.starts, 2);
    // A stop by a person, by the manager, and by somebody who interrupts it.
    let stop: [&dyn Fn(&Manager); 3] = [
        &|_| drop(home.ask(&["stop"]).expect_code(0)),
        &|manager| manager.signal(Signal::TERM),
        &|manager| manager.signal(Signal::INT),
    ];
    for (round, stop) in stop.into_iter().enumerate() {
        stop(&manager);
        manager.works_until("it has left", |manager| manager.pid().is_none());
        assert_eq!((home.verdict().as_str(), manager.starts), ("stopped", 2 + round));
        manager.start(|_| {});
        home.wait_until_watched_by(manager.works_until_ready());
    }
    // Settings that cannot be understood are not mended by another start.
    home.configure("poll = \"never\"\n");
    home.kill(manager.pid().unwrap());
    manager.works_until("it rests", |manager| manager.pid().is_none() && manager.starts == 6);
}

fn a_watcher_that_leaves_the_home_to_another_is_not_started_again() {
    let home = TestHome::new();
    let mut manager = Manager::new(&home, Duration::from_secs(60));
    manager.start(|_| {});
    manager.works_until_ready();
    let aside = home.scratch().join("aside");
    fs::rename(home.state(), &aside).unwrap();
    manager.works_until("it has left", |manager| manager.pid().is_none());
    assert_eq!(manager.starts, 1);
    assert!(!home.state().exists(), "a home that a person removed stays removed");
    assert_eq!(manager.value("ConditionPathIsDirectory"), Some(home.state().to_str().unwrap()));
}

/// Fills the queue of a manager that does not read.
fn fill(path: &Path) {
    let filler = UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    while filler.send_to(b"full", path).is_ok() {}
}

fn a_manager_that_does_not_read_holds_up_nobody_and_hears_it_later() {
    let home = TestHome::new();
    let path = home.scratch().join("manager");
    let ear = Ear::at(&path);
    fill(&path);
    let watcher = Background::spawn(run_under(&home, path.to_str().unwrap(), Duration::from_millis(300)));
    home.wait_until_watched_by(watcher.pid());
    let beats = || home.beat().and_then(|beat| beat["counter"].as_u64()).unwrap();
    let first = beats();
    wait_until(SOON, "it beats on", || (beats() > first + 2).then_some(()));
    // What it could not say is not lost: a manager that never heard it would kill a healthy watcher.
    ear.hears("READY=1");
    ear.hears("WATCHDOG=1");
}

fn what_the_watcher_starts_hears_nothing_of_the_manager() {
    let home = TestHome::with(&["check_interval=200ms"]);
    let at = |name: &str| home.scratch().join(name);
    let script = |name: &str, rest: &str| {
        let path = at(&format!("{name}.sh"));
        fs::write(&path, format!("#!/bin/sh\nenv > {0}.new && mv {0}.new {0}\n{rest}\n", at(name).display())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        path
    };
    let (notifier, daemon) = (script("notifier", ""), script("daemon", "exec sleep 1000"));
    home.configure(&format!(
        "[[notify]]\nexec = [\"{}\"]\n[daemon.kept]\ncommand = [\"{}\"]\nready = {{ delay = \"10ms\" }}\n",
        notifier.display(),
        daemon.display()
    ));
    home.make_state();
    let check = home.state().join("task.check.sh");
    fs::rename(script("check", "echo output"), &check).unwrap();
    let mut manager = Manager::new(&home, Duration::from_secs(60));
    manager.start(|_| {});
    let watcher = manager.works_until_ready();
    let own = fs::read(format!("/proc/{watcher}/environ")).unwrap();
    assert!(String::from_utf8_lossy(&own).contains("NOTIFY_SOCKET="), "the watcher itself has them");
    home.ask(&["daemon", "ensure", "kept"]).expect_code(0);
    for name in ["check", "notifier", "daemon"] {
        let environment = wait_until(SOON, &format!("the {name} has run"), || fs::read_to_string(at(name)).ok());
        for variable in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
            assert!(!environment.contains(variable), "{name} has {variable}: {environment}");
        }
    }
    home.ask(&["daemon", "stop", "kept"]).expect_code(0);
}

/// It has nothing else to do than to be heard: unheard, it would count as one that failed, and be started again and again.
fn a_service_that_is_content_waits_until_it_is_heard() {
    let home = TestHome::new();
    home.arm();
    let path = home.scratch().join("manager");
    let ear = Ear::at(&path);
    fill(&path);
    let mut content = Background::spawn(run_under(&home, path.to_str().unwrap(), Duration::from_secs(1)));
    crate::support::stays_true(Duration::from_millis(500), "it waits for room", || content.ended().is_none());
    ear.hears("STOPPING=1");
    content.finish(SOON).expect_code(0);
}

/// A stand-in for `systemctl`: it writes down how it is called, and keeps one process, which it starts as the unit on
/// disk says.
struct StandIn {
    directory: PathBuf,
}

impl StandIn {
    /// One that starts, restarts and stops as systemd does, and returns when the watcher has the home. Files with these names in its directory
    /// make it behave otherwise: `broken` makes it refuse to start, `idle` makes it start nothing, and `without` names a
    /// protection that its watcher lacks.
    fn new(home: &TestHome) -> Self {
        Self::that_restarts_by(home, "leave; start")
    }

    /// `restart` is what it does for that verb.
    fn that_restarts_by(home: &TestHome, restart: &str) -> Self {
        let directory = home.scratch().join("bin");
        fs::create_dir(&directory).unwrap();
        let script = format!(
            "#!/bin/sh\nPATH=/usr/bin:/bin\ncd '{at}' || exit 9\necho \"$*\" >> calls\n\
             lives() {{ grep -q ') [^Z]' /proc/$1/stat 2>/dev/null; }}\n\
             leave() {{ [ ! -s pid ] || {{ old=$(cat pid); kill -TERM $old; kill -CONT $old\n\
             while lives $old; do sleep 0.01; done; rm -f pid; }}; }}\n\
             [ ! -e without ] || export FM_WATCH_WITHOUT=$(cat without)\n\
             start() {{ [ ! -e broken ] || {{ echo no bus >&2; exit 1; }}\n\
             [ ! -e idle ] || return 0\n\
             if [ -s pid ] && lives $(cat pid); then return 0; fi\n\
             eval \"setsid $(sed -n 's/^ExecStart=//p' {units}/fm-watch*.service) </dev/null >/dev/null 2>&1 &\"\n\
             echo $! > pid\n\
             until grep -q \"\\\"pid\\\":$(cat pid),\" '{owner}' 2>/dev/null || ! lives $(cat pid); do sleep 0.01; done\n\
             lives $(cat pid) || rm -f pid; }}\n\
             case $3 in\n\
             show) echo SubState=$(cat sub 2>/dev/null || echo running); echo ActiveState=$(cat active 2>/dev/null || echo active); echo Result=success;\n\
             echo UnitFileState=$(cat enabled 2>/dev/null || echo enabled); echo MainPID=$(cat pid 2>/dev/null || echo 0);;\n\
             restart) {restart};;\nstart) start;;\ndisable) leave;;\nesac\n",
            at = directory.display(),
            units = home.scratch().join("user/config/systemd/user").display(),
            owner = home.watch("owner.json").display(),
        );
        let path = directory.join("systemctl");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self { directory }
    }

    /// Says something else, or behaves otherwise, from now on.
    fn set(&self, name: &str, text: &str) {
        fs::write(self.directory.join(name), text).unwrap();
    }

    fn keeps(&self, pid: u32) {
        self.set("pid", &pid.to_string());
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
    let systemd = StandIn::new(&home);
    let path = unit_path(&home);
    let unit = path.file_name().unwrap().to_str().unwrap().to_owned();
    let answer = systemd.ask(&home, &["service", "install"]).expect_code(0);
    assert_eq!(fs::read_to_string(&path).unwrap(), answer.stdout, "what is written was shown");
    assert!(answer.stderr.contains("enable-linger"), "{answer:?}");
    let show = format!("show --property=ActiveState,Result,MainPID,UnitFileState,SubState {unit}");
    let expected = ["daemon-reload", &format!("enable {unit}"), &format!("start {unit}"), &show];
    assert_eq!(systemd.calls(), expected);
    let written = fs::metadata(&path).unwrap();
    let again = systemd.ask(&home, &["service", "install"]).expect_code(0);
    assert!(again.stderr.contains("keeps the watcher already"), "{again:?}");
    assert_eq!(fs::metadata(&path).unwrap().ino(), written.ino(), "the same text is not written again");
    assert_eq!(home.owner().unwrap()["generation"], 1, "and nothing is started again");
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
    let systemd = StandIn::new(&home);
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
    let systemd = StandIn::new(&home);
    systemd.set("broken", "");
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
    let systemd = StandIn::new(&home);
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

/// Fails the test unless the watcher was replaced without its manager, in words that give the way back.
#[track_caller]
fn assert_replaced_without(home: &TestHome, old: u32, answer: &Answer, why: &str) -> u32 {
    assert!(answer.stdout.starts_with("watcher: started pid="), "{answer:?}");
    assert!(answer.stderr.contains(why) && answer.stderr.contains("systemctl --user start fm-watch-"), "{answer:?}");
    wait_for_end(old, "the old watcher");
    let new = pid_in(&answer.stdout).unwrap();
    home.wait_until_watched_by(new);
    new
}

fn a_manager_that_cannot_restart_is_done_without() {
    let home = TestHome::new();
    installed(&home);
    let systemd = StandIn::that_restarts_by(&home, "echo no bus >&2; exit 1");
    let old = home.arm();
    systemd.keeps(old);
    let answer = systemd.ask(&home, &["arm", "--restart", "--no-wait"]).expect_code(0);
    assert_replaced_without(&home, old, &answer, "no bus");
    assert_eq!(restarts(&systemd.calls()), 1);
}

fn a_manager_that_cannot_be_asked_is_done_without() {
    let home = TestHome::new();
    installed(&home);
    let old = home.arm();
    let nowhere = home.scratch().join("empty");
    let answer = with_path(&home, &nowhere, &["arm", "--restart", "--no-wait"]).expect_code(0);
    assert_replaced_without(&home, old, &answer, "systemctl is not on PATH");
}

fn a_manager_that_starts_nothing_leaves_the_one_that_stood_by() {
    let home = TestHome::new();
    installed(&home);
    let systemd = StandIn::that_restarts_by(&home, "leave");
    let old = home.arm();
    systemd.keeps(old);
    let answer = systemd.ask(&home, &["arm", "--restart", "--no-wait"]).expect_code(0);
    assert_replaced_without(&home, old, &answer, "does not keep what watches now");
}

fn a_successor_that_cannot_stand_by_keeps_the_manager_from_restarting() {
    let home = TestHome::new();
    installed(&home);
    let systemd = StandIn::new(&home);
    let old = home.arm();
    systemd.keeps(old);
    // `arm` itself needs no pattern for panes; a watcher does.
    home.configure("busy_regex = '('\n");
    let answer = systemd.ask(&home, &["arm", "--restart", "--no-wait"]).expect_code(1);
    assert!(answer.stdout.starts_with(&format!("watcher: FAILED - pid {old} stays")), "{answer:?}");
    assert_eq!((restarts(&systemd.calls()), home.pid()), (0, Some(old)));
    home.configure("");
    assert_eq!(home.verdict(), "ok");
}

fn a_watcher_that_the_manager_does_not_keep_is_replaced_as_ever() {
    let home = TestHome::new();
    installed(&home);
    let systemd = StandIn::new(&home);
    let old = home.arm();
    let answer = systemd.ask(&home, &["arm", "--restart", "--no-wait"]).expect_code(0);
    assert!(answer.stdout.starts_with("watcher: started pid="), "{answer:?}");
    assert_ne!(pid_in(&answer.stdout), Some(old));
    assert_eq!(restarts(&systemd.calls()), 0);
}

fn a_stuck_watcher_of_the_manager_is_replaced_by_it() {
    let home = TestHome::new().set(&["stuck_after=500ms"]);
    installed(&home);
    let systemd = StandIn::new(&home);
    let old = home.arm();
    systemd.keeps(old);
    home.signal(old, Signal::STOP);
    home.wait_for_verdict("stuck");
    let answer = systemd.ask(&home, &["arm", "--no-wait"]).expect_code(0);
    assert_eq!((pid_in(&answer.stdout), restarts(&systemd.calls())), (Some(systemd.kept()), 1), "{answer:?}");
}

/// A home whose watcher, kept by the manager, has crashed; the manager is in this state.
fn crashed(home: &TestHome, active: &str, how: &str) -> StandIn {
    installed(home);
    let systemd = StandIn::new(home);
    systemd.set("active", active);
    systemd.set(how, "");
    let old = home.arm();
    systemd.keeps(old);
    home.kill(old);
    systemd
}

fn starts(systemd: &StandIn) -> usize {
    systemd.calls().iter().filter(|call| call.starts_with("start ")).count()
}

fn a_manager_that_rests_between_two_starts_is_not_waited_for() {
    let home = TestHome::new();
    let systemd = crashed(&home, "activating", "starts");
    systemd.set("sub", "auto-restart");
    let answer = systemd.ask(&home, &["arm", "--no-wait"]).expect_code(0);
    // A plain start would be carried out when the rest is over.
    assert_eq!((starts(&systemd), restarts(&systemd.calls())), (0, 1));
    assert_eq!(pid_in(&answer.stdout), Some(systemd.kept()));
}

fn a_watcher_of_the_manager_that_crashed_is_started_by_it() {
    for active in ["activating", "active", "failed", "inactive"] {
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
        systemd.set("enabled", "disabled");
        let answer = systemd.ask(&home, &["arm", "--no-wait"]).expect_code(0);
        assert!(answer.stdout.starts_with("watcher: started pid="), "{answer:?}");
        assert_eq!(starts(&systemd), 0);
    }
}

fn what_a_person_has_changed_is_neither_replaced_nor_removed() {
    let home = TestHome::new();
    let systemd = StandIn::new(&home);
    let path = unit_path(&home);
    systemd.ask(&home, &["service", "install"]).expect_code(0);
    let changed = fs::read_to_string(&path).unwrap().replace("UMask=0077", "UMask=0027");
    fs::write(&path, &changed).unwrap();
    let calls = systemd.calls().len();
    for verb in ["install", "uninstall"] {
        let answer = systemd.ask(&home, &["service", verb]).expect_code(1);
        assert!(answer.stderr.contains("changed by hand"), "{answer:?}");
    }
    assert_eq!((fs::read_to_string(&path).unwrap(), systemd.calls().len()), (changed, calls));
}

/// Runs `service print` of this program for this home.
fn print(home: &TestHome, program: &Path, root: &Path, arguments: &[&str]) -> Answer {
    let mut command = home.bare(program);
    command.arg("--home").arg(root).args(["service", "print"]).args(arguments);
    finish(command)
}

fn paths_that_no_manager_takes_are_refused_in_words() {
    let home = TestHome::new();
    for manager in ["systemd", "launchd"] {
        let odd = home.scratch().join("two\nlines");
        let answer = print(&home, Path::new(*PROGRAM), &odd, &["--manager", manager]).expect_code(1);
        assert!(answer.stderr.contains("without control characters") && answer.stdout.is_empty(), "{answer:?}");
        assert!(!odd.exists());
    }
    let program = home.scratch().join("it's \"here\"");
    copy_program(&program);
    let answer = print(&home, &program, &home.root(), &["--manager", "systemd"]).expect_code(1);
    assert!(answer.stderr.contains("quotes or backslashes"), "{answer:?}");
    print(&home, &program, &home.root(), &["--manager", "launchd"]).expect_code(0);
}

fn every_word_of_the_command_is_read_as_it_was_meant() {
    let home = TestHome::new();
    let program = home.scratch().join("a $HOME ${X} 100% %h; é");
    copy_program(&program);
    for name in ["plain", "a b", "100% %h $HOME ${X} \"x\" 'y' \\z; #", "-é ", "back\\"] {
        let root = home.scratch().join(name);
        let unit = Unit::parse(&print(&home, &program, &root, &["--manager", "systemd"]).expect_code(0).stdout);
        let expected = [program.to_str().unwrap(), "--home", root.to_str().unwrap(), "run", "--take-over"];
        assert_eq!(unit.command, expected);
        let path = std::env::var("PATH").unwrap();
        let absolute: Vec<_> = path.split(':').filter(|directory| directory.starts_with('/')).collect();
        assert_eq!(unit.environment, [("PATH".to_owned(), absolute.join(":"))]);
    }
}

fn installing_hands_a_running_watcher_over() {
    let home = TestHome::new();
    let systemd = StandIn::new(&home);
    let mut waiter = systemd_free_arm(&home);
    let old = home.pid().unwrap();
    let answer = systemd.ask(&home, &["service", "install"]).expect_code(0);
    let new = systemd.kept();
    assert!(answer.stderr.contains(&format!("keeps pid {new}, which took the place of pid {old}")), "{answer:?}");
    wait_for_end(old, "the old watcher");
    home.wait_until_watched_by(new);
    assert_eq!(home.owner().unwrap()["generation"], 2, "nobody else was started in between");
    assert!(waiter.ended().is_none(), "whoever waits goes on waiting");
    home.write_status("task", "done\n");
    waiter.finish(SOON).expect_code(0);
}

fn a_stuck_watcher_is_taken_over_as_well() {
    let home = TestHome::with(&["stop_grace=300ms", "stuck_after=500ms"]);
    let old = home.arm();
    home.signal(old, Signal::STOP);
    home.wait_for_verdict("stuck");
    let watcher = home.spawn(&["run", "--take-over"]);
    home.wait_until_watched_by(watcher.pid());
    wait_for_end(old, "the stuck watcher");
}

fn whoever_is_not_proven_to_watch_is_not_asked_to_leave() {
    let home = TestHome::with(&["arm_timeout=300ms"]);
    home.make_watch();
    // This test itself: a signal would be its end.
    let lock = fs::File::create(home.watch("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let answer = home.ask(&["run", "--take-over"]).expect_code(1);
    assert!(answer.stderr.contains("is not taken over"), "{answer:?}");
    // The same with the record of a living watcher of another home in its place.
    let other = TestHome::new();
    let stranger = other.arm();
    fs::copy(other.watch("owner.json"), home.watch("owner.json")).unwrap();
    let answer = home.ask(&["run", "--take-over"]).expect_code(1);
    assert!(answer.stderr.contains("no signal was sent"), "{answer:?}");
    assert_eq!((other.pid(), other.verdict().as_str()), (Some(stranger), "ok"));
}

/// A waiting `arm` and the watcher that it has started.
fn systemd_free_arm(home: &TestHome) -> Background {
    let arm = home.spawn(&["arm"]);
    home.wait_until_watched_by(pid_in(&arm.wait_for_line("watcher: ")).unwrap());
    arm
}

fn uninstalling_says_what_remains() {
    let home = TestHome::new();
    let systemd = StandIn::new(&home);
    systemd.ask(&home, &["service", "install"]).expect_code(0);
    home.meta("task", &["kind=worker"]);
    let answer = systemd.ask(&home, &["service", "uninstall"]).expect_code(0);
    for part in ["nobody watches this home now", "1 task(s)", "arm --no-wait"] {
        assert!(answer.stderr.contains(part), "{part} is missing in {answer:?}");
    }
    // A watcher that the service did not keep is none of its business.
    installed(&home);
    let pid = home.arm();
    let answer = systemd.ask(&home, &["service", "uninstall"]).expect_code(0);
    assert!(answer.stderr.contains(&format!("pid {pid} still watches")), "{answer:?}");
    assert_eq!(home.verdict(), "ok");
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
    without(&mut command, &["ObtainStartThroughManager"]);
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
    points.pause(&mut command, &["CycleRound"]);
    let watcher = Background::spawn(command);
    points.wait_until_reached("CycleRound");
    home.wait_until_watched_by(watcher.pid());
    crate::support::stays_true(Duration::from_millis(500), "the manager hears nothing", || ear.heard().is_none());
    points.go("CycleRound");
    ear.hears("READY=1");
    ear.hears("WATCHDOG=1");
}

/// The twin of `a_forced_restart_goes_through_the_manager_that_keeps_the_watcher`.
#[cfg(feature = "sync-points")]
fn a_restart_past_the_manager_leaves_it_keeping_nothing() {
    let home = TestHome::new();
    installed(&home);
    let systemd = StandIn::new(&home);
    let old = home.arm();
    systemd.keeps(old);
    let mut command = home.command(&["arm", "--restart", "--no-wait"]);
    command.env("PATH", &systemd.directory);
    without(&mut command, &["ObtainThroughManager"]);
    let answer = finish(command).expect_code(0);
    assert_eq!((restarts(&systemd.calls()), systemd.kept()), (0, old));
    assert_ne!(pid_in(&answer.stdout), Some(old), "the manager's process has left, and nobody keeps the new one");
}

/// The twin of `a_file_that_is_not_ours_is_neither_replaced_nor_removed`.
#[cfg(feature = "sync-points")]
fn without_looking_for_the_mark_a_strangers_file_is_replaced() {
    let home = TestHome::new();
    let systemd = StandIn::new(&home);
    let path = unit_path(&home);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "mine").unwrap();
    let mut command = home.command(&["service", "install"]);
    command.env("PATH", &systemd.directory);
    without(&mut command, &["ServiceMark"]);
    finish(command).expect_code(0);
    assert_ne!(fs::read_to_string(&path).unwrap(), "mine");
}

/// The twin of `what_a_person_has_changed_is_neither_replaced_nor_removed`.
#[cfg(feature = "sync-points")]
fn without_looking_for_the_seal_a_persons_changes_are_lost() {
    let home = TestHome::new();
    let systemd = StandIn::new(&home);
    let path = unit_path(&home);
    systemd.ask(&home, &["service", "install"]).expect_code(0);
    let written = fs::read_to_string(&path).unwrap();
    fs::write(&path, written.replace("UMask=0077", "UMask=0027")).unwrap();
    let mut command = home.command(&["service", "install"]);
    command.env("PATH", &systemd.directory);
    without(&mut command, &["ServiceSeal"]);
    finish(command).expect_code(0);
    assert_eq!(fs::read_to_string(&path).unwrap(), written, "what the person wrote is gone");
}

/// The twin of `installing_hands_a_running_watcher_over`.
#[cfg(feature = "sync-points")]
fn without_taking_over_nobody_keeps_the_watcher() {
    let home = TestHome::new();
    let systemd = StandIn::new(&home);
    let old = home.arm();
    systemd.set("without", "ServiceTakeOver");
    let answer = systemd.ask(&home, &["service", "install"]).expect_code(1);
    assert!(answer.stderr.contains("keeps nothing"), "{answer:?}");
    assert_eq!(home.pid(), Some(old));
}
