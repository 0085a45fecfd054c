//! The real file system, seen by a process that a test makes up: it has the pid that the test says, does at a named step
//! what the test says, lacks the protections that the test takes away, and dies at the call that the test chooses.
//!
//! A process that is dead does nothing any more, so neither an error path nor a drop can tidy up behind it. That is what
//! `kill -9` leaves, without the time that a process takes to start.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fm_watch::base::failpoint::Failpoint;
use fm_watch::system::altered::{Altered, Call, Nature};
use fm_watch::system::{Exchange, Now, Open, Real, World};

type Step = Box<dyn FnOnce() + Send>;

/// A made-up process in the real file system.
pub struct Scripted {
    pid: u32,
    without: Vec<&'static str>,
    steps: Mutex<BTreeMap<&'static str, Step>>,
    /// How many calls it has made that change something.
    effects: AtomicUsize,
    /// Before which of them it dies.
    dies_before: usize,
    is_dead: AtomicBool,
    exchanges: AtomicUsize,
    /// How many names its file system exchanges before it refuses to.
    exchanges_at_most: usize,
    reads_nothing: bool,
    writes_nothing: bool,
    clock_ahead_ms: AtomicU64,
}

impl fmt::Debug for Scripted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Scripted(pid {})", self.pid)
    }
}

impl Scripted {
    /// A process with this pid, and nothing else that is special.
    pub fn with_pid(pid: u32) -> Self {
        Self {
            pid,
            without: Vec::new(),
            steps: Mutex::default(),
            effects: AtomicUsize::new(0),
            dies_before: usize::MAX,
            is_dead: AtomicBool::new(false),
            exchanges: AtomicUsize::new(0),
            exchanges_at_most: usize::MAX,
            reads_nothing: false,
            writes_nothing: false,
            clock_ahead_ms: AtomicU64::new(0),
        }
    }

    /// This process.
    pub fn new() -> Self {
        Self::with_pid(std::process::id())
    }

    /// It lacks a protection.
    pub fn without(mut self, protection: &'static str) -> Self {
        self.without.push(protection);
        self
    }

    /// At this step, the first time, this happens.
    pub fn at(self, step: &'static str, happens: impl FnOnce() + Send + 'static) -> Self {
        self.steps.lock().unwrap().insert(step, Box::new(happens));
        self
    }

    /// It dies before the call of this number that changes something, counted from 0.
    pub fn dying_before(mut self, effect: usize) -> Self {
        self.dies_before = effect;
        self
    }

    /// Its file system cannot exchange names.
    pub fn without_exchange(self) -> Self {
        self.exchanging_at_most(0)
    }

    /// Its file system exchanges names so often, and then cannot any more.
    pub fn exchanging_at_most(mut self, times: usize) -> Self {
        self.exchanges_at_most = times;
        self
    }

    /// It may read no file.
    pub fn that_cannot_read(mut self) -> Self {
        self.reads_nothing = true;
        self
    }

    /// It may write to no file that is there.
    pub fn that_may_not_write(mut self) -> Self {
        self.writes_nothing = true;
        self
    }

    /// To be shared.
    pub fn shared(self) -> Arc<Self> {
        Arc::new(self)
    }

    /// Whether it has died.
    pub fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::SeqCst)
    }

    /// How often it has exchanged two names.
    pub fn exchanges(&self) -> usize {
        self.exchanges.load(Ordering::SeqCst)
    }

    /// Its monotonic clock goes on by so much.
    pub fn pass(&self, time: Duration) {
        self.clock_ahead_ms.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }

    fn alive(&self) -> io::Result<()> {
        if self.is_dead() { Err(io::Error::other("a dead process does nothing")) } else { Ok(()) }
    }

    fn effect(&self) -> io::Result<()> {
        if self.effects.fetch_add(1, Ordering::SeqCst) >= self.dies_before {
            self.is_dead.store(true, Ordering::SeqCst);
        }
        self.alive()
    }
}

impl Altered for Scripted {
    fn before(&self, call: Call) -> io::Result<()> {
        match call.nature {
            Nature::Look => self.alive(),
            Nature::Change | Nature::Act => self.effect(),
        }
    }

    fn open(&self, directory: &File, name: &OsStr, how: Open) -> io::Result<File> {
        if how == Open::Read && self.reads_nothing {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.before(Call { name: "open", nature: how.nature() })?;
        Real.open(directory, name, how)
    }

    fn exchange(&self, directory: &File, one: &OsStr, other: &OsStr) -> io::Result<Exchange> {
        self.effect()?;
        let is_refused = self.exchanges.fetch_add(1, Ordering::SeqCst) >= self.exchanges_at_most;
        if is_refused { Ok(Exchange::Unsupported) } else { Real.exchange(directory, one, other) }
    }

    fn may_write(&self, directory: &File, name: &OsStr) -> io::Result<bool> {
        self.alive()?;
        Ok(!self.writes_nothing && Real.may_write(directory, name)?)
    }

    fn now(&self) -> Now {
        let now = Real.now();
        let ahead = Duration::from_millis(self.clock_ahead_ms.load(Ordering::SeqCst));
        Now { monotonic: now.monotonic + ahead, ..now }
    }

    fn own_pid(&self) -> u32 {
        self.pid
    }

    fn reach(&self, step: Failpoint) -> io::Result<()> {
        self.alive()?;
        let happens = self.steps.lock().unwrap().remove(step.name());
        if let Some(happens) = happens {
            happens();
        }
        Ok(())
    }

    fn is_protected(&self, protection: Failpoint) -> bool {
        !self.without.contains(&protection.name())
    }
}
