//! What a monitor has to do first: pure functions over what it found under its lock.
//!
//! It has asked for the life lock and compared the recorded process with what lives under its number. A daemon that lives,
//! with or without its life lock, is *adopted*; a life lock that somebody holds although the recorded process is gone is a
//! rest that is to be *cleared*; only if nobody holds it and nobody is recorded to live is a life *started*. Whatever
//! cannot be told is *refused*.

use crate::daemons::records::Read;
use crate::system::Claim;
use crate::system::identity::Sameness;

/// The first thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Course {
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
pub fn course(lock: Claim, recorded: &Read<Sameness>) -> Course {
    match (recorded, lock) {
        (Read::Some(Sameness::Same(_)), _) => Course::Adopt,
        (Read::Some(Sameness::Unknown(why)), _) => Course::Refuse(format!("it may or may not run: {why}")),
        (Read::Some(Sameness::Different(_)) | Read::None | Read::Damaged(_), Claim::Taken) => Course::Start,
        (Read::Some(Sameness::Different(_)) | Read::None, Claim::Busy) => Course::Clear,
        // Whoever holds it may be the daemon itself.
        (Read::Damaged(why), Claim::Busy) => Course::Refuse(format!("somebody holds its life lock, and {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::identity::{Difference, Proof};

    #[test]
    fn only_a_free_lock_and_nobody_recorded_to_live_begin_a_life() {
        let gone = Read::Some(Sameness::Different(Difference::Gone));
        for nobody in [gone, Read::None, Read::Damaged("x".to_owned())] {
            assert_eq!(course(Claim::Taken, &nobody), Course::Start);
            assert_ne!(course(Claim::Busy, &nobody), Course::Start);
        }
    }

    #[test]
    fn a_daemon_that_lives_is_adopted_whether_or_not_it_kept_its_lock() {
        let same = Read::Some(Sameness::Same(Proof::PidfdInode));
        assert_eq!(course(Claim::Busy, &same), Course::Adopt);
        assert_eq!(course(Claim::Taken, &same), Course::Adopt);
    }

    #[test]
    fn what_cannot_be_told_permits_nothing() {
        let unknown = Read::Some(Sameness::Unknown("it is elsewhere".to_owned()));
        assert!(matches!(course(Claim::Taken, &unknown), Course::Refuse(_)));
        assert!(matches!(course(Claim::Busy, &unknown), Course::Refuse(_)));
        assert!(matches!(course(Claim::Busy, &Read::Damaged(String::new())), Course::Refuse(_)));
    }

    #[test]
    fn a_rest_is_cleared() {
        assert_eq!(course(Claim::Busy, &Read::Some(Sameness::Different(Difference::PidReused))), Course::Clear);
        assert_eq!(course(Claim::Busy, &Read::None), Course::Clear);
    }
}
