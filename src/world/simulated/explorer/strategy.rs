//! How a search makes its choices: all of them one after the other, or as a plan says.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use super::super::digest::Digest;
use super::super::machine::Machine;
use super::super::options::{Choice, Spent};
use super::super::processes::Number;
use super::super::schedule::{Entry, Schedule};
use super::search::Branch;

/// How choices are made.
#[derive(Debug)]
pub(super) enum Strategy {
    Exhaustive(Exhaustive),
    /// The plan, with its end first.
    Replay {
        plan: Vec<Entry>,
    },
}

/// All choices, one after the other.
#[derive(Debug)]
pub(super) struct Exhaustive {
    pub(super) most: Spent,
    pub(super) together: usize,
    /// States that were met, each with what was spent until then.
    pub(super) seen: HashMap<u64, Vec<Spent>>,
    /// What is still to be tried.
    pub(super) ahead: Vec<Branch>,
}

impl Exhaustive {
    pub(super) fn within(most: Spent, together: usize) -> Self {
        Self { most, together, seen: HashMap::new(), ahead: Vec::new() }
    }

    /// Whether this state was met before with at least as much left to spend. From now on it was.
    pub(super) fn has_seen(&mut self, machine: &Machine, current: Option<Number>, spent: Spent) -> bool {
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
pub(super) fn next_of(plan: &mut Vec<Entry>, schedule: &Schedule) -> Option<Choice> {
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
