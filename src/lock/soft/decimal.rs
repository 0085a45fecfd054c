//! Whole numbers of any size, as a peer in Python reads them.
//!
//! A record may carry a number of a thousand digits, and to the peer that is a number like any other. One that is cut to
//! a machine word here would be equal to another number, and equality decides who lives. So a number is kept as its
//! digits; nothing but equality and the lowest 64 bits is ever asked of it.

use std::fmt;

/// A whole number that is not negative.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Decimal(String);

impl Decimal {
    /// The number that consists of ASCII digits, of at least one, and of nothing else. Leading zeros do not count.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let digits = text.trim_start_matches('0');
        Some(Self(if digits.is_empty() { "0" } else { digits }.to_owned()))
    }

    /// The number whose 64-bit digits these are, the lowest first.
    pub(super) fn from_words(words: [u64; 3]) -> Self {
        // As many decimal digits at a time as leave room for a carry of 64 bits.
        const GROUP: u128 = 1_000_000_000_000_000_000;
        let (mut rest, mut groups) = (words, Vec::new());
        while rest != [0; 3] {
            let mut carry = 0;
            for word in rest.iter_mut().rev() {
                let dividend = (carry << 64) | u128::from(*word);
                // The carry is less than the divisor, so the quotient is less than 2^64.
                *word = u64::try_from(dividend / GROUP).unwrap_or(u64::MAX);
                carry = dividend % GROUP;
            }
            groups.push(format!("{carry:018}"));
        }
        groups.reverse();
        Self::parse(&groups.concat()).unwrap_or_else(|| Self("0".to_owned()))
    }

    /// The number modulo 2^64.
    pub(super) fn low(&self) -> u64 {
        self.0.bytes().fold(0, |number: u64, digit| number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')))
    }

    /// The number itself, if it is below 2^64.
    pub(super) fn as_word(&self) -> Option<u64> {
        self.0.parse().ok()
    }

    /// Its digits, without leading zeros.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<u32> for Decimal {
    fn from(number: u32) -> Self {
        Self(number.to_string())
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ascii_digits_are_a_number() {
        for text in ["", " 1", "1 ", "+5", "-1", "1_000", "0x1", "1.0", "\u{663}", "\u{ff11}"] {
            assert_eq!(Decimal::parse(text), None, "{text:?}");
        }
        assert_eq!(Decimal::parse("007"), Decimal::parse("7"));
        assert_eq!(Decimal::parse("000").unwrap().as_str(), "0");
    }

    #[test]
    fn a_number_of_any_size_keeps_its_value_and_its_lowest_bits() {
        let two_to_the_64 = Decimal::from_words([0, 1, 0]);
        assert_eq!(two_to_the_64.as_str(), "18446744073709551616");
        assert_eq!((two_to_the_64.low(), two_to_the_64.as_word()), (0, None));
        let largest = Decimal::from_words([u64::MAX; 3]);
        assert_eq!(largest.as_str(), "6277101735386680763835789423207666416102355444464034512895");
        assert_eq!(largest.low(), u64::MAX);
        assert_eq!(Decimal::from_words([0; 3]).as_str(), "0");
        assert_eq!(Decimal::from_words([7, 0, 0]).as_word(), Some(7));
        let long = format!("1{}", "0".repeat(1000));
        assert_eq!(Decimal::parse(&long).unwrap().as_str(), long);
        assert_eq!(Decimal::parse(&long).unwrap().low(), 0);
    }
}
