//! One test for each row of the table, then its edges, then what holds for every evidence there can be.

use proptest::prelude::*;

use super::*;
use crate::ownership::records::Departure;
use crate::system::identity::{Identity, Proof};

const POLL: Duration = Duration::from_secs(15);
const BOUND: Duration = Duration::from_secs(60);
const MILLI: Duration = Duration::from_millis(1);
const NOW: Duration = Duration::from_secs(100_000);
const SAME: Sameness = Sameness::Same(Proof::PidfdInode);

fn pid() -> Pid {
    Pid::new(4711).unwrap()
}

fn unknown() -> Sameness {
    Sameness::Unknown("pid 4711 belongs to another pid namespace".to_owned())
}

fn before_now(ago: Duration) -> Duration {
    NOW.checked_sub(ago).unwrap()
}

fn saturated_millis(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

/// The record of a holder that took the lock so long ago.
fn owner_since(ago: Duration) -> Owner {
    Owner {
        runtime_dir: None,
        schema: 1,
        generation: 7,
        nonce: "5eed".to_owned(),
        identity: Identity {
            pid: pid(),
            start_ticks: 1,
            boot_id: Some("this-boot".to_owned()),
            pid_namespace: Some(1),
            pidfd_inode: Some(1),
            executable: None,
            uid: 1000,
        },
        host: "host".to_owned(),
        home: "/home/fleet".into(),
        version: "0.1.0".to_owned(),
        since: 0,
        since_monotonic_ms: millis(before_now(ago)),
        poll_ms: millis(POLL),
        stuck_after_ms: millis(BOUND),
        time_namespace: Some(1),
        left: None,
    }
}

fn owner() -> Owner {
    owner_since(Duration::from_secs(3600))
}

fn recorded(owner: Owner, sameness: Sameness) -> OwnerEvidence {
    OwnerEvidence::Recorded(Box::new(owner), sameness)
}

/// A beat of that holder, at that time.
fn beat_at(monotonic: Duration) -> Beat {
    Beat {
        poll_ms: 0,
        schema: 1,
        generation: 7,
        nonce: "5eed".to_owned(),
        pid: 4711,
        counter: 99,
        at: 0,
        boot_id: Some("this-boot".to_owned()),
        monotonic_ms: millis(monotonic),
        degraded: Vec::new(),
    }
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

/// Evidence of a lock and a record, with no beat anywhere.
fn evidence(lock: LockObservation, owner: OwnerEvidence) -> Evidence {
    Evidence {
        runtime_dir: None,
        lock,
        owner,
        beat: None,
        last_life: None,
        stop_requested: None,
        stopped_foreign: None,
        now: Now { wall_ms: 1_700_000_000_000, monotonic: NOW },
        boot_id: Some("this-boot".to_owned()),
        time_namespace: Some(1),
        stuck_after: None,
        foreign: None,
    }
}

/// A held lock whose record compares like this, with a beat in `beat.json` so long ago.
fn held(sameness: Sameness, ago: Duration) -> Evidence {
    let beat = Some(beat_at(before_now(ago)));
    Evidence { beat, ..evidence(LockObservation::Marked { beat: None }, recorded(owner(), sameness)) }
}

// One test for each row of the table, in its order.

#[test]
fn a_lock_that_cannot_be_examined_is_unknown_with_the_reason() {
    for owner in [OwnerEvidence::None, recorded(owner(), SAME), OwnerEvidence::Damaged("torn".to_owned())] {
        let beat = Some(beat_at(NOW));
        let seen = Evidence { beat, ..evidence(LockObservation::Unknown("EACCES, say".to_owned()), owner) };
        assert_eq!(judge(&seen), Verdict::Unknown { why: "EACCES, say".to_owned() });
    }
}

#[test]
fn a_free_lock_without_a_record_is_stopped() {
    for lock in [LockObservation::Free, LockObservation::Absent] {
        assert_eq!(judge(&evidence(lock.clone(), OwnerEvidence::None)), Verdict::Stopped { last: None });
        // What cannot be understood accuses nobody of having died.
        let damaged = OwnerEvidence::Damaged("torn".to_owned());
        assert_eq!(judge(&evidence(lock, damaged)), Verdict::Stopped { last: None });
    }
}

#[test]
fn a_free_lock_whose_holder_left_on_its_own_feet_is_stopped() {
    let left = Some(Departure { at: 1, how: "asked by SIGTERM".to_owned() });
    for sameness in [SAME, unknown(), Sameness::Different(Difference::Gone)] {
        let seen = evidence(LockObservation::Free, recorded(Owner { left: left.clone(), ..owner() }, sameness));
        assert_eq!(
            judge(&seen),
            Verdict::Stopped { last: Some((pid(), HowLeft::Otherwise("asked by SIGTERM".to_owned()))) }
        );
    }
}

#[test]
fn a_free_lock_whose_holder_was_asked_to_stop_is_stopped() {
    let gone = || recorded(owner(), Sameness::Different(Difference::Gone));
    let asked = Evidence { stop_requested: Some(7), ..evidence(LockObservation::Free, gone()) };
    assert_eq!(judge(&asked), Verdict::Stopped { last: Some((pid(), HowLeft::Stopped)) });
    let other = Evidence { stop_requested: Some(6), ..evidence(LockObservation::Free, gone()) };
    assert_eq!(judge(&other).word(), "dead", "the request was for another acquisition");
}

#[test]
fn a_free_lock_after_a_stopped_foreign_watcher_is_stopped() {
    let foreign = Pid::new(77).unwrap();
    let left = Some(Departure { at: 1, how: "woken".to_owned() });
    let gone = Sameness::Different(Difference::Gone);
    for owner in [OwnerEvidence::None, recorded(owner(), gone.clone()), recorded(Owner { left, ..owner() }, gone)] {
        let seen = Evidence { stopped_foreign: Some(foreign), ..evidence(LockObservation::Free, owner) };
        assert_eq!(judge(&seen), Verdict::Stopped { last: Some((foreign, HowLeft::Stopped)) });
    }
    let elsewhere = Owner { runtime_dir: Some("/run/x".into()), ..owner() };
    let seen =
        Evidence { stopped_foreign: Some(foreign), ..evidence(LockObservation::Free, recorded(elsewhere, SAME)) };
    assert_eq!(judge(&seen).word(), "unknown", "somebody may hold a lock in another place");
}

/// The line of the recorded holder's life, as an evicted one leaves it.
fn life() -> Life {
    let how = "evicted: the lock file was replaced".to_owned();
    Life { schema: 1, generation: 7, pid: 4711, started: 0, ended: 1, how, last_beat: None }
}

#[test]
fn a_free_lock_whose_holder_left_its_line_in_the_history_is_stopped() {
    let gone = || recorded(owner(), Sameness::Different(Difference::Gone));
    let judge_with = |life: Life| judge(&Evidence { last_life: Some(life), ..evidence(LockObservation::Free, gone()) });
    assert_eq!(judge_with(life()), Verdict::Stopped { last: Some((pid(), HowLeft::Otherwise(life().how))) });
    for other in [Life { generation: 6, ..life() }, Life { pid: 4712, ..life() }] {
        assert_eq!(judge_with(other).word(), "dead", "the line is another one's");
    }
}

#[test]
fn a_free_lock_whose_holder_did_not_leave_is_dead() {
    let differences = [Difference::Gone, Difference::OtherBoot, Difference::PidReused];
    let gone = differences.map(|difference| (Sameness::Different(difference.clone()), Ending::Gone(difference)));
    let let_go = [(SAME, Ending::LetGo), (unknown(), Ending::LetGo)];
    for (sameness, how) in gone.into_iter().chain(let_go) {
        for lock in [LockObservation::Free, LockObservation::Absent] {
            let beat = Some(beat_at(before_now(seconds(90))));
            let seen = Evidence { beat, ..evidence(lock, recorded(owner(), sameness.clone())) };
            let expected = Verdict::Dead { pid: pid(), how: how.clone(), beat: Some(seconds(90)) };
            assert_eq!(judge(&seen), expected);
        }
    }
}

#[test]
fn a_lock_held_without_our_mark_is_foreign() {
    for owner in [OwnerEvidence::None, recorded(owner(), SAME)] {
        let beat = Some(beat_at(NOW));
        let seen = Evidence { beat, ..evidence(LockObservation::Unmarked { taker: 42 }, owner) };
        assert_eq!(judge(&seen), Verdict::Foreign { taker: 42 });
    }
}

/// The records that cannot be those of whoever holds the lock now.
fn records_of_nobody_alive() -> Vec<OwnerEvidence> {
    let left = Owner { left: Some(Departure { at: 1, how: "left".to_owned() }), ..owner() };
    vec![
        OwnerEvidence::None,
        OwnerEvidence::Damaged("torn".to_owned()),
        recorded(left, SAME),
        recorded(owner(), Sameness::Different(Difference::Gone)),
        recorded(owner(), Sameness::Different(Difference::OtherBoot)),
        recorded(owner(), Sameness::Different(Difference::PidReused)),
    ]
}

#[test]
fn a_held_lock_whose_holder_has_not_recorded_itself_is_starting() {
    for owner in records_of_nobody_alive() {
        for beat in [None, Some(NOW), Some(before_now(UNRECORDED_BOUND) + MILLI)] {
            let seen = evidence(LockObservation::Marked { beat }, owner.clone());
            assert_eq!(judge(&seen), Verdict::Starting { pid: None }, "{seen:?}");
        }
    }
}

#[test]
fn a_held_lock_whose_unrecorded_holder_stopped_beating_is_unknown() {
    for owner in records_of_nobody_alive() {
        let seen = evidence(LockObservation::Marked { beat: Some(before_now(UNRECORDED_BOUND)) }, owner);
        assert_eq!(judge(&seen).word(), "unknown", "{seen:?}");
    }
}

#[test]
fn a_holder_in_another_time_namespace_is_unknown_whatever_its_beat() {
    for sameness in [SAME, unknown()] {
        for ago in [Duration::ZERO, POLL, 3 * POLL, seconds(90_000)] {
            let elsewhere = Evidence { time_namespace: Some(2), ..held(sameness.clone(), ago) };
            let Verdict::Unknown { why } = judge(&elsewhere) else { panic!("{:?}", judge(&elsewhere)) };
            assert!(why.contains("time namespace"), "{why}");
            // A side that does not know its own is taken to be here, as before there were any.
            let blind = Evidence { time_namespace: None, ..held(sameness.clone(), ago) };
            assert_eq!(judge(&blind), judge(&held(sameness.clone(), ago)));
        }
    }
}

#[test]
fn a_beat_of_at_most_two_polls_is_ok() {
    for sameness in [SAME, unknown()] {
        for ago in [Duration::ZERO, seconds(15), 2 * POLL] {
            assert_eq!(judge(&held(sameness.clone(), ago)), Verdict::Ok { pid: pid(), beat: ago });
        }
    }
}

#[test]
fn a_beat_later_than_two_polls_but_within_the_bound_is_slow() {
    for sameness in [SAME, unknown()] {
        for ago in [2 * POLL + MILLI, BOUND.checked_sub(MILLI).unwrap()] {
            assert_eq!(judge(&held(sameness.clone(), ago)), Verdict::Slow { pid: pid(), beat: ago });
        }
    }
}

#[test]
fn a_holder_that_has_not_beaten_yet_within_the_bound_is_starting() {
    for sameness in [SAME, unknown()] {
        for ago in [Duration::ZERO, BOUND.checked_sub(MILLI).unwrap()] {
            let seen = evidence(LockObservation::Marked { beat: None }, recorded(owner_since(ago), sameness.clone()));
            assert_eq!(judge(&seen), Verdict::Starting { pid: Some(pid()) });
        }
    }
}

#[test]
fn the_same_process_without_a_beat_for_the_bound_is_stuck() {
    for ago in [BOUND, seconds(3000)] {
        let expected = Verdict::Stuck { pid: pid(), beat: Some(ago), bound: BOUND };
        assert_eq!(judge(&held(SAME, ago)), expected);
    }
    let never = evidence(LockObservation::Marked { beat: None }, recorded(owner_since(BOUND), SAME));
    assert_eq!(judge(&never), Verdict::Stuck { pid: pid(), beat: None, bound: BOUND });
}

#[test]
fn an_unknown_process_without_a_beat_for_the_bound_is_unknown() {
    let late = held(unknown(), BOUND);
    let never = evidence(LockObservation::Marked { beat: None }, recorded(owner_since(BOUND), unknown()));
    for seen in [late, never] {
        let Verdict::Unknown { why } = judge(&seen) else { panic!("{:?}", judge(&seen)) };
        assert!(why.contains("60s") && why.contains("another pid namespace"), "{why}");
    }
}

// Edges.

#[test]
fn the_newer_of_the_published_beat_and_the_file_counts() {
    // A full disk: the file is old, the kernel has the news.
    let disk_is_full =
        Evidence { lock: LockObservation::Marked { beat: Some(before_now(seconds(1))) }, ..held(SAME, seconds(3000)) };
    assert_eq!(judge(&disk_is_full), Verdict::Ok { pid: pid(), beat: seconds(1) });
    let kernel_is_old =
        Evidence { lock: LockObservation::Marked { beat: Some(before_now(seconds(3000))) }, ..held(SAME, seconds(1)) };
    assert_eq!(judge(&kernel_is_old), Verdict::Ok { pid: pid(), beat: seconds(1) });
    let both_are_old =
        Evidence { lock: LockObservation::Marked { beat: Some(before_now(seconds(90))) }, ..held(SAME, seconds(3000)) };
    let expected = Verdict::Stuck { pid: pid(), beat: Some(seconds(90)), bound: BOUND };
    assert_eq!(judge(&both_are_old), expected);
}

#[test]
fn a_beat_that_is_not_the_holders_own_does_not_count() {
    let forgeries = [
        Beat { nonce: "f00d".to_owned(), ..beat_at(NOW) },
        Beat { generation: 6, ..beat_at(NOW) },
        Beat { generation: 8, ..beat_at(NOW) },
        Beat { boot_id: Some("last-boot".to_owned()), ..beat_at(NOW) },
        Beat { boot_id: None, ..beat_at(NOW) },
    ];
    for beat in forgeries {
        let seen = Evidence { beat: Some(beat.clone()), ..held(SAME, Duration::ZERO) };
        assert_eq!(judge(&seen), Verdict::Stuck { pid: pid(), beat: None, bound: BOUND }, "{beat:?}");
        // A holder that has only just started is not judged by what another one left behind.
        let fresh = Evidence { owner: recorded(owner_since(seconds(1)), SAME), ..seen };
        assert_eq!(judge(&fresh), Verdict::Starting { pid: Some(pid()) }, "{beat:?}");
    }
}

#[test]
fn a_beat_does_not_count_where_this_boot_is_not_known() {
    let seen = Evidence { boot_id: None, beat: Some(Beat { boot_id: None, ..beat_at(NOW) }), ..held(SAME, POLL) };
    assert_eq!(judge(&seen), Verdict::Stuck { pid: pid(), beat: None, bound: BOUND });
    // What the kernel keeps is always of this boot.
    let published = Evidence { lock: LockObservation::Marked { beat: Some(NOW) }, ..seen };
    assert_eq!(judge(&published), Verdict::Ok { pid: pid(), beat: Duration::ZERO });
}

#[test]
fn a_beat_ahead_of_the_clock_is_fresh_by_a_rounding_error_and_nothing_beyond() {
    let ahead = |by: Duration| Evidence { beat: Some(beat_at(NOW + by)), ..held(SAME, Duration::ZERO) };
    for by in [Duration::from_millis(1), seconds(1)] {
        assert_eq!(judge(&ahead(by)), Verdict::Ok { pid: pid(), beat: Duration::ZERO });
    }
    // Otherwise a time of another clock would stay fresh until this one caught up with it.
    for by in [Duration::from_millis(1001), seconds(1_000_000)] {
        assert_eq!(judge(&ahead(by)), Verdict::Stuck { pid: pid(), beat: None, bound: BOUND });
    }
    let published =
        Evidence { lock: LockObservation::Marked { beat: Some(NOW + seconds(1_000_000)) }, ..held(SAME, BOUND) };
    assert_eq!(judge(&published), Verdict::Stuck { pid: pid(), beat: Some(BOUND), bound: BOUND });
}

#[test]
fn the_wall_clock_changes_no_verdict() {
    for ago in [Duration::ZERO, seconds(40), seconds(90)] {
        let seen = held(SAME, ago);
        for wall_ms in [0, i64::MIN, i64::MAX, 1_700_000_000_000 + 400 * 86_400_000, -315_360_000_000] {
            let stepped = Evidence { now: Now { wall_ms, ..seen.now }, ..seen.clone() };
            assert_eq!(judge(&stepped), judge(&seen));
        }
    }
}

#[test]
fn an_explicit_bound_takes_the_place_of_the_recorded_one() {
    let late = Evidence { stuck_after: Some(seconds(300)), ..held(SAME, seconds(90)) };
    assert_eq!(judge(&late), Verdict::Slow { pid: pid(), beat: seconds(90) });
    let shorter = Evidence { stuck_after: Some(seconds(40)), ..held(SAME, seconds(40)) };
    let expected = Verdict::Stuck { pid: pid(), beat: Some(seconds(40)), bound: seconds(40) };
    assert_eq!(judge(&shorter), expected);
    // A bound below two polls wins over "at most two polls old".
    let tight = Evidence { stuck_after: Some(seconds(5)), ..held(SAME, seconds(5)) };
    assert_eq!(judge(&tight), Verdict::Stuck { pid: pid(), beat: Some(seconds(5)), bound: seconds(5) });
    let unrecorded = Evidence {
        stuck_after: Some(seconds(5)),
        ..evidence(LockObservation::Marked { beat: Some(before_now(seconds(5))) }, OwnerEvidence::None)
    };
    assert_eq!(judge(&unrecorded).word(), "unknown");
}

#[test]
fn each_verdict_has_one_word_and_says_its_cause() {
    let cases = [
        (held(SAME, seconds(3)), "ok", "watcher pid 4711 is well (last beat 3s ago)"),
        (held(SAME, seconds(45)), "slow", "watcher pid 4711 is slow (last beat 45s ago)"),
        (
            held(SAME, seconds(7200)),
            "stuck",
            "watcher pid 4711 is stuck: it lives, but its last beat was 2h 0m ago (bound 60s)",
        ),
        (
            evidence(LockObservation::Free, recorded(owner(), Sameness::Different(Difference::Gone))),
            "dead",
            "watcher pid 4711 was killed or crashed",
        ),
        (
            evidence(LockObservation::Free, recorded(owner(), Sameness::Different(Difference::PidReused))),
            "dead",
            "watcher pid 4711 was killed or crashed, and another process has its pid now",
        ),
        (
            evidence(LockObservation::Free, recorded(owner(), Sameness::Different(Difference::OtherBoot))),
            "dead",
            "watcher pid 4711 ended when the machine was restarted",
        ),
        (
            evidence(LockObservation::Free, recorded(owner(), unknown())),
            "dead",
            "watcher pid 4711 no longer holds the lock of this home",
        ),
        (evidence(LockObservation::Absent, OwnerEvidence::None), "stopped", "no watcher has been started"),
        (evidence(LockObservation::Marked { beat: None }, OwnerEvidence::None), "starting", "a watcher is starting"),
        (
            evidence(LockObservation::Unmarked { taker: 42 }, OwnerEvidence::None),
            "foreign",
            "the lock is held by pid 42, which is not a watcher of this home",
        ),
    ];
    for (seen, word, cause) in cases {
        let verdict = judge(&seen);
        assert_eq!((verdict.word(), verdict.to_string().as_str()), (word, cause));
    }
}

#[test]
fn an_age_is_told_in_at_most_two_units() {
    let told: Vec<_> = [0, 999, 1000, 59_999, 119_000, 120_000, 3_599_000, 3_600_000, 86_399_000, 93_600_000]
        .map(|number| age(Duration::from_millis(number)))
        .into();
    let expected = ["0ms", "999ms", "1s", "59s", "119s", "2m 0s", "59m 59s", "1h 0m", "23h 59m", "1d 2h"];
    assert_eq!(told, expected);
    assert!(!age(Duration::MAX).is_empty());
}

// Properties over every evidence there can be.

fn is_held(evidence: &Evidence) -> bool {
    matches!(evidence.lock, LockObservation::Marked { .. })
}

fn any_duration() -> impl Strategy<Value = Duration> {
    // Near the edges that matter, and anywhere.
    prop_oneof![
        (0u64..200).prop_map(|ago| before_now(seconds(ago))),
        (0u64..200).prop_map(|ahead| NOW + seconds(ahead)),
        any::<u64>().prop_map(Duration::from_millis),
        Just(Duration::MAX),
    ]
}

fn any_sighting() -> impl Strategy<Value = LockObservation> {
    prop_oneof![
        Just(LockObservation::Absent),
        Just(LockObservation::Free),
        proptest::option::of(any_duration()).prop_map(|beat| LockObservation::Marked { beat }),
        any::<u32>().prop_map(|taker| LockObservation::Unmarked { taker }),
        Just(LockObservation::Unknown("why".to_owned())),
    ]
}

fn any_sameness() -> impl Strategy<Value = Sameness> {
    prop_oneof![
        Just(SAME),
        Just(Sameness::Same(Proof::StartAndExecutable)),
        Just(Sameness::Different(Difference::Gone)),
        Just(Sameness::Different(Difference::OtherBoot)),
        Just(Sameness::Different(Difference::PidReused)),
        Just(unknown()),
    ]
}

prop_compose! {
    fn any_owner()(
        generation in 6u64..9,
        since_monotonic_ms in prop_oneof![any_duration().prop_map(saturated_millis), any::<u64>()],
        poll_ms in prop_oneof![0u64..100_000, any::<u64>()],
        stuck_after_ms in prop_oneof![0u64..100_000, any::<u64>()],
        has_left in any::<bool>(),
    ) -> Owner {
        let left = has_left.then(|| Departure { at: 0, how: "left".to_owned() });
        Owner { generation, since_monotonic_ms, poll_ms, stuck_after_ms, left, ..owner() }
    }
}

prop_compose! {
    fn any_beat()(
        generation in 6u64..9,
        is_own in any::<bool>(),
        boot in proptest::option::of(any::<bool>()),
        monotonic_ms in prop_oneof![any_duration().prop_map(saturated_millis), any::<u64>()],
    ) -> Beat {
        let nonce = if is_own { "5eed" } else { "f00d" }.to_owned();
        let boot_id = boot.map(|is_this| if is_this { "this-boot" } else { "last-boot" }.to_owned());
        Beat { generation, nonce, boot_id, monotonic_ms, ..beat_at(NOW) }
    }
}

prop_compose! {
    fn any_evidence()(
        lock in any_sighting(),
        owner in prop_oneof![
            Just(OwnerEvidence::None),
            Just(OwnerEvidence::Damaged("torn".to_owned())),
            (any_owner(), any_sameness()).prop_map(|(owner, sameness)| recorded(owner, sameness)),
        ],
        beat in proptest::option::of(any_beat()),
        last_life in proptest::option::of((6u64..9).prop_map(|generation| Life { generation, ..life() })),
        stop_requested in proptest::option::of(6u64..9),
        stopped_foreign in proptest::option::of(Just(Pid::new(77).unwrap())),
        wall_ms in any::<i64>(),
        monotonic in prop_oneof![Just(NOW), any_duration()],
        boot_id in proptest::option::of(Just("this-boot".to_owned())),
        time_namespace in proptest::option::of(1u64..3),
        stuck_after in proptest::option::of(any_duration()),
    ) -> Evidence {
        Evidence { lock, owner, beat, last_life, stop_requested, stopped_foreign, now: Now { wall_ms, monotonic }, boot_id, time_namespace, runtime_dir: None, stuck_after, foreign: None }
    }
}

/// A foreign watcher with this pid, well by all that its program asks.
fn foreign_watcher(pid: u32) -> ForeignObservation {
    let pid = Pid::new(pid).unwrap();
    ForeignObservation {
        pid: Some(pid),
        name: format!("pid {pid}"),
        state: ForeignState::Proven { pid, bound: seconds(300) },
        last_beat: Some(seconds(3)),
        held_for: Some(seconds(60)),
    }
}

#[test]
fn a_foreign_watcher_holds_a_home_that_ours_do_not() {
    let well = Verdict::Ok { pid: Pid::new(99).unwrap(), beat: seconds(3) };
    for lock in [LockObservation::Free, LockObservation::Absent] {
        for owner in [OwnerEvidence::None, recorded(owner(), SAME), recorded(owner(), unknown())] {
            let seen = Evidence { foreign: Some(foreign_watcher(99)), ..evidence(lock.clone(), owner) };
            assert_eq!(judge(&seen), well, "{seen:?}");
        }
    }
    for lock in [LockObservation::Marked { beat: Some(NOW) }, LockObservation::Unmarked { taker: 3 }] {
        let seen = evidence(lock, recorded(owner(), SAME));
        let beside = Evidence { foreign: Some(foreign_watcher(99)), ..seen.clone() };
        assert_eq!(judge(&beside), judge(&seen), "our own lock decides");
        assert_eq!(beside.foreign_holder(), None);
    }
}

#[test]
fn a_watcher_of_ours_that_has_let_go_is_no_foreign_watcher() {
    let own = foreign_watcher(owner().pid().get());
    let seen = evidence(LockObservation::Free, recorded(owner(), SAME));
    assert_eq!(judge(&Evidence { foreign: Some(own.clone()), ..seen.clone() }), judge(&seen));
    // A pid that was given to a foreign watcher since is that one's.
    let reused = recorded(owner(), Sameness::Different(Difference::PidReused));
    let seen = Evidence { foreign: Some(own.clone()), ..evidence(LockObservation::Free, reused) };
    assert_eq!(seen.foreign_holder(), Some(&own));
    assert_eq!(judge(&seen).word(), "ok");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn any_evidence_has_a_verdict_that_can_be_told(seen in any_evidence()) {
        let verdict = judge(&seen);
        prop_assert!(!verdict.to_string().is_empty());
    }

    #[test]
    fn stuck_is_only_said_of_the_same_living_holder(seen in any_evidence()) {
        if let Verdict::Stuck { pid, .. } = judge(&seen) {
            let OwnerEvidence::Recorded(owner, Sameness::Same(_)) = &seen.owner else {
                return Err(TestCaseError::fail("stuck without a proof of identity"));
            };
            prop_assert_eq!(pid, owner.pid());
            prop_assert!(is_held(&seen));
        }
    }

    #[test]
    fn an_unknown_identity_is_never_stuck(seen in any_evidence(), owner in any_owner()) {
        let seen = Evidence { owner: recorded(owner, unknown()), ..seen };
        let verdict = judge(&seen);
        prop_assert_ne!(verdict.word(), "stuck");
    }

    #[test]
    fn life_and_death_follow_the_lock_and_nothing_else(seen in any_evidence()) {
        let word = judge(&seen).word();
        let allowed: &[&str] = match &seen.lock {
            LockObservation::Absent | LockObservation::Free => &["dead", "stopped"],
            LockObservation::Marked { .. } => &["ok", "starting", "slow", "stuck", "unknown"],
            LockObservation::Unmarked { .. } => &["foreign"],
            LockObservation::Unknown(_) => &["unknown"],
        };
        prop_assert!(allowed.contains(&word), "{word} for {:?}", seen.lock);
    }

    #[test]
    fn a_watcher_is_only_called_watching_while_it_holds_the_lock(seen in any_evidence()) {
        let verdict = judge(&seen);
        if verdict.is_watching() || verdict.living_pid().is_some() {
            prop_assert!(is_held(&seen), "{verdict:?}");
        }
    }
}

#[test]
fn a_living_watcher_whose_lock_is_elsewhere_is_not_called_dead() {
    let mut evidence = evidence(LockObservation::Free, recorded(owner(), Sameness::Same(Proof::PidfdInode)));
    evidence.runtime_dir = Some("/run/user/1/fm-watch/1-2".into());
    let verdict = judge(&evidence);
    assert!(matches!(&verdict, Verdict::Unknown { why } if why.contains("in the home itself")), "{verdict:?}");
    evidence.owner = recorded(owner(), Sameness::Different(Difference::Gone));
    assert!(matches!(judge(&evidence), Verdict::Dead { .. }));
}
