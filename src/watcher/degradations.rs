//! What works only in a slower or poorer way at present, in words, for `status`.

use std::collections::BTreeMap;
use std::fmt;

/// What can be impaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// File events.
    Events,
    /// `beat.json`.
    Beacon,
    /// The journal.
    Journal,
    /// `seen.json`.
    Checkpoint,
    /// The settings, after a HUP.
    Settings,
    /// The state directory.
    Scan,
    /// Names of signal files.
    Names,
    /// Panes.
    Panes,
    /// The inbox.
    Inbox,
    /// A program of `[[notify]]`.
    Notify,
    /// The kept daemons.
    Daemons,
    /// The wake queue and the markers of firstmate's scripts.
    Queue,
}

/// The impaired parts. A change is logged once.
#[derive(Debug, Default)]
pub struct Degradations {
    parts: BTreeMap<Part, String>,
}

/// How a part fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// As it should.
    Works,
    /// In a slower or poorer way, for this reason.
    Impaired(String),
}

impl Condition {
    /// It is impaired if this failed, for the reason that the error says.
    pub fn of<T, E: fmt::Display>(outcome: Result<T, E>) -> Self {
        outcome.map_or_else(|error| Self::Impaired(error.to_string()), |_| Self::Works)
    }
}

/// Whether something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It did: observers should hear of it soon.
    Changed,
    /// It did not.
    Same,
}

impl Degradations {
    /// Says how a part fares now.
    pub fn set(&mut self, part: Part, condition: Condition) -> Change {
        match condition {
            Condition::Works => match self.parts.remove(&part) {
                Some(_) => {
                    tracing::info!("{part:?} works again");
                    Change::Changed
                }
                None => Change::Same,
            },
            Condition::Impaired(why) if self.parts.get(&part) == Some(&why) => Change::Same,
            Condition::Impaired(why) => {
                tracing::warn!("{why}");
                self.parts.insert(part, why);
                Change::Changed
            }
        }
    }

    /// All of them, in words.
    pub fn in_words(&self) -> Vec<String> {
        self.parts.values().cloned().collect()
    }
}
