//! The table of verdicts, row by row.

use super::*;

const BOOT: &str = "00000000-0000-0000-0000-0000000000b0";

fn here() -> Here {
    Here { host: "host".to_owned(), boot: Boot::of(Some(BOOT)), clocks: Clocks::Common }
}

fn start(ticks: u64) -> Start {
    Start::new(Boot::of(Some(BOOT)), ticks)
}

fn record(host: &str, start: Option<Start>) -> Record {
    Record { pid: 77, host: host.to_owned(), start }
}

#[track_caller]
fn check(start: Option<Start>, life: &Life, expected: &Owner) {
    assert_eq!(owner(&record("host", start), &here(), life), *expected);
}

#[test]
fn a_pid_that_does_not_exist_is_gone_unless_its_start_lives_elsewhere() {
    check(None, &Life::Gone, &Owner::Gone(Difference::Gone));
    check(Some(start(5)), &Life::Gone, &Owner::GoneUnlessElsewhere(Difference::Gone));
    check(Start::parse("5"), &Life::Gone, &Owner::GoneUnlessElsewhere(Difference::Gone));
    // A start of another boot lives nowhere.
    check(Some(Start::new(Boot::of(Some("b1")), 5)), &Life::Gone, &Owner::Gone(Difference::Gone));
}

#[test]
fn a_living_pid_is_the_owner_unless_its_start_differs() {
    let alive = |ticks| Life::Alive(Some(start(ticks)));
    check(None, &alive(5), &Owner::Held(Held::ByPid));
    check(None, &Life::Alive(None), &Owner::Held(Held::ByPid));
    check(Some(start(5)), &alive(5), &Owner::Held(Held::ByOwner));
    check(Some(start(5)), &Life::Alive(None), &Owner::Held(Held::StartUnreadable));
    check(Some(start(5)), &alive(6), &Owner::GoneUnlessElsewhere(Difference::PidReused));
    check(Some(Start::new(Boot::of(Some("b1")), 5)), &alive(5), &Owner::Gone(Difference::OtherBoot));
    check(Start::parse("5"), &alive(5), &Owner::Held(Held::ByOwner));
    check(Start::parse("6"), &alive(5), &Owner::GoneUnlessElsewhere(Difference::PidReused));
}

#[test]
fn what_the_system_does_not_tell_proves_nothing() {
    let silent = Life::Unknown("not today".to_owned());
    check(Some(start(5)), &silent, &Owner::Held(Held::Unknown("not today".to_owned())));
    check(None, &silent, &Owner::Held(Held::Unknown("not today".to_owned())));
}

#[test]
fn another_host_or_namespace_is_held_whatever_lives_here() {
    for host in ["other", "HOST", "host ", "", "host?pidns-f0000001"] {
        for life in [Life::Gone, Life::Alive(None), Life::Alive(Some(start(9)))] {
            assert_eq!(owner(&record(host, Some(start(5))), &here(), &life), Owner::Held(Held::OtherHost), "{host}");
        }
    }
}

#[test]
fn in_our_own_marked_namespace_nobody_is_searched_for() {
    let here = Here { host: "host?pidns-f0000001".to_owned(), ..here() };
    let record = record(&here.host, Some(start(5)));
    assert_eq!(owner(&record, &here, &Life::Gone), Owner::Gone(Difference::Gone));
}

#[test]
fn a_process_elsewhere_is_known_by_its_start_where_starts_can_be_compared() {
    let record = record("host", Some(start(5)));
    assert!(can_be_owner(5, Some(&start(5)), &record, Clocks::Common));
    assert!(!can_be_owner(5, Some(&start(6)), &record, Clocks::Common));
    assert!(!can_be_owner(5, None, &record, Clocks::Common));
    assert!(can_be_owner(5, None, &record, Clocks::Shifted));
    assert!(can_be_owner(5, Some(&start(6)), &record, Clocks::Shifted));
    // The process under the recorded number itself was judged before.
    assert!(!can_be_owner(77, Some(&start(5)), &record, Clocks::Common));
}

#[test]
fn what_is_no_record_is_held_for_ever_or_watched() {
    let nobody = |_: &Record| -> Result<Difference, Held> { panic!("there is no record to judge") };
    assert_eq!(verdict(&Content::Empty, nobody), Verdict::Held(Held::Empty));
    assert_eq!(verdict(&Content::Strict, nobody), Verdict::Held(Held::Strict));
    let cut = Content::read(b"12\nhost");
    assert_eq!(verdict(&cut, nobody), Verdict::Malformed { why: Malformed::Cut, breaker: None });
    let left = Content::read(b"filelock/break\n12\n");
    let breaker = Decimal::from(12);
    let why = Malformed::Placeholder(breaker.clone());
    assert_eq!(verdict(&left, nobody), Verdict::Malformed { why, breaker: Some(breaker) });
}

#[test]
fn a_record_of_a_dead_owner_tells_under_whose_names_to_search() {
    let verdict = verdict(&Content::read(b"077\nhost\n"), |_| Ok(Difference::Gone));
    assert_eq!(verdict, Verdict::Gone { how: Difference::Gone, breaker: Decimal::from(77) });
}

#[test]
fn a_new_file_does_not_inherit_the_age_of_an_old_one() {
    let facts = Facts {
        kind: crate::system::Kind::File,
        device: 1,
        inode: 2,
        size: 3,
        mtime_ns: 4,
        ctime_ns: 5,
        links: 1,
        uid: 0,
        mode: 0o644,
    };
    for changed in [Facts { mtime_ns: 9, ..facts }, Facts { inode: 9, ..facts }, Facts { ctime_ns: 9, ..facts }] {
        assert_ne!(fingerprint(&changed), fingerprint(&facts), "{changed:?}");
    }
}
