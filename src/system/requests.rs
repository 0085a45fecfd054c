//! Requests: what others ask of a running process, by whatever this platform carries them.
//!
//! # Theory
//!
//! On Linux a request is a signal. Two libraries bring signals here, each where it is best. signal-hook keeps what came
//! until it is read ([`Requests`]), which a watcher needs, and knows signals that only some platforms have. ctrlc brings the
//! keyboard's interruption to a client on every platform ([`on_interrupt`]). A process asks for each cause in one of the two
//! ways only, so neither takes the other's handler away.
//!
//! What was ignored when the process began, by `nohup` or a shell's `&`, is for the listener to leave so: [`heeded`] tells,
//! and must be asked before anything is listened to.
//!
//! If this is wrong, a watcher cannot be asked to leave, or ends with a terminal that it was to outlive.
//!
//! # Limits
//!
//! Equal requests that come before one of them is read are one. The end of the terminal and the request to read the
//! settings again are the same signal, so one process can listen for one of them only.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use super::platform;
use crate::base::exit;

/// Why a process is asked to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Somebody asks for it (SIGTERM).
    Terminated,
    /// A person interrupts it at the keyboard (SIGINT).
    Interrupted,
    /// Its terminal is gone (SIGHUP).
    HungUp,
}

impl Cause {
    /// The exit code of a process that leaves for this cause, as shells have it.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Terminated => exit::TERMINATED,
            Self::Interrupted => exit::INTERRUPTED,
            Self::HungUp => exit::HUNG_UP,
        }
    }
}

/// What a process is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// To leave.
    Leave(Cause),
    /// To read its settings again (SIGHUP).
    Reload,
    /// To say how it is (SIGUSR1).
    Poke,
    /// To see which of its children has ended (SIGCHLD).
    ChildEnded,
}

impl From<Cause> for Request {
    fn from(cause: Cause) -> Self {
        Self::Leave(cause)
    }
}

impl Request {
    fn number(self) -> i32 {
        match self {
            Self::Leave(Cause::Terminated) => SIGTERM,
            Self::Leave(Cause::Interrupted) => SIGINT,
            Self::Leave(Cause::HungUp) | Self::Reload => SIGHUP,
            Self::Poke => SIGUSR1,
            Self::ChildEnded => SIGCHLD,
        }
    }
}

/// Those of these requests that this process was not started to ignore. It must be asked before any of them is listened to.
pub fn heeded<R: Copy + Into<Request>>(requests: &[R]) -> Vec<R> {
    requests.iter().copied().filter(|&request| platform::is_heeded(request.into().number())).collect()
}

/// Requests that are kept from the moment of listening until they are read.
#[derive(Debug)]
pub struct Requests<R> {
    signals: Signals,
    known: Vec<R>,
}

impl<R: Copy + Into<Request>> Requests<R> {
    /// Listens for these.
    ///
    /// # Errors
    /// Those of the system.
    pub fn listen(to: &[R]) -> io::Result<Self> {
        let signals = Signals::new(to.iter().map(|&request| request.into().number()))?;
        Ok(Self { signals, known: to.to_vec() })
    }

    /// Every request as it comes; waits for the next one.
    pub fn forever(&mut self) -> impl Iterator<Item = R> + '_ {
        let known = &self.known;
        let request = |number| known.iter().copied().find(|&request| request.into().number() == number);
        self.signals.forever().filter_map(request)
    }
}

/// What ends this process at a request to leave, with the exit code of its cause, whatever it is doing, once this is true.
///
/// # Errors
/// Those of the system.
pub fn end_when(cause: Cause, is_insisted_on: &Arc<AtomicBool>) -> io::Result<()> {
    let (number, code) = (Request::Leave(cause).number(), cause.exit_code().into());
    signal_hook::flag::register_conditional_shutdown(number, code, Arc::clone(is_insisted_on)).map(drop)
}

/// Makes this true at a request to leave.
///
/// # Errors
/// Those of the system.
pub fn note(cause: Cause, is_asked: &Arc<AtomicBool>) -> io::Result<()> {
    signal_hook::flag::register(Request::Leave(cause).number(), Arc::clone(is_asked)).map(drop)
}

/// Stores the exit code of the cause at a request to leave.
///
/// # Errors
/// Those of the system.
pub fn note_exit_code(cause: Cause, code: &Arc<AtomicUsize>) -> io::Result<()> {
    let number = Request::Leave(cause).number();
    signal_hook::flag::register_usize(number, Arc::clone(code), cause.exit_code().into()).map(drop)
}

/// Asks this process itself to leave, as if somebody else had.
///
/// # Errors
/// Those of the system.
pub fn repeat(cause: Cause) -> io::Result<()> {
    signal_hook::low_level::raise(Request::Leave(cause).number())
}

/// Calls this in a thread of its own whenever a person interrupts this process at the keyboard.
///
/// # Errors
/// Those of the system; another one was set before.
pub fn on_interrupt(action: impl FnMut() + 'static + Send) -> io::Result<()> {
    ctrlc::set_handler(action).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_comes_as_the_one_that_was_listened_for() {
        let mut requests = Requests::listen(&[Request::Poke, Request::Reload]).unwrap();
        signal_hook::low_level::raise(SIGHUP).unwrap();
        assert_eq!(requests.forever().next(), Some(Request::Reload));
        let mut causes = Requests::listen(&[Cause::HungUp]).unwrap();
        signal_hook::low_level::raise(SIGHUP).unwrap();
        assert_eq!(causes.forever().next(), Some(Cause::HungUp));
    }

    #[test]
    fn exit_codes_are_those_of_shells() {
        for cause in [Cause::Terminated, Cause::Interrupted, Cause::HungUp] {
            assert_eq!(i32::from(cause.exit_code()), 128 + Request::Leave(cause).number(), "{cause:?}");
        }
    }
}
