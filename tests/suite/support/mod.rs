//! What the tests share: hermetic homes, processes that never outlive their test, and honest skipping.

pub mod background;
pub mod contest;
pub mod daemons;
pub mod dispositions;
pub mod fuse;
pub mod gate;
pub mod home;
pub mod manager;
pub mod namespace;
pub mod peers;
pub mod player;
pub mod processes;
pub mod rigged;
pub mod role;
pub mod scripted;
pub mod shims;
pub mod skip;
pub mod soft;
pub mod strace;
#[cfg(feature = "sync-points")]
pub mod sync;
pub mod wakes;

use std::time::Duration;

use libtest_mimic::{Completion, Trial};

pub use background::{Answer, Background};
pub use home::TestHome;
pub use skip::{Skip, requires, requires_root};

/// Lists the test functions of a module. Each takes nothing and returns `()` or `Result<(), Skip>`.
macro_rules! cases {
    ($($(#[$attribute:meta])* $name:ident),+ $(,)?) => {
        /// The tests of this module.
        pub fn cases() -> Vec<libtest_mimic::Trial> {
            vec![$($(#[$attribute])* $crate::support::case(module_path!(), stringify!($name), $name)),+]
        }
    };
}

/// One test. A panic fails it, a [`Skip`] makes it count as ignored.
pub fn case<O: Outcome>(module: &str, name: &str, test: fn() -> O) -> Trial {
    let module = module.split_once("::").map_or(module, |(_, module)| module);
    Trial::ignorable_test(format!("{module}::{name}"), move || {
        Ok(match test().outcome() {
            Ok(()) => Completion::Completed,
            Err(Skip(reason)) => Completion::ignored_with(reason),
        })
    })
}

/// What a test function may return.
pub trait Outcome: 'static {
    /// The same as a result.
    fn outcome(self) -> Result<(), Skip>;
}

impl Outcome for () {
    fn outcome(self) -> Result<(), Skip> {
        Ok(())
    }
}

impl Outcome for Result<(), Skip> {
    fn outcome(self) -> Self {
        self
    }
}

/// Long enough for anything that should happen at once, also on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

/// Looks until something is there. It fails the test, saying what was awaited, when the deadline passes first.
#[track_caller]
pub fn wait_until<T>(deadline: Duration, what: &str, look: impl FnMut() -> Option<T>) -> T {
    match fm_watch::base::wait_until::wait_until(deadline, Duration::from_millis(2), look) {
        Some(found) => found,
        None => panic!("waited {deadline:?} in vain until {what}"),
    }
}

/// As [`wait_until`], for a condition.
#[track_caller]
pub fn wait_until_true(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    wait_until(deadline, what, || condition().then_some(()));
}

/// Makes sure that a condition stays true for a while: the only way to see that something does *not* happen.
#[track_caller]
pub fn stays_true(during: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let broken =
        fm_watch::base::wait_until::wait_until(during, Duration::from_millis(5), || (!condition()).then_some(()));
    assert!(broken.is_none(), "within {during:?} it was no longer so that {what}");
}
