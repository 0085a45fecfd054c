//! Dice that can be thrown again: whom to kill, and how long to hold.
//!
//! The generator is `SplitMix64`. Chance decides nothing here that would have to be secret.

use std::time::Duration;

/// A source of chance.
#[derive(Debug, Clone)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// Dice that fall as their seed says.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// One of the first `count` indices; 0 when there is none.
    pub fn index(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.roll() % count).unwrap_or(0)
    }

    /// A time from nothing up to this one.
    pub fn up_to(&mut self, longest: Duration) -> Duration {
        let nanoseconds = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.roll() % nanoseconds.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_falls_the_same_way_and_another_seed_another_way() {
        let rolls = |seed| {
            let mut dice = Dice::new(seed);
            (0..8).map(|_| dice.roll()).collect::<Vec<_>>()
        };
        assert_eq!(rolls(7), rolls(7));
        assert_ne!(rolls(7), rolls(8));
    }

    #[test]
    fn what_is_thrown_stays_in_its_bounds_and_reaches_them() {
        let mut dice = Dice::new(1);
        let mut seen = [false; 3];
        for _ in 0..200 {
            seen[dice.index(3)] = true;
            assert!(dice.up_to(Duration::from_micros(300)) <= Duration::from_micros(300));
        }
        assert_eq!(seen, [true; 3]);
        assert_eq!((dice.index(0), dice.up_to(Duration::ZERO)), (0, Duration::ZERO));
    }
}
