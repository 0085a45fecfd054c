//! Whether installed hooks are there, will run, and do run.
//!
//! Each entry is run once, as its harness would run it, with nothing on stdin: the program stays silent then, whatever
//! state the home is in. The waiter is not run, because it waits. Of a file of code the commands are run that it runs.
//!
//! Limits: what an administrator has set for all users is not looked at, nor are other files of local settings than those
//! named here.

mod doubled;
mod enabled;
mod run;
mod trust;

use std::fmt;
use std::path::Path;

use super::entry::{entries, event_of};
use super::file::{File, Way};
use super::target::{Form, Place};
use super::{after_install, installed, json, plugin, text_of};
use crate::base::environment::Environment;
use crate::base::error::Result;
use crate::hooks::event::Event;
use crate::system::World;
use crate::system::program::{NAME, Program};

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

/// Looks at the file of a harness, and runs its entries.
///
/// # Errors
/// The file cannot be read.
pub fn check<W: World>(world: &W, place: &Place, around: &Surroundings<'_>) -> Result<Vec<Finding>> {
    let absent = || vec![present_none(place)];
    let Some(file) = File::find(world, &place.path, Way::Leave)? else { return Ok(absent()) };
    let Some(content) = file.content() else { return Ok(absent()) };
    if place.form == Form::Plugin {
        return Ok(check_plugin(world, place, &file, content, around));
    }
    let found = match installed(place, content) {
        Ok(found) => found,
        Err(refusal) => {
            let text = format!("{}: {refusal}", file.path().display());
            return Ok(vec![Finding::new(Grade::Fail, "parses", text).with("mend the file by hand")]);
        }
    };
    let mut findings = vec![parses(place, &file, content), present(place, &found, around.program)];
    if found.is_empty() {
        return Ok(findings);
    }
    findings.extend(waiter(place, content));
    findings.push(enabled::enabled(world, place, around));
    findings.push(trust::trusted(world, place, &file, around));
    findings.extend(doubled::doubled(world, &file, place, &found, around));
    let event = |command: &str| event_of(place.harness, command).filter(|event| *event != Event::Wait);
    let found = found.iter().filter_map(|(_, command)| Some((event(command)?, command.as_str())));
    findings.extend(run::run_each(place, &found.collect::<Vec<_>>(), around));
    Ok(findings)
}

fn check_plugin<W: World>(
    world: &W,
    place: &Place,
    file: &File<W>,
    content: &[u8],
    around: &Surroundings<'_>,
) -> Vec<Finding> {
    let mut findings = vec![plugin_present(place, content, around.program)];
    let text = text_of(content).map(|(_, text)| text).unwrap_or_default();
    let commands = plugin::commands(text, place.harness);
    if !commands.is_empty() {
        findings.push(trust::trusted(world, place, file, around));
        findings.extend(doubled::doubled(world, file, place, &[], around));
    }
    let commands: Vec<_> = commands.iter().map(|(event, command)| (*event, command.as_str())).collect();
    findings.extend(run::run_each(place, &commands, around));
    findings
}

/// The entry that waits, if a session would wait with it.
fn waiter(place: &Place, content: &[u8]) -> Option<Finding> {
    let (_, text) = text_of(content).ok().filter(|_| place.form == Form::Json)?;
    let found = json::installed(text, place.harness).unwrap_or_default();
    let waits = |found: &json::Installed| event_of(place.harness, &found.command) == Some(Event::Wait);
    found.iter().find(|found| waits(found) && !found.wakes)?;
    let text = "the entry that waits is not marked asyncRewake any more, so each turn would wait with it";
    let again = format!("{} && {}", place.command_line("uninstall"), place.command_line("install"));
    Some(Finding::new(Grade::Fail, "present", text).with(again))
}

/// A file that was read. Not every harness takes what this program takes.
fn parses<W: World>(place: &Place, file: &File<W>, content: &[u8]) -> Finding {
    let path = file.path().display();
    let text = text_of(content).map(|(_, text)| text).unwrap_or_default();
    let is_plain = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    if place.form != Form::Json || is_plain {
        return Finding::new(Grade::Pass, "parses", path.to_string());
    }
    let title = place.harness.title();
    let text = format!("{path}, but as more than plain JSON (comments, or a comma too many): {title} must allow that");
    Finding::new(Grade::Pass, "parses", text)
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
            Err(_) => text.contains(NAME) && text.contains(&format!(" hook --harness {} --event ", place.harness)),
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
