//! The lock of firstmate's shell scripts: what it does alone, beside real shell peers, and when somebody dies.

mod arena;
mod crashes;
pub mod contender;
mod identities;
mod interleavings;
mod peer;
mod staged;
mod storm;
mod verbs;
mod victims;

/// The tests of all parts.
pub fn cases() -> Vec<libtest_mimic::Trial> {
    let parts = [
        verbs::cases(),
        victims::cases(),
        identities::cases(),
        interleavings::cases(),
        crashes::cases(),
        storm::cases(),
    ];
    parts.into_iter().flatten().collect()
}
