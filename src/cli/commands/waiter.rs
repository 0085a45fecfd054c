//! Waiting for a wake and printing it, as `arm` and `wait` do it; the waiting itself is [`crate::api::waiter`].
//!
//! What is printed is marked as presented only after the line has left this process: a reader that went away has been told
//! nothing.

use std::time::Duration;

use serde_json::json;

use super::wakes::print_reasons;
use crate::api::waiter::{self, OnLoss, Stop, Waiter, Woken};
use crate::api::wakes;
use crate::base::console::Format;
use crate::base::error::{Context, Error, Result};
use crate::base::exit;
use crate::cli::args;
use crate::cli::session::Session;
use crate::system::requests::{self, Cause, Requests};

/// `wait`: blocks until a wake is due, whoever watches.
///
/// # Errors
/// Nobody reads, or waiting is impossible.
pub fn wait(session: &Session, options: &args::Wait) -> Result<u8> {
    let (_, verdict) = session.verdict();
    if !verdict.is_watching() {
        let arm = session.command_line("arm");
        session.console.note(format!("{verdict}; only wakes that scripts add will come. Start one with: {arm}"));
    }
    until_woken(session, begin(session, options.timeout)?, OnLoss::Tell)
}

/// Listens to signals, takes a lease and begins to wait. The directories of the home must exist.
///
/// # Errors
/// The journal cannot be opened, or signals cannot be listened to.
pub fn begin(session: &Session, timeout: Option<Duration>) -> Result<Waiter<'_>> {
    let (stop, stopped) = waiter::stop();
    listen_to_signals(&stop)?;
    let console = session.console;
    Waiter::begin(session, timeout, (stop, stopped), move |note| console.tell(note))
}

/// Waits until a wake is due, and prints its reason line.
///
/// # Errors
/// Nobody reads, or the journal cannot be read.
pub fn until_woken(session: &Session, mut waiter: Waiter<'_>, on_loss: OnLoss) -> Result<u8> {
    match waiter.until_due(on_loss)? {
        Woken::Due(due) => {
            print_reasons(session, &wakes::newest(&due.iter().collect::<Vec<_>>()))?;
            waiter.mark_presented(&due);
            Ok(exit::OK)
        }
        Woken::Late => Ok(exit::TIMED_OUT),
        Woken::Asked(code) => Ok(code),
        Woken::Lost(failure) => failed(session, &failure.to_string()),
    }
}

/// The line of an `arm` that has no watcher.
///
/// # Errors
/// Nobody reads.
pub fn failed(session: &Session, reason: &str) -> Result<u8> {
    match session.console.format {
        Format::Json => session.console.json(&json!({"schema": 1, "event": "failed", "reason": reason}))?,
        Format::Lines => session.console.data(&format!("watcher: FAILED - {}", crate::base::escape::line(reason)))?,
    }
    Ok(exit::FAILED)
}

/// INT comes through ctrlc, which works on every platform; TERM and HUP, which only some have, through signal-hook.
/// Each signal has one of the two, so neither takes the other's handler away. What was ignored when the process began, by
/// `nohup` or a shell's `&`, stays so.
fn listen_to_signals(stop: &Stop) -> Result<()> {
    let mut heeded = requests::heeded(&[Cause::Interrupted, Cause::Terminated, Cause::HungUp]);
    if heeded.contains(&Cause::Interrupted) {
        let interrupted = stop.clone();
        requests::on_interrupt(move || {
            let _somebody_waits = interrupted.with(Cause::Interrupted.exit_code());
        })
        .map_err(|error| Error::Failed(format!("cannot listen to signals: {error}")))?;
    }
    heeded.retain(|&cause| cause != Cause::Interrupted);
    let stop = stop.clone();
    hear(&heeded, move |cause| stop.with(cause.exit_code()))
}

/// Tells each request to leave for one of these causes, as long as anybody listens.
///
/// # Errors
/// Those of the system.
pub(crate) fn hear(causes: &[Cause], tell: impl Fn(Cause) -> bool + Send + 'static) -> Result<()> {
    let mut requests = Requests::listen(causes).doing("listen to", "signals")?;
    let listen = move || {
        let _nobody_listens = requests.forever().find(|&cause| !tell(cause));
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(listen).map(drop).doing("listen to", "signals")
}
