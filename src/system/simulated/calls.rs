//! What each call of the world does to the machine. Here are files and names; locks and processes have modules of their
//! own.

mod lives;
mod locks;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use rustix::io::Errno;

pub(crate) use lives::PID_NAMESPACE;

use super::disk::ROOT;
use super::inode::{Body, Content, Serial};
use super::machine::Machine;
use super::openings::{Access, Description, Opening};
use super::processes::Number;
use super::way::{Place, walk};
use crate::system::{Exchange, Facts, Kind, Open};

/// The answer to a call.
pub(crate) type Answer<T> = Result<T, Errno>;

/// Files.
impl Machine {
    fn description(&self, opening: Opening) -> Answer<&Description> {
        self.openings.get(opening).ok_or(Errno::BADF)
    }

    fn place(&self, directory: Opening, name: &OsStr) -> Answer<Place> {
        walk(&self.disk, self.description(directory)?.inode, name)
    }

    fn open_as(&mut self, process: Number, inode: Serial, access: Access) -> Opening {
        let nth = self.processes[process].opened;
        self.processes[process].opened += 1;
        let opening = Opening { process, nth };
        self.openings.insert(opening, Description::new(inode, access));
        opening
    }

    fn open_directory_in(&mut self, process: Number, from: Serial, path: &OsStr) -> Answer<Opening> {
        let serial = self.disk.at(&walk(&self.disk, from, path)?)?;
        // For a link in the last component this is what the kernel says, because a directory was asked for.
        self.disk.names(serial)?;
        Ok(self.open_as(process, serial, Access::Read))
    }

    pub(crate) fn open_directory(&mut self, process: Number, path: &OsStr) -> Answer<Opening> {
        self.open_directory_in(process, ROOT, path)
    }

    pub(crate) fn open_directory_at(&mut self, process: Number, at: Opening, name: &OsStr) -> Answer<Opening> {
        self.open_directory_in(process, self.description(at)?.inode, name)
    }

    pub(crate) fn open(&mut self, process: Number, at: Opening, name: &OsStr, how: Open) -> Answer<Opening> {
        let place = self.place(at, name)?;
        let serial = match (self.disk.at(&place), how) {
            (Ok(_), Open::CreateNew) => return Err(Errno::EXIST),
            (Ok(serial), _) => serial,
            (Err(Errno::NOENT), Open::Lock | Open::Append | Open::CreateNew) => {
                self.disk.make(&place, Body::File(Content::default()), 0o600, self.stamp())?
            }
            (Err(error), _) => return Err(error),
        };
        let access = match how {
            Open::Read => Access::Read,
            Open::Lock => Access::Both,
            Open::Append => Access::Append,
            Open::CreateNew => Access::Write,
            Open::Pin => return Ok(self.open_as(process, serial, Access::None)),
        };
        match (self.disk.inode(serial)?.kind(), how) {
            (Kind::Link, _) => Err(Errno::LOOP),
            (Kind::Directory, Open::Lock | Open::Append) => Err(Errno::ISDIR),
            _ => Ok(self.open_as(process, serial, access)),
        }
    }

    /// Closes an opening, and gives up what lives only as long as it.
    pub(crate) fn close(&mut self, opening: Opening) {
        if let Some(description) = self.openings.remove(opening) {
            self.forget_if_unused(description.inode);
        }
    }

    /// Whether anybody else can notice that an opening is closed.
    pub(crate) fn is_close_visible(&self, opening: Opening) -> bool {
        self.description(opening).is_ok_and(|description| {
            let is_last_hold = self.disk.inode(description.inode).is_ok_and(|inode| inode.links == 0);
            description.has_locks() || is_last_hold
        })
    }

    fn forget_if_unused(&mut self, inode: Serial) {
        if !self.openings.is_open(inode) {
            self.disk.forget_if_unnamed(inode);
        }
    }

    pub(crate) fn make_directory(&mut self, at: Opening, name: &OsStr) -> Answer<()> {
        let place = self.place(at, name)?;
        let Place::Name(parent, _) = place else { return Err(Errno::EXIST) };
        self.disk.make(&place, Body::Directory { names: BTreeMap::new(), parent }, 0o700, self.stamp()).map(drop)
    }

    pub(crate) fn facts(&self, node: Opening) -> Answer<Facts> {
        Ok(self.disk.inode(self.description(node)?.inode)?.facts())
    }

    pub(crate) fn facts_at(&self, at: Opening, name: &OsStr) -> Answer<Facts> {
        Ok(self.disk.inode(self.disk.at(&self.place(at, name)?)?)?.facts())
    }

    pub(crate) fn facts_of_path(&self, path: &OsStr) -> Answer<Facts> {
        Ok(self.disk.inode(self.disk.at(&walk(&self.disk, ROOT, path)?)?)?.facts())
    }

    pub(crate) fn names_in(&self, directory: Opening) -> Answer<Vec<OsString>> {
        let Description { inode: serial, access, .. } = *self.description(directory)?;
        let names = self.disk.names(serial)?;
        if access == Access::None {
            return Err(Errno::BADF);
        }
        Ok(names.keys().cloned().collect())
    }

    pub(crate) fn read_at(&self, node: Opening, offset: u64, at_most: usize) -> Answer<Vec<u8>> {
        let description = self.description(node)?;
        if !description.may_read() {
            return Err(Errno::BADF);
        }
        match &self.disk.inode(description.inode)?.body {
            Body::File(content) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.bytes.len());
                let end = start.saturating_add(at_most).min(content.bytes.len());
                Ok(content.bytes[start..end].to_vec())
            }
            Body::Directory { .. } => Err(Errno::ISDIR),
            Body::Link(_) => Err(Errno::SPIPE),
        }
    }

    fn write(&mut self, node: Opening, offset: Option<usize>, bytes: &[u8]) -> Answer<usize> {
        let now = self.stamp();
        let description = self.openings.get_mut(node).ok_or(Errno::BADF)?;
        if !description.may_write() {
            return Err(Errno::BADF);
        }
        let content = self.disk.content(description.inode)?;
        let is_at_end = description.access == Access::Append;
        let start = if is_at_end { content.bytes.len() } else { offset.unwrap_or(description.position) };
        content.write_at(start, bytes);
        if offset.is_none() {
            description.position = start + bytes.len();
        }
        let inode = self.disk.change(description.inode)?;
        (inode.mtime_ns, inode.ctime_ns) = (now, now);
        Ok(bytes.len())
    }

    pub(crate) fn append(&mut self, node: Opening, bytes: &[u8]) -> Answer<usize> {
        self.write(node, None, bytes)
    }

    pub(crate) fn write_at_start(&mut self, node: Opening, bytes: &[u8]) -> Answer<()> {
        self.write(node, Some(0), bytes).map(drop)
    }

    pub(crate) fn set_length(&mut self, node: Opening, length: usize) -> Answer<()> {
        let description = self.description(node)?;
        if !description.may_write() {
            return Err(Errno::INVAL);
        }
        let (serial, now) = (description.inode, self.stamp());
        self.disk.content(serial)?.set_length(length);
        let inode = self.disk.change(serial)?;
        (inode.mtime_ns, inode.ctime_ns) = (now, now);
        Ok(())
    }

    pub(crate) fn sync(&mut self, node: Opening) -> Answer<()> {
        let serial = self.description(node)?.inode;
        if self.disk.names(serial).is_ok() {
            if let Some(power) = &mut self.disk.power {
                power.sync(serial);
            }
            return Ok(());
        }
        let content = self.disk.content(serial)?;
        if self.bad_syncs > 0 {
            self.bad_syncs -= 1;
            content.fail_to_sync();
            return Err(Errno::IO);
        }
        content.sync();
        Ok(())
    }

    pub(crate) fn set_mode(&mut self, node: Opening, mode: u32) -> Answer<()> {
        let (serial, now) = (self.description(node)?.inode, self.stamp());
        if self.description(node)?.access == Access::None {
            return Err(Errno::BADF);
        }
        let inode = self.disk.change(serial)?;
        (inode.mode, inode.ctime_ns) = (mode & 0o7777, now);
        Ok(())
    }
}

/// Names.
impl Machine {
    pub(crate) fn rename(&mut self, at: Opening, from: &OsStr, to: &OsStr) -> Answer<()> {
        let (from, to) = (self.place(at, from)?, self.place(at, to)?);
        if let Some(replaced) = self.disk.rename(&from, &to, self.stamp())? {
            self.forget_if_unused(replaced);
        }
        Ok(())
    }

    pub(crate) fn link(&mut self, at: Opening, from: &OsStr, to: &OsStr) -> Answer<()> {
        let from = self.place(at, from)?;
        self.disk.at(&from)?;
        let to = self.place(at, to)?;
        self.disk.link(&from, &to, self.stamp())
    }

    pub(crate) fn exchange(&mut self, at: Opening, one: &OsStr, other: &OsStr) -> Answer<Exchange> {
        let (one, other) = (self.place(at, one)?, self.place(at, other)?);
        match self.disk.exchange(&one, &other, self.stamp()) {
            // The kernel has one word for "this cannot be exchanged" and for "these two cannot be".
            Err(Errno::INVAL) => Ok(Exchange::Unsupported),
            done => done.map(|()| Exchange::Done),
        }
    }

    pub(crate) fn symlink(&mut self, at: Opening, target: &OsStr, name: &OsStr) -> Answer<()> {
        let place = self.place(at, name)?;
        self.disk.make(&place, Body::Link(target.to_owned()), 0o777, self.stamp()).map(drop)
    }

    pub(crate) fn read_link(&self, at: Opening, name: &OsStr) -> Answer<OsString> {
        match &self.disk.inode(self.disk.at(&self.place(at, name)?)?)?.body {
            Body::Link(target) => Ok(target.clone()),
            _ => Err(Errno::INVAL),
        }
    }

    pub(crate) fn unlink(&mut self, at: Opening, name: &OsStr) -> Answer<()> {
        let removed = self.disk.unlink(&self.place(at, name)?, self.stamp())?;
        self.forget_if_unused(removed);
        Ok(())
    }

    pub(crate) fn remove_directory(&mut self, at: Opening, name: &OsStr) -> Answer<()> {
        let removed = self.disk.remove_directory(&self.place(at, name)?, self.stamp())?;
        self.forget_if_unused(removed);
        Ok(())
    }
}
