//! What an episode on another node has of the node that it was cast from: the port through which what came is taken, and asked back.

use cantrip_gates::{Exposure, GateError};
use serde_json::Value;
use thiserror::Error;

use super::{BoxFuture, Pieces, StoreError};
use crate::domain::end::EndReason;
use crate::domain::event::Event;
use crate::domain::ids::{EntityId, LoomId};
use crate::domain::loom::{CastHead, How, Sealed, Spent};
use crate::domain::model::{ModelError, Question, RawAnswer};

/// What a remote episode needs of the node that it was cast from.
pub trait Home: Send + Sync {
    /// The host's names for a loom and an entity that it was asked to name ([`ByHost`](crate::domain::remote::ByHost)). It may be told
    /// them again.
    ///
    /// # Errors
    /// Other names than before.
    fn named(&self, loom: LoomId, entity: EntityId) -> Result<(), HomeError>;

    /// A connection to the host begins: what came over the one before and was under no head yet comes again.
    fn connected(&self) {}

    /// The newest heads of the cast that are here: its host is shown them.
    fn heads(&self) -> Vec<CastHead> {
        Vec::new()
    }

    /// Takes an entry that came from the host. It is nothing until [`Home::cover`] has been told of heads over it.
    fn receive(&self, sealed: Sealed) -> Result<(), HomeError>;

    /// Takes heads over everything that came before. It counts once [`Home::sync`] returned.
    fn cover(&self, heads: Vec<CastHead>) -> Result<(), HomeError>;

    /// Whether entries came that no head is over yet.
    fn is_uncovered(&self) -> bool {
        false
    }

    /// The host says that nothing more comes.
    ///
    /// # Errors
    /// Less than it has signed before, or something under no head.
    fn finish(&self) -> Result<(), HomeError> {
        Ok(())
    }

    /// Returns when everything taken before is durable.
    fn sync(&self) -> BoxFuture<'_, Result<(), HomeError>>;

    /// Whether anybody wants to be told of events: what nobody sees does not travel.
    fn is_watched(&self) -> bool;

    /// Something happened.
    fn event(&self, event: Event);

    /// Runs a gate that is placed here.
    fn gate<'a>(&'a self, gate: &'a str, arguments: Value) -> BoxFuture<'a, Result<Value, GateError>>;

    /// Asks the model that is placed here.
    fn ask<'a>(
        &'a self,
        question: &'a Question,
        pieces: &'a dyn Pieces,
    ) -> BoxFuture<'a, Result<RawAnswer, ModelError>>;

    /// A guest that the host lacks.
    fn guest<'a>(&'a self, digest: &'a str) -> BoxFuture<'a, Option<Vec<u8>>>;

    /// Waits for something that the episode has to be told.
    fn signal(&self) -> BoxFuture<'_, Signal>;
}

/// What is said to a running episode from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// Heard at the next turn boundary.
    Steer(String),
    /// The episode ends at the next turn boundary.
    Interrupt,
    /// It stops at once. Whether because its parent has ended.
    Stop {
        /// See above.
        parent_terminated: bool,
    },
}

/// Why the home of a remote episode did not take what came.
#[derive(Debug, Error)]
pub enum HomeError {
    /// What the host sent is not what it may send.
    #[error("{0}")]
    Refused(String),
    /// Ours.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How a remote episode ended, as the host says.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteEnd {
    /// By the entity or by the circle.
    pub how: How,
    /// What was decisive.
    pub reason: EndReason,
    /// The answer.
    pub result: Option<Value>,
    /// What was done so far, for a truncated episode.
    pub summary: Option<String>,
    /// What was spent.
    pub spent: Spent,
    /// What was met.
    pub seen: Exposure,
    /// Why the model or the guest could not go on.
    pub failure: Option<String>,
}
