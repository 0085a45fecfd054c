//! The way from a path to a name in a directory, over links, as the kernel walks it.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use rustix::io::Errno;

use super::disk::{Disk, ROOT};
use super::inode::{Body, Serial};

/// As many links the kernel follows on one way.
const MOST_LINKS: usize = 40;
/// The longest name.
const LONGEST: usize = 255;

/// Where a path ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// At a name, which may be free.
    Name(Serial, OsString),
    /// At a directory itself: the root, or a path that ends in a dot.
    Itself(Serial),
}

/// Walks a path. A link in its last component is not followed.
pub(crate) fn walk(disk: &Disk, from: Serial, path: &OsStr) -> Result<Place, Errno> {
    if path.is_empty() {
        return Err(Errno::NOENT);
    }
    let mut here = if path.as_bytes().starts_with(b"/") { ROOT } else { from };
    let mut ahead = Cow::Borrowed(path.as_bytes());
    let mut links = 0;
    loop {
        let names = disk.names(here)?;
        let Some((name, rest)) = first(&ahead) else { return Ok(Place::Itself(here)) };
        if name.len() > LONGEST {
            return Err(Errno::NAMETOOLONG);
        }
        match name {
            b"." => {}
            b".." => here = parent(disk, here)?,
            _ if rest.iter().all(|byte| *byte == b'/') => {
                return Ok(Place::Name(here, OsStr::from_bytes(name).to_owned()));
            }
            _ => {
                let next = names.get(OsStr::from_bytes(name)).copied().ok_or(Errno::NOENT)?;
                match &disk.inode(next)?.body {
                    Body::Link(_) if links == MOST_LINKS => return Err(Errno::LOOP),
                    Body::Link(target) => {
                        links += 1;
                        if target.as_bytes().starts_with(b"/") {
                            here = ROOT;
                        }
                        ahead = Cow::Owned([target.as_bytes(), b"/", rest].concat());
                        continue;
                    }
                    Body::Directory { .. } => here = next,
                    Body::File(_) => return Err(Errno::NOTDIR),
                }
            }
        }
        ahead = match ahead {
            Cow::Borrowed(_) => Cow::Borrowed(&path.as_bytes()[path.len() - rest.len()..]),
            Cow::Owned(ref bytes) => Cow::Owned(bytes[bytes.len() - rest.len()..].to_vec()),
        };
    }
}

/// The first component, and what follows it.
fn first(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = path.iter().position(|byte| *byte != b'/')?;
    let path = &path[start..];
    let end = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
    Some(path.split_at(end))
}

fn parent(disk: &Disk, directory: Serial) -> Result<Serial, Errno> {
    match &disk.inode(directory)?.body {
        Body::Directory { parent, .. } => Ok(*parent),
        _ => Err(Errno::NOTDIR),
    }
}
