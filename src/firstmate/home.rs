//! A firstmate home: where its scripts are, and what they call it.
//!
//! # Theory
//!
//! The scripts find their places by themselves, each in the same way: the code is where `FM_ROOT_OVERRIDE` says, else
//! where the script is; the home is `FM_HOME`, else `FM_ROOT_OVERRIDE`, else where the code is. They compare the home
//! and the path of the watcher as plain text: to them `/fleet` and `/fleet/` are two homes. So both are kept here as
//! the scripts would write them, and a watcher that is started is told the very same text ([`Fleet::variables`]).
//!
//! If this were wrong, the scripts would take our watcher for that of another home: their arm would not call it healthy,
//! and would start a second one each time, in vain.
//!
//! # Limits
//!
//! A script that was called through a link computes another text than one that was called by its own path. Ours can tell
//! only one of them.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::memory;
use crate::base::environment::Environment;
use crate::home::paths::Home;
use crate::settings::Settings;
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
const ROOT: &str = "FM_WATCH_FLEET_ROOT";
const HOME: &str = "FM_WATCH_FLEET_HOME";
const WATCHER: &str = "FM_WATCH_FLEET_SCRIPT";

/// All of these. They are for the one that is started, and for nobody that it starts.
pub const TOLD: [&str; 3] = [ROOT, HOME, WATCHER];

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
    /// variables say, it is below the home itself, or whoever watched last knows ([`memory`]). A home that only the beacon
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
        if let Some(memory::Place { root, watcher, home: text }) = memory::recall(world, home) {
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
}

/// Whether a path is one of this home, however it is written.
fn is_of(home: &Home, path: &Path) -> bool {
    path.is_absolute() && path.components().eq(home.root().components())
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use crate::settings::Loaded;

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
}
