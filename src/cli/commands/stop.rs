//! `stop`: ask this home's verified watcher to leave.

use std::ffi::OsStr;

use serde_json::json;

use super::daemon;
use crate::base::console::Format;
use crate::base::error::{Context, Error, Result};
use crate::base::exit;
use crate::base::failpoint::Failpoint;
use crate::cli::session::Session;
use crate::layout::paths::names;
use crate::ownership::foreign_holder::ForeignObservation;
use crate::ownership::records::{StopRequest, StoppedForeign};
use crate::ownership::terminate::{self, Left};
use crate::ownership::verdict::{Evidence, OwnerEvidence, Verdict};
use crate::system::World;
use crate::system::identity::Pid;
use crate::system::storage::{self, Durability};

/// Stops the watcher, if one runs, and then the daemons that it kept.
///
/// # Errors
/// It cannot be proven to be this home's watcher, or it is still there after everything; nothing is done to the daemons
/// then. Or that is so of a daemon.
pub fn stop(session: &Session) -> Result<u8> {
    let code = stop_watcher(session)?;
    daemon::stop_kept(session)?;
    Ok(code)
}

fn stop_watcher(session: &Session) -> Result<u8> {
    let (evidence, verdict) = session.settled_verdict(session.settings().arm_timeout);
    if matches!(verdict, Verdict::Stopped { .. } | Verdict::Dead { .. }) {
        return report(session, None);
    }
    if let Some(foreign) = evidence.foreign_holder() {
        return stop_foreign_watcher(session, &evidence, foreign);
    }
    let OwnerEvidence::Recorded(owner, _) = &evidence.owner else {
        return Err(Error::refused(&session.place.directory, verdict, "nothing was signalled; look with `status`"));
    };
    let proven = terminate::prove(session.world.as_ref(), &session.place, owner, &session.here);
    let refused = |refusal: terminate::Refusal| {
        let path = session.home.ours(names::OWNER);
        Error::refused(path, format!("pid {} was not stopped: {refusal}", owner.pid()), "look with `status`")
    };
    let Some(proven) = proven.map_err(refused)? else {
        // It ended between two looks. Whoever holds the home by now is not to be taken for nobody.
        return match session.verdict().1 {
            Verdict::Stopped { .. } | Verdict::Dead { .. } => report(session, None),
            verdict => Err(Error::refused(&session.place.directory, verdict, "try again")),
        };
    };
    request(session, owner.generation, None)?;
    let left = proven.make_leave(session.world.as_ref(), session.settings().stop_grace).map_err(|refusal| {
        withdraw(session);
        refused(refusal)
    })?;
    if left == Left::Killed {
        session.console.note(format!("pid {} did not leave on being asked and was killed", owner.pid()));
    }
    report(session, Some(owner.pid()))
}

/// Asks a foreign watcher to leave, once it has proven to be this home's. It is never killed.
fn stop_foreign_watcher(session: &Session, evidence: &Evidence, seen: &ForeignObservation) -> Result<u8> {
    let (Some(foreign), Some(pid)) = (&session.foreign, seen.pid) else {
        let (_, verdict) = session.verdict();
        return Err(Error::refused(session.home.state(), verdict, "nothing was signalled; try again"));
    };
    let path = foreign.lock();
    let refused = |refusal: terminate::Refusal| {
        Error::refused(&path, format!("pid {pid} was not stopped: {refusal}"), "look with `status`")
    };
    let Some(proven) = foreign.prove(&session.world, seen).map_err(refused)? else {
        return match session.verdict().1 {
            Verdict::Stopped { .. } | Verdict::Dead { .. } => report(session, None),
            verdict => Err(Error::refused(&path, verdict, "try again")),
        };
    };
    let world = session.world.as_ref();
    // Without a directory of ours, nobody of ours waits who would have to know.
    let is_written = world.is_protected(Failpoint::StopShell) && world.facts_of_path(&session.home.watch()).is_ok();
    let generation = evidence.owner.generation().unwrap_or(0);
    let write = |last_beat_ns| {
        let stopped = Some(StoppedForeign { pid, last_beat_ns });
        if is_written { request(session, generation, stopped) } else { Ok(()) }
    };
    let take_back = || {
        if is_written {
            withdraw(session);
        }
    };
    write(None)?;
    proven.ask(world).inspect_err(|_| take_back()).map_err(refused)?;
    let waited = foreign.leaves_within();
    if !proven.has_ended_within(world, waited) {
        take_back();
        let found = format!("pid {pid} was asked to leave and is still there after {}s", waited.as_secs());
        let next = format!("a {} is not killed; find out what it is doing", foreign.kind().short);
        return Err(Error::refused(&path, found, next));
    }
    // From now on whoever beats is another one, which may be replaced when it ends.
    write(foreign.last_beat_ns(world))?;
    report(session, Some(pid))
}

/// Takes back the request: the watcher stays, and if it dies one day, that is not because a person asked for it.
fn withdraw(session: &Session) {
    let world = session.world.as_ref();
    let removed = world
        .open_directory(&session.home.watch())
        .and_then(|watch| storage::remove(world, &watch, OsStr::new(names::STOP)));
    if let Err(error) = removed {
        session.console.note(format!("cannot remove {}: {error}", session.home.ours(names::STOP).display()));
    }
}

/// Writes down that a person wants this acquisition, or the foreign watcher after it, to end, so that waiting `arm`s do not
/// replace it.
fn request(session: &Session, generation: u64, foreign: Option<StoppedForeign>) -> Result<()> {
    let world = session.world.as_ref();
    let path = session.home.watch();
    let watch = world.open_directory(&path).doing("open the directory", &path)?;
    let request = StopRequest { schema: 1, generation, at: world.now().wall_ms, foreign };
    let content = serde_json::to_vec(&request).map_err(|error| Error::Failed(error.to_string()))?;
    let written = storage::replace(world, &watch, names::STOP, &content, Durability::Process);
    if let Err(error) = written {
        // A full disk must not keep a person from stopping a watcher. A waiting arm may then start the next one.
        session.console.note(format!("cannot write {}: {error}", path.join(OsStr::new(names::STOP)).display()));
    }
    Ok(())
}

fn report(session: &Session, stopped: Option<Pid>) -> Result<u8> {
    let pid = stopped.map(Pid::get);
    match (session.console.format, pid) {
        (Format::Json, pid) => session.console.json(&json!({"schema": 1, "event": "stopped", "pid": pid}))?,
        (Format::Lines, Some(pid)) => session.console.data(&format!("watcher: stopped pid={pid}"))?,
        (Format::Lines, None) => session.console.note("no watcher runs in this home"),
    }
    Ok(exit::OK)
}
