//! What the node file decides of a cast: the terms of its caller, and the cantrip that is made of its order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use cantrip_gates::{Gate, GateError, GateSpec, builtin};

use crate::adapters::llm::{self, LlmConfig};
use crate::adapters::peer::{GuestLine, Hosting, Kept, PeerNodes, Shelve, Terms, Uploads, signed_by};
use crate::adapters::wasm::{GuestError, Guests, Shelf, ShelfError};
use crate::cli::settings::{Sandboxed, Settings};
use crate::domain::caller::{Caller, KnownCaller};
use crate::domain::circle::RuntimeGate;
use crate::domain::guest::Manifest;
use crate::domain::ids::{EntityId, LoomId, NodeAddress, NodeName};
use crate::domain::remote::{Granted, GrantedGate, ModelOrder, Order, Refusal};
use crate::driver::{
    Build, CallerGate, CallerLlm, Cantrip, CantripError, Casts, Copies, Line, Slots, Unfinished, Where,
};
use crate::ports::{Guest, Llm};

use super::file::{NodeFile, Policy};

/// 64 MiB. A larger component is not fetched from a caller.
const FETCHED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// One caller's part of the file, with what runs for it.
#[derive(Debug)]
struct Known {
    terms: Terms,
    policy: Policy,
    /// Nothing for the machine's own user.
    address: Option<NodeAddress>,
}

/// A gate of a cantrip that is made here, with what is behind it.
enum Equipped {
    Here(Arc<dyn Gate>),
    Runtime(RuntimeGate),
    Caller(Box<GateSpec>),
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
        let known = |address: Option<NodeAddress>, policy: Policy| {
            let uploads = Uploads {
                rule: format!("{}.deploy", policy.ceiling.rule),
                folder: uploads_of(&file.data.join("uploads"), address.as_ref().map(NodeAddress::name)),
                bytes_max: policy.deploy.max_bytes,
                quota_bytes: policy.deploy.quota_bytes,
                require_signed: policy.deploy.require_signed,
                publishers: policy.publishers.clone(),
                kept: kept(sandboxed.shelf.clone()),
                shelve: shelve(&sandboxed, &policy),
                counting: Mutex::new(()),
            };
            let terms = Terms {
                ceiling: Arc::clone(&policy.ceiling),
                slots: Slots::new(policy.concurrent_casts, policy.queue),
                uploads: Some(Arc::new(uploads)),
                may_relay: address.is_none(),
            };
            Known { terms, policy, address }
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

/// Whether a guest is kept, and how it is named.
fn kept(shelf: Shelf) -> Kept {
    Arc::new(move |digest| {
        let (name, bytes) = shelf.get(digest).ok()?;
        Guests::inspect(&name, &bytes).ok().map(|manifest| manifest.reference())
    })
}

/// Checks a component against the policy, compiles it and keeps it.
fn shelve(sandboxed: &Arc<Sandboxed>, policy: &Policy) -> Shelve {
    let (sandboxed, ceiling) = (Arc::clone(sandboxed), Arc::clone(&policy.ceiling));
    Arc::new(move |name, bytes| {
        let (sandboxed, ceiling) = (Arc::clone(&sandboxed), Arc::clone(&ceiling));
        Box::pin(async move {
            let rule = ceiling.rule.clone();
            let work = move || {
                let unusable = |error: GuestError| refused(&ceiling.rule, &error);
                let manifest = Guests::inspect(&name, &bytes).map_err(unusable)?;
                let missing = manifest.impossible();
                if let Some(missing) = missing.first() {
                    let what = format!("no circle can give it {}: {}", missing.interface, missing.remedy);
                    return Err(Refusal::new(format!("{}.deploy", ceiling.rule), GateError::Invalid(what)));
                }
                for gate in manifest.gates() {
                    if gate != "done" && !ceiling.gates.contains(gate) && !ceiling.gates_at_caller {
                        let known = ceiling.gates.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
                        let what = format!("it imports the gate `{gate}`, and this host grants {known}");
                        return Err(Refusal::new(format!("{}.gates", ceiling.rule), GateError::Denied(what)));
                    }
                }
                sandboxed.guests.compile(&name, bytes.clone()).map_err(unusable)?;
                let manifest: Manifest =
                    sandboxed.shelf.add(&name, &bytes).map_err(|error| refused(&ceiling.rule, &error))?;
                Ok(manifest.reference())
            };
            // Compiling takes a core for a while: not one of those that serve.
            let done = tokio::task::spawn_blocking(work).await;
            done.unwrap_or_else(|error| Err(refused(&rule, &error)))
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

    fn known_as(&self, caller: &Caller) -> String {
        let address = self.known(caller).and_then(|known| known.address.as_ref());
        address.map_or_else(|| caller.to_string(), NodeAddress::to_string)
    }

    fn build(&self, terms: &Terms, order: &Order, granted: &Granted) -> Result<Build, Refusal> {
        let rule = terms.ceiling.rule.clone();
        let all = std::iter::once(&self.local).chain(self.peers.values());
        let known = all.into_iter().find(|known| known.terms.ceiling.rule == rule);
        let policy = known.map_or(&self.local.policy, |known| &known.policy);
        let cantrip = order.cantrip.clone();
        let mut gates = Vec::with_capacity(granted.gates.len());
        for gate in &granted.gates {
            gates.push(match gate {
                GrantedGate::Runtime(RuntimeGate::Done) => Equipped::Here(builtin::done()),
                GrantedGate::Runtime(gate) => Equipped::Runtime(*gate),
                GrantedGate::Caller(spec) => Equipped::Caller(spec.clone()),
                GrantedGate::Host(name) => Equipped::Here(policy.gates.get(name).cloned().ok_or_else(|| {
                    let what = format!("this host has no gate `{name}`");
                    Refusal::new(format!("{rule}.gates"), GateError::NotFound(what))
                })?),
            });
        }
        let model = match &cantrip.model {
            ModelOrder::AtHost(Some(name)) => Some(self.file.get(name)?),
            ModelOrder::AtHost(None) | ModelOrder::AtCaller { .. } => None,
        };
        let (sandboxed, fetch) = (Arc::clone(&self.sandboxed), policy.fetch_guests);
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
                    builder = builder.guest(guest(&sandboxed, reference, fetch, &line, &rule).await?);
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

    fn guests(&self) -> Vec<GuestLine> {
        let listed = self.sandboxed.shelf.list().unwrap_or_default();
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

/// A guest of the shelf, or of the caller where the host takes it from there.
async fn guest(
    sandboxed: &Arc<Sandboxed>,
    reference: &str,
    fetch: bool,
    line: &Line,
    rule: &str,
) -> Result<Arc<dyn Guest>, Refusal> {
    let load = |name: String, bytes: Vec<u8>, keep: bool| {
        let sandboxed = Arc::clone(sandboxed);
        let rule = format!("{rule}.guests");
        async move {
            let work = move || {
                let loaded = sandboxed.guests.load(&name, bytes.clone()).map_err(|error| said(&error))?;
                if keep {
                    sandboxed.shelf.add(&name, &bytes).map_err(|error| said(&error))?;
                }
                Ok::<_, String>(loaded)
            };
            let done = tokio::task::spawn_blocking(work).await.map_err(|error| said(&error)).and_then(|loaded| loaded);
            done.map_err(|what| Refusal::new(rule, GateError::Invalid(what)))
        }
    };
    match sandboxed.shelf.get(reference) {
        Ok((name, bytes)) => load(name, bytes, false).await,
        Err(ShelfError::Unknown { .. }) if fetch && reference.contains("sha256:") => {
            let (name, digest) = reference.rsplit_once('@').unwrap_or(("guest", reference));
            let bytes = line.guest(digest, FETCHED_BYTES_MAX).await;
            let bytes = bytes.map_err(|error| Refusal::new(format!("{rule}.fetch_guests"), error))?;
            let manifest = Guests::inspect(name, &bytes);
            let manifest = manifest
                .map_err(|error| Refusal::new(format!("{rule}.fetch_guests"), GateError::Invalid(said(&error))))?;
            if manifest.digest != digest {
                let what = format!("the caller sent {}, and {digest} was asked for", manifest.digest);
                return Err(Refusal::new(format!("{rule}.fetch_guests"), GateError::Invalid(what)));
            }
            load(name.to_owned(), bytes, true).await
        }
        Err(error @ ShelfError::Unknown { .. }) => {
            let hint = "deploy it first: `cantrip-runtime deploy FILE --node NODE`";
            Err(Refusal::new(format!("{rule}.guests"), GateError::NotFound(format!("{}; {hint}", said(&error)))))
        }
        Err(error) => Err(Refusal::new(format!("{rule}.guests"), GateError::Failed(said(&error)))),
    }
}
