//! The compiled-in settings file, read in its plain form.
//!
//! Every command reads the defaults at its start, and `guard` may take no longer than a few hundred microseconds in
//! all: a general parser, cold, was measured to take a tenth of that. So this file is written plainly (one `key = value`
//! on a line, no escapes) and read line by line. It is valid TOML all the same, and a test holds the two readings
//! against each other; whoever writes a default in a form that is not plain finds out there.

use super::key;
use super::value::Raw;
use super::{Loaded, Origin};
use crate::base::error::{Error, Result};

/// The settings file with the complete defaults.
pub const TEXT: &str = include_str!("../../config/fm-watch.toml");

/// Fills in every default.
///
/// # Errors
/// Only if the file was not written plainly.
pub(super) fn apply(loaded: &mut Loaded) -> Result<()> {
    let mut prefix = String::new();
    for line in TEXT.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let not_plain = || Error::Failed(format!("the compiled-in settings are not plain: {line}"));
        if let Some(section) = line.strip_prefix('[') {
            prefix = format!("{}.", section.trim_end_matches(']'));
            continue;
        }
        let (name, value) = line.split_once(" = ").ok_or_else(not_plain)?;
        let key = key::find(&format!("{prefix}{name}")).ok_or_else(not_plain)?;
        loaded.set(key, &Raw::Words(bare(value)), Origin::Default)?;
    }
    Ok(())
}

/// What stands inside the quotes or brackets of a plain value.
fn bare(value: &str) -> &str {
    let inside = |open, close| value.strip_prefix(open)?.strip_suffix(close);
    inside('"', '"').or_else(|| inside('\'', '\'')).or_else(|| inside('[', ']')).unwrap_or(value)
}
