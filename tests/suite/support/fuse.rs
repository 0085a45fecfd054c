//! A small file system in memory, mounted through FUSE, whose locks and renames misbehave as a test wants it.
//!
//! Nothing of it outlives its value: calls that hang are answered first, then it is unmounted, at once or, if somebody
//! still uses it, when they have ended.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyLock, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::home::{TestHome, finish};
use super::skip::{Skip, requires, requires_root};

/// What it does with a request to lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locks {
    /// It leaves them to the kernel, where they hold.
    Kernel,
    /// It says "taken" to everybody.
    NoOp,
    /// It never answers.
    Hang,
    /// It refuses with this error number.
    Refuse(i32),
    /// It never takes back what it gave once.
    Forever,
    /// It leaves locks to the kernel and does nothing about record locks, which it takes upon itself.
    NoRecords,
}

/// What it does with a request to swap two names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exchanges {
    /// It swaps them.
    Done,
    /// It refuses with this error number.
    Refuse(i32),
}

/// How it misbehaves.
#[derive(Debug, Clone, Copy)]
pub struct Manners {
    /// With locks.
    pub locks: Locks,
    /// With swaps of names.
    pub exchanges: Exchanges,
}

impl Manners {
    /// Only the locks misbehave.
    pub fn of_locks(locks: Locks) -> Self {
        Self { locks, exchanges: Exchanges::Done }
    }
}

/// A mounted file system.
#[derive(Debug)]
pub struct Mounted {
    session: Option<BackgroundSession>,
    hung: Arc<Mutex<Vec<ReplyEmpty>>>,
    at: PathBuf,
}

impl Mounted {
    /// Mounts one in a directory of the test's own.
    ///
    /// # Errors
    /// It cannot be done here.
    pub fn in_home(home: &TestHome, manners: Manners) -> Result<Self, Skip> {
        requires_root()?;
        requires("umount")?;
        let at = home.scratch().join("mounted");
        std::fs::create_dir(&at).unwrap();
        let hung = Arc::default();
        let memory = Memory {
            manners,
            nodes: Mutex::new(Nodes::new()),
            hung: Arc::clone(&hung),
            is_given: AtomicBool::new(false),
        };
        let mut options = fuser::Config::default();
        options.mount_options = vec![MountOption::FSName("fm-watch-test".to_owned()), MountOption::DefaultPermissions];
        match fuser::spawn_mount(memory, &at, &options) {
            Ok(session) => Ok(Self { session: Some(session), hung, at }),
            Err(error) => Err(Skip(format!("needs FUSE: {error}"))),
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// How many calls hang in it now.
    pub fn hanging(&self) -> usize {
        self.hung.lock().unwrap().len()
    }

    /// Answers what hangs, with an error.
    pub fn let_go(&self) {
        self.hung.lock().unwrap().clear();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.let_go();
        let mut command = std::process::Command::new("umount");
        command.arg("--lazy").arg(&self.at).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let answer = finish(command);
        drop(self.session.take());
        if !std::thread::panicking() {
            assert_eq!(answer.code, Some(0), "{answer:?}");
        }
    }
}

/// One inode.
#[derive(Debug)]
struct Node {
    kind: FileType,
    mode: u16,
    links: u32,
    content: Vec<u8>,
    names: BTreeMap<OsString, u64>,
    modified: SystemTime,
    changed: SystemTime,
}

impl Node {
    fn new(kind: FileType, mode: u32) -> Self {
        let now = SystemTime::now();
        let mode = u16::try_from(mode & 0o7777).unwrap();
        Self { kind, mode, links: 1, content: Vec::new(), names: BTreeMap::new(), modified: now, changed: now }
    }

    fn attributes(&self, number: u64) -> FileAttr {
        FileAttr {
            ino: INodeNo(number),
            size: self.content.len() as u64,
            blocks: 0,
            atime: self.modified,
            mtime: self.modified,
            ctime: self.changed,
            crtime: self.changed,
            kind: self.kind,
            perm: self.mode,
            nlink: self.links,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

/// All inodes. Those without a name stay, because somebody may have them open.
#[derive(Debug)]
struct Nodes(BTreeMap<u64, Node>);

impl Nodes {
    fn new() -> Self {
        Self(BTreeMap::from([(INodeNo::ROOT.0, Node::new(FileType::Directory, 0o700))]))
    }

    fn node(&mut self, number: INodeNo) -> Result<&mut Node, Errno> {
        self.0.get_mut(&number.0).ok_or(Errno::ENOENT)
    }

    fn find(&mut self, parent: INodeNo, name: &OsStr) -> Result<u64, Errno> {
        self.node(parent)?.names.get(name).copied().ok_or(Errno::ENOENT)
    }

    fn add(&mut self, parent: INodeNo, name: &OsStr, node: Node) -> Result<FileAttr, Errno> {
        let number = self.0.len() as u64 + INodeNo::ROOT.0;
        if self.node(parent)?.names.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        self.node(parent)?.names.insert(name.to_owned(), number);
        let attributes = node.attributes(number);
        self.0.insert(number, node);
        Ok(attributes)
    }

    fn remove(&mut self, parent: INodeNo, name: &OsStr) -> Result<(), Errno> {
        let number = self.find(parent, name)?;
        if !self.node(INodeNo(number))?.names.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.node(parent)?.names.remove(name);
        let node = self.node(INodeNo(number))?;
        (node.links, node.changed) = (node.links.saturating_sub(1), SystemTime::now());
        Ok(())
    }

    fn rename(
        &mut self,
        (parent, name): (INodeNo, &OsStr),
        (new_parent, new_name): (INodeNo, &OsStr),
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        let number = self.find(parent, name)?;
        let in_the_way = self.find(new_parent, new_name).ok();
        if flags.contains(RenameFlags::RENAME_EXCHANGE) {
            let other = in_the_way.ok_or(Errno::ENOENT)?;
            self.node(parent)?.names.insert(name.to_owned(), other);
        } else if in_the_way == Some(number) {
            return Ok(());
        } else {
            if in_the_way.is_some() {
                if flags.contains(RenameFlags::RENAME_NOREPLACE) {
                    return Err(Errno::EEXIST);
                }
                self.remove(new_parent, new_name)?;
            }
            self.node(parent)?.names.remove(name);
        }
        self.node(new_parent)?.names.insert(new_name.to_owned(), number);
        for moved in [Some(number), in_the_way].into_iter().flatten() {
            self.node(INodeNo(moved))?.changed = SystemTime::now();
        }
        Ok(())
    }
}

/// The file system.
#[derive(Debug)]
struct Memory {
    manners: Manners,
    nodes: Mutex<Nodes>,
    hung: Arc<Mutex<Vec<ReplyEmpty>>>,
    is_given: AtomicBool,
}

/// Nothing is remembered by the kernel, so everybody sees what is.
const FOR_NOW: Duration = Duration::ZERO;
const ONLY: Generation = Generation(0);
const HANDLE: FileHandle = FileHandle(0);

impl Memory {
    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap()
    }
}

fn entry(reply: ReplyEntry, made: Result<FileAttr, Errno>) {
    match made {
        Ok(attributes) => reply.entry(&FOR_NOW, &attributes, ONLY),
        Err(error) => reply.error(error),
    }
}

fn empty(reply: ReplyEmpty, done: Result<(), Errno>) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Memory {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        match self.manners.locks {
            Locks::Kernel => {}
            Locks::NoRecords => config.add_capabilities(InitFlags::FUSE_POSIX_LOCKS).unwrap(),
            _ => config.add_capabilities(InitFlags::FUSE_FLOCK_LOCKS).unwrap(),
        }
        Ok(())
    }

    fn setlk(
        &self,
        _request: &Request,
        _number: INodeNo,
        _handle: FileHandle,
        _owner: LockOwner,
        _start: u64,
        _end: u64,
        kind: i32,
        _pid: u32,
        _sleep: bool,
        reply: ReplyEmpty,
    ) {
        match self.manners.locks {
            // What is let go is let go: who closes must not hang.
            _ if kind == libc::F_UNLCK => reply.ok(),
            Locks::Forever if self.is_given.swap(true, Ordering::SeqCst) => reply.error(Errno::EAGAIN),
            Locks::Kernel | Locks::NoOp | Locks::NoRecords | Locks::Forever => reply.ok(),
            Locks::Hang => self.hung.lock().unwrap().push(reply),
            Locks::Refuse(number) => reply.error(Errno::from_i32(number)),
        }
    }

    fn getlk(
        &self,
        _request: &Request,
        _number: INodeNo,
        _handle: FileHandle,
        _owner: LockOwner,
        start: u64,
        end: u64,
        _kind: i32,
        pid: u32,
        reply: ReplyLock,
    ) {
        reply.locked(start, end, libc::F_UNLCK, pid);
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut nodes = self.nodes();
        let found = nodes.find(parent, name).map(|number| nodes.0[&number].attributes(number));
        entry(reply, found);
    }

    fn getattr(&self, _request: &Request, number: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.nodes().node(number) {
            Ok(node) => reply.attr(&FOR_NOW, &node.attributes(number.0)),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _request: &Request,
        number: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut nodes = self.nodes();
        let node = match nodes.node(number) {
            Ok(node) => node,
            Err(error) => return reply.error(error),
        };
        node.changed = SystemTime::now();
        if let Some(mode) = mode {
            node.mode = u16::try_from(mode & 0o7777).unwrap();
        }
        if let Some(size) = size {
            node.content.resize(usize::try_from(size).unwrap(), 0);
            node.modified = node.changed;
        }
        match mtime {
            Some(TimeOrNow::SpecificTime(at)) => node.modified = at,
            Some(TimeOrNow::Now) => node.modified = node.changed,
            None => {}
        }
        reply.attr(&FOR_NOW, &node.attributes(number.0));
    }

    fn mkdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        entry(reply, self.nodes().add(parent, name, Node::new(FileType::Directory, mode)));
    }

    fn create(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        match self.nodes().add(parent, name, Node::new(FileType::RegularFile, mode)) {
            Ok(attributes) => reply.created(&FOR_NOW, &attributes, ONLY, HANDLE, FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn symlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let mut node = Node::new(FileType::Symlink, 0o777);
        node.content = target.as_os_str().as_bytes().to_vec();
        entry(reply, self.nodes().add(parent, name, node));
    }

    fn readlink(&self, _request: &Request, number: INodeNo, reply: ReplyData) {
        match self.nodes().node(number) {
            Ok(node) => reply.data(&node.content),
            Err(error) => reply.error(error),
        }
    }

    fn link(&self, _request: &Request, number: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut nodes = self.nodes();
        if nodes.find(parent, name).is_ok() {
            return reply.error(Errno::EEXIST);
        }
        let linked = nodes.node(parent).map(|directory| directory.names.insert(name.to_owned(), number.0));
        let linked = linked.and_then(|_| nodes.node(number)).map(|node| {
            (node.links, node.changed) = (node.links + 1, SystemTime::now());
            node.attributes(number.0)
        });
        entry(reply, linked);
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.nodes().remove(parent, name));
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.nodes().remove(parent, name));
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        match self.manners.exchanges {
            Exchanges::Refuse(number) if flags.contains(RenameFlags::RENAME_EXCHANGE) => {
                reply.error(Errno::from_i32(number));
            }
            _ => empty(reply, self.nodes().rename((parent, name), (new_parent, new_name), flags)),
        }
    }

    fn read(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.nodes().node(number) {
            Ok(node) => {
                let from = usize::try_from(offset).unwrap().min(node.content.len());
                let until = (from + size as usize).min(node.content.len());
                reply.data(&node.content[from..until]);
            }
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.nodes().node(number) {
            Ok(node) => {
                let from = usize::try_from(offset).unwrap();
                let until = from + data.len();
                node.content.resize(node.content.len().max(until), 0);
                node.content[from..until].copy_from_slice(data);
                node.modified = SystemTime::now();
                node.changed = node.modified;
                reply.written(u32::try_from(data.len()).unwrap());
            }
            Err(error) => reply.error(error),
        }
    }

    fn fsync(&self, _request: &Request, _number: INodeNo, _handle: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsyncdir(&self, _request: &Request, _number: INodeNo, _handle: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readdir(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let mut nodes = self.nodes();
        let names: Vec<_> = match nodes.node(number) {
            Ok(node) => node.names.iter().map(|(name, &number)| (name.clone(), number)).collect(),
            Err(error) => return reply.error(error),
        };
        let dots = [".", ".."].into_iter().map(|name| (OsString::from(name), number.0));
        let all = dots.chain(names).enumerate().skip(usize::try_from(offset).unwrap());
        for (index, (name, child)) in all {
            let kind = nodes.0[&child].kind;
            if reply.add(INodeNo(child), index as u64 + 1, kind, &name) {
                break;
            }
        }
        reply.ok();
    }
}
