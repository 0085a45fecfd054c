//! The real world: system calls, and nothing decided.

use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, Stat};

use super::identity::{Observation, Pid, Standpoint};
use super::platform;
use super::{Claim, Exchange, Facts, Kind, Listing, LockTaker, Now, Open, Signal, TableEntry, World};
use crate::base::wait_until;
use crate::system::FileSystem;

/// The operating system itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Real;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl World for Real {
    type Node = File;
    type Process = platform::Pinned;

    fn open_directory(&self, path: &Path) -> io::Result<File> {
        Ok(rustix::fs::open(path, DIRECTORY, Mode::empty())?.into())
    }

    fn open_directory_at(&self, directory: &File, name: &OsStr) -> io::Result<File> {
        Ok(rustix::fs::openat(directory, name, DIRECTORY, Mode::empty())?.into())
    }

    fn make_directory(&self, directory: &File, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(directory, name, Mode::RWXU)?)
    }

    fn open(&self, directory: &File, name: &OsStr, how: Open) -> io::Result<File> {
        let flags = match how {
            Open::Read => OFlags::RDONLY,
            Open::Lock => OFlags::RDWR | OFlags::CREATE,
            Open::Append => OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE,
            Open::CreateNew => OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL,
            Open::Pin => OFlags::PATH,
        };
        // A FIFO at the path must not hang us, and a terminal must not become ours.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    fn facts(&self, node: &File) -> io::Result<Facts> {
        Ok(facts_from(&rustix::fs::fstat(node)?))
    }

    fn facts_at(&self, directory: &File, name: &OsStr) -> io::Result<Facts> {
        Ok(facts_from(&rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?))
    }

    fn facts_of_path(&self, path: &Path) -> io::Result<Facts> {
        Ok(facts_from(&rustix::fs::lstat(path)?))
    }

    fn names(&self, directory: &File) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(directory)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        Ok(names)
    }

    fn read_at(&self, node: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        retry_interrupted(|| node.read_at(buffer, offset))
    }

    fn append(&self, node: &File, bytes: &[u8]) -> io::Result<usize> {
        retry_interrupted(|| Ok(rustix::io::write(node, bytes)?))
    }

    fn sync_data(&self, node: &File) -> io::Result<()> {
        node.sync_data()
    }

    fn sync_all(&self, node: &File) -> io::Result<()> {
        node.sync_all()
    }

    fn rename(&self, directory: &File, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::renameat(directory, from, directory, to)?)
    }

    fn link(&self, directory: &File, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::linkat(directory, from, directory, to, AtFlags::empty())?)
    }

    fn exchange(&self, directory: &File, one: &OsStr, other: &OsStr) -> io::Result<Exchange> {
        use rustix::io::Errno;
        match rustix::fs::renameat_with(directory, one, directory, other, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(Exchange::Done),
            // XDEV: overlayfs and some FUSE file systems refuse an exchange between layers.
            Err(Errno::INVAL | Errno::NOSYS | Errno::XDEV | Errno::OPNOTSUPP) => Ok(Exchange::Unsupported),
            Err(error) => Err(error.into()),
        }
    }

    fn symlink(&self, directory: &File, target: &OsStr, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target, directory, name)?)
    }

    fn read_link(&self, directory: &File, name: &OsStr) -> io::Result<OsString> {
        Ok(OsString::from_vec(rustix::fs::readlinkat(directory, name, Vec::new())?.into_bytes()))
    }

    fn overwrite(&self, node: &File, bytes: &[u8]) -> io::Result<()> {
        node.write_all_at(bytes, 0)?;
        node.set_len(bytes.len() as u64)
    }

    fn cut(&self, node: &File, length: u64) -> io::Result<()> {
        node.set_len(length)
    }

    fn touch(&self, directory: &File, name: &OsStr) -> io::Result<()> {
        use rustix::fs::{Timespec, Timestamps, UTIME_NOW};
        let file = World::open(self, directory, name, Open::Append)?;
        // Whoever may write to a file may set its times to now, and to no other time.
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        Ok(rustix::fs::futimens(file, &Timestamps { last_access: now, last_modification: now })?)
    }

    fn may_write(&self, directory: &File, name: &OsStr) -> io::Result<bool> {
        use rustix::fs::{Access, accessat};
        match accessat(directory, name, Access::WRITE_OK, AtFlags::EACCESS | AtFlags::SYMLINK_NOFOLLOW) {
            Ok(()) => Ok(true),
            Err(error) => match io::Error::from(error) {
                error
                    if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) =>
                {
                    Ok(false)
                }
                error => Err(error),
            },
        }
    }

    fn set_mode(&self, node: &File, mode: u32) -> io::Result<()> {
        Ok(rustix::fs::fchmod(node, Mode::from_raw_mode(mode))?)
    }

    fn take_group(&self, directory: &File, name: &OsStr, node: &File) -> io::Result<()> {
        let wanted = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?.st_gid;
        if rustix::fs::fstat(node)?.st_gid != wanted {
            rustix::fs::fchown(node, None, Some(rustix::fs::Gid::from_raw(wanted)))?;
        }
        Ok(())
    }

    fn remove_directory(&self, directory: &File, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)?)
    }

    fn unlink(&self, directory: &File, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(directory, name, AtFlags::empty())?)
    }

    fn file_system(&self, node: &File) -> io::Result<FileSystem> {
        platform::file_system(node)
    }

    fn try_lock(&self, node: &File) -> io::Result<Claim> {
        loop {
            return match node.try_lock() {
                Ok(()) => Ok(Claim::Taken),
                Err(TryLockError::WouldBlock) => Ok(Claim::Busy),
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(TryLockError::Error(error)) => Err(error),
            };
        }
    }

    fn raise_mark(&self, node: &File, kind: Kind) -> io::Result<()> {
        platform::raise_mark(node, kind)
    }

    fn is_marked(&self, node: &File) -> io::Result<bool> {
        platform::is_marked(node)
    }

    fn publish_beat(&self, node: &File, at: Duration) -> io::Result<()> {
        platform::publish_beat(node, at)
    }

    fn published_beat(&self, node: &File) -> io::Result<Option<Duration>> {
        platform::published_beat(node)
    }

    fn lock_taker(&self, node: &File) -> io::Result<LockTaker> {
        platform::lock_taker(node)
    }

    fn now(&self) -> Now {
        Now { wall_ms: jiff::Timestamp::now().as_millisecond(), monotonic: platform::monotonic() }
    }

    fn boot_id(&self) -> Option<String> {
        platform::boot_id()
    }

    fn nonce(&self) -> io::Result<[u8; 16]> {
        platform::nonce()
    }

    fn own_pid(&self) -> u32 {
        std::process::id()
    }

    fn exists(&self, pid: u32) -> io::Result<bool> {
        platform::exists(pid)
    }

    fn start_ticks(&self, pid: u32) -> Option<u64> {
        platform::start_ticks(pid)
    }

    fn processes(&self) -> io::Result<Vec<u32>> {
        platform::processes()
    }

    fn listing(&self, pid: u32) -> Option<Listing> {
        platform::listing(pid)
    }

    fn arguments(&self, pid: u32) -> Option<Vec<u8>> {
        platform::arguments(pid)
    }

    fn table_entry(&self, pid: u32) -> Option<TableEntry> {
        platform::table_entry(pid)
    }

    fn innermost_pid(&self, pid: u32) -> Option<u32> {
        platform::innermost_pid(pid)
    }

    fn has_one_number(&self, pid: u32) -> bool {
        platform::is_in_own_pid_namespace(pid)
    }

    fn standpoint(&self) -> Standpoint {
        platform::own_standpoint()
    }

    fn host_name(&self) -> Vec<u8> {
        platform::host_name_bytes()
    }

    fn has_common_start_times(&self) -> bool {
        platform::has_common_start_times()
    }

    fn pause(&self, at_most: Duration) {
        wait_until::pause(at_most);
    }

    fn pin(&self, pid: Pid) -> io::Result<Option<platform::Pinned>> {
        platform::pin(pid)
    }

    fn observe(&self, process: &platform::Pinned) -> Observation {
        platform::observe(process)
    }

    fn signal(&self, process: &platform::Pinned, signal: Signal) -> io::Result<bool> {
        platform::signal(process, signal)
    }

    fn wait_for_exit(&self, process: &platform::Pinned, at_most: Duration) -> io::Result<bool> {
        platform::wait_for_exit(process, at_most)
    }
}

impl Facts {
    /// What a path leads to now, through all links.
    ///
    /// # Errors
    /// Those of the system.
    pub fn through_links(path: &Path) -> io::Result<Self> {
        Ok(facts_from(&rustix::fs::stat(path)?))
    }
}

fn retry_interrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

#[expect(
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::unnecessary_cast,
    clippy::useless_conversion,
    reason = "the widths and signs of these fields differ between systems; the values fit ours on all of them"
)]
fn facts_from(stat: &Stat) -> Facts {
    let kind = match FileType::from_raw_mode(stat.st_mode as rustix::fs::RawMode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Link,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        _ => Kind::Other,
    };
    Facts {
        kind,
        device: stat.st_dev as u64,
        inode: stat.st_ino as u64,
        size: stat.st_size as u64,
        mtime_ns: nanoseconds(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
        ctime_ns: nanoseconds(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        links: stat.st_nlink as u64,
        uid: stat.st_uid,
        mode: u32::from(stat.st_mode) & 0o7777,
    }
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}
