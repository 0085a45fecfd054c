//! The heartbeat: a wake because nothing else was one for long.
//!
//! Its interval doubles with each heartbeat in a row up to a cap, and any other wake takes it back to the base. It is
//! the last resort against a cause that no source sees; if it never came, such a cause would wait for ever.

use std::ffi::OsString;
use std::time::Duration;

use crate::journal::record::{Draft, Kind, Mark, Wake};
use crate::watcher::checkpoint::Moment;
use crate::watcher::source::{LoopContext, Progress, Source, Unrecorded};

/// The key and the reason line of every heartbeat.
const HEARTBEAT: &str = "heartbeat";

/// How often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// The interval after any other wake.
    pub base: Duration,
    /// The longest interval.
    pub cap: Duration,
}

impl Heartbeat {
    /// The interval after so many heartbeats in a row. A base beyond the cap is cut to it.
    pub fn interval(&self, streak: u32) -> Duration {
        let factor = 1_u32.checked_shl(streak).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// How long until the next one; zero when it is due. `None` when the last one's age is unknown: it was under
    /// another boot, or there was none, and counting has to begin now.
    pub fn due_in(&self, last: Option<&Moment>, streak: u32, now: &Moment) -> Option<Duration> {
        let age = last?.age(now)?;
        Some(self.interval(streak).saturating_sub(age))
    }
}

/// The wake, when `streak` heartbeats came in a row before it.
pub fn draft(streak: u32) -> Draft {
    let mark = Some(Mark::Heartbeat { streak: streak.saturating_add(1) });
    Draft { mark, ..Draft::new(Kind::Heartbeat, HEARTBEAT, HEARTBEAT) }
}

/// The source of heartbeats.
#[derive(Debug, Default)]
pub(crate) struct HeartbeatSource {
    is_in_flight: bool,
}

impl Source for HeartbeatSource {
    fn name(&self) -> &'static str {
        HEARTBEAT
    }

    fn poll(&mut self, context: &mut LoopContext<'_>, _: Option<&[OsString]>) -> Progress {
        let now = Moment::now(context.session.world.as_ref());
        let heart = Heartbeat { base: context.settings.heartbeat, cap: context.settings.heartbeat_max };
        match heart.due_in(context.seen.last_heartbeat.as_ref(), context.seen.streak, &now) {
            None => context.seen.last_heartbeat = Some(now),
            Some(left) if left.is_zero() && !self.is_in_flight => {
                self.is_in_flight = true;
                context.record(HEARTBEAT, 0, vec![draft(context.seen.streak)]);
            }
            Some(_) => {}
        }
        Progress::Over
    }

    fn announced(&mut self, context: &mut LoopContext<'_>, wakes: &[Wake]) {
        if wakes.iter().any(|wake| matches!(wake.mark, Some(Mark::Heartbeat { .. }))) {
            self.is_in_flight = false;
            context.seen.last_heartbeat = Some(Moment::now(context.session.world.as_ref()));
        }
    }

    fn not_recorded(&mut self, _: u64, _: &Draft) -> Unrecorded {
        self.is_in_flight = false;
        Unrecorded::FoundAgain
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const USUAL: Heartbeat = Heartbeat { base: Duration::from_secs(600), cap: Duration::from_secs(7200) };

    fn at(seconds: u64) -> Moment {
        Moment { boot_id: "b".into(), monotonic_ms: seconds * 1000 }
    }

    #[test]
    fn the_interval_doubles_up_to_the_cap() {
        let intervals: Vec<u64> = (0..6).map(|streak| USUAL.interval(streak).as_secs()).collect();
        assert_eq!(intervals, [600, 1200, 2400, 4800, 7200, 7200]);
    }

    #[test]
    fn it_is_due_an_interval_after_the_last_one() {
        assert_eq!(USUAL.due_in(Some(&at(100)), 1, &at(1299)), Some(Duration::from_secs(1)));
        assert_eq!(USUAL.due_in(Some(&at(100)), 1, &at(5000)), Some(Duration::ZERO));
        assert_eq!(USUAL.due_in(None, 1, &at(5000)), None);
        assert_eq!(USUAL.due_in(Some(&at(9)), 0, &at(8)), None, "a time in the future says nothing");
    }

    #[test]
    fn a_heartbeat_records_its_place_in_the_row() {
        assert_eq!(draft(2).mark, Some(Mark::Heartbeat { streak: 3 }));
        assert_eq!(draft(u32::MAX).mark, Some(Mark::Heartbeat { streak: u32::MAX }));
    }

    proptest! {
        #[test]
        fn no_interval_overflows_or_shrinks(streak: u32, base: u64, cap: u64) {
            let heartbeat = Heartbeat { base: Duration::from_secs(base), cap: Duration::from_secs(cap) };
            prop_assert!(heartbeat.interval(streak) <= heartbeat.cap);
            prop_assert!(heartbeat.interval(streak) <= heartbeat.interval(streak.saturating_add(1)));
        }
    }
}
