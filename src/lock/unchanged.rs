//! For how long something has not changed, on the clock of the one who watches it.
//!
//! Some things at a lock's name are nobody's proven claim and may yet be one: a record that is being written, a number
//! whose line has no end. They may be taken when one contender has seen them unchanged for a while. The file's own times
//! come from another clock, and anybody can set them, so they are compared with each other and never with ours.

use std::time::Duration;

/// What one contender has seen, and since when.
#[derive(Debug, Clone)]
pub(super) struct Unchanged<K> {
    seen: Option<(K, Duration)>,
}

impl<K> Default for Unchanged<K> {
    fn default() -> Self {
        Self { seen: None }
    }
}

impl<K: PartialEq> Unchanged<K> {
    /// Looks once more, at the time `now` of `CLOCK_MONOTONIC`; says for how long this has been seen unchanged.
    pub(super) fn watch(&mut self, key: K, now: Duration) -> Duration {
        match &self.seen {
            Some((seen, since)) if *seen == key => now.saturating_sub(*since),
            _ => {
                self.seen = Some((key, now));
                Duration::ZERO
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_counted_from_the_first_look_at_the_same_thing() {
        let (mut unchanged, at) = (Unchanged::default(), Duration::from_secs);
        assert_eq!(unchanged.watch("one", at(100)), at(0));
        assert_eq!(unchanged.watch("one", at(103)), at(3));
        for changed in ["another", "one"] {
            assert_eq!(unchanged.watch(changed, at(104)), at(0), "{changed}");
        }
        assert_eq!(unchanged.watch("one", at(105)), at(1));
    }
}
