//! How long something at the lock's name has not changed, on the clock of the one who watches it.
//!
//! The file's own times come from another clock, and anybody can set them, so they are compared with each other and
//! never with ours. The time of the last change of the inode cannot be set: with it, a new file that happens to have the
//! number and the time of an old one does not inherit its age.

use std::time::Duration;

use crate::system::Facts;

/// For how long something that is no record must be still before it may be taken.
pub const ENOUGH: Duration = Duration::from_secs(2);

/// What one contender has seen.
#[derive(Debug, Default)]
pub struct Stillness {
    seen: Option<(Key, Duration)>,
}

type Key = (i64, u64, i64);

impl Stillness {
    /// Looks once more; says for how long this has been seen unchanged.
    pub fn watch(&mut self, facts: &Facts, now: Duration) -> Duration {
        let key = (facts.mtime_ns, facts.inode, facts.ctime_ns);
        match self.seen {
            Some((seen, since)) if seen == key => now.saturating_sub(since),
            _ => {
                self.seen = Some((key, now));
                Duration::ZERO
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::Kind;

    const FACTS: Facts = Facts {
        kind: Kind::File,
        device: 1,
        inode: 2,
        size: 3,
        mtime_ns: 4,
        ctime_ns: 5,
        links: 1,
        uid: 0,
        mode: 0o644,
    };

    #[test]
    fn time_is_counted_from_the_first_look_at_the_same_thing() {
        let (mut stillness, at) = (Stillness::default(), Duration::from_secs);
        assert_eq!(stillness.watch(&FACTS, at(100)), at(0));
        assert_eq!(stillness.watch(&FACTS, at(103)), at(3));
        for changed in
            [Facts { mtime_ns: 9, ..FACTS }, Facts { inode: 9, ..FACTS }, Facts { ctime_ns: 9, ..FACTS }, FACTS]
        {
            assert_eq!(stillness.watch(&changed, at(104)), at(0), "{changed:?}");
        }
        assert_eq!(stillness.watch(&FACTS, at(105)), at(1));
    }
}
