//! Finding wakes among bytes.
//!
//! What is a wake is decided by its seal, and what is damaged is simply what lies between wakes. Lines are the fast
//! way from one wake to the next. Where a line is not a wake, the ends of records are looked for inside it, because a
//! lost line end glues two good wakes together. For each end of a record only the last beginning before it can be its
//! own, so the search is linear whatever the bytes are.
//!
//! Limits: of bytes without any line end at most [`STRETCH`] are held; memory never follows a length on disk.

use std::ops::{ControlFlow, Range};

use super::codec::{self, HEAD, LIMIT, Record, SEAL, SEAL_LENGTH};

/// How many bytes without a line end are held before they are searched as they are.
const STRETCH: usize = 4 * LIMIT;

/// A wake and where it stands.
#[derive(Debug)]
pub(crate) struct Placed {
    /// The offset of its first byte.
    pub(crate) start: u64,
    /// The offset after its last byte, its line end included.
    pub(crate) end: u64,
    /// Whether it has its line end.
    pub(crate) ending: LineEnd,
    /// The wake.
    pub(crate) record: Record,
}

/// Whether a record is followed by a line end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineEnd {
    /// It is.
    Present,
    /// It is not: nobody may append here.
    Missing,
}

/// Whether more bytes follow those that are fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follows {
    /// Perhaps.
    More,
    /// No: what is left is judged as it is.
    Nothing,
}

/// Walks over bytes and remembers which of them are no wakes.
#[derive(Debug)]
pub(crate) struct Scanner {
    covered: u64,
    gaps: Vec<Range<u64>>,
}

impl Scanner {
    /// A scanner whose first byte has this offset.
    pub(crate) fn starting_at(offset: u64) -> Self {
        Self { covered: offset, gaps: Vec::new() }
    }

    /// Where the last wake ended; up to there every byte is a wake or in a gap.
    pub(crate) fn covered(&self) -> u64 {
        self.covered
    }

    /// The ranges before and between wakes that are none.
    pub(crate) fn into_gaps(self) -> Vec<Range<u64>> {
        self.gaps
    }

    /// Hands every wake in `bytes`, which begin at `offset`, to `sink` until that breaks off. Says how many of the
    /// bytes are done with; the others are to be fed again with those that follow.
    pub(crate) fn feed(
        &mut self,
        offset: u64,
        bytes: &[u8],
        follows: Follows,
        sink: &mut impl FnMut(Placed) -> ControlFlow<()>,
    ) -> (usize, ControlFlow<()>) {
        let mut done = 0;
        while let Some(length) = bytes[done..].iter().position(|byte| *byte == b'\n') {
            let flow = self.take_line(offset + done as u64, &bytes[done..=done + length], sink);
            done += length + 1;
            if flow.is_break() {
                return (done, flow);
            }
        }
        let rest = &bytes[done..];
        if follows == Follows::More && rest.len() < STRETCH {
            return (done, ControlFlow::Continue(()));
        }
        let flow = self.rescue(offset + done as u64, rest, sink);
        // A record that has only begun may stand in the last bytes.
        let kept = if follows == Follows::More { LIMIT } else { 0 };
        let taken = usize::try_from(self.covered.saturating_sub(offset)).unwrap_or(bytes.len());
        (taken.clamp(done.max(bytes.len() - kept.min(rest.len())), bytes.len()), flow)
    }

    /// Takes one line, its end included.
    fn take_line(&mut self, at: u64, line: &[u8], sink: &mut impl FnMut(Placed) -> ControlFlow<()>) -> ControlFlow<()> {
        match codec::decode(&line[..line.len() - 1]) {
            Some(record) => self.accept(at, line.len(), LineEnd::Present, record, sink),
            None => self.rescue(at, line, sink),
        }
    }

    /// Looks for wakes inside bytes that are not one line with one wake.
    fn rescue(&mut self, at: u64, bytes: &[u8], sink: &mut impl FnMut(Placed) -> ControlFlow<()>) -> ControlFlow<()> {
        let mut from = 0;
        while let Some(seal) = find(&bytes[from..], SEAL) {
            let end = (from + seal + SEAL_LENGTH).min(bytes.len());
            let found = rfind(&bytes[from..from + seal], HEAD)
                .and_then(|head| Some((from + head, codec::decode(&bytes[from + head..end])?)));
            let Some((start, record)) = found else {
                from += seal + SEAL.len();
                continue;
            };
            let ending = if bytes.get(end) == Some(&b'\n') { LineEnd::Present } else { LineEnd::Missing };
            from = end + usize::from(ending == LineEnd::Present);
            self.accept(at + start as u64, from - start, ending, record, sink)?;
        }
        ControlFlow::Continue(())
    }

    fn accept(
        &mut self,
        start: u64,
        length: usize,
        ending: LineEnd,
        record: Record,
        sink: &mut impl FnMut(Placed) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if start > self.covered {
            self.gaps.push(self.covered..start);
        }
        self.covered = start + length as u64;
        sink(Placed { start, end: self.covered, ending, record })
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn rfind(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).rposition(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::journal::codec::tests::wake;

    fn lines(count: u64) -> Vec<Vec<u8>> {
        (1..=count).map(|seq| codec::encode(&mut wake(seq), seq).unwrap()).collect()
    }

    /// Feeds bytes in pieces and returns the numbers found, the gaps and the end of the last wake.
    fn scan_in_pieces(bytes: &[u8], piece: usize) -> (Vec<u64>, Vec<Range<u64>>, u64) {
        let mut scanner = Scanner::starting_at(0);
        let (mut found, mut held, mut offset) = (Vec::new(), Vec::new(), 0);
        let mut pieces = bytes.chunks(piece).peekable();
        while let Some(next) = pieces.next() {
            held.extend_from_slice(next);
            let follows = if pieces.peek().is_some() { Follows::More } else { Follows::Nothing };
            let (done, _) = scanner.feed(offset, &held, follows, &mut |placed| {
                found.push(placed.record.wake.seq);
                ControlFlow::Continue(())
            });
            held.drain(..done);
            offset += done as u64;
        }
        let covered = scanner.covered();
        (found, scanner.into_gaps(), covered)
    }

    #[test]
    fn every_single_bit_flip_costs_at_most_its_own_wake_and_is_noticed() {
        let lines = lines(3);
        let whole = lines.concat();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let mut end = 0;
            let hit = lines.iter().position(|line| {
                end += line.len();
                bit / 8 < end
            });
            let hit = hit.unwrap() as u64 + 1;
            let (found, gaps, covered) = scan_in_pieces(&bytes, bytes.len());
            let expected: Vec<u64> = (1..=3).filter(|seq| *seq != hit || found.contains(&hit)).collect();
            assert_eq!(found, expected, "bit {bit}");
            assert!(!gaps.is_empty() || covered < bytes.len() as u64, "bit {bit} went unnoticed");
        }
    }

    #[test]
    fn every_cut_of_the_last_line_leaves_the_others() {
        let lines = lines(3);
        let whole = lines.concat();
        let kept = lines[0].len() + lines[1].len();
        for length in kept..whole.len() - 1 {
            let (found, gaps, covered) = scan_in_pieces(&whole[..length], 64);
            assert_eq!((found, gaps, covered), (vec![1, 2], vec![], kept as u64), "cut at {length}");
        }
        // Only the line end is missing: the wake is whole, so it is told.
        assert_eq!(scan_in_pieces(&whole[..whole.len() - 1], 64).0, [1, 2, 3]);
    }

    #[test]
    fn a_stretch_without_line_ends_is_not_held_in_memory() {
        let mut bytes = vec![0; 3 * STRETCH];
        let tail = lines(1).concat();
        bytes.extend_from_slice(&tail[..tail.len() - 1]);
        bytes.extend_from_slice(&vec![0; 2 * STRETCH]);
        let (found, gaps, _) = scan_in_pieces(&bytes, 10_000);
        assert_eq!(found, [1]);
        assert_eq!(gaps.first(), Some(&(0..3 * STRETCH as u64)));
        assert_eq!(gaps.len(), 1);
    }

    proptest! {
        #[test]
        fn garbage_between_wakes_is_a_gap_and_nothing_else(
            garbage in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 4),
            piece in 1_usize..500,
        ) {
            let lines = lines(3);
            let mut bytes = Vec::new();
            let mut expected = 0;
            for (index, dirt) in garbage.iter().enumerate() {
                bytes.extend_from_slice(dirt);
                expected += dirt.len() as u64;
                if let Some(line) = lines.get(index) {
                    bytes.extend_from_slice(line);
                }
            }
            let (found, gaps, covered) = scan_in_pieces(&bytes, piece);
            let lost = gaps.iter().map(|gap| gap.end - gap.start).sum::<u64>() + (bytes.len() as u64 - covered);
            prop_assert_eq!(found, vec![1, 2, 3]);
            prop_assert_eq!(lost, expected);
        }
    }
}
