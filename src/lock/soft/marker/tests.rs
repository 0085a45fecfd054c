//! Records, damaged and whole. What the peer's own code says of the same bytes is asked in tests/suite/oracle.rs.

use proptest::prelude::*;

use super::*;

fn record(pid: u32, host: &str, start: Option<&str>) -> Content {
    Content::Record(Record { pid, host: host.to_owned(), start: start.map(|start| Start::parse(start).unwrap()) })
}

#[test]
fn two_or_three_lines_are_a_record() {
    assert_eq!(Content::read(b"12\nhost\n"), record(12, "host", None));
    assert_eq!(Content::read(b"12\nhost\n345\n"), record(12, "host", Some("345")));
    assert_eq!(Content::read(b"0012\nhost\n00345\n"), record(12, "host", Some("345")));
    assert_eq!(Content::read(b"1\nhost\n"), record(1, "host", None));
    assert_eq!(Content::read(b"2147483647\nhost\n"), record(2_147_483_647, "host", None));
}

#[test]
fn space_around_a_record_does_not_count_and_space_inside_does() {
    assert_eq!(Content::read(b"\n12\nhost\n"), record(12, "host", None));
    assert_eq!(Content::read("\u{1c}\u{1f}\u{a0}\u{3000}12\nhost\n\n \u{85}\n".as_bytes()), record(12, "host", None));
    assert_eq!(Content::read(b"12\n host \t\n9\n"), record(12, " host \t", Some("9")));
    assert_eq!(Content::read(b"12 \nhost\n"), Content::Malformed(Malformed::Pid));
    assert_eq!(Content::read(b"12\n\nhost\n"), Content::Malformed(Malformed::Start));
    assert_eq!(Content::read(b"12\n\n9\n"), record(12, "", Some("9")));
}

#[test]
fn what_ends_a_line_in_python_ends_one_here() {
    for end in ["\r\n", "\r", "\u{b}", "\u{c}", "\u{1c}", "\u{1d}", "\u{1e}", "\u{85}", "\u{2028}", "\u{2029}"] {
        let text = format!("12{end}host{end}345\n");
        assert_eq!(Content::read(text.as_bytes()), record(12, "host", Some("345")), "{end:?}");
    }
    for none in ["\t", "\u{1f}", "\u{a0}", "\u{2000}"] {
        let text = format!("12{none}host\n");
        assert_eq!(Content::read(text.as_bytes()), Content::Malformed(Malformed::Lines), "{none:?}");
    }
}

#[test]
fn everything_else_is_no_record() {
    let long = [b"12\nhost\n".as_slice(), &[b'\n'; 1017]].concat();
    let cases: [(&[u8], Malformed); 17] = [
        (b"12\nhost", Malformed::Cut),
        (b"12\nhost\r", Malformed::Cut),
        (b" ", Malformed::Cut),
        (b"\n", Malformed::Lines),
        (b"12\n", Malformed::Lines),
        (b"1\n2\n3\n4\n", Malformed::Lines),
        (b"0\nhost\n", Malformed::Pid),
        (b"-1\nhost\n", Malformed::Pid),
        (b"+5\nhost\n", Malformed::Pid),
        (b"1_000\nhost\n", Malformed::Pid),
        (b"2147483648\nhost\n", Malformed::Pid),
        (b"\0\0\0\n", Malformed::Lines),
        (b"12\nhost\nx\n", Malformed::Start),
        (b"12\nh\xffst\n", Malformed::NotText),
        (b"filelock/released\n", Malformed::Lines),
        (b"filelock/break\n77\n", Malformed::Placeholder(Decimal::from(77))),
        (&long, Malformed::TooLong),
    ];
    for (bytes, why) in cases {
        assert_eq!(Content::read(bytes), Content::Malformed(why), "{bytes:?}");
    }
    assert_eq!(Content::read(&long[..1024]), record(12, "host", None));
}

#[test]
fn an_empty_marker_and_the_strict_sign_are_neither_records_nor_damage() {
    assert_eq!(Content::read(b""), Content::Empty);
    assert_eq!(Content::read(b"1\nfilelock-strict-v1\0\n0\n"), Content::Strict);
    // One byte off, it is an ordinary record.
    assert_eq!(Content::read(b"1\nfilelock-strict-v1\0\n1\n"), record(1, "filelock-strict-v1\0", Some("1")));
}

#[test]
fn what_we_write_in_place_of_a_record_is_never_read_as_one() {
    assert_eq!(Content::read(RELEASED), Content::Malformed(Malformed::Lines));
    assert_eq!(Content::read(&placeholder(7)), Content::Malformed(Malformed::Placeholder(Decimal::from(7))));
    // Nor while the old end still follows.
    for new in [RELEASED.to_vec(), placeholder(7)] {
        let between = [new, b"host\n123\n".to_vec()].concat();
        assert!(matches!(Content::read(&between), Content::Malformed(_)), "{between:?}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(pid in 1..=2_147_483_647_u32, host in "[!->@-~]{1,60}", ticks: u64, boot: [u64; 2]) {
        let start = Start::parse(Decimal::from_words([ticks, boot[0], boot[1]]).as_str());
        for start in [None, start] {
            let record = Record { pid, host: host.clone(), start };
            prop_assert_eq!(Content::read(&record.to_bytes()), Content::Record(record));
        }
    }

    #[test]
    fn a_record_that_is_cut_anywhere_is_none(cut in 1..8_usize) {
        let bytes = b"123\nhost\n456789\n";
        let read = Content::read(&bytes[..bytes.len() - cut]);
        let ends_with_a_line = bytes[..bytes.len() - cut].ends_with(b"\n");
        prop_assert_eq!(matches!(read, Content::Record(_)), ends_with_a_line);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        let _content = Content::read(&bytes);
    }
}
