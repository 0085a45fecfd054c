//! This very program as a daemon: it does what its arguments say, one step after the other.
//!
//! Each player notes its births in a directory of the test, so that a test can count how many daemons there were.

// A daemon of the old school forks, which no safe interface does.
#![allow(unsafe_code)]

use std::fs;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::{SOON, wait_until_true};

const PLAY: &str = "--play-a-daemon";

/// The command line of a player. What it notes goes into the directory, whose path is in its arguments.
pub fn command(directory: &Path, steps: &[&str]) -> Vec<String> {
    let program = std::env::current_exe().unwrap().into_os_string().into_string().unwrap();
    let mut command = vec![program, PLAY.to_owned(), directory.to_str().unwrap().to_owned()];
    command.extend(steps.iter().map(|&step| step.to_owned()));
    command
}

/// Plays a daemon if the command line asks for that.
pub fn played() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next()? != PLAY {
        return None;
    }
    let directory = PathBuf::from(arguments.next()?);
    note(&directory, &format!("birth-{}", std::process::id()));
    for step in arguments {
        let (verb, object) = step.split_once(':').unwrap_or((&step, ""));
        if let Some(code) = play(&directory, verb, object) {
            return Some(code);
        }
    }
    Some(ExitCode::SUCCESS)
}

/// How many players were born.
pub fn births(directory: &Path) -> usize {
    let names = fs::read_dir(directory).unwrap().flatten().map(|entry| entry.file_name());
    names.filter(|name| name.to_str().is_some_and(|name| name.starts_with("birth-"))).count()
}

/// What a player noted under a name, once it has.
pub fn noted(directory: &Path, name: &str) -> Option<u32> {
    fs::read_to_string(directory.join(name)).ok()?.trim().parse().ok()
}

fn play(directory: &Path, verb: &str, object: &str) -> Option<ExitCode> {
    match verb {
        "say" => {
            println!("{object}");
            std::io::stdout().flush().unwrap();
        }
        "flood" => flood(object.parse().unwrap()),
        "note" => note(directory, object),
        "await" => wait_until_true(SOON * 3, object, || directory.join(object).exists()),
        "lasts" => std::thread::sleep(Duration::from_millis(object.parse().unwrap())),
        "exit" => return Some(ExitCode::from(object.parse::<u8>().unwrap())),
        "ignore-term" => ignore_term(),
        // The listener has to outlive the step.
        "serve" => std::mem::forget(UnixListener::bind(object).unwrap()),
        "serve-answering" => answer(UnixListener::bind(object).unwrap()),
        "serve-greeting" => greet(directory.to_owned(), UnixListener::bind(object).unwrap()),
        "pidfile" => fs::write(object, format!("{}\n", std::process::id())).unwrap(),
        "ready-descriptor" => ready_descriptor(),
        "ready-notify" => ready_notify(),
        "close-all" => close_all(),
        "new-session" => drop(rustix::process::setsid()),
        // The parent is done, with this exit code; its child plays on.
        "fork" => {
            // SAFETY: this process has one thread, so its child may do anything.
            if unsafe { libc::fork() } != 0 {
                return Some(ExitCode::from(object.parse::<u8>().unwrap_or(0)));
            }
        }
        // The child notes itself and stays; its parent plays on.
        "child" | "child-of-own-session" => {
            // SAFETY: as above.
            if unsafe { libc::fork() } == 0 {
                if verb == "child-of-own-session" {
                    rustix::process::setsid().unwrap();
                }
                note(directory, object);
                stay();
            }
            wait_until_true(SOON, object, || directory.join(object).exists());
        }
        // Processes that end when nobody waits for them any more but whoever has adopted them.
        "orphans" => (0..object.parse().unwrap()).for_each(|_| leave_an_orphan()),
        "stay" => stay(),
        other => panic!("no such step: {other}"),
    }
    None
}

/// Writes the pid into a file of this name, which is there whole or not at all.
fn note(directory: &Path, name: &str) {
    let unfinished = directory.join(format!(".{name}-{}", std::process::id()));
    fs::write(&unfinished, std::process::id().to_string()).unwrap();
    fs::rename(unfinished, directory.join(name)).unwrap();
}

fn leave_an_orphan() {
    // SAFETY: this process has one thread; the children only fork and end, and the parent waits for the first.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::fork();
            libc::_exit(0);
        }
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
}

/// Until somebody ends it.
fn stay() {
    loop {
        std::thread::park();
    }
}

fn flood(lines: usize) {
    let mut out = std::io::stdout().lock();
    for number in 0..lines {
        writeln!(out, "line {number} of many").unwrap();
    }
    out.flush().unwrap();
}

fn ignore_term() {
    // SAFETY: ignoring is not a handler.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
}

/// Answers each `ping` with `pong`, in a thread of its own.
fn answer(listener: UnixListener) {
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut asked = [0; 5];
            if connection.read_exact(&mut asked).is_ok() && &asked == b"ping\n" {
                let _gone = connection.write_all(b"pong\n");
            }
        }
    });
}

/// Greets whoever connects, in a thread of its own, but not before the other side has hung up or a while is over; and does
/// not survive that nobody hears it, as many programs. Notes each connection.
fn greet(directory: PathBuf, listener: UnixListener) {
    const A_WHILE: Duration = Duration::from_millis(25);
    std::thread::spawn(move || {
        for (number, connection) in listener.incoming().enumerate() {
            let mut connection = connection.unwrap();
            note(&directory, &format!("met-{number}"));
            // No event is asked for: a hang-up is told all the same.
            let mut polled = [rustix::event::PollFd::new(&connection, rustix::event::PollFlags::empty())];
            rustix::event::poll(&mut polled, Some(&A_WHILE.try_into().unwrap())).unwrap();
            if connection.write_all(b"hello\n").is_err() {
                std::process::exit(9);
            }
            note(&directory, &format!("greeted-{number}"));
        }
    });
}

fn ready_descriptor() {
    let number: i32 = std::env::var("FM_WATCH_READY_FD").unwrap().parse().unwrap();
    // SAFETY: the descriptor was inherited for this, and nobody else knows its number.
    unsafe { fs::File::from_raw_fd(number) }.write_all(b"x").unwrap();
}

fn ready_notify() {
    let name = std::env::var("NOTIFY_SOCKET").unwrap();
    let address = SocketAddr::from_abstract_name(name.strip_prefix('@').unwrap()).unwrap();
    UnixDatagram::unbound().unwrap().send_to_addr(b"STATUS=up\nREADY=1", &address).unwrap();
}

fn close_all() {
    // SAFETY: no value of this process owns one of them.
    unsafe { libc::close_range(3, u32::MAX, 0) };
}
