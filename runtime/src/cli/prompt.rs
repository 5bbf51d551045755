//! Lines that a person types, with a history.

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::exit::CliError;

/// Where a person types.
pub(super) struct Prompt(Option<DefaultEditor>);

impl Prompt {
    pub(super) fn new() -> Result<Self, CliError> {
        DefaultEditor::new().map(|editor| Self(Some(editor))).map_err(CliError::fault)
    }

    /// The next line, without the blanks around it; nothing when the person has left.
    pub(super) async fn line(&mut self) -> Result<Option<String>, CliError> {
        let Some(mut editor) = self.0.take() else { return Ok(None) };
        // Waiting for a person takes a thread of its own.
        let read = tokio::task::spawn_blocking(move || {
            let line = editor.readline("> ");
            (editor, line)
        });
        let (mut editor, line) = read.await.map_err(CliError::fault)?;
        let line = match line {
            Ok(line) => line.trim().to_owned(),
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => return Ok(None),
            Err(error) => return Err(CliError::fault(error)),
        };
        // A history that cannot be kept is no reason to stop.
        let _kept = editor.add_history_entry(&line);
        self.0 = Some(editor);
        Ok(Some(line))
    }
}
