//! What everything that works on a home is given: the home, the settings in force, the place of its lock, and from where
//! this process sees others. It says nothing to anybody: who talks to a person has the streams besides.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::foreign_holder::ForeignHolder;
use super::held_home;
use super::home_lock::LockLocation;
use super::observe;
use super::verdict::{Evidence, Verdict};
use crate::base::environment::Environment;
use crate::base::error::{Context, Error, Result};
use crate::base::wait_until::wait_until;
use crate::layout::paths::Home;
use crate::settings::{Loaded, Overrides, Reading, Settings};
use crate::system::identity::Standpoint;
use crate::system::platform;
use crate::system::program::{self, shell_word};
use crate::system::storage;
use crate::system::{Real, World};

/// One run of the program on one home.
#[derive(Debug)]
pub struct HomeContext {
    /// The outside.
    pub world: Arc<Real>,
    /// The home.
    pub home: Home,
    /// The other program that may hold it, if there is one.
    pub foreign: Option<Arc<dyn ForeignHolder<Real>>>,
    /// The environment of this process.
    pub environment: Environment,
    /// The settings, with the origin of each value.
    pub loaded: Loaded,
    /// Where the lock is.
    pub place: LockLocation,
    /// From where this process sees others.
    pub here: Standpoint,
    /// What the programs that a watcher runs find around them.
    pub surroundings: Surroundings,
    /// The program that is started as watcher or monitor, if it is not the one that runs.
    pub program: Option<PathBuf>,
    request: Request,
}

/// What is asked of a home's settings.
#[derive(Debug)]
pub struct Request {
    /// The settings that flags change.
    pub overrides: Overrides,
    /// How the settings are read.
    pub reading: Reading,
}

/// What the programs that a watcher runs find around them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Surroundings {
    /// The directory of the home, and of the environment what the settings pass on: a watcher outlives the session in which
    /// it was started.
    Home,
    /// This directory, and all that the caller sees: a watcher of the scripts' kind lives no longer than its caller, and
    /// checks were written for that.
    Caller(PathBuf),
}

impl HomeContext {
    /// Gathers everything. Nothing is known yet of a foreign holder.
    ///
    /// # Errors
    /// Settings that cannot be understood.
    pub fn open(home: Home, environment: Environment, request: Request) -> Result<Self> {
        let loaded = Settings::load_by(&home, &request.overrides, &environment, request.reading)?;
        let place = place(&Real, &home, &loaded.settings)?;
        Ok(Self::with(home, environment, request, loaded, place))
    }

    /// Gathers what can be gathered, for whoever is to say what is wrong: settings that cannot be understood are replaced
    /// by the defaults, and a lock whose place cannot be found is looked for inside the home. What was wrong comes with it.
    ///
    /// # Errors
    /// The defaults cannot be understood.
    pub fn open_for_examination(home: Home, environment: Environment, request: Request) -> Result<(Self, Vec<Error>)> {
        let mut broken = Vec::new();
        let loaded = match Settings::load_by(&home, &request.overrides, &environment, request.reading) {
            Ok(loaded) => loaded,
            Err(error) => {
                broken.push(error);
                Loaded::of_defaults()?
            }
        };
        let place = place(&Real, &home, &loaded.settings).unwrap_or_else(|error| {
            broken.push(error);
            LockLocation::inside(&home)
        });
        Ok((Self::with(home, environment, request, loaded, place), broken))
    }

    fn with(home: Home, environment: Environment, request: Request, loaded: Loaded, place: LockLocation) -> Self {
        let (world, here, surroundings) = (Arc::new(Real), platform::own_standpoint(), Surroundings::Home);
        Self { world, home, foreign: None, environment, loaded, place, here, surroundings, program: None, request }
    }

    /// Makes the directories of the home, and finds the place of its lock.
    ///
    /// # Errors
    /// Directories that cannot be made or are not ours alone.
    pub fn prepare(&mut self) -> Result<()> {
        storage::make_directories(self.home.state())?;
        self.place = place(self.world.as_ref(), &self.home, &self.loaded.settings)?;
        held_home::prepare(self.world.as_ref(), &self.home, &self.place)
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.loaded.settings
    }

    /// The settings as they are on disk now, under the same flags and environment.
    ///
    /// # Errors
    /// Settings that cannot be understood.
    pub fn reload(&self) -> Result<Loaded> {
        let Request { overrides, reading } = &self.request;
        Settings::load_by(&self.home, overrides, &self.environment, *reading)
    }

    /// The bound for "stuck", if a person set one: it beats the one that the watcher recorded.
    pub fn stuck_after(&self) -> Option<Duration> {
        self.settings().explicit_stuck_after
    }

    /// Looks at the home.
    pub fn verdict(&self) -> (Evidence, Verdict) {
        let home = (&self.home, self.foreign.as_deref());
        observe::verdict(&self.world, home, &self.place, &self.here, self.stuck_after())
    }

    /// Looks until no start is under way any more, at most so long.
    pub fn settled_verdict(&self, at_most: Duration) -> (Evidence, Verdict) {
        // Many may be looking at one start, and the start is to come first.
        const PAUSE: Duration = Duration::from_millis(10);
        let look = || Some(self.verdict()).filter(|(_, verdict)| !matches!(verdict, Verdict::Starting { .. }));
        wait_until(at_most, PAUSE, look).unwrap_or_else(|| self.verdict())
    }

    /// The acquisition in force, with which writers other than the watcher sign; 0 before the first.
    pub fn generation(&self) -> u64 {
        let watch = self.world.open_directory(&self.home.watch());
        let read = watch.and_then(|watch| held_home::read_generation(self.world.as_ref(), &watch));
        read.ok().flatten().unwrap_or(0)
    }

    /// The program that is started as watcher or monitor.
    ///
    /// # Errors
    /// It cannot be found.
    pub fn program(&self) -> Result<PathBuf> {
        self.program.clone().map_or_else(program::own_path, Ok)
    }

    /// How a person calls this program for this home.
    pub fn command_line(&self, command: &str) -> String {
        command_line(&self.home, command)
    }
}

/// How a person calls this program for a home.
pub fn command_line(home: &Home, command: &str) -> String {
    format!("{} {}", program::word(&Environment::of_this_process()), arguments(home, command))
}

/// What follows the program's name in the command line of a command for a home.
pub fn arguments(home: &Home, command: &str) -> String {
    let flags: Vec<_> = home.flags().iter().map(|flag| shell_word(&flag.to_string_lossy())).collect();
    format!("{} {command}", flags.join(" "))
}

/// Where the lock of a home is, under these settings. In a runtime directory it is named after the state directory, which
/// whoever means to use the home has made before.
fn place<W: World>(world: &W, home: &Home, settings: &Settings) -> Result<LockLocation> {
    let Some(runtime) = &settings.runtime_dir else { return Ok(LockLocation::inside(home)) };
    match world.facts_of_path(home.state()) {
        Ok(state) => Ok(LockLocation::in_runtime_directory(runtime, &state)),
        // Without a state directory there is no lock, neither here nor there.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(LockLocation::inside(home)),
        Err(error) => Err(error).doing("examine", home.state()),
    }
}
