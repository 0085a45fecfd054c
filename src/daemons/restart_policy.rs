//! Whether and when a daemon that ended is started again: pure functions over its recent past.
//!
//! # Theory
//!
//! A daemon that crashes at once would be started hundreds of times a second. So each start after a failure waits twice
//! as long as the one before, up to a bound, and a life longer than that bound begins the doubling anew. A daemon that
//! keeps failing for a reason that waiting does not cure only burns time; after so many restarts within a window the
//! manager gives up, says so in a wake, and stays given up until a person acts.
//!
//! Times are those of a clock that does not count suspend; a lid that is closed for a night is not a calm night.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::settings::daemon_definition::{Brake, Restart};

/// How a life ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "lowercase")]
pub enum End {
    /// With this exit code.
    Exited {
        /// The code.
        code: i32,
    },
    /// By this signal.
    Signalled {
        /// The number.
        signal: i32,
    },
    /// Nobody was there to see how.
    Unseen,
    /// It was never ready, for this reason, and was ended.
    NotReady {
        /// Why.
        reason: String,
    },
}

impl End {
    /// Whether it is a failure for `restart = "on-failure"`. What nobody saw counts as one.
    pub fn is_failure(&self) -> bool {
        !matches!(self, Self::Exited { code: 0 })
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited { code } => write!(formatter, "exited with {code}"),
            Self::Signalled { signal } => write!(formatter, "was ended by signal {signal}"),
            Self::Unseen => formatter.write_str("ended while nobody was there to see how"),
            Self::NotReady { reason } => write!(formatter, "was not ready: {reason}"),
        }
    }
}

/// What the manager remembers of a daemon's restarts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// When it was restarted, newest last, in milliseconds of the monotonic clock; only as many as the brake needs.
    pub restarts_ms: Vec<u64>,
    /// Failures in a row, each after a short life.
    pub in_a_row: u32,
}

/// What to do after an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Leave it as it is.
    Leave,
    /// Start it again after this pause.
    StartAfter(Duration),
    /// Too many restarts: give up, and tell.
    GiveUp {
        /// How many there were within the window.
        restarts: u32,
    },
}

/// The rules that decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// When at all.
    pub restart: Restart,
    /// The first pause.
    pub backoff: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
    /// When to give up.
    pub brake: Brake,
}

/// What follows the end of a life that lasted so long, and what is remembered then.
pub fn after(end: &End, lasted: Duration, now: Duration, rules: &Rules, past: &Past) -> (Decision, Past) {
    let is_due = match rules.restart {
        Restart::No => false,
        Restart::OnFailure => end.is_failure(),
        Restart::Always => true,
    };
    if !is_due {
        return (Decision::Leave, Past::default());
    }
    let mut past = remembered(past, now, rules.brake.window);
    let restarts = u32::try_from(past.restarts_ms.len()).unwrap_or(u32::MAX);
    if restarts >= rules.brake.max_restarts {
        return (Decision::GiveUp { restarts }, past);
    }
    past.in_a_row = if lasted >= rules.backoff_max { 0 } else { past.in_a_row };
    let pause = pause(rules, past.in_a_row);
    past.in_a_row = past.in_a_row.saturating_add(1);
    past.restarts_ms.push(u64::try_from((now + pause).as_millis()).unwrap_or(u64::MAX));
    (Decision::StartAfter(pause), past)
}

fn remembered(past: &Past, now: Duration, window: Duration) -> Past {
    let since = now.saturating_sub(window).as_millis();
    // A time of the future is from before a reboot: that clock began anew, and so does the count.
    let is_recent = |at: &u64| u128::from(*at) > since && u128::from(*at) <= now.as_millis() + window.as_millis();
    Past { restarts_ms: past.restarts_ms.iter().copied().filter(is_recent).collect(), in_a_row: past.in_a_row }
}

fn pause(rules: &Rules, in_a_row: u32) -> Duration {
    let doubled = 2_u32.checked_pow(in_a_row).and_then(|factor| rules.backoff.checked_mul(factor));
    doubled.unwrap_or(rules.backoff_max).min(rules.backoff_max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: Rules = Rules {
        restart: Restart::OnFailure,
        backoff: Duration::from_millis(100),
        backoff_max: Duration::from_secs(30),
        brake: Brake { max_restarts: 5, window: Duration::from_secs(60) },
    };
    const FAILED: End = End::Exited { code: 7 };
    const SHORT: Duration = Duration::from_millis(20);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1000 + seconds)
    }

    #[test]
    fn only_what_the_rule_names_is_restarted() {
        let decide = |restart, end: &End| after(end, SHORT, at(0), &Rules { restart, ..RULES }, &Past::default()).0;
        let clean = End::Exited { code: 0 };
        assert_eq!(decide(Restart::No, &FAILED), Decision::Leave);
        assert_eq!(decide(Restart::OnFailure, &clean), Decision::Leave);
        assert_eq!(decide(Restart::OnFailure, &FAILED), Decision::StartAfter(RULES.backoff));
        assert_eq!(decide(Restart::OnFailure, &End::Unseen), Decision::StartAfter(RULES.backoff));
        assert_eq!(decide(Restart::Always, &clean), Decision::StartAfter(RULES.backoff));
    }

    #[test]
    fn pauses_double_up_to_the_bound_and_begin_anew_after_a_long_life() {
        let rules = Rules { brake: Brake { max_restarts: 100, ..RULES.brake }, ..RULES };
        let mut past = Past::default();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            let (decision, next) = after(&FAILED, SHORT, at(0), &rules, &past);
            let Decision::StartAfter(pause) = decision else { panic!("{decision:?}") };
            pauses.push(pause.as_millis());
            past = next;
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000, 30000]);
        let (decision, _) = after(&FAILED, rules.backoff_max, at(0), &rules, &past);
        assert_eq!(decision, Decision::StartAfter(rules.backoff));
    }

    #[test]
    fn too_many_restarts_within_the_window_are_the_last_ones() {
        let mut past = Past::default();
        for second in 0..5 {
            let (decision, next) = after(&FAILED, SHORT, at(second), &RULES, &past);
            assert!(matches!(decision, Decision::StartAfter(_)), "{decision:?}");
            past = next;
        }
        assert_eq!(after(&FAILED, SHORT, at(6), &RULES, &past).0, Decision::GiveUp { restarts: 5 });
        let later = after(&FAILED, SHORT, at(100), &RULES, &past).0;
        assert!(matches!(later, Decision::StartAfter(_)), "the window has passed: {later:?}");
    }

    #[test]
    fn restarts_before_a_reboot_do_not_count() {
        let past = Past { restarts_ms: vec![9_000_000; 5], in_a_row: 0 };
        assert!(matches!(after(&FAILED, SHORT, at(0), &RULES, &past).0, Decision::StartAfter(_)));
    }

    proptest! {
        #[test]
        fn never_more_than_the_brake_allows_in_any_window(lives in prop::collection::vec((0u64..20_000, 0i32..2), 1..200)) {
            let rules = Rules { restart: Restart::Always, ..RULES };
            let (mut past, mut now, mut starts) = (Past::default(), at(0), Vec::new());
            for (lasted, code) in lives {
                let lasted = Duration::from_millis(lasted);
                now += lasted;
                let (decision, next) = after(&End::Exited { code }, lasted, now, &rules, &past);
                past = next;
                let Decision::StartAfter(pause) = decision else { break };
                prop_assert!(pause <= rules.backoff_max);
                now += pause;
                starts.push(now);
                let window = starts.iter().filter(|&&start| now.saturating_sub(start) < rules.brake.window).count();
                prop_assert!(window <= rules.brake.max_restarts as usize);
            }
        }
    }
}
