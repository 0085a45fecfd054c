//! `adopt`: put this program under the scripts of a firstmate home, or take it away again.

use std::io::ErrorKind;
use std::sync::Arc;

use super::stop;
use crate::base::console::{Console, Format};
use crate::base::environment::Environment;
use crate::base::error::{Context, Error, Result};
use crate::base::exit;
use crate::cli::args::{self, Global};
use crate::cli::session::Session;
use crate::firstmate::adopt::{Bin, Care, Mode, Step};
use crate::firstmate::queue::Queue;
use crate::firstmate::queue_sync::QueueSync;
use crate::layout::paths::{Home, Selection, names};
use crate::lock::Attempt;
use crate::ownership::home_lock::{HomeLock, check_private};
use crate::system::program;
use crate::system::storage;
use crate::system::{Real, World};
use crate::watcher::sources::{checks, inbox};
use serde_json::json;

/// Adopts, or undoes that.
///
/// # Errors
/// A script that must not be touched, or the system's refusal.
pub fn adopt(console: Console, options: &args::Adopt) -> Result<u8> {
    let environment = Environment::of_this_process();
    let selection = Selection { home: Some(options.directory.clone()), state: None };
    let home = Home::resolve(&selection, &environment, std::env::current_dir().ok().as_deref())?;
    let mode = if options.dry_run { Mode::Shows } else { Mode::Does };
    let bin = Bin::open(&Real, home.root(), mode)?;
    if options.undo {
        return undo(console, &home, &bin, mode);
    }
    let own = program::own_path()?;
    if own.starts_with("/proc") {
        let next = "run the one that is installed; nothing was changed";
        return Err(Error::refused(own, "the file of this program is not there any more, and shims need it", next));
    }
    let program = program::stable_path(&Real, &environment, own);
    let care = if options.force { Care::Force } else { Care::Refuse };
    look_at_rights(console, &home, care)?;
    say(console, &bin.adopt(&Real, &program, &home.watch(), care, mode)?)?;
    Ok(exit::OK)
}

/// The scripts run whatever others can write; ours does not, and this is the time to say so.
fn look_at_rights(console: Console, home: &Home, care: Care) -> Result<()> {
    let Ok(state) = Real.open_directory(home.state()) else { return Ok(()) };
    let private = check_private(home.state(), &Real.facts(&state).doing("examine", home.state())?);
    match (private, care) {
        (Err(error), Care::Refuse) => return Err(error),
        (Err(error), Care::Force) => console.note(error),
        (Ok(()), _) => {}
    }
    for (name, why) in checks::refused(&Real, &state).doing("list", home.state())? {
        console.note(format!("{} will not be run: {why}", home.state().join(name).display()));
    }
    Ok(())
}

fn say(console: Console, steps: &[Step]) -> Result<()> {
    steps.iter().try_for_each(|step| match console.format {
        Format::Lines => console.data(&step.to_string()),
        Format::Json => console.json(&json!({
            "schema": 1,
            "event": format!("{:?}", step.did).to_lowercase(),
            "path": step.path.to_string_lossy(),
            "done": step.mode == Mode::Does,
        })),
    })
}

/// The scripts first: from then on nothing starts a watcher of ours any more.
fn undo(console: Console, home: &Home, bin: &Bin<Real>, mode: Mode) -> Result<u8> {
    let undone = bin.undo(&Real, mode)?;
    say(console, &undone.steps)?;
    if mode == Mode::Shows {
        return Ok(if undone.left.is_empty() { exit::OK } else { exit::FAILED });
    }
    if undone.removes_watch {
        if Real.facts_of_path(&home.watch()).is_ok() {
            set_watch_aside(home)?;
        }
        remove_set_aside(home)?;
    }
    if undone.left.is_empty() {
        bin.forget(&Real)?;
        return Ok(exit::OK);
    }
    for error in &undone.left {
        console.error(error);
    }
    Ok(exit::FAILED)
}

/// The name under which `state/watch` is removed. It gets it in one step: if that is cut short, what is left of the
/// records is not taken for a home, which would tell its wakes again.
const REMOVED: &str = ".fm-watch.removed";

/// Renames `state/watch` once nobody uses it any more and nothing would be lost.
fn set_watch_aside(home: &Home) -> Result<()> {
    let session = Session::open(&Global { home: Some(home.root().to_owned()), quiet: true, ..Global::default() })?;
    // A watcher of the shell scripts goes on: they are the home's own again.
    if session.verdict().0.foreign_holder().is_none() {
        stop::stop(&session)?;
    }
    let lock = match HomeLock::try_take(&session.world, &session.place)? {
        Attempt::Taken(lock) => lock,
        Attempt::Busy(()) => {
            let next = "the scripts are back; stop what holds it, and undo once more";
            return Err(Error::refused(home.watch(), "somebody has just taken the home", next));
        }
    };
    let refuse = |found: String| {
        let next = "the scripts are back; deal with that, and undo once more, or remove it yourself";
        Err(Error::refused(home.watch(), found, next))
    };
    if let Some(found) = other_things(&session)? {
        return refuse(found);
    }
    // A name that is taken would be in the way.
    remove_set_aside(home)?;
    let set_aside = || -> Result<()> {
        let world = session.world.as_ref();
        let state = world.open_directory(home.state()).doing("open", home.state())?;
        let renamed =
            world.rename(&state, names::WATCH.as_ref(), REMOVED.as_ref()).and_then(|()| world.sync_all(&state));
        renamed.doing("remove", home.watch())
    };
    let wakes = session.world.facts_of_path(&home.ours(names::WAKES));
    if wakes.is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return set_aside();
    }
    let Some(fleet) = &session.fleet else { return refuse("the scripts are not there".to_owned()) };
    let queue = Queue::open(&session.world, fleet)?;
    let held = match queue.entrance()?.enter(session.settings().arm_timeout)? {
        Attempt::Taken(held) => held,
        Attempt::Busy(holder) => return refuse(format!("{} is held {holder}", queue.lock_path().display())),
    };
    // What no script was told of gets a row, so that the scripts' own drain tells it.
    let (patterns, generation) = (session.loaded.compile()?, session.generation());
    let mut sync = QueueSync::open(&session.world, home, session.settings(), patterns, generation)?;
    let crossing = sync.cross(&held)?;
    if let Some(problem) = crossing.problems.into_iter().next() {
        return Err(problem);
    }
    let _nobody_writes = sync.keep_writers_out()?;
    sync.look()?;
    if let Some(wake) = sync.untold(&crossing.row_map) {
        return refuse(format!("wakes wait in it that no script was told of, such as: {}", wake.text));
    }
    held.tidy()?;
    set_aside()?;
    drop(lock);
    Ok(())
}

/// Removes what was `state/watch`, also by an earlier undoing.
fn remove_set_aside(home: &Home) -> Result<()> {
    let path = home.state().join(REMOVED);
    let removed =
        Real.open_directory(home.state()).and_then(|state| storage::remove_tree(&Real, &state, REMOVED.as_ref()));
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.doing("remove", path),
    }
}

/// What is only there besides wakes, and would be missed.
fn other_things(session: &Session) -> Result<Option<String>> {
    let world: &Arc<Real> = &session.world;
    for (name, what) in [(names::INBOX, "wakes of scripts"), (names::DAEMONS, "records of daemons")] {
        let path = session.home.ours(name);
        let Ok(directory) = world.open_directory(&path) else { continue };
        let listed = world.names(&directory).doing("list", &path)?;
        let counts = |entry: &std::ffi::OsString| name != names::INBOX || inbox::is_drop_in(entry);
        if listed.iter().any(counts) {
            return Ok(Some(format!("it holds {what}, in {name}")));
        }
    }
    Ok(None)
}
