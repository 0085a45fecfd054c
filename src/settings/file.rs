//! A settings file: how it is read without being fooled, and how its lines become values.

use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::document::{Document, Origin, in_order, line_at, shown};
use super::key::{self, SECTIONS};
use super::loaded::Loaded;
use super::value::Raw;
use super::{daemons, tables};
use crate::base::error::{Context, Error, Result};
use crate::base::escape;
use crate::system::platform;

/// Nobody writes a longer one, and reading without a bound is a way to be killed.
const LONGEST: u64 = 1 << 20;

/// Reads a settings file. `Ok(None)`: there is none.
///
/// # Errors
/// Whatever is there but is not a readable regular file of UTF-8 text, of moderate size. Never blocks.
pub(super) fn read(path: &Path) -> Result<Option<String>> {
    let file = match platform::open_without_waiting(path) {
        Ok(file) => file,
        // A link that leads nowhere was meant to be a file.
        Err(error) if is_absent(&error) && path.symlink_metadata().is_err() => return Ok(None),
        Err(error) => return Err(Error::system("open the settings file", path, error)),
    };
    let refused = |found: String| unusable(path, found);
    let facts = file.metadata().doing("look at the settings file", path)?;
    if !facts.is_file() {
        return Err(refused(if facts.is_dir() { "it is a directory" } else { "it is not a regular file" }.to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes).doing("read the settings file", path)?;
    if bytes.len() as u64 > LONGEST {
        return Err(refused(format!("it has {} bytes", facts.len())));
    }
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let line = line_at(error.as_bytes(), error.utf8_error().valid_up_to());
        let origin = Origin::File { path: path.into(), line };
        origin.error("these bytes are not UTF-8 text", "UTF-8 text")
    })
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn unusable(path: &Path, problem: String) -> Error {
    Error::Setting {
        origin: shown(path),
        problem,
        allowed: format!("a regular file of at most {LONGEST} bytes, or none"),
    }
}

/// Lays the values of a file over what was loaded so far.
pub(super) fn apply(text: &str, path: &Path, loaded: &mut Loaded) -> Result<()> {
    let document = Document { text, path: path.into() };
    let root = DeTable::parse(text).map_err(|error| {
        let origin = document.origin_of(&error.span().unwrap_or_default());
        origin.error(format!("not TOML: {}", escape::line(error.message())), "`key = value`, one on a line")
    })?;
    apply_table(&document, "", root.get_ref(), loaded)
}

fn apply_table(document: &Document<'_>, prefix: &str, table: &DeTable<'_>, loaded: &mut Loaded) -> Result<()> {
    let is_key = |name: &str| key::find(name).is_some();
    for (key, value) in in_order(table) {
        let name = format!("{prefix}{}", key.get_ref());
        match (value.get_ref(), name.as_str()) {
            (DeValue::Table(inner), name) if SECTIONS.contains(&name) => {
                apply_table(document, &format!("{name}."), inner, loaded)?;
            }
            (_, "rule") => loaded.settings.rules = tables::rules(document, value, is_key)?,
            (_, "notify") => loaded.settings.notify = tables::notifiers(document, value, is_key)?,
            (_, "daemon") => loaded.settings.daemons = daemons::daemons(document, value)?,
            (inner, name) => apply_value(document, name, key.span(), inner, loaded)?,
        }
    }
    Ok(())
}

fn apply_value(
    document: &Document<'_>,
    name: &str,
    span: Range<usize>,
    value: &DeValue<'_>,
    loaded: &mut Loaded,
) -> Result<()> {
    let origin = document.origin_of(&span);
    match key::find(name) {
        Some(key) => loaded.set(key, &Raw::Toml(value), origin),
        None if SECTIONS.contains(&name) => {
            Err(origin.error(format!("{name}: this is of type {}", value.type_str()), format!("the table [{name}]")))
        }
        None => Err(origin.unknown_key(name, key::instead_of(name))),
    }
}
