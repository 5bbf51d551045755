//! Judgements of entries, as this machine's own user asks the node for them that has the record.

use tonic::Status;

use super::client::{PeerNodes, chain};
use super::wire as v1;
use crate::domain::ids::{EntryId, IdError, LoomId};
use crate::driver::{Amendment, Runtime};
use crate::ports::PeerError;

/// Judges an entry here.
pub(super) async fn reward(runtime: &Runtime, asked: v1::RewardRequest) -> Result<v1::RewardResponse, Status> {
    let invalid = |error: IdError| Status::invalid_argument(error.to_string());
    let v1::RewardRequest { loom, entry, value, by } = asked;
    let (loom, entry): (LoomId, EntryId) = (loom.parse().map_err(invalid)?, entry.parse().map_err(invalid)?);
    let (entry, refused) = match runtime.amend(loom, entry, Amendment::Reward { value, by }).await {
        Ok(entry) => (entry.to_string(), String::new()),
        Err(error) => (String::new(), chain(&error)),
    };
    Ok(v1::RewardResponse { entry, refused })
}

impl PeerNodes {
    /// Has this machine's own node judge an entry.
    ///
    /// # Errors
    /// A node that cannot be reached, or refuses to be asked.
    pub async fn reward(
        &self,
        node: &str,
        (loom, entry): (LoomId, EntryId),
        (value, by): (f64, String),
    ) -> Result<v1::RewardResponse, PeerError> {
        let peer = self.find(node)?.clone();
        let request = v1::RewardRequest { loom: loom.to_string(), entry: entry.to_string(), value, by };
        let mut asked = self.client(&peer).await?;
        self.answer(&peer, asked.reward(request)).await
    }
}
