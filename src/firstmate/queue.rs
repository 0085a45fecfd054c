//! The wake queue of firstmate's scripts, as files: `.wake-queue`, its counter and its lock.
//!
//! # Theory
//!
//! Scripts append rows and drain them under `.wake-queue.lock`, an owner link with a pid. Whoever has the lock may do
//! anything; a dead holder is reclaimed. So each change here is made in an order in which a holder that dies leaves
//! something from which the next one of ours can tell how far it came:
//!
//! - *Appending.* The counter is raised first, so a number is never used twice. Then the queue gets a second name, the
//!   *pin*, and then the rows. A shell drain moves the queue aside and removes it, but what the pin names stays: the next
//!   one of ours finds in it whether the rows were written, whatever became of the queue since. The pin goes when that is
//!   written down elsewhere.
//! - *Draining.* The queue is moved to `.wake-queue.drain.<pid>` and removed when its rows are told. One that is found
//!   under the lock is left of a drain that died: its rows are put back in front of the queue.
//! - *Putting back.* A new file is made of both and renamed over the queue, and then the moved one is removed. Who dies in
//!   between leaves rows twice; those that are in the queue already are not put back again.
//! - *Taking out.* Rows whose wakes were acknowledged elsewhere go in the same way: a new file without them is renamed
//!   over the queue.
//!
//! If this were wrong, rows would be lost between a script and its reader, or be told again after they were drained.
//!
//! # Limits
//!
//! - A script that writes without the lock can lose its row to a drain, also of the scripts' own.
//! - The scripts do not sync what they write. What the power takes is gone; ours is synced before anything counts on it.
//! - With `FM_WAKE_QUEUE` a script can be sent to another queue, and ours to the same. Whoever is not sent there looks at the
//!   usual one, as it is among scripts.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::home::{Fleet, names};
use super::row::{self, Row};
use crate::base::error::{Context, Error, Result};
use crate::base::failpoint::Failpoint;
use crate::lock::owner_link::{OwnerLinkGuard, OwnerLinkLock};
use crate::lock::{Attempt, Guard, Lock, Ownership};
use crate::system::storage;
use crate::system::{Facts, Kind, Open, World};

/// What follows the queue's name in its second name, while rows of ours are being appended.
const PIN: &str = ".fm-watch";
/// What follows it in the name of a queue that was moved aside, and then the pid of the drain.
const MOVED: &str = ".drain.";
/// What follows it in that of a queue in the making. One that is found is left of a holder that died, and is made anew.
const MADE: &str = ".fm-watch.new";
/// The longest queue that is read, in bytes.
const LIMIT: usize = 64 * 1024 * 1024;

/// The queue of a home.
#[derive(Debug)]
pub struct Queue<W: World> {
    world: Arc<W>,
    /// Where the counter is.
    state: W::Node,
    counter: PathBuf,
    /// Where the queue is, which is the same unless somebody says otherwise.
    directory: W::Node,
    path: PathBuf,
    name: OsString,
    lock: PathBuf,
    lock_stale_after: Duration,
}

/// The queue while its lock is held. Dropping it gives the lock up.
#[derive(Debug)]
pub struct HeldQueue<'a, W: World> {
    queue: &'a Queue<W>,
    guard: Option<OwnerLinkGuard<W>>,
}

impl<W: World> Queue<W> {
    /// The queue of a home whose state directory exists.
    ///
    /// # Errors
    /// The directory cannot be opened.
    pub fn open(world: &Arc<W>, fleet: &Fleet) -> Result<Self> {
        let path = fleet.queue().to_owned();
        let no_file = || Error::system("open", &path, io::ErrorKind::InvalidFilename.into());
        let (directory, name) = path.parent().zip(path.file_name()).ok_or_else(no_file)?;
        Ok(Self {
            world: Arc::clone(world),
            state: world.open_directory(fleet.state()).doing("open", fleet.state())?,
            counter: fleet.file(names::WAKE_QUEUE_SEQUENCE),
            directory: world.open_directory(directory).doing("open", directory)?,
            name: name.to_owned(),
            lock: fleet.queue_lock().to_owned(),
            lock_stale_after: fleet.lock_stale_after(),
            path,
        })
    }

    /// The path of the queue.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of its lock.
    pub fn lock_path(&self) -> &Path {
        &self.lock
    }

    /// A name that begins with that of the queue.
    fn named(&self, rest: &str) -> OsString {
        let mut name = self.name.clone();
        name.push(rest);
        name
    }

    /// What the queue is now; `None` when there is none, or it cannot be examined.
    pub fn facts(&self) -> Option<Facts> {
        self.world.facts_at(&self.directory, &self.name).ok()
    }

    /// Begins to ask for the lock.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn entrance(&self) -> Result<Entrance<'_, W>> {
        let lock = OwnerLinkLock::at(&self.world, &self.lock)?.stale_after(self.lock_stale_after);
        Ok(Entrance { queue: self, lock })
    }
}

/// Somebody who asks for the lock. It may ask again and again, and remembers meanwhile for how long a lock without a pid has
/// been as it is.
#[derive(Debug)]
pub struct Entrance<'a, W: World> {
    queue: &'a Queue<W>,
    lock: OwnerLinkLock<W>,
}

impl<'a, W: World> Entrance<'a, W> {
    /// Takes the lock, or says who has it after this time.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn enter(&mut self, at_most: Duration) -> Result<Attempt<HeldQueue<'a, W>>> {
        let queue = self.queue;
        if !queue.world.is_protected(Failpoint::FirstmateQueueLock) {
            return Ok(Attempt::Taken(HeldQueue { queue, guard: None }));
        }
        Ok(self.lock.acquire(at_most)?.map(|guard| HeldQueue { queue, guard: Some(guard) }))
    }
}

impl<W: World> HeldQueue<'_, W> {
    fn world(&self) -> &W {
        self.queue.world.as_ref()
    }

    fn directory(&self) -> &W::Node {
        &self.queue.directory
    }

    fn name(&self) -> &OsStr {
        &self.queue.name
    }

    fn named(&self, rest: &str) -> OsString {
        self.queue.named(rest)
    }

    /// The rows in the queue; `None` when there is no queue.
    ///
    /// # Errors
    /// A queue that cannot be read, or is no regular file.
    pub fn rows(&self) -> Result<Option<Vec<Row>>> {
        Ok(self.bytes(self.name())?.map(|bytes| row::rows(&bytes)))
    }

    /// The rows of the file into which a holder that died was appending; `None` when none died so.
    ///
    /// # Errors
    /// As [`HeldQueue::rows`].
    pub fn pinned(&self) -> Result<Option<Vec<Row>>> {
        Ok(self.bytes(&self.named(PIN))?.map(|bytes| row::rows(&bytes)))
    }

    /// Takes the pin away: what it proves is written down.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn unpin(&self) -> Result<()> {
        let pin = self.named(PIN);
        storage::remove(self.world(), self.directory(), &pin).doing("remove", self.beside(&pin))
    }

    /// Removes what a holder of ours that died has left.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn tidy(&self) -> Result<()> {
        let made = self.named(MADE);
        storage::remove(self.world(), self.directory(), &made).doing("remove", self.beside(&made))?;
        self.unpin()
    }

    /// Gives out this many numbers and returns the first. They are used up when this returns.
    ///
    /// # Errors
    /// Those of the file system; no number was given out then.
    pub fn take_numbers(&self, count: usize, rows: &[Row], remembered: u64) -> Result<u64> {
        let name = OsStr::new(names::WAKE_QUEUE_SEQUENCE);
        let path = &self.queue.counter;
        self.make_sure_that_it_is_held()?;
        let world = self.world();
        let node = world.open(&self.queue.state, name, Open::Lock).doing("open", path)?;
        // More digits than any number has: then it is none.
        let counter = storage::read_from(world, &node, 0, 32).doing("read", path)?;
        let last = row::last_number(&counter, rows, remembered);
        let next = last.saturating_add(count as u64);
        world.overwrite(&node, format!("{next}\n").as_bytes()).doing("write to", path)?;
        world.reach(Failpoint::FirstmateNumbered).doing("write to", path)?;
        Ok(last.saturating_add(1))
    }

    /// Appends rows. They are durable when this returns, and the pin is still there.
    ///
    /// # Errors
    /// Those of the file system. The queue is then as it was.
    pub fn append(&self, rows: &[Row]) -> Result<()> {
        let (world, name) = (self.world(), self.name());
        self.make_sure_that_it_is_held()?;
        let node = world.open(self.directory(), name, Open::Append).doing("open", self.queue.path())?;
        let facts = world.facts(&node).doing("examine", self.queue.path())?;
        if facts.kind != Kind::File {
            return Err(self.no_file());
        }
        if world.is_protected(Failpoint::FirstmatePin) {
            let pin = self.named(PIN);
            match world.link(self.directory(), name, &pin) {
                // Some file systems know no second names. There, rows may come twice if this process dies just now.
                Err(error) if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported) => {}
                pinned => pinned.doing("link", self.beside(&pin))?,
            }
        }
        world.reach(Failpoint::FirstmatePinned).doing("append to", self.queue.path())?;
        let mut bytes = Vec::new();
        if !self.ends_with_a_line(&node, facts.size)? {
            bytes.push(b'\n');
        }
        for row in rows {
            bytes.extend_from_slice(row.line());
            bytes.push(b'\n');
        }
        if let Err(error) = storage::append_all(world, &node, &bytes) {
            // A part of a line would become a part of the next one, and that may be a script's.
            if world.is_protected(Failpoint::FirstmateWholeRows) {
                world.cut(&node, facts.size).doing("shorten", self.queue.path())?;
            }
            return Err(error).doing("append to", self.queue.path());
        }
        world.reach(Failpoint::FirstmateAppended).doing("append to", self.queue.path())?;
        world.sync_data(&node).doing("make durable", self.queue.path())
    }

    /// Moves the queue aside and leaves an empty one. Gives the name of what was moved.
    ///
    /// # Errors
    /// Those of the file system. What was moved then is found by the next one who enters.
    pub fn move_aside(&self) -> Result<OsString> {
        let world = self.world();
        let moved = self.named(&format!("{MOVED}{}", world.own_pid()));
        self.make_sure_that_it_is_held()?;
        let mode = self.queue.facts().map(|facts| facts.mode);
        world.rename(self.directory(), self.name(), &moved).doing("move aside", self.queue.path())?;
        world.reach(Failpoint::FirstmateMoved).doing("move aside", self.queue.path())?;
        self.make_empty(mode)?;
        world.reach(Failpoint::FirstmateEmptied).doing("move aside", self.queue.path())?;
        Ok(moved)
    }

    /// Makes an empty queue if there is none.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn make_empty(&self, mode: Option<u32>) -> Result<()> {
        let empty = self.world().open(self.directory(), self.name(), Open::Append).doing("open", self.queue.path())?;
        match mode {
            Some(mode) => self.world().set_mode(&empty, mode & 0o777).doing("set the mode of", self.queue.path()),
            None => Ok(()),
        }
    }

    /// Removes what was moved aside: its rows are told.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove_moved(&self, moved: &OsStr) -> Result<()> {
        storage::remove(self.world(), self.directory(), moved).doing("remove", self.beside(moved))
    }

    /// Puts what drains have moved aside and never told back in front of the queue, but for the rows that are not
    /// `wanted`. A living drain has the lock, so whatever is found is left of a dead one, or of ourselves.
    ///
    /// # Errors
    /// Those of the file system. Nothing is lost then.
    pub fn put_back(&self, wanted: &dyn Fn(&Row) -> bool) -> Result<()> {
        let names = self.world().names(self.directory()).doing("list", self.queue.path())?;
        let prefix = self.named(MOVED);
        let mut moved: Vec<_> = names.iter().filter(|name| pid_of_moved(name, &prefix).is_some()).collect();
        moved.sort_unstable();
        moved.into_iter().try_for_each(|name| self.put_one_back(name, wanted))
    }

    fn put_one_back(&self, moved: &OsStr, wanted: &dyn Fn(&Row) -> bool) -> Result<()> {
        self.make_sure_that_it_is_held()?;
        let Some(bytes) = self.bytes(moved)? else { return Ok(()) };
        let queue = self.bytes(self.name())?.unwrap_or_default();
        let there = row::rows(&queue);
        let back: Vec<_> = row::rows(&bytes).into_iter().filter(|row| wanted(row) && !there.contains(row)).collect();
        if !back.is_empty() {
            self.replace(moved, &back, &queue)?;
        }
        self.world().reach(Failpoint::FirstmatePutBack).doing("put back", self.queue.path())?;
        self.remove_moved(moved)
    }

    /// Takes rows out of the queue. Says whether there were any.
    ///
    /// # Errors
    /// Those of the file system. The queue is then as it was.
    pub fn take_out(&self, rows: &[Row], is_told: &dyn Fn(&Row) -> bool) -> Result<bool> {
        let kept: Vec<Row> = rows.iter().filter(|row| !is_told(row)).cloned().collect();
        if kept.len() == rows.len() {
            return Ok(false);
        }
        self.make_sure_that_it_is_held()?;
        self.replace(self.name(), &kept, &[])?;
        Ok(true)
    }

    /// Makes a new queue of rows and what is to follow them, with the mode of a file that there is.
    fn replace(&self, model: &OsStr, rows: &[Row], rest: &[u8]) -> Result<()> {
        let (world, path, made) = (self.world(), self.queue.path(), &self.named(MADE));
        let mut content = Vec::new();
        for row in rows {
            content.extend_from_slice(row.line());
            content.push(b'\n');
        }
        content.extend_from_slice(rest);
        storage::remove(world, self.directory(), made).doing("remove", self.beside(made))?;
        let node = world.open(self.directory(), made, Open::CreateNew).doing("make", self.beside(made))?;
        storage::append_all(world, &node, &content).doing("write to", self.beside(made))?;
        if let Ok(facts) = world.facts_at(self.directory(), model) {
            world.set_mode(&node, facts.mode & 0o777).doing("set the mode of", self.beside(made))?;
        }
        world.sync_data(&node).doing("make durable", self.beside(made))?;
        world.reach(Failpoint::FirstmateMade).doing("replace", path)?;
        world.rename(self.directory(), made, self.name()).doing("replace", path)?;
        world.reach(Failpoint::FirstmateReplaced).doing("replace", path)
    }

    /// Whether the lock is still ours: a person can remove it, and then somebody else may have it.
    fn make_sure_that_it_is_held(&self) -> Result<()> {
        let Some(guard) = &self.guard else { return Ok(()) };
        match guard.check()? {
            Ownership::Held => Ok(()),
            Ownership::Lost(loss) => {
                Err(Error::refused(guard.path(), loss, "nothing was changed since; it is tried again"))
            }
        }
    }

    /// A writer that died, or a full disk, can leave a line without its end. Ours is not to become a part of it.
    fn ends_with_a_line(&self, node: &W::Node, size: u64) -> Result<bool> {
        let Some(last) = size.checked_sub(1) else { return Ok(true) };
        // Opened for appending only, so it is read by its name.
        let opened = self.world().open(self.directory(), self.name(), Open::Read);
        let reader = opened.doing("open", self.queue.path())?;
        let same = |one: &Facts, other: &Facts| one.is_same_inode(other);
        let (one, other) = (self.world().facts(node), self.world().facts(&reader));
        if !matches!((&one, &other), (Ok(one), Ok(other)) if same(one, other)) {
            return Err(self.no_file());
        }
        let end = storage::read_from(self.world(), &reader, last, 1).doing("read", self.queue.path())?;
        Ok(end == *b"\n")
    }

    fn bytes(&self, name: &OsStr) -> Result<Option<Vec<u8>>> {
        storage::read(self.world(), self.directory(), name, LIMIT).doing("read", self.beside(name))
    }

    fn beside(&self, name: &OsStr) -> PathBuf {
        self.queue.path.with_file_name(name)
    }

    fn no_file(&self) -> Error {
        let found = io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file, or was replaced just now");
        Error::system("append to", self.queue.path(), found)
    }
}

/// The pid in the name of a queue that was moved aside; `None` for any other name.
fn pid_of_moved<'a>(name: &'a OsStr, prefix: &OsStr) -> Option<&'a str> {
    let pid = name.to_str()?.strip_prefix(prefix.to_str()?)?;
    (!pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit())).then_some(pid)
}
