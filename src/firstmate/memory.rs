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
//! - A home without its code that no watcher of either kind has ever watched is taken for one of ours alone.
//! - Names that are not UTF-8 are not remembered.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::fleet::{self, Fleet, Script};
use crate::home::{Home, names};
use crate::lock::owner_link::entry::{HOME, WATCHER_PATH};
use crate::storage::{self, Durability};
use crate::world::World;

/// No path is longer.
const LIMIT: usize = 16 * 1024;

/// The layout of the note.
const SCHEMA: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Note {
    schema: u32,
    root: PathBuf,
    home: String,
}

/// The code's root, and what the scripts call the home.
pub(super) fn recall<W: World>(world: &W, home: &Home) -> Option<(PathBuf, OsString)> {
    told_by_lock(world, home).or_else(|| noted(world, home))
}

fn told_by_lock<W: World>(world: &W, home: &Home) -> Option<(PathBuf, OsString)> {
    let (state, name) = (world.open_directory(home.state()).ok()?, OsStr::new(fleet::names::WATCH_LOCK));
    let owner = match world.read_link(&state, name) {
        Ok(owner) => world.open_directory(Path::new(&owner)),
        // As older releases made it: a directory and no link.
        Err(_) => world.open_directory_at(&state, name),
    };
    let owner = owner.ok()?;
    let text = |name| {
        let bytes = storage::read(world, &owner, OsStr::new(name), LIMIT).ok()??;
        Some(OsString::from(String::from_utf8(bytes).ok()?.trim_end_matches('\n')))
    };
    Some((root_of(Path::new(&text(WATCHER_PATH)?))?, text(HOME)?))
}

fn noted<W: World>(world: &W, home: &Home) -> Option<(PathBuf, OsString)> {
    let watch = world.open_directory(&home.watch()).ok()?;
    let bytes = storage::read(world, &watch, OsStr::new(names::FLEET), LIMIT).ok()??;
    let note: Note = serde_json::from_slice(&bytes).ok().filter(|note: &Note| note.schema == SCHEMA)?;
    let is_there = world.facts_of_path(&note.root.join(Script::Watch.path())).is_ok();
    (is_there && note.root.is_absolute()).then_some((note.root, note.home.into()))
}

/// The code's root by the path of its watcher.
fn root_of(watcher: &Path) -> Option<PathBuf> {
    let has_its_name = watcher.is_absolute() && watcher.ends_with(Script::Watch.path());
    let levels = Path::new(Script::Watch.path()).components().count();
    has_its_name.then(|| watcher.ancestors().nth(levels).map(Path::to_owned)).flatten()
}

/// Writes down where the code is, for callers who do not know. What is written already is left alone.
///
/// # Errors
/// Those of the file system.
pub fn note<W: World>(world: &W, watch: &W::Node, home: &Home, fleet: &Fleet) -> io::Result<()> {
    let (root, text) = (fleet.root().to_owned(), fleet.home());
    let Some(text) = text.to_str() else { return Ok(()) };
    if root == home.root() || noted(world, home).is_some_and(|(known, called)| known == root && called == text) {
        return Ok(());
    }
    let note = Note { schema: SCHEMA, root, home: text.to_owned() };
    storage::replace(world, watch, names::FLEET, &serde_json::to_vec(&note)?, Durability::Power)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use std::fs;

    use super::*;
    use crate::environment::Environment;
    use crate::settings::{Overrides, Settings};
    use crate::world::Real;

    #[test]
    fn the_root_is_told_from_the_path_of_the_watcher_alone() {
        for (path, root) in [
            ("/code/bin/fm-watch.sh", Some("/code")),
            ("/bin/fm-watch.sh", Some("/")),
            ("/code/fm-watch.sh", None),
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

        let owner = home.state().join(fleet::names::WATCH_LOCK);
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
