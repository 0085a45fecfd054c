//! The one small contract through which the protocols reach the outside.
//!
//! The lock, the journal and the starting of watchers are protocols: their worth is what is left on
//! disk when a process dies between any two steps. They therefore never call the operating system
//! themselves; they call a [`World`]. The [`Real`] world is thin. A simulated one can stand in its
//! place, with inodes, open file descriptions, unsynced pages and crashes, and run the same protocol code.
//!
//! Every file is named relative to an open directory ([`World::Node`]), and no call follows a symbolic
//! link in the last component of a name, so a path that is swapped under us cannot lead a write astray.
//!
//! Limits: the contract says what the callers need and no more; it is not a general file system.

pub mod altered;
pub mod bounded_command;
pub mod handle;
pub mod identity;
pub mod platform;
pub mod program;
mod real;
pub mod regular_file;
pub mod requests;
pub mod sd_notify;
#[cfg(test)]
pub(crate) mod simulated;
mod sockets;
pub mod status_pipe;
pub mod storage;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

pub use real::Real;
use serde::{Deserialize, Serialize};
pub use sockets::{Binding, Peer, Reached, Sockets};

use self::identity::{Observation, Pid, Standpoint};
use crate::base::failpoint::{self, Failpoint};

/// How long the kernel may take to carry out a KILL. It does so at once, unless the process is frozen or in uninterruptible
/// sleep; but the process has to be scheduled to end, and on a machine that is busy that was seen to take more than two
/// seconds.
pub const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// How a file is opened. No variant truncates, and none follows a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// An existing file, for reading. Never blocks, not even on a FIFO.
    Read,
    /// An existing or new file (mode 0600), for reading and writing in place.
    Lock,
    /// An existing or new file (mode 0600), for writes that all go to its end.
    Append,
    /// A new file (mode 0600) that must not exist yet, for writing.
    CreateNew,
    /// A name of any kind, neither for reading nor for writing: as long as the node lives, its inode number cannot be
    /// given to another file. Works without permission to read, and on a symbolic link or a socket as well.
    Pin,
}

/// What kind of thing a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A FIFO.
    Fifo,
    /// A Unix socket.
    Socket,
    /// A device or anything else.
    Other,
}

/// What the file system says about one inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The kind of thing.
    pub kind: Kind,
    /// Device number.
    pub device: u64,
    /// Inode number on that device.
    pub inode: u64,
    /// Size in bytes.
    pub size: u64,
    /// Time of last modification, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Time of the last change of the inode, in nanoseconds since 1970. Nobody can set it.
    pub ctime_ns: i64,
    /// Number of names.
    pub links: u64,
    /// Owner.
    pub uid: u32,
    /// Permission bits (the low twelve).
    pub mode: u32,
}

impl Facts {
    /// Whether both describe the same inode of the same device.
    pub fn is_same_inode(&self, other: &Self) -> bool {
        self.device == other.device && self.inode == other.inode
    }

    /// Whether it belongs to the user this process acts as.
    pub fn is_own(&self) -> bool {
        self.uid == platform::effective_uid()
    }

    /// Whether it belongs to that user or to the administrator, who can do everything anyway.
    pub fn is_own_or_of_administrator(&self) -> bool {
        self.uid == 0 || self.is_own()
    }

    /// Whether others than its owner may change it.
    pub fn is_writable_by_others(&self) -> bool {
        self.mode & 0o022 != 0
    }
}

/// The answer to a request for a kernel lock that does not wait. Failures other than "busy" are errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The lock is now held through the node that was given, until that node is closed.
    Taken,
    /// Somebody else holds it.
    Busy,
}

/// One reading of the clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    /// Milliseconds since 1970, for people only: it steps when the clock is set.
    pub wall_ms: i64,
    /// Time since boot without time spent suspended (`CLOCK_MONOTONIC`): ages and deadlines.
    pub monotonic: Duration,
}

/// A signal this project may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ask to leave.
    Terminate,
    /// Ask to leave, as a terminal does.
    Interrupt,
    /// Ask to leave, as a terminal does that wants a core.
    Quit,
    /// Say that the terminal is gone.
    HangUp,
    /// Whatever the receiver takes it for.
    User1,
    /// Whatever the receiver takes it for.
    User2,
    /// Say that a time has passed.
    Alarm,
    /// Insist.
    Kill,
}

/// The outside, as the protocols see it.
pub trait World: fmt::Debug + Send + Sync + 'static {
    /// An open file or directory. Dropping it closes it and thereby releases the locks taken through it.
    type Node: fmt::Debug + Send + Sync + 'static;
    /// A process, pinned: it keeps naming the same process after that one died and its pid was given away.
    type Process: fmt::Debug + Send + Sync + 'static;

    /// Opens a directory by path. Links are followed on the way, not in the last component.
    fn open_directory(&self, path: &Path) -> io::Result<Self::Node>;
    /// Opens a directory inside another.
    fn open_directory_at(&self, directory: &Self::Node, name: &OsStr) -> io::Result<Self::Node>;
    /// Makes a directory of mode 0700; one that exists already is an error of that kind.
    fn make_directory(&self, directory: &Self::Node, name: &OsStr) -> io::Result<()>;
    /// Opens a file inside a directory.
    fn open(&self, directory: &Self::Node, name: &OsStr, how: Open) -> io::Result<Self::Node>;
    /// What an open node is.
    fn facts(&self, node: &Self::Node) -> io::Result<Facts>;
    /// What a name stands for now, without following a link. `NotFound` when there is no such name.
    fn facts_at(&self, directory: &Self::Node, name: &OsStr) -> io::Result<Facts>;
    /// What a path stands for now, without following a link in its last component.
    fn facts_of_path(&self, path: &Path) -> io::Result<Facts>;
    /// The names in a directory, without `.` and `..`, in no order.
    fn names(&self, directory: &Self::Node) -> io::Result<Vec<OsString>>;
    /// Reads at an offset; 0 means the end. May read less than asked for.
    fn read_at(&self, node: &Self::Node, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes at the end with one system call; says how much was taken, which may be less.
    fn append(&self, node: &Self::Node, bytes: &[u8]) -> io::Result<usize>;
    /// Makes content and length durable (`fdatasync`).
    fn sync_data(&self, node: &Self::Node) -> io::Result<()>;
    /// Makes a file, or the names of a directory, durable (`fsync`).
    fn sync_all(&self, node: &Self::Node) -> io::Result<()>;
    /// Renames within a directory, replacing what had the new name.
    fn rename(&self, directory: &Self::Node, from: &OsStr, to: &OsStr) -> io::Result<()>;
    /// Gives a file a second name within a directory; an existing name is never replaced (`AlreadyExists`).
    fn link(&self, directory: &Self::Node, from: &OsStr, to: &OsStr) -> io::Result<()>;
    /// Swaps two existing names within a directory in one step.
    fn exchange(&self, directory: &Self::Node, one: &OsStr, other: &OsStr) -> io::Result<Exchange>;
    /// Makes a symbolic link; an existing name is never replaced (`AlreadyExists`).
    fn symlink(&self, directory: &Self::Node, target: &OsStr, name: &OsStr) -> io::Result<()>;
    /// Where a symbolic link points.
    fn read_link(&self, directory: &Self::Node, name: &OsStr) -> io::Result<OsString>;
    /// Puts these bytes in place of a file's content. The file is never empty on the way.
    fn overwrite(&self, node: &Self::Node, bytes: &[u8]) -> io::Result<()>;
    /// Makes a file as short as this, in bytes.
    fn cut(&self, _node: &Self::Node, _length: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Sets the times of a file to now, as touch(1) does; a file that is not there is made (mode 0600). A link is not
    /// followed.
    fn touch(&self, _directory: &Self::Node, _name: &OsStr) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Whether this process may write to the file of a name, as the system itself judges that for an opening. A link is
    /// not followed.
    fn may_write(&self, directory: &Self::Node, name: &OsStr) -> io::Result<bool>;
    /// Sets the permission bits of a file.
    fn set_mode(&self, node: &Self::Node, mode: u32) -> io::Result<()>;
    /// Gives a file the group of the one that has a name. Where files have no groups there is nothing to do.
    fn take_group(&self, _directory: &Self::Node, _name: &OsStr, _node: &Self::Node) -> io::Result<()> {
        Ok(())
    }
    /// Removes an empty directory.
    fn remove_directory(&self, directory: &Self::Node, name: &OsStr) -> io::Result<()>;
    /// Removes a name that is not a directory.
    fn unlink(&self, directory: &Self::Node, name: &OsStr) -> io::Result<()>;
    /// What kind of file system a node lives on.
    fn file_system(&self, node: &Self::Node) -> io::Result<FileSystem>;

    /// Takes the exclusive kernel lock of a node (`flock` semantics), or says that it is busy.
    fn try_lock(&self, node: &Self::Node) -> io::Result<Claim>;
    /// Sets the visible sign of a held lock on a file or directory, which others can read without taking anything.
    fn raise_mark(&self, node: &Self::Node, kind: Kind) -> io::Result<()>;
    /// Whether a living process shows the sign of [`World::raise_mark`] on this file or directory.
    fn is_marked(&self, node: &Self::Node) -> io::Result<bool>;
    /// Publishes a time of `CLOCK_MONOTONIC` in the kernel; it needs no disk and ends with the holder.
    fn publish_beat(&self, node: &Self::Node, at: Duration) -> io::Result<()>;
    /// The time that the holder published last, in whole milliseconds.
    fn published_beat(&self, node: &Self::Node) -> io::Result<Option<Duration>>;
    /// Who the kernel names as the taker of this node's exclusive lock, without taking it.
    fn lock_taker(&self, node: &Self::Node) -> io::Result<LockTaker>;

    /// Reads the clocks.
    fn now(&self) -> Now;
    /// The id of this boot; `None` where the system does not tell.
    fn boot_id(&self) -> Option<String>;
    /// Sixteen bytes that nobody can guess.
    fn nonce(&self) -> io::Result<[u8; 16]>;
    /// This process's own pid.
    fn own_pid(&self) -> u32;

    /// Whether a process of this number exists, in whatever state: what `kill(pid, 0)` tells, and all that protocols
    /// which record a bare number can know. Errors prove nothing.
    fn exists(&self, pid: u32) -> io::Result<bool>;
    /// The start of a process in clock ticks since boot, if it can be read.
    fn start_ticks(&self, pid: u32) -> Option<u64>;
    /// The numbers of all processes that can be seen.
    fn processes(&self) -> io::Result<Vec<u32>>;
    /// What ps(1) lists of a process now; `None` where that cannot be told, which proves nothing.
    fn listing(&self, _pid: u32) -> Option<Listing> {
        None
    }
    /// The arguments of a process as the kernel shows them now, each with a NUL at its end; `None` where that cannot be
    /// told, which proves nothing.
    fn arguments(&self, _pid: u32) -> Option<Vec<u8>> {
        None
    }
    /// What the process table shows of a process now; `None` where that cannot be told, which proves nothing.
    fn table_entry(&self, _pid: u32) -> Option<TableEntry> {
        None
    }
    /// The number of a process in its own, innermost pid namespace.
    fn innermost_pid(&self, pid: u32) -> Option<u32>;
    /// Whether a process surely has no other number than this in its innermost pid namespace, because that is ours.
    fn has_one_number(&self, _pid: u32) -> bool {
        false
    }
    /// From where this process sees others.
    fn standpoint(&self) -> Standpoint;
    /// The machine's name as the kernel stores it, which need not be text.
    fn host_name(&self) -> Vec<u8>;
    /// Whether start times read here are those that everybody else on this machine reads: not so in a time namespace
    /// with an offset.
    fn has_common_start_times(&self) -> bool;

    /// Pins a process. `Ok(None)`: there is no such process. Errors prove nothing about it.
    fn pin(&self, pid: Pid) -> io::Result<Option<Self::Process>>;
    /// Reads what a pinned process is, and proves that it still lived after the reading.
    fn observe(&self, process: &Self::Process) -> Observation;
    /// Signals a pinned process. `Ok(false)`: it has ended already.
    fn signal(&self, process: &Self::Process, signal: Signal) -> io::Result<bool>;
    /// Waits until a pinned process has ended, at most so long. Says whether it has.
    fn wait_for_exit(&self, process: &Self::Process, at_most: Duration) -> io::Result<bool>;

    /// Lets others go on for a moment, between two looks at something that others change.
    fn pause(&self, at_most: Duration);
    /// Marks a step of a protocol; see [`crate::base::failpoint::reach`].
    fn reach(&self, step: Failpoint) -> io::Result<()> {
        failpoint::reach(step)
    }
    /// Whether a protection is in place; see [`crate::base::failpoint::is_protected`].
    fn is_protected(&self, protection: Failpoint) -> bool {
        failpoint::is_protected(protection)
    }
}

/// As [`wait_until`](crate::base::wait_until::wait_until), by the clock and with the pauses of a world: for protocols, which know no other time.
pub fn wait_in<T>(
    world: &impl World,
    at_most: Duration,
    pause: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> Option<T> {
    let start = world.now().monotonic;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        let left = at_most.checked_sub(world.now().monotonic.saturating_sub(start))?;
        world.pause(pause.min(left));
    }
}

/// What ps(1) lists of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Its start by the wall clock of now, in whole seconds since 1970.
    pub started_at: i64,
    /// The same in local time, as ctime(3) writes it: `Fri Nov 20 23:05:27 2026`.
    pub started: String,
    /// Its arguments as the kernel shows them, each with a NUL at its end; empty for a kernel thread or a zombie.
    pub arguments: Vec<u8>,
    /// Its short name.
    pub name: Vec<u8>,
}

/// What the process table shows of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableEntry {
    /// What it does.
    pub activity: Activity,
    /// The process whose child it is.
    pub parent: u32,
    /// Its session, which is the number of the process that began it.
    pub session: u32,
}

/// What a process does, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// It runs or waits for something.
    Alive,
    /// A signal or a debugger has stopped it, until another one lets it go on.
    Stopped,
    /// It has ended and waits to be reaped.
    Ended,
}

/// A kind of file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileSystem {
    /// Its locks were measured and hold. It has this name.
    Trusted(&'static str),
    /// Nobody has shown that locks hold on it. It is described so.
    Untrusted(String),
}

/// The answer to a request to swap two names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exchange {
    /// They are swapped.
    Done,
    /// This file system cannot do that; nothing has changed.
    Unsupported,
}

/// Whom the kernel's table of locks names for one inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockTaker {
    /// The table shows no exclusive lock on this inode.
    NotSeen,
    /// The lock was taken by this pid. A descendant that inherited the descriptor may be who holds it now.
    Taken(u32),
}
