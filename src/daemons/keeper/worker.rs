//! The keeper's thread: it waits for all daemons at once and observes those to which something happened.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use super::managed::{Context, Course, Depth, Managed, Number, Report, Turn};
use super::wakeup::{WakeReceiver, Wakeup};
use crate::daemons::spawn_monitor::Starter;
use crate::layout::paths::Home;
use crate::ownership::held_home::Holding;
use crate::settings::daemon_definition::{Definition, Name};
use crate::system::handle::HandleRef;
use crate::system::identity::Standpoint;
use crate::system::platform;
use crate::system::{Real, World};

/// What the loop asks for.
#[derive(Debug)]
pub(super) enum Command {
    /// An announcement is in the journal.
    Recorded(Number),
    /// Something else is to be kept.
    Keep(Box<Plan>),
    /// Nothing is to be kept any more.
    Leave,
}

/// What is kept, and how.
#[derive(Debug)]
pub struct Plan {
    /// The kept daemons, in the order in which they are started.
    pub kept: Vec<(Name, Definition)>,
    /// How their monitors are started.
    pub starter: Starter,
    /// How often everything is looked at.
    pub poll: Duration,
}

/// Everything of the thread.
pub(super) struct Worker {
    world: Arc<Real>,
    home: Home,
    here: Standpoint,
    kept: Vec<Managed>,
    poll: Duration,
    next_poll: Duration,
    wakeup: Option<Wakeup>,
    trouble: Option<String>,
    context: Context,
}

impl Worker {
    pub(super) fn new(
        world: Arc<Real>,
        home: Home,
        holding: Arc<Holding<Real>>,
        plan: Plan,
        report: Box<dyn Fn(Report) + Send>,
    ) -> Self {
        let wakeup = Wakeup::create(&home).inspect_err(|error| {
            tracing::warn!("the keeper of the daemons has no bell and looks only by itself: {error}");
        });
        let kept = plan.kept.into_iter().map(|(name, definition)| Managed::new(&home, name, definition)).collect();
        let context = Context { holding, starter: plan.starter, report, announced: 0, course: Course::Keeping };
        let (here, next_poll) = (platform::own_standpoint(), world.now().monotonic);
        Self { world, home, here, kept, poll: plan.poll, next_poll, wakeup: wakeup.ok(), trouble: None, context }
    }

    /// Keeps until it is told to leave, or somebody else has the home.
    pub(super) fn work(mut self, commands: &Receiver<Command>, wakes: &WakeReceiver) {
        let mut touched = Vec::new();
        while self.take(commands) == Course::Keeping && self.context.course == Course::Keeping {
            let now = self.world.now().monotonic;
            let is_poll = now >= self.next_poll;
            if is_poll {
                self.next_poll = now + self.poll;
            }
            self.look(&touched, is_poll, now);
            self.report_trouble();
            touched = self.wait(wakes);
        }
    }

    fn take(&mut self, commands: &Receiver<Command>) -> Course {
        loop {
            match commands.try_recv() {
                Ok(Command::Recorded(number)) => self.kept.iter_mut().for_each(|kept| kept.recorded(number)),
                Ok(Command::Keep(plan)) => self.adopt(*plan),
                Ok(Command::Leave) | Err(TryRecvError::Disconnected) => return Course::Leaving,
                Err(TryRecvError::Empty) => return Course::Keeping,
            }
        }
    }

    /// Goes by other settings from now on.
    fn adopt(&mut self, plan: Plan) {
        let mut before: BTreeMap<Name, Managed> = self.kept.drain(..).map(|kept| (kept.name().clone(), kept)).collect();
        for (name, definition) in plan.kept {
            let kept = match before.remove(&name) {
                Some(mut kept) => {
                    kept.redefine(definition);
                    kept
                }
                None => Managed::new(&self.home, name, definition),
            };
            self.kept.push(kept);
        }
        for name in before.into_keys() {
            tracing::info!("daemon {name} is no longer kept; if it runs, it goes on");
        }
        self.context.starter = plan.starter;
        self.poll = plan.poll;
        self.next_poll = self.world.now().monotonic;
    }

    fn look(&mut self, touched: &[usize], is_poll: bool, now: Duration) {
        let mut turn = Turn::Ours;
        for (place, kept) in self.kept.iter_mut().enumerate() {
            let depth = match kept.due() {
                _ if touched.contains(&place) => Some(Depth::Full),
                Some(due) if due <= now => Some(Depth::Full),
                // Whoever waits for its turn does so only as long as it has to.
                Some(_) if turn == Turn::Ours => Some(Depth::Full),
                _ => is_poll.then_some(Depth::Fingerprint),
            };
            if let Some(depth) = depth {
                kept.look(&self.world, &self.here, depth, turn, &mut self.context);
            }
            if kept.is_on_its_way() {
                turn = Turn::AfterOthers;
            }
            if self.context.course == Course::Leaving {
                break;
            }
        }
    }

    fn report_trouble(&mut self) {
        let troubles: Vec<_> = self.kept.iter().filter_map(Managed::trouble).collect();
        let trouble = Some(troubles.join("; ")).filter(|trouble| !trouble.is_empty());
        if trouble != self.trouble {
            (self.context.report)(Report::Trouble(trouble.clone()));
            self.trouble = trouble;
        }
    }

    /// Waits for the next thing to happen, and says to which daemons it surely happened.
    fn wait(&mut self, wakes: &WakeReceiver) -> Vec<usize> {
        let mut descriptors: Vec<HandleRef<'_>> = vec![wakes.descriptor()];
        descriptors.extend(self.wakeup.as_ref().map(Wakeup::descriptor));
        let common = descriptors.len();
        let mut owners = Vec::new();
        for (place, kept) in self.kept.iter().enumerate() {
            descriptors.extend(kept.descriptors());
            owners.resize(descriptors.len() - common, place);
        }
        let ready = platform::wait_for_any(&descriptors, Some(self.patience())).unwrap_or_else(|error| {
            tracing::error!("cannot wait for daemons: {error}");
            self.world.pause(Duration::from_secs(1));
            Vec::new()
        });
        let ready: Vec<_> =
            ready.into_iter().enumerate().filter(|(_, is_ready)| *is_ready).map(|(descriptor, _)| descriptor).collect();
        if ready.contains(&0) {
            wakes.take();
        }
        if let Some(wakeup) = self.wakeup.as_ref().filter(|_| ready.contains(&1) && common > 1) {
            wakeup.drain();
            // Whoever wrote has changed something in a directory, and that shows in its times.
            self.next_poll = Duration::ZERO;
        }
        ready.iter().filter_map(|&descriptor| owners.get(descriptor.checked_sub(common)?).copied()).collect()
    }

    fn patience(&self) -> Duration {
        let due = self.kept.iter().filter_map(Managed::due).min();
        due.map_or(self.next_poll, |due| due.min(self.next_poll)).saturating_sub(self.world.now().monotonic)
    }
}
