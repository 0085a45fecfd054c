//! The home's kernel lock: the one authority on who watches.
//!
//! # Theory
//!
//! The kernel releases a lock when its holder dies, however it dies. So there is no stale lock to break, no pid to
//! believe, and nothing to clean up. Two locks are taken, always in this order: the one of the *directory's own
//! descriptor*, then the one of the file `lock`. With the file alone, somebody who removes it makes room for a second
//! holder of a second inode (found by exhaustive search in 9 steps); the directory's lock closes that, because the
//! directory is still the same. After both are taken, both paths must still name the locked inodes; a contender that
//! opened a file which was replaced before it could lock it sees the difference and tries again.
//!
//! The lock is released by closing only. An explicit unlock in a forked child would drop its parent's lock. All
//! descriptors are close-on-exec, so no child keeps a dead parent's lock.
//!
//! While it is held, a visible mark ([`World::raise_mark`]) tells observers so without their taking anything: a probe
//! that took the lock for an instant could make a real start lose.
//!
//! Every error that is not "would block" is an error: never "taken", never "free". A file system whose locks nobody
//! measured is refused before the first lock call, because on some that call hangs although it was asked not to.
//!
//! Limits: processes of one kernel. A home that two machines mount is refused by its file system.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::base::error::{Context, Error, Result};
use crate::base::failpoint::Failpoint;
use crate::layout::paths::{Home, names};
use crate::lock::{Attempt, Once, Ownership, until_answered};
use crate::system::platform;
use crate::system::storage;
use crate::system::{Claim, Facts, FileSystem, Kind, LockTaker, Open, World, wait_in};

/// Cleaners of temporary directories lock a directory for a moment before they look into it; so long a directory that
/// shows no watcher's mark is tried again.
const PASSERS_BY: Duration = Duration::from_secs(1);

/// Where the two locks are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockLocation {
    /// The directory whose own descriptor is locked.
    pub directory: PathBuf,
    /// The directory that holds the file `lock`: the same one or one inside it.
    pub inner: PathBuf,
}

impl LockLocation {
    /// Inside the home: the state directory and `watch/lock`.
    pub fn inside(home: &Home) -> Self {
        Self { directory: home.state().to_owned(), inner: home.watch() }
    }

    /// In a local directory, for a home whose own file system cannot be trusted. The name is made from the state
    /// directory's device and inode, so that every path to one home leads to one lock.
    pub fn in_runtime_directory(runtime: &Path, state: &Facts) -> Self {
        let directory = runtime.join("fm-watch").join(format!("{:x}-{:x}", state.device, state.inode));
        Self { inner: directory.clone(), directory }
    }

    /// The directory outside the home, if it is there.
    pub fn runtime_dir(&self) -> Option<&Path> {
        (self.inner == self.directory).then_some(self.directory.as_path())
    }

    /// The way from the locked directory to the lock file.
    fn way(&self) -> PathBuf {
        self.inner.strip_prefix(&self.directory).unwrap_or(&self.inner).join(names::LOCK)
    }

    /// The path of the lock file.
    pub fn file(&self) -> PathBuf {
        self.inner.join(names::LOCK)
    }
}

/// The held lock of a home.
#[derive(Debug)]
pub struct HomeLock<W: World> {
    world: Arc<W>,
    place: LockLocation,
    directory: W::Node,
    directory_facts: Facts,
    file: W::Node,
    file_facts: Facts,
}

/// Why a holder is no longer the holder of what the paths name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// The directory is gone.
    DirectoryGone,
    /// The path of the directory names another one.
    DirectoryReplaced,
    /// The lock file is gone.
    FileGone,
    /// The path of the lock file names another file.
    FileReplaced,
}

impl<W: World> HomeLock<W> {
    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// A directory that is not ours alone, a file system that is not trusted, a lock file of the wrong kind, and
    /// every failure of the system. The directories must exist.
    pub fn try_take(world: &Arc<W>, place: &LockLocation) -> Result<Attempt<Self, ()>> {
        until_answered(place.file(), "locked", || Self::take_once(world, place))
    }

    fn take_once(world: &Arc<W>, place: &LockLocation) -> Result<Once<Self>> {
        let directory = world.open_directory(&place.directory).doing("open the directory", &place.directory)?;
        let directory_facts = world.facts(&directory).doing("examine", &place.directory)?;
        check_private(&place.directory, &directory_facts)?;
        if let FileSystem::Untrusted(found) = world.file_system(&directory).doing("examine", &place.directory)? {
            return Err(Error::refused(
                &place.directory,
                format!("is on {found}, where nobody has shown that locks hold"),
                "give a local directory for the lock with --runtime-dir DIR or `runtime_dir` in the settings; `fm-watch \
                 storm --self-test --dir DIR` shows what the locks of a file system do",
            ));
        }
        world.reach(Failpoint::LockDirectoryOpened).doing("lock", &place.directory)?;
        if world.is_protected(Failpoint::LockDirectory)
            && lock_directory(world.as_ref(), &directory, place)? == Claim::Busy
        {
            return Ok(Once::Busy(()));
        }
        world.raise_mark(&directory, Kind::Directory).doing("mark the lock of", &place.directory)?;
        let file = open_lock_file(world.as_ref(), &directory, place)?;
        let file_facts = world.facts(&file).doing("examine", place.file())?;
        check_lock_file(&place.file(), &file_facts)?;
        world.reach(Failpoint::LockFileOpened).doing("lock", place.file())?;
        if world.try_lock(&file).doing("lock", place.file())? == Claim::Busy {
            return Ok(Once::Busy(()));
        }
        world.reach(Failpoint::LockTaken).doing("lock", place.file())?;
        let lock =
            Self { world: Arc::clone(world), place: place.clone(), directory, directory_facts, file, file_facts };
        if world.is_protected(Failpoint::LockRecheck)
            && lock.check().doing("examine", lock.place.file())? != Ownership::Held
        {
            return Ok(Once::Again);
        }
        lock.world.raise_mark(&lock.file, Kind::File).doing("mark the lock of", lock.place.file())?;
        Ok(Once::Taken(lock))
    }

    /// Whether the paths still name what is locked.
    ///
    /// # Errors
    /// Those of the system, which prove nothing.
    pub fn check(&self) -> io::Result<Ownership<Lost>> {
        let directory = found(self.world.facts_of_path(&self.place.directory))?;
        let file = found(self.world.facts_at(&self.directory, self.place.way().as_os_str()))?;
        Ok(match (directory, file) {
            (None, _) => Ownership::Lost(Lost::DirectoryGone),
            (Some(directory), _) if !directory.is_same_inode(&self.directory_facts) => {
                Ownership::Lost(Lost::DirectoryReplaced)
            }
            (_, None) => Ownership::Lost(Lost::FileGone),
            (_, Some(file)) if !file.is_same_inode(&self.file_facts) => Ownership::Lost(Lost::FileReplaced),
            _ => Ownership::Held,
        })
    }

    /// Publishes the loop's sign of life in the kernel.
    ///
    /// # Errors
    /// Those of the system.
    pub fn publish_beat(&self, at: Duration) -> io::Result<()> {
        self.world.publish_beat(&self.file, at)
    }
}

/// Refuses a directory in which others could replace our files.
pub fn check_private(path: &Path, facts: &Facts) -> Result<()> {
    let own = platform::effective_uid();
    if facts.uid != own {
        return Err(Error::refused(
            path,
            format!("belongs to uid {}, not to uid {own}", facts.uid),
            "run as its owner, or choose another home",
        ));
    }
    if facts.is_writable_by_others() {
        return Err(Error::refused(
            path,
            format!("can be written by others (mode {:o})", facts.mode),
            format!("run: chmod go-w {}", path.display()),
        ));
    }
    Ok(())
}

fn lock_directory<W: World>(world: &W, directory: &W::Node, place: &LockLocation) -> Result<Claim> {
    let mut attempt = || match world.try_lock(directory) {
        Ok(Claim::Busy) if !world.is_marked(directory).unwrap_or(true) => None,
        answer => Some(answer),
    };
    let answer = wait_in(world, PASSERS_BY, Duration::from_millis(2), &mut attempt);
    answer.unwrap_or(Ok(Claim::Busy)).doing("lock the directory", &place.directory)
}

fn open_lock_file<W: World>(world: &W, directory: &W::Node, place: &LockLocation) -> Result<W::Node> {
    let inner = match place.inner.strip_prefix(&place.directory) {
        Ok(way) if !way.as_os_str().is_empty() => {
            let inner =
                world.open_directory_at(directory, way.as_os_str()).doing("open the directory", &place.inner)?;
            check_private(&place.inner, &world.facts(&inner).doing("examine", &place.inner)?)?;
            Some(inner)
        }
        // The locked directory itself, which was examined before.
        _ => None,
    };
    let inner = inner.as_ref().unwrap_or(directory);
    let opened = world.open(inner, OsStr::new(names::LOCK), Open::Lock);
    opened.map_err(|error| match world.facts_at(inner, OsStr::new(names::LOCK)) {
        Ok(facts) if facts.kind != Kind::File => not_a_lock_file(&place.file(), &facts),
        _ => Error::system("open", place.file(), error),
    })
}

fn check_lock_file(path: &Path, facts: &Facts) -> Result<()> {
    if facts.kind == Kind::File && facts.links <= 1 && facts.is_own() {
        return Ok(());
    }
    Err(not_a_lock_file(path, facts))
}

fn not_a_lock_file(path: &Path, facts: &Facts) -> Error {
    let found = match facts.kind {
        Kind::File if facts.links > 1 => format!("is a file with {} names", facts.links),
        Kind::File => format!("is a file of uid {}", facts.uid),
        Kind::Directory => "is a directory".to_owned(),
        Kind::Link => "is a symbolic link".to_owned(),
        Kind::Fifo => "is a FIFO".to_owned(),
        Kind::Socket => "is a socket".to_owned(),
        Kind::Other => "is not a regular file".to_owned(),
    };
    Error::refused(
        path,
        format!("{found}, not our lock file"),
        "look at it, move it away if nobody needs it, and try again",
    )
}

fn found(facts: io::Result<Facts>) -> io::Result<Option<Facts>> {
    match facts {
        Ok(facts) => Ok(Some(facts)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What can be seen of a lock without taking it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockObservation {
    /// There is no such lock file, or no such home.
    Absent,
    /// Nobody holds it.
    Free,
    /// A process that shows our mark holds it, and published this beat last.
    Marked {
        /// Time of the last published beat.
        beat: Option<Duration>,
    },
    /// A process that does not show our mark holds it.
    Unmarked {
        /// The pid that the kernel names as the one who took it.
        taker: u32,
    },
    /// Nobody can tell, for this reason.
    Unknown(String),
}

/// Looks at a lock. Takes nothing, changes nothing.
pub fn observe<W: World>(world: &W, place: &LockLocation) -> LockObservation {
    try_sight(world, place).unwrap_or_else(|error| LockObservation::Unknown(error.to_string()))
}

/// Whether a watcher shows its mark on the lock file: the cheapest look there is.
pub fn is_marked<W: World>(world: &W, place: &LockLocation) -> bool {
    let file =
        world.open_directory(&place.inner).and_then(|inner| world.open(&inner, OsStr::new(names::LOCK), Open::Read));
    file.and_then(|file| world.is_marked(&file)).unwrap_or(false)
}

fn try_sight<W: World>(world: &W, place: &LockLocation) -> Result<LockObservation> {
    let directory = found_node(world.open_directory(&place.directory)).doing("open", &place.directory)?;
    let Some(directory) = directory else { return Ok(LockObservation::Absent) };
    let file = match found_node(world.open_directory(&place.inner)).doing("open", &place.inner)? {
        Some(inner) => {
            found_node(world.open(&inner, OsStr::new(names::LOCK), Open::Read)).doing("open", place.file())?
        }
        None => None,
    };
    if let Some(file) = &file
        && world.is_marked(file).doing("examine the lock of", place.file())?
    {
        let beat = world.published_beat(file).doing("examine the lock of", place.file())?;
        return Ok(LockObservation::Marked { beat });
    }
    // The file may have been removed under a holder who has not noticed yet; the directory is still locked then.
    if world.is_marked(&directory).doing("examine the lock of", &place.directory)? {
        return Ok(LockObservation::Marked { beat: None });
    }
    for node in file.iter().chain([&directory]) {
        if let LockTaker::Taken(taker) = world.lock_taker(node).doing("read the kernel's locks for", place.file())? {
            return Ok(LockObservation::Unmarked { taker });
        }
    }
    Ok(if file.is_some() { LockObservation::Free } else { LockObservation::Absent })
}

fn found_node<T>(opened: io::Result<T>) -> io::Result<Option<T>> {
    match opened {
        Ok(node) => Ok(Some(node)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whom the kernel names as the taker of the lock file's lock.
///
/// # Errors
/// Those of the system; they prove nothing.
pub fn taker<W: World>(world: &W, place: &LockLocation) -> Result<LockTaker> {
    let inner = world.open_directory(&place.inner).doing("open", &place.inner)?;
    let file = world.open(&inner, OsStr::new(names::LOCK), Open::Read).doing("open", place.file())?;
    world.lock_taker(&file).doing("read the kernel's locks for", place.file())
}

/// Makes the directories of a place, private to this user.
///
/// # Errors
/// Those of the system.
pub fn prepare(place: &LockLocation) -> Result<()> {
    storage::make_directories(&place.inner)
}
