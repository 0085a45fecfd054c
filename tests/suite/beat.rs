//! The beat tells the truth: a loop that goes round is well, one that stands is stuck, and no clock, disk or stranger
//! changes that (group H of the faults).

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::support::background::wait_for_state;
use crate::support::home::{PROGRAM, finish};
use crate::support::namespace::Namespace;
#[cfg(feature = "sync-points")]
use crate::support::sync::{Points, kill_at};
use crate::support::{
    Background, SOON, Skip, TestHome, processes, requires, requires_root, stays_true, wait_until, wait_until_true,
};

cases! {
    a_stopped_watcher_is_stuck_after_its_bound_in_status_and_in_the_banner,
    a_stuck_watcher_is_not_doubled_while_it_lives,
    arm_cures_a_stuck_watcher,
    a_beat_that_somebody_else_writes_keeps_no_stopped_watcher_well,
    a_short_freeze_is_never_death,
    a_frozen_group_of_processes_is_never_dead_and_is_well_again_when_thawed,
    a_reader_whose_clock_is_years_off_sees_the_same,
    a_watcher_whose_clock_is_years_off_is_judged_the_same,
    a_reader_in_a_shifted_time_namespace_never_says_dead_or_stuck,
    a_full_disk_leaves_the_watcher_well_and_is_told,
    a_file_system_that_turns_read_only_leaves_the_watcher_well_and_is_told,
    a_removed_beat_is_written_again,
    a_link_in_the_place_of_the_beat_is_replaced_and_not_followed,
    a_fifo_in_the_place_of_the_beat_is_replaced_and_blocks_nobody,
    a_directory_in_the_place_of_the_beat_is_told_and_costs_nothing_else,
    a_beat_of_another_boot_is_no_beat,
    #[cfg(feature = "sync-points")]
    a_beat_of_the_last_generation_does_not_count_for_a_new_holder,
    a_loaded_machine_raises_no_false_alarm,
    #[cfg(feature = "sync-points")]
    a_slow_sync_does_not_stop_the_beat,
}

/// A bound that passes while a test waits, and is still far more than a loop needs on a busy machine.
const BOUND: &str = "stuck_after=2s";

fn is_watching(verdict: &str) -> bool {
    verdict == "ok" || verdict == "slow"
}

/// Stops a watcher and waits until it counts as stuck.
fn stuck_watcher(home: &TestHome) -> Background {
    let watcher = home.watcher();
    watcher.signal(Signal::STOP);
    wait_for_state(watcher.pid(), "T");
    home.wait_for_verdict("stuck");
    watcher
}

fn a_stopped_watcher_is_stuck_after_its_bound_in_status_and_in_the_banner() {
    let home = TestHome::with(&[BOUND]);
    home.meta("task", &["kind=worker"]);
    let watcher = home.watcher();
    home.ask(&["guard"]).expect_code(0);
    watcher.signal(Signal::STOP);
    wait_for_state(watcher.pid(), "T");
    // Before the bound it is late at most.
    let early = home.status();
    let age = early["beat_age_ms"].as_u64().unwrap();
    assert!(age >= 2000 || is_watching(early["verdict"].as_str().unwrap()), "{early}");
    home.wait_for_verdict("stuck");

    let status = home.ask(&["status"]).expect_code(4);
    let pid = watcher.pid().to_string();
    assert!(status.stdout.starts_with("stuck: ") && status.stdout.contains(&pid), "{status:?}");
    let guard = home.ask(&["guard"]).expect_code(0);
    assert_eq!(guard.stdout, "");
    assert!(guard.stderr.contains("WATCHER DOWN - SUPERVISION IS OFF"), "{guard:?}");
    let cause = format!("1 task(s) in flight, but watcher pid {pid} is stuck");
    assert!(guard.stderr.contains(&cause), "{guard:?}");

    watcher.signal(Signal::CONT);
    home.wait_for_verdict("ok");
    let guard = home.ask(&["guard"]).expect_code(0);
    assert_eq!((guard.stdout.as_str(), guard.stderr.as_str()), ("", ""), "all is well again");
}

fn a_stuck_watcher_is_not_doubled_while_it_lives() {
    let home = TestHome::with(&[BOUND]);
    let watcher = stuck_watcher(&home);
    let owner = home.owner();
    let others: Vec<_> = (0..8).map(|_| home.spawn(&["run"])).collect();
    for other in others {
        let answer = other.finish(SOON).expect_code(1);
        assert!(answer.stderr.contains(&watcher.pid().to_string()), "the error names the holder: {answer:?}");
    }
    assert_eq!(home.owner(), owner, "nobody took the home over");
    assert!(processes::is_alive(watcher.pid()), "nobody killed it");
    watcher.signal(Signal::CONT);
    home.wait_until_watched_by(watcher.pid());
    home.wait_for_verdict("ok");
}

fn arm_cures_a_stuck_watcher() {
    let home = TestHome::with(&[BOUND, "stop_grace=200ms"]);
    let old = stuck_watcher(&home);
    let answer = home.ask(&["arm", "--no-wait"]).expect_code(0);
    let line = answer.lines().first().copied().unwrap_or_default().to_owned();
    assert!(line.starts_with("watcher: started pid=") && line.ends_with(" (beacon fresh)"), "{answer:?}");
    assert!(answer.stderr.contains(&old.pid().to_string()), "it says whom it replaced: {answer:?}");
    let new = home.pid().unwrap();
    assert_ne!(new, old.pid());
    let end = old.finish(SOON);
    assert_eq!(end.signal, Some(9), "a stopped process cannot leave on being asked: {end:?}");
    assert_eq!(home.verdict(), "ok");
    home.kill(new);
}

/// H11: only the holder's own nonce and generation make a beat.
fn a_beat_that_somebody_else_writes_keeps_no_stopped_watcher_well() {
    let home = TestHome::with(&[BOUND]);
    let watcher = stuck_watcher(&home);
    let beat = home.beat().unwrap();
    let monotonic = u64::try_from(fm_watch::system::platform::monotonic().as_millis()).unwrap() + 500;
    let mut forgeries = vec![json!({"schema": 1})];
    for (field, value) in [("nonce", json!("00000000000000000000000000000000")), ("generation", json!(1_000_000))] {
        let mut forged = beat.clone();
        forged[field] = value;
        forged["monotonic_ms"] = json!(monotonic);
        forged["counter"] = json!(beat["counter"].as_u64().unwrap() + 1);
        forgeries.push(forged);
    }
    // First the plain touch, as a script does it.
    let file = fs::File::open(home.watch("beat.json")).unwrap();
    file.set_modified(std::time::SystemTime::now()).unwrap();
    assert_eq!(home.verdict(), "stuck", "a newer time stamp is no beat");
    for forged in forgeries {
        fs::write(home.watch("beat.json"), forged.to_string()).unwrap();
        assert_eq!(home.verdict(), "stuck", "{forged}");
    }
    watcher.signal(Signal::CONT);
    home.wait_for_verdict("ok");
    wait_until(SOON, "the holder's own beat is back", || home.beat().filter(|now| now["nonce"] == beat["nonce"]));
}

/// H02, on one process: a freeze within the bound.
fn a_short_freeze_is_never_death() {
    let home = TestHome::with(&["stuck_after=30s"]);
    let watcher = home.watcher();
    for _ in 0..5 {
        watcher.signal(Signal::STOP);
        wait_for_state(watcher.pid(), "T");
        let frozen = home.verdict();
        watcher.signal(Signal::CONT);
        let thawed = home.verdict();
        assert!(is_watching(&frozen) && is_watching(&thawed), "{frozen}, then {thawed}");
    }
    home.wait_for_verdict("ok");
}

/// A cgroup whose processes can be frozen together, as a suspended machine is.
struct Freezer {
    state: std::path::PathBuf,
    directory: std::path::PathBuf,
}

impl Freezer {
    fn new(home: &TestHome) -> Result<Self, Skip> {
        requires_root()?;
        let name = home.scratch().file_name().unwrap();
        let first = std::path::Path::new("/sys/fs/cgroup/freezer");
        let (root, state) =
            if first.is_dir() { (first, "freezer.state") } else { (first.parent().unwrap(), "cgroup.freeze") };
        let directory = root.join(name);
        let refused = |error| Skip(format!("no cgroup can be made in {}: {error}", root.display()));
        fs::create_dir(&directory).map_err(refused)?;
        let freezer = Self { state: directory.join(state), directory };
        if freezer.state.exists() { Ok(freezer) } else { Err(Skip("no cgroup can be frozen here".to_owned())) }
    }

    fn add(&self, pid: u32) {
        fs::write(self.directory.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    fn freeze(&self) {
        self.set("FROZEN", "1");
        let status = self.directory.join("cgroup.events");
        wait_until_true(SOON, "the group is frozen", || match fs::read_to_string(&status) {
            Ok(events) => events.contains("frozen 1"),
            Err(_) => fs::read_to_string(&self.state).unwrap().trim() == "FROZEN",
        });
    }

    fn thaw(&self) {
        self.set("THAWED", "0");
    }

    fn set(&self, first: &str, second: &str) {
        let word = if self.state.ends_with("freezer.state") { first } else { second };
        fs::write(&self.state, word).unwrap();
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        // A frozen process could not even be killed.
        if self.state.exists() {
            self.thaw();
        }
        let removed = || fs::remove_dir(&self.directory).ok();
        let gone = fm_watch::base::wait_until::wait_until(SOON, Duration::from_millis(10), removed);
        assert!(gone.is_some() || std::thread::panicking(), "{} is still in use", self.directory.display());
    }
}

/// H02, L17: the watcher sleeps uninterruptibly, as in a suspended machine.
fn a_frozen_group_of_processes_is_never_dead_and_is_well_again_when_thawed() -> Result<(), Skip> {
    let home = TestHome::with(&[BOUND]);
    let freezer = Freezer::new(&home)?;
    let watcher = home.watcher();
    freezer.add(watcher.pid());
    freezer.freeze();
    let mut words = Vec::new();
    wait_until_true(SOON, "the frozen watcher is over its bound", || {
        words.push(home.verdict());
        words.last().is_some_and(|word| word == "stuck")
    });
    freezer.thaw();
    wait_until_true(SOON, "the thawed watcher is well", || {
        words.push(home.verdict());
        words.last().is_some_and(|word| word == "ok")
    });
    assert!(words.iter().all(|word| word != "dead" && word != "stopped" && word != "unknown"), "{words:?}");
    assert_eq!(home.pid(), Some(watcher.pid()), "nobody replaced it");
    drop(watcher);
    Ok(())
}

/// What makes a program see a shifted wall clock, while its monotonic clock and time stamps are left alone.
struct Faketime {
    library: String,
}

impl Faketime {
    /// Makes sure that clocks can be shifted here at all.
    fn required(home: &TestHome) -> Result<Self, Skip> {
        requires("faketime")?;
        let mut probe = home.bare("faketime");
        probe.args(["-f", "+400d", "env"]);
        let answer = finish(probe);
        let library = answer.lines().iter().find_map(|line| line.strip_prefix("LD_PRELOAD=")).map(str::to_owned);
        let faketime = Self { library: library.ok_or_else(|| Skip("faketime preloads nothing here".to_owned()))? };
        let year = |mut command: Command| {
            command.arg("+%Y");
            finish(command).stdout.trim().parse::<i32>().ok()
        };
        let mut shifted = home.bare("date");
        faketime.shift(&mut shifted, "+400d");
        if year(shifted) > year(home.bare("date")) {
            Ok(faketime)
        } else {
            Err(Skip("faketime does not work here".to_owned()))
        }
    }

    fn shift(&self, command: &mut Command, by: &str) {
        command.env("LD_PRELOAD", &self.library).env("FAKETIME", by);
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("NO_FAKE_STAT", "1");
    }

    fn command(&self, home: &TestHome, by: &str, arguments: &[&str]) -> Command {
        let mut command = home.command(arguments);
        self.shift(&mut command, by);
        command
    }
}

const SHIFTS: [&str; 2] = ["+400d", "-10y"];

/// H03: the reader's clock.
fn a_reader_whose_clock_is_years_off_sees_the_same() -> Result<(), Skip> {
    let home = TestHome::with(&[BOUND]);
    let faketime = Faketime::required(&home)?;
    let watcher = home.watcher();
    for shift in SHIFTS {
        let status = finish(faketime.command(&home, shift, &["status", "--json"])).expect_code(0).json();
        assert!(is_watching(status["verdict"].as_str().unwrap()), "{shift}: {status}");
        assert!(status["beat_age_ms"].as_u64().unwrap() < 2000, "{shift}: {status}");
    }
    watcher.signal(Signal::STOP);
    home.wait_for_verdict("stuck");
    for shift in SHIFTS {
        let status = finish(faketime.command(&home, shift, &["status", "--json"])).expect_code(4).json();
        assert_eq!(status["verdict"], "stuck", "{shift}: {status}");
    }
    Ok(())
}

/// H03, P23: the watcher's clock.
fn a_watcher_whose_clock_is_years_off_is_judged_the_same() -> Result<(), Skip> {
    for shift in SHIFTS {
        let home = TestHome::with(&[BOUND]);
        let faketime = Faketime::required(&home)?;
        let watcher = Background::spawn(faketime.command(&home, shift, &["run"]));
        home.wait_until_watched_by(watcher.pid());
        let off = home.beat().unwrap()["at"].as_i64().unwrap() - now_ms();
        assert!(off.abs() > 300 * 86_400_000, "the watcher's own clock is off by only {off} ms");
        let status = home.status();
        assert!(is_watching(status["verdict"].as_str().unwrap()), "{shift}: {status}");
        assert_eq!(status["identity"], "same", "{shift}: {status}");
        watcher.signal(Signal::STOP);
        home.wait_for_verdict("stuck");
        watcher.signal(Signal::CONT);
        home.wait_for_verdict("ok");
        // What it announces is still new to it, once.
        home.write_status("task", "done\n");
        home.wait_for_wake("signal", "task.status");
        assert_eq!(home.pending_keys(), ["task.status"]);
        watcher.signal(Signal::TERM);
        assert_eq!(watcher.finish(SOON).code, Some(0), "{shift}");
    }
    Ok(())
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// H02: a reader whose monotonic clock is shifted cannot compare ages, so it must not conclude anything from them.
fn a_reader_in_a_shifted_time_namespace_never_says_dead_or_stuck() -> Result<(), Skip> {
    requires("unshare")?;
    requires_root()?;
    let home = TestHome::with(&[BOUND]);
    let watcher = home.watcher();
    for shift in ["--monotonic=100000", "--monotonic=-10"] {
        let mut command = home.bare("unshare");
        command.args(["--time", shift, "--fork", *PROGRAM]).args(home.flags()).args(["status", "--json"]);
        let answer = finish(command);
        if answer.stdout.is_empty() && answer.stderr.contains("unshare") {
            return Err(Skip(format!("no time namespace can be had here: {}", answer.stderr.trim())));
        }
        let status = answer.json();
        let verdict = status["verdict"].as_str().unwrap();
        assert!(is_watching(verdict) || verdict == "unknown", "{shift}: {status}");
    }
    assert!(processes::is_alive(watcher.pid()));
    Ok(())
}

/// H06: no room for `beat.json`. The lock and the beat in the kernel still prove life and health.
fn a_full_disk_leaves_the_watcher_well_and_is_told() -> Result<(), Skip> {
    let home = TestHome::new();
    home.make_state();
    Namespace::Mounts.required(&home)?;
    finish(Namespace::Mounts.script(
        &home,
        r#"
        mount -t tmpfs -o size=256k,mode=700 tmpfs "$STATE"
        "${program[@]}" run & watcher=$!
        trap 'kill $watcher && wait $watcher' EXIT
        says() { fm status --json | grep -q "$1"; }
        wait_for says '"verdict":"ok"'
        dd if=/dev/zero of="$STATE/filler" bs=4k 2>/dev/null || :
        wait_for says 'cannot write beacon'
        for look in 1 2 3 4 5; do
            says '"verdict":"\(ok\|slow\)"'
        done
        kill -0 $watcher
        rm "$STATE/filler"
        works_again() { ! says 'cannot write beacon'; }
        wait_for works_again
        echo done > "$STATE/task.status"
        told() { fm drain | grep -q 'task.status'; }
        wait_for told
        says '"verdict":"\(ok\|slow\)"'
        "#,
    ))
    .expect_code(0);
    Ok(())
}

/// H06, W13: a file system that the kernel turns read-only after an error, while the watcher has files open in it.
fn a_file_system_that_turns_read_only_leaves_the_watcher_well_and_is_told() -> Result<(), Skip> {
    let home = TestHome::new();
    home.make_state();
    Namespace::Mounts.required(&home)?;
    requires("mkfs.ext4")?;
    let answer = finish(Namespace::Mounts.script(
        &home,
        r#"
        truncate -s 8M "$SCRATCH/disk"
        mkfs.ext4 -q -m 0 "$SCRATCH/disk"
        mount -o loop,errors=remount-ro "$SCRATCH/disk" "$STATE" || { echo 'no loop device'; exit 77; }
        trap 'umount -l "$STATE"' EXIT
        chmod 700 "$STATE"
        device=$(basename "$(findmnt -no SOURCE "$STATE")")
        trigger=/sys/fs/ext4/$device/trigger_fs_error
        [ -e $trigger ] || { echo 'this kernel raises no file system errors on request'; exit 77; }
        "${program[@]}" run & watcher=$!
        trap 'kill $watcher && wait $watcher; umount -l "$STATE"' EXIT
        says() { fm status --json | grep -q "$1"; }
        wait_for says '"verdict":"ok"'
        echo test > $trigger
        ! touch "$STATE/written" 2>/dev/null
        wait_for says 'cannot write beacon'
        # Time that the watcher costs while nothing can be written, in clock ticks.
        cost() { local stat; stat=$(< /proc/$watcher/stat); set -- ${stat##*) }; echo $((${12} + ${13})); }
        before=$(cost)
        for look in 1 2 3 4 5 6 7 8 9 10; do
            says '"verdict":"\(ok\|slow\)"'
            read -rt 0.1 <> <(:) || :
        done
        after=$(cost)
        echo "cost $((after - before)) ticks in a second"
        [ $((after - before)) -lt 50 ]
        kill -0 $watcher
        "#,
    ));
    if answer.code == Some(77) {
        return Err(Skip(answer.stdout.trim().to_owned()));
    }
    answer.expect_code(0);
    Ok(())
}

/// Waits for a beat that is newer than this one.
fn wait_for_newer_beat(home: &TestHome, than: u64) {
    wait_until(SOON, "a newer beat is written", || home.beat().filter(|beat| beat["counter"].as_u64() > Some(than)));
}

fn counter(home: &TestHome) -> u64 {
    home.beat().unwrap()["counter"].as_u64().unwrap()
}

fn a_removed_beat_is_written_again() {
    let home = TestHome::new();
    let watcher = home.watcher();
    for _ in 0..3 {
        let before = counter(&home);
        fs::remove_file(home.watch("beat.json")).unwrap();
        let verdict = home.verdict();
        assert!(is_watching(&verdict), "the kernel still has the beat, yet it is {verdict}");
        wait_for_newer_beat(&home, before);
    }
    assert_eq!(home.pid(), Some(watcher.pid()));
}

fn a_link_in_the_place_of_the_beat_is_replaced_and_not_followed() {
    let home = TestHome::new();
    let victim = home.scratch().join("victim");
    fs::write(&victim, "precious").unwrap();
    let facts = fs::metadata(&victim).unwrap();
    let _watcher = home.watcher();
    let before = counter(&home);
    let link = home.scratch().join("link");
    std::os::unix::fs::symlink(&victim, &link).unwrap();
    fs::rename(&link, home.watch("beat.json")).unwrap();
    wait_for_newer_beat(&home, before);
    wait_until_true(SOON, "the link is replaced", || {
        fs::symlink_metadata(home.watch("beat.json")).is_ok_and(|facts| facts.is_file())
    });
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    let now = fs::metadata(&victim).unwrap();
    assert_eq!(
        (now.ino(), now.mode(), now.mtime_nsec(), now.ctime_nsec()),
        (facts.ino(), facts.mode(), facts.mtime_nsec(), facts.ctime_nsec())
    );
}

fn a_fifo_in_the_place_of_the_beat_is_replaced_and_blocks_nobody() {
    let home = TestHome::new();
    let watcher = home.watcher();
    let fifo = home.scratch().join("fifo");
    make_fifo(&fifo);
    let before = counter(&home);
    watcher.signal(Signal::STOP);
    wait_for_state(watcher.pid(), "T");
    fs::rename(&fifo, home.watch("beat.json")).unwrap();
    let answer = home.ask(&["status", "--json"]);
    assert!(answer.took < Duration::from_secs(5), "a reader must not wait for a writer: {answer:?}");
    watcher.signal(Signal::CONT);
    wait_until_true(SOON, "the FIFO is replaced", || {
        fs::symlink_metadata(home.watch("beat.json")).is_ok_and(|facts| !facts.file_type().is_fifo())
    });
    wait_for_newer_beat(&home, before);
    home.wait_for_verdict("ok");
}

fn make_fifo(path: &std::path::Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
}

fn a_directory_in_the_place_of_the_beat_is_told_and_costs_nothing_else() {
    let home = TestHome::new();
    let watcher = home.watcher();
    let path = home.watch("beat.json");
    wait_until(SOON, "a directory is in the place of the beat", || {
        fs::remove_file(&path).ok();
        fs::create_dir(&path).ok()
    });
    fs::write(path.join("precious"), "stays").unwrap();
    wait_until_true(SOON, "status tells it", || home.status()["degraded"].to_string().contains("cannot write beacon"));
    stays_true(Duration::from_secs(1), "it is well", || is_watching(&home.verdict()));
    home.write_status("task", "done\n");
    home.wait_for_wake("signal", "task.status");
    assert_eq!(fs::read_to_string(path.join("precious")).unwrap(), "stays");

    fs::remove_file(path.join("precious")).unwrap();
    fs::remove_dir(&path).unwrap();
    wait_until_true(SOON, "the beat is back and nothing is degraded", || {
        home.beat().is_some() && home.status()["degraded"] == json!([])
    });
    assert_eq!(home.pid(), Some(watcher.pid()));
}

/// H08: the machine was restarted since.
fn a_beat_of_another_boot_is_no_beat() -> Result<(), Skip> {
    let home = TestHome::new();
    Namespace::Mounts.required(&home)?;
    let watcher = home.watcher();
    watcher.signal(Signal::KILL);
    watcher.finish(SOON);
    home.wait_for_verdict("dead");
    let script = r#"
        echo 01234567-89ab-cdef-0123-456789abcdef > "$SCRATCH/boot_id"
        mount --bind "$SCRATCH/boot_id" /proc/sys/kernel/random/boot_id
        fm status --json || [ $? -eq 3 ]
        "#;
    let status = finish(Namespace::Mounts.script(&home, script)).expect_code(0).json();
    assert_eq!((&status["verdict"], &status["beat_age_ms"]), (&json!("dead"), &json!(null)), "{status}");
    assert!(status["cause"].as_str().unwrap().contains("the machine was restarted"), "{status}");
    Ok(())
}

/// H09: the new holder is judged from its own start, whatever beat it found.
#[cfg(feature = "sync-points")]
fn a_beat_of_the_last_generation_does_not_count_for_a_new_holder() {
    let home = TestHome::with(&[BOUND]);
    // The old one stopped beating long enough ago to be over the bound.
    let old = stuck_watcher(&home);
    let old_beat = home.beat().unwrap();
    old.signal(Signal::KILL);
    old.finish(SOON);
    let points = Points::new(&home, "new");
    let mut command = home.command(&["run"]);
    points.pause(&mut command, &["HoldingAcquired"]);
    let new = Background::spawn(command);
    points.wait_until_reached("HoldingAcquired");
    assert_eq!(home.beat().unwrap(), old_beat);
    let status = home.status();
    let expected = (json!("starting"), json!(new.pid()), json!(null));
    assert_eq!((status["verdict"].clone(), status["pid"].clone(), status["beat_age_ms"].clone()), expected, "{status}");
    points.go("HoldingAcquired");
    home.wait_until_watched_by(new.pid());
    assert!(home.beat().unwrap()["generation"].as_u64() > old_beat["generation"].as_u64());
    drop(new);

    // And one that is killed before its first beat did not inherit the fresh one either.
    let fresh = home.watcher();
    fresh.signal(Signal::KILL);
    fresh.finish(SOON);
    let mut command = home.command(&["run"]);
    kill_at(&mut command, "HoldingAcquired");
    assert_eq!(finish(command).signal, Some(9));
    let status = home.status();
    assert_eq!((&status["verdict"], &status["beat_age_ms"]), (&json!("dead"), &json!(null)), "{status}");
}

/// H10: many busy threads on few processors.
fn a_loaded_machine_raises_no_false_alarm() {
    const SPINNERS: usize = 24;
    let home = TestHome::with(&["poll=1s", "stuck_after=3s"]);
    let watcher = home.watcher();
    let is_over = Arc::new(AtomicBool::new(false));
    let spinners: Vec<_> = (0..SPINNERS)
        .map(|_| {
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    let alarm = fm_watch::base::wait_until::wait_until(Duration::from_secs(4), Duration::from_millis(100), || {
        Some(home.status()).filter(|status| !is_watching(status["verdict"].as_str().unwrap()))
    });
    is_over.store(true, Ordering::Relaxed);
    for spinner in spinners {
        spinner.join().unwrap();
    }
    assert_eq!(alarm, None, "the watcher was well all the time");
    assert_eq!(home.pid(), Some(watcher.pid()));
}

/// H12: a disk that takes its time delays what is written, never the loop.
#[cfg(feature = "sync-points")]
fn a_slow_sync_does_not_stop_the_beat() {
    let home = TestHome::with(&[BOUND]);
    let points = Points::new(&home, "slow");
    let mut command = home.command(&["run"]);
    points.pause(&mut command, &["JournalSync"]);
    let watcher = Background::spawn(command);
    home.wait_until_watched_by(watcher.pid());
    home.write_status("task", "done\n");
    points.wait_until_reached("JournalSync");
    let before = counter(&home);
    // Well over the bound.
    stays_true(Duration::from_secs(4), "it is watching", || is_watching(&home.verdict()));
    wait_for_newer_beat(&home, before);
    points.go("JournalSync");
    home.wait_for_wake("signal", "task.status");
}
