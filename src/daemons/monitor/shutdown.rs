//! After a life: its last output, its record, and what it left behind.
//!
//! The order is the message. The end is recorded before what is left is cleared, which may take a while. Whoever waits is
//! told when the output is complete and nothing is left any more. The last process is reaped at the very end, because as
//! long as it is not, its number and that of its session belong to nobody else.

use std::io;
use std::time::Duration;

use super::event_loop::{Over, Tie, Vigil, Was};
use super::start::ended;
use crate::base::error::Result;
use crate::base::failpoint::Failpoint;
use crate::daemons::look;
use crate::daemons::monitor_status::MonitorWord;
use crate::daemons::orphans::{Anchor, Leftovers};
use crate::daemons::paths;
use crate::daemons::records::Ended;
use crate::daemons::restart_policy::End;
use crate::daemons::state::LockSight;
use crate::system::platform;

/// The most time that a rest of a daemon gets to leave on being asked; the daemon itself had its own.
pub const GRACE_AT_MOST: Duration = Duration::from_secs(2);
/// How often what is left is looked for: a rest can start further processes while it is asked to leave.
const ROUNDS: usize = 5;

/// Closes a life that is over.
///
/// # Errors
/// Only what a test injects. What cannot be written or cleared is told in the log.
pub fn close(mut vigil: Vigil<'_>, over: Over) -> Result<()> {
    vigil.output.drain(|_| {});
    vigil.desk.reach(Failpoint::DaemonEnded)?;
    let ended = ended(vigil.desk, &vigil.life, over.end);
    if let Err(error) = vigil.desk.end(&vigil.life, &ended) {
        tracing::warn!("{error}");
    }
    vigil.desk.reach(Failpoint::DaemonEndRecorded)?;
    clear(&vigil);
    vigil.output.drain(|_| {});
    if over.was == Was::Starting {
        vigil.say(&MonitorWord::Failed { reason: reason(&ended) });
    }
    if vigil.tie == Tie::Child
        && let Err(error) = platform::reap(vigil.process.pid().get())
    {
        tracing::warn!("cannot reap pid {}: {error}", vigil.life.pid());
    }
    Ok(())
}

/// Why a daemon was never ready.
fn reason(ended: &Ended) -> String {
    match &ended.end {
        End::NotReady { .. } => ended.end.to_string(),
        end => format!("{end} after {} ms", ended.lasted_ms),
    }
}

fn clear(vigil: &Vigil<'_>) {
    for _ in 0..ROUNDS {
        let left = match left_behind(vigil) {
            Ok(left) if left.is_empty() => return,
            Ok(left) => left,
            Err(error) => {
                tracing::warn!("cannot see what pid {} left behind: {error}", vigil.life.pid());
                return;
            }
        };
        let definition = &vigil.life.definition;
        let cleared = left.make_leave(definition.stop_signal, definition.stop_grace.min(GRACE_AT_MOST));
        if !cleared.still_there.is_empty() {
            tracing::warn!("of what pid {} left behind, these stay: {:?}", vigil.life.pid(), cleared.still_there);
            return;
        }
    }
}

fn left_behind(vigil: &Vigil<'_>) -> io::Result<Leftovers> {
    let holders =
        if is_lock_free(vigil) { Leftovers::default() } else { Leftovers::holders_of(&vigil.lock, vigil.desk.lock())? };
    let session = vigil.life.session;
    let members = match (vigil.tie, holders.member_of(session)) {
        (Tie::Child, _) => Leftovers::of_session(session, Anchor::Unreaped)?,
        (Tie::Adopted, Some(holder)) => Leftovers::of_session(session, Anchor::Living(holder))?,
        // It was reaped by somebody else, so nobody knows whose the number is by now.
        (Tie::Adopted, None) => Leftovers::default(),
    };
    Ok(holders.and(members))
}

/// Whether it is known that nobody holds the life lock, which spares a look at every process. The file at its path says
/// nothing if it is another one by now.
fn is_lock_free(vigil: &Vigil<'_>) -> bool {
    let desk = vigil.desk;
    let sight = look::lock_sight(desk.world().as_ref(), &desk.directory, &desk.assignment.place, paths::LIFE_LOCK);
    let is_same = desk.life_lock().is_ok_and(|facts| facts.is_same_inode(&vigil.lock));
    sight == LockSight::Free && is_same
}
