//! The soft lock on real files, beside live Python processes with filelock.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use fm_watch::system::identity::{Difference, Proof, Sameness};
use fm_watch::lock::{AnyLock, Kind, Subject};
use fm_watch::lock::soft::process_id::NAMESPACE_MARK;
use fm_watch::lock::soft::marker::{Content, Record};
use fm_watch::lock::soft::process_id::{Boot, Start};
use fm_watch::lock::soft::{SoftLock, observation};
use fm_watch::lock::{Attempt, Guard, Lock, Loss, Ownership};
use fm_watch::system::{Real, World};
use serde_json::json;

use crate::support::background::wait_for_state;
use crate::support::peers::{Breaks, Filelock};
use crate::support::scripted::Scripted;
use crate::support::soft::{
    Mortal, attempt, dead_pid, expect_held, inode, leave_dead_marker, lock_path, names_beside, record_of, take,
    take_within, try_take,
};
use crate::support::{SOON, Skip, TestHome, requires_root, wait_until_true};

cases! {
    a_marker_of_ours_is_a_record_that_all_can_read,
    a_holder_is_told_with_pid_age_and_identity,
    a_lock_of_the_family_is_taken_by_its_name,
    both_sides_do_the_same_with_every_kind_of_marker,
    a_live_python_holder_excludes_us,
    we_exclude_a_live_python_contender,
    a_dead_python_holder_is_replaced_at_once,
    python_replaces_a_dead_holder_of_ours_at_once,
    every_release_of_the_list_excludes_and_is_excluded,
    a_lock_for_a_child_is_held_for_as_long_as_the_child_exists,
    a_lock_for_a_process_that_has_ended_is_refused,
    an_empty_marker_names_its_age_and_the_command,
    a_foreign_holder_is_named_with_its_host,
    an_unreadable_marker_is_held_and_says_why,
    a_protected_marker_is_refused_by_both,
    a_directory_is_refused_by_both,
    a_victim_behind_a_link_is_untouched,
    where_names_cannot_be_exchanged_a_dead_marker_stays,
    a_lock_that_was_removed_or_replaced_is_reported,
    a_lock_that_an_old_release_moved_aside_is_reported,
    a_lock_that_a_peer_breaks_by_age_is_reported,
    a_marker_that_is_set_aside_at_release_ages_out,
    a_contender_that_takes_a_lock_again_uses_its_file_again,
    a_file_that_is_used_again_has_the_age_of_the_hold,
    a_kept_file_that_was_removed_is_made_again,
    forged_names_beside_a_lock_are_nobodys,
    what_dead_contenders_left_is_swept,
    sixteen_mixed_breakers_of_a_dead_marker_leave_one_holder_and_no_names,
}

/// Long enough for what is watched for two seconds.
const PATIENCE: Duration = Duration::from_millis(3200);

fn a_marker_of_ours_is_a_record_that_all_can_read() {
    let home = TestHome::new();
    let path = lock_path(&home);
    let guard = take(&path);
    let file = fs::symlink_metadata(&path).unwrap();
    assert_eq!((file.permissions().mode() & 0o7777, file.nlink()), (0o644, 1));
    let bytes = fs::read(&path).unwrap();
    let here = observation::here(&Real);
    let ticks = Real.start_ticks(std::process::id()).unwrap();
    let start = Start::new(here.boot, ticks);
    assert_eq!(String::from_utf8(bytes).unwrap(), format!("{}\n{}\n{start}\n", std::process::id(), here.host));
    assert_eq!(names_beside(&path), Vec::<String>::new());
    expect_held(&guard, "at first");
    guard.release().unwrap();
    assert_eq!(inode(&path), None);
}

fn a_holder_is_told_with_pid_age_and_identity() {
    let home = TestHome::new();
    let path = lock_path(&home);
    assert_eq!(SoftLock::at(&Arc::new(Real), &path).unwrap().holder().pid, None);
    let _guard = take(&path);
    let holder = try_take(&path).unwrap_err();
    assert_eq!(holder.pid, Some(std::process::id()));
    assert_eq!((holder.host, holder.remedy), (None, None));
    assert_eq!(holder.identity, Sameness::Same(Proof::Start));
    assert!(holder.since.unwrap() < SOON, "{:?}", holder.since);
}

fn a_lock_of_the_family_is_taken_by_its_name() {
    let home = TestHome::new();
    let path = lock_path(&home);
    let mortal = Mortal::new();
    let mut lock = AnyLock::at(Kind::Soft, &path, Subject::Child(mortal.pid())).unwrap();
    let Attempt::Taken(guard) = lock.try_acquire().unwrap() else { panic!("it is free") };
    assert_eq!(try_take(&path).unwrap_err().pid, Some(mortal.pid()));
    assert_eq!(guard.check().unwrap(), Ownership::Held);
    guard.release().unwrap();
    let mut lock = AnyLock::at(Kind::Soft, &path, Subject::Myself).unwrap();
    let Attempt::Taken(_guard) = lock.try_acquire().unwrap() else { panic!("it is free") };
    assert_eq!(lock.holder().pid, Some(std::process::id()));
}

/// What somebody finds at a path, and what both sides make of it within [`PATIENCE`].
struct Row {
    what: &'static str,
    marker: Made,
    answer: &'static str,
}

enum Made {
    File(Vec<u8>),
    Link(&'static str),
    Fifo,
    Socket,
    Directory,
    Device,
}

fn rows(alive: u32, zombie: u32) -> Vec<Row> {
    let here = observation::here(&Real);
    let host = here.host.clone();
    let text = |text: &str| Made::File(text.as_bytes().to_vec());
    let of = |pid: u32, start: Option<Start>| Made::File(Record { pid, host: host.clone(), start }.to_bytes());
    let ticks = Real.start_ticks(alive).unwrap();
    let start = |boot, ticks| Some(Start::new(boot, ticks));
    let (no_boot, other_boot) = (Boot::of(None), Boot::of(Some("00000000-0000-0000-0000-00000000b007")));
    let row = |what, marker, answer| Row { what, marker, answer };
    let dead = dead_pid();
    let long = format!("{dead}\n{host}\n{}\n", "1".repeat(1024));
    vec![
        row("empty", text(""), "busy"),
        row("dead, 2 lines", of(dead, None), "taken"),
        row("dead, 3 lines", of(dead, start(here.boot, 5)), "taken"),
        row("dead, of another boot", of(dead, start(other_boot, 5)), "taken"),
        row("alive, no start", of(alive, None), "busy"),
        row("alive, right start", of(alive, start(here.boot, ticks)), "busy"),
        row("alive, wrong start", of(alive, start(here.boot, ticks - 1)), "taken"),
        row("alive, another boot", of(alive, start(other_boot, ticks)), "taken"),
        row("alive, right start without boot", of(alive, start(no_boot, ticks)), "busy"),
        row("alive, wrong start without boot", of(alive, start(no_boot, ticks - 1)), "taken"),
        row("zombie, no start", of(zombie, None), "busy"),
        row("pid 1", of(1, None), "busy"),
        row("other host", text(&format!("{dead}\nelsewhere.example\n")), "busy"),
        row("other pid namespace", text(&format!("{dead}\n{host}?pidns-f0000001\n")), "busy"),
        row("no final line end", text(&format!("{dead}\n{host}")), "taken"),
        row("CRLF", text(&format!("{dead}\r\n{host}\r\n")), "taken"),
        row("leading blank line", text(&format!("\n{dead}\n{host}\n")), "taken"),
        row("pid 0", text(&format!("0\n{host}\n")), "taken"),
        row("pid -1", text(&format!("-1\n{host}\n")), "taken"),
        row("pid 2^31", text(&format!("2147483648\n{host}\n")), "taken"),
        row("pid 1_000", text(&format!("1_000\n{host}\n")), "taken"),
        row("pid +5", text(&format!("+5\n{host}\n")), "taken"),
        row("1 line", text(&format!("{alive}\n")), "taken"),
        row("4 lines", text(&format!("{alive}\n{host}\n1\n2\n")), "taken"),
        row("NUL bytes", Made::File(vec![0; 64]), "taken"),
        row("not UTF-8", Made::File(b"\xff\xfe\n\xff\n".to_vec()), "taken"),
        row("too long", text(&long), "taken"),
        row("strict sign", text("1\nfilelock-strict-v1\0\n0\n"), "busy"),
        row("left by a breaker", text(&format!("filelock/break\n{dead}\n")), "taken"),
        row("let go while set aside", text("filelock/released\n"), "taken"),
        row("link", Made::Link("victim"), "taken"),
        row("dangling link", Made::Link("nothing"), "taken"),
        row("FIFO", Made::Fifo, "taken"),
        row("socket", Made::Socket, "taken"),
        row("device", Made::Device, "taken"),
        row("directory", Made::Directory, "IsADirectoryError"),
    ]
}

fn make(marker: &Made, path: &Path) {
    match marker {
        Made::File(bytes) => fs::write(path, bytes).unwrap(),
        Made::Link(to) => symlink(to, path).unwrap(),
        Made::Fifo => make_node(path, libc::S_IFIFO),
        Made::Device => make_node(path, libc::S_IFCHR),
        Made::Socket => drop(UnixListener::bind(path).unwrap()),
        Made::Directory => fs::create_dir(path).unwrap(),
    }
}

#[allow(unsafe_code)]
fn make_node(path: &Path, kind: libc::mode_t) {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is a C string. The device is /dev/null, which nothing can harm.
    let made = unsafe { libc::mknod(path.as_ptr(), kind | 0o600, libc::makedev(1, 3)) };
    assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
}

/// Our own answer in the words of the peer.
fn our_answer(path: &Path) -> &'static str {
    match SoftLock::at(&Arc::new(Real), path).unwrap().acquire(PATIENCE) {
        Ok(Attempt::Taken(_)) => "taken",
        Ok(Attempt::Busy(_)) => "busy",
        Err(error) if error.to_string().contains("is a directory") => "IsADirectoryError",
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

fn both_sides_do_the_same_with_every_kind_of_marker() -> Result<(), Skip> {
    let home = TestHome::new();
    let mut peer = Filelock::reference().peer(&home)?;
    let alive = Mortal::new();
    let mut zombie = Command::new("true").spawn().unwrap();
    wait_for_state(zombie.id(), "Z");
    let mut rows = rows(alive.pid(), zombie.id());
    if requires_root().is_err() {
        rows.retain(|row| !matches!(row.marker, Made::Device));
    }
    let lay_out = |side: &str| -> Vec<PathBuf> {
        let directory = home.scratch().join(side);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("victim"), "untouched").unwrap();
        let paths: Vec<_> = (0..rows.len()).map(|number| directory.join(format!("{number}.lock"))).collect();
        rows.iter().zip(&paths).for_each(|(row, path)| make(&row.marker, path));
        paths
    };
    let theirs = lay_out("theirs");
    peer.ask(&json!({"do": "acquire_all", "paths": theirs, "timeout": PATIENCE.as_secs_f64()}));
    let ours: Vec<_> = lay_out("ours").into_iter().map(|path| std::thread::spawn(move || our_answer(&path))).collect();
    let ours: Vec<_> = ours.into_iter().map(|thread| thread.join().unwrap()).collect();
    let theirs: Vec<String> = serde_json::from_value(peer.answer()).unwrap();
    let told: Vec<_> = rows.iter().zip(ours.iter().zip(&theirs)).collect();
    let wrong: Vec<_> = told
        .iter()
        .filter(|(row, (ours, theirs))| **ours != row.answer || **theirs != row.answer)
        .map(|(row, answers)| (row.what, row.answer, answers))
        .collect();
    assert!(wrong.is_empty(), "what, expected, (ours, theirs): {wrong:#?}");
    for side in ["ours", "theirs"] {
        assert_eq!(fs::read_to_string(home.scratch().join(side).join("victim")).unwrap(), "untouched");
    }
    zombie.wait().unwrap();
    Ok(())
}

fn a_live_python_holder_excludes_us() -> Result<(), Skip> {
    let home = TestHome::new();
    let path = lock_path(&home);
    let mut peer = Filelock::reference().peer(&home)?;
    assert_eq!(peer.acquire(&path, Duration::ZERO), "taken");
    let holder = try_take(&path).unwrap_err();
    assert_eq!((holder.pid, holder.identity), (Some(peer.pid()), Sameness::Same(Proof::Start)));
    peer.release(&path);
    take(&path);
    Ok(())
}

fn we_exclude_a_live_python_contender() -> Result<(), Skip> {
    let home = TestHome::new();
    let path = lock_path(&home);
    let mut peer = Filelock::reference().peer(&home)?;
    let guard = take(&path);
    assert_eq!(peer.acquire(&path, Duration::from_millis(200)), "busy");
    assert_eq!(peer.tell(&json!({"do": "holder", "path": path})), std::process::id());
    expect_held(&guard, "a contender that waits changes nothing");
    guard.release().unwrap();
    assert_eq!(peer.acquire(&path, Duration::ZERO), "taken");
    Ok(())
}

fn a_dead_python_holder_is_replaced_at_once() -> Result<(), Skip> {
    let home = TestHome::new();
    let path = lock_path(&home);
    let mut peer = Filelock::reference().peer(&home)?;
    assert_eq!(peer.acquire(&path, Duration::ZERO), "taken");
    peer.die();
    take(&path);
    assert_eq!(names_beside(&path), Vec::<String>::new());
    Ok(())
}

fn python_replaces_a_dead_holder_of_ours_at_once() -> Result<(), Skip> {
    let home = TestHome::new();
    let path = lock_path(&home);
    let mut peer = Filelock::reference().peer(&home)?;
    let mortal = Mortal::new();
    // Its guard lives on, as that of no dead process does, and must not disturb who comes next.
    let left = attempt(&Scripted::with_pid(mortal.pid()).shared(), &path).unwrap();
    assert_eq!(peer.acquire(&path, Duration::from_millis(50)), "busy");
    mortal.die();
    assert_eq!(peer.acquire(&path, Duration::from_millis(200)), "taken");
    assert_eq!(left.check().unwrap(), Ownership::Lost(Loss::Replaced));
    drop(left);
    assert!(try_take(&path).is_err());
    Ok(())
}

/// Releases that break by rename are safe as long as no holder dies beside them, so here nobody does.
fn every_release_of_the_list_excludes_and_is_excluded() -> Result<(), Skip> {
    let home = TestHome::new();
    for release in Filelock::all() {
        let path = home.scratch().join(release.version);
        let mut peer = release.peer(&home)?;
        assert_eq!(peer.tell(&json!({"do": "pid"}))["version"], release.version);
        let guard = take(&path);
        assert_eq!(peer.acquire(&path, Duration::from_millis(100)), "busy", "{release:?}");
        drop(guard);
        assert_eq!(peer.acquire(&path, Duration::ZERO), "taken", "{release:?}");
        let Content::Record(theirs) = Content::read(&fs::read(&path).unwrap()) else { panic!("{release:?}") };
        let holder = try_take(&path).expect_err(release.version);
        peer.release(&path);
        if theirs.host != record_of(std::process::id()).host {
            // Outside of the first pid namespace, and this release does not mark that: to both sides the other is on
            // another machine, of which nothing can be proven.
            assert!(matches!(holder.identity, Sameness::Unknown(_)), "{release:?}: {holder:?}");
            assert!(!theirs.host.contains(NAMESPACE_MARK), "{release:?}: {theirs:?}");
            continue;
        }
        assert_eq!(holder.identity, Sameness::Same(Proof::Start), "{release:?}");
        assert_eq!(peer.acquire(&path, Duration::ZERO), "taken", "{release:?}");
        peer.die();
        drop(take(&path));
        let mut other = release.peer(&home)?;
        leave_dead_marker(&path);
        assert_eq!(other.acquire(&path, SOON), "taken", "{release:?}");
    }
    assert!(Filelock::all().iter().any(|release| release.breaks == Breaks::ByRename));
    Ok(())
}

fn a_lock_for_a_child_is_held_for_as_long_as_the_child_exists() -> Result<(), Skip> {
    let home = TestHome::new();
    let path = lock_path(&home);
    let mut peer = Filelock::reference().peer(&home)?;
    let mortal = Mortal::new();
    let mut lock = SoftLock::at(&Arc::new(Real), &path).unwrap().for_process(mortal.pid());
    let Attempt::Taken(guard) = lock.try_acquire().unwrap() else { panic!("it is free") };
    assert_eq!(Content::read(&fs::read(&path).unwrap()), Content::Record(record_of(mortal.pid())));
    assert_eq!(peer.acquire(&path, Duration::from_millis(50)), "busy");
    mortal.die();
    assert_eq!(peer.acquire(&path, Duration::from_millis(200)), "taken");
    let theirs = inode(&path);
    guard.release().unwrap();
    assert_eq!(inode(&path), theirs, "a release that comes too late leaves it alone");
    Ok(())
}

fn a_lock_for_a_process_that_has_ended_is_refused() {
    let home = TestHome::new();
    let path = lock_path(&home);
    let error = SoftLock::at(&Arc::new(Real), &path).unwrap().for_process(dead_pid()).try_acquire().unwrap_err();
    assert!(error.to_string().contains("does not exist"), "{error}");
    for no_pid in [0, u32::MAX] {
        assert!(SoftLock::at(&Arc::new(Real), &path).unwrap().for_process(no_pid).try_acquire().is_err());
    }
    assert_eq!(fs::read_dir(home.scratch()).unwrap().filter(|entry| is_beside(entry, &path)).count(), 0);
}

fn is_beside(entry: &std::io::Result<fs::DirEntry>, path: &Path) -> bool {
    let own = path.file_name().unwrap().as_bytes();
    entry.as_ref().is_ok_and(|entry| entry.file_name().as_bytes().starts_with(own))
}

fn an_empty_marker_names_its_age_and_the_command() {
    let home = TestHome::new();
    let path = lock_path(&home);
    let file = fs::File::create(&path).unwrap();
    file.set_modified(std::time::SystemTime::now() - Duration::from_secs(3 * 86_400 + 30)).unwrap();
    let holder = try_take(&path).unwrap_err();
    let remedy = holder.remedy.clone().unwrap();
    assert!(remedy.contains("3days"), "{remedy}");
    let command = remedy.rsplit_once(": ").unwrap().1;
    assert_eq!(command, format!("rm -- '{}'", path.display()));
    assert_eq!(holder.pid, None);
    assert!(matches!(holder.identity, Sameness::Unknown(_)), "{holder:?}");
    // The command does what it says.
    assert!(Command::new("sh").args(["-c", command]).status().unwrap().success());
    take(&path);
}

fn a_foreign_holder_is_named_with_its_host() {
    let home = TestHome::new();
    let path = lock_path(&home);
    fs::write(&path, format!("{}\nbuild\u{1b}host\n", dead_pid())).unwrap();
    let holder = try_take(&path).unwrap_err();
    assert!(holder.host.as_ref().is_some_and(|host| host.starts_with("build") && !host.contains('\u{1b}')));
    assert!(matches!(holder.identity, Sameness::Unknown(_)));
    assert!(holder.remedy.unwrap().contains("rm -- "));
}

fn an_unreadable_marker_is_held_and_says_why() {
    // A process without privileges would do; a file that answers every read with an error serves root as well.
    let home = TestHome::new();
    let path = lock_path(&home);
    leave_dead_marker(&path);
    let before = inode(&path);
    let world = Arc::new(Scripted::new().that_cannot_read());
    let Attempt::Busy(holder) = SoftLock::at(&world, &path).unwrap().try_acquire().unwrap() else {
        panic!("nobody can judge it")
    };
    let Sameness::Unknown(why) = &holder.identity else { panic!("{holder:?}") };
    assert!(why.contains("cannot be read") && why.contains("ermission"), "{why}");
    assert!(holder.remedy.unwrap().contains("rm -- "));
    assert_eq!(inode(&path), before);
}

/// Whoever may write all the same, as root may, judges the marker, on both sides.
fn a_protected_marker_is_refused_by_both() -> Result<(), Skip> {
    let home = TestHome::new();
    let mut peer = Filelock::reference().peer(&home)?;
    let path = lock_path(&home);
    leave_dead_marker(&path);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    let error = SoftLock::at(&Arc::new(Scripted::new().that_may_not_write()), &path).unwrap().try_acquire().unwrap_err();
    assert!(error.to_string().contains("write-protected"), "{error}");
    let directory = Real.open_directory(home.scratch()).unwrap();
    let may_write = Real.may_write(&directory, path.file_name().unwrap()).unwrap();
    let expected = if may_write { "taken" } else { "PermissionError" };
    assert_eq!(peer.acquire(&path, Duration::from_millis(200)), expected);
    Ok(())
}

fn a_directory_is_refused_by_both() -> Result<(), Skip> {
    let home = TestHome::new();
    let mut peer = Filelock::reference().peer(&home)?;
    let path = lock_path(&home);
    fs::create_dir(&path).unwrap();
    let error = SoftLock::at(&Arc::new(Real), &path).unwrap().try_acquire().unwrap_err();
    assert!(error.to_string().contains("is a directory"), "{error}");
    assert_eq!(peer.acquire(&path, Duration::ZERO), "IsADirectoryError");
    assert!(path.is_dir());
    Ok(())
}

fn a_victim_behind_a_link_is_untouched() {
    let home = TestHome::new();
    let (path, victim) = (lock_path(&home), home.scratch().join("victim"));
    fs::write(&victim, record_of(dead_pid()).to_bytes()).unwrap();
    let before = fs::metadata(&victim).unwrap();
    symlink(&victim, &path).unwrap();
    let world = Scripted::new().shared();
    let mut lock = SoftLock::at(&world, &path).unwrap();
    assert!(matches!(lock.try_acquire().unwrap(), Attempt::Busy(_)), "a link is not read as the record behind it");
    world.pass(PATIENCE);
    let Attempt::Taken(guard) = lock.try_acquire().unwrap() else { panic!("it has not changed") };
    assert!(fs::symlink_metadata(&path).unwrap().is_file());
    drop(guard);
    let after = fs::metadata(&victim).unwrap();
    assert_eq!((before.ino(), before.mtime_nsec(), before.ctime_nsec()), (after.ino(), after.mtime_nsec(), after.ctime_nsec()));
}

fn where_names_cannot_be_exchanged_a_dead_marker_stays() {
    let home = TestHome::new();
    let path = lock_path(&home);
    leave_dead_marker(&path);
    let before = inode(&path);
    let mut lock = SoftLock::at(&Scripted::new().without_exchange().shared(), &path).unwrap();
    let Attempt::Busy(holder) = lock.try_acquire().unwrap() else { panic!("it would have to be moved") };
    assert_eq!(holder.identity, Sameness::Different(Difference::Gone));
    let remedy = holder.remedy.unwrap();
    assert!(remedy.contains("cannot exchange") && remedy.contains("rm -- "), "{remedy}");
    assert_eq!(inode(&path), before);
    assert_eq!(names_beside(&path), Vec::<String>::new());
}

fn a_lock_that_was_removed_or_replaced_is_reported() {
    let home = TestHome::new();
    let path = lock_path(&home);
    let guard = take(&path);
    fs::remove_file(&path).unwrap();
    assert_eq!(guard.check().unwrap(), Ownership::Lost(Loss::Removed));
    let next = take(&path);
    assert_eq!(guard.check().unwrap(), Ownership::Lost(Loss::Replaced));
    guard.release().unwrap();
    expect_held(&next, "whatever the first one did");
    // Renamed away by hand, it is nobody's any more.
    fs::rename(&path, home.scratch().join("elsewhere")).unwrap();
    let _third = take(&path);
    assert_eq!(next.check().unwrap(), Ownership::Lost(Loss::Replaced));
}

fn a_lock_that_an_old_release_moved_aside_is_reported() {
    let home = TestHome::new();
    let path = lock_path(&home);
    let guard = take(&path);
    let aside = home.scratch().join(format!("shared.lock.break.{}.{}", std::process::id(), "ab".repeat(16)));
    fs::rename(&path, &aside).unwrap();
    assert_eq!(guard.check().unwrap(), Ownership::Lost(Loss::Removed));
    let _next = take(&path);
    assert_eq!(guard.check().unwrap(), Ownership::Lost(Loss::Replaced), "although its name is that of a breaker");
}

fn a_lock_that_a_peer_breaks_by_age_is_reported() -> Result<(), Skip> {
    let home = TestHome::new();
    let path = lock_path(&home);
    let guard = take(&path);
    let mut breaker = Filelock::reference().program(&home, "filelock_expirer.py")?;
    breaker.arg(&path);
    assert_eq!(crate::support::home::finish(breaker).expect_code(0).stdout, "taken\n");
    assert!(guard.check().unwrap() != Ownership::Held);
    Ok(())
}

/// A breaker of the other side has our marker at the moment of our release, and puts it back.
fn a_marker_that_is_set_aside_at_release_ages_out() -> Result<(), Skip> {
    let home = TestHome::new();
    let path = lock_path(&home);
    let mut peer = Filelock::reference().peer(&home)?;
    let aside = home.scratch().join(format!("shared.lock.break.{}.{}", std::process::id(), "ab".repeat(16)));
    let mut lock = SoftLock::at(&Arc::new(Real), &path).unwrap();
    for _ in 0..2 {
        assert!(matches!(lock.try_acquire().unwrap(), Attempt::Taken(_)));
    }
    // Its file has a private name by now, and must not be used again.
    let Attempt::Taken(guard) = lock.try_acquire().unwrap() else { panic!("it is free") };
    leave_dead_marker(&aside);
    exchange(&path, &aside);
    guard.release().unwrap();
    exchange(&path, &aside);
    assert!(names_beside(&path).iter().all(|name| !name.contains(".new.")), "{:?}", names_beside(&path));
    assert_eq!(fs::read(&path).unwrap(), b"filelock/released\n");
    assert!(matches!(lock.try_acquire().unwrap(), Attempt::Busy(_)));
    assert_eq!(peer.acquire(&path, Duration::from_millis(500)), "busy");
    let ours = std::thread::spawn({
        let path = path.clone();
        move || take_within(&path, PATIENCE).map(drop)
    });
    assert_eq!(peer.acquire(&path, PATIENCE), "taken");
    peer.release(&path);
    ours.join().unwrap().unwrap();
    Ok(())
}

fn exchange(one: &Path, other: &Path) {
    let at = rustix::fs::CWD;
    rustix::fs::renameat_with(at, one, at, other, rustix::fs::RenameFlags::EXCHANGE).unwrap();
}

fn a_contender_that_takes_a_lock_again_uses_its_file_again() {
    let home = TestHome::new();
    let path = lock_path(&home);
    let mut lock = SoftLock::at(&Arc::new(Real), &path).unwrap();
    let mut hold = |kept: usize| {
        let Attempt::Taken(guard) = lock.try_acquire().unwrap() else { panic!("it is free") };
        expect_held(&guard, "while it is held");
        assert_eq!(fs::metadata(&path).unwrap().nlink(), 1 + kept as u64);
        assert_eq!(names_beside(&path).len(), kept);
        assert_eq!(Content::read(&fs::read(&path).unwrap()), Content::Record(record_of(std::process::id())));
        let marker = inode(&path);
        drop(guard);
        assert_eq!((inode(&path), names_beside(&path).len()), (None, kept));
        marker
    };
    // A program that takes it once leaves nothing, whenever it is killed while it holds.
    let (_first, second, third) = (hold(0), hold(1), hold(1));
    assert_eq!(second, third);
    let Attempt::Taken(guard) = lock.try_acquire().unwrap() else { panic!("it is free") };
    drop(lock);
    expect_held(&guard, "also without its contender");
    fs::remove_file(&path).unwrap();
    assert_eq!(guard.check().unwrap(), Ownership::Lost(Loss::Removed));
    let next = take(&path);
    assert_eq!(guard.check().unwrap(), Ownership::Lost(Loss::Replaced), "its private name is no breaker's");
    drop(guard);
    expect_held(&next, "whatever the first one did");
    assert_eq!(names_beside(&path), Vec::<String>::new(), "the last one takes the kept file away");
}

fn a_file_that_is_used_again_has_the_age_of_the_hold() {
    let home = TestHome::new();
    let path = lock_path(&home);
    let mut lock = SoftLock::at(&Arc::new(Real), &path).unwrap();
    for _ in 0..2 {
        assert!(matches!(lock.try_acquire().unwrap(), Attempt::Taken(_)));
    }
    let kept = home.scratch().join(&names_beside(&path)[0]);
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(1000);
    fs::File::options().append(true).open(kept).unwrap().set_modified(long_ago).unwrap();
    let Attempt::Taken(_guard) = lock.try_acquire().unwrap() else { panic!("it is free") };
    assert!(lock.holder().since.unwrap() < Duration::from_secs(500));
}

fn a_kept_file_that_was_removed_is_made_again() {
    let home = TestHome::new();
    let path = lock_path(&home);
    let mut lock = SoftLock::at(&Arc::new(Real), &path).unwrap();
    for _ in 0..3 {
        let Attempt::Taken(guard) = lock.try_acquire().unwrap() else { panic!("it is free") };
        expect_held(&guard, "with a file of its own");
        drop(guard);
        for name in names_beside(&path) {
            fs::remove_file(home.scratch().join(name)).unwrap();
        }
    }
}

fn forged_names_beside_a_lock_are_nobodys() {
    let home = TestHome::new();
    let path = lock_path(&home);
    let record = record_of(dead_pid());
    fs::write(&path, record.to_bytes()).unwrap();
    let nonce = "ab".repeat(16);
    // Names that are no names of anybody's, and what cannot be a record.
    for pid in ["0", "2147483648", "99999999999999999999999999"] {
        fs::write(home.scratch().join(format!("shared.lock.restore.{pid}.{nonce}")), "x").unwrap();
    }
    fs::write(home.scratch().join(format!("shared.lock.break.{}.{nonce}x", record.pid)), "x").unwrap();
    symlink("nothing", home.scratch().join(format!("shared.lock.break.{}.{nonce}", record.pid))).unwrap();
    symlink("nothing", home.scratch().join(format!("shared.lock.restore.1.{nonce}"))).unwrap();
    let before = names_beside(&path);
    take(&path);
    assert_eq!(names_beside(&path), before, "and they are left alone");
    // The claim of a process that lives is somebody's.
    fs::write(&path, record.to_bytes()).unwrap();
    fs::write(home.scratch().join(format!("shared.lock.restore.1.{}", "cd".repeat(16))), "x").unwrap();
    assert!(try_take(&path).is_err());
}

fn what_dead_contenders_left_is_swept() {
    let home = TestHome::new();
    let path = lock_path(&home);
    let (dead, nonce) = (dead_pid(), "ab".repeat(16));
    let name = |kind: &str, pid: u32| format!("shared.lock.{kind}.{pid}.{nonce}");
    let make = |name: &str, content: &[u8]| fs::write(home.scratch().join(name), content).unwrap();
    let swept = [name("new", dead), name("break", dead), name("restore", dead)];
    for name in &swept {
        make(name, &record_of(dead).to_bytes());
    }
    // Of a living process, of a living holder in a dead breaker's hands, of nobody known.
    let (alive, other) = (std::process::id(), dead_pid());
    make(&name("new", alive), &record_of(dead).to_bytes());
    make(&name("break", other), &record_of(alive).to_bytes());
    make(&name("new", other), b"");
    leave_dead_marker(&path);
    drop(take(&path));
    // Whoever keeps a file there itself does so as well.
    make(&name("new", dead), &record_of(dead).to_bytes());
    let mut lock = SoftLock::at(&Arc::new(Real), &path).unwrap();
    for _ in 0..2 {
        assert!(matches!(lock.try_acquire().unwrap(), Attempt::Taken(_)));
    }
    drop(lock);
    let mut kept = vec![name("new", alive), name("break", other), name("new", other)];
    kept.sort();
    assert_eq!(names_beside(&path), kept);
}

fn sixteen_mixed_breakers_of_a_dead_marker_leave_one_holder_and_no_names() -> Result<(), Skip> {
    let home = TestHome::new();
    let path = lock_path(&home);
    let mut peers = (0..8).map(|_| Filelock::reference().peer(&home)).collect::<Result<Vec<_>, _>>()?;
    for _ in 0..25 {
        leave_dead_marker(&path);
        let question = json!({"do": "acquire", "path": path, "timeout": 0.02});
        for peer in &mut peers {
            peer.ask(&question);
        }
        let ours: Vec<_> = (0..8)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || take_within(&path, Duration::from_millis(20)).ok())
            })
            .collect();
        let ours: Vec<_> = ours.into_iter().filter_map(|thread| thread.join().unwrap()).collect();
        let theirs: Vec<_> = peers.iter().map(|peer| peer.answer() == "taken").collect();
        let holders = ours.len() + theirs.iter().filter(|&&taken| taken).count();
        assert_eq!(holders, 1, "{} of ours and {theirs:?}", ours.len());
        for guard in &ours {
            expect_held(guard, "the one holder");
        }
        drop(ours);
        for (peer, _) in peers.iter_mut().zip(&theirs).filter(|(_, taken)| **taken) {
            peer.release(&path);
        }
        wait_until_true(Duration::from_secs(5), "no name is left", || names_beside(&path).is_empty());
        assert_eq!(inode(&path), None);
    }
    Ok(())
}
