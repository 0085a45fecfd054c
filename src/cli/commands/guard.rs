//! `guard`: warn when supervision is down; never act, never fail its caller.
//!
//! It is called at the top of other commands and in session hooks, so it must be cheap, true and bearable: silent when
//! nothing needs watching or all is well, one full banner per episode (one cause, one holder), one line after that. It
//! takes no lock, starts nothing, and writes only which episode it has shown; `--read-only` not even that. What
//! it cannot find out it says, and exits 0.

use std::ffi::OsStr;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::environment::Environment;
use crate::base::escape;
use crate::base::exit;
use crate::cli::args::Global;
use crate::cli::session::{self, Session};
use crate::layout::paths::names;
use crate::ownership::verdict::{Evidence, OwnerEvidence, Verdict};
use crate::settings::daemon_definition::Restart;
use crate::system::storage::{self, Durability};
use crate::system::{Real, World};
use crate::watcher::facts;

/// Whether the guard may write which episode it has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It may.
    Write,
    /// It may not write anything.
    ReadOnly,
}

/// Looks, and warns if need be. Always 0.
pub fn guard(global: &Global, mark: Mark) -> u8 {
    match Session::open(global) {
        Ok(session) => warn(&session, mark),
        Err(error) => warn_blindly(global, &error.to_string()),
    }
    exit::OK
}

fn warn(session: &Session, mark: Mark) {
    let world = session.world.as_ref();
    let charge = Charge::of(session);
    if !charge.is_nothing() {
        let (evidence, verdict) = session.verdict();
        if !verdict.is_watching() {
            let text = text(&charge, &verdict, &mending(session, &evidence, &verdict));
            match episode(session, &Episode::of(&evidence, &verdict), mark) {
                Shown::First => session.console.banner(&text.banner),
                Shown::Again => session.console.banner(&text.reminder),
            }
        }
    }
    let told = facts::told(world, &session.home);
    if let Some(why) = told.blindness() {
        session.console.banner(&escape::line(&format!("WARNING: nobody can tell whether wakes wait: {why}")));
    }
    if told.has_pending() {
        let drain = session.command_line("drain");
        session.console.banner(&format!("WARNING: queued wakes pending - {drain} before anything else."));
        if told.waiters() == Some(0) {
            let arm = session.command_line("arm");
            session.console.banner(&format!("WARNING: wakes wait and no waiter lives, so nobody will be told - {arm}"));
        }
    }
}

/// Settings that nobody can read must not silence the guard: without them it only says that it is blind, and only
/// where something may need watching.
fn warn_blindly(global: &Global, why: &str) {
    let environment = Environment::of_this_process();
    let tasks = session::resolve_home(global, &environment).and_then(|home| facts::tasks(&Real, &home));
    if tasks.as_ref().ok() != Some(&0) {
        global.console().error(format!("the guard cannot look: {why}"));
    }
}

/// The one command that mends it.
fn mending(session: &Session, evidence: &Evidence, verdict: &Verdict) -> String {
    session.command_line(match verdict {
        // Nothing less replaces a shell watcher.
        Verdict::Stuck { .. } if evidence.foreign_holder().is_some() => "arm --restart",
        Verdict::Foreign { .. } | Verdict::Unknown { .. } => "status",
        _ => "arm",
    })
}

/// What is without a watcher when there is none.
pub(crate) struct Charge {
    /// How many tasks are in flight; `None` when nobody can tell.
    pub(crate) tasks: Option<usize>,
    /// How many daemons the watcher is to keep.
    pub(crate) daemons: usize,
}

impl Charge {
    pub(crate) fn of(session: &Session) -> Self {
        Self {
            tasks: facts::tasks(session.world.as_ref(), &session.home).ok(),
            daemons: session.settings().daemons.iter().filter(|daemon| daemon.restart != Restart::No).count(),
        }
    }

    pub(crate) fn is_nothing(&self) -> bool {
        self.tasks == Some(0) && self.daemons == 0
    }
}

/// `2 task(s) in flight`, as firstmate's readers know it, and the daemons if there are any.
impl fmt::Display for Charge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tasks {
            Some(count) => write!(formatter, "{count} task(s) in flight")?,
            None => formatter.write_str("an unknown number of task(s) in flight")?,
        }
        if self.daemons > 0 { write!(formatter, " and {} daemon(s) to keep", self.daemons) } else { Ok(()) }
    }
}

struct Text {
    banner: String,
    reminder: String,
}

fn text(charge: &Charge, verdict: &Verdict, mending: &str) -> Text {
    const TITLE: &str = "WATCHER DOWN - SUPERVISION IS OFF";
    let rule = format!("●{}", "━".repeat(78));
    let cause = escape::line(&format!("{charge}, but {verdict}."));
    let mending = escape::line(mending);
    Text {
        banner: format!("{rule}\n●  {TITLE}\n●  {cause}\n●  Mend it: {mending}\n{rule}"),
        reminder: format!("●  {TITLE}: {cause} Mend it: {mending}"),
    }
}

/// One cause with one holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Episode {
    schema: u32,
    cause: String,
    generation: u64,
}

impl Episode {
    fn of(evidence: &Evidence, verdict: &Verdict) -> Self {
        let generation = match &evidence.owner {
            OwnerEvidence::Recorded(owner, _) => owner.generation,
            OwnerEvidence::None | OwnerEvidence::Damaged(_) => 0,
        };
        Self { schema: 1, cause: verdict.word().to_owned(), generation }
    }
}

enum Shown {
    First,
    Again,
}

/// Whether this episode was shown before; remembers that it is now. Failing to remember only costs brevity.
fn episode(session: &Session, episode: &Episode, mark: Mark) -> Shown {
    const LIMIT: usize = 4096;
    let world = session.world.as_ref();
    let Ok(watch) = world.open_directory(&session.home.watch()) else { return Shown::First };
    let known = storage::read(world, &watch, OsStr::new(names::EPISODE), LIMIT);
    let known = known.ok().flatten().and_then(|bytes| serde_json::from_slice::<Episode>(&bytes).ok());
    if known.as_ref() == Some(episode) {
        return Shown::Again;
    }
    if mark == Mark::Write
        && let Ok(content) = serde_json::to_vec(episode)
        && let Err(error) = storage::replace(world, &watch, names::EPISODE, &content, Durability::Process)
    {
        tracing::debug!("cannot remember the episode: {error}");
    }
    Shown::First
}
