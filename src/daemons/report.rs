//! How a daemon is, in one word and with the facts behind it, for `status`.
//!
//! The word is a pure function of the daemon's state and of what the keeper remembers. A daemon that lives is never
//! reported by what is remembered of it, and a memory that nobody can act on any more, because a person asked for the stop
//! or because the time of the restart has passed, is no state.

use std::time::Duration;

use super::ensure::Daemons;
use super::paths::{self, DaemonPaths};
use super::records::{self, Course, Ended, Keeping, Life, StopRequest};
use super::state::State;
use crate::settings::daemon_definition::{Name, milliseconds};
use crate::system::World;
use crate::system::identity::Pid;

/// How late a keeper may be with a restart that it has announced.
const KEEPER_TAKES: Duration = Duration::from_secs(10);

/// The state of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
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

impl Status {
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
    pub fn of(state: &State, course: &Course) -> Self {
        match (state, course) {
            (State::Starting { .. }, _) => Self::Starting,
            (State::Ready { .. }, _) => Self::Ready,
            (State::Stalled { .. }, _) => Self::Stalled,
            (State::Foreign(_), _) => Self::Foreign,
            (State::Unknown(_), _) => Self::Unknown,
            (State::Absent | State::Leftover { .. }, Course::Content) => Self::Stopped,
            (State::Absent | State::Leftover { .. }, Course::BackingOff { .. }) => Self::Backoff,
            (State::Absent | State::Leftover { .. }, Course::GivenUp { .. }) => Self::Fatal,
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
            let is_over = now_ms > until_ms.saturating_add(milliseconds::of(KEEPER_TAKES));
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
    pub status: Status,
    /// How things stand.
    pub state: State,
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
        match &self.state {
            State::Ready { pid, .. } | State::Stalled { pid, .. } => Some(*pid),
            State::Starting { pid } => *pid,
            State::Absent | State::Leftover { .. } | State::Foreign(_) | State::Unknown(_) => None,
        }
    }

    /// Why it is not well, or how the last life ended.
    pub fn why(&self) -> Option<String> {
        let last = || self.last.as_ref().map(|last| last.end.to_string());
        match (&self.state, &self.course) {
            (State::Stalled { why, .. } | State::Foreign(why) | State::Unknown(why), _) => Some(why.clone()),
            (State::Leftover { .. }, _) => Some(self.state.to_string()),
            (_, Course::GivenUp { restarts, window }) if self.status == Status::Fatal => {
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
        let paths = DaemonPaths::new(&self.home, name);
        let (evidence, state) = self.observe_settled(&paths);
        let world = self.world.as_ref();
        let now_ms = milliseconds::of(world.now().monotonic);
        let keeping = records::read_in::<Keeping, _>(world, &paths, paths::KEEP);
        let stop = records::read_in::<StopRequest, _>(world, &paths, paths::STOP);
        let last = records::read_in::<Ended, _>(world, &paths, paths::END);
        let course = course_in_force(keeping.known(), stop.known(), self.here.boot_id.as_deref(), now_ms);
        let life = evidence.life.known().map(|(life, _)| life.clone());
        let mut report = Report {
            name: name.clone(),
            status: Status::of(&state, &course),
            state,
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
        assert_eq!(Status::of(&State::Absent, &course), Status::Fatal);
    }

    #[test]
    fn a_daemon_that_lives_is_judged_by_that() {
        let given_up = Course::GivenUp { restarts: 5, window: Duration::from_secs(300) };
        let pid = Pid::new(12).unwrap();
        let ready = State::Ready { pid, generation: 1 };
        let stalled = State::Stalled { pid, generation: 1, why: String::new() };
        let courses = [Course::Content, Course::BackingOff { until_ms: 0 }, given_up];
        for course in courses {
            assert_eq!(Status::of(&ready, &course), Status::Ready);
            assert_eq!(Status::of(&stalled, &course), Status::Stalled);
            assert_eq!(Status::of(&State::Starting { pid: None }, &course), Status::Starting);
            assert_eq!(Status::of(&State::Foreign(String::new()), &course), Status::Foreign);
            assert_eq!(Status::of(&State::Unknown(String::new()), &course), Status::Unknown);
        }
        assert_eq!(Status::of(&State::Leftover { generation: None }, &Course::Content), Status::Stopped);
        assert_eq!(Status::of(&State::Absent, &Course::BackingOff { until_ms: 0 }), Status::Backoff);
    }
}
