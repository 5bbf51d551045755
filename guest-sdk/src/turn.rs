//! What a guest that drives several turns is given, and what it says.

/// One turn.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Turn {
    /// From 1, counted over the entity's life.
    pub number: u64,
    /// The intent of this episode.
    pub intent: String,
    /// What was said into the episode since the last turn.
    pub heard: Vec<String>,
}

/// Whether there is more to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<T> {
    /// There is.
    More,
    /// The answer.
    Finished(T),
}
