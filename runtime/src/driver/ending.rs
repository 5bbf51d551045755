//! How an episode ended, as its record says it.

use serde_json::Value;

use crate::domain::ids::EntityId;
use crate::domain::json;
use crate::domain::loom::Tree;
use crate::ports::{LoomStore, RemoteEnd};

use super::fault::Fault;

/// The end of an entity's last episode; nothing where it has none.
pub(super) fn end_of(store: &dyn LoomStore, tree: &Tree, entity: EntityId) -> Result<Option<RemoteEnd>, Fault> {
    let Ok(view) = tree.entity(entity) else { return Ok(None) };
    let Some(ended) = &view.ended else { return Ok(None) };
    let summary = ended.summary.as_ref().map(|summary| store.text(summary)).transpose()?.flatten();
    Ok(Some(RemoteEnd {
        how: ended.how,
        reason: ended.reason.clone(),
        result: tree.result(entity).map(|text| json::parse(&text).unwrap_or(Value::String(text))),
        summary: summary.clone(),
        spent: ended.spent,
        seen: tree.seen(entity)?,
        failure: summary.filter(|_| ended.reason.is_failure()),
    }))
}
