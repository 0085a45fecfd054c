//! A journal to try things on.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::acknowledgement::Acknowledged;
use super::faulty_disk::Faulty;
use super::follower::Contents;
use super::record::{Delivery, Draft, Kind};
use super::summary::Summary;
use super::{Journal, JournalError, Limits};
use super::{acknowledge, read_all, summarize};
use crate::system::World;

/// A journal in a directory of its own.
pub(crate) struct Workbench {
    world: Arc<Faulty>,
    directory: tempfile::TempDir,
    node: File,
    limits: Limits,
}

impl Workbench {
    /// In memory where that can be had: nothing here depends on a real disk, and syncs are slow on one.
    pub(crate) fn new(limits: Limits) -> Self {
        Self::inside(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap(), limits)
    }

    fn inside(directory: tempfile::TempDir, limits: Limits) -> Self {
        let world = Arc::new(Faulty::default());
        let node = world.open_directory(directory.path()).unwrap();
        Self { world, directory, node, limits }
    }

    pub(crate) fn journal(&self) -> Journal<Faulty> {
        let node = self.world.open_directory(self.path()).unwrap();
        Journal::open(Arc::clone(&self.world), node, self.path().to_owned(), self.limits)
    }

    pub(crate) fn world(&self) -> &Faulty {
        &self.world
    }

    pub(crate) fn directory(&self) -> &File {
        &self.node
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Reads all, as long after the last append: a fresh torn tail would be waited for.
    pub(crate) fn contents(&self) -> Contents {
        for segment in self.segments() {
            if let Ok(file) = File::options().append(true).open(segment) {
                file.set_modified(std::time::UNIX_EPOCH).unwrap();
            }
        }
        read_all(&*self.world, &self.node, self.path()).unwrap()
    }

    pub(crate) fn summary(&self) -> Summary {
        summarize(&*self.world, &self.node, self.path()).unwrap()
    }

    pub(crate) fn acknowledge(&self, through: u64) -> Result<Acknowledged, JournalError> {
        acknowledge(&*self.world, &self.node, self.path(), through, 1)
    }

    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut segments: Vec<PathBuf> =
            entries.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect();
        segments.sort();
        segments
    }

    pub(crate) fn change(&self, name: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.path().join(name);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        File::options().write(true).truncate(true).open(&path).unwrap().write_all(&bytes).unwrap();
    }

    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.contents().wakes.iter().map(|wake| wake.seq).collect()
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.contents().wakes.into_iter().map(|wake| wake.key).collect()
    }
}

pub(crate) fn draft(key: &str) -> Draft {
    let text = format!("custom: {key}: text");
    Draft::new(Kind::Custom, key, text)
}

pub(crate) fn never(key: &str) -> Draft {
    Draft { delivery: Delivery::Never, ..draft(key) }
}
