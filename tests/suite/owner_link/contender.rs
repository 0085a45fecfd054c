//! What this program does when a test starts it again as somebody else.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use fm_watch::lock::owner_link::OwnerLinkLock;
use fm_watch::lock::{Attempt, Guard, Lock};
use fm_watch::system::{Real, World};

use super::staged::Staged;
use crate::support::TestHome;

/// The variable that names the role. Nobody sets it by accident.
const ROLE: &str = "FM_WATCH_TEST_OWNER_LINK_ROLE";
/// The protections that the contender lacks.
const WITHOUT: &str = "FM_WATCH_TEST_OWNER_LINK_WITHOUT";

/// For how many milliseconds it lets others have the lock after each hold.
const REST: &str = "FM_WATCH_TEST_OWNER_LINK_REST";

/// The protections that a contender may be told to lack.
const PROTECTIONS: [&str; 2] = ["OwnerLinkStealMutex", "OwnerLinkStealRevalidation"];

/// Plays the role that was asked for; `None` if this is an ordinary run of the tests.
pub fn role() -> Option<ExitCode> {
    let role = std::env::var(ROLE).ok()?;
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    match role.as_str() {
        "clock" => println!("{}", now()),
        "contender" => contend(&arguments.next()?, &arguments.next()?, &arguments.next()?, rest()),
        other => panic!("there is no role {other}"),
    }
    Some(ExitCode::SUCCESS)
}

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub fn now() -> u128 {
    Real.now().monotonic.as_nanos()
}

/// The command that prints the time, for shell peers.
pub fn clock() -> Vec<std::ffi::OsString> {
    let program = std::env::current_exe().unwrap();
    vec!["env".into(), format!("{ROLE}=clock").into(), program.into()]
}

/// A contender of ours that takes and gives back until a file exists.
pub fn command(home: &TestHome, arguments: [&Path; 3], without: &[&str], rest: Duration) -> Command {
    let mut command = home.bare(std::env::current_exe().unwrap());
    command.args(arguments).env(ROLE, "contender").env(WITHOUT, without.join(","));
    command.env(REST, rest.as_millis().to_string());
    command
}

fn rest() -> Duration {
    Duration::from_millis(std::env::var(REST).map_or(0, |text| text.parse().unwrap()))
}

fn contend(lock: &Path, log: &Path, stop: &Path, rest: Duration) {
    let without = std::env::var(WITHOUT).unwrap_or_default();
    let lacking: Vec<_> = PROTECTIONS.into_iter().filter(|name| without.split(',').any(|other| other == *name)).collect();
    let world = Staged::without(&lacking);
    let mut lock = OwnerLinkLock::at(&world, lock).unwrap();
    while !stop.exists() {
        if let Attempt::Taken(guard) = lock.acquire(Duration::from_millis(100)).unwrap() {
            hold(guard, &world, log);
            world.pause(rest);
        }
    }
}

fn hold(guard: impl Guard, world: &Arc<Staged>, log: &Path) {
    let mut log = OpenOptions::new().append(true).create(true).open(log).unwrap();
    writeln!(log, "take {}", now()).unwrap();
    world.pause(Duration::from_millis(2));
    writeln!(log, "leave {}", now()).unwrap();
    guard.release().unwrap();
}
