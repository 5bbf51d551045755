//! What this node may do in a loom, as the loom's own record says it: who goes on with an entity, and who becomes or is a member.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::ids::{EntryId, LoomId, NodeAddress, NodeName, NodeNameError, WriterKey};
use crate::domain::loom::{Body, ViewError};
use crate::domain::members::{
    Admitted, Batch, Deed, Expelled, LogEnd, Member, Principal, Reader, Right, Rights, Target,
};
use crate::ports::Peers;

use super::adopting::{end_of_cast, of_owner};
use super::fault::Fault;
use super::host::Host;
use super::runtime::Runtime;

/// 16 ends. So many of one writer an expulsion lists at most.
const ENDS_PER_WRITER: usize = 16;

/// The admission that an entry of a key has to name so that it counts; nothing for the founder.
pub(super) fn permission(
    reader: &Reader<'_>,
    key: WriterKey,
    loom: LoomId,
    deed: Deed<'_>,
) -> Result<Option<EntryId>, Fault> {
    // What somebody with a say over the loom has said of it in a later version is not for this one to go against.
    if let Some(later) = reader.later().next() {
        let kind = later.entry.body.kind().to_owned();
        return Err(ViewError::Later { entry: later.id, kind }.into());
    }
    reader.may(key, deed).map_err(|why| Fault::NotPermitted { loom, deed: name_of(deed), why, allow: allowing(deed) })
}

/// What somebody wanted to do, as it is said to people.
const fn name_of(deed: Deed<'_>) -> &'static str {
    match deed {
        Deed::Write => "write into",
        Deed::Host(_) => "host a cast in",
        Deed::Adopt(_) | Deed::AdoptAny => "adopt entities in",
        Deed::Admit(_) => "admit members to",
        Deed::Expel => "expel members from",
    }
}

/// The right that would have allowed it.
fn allowing(deed: Deed<'_>) -> Option<Right> {
    match deed {
        Deed::Write => Some(Right::Write),
        Deed::Adopt(_) | Deed::AdoptAny => Some(Right::Adopt),
        Deed::Admit(_) | Deed::Expel => Some(Right::Admit),
        Deed::Host(_) => None,
    }
}

/// Who may write into a loom.
#[derive(Debug, Clone)]
pub struct Members {
    /// Who founded it; nothing: its founding entry is not here.
    pub founder: Option<Principal>,
    /// Who was admitted, for the whole loom or for one cast.
    pub members: BTreeSet<Member>,
    /// Who was expelled, with the entry that says so, and is no member again.
    pub expelled: Vec<(Target, EntryId)>,
    /// As whom this node is named, where it is the founder or a member.
    pub this_node: Option<Principal>,
    /// The writers whose logs are here, and as whom each of them is a member.
    pub writers: Vec<(WriterKey, Option<Principal>)>,
    /// How many entries decide nothing, by reason, the most first.
    pub refused: Vec<(String, u64)>,
}

/// Whom a person names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// A writer's key.
    Key(WriterKey),
    /// A node, by its name.
    Node(NodeName),
}

impl std::str::FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(key) = text.parse() {
            return Ok(Self::Key(key));
        }
        let node = text.parse::<NodeAddress>().map(|node| node.name().clone());
        let node = node.or_else(|_| text.parse().map_err(|error: NodeNameError| error.to_string()));
        node.map(Self::Node).map_err(|why| format!("`{text}` is neither a node's name nor a writer's key: {why}"))
    }
}

/// What came of a change of who is a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// This entry says it.
    By(EntryId),
    /// It was so before.
    Nothing,
}

impl Runtime {
    /// Finds out whether this node may write into a loom.
    ///
    /// # Errors
    /// That it may not, no such loom here, or a record that cannot be read.
    pub fn may_write(&self, loom: LoomId) -> Result<(), Fault> {
        self.write_permission(loom).map(drop)
    }

    /// The admission by which this node may write into a loom; nothing for the founder.
    pub(super) fn write_permission(&self, loom: LoomId) -> Result<Option<EntryId>, Fault> {
        self.host.join(loom)?.permission()
    }

    /// Says who may write into a loom.
    ///
    /// # Errors
    /// No such loom here, or a record that cannot be read.
    pub fn members(&self, loom: LoomId) -> Result<Members, Fault> {
        let batch = self.batch(loom)?;
        let reader = Reader::of(&batch);
        let mut refused: Vec<(String, u64)> = Vec::new();
        for (_, why) in reader.refused() {
            let why = why.kind().to_owned();
            match refused.iter_mut().find(|(known, _)| *known == why) {
                Some((_, count)) => *count = count.saturating_add(1),
                None => refused.push((why, 1)),
            }
        }
        refused.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        let (founder, mut members) = (reader.founder(), reader.members());
        members.retain(|member| reader.ended_by(member).is_none());
        let as_whom = |key: WriterKey| {
            let named = founder.iter().chain(members.iter().map(|member| &member.principal));
            named.into_iter().find(|principal| reader.is_of(key, principal)).cloned()
        };
        let is_member = |target: &Target| {
            members.iter().any(|member| match (target, &member.principal) {
                (Target::Node(node), Principal::Node(of)) => node == of,
                (Target::Key(key), Principal::Key(of)) => key == of,
                (Target::Node(_), Principal::Key(_))
                | (Target::Key(_), Principal::Node(_))
                | (Target::Certificate(_), _) => false,
            })
        };
        let expelled = reader.expulsions().map(|(sealed, expelled)| (expelled.target.clone(), sealed.id));
        let writers = self.host.store.logs(loom)?.into_iter().map(|log| (log.writer, as_whom(log.writer))).collect();
        Ok(Members {
            this_node: as_whom(self.host.store.writer()),
            expelled: expelled.filter(|(target, _)| !is_member(target)).collect(),
            writers,
            refused,
            founder,
            members,
        })
    }

    /// Whom a person means: a node of this name by what the loom's record says of it, else by what that node says of itself.
    ///
    /// # Errors
    /// No such loom here, a name that several authorities have given, or that nobody is known under.
    pub async fn principal(&self, loom: LoomId, named: &Named) -> Result<Principal, Fault> {
        let name = match named {
            Named::Key(key) => return Ok(Principal::Key(*key)),
            Named::Node(name) => name,
        };
        let known = {
            let batch = self.batch(loom)?;
            Reader::of(&batch).nodes_named(name)
        };
        let mut known = known.into_iter();
        match (known.next(), known.next()) {
            (Some(node), None) => Ok(Principal::Node(node)),
            (Some(_), Some(_)) => Err(Fault::Nodes { name: name.clone() }),
            (None, _) => match &self.host.peers {
                Some(peers) => self.identified(loom, name, &**peers).await,
                None => Err(Fault::NoNode { name: name.clone() }),
            },
        }
    }

    /// As whom a node of this name writes, as it says itself, with what shows it.
    ///
    /// # Errors
    /// A node that nobody is connected to, or a record that cannot be written.
    pub async fn identified(&self, loom: LoomId, name: &NodeName, peers: &dyn Peers) -> Result<Principal, Fault> {
        let Ok(identity) = peers.identify(name.as_str(), false).await else {
            return Err(Fault::NoNode { name: name.clone() });
        };
        // One too many of a key is left out: what is kept says the same.
        drop(self.host.store.attest(loom, &identity.attestations)?);
        Ok(identity.principal.clone())
    }

    /// Makes somebody a member of a loom, with these rights.
    ///
    /// # Errors
    /// No such loom here, rights that this node does not have itself, somebody whose expulsion it may not end, or a record that cannot
    /// be written.
    pub async fn admit(
        &self,
        loom: LoomId,
        principal: Principal,
        rights: Rights,
        by: Option<String>,
    ) -> Result<Changed, Fault> {
        // What decides may be somewhere else still.
        self.ready(loom).await?;
        let batch = self.batch(loom)?;
        let reader = Reader::of(&batch);
        let has = |member: &Member| {
            member.principal == principal
                && member.scope.is_none()
                && rights.is_within(&member.rights)
                && reader.ended_by(member).is_none()
        };
        if reader.founder().as_ref() == Some(&principal) || reader.members().iter().any(has) {
            return Ok(Changed::Nothing);
        }
        let own = self.host.store.writer();
        let mut admitted = Admitted { principal, rights, scope: None, again: Vec::new(), by, note: None };
        let relies = permission(&reader, own, loom, Deed::Admit(&admitted))?;
        admitted.again = reader.again(own, relies, &admitted.principal).map_err(|by| Fault::Expelled {
            loom,
            principal: admitted.principal.clone(),
            by,
        })?;
        self.decide(loom, relies, Body::Admitted(Box::new(admitted))).await
    }

    /// Takes somebody's rights in a loom: what that one has written up to here stays as it is, and what it writes from now on decides
    /// nothing.
    ///
    /// # Errors
    /// No such loom here, somebody over whom this node has no say, or a record that cannot be written.
    pub async fn expel(&self, loom: LoomId, target: Target, by: Option<String>) -> Result<Changed, Fault> {
        // What decides may be somewhere else still.
        self.ready(loom).await?;
        let batch = self.batch(loom)?;
        let reader = Reader::of(&batch);
        let (is_about, is_founder) = match &target {
            Target::Node(node) => {
                let principal = Principal::Node(node.clone());
                let is_founder = reader.founder().as_ref() == Some(&principal);
                let is_member = |it: &Member| it.principal == principal && reader.ended_by(it).is_none();
                (reader.members().iter().any(is_member), is_founder)
            }
            Target::Key(key) => {
                // A key of the founder is no member, and can be lost.
                let is_writer = reader.is_founder(*key) && *key != self.host.store.writer();
                let is_its = |it: &Member| reader.is_of(*key, &it.principal) && reader.ended_by(it).is_none();
                let is_named = reader.members().iter().any(is_its);
                (is_writer || is_named, false)
            }
            Target::Certificate(_) => (true, false),
        };
        if is_founder {
            return Err(Fault::Founder { loom });
        }
        if !is_about {
            return Ok(Changed::Nothing);
        }
        let relies = permission(&reader, self.host.store.writer(), loom, Deed::Expel)?;
        let ends = self.ends_of(&reader, loom, &target)?;
        let expelled = Expelled { target, ends, by, note: None };
        self.decide(loom, relies, Body::Expelled(Box::new(expelled))).await
    }

    /// Admits somebody with these rights, or, without any, expels that one.
    ///
    /// # Errors
    /// As [`Runtime::principal`], [`Runtime::admit`] and [`Runtime::expel`].
    pub async fn change_members(
        &self,
        loom: LoomId,
        named: &Named,
        rights: &[Right],
        by: Option<String>,
    ) -> Result<Changed, Fault> {
        let principal = self.principal(loom, named).await?;
        if !rights.is_empty() {
            return self.admit(loom, principal, rights.iter().copied().collect(), by).await;
        }
        self.expel(loom, principal.into(), by).await
    }

    /// How far what somebody has signed is here: what an expulsion leaves of it.
    fn ends_of(&self, reader: &Reader<'_>, loom: LoomId, target: &Target) -> Result<Vec<LogEnd>, Fault> {
        let store = &self.host.store;
        let (logs, heads) = (store.logs(loom)?, store.cast_heads(loom)?);
        let mut keys: Vec<WriterKey> = logs.iter().map(|log| log.writer).collect();
        keys.extend(heads.iter().map(|head| head.writer));
        keys.sort_unstable();
        keys.dedup();
        let mut ends: BTreeMap<WriterKey, Vec<LogEnd>> = BTreeMap::new();
        let named = reader.keys_of(target, &keys);
        for signed in logs.iter().filter(|log| named.contains(&log.writer)).filter_map(|log| log.signed) {
            let (sequence, chain) = (signed.head.sequence, signed.head.chain);
            let end = LogEnd { writer: signed.writer, sequence, chain, cast: None };
            ends.entry(signed.writer).or_default().push(end);
        }
        // The newest casts first: of one writer only so many can be named, and what was settled stays anyway.
        let mut heads: Vec<_> = heads.into_iter().filter(|head| named.contains(&head.writer)).collect();
        heads.sort_by_key(|head| std::cmp::Reverse(head.at.place));
        for head in heads {
            let ends = ends.entry(head.writer).or_default();
            if ends.len() >= ENDS_PER_WRITER {
                continue;
            }
            let unit = end_of_cast(&of_owner(&**store, loom, head.writer, head.at.place)?, head.cast);
            if unit.at() == head.at {
                ends.push(unit.end(head.writer, head.cast));
            }
        }
        Ok(ends.into_values().flatten().collect())
    }

    async fn decide(&self, loom: LoomId, relies: Option<EntryId>, body: Body) -> Result<Changed, Fault> {
        let open = self.host.open(loom)?;
        open.ready().await?;
        let id = open.append_by(relies, (None, None), body)?;
        open.sync().await?;
        if let Some(copies) = &self.host.copies {
            copies.members_changed(loom);
            copies.reread_fences(loom)?;
        }
        // An entry of this node's own that counts for nothing would be a promise that is not kept.
        let batch = self.batch(loom)?;
        Reader::of(&batch).counts(id).map_err(|why| Fault::Void { loom, why })?;
        Ok(Changed::By(id))
    }

    pub(super) fn batch(&self, loom: LoomId) -> Result<Batch, Fault> {
        self.host.batch(loom)
    }
}

impl Host {
    pub(super) fn batch(&self, loom: LoomId) -> Result<Batch, Fault> {
        let store = &self.store;
        if store.logs(loom)?.is_empty() && store.entries(loom)?.is_empty() {
            return Err(Fault::NoLoom { loom });
        }
        Ok(store.batch(loom)?)
    }
}
