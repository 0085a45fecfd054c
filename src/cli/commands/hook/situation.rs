//! The situation of a hook: whether its session is responsible, what there is to watch, and who watches it.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::File;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use crate::base::error::{Context, Error, Result};
use crate::base::failpoint::Failpoint;
use crate::base::wait_until::wait_until;
use crate::cli::args::Global;
use crate::cli::commands::guard::Charge;
use crate::cli::session::Session;
use crate::hooks::decision::{Listeners, Role, Situation, Supervision, Waking, Work};
use crate::hooks::event::Event;
use crate::hooks::harness::Harness;
use crate::hooks::hold_limit;
use crate::hooks::origin;
use crate::hooks::payload::{Payload, SessionKey};
use crate::hooks::session_lease::{self, Applicant, Occasion};
use crate::launch::{Wish, obtain};
use crate::layout::paths::names;
use crate::lock::Attempt;
use crate::ownership::start_lock::Candidate;
use crate::ownership::verdict::Verdict;
use crate::settings::Repair;
use crate::system::storage;
use crate::system::{Claim, Open, Real, World};
use crate::watcher::facts;

/// The least that another hook may keep this one from the records, however late it is: each needs them for a millisecond.
const TURN_TAKES: Duration = Duration::from_millis(50);
/// What is left for the records, after nobody has come to listen or a start has not come to an end.
const TURN_IS_LEFT: Duration = Duration::from_millis(50);
const PAUSE: Duration = Duration::from_millis(5);
/// How long the start of a watcher may keep a hook.
const STARTS_WITHIN: Duration = Duration::from_secs(1);

/// The session of a home, with less patience than a person has.
pub(super) fn open(global: &Global) -> Result<Session> {
    let mut session = Session::open(global)?;
    let settings = &mut session.loaded.settings;
    settings.arm_timeout = settings.arm_timeout.min(STARTS_WITHIN);
    Ok(session)
}

/// A session in a home.
#[derive(Debug)]
pub(crate) struct HookSession<'a> {
    session: &'a Session,
    applicant: Applicant,
    directory: File,
    /// Nothing is waited for any longer, but the start of a watcher.
    until: Instant,
}

impl<'a> HookSession<'a> {
    /// Where a hook stands. `None`: in no home, in no session, in an agent's own sub-agent, or nobody can tell in whose
    /// process; then there is nothing to answer.
    pub(crate) fn find(
        session: &'a Session,
        (harness, event): (Harness, Event),
        payload: &Payload,
        until: Instant,
    ) -> Result<Option<Self>> {
        let world = session.world.as_ref();
        // A home that nobody has used yet has no work, and a hook does not make it one.
        if payload.is_of_a_sub_agent() || world.facts_of_path(session.home.state()).is_err() {
            return Ok(None);
        }
        let (Some(key), Some(agent)) = (payload.session(harness), origin::agent_process(world)) else {
            return Ok(None);
        };
        let path = session.home.ours(names::SESSIONS);
        let directory = match world.open_directory(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                storage::make_directories(&path)?;
                world.open_directory(&path)
            }
            opened => opened,
        };
        let directory = directory.doing("open", &path)?;
        let occasion = Occasion::of(event, payload);
        Ok(Some(Self { session, applicant: Applicant { harness, session: key, agent, occasion }, directory, until }))
    }

    /// The session.
    pub(crate) fn session_key(&self) -> &SessionKey {
        &self.applicant.session
    }

    /// Who asks.
    pub(crate) fn applicant(&self) -> &Applicant {
        &self.applicant
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Does something with the records while no other hook does.
    pub(crate) fn with_turn<T>(&self, work: impl FnOnce(&Real, &File) -> Result<T>) -> Result<T> {
        let world = self.session.world.as_ref();
        let path = self.session.home.ours(names::SESSIONS);
        let ask = || match Candidate::open(world, &path).and_then(|candidate| candidate.try_take(world)) {
            Ok(Attempt::Taken(turn)) => Some(Ok(turn)),
            Ok(Attempt::Busy(_)) => None,
            Err(error) => Some(Err(in_its_words(error))),
        };
        let busy = || {
            let path = path.join(names::START);
            Err(Error::Failed(format!("another hook has kept {} for too long", path.display())))
        };
        let _turn = wait_until(self.left().max(TURN_TAKES), PAUSE, ask).unwrap_or_else(busy)?;
        work(world, &self.directory)
    }

    /// Ends the episode, if there is one.
    pub(crate) fn end_episode(&self) -> Result<()> {
        if hold_limit::is_over(self.session.world.as_ref(), &self.directory) {
            return Ok(());
        }
        self.with_turn(|world, directory| hold_limit::end_episode(world, directory).map_err(in_its_words))
    }

    /// Asks to be responsible.
    pub(crate) fn role(&self) -> Result<Role> {
        let path = self.session.home.ours(names::SESSIONS).join(session_lease::LEASE);
        let (world, here) = (self.session.world.as_ref(), &self.session.here);
        // Nearly always nothing has changed, and then nobody has to wait for anybody.
        let known = session_lease::settled_role(world, &self.directory, &self.applicant, here);
        if let Some(role) = known.doing("read", &path)? {
            return Ok(role);
        }
        self.with_turn(|world, directory| {
            session_lease::claim(world, directory, &self.applicant, here).doing("write", &path)
        })
    }

    /// Looks at everything but who listens, and starts a watcher where that is wanted.
    pub(crate) fn situation(&self) -> Result<Situation> {
        let role = self.role()?;
        let work = self.work();
        let supervision = match (&role, &work) {
            // Nothing more is asked then, and nothing is started.
            (Role::Bystander(_), _) | (_, Work::None) => Supervision::On(Listeners::Unknown),
            _ => self.supervision(&work),
        };
        let command = |name| self.session.command_line(name);
        Ok(Situation { role, work, supervision, arm: command("arm"), status: command("status") })
    }

    /// The same, and who listens, where that makes a difference. It takes a moment when nobody does.
    pub(crate) fn situation_and_listeners(&self, waking: Waking) -> Result<Situation> {
        let mut situation = self.situation()?;
        let matters = waking == Waking::ByWaiter
            && situation.role == Role::Responsible
            && matches!(situation.work, Work::Some(_))
            && matches!(situation.supervision, Supervision::On(_));
        if matters {
            situation.supervision = Supervision::On(self.listeners());
        }
        Ok(situation)
    }

    fn work(&self) -> Work {
        let charge = Charge::of(self.session);
        match charge.tasks {
            _ if charge.is_nothing() => Work::None,
            None if charge.daemons == 0 => Work::Unknown(charge.to_string()),
            _ => Work::Some(charge.to_string()),
        }
    }

    fn supervision(&self, work: &Work) -> Supervision {
        let session = self.session;
        // A start that is under way can fail, and then nobody watches.
        let mut verdict = session.settled_verdict(self.left().saturating_sub(TURN_IS_LEFT)).1;
        let can_start = matches!(verdict, Verdict::Dead { .. } | Verdict::Stopped { .. });
        let mut why_not = None;
        if can_start && matches!(work, Work::Some(_)) && session.settings().repair == Repair::Start {
            // One that lives and is stuck is left to a person's command: replacing it can take longer than a hook has.
            match obtain(session, Wish::Kept, &mut session.notes()) {
                Ok(_) => verdict = session.verdict().1,
                Err(why) => why_not = Some(why),
            }
        }
        match verdict {
            verdict if verdict.is_watching() => Supervision::On(Listeners::Unknown),
            Verdict::Foreign { .. } | Verdict::Unknown { .. } => Supervision::Unclear(verdict.to_string()),
            verdict => Supervision::Off(match why_not {
                Some(why) => format!("{verdict}, and none could be started ({why})"),
                None => verdict.to_string(),
            }),
        }
    }

    /// Who would be told of a wake. The hook that waits is started at the same moment as the one that looks for it, so its
    /// coming is waited for. One that has begun and is kept by a busy machine is no reason to hold a turn.
    fn listeners(&self) -> Listeners {
        let (world, home) = (self.session.world.as_ref(), &self.session.home);
        let look = || match facts::living_waiters(world, home) {
            Ok(0) => None,
            Ok(_) => Some(Listeners::Some),
            Err(_) => Some(Listeners::Unknown),
        };
        let settled = wait_until(self.left().saturating_sub(TURN_IS_LEFT), PAUSE, look);
        settled.unwrap_or_else(|| if self.has_a_waiter_begun() { Listeners::Unknown } else { Listeners::None })
    }

    /// Whether a waiter of this session has its lock. It takes that under the turn, so this look cannot be in its way.
    fn has_a_waiter_begun(&self) -> bool {
        let name = self.waiter_name();
        let look = |world: &Real, directory: &File| {
            let node = world.open(directory, &name, Open::Read).map_err(in_its_words)?;
            world.try_lock(&node).map_err(in_its_words)
        };
        self.session.world.is_protected(Failpoint::HooksWaiterBegins) && matches!(self.with_turn(look), Ok(Claim::Busy))
    }

    /// The file that the one waiter of this session locks.
    pub(crate) fn waiter_name(&self) -> OsString {
        OsString::from(format!("{}.waiter", self.applicant.session.as_str()))
    }
}

/// An error that needs no more words than its own.
pub(super) fn in_its_words(error: impl Display) -> Error {
    Error::Failed(error.to_string())
}
