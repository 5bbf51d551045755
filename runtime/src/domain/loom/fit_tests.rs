//! No text of any length stands in an entry: each is kept beside it, is cut, has a form of its own, or says what the entity is and is
//! measured before anything runs.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use ipld_core::ipld::Ipld;

use super::format_tests::every;
use super::{Body, Entry, EvaluationRecord, Payload, Payloads, Sealed};
use crate::domain::ids::{BlobId, CallId};
use crate::domain::limits::ENTRY_BYTES_MAX;

type Tested = Result<(), Box<dyn Error>>;

/// 2 MiB, twice as long as an entry may be.
fn long() -> String {
    "\u{fc}".repeat(1024 * 1024)
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// Whether a value is a text that can stand in its entry or beside it.
fn is_payload(value: &Ipld) -> bool {
    let Ipld::Map(map) = value else { return false };
    let (text, blob) = (map.get("text"), map.get("blob"));
    map.len() == 1 && (matches!(text, Some(Ipld::String(_))) || matches!(blob, Some(Ipld::Map(_))))
}

/// Where a value has texts: the way to each.
fn texts(value: &Ipld, way: &mut Vec<Step>, found: &mut Vec<Vec<Step>>) {
    match value {
        Ipld::String(_) => found.push(way.clone()),
        value if is_payload(value) => found.push(way.clone()),
        Ipld::Map(map) => {
            for (key, value) in map {
                way.push(Step::Key(key.clone()));
                texts(value, way, found);
                way.pop();
            }
        }
        Ipld::List(list) => {
            for (index, value) in list.iter().enumerate() {
                way.push(Step::Index(index));
                texts(value, way, found);
                way.pop();
            }
        }
        Ipld::Null | Ipld::Bool(_) | Ipld::Integer(_) | Ipld::Float(_) | Ipld::Bytes(_) | Ipld::Link(_) => {}
    }
}

fn ways(value: &Ipld) -> Vec<Vec<Step>> {
    let mut found = Vec::new();
    texts(value, &mut Vec::new(), &mut found);
    found
}

fn at<'a>(value: &'a mut Ipld, way: &[Step]) -> Option<&'a mut Ipld> {
    let Some((first, rest)) = way.split_first() else { return Some(value) };
    match (value, first) {
        (Ipld::Map(map), Step::Key(key)) => at(map.get_mut(key)?, rest),
        (Ipld::List(list), Step::Index(index)) => at(list.get_mut(*index)?, rest),
        _ => None,
    }
}

/// A field as `kind.field.field`, lists passed through.
fn named(kind: &str, way: &[Step]) -> String {
    let keys = way.iter().filter_map(|step| if let Step::Key(key) = step { Some(key.as_str()) } else { None });
    std::iter::once(kind).chain(keys).collect::<Vec<_>>().join(".")
}

fn typed(value: &Ipld) -> Result<Option<Body>, Box<dyn Error>> {
    Ok(serde_ipld_dagcbor::from_slice(&serde_ipld_dagcbor::to_vec(value)?).ok())
}

/// What becomes of a body as the driver writes it: the length of its entry, or nothing where the entity is not opened.
fn written(entry: &Entry, body: Body) -> Result<Option<usize>, Box<dyn Error>> {
    let body = body.fit();
    if let Body::Opened(opened) = &body
        && opened.fits().is_err()
    {
        return Ok(None);
    }
    Ok(Some(Sealed::new(Entry { body, ..entry.clone() }, Vec::new())?.bytes.len()))
}

/// The texts of all kinds, by what becomes of a long one.
#[derive(Debug, Default)]
struct Fields {
    beside: BTreeSet<String>,
    cut: BTreeSet<String>,
    formed: BTreeSet<String>,
    measured: BTreeSet<String>,
}

fn fields() -> Result<Fields, Box<dyn Error>> {
    let mut fields = Fields::default();
    for Sealed { entry, .. } in every() {
        let mut whole = ipld_core::serde::to_ipld(&entry.body)?;
        for way in ways(&whole) {
            let name = named(entry.body.kind(), &way);
            let before = at(&mut whole, &way).ok_or("no such field")?.clone();
            let is_payload = is_payload(&before);
            let text = if is_payload {
                ipld_core::serde::to_ipld(Payloads::default().text(&long()))?
            } else {
                Ipld::String(long())
            };
            *at(&mut whole, &way).ok_or("no such field")? = text;
            let body = typed(&whole)?;
            *at(&mut whole, &way).ok_or("no such field")? = before;
            let Some(body) = body else {
                assert!(!is_payload, "{name} cannot be kept beside its entry");
                fields.formed.insert(name);
                continue;
            };
            let bytes = written(&entry, body).map_err(|error| format!("{name}: {error}"))?;
            assert!(bytes.is_none_or(|bytes| bytes < ENTRY_BYTES_MAX / 8), "{name}: {bytes:?}");
            match (bytes, is_payload) {
                (Some(_), true) => fields.beside.insert(name),
                (Some(_), false) => fields.cut.insert(name),
                (None, _) => fields.measured.insert(name),
            };
        }
    }
    Ok(fields)
}

fn listed(fields: &str) -> BTreeSet<String> {
    fields.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_text_of_any_length_stands_in_no_entry() -> Tested {
    assert!(matches!(Payloads::default().text(&long()), Payload::Blob { bytes, .. } if bytes == 2 << 20));
    let Fields { beside, cut, formed, measured } = fields()?;
    assert_eq!(beside, listed(BESIDE));
    assert_eq!(cut, listed(CUT));
    assert_eq!(formed, listed(FORMED));
    assert_eq!(measured, listed(MEASURED));
    Ok(())
}

/// Kept beside the entry where they are long.
const BESIDE: &str = "\
    admitted.note adopted.note delegated.proposal ended.result ended.summary expelled.note folded.summary \
    gate_called.arguments gate_called.asks.shown gate_returned.partial gate_returned.result.ok intent.note intent.text \
    observation.answers.content observation.answers.shown_instead observation.evaluations.gate_clocks \
    observation.standing.ceiling opened.identity.system_prompt opened.intent opened.note opened.standing.ceiling \
    rewarded.note settled.note utterance.calls.arguments utterance.content utterance.thinking utterance.thinking_blocks";

/// Cut where they are made, and say so.
const CUT: &str = "\
    admitted.by adopted.by adopted.node decided.approver decided.by decided.call decided.scope delegated.call \
    delegated.place ended.reason expelled.by gate_called.asks.rule gate_called.call gate_called.gate gate_called.place \
    gate_returned.call gate_returned.result.error.message gate_returned.result.error.message.message \
    gate_returned.result.error.message.reason intent.by intent.file intent.mode intent.model intent.trace \
    observation.answers.call observation.evaluations.call observation.standing.placement.gates.a_gate \
    observation.standing.placement.gates.b observation.standing.placement.model opened.by opened.file opened.mode \
    replayed.difference replayed.medium replayed.node rewarded.by settled.by snapshot.medium utterance.calls.gate \
    utterance.calls.id utterance.fallback_of utterance.finish utterance.model";

/// Refused when they are read, unless they have the form of what they are: kinds and choices, ids, names of nodes.
const FORMED: &str = "\
    admitted.kind admitted.principal.node.name admitted.rights admitted.scope.entity adopted.kind adopted.last.cast \
    decided.decision decided.kind delegated.child delegated.kind ended.how ended.kind expelled.ends.cast expelled.kind \
    expelled.target.node.name folded.kind founded.kind gate_called.kind gate_called.reach gate_returned.kind \
    gate_returned.result.error.kind intent.cast intent.kind keeping.keepers.node.name keeping.kind observation.kind \
    observation.standing.reserves.child opened.cast opened.folding.summary opened.fork.from.loom opened.fork.of opened.fork.strategy \
    opened.gates.reach opened.identity.tool_choice opened.kind opened.origins.node opened.spawned_by \
    opened.standing.reserves.child opened.wards.allow_hosts replayed.kind rewarded.kind settled.child settled.ends.cast \
    settled.kind snapshot.kind utterance.kind";

/// What says what an entity is: it cannot be cut, and an entity with too much of it is not opened.
const MEASURED: &str = "\
    opened.caller opened.gates.name opened.guest opened.identity.sampling.reasoning_effort opened.medium \
    opened.medium_digest opened.model opened.node opened.pins.digest opened.pins.server opened.pins.version \
    opened.standing.placement.gates.a_gate opened.standing.placement.gates.b opened.standing.placement.model opened.trace \
    opened.wards.child_gates";

#[test]
fn long_texts_in_all_fields_at_once_fit() -> Tested {
    for Sealed { entry, .. } in every() {
        let mut whole = ipld_core::serde::to_ipld(&entry.body)?;
        for way in ways(&whole) {
            let before = at(&mut whole, &way).ok_or("no such field")?.clone();
            if is_payload(&before) {
                continue;
            }
            *at(&mut whole, &way).ok_or("no such field")? = Ipld::String("x".repeat(20_000));
            if typed(&whole)?.is_none() {
                *at(&mut whole, &way).ok_or("no such field")? = before;
            }
        }
        let body = typed(&whole)?.ok_or("no body")?;
        assert!(written(&entry, body)?.is_none_or(|bytes| bytes < ENTRY_BYTES_MAX), "{}", entry.body.kind());
    }
    Ok(())
}

#[test]
fn a_clock_of_any_length_is_kept_beside_its_entry_and_read_again() -> Tested {
    let record = EvaluationRecord {
        call: CallId::new("c"),
        seed: 1,
        clock_us: 2,
        gate_clocks_us: (0..300_000).map(|clock| 1_790_000_000_000_000 + clock).collect(),
        stopped_at_poll: None,
        lost: false,
        fuel: None,
    };
    let mut payloads = Payloads::default();
    let recorded = record.recorded(&mut payloads);
    let blobs: BTreeMap<BlobId, Vec<u8>> =
        payloads.into_blobs().into_iter().map(|blob| (blob.id, blob.bytes)).collect();
    let Payload::Blob { id, bytes } = &recorded.gate_clocks else { return Err("it is in the entry".into()) };
    assert!(*bytes > 2 << 20);
    let text = String::from_utf8(blobs.get(id).ok_or("no text")?.clone())?;
    assert_eq!(recorded.read(&text), record);
    Ok(())
}
