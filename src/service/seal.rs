//! The seal of a written service: by it a text of ours that a person has changed since is told from one that nobody has.
//!
//! The last line of the text carries a digest of the rest. A text whose digest is right was written by some release of this
//! program and by nobody else, so it may be replaced or removed. Any other text holds a person's work.
//!
//! Limits: it guards against mistakes. Whoever means to forge it can.

use super::unit_name::digest;

/// What stands before the digest.
pub(super) const BEFORE: &str = "Seal: ";
/// As many characters as a digest has.
const LENGTH: usize = 32;

/// What a text has in place of its seal until it is sealed.
pub(super) fn blank() -> String {
    format!("{BEFORE}{}", "0".repeat(LENGTH))
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
    let at = text.rfind(BEFORE)? + BEFORE.len();
    let end = at + LENGTH;
    Some((text.get(..at)?, text.get(at..end)?, text.get(end..)?))
}

fn seal_of(before: &str, behind: &str) -> String {
    format!("{:032x}", digest(format!("{before}{behind}").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_anywhere_breaks_the_seal() {
        let text = sealed(&format!("# Seal: of a path\none\ntwo\n# {}\n", blank()));
        assert!(is_whole(&text), "{text}");
        for position in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[position] ^= 1;
            assert!(!is_whole(&String::from_utf8(changed).unwrap()), "byte {position} of {text}");
        }
        assert!(!is_whole(&format!("{text}\n")) && !is_whole("") && !is_whole("Seal: "));
    }
}
