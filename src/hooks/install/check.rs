//! Whether installed hooks are there, will run, and do run.
//!
//! Each entry is run once, as its harness would run it, with nothing on stdin: the program stays silent then, whatever
//! state the home is in. The waiter is not run, because it waits. Of a file of code the commands are run that it runs.
//!
//! Limits: what an administrator has set for all users is not looked at, nor are other files of local settings than those
//! named here.

mod finding;
mod other_files;
mod run;

pub use self::finding::{Finding, Grade, Surroundings};

use super::entry::{entries, event_of};
use super::file::{File, Way};
use super::target::Target;
use super::{after_install, installed, json, plugin, text_of};
use crate::base::error::Result;
use crate::hooks::event::Event;
use crate::hooks::harness::Form;
use crate::system::World;
use crate::system::program::Program;

/// Looks at the file of a harness, and runs its entries.
///
/// # Errors
/// The file cannot be read.
pub fn check<W: World>(world: &W, target: &Target, around: &Surroundings<'_>) -> Result<Vec<Finding>> {
    let absent = || vec![present_none(target)];
    let Some(file) = File::find(world, &target.path, Way::Leave)? else { return Ok(absent()) };
    let Some(content) = file.content() else { return Ok(absent()) };
    if matches!(target.form, Form::Plugin(_)) {
        return Ok(check_plugin(world, target, &file, content, around));
    }
    let found = match installed(target, content) {
        Ok(found) => found,
        Err(refusal) => {
            let text = format!("{}: {refusal}", file.path().display());
            return Ok(vec![Finding::new(Grade::Fail, "parses", text).with("mend the file by hand")]);
        }
    };
    let mut findings = vec![parses(target, &file, content), present(target, &found, around.program)];
    if found.is_empty() {
        return Ok(findings);
    }
    findings.extend(waiter(target, content));
    findings.push(other_files::enabled(world, target, around));
    findings.push(other_files::trusted(world, target, &file, around));
    findings.extend(other_files::doubled(world, &file, target, &found, around));
    let event = |command: &str| event_of(target.harness, command).filter(|event| *event != Event::Wait);
    let found = found.iter().filter_map(|(_, command)| Some((event(command)?, command.as_str())));
    findings.extend(run::run_each(target, &found.collect::<Vec<_>>(), around));
    Ok(findings)
}

fn check_plugin<W: World>(
    world: &W,
    target: &Target,
    file: &File<W>,
    content: &[u8],
    around: &Surroundings<'_>,
) -> Vec<Finding> {
    let mut findings = vec![plugin_present(target, content, around.program)];
    let text = text_of(content).map(|(_, text)| text).unwrap_or_default();
    let commands = plugin::commands(text, target.harness);
    if !commands.is_empty() {
        findings.push(other_files::trusted(world, target, file, around));
        findings.extend(other_files::doubled(world, file, target, &[], around));
    }
    let commands: Vec<_> = commands.iter().map(|(event, command)| (*event, command.as_str())).collect();
    findings.extend(run::run_each(target, &commands, around));
    findings
}

/// The entry that waits, if a session would wait with it.
fn waiter(target: &Target, content: &[u8]) -> Option<Finding> {
    let (_, text) = text_of(content).ok().filter(|_| target.form == Form::Json)?;
    let found = json::installed(text, target.harness).unwrap_or_default();
    let waits = |found: &json::Installed| event_of(target.harness, &found.command) == Some(Event::Wait);
    found.iter().find(|found| waits(found) && !found.wakes)?;
    let text = "the entry that waits is not marked asyncRewake any more, so each turn would wait with it";
    let again = format!("{} && {}", target.command_line("uninstall"), target.command_line("install"));
    Some(Finding::new(Grade::Fail, "present", text).with(again))
}

/// A file that was read. Not every harness takes what this program takes.
fn parses<W: World>(target: &Target, file: &File<W>, content: &[u8]) -> Finding {
    let path = file.path().display();
    let text = text_of(content).map(|(_, text)| text).unwrap_or_default();
    let is_plain = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    if target.form != Form::Json || is_plain {
        return Finding::new(Grade::Pass, "parses", path.to_string());
    }
    let title = target.harness.title();
    let text = format!("{path}, but as more than plain JSON (comments, or a comma too many): {title} must allow that");
    Finding::new(Grade::Pass, "parses", text)
}

fn present_none(target: &Target) -> Finding {
    let text = format!("no entries in {}", target.path.display());
    Finding::new(Grade::Fail, "present", text).with(target.command_line("install"))
}

fn plugin_present(target: &Target, content: &[u8], program: &Program) -> Finding {
    let path = target.path.display();
    let is_ours = text_of(content).is_ok_and(|(_, text)| plugin::is_ours(text, target.harness));
    if !is_ours {
        return Finding::new(Grade::Fail, "present", format!("{path} is not a file that fm-watch has written"));
    }
    if after_install(target, Some(content), program).is_ok_and(|after| after == content) {
        Finding::new(Grade::Pass, "present", format!("{path}"))
    } else {
        let text = format!("{path} was changed, or is another release's, or names another program");
        Finding::new(Grade::Warn, "present", text).with(target.command_line("install"))
    }
}

fn present(target: &Target, found: &[(String, String)], program: &Program) -> Finding {
    let wanted = entries(target.harness, program);
    let is_there = |name: &str, command: &str| found.iter().any(|(event, text)| event == name && text == command);
    let there = wanted.iter().filter(|entry| is_there(entry.name, &entry.command)).count();
    if found.is_empty() {
        present_none(target)
    } else if there == wanted.len() && found.len() == wanted.len() {
        Finding::new(Grade::Pass, "present", format!("{there} of {} entries", wanted.len()))
    } else {
        let (all, found) = (wanted.len(), found.len());
        let text = format!("{there} of {all} entries as they should be, {found} in all");
        Finding::new(Grade::Warn, "present", text).with(target.command_line("install"))
    }
}
