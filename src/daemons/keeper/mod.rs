//! The keeper: the part of the resident watcher that keeps daemons running.
//!
//! # Theory
//!
//! The daemons of the settings with `restart = "on-failure"` or `"always"` are kept: they are started when the watcher
//! starts, in the order of the settings, each as soon as the one before it is ready or has failed, and again when they end
//! ([`decide`], a pure function). The keeper starts monitors and never daemons, so it is nobody's parent, and nothing
//! ends with it: a watcher that is restarted, taken over or killed, or that gets a TERM from a service manager, leaves its
//! daemons running. Only a person's `fm-watch stop` stops them too, after the watcher has left. The next keeper
//! recognises the living ones by their identity, gives those a monitor that lost theirs, and starts only what is absent.
//!
//! It runs in a thread of its own and waits in one poll(2): for the ends of monitors (which come after their daemon's, when
//! that is written down), for what monitors say that it started, for its wake-up FIFO, for commands of the loop, and for the
//! times of restarts. Besides it looks at each directory once per poll of the watcher, and reads what is in it only if
//! it has changed. So an idle daemon costs one system call per poll.
//!
//! What happened is announced as a wake before it counts as dealt with on disk (`managed`), so a watcher that is killed at
//! any instant announces a thing twice rather than never.
//!
//! Two watchers never keep one home: before each start and each record the keeper asks whether its watcher still holds the
//! home. In the instant between that question and the act, the monitor's lock decides, as it does between any two.
//!
//! # Limits
//! A service manager that kills a whole group of processes with the watcher kills the daemons as well; systemd has to be
//! told `KillMode=process`.
//!
//! A daemon that is taken out of the settings is no longer kept, and not stopped. What does not answer any more but
//! lives is left alone: that it stands still is for a person to judge.

pub mod decide;
mod managed;
mod observe;
#[cfg(test)]
mod tests;
mod wakeup;
mod worker;

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

pub use self::managed::Report;
use self::wakeup::Waker;
pub use self::worker::Plan;
use self::worker::{Command, Worker};
use crate::base::wait_until::wait_until;
use crate::layout::paths::Home;
use crate::ownership::held_home::Holding;
use crate::settings::Settings;
use crate::settings::daemon_definition::{Definition, Name, Restart};
use crate::system::Real;

/// The loop's end of the keeper.
#[derive(Debug)]
pub struct Keeper {
    commands: Sender<Command>,
    waker: Waker,
    thread: JoinHandle<()>,
}

impl Keeper {
    /// Starts the thread, which begins to keep at once.
    ///
    /// # Errors
    /// The system has no thread or no pipe left.
    pub fn start(
        world: Arc<Real>,
        home: Home,
        holding: Arc<Holding<Real>>,
        plan: Plan,
        report: impl Fn(Report) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (commands, inbound) = channel();
        let (waker, receiver) = wakeup::waker()?;
        let work = move || Worker::new(world, home, holding, plan, Box::new(report)).work(&inbound, &receiver);
        let thread = std::thread::Builder::new().name("keeper".to_owned()).spawn(work)?;
        Ok(Self { commands, waker, thread })
    }

    /// Takes back the number of an announcement that is in the journal.
    pub fn recorded(&self, number: u64) {
        self.send(Command::Recorded(number));
    }

    /// Keeps something else from now on.
    pub fn keep(&self, plan: Plan) {
        self.send(Command::Keep(Box::new(plan)));
    }

    /// Stops keeping, and waits a moment for what is being done. The daemons go on.
    pub fn leave(&self) {
        const AT_MOST: Duration = Duration::from_millis(500);
        self.send(Command::Leave);
        let has_left = wait_until(AT_MOST, Duration::from_millis(1), || self.thread.is_finished().then_some(()));
        if has_left.is_none() {
            tracing::warn!("leaving while a daemon is looked after; the next watcher goes on with that");
        }
    }

    fn send(&self, send: Command) {
        // A keeper that has left after an eviction needs no commands.
        if self.commands.send(send).is_ok() {
            self.waker.give();
        }
    }
}

/// The daemons of the settings that are kept.
pub fn kept(home: &Home, settings: &Settings) -> Vec<(Name, Definition)> {
    let kept = settings.daemons.iter().filter(|daemon| daemon.restart != Restart::No);
    kept.map(|daemon| (daemon.name.clone(), daemon.definition(home.root(), settings))).collect()
}
