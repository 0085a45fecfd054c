//! What the keeper remembers of one daemon and has not written down yet.
//!
//! An end counts as dealt with on disk only when its wake is in the journal, so that a watcher that is killed in between
//! announces it again. Until then, and while the disk is full, the keeper goes by what it has in mind. A person who takes
//! the file away (`daemon restart`) wins over that: what was thought of on the base of another file is forgotten.

use std::collections::BTreeSet;

use crate::daemons::records::Keeping;

/// The number of an announcement, unique in one run of the keeper.
pub(super) type Number = u64;

/// What is in mind and not on disk.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Pending {
    /// What was on disk when it was thought of.
    base: Option<Keeping>,
    keeping: Keeping,
    /// Announcements that have to be recorded first.
    awaited: BTreeSet<Number>,
}

impl Memory {
    /// What is in force, with this on disk.
    pub(super) fn recall(&mut self, disk: Option<Keeping>) -> Option<Keeping> {
        match &self.pending {
            Some(pending) if pending.base == disk => Some(pending.keeping.clone()),
            _ => {
                self.pending = None;
                disk
            }
        }
    }

    /// Whether everything is on disk.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_none()
    }

    /// Keeps this in mind, with this on disk. `announcement` has to be recorded before it may be written.
    pub(super) fn keep(&mut self, disk: Option<Keeping>, keeping: Keeping, announcement: Option<Number>) {
        let before = self.pending.take().filter(|pending| pending.base == disk);
        let mut awaited = before.map(|pending| pending.awaited).unwrap_or_default();
        awaited.extend(announcement);
        self.pending = Some(Pending { base: disk, keeping, awaited });
    }

    /// Takes note that an announcement is recorded, and says whether it is one that is waited for.
    pub(super) fn recorded(&mut self, number: Number) -> bool {
        self.pending.as_mut().is_some_and(|pending| pending.awaited.remove(&number))
    }

    /// What may be written now.
    pub(super) fn due(&self) -> Option<&Keeping> {
        self.pending.as_ref().filter(|pending| pending.awaited.is_empty()).map(|pending| &pending.keeping)
    }

    /// Takes note that it is on disk.
    pub(super) fn written(&mut self) {
        self.pending = None;
    }
}
