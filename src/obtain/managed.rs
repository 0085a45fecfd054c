//! Replacing a watcher that the user's service manager keeps.
//!
//! Its manager starts and ends it. If this program asked such a watcher to leave and put one of its own in its place, the
//! manager would see its child end well, as after a stop by a person, and nobody would keep the successor. So the
//! manager is told to restart it, and what is true afterwards is read from the home, never from the manager's answer alone.

use std::time::{Duration, Instant};

use super::{Replaced, Replacement};
use crate::commands::context::Session;
use crate::liveness::identity::Pid;
use crate::liveness::leave::{Left, Proven};
use crate::platform;
use crate::service::installed::Keeper;

/// What the manager may take besides the times that the watcher has for leaving and for starting.
const SLACK: Duration = Duration::from_secs(5);

/// Has the manager restart its watcher.
pub(super) fn replace(
    session: &Session,
    keeper: &Keeper,
    old: Pid,
    proven: Proven<platform::Pinned>,
    deadline: Instant,
) -> Result<Replaced, String> {
    let not_replaced = |why: String| format!("pid {old} is kept by {}, and is not replaced: {why}", keeper.unit);
    let starting = deadline.saturating_duration_since(Instant::now());
    let at_most = session.settings().stop_grace + starting + SLACK;
    keeper.systemctl.order(&["restart", &keeper.unit], at_most).map_err(not_replaced)?;
    match session.settled_verdict(starting.max(SLACK)).1 {
        verdict if verdict.living_pid() == Some(old) => Err(not_replaced("it is still there".to_owned())),
        verdict if verdict.is_watching() => match verdict.living_pid() {
            Some(pid) => Ok(Replaced::By(pid, Replacement { pid: old, left: Left::Asked, process: proven })),
            None => Err(not_replaced(verdict.to_string())),
        },
        verdict => Err(format!("pid {old} was restarted by {}, but {verdict}", keeper.unit)),
    }
}
