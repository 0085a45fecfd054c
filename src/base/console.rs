//! Where words go: data to stdout, messages to stderr.
//!
//! A reader that went away is an error like any other and not a panic: whoever prints a wake must know whether it
//! arrived before marking it as presented.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};

use super::error::{Context, Result};
use super::escape;
use crate::cli::args::{Color, Global};

/// In what form data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Lines for people and scripts.
    Lines,
    /// One JSON object per line.
    Json,
}

/// How much is said on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Talk {
    /// Errors only.
    Quiet,
    /// What a person should know.
    Normal,
    /// Everything.
    Verbose,
}

/// The two streams and how to use them.
#[derive(Debug, Clone, Copy)]
pub struct Console {
    /// The form of data.
    pub format: Format,
    talk: Talk,
    color: Color,
}

impl Console {
    /// As the flags say.
    pub fn new(global: &Global) -> Self {
        let talk = match (global.quiet, global.verbose) {
            (true, _) => Talk::Quiet,
            (false, true) => Talk::Verbose,
            (false, false) => Talk::Normal,
        };
        Self { format: if global.json { Format::Json } else { Format::Lines }, talk, color: global.color }
    }

    /// Prints one line of data and makes sure that it left this process.
    ///
    /// # Errors
    /// Nobody reads any more, or the file system is full.
    pub fn data(self, line: &str) -> Result<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{line}").and_then(|()| stdout.flush()).doing("write to", "stdout")
    }

    /// Prints one JSON object as data.
    ///
    /// # Errors
    /// As [`Console::data`].
    pub fn json(self, object: &serde_json::Value) -> Result<()> {
        self.data(&object.to_string())
    }

    /// Tells a person something that is not data. Text from files is made safe for the terminal.
    pub fn note(self, message: impl Display) {
        self.say(Talk::Normal, &format!("fm-watch: {}", escape::line(&message.to_string())));
    }

    /// Tells a person what only one who asked for more wants to know.
    pub fn detail(self, message: impl Display) {
        self.say(Talk::Verbose, &format!("fm-watch: {}", escape::line(&message.to_string())));
    }

    /// Tells a person an error.
    pub fn error(self, message: impl Display) {
        let style = Style::new().fg_color(Some(AnsiColor::Red.into())).bold();
        let (on, off) = if self.is_colored() {
            (style.render().to_string(), style.render_reset().to_string())
        } else {
            Default::default()
        };
        self.say(Talk::Quiet, &format!("fm-watch: {on}error:{off} {}", escape::line(&message.to_string())));
    }

    /// Prints lines as they are, unless nothing may be said. The caller has made them safe.
    pub fn banner(self, lines: &str) {
        let style = Style::new().fg_color(Some(AnsiColor::Yellow.into())).bold();
        if self.is_colored() {
            self.say(Talk::Quiet, &format!("{}{lines}{}", style.render(), style.render_reset()));
        } else {
            self.say(Talk::Quiet, lines);
        }
    }

    /// Shows how far something is. On a terminal the next call writes over it, and an empty text wipes it out.
    pub fn progress(self, text: &str) {
        if !self.shows_progress() {
            return;
        }
        if io::stderr().is_terminal() {
            let mut stderr = io::stderr().lock();
            // Back to the beginning of the line, and away with what was there.
            let _unheard = write!(stderr, "\r\u{1b}[K{}", escape::line(text)).and_then(|()| stderr.flush());
        } else if !text.is_empty() {
            self.note(text);
        }
    }

    /// How long a text of [`Console::progress`] should stand before the next one: on a terminal it is written over, in a
    /// file it adds up.
    pub fn progress_pause(self) -> Duration {
        if io::stderr().is_terminal() { Duration::from_millis(200) } else { Duration::from_secs(5) }
    }

    fn shows_progress(self) -> bool {
        self.talk >= Talk::Normal
    }

    fn say(self, level: Talk, line: &str) {
        if level <= self.talk {
            // Nobody to tell that stderr is gone.
            let _unheard = writeln!(io::stderr().lock(), "{line}");
        }
    }

    fn is_colored(self) -> bool {
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                io::stderr().is_terminal()
                    && anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never
            }
        }
    }
}
