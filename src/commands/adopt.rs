//! `adopt`: put this program under the scripts of a firstmate home, or take it away again.

use std::path::Path;
use std::sync::Arc;

use super::console::{Console, Format};
use super::context::Session;
use super::stop;
use crate::cli::{self, Color, Global};
use crate::environment::Environment;
use crate::error::{Context, Error, Result};
use crate::exit;
use crate::firstmate::adopt::{Bin, Care, Hand, Step};
use crate::firstmate::fleet;
use crate::home::{Home, Selection, names};
use crate::lock::home_lock::HomeLock;
use crate::lock::{Attempt, Somebody};
use crate::obtain::spawn;
use crate::service::binary;
use crate::storage;
use crate::wakes::record::Wake;
use crate::wakes::{present, read_all};
use crate::watcher::inbox;
use crate::world::{Real, World};
use serde_json::json;

/// Adopts, or undoes that.
///
/// # Errors
/// A script that must not be touched, or the system's refusal.
pub fn adopt(console: Console, options: &cli::Adopt) -> Result<u8> {
    let environment = Environment::of_this_process();
    let selection = Selection { home: Some(options.directory.clone()), state: None };
    let home = Home::resolve(&selection, &environment, std::env::current_dir().ok().as_deref())?;
    let hand = if options.dry_run { Hand::Shows } else { Hand::Does };
    let bin = Bin::open(&Real, home.root(), hand)?;
    if options.undo {
        return undo(console, &home, &bin, hand);
    }
    let own = spawn::program().map_err(Error::Failed)?;
    let program = binary::stable_path(&Real, &environment, own);
    let care = if options.force { Care::Force } else { Care::Refuse };
    say(console, &bin.adopt(&Real, &program, &home.watch(), care, hand)?)?;
    Ok(exit::OK)
}

fn say(console: Console, steps: &[Step]) -> Result<()> {
    steps.iter().try_for_each(|step| match console.format {
        Format::Lines => console.data(&step.to_string()),
        Format::Json => console.json(&json!({
            "schema": 1,
            "event": format!("{:?}", step.did).to_lowercase(),
            "path": step.path.to_string_lossy(),
            "done": step.hand == Hand::Does,
        })),
    })
}

/// The scripts first: from then on nothing starts a watcher of ours any more.
fn undo(console: Console, home: &Home, bin: &Bin<Real>, hand: Hand) -> Result<u8> {
    let undone = bin.undo(&Real, hand)?;
    say(console, &undone.steps)?;
    if hand == Hand::Shows {
        return Ok(if undone.left.is_empty() { exit::OK } else { exit::FAILED });
    }
    if undone.removes_watch && Real.facts_of_path(&home.watch()).is_ok() {
        remove_watch(home)?;
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

/// Removes `state/watch` once nobody uses it any more and nothing would be lost.
fn remove_watch(home: &Home) -> Result<()> {
    let session = Session::open(&global(home.root()))?;
    stop::stop(&session)?;
    let lock = match HomeLock::try_take(&session.world, &session.place)? {
        Attempt::Taken(lock) => lock,
        Attempt::Busy(Somebody) => {
            let next = "the scripts are back; stop what holds it, and undo once more";
            return Err(Error::refused(home.watch(), "somebody has just taken the home", next));
        }
    };
    if let Some(found) = what_would_be_lost(&session)? {
        let next = "the scripts are back; deal with that, and undo once more, or remove it yourself";
        return Err(Error::refused(home.watch(), found, next));
    }
    let state = session.world.open_directory(home.state()).doing("open", home.state())?;
    storage::remove_tree(session.world.as_ref(), &state, names::WATCH.as_ref()).doing("remove", home.watch())?;
    drop(lock);
    Ok(())
}

fn global(root: &Path) -> Global {
    Global {
        home: Some(root.to_owned()),
        state: None,
        runtime_dir: None,
        set: Vec::new(),
        json: false,
        quiet: true,
        verbose: false,
        color: Color::Auto,
    }
}

/// What is only there, and would be missed.
fn what_would_be_lost(session: &Session) -> Result<Option<String>> {
    let world: &Arc<Real> = &session.world;
    let path = session.home.ours(names::WAKES);
    if let Ok(directory) = world.open_directory(&path) {
        let contents = read_all(world.as_ref(), &directory, &path)?;
        let pending = present::pending(&contents.wakes, contents.acknowledged);
        let queue = session.home.state().join(fleet::names::WAKE_QUEUE);
        let queue = String::from_utf8_lossy(&read_queue(session, &queue)?).into_owned();
        if let Some(wake) = pending.iter().find(|wake| !is_queued(wake, &queue)) {
            return Ok(Some(format!("wakes wait in it that no script has been told of, such as: {}", wake.text)));
        }
    }
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

fn read_queue(session: &Session, path: &Path) -> Result<Vec<u8>> {
    /// Far more than anybody leaves unread.
    const LIMIT: usize = 256 << 20;
    let world = session.world.as_ref();
    let state = world.open_directory(session.home.state()).doing("open", session.home.state())?;
    let read = storage::read(world, &state, fleet::names::WAKE_QUEUE.as_ref(), LIMIT).doing("read", path)?;
    Ok(read.unwrap_or_default())
}

/// Whether the queue of the scripts has a row about the same.
fn is_queued(wake: &Wake, queue: &str) -> bool {
    let is_about_it = |row: &str| {
        let mut fields = row.split('\t').skip(2);
        fields.next() == Some(wake.kind.as_str()) && fields.next().is_some_and(|key| key == wake.key)
    };
    queue.lines().any(is_about_it)
}
