//! Entries in a TOML file of hooks: tables `[[hooks]]`, between two marks at the end of the file.
//!
//! # Theory
//!
//! TOML has comments everywhere, so our tables stand between two of them, and the first one says what was there before
//! them: a file that ended in a line, one that did not, or none. Taking them out is cutting from mark to mark. A table
//! with an array of its name may be continued at the end of a file, whatever stands in between.
//!
//! Where another program printed the file anew and dropped the marks, our tables are still known by their commands; then
//! the lines of each are taken out, and only when what is left means the same as before without them.
//!
//! If this is wrong, Kimi Code does not start any more, because it refuses a file with a mistake. So every result is
//! parsed before it is handed out, and taken apart again.
//!
//! Where `hooks` is a list in one value (`hooks = [{event = "Stop", …}]`, as programs write it that print their settings
//! themselves, and `hooks = []` above all), tables cannot continue it. Then entries go into it as tables in a line, at its
//! end, in the way of [`super::layout`], which also says why no library edits the file.
//!
//! Limits: a list in one value with anything but tables in it is not recognised.

use serde::Deserialize;
use toml::{Spanned, Table, Value};

use super::entry::{Entry, event_of};
use super::layout::{Container, line_end};
use super::target::Refusal;
use crate::hooks::harness::Harness;

/// The text with these entries. `None` is a file that is not there.
///
/// # Errors
/// The text cannot be understood or continued.
pub(super) fn install(before: Option<&str>, harness: Harness, entries: &[Entry]) -> Result<String, Refusal> {
    let text = before.unwrap_or_default();
    let table = parse(text)?;
    let mut wanted: Vec<_> = entries.iter().map(|entry| (entry.name.to_owned(), entry.command.clone())).collect();
    let mut present = installed_in(&table, harness);
    wanted.sort();
    present.sort();
    if wanted == present {
        return Ok(text.to_owned());
    }
    if !present.is_empty() || Block::find(text).is_some() {
        return install(uninstall(text, harness)?.as_deref(), harness, entries);
    }
    if !matches!(table.get("hooks"), None | Some(Value::Array(_))) {
        return Err(Refusal::Shape("`hooks` is no list of tables".to_owned()));
    }
    let after = match add_to_list(text, entries) {
        Some(after) => after,
        None => format!("{text}{}", block(before, entries)),
    };
    let is_understood = parse(&after).is_ok_and(|table| installed_in(&table, harness).len() == entries.len());
    let undone = if is_understood { uninstall(&after, harness)? } else { None };
    if is_understood && undone.as_deref() == before { Ok(after) } else { Err(Refusal::Layout) }
}

/// The text without our entries, or `None` if the file was made for them.
///
/// # Errors
/// The text cannot be understood, or our entries be told apart from others.
pub(super) fn uninstall(text: &str, harness: Harness) -> Result<Option<String>, Refusal> {
    let before = parse(text)?;
    let rest = match Block::find(text) {
        Some(block) => block.without(text),
        None => Some(text.to_owned()),
    };
    let Some(rest) = rest else { return Ok(None) };
    let rest = without_in_list(rest, |hook| is_ours(hook, harness));
    let rest = if installed_in(&parse(&rest)?, harness).is_empty() { rest } else { without_tables(&rest, harness) };
    let has_ours = |text: &str| parse(text).is_ok_and(|rest| !installed_in(&rest, harness).is_empty());
    if !has_ours(&rest) && parse(&rest).is_ok_and(|rest| without_ours(rest, harness) == without_ours(before, harness)) {
        Ok(Some(rest))
    } else {
        Err(Refusal::Layout)
    }
}

/// All commands in a text, with the harness's name of the event.
///
/// # Errors
/// The text cannot be understood.
pub(super) fn all(text: &str) -> Result<Vec<(String, String)>, Refusal> {
    Ok(hooks_in(&parse(text)?, |_| true))
}

fn parse(text: &str) -> Result<Table, Refusal> {
    text.strip_prefix('\u{feff}').unwrap_or(text).parse::<Table>().map_err(|error| Refusal::Syntax(error.to_string()))
}

fn installed_in(table: &Table, harness: Harness) -> Vec<(String, String)> {
    hooks_in(table, |hook| is_ours(hook, harness))
}

fn hooks_in(table: &Table, is_wanted: impl Fn(&Value) -> bool) -> Vec<(String, String)> {
    let hooks = table.get("hooks").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let word = |hook: &Value, key: &str| hook.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    hooks.iter().filter(|hook| is_wanted(hook)).map(|hook| (word(hook, "event"), word(hook, "command"))).collect()
}

fn is_ours(hook: &Value, harness: Harness) -> bool {
    let command = hook.get("command").and_then(Value::as_str);
    command.is_some_and(|command| event_of(harness, command).is_some())
}

/// What a table means without our entries. An empty list of hooks and none mean the same.
fn without_ours(mut table: Table, harness: Harness) -> Table {
    if let Some(Value::Array(hooks)) = table.get_mut("hooks") {
        hooks.retain(|hook| !is_ours(hook, harness));
        if hooks.is_empty() {
            table.remove("hooks");
        }
    }
    table
}

/// The text without the lines of each table of ours: from its header to before the next one, but not the comments and
/// blank lines that lead to that.
fn without_tables(text: &str, harness: Harness) -> String {
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    let is_header = |line: &str| line.trim_start().starts_with('[');
    let mut kept = String::new();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        let next = lines[at + 1..].iter().position(|line| is_header(line)).map_or(lines.len(), |next| at + 1 + next);
        let is_value = |line: &str| !matches!(line.trim_start().chars().next(), None | Some('#'));
        let end = lines[at..next].iter().rposition(|line| is_value(line)).map_or(next, |last| at + last + 1);
        let table = lines[at..end].concat().parse::<Table>().unwrap_or_default();
        let is_our_table = is_header(line) && installed_in(&table, harness).len() == 1;
        if is_our_table {
            at = end;
        } else {
            kept.push_str(line);
            at += 1;
        }
    }
    kept
}

/// What was there before our tables.
#[derive(Debug, Clone, Copy)]
enum Before {
    /// No file.
    Nothing,
    /// Nothing, or a line with its end.
    Line,
    /// A line without its end, which was given one.
    OpenLine,
}

impl Before {
    const ALL: [Self; 3] = [Self::Nothing, Self::Line, Self::OpenLine];

    fn of(text: Option<&str>) -> Self {
        match text {
            None => Self::Nothing,
            Some(text) if text.is_empty() || text.ends_with('\n') => Self::Line,
            Some(_) => Self::OpenLine,
        }
    }

    /// The first line of our part.
    fn mark(self) -> &'static str {
        match self {
            Self::Nothing => "# >>> fm-watch: hooks; a file of their own",
            Self::Line => "# >>> fm-watch: hooks",
            Self::OpenLine => "# >>> fm-watch: hooks; the line above had no end",
        }
    }
}

/// The last line of our part.
const END: &str = "# <<< fm-watch: hooks";

/// Our part of a file.
fn block(text: Option<&str>, entries: &[Entry]) -> String {
    let before = Before::of(text);
    let line_end = line_end(text.unwrap_or_default());
    let mut lines = vec![before.mark().to_owned()];
    for entry in entries {
        lines.push("[[hooks]]".to_owned());
        lines.push(format!("event = {}", word(entry.name)));
        lines.extend(entry.matcher.map(|matcher| format!("matcher = {}", word(matcher))));
        lines.push(format!("command = {}", word(&entry.command)));
        lines.push(format!("timeout = {}", entry.timeout));
    }
    lines.push(END.to_owned());
    let lead = if matches!(before, Before::OpenLine) { line_end } else { "" };
    format!("{lead}{}{line_end}", lines.join(line_end))
}

/// Where our part is in a text.
#[derive(Debug)]
struct Block {
    before: Before,
    start: usize,
    end: usize,
}

impl Block {
    fn find(text: &str) -> Option<Self> {
        let mut at = 0;
        let mut begun = None;
        for line in text.split_inclusive('\n') {
            let content = line.trim_end_matches(['\n', '\r']);
            if let Some(before) = Before::ALL.into_iter().find(|before| before.mark() == content) {
                begun = Some((before, at));
            }
            at += line.len();
            if let Some((before, start)) = begun.filter(|_| content == END) {
                return Some(Self { before, start, end: at });
            }
        }
        None
    }

    /// What is left without it: `None` if that is nothing, and was.
    fn without(&self, text: &str) -> Option<String> {
        let (above, below) = (&text[..self.start], &text[self.end..]);
        let above = match self.before {
            Before::Nothing if above.is_empty() && below.is_empty() => return None,
            Before::OpenLine if below.is_empty() => {
                above.strip_suffix("\r\n").or_else(|| above.strip_suffix('\n')).unwrap_or(above)
            }
            _ => above,
        };
        Some(format!("{above}{below}"))
    }
}

/// What is looked at of a file.
#[derive(Deserialize)]
struct Listed {
    hooks: Spanned<Vec<Spanned<Value>>>,
}

/// The text with these entries in its list, if it has one.
fn add_to_list(text: &str, entries: &[Entry]) -> Option<String> {
    list_in(text)?;
    entries.iter().try_fold(text.to_owned(), |text, entry| {
        let (container, _) = list_in(&text)?;
        Some(container.append(&text, |_| item(entry)))
    })
}

/// The text without those members of its list, if it has one.
fn without_in_list(mut text: String, is_ours: impl Fn(&Value) -> bool) -> String {
    while let Some((container, hooks)) = list_in(&text)
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
fn list_in(text: &str) -> Option<(Container, Vec<Value>)> {
    let hooks = toml::from_str::<Listed>(text).ok()?.hooks;
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
    let matcher = entry.matcher.map(|matcher| format!("matcher = {}, ", word(matcher))).unwrap_or_default();
    let (event, command, timeout) = (word(entry.name), word(&entry.command), entry.timeout);
    format!("{{ event = {event}, {matcher}command = {command}, timeout = {timeout} }}")
}

/// A text as TOML writes it.
fn word(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
