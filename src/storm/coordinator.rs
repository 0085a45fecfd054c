//! The coordinator: starts the workers, hears them, kills some of them, and knows when to stop.
//!
//! One loop in one thread. Nothing in it blocks for longer than a killed process may take to end, so the bound on the
//! time in which nobody gets the lock holds whatever a worker does.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::intervals::Hold;
use super::plan::Protocol;
use super::plan::{Plan, peer_command};
use super::processes::{Output, Worker, end_awaited, wait_for_word};
use super::summary::{End, Progress, Record};
use super::worker::{Line, now};
use super::worker_history::{Doing, Event, Window};

/// How often the loop goes round at least, to be asked whether it shall stop.
const TICK: Duration = Duration::from_millis(50);
/// How many stuck workers are told of one by one.
const TOLD_OF: usize = 8;
/// How often the pipe of a dead worker is read; more than it holds.
const MOST_READS: usize = 64;

/// Who is told many times a second how far a storm is, and may end it early.
pub type Watch<'a> = &'a mut dyn FnMut(&Progress) -> ControlFlow<()>;

/// Makes a storm of one protocol at a path in a directory of its own. `watch` is told how far it is.
pub fn run(plan: &Plan, protocol: Protocol, path: &Path, watch: Watch<'_>) -> Record {
    let mut storm = Storm::new(plan, protocol, path);
    let end = storm.run(watch);
    storm.finish(end)
}

/// When nobody has got the lock for so long, in nanoseconds, kills pause until somebody has.
const DROUGHT: u64 = 500_000_000;

/// The place of one worker, which a killed one leaves to the next.
struct Slot {
    is_peer: bool,
    left: u32,
    worker: Option<Worker>,
}

/// Whom a kill has hit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Struck {
    /// One that was holding.
    Holder,
    /// One that was not.
    Other,
    /// Nobody was there, or it had ended by itself.
    Nobody,
}

/// Whom the next kill is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Aim {
    /// Nobody yet.
    None,
    /// Whoever holds next.
    NextHolder,
}

struct Storm<'a> {
    plan: &'a Plan,
    protocol: Protocol,
    path: &'a Path,
    began: u64,
    last_hold: u64,
    next_kill: Option<u64>,
    aim: Aim,
    rng: Rng,
    slots: Vec<Slot>,
    /// Killed, and not ended.
    unreaped: Vec<Worker>,
    failures: Vec<String>,
    holds: Vec<Hold>,
    waits: Vec<u64>,
    calm: Calm,
    kills: u64,
    kills_of_holders: u64,
}

/// The time since the last kill.
#[derive(Clone, Copy)]
struct Calm {
    since: u64,
    /// How long a hold was waited for at most, not counting what was waited before.
    longest_wait: u64,
}

impl Calm {
    fn begin(since: u64) -> Self {
        Self { since, longest_wait: 0 }
    }

    fn note(&mut self, wait: u64, ended: u64) {
        self.longest_wait = self.longest_wait.max(wait.min(ended.saturating_sub(self.since)));
    }
}

impl<'a> Storm<'a> {
    fn new(plan: &'a Plan, protocol: Protocol, path: &'a Path) -> Self {
        let slot = |number| Slot {
            // Every second worker, as far as there are peers.
            is_peer: number % 2 == 1 && number / 2 < plan.peers(),
            left: plan.rounds,
            worker: None,
        };
        let began = now();
        Self {
            plan,
            protocol,
            path,
            began,
            last_hold: began,
            next_kill: plan.kill_interval.map(|interval| began + nanoseconds(interval)),
            aim: Aim::None,
            rng: Rng::with_seed(plan.seed),
            slots: (0..plan.workers).map(slot).collect(),
            unreaped: Vec::new(),
            failures: Vec::new(),
            holds: Vec::new(),
            waits: Vec::new(),
            calm: Calm::begin(began),
            kills: 0,
            kills_of_holders: 0,
        }
    }

    fn run(&mut self, watch: Watch<'_>) -> End {
        for index in 0..self.slots.len() {
            self.start(index);
        }
        while self.failures.is_empty() && self.slots.iter().any(|slot| slot.worker.is_some()) {
            if watch(&self.progress()).is_break() {
                return End::Interrupted;
            }
            self.listen();
            self.strike_when_due();
            self.check_patience();
        }
        if self.failures.is_empty() { End::Complete } else { End::Failed(std::mem::take(&mut self.failures)) }
    }

    /// Ends whoever is still there.
    fn finish(mut self, mut end: End) -> Record {
        // All at once, so that many that do not end take no longer than one.
        for worker in self.slots.iter_mut().filter_map(|slot| slot.worker.as_mut()) {
            worker.kill();
        }
        let deadline = end_awaited();
        for index in 0..self.slots.len() {
            self.kill(index, deadline);
        }
        for worker in std::mem::take(&mut self.unreaped) {
            let found = format!("pid {} was killed and has not ended: it is stuck in the kernel", worker.pid());
            match &mut end {
                End::Failed(failures) => failures.push(found),
                End::Complete | End::Interrupted => end = End::Failed(vec![found]),
            }
        }
        Record {
            holds: self.holds,
            waits: self.waits,
            longest_calm_wait: self.calm.longest_wait,
            kills: self.kills,
            kills_of_holders: self.kills_of_holders,
            took: Duration::from_nanos(now() - self.began),
            end,
        }
    }

    fn progress(&self) -> Progress {
        Progress {
            protocol: self.protocol,
            holds: self.waits.len() as u64,
            of: self.plan.holds(),
            kills: self.kills,
            took: Duration::from_nanos(now() - self.began),
        }
    }

    fn start(&mut self, index: usize) {
        let seed = self.rng.u64(..);
        let slot = &mut self.slots[index];
        let command = match &self.plan.peer {
            Some(peer) if slot.is_peer => peer_command(peer, self.path, slot.left),
            _ => self.plan.worker_command(self.protocol, self.path, slot.left, seed),
        };
        match Worker::start(command) {
            Ok(worker) => slot.worker = Some(worker),
            Err(error) => self.failures.push(format!("cannot start a worker: {error}")),
        }
    }

    /// Waits for a word and takes in all there is.
    fn listen(&mut self) {
        let until_kill = self.next_kill.map_or(TICK, |at| Duration::from_nanos(at.saturating_sub(now())));
        let workers = self.slots.iter().filter_map(|slot| slot.worker.as_ref());
        if let Err(error) = wait_for_word(workers, TICK.min(until_kill)) {
            self.failures.push(format!("cannot wait for the workers: {error}"));
        }
        for index in 0..self.slots.len() {
            if self.hear(index) == Some(Output::Ended) {
                self.ended(index);
            } else if self.aim == Aim::NextHolder && self.is_holding(index) {
                self.strike(index);
            }
        }
    }

    /// Takes in what one worker has said. `None`: there is none.
    fn hear(&mut self, index: usize) -> Option<Output> {
        let worker = self.slots[index].worker.as_mut()?;
        match worker.read() {
            Ok((lines, output)) => {
                for line in lines {
                    self.take_in(index, &line);
                }
                Some(output)
            }
            Err(error) => {
                let found = format!("cannot hear pid {}: {error}", worker.pid());
                self.failures.push(found);
                Some(Output::Open)
            }
        }
    }

    fn take_in(&mut self, index: usize, line: &str) {
        let slot = &mut self.slots[index];
        let Some(worker) = &mut slot.worker else { return };
        let window = Window { from: worker.started, until: now() };
        match Line::parse(line).and_then(|line| worker.history.hear(line, window)) {
            Ok(Event::Got(wait)) => {
                slot.left = slot.left.saturating_sub(1);
                self.waits.push(wait);
                self.calm.note(wait, window.until);
                self.last_hold = window.until;
            }
            Ok(Event::LetGo(hold)) => self.holds.push(hold),
            Ok(Event::Noted) => {}
            Err(error) => self.failures.push(format!("pid {} {error}", worker.pid())),
        }
    }

    /// A worker has closed its output: it has made its holds, or it has failed.
    fn ended(&mut self, index: usize) {
        let Some(mut worker) = self.slots[index].worker.take() else { return };
        match worker.reap(end_awaited()) {
            Ok(Some(status)) => self.judge_end(index, worker, status),
            Ok(None) => self.failures.push(format!("pid {} has closed its output and goes on", worker.pid())),
            Err(error) => self.failures.push(format!("cannot wait for pid {}: {error}", worker.pid())),
        }
    }

    /// A worker that ended by itself must have made all of its holds.
    fn judge_end(&mut self, index: usize, mut worker: Worker, status: ExitStatus) {
        let (pid, left) = (worker.pid(), self.slots[index].left);
        if !status.success() {
            self.failures.push(format!("pid {pid} failed ({status}): {}", worker.last_words()));
        } else if left > 0 {
            self.failures.push(format!("pid {pid} ended {left} holds too early, of {}", self.plan.rounds));
        }
    }

    fn has_begun(&self, index: usize) -> bool {
        let worker = self.slots[index].worker.as_ref();
        worker.is_some_and(|worker| worker.history.has_begun())
    }

    fn is_holding(&self, index: usize) -> bool {
        let worker = self.slots[index].worker.as_ref();
        worker.is_some_and(|worker| matches!(worker.history.doing(), Doing::Holding(_)))
    }

    /// Every second kill is for a holder: the present one, or whoever holds next. The others are for anybody who has begun
    /// to contend.
    fn strike_when_due(&mut self) {
        let Some(due) = self.next_kill.filter(|&due| due <= now()) else { return };
        if self.waits.len() as u64 >= self.plan.holds_before_calm() {
            self.next_kill = None;
            return;
        }
        self.next_kill = self.plan.kill_interval.map(nanoseconds).map(|interval| {
            // What was missed is not made up for.
            due.max(now().saturating_sub(interval)) + interval
        });
        // Some records may be taken only after they have been still for a while, which nobody would live to see.
        if now().saturating_sub(self.last_hold) > DROUGHT {
            return;
        }
        let begun: Vec<_> = (0..self.slots.len()).filter(|&index| self.has_begun(index)).collect();
        // Kills that come faster than contenders start would leave nobody to contend.
        if begun.len() * 2 < self.slots.iter().filter(|slot| slot.worker.is_some()).count() {
            return;
        }
        if self.aim == Aim::None && self.rng.bool() {
            match begun.iter().find(|&&index| self.is_holding(index)) {
                Some(&holder) => self.strike(holder),
                None => self.aim = Aim::NextHolder,
            }
        } else if let Some(anybody) = self.rng.choice(begun) {
            self.strike(anybody);
        }
    }

    /// Kills a worker and starts another one that makes the rest of its holds.
    fn strike(&mut self, index: usize) {
        self.aim = Aim::None;
        let struck = self.kill(index, end_awaited());
        if struck != Struck::Nobody {
            self.calm = Calm::begin(now());
        }
        match struck {
            Struck::Holder => {
                self.kills += 1;
                self.kills_of_holders += 1;
            }
            Struck::Other => self.kills += 1,
            Struck::Nobody => {}
        }
        if self.slots[index].left > 0 {
            self.start(index);
        }
    }

    /// Kills a worker and reaps it.
    fn kill(&mut self, index: usize, deadline: Instant) -> Struck {
        let Some(worker) = self.slots[index].worker.as_mut() else { return Struck::Nobody };
        // Until this instant a holder holds for sure, unless it has said already that it lets go.
        let before = worker.kill();
        let ended = worker.reap(deadline);
        // What it said before it died is in its pipe. Where somebody else has the pipe open, too, it need not end.
        let mut reads = 0;
        while reads < MOST_READS && self.hear(index) == Some(Output::Open) {
            reads += 1;
        }
        let Some(mut worker) = self.slots[index].worker.take() else { return Struck::Nobody };
        match ended {
            // It was faster, and has ended by itself.
            Ok(Some(status)) if status.code().is_some() => {
                self.judge_end(index, worker, status);
                Struck::Nobody
            }
            ended => {
                let hold = worker.history.killed(before);
                self.holds.extend(hold);
                match ended {
                    Ok(Some(_)) => {}
                    Ok(None) => self.unreaped.push(worker),
                    Err(error) => self.failures.push(format!("cannot wait for pid {}: {error}", worker.pid())),
                }
                if hold.is_some() { Struck::Holder } else { Struck::Other }
            }
        }
    }

    fn check_patience(&mut self) {
        let now = now();
        if Duration::from_nanos(now.saturating_sub(self.last_hold)) < self.plan.patience {
            return;
        }
        let patience = humantime::format_duration(self.plan.patience);
        self.failures.push(format!("nobody has got the lock for {patience}, so the storm was ended"));
        let stuck: Vec<_> = self.slots.iter().filter_map(|slot| slot.worker.as_ref()).collect();
        let told_of = stuck.iter().take(TOLD_OF).map(|worker| worker.in_words(now));
        self.failures.extend(told_of);
        if stuck.len() > TOLD_OF {
            self.failures.push(format!("and {} more", stuck.len() - TOLD_OF));
        }
    }
}

/// A time in nanoseconds; no longer one than leaves room for a clock beside it.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX >> 1)
}
