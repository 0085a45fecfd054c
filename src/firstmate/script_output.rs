//! What the scripts of a firstmate home say, to the letter.
//!
//! # Theory
//!
//! Supervisors, daemons and agents read the lines of these scripts and look at their exit codes; some match them with a
//! regular expression. So each line, its stream and its exit code is made here, by functions of values alone, and nowhere
//! else. What is true is found out elsewhere.
//!
//! If this is wrong, a supervisor takes a watcher that runs for one that failed, or the other way round, and nobody
//! notices before it is too late.
//!
//! # Limits
//!
//! The words are those of one release of the scripts. Where a line leaves its wording free (the advice in the banner), it
//! is our own.

use std::ffi::OsStr;
use std::fmt;
use std::time::Duration;

use super::home::Script;
use crate::base::console::Stream;
use crate::base::exit;
use crate::ownership::foreign_holder::{ForeignObservation, ForeignState};
use crate::ownership::verdict::{Evidence, OwnerEvidence, Verdict};
use crate::system::identity::Pid;
use crate::system::platform::Ending;
use std::process::ExitStatus;

/// One line, and the exit code that comes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Where it goes.
    pub stream: Stream,
    /// The line, without its end.
    pub line: String,
    /// The exit code.
    pub code: u8,
}

impl Answer {
    fn data(line: impl Into<String>, code: u8) -> Self {
        Self { stream: Stream::Data, line: line.into(), code }
    }

    fn message(line: impl Into<String>, code: u8) -> Self {
        Self { stream: Stream::Message, line: line.into(), code }
    }
}

/// Who holds the home, as far as the watcher script says something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Its pid, if that can be read.
    pub pid: Option<u32>,
    /// The age of its last beat; `None` if there was none.
    pub beat: Option<Duration>,
    /// Since when it has held the home, if that is recorded.
    pub held_for: Option<Duration>,
}

impl Holder {
    /// The holder, according to a verdict. `None`: nobody is proven to hold the home.
    pub fn of(evidence: &Evidence, verdict: &Verdict) -> Option<Self> {
        if let Some(shell) = evidence.foreign_holder() {
            return Self::of_shell(shell);
        }
        let held_for = match &evidence.owner {
            // A record may be that of somebody who held the home before.
            OwnerEvidence::Recorded(owner, _) if verdict.living_pid() == Some(owner.pid()) => {
                evidence.now.monotonic.checked_sub(Duration::from_millis(owner.since_monotonic_ms))
            }
            OwnerEvidence::Recorded(..) | OwnerEvidence::None | OwnerEvidence::Damaged(_) => None,
        };
        let beat = match verdict {
            Verdict::Ok { beat, .. } | Verdict::Slow { beat, .. } => Some(*beat),
            Verdict::Stuck { beat, .. } => *beat,
            Verdict::Starting { .. } => None,
            Verdict::Dead { .. } | Verdict::Stopped { .. } | Verdict::Foreign { .. } | Verdict::Unknown { .. } => {
                return None;
            }
        };
        Some(Self { pid: verdict.living_pid().map(Pid::get), beat, held_for })
    }

    /// A shell watcher, as another one sees it: it lives and has the lock, whoever it is.
    fn of_shell(shell: &ForeignObservation) -> Option<Self> {
        let is_one = shell.pid.is_some() || shell.state == ForeignState::Starting;
        is_one.then(|| Self { pid: shell.pid.map(Pid::get), beat: shell.last_beat, held_for: shell.held_for })
    }
}

/// What a second watcher says that finds the home held.
pub fn loser(holder: &Holder, grace: Duration) -> Answer {
    let pid = holder.pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
    match (holder.beat, holder.held_for) {
        (Some(beat), _) if beat >= grace => Answer::message(
            format!(
                "watcher: lock held by live pid {pid} but heartbeat is stale for {}s (>{}s); inspect or stop that \
                 watcher before re-arming.",
                beat.as_secs(),
                grace.as_secs()
            ),
            exit::FAILED,
        ),
        (None, Some(held_for)) if held_for >= grace => Answer::message(
            format!(
                "watcher: lock held by live pid {pid} but no heartbeat exists; inspect or stop that watcher before \
                 re-arming."
            ),
            exit::FAILED,
        ),
        _ => already_running(holder),
    }
}

/// That another watcher runs.
pub fn already_running(holder: &Holder) -> Answer {
    let line = match holder.pid {
        Some(pid) => format!("watcher: already running pid {pid}"),
        None => "watcher: already running".to_owned(),
    };
    Answer::data(line, exit::OK)
}

/// What the arm script is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// That some watcher watches.
    Arm,
    /// That a new one does.
    Restart,
}

impl Asked {
    /// Reads the first argument; any others decide nothing.
    ///
    /// # Errors
    /// The line about usage.
    pub fn read(first: Option<&OsStr>) -> std::result::Result<Self, Answer> {
        match first.map(OsStr::as_encoded_bytes) {
            None | Some(b"" | b"arm" | b"--arm") => Ok(Self::Arm),
            Some(b"--restart") => Ok(Self::Restart),
            Some(_) => Err(Answer::message("usage: fm-watch-arm.sh [--restart]", exit::USAGE)),
        }
    }
}

/// What the arm script says when nobody watches in the end.
pub fn failed() -> Answer {
    Answer::data("watcher: FAILED - no live watcher with a fresh beacon", exit::FAILED)
}

/// Whether a watcher's output begins with a reason to wake.
pub fn is_wake(printed: &[u8]) -> bool {
    let line = printed.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let is_reason = |kind: &[u8]| line.strip_prefix(kind).is_some_and(|rest| rest.first() == Some(&b':'));
    line == b"heartbeat" || [&b"signal"[..], b"stale", b"check", b"heartbeat"].into_iter().any(is_reason)
}

/// The exit code of the arm script whose watcher ended so.
pub fn code_of(ended: ExitStatus) -> u8 {
    Ending::of(ended).map_or(exit::FAILED, Ending::exit_code)
}

/// When the watcher beat last, as the guard script tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastBeat {
    /// It never did.
    Never,
    /// Nobody can tell.
    Unknown,
    /// So long ago.
    Ago(Duration),
}

impl LastBeat {
    /// From the time of modification of the beacon, both in milliseconds since 1970. `None`: there is no beacon. A clock
    /// that was set back makes it lie ahead; as far ahead as the grace, nobody can tell when it was.
    pub fn of(beacon: Option<i64>, now: i64, grace: Duration) -> Self {
        let Some(beacon) = beacon else { return Self::Never };
        let age = now.saturating_sub(beacon);
        match u64::try_from(age) {
            Ok(age) => Self::Ago(Duration::from_millis(age)),
            Err(_) if u128::from(age.unsigned_abs()) < grace.as_millis() => Self::Ago(Duration::ZERO),
            Err(_) => Self::Unknown,
        }
    }

    /// Whether supervision counts as on.
    pub fn is_fresh(self, grace: Duration) -> bool {
        matches!(self, Self::Ago(age) if age < grace)
    }
}

impl fmt::Display for LastBeat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => formatter.write_str("never"),
            Self::Unknown => formatter.write_str("unknown"),
            Self::Ago(age) => write!(formatter, "{}s ago", age.as_secs()),
        }
    }
}

/// Whether rows wait for a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// None do.
    Empty,
    /// Some do.
    Waiting,
}

/// The guard script's banner, of several lines.
pub fn banner(tasks: usize, beat: LastBeat, grace: Duration, queue: Queue) -> String {
    let rule = format!("●{}", "━".repeat(78));
    let (arm, drain) = (Script::Arm.path(), Script::Drain.path());
    let fix = match queue {
        Queue::Empty => format!("run {arm}"),
        Queue::Waiting => format!("drain the queued wakes with {drain} first, then run {arm}"),
    };
    format!(
        "{rule}\n●  WATCHER DOWN - SUPERVISION IS OFF\n●  {tasks} task(s) in flight, but no watcher has a fresh beacon \
         (last beat: {beat}, grace {}s).\n●  Trust {arm}: it says which watcher is healthy, or starts one.\n●  Fix: \
         {fix}\n{rule}",
        grace.as_secs()
    )
}

/// The guard script's line about rows that wait.
pub fn queued() -> String {
    format!("WARNING: queued wakes pending - drain them with {} before anything else.", Script::Drain.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(300);

    fn holder(pid: Option<u32>, beat: Option<u64>, held_for: Option<u64>) -> Holder {
        Holder { pid, beat: beat.map(Duration::from_secs), held_for: held_for.map(Duration::from_secs) }
    }

    #[test]
    fn the_line_of_a_second_watcher_depends_on_the_beat_of_the_first() {
        const STALE: &str = "watcher: lock held by live pid 7 but heartbeat is stale for 300s (>300s); inspect or stop \
                             that watcher before re-arming.";
        const NONE: &str = "watcher: lock held by live pid 7 but no heartbeat exists; inspect or stop that watcher \
                            before re-arming.";
        for (pid, beat, held_for, expected) in [
            (Some(7), Some(0), Some(1), Answer::data("watcher: already running pid 7", 0)),
            (Some(7), Some(299), Some(1000), Answer::data("watcher: already running pid 7", 0)),
            (Some(7), Some(300), Some(1000), Answer::message(STALE, 1)),
            (Some(7), None, Some(299), Answer::data("watcher: already running pid 7", 0)),
            (Some(7), None, Some(300), Answer::message(NONE, 1)),
            (Some(7), None, None, Answer::data("watcher: already running pid 7", 0)),
            (None, None, None, Answer::data("watcher: already running", 0)),
        ] {
            assert_eq!(loser(&holder(pid, beat, held_for), GRACE), expected);
        }
    }

    #[test]
    fn the_arm_script_takes_three_words() {
        for (word, expected) in [
            (None, Ok(Asked::Arm)),
            (Some(""), Ok(Asked::Arm)),
            (Some("arm"), Ok(Asked::Arm)),
            (Some("--arm"), Ok(Asked::Arm)),
            (Some("--restart"), Ok(Asked::Restart)),
            (Some("restart"), Err(())),
            (Some("--help"), Err(())),
        ] {
            let read = Asked::read(word.map(OsStr::new));
            assert_eq!(read.as_ref().copied().map_err(|_| ()), expected, "{word:?}");
            if let Err(answer) = read {
                assert_eq!(answer, Answer::message("usage: fm-watch-arm.sh [--restart]", 2));
            }
        }
    }

    #[test]
    fn a_wake_is_told_from_other_lines() {
        for wake in ["signal: /s/a.status\n", "stale: w", "check: /c: out\nmore\n", "heartbeat\n", "heartbeat: x"] {
            assert!(is_wake(wake.as_bytes()), "{wake}");
        }
        for other in ["", "\n", "watcher: already running pid 7\n", "signal", "heartbeats", "\nheartbeat"] {
            assert!(!is_wake(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn the_arm_ends_as_its_watcher_did() {
        use std::os::unix::process::ExitStatusExt;
        // As wait(2) has it: exited with 0, exited with 143, killed by 9, stopped by 19.
        assert_eq!([0, 143 << 8, 9, 19 << 8 | 0x7f].map(|raw| code_of(ExitStatus::from_raw(raw))), [0, 143, 137, 1]);
    }

    #[test]
    fn a_beat_is_fresh_until_the_grace_is_over() {
        let of = |beacon: Option<i64>| LastBeat::of(beacon, 1_000_000, GRACE);
        for (beacon, text, is_fresh) in [
            (None, "never", false),
            (Some(1_000_000), "0s ago", true),
            (Some(700_001), "299s ago", true),
            (Some(700_000), "300s ago", false),
            (Some(1_200_000), "0s ago", true),
            (Some(1_300_000), "unknown", false),
            (Some(i64::MAX), "unknown", false),
            (Some(i64::MIN), "9223372036854775s ago", false),
        ] {
            assert_eq!((of(beacon).to_string().as_str(), of(beacon).is_fresh(GRACE)), (text, is_fresh));
        }
    }

    #[test]
    fn the_banner_has_the_lines_that_people_know() {
        let text = banner(2, LastBeat::Never, GRACE, Queue::Empty);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[0]), (6, lines[5]));
        assert!(lines[0].starts_with("●━━━") && lines[0].chars().skip(1).all(|character| character == '━'));
        assert_eq!(lines[1], "●  WATCHER DOWN - SUPERVISION IS OFF");
        assert_eq!(
            lines[2],
            "●  2 task(s) in flight, but no watcher has a fresh beacon (last beat: never, grace 300s)."
        );
        assert!(lines[3].contains("bin/fm-watch-arm.sh"));
        assert_eq!(lines[4], "●  Fix: run bin/fm-watch-arm.sh");
        let waiting = banner(1, LastBeat::Unknown, GRACE, Queue::Waiting);
        assert!(waiting.contains("Fix: drain the queued wakes with bin/fm-wake-drain.sh first, then"), "{waiting}");
        assert_eq!(
            queued(),
            "WARNING: queued wakes pending - drain them with bin/fm-wake-drain.sh before anything else."
        );
    }
}
