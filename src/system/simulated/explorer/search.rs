//! One search under way: it follows branches to their ends, and directs every process on the way.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::strategy::{Strategy, next_of};
use crate::system::simulated::machine::Machine;
use crate::system::simulated::options::{Choice, Spent, options};
use crate::system::simulated::processes::Number;
use crate::system::simulated::scenario::Scenario;
use crate::system::simulated::schedule::{Entry, Schedule, Told};
use crate::system::simulated::stage::{Call, Director, Exit, Flow, Notice, System, perform};

/// A schedule with more steps than this does not end.
const MOST_STEPS: usize = 20_000;
/// So long is a stall: longer than any protocol of ours watches anything.
const STALL: Duration = Duration::from_secs(10);

/// Where a schedule goes on: this choice, at this moment.
#[derive(Debug, Clone)]
pub(crate) struct Branch {
    pub(crate) system: Arc<System>,
    pub(crate) schedule: Schedule,
    pub(crate) spent: Spent,
    pub(crate) current: Option<(Number, Notice)>,
    /// `None`: it is to be decided.
    pub(crate) choice: Option<Choice>,
}

impl Branch {
    pub(crate) fn first(scenario: &Scenario) -> Self {
        let (schedule, spent) = (Schedule::default(), Spent::default());
        Self { system: Arc::new(scenario.beginning()), schedule, spent, current: None, choice: None }
    }
}

/// A search under way. It is the director of every process that goes on.
#[derive(Debug)]
struct Searching {
    scenario: Scenario,
    strategy: Strategy,
    /// The schedule that is being tried, what was spent in it, and what is chosen next.
    schedule: Schedule,
    spent: Spent,
    chosen: Option<Choice>,
    /// At how many changes of the disk and promises it was judged last.
    judged_at: Option<(u64, usize)>,
    /// Who was about to make which sort of call when it had to leave the stage.
    waiting: Option<(Number, Notice)>,
    steps: usize,
    found: Found,
}

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) schedules: usize,
    pub(crate) states: usize,
    pub(crate) is_whole: bool,
    pub(crate) violation: Option<(String, Schedule)>,
    pub(crate) trace: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Search(Arc<Mutex<Searching>>);

impl Search {
    pub(crate) fn new(scenario: &Scenario, strategy: Strategy) -> Self {
        Self(Arc::new(Mutex::new(Searching {
            scenario: scenario.clone(),
            strategy,
            schedule: Schedule::default(),
            spent: Spent::default(),
            chosen: None,
            judged_at: None,
            waiting: None,
            steps: 0,
            found: Found::default(),
        })))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Searching) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn schedules(&self) -> usize {
        self.with(|search| search.found.schedules)
    }

    pub(crate) fn next_branch(&self) -> Option<Branch> {
        self.with(|search| match &mut search.strategy {
            Strategy::Exhaustive(all) => all.ahead.pop(),
            Strategy::Replay { .. } => None,
        })
    }

    pub(crate) fn take(&self) -> Found {
        self.with(|search| {
            let mut found = std::mem::take(&mut search.found);
            found.is_whole = true;
            if let Strategy::Exhaustive(all) = &search.strategy {
                found.states = all.seen.len();
                found.is_whole = all.ahead.is_empty();
            }
            found
        })
    }

    /// Follows a branch to its end. Says whether nothing was found.
    pub(crate) fn go(&self, branch: Branch) -> bool {
        let scenario = self.with(|search| {
            search.found.schedules += 1;
            (search.schedule, search.spent, search.steps) = (branch.schedule, branch.spent, 0);
            search.judged_at = None;
            search.scenario.clone()
        });
        let mut system = Arc::unwrap_or_clone(branch.system);
        let mut current = branch.current;
        let mut choice = branch.choice.or_else(|| self.with(|search| search.decide(&mut system, current)));
        while let Some(next) = choice.take() {
            match next {
                Choice::Crash(actor) => {
                    system.machine.end(actor);
                    self.with(|search| search.schedule.0.push(Entry::Death(actor)));
                }
                Choice::Stall(actor) => {
                    system.machine.processes[actor].sleeps_until = system.machine.clock + STALL;
                    self.with(|search| search.schedule.0.push(Entry::Stall(actor)));
                }
                Choice::Run(actor) => {
                    system.machine.wait_for(actor);
                    self.with(|search| search.schedule.turn(actor));
                    let exit;
                    (system, exit) = perform(system, actor, scenario.program(actor), Box::new(self.clone()));
                    current = self.with(|search| search.waiting.take()).filter(|_| exit == Exit::Left);
                    choice = self.with(|search| {
                        search.note_exit(&exit);
                        search.chosen.take()
                    });
                    if current.is_some() && choice.is_none() {
                        break;
                    }
                }
            }
            self.with(|search| search.judge(&system.machine));
            if self.with(|search| search.found.violation.is_some()) {
                return false;
            }
            choice = choice.or_else(|| self.with(|search| search.decide(&mut system, current)));
        }
        self.with(|search| search.found.violation.is_none()) && self.finish(&scenario, system)
    }

    /// Lets the last process do its work, if all others have ended.
    fn finish(&self, scenario: &Scenario, system: System) -> bool {
        let has_ended = scenario.actors.iter().all(|actor| !system.machine.processes[actor.number].goes_on());
        let Some(last) = scenario.afterwards.as_ref().filter(|_| has_ended) else { return true };
        if self.with(|search| search.has_finished_so(&system.machine)) {
            return true;
        }
        self.with(|search| search.schedule.turn(last.number));
        let (system, exit) = perform(system, last.number, last.program.as_ref(), Box::new(Epilogue(self.clone())));
        self.with(|search| {
            search.note_exit(&exit);
            search.judge(&system.machine);
            search.found.violation.is_none()
        })
    }
}

impl Director for Search {
    fn before(&mut self, system: &mut System, actor: Number, notice: Notice) -> Flow {
        self.with(|search| {
            search.chosen = None;
            search.waiting = Some((actor, notice));
            if search.found.violation.is_some() {
                return Flow::Leave;
            }
            search.chosen = search.decide(system, Some((actor, notice)));
            if search.chosen == Some(Choice::Run(actor)) {
                search.chosen = None;
                system.machine.wait_for(actor);
                return Flow::GoOn;
            }
            Flow::Leave
        })
    }

    fn after(&mut self, machine: &Machine, actor: Number, call: &Call<'_>, answer: &dyn fmt::Debug) {
        self.with(|search| search.note_call(machine, actor, call, answer));
    }
}

/// The director of the last process: only that looks on.
#[derive(Debug)]
struct Epilogue(Search);

impl Director for Epilogue {
    fn before(&mut self, system: &mut System, actor: Number, _notice: Notice) -> Flow {
        system.machine.wait_for(actor);
        let has_to_end = self.0.with(|search| search.found.violation.is_some());
        if has_to_end { Flow::Leave } else { Flow::GoOn }
    }

    fn after(&mut self, machine: &Machine, actor: Number, call: &Call<'_>, answer: &dyn fmt::Debug) {
        self.0.after(machine, actor, call, answer);
    }
}

impl Searching {
    fn violate(&mut self, what: String) {
        if self.found.violation.is_none() {
            self.found.violation = Some((what, self.schedule.clone()));
        }
    }

    fn judge(&mut self, machine: &Machine) {
        if let Some(what) = machine.ledger.violation() {
            self.violate(what.to_owned());
        }
        let now = (machine.disk.changes, machine.ledger.promises().len());
        if self.judged_at != Some(now) {
            self.judged_at = Some(now);
            if let Some(what) = self.scenario.judge(machine) {
                self.violate(what);
            }
        }
    }

    fn note_exit(&mut self, exit: &Exit) {
        match exit {
            Exit::Through(None) | Exit::Left => {}
            Exit::Through(Some(what)) => self.violate(what.clone()),
            Exit::Panicked(what) => self.violate(format!("a panic: {what}")),
        }
    }

    fn note_call(&mut self, machine: &Machine, actor: Number, call: &Call<'_>, answer: &dyn fmt::Debug) {
        if call.notice.is_public() {
            self.schedule.step();
            self.steps += 1;
        }
        if matches!(self.strategy, Strategy::Replay { .. }) {
            let told = Told { schedule: &Schedule(vec![Entry::Turn(actor, self.steps)]), names: &self.scenario.names }
                .to_string();
            self.found.trace.push(format!("{told}: {} {} -> {answer:?}", call.verb, call.object));
        }
        self.judge(machine);
        if self.steps > MOST_STEPS {
            self.violate(format!("no end after {MOST_STEPS} steps"));
        }
    }

    /// What happens next; `None` when nothing can, or when it has been looked at.
    fn decide(&mut self, system: &mut System, current: Option<(Number, Notice)>) -> Option<Choice> {
        let options = options(&self.scenario, &mut system.machine, current, self.spent);
        let (choice, spent) = match &mut self.strategy {
            Strategy::Exhaustive(all) => {
                let is_within = |spent: Spent| spent.is_within(all.most) && spent.total() <= all.together;
                let options: Vec<_> = options.into_iter().filter(|(_, spent)| is_within(*spent)).collect();
                if all.has_seen(&system.machine, current.map(|(actor, _)| actor), self.spent) {
                    return None;
                }
                if options.len() > 1 {
                    let system = Arc::new(system.clone());
                    all.ahead.extend(options[1..].iter().rev().map(|(choice, spent)| Branch {
                        system: Arc::clone(&system),
                        schedule: self.schedule.clone(),
                        spent: *spent,
                        current,
                        choice: Some(*choice),
                    }));
                }
                options.first().copied()?
            }
            Strategy::Replay { plan } => next_of(plan, &self.schedule)
                .map_or_else(|| options.first().copied(), |choice| Some((choice, self.spent)))?,
        };
        self.spent = spent;
        Some(choice)
    }

    /// Whether all have ended in a state in which they have ended before.
    fn has_finished_so(&mut self, machine: &Machine) -> bool {
        match &mut self.strategy {
            Strategy::Exhaustive(all) => all.has_seen(machine, Some(Number::MAX), Spent::default()),
            Strategy::Replay { .. } => false,
        }
    }
}
