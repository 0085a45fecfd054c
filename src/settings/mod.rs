//! Every knob: typed, checked, and with the origin of its value.
//!
//! # Theory of operation
//!
//! Four layers are laid over each other, the weakest first: the defaults that are compiled in from
//! `config/fm-watch.toml`, the home's own file of that name, the `FM_*` variables, and the flags `--set KEY=VALUE`. One
//! table (`key::KEYS`) says for each key what it may be and which field it fills; every layer goes through it, so a
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

mod daemons;
mod defaults;
mod file;
mod key;
mod nearest;
mod origin;
mod overrides;
mod patterns;
mod program;
mod tables;
mod value;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::Level;

pub use self::daemons::{Daemon, DaemonDefaults};
pub use self::defaults::TEXT as DEFAULTS;
pub use self::origin::Origin;
pub use self::overrides::Overrides;
pub use self::patterns::Patterns;
pub use self::program::check_program;
pub use self::tables::{Notify, Rule};
pub use self::value::Value;
pub(crate) use self::value::{quoted, quoted_list};

use self::key::{KEYS, Key};
use self::value::Raw;
use crate::base::environment::Environment;
use crate::base::error::{Error, Result};
use crate::home::paths::Home;

/// A healthy watcher beats once per poll; so many missing in a row are no accident.
const STUCK_AFTER_POLLS: u32 = 3;
/// What a busy machine may add to that, however short the poll is.
const STUCK_AFTER_BESIDES: Duration = Duration::from_secs(15);

/// What a hook does about a home that has work and no watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Start one, unless a person stopped the last one.
    Start,
    /// Say so, and start nothing.
    Tell,
}

impl Repair {
    /// Its word in the settings.
    pub fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Tell => "tell",
        }
    }
}

/// The value of every knob. What each one is for stands in `config/fm-watch.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The rest between two looks at everything.
    pub poll: Duration,
    /// The linger after the first signal.
    pub signal_grace: Duration,
    /// The time between two runs of a check.
    pub check_interval: Duration,
    /// The time that one check may take.
    pub check_timeout: Duration,
    /// The number of checks that run at the same time; at least one.
    pub checks_at_once: usize,
    /// The quiet before the first heartbeat.
    pub heartbeat: Duration,
    /// The cap of the doubled heartbeat; never below `heartbeat`.
    pub heartbeat_max: Duration,
    /// What somebody set; [`Settings::stuck_after`] is what counts.
    pub explicit_stuck_after: Option<Duration>,
    /// The time that `arm` waits for the watcher's own word.
    pub arm_timeout: Duration,
    /// The time between asking a watcher to leave and killing it.
    pub stop_grace: Duration,
    /// When a presented wake that nobody acknowledged is due again.
    pub redeliver_after: Duration,
    /// When a batched wake goes out at the latest.
    pub batch_after: Duration,
    /// Bytes of context in one wake.
    pub context_max: u64,
    /// What a busy pane shows; [`Loaded::compile`] makes a regular expression of it.
    pub busy_regex: String,
    /// Bytes of the journal.
    pub journal_max: u64,
    /// Bytes of the watcher's log.
    pub log_max: u64,
    /// Bytes of the list of lives.
    pub history_max: u64,
    /// What the log tells.
    pub log_level: Level,
    /// The time that a notifier without a timeout of its own may take.
    pub notify_timeout: Duration,
    /// Where the lock goes when the home's file system cannot be trusted with it; absolute.
    pub runtime_dir: Option<PathBuf>,
    /// Names of variables that children get besides the fixed list.
    pub pass: Vec<String>,
    /// What a hook does about a home that has work and no watcher.
    pub repair: Repair,
    /// Whether a firstmate home's watcher stays when a wake ends the script that waits for it.
    pub resident: bool,
    /// How old the last beat of a firstmate home may be, if nobody set `stuck_after`.
    pub fleet_grace: Duration,
    /// For how long a lock of the scripts without a pid counts as being taken.
    pub fleet_lock_stale_after: Duration,
    /// How wakes reach the waiters; the first match decides.
    pub rules: Vec<Rule>,
    /// Programs that are told about wakes.
    pub notify: Vec<Notify>,
    /// What every daemon has that does not say otherwise.
    pub daemon_defaults: DaemonDefaults,
    /// The daemons, in the order of the file, which is the order in which they are started.
    pub daemons: Vec<Daemon>,
}

/// How variables are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// What is out of bounds is an error.
    Strict,
    /// As firstmate's scripts, which take any number: the nearest time that is possible counts, so `FM_POLL=0` is as often
    /// as can be. What is no number is an error here, too, as in the end it is to them.
    AsScripts,
}

/// A duration in a flag: plain seconds, or with a unit.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub fn parse_duration(text: &str) -> std::result::Result<Duration, String> {
    const A_YEAR: Duration = Duration::from_secs(366 * 86_400);
    value::duration(&Raw::Words(text), Duration::ZERO, A_YEAR)
        .map_err(|fault| format!("{}; allowed: {}", fault.problem, fault.allowed))
}

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
        for (key, text) in overrides.pairs() {
            loaded.set(key, &Raw::Words(text), Origin::Flag(key.name))?;
        }
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

    /// How long this notifier may take.
    pub fn timeout_of(&self, notify: &Notify) -> Duration {
        notify.timeout.unwrap_or(self.notify_timeout)
    }

    /// Where loading starts. No value in it counts: the defaults fill every field that is not optional.
    fn blank() -> Self {
        Self {
            poll: Duration::ZERO,
            signal_grace: Duration::ZERO,
            check_interval: Duration::ZERO,
            check_timeout: Duration::ZERO,
            checks_at_once: 0,
            heartbeat: Duration::ZERO,
            heartbeat_max: Duration::ZERO,
            explicit_stuck_after: None,
            arm_timeout: Duration::ZERO,
            stop_grace: Duration::ZERO,
            redeliver_after: Duration::ZERO,
            batch_after: Duration::ZERO,
            context_max: 0,
            busy_regex: String::new(),
            journal_max: 0,
            log_max: 0,
            history_max: 0,
            log_level: Level::INFO,
            notify_timeout: Duration::ZERO,
            runtime_dir: None,
            pass: Vec::new(),
            repair: Repair::Tell,
            resident: false,
            fleet_grace: Duration::ZERO,
            fleet_lock_stale_after: Duration::ZERO,
            rules: Vec::new(),
            notify: Vec::new(),
            daemon_defaults: DaemonDefaults::blank(),
            daemons: Vec::new(),
        }
    }
}

/// One key with its value and where that came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key; those of a table have its name as prefix.
    pub key: &'static str,
    /// What counts; `None` for an optional key that nobody set and that has nothing to follow.
    pub value: Option<Value>,
    /// Where it came from.
    pub origin: Origin,
}

/// Settings with the origin of each value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The values.
    pub settings: Settings,
    /// One for each of [`KEYS`], in its order.
    entries: Vec<Entry>,
}

impl Loaded {
    pub(crate) fn of_defaults() -> Result<Self> {
        let entries = KEYS.iter().map(|key| Entry { key: key.name, value: None, origin: Origin::Default }).collect();
        let mut loaded = Self { settings: Settings::blank(), entries };
        defaults::apply(&mut loaded)?;
        match KEYS.iter().zip(&loaded.entries).find(|(key, entry)| entry.value.is_none() && !key.slot.is_optional()) {
            Some((key, _)) => Err(Error::Failed(format!("the compiled-in settings lack {}", key.name))),
            None => Ok(loaded),
        }
    }

    fn apply_environment(&mut self, environment: &Environment, reading: Reading) -> Result<()> {
        for key in &KEYS {
            let Some(name) = key.variable else { continue };
            let nearest = match reading {
                Reading::Strict => None,
                Reading::AsScripts => environment.text(name).and_then(|text| key.nearest_time(text)),
            };
            if let Some(nearest) = nearest {
                self.set(key, &Raw::Words(&nearest.to_string()), Origin::Variable(name))?;
                continue;
            }
            match (environment.text(name), environment.path(name)) {
                (Some(text), _) => self.set(key, &Raw::Words(text), Origin::Variable(name))?,
                (None, Some(_)) => {
                    return Err(Origin::Variable(name).error("the value is not UTF-8 text", key.slot.allowed()));
                }
                (None, None) => {}
            }
        }
        Ok(())
    }

    /// The scripts back off to the cap, and to nothing above it, whatever the base is.
    fn keep_to_cap(&mut self) {
        if self.settings.heartbeat > self.settings.heartbeat_max {
            self.settings.heartbeat = self.settings.heartbeat_max;
            self.record("heartbeat", Value::Duration(self.settings.heartbeat), Origin::Derived("heartbeat_max"));
        }
    }

    /// The one way in which a value becomes a setting.
    fn set(&mut self, key: &Key, raw: &Raw<'_>, origin: Origin) -> Result<()> {
        match key.slot.fill(&mut self.settings, raw) {
            Ok(value) => {
                self.record(key.name, value, origin);
                Ok(())
            }
            Err(fault) => Err(origin.error(format!("{}: {}", key.name, fault.problem), fault.allowed)),
        }
    }

    fn record(&mut self, key: &str, value: Value, origin: Origin) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.key == key) {
            *entry = Entry { key: entry.key, value: Some(value), origin };
        }
    }

    /// Fills in what follows from other values, and refuses what contradicts itself.
    fn derive(&mut self) -> Result<()> {
        let settings = &mut self.settings;
        if settings.explicit_stuck_after.is_none() {
            let value = Value::Duration(settings.stuck_after());
            self.record("stuck_after", value, Origin::Derived("poll"));
        }
        if self.settings.heartbeat_max >= self.settings.heartbeat {
            return Ok(());
        }
        let heartbeat = self.settings.heartbeat;
        match self.origin("heartbeat_max") {
            // Who set only the base never heard of a cap, and means the base.
            Origin::Default => {
                self.settings.heartbeat_max = heartbeat;
                self.record("heartbeat_max", Value::Duration(heartbeat), Origin::Derived("heartbeat"));
                Ok(())
            }
            origin => {
                let cap = humantime::format_duration(self.settings.heartbeat_max);
                let base = humantime::format_duration(heartbeat);
                let other = self.origin("heartbeat");
                let problem = format!("heartbeat_max is {cap}, below heartbeat, which is {base} ({other})");
                Err(origin.error(problem, format!("a duration of at least {base}")))
            }
        }
    }

    /// Where the value of a key came from.
    pub fn origin(&self, key: &str) -> Origin {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        entry.map_or(Origin::Default, |entry| entry.origin.clone())
    }

    /// Every key with its value and origin, in the order of `config/fm-watch.toml`.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The flags that give another process the values that came from the environment or from flags. Values from
    /// the home's file are left out, so that a process that reads that file again sees what was changed in it.
    pub fn explicit_flags(&self) -> Vec<String> {
        let is_explicit = |entry: &&Entry| matches!(entry.origin, Origin::Variable(_) | Origin::Flag(_));
        let explicit = self.entries.iter().filter(is_explicit);
        explicit
            .filter_map(|entry| Some(["--set".to_owned(), format!("{}={}", entry.key, entry.value.as_ref()?)]))
            .flatten()
            .collect()
    }

    /// Compiles every pattern, for a process that is going to match.
    ///
    /// # Errors
    /// The first pattern that is not a regular expression, with where it stands.
    pub fn compile(&self) -> Result<Patterns> {
        Patterns::compile(&self.settings, &self.origin("busy_regex"))
    }
}

/// A path as it may stand in a message.
fn shown(path: &Path) -> String {
    crate::base::escape::line(&path.display().to_string())
}

pub mod daemon_definition;
#[cfg(test)]
mod tests;
