//! What can happen next, and what of it is out of the ordinary.

use super::machine::Machine;
use super::processes::{Life, Number};
use super::scenario::Scenario;
use super::stage::Notice;

/// One thing that can happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// A process goes on; one that sleeps wakes up first.
    Run(Number),
    /// A process dies.
    Crash(Number),
    /// A process does not get on for long.
    Stall(Number),
}

/// How many things out of the ordinary happened, or may happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    /// A process had to wait although it could have gone on, or slept longer than it wanted.
    pub(crate) switches: usize,
    /// Deaths.
    pub(crate) crashes: usize,
    /// Long waits.
    pub(crate) stalls: usize,
}

impl Spent {
    pub(crate) fn total(self) -> usize {
        self.switches + self.crashes + self.stalls
    }

    pub(crate) fn is_within(self, other: Self) -> bool {
        self.switches <= other.switches && self.crashes <= other.crashes && self.stalls <= other.stalls
    }

    fn switch(self) -> Self {
        Self { switches: self.switches + 1, ..self }
    }
}

/// Everything that can happen next, the most ordinary first, each with what is spent then. `current` was about to make
/// a call.
///
/// Not every moment is a moment to die in. What a process holds in the kernel ends with it, so its death is the same
/// whether it comes before or after steps of its own that changed nothing on disk. And the death of one that waits is
/// the same before and after steps of others that have nothing to do with who lives. Only the last of such moments
/// counts.
pub(crate) fn options(
    scenario: &Scenario,
    machine: &mut Machine,
    current: Option<(Number, Notice)>,
    spent: Spent,
) -> Vec<(Choice, Spent)> {
    let actors = || scenario.actors.iter().map(|actor| actor.number);
    let may_begin = scenario.actors.iter().filter(|actor| !scenario.has_to_wait_for_its_like(machine, actor));
    let going_on = may_begin.map(|actor| actor.number).filter(|actor| machine.processes[*actor].goes_on());
    let (ready, asleep): (Vec<_>, Vec<_>) = going_on.partition(|actor| machine.is_ready(*actor));
    let notice = current.map(|(_, notice)| notice);
    let current = current.map(|(current, _)| current).filter(|current| ready.contains(current));
    let mut options: Vec<_> = current.map(|current| (Choice::Run(current), spent)).into_iter().collect();
    let preempting = if current.is_some() { spent.switch() } else { spent };
    options
        .extend(ready.iter().filter(|actor| Some(**actor) != current).map(|actor| (Choice::Run(*actor), preempting)));
    let first_to_wake = asleep.iter().map(|actor| machine.processes[*actor].sleeps_until).min();
    let mut sleepers: Vec<_> = asleep
        .into_iter()
        .map(|actor| {
            let is_in_order = ready.is_empty() && Some(machine.processes[actor].sleeps_until) == first_to_wake;
            (Choice::Run(actor), if is_in_order { spent } else { spent.switch() })
        })
        .collect();
    sleepers.sort_by_key(|(_, spent)| spent.switches);
    options.extend(sleepers);
    let changes = machine.disk.changes;
    machine.thought_of.resize(machine.processes.len(), u64::MAX);
    let living: Vec<_> = actors()
        .filter(|actor| machine.processes[*actor].life == Life::Living)
        .filter(|actor| match current {
            Some(current) if current == *actor => machine.thought_of[*actor] != changes,
            Some(_) => notice == Some(Notice::OfLives),
            None => true,
        })
        .collect();
    for actor in &living {
        machine.thought_of[*actor] = changes;
    }
    options
        .extend(living.into_iter().map(|actor| (Choice::Crash(actor), Spent { crashes: spent.crashes + 1, ..spent })));
    options.extend(current.map(|current| (Choice::Stall(current), Spent { stalls: spent.stalls + 1, ..spent })));
    options
}
