//! The real world with a will of its own: it dies at a chosen call, lets something happen at a named step, lacks a
//! protection, or cannot do what others can. Each value is one process, as far as a protocol can tell.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fm_watch::base::failpoint::Failpoint;
use fm_watch::system::altered::{Altered, Call};
use fm_watch::system::{Exchange, Now, Real, World};

type Action = Box<dyn FnOnce() + Send>;

/// What a test wants otherwise.
#[derive(Default)]
pub struct Rigged {
    calls: AtomicU64,
    lives_for: Option<u64>,
    dies_at: Option<&'static str>,
    is_dead: AtomicBool,
    is_copy: AtomicBool,
    slept: AtomicU64,
    without: Vec<&'static str>,
    refused: Vec<(&'static str, i32)>,
    steps: Mutex<BTreeMap<&'static str, Action>>,
}

impl fmt::Debug for Rigged {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Rigged").field("without", &self.without).finish_non_exhaustive()
    }
}

impl Rigged {
    /// A world like the real one.
    pub fn new() -> Self {
        Self::default()
    }

    /// A world in which everything fails after so many calls: what is left on disk then is what a death leaves.
    pub fn living_for(calls: u64) -> Self {
        Self { lives_for: Some(calls), ..Self::default() }
    }

    /// The same world, in which everything fails from a step on, after what happens there.
    pub fn dying_at(mut self, step: &'static str) -> Self {
        self.dies_at = Some(step);
        self
    }

    /// The same world without these protections.
    pub fn without(mut self, protections: &[&'static str]) -> Self {
        self.without.extend(protections);
        self
    }

    /// The same world, in which one kind of call (`exchange`, `open`) is refused with this error number.
    pub fn refusing(mut self, call: &'static str, error: i32) -> Self {
        self.refused.push((call, error));
        self
    }

    /// The same world, in which something happens when a step is reached for the first time.
    pub fn at(self, step: &'static str, action: impl FnOnce() + Send + 'static) -> Self {
        self.steps.lock().unwrap().insert(step, Box::new(action));
        self
    }

    /// The same world, ready to be used.
    pub fn ready(self) -> Arc<Self> {
        Arc::new(self)
    }

    /// How many calls were made.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// Lets time pass, on the clock for ages and deadlines.
    pub fn let_pass(&self, time: Duration) {
        self.slept.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// From now on this is the process that `fork` made of the one that it was.
    pub fn become_a_forked_copy(&self) {
        self.is_copy.store(true, Ordering::SeqCst);
    }

    fn call(&self, name: &str) -> io::Result<()> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        if self.is_dead.load(Ordering::SeqCst) || self.lives_for.is_some_and(|calls| number >= calls) {
            return Err(io::Error::from_raw_os_error(5));
        }
        match self.refused.iter().find(|(refused, _)| *refused == name) {
            Some((_, error)) => Err(io::Error::from_raw_os_error(*error)),
            None => Ok(()),
        }
    }
}

impl Altered for Rigged {
    fn before(&self, call: Call) -> io::Result<()> {
        self.call(call.name)
    }

    fn exchange(&self, directory: &File, one: &OsStr, other: &OsStr) -> io::Result<Exchange> {
        match self.call("exchange") {
            // How a file system says that it cannot.
            Err(error) if error.raw_os_error() == Some(22) => Ok(Exchange::Unsupported),
            Err(error) => Err(error),
            Ok(()) => Real.exchange(directory, one, other),
        }
    }

    fn now(&self) -> Now {
        let now = Real.now();
        Now { monotonic: now.monotonic + Duration::from_millis(self.slept.load(Ordering::SeqCst)), ..now }
    }

    fn own_pid(&self) -> u32 {
        Real.own_pid() + u32::from(self.is_copy.load(Ordering::SeqCst))
    }

    fn reach(&self, step: Failpoint) -> io::Result<()> {
        self.call("reach")?;
        let action = self.steps.lock().unwrap().remove(step.name());
        if let Some(action) = action {
            action();
        }
        self.is_dead.fetch_or(self.dies_at == Some(step.name()), Ordering::SeqCst);
        self.call("reach")
    }

    fn is_protected(&self, protection: Failpoint) -> bool {
        !self.without.contains(&protection.name())
    }
}
