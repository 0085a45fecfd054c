//! Starting the monitor of a daemon, as nobody's descendant, and hearing its word.
//!
//! The monitor outlives whoever starts it and must not be reached by what ends the starter: own session, orphaned at once,
//! working directory `/`, standard streams to nowhere (errors to the log), an environment from the allow-list, and no
//! inherited descriptor but two. One is the pipe of its word. The other holds what the daemon is, because a command line is
//! shown to everybody and is bounded, and because the settings may change between the look and the start.
//!
//! If this is wrong, a caller's pipe stays open as long as the daemon lives, or a harness that clears up after a tool
//! takes the daemon with it.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use super::monitor_status::MonitorWord;
use super::start_request::Order;
use crate::base::error::Error;
use crate::home::log;
use crate::home::paths::{Home, names};
use crate::ownership::context::HomeContext;
use crate::settings::Settings;
use crate::settings::daemon_definition::Name;
use crate::system::handle::{self, AsHandle, HandleNumber, HandleRef};
use crate::system::platform;
use crate::system::respawn;
use crate::system::status_pipe::{NoStatus, StatusReader};

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
    pub fn under(context: &HomeContext, settings: &Settings) -> Result<Self, Error> {
        let environment = context.environment.for_child(&settings.pass);
        let mut starter = Self::new(respawn::program()?, &context.home, environment);
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
    /// The reason why no process could be started.
    pub fn start(&self, name: &Name, order: &Order) -> Result<Start, String> {
        let told = serde_json::to_vec(order).map_err(|error| format!("cannot tell the monitor: {error}"))?;
        let told = platform::memory_file(name.as_str(), &told)
            .map_err(|error| format!("cannot make a file in memory: {error}"))?;
        self.spawn(name, Some(told.as_handle()))
    }

    /// Starts a monitor for a daemon that lives without one. It starts nothing, also if the daemon has ended by then.
    ///
    /// # Errors
    /// The reason why no process could be started.
    pub fn adopt(&self, name: &Name) -> Result<Start, String> {
        self.spawn(name, None)
    }

    fn spawn(&self, name: &Name, order: Option<HandleRef<'_>>) -> Result<Start, String> {
        let (listener, writer) = StatusReader::new().map_err(|error| format!("cannot make a pipe: {error}"))?;
        let command = self.command(name, handle::number_of(&writer), order.map(|order| handle::number_of(&order)));
        let inherited: Vec<_> = std::iter::once(writer.as_handle()).chain(order).collect();
        platform::spawn_detached(command, &inherited)
            .map_err(|error| format!("cannot start {}: {error}", self.program.display()))?;
        Ok(Start { listener, log: self.home.ours(names::LOG_DIRECTORY).join(names::LOG) })
    }

    fn command(&self, name: &Name, word: HandleNumber, order: Option<HandleNumber>) -> Command {
        let mut command = respawn::command(&self.program, self.environment.iter().map(|(name, value)| (name, value)));
        command.args(&self.flags).args(["daemon-monitor", name.as_str()]);
        command.arg("--word-fd").arg(word.to_string());
        if let Some(order) = order {
            command.arg("--order-fd").arg(order.to_string());
        }
        respawn::detach(&mut command, log::open_for_child(&self.home));
        command
    }
}

/// A start under way. Dropping it lets the monitor go on unheard.
#[derive(Debug)]
pub struct Start {
    listener: StatusReader<MonitorWord>,
    log: PathBuf,
}

impl Start {
    /// Waits for the monitor's next word.
    ///
    /// # Errors
    /// What came instead.
    pub fn next_word(&self, deadline: Instant) -> Result<MonitorWord, NoStatus> {
        self.listener.next(deadline)
    }

    /// The descriptor that can be read when a word comes, or when none will come.
    pub fn ear(&self) -> HandleRef<'_> {
        self.listener.ear()
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
