//! The tables of which a settings file may hold any number: `[[rule]]` and `[[notify]]`.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Origin;
use super::file::{self, Document};
use super::key;
use super::nearest::nearest;
use super::value::{self, Raw};
use crate::base::error::Result;
use crate::journal::record::{Delivery, Kind};

/// How wakes that match reach the waiters. A pattern that is absent matches everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// A pattern for the wake's kind.
    pub kind: Option<String>,
    /// A pattern for its key.
    pub key: Option<String>,
    /// A pattern for its text.
    pub text: Option<String>,
    /// What to do with a wake that matches all of them.
    pub deliver: Delivery,
    /// Where the rule stands.
    pub origin: Origin,
}

/// A program that is told about wakes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// The program, by absolute path, and its arguments; never empty.
    pub exec: Vec<String>,
    /// How long it may take; `None`: as [`super::Settings::notify_timeout`] says.
    pub timeout: Option<Duration>,
    /// The kinds of wakes it hears of; empty: all.
    pub kinds: Vec<Kind>,
    /// Where the table stands.
    pub origin: Origin,
}

impl Notify {
    /// The program.
    pub fn program(&self) -> &Path {
        Path::new(self.exec.first().map_or("", String::as_str))
    }

    /// Whether it wants to hear of a wake of this kind.
    pub fn wants(&self, kind: &Kind) -> bool {
        self.kinds.is_empty() || self.kinds.contains(kind)
    }
}

/// Reads all `[[rule]]` tables.
pub(super) fn rules(document: &Document<'_>, value: &Spanned<DeValue<'_>>) -> Result<Vec<Rule>> {
    each(document, "rule", value, rule)
}

/// Reads all `[[notify]]` tables.
pub(super) fn notifiers(document: &Document<'_>, value: &Spanned<DeValue<'_>>) -> Result<Vec<Notify>> {
    each(document, "notify", value, notifier)
}

fn each<T>(
    document: &Document<'_>,
    name: &str,
    value: &Spanned<DeValue<'_>>,
    read: fn(&Reader<'_>, &DeTable<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let not_tables = |span: Range<usize>| {
        let origin = document.origin_of(&span);
        origin.error(format!("{name}: this is not a list of tables"), format!("tables that start with [[{name}]]"))
    };
    let DeValue::Array(items) = value.get_ref() else { return Err(not_tables(value.span())) };
    let each = items.iter().map(|item| match item.get_ref() {
        DeValue::Table(table) => read(&Reader { document, name, origin: document.origin_of(&item.span()) }, table),
        _ => Err(not_tables(item.span())),
    });
    each.collect()
}

/// Where a table stands, for its errors.
struct Reader<'a> {
    document: &'a Document<'a>,
    name: &'a str,
    origin: Origin,
}

impl Reader<'_> {
    /// Refuses a key that this table does not have.
    fn unknown(&self, key: &str, origin: &Origin, known: &[&'static str]) -> crate::base::error::Error {
        let instead = match nearest(key, known.iter().copied()) {
            Some(near) => format!("`{near}`"),
            None if key::find(key).is_some() => format!("`{key}` above the first [table] of the file"),
            None => known.join(", "),
        };
        file::unknown_key(origin, &format!("{}.{key}", self.name), instead)
    }

    fn missing(&self, key: &str, allowed: &str) -> crate::base::error::Error {
        self.origin.error(format!("this [[{}]] has no `{key}`", self.name), allowed)
    }

    /// Reads one value and, on an error, says in which line.
    fn value<T>(&self, key: &str, origin: &Origin, allowed: &str, read: Result<T, String>) -> Result<T> {
        read.map_err(|problem| origin.error(format!("{}.{key}: {problem}", self.name), allowed))
    }
}

fn rule(reader: &Reader<'_>, table: &DeTable<'_>) -> Result<Rule> {
    const DELIVERIES: &str = "\"now\", \"batch\" or \"never\"";
    let (mut kind, mut key, mut text, mut deliver) = (None, None, None, None);
    for (name, value) in file::in_order(table) {
        let origin = reader.document.origin_of(&name.span());
        let raw = Raw::Toml(value.get_ref());
        let pattern = |raw: &Raw<'_>| {
            let text = value::text(raw).map(|text| Some(text.to_owned()));
            reader.value(name.get_ref(), &origin, "a regular expression", text)
        };
        match name.get_ref().as_ref() {
            "kind" => kind = pattern(&raw)?,
            "key" => key = pattern(&raw)?,
            "text" => text = pattern(&raw)?,
            "deliver" => deliver = Some(reader.value("deliver", &origin, DELIVERIES, delivery(&raw))?),
            other => return Err(reader.unknown(other, &origin, &["kind", "key", "text", "deliver"])),
        }
    }
    let deliver = deliver.ok_or_else(|| reader.missing("deliver", DELIVERIES))?;
    Ok(Rule { kind, key, text, deliver, origin: reader.origin.clone() })
}

fn delivery(raw: &Raw<'_>) -> Result<Delivery, String> {
    match value::text(raw)? {
        "now" => Ok(Delivery::Now),
        "batch" => Ok(Delivery::Batch),
        "never" => Ok(Delivery::Never),
        other => Err(format!("{} is no delivery", value::quoted(other))),
    }
}

fn notifier(reader: &Reader<'_>, table: &DeTable<'_>) -> Result<Notify> {
    const PROGRAM: &str = "a list of texts: the program, by absolute path, and its arguments";
    let (mut exec, mut timeout, mut kinds) = (None, None, Vec::new());
    for (name, value) in file::in_order(table) {
        let origin = reader.document.origin_of(&name.span());
        let raw = Raw::Toml(value.get_ref());
        match name.get_ref().as_ref() {
            "exec" => exec = Some(reader.value("exec", &origin, PROGRAM, program_and_arguments(&raw))?),
            "timeout" => timeout = Some(read_timeout(&origin, &raw)?),
            "kinds" => kinds = reader.value("kinds", &origin, &known_kinds(), read_kinds(&raw))?,
            other => return Err(reader.unknown(other, &origin, &["exec", "timeout", "kinds"])),
        }
    }
    let exec = exec.ok_or_else(|| reader.missing("exec", PROGRAM))?;
    Ok(Notify { exec, timeout, kinds, origin: reader.origin.clone() })
}

fn program_and_arguments(raw: &Raw<'_>) -> Result<Vec<String>, String> {
    let words = value::list(raw)?;
    match words.first() {
        None => Err("the list is empty".to_owned()),
        _ if words.iter().any(|word| word.contains('\0')) => Err("an argument cannot hold a NUL".to_owned()),
        Some(program) if !Path::new(program).is_absolute() => {
            Err(format!("{} is not an absolute path", value::quoted(program)))
        }
        Some(_) => Ok(words),
    }
}

fn read_timeout(origin: &Origin, raw: &Raw<'_>) -> Result<Duration> {
    let (least, most) = key::NOTIFY_TIMEOUT;
    value::duration(raw, least, most)
        .map_err(|fault| origin.error(format!("notify.timeout: {}", fault.problem), fault.allowed))
}

fn read_kinds(raw: &Raw<'_>) -> Result<Vec<Kind>, String> {
    let known = |name: String| match Kind::from_name(&name) {
        Kind::Other(name) => Err(format!("{} is no kind of wake", value::quoted(&name))),
        kind => Ok(kind),
    };
    value::list(raw)?.into_iter().map(known).collect()
}

fn known_kinds() -> String {
    let names: Vec<String> = Kind::KNOWN.iter().map(|kind| value::quoted(kind.as_str())).collect();
    format!("a list of {}", names.join(", "))
}
