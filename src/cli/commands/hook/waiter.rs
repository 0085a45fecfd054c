//! The waiter of a session: blocks until a wake is due, and wakes the session by exit code 2.
//!
//! Claude Code starts it at the end of every turn, in the background, and starts another one whether or not the last one
//! still waits. So each session has at most one: the others find its lock busy and leave. It ends with its agent, so that
//! none waits for a session that is gone.
//!
//! Any exit code but 0 wakes the session, also for nothing. So everything that goes wrong here is exit code 0; only the
//! loss of supervision wakes, out of the same budget that holds turns.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use super::situation::{HookSession, in_its_words, open};
use crate::api::waiter::{OnLoss, Woken};
use crate::api::wakes::newest;
use crate::base::error::{Context, Result};
use crate::base::exit;
use crate::base::failpoint::Failpoint;
use crate::cli::args::Global;
use crate::cli::commands::waiter;
use crate::cli::session::Session;
use crate::hooks::decision::{Allowance, Decision, Message, Role, Supervision, Waking, Work};
use crate::hooks::event::Event;
use crate::hooks::harness::Harness;
use crate::hooks::hold_limit;
use crate::hooks::payload::Payload;
use crate::journal::record::Wake;
use crate::journal::render::reason_lines;
use crate::settings::Repair;
use crate::system::identity::{Sameness, compare};
use crate::system::platform;
use crate::system::storage;
use crate::system::{Claim, Open, World};

/// How long other hooks may keep a waiter from the records. Nobody waits for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Waits, if this session may and no other waiter of it does.
pub(crate) fn wait(global: &Global, harness: Harness, payload: &Payload) -> u8 {
    // Anybody else would be held up by it.
    if harness.profile().waking != Waking::ByWaiter {
        return harness.failure(&format!("{} cannot be woken by a hook that waits", harness.title())).leave();
    }
    match wait_in_home(global, harness, payload) {
        Ok(code) => code,
        Err(why) => harness.failure(&why.to_string()).leave(),
    }
}

fn wait_in_home(global: &Global, harness: Harness, payload: &Payload) -> Result<u8> {
    let session = open(global)?;
    let until = Instant::now() + PATIENCE;
    let Some(asking) = HookSession::find(&session, (harness, Event::Wait), payload, until)? else {
        return Ok(exit::OK);
    };
    if asking.role()? != Role::Responsible {
        return Ok(exit::OK);
    }
    // First of all, so that the hook at the end of the turn sees that somebody is about to wait.
    let Some(_only_one) = Only::take(&session, &asking)? else { return Ok(exit::OK) };
    let situation = asking.situation()?;
    if situation.role != Role::Responsible || situation.work == Work::None {
        return Ok(exit::OK);
    }
    // The hook at the end of the turn says what is wrong; this one would only say it again.
    if !matches!(situation.supervision, Supervision::On(_)) {
        return Ok(exit::OK);
    }
    let mut waiting = waiter::begin(&session, None)?;
    if let Some(agent) = agent(&session, &asking) {
        waiting.end_with(agent);
    }
    let on_loss = if session.settings().repair == Repair::Start { OnLoss::Obtain } else { OnLoss::Tell };
    match waiting.until_due(on_loss)? {
        Woken::Due(due) => {
            let answer = harness.answer(Event::Wait, &Decision::Wake(digest(&session, &due)));
            // Whoever was not reached was not shown anything.
            if answer.say().is_err() {
                return Ok(exit::OK);
            }
            waiting.mark_presented(&due);
            Ok(answer.code)
        }
        Woken::Late | Woken::Asked(_) => Ok(exit::OK),
        Woken::Lost(failure) => Ok(lost(&session, &asking, harness, &failure.to_string())),
    }
}

/// What the agent reads when it is woken.
fn digest(session: &Session, due: &[Wake]) -> Message {
    let newest = newest(&due.iter().collect::<Vec<_>>());
    let lines = reason_lines(&newest).join("\n");
    Message::new(&format!("wakes are due. Read them with: {}\n{lines}", session.command_line("drain")))
}

fn lost(session: &Session, asking: &HookSession<'_>, harness: Harness, reason: &str) -> u8 {
    let spent = asking.with_turn(|world, directory| Ok(hold_limit::spend(world, directory, asking.session_key(), 0)));
    let arm = session.command_line("arm");
    let message = Message::new(&format!("supervision of this home is off: {reason}. The command for it: {arm}"));
    match spent {
        Ok(Allowance::Granted) => harness.answer(Event::Wait, &Decision::Wake(message)).leave(),
        Ok(Allowance::Spent | Allowance::Uncounted(_)) | Err(_) => harness.failure(reason).leave(),
    }
}

/// The process of the agent, if it still is the one.
fn agent(session: &Session, asking: &HookSession<'_>) -> Option<platform::Pinned> {
    let world = session.world.as_ref();
    let recorded = &asking.applicant().agent;
    let process = world.pin(recorded.pid).ok()??;
    let sameness = compare(recorded, &world.observe(&process), &session.here);
    matches!(sameness, Sameness::Same(_)).then_some(process)
}

/// Being the only waiter of a session. It ends with this process; dropping it also takes the name away.
struct Only<'a> {
    session: &'a Session,
    asking: &'a HookSession<'a>,
    name: OsString,
    // Held for its lock, which goes with it.
    _locked: std::fs::File,
}

impl<'a> Only<'a> {
    /// `None`: another one waits.
    fn take(session: &'a Session, asking: &'a HookSession<'a>) -> Result<Option<Self>> {
        let world = session.world.as_ref();
        let name = asking.waiter_name();
        // Under the turn nobody takes a name away that another one has just opened.
        let locked = asking.with_turn(|world, directory| {
            let node = world.open(directory, &name, Open::Lock).doing("lock", &name)?;
            let claim = world.try_lock(&node).doing("lock", &name)?;
            Ok((claim == Claim::Taken || !world.is_protected(Failpoint::HooksWaiter)).then_some(node))
        })?;
        world.reach(Failpoint::HooksWaiterTaken).map_err(in_its_words)?;
        Ok(locked.map(|locked| Self { session, asking, name, _locked: locked }))
    }
}

impl Drop for Only<'_> {
    fn drop(&mut self) {
        let world = self.session.world.as_ref();
        let removed =
            self.asking.with_turn(|_, directory| storage::remove(world, directory, &self.name).map_err(in_its_words));
        if let Err(why) = removed {
            tracing::debug!("the file of a waiter is left: {why}");
        }
    }
}
