//! How a daemon is, in one word and with the facts behind it, for `status`.
//!
//! The word is a pure function of how things stand and of what the keeper remembers. A daemon that lives is never
//! reported by what is remembered of it, and a memory that nobody can act on any more, because a person asked for the stop
//! or because the time of the restart has passed, is no state.

use std::time::Duration;

use super::ensure::Daemons;
use super::paths::{self, DaemonPlace};
use super::records::{self, Course, Ended, Keeping, Life, Read, StopRequest};
use super::state::Standing;
use crate::settings::daemon_definition::Name;
use crate::system::World;
use crate::system::identity::Pid;

/// How late a keeper may be with a restart that it has announced.
const KEEPER_TAKES: Duration = Duration::from_secs(10);

/// The state of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is not ready yet.
    Starting,
    /// It does its work.
    Ready,
    /// It lives and does not do its work.
    Stalled,
    /// It has ended, and the keeper will start it again.
    Backoff,
    /// It has ended too often, and the keeper has given it up.
    Fatal,
    /// It does not run.
    Stopped,
    /// Somebody else is where it should be.
    Foreign,
    /// Nobody can tell.
    Unknown,
}

impl State {
    /// Its name, for people and programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "STARTING",
            Self::Ready => "READY",
            Self::Stalled => "STALLED",
            Self::Backoff => "BACKOFF",
            Self::Fatal => "FATAL",
            Self::Stopped => "STOPPED",
            Self::Foreign => "FOREIGN",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// The state of a daemon that stands so, and about which the keeper does that.
    pub fn of(standing: &Standing, course: &Course) -> Self {
        match (standing, course) {
            (Standing::Starting { .. }, _) => Self::Starting,
            (Standing::Ready { .. }, _) => Self::Ready,
            (Standing::Stalled { .. }, _) => Self::Stalled,
            (Standing::Foreign(_), _) => Self::Foreign,
            (Standing::Unknown(_), _) => Self::Unknown,
            (Standing::Absent | Standing::Leftover { .. }, Course::Content) => Self::Stopped,
            (Standing::Absent | Standing::Leftover { .. }, Course::BackingOff { .. }) => Self::Backoff,
            (Standing::Absent | Standing::Leftover { .. }, Course::GivenUp { .. }) => Self::Fatal,
        }
    }
}

/// What the keeper still does about a daemon, by what it has written down. `now_ms` is a time of the clock that does not
/// count suspend, in this boot.
fn course_in_force(
    keeping: Option<&Keeping>,
    stop: Option<&StopRequest>,
    boot_id: Option<&str>,
    now_ms: u64,
) -> Course {
    let Some(keeping) = keeping else { return Course::Content };
    let is_stopped = stop.is_some_and(|stop| stop.generation >= keeping.generation);
    match keeping.course {
        Course::BackingOff { until_ms } => {
            let is_of_this_boot = keeping.boot_id.as_deref() == boot_id;
            let is_over = now_ms > until_ms.saturating_add(milliseconds(KEEPER_TAKES));
            if is_stopped || is_over || !is_of_this_boot { Course::Content } else { keeping.course.clone() }
        }
        Course::Content | Course::GivenUp { .. } => keeping.course.clone(),
    }
}

/// Everything that is known about one daemon.
#[derive(Debug)]
pub struct Report {
    /// Its name.
    pub name: Name,
    /// Its state.
    pub state: State,
    /// How things stand.
    pub standing: Standing,
    /// Its life, or the last one.
    pub life: Option<Box<Life>>,
    /// How long it has lived, if it lives.
    pub uptime: Option<Duration>,
    /// How often the keeper has started it again.
    pub restarts: u64,
    /// How the last life ended.
    pub last: Option<Ended>,
    /// What the keeper does about it.
    pub course: Course,
}

impl Report {
    /// The daemon, if it lives.
    pub fn pid(&self) -> Option<Pid> {
        match &self.standing {
            Standing::Ready { pid, .. } | Standing::Stalled { pid, .. } => Some(*pid),
            Standing::Starting { pid } => *pid,
            Standing::Absent | Standing::Leftover { .. } | Standing::Foreign(_) | Standing::Unknown(_) => None,
        }
    }

    /// Why it is not well, or how the last life ended.
    pub fn why(&self) -> Option<String> {
        let last = || self.last.as_ref().map(|last| last.end.to_string());
        match (&self.standing, &self.course) {
            (Standing::Stalled { why, .. } | Standing::Foreign(why) | Standing::Unknown(why), _) => Some(why.clone()),
            (Standing::Leftover { .. }, _) => Some(self.standing.to_string()),
            (_, Course::GivenUp { restarts, window }) if self.state == State::Fatal => {
                let last = last().map(|last| format!(", last: {last}")).unwrap_or_default();
                Some(format!("given up after {restarts} restarts in {}{last}", humantime::format_duration(*window)))
            }
            _ => last(),
        }
    }
}

impl Daemons {
    /// Looks at a daemon and reads what is written down about it. Nothing is changed.
    pub fn report(&self, name: &Name) -> Report {
        let place = DaemonPlace::new(&self.home, name);
        let (evidence, standing) = self.settled_look(&place);
        let directory = self.world.open_directory(place.directory()).ok();
        let now_ms = milliseconds(self.world.now().monotonic);
        let (keeping, stop, last) = match &directory {
            Some(directory) => (
                records::read::<Keeping, _>(self.world.as_ref(), directory, paths::KEEP),
                records::read::<StopRequest, _>(self.world.as_ref(), directory, paths::STOP),
                records::read::<Ended, _>(self.world.as_ref(), directory, paths::END),
            ),
            None => (Read::None, Read::None, Read::None),
        };
        let course = course_in_force(keeping.known(), stop.known(), self.here.boot_id.as_deref(), now_ms);
        let life = evidence.life.known().map(|(life, _)| life.clone());
        let mut report = Report {
            name: name.clone(),
            state: State::of(&standing, &course),
            standing,
            life,
            uptime: None,
            restarts: keeping.known().map_or(0, |keeping| keeping.restarts),
            last: last.known().cloned(),
            course,
        };
        let lives = |life: &&Life| report.pid() == Some(life.pid());
        let since = report.life.as_deref().filter(lives).map(|life| life.since_monotonic_ms);
        report.uptime = since.map(|since| Duration::from_millis(now_ms.saturating_sub(since)));
        report
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeping(course: Course) -> Keeping {
        Keeping {
            schema: 1,
            generation: 7,
            boot_id: Some("this".to_owned()),
            past: crate::daemons::restart_policy::Past::default(),
            restarts: 3,
            course,
        }
    }

    #[test]
    fn a_back_off_is_one_as_long_as_somebody_may_act_on_it() {
        let backing_off = Course::BackingOff { until_ms: 50_000 };
        let stop = |generation| StopRequest { schema: 1, generation, at: 0 };
        let course = |stop: Option<StopRequest>, boot: &str, now| {
            course_in_force(Some(&keeping(backing_off.clone())), stop.as_ref(), Some(boot), now)
        };
        assert_eq!(course(None, "this", 49_000), backing_off);
        assert_eq!(course(Some(stop(6)), "this", 49_000), backing_off);
        assert_eq!(course(None, "this", 70_000), Course::Content);
        assert_eq!(course(None, "other", 49_000), Course::Content);
        assert_eq!(course(Some(stop(7)), "this", 49_000), Course::Content);
        assert_eq!(course_in_force(None, None, None, 0), Course::Content);
    }

    #[test]
    fn what_is_given_up_stays_so_until_a_person_acts() {
        let given_up = Course::GivenUp { restarts: 5, window: Duration::from_secs(300) };
        let stop = StopRequest { schema: 1, generation: 7, at: 0 };
        let course = course_in_force(Some(&keeping(given_up.clone())), Some(&stop), Some("other"), u64::MAX);
        assert_eq!(course, given_up);
        assert_eq!(State::of(&Standing::Absent, &course), State::Fatal);
    }

    #[test]
    fn a_daemon_that_lives_is_judged_by_that() {
        let given_up = Course::GivenUp { restarts: 5, window: Duration::from_secs(300) };
        let pid = Pid::new(12).unwrap();
        let ready = Standing::Ready { pid, generation: 1 };
        let stalled = Standing::Stalled { pid, generation: 1, why: String::new() };
        let courses = [Course::Content, Course::BackingOff { until_ms: 0 }, given_up];
        for course in courses {
            assert_eq!(State::of(&ready, &course), State::Ready);
            assert_eq!(State::of(&stalled, &course), State::Stalled);
            assert_eq!(State::of(&Standing::Starting { pid: None }, &course), State::Starting);
            assert_eq!(State::of(&Standing::Foreign(String::new()), &course), State::Foreign);
            assert_eq!(State::of(&Standing::Unknown(String::new()), &course), State::Unknown);
        }
        assert_eq!(State::of(&Standing::Leftover { generation: None }, &Course::Content), State::Stopped);
        assert_eq!(State::of(&Standing::Absent, &Course::BackingOff { until_ms: 0 }), State::Backoff);
    }
}
