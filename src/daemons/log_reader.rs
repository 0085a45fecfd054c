//! Reading a daemon's log: as it grows, over the changes of its files, and what the daemon printed before it failed.
//!
//! The reader keeps the file open that it reads. When the name stands for another file, the open one is complete: its rest
//! is read first, and then the next file from its beginning. If the files have changed twice since the last look, the
//! older of them comes in between; what was there before that is gone, and the reader says so.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use super::log;
use super::paths::{DaemonPaths, LOG, OLDER_LOG};
use crate::base::escape;
use crate::system::storage;
use crate::system::{Facts, Open, World};

/// The most that is read in one go, in bytes.
const AT_ONCE: usize = 256 * 1024;

/// Something that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Output.
    Output(Vec<u8>),
    /// Here output may be missing: it came faster than it was read.
    Missed,
}

/// A reader of one log.
#[derive(Debug)]
pub struct LogFollower<W: World> {
    directory: PathBuf,
    open: Option<Reading<W>>,
    /// Files that may have the older name and are not news: the one that had it, and the one before the open one.
    known: [Option<Inode>; 2],
}

#[derive(Debug)]
struct Reading<W: World> {
    node: W::Node,
    inode: Inode,
    offset: u64,
}

type Inode = (u64, u64);

fn inode(facts: &Facts) -> Inode {
    (facts.device, facts.inode)
}

impl<W: World> LogFollower<W> {
    /// A reader in a daemon's directory, which need not exist yet, and the last lines that are there.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn begin(world: &W, directory: PathBuf, lines: usize, bytes: usize) -> io::Result<(Vec<u8>, Self)> {
        let mut follower = Self { directory, open: None, known: [None; 2] };
        let Some(node) = follower.directory_node(world)? else { return Ok((Vec::new(), follower)) };
        let (tail, end) = log::tail_and_end(world, &node, lines, bytes)?;
        if let Some(older) = &end.older {
            follower.known[0] = Some(inode(&world.facts(older)?));
        }
        if let Some((log, offset)) = end.newer {
            let inode = inode(&world.facts(&log)?);
            follower.open = Some(Reading { node: log, inode, offset });
        }
        Ok((tail, follower))
    }

    /// The daemon's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What has come since; empty if nothing has.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn read(&mut self, world: &W) -> io::Result<Vec<Piece>> {
        let mut pieces = Vec::new();
        loop {
            // Whether it is complete is asked before its rest is read: nothing comes after that.
            let next = self.next(world)?;
            if let Some(open) = &mut self.open {
                loop {
                    let output = storage::read_from(world, &open.node, open.offset, AT_ONCE)?;
                    if output.is_empty() {
                        break;
                    }
                    open.offset += output.len() as u64;
                    pieces.push(Piece::Output(output));
                }
            }
            let Some((reading, is_gap)) = next else { return Ok(pieces) };
            if is_gap == Gap::Lost {
                pieces.push(Piece::Missed);
            }
            self.open = Some(reading);
        }
    }

    /// The file that comes after the open one, if that is complete.
    fn next(&mut self, world: &W) -> io::Result<Option<(Reading<W>, Gap)>> {
        let Some(directory) = self.directory_node(world)? else { return Ok(None) };
        let older = name_inode(world, &directory, OLDER_LOG)?;
        let known = self.open.as_ref().map(|open| open.inode);
        // A file that nobody has read lies between ours and the newest one.
        let is_between = older.is_some() && older != known && !self.known.contains(&older);
        let name = if is_between { OLDER_LOG } else { LOG };
        let Some(reading) = open_named(world, &directory, name)? else { return Ok(None) };
        if Some(reading.inode) == known {
            return Ok(None);
        }
        self.known = [older, known];
        let gap = if known.is_some() && is_between { Gap::Lost } else { Gap::None };
        Ok(Some((reading, gap)))
    }

    fn directory_node(&self, world: &W) -> io::Result<Option<W::Node>> {
        if_there(world.open_directory(&self.directory))
    }
}

/// Whether something is missing between two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gap {
    None,
    Lost,
}

fn if_there<T>(opened: io::Result<T>) -> io::Result<Option<T>> {
    match opened {
        Ok(node) => Ok(Some(node)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn name_inode<W: World>(world: &W, directory: &W::Node, name: &str) -> io::Result<Option<Inode>> {
    Ok(if_there(world.facts_at(directory, OsStr::new(name)))?.map(|facts| inode(&facts)))
}

fn open_named<W: World>(world: &W, directory: &W::Node, name: &str) -> io::Result<Option<Reading<W>>> {
    let Some(node) = if_there(world.open(directory, OsStr::new(name), Open::Read))? else { return Ok(None) };
    let inode = inode(&world.facts(&node)?);
    Ok(Some(Reading { node, inode, offset: 0 }))
}

/// How much of it is shown.
const LINES: usize = 20;
/// The most bytes that are shown.
const BYTES: usize = 4 * 1024;

/// Where the output of a life begins in the log, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogPosition {
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
pub fn end_of_log<W: World>(world: &W, paths: &DaemonPaths) -> LogPosition {
    let facts =
        world.open_directory(paths.directory()).and_then(|directory| world.facts_at(&directory, OsStr::new(LOG)));
    match facts {
        Ok(facts) => LogPosition::Behind { inode: facts.inode, size: facts.size },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => LogPosition::NoLog,
        Err(_) => LogPosition::Unknown,
    }
}

/// The last lines since then, safe for a terminal. Empty if there are none, or they cannot be read.
pub fn last_words<W: World>(world: &W, paths: &DaemonPaths, begin: LogPosition) -> String {
    let Ok(directory) = world.open_directory(paths.directory()) else { return String::new() };
    let now = world.facts_at(&directory, OsStr::new(LOG)).ok();
    let bytes = match (begin, now) {
        (LogPosition::Behind { inode, size }, Some(now)) if now.inode == inode => now.size.saturating_sub(size),
        // A new file has begun since, so there is more than is shown.
        _ => u64::MAX,
    };
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).min(BYTES);
    let tail = log::tail(world, &directory, LINES, bytes).unwrap_or_default();
    escape::lines(&String::from_utf8_lossy(&tail)).trim_end().to_owned()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test prepares files and processes of its own")]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::*;
    use crate::daemons::log::CappedLog;
    use crate::layout::paths::Home;
    use crate::settings::daemon_definition::Name;
    use crate::system::Real;

    struct Bench {
        directory: tempfile::TempDir,
        log: CappedLog<Real>,
    }

    fn bench() -> Bench {
        let directory = tempfile::tempdir().unwrap();
        let node = Real.open_directory(directory.path()).unwrap();
        Bench { log: CappedLog::open(Arc::new(Real), node, 20), directory }
    }

    impl Bench {
        fn follower(&self) -> (String, LogFollower<Real>) {
            let (tail, follower) = LogFollower::begin(&Real, self.directory.path().to_owned(), 10, 4096).unwrap();
            (String::from_utf8(tail).unwrap(), follower)
        }
    }

    fn read(follower: &mut LogFollower<Real>) -> String {
        let pieces = follower.read(&Real).unwrap();
        let texts = pieces.into_iter().map(|piece| match piece {
            Piece::Output(bytes) => String::from_utf8(bytes).unwrap(),
            Piece::Missed => "[...]".to_owned(),
        });
        texts.collect()
    }

    #[test]
    fn what_is_appended_is_read_once_also_over_a_change_of_files() {
        let mut bench = bench();
        bench.log.write(b"one\ntwo\n");
        let (tail, mut follower) = bench.follower();
        assert_eq!(tail, "one\ntwo\n");
        assert_eq!(read(&mut follower), "");
        bench.log.write(b"three\n");
        assert_eq!(read(&mut follower), "three\n");
        bench.log.write(b"four\n");
        bench.log.write(b"five\nsix\n");
        assert_eq!(read(&mut follower), "four\nfive\nsix\n");
        bench.log.write(b"seven\n");
        assert_eq!(read(&mut follower), "seven\n");
        assert_eq!(read(&mut follower), "");
    }

    #[test]
    fn what_came_faster_than_it_was_read_is_named_as_missing() {
        let mut bench = bench();
        bench.log.write(b"first\n");
        let (_, mut follower) = bench.follower();
        for number in 0..20 {
            bench.log.write(format!("number {number:02}\n").as_bytes());
        }
        assert_eq!(read(&mut follower), "number 00\n[...]number 17\nnumber 18\nnumber 19\n");
    }

    #[test]
    fn a_log_that_begins_later_is_read_from_its_beginning() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("later");
        let (tail, mut follower) = LogFollower::begin(&Real, directory.clone(), 10, 100).unwrap();
        assert_eq!((tail.len(), read(&mut follower)), (0, String::new()));
        fs::create_dir(&directory).unwrap();
        assert_eq!(read(&mut follower), "");
        fs::write(directory.join(LOG), "hello\n").unwrap();
        assert_eq!(read(&mut follower), "hello\n");
        fs::remove_file(directory.join(LOG)).unwrap();
        assert_eq!(read(&mut follower), "");
        fs::write(directory.join(LOG), "anew\n").unwrap();
        assert_eq!(read(&mut follower), "anew\n");
    }

    #[test]
    fn the_tail_and_what_follows_are_without_a_gap_for_a_tail_of_no_lines() {
        let mut bench = bench();
        bench.log.write(b"one\ntwo\nthree\nfour\nfive\n");
        let (tail, mut follower) = LogFollower::begin(&Real, bench.directory.path().to_owned(), 0, 4096).unwrap();
        assert_eq!((tail.len(), read(&mut follower)), (0, String::new()));
        bench.log.write(b"six\n");
        assert_eq!(read(&mut follower), "six\n");
    }

    #[test]
    fn only_what_this_life_printed_is_shown() {
        let home = tempfile::tempdir().unwrap();
        let paths = DaemonPaths::new(&Home::at(home.path()), &Name::new("a").unwrap());
        assert_eq!(last_words(&Real, &paths, end_of_log(&Real, &paths)), "");
        storage::make_directories(paths.directory()).unwrap();
        let world = Arc::new(Real);
        let mut log = CappedLog::open(Arc::clone(&world), world.open_directory(paths.directory()).unwrap(), 4096);
        let first = end_of_log(&Real, &paths);
        log.write(b"an older life\n");
        assert_eq!(last_words(&Real, &paths, first), "an older life");
        let second = end_of_log(&Real, &paths);
        assert_eq!(last_words(&Real, &paths, second), "");
        log.write(b"cannot bind\x1b[31m\nbye\n");
        assert_eq!(last_words(&Real, &paths, second), "cannot bind\\033[31m\nbye");
        assert_eq!(last_words(&Real, &paths, LogPosition::Unknown), "an older life\ncannot bind\\033[31m\nbye");
    }
}
