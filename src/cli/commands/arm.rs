//! `arm`: make sure that a watcher watches, say so in one line, then wait.

use std::time::Duration;

use serde_json::json;

use super::waiter;
use crate::api::waiter::{OnLoss, Waiter};
use crate::base::console::Format;
use crate::base::error::Result;
use crate::base::exit;
use crate::cli::args;
use crate::cli::session::Session;
use crate::launch::{Obtained, Replacement, Wish, obtain};
use crate::ownership::held_home;
use crate::ownership::terminate::Left;
use crate::system::World;

/// Arms, and waits unless told otherwise.
///
/// # Errors
/// Nobody reads, or waiting is impossible. That no watcher could be obtained is not an error here but the status line.
pub fn arm(mut session: Session, options: &args::Arm) -> Result<u8> {
    // The place of a lock outside the home has the name of the state directory. Everything else is made when a start
    // needs it, so that a healthy watcher is reported whatever became of the rest.
    let is_new = session.world.facts_of_path(session.home.state()).is_err();
    if is_new && let Err(error) = session.prepare() {
        return waiter::failed(&session, &error.to_string());
    }
    arm_prepared(&session, options)
}

fn arm_prepared(session: &Session, options: &args::Arm) -> Result<u8> {
    let wish = if options.restart { Wish::New } else { Wish::Any };
    // Waiting begins before the status line is printed, so that whoever reads the line may rely on it.
    let waiting = match obtain(session, wish, &mut session.notes()) {
        Err(failure) => return waiter::failed(session, &failure.to_string()),
        Ok(obtained) if options.no_wait => {
            print(session, &obtained)?;
            return Ok(exit::OK);
        }
        Ok(obtained) => {
            let waiting = begin(session, options);
            print(session, &obtained)?;
            waiting?
        }
    };
    waiter::until_woken(session, waiting, OnLoss::Obtain)
}

fn begin<'a>(session: &'a Session, options: &args::Arm) -> Result<Waiter<'a>> {
    // Where a shell watcher watches, nobody of ours may have made the directories that a waiter needs.
    if session.fleet.is_some() {
        held_home::prepare(session.world.as_ref(), &session.home, &session.place)?;
    }
    waiter::begin(session, options.timeout)
}

/// Prints the one status line; what happened besides is a note.
///
/// # Errors
/// Nobody reads.
pub(crate) fn print(session: &Session, obtained: &Obtained) -> Result<()> {
    if let Obtained::Started { pid, replaced: Some(Replacement { pid: old, left, .. }), .. } = obtained {
        let how = match left {
            Left::Already => "which had just ended",
            Left::Asked => "which left on being asked",
            Left::Killed => "which did not leave on being asked and was killed",
        };
        session.console.note(format!("watcher pid {pid} took the place of pid {old}, {how}"));
    }
    match session.console.format {
        Format::Json => session.console.json(&object(obtained))?,
        Format::Lines => session.console.data(&obtained.to_string())?,
    }
    if let Obtained::Started { replaced: Some(replacement), .. } = obtained
        && !replacement.see_off(session)
    {
        let pid = replacement.pid;
        session.console.note(format!("pid {pid} has let go of the home, but its process has not ended yet"));
    }
    Ok(())
}

fn object(obtained: &Obtained) -> serde_json::Value {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    match obtained {
        Obtained::Started { pid, replaced, .. } => json!({
            "schema": 1, "event": "started", "pid": pid, "replaced": replaced.as_ref().map(|old| old.pid),
        }),
        Obtained::Healthy { pid, beat } => {
            json!({"schema": 1, "event": "healthy", "pid": pid, "beat_age_ms": millis(*beat)})
        }
    }
}
