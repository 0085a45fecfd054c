//! The service of a home as it is on disk.
//!
//! A file counts as this home's only if its mark says so. Any other file of that name is somebody's own, and is neither
//! replaced nor removed.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::PathBuf;

use super::manager::{Manager, Standing, Systemctl};
use super::plan::Plan;
use crate::commands::context::Session;
use crate::error::{Context, Error, Result};
use crate::liveness::identity::Pid;
use crate::storage::{self, Durability};
use crate::world::World;

/// The longest file that is read; ours are far shorter.
const LONGEST: usize = 64 * 1024;

/// Where a home's service is, and what it should be.
#[derive(Debug)]
pub struct Site {
    /// Whose file it is.
    pub manager: Manager,
    /// What it should say.
    pub plan: Plan,
    /// Its directory, without a link in it as far as it exists.
    directory: PathBuf,
}

/// What is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// This home's service, exactly as it should be.
    Current,
    /// This home's service, with another text.
    Other,
    /// A file that is not ours, and why.
    Foreign(String),
}

impl Site {
    /// The place of this session's home.
    ///
    /// # Errors
    /// Paths that no manager takes, and a user without a home directory.
    pub fn of(session: &Session, manager: Manager) -> Result<Self> {
        let directory = real(manager.directory(&session.environment)?);
        Ok(Self { manager, plan: Plan::of(session)?, directory })
    }

    /// The file's path.
    pub fn path(&self) -> PathBuf {
        self.directory.join(self.unit())
    }

    /// The name that the manager knows it by.
    pub fn unit(&self) -> String {
        self.manager.file_name(&self.plan)
    }

    /// What the file should say.
    pub fn text(&self) -> String {
        self.manager.text(&self.plan)
    }

    /// Looks what is there.
    ///
    /// # Errors
    /// Those of the system.
    pub fn look<W: World>(&self, world: &W) -> Result<Found> {
        let directory = match world.open_directory(&self.directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
            opened => opened.doing("open the directory", &self.directory)?,
        };
        match storage::read(world, &directory, OsStr::new(&self.unit()), LONGEST) {
            Ok(None) => Ok(Found::Nothing),
            Ok(Some(bytes)) => Ok(judge(&bytes, &self.text(), &self.plan.mark())),
            // A link that is not followed, a directory, or far too long.
            Err(error) => Ok(Found::Foreign(format!("cannot be read as a service: {error}"))),
        }
    }

    /// Writes the file, unless one is there that is not ours.
    ///
    /// # Errors
    /// Such a file, and those of the system; what was there is still there then.
    pub fn write<W: World>(&self, world: &W) -> Result<()> {
        self.refuse_foreign(world)?;
        storage::make_directories(&self.directory)?;
        let directory = world.open_directory(&self.directory).doing("open the directory", &self.directory)?;
        storage::replace(world, &directory, &self.unit(), self.text().as_bytes(), Durability::Power)
            .doing("write", self.path())
    }

    /// Removes the file, unless it is not ours.
    ///
    /// # Errors
    /// As [`Site::write`].
    pub fn remove<W: World>(&self, world: &W) -> Result<()> {
        self.refuse_foreign(world)?;
        let directory = world.open_directory(&self.directory).doing("open the directory", &self.directory)?;
        storage::remove(world, &directory, OsStr::new(&self.unit())).doing("remove", self.path())
    }

    fn refuse_foreign<W: World>(&self, world: &W) -> Result<()> {
        match self.look(world)? {
            Found::Foreign(why) if world.is_protected("service.mark") => {
                Err(Error::refused(self.path(), why, "nothing was changed; move that file away and try again"))
            }
            Found::Nothing | Found::Current | Found::Other | Found::Foreign(_) => Ok(()),
        }
    }
}

fn judge(bytes: &[u8], wanted: &str, mark: &str) -> Found {
    let text = String::from_utf8_lossy(bytes);
    // A mark is followed by a full stop, so that the one of a longer path is another one.
    if text == wanted {
        Found::Current
    } else if text.contains(&format!("{mark}.\n")) || text.contains(&format!("{mark}. ")) {
        Found::Other
    } else {
        Found::Foreign("is not the service of this home".to_owned())
    }
}

/// A path without links, as far as it exists. What does not exist yet cannot be a link.
pub(super) fn real(path: PathBuf) -> PathBuf {
    if let Ok(real) = std::fs::canonicalize(&path) {
        return real;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => real(parent.to_owned()).join(name),
        _ => path,
    }
}

/// A unit of systemd that is this home's, and the way to its manager.
#[derive(Debug)]
pub struct Keeper {
    /// The unit.
    pub unit: String,
    /// The way to its manager.
    pub systemctl: Systemctl,
}

/// The unit that has this watcher as its main process.
pub fn keeper_of(session: &Session, watcher: Pid) -> Option<Keeper> {
    asked(session, |standing| standing.pid == Some(watcher))
}

/// The unit that is meant to run, and whose manager therefore starts the next watcher. One that a person stopped, or
/// that has given up, is not.
pub fn next_keeper(session: &Session) -> Option<Keeper> {
    asked(session, |standing| matches!(standing.active.as_str(), "active" | "activating"))
}

/// This home's unit, if its manager's answer is as wanted. Without a service on disk nobody is asked.
fn asked(session: &Session, is_wanted: impl FnOnce(&Standing) -> bool) -> Option<Keeper> {
    let site = Site::of(session, Manager::Systemd).ok()?;
    if !matches!(site.look(session.world.as_ref()), Ok(Found::Current | Found::Other)) {
        return None;
    }
    let (unit, systemctl) = (site.unit(), Systemctl::find(&session.environment)?);
    match systemctl.standing(&unit) {
        Ok(standing) => is_wanted(&standing).then_some(Keeper { unit, systemctl }),
        Err(why) => {
            session.console.note(format!("nobody can tell how {unit} stands: {why}"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_with_this_homes_mark_is_ours() {
        let judge = |text: &str| super::judge(text.as_bytes(), "# keeps /a/state.\nnew", "keeps /a/state");
        assert_eq!(judge("# keeps /a/state.\nnew"), Found::Current);
        assert_eq!(judge("# keeps /a/state.\nold"), Found::Other);
        assert!(matches!(judge("# keeps /a/state2.\nold"), Found::Foreign(_)));
        assert!(matches!(judge(""), Found::Foreign(_)));
    }

    #[test]
    fn a_path_that_does_not_exist_yet_loses_the_links_that_do() {
        let directory = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(directory.path()).unwrap();
        std::os::unix::fs::symlink(&root, root.join("link")).unwrap();
        assert_eq!(real(root.join("link/a/b")), root.join("a/b"));
    }
}
