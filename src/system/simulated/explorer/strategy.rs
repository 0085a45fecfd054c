//! How a search makes its choices: all of them one after the other, or as a plan says.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use super::search::Branch;
use crate::system::simulated::digest::Digest;
use crate::system::simulated::machine::Machine;
use crate::system::simulated::options::{Choice, Spent};
use crate::system::simulated::processes::Number;
use crate::system::simulated::schedule::{Entry, Schedule};

/// How choices are made.
#[derive(Debug)]
pub(crate) enum Strategy {
    Exhaustive(Exhaustive),
    /// The plan, with its end first.
    Replay {
        plan: Vec<Entry>,
    },
}

/// All choices, one after the other.
#[derive(Debug)]
pub(crate) struct Exhaustive {
    pub(crate) most: Spent,
    pub(crate) together: usize,
    /// States that were met, each with what was spent until then.
    pub(crate) seen: HashMap<u64, Vec<Spent>>,
    /// What is still to be tried.
    pub(crate) ahead: Vec<Branch>,
}

impl Exhaustive {
    pub(crate) fn within(most: Spent, together: usize) -> Self {
        Self { most, together, seen: HashMap::new(), ahead: Vec::new() }
    }

    /// Whether this state was met before with at least as much left to spend. From now on it was.
    pub(crate) fn has_seen(&mut self, machine: &Machine, current: Option<Number>, spent: Spent) -> bool {
        let known = self.seen.entry(digest(machine, current)).or_default();
        if known.iter().any(|other| other.is_within(spent)) {
            return true;
        }
        known.retain(|other| !spent.is_within(*other));
        known.push(spent);
        false
    }
}

fn digest(machine: &Machine, current: Option<Number>) -> u64 {
    let mut digest = Digest::default();
    machine.hash(&mut digest);
    current.hash(&mut digest);
    digest.finish()
}

/// What a plan says next, when this much of it has happened.
pub(crate) fn next_of(plan: &mut Vec<Entry>, schedule: &Schedule) -> Option<Choice> {
    match plan.last().copied()? {
        Entry::Turn(actor, steps) => {
            match schedule.0.last() {
                Some(Entry::Turn(last, made)) if *last == actor && *made >= steps => {
                    plan.pop();
                    return next_of(plan, schedule);
                }
                _ => {}
            }
            Some(Choice::Run(actor))
        }
        Entry::Death(actor) => {
            plan.pop();
            Some(Choice::Crash(actor))
        }
        Entry::Stall(actor) => {
            plan.pop();
            Some(Choice::Stall(actor))
        }
    }
}
