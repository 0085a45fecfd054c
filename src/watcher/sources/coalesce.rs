//! Gathering signals that belong together into one batch.
//!
//! A task that finishes writes its status and ends its turn within moments of each other, and tasks often finish
//! together. One wake per file would cost a turn of an agent each, so after the first changed file the batch lingers
//! for the grace time. It ends early when nothing more is to come: every task in it has shown both its status and its
//! turn's end. If this were wrong, wakes would be late by at most the grace time, never lost: a file stays changed
//! until it is announced.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::signals::{STATUS, TURN_ENDED};

/// The batch that is being gathered. Times are those of the monotonic clock.
#[derive(Debug)]
pub struct Coalescer {
    grace: Duration,
    /// In the order in which they were first seen.
    files: Vec<String>,
    members: BTreeSet<String>,
    /// How many of its two files each task still lacks; those that lack none are left out.
    lacking: BTreeMap<String, usize>,
    /// The end of the first file's grace.
    grace_ends: Option<Duration>,
    /// When the batch became complete, if it is.
    complete_since: Option<Duration>,
}

impl Coalescer {
    /// An empty batch that lingers for `grace` after its first file.
    pub fn new(grace: Duration) -> Self {
        Self {
            grace,
            files: Vec::new(),
            members: BTreeSet::new(),
            lacking: BTreeMap::new(),
            grace_ends: None,
            complete_since: None,
        }
    }

    /// Adds a changed file; one that is in the batch already changes nothing.
    pub fn add(&mut self, name: &str, now: Duration) {
        if !self.members.insert(name.to_owned()) {
            return;
        }
        self.files.push(name.to_owned());
        self.grace_ends.get_or_insert(now.saturating_add(self.grace));
        let task = task_of(name);
        let lacks = [STATUS, TURN_ENDED].iter().filter(|end| !self.members.contains(&format!("{task}{end}"))).count();
        if lacks == 0 {
            self.lacking.remove(task);
        } else {
            self.lacking.insert(task.to_owned(), lacks);
        }
        // A file may complete the batch, or open it again.
        self.complete_since = self.lacking.is_empty().then_some(now);
    }

    /// When the batch is to be taken. `None` while it is empty.
    pub fn due_at(&self) -> Option<Duration> {
        let grace_ends = self.grace_ends?;
        Some(self.complete_since.map_or(grace_ends, |complete| complete.min(grace_ends)))
    }

    /// The files of the batch in the order in which they were first seen, if it is due. The next batch is empty.
    pub fn take_if_due(&mut self, now: Duration) -> Option<Vec<String>> {
        if self.due_at()? > now {
            return None;
        }
        let next = Self::new(self.grace);
        Some(std::mem::replace(self, next).files)
    }
}

fn task_of(name: &str) -> &str {
    [STATUS, TURN_ENDED].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn a_batch_lingers_from_its_first_file_and_keeps_the_order() {
        let mut batch = Coalescer::new(seconds(30));
        assert_eq!(batch.due_at(), None);
        assert_eq!(batch.take_if_due(seconds(999)), None);
        batch.add("b.status", seconds(10));
        batch.add("a.turn-ended", seconds(20));
        batch.add("b.status", seconds(25));
        assert_eq!(batch.due_at(), Some(seconds(40)));
        assert_eq!(batch.take_if_due(seconds(39)), None);
        assert_eq!(batch.take_if_due(seconds(40)).unwrap(), ["b.status", "a.turn-ended"]);
        assert_eq!(batch.due_at(), None);
    }

    #[test]
    fn it_ends_early_when_every_task_has_shown_both_files() {
        let mut batch = Coalescer::new(seconds(30));
        batch.add("a.status", seconds(1));
        batch.add("b.status", seconds(2));
        batch.add("a.turn-ended", seconds(3));
        assert_eq!(batch.due_at(), Some(seconds(31)));
        batch.add("b.turn-ended", seconds(4));
        assert_eq!(batch.due_at(), Some(seconds(4)));
        assert_eq!(batch.take_if_due(seconds(4)).unwrap().len(), 4);
    }

    #[test]
    fn a_newcomer_opens_a_complete_batch_again() {
        let mut batch = Coalescer::new(seconds(30));
        batch.add("a.status", seconds(1));
        batch.add("a.turn-ended", seconds(1));
        batch.add("b.status", seconds(1));
        assert_eq!(batch.due_at(), Some(seconds(31)));
    }

    #[test]
    fn without_grace_a_batch_is_due_at_once_and_an_endless_one_does_not_overflow() {
        let mut batch = Coalescer::new(Duration::ZERO);
        batch.add("a.status", seconds(7));
        assert_eq!(batch.take_if_due(seconds(7)).unwrap(), ["a.status"]);
        let mut batch = Coalescer::new(Duration::MAX);
        batch.add("a.status", seconds(7));
        assert_eq!(batch.due_at(), Some(Duration::MAX));
    }

    proptest! {
        #[test]
        fn every_file_is_in_exactly_one_batch_and_never_later_than_its_grace(
            steps in prop::collection::vec((0..6u8, any::<bool>(), 0..20u64), 0..60),
            grace in 0..40u64,
        ) {
            let grace = seconds(grace);
            let mut batch = Coalescer::new(grace);
            let mut now = Duration::ZERO;
            let mut waiting: BTreeMap<String, Duration> = BTreeMap::new();
            for (task, is_status, pause) in steps {
                now += seconds(pause);
                if let Some(files) = batch.take_if_due(now) {
                    prop_assert_eq!(files.iter().collect::<BTreeSet<_>>().len(), files.len());
                    prop_assert_eq!(files.iter().cloned().collect::<BTreeSet<_>>(), waiting.into_keys().collect());
                    waiting = BTreeMap::new();
                }
                let name = format!("t{task}{}", if is_status { STATUS } else { TURN_ENDED });
                batch.add(&name, now);
                waiting.entry(name).or_insert(now);
                let first = waiting.values().min().copied().unwrap();
                prop_assert!(batch.due_at().unwrap() <= first + grace);
                let is_whole = waiting.keys().all(|name| {
                    [STATUS, TURN_ENDED].iter().all(|end| waiting.contains_key(&format!("{}{end}", task_of(name))))
                });
                prop_assert_eq!(is_whole || first + grace <= now, batch.due_at().unwrap() <= now);
            }
        }
    }
}
