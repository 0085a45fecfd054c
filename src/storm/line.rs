//! What a worker says on its standard output: one fact per line, each line in one write.
//!
//! `try NS`, `begin NS` (right after the lock was taken) and `end NS` (right before it is let go), with the time in
//! decimal nanoseconds of `CLOCK_MONOTONIC`. `wait TEXT` may come while it tries, and says for people what it waits for.
//! Programs of other people speak the same lines (`storm --peer`).

use std::fmt;

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// It begins to try.
    Try(u64),
    /// It holds.
    Begin(u64),
    /// It is about to let go.
    End(u64),
    /// It still tries, for this reason.
    Wait(String),
}

impl Line {
    /// Reads a line, without its end.
    ///
    /// # Errors
    /// Any other text, in words that follow the name of who said it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let not_understood =
            || format!("said {text:?}, which is none of `try NS`, `begin NS`, `end NS` and `wait TEXT`");
        let (word, rest) = text.split_once(' ').ok_or_else(not_understood)?;
        let at = || rest.parse().map_err(|_| not_understood());
        match word {
            "try" => Ok(Self::Try(at()?)),
            "begin" => Ok(Self::Begin(at()?)),
            "end" => Ok(Self::End(at()?)),
            "wait" => Ok(Self::Wait(rest.to_owned())),
            _ => Err(not_understood()),
        }
    }
}

/// The line with its end, as it is written.
impl fmt::Display for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Try(at) => writeln!(formatter, "try {at}"),
            Self::Begin(at) => writeln!(formatter, "begin {at}"),
            Self::End(at) => writeln!(formatter, "end {at}"),
            Self::Wait(why) => writeln!(formatter, "wait {}", crate::base::escape::line(why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_written_is_read_as_it_was() {
        for line in [Line::Try(0), Line::Begin(17), Line::End(u64::MAX), Line::Wait("held by pid 3".to_owned())] {
            let written = line.to_string();
            assert_eq!(Line::parse(written.strip_suffix('\n').unwrap()), Ok(line));
        }
        assert_eq!(Line::Wait("a\nb".to_owned()).to_string(), "wait a b\n");
    }

    #[test]
    fn anything_else_is_an_error_that_quotes_it() {
        for text in ["", "try", "begin x", "end -1", "begin 1 2", "begin 18446744073709551616", "Begin 1", "done 1"] {
            let error = Line::parse(text).unwrap_err();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }
}
