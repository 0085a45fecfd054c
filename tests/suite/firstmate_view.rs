//! Firstmate homes: what shell scripts see of our watcher, and ours of theirs. One holder, whoever it is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use rustix::process::Signal;

use crate::support::background::wait_for_state;
use crate::support::contest::names_in;
use crate::support::gate::Gate;
use crate::support::home::{finish, pid_in};
#[cfg(feature = "sync-points")]
use crate::support::sync::{kill_at, without};
use crate::support::{Background, SOON, Skip, TestHome, processes, requires, stays_true, wait_until_true};

cases! {
    ours_shows_the_scripts_what_a_shell_watcher_would,
    the_scripts_are_told_the_home_as_they_write_it,
    the_identity_is_told_anew_when_the_clock_was_set,
    the_beacon_is_touched_at_each_beat,
    a_home_without_the_script_gets_nothing_of_this,
    a_shell_watcher_that_starts_while_ours_runs_leaves_in_its_own_words,
    #[cfg(feature = "sync-points")]
    without_the_scripts_lock_a_shell_watcher_stays_beside_ours,
    a_live_shell_watcher_is_respected_and_reported,
    a_home_whose_code_is_elsewhere_has_one_watcher_too,
    a_stuck_shell_watcher_is_reported_and_left_alone,
    a_shell_watcher_whose_record_proves_nothing_is_reported_and_never_signalled,
    a_pid_that_is_another_program_by_now_is_left_alone,
    #[cfg(feature = "sync-points")]
    without_the_proof_a_stranger_is_signalled,
    what_others_could_have_recorded_authorises_no_signal,
    #[cfg(feature = "sync-points")]
    without_that_look_whoever_is_recorded_is_signalled,
    a_restart_replaces_a_proven_shell_watcher,
    a_shell_watcher_that_does_not_leave_is_not_killed,
    a_shell_watcher_is_stopped_on_request,
    a_stopped_shell_watcher_is_replaced_by_no_one_who_waits,
    #[cfg(feature = "sync-points")]
    without_a_word_of_the_stop_a_waiting_arm_undoes_it,
    a_shell_watcher_that_came_after_a_stopped_one_is_replaced_when_it_ends,
    a_shell_watcher_that_stays_was_not_stopped,
    an_old_watcher_that_takes_the_pid_file_evicts_ours_which_leaves_its_files_alone,
    #[cfg(feature = "sync-points")]
    without_the_look_ours_goes_on_beside_an_old_watcher,
    an_old_watcher_behind_the_identity_of_ours_is_not_called_dead,
    #[cfg(feature = "sync-points")]
    without_a_pid_of_its_own_an_identity_calls_an_old_watcher_dead,
    a_removed_lock_is_taken_again,
    a_shell_watcher_reclaims_the_record_of_ours_that_was_killed,
    ours_reclaims_the_record_of_a_shell_watcher_that_was_killed,
    a_killed_holder_that_nobody_reaps_does_not_keep_the_home,
    #[cfg(feature = "sync-points")]
    the_next_start_works_after_a_kill_at_any_step_of_a_claim,
    a_waiting_arm_obtains_a_watcher_when_the_shell_watcher_ends_with_its_wake,
    of_40_contenders_half_of_them_shell_one_holds_each_time,
    #[cfg(feature = "sync-points")]
    without_the_scripts_lock_40_contenders_make_two_holders,
}

/// The programs, as text, so that a moved test binary still has them.
const WATCHER: &str = include_str!("../peers/firstmate_watcher.sh");
const LOCK: &str = include_str!("../peers/owner_link.sh");

/// A firstmate home with a shell watcher of its own.
pub struct Fleet {
    /// The home itself.
    pub home: TestHome,
}

impl Fleet {
    /// One with the scripts of the tests' own watcher.
    pub fn new() -> Result<Self, Skip> {
        for tool in ["bash", "mktemp", "readlink", "stat", "ln", "ps", "sed"] {
            requires(tool)?;
        }
        let home = TestHome::new();
        home.make_state();
        fs::create_dir(home.root().join("bin")).unwrap();
        for (name, text) in [("fm-watch.sh", WATCHER), ("owner_link.sh", LOCK)] {
            let path = home.root().join("bin").join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Ok(Self { home })
    }

    fn script(&self) -> PathBuf {
        self.home.root().join("bin/fm-watch.sh")
    }

    /// A command of the shell watcher.
    fn shell(&self, arguments: &[&str]) -> Command {
        let mut command = self.home.bare("bash");
        command.arg(self.script()).args(arguments).env("FM_POLL", "0.2");
        command
    }

    /// Starts a shell watcher and waits until it watches.
    pub fn shell_watcher(&self) -> Background {
        self.watching(Background::spawn(self.shell(&[])))
    }

    /// Waits until a shell watcher has told all and beaten.
    #[track_caller]
    fn watching(&self, watcher: Background) -> Background {
        wait_until_true(SOON, "the shell watcher watches", || self.healthy() == Some(watcher.pid()));
        watcher
    }

    /// Whom the scripts call this home's healthy watcher.
    pub fn healthy(&self) -> Option<u32> {
        pid_in(&finish(self.shell(&["healthy"])).stdout)
    }

    /// What stands in a file of the scripts' lock.
    fn told(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.lock().join(name)).ok().map(|text| text.trim_end().to_owned())
    }

    fn lock(&self) -> PathBuf {
        self.home.state().join(".watch.lock")
    }

    /// The pid in the scripts' lock.
    fn holder(&self) -> Option<u32> {
        self.told("pid")?.parse().ok()
    }

    /// All names in the state directory that belong to the scripts' lock.
    fn traces(&self) -> Vec<String> {
        names_in(&self.home.state()).into_iter().filter(|name| name.starts_with(".watch.lock")).collect()
    }

    fn touched(&self) -> Option<SystemTime> {
        fs::metadata(self.home.state().join(".last-watcher-beat")).ok()?.modified().ok()
    }

    /// Makes the record of somebody who lives and has had the lock for a minute, with an identity of one's own.
    pub fn lay(&self, pid: u32, home: &str, identity: Option<&str>) {
        let owner = self.home.state().join(".watch.lock.owner.abcdef");
        fs::create_dir(&owner).unwrap();
        fs::write(owner.join("pid"), format!("{pid}\n")).unwrap();
        fs::write(owner.join("fm-home"), format!("{home}\n")).unwrap();
        fs::write(owner.join("watcher-path"), format!("{}\n", self.script().display())).unwrap();
        if let Some(identity) = identity {
            fs::write(owner.join("pid-identity"), format!("{identity}\n")).unwrap();
        }
        std::os::unix::fs::symlink(owner, self.lock()).unwrap();
        self.age_lock();
    }

    /// Makes the lock a minute old.
    fn age_lock(&self) {
        use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
        let then = SystemTime::now() - Duration::from_secs(60);
        let seconds = then.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().try_into().unwrap();
        let then = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let times = Timestamps { last_access: then, last_modification: then };
        utimensat(CWD, self.lock(), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// What `ps` lists of a process, as the scripts have it.
fn listed(fleet: &Fleet, pid: u32, variables: &[(&str, &str)]) -> String {
    let mut ps = fleet.home.bare("ps");
    ps.args(["-p", &pid.to_string(), "-o", "lstart=", "-o", "command="]);
    if let Some(zone) = std::env::var_os("TZ") {
        ps.env("TZ", zone);
    }
    ps.envs(variables.iter().copied());
    finish(ps).stdout.trim().to_owned()
}

fn ours_shows_the_scripts_what_a_shell_watcher_would() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let watcher = fleet.home.watcher();
    let target = fs::read_link(fleet.lock()).unwrap();
    assert!(target.is_absolute() && target.parent() == Some(&fleet.home.state()), "{}", target.display());
    assert!(target.file_name().unwrap().to_str().unwrap().starts_with(".watch.lock.owner."));
    assert_eq!(fleet.holder(), Some(watcher.pid()));
    assert_eq!(fleet.told("fm-home").unwrap(), fleet.home.root().to_str().unwrap());
    assert_eq!(fleet.told("watcher-path").unwrap(), fleet.script().to_str().unwrap());
    assert_eq!(names_in(&target), ["fm-home", "pid", "pid-identity", "watcher-path"]);
    // The kernel's time of boot is rounded, now to one second and now to the next.
    wait_until_true(SOON, "the identity is what ps lists, in the locales of scripts", || {
        let told = fleet.told("pid-identity").unwrap();
        ["C", "C.UTF-8", "POSIX"].iter().all(|locale| listed(&fleet, watcher.pid(), &[("LC_ALL", locale)]) == told)
    });
    assert_eq!(fleet.healthy(), Some(watcher.pid()), "by the scripts' own predicate");
    assert_eq!(fleet.home.status()["shell_holder"], serde_json::Value::Null);
    watcher.signal(Signal::TERM);
    watcher.finish(SOON).expect_code(0);
    assert_eq!(fleet.traces(), [""; 0], "nothing is left");
    Ok(())
}

fn the_scripts_are_told_the_home_as_they_write_it() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let slashed = format!("{}/", fleet.home.root().display());
    let mut arm = fleet.home.command(&["arm", "--no-wait"]);
    arm.env("FM_HOME", &slashed);
    finish(arm).expect_code(0);
    assert_eq!(fleet.told("fm-home").unwrap(), slashed);
    let mut healthy = fleet.shell(&["healthy"]);
    healthy.env("FM_HOME", &slashed);
    assert_eq!(pid_in(&finish(healthy).stdout), fleet.home.pid());
    assert_eq!(fleet.healthy(), None, "to the scripts it is another home without the slash");
    Ok(())
}

fn the_identity_is_told_anew_when_the_clock_was_set() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let watcher = fleet.home.watcher();
    let told = fleet.told("pid-identity").unwrap();
    // What `ps` would have listed before the clock was set.
    let before = told.replacen(told.get(..24).unwrap(), "Fri Nov 20 23:05:27 2020", 1);
    fs::write(fleet.lock().join("pid-identity"), before + "\n").unwrap();
    wait_until_true(SOON, "the scripts know it again", || fleet.healthy() == Some(watcher.pid()));
    Ok(())
}

fn the_beacon_is_touched_at_each_beat() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let path = fleet.home.state().join(".last-watcher-beat");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    fs::File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
    let _watcher = fleet.home.watcher();
    let mut last = fleet.touched().unwrap();
    assert!(last > long_ago, "it is touched before the first beat is told");
    for _ in 0..3 {
        wait_until_true(SOON, "it is touched again", || fleet.touched().is_some_and(|now| now > last));
        last = fleet.touched().unwrap();
    }
    let there = fs::metadata(path).unwrap();
    assert_eq!((there.len(), there.permissions().mode() & 0o777), (0, 0o640), "it is touched, not replaced");
    Ok(())
}

fn a_home_without_the_script_gets_nothing_of_this() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    fs::remove_file(fleet.script()).unwrap();
    // What another program has left here is none of our business then.
    fleet.lay(std::process::id(), "/another", None);
    fs::write(fleet.lock().join("watcher-path"), "/another/program\n").unwrap();
    let watcher = fleet.home.watcher();
    assert_eq!(fleet.home.verdict(), "ok");
    assert_eq!(fleet.holder(), Some(std::process::id()));
    assert_eq!(fleet.touched(), None);
    watcher.signal(Signal::TERM);
    watcher.finish(SOON).expect_code(0);
    Ok(())
}

fn a_shell_watcher_that_starts_while_ours_runs_leaves_in_its_own_words() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let mut ours = fleet.home.watcher();
    for _ in 0..3 {
        let second = finish(fleet.shell(&[])).expect_code(0);
        assert_eq!(second.stdout, format!("watcher: already running pid {}\n", ours.pid()));
        assert_eq!(second.stderr, "");
    }
    assert!(ours.ended().is_none());
    assert_eq!(fleet.healthy(), Some(ours.pid()));
    Ok(())
}

/// The twin: without the claim a shell watcher finds nobody.
#[cfg(feature = "sync-points")]
fn without_the_scripts_lock_a_shell_watcher_stays_beside_ours() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let mut command = fleet.home.command(&["run"]);
    without(&mut command, &["FirstmateClaim"]);
    let mut ours = Background::spawn(command);
    fleet.home.wait_until_watched_by(ours.pid());
    let mut shell = fleet.shell_watcher();
    assert!(ours.ended().is_none() && shell.ended().is_none(), "both watch");
    Ok(())
}

fn a_live_shell_watcher_is_respected_and_reported() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let mut shell = fleet.shell_watcher();
    let pid = shell.pid();
    let answer = fleet.home.ask(&["run"]).expect_code(0);
    assert_eq!(answer.stdout, format!("watcher: already running pid {pid}\n"));
    let answer = fleet.home.ask(&["arm", "--no-wait"]).expect_code(0);
    assert_eq!(answer.stdout, format!("watcher: healthy pid={pid} (beacon 0s)\n"));
    let status = fleet.home.status();
    assert_eq!((status["verdict"].as_str(), status["pid"].as_u64()), (Some("ok"), Some(pid.into())), "{status}");
    assert!(status["shell_holder"].as_str().unwrap().contains("of the shell scripts"), "{status}");
    fleet.home.meta("task", &["window=x:y"]);
    assert_eq!(fleet.home.ask(&["guard"]).expect_code(0).stderr, "", "supervision is on");
    assert!(shell.ended().is_none());
    assert_eq!(fleet.home.owner(), None, "ours has not held it, not even for an instant");
    Ok(())
}

/// Two fleets share the scripts of the first, and whoever calls ours says only which home is meant.
fn a_home_whose_code_is_elsewhere_has_one_watcher_too() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let code = fleet.home.scratch().join("code");
    fs::create_dir(&code).unwrap();
    fs::rename(fleet.home.root().join("bin"), code.join("bin")).unwrap();
    let shell = || {
        let mut command = fleet.home.bare("bash");
        command.arg(code.join("bin/fm-watch.sh")).env("FM_HOME", fleet.home.root()).env("FM_POLL", "0.2");
        command
    };
    let watcher = Background::spawn(shell());
    let pid = watcher.pid();
    wait_until_true(SOON, "the shell watcher watches", || fleet.touched().is_some());
    let answer = fleet.home.ask(&["run"]).expect_code(0);
    assert_eq!(answer.stdout, format!("watcher: already running pid {pid}\n"));
    assert_eq!((fleet.home.verdict().as_str(), fleet.home.owner()), ("ok", None));
    watcher.signal(Signal::TERM);
    watcher.finish(SOON);
    assert_eq!(fleet.traces(), Vec::<String>::new());
    // What one of ours was told once, the next one knows.
    let mut told = fleet.home.command(&["run"]);
    told.env("FM_ROOT_OVERRIDE", &code);
    let ours = Background::spawn(told);
    fleet.home.wait_until_watched_by(ours.pid());
    ours.signal(Signal::TERM);
    ours.finish(SOON).expect_code(0);
    let again = fleet.home.watcher();
    let second = finish(shell()).expect_code(0);
    assert_eq!(second.stdout, format!("watcher: already running pid {}\n", again.pid()));
    assert_eq!(fleet.told("watcher-path"), code.join("bin/fm-watch.sh").to_str().map(str::to_owned));
    Ok(())
}

fn a_stuck_shell_watcher_is_reported_and_left_alone() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let shell = fleet.shell_watcher();
    shell.signal(Signal::STOP);
    let path = fleet.home.state().join(".last-watcher-beat");
    let beaten = SystemTime::now() - Duration::from_secs(400);
    fs::File::options().write(true).open(path).unwrap().set_modified(beaten).unwrap();
    let answer = fleet.home.ask(&["arm", "--no-wait"]).expect_code(1);
    let failed = format!("watcher: FAILED - watcher pid {} is stuck", shell.pid());
    assert!(answer.stdout.starts_with(&failed) && answer.stdout.contains("arm --restart"), "{answer:?}");
    let answer = fleet.home.ask(&["run"]).expect_code(1);
    let lost = format!("watcher: lock held by live pid {} but heartbeat is stale for 40", shell.pid());
    assert!(answer.stderr.contains(&lost) && answer.stderr.contains("s (>300s); inspect or stop"), "{answer:?}");
    assert!(processes::is_alive(shell.pid()));
    shell.signal(Signal::CONT);
    Ok(())
}

/// A process that has nothing to do with anything.
fn stranger(fleet: &Fleet) -> Background {
    let mut command = fleet.home.bare("sleep");
    command.arg("1000");
    Background::spawn(command)
}

fn a_shell_watcher_whose_record_proves_nothing_is_reported_and_never_signalled() -> Result<(), Skip> {
    type Laying = fn(&Fleet, u32);
    let table: [(&str, Laying); 4] = [
        ("it serves the home /another", |fleet, pid| {
            fleet.lay(pid, "/another", Some(&listed(fleet, pid, &[])));
        }),
        ("it recorded a pid and no identity", |fleet, pid| {
            fleet.lay(pid, fleet.home.root().to_str().unwrap(), None);
        }),
        ("only a beginning of its command was recorded", |fleet, pid| {
            let identity = listed(fleet, pid, &[]);
            fleet.lay(pid, fleet.home.root().to_str().unwrap(), identity.get(.."Fri Nov 20 23:05:27 2026".len()));
        }),
        ("its command was started again, or the clock was set", |fleet, pid| {
            // The same process, as the scripts of somebody in another time zone list it. They know it no more.
            let identity = listed(fleet, pid, &[("TZ", "<+1345>-13:45")]);
            fleet.lay(pid, fleet.home.root().to_str().unwrap(), Some(&identity));
        }),
    ];
    for (reason, lay) in table {
        let fleet = Fleet::new()?;
        let mut stranger = stranger(&fleet);
        lay(&fleet, stranger.pid());
        for arguments in [&["arm", "--no-wait"][..], &["arm", "--restart", "--no-wait"]] {
            let answer = fleet.home.ask(arguments).expect_code(1);
            assert!(answer.stdout.starts_with("watcher: FAILED - ") && answer.stdout.contains(reason), "{answer:?}");
            assert!(answer.stdout.contains(&format!("pid {} holds .watch.lock", stranger.pid())), "{answer:?}");
        }
        let answer = fleet.home.ask(&["stop"]).expect_code(1);
        assert!(answer.stderr.contains(reason), "{answer:?}");
        assert!(stranger.ended().is_none(), "{reason}");
        assert_eq!(fleet.holder(), Some(stranger.pid()));
    }
    Ok(())
}

/// Another start and command, but older than the record: the clock may have been set. Only a person who asks for a new watcher
/// has such a record cleared, as the scripts have it, and then too nobody is signalled.
fn a_pid_that_is_another_program_by_now_is_left_alone() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let mut stranger = stranger(&fleet);
    let identity = "Fri Nov 20 23:05:27 2020 bash /path/bin/fm-watch.sh";
    fleet.lay(stranger.pid(), fleet.home.root().to_str().unwrap(), Some(identity));
    for arguments in [&["arm", "--no-wait"][..], &["stop"]] {
        let answer = fleet.home.ask(arguments).expect_code(1);
        assert!(format!("{answer:?}").contains("another start and command"), "{answer:?}");
    }
    assert_eq!(fleet.holder(), Some(stranger.pid()));
    let answer = fleet.home.ask(&["arm", "--restart", "--no-wait"]).expect_code(0);
    assert!(answer.stderr.contains("it was left alone"), "{answer:?}");
    assert_eq!(fleet.holder(), pid_in(&answer.stdout));
    assert!(stranger.ended().is_none());
    Ok(())
}

/// The twin: without the proof, whoever the record names is signalled.
#[cfg(feature = "sync-points")]
fn without_the_proof_a_stranger_is_signalled() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let stranger = stranger(&fleet);
    fleet.lay(stranger.pid(), "/another", None);
    let mut stop = fleet.home.command(&["stop"]);
    without(&mut stop, &["FirstmateProof"]);
    finish(stop).expect_code(0);
    assert_eq!(stranger.finish(SOON).signal, Some(Signal::TERM.as_raw()));
    Ok(())
}

/// A record that is true in everything, in a directory where anybody could have written it.
fn laid_by_anybody() -> Result<(Fleet, Background), Skip> {
    let fleet = Fleet::new()?;
    let stranger = stranger(&fleet);
    fleet.lay(stranger.pid(), fleet.home.root().to_str().unwrap(), Some(&listed(&fleet, stranger.pid(), &[])));
    fs::write(fleet.home.state().join(".last-watcher-beat"), "").unwrap();
    fs::set_permissions(fleet.home.state(), fs::Permissions::from_mode(0o777)).unwrap();
    Ok((fleet, stranger))
}

fn what_others_could_have_recorded_authorises_no_signal() -> Result<(), Skip> {
    let (fleet, mut stranger) = laid_by_anybody()?;
    for arguments in [&["stop"][..], &["arm", "--restart", "--no-wait"]] {
        let answer = fleet.home.ask(arguments).expect_code(1);
        assert!(format!("{answer:?}").contains("can be written by others"), "{answer:?}");
    }
    let owner = fs::canonicalize(fleet.lock()).unwrap();
    for (path, mode) in [(fleet.home.state(), 0o700), (owner, 0o777)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let answer = fleet.home.ask(&["stop"]).expect_code(1);
    assert!(answer.stderr.contains("can be written by others"), "{answer:?}");
    assert!(stranger.ended().is_none());
    Ok(())
}

#[cfg(feature = "sync-points")]
fn without_that_look_whoever_is_recorded_is_signalled() -> Result<(), Skip> {
    let (fleet, stranger) = laid_by_anybody()?;
    let mut stop = fleet.home.command(&["stop"]);
    without(&mut stop, &["FirstmateOwnRecord"]);
    finish(stop).expect_code(0);
    assert_eq!(stranger.finish(SOON).signal, Some(Signal::TERM.as_raw()));
    Ok(())
}

fn a_restart_replaces_a_proven_shell_watcher() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let shell = fleet.shell_watcher();
    let answer = fleet.home.ask(&["arm", "--restart", "--no-wait"]).expect_code(0);
    let pid = pid_in(&answer.stdout).unwrap();
    assert_eq!(answer.stdout, format!("watcher: started pid={pid} (beacon fresh)\n"));
    assert!(answer.stderr.contains(&format!("took the place of pid {}", shell.pid())), "{answer:?}");
    let left = shell.finish(SOON);
    assert_eq!(left.signal.or(left.code), Some(Signal::TERM.as_raw()), "{left:?}");
    assert_eq!(fleet.healthy(), Some(pid));
    assert_eq!(fleet.home.verdict(), "ok");
    assert_eq!(fleet.traces().len(), 2, "{:?}", fleet.traces());
    Ok(())
}

fn a_shell_watcher_that_does_not_leave_is_not_killed() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let mut deaf = fleet.shell(&[]);
    deaf.env("FW_DEAF", "1");
    let mut shell = fleet.watching(Background::spawn(deaf));
    let answer = fleet.home.ask(&["arm", "--restart", "--no-wait"]).expect_code(1);
    let found = format!("watcher: FAILED - pid {} was asked to leave and is still there after 5s", shell.pid());
    assert!(answer.stdout.starts_with(&found), "{answer:?}");
    assert!(answer.took >= Duration::from_secs(5), "{answer:?}");
    assert!(shell.ended().is_none());
    assert_eq!(fleet.healthy(), Some(shell.pid()));
    Ok(())
}

fn a_shell_watcher_is_stopped_on_request() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let shell = fleet.shell_watcher();
    let answer = fleet.home.ask(&["stop"]).expect_code(0);
    assert_eq!(answer.stdout, format!("watcher: stopped pid={}\n", shell.pid()));
    shell.finish(SOON);
    assert_eq!(fleet.home.verdict(), "stopped");
    Ok(())
}

/// An `arm` that waits for the wakes of a shell watcher.
fn waiting_for(fleet: &Fleet, shell: &Background) -> Background {
    let arm = fleet.home.spawn(&["arm"]);
    assert_eq!(pid_in(&arm.wait_for_line("watcher: healthy")), Some(shell.pid()));
    arm
}

/// A home that has never had a watcher of ours, and one whose last left of itself.
fn homes_without_ours() -> Result<[Fleet; 2], Skip> {
    let used = Fleet::new()?;
    let ours = used.home.watcher();
    ours.signal(Signal::TERM);
    ours.finish(SOON).expect_code(0);
    Ok([Fleet::new()?, used])
}

fn a_stopped_shell_watcher_is_replaced_by_no_one_who_waits() -> Result<(), Skip> {
    for fleet in homes_without_ours()? {
        let before = fleet.home.owner();
        let shell = fleet.shell_watcher();
        let arm = waiting_for(&fleet, &shell);
        fleet.home.ask(&["stop"]).expect_code(0);
        let said = format!("watcher: FAILED - pid {} was stopped on request, and is not replaced", shell.pid());
        assert_eq!(arm.finish(SOON).expect_code(1).lines()[1], said);
        let status = fleet.home.status();
        assert_eq!((&status["verdict"], fleet.home.owner()), (&"stopped".into(), before), "{status}");
        // Whoever arms now wants one.
        let pid = fleet.home.arm();
        assert_eq!(fleet.healthy(), Some(pid));
        let waiting = fleet.home.spawn(&["arm"]);
        waiting.wait_for_line("watcher: healthy");
        fleet.home.kill(pid);
        wait_until_true(SOON, "the next one is replaced as ever", || {
            fleet.home.pid().is_some_and(|next| next != pid && fleet.healthy() == Some(next))
        });
    }
    Ok(())
}

/// The twin: without the record, a waiting arm cannot know.
#[cfg(feature = "sync-points")]
fn without_a_word_of_the_stop_a_waiting_arm_undoes_it() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let shell = fleet.shell_watcher();
    let _arm = waiting_for(&fleet, &shell);
    let mut stop = fleet.home.command(&["stop"]);
    without(&mut stop, &["StopShell"]);
    finish(stop).expect_code(0);
    wait_until_true(SOON, "ours watches", || fleet.home.pid().is_some_and(|pid| fleet.healthy() == Some(pid)));
    Ok(())
}

fn a_shell_watcher_that_came_after_a_stopped_one_is_replaced_when_it_ends() -> Result<(), Skip> {
    for fleet in homes_without_ours()? {
        fleet.home.make_watch();
        let stopped = fleet.shell_watcher();
        fleet.home.ask(&["stop"]).expect_code(0);
        stopped.finish(SOON);
        let shell = fleet.shell_watcher();
        let _arm = waiting_for(&fleet, &shell);
        fs::write(fleet.home.state().join("FW_WAKE"), "heartbeat\n").unwrap();
        shell.finish(SOON).expect_code(0);
        wait_until_true(SOON, "ours watches", || fleet.home.pid().is_some_and(|pid| fleet.healthy() == Some(pid)));
    }
    Ok(())
}

fn a_shell_watcher_that_stays_was_not_stopped() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let mut deaf = fleet.shell(&[]);
    deaf.env("FW_DEAF", "1");
    let shell = fleet.watching(Background::spawn(deaf));
    let _arm = waiting_for(&fleet, &shell);
    let answer = fleet.home.ask(&["stop"]).expect_code(1);
    assert!(answer.stderr.contains("still there after 5s"), "{answer:?}");
    shell.signal(Signal::KILL);
    shell.finish(SOON);
    wait_until_true(SOON, "ours watches", || fleet.home.pid().is_some_and(|pid| fleet.healthy() == Some(pid)));
    Ok(())
}

/// What stands in the scripts' lock, apart from the pid.
fn tree(fleet: &Fleet) -> (PathBuf, Vec<Option<String>>) {
    let told = ["fm-home", "watcher-path", "pid-identity"].map(|name| fleet.told(name));
    (fs::read_link(fleet.lock()).unwrap(), told.into())
}

fn an_old_watcher_that_takes_the_pid_file_evicts_ours_which_leaves_its_files_alone() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let ours = fleet.home.watcher();
    let before = tree(&fleet);
    let mut old = Background::spawn(fleet.shell(&["old"]));
    wait_until_true(SOON, "the old watcher has the lock", || fleet.holder() == Some(old.pid()));
    // A poll of the shell watchers' is a second or more.
    let answer = ours.finish(Duration::from_secs(3)).expect_code(0);
    let said = format!("pid {} has taken .watch.lock", old.pid());
    assert!(answer.stderr.contains(&said), "{answer:?}");
    assert!(fleet.home.history().last().unwrap()["how"].as_str().unwrap().contains(&said));
    stays_true(Duration::from_millis(500), "the old watcher watches", || old.ended().is_none());
    assert_eq!(fleet.holder(), Some(old.pid()));
    assert_eq!(tree(&fleet), before);
    fleet.age_lock();
    let answer = fleet.home.ask(&["arm", "--no-wait"]).expect_code(1);
    assert!(answer.stdout.contains(&format!("pid {} holds .watch.lock", old.pid())), "{answer:?}");
    assert!(old.ended().is_none());
    Ok(())
}

/// The twin: without the look, ours goes on.
#[cfg(feature = "sync-points")]
fn without_the_look_ours_goes_on_beside_an_old_watcher() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let mut command = fleet.home.command(&["run"]);
    without(&mut command, &["FirstmateEviction"]);
    let mut ours = Background::spawn(command);
    fleet.home.wait_until_watched_by(ours.pid());
    let mut old = Background::spawn(fleet.shell(&["old"]));
    wait_until_true(SOON, "the old watcher has the lock", || fleet.holder() == Some(old.pid()));
    stays_true(Duration::from_secs(2), "both watch", || ours.ended().is_none() && old.ended().is_none());
    Ok(())
}

/// An old watcher that started later than ours, which was killed, and took the pid file that ours left.
fn behind_the_identity_of_ours(fleet: &Fleet) -> Background {
    let ours = fleet.home.watcher();
    let told = fs::metadata(fleet.lock().join("pid-identity")).unwrap().modified().unwrap();
    ours.signal(Signal::KILL);
    ours.finish(SOON);
    wait_until_true(SOON, "the clock shows a later second than the record's", || {
        told.elapsed().is_ok_and(|age| age > Duration::from_secs(3))
    });
    let old = Background::spawn(fleet.shell(&["old"]));
    wait_until_true(SOON, "the old watcher has the lock", || fleet.holder() == Some(old.pid()));
    old
}

fn an_old_watcher_behind_the_identity_of_ours_is_not_called_dead() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let mut old = behind_the_identity_of_ours(&fleet);
    fleet.age_lock();
    let answer = fleet.home.ask(&["run"]).expect_code(1);
    assert!(answer.stderr.contains(&format!("pid {} holds .watch.lock", old.pid())), "{answer:?}");
    assert!(old.ended().is_none());
    assert_eq!(fleet.holder(), Some(old.pid()));
    Ok(())
}

/// The twin: the identity of ours, beside the pid of another, is one of a process that is no more.
#[cfg(feature = "sync-points")]
fn without_a_pid_of_its_own_an_identity_calls_an_old_watcher_dead() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let old = behind_the_identity_of_ours(&fleet);
    let mut command = fleet.home.command(&["run"]);
    without(&mut command, &["OwnerLinkIdentityOfPid"]);
    let ours = Background::spawn(command);
    fleet.home.wait_until_watched_by(ours.pid());
    assert_eq!(fleet.holder(), Some(ours.pid()), "it has taken the lock of a watcher that lived");
    drop(old);
    Ok(())
}

fn a_removed_lock_is_taken_again() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let mut ours = fleet.home.watcher();
    for _ in 0..3 {
        fs::remove_file(fleet.lock()).unwrap();
        wait_until_true(SOON, "it is taken again", || fleet.healthy() == Some(ours.pid()));
    }
    assert!(ours.ended().is_none());
    assert_eq!(fleet.traces().len(), 2, "{:?}", fleet.traces());
    Ok(())
}

fn a_shell_watcher_reclaims_the_record_of_ours_that_was_killed() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let ours = fleet.home.watcher();
    ours.signal(Signal::KILL);
    ours.finish(SOON);
    let shell = fleet.shell_watcher();
    assert_eq!(fleet.home.verdict(), "ok");
    assert_eq!(fleet.traces().len(), 2, "{:?}", fleet.traces());
    assert_eq!(fleet.holder(), Some(shell.pid()));
    Ok(())
}

fn ours_reclaims_the_record_of_a_shell_watcher_that_was_killed() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let shell = fleet.shell_watcher();
    shell.signal(Signal::KILL);
    shell.finish(SOON);
    let ours = fleet.home.watcher();
    assert_eq!(fleet.healthy(), Some(ours.pid()));
    assert_eq!(fleet.traces().len(), 2, "{:?}", fleet.traces());
    Ok(())
}

fn a_killed_holder_that_nobody_reaps_does_not_keep_the_home() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let watchers: [fn(&Fleet) -> Background; 2] = [|fleet| fleet.home.watcher(), Fleet::shell_watcher];
    for watcher in watchers {
        let holder = watcher(&fleet);
        holder.signal(Signal::KILL);
        wait_for_state(holder.pid(), "Z");
        let next = fleet.home.watcher();
        assert_eq!(fleet.holder(), Some(next.pid()));
        next.signal(Signal::TERM);
        next.finish(SOON).expect_code(0);
    }
    Ok(())
}

#[cfg(feature = "sync-points")]
fn the_next_start_works_after_a_kill_at_any_step_of_a_claim() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let steps = [
        "OwnerLinkPrepared",
        "OwnerLinkLinked",
        "FirstmateClaimed",
        "HoldingGeneration",
        "HoldingOwner",
        "HoldingAcquired",
        "OwnerLinkWithdrawing",
        "OwnerLinkWithdrawn",
    ];
    for step in steps {
        let mut command = fleet.home.command(&["run"]);
        kill_at(&mut command, step);
        let ours = Background::spawn(command);
        if step.starts_with("OwnerLinkWithdraw") {
            fleet.home.wait_until_watched_by(ours.pid());
            ours.signal(Signal::TERM);
        }
        assert_eq!(ours.finish(SOON).signal, Some(Signal::KILL.as_raw()), "{step}");
        let shell = fleet.shell_watcher();
        shell.signal(Signal::TERM);
        shell.finish(SOON);
        let next = fleet.home.watcher();
        assert_eq!(fleet.healthy(), Some(next.pid()), "{step}");
        next.signal(Signal::TERM);
        next.finish(SOON).expect_code(0);
    }
    Ok(())
}

fn a_waiting_arm_obtains_a_watcher_when_the_shell_watcher_ends_with_its_wake() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let shell = fleet.shell_watcher();
    let arm = fleet.home.spawn(&["arm"]);
    assert_eq!(arm.wait_for_line("watcher"), format!("watcher: healthy pid={} (beacon 0s)", shell.pid()));
    fs::write(fleet.home.state().join("FW_WAKE"), "heartbeat\n").unwrap();
    assert_eq!(shell.finish(SOON).expect_code(0).stdout, "heartbeat\n");
    wait_until_true(SOON, "ours watches", || fleet.home.pid().is_some_and(|pid| fleet.healthy() == Some(pid)));
    fleet.home.write_status("t", "x");
    let told = arm.finish(SOON).expect_code(0);
    assert!(told.stdout.ends_with("/t.status\n"), "{told:?}");
    Ok(())
}

/// How long a fight may take.
const SETTLES_WITHIN: Duration = Duration::from_secs(30);
/// How many of each kind fight for the home.
const OF_EACH_KIND: usize = 20;

/// Who begins. A shell takes longer for its first steps, so if all start together, ours is mostly faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Together,
    ShellFirst,
}

/// One round: all start at the same instant, over whatever the last one has left, until so many stay or time is up.
/// Gives those that stay.
fn fight(fleet: &Fleet, prepare: fn(&mut Command), order: Order, stay_at_most: usize) -> Vec<Background> {
    let (gate, later) = (Gate::new(), Gate::new());
    let mut contenders = Vec::new();
    for _ in 0..OF_EACH_KIND {
        let mut ours = fleet.home.command(&["run"]);
        prepare(&mut ours);
        contenders.push(if order == Order::Together { &gate } else { &later }.spawn(&fleet.home, &ours));
        contenders.push(gate.spawn(&fleet.home, &fleet.shell(&[])));
    }
    let before = fleet.traces().len();
    gate.open();
    if order == Order::ShellFirst {
        wait_until_true(SOON, "a shell has begun to take it", || fleet.traces().len() > before);
    }
    later.open();
    let mut stay = Vec::new();
    let alive = |all: &[Background]| all.iter().filter(|contender| processes::is_alive(contender.pid())).count();
    // One look in twenty milliseconds: forty contenders need the processors themselves.
    let _settled = fm_watch::base::wait_until::wait_until(SETTLES_WITHIN, Duration::from_millis(20), || {
        (alive(&contenders) <= stay_at_most).then_some(())
    });
    for mut contender in contenders {
        if contender.ended().is_none() {
            stay.push(contender);
            continue;
        }
        let pid = contender.pid();
        let left = contender.finish(SOON);
        assert!(
            left.code == Some(0) && left.stdout.starts_with("watcher: already running"),
            "one that held has left, pid {pid}: {left:?}"
        );
    }
    stay
}

fn of_40_contenders_half_of_them_shell_one_holds_each_time() -> Result<(), Skip> {
    let fleet = Fleet::new()?;
    let dead = fleet.shell_watcher();
    dead.signal(Signal::KILL);
    dead.finish(SOON);
    for order in [Order::Together, Order::ShellFirst, Order::Together, Order::ShellFirst] {
        let mut stay = fight(&fleet, |_| (), order, 1);
        assert_eq!(stay.len(), 1, "{order:?}");
        let holder = stay.remove(0);
        wait_until_true(SOON, "the one that stays is healthy", || fleet.healthy() == Some(holder.pid()));
        assert_eq!(fleet.home.verdict(), "ok");
        // What it leaves is the dead record of the next round.
        holder.signal(Signal::KILL);
        holder.finish(SOON);
    }
    Ok(())
}

/// The twin: without the scripts' lock, a shell watcher and one of ours stay.
#[cfg(feature = "sync-points")]
fn without_the_scripts_lock_40_contenders_make_two_holders() -> Result<(), Skip> {
    // One of ours that finds a shell watcher leaves all the same, so it must be faster once.
    for _ in 0..20 {
        let fleet = Fleet::new()?;
        let stay = fight(&fleet, |ours| without(ours, &["FirstmateClaim"]), Order::Together, 2);
        if stay.len() == 2 {
            return Ok(());
        }
    }
    panic!("one held each time");
}
