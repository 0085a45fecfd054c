//! `ack`: retire every wake up to and including a number.

use serde_json::json;

use crate::base::console::Format;
use crate::base::error::{Context, Result};
use crate::base::exit;
use crate::home::paths::names;
use crate::journal::acknowledge;
use crate::ownership::context::Session;
use crate::ownership::held_home;
use crate::system::World;

/// Acknowledges.
///
/// # Errors
/// The number was never issued, or it cannot be written down.
pub fn ack(session: &Session, seq: u64) -> Result<u8> {
    let world = session.world.as_ref();
    let path = session.home.ours(names::WAKES);
    let directory = world.open_directory(&path).doing("open", &path)?;
    let acknowledged = acknowledge(world, &directory, &path, seq, generation(session))?;
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

/// The acquisition in force, with which writers other than the watcher sign; 0 before the first.
pub fn generation(session: &Session) -> u64 {
    let watch = session.world.open_directory(&session.home.watch());
    let read = watch.and_then(|watch| held_home::read_generation(session.world.as_ref(), &watch));
    read.ok().flatten().unwrap_or(0)
}
