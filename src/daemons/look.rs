//! Gathering the evidence about a daemon, without touching anything.

use std::ffi::OsStr;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::paths::{self, DaemonPlace};
use super::records::{self, Life, Read, SocketInode};
use super::state::{Evidence, LockSight};
use crate::lock::location::Spot;
use crate::lock::socket::probe::{self, Probed, Question, Readiness};
use crate::settings::daemon_definition::{Definition, Ready};
use crate::system::identity::{self, Identity, Observation, Sameness, Standpoint};
use crate::system::{Binding, Open, Sockets, World};

/// Whether the ready socket is asked, and how long that may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// It is asked, and silence for so long is silence.
    For(Duration),
    /// It is not asked.
    Nobody,
}

/// Looks at a daemon once. `definition` says where its socket is if no life is recorded.
pub fn evidence<W: World + Sockets>(
    world: &Arc<W>,
    place: &DaemonPlace,
    definition: Option<&Definition>,
    here: &Standpoint,
    ask: Ask,
) -> Evidence {
    let directory = match world.open_directory(place.directory()) {
        Ok(directory) => directory,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let socket = definition.and_then(|definition| answer(world, definition, ask));
            return Evidence { lock: LockSight::Free, monitor: LockSight::Free, life: Read::None, socket };
        }
        Err(error) => {
            let why = format!("cannot open {}: {error}", place.directory().display());
            let unreadable = || LockSight::Unreadable(why.clone());
            return Evidence {
                lock: unreadable(),
                monitor: unreadable(),
                life: Read::Damaged(why.clone()),
                socket: None,
            };
        }
    };
    // The record is read first and the locks after it: a monitor that comes meanwhile is seen by its lock.
    let life = life(world.as_ref(), &directory, here);
    let lock = lock_sight(world.as_ref(), &directory, place, paths::LIFE_LOCK);
    let monitor = lock_sight(world.as_ref(), &directory, place, paths::MONITOR);
    let recorded = life.known().filter(|(_, sameness)| matches!(sameness, Sameness::Same(_)));
    let asked = recorded.map(|(life, _)| &life.definition).or(definition);
    let socket = asked.and_then(|definition| answer(world, definition, ask));
    Evidence { lock, monitor, life, socket }
}

/// The recorded life, and whether its process is the one that was recorded.
pub fn life<W: World>(world: &W, directory: &W::Node, here: &Standpoint) -> Read<(Box<Life>, Sameness)> {
    match records::read::<Life, W>(world, directory, paths::LIFE) {
        Read::Some(life) => {
            let sameness = sameness_of(world, &life.process, here);
            Read::Some((Box::new(life), sameness))
        }
        Read::None => Read::None,
        Read::Damaged(why) => Read::Damaged(why),
    }
}

/// Compares a recorded process with what lives under its pid now.
pub fn sameness_of<W: World>(world: &W, recorded: &Identity, here: &Standpoint) -> Sameness {
    let seen = match world.pin(recorded.pid) {
        Ok(Some(process)) => world.observe(&process),
        Ok(None) => Observation::Gone,
        Err(error) => Observation::Unreadable(format!("pid {} cannot be examined: {error}", recorded.pid)),
    };
    identity::compare(recorded, &seen, here)
}

/// Whether a lock of a daemon's directory is held, without taking it.
pub fn lock_sight<W: World>(world: &W, directory: &W::Node, place: &DaemonPlace, name: &str) -> LockSight {
    let seen = match world.open(directory, OsStr::new(name), Open::Read) {
        Ok(node) => world.is_marked(&node),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    };
    match seen {
        Ok(true) => LockSight::Held,
        Ok(false) => LockSight::Free,
        Err(error) => LockSight::Unreadable(format!("cannot examine {}: {error}", place.file(name).display())),
    }
}

/// Who answers at the ready socket of a definition that has one, or why it cannot be asked.
pub fn answer<W: World + Sockets>(
    world: &Arc<W>,
    definition: &Definition,
    ask: Ask,
) -> Option<Result<Readiness, String>> {
    encounter(world, definition, ask).map(|met| met.map(|probed| probed.readiness))
}

/// Who answers there, with the connection.
pub fn encounter<W: World + Sockets>(
    world: &Arc<W>,
    definition: &Definition,
    ask: Ask,
) -> Option<Result<Probed<W>, String>> {
    let (Ready::Socket { path, exchange }, Ask::For(patience)) = (&definition.ready, ask) else { return None };
    let question =
        exchange.as_ref().map(|exchange| Question::expecting(exchange.request.as_bytes(), exchange.answer.as_bytes()));
    Some(probe::probe_and_keep(world, path, question.as_ref(), patience).map_err(|error| error.to_string()))
}

/// Whether a daemon that was found ready still has the very socket at which it was, without a connection to it. That says
/// as much as a connection to one that is asked nothing, which the kernel makes in its place.
///
/// A program that has a question to answer is to be asked.
pub fn has_its_socket<W: World + Sockets>(world: &Arc<W>, life: &Life) -> bool {
    let (Ready::Socket { path, exchange: None }, Some(recorded)) = (&life.definition.ready, life.socket) else {
        return false;
    };
    let looked = || -> crate::base::error::Result<bool> {
        let spot = Spot::open(world, path)?;
        let look = || -> io::Result<bool> {
            let pinned = world.open(&spot.directory, &spot.name, Open::Pin)?;
            let is_it = SocketInode::of(&world.facts(&pinned)?) == recorded;
            Ok(is_it && probe::binding(world.as_ref(), &spot.directory, &spot.name, &pinned)? == Binding::Bound)
        };
        Ok(look().unwrap_or(false))
    };
    looked().unwrap_or(false)
}
