//! `daemon status`: how daemons are, and `daemon verify`: whether there is a second instance.

use std::ffi::OsString;
use std::time::Duration;

use serde_json::json;

use super::definition::known;
use crate::base::console::Format;
use crate::base::error::{Error, Result};
use crate::base::{escape, exit};
use crate::cli::session::Session;
use crate::daemons::ensure::Daemons;
use crate::daemons::find_duplicates::Verified;
use crate::daemons::paths;
use crate::daemons::report::{Report, Status};
use crate::daemons::state::State;
use crate::ownership::verdict::age;
use crate::settings::Daemon;
use crate::settings::daemon_definition::{Name, Restart, milliseconds};
use crate::system::World;
use crate::system::identity::Pid;

/// Prints how one daemon is, or all are.
///
/// # Errors
/// No such daemon, or nobody reads.
pub(crate) fn status(session: &Session, daemons: &Daemons, name: Option<&Name>) -> Result<u8> {
    let names = match name {
        Some(name) => {
            known_or_unreadable(session, name)?;
            vec![name.clone()]
        }
        None => all(session)?,
    };
    let reports: Vec<(Report, Option<Usage>)> = names
        .iter()
        .map(|name| daemons.report(name))
        .map(|report| {
            let usage = report.pid().and_then(usage_of);
            (report, usage)
        })
        .collect();
    match session.console.format {
        Format::Json => {
            for (report, usage) in &reports {
                session.console.json(&object(session, report, *usage))?;
            }
        }
        Format::Lines if reports.is_empty() => session.console.note("this home has no daemons"),
        Format::Lines => {
            for line in table(&reports) {
                session.console.data(&line)?;
            }
        }
    }
    note_unkept(session, &names);
    Ok(reports.iter().map(|(report, _)| exit_code(report.status)).max().unwrap_or(exit::OK))
}

/// What is to be kept is kept by a watcher. Without one a pause before a restart has no end.
fn note_unkept(session: &Session, names: &[Name]) {
    let is_to_be_kept = |daemon: &Daemon| daemon.restart != Restart::No && names.contains(&daemon.name);
    if session.settings().daemons.iter().any(is_to_be_kept) {
        let (_, verdict) = session.verdict();
        if !verdict.is_watching() {
            let arm = session.command_line("arm");
            session.console.note(format!("nobody keeps these daemons, because {verdict}; `{arm}` mends it"));
        }
    }
}

/// A daemon whose directory cannot be opened has a state all the same: nobody can tell.
fn known_or_unreadable(session: &Session, name: &Name) -> Result<()> {
    match known(session, name) {
        Ok(_) | Err(Error::System { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The daemons of the settings, in their order, then others that have a directory, by name.
fn all(session: &Session) -> Result<Vec<Name>> {
    let mut names: Vec<Name> = session.settings().daemons.iter().map(|daemon| daemon.name.clone()).collect();
    let path = paths::all(&session.home);
    let found = match session.world.open_directory(&path).and_then(|directory| session.world.names(&directory)) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Error::system("list", path, error)),
    };
    let as_name = |name: OsString| Name::new(name.into_string().ok()?).ok();
    let mut others: Vec<Name> = found.into_iter().filter_map(as_name).filter(|name| !names.contains(name)).collect();
    others.sort();
    names.extend(others);
    Ok(names)
}

fn exit_code(status: Status) -> u8 {
    match status {
        Status::Starting | Status::Ready => exit::OK,
        Status::Backoff | Status::Fatal | Status::Stopped => exit::NOT_RUNNING,
        Status::Stalled | Status::Foreign | Status::Unknown => exit::UNCERTAIN,
    }
}

const COLUMNS: [&str; 8] = ["NAME", "STATE", "PID", "UPTIME", "RESTARTS", "CPU", "MEMORY", "LAST EXIT OR REASON"];

fn table(reports: &[(Report, Option<Usage>)]) -> Vec<String> {
    let rows: Vec<[String; 8]> = std::iter::once(COLUMNS.map(str::to_owned))
        .chain(reports.iter().map(|(report, usage)| row(report, *usage)))
        .collect();
    let widths: Vec<usize> = (0..COLUMNS.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    rows.iter()
        .map(|row| {
            let padded = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

fn row(report: &Report, usage: Option<Usage>) -> [String; 8] {
    let dash = || "-".to_owned();
    [
        report.name.to_string(),
        report.status.word().to_owned(),
        report.pid().map_or_else(dash, |pid| pid.to_string()),
        report.uptime.map_or_else(dash, age),
        report.restarts.to_string(),
        usage.map_or_else(dash, |usage| age(usage.cpu)),
        usage.map_or_else(dash, |usage| format!("{} KiB", usage.memory / 1024)),
        report.why().map_or_else(dash, |why| escape::line(&why)),
    ]
}

fn object(session: &Session, report: &Report, usage: Option<Usage>) -> serde_json::Value {
    json!({
        "schema": 1,
        "name": report.name,
        "state": report.status.word(),
        "pid": report.pid(),
        "generation": report.life.as_ref().map(|life| life.generation),
        "uptime_ms": report.uptime.map(milliseconds::of),
        "restarts": report.restarts,
        "cpu_ms": usage.map(|usage| milliseconds::of(usage.cpu)),
        "memory_bytes": usage.map(|usage| usage.memory),
        "why": report.why(),
        "last_exit": report.last,
        "keeper": report.course,
        "command": report.life.as_ref().map(|life| &life.definition.command),
        "directory": paths::all(&session.home).join(report.name.as_str()),
    })
}

/// What a process costs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Bytes of memory that it has in use.
    pub(crate) memory: u64,
    /// The time for which it has had a processor, in its whole life.
    pub(crate) cpu: Duration,
}

/// What the process of a pid costs, if there is one. No other process is looked at.
pub(crate) fn usage_of(pid: Pid) -> Option<Usage> {
    use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};
    let pid = sysinfo::Pid::from_u32(pid.get());
    let mut system = System::new();
    let kind = ProcessRefreshKind::nothing().with_memory().with_cpu();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, kind);
    let process = system.process(pid)?;
    Some(Usage { memory: process.memory(), cpu: Duration::from_millis(process.accumulated_cpu_time()) })
}

/// Looks, and says what was found.
///
/// # Errors
/// No such daemon, the processes cannot be listed, or nobody reads.
pub(crate) fn verify(session: &Session, daemons: &Daemons, name: &Name) -> Result<u8> {
    let definition = known(session, name)?;
    let verified = daemons.verify(name, definition.as_ref()).map_err(|error| Error::Failed(error.to_string()))?;
    match session.console.format {
        Format::Lines => lines(session, name, &verified)?,
        Format::Json => {
            let others: Vec<_> =
                verified.others.iter().map(|other| json!({"pid": other.pid, "command": other.command})).collect();
            session.console.json(&json!({
                "schema": 1, "name": name, "pid": verified.recorded, "others": others,
                "standing": verified.state.to_string(),
            }))?;
        }
    }
    Ok(match (&verified.state, verified.recorded, verified.others.is_empty()) {
        (_, _, false) => exit::FAILED,
        (State::Unknown(_) | State::Foreign(_), _, true) => exit::UNCERTAIN,
        (_, Some(_), true) => exit::OK,
        (_, None, true) => exit::NOT_RUNNING,
    })
}

fn lines(session: &Session, name: &Name, verified: &Verified) -> Result<()> {
    let console = session.console;
    for other in &verified.others {
        console.data(&escape::line(&format!("daemon: second {name} pid={} - {}", other.pid, other.command)))?;
    }
    match (verified.recorded, verified.others.is_empty()) {
        (Some(pid), true) => console.data(&format!("daemon: alone {name} pid={pid}")),
        (None, true) => {
            console.note(format!("{name} {}, and nothing looks like it", verified.state));
            Ok(())
        }
        (recorded, false) => {
            let recorded = recorded.map_or_else(|| "does not run".to_owned(), |pid| format!("is pid {pid}"));
            console.note(format!("the daemon {name} of this home {recorded}; nobody was signalled"));
            Ok(())
        }
    }
}
