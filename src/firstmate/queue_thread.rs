//! The thread of the watcher that crosses between the wake queue and the journal.
//!
//! The lock of the queue belongs to whoever takes it, and a script that hangs while it holds it must not stop the loop. So
//! the loop only says that there may be something to do, and hears later what came of it. Who cannot enter says so for
//! `status`, keeps what is to move, and tries again when it is told to look, at least at each poll.
//!
//! Markers move here, too, and only after a crossing has given their wakes rows.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::markers::{self, Changes};
use super::queue::{HeldQueue, Queue};
use super::queue_sync::QueueSync;
use crate::base::error::{Context, Error, Result};
use crate::base::failpoint::Failpoint;
use crate::base::wait_until::wait_until;
use crate::journal::record::Wake;
use crate::lock::{Attempt, Holder, Ownership};
use crate::ownership::held_home::Holding;
use crate::settings::Patterns;
use crate::system::{Facts, World};
use crate::watcher::degradations::Condition;

/// How long the lock of the queue is waited for before `status` says so.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often somebody who waits for the lock looks whether the watcher is leaving.
const SLICE: Duration = Duration::from_millis(100);
/// How long a leaving watcher waits for the last crossing.
const LEAVES_WITHIN: Duration = Duration::from_millis(500);

/// What the loop says.
#[derive(Debug)]
pub enum Order {
    /// There may be new rows, or new wakes. Once they have rows, these markers move.
    Cross(Changes),
    /// The settings were read again.
    Adopt(Box<Patterns>),
}

/// What the loop hears.
#[derive(Debug)]
pub enum Report {
    /// These rows became wakes, and they are durable.
    Took(Vec<Wake>),
    /// How the queue fares.
    State(Condition),
}

/// The loop's end of the queue thread.
#[derive(Debug)]
pub struct QueueThread {
    orders: Option<Sender<Order>>,
    is_leaving: Arc<AtomicBool>,
    thread: JoinHandle<Outcome>,
}

/// How the last look at the queue went.
type Outcome = Result<(), Problem>;

/// Why the queue is not as it should be.
#[derive(Debug)]
enum Problem {
    /// Somebody has its lock. That is no failure: the scripts wait for it, too.
    Busy(String),
    /// The rows are as they should be, and a marker is not. A wake is told twice at worst.
    Unmarked(String),
    /// It cannot be read or written.
    Failed(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy(why) | Self::Unmarked(why) | Self::Failed(why) => formatter.write_str(why),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Failed(format!("the wake queue: {error}"))
    }
}

/// What the queue thread works with.
pub struct Tools<W: World> {
    /// The outside.
    pub world: Arc<W>,
    /// The home, as long as it is held.
    pub holding: Arc<Holding<W>>,
    /// The state directory.
    pub state: W::Node,
    /// The queue in it.
    pub queue: Queue<W>,
    /// The way to the journal.
    pub sync: QueueSync<W>,
}

impl QueueThread {
    /// Starts the thread. It crosses once by itself.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start<W: World>(tools: Tools<W>, report: impl Fn(Report) + Send + 'static) -> std::io::Result<Self> {
        let (orders, inbound) = channel();
        let is_leaving = Arc::new(AtomicBool::new(false));
        let mut worker =
            Worker { tools, is_leaving: Arc::clone(&is_leaving), waiting: Changes::new(), left: Left::Unknown };
        let thread =
            std::thread::Builder::new().name("porter".to_owned()).spawn(move || worker.work(&inbound, &report))?;
        Ok(Self { orders: Some(orders), is_leaving, thread })
    }

    /// Hands over an order.
    pub fn tell(&self, order: Order) {
        // The thread ends only when this sender is dropped.
        if let Some(orders) = &self.orders
            && orders.send(order).is_err()
        {
            tracing::error!("the queue thread has ended; the wake queue is not looked at any more");
        }
    }

    /// Waits until what was handed over is done, unless somebody else holds that up: then the next watcher does it.
    /// Impaired only when it could not be done.
    pub fn finish(mut self) -> Condition {
        self.orders = None;
        self.is_leaving.store(true, Ordering::Release);
        let ended = || self.thread.is_finished().then_some(());
        let outcome = match wait_until(LEAVES_WITHIN, Duration::from_millis(1), ended) {
            Some(()) => {
                self.thread.join().unwrap_or_else(|_| Err(Problem::Failed("the queue thread has ended".to_owned())))
            }
            None => Err(Problem::Busy("the wake queue takes long".to_owned())),
        };
        match outcome {
            Ok(()) => Condition::Works,
            Err(Problem::Busy(why) | Problem::Unmarked(why)) => {
                tracing::warn!(
                    "leaving before all is as the scripts expect it; the next watcher will see to it: {why}"
                );
                Condition::Works
            }
            Err(Problem::Failed(why)) => Condition::Impaired(why),
        }
    }
}

/// In which state the last crossing left the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// There was none, or it did not come to its end.
    Unknown,
    /// With everything done, and the queue like this.
    Settled(Option<Facts>),
}

struct Worker<W: World> {
    tools: Tools<W>,
    is_leaving: Arc<AtomicBool>,
    waiting: Changes,
    left: Left,
}

impl<W: World> Worker<W> {
    fn work(&mut self, inbound: &Receiver<Order>, report: &dyn Fn(Report)) -> Outcome {
        let mut outcome = Ok(());
        loop {
            if is_still_ours(&self.tools.holding) {
                outcome = self.go(report);
                report(Report::State(Condition::of(outcome.as_ref())));
            }
            let Ok(order) = inbound.recv() else { return outcome };
            self.follow(order);
            while let Ok(order) = inbound.try_recv() {
                self.follow(order);
            }
        }
    }

    fn follow(&mut self, order: Order) {
        match order {
            Order::Cross(changes) => self.waiting.extend(changes),
            Order::Adopt(patterns) => self.tools.sync.adopt(*patterns),
        }
    }

    /// Crosses if there is anything to do, and moves the markers.
    fn go(&mut self, report: &dyn Fn(Report)) -> Outcome {
        let world = Arc::clone(&self.tools.world);
        if !world.is_protected(Failpoint::FirstmateRowBeforeMarker) {
            self.move_markers()?;
        }
        if self.has_work()? {
            self.cross(report)?;
        }
        let path = self.tools.queue.path().to_owned();
        world.reach(Failpoint::FirstmateCrossed).doing("look at", &path)?;
        self.move_markers()?;
        Ok(world.reach(Failpoint::FirstmateMarked).doing("look at", &path)?)
    }

    fn has_work(&mut self) -> Result<bool> {
        let Tools { sync, .. } = &mut self.tools;
        let before = (sync.view().last(), sync.view().acknowledged());
        sync.look()?;
        let is_old = before == (sync.view().last(), sync.view().acknowledged());
        Ok(!is_old || self.left != Left::Settled(self.tools.queue.facts()))
    }

    fn cross(&mut self, report: &dyn Fn(Report)) -> Outcome {
        self.left = Left::Unknown;
        let Tools { queue, sync, holding, .. } = &mut self.tools;
        let held = enter(queue, &self.is_leaving)?;
        if !is_still_ours(holding) {
            return Ok(());
        }
        let crossed = sync.cross(&held);
        // While the lock is held: whatever is appended after that is found to be new.
        let facts = queue.facts();
        drop(held);
        let crossing = crossed?;
        if !crossing.taken.is_empty() {
            report(Report::Took(crossing.taken));
        }
        if let Some(problem) = crossing.problems.into_iter().next() {
            return Err(problem.into());
        }
        self.left = Left::Settled(facts);
        Ok(())
    }

    fn move_markers(&mut self) -> Outcome {
        // The lock may have been waited for.
        if !is_still_ours(&self.tools.holding) {
            return Ok(());
        }
        let (world, state) = (self.tools.world.as_ref(), &self.tools.state);
        let mut problem = Ok(());
        self.waiting.retain(|name, change| match markers::apply(world, state, name, change) {
            Ok(()) => false,
            Err(error) => {
                let name = OsStr::new(name).display();
                problem = Err(Problem::Unmarked(format!("the marker {name} cannot be moved: {error}")));
                true
            }
        });
        problem
    }
}

/// One who was evicted touches nothing more.
fn is_still_ours<W: World>(holding: &Holding<W>) -> bool {
    matches!(holding.check(), Ok(Ownership::Held))
}

/// Takes the lock of the queue, unless somebody keeps it for long.
fn enter<'a, W: World>(queue: &'a Queue<W>, is_leaving: &AtomicBool) -> Result<HeldQueue<'a, W>, Problem> {
    let end = Instant::now() + PATIENCE;
    let mut entrance = queue.entrance()?;
    loop {
        let is_last = Instant::now() >= end || is_leaving.load(Ordering::Acquire);
        match entrance.enter(SLICE)? {
            Attempt::Taken(held) => return Ok(held),
            Attempt::Busy(holder) if is_last => return Err(Problem::Busy(is_busy(queue.lock_path(), &holder))),
            Attempt::Busy(_) => {}
        }
    }
}

/// It names no time, which would make it news at each look.
fn is_busy(lock: &Path, holder: &Holder) -> String {
    let by = holder.pid.map_or_else(|| "an unknown process".to_owned(), |pid| format!("pid {pid}"));
    let lock = lock.display();
    format!("{lock} is held by {by}; meanwhile wakes wait in the journal and rows of scripts in the queue")
}
