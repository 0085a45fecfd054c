//! Putting an item into a list or an object of a JSON text, or a list of TOML, and taking it out again, by cutting the text.
//!
//! # Theory
//!
//! A text is never printed anew: bytes are inserted at places and ranges of bytes are cut out, so everything else stays
//! as somebody wrote it, comments and odd indentation included. An item is always appended, because harnesses know the
//! hooks of others by their number, and some keep trust under that number.
//!
//! Taking out undoes putting in without any record, because what was put in says how. The white space before an item
//! is its own. A comma after it says that the list ended in a comma before; without one, the comma of the item before it
//! is its own as well. And a container that begins with an end of line and has nothing left was made for the item, for
//! into an empty one that was there the item is put behind a single space.
//!
//! This is not left to a library. `jsonc-parser`'s `cst` prints each object that is put in on lines of its own, and ours
//! stand on one, in files whose text people have trusted; what it takes out, it tidies up after. `toml_edit` prints the
//! document anew: it drops the carriage returns, ends an open last line and moves keys with dots. Neither of them knows
//! how to undo what it did. So the parsers only say where things are, and this cuts.
//!
//! If this is wrong, a settings file does not parse any more or is not what it was; so whoever uses it takes the item out
//! again and compares, before anything is written.
//!
//! Limits: JSON with comments and commas at the end of a list, and lists of TOML, which differ only in their comments.

use std::ops::Range;

use jsonc_parser::ast::{Array, Object};

/// The places of a list or an object in its text.
#[derive(Debug, Clone)]
pub(super) struct Container {
    /// Behind the opening bracket.
    open: usize,
    /// Before the closing bracket.
    close: usize,
    items: Vec<Range<usize>>,
    comments: Comments,
}

/// What comments look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comments {
    /// `//` to the end of the line, and `/*` to `*/`.
    Json,
    /// `#` to the end of the line.
    Toml,
}

impl From<&Object<'_>> for Container {
    fn from(object: &Object<'_>) -> Self {
        let items = object.properties.iter().map(|property| property.range.start..property.range.end).collect();
        Self { open: object.range.start + 1, close: object.range.end - 1, items, comments: Comments::Json }
    }
}

impl From<&Array<'_>> for Container {
    fn from(array: &Array<'_>) -> Self {
        use jsonc_parser::common::Ranged;
        let items = array.elements.iter().map(|element| element.range().start..element.range().end).collect();
        Self { open: array.range.start + 1, close: array.range.end - 1, items, comments: Comments::Json }
    }
}

impl Container {
    /// A list of TOML, from its opening bracket to behind its closing one.
    pub(super) fn of_toml(whole: Range<usize>, items: Vec<Range<usize>>) -> Self {
        Self { open: whole.start + 1, close: whole.end - 1, items, comments: Comments::Toml }
    }

    /// How many items there are.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether it looks like one that was made for the items which it has: its first item begins a line of its own,
    /// and there are no comments before or behind.
    pub(super) fn is_made_for_its_items(&self, text: &str) -> bool {
        let (Some(first), Some(last)) = (self.items.first(), self.items.last()) else { return false };
        let before = &text[self.open..first.start];
        is_line_end(before) && is_blank(before) && is_blank(&text[last.end..self.close])
    }

    fn tail(&self, text: &str, from: usize, to: usize) -> Tail {
        Tail::between(text, from, to, self.comments)
    }

    /// The text with one more item at the end. What the item is may depend on the indentation of its line.
    pub(super) fn append(&self, text: &str, item: impl Fn(&str) -> String) -> String {
        let last = self.items.last();
        let tail = self.tail(text, last.map_or(self.open, |item| item.end), self.close);
        let own_line = last.is_some_and(|item| is_blank(&text[line_start(text, item.start)..item.start]));
        let indentation = indentation(text, last.map_or(tail.end, |item| item.start));
        let lead =
            if own_line || tail.is_line_comment { format!("{}{indentation}", line_end(text)) } else { " ".into() };
        let item = item(indentation);
        match (last, tail.comma) {
            (Some(_), Some(_)) => insert(text, &[(tail.end, &lead), (tail.end, &item), (tail.end, ",")]),
            (Some(last), None) => insert(text, &[(last.end, ","), (tail.end, &lead), (tail.end, &item)]),
            (None, _) => insert(text, &[(tail.end, &lead), (tail.end, &item)]),
        }
    }

    /// The text without one of the items.
    pub(super) fn remove(&self, text: &str, index: usize) -> String {
        let Some(item) = self.items.get(index) else { return text.to_owned() };
        let start = text[..item.start].trim_end_matches(BLANK).len();
        let next = self.items.get(index + 1).map_or(self.close, |next| next.start);
        if let Some(comma) = self.tail(text, item.end, next).comma {
            // What stands between an item and its comma belongs to somebody else, unless it is nothing.
            return cut(text, &[start..item.end, comma..comma + 1]);
        }
        let before = index.checked_sub(1).and_then(|before| self.items.get(before));
        match before.and_then(|before| self.tail(text, before.end, item.start).comma) {
            Some(comma) => cut(text, &[comma..comma + 1, start.max(comma + 1)..item.end]),
            None => format!("{}{}", &text[..start], &text[item.end..]),
        }
    }
}

/// What white space is to JSON.
const BLANK: [char; 4] = [' ', '\t', '\r', '\n'];

/// Whether a text is nothing but white space, as JSON understands that.
pub(super) fn is_blank(text: &str) -> bool {
    text.chars().all(|character| BLANK.contains(&character))
}

fn is_line_end(text: &str) -> bool {
    text.starts_with('\n') || text.starts_with("\r\n")
}

/// How lines end in a text.
pub(super) fn line_end(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |end| end + 1)
}

/// The white space with which the line of a place begins.
pub(super) fn indentation(text: &str, at: usize) -> &str {
    let line = &text[line_start(text, at)..at];
    &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
}

/// What stands between an item and what follows it: white space, comments, at most one comma.
#[derive(Debug, Default)]
struct Tail {
    /// Where the comma is.
    comma: Option<usize>,
    /// Behind the last thing that is no white space.
    end: usize,
    /// Whether that thing is a comment to the end of its line.
    is_line_comment: bool,
}

impl Tail {
    fn between(text: &str, from: usize, to: usize, comments: Comments) -> Self {
        let mut tail = Self { end: from, ..Self::default() };
        let mut at = from;
        while at < to {
            let rest = &text[at..to];
            let line_comment = if comments == Comments::Json { "//" } else { "#" };
            let (length, is_line_comment) = if rest.starts_with(line_comment) {
                (rest.find(['\n', '\r']).unwrap_or(rest.len()), true)
            } else if comments == Comments::Json && rest.starts_with("/*") {
                (rest.find("*/").map_or(rest.len(), |end| end + 2), false)
            } else if rest.starts_with(BLANK) {
                at += 1;
                continue;
            } else {
                if rest.starts_with(',') {
                    tail.comma = Some(at);
                }
                (rest.chars().next().map_or(1, char::len_utf8), false)
            };
            at += length;
            tail.end = at;
            tail.is_line_comment = is_line_comment;
        }
        tail
    }
}

/// The text with pieces put in, which are in the order of their places.
fn insert(text: &str, pieces: &[(usize, &str)]) -> String {
    let mut whole = String::new();
    let mut from = 0;
    for (at, piece) in pieces {
        whole.push_str(&text[from..*at]);
        whole.push_str(piece);
        from = *at;
    }
    whole.push_str(&text[from..]);
    whole
}

/// The text without ranges, which are in order and apart.
fn cut(text: &str, ranges: &[Range<usize>]) -> String {
    let mut whole = String::new();
    let mut from = 0;
    for range in ranges {
        whole.push_str(&text[from..range.start]);
        from = range.end;
    }
    whole.push_str(&text[from..]);
    whole
}
