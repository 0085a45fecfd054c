//! The child's own word: what a starting watcher says about itself on the pipe it was given.
//!
//! One JSON object per line. The pipe is closed as soon as the last word is said, so a running watcher has no
//! descriptor of its caller's.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::platform;

/// What a starting watcher may say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "lowercase")]
pub enum Word {
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

/// The speaking end, in the child.
#[derive(Debug, Default)]
pub struct Speaker {
    pipe: Option<File>,
}

impl Speaker {
    /// Takes over the descriptor named on the command line.
    ///
    /// # Errors
    /// A number that is not an open pipe.
    pub fn adopt(number: i32) -> io::Result<Self> {
        Ok(Self { pipe: Some(platform::adopt_pipe(number)?) })
    }

    /// Says a word. The last one closes the pipe; a caller that is gone hears nothing, which is its own affair.
    pub fn say(&mut self, word: &Word) {
        let Some(pipe) = &self.pipe else { return };
        if let Ok(mut line) = serde_json::to_vec(word) {
            line.push(b'\n');
            if let Err(error) = io::Write::write_all(&mut &*pipe, &line) {
                tracing::debug!("the caller no longer listens: {error}");
            }
        }
        if !matches!(word, Word::Standby { .. }) {
            self.pipe = None;
        }
    }
}

/// The listening end, in the caller.
#[derive(Debug)]
pub struct Listener {
    pipe: File,
    heard: std::cell::RefCell<Vec<u8>>,
}

/// What came instead of a word.
#[derive(Debug)]
pub enum Silence {
    /// The child ended without a word.
    Ended,
    /// The deadline passed.
    DeadlinePassed,
    /// The pipe broke, or what it said is no word.
    Broken(io::Error),
}

impl Listener {
    /// A pipe whose other end is for the child.
    ///
    /// # Errors
    /// Those of the system.
    pub fn new() -> io::Result<(Self, OwnedFd)> {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        Ok((Self { pipe: reader.into(), heard: std::cell::RefCell::default() }, writer))
    }

    /// Waits for the next word.
    ///
    /// # Errors
    /// What came instead.
    pub fn next(&self, deadline: Instant) -> Result<Word, Silence> {
        loop {
            if let Some(line) = self.take_line() {
                return serde_json::from_slice(&line).map_err(|error| Silence::Broken(error.into()));
            }
            let left: Duration = deadline.saturating_duration_since(Instant::now());
            if !platform::is_readable_within(&self.pipe, left).map_err(Silence::Broken)? {
                return Err(Silence::DeadlinePassed);
            }
            let mut buffer = [0; 4096];
            match io::Read::read(&mut &self.pipe, &mut buffer).map_err(Silence::Broken)? {
                0 => return Err(Silence::Ended),
                taken => self.heard.borrow_mut().extend_from_slice(&buffer[..taken]),
            }
        }
    }

    fn take_line(&self) -> Option<Vec<u8>> {
        let mut heard = self.heard.borrow_mut();
        let end = heard.iter().position(|&byte| byte == b'\n')?;
        Some(heard.drain(..=end).collect())
    }
}
