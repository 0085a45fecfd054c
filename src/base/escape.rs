//! Text from files, made safe for a terminal and for line-based formats.
//!
//! Whatever a task writes into a file could carry terminal control sequences, line ends or TABs. Before such text is
//! printed or becomes a field, each control character (C0, DEL, C1, and the Unicode line and direction controls) becomes
//! the octal escapes of its bytes, as `/proc/mounts` does it: `printf %b` turns them back.

use std::fmt::Write;

/// One line of text without any control character. TAB, CR and LF become a space, as the wake queue's contract
/// has it; every other control character becomes octal escapes.
pub fn line(text: &str) -> String {
    escaped(text, |character| matches!(character, '\t' | '\r' | '\n').then_some(' '))
}

/// A path as one word: like [`line()`], and spaces and backslashes are escaped too, so that words can be told apart.
pub fn word(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if is_control(character) || matches!(character, ' ' | '\\') {
            push_octal(&mut out, character);
        } else {
            out.push(character);
        }
    }
    out
}

/// Several lines: line ends and TABs stay, everything else as in [`line()`].
pub fn lines(text: &str) -> String {
    escaped(text, |character| matches!(character, '\t' | '\n').then_some(character))
}

/// Bytes as hexadecimal digits.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

fn escaped(text: &str, replacement: impl Fn(char) -> Option<char>) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match replacement(character) {
            Some(other) => out.push(other),
            None if is_control(character) => push_octal(&mut out, character),
            None => out.push(character),
        }
    }
    out
}

fn is_control(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

fn push_octal(out: &mut String, character: char) {
    for byte in character.encode_utf8(&mut [0; 4]).bytes() {
        // Writing to a string cannot fail.
        let _infallible = write!(out, "\\{byte:03o}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_no_control_characters() {
        assert_eq!(line("a\tb\nc\u{1b}[31m\u{9b}\u{202e}"), "a b c\\033[31m\\302\\233\\342\\200\\256");
    }

    #[test]
    fn a_word_has_no_spaces() {
        assert_eq!(word("/a b\\c"), "/a\\040b\\134c");
    }

    #[test]
    fn lines_keep_their_ends() {
        assert_eq!(lines("a\n\tb\r"), "a\n\tb\\015");
    }
}
