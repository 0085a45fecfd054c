//! The real world with a stage manager: at a chosen step somebody else plays, or this contender dies.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fm_watch::base::failpoint::Failpoint;
use fm_watch::system::altered::{Altered, Call, Nature};
use fm_watch::system::{Exchange, Now, Real, World};

type Scene = Box<dyn FnOnce() + Send>;

/// What a test has arranged.
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

impl Altered for Staged {
    fn before(&self, call: Call) -> io::Result<()> {
        match call.nature {
            Nature::Change => self.change(),
            Nature::Look | Nature::Act => self.alive(),
        }
    }

    fn reach(&self, step: Failpoint) -> io::Result<()> {
        self.alive()?;
        let scene = {
            let mut scenes = self.scenes.lock().unwrap();
            let next = scenes.iter().position(|(name, _)| *name == step.name());
            next.map(|next| scenes.remove(next).1)
        };
        if let Some(scene) = scene {
            scene();
        }
        Real.reach(step)
    }

    fn is_protected(&self, protection: Failpoint) -> bool {
        !self.without.contains(&protection.name()) && Real.is_protected(protection)
    }

    fn now(&self) -> Now {
        let now = Real.now();
        Now { wall_ms: now.wall_ms + self.wall_offset_ms.load(Ordering::SeqCst), ..now }
    }

    fn exchange(&self, directory: &File, one: &OsStr, other: &OsStr) -> io::Result<Exchange> {
        if self.cannot_exchange.load(Ordering::SeqCst) {
            return Ok(Exchange::Unsupported);
        }
        self.change()?;
        Real.exchange(directory, one, other)
    }

    fn own_pid(&self) -> u32 {
        match self.pid.load(Ordering::SeqCst) {
            0 => Real.own_pid(),
            played => played,
        }
    }
}
