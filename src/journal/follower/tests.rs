use proptest::prelude::*;

use super::*;
use crate::journal::Limits;
use crate::journal::test_journal::{Workbench, draft};

fn look(bench: &Workbench, follower: &mut Follower) -> Vec<u64> {
    let look = follower.look(bench.world(), bench.directory(), bench.path()).unwrap();
    assert_eq!(look.damage, []);
    look.wakes.iter().map(|wake| wake.seq).collect()
}

#[test]
fn each_look_brings_only_what_is_new() {
    let bench = Workbench::new(Limits { segment_bytes: 500, ..Limits::default() });
    let mut journal = bench.journal();
    journal.append(1, &[draft("a"), draft("b")]).unwrap();
    bench.acknowledge(1).unwrap();
    let mut follower = Follower::new(Start::Unacknowledged);
    assert_eq!(look(&bench, &mut follower), [2]);
    assert!(look(&bench, &mut follower).is_empty());
    for round in 3..20 {
        journal.append(round % 2, &[draft("c")]).unwrap();
        assert_eq!(look(&bench, &mut follower), [round]);
    }
}

#[test]
fn an_append_in_progress_is_neither_damage_nor_lost() {
    let bench = Workbench::new(Limits::default());
    bench.journal().append(1, &[draft("a"), draft("b")]).unwrap();
    let segment = bench.segments().remove(0);
    let whole = std::fs::read(&segment).unwrap();
    let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for length in first..whole.len() {
        bench.change(&segment, |bytes| bytes.truncate(length));
        let mut follower = Follower::new(Start::After(0));
        let mut seen = look(&bench, &mut follower);
        bench.change(&segment, |bytes| bytes.clone_from(&whole));
        seen.extend(look(&bench, &mut follower));
        assert_eq!(seen, [1, 2], "half-written up to {length}");
        assert!(look(&bench, &mut follower).is_empty());
    }
}

#[test]
fn wakes_beyond_a_hole_are_read_with_what_fills_it() {
    let bench = Workbench::new(Limits::default());
    let mut follower = Follower::new(Start::After(0));
    let mut journal = bench.journal();
    journal.append(1, &[draft("a")]).unwrap();
    journal.append(2, &[draft("b")]).unwrap();
    assert_eq!(look(&bench, &mut follower), [1, 2]);
    journal.append(2, &[draft("c")]).unwrap();
    journal.append(1, &[draft("d")]).unwrap();
    assert_eq!(look(&bench, &mut follower), [3, 4]);
}

#[test]
fn a_compaction_does_not_disturb_a_follower() {
    let bench = Workbench::new(Limits { segment_bytes: 300, ..Limits::default() });
    let mut journal = bench.journal();
    let mut follower = Follower::new(Start::After(0));
    for round in 1..30 {
        journal.append(1, &[draft("a")]).unwrap();
        assert_eq!(look(&bench, &mut follower), [round]);
        bench.acknowledge(round).unwrap();
        journal.compact(round).unwrap();
    }
    assert!(bench.segments().len() <= 2);
}

#[test]
fn damage_to_the_acknowledgement_is_said_once() {
    let bench = Workbench::new(Limits::default());
    bench.journal().append(1, &[draft("a")]).unwrap();
    bench.acknowledge(1).unwrap();
    bench.change(Path::new("acknowledged.json"), Vec::clear);
    let mut follower = Follower::new(Start::Unacknowledged);
    let mut look = || follower.look(bench.world(), bench.directory(), bench.path()).unwrap();
    let first = look();
    assert_eq!((first.wakes.len(), first.damage.len()), (1, 1));
    assert_eq!(look().damage, []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn a_follower_sees_each_wake_once_wherever_it_starts(
        batches in proptest::collection::vec((0_u64..3, 1_usize..4, any::<bool>()), 1..30),
        start in 0_u64..20,
    ) {
        let bench = Workbench::new(Limits { segment_bytes: 700, ..Limits::default() });
        let mut journal = bench.journal();
        let mut seen = Vec::new();
        let mut follower = Follower::new(Start::After(start));
        let mut total = 0;
        for (generation, count, looks) in batches {
            journal.append(generation, &vec![draft("a"); count]).unwrap();
            total += count as u64;
            // A follower that begins beyond the end would pass over numbers that are given out later.
            if looks && total >= start {
                seen.extend(look(&bench, &mut follower));
            }
        }
        seen.extend(look(&bench, &mut follower));
        prop_assert_eq!(seen, (start + 1..=total.max(start)).collect::<Vec<_>>());
    }
}
