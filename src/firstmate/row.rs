//! One row of the wake queue as bytes: `epoch<TAB>seq<TAB>kind<TAB>key<TAB>payload`.
//!
//! Everything here is pure. A row that was read is kept as the bytes that stand in the file, so what a drain prints is what
//! its writer wrote, in whatever encoding. A line of fewer than five fields is no row. TABs beyond the fourth belong to the
//! payload.
//!
//! A row has no name that lasts: its number may come twice when somebody loses the counter. So rows are known by a
//! *fingerprint* of their whole line. Two rows with the same fingerprint say the same thing, in the same second, under
//! the same number, and one of them is enough.

use std::collections::{HashMap, HashSet};

use crate::journal::record::{Delivery, Draft, Kind, Mark, Wake};
use crate::journal::render;

/// A row as it stands in the queue, without its line end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    line: Vec<u8>,
}

/// What a row says, apart from its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// When, in seconds since 1970.
    pub epoch: i64,
    /// The kind, the key and the payload, none of which has a TAB or a line end.
    fields: [String; 3],
}

impl Row {
    /// A line as a row; `None` when it has fewer than five fields.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let fields = line.split(|byte| *byte == b'\t').count();
        (fields >= 5).then(|| Self { line: line.to_vec() })
    }

    /// The line, without its end.
    pub fn line(&self) -> &[u8] {
        &self.line
    }

    /// What it is known by: the same for the same line, and for no other.
    pub fn fingerprint(&self) -> String {
        format!("{:x}", md5::compute(&self.line))
    }

    /// Its number; `None` when it is none.
    pub fn number(&self) -> Option<u64> {
        number(self.field(1))
    }

    /// Whether it says this, perhaps among other things ([`with_whole_reason`]).
    pub fn says(&self, content: &Content) -> bool {
        let [kind, key, payload] = &content.fields;
        let is_about_it = [(0, &content.epoch.to_string()), (2, kind), (3, key)]
            .into_iter()
            .all(|(place, text)| self.field(place) == text.as_bytes());
        let told = self.field(4);
        let names =
            || content.signalled().is_some_and(|file| told.windows(file.len()).any(|part| part == file.as_bytes()));
        is_about_it && (told == payload.as_bytes() || names())
    }

    /// The wake that it becomes. What is not UTF-8 is replaced: the row itself stays as it is.
    pub fn draft(&self) -> Draft {
        let text = |place| String::from_utf8_lossy(self.field(place)).into_owned();
        Draft {
            mark: Some(Mark::Row { fingerprint: self.fingerprint() }),
            ..Draft::new(Kind::from_name(cut(&text(2))), text(3), text(4))
        }
    }

    fn field(&self, place: usize) -> &[u8] {
        self.line.splitn(5, |byte| *byte == b'\t').nth(place).unwrap_or_default()
    }

    /// Kind and key; all heartbeats are about one thing.
    pub fn topic(&self) -> (&[u8], &[u8]) {
        let kind = self.field(2);
        (kind, if kind == b"heartbeat" { b"" } else { self.field(3) })
    }
}

impl Content {
    /// What the row of a wake says; `None` for a wake that has none: the contract knows no such kind, or a row is what
    /// the wake came from, or nobody is to be told of it.
    pub fn of(wake: &Wake) -> Option<Self> {
        let is_known = matches!(wake.kind, Kind::Signal | Kind::Stale | Kind::Check | Kind::Heartbeat);
        let is_new = !matches!(wake.mark, Some(Mark::Row { .. })) && wake.delivery != Delivery::Never;
        (is_known && is_new).then(|| Self::of_any(wake))
    }

    /// What is printed for a wake of any kind, under the name of its own kind.
    pub fn of_any(wake: &Wake) -> Self {
        let (kind, key, payload) = (flat(wake.kind.as_str()), flat(&wake.key), flat(&render::with_kind(wake)));
        Self { epoch: wake.at.div_euclid(1000), fields: [kind, key, payload] }
    }

    /// What a signal's payload names.
    fn signalled(&self) -> Option<&str> {
        let [kind, _, payload] = &self.fields;
        payload.strip_prefix(SIGNAL).filter(|file| kind == Kind::Signal.as_str() && !file.is_empty())
    }

    /// The row with this number.
    pub fn numbered(&self, number: u64) -> Row {
        let [kind, key, payload] = &self.fields;
        Row { line: format!("{}\t{number}\t{kind}\t{key}\t{payload}", self.epoch).into_bytes() }
    }
}

/// How the reason of signals begins.
const SIGNAL: &str = "signal: ";

/// The payload of each signal names all that are told together: it is the whole reason line.
pub fn with_whole_reason(mut contents: Vec<Content>) -> Vec<Content> {
    let mut files: Vec<&str> = contents.iter().filter_map(Content::signalled).collect();
    let mut named = HashSet::new();
    files.retain(|file| named.insert(*file));
    let line = format!("{SIGNAL}{}", files.join(" "));
    for content in &mut contents {
        if content.signalled().is_some() {
            content.fields[2].clone_from(&line);
        }
    }
    contents
}

/// A kind that no script writes is kept as it is, unless it is so long that it is none.
fn cut(kind: &str) -> &str {
    /// In characters.
    const LONGEST: usize = 64;
    kind.char_indices().nth(LONGEST).map_or(kind, |(end, _)| &kind[..end])
}

/// A text as one field: each TAB, CR and LF is a space, and nothing else changes.
fn flat(text: &str) -> String {
    text.replace(['\t', '\r', '\n'], " ")
}

/// The rows among the lines of a file. A last line without its end counts as well.
pub fn rows(bytes: &[u8]) -> Vec<Row> {
    bytes.split(|byte| *byte == b'\n').filter_map(Row::parse).collect()
}

/// Keeps, for each kind and key, the last row at the position of the first.
pub fn fold(rows: &[Row]) -> Vec<&Row> {
    let mut places = HashMap::new();
    let mut folded: Vec<&Row> = Vec::new();
    for row in rows {
        let place = *places.entry(row.topic()).or_insert(folded.len());
        match folded.get_mut(place) {
            Some(older) => *older = row,
            None => folded.push(row),
        }
    }
    folded
}

/// The number that was given out last: as the counter says, but never below a row that is in the queue or a number that
/// is remembered. A counter that cannot be read begins anew.
pub fn last_number(counter: &[u8], rows: &[Row], remembered: u64) -> u64 {
    let queued = rows.iter().filter_map(Row::number).max().unwrap_or(0);
    number(counter.trim_ascii()).unwrap_or(0).max(queued).max(remembered)
}

/// A number from which a script, whose numbers have 63 bits, can go on for ever. A greater one was never given out.
fn number(digits: &[u8]) -> Option<u64> {
    const MOST: u64 = 1 << 62;
    let is_plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_plain)?.parse().ok().filter(|number| *number <= MOST)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::journal::codec::tests::wake;

    fn row(line: &str) -> Row {
        Row::parse(line.as_bytes()).unwrap()
    }

    #[test]
    fn a_line_of_fewer_than_five_fields_is_no_row() {
        for line in ["", "\t", "1\t2\tsignal\tkey", "1 2 signal key payload"] {
            assert_eq!(Row::parse(line.as_bytes()), None, "{line:?}");
        }
        let odd = row("\t\t\t\t");
        assert_eq!((odd.number(), odd.field(4)), (None, &b""[..]));
        assert_eq!(row("1\t2\tcheck\tk\ta\tb").field(4), b"a\tb", "more TABs belong to the payload");
    }

    #[test]
    fn the_row_of_a_wake_has_five_fields_and_the_whole_reason() {
        let found = |kind: Kind, key: &str, text: &str| {
            let wake = Wake { kind, key: key.into(), text: text.into(), at: 1_700_000_000_999, ..wake(1) };
            Content::of(&wake).map(|content| String::from_utf8(content.numbered(7).line).unwrap())
        };
        let line = |rest: &str| Some(format!("1700000000\t7\t{rest}"));
        assert_eq!(
            found(Kind::Signal, "a.status", "signal: /s/a.status"),
            line("signal\ta.status\tsignal: /s/a.status")
        );
        assert_eq!(
            found(Kind::Check, "/s/a\tb", "check: /s/a\tb: one\r\ntwo\u{1b}"),
            line("check\t/s/a b\tcheck: /s/a b: one  two\u{1b}")
        );
        assert_eq!(found(Kind::Heartbeat, "heartbeat", "heartbeat"), line("heartbeat\theartbeat\theartbeat"));
        assert_eq!(found(Kind::Stale, "w", "by a script"), line("stale\tw\tstale: by a script"));
        for kind in [Kind::Custom, Kind::Daemon, Kind::Other("tide".into())] {
            assert_eq!(found(kind, "k", "t"), None, "the contract has no such kind");
        }
    }

    #[test]
    fn signals_that_are_told_together_all_have_the_whole_reason() {
        let content = |kind: Kind, key: &str, text: &str| {
            Content::of(&Wake { kind, key: key.into(), text: text.into(), mark: None, ..wake(1) }).unwrap()
        };
        let one = content(Kind::Signal, "a.status", "signal: /s/a.status");
        let all = [
            one.clone(),
            content(Kind::Check, "/c", "check: /c: signal: x"),
            content(Kind::Signal, "b.status", "signal: /s/b.status"),
            content(Kind::Signal, "a.status", "signal: /s/a.status"),
        ];
        let rows: Vec<_> = with_whole_reason(all.to_vec()).iter().map(|content| content.numbered(1)).collect();
        let payloads: Vec<_> = rows.iter().map(|row| String::from_utf8_lossy(row.field(4)).into_owned()).collect();
        let reason = "signal: /s/a.status /s/b.status";
        assert_eq!(payloads, [reason, "check: /c: signal: x", reason, reason]);
        assert!(all.iter().zip(&rows).all(|(content, row)| row.says(content)), "each is found again");
        assert!(!rows[2].says(&one) && !rows[1].says(&one));
    }

    #[test]
    fn neither_what_came_from_a_row_nor_what_is_never_told_becomes_one() {
        let mut signal = Wake { kind: Kind::Signal, mark: None, ..wake(1) };
        assert!(Content::of(&signal).is_some());
        signal.delivery = Delivery::Never;
        assert_eq!(Content::of(&signal), None);
        let mark = Some(Mark::Row { fingerprint: String::new() });
        assert_eq!(Content::of(&Wake { kind: Kind::Signal, mark, ..wake(1) }), None);
    }

    #[test]
    fn a_row_becomes_a_wake_that_says_the_same() {
        let Draft { kind, key, text, mark, .. } = row("5\t6\tstale\tfm:a\tstale: fm:a").draft();
        assert_eq!((kind, key.as_str(), text.as_str()), (Kind::Stale, "fm:a", "stale: fm:a"));
        assert_eq!(mark, Some(Mark::Row { fingerprint: row("5\t6\tstale\tfm:a\tstale: fm:a").fingerprint() }));
        assert_eq!(row("5\t6\ttide\tk\tt").draft().kind, Kind::Other("tide".into()));
        let endless = row(&format!("5\t6\t{}\tk\tt", "é".repeat(70_000)));
        assert_eq!(endless.draft().kind, Kind::Other("é".repeat(64)), "the journal takes no such line");
    }

    #[test]
    fn the_newest_content_stands_at_the_place_of_the_first() {
        let lines = b"1\t1\tsignal\ta\told\nno row\n1\t2\theartbeat\tx\tone\n2\t3\tcheck\ta\tc\n2\t4\tsignal\ta\tnew\n\
            3\t5\theartbeat\ty\ttwo\n";
        let rows = rows(lines);
        let folded: Vec<_> = fold(&rows).into_iter().map(|row| row.number().unwrap()).collect();
        assert_eq!(folded, [4, 5, 3]);
    }

    #[test]
    fn a_lost_counter_never_falls_below_what_is_known() {
        let rows = rows(b"1\t9\tsignal\ta\tx\n1\t4\tsignal\tb\tx\n1\tx\tsignal\tc\tx");
        for (counter, remembered, expected) in [
            ("12\n", 0, 12),
            ("12", 20, 20),
            ("", 0, 9),
            ("-3", 0, 9),
            ("1e9", 0, 9),
            ("99999999999999999999999", 7, 9),
            ("18446744073709551615", 7, 9),
            ("9223372036854775807", 7, 9),
        ] {
            assert_eq!(last_number(counter.as_bytes(), &rows, remembered), expected, "{counter}");
        }
        assert_eq!(last_number(b"garbage", &[], 0), 0);
    }

    proptest! {
        #[test]
        fn any_wake_becomes_one_line_of_five_fields(
            key in any::<String>(), text in any::<String>(), number in 0..=1u64 << 62
        ) {
            let wake = Wake { kind: Kind::Check, key, text, mark: None, ..wake(1) };
            let content = Content::of(&wake).unwrap();
            let row = content.numbered(number);
            prop_assert_eq!(row.line().split(|byte| *byte == b'\t').count(), 5);
            prop_assert!(!row.line().iter().any(|byte| matches!(byte, b'\n' | b'\r')));
            prop_assert_eq!(&rows(row.line()), std::slice::from_ref(&row));
            prop_assert_eq!(row.number(), Some(number));
            prop_assert!(row.says(&content));
        }

        #[test]
        fn any_bytes_are_read_and_nothing_of_a_row_is_changed(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for row in rows(&bytes) {
                prop_assert!(bytes.windows(row.line().len().max(1)).any(|window| window == row.line()));
                drop(row.draft());
            }
        }

        #[test]
        fn folding_keeps_each_topic_once_with_its_last_content(topics in prop::collection::vec((0..3u8, 0..3u8), 0..30)) {
            let rows: Vec<Row> = topics.iter().enumerate()
                .map(|(place, (kind, key))| row(&format!("1\t{place}\tk{kind}\t{key}\tp"))).collect();
            let folded = fold(&rows);
            let mut first: Vec<_> = Vec::new();
            for topic in &topics {
                if !first.contains(topic) {
                    first.push(*topic);
                }
            }
            let last = first.iter().map(|topic| topics.iter().rposition(|other| other == topic).unwrap() as u64);
            prop_assert_eq!(folded.iter().filter_map(|row| row.number()).collect::<Vec<_>>(), last.collect::<Vec<_>>());
        }
    }
}
