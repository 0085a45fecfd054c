//! The flags `--set KEY=VALUE`.

use super::document::Origin;
use super::key::{self, Key};
use crate::base::error::{Error, Result};
use crate::base::escape;

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
