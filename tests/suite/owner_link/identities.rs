//! `pid-identity`: the same text as `ps` prints, and what it proves.

use std::ffi::OsStr;
use std::fs;
use std::io::PipeWriter;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use fm_watch::system::identity::{Difference, Sameness};
use fm_watch::lock::{Attempt, Lock};

use super::arena::{Arena, attempt, lay, sleeper};
use super::peer;
use super::staged::Staged;
use crate::support::home::finish;
use crate::support::{Background, SOON, Skip, TestHome, processes, requires, wait_until_true};

cases! {
    the_identity_is_what_ps_prints,
    the_identity_is_compared_across_locales_and_time_zones,
    a_pid_that_was_given_to_another_process_does_not_keep_the_lock,
    without_the_identity_a_recycled_pid_keeps_the_lock_for_ever,
    a_holder_that_executed_another_program_keeps_the_lock,
    a_second_run_of_the_same_command_is_not_called_another_process,
}

type Bytes<'a> = &'a [u8];

fn ps(home: &TestHome, pid: u32, locale: &str) -> String {
    let mut command = home.bare("ps");
    command.args(["-p", &pid.to_string(), "-o", "lstart=", "-o", "command="]).env("LC_ALL", locale);
    if let Some(zone) = std::env::var_os("TZ") {
        command.env("TZ", zone);
    }
    finish(command).expect_code(0).stdout.trim_start().to_owned()
}

/// The identity that ours records for a process.
fn recorded(arena: &Arena, pid: u32) -> String {
    let guard = attempt(&mut arena.ours().for_process(pid)).unwrap();
    let text = fs::read_to_string(arena.lock.join("pid-identity")).unwrap();
    drop(guard);
    text
}

/// Both readings, again if the kernel's time of boot was rounded differently between them.
#[track_caller]
fn agrees_with_ps(arena: &Arena, pid: u32, what: &str) {
    let mut readings = (String::new(), String::new());
    let agree = (0..5).any(|_| {
        readings = (recorded(arena, pid), ps(&arena.home, pid, "C.UTF-8"));
        readings.0 == readings.1
    });
    assert!(agree, "{what}: {readings:?}");
}

/// A process with chosen arguments, which lives for as long as the value: it waits for a line that never comes.
struct Listed {
    child: Background,
    _stdin: PipeWriter,
}

fn with_arguments(home: &TestHome, name: &[u8], arguments: &[Bytes]) -> Listed {
    let mut command = home.bare("sh");
    command.arg0(OsStr::from_bytes(name)).args(["-c", "echo ready; read -r line", "sh"]);
    command.args(arguments.iter().map(|argument| OsStr::from_bytes(argument)));
    let (reader, stdin) = std::io::pipe().unwrap();
    command.stdin(reader);
    let child = Background::spawn_reading(command);
    child.wait_for_line("ready");
    Listed { child, _stdin: stdin }
}

fn the_identity_is_what_ps_prints() -> Result<(), Skip> {
    requires("ps")?;
    let arena = Arena::new();
    let long = vec![b'y'; 100_000];
    let table: [(&str, Bytes, &[Bytes]); 8] = [
        ("plain", b"sh", &[b"one", b"two"]),
        ("blanks and empty ones", b" s h ", &[b"", b" ", b"x ", b"", b""]),
        ("control characters", b"sh", &[b"a\nb", b"t\tx\x01\x7f\x1b[31m"]),
        ("UTF-8", "sch\u{e4}l".as_bytes(), &["\u{6f22}\u{5b57} \u{1f512} \u{85}".as_bytes()]),
        ("not UTF-8", b"sh", &[b"\xc3\xa9 before", b"\xff\xfe", b"\xc3\xa9 after"]),
        ("a half character at the end", b"sh", &[b"abc\xe6\xbc"]),
        ("percent and quotes", b"sh", &[b"%s%n\"'\\`$(x)"]),
        ("long ones", b"sh", &[&long, &long]),
    ];
    for (what, name, arguments) in table {
        let Listed { child, _stdin } = with_arguments(&arena.home, name, arguments);
        agrees_with_ps(&arena, child.pid(), what);
    }
    agrees_with_ps(&arena, std::process::id(), "this process, started a while ago");
    // In a pid namespace of its own, process 2 is any, or none.
    if fs::read_to_string("/proc/2/comm").is_ok_and(|name| name == "kthreadd\n") {
        agrees_with_ps(&arena, 2, "a kernel thread");
    }
    Ok(())
}

/// Lays a live record whose identity was taken by `ps` in another surrounding, and says what ours makes of it.
fn judged(arena: &Arena, pid: u32, identity: &str) -> Sameness {
    let owner = lay(&arena.lock, "told00", &pid.to_string());
    fs::write(owner.join("pid-identity"), identity).unwrap();
    let outcome = arena.ours().try_acquire().unwrap();
    let Attempt::Busy(holder) = outcome else { panic!("taken from a living process: {identity}") };
    fs::remove_file(&arena.lock).unwrap();
    fs::remove_dir_all(owner).unwrap();
    holder.identity
}

fn the_identity_is_compared_across_locales_and_time_zones() -> Result<(), Skip> {
    requires("ps")?;
    let arena = Arena::new();
    let Listed { child, _stdin } = with_arguments(&arena.home, b"sh", &["\u{e9}t\u{e9}\u{85}".as_bytes(), b"\x01"]);
    for locale in ["C", "C.UTF-8", "POSIX"] {
        let same = judged(&arena, child.pid(), &ps(&arena.home, child.pid(), locale));
        assert!(matches!(same, Sameness::Same(_)), "{locale}: {same:?}");
    }
    for zone in ["Asia/Kolkata", "<+1345>-13:45", "America/New_York", "XXX+11"] {
        let mut command = arena.home.bare("ps");
        command.args(["-p", &child.pid().to_string(), "-o", "lstart=", "-o", "command="]).env("TZ", zone);
        let told = finish(command).expect_code(0).stdout;
        assert!(!matches!(judged(&arena, child.pid(), &told), Sameness::Different(_)), "{zone}");
        let other = format!("{} another program", told.get(..24).unwrap());
        assert!(!matches!(judged(&arena, child.pid(), &other), Sameness::Different(_)), "{zone}");
    }
    Ok(())
}

/// A record of a process that had this live pid long ago.
fn lay_recycled(arena: &Arena, pid: u32, identity: &str) {
    let owner = lay(&arena.lock, "past00", &pid.to_string());
    fs::write(owner.join("pid-identity"), identity).unwrap();
}

const LONG_AGO: &str = "Fri Nov 20 23:05:27 2020 bash /path/bin/fm-watch.sh\n";

/// Lays a record whose files are older than the process that has its pid now, as a recycled pid leaves it.
fn recycled(arena: &Arena) -> Background {
    // No user can set the time of a file's last change, so the pid is put in after the process has it; the record of
    // the identity stays as it was.
    let owner = lay(&arena.lock, "past00", "1");
    fs::write(owner.join("pid-identity"), LONG_AGO).unwrap();
    let written = fs::metadata(owner.join("pid-identity")).unwrap().modified().unwrap();
    wait_until_true(SOON, "the clock shows a later second than the record's", || {
        written.elapsed().is_ok_and(|age| age > std::time::Duration::from_secs(3))
    });
    let process = sleeper(&arena.home);
    fs::write(owner.join("pid"), format!("{}\n", process.pid())).unwrap();
    fs::File::options().append(true).open(owner.join("pid")).unwrap().set_modified(written).unwrap();
    process
}

fn a_pid_that_was_given_to_another_process_does_not_keep_the_lock() -> Result<(), Skip> {
    let arena = Arena::new();
    let process = recycled(&arena);
    assert!(!peer::can_take(&arena.home, &arena.lock)?, "a shell peer asks the pid alone");
    let Sameness::Different(Difference::PidReused) = arena.ours().holder().identity else { panic!("not proven") };
    assert!(arena.try_ours().is_some());
    assert!(processes::is_alive(process.pid()));
    Ok(())
}

/// The twin: with the pid alone.
fn without_the_identity_a_recycled_pid_keeps_the_lock_for_ever() {
    let arena = Arena::new();
    let _process = recycled(&arena);
    assert!(arena.try_in(&Staged::without(&["OwnerLinkIdentity"])).is_none());
}

fn a_holder_that_executed_another_program_keeps_the_lock() {
    let arena = Arena::new();
    let Listed { child: process, _stdin } = with_arguments(&arena.home, b"sh", &[]);
    // Its start is that of long ago only if a clock was set, and its record is younger than itself.
    lay_recycled(&arena, process.pid(), LONG_AGO);
    assert!(arena.try_ours().is_none());
}

fn a_second_run_of_the_same_command_is_not_called_another_process() {
    let arena = Arena::new();
    let mut command: Command = arena.home.bare("sleep");
    command.arg("1000");
    let owner = lay(&arena.lock, "past00", "1");
    fs::write(owner.join("pid-identity"), "Fri Nov 20 23:05:27 2020 sleep 1000\n").unwrap();
    let process = Background::spawn(command);
    fs::write(owner.join("pid"), format!("{}\n", process.pid())).unwrap();
    assert!(arena.try_ours().is_none());
}
