//! The gate `read_loom`: an entity reads what was recorded of it and of its children.

use std::collections::BTreeSet;

use cantrip_gates::{GateError, builtin, redact_json};
use serde_json::{Value, json};

use crate::domain::context::cut;
use crate::domain::guest::READ_LOOM;
use crate::domain::ids::{EntityId, EntryId};
use crate::domain::loom::{Body, NoJson, Payload, Sealed, body_json};

use super::actor::Actor;
use super::recorder::Loom;

impl Actor {
    /// One page. An entity is shown itself and everybody below it, so the id of a stranger's entry names nothing. Reading and
    /// redacting take as long as what is recorded is large, so neither is done on the threads of everybody else.
    pub(super) async fn read_loom(&self, arguments: Value) -> Result<Value, GateError> {
        let stopped = |why: &str| GateError::Failed(format!("{READ_LOOM}: {why}"));
        let (loom, entity) = (self.loom.clone(), self.entity.nature().id);
        let read = tokio::task::spawn_blocking(move || page(&loom, entity, &arguments));
        tokio::select! {
            biased;
            read = read => read.unwrap_or_else(|_| Err(stopped("was stopped before it ended"))),
            () = self.stopped() => Err(stopped("given up, because the episode was stopped")),
        }
    }
}

fn page(loom: &Loom, entity: EntityId, arguments: &Value) -> Result<Value, GateError> {
    let failed = |error: &dyn std::error::Error| GateError::Failed(format!("{READ_LOOM}: {error}"));
    let limit = arguments.get("limit").and_then(Value::as_u64).unwrap_or(builtin::LOOM_ENTRIES_MAX);
    let limit = usize::try_from(limit.min(builtin::LOOM_ENTRIES_MAX)).unwrap_or(usize::MAX);
    let own = entries_below(loom, entity).map_err(|error| failed(&error))?;
    let start = match arguments.get("cursor").and_then(Value::as_str) {
        None => 0,
        Some(cursor) => {
            let unknown = || {
                let cursor = cut(cursor, 80);
                GateError::NotFound(format!("{READ_LOOM}: the cursor {cursor} is none that this gate has returned"))
            };
            let id: EntryId = cursor.parse().map_err(|_| unknown())?;
            own.iter().position(|sealed| sealed.id == id).ok_or_else(unknown)? + 1
        }
    };
    let store = loom.store();
    let page = own.get(start..).unwrap_or_default();
    let mut entries = Vec::with_capacity(limit.min(page.len()));
    for sealed in page.iter().take(limit) {
        let text_of = |payload: &Payload| Ok::<_, NoJson>(store.text(payload).ok().flatten());
        let mut body = body_json(&sealed.entry, &text_of).map_err(|error| failed(&error))?;
        redact_json(&mut body);
        entries.push(json!({
            "id": sealed.id.to_string(),
            "kind": sealed.entry.body.kind(),
            "entity": sealed.entry.entity.map(|entity| entity.to_string()),
            "at_us": sealed.entry.at_us,
            "body": body,
        }));
    }
    let last = page.get(..entries.len()).and_then(<[Sealed]>::last);
    let next = last.filter(|_| entries.len() < page.len()).map(|sealed| sealed.id.to_string());
    Ok(json!({ "entries": entries, "next": next }))
}

/// The entries of an entity and of those that it has spawned, directly or not: a child is opened after its parent.
fn entries_below(loom: &Loom, entity: EntityId) -> Result<Vec<Sealed>, crate::ports::StoreError> {
    let mut family = BTreeSet::from([entity]);
    let mut entries = loom.store().entries(loom.id())?;
    entries.retain(|sealed| {
        let Some(entity) = sealed.entry.entity else { return false };
        if let Body::Opened(opened) = &sealed.entry.body
            && opened.spawned_by.is_some_and(|parent| family.contains(&parent))
        {
            family.insert(entity);
        }
        family.contains(&entity)
    });
    Ok(entries)
}
