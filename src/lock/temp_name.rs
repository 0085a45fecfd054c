//! A private name beside a lock's own: where a claim is made complete before anybody can see it.
//!
//! # Theory
//!
//! A claim that is made under the lock's name is seen half made, and a process that dies in between leaves it so for
//! ever. So a claim is completed under a name that nobody else uses, and then shown in one step. Where nothing is, the
//! step is a *link*, which never replaces anything. Where something stale is, the step is an *exchange*: what was there
//! comes out under the private name, and can be compared with what was judged. Removing it by its name instead would
//! remove whatever has the name by then.
//!
//! What came out and is not what was judged belongs to somebody who lives. It is put back, for as long as it takes until
//! our own claim comes out again; if that fails, it stays under the private name, which the error tells.
//!
//! Limits: while it is being put back, the lock's name shows our claim. A process that dies just then leaves the other
//! one's claim under the private name; each kind says how that is mended.

use std::ffi::{OsStr, OsString};
use std::io;

use super::location::{Location, Publication};
use crate::base::error::{Context, Error, Result};
use crate::base::escape::hexadecimal;
use crate::base::failpoint::Failpoint;
use crate::system::storage;
use crate::system::{Exchange, Facts, World};

/// How often something that is replaced while it is being put back is put back.
const PUT_BACK_RETRIES: usize = 100;
/// How all private names begin, whatever lock they stand beside.
const PREFIX: &str = ".fm-watch.";

/// A private name in the directory of a lock. What is left under it when the value is dropped is removed, unless it may
/// be somebody else's.
#[derive(Debug)]
pub(super) struct PrivateName<W: World> {
    location: Location<W>,
    name: OsString,
    content: Content,
}

/// What has the private name, as far as that can matter to anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// Our own claim, a further name of it, what was judged to be stale, or nothing.
    Disposable,
    /// It may be the claim of somebody who lives.
    Unknown,
}

/// Whether a claim has got the name of what was judged to be stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Swap {
    /// It has.
    Done,
    /// Something else was there by then, and is there again.
    Replaced,
    /// This file system cannot exchange two names; nothing has changed.
    Unsupported,
}

impl<W: World> PrivateName<W> {
    /// A name that nobody else uses: made from sixteen bytes that nobody can guess and the name of the kind.
    pub(super) fn new(location: &Location<W>, nonce: [u8; 16], kind: &str) -> Self {
        Self { location: location.clone(), name: name_of(nonce, kind), content: Content::Disposable }
    }

    /// The name.
    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }

    /// Gives the complete claim the lock's name, if that is free.
    pub(super) fn publish(&self) -> Result<Publication> {
        self.location.publish(&self.name).doing("make", &self.location.path)
    }

    /// Gives the complete claim the lock's name in place of what was judged to be stale, which is removed. `own` is the
    /// claim; `is_judged` says whether what has the private name is what was judged.
    pub(super) fn exchange(&mut self, own: &Facts, is_judged: impl FnOnce(&OsStr) -> io::Result<bool>) -> Result<Swap> {
        let Location { world, directory, name, path } = &self.location;
        self.content = Content::Unknown;
        let exchanged = match world.exchange(directory, &self.name, name) {
            Ok(exchanged) => exchanged,
            // A call that failed has changed nothing.
            Err(error) => {
                self.content = Content::Disposable;
                return if error.kind() == io::ErrorKind::NotFound {
                    Ok(Swap::Replaced)
                } else {
                    Err(Error::system("replace", path, error))
                };
            }
        };
        if exchanged == Exchange::Unsupported {
            self.content = Content::Disposable;
            return Ok(Swap::Unsupported);
        }
        let judged = world.reach(Failpoint::TakeoverExchanged).and_then(|()| is_judged(&self.name));
        if matches!(judged, Ok(true)) {
            self.content = Content::Disposable;
            return Ok(Swap::Done);
        }
        self.put_back(own).map_err(|why| self.stranded(&why))?;
        self.content = Content::Disposable;
        judged.map(|_| Swap::Replaced).doing("examine", &self.location.path)
    }

    /// Exchanges until our own claim has come out.
    fn put_back(&self, own: &Facts) -> io::Result<()> {
        let Location { world, directory, name, .. } = &self.location;
        for _ in 0..PUT_BACK_RETRIES {
            match world.exchange(directory, &self.name, name) {
                Ok(Exchange::Done) if world.facts_at(directory, &self.name)?.is_same_inode(own) => return Ok(()),
                Ok(Exchange::Done) => {}
                Ok(Exchange::Unsupported) => return Err(io::ErrorKind::Unsupported.into()),
                // Our claim was removed, by somebody who took it for another.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if self.location.publish(&self.name)? == Publication::Published {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("it was replaced again and again"))
    }

    fn stranded(&self, why: &io::Error) -> Error {
        let name = self.name.to_string_lossy();
        Error::refused(
            &self.location.path,
            format!("was replaced while it was being taken over, and what was there could not be put back: {why}"),
            format!("see whose the file {name} in the same directory is, and rename it back if its owner lives"),
        )
    }
}

/// The lock's name, as far as it is that of a file of ours.
#[derive(Debug)]
pub(super) struct OwnName<W: World> {
    location: Location<W>,
    /// Who made the file. A forked copy of that process has a copy of the guard, and lets go of nothing.
    maker: u32,
    state: Name,
}

/// Which name a file of ours has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    /// The lock's own.
    Published,
    /// Another one, or none any more.
    Private,
}

impl<W: World> OwnName<W> {
    /// That of a new file, which has not got it yet.
    pub(super) fn not_yet(location: &Location<W>) -> Self {
        Self { location: location.clone(), maker: location.world.own_pid(), state: Name::Private }
    }

    /// Notes that the file has it now.
    pub(super) fn note_published(&mut self) {
        self.state = Name::Published;
    }

    pub(super) fn location(&self) -> &Location<W> {
        &self.location
    }

    /// Removes the name, once, if what is there is still ours. The two names are those of the kind's step and protection.
    pub(super) fn withdraw(
        &mut self,
        releasing: Failpoint,
        by_maker: Failpoint,
        is_ours: impl FnOnce(&Location<W>, &Facts) -> Result<bool>,
    ) -> Result<()> {
        let Location { world, directory, name, path } = &self.location;
        let was_published = std::mem::replace(&mut self.state, Name::Private) == Name::Published;
        if !was_published || (world.own_pid() != self.maker && world.is_protected(by_maker)) {
            return Ok(());
        }
        world.reach(releasing).doing("remove", path)?;
        match self.location.facts().doing("examine", path)? {
            Some(there) if is_ours(&self.location, &there)? => {
                storage::remove(&**world, directory, name).doing("remove", path)
            }
            _ => Ok(()),
        }
    }
}

impl<W: World> Drop for PrivateName<W> {
    fn drop(&mut self) {
        if self.content == Content::Disposable {
            // Best effort: a leftover is found and removed at the next takeover.
            drop(self.location.world.unlink(&self.location.directory, &self.name));
        }
    }
}

/// The private name of a claim of this kind.
pub(super) fn name_of(nonce: [u8; 16], kind: &str) -> OsString {
    format!("{PREFIX}{}.{kind}", hexadecimal(&nonce)).into()
}

/// The private names of this kind among the names in a directory.
pub(super) fn of_kind<'a>(names: &'a [OsString], kind: &'a str) -> impl Iterator<Item = &'a OsString> {
    names.iter().filter(move |name| {
        let inner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(kind)?.strip_suffix('.'));
        inner.is_some_and(|nonce| nonce.len() == 32 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_names_are_told_by_their_kind() {
        let ours = name_of([0xA5; 16], "pidfile");
        let names = [
            ours.clone(),
            name_of([1; 16], "socket"),
            "fm-watch.pidfile".into(),
            ".fm-watch.zz.pidfile".into(),
            format!(".fm-watch.{}.pidfile", "g".repeat(32)).into(),
        ];
        assert_eq!(of_kind(&names, "pidfile").collect::<Vec<_>>(), [&ours]);
    }
}
