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
//! refused and not touched, and an entry is only ever known by its command, never by its place.

pub mod check;
pub mod entry;
mod file;
#[cfg(test)]
mod frozen;
#[cfg(test)]
mod fuzz;
mod json;
mod json_layout;
mod plugin;
pub mod target;
mod toml;
mod toml_list;

use std::path::PathBuf;

use thiserror::Error;

use self::entry::entries;
use self::file::{File, Way};
use self::target::{Form, Place};
use crate::base::error::{Error, Result};
use crate::system::World;
use crate::system::program::Program;

/// Why a file is not edited. It is as it was then.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// It is not what its kind of file has to be.
    #[error("it does not parse: {0}")]
    Syntax(String),
    /// It parses, and has something else where the hooks belong.
    #[error("{0}")]
    Shape(String),
    /// What would be put in could not be taken out again to the byte, or what is to be taken out is mixed with others'.
    #[error("our entries could not be told from the rest to the byte")]
    Layout,
    /// It has the name of a file of ours and is somebody else's.
    #[error("it is not a file that fm-watch has written")]
    Foreign,
}

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
pub fn install<W: World>(world: &W, place: &Place, program: &Program) -> Result<Outcome> {
    let Some(file) = File::find(world, &place.path, Way::Make)? else {
        return Err(Error::refused(&place.path, "its directory has vanished", "try again"));
    };
    let after = after_install(place, file.content(), program).map_err(|refusal| refused(place, &file, &refusal))?;
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
pub fn uninstall<W: World>(world: &W, place: &Place) -> Result<Outcome> {
    let unchanged = Ok(Outcome::Unchanged(place.path.clone()));
    let Some(file) = File::find(world, &place.path, Way::Leave)? else { return unchanged };
    let Some(before) = file.content() else { return unchanged };
    let after = after_uninstall(place, before).map_err(|refusal| refused(place, &file, &refusal))?;
    if after.as_deref() == Some(before) {
        return Ok(Outcome::Unchanged(file.path().to_owned()));
    }
    let path = file.path().to_owned();
    let Some(after) = after else {
        let backup = file.remove(world, place, |content| is_nobody_elses(place, content))?;
        return Ok(Outcome::Removed { path, backup });
    };
    let backup = file.replace(world, &after)?;
    Ok(Outcome::Written { path, backup })
}

/// What [`install`] would write into a file that is not there yet.
///
/// # Errors
/// None that is known.
pub fn print(place: &Place, program: &Program) -> Result<String> {
    let bytes = after_install(place, None, program);
    let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| Error::Failed(format!("the entries for {} cannot be printed", place.harness.title())))
}

fn refused<W: World>(place: &Place, file: &File<W>, refusal: &Refusal) -> Error {
    let next = match refusal {
        Refusal::Syntax(_) => "nothing was changed; mend it first".to_owned(),
        Refusal::Foreign => "nothing was changed; move it away first".to_owned(),
        Refusal::Shape(_) | Refusal::Layout => {
            format!("nothing was changed; edit it by hand, with what `fm-watch hooks print {}` shows", place.harness)
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

fn after_install(place: &Place, before: Option<&[u8]>, program: &Program) -> Result<Vec<u8>, Refusal> {
    let (mark, text) = before.map(text_of).transpose()?.unzip();
    let entries = entries(place.harness, program);
    let after = match place.form {
        Form::Json => json::install(text, place.harness, &entries),
        Form::Toml => toml::install(text, place.harness, &entries),
        Form::Plugin => plugin::install(text, place.harness, program),
    }?;
    Ok(format!("{}{after}", mark.unwrap_or_default()).into_bytes())
}

fn after_uninstall(place: &Place, before: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
    let (mark, text) = text_of(before)?;
    let after = match place.form {
        Form::Json => json::uninstall(text, place.harness),
        Form::Toml => toml::uninstall(text, place.harness),
        Form::Plugin => Ok(plugin::uninstall(text, place.harness)),
    }?;
    Ok(after.map(|after| format!("{mark}{after}").into_bytes()))
}

/// Whether there is nothing in a file but what we have written.
fn is_nobody_elses(place: &Place, content: &[u8]) -> bool {
    match place.form {
        Form::Plugin => text_of(content).is_ok_and(|(_, text)| plugin::is_pristine(text, place.harness)),
        Form::Json | Form::Toml => after_uninstall(place, content) == Ok(None),
    }
}

/// The commands of ours in a file, with the harness's name of the event.
fn installed(place: &Place, content: &[u8]) -> Result<Vec<(String, String)>, Refusal> {
    let all = commands(place, content)?;
    Ok(all.into_iter().filter(|(_, command)| entry::event_of(place.harness, command).is_some()).collect())
}

/// All commands in a file, with the harness's name of the event.
fn commands(place: &Place, content: &[u8]) -> Result<Vec<(String, String)>, Refusal> {
    let (_, text) = text_of(content)?;
    match place.form {
        Form::Json => Ok(json::all(text)?.into_iter().map(|found| (found.name, found.command)).collect()),
        Form::Toml => toml::all(text),
        Form::Plugin => Ok(Vec::new()),
    }
}
