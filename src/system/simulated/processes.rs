//! The simulated processes: who lives, under which pid, and since when.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use super::digest::Digest;

/// A process for as long as a simulation runs. Unlike a pid it is never given to another.
pub(crate) type Number = usize;

/// The length of a tick, in which start times are counted.
const TICK: Duration = Duration::from_millis(10);

/// What has become of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Life {
    /// It has not begun; nobody can see it.
    Unborn,
    /// It lives.
    Living,
    /// It has ended and is reaped.
    Gone,
}

/// A process.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) life: Life,
    pub(crate) start_ticks: u64,
    /// It sleeps until then.
    pub(crate) sleeps_until: Duration,
    /// How many files it has opened.
    pub(crate) opened: u32,
    /// How many nonces it has drawn.
    pub(crate) drawn: u64,
    /// What it has been told so far. A program is a function of that, so this stands for the program's own state.
    pub(crate) heard: Digest,
    /// Whether it runs a program of ours; one that does not is only there.
    pub(crate) part: Part,
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// It runs a program.
    Actor,
    /// It lives and does nothing.
    Extra,
}

impl Hash for Process {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.pid, self.life, self.start_ticks, self.sleeps_until.as_millis(), self.heard, self.part).hash(state);
    }
}

impl Process {
    pub(crate) fn unborn(pid: u32) -> Self {
        Self {
            pid,
            life: Life::Unborn,
            start_ticks: 0,
            sleeps_until: Duration::ZERO,
            opened: 0,
            drawn: 0,
            heard: Digest::default(),
            part: Part::Actor,
        }
    }

    pub(crate) fn begin(&mut self, clock: Duration) {
        self.life = Life::Living;
        self.start_ticks = u64::try_from(clock.as_millis() / TICK.as_millis()).unwrap_or(u64::MAX);
    }

    /// Its life is over. What it knew has no consequences any more.
    pub(crate) fn end(&mut self) {
        (self.life, self.heard, self.sleeps_until, self.opened, self.drawn) =
            (Life::Gone, Digest::default(), Duration::ZERO, 0, 0);
    }

    /// Whether its pid is taken.
    pub(crate) fn exists(&self) -> bool {
        self.life == Life::Living
    }

    /// Whether it has more to do.
    pub(crate) fn goes_on(&self) -> bool {
        self.part == Part::Actor && matches!(self.life, Life::Unborn | Life::Living)
    }

    /// Sixteen bytes that no other process of any machine with other salt draws, and this one draws once.
    pub(crate) fn draw(&mut self, salt: u64) -> [u8; 16] {
        self.drawn += 1;
        let seed = (salt, u64::from(self.pid), self.start_ticks, self.drawn);
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&Digest::of(&seed).to_le_bytes());
        nonce[8..].copy_from_slice(&Digest::of(&(seed, "more")).to_le_bytes());
        nonce
    }
}
