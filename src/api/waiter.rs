//! Waiting for a wake, as `arm`, `wait` and [`Home::wait`](super::home::Home::wait) do it.
//!
//! # Theory
//!
//! A waiter holds a lease, so that others see that a process is waiting. It reads the journal when something changes
//! there, and from time to time in case the change was missed; the kernel tells it when the watcher ends. Wakes are
//! marked as presented by the caller, after they have reached whoever they are for: a reader that went away was told
//! nothing.
//!
//! # Limits
//!
//! Without a FIFO for the wake-up, a wake is seen up to 250 ms late.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::wakes;
use crate::base::console::Note;
use crate::base::error::{Context, Result};
use crate::base::wait_until::wait_until;
use crate::journal::due::{self, Moment, Presented, View};
use crate::journal::follower::{Follower, Start};
use crate::journal::record::Wake;
use crate::launch::failure::Failure;
use crate::launch::{Obtained, Wish, obtain};
use crate::layout::paths::names;
use crate::ownership::context::HomeContext;
use crate::ownership::home_lock::{self, LockObservation};
use crate::ownership::waiters::Lease;
use crate::ownership::wakeup_fifo::WakeupFifo;
use crate::system::identity::Pid;
use crate::system::platform;
use crate::system::{Real, World};

/// What a waiter does when the watcher ends under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLoss {
    /// Obtain the next one and go on waiting.
    Obtain,
    /// Say so and go on waiting.
    Tell,
}

/// Without a bell, the journal is looked at so often.
const LOOK_WITHOUT_BELL: Duration = Duration::from_millis(250);
/// With one, so often, in case whoever should have rung it died before it could.
const LOOK_ANYWAY: Duration = Duration::from_secs(2);

/// Ends a waiter, from whatever thread.
#[derive(Debug, Clone)]
pub struct Stop(Sender<Notice>);

impl Stop {
    /// Ends it with this exit code. Says whether anybody still waits.
    pub fn with(&self, code: u8) -> bool {
        self.0.send(Notice::Asked(code)).is_ok()
    }
}

/// The waiter's end of a [`Stop`].
#[derive(Debug)]
pub struct Stopped(Receiver<Notice>);

/// A way to end a waiter that has yet to begin.
pub fn stop() -> (Stop, Stopped) {
    let (sender, notices) = channel();
    (Stop(sender), Stopped(notices))
}

/// One thing that happens to a waiter.
#[derive(Debug)]
enum Notice {
    Rung,
    Asked(u8),
    WatcherEnded,
}

/// A waiter at work.
pub struct Waiter<'a> {
    context: &'a HomeContext,
    /// Hears what a person should know.
    tell: Box<dyn Fn(Note) + 'a>,
    deadline: Option<Instant>,
    notices: Receiver<Notice>,
    sender: Sender<Notice>,
    // Dropping it takes it down.
    bell: Option<WakeupFifo>,
    directory: std::fs::File,
    path: PathBuf,
    follower: Follower,
    wakes: Vec<Wake>,
    acknowledged: u64,
    /// What was shown to anybody before this waiter had its lease: what is newer came under its eyes.
    presented_at_start: u64,
    watched: Option<Pid>,
    complaint: Complaint,
    // Held for its lock, which goes with it.
    _lease: Option<Lease<Real>>,
}

impl<'a> Waiter<'a> {
    /// Takes a lease and begins to listen. The directories of the home must exist. `tell` hears what goes wrong and is no
    /// failure; whoever was given `stop` ends the waiter.
    ///
    /// # Errors
    /// The journal cannot be opened.
    pub fn begin(
        context: &'a HomeContext,
        timeout: Option<Duration>,
        (sender, notices): (Stop, Stopped),
        tell: impl Fn(Note) + 'a,
    ) -> Result<Self> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let (sender, notices) = (sender.0, notices.0);
        let path = context.home.ours(names::WAKES);
        let directory = context.world.open_directory(&path).doing("open", &path)?;
        let presented_at_start = Presented::read(context.world.as_ref(), &directory).through();
        let without = |what: &str, error| tell(Note::Message(format!("waiting without a {what}: {error}")));
        let lease = lease(context).map_err(|error| without("lease", error)).ok();
        let bell = lease
            .as_ref()
            .and_then(|lease| hang_bell(context, lease, &sender).map_err(|error| without("bell", error)).ok());
        let mut waiter = Self {
            context,
            tell: Box::new(tell),
            deadline,
            notices,
            sender,
            bell,
            directory,
            path,
            follower: Follower::new(Start::Unacknowledged),
            wakes: Vec::new(),
            acknowledged: 0,
            presented_at_start,
            watched: None,
            complaint: Complaint::Unsaid,
            _lease: lease,
        };
        waiter.watch_the_watcher();
        if waiter.watched.is_none() {
            // Whoever begins to wait without a watcher knows it already.
            waiter.complaint = Complaint::Said;
        }
        Ok(waiter)
    }

    /// Waits until a wake is due, or waiting ends otherwise.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn until_due(&mut self, on_loss: OnLoss) -> Result<Woken> {
        loop {
            let (due, again) = self.look()?;
            if !due.is_empty() {
                return Ok(Woken::Due(due));
            }
            if self.is_late() {
                return Ok(Woken::Late);
            }
            let has_ended = match self.notices.recv_timeout(self.pause(again)) {
                Ok(Notice::Asked(code)) => return Ok(Woken::Asked(code)),
                Ok(Notice::WatcherEnded) => {
                    self.watched = None;
                    true
                }
                Ok(Notice::Rung) => false,
                // Nobody said anything for a while: a good moment to see for oneself that somebody watches.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => !self.is_watched(),
            };
            if has_ended && let Some(failure) = self.watcher_ended(on_loss) {
                return Ok(Woken::Lost(failure));
            }
        }
    }

    /// Decides what to do without a watcher. `Some`: waiting is over, for this reason.
    fn watcher_ended(&mut self, on_loss: OnLoss) -> Option<Failure> {
        match on_loss {
            OnLoss::Obtain => match obtain(self.context, Wish::Kept, &mut |note| (self.tell)(note)) {
                Ok(Obtained::Healthy { .. }) => {}
                Ok(obtained) => (self.tell)(Note::Message(format!("the watcher has ended; {obtained}"))),
                Err(failure) => return Some(failure),
            },
            OnLoss::Tell => {
                let (_, verdict) = self.context.verdict();
                match (verdict.is_watching(), self.complaint) {
                    (true, _) => self.complaint = Complaint::Unsaid,
                    (false, Complaint::Unsaid) => {
                        (self.tell)(Note::Message(format!("{verdict}; only wakes that scripts add will come")));
                        self.complaint = Complaint::Said;
                    }
                    (false, Complaint::Said) => {}
                }
            }
        }
        self.watch_the_watcher();
        None
    }

    /// Remembers that these wakes were shown.
    pub fn mark_presented(&self, due: &[Wake]) {
        if let Err(error) = wakes::mark_presented(self.context, &self.directory, due, self.acknowledged) {
            (self.tell)(Note::Message(format!("these wakes will be shown again soon: {error}")));
        }
    }

    /// Ends waiting when this process ends, as if this waiter had been asked to, with exit code 0.
    pub fn end_with(&self, process: platform::Pinned) {
        const LONG: Duration = Duration::from_secs(3600);
        let (world, sender) = (self.context.world.clone(), self.sender.clone());
        let started = std::thread::Builder::new().name("its end".to_owned()).spawn(move || {
            while let Ok(has_ended) = world.wait_for_exit(&process, LONG) {
                if has_ended {
                    let _nobody_waits = sender.send(Notice::Asked(0));
                    break;
                }
            }
        });
        if let Err(error) = started {
            (self.tell)(Note::Message(format!("waiting will not end with its session: {error}")));
        }
    }

    /// Listens to the end of the watcher that runs now.
    fn watch_the_watcher(&mut self) {
        let (_, verdict) = self.context.verdict();
        self.watched = verdict.living_pid();
        let Some(pid) = self.watched else { return };
        let (world, sender) = (self.context.world.clone(), self.sender.clone());
        let started = std::thread::Builder::new().name("watcher's end".to_owned()).spawn(move || {
            if wait_for_end(world.as_ref(), pid).is_none() {
                // Where nobody can be waited for, looking now and then has to do.
                let _passed = wait_until(LOOK_WITHOUT_BELL, LOOK_WITHOUT_BELL, || None::<()>);
            }
            let _nobody_waits = sender.send(Notice::WatcherEnded);
        });
        if let Err(error) = started {
            (self.tell)(Note::Message(format!("the end of watcher pid {pid} will not be noticed: {error}")));
        }
    }

    /// The wakes that are due now, and when to look again at the latest.
    fn look(&mut self) -> Result<(Vec<Wake>, Option<Duration>)> {
        let world = self.context.world.as_ref();
        let look = self.follower.look(world, &self.directory, &self.path)?;
        for damage in &look.damage {
            (self.tell)(Note::message(damage));
        }
        self.acknowledged = look.acknowledged;
        self.wakes.extend(look.wakes);
        self.wakes.retain(|wake| wake.seq > look.acknowledged);
        let presented = Presented::read(world, &self.directory);
        let view = View {
            presented: &presented,
            presented_at_start: self.presented_at_start,
            moment: &Moment::of(world),
            patience: self.context.settings().patience(),
        };
        let pending = due::pending(&self.wakes, look.acknowledged);
        let due = due::due(&pending, &view);
        // Whatever of a kind and key is due, its newest is what counts, and showing that is showing them all.
        let due = due::about_the_same(&pending, &due).into_iter().cloned().collect();
        Ok((due, due::next_due_in(&pending, &view)))
    }

    fn pause(&self, again: Option<Duration>) -> Duration {
        let usual = if self.bell.is_some() { LOOK_ANYWAY } else { LOOK_WITHOUT_BELL };
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        [Some(usual), left, again].into_iter().flatten().min().unwrap_or(usual)
    }

    /// Whether a watcher holds the home whose end will be noticed.
    fn is_watched(&self) -> bool {
        let Some(watched) = self.watched else { return false };
        let sighting = home_lock::observe(self.context.world.as_ref(), &self.context.place);
        matches!(sighting, LockObservation::Marked { .. }) || self.is_held_by_foreign(watched)
    }

    /// Whether it is a foreign watcher, which has no lock of ours.
    fn is_held_by_foreign(&self, watched: Pid) -> bool {
        let seen = self.context.foreign.as_ref().and_then(|foreign| foreign.observe(&self.context.world));
        seen.and_then(|seen| seen.pid) == Some(watched)
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// Waits for a process to end. `None`: it cannot be waited for.
fn wait_for_end<W: World>(world: &W, pid: Pid) -> Option<()> {
    const LONG: Duration = Duration::from_secs(3600);
    let process = world.pin(pid).ok()??;
    while !world.wait_for_exit(&process, LONG).ok()? {}
    Some(())
}

/// How waiting ended.
#[derive(Debug)]
pub enum Woken {
    /// These wakes are due; nobody has been told of them yet.
    Due(Vec<Wake>),
    /// No wake came in time.
    Late,
    /// It was asked to end, with this exit code.
    Asked(u8),
    /// Nobody watches, and no watcher can be had for this reason.
    Lost(Failure),
}

/// Whether a waiter has said that nobody watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Complaint {
    Unsaid,
    Said,
}

fn lease(context: &HomeContext) -> std::io::Result<Lease<Real>> {
    let directory = context.world.open_directory(&context.home.ours(names::WAITERS))?;
    Lease::take(&context.world, directory)
}

/// Hangs the waiter's bell, and listens to it in a thread of its own.
fn hang_bell(context: &HomeContext, lease: &Lease<Real>, sender: &Sender<Notice>) -> std::io::Result<WakeupFifo> {
    let bell = WakeupFifo::hang(&context.home.ours(names::WAITERS), lease.name())?;
    let (ear, sender) = (bell.ear()?, sender.clone());
    std::thread::Builder::new().name("bell".to_owned()).spawn(move || listen(&ear, &sender))?;
    Ok(bell)
}

fn listen(ear: &std::fs::File, sender: &Sender<Notice>) {
    const LONG: Duration = Duration::from_secs(3600);
    loop {
        match platform::is_readable_within(ear, LONG) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(_) => break,
        }
        let mut rung = [0; 64];
        let taken = std::io::Read::read(&mut &*ear, &mut rung);
        if taken.is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock)
            || sender.send(Notice::Rung).is_err()
        {
            break;
        }
    }
}
