//! Who believes to hold what, and what was promised: the facts that a test judges by.
//!
//! A process enters a hold when its protocol told it that it has the lock, and leaves it before it begins to give the
//! lock back. Its death ends its holds. Two processes in one hold at one time are what no lock may ever allow.

use super::processes::Number;

/// The beliefs and promises of all processes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Ledger {
    holds: Vec<(String, Number)>,
    promises: Vec<String>,
    violation: Option<String>,
}

impl Ledger {
    /// A process believes to hold something from now on. Returns who else does.
    pub(crate) fn enter(&mut self, what: &str, process: Number) -> Option<Number> {
        let other = self.holds.iter().find(|(held, _)| held == what).map(|(_, holder)| *holder);
        self.holds.push((what.to_owned(), process));
        other
    }

    /// It no longer does.
    pub(crate) fn leave(&mut self, what: &str, process: Number) {
        self.holds.retain(|(held, holder)| (held.as_str(), *holder) != (what, process));
    }

    /// A process has ended.
    pub(crate) fn end(&mut self, process: Number) {
        self.holds.retain(|(_, holder)| *holder != process);
    }

    /// Something was promised to the outside and must be kept, whatever happens from now on.
    pub(crate) fn promise(&mut self, promise: String) {
        self.promises.push(promise);
    }

    pub(crate) fn promises(&self) -> &[String] {
        &self.promises
    }

    /// Notes what must never be. The first note counts.
    pub(crate) fn violate(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    pub(crate) fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }
}
