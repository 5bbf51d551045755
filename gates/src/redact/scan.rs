//! Where values end, found by looking at each byte once.
//!
//! Owns the answers to "where does the word, the line, the list or the quote that begins here end, and what is in it",
//! asked again and again for places that only grow. A text can name a secret thousands of times within one word; each
//! name asks, and all but the first are answered from what is known already.

use std::sync::LazyLock;

use regex::Regex;

use super::{MARKER, MARKERS, pattern};
use crate::limits::REDACTION_FRONT_BYTES_MAX;
use crate::steps;

/// Where a value without quotes ends: at white space, a quote or a tag, also where these are written with a backslash.
static WORD_END: LazyLock<Regex> = LazyLock::new(|| pattern(r#"[\s"'`<]|\\+[nrt"']"#));
/// Where a list of parameters ends, as some authorization headers have it.
static LIST_END: LazyLock<Regex> = LazyLock::new(|| pattern(r#"[\r\n"'`]|\\+[nrt"']"#));
/// Where a line ends, also one that is written as `\n`, and an escaped quote.
static LINE_END: LazyLock<Regex> = LazyLock::new(|| pattern(r#"[\r\n]|\\+[nrt"']"#));

/// What is looked for.
#[derive(Debug, Clone, Copy)]
enum Stop {
    Word,
    List,
    Line,
    /// The end of a parameter in a URL.
    Parameter,
    /// This quote with few enough backslashes before it, or the end of the line.
    Quote(u8, Backslashes),
}

/// With how many backslashes a quote closes what it opened with.
#[derive(Debug, Clone, Copy)]
enum Backslashes {
    /// Pairs only: an odd one makes the quote a part of the value.
    Pairs,
    AtMost(usize),
}

impl Stop {
    /// The first place from `start` on, or the end of the text.
    fn find(self, text: &str, start: usize) -> usize {
        let rest = text.get(start..).unwrap_or_default();
        let end = |pattern: &Regex| pattern.find(rest).map_or(rest.len(), |found| found.start());
        let found = match self {
            Self::Word => end(&WORD_END),
            Self::List => end(&LIST_END),
            Self::Line => end(&LINE_END),
            Self::Parameter => rest.find(['&', '#']).unwrap_or(rest.len()),
            Self::Quote(quote, closes) => quote_end(rest, quote, closes),
        };
        steps::count(found + 1);
        start + found
    }
}

fn quote_end(rest: &str, quote: u8, closes: Backslashes) -> usize {
    let mut backslashes = 0_usize;
    for (at, byte) in rest.bytes().enumerate() {
        let ends = match closes {
            Backslashes::Pairs => backslashes.is_multiple_of(2),
            Backslashes::AtMost(most) => backslashes <= most,
        };
        if matches!(byte, b'\r' | b'\n') || (byte == quote && ends) {
            return at;
        }
        backslashes = if byte == b'\\' { backslashes + 1 } else { 0 };
    }
    rest.len()
}

/// The last answer to one question: from every place in between, the answer is the same.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    from: usize,
    to: Option<usize>,
}

impl Known {
    fn after(&mut self, text: &str, start: usize, stop: Stop) -> usize {
        match self.to {
            Some(to) if (self.from..=to).contains(&start) => to,
            Some(_) | None => {
                let to = stop.find(text, start);
                *self = Self { from: start, to: Some(to) };
                to
            }
        }
    }
}

/// How the value of one name ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// At the end of its word.
    Word,
    /// At the end of its word or of its parameter in a URL.
    Parameter,
}

/// What is known of a word from some place in it to its end.
#[derive(Debug, Clone, Copy, Default)]
struct Facts {
    from: usize,
    end: usize,
    last_digit: Option<usize>,
    last_marker: Option<usize>,
    /// The last letter or digit that is not in a marker.
    last_own: Option<usize>,
    /// The end without punctuation.
    trimmed: usize,
    stands_alone: bool,
    stands_alone_trimmed: bool,
}

/// What a word that begins at a certain place is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word {
    /// Where it ends, without the punctuation behind it.
    pub(super) end: usize,
    /// Where it ends with the punctuation.
    pub(super) whole_end: usize,
    /// Whether a digit is in it.
    pub(super) has_digit: bool,
    /// Whether a letter or digit is in it that no marker brought.
    pub(super) has_own: bool,
    /// Whether what follows is the end of its line or punctuation, and not more words.
    pub(super) stands_alone: bool,
}

/// A text, and what is known of it.
pub(super) struct Scan<'a> {
    text: &'a str,
    word: Known,
    list: Known,
    line: Known,
    parameter: Known,
    quotes: [[Known; 6]; 3],
    words: [Facts; 2],
}

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let facts = [Facts::default(); 2];
        let (word, list, line, parameter) = Default::default();
        Self { text, word, list, line, parameter, quotes: Default::default(), words: facts }
    }

    pub(super) fn line_end(&mut self, start: usize) -> usize {
        self.line.after(self.text, start, Stop::Line)
    }

    pub(super) fn list_end(&mut self, start: usize) -> usize {
        self.list.after(self.text, start, Stop::List)
    }

    pub(super) fn word_end(&mut self, start: usize) -> usize {
        self.word.after(self.text, start, Stop::Word)
    }

    /// Where a quote that was opened with `own` backslashes closes on its line, without the backslashes before it.
    pub(super) fn closing(&mut self, start: usize, quote: u8, own: usize) -> Option<usize> {
        // Texts within texts escape their quotes with 0, 1, 3, 7 … backslashes; what lies between closes like the next.
        let (class, closes) = match own {
            0 => (0, Backslashes::Pairs),
            1..=3 => (own, Backslashes::AtMost(own)),
            4..=7 => (4, Backslashes::AtMost(7)),
            8.. => (5, Backslashes::AtMost(usize::MAX)),
        };
        let row = match quote {
            b'"' => 0,
            b'\'' => 1,
            _ => 2,
        };
        let known = self.quotes.get_mut(row)?.get_mut(class)?;
        let at = known.after(self.text, start, Stop::Quote(quote, closes));
        let inner = self.text.as_bytes().get(start..at)?;
        let backslashes = inner.iter().rev().take(own).take_while(|byte| **byte == b'\\').count();
        (self.text.as_bytes().get(at) == Some(&quote)).then_some(at - backslashes)
    }

    /// What the word that begins here is like.
    pub(super) fn word(&mut self, start: usize, ending: Ending) -> Word {
        let mut end = self.word_end(start);
        let row = match ending {
            Ending::Word => 0,
            Ending::Parameter => {
                end = end.min(self.parameter.after(self.text, start, Stop::Parameter));
                1
            }
        };
        let text = self.text;
        let Some(facts) = self.words.get_mut(row) else {
            return Word { end: start, whole_end: start, has_digit: false, has_own: false, stands_alone: false };
        };
        if !(facts.end == end && facts.from <= start) {
            *facts = Facts::of(text, start, end);
        }
        let is_in = |at: Option<usize>| at.is_some_and(|at| at >= start);
        let is_marked = is_in(facts.last_marker);
        Word {
            end: if is_marked { end } else { facts.trimmed.max(start) },
            whole_end: end,
            has_digit: is_in(facts.last_digit.filter(|at| is_marked || *at < facts.trimmed)),
            has_own: is_in(facts.last_own),
            stands_alone: if is_marked { facts.stands_alone } else { facts.stands_alone_trimmed },
        }
    }
}

impl Facts {
    fn of(text: &str, from: usize, end: usize) -> Self {
        let word = text.get(from..end).unwrap_or_default();
        steps::count(word.len() + 1);
        let trimmed = from + word.trim_end_matches([',', ';', ')', '}', ']', '.', ':']).len();
        let last = |found: Option<usize>| found.map(|at| from + at);
        let mut own = 0;
        let mut last_own = None;
        let markers = word.contains(MARKER).then(|| MARKERS.find_iter(word)).into_iter().flatten();
        for marker in markers.map(|found| found.range()).chain(std::iter::once(word.len()..word.len())) {
            let between = word.get(own..marker.start).unwrap_or_default();
            last_own = between.rfind(char::is_alphanumeric).map(|at| own + at).or(last_own);
            own = marker.end;
        }
        Self {
            from,
            end,
            last_digit: last(word.rfind(|it: char| it.is_ascii_digit())),
            last_marker: last(word.rfind(MARKER)),
            last_own: last(last_own),
            trimmed,
            stands_alone: stands_alone(text, end),
            stands_alone_trimmed: stands_alone(text, trimmed),
        }
    }
}

/// The first part of what is left of a line. What follows a value is judged by it alone, so that a long line does not
/// cost its length again for every name in it.
pub(super) fn front(text: &str, start: usize) -> &str {
    let rest = text.get(start..).unwrap_or_default();
    let front = rest.get(..rest.floor_char_boundary(REDACTION_FRONT_BYTES_MAX)).unwrap_or_default();
    steps::count(front.len());
    front.get(..LINE_END.find(front).map_or(front.len(), |end| end.start())).unwrap_or_default()
}

/// Whether a value is followed by the end of its line or by punctuation, and not by more words.
pub(super) fn stands_alone(text: &str, end: usize) -> bool {
    let after = front(text, end).trim_start();
    after.is_empty() || after.starts_with([',', ';', ')', '}', ']', '#', '"', '\'', '`', '\\'])
}
