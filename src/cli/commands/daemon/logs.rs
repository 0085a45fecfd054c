//! `daemon logs`: what a daemon printed.
//!
//! The output is data, so a file or a pipe gets its bytes as they are. A terminal gets it with its control characters made
//! visible: what a daemon prints may have come from anywhere.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use super::definition::known;
use crate::base::console::Format;
use crate::base::error::{Context, Result};
use crate::base::escape;
use crate::base::exit;
use crate::cli::session::Session;
use crate::daemons::log_reader::{LogFollower, Piece};
use crate::daemons::paths::DaemonPaths;
use crate::settings::daemon_definition::Name;
use crate::system::Real;
use crate::system::platform;
use crate::system::requests::{self, Cause};

/// Of each line so many bytes are read on the average, and of all together so many at most.
const BYTES_OF_A_LINE: usize = 64 * 1024;
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// How soon new output is shown.
const PACE: Duration = Duration::from_millis(50);

/// When there is nothing more to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// After the last lines.
    LastLine,
    /// When nobody reads any more, or a signal comes.
    Interrupted,
}

/// Prints the last lines of a daemon's log, and if wanted what comes after them.
///
/// # Errors
/// Neither the settings nor the home know this daemon, or its log cannot be read or printed.
pub(crate) fn logs(session: &Session, name: &Name, lines: usize, until: Until) -> Result<u8> {
    known(session, name)?;
    let paths = DaemonPaths::new(&session.home, name);
    let asked = asked_to_leave(until).doing("listen to signals for", paths.directory())?;
    let bytes = lines.saturating_mul(BYTES_OF_A_LINE).min(MOST_BYTES);
    let world = session.world.as_ref();
    let (tail, mut follower) = LogFollower::begin(world, paths.directory().to_owned(), lines, bytes)
        .doing("read the log in", paths.directory())?;
    let mut printer = Printer::new(session.console.format, name);
    if printer.print(&tail)? == Reader::There {
        if until == Until::Interrupted {
            follow(session, &mut follower, &mut printer, &asked)?;
        }
        printer.finish()?;
    }
    Ok(exit::OK)
}

fn follow(
    session: &Session,
    follower: &mut LogFollower<Real>,
    printer: &mut Printer<'_>,
    asked: &AtomicBool,
) -> Result<()> {
    while !asked.load(Ordering::Acquire) {
        for piece in follower.read(session.world.as_ref()).doing("read the log in", follower.directory())? {
            match piece {
                Piece::Output(output) if printer.print(&output)? == Reader::Gone => return Ok(()),
                Piece::Output(_) => {}
                Piece::Missed => session.console.note("output may be missing here: it came faster than it was read"),
            }
        }
        if platform::is_abandoned_within(io::stdout(), PACE).doing("wait for the reader of", "stdout")? {
            break;
        }
    }
    Ok(())
}

/// Becomes true when a signal asks to end, so that a person's Ctrl-C is a proper end.
fn asked_to_leave(until: Until) -> io::Result<Arc<AtomicBool>> {
    let asked = Arc::new(AtomicBool::new(false));
    if until == Until::Interrupted {
        for cause in [Cause::Terminated, Cause::Interrupted, Cause::HungUp] {
            requests::note(cause, &asked)?;
        }
    }
    Ok(asked)
}

/// Whether somebody still reads what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    There,
    Gone,
}

/// Turns output into what is printed.
enum Printer<'a> {
    /// As it is.
    Bytes,
    /// Escaped; a character whose bytes have not all come yet is kept.
    Terminal(Vec<u8>),
    /// One object per line; a line that has not ended yet is kept.
    Json(&'a Name, Vec<u8>),
}

impl<'a> Printer<'a> {
    fn new(format: Format, name: &'a Name) -> Self {
        match format {
            Format::Json => Self::Json(name, Vec::new()),
            Format::Lines if io::stdout().is_terminal() => Self::Terminal(Vec::new()),
            Format::Lines => Self::Bytes,
        }
    }

    fn print(&mut self, output: &[u8]) -> Result<Reader> {
        match self {
            Self::Bytes => put(output),
            Self::Terminal(kept) => {
                kept.extend_from_slice(output);
                let whole = whole_characters(kept);
                let text: Vec<u8> = kept.drain(..whole).collect();
                put(escape::lines(&String::from_utf8_lossy(&text)).as_bytes())
            }
            Self::Json(name, kept) => {
                kept.extend_from_slice(output);
                let whole = kept.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
                let lines: Vec<u8> = kept.drain(..whole).collect();
                put(&objects(name, &lines))
            }
        }
    }

    /// Prints what was kept.
    fn finish(self) -> Result<Reader> {
        match self {
            Self::Bytes => Ok(Reader::There),
            Self::Terminal(kept) => put(escape::lines(&String::from_utf8_lossy(&kept)).as_bytes()),
            Self::Json(name, kept) => put(&objects(name, &kept)),
        }
    }
}

fn put(bytes: &[u8]) -> Result<Reader> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(error).doing("write to", "stdout"),
    }
}

fn objects(name: &Name, lines: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(lines);
    let objects = text.lines().map(|line| format!("{}\n", json!({"schema": 1, "name": name.as_str(), "line": line})));
    objects.collect::<String>().into_bytes()
}

/// How many of the bytes are before a character that is cut off at the end.
fn whole_characters(bytes: &[u8]) -> usize {
    // A character has at most four bytes, so what is cut off has at most three.
    let begins_a_character = |from: &usize| {
        std::str::from_utf8(&bytes[*from..]).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    (bytes.len().saturating_sub(3)..bytes.len()).find(begins_a_character).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_that_is_cut_off_waits_for_its_rest() {
        assert_eq!(whole_characters("aé".as_bytes()), 3);
        assert_eq!(whole_characters(&"aé".as_bytes()[..2]), 1);
        assert_eq!(whole_characters(b"a\xffb\xc3"), 3);
        assert_eq!(whole_characters(b"\xff\xff"), 2);
        assert_eq!(whole_characters(b""), 0);
    }

    #[test]
    fn each_line_is_an_object() {
        let name = Name::new("a").unwrap();
        let objects = String::from_utf8(objects(&name, b"one\n\x1b[31m\n")).unwrap();
        assert_eq!(
            objects,
            "{\"line\":\"one\",\"name\":\"a\",\"schema\":1}\n{\"line\":\"\\u001b[31m\",\"name\":\"a\",\"schema\":1}\n"
        );
    }
}
