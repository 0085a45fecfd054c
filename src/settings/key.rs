//! What each key may be, and which field it fills.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::Level;

use super::nearest::nearest;
use super::value::{self, Fault, Raw, Value};
use super::{Repair, Settings};
use crate::base::environment::NOT_FOR_CHILDREN;

/// One key of the settings.
#[derive(Debug)]
pub(super) struct Key {
    /// Its name, with the name of its table as prefix.
    pub(super) name: &'static str,
    /// The environment variable that sets it, too.
    pub(super) variable: Option<&'static str>,
    /// What it may be, and where it goes.
    pub(super) slot: Slot,
}

/// A field of a type.
type Field<T> = fn(&mut Settings) -> &mut T;

/// What a value may be, and the field it goes to. Bounds are inclusive.
#[derive(Debug)]
pub(super) enum Slot {
    /// A time.
    Duration { field: Field<Duration>, least: Duration, most: Duration },
    /// A time that follows from others when it is not set.
    OptionalDuration { field: Field<Option<Duration>>, least: Duration, most: Duration },
    /// A size.
    Bytes { field: Field<u64>, least: u64, most: u64 },
    /// A number.
    Count { field: Field<usize>, least: usize, most: usize },
    /// A regular expression, which is not compiled here.
    Pattern { field: Field<String> },
    /// How much is logged.
    Level { field: Field<Level> },
    /// A directory, if any.
    Directory { field: Field<Option<PathBuf>> },
    /// Whether something is so.
    Switch { field: Field<bool> },
    /// What a hook may do about a home without a watcher.
    Repair { field: Field<Repair> },
    /// Names of environment variables.
    Names { field: Field<Vec<String>> },
}

/// A rest of no time at all would be a loop that never rests; below this, it as good as is one.
const INSTANT: Duration = Duration::from_millis(10);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// As good as never, and still far from where sums of times overflow. People write 999999 seconds for "never".
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// The bounds of `notify_timeout` and of the `timeout` of a `[[notify]]` table.
pub(super) const NOTIFY_TIMEOUT: (Duration, Duration) = (INSTANT, DAY);
/// The bounds of every time of a daemon.
pub(super) const DAEMON_TIMES: (Duration, Duration) = (INSTANT, DAY);
const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;

const fn duration(
    name: &'static str,
    variable: Option<&'static str>,
    least: Duration,
    most: Duration,
    field: Field<Duration>,
) -> Key {
    Key { name, variable, slot: Slot::Duration { field, least, most } }
}

const fn daemon_time(name: &'static str, field: Field<Duration>) -> Key {
    duration(name, None, DAEMON_TIMES.0, DAEMON_TIMES.1, field)
}

const fn bytes(name: &'static str, least: u64, most: u64, field: Field<u64>) -> Key {
    Key { name, variable: None, slot: Slot::Bytes { field, least, most } }
}

/// The variable for how long a check may take.
const CHECK_TIMEOUT: &str = "FM_CHECK_TIMEOUT";

/// Every key, in the order of `config/fm-watch.toml`.
pub(super) static KEYS: [Key; 33] = [
    duration("poll", Some("FM_POLL"), INSTANT, DAY, |settings| &mut settings.poll),
    duration("signal_grace", Some("FM_SIGNAL_GRACE"), Duration::ZERO, DAY, |settings| &mut settings.signal_grace),
    duration("check_interval", Some("FM_CHECK_INTERVAL"), INSTANT, YEAR, |settings| &mut settings.check_interval),
    duration("check_timeout", Some(CHECK_TIMEOUT), INSTANT, DAY, |settings| &mut settings.check_timeout),
    Key {
        name: "checks_at_once",
        variable: None,
        slot: Slot::Count { field: |settings| &mut settings.checks_at_once, least: 1, most: 256 },
    },
    duration("heartbeat", Some("FM_HEARTBEAT"), INSTANT, YEAR, |settings| &mut settings.heartbeat),
    duration("heartbeat_max", Some("FM_HEARTBEAT_MAX"), INSTANT, YEAR, |settings| &mut settings.heartbeat_max),
    Key {
        name: "stuck_after",
        variable: Some("FM_GUARD_GRACE"),
        slot: Slot::OptionalDuration {
            field: |settings| &mut settings.explicit_stuck_after,
            least: INSTANT,
            most: YEAR,
        },
    },
    duration("arm_timeout", Some("FM_ARM_CONFIRM_TIMEOUT"), INSTANT, DAY, |settings| &mut settings.arm_timeout),
    duration("stop_grace", None, Duration::ZERO, DAY, |settings| &mut settings.stop_grace),
    duration("redeliver_after", None, INSTANT, YEAR, |settings| &mut settings.redeliver_after),
    duration("batch_after", None, Duration::ZERO, YEAR, |settings| &mut settings.batch_after),
    bytes("context_max", 0, KIB * KIB, |settings| &mut settings.context_max),
    Key {
        name: "busy_regex",
        variable: Some("FM_BUSY_REGEX"),
        slot: Slot::Pattern { field: |settings| &mut settings.busy_regex },
    },
    bytes("journal_max", 4 * KIB, KIB * GIB, |settings| &mut settings.journal_max),
    bytes("log_max", 4 * KIB, GIB, |settings| &mut settings.log_max),
    bytes("history_max", 4 * KIB, GIB, |settings| &mut settings.history_max),
    Key { name: "log_level", variable: None, slot: Slot::Level { field: |settings| &mut settings.log_level } },
    duration("notify_timeout", None, NOTIFY_TIMEOUT.0, NOTIFY_TIMEOUT.1, |settings| &mut settings.notify_timeout),
    Key { name: "runtime_dir", variable: None, slot: Slot::Directory { field: |settings| &mut settings.runtime_dir } },
    Key { name: "environment.pass", variable: None, slot: Slot::Names { field: |settings| &mut settings.pass } },
    Key { name: "hooks.repair", variable: None, slot: Slot::Repair { field: |settings| &mut settings.repair } },
    Key { name: "firstmate.resident", variable: None, slot: Slot::Switch { field: |settings| &mut settings.resident } },
    duration("firstmate.grace", None, INSTANT, YEAR, |settings| &mut settings.fleet_grace),
    duration("firstmate.lock_stale_after", Some("FM_LOCK_STALE_AFTER"), Duration::ZERO, YEAR, |settings| {
        &mut settings.fleet_lock_stale_after
    }),
    daemon_time("daemons.ready_delay", |settings| &mut settings.daemon_defaults.ready_delay),
    daemon_time("daemons.ready_timeout", |settings| &mut settings.daemon_defaults.ready_timeout),
    daemon_time("daemons.backoff", |settings| &mut settings.daemon_defaults.backoff),
    daemon_time("daemons.backoff_max", |settings| &mut settings.daemon_defaults.backoff_max),
    Key {
        name: "daemons.max_restarts",
        variable: None,
        slot: Slot::Count { field: |settings| &mut settings.daemon_defaults.max_restarts, least: 1, most: 1000 },
    },
    daemon_time("daemons.restart_window", |settings| &mut settings.daemon_defaults.restart_window),
    daemon_time("daemons.stop_grace", |settings| &mut settings.daemon_defaults.stop_grace),
    bytes("daemons.log_max", 4 * KIB, GIB, |settings| &mut settings.daemon_defaults.log_max),
];

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
        let (least, most) = match &self.slot {
            Slot::Duration { least, most, .. } | Slot::OptionalDuration { least, most, .. } => (*least, *most),
            _ => return None,
        };
        let time = value::plain_seconds(text.trim())?.unwrap_or(most);
        // The scripts keep this one by timeout(1), to which zero is no limit.
        let is_unlimited = self.variable == Some(CHECK_TIMEOUT) && time.is_zero();
        Some(Value::Duration(if is_unlimited { most } else { time.clamp(least, most) }))
    }
}

impl Slot {
    /// Whether the defaults may leave it out.
    pub(super) fn is_optional(&self) -> bool {
        matches!(self, Self::OptionalDuration { .. } | Self::Directory { .. })
    }

    /// What a value may be, in words.
    pub(super) fn allowed(&self) -> String {
        match self {
            Self::Duration { least, most, .. } | Self::OptionalDuration { least, most, .. } => {
                value::allowed_duration(*least, *most)
            }
            Self::Bytes { least, most, .. } => {
                format!("a size from {} to {}, such as \"64KiB\"", Value::Bytes(*least), Value::Bytes(*most))
            }
            Self::Count { least, most, .. } => format!("a whole number from {least} to {most}"),
            Self::Pattern { .. } => "a regular expression that is not empty".to_owned(),
            Self::Level { .. } => "one of \"error\", \"warn\", \"info\", \"debug\", \"trace\"".to_owned(),
            Self::Switch { .. } => "true or false".to_owned(),
            Self::Repair { .. } => "one of \"start\", \"tell\"".to_owned(),
            Self::Directory { .. } => "the absolute path of a directory".to_owned(),
            Self::Names { .. } => {
                format!("names of environment variables, but none of {}", NOT_FOR_CHILDREN.join(", "))
            }
        }
    }

    /// Reads a value, puts it into its field and says what it is. On an error the field keeps what it had.
    pub(super) fn fill(&self, settings: &mut Settings, raw: &Raw<'_>) -> Result<Value, Fault> {
        let faulty = |problem: String| Fault { problem, allowed: self.allowed() };
        match self {
            Self::Duration { field, least, most } => {
                let time = value::duration(raw, *least, *most)?;
                *field(settings) = time;
                Ok(Value::Duration(time))
            }
            Self::OptionalDuration { field, least, most } => {
                let time = value::duration(raw, *least, *most)?;
                *field(settings) = Some(time);
                Ok(Value::Duration(time))
            }
            Self::Bytes { field, least, most } => {
                let size = value::bytes(raw).map_err(faulty)?;
                let size = within(size, *least, *most, Value::Bytes).map_err(faulty)?;
                *field(settings) = size;
                Ok(Value::Bytes(size))
            }
            Self::Count { field, least, most } => {
                let count = value::count(raw).map_err(faulty)?;
                let count = within(count, *least, *most, Value::Count).map_err(faulty)?;
                *field(settings) = count;
                Ok(Value::Count(count))
            }
            Self::Pattern { field } => {
                let text = value::text(raw).and_then(not_empty).map_err(faulty)?;
                text.clone_into(field(settings));
                Ok(Value::Text(text.to_owned()))
            }
            Self::Level { field } => {
                let level = value::text(raw).and_then(level).map_err(faulty)?;
                *field(settings) = level;
                Ok(Value::Text(level.as_str().to_ascii_lowercase()))
            }
            Self::Switch { field } => {
                let switch = value::switch(raw).map_err(faulty)?;
                *field(settings) = switch;
                Ok(Value::Switch(switch))
            }
            Self::Repair { field } => {
                let repair = value::text(raw).and_then(repair).map_err(faulty)?;
                *field(settings) = repair;
                Ok(Value::Text(repair.word().to_owned()))
            }
            Self::Directory { field } => {
                let text = value::text(raw).and_then(absolute).map_err(faulty)?;
                *field(settings) = Some(PathBuf::from(text));
                Ok(Value::Text(text.to_owned()))
            }
            Self::Names { field } => {
                let names = value::list(raw).and_then(names_that_may_pass).map_err(faulty)?;
                field(settings).clone_from(&names);
                Ok(Value::Names(names))
            }
        }
    }
}

fn within<T: PartialOrd + Copy>(number: T, least: T, most: T, value: fn(T) -> Value) -> Result<T, String> {
    let is_within = (least..=most).contains(&number);
    if is_within { Ok(number) } else { Err(format!("{} is out of bounds", value(number))) }
}

fn not_empty(text: &str) -> Result<&str, String> {
    if text.is_empty() { Err("the text is empty".to_owned()) } else { Ok(text) }
}

fn level(text: &str) -> Result<Level, String> {
    const LEVELS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
    let found = LEVELS.into_iter().find(|level| level.as_str().eq_ignore_ascii_case(text));
    found.ok_or_else(|| format!("{} is no level", value::quoted(text)))
}

fn repair(text: &str) -> Result<Repair, String> {
    let found = [Repair::Start, Repair::Tell].into_iter().find(|repair| repair.word() == text);
    found.ok_or_else(|| format!("{} is no such word", value::quoted(text)))
}

fn absolute(text: &str) -> Result<&str, String> {
    match Path::new(text) {
        _ if text.contains('\0') => Err("a path cannot hold a NUL".to_owned()),
        path if path.is_absolute() => Ok(text),
        _ => Err(format!("{} is not an absolute path", value::quoted(text))),
    }
}

fn names_that_may_pass(names: Vec<String>) -> Result<Vec<String>, String> {
    // A comma is allowed by the system, but such a name could not be told from two on a command line.
    let is_name = |name: &&String| !name.is_empty() && !name.contains(['=', '\0', ',']) && name.trim() == *name;
    let may_pass = |name: &&String| is_name(name) && !NOT_FOR_CHILDREN.contains(&name.as_str());
    match names.iter().find(|name| !may_pass(name)) {
        Some(name) => Err(format!("{} cannot be passed on", value::quoted(name))),
        None => Ok(names),
    }
}
