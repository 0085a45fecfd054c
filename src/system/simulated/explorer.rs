//! Looks for a schedule in which something happens that must not.
//!
//! # Theory
//!
//! Before each call that others could notice there is a choice: the process goes on, another one does, one dies, one
//! does not get on for long. A search tries all choices within [`Bounds`]: first those with nothing out of the
//! ordinary, then with one such thing, then with two. A state that was seen with as much left to spend is not looked at
//! again; most schedules differ only in the order of steps that do not touch each other, and meet in the same state.
//!
//! So "nothing was found" is a statement about all schedules within the bounds ([`Explored::is_whole`]), not about
//! those that came up.
//!
//! If this is wrong, a lock is believed that does not hold. So every protocol that is explored has twins
//! without one of its protections, in which a search must find something, and what it finds is played again from its
//! schedule.
//!
//! Limits: the bounds. Two states that share a digest are taken for one; see [`super::digest`].

mod search;
mod strategy;

use std::fmt;
use std::time::{Duration, Instant};

use super::options::Spent;
use super::scenario::Scenario;
use super::schedule::{Schedule, Told};
use search::{Branch, Found, Search};
use strategy::{Exhaustive, Strategy};

/// How far a search goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The most of each thing out of the ordinary.
    pub(crate) most: Spent,
    /// The most of them together.
    pub(crate) together: usize,
    /// The most schedules to try.
    pub(crate) budget: usize,
}

impl Bounds {
    /// So many switches, deaths and stalls, in any combination.
    pub(crate) fn of(switches: usize, crashes: usize, stalls: usize) -> Self {
        let most = Spent { switches, crashes, stalls };
        Self { most, together: most.total(), budget: 60_000 }
    }

    /// But not more than so many of them together.
    pub(crate) fn together(self, together: usize) -> Self {
        Self { together, ..self }
    }
}

/// What a search has found.
#[derive(Debug)]
pub(crate) struct Explored {
    /// How many schedules were tried, each at least in a part of its own.
    pub(crate) schedules: usize,
    /// How many states were told apart.
    pub(crate) states: usize,
    /// Whether everything within the bounds was looked at.
    pub(crate) is_whole: bool,
    /// How long that took.
    pub(crate) took: Duration,
    /// What must not be and was seen.
    pub(crate) violation: Option<Violation>,
}

/// Something that must not be.
#[derive(Debug)]
pub(crate) struct Violation {
    /// What it is.
    pub(crate) what: String,
    /// How it came to be; [`replay`] takes it.
    pub(crate) schedule: String,
    /// In how many steps.
    pub(crate) steps: usize,
    /// Each of them.
    pub(crate) trace: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{} after {} steps: {}", self.what, self.steps, self.schedule)?;
        self.trace.iter().try_for_each(|line| writeln!(formatter, "    {line}"))
    }
}

impl fmt::Display for Explored {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { schedules, states, .. } = self;
        write!(formatter, "{schedules} schedules, {states} states in {:?}", self.took)
    }
}

impl Explored {
    /// Panics with the schedule if anything was found, or if not everything was looked at.
    #[track_caller]
    pub(crate) fn assert_holds(&self) {
        if let Some(violation) = &self.violation {
            panic!("{violation}");
        }
        assert!(self.is_whole, "more than {} schedules; give the search narrower bounds", self.schedules);
    }

    /// The violation. Panics if none was found.
    #[track_caller]
    pub(crate) fn assert_found(self) -> Violation {
        let Self { schedules, states, violation, .. } = self;
        violation.unwrap_or_else(|| panic!("nothing was found in {schedules} schedules and {states} states"))
    }
}

/// Tries all schedules within the bounds, the most ordinary first.
pub(crate) fn explore(scenario: &Scenario, bounds: Bounds) -> Explored {
    let began = Instant::now();
    let mut explored = Explored { schedules: 0, states: 0, is_whole: true, took: Duration::ZERO, violation: None };
    for together in 0..=bounds.together {
        let all = Exhaustive::within(bounds.most, together);
        let search = Search::new(scenario, Strategy::Exhaustive(all));
        let mut is_whole = search.go(Branch::first(scenario));
        while is_whole && explored.schedules + search.schedules() < bounds.budget {
            let Some(branch) = search.next_branch() else { break };
            is_whole = search.go(branch);
        }
        let found = search.take();
        explored.schedules += found.schedules;
        explored.states = found.states;
        explored.is_whole = found.is_whole;
        if let Some((what, schedule)) = found.violation {
            explored.violation = Some(describe(scenario, what, &schedule));
        }
        if explored.violation.is_some() || !explored.is_whole {
            break;
        }
    }
    explored.took = began.elapsed();
    explored
}

/// Plays a schedule again. What it does not say happens in the ordinary way.
pub(crate) fn replay(scenario: &Scenario, schedule: &str) -> Explored {
    let plan = Schedule::parse(schedule, &scenario.names).expect("a schedule of these processes");
    let violation = play(scenario, plan.clone()).map(|(what, trace)| Violation {
        what,
        schedule: schedule.to_owned(),
        steps: plan.steps(),
        trace,
    });
    Explored { schedules: 1, states: 0, is_whole: true, took: Duration::ZERO, violation }
}

fn describe(scenario: &Scenario, what: String, schedule: &Schedule) -> Violation {
    let told = Told { schedule, names: &scenario.names }.to_string();
    let (again, trace) = play(scenario, schedule.clone()).expect("the same schedule does the same again");
    assert_eq!(again, what, "the same schedule {told} does the same again");
    Violation { what, schedule: told, steps: schedule.steps(), trace }
}

fn play(scenario: &Scenario, plan: Schedule) -> Option<(String, Vec<String>)> {
    let mut plan = plan.0;
    plan.reverse();
    let search = Search::new(scenario, Strategy::Replay { plan });
    search.go(Branch::first(scenario));
    let Found { violation, trace, .. } = search.take();
    violation.map(|(what, _)| (what, trace))
}
