//! The service of a home as it is on disk.
//!
//! A file counts as this home's only if its mark says so and its seal is whole. Any other file of that name is somebody's
//! own, or holds somebody's changes, and is neither replaced nor removed.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::PathBuf;

use thiserror::Error as ThisError;

use super::manager::{Manager, ManagerError, Systemctl, UnitState};
use super::spec::{ServiceSpec, real};
use super::{identity, launchd, systemd};
use crate::base::error::{Context, Error, Result};
use crate::base::failpoint::{Failpoint, is_protected};
use crate::ownership::context::HomeContext;
use crate::system::World;
use crate::system::identity::Pid;
use crate::system::storage::{self, Durability};

/// The longest file that is read; ours are far shorter.
const LONGEST: usize = 64 * 1024;

/// Where a home's service is, and what it should be.
#[derive(Debug)]
pub struct Site {
    /// Whose file it is.
    pub manager: Manager,
    /// What it should say.
    pub plan: ServiceSpec,
    /// Its directory, without a link in it as far as it exists.
    directory: PathBuf,
}

/// What is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// This home's service, as it should be. It may look for programs in other places than this shell does.
    Current,
    /// This home's service, with another text of ours.
    Other,
    /// A file that is not ours or not ours alone, and why.
    Foreign(String),
}

impl Site {
    /// The place of this home.
    ///
    /// # Errors
    /// Paths that no manager takes, and a user without a home directory.
    pub fn of(context: &HomeContext, manager: Manager) -> Result<Self> {
        let directory = real(manager.directory(&context.environment)?);
        let plan = ServiceSpec::of(context)?;
        match plan.command.first() {
            Some(program) if manager == Manager::Systemd && systemd::is_impossible(program) => Err(Error::refused(
                program,
                "systemd starts no program whose path has quotes or backslashes in it",
                "nothing was written; give this program another path, or run the watcher with `arm`",
            )),
            _ => Ok(Self { manager, plan, directory }),
        }
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
            Found::Foreign(why) if world.is_protected(Failpoint::ServiceMark) => {
                Err(Error::refused(self.path(), why, "nothing was changed; move that file away and try again"))
            }
            Found::Nothing | Found::Current | Found::Other | Found::Foreign(_) => Ok(()),
        }
    }
}

fn judge(bytes: &[u8], wanted: &str, mark: &str) -> Found {
    let text = String::from_utf8_lossy(bytes);
    // A mark is followed by a full stop, so that the one of a longer path is another one.
    let is_marked = text.contains(&format!("{mark}.\n")) || text.contains(&format!("{mark}. "));
    if !is_marked {
        Found::Foreign("is not the service of this home".to_owned())
    } else if !identity::is_whole(&text) && is_protected(Failpoint::ServiceSeal) {
        Found::Foreign("is the service of this home, but was changed by hand since it was written".to_owned())
    } else if essence(&text) == essence(wanted) {
        Found::Current
    } else {
        Found::Other
    }
}

/// A text without what is another one in each shell and for each text.
fn essence(text: &str) -> Vec<&str> {
    let is_essential =
        |line: &&str| !systemd::is_search(line) && !launchd::is_search(line) && !line.contains(identity::SEAL);
    text.lines().filter(is_essential).collect()
}

/// A unit of systemd that is this home's, and the way to its manager.
#[derive(Debug)]
pub struct Keeper {
    /// The unit.
    pub unit: String,
    /// The way to its manager.
    pub systemctl: Systemctl,
    /// How it stands.
    pub standing: UnitState,
}

impl Keeper {
    /// The verb by which its manager starts a watcher at once. One that rests between two starts answers a plain start
    /// only when it has rested.
    pub fn start(&self) -> &'static str {
        if self.standing.is_resting { "restart" } else { "start" }
    }

    /// The command with which a person has the manager keep the watcher again.
    pub fn way_back(&self) -> String {
        format!("systemctl --user start {}", self.unit)
    }
}

/// Nobody can tell whether this home's unit keeps the watcher.
#[derive(Debug, ThisError)]
#[error(
    "{why}, so nobody can tell whether {unit} keeps the watcher; to have it kept afterwards: systemctl --user start {unit}"
)]
pub struct Untold {
    why: ManagerError,
    unit: String,
}

/// The unit that has this watcher as its main process.
///
/// # Errors
/// Its manager cannot be asked.
pub fn keeper_of(context: &HomeContext, watcher: Pid) -> Result<Option<Keeper>, Untold> {
    asked(context, |standing| standing.pid == Some(watcher))
}

/// The unit that is meant to run, and whose manager therefore starts the next watcher: also after a person has stopped
/// the watcher, because whoever arms a home with a service wants that one back. One that a person has disabled is not.
///
/// # Errors
/// Its manager cannot be asked.
pub fn next_keeper(context: &HomeContext) -> Result<Option<Keeper>, Untold> {
    asked(context, |standing| standing.is_enabled || matches!(standing.active.as_str(), "active" | "activating"))
}

/// This home's unit, if its manager's answer is as wanted. Without a service on disk nobody is asked.
fn asked(context: &HomeContext, is_wanted: impl FnOnce(&UnitState) -> bool) -> Result<Option<Keeper>, Untold> {
    let Ok(site) = Site::of(context, Manager::Systemd) else { return Ok(None) };
    if !matches!(site.look(context.world.as_ref()), Ok(Found::Current | Found::Other)) {
        return Ok(None);
    }
    let unit = site.unit();
    let asked = Systemctl::find(&context.environment).ok_or(ManagerError::Missing);
    match asked.and_then(|systemctl| Ok((systemctl.state(&unit)?, systemctl))) {
        Ok((standing, systemctl)) => Ok(is_wanted(&standing).then_some(Keeper { unit, systemctl, standing })),
        Err(why) => Err(Untold { why, unit }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_with_this_homes_mark_is_ours() {
        let text = |state: &str, rest: &str| {
            identity::sealed(&format!("# keeps {state}.\n{rest}\n# {}\n", identity::blank_seal()))
        };
        let judge = |found: &str| super::judge(found.as_bytes(), &text("/a/state", "new"), "keeps /a/state");
        assert_eq!(judge(&text("/a/state", "new")), Found::Current);
        assert_eq!(judge(&text("/a/state", "Environment=\"PATH=/b\"\nnew")), Found::Current);
        assert_eq!(judge(&text("/a/state", "old")), Found::Other);
        assert!(matches!(judge(&text("/a/state2", "old")), Found::Foreign(_)));
        assert!(matches!(judge(&text("/a/state", "old").replace("old", "odd")), Found::Foreign(_)));
        assert!(matches!(judge(""), Found::Foreign(_)));
    }
}
