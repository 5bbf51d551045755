//! "Did you mean": the nearest of a few known words.
//!
//! Owns the one measure of nearness, so that wards, gates and file names are suggested alike. It never lists more than
//! it is given, and is only run after something already failed.

use crate::limits::{COMPARED_CHARS_MAX, SUGGESTION_CANDIDATES_MAX};

/// The candidate nearest to `word`, if one is near enough to be a slip of the hand: at most a third of the word wrong,
/// or the same but for case.
///
/// ```
/// assert_eq!(cantrip_gates::suggest::nearest("max_turn", ["max_depth", "max_turns"]), Some("max_turns"));
/// assert_eq!(cantrip_gates::suggest::nearest("colour", ["max_depth", "max_turns"]), None);
/// ```
pub fn nearest<'a, I>(word: &str, candidates: I) -> Option<&'a str>
where
    I: IntoIterator<Item = &'a str>,
{
    let word: Vec<char> = word.chars().take(COMPARED_CHARS_MAX + 1).flat_map(char::to_lowercase).collect();
    if word.is_empty() || word.len() > COMPARED_CHARS_MAX {
        return None;
    }
    let distance_max = (word.len() / 3).max(1);
    candidates
        .into_iter()
        .take(SUGGESTION_CANDIDATES_MAX)
        .filter_map(|candidate| {
            let chars: Vec<char> =
                candidate.chars().take(COMPARED_CHARS_MAX + 1).flat_map(char::to_lowercase).collect();
            if chars.len() > COMPARED_CHARS_MAX || chars.len().abs_diff(word.len()) > distance_max {
                return None;
            }
            crate::steps::count(word.len() * chars.len());
            let distance = distance(&word, &chars);
            (distance <= distance_max && distance < chars.len()).then_some((distance, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// `; did you mean …?` where something is near, else nothing.
pub fn hint<'a, I>(word: &str, candidates: I) -> String
where
    I: IntoIterator<Item = &'a str>,
{
    nearest(word, candidates).map(|found| format!("; did you mean `{found}`?")).unwrap_or_default()
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other.
fn distance(left: &[char], right: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    let mut left_before = None;
    for (row, &from) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        let mut right_before = None;
        for (column, &to) in right.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX / 2);
            let replaced = at(&above, column) + usize::from(from != to);
            let mut best = replaced.min(at(&above, column + 1) + 1).min(at(&current, column) + 1);
            if column > 0 && left_before == Some(to) && right_before == Some(from) {
                best = best.min(at(&before, column - 1) + 1);
            }
            current.push(best);
            right_before = Some(to);
        }
        before = std::mem::replace(&mut above, current);
        left_before = Some(from);
    }
    above.last().copied().unwrap_or(left.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(word: &str, expected: Option<&str>) {
        assert_eq!(nearest(word, ["max_turns", "max_tokens", "README.md", "a"]), expected, "for {word}");
    }

    #[test]
    fn slips_are_recognised() {
        check("max_turn", Some("max_turns"));
        check("max_trusn", Some("max_turns"));
        check("maxtokens", Some("max_tokens"));
        check("readme.md", Some("README.md"));
        check("REDME.md", Some("README.md"));
    }

    #[test]
    fn strangers_are_not() {
        check("", None);
        check("b", None);
        check("something_else", None);
        check(&"x".repeat(10_000), None);
    }

    #[test]
    fn a_swap_of_neighbours_is_one_slip() {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        assert_eq!(distance(&chars("ab"), &chars("ba")), 1);
        assert_eq!(distance(&chars("kitten"), &chars("sitting")), 3);
        assert_eq!(distance(&chars(""), &chars("abc")), 3);
        assert_eq!(distance(&chars("abc"), &chars("")), 3);
    }
}
