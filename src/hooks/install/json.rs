//! Entries in a JSON file of hooks, which may have comments.
//!
//! # Theory
//!
//! All harnesses with such a file have an object `hooks` in it, with a list for each event. In the list are groups, each
//! with a list of commands (Claude Code, Codex, Gemini, Grok), or the commands themselves (Cursor). Our entries are
//! groups of their own, at the end of their lists. [`super::layout`] puts them in and takes them out.
//!
//! A whole file that was made for our entries is told by how it begins: a missing one by an end of line after the
//! bracket and nothing behind the last one, an empty one by two spaces.
//!
//! Before a result is handed out, the entries are taken out again, and what is left must be the text of before. So a
//! layout that this cannot undo is refused, and no file is ever left in one.
//!
//! Limits: a file that another program has printed anew in between comes back without our entries, in that program's
//! layout.

use jsonc_parser::ast::{Array, Object, Value};
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use super::entry::{Entry, event_of};
use super::layout::{Container, indentation, is_blank, line_end};
use super::target::Refusal;
use crate::hooks::event::Event;
use crate::hooks::harness::{Harness, Layout};

/// The text with these entries. `None` is a file that is not there.
///
/// # Errors
/// The text cannot be understood, or not be brought back.
pub(super) fn install(before: Option<&str>, harness: Harness, entries: &[Entry]) -> Result<String, Refusal> {
    let Some(text) = before else { return Ok(made_for(entries, harness, Origin::Missing)) };
    if is_blank(text) {
        return Ok(format!("{text}{}", made_for(entries, harness, Origin::Empty)));
    }
    let mut wanted: Vec<_> = entries.iter().map(|entry| (entry.name.to_owned(), entry.command.clone())).collect();
    let mut present: Vec<_> = installed(text, harness)?.into_iter().map(|found| (found.name, found.command)).collect();
    wanted.sort();
    present.sort();
    if wanted == present {
        return Ok(text.to_owned());
    }
    if !present.is_empty() {
        return install(uninstall(text, harness)?.as_deref(), harness, entries);
    }
    let after = add_all(text, harness, entries)?;
    let undone = uninstall(&after, harness)?;
    if undone.as_deref() == Some(text) { Ok(after) } else { Err(Refusal::Layout) }
}

/// The text without our entries, or `None` if the file was made for them.
///
/// # Errors
/// The text cannot be understood.
pub(super) fn uninstall(text: &str, harness: Harness) -> Result<Option<String>, Refusal> {
    let before = others(text, harness)?;
    let mut rest = text.to_owned();
    // Each round takes out one.
    while let Some(step) = step(&rest, harness).map_err(|_| Refusal::Layout)? {
        match step {
            Step::Rest(shorter) if shorter.len() < rest.len() => rest = shorter,
            Step::Rest(_) => return Err(Refusal::Layout),
            Step::Origin(Origin::Missing) => return Ok(None),
            Step::Origin(Origin::Empty) => {
                let blank = rest.len() - rest.trim_start().len();
                return Ok(Some(rest[..blank].to_owned()));
            }
        }
    }
    let is_unharmed = others(&rest, harness).is_ok_and(|left| left == before);
    if is_unharmed { Ok(Some(rest)) } else { Err(Refusal::Layout) }
}

/// What belongs to others in a text, as they have written it.
fn others(text: &str, harness: Harness) -> Result<Vec<String>, Refusal> {
    let Some(root) = root_of(text)? else { return Ok(Vec::new()) };
    let slice = |value: &Value<'_>| text[value.start()..value.end()].to_owned();
    let is_settings = |name: &str| name != "hooks" && !(has_version(harness) && name == "version");
    let settings = root.properties.iter().filter(|property| is_settings(property.name.as_str()));
    let mut others: Vec<_> =
        settings.map(|property| property.name.as_str().to_owned() + &slice(&property.value)).collect();
    for property in hooks(&root)?.into_iter().flat_map(|hooks| &hooks.properties) {
        let Some(list) = property.value.as_array() else {
            others.push(slice(&property.value));
            continue;
        };
        for member in &list.elements {
            let is_ours = |value: &Value<'_>| command_of(value).is_some_and(|text| event_of(harness, &text).is_some());
            others.extend(handlers(member).iter().filter(|value| !is_ours(value)).map(slice));
        }
    }
    Ok(others)
}

/// A command in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Installed {
    /// The event in the harness's words.
    pub(super) name: String,
    /// The number of its group in the list of the event.
    pub(super) group: usize,
    /// Its number in its group.
    pub(super) handler: usize,
    /// What it runs.
    pub(super) command: String,
    /// Whether it may wake a session, and does not keep it waiting.
    pub(super) wakes: bool,
}

/// The entries of ours in a text.
///
/// # Errors
/// The text cannot be understood.
pub(super) fn installed(text: &str, harness: Harness) -> Result<Vec<Installed>, Refusal> {
    Ok(all(text)?.into_iter().filter(|found| event_of(harness, &found.command).is_some()).collect())
}

/// All commands in a text.
///
/// # Errors
/// The text cannot be understood.
pub(super) fn all(text: &str) -> Result<Vec<Installed>, Refusal> {
    let Some(root) = root_of(text)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    let Some(hooks) = hooks(&root)? else { return Ok(found) };
    for property in &hooks.properties {
        let groups = property.value.as_array().map(|array| array.elements.as_slice()).unwrap_or_default();
        for (group, value) in groups.iter().enumerate() {
            for (handler, value) in handlers(value).iter().enumerate() {
                let Some(command) = command_of(value) else { continue };
                let name = property.name.as_str().to_owned();
                found.push(Installed { name, group, handler, command, wakes: wakes(value) });
            }
        }
    }
    Ok(found)
}

/// Whether a text has this value at the end of these keys.
pub(super) fn says(text: &str, path: &[&str], value: bool) -> bool {
    let found = parse(text).ok();
    let end = found.as_ref().and_then(|root| at(root, path));
    end.and_then(Value::as_boolean_lit).is_some_and(|found| found.value == value)
}

/// The texts in a list at the end of these keys.
pub(super) fn texts(text: &str, path: &[&str]) -> Vec<String> {
    let found = parse(text).ok();
    let list = found.as_ref().and_then(|root| at(root, path)).and_then(Value::as_array);
    let texts = list.into_iter().flat_map(|list| &list.elements).filter_map(Value::as_string_lit);
    texts.map(|text| text.value.to_string()).collect()
}

fn at<'a>(root: &'a Object<'a>, path: &[&str]) -> Option<&'a Value<'a>> {
    let (first, rest) = path.split_first()?;
    let value = &root.get(first)?.value;
    if rest.is_empty() { Some(value) } else { at(value.as_object()?, rest) }
}

/// The commands of a member of an event's list, be it a group or a command itself.
fn handlers<'a>(value: &'a Value<'a>) -> &'a [Value<'a>] {
    let group = value.as_object().and_then(|group| group.get_array("hooks"));
    group.map_or(std::slice::from_ref(value), |group| group.elements.as_slice())
}

fn wakes(value: &Value<'_>) -> bool {
    value.as_object().and_then(|handler| handler.get_boolean("asyncRewake")).is_some_and(|wakes| wakes.value)
}

fn command_of(value: &Value<'_>) -> Option<String> {
    Some(value.as_object()?.get_string("command")?.value.to_string())
}

/// The outermost object; `None` in a blank text.
fn root_of(text: &str) -> Result<Option<Object<'_>>, Refusal> {
    if is_blank(text) { Ok(None) } else { parse(text).map(Some) }
}

fn parse(text: &str) -> Result<Object<'_>, Refusal> {
    let options = ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let parsed = parse_to_ast(text, &CollectOptions::default(), &options);
    match parsed.map_err(|error| Refusal::Syntax(error.to_string()))?.value {
        Some(Value::Object(root)) => Ok(root),
        _ => Err(Refusal::Shape("the outermost value is no object".to_owned())),
    }
}

/// The object of hooks. One that is there twice would have to be guessed.
fn hooks<'a>(root: &'a Object<'a>) -> Result<Option<&'a Object<'a>>, Refusal> {
    let Some(index) = member(root, "hooks")? else { return Ok(None) };
    let hooks = root.properties[index].value.as_object();
    hooks.map(Some).ok_or_else(|| Refusal::Shape("`hooks` is no object".to_owned()))
}

/// The number of a member.
fn member(object: &Object<'_>, name: &str) -> Result<Option<usize>, Refusal> {
    let mut with_that_name =
        object.properties.iter().enumerate().filter(|(_, property)| property.name.as_str() == name);
    let first = with_that_name.next().map(|(index, _)| index);
    match with_that_name.next() {
        Some(_) => Err(Refusal::Shape(format!("`{name}` is there twice"))),
        None => Ok(first),
    }
}

/// Whether the harness's files must have a version.
fn has_version(harness: Harness) -> bool {
    harness.profile().layout == Layout::Flat
}

/// What was there before a whole file was made for our entries.
#[derive(Clone, Copy)]
enum Origin {
    Missing,
    Empty,
}

/// What taking out one entry leaves.
enum Step {
    Rest(String),
    Origin(Origin),
}

/// Takes out the first of our entries, together with what was made for it.
fn step(text: &str, harness: Harness) -> Result<Option<Step>, Refusal> {
    let Some(root) = root_of(text)? else { return Ok(None) };
    let Some(hooks) = hooks(&root)? else { return Ok(None) };
    let is_ours = |command: &Option<String>| command.as_deref().is_some_and(|text| event_of(harness, text).is_some());
    for (event, property) in hooks.properties.iter().enumerate() {
        let Some(list) = property.value.as_array() else { continue };
        for (group, value) in list.elements.iter().enumerate() {
            let commands: Vec<_> = handlers(value).iter().map(command_of).collect();
            let Some(first) = commands.iter().position(is_ours) else { continue };
            if commands.iter().all(is_ours) {
                return Ok(Some(without_group(text, harness, &Position { root: &root, hooks, list, event, group })));
            }
            let handlers = value.as_object().and_then(|group| group.get_array("hooks"));
            return Ok(handlers.map(|handlers| Step::Rest(Container::from(handlers).remove(text, first))));
        }
    }
    Ok(None)
}

/// A group in a text that was read.
struct Position<'a> {
    root: &'a Object<'a>,
    hooks: &'a Object<'a>,
    list: &'a Array<'a>,
    event: usize,
    group: usize,
}

/// Takes out a group, and each container around it that was made for it and has nothing else.
fn without_group(text: &str, harness: Harness, position: &Position<'_>) -> Step {
    let is_only_one = |container: &Container| container.len() == 1 && container.is_made_for_its_items(text);
    let list = Container::from(position.list);
    if !is_only_one(&list) {
        return Step::Rest(list.remove(text, position.group));
    }
    let hooks = Container::from(position.hooks);
    if !is_only_one(&hooks) {
        return Step::Rest(hooks.remove(text, position.event));
    }
    without_hooks(text, position.root, harness)
}

/// Takes out the object of hooks, with the version behind it that was put there together with it.
fn without_hooks(text: &str, root: &Object<'_>, harness: Harness) -> Step {
    let names: Vec<_> = root.properties.iter().map(|property| property.name.as_str()).collect();
    let Some(index) = names.iter().position(|name| *name == "hooks") else { return Step::Rest(text.to_owned()) };
    let has_version = has_version(harness) && names.get(index + 1) == Some(&"version");
    let container = Container::from(root);
    if names.len() == 1 + usize::from(has_version)
        && let Some(origin) = origin(text, root)
    {
        return Step::Origin(origin);
    }
    if !has_version {
        return Step::Rest(container.remove(text, index));
    }
    // What is behind the object of hooks does not move it.
    let rest = container.remove(text, index + 1);
    let without = parse(&rest).map(|root| Container::from(&root).remove(&rest, index));
    Step::Rest(without.unwrap_or(rest))
}

fn origin(text: &str, root: &Object<'_>) -> Option<Origin> {
    let inside = &text[root.range.start + 1..];
    let (before, behind) = (&text[..root.range.start], &text[root.range.end..]);
    let has_own_lines = Container::from(root).is_made_for_its_items(text);
    match (before, behind) {
        ("", "\n") if has_own_lines && inside.starts_with('\n') => Some(Origin::Missing),
        (_, "") if is_blank(before) && inside.starts_with("  \"hooks") => Some(Origin::Empty),
        _ => None,
    }
}

/// A whole file of our entries.
fn made_for(entries: &[Entry], harness: Harness, origin: Origin) -> String {
    let layout = |line_end, indentation| Style { line_end, unit: "  ", indentation, harness };
    let version = |between: &str| match harness.profile().layout {
        Layout::Flat => format!(",{between}\"version\": 1"),
        Layout::Groups => String::new(),
    };
    match origin {
        Origin::Missing => {
            let hooks = layout("\n", "  ").hooks(entries);
            format!("{{\n  {hooks}{}\n}}\n", version("\n  "))
        }
        Origin::Empty => {
            let hooks = layout("\n", "").hooks(entries);
            format!("{{  {hooks}{}}}", version(" "))
        }
    }
}

/// How what is put in is laid out.
#[derive(Debug, Clone, Copy)]
struct Style<'a> {
    line_end: &'a str,
    unit: &'a str,
    indentation: &'a str,
    harness: Harness,
}

impl Style<'_> {
    /// The member of the root, with everything in it.
    fn hooks(self, entries: &[Entry]) -> String {
        let Self { line_end, unit, indentation, .. } = self;
        let inner = format!("{indentation}{unit}");
        let lists: Vec<_> = names(entries)
            .into_iter()
            .map(|name| format!("{line_end}{inner}{}", Style { indentation: &inner, ..self }.list(name, entries)))
            .collect();
        format!("\"hooks\": {{{}{line_end}{indentation}}}", lists.join(","))
    }

    /// The member of an event, with its list.
    fn list(self, name: &str, entries: &[Entry]) -> String {
        let Self { line_end, unit, indentation, .. } = self;
        let groups: Vec<_> = of_event(name, entries)
            .map(|entry| format!("{line_end}{indentation}{unit}{}", group(entry, self.harness)))
            .collect();
        format!("\"{name}\": [{}{line_end}{indentation}]", groups.join(","))
    }
}

/// The names of the events, each once.
fn names(entries: &[Entry]) -> Vec<&'static str> {
    let mut names: Vec<_> = entries.iter().map(|entry| entry.name).collect();
    names.dedup();
    names
}

fn of_event<'a>(name: &'a str, entries: &'a [Entry]) -> impl Iterator<Item = &'a Entry> {
    entries.iter().filter(move |entry| entry.name == name)
}

/// One member of an event's list.
fn group(entry: &Entry, harness: Harness) -> String {
    let command = serde_json::Value::from(entry.command.as_str());
    let timeout = entry.timeout;
    if harness.profile().layout == Layout::Flat {
        return format!("{{\"command\": {command}, \"timeout\": {timeout}}}");
    }
    let matcher = entry.matcher.map(|matcher| format!("\"matcher\": \"{matcher}\", ")).unwrap_or_default();
    let wakes = match entry.event {
        Event::Wait => ", \"asyncRewake\": true",
        _ => "",
    };
    let handler = format!("{{\"type\": \"command\", \"command\": {command}, \"timeout\": {timeout}{wakes}}}");
    format!("{{{matcher}\"hooks\": [{handler}]}}")
}

/// Puts all of them into a text that has none.
fn add_all(text: &str, harness: Harness, entries: &[Entry]) -> Result<String, Refusal> {
    let root = parse(text)?;
    let first = root.properties.first().map(|first| indentation(text, first.range.start)).unwrap_or_default();
    let unit = if first.is_empty() { "  " } else { first };
    let layout = Style { line_end: line_end(text), unit, indentation: "", harness };
    if hooks(&root)?.is_none() {
        let container = Container::from(&root);
        return with_version(container.append(text, |at| Style { indentation: at, ..layout }.hooks(entries)), harness);
    }
    names(entries).into_iter().try_fold(text.to_owned(), |text, name| add_event(&text, name, entries, layout))
}

/// A harness whose files have a version reads none without one.
fn with_version(text: String, harness: Harness) -> Result<String, Refusal> {
    let root = parse(&text)?;
    if !has_version(harness) || member(&root, "version")?.is_some() {
        return Ok(text);
    }
    Ok(Container::from(&root).append(&text, |_| "\"version\": 1".to_owned()))
}

/// Puts in all entries of one event.
fn add_event(text: &str, name: &str, entries: &[Entry], layout: Style<'_>) -> Result<String, Refusal> {
    let root = parse(text)?;
    let hooks = hooks(&root)?.ok_or(Refusal::Layout)?;
    if member(hooks, name)?.is_none() {
        let list = |at: &str| Style { indentation: at, ..layout }.list(name, entries);
        return Ok(Container::from(hooks).append(text, list));
    }
    let groups = of_event(name, entries).map(|entry| group(entry, layout.harness));
    groups.into_iter().try_fold(text.to_owned(), |text, group| add_group(&text, name, &group))
}

fn add_group(text: &str, name: &str, group: &str) -> Result<String, Refusal> {
    let root = parse(text)?;
    let list = hooks(&root)?.and_then(|hooks| hooks.get(name)).and_then(|property| property.value.as_array());
    let list = list.ok_or_else(|| Refusal::Shape(format!("`hooks.{name}` is no list")))?;
    Ok(Container::from(list).append(text, |_| group.to_owned()))
}

#[cfg(test)]
mod tests;
