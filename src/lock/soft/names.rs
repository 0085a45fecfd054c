//! The names beside a lock's own.
//!
//! `<lock>.break.<pid>.<32 hex>` is what a breaker has taken from the lock's name, or is about to put there.
//! `<lock>.restore.<pid>.<32 hex>` is such a thing in the hands of somebody who wants to put it back. Both are the
//! peer's names, so that either side can finish what the other began. `<lock>.new.<pid>.<32 hex>` is ours alone: a record
//! that has not been published yet; the peer never looks at it.
//!
//! A number in a name was written by anybody who may write here, so it is read like any other input.

use std::ffi::{OsStr, OsString};

use super::decimal::Decimal;
use super::marker::pid_of;
use crate::base::escape::hexadecimal;

/// What a name beside a lock's says that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trace {
    /// A breaker's, by the digits in the name.
    Aside(String),
    /// Somebody's who puts back what a breaker had taken.
    Claim(u32),
    /// A record that its writer has not published.
    Private(u32),
}

const ASIDE: &str = ".break.";
const CLAIM: &str = ".restore.";
const PRIVATE: &str = ".new.";

/// A name for what the breaker whose record says `pid` puts in place and takes away.
pub(super) fn aside(lock: &OsStr, pid: &Decimal, nonce: [u8; 16]) -> OsString {
    name(lock, ASIDE, pid.as_str(), nonce)
}

/// A name for what the process `pid` puts back.
pub(super) fn claim(lock: &OsStr, pid: u32, nonce: [u8; 16]) -> OsString {
    name(lock, CLAIM, &pid.to_string(), nonce)
}

/// A name for what the process `pid` prepares.
pub(super) fn private(lock: &OsStr, pid: u32, nonce: [u8; 16]) -> OsString {
    name(lock, PRIVATE, &pid.to_string(), nonce)
}

fn name(lock: &OsStr, sign: &str, pid: &str, nonce: [u8; 16]) -> OsString {
    let mut name = lock.to_owned();
    name.push(format!("{sign}{pid}.{}", hexadecimal(&nonce)));
    name
}

/// Reads a name in the directory of a lock.
pub(super) fn trace(lock: &OsStr, name: &OsStr) -> Option<Trace> {
    let end = name.as_encoded_bytes().strip_prefix(lock.as_encoded_bytes())?;
    let end = std::str::from_utf8(end).ok()?;
    let numbered = |sign: &str| {
        let (pid, nonce) = end.strip_prefix(sign)?.split_once('.')?;
        let is_nonce = nonce.len() == 32 && nonce.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let is_number = is_nonce.then(|| Decimal::parse(pid))?;
        is_number.map(|number| (pid, number))
    };
    if let Some((digits, _)) = numbered(ASIDE) {
        return Some(Trace::Aside(digits.to_owned()));
    }
    // Nobody writes a claim under a number that is no pid, and such a number can be asked nothing.
    let claim = numbered(CLAIM).and_then(|(_, number)| pid_of(&number)).map(Trace::Claim);
    claim.or_else(|| numbered(PRIVATE).and_then(|(_, number)| pid_of(&number)).map(Trace::Private))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str) -> Option<Trace> {
        trace(OsStr::new("a.lock"), OsStr::new(name))
    }

    #[test]
    fn what_is_named_is_recognised() {
        let (lock, nonce) = (OsStr::new("a.lock"), [0xAB; 16]);
        let name = aside(lock, &Decimal::from(7), nonce);
        assert_eq!(name, *"a.lock.break.7.abababababababababababababababab");
        assert_eq!(trace(lock, &name), Some(Trace::Aside("7".to_owned())));
        assert_eq!(trace(lock, &claim(lock, 7, nonce)), Some(Trace::Claim(7)));
        assert_eq!(trace(lock, &private(lock, 7, nonce)), Some(Trace::Private(7)));
    }

    #[test]
    fn forged_numbers_and_other_names_are_nobodys() {
        let nonce = "ab".repeat(16);
        for name in [
            "a.lock".to_owned(),
            "a.lock.break.7.".to_owned(),
            format!("b.lock.break.7.{nonce}"),
            format!("a.lock.break.7.{nonce}0"),
            format!("a.lock.break.7.{}", nonce.to_uppercase()),
            format!("a.lock.break..{nonce}"),
            format!("a.lock.break.-7.{nonce}"),
            format!("a.lock.break.7.7.{nonce}"),
            format!("a.lock.restore.0.{nonce}"),
            format!("a.lock.restore.2147483648.{nonce}"),
            format!("a.lock.restore.{}.{nonce}", "9".repeat(99)),
            format!("a.lock.restore.\u{ff17}.{nonce}"),
        ] {
            assert_eq!(read(&name), None, "{name}");
        }
        assert_eq!(read(&format!("a.lock.restore.2147483647.{nonce}")), Some(Trace::Claim(2_147_483_647)));
        assert_eq!(read(&format!("a.lock.restore.007.{nonce}")), Some(Trace::Claim(7)));
        // A breaker's name is compared as text with the pid in a record, so it may be any number.
        assert_eq!(read(&format!("a.lock.break.007.{nonce}")), Some(Trace::Aside("007".to_owned())));
    }
}
