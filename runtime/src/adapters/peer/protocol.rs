//! The number of the protocol: said with each call, so that nodes of different releases part with a sentence.

use tonic::codegen::http::HeaderMap;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::wire::node_client::NodeClient;
use crate::domain::limits::INLINE_NAME_BYTES_MAX;

/// Counts up with each change of `cantrip.v1` that an earlier release cannot read. 1 had no number.
pub const PROTOCOL: u32 = 2;

/// Where a caller says it.
const HEADER: &str = "cantrip-protocol";

/// A client that says which protocol it speaks.
pub(super) type Client = NodeClient<InterceptedService<Channel, fn(Request<()>) -> Result<Request<()>, Status>>>;

/// A client on a connection.
pub(super) fn client(channel: Channel) -> Client {
    NodeClient::with_interceptor(channel, |mut request| {
        request.metadata_mut().insert(HEADER, MetadataValue::from(PROTOCOL));
        Ok(request)
    })
}

/// Refuses a caller that says that it speaks another protocol than this node. Who says none knows this one by its description.
pub(super) fn check(headers: &HeaderMap, node: &str) -> Result<(), Status> {
    let Some(said) = headers.get(HEADER) else { return Ok(()) };
    if said.as_bytes() == PROTOCOL.to_string().as_bytes() {
        return Ok(());
    }
    let said = said.to_str().ok().filter(|said| said.len() <= INLINE_NAME_BYTES_MAX).unwrap_or("of no number");
    let what = format!(
        "the caller speaks protocol {said} of cantrip.v1, and {node} speaks {PROTOCOL}: use releases that speak the same"
    );
    Err(Status::failed_precondition(what))
}
