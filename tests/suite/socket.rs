//! Sockets as locks, and the probe: who is absent, who only does not answer, and what is never removed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fm_watch::base::error::Result;
use fm_watch::system::identity::Sameness;
use fm_watch::lock::socket::probe::{Absence, Question, Readiness, Reply, Stall, Stranger, probe};
use fm_watch::lock::socket::{SocketGuard, SocketLock};
use fm_watch::lock::{Attempt, Guard, Holder, Lock, Loss, Ownership};
use fm_watch::system::platform;
use fm_watch::system::{Binding, Real, Sockets};
use rustix::process::Signal;

use crate::support::background::wait_for_state;
use crate::support::contest::{self, attempt_together, busy, contend, fresh_directory, names_in, taken};
use crate::support::rigged::Rigged;
use crate::support::{Background, SOON, Skip, TestHome, requires, requires_root, role, wait_until};

cases! {
    of_many_contenders_one_holds_at_a_time,
    of_many_processes_that_are_killed_at_random_one_holds_at_a_time,
    a_stale_socket_is_taken_over_by_exactly_one_of_many,
    a_path_beyond_the_limit_of_an_address_can_be_bound_and_reached,
    the_socket_is_its_owners_alone_under_any_umask,
    the_path_never_leads_to_a_socket_that_refuses,
    without_listening_before_the_name_the_path_refuses_for_a_moment,
    a_daemon_that_listens_late_is_starting_and_never_removed,
    without_the_probe_a_live_daemon_loses_its_name,
    a_bound_socket_in_another_network_namespace_is_not_absent,
    a_killed_daemon_is_absent_and_followed,
    a_killed_holder_is_followed_at_once,
    a_stopped_holder_is_held,
    a_stopped_daemon_is_stalled_when_it_is_asked,
    an_answer_is_judged_and_has_a_deadline,
    a_full_backlog_is_stalled_and_held,
    a_datagram_socket_is_foreign_and_held,
    a_server_of_another_user_is_foreign_and_told_nothing,
    what_is_no_socket_is_an_error_and_left_alone,
    without_the_kind_a_regular_file_is_removed,
    nobody_is_absent_at_an_instant_when_somebody_binds,
    a_death_at_any_step_leaves_a_socket_that_the_next_can_take,
    a_death_at_any_step_of_a_takeover_leaves_a_socket_that_the_next_can_take,
    a_daemon_that_binds_during_a_takeover_gets_its_name_back,
    without_the_inode_check_a_daemon_that_binds_meanwhile_loses_its_name,
    of_two_takers_of_one_stale_socket_the_second_waits,
    without_the_lock_beside_it_a_holder_loses_its_name_for_a_moment,
    without_the_lock_and_the_inode_check_two_hold,
    a_socket_that_was_replaced_is_left_at_release,
    without_the_own_inode_at_release_the_socket_of_another_is_removed,
    a_forked_copy_of_a_guard_releases_nothing,
    without_the_maker_a_forked_copy_releases_the_lock_of_its_parent,
    a_removed_socket_is_noticed_and_makes_no_room_for_a_second_holder,
    a_socket_that_a_child_inherited_is_held_until_the_child_ends,
    without_exchange_a_stale_socket_is_held_and_left_alone,
    leftovers_of_the_dead_are_removed_at_the_next_takeover,
    a_busy_contender_leaves_no_trace_and_disturbs_nobody,
}

const AT_ONCE: Duration = Duration::from_millis(200);

fn lock_at<W: Sockets>(world: &Arc<W>, path: &Path) -> SocketLock<W> {
    SocketLock::at(world, path).unwrap()
}

#[track_caller]
fn take(path: &Path) -> SocketGuard<Real> {
    contest::take(lock_at(&Arc::new(Real), path))
}

#[track_caller]
fn find_busy(path: &Path) -> Holder {
    busy(lock_at(&Arc::new(Real), path).try_acquire())
}

#[track_caller]
fn probed(path: &Path) -> Readiness {
    probe(&Arc::new(Real), path, None, AT_ONCE).unwrap()
}

/// Binds a socket whose owner is gone.
fn leave_stale_socket(path: &Path) {
    drop(UnixListener::bind(path).unwrap());
    // A child that another test is just starting may have a copy.
    crate::support::wait_until_true(SOON, "nobody is bound", || probed(path) == Readiness::Absent(Absence::Stale));
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

fn fresh(home: &TestHome, name: &str) -> PathBuf {
    fresh_directory(home, name).join("sock")
}

/// A program that is not ours. It prints a line after each step and goes on when it is given one.
fn python(home: &TestHome, script: &str, path: &Path) -> Result<Background, Skip> {
    requires("python3")?;
    Ok(Background::spawn_reading(python_command(home.bare("python3"), script, path)))
}

fn python_command(mut command: Command, script: &str, path: &Path) -> Command {
    let script = format!("import os, socket, sys, time\npath = sys.argv[1]\ns = socket.socket(socket.AF_UNIX)\n{script}");
    command.args(["-c", &script]).arg(path).stdin(Stdio::piped());
    command
}

/// Lets others wait for this server for ever.
const SERVE_NOBODY: &str = "s.bind(path); s.listen(8); print('ready', flush=True); sys.stdin.read()";

fn of_many_contenders_one_holds_at_a_time() {
    let home = TestHome::plain();
    let path = fresh(&home, "many");
    contend(8, 25, || lock_at(&Arc::new(Real), &path));
    take(&path).release().unwrap();
    assert_eq!(names_in(path.parent().unwrap()), ["sock.lock"]);
}

fn of_many_processes_that_are_killed_at_random_one_holds_at_a_time() {
    let home = TestHome::plain();
    let path = fresh(&home, "killed");
    let holds = role::contend_under_kills(&home, "socket", &path, 100);
    assert!(holds > 100, "{holds} holds");
    take(&path).release().unwrap();
}

fn a_stale_socket_is_taken_over_by_exactly_one_of_many() {
    let home = TestHome::plain();
    for round in 0..20 {
        let path = fresh(&home, &format!("stale-{round}"));
        leave_stale_socket(&path);
        let answers = attempt_together(8, || lock_at(&Arc::new(Real), &path));
        let guards = answers.iter().filter(|answer| matches!(answer, Attempt::Taken(_))).count();
        assert_eq!(guards, 1);
        let _client = UnixStream::connect(&path).unwrap();
        assert_eq!(names_in(path.parent().unwrap()), ["sock", "sock.lock"]);
    }
}

fn a_path_beyond_the_limit_of_an_address_can_be_bound_and_reached() {
    let home = TestHome::plain();
    let directory = home.scratch().join("d".repeat(200)).join("e".repeat(200));
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join("s".repeat(240));
    assert!(UnixListener::bind(&path).is_err(), "it is too long for an address");
    assert_eq!(probed(&path), Readiness::Absent(Absence::NoName));
    let guard = take(&path);
    let Readiness::Ready(server) = probed(&path) else { panic!("{}", probed(&path)) };
    assert_eq!(server.pid, Some(std::process::id()));
    assert!(matches!(server.identity, Sameness::Same(_)), "{server:?}");
    guard.listener().accept().unwrap();
    find_busy(&path);
    guard.release().unwrap();
    assert!(!path.exists());
    assert_eq!(probed(&directory.join("none").join("none")), Readiness::Absent(Absence::NoName));
}

fn the_socket_is_its_owners_alone_under_any_umask() {
    let home = TestHome::plain();
    for umask in ["000", "022", "777"] {
        let path = fresh(&home, &format!("umask-{umask}"));
        let mut shell = home.bare("sh");
        shell.args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"]).arg(std::env::current_exe().unwrap());
        shell.args(["--hold-a-lock", "socket"]).arg(&path).stdin(Stdio::piped());
        let holder = Background::spawn_reading(shell);
        holder.wait_for_line("held");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600, "umask {umask}");
    }
}

/// What connecting says when the name is there for the first time.
fn first_answer(protections: &[&'static str]) -> std::io::Result<()> {
    let home = TestHome::plain();
    let path = fresh(&home, "first");
    let answer = Arc::new(Mutex::new(None));
    let (at, into) = (path.clone(), Arc::clone(&answer));
    let connect = move || *into.lock().unwrap() = Some(UnixStream::connect(at).map(drop));
    let world = Rigged::new().without(protections).at("SocketPublished", connect).ready();
    drop(taken(lock_at(&world, &path).try_acquire()));
    answer.lock().unwrap().take().unwrap()
}

fn the_path_never_leads_to_a_socket_that_refuses() {
    first_answer(&[]).unwrap();
}

fn without_listening_before_the_name_the_path_refuses_for_a_moment() {
    let error = first_answer(&["SocketPublishAfterListen"]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

const LISTEN_LATE: &str = "
s.bind(path); print('bound', flush=True); sys.stdin.readline()
s.listen(8); print('listening', flush=True); sys.stdin.readline()";

fn a_daemon_that_listens_late_is_starting_and_never_removed() -> Result<(), Skip> {
    let home = TestHome::plain();
    let path = fresh(&home, "late");
    requires("python3")?;
    let mut command = python_command(home.bare("python3"), LISTEN_LATE, &path);
    let (reader, mut writer) = std::io::pipe().unwrap();
    command.stdin(reader);
    let daemon = Background::spawn_reading(command);
    daemon.wait_for_line("bound");
    let before = inode(&path);
    assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(probed(&path), Readiness::Starting);
    find_busy(&path);
    assert_eq!((inode(&path), names_in(path.parent().unwrap())), (before, vec!["sock".to_owned()]));
    writer.write_all(b"\n").unwrap();
    daemon.wait_for_line("listening");
    let Readiness::Ready(server) = probed(&path) else { panic!("{}", probed(&path)) };
    assert_eq!(server.pid, Some(daemon.pid()));
    assert_eq!(find_busy(&path).pid, Some(daemon.pid()));
    assert_eq!(inode(&path), before);
    Ok(())
}

fn without_the_probe_a_live_daemon_loses_its_name() {
    let home = TestHome::plain();
    let path = fresh(&home, "live");
    let _daemon = UnixListener::bind(&path).unwrap();
    let before = inode(&path);
    find_busy(&path);
    assert_eq!(inode(&path), before);
    let world = Rigged::new().without(&["SocketProbe"]).ready();
    let _guard = taken(lock_at(&world, &path).try_acquire());
    assert_ne!(inode(&path), before, "a second server has the name of one that lives");
}

fn a_bound_socket_in_another_network_namespace_is_not_absent() -> Result<(), Skip> {
    let home = TestHome::plain();
    let path = fresh(&home, "network");
    requires("python3")?;
    requires("unshare")?;
    requires_root()?;
    let mut unshare = home.bare("unshare");
    unshare.args(["--net", "python3"]);
    let daemon = Background::spawn_reading(python_command(unshare, LISTEN_LATE, &path));
    daemon.wait_for_line("bound");
    let table = fs::read_to_string("/proc/net/unix").unwrap();
    assert!(!table.contains(path.to_str().unwrap()), "the kernel's table here does not show it");
    assert_eq!(probed(&path), Readiness::Starting);
    find_busy(&path);
    Ok(())
}

fn a_killed_daemon_is_absent_and_followed() -> Result<(), Skip> {
    let home = TestHome::plain();
    let path = fresh(&home, "killed");
    let daemon = python(&home, SERVE_NOBODY, &path)?;
    daemon.wait_for_line("ready");
    assert_eq!(find_busy(&path).pid, Some(daemon.pid()));
    daemon.signal(Signal::KILL);
    wait_for_state(daemon.pid(), "Z");
    assert_eq!(probed(&path), Readiness::Absent(Absence::Stale));
    let guard = take(&path);
    assert_eq!(guard.check().unwrap(), Ownership::Held);
    assert_eq!(names_in(path.parent().unwrap()), ["sock", "sock.lock"]);
    Ok(())
}

fn a_killed_holder_is_followed_at_once() {
    let home = TestHome::plain();
    let path = fresh(&home, "holder");
    let holder = role::holder(&home, "socket", &path);
    let told = find_busy(&path);
    assert_eq!(told.pid, Some(holder.pid()));
    assert!(matches!(told.identity, Sameness::Same(_)), "{told:?}");
    holder.signal(Signal::KILL);
    wait_for_state(holder.pid(), "Z");
    assert_eq!(probed(&path), Readiness::Absent(Absence::Stale));
    take(&path).release().unwrap();
}

fn a_stopped_holder_is_held() {
    let home = TestHome::plain();
    let path = fresh(&home, "stopped");
    let holder = role::holder(&home, "socket", &path);
    holder.signal(Signal::STOP);
    wait_for_state(holder.pid(), "T");
    assert_eq!(find_busy(&path).pid, Some(holder.pid()));
    let question = Question::expecting(b"ping\n", b"pong\n");
    let readiness = probe(&Arc::new(Real), &path, Some(&question), AT_ONCE).unwrap();
    assert!(matches!(readiness, Readiness::Stalled(Stall::NoAnswer(_))), "{readiness}");
    holder.signal(Signal::CONT);
}

const ECHO: &str = "
s.bind(path); s.listen(8); print('ready', flush=True)
def answer(c):
    line = c.recv(100)
    if line == b'ping\\n': c.sendall(b'po'); c.sendall(b'ng\\nand more')
    if line == b'slow\\n':
        while True: c.sendall(b'p'); time.sleep(0.05)
    if line == b'half\\n': c.sendall(b'po')
while True:
    c, _ = s.accept()
    try: answer(c)
    except OSError: pass
    c.close()";

fn a_stopped_daemon_is_stalled_when_it_is_asked() -> Result<(), Skip> {
    let home = TestHome::plain();
    let path = fresh(&home, "echo");
    let daemon = python(&home, ECHO, &path)?;
    daemon.wait_for_line("ready");
    let ask = || probe(&Arc::new(Real), &path, Some(&Question::expecting(b"ping\n", b"pong\n")), AT_ONCE).unwrap();
    assert!(matches!(ask(), Readiness::Ready(_)));
    daemon.signal(Signal::STOP);
    wait_for_state(daemon.pid(), "T");
    let began = Instant::now();
    let Readiness::Stalled(Stall::NoAnswer(server)) = ask() else { panic!("{}", ask()) };
    assert_eq!(server.pid, Some(daemon.pid()));
    assert!(began.elapsed() >= AT_ONCE && began.elapsed() < SOON);
    find_busy(&path);
    daemon.signal(Signal::CONT);
    let patient = probe(&Arc::new(Real), &path, Some(&Question::expecting(b"ping\n", b"pong\n")), SOON).unwrap();
    assert!(matches!(patient, Readiness::Ready(_)), "{patient}");
    Ok(())
}

fn an_answer_is_judged_and_has_a_deadline() -> Result<(), Skip> {
    let home = TestHome::plain();
    let path = fresh(&home, "answers");
    let daemon = python(&home, ECHO, &path)?;
    daemon.wait_for_line("ready");
    let ask = |question: &Question<'_>, at_most| probe(&Arc::new(Real), &path, Some(question), at_most).unwrap();
    assert!(matches!(ask(&Question::expecting(b"ping\n", b"pong"), SOON), Readiness::Ready(_)));
    let wrong = ask(&Question::expecting(b"ping\n", b"nonce"), SOON);
    assert!(matches!(wrong, Readiness::Foreign(Stranger::WrongAnswer(_))), "{wrong}");
    let half = ask(&Question::expecting(b"half\n", b"pong\n"), SOON);
    assert!(matches!(half, Readiness::Stalled(Stall::HungUp(_))), "{half}");
    let too_much = ask(&Question::judged_by(b"ping\n", 4, |_| Reply::Unfinished), SOON);
    assert!(matches!(too_much, Readiness::Foreign(Stranger::WrongAnswer(_))), "{too_much}");
    // One byte at a time, for ever: each comes in time, all of them do not.
    let began = Instant::now();
    let slow = ask(&Question::judged_by(b"slow\n", 1000, |_| Reply::Unfinished), AT_ONCE);
    assert!(matches!(slow, Readiness::Stalled(Stall::NoAnswer(_))), "{slow}");
    assert!(began.elapsed() < SOON);
    Ok(())
}

fn a_full_backlog_is_stalled_and_held() -> Result<(), Skip> {
    let home = TestHome::plain();
    let path = fresh(&home, "full");
    let script = "s.bind(path); s.listen(0)
filled = []
while True:
    c = socket.socket(socket.AF_UNIX); c.setblocking(False)
    try: c.connect(path)
    except BlockingIOError: break
    filled.append(c)
print('full', flush=True); sys.stdin.read()";
    let daemon = python(&home, script, &path)?;
    daemon.wait_for_line("full");
    let began = Instant::now();
    assert_eq!(probed(&path), Readiness::Stalled(Stall::NoConnection));
    assert!(began.elapsed() >= AT_ONCE && began.elapsed() < SOON);
    let before = inode(&path);
    find_busy(&path);
    assert_eq!(inode(&path), before);
    Ok(())
}

fn a_datagram_socket_is_foreign_and_held() {
    let home = TestHome::plain();
    let path = fresh(&home, "datagram");
    let socket = UnixDatagram::bind(&path).unwrap();
    assert_eq!(probed(&path), Readiness::Foreign(Stranger::OtherType));
    find_busy(&path);
    drop(socket);
    take(&path).release().unwrap();
}

fn a_server_of_another_user_is_foreign_and_told_nothing() -> Result<(), Skip> {
    let home = TestHome::plain();
    requires_root()?;
    requires("setpriv")?;
    requires("python3")?;
    let shared = tempfile::tempdir().unwrap();
    fs::set_permissions(shared.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let path = shared.path().join("sock");
    // The interpreter itself, which another user may run wherever it is.
    let mut which = home.bare("python3");
    which.args(["-c", "import sys; print(sys.executable)"]);
    let interpreter = Background::spawn(which).finish(SOON).stdout.trim().to_owned();
    let script = "s.bind(path); s.listen(8); print('ready', flush=True)
c, _ = s.accept(); print('told', c.recv(100), flush=True); sys.stdin.read()";
    let mut setpriv = home.bare("setpriv");
    setpriv.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", &interpreter]).current_dir("/");
    let probe_run = {
        let mut command = home.bare("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", &interpreter, "-c", ""]);
        Background::spawn({
            command.current_dir("/");
            command
        })
        .finish(SOON)
    };
    if probe_run.code != Some(0) {
        return Err(Skip(format!("another user cannot run python3 here: {}", probe_run.stderr.trim())));
    }
    let daemon = Background::spawn_reading(python_command(setpriv, script, &path));
    daemon.wait_for_line("ready");
    let question = Question::expecting(b"secret\n", b"pong\n");
    let readiness = probe(&Arc::new(Real), &path, Some(&question), SOON).unwrap();
    let Readiness::Foreign(Stranger::OtherUser(server)) = readiness else { panic!("{readiness}") };
    assert_eq!((server.pid, server.uid), (Some(daemon.pid()), 65534));
    daemon.wait_for_line("told b''");
    let before = inode(&path);
    find_busy(&path);
    assert_eq!(inode(&path), before);
    Ok(())
}

fn what_is_no_socket_is_an_error_and_left_alone() {
    let home = TestHome::plain();
    let path = fresh(&home, "things");
    let victim = home.scratch().join("victim");
    leave_stale_socket(&victim);
    let make: [(&str, &dyn Fn()); 6] = [
        ("regular file", &|| fs::write(&path, "precious").unwrap()),
        ("regular file", &|| fs::write(&path, "").unwrap()),
        ("symbolic link", &|| symlink(&victim, &path).unwrap()),
        ("symbolic link", &|| symlink(home.scratch().join("nowhere"), &path).unwrap()),
        ("FIFO", &|| rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap()),
        ("directory", &|| fs::create_dir(&path).unwrap()),
    ];
    for (what, make) in make {
        make();
        let before = inode(&path);
        let error = lock_at(&Arc::new(Real), &path).try_acquire().unwrap_err().to_string();
        assert!(error.contains(what) && error.contains(path.to_str().unwrap()), "{what}: {error}");
        assert!(matches!(probed(&path), Readiness::Foreign(Stranger::NotASocket(_))), "{what}");
        assert_eq!((inode(&path), names_in(path.parent().unwrap())), (before, vec!["sock".to_owned()]), "{what}");
        if path.is_file() {
            assert!(matches!(fs::read_to_string(&path).unwrap().as_str(), "precious" | ""));
        }
        if path.is_dir() { fs::remove_dir(&path).unwrap() } else { fs::remove_file(&path).unwrap() }
    }
    assert!(fs::symlink_metadata(&victim).unwrap().file_type().is_socket());
}

fn without_the_kind_a_regular_file_is_removed() {
    let home = TestHome::plain();
    let path = fresh(&home, "precious");
    fs::write(&path, "precious").unwrap();
    let world = Rigged::new().without(&["SocketIsSocket"]).ready();
    drop(taken(lock_at(&world, &path).try_acquire()));
    assert!(!path.exists(), "connecting to it said that nobody is there, and so it went");
}

/// Inside `bind` the name is there before the socket. Whoever looks at that instant must not see an abandoned one. It
/// has no twin: nothing can hold the kernel at that instant, which is too short to be met by chance.
fn nobody_is_absent_at_an_instant_when_somebody_binds() {
    const ROUNDS: u32 = 500;
    let home = TestHome::plain();
    let directory = fresh(&home, "instants").parent().unwrap().to_owned();
    let round = Arc::new(AtomicU32::new(0));
    let (current, at) = (Arc::clone(&round), directory.clone());
    let looker = std::thread::spawn(move || {
        let node = File::open(&at).unwrap();
        let mut seen = 0;
        loop {
            let number = current.load(Ordering::SeqCst);
            if number == u32::MAX {
                return seen;
            }
            let name = number.to_string();
            let open = fm_watch::system::Open::Pin;
            let Ok(pinned) = fm_watch::system::World::open(&Real, &node, OsStr::new(&name), open) else { continue };
            let name = OsStr::new(&name);
            let binding = fm_watch::lock::socket::probe::binding(&Real, &node, name, &pinned).unwrap();
            // The socket may have been closed since, but then the round is over.
            if current.load(Ordering::SeqCst) == number {
                assert_eq!(binding, Binding::Bound, "round {number}");
                seen += 1;
            }
        }
    });
    let node = File::open(&directory).unwrap();
    for number in 0..ROUNDS {
        let before = Instant::now();
        let listener = platform::bind_socket(&node, OsStr::new(&number.to_string())).unwrap();
        while before.elapsed() < Duration::from_micros(50) {
            std::hint::spin_loop();
        }
        round.store(number + 1, Ordering::SeqCst);
        drop(listener);
    }
    round.store(u32::MAX, Ordering::SeqCst);
    assert!(looker.join().unwrap() > 0, "the looker saw sockets while they were bound");
}

/// Acts, dying one call later each time, until it no longer fails. After each death the next one takes.
fn die_at_each_step(home: &TestHome, prepare: impl Fn(&Path)) -> u64 {
    for calls in 0.. {
        let path = fresh(home, &format!("step-{calls}"));
        prepare(&path);
        let world = Rigged::living_for(calls).ready();
        let acted = SocketLock::at(&world, &path).and_then(|mut lock| lock.try_acquire());
        let has_died = match acted {
            Ok(Attempt::Taken(guard)) => guard.release().is_err(),
            Ok(Attempt::Busy(holder)) => panic!("held {holder}"),
            Err(_) => true,
        };
        let guard = take(&path);
        assert_eq!(guard.check().unwrap(), Ownership::Held, "after {calls} calls");
        let _client = UnixStream::connect(&path).unwrap();
        guard.release().unwrap();
        assert!(!path.exists());
        let left = names_in(path.parent().unwrap());
        assert!(left.iter().all(|name| name == "sock.lock" || name.starts_with(".fm-watch.")), "{left:?}");
        if !has_died {
            return calls;
        }
    }
    unreachable!()
}

fn a_death_at_any_step_leaves_a_socket_that_the_next_can_take() {
    let steps = die_at_each_step(&TestHome::plain(), |_| ());
    assert!(steps > 20, "{steps} steps");
}

fn a_death_at_any_step_of_a_takeover_leaves_a_socket_that_the_next_can_take() {
    let steps = die_at_each_step(&TestHome::plain(), leave_stale_socket);
    assert!(steps > 30, "{steps} steps");
}

/// A takeover during which a daemon that is not ours cleans up and binds, as daemons do. Says whether we hold, and
/// whether the daemon has its name.
fn taken_beside_a_daemon(protections: &[&'static str]) -> (bool, bool) {
    let home = TestHome::plain();
    let path = fresh(&home, "daemon");
    leave_stale_socket(&path);
    let daemon = Arc::new(Mutex::new(None));
    let (at, into) = (path.clone(), Arc::clone(&daemon));
    let bind = move || {
        fs::remove_file(&at).unwrap();
        *into.lock().unwrap() = Some((UnixListener::bind(&at).unwrap(), inode(&at)));
    };
    let world = Rigged::new().without(protections).at("SocketJudged", bind).ready();
    let attempt = lock_at(&world, &path).try_acquire().unwrap();
    let daemon = daemon.lock().unwrap();
    let is_there = inode(&path) == daemon.as_ref().unwrap().1;
    let is_taken = matches!(attempt, Attempt::Taken(_));
    if is_there {
        assert_eq!(names_in(path.parent().unwrap()), ["sock", "sock.lock"]);
    }
    (is_taken, is_there)
}

fn a_daemon_that_binds_during_a_takeover_gets_its_name_back() {
    assert_eq!(taken_beside_a_daemon(&[]), (false, true));
}

fn without_the_inode_check_a_daemon_that_binds_meanwhile_loses_its_name() {
    assert_eq!(taken_beside_a_daemon(&["SocketInodeCheck"]), (true, false));
}

/// A second taker comes when the first one has judged the stale socket. Says who holds, and whether the second one's
/// socket was seen to be replaced.
fn two_takers(protections: &'static [&'static str]) -> (bool, bool, bool) {
    let home = TestHome::plain();
    let path = fresh(&home, "two");
    leave_stale_socket(&path);
    contest::two_takers(&path, "SocketJudged", protections, lock_at)
}

fn of_two_takers_of_one_stale_socket_the_second_waits() {
    assert_eq!(two_takers(&[]), (true, false, false));
}

fn without_the_lock_beside_it_a_holder_loses_its_name_for_a_moment() {
    assert_eq!(two_takers(&["SocketRemovalLock"]), (false, true, true));
}

fn without_the_lock_and_the_inode_check_two_hold() {
    let (first, second, _) = two_takers(&["SocketRemovalLock", "SocketInodeCheck"]);
    assert!(first && second, "both were told that they hold");
}

/// Releases a lock whose socket another daemon has replaced. Says whether the other's is still there.
fn release_beside_a_replacement(protections: &[&'static str]) -> bool {
    let home = TestHome::plain();
    let path = fresh(&home, "replaced");
    let world = Rigged::new().without(protections).ready();
    let guard = taken(lock_at(&world, &path).try_acquire());
    fs::remove_file(&path).unwrap();
    let _daemon = UnixListener::bind(&path).unwrap();
    assert_eq!(guard.check().unwrap(), Ownership::Lost(Loss::Replaced));
    guard.release().unwrap();
    path.exists()
}

fn a_socket_that_was_replaced_is_left_at_release() {
    assert!(release_beside_a_replacement(&[]));
}

fn without_the_own_inode_at_release_the_socket_of_another_is_removed() {
    assert!(!release_beside_a_replacement(&["SocketOwnInodeOnRelease"]));
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
    assert!(!drop_in_a_forked_copy(&["SocketMaker"]));
}

fn a_removed_socket_is_noticed_and_makes_no_room_for_a_second_holder() {
    let home = TestHome::plain();
    let path = fresh(&home, "removed");
    let guard = take(&path);
    assert_eq!(guard.check().unwrap(), Ownership::Held);
    fs::remove_file(&path).unwrap();
    assert_eq!(guard.check().unwrap(), Ownership::Lost(Loss::Removed));
    assert_eq!(find_busy(&path).pid, Some(std::process::id()));
    guard.release().unwrap();
    take(&path).release().unwrap();
}

fn a_socket_that_a_child_inherited_is_held_until_the_child_ends() {
    let home = TestHome::plain();
    let path = fresh(&home, "inherited");
    let guard = take(&path);
    assert!(guard.descriptor().as_raw_fd() > 2);
    let mut child = Command::new("sleep");
    child.arg("1000").stdin(Stdio::from(guard.descriptor().try_clone_to_owned().unwrap()));
    let child = Background::spawn_reading(child);
    guard.release().unwrap();
    let told = find_busy(&path);
    assert_eq!(told.pid, Some(std::process::id()), "who made it listen");
    assert!(path.exists());
    child.signal(Signal::KILL);
    wait_for_state(child.pid(), "Z");
    take(&path).release().unwrap();
    assert!(!path.exists());
}

fn without_exchange_a_stale_socket_is_held_and_left_alone() {
    let home = TestHome::plain();
    let path = fresh(&home, "no-exchange");
    leave_stale_socket(&path);
    let before = inode(&path);
    let world = Rigged::new().refusing("exchange", 22).ready();
    // A child that another test is just starting may have a copy of what this attempt has locked.
    let told = || busy(lock_at(&world, &path).try_acquire()).remedy;
    assert!(wait_until(SOON, "it is told what to do", told).contains("remove"));
    assert_eq!((inode(&path), names_in(path.parent().unwrap())), (before, vec!["sock".into(), "sock.lock".into()]));
}

fn leftovers_of_the_dead_are_removed_at_the_next_takeover() {
    let home = TestHome::plain();
    let path = fresh(&home, "leftovers");
    leave_stale_socket(&path);
    let private = |digit: char| path.with_file_name(format!(".fm-watch.{}.socket", digit.to_string().repeat(32)));
    leave_stale_socket(&private('a'));
    let alive = UnixListener::bind(private('b')).unwrap();
    fs::write(private('c'), "no socket").unwrap();
    take(&path).release().unwrap();
    assert!(!private('a').exists(), "nobody is bound to it");
    assert!(private('b').exists() && private('c').exists());
    drop(alive);
}

fn a_busy_contender_leaves_no_trace_and_disturbs_nobody() {
    let home = TestHome::plain();
    let path = fresh(&home, "quiet");
    let daemon = UnixListener::bind(&path).unwrap();
    daemon.set_nonblocking(true).unwrap();
    let mut lock = lock_at(&Arc::new(Real), &path);
    for _ in 0..10 {
        assert!(matches!(lock.attempt().unwrap(), Attempt::Busy(())));
    }
    assert_eq!(daemon.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nobody connected");
    assert_eq!(names_in(path.parent().unwrap()), ["sock"]);
    // Only who asks for the holder connects, and hangs up at once.
    assert_eq!(lock.holder().pid, Some(std::process::id()));
    let (mut connection, _) = daemon.accept().unwrap();
    assert_eq!(connection.read(&mut [0; 8]).unwrap(), 0);
}
