//! Every knob: typed, checked, and with the origin of its value.
//!
//! # Theory of operation
//!
//! Four layers are laid over each other, the weakest first: the defaults that are compiled in from
//! `config/fm-watch.toml`, the home's own file of that name, the `FM_*` variables, and the flags `--set KEY=VALUE`. One
//! table ([`key`]) says for each key what it may be and which field it fills; every layer goes through it, so a
//! value is checked alike wherever it comes from, and each keeps its [`Origin`]. Settings are strict where they are
//! written down (a file) and lenient where scripts have always given plain seconds (variables and flags).
//!
//! If this is wrong, a typing error becomes a watcher that polls once a day, or never: hence unknown keys, wrong types
//! and values out of bounds are errors that say where they stand and what would be right. Nothing is guessed.
//!
//! Loading is on the path of every command and compiles no regular expression; [`Loaded::compile`] does that for
//! the watcher and for `config check`.
//!
//! Limits: tables (`[[rule]]`, `[[notify]]`, `[daemon.<name>]`) come from the home's file only. A file is read once and whole; the
//! watcher reads it again when it is told to.

pub mod daemon_definition;
mod daemons;
mod document;
mod file;
mod key;
mod loaded;
mod patterns;
mod tables;
#[cfg(test)]
mod tests;
mod value;

use std::path::Path;
use std::time::Duration;

pub use self::daemons::Daemon;
pub use self::document::Origin;
pub use self::key::{Repair, Settings};
pub use self::loaded::{Entry, Loaded, Overrides, Reading};
pub use self::patterns::Patterns;
pub use self::tables::{Notify, Rule, check_program};
pub use self::value::{Value, parse_duration};
pub(crate) use self::value::{quoted, quoted_list};

use self::daemon_definition::{Brake, Definition, Name, Ready};
use self::document::nearest;
use crate::base::environment::Environment;
use crate::base::error::Result;
use crate::journal::due::Patience;
use crate::layout::paths::Home;

/// A healthy watcher beats once per poll; so many missing in a row are no accident.
const STUCK_AFTER_POLLS: u32 = 3;
/// What a busy machine may add to that, however short the poll is.
const STUCK_AFTER_BESIDES: Duration = Duration::from_secs(15);

impl Settings {
    /// Loads what counts for a home: its settings file, if it has one, over the defaults, under the environment,
    /// under the flags.
    ///
    /// # Errors
    /// The first thing that is wrong, with its file and line, variable or flag. A missing file is fine.
    pub fn load(home: &Home, overrides: &Overrides, environment: &Environment) -> Result<Loaded> {
        Self::load_by(home, overrides, environment, Reading::Strict)
    }

    /// As [`Settings::load`], with variables that are read in this way.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn load_by(home: &Home, overrides: &Overrides, environment: &Environment, reading: Reading) -> Result<Loaded> {
        let path = home.settings_file();
        let mut loaded = Loaded::of_defaults()?;
        if let Some(text) = file::read(&path)? {
            file::apply(&text, &path, &mut loaded)?;
        }
        loaded.apply_environment(environment, reading)?;
        loaded.apply_flags(overrides)?;
        if reading == Reading::AsScripts {
            loaded.keep_to_cap();
        }
        loaded.derive()?;
        Ok(loaded)
    }

    /// How long a living watcher may show no beat before it counts as stuck.
    pub fn stuck_after(&self) -> Duration {
        self.explicit_stuck_after.unwrap_or(self.poll * STUCK_AFTER_POLLS + STUCK_AFTER_BESIDES)
    }

    /// How long shown and batched wakes may wait.
    pub fn patience(&self) -> Patience {
        Patience { redeliver_after: self.redeliver_after, batch_after: self.batch_after }
    }

    /// How long this notifier may take.
    pub fn timeout_of(&self, notify: &Notify) -> Duration {
        notify.timeout.unwrap_or(self.notify_timeout)
    }

    /// The daemon of a name.
    ///
    /// # Errors
    /// There is none; then the name that was probably meant, if one is like it.
    pub fn daemon(&self, name: &Name) -> std::result::Result<&Daemon, Option<&Name>> {
        let named = |wanted: &str| self.daemons.iter().find(|daemon| daemon.name.as_str() == wanted);
        named(name.as_str()).ok_or_else(|| {
            let near = nearest(name.as_str(), self.daemons.iter().map(|daemon| daemon.name.as_str()))?;
            named(near).map(|daemon| &daemon.name)
        })
    }
}

impl Daemon {
    /// The whole definition in a home, under these settings.
    pub fn definition(&self, home: &Path, settings: &Settings) -> Definition {
        let defaults = &settings.daemon_defaults;
        let max_restarts = self.max_restarts.unwrap_or(defaults.max_restarts);
        Definition {
            command: self.command.clone(),
            cwd: home.join(self.cwd.as_deref().unwrap_or(Path::new(""))),
            env: self.env.clone(),
            ready: match self.ready.clone().unwrap_or(Ready::Delay(defaults.ready_delay)) {
                Ready::Socket { path, exchange } => Ready::Socket { path: home.join(path), exchange },
                Ready::Pidfile(path) => Ready::Pidfile(home.join(path)),
                other => other,
            },
            ready_timeout: self.ready_timeout.unwrap_or(defaults.ready_timeout),
            restart: self.restart,
            backoff: self.backoff.unwrap_or(defaults.backoff),
            backoff_max: self.backoff_max.unwrap_or(defaults.backoff_max),
            brake: Brake {
                max_restarts: u32::try_from(max_restarts).unwrap_or(u32::MAX),
                window: self.restart_window.unwrap_or(defaults.restart_window),
            },
            stop_signal: self.stop_signal,
            stop_grace: self.stop_grace.unwrap_or(defaults.stop_grace),
            log_max: self.log_max.unwrap_or(defaults.log_max),
        }
    }
}
