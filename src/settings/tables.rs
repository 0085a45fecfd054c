//! The tables of which a settings file may hold any number: `[[rule]]` and `[[notify]]`, and which programs these may name.
//!
//! A program that somebody else can change is that somebody acting as us. It must be named by an absolute path (a
//! relative one means something else in each directory), belong to us or to root, and be writable by its owner only.
//! That is not looked at when the settings are read, but by `config check` and before a program is started.
//!
//! Limits: the directories above a program are not examined, and between this look and the start it may change.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::{Document, Field, Origin, nearest};
use super::value::{self, NOTIFY_TIMEOUT, Problem, Raw, quoted};
use crate::base::error::{Context, Error, Result};
use crate::journal::record::{Delivery, Kind};
use crate::system::platform;
use crate::system::{self, Facts};

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
    /// How long it may take; `None`: as the key `notify_timeout` says.
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

/// Whether a name is a key that stands above all tables.
type IsKey = fn(&str) -> bool;

/// Reads all `[[rule]]` tables.
pub(super) fn rules(document: &Document<'_>, value: &Spanned<DeValue<'_>>, is_key: IsKey) -> Result<Vec<Rule>> {
    each(document, "rule", value, |table, origin| rule(document, table, origin, is_key))
}

/// Reads all `[[notify]]` tables.
pub(super) fn notifiers(document: &Document<'_>, value: &Spanned<DeValue<'_>>, is_key: IsKey) -> Result<Vec<Notify>> {
    each(document, "notify", value, |table, origin| notifier(document, table, origin, is_key))
}

fn each<T>(
    document: &Document<'_>,
    name: &str,
    value: &Spanned<DeValue<'_>>,
    read: impl Fn(&DeTable<'_>, Origin) -> Result<T>,
) -> Result<Vec<T>> {
    let not_tables = |span: Range<usize>| {
        let origin = document.origin_of(&span);
        origin.error(format!("{name}: this is not a list of tables"), format!("tables that start with [[{name}]]"))
    };
    let DeValue::Array(items) = value.get_ref() else { return Err(not_tables(value.span())) };
    let each = items.iter().map(|item| match item.get_ref() {
        DeValue::Table(table) => read(table, document.origin_of(&item.span())),
        _ => Err(not_tables(item.span())),
    });
    each.collect()
}

/// Refuses a key that a table does not have. One that was meant for the top of the file is told so.
fn unknown(key: &str, field: &Field<'_>, known: &[&'static str], is_key: IsKey) -> Error {
    match nearest(key, known.iter().copied()) {
        None if is_key(key) => {
            field.origin.unknown_key(&field.name, format!("`{key}` above the first [table] of the file"))
        }
        _ => field.unknown(key, known),
    }
}

fn rule(document: &Document<'_>, table: &DeTable<'_>, origin: Origin, is_key: IsKey) -> Result<Rule> {
    const DELIVERIES: &str = "\"now\", \"batch\" or \"never\"";
    let (mut kind, mut key, mut text, mut deliver) = (None, None, None, None);
    for (name, field) in Field::all(document, "rule", table) {
        let pattern = || field.read("a regular expression", value::text).map(|text| Some(text.to_owned()));
        match name {
            "kind" => kind = pattern()?,
            "key" => key = pattern()?,
            "text" => text = pattern()?,
            "deliver" => deliver = Some(field.read(DELIVERIES, delivery)?),
            other => return Err(unknown(other, &field, &["kind", "key", "text", "deliver"], is_key)),
        }
    }
    let deliver = deliver.ok_or_else(|| origin.error("this [[rule]] has no `deliver`", DELIVERIES))?;
    Ok(Rule { kind, key, text, deliver, origin })
}

fn delivery(raw: &Raw<'_>) -> Result<Delivery, Problem> {
    match value::text(raw)? {
        "now" => Ok(Delivery::Now),
        "batch" => Ok(Delivery::Batch),
        "never" => Ok(Delivery::Never),
        other => Err(Problem::text(other, "is no delivery")),
    }
}

fn notifier(document: &Document<'_>, table: &DeTable<'_>, origin: Origin, is_key: IsKey) -> Result<Notify> {
    const PROGRAM: &str = "a list of texts: the program, by absolute path, and its arguments";
    let (mut exec, mut timeout, mut kinds) = (None, None, Vec::new());
    for (name, field) in Field::all(document, "notify", table) {
        match name {
            "exec" => exec = Some(field.read(PROGRAM, program_and_arguments)?),
            "timeout" => timeout = Some(field.duration(NOTIFY_TIMEOUT)?),
            "kinds" => kinds = field.read(&known_kinds(), read_kinds)?,
            other => return Err(unknown(other, &field, &["exec", "timeout", "kinds"], is_key)),
        }
    }
    let exec = exec.ok_or_else(|| origin.error("this [[notify]] has no `exec`", PROGRAM))?;
    Ok(Notify { exec, timeout, kinds, origin })
}

fn program_and_arguments(raw: &Raw<'_>) -> Result<Vec<String>, Problem> {
    value::command(raw, |program| (!Path::new(program).is_absolute()).then_some("is not an absolute path"))
}

fn read_kinds(raw: &Raw<'_>) -> Result<Vec<Kind>, Problem> {
    let known = |name: String| match Kind::from_name(&name) {
        Kind::Other(name) => Err(Problem::text(&name, "is no kind of wake")),
        kind => Ok(kind),
    };
    value::list(raw)?.into_iter().map(known).collect()
}

fn known_kinds() -> String {
    let names: Vec<String> = Kind::KNOWN.iter().map(|kind| quoted(kind.as_str())).collect();
    format!("a list of {}", names.join(", "))
}

/// Refuses a program that may not be run. Links are followed: what counts is what would run.
///
/// # Errors
/// What is wrong with it, and what to do.
pub fn check_program(path: &Path) -> Result<()> {
    if !path.is_absolute() {
        return Err(Error::refused(path, "the path of the program is relative", "write its absolute path"));
    }
    let facts = Facts::through_links(path).doing("find the program", path)?;
    if facts.kind != system::Kind::File {
        return Err(Error::refused(path, "this is not a regular file", "name a program"));
    }
    if facts.is_writable_by_others() {
        let found = format!("others may change this program (mode {:04o})", facts.mode);
        return Err(Error::refused(path, found, "run `chmod go-w` on it if you trust what it holds"));
    }
    if !facts.is_own_or_of_administrator() {
        let found = format!("this program belongs to another user (uid {})", facts.uid);
        return Err(Error::refused(path, found, "use one that belongs to you or to root"));
    }
    if !platform::may_execute(path) {
        return Err(Error::refused(path, "this file may not be executed", "run `chmod u+x` on it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

    use super::*;

    /// What is said about a script of this mode.
    fn verdict(mode: u32) -> Result<()> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("script");
        let options = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        options.set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
        check_program(&path)
    }

    #[test]
    fn a_program_of_ours_that_nobody_else_can_write_may_run() {
        verdict(0o755).unwrap();
        verdict(0o700).unwrap();
    }

    #[test]
    fn a_program_that_others_can_write_is_refused() {
        for mode in [0o775, 0o757, 0o777] {
            let error = verdict(mode).unwrap_err();
            assert!(error.to_string().contains("chmod go-w"), "{error}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_executed_is_refused() {
        let error = verdict(0o644).unwrap_err();
        assert!(error.to_string().contains("chmod u+x"), "{error}");
    }

    #[test]
    fn a_relative_a_missing_and_a_strange_program_are_refused() {
        for (path, expected) in [("bin/true", "absolute"), ("/no/such/program", "cannot find"), ("/", "regular file")] {
            let error = check_program(Path::new(path)).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
