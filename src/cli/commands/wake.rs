//! `wake`: add a wake from a person or a script, whether or not a watcher runs.
//!
//! It goes straight into the journal. If other processes keep that busy for too long (a stopped one, say), it goes into
//! the inbox instead, from where a watcher takes it.

use std::sync::Arc;

use serde_json::json;

use crate::base::console::Format;
use crate::base::error::{Context, Error, Result};
use crate::base::escape::hexadecimal;
use crate::base::exit;
use crate::cli::args;
use crate::cli::session::Session;
use crate::home::paths::names;
use crate::journal::reason::Reason;
use crate::journal::record::{Delivery, Draft, Kind};
use crate::journal::{Journal, JournalError, Limits};
use crate::ownership::wakeup_fifo;
use crate::system::World;
use crate::system::storage::{self, Durability};
use crate::watcher::checkpoint::Seen;

/// Adds the wake and prints its number.
///
/// # Errors
/// An unknown kind, or it can be written nowhere.
pub fn wake(session: &Session, options: &args::Wake) -> Result<u8> {
    let mut draft = draft(options)?;
    draft.delivery = session.loaded.compile()?.delivery(&draft.kind, &draft.key, &draft.text);
    let path = session.home.ours(names::WAKES);
    let directory = session.world.open_directory(&path).doing("open", &path)?;
    let limits = Limits::of_journal(session.settings().journal_max);
    let mut journal = Journal::open(Arc::clone(&session.world), directory, path, limits);
    let mut appended = journal.append(session.generation(), &[draft.clone()]);
    if let Err(JournalError::Full { .. }) = appended {
        // Perhaps some of it is acknowledged already, and no watcher has made room yet.
        journal.compact(covered(session))?;
        appended = journal.append(session.generation(), &[draft]);
    }
    match appended {
        Ok(wakes) => {
            wakeup_fifo::ring_all(&session.home.watch());
            for wake in wakes {
                print(session, wake.seq)?;
            }
        }
        Err(busy @ JournalError::Busy { .. }) => {
            drop_in(session, options)?;
            session.console.note(format!("left in the inbox for the watcher, because {busy}"));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(exit::OK)
}

/// Up to which number the markers on disk know of every announcement.
fn covered(session: &Session) -> u64 {
    let watch = session.world.open_directory(&session.home.watch());
    watch.map_or(0, |watch| Seen::load(session.world.as_ref(), &watch).0.through_seq)
}

fn print(session: &Session, seq: u64) -> Result<()> {
    match session.console.format {
        Format::Json => session.console.json(&json!({"schema": 1, "event": "recorded", "seq": seq})),
        Format::Lines => session.console.data(&seq.to_string()),
    }
}

fn draft(options: &args::Wake) -> Result<Draft> {
    let kind = known_kind(&options.kind)?;
    let (key, text) = (options.key.as_str(), options.text.as_str());
    let text = match kind {
        Kind::Custom if !text.is_empty() => Reason::Custom { key, text }.text(),
        Kind::Heartbeat => Reason::Heartbeat.text(),
        _ => format!("{kind}: {}", if text.is_empty() { key } else { text }),
    };
    Ok(Draft { kind, key: key.to_owned(), text, context: None, mark: None, delivery: Delivery::Now })
}

fn known_kind(name: &str) -> Result<Kind> {
    let kind = Kind::from_name(name);
    if Kind::KNOWN.contains(&kind) {
        return Ok(kind);
    }
    let known: Vec<_> = Kind::KNOWN.iter().map(Kind::as_str).collect();
    Err(Error::Usage(format!("invalid wake kind: {name}; allowed: {}", known.join(", "))))
}

fn drop_in(session: &Session, options: &args::Wake) -> Result<()> {
    let world = session.world.as_ref();
    let path = session.home.ours(names::INBOX);
    let directory = world.open_directory(&path).doing("open", &path)?;
    let name = format!("{}.wake", hexadecimal(&world.nonce().doing("name a file in", &path)?));
    let content = json!({"kind": options.kind, "key": options.key, "text": options.text}).to_string();
    storage::replace(world, &directory, &name, content.as_bytes(), Durability::Power).doing("write in", &path)
}
