//! The settings with the origin of each value, and how the layers are laid over each other.
//!
//! The defaults come first. Every command reads them at its start, and `guard` may take no longer than a few hundred
//! microseconds in all: a general parser, cold, was measured to take a tenth of that. So the compiled-in file is written
//! plainly (one `key = value` on a line, no escapes) and read line by line. It is valid TOML all the same, and a test holds
//! the two readings against each other; whoever writes a default in a form that is not plain finds out there.
//!
//! The flags `--set KEY=VALUE` ([`Overrides`]) come last.

use super::document::Origin;
use super::key::{self, KEYS, Key, Settings};
use super::patterns::Patterns;
use super::tables::check_program;
use super::value::{Raw, Value};
use crate::base::environment::Environment;
use crate::base::error::{Error, Result};
use crate::base::escape;
use crate::layout::paths::DEFAULT_SETTINGS;

/// How variables are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// What is out of bounds is an error.
    Strict,
    /// As firstmate's scripts, which take any number: the nearest time that is possible counts, so `FM_POLL=0` is as often
    /// as can be. What is no number is an error here, too, as in the end it is to them.
    AsScripts,
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
        loaded.apply_defaults()?;
        match KEYS.iter().zip(&loaded.entries).find(|(key, entry)| entry.value.is_none() && !key.kind.is_optional()) {
            Some((key, _)) => Err(Error::Failed(format!("the compiled-in settings lack {}", key.name))),
            None => Ok(loaded),
        }
    }

    /// What loading cannot afford to look for at every start: patterns that are no regular expressions, programs that may not
    /// run, values that are each in order and make no sense together.
    pub(crate) fn findings(&self) -> Vec<Error> {
        let programs = self.settings.notify.iter().filter_map(|notify| check_program(notify.program()).err());
        self.compile().err().into_iter().chain(programs).chain(self.impatience()).collect()
    }

    /// A watcher beats once per poll: whoever calls it stuck before that calls every watcher stuck.
    fn impatience(&self) -> Option<Error> {
        let (poll, stuck_after) = (self.settings.poll, self.settings.stuck_after());
        let in_words = humantime::format_duration;
        (stuck_after <= poll).then(|| Error::Setting {
            origin: self.origin("stuck_after").to_string(),
            problem: format!(
                "stuck_after is {}, so a healthy watcher looks stuck between two polls",
                in_words(stuck_after)
            ),
            allowed: format!("a duration above poll, which is {} ({})", in_words(poll), self.origin("poll")),
        })
    }

    fn apply_defaults(&mut self) -> Result<()> {
        let mut prefix = String::new();
        for line in DEFAULT_SETTINGS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let not_plain = || Error::Failed(format!("the compiled-in settings are not plain: {line}"));
            if let Some(section) = line.strip_prefix('[') {
                prefix = format!("{}.", section.trim_end_matches(']'));
                continue;
            }
            let (name, value) = line.split_once(" = ").ok_or_else(not_plain)?;
            let key = key::find(&format!("{prefix}{name}")).ok_or_else(not_plain)?;
            self.set(key, &Raw::Words(bare(value)), Origin::Default)?;
        }
        Ok(())
    }

    /// Lays the variables over what was loaded so far.
    pub(super) fn apply_environment(&mut self, environment: &Environment, reading: Reading) -> Result<()> {
        for key in KEYS {
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
                    return Err(Origin::Variable(name).error("the value is not UTF-8 text", key.kind.allowed()));
                }
                (None, None) => {}
            }
        }
        Ok(())
    }

    /// The scripts back off to the cap, and to nothing above it, whatever the base is.
    pub(super) fn keep_to_cap(&mut self) {
        if self.settings.heartbeat > self.settings.heartbeat_max {
            self.settings.heartbeat = self.settings.heartbeat_max;
            self.record("heartbeat", Value::Duration(self.settings.heartbeat), Origin::Derived("heartbeat_max"));
        }
    }

    /// Lays the flags over what was loaded so far.
    pub(super) fn apply_flags(&mut self, overrides: &Overrides) -> Result<()> {
        overrides.pairs().try_for_each(|(key, text)| self.set(key, &Raw::Words(text), Origin::Flag(key.name)))
    }

    /// The one way in which a value becomes a setting. On an error the field keeps what it had.
    pub(super) fn set(&mut self, key: &Key, raw: &Raw<'_>, origin: Origin) -> Result<()> {
        match key.kind.read(raw) {
            Ok(value) => {
                (key.store)(&mut self.settings, &value);
                self.record(key.name, value, origin);
                Ok(())
            }
            Err(problem) => Err(origin.error(format!("{}: {problem}", key.name), key.kind.allowed())),
        }
    }

    fn record(&mut self, key: &str, value: Value, origin: Origin) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.key == key) {
            *entry = Entry { key: entry.key, value: Some(value), origin };
        }
    }

    /// Fills in what follows from other values, and refuses what contradicts itself.
    pub(super) fn derive(&mut self) -> Result<()> {
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

/// What stands inside the quotes or brackets of a plain value.
fn bare(value: &str) -> &str {
    let inside = |open, close| value.strip_prefix(open)?.strip_suffix(close);
    inside('"', '"').or_else(|| inside('\'', '\'')).or_else(|| inside('[', ']')).unwrap_or(value)
}

/// What the command line sets. A later flag for a key replaces an earlier one.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    pairs: Vec<(&'static Key, String)>,
}

impl Overrides {
    /// Reads the values of all `--set` flags. Durations may be plain seconds, sizes plain bytes, and a list is
    /// separated by commas.
    ///
    /// # Errors
    /// An argument without `=`, and a key that does not exist. The values are checked when settings are loaded.
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let pairs = arguments.iter().map(|argument| pair(argument)).collect::<Result<_>>()?;
        Ok(Self { pairs })
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = (&'static Key, &str)> {
        self.pairs.iter().map(|(key, text)| (*key, text.as_str()))
    }
}

fn pair(argument: &str) -> Result<(&'static Key, String)> {
    let at_flag = |problem: &str, allowed: String| Error::Setting {
        origin: format!("--set {}", escape::line(argument)),
        problem: problem.to_owned(),
        allowed,
    };
    let Some((name, text)) = argument.split_once('=') else {
        return Err(at_flag("there is no `=`", "KEY=VALUE, such as poll=5s".to_owned()));
    };
    match key::find(name.trim()) {
        Some(key) if text.is_empty() => Err(Origin::Flag(key.name).error("the value is empty", key.kind.allowed())),
        Some(key) => Ok((key, text.to_owned())),
        None if key::TABLES.contains(&name.trim()) => {
            Err(at_flag("this is a table", "single keys; tables stand in the settings file of the home".to_owned()))
        }
        None => Err(at_flag("there is no such key", key::instead_of(name.trim()))),
    }
}
