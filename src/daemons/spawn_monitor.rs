//! Starting the monitor of a daemon, as nobody's descendant, and hearing what it says.
//!
//! The monitor outlives whoever starts it and must not be reached by what ends the starter: own session, orphaned at once,
//! working directory `/`, standard streams to nowhere (errors to the log), an environment from the allow-list, and no
//! inherited descriptor but two. One is the status pipe. The other holds what the daemon is, because a command line is
//! shown to everybody and is bounded, and because the settings may change between the observation and the start.
//!
//! If this is wrong, a caller's pipe stays open as long as the daemon lives, or a harness that clears up after a tool
//! takes the daemon with it.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::paths::DaemonPaths;
use super::records;
use crate::base::error::Error;
use crate::layout::log;
use crate::layout::paths::{Home, names};
use crate::ownership::context::HomeContext;
use crate::settings::Settings;
use crate::settings::daemon_definition::{Definition, Name, milliseconds};
use crate::system::World;
use crate::system::handle::{self, AsHandle, HandleNumber, HandleRef};
use crate::system::identity::Pid;
use crate::system::platform;
use crate::system::program;
use crate::system::status_pipe::{NoStatus, Status, StatusReader};

/// A request to start a daemon.
///
/// A monitor may begin late: its client was killed, or the machine is busy. By then somebody else may have started the
/// daemon, and a person may have stopped it again. So a request is good for one life only, the one after the last that was
/// known when it was made; a monitor that finds a later one starts nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRequest {
    /// What is to be started.
    pub definition: Definition,
    /// The number of the last life that was known then; 0 if there was none.
    pub after: u64,
}

impl StartRequest {
    /// To start the life after the last one that is written down now.
    pub fn new<W: World>(world: &W, paths: &DaemonPaths, definition: &Definition) -> Self {
        // A directory that cannot be opened is told of by the monitor.
        let directory = world.open_directory(paths.directory()).ok();
        let after = directory.map_or(0, |directory| records::last_generation(world, &directory));
        Self { definition: definition.clone(), after }
    }
}

/// What a monitor says about itself to the client that started it: one JSON object per line on a pipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "lowercase")]
pub enum MonitorStatus {
    /// The daemon's process exists and is recorded; it is about to execute its program.
    Forked {
        /// The daemon.
        pid: Pid,
        /// Its life.
        generation: u64,
    },
    /// It is ready. The last word.
    Ready {
        /// The daemon.
        pid: Pid,
        /// Its life.
        generation: u64,
        /// How long it took.
        #[serde(with = "milliseconds")]
        after: Duration,
    },
    /// There is another monitor, or the daemon lives already. The last word.
    Lost,
    /// The daemon cannot be had. The last word.
    Failed {
        /// Why.
        reason: String,
    },
}

impl Status for MonitorStatus {
    fn is_last(&self) -> bool {
        !matches!(self, Self::Forked { .. })
    }
}

/// Why no monitor was started.
#[derive(Debug, thiserror::Error)]
pub enum NotStarted {
    /// This program cannot be found any more.
    #[error(transparent)]
    Program(Error),
    /// The request cannot be put into words.
    #[error("cannot tell the monitor: {0}")]
    Request(#[from] serde_json::Error),
    /// The request cannot be handed over.
    #[error("cannot make a file in memory: {0}")]
    Memory(io::Error),
    /// The monitor would have no way to answer.
    #[error("cannot make a pipe: {0}")]
    Pipe(io::Error),
    /// The process cannot be started.
    #[error("cannot start {}: {error}", program.display())]
    Process {
        /// The program.
        program: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// How monitors are started in a home: which program, for which home, with what environment.
#[derive(Debug)]
pub struct Starter {
    program: PathBuf,
    flags: Vec<OsString>,
    environment: Vec<(String, OsString)>,
    home: Home,
}

impl Starter {
    /// For a home, with this program, the flags that monitors need, and of the environment what these settings allow: they
    /// may be others than those that the context began with.
    ///
    /// # Errors
    /// This program cannot be found any more.
    pub fn under(context: &HomeContext, settings: &Settings) -> Result<Self, NotStarted> {
        let environment = context.environment.for_child(&settings.pass);
        let mut starter = Self::new(context.program().map_err(NotStarted::Program)?, &context.home, environment);
        starter.flags.extend(context.loaded.explicit_flags().into_iter().map(OsString::from));
        Ok(starter)
    }

    /// For a home, with a program that is `fm-watch`, and the environment that daemons get.
    pub fn new(program: PathBuf, home: &Home, environment: Vec<(String, OsString)>) -> Self {
        Self { program, flags: home.flags(), environment, home: home.clone() }
    }

    /// Starts a monitor that starts the daemon, unless another life of it has begun since the caller looked.
    ///
    /// # Errors
    /// No process could be started.
    pub fn start(&self, name: &Name, request: &StartRequest) -> Result<Start, NotStarted> {
        let told = serde_json::to_vec(request)?;
        let told = platform::memory_file(name.as_str(), &told).map_err(NotStarted::Memory)?;
        self.spawn(name, Some(told.as_handle()))
    }

    /// Starts a monitor for a daemon that lives without one. It starts nothing, also if the daemon has ended by then.
    ///
    /// # Errors
    /// No process could be started.
    pub fn adopt(&self, name: &Name) -> Result<Start, NotStarted> {
        self.spawn(name, None)
    }

    fn spawn(&self, name: &Name, request: Option<HandleRef<'_>>) -> Result<Start, NotStarted> {
        let (listener, writer) = StatusReader::new().map_err(NotStarted::Pipe)?;
        let command =
            self.command(name, handle::number_of(&writer), request.map(|request| handle::number_of(&request)));
        let inherited: Vec<_> = std::iter::once(writer.as_handle()).chain(request).collect();
        platform::spawn_detached(command, &inherited)
            .map_err(|error| NotStarted::Process { program: self.program.clone(), error })?;
        Ok(Start { listener, log: self.home.ours(names::LOG_DIRECTORY).join(names::LOG) })
    }

    fn command(&self, name: &Name, status: HandleNumber, request: Option<HandleNumber>) -> Command {
        let mut command = program::command(&self.program, self.environment.iter().map(|(name, value)| (name, value)));
        command.args(&self.flags).args(["daemon-monitor", name.as_str()]);
        command.arg("--word-fd").arg(status.to_string());
        if let Some(request) = request {
            command.arg("--order-fd").arg(request.to_string());
        }
        program::detach(&mut command, log::open_for_child(&self.home));
        command
    }
}

/// A start under way. Dropping it lets the monitor go on unheard.
#[derive(Debug)]
pub struct Start {
    listener: StatusReader<MonitorStatus>,
    log: PathBuf,
}

impl Start {
    /// Waits for what the monitor says next.
    ///
    /// # Errors
    /// What came instead.
    pub fn next_status(&self, deadline: Instant) -> Result<MonitorStatus, NoStatus> {
        self.listener.next(deadline)
    }

    /// What came instead of a word, for people.
    pub fn in_words(&self, silence: &NoStatus) -> impl fmt::Display {
        match silence {
            NoStatus::Ended => format!("its monitor ended without a word; see {}", self.log.display()),
            NoStatus::DeadlinePassed => "its monitor has not said by the deadline what became of it".to_owned(),
            NoStatus::Broken(error) => format!("its monitor cannot be understood: {error}"),
        }
    }
}

/// It can be read when the monitor says something, or when it will not say anything more.
impl AsHandle for Start {
    fn as_handle(&self) -> HandleRef<'_> {
        self.listener.ear()
    }
}
