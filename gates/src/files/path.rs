//! Which paths an entity may write.
//!
//! Owns the text rules: relative, `/` between names, no `..` above the root, nothing that only looks like something
//! else. The rules exist for clear errors and for what a person reads in a log; the confinement itself is the
//! directory handle's. Names are compared by the file system: on one that ignores case `README.md` and `readme.md` are
//! one file, on others they are two, and letters that merely look alike are different names everywhere.

use crate::error::GateError;
use crate::limits::{COMPONENT_BYTES_MAX, PATH_BYTES_MAX, PATH_SHOWN_CHARS_MAX};

/// Characters that pass for `.`, `/` or `\`, or that reorder or hide the text around them.
const LOOK_ALIKES: &[(char, char, &str)] = &[
    ('\u{200b}', '\u{200b}', "an invisible space"),
    ('\u{200e}', '\u{200f}', "a direction mark"),
    ('\u{2024}', '\u{2025}', "a dot leader, which looks like `.`"),
    ('\u{2028}', '\u{2029}', "a line separator"),
    ('\u{202a}', '\u{202e}', "a direction override"),
    ('\u{2044}', '\u{2044}', "a fraction slash, which looks like `/`"),
    ('\u{2060}', '\u{2060}', "an invisible joiner"),
    ('\u{2066}', '\u{2069}', "a direction isolate"),
    ('\u{2215}', '\u{2215}', "a division slash, which looks like `/`"),
    ('\u{2216}', '\u{2216}', "a set minus, which looks like `\\`"),
    ('\u{29f5}', '\u{29f5}', "a reverse solidus operator, which looks like `\\`"),
    ('\u{29f8}', '\u{29f8}', "a big solidus, which looks like `/`"),
    ('\u{29f9}', '\u{29f9}', "a big reverse solidus, which looks like `\\`"),
    ('\u{061c}', '\u{061c}', "a direction mark"),
    ('\u{fe52}', '\u{fe52}', "a small full stop, which looks like `.`"),
    ('\u{fe68}', '\u{fe68}', "a small reverse solidus, which looks like `\\`"),
    ('\u{feff}', '\u{feff}', "an invisible byte order mark"),
    ('\u{ff0e}', '\u{ff0e}', "a fullwidth full stop, which looks like `.`"),
    ('\u{ff0f}', '\u{ff0f}', "a fullwidth solidus, which looks like `/`"),
    ('\u{ff3c}', '\u{ff3c}', "a fullwidth reverse solidus, which looks like `\\`"),
    ('\u{ff61}', '\u{ff61}', "a halfwidth full stop, which looks like `.`"),
    ('\u{e0000}', '\u{e007f}', "an invisible tag"),
];

/// What a gate means by a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meant {
    /// Something that is there, the root itself included.
    Existing,
    /// A file to be written: it needs a name of its own.
    Written,
}

/// A path that kept the text rules: normal, relative, `.` for the root itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RelativePath(String);

impl RelativePath {
    pub(crate) fn parse(gate: &str, text: &str, meant: Meant) -> Result<Self, GateError> {
        let refused = |why: String| GateError::Invalid(format!("{gate}: path {}: {why}", shown(text)));
        let denied = |why: &str| GateError::Denied(format!("{gate}: path {}: {why}", shown(text)));
        if text.is_empty() {
            return Err(refused("is empty; `.` is the root itself".to_owned()));
        }
        if text.len() > PATH_BYTES_MAX {
            return Err(refused(format!("has {} bytes, at most {PATH_BYTES_MAX} are allowed", text.len())));
        }
        if let Some(why) = text.chars().find_map(misfit) {
            return Err(refused(why));
        }
        if text.starts_with('/') {
            return Err(denied("is absolute; paths are relative to the root, write it without the leading `/`"));
        }
        if text.starts_with('~') && (text.len() == 1 || text.starts_with("~/")) {
            return Err(denied("starts at a home directory; paths are relative to the root"));
        }
        if text.contains('\\') {
            return Err(denied("holds `\\`; write `/` between names, relative to the root"));
        }
        if matches!(text.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic()) {
            return Err(denied("starts with a drive; paths are relative to the root, with `/` between names"));
        }
        let mut names: Vec<&str> = Vec::new();
        let mut depth = 0_usize;
        for name in text.split('/').filter(|name| !name.is_empty() && *name != ".") {
            if name.len() > COMPONENT_BYTES_MAX {
                let cut = shown(name);
                return Err(refused(format!(
                    "the name {cut} has {} bytes, at most {COMPONENT_BYTES_MAX} are allowed",
                    name.len()
                )));
            }
            if name == ".." {
                let Some(above) = depth.checked_sub(1) else {
                    return Err(denied("leads out of the root with `..`"));
                };
                depth = above;
            } else {
                depth += 1;
            }
            names.push(name);
        }
        if meant == Meant::Written && (text.ends_with('/') || names.last().is_none_or(|name| *name == "..")) {
            return Err(refused("does not end in the name of a file".to_owned()));
        }
        // A `..` stays in the path: what it means behind a symlink is the file system's to say, inside the root.
        Ok(Self(if names.is_empty() { ".".to_owned() } else { names.join("/") }))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

fn misfit(character: char) -> Option<String> {
    if character.is_ascii() && !character.is_ascii_control() {
        return None;
    }
    let code = u32::from(character);
    if character == '\0' {
        return Some("holds NUL (U+0000)".to_owned());
    }
    if character.is_control() {
        return Some(format!("holds the control character U+{code:04X}"));
    }
    let found = LOOK_ALIKES.iter().find(|(first, last, _)| (*first..=*last).contains(&character));
    found.map(|(_, _, what)| format!("holds U+{code:04X}, {what}"))
}

/// The path in quotes, with everything escaped that does not print, and cut if it is long.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(PATH_SHOWN_CHARS_MAX) + 2);
    shown.push('`');
    for (count, character) in text.chars().enumerate() {
        if count >= PATH_SHOWN_CHARS_MAX {
            shown.push('…');
            break;
        }
        if misfit(character).is_some() {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown.push('`');
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let read = RelativePath::parse("read_file", text, Meant::Existing);
        let read = match read {
            Ok(path) => path.0,
            Err(error) => format!("{}: {error}", error.kind()),
        };
        let fits = if expected.contains(": ") { read.contains(expected) } else { read == expected };
        assert!(fits, "{text:?} gave {read}");
    }

    #[test]
    fn relative_paths_are_made_normal() {
        check("a.txt", "a.txt");
        check("./a//b/./c/", "a/b/c");
        check(".", ".");
        check("a/..", "a/..");
        check("...", "...");
        check("日本語/é ü.txt", "日本語/é ü.txt");
        check("a~/~b", "a~/~b");
        check("ab:c", "ab:c");
        check(&"x".repeat(255), &"x".repeat(255));
    }

    #[test]
    fn what_leads_out_of_the_root_is_denied() {
        check("..", "denied: read_file: path `..`: leads out of the root with `..`");
        check("a/../../b", "denied: read_file: path `a/../../b`: leads out");
        check("/etc/passwd", "denied: read_file: path `/etc/passwd`: is absolute");
        check("//host/share", ": is absolute");
        check("~/x", ": starts at a home directory");
        check("..\\..\\x", "denied: read_file: path `..\\..\\x`: holds `\\`");
        check("\\\\host\\share", ": holds `\\`");
        check("C:/x", ": starts with a drive");
        check("c:", ": starts with a drive");
    }

    #[test]
    fn what_cannot_be_a_path_is_invalid_and_says_why() {
        check("", "invalid: read_file: path ``: is empty");
        check("a\0b", "invalid: read_file: path `a\\u{0}b`: holds NUL (U+0000)");
        check("a\nb", ": holds the control character U+000A");
        check("a\u{7f}", ": holds the control character U+007F");
        check("a\u{85}", ": holds the control character U+0085");
        check(&"x".repeat(256), ": the name `xxx");
        check(&"é".repeat(128), ": the name");
        let error = RelativePath::parse("read_file", &"x".repeat(256), Meant::Existing).expect_err("too long");
        assert!(error.message().ends_with("has 256 bytes, at most 255 are allowed"), "{error}");
        check(&"x/".repeat(2_049), ": has 4098 bytes, at most 4096 are allowed");
    }

    #[test]
    fn look_alikes_are_refused_by_code_point() {
        for code in [
            0xff0e, 0xff0f, 0x2215, 0x2044, 0x2024, 0x2025, 0x202e, 0x2066, 0x2069, 0x200b, 0x200f, 0xfeff, 0xfe52,
            0xff3c, 0x29f8, 0x2028, 0xe0041, 0x61c,
        ] {
            let character = char::from_u32(code).expect("a character");
            check(&format!("a{character}b"), &format!(": holds U+{code:04X}, "));
        }
        check("\u{ff0e}\u{ff0e}/etc", "path `\\u{ff0e}\\u{ff0e}/etc`: holds U+FF0E, a fullwidth full stop");
    }

    #[test]
    fn a_written_path_ends_in_a_name() {
        for text in [".", "a/", "a/..", "./."] {
            assert!(RelativePath::parse("write_file", text, Meant::Written).is_err(), "{text}");
        }
        let path = RelativePath::parse("write_file", "a/b/c.txt", Meant::Written).expect("a path");
        assert_eq!(path.as_str(), "a/b/c.txt");
    }
}
