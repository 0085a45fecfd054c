//! Starting a watcher that is nobody's descendant.
//!
//! Own session, orphaned at once, working directory `/`, standard streams to nowhere (errors to the log), no inherited
//! descriptor but the word's, an environment from the allow-list, and the home in explicit flags, so that `ps`
//! shows which home it serves and no inherited variable can point it at another one.
//!
//! # A watcher that lives with its starter
//!
//! The scripts of a firstmate home are the parents of the watchers that they start, and people rely on it: whoever ends
//! the script has ended the watcher. So such a watcher is bound to the thread that started it by the kernel, which asks
//! it to leave (TERM) when that thread ends, in whatever way. Nothing that the starter would still have to do is needed
//! for that, and a starter that ends before its child has told the kernel so is seen by the child. It is asked and not
//! killed, so that it leaves nothing behind: no half-written file, no record of a dead holder. One whose loop stands still
//! insists on itself after the time of grace.
//!
//! What it prints comes to its starter through a pipe, which needs no file and vanishes with the two.
//!
//! If this is wrong, a killed script leaves a watcher that nobody waits for, and its wake reaches nobody.
//!
//! Limits: one that somebody has stopped (SIGSTOP) leaves when it is let go on. The kernel does that by itself where
//! its process group is left without a parent in the session, which is the usual case.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::failure::Failure;
use crate::base::console::Note;
use crate::base::error::{Context, Result};
use crate::base::failpoint::Failpoint;
use crate::layout::log;
use crate::layout::paths::names;
use crate::ownership::context::HomeContext;
use crate::service::installed::{Keeper, Untold};
use crate::system::handle::{self, AsHandle, Handle, HandleNumber};
use crate::system::platform::{self, GroupChild};
use crate::system::status_pipe::{NoStatus, StartStatus, StatusReader};
use crate::system::{World, program};

/// When the new watcher takes the home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// At once.
    AtOnce,
    /// When its holder leaves, if that happens within this time.
    Standby(Duration),
}

/// With whom the new watcher lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Its own: it outlives its starter, and wakes do not end it.
    Own,
    /// With the thread that starts it: it ends with that, or with the first wake.
    Starter,
}

/// Whether a running, healthy watcher is good enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Any healthy watcher will do.
    Any,
    /// Any healthy watcher will do; one that a person has stopped is not replaced.
    Kept,
    /// It must be a new one.
    New,
}

/// One call for a watcher.
pub(super) struct Launch<'a> {
    /// For which home.
    pub(super) context: &'a HomeContext,
    /// What is wanted.
    pub(super) wish: Wish,
    /// With whom the new watcher lives.
    pub(super) lifetime: Lifetime,
    /// Until when one is to be had.
    pub(super) deadline: Instant,
    /// Who hears what happens meanwhile.
    pub(super) tell: &'a mut dyn FnMut(Note),
}

impl Launch<'_> {
    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    pub(super) fn note(&mut self, text: String) {
        (self.tell)(Note::Message(text));
    }

    /// What a service manager answered; that it cannot be asked is told, and no reason to give up.
    pub(super) fn heard(&mut self, answer: Result<Option<Keeper>, Untold>) -> Option<Keeper> {
        answer.unwrap_or_else(|untold| {
            self.note(untold.to_string());
            None
        })
    }
}

/// A start under way.
#[derive(Debug)]
pub struct Start {
    listener: StatusReader<StartStatus>,
    log: PathBuf,
    /// One that is dropped with its start is killed.
    child: Option<BoundChild>,
}

impl Start {
    /// Starts a watcher process for a home.
    ///
    /// # Errors
    /// No process could be started.
    pub fn spawn(context: &HomeContext, mode: Mode, lifetime: Lifetime) -> Result<Self> {
        let (listener, writer) = StatusReader::new().doing("make", "a pipe")?;
        let command = command(context, mode, lifetime, handle::number_of(&writer))?;
        let program = command.get_program().to_owned();
        let inherit = [writer.as_handle()];
        let spawned = match lifetime {
            Lifetime::Own => platform::spawn_detached(command, &inherit).map(|()| None),
            Lifetime::Starter if context.world.is_protected(Failpoint::ObtainBound) => {
                platform::spawn_companion(command, &inherit).map(Some)
            }
            Lifetime::Starter => platform::spawn_group_with(command, &inherit).map(Some),
        };
        let child = spawned.doing("start", program)?.map(BoundChild::new);
        Ok(Self { listener, log: context.home.ours(names::LOG_DIRECTORY).join(names::LOG), child })
    }

    /// The watcher itself, if it lives with its starter and has taken the home. Waits until its first look is over, but
    /// not for long: what holds it up then is a slow disk, and the watcher is there.
    pub fn bound(self) -> Option<BoundWatcher> {
        const LOOK_TAKES: Duration = Duration::from_secs(2);
        let child = self.child?;
        Some(BoundWatcher { child, first_look: first_look(&self.listener, LOOK_TAKES) })
    }

    /// Waits for the next word.
    ///
    /// # Errors
    /// None came.
    pub fn next_word(&self, deadline: Instant) -> Result<StartStatus, Failure> {
        self.listener.next(deadline).map_err(|silence| Failure::NoWord { silence, log: self.log.clone() })
    }
}

fn command(context: &HomeContext, mode: Mode, lifetime: Lifetime, word: HandleNumber) -> Result<Command> {
    let environment = match lifetime {
        Lifetime::Own => context.environment.for_child(&context.settings().pass),
        Lifetime::Starter => context.environment.for_child_of_caller(),
    };
    let mut command = program::command(&context.program()?, environment);
    command.args(context.home.flags()).arg("run");
    if let Mode::Standby(patience) = mode {
        command.arg("--standby").arg(humantime::format_duration(patience).to_string().replace(' ', ""));
    }
    if lifetime == Lifetime::Starter {
        command.args(["--once", "--tracked"]);
    }
    command.arg("--word-fd").arg(word.to_string()).args(context.loaded.explicit_flags());
    // They name the home of the flags once more, as the foreign program would write it.
    command.envs(context.foreign.iter().flat_map(|foreign| foreign.variables()));
    match lifetime {
        Lifetime::Own => program::detach(&mut command, log::open_for_child(&context.home)),
        Lifetime::Starter => drop(command.stdout(Stdio::piped())),
    }
    Ok(command)
}

/// A running watcher that is this process's child. Dropping it kills it.
#[derive(Debug)]
pub struct BoundChild {
    child: Option<GroupChild>,
    stdout: Option<File>,
}

/// A watcher that lives with its starter, and what became of its first look.
#[derive(Debug)]
pub struct BoundWatcher {
    /// The watcher.
    pub child: BoundChild,
    /// Whether it waits by now.
    pub first_look: FirstLook,
}

/// What became of the first look of a watcher at everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstLook {
    /// It found nothing, and the watcher waits.
    Over,
    /// The watcher has ended.
    Ended,
    /// It takes long.
    UnderWay,
}

impl BoundChild {
    /// Takes charge of a child whose stdout is a pipe.
    pub(crate) fn new(mut child: GroupChild) -> Self {
        let stdout = child.child().stdout.take().map(|pipe| File::from(Handle::from(pipe)));
        Self { child: Some(child), stdout }
    }

    /// The process, so that somebody else can signal it.
    pub fn pin(&self) -> Option<platform::Pinned> {
        platform::pin_reported(self.child.as_ref()?.pid()).ok().flatten()
    }

    /// Waits for its end, and gives what it printed and how it ended.
    ///
    /// # Errors
    /// Those of the system.
    pub fn follow(mut self) -> io::Result<(Vec<u8>, ExitStatus)> {
        let mut printed = Vec::new();
        if let Some(stdout) = &mut self.stdout {
            stdout.read_to_end(&mut printed)?;
        }
        let mut child = self.child.take().ok_or(io::ErrorKind::NotFound)?;
        let ended = child.child().wait()?;
        Ok((printed, ended))
    }
}

impl Drop for BoundChild {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            // Whoever drops it wants it gone, and it may be gone already.
            drop(child.kill_group_and_reap());
        }
    }
}

/// Waits until a watcher that holds the home has looked at everything once, at most so long.
fn first_look(listener: &StatusReader<StartStatus>, at_most: Duration) -> FirstLook {
    match listener.next(Instant::now() + at_most) {
        Ok(_) => FirstLook::Over,
        Err(NoStatus::Ended) => FirstLook::Ended,
        Err(NoStatus::DeadlinePassed | NoStatus::Broken(_)) => FirstLook::UnderWay,
    }
}
