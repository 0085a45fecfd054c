//! Linux: pidfd, `/proc`, and the visible signs of a lock.
//!
//! **Signals.** A process is pinned by `pidfd_open` first, read second and proven to be still alive third; any
//! other order has a window in which the pid may have been given away. Signals go through the pidfd only.
//!
//! **The mark.** Nobody can ask `flock` who holds a lock without trying to take it, and a probe that takes the lock for
//! a moment can make a real start lose. So a holder also sets an *open file description* record lock (`F_OFD_SETLK`)
//! on the same descriptor, and everybody else reads it with `F_OFD_GETLK`, which takes nothing. It lives exactly as long
//! as the `flock` beside it: both belong to the open file description. (Plain POSIX record locks would be
//! dropped by closing any other descriptor of the file and are never used.) On a directory, which cannot be opened for
//! writing, the mark is a shared record lock, which the question for an exclusive one still sees.
//!
//! **The beat.** The position of a second record lock says when the loop last went round, in milliseconds of
//! `CLOCK_MONOTONIC`. So a full or read-only disk never makes a healthy watcher look stuck.
//!
//! **`/proc`.** The few fields that are needed are read here, not by the crate `procfs`: it parses all fields of a `stat` to
//! give one, and none if one of them is not as it expects (`guard` counts in fractions of a millisecond), and a table of
//! locks that came in pieces is to it a whole one.
//!
//! Limits: record locks and `flock` must be kept by one kernel, which [`file_system`] stands for. Inside
//! another time namespace `CLOCK_MONOTONIC` is shifted and beats cannot be compared.

#![expect(unsafe_code, reason = "the one door to the kernel's interfaces that no safe library covers")]
#![expect(clippy::disallowed_methods, reason = "this is the one door to signals")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

use crate::system::identity::{Executable, Identity, Observation, Pid, Standpoint};
use crate::system::{Activity, FileSystem, Kind, LockTaker, Signal, TableEntry};

/// A process held by its pidfd.
#[derive(Debug)]
pub struct Pinned {
    pid: Pid,
    descriptor: OwnedFd,
}

impl Pinned {
    /// A process whose pidfd the kernel gave us together with its number.
    pub(crate) fn new(pid: Pid, descriptor: OwnedFd) -> Self {
        Self { pid, descriptor }
    }

    /// The pid under which it was pinned.
    pub fn pid(&self) -> Pid {
        self.pid
    }
}

/// Can be "read" when the process has ended.
impl AsFd for Pinned {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Pins a process by its pid. `Ok(None)`: no such process.
pub fn pin(pid: Pid) -> io::Result<Option<Pinned>> {
    let number = rustix::process::Pid::from_raw(pid.get().cast_signed())
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    match pidfd_open(number, PidfdFlags::empty()) {
        Ok(descriptor) => Ok(Some(Pinned { pid, descriptor })),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Pins a process whose pid another process reported as a plain number.
pub fn pin_reported(pid: u32) -> io::Result<Option<Pinned>> {
    Pid::new(pid).map_or(Ok(None), pin)
}

/// Reads what a pinned process is. The proof that it still lived comes after the reading.
pub fn observe(process: &Pinned) -> Observation {
    let reading = read_identity(process);
    match wait_for_exit(process, Duration::ZERO) {
        Ok(true) => Observation::Gone,
        Ok(false) => reading.map_or_else(
            |error| Observation::Unreadable(format!("pid {} cannot be read: {error}", process.pid)),
            Observation::Seen,
        ),
        Err(error) => Observation::Unreadable(format!("pid {} cannot be polled: {error}", process.pid)),
    }
}

/// Sends a signal through the pidfd. `Ok(false)`: the process has ended already.
pub fn signal(process: &Pinned, signal: Signal) -> io::Result<bool> {
    match pidfd_send_signal(&process.descriptor, named(signal)) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// How Linux names a signal.
pub(crate) fn named(signal: Signal) -> rustix::process::Signal {
    use rustix::process::Signal as Named;
    match signal {
        Signal::Terminate => Named::TERM,
        Signal::Interrupt => Named::INT,
        Signal::Quit => Named::QUIT,
        Signal::HangUp => Named::HUP,
        Signal::User1 => Named::USR1,
        Signal::User2 => Named::USR2,
        Signal::Alarm => Named::ALARM,
        Signal::Kill => Named::KILL,
    }
}

/// Waits until the process has ended, at most so long.
pub fn wait_for_exit(process: &Pinned, at_most: Duration) -> io::Result<bool> {
    is_readable_within(&process.descriptor, at_most)
}

/// Waits until a descriptor can be read, or is at its end, at most so long.
pub fn is_readable_within(descriptor: impl AsFd, at_most: Duration) -> io::Result<bool> {
    let end = monotonic() + at_most;
    loop {
        let left = end.saturating_sub(monotonic());
        match poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(left)) {
            Ok(count) => return Ok(count > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits until nobody can read any more what is written to a descriptor, at most so long. A file and a terminal that is
/// there are never abandoned; an interruption ends the waiting.
///
/// # Errors
/// Those of the system.
pub fn is_abandoned_within(descriptor: impl AsFd, at_most: Duration) -> io::Result<bool> {
    // Errors and hang-ups are told without being asked for.
    match poll(&mut [PollFd::new(&descriptor, PollFlags::empty())], Some(at_most)) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Waits until something is to be told of one of these; `None` waits for ever.
pub(crate) fn poll(polled: &mut [PollFd<'_>], at_most: Option<Duration>) -> rustix::io::Result<usize> {
    let timeout = at_most.map(|time| Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    });
    rustix::event::poll(polled, timeout.as_ref())
}

fn read_identity(process: &Pinned) -> io::Result<Identity> {
    let number = process.pid.get();
    // A `/proc` of another pid namespace would describe a stranger under the same number.
    if fs::read_link("/proc/self")?.as_os_str() != std::process::id().to_string().as_str() {
        return Err(io::Error::other("/proc belongs to another pid namespace"));
    }
    let directory = format!("/proc/{number}");
    let stat = fs::read(format!("{directory}/stat"))?;
    let start_ticks =
        start_ticks_in(&stat).ok_or_else(|| io::Error::other(format!("{directory}/stat has no start time")))?;
    let executable = fs::metadata(format!("{directory}/exe")).ok().map(|file| Executable {
        path: fs::read_link(format!("{directory}/exe")).unwrap_or_default(),
        device: file.dev(),
        inode: file.ino(),
    });
    Ok(Identity {
        pid: process.pid,
        start_ticks,
        boot_id: boot_id(),
        pid_namespace: fs::metadata(format!("{directory}/ns/pid")).ok().map(|file| file.ino()),
        pidfd_inode: pidfd_inode(process),
        executable,
        uid: fs::metadata(&directory)?.uid(),
    })
}

/// Makes a FIFO (mode 0600) and opens both of its ends, so that it never says that nobody writes.
///
/// # Errors
/// Those of the file system.
pub fn make_fifo(directory: &File, name: &OsStr) -> io::Result<File> {
    rustix::fs::mknodat(directory, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    Ok(rustix::fs::openat(directory, name, OFlags::RDWR | FIFO, Mode::empty())?.into())
}

/// Opens both ends of a FIFO, which is made (mode 0600) if nothing is there. It never waits, neither here nor later, and is
/// never at its end as long as it is open. Its buffer is made larger if the system lets us.
///
/// # Errors
/// Those of the file system, and a name that stands for anything else.
pub fn open_reading_fifo(directory: &File, name: &OsStr) -> io::Result<File> {
    const BUFFER: usize = 1024 * 1024;
    match rustix::fs::mknodat(directory, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let fifo = open_fifo(directory, name, OFlags::NONBLOCK)?;
    // Best effort: what is beyond the usual limit is for the privileged.
    let _size = rustix::pipe::fcntl_setpipe_size(&fifo, BUFFER);
    Ok(fifo)
}

/// Opens both ends of a FIFO that exists, for a process that writes to it and may wait: it never sees a broken pipe, and
/// the FIFO keeps what nobody has read yet for as long as that process lives.
///
/// # Errors
/// Those of the file system, and a name that stands for anything else.
pub fn open_writing_fifo(directory: &File, name: &OsStr) -> io::Result<File> {
    open_fifo(directory, name, OFlags::empty())
}

fn open_fifo(directory: &File, name: &OsStr, waiting: OFlags) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY | waiting;
    let fifo = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&fifo)?.st_mode) != FileType::Fifo {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a FIFO"));
    }
    Ok(fifo.into())
}

/// Writes a byte into a FIFO that somebody has open. One that nobody has open, or that is full, is left alone.
///
/// # Errors
/// Those of the file system, and a name that stands for anything else.
pub fn ring(directory: &File, name: &OsStr) -> io::Result<()> {
    let fifo = match rustix::fs::openat(directory, name, OFlags::WRONLY | FIFO, Mode::empty()) {
        Err(Errno::NXIO | Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    if FileType::from_raw_mode(rustix::fs::fstat(&fifo)?.st_mode) != FileType::Fifo {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a FIFO"));
    }
    match rustix::io::write(&fifo, b"!") {
        Ok(_) | Err(Errno::AGAIN | Errno::PIPE) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// How FIFOs are opened: without waiting for anybody, and without following a link.
const FIFO: OFlags = OFlags::NONBLOCK.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The fields of `/proc/PID/stat` from the third on. The command in field 2 may hold anything, parentheses too, so
/// counting starts after the last one.
fn fields_from_third(stat: &[u8]) -> Option<std::str::SplitAsciiWhitespace<'_>> {
    let after_command = stat.iter().rposition(|&byte| byte == b')')? + 1;
    Some(std::str::from_utf8(stat.get(after_command..)?).ok()?.split_ascii_whitespace())
}

/// Field 22 of `/proc/PID/stat`.
fn start_ticks_in(stat: &[u8]) -> Option<u64> {
    fields_from_third(stat)?.nth(22 - 3)?.parse().ok()
}

/// What the process table shows of a process.
pub fn table_entry(pid: u32) -> Option<TableEntry> {
    table_entry_in(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

fn table_entry_in(stat: &[u8]) -> Option<TableEntry> {
    let mut fields = fields_from_third(stat)?;
    let activity = match fields.next()? {
        "T" | "t" => Activity::Stopped,
        "Z" | "X" | "x" => Activity::Ended,
        _ => Activity::Alive,
    };
    let (parent, _group, session) = (fields.next()?, fields.next()?, fields.next()?);
    Some(TableEntry { activity, parent: parent.parse().ok()?, session: session.parse().ok()? })
}

/// The inode of the pidfd, where pidfds live on a file system of their own (Linux 6.9); before that, all
/// share one inode and it says nothing.
fn pidfd_inode(process: &Pinned) -> Option<u64> {
    const PIDFS_MAGIC: u64 = 0x5049_4446;
    let system = rustix::fs::fstatfs(&process.descriptor).ok()?;
    if u64::try_from(system.f_type).ok()? != PIDFS_MAGIC {
        return None;
    }
    Some(rustix::fs::fstat(&process.descriptor).ok()?.st_ino)
}

/// From where this process sees others.
pub fn own_standpoint() -> Standpoint {
    let namespace = |kind: &str| fs::metadata(format!("/proc/self/ns/{kind}")).ok().map(|file| file.ino());
    Standpoint { boot_id: boot_id(), pid_namespace: namespace("pid"), time_namespace: namespace("time") }
}

/// The kernel's id of this boot.
pub fn boot_id() -> Option<String> {
    static BOOT: OnceLock<Option<String>> = OnceLock::new();
    BOOT.get_or_init(read_boot_id).clone()
}

fn read_boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Time since boot, without time spent suspended.
pub fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec.cast_unsigned(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Ends this process as `kill -9` does, for tests that crash at a named point.
#[cfg(feature = "sync-points")]
pub fn kill_self() {
    let _never_returns = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}

/// Sixteen random bytes.
pub fn nonce() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    if filled == bytes.len() { Ok(bytes) } else { Err(io::Error::other("the kernel gave too few random bytes")) }
}

/// The machine's name, for people.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The machine's name as the kernel stores it.
pub fn host_name_bytes() -> Vec<u8> {
    rustix::system::uname().nodename().to_bytes().to_vec()
}

/// Whether a process of this number exists, also one that has ended and waits to be reaped, or that we may not signal.
pub fn exists(pid: u32) -> io::Result<bool> {
    let number = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let Some(number) = number else { return Err(io::Error::from(io::ErrorKind::InvalidInput)) };
    match rustix::process::test_kill_process(number) {
        Ok(()) | Err(Errno::PERM) => Ok(true),
        Err(Errno::SRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The start of a process in clock ticks since boot.
pub fn start_ticks(pid: u32) -> Option<u64> {
    start_ticks_in(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The numbers in `/proc`.
pub fn processes() -> io::Result<Vec<u32>> {
    let numbers =
        fs::read_dir("/proc")?.map(|entry| Ok(entry?.file_name().to_str().and_then(|name| name.parse().ok())));
    numbers.filter_map(Result::transpose).collect()
}

/// The last number in the line `NSpid:` of a process (Linux 4.1).
pub fn innermost_pid(pid: u32) -> Option<u32> {
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    // The kernel ends a line with LF only. A process names itself in the first one, where it could forge other ends.
    let line = status.split(|&byte| byte == b'\n').find(|line| line.starts_with(b"NSpid:"))?;
    std::str::from_utf8(line).ok()?.split_ascii_whitespace().next_back()?.parse().ok()
}

/// Whether a process is in this process's pid namespace, which `/proc` must be of as well. It may be when the answer is no.
pub fn is_in_own_pid_namespace(pid: u32) -> bool {
    static OWN: OnceLock<Option<u64>> = OnceLock::new();
    let inode = |process: &str| fs::metadata(format!("/proc/{process}/ns/pid")).ok().map(|file| file.ino());
    let own = OWN.get_or_init(|| {
        let shown = fs::read_link("/proc/self").ok()?;
        (shown.as_os_str() == std::process::id().to_string().as_str()).then(|| inode("self"))?
    });
    own.is_some() && inode(&pid.to_string()) == *own
}

/// Whether this process's clocks count from the same zero as everybody's: in a time namespace with an offset the kernel
/// shifts the start times that are read there (Linux 5.6).
pub fn has_common_start_times() -> bool {
    // TIME_NS_INIT_INO of linux/proc_ns.h: the first time namespace's inode is fixed.
    const FIRST: u64 = 0xEFFF_FFFA;
    let inode = |name: &str| fs::metadata(format!("/proc/self/ns/{name}")).map(|file| file.ino());
    match inode("time") {
        // A kernel without time namespaces.
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(_) => false,
        Ok(FIRST) => true,
        // The offsets that can be read are those of our children's namespace, which need not be ours.
        Ok(ours) if inode("time_for_children").ok() != Some(ours) => false,
        Ok(_) => fs::read_to_string("/proc/self/timens_offsets").is_ok_and(|offsets| has_no_boot_offset(&offsets)),
    }
}

/// The clock goes by its name since Linux 5.8, and by its number before.
fn has_no_boot_offset(offsets: &str) -> bool {
    offsets.lines().any(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        matches!(words.as_slice(), ["boottime" | "7", "0", "0"])
    })
}

/// The user this process acts as.
pub fn effective_uid() -> u32 {
    static UID: OnceLock<u32> = OnceLock::new();
    *UID.get_or_init(|| rustix::process::geteuid().as_raw())
}

/// File systems whose `flock` and record locks were measured to hold between processes of one kernel, by the
/// number that `statfs` gives them (linux/magic.h).
const TRUSTED: [(u64, &str); 8] = [
    (0xEF53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683E, "btrfs"),
    (0x0102_1994, "tmpfs"),
    (0x794C_7630, "overlay"),
    (0x2FC1_2FC1, "zfs"),
    (0xF2F5_2010, "f2fs"),
    (0x8584_58F6, "ramfs"),
];

/// What kind of file system a node lives on.
pub fn file_system(node: &File) -> io::Result<FileSystem> {
    let number = u64::try_from(rustix::fs::fstatfs(node)?.f_type).unwrap_or(u64::MAX) & 0xFFFF_FFFF;
    if let Some((_, name)) = TRUSTED.iter().find(|(magic, _)| *magic == number) {
        return Ok(FileSystem::Trusted(name));
    }
    Ok(FileSystem::Untrusted(match number {
        0x6969 => "NFS".to_owned(),
        0x6573_5546 => "FUSE".to_owned(),
        0xFF53_4D42 | 0xFE53_4D42 => "SMB".to_owned(),
        0x0102_1997 => "9p".to_owned(),
        other => format!("file system {other:#x}"),
    }))
}

/// The byte whose record lock is the mark.
const MARK: (i64, i64) = (0, 1);
/// Beats are published beyond this offset; no lock file is ever so long.
const BEATS_FROM: i64 = 1 << 40;

/// Sets the mark on a node that is locked already. A directory cannot be opened for writing, which an exclusive record
/// lock demands; on it the mark is a shared one.
pub fn raise_mark(node: &File, kind: Kind) -> io::Result<()> {
    let lock = if kind == Kind::Directory { libc::F_RDLCK } else { libc::F_WRLCK };
    record_lock(node, libc::F_OFD_SETLK, lock, MARK).map(drop)
}

/// Whether another open file description shows the mark.
pub fn is_marked(node: &File) -> io::Result<bool> {
    Ok(record_lock(node, libc::F_OFD_GETLK, libc::F_WRLCK, MARK)?.is_some())
}

/// Publishes the time of a beat: sets the new position first, then gives up the older ones.
pub fn publish_beat(node: &File, at: Duration) -> io::Result<()> {
    let position = BEATS_FROM.saturating_add(i64::try_from(at.as_millis()).unwrap_or(i64::MAX >> 1));
    record_lock(node, libc::F_OFD_SETLK, libc::F_WRLCK, (position, 1))?;
    let earlier = (BEATS_FROM, position - BEATS_FROM);
    if earlier.1 > 0 {
        record_lock(node, libc::F_OFD_SETLK, libc::F_UNLCK, earlier)?;
    }
    Ok(())
}

/// The time of the last published beat.
pub fn published_beat(node: &File) -> io::Result<Option<Duration>> {
    let found = record_lock(node, libc::F_OFD_GETLK, libc::F_WRLCK, (BEATS_FROM, 0))?;
    Ok(found.and_then(|position| u64::try_from(position - BEATS_FROM).ok()).map(Duration::from_millis))
}

/// Sets, gives up or asks for a record lock of the open file description. A question answers with the position of
/// the first lock in the way.
fn record_lock(node: &File, command: libc::c_int, kind: libc::c_int, range: (i64, i64)) -> io::Result<Option<i64>> {
    // SAFETY: `flock` is a plain C struct of integers, for which all bits zero is a valid value; the kernel
    // demands that `l_pid` be zero for these commands.
    let mut request: libc::flock = unsafe { std::mem::zeroed() };
    request.l_type = i16::try_from(kind).map_err(io::Error::other)?;
    request.l_whence = i16::try_from(libc::SEEK_SET).map_err(io::Error::other)?;
    request.l_start = range.0;
    request.l_len = range.1;
    loop {
        // SAFETY: the descriptor is open for as long as `node` is borrowed, and `request` is a valid struct that the
        // kernel may write to.
        let answer = unsafe { libc::fcntl(node.as_raw_fd(), command, &raw mut request) };
        if answer != -1 {
            let is_in_the_way = command == libc::F_OFD_GETLK && i32::from(request.l_type) != libc::F_UNLCK;
            return Ok(is_in_the_way.then_some(request.l_start));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Whom `/proc/locks` names for this inode.
pub fn lock_taker(node: &File) -> io::Result<LockTaker> {
    let facts = rustix::fs::fstat(node)?;
    let device = (rustix::fs::major(facts.st_dev), rustix::fs::minor(facts.st_dev));
    // On btrfs and overlay the table speaks of another device, and sometimes inode, than `stat` does.
    let mut other = None;
    taker_in_readings(
        || fs::read_to_string("/proc/locks"),
        |table| {
            if let seen @ LockTaker::Taken(_) = taker_in(table, device, facts.st_ino) {
                return Ok(seen);
            }
            let other = match other {
                Some(other) => other,
                None => *other.insert(device_in_tables(node)?),
            };
            Ok(other.map_or(LockTaker::NotSeen, |(device, inode)| taker_in(table, device, inode)))
        },
    )
}

/// Looks for a taker in as many readings of the kernel's table as it takes to believe that there is none.
///
/// The table stands still only while one piece of it is handed out, at most a page of 4 KiB (`fs/seq_file.c`). If locks
/// come and go between two pieces, an entry that was there all the time can slip through. So one sight is proof, and a
/// miss is one in a table of one piece or in one that did not change between two readings.
fn taker_in_readings(
    mut read: impl FnMut() -> io::Result<String>,
    mut find: impl FnMut(&str) -> io::Result<LockTaker>,
) -> io::Result<LockTaker> {
    /// Well below a page: the next line would have found room in the piece.
    const ONE_PIECE: usize = 3 * 1024;
    /// A table that changes all the time is not read for ever.
    const READINGS: usize = 8;
    let mut before = None;
    for _ in 0..READINGS {
        let table = read()?;
        let taker = find(&table)?;
        if taker != LockTaker::NotSeen || table.len() < ONE_PIECE || before.as_ref() == Some(&table) {
            return Ok(taker);
        }
        before = Some(table);
    }
    Ok(LockTaker::NotSeen)
}

fn taker_in(table: &str, (major, minor): (u32, u32), inode: u64) -> LockTaker {
    let wanted = format!("{major:02x}:{minor:02x}:{inode}");
    let taker = table.lines().find_map(|line| {
        // `1: FLOCK  ADVISORY  WRITE 2075 fe:00:10010639 0 EOF`; one who waits has `->` as second word.
        let mut words = line.split_ascii_whitespace().skip(1);
        let (kind, _, access) = (words.next()?, words.next()?, words.next()?);
        let (pid, place) = (words.next()?, words.next()?);
        (kind == "FLOCK" && access == "WRITE" && place == wanted).then(|| pid.parse().ok())?
    });
    taker.map_or(LockTaker::NotSeen, LockTaker::Taken)
}

/// The device and inode under which the kernel's own tables know an open file.
fn device_in_tables(node: &File) -> io::Result<Option<((u32, u32), u64)>> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", node.as_raw_fd()))?;
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    let (Some(mount), Some(inode)) = (field("mnt_id:"), field("ino:")) else { return Ok(None) };
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let device = mounts.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next()?.parse() == Ok(mount)).then_some(())?;
        let (major, minor) = words.nth(1)?.split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    Ok(device.map(|device| (device, inode)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taker_that_slipped_through_a_table_in_pieces_is_found() {
        let line = |inode: usize| format!("1: FLOCK  ADVISORY  WRITE {inode} fe:00:{inode} 0 EOF\n");
        let table = |inodes: std::ops::Range<usize>| inodes.map(line).collect::<String>();
        let looked = |tables: &[String]| {
            let mut readings = tables.iter().cloned();
            let read = || readings.next().ok_or_else(|| io::Error::other("one reading too many"));
            let taker = taker_in_readings(read, |table| Ok(taker_in(table, (0xfe, 0), 7))).unwrap();
            (taker, readings.count())
        };
        let (seen, missed) = (table(1..200), table(8..200));
        assert!(missed.len() > 4096);
        assert_eq!(looked(std::slice::from_ref(&seen)), (LockTaker::Taken(7), 0));
        assert_eq!(looked(&[missed.clone(), seen]), (LockTaker::Taken(7), 0));
        assert_eq!(looked(&[missed.clone(), missed.clone()]), (LockTaker::NotSeen, 0), "nothing changed meanwhile");
        assert_eq!(looked(&[table(8..20)]), (LockTaker::NotSeen, 0), "it came in one piece");
        let changing: Vec<String> = (0..20).map(|number| table(8..200 + number)).collect();
        assert_eq!(looked(&changing).0, LockTaker::NotSeen, "it is not read for ever");
    }

    #[test]
    fn the_start_time_is_counted_from_the_last_parenthesis() {
        let stat = b"42 (a) b) c) S 1 42 42 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 1";
        assert_eq!(start_ticks_in(stat), Some(987_654));
        assert_eq!(start_ticks_in(b"42 (half"), None);
        assert_eq!(start_ticks_in(b""), None);
    }

    #[test]
    fn an_entry_of_the_process_table_is_read() {
        let entry = |stat: &str| table_entry_in(stat.as_bytes());
        let seen = |activity| Some(TableEntry { activity, parent: 7, session: 9 });
        assert_eq!(entry("42 (a) T b) S 7 8 9 0 -1"), seen(Activity::Alive));
        assert_eq!(entry("42 (a) T 7 8 9 0 -1"), seen(Activity::Stopped));
        assert_eq!(entry("42 (a) Z 7 8 9 0 -1"), seen(Activity::Ended));
        assert_eq!(entry("42 (a) S 7 8"), None);
        assert_eq!(table_entry(std::process::id()).map(|entry| entry.activity), Some(Activity::Alive));
    }

    #[test]
    fn the_table_of_locks_is_read_by_device_and_inode() {
        let table = "1: POSIX  ADVISORY  WRITE 7 fe:00:5 0 EOF\n2: FLOCK  ADVISORY  WRITE 8 fe:00:5 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 9 fe:00:5 0 EOF\n3: FLOCK  ADVISORY  READ 9 fe:00:6 0 EOF\n";
        assert_eq!(taker_in(table, (0xfe, 0), 5), LockTaker::Taken(8));
        assert_eq!(taker_in(table, (0xfe, 0), 6), LockTaker::NotSeen);
        assert_eq!(taker_in(table, (0xfe, 1), 5), LockTaker::NotSeen);
    }
}
