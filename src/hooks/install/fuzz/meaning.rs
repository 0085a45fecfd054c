//! What a file means to everybody but us, read by other means than in the editors: comments and commas too many are taken
//! out of JSON by hand, and what is left is given to another parser.

use serde_json::Value;

use crate::hooks::harness::{Form, Harness};
use crate::hooks::install::entry::event_of;
use crate::hooks::install::target::Target;

/// JSON as the strictest parser wants it, made by hand. `None`: it does not want it.
pub(super) fn strict(text: &str) -> Option<Value> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut plain = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if first == '"' {
            let mut is_escaped = false;
            let end = rest[1..].find(|character| {
                let ends = character == '"' && !is_escaped;
                is_escaped = character == '\\' && !is_escaped;
                ends
            });
            let length = end.map_or(rest.len(), |end| end + 2);
            plain += &rest[..length];
            length
        } else if rest.starts_with("//") {
            rest.find(['\n', '\r']).unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else {
            if [']', '}'].contains(&first) && plain.ends_with(',') {
                plain.pop();
            }
            plain.extend([first].into_iter().filter(|first| !first.is_ascii_whitespace()));
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    if plain.is_empty() { Some(Value::Null) } else { serde_json::from_str(&plain).ok() }
}

/// What JSON means without our entries, and without what only holds them: nothing, an empty list and an empty object are
/// the same here.
fn without_ours(value: &Value, harness: Harness) -> Value {
    match value {
        Value::Object(members) => {
            let is_ours = |command: &Value| command.as_str().is_some_and(|text| event_of(harness, text).is_some());
            if members.get("command").is_some_and(is_ours) {
                return Value::Null;
            }
            let kept = members.iter().map(|(name, value)| (name.clone(), without_ours(value, harness)));
            let kept: serde_json::Map<_, _> = kept
                .filter(|(name, value)| !value.is_null() && (harness != Harness::Cursor || name != "version"))
                .collect();
            if kept.is_empty() { Value::Null } else { kept.into() }
        }
        Value::Array(items) => {
            let kept = items.iter().map(|item| {
                let had_handlers = item["hooks"].as_array().is_some_and(|handlers| !handlers.is_empty());
                let kept = without_ours(item, harness);
                // A group of our own goes as a whole.
                if had_handlers && kept.get("hooks").is_none() { Value::Null } else { kept }
            });
            let kept: Vec<_> = kept.filter(|item| !item.is_null()).collect();
            if kept.is_empty() { Value::Null } else { kept.into() }
        }
        other => other.clone(),
    }
}

/// What a file means to everybody but us.
#[track_caller]
pub(super) fn meaning(target: &Target, text: &str) -> String {
    meaning_if_any(target, text).unwrap_or_else(|| panic!("it does not parse: {text}"))
}

pub(super) fn meaning_if_any(target: &Target, text: &str) -> Option<String> {
    let value = match target.form {
        Form::Toml => {
            text.trim_start_matches('\u{feff}').parse::<toml::Table>().ok().map(|table| serde_json::json!(table))
        }
        _ => strict(text),
    };
    Some(without_ours(&value?, target.harness).to_string())
}
