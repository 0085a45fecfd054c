//! Exactly one daemon: real ones, difficult ones, many clients at once, and kills at every moment.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::background::wait_for_end;
use crate::support::daemons::{Daemons, pid_at, program};
use crate::support::home::pid_in;
use crate::support::{Background, SOON, Skip, processes, requires, wait_until, wait_until_true};

cases! {
    redis_on_a_unix_socket,
    an_http_server_of_python_that_says_in_its_log_that_it_serves,
    a_daemon_that_forks_twice_is_known_by_its_pidfile,
    a_first_process_that_is_about_to_end_is_not_told_as_the_daemon,
    a_daemon_that_forks_twice_and_serves_a_socket_is_recognised,
    a_daemon_that_binds_late_and_listens_later_is_waited_for,
    a_daemon_that_is_never_ready_is_ended_and_its_last_lines_are_told,
    a_daemon_that_exits_at_once_is_told_at_once,
    a_daemon_that_ignores_term_is_killed_after_its_grace,
    whatever_a_daemon_leaves_behind_is_stopped_with_it,
    what_a_daemon_leaves_behind_when_it_dies_does_not_keep_the_next_from_starting,
    a_daemon_that_closes_every_descriptor_is_still_the_only_one,
    readiness_by_a_byte_and_by_notify,
    a_stopped_daemon_is_never_doubled,
    two_hundred_clients_get_one_daemon,
    a_daemon_that_was_named_on_the_command_line_is_known_by_its_name,
    two_homes_have_two_daemons,
    the_guard_counts_what_is_to_be_kept,
    the_caller_ends_and_its_pipe_with_it,
    a_daemon_gets_nothing_that_is_not_its_own,
    kicked_it_starts_although_its_caller_is_gone,
    whoever_is_killed_at_whatever_moment_the_next_ensure_gives_one_daemon,
    killed_in_another_order_too,
    with_two_killed_at_once_too,
}

/// A daemon that is ready when it answers at its socket, and notes each of its starts.
const SERVER: &str = r#"
[daemon.server]
command = ["{daemon}", "note", "{scratch}/starts", "listen", "{scratch}/s", "serve"]
ready = { socket = "{scratch}/s", request = "ping\n", answer = "pong" }
stop_grace = "1s"
"#;

fn redis_on_a_unix_socket() -> Result<(), Skip> {
    // One program with two names: which one it is asked by decides what it does.
    let server = requires("redis-server").or_else(|_| requires("redis-check-rdb"))?;
    let daemons = Daemons::configured(
        r#"
        [daemon.redis]
        command = ["{scratch}/redis-server", "--port", "0", "--save", "", "--dir", "{scratch}", "--unixsocket", "{scratch}/redis.sock"]
        ready = { socket = "{scratch}/redis.sock", request = "PING\r\n", answer = "+PONG" }
        "#,
    )?;
    std::os::unix::fs::symlink(server, daemons.path("redis-server")).unwrap();
    let first = daemons.ask(&["ensure", "redis"]).expect_code(0);
    let pid = pid_in(&first.stdout).unwrap();
    assert!(first.stdout.starts_with(&format!("daemon: started redis pid={pid} (ready in ")), "{first:?}");
    let second = daemons.ask(&["ensure", "redis"]).expect_code(0);
    assert_eq!(second.stdout, format!("daemon: attached redis pid={pid}\n"));
    assert!(processes::command_line(pid).unwrap()[0].contains("redis-server"));
    let logs = daemons.ask(&["logs", "redis"]).expect_code(0);
    assert!(logs.stdout.contains("ready to accept connections"), "{logs:?}");
    let stopped = daemons.ask(&["stop", "redis"]).expect_code(0);
    assert_eq!(stopped.stdout, format!("daemon: stopped redis pid={pid}\n"));
    assert!(processes::has_ended(pid));
    assert_ne!(daemons.ensure("redis"), pid);
    Ok(())
}

fn an_http_server_of_python_that_says_in_its_log_that_it_serves() -> Result<(), Skip> {
    requires("python3")?;
    let daemons = Daemons::configured(
        r#"
        [daemon.http]
        command = ["python3", "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", "{scratch}/run"]
        ready = { log = "^Serving HTTP on 127\\.0\\.0\\.1 port [0-9]+" }
        stop_signal = "INT"
        "#,
    )?;
    let pid = daemons.ensure("http");
    let logs = daemons.ask(&["logs", "http", "-n", "5"]).expect_code(0);
    let port: u16 = logs.stdout.split("port ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert_eq!(daemons.ensure("http"), pid);
    daemons.ask(&["stop", "http"]).expect_code(0);
    assert!(processes::has_ended(pid));
    Ok(())
}

fn a_daemon_that_forks_twice_is_known_by_its_pidfile() -> Result<(), Skip> {
    let daemons = Daemons::configured(
        r#"
        [daemon.forker]
        command = ["{daemon}", "double-fork", "late", "50", "note", "{scratch}/starts", "pidfile", "{scratch}/pid"]
        ready = { pidfile = "{scratch}/pid" }
        stop_grace = "1s"
        "#,
    )?;
    let pid = daemons.ensure("forker");
    assert_eq!(daemons.noted("starts"), [pid]);
    assert_eq!(daemons.ensure("forker"), pid);
    daemons.ask(&["stop", "forker"]).expect_code(0);
    assert!(processes::has_ended(pid));
    // What it left at its path is nobody's now, and its successor is known by its own.
    let next = daemons.ensure("forker");
    assert_eq!(daemons.noted("starts"), [pid, next]);
    Ok(())
}

/// The pid that is told is the one that stays, also if the one that was started ends a moment after the other is ready.
fn a_first_process_that_is_about_to_end_is_not_told_as_the_daemon() -> Result<(), Skip> {
    let daemons = Daemons::configured(
        r#"
        [daemon.forker]
        command = ["sh", "-c", "'{daemon}' note '{scratch}/starts' pidfile '{scratch}/pid' & sleep 0.02"]
        ready = { pidfile = "{scratch}/pid" }
        "#,
    )?;
    let is_told = || {
        let pid = daemons.ensure("forker");
        let is_it = daemons.noted("starts").last() == Some(&pid);
        daemons.ask(&["stop", "forker"]).expect_code(0);
        is_it
    };
    // On a very busy machine the moment can be longer than it is waited for.
    assert!((0..10).any(|_| is_told()));
    Ok(())
}

fn a_daemon_that_forks_twice_and_serves_a_socket_is_recognised() -> Result<(), Skip> {
    let daemons = Daemons::configured(&SERVER.replace("\"note\"", "\"forget\", \"double-fork\", \"note\""))?;
    let pid = daemons.ensure("server");
    assert_eq!(pid_at(&daemons.path("s")), Some(pid));
    assert_eq!(daemons.ensure("server"), pid);
    assert_eq!(daemons.noted("starts"), [pid]);
    daemons.ask(&["stop", "server"]).expect_code(0);
    assert!(daemons.instances().is_empty());
    Ok(())
}

fn a_daemon_that_binds_late_and_listens_later_is_waited_for() -> Result<(), Skip> {
    let late = r#""late", "200", "bind", "{scratch}/s", "late", "200", "then-listen""#;
    let daemons = Daemons::configured(&SERVER.replace(r#""listen", "{scratch}/s""#, late))?;
    let both: Vec<_> = (0..2).map(|_| Background::spawn(daemons.command(&["ensure", "server"]))).collect();
    let pids: Vec<_> =
        both.into_iter().map(|client| pid_in(&client.finish(SOON).expect_code(0).stdout).unwrap()).collect();
    assert_eq!(pids[0], pids[1]);
    assert_eq!(daemons.noted("starts"), [pids[0]]);
    Ok(())
}

fn a_daemon_that_is_never_ready_is_ended_and_its_last_lines_are_told() -> Result<(), Skip> {
    let daemons = Daemons::configured(
        r#"
        [daemon.mute]
        command = ["{daemon}", "note", "{scratch}/starts", "leave", "say", "I have nothing to listen on"]
        ready = { socket = "{scratch}/s" }
        ready_timeout = "300ms"
        stop_grace = "300ms"
        "#,
    )?;
    let answer = daemons.ask(&["ensure", "mute"]).expect_code(1);
    assert!(answer.stdout.starts_with("daemon: FAILED mute - "), "{answer:?}");
    assert!(answer.stderr.contains("I have nothing to listen on"), "{answer:?}");
    assert_eq!(daemons.noted("starts").len(), 1);
    assert!(daemons.instances().is_empty(), "nothing of it is left: {:?}", daemons.instances());
    Ok(())
}

fn a_daemon_that_exits_at_once_is_told_at_once() -> Result<(), Skip> {
    let daemons = Daemons::configured(
        r#"
        [daemon.broken]
        command = ["{daemon}", "note", "{scratch}/starts", "say", "no such table", "late", "20", "exit", "7"]
        ready = { socket = "{scratch}/s" }
        ready_timeout = "60s"
        "#,
    )?;
    let answer = daemons.ask(&["ensure", "broken"]).expect_code(1);
    assert!(answer.stdout.starts_with("daemon: FAILED broken - ") && answer.stdout.contains("exited with 7"), "{answer:?}");
    assert!(answer.stderr.contains("no such table"), "{answer:?}");
    assert!(answer.took < Duration::from_secs(5), "{answer:?}");
    let missing = daemons.ask(&["ensure", "--name", "none", "--", "/nonexistent/program"]).expect_code(1);
    assert!(missing.stdout.contains("/nonexistent/program"), "{missing:?}");
    Ok(())
}

fn a_daemon_that_ignores_term_is_killed_after_its_grace() -> Result<(), Skip> {
    let daemons =
        Daemons::configured(&SERVER.replace("\"note\"", "\"stubborn\", \"note\"").replace("\"1s\"", "\"200ms\""))?;
    let pid = daemons.ensure("server");
    let answer = daemons.ask(&["stop", "server"]).expect_code(0);
    assert!(processes::has_ended(pid), "{answer:?}");
    assert!(answer.took >= Duration::from_millis(200), "it was asked first: {answer:?}");
    let end = wait_until(SOON, "its end is recorded", || daemons.end("server"));
    assert_eq!((end["end"]["how"].as_str(), end["end"]["signal"].as_i64()), (Some("signalled"), Some(9)), "{end}");
    Ok(())
}

fn whatever_a_daemon_leaves_behind_is_stopped_with_it() -> Result<(), Skip> {
    let daemons =
        Daemons::configured(&SERVER.replace("\"listen\"", "\"leave\", \"leave-away\", \"listen\"").replace("1s", "200ms"))?;
    let pid = daemons.ensure("server");
    assert_eq!(daemons.instances().len(), 3);
    daemons.ask(&["stop", "server"]).expect_code(0);
    assert!(daemons.instances().is_empty(), "of {pid} these live: {:?}", daemons.instances());
    Ok(())
}

fn what_a_daemon_leaves_behind_when_it_dies_does_not_keep_the_next_from_starting() -> Result<(), Skip> {
    let daemons =
        Daemons::configured(&SERVER.replace("\"listen\"", "\"leave\", \"leave-away\", \"listen\"").replace("1s", "200ms"))?;
    let pid = daemons.ensure("server");
    // Its monitor first, so that nobody is there to clear up.
    daemons.home.kill(daemons.monitor("server").unwrap());
    daemons.home.kill(pid);
    assert_eq!(daemons.instances().len(), 2);
    let next = daemons.ensure("server");
    assert_eq!(pid_at(&daemons.path("s")), Some(next));
    assert_eq!(daemons.instances().len(), 3);
    Ok(())
}

fn a_daemon_that_closes_every_descriptor_is_still_the_only_one() -> Result<(), Skip> {
    let daemons = Daemons::configured(&SERVER.replace("\"note\"", "\"forget\", \"note\""))?;
    let pid = daemons.ensure("server");
    assert_eq!(daemons.ensure("server"), pid);
    daemons.home.kill(daemons.monitor("server").unwrap());
    assert_eq!(daemons.ensure("server"), pid, "it lives, although its lock is free and its monitor is gone");
    daemons.ask(&["stop", "server"]).expect_code(0);
    assert!(daemons.instances().is_empty());
    assert_eq!(daemons.noted("starts"), [pid]);
    Ok(())
}

fn readiness_by_a_byte_and_by_notify() -> Result<(), Skip> {
    let daemons = Daemons::configured(
        r#"
        [daemon.byte]
        command = ["{daemon}", "note", "{scratch}/byte", "late", "100", "byte"]
        ready = { fd = true }
        [daemon.notify]
        command = ["{daemon}", "note", "{scratch}/notify", "late", "100", "notify"]
        ready = { notify = true }
        [daemon.plain]
        command = ["{daemon}", "note", "{scratch}/plain"]
        ready = { delay = "50ms" }
        "#,
    )?;
    for name in ["byte", "notify", "plain"] {
        let answer = daemons.ask(&["ensure", name]).expect_code(0);
        let pid = pid_in(&answer.stdout).unwrap();
        assert_eq!(daemons.noted(name), [pid], "{answer:?}");
        assert_eq!(daemons.ensure(name), pid);
    }
    assert_eq!(daemons.instances().len(), 3);
    Ok(())
}

fn a_stopped_daemon_is_never_doubled() -> Result<(), Skip> {
    let daemons = Daemons::configured(&format!("{SERVER}ready_timeout = \"1s\"\n"))?;
    let pid = daemons.ensure("server");
    daemons.home.signal(pid, Signal::STOP);
    // The kernel accepts connections for it all the same.
    std::os::unix::net::UnixStream::connect(daemons.path("s")).unwrap();
    let answer = daemons.ask(&["ensure", "server"]).expect_code(1);
    assert!(answer.stdout.starts_with("daemon: FAILED server - ") && answer.stdout.contains(&pid.to_string()), "{answer:?}");
    let status = daemons.ask(&["status", "server"]).expect_code(4);
    assert!(status.stdout.contains("STALLED"), "{status:?}");
    daemons.home.signal(pid, Signal::CONT);
    assert_eq!(daemons.ensure("server"), pid);
    assert_eq!(daemons.noted("starts"), [pid]);
    Ok(())
}

fn two_hundred_clients_get_one_daemon() -> Result<(), Skip> {
    const CLIENTS: usize = 200;
    const ROUNDS: usize = 20;
    let daemons = Daemons::configured(SERVER)?;
    for round in 1..=ROUNDS {
        let clients: Vec<_> =
            (0..CLIENTS).map(|_| Background::spawn(daemons.command(&["ensure", "server", "--json"]))).collect();
        let answers: Vec<_> = clients.into_iter().map(|client| client.finish(SOON).expect_code(0).json()).collect();
        let who = |answer: &serde_json::Value| (answer["pid"].as_u64(), answer["generation"].as_u64());
        let pid = pid_at(&daemons.path("s")).unwrap();
        assert!(answers.iter().all(|answer| who(answer) == (Some(pid.into()), Some(round as u64))), "{answers:?}");
        let started = answers.iter().filter(|answer| answer["event"] == "started").count();
        assert!(started <= 1, "{started} clients say that they started it");
        assert_eq!(daemons.noted("starts").len(), round);
        assert_eq!(daemons.instances().len(), 1);
        daemons.ask(&["stop", "server"]).expect_code(0);
    }
    Ok(())
}

fn a_daemon_that_was_named_on_the_command_line_is_known_by_its_name() -> Result<(), Skip> {
    let daemons = Daemons::new();
    daemons.ask(&["ensure", "own"]).expect_code(2);
    let (program, starts) = (program()?, daemons.path("starts"));
    let first = daemons.ask(&["ensure", "--name", "own", "--ready-pidfile", &starts, "--", program, "note", &starts]);
    let pid = pid_in(&first.expect_code(0).stdout).unwrap();
    assert_eq!(daemons.ensure("own"), pid);
    daemons.ask(&["stop", "own"]).expect_code(0);
    std::fs::remove_file(&starts).unwrap();
    let next = daemons.ensure("own");
    assert_eq!(daemons.noted("starts"), [next], "started as it was the last time");
    Ok(())
}

fn two_homes_have_two_daemons() -> Result<(), Skip> {
    let (one, other) = (Daemons::configured(SERVER)?, Daemons::configured(SERVER)?);
    assert_ne!(one.ensure("server"), other.ensure("server"));
    one.ask(&["stop", "server"]).expect_code(0);
    assert_eq!((one.instances().len(), other.instances().len()), (0, 1));
    Ok(())
}

fn the_guard_counts_what_is_to_be_kept() -> Result<(), Skip> {
    let idle = Daemons::configured(SERVER)?;
    assert_eq!(idle.home.ask(&["guard"]).expect_code(0).stderr, "", "what nobody is to keep needs no watcher");
    let kept = Daemons::configured(&format!("{SERVER}restart = \"always\"\n"))?;
    let warned = kept.home.ask(&["guard"]).expect_code(0);
    assert!(warned.stderr.contains("0 task(s) in flight and 1 daemon(s) to keep, but "), "{warned:?}");
    kept.home.arm();
    assert_eq!(kept.home.ask(&["guard"]).expect_code(0).stderr, "");
    Ok(())
}

fn the_caller_ends_and_its_pipe_with_it() -> Result<(), Skip> {
    let daemons = Daemons::configured(SERVER)?;
    // A pipe ends when the last process that could write to it has ended or closed it.
    let mut shell = daemons.home.bare("sh");
    let client = daemons.command(&["ensure", "server"]);
    shell.args(["-c", "\"$@\" | cat; echo the pipe has ended", "sh"]).arg(client.get_program()).args(client.get_args());
    let answer = Background::spawn(shell).finish(SOON).expect_code(0);
    assert!(answer.stdout.ends_with("the pipe has ended\n"), "{answer:?}");
    let pid = daemons.pid("server").unwrap();
    let lock = daemons.file("server", "lock");
    let (standard, others): (Vec<_>, Vec<_>) =
        processes::descriptors(pid).into_iter().partition(|&(number, _)| number <= 2);
    assert_eq!(standard[0].1.to_str(), Some("/dev/null"));
    assert_eq!(standard[1].1, daemons.file("server", "output"));
    assert_eq!(standard[2].1, daemons.file("server", "output"));
    let held: Vec<_> = others.iter().filter(|(_, path)| !path.to_string_lossy().starts_with("socket:")).collect();
    assert!(matches!(held[..], [(_, path)] if *path == lock), "{others:?}");
    assert_eq!(processes::stat_field(pid, 6), Some(pid.to_string()), "it leads a session of its own");
    Ok(())
}

fn a_daemon_gets_nothing_that_is_not_its_own() -> Result<(), Skip> {
    let daemons = Daemons::configured(
        r#"
        [daemon.teller]
        command = ["sh", "-c", "env > {scratch}/told; umask >> {scratch}/told; pwd >> {scratch}/told; exec {daemon} note {scratch}/starts"]
        env = { MINE = "yes" }
        ready = { pidfile = "{scratch}/starts" }
        "#,
    )?;
    let removed = daemons.home.scratch().join("removed");
    fs::create_dir(&removed).unwrap();
    let client = daemons.command(&["ensure", "teller"]);
    let mut shell = daemons.home.bare("sh");
    shell.args(["-c", "umask 000; rmdir ../removed; \"$@\"", "sh"]).arg(client.get_program()).args(client.get_args());
    shell.current_dir(&removed).env("SECRET_TOKEN", "secret").env("FM_HOME", "/nonexistent");
    Background::spawn(shell).finish(SOON).expect_code(0);
    let told = fs::read_to_string(daemons.path("told")).unwrap();
    assert!(told.contains("MINE=yes") && !told.contains("SECRET") && !told.contains("FM_HOME"), "{told}");
    assert!(told.ends_with(&format!("0000\n{}\n", daemons.home.root().display())), "umask and directory: {told}");
    let directory = daemons.file("teller", "");
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    Ok(())
}

fn kicked_it_starts_although_its_caller_is_gone() -> Result<(), Skip> {
    let daemons = Daemons::configured(&SERVER.replace("\"note\"", "\"late\", \"200\", \"note\""))?;
    let answer = daemons.ask(&["kick", "server"]).expect_code(0);
    assert_eq!(answer.stdout, "daemon: kicked server\n");
    let again = daemons.ask(&["kick", "server"]).expect_code(0);
    assert!(!again.stdout.contains("FAILED"), "{again:?}");
    let pid = wait_until(SOON, "it serves", || pid_at(&daemons.path("s")));
    assert_eq!(daemons.ensure("server"), pid);
    assert_eq!(daemons.noted("starts"), [pid]);
    Ok(())
}

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Client,
    Monitor,
    Daemon,
    Keeper,
}

/// A fresh start, during which the victims are killed after a delay, and then the next `ensure`.
fn one_daemon_after_kills(daemons: &Daemons, victims: &[Victim], after: Duration) {
    let keeper = victims.contains(&Victim::Keeper).then(|| daemons.home.arm());
    let client = Background::spawn(daemons.command(&["ensure", "server"]));
    // The moment is what the sweep is over; nothing is expected of what has happened by then.
    let begun = std::time::Instant::now();
    wait_until_true(SOON, "the moment has come", || begun.elapsed() >= after);
    for victim in victims {
        let pid = match victim {
            Victim::Client => Some(client.pid()),
            Victim::Monitor => daemons.monitor("server"),
            Victim::Daemon => daemons.pid("server"),
            Victim::Keeper => keeper,
        };
        if let Some(pid) = pid
            && processes::signal_if_naming(pid, daemons.home.scratch(), Signal::KILL)
        {
            // One whose KILL is pending still answers.
            wait_for_end(pid, "the victim");
        }
    }
    drop(client.finish(SOON));
    let pid = daemons.ensure("server");
    assert_eq!(pid_at(&daemons.path("s")), Some(pid), "{victims:?} after {after:?}");
    assert_eq!(daemons.instances().into_iter().collect::<Vec<_>>(), [pid], "{victims:?} after {after:?}");
    daemons.ask(&["stop", "server"]).expect_code(0);
    assert!(daemons.instances().is_empty(), "{victims:?} after {after:?}");
}

/// A hundred points over the time that a start takes, and somewhat longer.
fn sweep(orders: &[&[Victim]]) -> Result<(), Skip> {
    const POINTS: u32 = 108;
    let daemons = Daemons::configured(SERVER)?;
    let mut took = Vec::new();
    for _ in 0..5 {
        took.push(daemons.ask(&["ensure", "server"]).expect_code(0).took);
        daemons.ask(&["stop", "server"]).expect_code(0);
    }
    took.sort();
    let whole = took[2] * 3 / 2;
    for point in 0..POINTS {
        let victims = orders[point as usize % orders.len()];
        one_daemon_after_kills(&daemons, victims, whole * point / POINTS);
    }
    Ok(())
}

fn whoever_is_killed_at_whatever_moment_the_next_ensure_gives_one_daemon() -> Result<(), Skip> {
    sweep(&[&[Victim::Client], &[Victim::Monitor], &[Victim::Daemon]])
}

fn killed_in_another_order_too() -> Result<(), Skip> {
    sweep(&[
        &[Victim::Daemon, Victim::Client],
        &[Victim::Client, Victim::Monitor],
        &[Victim::Daemon, Victim::Monitor],
        &[Victim::Monitor, Victim::Daemon],
    ])
}

fn with_two_killed_at_once_too() -> Result<(), Skip> {
    sweep(&[
        &[Victim::Keeper],
        &[Victim::Keeper, Victim::Daemon],
        &[Victim::Monitor, Victim::Keeper, Victim::Client],
        &[Victim::Daemon, Victim::Keeper, Victim::Monitor],
    ])
}
