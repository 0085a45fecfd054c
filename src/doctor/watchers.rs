//! The watcher of a home, by the one verdict, whether there is more than one process that says it is, and the wakes that
//! nobody has acknowledged.
//!
//! Processes are listed to be shown to a person, never to be acted on: a command line proves nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::finding::{Finding, Mend};
use crate::layout::paths::Home;
use crate::ownership::context::HomeContext;
use crate::ownership::verdict::Verdict;
use crate::ownership::verdict::age;
use crate::system::World;
use crate::system::identity::Pid;
use crate::system::platform;
use crate::watcher::facts::{self, Told, Waiting};

const WATCHER: &str = "watcher";
const WAKES: &str = "wakes";
const DUPLICATES: &str = "duplicates";

pub(super) fn examine(session: &HomeContext) -> Vec<Finding> {
    let (evidence, verdict) = session.verdict();
    let tasks = facts::tasks(session.world.as_ref(), &session.home).unwrap_or(0);
    let mut findings = vec![judge(&verdict, tasks, &|command| session.command_line(command))];
    let own_beat = evidence.beat.filter(|beat| Some(beat.pid) == verdict.living_pid().map(Pid::get));
    let degraded = own_beat.map(|beat| beat.degraded).unwrap_or_default();
    findings.extend(degraded.into_iter().map(|what| Finding::warn(WATCHER, what, Mend::Nothing)));
    findings.push(duplicates(session, &verdict));
    findings
}

fn judge(verdict: &Verdict, tasks: usize, line: &dyn Fn(&str) -> String) -> Finding {
    let found = verdict.to_string();
    let arm = || Mend::command(line("arm --no-wait"));
    match verdict {
        Verdict::Ok { .. } | Verdict::Slow { .. } | Verdict::Starting { .. } => Finding::pass(WATCHER, found),
        Verdict::Stopped { .. } | Verdict::Dead { .. } if tasks > 0 => {
            Finding::fail(WATCHER, format!("{found}, and {tasks} task(s) are in flight"), arm())
        }
        Verdict::Stopped { .. } => Finding::pass(WATCHER, format!("{found}, and nothing needs one")),
        Verdict::Dead { .. } => Finding::warn(WATCHER, found, arm()),
        Verdict::Stuck { .. } => Finding::fail(WATCHER, found, Mend::command(line("arm --restart --no-wait"))),
        Verdict::Foreign { .. } | Verdict::Unknown { .. } => {
            Finding::fail(WATCHER, found, Mend::command(line("status --json")))
        }
    }
}

/// Processes besides the holder whose command line is that of a watcher of this home, by whatever path it names it.
fn duplicates(session: &HomeContext, verdict: &Verdict) -> Finding {
    let world = session.world.as_ref();
    let holder = verdict.living_pid().map(Pid::get);
    let own = world.facts_of_path(session.home.state()).ok();
    let is_here = |state: &Path| {
        let other = world.facts_of_path(state).ok();
        own.zip(other).is_some_and(|(own, other)| own.is_same_inode(&other))
    };
    let processes = match world.processes() {
        Ok(processes) => processes,
        Err(error) => return Finding::warn(DUPLICATES, format!("processes cannot be listed: {error}"), Mend::Nothing),
    };
    let is_another = |&pid: &u32| {
        Some(pid) != holder
            && world
                .listing(pid)
                .is_some_and(|listing| state_in(&listing.arguments).is_some_and(|state| is_here(&state)))
    };
    let others: Vec<String> = processes.into_iter().filter(is_another).map(|pid| pid.to_string()).collect();
    if others.is_empty() {
        return Finding::pass(DUPLICATES, "no second process says that it watches this home");
    }
    let found =
        format!("pid {} also says that it watches this home; without the lock it does nothing", others.join(", "));
    let mend = format!("it should leave by itself; look again, then: ps -o pid,lstart,args -p {}", others.join(","));
    Finding::warn(DUPLICATES, found, Mend::command(mend))
}

/// The state directory in a command line of `fm-watch <flags> run`. A path that depends on where its process is says nothing.
fn state_in(arguments: &[u8]) -> Option<PathBuf> {
    let words: Vec<&[u8]> = arguments.split(|&byte| byte == 0).collect();
    let is_ours = words.first()?.rsplit(|&byte| byte == b'/').next() == Some(b"fm-watch");
    let value = |flag: &[u8]| {
        let at = words.iter().position(|word| *word == flag)?;
        words.get(at + 1).map(|word| PathBuf::from(platform::os_string(word.to_vec())))
    };
    let state = value(b"--state").or_else(|| Some(Home::at(value(b"--home")?).state().to_owned()))?;
    (is_ours && words.iter().any(|word| *word == b"run") && state.is_absolute()).then_some(state)
}

pub(super) fn wakes(session: &HomeContext) -> Vec<Finding> {
    let told = facts::told(session.world.as_ref(), &session.home);
    let drain = Mend::command(format!(
        "{}, handle them, then: {}",
        session.command_line("drain"),
        session.command_line("ack SEQ")
    ));
    let patience = session.settings().redeliver_after;
    vec![judge_wakes(&told, session.world.now().wall_ms, patience, drain)]
}

fn judge_wakes(told: &Told, now_ms: i64, patience: Duration, drain: Mend) -> Finding {
    match told.pending() {
        None => Finding::fail(
            WAKES,
            told.blindness().map_or_else(|| "cannot be told".to_owned(), ToString::to_string),
            Mend::Nothing,
        ),
        Some(Waiting { count: 0, .. }) => Finding::pass(WAKES, "none waits to be acknowledged"),
        Some(waiting) => judge_waiting(waiting, told.waiters() == Some(0), now_ms, patience, drain),
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
        return Finding::pass(WAKES, found);
    }
    Finding::warn(WAKES, found, drain)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::doctor::finding::Grade;

    #[test]
    fn nobody_watching_matters_when_something_needs_it() {
        let pid = Pid::new(7).unwrap();
        let grade = |verdict: Verdict, tasks| judge(&verdict, tasks, &|command| command.to_owned()).grade;
        let stopped = || Verdict::Stopped { last: None };
        assert_eq!((grade(stopped(), 0), grade(stopped(), 1)), (Grade::Pass, Grade::Fail));
        assert_eq!(grade(Verdict::Ok { pid, beat: Duration::ZERO }, 1), Grade::Pass);
        assert_eq!(grade(Verdict::Stuck { pid, beat: None, bound: Duration::ZERO }, 0), Grade::Fail);
        assert_eq!(grade(Verdict::Unknown { why: "x".to_owned() }, 0), Grade::Fail);
    }

    #[test]
    fn a_command_line_names_one_home() {
        let state = |line: &str| state_in((line.replace(' ', "\0") + "\0").as_bytes());
        let some = |path: &str| Some(PathBuf::from(path));
        assert_eq!(state("fm-watch --home /a run --word-fd 5"), some("/a/state"));
        assert_eq!(state("/usr/bin/fm-watch --set poll=1s --home /a run"), some("/a/state"));
        assert_eq!(state("fm-watch --home /a --state /s run"), some("/s"));
        assert_eq!(state("fm-watch --home a run"), None);
        assert_eq!(state("fm-watch --home /a arm"), None);
        assert_eq!(state("vi fm-watch --home /a run"), None);
        assert_eq!((state("fm-watch run"), state("fm-watch --home"), state("")), (None, None, None));
    }

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
