//! What a pid file says: its first line for everybody, the others for us.
//!
//! The first line is the bare decimal pid, as every program expects it that reads a pid file. Further lines say what is
//! needed to recognise the process later. Each is one word `name=value`, so that a script which takes all words of the
//! file for pids (`kill $(cat FILE)`) meets no other number. The order is free, unknown names are passed over, and the
//! line `nonce` ends what this version writes.
//!
//! ```text
//! 4711
//! fm-watch=1
//! boot=0c5f6a6e-4f6e-4a0e-9d52-3f8c3b1a7a55
//! namespace=4026531836
//! start=1234567
//! pidfd=9021
//! program=64768:131
//! user=1000
//! nonce=00112233445566778899aabbccddeeff
//! ```
//!
//! | name | value |
//! |---|---|
//! | `fm-watch` | the version of this format; a record without it is a foreign one |
//! | `boot` | the kernel's id of the boot, if it tells |
//! | `namespace` | inode of the pid namespace in which the pid is meant, if it can be read |
//! | `start` | start of the process in clock ticks since boot |
//! | `pidfd` | inode of its pidfd, where each process has one of its own (Linux 6.9) |
//! | `program` | device and inode of its executable, if it can be read |
//! | `user` | its real user |
//! | `nonce` | sixteen bytes that nobody can guess: this one claim |
//!
//! A record of ours is never seen half written, so one that is damaged was tampered with, and proves nothing.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::str::FromStr;

use crate::base::escape::hexadecimal;
use crate::system::identity::{Executable, Identity, Pid};

/// No record is longer, in bytes.
pub const LIMIT: usize = 4096;

/// What a pid file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Nothing, or blanks only: it may be between its creation and its filling.
    Empty,
    /// One of ours.
    Ours(Claim),
    /// A pid, and perhaps something else that only its own program understands.
    Bare(u32, FirstLine),
    /// Something that is no pid file, for this reason.
    Garbled(&'static str),
}

/// Whether the line with the pid has an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstLine {
    /// It has.
    Ended,
    /// The file ends with the number: it may be the beginning of a longer one.
    Open,
}

/// What we write: one process, one claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The process that is said to live.
    pub identity: Identity,
    /// This claim and no other.
    pub nonce: [u8; 16],
}

impl Claim {
    /// The bytes of the file.
    pub fn render(&self) -> String {
        let Identity { pid, start_ticks, boot_id, pid_namespace, pidfd_inode, executable, uid } = &self.identity;
        let mut text = format!("{pid}\nfm-watch=1\n");
        let mut line = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                // Writing into a string cannot fail.
                let _written = writeln!(text, "{name}={value}");
            }
        };
        line("boot", boot_id.clone());
        line("namespace", pid_namespace.map(|inode| inode.to_string()));
        line("start", Some(start_ticks.to_string()));
        line("pidfd", pidfd_inode.map(|inode| inode.to_string()));
        line("program", executable.as_ref().map(|program| format!("{}:{}", program.device, program.inode)));
        line("user", Some(uid.to_string()));
        line("nonce", Some(hexadecimal(&self.nonce)));
        text
    }

    fn parse(pid: Pid, rest: &str) -> Option<Self> {
        let mut values = BTreeMap::new();
        for (name, value) in rest.lines().filter_map(|line| line.split_once('=')) {
            // A name that is there twice could mean either.
            if values.insert(name, value).is_some() {
                return None;
            }
        }
        if values.get("fm-watch") != Some(&"1") || !rest.ends_with('\n') {
            return None;
        }
        let identity = Identity {
            pid,
            start_ticks: values.get("start")?.parse().ok()?,
            boot_id: values.get("boot").map(|&text| text.to_owned()),
            pid_namespace: optional(&values, "namespace").ok()?,
            pidfd_inode: optional(&values, "pidfd").ok()?,
            executable: values.get("program").map_or(Some(None), |text| program(text).map(Some))?,
            uid: values.get("user")?.parse().ok()?,
        };
        let nonce = values.get("nonce").filter(|text| text.len() == 32)?;
        Some(Self { identity, nonce: u128::from_str_radix(nonce, 16).ok()?.to_be_bytes() })
    }
}

/// A number that may be missing, but not be anything else.
fn optional<T: FromStr>(values: &BTreeMap<&str, &str>, name: &str) -> Result<Option<T>, T::Err> {
    values.get(name).map(|text| text.parse()).transpose()
}

fn program(text: &str) -> Option<Executable> {
    let (device, inode) = text.split_once(':')?;
    // The path is for people, who have `ps`; to compare, the inode is enough.
    Some(Executable { path: PathBuf::new(), device: device.parse().ok()?, inode: inode.parse().ok()? })
}

/// Reads a pid file of whatever program. At most `LIMIT + 1` bytes of it are needed.
pub fn parse(bytes: &[u8]) -> Record {
    if bytes.len() > LIMIT {
        return Record::Garbled("is too long for a pid file");
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Record::Empty;
    }
    let (first, rest) = match bytes.iter().position(|&byte| byte == b'\n') {
        Some(end) => (&bytes[..end], Some(&bytes[end + 1..])),
        None => (bytes, None),
    };
    let Some(pid) = decimal(first.trim_ascii()) else {
        return Record::Garbled("does not begin with a line that is the number of a process");
    };
    let Some(rest) = rest else { return Record::Bare(pid, FirstLine::Open) };
    let text = String::from_utf8_lossy(rest);
    if !text.lines().any(|line| line.starts_with("fm-watch=")) {
        return Record::Bare(pid, FirstLine::Ended);
    }
    match Pid::new(pid).and_then(|pid| Claim::parse(pid, &text)) {
        Some(claim) => Record::Ours(claim),
        None => Record::Garbled("is a damaged record of fm-watch, or one of a later version"),
    }
}

/// A number that a process can have, in digits only.
fn decimal(text: &[u8]) -> Option<u32> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: i32 = std::str::from_utf8(text).ok()?.parse().ok()?;
    u32::try_from(number).ok().filter(|&number| number > 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim() -> Claim {
        Claim {
            identity: Identity {
                pid: Pid::new(4711).unwrap(),
                start_ticks: 9,
                boot_id: Some("boot".to_owned()),
                pid_namespace: Some(1),
                pidfd_inode: Some(2),
                executable: Some(Executable { path: PathBuf::new(), device: 3, inode: 4 }),
                uid: 5,
            },
            nonce: [7; 16],
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let bare =
            Identity { boot_id: None, pid_namespace: None, pidfd_inode: None, executable: None, ..claim().identity };
        for claim in [claim(), Claim { identity: bare, nonce: [0; 16] }] {
            let text = claim.render();
            assert!(text.starts_with("4711\n"), "{text}");
            assert_eq!(parse(text.as_bytes()), Record::Ours(claim));
        }
    }

    #[test]
    fn no_word_but_the_first_can_be_taken_for_a_pid() {
        let text = claim().render();
        assert!(text.split_ascii_whitespace().skip(1).all(|word| word.starts_with(|c: char| c.is_ascii_lowercase())));
    }

    #[test]
    fn lines_of_a_later_version_are_passed_over_in_any_order() {
        let text = claim().render();
        let (first, rest) = text.split_once('\n').unwrap();
        let mut lines: Vec<_> = rest.lines().collect();
        lines.reverse();
        let text = format!("{first}\nnew=thing\nfree text\n{}\n", lines.join("\n"));
        assert_eq!(parse(text.as_bytes()), Record::Ours(claim()));
    }

    #[test]
    fn a_damaged_record_of_ours_is_no_foreign_one() {
        let text = claim().render();
        for end in 0..text.len() {
            let is_ours = matches!(parse(&text.as_bytes()[..end]), Record::Ours(_));
            assert!(!is_ours, "cut after {end} bytes");
        }
        for (from, to) in
            [("start=9", "start=x"), ("nonce=07", "nonce="), ("fm-watch=1", "fm-watch=2"), ("user=5\n", "")]
        {
            let damaged = text.replacen(from, to, 1);
            assert!(matches!(parse(damaged.as_bytes()), Record::Garbled(_)), "{damaged}");
        }
        assert!(matches!(parse(format!("{text}start=8\n").as_bytes()), Record::Garbled(_)));
        assert!(matches!(parse(text.replacen("4711", "1", 1).as_bytes()), Record::Garbled(_)));
    }

    #[test]
    fn foreign_files_are_read_by_their_first_line() {
        use FirstLine::{Ended, Open};
        let table: &[(&[u8], Record)] = &[
            (b"12\n", Record::Bare(12, Ended)),
            (b"12", Record::Bare(12, Open)),
            (b" 12 \t\n", Record::Bare(12, Ended)),
            (b"12\r\n", Record::Bare(12, Ended)),
            (b"0012\n", Record::Bare(12, Ended)),
            (b"1\n", Record::Bare(1, Ended)),
            (b"12\n/var/lib/thing\n5432 \xFF\n", Record::Bare(12, Ended)),
            (b"2147483647\n", Record::Bare(2_147_483_647, Ended)),
            (b"", Record::Empty),
            (b" \n\n", Record::Empty),
        ];
        for (bytes, record) in table {
            assert_eq!(&parse(bytes), record, "{}", bytes.escape_ascii());
        }
        let garbled: &[&[u8]] = &[
            b"0\n",
            b"-1\n",
            b"+5\n",
            b"1_000\n",
            b"2147483648\n",
            b"99999999999999999999\n",
            b"12 extra\n",
            b"\n12\n",
            b"12\0\n",
            b"\0\0\0\0",
            b"pid: 12\n",
            b"\xEF\xBB\xBF12\n",
            b"0x12\n",
            b"12.0\n",
        ];
        for bytes in garbled {
            assert!(matches!(parse(bytes), Record::Garbled(_)), "{}", bytes.escape_ascii());
        }
        assert!(matches!(parse(&[b'1'; LIMIT + 1]), Record::Garbled(_)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _record = parse(&bytes);
        }
    }
}
