//! What a monitor does first, and which process is the daemon when its first one has ended with 0: pure functions.
//!
//! Before a life, the monitor has asked for the life lock and compared the recorded process with what lives under its
//! number. A daemon that lives, with or without its life lock, is *adopted*; a life lock that somebody holds although the
//! recorded process is gone is held by orphans that are to be *cleared*; only if nobody holds it and nobody is recorded to
//! live is a life *started*. Whatever cannot be told is *refused*.
//!
//! Daemons of the old school fork, often twice, and let the first process end. What they leave behind becomes the monitor's
//! child. Which of them is the daemon is said by its pid file or by its socket; where neither speaks, it is the only one
//! that is left. A daemon that has been ready for a while and then ends with 0 has simply ended, whatever it leaves behind.

use std::time::Duration;

use crate::daemons::records::Read;
use crate::system::Claim;
use crate::system::identity::Sameness;

/// The first thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Begin a life.
    Start,
    /// Watch over the life that is.
    Adopt,
    /// Make what is left of the last life leave, then look again.
    Clear,
    /// Nothing, for this reason.
    Refuse(String),
}

/// Decides from the answer to a request for the life lock, and the recorded life.
pub fn first_step(lock: Claim, recorded: &Read<Sameness>) -> Decision {
    match (recorded, lock) {
        (Read::Some(Sameness::Same(_)), _) => Decision::Adopt,
        (Read::Some(Sameness::Unknown(why)), _) => Decision::Refuse(format!("it may or may not run: {why}")),
        (Read::Some(Sameness::Different(_)) | Read::None | Read::Damaged(_), Claim::Taken) => Decision::Start,
        (Read::Some(Sameness::Different(_)) | Read::None, Claim::Busy) => Decision::Clear,
        // Whoever holds it may be the daemon itself.
        (Read::Damaged(why), Claim::Busy) => Decision::Refuse(format!("somebody holds its life lock, and {why}")),
    }
}

/// How long after it was ready the end of a first process can still be part of a daemon's start.
const SETTLES_WITHIN: Duration = Duration::from_secs(2);

/// How far the life had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It was not ready.
    Starting,
    /// It had been ready for so long.
    ReadyFor(Duration),
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Succession {
    /// The life is over.
    Over,
    /// The life goes on in this process.
    Goes(u32),
    /// It cannot be told yet.
    Open,
}

/// Chooses among the living children of the monitor. `named` is who the daemon's pid file or socket names.
pub fn succession(children: &[u32], named: Option<u32>, stage: Stage) -> Succession {
    let is_beginning = match stage {
        Stage::Starting => true,
        Stage::ReadyFor(time) => time <= SETTLES_WITHIN,
    };
    match (named.filter(|pid| children.contains(pid)), children) {
        (_, []) => Succession::Over,
        (Some(pid), _) => Succession::Goes(pid),
        (None, &[only]) if is_beginning => Succession::Goes(only),
        (None, _) if stage == Stage::Starting => Succession::Open,
        (None, _) => Succession::Over,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::identity::{Difference, Proof};

    const LONG_AGO: Stage = Stage::ReadyFor(Duration::from_secs(60));
    const JUST_NOW: Stage = Stage::ReadyFor(Duration::from_millis(5));

    #[test]
    fn without_children_the_life_is_over() {
        for stage in [Stage::Starting, JUST_NOW, LONG_AGO] {
            assert_eq!(succession(&[], Some(7), stage), Succession::Over);
        }
    }

    #[test]
    fn whoever_is_named_and_ours_succeeds() {
        for stage in [Stage::Starting, JUST_NOW, LONG_AGO] {
            assert_eq!(succession(&[7, 8], Some(8), stage), Succession::Goes(8));
        }
        assert_eq!(succession(&[7, 8], Some(9), Stage::Starting), Succession::Open, "a stranger is not");
    }

    #[test]
    fn the_only_one_succeeds_while_the_daemon_starts() {
        assert_eq!(succession(&[7], None, Stage::Starting), Succession::Goes(7));
        assert_eq!(succession(&[7], None, JUST_NOW), Succession::Goes(7));
        assert_eq!(succession(&[7], None, LONG_AGO), Succession::Over);
        assert_eq!(succession(&[7, 8], None, Stage::Starting), Succession::Open);
        assert_eq!(succession(&[7, 8], None, JUST_NOW), Succession::Over);
    }

    #[test]
    fn only_a_free_lock_and_nobody_recorded_to_live_begin_a_life() {
        let gone = Read::Some(Sameness::Different(Difference::Gone));
        for nobody in [gone, Read::None, Read::Damaged("x".to_owned())] {
            assert_eq!(first_step(Claim::Taken, &nobody), Decision::Start);
            assert_ne!(first_step(Claim::Busy, &nobody), Decision::Start);
        }
    }

    #[test]
    fn a_daemon_that_lives_is_adopted_whether_or_not_it_kept_its_lock() {
        let same = Read::Some(Sameness::Same(Proof::PidfdInode));
        assert_eq!(first_step(Claim::Busy, &same), Decision::Adopt);
        assert_eq!(first_step(Claim::Taken, &same), Decision::Adopt);
    }

    #[test]
    fn what_cannot_be_told_permits_nothing() {
        let unknown = Read::Some(Sameness::Unknown("it is elsewhere".to_owned()));
        assert!(matches!(first_step(Claim::Taken, &unknown), Decision::Refuse(_)));
        assert!(matches!(first_step(Claim::Busy, &unknown), Decision::Refuse(_)));
        assert!(matches!(first_step(Claim::Busy, &Read::Damaged(String::new())), Decision::Refuse(_)));
    }

    #[test]
    fn a_rest_is_cleared() {
        assert_eq!(first_step(Claim::Busy, &Read::Some(Sameness::Different(Difference::PidReused))), Decision::Clear);
        assert_eq!(first_step(Claim::Busy, &Read::None), Decision::Clear);
    }
}
