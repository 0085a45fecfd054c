//! Putting hooks into the settings of the harnesses, and taking them out again.
//!
//! # Theory of operation
//!
//! [`target`] knows which file, [`entry`] knows what belongs into it. Three pure editors turn the text of before into the
//! text of after: one for JSON with comments, one for TOML, one for files of code that are ours as a whole. None of them
//! prints a file anew, and each takes its own work out again before it hands it out: what comes back must be the text of
//! before, byte by byte, or nothing is written. [`file`] replaces the file as a whole, with a backup beside it.
//!
//! There is no record of what was installed: what stands in a file says by itself what is ours and how to undo it. So
//! an uninstall works after a move to another machine, from a checkout of somebody else, and after years.
//!
//! If this is wrong, somebody's settings are damaged, or a harness refuses to start. So a file that does not parse is
//! refused and not touched, and an entry is only ever known by its command, never by its target.

pub mod check;
pub mod entry;
mod file;
#[cfg(test)]
mod frozen;
#[cfg(test)]
mod fuzz;
mod json;
mod layout;
mod plugin;
pub mod target;
mod toml;

use std::path::PathBuf;

use self::entry::entries;
use self::file::{File, Way};
use self::target::{Refusal, Target};
use crate::base::error::{Error, Result};
use crate::hooks::harness::Form;
use crate::system::World;
use crate::system::program::{NAME, Program};

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was written.
    Written {
        /// Where it is.
        path: PathBuf,
        /// Where its old content is, if it had any.
        backup: Option<PathBuf>,
    },
    /// It was removed, because it was made for our entries.
    Removed {
        /// Where it was.
        path: PathBuf,
        /// Where its old content is, if somebody had put anything of theirs into it.
        backup: Option<PathBuf>,
    },
    /// It is as it was, because it is as it should be.
    Unchanged(PathBuf),
}

/// Makes sure that the entries are in the file.
///
/// # Errors
/// The file cannot be understood, must not be replaced, or the system refuses. It is then as it was.
pub fn install<W: World>(world: &W, target: &Target, program: &Program) -> Result<Outcome> {
    let Some(file) = File::find(world, &target.path, Way::Make)? else {
        return Err(Error::refused(&target.path, "its directory has vanished", "try again"));
    };
    let after = after_install(target, file.content(), program).map_err(|refusal| refused(target, &file, &refusal))?;
    if file.content() == Some(after.as_slice()) {
        return Ok(Outcome::Unchanged(file.path().to_owned()));
    }
    let backup = file.replace(world, &after)?;
    Ok(Outcome::Written { path: file.path().to_owned(), backup })
}

/// Makes sure that no entry of ours is in the file.
///
/// # Errors
/// As [`install`].
pub fn uninstall<W: World>(world: &W, target: &Target) -> Result<Outcome> {
    let unchanged = Ok(Outcome::Unchanged(target.path.clone()));
    let Some(file) = File::find(world, &target.path, Way::Leave)? else { return unchanged };
    let Some(before) = file.content() else { return unchanged };
    let after = after_uninstall(target, before).map_err(|refusal| refused(target, &file, &refusal))?;
    if after.as_deref() == Some(before) {
        return Ok(Outcome::Unchanged(file.path().to_owned()));
    }
    let path = file.path().to_owned();
    let Some(after) = after else {
        let backup = file.remove(world, target, |content| is_nobody_elses(target, content))?;
        return Ok(Outcome::Removed { path, backup });
    };
    let backup = file.replace(world, &after)?;
    Ok(Outcome::Written { path, backup })
}

/// What [`install`] would write into a file that is not there yet.
///
/// # Errors
/// None that is known.
pub fn print(target: &Target, program: &Program) -> Result<String> {
    let bytes = after_install(target, None, program);
    let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| Error::Failed(format!("the entries for {} cannot be printed", target.harness.title())))
}

fn refused<W: World>(target: &Target, file: &File<W>, refusal: &Refusal) -> Error {
    let next = match refusal {
        Refusal::Syntax(_) => "nothing was changed; mend it first".to_owned(),
        Refusal::Foreign => "nothing was changed; move it away first".to_owned(),
        Refusal::Shape(_) | Refusal::Layout => {
            format!("nothing was changed; edit it by hand, with what `fm-watch hooks print {}` shows", target.harness)
        }
    };
    Error::refused(file.path(), refusal, next)
}

/// The mark that some editors put before a text.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// The text, and what stood before it.
fn text_of(bytes: &[u8]) -> Result<(&'static str, &str), Refusal> {
    let text = std::str::from_utf8(bytes).map_err(|error| Refusal::Syntax(format!("it is not UTF-8: {error}")))?;
    Ok(text.strip_prefix(BYTE_ORDER_MARK).map_or(("", text), |text| (BYTE_ORDER_MARK, text)))
}

fn after_install(target: &Target, before: Option<&[u8]>, program: &Program) -> Result<Vec<u8>, Refusal> {
    let (mark, text) = before.map(text_of).transpose()?.unzip();
    let entries = entries(target.harness, program);
    let after = match target.form {
        Form::Json => json::install(text, target.harness, &entries),
        Form::Toml => toml::install(text, target.harness, &entries),
        Form::Plugin(_) => plugin::install(text, target.harness, program),
    }?;
    Ok(format!("{}{after}", mark.unwrap_or_default()).into_bytes())
}

fn after_uninstall(target: &Target, before: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
    let (mark, text) = text_of(before)?;
    let after = match target.form {
        Form::Json => json::uninstall(text, target.harness),
        Form::Toml => toml::uninstall(text, target.harness),
        Form::Plugin(_) => Ok(plugin::uninstall(text, target.harness)),
    }?;
    Ok(after.map(|after| format!("{mark}{after}").into_bytes()))
}

/// Whether there is nothing in a file but what we have written.
fn is_nobody_elses(target: &Target, content: &[u8]) -> bool {
    match target.form {
        Form::Plugin(_) => text_of(content).is_ok_and(|(_, text)| plugin::is_pristine(text, target.harness)),
        Form::Json | Form::Toml => after_uninstall(target, content) == Ok(None),
    }
}

/// The commands of ours in a file, with the harness's name of the event.
fn installed(target: &Target, content: &[u8]) -> Result<Vec<(String, String)>, Refusal> {
    let all = commands(target, content)?;
    Ok(all.into_iter().filter(|(_, command)| entry::event_of(target.harness, command).is_some()).collect())
}

/// All commands in a file, with the harness's name of the event.
fn commands(target: &Target, content: &[u8]) -> Result<Vec<(String, String)>, Refusal> {
    let (_, text) = text_of(content)?;
    match target.form {
        Form::Json => Ok(json::all(text)?.into_iter().map(|found| (found.name, found.command)).collect()),
        Form::Toml => toml::all(text),
        Form::Plugin(_) => Ok(Vec::new()),
    }
}

/// Whether a file has entries of ours. One that does not parse has them if it has their text.
///
/// # Errors
/// The file cannot be read.
pub fn has_entries<W: World>(world: &W, target: &Target) -> Result<bool> {
    let Some(file) = File::find(world, &target.path, Way::Leave)? else { return Ok(false) };
    let Some(content) = file.content() else { return Ok(false) };
    let text = String::from_utf8_lossy(content);
    Ok(match target.form {
        Form::Plugin(_) => text_of(content).is_ok_and(|(_, text)| plugin::is_ours(text, target.harness)),
        Form::Json | Form::Toml => match installed(target, content) {
            Ok(found) => !found.is_empty(),
            Err(_) => text.contains(NAME) && text.contains(&format!(" hook --harness {} --event ", target.harness)),
        },
    })
}
