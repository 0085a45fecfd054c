//! Pid files as locks: foreign ones, dead ones, half made ones, and who takes over what.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use fm_watch::base::error::{Error, Result};
use fm_watch::system::identity::{Difference, Sameness};
use fm_watch::lock::pidfile::record::{self, Record};
use fm_watch::lock::pidfile::{PidfileGuard, PidfileLock};
use fm_watch::lock::{Attempt, Guard, Holder, Lock, Loss, Ownership};
use fm_watch::system::{Kind, Real, World};
use rustix::process::Signal;

use crate::support::background::wait_for_state;
use crate::support::contest::{self, attempt_together, busy, contend, fresh_directory, names_in, taken};
use crate::support::rigged::Rigged;
use crate::support::{Background, SOON, Skip, TestHome, requires, role, wait_until_true};

cases! {
    of_many_contenders_one_holds_at_a_time,
    of_many_processes_that_are_killed_at_random_one_holds_at_a_time,
    a_stale_file_is_taken_over_by_exactly_one_of_many,
    other_programs_find_the_bare_pid_in_the_first_line,
    a_foreign_file_of_a_live_process_is_held,
    a_foreign_file_of_a_dead_process_is_taken_over,
    a_number_without_a_line_end_is_taken_over_only_after_it_was_still,
    what_names_no_process_is_held_for_ever_and_left_alone,
    what_is_no_regular_file_is_an_error_and_left_alone,
    what_cannot_be_read_is_an_error_and_left_alone,
    a_huge_sparse_file_is_held_and_left_alone,
    a_holder_that_waits_to_be_reaped_is_dead,
    a_killed_holder_is_followed_at_once,
    a_stopped_holder_is_held,
    a_record_of_an_earlier_boot_is_taken_over,
    a_record_of_another_pid_namespace_is_held,
    a_reused_pid_does_not_hold,
    without_identity_a_reused_pid_holds_for_ever,
    a_death_at_any_step_leaves_a_file_that_the_next_can_take,
    a_death_at_any_step_of_a_takeover_leaves_a_file_that_the_next_can_take,
    a_death_at_any_step_of_a_release_leaves_a_file_that_the_next_can_take,
    a_death_between_making_and_naming_leaves_nothing_in_the_way,
    without_completeness_before_the_name_a_death_blocks_for_ever,
    a_file_that_another_program_replaces_during_a_takeover_is_put_back,
    without_the_inode_check_the_file_of_a_live_program_is_lost,
    a_file_that_another_program_rewrites_during_a_takeover_is_put_back,
    what_a_dead_taker_could_not_put_back_is_put_back_by_the_next,
    of_two_takers_of_one_stale_file_the_second_waits,
    without_the_lock_of_the_stale_file_a_holder_loses_its_name_for_a_moment,
    without_the_lock_and_the_inode_check_two_hold,
    a_dead_file_that_a_live_program_has_locked_is_held,
    a_guard_of_a_child_that_has_ended_is_not_robbed,
    a_file_that_was_replaced_is_left_at_release,
    without_the_own_inode_at_release_the_file_of_another_is_removed,
    a_forked_copy_of_a_guard_releases_nothing,
    without_the_maker_a_forked_copy_releases_the_lock_of_its_parent,
    a_removed_replaced_or_overwritten_file_is_noticed,
    without_exchange_a_stale_file_is_held_and_left_alone,
    leftovers_of_the_dead_are_removed_at_the_next_takeover,
    a_released_lock_leaves_nothing,
    a_process_that_has_ended_cannot_be_recorded,
}

fn lock_at<W: World>(world: &Arc<W>, path: &Path) -> PidfileLock<W> {
    PidfileLock::at(world, path).unwrap()
}

#[track_caller]
fn take(path: &Path) -> PidfileGuard<Real> {
    contest::take(lock_at(&Arc::new(Real), path))
}

#[track_caller]
fn find_busy(path: &Path) -> Holder {
    busy(lock_at(&Arc::new(Real), path).try_acquire())
}

/// A process of this test that does nothing.
struct Idler(Child);

impl Idler {
    fn new() -> Self {
        Self(Command::new("sleep").arg("1000").spawn().unwrap())
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Kills it and leaves it unreaped.
    fn become_a_zombie(&mut self) {
        self.0.kill().unwrap();
        wait_for_state(self.pid(), "Z");
    }

    /// Kills and reaps it. Says which pid it had.
    fn end(mut self) -> u32 {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        self.pid()
    }
}

impl Drop for Idler {
    fn drop(&mut self) {
        // It may have been reaped already.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// The pid of a process that has ended just now.
fn dead_pid() -> u32 {
    Idler::new().end()
}

/// Makes the file of a holder that has died: complete, of a process that is gone, locked by nobody.
fn leave_stale_record(path: &Path) -> Vec<u8> {
    let holder = Idler::new();
    let alive = Arc::new(Rigged::new());
    let guard = taken(lock_at(&alive, path).for_process(holder.pid()).unwrap().try_acquire());
    let record = fs::read(path).unwrap();
    drop(guard);
    holder.end();
    fs::write(path, &record).unwrap();
    record
}

/// Everything that can be seen of a file without following a link.
fn trace(path: &Path) -> (u64, u32, u64, i64, i64, Option<Vec<u8>>) {
    let facts = fs::symlink_metadata(path).unwrap();
    let content = facts.is_file().then(|| if facts.len() < 10_000 { fs::read(path).unwrap() } else { Vec::new() });
    (facts.ino(), facts.mode(), facts.len(), facts.mtime_nsec(), facts.ctime_nsec(), content)
}

/// A directory that holds nothing but the lock.
fn fresh(home: &TestHome, name: &str) -> PathBuf {
    fresh_directory(home, name).join("daemon.pid")
}

fn of_many_contenders_one_holds_at_a_time() {
    let home = TestHome::plain();
    let path = fresh(&home, "many");
    contend(8, 25, || lock_at(&Arc::new(Real), &path));
    assert_eq!(names_in(path.parent().unwrap()), [""; 0]);
}

fn of_many_processes_that_are_killed_at_random_one_holds_at_a_time() {
    let home = TestHome::plain();
    let path = fresh(&home, "killed");
    let holds = role::contend_under_kills(&home, "pidfile", &path, 100);
    assert!(holds > 100, "{holds} holds");
    take(&path).release().unwrap();
}

fn a_stale_file_is_taken_over_by_exactly_one_of_many() {
    let home = TestHome::plain();
    for round in 0..20 {
        let path = fresh(&home, &format!("stale-{round}"));
        leave_stale_record(&path);
        let answers = attempt_together(8, || lock_at(&Arc::new(Real), &path));
        let guards: Vec<_> = answers.iter().filter(|answer| matches!(answer, Attempt::Taken(_))).collect();
        assert!(guards.len() <= 1, "{guards:?}");
        // Whoever was told that it is busy was told so because of a taker, who may have given up for another.
        drop(answers);
        let guard = take(&path);
        assert_eq!(guard.check().unwrap(), Ownership::Held);
        assert_eq!(names_in(path.parent().unwrap()), ["daemon.pid"]);
    }
}

fn other_programs_find_the_bare_pid_in_the_first_line() -> Result<(), Skip> {
    requires("python3")?;
    let home = TestHome::plain();
    let path = fresh(&home, "read");
    let _guard = take(&path);
    let mut script = home.bare("python3");
    script.args(["-c", "import sys; print(int(open(sys.argv[1]).readline()))"]).arg(&path);
    let answer = Background::spawn(script).finish(SOON).expect_code(0);
    assert_eq!(answer.stdout.trim(), std::process::id().to_string());
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    assert!(matches!(record::parse(&fs::read(&path).unwrap()), Record::Ours(_)));
    Ok(())
}

fn a_foreign_file_of_a_live_process_is_held() {
    let home = TestHome::plain();
    let path = fresh(&home, "live");
    let holder = Idler::new();
    let pid = holder.pid();
    for content in [format!("{pid}\n"), format!("{pid}"), format!("  {pid}\t\r\n"), format!("{pid}\n/var/lib\n5432\n")] {
        fs::write(&path, &content).unwrap();
        let before = trace(&path);
        let told = find_busy(&path);
        assert_eq!(told.pid, Some(pid), "{content:?}");
        assert!(matches!(told.identity, Sameness::Unknown(_)), "{told:?}");
        assert!(told.remedy.unwrap().contains(path.to_str().unwrap()));
        assert_eq!(trace(&path), before);
    }
    fs::write(&path, "1\n").unwrap();
    assert_eq!(find_busy(&path).pid, Some(1));
}

fn a_foreign_file_of_a_dead_process_is_taken_over() {
    let home = TestHome::plain();
    let path = fresh(&home, "dead");
    let pid = dead_pid();
    for content in [format!("{pid}\n"), format!(" {pid} \n"), format!("{pid}\r\n"), format!("{pid}\nmore\n")] {
        fs::write(&path, &content).unwrap();
        let guard = take(&path);
        assert_eq!(guard.check().unwrap(), Ownership::Held);
        assert!(matches!(record::parse(&fs::read(&path).unwrap()), Record::Ours(_)));
        guard.release().unwrap();
        assert_eq!(names_in(path.parent().unwrap()), [""; 0]);
    }
    // No process can have such a number.
    fs::write(&path, "2147483647\n").unwrap();
    take(&path).release().unwrap();
}

fn a_number_without_a_line_end_is_taken_over_only_after_it_was_still() {
    let home = TestHome::plain();
    let path = fresh(&home, "open");
    fs::write(&path, dead_pid().to_string()).unwrap();
    let world = Rigged::new().ready();
    let mut lock = lock_at(&world, &path);
    let told = busy(lock.try_acquire());
    assert!(told.remedy.unwrap().contains("wait"), "it says how long it takes");
    // The test's own time counts as well.
    world.let_pass(Duration::from_secs(1));
    busy(lock.try_acquire());
    // It changes, so all begins anew.
    fs::write(&path, dead_pid().to_string()).unwrap();
    world.let_pass(Duration::from_secs(2));
    busy(lock.try_acquire());
    world.let_pass(Duration::from_secs(2));
    taken(lock.try_acquire()).release().unwrap();
}

fn what_names_no_process_is_held_for_ever_and_left_alone() {
    let home = TestHome::plain();
    let path = fresh(&home, "odd");
    let odd: [&[u8]; 9] = [b"", b"\n", b"0\n", b"-1\n", b"2147483648\n", b"12 words\n", b"words\n", b"\0\0\0", b"\xFF\n"];
    for content in odd {
        fs::write(&path, content).unwrap();
        let before = trace(&path);
        let world = Rigged::new().ready();
        let mut lock = lock_at(&world, &path);
        for _ in 0..3 {
            let told = busy(lock.try_acquire());
            assert_eq!(told.pid, None, "{}", content.escape_ascii());
            assert!(told.remedy.unwrap().contains("remove"), "{}", content.escape_ascii());
            world.let_pass(Duration::from_secs(100));
        }
        assert_eq!(trace(&path), before);
    }
}

fn what_is_no_regular_file_is_an_error_and_left_alone() {
    let home = TestHome::plain();
    let path = fresh(&home, "things");
    let victim = home.scratch().join("victim");
    fs::write(&victim, format!("{}\n", dead_pid())).unwrap();
    let victim_before = trace(&victim);
    let make: [(&str, &dyn Fn()); 6] = [
        ("symbolic link", &|| symlink(&victim, &path).unwrap()),
        ("symbolic link", &|| symlink(home.scratch().join("nowhere"), &path).unwrap()),
        ("FIFO", &|| rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap()),
        ("directory", &|| fs::create_dir(&path).unwrap()),
        ("socket", &|| drop(UnixListener::bind(&path).unwrap())),
        ("device", &|| {
            let null = rustix::fs::makedev(1, 3);
            let made =
                rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::CharacterDevice, 0o600.into(), null);
            // Without the privilege a link to nothing stands in for it.
            if made.is_err() {
                symlink("/dev/null", &path).unwrap();
            }
        }),
    ];
    for (what, make) in make {
        make();
        let before = trace(&path);
        let error = lock_at(&Arc::new(Real), &path).try_acquire().unwrap_err().to_string();
        let is_device = fs::symlink_metadata(&path).unwrap().file_type().is_char_device();
        let expected = if what == "device" && !is_device { "symbolic link" } else { what };
        assert!(error.contains(expected) && error.contains(path.to_str().unwrap()), "{what}: {error}");
        assert_eq!(trace(&path), before, "{what}");
        assert_eq!(trace(&victim), victim_before, "{what}");
        assert_eq!(names_in(path.parent().unwrap()), ["daemon.pid"], "{what}");
        if path.is_dir() && !path.is_symlink() { fs::remove_dir(&path).unwrap() } else { fs::remove_file(&path).unwrap() }
    }
}

fn what_cannot_be_read_is_an_error_and_left_alone() {
    let home = TestHome::plain();
    let path = fresh(&home, "unreadable");
    fs::write(&path, format!("{}\n", dead_pid())).unwrap();
    let before = trace(&path);
    let world = Rigged::new().refusing("open", 13).ready();
    let error = lock_at(&world, &path).try_acquire().unwrap_err().to_string();
    assert!(error.contains("ermission denied") && error.contains(path.to_str().unwrap()), "{error}");
    assert_eq!(trace(&path), before);
}

fn a_huge_sparse_file_is_held_and_left_alone() {
    let home = TestHome::plain();
    let path = fresh(&home, "huge");
    fs::write(&path, format!("{}\n", dead_pid())).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 30).unwrap();
    let before = trace(&path);
    let told = find_busy(&path);
    assert!(told.to_string().contains("too long"), "{told}");
    assert_eq!(trace(&path), before);
}

fn a_holder_that_waits_to_be_reaped_is_dead() {
    let home = TestHome::plain();
    let path = fresh(&home, "zombie");
    let mut holder = Idler::new();
    let guard = taken(lock_at(&Arc::new(Real), &path).for_process(holder.pid()).unwrap().try_acquire());
    let record = fs::read(&path).unwrap();
    drop(guard);
    let bare = format!("{}\n", holder.pid()).into_bytes();
    for content in [&record, &bare] {
        fs::write(&path, content).unwrap();
        assert_eq!(find_busy(&path).pid, Some(holder.pid()));
    }
    holder.become_a_zombie();
    for content in [&record, &bare] {
        fs::write(&path, content).unwrap();
        take(&path).release().unwrap();
    }
}

fn a_killed_holder_is_followed_at_once() {
    let home = TestHome::plain();
    let path = fresh(&home, "killed");
    let holder = role::holder(&home, "pidfile", &path);
    let told = find_busy(&path);
    assert_eq!(told.pid, Some(holder.pid()));
    assert!(matches!(told.identity, Sameness::Same(_)), "{told:?}");
    holder.signal(Signal::KILL);
    wait_for_state(holder.pid(), "Z");
    let guard = take(&path);
    assert_eq!(guard.check().unwrap(), Ownership::Held);
    assert_eq!(names_in(path.parent().unwrap()), ["daemon.pid"]);
}

fn a_stopped_holder_is_held() {
    let home = TestHome::plain();
    let path = fresh(&home, "stopped");
    let holder = role::holder(&home, "pidfile", &path);
    holder.signal(Signal::STOP);
    wait_for_state(holder.pid(), "T");
    let told = find_busy(&path);
    assert_eq!(told.pid, Some(holder.pid()));
    holder.signal(Signal::CONT);
}

/// Writes our own live record with one line changed.
fn forge(path: &Path, change: impl Fn(&str) -> Option<String>) {
    let guard = take(path);
    let text = fs::read_to_string(path).unwrap();
    drop(guard);
    let forged: Vec<_> = text.lines().map(|line| change(line).unwrap_or_else(|| line.to_owned())).collect();
    fs::write(path, format!("{}\n", forged.join("\n"))).unwrap();
}

fn a_record_of_an_earlier_boot_is_taken_over() {
    let home = TestHome::plain();
    let path = fresh(&home, "boot");
    forge(&path, |line| line.starts_with("boot=").then(|| "boot=00000000-0000-4000-8000-000000000000".to_owned()));
    take(&path).release().unwrap();
}

fn a_record_of_another_pid_namespace_is_held() {
    let home = TestHome::plain();
    let path = fresh(&home, "namespace");
    forge(&path, |line| line.starts_with("namespace=").then(|| "namespace=1".to_owned()));
    let told = find_busy(&path);
    assert!(matches!(told.identity, Sameness::Unknown(_)), "{told:?}");
}

/// The record of an earlier process that had our own pid.
fn leave_record_with_our_pid(path: &Path) {
    forge(path, |line| match line.split_once('=')? {
        ("start", _) => Some("start=1".to_owned()),
        ("pidfd", _) => Some("pidfd=1".to_owned()),
        _ => None,
    });
}

fn a_reused_pid_does_not_hold() {
    let home = TestHome::plain();
    let path = fresh(&home, "reused");
    leave_record_with_our_pid(&path);
    take(&path).release().unwrap();
}

fn without_identity_a_reused_pid_holds_for_ever() {
    let home = TestHome::plain();
    let path = fresh(&home, "reused");
    leave_record_with_our_pid(&path);
    let world = Rigged::new().without(&["PidfileIdentity"]).ready();
    assert_eq!(busy(lock_at(&world, &path).try_acquire()).pid, Some(std::process::id()));
}

/// What a contender does on behalf of a process that dies with it: all calls fail from one on.
fn die_after(calls: u64, path: &Path, act: impl Fn(PidfileLock<Rigged>) -> Result<()>) -> bool {
    let process = Idler::new();
    let world = Rigged::living_for(calls).ready();
    let acted = PidfileLock::at(&world, path).and_then(|lock| lock.for_process(process.pid())).and_then(act);
    process.end();
    acted.is_err()
}

/// Acts, dying one call later each time, until it no longer fails. After each death the next one takes.
fn die_at_each_step(home: &TestHome, prepare: impl Fn(&Path), act: impl Fn(PidfileLock<Rigged>) -> Result<()>) -> u64 {
    for calls in 0.. {
        let path = fresh(home, &format!("step-{calls}"));
        prepare(&path);
        let has_died = die_after(calls, &path, &act);
        let guard = take(&path);
        assert_eq!(guard.check().unwrap(), Ownership::Held, "after {calls} calls");
        guard.release().unwrap();
        let left: Vec<_> = names_in(path.parent().unwrap());
        assert!(left.iter().all(|name| name.starts_with(".fm-watch.")), "after {calls} calls: {left:?}");
        if !has_died {
            return calls;
        }
    }
    unreachable!()
}

/// Takes and releases.
fn take_and_release(mut lock: PidfileLock<Rigged>) -> Result<()> {
    match lock.try_acquire()? {
        Attempt::Taken(guard) => guard.release(),
        // What could not be examined is held.
        Attempt::Busy(holder) => Err(Error::Failed(format!("it is held {holder}"))),
    }
}

fn a_death_at_any_step_leaves_a_file_that_the_next_can_take() {
    let home = TestHome::plain();
    let steps = die_at_each_step(&home, |_| (), take_and_release);
    assert!(steps > 15, "{steps} steps");
}

fn a_death_at_any_step_of_a_takeover_leaves_a_file_that_the_next_can_take() {
    let home = TestHome::plain();
    let steps = die_at_each_step(&home, |path| drop(leave_stale_record(path)), take_and_release);
    assert!(steps > 25, "{steps} steps");
}

fn a_death_at_any_step_of_a_release_leaves_a_file_that_the_next_can_take() {
    let home = TestHome::plain();
    let path = fresh(&home, "release");
    for extra in 0..12 {
        let process = Idler::new();
        let measured = Rigged::new().ready();
        let guard = taken(lock_at(&measured, &path).for_process(process.pid()).unwrap().try_acquire());
        let calls = measured.calls();
        guard.release().unwrap();
        let world = Rigged::living_for(calls + extra).ready();
        let guard = taken(lock_at(&world, &path).for_process(process.pid()).unwrap().try_acquire());
        let has_died = guard.release().is_err();
        process.end();
        assert_eq!(path.exists(), has_died, "a release that fails leaves the file, one that does not removes it");
        take(&path).release().unwrap();
    }
    assert_eq!(names_in(path.parent().unwrap()), [""; 0]);
}

/// A contender dies at a step, and the process on whose behalf it contends with it.
#[track_caller]
fn die_at(step: &'static str, path: &Path, world: Rigged) {
    let process = Idler::new();
    let world = world.dying_at(step).ready();
    let attempt = lock_at(&world, path).for_process(process.pid()).unwrap().try_acquire();
    assert!(attempt.is_err(), "it has reached {step}");
    drop(attempt);
    process.end();
}

fn a_death_between_making_and_naming_leaves_nothing_in_the_way() {
    let home = TestHome::plain();
    let path = fresh(&home, "half");
    die_at("PidfileWritten", &path, Rigged::new());
    assert!(!path.exists());
    take(&path).release().unwrap();
}

fn without_completeness_before_the_name_a_death_blocks_for_ever() {
    let home = TestHome::plain();
    let path = fresh(&home, "half");
    die_at("PidfileCreated", &path, Rigged::new().without(&["PidfileCompleteBeforeName"]));
    assert_eq!(fs::read(&path).unwrap(), b"", "an empty file is left");
    let world = Rigged::new().ready();
    let mut lock = lock_at(&world, &path);
    busy(lock.try_acquire());
    world.let_pass(Duration::from_secs(3600));
    busy(lock.try_acquire());
}

/// A takeover during which another program that lives puts its own pid file in place of the stale one. Says what the
/// taker was told, and whether the other program's file is at the path.
fn taken_beside_a_replacement(protections: &[&'static str], replace: impl FnOnce(&Path, u32) + Send + 'static) -> (bool, bool) {
    let home = TestHome::plain();
    let path = fresh(&home, "replaced");
    leave_stale_record(&path);
    let other = Idler::new();
    let (pid, at) = (other.pid(), path.clone());
    let world = Rigged::new().without(protections).at("PidfileJudged", move || replace(&at, pid)).ready();
    let attempt = lock_at(&world, &path).try_acquire().unwrap();
    let is_there = fs::read_to_string(&path).unwrap() == format!("{pid}\n");
    let is_taken = matches!(attempt, Attempt::Taken(_));
    if !is_taken {
        assert_eq!(names_in(path.parent().unwrap()), ["daemon.pid"]);
    }
    (is_taken, is_there)
}

fn rename_over(path: &Path, pid: u32) {
    let new = path.with_extension("new");
    fs::write(&new, format!("{pid}\n")).unwrap();
    fs::rename(new, path).unwrap();
}

fn a_file_that_another_program_replaces_during_a_takeover_is_put_back() {
    assert_eq!(taken_beside_a_replacement(&[], rename_over), (false, true));
}

fn without_the_inode_check_the_file_of_a_live_program_is_lost() {
    let (is_taken, is_there) = taken_beside_a_replacement(&["PidfileInodeCheck"], rename_over);
    assert!(is_taken && !is_there, "we hold beside a live program whose file is gone");
}

fn a_file_that_another_program_rewrites_during_a_takeover_is_put_back() {
    let rewrite = |path: &Path, pid: u32| fs::write(path, format!("{pid}\n")).unwrap();
    assert_eq!(taken_beside_a_replacement(&[], rewrite), (false, true));
}

fn what_a_dead_taker_could_not_put_back_is_put_back_by_the_next() {
    let home = TestHome::plain();
    let path = fresh(&home, "stranded");
    leave_stale_record(&path);
    let other = Idler::new();
    let (pid, at) = (other.pid(), path.clone());
    let world = Rigged::new().at("PidfileJudged", move || rename_over(&at, pid));
    die_at("TakeoverExchanged", &path, world);
    let live = format!("{pid}\n");
    assert_ne!(fs::read_to_string(&path).unwrap(), live, "the dead taker's record is at the path");
    assert_eq!(names_in(path.parent().unwrap()).len(), 2, "the live program's file is beside it");
    assert_eq!(find_busy(&path).pid, Some(pid));
    assert_eq!(fs::read_to_string(&path).unwrap(), live);
    assert_eq!(names_in(path.parent().unwrap()), ["daemon.pid"]);
}

/// A second taker comes when the first one has judged the stale file. Says what both were told, and whether the second
/// one's file was seen to be replaced.
fn two_takers(protections: &'static [&'static str]) -> (bool, bool, bool) {
    let home = TestHome::plain();
    let path = fresh(&home, "two");
    leave_stale_record(&path);
    contest::two_takers(&path, "PidfileJudged", protections, lock_at)
}

fn of_two_takers_of_one_stale_file_the_second_waits() {
    assert_eq!(two_takers(&[]), (true, false, false));
}

fn without_the_lock_of_the_stale_file_a_holder_loses_its_name_for_a_moment() {
    assert_eq!(two_takers(&["PidfileStaleLock"]), (false, true, true));
}

fn without_the_lock_and_the_inode_check_two_hold() {
    let (first, second, _) = two_takers(&["PidfileStaleLock", "PidfileInodeCheck"]);
    assert!(first && second, "both were told that they hold");
}

fn a_dead_file_that_a_live_program_has_locked_is_held() {
    let home = TestHome::plain();
    let path = fresh(&home, "locked");
    leave_stale_record(&path);
    let before = trace(&path);
    let daemon = File::options().read(true).write(true).open(&path).unwrap();
    daemon.try_lock().unwrap();
    let told = find_busy(&path);
    assert_eq!(told.pid, Some(std::process::id()), "the kernel tells who locked it: {told:?}");
    drop(daemon);
    // The other way to lock a file, as lockf(3) does it.
    let daemon = File::options().read(true).write(true).open(&path).unwrap();
    Real.raise_mark(&daemon, Kind::File).unwrap();
    find_busy(&path);
    assert_eq!(trace(&path), before);
    drop(daemon);
    take(&path).release().unwrap();
}

fn a_guard_of_a_child_that_has_ended_is_not_robbed() {
    let home = TestHome::plain();
    let path = fresh(&home, "child");
    let child = Idler::new();
    let pid = child.pid();
    let guard = taken(lock_at(&Arc::new(Real), &path).for_process(pid).unwrap().try_acquire());
    assert_eq!(find_busy(&path).pid, Some(pid));
    child.end();
    find_busy(&path);
    assert_eq!(guard.check().unwrap(), Ownership::Held);
    guard.release().unwrap();
    take(&path).release().unwrap();
}

/// Releases a lock whose file another program has replaced. Says whether the other's file is still there.
fn release_beside_a_replacement(protections: &[&'static str]) -> bool {
    let home = TestHome::plain();
    let path = fresh(&home, "foreign");
    let world = Rigged::new().without(protections).ready();
    let guard = taken(lock_at(&world, &path).try_acquire());
    rename_over(&path, std::process::id());
    guard.release().unwrap();
    path.exists()
}

fn a_file_that_was_replaced_is_left_at_release() {
    assert!(release_beside_a_replacement(&[]));
    // One that was written into is another's as well, although it is our inode.
    let home = TestHome::plain();
    let path = fresh(&home, "overwritten");
    let guard = take(&path);
    fs::write(&path, "1\n").unwrap();
    guard.release().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
}

fn without_the_own_inode_at_release_the_file_of_another_is_removed() {
    assert!(!release_beside_a_replacement(&["PidfileOwnInodeOnRelease"]));
}

/// Drops a guard in what is then a forked copy of its process. Says whether the lock is still at its path.
fn drop_in_a_forked_copy(protections: &[&'static str]) -> bool {
    let home = TestHome::plain();
    let path = fresh(&home, "forked");
    contest::drop_in_a_forked_copy(&path, protections, lock_at)
}

fn a_forked_copy_of_a_guard_releases_nothing() {
    assert!(drop_in_a_forked_copy(&[]));
}

fn without_the_maker_a_forked_copy_releases_the_lock_of_its_parent() {
    assert!(!drop_in_a_forked_copy(&["PidfileMaker"]));
}

fn a_removed_replaced_or_overwritten_file_is_noticed() {
    let home = TestHome::plain();
    let path = fresh(&home, "check");
    let guard = take(&path);
    assert_eq!(guard.check().unwrap(), Ownership::Held);
    let content = fs::read(&path).unwrap();
    fs::write(&path, "1\n").unwrap();
    assert_eq!(guard.check().unwrap(), Ownership::Lost(Loss::Replaced));
    fs::write(&path, &content).unwrap();
    assert_eq!(guard.check().unwrap(), Ownership::Held);
    rename_over(&path, 1);
    assert_eq!(guard.check().unwrap(), Ownership::Lost(Loss::Replaced));
    fs::remove_file(&path).unwrap();
    assert_eq!(guard.check().unwrap(), Ownership::Lost(Loss::Removed));
    guard.release().unwrap();
}

fn without_exchange_a_stale_file_is_held_and_left_alone() {
    let home = TestHome::plain();
    let path = fresh(&home, "no-exchange");
    leave_stale_record(&path);
    let before = trace(&path);
    let world = Rigged::new().refusing("exchange", 22).ready();
    let told = busy(lock_at(&world, &path).try_acquire());
    assert_eq!(told.identity, Sameness::Different(Difference::Gone));
    assert!(told.remedy.unwrap().contains("remove"));
    assert_eq!(trace(&path), before);
    assert_eq!(names_in(path.parent().unwrap()), ["daemon.pid"]);
}

fn leftovers_of_the_dead_are_removed_at_the_next_takeover() {
    let home = TestHome::plain();
    let path = fresh(&home, "leftovers");
    let record = leave_stale_record(&path);
    let private = |digit: char| path.with_file_name(format!(".fm-watch.{}.pidfile", digit.to_string().repeat(32)));
    fs::write(private('a'), &record).unwrap();
    let alive = format!("{}\n", std::process::id());
    fs::write(private('b'), &alive).unwrap();
    fs::write(private('c'), "").unwrap();
    take(&path).release().unwrap();
    assert!(!private('a').exists(), "its process is dead");
    assert!(private('b').exists() && private('c').exists(), "nothing proves that nobody needs them");
}

fn a_released_lock_leaves_nothing() {
    let home = TestHome::plain();
    let path = fresh(&home, "nothing");
    take(&path).release().unwrap();
    drop(take(&path));
    assert_eq!(names_in(path.parent().unwrap()), [""; 0]);
}

fn a_process_that_has_ended_cannot_be_recorded() {
    let home = TestHome::plain();
    let path = fresh(&home, "ended");
    let mut child = Idler::new();
    let mut lock = lock_at(&Arc::new(Real), &path).for_process(child.pid()).unwrap();
    child.become_a_zombie();
    let error = lock.try_acquire().unwrap_err().to_string();
    assert!(error.contains("has ended"), "{error}");
    assert_eq!(names_in(path.parent().unwrap()), [""; 0]);
    assert!(lock_at(&Arc::new(Real), &path).for_process(1).is_err());
    wait_until_true(SOON, "it can still be reaped", || child.0.try_wait().unwrap().is_some());
}
