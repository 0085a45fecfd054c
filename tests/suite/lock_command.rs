//! `lock`: a command under a lock, for as long as it needs it and no longer, and as if nobody stood before it.

use std::ffi::OsStr;
use std::fs;
use std::io::{PipeWriter, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::ValueEnum;
use fm_watch::lock::Kind;
use fm_watch::system::platform::lock_taker;
use fm_watch::system::LockTaker;
use rustix::fs::{CWD, FileType, mknodat};
use rustix::process::Signal;

use crate::support::background::{wait_for_end, wait_for_state};
use crate::support::gate::Gate;
use crate::support::home::{PROGRAM, finish};
use crate::support::strace::{requires_strace, traced};
#[cfg(feature = "sync-points")]
use crate::support::sync::{Points, kill_at, without};
use crate::support::{
    Answer, Background, SOON, Skip, TestHome, processes, requires, requires_root, stays_true, wait_until,
    wait_until_true,
};

cases! {
    it_exits_as_its_command_does,
    a_command_that_cannot_be_executed_leaves_the_lock_free,
    a_command_line_that_makes_no_sense_exits_with_2_and_makes_nothing,
    the_help_says_who_holds_for_each_kind,
    a_busy_lock_names_its_holder_and_runs_nothing,
    it_waits_at_most_as_long_as_it_may,
    it_waits_until_the_holder_leaves,
    a_signal_ends_the_waiting,
    an_ignored_signal_does_not_end_the_waiting,
    it_excludes_flock_and_flock_excludes_it,
    of_many_at_once_one_runs_at_a_time,
    without_a_lock_many_run_at_a_time,
    a_directory_can_be_locked,
    a_strange_thing_at_the_path_is_refused_and_not_touched,
    a_file_that_may_not_be_read_is_refused,
    what_may_only_be_read_can_be_locked,
    the_command_has_the_descriptors_of_the_caller_and_the_lock_and_no_others,
    the_command_finds_everything_as_the_caller_left_it,
    the_streams_are_the_commands,
    a_signal_to_it_reaches_the_command,
    an_alarm_of_the_caller_reaches_the_command,
    killed_it_leaves_the_lock_to_the_command,
    a_descendant_that_inherited_the_lock_keeps_it,
    a_lost_lock_ends_the_command,
    a_command_that_removes_the_file_as_its_last_step_is_not_disturbed,
    a_key_of_the_terminal_reaches_the_command_once,
    job_control_stops_continues_and_interrupts_both,
    the_end_of_the_terminal_reaches_the_command,
    an_error_of_the_lock_is_never_taken_for_the_lock,
    an_interrupted_lock_is_tried_again,
    #[cfg(feature = "sync-points")]
    a_file_replaced_between_open_and_lock_makes_no_second_holder,
    #[cfg(feature = "sync-points")]
    without_the_second_look_a_replaced_file_makes_two_holders,
    #[cfg(feature = "sync-points")]
    without_a_descriptor_the_kill_of_the_wrapper_frees_the_lock_of_a_running_command,
    #[cfg(feature = "sync-points")]
    without_a_choice_of_signals_a_key_reaches_the_command_twice,
    #[cfg(feature = "sync-points")]
    without_a_vigil_a_lost_lock_is_held_twice,
    #[cfg(feature = "sync-points")]
    the_lock_is_released_before_the_pid_is_given_back,
    #[cfg(feature = "sync-points")]
    without_that_order_the_pid_is_gone_while_the_lock_is_held,
    #[cfg(feature = "sync-points")]
    killed_before_it_gave_permission_it_leaves_nothing,
    #[cfg(feature = "sync-points")]
    a_command_that_waits_for_permission_answers_as_any_other,
    #[cfg(feature = "sync-points")]
    a_command_that_waits_for_permission_never_outlives_the_waiting,
}

/// A path in the test's own directory.
fn at(home: &TestHome, name: &str) -> PathBuf {
    home.scratch().join(name)
}

/// `lock`, with these words before and after the path.
fn locking(home: &TestHome, before: &[&str], path: &Path, command: &[&str]) -> Command {
    let mut locking = home.bare(*PROGRAM);
    locking.arg("lock").args(before).arg(path).arg("--").args(command);
    locking
}

#[track_caller]
fn lock(home: &TestHome, before: &[&str], path: &Path, command: &[&str]) -> Answer {
    finish(locking(home, before, path, command))
}

/// Whether the kernel's table shows no lock. It takes nothing.
fn is_free(path: &Path) -> bool {
    matches!(lock_taker(&fs::File::open(path).unwrap()).unwrap(), LockTaker::NotSeen)
}

/// What flock(1) says: 0 it was free, 1 it was not.
#[track_caller]
fn real_flock(home: &TestHome, path: &Path) -> i32 {
    let mut flock = home.bare("flock");
    flock.arg("-n").arg(path).arg("true");
    finish(flock).code.unwrap()
}

/// A FIFO on which commands of a test wait for the word to go on.
struct Word {
    path: PathBuf,
}

impl Word {
    fn new(home: &TestHome, name: &str) -> Self {
        let path = at(home, name);
        mknodat(CWD, &path, FileType::Fifo, 0o600.into(), 0).unwrap();
        Self { path }
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Gives it to somebody who waits for it.
    #[track_caller]
    fn give(&self) {
        let mut open = fs::OpenOptions::new();
        open.write(true).custom_flags(libc::O_NONBLOCK);
        let mut fifo = wait_until(SOON, "somebody waits for the word", || open.open(&self.path).ok());
        fifo.write_all(b"go\n").unwrap();
    }
}

/// A command under a lock that runs until it gets the word, and then exits with 7.
struct Held {
    wrapper: Background,
    command: u32,
    word: Word,
}

/// Says its pid, waits for the word, and leaves with a code of its own.
const HOLD: &str = r#"echo "held $$"; read -r _ < "$1"; exit 7"#;

impl Held {
    #[track_caller]
    fn begin(home: &TestHome, path: &Path, name: &str) -> Self {
        let word = Word::new(home, name);
        let wrapper = Background::spawn(locking(home, &[], path, &["sh", "-c", HOLD, "sh", word.path()]));
        Self::of(wrapper, word)
    }

    #[track_caller]
    fn of(wrapper: Background, word: Word) -> Self {
        let command = number_after(&wrapper.wait_for_line("held "), "held ");
        Self { wrapper, command, word }
    }

    #[track_caller]
    fn end(self) {
        self.word.give();
        self.wrapper.finish(SOON).expect_code(7);
    }
}

#[track_caller]
fn number_after(line: &str, text: &str) -> u32 {
    line.split_once(text).unwrap().1.trim().parse().unwrap()
}

fn it_exits_as_its_command_does() {
    let home = TestHome::plain();
    let path = at(&home, "lock");
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("exit 75", 75), ("kill -TERM $$", 143), ("kill -9 $$", 137)] {
        let answer = lock(&home, &[], &path, &["sh", "-c", script]).expect_code(code);
        assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("", ""), "{script}");
        assert!(is_free(&path), "{script}");
    }
    assert_eq!(fs::metadata(&path).unwrap().len(), 0, "the file stays, and stays empty");
}

fn a_command_that_cannot_be_executed_leaves_the_lock_free() {
    let home = TestHome::plain();
    let (path, plain) = (at(&home, "lock"), at(&home, "plain"));
    fs::write(&plain, "no program").unwrap();
    for (program, code) in [(at(&home, "missing"), 127), (plain, 126), (home.scratch().to_owned(), 126)] {
        let program = program.to_str().unwrap();
        let answer = lock(&home, &[], &path, &[program]).expect_code(code);
        assert!(answer.stderr.contains(program) && answer.stderr.lines().count() == 1, "{answer:?}");
        assert!(is_free(&path), "{program}");
    }
    let answer = lock(&home, &[], &path, &["fm-watch-has-no-such-program"]).expect_code(127);
    assert!(answer.stderr.contains("fm-watch-has-no-such-program"), "{answer:?}");
    lock(&home, &[], &path, &[""]).expect_code(127);
    // A script without an interpreter line is the shell's, as with every program that starts others by name.
    let script = at(&home, "script");
    fs::write(&script, "exit 5\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    lock(&home, &[], &path, &[script.to_str().unwrap()]).expect_code(5);
}

fn a_command_line_that_makes_no_sense_exits_with_2_and_makes_nothing() {
    let home = TestHome::plain();
    let path = at(&home, "lock");
    let name = path.to_str().unwrap();
    for words in [
        &["lock"][..],
        &["lock", name],
        &["lock", name, "--"],
        &["lock", name, "true"],
        &["lock", "--try", "--wait", "1s", name, "--", "true"],
        &["lock", "--wait", "soon", name, "--", "true"],
        &["lock", "--kind", "wish", name, "--", "true"],
    ] {
        let mut command = home.bare(*PROGRAM);
        command.args(words);
        let answer = finish(command).expect_code(2);
        assert!(answer.stdout.is_empty() && !answer.stderr.is_empty(), "{answer:?}");
    }
    assert!(!path.exists());
}

fn the_help_says_who_holds_for_each_kind() {
    let home = TestHome::plain();
    let help = home.ask(&["lock", "--help"]).expect_code(0).stdout;
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let who = help.split_once("Who holds it: ").unwrap().1.split_once("Exit codes").unwrap().0;
    for kind in Kind::value_variants() {
        let name = kind.to_possible_value().unwrap().get_name().to_owned();
        assert!(who.contains(&name), "{name}: {who}");
    }
}

fn a_busy_lock_names_its_holder_and_runs_nothing() {
    let home = TestHome::plain();
    let (path, trace) = (at(&home, "lock"), at(&home, "trace"));
    let held = Held::begin(&home, &path, "word");
    let touch = ["touch", trace.to_str().unwrap()];
    for format in [&["--try"][..], &["--try", "--json"], &["--wait", "0s"]] {
        let answer = lock(&home, format, &path, &touch).expect_code(75);
        assert_eq!(answer.stdout, "", "stdout is the command's");
        assert_eq!(answer.stderr.lines().count(), 1, "{answer:?}");
        // The kernel names who took it: the parent, which took it for both.
        let holder = format!("{} is held by pid {}; ", path.display(), held.wrapper.pid());
        assert!(answer.stderr.contains(&holder) && answer.stderr.contains("again later"), "{answer:?}");
    }
    let answer = lock(&home, &["--try", "--quiet"], &path, &touch).expect_code(75);
    assert_eq!(answer.stderr, "");
    assert!(!trace.exists());
    held.end();
    lock(&home, &["--try"], &path, &touch).expect_code(0);
    assert!(trace.exists());
}

fn it_waits_at_most_as_long_as_it_may() {
    let home = TestHome::plain();
    let path = at(&home, "lock");
    let held = Held::begin(&home, &path, "word");
    let limit = Duration::from_millis(300);
    let answer = lock(&home, &["--wait", "300ms"], &path, &["true"]).expect_code(75);
    assert!(answer.took >= limit && answer.took < limit + Duration::from_secs(3), "{answer:?}");
    assert!(answer.stderr.contains("300ms"), "{answer:?}");
    held.end();
}

fn it_waits_until_the_holder_leaves() {
    let home = TestHome::plain();
    let path = at(&home, "lock");
    for patience in [&[][..], &["--wait", "1h"]] {
        let held = Held::begin(&home, &path, &format!("word{}", patience.len()));
        let mut waiter = Background::spawn(locking(&home, patience, &path, &["echo", "mine"]));
        stays_true(Duration::from_millis(100), "it waits", || waiter.ended().is_none());
        assert_eq!(waiter.stdout(), "");
        held.end();
        assert_eq!(waiter.finish(SOON).expect_code(0).stdout, "mine\n");
    }
}

fn a_signal_ends_the_waiting() {
    let home = TestHome::plain();
    let (path, trace) = (at(&home, "lock"), at(&home, "trace"));
    let held = Held::begin(&home, &path, "word");
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129), (Signal::USR1, 138)] {
        let waiter = Background::spawn(locking(&home, &[], &path, &["touch", trace.to_str().unwrap()]));
        wait_until_listening(waiter.pid());
        waiter.signal(signal);
        let answer = waiter.finish(SOON).expect_code(code);
        assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("", ""), "{answer:?}");
    }
    held.end();
    assert!(!trace.exists());
}

/// Until the wrapper holds signals back.
#[track_caller]
fn wait_until_listening(pid: u32) {
    wait_until_true(SOON, "it listens to signals", || signal_set(pid, "SigBlk:") != 0);
}

fn signal_set(pid: u32, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let set = status.lines().find_map(|other| other.strip_prefix(line));
    set.map_or(0, |set| u64::from_str_radix(set.trim(), 16).unwrap())
}

fn an_ignored_signal_does_not_end_the_waiting() {
    let home = TestHome::plain();
    let path = at(&home, "lock");
    let held = Held::begin(&home, &path, "word");
    // As nohup(1) does it.
    let mut command = home.bare("sh");
    let script = r#"trap "" HUP; exec "$1" lock "$2" -- echo mine"#;
    command.args(["-c", script, "sh", *PROGRAM]).arg(&path);
    let mut waiter = Background::spawn(command);
    wait_until_listening(waiter.pid());
    waiter.signal(Signal::HUP);
    stays_true(Duration::from_millis(100), "it waits", || waiter.ended().is_none());
    held.end();
    assert_eq!(waiter.finish(SOON).expect_code(0).stdout, "mine\n");
}

fn it_excludes_flock_and_flock_excludes_it() -> Result<(), Skip> {
    requires("flock")?;
    let home = TestHome::plain();
    let path = at(&home, "lock");
    let held = Held::begin(&home, &path, "ours");
    assert_eq!(real_flock(&home, &path), 1);
    held.end();
    assert_eq!(real_flock(&home, &path), 0);
    let word = Word::new(&home, "theirs");
    let mut theirs = home.bare("flock");
    theirs.arg(&path).args(["sh", "-c", HOLD, "sh", word.path()]);
    let theirs = Background::spawn(theirs);
    theirs.wait_for_line("held ");
    let answer = lock(&home, &["--try"], &path, &["true"]).expect_code(75);
    assert!(answer.stderr.contains(&format!("pid {}", theirs.pid())), "{answer:?}");
    word.give();
    theirs.finish(SOON).expect_code(7);
    lock(&home, &["--try"], &path, &["true"]).expect_code(0);
    Ok(())
}

/// Adds one to a number in a file, as nobody should who is not alone.
const COUNT: &str = r#"read -r n < "$1"; echo $((n + 1)) > "$1""#;
const CONTENDERS: u32 = 32;

/// What 32 contenders that each count one up leave in a file, half of them started by another program.
fn count_of_many(home: &TestHome, contender: impl Fn(u32, &str) -> Command) -> u32 {
    let count = at(home, "count");
    fs::write(&count, "0\n").unwrap();
    let gate = Gate::new();
    let all: Vec<_> =
        (0..CONTENDERS).map(|number| gate.spawn(home, &contender(number, count.to_str().unwrap()))).collect();
    gate.open();
    for contender in all {
        contender.finish(SOON).expect_code(0);
    }
    fs::read_to_string(&count).unwrap().trim().parse().unwrap_or(0)
}

fn of_many_at_once_one_runs_at_a_time() -> Result<(), Skip> {
    requires("flock")?;
    let home = TestHome::plain();
    let path = at(&home, "lock");
    let contender = |number: u32, count: &str| {
        if number.is_multiple_of(2) {
            return locking(&home, &[], &path, &["sh", "-c", COUNT, "sh", count]);
        }
        let mut theirs = home.bare("flock");
        theirs.arg(&path).args(["sh", "-c", COUNT, "sh", count]);
        theirs
    };
    assert_eq!(count_of_many(&home, contender), CONTENDERS);
    Ok(())
}

/// The twin: the same contenders, each with a lock of its own.
fn without_a_lock_many_run_at_a_time() {
    let home = TestHome::plain();
    // It is a race, so it may take more than one try to be lost.
    wait_until_true(SOON, "a count is lost", || {
        let contender = |number: u32, count: &str| {
            locking(&home, &[], &at(&home, &format!("lock{number}")), &["sh", "-c", COUNT, "sh", count])
        };
        count_of_many(&home, contender) < CONTENDERS
    });
}

fn a_directory_can_be_locked() -> Result<(), Skip> {
    requires("flock")?;
    let home = TestHome::plain();
    let path = at(&home, "directory");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("file"), "content").unwrap();
    let held = Held::begin(&home, &path, "word");
    assert_eq!(real_flock(&home, &path), 1);
    lock(&home, &["--try"], &path, &["true"]).expect_code(75);
    held.end();
    assert_eq!(real_flock(&home, &path), 0);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1, "nothing was put there");
    Ok(())
}

fn a_strange_thing_at_the_path_is_refused_and_not_touched() {
    let home = TestHome::plain();
    let victim = at(&home, "victim");
    fs::write(&victim, "precious").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o640)).unwrap();
    let facts = || {
        let facts = fs::metadata(&victim).unwrap();
        (facts.ino(), facts.mode(), facts.mtime_nsec(), facts.ctime_nsec(), facts.size())
    };
    let before = facts();
    let trace = at(&home, "trace");
    symlink(&victim, at(&home, "link")).unwrap();
    symlink(at(&home, "nothing"), at(&home, "dangling")).unwrap();
    mknodat(CWD, at(&home, "fifo"), FileType::Fifo, 0o600.into(), 0).unwrap();
    let _listener = UnixListener::bind(at(&home, "socket")).unwrap();
    for (path, found) in [
        (at(&home, "link"), "is a symbolic link"),
        (at(&home, "dangling"), "is a symbolic link"),
        (at(&home, "fifo"), "is a FIFO"),
        (at(&home, "socket"), "is a socket"),
        (PathBuf::from("/dev/null"), "is a device"),
        (at(&home, "missing/lock"), "No such file"),
        (at(&home, "victim/lock"), "Not a directory"),
    ] {
        let answer = lock(&home, &[], &path, &["touch", trace.to_str().unwrap()]).expect_code(1);
        assert!(answer.stderr.contains(found) && answer.stderr.lines().count() == 1, "{answer:?}");
        let place = if path.parent().unwrap().is_dir() { path.as_path() } else { path.parent().unwrap() };
        assert!(answer.stderr.contains(place.to_str().unwrap()), "{answer:?}");
        assert!(answer.took < Duration::from_secs(5), "{answer:?}");
    }
    assert_eq!(facts(), before, "the victim is as it was");
    assert!(!trace.exists() && !at(&home, "nothing").exists() && !at(&home, "missing").exists());
    assert!(fs::symlink_metadata(at(&home, "fifo")).unwrap().file_type().is_fifo());
}

/// The same, as a user for whom permissions count.
fn by_nobody(home: &TestHome, path: &Path) -> Result<Answer, Skip> {
    requires_root()?;
    requires("setpriv")?;
    let program = at(home, "fm-watch");
    // By another process: one that this process has open for writing could not be executed while another test forks.
    let mut copy = home.bare("cp");
    copy.arg(*PROGRAM).arg(&program);
    finish(copy).expect_code(0);
    fs::set_permissions(home.scratch(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = home.bare("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
    command.arg("lock").arg(path).args(["--", "echo", "held"]).current_dir("/");
    Ok(finish(command))
}

fn a_file_that_may_not_be_read_is_refused() -> Result<(), Skip> {
    let home = TestHome::plain();
    let path = at(&home, "lock");
    fs::write(&path, "secret").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let answer = by_nobody(&home, &path)?.expect_code(1);
    assert!(answer.stderr.contains("Permission denied") && answer.stderr.contains(path.to_str().unwrap()), "{answer:?}");
    assert_eq!(answer.stdout, "");
    Ok(())
}

fn what_may_only_be_read_can_be_locked() -> Result<(), Skip> {
    let home = TestHome::plain();
    let path = at(&home, "lock");
    fs::write(&path, "public").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(by_nobody(&home, &path)?.expect_code(0).stdout, "held\n");
    assert_eq!(fs::read(&path).unwrap(), b"public");
    Ok(())
}

fn the_command_has_the_descriptors_of_the_caller_and_the_lock_and_no_others() {
    let home = TestHome::plain();
    let (path, other) = (at(&home, "lock"), at(&home, "other"));
    let descriptors = |name: &str, before: &[&OsStr]| {
        let word = Word::new(&home, name);
        let mut command = home.bare("sh");
        command.args(["-c", r#"exec 9>> "$1"; shift; exec "$@""#, "sh"]).arg(&other).args(before);
        command.args(["sh", "-c", &format!("echo hello >&9; {HOLD}"), "sh", word.path()]);
        let held = Held::of(Background::spawn(command), word);
        let mut beyond = processes::descriptors(held.command);
        beyond.retain(|(number, _)| *number > 2);
        held.end();
        beyond
    };
    let plain = descriptors("plain", &[]);
    assert!(plain.contains(&(9, other.clone())), "{plain:?}");
    let mut locked =
        descriptors("locked", &[OsStr::new(*PROGRAM), "lock".as_ref(), path.as_ref(), "--".as_ref()]);
    let lock = locked.iter().position(|(_, leads_to)| *leads_to == path).unwrap();
    locked.remove(lock);
    assert_eq!(locked, plain);
    assert_eq!(fs::read(&other).unwrap(), b"hello\nhello\n");
}

fn the_command_finds_everything_as_the_caller_left_it() -> Result<(), Skip> {
    /// Working directory, umask, limits, parent's group, session and terminal, signals, variables.
    const ALL: &str = "pwd -P; umask; ulimit -f; cut -d ' ' -f 5-8 /proc/self/stat; grep ^Sig[BI] /proc/self/status; env";
    let home = TestHome::plain();
    let path = at(&home, "lock");
    for signals in [&[][..], &["--ignore-signal=PIPE,CHLD,XFSZ,HUP,INT,SEGV", "--block-signal=USR1,TERM,WINCH"]] {
        let caller = |words: &[&OsStr]| {
            let mut caller = home.bare("sh");
            let script = r#"umask 026; ulimit -f 1000; cd "$1"; shift; exec env "$@""#;
            caller.args(["-c", script, "sh"]).arg(home.scratch()).args(signals).args(words);
            caller.env("FM_HOME", "elsewhere").env("ODD", "a\nb");
            finish(caller)
        };
        let plain = caller(&["sh", "-c", ALL].map(OsStr::new));
        if plain.code == Some(125) {
            return Err(Skip(format!("env(1) cannot change signals here: {}", plain.stderr.trim())));
        }
        let wrapped = [OsStr::new(*PROGRAM), "lock".as_ref(), path.as_ref(), "--".as_ref(), "sh".as_ref()];
        let wrapped = caller(&[&wrapped[..], &["-c", ALL].map(OsStr::new)].concat()).expect_code(0);
        assert_eq!(wrapped.stdout, plain.stdout, "with {signals:?}");
        assert!(wrapped.stdout.contains("0026") && wrapped.stdout.contains("FM_HOME=elsewhere"), "{wrapped:?}");
    }
    Ok(())
}

fn the_streams_are_the_commands() {
    let home = TestHome::plain();
    let (path, input, output) = (at(&home, "lock"), at(&home, "input"), at(&home, "output"));
    let bytes: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    fs::write(&input, &bytes).unwrap();
    let mut command = home.bare("sh");
    let script = r#"exec "$1" lock "$2" -- sh -c 'cat; echo words >&2' < "$3" > "$4""#;
    command.args(["-c", script, "sh", *PROGRAM]).args([&path, &input, &output]);
    let answer = finish(command).expect_code(0);
    assert_eq!(answer.stderr, "words\n");
    assert!(fs::read(&output).unwrap() == bytes, "every byte passes");
}

/// Says which signal it got, and leaves with 9.
const LISTEN: &str = r#"for s in HUP INT QUIT TERM USR1 USR2; do trap "echo got $s; exit 9" $s; done
    exec 3<> "$1"; echo "held $$"; until read -rt 0.05 -u 3 _; do :; done; exit 7"#;

fn a_signal_to_it_reaches_the_command() -> Result<(), Skip> {
    requires("bash")?;
    let home = TestHome::plain();
    let path = at(&home, "lock");
    for (signal, name) in [
        (Signal::TERM, "TERM"),
        (Signal::HUP, "HUP"),
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
    ] {
        let word = Word::new(&home, name);
        let command = locking(&home, &[], &path, &["bash", "-c", LISTEN, "bash", word.path()]);
        let held = Held::of(Background::spawn(command), word);
        held.wrapper.signal(signal);
        let answer = held.wrapper.finish(SOON).expect_code(9);
        assert!(answer.stdout.ends_with(&format!("got {name}\n")), "{answer:?}");
        assert_eq!(answer.stderr, "");
        assert!(is_free(&path));
    }
    Ok(())
}

fn an_alarm_of_the_caller_reaches_the_command() -> Result<(), Skip> {
    requires("perl")?;
    let home = TestHome::plain();
    let (path, word) = (at(&home, "lock"), Word::new(&home, "word"));
    // A time limit as scripts put it: an alarm outlives the execution of another program, and no fork.
    let mut command = home.bare("perl");
    command.args(["-e", "alarm 1; exec @ARGV", *PROGRAM, "lock"]).arg(&path);
    command.args(["--", "sh", "-c", HOLD, "sh", word.path()]);
    finish(command).expect_code(128 + libc::SIGALRM);
    Ok(())
}

fn killed_it_leaves_the_lock_to_the_command() -> Result<(), Skip> {
    requires("flock")?;
    let home = TestHome::plain();
    let path = at(&home, "lock");
    let Held { wrapper, command, word } = Held::begin(&home, &path, "word");
    wrapper.signal(Signal::KILL);
    // It holds the pipes of the wrapper as well.
    assert_eq!(wrapper.finish(SOON).signal, Some(9));
    assert!(processes::is_alive(command));
    assert_eq!(real_flock(&home, &path), 1);
    let answer = lock(&home, &["--try"], &path, &["true"]).expect_code(75);
    // Outside of the first pid namespace, the kernel's table does not show a lock whose taker has ended.
    let said = ["a process it started holds the lock", "the kernel's table of locks does not show it"];
    assert!(said.iter().any(|said| answer.stderr.contains(said)), "{answer:?}");
    word.give();
    wait_for_end(command, "the command");
    assert_eq!(real_flock(&home, &path), 0);
    Ok(())
}

fn a_descendant_that_inherited_the_lock_keeps_it() -> Result<(), Skip> {
    requires("flock")?;
    requires("bash")?;
    let home = TestHome::plain();
    let (path, word) = (at(&home, "lock"), Word::new(&home, "word"));
    let script = r#"sh -c 'read -r _ < "$1"' sh "$1" > "$1.said" 2>&1 & echo "held $!""#;
    let answer = lock(&home, &[], &path, &["sh", "-c", script, "sh", word.path()]).expect_code(0);
    let descendant = number_after(&answer.stdout, "held ");
    assert!(processes::is_alive(descendant));
    assert_eq!(real_flock(&home, &path), 1);
    word.give();
    wait_for_end(descendant, "the descendant");
    assert_eq!(real_flock(&home, &path), 0);
    // One that closes what it inherited holds nothing.
    let close = r#"for fd in /proc/$$/fd/*; do fd=${fd##*/}; [ "$fd" -le 2 ] || eval "exec $fd>&-"; done"#;
    let script = format!(
        r#"bash -c '{close}; echo > "$1.closed"; read -r _ < "$1"' bash "$1" > "$1.said" 2>&1 & echo "held $!""#
    );
    let answer = lock(&home, &[], &path, &["sh", "-c", &script, "sh", word.path()]).expect_code(0);
    wait_until_true(SOON, "it has closed", || at(&home, "word.closed").exists());
    assert_eq!(real_flock(&home, &path), 0);
    word.give();
    wait_for_end(number_after(&answer.stdout, "held "), "the other descendant");
    Ok(())
}

fn a_lost_lock_ends_the_command() {
    let home = TestHome::plain();
    for (what, lose) in [
        ("removed", (|path: &Path| fs::remove_file(path).unwrap()) as fn(&Path)),
        ("replaced", |path| {
            let other = path.with_extension("other");
            fs::write(&other, "").unwrap();
            fs::rename(other, path).unwrap();
        }),
    ] {
        let path = at(&home, what);
        let held = Held::begin(&home, &path, &format!("word-{what}"));
        lose(&path);
        let answer = held.wrapper.finish(SOON).expect_code(76);
        assert!(processes::has_ended(held.command));
        assert_eq!(answer.stderr.lines().count(), 1, "{answer:?}");
        for said in [path.to_str().unwrap(), &format!("was {what}"), &format!("pid {}", held.command)] {
            assert!(answer.stderr.contains(said), "{said}: {answer:?}");
        }
        assert_eq!(path.exists(), what == "replaced", "what is there now is not touched");
    }
}

fn a_command_that_removes_the_file_as_its_last_step_is_not_disturbed() {
    let home = TestHome::plain();
    let path = at(&home, "lock");
    let answer = lock(&home, &[], &path, &["rm", path.to_str().unwrap()]).expect_code(0);
    assert_eq!(answer.stderr, "");
    assert!(!path.exists());
}

/// A terminal whose keys the test presses.
struct Terminal {
    keys: PipeWriter,
    script: Background,
}

impl Terminal {
    /// A shell command in a terminal of its own.
    fn open(home: &TestHome, command: &str) -> Self {
        let (behind, keys) = std::io::pipe().unwrap();
        let mut script = home.bare("script");
        script.args(["-qefc", command, "/dev/null"]).stdin(behind);
        Self { keys, script: Background::spawn_reading(script) }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }
}

const CTRL_C: &str = "\x03";
const CTRL_Z: &str = "\x1a";

/// `lock` as a word for a shell.
fn words(path: &Path, command: &[&str]) -> String {
    let mut words = vec![*PROGRAM, "lock", path.to_str().unwrap(), "--"];
    words.extend(command);
    words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect::<Vec<_>>().join(" ")
}

/// How often a command is interrupted by one key of its terminal. It is let go on afterwards, and exits with 7.
fn interrupts_by_one_key(home: &TestHome, environment: &str) -> Result<usize, Skip> {
    requires("script")?;
    requires("bash")?;
    let (path, word, log) = (at(home, "lock"), Word::new(home, "word"), at(home, "log"));
    let listen = r#"trap 'echo INT >> "$2"' INT; exec 3<> "$1"; echo "held $$"; until read -rt 0.05 -u 3 _; do :; done; exit 7"#;
    let command = words(&path, &["bash", "-c", listen, "bash", word.path(), log.to_str().unwrap()]);
    // The shell before it survives the key, and is there because script(1) would stop together with its own child.
    let mut terminal = Terminal::open(home, &format!("trap : INT; {environment} {command}; exit $?"));
    let command = number_after(&terminal.script.wait_for_line("held "), "held ");
    let wrapper: u32 = processes::stat_field(command, 4).unwrap().parse().unwrap();
    let interrupts = || fs::read_to_string(&log).map_or(0, |text| text.lines().count());
    // The wrapper comes second: two equal signals become one if the first was not seen yet.
    home.signal(wrapper, Signal::STOP);
    wait_for_state(wrapper, "T");
    terminal.press(CTRL_C);
    wait_until_true(SOON, "the command is interrupted", || interrupts() == 1);
    home.signal(wrapper, Signal::CONT);
    wait_until_true(SOON, "the wrapper has seen it", || signal_set(wrapper, "ShdPnd:") == 0);
    let more = || (interrupts() > 1).then_some(());
    let _more = fm_watch::base::wait_until::wait_until(Duration::from_millis(300), Duration::from_millis(5), more);
    let interrupts = interrupts();
    word.give();
    terminal.script.finish(SOON).expect_code(7);
    Ok(interrupts)
}

fn a_key_of_the_terminal_reaches_the_command_once() -> Result<(), Skip> {
    assert_eq!(interrupts_by_one_key(&TestHome::plain(), "")?, 1);
    Ok(())
}

#[cfg(feature = "sync-points")]
fn without_a_choice_of_signals_a_key_reaches_the_command_twice() -> Result<(), Skip> {
    assert_eq!(interrupts_by_one_key(&TestHome::plain(), "FM_WATCH_WITHOUT=LockRelay")?, 2);
    Ok(())
}

fn job_control_stops_continues_and_interrupts_both() -> Result<(), Skip> {
    requires("script")?;
    requires("bash")?;
    let home = TestHome::plain();
    let (path, word, pid, code) = (at(&home, "lock"), Word::new(&home, "word"), at(&home, "pid"), at(&home, "code"));
    let hold = r#"echo $$ > "$2.new"; mv "$2.new" "$2"; read -r _ < "$1""#;
    let mut terminal = Terminal::open(&home, "exec bash --norc --noprofile -i");
    terminal.press(&format!("{}\n", words(&path, &["sh", "-c", hold, "sh", word.path(), pid.to_str().unwrap()])));
    let command = wait_until(SOON, "the command runs", || fs::read_to_string(&pid).ok()?.trim().parse::<u32>().ok());
    let wrapper: u32 = processes::stat_field(command, 4).unwrap().parse().unwrap();
    wait_for_state(command, "S");
    terminal.press(CTRL_Z);
    wait_for_state(command, "T");
    wait_for_state(wrapper, "T");
    lock(&home, &["--try"], &path, &["true"]).expect_code(75);
    terminal.press("fg\n");
    wait_for_state(command, "S");
    wait_for_state(wrapper, "S");
    terminal.press(CTRL_C);
    wait_for_end(command, "the command");
    wait_for_end(wrapper, "the wrapper");
    terminal.press(&format!("echo $? > '{}'\n", code.display()));
    let said = wait_until(SOON, "the shell goes on", || fs::read_to_string(&code).ok().filter(|text| text.ends_with('\n')));
    assert_eq!(said, "130\n");
    terminal.press("exit\n");
    terminal.script.finish(SOON);
    Ok(())
}

fn the_end_of_the_terminal_reaches_the_command() -> Result<(), Skip> {
    requires("script")?;
    let home = TestHome::plain();
    let (path, word, pid) = (at(&home, "lock"), Word::new(&home, "word"), at(&home, "pid"));
    let hold = r#"echo $$ > "$2.new"; mv "$2.new" "$2"; read -r _ < "$1""#;
    let command = words(&path, &["sh", "-c", hold, "sh", word.path(), pid.to_str().unwrap()]);
    let terminal = Terminal::open(&home, &format!("exec {command}"));
    let command = wait_until(SOON, "the command runs", || fs::read_to_string(&pid).ok()?.trim().parse::<u32>().ok());
    let wrapper: u32 = processes::stat_field(command, 4).unwrap().parse().unwrap();
    assert_eq!(processes::stat_field(wrapper, 6).unwrap(), wrapper.to_string(), "it leads the session");
    terminal.script.signal(Signal::KILL);
    wait_for_end(command, "the command");
    wait_for_end(wrapper, "the wrapper");
    Ok(())
}

fn an_error_of_the_lock_is_never_taken_for_the_lock() -> Result<(), Skip> {
    let home = TestHome::plain();
    requires_strace(&home)?;
    let (path, trace) = (at(&home, "lock"), at(&home, "trace"));
    let words = ["lock", path.to_str().unwrap(), "--", "touch", trace.to_str().unwrap()];
    for (number, said) in [
        ("ENOLCK", "No locks available"),
        ("ENOSYS", "Function not implemented"),
        ("EOPNOTSUPP", "Operation not supported"),
        ("EACCES", "Permission denied"),
        ("EIO", "Input/output error"),
    ] {
        let answer = finish(traced(&home, &["trace=flock", &format!("inject=flock:error={number}")], &words));
        let answer = answer.expect_code(1);
        assert!(answer.stderr.contains(said) && answer.stderr.contains(words[1]), "{number}: {answer:?}");
        assert!(!trace.exists(), "{number}: the command did not run");
    }
    // The two names of "busy".
    let answer = finish(traced(
        &home,
        &["trace=flock", "inject=flock:error=EAGAIN"],
        &["lock", "--try", path.to_str().unwrap(), "--", "touch", trace.to_str().unwrap()],
    ));
    answer.expect_code(75);
    assert!(!trace.exists());
    Ok(())
}

fn an_interrupted_lock_is_tried_again() -> Result<(), Skip> {
    let home = TestHome::plain();
    requires_strace(&home)?;
    let path = at(&home, "lock");
    let words = ["lock", "--try", path.to_str().unwrap(), "--", "echo", "held"];
    let answer = finish(traced(&home, &["trace=flock", "inject=flock:error=EINTR:when=1..3"], &words));
    assert_eq!(answer.expect_code(0).stdout, "held\n");
    Ok(())
}

/// A contender that has opened the file when another is put in its place, and what becomes of both.
#[cfg(feature = "sync-points")]
fn run_beside_a_replaced_file(home: &TestHome, protections_off: &[&str]) -> (Held, Background) {
    let (path, trace) = (at(home, "lock"), at(home, "trace"));
    let points = Points::new(home, "opened");
    let mut command = locking(home, &["--wait", "1s"], &path, &["touch", trace.to_str().unwrap()]);
    points.pause(&mut command, &["KernelOpened"]);
    without(&mut command, protections_off);
    let late = Background::spawn(command);
    points.wait_until_reached("KernelOpened");
    fs::write(at(home, "other"), "").unwrap();
    fs::rename(at(home, "other"), &path).unwrap();
    let held = Held::begin(home, &path, "word");
    points.go("KernelOpened");
    (held, late)
}

#[cfg(feature = "sync-points")]
fn a_file_replaced_between_open_and_lock_makes_no_second_holder() {
    let home = TestHome::plain();
    let (held, late) = run_beside_a_replaced_file(&home, &[]);
    late.finish(SOON).expect_code(75);
    assert!(!at(&home, "trace").exists());
    held.end();
}

#[cfg(feature = "sync-points")]
fn without_the_second_look_a_replaced_file_makes_two_holders() {
    let home = TestHome::plain();
    let (held, late) = run_beside_a_replaced_file(&home, &["KernelRecheck"]);
    late.finish(SOON).expect_code(0);
    assert!(at(&home, "trace").exists(), "it ran while the other one held the lock");
    held.end();
}

/// A command that is made before the lock is taken, as for kinds whose record names it.
#[cfg(feature = "sync-points")]
fn made_first(home: &TestHome, before: &[&str], path: &Path, command: &[&str]) -> Command {
    let mut locking = locking(home, before, path, command);
    without(&mut locking, &["LockDescriptor"]);
    locking
}

/// The twin of `killed_it_leaves_the_lock_to_the_command`.
#[cfg(feature = "sync-points")]
fn without_a_descriptor_the_kill_of_the_wrapper_frees_the_lock_of_a_running_command() {
    let home = TestHome::plain();
    let (path, word) = (at(&home, "lock"), Word::new(&home, "word"));
    let wrapper = Background::spawn(made_first(&home, &[], &path, &["sh", "-c", HOLD, "sh", word.path()]));
    let held = Held::of(wrapper, word);
    held.wrapper.signal(Signal::KILL);
    held.wrapper.finish(SOON);
    lock(&home, &["--wait", "10s"], &path, &["true"]).expect_code(0);
    assert!(processes::is_alive(held.command), "two would have run at once");
    held.word.give();
    wait_for_end(held.command, "the command");
}

/// The twin of `a_lost_lock_ends_the_command`.
#[cfg(feature = "sync-points")]
fn without_a_vigil_a_lost_lock_is_held_twice() {
    let home = TestHome::plain();
    let (path, word) = (at(&home, "lock"), Word::new(&home, "word"));
    let mut first = locking(&home, &[], &path, &["sh", "-c", HOLD, "sh", word.path()]);
    without(&mut first, &["LockVigil"]);
    let first = Held::of(Background::spawn(first), word);
    fs::remove_file(&path).unwrap();
    let second = Held::begin(&home, &path, "other word");
    stays_true(Duration::from_millis(1500), "both run", || {
        processes::is_alive(first.command) && processes::is_alive(second.command)
    });
    second.end();
    first.end();
}

/// The pid of the command and the wrapper that has done the first of its last two steps.
#[cfg(feature = "sync-points")]
fn half_ended(home: &TestHome, path: &Path, protections_off: &[&str]) -> (u32, Points, Background) {
    let (points, word) = (Points::new(home, "half"), Word::new(home, "word"));
    let mut command = locking(home, &[], path, &["sh", "-c", HOLD, "sh", word.path()]);
    points.pause(&mut command, &["LockBetweenReleaseAndReap"]);
    without(&mut command, protections_off);
    let held = Held::of(Background::spawn(command), word);
    held.word.give();
    points.wait_until_reached("LockBetweenReleaseAndReap");
    (held.command, points, held.wrapper)
}

#[cfg(feature = "sync-points")]
fn exists(pid: u32) -> bool {
    processes::stat_field(pid, 3).is_some()
}

#[cfg(feature = "sync-points")]
fn the_lock_is_released_before_the_pid_is_given_back() {
    let home = TestHome::plain();
    let path = at(&home, "lock");
    let (command, points, wrapper) = half_ended(&home, &path, &[]);
    assert!(exists(command) && is_free(&path));
    points.go("LockBetweenReleaseAndReap");
    wrapper.finish(SOON).expect_code(7);
}

#[cfg(feature = "sync-points")]
fn without_that_order_the_pid_is_gone_while_the_lock_is_held() {
    let home = TestHome::plain();
    let path = at(&home, "lock");
    let (command, points, wrapper) = half_ended(&home, &path, &["LockReleaseBeforeReap"]);
    assert!(!exists(command) && !is_free(&path), "a stranger could have its pid now, and be taken for the holder");
    points.go("LockBetweenReleaseAndReap");
    wrapper.finish(SOON).expect_code(7);
}

#[cfg(feature = "sync-points")]
fn killed_before_it_gave_permission_it_leaves_nothing() {
    let home = TestHome::plain();
    let (path, trace) = (at(&home, "lock"), at(&home, "trace"));
    let touch = ["touch", trace.to_str().unwrap()];
    for mut command in [locking(&home, &[], &path, &touch), made_first(&home, &[], &path, &touch)] {
        kill_at(&mut command, "LockTaken");
        assert_eq!(finish(command).signal, Some(9));
        wait_until_true(SOON, "the waiting process has left", || processes::naming(home.scratch()).is_empty());
        assert!(is_free(&path) && !trace.exists());
    }
}

#[cfg(feature = "sync-points")]
fn a_command_that_waits_for_permission_answers_as_any_other() {
    let home = TestHome::plain();
    let (path, missing) = (at(&home, "lock"), at(&home, "missing"));
    for (command, code) in [
        (&["sh", "-c", "exit 7"][..], 7),
        (&["sh", "-c", "kill -TERM $$"], 143),
        (&[missing.to_str().unwrap()], 127),
        (&[home.scratch().to_str().unwrap()], 126),
    ] {
        finish(made_first(&home, &[], &path, command)).expect_code(code);
        assert!(is_free(&path), "{command:?}");
    }
    let held = Held::begin(&home, &path, "word");
    let answer = finish(made_first(&home, &["--try"], &path, &["touch", missing.to_str().unwrap()])).expect_code(75);
    assert!(answer.stderr.contains(&format!("pid {}", held.wrapper.pid())), "{answer:?}");
    assert!(!missing.exists());
    held.end();
    finish(made_first(&home, &[], &missing.join("lock"), &["true"])).expect_code(1);
}

#[cfg(feature = "sync-points")]
fn a_command_that_waits_for_permission_never_outlives_the_waiting() {
    let home = TestHome::plain();
    let (path, trace) = (at(&home, "lock"), at(&home, "trace"));
    let held = Held::begin(&home, &path, "word");
    let child_of = |wrapper: &Background| {
        let wrapper = wrapper.pid().to_string();
        wait_until(SOON, "the process is made", || {
            let all = processes::naming(home.scratch()).into_iter();
            all.map(|(pid, _)| pid).find(|&pid| processes::stat_field(pid, 4).as_ref() == Some(&wrapper))
        })
    };
    // By who waits being killed, by it being asked to leave while the process is stopped, and by the process itself
    // being killed.
    for (signal, how) in [(Signal::KILL, None), (Signal::TERM, Some(143)), (Signal::KILL, Some(137))] {
        let wrapper = Background::spawn(made_first(&home, &[], &path, &["touch", trace.to_str().unwrap()]));
        let waiting = child_of(&wrapper);
        if how == Some(137) {
            assert!(processes::signal_if_naming(waiting, home.scratch(), signal));
        } else {
            if how == Some(143) {
                home.signal(waiting, Signal::STOP);
                wait_for_state(waiting, "T");
            }
            wrapper.signal(signal);
        }
        assert_eq!(wrapper.finish(SOON).code, how);
        wait_for_end(waiting, "the waiting process");
    }
    held.end();
    assert!(!trace.exists());
}
