//! `run`: be the watcher, in the foreground.

pub mod handover;
mod signals;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::json;

use self::signals::Insistence;
use super::wakes::{print_reasons, print_reasons_as_script};
use crate::api::wakes as home_wakes;
use crate::base::console::Format;
use crate::base::error::{Context, Error, Result};
use crate::base::exit;
use crate::base::failpoint::Failpoint;
use crate::base::wait_until::wait_until;
use crate::cli::args::{self, Global};
use crate::cli::session::Session;
use crate::firstmate::home::names as firstmate_names;
use crate::firstmate::script_output::{self, Answer};
use crate::firstmate::source::FirstmateSource;
use crate::journal::record::{Kind, Wake};
use crate::layout::log::{self, Log};
use crate::layout::paths::names;
use crate::lock::Attempt;
use crate::ownership::held_home::{self, Holding, Rhythm};
use crate::ownership::observe;
use crate::ownership::verdict::{STOPPED, Verdict};
use crate::settings::Patterns;
use crate::system::identity::Pid;
use crate::system::requests::Cause;
use crate::system::sd_notify::ServiceNotifier;
use crate::system::status_pipe::{StartStatus, StatusWriter};
use crate::system::{Real, World};
use crate::watcher::event_loop::{End, EventLoop, OnFirstPoll, Start};
use crate::watcher::events::{Degraded, Events, Tag};
use crate::watcher::source::{Message, Source, Span};

/// Watches until asked to leave, taken over, or (`--once`) woken.
///
/// # Errors
/// Everything that makes watching impossible; whoever started this process hears it too.
pub fn run(global: &Global, options: &args::Run) -> Result<u8> {
    let session = if options.tracked { Session::open_as_script(global) } else { Session::open(global) };
    run_as(session, options, Manner::Own)
}

/// How the watcher answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// As the documentation of this program says.
    Own,
    /// As the watcher script of a firstmate home does, with this grace for the beat of another one.
    Script(Duration),
}

/// As [`run`], with these answers.
///
/// # Errors
/// As [`run`].
pub fn run_as(session: Result<Session>, options: &args::Run, manner: Manner) -> Result<u8> {
    let mut speaker = match options.word_fd {
        Some(number) => StatusWriter::adopt(number).doing("speak on", format!("descriptor {number}"))?,
        None => StatusWriter::default(),
    };
    let outcome = session.and_then(|session| watch(session, options, manner, &mut speaker));
    if let Err(error) = &outcome {
        speaker.say(&StartStatus::Failed { reason: error.to_string() });
    }
    outcome
}

type Channel = (Sender<Message>, Receiver<Message>);

/// All that is ready before the home is taken.
struct Ready {
    patterns: Patterns,
    channel: Channel,
    events: Result<Events, Degraded>,
}

fn watch(
    mut session: Session,
    options: &args::Run,
    manner: Manner,
    speaker: &mut StatusWriter<StartStatus>,
) -> Result<u8> {
    session.prepare()?;
    let span = match manner {
        Manner::Script(_) => Span::Script,
        Manner::Own if options.tracked => Span::Script,
        Manner::Own if options.once => Span::Once,
        Manner::Own => Span::Resident,
    };
    let ready = get_ready(&session, options, span)?;
    let taken = match options.standby {
        None if options.take_over && session.world.is_protected(Failpoint::ServiceTakeOver) => {
            match take_over(&session, &ready.channel)? {
                Takeover::Taken(holding) => Some(*holding),
                Takeover::Refused => None,
                Takeover::Ended(code) => return Ok(code),
            }
        }
        // A script says at once whom it found.
        None if matches!(manner, Manner::Script(_)) && is_held_by_foreign(&session) => None,
        None => take_unless_held(&session)?,
        Some(patience) => {
            speaker.say(&StartStatus::Standby { pid: session.world.own_pid() });
            take_when_free(&session, recorded_generation(&session), patience)?
        }
    };
    let Some(holding) = taken else { return lost(&session, manner, speaker) };
    first_beat(&session, &holding)?;
    let owner = holding.owner();
    let ready_word = StartStatus::Ready { pid: owner.pid().get(), generation: owner.generation };
    let mut on_first_poll: Option<OnFirstPoll<'_>> = None;
    if options.tracked {
        speaker.say(&StartStatus::Taken { pid: owner.pid().get() });
        on_first_poll = Some(Box::new(move || speaker.say(&ready_word)));
    } else {
        speaker.say(&ready_word);
    }
    tracing::info!(
        pid = owner.pid().get(),
        generation = owner.generation,
        "watching {}",
        session.home.root().display()
    );
    stay(&session, holding, ready, Life { span, on_first_poll })
}

/// How a life with a ready home goes on.
struct Life<'a> {
    span: Span,
    on_first_poll: Option<OnFirstPoll<'a>>,
}

/// The scripts' watcher and ours touch it at each poll.
const IGNORED: &[(Tag, &str)] = &[(Tag::State, firstmate_names::LAST_BEAT)];

fn get_ready(session: &Session, options: &args::Run, span: Span) -> Result<Ready> {
    let path = session.home.ours(names::LOG_DIRECTORY);
    let directory = session.world.open_directory(&path).doing("open", &path)?;
    let log = Log::new(Arc::clone(&session.world), directory, session.settings().log_max);
    log::install(log, session.settings().log_level)?;
    let patterns = session.loaded.compile()?;
    let channel: Channel = channel();
    let grace = session.settings().stop_grace;
    let insistence = match span {
        _ if options.tracked => Insistence::Bound(grace),
        Span::Script => Insistence::After(grace),
        Span::Once | Span::Resident => Insistence::Repeated,
    };
    signals::listen(&channel.0, insistence, span).doing("listen to signals in", session.home.root())?;
    let directories = [
        (session.home.state().to_owned(), Tag::State),
        (session.home.watch(), Tag::Watch),
        (session.home.ours(names::INBOX), Tag::Inbox),
    ];
    let events = Events::watch(&directories, IGNORED, channel.0.clone());
    Ok(Ready { patterns, channel, events })
}

fn take(session: &Session) -> Result<Option<Holding<Real>>> {
    let settings = session.settings();
    let rhythm = Rhythm { poll: settings.poll, stuck_after: settings.stuck_after(), history_max: settings.history_max };
    // Whoever only looks keeps no other contender from taking the home.
    if is_held_by_foreign(session) {
        return Ok(None);
    }
    match Holding::acquire(&session.world, (&session.home, session.foreign.as_deref()), &session.place, rhythm)? {
        Attempt::Taken(holding) => Ok(Some(holding)),
        Attempt::Busy(()) => Ok(None),
    }
}

fn is_held_by_foreign(session: &Session) -> bool {
    session.foreign.as_ref().is_some_and(|foreign| foreign.observe(&session.world).is_some())
}

/// Takes the home, also when its holder dies just now. `None`: somebody holds it, or nobody can tell.
fn take_unless_held(session: &Session) -> Result<Option<Holding<Real>>> {
    const PAUSE: Duration = Duration::from_millis(1);
    let end = Instant::now() + session.settings().arm_timeout;
    loop {
        let taken = take(session)?;
        let left = end.saturating_duration_since(Instant::now());
        if taken.is_some() || left.is_zero() {
            return Ok(taken);
        }
        let (_, verdict) = session.settled_verdict(left);
        if !matches!(verdict, Verdict::Stopped { .. } | Verdict::Dead { .. }) {
            return Ok(None);
        }
        // In a firstmate home, a contender who let go again may leave the scripts' lock half taken for a moment.
        session.world.pause(PAUSE);
    }
}

/// What became of a takeover.
enum Takeover {
    /// The home is taken.
    Taken(Box<Holding<Real>>),
    /// Whoever holds it cannot be proven to be a watcher, or another one was faster each time.
    Refused,
    /// Nobody is to take it any more. This is the exit code.
    Ended(u8),
}

/// Takes the home, also from a watcher of ours that holds it, and after one of the shell scripts.
fn take_over(session: &Session, (sender, messages): &Channel) -> Result<Takeover> {
    /// Each time another process must have stood by as well.
    const TRIES: usize = 3;
    let mut tries = 0;
    while tries < TRIES {
        match handover::until_free(session, (sender, messages)) {
            handover::End::Free => {}
            handover::End::Asked(cause) => return Ok(Takeover::Ended(asked(cause, Span::Resident))),
            handover::End::Stopped(pid) => {
                session.console.note(format!("pid {pid} was stopped on request, and is not replaced"));
                return Ok(Takeover::Ended(exit::OK));
            }
        }
        if let Some(holding) = take_unless_held(session)? {
            return Ok(Takeover::Taken(Box::new(holding)));
        }
        if handover::ahead(session).is_some() {
            continue;
        }
        tries += 1;
        let predecessor = recorded_generation(session);
        let asked = handover::holder(session).and_then(|holder| match holder {
            Some(holder) => holder.ask(session).map(|()| Some(holder)),
            None => Ok(None),
        });
        let holder = match asked {
            Ok(Some(holder)) => holder,
            Ok(None) => continue,
            Err(why) => {
                session.console.note(format!("the home is not taken over: {why}"));
                return Ok(Takeover::Refused);
            }
        };
        if let Some(holding) = take_when_free(session, predecessor, session.settings().stop_grace)? {
            return Ok(Takeover::Taken(Box::new(holding)));
        }
        if recorded_generation(session) == predecessor {
            holder.insist(session).map_err(Error::Failed)?;
        }
    }
    let taken = take_unless_held(session)?;
    Ok(taken.map_or(Takeover::Refused, |holding| Takeover::Taken(Box::new(holding))))
}

/// Takes the home as soon as the holder with this generation lets go. Gives up when somebody else takes it first, or in
/// the end.
fn take_when_free(session: &Session, predecessor: Option<u64>, patience: Duration) -> Result<Option<Holding<Real>>> {
    /// The lock of a process that was killed is free before anybody could be told so; looking costs little.
    const PAUSE: Duration = Duration::from_millis(1);
    // A person who stops the watcher wants nobody to watch; whoever stands by is not to undo that.
    let is_stopped = || predecessor.is_some() && stop_requested(session) == predecessor;
    let attempt = || {
        if is_stopped() {
            return Some(Ok(None));
        }
        match take(session) {
            Ok(Some(holding)) if is_stopped() => {
                Some(holding.leave(STOPPED).map(|()| None).doing("leave", session.home.watch()))
            }
            Ok(None) if recorded_generation(session) == predecessor => None,
            answer => Some(answer),
        }
    };
    wait_until(patience, PAUSE, attempt).unwrap_or(Ok(None))
}

fn stop_requested(session: &Session) -> Option<u64> {
    let watch = session.world.open_directory(&session.home.watch()).ok()?;
    observe::stop_requested(session.world.as_ref(), &watch)
}

fn recorded_generation(session: &Session) -> Option<u64> {
    let watch = session.world.open_directory(&session.home.watch()).ok()?;
    held_home::read_owner(session.world.as_ref(), &watch).map(|owner| owner.generation)
}

fn lost(session: &Session, manner: Manner, speaker: &mut StatusWriter<StartStatus>) -> Result<u8> {
    let (evidence, verdict) = session.verdict();
    let pid = verdict.living_pid().map(Pid::get);
    let holder = script_output::Holder::of(&evidence, &verdict);
    // To a script, whoever lives and has the scripts' lock is a watcher, proven or not.
    let is_one_for_scripts = matches!(manner, Manner::Script(_)) && evidence.foreign_holder().is_some();
    let is_one = verdict.is_watching() || matches!(verdict, Verdict::Stuck { .. }) || is_one_for_scripts;
    let (Some(holder), true) = (holder, is_one) else {
        let next = format!("nothing was changed; look with: {}", session.command_line("status"));
        return Err(Error::refused(session.place.file(), &verdict, next));
    };
    speaker.say(&StartStatus::Lost { pid });
    let answer = match (manner, &verdict) {
        (Manner::Script(grace), _) => script_output::loser(&holder, grace),
        (Manner::Own, Verdict::Stuck { bound, .. }) => script_output::loser(&holder, *bound),
        (Manner::Own, _) => script_output::already_running(&holder),
    };
    if answer.code != exit::OK {
        return match manner {
            Manner::Script(_) => give(session, &answer),
            Manner::Own => Err(Error::Failed(answer.line)),
        };
    }
    ServiceNotifier::of(&session.environment, session.world.own_pid()).is_content();
    match session.console.format {
        Format::Json => session.console.json(&json!({"schema": 1, "event": "already-running", "pid": pid}))?,
        Format::Lines => return give(session, &answer),
    }
    Ok(exit::OK)
}

fn give(session: &Session, answer: &Answer) -> Result<u8> {
    session.console.line(answer.stream, &answer.line)?;
    Ok(answer.code)
}

/// The first beat comes before anything that could take long, so that whoever waits for it need not wait long.
fn first_beat(session: &Session, holding: &Holding<Real>) -> Result<()> {
    holding.publish_beat().doing("publish a beat beside", session.place.file())?;
    if let Err(error) = holding.write_beat(&holding.new_beat(0, session.settings().poll, Vec::new())) {
        tracing::warn!("cannot write beacon: {error}");
    }
    Ok(())
}

fn stay(session: &Session, holding: Holding<Real>, ready: Ready, life: Life<'_>) -> Result<u8> {
    let holding = Arc::new(holding);
    let Ready { patterns, channel, events } = ready;
    let Life { span, on_first_poll } = life;
    let of_firstmate = |fleet| Box::new(FirstmateSource::new(fleet, &channel.0)) as Box<dyn Source>;
    let more_sources = session.fleet.clone().map(of_firstmate).into_iter().collect();
    let holding_of_loop = Arc::clone(&holding);
    let start =
        Start { session, span, holding: holding_of_loop, patterns, channel, events, more_sources, on_first_poll };
    let (end, told) = match EventLoop::start(start).map(EventLoop::run) {
        Ok(end) => {
            let told = tell(session, &end, span);
            (end, told)
        }
        Err(error) => (End::Failed(error.to_string()), Err(error)),
    };
    // Also if nobody reads: whoever comes next is not to find the locks of a dead one.
    if told.is_ok() || session.world.is_protected(Failpoint::RunLeaves) {
        leave(session, &holding, &end);
    }
    // The lock goes now. The process ends a little later: the kernel takes its time to end file events.
    drop(holding);
    told
}

/// Says what is to be said of the end, and gives the exit code.
fn tell(session: &Session, end: &End, span: Span) -> Result<u8> {
    match end {
        End::Evicted(eviction) => {
            session.console.note(format!("leaving {}: {eviction}", session.home.root().display()));
            Ok(exit::OK)
        }
        End::Woken(wakes) => {
            match span {
                // Scripts expect one line. The rest is still to be told.
                Span::Script => show(session, &of_first_line(wakes), print_reasons_as_script)?,
                Span::Once | Span::Resident => show(session, wakes, print_reasons)?,
            }
            session.world.reach(Failpoint::RunTold).doing("leave", session.home.watch())?;
            Ok(exit::OK)
        }
        End::Failed(why) => {
            session.console.error(format!("a wake cannot be written down, so nothing is announced: {why}"));
            Ok(exit::FAILED)
        }
        End::Asked(cause) => Ok(asked(*cause, span)),
    }
}

/// The wakes that the first reason line is about: all signals share one, any other wake has one of its own.
fn of_first_line(wakes: &[Wake]) -> Vec<Wake> {
    let Some(first) = wakes.first() else { return Vec::new() };
    let is_in_it = |wake: &&Wake| wake.kind == Kind::Signal && first.kind == Kind::Signal || *wake == first;
    wakes.iter().filter(is_in_it).cloned().collect()
}

/// Prints the reason of the wakes that ended this watcher, and remembers that they were shown.
fn show(session: &Session, wakes: &[Wake], print: fn(&Session, &[Wake]) -> Result<()>) -> Result<()> {
    print(session, wakes)?;
    let path = session.home.ours(names::WAKES);
    let directory = session.world.open_directory(&path).doing("open", &path)?;
    if let Err(error) = home_wakes::mark_presented(session, &directory, wakes, 0) {
        session.console.note(format!("these wakes will be shown again soon: {error}"));
    }
    Ok(())
}

/// Leaves the home in the way that fits the end.
fn leave(session: &Session, holding: &Holding<Real>, end: &End) {
    let left = match end {
        End::Evicted(eviction) => holding.give_way(eviction),
        End::Woken(_) => holding.leave("woken"),
        End::Failed(_) => holding.leave("failed"),
        End::Asked(_) if is_stop_requested(session, holding) => holding.leave(STOPPED),
        End::Asked(Cause::Interrupted) => holding.leave("interrupted"),
        End::Asked(_) => holding.leave("terminated"),
    };
    match left {
        Ok(()) => tracing::info!("left"),
        // Its line says why it left; there may be no home any more.
        Err(error) if matches!(end, End::Evicted(_)) => tracing::debug!("left without a record: {error}"),
        Err(error) => {
            session.console.note(format!("left without a record in {}: {error}", session.home.watch().display()));
        }
    }
}

fn is_stop_requested(session: &Session, holding: &Holding<Real>) -> bool {
    let (evidence, _) = session.verdict();
    evidence.stop_requested == Some(holding.owner().generation)
}

fn asked(cause: Cause, span: Span) -> u8 {
    // A resident watcher that somebody stops has done its work.
    if cause == Cause::Interrupted || span.ends_with_a_wake() { cause.exit_code() } else { exit::OK }
}
