//! Where the code of a firstmate home is, when the variables do not tell.
//!
//! # Theory
//!
//! The home of a fleet need not have the code below it: a second fleet shares the scripts of the first, and only they know
//! their own place. A person or a hook who calls this program with that home says nothing of the code, and a watcher
//! started then would not speak to the scripts and stand beside one of theirs. So it is looked up, in this order:
//!
//! 1. in the scripts' own lock, if it is there: whoever took it has told its program and what it calls the home;
//! 2. in what a watcher of ours wrote down when it watched for the scripts ([`note`]), as long as the script is there.
//!
//! If this is wrong, two watchers serve one home, or one that has nothing to do with scripts keeps files for them.
//!
//! # Limits
//!
//! - A home without its code that no watcher has ever watched is taken for one of ours alone.
//! - Names that are not UTF-8 are not remembered.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::home::names::WATCH_LOCK;
use super::home::{Fleet, Script, WATCHER_NAME};
use super::shell_watcher::owner_directory;
use crate::home::paths::{Home, names};
use crate::lock::owner_link::entry::{HOME, WATCHER_PATH};
use crate::system::World;
use crate::system::storage::{self, Durability};

/// No path is longer.
const LIMIT: usize = 16 * 1024;

/// The layout of the note.
const SCHEMA: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Note {
    schema: u32,
    root: PathBuf,
    home: String,
    watcher: PathBuf,
}

/// Where the scripts are, and what they call the home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) root: PathBuf,
    pub(super) watcher: PathBuf,
    pub(super) home: OsString,
}

/// What is known of the scripts.
pub(super) fn recall<W: World>(world: &W, home: &Home) -> Option<Place> {
    // One look at each name first: in most homes there is neither, and every command passes here.
    let is_there = |path: PathBuf| world.facts_of_path(&path).is_ok();
    let by_lock = is_there(home.state().join(WATCH_LOCK)).then(|| told_by_lock(world, home)).flatten();
    by_lock.or_else(|| is_there(home.ours(names::FLEET)).then(|| noted(world, home)).flatten())
}

fn told_by_lock<W: World>(world: &W, home: &Home) -> Option<Place> {
    let owner = owner_directory(world, &world.open_directory(home.state()).ok()?).ok()?;
    let text = |name| {
        let bytes = storage::read(world, &owner, OsStr::new(name), LIMIT).ok()??;
        Some(OsString::from(String::from_utf8(bytes).ok()?.trim_end_matches('\n')))
    };
    let watcher = PathBuf::from(text(WATCHER_PATH)?);
    Some(Place { root: root_of(&watcher)?, watcher, home: text(HOME)? })
}

fn noted<W: World>(world: &W, home: &Home) -> Option<Place> {
    let watch = world.open_directory(&home.watch()).ok()?;
    let bytes = storage::read(world, &watch, OsStr::new(names::FLEET), LIMIT).ok()??;
    let note: Note = serde_json::from_slice(&bytes).ok().filter(|note: &Note| note.schema == SCHEMA)?;
    let is_there = world.facts_of_path(&note.watcher).is_ok();
    let place = Place { root: note.root, watcher: note.watcher, home: note.home.into() };
    (is_there && place.root.is_absolute() && place.watcher.is_absolute()).then_some(place)
}

/// The code's root by the path of its watcher.
fn root_of(watcher: &Path) -> Option<PathBuf> {
    let has_its_name = watcher.is_absolute() && watcher.file_name() == Some(OsStr::new(WATCHER_NAME));
    let directory = watcher.parent().filter(|_| has_its_name)?;
    Some(directory.parent().unwrap_or(directory).to_owned())
}

/// Writes down where the code is, for callers who do not know. What is written already is left alone.
///
/// # Errors
/// Those of the file system.
pub fn note<W: World>(world: &W, watch: &W::Node, home: &Home, fleet: &Fleet) -> io::Result<()> {
    let (root, watcher) = (fleet.root().to_owned(), fleet.script(Script::Watch));
    let place = Place { root, watcher, home: fleet.home().to_owned() };
    let is_usual = place.watcher == home.root().join(Script::Watch.path());
    let Some(text) = fleet.home().to_str().filter(|_| !is_usual) else { return Ok(()) };
    if noted(world, home).is_some_and(|known| known == place) {
        return Ok(());
    }
    let note = Note { schema: SCHEMA, root: place.root, home: text.to_owned(), watcher: place.watcher };
    storage::replace(world, watch, names::FLEET, &serde_json::to_vec(&note)?, Durability::Power)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use std::fs;

    use super::*;
    use crate::base::environment::Environment;
    use crate::settings::{Overrides, Settings};
    use crate::system::Real;

    #[test]
    fn the_root_is_told_from_the_path_of_the_watcher_alone() {
        for (path, root) in [
            ("/code/bin/fm-watch.sh", Some("/code")),
            ("/bin/fm-watch.sh", Some("/")),
            ("/code/link/fm-watch.sh", Some("/code")),
            ("/fm-watch.sh", Some("/")),
            ("/code/bin/watch.sh", None),
            ("code/bin/fm-watch.sh", None),
            ("/code/bin/fm-watch.sh/..", None),
            ("", None),
        ] {
            assert_eq!(root_of(Path::new(path)), root.map(PathBuf::from), "{path}");
        }
    }

    #[test]
    fn a_home_without_its_code_is_known_by_whoever_watched_it() {
        let directory = tempfile::tempdir().unwrap();
        let (home, code) = (Home::at(directory.path().join("home")), directory.path().join("code"));
        fs::create_dir_all(home.watch()).unwrap();
        fs::create_dir_all(code.join("bin")).unwrap();
        fs::write(code.join(Script::Watch.path()), "").unwrap();
        let variable = ("FM_ROOT_OVERRIDE", code.as_os_str());
        let settings = Settings::load(&home, &Overrides::default(), &Environment::default()).unwrap().settings;
        let find = |environment: &Environment| Fleet::find(&Real, &home, environment, &settings);
        let (told, plain) = (Environment::from_pairs([variable]), Environment::default());
        assert_eq!(find(&plain), None);

        let fleet = find(&told).unwrap();
        note(&Real, &Real.open_directory(&home.watch()).unwrap(), &home, &fleet).unwrap();
        assert_eq!(find(&plain), Some(fleet), "what ours wrote down");
        fs::remove_file(home.ours(names::FLEET)).unwrap();
        assert_eq!(find(&plain), None);

        let owner = home.state().join(WATCH_LOCK);
        fs::create_dir_all(&owner).unwrap();
        assert_eq!(find(&plain), None);
        fs::write(owner.join("watcher-path"), format!("{}\n", code.join(Script::Watch.path()).display())).unwrap();
        fs::write(owner.join("fm-home"), format!("{}/\n", home.root().display())).unwrap();
        let fleet = find(&plain).unwrap();
        assert_eq!((fleet.root(), fleet.home().len()), (code.as_path(), home.root().as_os_str().len() + 1));
        fs::rename(&owner, home.state().join("owner")).unwrap();
        std::os::unix::fs::symlink(home.state().join("owner"), &owner).unwrap();
        assert_eq!(find(&plain), Some(fleet), "behind a link, as it is now");
        fs::write(owner.join("fm-home"), "/elsewhere\n").unwrap();
        assert_eq!(find(&plain).unwrap().home(), home.root(), "another home's text is not believed");
    }
}
