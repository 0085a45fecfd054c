//! One wake as one line of bytes, and the seal that makes it one.
//!
//! A line is a JSON object whose last field is `crc`: the CRC-32, as eight lower-case hexadecimal digits, of all bytes
//! of the line before `,"crc"`. Quotes inside JSON strings are escaped, so the bytes `{"seq":` and `,"crc":"` can only
//! be the two ends of a record: a reader finds wakes even where line ends were lost.
//!
//! The field `deliverable` carries the highest number, up to and including this wake's, of a wake that is not
//! [`Delivery::Never`]. So the last line of the journal tells whether anything waits, without reading the rest.
//!
//! Limits: a CRC finds accidents, not forgery. Kinds, deliveries and marks of newer versions are kept as far as they
//! can be: an unknown kind under its name, an unknown delivery as [`Delivery::Now`], an unknown mark not at all.

use std::io;

use serde::{Deserialize, Deserializer};

use super::record::{Delivery, Kind, Mark, Wake};
use crate::base::failpoint;
use crate::base::failpoint::Failpoint;

/// The most bytes of a line, its end included. Longer ones are neither written nor believed.
pub const LIMIT: usize = 64 * 1024;

/// With what each record begins.
pub(crate) const HEAD: &[u8] = b"{\"seq\":";
/// With what the seal begins.
pub(crate) const SEAL: &[u8] = b",\"crc\":\"";
/// The bytes of a seal: its beginning, eight digits, a quote and a brace.
pub(crate) const SEAL_LENGTH: usize = SEAL.len() + 10;

/// What stands where something was left out.
const CUT: &str = " [cut]";

/// A wake as it was found in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// The wake.
    pub(crate) wake: Wake,
    /// The highest number up to this one of a wake that is delivered.
    pub(crate) deliverable: u64,
}

/// Turns a JSON object into a sealed line.
pub(crate) fn seal(mut object: Vec<u8>) -> Vec<u8> {
    // The closing brace comes back after the seal.
    object.pop();
    let digits = digits(crc32fast::hash(&object));
    object.extend_from_slice(SEAL);
    object.extend_from_slice(&digits);
    object.extend_from_slice(b"\"}\n");
    object
}

/// Whether a line, given without its end, carries the seal of its own bytes.
pub(crate) fn is_sealed(line: &[u8]) -> bool {
    let Some((body, seal)) = line.len().checked_sub(SEAL_LENGTH).map(|length| line.split_at(length)) else {
        return false;
    };
    let Some(found) = seal.strip_prefix(SEAL).and_then(|rest| rest.strip_suffix(b"\"}")) else { return false };
    found == digits(crc32fast::hash(body)) || !failpoint::is_protected(Failpoint::JournalCrc)
}

fn digits(crc: u32) -> [u8; 8] {
    let mut digits = [0; 8];
    for (place, digit) in digits.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(crc >> (28 - 4 * place)) as usize & 0xF];
    }
    digits
}

/// The line of a wake, its end included. A wake that would not fit loses its context first, then text, then key;
/// a visible mark shows where, and `wake` is left as it was written.
///
/// # Errors
/// A wake that does not fit even so.
pub(crate) fn encode(wake: &mut Wake, deliverable: u64) -> io::Result<Vec<u8>> {
    let mut line = encode_whole(wake, deliverable)?;
    for field in [Field::Context, Field::Text, Field::Key, Field::Mark] {
        let excess = line.len().saturating_sub(LIMIT);
        if excess == 0 {
            return Ok(line);
        }
        field.shorten(wake, excess);
        line = encode_whole(wake, deliverable)?;
    }
    if line.len() > LIMIT {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("a wake has at most {LIMIT} bytes")));
    }
    Ok(line)
}

fn encode_whole(wake: &Wake, deliverable: u64) -> io::Result<Vec<u8>> {
    let mut object = serde_json::to_vec(wake)?;
    object.pop();
    object.extend_from_slice(format!(",\"deliverable\":{deliverable}}}").as_bytes());
    Ok(seal(object))
}

/// What a wake can do without, in this order.
enum Field {
    Context,
    Text,
    Key,
    Mark,
}

impl Field {
    fn shorten(&self, wake: &mut Wake, excess: usize) {
        match self {
            Self::Context => {
                if let Some(context) = &mut wake.context {
                    cut(context, excess);
                }
            }
            Self::Text => cut(&mut wake.text, excess),
            Self::Key => cut(&mut wake.key, excess),
            Self::Mark => wake.mark = None,
        }
    }
}

/// Takes at least `excess` bytes from the end of a text, as far as it has them. JSON needs one byte or more for each
/// of them, so the line becomes shorter by at least as much.
fn cut(text: &mut String, excess: usize) {
    if text.len() <= CUT.len() {
        return;
    }
    let mut kept = text.len().saturating_sub(excess + CUT.len());
    while !text.is_char_boundary(kept) {
        kept -= 1;
    }
    text.truncate(kept);
    text.push_str(CUT);
}

/// The wake of a line that is given without its end; `None` when it is not one, whatever else it may be.
pub(crate) fn decode(line: &[u8]) -> Option<Record> {
    if line.len() >= LIMIT || !is_sealed(line) {
        return None;
    }
    let fields = serde_json::from_slice(line).ok().or_else(|| decode_newer(line))?;
    Some(Record::from_fields(fields))
}

/// Reads a record of which a newer version knows more than we do.
fn decode_newer(line: &[u8]) -> Option<Fields> {
    let mut value: serde_json::Value = serde_json::from_slice(line).ok()?;
    let object = value.as_object_mut()?;
    let is_unknown = |value: &serde_json::Value| serde_json::from_value::<Delivery>(value.clone()).is_err();
    if object.get("delivery").is_some_and(is_unknown) {
        object.remove("delivery");
    }
    let is_unknown = |value: &serde_json::Value| serde_json::from_value::<Mark>(value.clone()).is_err();
    if object.get("mark").is_some_and(is_unknown) {
        object.remove("mark");
    }
    serde_json::from_value(value).ok()
}

#[derive(Deserialize)]
struct Fields {
    seq: u64,
    generation: u64,
    at: i64,
    #[serde(deserialize_with = "kind_of")]
    kind: Kind,
    key: String,
    text: String,
    #[serde(default)]
    context: Option<String>,
    #[serde(default)]
    mark: Option<Mark>,
    #[serde(default)]
    delivery: Delivery,
    #[serde(default)]
    deliverable: Option<u64>,
}

/// Reads a kind without making a string of it first where that can be had.
fn kind_of<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Kind, D::Error> {
    #[derive(Deserialize)]
    struct Name<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>);
    Name::deserialize(deserializer).map(|name| Kind::from_name(&name.0))
}

impl Record {
    fn from_fields(fields: Fields) -> Self {
        let Fields { seq, generation, at, kind, key, text, context, mark, delivery, deliverable } = fields;
        // Without the field, to assume that this one is delivered errs on the loud side.
        let deliverable = deliverable.unwrap_or(seq);
        Self { wake: Wake { seq, generation, at, kind, key, text, context, mark, delivery }, deliverable }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn wake(seq: u64) -> Wake {
        Wake {
            seq,
            generation: 3,
            at: 1_700_000_000_000,
            kind: Kind::Signal,
            key: format!("task-{seq}.status"),
            text: format!("signal: /home/state/task-{seq}.status"),
            context: Some("done: \"all\" of it\n".to_owned()),
            mark: Some(Mark::Heartbeat { streak: 1 }),
            delivery: Delivery::Now,
        }
    }

    fn without_end(line: &[u8]) -> &[u8] {
        line.strip_suffix(b"\n").unwrap()
    }

    #[test]
    fn a_line_is_valid_json_that_ends_with_its_seal() {
        let line = encode(&mut wake(7), 7).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        let body = &line[..line.len() - SEAL_LENGTH - 1];
        assert_eq!(value["crc"], format!("{:08x}", crc32fast::hash(body)));
        assert!(line.starts_with(HEAD));
    }

    #[test]
    fn what_a_newer_version_adds_does_not_hide_the_wake() {
        let object = br#"{"seq":4,"generation":1,"at":5,"kind":"tide","key":"k","text":"t","delivery":"soon","mark":{"of":"moon"},"new":[1]}"#;
        let record = decode(without_end(&seal(object.to_vec()))).unwrap();
        assert_eq!(record.wake.kind, Kind::Other("tide".to_owned()));
        assert_eq!((record.wake.delivery, record.wake.mark, record.deliverable), (Delivery::Now, None, 4));
    }

    #[test]
    fn a_long_wake_loses_its_context_before_its_text() {
        let mut long = Wake { context: Some("c\u{1}".repeat(50_000)), ..wake(1) };
        let line = encode(&mut long, 1).unwrap();
        assert!(line.len() <= LIMIT);
        assert!(long.context.as_ref().unwrap().ends_with(CUT));
        assert_eq!(long.text, wake(1).text);
        assert_eq!(decode(without_end(&line)).unwrap().wake, long);
    }

    #[test]
    fn even_absurd_wakes_fit() {
        let absurd = "\u{1F980}".repeat(LIMIT);
        let mark = Some(Mark::Pane { window: absurd.clone(), digest: absurd.clone() });
        let mut long = Wake { key: absurd.clone(), text: absurd.clone(), context: Some(absurd), mark, ..wake(1) };
        assert!(encode(&mut long, 1).unwrap().len() <= LIMIT);
        let mut hopeless = Wake { kind: Kind::Other("k".repeat(LIMIT)), ..wake(1) };
        assert!(encode(&mut hopeless, 1).is_err());
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(key in any::<String>(), text in any::<String>(), context in any::<Option<String>>()) {
            let mut written = Wake { key, text, context, ..wake(9) };
            let line = encode(&mut written, 8).unwrap();
            let read = decode(without_end(&line)).unwrap();
            prop_assert_eq!(read, Record { wake: written, deliverable: 8 });
            prop_assert!(!without_end(&line).contains(&b'\n'));
        }

        #[test]
        fn other_bytes_are_no_wake(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(decode(&bytes), None);
        }
    }
}
