//! Names that no gate writes.
//!
//! Owns the list and when two names are the same: a file system may ignore case, trailing dots and spaces, invisible
//! characters or what follows a colon, and may give a file a second, short name. A name that any of them would take for
//! one of the list is one of the list. What is written under these names is run or believed by somebody's tools later:
//! hooks of version control, commands of `.envrc`, the authority that a cantrip or node file hands out.

/// Files and folders that configure tools, wherever they lie.
pub const PROTECTED_NAMES: &[&str] =
    &[".git", ".hg", ".svn", ".jj", "_darcs", "cantrip.toml", "node.toml", ".envrc", ".cantripignore"];

/// Why a name cannot be lifted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a name that is refused; those are {}", PROTECTED_NAMES.join(", "))]
pub struct ProtectedNameError {
    /// The name that came, cut to 64 characters.
    name: String,
}

/// The protected names that a root still refuses to write. Default: all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Protected(Vec<&'static str>);

impl Default for Protected {
    fn default() -> Self {
        Self(PROTECTED_NAMES.to_vec())
    }
}

impl Protected {
    /// The same without one name.
    pub(crate) fn lift(&mut self, name: &str) -> Result<(), ProtectedNameError> {
        if !PROTECTED_NAMES.contains(&name) {
            return Err(ProtectedNameError { name: name.chars().take(64).collect() });
        }
        self.0.retain(|protected| *protected != name);
        Ok(())
    }

    /// The protected name that a file system could take this one for.
    pub(crate) fn meant_by(&self, name: &str) -> Option<&'static str> {
        let plain = plain(name);
        self.0.iter().copied().find(|protected| plain == *protected || is_short_for(&plain, protected))
    }
}

/// The name as the most forgiving file systems compare it: without case, without invisible characters, without a stream
/// behind a colon, without dots and spaces at its end.
pub(crate) fn plain(name: &str) -> String {
    let visible = name.chars().filter(|character| !is_ignored(*character));
    // Up and down again: `ſ` and `ı` have no lower case of their own, but share the upper case of `s` and `i`.
    let folded: String =
        visible.flat_map(char::to_uppercase).flat_map(char::to_lowercase).filter(|it| *it != '\u{307}').collect();
    let file = folded.split(':').next().unwrap_or_default();
    file.trim_end_matches(|character: char| character == '.' || character.is_whitespace()).to_owned()
}

/// Characters that some file systems leave out when they compare names.
fn is_ignored(character: char) -> bool {
    matches!(character, '\u{ad}' | '\u{34f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{e0000}'..='\u{e01ef}')
}

/// Whether a name is one that FAT and NTFS give to a file beside its own: up to six letters of it, `~` and a number, or
/// two letters and four of a hash; then three letters of the ending.
fn is_short_for(plain: &str, protected: &str) -> bool {
    let (stem, ending) = match protected.strip_prefix('.').unwrap_or(protected).split_once('.') {
        Some((stem, ending)) => (stem, ending),
        None => (protected.trim_start_matches('.'), ""),
    };
    let (short, short_ending) = plain.split_once('.').unwrap_or((plain, ""));
    let Some((letters, number)) = short.split_once('~') else { return false };
    let is_number = !number.is_empty() && number.len() <= 6 && number.bytes().all(|byte| byte.is_ascii_digit());
    let is_cut = |full: &str, cut: &str, chars: usize| full.get(..chars.min(full.len())) == Some(cut);
    let is_hashed = letters.len() == 6
        && letters.get(..2) == stem.get(..2)
        && letters.bytes().skip(2).all(|byte| byte.is_ascii_hexdigit());
    is_number && is_cut(ending, short_ending, 3) && (is_cut(stem, letters, 6) || is_hashed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Option<&str>) {
        assert_eq!(Protected::default().meant_by(name), expected, "{name:?}");
    }

    #[test]
    fn a_name_is_protected_in_every_spelling_that_a_file_system_forgives() {
        for name in [
            ".git",
            ".GIT",
            ".Git",
            ".git ",
            ".git.",
            ".git . .",
            ".git::$INDEX_ALLOCATION",
            ".git:x",
            "GIT~1",
            "git~12",
            ".g\u{200c}it",
            ".gı\u{200d}t",
            ".gİt",
            "GI7EBA~1",
        ] {
            check(name, Some(".git"));
        }
        check(".ENVRC", Some(".envrc"));
        check("ENVRC~1", Some(".envrc"));
        check("CANTRI~1.TOM", Some("cantrip.toml"));
        check("Cantrip.TOML.", Some("cantrip.toml"));
        check("cantrip.tom\u{212a}", None);
        check("node.toml", Some("node.toml"));
        check("NODE~2.TOM", Some("node.toml"));
        check("_DARC\u{17f}", Some("_darcs"));
        check(".\u{17f}vn", Some(".svn"));
        check(".cantripignore", Some(".cantripignore"));
    }

    #[test]
    fn names_that_only_resemble_one_are_free() {
        for name in [
            "git",
            ".github",
            ".gitignore",
            ".gitattributes",
            "git~",
            "git~x",
            "a.git",
            "cantrip.toml.md",
            "my-node.toml",
            "envrc",
            "",
            "..",
            "node.tom",
            "CANTRI~1.MD",
        ] {
            check(name, None);
        }
    }

    #[test]
    fn a_name_is_lifted_alone_and_a_stranger_is_refused() {
        let mut protected = Protected::default();
        protected.lift(".envrc").expect("one of them");
        assert_eq!(protected.meant_by(".ENVRC"), None);
        assert_eq!(protected.meant_by(".git"), Some(".git"));
        let error = protected.lift(".bashrc").expect_err("not one of them");
        assert!(error.to_string().starts_with("`.bashrc` is not a name that is refused; those are .git,"), "{error}");
    }
}
