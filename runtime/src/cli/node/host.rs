//! What the node file decides of a cast: the terms of its caller, and the cantrip that is made of its order.

use std::collections::BTreeMap;
use std::sync::Arc;

use cantrip_gates::{Gate, GateError, GateSpec, builtin};

use crate::adapters::llm::{self, LlmConfig};
use crate::adapters::peer::{Coming, GuestLine, Hosting, Kept, PeerNodes, Shelve, Terms, Uploads, signed_by};
use crate::adapters::wasm::{Shelf, ShelfError};
use crate::cli::admit::{AdmitError, admit_guest};
use crate::cli::settings::{Sandboxed, Settings};
use crate::domain::caller::{Caller, KnownCaller};
use crate::domain::circle::RuntimeGate;
use crate::domain::ids::{EntityId, LoomId, NodeAddress, NodeName};
use crate::domain::limits::GUEST_BYTES_MAX;
use crate::domain::remote::{Ceiling, Granted, GrantedGate, ModelOrder, Order, Refusal};
use crate::driver::{
    Build, CallerGate, CallerLlm, Cantrip, CantripError, Casts, Copies, Line, Slots, Unfinished, Where,
};
use crate::ports::{Guest, Llm};

use super::file::{NodeFile, Policy};

/// One caller's part of the file, with what runs for it.
#[derive(Debug)]
struct Known {
    terms: Terms,
    policy: Policy,
    /// Nothing for the machine's own user.
    address: Option<NodeAddress>,
    /// The guests that are kept here, by the names that it has given and those of everybody.
    shelf: Shelf,
}

/// A gate of a cantrip that is made here, with what is behind it.
enum Equipped {
    Here(Arc<dyn Gate>),
    Runtime(RuntimeGate),
    Caller(Box<GateSpec>),
}

/// What is behind each gate that is granted.
fn equipped(granted: &Granted, policy: &Policy, rule: &str) -> Result<Vec<Equipped>, Refusal> {
    let equip = |gate: &GrantedGate| {
        Ok(match gate {
            GrantedGate::Runtime(RuntimeGate::Done) => Equipped::Here(builtin::done()),
            GrantedGate::Runtime(gate) => Equipped::Runtime(*gate),
            GrantedGate::Caller(spec) => Equipped::Caller(spec.clone()),
            GrantedGate::Host(name) => Equipped::Here(policy.gates.get(name).cloned().ok_or_else(|| {
                let what = format!("this host has no gate `{name}`");
                Refusal::new(format!("{rule}.gates"), GateError::NotFound(what))
            })?),
        })
    };
    granted.gates.iter().map(equip).collect()
}

/// The node file at work.
#[derive(Debug)]
pub(super) struct NodeHost {
    sandboxed: Arc<Sandboxed>,
    file: NodeModels,
    uploads: std::path::PathBuf,
    way: Arc<PeerNodes>,
    copies: Option<Arc<Copies>>,
    local: Known,
    peers: BTreeMap<NodeName, Known>,
}

#[derive(Debug)]
struct NodeModels {
    folder: std::path::PathBuf,
    models: BTreeMap<String, LlmConfig>,
    /// Models that keep nothing between two casts, made once.
    made: BTreeMap<String, Arc<dyn Llm>>,
}

fn said(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}

impl NodeModels {
    /// Under which name a model is had that the record names.
    fn named(&self, recorded: &str) -> Option<String> {
        let names = self.models.keys();
        names.into_iter().find(|name| self.get(name).is_ok_and(|model| model.name() == recorded)).cloned()
    }

    fn get(&self, name: &str) -> Result<Arc<dyn Llm>, Refusal> {
        if let Some(made) = self.made.get(name) {
            return Ok(Arc::clone(made));
        }
        let rule = format!("models.{name}");
        let Some(config) = self.models.get(name) else {
            return Err(Refusal::new(rule, GateError::NotFound(format!("there is no model `{name}`"))));
        };
        llm::build(config, &self.folder, &Settings::env)
            .map_err(|error| Refusal::new(rule, GateError::Failed(error.to_string())))
    }
}

impl NodeHost {
    pub(super) fn new(
        file: NodeFile,
        sandboxed: Arc<Sandboxed>,
        way: Arc<PeerNodes>,
        copies: Option<Arc<Copies>>,
    ) -> Arc<Self> {
        let everybodys = sandboxed.shelf.clone().with_names(file.guests);
        let known = |address: Option<NodeAddress>, policy: Policy| {
            let shelf = match &address {
                None => everybodys.clone(),
                Some(address) => everybodys.of_peer(address.name()),
            };
            let uploads = Uploads {
                rule: format!("{}.deploy", policy.ceiling.rule),
                folder: uploads_of(&file.data.join("uploads"), address.as_ref().map(NodeAddress::name)),
                bytes_max: policy.deploy.max_bytes,
                quota_bytes: policy.deploy.quota_bytes,
                require_signed: policy.deploy.require_signed,
                publishers: policy.publishers.clone(),
                kept: kept(shelf.clone()),
                shelve: shelve(&sandboxed, &shelf, &policy.ceiling),
                coming: Coming::default(),
            };
            let terms = Terms {
                ceiling: Arc::clone(&policy.ceiling),
                slots: Slots::within(policy.slots),
                uploads: Some(Arc::new(uploads)),
                may_relay: address.is_none(),
            };
            Known { terms, policy, address, shelf }
        };
        let local = known(None, file.local);
        let peers = file.peers.into_iter().map(|(name, (address, policy))| (name, known(Some(address), policy)));
        let peers = peers.collect();
        let lasting = file.models.iter().filter(|(_, config)| !config.is_scripted());
        let lasting = lasting
            .filter_map(|(name, config)| Some((name.clone(), llm::build(config, &file.folder, &Settings::env).ok()?)));
        let made = lasting.collect();
        let uploads = file.data.join("uploads");
        let file = NodeModels { folder: file.folder, models: file.models, made };
        Arc::new(Self { sandboxed, file, uploads, way, copies, local, peers })
    }

    /// Goes on with what was running when the node stopped, as far as everything that it needs is here.
    pub(super) fn go_on(&self, casts: &Casts) {
        let all = match casts.unfinished() {
            Ok(all) => all,
            Err(error) => {
                tracing::error!(error = said(&error), "what was running cannot be read");
                return;
            }
        };
        for unfinished in all {
            let entity = unfinished.order.entity;
            if let Err(what) = self.go_on_one(casts, unfinished) {
                tracing::info!(%entity, what, "an episode that was cut off waits");
            }
        }
    }

    /// Goes on with one; otherwise says what is not here.
    fn go_on_one(&self, casts: &Casts, mut unfinished: Unfinished) -> Result<(), String> {
        let caller = unfinished.caller.clone().ok_or("its record does not say who had it cast")?;
        let known = self.known(&caller).ok_or_else(|| format!("its caller {caller} is not listed here any more"))?;
        if unfinished.needs_caller {
            return Err("some of its gates are with whoever cast it".to_owned());
        }
        let model = self.file.named(&unfinished.opened.model);
        let is_guest = unfinished.opened.guest.is_some() && unfinished.opened.model == "none";
        if model.is_none() && !is_guest {
            return Err(format!("the node file has no model `{}`", unfinished.opened.model));
        }
        unfinished.order.cantrip.model = ModelOrder::AtHost(model);
        // What was granted when it began may not be any more.
        let refused = |refusal: Refusal| refusal.to_string();
        let terms = self.terms(&caller).ok_or("its caller is not listed here any more")?;
        let granted = terms.ceiling.grant(&unfinished.order).map_err(refused)?;
        unfinished.order.cantrip.wards = granted.wards.clone();
        let build = self.build(&terms, &unfinished.order, &granted).map_err(refused)?;
        let caller = KnownCaller { recorded: self.known_as(&caller), caller };
        casts.go_on(&caller, unfinished.order, &known.terms.slots, Where::Here(build, granted.nodes));
        Ok(())
    }

    fn known(&self, caller: &Caller) -> Option<&Known> {
        match caller {
            Caller::CommandLine | Caller::Socket => Some(&self.local),
            Caller::Peer(name) => self.peers.get(name),
        }
    }
}

/// Where what comes of a caller's guests is kept until it is whole. No peer has the name of the machine's own user's folder.
fn uploads_of(folder: &std::path::Path, peer: Option<&NodeName>) -> std::path::PathBuf {
    folder.join(peer.map_or("local", NodeName::as_str))
}

/// How a caller names a guest that it has, or that everybody has.
fn kept(shelf: Shelf) -> Kept {
    Arc::new(move |digest| shelf.reference(digest))
}

/// Checks a component against the policy, compiles it and keeps it under a name of its owner's.
fn shelve(sandboxed: &Arc<Sandboxed>, shelf: &Shelf, ceiling: &Arc<Ceiling>) -> Shelve {
    let (sandboxed, shelf, ceiling) = (Arc::clone(sandboxed), shelf.clone(), Arc::clone(ceiling));
    Arc::new(move |name, bytes| {
        let (sandboxed, shelf, ceiling) = (Arc::clone(&sandboxed), shelf.clone(), Arc::clone(&ceiling));
        Box::pin(async move {
            let rule = ceiling.rule.clone();
            let work = move || admit_guest(&sandboxed.guests, &shelf, Some(&ceiling), &name, &bytes);
            // Compiling takes a core for a while: not one of those that serve.
            match tokio::task::spawn_blocking(work).await {
                Ok(Ok(manifest)) => Ok(manifest.reference()),
                Ok(Err(AdmitError::Refused(refusal))) => Err(refusal),
                Ok(Err(error)) => Err(refused(&rule, &error)),
                Err(error) => Err(refused(&rule, &error)),
            }
        })
    })
}

fn refused(rule: &str, error: &dyn std::error::Error) -> Refusal {
    Refusal::new(format!("{rule}.deploy"), GateError::Invalid(said(error)))
}

impl Hosting for NodeHost {
    fn terms(&self, caller: &Caller) -> Option<Terms> {
        let known = self.known(caller)?;
        let mut terms = known.terms.clone();
        if !known.policy.guest_publishers.is_empty() {
            let mut ceiling = (*terms.ceiling).clone();
            let signed = signed_by(&self.uploads, &known.policy.guest_publishers);
            ceiling.guests.get_or_insert_default().extend(signed);
            terms.ceiling = Arc::new(ceiling);
        }
        Some(terms)
    }

    fn is_listed(&self, caller: &Caller) -> bool {
        self.known(caller).is_some()
    }

    fn known_as(&self, caller: &Caller) -> String {
        let address = self.known(caller).and_then(|known| known.address.as_ref());
        address.map_or_else(|| caller.to_string(), NodeAddress::to_string)
    }

    fn build(&self, terms: &Terms, order: &Order, granted: &Granted) -> Result<Build, Refusal> {
        let rule = terms.ceiling.rule.clone();
        let all = std::iter::once(&self.local).chain(self.peers.values());
        let known = all.into_iter().find(|known| known.terms.ceiling.rule == rule);
        let known = known.ok_or_else(|| {
            Refusal::new("host", GateError::Failed("the caller's part of the node file is gone".to_owned()))
        })?;
        let policy = &known.policy;
        let cantrip = order.cantrip.clone();
        let gates = equipped(granted, policy, &rule)?;
        let model = match &cantrip.model {
            ModelOrder::AtHost(Some(name)) => Some(self.file.get(name)?),
            ModelOrder::AtHost(None) | ModelOrder::AtCaller { .. } => None,
        };
        let sandboxed = Arc::clone(&self.sandboxed);
        let source = Source {
            sandboxed: Arc::clone(&sandboxed),
            shelf: known.shelf.clone(),
            fetch: terms.uploads.clone().filter(|_| policy.fetch_guests),
            rule: rule.clone(),
        };
        Ok(Box::new(move |line: Arc<Line>| {
            Box::pin(async move {
                let mut builder = Cantrip::builder();
                if let Some(prompt) = cantrip.identity.system_prompt() {
                    builder = builder.system_prompt(prompt);
                }
                builder = builder.sampling(cantrip.identity.sampling().clone()).folding(cantrip.folding.clone());
                if let Some(choice) = cantrip.identity.tool_choice() {
                    builder = builder.tool_choice(choice);
                }
                builder = match (model, cantrip.model) {
                    (Some(model), _) => builder.llm(model),
                    (None, ModelOrder::AtCaller { name, context_tokens, can_require_calls }) => {
                        let line = Arc::clone(&line);
                        builder.llm(Arc::new(CallerLlm { name, context_tokens, can_require_calls, line }))
                    }
                    (None, ModelOrder::AtHost(_)) => builder,
                };
                for gate in gates {
                    builder = match gate {
                        Equipped::Here(gate) => builder.gate(gate),
                        Equipped::Runtime(gate) => builder.hold(gate.as_str()),
                        Equipped::Caller(spec) => {
                            builder.gate_at_caller(Arc::new(CallerGate::new(*spec, Arc::clone(&line))))
                        }
                    };
                }
                if let Some(reference) = &cantrip.guest {
                    builder = builder.guest(source.guest(reference, &line).await?);
                }
                if let Some(medium) = cantrip.medium {
                    builder = builder.medium(medium);
                }
                builder = builder.wards(&cantrip.wards);
                let refuse =
                    |error: &CantripError| Refusal::new(format!("{rule}.cantrip"), GateError::Invalid(said(error)));
                // Linking a guest takes a moment, too.
                let media = Arc::clone(&sandboxed);
                let built = tokio::task::spawn_blocking(move || builder.build(media.media())).await;
                match built {
                    Ok(built) => built.map_err(|error| refuse(&error)),
                    Err(error) => Err(Refusal::new("host", GateError::Failed(said(&error)))),
                }
            })
        }))
    }

    fn guests(&self, caller: &Caller) -> Vec<GuestLine> {
        let listed = match self.known(caller) {
            Some(known) if caller.is_local() => known.shelf.list().unwrap_or_default(),
            Some(known) => known.shelf.named(),
            None => Vec::new(),
        };
        let line = |it: crate::adapters::wasm::Shelved| GuestLine {
            name: it.names.join(","),
            digest: it.manifest.digest.clone(),
            bytes: it.manifest.bytes,
            world: it.manifest.shape.world().to_owned(),
            gates: it.manifest.gates().into_iter().map(str::to_owned).collect(),
        };
        listed.into_iter().map(line).collect()
    }

    fn peers(&self) -> Vec<NodeAddress> {
        self.peers.values().filter_map(|known| known.address.clone()).collect()
    }

    fn media(&self) -> Vec<String> {
        self.sandboxed.media().names()
    }

    fn go_on_with(&self, casts: &Casts, loom: LoomId, entity: EntityId) -> Result<(), String> {
        match casts.adopted(loom, entity).map_err(|error| said(&error))? {
            Some(unfinished) => self.go_on_one(casts, unfinished),
            None => Ok(()),
        }
    }

    fn copies(&self) -> Option<Arc<Copies>> {
        self.copies.clone()
    }

    fn way_to_peers(&self) -> Option<Arc<PeerNodes>> {
        Some(Arc::clone(&self.way))
    }
}

/// Where the guests of a caller come from.
struct Source {
    sandboxed: Arc<Sandboxed>,
    /// By the names that the caller has.
    shelf: Shelf,
    /// Where what is fetched from the caller counts; absent: nothing is fetched.
    fetch: Option<Arc<Uploads>>,
    rule: String,
}

impl Source {
    /// A guest of the shelf, or of the caller where the host takes it from there: by the same rules as one that is deployed.
    async fn guest(&self, reference: &str, line: &Line) -> Result<Arc<dyn Guest>, Refusal> {
        let refuse = |key: &str, error: GateError| Refusal::new(format!("{}.{key}", self.rule), error);
        match self.kept(reference).await? {
            Ok((name, bytes)) => self.load(name, bytes).await,
            Err(error @ ShelfError::Unknown { .. }) => {
                let (name, digest) = reference.rsplit_once('@').unwrap_or(("guest", reference));
                let Some(uploads) = self.fetch.as_ref().filter(|_| digest.starts_with("sha256:")) else {
                    let hint = "deploy it first: `cantrip-runtime deploy FILE --node NODE`; a guest of somebody else is named by \
                                its digest";
                    return Err(refuse("guests", GateError::NotFound(format!("{}; {hint}", said(&error)))));
                };
                let _turn = uploads.fetching().await;
                // Another cast may have fetched it in the meantime.
                if let Ok((name, bytes)) = self.kept(reference).await? {
                    return self.load(name, bytes).await;
                }
                let bytes = line.guest(digest, uploads.bytes_max.min(GUEST_BYTES_MAX)).await;
                let bytes = bytes.map_err(|error| refuse("fetch_guests", error))?;
                uploads.admit(name, digest, &bytes).await?;
                self.load(name.to_owned(), bytes).await
            }
            Err(error) => Err(refuse("guests", GateError::Failed(said(&error)))),
        }
    }

    /// What the shelf has under a name or digest. It reads files: not on a thread that serves.
    async fn kept(&self, reference: &str) -> Result<Result<(String, Vec<u8>), ShelfError>, Refusal> {
        let (guests, asked) = (self.shelf.clone(), reference.to_owned());
        let found = tokio::task::spawn_blocking(move || guests.get(&asked)).await;
        found.map_err(|error| Refusal::new(format!("{}.guests", self.rule), GateError::Failed(said(&error))))
    }

    async fn load(&self, name: String, bytes: Vec<u8>) -> Result<Arc<dyn Guest>, Refusal> {
        let refuse = |what: String| Refusal::new(format!("{}.guests", self.rule), GateError::Invalid(what));
        let sandboxed = Arc::clone(&self.sandboxed);
        let loaded = tokio::task::spawn_blocking(move || sandboxed.guests.load(&name, bytes)).await;
        loaded.map_err(|error| refuse(said(&error)))?.map_err(|error| refuse(said(&error)))
    }
}
