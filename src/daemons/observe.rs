//! Observing a daemon without touching anything: all its evidence at once, or only whether something has changed.
//!
//! Two hundred clients may be waiting for one start, which is to come first. So none of them reads records or asks a
//! socket while it waits: a [`Fingerprint`] costs three system calls, and only a difference between two of them is reason
//! to gather the [`Evidence`]. Records are replaced and never rewritten, so a new inode or time of change is a new record.
//!
//! Limits: a fingerprint proves nothing. If it misses a change, somebody observes a little later than it could have.

use std::ffi::OsStr;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::paths::{self, DaemonPaths};
use super::records::{self, Life, Read, SocketInode};
use super::state::{Evidence, LockState};
use crate::base::error::Error;
use crate::lock::location::Location;
use crate::lock::socket::probe::{self, Probed, Question};
use crate::settings::daemon_definition::{Definition, Ready};
use crate::system::identity::{self, Identity, Observation, Sameness, Standpoint};
use crate::system::{Binding, Facts, Open, Sockets, World};

/// The first pause between two fingerprints.
const PAUSE: Duration = Duration::from_millis(10);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_millis(25);
/// After so long somebody observes although no fingerprint has changed.
const OBSERVE_ANYWAY: Duration = Duration::from_secs(1);

/// Observes a daemon once. Its ready socket is not asked.
pub fn evidence<W: World + Sockets>(world: &W, paths: &DaemonPaths, here: &Standpoint) -> Evidence {
    let directory = match world.open_directory(paths.directory()) {
        Ok(directory) => directory,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Evidence { lock: LockState::Free, monitor: LockState::Free, life: Read::None, socket: None };
        }
        Err(error) => {
            let why = format!("cannot open {}: {error}", paths.directory().display());
            let unreadable = || LockState::Unreadable(why.clone());
            return Evidence { lock: unreadable(), monitor: unreadable(), life: Read::Damaged(why), socket: None };
        }
    };
    // The record is read first and the locks after it: a monitor that comes meanwhile is seen by its lock.
    let life = life(world, &directory, here);
    let lock = lock_state(world, &directory, paths, paths::LIFE_LOCK);
    let monitor = lock_state(world, &directory, paths, paths::MONITOR);
    Evidence { lock, monitor, life, socket: None }
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
fn sameness_of<W: World>(world: &W, recorded: &Identity, here: &Standpoint) -> Sameness {
    pin_recorded(world, recorded, here).map_or_else(
        |error| {
            let why = format!("pid {} cannot be examined: {error}", recorded.pid);
            identity::compare(recorded, &Observation::Unreadable(why), here)
        },
        |(_, sameness)| sameness,
    )
}

/// Pins what lives under the pid of a recorded process, if anything does, and compares it with the record.
///
/// # Errors
/// It cannot be pinned, which proves nothing.
pub fn pin_recorded<W: World>(
    world: &W,
    recorded: &Identity,
    here: &Standpoint,
) -> io::Result<(Option<W::Process>, Sameness)> {
    let process = world.pin(recorded.pid)?;
    let seen = process.as_ref().map_or(Observation::Gone, |process| world.observe(process));
    let sameness = identity::compare(recorded, &seen, here);
    Ok((process, sameness))
}

/// Whether a lock of a daemon's directory is held, without taking it.
pub fn lock_state<W: World>(world: &W, directory: &W::Node, paths: &DaemonPaths, name: &str) -> LockState {
    let marked = match world.open(directory, OsStr::new(name), Open::Read) {
        Ok(node) => world.is_marked(&node),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    };
    match marked {
        Ok(true) => LockState::Held,
        Ok(false) => LockState::Free,
        Err(error) => LockState::Unreadable(format!("cannot examine {}: {error}", paths.file(name).display())),
    }
}

/// Who answers at the ready socket of a definition that has one, with the connection. Silence for so long is silence.
pub fn probe<W: World + Sockets>(
    world: &Arc<W>,
    definition: &Definition,
    timeout: Duration,
) -> Option<Result<Probed<W>, Error>> {
    let Ready::Socket { path, exchange } = &definition.ready else { return None };
    let question =
        exchange.as_ref().map(|exchange| Question::expecting(exchange.request.as_bytes(), exchange.answer.as_bytes()));
    Some(probe::probe_and_keep(world, path, question.as_ref(), timeout))
}

/// Whether a daemon that was found ready still has the very socket at which it was, without a connection to it. That says
/// as much as a connection to one that is asked nothing, which the kernel makes in its place.
///
/// A program that has a question to answer is to be asked.
pub fn has_its_socket<W: World + Sockets>(world: &Arc<W>, life: &Life) -> bool {
    let (Ready::Socket { path, exchange: None }, Some(recorded)) = (&life.definition.ready, life.socket) else {
        return false;
    };
    let is_bound = |spot: &Location<W>| -> io::Result<bool> {
        let pinned = world.open(&spot.directory, &spot.name, Open::Pin)?;
        let is_it = SocketInode::of(&world.facts(&pinned)?) == recorded;
        Ok(is_it && probe::binding(world.as_ref(), &spot.directory, &spot.name, &pinned)? == Binding::Bound)
    };
    Location::open(world, path).is_ok_and(|spot| is_bound(&spot).unwrap_or(false))
}

/// One who looks again and again whether something has changed about a daemon.
#[derive(Debug)]
pub struct Observer<'a, W: World> {
    world: &'a W,
    paths: &'a DaemonPaths,
    directory: Option<W::Node>,
    monitor: Option<W::Node>,
}

/// What differs when something has changed about a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    life: Option<Stamp>,
    end: Option<Stamp>,
    has_monitor: bool,
}

/// What tells one record from the next.
type Stamp = (u64, i64, u64);

/// What became of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// Something has changed, or it is time to observe.
    Changed,
    /// The deadline has passed.
    TimedOut,
}

impl<'a, W: World> Observer<'a, W> {
    /// An observer of a daemon, whose directory need not exist yet.
    pub fn new(world: &'a W, paths: &'a DaemonPaths) -> Self {
        Self { world, paths, directory: None, monitor: None }
    }

    /// How things look now.
    pub fn fingerprint(&mut self) -> Fingerprint {
        let Self { world, paths, directory, monitor } = self;
        if directory.is_none() {
            *directory = world.open_directory(paths.directory()).ok();
        }
        let Some(directory) = directory else { return Fingerprint { life: None, end: None, has_monitor: false } };
        if monitor.is_none() {
            *monitor = world.open(directory, OsStr::new(paths::MONITOR), Open::Read).ok();
        }
        let stamp = |name: &str| world.facts_at(directory, OsStr::new(name)).ok().map(|facts| stamp(&facts));
        let has_monitor = monitor.as_ref().is_some_and(|monitor| world.is_marked(monitor).unwrap_or(false));
        Fingerprint { life: stamp(paths::LIFE), end: stamp(paths::END), has_monitor }
    }

    /// Waits until something differs from before, until it is time to observe anyway, or until the deadline.
    pub fn wait(&mut self, before: Fingerprint, deadline: Instant) -> Waited {
        let (began, mut pause) = (Instant::now(), PAUSE);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Waited::TimedOut;
            }
            self.world.pause(pause.min(left));
            if self.fingerprint() != before || began.elapsed() >= OBSERVE_ANYWAY {
                return Waited::Changed;
            }
            pause = longer(pause);
        }
    }
}

/// The pause after one of that length.
pub fn longer(pause: Duration) -> Duration {
    (pause + pause / 2).clamp(PAUSE, LONGEST_PAUSE)
}

fn stamp(facts: &Facts) -> Stamp {
    (facts.inode, facts.mtime_ns, facts.size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemons::records;
    use crate::layout::paths::Home;
    use crate::settings::daemon_definition::Name;
    use crate::system::storage;
    use crate::system::{Kind, Real};

    #[test]
    fn a_new_record_and_a_monitor_that_comes_or_goes_are_noticed() {
        let home = tempfile::tempdir().unwrap();
        let paths = DaemonPaths::new(&Home::at(home.path()), &Name::new("a").unwrap());
        let mut observer = Observer::new(&Real, &paths);
        let nothing = observer.fingerprint();
        storage::make_directories(paths.directory()).unwrap();
        assert_eq!(observer.fingerprint(), nothing);
        let directory = Real.open_directory(paths.directory()).unwrap();
        records::write(&Real, &directory, paths::LIFE, &"one").unwrap();
        let one = observer.fingerprint();
        assert_ne!(one, nothing);
        records::write(&Real, &directory, paths::LIFE, &"two").unwrap();
        let two = observer.fingerprint();
        assert_ne!(two, one);
        let monitor = Real.open(&directory, OsStr::new(paths::MONITOR), Open::Lock).unwrap();
        Real.raise_mark(&monitor, Kind::File).unwrap();
        assert_ne!(observer.fingerprint(), two);
        drop(monitor);
        assert_eq!(observer.fingerprint(), two);
    }

    #[test]
    fn waiting_ends_with_a_change_or_at_the_deadline() {
        let home = tempfile::tempdir().unwrap();
        let paths = DaemonPaths::new(&Home::at(home.path()), &Name::new("a").unwrap());
        let mut observer = Observer::new(&Real, &paths);
        let before = observer.fingerprint();
        let soon = Instant::now() + Duration::from_millis(30);
        assert_eq!(observer.wait(before, soon), Waited::TimedOut);
        storage::make_directories(paths.directory()).unwrap();
        let directory = Real.open_directory(paths.directory()).unwrap();
        records::write(&Real, &directory, paths::END, &"one").unwrap();
        assert_eq!(observer.wait(before, Instant::now() + Duration::from_secs(60)), Waited::Changed);
    }
}
