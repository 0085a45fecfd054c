//! After a life: its last output, its record, and what it left behind.
//!
//! The order is the message. The end is recorded before what is left is cleared, which may take a while. Whoever waits is
//! told when the output is complete and nothing is left any more. The last process is reaped at the very end, because as
//! long as it is not, its number and that of its session belong to nobody else.

use std::io;
use std::time::Duration;

use super::event_loop::{EventLoop, Over, Was};
use super::start::{Origin, ended};
use crate::base::error::Result;
use crate::base::failpoint::Failpoint;
use crate::daemons::observe;
use crate::daemons::orphans::{Anchor, Orphans};
use crate::daemons::paths;
use crate::daemons::records::Ended;
use crate::daemons::restart_policy::End;
use crate::daemons::spawn_monitor::MonitorStatus;
use crate::daemons::state::LockState;
use crate::system::platform;

/// The most time that a rest of a daemon gets to leave on being asked; the daemon itself had its own.
pub const GRACE_AT_MOST: Duration = Duration::from_secs(2);
/// How often what is left is looked for: a rest can start further processes while it is asked to leave.
const ROUNDS: usize = 5;

/// Closes a life that is over.
///
/// # Errors
/// Only what a test injects. What cannot be written or cleared is told in the log.
pub fn close(mut event_loop: EventLoop<'_>, over: Over) -> Result<()> {
    event_loop.watched.output.drain(|_| {});
    event_loop.records.reach(Failpoint::DaemonEnded)?;
    let ended = ended(event_loop.records, &event_loop.watched.life, over.end);
    if let Err(error) = event_loop.records.end(&event_loop.watched.life, &ended) {
        tracing::warn!("{error}");
    }
    event_loop.records.reach(Failpoint::DaemonEndRecorded)?;
    clear(&event_loop);
    event_loop.watched.output.drain(|_| {});
    if over.was == Was::Starting {
        event_loop.say(&MonitorStatus::Failed { reason: reason(&ended) });
    }
    if event_loop.watched.origin == Origin::Child
        && let Err(error) = platform::reap(event_loop.watched.process.pid().get())
    {
        tracing::warn!("cannot reap pid {}: {error}", event_loop.watched.life.pid());
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

fn clear(event_loop: &EventLoop<'_>) {
    for _ in 0..ROUNDS {
        let left = match left_behind(event_loop) {
            Ok(left) if left.is_empty() => return,
            Ok(left) => left,
            Err(error) => {
                tracing::warn!("cannot see what pid {} left behind: {error}", event_loop.watched.life.pid());
                return;
            }
        };
        let definition = &event_loop.watched.life.definition;
        let cleared = left.make_leave(definition.stop_signal, definition.stop_grace.min(GRACE_AT_MOST));
        if !cleared.still_there.is_empty() {
            tracing::warn!(
                "of what pid {} left behind, these stay: {:?}",
                event_loop.watched.life.pid(),
                cleared.still_there
            );
            return;
        }
    }
}

fn left_behind(event_loop: &EventLoop<'_>) -> io::Result<Orphans> {
    let holders = if is_lock_free(event_loop) {
        Orphans::default()
    } else {
        Orphans::holders_of(&event_loop.watched.lock, event_loop.records.lock())?
    };
    let session = event_loop.watched.life.session;
    let members = match (event_loop.watched.origin, holders.member_of(session)) {
        (Origin::Child, _) => Orphans::of_session(session, Anchor::Unreaped)?,
        (Origin::Adopted, Some(holder)) => Orphans::of_session(session, Anchor::Living(holder))?,
        // It was reaped by somebody else, so nobody knows whose the number is by now.
        (Origin::Adopted, None) => Orphans::default(),
    };
    Ok(holders.and(members))
}

/// Whether it is known that nobody holds the life lock, which spares a look at every process. The file at its path says
/// nothing if it is another one by now.
fn is_lock_free(event_loop: &EventLoop<'_>) -> bool {
    let records = event_loop.records;
    let state =
        observe::lock_state(records.world().as_ref(), &records.directory, &records.assignment.paths, paths::LIFE_LOCK);
    let is_same = records.life_lock().is_ok_and(|facts| facts.is_same_inode(&event_loop.watched.lock));
    state == LockState::Free && is_same
}
