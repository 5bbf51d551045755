//! Format 2 as bytes: one entry of every kind with every field, what later versions add, and what is no entry.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use cantrip_gates::{Exposure, GateError, Reach, Truncation, Wards};
use ipld_core::ipld::Ipld;
use proptest::prelude::*;

use super::{
    Answer, Asks, Body, CallRecord, Decided, Decision, Ended, Entry, Fork, ForkSource, ForkStrategy, GateRecord, How,
    IdentityRecord, Intent, Minted, NoJson, Observed, Opened, Origin, PageRef, Payload, Pin, Placement,
    RecordedEvaluation, Reserve, Returned, Said, Sealed, Spent, Standing, Tree, ViewError, body_json,
};
use crate::domain::cantrip::{Folding, Summary};
use crate::domain::ids::{BlobId, CallId, CastId, EntityId, EntryId, LoomId, WriterKey, hex};
use crate::domain::members::{
    Admitted, AuthorityId, Batch, CertificateId, Expelled, LogEnd, NodeId, Nonce, Principal, Right, Scope, Settled,
    Target, Vouched,
};
use crate::domain::model::{Sampling, ToolChoice, Usage};
use crate::domain::place::CallPlace;

type Tested = Result<(), Box<dyn Error>>;

/// Makes values: all fields set, or each by a number that the state gives.
struct Make {
    state: u64,
    full: bool,
}

impl Make {
    fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> (mixed % 60)
    }

    fn small(&mut self) -> u32 {
        u32::try_from(self.number() % 1_000).unwrap_or(0)
    }

    fn flag(&mut self) -> bool {
        self.full || self.number().is_multiple_of(2)
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        [0; N].map(|_| self.number().to_le_bytes()[0])
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| make(self))
    }

    fn some<T>(&mut self, make: impl Fn(&mut Self) -> T) -> Vec<T> {
        let count = if self.full { 2 } else { self.number() % 4 };
        (0..count).map(|_| make(self)).collect()
    }

    fn string(&mut self) -> String {
        const PARTS: [&str; 8] = ["done", "ü", "", "\u{1}", "a b", "{\"x\":1}", "😀", "kind"];
        let parts = self.some(|make| PARTS[usize::try_from(make.number() % 8).unwrap_or(0)]);
        parts.concat()
    }

    fn payload(&mut self) -> Payload {
        if self.number().is_multiple_of(2) {
            Payload::Inline(self.string())
        } else {
            Payload::Blob { id: BlobId::from_digest(self.bytes()), bytes: self.number() }
        }
    }

    fn entry_id(&mut self) -> EntryId {
        EntryId::from_digest(self.bytes())
    }

    fn entity(&mut self) -> EntityId {
        EntityId::from_parts(self.number() >> 16, self.bytes())
    }

    fn writer(&mut self) -> WriterKey {
        WriterKey::from_bytes(self.bytes())
    }

    fn call(&mut self) -> CallId {
        CallId::new(&self.string())
    }

    fn place(&mut self) -> CallPlace {
        let places = ["here", "caller", "any", "a@h:1", "a@h:1 or b@h:2", "later"];
        CallPlace::from(places[usize::try_from(self.number() % 6).unwrap_or(0)])
    }

    fn usage(&mut self) -> Usage {
        Usage { prompt_tokens: self.number(), completion_tokens: self.number(), cached_tokens: self.number() }
    }

    fn exposure(&mut self) -> Exposure {
        Exposure { private: self.flag(), untrusted: self.flag(), outbound: self.flag() }
    }

    fn node(&mut self) -> NodeId {
        NodeId { authority: AuthorityId::from_bytes(self.bytes()), name: "a-node".parse().unwrap() }
    }

    fn principal(&mut self) -> Principal {
        if self.flag() { Principal::Node(self.node()) } else { Principal::Key(self.writer()) }
    }

    fn end(&mut self) -> LogEnd {
        let cast = self.maybe(Self::entity);
        LogEnd { writer: self.writer(), sequence: self.number(), chain: self.bytes(), cast }
    }

    fn standing(&mut self) -> Standing {
        let gates = BTreeMap::from([("a_gate".to_owned(), self.place()), ("b".to_owned(), self.place())]);
        Standing {
            placement: self.maybe(|make| Placement { model: make.maybe(Self::place), gates }),
            exposure: self.maybe(Self::exposure),
            spent_us: self.maybe(Self::number),
            left_us: self.maybe(Self::number),
            lease_ms: self.maybe(Self::number),
            ceiling: self.maybe(Self::payload),
            query_usage: self.maybe(Self::usage),
            failed_usage: self.maybe(Self::usage),
            estimated: self.flag(),
            cost_nano: self.maybe(Self::number),
            reserves: self.some(|make| Reserve {
                child: make.entity(),
                tokens: make.number(),
                gate_calls: make.maybe(Self::number),
                children: make.maybe(Self::number),
            }),
            // Of numbers of its own: what came later changes no other bytes.
            spent: self.full.then(|| Self { state: 7, full: true }.spent()),
        }
    }

    fn spent(&mut self) -> Spent {
        Spent {
            turns: self.number(),
            gate_calls: self.number(),
            children: self.number(),
            usage: self.usage(),
            children_usage: self.usage(),
            fuel: self.number(),
        }
    }

    fn opened(&mut self) -> Opened {
        let wards = serde_json::json!({
            "max_turns": self.number(), "require_done_tool": true, "child_gates": ["a", "b"], "allow_hosts": ["*.b.net"],
        });
        Opened {
            identity: IdentityRecord {
                system_prompt: self.maybe(Self::payload),
                sampling: Sampling {
                    temperature: self.maybe(|_| 0.5),
                    top_p: self.maybe(|_| 0.25),
                    max_output_tokens: self.maybe(Self::small),
                    reasoning_effort: self.maybe(Self::string),
                },
                tool_choice: self.maybe(|_| ToolChoice::Required),
            },
            medium: self.string(),
            medium_digest: self.maybe(Self::string),
            gates: self.some(|make| GateRecord {
                name: make.string(),
                reach: Reach::External,
                exposure: make.exposure(),
                ephemeral: make.flag(),
            }),
            wards: Wards::from_value(&wards).unwrap(),
            folding: Folding {
                trigger_after_turns: self.maybe(Self::number),
                trigger_at_percent: 80,
                keep_turns: 2,
                summary: Summary::Model,
            },
            model: self.string(),
            guest: self.maybe(Self::string),
            intent: self.payload(),
            node: self.string(),
            depth: self.small(),
            cast: CastId::from_bytes(self.bytes()),
            trace: self.maybe(Self::string),
            spawned_by: self.maybe(Self::entity),
            fork: self.maybe(|make| Fork {
                of: make.entity(),
                turns: make.number(),
                strategy: ForkStrategy::Snapshot,
                from: make.maybe(|make| {
                    let (loom, after) = (LoomId::from_parts(make.number(), [7; 16]), make.maybe(Self::entry_id));
                    Box::new(ForkSource { loom, after, pieces: make.some(|make| BlobId::from_digest(make.bytes())) })
                }),
            }),
            caller: self.maybe(Self::string),
            minted: self.maybe(|make| Minted { by: make.writer(), nonce: Nonce::from_bytes(make.bytes()) }),
            delegated: self.maybe(Self::entry_id),
            origins: self.some(|make| Origin {
                node: "a-node".parse().unwrap(),
                authority: make.maybe(|make| AuthorityId::from_bytes(make.bytes())),
            }),
            standing: self.maybe(|make| Box::new(make.standing())),
            pins: self.some(|make| Pin {
                server: make.string(),
                digest: make.string(),
                version: make.maybe(Self::string),
            }),
            by: self.maybe(Self::string),
            note: self.maybe(Self::payload),
            mode: self.maybe(Self::string),
            file: self.maybe(Self::string),
        }
    }

    fn said(&mut self) -> Said {
        Said {
            content: self.maybe(Self::payload),
            thinking: self.maybe(Self::payload),
            calls: self.some(|make| CallRecord { id: make.call(), gate: make.string(), arguments: make.payload() }),
            usage: self.usage(),
            model: self.string(),
            duration_us: self.number(),
            retries: self.small(),
            estimated: self.flag(),
            cache_written_tokens: self.maybe(Self::number),
            cost_nano: self.maybe(Self::number),
            thinking_blocks: self.maybe(Self::payload),
            fallback_of: self.maybe(Self::string),
            finish: self.maybe(Self::string),
        }
    }

    fn observed(&mut self) -> Observed {
        Observed {
            answers: self.some(|make| Answer {
                call: make.maybe(Self::call),
                content: make.payload(),
                is_error: make.flag(),
                shown_instead: make.maybe(Self::payload),
            }),
            output_dropped_bytes: self.number(),
            evaluations: self.some(|make| RecordedEvaluation {
                call: make.call(),
                seed: make.number(),
                clock_us: make.number(),
                gate_clocks: make.payload(),
                stopped_at_poll: make.maybe(Self::number),
                lost: make.flag(),
                fuel: make.maybe(Self::number),
            }),
            duration_us: self.number(),
            standing: self.maybe(|make| Box::new(make.standing())),
        }
    }

    /// What somebody who is a member may say of members.
    fn of_members(&mut self) -> Vec<Body> {
        let minted = Minted { by: self.writer(), nonce: Nonce::from_bytes(self.bytes()) };
        let scope = Scope { entity: self.entity(), minted, opener: self.writer(), bytes_max: self.number() };
        let admitted = |make: &mut Self, scope| Admitted {
            principal: make.principal(),
            rights: [Right::Write, Right::Adopt, Right::Admit].into_iter().collect(),
            scope,
            again: make.some(Self::entry_id),
            by: make.maybe(Self::string),
            note: make.maybe(Self::payload),
        };
        let expelled = |make: &mut Self, target| Expelled {
            target,
            ends: make.some(Self::end),
            by: make.maybe(Self::string),
            note: make.maybe(Self::payload),
        };
        let targets = [
            Target::Node(self.node()),
            Target::Key(self.writer()),
            Target::Certificate(CertificateId::from_bytes(self.bytes())),
        ];
        let settled = Settled {
            child: self.entity(),
            admission: self.entry_id(),
            ends: self.some(Self::end),
            by: self.maybe(Self::string),
            note: self.maybe(Self::payload),
        };
        let founded = Body::Founded {
            nonce: Nonce::from_bytes(self.bytes()),
            member: self.maybe(|make| serde_bytes::ByteBuf::from(make.bytes::<9>())),
        };
        let keeping =
            Body::Keeping { acks: self.small(), keepers: self.some(Self::principal), accept_loss: self.flag() };
        let mut bodies = vec![founded, keeping, Body::Settled(Box::new(settled))];
        bodies.push(Body::Admitted(Box::new(admitted(self, None))));
        bodies.push(Body::Admitted(Box::new(admitted(self, Some(scope)))));
        bodies.extend(targets.map(|target| Body::Expelled(Box::new(expelled(self, target)))));
        bodies
    }

    fn of_calls(&mut self) -> Vec<Body> {
        let truncated = Truncation { reason: self.string(), message: self.string(), partial: None };
        let errors = [GateError::Unknown(self.string()), GateError::Truncated(Box::new(truncated))];
        let results = [Returned::Ok(self.payload())].into_iter().chain(errors.map(Returned::Error));
        let mut bodies: Vec<Body> = results
            .map(|result| Body::GateReturned {
                call: self.call(),
                result,
                duration_us: self.number(),
                ephemeral: self.flag(),
                partial: self.maybe(Self::payload),
            })
            .collect();
        bodies.push(Body::GateCalled {
            call: self.call(),
            gate: self.string(),
            arguments: self.payload(),
            reach: Reach::Write,
            place: self.place(),
            asks: self.maybe(|make| {
                let (rule, shown, timeout_ms) = (make.string(), make.maybe(Self::payload), make.maybe(Self::number));
                Box::new(Asks { rule, shown, timeout_ms })
            }),
            refused: self.full,
        });
        bodies.push(Body::Delegated {
            call: self.call(),
            index: self.small(),
            child: self.entity(),
            proposal: self.payload(),
            place: self.place(),
            nonce: self.maybe(|make| Nonce::from_bytes(make.bytes())),
        });
        bodies.extend([Decision::Approved, Decision::Denied, Decision::Unanswered].map(|decision| {
            Body::Decided(Box::new(Decided {
                call: self.call(),
                decision,
                arguments: self.bytes(),
                scope: self.string(),
                by: self.string(),
                approver: self.string(),
            }))
        }));
        bodies
    }

    /// One of every kind.
    fn bodies(&mut self) -> Vec<Body> {
        let intent = Intent {
            text: self.payload(),
            steer: self.flag(),
            cast: self.maybe(|make| CastId::from_bytes(make.bytes())),
            by: self.maybe(Self::string),
            note: self.maybe(Self::payload),
            model: self.maybe(Self::string),
            mode: self.maybe(Self::string),
            file: self.maybe(Self::string),
            trace: self.maybe(Self::string),
        };
        let ended = Ended {
            how: How::Truncated,
            reason: "max_turns".into(),
            result: self.maybe(Self::payload),
            summary: self.maybe(Self::payload),
            spent: self.spent(),
        };
        let mut bodies = vec![
            Body::Opened(Box::new(self.opened())),
            Body::Intent(Box::new(intent)),
            Body::Utterance(Box::new(self.said())),
            Body::Observation(Box::new(self.observed())),
            Body::Snapshot {
                medium: self.string(),
                memory_bytes: self.number(),
                base: self.maybe(Self::entry_id),
                pages: self.some(|make| PageRef(make.small(), BlobId::from_digest(make.bytes()))),
            },
            Body::Folded { first: self.number(), last: self.number(), summary: self.payload(), usage: self.usage() },
            Body::Ended(Box::new(ended)),
            Body::Rewarded {
                value: -0.25,
                by: self.string(),
                note: self.maybe(Self::payload),
                ends: self.some(Self::entry_id),
            },
            Body::Replayed {
                node: self.string(),
                turns: self.number(),
                evaluations: self.number(),
                gate_calls: self.number(),
                medium: self.maybe(Self::string),
                difference: self.maybe(Self::string),
            },
            Body::Adopted {
                epoch: self.number(),
                node: self.string(),
                last: self.maybe(Self::end),
                accept_loss: self.flag(),
                by: self.maybe(Self::string),
                note: self.maybe(Self::payload),
            },
        ];
        bodies.extend(self.of_calls());
        bodies.extend(self.of_members());
        bodies
    }

    fn entries(&mut self) -> Vec<Sealed> {
        let bodies = self.bodies();
        let entry = |make: &mut Self, body: Body| {
            let entity = body.has_entity().unwrap_or(true).then(|| make.entity());
            let (loom, place) = (LoomId::from_parts(make.number() >> 16, make.bytes()), (make.writer(), make.number()));
            let (at_us, parent) = (make.number(), make.maybe(Self::entry_id));
            let entry = Entry::new(loom, place, at_us, entity, parent, body);
            Entry { relies: make.maybe(Self::entry_id), was: make.maybe(Self::entry_id), ..entry }
        };
        bodies.into_iter().map(|body| Sealed::new(entry(self, body), Vec::new()).unwrap()).collect()
    }
}

/// One entry of every kind with every field.
pub(crate) fn every() -> Vec<Sealed> {
    Make { state: 2, full: true }.entries()
}

/// Reads bytes, and checks that what was read is written as it was.
fn again(bytes: &[u8]) -> Result<Sealed, Box<dyn Error>> {
    let read = Sealed::read(bytes.to_vec())?;
    assert_eq!(Sealed::new(read.entry.clone(), Vec::new())?.bytes, bytes);
    Ok(read)
}

/// One entry of every kind with every field: its kind, its id, and its bytes in hexadecimal.
const KEPT: &str = include_str!("../../../../tests/golden/format2.txt");

#[test]
fn the_entries_of_format_2_have_the_bytes_and_the_ids_that_are_kept() -> Tested {
    let made = every();
    let line = |sealed: &Sealed| format!("{} {} {}\n", sealed.entry.body.kind(), sealed.id, hex(&sealed.bytes));
    let now: String = made.iter().map(line).collect();
    assert!(now == KEPT, "the bytes are other ones than those that are kept; they are\n{now}");
    for (sealed, kept) in made.iter().zip(KEPT.lines()) {
        let digits = kept.split(' ').next_back().unwrap_or_default();
        let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2).unwrap_or_default(), 16);
        let bytes = (0..digits.len()).step_by(2).map(byte).collect::<Result<Vec<u8>, _>>()?;
        let read = again(&bytes)?;
        assert_eq!((&read.entry, read.id, read.entry.others.is_empty()), (&sealed.entry, sealed.id, true));
    }
    let kinds: BTreeSet<&str> = made.iter().map(|sealed| sealed.entry.body.kind()).collect();
    let all = "admitted adopted decided delegated ended expelled folded founded gate_called gate_returned intent keeping \
               observation opened replayed rewarded settled snapshot utterance";
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), all.split_whitespace().collect::<Vec<_>>());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_entry_reads_back_as_it_was_written(state in any::<u64>()) {
        for sealed in (Make { state, full: false }).entries() {
            let read = again(&sealed.bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(&read.entry, &sealed.entry);
            prop_assert_eq!(read.id, sealed.id);
        }
    }
}

/// What a later version might add: a map, with a link in it.
fn later() -> Ipld {
    let link: cid::Cid = EntryId::of(b"later").to_string().parse().unwrap();
    Ipld::Map(BTreeMap::from([("of".to_owned(), Ipld::List(vec![Ipld::Link(link), Ipld::Null, Ipld::Bytes(vec![1])]))]))
}

/// The value with a key more in each of its maps, one map at a time, with the keys that lead to it.
fn with_one_key_more(whole: &Ipld, path: &str, put: &mut dyn FnMut(&str, Ipld)) {
    match whole {
        Ipld::Map(map) => {
            let mut more = map.clone();
            more.insert("zz_later".to_owned(), later());
            put(path, Ipld::Map(more));
            for (key, value) in map {
                with_one_key_more(value, &format!("{path}.{key}"), &mut |path, value| {
                    put(
                        path,
                        Ipld::Map(
                            map.iter()
                                .map(|(k, v)| (k.clone(), if k == key { value.clone() } else { v.clone() }))
                                .collect(),
                        ),
                    );
                });
            }
        }
        Ipld::List(list) => {
            for (index, value) in list.iter().enumerate() {
                with_one_key_more(value, path, &mut |path, value| {
                    let put_in = |(at, own): (usize, &Ipld)| if at == index { value.clone() } else { own.clone() };
                    put(path, Ipld::List(list.iter().enumerate().map(put_in).collect()));
                });
            }
        }
        Ipld::Null
        | Ipld::Bool(_)
        | Ipld::Integer(_)
        | Ipld::Float(_)
        | Ipld::String(_)
        | Ipld::Bytes(_)
        | Ipld::Link(_) => {}
    }
}

#[test]
fn keys_of_a_later_version_are_kept_at_any_depth_and_written_again() -> Tested {
    let mut tried = 0;
    for sealed in every() {
        let whole: Ipld = serde_ipld_dagcbor::from_slice(&sealed.bytes)?;
        let mut all = Vec::new();
        with_one_key_more(&whole, "", &mut |path, value| all.push((path.to_owned(), value)));
        for (path, value) in all {
            let read = again(&serde_ipld_dagcbor::to_vec(&value)?).map_err(|error| format!("{path}: {error}"))?;
            tried += 1;
            let text = |_: &Payload| Ok::<_, NoJson>(None);
            let shown = body_json(&read.entry, &text)?.to_string();
            assert!(path.is_empty() || shown.contains("zz_later"), "{path}: {shown}");
            // A choice has one key, which says which: with two it is another choice. Places of gates are places.
            let is_choice =
                value_at(&whole, &path).is_some_and(|map| map.len() == 1) || path.ends_with("placement.gates");
            let is_known = !matches!(read.entry.body, Body::Unknown(_));
            assert!(is_known || is_choice, "{path} of {}", sealed.entry.body.kind());
            assert_eq!(read.entry.others.is_empty(), !is_known, "{path}");
        }
    }
    assert!(tried > 150, "{tried}");
    Ok(())
}

/// The map at a path, lists passed through.
fn value_at<'a>(whole: &'a Ipld, path: &str) -> Option<&'a BTreeMap<String, Ipld>> {
    let mut at = whole;
    for key in path.split('.').filter(|key| !key.is_empty()) {
        while let Ipld::List(list) = at {
            at = list.first()?;
        }
        let Ipld::Map(map) = at else { return None };
        at = map.get(key)?;
    }
    while let Ipld::List(list) = at {
        at = list.first()?;
    }
    if let Ipld::Map(map) = at { Some(map) } else { None }
}

/// An entry with another body.
fn with_body(sealed: &Sealed, change: impl FnOnce(&mut BTreeMap<String, Ipld>)) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut whole: Ipld = serde_ipld_dagcbor::from_slice(&sealed.bytes)?;
    let Ipld::Map(map) = &mut whole else { return Err("no map".into()) };
    let Some(Ipld::Map(body)) = map.get_mut("body") else { return Err("no body".into()) };
    change(body);
    Ok(serde_ipld_dagcbor::to_vec(&whole)?)
}

#[test]
fn a_kind_of_a_later_version_is_kept_whole() -> Tested {
    for sealed in every() {
        let bytes = with_body(&sealed, |body| drop(body.insert("kind".to_owned(), Ipld::String("dreamt".to_owned()))))?;
        let read = again(&bytes)?;
        assert_eq!((read.entry.entity, read.entry.body.kind()), (sealed.entry.entity, "dreamt"));
        let shown = body_json(&read.entry, &|_| Ok::<_, NoJson>(None))?;
        assert_eq!(shown["kind"], "dreamt");
    }
    Ok(())
}

#[test]
fn an_entity_with_an_entry_of_a_later_version_is_read_and_not_gone_on_with() -> Tested {
    let (writer, nonce) = (WriterKey::from_bytes([1; 32]), Nonce::from_bytes([1; 16]));
    let (loom, entity) = (LoomId::mint(1, &writer, &nonce, None), EntityId::mint(1, &writer, &nonce));
    let founded = Entry::new(loom, (writer, 1), 1, None, None, Body::Founded { nonce, member: None });
    let founded = Sealed::new(founded, Vec::new())?;
    let read = |entries: Vec<Sealed>| {
        let batch = Batch::new(loom, writer, [vec![founded.clone()], entries].concat(), Vouched::default());
        Tree::read(&batch, &|payload| payload.inline().map(str::to_owned))
    };
    let opened = Opened { minted: Some(Minted { by: writer, nonce }), ..Opened::default() };
    let opened = Entry::new(loom, (writer, 2), 1, entity, None, Body::Opened(Box::new(opened)));
    let opened = Sealed::new(opened, Vec::new())?;
    let next = Entry::new(loom, (writer, 3), 2, entity, Some(opened.id), Body::intent(Payload::default(), true, None));
    let next = Sealed::new(next, Vec::new())?;
    let dreamt = |sealed: &Sealed| {
        let later = with_body(sealed, |body| drop(body.insert("kind".to_owned(), Ipld::String("dreamt".to_owned()))))?;
        Ok::<_, Box<dyn Error>>(Sealed::read(later)?)
    };
    let tree = read(vec![opened.clone(), dreamt(&next)?])?;
    assert!(tree.thread(entity)?.is_empty() && tree.aside().is_empty());
    let refused = tree.restore(entity, None).err().ok_or("it was restored")?;
    assert!(matches!(&refused, ViewError::Unknown { kind, .. } if kind == "dreamt"), "{refused}");

    // Wards that are kept free for later, and one that nobody has thought of.
    let gates = Ipld::List(vec![Ipld::String("write_file".to_owned())]);
    let wards =
        [("ask", gates), ("ask_timeout_ms", Ipld::Integer(1)), ("max_cost", Ipld::Integer(1)), ("zz", Ipld::Null)];
    for (name, value) in wards {
        let add = |body: &mut BTreeMap<String, Ipld>| {
            if let Some(Ipld::Map(wards)) = body.get_mut("wards") {
                wards.insert(name.to_owned(), value);
            }
        };
        let warded = again(&with_body(&opened, add)?)?;
        let tree = read(vec![warded])?;
        let refused = tree.may_go_on(entity).err().ok_or("it may go on")?.to_string();
        assert!(refused.contains(&format!("wards that this version does not enforce ({name})")), "{refused}");
    }

    // Of the founder's about the loom as a whole, the loom; of a stranger's, nothing.
    let of_loom = |writer: WriterKey, place| {
        let keeping = Body::Keeping { acks: 0, keepers: Vec::new(), accept_loss: false };
        Sealed::new(Entry::new(loom, (writer, place), 3, None, None, keeping), Vec::new())
    };
    let tree = read(vec![opened.clone(), dreamt(&of_loom(writer, 3)?)?])?;
    let refused = tree.may_go_on(entity).err().ok_or("it may go on")?.to_string();
    assert!(refused.contains("`dreamt`") && tree.thread(entity).is_ok(), "{refused}");
    let stranger = dreamt(&of_loom(WriterKey::from_bytes([2; 32]), 1)?)?;
    assert!(read(vec![opened, stranger])?.may_go_on(entity).is_ok());
    Ok(())
}

#[test]
fn an_entry_of_format_1_is_refused_with_the_commit_that_shows_it() -> Tested {
    for sealed in every() {
        let mut whole: Ipld = serde_ipld_dagcbor::from_slice(&sealed.bytes)?;
        let Ipld::Map(map) = &mut whole else { return Err("no map".into()) };
        map.insert("v".to_owned(), Ipld::Integer(1));
        let refused = Sealed::read(serde_ipld_dagcbor::to_vec(&whole)?).err().ok_or("it was read")?.to_string();
        assert!(refused.contains("has format 1") && refused.contains("4e523ed"), "{refused}");
    }
    Ok(())
}

#[test]
fn what_is_not_in_the_one_form_of_an_entry_is_refused() -> Tested {
    for sealed in every() {
        // A field that every entry of its kind has.
        let whole: Ipld = serde_ipld_dagcbor::from_slice(&sealed.bytes)?;
        let Ipld::Map(mut map) = whole else { return Err("no map".into()) };
        map.remove("parent");
        assert!(Sealed::read(serde_ipld_dagcbor::to_vec(&Ipld::Map(map))?).is_err());
        // A key twice, and one byte more.
        let mut longer = sealed.bytes.clone();
        longer.push(0);
        assert!(Sealed::read(longer).is_err());
    }
    let nested = [vec![0x81; 100_000], vec![0]].concat();
    assert!(Sealed::read(nested).is_err());
    Ok(())
}

#[test]
fn an_entry_is_an_entitys_if_its_kind_is() -> Tested {
    for sealed in every().into_iter().filter(|sealed| sealed.entry.body.has_entity().is_some()) {
        let entity = if sealed.entry.entity.is_some() { None } else { Some(EntityId::from_parts(1, [0; 16])) };
        let refused = Sealed::new(Entry { entity, ..sealed.entry }, Vec::new()).err().ok_or("it was sealed")?;
        assert!(refused.to_string().starts_with("an entry of the kind"), "{refused}");
    }
    Ok(())
}
