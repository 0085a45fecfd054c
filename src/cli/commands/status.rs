//! `status`: the verdict and its evidence.

use std::time::Duration;

use serde_json::{Value, json};

use super::daemon::status::{Usage, usage_of};
use crate::base::console::Format;
use crate::base::error::{Error, Result};
use crate::base::exit;
use crate::cli::args::Global;
use crate::cli::session::Session;
use crate::ownership::home_lock::LockObservation;
use crate::ownership::records::Owner;
use crate::ownership::verdict::{Evidence, OwnerEvidence, Verdict, age};
use crate::settings::Settings;
use crate::system::identity::Pid;
use crate::watcher::facts::{self, Told};

/// Prints the verdict. Of a home that cannot even be looked at, the verdict is that nobody can tell.
///
/// # Errors
/// Nobody reads, or the command line or the settings cannot be understood.
pub fn status(global: &Global) -> Result<u8> {
    match Session::open(global) {
        Ok(session) => status_of(&session),
        Err(error @ (Error::System { .. } | Error::Refused { .. })) => {
            let console = global.console();
            let verdict = Verdict::Unknown { why: error.to_string() };
            match console.format {
                Format::Json => console.json(&json!({
                    "schema": 1, "verdict": verdict.word(), "cause": verdict.to_string(),
                }))?,
                Format::Lines => console.data(&crate::base::escape::line(&format!("{}: {verdict}", verdict.word())))?,
            }
            Ok(exit_code(&verdict))
        }
        Err(error) => Err(error),
    }
}

fn status_of(session: &Session) -> Result<u8> {
    let (evidence, verdict) = session.verdict();
    let told = facts::told(session.world.as_ref(), &session.home);
    let tasks = facts::tasks(session.world.as_ref(), &session.home);
    let usage = verdict.living_pid().and_then(usage_of);
    match session.console.format {
        Format::Json => {
            session.console.json(&object(session, &evidence, &verdict, &told, tasks.as_ref().ok(), usage))?;
        }
        Format::Lines => {
            for line in lines(session, &evidence, &verdict, &told, &tasks, usage) {
                session.console.data(&crate::base::escape::line(&line))?;
            }
        }
    }
    Ok(exit_code(&verdict))
}

fn exit_code(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Ok { .. } | Verdict::Slow { .. } | Verdict::Starting { .. } => exit::OK,
        Verdict::Dead { .. } | Verdict::Stopped { .. } => exit::NOT_RUNNING,
        Verdict::Stuck { .. } | Verdict::Foreign { .. } | Verdict::Unknown { .. } => exit::UNCERTAIN,
    }
}

fn owner_of(evidence: &Evidence) -> Option<&Owner> {
    match &evidence.owner {
        OwnerEvidence::Recorded(owner, _) => Some(owner),
        OwnerEvidence::None | OwnerEvidence::Damaged(_) => None,
    }
}

/// What the living watcher itself says works only in a poorer way.
fn degraded(evidence: &Evidence, verdict: &Verdict) -> Vec<String> {
    let beat = evidence.beat.as_ref().filter(|beat| Some(beat.pid) == verdict.living_pid().map(Pid::get));
    let mut degraded = beat.map(|beat| beat.degraded.clone()).unwrap_or_default();
    let is_published = matches!(evidence.lock, LockObservation::Marked { beat: Some(_) });
    let beat_age = beat.and_then(|beat| evidence.now.monotonic.checked_sub(beat.monotonic()));
    let bound = 3 * Duration::from_millis(beat.map_or(0, |beat| beat.poll_ms)) + Duration::from_secs(1);
    let is_old = verdict.is_watching() && is_published && beat_age.is_none_or(|age| age > bound);
    if is_old && !matches!(verdict, Verdict::Starting { .. }) {
        degraded.push("cannot write beacon: beat.json is older than the beat that the kernel shows".to_owned());
    }
    degraded
}

fn lines(
    session: &Session,
    evidence: &Evidence,
    verdict: &Verdict,
    told: &Told,
    tasks: &Result<usize>,
    usage: Option<Usage>,
) -> Vec<String> {
    let mut lines = vec![format!("{}: {verdict}", verdict.word())];
    let mut fact = |name: &str, value: String| lines.push(format!("  {name:<10} {value}"));
    fact("home", session.home.root().display().to_string());
    fact("lock", lock_in_words(&evidence.lock));
    match &evidence.owner {
        OwnerEvidence::Recorded(owner, sameness) => {
            fact(
                "owner",
                format!("pid {}, generation {}, {}", owner.pid(), owner.generation, facts::in_words(sameness)),
            );
        }
        OwnerEvidence::Damaged(why) => fact("owner", format!("the record is {why}")),
        OwnerEvidence::None => {}
    }
    if let Some(shell) = evidence.foreign_holder() {
        fact("shell lock", format!("held by {shell}"));
    }
    if let Some(usage) = usage {
        let memory = usage.memory / 1024;
        fact("costs", format!("{memory} KiB of memory, {} of cpu", age(usage.cpu)));
    }
    fact("tasks", tasks.as_ref().map_or_else(ToString::to_string, |tasks| format!("{tasks} in flight")));
    fact("wakes", told.wakes_in_words());
    fact("waiters", told.waiters_in_words());
    for what in degraded(evidence, verdict) {
        fact("degraded", what);
    }
    lines
}

fn lock_in_words(lock: &LockObservation) -> String {
    match lock {
        LockObservation::Absent => "there is none yet".to_owned(),
        LockObservation::Free => "free".to_owned(),
        LockObservation::Marked { .. } => "held by a watcher".to_owned(),
        LockObservation::Unmarked { taker } => format!("held by pid {taker}, without a watcher's mark"),
        LockObservation::Unknown(why) => why.clone(),
    }
}

fn object(
    session: &Session,
    evidence: &Evidence,
    verdict: &Verdict,
    told: &Told,
    tasks: Option<&usize>,
    usage: Option<Usage>,
) -> Value {
    let owner = owner_of(evidence);
    let settings: &Settings = session.settings();
    json!({
        "schema": 1,
        "verdict": verdict.word(),
        "cause": verdict.to_string(),
        "pid": verdict.living_pid().map(Pid::get),
        "beat_age_ms": beat_age(verdict).map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        "home": session.home.root(),
        "state": session.home.state(),
        "lock": lock_in_words(&evidence.lock),
        "shell_holder": evidence.foreign_holder().map(ToString::to_string),
        "generation": owner.map(|owner| owner.generation),
        "owner": owner,
        "identity": match &evidence.owner {
            OwnerEvidence::Recorded(_, sameness) => Some(facts::in_words(sameness)),
            _ => None,
        },
        "poll_ms": owner.map_or_else(|| u64::try_from(settings.poll.as_millis()).unwrap_or(u64::MAX), |owner| owner.poll_ms),
        "memory_bytes": usage.map(|usage| usage.memory),
        "cpu_ms": usage.map(|usage| u64::try_from(usage.cpu.as_millis()).unwrap_or(u64::MAX)),
        "tasks": tasks,
        "wakes_pending": told.pending().map(|pending| pending.count),
        "oldest_wake_at": told.pending().and_then(|pending| pending.oldest_at),
        "waiters": told.waiters(),
        "degraded": degraded(evidence, verdict),
    })
}

fn beat_age(verdict: &Verdict) -> Option<Duration> {
    match verdict {
        Verdict::Ok { beat, .. } | Verdict::Slow { beat, .. } => Some(*beat),
        Verdict::Stuck { beat, .. } | Verdict::Dead { beat, .. } => *beat,
        _ => None,
    }
}
