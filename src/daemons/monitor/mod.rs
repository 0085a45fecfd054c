//! The monitor: the process that begins a daemon's life, watches over it, and writes down how it ended.
//!
//! # Theory
//!
//! Somebody has to be a daemon's parent, or nobody learns how it ends. The client that asked for it goes away, and the
//! watcher may be restarted, so each daemon has a small process of its own for that. It is the parent and, for what the
//! daemon orphans, the subreaper.
//!
//! It works under its lock, and before it has that it does nothing: of many that are started at once all but one leave
//! without a trace. Under the lock it looks again ([`course`]): a daemon that lives is adopted, what is left of a dead one
//! is cleared, and only what is absent is started. A life begins with a process that waits, is written down, and executes
//! then ([`start`]); the life lock goes with it and is closed here. Then the monitor waits ([`event_loop`]) and judges readiness
//! ([`readiness`]) and succession ([`transitions`]) by what it saw, until the life is over ([`shutdown`]).
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
pub mod course;
pub mod event_loop;
mod observe;
pub mod output;
pub mod readiness;
pub mod readiness_channel;
pub mod records;
pub mod shutdown;
pub mod stale_socket;
pub mod start;
pub mod transitions;

use std::time::Duration;

use self::course::Course;
use self::event_loop::{Over, Vigil, Was};
use self::output::Output;
use self::records::{Assignment, Desk};
use self::shutdown::GRACE_AT_MOST;
use super::locks::LifeLock;
use super::membership::{Belonging, belonging};
use super::monitor_status::MonitorWord;
use super::orphans::Leftovers;
use super::paths;
use super::records::{Life, Phase, Read};
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
pub fn run(assignment: &Assignment, speaker: &mut StatusWriter<MonitorWord>) -> Result<()> {
    let Some(desk) = Desk::take(assignment)? else {
        speaker.say(&MonitorWord::Lost);
        return Ok(());
    };
    let directory = assignment.place.directory();
    desk.reach(Failpoint::DaemonMonitorLocked)?;
    let news = platform::outlive_requests().doing("listen for ends in", directory)?;
    platform::adopt_orphans().doing("become the reaper for", directory)?;
    loop {
        let next = match task(&desk)? {
            Task::Adopt(life, process) => adopt(&desk, &news, speaker, *life, process)?,
            Task::Start(lock) => start(&desk, &news, speaker, lock)?,
        };
        if next == Next::Leave {
            return Ok(());
        }
    }
}

/// Finds out what is to be done, and clears what is in the way of it.
fn task(desk: &Desk<'_>) -> Result<Task> {
    let Assignment { world, place, .. } = desk.assignment;
    let began = world.now().monotonic;
    loop {
        let lock = LifeLock::try_take(world, place)?;
        let recorded = desk.recorded();
        let sameness = match &recorded {
            Read::Some((_, sameness)) => Read::Some(sameness.clone()),
            Read::None => Read::None,
            Read::Damaged(why) => Read::Damaged(why.clone()),
        };
        let claim = if lock.is_some() { Claim::Taken } else { Claim::Busy };
        match (course::course(claim, &sameness), lock, recorded) {
            (Course::Start, Some(lock), _) => return Ok(Task::Start(lock)),
            (Course::Adopt, _, Read::Some((life, _))) => {
                if let Some(process) = beyond_its_gate(desk, &life, began)? {
                    return Ok(Task::Adopt(life, process));
                }
            }
            (Course::Refuse(why), ..) => {
                return Err(Error::refused(place.directory(), why, "nothing was started; look with `daemon status`"));
            }
            (_, _, recorded) => clear(desk, recorded.known().map(|(life, _)| life.as_ref()), began)?,
        }
        world.pause(PAUSE);
    }
}

/// The recorded process, pinned and proven to be the one that was recorded, unless it waits at its gate; of one that may
/// have to be signalled it is proven as well that it belongs to this life. At its gate it still is this program, and its
/// monitor's death closes the gate: it ends in a moment, or, if it was let through just before, executes. One that does
/// neither was stopped on the way and never will be a daemon.
fn beyond_its_gate(desk: &Desk<'_>, life: &Life, began: Duration) -> Result<Option<Pinned>> {
    let directory = desk.assignment.place.directory();
    let Some(process) = desk.world().pin(life.pid()).doing("pin the daemon of", directory)? else { return Ok(None) };
    let seen = desk.world().observe(&process);
    if !matches!(identity::compare(&life.process, &seen, &desk.assignment.here), Sameness::Same(_)) {
        return Ok(None);
    }
    if life.phase != Phase::Starting {
        return Ok(Some(process));
    }
    match belonging(desk.world().as_ref(), &desk.assignment.place, life, &process) {
        Belonging::Proven(_) => {}
        Belonging::Ended => return Ok(None),
        Belonging::NotProven(why) => return Err(Error::refused(directory, why, "nobody was signalled or started")),
    }
    let is_this_program = matches!(&seen, Observation::Seen(seen) if is_same_program(seen, &desk.monitor));
    if !is_this_program {
        return Ok(Some(process));
    }
    if desk.world().now().monotonic.saturating_sub(began) > NOBODY_FOR {
        desk.world().signal(&process, Signal::Kill).doing("kill a child that waits in", directory)?;
    }
    Ok(None)
}

fn is_same_program(one: &Identity, other: &Identity) -> bool {
    let file = |identity: &Identity| identity.executable.as_ref().map(|file| (file.device, file.inode));
    file(one).is_some() && file(one) == file(other)
}

/// Makes those leave who hold the life lock of a life whose process is gone.
fn clear(desk: &Desk<'_>, life: Option<&Life>, began: Duration) -> Result<()> {
    let Assignment { world, place, .. } = desk.assignment;
    let path = place.file(paths::LIFE_LOCK);
    let left = Leftovers::holders_of(&desk.life_lock()?, desk.lock()).doing("find the holders of", &path)?;
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

fn start(desk: &Desk<'_>, news: &ChildNews, speaker: &mut StatusWriter<MonitorWord>, lock: LifeLock) -> Result<Next> {
    let Some(definition) = desk.wanted() else {
        speaker.say(&MonitorWord::Lost);
        return Ok(Next::Leave);
    };
    let born = start::give_birth(desk, definition, lock, speaker)?;
    let mut vigil = Vigil::over_born(desk, news, speaker, born);
    let over = vigil.keep()?;
    shutdown::close(vigil, over)?;
    Ok(Next::Leave)
}

fn adopt(
    desk: &Desk<'_>,
    news: &ChildNews,
    speaker: &mut StatusWriter<MonitorWord>,
    mut life: Life,
    process: Pinned,
) -> Result<Next> {
    let fate = fate(&life);
    life.monitor = desk.monitor.clone();
    desk.go_on(&life)?;
    let output = Output::open(desk, life.definition.log_max)?;
    let lock = desk.life_lock()?;
    let mut unheard = StatusWriter::default();
    if fate == Fate::GoesOn || desk.wanted().is_none() {
        // It lives, and whoever asked for it can see that.
        speaker.say(&MonitorWord::Lost);
    }
    let mut vigil = Vigil::over_adopted(desk, news, &mut unheard, (life, process), output, lock);
    if fate == Fate::Ends {
        vigil.dismiss("its monitor ended before it was ready".to_owned());
    }
    let over: Over = vigil.keep()?;
    let was = over.was;
    shutdown::close(vigil, over)?;
    // Whoever asked for a daemon that never came gets the next one.
    let is_wanted = was == Was::Starting && desk.wanted().is_some();
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
