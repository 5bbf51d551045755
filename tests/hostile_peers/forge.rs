//! What a hostile peer makes: numbers by seed, keys, entries, logs and messages. Valid at first; whoever uses them breaks them.

use bytes::Bytes;
use cantrip_runtime::Wards;
use cantrip_runtime::adapters::peer::v1;
use cantrip_runtime::adapters::store::NodeKey;
use cantrip_runtime::domain::cantrip::Folding;
use cantrip_runtime::domain::ids::{CallId, CastId, EntityId, EntryId, LoomId, WriterKey};
use cantrip_runtime::domain::loom::{
    Body, CallRecord, CastChain, CastHead, Ended, Entry, EquivocationProof, Fork, ForkStrategy, Head, How,
    IdentityRecord, Minted, Opened, Payload, Said, Side, SignedHead, Spent,
};
use cantrip_runtime::domain::members::Nonce;
use cantrip_runtime::domain::model::Usage;
use ed25519_dalek::{Signer, SigningKey};

use crate::peer_support::hand;

/// What the ids of all looms and entities commit to that a hostile peer makes up.
pub(crate) fn minted() -> Minted {
    Minted { by: hand().writer(), nonce: Nonce::from_bytes([66; 16]) }
}

/// Numbers from a seed: the same on every machine.
#[derive(Debug, Clone)]
pub(crate) struct Dice {
    state: u64,
    /// Whether its entities ask a model of its own, for hosts that have none for it.
    pub(crate) asks_itself: bool,
    /// Who is admitted for what it casts: the key of the node that it calls, where that is known.
    pub(crate) host: WriterKey,
}

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            state: seed.wrapping_add(0x9e37_79b9_7f4a_7c15),
            asks_itself: false,
            host: NodeKey::from_secret(&[2; 32]).writer(),
        }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, sides: u64) -> u64 {
        self.next() % sides.max(1)
    }

    pub(crate) fn size(&mut self, below: usize) -> usize {
        usize::try_from(self.below(below as u64)).unwrap()
    }

    /// Whether it happens, once in so many times.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.size(of.len())]
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(8) {
            let number = self.next().to_le_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
        bytes
    }

    pub(crate) fn key(&mut self) -> SigningKey {
        SigningKey::from_bytes(&self.bytes())
    }

    pub(crate) fn loom(&mut self) -> LoomId {
        let minted = minted();
        LoomId::mint(1_790_000_000_000 + self.below(1 << 40), &minted.by, &minted.nonce, None)
    }

    pub(crate) fn entity(&mut self) -> EntityId {
        let minted = minted();
        EntityId::mint(1_790_000_000_000 + self.below(1 << 40), &minted.by, &minted.nonce)
    }

    pub(crate) fn cast(&mut self) -> CastId {
        CastId::from_parts(1_790_000_000_000 + self.below(1_000), self.bytes())
    }

    /// Changes a few bytes, cuts, or doubles the end.
    pub(crate) fn mutate(&mut self, bytes: &Bytes) -> Bytes {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(3) {
            if bytes.is_empty() {
                break;
            }
            let at = self.size(bytes.len());
            match self.below(5) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = u8::try_from(self.below(256)).unwrap(),
                2 => bytes.truncate(at),
                3 => bytes.extend_from_within(at..),
                _ => bytes.insert(at, u8::try_from(self.below(256)).unwrap()),
            }
        }
        bytes.truncate(9 * 1024 * 1024);
        Bytes::from(bytes)
    }
}

pub(crate) fn bytes(of: &[u8]) -> Bytes {
    Bytes::copy_from_slice(of)
}

pub(crate) fn writer(key: &SigningKey) -> WriterKey {
    WriterKey::from_bytes(key.verifying_key().to_bytes())
}

/// A signature over whatever head one likes.
pub(crate) fn signed(key: &SigningKey, loom: LoomId, head: Head) -> SignedHead {
    let writer = writer(key);
    let signature = key.sign(&SignedHead::statement(loom, writer, &head)).to_bytes();
    SignedHead { loom, writer, head, signature }
}

/// A signature over whatever somebody likes to have written of a cast.
pub(crate) fn cast_head(key: &SigningKey, loom: LoomId, cast: EntityId, at: CastChain) -> v1::CastHead {
    let writer = writer(key);
    let signature = key.sign(&CastHead::statement(loom, writer, cast, &at)).to_bytes();
    v1::CastHead {
        writer: bytes(writer.as_bytes()),
        cast: cast.to_string(),
        place: at.place,
        chain: bytes(&at.chain),
        signature: bytes(&signature),
    }
}

/// One writer's log of a loom, with all that its writer could say of it.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    pub(crate) key: SigningKey,
    pub(crate) loom: LoomId,
    pub(crate) entries: Vec<Bytes>,
    pub(crate) ids: Vec<EntryId>,
    /// The head before the first entry, and after each.
    pub(crate) heads: Vec<Head>,
}

impl Log {
    pub(crate) fn new(key: SigningKey, loom: LoomId) -> Self {
        Self { key, loom, entries: Vec::new(), ids: Vec::new(), heads: vec![Head::default()] }
    }

    /// A log of a loom of its own, with one entity that says some things.
    pub(crate) fn honest(dice: &mut Dice, loom: LoomId, entries: u64) -> Self {
        let mut log = Self::new(dice.key(), loom);
        let entity = dice.entity();
        let mut last = log.push(entity, None, opened(dice, |_| {}));
        for number in 1..entries {
            last = log.push(entity, Some(last), intent(&format!("mallory said {number}")));
        }
        log
    }

    pub(crate) fn push(&mut self, entity: EntityId, parent: Option<EntryId>, body: Body) -> EntryId {
        self.push_by(None, (Some(entity), parent), body)
    }

    /// The same, naming the admission that it relies on, about an entity or about the loom.
    pub(crate) fn push_by(
        &mut self,
        relies: Option<EntryId>,
        (entity, parent): (Option<EntityId>, Option<EntryId>),
        body: Body,
    ) -> EntryId {
        let head = *self.heads.last().unwrap();
        let sequence = head.sequence + 1;
        let (place, at_us) = ((writer(&self.key), sequence), 1_790_000_000_000_000 + sequence);
        let entry = Entry { relies, ..Entry::new(self.loom, place, at_us, entity, parent, body) };
        // Not through what the runtime seals with: that would refuse what is not to be said.
        let encoded = serde_ipld_dagcbor::to_vec(&entry).unwrap();
        let id = EntryId::of(&encoded);
        self.entries.push(Bytes::from(encoded));
        self.ids.push(id);
        self.heads.push(head.after(&id));
        id
    }

    /// The same log up to a place, from where it can go on otherwise.
    pub(crate) fn cut(&self, at: usize) -> Self {
        let (entries, ids) = (self.entries[..at].to_vec(), self.ids[..at].to_vec());
        Self { key: self.key.clone(), loom: self.loom, entries, ids, heads: self.heads[..=at].to_vec() }
    }

    /// The chain of a cast over so many of its entries, as if all were of it.
    pub(crate) fn cast_chain(&self, entries: usize) -> CastChain {
        (1..).zip(&self.ids).take(entries).fold(CastChain::default(), |at, (place, id)| at.after(place, id))
    }

    pub(crate) fn head(&self) -> Head {
        *self.heads.last().unwrap()
    }

    /// What a keeper says of this log.
    pub(crate) fn state(&self) -> v1::LogHead {
        log_head(&signed(&self.key, self.loom, self.head()))
    }

    /// A stretch of it, as its writer signed it.
    pub(crate) fn segment(&self, from: usize, to: usize) -> v1::Segment {
        let end = signed(&self.key, self.loom, self.heads[to]);
        v1::Segment {
            loom: self.loom.to_string(),
            writer: bytes(end.writer.as_bytes()),
            from_sequence: self.heads[from].sequence,
            from_chain: bytes(&self.heads[from].chain),
            entries: self.entries[from..to].to_vec(),
            sequence: end.head.sequence,
            chain: bytes(&end.head.chain),
            signature: bytes(&end.signature),
        }
    }

    pub(crate) fn whole(&self) -> v1::Segment {
        self.segment(0, self.entries.len())
    }
}

pub(crate) fn log_head(signed: &SignedHead) -> v1::LogHead {
    v1::LogHead {
        writer: bytes(signed.writer.as_bytes()),
        sequence: signed.head.sequence,
        chain: bytes(&signed.head.chain),
        signed_sequence: Some(signed.head.sequence),
        signed_chain: bytes(&signed.head.chain),
        signature: bytes(&signed.signature),
    }
}

/// A proof that a writer, made for it, has signed two histories. The longer, the more it would cost whoever kept it.
pub(crate) fn proof(dice: &mut Dice, loom: LoomId, ids: usize) -> Bytes {
    let key = dice.key();
    let common = Head { sequence: 1, chain: dice.bytes() };
    let sides = [1, ids.max(1)].map(|ids| {
        let ids: Vec<EntryId> = (0..ids).map(|_| EntryId::from_digest(dice.bytes())).collect();
        let end = ids.iter().fold(common, |head, id| head.after(id));
        Side { ids, signature: signed(&key, loom, end).signature }
    });
    Bytes::from(EquivocationProof::new(loom, writer(&key), common, sides).to_bytes())
}

pub(crate) fn intent(text: &str) -> Body {
    Body::intent(Payload::Inline(text.to_owned()), false, None)
}

/// The beginning of an entity, with whatever is to be another than it should.
pub(crate) fn opened(dice: &mut Dice, change: impl FnOnce(&mut Opened)) -> Body {
    let mut opened = Opened {
        identity: IdentityRecord::default(),
        medium: "conversation".to_owned(),
        medium_digest: None,
        gates: Vec::new(),
        wards: Wards::default(),
        folding: Folding::default(),
        model: "told".to_owned(),
        guest: None,
        intent: Payload::Inline("mallory began it".to_owned()),
        node: "m@m:7400".to_owned(),
        depth: 0,
        cast: dice.cast(),
        minted: Some(minted()),
        ..Opened::default()
    };
    change(&mut opened);
    Body::Opened(Box::new(opened))
}

pub(crate) const fn fork(of: EntityId, turns: u64) -> Fork {
    Fork { of, turns, strategy: ForkStrategy::Replay, from: None }
}

pub(crate) fn ended(result: &str) -> Body {
    Body::Ended(Box::new(Ended {
        how: How::Terminated,
        reason: "done".into(),
        result: Some(Payload::Inline(format!("\"{result}\""))),
        summary: None,
        spent: Spent::default(),
    }))
}

pub(crate) fn utterance(gate: &str, arguments: &str) -> Body {
    let call =
        CallRecord { id: CallId::new("c1"), gate: gate.to_owned(), arguments: Payload::Inline(arguments.to_owned()) };
    Body::Utterance(Box::new(Said {
        calls: vec![call],
        usage: Usage { prompt_tokens: u64::MAX, completion_tokens: u64::MAX, cached_tokens: u64::MAX },
        model: "told".to_owned(),
        duration_us: u64::MAX,
        retries: u32::MAX,
        ..Said::default()
    }))
}
