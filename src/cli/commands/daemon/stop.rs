//! `daemon stop` and `daemon restart`.

use serde_json::json;

use super::definition::{daemons, known, unknown};
use super::ensure;
use crate::base::console::Format;
use crate::base::error::{Context, Error, Result};
use crate::base::exit;
use crate::cli::session::Session;
use crate::daemons::ensure::Daemons;
use crate::daemons::keeper;
use crate::daemons::paths::{self, DaemonPaths};
use crate::daemons::records::{self, StopRequest};
use crate::daemons::stop::{Departure, Stopped, shown};
use crate::settings::daemon_definition::{Definition, Name};

/// Stops a daemon, if it runs.
///
/// # Errors
/// It cannot be proven to be the daemon, or it is still there after everything; no such daemon, or nobody reads.
pub(crate) fn stop(session: &Session, daemons: &Daemons, name: &Name) -> Result<u8> {
    let definition = known(session, name)?;
    let stopped = make_stop(session, daemons, name, definition.as_ref())?;
    report(session, name, &stopped)?;
    Ok(exit::OK)
}

/// Stops a daemon if it runs, forgets that it was given up, and makes sure that it is ready.
///
/// # Errors
/// As [`stop`].
pub(crate) fn restart(session: &Session, daemons: &Daemons, name: &Name) -> Result<u8> {
    let Some(definition) = known(session, name)? else { return Err(unknown(session, name)) };
    let stopped = make_stop(session, daemons, name, Some(&definition))?;
    if stopped != Stopped::NotRunning {
        report(session, name, &stopped)?;
    }
    let keep = DaemonPaths::new(&session.home, name).file(paths::KEEP);
    daemons.forget_restarts(name).doing("remove", keep)?;
    ensure::ensured(session, daemons, name, &definition)
}

/// Stops the kept daemons, last one first, when their watcher has left. The next watcher starts them again: what a person
/// wanted to end is the watch over this home, and not one daemon of it.
///
/// # Errors
/// The first of those about a daemon; the others are stopped all the same.
pub(crate) fn stop_kept(session: &Session) -> Result<()> {
    let kept = keeper::kept(&session.home, session.settings());
    if kept.is_empty() {
        return Ok(());
    }
    let daemons = daemons(session)?;
    let mut outcome = Ok(());
    for (name, definition) in kept.iter().rev() {
        match (stop_with_watcher(session, &daemons, name, definition), &outcome) {
            (Err(error), Err(_)) => session.console.error(error),
            (Err(error), Ok(())) => outcome = Err(error),
            (Ok(()), _) => {}
        }
    }
    outcome
}

fn stop_with_watcher(session: &Session, daemons: &Daemons, name: &Name, definition: &Definition) -> Result<()> {
    let paths = DaemonPaths::new(&session.home, name);
    let before = stop_request(session, &paths);
    let stopped = make_stop(session, daemons, name, Some(definition))?;
    if stopped != Stopped::NotRunning {
        report(session, name, &stopped)?;
    }
    if matches!(stopped, Stopped::Left { .. }) {
        // A keeper without a memory of it starts it afresh.
        daemons.forget_restarts(name).doing("remove", paths.file(paths::KEEP))?;
    }
    // One that a person stopped before stays stopped.
    if stop_request(session, &paths) != before {
        records::remove(session.world.as_ref(), &paths, paths::STOP).doing("remove", paths.file(paths::STOP))?;
    }
    Ok(())
}

/// Which life a person asked to end.
fn stop_request(session: &Session, paths: &DaemonPaths) -> Option<u64> {
    let request = records::read_in::<StopRequest, _>(session.world.as_ref(), paths, paths::STOP);
    request.known().map(|request| request.generation)
}

fn make_stop(session: &Session, daemons: &Daemons, name: &Name, definition: Option<&Definition>) -> Result<Stopped> {
    let paths = DaemonPaths::new(&session.home, name);
    daemons.stop(name, definition).map_err(|refusal| {
        let next = format!("look with `{}`", session.command_line(&format!("daemon status {name}")));
        Error::refused(paths.directory(), format!("{name} was not stopped: {refusal}"), next)
    })
}

fn report(session: &Session, name: &Name, stopped: &Stopped) -> Result<()> {
    let console = session.console;
    let (pid, rest) = match stopped {
        Stopped::Left { pid, how } => {
            if *how == Departure::Killed {
                console.note(format!("{name}, pid {pid}, did not leave on being asked and was killed"));
            }
            (Some(*pid), Vec::new())
        }
        Stopped::Rest { pids } => (None, pids.clone()),
        Stopped::NotRunning => (None, Vec::new()),
    };
    if console.format == Format::Json {
        return console.json(&json!({"schema": 1, "event": "stopped", "name": name, "pid": pid, "rest": rest}));
    }
    match (pid, rest.as_slice()) {
        (Some(pid), _) => console.data(&format!("daemon: stopped {name} pid={pid}")),
        (None, []) => {
            console.note(format!("{name} does not run"));
            Ok(())
        }
        (None, rest) => {
            console.note(format!("{name} did not run; what it had left behind was stopped: pid {}", shown(rest)));
            Ok(())
        }
    }
}
