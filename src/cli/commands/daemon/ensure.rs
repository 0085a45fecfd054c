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
use crate::settings::daemon_definition::{Definition, Name};
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
        Ensured::Attached { pid, generation } => say(session, name, &attached(pid, generation)),
        Ensured::Started { pid, generation, after } => {
            let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            say(
                session,
                name,
                &Said {
                    event: "started",
                    rest: format!(" pid={pid} (ready in {after}ms)"),
                    facts: json!({"pid": pid, "generation": generation, "ready_ms": after}),
                },
            )
        }
        Ensured::Failed(failure) => fail(session, name, &failure),
    }
}

/// Makes sure that a daemon runs or is being started.
///
/// # Errors
/// No such daemon, or nobody reads.
pub(crate) fn kick(session: &Session, daemons: &Daemons, options: &args::Obtain) -> Result<u8> {
    let (name, definition) = wanted(session, options)?;
    match daemons.kick(&name, &definition) {
        Kicked::Attached { pid, generation } => say(session, &name, &attached(pid, generation)),
        Kicked::Starting { pid } => {
            let rest = pid.map(|pid| format!(" pid={pid}")).unwrap_or_default();
            say(session, &name, &Said { event: "starting", rest, facts: json!({"pid": pid}) })
        }
        Kicked::Kicked => say(session, &name, &Said { event: "kicked", rest: String::new(), facts: json!({}) }),
        Kicked::Failed(failure) => fail(session, &name, &failure),
    }
}

/// One event, as a line and as an object.
struct Said {
    event: &'static str,
    rest: String,
    facts: Value,
}

fn attached(pid: Pid, generation: u64) -> Said {
    Said { event: "attached", rest: format!(" pid={pid}"), facts: json!({"pid": pid, "generation": generation}) }
}

fn say(session: &Session, name: &Name, said: &Said) -> Result<u8> {
    match session.console.format {
        Format::Lines => session.console.data(&format!("daemon: {} {name}{}", said.event, said.rest))?,
        Format::Json => {
            let mut object = json!({"schema": 1, "event": said.event, "name": name});
            if let (Some(object), Some(facts)) = (object.as_object_mut(), said.facts.as_object()) {
                object.extend(facts.clone());
            }
            session.console.json(&object)?;
        }
    }
    Ok(exit::OK)
}

fn fail(session: &Session, name: &Name, failure: &Failure) -> Result<u8> {
    match session.console.format {
        Format::Lines => {
            for line in failure.last_words.lines() {
                session.console.note(format!("{name}: {line}"));
            }
            session.console.data(&escape::line(&format!("daemon: FAILED {name} - {}", failure.reason)))?;
        }
        Format::Json => session.console.json(&json!({
            "schema": 1, "event": "failed", "name": name, "reason": failure.reason, "last_words": failure.last_words,
        }))?,
    }
    Ok(exit::FAILED)
}
