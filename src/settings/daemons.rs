//! The tables `[daemon.<name>]`: one daemon each.
//!
//! What a table leaves out comes from the section `[daemons]`. Relative paths are relative to the home, so that a home
//! can be moved; programs are named by an absolute path or by a name that is looked up in the daemon's own `PATH`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::daemon_definition::{Brake, Definition, Exchange, Name, Ready, Restart, StopSignal};
use super::file::{self, Document};
use super::key;
use super::nearest::nearest;
use super::value::{self, Raw};
use super::{Origin, Settings};
use crate::base::error::Result;

/// What a table says. Fields that it leaves out are `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// Its name.
    pub name: Name,
    /// The program and its arguments; never empty.
    pub command: Vec<String>,
    /// Its working directory.
    pub cwd: Option<PathBuf>,
    /// Variables that it gets besides.
    pub env: BTreeMap<String, String>,
    /// How it says that it is ready.
    pub ready: Option<Ready>,
    /// How long it may take to be ready.
    pub ready_timeout: Option<Duration>,
    /// When it is started again.
    pub restart: Restart,
    /// The first pause before a restart.
    pub backoff: Option<Duration>,
    /// The longest one.
    pub backoff_max: Option<Duration>,
    /// So many restarts ...
    pub max_restarts: Option<usize>,
    /// ... within this time are too many.
    pub restart_window: Option<Duration>,
    /// The signal that asks it to leave.
    pub stop_signal: StopSignal,
    /// How long it may take to leave.
    pub stop_grace: Option<Duration>,
    /// The most bytes of each of its log files.
    pub log_max: Option<u64>,
    /// Where the table stands.
    pub origin: Origin,
}

/// What every daemon has that does not say otherwise: the section `[daemons]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonDefaults {
    /// How long a daemon without a `ready` must have lived to count as ready.
    pub ready_delay: Duration,
    /// How long it may take to be ready.
    pub ready_timeout: Duration,
    /// The first pause before a restart.
    pub backoff: Duration,
    /// The longest one.
    pub backoff_max: Duration,
    /// So many restarts ...
    pub max_restarts: usize,
    /// ... within this time are too many.
    pub restart_window: Duration,
    /// How long it may take to leave.
    pub stop_grace: Duration,
    /// The most bytes of each of its log files.
    pub log_max: u64,
}

impl DaemonDefaults {
    /// Where loading starts; no value in it counts.
    pub(super) fn blank() -> Self {
        Self {
            ready_delay: Duration::ZERO,
            ready_timeout: Duration::ZERO,
            backoff: Duration::ZERO,
            backoff_max: Duration::ZERO,
            max_restarts: 0,
            restart_window: Duration::ZERO,
            stop_grace: Duration::ZERO,
            log_max: 0,
        }
    }
}

impl Daemon {
    /// A daemon of which only the command is said.
    pub fn of_command(name: Name, command: Vec<String>, origin: Origin) -> Self {
        Self {
            name,
            command,
            cwd: None,
            env: BTreeMap::new(),
            ready: None,
            ready_timeout: None,
            restart: Restart::No,
            backoff: None,
            backoff_max: None,
            max_restarts: None,
            restart_window: None,
            stop_signal: StopSignal::Term,
            stop_grace: None,
            log_max: None,
            origin,
        }
    }

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

impl Settings {
    /// The daemon of a name.
    ///
    /// # Errors
    /// There is none; then the name that was probably meant, if one is like it.
    pub fn daemon(&self, name: &Name) -> Result<&Daemon, Option<&Name>> {
        let named = |wanted: &str| self.daemons.iter().find(|daemon| daemon.name.as_str() == wanted);
        named(name.as_str()).ok_or_else(|| {
            let near = nearest(name.as_str(), self.daemons.iter().map(|daemon| daemon.name.as_str()))?;
            named(near).map(|daemon| &daemon.name)
        })
    }
}

const KNOWN: [&str; 13] = [
    "command",
    "cwd",
    "env",
    "ready",
    "ready_timeout",
    "restart",
    "backoff",
    "backoff_max",
    "max_restarts",
    "restart_window",
    "stop_signal",
    "stop_grace",
    "log_max",
];

/// Reads all tables `[daemon.<name>]`.
pub(super) fn daemons(document: &Document<'_>, value: &Spanned<DeValue<'_>>) -> Result<Vec<Daemon>> {
    let DeValue::Table(tables) = value.get_ref() else {
        let origin = document.origin_of(&value.span());
        return Err(origin.error("daemon: this is not a table of tables", "tables that start with [daemon.NAME]"));
    };
    file::in_order(tables)
        .into_iter()
        .map(|(name, table)| daemon(document, name.get_ref(), name.span(), table))
        .collect()
}

fn daemon(
    document: &Document<'_>,
    name: &str,
    span: std::ops::Range<usize>,
    value: &Spanned<DeValue<'_>>,
) -> Result<Daemon> {
    let origin = document.origin_of(&span);
    let name = Name::new(name).map_err(|problem| origin.error(problem, "[daemon.NAME]"))?;
    let DeValue::Table(table) = value.get_ref() else {
        return Err(origin.error(format!("daemon.{name}: this is not a table"), format!("the table [daemon.{name}]")));
    };
    let mut daemon = Daemon::of_command(name, Vec::new(), origin.clone());
    for (key, value) in file::in_order(table) {
        let at = Place { daemon: daemon.name.clone(), key: key.get_ref(), origin: document.origin_of(&key.span()) };
        at.read_into(&mut daemon, value.get_ref())?;
    }
    if daemon.command.is_empty() {
        return Err(origin.error(format!("daemon.{} has no `command`", daemon.name), COMMAND));
    }
    Ok(daemon)
}

const COMMAND: &str = "a list of texts: the program, by absolute path or by name, and its arguments";
const READY: &str = "one of { socket = \"PATH\" } (with request = \"...\" and answer = \"...\"), { pidfile = \"PATH\" }, \
                     { fd = true }, { notify = true }, { log = \"REGEX\" }, { delay = \"1s\" }";

/// One value in a table, for its errors.
struct Place<'a> {
    daemon: Name,
    key: &'a str,
    origin: Origin,
}

impl Place<'_> {
    fn read_into(&self, daemon: &mut Daemon, value: &DeValue<'_>) -> Result<()> {
        let raw = Raw::Toml(value);
        match self.key {
            "command" => daemon.command = self.checked(COMMAND, command(&raw))?,
            "cwd" => daemon.cwd = Some(self.checked("the path of a directory", path(&raw))?),
            "env" => daemon.env = self.checked("a table of texts", variables(value))?,
            "ready" => daemon.ready = Some(self.checked(READY, ready(value))?),
            "restart" => {
                daemon.restart = self.checked("\"no\", \"on-failure\" or \"always\"", restart(&raw))?;
            }
            "stop_signal" => {
                let allowed = "\"TERM\", \"INT\", \"QUIT\", \"HUP\", \"USR1\" or \"USR2\"";
                daemon.stop_signal = self.checked(allowed, stop_signal(&raw))?;
            }
            "ready_timeout" => daemon.ready_timeout = Some(self.duration(&raw)?),
            "backoff" => daemon.backoff = Some(self.duration(&raw)?),
            "backoff_max" => daemon.backoff_max = Some(self.duration(&raw)?),
            "restart_window" => daemon.restart_window = Some(self.duration(&raw)?),
            "stop_grace" => daemon.stop_grace = Some(self.duration(&raw)?),
            "max_restarts" => daemon.max_restarts = Some(self.checked("a whole number", value::count(&raw))?),
            "log_max" => daemon.log_max = Some(self.checked("a size from 4KiB, such as \"1MiB\"", log_size(&raw))?),
            other => return Err(self.unknown(other)),
        }
        Ok(())
    }

    fn checked<T>(&self, allowed: &str, read: Result<T, String>) -> Result<T> {
        read.map_err(|problem| self.origin.error(format!("daemon.{}.{}: {problem}", self.daemon, self.key), allowed))
    }

    fn duration(&self, raw: &Raw<'_>) -> Result<Duration> {
        let (least, most) = key::DAEMON_TIMES;
        value::duration(raw, least, most).map_err(|fault| {
            self.origin.error(format!("daemon.{}.{}: {}", self.daemon, self.key, fault.problem), fault.allowed)
        })
    }

    fn unknown(&self, key: &str) -> crate::base::error::Error {
        let instead = nearest(key, KNOWN).map_or_else(|| KNOWN.join(", "), |near| format!("`{near}`"));
        file::unknown_key(&self.origin, &format!("daemon.{}.{key}", self.daemon), instead)
    }
}

fn command(raw: &Raw<'_>) -> Result<Vec<String>, String> {
    let words = value::list(raw)?;
    match words.first().map(String::as_str) {
        None | Some("") => Err("the list is empty".to_owned()),
        _ if words.iter().any(|word| word.contains('\0')) => Err("an argument cannot hold a NUL".to_owned()),
        Some(program) if program.contains('/') && !Path::new(program).is_absolute() => {
            Err(format!("{} means something else in each directory", value::quoted(program)))
        }
        Some(_) => Ok(words),
    }
}

fn path(raw: &Raw<'_>) -> Result<PathBuf, String> {
    match value::text(raw)? {
        "" => Err("the path is empty".to_owned()),
        text if text.contains('\0') => Err("a path cannot hold a NUL".to_owned()),
        text => Ok(PathBuf::from(text)),
    }
}

fn log_size(raw: &Raw<'_>) -> Result<u64, String> {
    match value::bytes(raw)? {
        size if size < 4096 => Err("the size is out of bounds".to_owned()),
        size => Ok(size),
    }
}

fn variables(value: &DeValue<'_>) -> Result<BTreeMap<String, String>, String> {
    let DeValue::Table(table) = value else { return Err(format!("this is of type {}", value.type_str())) };
    let each = table.iter().map(|(name, value)| {
        let is_name = !name.get_ref().is_empty() && !name.get_ref().contains(['=', '\0']);
        let text = value::text(&Raw::Toml(value.get_ref()))?;
        let is_plain = is_name && !text.contains('\0');
        is_plain
            .then(|| (name.get_ref().to_string(), text.to_owned()))
            .ok_or_else(|| "no such variable can be".to_owned())
    });
    each.collect()
}

fn ready(value: &DeValue<'_>) -> Result<Ready, String> {
    let DeValue::Table(table) = value else { return Err(format!("this is of type {}", value.type_str())) };
    let get = |key: &str| table.get(key).map(|value| Raw::Toml(value.get_ref()));
    let known = ["socket", "request", "answer", "pidfile", "fd", "notify", "log", "delay"];
    if let Some(other) = table.keys().find(|key| !known.contains(&key.get_ref().as_ref())) {
        return Err(format!("unknown key {}", value::quoted(other.get_ref())));
    }
    let kinds = ["socket", "pidfile", "fd", "notify", "log", "delay"].into_iter().filter(|kind| get(kind).is_some());
    match kinds.collect::<Vec<_>>().as_slice() {
        ["socket"] => Ok(Ready::Socket { path: required(get("socket"), path)?, exchange: exchange(&get)? }),
        _ if get("request").is_some() || get("answer").is_some() => Err("a request needs a socket".to_owned()),
        ["pidfile"] => Ok(Ready::Pidfile(required(get("pidfile"), path)?)),
        ["fd"] => flag(table, "fd").map(|()| Ready::Descriptor),
        ["notify"] => flag(table, "notify").map(|()| Ready::Notify),
        ["log"] => Ok(Ready::LogLine(required(get("log"), pattern)?)),
        ["delay"] => Ok(Ready::Delay(required(get("delay"), delay)?)),
        [] => Err("it says nothing".to_owned()),
        several => Err(format!("{} exclude each other", several.join(" and "))),
    }
}

fn required<T>(raw: Option<Raw<'_>>, read: fn(&Raw<'_>) -> Result<T, String>) -> Result<T, String> {
    read(&raw.ok_or("it says nothing")?)
}

fn exchange<'a>(get: &impl Fn(&str) -> Option<Raw<'a>>) -> Result<Option<Exchange>, String> {
    match (get("request"), get("answer")) {
        (None, None) => Ok(None),
        (request, Some(answer)) => Ok(Some(Exchange {
            request: request.map_or(Ok(""), |raw| value::text(&raw))?.to_owned(),
            answer: value::text(&answer)?.to_owned(),
        })),
        (Some(_), None) => Err("a request without the answer that is right".to_owned()),
    }
}

fn flag(table: &DeTable<'_>, key: &str) -> Result<(), String> {
    match table.get(key).map(Spanned::get_ref) {
        Some(DeValue::Boolean(true)) => Ok(()),
        _ => Err(format!("{key} can only be true")),
    }
}

fn pattern(raw: &Raw<'_>) -> Result<String, String> {
    let text = value::text(raw)?;
    regex_lite::Regex::new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn delay(raw: &Raw<'_>) -> Result<Duration, String> {
    value::duration(raw, Duration::ZERO, key::DAEMON_TIMES.1).map_err(|fault| fault.problem)
}

fn restart(raw: &Raw<'_>) -> Result<Restart, String> {
    match value::text(raw)? {
        "no" => Ok(Restart::No),
        "on-failure" => Ok(Restart::OnFailure),
        "always" => Ok(Restart::Always),
        other => Err(format!("{} is no such rule", value::quoted(other))),
    }
}

fn stop_signal(raw: &Raw<'_>) -> Result<StopSignal, String> {
    let text = value::text(raw)?;
    match text.strip_prefix("SIG").unwrap_or(text) {
        "TERM" => Ok(StopSignal::Term),
        "INT" => Ok(StopSignal::Int),
        "QUIT" => Ok(StopSignal::Quit),
        "HUP" => Ok(StopSignal::Hup),
        "USR1" => Ok(StopSignal::Usr1),
        "USR2" => Ok(StopSignal::Usr2),
        other => Err(format!("{} is no signal that asks to leave", value::quoted(other))),
    }
}
