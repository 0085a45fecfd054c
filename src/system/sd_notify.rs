//! The watcher's voice: what its loop says to the service manager that started it.
//!
//! `READY=1` at the end of the first round, and again at the next ones until it was heard: a manager that misses it takes
//! the watcher for one that never came up. `WATCHDOG=1` three times within the time that the manager allows, `STOPPING=1`
//! when the loop has ended. A process that stands by says the same, and in `STATUS=` for whom it waits.
//! All of it is said from the loop, so silence means that the loop stands still, and nothing of it
//! waits for the manager. Without a manager nothing is said.
//!
//! Source: `sd_notify(3)` and `sd_watchdog_enabled(3)` for the names and meanings of the variables.

use std::time::Duration;

use super::platform::NotifySender;
use crate::base::environment::Environment;

/// What a manager is told by a process that finds its work done by another one: it started well, and leaves well.
const CONTENT: &str = "READY=1\nSTATUS=another watcher watches this home\nSTOPPING=1";

/// How long a process that has nothing else to do waits for a manager that does not read.
const CONTENT_WITHIN: Duration = Duration::from_secs(2);

/// The voice of one process.
#[derive(Debug, Default)]
pub struct ServiceNotifier {
    ear: Option<NotifySender>,
    rhythm: Option<Duration>,
    said: Said,
    /// For whom this process stands by, as the manager has heard it.
    behind: Option<String>,
}

/// What the manager knows.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// Nothing yet.
    #[default]
    Nothing,
    /// That it is ready, and the last time that it was well at this time of the monotonic clock.
    Well(Duration),
}

impl ServiceNotifier {
    /// The voice of the process that was started with this environment.
    pub fn of(environment: &Environment, own_pid: u32) -> Self {
        let ear = environment.path("NOTIFY_SOCKET").and_then(|name| match NotifySender::at(&name) {
            Ok(ear) => Some(ear),
            Err(error) => {
                tracing::warn!("cannot speak to the service manager at NOTIFY_SOCKET={}: {error}", name.display());
                None
            }
        });
        Self { ear, rhythm: rhythm(environment, own_pid), said: Said::Nothing, behind: None }
    }

    /// Says that the loop has come round, if it is time to.
    pub fn came_round(&mut self, now: Duration) {
        let Some(word) = due(self.said, self.rhythm, now) else { return };
        self.said = after(self.said, self.tell(word), now);
    }

    /// Says that this process is ready, well, and waits for another one to end, if it is time to or if that is news.
    pub fn stands_by(&mut self, behind: &str, now: Duration) {
        let (word, is_news) = (due(self.said, self.rhythm, now), self.behind.as_deref() != Some(behind));
        let status = format!("STATUS=standing by behind {}", crate::base::escape::line(behind));
        let message: Vec<&str> = word.into_iter().chain(is_news.then_some(status.as_str())).collect();
        if message.is_empty() {
            return;
        }
        let heard = self.tell(&message.join("\n"));
        if word.is_some() {
            self.said = after(self.said, heard, now);
        }
        if is_news && heard == Heard::Yes {
            self.behind = Some(behind.to_owned());
        }
    }

    /// Says that it waits for nobody any more.
    pub fn stands_by_no_more(&self) {
        let _for_people_only = self.tell("STATUS=");
    }

    /// When the loop must have come round again, on the monotonic clock.
    pub fn due_at(&self) -> Option<Duration> {
        match (self.said, self.rhythm) {
            (Said::Well(at), Some(rhythm)) if self.ear.is_some() => Some(at + rhythm),
            _ => None,
        }
    }

    /// Says that the loop has ended.
    pub fn stops(&self) {
        let _nobody_waits_for_it = self.tell("STOPPING=1");
    }

    /// Says that there is nothing to do, because another watcher is well.
    pub fn is_content(&self) {
        let told = self.ear.as_ref().map_or(Ok(()), |ear| ear.tell_within(CONTENT, CONTENT_WITHIN));
        if let Err(error) = told {
            tracing::warn!("the service manager does not hear that another watcher watches: {error}");
        }
    }

    fn tell(&self, word: &str) -> Heard {
        match self.ear.as_ref().map_or(Ok(()), |ear| ear.tell(word)) {
            Ok(()) => Heard::Yes,
            Err(error) => {
                tracing::debug!("the service manager does not hear: {error}");
                Heard::No
            }
        }
    }
}

/// Whether a word has reached the manager's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Yes,
    No,
}

/// What the manager knows after a word. A sign of life that was lost is followed by the next one in time; that it is
/// ready is said until it is heard.
fn after(said: Said, heard: Heard, now: Duration) -> Said {
    match (said, heard) {
        (Said::Nothing, Heard::No) => Said::Nothing,
        _ => Said::Well(now),
    }
}

/// How often the manager wants to hear that all is well: three times within the time that it allows, if it wants to
/// hear that of this process at all.
fn rhythm(environment: &Environment, own_pid: u32) -> Option<Duration> {
    let is_meant = environment.text("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(own_pid));
    let allowed: u64 = environment.text("WATCHDOG_USEC")?.parse().ok()?;
    (is_meant && allowed > 0).then(|| Duration::from_micros(allowed.div_ceil(3)))
}

fn due(said: Said, rhythm: Option<Duration>, now: Duration) -> Option<&'static str> {
    match (said, rhythm) {
        (Said::Nothing, None) => Some("READY=1"),
        (Said::Nothing, Some(_)) => Some("READY=1\nWATCHDOG=1"),
        (Said::Well(at), Some(rhythm)) if now >= at + rhythm => Some("WATCHDOG=1"),
        (Said::Well(_), _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(pairs: &[(&str, &str)]) -> Option<Duration> {
        rhythm(&Environment::from_pairs(pairs.iter().copied()), 7)
    }

    #[test]
    fn the_manager_hears_three_times_within_the_time_it_allows() {
        assert_eq!(allowed(&[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "7")]), Some(Duration::from_secs(1)));
        assert_eq!(allowed(&[("WATCHDOG_USEC", "3000000")]), Some(Duration::from_secs(1)));
    }

    #[test]
    fn a_watchdog_of_another_process_or_of_no_time_is_none() {
        assert_eq!(allowed(&[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "8")]), None);
        assert_eq!(allowed(&[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "x")]), None);
        assert_eq!(allowed(&[("WATCHDOG_USEC", "0")]), None);
        assert_eq!(allowed(&[("WATCHDOG_USEC", "soon")]), None);
        assert_eq!(allowed(&[]), None);
    }

    #[test]
    fn readiness_is_said_once_and_wellness_in_its_rhythm() {
        let (second, now) = (Duration::from_secs(1), Duration::from_secs(100));
        assert_eq!(due(Said::Nothing, None, now), Some("READY=1"));
        assert_eq!(due(Said::Nothing, Some(second), now), Some("READY=1\nWATCHDOG=1"));
        assert_eq!(due(Said::Well(now), Some(second), now + second / 2), None);
        assert_eq!(due(Said::Well(now), Some(second), now + second), Some("WATCHDOG=1"));
        assert_eq!(due(Said::Well(now), None, now + 1000 * second), None);
    }

    #[test]
    fn readiness_is_said_until_it_is_heard() {
        let (before, now) = (Duration::from_secs(99), Duration::from_secs(100));
        assert_eq!(after(Said::Nothing, Heard::No, now), Said::Nothing);
        assert_eq!(after(Said::Nothing, Heard::Yes, now), Said::Well(now));
        assert_eq!(after(Said::Well(before), Heard::No, now), Said::Well(now));
    }
}
