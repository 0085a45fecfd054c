//! Making room for a daemon's socket.
//!
//! A daemon that was killed leaves the name of its socket behind, and most programs then refuse to start. The name is
//! removed only by the monitor that holds the life lock, only if it stands for a socket, and only after the kernel has said
//! that nobody is bound to its inode, which is then true for ever. It is taken aside first and compared then, so that a
//! socket which somebody binds in between is put back and not removed.
//!
//! If this is wrong, a live server loses its name, or somebody's file is removed because it refuses connections as well.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::base::error::{Context, Error, Result};
use crate::lock::location::{Location, found};
use crate::lock::socket::probe::{self, Absence, Readiness};
use crate::system::storage;
use crate::system::{Binding, Kind, Open, Real, World};

/// How long a server that may be there has to accept a connection.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// Removes the name of a socket that nobody serves any more. Nothing there is fine.
///
/// # Errors
/// Anything else is there, which stays as it is.
pub fn clear(world: &Arc<Real>, path: &Path) -> Result<()> {
    match probe::probe(world, path, None, ANSWERS_WITHIN)? {
        Readiness::Absent(Absence::NoName) => Ok(()),
        Readiness::Absent(Absence::Stale) => remove(world, path),
        other => Err(occupied(path, &other.to_string())),
    }
}

fn occupied(path: &Path, found: &str) -> Error {
    Error::refused(path, found, "nothing was started or removed; end what is there, or use another path")
}

fn remove(world: &Arc<Real>, path: &Path) -> Result<()> {
    let Location { directory, name, .. } = Location::open(world, path)?;
    let Some(pinned) = found(world.open(&directory, &name, Open::Pin)).doing("examine", path)? else { return Ok(()) };
    let facts = world.facts(&pinned).doing("examine", path)?;
    let binding = || probe::binding(world.as_ref(), &directory, &name, &pinned).doing("probe", path);
    if facts.kind != Kind::Socket || binding()? != Binding::Unbound {
        return Err(occupied(path, "is somebody else's since a moment ago"));
    }
    let aside = name_aside(world, path)?;
    match found(world.rename(&directory, &name, &aside)).doing("remove", path)? {
        Some(()) => {}
        None => return Ok(()),
    }
    let moved = world.facts_at(&directory, &aside).doing("examine", path)?;
    if moved.is_same_inode(&facts) {
        return storage::remove(world.as_ref(), &directory, &aside).doing("remove", path);
    }
    // Somebody bound a socket in between. It gets its name back unless that has been given away as well.
    world.link(&directory, &aside, &name).doing("put back", path)?;
    storage::remove(world.as_ref(), &directory, &aside).doing("tidy up beside", path)?;
    Err(occupied(path, "was bound by another program a moment ago"))
}

fn name_aside(world: &Arc<Real>, path: &Path) -> Result<OsString> {
    let nonce = u128::from_le_bytes(world.nonce().doing("make a name beside", path)?);
    Ok(format!(".fm-watch.{nonce:032x}.stale").into())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test prepares files and processes of its own")]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_a_socket_that_nobody_serves_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let world = Arc::new(Real);
        let path = directory.path().join("s");
        clear(&world, &path).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        let refused = clear(&world, &path).unwrap_err().to_string();
        assert!(refused.contains("is served by pid"), "{refused}");
        drop(listener);
        clear(&world, &path).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        fs::write(&path, "mine").unwrap();
        let refused = clear(&world, &path).unwrap_err().to_string();
        assert!(refused.contains("is a regular file"), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}
