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
use crate::environment::Environment;
use crate::home::Home;
use crate::settings::Settings;
use crate::world::{Kind, World};

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

/// A firstmate home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    root: PathBuf,
    home: OsString,
    state: PathBuf,
    queue: PathBuf,
    queue_lock: PathBuf,
    lock_stale_after: Duration,
}

impl Fleet {
    /// Looks whether a home is a firstmate home: its code has the watcher's script. Where the code is not where it should
    /// be by the variables, whoever watched last knows better ([`memory`]). A name that cannot be examined is none.
    pub fn find<W: World>(world: &W, home: &Home, environment: &Environment, settings: &Settings) -> Option<Self> {
        let fleet = Self::of(home, environment, settings);
        if fleet.has_script(world) {
            return Some(fleet);
        }
        let (root, text) = memory::recall(world, home)?;
        let text = if is_of(home, Path::new(&text)) { text } else { fleet.home.clone() };
        Some(Self { root, home: text, ..fleet })
    }

    fn has_script<W: World>(&self, world: &W) -> bool {
        let facts = world.facts_of_path(&self.script(Script::Watch));
        facts.is_ok_and(|facts| matches!(facts.kind, Kind::File | Kind::Link))
    }

    /// What the scripts would compute for this home. The home itself is decided already: a variable that names another
    /// one says nothing about this one.
    pub fn of(home: &Home, environment: &Environment, settings: &Settings) -> Self {
        let root = environment.path("FM_ROOT_OVERRIDE");
        let names_it = |path: &PathBuf| is_of(home, path);
        let text = environment.path("FM_HOME").filter(names_it).or_else(|| root.clone().filter(names_it));
        let in_state = |variable, name| {
            let named = environment.path(variable).and_then(|path| std::path::absolute(path).ok());
            named.filter(|path| path.file_name().is_some()).unwrap_or_else(|| home.state().join(name))
        };
        Self {
            root: root.filter(|path| path.is_absolute()).unwrap_or_else(|| home.root().to_owned()),
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
        self.root.join(script.path())
    }

    /// What a watcher that is started for this home has to find in its environment, so that it computes the same texts.
    pub fn variables(&self) -> Vec<(&'static str, &OsStr)> {
        let mut variables = vec![("FM_ROOT_OVERRIDE", self.root.as_os_str()), ("FM_HOME", &self.home)];
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
            assert_eq!(environment.path("FM_WAKE_QUEUE").is_some(), queue.is_some());
        }
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
        let find = || Fleet::find(&crate::world::Real, &home, &Environment::default(), &settings());
        assert_eq!(find(), None);
        std::fs::create_dir_all(directory.path().join("bin/fm-watch.sh")).unwrap();
        assert_eq!(find(), None, "a directory is no script");
        std::fs::remove_dir(directory.path().join("bin/fm-watch.sh")).unwrap();
        std::fs::write(directory.path().join("bin/fm-watch.sh"), "").unwrap();
        assert_eq!(find().unwrap().root(), directory.path());
    }
}
