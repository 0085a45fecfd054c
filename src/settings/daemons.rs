//! The tables `[daemon.<name>]`: one daemon each.
//!
//! What a table leaves out comes from the section `[daemons]`. Relative paths are relative to the home, so that a home
//! can be moved; programs are named by an absolute path or by a name that is looked up in the daemon's own `PATH`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::daemon_definition::{Exchange, Name, Ready, Restart, StopSignal};
use super::document::{Document, Field, Origin, in_order};
use super::value::{self, DAEMON_TIMES, Problem, Raw};
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
    in_order(tables).into_iter().map(|(name, table)| daemon(document, name.get_ref(), name.span(), table)).collect()
}

fn daemon(
    document: &Document<'_>,
    name: &str,
    span: std::ops::Range<usize>,
    value: &Spanned<DeValue<'_>>,
) -> Result<Daemon> {
    let origin = document.origin_of(&span);
    let name = Name::new(name).map_err(|error| origin.error(error.to_string(), "[daemon.NAME]"))?;
    let table_name = format!("daemon.{name}");
    let DeValue::Table(table) = value.get_ref() else {
        return Err(origin.error(format!("{table_name}: this is not a table"), format!("the table [{table_name}]")));
    };
    let mut daemon = Daemon::of_command(name, Vec::new(), origin.clone());
    for (key, field) in Field::all(document, &table_name, table) {
        read_into(&mut daemon, key, &field)?;
    }
    if daemon.command.is_empty() {
        return Err(origin.error(format!("{table_name} has no `command`"), COMMAND));
    }
    Ok(daemon)
}

const COMMAND: &str = "a list of texts: the program, by absolute path or by name, and its arguments";
const READY: &str = "one of { socket = \"PATH\" } (with request = \"...\" and answer = \"...\"), { pidfile = \"PATH\" }, \
                     { fd = true }, { notify = true }, { log = \"REGEX\" }, { delay = \"1s\" }";
const RESTART: &str = "\"no\", \"on-failure\" or \"always\"";
const STOP_SIGNAL: &str = "\"TERM\", \"INT\", \"QUIT\", \"HUP\", \"USR1\" or \"USR2\"";

fn read_into(daemon: &mut Daemon, key: &str, field: &Field<'_>) -> Result<()> {
    match key {
        "command" => daemon.command = field.read(COMMAND, command)?,
        "cwd" => daemon.cwd = Some(field.read("the path of a directory", path)?),
        "env" => daemon.env = field.read("a table of texts", variables)?,
        "ready" => daemon.ready = Some(field.read(READY, ready)?),
        "restart" => daemon.restart = field.read(RESTART, restart)?,
        "stop_signal" => daemon.stop_signal = field.read(STOP_SIGNAL, stop_signal)?,
        "ready_timeout" => daemon.ready_timeout = Some(field.duration(DAEMON_TIMES)?),
        "backoff" => daemon.backoff = Some(field.duration(DAEMON_TIMES)?),
        "backoff_max" => daemon.backoff_max = Some(field.duration(DAEMON_TIMES)?),
        "restart_window" => daemon.restart_window = Some(field.duration(DAEMON_TIMES)?),
        "stop_grace" => daemon.stop_grace = Some(field.duration(DAEMON_TIMES)?),
        "max_restarts" => daemon.max_restarts = Some(field.read("a whole number", value::count)?),
        "log_max" => daemon.log_max = Some(field.read("a size from 4KiB, such as \"1MiB\"", log_size)?),
        other => return Err(field.unknown(other, &KNOWN)),
    }
    Ok(())
}

fn command(raw: &Raw<'_>) -> Result<Vec<String>, Problem> {
    if value::list(raw)?.first().is_some_and(String::is_empty) {
        return Err(Problem::Empty("list"));
    }
    value::command(raw, |program| {
        let is_relative = program.contains('/') && !Path::new(program).is_absolute();
        is_relative.then_some("means something else in each directory")
    })
}

fn path(raw: &Raw<'_>) -> Result<PathBuf, Problem> {
    match value::text(raw)? {
        "" => Err(Problem::Empty("path")),
        text if text.contains('\0') => Err(Problem::Nul("a path")),
        text => Ok(PathBuf::from(text)),
    }
}

fn log_size(raw: &Raw<'_>) -> Result<u64, Problem> {
    match value::bytes(raw)? {
        size if size < 4096 => Err(Problem::UnnamedBounds("size")),
        size => Ok(size),
    }
}

fn variables(raw: &Raw<'_>) -> Result<BTreeMap<String, String>, Problem> {
    let each = value::table(raw)?.iter().map(|(name, value)| {
        let is_name = !name.get_ref().is_empty() && !name.get_ref().contains(['=', '\0']);
        let text = value::text(&Raw::Toml(value.get_ref()))?;
        let is_plain = is_name && !text.contains('\0');
        is_plain.then(|| (name.get_ref().to_string(), text.to_owned())).ok_or(Problem::Variable)
    });
    each.collect()
}

fn ready(raw: &Raw<'_>) -> Result<Ready, Problem> {
    const KINDS: [&str; 6] = ["socket", "pidfile", "fd", "notify", "log", "delay"];
    let table = value::table(raw)?;
    let get = |key: &str| table.get(key).map(|value| Raw::Toml(value.get_ref()));
    let is_known = |key: &str| KINDS.contains(&key) || ["request", "answer"].contains(&key);
    if let Some(other) = table.keys().find(|key| !is_known(key.get_ref())) {
        return Err(Problem::Key(value::quoted(other.get_ref())));
    }
    let given: Vec<_> = KINDS.into_iter().filter_map(|kind| Some((kind, get(kind)?))).collect();
    let asks = get("request").is_some() || get("answer").is_some();
    match given.as_slice() {
        [("socket", at)] => Ok(Ready::Socket { path: path(at)?, exchange: exchange(get("request"), get("answer"))? }),
        _ if asks => Err(Problem::RequestWithoutSocket),
        [("pidfile", at)] => Ok(Ready::Pidfile(path(at)?)),
        [("fd", Raw::Toml(DeValue::Boolean(true)))] => Ok(Ready::Descriptor),
        [("notify", Raw::Toml(DeValue::Boolean(true)))] => Ok(Ready::Notify),
        [(flag @ ("fd" | "notify"), _)] => Err(Problem::OnlyTrue(flag)),
        [("log", regex)] => Ok(Ready::LogLine(pattern(regex)?)),
        [("delay", time)] => Ok(Ready::Delay(value::duration(time, (Duration::ZERO, DAEMON_TIMES.1))?)),
        [] => Err(Problem::Nothing),
        several => Err(Problem::Exclusive(several.iter().map(|(kind, _)| *kind).collect::<Vec<_>>().join(" and "))),
    }
}

fn exchange(request: Option<Raw<'_>>, answer: Option<Raw<'_>>) -> Result<Option<Exchange>, Problem> {
    match (request, answer) {
        (None, None) => Ok(None),
        (request, Some(answer)) => Ok(Some(Exchange {
            request: request.map_or(Ok(""), |raw| value::text(&raw))?.to_owned(),
            answer: value::text(&answer)?.to_owned(),
        })),
        (Some(_), None) => Err(Problem::RequestWithoutAnswer),
    }
}

fn pattern(raw: &Raw<'_>) -> Result<String, Problem> {
    let text = value::text(raw)?;
    regex_lite::Regex::new(text).map(|_| text.to_owned()).map_err(|error| Problem::Pattern(error.to_string()))
}

fn restart(raw: &Raw<'_>) -> Result<Restart, Problem> {
    match value::text(raw)? {
        "no" => Ok(Restart::No),
        "on-failure" => Ok(Restart::OnFailure),
        "always" => Ok(Restart::Always),
        other => Err(Problem::text(other, "is no such rule")),
    }
}

fn stop_signal(raw: &Raw<'_>) -> Result<StopSignal, Problem> {
    let text = value::text(raw)?;
    match text.strip_prefix("SIG").unwrap_or(text) {
        "TERM" => Ok(StopSignal::Term),
        "INT" => Ok(StopSignal::Int),
        "QUIT" => Ok(StopSignal::Quit),
        "HUP" => Ok(StopSignal::Hup),
        "USR1" => Ok(StopSignal::Usr1),
        "USR2" => Ok(StopSignal::Usr2),
        other => Err(Problem::text(other, "is no signal that asks to leave")),
    }
}
