//! Lines that a person types, with a history.

use std::path::PathBuf;

use rustyline::error::ReadlineError;
use rustyline::{Config, DefaultEditor};

use super::exit::CliError;
use super::say;

/// So many lines are kept of a history.
const HISTORY_LINES_KEPT: usize = 1_000;

/// Where a person types.
pub(super) struct Prompt {
    editor: Option<DefaultEditor>,
    history: Option<PathBuf>,
}

impl Prompt {
    pub(super) fn new() -> Result<Self, CliError> {
        let config = Config::builder().max_history_size(HISTORY_LINES_KEPT).map_err(CliError::fault)?.build();
        let editor = DefaultEditor::with_config(config).map_err(CliError::fault)?;
        Ok(Self { editor: Some(editor), history: None })
    }

    /// With what was typed before, from a file that is made when something is.
    pub(super) fn with_history(file: PathBuf) -> Result<Self, CliError> {
        let mut prompt = Self::new()?;
        if let Some(editor) = &mut prompt.editor {
            // There is none at first.
            let _none = editor.load_history(&file);
        }
        prompt.history = Some(file);
        Ok(prompt)
    }

    /// The next line, without the blanks around it; nothing when the person has left.
    pub(super) async fn line(&mut self) -> Result<Option<String>, CliError> {
        loop {
            let Some(mut editor) = self.editor.take() else { return Ok(None) };
            // Waiting for a person takes a thread of its own.
            let read = tokio::task::spawn_blocking(move || {
                let line = editor.readline("> ");
                (editor, line)
            });
            let (editor, line) = read.await.map_err(CliError::fault)?;
            let editor = self.editor.insert(editor);
            let line = match line {
                Ok(line) => line.trim().to_owned(),
                Err(ReadlineError::Interrupted) => {
                    say("Ctrl-D leaves");
                    continue;
                }
                Err(ReadlineError::Eof) => return Ok(None),
                Err(error) => return Err(CliError::fault(error)),
            };
            // A history that cannot be kept is no reason to stop.
            let _kept = editor.add_history_entry(&line);
            if let Some(file) = &self.history {
                let _kept = editor.append_history(file);
            }
            return Ok(Some(line));
        }
    }
}
