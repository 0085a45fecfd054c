//! `ack`: retire every wake up to and including a number.

use serde_json::json;

use crate::base::console::Format;
use crate::base::error::{Context, Result};
use crate::base::exit;
use crate::cli::session::Session;
use crate::home::paths::names;
use crate::journal::acknowledge;
use crate::system::World;

/// Acknowledges.
///
/// # Errors
/// The number was never issued, or it cannot be written down.
pub fn ack(session: &Session, seq: u64) -> Result<u8> {
    let world = session.world.as_ref();
    let path = session.home.ours(names::WAKES);
    let directory = world.open_directory(&path).doing("open", &path)?;
    let acknowledged = acknowledge(world, &directory, &path, seq, session.generation())?;
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
