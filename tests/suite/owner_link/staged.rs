//! The real world with a stage manager: at a chosen step somebody else plays, or this contender dies.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fm_watch::liveness::identity::{Observation, Pid, Standpoint};
use fm_watch::platform::Pinned;
use fm_watch::world::{Claim, Exchange, Facts, Listing, LockTaker, Now, Open, Real, Signal, World};

type Scene = Box<dyn FnOnce() + Send>;

/// Delegates to [`Real`], except for what a test has arranged.
pub struct Staged {
    without: Vec<&'static str>,
    scenes: Mutex<Vec<(&'static str, Scene)>>,
    /// How many more changes this contender lives to make.
    changes_left: AtomicUsize,
    changes: AtomicUsize,
    wall_offset_ms: AtomicI64,
    cannot_exchange: AtomicBool,
    /// Whose part this contender plays; 0 is the test's own.
    pid: AtomicU32,
}

impl fmt::Debug for Staged {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Staged").field("without", &self.without).finish_non_exhaustive()
    }
}

impl Staged {
    /// A world with all protections.
    pub fn new() -> Arc<Self> {
        Self::without(&[])
    }

    /// A world without some protections.
    pub fn without(protections: &[&'static str]) -> Arc<Self> {
        Arc::new(Self {
            without: protections.to_vec(),
            scenes: Mutex::default(),
            changes_left: AtomicUsize::new(usize::MAX),
            changes: AtomicUsize::new(0),
            wall_offset_ms: AtomicI64::new(0),
            cannot_exchange: AtomicBool::new(false),
            pid: AtomicU32::new(0),
        })
    }

    /// Lets somebody else play when the protocol reaches a step, once.
    pub fn at(self: &Arc<Self>, step: &'static str, scene: impl FnOnce() + Send + 'static) -> Arc<Self> {
        self.scenes.lock().unwrap().push((step, Box::new(scene)));
        Arc::clone(self)
    }

    /// Lets this contender die before the change with this number; from then on nothing works for it.
    pub fn dying_before_change(number: usize) -> Arc<Self> {
        let world = Self::new();
        world.changes_left.store(number, Ordering::SeqCst);
        world
    }

    /// Lets this contender play another process, which can end while the test goes on.
    pub fn playing(self: &Arc<Self>, pid: u32) -> Arc<Self> {
        self.pid.store(pid, Ordering::SeqCst);
        Arc::clone(self)
    }

    /// How many changes were made or attempted.
    pub fn changes(&self) -> usize {
        self.changes.load(Ordering::SeqCst)
    }

    /// Whether every arranged scene was played.
    pub fn is_over(&self) -> bool {
        self.scenes.lock().unwrap().is_empty()
    }

    /// Sets the wall clock of this contender back.
    pub fn shift_wall_clock_back(&self, by: Duration) {
        self.wall_offset_ms.store(-i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// Sets the wall clock of this contender forward.
    pub fn shift_wall_clock_forward(&self, by: Duration) {
        self.wall_offset_ms.store(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// Makes this a file system that cannot exchange names.
    pub fn forget_how_to_exchange(&self) {
        self.cannot_exchange.store(true, Ordering::SeqCst);
    }

    fn alive(&self) -> io::Result<()> {
        if self.changes_left.load(Ordering::SeqCst) == 0 { Err(io::Error::other("dead")) } else { Ok(()) }
    }

    fn change(&self) -> io::Result<()> {
        self.alive()?;
        self.changes.fetch_add(1, Ordering::SeqCst);
        if self.changes_left.fetch_sub(1, Ordering::SeqCst) == 1 { Err(io::Error::other("dies now")) } else { Ok(()) }
    }
}

impl World for Staged {
    type Node = File;
    type Process = Pinned;

    fn reach(&self, step: &str) -> io::Result<()> {
        self.alive()?;
        let scene = {
            let mut scenes = self.scenes.lock().unwrap();
            let next = scenes.iter().position(|(name, _)| *name == step);
            next.map(|next| scenes.remove(next).1)
        };
        if let Some(scene) = scene {
            scene();
        }
        Real.reach(step)
    }
    fn is_protected(&self, protection: &str) -> bool {
        !self.without.contains(&protection) && Real.is_protected(protection)
    }
    fn now(&self) -> Now {
        let now = Real.now();
        Now { wall_ms: now.wall_ms + self.wall_offset_ms.load(Ordering::SeqCst), ..now }
    }

    fn make_directory(&self, directory: &File, name: &OsStr) -> io::Result<()> {
        self.change()?;
        Real.make_directory(directory, name)
    }
    fn open(&self, directory: &File, name: &OsStr, how: Open) -> io::Result<File> {
        if how == Open::CreateNew { self.change()? } else { self.alive()? }
        Real.open(directory, name, how)
    }
    fn append(&self, node: &File, bytes: &[u8]) -> io::Result<usize> {
        self.change()?;
        Real.append(node, bytes)
    }
    fn rename(&self, directory: &File, from: &OsStr, to: &OsStr) -> io::Result<()> {
        self.change()?;
        Real.rename(directory, from, to)
    }
    fn link(&self, directory: &File, from: &OsStr, to: &OsStr) -> io::Result<()> {
        self.change()?;
        Real.link(directory, from, to)
    }
    fn exchange(&self, directory: &File, one: &OsStr, other: &OsStr) -> io::Result<Exchange> {
        if self.cannot_exchange.load(Ordering::SeqCst) {
            return Ok(Exchange::Unsupported);
        }
        self.change()?;
        Real.exchange(directory, one, other)
    }
    fn symlink(&self, directory: &File, target: &OsStr, name: &OsStr) -> io::Result<()> {
        self.change()?;
        Real.symlink(directory, target, name)
    }
    fn overwrite(&self, node: &File, bytes: &[u8]) -> io::Result<()> {
        self.change()?;
        Real.overwrite(node, bytes)
    }
    fn set_mode(&self, node: &File, mode: u32) -> io::Result<()> {
        self.change()?;
        Real.set_mode(node, mode)
    }
    fn remove_directory(&self, directory: &File, name: &OsStr) -> io::Result<()> {
        self.change()?;
        Real.remove_directory(directory, name)
    }
    fn unlink(&self, directory: &File, name: &OsStr) -> io::Result<()> {
        self.change()?;
        Real.unlink(directory, name)
    }

    fn open_directory(&self, path: &Path) -> io::Result<File> {
        self.alive()?;
        Real.open_directory(path)
    }
    fn open_directory_at(&self, directory: &File, name: &OsStr) -> io::Result<File> {
        self.alive()?;
        Real.open_directory_at(directory, name)
    }
    fn facts(&self, node: &File) -> io::Result<Facts> {
        self.alive()?;
        Real.facts(node)
    }
    fn facts_at(&self, directory: &File, name: &OsStr) -> io::Result<Facts> {
        self.alive()?;
        Real.facts_at(directory, name)
    }
    fn facts_of_path(&self, path: &Path) -> io::Result<Facts> {
        self.alive()?;
        Real.facts_of_path(path)
    }
    fn names(&self, directory: &File) -> io::Result<Vec<OsString>> {
        self.alive()?;
        Real.names(directory)
    }
    fn read_at(&self, node: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.alive()?;
        Real.read_at(node, offset, buffer)
    }
    fn read_link(&self, directory: &File, name: &OsStr) -> io::Result<OsString> {
        self.alive()?;
        Real.read_link(directory, name)
    }
    fn sync_data(&self, node: &File) -> io::Result<()> {
        Real.sync_data(node)
    }
    fn sync_all(&self, node: &File) -> io::Result<()> {
        Real.sync_all(node)
    }
    fn trusted_file_system(&self, node: &File) -> io::Result<Result<&'static str, String>> {
        Real.trusted_file_system(node)
    }
    fn try_lock(&self, node: &File) -> io::Result<Claim> {
        self.alive()?;
        Real.try_lock(node)
    }
    fn raise_mark(&self, node: &File) -> io::Result<()> {
        Real.raise_mark(node)
    }
    fn is_marked(&self, node: &File) -> io::Result<bool> {
        Real.is_marked(node)
    }
    fn publish_beat(&self, node: &File, at: Duration) -> io::Result<()> {
        Real.publish_beat(node, at)
    }
    fn published_beat(&self, node: &File) -> io::Result<Option<Duration>> {
        Real.published_beat(node)
    }
    fn lock_taker(&self, node: &File) -> io::Result<LockTaker> {
        Real.lock_taker(node)
    }
    fn boot_id(&self) -> Option<String> {
        Real.boot_id()
    }
    fn nonce(&self) -> io::Result<[u8; 16]> {
        Real.nonce()
    }
    fn own_pid(&self) -> u32 {
        match self.pid.load(Ordering::SeqCst) {
            0 => Real.own_pid(),
            played => played,
        }
    }
    fn exists(&self, pid: u32) -> io::Result<bool> {
        Real.exists(pid)
    }
    fn start_ticks(&self, pid: u32) -> Option<u64> {
        Real.start_ticks(pid)
    }
    fn processes(&self) -> io::Result<Vec<u32>> {
        Real.processes()
    }
    fn listing(&self, pid: u32) -> Option<Listing> {
        Real.listing(pid)
    }
    fn innermost_pid(&self, pid: u32) -> Option<u32> {
        Real.innermost_pid(pid)
    }
    fn standpoint(&self) -> Standpoint {
        Real.standpoint()
    }
    fn host_name(&self) -> Vec<u8> {
        Real.host_name()
    }
    fn has_common_start_times(&self) -> bool {
        Real.has_common_start_times()
    }
    fn pause(&self, at_most: Duration) {
        Real.pause(at_most);
    }
    fn pin(&self, pid: Pid) -> io::Result<Option<Pinned>> {
        Real.pin(pid)
    }
    fn observe(&self, process: &Pinned) -> Observation {
        Real.observe(process)
    }
    fn signal(&self, process: &Pinned, signal: Signal) -> io::Result<bool> {
        Real.signal(process, signal)
    }
    fn wait_for_exit(&self, process: &Pinned, at_most: Duration) -> io::Result<bool> {
        Real.wait_for_exit(process, at_most)
    }
}
