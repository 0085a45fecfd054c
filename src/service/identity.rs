//! What a service of this program is known by: the name of its home, and the seal of its text.
//!
//! # The name
//!
//! It is the path of the state directory, written in the characters that every service manager allows in a file name, and
//! in such a way that the path can be read back. Two homes therefore have two names, always; a digest would only make a
//! collision unlikely. A path that is too long for a file name gets a digest of 128 bits instead, and whoever writes
//! a service looks first whether the one that is there is of another home.
//!
//! # The seal
//!
//! By the seal of a written service a text of ours that a person has changed since is told from one that nobody has.
//!
//! The last line of the text carries a digest of the rest. A text whose digest is right was written by some release of this
//! program and by nobody else, so it may be replaced or removed. Any other text holds a person's work.
//!
//! Limits: it guards against mistakes. Whoever means to forge it can.

use std::fmt;
use std::path::Path;

/// The longest name that is written in full; with what is put behind it, it fits into a file name (255 bytes).
const LONGEST: usize = 200;

/// A name, without what the manager puts behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label(String);

impl Label {
    /// The name for a state directory, given by its real path: no link in it, and absolute.
    pub fn of_state(real: &Path) -> Self {
        let bytes = real.as_os_str().as_encoded_bytes();
        let written = format!("fm-watch{}", escaped(bytes));
        // After "fm-watch" a path goes on with "-", a digest with ".".
        if written.len() <= LONGEST { Self(written) } else { Self(format!("fm-watch.{:032x}", digest(bytes))) }
    }

    /// It as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// `/` becomes `-`; letters of ASCII and digits stay; each other byte becomes `_` and two hexadecimal digits.
fn escaped(path: &[u8]) -> String {
    let one = |&byte: &u8| match byte {
        b'/' => "-".to_owned(),
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        other => format!("_{other:02x}"),
    };
    path.iter().map(one).collect()
}

/// FNV-1a of 128 bits.
pub(super) fn digest(bytes: &[u8]) -> u128 {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.iter().fold(BASIS, |digest, &byte| (digest ^ u128::from(byte)).wrapping_mul(PRIME))
}

/// What stands before the digest.
pub(super) const SEAL: &str = "Seal: ";
/// As many characters as a digest has.
const LENGTH: usize = 32;

/// What a text has in place of its seal until it is sealed.
pub(super) fn blank_seal() -> String {
    format!("{SEAL}{}", "0".repeat(LENGTH))
}

/// The text with its seal.
pub(super) fn sealed(text: &str) -> String {
    match parts(text) {
        Some((before, _, behind)) => format!("{before}{}{behind}", seal_of(before, behind)),
        None => text.to_owned(),
    }
}

/// Whether nobody has changed a text since it was sealed.
pub(super) fn is_whole(text: &str) -> bool {
    parts(text).is_some_and(|(before, seal, behind)| seal_of(before, behind) == seal)
}

/// The text around the seal: it is the last thing that looks like one.
fn parts(text: &str) -> Option<(&str, &str, &str)> {
    let at = text.rfind(SEAL)? + SEAL.len();
    let end = at + LENGTH;
    Some((text.get(..at)?, text.get(at..end)?, text.get(end..)?))
}

fn seal_of(before: &str, behind: &str) -> String {
    format!("{:032x}", digest(format!("{before}{behind}").as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn label(path: &str) -> String {
        Label::of_state(Path::new(path)).to_string()
    }

    #[test]
    fn a_name_shows_the_path_it_stands_for() {
        assert_eq!(label("/home/ann/fleet/state"), "fm-watch-home-ann-fleet-state");
        assert_eq!(label("/srv/a b/x-y_z.é"), "fm-watch-srv-a_20b-x_2dy_5fz_2e_c3_a9");
    }

    #[test]
    fn no_two_paths_have_one_name() {
        // Every text of up to five of the characters that could be taken for one another.
        let mut paths = vec![String::new()];
        for _ in 0..5 {
            let longer =
                paths.iter().flat_map(|path| ["/", "-", "_", "2", "d", "."].map(|next| format!("{path}{next}")));
            paths.extend(longer.collect::<Vec<_>>());
        }
        let paths: BTreeSet<String> = paths.into_iter().collect();
        let names: BTreeSet<String> = paths.iter().map(|path| label(&format!("/{path}"))).collect();
        assert_eq!(names.len(), paths.len());
    }

    #[test]
    fn a_long_path_fits_into_a_file_name_and_is_still_its_own() {
        let long = |end: &str| label(&format!("/{}/{end}", "long".repeat(100)));
        assert!(long("a").len() <= LONGEST && long("a").starts_with("fm-watch."), "{}", long("a"));
        assert_ne!(long("a"), long("b"));
    }

    #[test]
    fn a_change_anywhere_breaks_the_seal() {
        let text = sealed(&format!("# Seal: of a path\none\ntwo\n# {}\n", blank_seal()));
        assert!(is_whole(&text), "{text}");
        for position in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[position] ^= 1;
            assert!(!is_whole(&String::from_utf8(changed).unwrap()), "byte {position} of {text}");
        }
        assert!(!is_whole(&format!("{text}\n")) && !is_whole("") && !is_whole("Seal: "));
    }
}
