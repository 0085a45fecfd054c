//! An owner directory of ours: complete before any link points at it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;

use super::entry::{self, Content};
use super::identity;
use super::path::{LinkPath, Step};
use super::verdict::{PID_LIMIT, Written};
use crate::base::error::{Context, Error, Result};
use crate::system::World;

/// What an owner directory tells of its owner.
#[derive(Debug, Clone)]
pub(super) struct Signature {
    pub(super) pid: u32,
    pub(super) home: Option<OsString>,
    pub(super) watcher_path: Option<PathBuf>,
}

impl Signature {
    /// That of a process of which nothing more is told.
    pub(super) fn of(pid: u32) -> Self {
        Self { pid, home: None, watcher_path: None }
    }
}

/// A directory `<lock>.owner.XXXXXX`. Dropping it removes it, unless it was left to somebody.
#[derive(Debug)]
pub(super) struct Owner<W: World> {
    at: LinkPath<W>,
    pub(super) name: OsString,
    node: W::Node,
    pid: u32,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Removed,
    Left,
}

/// How many names are tried before it is reported that each of them exists.
const NAMES: usize = 16;

impl<W: World> Owner<W> {
    /// Makes a complete one.
    ///
    /// # Errors
    /// Those of the system, and a pid that does not read back.
    pub(super) fn prepare(at: &LinkPath<W>, signature: &Signature) -> Result<Self> {
        let world = at.world();
        let name = make(at)?;
        let path = at.beside(&name);
        let node = world.open_directory_at(at.directory(), &name).doing("open", &path)?;
        let owner = Self { at: at.clone(), name, node, pid: signature.pid, fate: Fate::Removed };
        entry::write(world, &owner.node, entry::PID, format!("{}\n", signature.pid).as_bytes())
            .doing("write the pid in", &path)?;
        owner.tell(signature);
        if !owner.is_signed()? {
            return Err(Error::refused(
                path,
                "does not give back the pid that was written into it",
                "check this file system; nothing is locked",
            ));
        }
        at.reach(Step::Prepared)?;
        Ok(owner)
    }

    /// That of a dead owner, whose pid has been replaced by ours.
    pub(super) fn succeed(at: &LinkPath<W>, name: OsString, node: W::Node, pid: u32) -> Self {
        Self { at: at.clone(), name, node, pid, fate: Fate::Removed }
    }

    pub(super) fn node(&self) -> &W::Node {
        &self.node
    }

    /// Writes what readers may find beside the pid. Nobody depends on it, so a failure is no reason not to lock.
    fn tell(&self, signature: &Signature) {
        self.tell_one(entry::HOME, signature.home.as_deref());
        self.tell_one(entry::WATCHER_PATH, signature.watcher_path.as_ref().map(|path| path.as_os_str()));
        self.tell_one(entry::IDENTITY, self.listed().as_ref().map(OsStr::new));
    }

    /// Writes the identity of our process, in place of what another one may have left there.
    pub(super) fn tell_identity(&self) {
        let world = self.at.world();
        let _there_need_not_be_one = world.unlink(&self.node, OsStr::new(entry::IDENTITY));
        self.tell_one(entry::IDENTITY, self.listed().as_ref().map(OsStr::new));
    }

    /// Writes the identity of our process anew, if it has changed. Where it cannot be read now, the old one stays.
    pub(super) fn renew_identity(&self) {
        let path = self.at.beside(&self.name);
        let now = self.listed().map(|text| [text.as_bytes(), b"\n"].concat());
        let told = entry::read(self.at.world(), (&self.node, &path), entry::IDENTITY, identity::LIMIT + 1);
        let is_told = matches!((&now, told), (Some(now), Ok(Content::Bytes(told, _))) if *now == told);
        if now.is_some() && !is_told {
            self.tell_identity();
        }
    }

    /// What `ps` lists of our process.
    fn listed(&self) -> Option<String> {
        self.at.world().listing(self.pid).map(|listing| identity::text(&listing))
    }

    fn tell_one(&self, name: &str, text: Option<&OsStr>) {
        let Some(text) = text else { return };
        let world = self.at.world();
        let line = [text.as_encoded_bytes(), b"\n"].concat();
        if entry::write(world, &self.node, name, &line).is_err() {
            // Half of it would be read as the record of another process.
            let _nobody_depends_on_it = world.unlink(&self.node, OsStr::new(name));
        }
    }

    /// Whether the recorded pid is still ours.
    ///
    /// # Errors
    /// Those of reading it.
    pub(super) fn is_signed(&self) -> Result<bool> {
        let path = self.at.beside(&self.name);
        Ok(match entry::read(self.at.world(), (&self.node, &path), entry::PID, PID_LIMIT)? {
            Content::Bytes(bytes, _) => Written::parse(&bytes) == Written::Number(self.pid),
            Content::Missing | Content::TooLong(_) => false,
        })
    }

    /// Leaves it on disk when this value is dropped.
    pub(super) fn leave(&mut self) {
        self.fate = Fate::Left;
    }
}

impl<W: World> Drop for Owner<W> {
    fn drop(&mut self) {
        if self.fate == Fate::Removed {
            let _what_is_left_is_nobodys_lock = remove(&self.at, &self.name, &self.node);
        }
    }
}

/// Removes an owner directory, ours or a dead one's.
///
/// # Errors
/// Those of the system.
pub(super) fn remove<W: World>(at: &LinkPath<W>, name: &OsStr, node: &W::Node) -> io::Result<()> {
    entry::clear(at.world(), node, &at.owner_prefix())?;
    at.world().remove_directory(at.directory(), name)
}

/// Makes a directory whose name nobody can guess and nobody has used.
fn make<W: World>(at: &LinkPath<W>) -> Result<OsString> {
    for _ in 0..NAMES {
        let nonce = at.world().nonce().doing("draw a name for", at.path())?;
        let mut name = at.owner_prefix();
        name.push(suffix(nonce));
        match at.world().make_directory(at.directory(), &name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| name).doing("make an owner directory beside", at.path()),
        }
    }
    Err(Error::refused(at.path(), "has an owner directory for each name that was drawn", "remove the dead ones"))
}

/// Six letters and digits, as mktemp(1) makes them.
fn suffix(nonce: [u8; 16]) -> String {
    const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut number = u128::from_le_bytes(nonce);
    let mut draw = || {
        let letter = LETTERS[usize::try_from(number % 62).unwrap_or(0)];
        number /= 62;
        char::from(letter)
    };
    (0..6).map(|_| draw()).collect()
}

#[cfg(test)]
mod tests {
    use super::suffix;

    #[test]
    fn a_suffix_is_six_letters_or_digits() {
        for seed in 0..=255 {
            let text = suffix([seed; 16]);
            assert!(text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{text}");
        }
        assert_ne!(suffix([1; 16]), suffix([2; 16]));
    }
}
