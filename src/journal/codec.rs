//! Wakes as bytes: one as a line, the seal that makes it one, and how wakes are found among bytes.
//!
//! A line is a JSON object whose last field is `crc`: the CRC-32, as eight lower-case hexadecimal digits, of all bytes
//! of the line before `,"crc"`. Quotes inside JSON strings are escaped, so the bytes `{"seq":` and `,"crc":"` can only
//! be the two ends of a record: a reader finds wakes even where line ends were lost.
//!
//! The field `deliverable` carries the highest number, up to and including this wake's, of a wake that is not
//! [`Delivery::Never`]. So the last line of the journal tells whether anything waits, without reading the rest.
//!
//! What is a wake is decided by its seal, and what is damaged is simply what lies between wakes. Lines are the fast
//! way from one wake to the next. Where a line is not a wake, the ends of records are looked for inside it, because a
//! lost line end glues two good wakes together. For each end of a record only the last beginning before it can be its
//! own, so the search is linear whatever the bytes are.
//!
//! Limits: a CRC finds accidents, not forgery. Kinds, deliveries and marks of newer versions are kept as far as they
//! can be: an unknown kind under its name, an unknown delivery as [`Delivery::Now`], an unknown mark not at all. Of bytes
//! without any line end at most [`STRETCH`] are held; memory never follows a length on disk.

use super::record::{Delivery, Kind, Mark, Wake};
use crate::base::failpoint;
use crate::base::failpoint::Failpoint;
use serde::{Deserialize, Deserializer};
use std::io;
use std::ops::{ControlFlow, Range};

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

/// How many bytes without a line end are held before they are searched as they are.
const STRETCH: usize = 4 * LIMIT;

/// A wake and where it stands.
#[derive(Debug)]
pub(crate) struct Placed {
    /// The offset of its first byte.
    pub(crate) start: u64,
    /// The offset after its last byte, its line end included.
    pub(crate) end: u64,
    /// Whether it has its line end.
    pub(crate) ending: LineEnd,
    /// The wake.
    pub(crate) record: Record,
}

/// Whether a record is followed by a line end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineEnd {
    /// It is.
    Present,
    /// It is not: nobody may append here.
    Missing,
}

/// Whether more bytes follow those that are fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follows {
    /// Perhaps.
    More,
    /// No: what is left is judged as it is.
    Nothing,
}

/// Walks over bytes and remembers which of them are no wakes.
#[derive(Debug)]
pub(crate) struct Scanner {
    covered: u64,
    gaps: Vec<Range<u64>>,
}

impl Scanner {
    /// A scanner whose first byte has this offset.
    pub(crate) fn starting_at(offset: u64) -> Self {
        Self { covered: offset, gaps: Vec::new() }
    }

    /// Where the last wake ended; up to there every byte is a wake or in a gap.
    pub(crate) fn covered(&self) -> u64 {
        self.covered
    }

    /// The ranges before and between wakes that are none.
    pub(crate) fn into_gaps(self) -> Vec<Range<u64>> {
        self.gaps
    }

    /// Hands every wake in `bytes`, which begin at `offset`, to `sink` until that breaks off. Says how many of the
    /// bytes are done with; the others are to be fed again with those that follow.
    pub(crate) fn feed(
        &mut self,
        offset: u64,
        bytes: &[u8],
        follows: Follows,
        sink: &mut impl FnMut(Placed) -> ControlFlow<()>,
    ) -> (usize, ControlFlow<()>) {
        let mut done = 0;
        while let Some(length) = bytes[done..].iter().position(|byte| *byte == b'\n') {
            let flow = self.take_line(offset + done as u64, &bytes[done..=done + length], sink);
            done += length + 1;
            if flow.is_break() {
                return (done, flow);
            }
        }
        let rest = &bytes[done..];
        if follows == Follows::More && rest.len() < STRETCH {
            return (done, ControlFlow::Continue(()));
        }
        let flow = self.rescue(offset + done as u64, rest, sink);
        // A record that has only begun may stand in the last bytes.
        let kept = if follows == Follows::More { LIMIT } else { 0 };
        let taken = usize::try_from(self.covered.saturating_sub(offset)).unwrap_or(bytes.len());
        (taken.clamp(done.max(bytes.len() - kept.min(rest.len())), bytes.len()), flow)
    }

    /// Takes one line, its end included.
    fn take_line(&mut self, at: u64, line: &[u8], sink: &mut impl FnMut(Placed) -> ControlFlow<()>) -> ControlFlow<()> {
        match decode(&line[..line.len() - 1]) {
            Some(record) => self.accept(at, line.len(), LineEnd::Present, record, sink),
            None => self.rescue(at, line, sink),
        }
    }

    /// Looks for wakes inside bytes that are not one line with one wake.
    fn rescue(&mut self, at: u64, bytes: &[u8], sink: &mut impl FnMut(Placed) -> ControlFlow<()>) -> ControlFlow<()> {
        let mut from = 0;
        while let Some(seal) = find(&bytes[from..], SEAL) {
            let end = (from + seal + SEAL_LENGTH).min(bytes.len());
            let found = rfind(&bytes[from..from + seal], HEAD)
                .and_then(|head| Some((from + head, decode(&bytes[from + head..end])?)));
            let Some((start, record)) = found else {
                from += seal + SEAL.len();
                continue;
            };
            let ending = if bytes.get(end) == Some(&b'\n') { LineEnd::Present } else { LineEnd::Missing };
            from = end + usize::from(ending == LineEnd::Present);
            self.accept(at + start as u64, from - start, ending, record, sink)?;
        }
        ControlFlow::Continue(())
    }

    fn accept(
        &mut self,
        start: u64,
        length: usize,
        ending: LineEnd,
        record: Record,
        sink: &mut impl FnMut(Placed) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if start > self.covered {
            self.gaps.push(self.covered..start);
        }
        self.covered = start + length as u64;
        sink(Placed { start, end: self.covered, ending, record })
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn rfind(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).rposition(|window| window == wanted)
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

#[cfg(test)]
mod scan_tests {
    use proptest::prelude::*;

    use super::*;
    use crate::journal::codec::tests::wake;

    fn lines(count: u64) -> Vec<Vec<u8>> {
        (1..=count).map(|seq| encode(&mut wake(seq), seq).unwrap()).collect()
    }

    /// Feeds bytes in pieces and returns the numbers found, the gaps and the end of the last wake.
    fn scan_in_pieces(bytes: &[u8], piece: usize) -> (Vec<u64>, Vec<Range<u64>>, u64) {
        let mut scanner = Scanner::starting_at(0);
        let (mut found, mut held, mut offset) = (Vec::new(), Vec::new(), 0);
        let mut pieces = bytes.chunks(piece).peekable();
        while let Some(next) = pieces.next() {
            held.extend_from_slice(next);
            let follows = if pieces.peek().is_some() { Follows::More } else { Follows::Nothing };
            let (done, _) = scanner.feed(offset, &held, follows, &mut |placed| {
                found.push(placed.record.wake.seq);
                ControlFlow::Continue(())
            });
            held.drain(..done);
            offset += done as u64;
        }
        let covered = scanner.covered();
        (found, scanner.into_gaps(), covered)
    }

    #[test]
    fn every_single_bit_flip_costs_at_most_its_own_wake_and_is_noticed() {
        let lines = lines(3);
        let whole = lines.concat();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let mut end = 0;
            let hit = lines.iter().position(|line| {
                end += line.len();
                bit / 8 < end
            });
            let hit = hit.unwrap() as u64 + 1;
            let (found, gaps, covered) = scan_in_pieces(&bytes, bytes.len());
            let expected: Vec<u64> = (1..=3).filter(|seq| *seq != hit || found.contains(&hit)).collect();
            assert_eq!(found, expected, "bit {bit}");
            assert!(!gaps.is_empty() || covered < bytes.len() as u64, "bit {bit} went unnoticed");
        }
    }

    #[test]
    fn every_cut_of_the_last_line_leaves_the_others() {
        let lines = lines(3);
        let whole = lines.concat();
        let kept = lines[0].len() + lines[1].len();
        for length in kept..whole.len() - 1 {
            let (found, gaps, covered) = scan_in_pieces(&whole[..length], 64);
            assert_eq!((found, gaps, covered), (vec![1, 2], vec![], kept as u64), "cut at {length}");
        }
        // Only the line end is missing: the wake is whole, so it is told.
        assert_eq!(scan_in_pieces(&whole[..whole.len() - 1], 64).0, [1, 2, 3]);
    }

    #[test]
    fn a_stretch_without_line_ends_is_not_held_in_memory() {
        let mut bytes = vec![0; 3 * STRETCH];
        let tail = lines(1).concat();
        bytes.extend_from_slice(&tail[..tail.len() - 1]);
        bytes.extend_from_slice(&vec![0; 2 * STRETCH]);
        let (found, gaps, _) = scan_in_pieces(&bytes, 10_000);
        assert_eq!(found, [1]);
        assert_eq!(gaps.first(), Some(&(0..3 * STRETCH as u64)));
        assert_eq!(gaps.len(), 1);
    }

    proptest! {
        #[test]
        fn garbage_between_wakes_is_a_gap_and_nothing_else(
            garbage in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 4),
            piece in 1_usize..500,
        ) {
            let lines = lines(3);
            let mut bytes = Vec::new();
            let mut expected = 0;
            for (index, dirt) in garbage.iter().enumerate() {
                bytes.extend_from_slice(dirt);
                expected += dirt.len() as u64;
                if let Some(line) = lines.get(index) {
                    bytes.extend_from_slice(line);
                }
            }
            let (found, gaps, covered) = scan_in_pieces(&bytes, piece);
            let lost = gaps.iter().map(|gap| gap.end - gap.start).sum::<u64>() + (bytes.len() as u64 - covered);
            prop_assert_eq!(found, vec![1, 2, 3]);
            prop_assert_eq!(lost, expected);
        }
    }
}
