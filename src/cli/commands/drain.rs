//! `drain` and `ack`: print the pending wakes; nothing is removed until they are acknowledged.

use serde_json::json;

use super::print_wakes;
use crate::api::wakes;
use crate::base::console::Format;
use crate::base::error::Result;
use crate::base::exit;
use crate::cli::args;
use crate::cli::session::Session;
use crate::journal::record::Wake;
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
        Format::Json => print_wakes::objects(session, &shown)?,
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
