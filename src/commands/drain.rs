//! `drain`: print the pending wakes; nothing is removed until they are acknowledged.

use super::ack::generation;
use super::console::Format;
use super::context::Session;
use super::showing;
use crate::cli;
use crate::error::{Context, Result};
use crate::exit;
use crate::home::names;
use crate::wakes::record::Wake;
use crate::wakes::{acknowledge, present, read_all, render};
use crate::world::World;

/// Prints the pending wakes, and acknowledges them if asked to.
///
/// # Errors
/// The journal cannot be read, or nobody reads; nothing is acknowledged then.
pub fn drain(session: &Session, options: &cli::Drain) -> Result<u8> {
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
    let pending = present::pending(&contents.wakes, contents.acknowledged);
    let Some(last) = pending.last().map(|wake| wake.seq) else { return Ok(exit::OK) };
    let shown: Vec<Wake> = present::fold(&pending).into_iter().cloned().collect();
    match session.console.format {
        Format::Json => showing::objects(session, &shown)?,
        Format::Lines => {
            let lines: Vec<String> = shown.iter().map(render::drain_line).collect();
            session.console.data(&lines.join("\n"))?;
        }
    }
    if options.consume {
        acknowledge(world, &directory, &path, last, generation(session))?;
    } else {
        let shown: Vec<Wake> = pending.into_iter().cloned().collect();
        showing::mark_presented(session, &directory, &shown, contents.acknowledged);
    }
    Ok(exit::OK)
}
