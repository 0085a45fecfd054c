//! Noticing cheaply that something has changed about a daemon, while somebody else starts it.
//!
//! Two hundred clients may be waiting for one start, which is to come first. So none of them reads records or asks a
//! socket while it waits: a glance costs three system calls, and only a difference between two glances is reason for a
//! look. Records are replaced and never rewritten, so a new inode or time of change is a new record.
//!
//! A glance proves nothing. If it misses a change, somebody looks a little later than it could have.

use std::ffi::OsStr;
use std::time::{Duration, Instant};

use super::paths::{self, DaemonPlace};
use crate::system::{Facts, Open, World};

/// The first pause between two glances.
const PAUSE: Duration = Duration::from_millis(10);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_millis(25);
/// After so long somebody looks although no glance saw anything.
const LOOK_ANYWAY: Duration = Duration::from_secs(1);

/// One who glances at a daemon again and again.
#[derive(Debug)]
pub struct Observer<'a, W: World> {
    world: &'a W,
    place: &'a DaemonPlace,
    directory: Option<W::Node>,
    monitor: Option<W::Node>,
}

/// What was seen in passing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glance {
    life: Option<Stamp>,
    end: Option<Stamp>,
    has_monitor: bool,
}

/// What tells one record from the next.
type Stamp = (u64, i64, u64);

/// What became of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Something has changed, or it is time to look.
    Change,
    /// The time is over.
    Nothing,
}

impl<'a, W: World> Observer<'a, W> {
    /// An observer of a daemon, whose directory need not exist yet.
    pub fn new(world: &'a W, place: &'a DaemonPlace) -> Self {
        Self { world, place, directory: None, monitor: None }
    }

    /// Glances once.
    pub fn glance(&mut self) -> Glance {
        let Self { world, place, directory, monitor } = self;
        if directory.is_none() {
            *directory = world.open_directory(place.directory()).ok();
        }
        let Some(directory) = directory else { return Glance { life: None, end: None, has_monitor: false } };
        if monitor.is_none() {
            *monitor = world.open(directory, OsStr::new(paths::MONITOR), Open::Read).ok();
        }
        let stamp = |name: &str| world.facts_at(directory, OsStr::new(name)).ok().map(|facts| stamp(&facts));
        let has_monitor = monitor.as_ref().is_some_and(|monitor| world.is_marked(monitor).unwrap_or(false));
        Glance { life: stamp(paths::LIFE), end: stamp(paths::END), has_monitor }
    }

    /// Glances until something differs from before, until it is time to look anyway, or until the deadline.
    pub fn wait(&mut self, before: Glance, deadline: Instant) -> Seen {
        let (began, mut pause) = (Instant::now(), PAUSE);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Seen::Nothing;
            }
            self.world.pause(pause.min(left));
            if self.glance() != before || began.elapsed() >= LOOK_ANYWAY {
                return Seen::Change;
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
    use crate::home::paths::Home;
    use crate::settings::daemon_definition::Name;
    use crate::system::storage;
    use crate::system::{Kind, Real};

    #[test]
    fn a_new_record_and_a_monitor_that_comes_or_goes_are_noticed() {
        let home = tempfile::tempdir().unwrap();
        let place = DaemonPlace::new(&Home::at(home.path()), &Name::new("a").unwrap());
        let mut observer = Observer::new(&Real, &place);
        let nothing = observer.glance();
        storage::make_directories(place.directory()).unwrap();
        assert_eq!(observer.glance(), nothing);
        let directory = Real.open_directory(place.directory()).unwrap();
        records::write(&Real, &directory, paths::LIFE, &"one").unwrap();
        let one = observer.glance();
        assert_ne!(one, nothing);
        records::write(&Real, &directory, paths::LIFE, &"two").unwrap();
        let two = observer.glance();
        assert_ne!(two, one);
        let monitor = Real.open(&directory, OsStr::new(paths::MONITOR), Open::Lock).unwrap();
        Real.raise_mark(&monitor, Kind::File).unwrap();
        assert_ne!(observer.glance(), two);
        drop(monitor);
        assert_eq!(observer.glance(), two);
    }

    #[test]
    fn waiting_ends_with_a_change_or_at_the_deadline() {
        let home = tempfile::tempdir().unwrap();
        let place = DaemonPlace::new(&Home::at(home.path()), &Name::new("a").unwrap());
        let mut observer = Observer::new(&Real, &place);
        let before = observer.glance();
        let soon = Instant::now() + Duration::from_millis(30);
        assert_eq!(observer.wait(before, soon), Seen::Nothing);
        storage::make_directories(place.directory()).unwrap();
        let directory = Real.open_directory(place.directory()).unwrap();
        records::write(&Real, &directory, paths::END, &"one").unwrap();
        assert_eq!(observer.wait(before, Instant::now() + Duration::from_secs(60)), Seen::Change);
    }
}
