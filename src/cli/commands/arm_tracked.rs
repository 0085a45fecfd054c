//! `arm --tracked`: start a watcher that lives and dies with this process.
//!
//! # Theory
//!
//! One thread obtains the watcher, follows it to its end and is never left: the watcher is bound to it. The first thread
//! only waits for that, or for a signal. On a signal it asks the watcher to leave and gives it a moment for that; when
//! this process then ends, whatever became of the request, the kernel takes the watcher down.
//!
//! If this is wrong, a script that was ended leaves a watcher behind, or a wake is printed after a line that says
//! that somebody waits for it.

use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::arm;
use super::waiter;
use crate::base::console::Stream;
use crate::base::error::{Context, Error, Result};
use crate::base::exit;
use crate::base::failpoint::Failpoint;
use crate::base::wait_until::wait_until;
use crate::cli::session::Session;
use crate::firstmate::script_output::{self, Holder};
use crate::launch::spawn::Lifetime;
use crate::launch::spawn::{BoundChild, FirstLook};
use crate::launch::{Obtained, Wish, obtain_as};
use crate::ownership::verdict::Verdict;
use crate::system::platform;
use crate::system::requests::{self, Cause};
use crate::system::{Signal, World};

/// How it says that nobody watches in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    /// With the reason in the status line.
    WithReason,
    /// With the line of the arm script; the reason is a message.
    AsScript,
}

/// One thing that happens to an arm.
enum Notice {
    /// It was asked to end, with this exit code.
    Asked(u8),
    /// The watcher runs and waits for a wake.
    Follows(platform::Pinned),
    /// It is over.
    Over(Result<u8>),
}

/// Obtains a watcher; one that is started lives with this process, and its end is the end of this call.
///
/// # Errors
/// Nobody reads, or signals cannot be listened to.
pub fn arm(mut session: Session, wish: Wish, failing: Failing) -> Result<u8> {
    let is_new = session.world.facts_of_path(session.home.state()).is_err();
    if is_new && let Err(error) = session.prepare() {
        return fail(&session, failing, &error.to_string());
    }
    let (sender, notices) = channel();
    listen_to_signals(&sender)?;
    let session = Arc::new(session);
    let armed = Arc::clone(&session);
    let follow = move || {
        let outcome = obtain_and_follow(&armed, wish, failing, &sender);
        // The first thread may have ended this process already.
        let _unheard = sender.send(Notice::Over(outcome));
        // A watcher that is still there would end with this thread.
        std::thread::park();
    };
    std::thread::Builder::new().name("watcher".to_owned()).spawn(follow).doing("start a thread for", "the watcher")?;
    until_over(&session, &notices)
}

fn until_over(session: &Session, notices: &Receiver<Notice>) -> Result<u8> {
    let mut followed = None;
    loop {
        match notices.recv() {
            Ok(Notice::Follows(process)) => followed = Some(process),
            Ok(Notice::Over(outcome)) => return outcome,
            Ok(Notice::Asked(code)) => {
                if let Some(process) = &followed {
                    take_down(session, process, notices);
                }
                return Ok(code);
            }
            Err(gone) => return Err(Error::Failed(format!("nobody follows the watcher any more: {gone}"))),
        }
    }
}

/// Asks the watcher to leave, and waits for that as long as a watcher may take. Then this process ends, and with it
/// whatever is left.
fn take_down(session: &Session, process: &platform::Pinned, notices: &Receiver<Notice>) {
    if let Err(error) = session.world.signal(process, Signal::Terminate) {
        session.console.note(format!("the watcher cannot be asked to leave: {error}"));
        return;
    }
    let end = Instant::now() + session.settings().stop_grace;
    loop {
        match notices.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(Notice::Over(_)) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            Ok(Notice::Asked(_) | Notice::Follows(_)) => {}
        }
    }
}

fn obtain_and_follow(session: &Session, wish: Wish, failing: Failing, sender: &Sender<Notice>) -> Result<u8> {
    let deadline = Instant::now() + session.settings().arm_timeout;
    let mut reason = "the deadline has passed".to_owned();
    while Instant::now() < deadline {
        let mut obtained = match obtain_as(session, wish, Lifetime::Starter, &mut session.notes()) {
            Ok(obtained) => obtained,
            Err(why) if failing == Failing::AsScript => {
                reason = why.to_string();
                // One that was asked to leave and did not has had its time.
                if !say_of_holder(session) || wish == Wish::New {
                    break;
                }
                match await_another(session, deadline) {
                    Another::Watches(obtained) => obtained,
                    Another::Left => continue,
                    Another::None => break,
                }
            }
            Err(why) => {
                reason = why.to_string();
                break;
            }
        };
        let Obtained::Started { pid, child, .. } = &mut obtained else {
            arm::print(session, &obtained)?;
            return Ok(exit::OK);
        };
        let pid = *pid;
        let Some(bound) = child.take() else {
            // A service manager keeps that one.
            arm::print(session, &obtained)?;
            return Ok(exit::OK);
        };
        if bound.first_look == FirstLook::Ended {
            let (printed, ended) = bound.child.follow().doing("follow", "the watcher")?;
            if script_output::is_wake(&printed)
                && (ended.success() || session.world.is_protected(Failpoint::TrackedAnyReason))
            {
                // Nobody else will print it: the watcher has marked it as told.
                print_raw(&printed)?;
                return Ok(script_output::code_of(ended));
            }
            reason = format!("pid {pid} ended at once ({ended})");
            // Another one would end as this one did, unless it was somebody else's turn.
            if !ended.success() && matches!(session.verdict().1, Verdict::Stopped { .. } | Verdict::Dead { .. }) {
                break;
            }
            continue;
        }
        if let Some(process) = bound.child.pin() {
            let _over_already = sender.send(Notice::Follows(process));
        }
        arm::print(session, &obtained)?;
        return follow(bound.child);
    }
    fail(session, failing, &reason)
}

/// What became of somebody else who holds the home and is not well.
enum Another {
    /// It watches.
    Watches(Obtained),
    /// It holds the home no more.
    Left,
    /// It was the same until the deadline.
    None,
}

/// Says what a watcher of the script would say of whoever holds the home and is not well. Says whether somebody does.
fn say_of_holder(session: &Session) -> bool {
    let (evidence, verdict) = session.verdict();
    let Some(holder) = Holder::of(&evidence, &verdict) else { return false };
    let grace = session.stuck_after().unwrap_or(session.settings().fleet_grace);
    let answer = script_output::loser(&holder, grace);
    if answer.stream == Stream::Message {
        session.console.banner(&answer.line);
    }
    true
}

/// The script gives whoever holds the home the time that it has itself: it may be in the middle of something that takes long.
fn await_another(session: &Session, deadline: Instant) -> Another {
    /// As often as the script looks.
    const LOOKS_EVERY: Duration = Duration::from_millis(200);
    let look = || match session.verdict().1 {
        Verdict::Ok { pid, beat } | Verdict::Slow { pid, beat } => {
            Some(Another::Watches(Obtained::Healthy { pid, beat }))
        }
        Verdict::Stopped { .. } | Verdict::Dead { .. } => Some(Another::Left),
        Verdict::Starting { .. } | Verdict::Stuck { .. } | Verdict::Foreign { .. } | Verdict::Unknown { .. } => None,
    };
    let left = deadline.saturating_duration_since(Instant::now());
    wait_until(left, LOOKS_EVERY, look).unwrap_or(Another::None)
}

/// Waits for the watcher's end and ends as it did, with its reason.
fn follow(child: BoundChild) -> Result<u8> {
    let (printed, ended) = child.follow().doing("follow", "the watcher")?;
    print_raw(&printed)?;
    Ok(script_output::code_of(ended))
}

fn print_raw(printed: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(printed).and_then(|()| stdout.flush()).doing("write to", "stdout")
}

fn fail(session: &Session, failing: Failing, reason: &str) -> Result<u8> {
    match failing {
        Failing::WithReason => waiter::failed(session, reason),
        Failing::AsScript => {
            session.console.note(reason);
            let failed = script_output::failed();
            session.console.line(failed.stream, &failed.line)?;
            Ok(failed.code)
        }
    }
}

/// INT has the code of TERM here, as the arm script has it. And as there, what was ignored at the start stays ignored.
fn listen_to_signals(sender: &Sender<Notice>) -> Result<()> {
    let sender = sender.clone();
    waiter::hear(&requests::heeded(&[Cause::HungUp, Cause::Interrupted, Cause::Terminated]), move |cause| {
        let cause = if cause == Cause::Interrupted { Cause::Terminated } else { cause };
        sender.send(Notice::Asked(cause.exit_code())).is_ok()
    })
}
