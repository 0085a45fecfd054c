//! The wakes of a home, as commands and the library's [`Home`](super::home::Home) read, add and acknowledge them.
//!
//! # Theory
//!
//! A new wake goes straight into the journal. If other processes keep that busy for too long (a stopped one, say), it goes
//! into the inbox instead, from where a watcher takes it. Reading removes nothing: a wake is retired by an
//! acknowledgement alone.
//!
//! If this is wrong, a wake is lost, or comes again for ever.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use crate::base::error::{Context, Error, Result};
use crate::base::escape::hexadecimal;
use crate::journal::acknowledgement::Acknowledged;
use crate::journal::due::{self, Moment, Presented};
use crate::journal::error::Damage;
use crate::journal::follower::Contents;
use crate::journal::record::{Draft, Kind, Wake};
use crate::journal::{self, Journal, JournalError, Limits, read_all};
use crate::layout::paths::names;
use crate::ownership::context::HomeContext;
use crate::ownership::wakeup_fifo;
use crate::system::World;
use crate::system::storage::{self, Durability};
use crate::watcher::checkpoint::Seen;

/// What became of a new wake.
#[derive(Debug)]
pub enum Added {
    /// It is in the journal.
    Recorded(Vec<Wake>),
    /// It is in the inbox, for this reason; the watcher will record it.
    LeftInInbox(JournalError),
}

/// Adds a wake.
///
/// # Errors
/// An unknown kind, or it can be written nowhere.
pub fn add(context: &HomeContext, kind: &str, key: &str, text: &str) -> Result<Added> {
    let mut draft = draft(kind, key, text)?;
    draft.delivery = context.loaded.compile()?.delivery(&draft.kind, &draft.key, &draft.text);
    let path = context.home.ours(names::WAKES);
    let directory = context.world.open_directory(&path).doing("open", &path)?;
    let limits = Limits::of_journal(context.settings().journal_max);
    let mut journal = Journal::open(Arc::clone(&context.world), directory, path, limits);
    let mut appended = journal.append(context.generation(), &[draft.clone()]);
    if let Err(JournalError::Full { .. }) = appended {
        // Perhaps some of it is acknowledged already, and no watcher has made room yet.
        journal.compact(covered(context))?;
        appended = journal.append(context.generation(), &[draft]);
    }
    match appended {
        Ok(wakes) => {
            wakeup_fifo::ring_all(&context.home.watch());
            Ok(Added::Recorded(wakes))
        }
        Err(busy @ JournalError::Busy { .. }) => {
            leave_in_inbox(context, kind, key, text)?;
            Ok(Added::LeftInInbox(busy))
        }
        Err(error) => Err(error.into()),
    }
}

/// Up to which number the markers on disk know of every announcement.
fn covered(context: &HomeContext) -> u64 {
    let watch = context.world.open_directory(&context.home.watch());
    watch.map_or(0, |watch| Seen::load(context.world.as_ref(), &watch).0.through_seq)
}

fn draft(kind: &str, key: &str, text: &str) -> Result<Draft> {
    let kind = known_kind(kind)?;
    let text = match kind {
        Kind::Custom if !text.is_empty() => format!("{kind}: {key}: {text}"),
        Kind::Heartbeat => kind.to_string(),
        _ => format!("{kind}: {}", if text.is_empty() { key } else { text }),
    };
    Ok(Draft::new(kind, key, text))
}

fn known_kind(name: &str) -> Result<Kind> {
    let kind = Kind::from_name(name);
    if Kind::KNOWN.contains(&kind) {
        return Ok(kind);
    }
    let known: Vec<_> = Kind::KNOWN.iter().map(Kind::as_str).collect();
    Err(Error::Usage(format!("invalid wake kind: {name}; allowed: {}", known.join(", "))))
}

fn leave_in_inbox(home: &HomeContext, kind: &str, key: &str, text: &str) -> Result<()> {
    let world = home.world.as_ref();
    let path = home.home.ours(names::INBOX);
    let directory = world.open_directory(&path).doing("open", &path)?;
    let name = format!("{}.wake", hexadecimal(&world.nonce().doing("name a file in", &path)?));
    let content = json!({"kind": kind, "key": key, "text": text}).to_string();
    storage::replace(world, &directory, &name, content.as_bytes(), Durability::Power).doing("write in", &path)
}

/// What the journal has.
#[derive(Debug)]
pub struct Reading {
    contents: Contents,
    directory: File,
    path: PathBuf,
}

/// Reads the journal; `None` in a home that never had one.
///
/// # Errors
/// It cannot be read.
pub fn read(context: &HomeContext) -> Result<Option<Reading>> {
    let path = context.home.ours(names::WAKES);
    let directory = match context.world.open_directory(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.doing("open", &path)?,
    };
    let contents = read_all(context.world.as_ref(), &directory, &path)?;
    Ok(Some(Reading { contents, directory, path }))
}

impl Reading {
    /// What was found damaged, for people.
    pub fn damage(&self) -> &[Damage] {
        &self.contents.damage
    }

    /// The wakes that nobody has acknowledged, in the order of their numbers.
    pub fn pending(&self) -> Vec<&Wake> {
        due::pending(&self.contents.wakes, self.contents.acknowledged)
    }

    /// Acknowledges every wake up to this number.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn acknowledge(&self, context: &HomeContext, seq: u64) -> Result<Acknowledged> {
        Ok(journal::acknowledge(context.world.as_ref(), &self.directory, &self.path, seq, context.generation())?)
    }

    /// Remembers that these wakes were shown.
    ///
    /// # Errors
    /// It cannot be written: they are shown again sooner, which loses nothing.
    pub fn mark_presented(&self, context: &HomeContext, shown: &[Wake]) -> Result<()> {
        mark_presented(context, &self.directory, shown, self.contents.acknowledged)
    }
}

/// The newest wake of each kind and key, each at its own number.
pub fn newest(wakes: &[&Wake]) -> Vec<Wake> {
    due::fold(wakes).into_iter().cloned().collect()
}

/// Remembers that these wakes were shown.
///
/// # Errors
/// It cannot be written: they are shown again sooner, which loses nothing.
pub fn mark_presented(context: &HomeContext, directory: &File, wakes: &[Wake], acknowledged: u64) -> Result<()> {
    let world = context.world.as_ref();
    let shown: Vec<&Wake> = wakes.iter().collect();
    let presented = Presented::read(world, directory).after_showing(&shown, acknowledged, &Moment::of(world));
    presented.write(world, directory, &context.home.ours(names::WAKES))
}

/// Acknowledges every wake up to this number.
///
/// # Errors
/// The number was never issued, or it cannot be written.
pub fn acknowledge(context: &HomeContext, seq: u64) -> Result<Acknowledged> {
    let world = context.world.as_ref();
    let path = context.home.ours(names::WAKES);
    let directory = world.open_directory(&path).doing("open", &path)?;
    Ok(journal::acknowledge(world, &directory, &path, seq, context.generation())?)
}
