//! What a command begins with: the home that its flags name, the streams, and the firstmate home if it is one.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::args::Global;
use crate::base::console::{Console, Note};
use crate::base::environment::Environment;
use crate::base::error::{Error, Result};
use crate::firstmate::home::{Fleet, Origin};
use crate::layout::paths::{Home, Selection};
use crate::ownership::context::{HomeContext, Request, Surroundings};
use crate::settings::{Overrides, Reading};

/// One run of a command on one home. It is the home's context, with what only commands need.
#[derive(Debug)]
pub struct Session {
    context: HomeContext,
    /// What makes it a firstmate home, if it is one.
    pub fleet: Option<Arc<Fleet>>,
    /// The streams.
    pub console: Console,
}

impl Deref for Session {
    type Target = HomeContext;

    fn deref(&self) -> &HomeContext {
        &self.context
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut HomeContext {
        &mut self.context
    }
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
        let (home, environment, request) = asked(global, Reading::Strict)?;
        Ok(Self::with(global, HomeContext::open(home, environment, request)?))
    }

    /// As [`Session::open`], as it is for whoever stands in for a script.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn open_as_script(global: &Global) -> Result<Self> {
        let here = std::env::current_dir().map_or(Surroundings::Home, Surroundings::Caller);
        let (home, environment, request) = asked(global, Reading::AsScripts)?;
        let mut context = HomeContext::open(home, environment, request)?;
        context.surroundings = here;
        Ok(Self::with(global, context))
    }

    /// Gathers what can be gathered, and says what was wrong: see [`HomeContext::open_for_examination`].
    ///
    /// # Errors
    /// The command line names no home, or a setting that there is not.
    pub fn open_for_examination(global: &Global) -> Result<(Self, Vec<Error>)> {
        let (home, environment, request) = asked(global, Reading::Strict)?;
        let (context, broken) = HomeContext::open_for_examination(home, environment, request)?;
        Ok((Self::with(global, context), broken))
    }

    fn with(global: &Global, context: HomeContext) -> Self {
        let HomeContext { world, home, environment, .. } = &context;
        let fleet = Fleet::find(world.as_ref(), home, environment, context.settings());
        Self { context, fleet: None, console: global.console() }.with_fleet(fleet)
    }

    fn with_fleet(mut self, fleet: Option<Fleet>) -> Self {
        self.fleet = fleet.map(Arc::new);
        self.context.foreign = self.fleet.clone().map(|fleet| fleet as _);
        self
    }

    /// The same, of a home that is known to be one of firstmate, with the scripts there.
    #[must_use]
    pub fn of_fleet(self, origin: &Origin) -> Self {
        let fleet = Fleet::at(&self.home, &self.environment, &self.loaded.settings, origin.clone());
        self.with_fleet(Some(fleet))
    }

    /// Says what a mechanism has to tell a person, at the moment it does.
    pub fn notes(&self) -> impl FnMut(Note) + use<> {
        let console = self.console;
        move |note| console.tell(note)
    }
}

fn asked(global: &Global, reading: Reading) -> Result<(Home, Environment, Request)> {
    let environment = Environment::of_this_process();
    let home = resolve_home(global, &environment)?;
    Ok((home, environment, Request { overrides: overrides(global)?, reading }))
}
