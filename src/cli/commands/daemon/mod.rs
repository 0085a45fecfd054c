//! `daemon`: obtain daemons and look after them.

mod definition;
mod ensure;
mod logs;
pub mod status;
mod stop;

pub(crate) use stop::stop_kept;

use crate::base::error::Result;
use crate::cli::args;
use crate::cli::session::Session;

/// Does what the command line says.
///
/// # Errors
/// No such daemon, or nobody reads.
pub fn daemon(session: &Session, command: &args::Daemon) -> Result<u8> {
    let daemons = definition::daemons(session)?;
    match command {
        args::Daemon::Ensure(options) => ensure::ensure(session, &daemons, options),
        args::Daemon::Kick(options) => ensure::kick(session, &daemons, options),
        args::Daemon::Logs { name, lines, follow } => {
            let until = if *follow { logs::Until::Interrupted } else { logs::Until::LastLine };
            logs::logs(session, name, *lines, until)
        }
        args::Daemon::Status { name } => status::status(session, &daemons, name.as_ref()),
        args::Daemon::Verify { name } => status::verify(session, &daemons, name),
        args::Daemon::Stop { name } => stop::stop(session, &daemons, name),
        args::Daemon::Restart { name } => stop::restart(session, &daemons, name),
    }
}
