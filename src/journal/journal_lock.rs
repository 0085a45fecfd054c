//! The journal's lock: one writer at a time.
//!
//! It is a kernel lock on an empty file, taken through a descriptor of its own for each writing and given up by closing
//! it, so a writer that dies gives it up too. Writers hold it for one append; whoever waits for it, waits by a deadline.
//! A file that was removed and made anew under a waiter is noticed: the lock counts only while its name still leads to it.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use super::error::JournalError;
use crate::base::error::{Context, Error};
use crate::base::failpoint;
use crate::base::failpoint::Failpoint;
use crate::base::wait_until::wait_until;
use crate::system::{Claim, Kind, Open, World};

/// The name of the lock in the journal's directory.
const NAME: &str = "lock";
/// How long to pause between two tries.
const PAUSE: Duration = Duration::from_millis(1);

/// The held lock. Dropping it gives it up.
pub(crate) struct JournalLock<W: World> {
    _node: W::Node,
}

impl<W: World> JournalLock<W> {
    /// Takes the lock, waiting at most so long.
    pub(crate) fn take(world: &W, directory: &W::Node, path: &Path, at_most: Duration) -> Result<Self, JournalError> {
        let path = path.join(NAME);
        let mut opened = None;
        let taken = wait_until(at_most, PAUSE, || Self::attempt(world, directory, &path, &mut opened).transpose());
        match taken {
            Some(taken) => Ok(Self { _node: taken? }),
            None => Err(JournalError::Busy { path, waited: at_most }),
        }
    }

    /// Tries once. The opened file is kept between tries while it is still the one at the path.
    fn attempt(
        world: &W,
        directory: &W::Node,
        path: &Path,
        opened: &mut Option<W::Node>,
    ) -> Result<Option<W::Node>, Error> {
        let node = match opened.take() {
            Some(node) => node,
            None => world.open(directory, OsStr::new(NAME), Open::Lock).doing("open", path)?,
        };
        let facts = world.facts(&node).doing("examine", path)?;
        if facts.kind != Kind::File {
            return Err(Error::refused(path, "this is not a regular file", "move it away; it is made anew"));
        }
        if !failpoint::is_protected(Failpoint::JournalLock) {
            return Ok(Some(node));
        }
        let claim = world.try_lock(&node).doing("lock", path)?;
        let is_at_path = world.facts_at(directory, OsStr::new(NAME)).is_ok_and(|named| named.is_same_inode(&facts));
        match claim {
            Claim::Taken if is_at_path => return Ok(Some(node)),
            Claim::Busy if is_at_path => *opened = Some(node),
            Claim::Taken | Claim::Busy => {}
        }
        Ok(None)
    }
}
