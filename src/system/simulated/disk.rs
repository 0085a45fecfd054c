//! The simulated file system: inodes and the names that lead to them.
//!
//! It behaves as ext4 does where protocols are known to trip: the number of an inode that has lost its last name and
//! its last opening goes to the very next one that is made, and time stamps are coarse. Which openings there are is
//! known to the caller, who passes what keeps an inode alive besides its names.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustix::io::Errno;

use super::inode::{Body, Content, Inode, Serial};
use super::power::Power;
use super::way::Place;

/// The root directory.
pub(crate) const ROOT: Serial = 0;
/// The first inode number that is given out.
const FIRST_NUMBER: u64 = 11;

/// A file system.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    inodes: BTreeMap<Serial, Arc<Inode>>,
    next: Serial,
    /// How often anything on it was changed.
    pub(crate) changes: u64,
    /// What a power cut would leave, if somebody wants to know.
    pub(crate) power: Option<Power>,
}

/// Two disks are the same if nobody can tell them apart. How they came to be is no part of it: neither the order in
/// which inodes were made, of which only the numbers can be seen, nor how often anything was changed.
impl Hash for Disk {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut inodes: Vec<&Inode> = self.inodes.values().map(Arc::as_ref).collect();
        inodes.sort_unstable_by_key(|inode| inode.number);
        for inode in inodes {
            (inode.number, inode.mode, inode.links, inode.mtime_ns, inode.ctime_ns).hash(state);
            match &inode.body {
                Body::Directory { names, .. } => {
                    for (name, serial) in names {
                        (name, self.number(*serial)).hash(state);
                    }
                }
                Body::File(content) if self.power.is_none() => content.bytes.hash(state),
                other => other.hash(state),
            }
        }
        self.power.hash(state);
    }
}

impl Default for Disk {
    fn default() -> Self {
        let body = Body::Directory { names: BTreeMap::new(), parent: ROOT };
        let root = Inode { number: 2, body, mode: 0o755, links: 2, mtime_ns: 0, ctime_ns: 0 };
        Self { inodes: BTreeMap::from([(ROOT, Arc::new(root))]), next: ROOT + 1, changes: 0, power: None }
    }
}

impl Disk {
    /// A disk as it is found: these inodes, with the names that their directories hold.
    pub(crate) fn found(inodes: BTreeMap<Serial, Arc<Inode>>, next: Serial) -> Self {
        Self { inodes, next, changes: 0, power: None }
    }

    pub(crate) fn inodes(&self) -> &BTreeMap<Serial, Arc<Inode>> {
        &self.inodes
    }

    pub(crate) fn next_serial(&self) -> Serial {
        self.next
    }

    /// The number of an inode; 0 when it is gone.
    pub(crate) fn number(&self, serial: Serial) -> u64 {
        self.inodes.get(&serial).map_or(0, |inode| inode.number)
    }

    pub(crate) fn inode(&self, serial: Serial) -> Result<&Inode, Errno> {
        self.inodes.get(&serial).map(Arc::as_ref).ok_or(Errno::STALE)
    }

    pub(crate) fn change(&mut self, serial: Serial) -> Result<&mut Inode, Errno> {
        self.changes += 1;
        self.inodes.get_mut(&serial).map(Arc::make_mut).ok_or(Errno::STALE)
    }

    pub(crate) fn names(&self, directory: Serial) -> Result<&BTreeMap<OsString, Serial>, Errno> {
        match &self.inode(directory)?.body {
            Body::Directory { names, .. } => Ok(names),
            _ => Err(Errno::NOTDIR),
        }
    }

    pub(crate) fn content(&mut self, serial: Serial) -> Result<&mut Content, Errno> {
        match &mut self.change(serial)?.body {
            Body::File(content) => Ok(content),
            Body::Directory { .. } => Err(Errno::ISDIR),
            Body::Link(_) => Err(Errno::INVAL),
        }
    }

    /// What a place names.
    pub(crate) fn at(&self, place: &Place) -> Result<Serial, Errno> {
        match place {
            Place::Itself(serial) => Ok(*serial),
            Place::Name(directory, name) => self.names(*directory)?.get(name).copied().ok_or(Errno::NOENT),
        }
    }

    /// Makes an inode with a name that is free.
    pub(crate) fn make(&mut self, place: &Place, body: Body, mode: u32, now_ns: i64) -> Result<Serial, Errno> {
        let Place::Name(directory, name) = place else { return Err(Errno::EXIST) };
        if self.names(*directory)?.contains_key(name) {
            return Err(Errno::EXIST);
        }
        if self.inode(*directory)?.links == 0 {
            return Err(Errno::NOENT);
        }
        let links = if matches!(body, Body::Directory { .. }) { 2 } else { 0 };
        let serial = self.next;
        self.next += 1;
        let inode = Inode { number: self.free_number(), body, mode, links, mtime_ns: now_ns, ctime_ns: now_ns };
        self.inodes.insert(serial, Arc::new(inode));
        self.name(*directory, name, Some(serial), now_ns)?;
        Ok(serial)
    }

    fn free_number(&self) -> u64 {
        let mut used: Vec<u64> = self.inodes.values().map(|inode| inode.number).collect();
        used.sort_unstable();
        let is_free = |number: &u64| used.binary_search(number).is_err();
        (FIRST_NUMBER..u64::MAX).find(is_free).unwrap_or(u64::MAX)
    }

    /// Points a name at an inode or at nothing, and keeps count. The caller has checked that this is allowed.
    fn name(&mut self, directory: Serial, name: &OsStr, now: Option<Serial>, at_ns: i64) -> Result<(), Errno> {
        let inode = self.change(directory)?;
        (inode.mtime_ns, inode.ctime_ns) = (at_ns, at_ns);
        let Body::Directory { names, .. } = &mut inode.body else { return Err(Errno::NOTDIR) };
        let before = match now {
            Some(serial) => names.insert(name.to_owned(), serial),
            None => names.remove(name),
        };
        if let Some(power) = &mut self.power {
            power.note(directory, name, now);
        }
        if let Some(serial) = before {
            self.count(serial, at_ns, |links| links - 1)?;
        }
        if let Some(serial) = now {
            self.count(serial, at_ns, |links| links + 1)?;
            if let Body::Directory { parent, .. } = &mut self.change(serial)?.body {
                *parent = directory;
            }
        }
        Ok(())
    }

    fn count(&mut self, serial: Serial, at_ns: i64, change: impl FnOnce(u64) -> u64) -> Result<(), Errno> {
        let inode = self.change(serial)?;
        inode.ctime_ns = at_ns;
        if matches!(inode.body, Body::Directory { .. }) {
            return Ok(());
        }
        inode.links = change(inode.links);
        Ok(())
    }

    /// Gives a file a second name.
    pub(crate) fn link(&mut self, from: &Place, to: &Place, now_ns: i64) -> Result<(), Errno> {
        let serial = self.at(from)?;
        if self.at(to).is_ok() {
            return Err(Errno::EXIST);
        }
        if let Body::Directory { .. } = self.inode(serial)?.body {
            return Err(Errno::PERM);
        }
        let Place::Name(directory, name) = to else { return Err(Errno::EXIST) };
        self.name(*directory, name, Some(serial), now_ns)
    }

    /// Renames, replacing what had the new name. Returns what that was.
    pub(crate) fn rename(&mut self, from: &Place, to: &Place, now_ns: i64) -> Result<Option<Serial>, Errno> {
        let (Place::Name(old, old_name), Place::Name(new, new_name)) = (from, to) else { return Err(Errno::BUSY) };
        let (serial, replaced) = (self.at(from)?, self.at(to).ok());
        if self.is_inside(*new, serial) {
            return Err(Errno::INVAL);
        }
        if replaced.is_some_and(|other| self.is_inside(*old, other)) {
            return Err(Errno::NOTEMPTY);
        }
        if replaced == Some(serial) {
            return Ok(None);
        }
        let is_directory = |serial| self.names(serial).is_ok();
        match replaced {
            Some(other) if is_directory(serial) && !is_directory(other) => return Err(Errno::NOTDIR),
            Some(other) if !is_directory(serial) && is_directory(other) => return Err(Errno::ISDIR),
            Some(other) if self.names(other).is_ok_and(|names| !names.is_empty()) => return Err(Errno::NOTEMPTY),
            _ => {}
        }
        self.group(|disk| {
            // The count of names must not fall to zero on the way.
            disk.name(*new, new_name, Some(serial), now_ns)?;
            disk.name(*old, old_name, None, now_ns)
        })?;
        if let Some(other) = replaced.filter(|other| self.names(*other).is_ok()) {
            self.change(other)?.links = 0;
        }
        Ok(replaced)
    }

    /// Swaps two names.
    pub(crate) fn exchange(&mut self, one: &Place, other: &Place, now_ns: i64) -> Result<(), Errno> {
        let (first, second) = (self.at(one)?, self.at(other)?);
        let (Place::Name(at, name), Place::Name(to, other_name)) = (one, other) else { return Err(Errno::BUSY) };
        if self.is_inside(*to, first) || self.is_inside(*at, second) {
            return Err(Errno::INVAL);
        }
        self.group(|disk| {
            disk.name(*at, name, Some(second), now_ns)?;
            disk.name(*to, other_name, Some(first), now_ns)
        })
    }

    /// Whether a directory is another one or inside it.
    fn is_inside(&self, directory: Serial, other: Serial) -> bool {
        let mut here = directory;
        while here != other {
            match self.inode(here).map(|inode| &inode.body) {
                Ok(Body::Directory { parent, .. }) if *parent != here => here = *parent,
                _ => return false,
            }
        }
        true
    }

    /// Several changes of names that are one step, also for a power cut.
    fn group(&mut self, change: impl FnOnce(&mut Self) -> Result<(), Errno>) -> Result<(), Errno> {
        let before = self.power.as_ref().map(Power::changes);
        let changed = change(self);
        if let (Some(power), Some(before)) = (&mut self.power, before) {
            power.join_since(before);
        }
        changed
    }

    /// Removes a name that is no directory. Returns what it named.
    pub(crate) fn unlink(&mut self, place: &Place, now_ns: i64) -> Result<Serial, Errno> {
        let serial = self.at(place)?;
        if self.names(serial).is_ok() {
            return Err(Errno::ISDIR);
        }
        let Place::Name(directory, name) = place else { return Err(Errno::ISDIR) };
        self.name(*directory, name, None, now_ns)?;
        Ok(serial)
    }

    /// Removes an empty directory. Returns it.
    pub(crate) fn remove_directory(&mut self, place: &Place, now_ns: i64) -> Result<Serial, Errno> {
        let serial = self.at(place)?;
        if !self.names(serial)?.is_empty() {
            return Err(Errno::NOTEMPTY);
        }
        let Place::Name(directory, name) = place else { return Err(Errno::INVAL) };
        self.name(*directory, name, None, now_ns)?;
        self.change(serial)?.links = 0;
        Ok(serial)
    }

    /// Forgets an inode that has neither a name nor, as the caller knows, an opening; its number is free then.
    pub(crate) fn forget_if_unnamed(&mut self, serial: Serial) {
        let is_unnamed = self.inode(serial).is_ok_and(|inode| inode.links == 0);
        if is_unnamed && !self.power.as_ref().is_some_and(|power| power.needs(serial)) {
            self.inodes.remove(&serial);
        }
    }
}
