//! The beginning of a life: the process is made, written down, and only then allowed to be the daemon.
//!
//! Whoever is killed here leaves one of: a child that sees its gate close and ends without having executed anything; or a
//! daemon that is written down. There is no step at which a daemon runs that nobody could find again.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::output::Output;
use super::readiness_channel::{Ears, Mouth};
use super::records::Desk;
use super::stale_socket;
use crate::base::error::{Context, Error, Result};
use crate::base::failpoint::Failpoint;
use crate::daemons::locks::LifeLock;
use crate::daemons::membership;
use crate::daemons::monitor_status::MonitorWord;
use crate::daemons::records::{Ended, Life, Phase, SCHEMA};
use crate::daemons::restart_policy::End;
use crate::settings::daemon_definition::{Definition, Ready};
use crate::system::handle::{AsHandle, HandleRef};
use crate::system::platform::{Birth, HeldDaemon, NotStarted, Pinned};
use crate::system::status_pipe::StatusWriter;
use crate::system::{Facts, World};

/// Where programs are looked for if the daemon has no `PATH`.
const USUAL_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A daemon that has just been started.
#[derive(Debug)]
pub struct Born {
    /// Its record, as it is on disk.
    pub life: Life,
    /// Its process.
    pub process: Pinned,
    /// What it prints.
    pub output: Output,
    /// What it says.
    pub ears: Ears,
    /// The file of its life lock.
    pub lock: Facts,
}

/// Begins a life under a life lock, which the daemon holds alone afterwards.
///
/// # Errors
/// Why there is no such life. Nothing of it is left then.
pub fn give_birth(
    desk: &Desk<'_>,
    definition: &Definition,
    lock: LifeLock,
    speaker: &mut StatusWriter<MonitorWord>,
) -> Result<Born> {
    desk.reach(Failpoint::DaemonLifeLocked)?;
    if let Ready::Socket { path, .. } = &definition.ready {
        stale_socket::clear(desk.world(), path)?;
    }
    desk.reach(Failpoint::DaemonSocketCleared)?;
    let nonce = nonce(desk)?;
    let mut output = Output::open(desk, definition.log_max)?;
    output.begin();
    let (ears, mouth) = Ears::open(&definition.ready, &nonce).doing("listen to", Path::new(program(definition)))?;
    let mark = mark(desk, &nonce)?;
    let mut held = fork(desk, definition, &lock, &mouth, &mark)?;
    // Only the daemon is to have it, so that its end is seen.
    drop(mouth);
    if !desk.world().is_protected(Failpoint::DaemonRecordFirst) {
        held = Waiting::Started(start(desk, definition, held)?);
    }
    desk.reach(Failpoint::DaemonForked)?;
    let mut life = life(desk, definition, nonce, held.process()?)?;
    desk.begin(&life)?;
    desk.reach(Failpoint::DaemonRecorded)?;
    speaker.say(&MonitorWord::Forked { pid: life.pid(), generation: life.generation });
    let process = match start(desk, definition, held) {
        Ok(process) => process,
        Err(error) => {
            note_failure(desk, &life, &error);
            return Err(error);
        }
    };
    desk.reach(Failpoint::DaemonExecuted)?;
    let facts = lock.facts();
    // From now on it is held exactly as long as the daemon, or a process of it that kept it, lives.
    drop(lock);
    renew(desk, &mut life, &process);
    Ok(Born { life, process, output, ears, lock: facts })
}

/// A process that waits at its gate. A test can take the gate away.
enum Waiting {
    Held(HeldDaemon),
    Started(Pinned),
}

impl Waiting {
    fn process(&self) -> Result<&Pinned> {
        match self {
            Self::Held(held) => held.process().ok_or_else(|| Error::Failed("the new process is gone".to_owned())),
            Self::Started(process) => Ok(process),
        }
    }
}

fn nonce(desk: &Desk<'_>) -> Result<String> {
    let bytes = desk.world().nonce().doing("name a life in", desk.assignment.place.directory())?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// What the daemon is to be known by when nothing else is left to know it by.
fn mark(desk: &Desk<'_>, nonce: &str) -> Result<String> {
    let directory = desk.world().facts(&desk.directory).doing("examine", desk.assignment.place.directory())?;
    Ok(membership::mark(nonce, &directory))
}

fn program(definition: &Definition) -> &str {
    definition.command.first().map_or("", String::as_str)
}

fn fork(desk: &Desk<'_>, definition: &Definition, lock: &LifeLock, mouth: &Mouth, mark: &str) -> Result<Waiting> {
    let environment = environment(&desk.assignment.environment, definition, mouth, mark);
    let path = environment.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value);
    let path = path.and_then(|value| value.to_str()).unwrap_or(USUAL_PATH);
    let programs = programs(program(definition), path, &definition.cwd);
    let output = Output::for_daemon(desk)?;
    let mut inherited: Vec<HandleRef<'_>> = vec![lock.descriptor()];
    inherited.extend(mouth.pipe.as_ref().map(AsHandle::as_handle));
    let birth = Birth {
        programs: &programs,
        arguments: &definition.command,
        environment: &environment,
        directory: &definition.cwd,
        output: output.as_handle(),
        inherited: &inherited,
    };
    HeldDaemon::fork(&birth).map(Waiting::Held).doing("make a process for", program(definition))
}

/// What it is called with: what every child gets, its own variables, how it can say that it is ready, and the mark of its
/// life.
fn environment(
    base: &[(String, OsString)],
    definition: &Definition,
    mouth: &Mouth,
    mark: &str,
) -> Vec<(String, OsString)> {
    let mut all: BTreeMap<&str, OsString> = base.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    all.extend(definition.env.iter().map(|(name, value)| (name.as_str(), value.into())));
    all.extend(mouth.variable.iter().map(|(name, value)| (name.as_str(), value.into())));
    all.insert(membership::VARIABLE, mark.into());
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Where a program may be: at its path, or under its name in each directory of `PATH`, of which relative ones are relative
/// to the daemon's directory.
fn programs(name: &str, path: &str, directory: &Path) -> Vec<PathBuf> {
    if name.contains('/') {
        return vec![directory.join(name)];
    }
    path.split(':').map(|place| directory.join(place).join(name)).collect()
}

fn life(desk: &Desk<'_>, definition: &Definition, nonce: String, process: &Pinned) -> Result<Life> {
    let now = desk.world().now();
    let identity = desk.observe(process).map_err(|why| {
        Error::refused(desk.assignment.place.directory(), format!("the new process cannot be recorded: {why}"), NEXT)
    })?;
    Ok(Life {
        schema: SCHEMA,
        generation: desk.next_generation(),
        nonce,
        phase: Phase::Starting,
        process: identity,
        session: process.pid(),
        monitor: desk.monitor.clone(),
        definition: definition.clone(),
        since: now.wall_ms,
        since_monotonic_ms: u64::try_from(now.monotonic.as_millis()).unwrap_or(u64::MAX),
        socket: None,
    })
}

/// What a person can do when processes cannot be examined.
const NEXT: &str = "nothing was started; see whether /proc can be read here";

fn start(desk: &Desk<'_>, definition: &Definition, waiting: Waiting) -> Result<Pinned> {
    let held = match waiting {
        Waiting::Held(held) => held,
        Waiting::Started(process) => return Ok(process),
    };
    held.start(definition.ready_timeout).map_err(|why| match why {
        NotStarted::Directory(error) => Error::system("enter the directory", &definition.cwd, error),
        NotStarted::Program(error) => Error::system("execute", program(definition), error),
        NotStarted::Preparation(error) => Error::system("prepare a process for", program(definition), error),
        NotStarted::Late => {
            let found = format!("did not execute {} in time", program(definition));
            Error::refused(desk.assignment.place.directory(), found, "try again")
        }
    })
}

/// Records the process as it is now that it has executed its program. The older record names the same process.
fn renew(desk: &Desk<'_>, life: &mut Life, process: &Pinned) {
    if let Ok(identity) = desk.observe(process) {
        life.process = identity;
        if let Err(error) = desk.go_on(life) {
            tracing::warn!("{error}");
        }
    }
}

fn note_failure(desk: &Desk<'_>, life: &Life, error: &Error) {
    let ended = ended(desk, life, End::NotReady { reason: error.to_string() });
    if let Err(error) = desk.end(life, &ended) {
        tracing::warn!("{error}");
    }
}

/// The record of an end that has just been seen.
pub fn ended(desk: &Desk<'_>, life: &Life, end: End) -> Ended {
    let now = desk.world().now();
    let at = u64::try_from(now.monotonic.as_millis()).unwrap_or(u64::MAX);
    Ended {
        schema: SCHEMA,
        generation: life.generation,
        pid: life.pid(),
        end,
        at: now.wall_ms,
        at_monotonic_ms: at,
        lasted_ms: at.saturating_sub(life.since_monotonic_ms),
        boot_id: desk.world().boot_id(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_looked_for_in_the_daemons_own_path() {
        let found = programs("redis", "/usr/bin:bin::/x", Path::new("/home"));
        let expected = ["/usr/bin/redis", "/home/bin/redis", "/home/redis", "/x/redis"];
        assert_eq!(found, expected.map(PathBuf::from));
        assert_eq!(programs("/opt/redis", "/usr/bin", Path::new("/home")), [PathBuf::from("/opt/redis")]);
    }

    #[test]
    fn a_daemons_own_variable_stands_for_the_inherited_one() {
        let pair = |name: &str, value: &str| (name.to_owned(), OsString::from(value));
        let mut definition = definition();
        definition.env.insert("LANG".to_owned(), "own".to_owned());
        definition.env.insert("NOTIFY_SOCKET".to_owned(), "forged".to_owned());
        definition.env.insert("FM_WATCH_LIFE".to_owned(), "forged".to_owned());
        let mouth = Mouth { pipe: None, variable: Some(("NOTIFY_SOCKET".to_owned(), "@true".to_owned())) };
        let given = environment(&[pair("PATH", "/bin"), pair("LANG", "C")], &definition, &mouth, "mark");
        let expected = [("FM_WATCH_LIFE", "mark"), ("LANG", "own"), ("NOTIFY_SOCKET", "@true"), ("PATH", "/bin")];
        assert_eq!(given, expected.map(|(name, value)| pair(name, value)));
    }

    fn definition() -> Definition {
        let told = serde_json::json!({
            "command": ["x"], "cwd": "/", "ready": "notify", "ready_timeout": 1, "restart": "no", "backoff": 1,
            "backoff_max": 1, "brake": {"max_restarts": 1, "window": 1}, "stop_signal": "TERM", "stop_grace": 1,
            "log_max": 4096,
        });
        serde_json::from_value(told).unwrap()
    }
}
