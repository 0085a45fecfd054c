//! Open file descriptions, and the kernel's locks that live and die with them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::inode::Serial;
use super::processes::Number;

/// One opening: the process that made it, and the how-manieth of that process it is. So the name of an opening does not
/// depend on what others open meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Opening {
    pub(crate) process: Number,
    pub(crate) nth: u32,
}

/// What may be done through an opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Access {
    Read,
    Write,
    Both,
    Append,
    /// `O_PATH`.
    None,
}

/// An open file description.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Description {
    pub(crate) inode: Serial,
    pub(crate) access: Access,
    pub(crate) position: usize,
    pub(crate) flock: Flock,
    pub(crate) mark: Mark,
    pub(crate) beat: Option<Duration>,
}

/// Whether an opening holds the exclusive `flock` of its inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Flock {
    None,
    Exclusive,
}

/// Which record lock an opening has on the byte of the mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mark {
    None,
    Shared,
    Exclusive,
}

impl Description {
    pub(crate) fn new(inode: Serial, access: Access) -> Self {
        Self { inode, access, position: 0, flock: Flock::None, mark: Mark::None, beat: None }
    }

    pub(crate) fn may_read(&self) -> bool {
        matches!(self.access, Access::Read | Access::Both)
    }

    pub(crate) fn may_write(&self) -> bool {
        matches!(self.access, Access::Write | Access::Both | Access::Append)
    }

    /// Whether others can notice that it is closed, apart from the end of its inode.
    pub(crate) fn has_locks(&self) -> bool {
        self.flock != Flock::None || self.mark != Mark::None || self.beat.is_some()
    }
}

/// All open file descriptions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Openings(BTreeMap<Opening, Description>);

impl Openings {
    pub(crate) fn get(&self, opening: Opening) -> Option<&Description> {
        self.0.get(&opening)
    }

    pub(crate) fn get_mut(&mut self, opening: Opening) -> Option<&mut Description> {
        self.0.get_mut(&opening)
    }

    pub(crate) fn insert(&mut self, opening: Opening, description: Description) {
        self.0.insert(opening, description);
    }

    pub(crate) fn remove(&mut self, opening: Opening) -> Option<Description> {
        self.0.remove(&opening)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Opening, &Description)> {
        self.0.iter()
    }

    pub(crate) fn of(&self, process: Number) -> Vec<Opening> {
        let (first, last) = (Opening { process, nth: 0 }, Opening { process, nth: u32::MAX });
        self.0.range(first..=last).map(|(opening, _)| *opening).collect()
    }

    pub(crate) fn is_open(&self, inode: Serial) -> bool {
        self.0.values().any(|description| description.inode == inode)
    }

    /// All openings of the same inode but this one.
    pub(crate) fn others(&self, inode: Serial, but: Opening) -> impl Iterator<Item = (Opening, &Description)> {
        let openings = self.0.iter().map(|(opening, description)| (*opening, description));
        openings.filter(move |(opening, description)| *opening != but && description.inode == inode)
    }

    /// Who holds the exclusive `flock` of an inode.
    pub(crate) fn flock_of(&self, inode: Serial) -> Option<Opening> {
        let mut openings = self.0.iter();
        let found = openings.find(|(_, other)| other.inode == inode && other.flock == Flock::Exclusive);
        found.map(|(opening, _)| *opening)
    }
}
