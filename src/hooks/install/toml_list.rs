//! Entries in a TOML file whose `hooks` is a list in one value: `hooks = [{event = "Stop", …}]`.
//!
//! Programs that print their settings themselves write it like this, and an empty one above all: `hooks = []`. Such a list
//! cannot be continued by tables, so entries go into it as tables in a line, at its end, in the way of
//! [`super::json_layout`]: whoever uses this takes them out again and compares.
//!
//! Limits: a list with anything but tables in it is not recognised.

use serde::Deserialize;
use toml::{Spanned, Value};

use super::entry::Entry;
use super::json_layout::Container;

/// What is looked at of a file.
#[derive(Deserialize)]
struct Settings {
    hooks: Spanned<Vec<Spanned<Value>>>,
}

/// The text with these entries in its list, if it has one.
pub(super) fn add(text: &str, entries: &[Entry]) -> Option<String> {
    find(text)?;
    entries.iter().try_fold(text.to_owned(), |text, entry| {
        let (container, _) = find(&text)?;
        Some(container.append(&text, |_| item(entry)))
    })
}

/// The text without those members of its list, if it has one.
pub(super) fn without(mut text: String, is_ours: impl Fn(&Value) -> bool) -> String {
    while let Some((container, hooks)) = find(&text)
        && let Some(index) = hooks.iter().position(&is_ours)
    {
        let shorter = container.remove(&text, index);
        if shorter.len() >= text.len() {
            break;
        }
        text = shorter;
    }
    text
}

/// The list, and what is in it. None if there is no list, or one of tables of their own.
fn find(text: &str) -> Option<(Container, Vec<Value>)> {
    let hooks = toml::from_str::<Settings>(text).ok()?.hooks;
    let whole = hooks.span();
    let begins_with = |at: usize, what: &str| text.get(at..).is_some_and(|rest| rest.starts_with(what));
    let items: Vec<_> = hooks.get_ref().iter().map(Spanned::span).collect();
    let is_in_one_value = begins_with(whole.start, "[")
        && text.get(..whole.end).is_some_and(|text| text.ends_with(']'))
        && items.iter().all(|item| whole.start < item.start && item.end < whole.end && begins_with(item.start, "{"));
    let values = hooks.into_inner().into_iter().map(Spanned::into_inner).collect();
    is_in_one_value.then(|| (Container::of_toml(whole, items), values))
}

/// A table in a line.
fn item(entry: &Entry) -> String {
    let word = |text: &str| Value::from(text).to_string();
    let matcher = entry.matcher.map(|matcher| format!("matcher = {}, ", word(matcher))).unwrap_or_default();
    let (event, command, timeout) = (word(entry.name), word(&entry.command), entry.timeout);
    format!("{{ event = {event}, {matcher}command = {command}, timeout = {timeout} }}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::harness::Harness;
    use crate::hooks::install::entry::entries;
    use crate::hooks::install::toml::{install, uninstall};
    use crate::system::program::Program;

    #[test]
    fn a_list_in_one_value_gets_the_entries_and_gives_them_back() {
        let lists = [
            "hooks = []",
            "hooks = [ ]\n[t]\nx = 1\n",
            "a = 1\n\"hooks\" = [ # none yet\n]\n",
            "hooks = [{event = \"Stop\", command = \"mine\"}]\n",
            "hooks = [{event = \"Stop\", command = \"a # b ]\"}, ] # mine\n",
            "hooks = [\r\n\t# first\r\n\t{ event = \"Stop\", command = 'mine' } , # why\r\n]\r\n",
            "hooks = [\n  { event = \"Stop\", command = \"x\" } # why\n  # last\n]",
        ];
        for before in lists {
            let ours = entries(Harness::Kimi, &Program::OnPath);
            let after = install(Some(before), Harness::Kimi, &ours).unwrap_or_else(|error| panic!("{error}: {before}"));
            let table: toml::Table = after.parse().unwrap();
            let count = before.matches("event").count() + ours.len();
            assert_eq!(table["hooks"].as_array().unwrap().len(), count, "{after}");
            assert_eq!(install(Some(&after), Harness::Kimi, &ours).unwrap(), after);
            assert_eq!(uninstall(&after, Harness::Kimi).unwrap().as_deref(), Some(before));
            // What somebody adds meanwhile stays.
            let edited = format!("top = 1\n{after}");
            assert_eq!(uninstall(&edited, Harness::Kimi).unwrap(), Some(format!("top = 1\n{before}")));
        }
    }

    #[test]
    fn tables_of_their_own_are_no_list_in_one_value() {
        for text in ["", "[[hooks]]\nevent = \"Stop\"\n", "hooks = [1]", "hooks = {}", "a = [{}]"] {
            assert!(find(text).is_none(), "{text}");
        }
    }
}
