//! Whether installed hooks are there, will run, and do run.
//!
//! Each entry is run once, as its harness would run it, with nothing on stdin: the program stays silent then, whatever
//! state the home is in. The waiter is not run, because it waits.
//!
//! Whether a harness trusts a file is mostly known to the harness alone. Codex writes it down: for each entry, under the
//! file, the event and the numbers of its group and place, a hash of what was trusted. That there is one is reported;
//! whether it is the right one is not judged here.
//!
//! Limits: of files of code only the file itself is looked at.

use std::fmt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::entry::{NAME, Program, entries, event_of};
use super::file::{File, Way};
use super::place::{Form, Place, Scope};
use super::{after_install, installed, is_turned_off, json, plugin, text_of};
use crate::environment::Environment;
use crate::error::Result;
use crate::hooks::event::Event;
use crate::hooks::harness::Harness;
use crate::platform;
use crate::watcher::bounded_run::{self, Ending, Plan};
use crate::world::World;

/// How good or bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// As it should be.
    Pass,
    /// It works, or nobody can tell, and a person should know.
    Warn,
    /// It does not work.
    Fail,
}

impl fmt::Display for Grade {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Pass => "PASS",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        })
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How good or bad it is.
    pub grade: Grade,
    /// What was looked at: `present`, `parses`, `enabled`, `trusted`, `doubled` or `runs`.
    pub what: &'static str,
    /// What was found.
    pub text: String,
    /// What mends it, if anything is to be mended.
    pub mend: Option<String>,
}

impl Finding {
    fn new(grade: Grade, what: &'static str, text: impl Into<String>) -> Self {
        Self { grade, what, text: text.into(), mend: None }
    }

    fn with(self, mend: impl Into<String>) -> Self {
        Self { mend: Some(mend.into()), ..self }
    }
}

/// Where a check looks besides the file itself.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// The variables that say where files are, and what a hook would see.
    pub environment: &'a Environment,
    /// The directory of the project.
    pub project: &'a Path,
    /// What entries should run.
    pub program: &'a Program,
}

/// How long an entry may take before a person would notice it.
const SOON: Duration = Duration::from_millis(300);

/// How long an entry is given.
const DEADLINE: Duration = Duration::from_secs(2);

/// Looks at the file of a harness, and runs its entries.
///
/// # Errors
/// The file cannot be read.
pub fn check<W: World>(world: &W, place: &Place, around: &Surroundings<'_>) -> Result<Vec<Finding>> {
    let absent = || vec![present_none(place)];
    let Some(file) = File::find(world, &place.path, Way::Leave)? else { return Ok(absent()) };
    let Some(content) = file.content() else { return Ok(absent()) };
    if place.form == Form::Plugin {
        return Ok(vec![plugin_present(place, content, around.program)]);
    }
    let found = match installed(place, content) {
        Ok(found) => found,
        Err(refusal) => {
            let text = format!("{}: {refusal}", file.path().display());
            return Ok(vec![Finding::new(Grade::Fail, "parses", text).with("mend the file by hand")]);
        }
    };
    let mut findings = vec![Finding::new(Grade::Pass, "parses", file.path().display().to_string())];
    findings.push(present(place, &found, around.program));
    if found.is_empty() {
        return Ok(findings);
    }
    findings.push(enabled(place, content));
    findings.push(trusted(world, place, &file, around));
    findings.push(doubled(world, place, &found, around));
    findings.extend(found.iter().filter_map(|(_, command)| runs(place, command, around)));
    Ok(findings)
}

/// Whether a file has entries of ours. One that does not parse has them if it has their text.
///
/// # Errors
/// The file cannot be read.
pub fn has_entries<W: World>(world: &W, place: &Place) -> Result<bool> {
    let Some(file) = File::find(world, &place.path, Way::Leave)? else { return Ok(false) };
    let Some(content) = file.content() else { return Ok(false) };
    let text = String::from_utf8_lossy(content);
    Ok(match place.form {
        Form::Plugin => text_of(content).is_ok_and(|(_, text)| plugin::is_ours(text, place.harness)),
        Form::Json | Form::Toml => match installed(place, content) {
            Ok(found) => !found.is_empty(),
            Err(_) => text.contains(&format!("{NAME} hook --harness {} ", place.harness)),
        },
    })
}

fn present_none(place: &Place) -> Finding {
    let text = format!("no entries in {}", place.path.display());
    Finding::new(Grade::Fail, "present", text).with(place.command_line("install"))
}

fn plugin_present(place: &Place, content: &[u8], program: &Program) -> Finding {
    let path = place.path.display();
    let is_ours = text_of(content).is_ok_and(|(_, text)| plugin::is_ours(text, place.harness));
    if !is_ours {
        return Finding::new(Grade::Fail, "present", format!("{path} is not a file that fm-watch has written"));
    }
    if after_install(place, Some(content), program).is_ok_and(|after| after == content) {
        Finding::new(Grade::Pass, "present", format!("{path}"))
    } else {
        let text = format!("{path} was changed, or is another release's, or names another program");
        Finding::new(Grade::Warn, "present", text).with(place.command_line("install"))
    }
}

fn present(place: &Place, found: &[(String, String)], program: &Program) -> Finding {
    let wanted = entries(place.harness, program);
    let is_there = |name: &str, command: &str| found.iter().any(|(event, text)| event == name && text == command);
    let there = wanted.iter().filter(|entry| is_there(entry.name, &entry.command)).count();
    if found.is_empty() {
        present_none(place)
    } else if there == wanted.len() && found.len() == wanted.len() {
        Finding::new(Grade::Pass, "present", format!("{there} of {} entries", wanted.len()))
    } else {
        let (all, found) = (wanted.len(), found.len());
        let text = format!("{there} of {all} entries as they should be, {found} in all");
        Finding::new(Grade::Warn, "present", text).with(place.command_line("install"))
    }
}

fn enabled(place: &Place, content: &[u8]) -> Finding {
    if is_turned_off(place.harness, content) {
        let text = format!("{} turns all of its hooks off, so none of them runs", place.path.display());
        Finding::new(Grade::Fail, "enabled", text).with("turn them on in that file")
    } else {
        Finding::new(Grade::Pass, "enabled", "the file does not turn its hooks off")
    }
}

fn trusted<W: World>(world: &W, place: &Place, file: &File<W>, around: &Surroundings<'_>) -> Finding {
    let unknown = |why: &str| Finding::new(Grade::Pass, "trusted", format!("cannot be read: {why}"));
    match place.harness {
        Harness::Codex => codex_trust(world, place, file, around),
        Harness::Claude => unknown("Claude Code asks once for each folder"),
        Harness::Cursor => unknown("Cursor runs hooks of a project only when it is trusted (--trust)"),
        Harness::Gemini => unknown("Gemini CLI asks again when a command has changed"),
        Harness::Grok => unknown("Grok runs hooks of a project only when it is trusted (/hooks-trust)"),
        Harness::Kimi | Harness::OpenCode | Harness::Pi => unknown("nothing is known of a trust in hooks"),
    }
}

fn codex_trust<W: World>(world: &W, place: &Place, file: &File<W>, around: &Surroundings<'_>) -> Finding {
    let user = Place::of(Harness::Codex, Scope::User, around.environment, around.project).ok();
    let config = user.and_then(|user| user.path.parent().map(|directory| directory.join("config.toml")));
    let read = config.and_then(|config| File::find(world, &config, Way::Leave).ok().flatten());
    let text = read.as_ref().and_then(File::content).and_then(|content| std::str::from_utf8(content).ok());
    let states = trusted_entries(text.unwrap_or_default());
    let (_, hooks) = text_of(file.content().unwrap_or_default()).unwrap_or_default();
    let found = json::installed(hooks, Harness::Codex).unwrap_or_default();
    let is_trusted = |found: &&json::Installed| {
        let event = plain(&found.name);
        let ours = |path: &Path| format!("{}:{event}:{}:{}", path.display(), found.group, found.handler);
        states.iter().any(|state| *state == ours(&place.path) || *state == ours(file.path()))
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

/// The other files from which a harness takes hooks too.
fn also_read(harness: Harness) -> &'static [Harness] {
    match harness {
        Harness::Cursor => &[Harness::Claude],
        Harness::Grok => &[Harness::Claude, Harness::Cursor],
        _ => &[],
    }
}

fn doubled<W: World>(world: &W, place: &Place, found: &[(String, String)], around: &Surroundings<'_>) -> Finding {
    let mut commands: Vec<_> = found.iter().collect();
    commands.sort();
    commands.dedup();
    let has_entries = |other: &Place| has_entries(world, other).unwrap_or(false);
    let places = |harness: Harness| {
        let place = move |scope| Place::of(harness, scope, around.environment, around.project).ok();
        Scope::ALL.into_iter().filter_map(place)
    };
    let own = places(place.harness).find(|other| other.path != place.path && has_entries(other));
    let cross = also_read(place.harness).iter().flat_map(|harness| places(*harness)).find(has_entries);
    if commands.len() < found.len() {
        let text = "an entry is there twice, so it runs twice";
        Finding::new(Grade::Warn, "doubled", text).with(place.command_line("install"))
    } else if let Some(other) = own {
        let text = format!("{} has entries as well, so each of them runs twice", other.path.display());
        Finding::new(Grade::Warn, "doubled", text).with(place.command_line("uninstall"))
    } else if let Some(other) = cross {
        let (title, path, names) = (place.harness.title(), other.path.display(), other.harness.title());
        let text = format!("{title} may also run the entries for {names} in {path}; they know it and stay silent");
        Finding::new(Grade::Pass, "doubled", text)
    } else {
        Finding::new(Grade::Pass, "doubled", "no other file that it reads has entries")
    }
}

/// Runs an entry once, as a harness would.
fn runs(place: &Place, command: &str, around: &Surroundings<'_>) -> Option<Finding> {
    let event = event_of(place.harness, command).filter(|event| *event != Event::Wait)?;
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).env_clear().envs(around.environment.for_child(&[])).current_dir(around.project);
    let plan = Plan { command: shell, input: Vec::new(), deadline: DEADLINE, stdout_limit: 4096, stderr_limit: 4096 };
    let begun = platform::monotonic();
    let outcome = bounded_run::run(plan, &AtomicBool::new(false));
    let took = platform::monotonic().saturating_sub(begun);
    let failed = |text: String| Finding::new(Grade::Fail, "runs", text).with(place.command_line("install"));
    Some(match outcome.map(|outcome| (outcome.ending, outcome.stderr)) {
        Ok((Ending::Exited(0), _)) if took <= SOON => {
            Finding::new(Grade::Pass, "runs", format!("{event} in {} ms", took.as_millis()))
        }
        Ok((Ending::Exited(0), _)) => {
            Finding::new(Grade::Warn, "runs", format!("{event} in {} ms, which people notice", took.as_millis()))
        }
        Ok((ending, stderr)) => {
            let said = String::from_utf8_lossy(&stderr);
            let said = said.lines().next().unwrap_or("nothing").to_owned();
            failed(format!("{event} {}: {said}", words(ending)))
        }
        Err(error) => failed(format!("{event} could not be started: {error}")),
    })
}

fn words(ending: Ending) -> String {
    match ending {
        Ending::Exited(code) => format!("exited with {code}"),
        Ending::Signalled => "was ended by a signal".to_owned(),
        Ending::TimedOut => format!("took longer than {} s", DEADLINE.as_secs()),
        Ending::Cancelled => "was cancelled".to_owned(),
    }
}
