//! One inode: what it is, what it holds, and how much of that is safe from a power cut.

use std::collections::BTreeMap;
use std::ffi::OsString;

use crate::system::platform;
use crate::system::{Facts, Kind};

/// An inode for as long as a simulation runs. Unlike an inode number it is never given to another.
pub(crate) type Serial = u32;

/// The one device there is.
const DEVICE: u64 = 42;

/// One inode.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Inode {
    /// Its number, which another may get as soon as this one has neither a name nor an opening.
    pub(crate) number: u64,
    pub(crate) body: Body,
    pub(crate) mode: u32,
    pub(crate) links: u64,
    pub(crate) mtime_ns: i64,
    pub(crate) ctime_ns: i64,
}

/// What an inode holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Body {
    File(Content),
    Directory { names: BTreeMap<OsString, Serial>, parent: Serial },
    Link(OsString),
}

/// The bytes of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Content {
    /// What a reader sees.
    pub(crate) bytes: Vec<u8>,
    /// What the disk has.
    pub(crate) safe: Vec<u8>,
    /// From here on the kernel knows that the disk does not have the bytes yet.
    pub(crate) dirty_from: usize,
}

/// What a power cut leaves of bytes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Unsynced {
    /// Nothing.
    Lost,
    /// The first half.
    Torn,
    /// Their number, but zeros in their place.
    Zeroed,
    /// All: the kernel happened to write them in time.
    Kept,
}

impl Unsynced {
    pub(crate) const ALL: [Self; 4] = [Self::Lost, Self::Torn, Self::Zeroed, Self::Kept];
}

impl Content {
    pub(crate) fn write_at(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[offset..end].copy_from_slice(bytes);
        self.dirty_from = self.dirty_from.min(offset);
    }

    pub(crate) fn set_length(&mut self, length: usize) {
        self.bytes.resize(length, 0);
        self.dirty_from = self.dirty_from.min(length);
    }

    /// Makes the bytes safe that the kernel knows to be dirty.
    pub(crate) fn sync(&mut self) {
        self.safe = self.after_power_cut(Unsynced::Kept);
        self.dirty_from = self.bytes.len();
    }

    /// A sync that fails: the kernel reports it once and takes the pages for clean from then on.
    pub(crate) fn fail_to_sync(&mut self) {
        self.dirty_from = self.bytes.len();
    }

    /// The bytes that are found when power is back.
    pub(crate) fn after_power_cut(&self, unsynced: Unsynced) -> Vec<u8> {
        let is_dirty = self.dirty_from < self.bytes.len() || self.bytes.len() < self.safe.len();
        if !is_dirty || unsynced == Unsynced::Lost {
            return self.safe.clone();
        }
        let dirty = &self.bytes[self.dirty_from.min(self.bytes.len())..];
        let mut found = self.safe.clone();
        found.resize(self.dirty_from.min(self.bytes.len()), 0);
        match unsynced {
            Unsynced::Lost => {}
            Unsynced::Torn => found.extend(&dirty[..dirty.len() / 2]),
            Unsynced::Zeroed => found.resize(self.bytes.len(), 0),
            Unsynced::Kept => found.extend(dirty),
        }
        found
    }
}

impl Inode {
    pub(crate) fn kind(&self) -> Kind {
        match self.body {
            Body::File(_) => Kind::File,
            Body::Directory { .. } => Kind::Directory,
            Body::Link(_) => Kind::Link,
        }
    }

    pub(crate) fn facts(&self) -> Facts {
        let size = match &self.body {
            Body::File(content) => content.bytes.len() as u64,
            Body::Link(target) => target.len() as u64,
            Body::Directory { .. } => 4096,
        };
        Facts {
            kind: self.kind(),
            device: DEVICE,
            inode: self.number,
            size,
            mtime_ns: self.mtime_ns,
            ctime_ns: self.ctime_ns,
            links: self.links,
            // Everything belongs to whoever runs the tests: the protocols compare with the real user.
            uid: platform::effective_uid(),
            mode: self.mode,
        }
    }
}
