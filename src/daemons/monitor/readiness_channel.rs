//! Where a daemon says by itself that it is ready: a descriptor, a socket for messages, or a line of its output.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::time::Duration;

use regex_lite::Regex;

use super::ancestry::Relation;
use super::readiness::Heard;
use crate::settings::daemon_definition::Ready;
use crate::system::handle::{self, AsHandle, HandleRef};
use crate::system::platform::{self, NotifySocket};

/// The longest line of output that is looked at, in bytes; a longer one is looked at in parts.
const LONGEST_LINE: usize = 64 * 1024;

/// One way to hear it, and what has been heard.
#[derive(Debug)]
pub struct Ears {
    channel: Channel,
    heard: Heard,
    speaker: Option<u32>,
}

#[derive(Debug)]
enum Channel {
    /// It is looked at, not listened to.
    Deaf,
    Pipe(PipeReader),
    Messages(NotifySocket),
    Lines {
        pattern: Regex,
        unfinished: Vec<u8>,
    },
}

/// What the daemon is given to speak.
#[derive(Debug)]
pub struct Mouth {
    /// The descriptor that it inherits.
    pub pipe: Option<PipeWriter>,
    /// The variable that tells it about it.
    pub variable: Option<(String, String)>,
}

impl Ears {
    /// For an adopted daemon, which has said what it had to say.
    pub fn deaf() -> Self {
        Self { channel: Channel::Deaf, heard: Heard::Nothing, speaker: None }
    }

    /// For a daemon that is to be started. `nonce` makes a name that nobody can guess.
    ///
    /// # Errors
    /// Those of the system, and a pattern that is none.
    pub fn open(ready: &Ready, nonce: &str) -> io::Result<(Self, Mouth)> {
        let mut mouth = Mouth { pipe: None, variable: None };
        let channel = match ready {
            Ready::Descriptor => {
                let (reader, writer) = io::pipe()?;
                mouth.variable = Some(("FM_WATCH_READY_FD".to_owned(), handle::number_of(&writer).to_string()));
                mouth.pipe = Some(writer);
                Channel::Pipe(reader)
            }
            Ready::Notify => {
                let socket = NotifySocket::bind(&format!("fm-watch/{nonce}"))?;
                mouth.variable = Some(("NOTIFY_SOCKET".to_owned(), socket.variable()));
                Channel::Messages(socket)
            }
            Ready::LogLine(pattern) => {
                let pattern =
                    Regex::new(pattern).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
                Channel::Lines { pattern, unfinished: Vec::new() }
            }
            Ready::Socket { .. } | Ready::Pidfile(_) | Ready::Delay(_) => Channel::Deaf,
        };
        Ok((Self { channel, heard: Heard::Nothing, speaker: None }, mouth))
    }

    /// What has been heard so far.
    pub fn heard(&self) -> Heard {
        self.heard
    }

    /// The process that said it, if that is known.
    pub fn speaker(&self) -> Option<u32> {
        self.speaker
    }

    /// What to wait for, as long as there is something to be heard.
    pub fn descriptor(&self) -> Option<HandleRef<'_>> {
        match (&self.channel, self.heard) {
            (_, Heard::Word | Heard::HungUp) | (Channel::Deaf | Channel::Lines { .. }, _) => None,
            (Channel::Pipe(pipe), _) => Some(pipe.as_handle()),
            (Channel::Messages(socket), _) => Some(socket.as_handle()),
        }
    }

    /// Hears what has come. `whose` tells whose a process is.
    pub fn listen(&mut self, whose: impl Fn(u32) -> Relation) {
        match &mut self.channel {
            _ if self.heard == Heard::Word => {}
            Channel::Deaf | Channel::Lines { .. } => {}
            Channel::Pipe(pipe) => self.heard = byte_in(pipe),
            Channel::Messages(socket) => {
                while let Ok(Some(notice)) = socket.next() {
                    if !is_ready(&notice.text) {
                        continue;
                    }
                    if whose(notice.pid) == Relation::Own {
                        (self.heard, self.speaker) = (Heard::Word, Some(notice.pid));
                        return;
                    }
                    self.heard = Heard::Stranger(notice.pid);
                }
            }
        }
    }

    /// Hears a piece of the output.
    pub fn overhear(&mut self, piece: &[u8]) {
        let Channel::Lines { pattern, unfinished } = &mut self.channel else { return };
        for part in piece.split_inclusive(|&byte| byte == b'\n') {
            if self.heard == Heard::Word {
                return;
            }
            unfinished.extend_from_slice(part);
            if let Some(line) = unfinished.strip_suffix(b"\n") {
                if pattern.is_match(&String::from_utf8_lossy(line)) {
                    self.heard = Heard::Word;
                }
                unfinished.clear();
            } else if unfinished.len() > LONGEST_LINE {
                unfinished.clear();
            }
        }
    }
}

/// Whether a byte, or the end, is waiting in a pipe.
fn byte_in(pipe: &mut PipeReader) -> Heard {
    if !platform::is_readable_within(&*pipe, Duration::ZERO).unwrap_or(false) {
        return Heard::Nothing;
    }
    match pipe.read(&mut [0; 1]) {
        Ok(0) => Heard::HungUp,
        Ok(_) => Heard::Word,
        Err(_) => Heard::Nothing,
    }
}

/// Whether a message says that its sender is ready.
fn is_ready(message: &[u8]) -> bool {
    message.split(|&byte| byte == b'\n').any(|line| line == b"READY=1")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_line_counts_when_it_is_whole() {
        let (mut ears, _) = Ears::open(&Ready::LogLine("^listening on [0-9]+$".to_owned()), "n").unwrap();
        ears.overhear(b"x\nlistening");
        ears.overhear(b" on 80");
        assert_eq!(ears.heard(), Heard::Nothing);
        ears.overhear(b"80\nmore");
        assert_eq!(ears.heard(), Heard::Word);
    }

    #[test]
    fn a_byte_is_a_word_and_an_end_is_none() {
        let (mut ears, mouth) = Ears::open(&Ready::Descriptor, "n").unwrap();
        let whose = |_| Relation::Own;
        ears.listen(whose);
        assert_eq!(ears.heard(), Heard::Nothing);
        mouth.pipe.unwrap().write_all(b"x").unwrap();
        ears.listen(whose);
        ears.listen(whose);
        assert_eq!(ears.heard(), Heard::Word, "also when the end comes after it");
        let (mut ears, mouth) = Ears::open(&Ready::Descriptor, "n").unwrap();
        drop(mouth);
        ears.listen(whose);
        assert_eq!(ears.heard(), Heard::HungUp);
        assert!(ears.descriptor().is_none(), "nothing more can come");
    }

    #[test]
    fn a_message_may_hold_more_than_the_word() {
        assert!(is_ready(b"STATUS=up\nREADY=1\n"));
        assert!(is_ready(b"READY=1"));
        assert!(!is_ready(b"READY=10\nSTATUS=READY=1"));
    }
}
