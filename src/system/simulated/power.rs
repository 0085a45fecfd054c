//! What a power cut leaves behind.
//!
//! Bytes are safe once their file was synced; names are safe once their directory was. What was not synced may be there
//! all the same, or in part: of the names, any first few of the changes in the order in which they were made, as a
//! journaling file system keeps them; of the bytes of each file, none, a part, zeros or all ([`Unsynced`]). Names and
//! bytes are lost independently, which is the case that leaves an empty file behind a rename.
//!
//! Limits: changes of names are not lost out of order, and all files lose in the same manner in one cut.

mod tests;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use super::disk::{Disk, ROOT};
use super::inode::{Body, Content, Inode, Serial, Unsynced};

/// Names as they are safe, and what was changed since.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Power {
    safe: BTreeMap<Serial, BTreeMap<OsString, Serial>>,
    unsynced: Vec<Vec<Change>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Change {
    directory: Serial,
    name: OsString,
    now: Option<Serial>,
}

/// One way for power to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// How many of the unsynced changes of names are kept.
    pub(crate) changes: usize,
    /// What is kept of unsynced bytes.
    pub(crate) bytes: Unsynced,
}

impl Power {
    /// Begins with everything safe.
    pub(crate) fn from(disk: &Disk) -> Self {
        let names = |(serial, _): (&Serial, _)| Some((*serial, disk.names(*serial).ok()?.clone()));
        Self { safe: disk.inodes().iter().filter_map(names).collect(), unsynced: Vec::new() }
    }

    /// Notes that a name changed.
    pub(crate) fn note(&mut self, directory: Serial, name: &OsStr, now: Option<Serial>) {
        self.unsynced.push(vec![Change { directory, name: name.to_owned(), now }]);
    }

    /// How many unsynced steps there are.
    pub(crate) fn changes(&self) -> usize {
        self.unsynced.len()
    }

    /// Makes one step of all steps after these.
    pub(crate) fn join_since(&mut self, first: usize) {
        let joined: Vec<Change> = self.unsynced.drain(first..).flatten().collect();
        self.unsynced.push(joined);
    }

    /// Makes the names of a directory safe.
    pub(crate) fn sync(&mut self, directory: Serial) {
        for step in std::mem::take(&mut self.unsynced) {
            if step.iter().all(|change| change.directory == directory) {
                for change in &step {
                    change.apply(&mut self.safe);
                }
            } else {
                self.unsynced.push(step);
            }
        }
    }

    /// Whether an inode can still be found after a cut.
    pub(crate) fn needs(&self, serial: Serial) -> bool {
        let is_safe = self.safe.values().flat_map(BTreeMap::values).any(|named| *named == serial);
        is_safe || self.unsynced.iter().flatten().any(|change| change.now == Some(serial))
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<Serial, BTreeMap<OsString, Serial>>) {
        let directory = names.entry(self.directory).or_default();
        match self.now {
            Some(serial) => directory.insert(self.name.clone(), serial),
            None => directory.remove(&self.name),
        };
    }
}

/// Every way for power to fail now.
pub(crate) fn cuts(disk: &Disk) -> Vec<Cut> {
    let changes = disk.power.as_ref().map_or(0, Power::changes);
    (0..=changes).flat_map(|changes| Unsynced::ALL.map(|bytes| Cut { changes, bytes })).collect()
}

/// The disk that is found when power is back.
pub(crate) fn after_cut(disk: &Disk, cut: Cut) -> Disk {
    let Some(power) = &disk.power else { return disk.clone() };
    let mut names = power.safe.clone();
    for change in power.unsynced.iter().take(cut.changes).flatten() {
        change.apply(&mut names);
    }
    let mut found = BTreeMap::new();
    keep(disk, cut, &names, ROOT, &mut found);
    let mut disk = Disk::found(found, disk.next_serial());
    disk.power = Some(Power::from(&disk));
    disk
}

/// Keeps an inode and what can be reached from it.
fn keep(
    disk: &Disk,
    cut: Cut,
    names: &BTreeMap<Serial, BTreeMap<OsString, Serial>>,
    serial: Serial,
    found: &mut BTreeMap<Serial, Arc<Inode>>,
) {
    let Ok(inode) = disk.inode(serial) else { return };
    if let Some(known) = found.get_mut(&serial) {
        Arc::make_mut(known).links += 1;
        return;
    }
    let mut inode = inode.clone();
    let mut below = BTreeMap::new();
    match &mut inode.body {
        Body::Directory { names: kept, .. } => {
            below = names.get(&serial).cloned().unwrap_or_default();
            kept.clone_from(&below);
        }
        Body::File(content) => {
            let bytes = content.after_power_cut(cut.bytes);
            *content = Content { dirty_from: bytes.len(), safe: bytes.clone(), bytes };
            inode.links = 1;
        }
        Body::Link(_) => inode.links = 1,
    }
    found.insert(serial, Arc::new(inode));
    for next in below.into_values() {
        keep(disk, cut, names, next, found);
    }
}
