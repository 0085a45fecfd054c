//! The monitor: the process that begins a daemon's life, watches over it, and writes down how it ended.
//!
//! # Theory
//!
//! Somebody has to be a daemon's parent, or nobody learns how it ends. The client that asked for it goes away, and the
//! watcher may be restarted, so each daemon has a small process of its own for that. It is the parent and, for what the
//! daemon orphans, the subreaper.
//!
//! It works under its lock, and before it has that it does nothing: of many that are started at once all but one leave
//! without a trace. Under the lock it looks again ([`transitions`]): a daemon that lives is adopted, what is left of a dead one
//! is cleared, and only what is absent is started. A life begins with a process that waits, is written down, and executes
//! then ([`start`]); the life lock goes with it and is closed here. Then the monitor waits ([`event_loop`]) and judges readiness
//! ([`readiness`]) and succession ([`transitions`]) by what it observed, until the life is over ([`shutdown`]).
//!
//! A monitor that is killed takes nothing with it. The daemon goes on, its output waits in the FIFO, and the next monitor
//! adopts it by its identity; how such a daemon ends nobody sees, only that it did. A life that was not ready when its
//! monitor was killed is judged on if its kind of readiness can still be seen, and ended if what it said is lost. Because
//! such a life may have to be ended, its process is not taken on a record's word alone ([`super::membership`]). A life that was
//! ready is only watched and never signalled, so its record is enough: its output is to be read in any case.
//!
//! It is deaf to requests to leave. It ends with its daemon, or by a KILL.
//!
//! What breaks if this is wrong: two daemons, a daemon that nobody can find again, or a stranger that is killed.
//!
//! Limits: a daemon that is this very program cannot be told from a child at its gate; it is started anew if its monitor
//! is killed before it is ready. A monitor is as much a process as its daemon, of a few MiB. It records and signals only what it can examine under
//! `/proc` of its own pid namespace.

pub mod ancestry;
pub mod event_loop;
mod observe;
pub mod output;
pub mod readiness;
pub mod readiness_channel;
pub mod records;
pub mod shutdown;
pub mod start;
pub mod transitions;

use std::time::Duration;

use self::event_loop::{EventLoop, Was};
use self::output::Output;
use self::readiness_channel::ReadinessChannel;
use self::records::{Assignment, Records};
use self::shutdown::GRACE_AT_MOST;
use self::start::{Origin, Watched};
use self::transitions::{Decision, first_step};
use super::locks::LifeLock;
use super::membership::{Membership, membership};
use super::orphans::Orphans;
use super::paths;
use super::records::{Life, Phase, Read};
use super::spawn_monitor::MonitorStatus;
use crate::base::error::{Context, Error, Result};
use crate::base::failpoint::Failpoint;
use crate::lock::Lock;
use crate::lock::kernel::KernelLock;
use crate::settings::daemon_definition::{Ready, StopSignal};
use crate::system::identity::{self, Identity, Observation, Sameness};
use crate::system::platform::{self, ChildNews, Pinned};
use crate::system::status_pipe::StatusWriter;
use crate::system::{Claim, Signal, World};

/// How long what is left of a life may take to be gone, before that is reported.
const CLEARED_WITHIN: Duration = Duration::from_secs(10);
/// The pause between two looks at it.
const PAUSE: Duration = Duration::from_millis(2);
/// How long a life lock may be held by nobody who can be found: a child whose gate was closed takes a moment to end.
const NOBODY_FOR: Duration = Duration::from_millis(500);

/// What there is to be done for a life.
enum Task {
    /// Begin one under this lock.
    Start(LifeLock),
    /// Watch over this one.
    Adopt(Box<Life>, Pinned),
}

/// What follows when a life is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Nothing.
    Leave,
    /// Look again what is to be done.
    Again,
}

/// Does all the work of a monitor, and says what becomes of it.
///
/// # Errors
/// Why there is no daemon; whoever waits for a word is told that by the caller.
pub fn run(assignment: &Assignment, speaker: &mut StatusWriter<MonitorStatus>) -> Result<()> {
    let Some(records) = Records::take(assignment)? else {
        speaker.say(&MonitorStatus::Lost);
        return Ok(());
    };
    let directory = assignment.paths.directory();
    records.reach(Failpoint::DaemonMonitorLocked)?;
    let news = platform::outlive_requests().doing("listen for ends in", directory)?;
    platform::adopt_orphans().doing("become the reaper for", directory)?;
    loop {
        let next = match task(&records)? {
            Task::Adopt(life, process) => adopt(&records, &news, speaker, *life, process)?,
            Task::Start(lock) => start(&records, &news, speaker, lock)?,
        };
        if next == Next::Leave {
            return Ok(());
        }
    }
}

/// Finds out what is to be done, and clears what is in the way of it.
fn task(records: &Records<'_>) -> Result<Task> {
    let Assignment { world, paths, .. } = records.assignment;
    let began = world.now().monotonic;
    loop {
        let lock = LifeLock::try_take(world, paths)?;
        let recorded = records.recorded();
        let sameness = match &recorded {
            Read::Some((_, sameness)) => Read::Some(sameness.clone()),
            Read::None => Read::None,
            Read::Damaged(why) => Read::Damaged(why.clone()),
        };
        let claim = if lock.is_some() { Claim::Taken } else { Claim::Busy };
        match (first_step(claim, &sameness), lock, recorded) {
            (Decision::Start, Some(lock), _) => return Ok(Task::Start(lock)),
            (Decision::Adopt, _, Read::Some((life, _))) => {
                if let Some(process) = beyond_its_gate(records, &life, began)? {
                    return Ok(Task::Adopt(life, process));
                }
            }
            (Decision::Refuse(why), ..) => {
                return Err(Error::refused(paths.directory(), why, "nothing was started; look with `daemon status`"));
            }
            (_, _, recorded) => clear(records, recorded.known().map(|(life, _)| life.as_ref()), began)?,
        }
        world.pause(PAUSE);
    }
}

/// The recorded process, pinned and proven to be the one that was recorded, unless it waits at its gate; of one that may
/// have to be signalled it is proven as well that it belongs to this life. At its gate it still is this program, and its
/// monitor's death closes the gate: it ends in a moment, or, if it was let through just before, executes. One that does
/// neither was stopped on the way and never will be a daemon.
fn beyond_its_gate(records: &Records<'_>, life: &Life, began: Duration) -> Result<Option<Pinned>> {
    let directory = records.assignment.paths.directory();
    let Some(process) = records.world().pin(life.pid()).doing("pin the daemon of", directory)? else { return Ok(None) };
    let seen = records.world().observe(&process);
    if !matches!(identity::compare(&life.process, &seen, &records.assignment.here), Sameness::Same(_)) {
        return Ok(None);
    }
    if life.phase != Phase::Starting {
        return Ok(Some(process));
    }
    match membership(records.world().as_ref(), &records.assignment.paths, life, &process) {
        Membership::Proven(_) => {}
        Membership::Ended => return Ok(None),
        Membership::NotProven(why) => return Err(Error::refused(directory, why, "nobody was signalled or started")),
    }
    let is_this_program = matches!(&seen, Observation::Seen(seen) if is_same_program(seen, &records.monitor));
    if !is_this_program {
        return Ok(Some(process));
    }
    if records.world().now().monotonic.saturating_sub(began) > NOBODY_FOR {
        records.world().signal(&process, Signal::Kill).doing("kill a child that waits in", directory)?;
    }
    Ok(None)
}

fn is_same_program(one: &Identity, other: &Identity) -> bool {
    let file = |identity: &Identity| identity.executable.as_ref().map(|file| (file.device, file.inode));
    file(one).is_some() && file(one) == file(other)
}

/// Makes those leave who hold the life lock of a life whose process is gone.
fn clear(records: &Records<'_>, life: Option<&Life>, began: Duration) -> Result<()> {
    let Assignment { world, paths, .. } = records.assignment;
    let path = paths.file(paths::LIFE_LOCK);
    let left = Orphans::holders_of(&records.life_lock()?, records.lock()).doing("find the holders of", &path)?;
    let (signal, grace) = life.map_or((StopSignal::Term, GRACE_AT_MOST), |life| {
        (life.definition.stop_signal, life.definition.stop_grace.min(GRACE_AT_MOST))
    });
    let is_late = |bound: Duration| world.now().monotonic.saturating_sub(began) > bound;
    let cleared = left.make_leave(signal, grace);
    if is_late(CLEARED_WITHIN) || (left.is_empty() && is_late(NOBODY_FOR)) || !cleared.still_there.is_empty() {
        let holder = KernelLock::at(world, &path)?.holder();
        let who = match left.pids().as_slice() {
            [] => holder.to_string(),
            pids => format!("by {}", pids.iter().map(|pid| format!("pid {pid}")).collect::<Vec<_>>().join(", ")),
        };
        let found = format!("is held {who}, which is left of its last life and does not leave");
        return Err(Error::refused(path, found, "nothing was started; end it, then try again"));
    }
    Ok(())
}

fn start(
    records: &Records<'_>,
    news: &ChildNews,
    speaker: &mut StatusWriter<MonitorStatus>,
    lock: LifeLock,
) -> Result<Next> {
    let Some(definition) = records.wanted() else {
        speaker.say(&MonitorStatus::Lost);
        return Ok(Next::Leave);
    };
    let watched = start::begin(records, definition, lock, speaker)?;
    let mut event_loop = EventLoop::new(records, news, speaker, watched);
    let over = event_loop.run()?;
    shutdown::close(event_loop, over)?;
    Ok(Next::Leave)
}

fn adopt(
    records: &Records<'_>,
    news: &ChildNews,
    speaker: &mut StatusWriter<MonitorStatus>,
    mut life: Life,
    process: Pinned,
) -> Result<Next> {
    let fate = fate(&life);
    life.monitor = records.monitor.clone();
    records.go_on(&life)?;
    let output = Output::open(records, life.definition.log_max)?;
    let lock = records.life_lock()?;
    let mut unheard = StatusWriter::default();
    if fate == Fate::GoesOn || records.wanted().is_none() {
        // It lives, and whoever asked for it can see that.
        speaker.say(&MonitorStatus::Lost);
    }
    let (channel, origin) = (ReadinessChannel::closed(), Origin::Adopted);
    let watched = Watched { life, process, output, channel, origin, lock };
    let mut event_loop = EventLoop::new(records, news, &mut unheard, watched);
    if fate == Fate::Ends {
        event_loop.dismiss("its monitor ended before it was ready".to_owned());
    }
    let over = event_loop.run()?;
    let was = over.was;
    shutdown::close(event_loop, over)?;
    // Whoever asked for a daemon that never came gets the next one.
    let is_wanted = was == Was::Starting && records.wanted().is_some();
    Ok(if is_wanted { Next::Again } else { Next::Leave })
}

/// What becomes of an adopted life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It goes on.
    GoesOn,
    /// It cannot be seen any more whether it is ready.
    Ends,
}

fn fate(life: &Life) -> Fate {
    match (life.phase, &life.definition.ready) {
        (Phase::Ready { .. }, _) | (_, Ready::Socket { .. } | Ready::Pidfile(_) | Ready::Delay(_)) => Fate::GoesOn,
        (Phase::Starting, Ready::Descriptor | Ready::Notify | Ready::LogLine(_)) => Fate::Ends,
    }
}
