//! The printer: the one place that writes to the standard output, the standard error and the terminal.
//!
//! A model, a gate, a peer, a record and a file can say anything, control sequences included. What a person's terminal would obey
//! or hide is shown as `\u{1b}` is here: in everything that is talk or a view of a record, and in a result where a terminal reads
//! it. A result that goes to a file or a pipe is left as it is; JSON says the same in its own escapes. Each text is walked once.
//!
//! A view is made of lines, and each stays one: a name with a line break in it cannot add a row to a list, or a sentence of ours.
//! Only `say_text`, for a text that is shown as such, keeps the breaks that it has.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use cantrip_gates::redact;

use super::exit::{CliError, Exit};
use crate::domain::limits::{CONFIRMATION_BYTES_MAX, LOG_LINE_BYTES_MAX};

/// The reader of the standard output went away: nothing more is written to it.
static READER_IS_GONE: AtomicBool = AtomicBool::new(false);

/// Whether a terminal obeys a character, or shows nothing for it: controls, marks of direction, and what Unicode lets a program
/// ignore (`Default_Ignorable_Code_Point` of Unicode 17, without its unassigned parts of other planes).
const fn is_harmful(c: char) -> bool {
    matches!(
        c,
        '\0'..='\u{8}'
            | '\u{b}'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{fffe}'..='\u{ffff}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// A symbol that may be followed by the mark which chooses between its text and its picture.
const fn has_variants(c: char) -> bool {
    matches!(c, '\u{a9}' | '\u{ae}' | '\u{203c}'..='\u{3299}' | '\u{1f000}'..='\u{1faff}') && !is_harmful(c)
}

/// A text for a person's eyes: lines and tabs stay, everything else that is not seen is made visible.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, false)
}

/// The same on one line.
pub(super) fn visible_line(text: &str) -> Cow<'_, str> {
    escaped(text, true)
}

/// A line of code: its tabs stay.
fn visible_code(line: &str) -> String {
    visible(line).replace('\n', "\\u{a}")
}

fn escaped(text: &str, is_line: bool) -> Cow<'_, str> {
    let is_touched = |c: char| is_harmful(c) || is_line && matches!(c, '\n' | '\t');
    let Some(first) = text.find(is_touched) else { return Cow::Borrowed(text) };
    let (clean, rest) = text.split_at(first);
    let mut out = String::with_capacity(text.len().saturating_add(16));
    out.push_str(clean);
    let mut before = clean.chars().next_back();
    let mut chars = rest.chars().peekable();
    while let Some(c) = chars.next() {
        let stays = match c {
            '\n' | '\t' => !is_line,
            '\r' => !is_line && chars.peek() == Some(&'\n'),
            '\u{fe0e}' | '\u{fe0f}' => before.is_some_and(has_variants),
            c => !is_harmful(c),
        };
        if stays {
            out.push(c);
        } else {
            out.extend(c.escape_unicode());
        }
        before = Some(c);
    }
    Cow::Owned(out)
}

/// JSON for a person's eyes: the same value, with what is not seen in JSON's own escapes. Outside of strings JSON has none of it.
pub(super) fn visible_json(json: String) -> String {
    if !json.contains(is_harmful) {
        return json;
    }
    let mut out = String::with_capacity(json.len().saturating_add(16));
    for c in json.chars() {
        if !is_harmful(c) {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing into a String cannot fail.
            let _infallible = write!(out, "\\u{unit:04x}");
        }
    }
    out
}

/// The JSON of a value, over several lines.
pub(super) fn json(value: &impl serde::Serialize) -> Result<String, CliError> {
    serde_json::to_string_pretty(value).map(visible_json).map_err(CliError::fault)
}

/// Prints what `--json` asks for.
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<(), CliError> {
    write_out(format!("{}\n", json(value)?).as_bytes()).map_err(CliError::fault)
}

/// Lines of a view that are printed together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page(String);

impl Page {
    /// Adds a line. It is one, whatever a name in it holds; blanks at its end are not seen and left out.
    pub(super) fn line(&mut self, line: impl fmt::Display) {
        self.0.push_str(visible_line(line.to_string().trim_end()).as_ref());
        self.0.push('\n');
    }

    /// Adds a line of code, whose tabs stay.
    pub(super) fn code(&mut self, line: impl fmt::Display) {
        self.0.push_str(&visible_code(&line.to_string()));
        self.0.push('\n');
    }

    /// Begins a part of the page: its title, behind an empty line.
    pub(super) fn head(&mut self, title: &str) {
        self.line("");
        self.line(title);
    }
}

/// Prints a view of several lines.
pub(super) fn print_page(page: &Page) -> Result<(), CliError> {
    write_out(page.0.as_bytes()).map_err(CliError::fault)
}

/// Writes to the standard output. A reader that went away is no error of ours: the rest is for nobody.
fn write_out(bytes: &[u8]) -> io::Result<()> {
    if READER_IS_GONE.load(Ordering::Relaxed) {
        return Ok(());
    }
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            READER_IS_GONE.store(true, Ordering::Relaxed);
            Ok(())
        }
        other => other,
    }
}

/// The standard output for data that is no text for people: an archive, a table, a script.
pub(super) struct Data;

impl Write for Data {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_out(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether the standard output is read by a person.
pub(super) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether the reader of the standard output went away.
pub(super) fn reader_is_gone() -> bool {
    READER_IS_GONE.load(Ordering::Relaxed)
}

/// Prints a line of a view: a row, a name, an id. It is one line, and never anything that a terminal obeys, wherever it goes.
pub(super) fn print(line: &str) -> Result<(), CliError> {
    write_out(format!("{}\n", visible_line(line)).as_bytes()).map_err(CliError::fault)
}

/// Prints a result: as it is for a file or a pipe, and as [`print`] does for a terminal.
pub(super) fn print_result(text: &str) -> Result<(), CliError> {
    let text = result_text(text, is_terminal());
    write_out(format!("{text}\n").as_bytes()).map_err(CliError::fault)
}

fn result_text(text: &str, is_terminal: bool) -> Cow<'_, str> {
    if is_terminal { visible(text) } else { Cow::Borrowed(text) }
}

/// Asks the person at the terminal that this process is controlled from, and nobody else; without one the answer is no.
pub(super) fn confirmed(page: &Page, question: &str) -> bool {
    let Ok(mut terminal) = OpenOptions::new().read(true).write(true).open("/dev/tty") else { return false };
    let asked = format!("{}{}", page.0, visible_line(question));
    if terminal.write_all(asked.as_bytes()).and_then(|()| terminal.flush()).is_err() {
        return false;
    }
    let mut answer = String::new();
    let read = BufReader::new(&terminal).take(CONFIRMATION_BYTES_MAX).read_line(&mut answer);
    read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

fn write_err(text: &str) {
    // Nobody is helped if a closed stderr ends the work.
    let _unheard = io::stderr().lock().write_all(text.as_bytes());
}

/// Talks to the person, in one line.
pub(super) fn say(line: &str) {
    write_err(&format!("{}\n", visible_line(line)));
}

/// Shows the person a text with the lines that it has: an answer, or instructions of ours.
pub(super) fn say_text(text: &str) {
    write_err(&format!("{}\n", visible(text)));
}

/// Tells a program that reads the standard error, a line of JSON at a time.
pub(super) fn say_json(value: &impl serde::Serialize) {
    if let Ok(line) = serde_json::to_string(value) {
        write_err(&format!("{}\n", visible_json(line)));
    }
}

/// A text whose further lines are seen to belong to its first: nothing that an error quotes begins a line, as a hint of ours does.
fn indented(text: &str) -> String {
    let mut lines = text.lines();
    let mut out = lines.next().unwrap_or_default().to_owned();
    for line in lines {
        out.push_str(if line.starts_with("  ") { "\n" } else { "\n  " });
        out.push_str(line);
    }
    out
}

/// Says why a command ends, and what can be done.
pub(super) fn report(error: &CliError) {
    let chain: Vec<String> = error.source.chain().map(ToString::to_string).collect();
    say_text(&indented(&redact(&format!("error: {}", chain.join(": ")))));
    if let Some(hint) = &error.hint {
        say_text(&format!("\nhint: {hint}"));
    }
}

/// Prints help, or says what is wrong with a command line, which can hold anything.
pub(super) fn report_usage(error: &clap::Error) -> Exit {
    if error.use_stderr() {
        write_err(&visible(&error.render().to_string()));
        return Exit::Usage;
    }
    // Where even that cannot be printed, nobody reads it.
    let _unheard = error.print();
    Exit::Done
}

/// The colours of progress.
#[derive(Debug, Clone, Copy)]
pub(super) enum Colour {
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Cyan,
}

impl Colour {
    const fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Red => "31",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Cyan => "36",
        }
    }
}

/// A piece of talk with colours of ours: they are the only control sequences in it.
#[derive(Debug)]
pub(super) struct Painted {
    out: String,
    colour: bool,
}

impl Painted {
    /// Nothing yet; `colour` says whether there will be any.
    pub(super) const fn new(colour: bool) -> Self {
        Self { out: String::new(), colour }
    }

    /// Adds a text on its line.
    pub(super) fn text(mut self, text: &str) -> Self {
        self.out.push_str(&visible_line(text));
        self
    }

    /// Adds a line of code, whose tabs stay.
    pub(super) fn code(mut self, line: &str) -> Self {
        self.out.push_str(&visible_code(line));
        self
    }

    /// Adds a text on its line in a colour.
    pub(super) fn paint(self, colour: Colour, text: &str) -> Self {
        self.painted(colour, &visible_line(text))
    }

    /// Adds a piece of what is being said in a colour; its lines and tabs stay.
    pub(super) fn piece(self, colour: Colour, text: &str) -> Self {
        self.painted(colour, &visible(text))
    }

    fn painted(mut self, colour: Colour, text: &str) -> Self {
        if self.colour && !text.is_empty() {
            let _infallible = write!(self.out, "\x1b[{}m{text}\x1b[0m", colour.code());
        } else {
            self.out.push_str(text);
        }
        self
    }

    /// Says it as a line.
    pub(super) fn say(mut self) {
        self.out.push('\n');
        write_err(&self.out);
    }

    /// Says it and stays on the line.
    pub(super) fn say_piece(self) {
        write_err(&self.out);
    }
}

/// Whether talk is coloured: a terminal is, unless `NO_COLOR`, `CLICOLOR=0` or a terminal without colours says otherwise.
pub(super) fn has_colour(env: &dyn Fn(&str) -> Option<String>) -> bool {
    colour_wanted(io::stderr().is_terminal(), env)
}

fn colour_wanted(is_terminal: bool, env: &dyn Fn(&str) -> Option<String>) -> bool {
    let is_set = |name: &str| env(name).is_some_and(|value| !value.is_empty());
    if is_set("NO_COLOR") {
        return false;
    }
    if env("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0") {
        return true;
    }
    is_terminal && env("CLICOLOR").as_deref() != Some("0") && env("TERM").as_deref() != Some("dumb")
}

/// Where log lines go: each event is one line, whatever a field of it holds.
pub(super) struct LogLines;

impl Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_err(&log_line(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log_line(bytes: &[u8]) -> String {
    let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let (shown, rest) = text.split_at_checked(LOG_LINE_BYTES_MAX).unwrap_or((text, b""));
    let shown = String::from_utf8_lossy(shown);
    let more = if rest.is_empty() { String::new() } else { format!(" … and {} bytes more", rest.len()) };
    format!("{}{more}\n", visible_line(&shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a terminal obeys, or shows nothing for.
    fn hostile() -> impl Iterator<Item = char> {
        let ranges = [
            ('\0', '\u{8}'),
            ('\u{b}', '\u{1f}'),
            ('\u{7f}', '\u{9f}'),
            ('\u{200b}', '\u{200f}'),
            ('\u{2028}', '\u{202e}'),
            ('\u{2060}', '\u{206f}'),
            ('\u{fe00}', '\u{fe0f}'),
            ('\u{e0000}', '\u{e01ef}'),
        ];
        let single =
            ['\u{ad}', '\u{34f}', '\u{61c}', '\u{115f}', '\u{180e}', '\u{3164}', '\u{feff}', '\u{ffa0}', '\u{fff9}'];
        ranges.into_iter().flat_map(|(from, to)| from..=to).chain(single)
    }

    #[test]
    fn what_a_terminal_obeys_or_hides_is_seen() {
        for c in hostile() {
            let shown = visible(&format!("a{c}b")).into_owned();
            assert_eq!(shown, format!("a{}b", c.escape_unicode()));
            assert_eq!(result_text(&format!("a{c}b"), true), shown);
            assert_eq!(result_text(&format!("a{c}b"), false), format!("a{c}b"), "a pipe gets the result as it is");
        }
    }

    #[test]
    fn what_is_seen_anyway_stays_as_it_is() {
        for text in ["plain", "two\nlines\tand a tab\r\n", "Grüße, 日本語, عربى, नमस्ते", "⚠\u{fe0f} done ✔", "e\u{301}"]
        {
            assert!(matches!(visible(text), Cow::Borrowed(_)) || visible(text) == text, "{text:?}");
        }
        assert_eq!(visible("100 %\rok"), "100 %\\u{d}ok", "nothing is written over");
        assert_eq!(visible_line("row\nrow\t!"), "row\\u{a}row\\u{9}!", "a list has the rows that it has");
    }

    #[test]
    fn what_an_error_quotes_begins_no_line() {
        assert_eq!(indented("error: two\n  of ours\r\nhint: `x`\n\n"), "error: two\n  of ours\n  hint: `x`\n  ");
        let mut page = Page::default();
        page.line("a\nb \u{3164}  ");
        page.code("\tc\nd");
        assert_eq!(page.0, "a\\u{a}b \\u{3164}\n\tc\\u{a}d\n");
        assert_eq!(Painted::new(false).paint(Colour::Cyan, "gate\nx").out, "gate\\u{a}x");
    }

    #[test]
    fn json_stays_the_same_value() {
        let value = serde_json::json!({ "k\u{9b}": "\u{1b}]0;x\u{7}\u{202e}\u{e0041}\u{7f} ok\n" });
        let text = json(&value).unwrap();
        assert!(!text.contains(is_harmful), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn an_event_of_the_log_is_one_bounded_line() {
        let line = log_line(b"WARN refused: x\n2026 ERROR forged\x1b[2J\n");
        assert_eq!(line, "WARN refused: x\\u{a}2026 ERROR forged\\u{1b}[2J\n");
        let long = log_line(&[b'x'; LOG_LINE_BYTES_MAX + 7]);
        assert!(long.ends_with("x … and 7 bytes more\n") && long.len() < LOG_LINE_BYTES_MAX + 40);
    }

    #[test]
    fn colours_are_ours_alone_and_only_where_they_are_wanted() {
        let text = "\u{1b}[31mred";
        let piece = Painted::new(true).paint(Colour::Dim, text).text(text);
        assert_eq!(piece.out, "\u{1b}[2m\\u{1b}[31mred\u{1b}[0m\\u{1b}[31mred");
        assert_eq!(Painted::new(false).paint(Colour::Dim, text).out, "\\u{1b}[31mred");
        let env = |set: &'static [(&str, &str)]| {
            move |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        assert!(colour_wanted(true, &env(&[])) && !colour_wanted(false, &env(&[])));
        assert!(!colour_wanted(true, &env(&[("NO_COLOR", "1")])));
        assert!(!colour_wanted(true, &env(&[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")])));
        assert!(colour_wanted(true, &env(&[("NO_COLOR", "")])), "an empty value says nothing");
        assert!(!colour_wanted(true, &env(&[("CLICOLOR", "0")])) && !colour_wanted(true, &env(&[("TERM", "dumb")])));
        assert!(colour_wanted(false, &env(&[("CLICOLOR_FORCE", "1")])));
    }
}
