//! The child's own word: what a starting watcher, or the monitor of a daemon, says about itself on the pipe it was given.
//!
//! One JSON object per line. The pipe is closed as soon as the last word is said, so a process that runs has no
//! descriptor of its caller's.

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::platform;

/// A set of words that one kind of child may say.
pub trait Status: Serialize + DeserializeOwned {
    /// Whether nothing more is said.
    fn is_last(&self) -> bool;
}

/// What a starting watcher may say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "lowercase")]
pub enum StartStatus {
    /// It holds the home and has beaten for the first time; `Ready` follows when it has looked at everything once and
    /// found no wake. Only a watcher that lives with its caller says so.
    Taken {
        /// Itself.
        pid: u32,
    },
    /// It holds the home and has beaten for the first time.
    Ready {
        /// Itself.
        pid: u32,
        /// Its acquisition.
        generation: u64,
    },
    /// Settings are read and sources are open; it waits for the lock.
    Standby {
        /// Itself.
        pid: u32,
    },
    /// Somebody else holds the home.
    Lost {
        /// Who, if that is recorded.
        pid: Option<u32>,
    },
    /// It cannot watch.
    Failed {
        /// Why.
        reason: String,
    },
}

impl Status for StartStatus {
    fn is_last(&self) -> bool {
        !matches!(self, Self::Standby { .. } | Self::Taken { .. })
    }
}

/// The speaking end, in the child.
#[derive(Debug)]
pub struct StatusWriter<T> {
    pipe: Option<File>,
    words: PhantomData<fn(T)>,
}

/// The end for a child that nobody listens to.
impl<T> Default for StatusWriter<T> {
    fn default() -> Self {
        Self { pipe: None, words: PhantomData }
    }
}

impl<T: Status> StatusWriter<T> {
    /// Takes over the descriptor named on the command line.
    ///
    /// # Errors
    /// A number that is not an open pipe.
    pub fn adopt(number: i32) -> io::Result<Self> {
        Ok(Self { pipe: Some(platform::adopt_pipe(number)?), words: PhantomData })
    }

    /// Says a word. The last one closes the pipe; a caller that is gone hears nothing, which is its own affair.
    pub fn say(&mut self, word: &T) {
        let Some(pipe) = &self.pipe else { return };
        if let Ok(mut line) = serde_json::to_vec(word) {
            line.push(b'\n');
            if let Err(error) = io::Write::write_all(&mut &*pipe, &line) {
                tracing::debug!("the caller no longer listens: {error}");
            }
        }
        if word.is_last() {
            self.pipe = None;
        }
    }
}

/// The listening end, in the caller.
#[derive(Debug)]
pub struct StatusReader<T> {
    pipe: File,
    heard: std::cell::RefCell<Vec<u8>>,
    words: PhantomData<fn() -> T>,
}

/// What came instead of a word.
#[derive(Debug)]
pub enum NoStatus {
    /// The child ended without a word.
    Ended,
    /// The deadline passed.
    DeadlinePassed,
    /// The pipe broke, or what it said is no word.
    Broken(io::Error),
}

impl<T: Status> StatusReader<T> {
    /// A pipe whose other end is for the child.
    ///
    /// # Errors
    /// Those of the system.
    pub fn new() -> io::Result<(Self, OwnedFd)> {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        Ok((Self { pipe: reader.into(), heard: std::cell::RefCell::default(), words: PhantomData }, writer))
    }

    /// Waits for the next word.
    ///
    /// # Errors
    /// What came instead.
    pub fn next(&self, deadline: Instant) -> Result<T, NoStatus> {
        loop {
            if let Some(line) = self.take_line() {
                return serde_json::from_slice(&line).map_err(|error| NoStatus::Broken(error.into()));
            }
            let left: Duration = deadline.saturating_duration_since(Instant::now());
            if !platform::is_readable_within(&self.pipe, left).map_err(NoStatus::Broken)? {
                return Err(NoStatus::DeadlinePassed);
            }
            let mut buffer = [0; 4096];
            match io::Read::read(&mut &self.pipe, &mut buffer).map_err(NoStatus::Broken)? {
                0 => return Err(NoStatus::Ended),
                taken => self.heard.borrow_mut().extend_from_slice(&buffer[..taken]),
            }
        }
    }

    /// The descriptor that can be read when a word comes, or when none will come.
    pub fn ear(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    fn take_line(&self) -> Option<Vec<u8>> {
        let mut heard = self.heard.borrow_mut();
        let end = heard.iter().position(|&byte| byte == b'\n')?;
        Some(heard.drain(..=end).collect())
    }
}
