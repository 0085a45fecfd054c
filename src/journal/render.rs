//! Wakes as people and scripts read them.
//!
//! Whatever comes from a file is made safe here: no field can carry a TAB, a line end or a terminal control sequence,
//! also not inside JSON.

use std::collections::HashSet;
use std::fmt::Write;

use serde::Serialize;

use super::record::{Kind, Wake};
use crate::base::escape;

const SCHEMA: u32 = 1;

/// One line of `drain`, without its end: `epoch seq kind key text`, separated by TABs.
pub fn drain_line(wake: &Wake) -> String {
    let epoch = wake.at.div_euclid(1000);
    let (kind, key) = (escape::line(wake.kind.as_str()), escape::line(&wake.key));
    format!("{epoch}\t{}\t{kind}\t{key}\t{}", wake.seq, escape::line(&wake.text))
}

/// A wake as one line of JSON, without its end, with its context and generation.
///
/// # Errors
/// None that a wake can cause.
pub fn json_line(wake: &Wake) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Shown<'a> {
        schema: u32,
        #[serde(flatten)]
        wake: &'a Wake,
    }
    serde_json::to_string(&Shown { schema: SCHEMA, wake }).map(|json| harmless_json(&json))
}

/// The document for the programs that are told of a batch: `{"schema":1,"home":...,"wakes":[...]}`.
///
/// # Errors
/// None that a wake can cause.
pub fn batch_document(home: &str, wakes: &[&Wake]) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Batch<'a> {
        schema: u32,
        home: &'a str,
        wakes: &'a [&'a Wake],
    }
    serde_json::to_string(&Batch { schema: SCHEMA, home, wakes }).map(|json| harmless_json(&json))
}

/// Escapes what JSON allows and a terminal obeys. Such characters only stand in strings, so the value is the same.
fn harmless_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() && character != '\u{7f}' || is_harmless(character) {
            out.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _infallible = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

/// Asks the one place that knows what is harmful.
fn is_harmless(character: char) -> bool {
    let mut buffer = [0; 4];
    let text = &*character.encode_utf8(&mut buffer);
    escape::line(text) == text
}

/// What a waiter prints for the wakes that are due: all signals in one line, each file once, at the place of the
/// first; every other wake in a line of its own.
pub fn reason_lines<'a>(wakes: impl IntoIterator<Item = &'a Wake>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut signals: Option<(usize, Vec<String>)> = None;
    let mut seen = HashSet::new();
    for wake in wakes {
        let line = reason_line(wake);
        let Some(files) = line.strip_prefix("signal:").filter(|_| wake.kind == Kind::Signal) else {
            lines.push(line);
            continue;
        };
        let (_, named) = signals.get_or_insert_with(|| {
            lines.push(String::new());
            (lines.len() - 1, Vec::new())
        });
        for file in files.split_whitespace() {
            if seen.insert(file.to_owned()) {
                named.push(file.to_owned());
            }
        }
    }
    if let Some((place, files)) = signals {
        lines[place] = format!("signal: {}", files.join(" "));
    }
    lines
}

/// The text of a wake as one line that begins with its kind.
fn reason_line(wake: &Wake) -> String {
    prefixed(escape::line(wake.kind.as_str()), escape::line(&wake.text))
}

/// The text of a wake as it was written, beginning with its kind. It is not made safe for a terminal.
pub fn with_kind(wake: &Wake) -> String {
    prefixed(wake.kind.to_string(), wake.text.clone())
}

fn prefixed(kind: String, text: String) -> String {
    let has_prefix = text.strip_prefix(kind.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'));
    match text.as_str() {
        _ if has_prefix => text,
        "" => kind,
        _ => format!("{kind}: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::journal::codec::tests::wake;

    fn of(seq: u64, kind: Kind, key: &str, text: &str) -> Wake {
        Wake { kind, key: key.to_owned(), text: text.to_owned(), ..wake(seq) }
    }

    #[test]
    fn signals_share_one_line_and_the_others_keep_theirs() {
        let signal = |seq, path| of(seq, Kind::Signal, path, &format!("signal: {}", escape::word(path)));
        let wakes = [
            of(1, Kind::Check, "/s/a.check.sh", "check: /s/a.check.sh: two\nlines"),
            signal(2, "/s/b.status"),
            of(3, Kind::Heartbeat, "heartbeat", "heartbeat"),
            signal(4, "/s/a b.status"),
            signal(5, "/s/b.status"),
            of(6, Kind::Custom, "k", "custom: k: t"),
        ];
        let expected =
            ["check: /s/a.check.sh: two lines", "signal: /s/b.status /s/a\\040b.status", "heartbeat", "custom: k: t"];
        assert_eq!(reason_lines(&wakes), expected);
    }

    #[test]
    fn a_text_without_its_kind_gets_it() {
        let foreign = Wake { kind: Kind::Other("tide".to_owned()), text: "is high".to_owned(), ..wake(1) };
        assert_eq!(reason_lines([&foreign]), ["tide: is high"]);
        let bare = Wake { text: String::new(), ..foreign };
        assert_eq!(reason_lines([&bare]), ["tide"]);
    }

    #[test]
    fn a_drain_line_has_five_fields() {
        let expected = "1700000000\t8\tdaemon\ta b\tdaemon: a b exited\\033[31m";
        assert_eq!(drain_line(&of(8, Kind::Daemon, "a\tb", "daemon: a\tb exited\u{1b}[31m")), expected);
    }

    #[test]
    fn a_document_names_home_and_wakes() {
        let value: serde_json::Value = serde_json::from_str(&batch_document("/h", &[&wake(1)]).unwrap()).unwrap();
        assert_eq!((&value["home"], &value["wakes"][0]["seq"]), (&"/h".into(), &1.into()));
    }

    proptest! {
        #[test]
        fn nothing_harmful_is_ever_shown(text in any::<String>(), key in any::<String>(), kind in any::<String>()) {
            let written = Wake { text, key, kind: Kind::from_name(&kind), ..wake(1) };
            let json = json_line(&written).unwrap();
            let lines = reason_lines([&written]).join("");
            for shown in [&drain_line(&written).replace('\t', ""), &json, &lines] {
                prop_assert!(!shown.chars().any(|character| character.is_control() || character == '\u{202e}'), "{shown:?}");
            }
            prop_assert_eq!(drain_line(&written).matches('\t').count(), 4);
            let read: Wake = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(read, written);
        }
    }
}
