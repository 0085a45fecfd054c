//! Every key: what it may be, which variable sets it, and which field it fills, in one table.
//!
//! All that is known of a key follows from its line in the table: the fields of [`Settings`], parsing and its messages, the
//! variables that are looked at, `config show`, the flags of another process, and the tests that hold the documented
//! defaults against it. To add a key, add its line here and its default with the reason in `config/fm-watch.toml`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::Level;

use super::daemons::Daemon;
use super::document::nearest;
use super::tables::{Notify, Rule};
use super::value::{self, Bounds, DAEMON_TIMES, DAY, INSTANT, NOTIFY_TIMEOUT, Problem, Raw, Value};
use crate::base::environment::NOT_FOR_CHILDREN;

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

/// One key of the settings.
#[derive(Debug)]
pub(super) struct Key {
    /// Its name, with the name of its table as prefix.
    pub(super) name: &'static str,
    /// The environment variable that sets it, too.
    pub(super) variable: Option<&'static str>,
    /// What it may be.
    pub(super) kind: Kind,
    /// Puts a value of this kind into its field.
    pub(super) store: fn(&mut Settings, &Value),
}

/// What a value may be. Bounds are inclusive.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// A time.
    Time(Bounds<Duration>),
    /// A time that follows from others when it is not set.
    OptionalTime(Bounds<Duration>),
    /// A size in bytes.
    Size(Bounds<u64>),
    /// A number.
    Count(Bounds<usize>),
    /// A regular expression, which is not compiled here.
    Pattern,
    /// How much is logged.
    Level,
    /// A directory, if any.
    Directory,
    /// Whether something is so.
    Switch,
    /// What a hook may do about a home without a watcher.
    Repair,
    /// Names of environment variables.
    Names,
}

/// As good as never, and still far from where sums of times overflow. People write 999999 seconds for "never".
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;

/// A type of a field: what is in it before the defaults are, and how it takes a value of its kind.
trait Field {
    const BLANK: Self;
    fn take(&mut self, value: &Value);
}

/// Which value a field of which type takes: `type, blank, pattern => content`.
macro_rules! fields {
    ($($type:ty, $blank:expr, $value:pat => $content:expr;)*) => {$(
        impl Field for $type {
            const BLANK: Self = $blank;
            fn take(&mut self, value: &Value) {
                if let $value = value {
                    *self = $content;
                }
            }
        }
    )*};
}

fields! {
    Duration, Duration::ZERO, Value::Duration(time) => *time;
    Option<Duration>, None, Value::Duration(time) => Some(*time);
    u64, 0, Value::Bytes(size) => *size;
    usize, 0, Value::Count(count) => *count;
    bool, false, Value::Switch(switch) => *switch;
    String, String::new(), Value::Text(text) => text.clone();
    Option<PathBuf>, None, Value::Text(text) => Some(PathBuf::from(text));
    Vec<String>, Vec::new(), Value::Names(names) => names.clone();
    Level, Level::INFO, Value::Text(word) => level(word).unwrap_or(Level::INFO);
    Repair, Repair::Tell, Value::Text(word) => repair(word).unwrap_or(Repair::Tell);
}

/// Makes the structs of settings and [`KEYS`] out of one table: `field: type = key, variable, kind`. Under `besides` are
/// the fields that are filled by tables and not by keys.
macro_rules! settings {
    (
        $(#[$settings_doc:meta])*
        struct $settings:ident { $($(#[$doc:meta])* $field:ident: $type:ty = $key:literal, $variable:expr, $kind:expr;)* }
        besides { $($(#[$table_doc:meta])* $table:ident: $table_type:ty;)* }
        $(#[$section_doc:meta])*
        $section:ident: struct $defaults:ident { $($(#[$inner_doc:meta])* $inner:ident: $inner_type:ty = $inner_key:literal, $inner_kind:expr;)* }
    ) => {
        $(#[$settings_doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $settings {
            $($(#[$doc])* pub $field: $type,)*
            $($(#[$table_doc])* pub $table: $table_type,)*
            $(#[$section_doc])*
            pub $section: $defaults,
        }

        $(#[$section_doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $defaults {
            $($(#[$inner_doc])* pub $inner: $inner_type,)*
        }

        impl $settings {
            /// Where loading starts. No value in it counts: the defaults fill every field that is not optional.
            pub(super) fn blank() -> Self {
                Self {
                    $($field: Field::BLANK,)*
                    $($table: Vec::new(),)*
                    $section: $defaults { $($inner: Field::BLANK,)* },
                }
            }
        }

        /// Every key, in the order of `config/fm-watch.toml`.
        pub(super) static KEYS: &[Key] = &[
            $(Key {
                name: $key,
                variable: $variable,
                kind: $kind,
                store: |settings, value| Field::take(&mut settings.$field, value),
            },)*
            $(Key {
                name: $inner_key,
                variable: None,
                kind: $inner_kind,
                store: |settings, value| Field::take(&mut settings.$section.$inner, value),
            },)*
        ];
    };
}

/// The variable for how long a check may take.
const CHECK_TIMEOUT: &str = "FM_CHECK_TIMEOUT";

settings! {
    /// The value of every knob. What each one is for stands in `config/fm-watch.toml`.
    struct Settings {
        /// The rest between two looks at everything.
        poll: Duration = "poll", Some("FM_POLL"), Kind::Time((INSTANT, DAY));
        /// The linger after the first signal.
        signal_grace: Duration = "signal_grace", Some("FM_SIGNAL_GRACE"), Kind::Time((Duration::ZERO, DAY));
        /// The time between two runs of a check.
        check_interval: Duration = "check_interval", Some("FM_CHECK_INTERVAL"), Kind::Time((INSTANT, YEAR));
        /// The time that one check may take.
        check_timeout: Duration = "check_timeout", Some(CHECK_TIMEOUT), Kind::Time((INSTANT, DAY));
        /// The number of checks that run at the same time; at least one.
        checks_at_once: usize = "checks_at_once", None, Kind::Count((1, 256));
        /// The quiet before the first heartbeat.
        heartbeat: Duration = "heartbeat", Some("FM_HEARTBEAT"), Kind::Time((INSTANT, YEAR));
        /// The cap of the doubled heartbeat; never below `heartbeat`.
        heartbeat_max: Duration = "heartbeat_max", Some("FM_HEARTBEAT_MAX"), Kind::Time((INSTANT, YEAR));
        /// What somebody set; [`Settings::stuck_after`] is what counts.
        explicit_stuck_after: Option<Duration> = "stuck_after", Some("FM_GUARD_GRACE"), Kind::OptionalTime((INSTANT, YEAR));
        /// The time that `arm` waits for the watcher's own word.
        arm_timeout: Duration = "arm_timeout", Some("FM_ARM_CONFIRM_TIMEOUT"), Kind::Time((INSTANT, DAY));
        /// The time between asking a watcher to leave and killing it.
        stop_grace: Duration = "stop_grace", None, Kind::Time((Duration::ZERO, DAY));
        /// When a presented wake that nobody acknowledged is due again.
        redeliver_after: Duration = "redeliver_after", None, Kind::Time((INSTANT, YEAR));
        /// When a batched wake goes out at the latest.
        batch_after: Duration = "batch_after", None, Kind::Time((Duration::ZERO, YEAR));
        /// Bytes of context in one wake.
        context_max: u64 = "context_max", None, Kind::Size((0, KIB * KIB));
        /// What a busy pane shows; [`super::Loaded::compile`] makes a regular expression of it.
        busy_regex: String = "busy_regex", Some("FM_BUSY_REGEX"), Kind::Pattern;
        /// Bytes of the journal.
        journal_max: u64 = "journal_max", None, Kind::Size((4 * KIB, KIB * GIB));
        /// Bytes of the watcher's log.
        log_max: u64 = "log_max", None, Kind::Size((4 * KIB, GIB));
        /// Bytes of the list of lives.
        history_max: u64 = "history_max", None, Kind::Size((4 * KIB, GIB));
        /// What the log tells.
        log_level: Level = "log_level", None, Kind::Level;
        /// The time that a notifier without a timeout of its own may take.
        notify_timeout: Duration = "notify_timeout", None, Kind::Time(NOTIFY_TIMEOUT);
        /// Where the lock goes when the home's file system cannot be trusted with it; absolute.
        runtime_dir: Option<PathBuf> = "runtime_dir", None, Kind::Directory;
        /// Names of variables that children get besides the fixed list.
        pass: Vec<String> = "environment.pass", None, Kind::Names;
        /// What a hook does about a home that has work and no watcher.
        repair: Repair = "hooks.repair", None, Kind::Repair;
        /// Whether a firstmate home's watcher stays when a wake ends the script that waits for it.
        resident: bool = "firstmate.resident", None, Kind::Switch;
        /// How old the last beat of a firstmate home may be, if nobody set `stuck_after`.
        fleet_grace: Duration = "firstmate.grace", None, Kind::Time((INSTANT, YEAR));
        /// For how long a lock of the scripts without a pid counts as being taken.
        fleet_lock_stale_after: Duration = "firstmate.lock_stale_after", Some("FM_LOCK_STALE_AFTER"), Kind::Time((Duration::ZERO, YEAR));
    }
    besides {
        /// How wakes reach the waiters; the first match decides.
        rules: Vec<Rule>;
        /// Programs that are told about wakes.
        notify: Vec<Notify>;
        /// The daemons, in the order of the file, which is the order in which they are started.
        daemons: Vec<Daemon>;
    }
    /// What every daemon has that does not say otherwise: the section `[daemons]`.
    daemon_defaults: struct DaemonDefaults {
        /// How long a daemon without a `ready` must have lived to count as ready.
        ready_delay: Duration = "daemons.ready_delay", Kind::Time(DAEMON_TIMES);
        /// How long it may take to be ready.
        ready_timeout: Duration = "daemons.ready_timeout", Kind::Time(DAEMON_TIMES);
        /// The first pause before a restart.
        backoff: Duration = "daemons.backoff", Kind::Time(DAEMON_TIMES);
        /// The longest one.
        backoff_max: Duration = "daemons.backoff_max", Kind::Time(DAEMON_TIMES);
        /// So many restarts ...
        max_restarts: usize = "daemons.max_restarts", Kind::Count((1, 1000));
        /// ... within this time are too many.
        restart_window: Duration = "daemons.restart_window", Kind::Time(DAEMON_TIMES);
        /// How long it may take to leave.
        stop_grace: Duration = "daemons.stop_grace", Kind::Time(DAEMON_TIMES);
        /// The most bytes of each of its log files.
        log_max: u64 = "daemons.log_max", Kind::Size((4 * KIB, GIB));
    }
}

/// The tables that hold single keys: their names are prefixes in [`KEYS`].
pub(super) const SECTIONS: [&str; 4] = ["environment", "hooks", "firstmate", "daemons"];
/// The tables of which there may be any number.
pub(super) const TABLES: [&str; 3] = ["rule", "notify", "daemon"];

/// The key of that name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// What to say is allowed instead of a name that is no key.
pub(super) fn instead_of(name: &str) -> String {
    let names = KEYS.iter().map(|key| key.name).chain(SECTIONS).chain(TABLES);
    let last_part = name.rsplit('.').next().unwrap_or(name);
    match nearest(name, names) {
        _ if name != last_part && find(last_part).is_some() => {
            format!("`{last_part}` above the first [table] of the file")
        }
        Some(near) => format!("`{near}` is the nearest key; `fm-watch config show` lists all"),
        None => "the keys that `fm-watch config show` lists".to_owned(),
    }
}

impl Key {
    /// What plain seconds mean to firstmate's scripts: the nearest time that is possible here. `None` for anything else.
    pub(super) fn nearest_time(&self, text: &str) -> Option<Value> {
        let (Kind::Time((least, most)) | Kind::OptionalTime((least, most))) = self.kind else { return None };
        let time = value::plain_seconds(text.trim())?.unwrap_or(most);
        // The scripts keep this one by timeout(1), to which zero is no limit.
        let is_unlimited = self.variable == Some(CHECK_TIMEOUT) && time.is_zero();
        Some(Value::Duration(if is_unlimited { most } else { time.clamp(least, most) }))
    }
}

impl Kind {
    /// Whether the defaults may leave it out.
    pub(super) fn is_optional(self) -> bool {
        matches!(self, Self::OptionalTime(_) | Self::Directory)
    }

    /// What a value may be, in words.
    pub(super) fn allowed(self) -> String {
        match self {
            Self::Time(bounds) | Self::OptionalTime(bounds) => value::allowed_duration(bounds),
            Self::Size((least, most)) => {
                format!("a size from {} to {}, such as \"64KiB\"", Value::Bytes(least), Value::Bytes(most))
            }
            Self::Count((least, most)) => format!("a whole number from {least} to {most}"),
            Self::Pattern => "a regular expression that is not empty".to_owned(),
            Self::Level => "one of \"error\", \"warn\", \"info\", \"debug\", \"trace\"".to_owned(),
            Self::Switch => "true or false".to_owned(),
            Self::Repair => "one of \"start\", \"tell\"".to_owned(),
            Self::Directory => "the absolute path of a directory".to_owned(),
            Self::Names => format!("names of environment variables, but none of {}", NOT_FOR_CHILDREN.join(", ")),
        }
    }

    /// Reads a value.
    pub(super) fn read(self, raw: &Raw<'_>) -> Result<Value, Problem> {
        Ok(match self {
            Self::Time(bounds) | Self::OptionalTime(bounds) => Value::Duration(value::duration(raw, bounds)?),
            Self::Size(bounds) => within(value::bytes(raw)?, bounds, Value::Bytes)?,
            Self::Count(bounds) => within(value::count(raw)?, bounds, Value::Count)?,
            Self::Pattern => match value::text(raw)? {
                "" => return Err(Problem::Empty("text")),
                text => Value::Text(text.to_owned()),
            },
            Self::Level => Value::Text(level(value::text(raw)?)?.as_str().to_ascii_lowercase()),
            Self::Switch => Value::Switch(value::switch(raw)?),
            Self::Repair => Value::Text(repair(value::text(raw)?)?.word().to_owned()),
            Self::Directory => Value::Text(absolute(value::text(raw)?)?.to_owned()),
            Self::Names => Value::Names(names_that_may_pass(value::list(raw)?)?),
        })
    }
}

fn within<T: PartialOrd + Copy>(number: T, (least, most): Bounds<T>, value: fn(T) -> Value) -> Result<Value, Problem> {
    let is_within = (least..=most).contains(&number);
    if is_within { Ok(value(number)) } else { Err(Problem::Bounds(value(number).to_string())) }
}

fn level(text: &str) -> Result<Level, Problem> {
    const LEVELS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
    let found = LEVELS.into_iter().find(|level| level.as_str().eq_ignore_ascii_case(text));
    found.ok_or_else(|| Problem::text(text, "is no level"))
}

fn repair(text: &str) -> Result<Repair, Problem> {
    let found = [Repair::Start, Repair::Tell].into_iter().find(|repair| repair.word() == text);
    found.ok_or_else(|| Problem::text(text, "is no such word"))
}

fn absolute(text: &str) -> Result<&str, Problem> {
    match Path::new(text) {
        _ if text.contains('\0') => Err(Problem::Nul("a path")),
        path if path.is_absolute() => Ok(text),
        _ => Err(Problem::text(text, "is not an absolute path")),
    }
}

fn names_that_may_pass(names: Vec<String>) -> Result<Vec<String>, Problem> {
    // A comma is allowed by the system, but such a name could not be told from two on a command line.
    let is_name = |name: &&String| !name.is_empty() && !name.contains(['=', '\0', ',']) && name.trim() == *name;
    let may_pass = |name: &&String| is_name(name) && !NOT_FOR_CHILDREN.contains(&name.as_str());
    match names.iter().find(|name| !may_pass(name)) {
        Some(name) => Err(Problem::text(name, "cannot be passed on")),
        None => Ok(names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_of_every_key_reaches_a_field() {
        for key in KEYS {
            let value = match key.kind {
                Kind::Time(_) | Kind::OptionalTime(_) => Value::Duration(DAY),
                Kind::Size(_) => Value::Bytes(GIB),
                Kind::Count(_) => Value::Count(17),
                Kind::Pattern | Kind::Directory => Value::Text("/x".to_owned()),
                Kind::Level => Value::Text("trace".to_owned()),
                Kind::Switch => Value::Switch(true),
                Kind::Repair => Value::Text("start".to_owned()),
                Kind::Names => Value::Names(vec!["X".to_owned()]),
            };
            let mut settings = Settings::blank();
            (key.store)(&mut settings, &value);
            assert_ne!(settings, Settings::blank(), "{}", key.name);
        }
    }
}
