//! What others could do to a home: take it over, swap its files, block its readers, speak through its environment.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::fs::{CWD, FileType, RenameFlags, chown, mknodat, renameat_with};
use rustix::process::{Gid, Signal, Uid};

use crate::support::home::{PROGRAM, finish, make_private, pid_in};
use crate::support::{Background, SOON, Skip, TestHome, processes, requires_root, stays_true, wait_until};

cases! {
    a_directory_that_others_can_write_is_refused,
    a_directory_of_another_user_is_refused,
    a_directory_made_in_advance_by_another_user_in_a_shared_place_is_refused,
    a_swapped_file_never_leads_a_write_astray,
    a_write_that_follows_links_would_change_the_victim,
    a_strange_thing_at_any_path_blocks_nobody,
    a_plain_open_of_a_fifo_would_block,
    a_strange_signal_or_task_file_blocks_nobody,
    the_environment_of_the_caller_does_not_reach_the_watcher,
    a_program_of_the_same_name_in_path_is_not_started,
    a_notifier_that_is_relative_or_missing_or_writable_by_others_is_refused,
    a_notifier_that_others_can_write_is_never_run,
    a_check_that_others_can_write_is_never_run,
}

/// What is on disk, without content: enough to see that nothing was made, removed or changed in kind.
fn names(directory: &Path) -> Vec<(PathBuf, u32, u32)> {
    let mut all = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        let facts = fs::symlink_metadata(&path).unwrap();
        all.push((path.clone(), facts.mode(), facts.uid()));
        if facts.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()));
        }
    }
    all.sort();
    all
}

/// Neither `run` nor `arm` works, both name the path, and nothing on disk changes.
#[track_caller]
fn is_refused(home: &TestHome, path: &Path, what: &str) {
    let before = names(&home.root());
    let run = home.ask(&["run"]).expect_code(1);
    assert!(run.stderr.contains(path.to_str().unwrap()), "{what}: {run:?}");
    let arm = home.ask(&["arm", "--no-wait"]).expect_code(1);
    assert!(arm.stdout.starts_with("watcher: FAILED - ") && arm.lines().len() == 1, "{what}: {arm:?}");
    assert!(arm.stdout.contains(path.to_str().unwrap()), "{what}: {arm:?}");
    assert_eq!(names(&home.root()), before, "{what}: nothing has changed");
}

fn a_directory_that_others_can_write_is_refused() {
    for mode in [0o770, 0o707, 0o777, 0o1777] {
        let home = TestHome::new();
        home.make_watch();
        for directory in [home.state().join("watch"), home.state()] {
            fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
            is_refused(&home, &directory, &format!("mode {mode:o}"));
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        }
        home.watcher();
    }
}

fn a_directory_of_another_user_is_refused() -> Result<(), Skip> {
    requires_root()?;
    let home = TestHome::new();
    home.make_watch();
    for directory in [home.state().join("watch"), home.state()] {
        chown(&directory, Some(Uid::from_raw(65534)), Some(Gid::from_raw(65534))).unwrap();
        is_refused(&home, &directory, "another owner");
        chown(&directory, Some(Uid::ROOT), Some(Gid::ROOT)).unwrap();
    }
    home.watcher();
    Ok(())
}

fn a_directory_made_in_advance_by_another_user_in_a_shared_place_is_refused() -> Result<(), Skip> {
    requires_root()?;
    let home = TestHome::new();
    let shared = home.root().join("shared");
    make_private(&shared.join("state"));
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).unwrap();
    chown(shared.join("state"), Some(Uid::from_raw(65534)), None).unwrap();
    let state = shared.join("state");
    let answer = home.ask(&["--state", state.to_str().unwrap(), "run"]).expect_code(1);
    assert!(answer.stderr.contains(state.to_str().unwrap()), "{answer:?}");
    assert!(answer.stderr.contains("65534"), "it says whose it is: {answer:?}");
    assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
    Ok(())
}

/// A file that somebody wants changed, and what it was.
struct Victim {
    path: PathBuf,
    before: (Vec<u8>, u32, i64, i64, u64),
}

impl Victim {
    fn new(home: &TestHome) -> Self {
        let path = home.scratch().join("victim");
        fs::write(&path, "precious\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let before = Self::facts(&path);
        Self { path, before }
    }

    fn facts(path: &Path) -> (Vec<u8>, u32, i64, i64, u64) {
        let facts = fs::symlink_metadata(path).unwrap();
        (fs::read(path).unwrap(), facts.mode(), facts.mtime(), facts.mtime_nsec(), facts.ino())
    }

    #[track_caller]
    fn is_unharmed(&self, what: &str) {
        assert_eq!(Self::facts(&self.path), self.before, "the victim of {what}");
    }
}

const DECOYS: [&str; 6] = ["link", "dangling", "hard", "fifo", "socket", "directory"];

/// Puts something else than a file of ours at a path.
fn decoy(kind: &str, path: &Path, victim: &Path) {
    match kind {
        "link" => symlink(victim, path).unwrap(),
        "dangling" => symlink("/no/such/file/anywhere", path).unwrap(),
        "hard" => fs::hard_link(victim, path).unwrap(),
        "fifo" => mknodat(CWD, path, FileType::Fifo, 0o600.into(), 0).unwrap(),
        "socket" => drop(UnixListener::bind(path).unwrap()),
        "directory" => fs::create_dir(path).unwrap(),
        other => panic!("no decoy {other}"),
    }
}

fn remove(path: &Path) {
    let Ok(facts) = fs::symlink_metadata(path) else { return };
    if facts.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
}

/// Swaps a file of a running home with something else and back, as fast as it can, until told to stop.
struct Swapper {
    stop: Arc<AtomicBool>,
    swaps: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Swapper {
    fn start(path: PathBuf, decoy: PathBuf) -> Self {
        let (stop, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&swaps));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if renameat_with(CWD, &path, CWD, &decoy, RenameFlags::EXCHANGE).is_ok() {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { stop, swaps, thread: Some(thread) }
    }

    fn finish(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.swaps.load(Ordering::Relaxed)
    }
}

fn a_swapped_file_never_leads_a_write_astray() {
    let mut swaps = 0;
    for name in ["owner.json", "beat.json", "generation", "lock"] {
        for kind in DECOYS {
            let home = TestHome::with(&["poll=20ms", "arm_timeout=500ms"]);
            let victim = Victim::new(&home);
            drop(home.watcher());
            let decoy_path = home.scratch().join("decoy");
            decoy(kind, &decoy_path, &victim.path);
            let swapper = Swapper::start(home.watch(name), decoy_path);
            let what = format!("{name} and {kind}");
            for _ in 0..2 {
                // Whether it holds, leaves or refuses is its choice; hanging or writing through the decoy is not.
                let watcher = home.spawn(&["run"]);
                home.ask(&["status"]);
                home.ask(&["guard"]).expect_code(0);
                watcher.signal(Signal::TERM);
                let answer = watcher.finish(SOON);
                assert!(!answer.stderr.contains("panicked"), "{what}: {answer:?}");
                assert_eq!(answer.signal.filter(|&signal| signal != 15), None, "{what}: {answer:?}");
            }
            swaps += swapper.finish();
            victim.is_unharmed(&what);
            // What the attacker left behind is a thing of its own at that path; without it, the home works.
            remove(&home.watch(name));
            home.watcher();
        }
    }
    assert!(swaps > 10_000, "only {swaps} swaps");
}

/// The twin: a plain write follows the link.
fn a_write_that_follows_links_would_change_the_victim() {
    let home = TestHome::new();
    let victim = Victim::new(&home);
    let path = home.scratch().join("owner.json");
    decoy("link", &path, &victim.path);
    fs::write(&path, "{}").unwrap();
    assert_ne!(Victim::facts(&victim.path), victim.before);
}

fn a_strange_thing_at_any_path_blocks_nobody() {
    let files = [
        "lock",
        "owner.json",
        "beat.json",
        "generation",
        "seen.json",
        "history.jsonl",
        "stop.json",
        "episode.json",
        "log/watch.log",
        "wakes",
        "inbox",
        "waiters",
        "log",
    ];
    for name in files {
        for kind in ["link", "hard", "fifo", "socket", "directory"] {
            let is_directory = ["wakes", "inbox", "waiters", "log"].contains(&name);
            if is_directory && kind == "directory" {
                continue;
            }
            let home = TestHome::with(&["arm_timeout=2s"]);
            home.make_watch();
            home.meta("task", &["window=none"]);
            make_private(&home.watch("log"));
            let victim = Victim::new(&home);
            remove(&home.watch(name));
            decoy(kind, &home.watch(name), &victim.path);
            let what = format!("{kind} at {name}");
            let mut watcher = home.spawn(&["run"]);
            let refused = wait_until(SOON, &format!("it watches or refuses ({what})"), || match watcher.ended() {
                Some(status) => Some(Some(status)),
                // A beat that cannot be written to its file is seen beside the lock.
                None => (home.verdict() == "ok").then_some(None),
            });
            for command in ["status", "guard", "drain"] {
                let answer = home.ask(&[command]);
                assert!(answer.took < Duration::from_secs(5), "{what}: {answer:?}");
                assert!(!answer.stderr.contains("panicked"), "{what}: {answer:?}");
            }
            if let Some(status) = refused {
                assert_eq!(status.code(), Some(1), "{what}: {}", watcher.stderr());
                let file = name.split('/').next_back().unwrap();
                let named = file.split('.').next().unwrap();
                assert!(watcher.stderr().contains(named), "{what}: it names the path: {}", watcher.stderr());
            } else {
                watcher.signal(Signal::TERM);
                watcher.finish(SOON).expect_code(0);
            }
            victim.is_unharmed(&what);
        }
    }
}

/// The twin: opening a FIFO without care waits for a writer that never comes.
fn a_plain_open_of_a_fifo_would_block() {
    let home = TestHome::new();
    let path = home.scratch().join("fifo");
    decoy("fifo", &path, &path);
    let mut command = home.bare("cat");
    command.arg(&path);
    let mut reader = Background::spawn(command);
    stays_true(Duration::from_millis(300), "it waits for a writer", || reader.ended().is_none());
}

fn a_strange_signal_or_task_file_blocks_nobody() {
    let home = TestHome::with(&["poll=50ms", "check_interval=50ms"]);
    home.make_state();
    let victim = Victim::new(&home);
    for name in ["a.status", "a.turn-ended", "a.meta", "a.check.sh"] {
        for kind in DECOYS {
            decoy(kind, &home.state().join(format!("{kind}-{name}")), &victim.path);
        }
    }
    let watcher = home.watcher();
    let first = home.beat().unwrap()["counter"].as_u64().unwrap();
    wait_until(SOON, "the loop goes round ten times", || {
        (home.beat()?["counter"].as_u64()? >= first + 10).then_some(())
    });
    home.write_status("real", "done\n");
    wait_until(SOON, "a real signal is delivered", || {
        home.ask(&["drain"]).stdout.contains("real.status").then_some(())
    });
    for command in ["status", "guard"] {
        assert!(home.ask(&[command]).took < Duration::from_secs(5));
    }
    assert!(processes::is_alive(watcher.pid()));
    victim.is_unharmed("signals");
}

fn the_environment_of_the_caller_does_not_reach_the_watcher() {
    let home = TestHome::new();
    let elsewhere = TestHome::new();
    let mut arm = home.command(&["arm", "--no-wait"]);
    let secrets = [
        ("LD_PRELOAD", "/no/such/library.so"),
        ("IFS", "x"),
        ("BASH_ENV", "/no/such/script"),
        ("API_TOKEN", "secret"),
        ("FM_HOME", elsewhere.root().to_str().unwrap()),
        ("FM_STATE_OVERRIDE", elsewhere.state().to_str().unwrap()),
        ("FM_WATCH_UNHEARD_OF", "1"),
    ]
    .map(|(name, value)| (name, value.to_owned()));
    arm.envs(secrets.clone());
    let watcher = pid_in(&finish(arm).expect_code(0).stdout).unwrap();
    let environment = fs::read(format!("/proc/{watcher}/environ")).unwrap();
    let names: Vec<_> = environment
        .split(|&byte| byte == 0)
        .filter_map(|pair| String::from_utf8_lossy(pair).split_once('=').map(|(name, _)| name.to_owned()))
        .collect();
    for (name, _) in secrets {
        assert!(!names.iter().any(|other| other == name), "{name} in {names:?}");
    }
    assert!(names.iter().any(|name| name == "PATH"), "{names:?}");
    assert_eq!(home.pid(), Some(watcher));
    assert!(!elsewhere.state().exists(), "the other home is untouched");
    let line = processes::command_line(watcher).unwrap().join(" ");
    assert!(!line.contains("secret"), "{line}");
}

fn a_program_of_the_same_name_in_path_is_not_started() {
    let home = TestHome::new();
    let bin = home.scratch().join("bin");
    make_private(&bin);
    for name in ["fm-watch", "sh", "true"] {
        fs::write(bin.join(name), format!("#!/bin/bash\ntouch {}/started\n", home.scratch().display())).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut arm = home.command(&["arm", "--no-wait"]);
    arm.env("PATH", &bin);
    let watcher = pid_in(&finish(arm).expect_code(0).stdout).unwrap();
    let executable = fs::read_link(format!("/proc/{watcher}/exe")).unwrap();
    assert_eq!(executable, fs::canonicalize(*PROGRAM).unwrap());
    assert!(!home.scratch().join("started").exists());
}

fn a_notifier_that_is_relative_or_missing_or_writable_by_others_is_refused() {
    let home = TestHome::new();
    let open = home.scratch().join("open");
    fs::write(&open, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    for program in ["tell-me", "bin/tell-me", "/no/such/program", open.to_str().unwrap()] {
        home.configure(&format!("[[notify]]\nexec = [\"{program}\"]\n"));
        let answer = home.ask(&["config", "check"]).expect_code(2);
        let said = format!("{}{}", answer.stdout, answer.stderr);
        assert!(said.contains(program), "it names the program: {answer:?}");
    }
}

fn a_notifier_that_others_can_write_is_never_run() {
    let home = TestHome::new();
    let (open, closed) = (home.scratch().join("open"), home.scratch().join("closed"));
    for (path, mode) in [(&open, 0o777), (&closed, 0o700)] {
        fs::write(path, "#!/bin/sh\ncat > /dev/null\ntouch \"$0.was-run\"\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let tables = [&open, &closed].map(|path| format!("[[notify]]\nexec = [\"{}\"]\n", path.display()));
    home.configure(&tables.concat());
    let mut watcher = home.spawn(&["run"]);
    // It may refuse to start at all, or refuse the one program and run the other.
    let refused = wait_until(SOON, "it watches or refuses", || match watcher.ended() {
        Some(_) => Some(true),
        None => home.beat().is_some().then_some(false),
    });
    if refused {
        assert!(watcher.stderr().contains(open.to_str().unwrap()), "{}", watcher.stderr());
    } else {
        home.write_status("task", "done\n");
        wait_until(SOON, "the other notifier was run", || home.scratch().join("closed.was-run").exists().then_some(()));
        home.write_status("task", "once more\n");
        wait_until(SOON, "the second wake is there", || {
            home.ask(&["drain"]).stdout.contains("task.status").then_some(())
        });
    }
    assert!(!home.scratch().join("open.was-run").exists());
}

fn a_check_that_others_can_write_is_never_run() {
    let home = TestHome::with(&["check_interval=100ms"]);
    home.make_state();
    let (open, closed) = (home.state().join("open.check.sh"), home.state().join("closed.check.sh"));
    for (path, mode) in [(&open, 0o777), (&closed, 0o700)] {
        fs::write(path, format!("#!/bin/sh\ntouch {}/$(basename \"$0\").was-run\n", home.scratch().display())).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let _watcher = home.watcher();
    let was_run = |name: &str| home.scratch().join(format!("{name}.check.sh.was-run"));
    wait_until(SOON, "the trusted check has run", || was_run("closed").exists().then_some(()));
    fs::remove_file(was_run("closed")).unwrap();
    wait_until(SOON, "the trusted check has run again", || was_run("closed").exists().then_some(()));
    assert!(!was_run("open").exists());
}
