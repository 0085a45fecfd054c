//! Where a daemon says by itself that it is ready: a descriptor, a socket for messages, or a line of its output.
//!
//! A line of output counts when it is whole. Of a line that is longer than [`LONGEST_LINE`] and comes in pieces, parts are
//! matched that overlap by [`OVERLAP`], so that a match of up to that length is found wherever it is in the line.
//!
//! Limits: what follows such a part is not known yet when it is matched, so a pattern that ends with a word boundary or with
//! "anything but" can match at the very end of a part although it would not match the whole line.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::time::Duration;

use regex_lite::Regex;

use super::ancestry::Relation;
use super::readiness::Heard;
use crate::settings::daemon_definition::Ready;
use crate::system::handle::{self, AsHandle, HandleRef};
use crate::system::platform::{self, NotifySocket};

/// The longest line of output that is matched as a whole however it comes, in bytes.
const LONGEST_LINE: usize = 64 * 1024;
/// How much of a part of a longer line is matched again with the next part, in bytes.
const OVERLAP: usize = LONGEST_LINE / 2;

/// The monitor's end of a channel, and what has come through it.
#[derive(Debug)]
pub struct ReadinessChannel {
    source: Source,
    heard: Heard,
    sender: Option<u32>,
}

#[derive(Debug)]
enum Source {
    /// Nothing comes: the daemon is observed, or it has said already what it had to say.
    None,
    Pipe(PipeReader),
    Messages(NotifySocket),
    Lines {
        pattern: Regex,
        /// What has come of the line that is underway and may still be part of a match.
        unfinished: Vec<u8>,
        /// Whether the line began before that.
        is_cut: bool,
    },
}

/// The daemon's end.
#[derive(Debug)]
pub struct DaemonEnd {
    /// The descriptor that it inherits.
    pub pipe: Option<PipeWriter>,
    /// The variable that tells it about the channel.
    pub variable: Option<(String, String)>,
}

impl ReadinessChannel {
    /// One through which nothing comes.
    pub fn closed() -> Self {
        Self { source: Source::None, heard: Heard::Nothing, sender: None }
    }

    /// For a daemon that is to be started. `nonce` makes a name that nobody can guess.
    ///
    /// # Errors
    /// Those of the system, and a pattern that is none.
    pub fn open(ready: &Ready, nonce: &str) -> io::Result<(Self, DaemonEnd)> {
        let mut end = DaemonEnd { pipe: None, variable: None };
        let source = match ready {
            Ready::Descriptor => {
                let (reader, writer) = io::pipe()?;
                end.variable = Some(("FM_WATCH_READY_FD".to_owned(), handle::number_of(&writer).to_string()));
                end.pipe = Some(writer);
                Source::Pipe(reader)
            }
            Ready::Notify => {
                let socket = NotifySocket::bind(&format!("fm-watch/{nonce}"))?;
                end.variable = Some(("NOTIFY_SOCKET".to_owned(), socket.variable()));
                Source::Messages(socket)
            }
            Ready::LogLine(pattern) => {
                let pattern =
                    Regex::new(pattern).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
                Source::Lines { pattern, unfinished: Vec::new(), is_cut: false }
            }
            Ready::Socket { .. } | Ready::Pidfile(_) | Ready::Delay(_) => Source::None,
        };
        Ok((Self { source, ..Self::closed() }, end))
    }

    /// What has come so far.
    pub fn heard(&self) -> Heard {
        self.heard
    }

    /// The process that sent it, if that is known.
    pub fn sender(&self) -> Option<u32> {
        self.sender
    }

    /// What to wait for, as long as something can come.
    pub fn descriptor(&self) -> Option<HandleRef<'_>> {
        match (&self.source, self.heard) {
            (_, Heard::Ready | Heard::Closed) | (Source::None | Source::Lines { .. }, _) => None,
            (Source::Pipe(pipe), _) => Some(pipe.as_handle()),
            (Source::Messages(socket), _) => Some(socket.as_handle()),
        }
    }

    /// Takes in what has come. `whose` tells whose a process is.
    pub fn receive(&mut self, whose: impl Fn(u32) -> Relation) {
        match &mut self.source {
            _ if self.heard == Heard::Ready => {}
            Source::None | Source::Lines { .. } => {}
            Source::Pipe(pipe) => self.heard = byte_in(pipe),
            Source::Messages(socket) => {
                while let Ok(Some(notice)) = socket.next() {
                    if !is_ready(&notice.text) {
                        continue;
                    }
                    if whose(notice.pid) == Relation::Own {
                        (self.heard, self.sender) = (Heard::Ready, Some(notice.pid));
                        return;
                    }
                    self.heard = Heard::Stranger(notice.pid);
                }
            }
        }
    }

    /// Takes in a piece of the output.
    pub fn read_output(&mut self, piece: &[u8]) {
        let Source::Lines { pattern, unfinished, is_cut } = &mut self.source else { return };
        for part in piece.split_inclusive(|&byte| byte == b'\n') {
            if self.heard == Heard::Ready {
                return;
            }
            unfinished.extend_from_slice(part);
            let is_ended = part.ends_with(b"\n");
            if !is_ended && unfinished.len() <= LONGEST_LINE {
                continue;
            }
            if is_match(pattern, unfinished, *is_cut) {
                self.heard = Heard::Ready;
            }
            let kept = if is_ended { 0 } else { OVERLAP };
            unfinished.drain(..unfinished.len() - kept);
            *is_cut = !is_ended;
        }
    }
}

/// Whether a part of a line matches. It is the last one if it ends with a newline, and not the first one if it is cut.
fn is_match(pattern: &Regex, part: &[u8], is_cut: bool) -> bool {
    let last = part.strip_suffix(b"\n");
    let mut text = String::from_utf8_lossy(last.unwrap_or(part));
    if last.is_none() {
        // The end of this part is not the end of the line, so `$` must not match there.
        text.to_mut().push('\0');
    }
    // The beginning of a cut part is not the beginning of the line, so `^` must not match there.
    let from = text.chars().next().filter(|_| is_cut).map_or(0, char::len_utf8);
    pattern.is_match_at(&text, from)
}

/// Whether a byte, or the end, is waiting in a pipe.
fn byte_in(pipe: &mut PipeReader) -> Heard {
    if !platform::is_readable_within(&*pipe, Duration::ZERO).unwrap_or(false) {
        return Heard::Nothing;
    }
    match pipe.read(&mut [0; 1]) {
        Ok(0) => Heard::Closed,
        Ok(_) => Heard::Ready,
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

    fn of_lines(pattern: &str) -> ReadinessChannel {
        ReadinessChannel::open(&Ready::LogLine(pattern.to_owned()), "n").unwrap().0
    }

    /// What is heard after all of an output, read in pieces of this size.
    fn heard_of(pattern: &str, output: &[u8], size: usize) -> Heard {
        let mut channel = of_lines(pattern);
        output.chunks(size).for_each(|piece| channel.read_output(piece));
        channel.heard()
    }

    #[test]
    fn a_line_counts_when_it_is_whole() {
        let mut channel = of_lines("^listening on [0-9]+$");
        channel.read_output(b"x\nlistening");
        channel.read_output(b" on 80");
        assert_eq!(channel.heard(), Heard::Nothing);
        channel.read_output(b"80\nmore");
        assert_eq!(channel.heard(), Heard::Ready);
    }

    #[test]
    fn a_line_of_any_length_is_matched_however_it_comes() {
        let filler = "x".repeat(LONGEST_LINE);
        for size in [1000, LONGEST_LINE, 4 * LONGEST_LINE] {
            for (before, after) in [(0, 3), (1, 2), (2, 1), (3, 0)] {
                let line = format!("{}listening on 8080{}\n", filler.repeat(before), filler.repeat(after));
                assert_eq!(heard_of("listening on [0-9]+", line.as_bytes(), size), Heard::Ready, "{before} {size}");
            }
            let begin = format!("listening on 80{}\n", filler.repeat(3));
            assert_eq!(heard_of("^listening", begin.as_bytes(), size), Heard::Ready);
            let end = format!("{}listening on 80\n", filler.repeat(3));
            assert_eq!(heard_of("listening on [0-9]+$", end.as_bytes(), size), Heard::Ready);
        }
    }

    #[test]
    fn a_match_where_a_long_line_is_cut_is_found() {
        for at in LONGEST_LINE - 8..LONGEST_LINE + 8 {
            let line = format!("{}listening{}\n", "x".repeat(at), "é".repeat(LONGEST_LINE));
            assert_eq!(heard_of("listening", line.as_bytes(), 997), Heard::Ready, "{at}");
        }
    }

    #[test]
    fn where_a_long_line_is_cut_is_neither_its_beginning_nor_its_end() {
        let line = format!("{}\n", "ab".repeat(LONGEST_LINE * 2));
        for size in [1000, 1001, LONGEST_LINE] {
            assert_eq!(heard_of("^b", line.as_bytes(), size), Heard::Nothing, "{size}");
            assert_eq!(heard_of("a$", line.as_bytes(), size), Heard::Nothing, "{size}");
            assert_eq!(heard_of("^(ab)+$", b"abab\n", size), Heard::Ready, "{size}");
        }
        let mut channel = of_lines("^next$");
        channel.read_output(&[line.as_bytes(), b"next\n"].concat());
        assert_eq!(channel.heard(), Heard::Ready, "the line after it is an ordinary one");
    }

    #[test]
    fn a_byte_is_a_word_and_an_end_is_none() {
        let (mut channel, end) = ReadinessChannel::open(&Ready::Descriptor, "n").unwrap();
        let whose = |_| Relation::Own;
        channel.receive(whose);
        assert_eq!(channel.heard(), Heard::Nothing);
        end.pipe.unwrap().write_all(b"x").unwrap();
        channel.receive(whose);
        channel.receive(whose);
        assert_eq!(channel.heard(), Heard::Ready, "also when the end comes after it");
        let (mut channel, end) = ReadinessChannel::open(&Ready::Descriptor, "n").unwrap();
        drop(end);
        channel.receive(whose);
        assert_eq!(channel.heard(), Heard::Closed);
        assert!(channel.descriptor().is_none(), "nothing more can come");
    }

    #[test]
    fn a_message_may_hold_more_than_the_word() {
        assert!(is_ready(b"STATUS=up\nREADY=1\n"));
        assert!(is_ready(b"READY=1"));
        assert!(!is_ready(b"READY=10\nSTATUS=READY=1"));
    }
}
