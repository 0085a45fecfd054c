//! Holds as intervals on one clock, and which of them overlap.
//!
//! Two holds overlap when each begins before the other ends. Holds that only touch do not: who lets go and who takes
//! may read the same nanosecond. A hold of no length counts as one instant, and overlaps what surrounds it.

/// How a hold ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// Its holder let go.
    Released,
    /// Its holder was killed; it ended no earlier than the interval says.
    Killed,
}

/// One hold, in nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hold {
    /// Who held.
    pub pid: u32,
    /// Since when at least.
    pub from: u64,
    /// Until when at least.
    pub until: u64,
    /// How it ended.
    pub ending: Ending,
}

impl Hold {
    /// Whether there was an instant at which both held.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.from < other.until && other.from < self.until
    }
}

/// A hold that began while another one lasted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlap {
    /// Of all that had begun before, the one that lasted longest.
    pub earlier: Hold,
    /// The one that began.
    pub later: Hold,
}

/// Every hold that began while another one lasted, in the order in which they began. The order in which the holds are
/// given does not matter.
pub fn overlaps(holds: &[Hold]) -> Vec<Overlap> {
    let mut ordered = holds.to_vec();
    // Of those that begin together, the shortest is first: one without length then overlaps none of the others.
    ordered.sort_by_key(|hold| (hold.from, hold.until));
    let mut longest: Option<Hold> = None;
    let mut found = Vec::new();
    for later in ordered {
        if let Some(earlier) = longest.filter(|earlier| earlier.overlaps(&later)) {
            found.push(Overlap { earlier, later });
        }
        longest = longest.into_iter().chain([later]).max_by_key(|hold| hold.until);
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hold(pid: u32, from: u64, until: u64) -> Hold {
        Hold { pid, from, until, ending: Ending::Released }
    }

    fn intruders(holds: &[Hold]) -> Vec<u32> {
        overlaps(holds).iter().map(|overlap| overlap.later.pid).collect()
    }

    #[test]
    fn holds_that_follow_each_other_or_touch_do_not_overlap() {
        assert_eq!(overlaps(&[]), []);
        assert_eq!(overlaps(&[hold(1, 0, 10), hold(2, 10, 20), hold(3, 25, 30)]), []);
        assert_eq!(overlaps(&[hold(1, 5, 5), hold(2, 5, 5), hold(3, 5, 9), hold(4, 9, 9)]), []);
    }

    #[test]
    fn one_nanosecond_is_an_overlap() {
        let (earlier, later) = (hold(1, 0, 11), hold(2, 10, 20));
        assert_eq!(overlaps(&[earlier, later]), [Overlap { earlier, later }]);
    }

    #[test]
    fn the_order_in_which_holds_are_heard_of_does_not_matter() {
        let holds = [hold(3, 50, 60), hold(1, 0, 20), hold(2, 10, 30)];
        assert_eq!(overlaps(&holds), [Overlap { earlier: holds[1], later: holds[2] }]);
    }

    #[test]
    fn a_long_hold_is_remembered_behind_shorter_ones() {
        assert_eq!(intruders(&[hold(1, 0, 100), hold(2, 10, 20), hold(3, 30, 40), hold(4, 100, 110)]), [2, 3]);
    }

    #[test]
    fn a_killed_hold_lasts_until_its_kill() {
        let killed = Hold { ending: Ending::Killed, ..hold(1, 0, 50) };
        assert_eq!(intruders(&[killed, hold(2, 49, 60)]), [2]);
        assert_eq!(intruders(&[killed, hold(2, 50, 60)]), Vec::<u32>::new());
    }

    #[test]
    fn an_instant_inside_a_hold_overlaps_it() {
        assert_eq!(intruders(&[hold(1, 0, 10), hold(2, 5, 5)]), [2]);
        assert_eq!(intruders(&[hold(1, 0, 10), hold(2, 0, 0), hold(3, 10, 10)]), Vec::<u32>::new());
    }

    /// The definition, pair by pair: who began at a time when another one, which had begun before, still held.
    fn oracle(holds: &[Hold]) -> Vec<(u64, u64)> {
        let mut ordered = holds.to_vec();
        ordered.sort_by_key(|hold| (hold.from, hold.until));
        let begins_inside = |(index, later): &(usize, &Hold)| ordered[..*index].iter().any(|one| one.overlaps(later));
        let intruders = ordered.iter().enumerate().filter(begins_inside);
        intruders.map(|(_, hold)| (hold.from, hold.until)).collect()
    }

    fn any_hold() -> impl Strategy<Value = Hold> {
        (0..5_u32, 0..60_u64, 0..12_u64, any::<bool>()).prop_map(|(pid, from, length, is_killed)| Hold {
            pid,
            from,
            until: from + length,
            ending: if is_killed { Ending::Killed } else { Ending::Released },
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_sweep_finds_what_the_comparison_of_all_pairs_finds(holds in prop::collection::vec(any_hold(), 0..24)) {
            let swept = overlaps(&holds);
            let intruders: Vec<_> = swept.iter().map(|overlap| (overlap.later.from, overlap.later.until)).collect();
            prop_assert_eq!(intruders, oracle(&holds));
            for overlap in &swept {
                prop_assert!(overlap.earlier.overlaps(&overlap.later), "{:?}", overlap);
                prop_assert!(holds.contains(&overlap.earlier) && holds.contains(&overlap.later));
            }
            let any_pair = holds.iter().enumerate().any(|(index, one)| holds[..index].iter().any(|two| two.overlaps(one)));
            prop_assert_eq!(any_pair, !swept.is_empty());
        }
    }
}
