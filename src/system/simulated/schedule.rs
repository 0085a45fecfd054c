//! What happened, as a short list that can be played again.
//!
//! `a3 b7 a! b` reads: `a` made three steps, `b` seven, then `a` died, then `b` went on to its end. `a~` says that `a`
//! did not get on for long.

use std::fmt;

use super::processes::Number;

/// One entry of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A process makes so many steps, or ends on the way.
    Turn(Number, usize),
    /// A process dies.
    Death(Number),
    /// A process does not get on for long.
    Stall(Number),
}

/// What happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Schedule(pub(crate) Vec<Entry>);

/// A schedule, told with the names of the processes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told<'a> {
    pub(crate) schedule: &'a Schedule,
    pub(crate) names: &'a [(Number, String)],
}

impl Schedule {
    /// A process begins a turn. Two turns in a row are one.
    pub(crate) fn turn(&mut self, actor: Number) {
        if !matches!(self.0.last(), Some(Entry::Turn(last, _)) if *last == actor) {
            self.0.push(Entry::Turn(actor, 0));
        }
    }

    /// The process whose turn it is makes a step.
    pub(crate) fn step(&mut self) {
        if let Some(Entry::Turn(_, steps)) = self.0.last_mut() {
            *steps += 1;
        }
    }

    /// How many steps were made.
    pub(crate) fn steps(&self) -> usize {
        self.0.iter().map(|entry| if let Entry::Turn(_, steps) = entry { *steps } else { 0 }).sum()
    }

    /// Reads what [`Told`] writes.
    pub(crate) fn parse(text: &str, names: &[(Number, String)]) -> Option<Self> {
        let number = |name: &str| names.iter().find(|(_, other)| other == name).map(|(number, _)| *number);
        let entry = |word: &str| {
            let name = word.trim_end_matches(|end: char| end.is_ascii_digit() || "!~".contains(end));
            let (actor, rest) = (number(name)?, &word[name.len()..]);
            Some(match rest {
                "!" => Entry::Death(actor),
                "~" => Entry::Stall(actor),
                steps => Entry::Turn(actor, steps.parse().ok()?),
            })
        };
        text.split_whitespace().map(entry).collect::<Option<_>>().map(Self)
    }
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |number: &Number| {
            let found = self.names.iter().find(|(other, _)| other == number);
            found.map_or("?", |(_, name)| name.as_str())
        };
        for (place, entry) in self.schedule.0.iter().enumerate() {
            let space = if place == 0 { "" } else { " " };
            match entry {
                Entry::Turn(actor, steps) => write!(formatter, "{space}{}{steps}", name(actor))?,
                Entry::Death(actor) => write!(formatter, "{space}{}!", name(actor))?,
                Entry::Stall(actor) => write!(formatter, "{space}{}~", name(actor))?,
            }
        }
        Ok(())
    }
}
