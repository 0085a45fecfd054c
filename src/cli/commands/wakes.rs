//! The verbs about wakes, and how wakes are printed.
//!
//! `wake` adds one from a person or a script, whether or not a watcher runs. `drain` prints the pending ones; nothing is
//! removed until `ack` acknowledges it.

use serde_json::json;

use crate::api::wakes::{self, Added};
use crate::base::console::Format;
use crate::base::error::{Error, Result};
use crate::base::exit;
use crate::cli::args;
use crate::cli::session::Session;
use crate::journal::record::{Kind, Wake};
use crate::journal::render;

/// Prints the pending wakes, and acknowledges them if asked to.
///
/// # Errors
/// The journal cannot be read, or nobody reads; nothing is acknowledged then.
pub fn drain(session: &Session, options: &args::Drain) -> Result<u8> {
    let Some(reading) = wakes::read(session)? else { return Ok(exit::OK) };
    for damage in reading.damage() {
        session.console.note(damage);
    }
    let pending = reading.pending();
    let Some(last) = pending.last().map(|wake| wake.seq) else { return Ok(exit::OK) };
    let shown = wakes::newest(&pending);
    match session.console.format {
        Format::Json => print_objects(session, &shown)?,
        Format::Lines => {
            let lines: Vec<String> = shown.iter().map(render::drain_line).collect();
            session.console.data(&lines.join("\n"))?;
        }
    }
    if options.consume {
        reading.acknowledge(session, last)?;
    } else {
        let shown: Vec<Wake> = pending.into_iter().cloned().collect();
        if let Err(error) = reading.mark_presented(session, &shown) {
            session.console.note(format!("these wakes will be shown again soon: {error}"));
        }
    }
    Ok(exit::OK)
}

/// `ack`: retires every wake up to and including a number.
///
/// # Errors
/// The number was never issued, or it cannot be written down.
pub fn ack(session: &Session, seq: u64) -> Result<u8> {
    let acknowledged = wakes::acknowledge(session, seq)?;
    if let Some(damage) = &acknowledged.repaired {
        session.console.note(damage);
    }
    match session.console.format {
        Format::Json => session.console.json(&json!({
            "schema": 1, "event": "acknowledged", "through": acknowledged.through, "before": acknowledged.before,
        }))?,
        Format::Lines if acknowledged.through == acknowledged.before => {
            session.console.note(format!("everything up to {} was acknowledged already", acknowledged.through));
        }
        Format::Lines => {}
    }
    Ok(exit::OK)
}

/// Prints the reason line of each wake.
///
/// # Errors
/// Nobody reads: the wakes were not shown.
pub fn print_reasons(session: &Session, wakes: &[Wake]) -> Result<()> {
    match session.console.format {
        Format::Lines => render::reason_lines(wakes).iter().try_for_each(|line| session.console.data(line)),
        Format::Json => print_objects(session, wakes),
    }
}

/// As [`print_reasons`], as the watcher script prints them: a check's output as it is.
///
/// # Errors
/// As [`print_reasons`].
pub fn print_reasons_as_script(session: &Session, wakes: &[Wake]) -> Result<()> {
    match wakes {
        [check] if check.kind == Kind::Check => session.console.data(&render::with_kind(check)),
        _ => print_reasons(session, wakes),
    }
}

/// Prints each wake as a JSON object.
///
/// # Errors
/// Nobody reads: the wakes were not shown.
fn print_objects(session: &Session, wakes: &[Wake]) -> Result<()> {
    wakes.iter().try_for_each(|wake| {
        session.console.data(&render::json_line(wake).map_err(|error| Error::Failed(error.to_string()))?)
    })
}

/// Adds the wake and prints its number.
///
/// # Errors
/// An unknown kind, or it can be written nowhere.
pub fn wake(session: &Session, options: &args::Wake) -> Result<u8> {
    match wakes::add(session, &options.kind, &options.key, &options.text)? {
        Added::Recorded(wakes) => wakes.iter().try_for_each(|wake| print_number(session, wake.seq))?,
        Added::LeftInInbox(busy) => {
            session.console.note(format!("left in the inbox for the watcher, because {busy}"));
        }
    }
    Ok(exit::OK)
}

fn print_number(session: &Session, seq: u64) -> Result<()> {
    match session.console.format {
        Format::Json => session.console.json(&json!({"schema": 1, "event": "recorded", "seq": seq})),
        Format::Lines => session.console.data(&seq.to_string()),
    }
}
