//! The wakes that nobody has acknowledged, and how old the oldest of them is.

use std::time::Duration;

use super::finding::{Finding, Mend};
use crate::ownership::context::HomeContext;
use crate::ownership::verdict::age;
use crate::system::World;
use crate::watcher::facts::{self, Told, Waiting};

const CHECK: &str = "wakes";

pub(super) fn examine(session: &HomeContext) -> Vec<Finding> {
    let told = facts::told(session.world.as_ref(), &session.home);
    let drain = Mend::command(format!(
        "{}, handle them, then: {}",
        session.command_line("drain"),
        session.command_line("ack SEQ")
    ));
    let patience = session.settings().redeliver_after;
    vec![judge(&told, session.world.now().wall_ms, patience, drain)]
}

fn judge(told: &Told, now_ms: i64, patience: Duration, drain: Mend) -> Finding {
    match told.pending() {
        None => Finding::fail(CHECK, told.blindness().unwrap_or("cannot be told").to_owned(), Mend::Nothing),
        Some(Waiting { count: 0, .. }) => Finding::pass(CHECK, "none waits to be acknowledged"),
        Some(waiting) => judge_waiting(waiting, told.waiters() == Ok(0), now_ms, patience, drain),
    }
}

fn judge_waiting(waiting: &Waiting, is_nobody_told: bool, now_ms: i64, patience: Duration, drain: Mend) -> Finding {
    let millis = |at: i64| Duration::from_millis(u64::try_from(now_ms.saturating_sub(at)).unwrap_or(0));
    let oldest = waiting.oldest_at.map(millis);
    let how_old = oldest.map_or_else(String::new, |oldest| format!(", the oldest for {}", age(oldest)));
    let nobody = if is_nobody_told { ", and no waiter lives to be told" } else { "" };
    let found = format!("at most {} wait to be acknowledged{how_old}{nobody}", waiting.count);
    // Those that were just written are on their way.
    if oldest.is_some_and(|oldest| oldest <= patience) && !is_nobody_told {
        return Finding::pass(CHECK, found);
    }
    Finding::warn(CHECK, found, drain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Grade;

    #[test]
    fn old_wakes_and_wakes_that_reach_nobody_are_told() {
        let grade = |oldest_at, is_nobody_told| {
            let waiting = Waiting { count: 3, oldest_at };
            judge_waiting(&waiting, is_nobody_told, 1_000_000, Duration::from_secs(600), Mend::Nothing).grade
        };
        assert_eq!(grade(Some(400_000), false), Grade::Pass);
        assert_eq!(grade(Some(399_999), false), Grade::Warn);
        assert_eq!(grade(Some(999_999), true), Grade::Warn);
        assert_eq!(grade(None, false), Grade::Warn);
    }
}
