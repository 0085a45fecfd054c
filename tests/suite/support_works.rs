//! The support itself: a skipped test is no passed one, and nothing outlives its home.

use std::os::unix::process::CommandExt;
use std::time::Duration;

use crate::support::home::finish;
use crate::support::{Background, Skip, TestHome, case, processes, requires, wait_until};

cases! {
    a_missing_program_is_a_reason_to_skip,
    a_skip_is_not_a_success,
    a_process_that_names_the_home_is_seen,
    the_environment_of_a_test_is_its_own,
}

fn a_missing_program_is_a_reason_to_skip() {
    let Skip(reason) = requires("no-such-program-anywhere").unwrap_err();
    assert_eq!(reason, "needs the program no-such-program-anywhere");
    assert!(requires("sh").is_ok());
}

fn a_skip_is_not_a_success() {
    fn skipped() -> Result<(), Skip> {
        Err(Skip("for the sake of this test".to_owned()))
    }
    let arguments = libtest_mimic::Arguments {
        quiet: true,
        logfile: Some("/dev/null".to_owned()),
        ..libtest_mimic::Arguments::default()
    };
    let conclusion = libtest_mimic::run(&arguments, vec![case("suite::support_works", "skipped", skipped)]);
    assert_eq!((conclusion.num_passed, conclusion.num_ignored), (0, 1));
}

fn a_process_that_names_the_home_is_seen() {
    let home = TestHome::new();
    let mut command = home.bare("sleep");
    command.arg("1000").env("UNUSED", "1");
    let unseen = Background::spawn(command);
    let mut command = home.bare("sleep");
    command.arg0(home.scratch()).arg("1000");
    let seen = Background::spawn(command);
    wait_until(Duration::from_secs(5), "the process is seen", || {
        processes::naming(home.scratch()).iter().any(|(pid, _)| *pid == seen.pid()).then_some(())
    });
    assert!(processes::naming(home.scratch()).iter().all(|(pid, _)| *pid != unseen.pid()));
}

fn the_environment_of_a_test_is_its_own() {
    let home = TestHome::new();
    let answer = finish(home.bare("env")).expect_code(0);
    let names: Vec<_> = answer.lines().iter().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    let expected = ["HOME", "LANG", "PATH", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME"];
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
    assert!(answer.stdout.contains(home.scratch().to_str().unwrap()));
}
