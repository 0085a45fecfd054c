//! What is known of whoever holds a lock.
//!
//! It informs and never authorises: whether a lock may be taken over is each protocol's own judgement, made before.

use std::fmt;
use std::time::Duration;

use crate::system::identity::Sameness;

/// The holder of a busy lock, as far as anybody can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its pid, on its own machine and in its own pid namespace.
    pub pid: Option<u32>,
    /// Its machine, as its protocol writes it. `None`: this one, or the protocol does not say.
    pub host: Option<String>,
    /// For how long at least it has held the lock. It comes from file times, so a stepped clock makes it wrong.
    pub since: Option<Duration>,
    /// Whether the process under that pid today is the one that took the lock.
    pub identity: Sameness,
    /// What a person can do when it is known that the lock should be free, if there is anything to do but wait.
    pub remedy: Option<String>,
}

impl Holder {
    /// A holder of whom nothing is known but why that is so.
    pub fn unknown(why: impl Into<String>) -> Self {
        Self { pid: None, host: None, since: None, identity: Sameness::Unknown(why.into()), remedy: None }
    }
}

/// A phrase that goes on after "is held": ` by pid 12 on buildhost for 3s (another pid namespace)`.
impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(formatter, "by pid {pid}")?,
            None => formatter.write_str("by an unknown process")?,
        }
        if let Some(host) = &self.host {
            write!(formatter, " on {host}")?;
        }
        if let Some(since) = self.since {
            // Tenths of seconds are enough for people.
            let rounded = Duration::from_millis(u64::try_from(since.as_millis() / 100 * 100).unwrap_or(u64::MAX));
            write!(formatter, " for {}", humantime::format_duration(rounded))?;
        }
        match &self.identity {
            Sameness::Same(_) => Ok(()),
            Sameness::Different(difference) => write!(formatter, " ({difference})"),
            Sameness::Unknown(why) => write!(formatter, " ({why})"),
        }
    }
}
