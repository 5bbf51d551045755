//! How the record is laid out in rows: the keyspaces, their keys and their values.
//!
//! Owns every encoding that is on disk inside the database; nothing else builds or takes apart a key. All numbers are
//! big-endian, so that keys sort as the log runs. A row that does not parse is `None`: damage, never a panic.

use crate::domain::ids::{EntityId, EntryId, LoomId, WriterKey};
use crate::domain::loom::{CastHead, Head, Sealed, SignedHead};
use crate::domain::members::{Attestation, NodeId, ProofCount};
use crate::ports::LoomSummary;

/// The version of the layout. A reader refuses any other.
pub(super) const LAYOUT: u16 = 2;

/// Says why a store of another layout is not opened.
pub(super) fn other_layout(found: u16) -> String {
    let shows = if found == 1 { "; the last commit that shows and exports it is 4e523ed" } else { "" };
    format!("it has layout {found}, and this version reads layout {LAYOUT}{shows}")
}

/// Bytes of a loom's id in a key.
const LOOM_BYTES: usize = 22;
/// Bytes of an entity's id in a key.
pub(super) const ENTITY_BYTES: usize = 22;

/// The row of [`Space::Meta`] with the layout's version.
pub(super) const META_LAYOUT: &[u8] = b"layout";
/// The row of [`Space::Meta`] with the public key of the node that writes here.
pub(super) const META_WRITER: &[u8] = b"writer";
/// The row of [`Space::Meta`] with a [`Commit`]. It is part of every batch, and no other space has a key of its
/// length, so that it can be told apart in a journal whose keyspaces are not known yet.
pub(super) const META_COMMIT: &[u8] = b"commit";

/// The row of [`Space::Meta`] with what tells the key's file from a copy of it.
pub(super) const META_FILE: &[u8] = b"key file";
/// Rows of [`Space::Meta`]: a place → the chain there, and the writer's signature of it.
const META_SIGNED: &[u8] = b"signed";
/// Entries of an earlier key of this node that divide from what others have of it.
const META_ASIDE: &[u8] = b"aside";
const META_ANEW: &[u8] = b"anew";
/// Rows of [`Space::Meta`]: a loom and a writer → the proof that it has signed two histories.
pub(super) const META_PROOF: &[u8] = b"proof";

/// Rows of [`Space::Meta`]: a loom and an entity → the fence that was kept of it.
const META_FENCE: &[u8] = b"fence";
/// Rows of [`Space::Meta`]: a key under which this node has written before → nothing.
pub(super) const META_FORMER: &[u8] = b"former";

/// Rows of [`Space::Meta`]: loom, key, kind and tag → what vouches for that key in that loom, behind its kind.
const META_ATTESTED: &[u8] = b"attested";
/// Rows of [`Space::Meta`]: loom, node, key and tag → nothing. They count the member records that name a node.
const META_NAMED: &[u8] = b"named";
/// Rows of [`Space::Meta`]: loom, key, and the key that takes its place → nothing.
const META_SUCCEEDED: &[u8] = b"succeeded";
/// Rows of [`Space::Meta`]: loom and the digest of an entry's id → that entry, proved.
const META_PROVED: &[u8] = b"proved";
/// Rows of [`Space::Meta`]: a loom → how many proved entries are kept of it, and how many bytes.
const META_PROVED_COUNT: &[u8] = b"count of proved";
/// Rows of [`Space::Meta`]: key, kind and tag → what vouches for a key of this node's own, in whatever loom.
pub(super) const META_OWN: &[u8] = b"own";
/// Rows of [`Space::Meta`]: a loom, a writer and a cast → the newest cast head of that writer.
const META_CAST: &[u8] = b"cast";
/// Rows of [`Space::Meta`]: a place among what was received → the cast heads that came with the entries up to there.
const META_CASTS: &[u8] = b"heads";

/// A keyspace. Each has its own purpose, so that a range of one never meets another's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Space {
    /// Layout, writer, commit number.
    Meta,
    /// Place → digest of the id, then the entry's bytes.
    Entries,
    /// Digest of the id → place.
    Ids,
    /// Digest of the parent, then place → digest of the child.
    Children,
    /// Entity, then place → digest of the entry.
    Entities,
    /// Log → how far it is, and a line about it.
    Heads,
    /// Digest → bytes.
    Blobs,
}

impl Space {
    /// All of them, in the order in which they are made.
    pub(super) const ALL: [Self; 7] =
        [Self::Meta, Self::Entries, Self::Ids, Self::Children, Self::Entities, Self::Heads, Self::Blobs];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Entries => "entries",
            Self::Ids => "ids",
            Self::Children => "children",
            Self::Entities => "entities",
            Self::Heads => "heads",
            Self::Blobs => "blobs",
        }
    }
}

/// Stands in the place of a writer for what came from others. No key is like it: it is no point of the curve.
pub(super) const RECEIVED: WriterKey = WriterKey::from_bytes([u8::MAX; 32]);

/// One writer's log of one loom, or what came from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Log {
    pub(super) loom: LoomId,
    pub(super) writer: WriterKey,
}

impl Log {
    pub(super) const BYTES: usize = LOOM_BYTES + 32;

    pub(super) fn to_bytes(self) -> Vec<u8> {
        [self.loom.as_bytes().as_slice(), self.writer.as_bytes()].concat()
    }

    /// What this node was sent of a loom, in the order in which it came: other nodes' entries have their place here, whatever
    /// their places in the logs of those who wrote them, of which they may be only a part.
    pub(super) const fn received(loom: LoomId) -> Self {
        Self { loom, writer: RECEIVED }
    }

    pub(super) fn is_received(self) -> bool {
        self.writer == RECEIVED
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (loom, rest) = bytes.split_first_chunk::<LOOM_BYTES>()?;
        let writer = <[u8; 32]>::try_from(rest).ok()?;
        Some(Self { loom: LoomId::from_bytes(*loom), writer: WriterKey::from_bytes(writer) })
    }

    pub(super) const fn at(self, sequence: u64) -> Place {
        Place { log: self, sequence }
    }
}

/// One place in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) log: Log,
    pub(super) sequence: u64,
}

impl Place {
    /// Where an entry says that it is.
    pub(super) const fn of(sealed: &Sealed) -> Self {
        Self { log: Log { loom: sealed.entry.loom, writer: sealed.entry.writer }, sequence: sealed.entry.sequence }
    }

    pub(super) fn to_bytes(self) -> Vec<u8> {
        self.after(&[])
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (log, sequence) = bytes.split_at_checked(Log::BYTES)?;
        Some(Self { log: Log::parse(log)?, sequence: u64::from_be_bytes(sequence.try_into().ok()?) })
    }

    /// The key of a signed head in [`Space::Meta`].
    pub(super) fn as_signed(self) -> Vec<u8> {
        self.after(META_SIGNED)
    }

    /// The key in [`Space::Meta`] of an entry that was set aside.
    pub(super) fn as_aside(self) -> Vec<u8> {
        self.after(META_ASIDE)
    }

    /// The key in [`Space::Meta`] of the cast heads that came with what was received up to here.
    pub(super) fn as_covered(self) -> Vec<u8> {
        self.after(META_CASTS)
    }

    /// The key in [`Space::Children`].
    pub(super) fn under_parent(self, parent: &EntryId) -> Vec<u8> {
        self.after(&parent.digest())
    }

    /// The key in [`Space::Entities`].
    pub(super) fn under_entity(self, entity: EntityId) -> Vec<u8> {
        self.after(entity.as_bytes())
    }

    fn after(self, prefix: &[u8]) -> Vec<u8> {
        [prefix, self.log.loom.as_bytes(), self.log.writer.as_bytes(), &self.sequence.to_be_bytes()].concat()
    }
}

/// What the signed heads of a log have in common as keys.
pub(super) fn signed_of(log: Log) -> Vec<u8> {
    [META_SIGNED, &log.to_bytes()].concat()
}

/// The key of a history of an earlier key that was written anew up to a head.
pub(super) fn anew(loom: LoomId, (writer, head): (WriterKey, Head)) -> Vec<u8> {
    [META_ANEW, loom.as_bytes(), writer.as_bytes(), &head.chain].concat()
}

/// What the entries of a loom that were set aside have in common as keys.
pub(super) fn aside_of(loom: LoomId) -> Vec<u8> {
    [META_ASIDE, loom.as_bytes().as_slice()].concat()
}

/// What the newest cast heads of a loom have in common as keys.
pub(super) fn casts_of(loom: LoomId) -> Vec<u8> {
    [META_CAST, loom.as_bytes().as_slice()].concat()
}

/// The key of the newest cast head of a writer's entries of a cast.
pub(super) fn cast_key(head: &CastHead) -> Vec<u8> {
    [casts_of(head.loom).as_slice(), head.writer.as_bytes(), head.cast.as_bytes()].concat()
}

/// What came of casts of a loom: the beginning of all keys of rows.
pub(super) fn cast_rows(loom: LoomId) -> [Vec<u8>; 2] {
    [casts_of(loom), [META_CASTS, loom.as_bytes().as_slice()].concat()]
}

/// The place among what was received that a row of cast heads is about.
pub(super) fn covered_place(key: &[u8]) -> Option<Place> {
    Place::parse(key.strip_prefix(META_CASTS)?)
}

/// The key under which the proof against a writer is kept.
pub(super) fn proof_key(loom: LoomId, writer: WriterKey) -> Vec<u8> {
    [META_PROOF, loom.as_bytes().as_slice(), writer.as_bytes()].concat()
}

/// The key under which a former key of this node is kept.
pub(super) fn former_key(writer: WriterKey) -> Vec<u8> {
    [META_FORMER, writer.as_bytes()].concat()
}

/// What vouches for keys in a loom: the beginning of all keys of rows.
pub(super) fn attested_in(loom: LoomId) -> Vec<u8> {
    [META_ATTESTED, loom.as_bytes()].concat()
}

/// The same of one key.
pub(super) fn attested_of(loom: LoomId, key: WriterKey) -> Vec<u8> {
    [META_ATTESTED, loom.as_bytes(), key.as_bytes()].concat()
}

/// The same of one kind.
pub(super) fn attested_kind(loom: LoomId, attestation: &Attestation) -> Vec<u8> {
    [&attested_of(loom, attestation.key()), [attestation.kind()].as_slice()].concat()
}

/// The member records that name a node.
pub(super) fn named_in(loom: LoomId, node: &NodeId) -> Vec<u8> {
    [META_NAMED, loom.as_bytes(), &node_tag(node)].concat()
}

/// Whoever takes the place of a key.
pub(super) fn succeeded_in(loom: LoomId, old: WriterKey) -> Vec<u8> {
    [META_SUCCEEDED, loom.as_bytes(), old.as_bytes()].concat()
}

/// Everything that is kept of a loom beside its logs to say who may write it.
pub(super) fn member_rows(loom: LoomId) -> [Vec<u8>; 5] {
    let spaces = [META_ATTESTED, META_NAMED, META_SUCCEEDED, META_PROVED, META_PROVED_COUNT];
    spaces.map(|space| [space, loom.as_bytes()].concat())
}

/// The fences of a loom: the beginning of all keys of rows.
pub(super) fn fences_in(loom: LoomId) -> Vec<u8> {
    [META_FENCE, loom.as_bytes()].concat()
}

/// The key of the fence of an entity.
pub(super) fn fence(loom: LoomId, entity: EntityId) -> Vec<u8> {
    [META_FENCE, loom.as_bytes().as_slice(), entity.as_bytes()].concat()
}

/// The proved entries of a loom: the beginning of all keys of rows.
pub(super) fn proved_in(loom: LoomId) -> Vec<u8> {
    [META_PROVED, loom.as_bytes()].concat()
}

/// The key of one of them.
pub(super) fn proved(loom: LoomId, id: EntryId) -> Vec<u8> {
    [META_PROVED, loom.as_bytes(), &id.digest()].concat()
}

/// The key of how many there are.
pub(super) fn proved_count(loom: LoomId) -> Vec<u8> {
    [META_PROVED_COUNT, loom.as_bytes()].concat()
}

/// The value of that row.
pub(super) fn proof_count_value(count: ProofCount) -> Vec<u8> {
    [count.count, count.bytes].map(u64::to_be_bytes).concat()
}

/// How many there are, from the row.
pub(super) fn proof_count(value: &[u8]) -> Option<ProofCount> {
    let (count, bytes) = value.split_first_chunk::<8>()?;
    Some(ProofCount { count: u64::from_be_bytes(*count), bytes: u64::from_be_bytes(bytes.try_into().ok()?) })
}

/// What vouches for a key of this node's own.
pub(super) fn own_of(key: WriterKey) -> Vec<u8> {
    [META_OWN, key.as_bytes()].concat()
}

/// The key of one such row.
pub(super) fn own_attestation(attestation: &Attestation, tag: &[u8; 32]) -> Vec<u8> {
    [&own_of(attestation.key()), [attestation.kind()].as_slice(), tag].concat()
}

/// The value of a row with an attestation.
pub(super) fn attestation_value(attestation: &Attestation) -> Vec<u8> {
    [[attestation.kind()].as_slice(), &attestation.to_bytes()].concat()
}

/// An attestation from its row.
pub(super) fn attestation(value: &[u8]) -> Option<Attestation> {
    let (kind, bytes) = value.split_first()?;
    Attestation::parse(*kind, bytes).ok()
}

fn node_tag(node: &NodeId) -> [u8; 32] {
    *blake3::hash(&[node.authority.as_bytes(), node.name.as_str().as_bytes()].concat()).as_bytes()
}

/// The value of a signed head.
pub(super) fn signed_value(chain: &[u8; 32], signature: &[u8; 64]) -> Vec<u8> {
    [chain.as_slice(), signature].concat()
}

/// A signed head from its row.
pub(super) fn signed_head(key: &[u8], value: &[u8]) -> Option<SignedHead> {
    let Place { log, sequence } = Place::parse(key.strip_prefix(META_SIGNED)?)?;
    let (chain, signature) = value.split_first_chunk::<32>()?;
    let head = Head { sequence, chain: *chain };
    Some(SignedHead { loom: log.loom, writer: log.writer, head, signature: signature.try_into().ok()? })
}

/// The digest that an index row carries.
pub(super) fn digest(bytes: &[u8]) -> Option<EntryId> {
    <[u8; 32]>::try_from(bytes).ok().map(EntryId::from_digest)
}

/// A key of [`Space::Children`] or [`Space::Entities`]: the part before the place, and the place.
pub(super) fn split_indexed<const N: usize>(key: &[u8]) -> Option<([u8; N], Place)> {
    let (prefix, place) = key.split_first_chunk::<N>()?;
    Some((*prefix, Place::parse(place)?))
}

/// The value in [`Space::Entries`].
pub(super) fn entry_value(sealed: &Sealed) -> Vec<u8> {
    [sealed.id.digest().as_slice(), &sealed.bytes].concat()
}

/// The id and the bytes of a value in [`Space::Entries`].
pub(super) fn split_entry(value: &[u8]) -> Option<(EntryId, &[u8])> {
    let (id, bytes) = value.split_first_chunk::<32>()?;
    Some((EntryId::from_digest(*id), bytes))
}

/// What is known of a log without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogLine {
    pub(super) head: Head,
    /// When its first entry was made, in microseconds since 1970.
    pub(super) first_us: u64,
    /// When its newest entry was made.
    pub(super) last_us: u64,
    /// The first entity of which it has an entry.
    pub(super) root: Option<EntityId>,
}

impl LogLine {
    /// The line after one more entry, and with it this head.
    pub(super) fn after(before: Option<Self>, sealed: &Sealed, head: Head) -> Self {
        let entry = &sealed.entry;
        match before {
            Some(before) => {
                let root = before.root.or(entry.entity);
                Self { head, last_us: before.last_us.max(entry.at_us), root, ..before }
            }
            None => Self { head, first_us: entry.at_us, last_us: entry.at_us, root: entry.entity },
        }
    }

    /// The value in [`Space::Heads`].
    pub(super) fn to_bytes(self) -> Vec<u8> {
        [
            self.head.sequence.to_be_bytes().as_slice(),
            &self.head.chain,
            &self.first_us.to_be_bytes(),
            &self.last_us.to_be_bytes(),
            self.root.as_ref().map(|root| root.as_bytes().as_slice()).unwrap_or_default(),
        ]
        .concat()
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (sequence, rest) = bytes.split_first_chunk::<8>()?;
        let (chain, rest) = rest.split_first_chunk::<32>()?;
        let (first_us, rest) = rest.split_first_chunk::<8>()?;
        let (last_us, root) = rest.split_first_chunk::<8>()?;
        Some(Self {
            head: Head { sequence: u64::from_be_bytes(*sequence), chain: *chain },
            first_us: u64::from_be_bytes(*first_us),
            last_us: u64::from_be_bytes(*last_us),
            root: if root.is_empty() { None } else { Some(EntityId::from_bytes(root.try_into().ok()?)) },
        })
    }
}

/// A loom in one line, from the lines of its logs in the order of their keys. Its root is that of this node's own log, where
/// there is one: the clocks of others are not comparable.
pub(super) fn summarise(before: Option<LoomSummary>, loom: LoomId, line: &LogLine) -> LoomSummary {
    let (entries, first_us, last_us) = (line.head.sequence, line.first_us, line.last_us);
    match before {
        None => LoomSummary { loom, entries, first_us, last_us, root: line.root },
        Some(before) => LoomSummary {
            loom,
            entries: before.entries.saturating_add(entries),
            first_us: before.first_us.min(first_us),
            last_us: before.last_us.max(last_us),
            root: before.root.or(line.root),
        },
    }
}

/// Looms from the lines of their logs, in the order of the keys; the newest loom first.
pub(super) fn summaries(lines: impl IntoIterator<Item = (Log, LogLine)>) -> Vec<LoomSummary> {
    let mut summaries: Vec<LoomSummary> = Vec::new();
    for (log, line) in lines {
        let before = summaries.pop_if(|last| last.loom == log.loom);
        summaries.push(summarise(before, log.loom, &line));
    }
    summaries.reverse();
    summaries
}

/// The number of the last batch, and how much of the marks outside the journal is known to be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Commit {
    /// 1, 2, 3 … over the life of the store.
    pub(super) number: u64,
    /// The commit up to which the marks had been synced: a file of marks that ends earlier was cut or exchanged.
    pub(super) marked: u64,
    /// Whose commit it is (`NodeKey::commit_id`); nothing in a row of an earlier version.
    pub(super) id: Option<[u8; 16]>,
}

impl Commit {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let id = self.id.as_ref().map(<[u8; 16]>::as_slice).unwrap_or_default();
        [self.number.to_be_bytes().as_slice(), &self.marked.to_be_bytes(), id].concat()
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (number, rest) = bytes.split_first_chunk::<8>()?;
        let (marked, id) = rest.split_first_chunk::<8>()?;
        let id = if id.is_empty() { None } else { Some(id.try_into().ok()?) };
        Some(Self { number: u64::from_be_bytes(*number), marked: u64::from_be_bytes(*marked), id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_parses_to_itself_and_sorts_as_the_log_runs() {
        let log = Log { loom: LoomId::from_bytes([3; 22]), writer: WriterKey::from_bytes([4; 32]) };
        assert_eq!(Place::parse(&log.at(258).to_bytes()), Some(log.at(258)));
        assert!(log.at(255).to_bytes() < log.at(256).to_bytes());
        assert_eq!(Place::parse(&log.to_bytes()), None);
        let parent = EntryId::of(b"parent");
        assert_eq!(split_indexed::<32>(&log.at(7).under_parent(&parent)), Some((parent.digest(), log.at(7))));
    }

    #[test]
    fn values_parse_to_themselves_and_nothing_shorter_does() {
        let head = Head { sequence: 9, chain: [1; 32] };
        for root in [None, Some(EntityId::from_bytes([5; 22]))] {
            let line = LogLine { head, first_us: 1, last_us: 2, root };
            assert_eq!(LogLine::parse(&line.to_bytes()), Some(line));
        }
        for id in [None, Some([3; 16])] {
            let commit = Commit { number: 8, marked: 7, id };
            assert_eq!(Commit::parse(&commit.to_bytes()), Some(commit));
        }
        assert_eq!(Commit::parse(&[0; 31]), None);
        assert_eq!(Commit::parse(&[0; 15]), None);
        assert_eq!(LogLine::parse(&[0; 77]), None);
    }
}
