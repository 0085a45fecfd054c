use std::ffi::OsStr;
use std::fs;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::*;
use crate::journal::acknowledgement::Acknowledged;
use crate::journal::test_journal::{Workbench, draft, never};
use crate::system::{Claim as LockClaim, Open};

fn small() -> Workbench {
    Workbench::new(Limits { segment_bytes: 600, ..Limits::default() })
}

#[test]
fn what_is_appended_is_read_with_growing_numbers() {
    let bench = Workbench::new(Limits::default());
    let mut journal = bench.journal();
    let first = journal.append(4, &[draft("a"), never("b")]).unwrap();
    let second = journal.append(4, &[draft("c")]).unwrap();
    let contents = bench.contents();
    assert_eq!(contents.wakes, [first, second].concat());
    assert_eq!(contents.wakes.iter().map(|wake| wake.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((contents.last_seq, contents.acknowledged, contents.damage), (3, 0, vec![]));
    assert_eq!(journal.append(4, &[]).unwrap(), []);
}

#[test]
fn two_writers_in_turn_notice_each_other() {
    let bench = small();
    let (mut one, mut other) = (bench.journal(), bench.journal());
    for round in 0..30 {
        assert_eq!(one.append(1, &[draft("a")]).unwrap()[0].seq, 2 * round + 1);
        assert_eq!(other.append(1 + round % 2, &[draft("b")]).unwrap()[0].seq, 2 * round + 2);
    }
    assert_eq!(bench.numbers(), (1..=60).collect::<Vec<_>>());
    assert!(bench.segments().len() > 5);
}

#[test]
fn writers_at_the_same_time_never_share_a_number() {
    let bench = small();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let mut journal = bench.journal();
            scope.spawn(move || {
                for _ in 0..25 {
                    journal.append(thread % 3, &[draft(&thread.to_string()), draft("x")]).unwrap();
                }
            });
        }
    });
    let contents = bench.contents();
    assert_eq!(contents.wakes.iter().map(|wake| wake.seq).collect::<Vec<_>>(), (1..=400).collect::<Vec<_>>());
    assert_eq!(contents.damage, []);
}

#[test]
fn a_late_append_of_an_old_holder_goes_to_its_own_segment_and_is_read() {
    let bench = Workbench::new(Limits::default());
    let (mut old, mut new) = (bench.journal(), bench.journal());
    old.append(1, &[draft("a")]).unwrap();
    new.append(2, &[draft("b")]).unwrap();
    old.append(1, &[draft("c")]).unwrap();
    assert_eq!(bench.segments().len(), 2);
    assert_eq!(bench.keys(), ["a", "b", "c"]);
}

#[test]
fn a_held_lock_is_an_error_at_the_deadline_and_not_a_hang() {
    let bench = Workbench::new(Limits { lock_wait: Duration::from_millis(30), ..Limits::default() });
    let lock = bench.world().open(bench.directory(), OsStr::new("lock"), Open::Lock).unwrap();
    assert_eq!(bench.world().try_lock(&lock).unwrap(), LockClaim::Taken);
    let error = bench.journal().append(1, &[draft("a")]).unwrap_err();
    assert!(matches!(error, JournalError::Busy { .. }), "{error}");
    drop(lock);
    assert_eq!(bench.journal().append(1, &[draft("a")]).unwrap()[0].seq, 1);
}

#[test]
fn a_full_journal_keeps_the_oldest_and_says_so() {
    let bench = Workbench::new(Limits { journal_max: 1000, segment_bytes: 300, ..Limits::default() });
    let mut journal = bench.journal();
    let error = (0..).find_map(|_| journal.append(1, &[draft("a")]).err()).unwrap();
    assert!(matches!(error, JournalError::Full { limit: 1000, .. }), "{error}");
    let last = bench.contents().last_seq;
    assert_eq!(bench.numbers(), (1..=last).collect::<Vec<_>>());
    bench.acknowledge(last).unwrap();
    journal.compact(last).unwrap();
    assert_eq!(journal.append(1, &[draft("b")]).unwrap()[0].seq, last + 1);
}

#[test]
fn a_disk_that_fills_at_any_byte_costs_the_batch_and_nothing_else() {
    let line = codec::encode(&mut wake_of(&draft("full"), 2, 1, 1_700_000_000_000), 2).unwrap().len() as u64;
    for error in [28, 27, 122, 5] {
        for room in 0..=line {
            let bench = Workbench::new(Limits::default());
            let mut journal = bench.journal();
            journal.append(1, &[draft("before")]).unwrap();
            bench.world().leave_room(room, error);
            let answer = journal.append(1, &[draft("full")]);
            bench.world().leave_room(u64::MAX, error);
            let mut expected = vec!["before"];
            if answer.is_ok() || room + 1 >= line {
                expected.push("full");
            }
            assert_eq!(bench.keys(), expected, "room for {room} of {line} bytes");
            bench.journal().append(1, &[draft("other")]).unwrap();
            journal.append(1, &[draft("after")]).unwrap();
            expected.extend(["other", "after"]);
            assert_eq!(bench.keys(), expected, "room for {room} of {line} bytes");
        }
    }
}

#[test]
fn short_writes_are_carried_on() {
    let bench = Workbench::new(Limits::default());
    bench.world().take_at_most(7);
    bench.journal().append(1, &[draft("a"), draft("b")]).unwrap();
    assert_eq!(bench.keys(), ["a", "b"]);
    assert_eq!(bench.contents().damage, []);
}

#[test]
fn after_a_failed_sync_the_batch_goes_to_a_new_segment_under_the_same_numbers() {
    for (files, directories) in [(1, 0), (0, 1)] {
        let bench = Workbench::new(Limits::default());
        let mut journal = bench.journal();
        bench.world().fail_syncs(files, directories);
        assert_eq!(journal.append(1, &[draft("a")]).unwrap()[0].seq, 1);
        assert_eq!(bench.segments().len(), 2);
        assert_eq!(journal.take_damage().len(), 1);
        journal.append(1, &[draft("b")]).unwrap();
        assert_eq!(bench.segments().len(), 2);
        assert_eq!(bench.keys(), ["a", "b"]);
    }
}

#[test]
fn when_every_sync_fails_the_append_fails_and_its_number_is_not_used_again() {
    let bench = Workbench::new(Limits::default());
    let mut journal = bench.journal();
    journal.append(1, &[draft("a")]).unwrap();
    bench.world().fail_syncs(2, 0);
    let error = journal.append(1, &[draft("b")]).unwrap_err();
    assert!(error.to_string().starts_with("cannot make durable"), "{error}");
    assert_eq!(journal.append(1, &[draft("c")]).unwrap()[0].seq, 3);
    assert_eq!(bench.segments().len(), 3);
}

#[test]
fn a_directory_sync_that_was_never_made_is_made_by_whoever_comes_next() {
    let bench = Workbench::new(Limits::default());
    bench.journal().append(1, &[draft("a")]).unwrap();
    bench.world().fail_syncs(0, 1);
    bench.journal().append(1, &[draft("b")]).unwrap();
    assert_eq!(bench.segments().len(), 2, "the second writer did not sync the directory");
}

#[test]
fn a_torn_tail_of_any_length_is_set_aside_and_the_next_append_starts_clean() {
    let whole = {
        let bench = Workbench::new(Limits::default());
        bench.journal().append(1, &[draft("a"), draft("b")]).unwrap();
        fs::read(&bench.segments()[0]).unwrap()
    };
    let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for length in first + 1..whole.len() {
        let bench = Workbench::new(Limits::default());
        let mut journal = bench.journal();
        journal.append(1, &[draft("a"), draft("b")]).unwrap();
        bench.change(&bench.segments()[0], |bytes| bytes.truncate(length));
        let is_whole = length + 1 == whole.len();
        let contents = bench.contents();
        assert_eq!(contents.wakes.len(), 1 + usize::from(is_whole));
        assert_eq!(contents.damage.len(), usize::from(!is_whole), "cut at {length}");
        let later = bench.journal().append(1, &[draft("c")]).unwrap();
        assert!(later[0].seq > 2, "number {} was used again", later[0].seq);
        assert_eq!(bench.segments().len(), 2);
        assert_eq!(bench.keys().last().unwrap(), "c");
    }
}

#[test]
fn a_nul_tail_is_reported_and_never_glued_to() {
    for nuls in [1, 2, 100, 4095, 4096] {
        let bench = Workbench::new(Limits::default());
        bench.journal().append(1, &[draft("a")]).unwrap();
        bench.change(&bench.segments()[0], |bytes| bytes.extend(vec![0; nuls]));
        let mut journal = bench.journal();
        journal.append(1, &[draft("b")]).unwrap();
        assert!(matches!(journal.take_damage()[..], [Damage { harm: Harm::TornTail { .. }, .. }]));
        let contents = bench.contents();
        assert_eq!(bench.keys(), ["a", "b"]);
        assert!(
            matches!(contents.damage[..], [Damage { harm: Harm::TornTail { length, .. }, .. }] if length == nuls as u64)
        );
    }
}

#[test]
fn every_bit_flip_is_loud_and_costs_one_wake_at_most() {
    let bench = Workbench::new(Limits::default());
    bench.journal().append(1, &[draft("a"), draft("b"), draft("c")]).unwrap();
    let segment = bench.segments().remove(0);
    let length = fs::read(&segment).unwrap().len();
    for bit in (0..length * 8).step_by(3) {
        bench.change(&segment, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let contents = bench.contents();
        assert!(contents.wakes.len() >= 2, "bit {bit}");
        assert_eq!(contents.damage.len(), 1, "bit {bit}");
        bench.change(&segment, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
    }
}

#[test]
fn numbers_are_not_used_again_after_compaction() {
    let bench = small();
    let mut journal = bench.journal();
    for _ in 0..40 {
        journal.append(1, &[draft("a")]).unwrap();
    }
    bench.acknowledge(40).unwrap();
    assert!(!journal.compact(40).unwrap().removed.is_empty());
    assert_eq!(bench.segments().len(), 1);
    assert_eq!(bench.journal().append(2, &[draft("b")]).unwrap()[0].seq, 41);
    bench.acknowledge(41).unwrap();
    for segment in bench.segments() {
        bench.world().unlink(bench.directory(), segment.file_name().unwrap()).unwrap();
    }
    assert_eq!(bench.journal().append(3, &[draft("c")]).unwrap()[0].seq, 42, "not even without any segment");
}

#[test]
fn compaction_removes_only_what_is_told_and_covered() {
    let bench = small();
    let mut journal = bench.journal();
    for index in 0..20 {
        journal.append(1, &[if index < 10 { never("n") } else { draft("a") }]).unwrap();
    }
    let before = bench.numbers();
    assert_eq!(journal.compact(0).unwrap().removed, Vec::<String>::new());
    assert!(!journal.compact(20).unwrap().removed.is_empty(), "what is never delivered needs no acknowledgement");
    let kept = bench.numbers();
    assert!(kept.len() < before.len() && (11..=20).all(|seq| kept.contains(&seq)));
    bench.acknowledge(15).unwrap();
    journal.compact(20).unwrap();
    assert!((16..=20).all(|seq| bench.numbers().contains(&seq)));
    assert_eq!(journal.append(1, &[draft("b")]).unwrap()[0].seq, 21);
}

#[test]
fn compaction_keeps_the_segment_with_the_highest_number_and_damaged_bytes() {
    let bench = Workbench::new(Limits::default());
    let (mut old, mut new) = (bench.journal(), bench.journal());
    new.append(2, &[draft("a")]).unwrap();
    bench.change(&bench.segments()[0], |bytes| bytes.extend(b"garbage"));
    new.append(2, &[draft("b")]).unwrap();
    old.append(1, &[draft("c")]).unwrap();
    let last = bench.contents().last_seq;
    bench.acknowledge(last).unwrap();
    let outcome = new.compact(last).unwrap();
    assert_eq!((outcome.removed.len(), outcome.set_aside.len()), (1, 1));
    assert_eq!(fs::read(bench.path().join(&outcome.set_aside[0])).unwrap(), b"garbage");
    assert_eq!(bench.journal().append(3, &[draft("d")]).unwrap()[0].seq, last + 1);
}

#[test]
fn an_acknowledgement_is_monotone_and_never_beyond_the_last_wake() {
    let bench = Workbench::new(Limits::default());
    bench.journal().append(1, &[draft("a"), draft("b")]).unwrap();
    assert_eq!(bench.acknowledge(2).unwrap(), Acknowledged { through: 2, before: 0, repaired: None });
    assert_eq!(bench.acknowledge(1).unwrap(), Acknowledged { through: 2, before: 2, repaired: None });
    let error = bench.acknowledge(3).unwrap_err();
    assert!(matches!(error, JournalError::BeyondLast { asked: 3, last: 2 }), "{error}");
    assert_eq!(bench.contents().acknowledged, 2);
}

#[test]
fn a_damaged_acknowledgement_tells_everything_again_and_says_so() {
    let bench = Workbench::new(Limits::default());
    bench.journal().append(1, &[draft("a"), draft("b")]).unwrap();
    bench.acknowledge(2).unwrap();
    let file = bench.path().join("acknowledged.json");
    let good = fs::read(&file).unwrap();
    let mut variants: Vec<Vec<u8>> = (0..good.len() - 1).map(|length| good[..length].to_vec()).collect();
    variants.push(vec![0; good.len()]);
    variants.extend((0..(good.len() - 1) * 8).map(|bit| {
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    }));
    for variant in variants {
        bench.change(&file, |bytes| *bytes = variant);
        let contents = bench.contents();
        assert_eq!((contents.acknowledged, contents.damage.len(), contents.wakes.len()), (0, 1, 2));
    }
    let repaired = bench.acknowledge(1).unwrap();
    assert_eq!((repaired.through, repaired.repaired.is_some()), (1, true));
    assert_eq!(bench.contents().damage, []);
}

#[test]
fn an_acknowledgement_newer_than_the_data_retires_nothing_even_after_new_wakes() {
    let bench = Workbench::new(Limits::default());
    bench.journal().append(1, &[draft("a"), draft("b")]).unwrap();
    let copy = fs::read(&bench.segments()[0]).unwrap();
    bench.journal().append(1, &[draft("c"), draft("d")]).unwrap();
    bench.acknowledge(4).unwrap();
    bench.change(&bench.segments()[0], |bytes| *bytes = copy);
    assert_eq!((bench.contents().acknowledged, bench.contents().damage.len()), (0, 1));
    let mut journal = bench.journal();
    assert_eq!(journal.append(1, &[draft("e")]).unwrap()[0].seq, 5);
    assert_eq!(journal.take_damage().len(), 1);
    assert_eq!((bench.contents().acknowledged, bench.keys().len()), (0, 3));
}

#[test]
fn something_else_in_the_place_of_a_segment_stops_nobody() {
    let bench = Workbench::new(Limits::default());
    let name = SegmentName { generation: 1, number: 0 }.to_string();
    fs::create_dir(bench.path().join(&name)).unwrap();
    let mut journal = bench.journal();
    journal.append(1, &[draft("a")]).unwrap();
    assert_eq!(bench.keys(), ["a"]);
    assert_eq!(bench.contents().damage.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn whatever_happens_no_acknowledged_append_is_lost_and_no_number_is_used_twice(
        steps in proptest::collection::vec((0_u8..6, 0_u64..400), 1..40),
    ) {
        keeps_its_promises(steps)?;
    }
}

/// Two writers append in turn, with failing syncs and disks that fill up in between.
fn keeps_its_promises(steps: Vec<(u8, u64)>) -> Result<(), TestCaseError> {
    let bench = small();
    let mut journals = [bench.journal(), bench.journal()];
    let mut promised = std::collections::BTreeMap::new();
    for (step, amount) in steps {
        match step {
            0..=2 => {
                let number = promised.len().to_string();
                let wakes = journals[usize::from(step) % 2].append(u64::from(step), &[draft(&number)]).unwrap();
                prop_assert!(promised.insert(wakes[0].seq, number).is_none());
            }
            3 => {
                bench.world().leave_room(amount, 28);
                let answer = journals[0].append(1, &[draft("lost")]);
                bench.world().leave_room(u64::MAX, 28);
                if let Ok(wakes) = answer {
                    prop_assert!(promised.insert(wakes[0].seq, "lost".to_owned()).is_none());
                }
            }
            4 => bench.world().fail_syncs(usize::try_from(amount % 2).unwrap(), 0),
            _ => journals[1] = bench.journal(),
        }
    }
    let contents = bench.contents();
    for (seq, key) in promised {
        prop_assert!(contents.wakes.iter().any(|wake| wake.seq == seq && wake.key == key), "{seq} {key}");
    }
    Ok(())
}

#[test]
fn a_segment_that_grew_before_its_successor_was_made_is_looked_at_again() {
    keeps_its_promises(vec![(1, 0), (2, 0), (4, 73), (3, 134), (1, 0)]).unwrap();
}
