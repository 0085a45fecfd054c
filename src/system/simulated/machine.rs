//! The whole simulated machine as one value: disk, openings, processes, clocks and the ledger.
//!
//! It can be copied and compared, and nothing in it changes by itself. What a call of the world does to it is in
//! `calls`; here is what tests set up and look at.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::digest::Digest;
use super::disk::{Disk, ROOT};
use super::inode::{Body, Content};
use super::ledger::Ledger;
use super::openings::Openings;
use super::power::{self, Cut, Power};
use super::processes::{Life, Number, Part, Process};
use super::way::{Place, walk};
use crate::base::failpoint::Failpoint;

/// What one step takes.
const STEP: Duration = Duration::from_micros(1);
/// The clock at the beginning: a machine that has run for a while.
const BEGINNING: Duration = Duration::from_secs(1000);
/// Time stamps of files are multiples of this, as those of usual kernels are: many steps fall into one.
const JIFFY: Duration = Duration::from_millis(4);
/// Wall clock time at boot, in nanoseconds since 1970.
const BOOTED_NS: i64 = 1_800_000_000_000_000_000;

/// A machine.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) disk: Disk,
    pub(crate) openings: Openings,
    pub(crate) processes: Vec<Process>,
    pub(crate) ledger: Ledger,
    /// `CLOCK_MONOTONIC`.
    pub(crate) clock: Duration,
    /// How many times it was booted before.
    pub(crate) boot: u64,
    /// How many of the next syncs of files fail.
    pub(crate) bad_syncs: usize,
    /// At how many changes of the disk the death of each process was last thought of. It is no part of the state.
    pub(crate) thought_of: Vec<u64>,
    pub(crate) nature: Arc<Nature>,
}

/// What does not change while a machine runs.
#[derive(Debug, Clone)]
pub(crate) struct Nature {
    /// The protections that are taken away.
    pub(crate) removed: BTreeSet<Failpoint>,
    /// No pause is shorter. A loop that looks every half millisecond until a deadline would have thousands of states
    /// that differ in nothing but the time; to sleep longer than asked for is what a busy machine does anyway.
    pub(crate) shortest_pause: Duration,
    /// What makes its nonces its own. Some code keeps, for all of a real process, a set of names made of nonces, and
    /// tests run beside each other in one; so it comes from the test's name, and is the same each time.
    pub(crate) salt: u64,
}

impl Default for Machine {
    fn default() -> Self {
        let nature = Nature {
            removed: BTreeSet::new(),
            shortest_pause: Duration::from_millis(25),
            salt: Digest::of(&std::thread::current().name()),
        };
        Self {
            disk: Disk::default(),
            openings: Openings::default(),
            processes: Vec::new(),
            ledger: Ledger::default(),
            clock: BEGINNING,
            boot: 0,
            bad_syncs: 0,
            thought_of: Vec::new(),
            nature: Arc::new(nature),
        }
    }
}

/// Two machines are the same if no process can tell them apart, but by less than a millisecond.
impl Hash for Machine {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.disk.hash(state);
        for (opening, description) in self.openings.iter() {
            (opening, self.disk.number(description.inode), description.access, description.position).hash(state);
            (description.flock, description.mark, description.beat).hash(state);
        }
        self.processes.hash(state);
        self.ledger.hash(state);
        (self.clock.as_millis(), self.boot, self.bad_syncs).hash(state);
    }
}

/// Setting up.
impl Machine {
    /// Without these protections.
    pub(crate) fn without(mut self, protections: &[Failpoint]) -> Self {
        Arc::make_mut(&mut self.nature).removed.extend(protections);
        self
    }

    /// With a directory of mode 0700, and those on the way to it.
    pub(crate) fn with_directory(mut self, path: &str) -> Self {
        for way in Path::new(path).ancestors().collect::<Vec<_>>().into_iter().rev().skip(1) {
            let Ok(Place::Name(parent, name)) = walk(&self.disk, ROOT, way.as_os_str()) else { continue };
            let body = Body::Directory { names: std::collections::BTreeMap::new(), parent };
            // One that is there already stays.
            let _made_now = self.disk.make(&Place::Name(parent, name), body, 0o700, self.stamp());
        }
        self
    }

    /// With a file, as it would be if it had always been there.
    pub(crate) fn with_file(self, path: &str, content: &[u8]) -> Self {
        let body = Content { bytes: content.to_vec(), safe: content.to_vec(), dirty_from: content.len() };
        self.with(path, Body::File(body))
    }

    /// With anything at a path.
    pub(crate) fn with(mut self, path: &str, body: Body) -> Self {
        let place = walk(&self.disk, ROOT, OsStr::new(path)).expect("the way to it exists");
        self.disk.make(&place, body, 0o600, BOOTED_NS).expect("the name is free");
        self
    }

    /// With a process of this pid that lives and does nothing.
    pub(crate) fn with_extra(mut self, pid: u32) -> Self {
        let mut extra = Process { part: Part::Extra, ..Process::unborn(pid) };
        extra.begin(self.clock);
        self.processes.push(extra);
        self
    }

    /// With a process that has not begun.
    pub(crate) fn with_actor(mut self, pid: u32) -> (Self, Number) {
        self.processes.push(Process::unborn(pid));
        let number = self.processes.len() - 1;
        (self, number)
    }

    /// Remembers from now on what a power cut would leave.
    pub(crate) fn with_power_to_lose(mut self) -> Self {
        self.disk.power = Some(Power::from(&self.disk));
        self
    }
}

/// Looking.
impl Machine {
    /// The bytes of the file at a path; `None` when there is no regular file.
    pub(crate) fn content(&self, path: &str) -> Option<&[u8]> {
        let place = walk(&self.disk, ROOT, OsStr::new(path)).ok()?;
        match &self.disk.inode(self.disk.at(&place).ok()?).ok()?.body {
            Body::File(content) => Some(&content.bytes),
            _ => None,
        }
    }

    /// The time stamp that a file gets now.
    pub(crate) fn stamp(&self) -> i64 {
        let coarse = JIFFY.as_nanos();
        i64::try_from(self.clock.as_nanos() / coarse * coarse).map_or(i64::MAX, |age| BOOTED_NS.saturating_add(age))
    }

    /// Milliseconds since 1970.
    pub(crate) fn wall_ms(&self) -> i64 {
        (BOOTED_NS / 1_000_000).saturating_add(i64::try_from(self.clock.as_millis()).unwrap_or(i64::MAX))
    }
}

/// What happens to it from outside.
impl Machine {
    /// A step has been made.
    pub(crate) fn tick(&mut self) {
        self.clock += STEP;
    }

    /// Time passes until a process wakes up.
    pub(crate) fn wait_for(&mut self, process: Number) {
        self.clock = self.clock.max(self.processes[process].sleeps_until);
    }

    /// Whether a process could go on now.
    pub(crate) fn is_ready(&self, process: Number) -> bool {
        let process = &self.processes[process];
        process.goes_on() && process.sleeps_until <= self.clock
    }

    /// A process ends, however it comes: the kernel closes what it had open.
    pub(crate) fn end(&mut self, process: Number) {
        for opening in self.openings.of(process) {
            self.close(opening);
        }
        self.processes[process].end();
        self.ledger.end(process);
    }

    /// Every way for power to fail now.
    pub(crate) fn cuts(&self) -> Vec<Cut> {
        power::cuts(&self.disk)
    }

    /// The machine after a power cut and a new start. Nobody lives any more.
    pub(crate) fn after_cut(&self, cut: Cut) -> Self {
        let mut machine = Self {
            disk: power::after_cut(&self.disk, cut),
            openings: Openings::default(),
            boot: self.boot + 1,
            clock: BEGINNING,
            ..self.clone()
        };
        for number in 0..machine.processes.len() {
            machine.processes[number].life = Life::Gone;
            machine.ledger.end(number);
        }
        machine
    }
}
