//! What is around a file when it is read: the host's media and guests, and what is its user's and not the file's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::FileError;
use crate::adapters::wasm::ShelfError;
use crate::cli::config::{ChosenModel, UserConfig};
use crate::cli::trust::{Statement, UntrustedError};
use crate::ports::{Guest, MediumFactory};

/// Finds a guest by what a cantrip file says and the folder that the file is in.
pub type GuestFinder<'a> = dyn Fn(&str, &Path) -> Result<Arc<dyn Guest>, ShelfError> + 'a;

/// Judges what a file reaches: an error keeps it from being used.
pub type TrustCheck<'a> = dyn Fn(&Path, &Statement) -> Result<(), FileError> + 'a;

/// What is the user's and not the file's.
#[derive(Clone, Copy)]
pub struct UserSide<'a> {
    /// The environment, for keys and addresses of providers.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The user's own configuration, whose models a file may name. Default: none.
    pub config: Option<&'a UserConfig>,
    /// The model that is asked in place of the file's. Default: none.
    pub llm: Option<&'a ChosenModel>,
    /// Judges what the file reaches. Default: whatever reaches beyond its own project is refused.
    pub trust: &'a TrustCheck<'a>,
    /// The home folder: a file there, or above, has no project. Default: this process's.
    pub home: Option<&'a Path>,
    /// Folders and files that no gate opens. Default: none.
    pub closed: &'a [PathBuf],
}

impl<'a> UserSide<'a> {
    /// A user who trusts nothing and has no models.
    pub fn new(env: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { env, config: None, llm: None, trust: &nothing_trusted, home: crate::cli::settings::home(), closed: &[] }
    }
}

fn nothing_trusted(file: &Path, statement: &Statement) -> Result<(), FileError> {
    if statement.is_empty() {
        return Ok(());
    }
    Err(FileError::Untrusted(UntrustedError { file: file.to_owned(), beyond: statement.clone() }))
}

impl std::fmt::Debug for UserSide<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("UserSide").field("config", &self.config).field("closed", &self.closed).finish_non_exhaustive()
    }
}

/// What a cantrip file is read with.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// The media of the host.
    pub media: &'a dyn MediumFactory,
    /// Finds a guest by what the file says and the folder that the file is in.
    pub guest: &'a GuestFinder<'a>,
    /// What is the user's and not the file's.
    pub user: UserSide<'a>,
}

impl<'a> Around<'a> {
    /// Media, guests and an environment, for a user who trusts nothing and has no models.
    pub fn new(
        media: &'a dyn MediumFactory,
        guest: &'a GuestFinder<'a>,
        env: &'a dyn Fn(&str) -> Option<String>,
    ) -> Self {
        Self { media, guest, user: UserSide::new(env) }
    }
}

impl std::fmt::Debug for Around<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Around").field("media", &self.media).finish_non_exhaustive()
    }
}
