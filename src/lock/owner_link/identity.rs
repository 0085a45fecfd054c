//! The text in `pid-identity`: what `ps -p PID -o lstart= -o command=` prints, and what it can prove.
//!
//! The text is a start time of the wall clock in whole seconds of local time, and a command line. Neither alone says
//! that a process is another one. The clock can be set, and two readers can have two time zones: the start of one process
//! then reads differently. A process can execute another program: its command then reads differently, and so it does in
//! another locale, or where a variable `COLUMNS` made `ps` cut it. And a pid that was given away to a second run of the
//! same script has the same command again.
//!
//! So a process is only called another one if **three** things agree: another command, another start, and a start that
//! is later than the time at which the record was written, by the file's own time, which knows no time zone. A holder
//! started before it wrote. One second is never a difference. Everything else is unknown.
//!
//! Limits: a holder that has executed another program, after which the clock was set forward by more than the age of
//! the record, would be taken for another process. Nothing that the protocol records could tell.

use crate::system::Listing;
use crate::system::identity::{Difference, Proof, Sameness};

/// What an owner directory says of its owner's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recorded {
    /// The text, as far as it is text.
    pub(super) text: String,
    /// When it was written, by the file's own time, in whole seconds since 1970.
    pub(super) written_at: i64,
}

/// What proves that the process under a recorded pid is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Belief {
    /// Three facts that agree.
    #[default]
    Proof,
    /// Another command alone. It is for somebody who was asked to take the lock from whoever has it, and knows what is
    /// recorded for its own.
    Command,
}

/// The length of `Fri Nov 20 23:05:27 2026`.
const START: usize = 24;
/// How far two readings of one start may differ, in seconds.
const ROUNDING: i64 = 1;
/// The longest line that `ps` prints.
pub(super) const LIMIT: usize = 128 * 1024;

/// What `ps` prints for this process in a UTF-8 locale.
pub(super) fn text(listing: &Listing) -> String {
    let mut text = format!("{} {}", listing.started, command(listing));
    while text.len() > LIMIT {
        text.pop();
    }
    text
}

fn command(listing: &Listing) -> String {
    let end = listing.arguments.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    if end == 0 {
        return format!("[{}]", printable(&listing.name));
    }
    let joined: Vec<u8> =
        listing.arguments[..end].iter().map(|&byte| if matches!(byte, 0 | b'\n') { b' ' } else { byte }).collect();
    printable(&joined)
}

/// Control characters become `?`. From the first byte on that is not UTF-8, so does all that is not ASCII.
fn printable(bytes: &[u8]) -> String {
    let (good, bad) = match std::str::from_utf8(bytes) {
        Ok(good) => (good, &[][..]),
        Err(error) => {
            let (good, bad) = bytes.split_at(error.valid_up_to());
            (std::str::from_utf8(good).unwrap_or_default(), bad)
        }
    };
    let good = good.chars().map(|character| if character.is_control() { '?' } else { character });
    let bad = bad.iter().map(|&byte| if matches!(byte, b' '..=b'~') { char::from(byte) } else { '?' });
    good.chain(bad).collect()
}

/// Whether the recorded process and the one that has its pid now are one.
pub(super) fn compare(recorded: &Recorded, now: &Listing, belief: Belief) -> Sameness {
    let Some((start, recorded_command)) = split(&recorded.text) else {
        return Sameness::Unknown("the identity that it recorded cannot be understood".to_owned());
    };
    let Some(started) = seconds(&now.started) else {
        return Sameness::Unknown("the start of its process cannot be understood".to_owned());
    };
    let is_same_start = (started - start).abs() <= ROUNDING;
    match (is_same_start, likeness(recorded_command, &command(now))) {
        (true, Likeness::Whole) => Sameness::Same(Proof::Start),
        (true, Likeness::Beginning) => Sameness::Unknown("only a beginning of its command was recorded".to_owned()),
        (false, Likeness::Whole | Likeness::Beginning) => {
            Sameness::Unknown("its command was started again, or the clock was set".to_owned())
        }
        (_, Likeness::None) if belief == Belief::Command => Sameness::Different(Difference::PidReused),
        (true, Likeness::None) => Sameness::Unknown("it runs another command since".to_owned()),
        (false, Likeness::None) if now.started_at > recorded.written_at.saturating_add(ROUNDING) => {
            Sameness::Different(Difference::PidReused)
        }
        (false, Likeness::None) => Sameness::Unknown("another start and command, but older than the record".to_owned()),
    }
}

fn split(text: &str) -> Option<(i64, &str)> {
    let text = text.trim_start();
    Some((seconds(text.get(..START)?)?, text.get(START..)?.trim()))
}

/// A time as ctime(3) writes it, in seconds on a line of which only differences count.
fn seconds(text: &str) -> Option<i64> {
    let time = jiff::civil::DateTime::strptime("%a %b %e %H:%M:%S %Y", text).ok()?;
    Some(time.duration_since(jiff::civil::DateTime::ZERO).as_secs())
}

/// How far two commands agree, apart from what depends on the reader's locale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Likeness {
    /// They are the same.
    Whole,
    /// The recorded one may have been cut. That they are two is not proven then, and neither is that they are one.
    Beginning,
    /// They are two.
    None,
}

fn likeness(recorded: &str, now: &str) -> Likeness {
    let (recorded, now) = (skeleton(recorded), skeleton(now));
    match now.strip_prefix(&recorded) {
        Some("") if !recorded.is_empty() => Likeness::Whole,
        Some(_) => Likeness::Beginning,
        None => Likeness::None,
    }
}

/// A locale turns what it cannot print into one `?` or `.` for a byte or for a character.
fn skeleton(command: &str) -> String {
    let mut skeleton = String::with_capacity(command.len());
    for character in command.trim().chars() {
        let is_the_same_everywhere = matches!(character, ' '..='~') && !matches!(character, '?' | '.');
        if is_the_same_everywhere {
            skeleton.push(character);
        } else if !skeleton.ends_with('?') {
            skeleton.push('?');
        }
    }
    skeleton
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: i64 = 1_795_215_930;

    fn listing(started_at: i64, started: &str, arguments: &[u8]) -> Listing {
        Listing { started_at, started: started.to_owned(), arguments: arguments.to_vec(), name: b"name".to_vec() }
    }

    fn recorded(text: &str) -> Recorded {
        Recorded { text: text.to_owned(), written_at: WRITTEN }
    }

    #[test]
    fn the_text_is_what_ps_prints() {
        let text = |arguments: &[u8]| command(&listing(0, "", arguments));
        assert_eq!(text(b"bash\0/path/fm-watch.sh\0"), "bash /path/fm-watch.sh");
        assert_eq!(text(b"a\nb\0\0t\tx\x01\x7f\0"), "a b  t?x??");
        assert_eq!(text("é\u{85}\0".as_bytes()), "é?");
        assert_eq!(text(b"\xc3\xa9 \xff\xfe \xc3\xa9\0\0\0"), "é ?? ??");
        assert_eq!(text(b" \0x \0"), "  x ");
        assert_eq!(text(b""), "[name]");
    }

    #[test]
    fn only_three_agreeing_facts_make_another_process() {
        let record = recorded("Fri Nov 20 23:05:27 2026 bash /path/fm-watch.sh\n");
        let judged = |start: &str, later: i64, arguments: &[u8]| {
            compare(&record, &listing(WRITTEN + later, start, arguments), Belief::Proof)
        };
        let (same, other) = (b"bash\0/path/fm-watch.sh\0".as_slice(), b"sleep\x005\0".as_slice());
        let is_unknown = |sameness: Sameness| matches!(sameness, Sameness::Unknown(_));
        assert_eq!(judged("Fri Nov 20 23:05:27 2026", -3, same), Sameness::Same(Proof::Start));
        assert_eq!(judged("Fri Nov 20 23:05:28 2026", -2, same), Sameness::Same(Proof::Start));
        assert!(is_unknown(judged("Fri Nov 20 23:05:26 2026", -4, other)), "it executed another program");
        for cut in ["Fri Nov 20 23:05:27 2026", "Fri Nov 20 23:05:27 2026 b", "Fri Nov 20 23:05:27 2026 bash /path/fm"]
        {
            let now = listing(WRITTEN - 3, "Fri Nov 20 23:05:27 2026", same);
            assert!(is_unknown(compare(&recorded(cut), &now, Belief::Proof)), "{cut} proves nothing");
        }
        assert!(is_unknown(judged("Fri Nov 20 23:05:28 2026", 500, other)), "a second is no difference");
        assert!(is_unknown(judged("Sat Nov 21 01:05:27 2026", 7200, same)), "the same command again");
        assert!(is_unknown(judged("Sat Nov 21 04:05:27 2026", -3, other)), "another time zone and program");
        assert!(is_unknown(judged("Fri Nov 20 23:05:31 2026", 1, other)), "not surely after the record");
        assert_eq!(judged("Sat Nov 21 01:05:27 2026", 7200, other), Sameness::Different(Difference::PidReused));
        assert!(is_unknown(judged("nonsense", 7200, other)));
    }

    #[test]
    fn who_believes_the_command_needs_no_more_than_another_one() {
        let record = recorded("Fri Nov 20 23:05:27 2026 bash /path/fm-watch.sh\n");
        let judged =
            |start: &str, arguments: &[u8]| compare(&record, &listing(WRITTEN - 3, start, arguments), Belief::Command);
        let (here, elsewhere) = ("Fri Nov 20 23:05:27 2026", "Sat Nov 21 01:05:27 2026");
        for start in [here, elsewhere] {
            assert_eq!(judged(start, b"sleep\x005\0"), Sameness::Different(Difference::PidReused));
        }
        assert_eq!(judged(here, b"bash\0/path/fm-watch.sh\0"), Sameness::Same(Proof::Start));
        assert!(
            matches!(judged(elsewhere, b"bash\0/path/fm-watch.sh\0"), Sameness::Unknown(_)),
            "a time zone, perhaps"
        );
        assert!(matches!(judged(here, b"bash\0/path/fm-watch.sh\0x\0"), Sameness::Unknown(_)), "a cut, perhaps");
    }

    #[test]
    fn a_record_that_cannot_be_understood_proves_nothing() {
        let now = listing(WRITTEN + 7200, "Sat Nov 21 01:05:27 2026", b"sleep\x005\0");
        for text in ["", "\n", "Fri Nov 20", "Fri Foo 20 23:05:27 2026 bash", "äöü\0", "é".repeat(30).as_str()] {
            assert!(matches!(compare(&recorded(text), &now, Belief::Proof), Sameness::Unknown(_)), "{text:?}");
        }
    }

    #[test]
    fn another_locale_or_a_cut_is_no_other_command() {
        assert_eq!(likeness("sh ?? x", "sh é x"), Likeness::Whole, "the C locale has one mark for each byte");
        assert_eq!(likeness("sh t.x", "sh t?x"), Likeness::Whole);
        assert_eq!(likeness("bash /a/very/lo", "bash /a/very/long/path"), Likeness::Beginning);
        assert_eq!(likeness("", "bash /a"), Likeness::Beginning);
        assert_eq!(likeness("", ""), Likeness::Beginning);
        assert_eq!(likeness("bash /a", "bash /b"), Likeness::None);
    }
}
