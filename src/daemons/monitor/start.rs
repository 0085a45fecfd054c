//! The beginning of a life: the process is made, written down, and only then allowed to be the daemon.
//!
//! Whoever is killed here leaves one of: a child that sees its gate close and ends without having executed anything; or a
//! daemon that is written down. There is no step at which a daemon runs that nobody could find again.
//!
//! # Making room for its socket
//!
//! A daemon that was killed leaves the name of its socket behind, and most programs then refuse to start. The name is
//! removed only by the monitor that holds the life lock, only if it stands for a socket, and only after the kernel has said
//! that nobody is bound to its inode, which is then true for ever. It is taken aside first and compared then, so that a
//! socket which somebody binds in between is put back and not removed.
//!
//! If this is wrong, a live server loses its name, or somebody's file is removed because it refuses connections as well.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::output::Output;
use super::readiness_channel::{DaemonEnd, ReadinessChannel};
use super::records::Records;
use crate::base::error::{Context, Error, Result};
use crate::base::failpoint::Failpoint;
use crate::daemons::locks::LifeLock;
use crate::daemons::membership;
use crate::daemons::records::{Ended, Life, Phase, SCHEMA};
use crate::daemons::restart_policy::End;
use crate::daemons::spawn_monitor::MonitorStatus;
use crate::lock::location::{Location, found};
use crate::lock::socket::probe::{self, Absence, Readiness};
use crate::settings::daemon_definition::{Definition, Ready, milliseconds};
use crate::system::handle::{AsHandle, HandleRef};
use crate::system::platform::{Birth, HeldDaemon, NotStarted, Pinned};
use crate::system::status_pipe::StatusWriter;
use crate::system::{Binding, Facts, Kind, Open, Real, World, storage};

/// Where programs are looked for if the daemon has no `PATH`.
const USUAL_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// How a daemon is related to its monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It is its child.
    Child,
    /// It was another monitor's child.
    Adopted,
}

/// A life that is to be watched.
#[derive(Debug)]
pub struct Watched {
    /// Its record, as it is on disk.
    pub life: Life,
    /// Its process.
    pub process: Pinned,
    /// What it prints.
    pub output: Output,
    /// Where it says that it is ready.
    pub channel: ReadinessChannel,
    /// How it is related to this monitor.
    pub origin: Origin,
    /// The file of its life lock.
    pub lock: Facts,
}

/// Begins a life under a life lock, which the daemon holds alone afterwards.
///
/// # Errors
/// Why there is no such life. Nothing of it is left then.
pub fn begin(
    records: &Records<'_>,
    definition: &Definition,
    lock: LifeLock,
    speaker: &mut StatusWriter<MonitorStatus>,
) -> Result<Watched> {
    records.reach(Failpoint::DaemonLifeLocked)?;
    if let Ready::Socket { path, .. } = &definition.ready {
        make_room(records.world(), path)?;
    }
    records.reach(Failpoint::DaemonSocketCleared)?;
    let nonce = nonce(records)?;
    let mut output = Output::open(records, definition.log_max)?;
    output.begin();
    let (channel, daemon_end) =
        ReadinessChannel::open(&definition.ready, &nonce).doing("listen to", Path::new(program(definition)))?;
    let mark = mark(records, &nonce)?;
    let mut held = fork(records, definition, &lock, &daemon_end, &mark)?;
    // Only the daemon is to have it, so that its end is seen.
    drop(daemon_end);
    if !records.world().is_protected(Failpoint::DaemonRecordFirst) {
        held = Waiting::Started(start(records, definition, held)?);
    }
    records.reach(Failpoint::DaemonForked)?;
    let mut life = life(records, definition, nonce, held.process()?)?;
    records.begin(&life)?;
    records.reach(Failpoint::DaemonRecorded)?;
    speaker.say(&MonitorStatus::Forked { pid: life.pid(), generation: life.generation });
    let process = match start(records, definition, held) {
        Ok(process) => process,
        Err(error) => {
            note_failure(records, &life, &error);
            return Err(error);
        }
    };
    records.reach(Failpoint::DaemonExecuted)?;
    let facts = lock.facts();
    // From now on it is held exactly as long as the daemon, or a process of it that kept it, lives.
    drop(lock);
    renew(records, &mut life, &process);
    Ok(Watched { life, process, output, channel, origin: Origin::Child, lock: facts })
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

fn nonce(records: &Records<'_>) -> Result<String> {
    let bytes = records.world().nonce().doing("name a life in", records.assignment.paths.directory())?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// What the daemon is to be known by when nothing else is left to know it by.
fn mark(records: &Records<'_>, nonce: &str) -> Result<String> {
    let directory = records.world().facts(&records.directory).doing("examine", records.assignment.paths.directory())?;
    Ok(membership::mark(nonce, &directory))
}

fn program(definition: &Definition) -> &str {
    definition.command.first().map_or("", String::as_str)
}

fn fork(
    records: &Records<'_>,
    definition: &Definition,
    lock: &LifeLock,
    daemon_end: &DaemonEnd,
    mark: &str,
) -> Result<Waiting> {
    let environment = environment(&records.assignment.environment, definition, daemon_end, mark);
    let path = environment.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value);
    let path = path.and_then(|value| value.to_str()).unwrap_or(USUAL_PATH);
    let programs = programs(program(definition), path, &definition.cwd);
    let output = Output::for_daemon(records)?;
    let mut inherited: Vec<HandleRef<'_>> = vec![lock.descriptor()];
    inherited.extend(daemon_end.pipe.as_ref().map(AsHandle::as_handle));
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
    daemon_end: &DaemonEnd,
    mark: &str,
) -> Vec<(String, OsString)> {
    let mut all: BTreeMap<&str, OsString> = base.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    all.extend(definition.env.iter().map(|(name, value)| (name.as_str(), value.into())));
    all.extend(daemon_end.variable.iter().map(|(name, value)| (name.as_str(), value.into())));
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

fn life(records: &Records<'_>, definition: &Definition, nonce: String, process: &Pinned) -> Result<Life> {
    let now = records.world().now();
    let identity = records.observe(process).map_err(|why| {
        Error::refused(records.assignment.paths.directory(), format!("the new process cannot be recorded: {why}"), NEXT)
    })?;
    Ok(Life {
        schema: SCHEMA,
        generation: records.next_generation(),
        nonce,
        phase: Phase::Starting,
        process: identity,
        session: process.pid(),
        monitor: records.monitor.clone(),
        definition: definition.clone(),
        since: now.wall_ms,
        since_monotonic_ms: milliseconds::of(now.monotonic),
        socket: None,
    })
}

/// What a person can do when processes cannot be examined.
const NEXT: &str = "nothing was started; see whether /proc can be read here";

fn start(records: &Records<'_>, definition: &Definition, waiting: Waiting) -> Result<Pinned> {
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
            Error::refused(records.assignment.paths.directory(), found, "try again")
        }
    })
}

/// Records the process as it is now that it has executed its program. The older record names the same process.
fn renew(records: &Records<'_>, life: &mut Life, process: &Pinned) {
    if let Ok(identity) = records.observe(process) {
        life.process = identity;
        if let Err(error) = records.go_on(life) {
            tracing::warn!("{error}");
        }
    }
}

fn note_failure(records: &Records<'_>, life: &Life, error: &Error) {
    let ended = ended(records, life, End::NotReady { reason: error.to_string() });
    if let Err(error) = records.end(life, &ended) {
        tracing::warn!("{error}");
    }
}

/// The record of an end that has just been seen.
pub fn ended(records: &Records<'_>, life: &Life, end: End) -> Ended {
    let now = records.world().now();
    let at = milliseconds::of(now.monotonic);
    Ended {
        schema: SCHEMA,
        generation: life.generation,
        pid: life.pid(),
        end,
        at: now.wall_ms,
        at_monotonic_ms: at,
        lasted_ms: at.saturating_sub(life.since_monotonic_ms),
        boot_id: records.world().boot_id(),
    }
}

/// How long a server that may be there has to accept a connection.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// Removes the name of a socket that nobody serves any more. Nothing there is fine.
///
/// # Errors
/// Anything else is there, which stays as it is.
fn make_room(world: &Arc<Real>, path: &Path) -> Result<()> {
    match probe::probe(world, path, None, ANSWERS_WITHIN)? {
        Readiness::Absent(Absence::NoName) => Ok(()),
        Readiness::Absent(Absence::Stale) => remove(world, path),
        other => Err(occupied(path, &other.to_string())),
    }
}

fn occupied(path: &Path, found: &str) -> Error {
    Error::refused(path, found, "nothing was started or removed; end what is there, or use another path")
}

fn remove(world: &Arc<Real>, path: &Path) -> Result<()> {
    let Location { directory, name, .. } = Location::open(world, path)?;
    let Some(pinned) = found(world.open(&directory, &name, Open::Pin)).doing("examine", path)? else { return Ok(()) };
    let facts = world.facts(&pinned).doing("examine", path)?;
    let binding = || probe::binding(world.as_ref(), &directory, &name, &pinned).doing("probe", path);
    if facts.kind != Kind::Socket || binding()? != Binding::Unbound {
        return Err(occupied(path, "is somebody else's since a moment ago"));
    }
    let aside = name_aside(world, path)?;
    match found(world.rename(&directory, &name, &aside)).doing("remove", path)? {
        Some(()) => {}
        None => return Ok(()),
    }
    let moved = world.facts_at(&directory, &aside).doing("examine", path)?;
    if moved.is_same_inode(&facts) {
        return storage::remove(world.as_ref(), &directory, &aside).doing("remove", path);
    }
    // Somebody bound a socket in between. It gets its name back unless that has been given away as well.
    world.link(&directory, &aside, &name).doing("put back", path)?;
    storage::remove(world.as_ref(), &directory, &aside).doing("tidy up beside", path)?;
    Err(occupied(path, "was bound by another program a moment ago"))
}

fn name_aside(world: &Arc<Real>, path: &Path) -> Result<OsString> {
    let nonce = u128::from_le_bytes(world.nonce().doing("make a name beside", path)?);
    Ok(format!(".fm-watch.{nonce:032x}.stale").into())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test prepares files and processes of its own")]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_a_socket_that_nobody_serves_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let world = Arc::new(Real);
        let path = directory.path().join("s");
        make_room(&world, &path).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        let refused = make_room(&world, &path).unwrap_err().to_string();
        assert!(refused.contains("is served by pid"), "{refused}");
        drop(listener);
        make_room(&world, &path).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        fs::write(&path, "mine").unwrap();
        let refused = make_room(&world, &path).unwrap_err().to_string();
        assert!(refused.contains("is a regular file"), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

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
        let daemon_end = DaemonEnd { pipe: None, variable: Some(("NOTIFY_SOCKET".to_owned(), "@true".to_owned())) };
        let given = environment(&[pair("PATH", "/bin"), pair("LANG", "C")], &definition, &daemon_end, "mark");
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
