//! A firstmate home: where its scripts are, and what they call it.
//!
//! # Theory
//!
//! The scripts find their places by themselves, each in the same way: the code is where `FM_ROOT_OVERRIDE` says, else
//! where the script is; the home is `FM_HOME`, else `FM_ROOT_OVERRIDE`, else where the code is. They compare the home
//! and the path of the watcher as plain text: to them `/fleet` and `/fleet/` are two homes. So both are kept here as
//! the scripts would write them, and a watcher that is started is told the very same text ([`Fleet::variables`]).
//!
//! The home of a fleet need not have the code below it: a second fleet shares the scripts of the first, and only they know
//! their own place. A person or a hook who calls this program with that home says nothing of the code, and a watcher
//! started then would not speak to the scripts and stand beside one of theirs. So where the variables do not tell, it is
//! looked up, in this order:
//!
//! 1. in the scripts' own lock, if it is there: whoever took it has told its program and what it calls the home;
//! 2. in what a watcher of ours wrote down when it watched for the scripts ([`Fleet::remember`]), as long as the script is
//!    there.
//!
//! If this were wrong, the scripts would take our watcher for that of another home: their arm would not call it healthy,
//! and would start a second one each time, in vain. Or two watchers would serve one home.
//!
//! # Limits
//!
//! - A script that was called through a link computes another text than one that was called by its own path. Ours can tell
//!   only one of them.
//! - A home without its code that no watcher has ever watched is taken for one of ours alone.
//! - Names that are not UTF-8 are not remembered.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::environment::{self, Environment};
use crate::layout::paths::{self, Home};
use crate::lock::owner_link::entry::{HOME as TOLD_HOME, WATCHER_PATH};
use crate::settings::Settings;
use crate::system::storage::{self, Durability};
use crate::system::{Kind, World};

/// The names that the scripts give to files in the state directory.
pub mod names {
    /// The lock of the watcher, in the owner-link protocol.
    pub const WATCH_LOCK: &str = ".watch.lock";
    /// The file whose time of modification is the watcher's last beat.
    pub const LAST_BEAT: &str = ".last-watcher-beat";
    /// The rows that the next drain prints.
    pub const WAKE_QUEUE: &str = ".wake-queue";
    /// The sequence number that was given out last.
    pub const WAKE_QUEUE_SEQUENCE: &str = ".wake-queue.seq";
    /// The lock of the two, in the owner-link protocol.
    pub const WAKE_QUEUE_LOCK: &str = ".wake-queue.lock";
}

/// What a watcher that is started is told: the code, the home and the watcher's script, as the scripts write them.
const ROOT: &str = environment::FLEET[0];
const HOME: &str = environment::FLEET[1];
const WATCHER: &str = environment::FLEET[2];

/// The variables with which scripts are sent to another queue.
const QUEUE: &str = "FM_WAKE_QUEUE";
const QUEUE_LOCK: &str = "FM_WAKE_QUEUE_LOCK";

/// A script of the home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// The watcher.
    Watch,
    /// What makes sure that one runs.
    Arm,
    /// The banner.
    Guard,
    /// What prints and consumes the queue.
    Drain,
    /// What the others share.
    Library,
}

impl Script {
    /// Its path below the code's root.
    pub fn path(self) -> &'static str {
        match self {
            Self::Watch => "bin/fm-watch.sh",
            Self::Arm => "bin/fm-watch-arm.sh",
            Self::Guard => "bin/fm-guard.sh",
            Self::Drain => "bin/fm-wake-drain.sh",
            Self::Library => "bin/fm-wake-lib.sh",
        }
    }
}

/// Where the scripts are, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    root: Option<PathBuf>,
    watcher: Option<PathBuf>,
}

impl Origin {
    /// What the variables say.
    pub fn of(environment: &Environment) -> Self {
        let root = environment.path(ROOT).or_else(|| environment.path("FM_ROOT_OVERRIDE"));
        Self { root, watcher: environment.path(WATCHER) }
    }

    /// As a script finds it whose own path this is: the code is where the variable says, else where its directory is.
    pub fn of_script(script: &Path, environment: &Environment) -> Self {
        let directory = script.parent();
        let above = || directory.map(|directory| directory.parent().unwrap_or(directory).to_owned());
        Self {
            root: environment.path("FM_ROOT_OVERRIDE").or_else(above),
            watcher: directory.map(|directory| directory.join(WATCHER_NAME)),
        }
    }

    /// The code's root.
    pub fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }
}

/// The name of the watcher's script.
pub(super) const WATCHER_NAME: &str = "fm-watch.sh";

/// A firstmate home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    root: PathBuf,
    watcher: PathBuf,
    home: OsString,
    state: PathBuf,
    queue: PathBuf,
    queue_lock: PathBuf,
    lock_stale_after: Duration,
}

impl Fleet {
    /// Looks whether a home is a firstmate home: its code has the watcher's script. Where the code is not where the
    /// variables say, it is below the home itself, or whoever watched last knows ([`Fleet::remember`]). A home that only the beacon
    /// of a shell watcher betrays is one as well: its next one is to find ours. A name that cannot be examined is none.
    pub fn find<W: World>(world: &W, home: &Home, environment: &Environment, settings: &Settings) -> Option<Self> {
        let told = Self::of(home, environment, settings);
        if environment.path(ROOT).is_some() || told.has_script(world) {
            return Some(told);
        }
        let usual = home.root().join(Script::Watch.path());
        let was_looked_at = told.watcher == usual;
        let own = Self { root: home.root().to_owned(), watcher: usual, ..told };
        if !was_looked_at && own.has_script(world) {
            return Some(own);
        }
        if let Some(Scripts { root, watcher, home: text }) = recall(world, home) {
            let text = if is_of(home, Path::new(&text)) { text } else { own.home.clone() };
            return Some(Self { root, watcher, home: text, ..own });
        }
        let has_beaten = world.facts_of_path(&own.file(names::LAST_BEAT)).is_ok();
        has_beaten.then_some(own)
    }

    fn has_script<W: World>(&self, world: &W) -> bool {
        let facts = world.facts_of_path(&self.watcher);
        facts.is_ok_and(|facts| matches!(facts.kind, Kind::File | Kind::Link))
    }

    /// What the scripts would compute for this home, which is one of firstmate. The home itself is decided already: a
    /// variable that names another one says nothing about this one.
    pub fn of(home: &Home, environment: &Environment, settings: &Settings) -> Self {
        Self::at(home, environment, settings, Origin::of(environment))
    }

    /// As [`Fleet::of`], for somebody who knows where the scripts are.
    pub fn at(home: &Home, environment: &Environment, settings: &Settings, origin: Origin) -> Self {
        let names_it = |path: &PathBuf| is_of(home, path);
        let text = environment.path(HOME).or_else(|| environment.path("FM_HOME")).filter(names_it);
        let text = text.or_else(|| origin.root.clone().filter(names_it));
        let in_state = |variable, name| {
            let named = environment.path(variable).and_then(|path| std::path::absolute(path).ok());
            named.filter(|path| path.file_name().is_some()).unwrap_or_else(|| home.state().join(name))
        };
        let root = origin.root.filter(|path| path.is_absolute()).unwrap_or_else(|| home.root().to_owned());
        Self {
            watcher: origin.watcher.unwrap_or_else(|| root.join(Script::Watch.path())),
            root,
            home: text.unwrap_or_else(|| home.root().to_owned()).into_os_string(),
            state: home.state().to_owned(),
            queue: in_state(QUEUE, names::WAKE_QUEUE),
            queue_lock: in_state(QUEUE_LOCK, names::WAKE_QUEUE_LOCK),
            lock_stale_after: settings.fleet_lock_stale_after,
        }
    }

    /// Where the code is: the directory with `bin`.
    #[cfg(test)]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The home as the scripts write it, which is to be compared as text only.
    pub fn home(&self) -> &OsStr {
        &self.home
    }

    /// The state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// A file in the state directory, by its name in [`names`].
    pub fn file(&self, name: &str) -> PathBuf {
        self.state.join(name)
    }

    /// The wake queue.
    pub fn queue(&self) -> &Path {
        &self.queue
    }

    /// The lock of the wake queue.
    pub fn queue_lock(&self) -> &Path {
        &self.queue_lock
    }

    /// For how long a lock of the scripts without a pid counts as being taken.
    pub fn lock_stale_after(&self) -> Duration {
        self.lock_stale_after
    }

    /// The path of a script.
    pub fn script(&self, script: Script) -> PathBuf {
        match script {
            Script::Watch => self.watcher.clone(),
            _ => self.root.join(script.path()),
        }
    }

    /// What a watcher that is started for this home has to find in its environment, so that it computes the same texts.
    pub fn variables(&self) -> Vec<(&'static str, &OsStr)> {
        let mut variables =
            vec![(ROOT, self.root.as_os_str()), (HOME, &self.home), (WATCHER, self.watcher.as_os_str())];
        // Only where they say anything: a check that calls a script of another home hands its environment on.
        for (name, path, usual) in
            [(QUEUE, &self.queue, names::WAKE_QUEUE), (QUEUE_LOCK, &self.queue_lock, names::WAKE_QUEUE_LOCK)]
        {
            if *path != self.file(usual) {
                variables.push((name, path.as_os_str()));
            }
        }
        variables
    }

    /// Writes down where the code is, for callers who do not know. What is written already is left alone.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remember<W: World>(&self, world: &W, watch: &W::Node, home: &Home) -> io::Result<()> {
        let scripts = Scripts { root: self.root.clone(), watcher: self.watcher.clone(), home: self.home.clone() };
        let is_usual = self.watcher == home.root().join(Script::Watch.path());
        let Some(text) = self.home.to_str().filter(|_| !is_usual) else { return Ok(()) };
        if noted(world, home).is_some_and(|known| known == scripts) {
            return Ok(());
        }
        let note = Note { schema: SCHEMA, root: scripts.root, home: text.to_owned(), watcher: scripts.watcher };
        storage::replace(world, watch, paths::names::FLEET, &serde_json::to_vec(&note)?, Durability::Power)
    }
}

/// Whether a path is one of this home, however it is written.
fn is_of(home: &Home, path: &Path) -> bool {
    path.is_absolute() && path.components().eq(home.root().components())
}

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
struct Scripts {
    root: PathBuf,
    watcher: PathBuf,
    home: OsString,
}

/// What is known of the scripts.
fn recall<W: World>(world: &W, home: &Home) -> Option<Scripts> {
    // One look at each name first: in most homes there is neither, and every command passes here.
    let is_there = |path: PathBuf| world.facts_of_path(&path).is_ok();
    let by_lock = is_there(home.state().join(names::WATCH_LOCK)).then(|| told_by_lock(world, home)).flatten();
    by_lock.or_else(|| is_there(home.ours(paths::names::FLEET)).then(|| noted(world, home)).flatten())
}

fn told_by_lock<W: World>(world: &W, home: &Home) -> Option<Scripts> {
    let owner = owner_directory(world, &world.open_directory(home.state()).ok()?).ok()?;
    let text = |name| {
        let bytes = storage::read(world, &owner, OsStr::new(name), LIMIT).ok()??;
        Some(OsString::from(String::from_utf8(bytes).ok()?.trim_end_matches('\n')))
    };
    let watcher = PathBuf::from(text(WATCHER_PATH)?);
    Some(Scripts { root: root_of(&watcher)?, watcher, home: text(TOLD_HOME)? })
}

fn noted<W: World>(world: &W, home: &Home) -> Option<Scripts> {
    let watch = world.open_directory(&home.watch()).ok()?;
    let bytes = storage::read(world, &watch, OsStr::new(paths::names::FLEET), LIMIT).ok()??;
    let note: Note = serde_json::from_slice(&bytes).ok().filter(|note: &Note| note.schema == SCHEMA)?;
    let is_there = world.facts_of_path(&note.watcher).is_ok();
    let scripts = Scripts { root: note.root, watcher: note.watcher, home: note.home.into() };
    (is_there && scripts.root.is_absolute() && scripts.watcher.is_absolute()).then_some(scripts)
}

/// The code's root by the path of its watcher.
fn root_of(watcher: &Path) -> Option<PathBuf> {
    let has_its_name = watcher.is_absolute() && watcher.file_name() == Some(OsStr::new(WATCHER_NAME));
    let directory = watcher.parent().filter(|_| has_its_name)?;
    Some(directory.parent().unwrap_or(directory).to_owned())
}

/// The directory in which whoever has the scripts' lock has told about itself, in this state directory.
///
/// # Errors
/// Those of the file system, also when nobody has it.
pub(super) fn owner_directory<W: World>(world: &W, state: &W::Node) -> io::Result<W::Node> {
    let name = OsStr::new(names::WATCH_LOCK);
    match world.read_link(state, name) {
        Ok(owner) => world.open_directory(Path::new(&owner)),
        // As older releases made it: a directory and no link.
        Err(_) => world.open_directory_at(state, name),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make and remove files of their own")]
mod tests {
    use std::fs;

    use super::*;
    use crate::settings::{Loaded, Overrides};
    use crate::system::Real;

    fn settings() -> Settings {
        Loaded::of_defaults().unwrap().settings
    }

    fn of(home: &str, variables: &[(&str, &str)]) -> Fleet {
        Fleet::of(&Home::at(home), &Environment::from_pairs(variables.iter().copied()), &settings())
    }

    fn fleet(home: &str, variables: &[(&str, &str)]) -> (String, String) {
        let fleet = of(home, variables);
        let text = |text: &OsStr| text.to_str().unwrap().to_owned();
        (text(fleet.home()), text(fleet.script(Script::Watch).as_os_str()))
    }

    #[test]
    fn the_texts_are_those_that_the_scripts_compute() {
        let here = ("/fleet".to_owned(), "/fleet/bin/fm-watch.sh".to_owned());
        assert_eq!(fleet("/fleet", &[]), here);
        assert_eq!(fleet("/fleet", &[("FM_HOME", "/fleet/")]), ("/fleet/".to_owned(), here.1.clone()));
        let code = [("FM_ROOT_OVERRIDE", "/code"), ("FM_HOME", "/fleet")];
        assert_eq!(fleet("/fleet", &code), ("/fleet".to_owned(), "/code/bin/fm-watch.sh".to_owned()));
        assert_eq!(fleet("/code", &[("FM_ROOT_OVERRIDE", "/code/")]).0, "/code/");
    }

    #[test]
    fn a_variable_that_names_another_home_says_nothing_about_this_one() {
        assert_eq!(fleet("/fleet", &[("FM_HOME", "/other")]).0, "/fleet");
        assert_eq!(fleet("/fleet", &[("FM_ROOT_OVERRIDE", "code")]).1, "/fleet/bin/fm-watch.sh");
    }

    #[test]
    fn a_watcher_that_is_started_computes_the_same_texts() {
        let texts = [("FM_HOME", "/fleet//"), ("FM_ROOT_OVERRIDE", "/code/.")];
        for queue in [None, Some(("FM_WAKE_QUEUE", "/elsewhere/rows"))] {
            let fleet = of("/fleet", &texts.into_iter().chain(queue).collect::<Vec<_>>());
            let environment = Environment::from_pairs(fleet.variables());
            assert_eq!(Fleet::of(&Home::at("/fleet"), &environment, &settings()), fleet);
            assert_eq!(Fleet::find(&crate::system::Real, &Home::at("/fleet"), &environment, &settings()), Some(fleet));
            assert_eq!(environment.path("FM_WAKE_QUEUE").is_some(), queue.is_some());
        }
    }

    #[test]
    fn a_script_knows_its_own_place() {
        let at = |script: &str, variables: &[(&str, &str)]| {
            let environment = Environment::from_pairs(variables.iter().copied());
            let origin = Origin::of_script(Path::new(script), &environment);
            let home = environment.path("FM_HOME").or_else(|| origin.root().map(Path::to_owned)).unwrap();
            let fleet = Fleet::at(&Home::at(home), &environment, &settings(), origin);
            (fleet.root.clone(), fleet.home.into_string().unwrap(), fleet.watcher)
        };
        let told = |root: &str, home: &str, watcher: &str| (root.into(), home.to_owned(), watcher.into());
        assert_eq!(at("/fm/bin/fm-arm.sh", &[]), told("/fm", "/fm", "/fm/bin/fm-watch.sh"));
        assert_eq!(at("/fm/link/x", &[("FM_HOME", "/h/")]), told("/fm", "/h/", "/fm/link/fm-watch.sh"));
        let elsewhere = [("FM_ROOT_OVERRIDE", "/tests")];
        assert_eq!(at("/fm/bin/x", &elsewhere), told("/tests", "/tests", "/fm/bin/fm-watch.sh"));
        assert_eq!(at("/x", &[]), told("/", "/", "/fm-watch.sh"));
    }

    #[test]
    fn scripts_can_be_sent_to_another_queue() {
        let usual = of("/fleet", &[]);
        assert_eq!(usual.queue(), Path::new("/fleet/state/.wake-queue"));
        assert_eq!(usual.queue_lock(), Path::new("/fleet/state/.wake-queue.lock"));
        let sent = of("/fleet", &[("FM_WAKE_QUEUE", "/q/rows"), ("FM_WAKE_QUEUE_LOCK", "/q/lock")]);
        assert_eq!((sent.queue(), sent.queue_lock()), (Path::new("/q/rows"), Path::new("/q/lock")));
        assert!(of("/fleet", &[("FM_WAKE_QUEUE", "rows")]).queue().is_absolute());
    }

    #[test]
    fn a_home_is_one_of_firstmate_if_its_code_has_the_watcher() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        let find = || Fleet::find(&crate::system::Real, &home, &Environment::default(), &settings());
        assert_eq!(find(), None);
        std::fs::create_dir_all(directory.path().join("bin/fm-watch.sh")).unwrap();
        assert_eq!(find(), None, "a directory is no script");
        std::fs::create_dir(home.state()).unwrap();
        std::fs::write(home.state().join(names::LAST_BEAT), "").unwrap();
        assert_eq!(find().unwrap().root(), directory.path(), "a shell watcher was here");
        std::fs::remove_dir_all(home.state()).unwrap();
        std::fs::remove_dir(directory.path().join("bin/fm-watch.sh")).unwrap();
        std::fs::write(directory.path().join("bin/fm-watch.sh"), "").unwrap();
        assert_eq!(find().unwrap().root(), directory.path());
    }

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
        fleet.remember(&Real, &Real.open_directory(&home.watch()).unwrap(), &home).unwrap();
        assert_eq!(find(&plain), Some(fleet), "what ours wrote down");
        fs::remove_file(home.ours(paths::names::FLEET)).unwrap();
        assert_eq!(find(&plain), None);

        let owner = home.state().join(names::WATCH_LOCK);
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
