//! Replacing a watcher of a firstmate home's shell scripts.
//!
//! It is respected: only a person's `arm --restart` replaces it, and only after everything that it recorded proves that
//! it is this home's. Then it goes as with one of ours: the successor stands by first, the shell watcher is asked to leave
//! through its pin, and the successor takes the home the moment it is free. As the scripts have it, it is asked with TERM,
//! has five seconds, and is never killed: it may be in the middle of something that only it knows.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::shell_watcher::{LEAVES_WITHIN, ShellHolder};
use crate::launch::spawn::{Kin, Mode, Start};
use crate::launch::{Replaced, Replacement, Wish, ready, standing_by};
use crate::ownership::context::Session;
use crate::ownership::verdict::{Evidence, Verdict};
use crate::system::identity::Pid;
use crate::system::status_pipe::StartStatus;

/// How much longer its successor is listened to than it waits.
const MORE: Duration = Duration::from_secs(1);

/// Clears the record of a shell watcher whose pid another program has by now. Says whether that was so.
pub(crate) fn clear(session: &Session, evidence: &Evidence) -> bool {
    let (Some(fleet), Some(shell)) = (&session.fleet, evidence.shell_holder()) else { return false };
    let Some(pid) = shell.pid() else { return false };
    match shell.clear_record(&session.world, fleet) {
        Ok(true) => {
            session
                .console
                .note(format!("pid {pid} is another program than the watcher that had it; it was left alone"));
            true
        }
        Ok(false) => false,
        Err(error) => {
            session.console.note(error);
            false
        }
    }
}

/// Puts a watcher of ours in the place of a shell watcher that holds the home by this verdict.
///
/// # Errors
/// Why it stays, for people.
pub(crate) fn replace(
    session: &Session,
    shell: &ShellHolder,
    (verdict, wish): (&Verdict, Wish),
    deadline: Instant,
    kin: Kin,
) -> Result<Replaced, String> {
    let (Some(fleet), Some(old)) = (&session.fleet, shell.pid()) else { return Err(verdict.to_string()) };
    if wish != Wish::New {
        let restart = session.command_line("arm --restart");
        return Err(format!("{verdict}; it is a watcher of the shell scripts, and only this replaces it: {restart}"));
    }
    let world = session.world.as_ref();
    let proven =
        shell.prove(&session.world, fleet).map_err(|refusal| format!("pid {old} is not replaced: {refusal}"))?;
    let Some(proven) = proven else { return Ok(Replaced::LostTo(None)) };
    let successor = Start::spawn(session, &Mode::Standby(LEAVES_WITHIN), kin)?;
    let (successor, proven) = match standing_by(successor, deadline, old, proven)? {
        ControlFlow::Continue(both) => both,
        ControlFlow::Break(over) => return Ok(over),
    };
    let left = proven.ask(world).map_err(|refusal| format!("pid {old} is not replaced: {refusal}"))?;
    match successor.next(Instant::now() + LEAVES_WITHIN + MORE) {
        Ok(StartStatus::Ready { pid, .. } | StartStatus::Taken { pid }) => {
            let replacement = Replacement { pid: old, left, process: proven };
            Ok(Replaced::By(ready(pid)?, replacement, successor.together()))
        }
        // Whatever its successor says, or does not: the old one has not let go.
        _ if !proven.has_ended_within(world, Duration::ZERO) => Err(format!(
            "pid {old} was asked to leave and is still there after {}s; a shell watcher is not killed, so find out what \
             it is doing",
            LEAVES_WITHIN.as_secs()
        )),
        Ok(StartStatus::Failed { reason }) => {
            session.console.note(format!("pid {old} has left, but its successor failed: {reason}"));
            Ok(Replaced::LostTo(None))
        }
        // It has gone, and somebody else was faster.
        Ok(StartStatus::Lost { pid }) => Ok(Replaced::LostTo(pid.and_then(Pid::new))),
        Ok(StartStatus::Standby { .. }) | Err(_) => Ok(Replaced::LostTo(None)),
    }
}
