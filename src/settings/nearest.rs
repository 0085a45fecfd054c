//! What somebody probably meant.

/// The candidate that is fewest edits away from a word, if those are few enough to be a slip.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // More than a third of the word is not a slip. Very long words are not compared at all: the price is a product.
    const LONGEST: usize = 64;
    if word.chars().count() > LONGEST {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= candidate.len().div_ceil(3))
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// The number of single-character insertions, removals and replacements between two words.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (index, from) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, to) in right.chars().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[right.chars().count()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_textbook() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("poll", "poll"), 0);
    }

    #[test]
    fn a_slip_finds_its_word_and_a_stranger_finds_none() {
        let words = ["poll", "heartbeat", "heartbeat_max"];
        assert_eq!(nearest("pol", words), Some("poll"));
        assert_eq!(nearest("heartbeat-max", words), Some("heartbeat_max"));
        assert_eq!(nearest("banana", words), None);
        assert_eq!(nearest(&"x".repeat(1 << 20), words), None);
    }
}
