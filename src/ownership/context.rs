//! What every command gathers first: the home, the settings, the place of the lock, its own standpoint.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::held_home;
use super::home_lock::Place;
use super::observe;
use super::verdict::{Evidence, Verdict};
use crate::base::console::Console;
use crate::base::environment::Environment;
use crate::base::error::{Context, Error, Result};
use crate::base::wait_until::wait_until;
use crate::cli::args::Global;
use crate::firstmate::home::{Fleet, Origin};
use crate::home::paths::{Home, Selection};
use crate::settings::{Loaded, Overrides, Reading, Settings};
use crate::system::identity::Standpoint;
use crate::system::platform;
use crate::system::program::{self, shell_word};
use crate::system::storage;
use crate::system::{Real, World};

/// One run of the program on one home.
#[derive(Debug)]
pub struct Session {
    /// The outside.
    pub world: Arc<Real>,
    /// The home.
    pub home: Home,
    /// What makes it a firstmate home, if it is one.
    pub fleet: Option<Fleet>,
    /// The environment of this process.
    pub environment: Environment,
    /// The settings, with the origin of each value.
    pub loaded: Loaded,
    /// Where the lock is.
    pub place: Place,
    /// From where this process sees others.
    pub here: Standpoint,
    /// The streams.
    pub console: Console,
    /// What the programs that a watcher runs find around them.
    pub surroundings: Surroundings,
    overrides: Overrides,
    reading: Reading,
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

/// The home that the flags and the environment name.
///
/// # Errors
/// None can be found.
pub fn resolve_home(global: &Global, environment: &Environment) -> Result<Home> {
    let selection = Selection { home: global.home.clone(), state: global.state.clone() };
    Home::resolve(&selection, environment, std::env::current_dir().ok().as_deref())
}

/// The settings that the flags change.
///
/// # Errors
/// A flag that cannot be understood.
pub fn overrides(global: &Global) -> Result<Overrides> {
    let mut flags = global.set.clone();
    flags.extend(global.runtime_dir.iter().map(|path| format!("runtime_dir={}", path.display())));
    Overrides::parse(&flags)
}

impl Session {
    /// Gathers everything.
    ///
    /// # Errors
    /// No home, or settings that cannot be understood.
    pub fn open(global: &Global) -> Result<Self> {
        Self::open_by(global, Reading::Strict, Surroundings::Home)
    }

    /// As [`Session::open`], as it is for whoever stands in for a script.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn open_as_script(global: &Global) -> Result<Self> {
        let here = std::env::current_dir().map_or(Surroundings::Home, Surroundings::Caller);
        Self::open_by(global, Reading::AsScripts, here)
    }

    /// The same, of a home that is known to be one of firstmate, with the scripts there.
    #[must_use]
    pub fn of_fleet(mut self, origin: &Origin) -> Self {
        self.fleet = Some(Fleet::at(&self.home, &self.environment, &self.loaded.settings, origin.clone()));
        self
    }

    fn open_by(global: &Global, reading: Reading, surroundings: Surroundings) -> Result<Self> {
        let environment = Environment::of_this_process();
        let home = resolve_home(global, &environment)?;
        let overrides = overrides(global)?;
        let loaded = Settings::load_by(&home, &overrides, &environment, reading)?;
        let world = Arc::new(Real);
        let place = place(world.as_ref(), &home, &loaded.settings)?;
        let console = Console::new(global);
        let fleet = Fleet::find(world.as_ref(), &home, &environment, &loaded.settings);
        Ok(Self {
            world,
            home,
            fleet,
            environment,
            loaded,
            place,
            here: platform::own_standpoint(),
            console,
            surroundings,
            overrides,
            reading,
        })
    }

    /// Gathers what can be gathered, for whoever is to say what is wrong: settings that cannot be understood are replaced
    /// by the defaults, and a lock whose place cannot be found is looked for inside the home. What was wrong comes with it.
    ///
    /// # Errors
    /// The command line names no home, or a setting that there is not.
    pub fn open_for_examination(global: &Global) -> Result<(Self, Vec<Error>)> {
        let environment = Environment::of_this_process();
        let home = resolve_home(global, &environment)?;
        let overrides = overrides(global)?;
        let (world, mut broken) = (Arc::new(Real), Vec::new());
        let loaded = match Settings::load(&home, &overrides, &environment) {
            Ok(loaded) => loaded,
            Err(error) => {
                broken.push(error);
                Loaded::of_defaults()?
            }
        };
        let place = place(world.as_ref(), &home, &loaded.settings).unwrap_or_else(|error| {
            broken.push(error);
            Place::inside(&home)
        });
        let (here, console) = (platform::own_standpoint(), Console::new(global));
        let fleet = Fleet::find(world.as_ref(), &home, &environment, &loaded.settings);
        let (surroundings, reading) = (Surroundings::Home, Reading::Strict);
        let session =
            Self { world, home, fleet, environment, loaded, place, here, console, surroundings, overrides, reading };
        Ok((session, broken))
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
        Settings::load_by(&self.home, &self.overrides, &self.environment, self.reading)
    }

    /// The bound for "stuck", if a person set one: it beats the one that the watcher recorded.
    pub fn stuck_after(&self) -> Option<Duration> {
        self.settings().explicit_stuck_after
    }

    /// Looks at the home.
    pub fn verdict(&self) -> (Evidence, Verdict) {
        observe::verdict(&self.world, (&self.home, self.fleet.as_ref()), &self.place, &self.here, self.stuck_after())
    }

    /// Looks until no start is under way any more, at most so long.
    pub fn settled_verdict(&self, at_most: Duration) -> (Evidence, Verdict) {
        // Many may be looking at one start, and the start is to come first.
        const PAUSE: Duration = Duration::from_millis(10);
        let look = || Some(self.verdict()).filter(|(_, verdict)| !matches!(verdict, Verdict::Starting { .. }));
        wait_until(at_most, PAUSE, look).unwrap_or_else(|| self.verdict())
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
fn place<W: World>(world: &W, home: &Home, settings: &Settings) -> Result<Place> {
    let Some(runtime) = &settings.runtime_dir else { return Ok(Place::inside(home)) };
    match world.facts_of_path(home.state()) {
        Ok(state) => Ok(Place::in_runtime_directory(runtime, &state)),
        // Without a state directory there is no lock, neither here nor there.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Place::inside(home)),
        Err(error) => Err(error).doing("examine", home.state()),
    }
}
