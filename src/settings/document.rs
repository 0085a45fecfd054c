//! Where a value stands, and how a mistake there is told: with the line, and with what was probably meant.

use std::fmt::{self, Display};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::value::{self, Bounds, Problem, Raw};
use crate::base::error::{Error, Result};
use crate::base::escape;

/// Where a value came from. Its text is what messages and `config show --origin` say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The compiled-in file.
    Default,
    /// The home's settings file.
    File {
        /// Its path.
        path: Arc<Path>,
        /// The line, counted from 1.
        line: usize,
    },
    /// An environment variable, by name.
    Variable(&'static str),
    /// The flag `--set` for this key.
    Flag(&'static str),
    /// It follows from the value of another key.
    Derived(&'static str),
}

impl Origin {
    /// An error about a value that came from here.
    pub(super) fn error(&self, problem: impl Into<String>, allowed: impl Into<String>) -> Error {
        Error::Setting { origin: self.to_string(), problem: problem.into(), allowed: allowed.into() }
    }

    /// The error for a key that does not exist.
    pub(super) fn unknown_key(&self, name: &str, instead: impl Into<String>) -> Error {
        self.error(format!("unknown key `{}`", escape::line(name)), instead)
    }
}

impl Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File { path, line } => write!(formatter, "{}:{line}", shown(path)),
            Self::Variable(name) => formatter.write_str(name),
            Self::Flag(key) => write!(formatter, "--set {key}"),
            Self::Derived(key) => write!(formatter, "follows {key}"),
        }
    }
}

/// A path as it may stand in a message.
pub(super) fn shown(path: &Path) -> String {
    escape::line(&path.display().to_string())
}

/// The text of a file together with its path, so that a place in it can be named.
#[derive(Debug)]
pub(super) struct Document<'a> {
    /// The whole file.
    pub(super) text: &'a str,
    /// Its path.
    pub(super) path: Arc<Path>,
}

impl Document<'_> {
    /// The origin of what stands at these bytes.
    pub(super) fn origin_of(&self, span: &Range<usize>) -> Origin {
        Origin::File { path: Arc::clone(&self.path), line: line_at(self.text.as_bytes(), span.start) }
    }
}

/// The line of a byte, counted from 1.
pub(super) fn line_at(text: &[u8], offset: usize) -> usize {
    1 + text.iter().take(offset).filter(|&&byte| byte == b'\n').count()
}

/// The entries in the order in which they stand in the file, so that the first error is the topmost.
pub(super) fn in_order<'a, 't>(table: &'a DeTable<'t>) -> Vec<(&'a Spanned<DeString<'t>>, &'a Spanned<DeValue<'t>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// One value in a table that is not one of single keys, such as `[[rule]]`, for its errors.
#[derive(Debug)]
pub(super) struct Field<'a> {
    /// The table and the key, as messages name them: `rule.deliver`.
    pub(super) name: String,
    /// Where the key stands.
    pub(super) origin: Origin,
    /// What it says.
    pub(super) raw: Raw<'a>,
}

impl<'a> Field<'a> {
    /// The fields of a table, from the top.
    pub(super) fn all<'t: 'a>(
        document: &Document<'_>,
        table_name: &str,
        table: &'a DeTable<'t>,
    ) -> impl Iterator<Item = (&'a str, Self)> {
        in_order(table).into_iter().map(move |(key, value)| {
            let name = format!("{table_name}.{}", key.get_ref());
            let origin = document.origin_of(&key.span());
            (key.get_ref().as_ref(), Self { name, origin, raw: Raw::Toml(value.get_ref()) })
        })
    }

    /// What was read, or the error with its line.
    pub(super) fn read<T>(&self, allowed: &str, read: impl FnOnce(&Raw<'a>) -> Result<T, Problem>) -> Result<T> {
        read(&self.raw).map_err(|problem| self.origin.error(format!("{}: {problem}", self.name), allowed))
    }

    /// A time within bounds.
    pub(super) fn duration(&self, bounds: Bounds<Duration>) -> Result<Duration> {
        self.read(&value::allowed_duration(bounds), |raw| value::duration(raw, bounds))
    }

    /// The error for a key that this table does not have, with the nearest one of those that it has.
    pub(super) fn unknown(&self, key: &str, known: &[&'static str]) -> Error {
        let instead = nearest(key, known.iter().copied()).map_or_else(|| known.join(", "), |near| format!("`{near}`"));
        self.origin.unknown_key(&self.name, instead)
    }
}

/// The candidate that is fewest edits away from a word, if those are few enough to be a slip.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // More than a third of the word is not a slip. Very long words are not compared at all: the price is a product.
    const LONGEST: usize = 64;
    if word.chars().count() > LONGEST {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| (strsim::levenshtein(word, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= candidate.len().div_ceil(3))
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_a_stranger_finds_none() {
        let words = ["poll", "heartbeat", "heartbeat_max"];
        assert_eq!(nearest("pol", words), Some("poll"));
        assert_eq!(nearest("heartbeat-max", words), Some("heartbeat_max"));
        assert_eq!(nearest("banana", words), None);
        assert_eq!(nearest(&"x".repeat(1 << 20), words), None);
    }
}
