//! One test for each branch of the comparison, then what holds for every pair of records.

use proptest::prelude::*;

use super::*;

fn record() -> Identity {
    Identity {
        pid: Pid::new(4711).unwrap(),
        start_ticks: 987_654,
        boot_id: Some("this-boot".to_owned()),
        pid_namespace: Some(4_026_531_836),
        pidfd_inode: Some(31),
        executable: Some(Executable { path: "/opt/fm-watch".into(), device: 64_768, inode: 77 }),
        uid: 1000,
    }
}

fn here() -> Standpoint {
    Standpoint { boot_id: Some("this-boot".to_owned()), pid_namespace: Some(4_026_531_836), time_namespace: Some(1) }
}

/// What is seen where the kernel is too old to give each pidfd an inode of its own.
fn seen_without_pidfd_inode() -> Identity {
    Identity { pidfd_inode: None, ..record() }
}

fn is_unknown(answer: &Sameness) -> bool {
    matches!(answer, Sameness::Unknown(_))
}

#[test]
fn a_process_is_itself() {
    let answer = compare(&record(), &Observation::Seen(record()), &here());
    assert_eq!(answer, Sameness::Same(Proof::PidfdInode));
}

#[test]
fn a_pid_that_names_nobody_is_gone() {
    assert_eq!(compare(&record(), &Observation::Gone, &here()), Sameness::Different(Difference::Gone));
}

#[test]
fn a_process_that_cannot_be_read_is_unknown_with_the_reason() {
    let answer = compare(&record(), &Observation::Unreadable("EACCES, say".to_owned()), &here());
    assert_eq!(answer, Sameness::Unknown("EACCES, say".to_owned()));
}

#[test]
fn a_record_of_another_boot_is_another_process_whatever_is_seen() {
    let there = Standpoint { boot_id: Some("next-boot".to_owned()), ..here() };
    for seen in [Observation::Gone, Observation::Unreadable("no".to_owned()), Observation::Seen(record())] {
        assert_eq!(compare(&record(), &seen, &there), Sameness::Different(Difference::OtherBoot), "{seen:?}");
    }
}

#[test]
fn another_boot_is_told_even_from_another_pid_namespace() {
    // No process survives a boot, so no namespace has to be understood for that.
    let there = Standpoint { boot_id: Some("next-boot".to_owned()), pid_namespace: Some(5), ..here() };
    let answer = compare(&record(), &Observation::Gone, &there);
    assert_eq!(answer, Sameness::Different(Difference::OtherBoot));
}

#[test]
fn a_boot_id_that_one_side_does_not_know_decides_nothing() {
    let unreadable = Standpoint { boot_id: None, ..here() };
    let unrecorded = Identity { boot_id: None, ..record() };
    let seen = Observation::Seen(record());
    assert_eq!(compare(&record(), &seen, &unreadable), Sameness::Same(Proof::PidfdInode));
    assert_eq!(compare(&unrecorded, &seen, &here()), Sameness::Same(Proof::PidfdInode));
}

#[test]
fn a_pid_of_another_namespace_is_unknown_whatever_is_seen_under_that_number() {
    let inside = Standpoint { pid_namespace: Some(4_026_532_000), ..here() };
    // "No such process" in this namespace says nothing about the other one.
    for seen in [Observation::Gone, Observation::Unreadable("no".to_owned()), Observation::Seen(record())] {
        let answer = compare(&record(), &seen, &inside);
        let Sameness::Unknown(why) = &answer else { panic!("{seen:?} became {answer:?}") };
        assert!(why.contains("4711") && why.contains("pid namespace"), "{why}");
    }
}

#[test]
fn a_pidfd_inode_decides_alone_over_every_other_fact() {
    let upgraded = Executable { path: "/opt/fm-watch (deleted)".into(), device: 1, inode: 2 };
    let changed = Identity { start_ticks: 1, executable: Some(upgraded), uid: 0, ..record() };
    let answer = compare(&record(), &Observation::Seen(changed), &here());
    assert_eq!(answer, Sameness::Same(Proof::PidfdInode));
}

#[test]
fn a_pid_reused_in_the_same_tick_by_the_same_program_is_a_stranger_by_its_pidfd_inode() {
    let stranger = Identity { pidfd_inode: Some(32), ..record() };
    let answer = compare(&record(), &Observation::Seen(stranger), &here());
    assert_eq!(answer, Sameness::Different(Difference::PidReused));
}

#[test]
fn without_a_pidfd_inode_on_either_side_another_start_tick_is_another_process() {
    for (recorded, seen) in [(record(), seen_without_pidfd_inode()), (seen_without_pidfd_inode(), record())] {
        let later = Identity { start_ticks: recorded.start_ticks + 1, ..seen };
        let answer = compare(&recorded, &Observation::Seen(later), &here());
        assert_eq!(answer, Sameness::Different(Difference::PidReused));
    }
}

#[test]
fn the_same_tick_and_executable_are_the_same_process_by_the_weaker_proof() {
    let answer = compare(&record(), &Observation::Seen(seen_without_pidfd_inode()), &here());
    assert_eq!(answer, Sameness::Same(Proof::StartAndExecutable));
}

#[test]
fn an_executable_is_compared_by_device_and_inode_and_never_by_its_path() {
    let moved = Executable { path: "/opt/fm-watch (deleted)".into(), device: 64_768, inode: 77 };
    let seen = Identity { executable: Some(moved), ..seen_without_pidfd_inode() };
    let answer = compare(&record(), &Observation::Seen(seen), &here());
    assert_eq!(answer, Sameness::Same(Proof::StartAndExecutable));

    for (device, inode) in [(64_768, 78), (64_769, 77)] {
        let another = Executable { path: "/opt/fm-watch".into(), device, inode };
        let seen = Identity { executable: Some(another), ..seen_without_pidfd_inode() };
        let answer = compare(&record(), &Observation::Seen(seen), &here());
        assert!(is_unknown(&answer), "the same tick alone is no proof, yet it became {answer:?}");
    }
}

#[test]
fn an_executable_that_either_side_could_not_read_leaves_it_unknown() {
    let blind = Identity { executable: None, ..seen_without_pidfd_inode() };
    let answers = [
        compare(&record(), &Observation::Seen(blind.clone()), &here()),
        compare(&blind, &Observation::Seen(record()), &here()),
        compare(&blind, &Observation::Seen(blind.clone()), &here()),
    ];
    for answer in answers {
        assert!(is_unknown(&answer), "{answer:?}");
    }
}

#[test]
fn a_pid_is_never_one_that_must_not_be_signalled() {
    // 0 is the caller's group, 1 is init, and beyond i32::MAX the kernel's negative numbers begin.
    for number in [0, 1, 1 << 31, u32::MAX] {
        assert_eq!(Pid::new(number), None, "{number}");
        assert!(serde_json::from_str::<Pid>(&number.to_string()).is_err(), "{number}");
    }
    assert!(serde_json::from_str::<Pid>("-1").is_err());
    assert_eq!(Pid::new(2).map(Pid::get), Some(2));
    assert_eq!(Pid::new(i32::MAX.unsigned_abs()).map(Pid::get), Some(0x7FFF_FFFF));
}

#[test]
fn a_record_reads_back_as_it_was_written() {
    for identity in [record(), Identity { boot_id: None, pid_namespace: None, executable: None, ..record() }] {
        let text = serde_json::to_string(&identity).unwrap();
        assert_eq!(serde_json::from_str::<Identity>(&text).unwrap(), identity, "{text}");
    }
}

prop_compose! {
    fn any_identity()(
        start_ticks in 0u64..3,
        boot in proptest::option::of(0u8..2),
        pid_namespace in proptest::option::of(0u64..2),
        pidfd_inode in proptest::option::of(0u64..2),
        executable in proptest::option::of((0u64..2, 0u64..2)),
    ) -> Identity {
        Identity {
            start_ticks,
            boot_id: boot.map(|boot| boot.to_string()),
            pid_namespace,
            pidfd_inode,
            executable: executable
                .map(|(device, inode)| Executable { path: "/opt/fm-watch".into(), device, inode }),
            ..record()
        }
    }
}

proptest! {
    #[test]
    fn the_same_is_never_said_without_a_proof(
        recorded in any_identity(),
        seen in any_identity(),
        boot in proptest::option::of(0u8..2),
        pid_namespace in proptest::option::of(0u64..2),
    ) {
        let here = Standpoint { boot_id: boot.map(|boot| boot.to_string()), pid_namespace, time_namespace: None };
        let agree = |both: Option<bool>| both == Some(true);
        let differ = |both: Option<bool>| both == Some(false);
        let boot = recorded.boot_id.as_ref().zip(here.boot_id.as_ref()).map(|(a, b)| a == b);
        let namespace = recorded.pid_namespace.zip(here.pid_namespace).map(|(a, b)| a == b);
        let pidfd = recorded.pidfd_inode.zip(seen.pidfd_inode).map(|(a, b)| a == b);
        let executable = recorded.executable.as_ref().zip(seen.executable.as_ref()).map(|(a, b)| a == b);
        match compare(&recorded, &Observation::Seen(seen.clone()), &here) {
            Sameness::Same(proof) => {
                prop_assert!(!differ(boot) && !differ(namespace) && !differ(pidfd));
                match proof {
                    Proof::PidfdInode => prop_assert!(agree(pidfd)),
                    Proof::StartAndExecutable => {
                        prop_assert!(recorded.start_ticks == seen.start_ticks && agree(executable));
                    }
                    Proof::LockTaker | Proof::Start => prop_assert!(false, "a comparison never claims this"),
                }
            }
            // The word "dead" rests on this answer, so it needs a fact that differs.
            Sameness::Different(_) => prop_assert!(
                differ(boot) || (!differ(namespace) && (differ(pidfd) || recorded.start_ticks != seen.start_ticks))
            ),
            Sameness::Unknown(why) => prop_assert!(!why.is_empty()),
        }
    }
}
