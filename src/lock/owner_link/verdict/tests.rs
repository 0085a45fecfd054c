use super::*;

const PATIENCE: Duration = Duration::from_secs(2);
const YOUNG: Duration = Duration::from_millis(1_999);

fn listing(started_at: i64, started: &str, command: &str) -> Listing {
    Listing {
        started_at,
        started: started.to_owned(),
        arguments: format!("{command}\0").into_bytes(),
        name: b"name".to_vec(),
    }
}

fn recorded(text: &str) -> Recorded {
    Recorded { text: text.to_owned(), written_at: 1_000 }
}

fn seen(pid: Written, life: Life, age: Duration) -> Seen {
    Seen { pid, life, identity: None, belief: Belief::Proof, age }
}

#[test]
fn a_pid_is_read_as_a_shell_reads_it() {
    let table: [(&[u8], Written); 18] = [
        (b"", Written::Nothing),
        (b"\n\n", Written::Nothing),
        (b"\0\0\0\0", Written::Nothing),
        (b"42\n", Written::Number(42)),
        (b"42", Written::Number(42)),
        (b"0042\n\n", Written::Number(42)),
        (b"4\x002\n", Written::Number(42)),
        (b"1\n", Written::Number(1)),
        (b"2147483647", Written::Number(2_147_483_647)),
        (b"0\n", Written::Zero),
        (b"000", Written::Zero),
        (b"2147483648", Written::Odd),
        (b"99999999999999999999999999", Written::Odd),
        (b"-1\n", Written::Odd),
        (b" 42", Written::Odd),
        (b"42\r\n", Written::Odd),
        (b"42\n43\n", Written::Odd),
        (b"\xff\xfe", Written::Odd),
    ];
    for (bytes, expected) in table {
        assert_eq!(Written::parse(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn only_a_proof_of_death_makes_a_pid_stale() {
    let judged = |life| judge(&seen(Written::Number(7), life, Duration::from_secs(1 << 40)), PATIENCE);
    assert_eq!(judged(Life::Gone), Verdict::Stale(Stale::Died(7, Difference::Gone)));
    assert!(matches!(judged(Life::Lives(None)), Verdict::Held(Held::Lives(7, Sameness::Unknown(_)))));
    assert!(matches!(judged(Life::Unknown("EIO".to_owned())), Verdict::Held(Held::Lives(7, Sameness::Unknown(_)))));
}

#[test]
fn without_a_pid_age_decides_and_never_before_the_patience_is_over() {
    for pid in [Written::Nothing, Written::Odd] {
        let judged = |age| judge(&seen(pid, Life::Unknown(String::new()), age), PATIENCE);
        assert_eq!(judged(YOUNG), Verdict::Held(Held::BeingTaken(YOUNG)));
        assert_eq!(judged(PATIENCE), Verdict::Stale(Stale::NeverTaken));
    }
}

#[test]
fn pid_zero_is_held_for_ever_as_a_shell_has_it() {
    let judged = judge(&seen(Written::Zero, Life::Gone, Duration::MAX), PATIENCE);
    assert!(matches!(judged, Verdict::Held(Held::Unjudged(_))), "{judged:?}");
}

#[test]
fn an_identity_can_prove_that_a_live_pid_is_another_process() {
    let record = recorded("Fri Nov 20 23:05:27 2026 bash /path/fm-watch.sh");
    let lives = |listing| Seen { identity: Some(record.clone()), ..seen(Written::Number(7), listing, YOUNG) };
    let other = listing(2_000, "Sat Nov 21 03:00:00 2026", "sleep");
    let same = listing(900, "Fri Nov 20 23:05:27 2026", "bash /path/fm-watch.sh");
    let reused = Verdict::Stale(Stale::Died(7, Difference::PidReused));
    assert_eq!(judge(&lives(Life::Lives(Some(other.clone()))), PATIENCE), reused);
    assert!(matches!(
        judge(&lives(Life::Lives(Some(same))), PATIENCE),
        Verdict::Held(Held::Lives(7, Sameness::Same(_)))
    ));
    assert!(matches!(judge(&lives(Life::Lives(None)), PATIENCE), Verdict::Held(_)), "a listing that cannot be read");
    let without_record = seen(Written::Number(7), Life::Lives(Some(other)), YOUNG);
    assert!(matches!(judge(&without_record, PATIENCE), Verdict::Held(_)), "no record to compare with");
}

#[test]
fn what_is_next_depends_on_both_places() {
    let held = Verdict::Held(Held::BeingTaken(YOUNG));
    let stale = Verdict::Stale(Stale::NeverTaken);
    let table = [
        (None, None, Next::Claim),
        (None, Some(&held), Next::Wait),
        (None, Some(&stale), Next::Reclaim),
        (Some(&held), None, Next::Wait),
        (Some(&held), Some(&stale), Next::Wait),
        (Some(&held), Some(&held), Next::Wait),
        (Some(&stale), None, Next::Reclaim),
        (Some(&stale), Some(&stale), Next::Reclaim),
        (Some(&stale), Some(&held), Next::Wait),
    ];
    for (lock, steal, expected) in table {
        assert_eq!(next(lock, steal), expected, "{lock:?} {steal:?}");
    }
}
