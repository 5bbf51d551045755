//! The cantrip as the driver holds it: a checked, reusable value. Casting one never changes it (CANTRIP-2).

use std::collections::BTreeMap;
use std::sync::Arc;

use cantrip_gates::{Gate, GateSet, GateSetError, GateSpec, WardError, Wards, builtin, suggest};
use thiserror::Error;

use crate::domain::cantrip::{Folding, Identity};
use crate::domain::circle::{Circle, CircleDraft, CircleError, delegates};
use crate::domain::entity::GuestNature;
use crate::domain::guest::{GuestRefusal, LLM_QUERY, Manifest, Shape};
use crate::domain::medium::{MediumOpening, SnapshotPolicy};
use crate::domain::model::{ModelError, Question, RawAnswer, RetryPolicy, Sampling, ToolChoice};
use crate::domain::place::CallPlace;
use crate::ports::{BoxFuture, Guest, Llm, MediumFactory, MediumFault, Pieces};

/// Why a cantrip cannot be.
#[derive(Debug, Error)]
pub enum CantripError {
    /// CANTRIP-1.
    #[error("cantrip requires an llm")]
    NoLlm,
    /// A guest without a model is given the gate that asks one.
    #[error("the gate {0} needs the cantrip's model, and there is none: add `[llm]`, or leave the gate out")]
    NoLlmForGate(String),
    /// The guest needs more than the circle gives.
    #[error(transparent)]
    Guest(#[from] GuestRefusal),
    /// The engine does not take the guest.
    #[error("the guest cannot be run here")]
    GuestUnusable(#[source] MediumFault),
    /// The circle cannot hold.
    #[error(transparent)]
    Circle(#[from] CircleError),
    /// A ward is unknown or has a wrong value.
    #[error(transparent)]
    Ward(#[from] WardError),
    /// A gate is there twice.
    #[error(transparent)]
    Gates(#[from] GateSetError),
    /// A gate that nobody has equipped.
    #[error("there is no gate `{name}`; there are {known}{hint}")]
    UnknownGate {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
        /// A guess at what was meant.
        hint: String,
    },
    /// Children are to use a model that the cantrip does not name.
    #[error("children are to use the model `{name}`, and the cantrip names {known}")]
    UnknownModel {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
}

/// Which models children use where nobody names one; absent: their parent's.
#[derive(Debug, Clone, Default)]
pub struct ChildModels {
    /// For children of any depth.
    pub default: Option<String>,
    /// For children of one depth; wins over the default. 1 is a child of a root.
    pub by_depth: BTreeMap<u32, String>,
}

/// A cantrip: model, identity, circle. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cantrip(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    llm: Arc<dyn Llm>,
    identity: Identity,
    circle: Arc<Circle>,
    equipped: GateSet,
    specs: Vec<GateSpec>,
    models: BTreeMap<String, Arc<dyn Llm>>,
    child_models: ChildModels,
    folding: Folding,
    snapshots: SnapshotPolicy,
    retry: RetryPolicy,
    guest: Option<Arc<dyn Guest>>,
}

impl Cantrip {
    /// Begins a cantrip.
    pub fn builder() -> CantripBuilder {
        CantripBuilder::default()
    }

    /// Its identity.
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// Its circle.
    pub fn circle(&self) -> &Arc<Circle> {
        &self.0.circle
    }

    /// Its model.
    pub fn llm(&self) -> &Arc<dyn Llm> {
        &self.0.llm
    }

    /// When its entities' past is folded.
    pub fn folding(&self) -> &Folding {
        &self.0.folding
    }

    /// When the memory of its medium is recorded.
    pub fn snapshots(&self) -> SnapshotPolicy {
        self.0.snapshots
    }

    /// The component that it brings: the cantrip itself, or its medium.
    pub fn guest(&self) -> Option<&Arc<dyn Guest>> {
        self.0.guest.as_ref()
    }

    /// What an entity of it has to know of the guest that works in a model's place.
    pub(super) fn guest_nature(&self) -> Option<GuestNature> {
        let manifest = self.guest()?.manifest();
        let is_cantrip = manifest.shape != Shape::Medium;
        is_cantrip.then(|| GuestNature { reference: manifest.reference(), shape: manifest.shape })
    }

    /// The reference of its medium, where that is a guest.
    pub(super) fn guest_medium(&self) -> Option<String> {
        self.guest().map(|guest| guest.manifest()).filter(|it| it.shape == Shape::Medium).map(Manifest::reference)
    }

    /// The code media that its entities can work in: the host's, and the one it brings.
    pub(super) fn code_media(&self, media: &dyn MediumFactory) -> Vec<String> {
        code_media(media, self.guest())
    }

    pub(super) fn retry(&self) -> &RetryPolicy {
        &self.0.retry
    }

    pub(super) fn equipped(&self) -> &GateSet {
        &self.0.equipped
    }

    /// The declarations of every gate that it has equipped, for itself or for children.
    pub fn equipped_specs(&self) -> &[GateSpec] {
        &self.0.specs
    }

    /// The names of the models that children may ask for.
    pub fn model_names(&self) -> Vec<String> {
        self.0.models.keys().cloned().collect()
    }

    /// Which model a child uses; nothing: its parent's.
    pub(super) fn model_for_child(&self, asked: Option<&str>, depth: u32) -> Option<Arc<dyn Llm>> {
        let choice = &self.0.child_models;
        let name = asked.or_else(|| choice.by_depth.get(&depth).map(String::as_str)).or(choice.default.as_deref())?;
        self.0.models.get(name).map(Arc::clone)
    }

    /// The same cantrip with another model: another value, with its own casts.
    #[must_use]
    pub fn with_llm(&self, llm: Arc<dyn Llm>) -> Self {
        let inner = &*self.0;
        Self(Arc::new(Inner {
            llm,
            identity: inner.identity.clone(),
            circle: Arc::clone(&inner.circle),
            equipped: inner.equipped.clone(),
            specs: inner.specs.clone(),
            models: inner.models.clone(),
            child_models: inner.child_models.clone(),
            folding: inner.folding.clone(),
            snapshots: inner.snapshots,
            retry: inner.retry.clone(),
            guest: inner.guest.clone(),
        }))
    }
}

/// What an instance of a circle's medium is made with.
pub(super) fn opening(circle: &Circle, metered: bool) -> MediumOpening {
    MediumOpening {
        medium: circle.medium().name().to_owned(),
        gates: circle.functions(),
        memory_bytes_max: circle.wards().max_memory_bytes,
        metered,
    }
}

fn code_media(media: &dyn MediumFactory, guest: Option<&Arc<dyn Guest>>) -> Vec<String> {
    let own = guest.map(|guest| guest.manifest()).filter(|manifest| manifest.shape == Shape::Medium);
    media.names().into_iter().chain(own.map(|manifest| manifest.name.clone())).collect()
}

/// Stands where a guest cantrip names no model.
#[derive(Debug)]
struct NoModel;

impl Llm for NoModel {
    fn name(&self) -> &'static str {
        "none"
    }

    fn ask<'a>(
        &'a self,
        _question: &'a Question,
        _pieces: &'a dyn Pieces,
    ) -> BoxFuture<'a, Result<RawAnswer, ModelError>> {
        let error = ModelError::Setup { message: "this cantrip names none; add `[llm]`".to_owned() };
        Box::pin(async move { Err(error) })
    }
}

/// Collects the parts of a cantrip. What is not named is not granted: without a gate an entity can do nothing.
#[derive(Debug, Clone, Default)]
pub struct CantripBuilder {
    llm: Option<Arc<dyn Llm>>,
    system_prompt: Option<String>,
    sampling: Sampling,
    tool_choice: Option<ToolChoice>,
    media: Vec<String>,
    held: Vec<String>,
    equipped: Vec<Arc<dyn Gate>>,
    places: BTreeMap<String, CallPlace>,
    wards: Wards,
    models: BTreeMap<String, Arc<dyn Llm>>,
    child_models: ChildModels,
    folding: Folding,
    snapshots: SnapshotPolicy,
    retry: RetryPolicy,
    guest: Option<Arc<dyn Guest>>,
    strict: bool,
}

impl CantripBuilder {
    /// The model (CANTRIP-1). Default: none, which is an error.
    #[must_use]
    pub fn llm(mut self, llm: Arc<dyn Llm>) -> Self {
        self.llm = Some(llm);
        self
    }

    /// The first message of every question. Default: none.
    #[must_use]
    pub fn system_prompt(mut self, prompt: impl Into<String>) -> Self {
        self.system_prompt = Some(prompt.into());
        self
    }

    /// Sampling parameters. Default: the provider's.
    #[must_use]
    pub fn sampling(mut self, sampling: Sampling) -> Self {
        self.sampling = sampling;
        self
    }

    /// Whether the model has to call something. Default: in a code medium it has to.
    #[must_use]
    pub const fn tool_choice(mut self, choice: ToolChoice) -> Self {
        self.tool_choice = Some(choice);
        self
    }

    /// The medium: `conversation`, `javascript` … Default: `conversation`. Two different ones are an error (MEDIUM-1).
    #[must_use]
    pub fn medium(mut self, name: impl Into<String>) -> Self {
        self.media.push(name.into());
        self
    }

    /// Equips a gate and puts it into the circle. Default: no gate at all.
    #[must_use]
    pub fn gate(mut self, gate: Arc<dyn Gate>) -> Self {
        self.held.push(gate.spec().name.to_string());
        self.equipped.push(gate);
        self
    }

    /// Equips a gate that the entity itself does not hold, but may give to a child (COMP-1).
    #[must_use]
    pub fn gate_for_children(mut self, gate: Arc<dyn Gate>) -> Self {
        self.equipped.push(gate);
        self
    }

    /// Equips a gate whose calls run at the caller, and puts it into the circle; the record says so. Default: all run here.
    #[must_use]
    pub fn gate_at_caller(mut self, gate: Arc<dyn Gate>) -> Self {
        self.places.insert(gate.spec().name.to_string(), CallPlace::Caller);
        self.gate(gate)
    }

    /// Lets the entity cast children: `call_entity`, `call_entity_batch` and, in code, `cantrip.new` … Default: it may not.
    #[must_use]
    pub fn delegation(mut self) -> Self {
        self.held
            .extend([crate::domain::circle::CALL_ENTITY, crate::domain::circle::CALL_ENTITY_BATCH].map(str::to_owned));
        self
    }

    /// Puts a gate that is equipped, or one of the two that delegate, into the circle by its name.
    #[must_use]
    pub fn hold(mut self, name: impl Into<String>) -> Self {
        self.held.push(name.into());
        self
    }

    /// Adds wards; what is said twice is met, so the narrower holds. Default: no ward, which is an error (CIRCLE-2).
    #[must_use]
    pub fn wards(mut self, wards: &Wards) -> Self {
        self.wards = self.wards.meet(wards);
        self
    }

    /// Names a model that children may ask for. Default: children use their parent's.
    #[must_use]
    pub fn model(mut self, name: impl Into<String>, llm: Arc<dyn Llm>) -> Self {
        self.models.insert(name.into(), llm);
        self
    }

    /// Which of the named models children use where they do not ask for one.
    #[must_use]
    pub fn child_models(mut self, models: ChildModels) -> Self {
        self.child_models = models;
        self
    }

    /// When the past is folded. Default: at 80 % of the model's context, where that is known.
    #[must_use]
    pub const fn folding(mut self, folding: Folding) -> Self {
        self.folding = folding;
        self
    }

    /// When the memory of its code medium is recorded, so that forks and resumptions need not run all code again. Default: never.
    #[must_use]
    pub const fn snapshots(mut self, policy: SnapshotPolicy) -> Self {
        self.snapshots = policy;
        self
    }

    /// How often a question is asked again. Default: three times, after 1, 2 and 4 seconds.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Brings a component: it is the cantrip itself and needs no model, or, if it exports `evaluate`, its medium. Default:
    /// none.
    #[must_use]
    pub fn guest(mut self, guest: Arc<dyn Guest>) -> Self {
        self.guest = Some(guest);
        self
    }

    /// Demands a declared medium instead of defaulting to the conversation.
    #[must_use]
    pub const fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Checks the parts. `media` are those of the host that it will be cast on.
    ///
    /// # Errors
    /// The first rule that the parts break.
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    /// use cantrip_runtime::{Cantrip, CantripError, NoMedia, Wards};
    ///
    /// let error = Cantrip::builder().wards(&Wards { max_turns: Some(3), ..Wards::default() }).build(&NoMedia);
    /// assert!(matches!(error, Err(CantripError::NoLlm)));
    /// ```
    pub fn build(self, media: &dyn MediumFactory) -> Result<Cantrip, CantripError> {
        let shape = self.guest.as_ref().map(|guest| guest.manifest().shape);
        let is_guest = shape.is_some_and(|shape| shape != Shape::Medium);
        let has_model = self.llm.is_some();
        let llm = match self.llm {
            Some(llm) => llm,
            None if is_guest => Arc::new(NoModel),
            None => return Err(CantripError::NoLlm),
        };
        if let Some(gate) = self.held.iter().find(|name| name.as_str() == LLM_QUERY || delegates(name))
            && !has_model
        {
            return Err(CantripError::NoLlmForGate(gate.clone()));
        }
        let mut equipped = GateSet::new();
        for gate in self.equipped {
            equipped.insert(gate)?;
        }
        // Delegation can always be passed on; the others of the runtime's own only where the author has put them.
        let own = builtin::RUN_BY_THE_RUNTIME
            .iter()
            .filter(|name| delegates(name) || self.held.iter().any(|held| held == *name));
        let specs: Vec<GateSpec> = equipped
            .iter()
            .map(|gate| gate.spec().clone())
            .chain(own.filter_map(|name| builtin::spec_of(name)))
            .collect();
        let mut gates = Vec::with_capacity(self.held.len());
        for name in &self.held {
            let spec =
                specs.iter().find(|spec| spec.name.as_str() == name).ok_or_else(|| CantripError::UnknownGate {
                    name: name.clone(),
                    known: specs.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(", "),
                    hint: suggest::hint(name, specs.iter().map(|spec| spec.name.as_str())),
                })?;
            gates.push(spec.clone());
        }
        let mut media_named = self.media;
        let manifest = self.guest.as_ref().map(|guest| guest.manifest());
        if let Some(manifest) = manifest.filter(|_| !is_guest) {
            media_named.push(manifest.name.clone());
        }
        let guest = manifest.filter(|_| is_guest).map(|manifest| manifest.name.clone());
        let draft = CircleDraft { media: media_named, gates, wards: self.wards, guest, places: self.places };
        let circle = Circle::new(draft, &code_media(media, self.guest.as_ref()), self.strict)?;
        if let Some(manifest) = manifest {
            manifest.fits(&circle)?;
        }
        if let Some(guest) = &self.guest {
            let opening = opening(&circle, circle.declared().max_fuel.is_some());
            guest.prepare(&opening).map_err(CantripError::GuestUnusable)?;
        }
        for name in self.child_models.by_depth.values().chain(&self.child_models.default) {
            if !self.models.contains_key(name) {
                let known = self.models.keys().cloned().collect::<Vec<_>>().join(", ");
                return Err(CantripError::UnknownModel { name: name.clone(), known });
            }
        }
        Ok(Cantrip(Arc::new(Inner {
            llm,
            identity: Identity::new(self.system_prompt, self.sampling, self.tool_choice),
            circle: Arc::new(circle),
            equipped,
            specs,
            models: self.models,
            child_models: self.child_models,
            folding: self.folding,
            snapshots: self.snapshots,
            retry: self.retry,
            guest: self.guest,
        })))
    }
}
