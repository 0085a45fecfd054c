//! Where words go: data to stdout, messages to stderr.
//!
//! A reader that went away is an error like any other and not a panic: whoever prints a wake must know whether it
//! arrived before marking it as presented.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;

use super::error::{Context, Result};
use super::escape;

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
pub enum Verbosity {
    /// Errors only.
    Quiet,
    /// What a person should know.
    Normal,
    /// Everything.
    Verbose,
}

/// When to use colour.
#[expect(clippy::doc_markdown, reason = "the doc comments are the help, and a terminal shows them as they are")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// One of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// stdout, where other programs read.
    Data,
    /// stderr.
    Message,
}

/// What a mechanism, which has no streams, has to tell a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// What a person should know.
    Message(String),
    /// What only one who asked for more wants to know.
    Detail(String),
}

impl Note {
    /// What a person should know.
    pub fn message(text: impl Display) -> Self {
        Self::Message(text.to_string())
    }
}

/// The two streams and how to use them.
#[derive(Debug, Clone, Copy)]
pub struct Console {
    /// The form of data.
    pub format: Format,
    verbosity: Verbosity,
    color: Color,
}

impl Console {
    /// Streams that are used in this way.
    pub fn new(format: Format, verbosity: Verbosity, color: Color) -> Self {
        Self { format, verbosity, color }
    }

    /// Prints one line of data and makes sure that it left this process.
    ///
    /// # Errors
    /// Nobody reads any more, or the file system is full.
    #[expect(clippy::unused_self, reason = "stdout is written to by whoever has the console")]
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
        self.say(Verbosity::Normal, &format!("fm-watch: {}", escape::line(&message.to_string())));
    }

    /// Tells a person what a mechanism has to say.
    pub fn tell(self, note: Note) {
        match note {
            Note::Message(text) => self.note(text),
            Note::Detail(text) => self.say(Verbosity::Verbose, &format!("fm-watch: {}", escape::line(&text))),
        }
    }

    /// Tells a person an error.
    pub fn error(self, message: impl Display) {
        let style = Style::new().fg_color(Some(AnsiColor::Red.into())).bold();
        let (on, off) = if self.is_colored() {
            (style.render().to_string(), style.render_reset().to_string())
        } else {
            Default::default()
        };
        self.say(Verbosity::Quiet, &format!("fm-watch: {on}error:{off} {}", escape::line(&message.to_string())));
    }

    /// Prints a line as it is to one of the streams. The caller has made it safe.
    ///
    /// # Errors
    /// As [`Console::data`].
    pub fn line(self, stream: Stream, line: &str) -> Result<()> {
        match stream {
            Stream::Data => return self.data(line),
            Stream::Message => self.banner(line),
        }
        Ok(())
    }

    /// Prints lines as they are, unless nothing may be said. The caller has made them safe.
    pub fn banner(self, lines: &str) {
        let style = Style::new().fg_color(Some(AnsiColor::Yellow.into())).bold();
        if self.is_colored() {
            self.say(Verbosity::Quiet, &format!("{}{lines}{}", style.render(), style.render_reset()));
        } else {
            self.say(Verbosity::Quiet, lines);
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
    #[expect(clippy::unused_self, reason = "it belongs to progress")]
    pub fn progress_pause(self) -> Duration {
        if io::stderr().is_terminal() { Duration::from_millis(200) } else { Duration::from_secs(5) }
    }

    fn shows_progress(self) -> bool {
        self.verbosity >= Verbosity::Normal
    }

    fn say(self, level: Verbosity, line: &str) {
        if level <= self.verbosity {
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
