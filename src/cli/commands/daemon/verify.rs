//! `daemon verify`: whether there is a second instance.

use serde_json::json;

use super::definition::known;
use crate::base::console::Format;
use crate::base::error::{Error, Result};
use crate::base::escape;
use crate::base::exit;
use crate::cli::session::Session;
use crate::daemons::ensure::Daemons;
use crate::daemons::find_duplicates::Verified;
use crate::daemons::state::State;
use crate::settings::daemon_definition::Name;

/// Looks, and says what was found.
///
/// # Errors
/// No such daemon, the processes cannot be listed, or nobody reads.
pub(crate) fn verify(session: &Session, daemons: &Daemons, name: &Name) -> Result<u8> {
    let definition = known(session, name)?;
    let verified = daemons.verify(name, definition.as_ref()).map_err(|error| Error::Failed(error.to_string()))?;
    match session.console.format {
        Format::Lines => lines(session, name, &verified)?,
        Format::Json => {
            let others: Vec<_> =
                verified.others.iter().map(|other| json!({"pid": other.pid, "command": other.command})).collect();
            session.console.json(&json!({
                "schema": 1, "name": name, "pid": verified.recorded, "others": others,
                "standing": verified.state.to_string(),
            }))?;
        }
    }
    Ok(match (&verified.state, verified.recorded, verified.others.is_empty()) {
        (_, _, false) => exit::FAILED,
        (State::Unknown(_) | State::Foreign(_), _, true) => exit::UNCERTAIN,
        (_, Some(_), true) => exit::OK,
        (_, None, true) => exit::NOT_RUNNING,
    })
}

fn lines(session: &Session, name: &Name, verified: &Verified) -> Result<()> {
    let console = session.console;
    for other in &verified.others {
        console.data(&escape::line(&format!("daemon: second {name} pid={} - {}", other.pid, other.command)))?;
    }
    match (verified.recorded, verified.others.is_empty()) {
        (Some(pid), true) => console.data(&format!("daemon: alone {name} pid={pid}")),
        (None, true) => {
            console.note(format!("{name} {}, and nothing looks like it", verified.state));
            Ok(())
        }
        (recorded, false) => {
            let recorded = recorded.map_or_else(|| "does not run".to_owned(), |pid| format!("is pid {pid}"));
            console.note(format!("the daemon {name} of this home {recorded}; nobody was signalled"));
            Ok(())
        }
    }
}
