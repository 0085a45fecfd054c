//! Starting and replacing a watcher that the user's service manager keeps.
//!
//! When such a watcher has crashed, its manager starts the next one a moment later. If this program were faster, the
//! manager's would find a watcher, leave content, and nobody would keep what runs. So the manager is told to start it
//! at once, and only if that comes to nothing does this program start one.
//!
//! Its manager starts and ends it. If this program asked such a watcher to leave and put one of its own in its place, the
//! manager would see its child end well, as after a stop by a person, and nobody would keep the successor. So the
//! manager is told to restart it, and what is true afterwards is read from the home, never from the manager's answer alone.
//!
//! A manager ends the old one before it starts the next, and nobody would watch if that one could not start. So a
//! successor of ours stands by meanwhile: without one that can, nothing is restarted, and when the old one leaves it watches
//! until the manager's takes its place a moment later. If the manager refuses, or starts nothing, it simply stays.
//!
//! That a manager keeps a watcher is proven by two who know it: the process that holds the home, verified, is the main
//! process that the manager names.

use std::time::{Duration, Instant};

use thiserror::Error;

use super::spawn::Launch;
use crate::base::wait_until::wait_until;
use crate::ownership::verdict::Verdict;
use crate::service::installed::{self, Keeper};
use crate::service::manager::ManagerError;
use crate::system::identity::Pid;

/// What the manager may take besides the times that the watcher has for leaving and for starting.
pub(super) const SLACK: Duration = Duration::from_secs(5);

/// How long the manager may take to start a watcher before this program does it.
const STARTS_WITHIN: Duration = Duration::from_secs(3);
/// Between two looks whether it has.
const PAUSE: Duration = Duration::from_millis(10);

/// Has the manager start its watcher, if it is meant to run one. `None`: it is not, or nothing came of it.
pub(super) fn start(launch: &mut Launch<'_>) -> Option<Pid> {
    let keeper = launch.heard(installed::next_keeper(launch.context))?;
    let end = launch.deadline.min(Instant::now() + STARTS_WITHIN);
    let left = || end.saturating_duration_since(Instant::now());
    if let Err(why) = keeper.systemctl.order(&[keeper.start(), &keeper.unit], left()) {
        launch.note(format!("{} does not start the watcher: {why}", keeper.unit));
        return None;
    }
    let look = || match launch.context.verdict().1 {
        Verdict::Ok { pid, .. } | Verdict::Slow { pid, .. } => Some(pid),
        _ => None,
    };
    wait_until(left(), PAUSE, look)
}

/// Why a manager has not replaced its watcher, or why what watches now is not the manager's.
#[derive(Debug, Error)]
pub(super) enum NotByManager {
    /// It does not do what it is told.
    #[error(transparent)]
    Manager(#[from] ManagerError),
    /// The old one has not ended.
    #[error("its manager says that it has restarted pid {0}, which is still there")]
    StillThere(Pid),
    /// Nobody watches.
    #[error("it was restarted, but {0}")]
    NotWatching(Verdict),
    /// Somebody else watches.
    #[error("it was restarted, but does not keep what watches now: {0}")]
    NotKept(Verdict),
}

/// Has the manager restart its watcher, and says who watches then.
pub(super) fn replace(launch: &Launch<'_>, keeper: &Keeper, old: Pid) -> Result<Pid, NotByManager> {
    let starting = launch.left();
    let at_most = launch.context.settings().stop_grace + starting + SLACK;
    keeper.systemctl.order(&["restart", &keeper.unit], at_most)?;
    let kept = keeper.systemctl.state(&keeper.unit)?.pid;
    match launch.context.settled_verdict(starting.max(SLACK)).1 {
        verdict if verdict.living_pid() == Some(old) => Err(NotByManager::StillThere(old)),
        verdict if !verdict.is_watching() => Err(NotByManager::NotWatching(verdict)),
        verdict => match verdict.living_pid() {
            Some(pid) if kept == Some(pid) => Ok(pid),
            _ => Err(NotByManager::NotKept(verdict)),
        },
    }
}
