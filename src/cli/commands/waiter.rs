//! Waiting for a wake, as `arm` and `wait` do it.
//!
//! A waiter holds a lease, so that others see that somebody will be told. It looks at the journal when something
//! changes there, and from time to time in case the change was missed; it is told of the watcher's end by the kernel.
//! What it prints it marks as presented only after the line has left this process: a reader that went away has been told
//! nothing.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::json;

use super::print_wakes;
use crate::base::console::Format;
use crate::base::error::{Context, Error, Result};
use crate::base::exit;
use crate::base::wait_until::wait_until;
use crate::cli::args;
use crate::cli::session::Session;
use crate::home::paths::names;
use crate::journal::delivered::{Moment, Presented};
use crate::journal::due::{self, View};
use crate::journal::follower::{Follower, Start};
use crate::journal::record::Wake;
use crate::launch::{Obtained, Wish, obtain};
use crate::ownership::home_lock::{self, Sighting};
use crate::ownership::waiters::Lease;
use crate::ownership::wakeup_fifo::Bell;
use crate::system::identity::Pid;
use crate::system::platform;
use crate::system::requests::{self, Cause, Requests};
use crate::system::{Real, World};

/// `wait`: blocks until a wake is due, whoever watches.
///
/// # Errors
/// Nobody reads, or waiting is impossible.
pub fn wait(session: &Session, options: &args::Wait) -> Result<u8> {
    let (_, verdict) = session.verdict();
    if !verdict.is_watching() {
        let arm = session.command_line("arm");
        session.console.note(format!("{verdict}; only wakes that scripts add will come. Start one with: {arm}"));
    }
    until_woken(Waiting::begin(session, options.timeout)?, OnLoss::Tell)
}

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

/// One thing that happens to a waiter.
#[derive(Debug)]
enum Notice {
    Rung,
    Asked(u8),
    WatcherEnded,
}

/// A waiter at work.
pub struct Waiting<'a> {
    session: &'a Session,
    deadline: Option<Instant>,
    notices: Receiver<Notice>,
    sender: Sender<Notice>,
    // Dropping it takes it down.
    bell: Option<Bell>,
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

impl<'a> Waiting<'a> {
    /// Takes a lease and begins to listen. The directories of the home must exist.
    ///
    /// # Errors
    /// The journal cannot be opened, or signals cannot be listened to.
    pub fn begin(session: &'a Session, timeout: Option<Duration>) -> Result<Self> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let (sender, notices) = channel();
        listen_to_signals(&sender)?;
        let path = session.home.ours(names::WAKES);
        let directory = session.world.open_directory(&path).doing("open", &path)?;
        let presented_at_start = Presented::read(session.world.as_ref(), &directory).through();
        let lease =
            lease(session).map_err(|error| session.console.note(format!("waiting without a lease: {error}"))).ok();
        let bell = lease.as_ref().and_then(|lease| hang_bell(session, lease, &sender));
        let mut waiting = Self {
            session,
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
        waiting.watch_the_watcher();
        if waiting.watched.is_none() {
            // Whoever begins to wait without a watcher knows it already.
            waiting.complaint = Complaint::Said;
        }
        Ok(waiting)
    }

    /// Waits until a wake is due, or waiting ends otherwise.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn until_due(&mut self, on_loss: OnLoss) -> Result<Woken> {
        until_due(self, on_loss)
    }

    /// Remembers that these wakes were shown.
    pub fn mark_presented(&self, due: &[Wake]) {
        print_wakes::mark_presented(self.session, &self.directory, due, self.acknowledged);
    }

    /// Ends waiting when this process ends, as if this waiter had been asked to, with exit code 0.
    pub fn end_with(&self, process: platform::Pinned) {
        const LONG: Duration = Duration::from_secs(3600);
        let (world, sender) = (self.session.world.clone(), self.sender.clone());
        let started = std::thread::Builder::new().name("its end".to_owned()).spawn(move || {
            while let Ok(has_ended) = world.wait_for_exit(&process, LONG) {
                if has_ended {
                    let _nobody_waits = sender.send(Notice::Asked(exit::OK));
                    break;
                }
            }
        });
        if let Err(error) = started {
            self.session.console.note(format!("waiting will not end with its session: {error}"));
        }
    }

    /// Listens to the end of the watcher that runs now.
    fn watch_the_watcher(&mut self) {
        let (_, verdict) = self.session.verdict();
        self.watched = verdict.living_pid();
        let Some(pid) = self.watched else { return };
        let (world, sender) = (self.session.world.clone(), self.sender.clone());
        let started = std::thread::Builder::new().name("watcher's end".to_owned()).spawn(move || {
            if wait_for_end(world.as_ref(), pid).is_none() {
                // Where nobody can be waited for, looking now and then has to do.
                let _passed = wait_until(LOOK_WITHOUT_BELL, LOOK_WITHOUT_BELL, || None::<()>);
            }
            let _nobody_waits = sender.send(Notice::WatcherEnded);
        });
        if let Err(error) = started {
            self.session.console.note(format!("the end of watcher pid {pid} will not be noticed: {error}"));
        }
    }

    /// The wakes that are due now, and when to look again at the latest.
    fn look(&mut self) -> Result<(Vec<Wake>, Option<Duration>)> {
        let world = self.session.world.as_ref();
        let look = self.follower.look(world, &self.directory, &self.path)?;
        for damage in &look.damage {
            self.session.console.note(damage);
        }
        self.acknowledged = look.acknowledged;
        self.wakes.extend(look.wakes);
        self.wakes.retain(|wake| wake.seq > look.acknowledged);
        let presented = Presented::read(world, &self.directory);
        let view = View {
            presented: &presented,
            presented_at_start: self.presented_at_start,
            moment: &Moment::of(world),
            patience: print_wakes::patience(self.session.settings()),
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
        let sighting = home_lock::sight(self.session.world.as_ref(), &self.session.place);
        matches!(sighting, Sighting::Marked { .. }) || self.is_held_by_foreign(watched)
    }

    /// Whether it is a foreign watcher, which has no lock of ours.
    fn is_held_by_foreign(&self, watched: Pid) -> bool {
        let seen = self.session.foreign.as_ref().and_then(|foreign| foreign.observe(&self.session.world));
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
    Lost(String),
}

/// Waits until a wake is due, and prints its reason line.
///
/// # Errors
/// Nobody reads, or the journal cannot be read.
pub fn until_woken(mut waiting: Waiting<'_>, on_loss: OnLoss) -> Result<u8> {
    match waiting.until_due(on_loss)? {
        Woken::Due(due) => tell(&waiting, &due),
        Woken::Late => Ok(exit::TIMED_OUT),
        Woken::Asked(code) => Ok(code),
        Woken::Lost(reason) => failed(waiting.session, &reason),
    }
}

fn until_due(waiting: &mut Waiting<'_>, on_loss: OnLoss) -> Result<Woken> {
    loop {
        let (due, again) = waiting.look()?;
        if !due.is_empty() {
            return Ok(Woken::Due(due));
        }
        if waiting.is_late() {
            return Ok(Woken::Late);
        }
        match waiting.notices.recv_timeout(waiting.pause(again)) {
            Ok(Notice::Asked(code)) => return Ok(Woken::Asked(code)),
            Ok(Notice::WatcherEnded) => {
                waiting.watched = None;
                if let Some(reason) = watcher_ended(waiting, on_loss) {
                    return Ok(Woken::Lost(reason));
                }
            }
            Ok(Notice::Rung) => {}
            // Nobody said anything for a while: a good moment to see for oneself that somebody watches.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                if !waiting.is_watched()
                    && let Some(reason) = watcher_ended(waiting, on_loss)
                {
                    return Ok(Woken::Lost(reason));
                }
            }
        }
    }
}

fn tell(waiting: &Waiting<'_>, due: &[Wake]) -> Result<u8> {
    print_wakes::reasons(waiting.session, &newest(due))?;
    waiting.mark_presented(due);
    Ok(exit::OK)
}

/// The newest wake of each kind and key.
pub fn newest(due: &[Wake]) -> Vec<Wake> {
    let all: Vec<&Wake> = due.iter().collect();
    due::fold(&all).into_iter().cloned().collect()
}

/// Decides what to do without a watcher. `Some`: waiting is over, for this reason.
fn watcher_ended(waiting: &mut Waiting<'_>, on_loss: OnLoss) -> Option<String> {
    let session = waiting.session;
    match on_loss {
        OnLoss::Obtain => match obtain(session, Wish::Kept, &mut session.notes()) {
            Ok(Obtained::Healthy { .. }) => {}
            Ok(obtained) => session.console.note(format!("the watcher has ended; {obtained}")),
            Err(failure) => return Some(failure.to_string()),
        },
        OnLoss::Tell => {
            let (_, verdict) = session.verdict();
            match (verdict.is_watching(), waiting.complaint) {
                (true, _) => waiting.complaint = Complaint::Unsaid,
                (false, Complaint::Unsaid) => {
                    session.console.note(format!("{verdict}; only wakes that scripts add will come"));
                    waiting.complaint = Complaint::Said;
                }
                (false, Complaint::Said) => {}
            }
        }
    }
    waiting.watch_the_watcher();
    None
}

/// Whether a waiter has said that nobody watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Complaint {
    Unsaid,
    Said,
}

/// The line of an `arm` that has no watcher.
///
/// # Errors
/// Nobody reads.
pub fn failed(session: &Session, reason: &str) -> Result<u8> {
    match session.console.format {
        Format::Json => session.console.json(&json!({"schema": 1, "event": "failed", "reason": reason}))?,
        Format::Lines => session.console.data(&format!("watcher: FAILED - {}", crate::base::escape::line(reason)))?,
    }
    Ok(exit::FAILED)
}

fn lease(session: &Session) -> std::io::Result<Lease<Real>> {
    let directory = session.world.open_directory(&session.home.ours(names::WAITERS))?;
    Lease::take(&session.world, directory)
}

/// Hangs the waiter's bell, and listens to it in a thread of its own.
fn hang_bell(session: &Session, lease: &Lease<Real>, sender: &Sender<Notice>) -> Option<Bell> {
    let hung = Bell::hang(&session.home.ours(names::WAITERS), lease.name()).and_then(|bell| {
        let (ear, sender) = (bell.ear()?, sender.clone());
        std::thread::Builder::new().name("bell".to_owned()).spawn(move || listen(&ear, &sender))?;
        Ok(bell)
    });
    hung.map_err(|error| session.console.note(format!("waiting without a bell: {error}"))).ok()
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

/// INT comes through ctrlc, which works on every platform; TERM and HUP, which only some have, through signal-hook.
/// Each signal has one of the two, so neither takes the other's handler away. What was ignored when the process began, by
/// `nohup` or a shell's `&`, stays so.
fn listen_to_signals(sender: &Sender<Notice>) -> Result<()> {
    let mut heeded = requests::heeded(&[Cause::Interrupted, Cause::Terminated, Cause::HungUp]);
    if heeded.contains(&Cause::Interrupted) {
        let interrupted = sender.clone();
        requests::on_interrupt(move || {
            let _nobody_waits = interrupted.send(Notice::Asked(Cause::Interrupted.exit_code()));
        })
        .map_err(|error| Error::Failed(format!("cannot listen to signals: {error}")))?;
    }
    heeded.retain(|&cause| cause != Cause::Interrupted);
    let sender = sender.clone();
    hear(&heeded, move |cause| sender.send(Notice::Asked(cause.exit_code())).is_ok())
}

/// Tells each request to leave for one of these causes, as long as anybody listens.
///
/// # Errors
/// Those of the system.
pub(crate) fn hear(causes: &[Cause], tell: impl Fn(Cause) -> bool + Send + 'static) -> Result<()> {
    let mut requests = Requests::listen(causes).doing("listen to", "signals")?;
    let listen = move || {
        let _nobody_listens = requests.forever().find(|&cause| !tell(cause));
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(listen).map(drop).doing("listen to", "signals")
}
