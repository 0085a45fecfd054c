//! The keeper's thread: it waits for all daemons at once and looks at those to which something happened.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use super::managed::{Depth, Hands, Kept, Turn};
use super::memory::Number;
use super::wakeup::{Bell, Nudged};
use super::{Plan, Report};
use crate::daemons::spawn_monitor::Starter;
use crate::home::paths::Home;
use crate::lock::Ownership;
use crate::ownership::held_home::Holding;
use crate::settings::daemon_definition::Name;
use crate::system::handle::HandleRef;
use crate::system::identity::Standpoint;
use crate::system::platform;
use crate::system::{Real, World};

/// What the loop asks for.
#[derive(Debug)]
pub(super) enum Order {
    /// An announcement is in the journal.
    Recorded(Number),
    /// Something else is to be kept.
    Keep(Box<Plan>),
    /// Nothing is to be kept any more.
    Leave,
}

/// Why the thread goes on or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    Keeping,
    Leaving,
}

/// Everything of the thread.
pub(super) struct Desk {
    world: Arc<Real>,
    home: Home,
    here: Standpoint,
    kept: Vec<Kept>,
    poll: Duration,
    next_poll: Duration,
    bell: Option<Bell>,
    state: Result<(), String>,
    office: Office,
}

/// What a look at one daemon acts through.
struct Office {
    holding: Arc<Holding<Real>>,
    starter: Starter,
    report: Box<dyn Fn(Report) + Send>,
    announced: Number,
    course: Course,
}

impl Hands for Office {
    fn announce(&mut self, name: &Name, what: &str, last_words: Option<String>) -> Number {
        self.announced += 1;
        tracing::debug!("daemon {name} {what}");
        let (name, what) = (name.clone(), what.to_owned());
        (self.report)(Report::Happened { number: self.announced, name, what, last_words });
        self.announced
    }

    fn may_act(&mut self) -> bool {
        match self.holding.check() {
            Ok(Ownership::Held) => true,
            Ok(Ownership::Lost(eviction)) => {
                tracing::info!("the daemons are kept no longer: {eviction}");
                self.course = Course::Leaving;
                false
            }
            Err(error) => {
                tracing::debug!("cannot look whether the home is still held: {error}");
                false
            }
        }
    }

    fn starter(&self) -> &Starter {
        &self.starter
    }
}

impl Desk {
    pub(super) fn new(
        world: Arc<Real>,
        home: Home,
        holding: Arc<Holding<Real>>,
        plan: Plan,
        report: Box<dyn Fn(Report) + Send>,
    ) -> Self {
        let bell = Bell::hang(&home).inspect_err(|error| {
            tracing::warn!("the keeper of the daemons has no bell and looks only by itself: {error}");
        });
        let kept = plan.kept.into_iter().map(|(name, definition)| Kept::new(&home, name, definition)).collect();
        let office = Office { holding, starter: plan.starter, report, announced: 0, course: Course::Keeping };
        let (here, next_poll) = (platform::own_standpoint(), world.now().monotonic);
        Self { world, home, here, kept, poll: plan.poll, next_poll, bell: bell.ok(), state: Ok(()), office }
    }

    /// Keeps until it is told to leave, or somebody else has the home.
    pub(super) fn work(mut self, orders: &Receiver<Order>, nudged: &Nudged) {
        let mut touched = Vec::new();
        while self.take(orders) == Course::Keeping && self.office.course == Course::Keeping {
            let now = self.world.now().monotonic;
            let is_poll = now >= self.next_poll;
            if is_poll {
                self.next_poll = now + self.poll;
            }
            self.look(&touched, is_poll, now);
            self.tell_state();
            touched = self.wait(nudged);
        }
    }

    fn take(&mut self, orders: &Receiver<Order>) -> Course {
        loop {
            match orders.try_recv() {
                Ok(Order::Recorded(number)) => self.kept.iter_mut().for_each(|kept| kept.recorded(number)),
                Ok(Order::Keep(plan)) => self.adopt(*plan),
                Ok(Order::Leave) | Err(TryRecvError::Disconnected) => return Course::Leaving,
                Err(TryRecvError::Empty) => return Course::Keeping,
            }
        }
    }

    /// Goes by other settings from now on.
    fn adopt(&mut self, plan: Plan) {
        let mut before: BTreeMap<Name, Kept> = self.kept.drain(..).map(|kept| (kept.name().clone(), kept)).collect();
        for (name, definition) in plan.kept {
            let kept = match before.remove(&name) {
                Some(mut kept) => {
                    kept.redefine(definition);
                    kept
                }
                None => Kept::new(&self.home, name, definition),
            };
            self.kept.push(kept);
        }
        for name in before.into_keys() {
            tracing::info!("daemon {name} is no longer kept; if it runs, it goes on");
        }
        self.office.starter = plan.starter;
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
                _ => is_poll.then_some(Depth::Glance),
            };
            if let Some(depth) = depth {
                kept.look(&self.world, &self.here, depth, turn, &mut self.office);
            }
            if kept.is_on_its_way() {
                turn = Turn::AfterOthers;
            }
            if self.office.course == Course::Leaving {
                break;
            }
        }
    }

    fn tell_state(&mut self) {
        let troubles: Vec<_> = self.kept.iter().filter_map(Kept::trouble).collect();
        let state = if troubles.is_empty() { Ok(()) } else { Err(troubles.join("; ")) };
        if state != self.state {
            (self.office.report)(Report::State(state.clone()));
            self.state = state;
        }
    }

    /// Waits for the next thing to happen, and says to which daemons it surely happened.
    fn wait(&mut self, nudged: &Nudged) -> Vec<usize> {
        let mut ears: Vec<HandleRef<'_>> = vec![nudged.ear()];
        ears.extend(self.bell.as_ref().map(Bell::ear));
        let common = ears.len();
        let mut owners = Vec::new();
        for (place, kept) in self.kept.iter().enumerate() {
            ears.extend(kept.ears());
            owners.resize(ears.len() - common, place);
        }
        let ready = platform::wait_for_any(&ears, Some(self.patience())).unwrap_or_else(|error| {
            tracing::error!("cannot wait for daemons: {error}");
            self.world.pause(Duration::from_secs(1));
            Vec::new()
        });
        let ready: Vec<_> =
            ready.into_iter().enumerate().filter(|(_, is_ready)| *is_ready).map(|(ear, _)| ear).collect();
        if ready.contains(&0) {
            nudged.take();
        }
        if let Some(bell) = self.bell.as_ref().filter(|_| ready.contains(&1) && common > 1) {
            bell.hush();
            // Whoever rang has changed something in a directory, and that shows at a glance.
            self.next_poll = Duration::ZERO;
        }
        ready.iter().filter_map(|&ear| owners.get(ear.checked_sub(common)?).copied()).collect()
    }

    fn patience(&self) -> Duration {
        let due = self.kept.iter().filter_map(Kept::due).min();
        due.map_or(self.next_poll, |due| due.min(self.next_poll)).saturating_sub(self.world.now().monotonic)
    }
}
