//! Which daemon a command line means: one of the settings, one that this home has had, or one that is said there.

use std::path::{Path, PathBuf};

use crate::base::error::{Context, Error, Result};
use crate::cli::args;
use crate::cli::session::Session;
use crate::daemons::ensure::Daemons;
use crate::daemons::paths::{self, DaemonPaths};
use crate::daemons::records::{self, Life};
use crate::settings::daemon_definition::{Definition, Exchange, Name, Ready};
use crate::settings::{self, Origin};
use crate::system::World;

/// The daemons of this home; a person is told what goes wrong and is no failure.
pub(super) fn daemons(session: &Session) -> Result<Daemons> {
    let console = session.console;
    let daemons = Daemons::of_home(session).map_err(|error| Error::Failed(error.to_string()))?;
    Ok(daemons.with_notes(move |note| console.note(note)))
}

/// What a daemon of a name is by the settings, else what it was when it was started last; `None` if it never was.
///
/// # Errors
/// Nobody has ever heard of it.
pub(super) fn known(session: &Session, name: &Name) -> Result<Option<Definition>> {
    if let Ok(daemon) = session.settings().daemon(name) {
        return Ok(Some(daemon.definition(session.home.root(), session.settings())));
    }
    let paths = DaemonPaths::new(&session.home, name);
    let is_missing = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    match session.world.open_directory(paths.directory()) {
        Ok(directory) => {
            let life = records::read::<Life, _>(session.world.as_ref(), &directory, paths::LIFE);
            Ok(life.known().map(|life| life.definition.clone()))
        }
        Err(error) if is_missing(&error) => Err(unknown(session, name)),
        Err(error) => Err(Error::system("open the directory", paths.directory(), error)),
    }
}

pub(super) fn unknown(session: &Session, name: &Name) -> Error {
    let meant = match session.settings().daemon(name) {
        Err(Some(near)) => format!("is `{near}` meant?"),
        _ => "add the table, or say with `--name` and a command what it is".to_owned(),
    };
    Error::Usage(format!("{}: there is no [daemon.{name}]; {meant}", session.home.settings_file().display()))
}

/// The daemon that a command line names, or says.
///
/// # Errors
/// The settings do not have it, or what is said cannot be one.
pub(super) fn wanted(session: &Session, options: &args::Obtain) -> Result<(Name, Definition)> {
    match (&options.name, &options.own_name) {
        (Some(name), _) => Ok((name.clone(), known(session, name)?.ok_or_else(|| unknown(session, name))?)),
        (None, Some(name)) => Ok((name.clone(), said(session, name, options)?)),
        (None, None) => Err(Error::Usage("no daemon is named".to_owned())),
    }
}

fn said(session: &Session, name: &Name, options: &args::Obtain) -> Result<Definition> {
    let mut command = options.command.clone();
    if let Some(program) = command.first_mut().filter(|program| program.contains('/')) {
        let path = absolute(Path::new(program.as_str()))?;
        *program = path
            .into_os_string()
            .into_string()
            .map_err(|path| Error::Usage(format!("{}: the path of a program must be text", path.display())))?;
    }
    let origin = Origin::Flag("daemon.NAME");
    let mut daemon = settings::Daemon::of_command(name.clone(), command, origin);
    daemon.cwd = options.cwd.as_deref().map(absolute).transpose()?;
    daemon.env = options.env.iter().cloned().collect();
    daemon.ready = ready(options)?;
    daemon.ready_timeout = options.ready_timeout;
    Ok(daemon.definition(session.home.root(), session.settings()))
}

fn ready(options: &args::Obtain) -> Result<Option<Ready>> {
    if let Some(path) = &options.ready_socket {
        let request = options.ready_request.clone().unwrap_or_default();
        let exchange = options.ready_answer.clone().map(|answer| Exchange { request, answer });
        return Ok(Some(Ready::Socket { path: absolute(path)?, exchange }));
    }
    if let Some(path) = &options.ready_pidfile {
        return Ok(Some(Ready::Pidfile(absolute(path)?)));
    }
    if let Some(pattern) = &options.ready_log {
        let compiled = regex_lite::Regex::new(pattern);
        compiled.map_err(|error| Error::Usage(format!("--ready-log {pattern}: {error}")))?;
        return Ok(Some(Ready::LogLine(pattern.clone())));
    }
    Ok(match options.ready_delay {
        Some(delay) => Some(Ready::Delay(delay)),
        None if options.ready_fd => Some(Ready::Descriptor),
        None if options.ready_notify => Some(Ready::Notify),
        None => None,
    })
}

/// A path as the caller means it, wherever the daemon will be.
fn absolute(path: &Path) -> Result<PathBuf> {
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    Ok(std::env::current_dir().doing("find the directory of", path)?.join(path))
}
