//! What `status` and `guard` look at besides the watcher itself: tasks, waiting wakes, and who would be told.
//!
//! Nothing is taken or written. "Something watches" and "somebody will be told" are two facts, and neither stands in
//! for the other.

use super::sources::inbox;
use super::tasks;
use crate::base::error::{Context, Error, Result};
use crate::journal::{Pending, summarize};
use crate::layout::paths::{Home, names};
use crate::ownership::waiters;
use crate::system::World;
use crate::system::identity::Sameness;

/// The wakes that nobody has acknowledged, drop-ins that no watcher has read yet among them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Waiting {
    /// At most so many.
    pub count: u64,
    /// When the oldest was written, in milliseconds since 1970.
    pub oldest_at: Option<i64>,
}

/// Which wakes wait, and how many would be told of the next.
#[derive(Debug)]
pub struct Told {
    wakes: Result<Waiting>,
    waiters: Result<usize>,
}

impl Told {
    /// The pending wakes, if they could be looked at.
    pub fn pending(&self) -> Option<&Waiting> {
        self.wakes.as_ref().ok()
    }

    /// Why nobody can tell whether wakes wait.
    pub fn blindness(&self) -> Option<&Error> {
        self.wakes.as_ref().err()
    }

    /// Whether a wake waits, as far as can be told.
    pub fn has_pending(&self) -> bool {
        self.pending().is_some_and(|pending| pending.count > 0)
    }

    /// How many waiters live, as far as can be told.
    pub fn waiters(&self) -> Option<usize> {
        self.waiters.as_ref().ok().copied()
    }

    /// The wakes, for people.
    pub fn wakes_in_words(&self) -> String {
        match &self.wakes {
            Ok(pending) if pending.count == 0 => "none pending".to_owned(),
            Ok(pending) => format!("at most {} pending", pending.count),
            Err(error) => error.to_string(),
        }
    }

    /// The waiters, for people.
    pub fn waiters_in_words(&self) -> String {
        match &self.waiters {
            Ok(0) => "none: nobody would be told of a wake".to_owned(),
            Ok(count) => format!("{count} would be told of a wake"),
            Err(error) => error.to_string(),
        }
    }
}

/// Looks at the wakes and the waiters of a home. What does not exist yet is empty.
pub fn told<W: World>(world: &W, home: &Home) -> Told {
    Told { wakes: pending(world, home), waiters: living_waiters(world, home) }
}

/// The wakes that nobody has acknowledged. What does not exist yet is empty.
///
/// # Errors
/// The journal or the inbox cannot be read.
pub fn pending<W: World>(world: &W, home: &Home) -> Result<Waiting> {
    let path = home.ours(names::WAKES);
    let mut waiting = Waiting::default();
    if let Some(directory) = existing(world.open_directory(&path)).doing("open", &path)?
        && let Pending::Some { at_most, oldest_at } = summarize(world, &directory, &path)?.pending
    {
        waiting = Waiting { count: at_most, oldest_at };
    }
    let path = home.ours(names::INBOX);
    if let Some(directory) = existing(world.open_directory(&path)).doing("open", &path)? {
        let names = world.names(&directory).doing("list", &path)?;
        waiting.count += names.iter().filter(|name| inbox::is_drop_in(name)).count() as u64;
    }
    Ok(waiting)
}

/// How many waiters live. No directory means none.
///
/// # Errors
/// Those of the file system.
pub fn living_waiters<W: World>(world: &W, home: &Home) -> Result<usize> {
    let path = home.ours(names::WAITERS);
    match existing(world.open_directory(&path)).doing("open", &path)? {
        Some(directory) => waiters::count(world, &directory).doing("list", &path),
        None => Ok(0),
    }
}

/// How many tasks are in flight.
///
/// # Errors
/// The state directory cannot be read. One that does not exist has no tasks.
pub fn tasks<W: World>(world: &W, home: &Home) -> Result<usize> {
    match existing(world.open_directory(home.state())).doing("open", home.state())? {
        Some(state) => {
            let names = world.names(&state).doing("list", home.state())?;
            Ok(names.iter().filter(|name| tasks::is_meta(name)).count())
        }
        None => Ok(0),
    }
}

fn existing<T>(opened: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match opened {
        Ok(node) => Ok(Some(node)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The answer of a comparison, for people.
pub fn in_words(sameness: &Sameness) -> String {
    match sameness {
        Sameness::Same(_) => "same".to_owned(),
        Sameness::Different(difference) => format!("different: {difference}"),
        Sameness::Unknown(why) => format!("unknown: {why}"),
    }
}
