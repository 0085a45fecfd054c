//! `daemon ensure` and `daemon kick`: one line that says what is true now.

use serde_json::{Value, json};

use super::definition::wanted;
use crate::base::console::Format;
use crate::base::error::Result;
use crate::base::escape;
use crate::base::exit;
use crate::cli::args;
use crate::cli::session::Session;
use crate::daemons::ensure::{Daemons, Ensured, Failure, Kicked};
use crate::settings::daemon_definition::{Definition, Name, milliseconds};
use crate::system::identity::Pid;

/// Makes sure that a daemon is ready.
///
/// # Errors
/// No such daemon, or nobody reads.
pub(crate) fn ensure(session: &Session, daemons: &Daemons, options: &args::Obtain) -> Result<u8> {
    let (name, definition) = wanted(session, options)?;
    ensured(session, daemons, &name, &definition)
}

/// Makes sure that this daemon is ready, and says so.
pub(crate) fn ensured(session: &Session, daemons: &Daemons, name: &Name, definition: &Definition) -> Result<u8> {
    match daemons.ensure(name, definition) {
        Ok(Ensured::Attached { pid, generation }) => attached(session, name, pid, generation),
        Ok(Ensured::Started { pid, generation, after }) => {
            let after = milliseconds::of(after);
            let facts = json!({"pid": pid, "generation": generation, "ready_ms": after});
            say(session, name, "started", &format!(" pid={pid} (ready in {after}ms)"), facts)
        }
        Err(failure) => fail(session, name, &failure),
    }
}

/// Makes sure that a daemon runs or is being started.
///
/// # Errors
/// No such daemon, or nobody reads.
pub(crate) fn kick(session: &Session, daemons: &Daemons, options: &args::Obtain) -> Result<u8> {
    let (name, definition) = wanted(session, options)?;
    match daemons.kick(&name, &definition) {
        Ok(Kicked::Attached { pid, generation }) => attached(session, &name, pid, generation),
        Ok(Kicked::Starting { pid }) => {
            let shown = pid.map(|pid| format!(" pid={pid}")).unwrap_or_default();
            say(session, &name, "starting", &shown, json!({"pid": pid}))
        }
        Ok(Kicked::MonitorStarted) => say(session, &name, "kicked", "", json!({})),
        Err(failure) => fail(session, &name, &failure),
    }
}

fn attached(session: &Session, name: &Name, pid: Pid, generation: u64) -> Result<u8> {
    say(session, name, "attached", &format!(" pid={pid}"), json!({"pid": pid, "generation": generation}))
}

/// Prints one event, as a line that ends with `shown` or as an object that has these facts.
fn say(session: &Session, name: &Name, event: &str, shown: &str, mut facts: Value) -> Result<u8> {
    match session.console.format {
        Format::Lines => session.console.data(&format!("daemon: {event} {name}{shown}"))?,
        Format::Json => {
            facts["schema"] = json!(1);
            facts["event"] = json!(event);
            facts["name"] = json!(name);
            session.console.json(&facts)?;
        }
    }
    Ok(exit::OK)
}

fn fail(session: &Session, name: &Name, failure: &Failure) -> Result<u8> {
    match session.console.format {
        Format::Lines => {
            for line in failure.last_words().lines() {
                session.console.note(format!("{name}: {line}"));
            }
            session.console.data(&escape::line(&format!("daemon: FAILED {name} - {failure}")))?;
        }
        Format::Json => session.console.json(&json!({
            "schema": 1, "event": "failed", "name": name, "reason": failure.to_string(), "last_words": failure.last_words(),
        }))?,
    }
    Ok(exit::FAILED)
}
