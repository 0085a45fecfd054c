//! The second line of a record: which machine, and which pid namespace on it, the pid means something in.
//!
//! Whoever gets this wrong probes a pid that belongs to somebody else, finds nobody there, and breaks a live lock. So
//! two places where pids differ must never have the same text, and the text must be the same to all who share pids. The
//! kernel stores any bytes as a machine's name, and a record has lines, so bytes are escaped.

use crate::base::escape::hexadecimal;
use std::fmt::Write;

use sha2::{Digest, Sha256};

/// A longer text is cut, and the cut part is summed up in what replaces it.
const LONGEST: usize = 253;
/// So many characters of the sum of the cut part end a cut text.
const SUM: usize = 8;
/// The kernel fixes the inode of the first pid namespace (`PROC_PID_INIT_INO` in `linux/proc_ns.h`). It needs no mark.
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;
/// What stands before the pid namespace. No escaped byte can give it.
pub const NAMESPACE_MARK: &str = "?pidns-";

/// The text for a machine's name and the inode of a pid namespace on it.
pub fn label(name: &[u8], pid_namespace: Option<u64>) -> String {
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

    #[test]
    fn what_is_no_plain_character_is_escaped() {
        assert_eq!(label(b"build-7.example", Some(FIRST_PID_NAMESPACE)), "build-7.example");
        assert_eq!(label(b"a b\nc\0?\xff\x7f", None), "a?20b?0ac?00?3f?ff?7f");
        assert_eq!(label(b"", None), "?");
    }

    #[test]
    fn another_pid_namespace_is_another_place() {
        assert_eq!(label(b"host", Some(0xF000_0123)), "host?pidns-f0000123");
        assert_eq!(label(b"", Some(1)), "?pidns-1");
        // A machine that is called so is not mistaken for it.
        assert_eq!(label(b"host?pidns-1", None), "host?3fpidns-1");
    }

    #[test]
    fn a_long_name_is_cut_and_keeps_apart_what_was_cut() {
        assert_eq!(label(&[b'a'; 253], None), "a".repeat(253));
        let (one, other) = ([[b'a'; 260].as_slice(), b"1"].concat(), [[b'a'; 260].as_slice(), b"2"].concat());
        let (one, other) = (label(&one, None), label(&other, None));
        assert_eq!((one.len(), other.len()), (253, 253));
        assert_eq!(one[..245], other[..245]);
        assert_ne!(one, other);
    }
}
