//! Showing wakes, and remembering that they were shown.

use std::fs::File;

use crate::base::console::Format;
use crate::base::error::{Error, Result};
use crate::cli::session::Session;
use crate::home::paths::names;
use crate::journal::delivered::{Moment, Presented};
use crate::journal::due::Patience;
use crate::journal::record::{Kind, Wake};
use crate::journal::render;
use crate::settings::Settings;

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

/// How long shown and batched wakes may wait.
pub fn patience(settings: &Settings) -> Patience {
    Patience { redeliver_after: settings.redeliver_after, batch_after: settings.batch_after }
}

/// Remembers that these wakes were shown. If that fails, they are shown again sooner, which loses nothing.
pub fn mark_presented(session: &Session, directory: &File, wakes: &[Wake], acknowledged: u64) {
    let world = session.world.as_ref();
    let shown: Vec<&Wake> = wakes.iter().collect();
    let presented = Presented::read(world, directory).after_showing(&shown, acknowledged, &Moment::of(world));
    if let Err(error) = presented.write(world, directory, &session.home.ours(names::WAKES)) {
        session.console.note(format!("these wakes will be shown again soon: {error}"));
    }
}
