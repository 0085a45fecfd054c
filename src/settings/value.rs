//! A value: how it is read from text, and how it is written so that reading gives it back exactly.
//!
//! A file is read strictly: a time is text with a unit, because `poll = 500` would be eight minutes to one reader and
//! half a second to another. Variables and flags also take plain numbers, which firstmate's scripts have always used
//! for seconds.

use std::fmt::{self, Display, Write};
use std::time::Duration;

use thiserror::Error;
use toml::de::{DeTable, DeValue};

/// A value as it was read; the text of it ([`Display`]) is what `--set KEY=` takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A time.
    Duration(Duration),
    /// A size in bytes.
    Bytes(u64),
    /// A number.
    Count(usize),
    /// Whether something is so.
    Switch(bool),
    /// Text: a pattern, a path, a level.
    Text(String),
    /// A list of names.
    Names(Vec<String>),
}

/// A value as it is given.
#[derive(Debug)]
pub(super) enum Raw<'a> {
    /// In a settings file.
    Toml(&'a DeValue<'a>),
    /// In a variable or a flag.
    Words(&'a str),
}

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Error)]
pub(crate) enum Problem {
    #[error("this is of type {0}")]
    Type(&'static str),
    #[error("{0} is out of bounds")]
    Bounds(String),
    #[error("the {0} is out of bounds")]
    UnnamedBounds(&'static str),
    #[error("the {0} is empty")]
    Empty(&'static str),
    #[error("{0} cannot hold a NUL")]
    Nul(&'static str),
    #[error("{number} has no unit; write \"{number}{unit}\" for {}", if *unit == "s" { "seconds" } else { "bytes" })]
    Unit { number: String, unit: &'static str },
    #[error("{0} has no unit that is known (B, KiB, MiB, GiB)")]
    UnknownUnit(String),
    #[error("{0} has more digits than any duration here needs")]
    Digits(String),
    #[error("{text} is no duration: {error}")]
    Duration { text: String, error: humantime::DurationError },
    /// A text that is none of what is possible, and why not.
    #[error("{text} {why}")]
    Text { text: String, why: &'static str },
    #[error("no such variable can be")]
    Variable,
    /// What is wrong with a regular expression.
    #[error("{0}")]
    Pattern(String),
    #[error("unknown key {0}")]
    Key(String),
    #[error("{0} can only be true")]
    OnlyTrue(&'static str),
    #[error("it says nothing")]
    Nothing,
    #[error("{0} exclude each other")]
    Exclusive(String),
    #[error("a request needs a socket")]
    RequestWithoutSocket,
    #[error("a request without the answer that is right")]
    RequestWithoutAnswer,
}

impl Problem {
    /// A text that is none of what is possible, and why not.
    pub(super) fn text(text: &str, why: &'static str) -> Self {
        Self::Text { text: quoted(text), why }
    }
}

/// The least and the most that a value may be.
pub(super) type Bounds<T> = (T, T);

/// A rest of no time at all would be a loop that never rests; below this, it as good as is one.
pub(super) const INSTANT: Duration = Duration::from_millis(10);
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The bounds of `notify_timeout` and of the `timeout` of a `[[notify]]` table.
pub(super) const NOTIFY_TIMEOUT: Bounds<Duration> = (INSTANT, DAY);
/// The bounds of every time of a daemon.
pub(super) const DAEMON_TIMES: Bounds<Duration> = (INSTANT, DAY);

/// The units of sizes, largest first.
const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duration(time) => humantime::format_duration(*time).fmt(formatter),
            Self::Bytes(size) => {
                let exact = |unit: &&(&str, u64)| *size != 0 && size % unit.1 == 0;
                let (name, unit) = UNITS.iter().find(exact).unwrap_or(&("B", 1));
                write!(formatter, "{}{name}", size / unit)
            }
            Self::Count(count) => count.fmt(formatter),
            Self::Switch(switch) => switch.fmt(formatter),
            Self::Text(text) => formatter.write_str(text),
            Self::Names(names) => formatter.write_str(&names.join(",")),
        }
    }
}

impl Value {
    /// The value as it stands in a settings file, on one line and safe for a terminal.
    pub fn to_toml(&self) -> String {
        match self {
            Self::Count(count) => count.to_string(),
            Self::Switch(switch) => switch.to_string(),
            Self::Names(names) => quoted_list(names),
            Self::Duration(_) | Self::Bytes(_) | Self::Text(_) => quoted(&self.to_string()),
        }
    }

    /// The value for programs: text, except for numbers, switches and lists.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Count(count) => (*count).into(),
            Self::Switch(switch) => (*switch).into(),
            Self::Names(names) => names.clone().into(),
            Self::Duration(_) | Self::Bytes(_) | Self::Text(_) => self.to_string().into(),
        }
    }
}

/// Text as a TOML string on one line, without any control character.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        let is_control = character.is_control()
            || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
        if is_control {
            // Writing to a string cannot fail. Every control character is below U+10000.
            let _infallible = write!(out, "\\u{:04X}", u32::from(character));
        } else {
            if matches!(character, '"' | '\\') {
                out.push('\\');
            }
            out.push(character);
        }
    }
    out.push('"');
    out
}

/// A TOML list of strings on one line.
pub(crate) fn quoted_list(texts: &[String]) -> String {
    let items: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", items.join(", "))
}

/// What a duration may be, in words.
pub(super) fn allowed_duration((least, most): Bounds<Duration>) -> String {
    let (least, most) = (humantime::format_duration(least), humantime::format_duration(most));
    format!("a duration from {least} to {most}, such as \"15s\"")
}

/// A flag's duration that is not one.
#[derive(Debug, Error)]
#[error("{0}; allowed: {allowed}", allowed = allowed_duration(FLAG))]
pub struct NoDuration(Problem);

/// The bounds of a duration in a flag of its own.
const FLAG: Bounds<Duration> = (Duration::ZERO, Duration::from_secs(366 * 86_400));

/// A duration in a flag: plain seconds, or with a unit.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub fn parse_duration(text: &str) -> Result<Duration, NoDuration> {
    duration(&Raw::Words(text), FLAG).map_err(NoDuration)
}

/// A duration within bounds.
pub(super) fn duration(raw: &Raw<'_>, (least, most): Bounds<Duration>) -> Result<Duration, Problem> {
    let time = match raw {
        Raw::Toml(DeValue::String(text)) => with_unit(text),
        Raw::Toml(DeValue::Integer(number)) => Err(without_unit(number.as_str())),
        Raw::Toml(DeValue::Float(number)) => Err(without_unit(number.as_str())),
        Raw::Toml(other) => Err(wrong_type(other)),
        Raw::Words(text) => plain_seconds(text.trim()).unwrap_or_else(|| with_unit(text.trim())),
    }?;
    if time < least || time > most {
        return Err(Problem::Bounds(humantime::format_duration(time).to_string()));
    }
    Ok(time)
}

fn without_unit(number: &str) -> Problem {
    Problem::Unit { number: number.chars().take(20).collect(), unit: "s" }
}

fn with_unit(text: &str) -> Result<Duration, Problem> {
    // The parser's sums cannot overflow within these limits, and nobody writes a time beyond them.
    const LONGEST: usize = 64;
    const MOST_DIGITS: usize = 9;
    let digits = text.split(|character: char| !character.is_ascii_digit());
    if text.len() > LONGEST || digits.map(str::len).any(|count| count > MOST_DIGITS) {
        return Err(Problem::Digits(quoted_start(text)));
    }
    if plain_seconds(text).is_some() {
        return Err(without_unit(text));
    }
    humantime::parse_duration(text).map_err(|error| Problem::Duration { text: quoted_start(text), error })
}

/// Plain decimal seconds; `None` if the text is something else. Digits below a nanosecond are cut off.
pub(super) fn plain_seconds(text: &str) -> Option<Result<Duration, Problem>> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let are_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !are_digits(whole) || !are_digits(fraction) || whole.len() + fraction.len() == 0 {
        return None;
    }
    let seconds = if whole.is_empty() { Ok(0) } else { whole.parse::<u64>() };
    let nanoseconds = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = nanoseconds.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    let time = seconds.map(|seconds| Duration::new(seconds, nanoseconds));
    Some(time.map_err(|_| Problem::Bounds(format!("{} s", quoted_start(text)))))
}

/// A size in bytes.
pub(super) fn bytes(raw: &Raw<'_>) -> Result<u64, Problem> {
    match raw {
        Raw::Toml(DeValue::String(text)) => bytes_with_unit(text),
        Raw::Toml(DeValue::Integer(number)) => Err(Problem::Unit { number: number.as_str().to_owned(), unit: "B" }),
        Raw::Toml(other) => Err(wrong_type(other)),
        Raw::Words(text) => match text.trim() {
            plain if plain.bytes().all(|byte| byte.is_ascii_digit()) => bytes_with_unit(&format!("{plain}B")),
            with_unit => bytes_with_unit(with_unit),
        },
    }
}

fn bytes_with_unit(text: &str) -> Result<u64, Problem> {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, name) = text.split_at(end);
    if number.is_empty() {
        return Err(not_a(text, "is no size"));
    }
    let unit = UNITS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name.trim()));
    let (_, unit) = unit.ok_or_else(|| Problem::UnknownUnit(quoted_start(text)))?;
    let size = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*unit));
    size.ok_or_else(|| Problem::Bounds(quoted_start(text)))
}

/// A whole number.
pub(super) fn count(raw: &Raw<'_>) -> Result<usize, Problem> {
    match raw {
        Raw::Toml(DeValue::Integer(number)) => {
            usize::from_str_radix(number.as_str(), number.radix()).map_err(|_| Problem::UnnamedBounds("number"))
        }
        Raw::Toml(other) => Err(wrong_type(other)),
        Raw::Words(text) => text.trim().parse().map_err(|_| not_a(text, "is no such number")),
    }
}

/// Whether something is so.
pub(super) fn switch(raw: &Raw<'_>) -> Result<bool, Problem> {
    match raw {
        Raw::Toml(DeValue::Boolean(switch)) => Ok(*switch),
        Raw::Toml(other) => Err(wrong_type(other)),
        Raw::Words(text) => text.trim().parse().map_err(|_| not_a(text, "is neither true nor false")),
    }
}

/// Text.
pub(super) fn text<'a>(raw: &Raw<'a>) -> Result<&'a str, Problem> {
    match raw {
        Raw::Toml(DeValue::String(text)) => Ok(text),
        Raw::Toml(other) => Err(wrong_type(other)),
        Raw::Words(text) => Ok(text),
    }
}

/// A list of texts; in a variable or a flag, separated by commas.
pub(super) fn list(raw: &Raw<'_>) -> Result<Vec<String>, Problem> {
    match raw {
        Raw::Toml(DeValue::Array(items)) => {
            items.iter().map(|item| text(&Raw::Toml(item.get_ref())).map(str::to_owned)).collect()
        }
        Raw::Toml(other) => Err(wrong_type(other)),
        Raw::Words("") => Ok(Vec::new()),
        Raw::Words(text) => Ok(text.split(',').map(str::to_owned).collect()),
    }
}

/// The words of a command; the first one, the program, must not be one that `why_not` has an objection to.
pub(super) fn command(raw: &Raw<'_>, why_not: impl Fn(&str) -> Option<&'static str>) -> Result<Vec<String>, Problem> {
    let words = list(raw)?;
    let program = words.first().ok_or(Problem::Empty("list"))?;
    if words.iter().any(|word| word.contains('\0')) {
        return Err(Problem::Nul("an argument"));
    }
    match why_not(program) {
        Some(why) => Err(Problem::text(program, why)),
        None => Ok(words),
    }
}

/// A table; there is none in a variable or a flag.
pub(super) fn table<'a>(raw: &Raw<'a>) -> Result<&'a DeTable<'a>, Problem> {
    match raw {
        Raw::Toml(DeValue::Table(table)) => Ok(table),
        Raw::Toml(other) => Err(wrong_type(other)),
        Raw::Words(_) => Err(Problem::Type("string")),
    }
}

fn wrong_type(value: &DeValue<'_>) -> Problem {
    Problem::Type(value.type_str())
}

fn not_a(text: &str, why: &'static str) -> Problem {
    Problem::Text { text: quoted_start(text), why }
}

/// The start of a text that is in error: enough to know it by, and no flood.
fn quoted_start(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", quoted(&text[..end])),
        None => quoted(text),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(text: &str) -> Result<Duration, Problem> {
        duration(&Raw::Words(text), (Duration::ZERO, Duration::from_secs(u64::MAX)))
    }

    #[test]
    fn plain_seconds_and_units_mean_the_same() {
        assert_eq!(seconds("0.2"), seconds("200ms"));
        assert_eq!(seconds(" 15\n"), seconds("15s"));
        assert_eq!(seconds(".5"), seconds("500ms"));
        assert_eq!(seconds("15"), seconds("15s"));
        assert_eq!(seconds("0"), Ok(Duration::ZERO));
        assert_eq!(seconds("90"), seconds("1m 30s"));
    }

    #[test]
    fn absurd_numbers_are_errors() {
        for text in ["99999999999999999999", "1e400", "NaN", "inf", "-1", "+1", "", ".", " ", "1.2.3", "15 x", "٣"] {
            assert!(seconds(text).is_err(), "{text}");
        }
        for text in ["18446744073709551615s 1000ms", "999999999999y", "1.99999999999999999999s"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_have_units() {
        let size = |text: &str| bytes(&Raw::Words(text));
        assert_eq!(size("256MiB"), Ok(256 << 20));
        assert_eq!(size("4 kib"), Ok(4096));
        assert_eq!(size("17"), Ok(17));
        assert_eq!(size("0B"), Ok(0));
        for text in ["", "MiB", "1.5MiB", "1MB", "-1B", "18446744073709551616", "99999999999GiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn quoted_text_has_no_control_characters() {
        assert_eq!(quoted("a\"\\\n\u{1b}\u{202e}"), r#""a\"\\\u000A\u001B\u202E""#);
    }

    proptest! {
        #[test]
        fn a_duration_survives_its_text(seconds in 0u64..=366 * 86400, nanoseconds in 0u32..1_000_000_000) {
            let time = Duration::new(seconds, nanoseconds);
            let text = Value::Duration(time).to_string();
            prop_assert_eq!(with_unit(&text).unwrap(), time);
            prop_assert_eq!(self::seconds(&text).unwrap(), time);
        }

        #[test]
        fn a_size_survives_its_text(size: u64) {
            prop_assert_eq!(bytes(&Raw::Words(&Value::Bytes(size).to_string())), Ok(size));
        }

        #[test]
        fn a_text_survives_its_quotes(text: String) {
            let line = format!("key = {}", quoted(&text));
            let table: toml::Table = line.parse().unwrap();
            prop_assert_eq!(table["key"].as_str(), Some(text.as_str()));
            prop_assert_eq!(line.lines().count(), 1);
        }

        #[test]
        fn no_text_makes_a_number_panic(text in "[0-9 .a-zµ]{0,70}") {
            let _verdict = (seconds(&text).is_ok(), bytes(&Raw::Words(&text)).is_ok());
        }
    }
}
