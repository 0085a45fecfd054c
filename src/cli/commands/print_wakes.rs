//! Showing wakes.

use crate::base::console::Format;
use crate::base::error::{Error, Result};
use crate::cli::session::Session;
use crate::journal::record::{Kind, Wake};
use crate::journal::render;

/// Prints the reason line of each wake.
///
/// # Errors
/// Nobody reads: the wakes were not shown.
pub fn reasons(session: &Session, wakes: &[Wake]) -> Result<()> {
    match session.console.format {
        Format::Lines => render::reason_lines(wakes).iter().try_for_each(|line| session.console.data(line)),
        Format::Json => objects(session, wakes),
    }
}

/// As [`reasons`], as the watcher script prints them: a check's output as it is.
///
/// # Errors
/// As [`reasons`].
pub fn reasons_as_script(session: &Session, wakes: &[Wake]) -> Result<()> {
    match wakes {
        [check] if check.kind == Kind::Check => session.console.data(&render::with_kind(check)),
        _ => reasons(session, wakes),
    }
}

/// Prints each wake as a JSON object.
///
/// # Errors
/// Nobody reads: the wakes were not shown.
pub fn objects(session: &Session, wakes: &[Wake]) -> Result<()> {
    wakes.iter().try_for_each(|wake| {
        session.console.data(&render::json_line(wake).map_err(|error| Error::Failed(error.to_string()))?)
    })
}
