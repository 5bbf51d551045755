//! `search`: the lines of a directory tree that match a regular expression.
//!
//! Owns the walk and its bounds. It never follows a symbolic link, never opens what is not a regular file, and never
//! returns an incomplete answer as a complete one: a bound that is met before `max_results` is an error that says so, and
//! a line that was too long to be compared whole is named in a last entry.

use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::specs::named;
use crate::arguments::Arguments;
use crate::blocking::{Abandoned, blocking};
use crate::bounded::Bounded;
use crate::clock::now;
use crate::error::GateError;
use crate::files::{FileFailure, Folder, Meant, RelativePath, Root};
use crate::gate::{CallContext, Gate, GateFuture};
use crate::limits::{
    SEARCH_BYTES_MAX, SEARCH_DEPTH_MAX, SEARCH_ENTRIES_MAX, SEARCH_EXPRESSION_BYTES_MAX, SEARCH_FILE_BYTES_MAX,
    SEARCH_LINE_CHARS_MAX, SEARCH_MS_MAX, SEARCH_PATTERN_BYTES_MAX, SEARCH_PIECE_BYTES_MAX, SEARCH_RESULTS_DEFAULT,
    SEARCH_RESULTS_MAX, SEARCHES_AT_ONCE_MAX,
};
use crate::spec::{Exposure, GateSpec, Reach};

/// 8 KiB. A NUL in the first part of a file marks it as binary, as other search tools have it.
const BINARY_PROBE_BYTES: usize = 8 * 1024;

/// 16 million states × bytes between two looks at the time, some 0.2 s where every byte costs every state.
const UNTIMED_WORK: usize = 16 * 1024 * 1024;

/// Those that run. A thread that was given up still has its place until it has noticed.
static RUNNING: Semaphore = Semaphore::const_new(SEARCHES_AT_ONCE_MAX);

/// Directories of version control: large, and not what anybody searches.
const SKIPPED_DIRS: &[&str] = &[".git", ".hg", ".jj", ".svn"];

const GATE: &str = "search";

pub(super) fn spec() -> GateSpec {
    GateSpec {
        name: named(GATE),
        description: format!(
            "Returns the lines that match the regular expression `pattern` in the files below `path` (default: the \
             root), as an array of {{path, line, text}} sorted by path. `glob` (`*.rs`, `src/**/*.md`) narrows the files. Stops after \
             `max_results` (default {SEARCH_RESULTS_DEFAULT}, at most {SEARCH_RESULTS_MAX}). Skips binary files, files over \
             {} MiB, symbolic links and version control. Where lines are too long to be compared whole, a last entry says so.",
            SEARCH_FILE_BYTES_MAX / (1024 * 1024)
        ),
        parameters: json!({
            "type": "object",
            "properties": {
                "pattern": {"type": "string", "minLength": 1, "maxLength": SEARCH_EXPRESSION_BYTES_MAX, "description": "regular expression; `(?i)` ignores case"},
                "path": {"type": "string", "description": "directory or file, relative to the root, default `.`"},
                "glob": {"type": "string", "maxLength": SEARCH_EXPRESSION_BYTES_MAX, "description": "which files: `*`, `?`, `**`, `[ab]`, `{a,b}`; without `/` it is compared with the name alone"},
                "max_results": {"type": "integer", "minimum": 1, "maximum": SEARCH_RESULTS_MAX},
            },
            "required": ["pattern"],
            "additionalProperties": false,
        }),
        positional: ["pattern", "path", "glob", "max_results"].map(str::to_owned).to_vec(),
        reach: Reach::Read,
        exposure: Exposure { private: true, ..Exposure::default() },
        ephemeral: false,
    }
}

#[derive(Debug)]
pub(super) struct Search {
    root: Root,
    spec: GateSpec,
}

impl Search {
    pub(super) fn new(root: Root) -> Self {
        Self { root, spec: spec() }
    }

    async fn search(&self, arguments: Value, context: &CallContext) -> Result<Value, GateError> {
        let mut arguments = Arguments::new(GATE, arguments)?;
        let pattern = expression(arguments.text("pattern")?, "pattern")?;
        let glob = arguments.text_or_none("glob")?;
        let path = arguments.text_or_none("path")?.unwrap_or_else(|| ".".to_owned());
        let results_max = arguments.count_or_none("max_results")?.unwrap_or(SEARCH_RESULTS_DEFAULT);
        if results_max > SEARCH_RESULTS_MAX {
            return Err(GateError::Invalid(format!(
                "{GATE}: argument `max_results`: at most {SEARCH_RESULTS_MAX}, {results_max} were asked for"
            )));
        }
        let path = RelativePath::parse(GATE, &path, Meant::Existing)?;
        let pattern = compiled(&pattern, "pattern")?;
        let piece_bytes = (UNTIMED_WORK / pattern.states()).min(SEARCH_PIECE_BYTES_MAX);
        let glob = glob.map(Glob::parse).transpose()?;
        let latest = now() + Duration::from_millis(SEARCH_MS_MAX);
        let deadline = context.deadline.map_or(latest, |deadline| deadline.min(latest));
        let output_bytes_max = context.output_bytes_max;
        let root = self.root.clone();
        let place = RUNNING.acquire().await.map_err(|_| GateError::Failed(format!("{GATE}: is closed")))?;
        blocking(GATE, move |abandoned| {
            let _place = place;
            let mut walk = Walk {
                pattern,
                piece_bytes,
                untimed: 0,
                cut: None,
                glob,
                abandoned,
                deadline,
                output_left: output_bytes_max,
                results_max: usize::try_from(results_max).unwrap_or(usize::MAX),
                bytes_left: SEARCH_BYTES_MAX,
                entries_left: SEARCH_ENTRIES_MAX,
                buffer: Vec::new(),
                found: Vec::new(),
            };
            match walk.start(&root, &path) {
                Ok(()) => Ok(walk.found_and_left_out()),
                Err(Stop::Enough) => Ok(Value::Array(walk.found)),
                Err(Stop::File(failure)) => Err(root.explain(GATE, &path, &failure)),
                Err(Stop::Bound(what)) => Err(GateError::Exhausted(format!(
                    "{GATE}: stopped after {what} with {} results; narrow `path` or `glob`, or lower `max_results`",
                    walk.found.len()
                ))),
                Err(Stop::Time) => Err(GateError::TimedOut(format!(
                    "{GATE}: the time for one search ran out (at most {} ms) with {} results; narrow `path` or `glob`",
                    SEARCH_MS_MAX,
                    walk.found.len()
                ))),
            }
        })
        .await
    }
}

fn expression(text: String, name: &str) -> Result<String, GateError> {
    if text.is_empty() || text.len() > SEARCH_EXPRESSION_BYTES_MAX {
        return Err(GateError::Invalid(format!(
            "{GATE}: argument `{name}`: takes 1 to {SEARCH_EXPRESSION_BYTES_MAX} bytes, {} came",
            text.len()
        )));
    }
    Ok(text)
}

fn compiled(text: &str, name: &str) -> Result<Bounded, GateError> {
    Bounded::compile(text, SEARCH_PATTERN_BYTES_MAX).map_err(|why| {
        GateError::Invalid(format!("{GATE}: argument `{name}`: not a regular expression that can be used: {why}"))
    })
}

/// Which files are read: a shell pattern, turned into a regular expression.
struct Glob {
    regex: Bounded,
    is_path: bool,
}

impl Glob {
    fn parse(text: String) -> Result<Self, GateError> {
        let text = expression(text, "glob")?;
        let is_path = text.contains('/');
        let regex = compiled(&translated(text.trim_start_matches("./"))?, "glob")?;
        Ok(Self { regex, is_path })
    }

    fn holds(&self, path: &str, name: &str) -> bool {
        self.regex.is_match(if self.is_path { path } else { name })
    }
}

fn translated(glob: &str) -> Result<String, GateError> {
    let wrong = |why: &str| GateError::Invalid(format!("{GATE}: argument `glob`: {why}"));
    let mut regex = String::from("^");
    let mut characters = glob.chars().peekable();
    let mut braces = 0_usize;
    while let Some(character) = characters.next() {
        match character {
            '*' if characters.next_if_eq(&'*').is_some() => {
                // `**/` is any number of directories, also none.
                regex.push_str(if characters.next_if_eq(&'/').is_some() { "(?:[^/]*/)*" } else { ".*" });
            }
            '*' => regex.push_str("[^/]*"),
            '?' => regex.push_str("[^/]"),
            '{' => {
                braces += 1;
                regex.push_str("(?:");
            }
            '}' if braces > 0 => {
                braces -= 1;
                regex.push(')');
            }
            ',' if braces > 0 => regex.push('|'),
            '[' => {
                let negated = characters.next_if(|next| matches!(next, '!' | '^')).is_some();
                let class: String = characters.by_ref().take_while(|next| *next != ']').collect();
                if class.is_empty() {
                    return Err(wrong("`[` without what it may be, or without `]`"));
                }
                regex.push_str(if negated { "[^/" } else { "[" });
                for member in class.chars() {
                    if matches!(member, '\\' | '[' | '^' | '&' | '~') {
                        regex.push('\\');
                    }
                    regex.push(member);
                }
                regex.push(']');
            }
            other => regex.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    if braces > 0 {
        return Err(wrong("`{` without `}`"));
    }
    regex.push('$');
    Ok(regex)
}

/// Why a walk ends before the tree does.
enum Stop {
    Enough,
    Bound(String),
    Time,
    File(FileFailure),
}

impl From<FileFailure> for Stop {
    fn from(failure: FileFailure) -> Self {
        Self::File(failure)
    }
}

struct Walk<'a> {
    pattern: Bounded,
    /// So much of a line is compared at a time.
    piece_bytes: usize,
    /// States × bytes since the time was looked at.
    untimed: usize,
    /// The first line that was compared in pieces, and how many there were.
    cut: Option<(String, usize, u64)>,
    glob: Option<Glob>,
    abandoned: &'a Abandoned,
    deadline: Instant,
    output_left: u64,
    results_max: usize,
    bytes_left: u64,
    entries_left: u64,
    buffer: Vec<u8>,
    found: Vec<Value>,
}

impl Walk<'_> {
    fn start(&mut self, root: &Root, path: &RelativePath) -> Result<(), Stop> {
        match root.open_dir(path) {
            Ok(folder) => {
                let at = if path.as_str() == "." { String::new() } else { format!("{}/", path.as_str()) };
                self.directory(&folder, &at, 0)
            }
            Err(FileFailure::Io(error)) if error.kind() == std::io::ErrorKind::NotADirectory => {
                let (file, _) = root.open_file(path)?;
                self.file(file, path.as_str())
            }
            Err(failure) => Err(failure.into()),
        }
    }

    fn directory(&mut self, folder: &Folder, at: &str, depth: usize) -> Result<(), Stop> {
        if depth >= SEARCH_DEPTH_MAX {
            return Err(Stop::Bound(format!("{SEARCH_DEPTH_MAX} directories of depth at `{at}`")));
        }
        // A directory that is closed to us or just vanished is not part of what can be searched.
        let Ok(entries) = folder.dir().entries() else {
            return Ok(());
        };
        let mut names = Vec::new();
        for entry in entries {
            self.in_time()?;
            let Ok(entry) = entry else { continue };
            let Some(left) = self.entries_left.checked_sub(1) else {
                return Err(Stop::Bound(format!("{SEARCH_ENTRIES_MAX} files and directories")));
            };
            self.entries_left = left;
            if let (Ok(name), Ok(kind)) = (entry.file_name().into_string(), entry.file_type()) {
                names.push((name, kind));
            }
        }
        names.sort_by(|(one, _), (two, _)| one.cmp(two));
        for (name, kind) in names {
            self.in_time()?;
            let path = format!("{at}{name}");
            if kind.is_dir() && !SKIPPED_DIRS.contains(&name.as_str()) {
                if let Some(below) = folder.folder(&name) {
                    self.directory(&below, &format!("{path}/"), depth + 1)?;
                }
            } else if kind.is_file()
                && self.glob.as_ref().is_none_or(|glob| glob.holds(&path, &name))
                && let Some((file, bytes)) = folder.file(&name)
                && bytes <= SEARCH_FILE_BYTES_MAX
            {
                self.file(file, &path)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, file: cap_std::fs::File, path: &str) -> Result<(), Stop> {
        let mut content = std::mem::take(&mut self.buffer);
        content.clear();
        let take = SEARCH_FILE_BYTES_MAX.min(self.bytes_left.saturating_add(1));
        let read = file.take(take).read_to_end(&mut content);
        let bytes = u64::try_from(content.len()).unwrap_or(u64::MAX);
        let result = match self.bytes_left.checked_sub(bytes) {
            _ if read.is_err() => Ok(()),
            None => Err(Stop::Bound(format!("{} MiB of files", SEARCH_BYTES_MAX / (1024 * 1024)))),
            Some(left) => {
                self.bytes_left = left;
                self.lines(&content, path)
            }
        };
        self.buffer = content;
        result
    }

    fn lines(&mut self, content: &[u8], path: &str) -> Result<(), Stop> {
        if content.iter().take(BINARY_PROBE_BYTES).any(|byte| *byte == 0) {
            return Ok(());
        }
        let Ok(text) = std::str::from_utf8(content) else {
            return Ok(());
        };
        for (at, line) in text.lines().enumerate() {
            if !self.matches(line)? {
                if line.len() > self.piece_bytes {
                    let (_, _, count) = self.cut.get_or_insert_with(|| (path.to_owned(), at + 1, 0));
                    *count += 1;
                }
                continue;
            }
            let mut shown: String = line.chars().take(SEARCH_LINE_CHARS_MAX).collect();
            if shown.len() < line.len() {
                shown.push('…');
            }
            let bytes = u64::try_from(path.len() + shown.len() + RESULT_BYTES).unwrap_or(u64::MAX);
            let Some(left) = self.output_left.checked_sub(bytes) else {
                return Err(Stop::Bound("more text than one call may return".to_owned()));
            };
            self.output_left = left;
            self.found.push(json!({"path": path, "line": at + 1, "text": shown}));
            if self.found.len() >= self.results_max {
                return Err(Stop::Enough);
            }
        }
        Ok(())
    }

    /// Whether a line holds the pattern; a long one is compared piece by piece, and the time looked at in between.
    fn matches(&mut self, line: &str) -> Result<bool, Stop> {
        let mut left = line;
        loop {
            let end = left.floor_char_boundary(self.piece_bytes);
            let (piece, rest) = left.split_at_checked(end).unwrap_or((left, ""));
            self.untimed = self.untimed.saturating_add((piece.len() + 1).saturating_mul(self.pattern.states()));
            if self.untimed >= UNTIMED_WORK {
                self.untimed = 0;
                self.in_time()?;
            }
            if self.pattern.is_match(piece) {
                return Ok(true);
            }
            if rest.is_empty() {
                return Ok(false);
            }
            left = rest;
        }
    }

    /// The results, and behind them what could not be compared as it stands.
    fn found_and_left_out(self) -> Value {
        let mut found = self.found;
        if let Some((path, line, count)) = self.cut {
            let text = format!(
                "[left out: {count} lines are longer than {} bytes and were compared in pieces of that length, this one \
                 first; what lies across two pieces is not found]",
                self.piece_bytes
            );
            found.push(json!({"path": path, "line": line, "text": text}));
        }
        Value::Array(found)
    }

    fn in_time(&self) -> Result<(), Stop> {
        if self.abandoned.is_set() || now() >= self.deadline { Err(Stop::Time) } else { Ok(()) }
    }
}

/// What one result takes in JSON beside its path and text.
const RESULT_BYTES: usize = r#"{"path":"","line":100000,"text":""},"#.len();

impl Gate for Search {
    fn spec(&self) -> &GateSpec {
        &self.spec
    }

    fn call<'a>(&'a self, arguments: Value, context: &'a CallContext) -> GateFuture<'a> {
        Box::pin(self.search(arguments, context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(glob: &str, path: &str, expected: bool) {
        let name = path.rsplit('/').next().unwrap_or(path);
        let parsed = Glob::parse(glob.to_owned()).unwrap_or_else(|error| unreachable!("{glob}: {error}"));
        assert_eq!(parsed.holds(path, name), expected, "{glob} against {path}");
    }

    #[test]
    fn globs_are_shell_patterns() {
        check("*.rs", "src/lib.rs", true);
        check("*.rs", "src/lib.rs.bak", false);
        check("src/*.rs", "src/lib.rs", true);
        check("src/*.rs", "src/a/lib.rs", false);
        check("./src/**/*.rs", "src/a/b/lib.rs", true);
        check("src/**/*.rs", "src/lib.rs", true);
        check("**/*.md", "README.md", true);
        check("src/**", "src/a/b", true);
        check("*.{rs,toml}", "Cargo.toml", true);
        check("?.txt", "ab.txt", false);
        check("[a-c].txt", "b.txt", true);
        check("[!a-c].txt", "b.txt", false);
        check("[^a].txt", "b.txt", true);
        check("a.c", "abc", false);
        check("a,b}", "a,b}", true);
        check("[[&&~].x", "[.x", true);
    }

    #[test]
    fn broken_globs_are_refused() {
        for glob in ["[", "[]", "a{b", ""] {
            assert!(Glob::parse(glob.to_owned()).is_err(), "{glob:?}");
        }
    }

    #[test]
    fn a_tree_with_more_entries_than_allowed_ends_the_search() {
        let folder = tempfile::TempDir::new().expect("a directory");
        for at in 0..10 {
            std::fs::create_dir(folder.path().join(format!("{at}"))).expect("a directory");
        }
        let root = Root::open(folder.path()).expect("a root");
        let path = RelativePath::parse(GATE, ".", Meant::Existing).expect("a path");
        let abandoned = Abandoned::default();
        let walked = |entries_left: u64| {
            let mut walk = Walk {
                pattern: compiled("x", "pattern").expect("a pattern"),
                piece_bytes: 1,
                untimed: 0,
                cut: None,
                glob: None,
                abandoned: &abandoned,
                deadline: now() + Duration::from_mins(1),
                output_left: 1_000,
                results_max: 10,
                bytes_left: 1_000,
                entries_left,
                buffer: Vec::new(),
                found: Vec::new(),
            };
            walk.start(&root, &path)
        };
        assert!(walked(10).is_ok());
        assert!(matches!(walked(9), Err(Stop::Bound(what)) if what.contains("100000 files and directories")));
    }
}
