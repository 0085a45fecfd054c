//! The table of verdicts, and what makes a holder this home's.

use std::ffi::OsString;

use super::*;
use crate::base::environment::Environment;
use crate::layout::paths::Home;
use crate::ownership::verdict::{Verdict, judge_foreign};
use crate::system::identity::Proof;

const SECOND: Duration = Duration::from_secs(1);

fn pid() -> Pid {
    Pid::new(77).unwrap()
}

fn holder(verification: Verification, held_for: Duration, beacon: Beacon) -> ShellHolder {
    ShellHolder { who: Who::Process { pid: pid(), verification, held_for }, beacon }
}

fn fleet() -> Fleet {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("bin")).unwrap();
    std::fs::write(directory.path().join("bin/fm-watch.sh"), "").unwrap();
    let settings = crate::settings::Loaded::of_defaults().unwrap().settings;
    Fleet::find(&crate::system::Real, &Home::at(directory.path()), &Environment::default(), &settings).unwrap()
}

#[test]
fn the_verdict_follows_the_table() {
    let doubtful = || Verification::Doubtful("it serves another home".to_owned());
    let touched = Beacon::Touched;
    let table = [
        (holder(Verification::Proven, SECOND, touched(SECOND)), "ok"),
        (holder(Verification::Proven, SECOND, touched(GRACE.checked_sub(SECOND).unwrap())), "ok"),
        (holder(Verification::Proven, SECOND, touched(GRACE)), "stuck"),
        (holder(Verification::Proven, SECOND, Beacon::Missing), "starting"),
        (holder(Verification::Proven, GRACE, Beacon::Missing), "stuck"),
        (holder(Verification::Proven, SECOND, Beacon::Ahead), "unknown"),
        (holder(Verification::Untold, SECOND, touched(SECOND)), "starting"),
        (holder(Verification::Untold, TELLS_WITHIN, touched(SECOND)), "unknown"),
        (holder(doubtful(), SECOND, touched(SECOND)), "starting"),
        (holder(doubtful(), TELLS_WITHIN, touched(SECOND)), "unknown"),
        (ShellHolder { who: Who::Nobody, beacon: touched(SECOND) }, "starting"),
        (ShellHolder { who: Who::Unjudged("its pid is 0".to_owned()), beacon: touched(SECOND) }, "unknown"),
    ];
    for (holder, word) in table {
        assert_eq!(judge_foreign(&holder.observation(), None).word(), word, "{holder:?}");
        assert!(!holder.to_string().is_empty());
    }
}

#[test]
fn a_grace_that_somebody_has_set_counts() {
    let late = holder(Verification::Proven, 40 * SECOND, Beacon::Touched(30 * SECOND));
    let late = late.observation();
    assert_eq!(judge_foreign(&late, None).word(), "ok");
    let stuck = Verdict::Stuck { pid: pid(), beat: Some(30 * SECOND), bound: 30 * SECOND };
    assert_eq!(judge_foreign(&late, Some(30 * SECOND)), stuck);
}

fn claims_of(fleet: &Fleet) -> Claims {
    Claims {
        pid: 77,
        identity: Sameness::Same(Proof::Start),
        home: Some(fleet.home().to_owned()),
        watcher_path: Some(fleet.script(Script::Watch).into()),
        held_for: SECOND,
    }
}

#[test]
fn only_all_facts_together_make_it_this_homes_watcher() {
    let fleet = fleet();
    let told = claims_of(&fleet);
    assert_eq!(verification(&told, &fleet), Verification::Proven);
    let mut slashed: OsString = fleet.home().to_owned();
    slashed.push("/");
    let other_home = Claims { home: Some(slashed), ..told.clone() };
    let other_program = Claims { watcher_path: Some("/elsewhere/fm-watch.sh".into()), ..told.clone() };
    let unsure = Claims { identity: Sameness::Unknown("it runs another command since".to_owned()), ..told.clone() };
    let reused = Claims { identity: Sameness::Different(Difference::PidReused), ..told.clone() };
    for doubtful in [other_home, other_program, unsure, reused] {
        assert!(matches!(verification(&doubtful, &fleet), Verification::Doubtful(_)), "{doubtful:?}");
    }
    for untold in [Claims { home: None, ..told.clone() }, Claims { watcher_path: None, ..told }] {
        assert_eq!(verification(&untold, &fleet), Verification::Untold);
    }
}

#[test]
fn a_number_of_no_ordinary_process_is_not_judged() {
    let fleet = fleet();
    let told = Claims { pid: 1, ..claims_of(&fleet) };
    assert!(matches!(who(&told, &fleet), Who::Unjudged(_)));
}

#[test]
fn a_beacon_has_an_age_or_lies_ahead() {
    assert_eq!(age(10_000, 4_000), Beacon::Touched(6 * SECOND));
    assert_eq!(age(10_000, 11_000), Beacon::Touched(Duration::ZERO), "file times are rounded");
    assert_eq!(age(10_000, 12_001), Beacon::Ahead);
    assert_eq!(age(i64::MIN, i64::MAX), Beacon::Ahead);
}
