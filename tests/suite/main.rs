//! The real program in hermetic homes: its races, its crashes, its answers.
//!
//! One binary, run by libtest-mimic, so that a test which lacks a privilege it needs counts as *ignored*, with the
//! reason in its line, and never as passed. Filters, `--test-threads` and `--list` work as they do in libtest.
//!
//! Each safety test has a twin that takes the protection away and asserts that the violation is then seen. Twins that
//! need a named protection of the program (`FM_WATCH_WITHOUT`) exist only with the feature `sync-points`.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub
)]

#[macro_use]
mod support;

/// Declares the modules of tests and gathers their cases.
macro_rules! suite {
    ($($module:ident,)+) => {
        $(mod $module;)+
        fn all() -> Vec<libtest_mimic::Trial> {
            let mut all = Vec::new();
            $(all.extend($module::cases());)+
            all
        }
    };
}

suite! {
    arm,
    attacks,
    beat,
    checks,
    commands,
    daemon_client,
    daemon_forgery,
    daemon_keeper,
    daemon_logs,
    daemon_monitor,
    daemons,
    delivery,
    doctor,
    eviction,
    file_system,
    files,
    firstmate_view,
    firstmate_adopt,
    firstmate_contract,
    firstmate_queue,
    firstmate_service,
    firstmate_signals,
    hooks,
    hook_install,
    hook_sessions,
    hook_states,
    identity,
    lock_command,
    lock_storm,
    mixed_storm,
    oracle,
    owner_link,
    panes,
    pidfile,
    service,
    settings,
    signals,
    singleton,
    socket,
    soft,
    soft_crashes,
    soft_mutants,
    sources,
    storm,
    support_works,
    wakes,
}

/// Most tests wait for other processes, so more of them run at a time than there are processors.
const THREADS: usize = 6;

fn main() -> std::process::ExitCode {
    if let Some(code) = support::role::played() {
        return code;
    }
    if let Some(code) = support::player::played() {
        return code;
    }
    // A test that needs contenders of our own, each with a pid of its own, starts this program again.
    if let Some(ended) = owner_link::contender::role() {
        return ended;
    }
    support::dispositions::restore();
    let mut arguments = libtest_mimic::Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    libtest_mimic::run(&arguments, all()).exit_code()
}
