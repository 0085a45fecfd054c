//! What a daemon printed before it failed.

use std::ffi::OsStr;

use super::log;
use super::paths::{self, DaemonPlace};
use crate::system::World;

/// How much of it is shown.
const LINES: usize = 20;
/// The most bytes that are shown.
const BYTES: usize = 4 * 1024;

/// Where the output of a life begins in the log, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// Behind this many bytes of the file of this inode.
    Behind {
        /// The inode of the newer file.
        inode: u64,
        /// Its size then.
        size: u64,
    },
    /// There is no log yet.
    NoLog,
    /// Somewhere.
    Unknown,
}

/// Where the output of a life will begin that is started now.
pub fn begin<W: World>(world: &W, place: &DaemonPlace) -> Begin {
    let facts = world
        .open_directory(place.directory())
        .and_then(|directory| world.facts_at(&directory, OsStr::new(paths::LOG)));
    match facts {
        Ok(facts) => Begin::Behind { inode: facts.inode, size: facts.size },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Begin::NoLog,
        Err(_) => Begin::Unknown,
    }
}

/// The last lines since then, safe for a terminal. Empty if there are none, or they cannot be read.
pub fn since<W: World>(world: &W, place: &DaemonPlace, begin: Begin) -> String {
    let Ok(directory) = world.open_directory(place.directory()) else { return String::new() };
    let now = world.facts_at(&directory, OsStr::new(paths::LOG)).ok();
    let bytes = match (begin, now) {
        (Begin::Behind { inode, size }, Some(now)) if now.inode == inode => now.size.saturating_sub(size),
        // A new file has begun since, so there is more than is shown.
        _ => u64::MAX,
    };
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).min(BYTES);
    let tail = log::tail(world, &directory, LINES, bytes).unwrap_or_default();
    crate::base::escape::lines(&String::from_utf8_lossy(&tail)).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::home::paths::Home;
    use crate::settings::daemon_definition::Name;
    use crate::system::Real;
    use crate::system::storage;

    #[test]
    fn only_what_this_life_printed_is_shown() {
        let home = tempfile::tempdir().unwrap();
        let place = DaemonPlace::new(&Home::at(home.path()), &Name::new("a").unwrap());
        assert_eq!(since(&Real, &place, begin(&Real, &place)), "");
        storage::make_directories(place.directory()).unwrap();
        let world = Arc::new(Real);
        let mut log = log::CappedLog::open(Arc::clone(&world), world.open_directory(place.directory()).unwrap(), 4096);
        let first = begin(&Real, &place);
        log.write(b"an older life\n");
        assert_eq!(since(&Real, &place, first), "an older life");
        let second = begin(&Real, &place);
        assert_eq!(since(&Real, &place, second), "");
        log.write(b"cannot bind\x1b[31m\nbye\n");
        assert_eq!(since(&Real, &place, second), "cannot bind\\033[31m\nbye");
        assert_eq!(since(&Real, &place, Begin::Unknown), "an older life\ncannot bind\\033[31m\nbye");
    }
}
