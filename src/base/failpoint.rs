//! Named points at which a test pauses, kills or fails the real program, and named protections that it takes away.
//!
//! Without the feature `sync-points` both functions are constants and nothing of this is compiled.
//! With it, `FM_WATCH_SYNC` holds `name=action` pairs separated by `;`, where the action is `kill`, `error:ERRNO`, or
//! `pause:DIRECTORY`: the point then makes `DIRECTORY/name.reached` and goes on when `DIRECTORY/name.go` exists.
//! `FM_WATCH_WITHOUT` holds the names of the protections that are off, separated by commas.

#[cfg(not(feature = "sync-points"))]
use std::io;

/// Marks a step of a protocol.
///
/// # Errors
/// Only what a test injects.
#[cfg(not(feature = "sync-points"))]
#[inline(always)]
#[allow(clippy::inline_always, clippy::unnecessary_wraps)]
pub fn reach(_name: &str) -> io::Result<()> {
    Ok(())
}

/// Whether a protection is in place: always, except in a test that takes it away to see itself fail.
#[cfg(not(feature = "sync-points"))]
#[inline(always)]
#[allow(clippy::inline_always)]
pub fn is_protected(_name: &str) -> bool {
    true
}

#[cfg(feature = "sync-points")]
pub use armed::{is_protected, reach};

#[cfg(feature = "sync-points")]
mod armed {
    use std::io;
    use std::path::Path;
    use std::time::Duration;

    use crate::base::environment;
    use crate::base::wait_until::wait_until;

    /// Marks a step of a protocol; see the module.
    ///
    /// # Errors
    /// The one that the test asked for.
    pub fn reach(name: &str) -> io::Result<()> {
        let Some(plan) = environment::variable("FM_WATCH_SYNC") else { return Ok(()) };
        let Some(action) = plan.split(';').find_map(|step| step.strip_prefix(name)?.strip_prefix('=')) else {
            return Ok(());
        };
        match action.split_once(':') {
            Some(("error", number)) => Err(io::Error::from_raw_os_error(number.parse().unwrap_or(5))),
            Some(("pause", directory)) => pause(Path::new(directory), name),
            _ if action == "kill" => {
                crate::system::platform::kill_self();
                Ok(())
            }
            _ => Err(io::Error::other(format!("FM_WATCH_SYNC: {name} has no action {action}"))),
        }
    }

    fn pause(directory: &Path, name: &str) -> io::Result<()> {
        crate::system::storage::create_note(&directory.join(format!("{name}.reached")))?;
        let go = directory.join(format!("{name}.go"));
        wait_until(Duration::from_secs(600), Duration::from_millis(1), || go.exists().then_some(()))
            .ok_or_else(|| io::Error::from(io::ErrorKind::TimedOut))
    }

    /// Whether a protection is in place; see the module.
    pub fn is_protected(name: &str) -> bool {
        !environment::variable("FM_WATCH_WITHOUT").is_some_and(|names| names.split(',').any(|other| other == name))
    }
}
