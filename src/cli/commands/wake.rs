//! `wake`: add a wake from a person or a script, whether or not a watcher runs.

use serde_json::json;

use crate::api::wakes::{self, Added};
use crate::base::console::Format;
use crate::base::error::Result;
use crate::base::exit;
use crate::cli::args;
use crate::cli::session::Session;

/// Adds the wake and prints its number.
///
/// # Errors
/// An unknown kind, or it can be written nowhere.
pub fn wake(session: &Session, options: &args::Wake) -> Result<u8> {
    match wakes::add(session, &options.kind, &options.key, &options.text)? {
        Added::Recorded(wakes) => wakes.iter().try_for_each(|wake| print(session, wake.seq))?,
        Added::LeftInInbox(busy) => {
            session.console.note(format!("left in the inbox for the watcher, because {busy}"));
        }
    }
    Ok(exit::OK)
}

fn print(session: &Session, seq: u64) -> Result<()> {
    match session.console.format {
        Format::Json => session.console.json(&json!({"schema": 1, "event": "recorded", "seq": seq})),
        Format::Lines => session.console.data(&seq.to_string()),
    }
}
