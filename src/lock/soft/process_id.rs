//! What tells a process from every other one: the second and the third line of a record.
//!
//! The second says which machine, and which pid namespace on it, the pid means something in. Whoever gets this wrong
//! probes a pid that belongs to somebody else, finds nobody there, and breaks a live lock. So two places where pids differ
//! must never have the same text, and the text must be the same to all who share pids. The kernel stores any bytes as a
//! machine's name, and a record has lines, so bytes are escaped.
//!
//! The third says when the process started, and so tells it from a later one under its pid. The number is the boot id, taken as a number of 128 bits, times 2^64, plus the start in clock ticks since that boot.
//! Two of them are compared for equality and for nothing else. A process that could not read the boot id writes the
//! ticks alone; then the missing half proves nothing, and only the ticks are compared.

use std::fmt::{self, Write};

use sha2::{Digest, Sha256};

use super::decimal::Decimal;
use crate::base::escape::hexadecimal;

/// The boot as a number; 0 stands for a boot that nobody told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot(u128);

impl Boot {
    /// Reads the kernel's own text for it: hexadecimal digits and hyphens.
    pub fn of(id: Option<&str>) -> Self {
        Self(id.and_then(|id| u128::from_str_radix(&id.replace('-', ""), 16).ok()).unwrap_or(0))
    }

    /// Whether it is known.
    pub fn is_known(self) -> bool {
        self.0 != 0
    }
}

/// A start as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start(Decimal);

impl Start {
    /// The start of a process of this boot.
    pub fn new(boot: Boot, ticks: u64) -> Self {
        let low = u64::try_from(boot.0 & u128::from(u64::MAX)).unwrap_or(0);
        let high = u64::try_from(boot.0 >> 64).unwrap_or(0);
        Self(Decimal::from_words([ticks, low, high]))
    }

    /// Reads the third line of a record.
    pub fn parse(line: &str) -> Option<Self> {
        Decimal::parse(line).map(Self)
    }

    /// Whether both are the start of one process.
    pub fn is_same(&self, other: &Self) -> bool {
        let is_comparable_by_ticks = !self.names_a_boot() || !other.names_a_boot();
        self == other || (is_comparable_by_ticks && self.0.low() == other.0.low())
    }

    /// Whether it tells of which boot it is.
    pub fn names_a_boot(&self) -> bool {
        self.0.as_word().is_none()
    }

    /// Whether it can be of this boot: not if both are known and differ.
    pub fn can_be_of(&self, boot: Boot) -> bool {
        !boot.is_known() || !self.names_a_boot() || *self == Self::new(boot, self.0.low())
    }
}

impl fmt::Display for Start {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A longer text is cut, and the cut part is summed up in what replaces it.
const LONGEST: usize = 253;
/// So many characters of the sum of the cut part end a cut text.
const SUM: usize = 8;
/// The kernel fixes the inode of the first pid namespace (`PROC_PID_INIT_INO` in `linux/proc_ns.h`). It needs no mark.
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;
/// What stands before the pid namespace. No escaped byte can give it.
pub const NAMESPACE_MARK: &str = "?pidns-";

/// The text for a machine's name and the inode of a pid namespace on it.
pub fn host(name: &[u8], pid_namespace: Option<u64>) -> String {
    let mut label = String::with_capacity(name.len() + 16);
    for &byte in name {
        if byte.is_ascii_graphic() && byte != b'?' {
            label.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _infallible = write!(label, "?{byte:02x}");
        }
    }
    if let Some(inode) = pid_namespace.filter(|&inode| inode != FIRST_PID_NAMESPACE) {
        let _infallible = write!(label, "{NAMESPACE_MARK}{inode:x}");
    }
    if label.len() > LONGEST {
        let kept = LONGEST - SUM - 1;
        let sum = Sha256::digest(&label.as_bytes()[kept..]);
        label.truncate(kept);
        label.push('-');
        label.push_str(&hexadecimal(&sum[..SUM / 2]));
    }
    if label.is_empty() { "?".to_owned() } else { label }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot() -> Boot {
        Boot::of(Some("0123-4567-89ab-cdef-0000-0000-0000-0001"))
    }

    #[test]
    fn a_start_is_the_boot_above_64_bits_of_ticks() {
        assert_eq!(Start::new(Boot(1), 5).to_string(), ((1_u128 << 64) + 5).to_string());
        assert_eq!(Start::new(Boot::of(None), 5).to_string(), "5");
        assert_eq!(Start::new(Boot(u128::MAX), u64::MAX).to_string().len(), 58);
    }

    #[test]
    fn a_boot_that_cannot_be_read_is_unknown() {
        for id in [None, Some(""), Some("not a number"), Some("0"), Some("-")] {
            assert!(!Boot::of(id).is_known(), "{id:?}");
        }
        assert!(boot().is_known());
    }

    #[test]
    fn starts_are_compared_whole_unless_one_of_them_names_no_boot() {
        let start = Start::new(boot(), 77);
        assert!(start.is_same(&Start::new(boot(), 77)));
        assert!(!start.is_same(&Start::new(boot(), 78)));
        assert!(!start.is_same(&Start::new(Boot(9), 77)));
        for (ticks, is_same) in [("77", true), ("077", true), ("78", false)] {
            assert_eq!(start.is_same(&Start::parse(ticks).unwrap()), is_same, "{ticks}");
            assert_eq!(Start::parse(ticks).unwrap().is_same(&start), is_same, "{ticks}");
        }
        // Beyond all that a boot id can be, and equal to ours in the lowest 64 and 192 bits.
        let huge = Start::parse(&format!("{}{}", "9".repeat(300), start)).unwrap();
        assert!(!start.is_same(&huge));
    }

    #[test]
    fn a_start_can_be_of_a_boot_unless_it_names_another() {
        let start = Start::new(boot(), 77);
        assert!(start.can_be_of(boot()));
        assert!(!start.can_be_of(Boot(9)));
        assert!(start.can_be_of(Boot::of(None)));
        assert!(Start::parse("77").unwrap().can_be_of(boot()));
    }

    #[test]
    fn what_is_no_plain_character_is_escaped() {
        assert_eq!(host(b"build-7.example", Some(FIRST_PID_NAMESPACE)), "build-7.example");
        assert_eq!(host(b"a b\nc\0?\xff\x7f", None), "a?20b?0ac?00?3f?ff?7f");
        assert_eq!(host(b"", None), "?");
    }

    #[test]
    fn another_pid_namespace_is_another_place() {
        assert_eq!(host(b"host", Some(0xF000_0123)), "host?pidns-f0000123");
        assert_eq!(host(b"", Some(1)), "?pidns-1");
        // A machine that is called so is not mistaken for it.
        assert_eq!(host(b"host?pidns-1", None), "host?3fpidns-1");
    }

    #[test]
    fn a_long_name_is_cut_and_keeps_apart_what_was_cut() {
        assert_eq!(host(&[b'a'; 253], None), "a".repeat(253));
        let (one, other) = ([[b'a'; 260].as_slice(), b"1"].concat(), [[b'a'; 260].as_slice(), b"2"].concat());
        let (one, other) = (host(&one, None), host(&other, None));
        assert_eq!((one.len(), other.len()), (253, 253));
        assert_eq!(one[..245], other[..245]);
        assert_ne!(one, other);
    }
}
