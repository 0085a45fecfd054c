//! This very program in other roles: processes that hold a lock or contend for one, to be stopped and killed.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use clap::ValueEnum;
use fm_watch::lock::{AnyLock, Kind, Subject};
use fm_watch::lock::{Attempt, Guard, Lock, Ownership};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};

use super::{Background, SOON, TestHome};

const HOLD: &str = "--hold-a-lock";
const CONTEND: &str = "--contend-for-a-lock";

/// Plays the role that the command line asks for, if it asks for one.
pub fn played() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let role = match arguments.next()?.as_str() {
        HOLD => hold,
        CONTEND => contend,
        _ => return None,
    };
    let kind = Kind::from_str(&arguments.next()?, false).unwrap();
    Some(role(kind, Path::new(&arguments.next()?)))
}

fn hold(kind: Kind, path: &Path) -> ExitCode {
    match AnyLock::at(kind, path, Subject::Myself).unwrap().acquire(SOON).unwrap() {
        Attempt::Taken(guard) => {
            println!("held");
            std::io::stdout().flush().unwrap();
            let _end = std::io::stdin().read_to_end(&mut Vec::new());
            guard.release().unwrap();
            ExitCode::SUCCESS
        }
        Attempt::Busy(_) => ExitCode::from(75),
    }
}

/// Takes, holds and releases until it is killed. It prints when it held, on the clock of all processes.
fn contend(kind: Kind, path: &Path) -> ExitCode {
    loop {
        match AnyLock::at(kind, path, Subject::Myself).unwrap().acquire(SOON).unwrap() {
            Attempt::Taken(guard) => {
                let from = now();
                say(&format!("+{}", from.as_nanos()));
                while now() < from + Duration::from_micros(200) {
                    std::hint::spin_loop();
                }
                assert_eq!(guard.check().unwrap(), Ownership::Held);
                say(&format!("-{}", now().as_nanos()));
                guard.release().unwrap();
            }
            Attempt::Busy(holder) => panic!("waited in vain; it is held {holder}"),
        }
    }
}

fn say(line: &str) {
    println!("{line}");
    std::io::stdout().flush().unwrap();
}

/// The clock on which holds are compared.
pub fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
}

/// When somebody held.
#[derive(Debug, Clone, Copy)]
struct Hold {
    from: u128,
    /// The end is not before this.
    until: u128,
}

/// What a contender printed until it was killed at this time. It held to its end what it had not released.
fn holds_of(printed: &str, killed_at: u128) -> Vec<Hold> {
    let mut holds: Vec<Hold> = Vec::new();
    let whole = &printed[..printed.rfind('\n').map_or(0, |end| end + 1)];
    for line in whole.lines() {
        let time = line[1..].parse().unwrap();
        match line.as_bytes()[0] {
            b'+' => holds.push(Hold { from: time, until: killed_at.max(time) }),
            _ => holds.last_mut().unwrap().until = time,
        }
    }
    holds
}

/// Eight processes contend for a lock, and one of them is killed and replaced again and again. No two hold at a time.
/// Says how often somebody held.
#[track_caller]
pub fn contend_under_kills(home: &TestHome, kind: &str, path: &Path, kills: usize) -> usize {
    let start = || {
        let mut command: Command = home.bare(std::env::current_exe().unwrap());
        command.args([CONTEND, kind]).arg(path);
        Background::spawn(command)
    };
    let mut contenders: Vec<_> = (0..8).map(|_| start()).collect();
    let mut holds = Vec::new();
    let mut kill = |contender: Background| {
        let killed_at = now().as_nanos();
        contender.signal(Signal::KILL);
        let answer = contender.finish(SOON);
        assert_eq!(answer.signal, Some(9), "it contended until it was killed: {answer:?}");
        holds.extend(holds_of(&answer.stdout, killed_at));
    };
    for number in 0..kills {
        let printed = |contenders: &[Background]| contenders.iter().map(|one| one.stdout().len()).sum::<usize>();
        let before = printed(&contenders);
        super::wait_until_true(SOON, "somebody has held", || printed(&contenders) > before);
        // The one that holds now, if it can be seen, else the next in turn.
        let holder =
            contenders.iter().position(|one| one.stdout().lines().last().is_some_and(|line| line.starts_with('+')));
        let victim = holder.filter(|_| number % 2 == 0).unwrap_or(number % 8);
        kill(std::mem::replace(&mut contenders[victim], start()));
    }
    contenders.into_iter().for_each(kill);
    holds.sort_by_key(|hold| hold.from);
    let overlap = holds.windows(2).find(|pair| pair[1].from < pair[0].until);
    assert!(overlap.is_none(), "two held at a time: {overlap:?}");
    holds.len()
}

/// Starts a process that holds a lock of this kind until it is killed.
#[track_caller]
pub fn holder(home: &TestHome, kind: &str, path: &Path) -> Background {
    let mut command: Command = home.bare(std::env::current_exe().unwrap());
    command.args([HOLD, kind]).arg(path).stdin(Stdio::piped());
    let holder = Background::spawn_reading(command);
    holder.wait_for_line("held");
    holder
}
