//! `drain` and `ack`: print the pending wakes; nothing is removed until they are acknowledged.

use serde_json::json;

use super::print_wakes;
use crate::base::console::Format;
use crate::base::error::{Context, Result};
use crate::base::exit;
use crate::cli::args;
use crate::cli::session::Session;
use crate::home::paths::names;
use crate::journal::record::Wake;
use crate::journal::{acknowledge, due, read_all, render};
use crate::system::World;

/// Prints the pending wakes, and acknowledges them if asked to.
///
/// # Errors
/// The journal cannot be read, or nobody reads; nothing is acknowledged then.
pub fn drain(session: &Session, options: &args::Drain) -> Result<u8> {
    let world = session.world.as_ref();
    let path = session.home.ours(names::WAKES);
    let directory = match world.open_directory(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(exit::OK),
        opened => opened.doing("open", &path)?,
    };
    let contents = read_all(world, &directory, &path)?;
    for damage in &contents.damage {
        session.console.note(damage);
    }
    let pending = due::pending(&contents.wakes, contents.acknowledged);
    let Some(last) = pending.last().map(|wake| wake.seq) else { return Ok(exit::OK) };
    let shown: Vec<Wake> = due::fold(&pending).into_iter().cloned().collect();
    match session.console.format {
        Format::Json => print_wakes::objects(session, &shown)?,
        Format::Lines => {
            let lines: Vec<String> = shown.iter().map(render::drain_line).collect();
            session.console.data(&lines.join("\n"))?;
        }
    }
    if options.consume {
        acknowledge(world, &directory, &path, last, session.generation())?;
    } else {
        let shown: Vec<Wake> = pending.into_iter().cloned().collect();
        print_wakes::mark_presented(session, &directory, &shown, contents.acknowledged);
    }
    Ok(exit::OK)
}

/// `ack`: retires every wake up to and including a number.
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
