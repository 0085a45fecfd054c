//! Whatever else is at the path of a lock or of its pid: an answer in time, and not a change to it.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fm_watch::lock::{Attempt, Lock};

use super::arena::{Arena, lay, lay_dead};

cases! {
    what_is_no_lock_at_the_path_is_an_error_and_stays_as_it_is,
    what_is_no_file_at_the_pid_is_an_error_and_stays_as_it_is,
    what_is_no_lock_at_the_mutex_is_an_error_and_stays_as_it_is,
    a_huge_pid_file_is_read_to_its_bound_only,
    an_identity_that_is_no_text_proves_nothing_and_blocks_nobody,
}

/// Content, kind, size, mode and times.
fn portrait(path: &Path) -> (u32, u64, i64, i64, Option<Vec<u8>>) {
    let facts = fs::symlink_metadata(path).unwrap();
    let content = facts.is_file().then(|| fs::read(path).unwrap());
    (facts.mode(), facts.ino(), facts.mtime_nsec(), facts.ctime_nsec(), content)
}

/// Makes something at a path, beside a victim.
type Make = fn(&Path, &Path);

/// Things that are no lock, each made at a path beside a victim that they may lead to.
fn things() -> Vec<(&'static str, Make)> {
    vec![
        ("is a regular file", |path, _| fs::write(path, "precious\n").unwrap()),
        ("is a FIFO", |path, _| {
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        }),
        ("is a socket", |path, _| drop(UnixListener::bind(path).unwrap())),
        ("is a symbolic link", |path, victim| symlink(victim, path).unwrap()),
        ("is a symbolic link", |path, _| symlink("/dev/zero", path).unwrap()),
        ("is a symbolic link", |path, _| symlink("nowhere", path).unwrap()),
        ("is a symbolic link", |path, _| symlink(path, path).unwrap()),
    ]
}

#[track_caller]
fn refuses(arena: &Arena, thing: &Path, victim: &Path, words: &str) {
    let before = (portrait(thing), portrait(victim), arena.names());
    let began = Instant::now();
    let error = arena.ours().acquire(Duration::from_secs(60)).map(|_| "no error").unwrap_err().to_string();
    assert!(began.elapsed() < Duration::from_secs(10), "{words}: {:?}", began.elapsed());
    assert!(error.contains(words) && error.contains(thing.to_str().unwrap()), "{words}: {error}");
    let holder = arena.ours().holder();
    assert_eq!(holder.pid, None, "{words}: {holder:?}");
    assert_eq!((portrait(thing), portrait(victim), arena.names()), before, "{words}: something has changed");
}

fn a_victim(arena: &Arena) -> PathBuf {
    let victim = arena.home.scratch().join("victim");
    fs::write(&victim, "4000000\n").unwrap();
    victim
}

fn what_is_no_lock_at_the_path_is_an_error_and_stays_as_it_is() {
    for (words, make) in things() {
        let arena = Arena::new();
        let victim = a_victim(&arena);
        make(&arena.lock, &victim);
        refuses(&arena, &arena.lock, &victim, words);
    }
}

fn what_is_no_file_at_the_pid_is_an_error_and_stays_as_it_is() {
    let directory: (&str, Make) = ("is a directory", |path, _| fs::create_dir(path).unwrap());
    for (words, make) in things().into_iter().skip(1).chain([directory]) {
        let arena = Arena::new();
        let victim = a_victim(&arena);
        let pid = lay(&arena.lock, "odd000", "").join("pid");
        make(&pid, &victim);
        refuses(&arena, &pid, &victim, words);
    }
}

fn what_is_no_lock_at_the_mutex_is_an_error_and_stays_as_it_is() {
    for (words, make) in things() {
        let arena = Arena::new();
        let victim = a_victim(&arena);
        lay_dead(&arena.lock);
        make(&arena.steal(), &victim);
        let before = (portrait(&arena.steal()), arena.names());
        let error = arena.ours().try_acquire().map(|_| "no error").unwrap_err().to_string();
        assert!(error.contains(words) && error.contains(".steal"), "{words}: {error}");
        assert_eq!((portrait(&arena.steal()), arena.names()), before, "{words}: something has changed");
    }
}

fn a_huge_pid_file_is_read_to_its_bound_only() {
    let arena = Arena::new();
    let pid = lay(&arena.lock, "huge00", "").join("pid");
    // Sparse, so that only reading it would cost anything.
    fs::File::create(&pid).unwrap().set_len(1 << 40).unwrap();
    let began = Instant::now();
    assert!(arena.try_ours().is_none(), "as peers have it: no pid yet");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

fn an_identity_that_is_no_text_proves_nothing_and_blocks_nobody() {
    let things: [fn(&Path); 4] = [
        |path| fs::write(path, b"\xff\xfe\0\0").unwrap(),
        |path| fs::File::create(path).unwrap().set_len(1 << 40).unwrap(),
        |path| fs::create_dir(path).unwrap(),
        |path| symlink("/dev/zero", path).unwrap(),
    ];
    for make in things {
        let arena = Arena::new();
        let owner = lay(&arena.lock, "live00", &std::process::id().to_string());
        make(&owner.join("pid-identity"));
        let Attempt::Busy(holder) = arena.ours().try_acquire().unwrap() else { panic!("its process lives") };
        assert_eq!(holder.pid, Some(std::process::id()));
    }
}
