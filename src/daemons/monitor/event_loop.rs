//! The event loop over one life until it is over: its process, its output, its readiness, and a few times.
//!
//! Nothing in it waits for anything else, so the end of a daemon is seen when it comes, and its output is read whatever
//! else there is to do. A daemon that is ready costs nothing until it prints, orphans a process, or ends.
//!
//! Limits: asking the ready socket a question can take up to a second, during which its output waits in the kernel's
//! buffer.

use std::time::Duration;

use super::ancestry::{Ancestry, Root};
use super::observe::{self, Subject};
use super::output::Pumped;
use super::readiness::{self, Judgement};
use super::records::Records;
use super::start::{Origin, Watched};
use super::transitions::{self, Succession, succession};
use crate::base::error::{Context, Result};
use crate::base::failpoint::Failpoint;
use crate::daemons::records::{Phase, SocketInode};
use crate::daemons::restart_policy::End;
use crate::daemons::spawn_monitor::MonitorStatus;
use crate::lock::socket::probe::{Closing, LingeringClose};
use crate::settings::daemon_definition::{Ready, milliseconds};
use crate::system::handle::{AsHandle, HandleRef};
use crate::system::identity::{Identity, Pid};
use crate::system::platform::{self, ChildNews, Ending};
use crate::system::status_pipe::StatusWriter;
use crate::system::{Real, Signal, World};

/// The first pause between two looks for readiness; it grows.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// How long the first process of a daemon that speaks through another may take to end before it is told as the daemon. One
/// that forks lets it end right after; one that is wrapped in a script never does.
const FIRST_ENDS_WITHIN: Duration = Duration::from_millis(100);
/// How long the daemon has to close the connection by which it was found ready.
const PARTING_TAKES: Duration = Duration::from_secs(5);
/// The pause before a record that could not be written is tried again.
const WRITES_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How far a life has come.
#[derive(Debug)]
enum Stage {
    /// It is not ready yet. Looked at again at `next`.
    Starting { next: Duration, pause: Duration, missing: String },
    /// It has been ready since then.
    Ready { since: Duration },
    /// It was not ready and was asked to leave; it is killed at `kill_at`.
    Leaving { reason: String, kill_at: Option<Duration> },
}

/// The loop over one life.
#[derive(Debug)]
pub struct EventLoop<'a> {
    pub(super) records: &'a Records<'a>,
    news: &'a ChildNews,
    speaker: &'a mut StatusWriter<MonitorStatus>,
    pub(super) watched: Watched,
    stage: Stage,
    /// Its first processes, of which all but the present one have ended.
    known: Vec<u32>,
    /// When to look again which process succeeds one that has ended.
    succession_at: Option<Duration>,
    /// Until when the end of its first process is waited for, once another one is ready.
    first_ends_until: Option<Duration>,
    /// When to write again what could not be written.
    write_at: Option<Duration>,
    /// Connections that the daemon has not closed yet, each with the time at which it is not waited for any more.
    partings: Vec<(LingeringClose<Real>, Duration)>,
}

/// How a life was when it was over.
#[derive(Debug)]
pub struct Over {
    /// How it ended.
    pub end: End,
    /// Whether it had been ready.
    pub was: Was,
}

/// Whether a life had been ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Was {
    /// It had.
    Ready,
    /// It had not.
    Starting,
}

impl<'a> EventLoop<'a> {
    /// Of a life that has just begun, or whose monitor has ended. One that is ready is watched; one that is not may be asked
    /// to leave and killed, so it must be proven to be what its record says.
    pub fn new(
        records: &'a Records<'a>,
        news: &'a ChildNews,
        speaker: &'a mut StatusWriter<MonitorStatus>,
        watched: Watched,
    ) -> Self {
        let now = records.world().now().monotonic;
        let Watched { life, channel, .. } = &watched;
        let missing = || readiness::missing(&life.definition.ready, &readiness::Observed::Heard(channel.heard()));
        let stage = match life.phase {
            Phase::Starting => Stage::Starting { next: now, pause: FIRST_PAUSE, missing: missing() },
            Phase::Ready { .. } => Stage::Ready { since: Duration::ZERO },
        };
        let known = vec![watched.process.pid().get()];
        Self {
            records,
            news,
            speaker,
            watched,
            stage,
            known,
            succession_at: None,
            first_ends_until: None,
            write_at: None,
            partings: Vec::new(),
        }
    }

    /// Watches until the life is over. Its last process is unreaped then, if it is a child.
    ///
    /// # Errors
    /// Nothing can be waited for any more. The daemon goes on, and another monitor can adopt it.
    pub fn run(&mut self) -> Result<Over> {
        loop {
            let pumped = self.pump();
            self.receive();
            if let Some(end) = self.end_of_life()? {
                return Ok(self.over(end));
            }
            self.proceed()?;
            if pumped == Pumped::Dry {
                self.wait()?;
            }
        }
    }

    /// Asks the daemon to leave before it has done anything else.
    pub fn dismiss(&mut self, reason: String) {
        if let Err(error) =
            self.records.world().signal(&self.watched.process, self.watched.life.definition.stop_signal.into())
        {
            tracing::warn!("cannot ask pid {} to leave: {error}", self.watched.life.pid());
        }
        let kill_at = Some(self.now() + self.watched.life.definition.stop_grace);
        self.stage = Stage::Leaving { reason, kill_at };
    }

    /// Says a word to whoever has asked for this daemon.
    pub fn say(&mut self, word: &MonitorStatus) {
        self.speaker.say(word);
    }

    pub(super) fn now(&self) -> Duration {
        self.records.world().now().monotonic
    }

    fn started(&self) -> Duration {
        Duration::from_millis(self.watched.life.since_monotonic_ms)
    }

    fn deadline(&self) -> Duration {
        self.started() + self.watched.life.definition.ready_timeout
    }

    pub(super) fn ancestry(&self) -> Ancestry {
        let root = match self.watched.origin {
            Origin::Child => Root::Monitor(self.records.world().own_pid()),
            Origin::Adopted => Root::Daemon(self.watched.life.pid().get()),
        };
        Ancestry { root, session: self.watched.life.session.get(), known: self.known.clone() }
    }

    /// Waits for something to happen.
    fn wait(&self) -> Result<()> {
        let mut waited: Vec<HandleRef<'_>> = vec![self.watched.output.as_handle(), self.news.as_handle()];
        waited.extend(self.watched.channel.descriptor());
        waited.extend(self.partings.iter().map(|(lingering, _)| lingering.as_handle()));
        if self.succession_at.is_none() {
            waited.push(self.watched.process.as_handle());
        }
        let at_most = self.next_time().map(|time| time.saturating_sub(self.now()));
        platform::wait_for_any(&waited, at_most).map(drop).doing("wait in", self.records.assignment.paths.directory())
    }

    /// The next time at which something is to be done.
    fn next_time(&self) -> Option<Duration> {
        let of_stage = match &self.stage {
            Stage::Starting { next, .. } => Some((*next).min(self.deadline())),
            Stage::Ready { .. } => None,
            Stage::Leaving { kill_at, .. } => *kill_at,
        };
        let partings = self.partings.iter().map(|(_, until)| *until);
        [of_stage, self.succession_at, self.write_at].into_iter().flatten().chain(partings).min()
    }

    fn pump(&mut self) -> Pumped {
        let Watched { channel, output, .. } = &mut self.watched;
        output.pump(|piece| channel.read_output(piece)).unwrap_or_else(|error| {
            tracing::warn!("cannot read what the daemon prints: {error}");
            Pumped::Dry
        })
    }

    fn receive(&mut self) {
        self.news.take();
        if self.watched.origin == Origin::Child
            && let Err(error) = platform::reap_all_but(Some(self.watched.process.pid().get()))
        {
            tracing::warn!("cannot reap: {error}");
        }
        let ancestry = self.ancestry();
        self.watched.channel.receive(|pid| super::ancestry::relation(pid, &ancestry, platform::table_entry));
    }

    /// How the life has ended, if it has.
    fn end_of_life(&mut self) -> Result<Option<End>> {
        let directory = self.records.assignment.paths.directory();
        if !platform::wait_for_exit(&self.watched.process, Duration::ZERO).doing("watch a process of", directory)? {
            return Ok(None);
        }
        let end = match self.watched.origin {
            Origin::Adopted => return Ok(Some(End::Unseen)),
            Origin::Child => platform::ending_of(self.watched.process.pid().get()),
        };
        let end = match end.doing("see the end of a process of", directory)? {
            // The kernel shows an end before the last thread is gone.
            None => return Ok(None),
            Some(Ending::Exited(code)) => End::Exited { code },
            Some(Ending::Killed(signal)) => End::Signalled { signal },
        };
        if end == (End::Exited { code: 0 }) { self.successor_or(end) } else { Ok(Some(end)) }
    }

    /// The end, unless the life goes on in another process.
    fn successor_or(&mut self, end: End) -> Result<Option<End>> {
        let stage = match self.stage {
            Stage::Starting { .. } => transitions::Stage::Starting,
            Stage::Ready { since } => transitions::Stage::ReadyFor(self.now().saturating_sub(since)),
            Stage::Leaving { .. } => return Ok(Some(end)),
        };
        let children = observe::children().doing("list the processes of", self.records.assignment.paths.directory())?;
        let named = self
            .watched
            .channel
            .sender()
            .or_else(|| observe::named(self.records.world(), &self.watched.life.definition));
        match succession(&children, named, stage) {
            Succession::Over => Ok(Some(end)),
            Succession::Goes(pid) => {
                if !self.succeed(pid) {
                    self.succession_at = Some(self.now() + LONGEST_PAUSE / 10);
                }
                Ok(None)
            }
            Succession::Open => {
                self.succession_at = Some(self.now() + LONGEST_PAUSE / 10);
                Ok(None)
            }
        }
    }

    /// Makes another process the daemon of this life. Says whether that was still possible.
    fn succeed(&mut self, pid: u32) -> bool {
        let Ok(Some(successor)) = platform::pin_reported(pid) else { return false };
        // It is a child of this process, so its number is its own as long as nobody reaps it.
        let session = platform::table_entry(pid).and_then(|entry| Pid::new(entry.session));
        let (Some(session), Ok(identity)) = (session, self.records.observe(&successor)) else { return false };
        (self.watched.life.process, self.watched.life.session) = (identity, session);
        let predecessor = std::mem::replace(&mut self.watched.process, successor);
        self.known.push(pid);
        self.succession_at = None;
        if let Stage::Starting { next, .. } = &mut self.stage {
            *next = Duration::ZERO;
        }
        self.write_life();
        if let Err(error) = platform::reap(predecessor.pid().get()) {
            tracing::warn!("cannot reap pid {}: {error}", predecessor.pid());
        }
        true
    }

    /// Does what is due now.
    fn proceed(&mut self) -> Result<()> {
        let now = self.now();
        self.part(now);
        if self.write_at.is_some_and(|time| time <= now) {
            self.write_life();
        }
        match &mut self.stage {
            Stage::Starting { .. } => self.look(now),
            Stage::Leaving { kill_at, .. } if kill_at.is_some_and(|time| time <= now) => {
                *kill_at = None;
                let killed = self.records.world().signal(&self.watched.process, Signal::Kill);
                killed.map(drop).doing("kill the daemon of", self.records.assignment.paths.directory())
            }
            Stage::Leaving { .. } | Stage::Ready { .. } => Ok(()),
        }
    }

    /// Looks whether it is ready.
    fn look(&mut self, now: Duration) -> Result<()> {
        let Stage::Starting { next, pause, missing } = &self.stage else { return Ok(()) };
        let (is_due, pause, mut missing) = (*next <= now, *pause, missing.clone());
        let is_heard =
            matches!(self.watched.life.definition.ready, Ready::Descriptor | Ready::Notify | Ready::LogLine(_));
        let mut following = self.deadline();
        if is_due || is_heard {
            let (seen, met) = observe::observed(&Subject {
                world: self.records.world(),
                definition: &self.watched.life.definition,
                ancestry: self.ancestry(),
                lived: self.now().saturating_sub(self.started()),
                heard: self.watched.channel.heard(),
            });
            let socket = met.as_ref().map(|met| met.socket);
            self.partings.extend(met.map(|met| (met.lingering, self.now() + PARTING_TAKES)));
            let judgement = readiness::judge(&self.watched.life.definition.ready, &seen);
            if judgement == Judgement::Ready
                && let Some(until) = self.first_may_end_until(readiness::sender(&seen))
            {
                self.stage = Stage::Starting { next: until, pause, missing };
                return Ok(());
            }
            match judgement {
                // What has ended meanwhile is not ready; who succeeds it is seen next, if anybody does.
                Judgement::Ready => match self.records.observe(&self.watched.process) {
                    Ok(identity) => return self.become_ready(identity, socket),
                    Err(why) => missing = format!("its first process cannot be seen any more: {why}"),
                },
                Judgement::Impossible(reason) => {
                    self.dismiss(reason);
                    return Ok(());
                }
                Judgement::NotYet(what) => missing = what,
            }
        }
        let now = self.now();
        if now >= self.deadline() {
            let within = humantime::format_duration(self.watched.life.definition.ready_timeout);
            self.dismiss(format!("{missing} within {within}"));
            return Ok(());
        }
        let pause = if is_due { (pause * 3 / 2).min(LONGEST_PAUSE) } else { pause };
        if let Ready::Delay(delay) = &self.watched.life.definition.ready {
            following = following.min(self.started() + *delay);
        } else if !is_heard {
            following = following.min(now + pause);
        }
        self.stage = Stage::Starting { next: following, pause, missing };
        Ok(())
    }

    /// Until when the process that is known as the daemon may leave that to the one that was named as ready.
    fn first_may_end_until(&mut self, named: Option<u32>) -> Option<Duration> {
        let sender = named.or_else(|| self.watched.channel.sender())?;
        if self.watched.origin == Origin::Adopted || sender == self.watched.process.pid().get() {
            return None;
        }
        let now = self.now();
        let until = *self.first_ends_until.get_or_insert(now + FIRST_ENDS_WITHIN);
        Some(until.min(self.deadline())).filter(|until| now < *until)
    }

    /// Lets go of the connections that the daemon has closed, and of those that it does not close.
    fn part(&mut self, now: Duration) {
        for (mut lingering, until) in std::mem::take(&mut self.partings) {
            let is_heard = platform::wait_for_any(&[lingering.as_handle()], Some(Duration::ZERO))
                .is_ok_and(|heard| heard == [true]);
            let is_over = is_heard && lingering.listen(Duration::ZERO) == Closing::Over;
            if is_over || now >= until {
                lingering.end();
            } else {
                self.partings.push((lingering, until));
            }
        }
    }

    fn become_ready(&mut self, identity: Identity, socket: Option<SocketInode>) -> Result<()> {
        let now = self.now();
        let after_ms = milliseconds::of(now.saturating_sub(self.started()));
        self.watched.life.process = identity;
        self.watched.life.socket = socket;
        self.watched.life.phase = Phase::Ready { after_ms };
        self.stage = Stage::Ready { since: now };
        self.write_life();
        self.records.reach(Failpoint::DaemonReadyRecorded)?;
        let (pid, generation) = (self.watched.life.pid(), self.watched.life.generation);
        self.speaker.say(&MonitorStatus::Ready { pid, generation, after: Duration::from_millis(after_ms) });
        Ok(())
    }

    /// Writes down how far the life has come. On a full disk it is tried again and again.
    fn write_life(&mut self) {
        self.write_at = match self.records.go_on(&self.watched.life) {
            Ok(()) => None,
            Err(error) => {
                tracing::warn!("{error}");
                Some(self.now() + WRITES_AGAIN_AFTER)
            }
        };
    }

    fn over(&mut self, end: End) -> Over {
        let leaving = Stage::Leaving { reason: String::new(), kill_at: None };
        match std::mem::replace(&mut self.stage, leaving) {
            Stage::Starting { .. } => Over { end, was: Was::Starting },
            Stage::Ready { .. } => Over { end, was: Was::Ready },
            Stage::Leaving { reason, .. } => Over { end: End::NotReady { reason }, was: Was::Starting },
        }
    }
}
