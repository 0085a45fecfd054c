//! What a daemon is: its command, how it says that it is ready, and what is done when it ends.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::system::Signal;

/// The longest name of a daemon.
const LONGEST_NAME: usize = 64;

/// A daemon's name: also a directory in the home, so it is short and plain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The text, if it can be a name: letters, digits, `-`, `_` and `.`, and no `.` or `-` first.
    ///
    /// # Errors
    /// It can not.
    pub fn new(text: impl Into<String>) -> Result<Self, NoName> {
        let text = text.into();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_name =
            (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(is_plain) && !text.starts_with(['.', '-']);
        if is_name { Ok(Self(text)) } else { Err(NoName(text)) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that cannot be the name of a daemon, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{0:?} is no name for a daemon; use up to {LONGEST_NAME} letters, digits, `-`, `_` and `.`, and begin with a letter or digit"
)]
pub struct NoName(String);

impl TryFrom<String> for Name {
    type Error = NoName;
    fn try_from(text: String) -> Result<Self, NoName> {
        Self::new(text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// How a daemon says that it is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ready {
    /// It accepts a connection on this Unix socket, and answers if something is asked.
    Socket {
        /// The socket.
        path: PathBuf,
        /// What is asked, and what the answer must begin with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exchange: Option<Exchange>,
    },
    /// It writes its pid into this file.
    Pidfile(PathBuf),
    /// It writes a byte to the descriptor whose number is in `FM_WATCH_READY_FD`.
    Descriptor,
    /// It sends `READY=1` to the socket named in `NOTIFY_SOCKET`, as `sd_notify(3)` does.
    Notify,
    /// It prints a line that matches this regular expression.
    LogLine(String),
    /// It has not ended after so long.
    Delay(#[serde(with = "milliseconds")] Duration),
}

/// A question to a daemon and the beginning of the right answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// What is sent.
    pub request: String,
    /// What the answer must begin with.
    pub answer: String,
}

/// When the manager starts it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never; the manager does not start it in the first place either.
    No,
    /// When it ended in any other way than with 0.
    OnFailure,
    /// Always.
    Always,
}

/// When restarting is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brake {
    /// So many restarts ...
    pub max_restarts: u32,
    /// ... within this time are too many.
    #[serde(with = "milliseconds")]
    pub window: Duration,
}

/// A signal that asks a daemon to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum StopSignal {
    /// SIGTERM.
    Term,
    /// SIGINT.
    Int,
    /// SIGQUIT.
    Quit,
    /// SIGHUP.
    Hup,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
}

impl From<StopSignal> for Signal {
    fn from(signal: StopSignal) -> Self {
        match signal {
            StopSignal::Term => Self::Terminate,
            StopSignal::Int => Self::Interrupt,
            StopSignal::Quit => Self::Quit,
            StopSignal::Hup => Self::HangUp,
            StopSignal::Usr1 => Self::User1,
            StopSignal::Usr2 => Self::User2,
        }
    }
}

/// Everything that is said about one daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// The program and its arguments; never empty.
    pub command: Vec<String>,
    /// Its working directory; absolute.
    pub cwd: PathBuf,
    /// Variables it gets besides the fixed list and [`crate::settings::Settings::pass`].
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How it says that it is ready.
    pub ready: Ready,
    /// How long it may take to be ready.
    #[serde(with = "milliseconds")]
    pub ready_timeout: Duration,
    /// When it is started again.
    pub restart: Restart,
    /// The first pause before a restart; it doubles.
    #[serde(with = "milliseconds")]
    pub backoff: Duration,
    /// Where the doubling ends. A life longer than this begins it anew.
    #[serde(with = "milliseconds")]
    pub backoff_max: Duration,
    /// When restarting is given up.
    pub brake: Brake,
    /// The signal that asks it to leave.
    pub stop_signal: StopSignal,
    /// How long it may take to leave before it is killed.
    #[serde(with = "milliseconds")]
    pub stop_grace: Duration,
    /// The most bytes of each of its two log files.
    pub log_max: u64,
}

/// Times in records are whole milliseconds.
pub mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// The number; a time that has no number is the longest one.
    pub fn of(time: Duration) -> u64 {
        u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
    }

    /// As a number.
    ///
    /// # Errors
    /// Those of the format.
    pub fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(of(*time))
    }

    /// From a number.
    ///
    /// # Errors
    /// Those of the format.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}
