//! What other files do to the entries: whether one turns hooks off, whether the harness trusts them, and whether something
//! runs them more than once. That can be the file itself, another file that the harness reads, or a command that somebody
//! made of one of ours.
//!
//! Mostly only the harness knows what it trusts. Codex writes it down: for each entry, under the file, the event and the
//! numbers of its group and place, a hash of what was trusted. That there is one is reported; whether it is the right one
//! is not judged here.

use std::path::{Path, PathBuf};

use toml::Table;

use super::finding::{Finding, Grade, Surroundings};
use crate::hooks::harness::{Form, Harness, Profile, Trust};
use crate::hooks::install::entry::{event_of, is_like_ours};
use crate::hooks::install::file::{File, Way};
use crate::hooks::install::target::{Scope, Target};
use crate::hooks::install::{commands, has_entries, json, text_of};
use crate::system::World;

/// What runs the entries that were found besides.
pub(super) fn doubled<W: World>(
    world: &W,
    file: &File<W>,
    target: &Target,
    found: &[(String, String)],
    around: &Surroundings<'_>,
) -> Vec<Finding> {
    let mut findings = vec![elsewhere(world, file, target, found, around)];
    let content = file.content().unwrap_or_default();
    let all = commands(target, content).unwrap_or_default();
    findings.extend(all.iter().filter(|(_, command)| is_like_ours(target.harness, command)).map(|(event, command)| {
        let text = format!("fm-watch did not write this one of {event}, and leaves it alone: {command}");
        Finding::new(Grade::Warn, "doubled", text).with("remove it by hand if it is not wanted")
    }));
    findings
}

fn elsewhere<W: World>(
    world: &W,
    file: &File<W>,
    target: &Target,
    found: &[(String, String)],
    around: &Surroundings<'_>,
) -> Finding {
    let mut once: Vec<_> = found.iter().collect();
    once.sort();
    once.dedup();
    // One file may be found by two paths.
    let is_another = |other: &Target| {
        let real = File::find(world, &other.path, Way::Leave).ok().flatten().map(|other| other.path().to_owned());
        real.is_some_and(|real| real != file.path()) && has_entries(world, other).unwrap_or(false)
    };
    let profile = target.harness.profile();
    let own = targets(target.harness, around).find(is_another);
    let cross = profile.also_reads.iter().flat_map(|harness| targets(*harness, around)).find(is_another);
    let is_twice = once.len() < found.len() || own.is_some();
    if is_twice && profile.runs_once {
        let text = format!("there twice, but {} runs the same command only once", profile.title);
        Finding::new(Grade::Pass, "doubled", text)
    } else if once.len() < found.len() {
        let text = "an entry is there twice, so it runs twice";
        Finding::new(Grade::Warn, "doubled", text).with(target.command_line("install"))
    } else if let Some(other) = own {
        let text = format!("{} has entries as well, so each of them runs twice", other.path.display());
        Finding::new(Grade::Warn, "doubled", text).with(target.command_line("uninstall"))
    } else if let Some(other) = cross {
        let (title, path, names) = (profile.title, other.path.display(), other.harness.title());
        let text = format!("{title} may also run the entries for {names} in {path}; they know it and stay silent");
        Finding::new(Grade::Pass, "doubled", text)
    } else {
        Finding::new(Grade::Pass, "doubled", "no other file that it reads has entries")
    }
}

/// What turns the entries in a file off, if anything does.
pub(super) fn enabled<W: World>(world: &W, target: &Target, around: &Surroundings<'_>) -> Finding {
    let content = |path: &Path| {
        let file = File::find(world, path, Way::Leave).ok().flatten()?;
        Some(file.content()?.to_owned())
    };
    let is_off =
        |path: &PathBuf| content(path).is_some_and(|content| is_turned_off(target.harness.profile(), path, &content));
    let is_one_off = |path: &PathBuf| content(path).is_some_and(|content| has_turned_one_off(target.harness, &content));
    let switches = switches(target, around);
    if let Some(path) = switches.iter().find(|path| is_one_off(path)) {
        let text = format!("somebody has turned off entries of ours in {}, under hooksConfig.disabled", path.display());
        return Finding::new(Grade::Warn, "enabled", text).with("turn them on with /hooks in gemini");
    }
    match switches.into_iter().find(is_off) {
        None => Finding::new(Grade::Pass, "enabled", "no file turns its hooks off"),
        Some(path) => {
            let text = format!("{} turns all hooks off, so none of them runs", path.display());
            Finding::new(Grade::Fail, "enabled", text).with(format!("turn them on in {}", path.display()))
        }
    }
}

/// The files that can turn the entries off.
fn switches(target: &Target, around: &Surroundings<'_>) -> Vec<PathBuf> {
    let mut files = vec![target.path.clone()];
    for other in targets(target.harness, around) {
        files.extend(target.harness.profile().switches_beside.map(|name| other.path.with_file_name(name)));
        files.extend((other.form == Form::Json).then_some(other.path));
    }
    files
}

/// The files of a harness.
fn targets(harness: Harness, around: &Surroundings<'_>) -> impl Iterator<Item = Target> {
    Scope::ALL.into_iter().filter_map(move |scope| Target::of(harness, scope, around.environment, around.project).ok())
}

fn has_turned_one_off(harness: Harness, content: &[u8]) -> bool {
    let (Some(path), Ok((_, text))) = (harness.profile().disabled, text_of(content)) else { return false };
    json::texts(text, path).iter().any(|command| event_of(harness, command).is_some())
}

fn is_turned_off(profile: &Profile, path: &Path, content: &[u8]) -> bool {
    let Ok((_, text)) = text_of(content) else { return false };
    let form = if path.extension() == Some("toml".as_ref()) { Form::Toml } else { Form::Json };
    let says = |path, value| match form {
        Form::Toml => toml_says(text, path, value),
        _ => json::says(text, path, value),
    };
    profile.switches.iter().any(|switch| switch.form == form && says(switch.path, switch.off))
}

/// Whether a text has this value at the end of these keys.
fn toml_says(text: &str, path: &[&str], value: bool) -> bool {
    let root = toml::Value::Table(text.parse::<Table>().unwrap_or_default());
    let end = path.iter().try_fold(&root, |table, key| table.get(key));
    end.and_then(toml::Value::as_bool) == Some(value)
}

/// Whether the harness trusts the entries, where that can be read.
pub(super) fn trusted<W: World>(world: &W, target: &Target, file: &File<W>, around: &Surroundings<'_>) -> Finding {
    match target.harness.profile().trust {
        Trust::Recorded => recorded(world, target, file, around),
        Trust::Projects(why) | Trust::Unknown(why) => {
            Finding::new(Grade::Pass, "trusted", format!("cannot be read: {why}"))
        }
    }
}

fn recorded<W: World>(world: &W, target: &Target, file: &File<W>, around: &Surroundings<'_>) -> Finding {
    let user = Target::of(Harness::Codex, Scope::User, around.environment, around.project).ok();
    let config = user.and_then(|user| user.path.parent().map(|directory| directory.join("config.toml")));
    let read = config.and_then(|config| File::find(world, &config, Way::Leave).ok().flatten());
    let text = read.as_ref().and_then(File::content).and_then(|content| std::str::from_utf8(content).ok());
    let states = trusted_entries(text.unwrap_or_default());
    let (_, hooks) = text_of(file.content().unwrap_or_default()).unwrap_or_default();
    let found = json::installed(hooks, Harness::Codex).unwrap_or_default();
    let is_trusted = |found: &&json::Installed| {
        let event = plain(&found.name);
        let ours = |path: &Path| format!("{}:{event}:{}:{}", path.display(), found.group, found.handler);
        states.iter().any(|state| *state == ours(&target.path) || *state == ours(file.path()))
    };
    let trusted = found.iter().filter(is_trusted).count();
    if trusted == found.len() {
        Finding::new(Grade::Pass, "trusted", format!("Codex has a trusted hash for each of {trusted} entries"))
    } else {
        let text = format!("Codex has a trusted hash for {trusted} of {} entries, and skips the others", found.len());
        Finding::new(Grade::Warn, "trusted", text).with("start codex and review its hooks")
    }
}

/// The keys under which Codex trusts entries, with the name of the event in lower case and without `_`.
fn trusted_entries(config: &str) -> Vec<String> {
    let table = config.parse::<toml::Table>().unwrap_or_default();
    let states = table.get("hooks").and_then(|hooks| hooks.get("state")).and_then(toml::Value::as_table);
    let is_trusted = |state: &toml::Value| {
        state.get("trusted_hash").is_some() && state.get("enabled").and_then(toml::Value::as_bool) != Some(false)
    };
    let keys = states.into_iter().flatten().filter(|(_, state)| is_trusted(state)).map(|(key, _)| key);
    keys.filter_map(|key| {
        let mut parts = key.rsplitn(4, ':');
        let (handler, group, event, file) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        Some(format!("{file}:{}:{group}:{handler}", plain(event)))
    })
    .collect()
}

fn plain(event: &str) -> String {
    event.replace('_', "").to_ascii_lowercase()
}
