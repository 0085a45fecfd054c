//! The patterns of the settings, compiled.

use regex_lite::Regex;

use super::document::Origin;
use super::key::Settings;
use super::tables::Rule;
use super::value::quoted;
use crate::base::error::Result;
use crate::journal::record::{Delivery, Kind};

/// Every pattern, ready to match.
#[derive(Debug, Clone)]
pub struct Patterns {
    /// What a busy pane shows.
    pub busy: Regex,
    rules: Vec<CompiledRule>,
}

#[derive(Debug, Clone)]
struct CompiledRule {
    kind: Option<Regex>,
    key: Option<Regex>,
    text: Option<Regex>,
    deliver: Delivery,
}

impl Patterns {
    /// Compiles them, or says which is none and where it stands.
    pub(super) fn compile(settings: &Settings, busy_origin: &Origin) -> Result<Self> {
        Ok(Self {
            busy: regex("busy_regex", &settings.busy_regex, busy_origin)?,
            rules: settings.rules.iter().map(CompiledRule::compile).collect::<Result<_>>()?,
        })
    }

    /// How a wake reaches the waiters: as the first rule that matches says, or else at once.
    pub fn delivery(&self, kind: &Kind, key: &str, text: &str) -> Delivery {
        let first = self.rules.iter().find(|rule| rule.matches(kind.as_str(), key, text));
        first.map_or_else(Delivery::default, |rule| rule.deliver)
    }
}

impl CompiledRule {
    fn compile(rule: &Rule) -> Result<Self> {
        let compiled = |name: &str, pattern: &Option<String>| {
            pattern.as_deref().map(|pattern| regex(name, pattern, &rule.origin)).transpose()
        };
        Ok(Self {
            kind: compiled("rule.kind", &rule.kind)?,
            key: compiled("rule.key", &rule.key)?,
            text: compiled("rule.text", &rule.text)?,
            deliver: rule.deliver,
        })
    }

    fn matches(&self, kind: &str, key: &str, text: &str) -> bool {
        [(&self.kind, kind), (&self.key, key), (&self.text, text)]
            .iter()
            .all(|(pattern, subject)| pattern.as_ref().is_none_or(|pattern| pattern.is_match(subject)))
    }
}

fn regex(name: &str, pattern: &str, origin: &Origin) -> Result<Regex> {
    Regex::new(pattern).map_err(|error| {
        let problem = format!("{name}: {} is no regular expression: {error}", quoted(pattern));
        origin.error(problem, "a regular expression; write `\\` before a character that stands for itself")
    })
}
