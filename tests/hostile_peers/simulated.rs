//! Scenarios in simulated time, on a simulated network: an honest caller `a`, an honest host `b`, a third node `c` that does not
//! list the hostile peer, and the hostile peer `m`, which is a client of each of them and a host for `a`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use cantrip_runtime::adapters::clock::SteppingClock;
use cantrip_runtime::adapters::peer::{
    AcceptLimits, BoxIo, Coming, Identity, NodeServer, PeerLimits, PeerNodes, Uploads, Way, accepting, make_authority,
    make_certificate,
};
use cantrip_runtime::adapters::store::{FileBook, MemoryStore, NodeKey};
use cantrip_runtime::domain::copies::CopyKind;
use cantrip_runtime::domain::end::EndReason;
use cantrip_runtime::domain::ids::{CastId, EntityId, LoomId, NodeAddress};
use cantrip_runtime::domain::loom::Body;
use cantrip_runtime::domain::loom::Entry;
use cantrip_runtime::domain::loom::Sealed;
use cantrip_runtime::domain::members::Nonce;
use cantrip_runtime::domain::remote::ByHost;
use cantrip_runtime::domain::remote::{GateOrder, ModelOrder, Onward, Order};
use cantrip_runtime::driver::{Casts, Copies, HostLimits};
use cantrip_runtime::ports::{Clock, CopyStore, Llm, LoomStore, Peers};
use cantrip_runtime::{Cantrip, CastOptions, NoMedia, Runtime, Wards, builtin};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::act::{Act, Known, plan};
use super::casting::MARK;
use super::client::{Ears, Mallory, Target, Wallet};
use super::forge::{Dice, minted};
use super::home::Looking;
use super::host::HostileHost;
use super::ports::{Noting, Policy, SimClock, SimNet};
use super::rights::{self, Later, Rights, UPLOAD_BYTES_MAX, is_promised};
use super::{HONEST, Scenario, panics};
use crate::peer_support::{Deeds, Plain, TestHost, Told, at, remote, shown};

const PORT: u16 = 7400;
/// Bounds that are met within some simulated seconds.
const LIMITS: PeerLimits =
    PeerLimits { connect: Duration::from_secs(2), rpc: Duration::from_secs(4), lease: Duration::from_secs(6) };
/// The longest that an honest call may take: the wards of its episode, a silence, a lease, and as long again for a busy host.
const HONEST_MAX: Duration = Duration::from_mins(1);

/// What the model of the tests says that an answer costs.
const TOKENS_OF_AN_ANSWER: u64 = 15;

/// What a node keeps, whatever becomes of its process.
pub(super) struct Place {
    pub(super) name: &'static str,
    pub(super) disk: Arc<MemoryStore>,
    folder: PathBuf,
    deed: Deeds,
    vault: Deeds,
    /// How often its model was asked by the hostile peer's entities.
    asked: Arc<AtomicU64>,
}

struct Pems {
    wallet: Wallet,
    nodes: [Arc<Identity>; 3],
}

/// One cluster for all seeds: making keys takes longer than most scenarios.
fn pems() -> &'static Pems {
    static ONCE: OnceLock<Pems> = OnceLock::new();
    ONCE.get_or_init(|| {
        let (authority, authority_key) = make_authority().unwrap();
        let nodes = HONEST.map(|name| {
            let (certificate, key) = make_certificate(&authority_key, &name.parse().unwrap()).unwrap();
            Arc::new(Identity::from_pem(&authority, &certificate, &key).unwrap())
        });
        let wallet = Wallet::new(&authority, &authority_key);
        Pems { wallet, nodes }
    })
}

pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) places: [Place; 3],
    pub(super) known: Arc<Mutex<Known>>,
    pub(super) ears: Arc<Ears>,
    findings: Mutex<Vec<String>>,
    /// Counts up when an honest caller has done all that it had to do, and when the hostile peer has.
    honest: AtomicU64,
    is_attacked: AtomicBool,
    /// That the other member of the hostile peer's loom has written into it.
    pub(super) took_part: AtomicBool,
    starts: AtomicU64,
    _folder: tempfile::TempDir,
}

/// A running node.
pub(super) struct Running {
    pub(super) runtime: Runtime,
    pub(super) peers: Arc<PeerNodes>,
    pub(super) copies: Arc<Copies>,
}

fn whole(name: &str) -> String {
    format!("{name}@{name}:{PORT}")
}

impl World {
    pub(super) fn new(scenario: Scenario) -> Arc<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut number = 0;
        let places = HONEST.map(|name| {
            number += 1;
            let disk = MemoryStore::with_key(NodeKey::from_secret(&[number; 32]));
            let folder = folder.path().join(name);
            Place { name, disk, folder, deed: Deeds::default(), vault: Deeds::default(), asked: Arc::default() }
        });
        // The third node has a name in the record too, and not only a key.
        let named = NodeKey::from_secret(&[3; 32]);
        let (chain, by_certificate) = pems().nodes[2].attest(named.writer()).unwrap();
        places[2].disk.attest_own(&named.vouch(chain, by_certificate)).unwrap();
        let known = Known {
            writers: places.iter().map(|place| LoomStore::writer(&*place.disk)).collect(),
            nodes: HONEST.map(whole).to_vec(),
            ..Known::default()
        };
        Arc::new(Self {
            scenario,
            places,
            known: Arc::new(Mutex::new(known)),
            ears: Arc::default(),
            findings: Mutex::default(),
            honest: AtomicU64::new(0),
            is_attacked: AtomicBool::new(false),
            took_part: AtomicBool::new(false),
            starts: AtomicU64::new(0),
            _folder: folder,
        })
    }

    pub(super) fn found(&self, what: String) {
        self.findings.lock().unwrap().push(what);
    }

    pub(super) fn findings(&self) -> Vec<String> {
        std::mem::take(&mut *self.findings.lock().unwrap())
    }

    fn clock(&self, number: u64) -> Arc<dyn Clock> {
        let start = self.starts.fetch_add(1, Ordering::Relaxed);
        let random = SteppingClock::new(self.scenario.seed.wrapping_mul(31).wrapping_add(start));
        // An hour apart each: nothing may depend on clocks that agree.
        Arc::new(SimClock { ahead_us: 3_600_000_000 * number, random, latest: AtomicU64::new(0) })
    }

    fn hosting(&self, place: &Place, others: &[NodeAddress], clock: &Arc<dyn Clock>, copies: &Arc<Copies>) -> TestHost {
        let model = Noting { inner: Told(Arc::clone(clock)), asked: Arc::clone(&place.asked) };
        let gates = vec![place.deed.gate("deed"), place.vault.gate("vault")];
        let mut host = TestHost::new(others, gates, Arc::new(model));
        host.copies = Some(Arc::clone(copies));
        if place.name == "c" {
            return host;
        }
        let Rights { cast, deploy, deed, children, model, gates_at_caller, model_at_caller, .. } = self.scenario.rights;
        let uploads = Uploads {
            rule: "peers.m.deploy".to_owned(),
            folder: place.folder.join("uploads"),
            bytes_max: UPLOAD_BYTES_MAX,
            quota_bytes: UPLOAD_BYTES_MAX,
            require_signed: false,
            publishers: std::collections::BTreeSet::new(),
            kept: Arc::new(|_| None),
            shelve: Arc::new(|name, _| Box::pin(std::future::ready(Ok(name)))),
            coming: Coming::default(),
        };
        host.change("m", |terms, ceiling| {
            terms.uploads = deploy.then(|| Arc::new(uploads));
            (ceiling.cast, ceiling.deploy, ceiling.nodes) = (cast, deploy, Onward::default());
            (ceiling.gates_at_caller, ceiling.model_at_caller) = (gates_at_caller, model_at_caller);
            ceiling.gates.retain(|gate| match gate.as_str() {
                "deed" => deed,
                "call_entity" | "call_entity_batch" => children,
                _ => true,
            });
            if !model {
                ceiling.models.clear();
                ceiling.default_model = None;
            }
        });
        host
    }

    /// Starts a node on what it keeps.
    async fn start(&self, number: usize) -> Option<Running> {
        let place = &self.places[number];
        let clock = self.clock(number as u64);
        let others = ["a", "b", "c", "m"]
            .into_iter()
            .filter(|other| *other != place.name && (place.name != "c" || *other != "m"));
        let others: Vec<NodeAddress> = others.map(|name| at(name, &format!("{name}:{PORT}"))).collect();
        let identity = Arc::clone(&pems().nodes[number]);
        let way = Way::Tls { net: Arc::new(SimNet), identity: Arc::clone(&identity) };
        let peers = PeerNodes::new(others.clone(), way, LIMITS);
        let copies = Copies::new(
            place.name.parse().unwrap(),
            Arc::clone(&place.disk) as _,
            MemoryStore::with_key(NodeKey::from_secret(&[u8::try_from(number).unwrap() + 1; 32])) as _,
            FileBook::new(&place.folder.join("copies")) as _,
            Arc::new(Policy(self.scenario.rights.keep)),
            Arc::clone(&clock),
        );
        let copies = match copies {
            Ok(copies) => copies,
            Err(error) => {
                self.found(format!("{} does not start again: {error}", place.name));
                return None;
            }
        };
        let host = self.hosting(place, &others, &clock, &copies);
        let runtime = Runtime::new(Arc::clone(&place.disk) as _, Arc::new(NoMedia), clock, whole(place.name));
        let runtime = runtime.with_peers(Arc::clone(&peers) as _).with_copies(Arc::clone(&copies));
        let casts = Casts::new(runtime.clone(), HostLimits { lease: LIMITS.lease, ..HostLimits::default() });
        if let Err(error) = casts.unfinished() {
            self.found(format!("{} cannot say what it has to go on with: {error}", place.name));
        }
        let server = NodeServer::new(casts, Arc::new(host), LIMITS.rpc);
        let listener = turmoil::net::TcpListener::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT)).await.unwrap();
        let listener = Arc::new(listener);
        let connections = accepting(
            move || {
                let listener = Arc::clone(&listener);
                Box::pin(async move {
                    let (stream, from) = listener.accept().await?;
                    Ok((Box::new(stream) as BoxIo, from.ip()))
                })
            },
            identity,
            AcceptLimits::default(),
        );
        tokio::spawn(async move { server.serve(connections, CancellationToken::new(), Duration::from_secs(5)).await });
        tokio::spawn(Arc::clone(&copies).keep_up(Arc::clone(&peers) as _, CancellationToken::new()));
        Some(Running { runtime, peers, copies })
    }

    /// An honest call ends in time, and answers what it should.
    async fn expect<T: PartialEq + std::fmt::Debug>(
        &self,
        what: &str,
        expected: Option<T>,
        call: impl Future<Output = Result<T, String>>,
    ) {
        let Ok(answered) = tokio::time::timeout(HONEST_MAX, call).await else {
            return self.found(format!("{what} did not end within {HONEST_MAX:?}"));
        };
        let Some(expected) = expected else { return };
        match answered {
            Ok(answer) if answer == expected => {}
            Ok(answer) => self.found(format!("{what} answered {answer:?} and not {expected:?}")),
            Err(error) => self.found(format!("{what}: {error}")),
        }
    }
}

pub(super) fn wards() -> Wards {
    Wards {
        max_turns: Some(12),
        max_depth: Some(2),
        max_tokens: Some(100_000),
        max_gate_calls: Some(200),
        timeout_ms: Some(12_000),
        ..Wards::default()
    }
}

fn ids(dice: &mut Dice) -> (LoomId, EntityId, CastId) {
    (dice.loom(), dice.entity(), dice.cast())
}

/// The same cast of `a` on `b`, before and after a restart.
fn joined(dice: &mut Dice, secret: &str) -> Order {
    let (loom, entity, cast) = ids(dice);
    let script = json!([{ "call": "deed", "args": { "deed": secret } }, { "wait_ms": 500, "done": secret }]);
    Order {
        cast,
        loom,
        entity,
        minted: Some(minted()),
        by_host: ByHost::Nothing,
        parent: None,
        spawned_by: None,
        depth: 0,
        cantrip: remote(&["deed"], wards()).order,
        intent: script.to_string(),
        trace: None,
        deadline: None,
        lease: None,
        again: false,
        keep: false,
        fork: None,
        seen: cantrip_runtime::Exposure::default(),
        credentials: Arc::default(),
        origins: Vec::new(),
    }
}

impl World {
    fn secret(&self, number: u64) -> String {
        format!("secret-{}-{number}", self.scenario.seed)
    }

    /// Everything that the honest caller does, in one of two rounds with a restart in between.
    async fn calls(&self, node: Running, round: u64) {
        let mut dice = Dice::new(self.scenario.seed ^ 0xca11);
        if round == 0 {
            self.expect("a loom with members", Some(()), self.founds(&node)).await;
        }
        let secret = self.secret(0);
        let order = shown(joined(&mut dice, &secret), LoomStore::writer(&*self.places[1].disk));
        let is_recorded = !self.scenario.seed.is_multiple_of(8);
        let (private, shared) = (self.founded(&mut dice), self.founded(&mut dice));
        {
            let mut known = self.known.lock().unwrap();
            // Ids are guessed by nobody: what is known of a loom is known once there is something in it.
            if !is_recorded || round > 0 {
                known.looms.push(order.loom);
                known.entities.push(order.entity);
            }
            known.casts = vec![order.cast.to_string()];
            // What is kept together with the hostile peer is no secret to it.
            let mut secrets = vec![self.secret(1).into_bytes()];
            if is_recorded || is_promised(Later::LoomsThatTheirCallerDoesNotKeep) {
                secrets.push(secret.clone().into_bytes());
            }
            *self.ears.secrets.lock().unwrap() = secrets;
        }
        let join = async {
            // A caller that keeps no record of its own loom has others ask for it: what that opens is not closed yet.
            let keeps = is_recorded.then(|| Arc::clone(&self.places[0].disk));
            let ended = node
                .peers
                .cast("b", &order, &Looking::new(keeps, order.loom, order.entity))
                .await
                .map_err(|error| error.to_string())?;
            Ok(ended.result)
        };
        self.expect("a cast on b", Some(Some(json!(secret))), join).await;
        self.met(order.loom, order.entity);
        for (loom, keepers, number) in [(private, &["b"][..], 1), (shared, &["b", "m"][..], 2)] {
            for keeper in keepers {
                if let Err(error) = node.copies.share(loom, &keeper.parse().unwrap(), CopyKind::Disk, None) {
                    self.found(format!("{loom} cannot be shared with {keeper}: {error}"));
                }
            }
            let said = self.secret(number);
            let what = format!("a cast in a loom that {keepers:?} keep");
            self.expect(&what, Some(Some(json!(said))), self.written(&node, loom, &said)).await;
        }
        let settled =
            async { node.copies.settled(private, &"b".parse().unwrap()).await.map_err(|error| error.to_string()) };
        self.expect("a copy on b", Some(true), settled).await;
        self.acknowledged(&node, shared);
        for number in 0..self.scenario.hostile_casts {
            let cast = self.on_the_hostile_host(&node, &mut dice, number);
            self.expect("a cast on the hostile host", None, cast).await;
        }
        self.expect("a parent of hostile children", None::<Value>, self.parent(&node, &secret, round)).await;
        if round == 0 {
            self.expect("an expulsion", Some(()), self.expels(&node)).await;
            return;
        }
        self.expect("a founder", Some(Some(json!("goes on"))), self.goes_on(&node)).await;
        let Some(loom) = self.known.lock().unwrap().member.as_ref().map(|member| member.loom) else { return };
        for keeper in ["b", "c"] {
            let settled = self.settled(&node, loom, keeper);
            self.expect("a copy of a loom with members", Some(true), settled).await;
        }
    }

    /// Waits for a copy; what is missing of it is said where it never comes.
    async fn settled(&self, node: &Running, loom: LoomId, keeper: &str) -> Result<bool, String> {
        let keeper = keeper.parse().unwrap();
        let settled = node.copies.settled(loom, &keeper);
        if let Ok(settled) = tokio::time::timeout(HONEST_MAX * 3 / 4, settled).await {
            return settled.map_err(|error| error.to_string());
        }
        let state = node.copies.states(loom).remove(&keeper).unwrap_or_default();
        let logs = node.copies.logs(loom).map_err(|error| error.to_string())?;
        let missing = logs.iter().map(|log| (log.writer, log.head.sequence, state.has.get(&log.writer).copied()));
        let missing: Vec<_> = missing.filter(|(_, here, there)| there.is_none_or(|there| there < *here)).collect();
        Err(format!("{keeper} lacks {missing:?}, and says {:?}", state.last_error))
    }

    /// Nobody has more of this node's log than there is.
    fn acknowledged(&self, node: &Running, loom: LoomId) {
        let store = &self.places[0].disk;
        let (own, there_is) = (LoomStore::writer(&**store), store.head(loom).unwrap().sequence);
        for (keeper, state) in node.copies.states(loom) {
            let durable = state.durable.get(&own).copied().unwrap_or_default();
            if durable > there_is && is_promised(Later::ForgedAcknowledgements) {
                self.found(format!("{keeper} is believed to have {durable} entries of {there_is}"));
            }
        }
    }

    /// The hostile peer comes to know of what is recorded.
    pub(super) fn met(&self, loom: LoomId, entity: EntityId) {
        let mut known = self.known.lock().unwrap();
        if !known.looms.contains(&loom) {
            known.looms.push(loom);
        }
        known.entities.push(entity);
    }

    pub(super) fn model(&self, asked: &Arc<AtomicU64>) -> Arc<dyn Llm> {
        Arc::new(Noting { inner: Told(self.clock(0)), asked: Arc::clone(asked) })
    }

    /// A loom of this node, which it founds once.
    pub(super) fn founded(&self, dice: &mut Dice) -> LoomId {
        let store = &self.places[0].disk;
        let (writer, nonce) = (LoomStore::writer(&**store), Nonce::from_bytes(dice.bytes()));
        let loom = LoomId::mint(1_790_000_000_000, &writer, &nonce, None);
        if store.head(loom).unwrap().sequence == 0 {
            let founding = Entry::new(loom, (writer, 1), 1, None, None, Body::Founded { nonce, member: None });
            store.append(Sealed::new(founding, Vec::new()).unwrap()).unwrap();
        }
        loom
    }

    /// Something that this node itself writes into a loom.
    async fn written(&self, node: &Running, loom: LoomId, said: &str) -> Result<Option<Value>, String> {
        let (entity, result) = self.summoned(node, loom, said).await?;
        self.met(loom, entity);
        Ok(result)
    }

    async fn on_the_hostile_host(&self, node: &Running, dice: &mut Dice, number: u64) -> Result<(), String> {
        let (near, other) = (Deeds::default(), Deeds::default());
        let asked: Arc<AtomicU64> = Arc::default();
        let mut cantrip = remote(&["deed"], wards());
        let (is_gate_here, is_model_here) = (dice.once_in(2), dice.once_in(2));
        if is_gate_here {
            let gate = near.gate("near");
            cantrip.order.gates.push(GateOrder { name: "near".to_owned(), at_caller: Some(gate.spec().clone()) });
            cantrip.gates.push(gate);
        }
        if is_model_here {
            cantrip.llm = Some(self.model(&asked));
            cantrip.order.model =
                ModelOrder::AtCaller { name: "told".to_owned(), context_tokens: None, can_require_calls: true };
        }
        let intent = format!("[{{\"done\": {number}}}]");
        let ended = node.runtime.cast_at("m", cantrip, &intent, CastOptions::default()).await;
        if let (Ok(outcome), true) = (&ended, is_promised(Later::SpentElsewhere)) {
            let (spent, asked) = (outcome.spent.usage.total(), asked.load(Ordering::Relaxed));
            if spent < asked * TOKENS_OF_AN_ANSWER {
                self.found(format!("{asked} answers were given to a host, and {spent} tokens count as spent"));
            }
        }
        let calls: u64 = near.all().values().sum();
        if (calls > 0 && !is_gate_here) || other.all().values().sum::<u64>() > 0 || calls > 200 {
            self.found(format!("a host called gates of its caller {calls} times; placed there: {is_gate_here}"));
        }
        if calls > 0 && is_promised(Later::GatesOfTheCallerWithoutRecord) {
            self.found(format!("a host called a gate {calls} times without recording one call"));
        }
        if asked.load(Ordering::Relaxed) > 0 && !is_model_here {
            self.found("a host asked a model that was not placed at its caller".to_owned());
        }
        drop(ended);
        Ok(())
    }

    /// An entity whose children run on the honest and on the hostile host: it hears of both, and ends.
    async fn parent(&self, node: &Running, secret: &str, round: u64) -> Result<Value, String> {
        let near = Deeds::default();
        let asked: Arc<AtomicU64> = Arc::default();
        let cantrip = Cantrip::builder()
            .llm(self.model(&asked))
            .delegation()
            .gate(builtin::done())
            .gate_for_children(near.gate("near"))
            .wards(&Wards { timeout_ms: Some(25_000), ..wards() })
            .build(&NoMedia)
            .map_err(|error| error.to_string())?;
        let child = json!([{ "call": "deed", "args": { "deed": format!("{secret}-{round}") } }, { "done": "right" }])
            .to_string();
        let requests = json!([
            { "node": "b", "intent": child, "gates": ["deed"] },
            { "node": "m", "intent": "[]", "gates": [{ "name": "near", "at": "caller" }], "wards": { "timeout_ms": 6_000 } },
        ]);
        let intent = json!([{ "call": "call_entity_batch", "args": { "requests": requests } }, { "done": "all" }]);
        let mut entity = node.runtime.summon(&cantrip, CastOptions::default()).map_err(|error| error.to_string())?;
        let outcome = entity.send(&intent.to_string()).await.map_err(|error| error.to_string())?;
        let tree = node.runtime.tree(entity.loom()).map_err(|error| error.to_string())?;
        let answer = tree.turns().first().and_then(|turn| turn.gates.first().cloned()).and_then(|gate| gate.result);
        // A hostile child may take all the time that its parent has.
        if outcome.reason == EndReason::Done {
            let is_right =
                matches!(&answer, Some(Ok(Value::Array(answers))) if answers.first() == Some(&json!("right")));
            if !is_right {
                self.found(format!("the child on b answered {answer:?}"));
            }
        }
        if asked.load(Ordering::Relaxed) > 0 {
            self.found("a host asked its caller's own model, which was not placed there".to_owned());
        }
        outcome.result.ok_or_else(|| format!("{:?} {}", outcome.how, outcome.reason))
    }

    /// Waits until an act can be what it is: of a member, or of who was expelled.
    async fn comes(&self, act: Act) {
        for _ in 0..600 {
            let member = self.known.lock().unwrap().member.clone();
            let is_due = match member {
                _ if !act.is_of_a_member() => true,
                None => false,
                Some(member) => !act.is_of_an_expelled() || member.expelled.get().is_some(),
            };
            if is_due {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// The hostile peer: a server, and a client that plays its acts one after the other.
    async fn hostile(self: Arc<Self>) {
        let host = HostileHost {
            ears: Arc::clone(&self.ears),
            known: Arc::clone(&self.known),
            seed: self.scenario.seed,
            calls: Arc::default(),
            always: self.scenario.always,
        };
        let listener = turmoil::net::TcpListener::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT)).await.unwrap();
        let wallet = pems().wallet.clone();
        let acceptor = wallet.own.acceptor.clone();
        let connections = futures_util::stream::unfold(listener, move |listener| {
            let acceptor = acceptor.clone();
            async move {
                loop {
                    let Ok((io, _)) = listener.accept().await else { continue };
                    if let Ok(tls) = acceptor.accept(io).await {
                        return Some((Ok::<_, std::io::Error>(Plain(Box::new(tls))), listener));
                    }
                }
            }
        });
        let serving = tonic::transport::Server::builder().add_service(host);
        let serving = tokio::spawn(serving.serve_with_incoming(Box::pin(connections)));
        let mallory = Mallory {
            net: Arc::new(SimNet),
            wallet,
            ears: Arc::clone(&self.ears),
            known: Arc::clone(&self.known),
            patience: Duration::from_secs(7),
        };
        let mut dice = Dice::new(self.scenario.seed ^ 0xbad);
        for (act, target) in &self.scenario.acts {
            tokio::time::sleep(Duration::from_millis(dice.below(800))).await;
            self.comes(*act).await;
            let both = [*target, (*target + 1) % 2];
            for target in &both[..=usize::from(*act == Act::EquivocateToTwo)] {
                let name = HONEST[*target];
                let to = Target { name: name.to_owned(), address: format!("{name}:{PORT}"), lists: name != "c" };
                let known = Known { target: *target, ..self.known.lock().unwrap().clone() };
                let plan = plan(*act, &mut dice, &known);
                mallory.play(&to, plan, &mut dice).await;
            }
        }
        self.is_attacked.store(true, Ordering::Relaxed);
        drop(serving.await);
    }

    /// What has happened that may not, with all nodes at rest.
    fn judge(&self) {
        let rights = self.scenario.rights;
        let known = self.known.lock().unwrap().clone();
        // In one of them the hostile peer is a member, whose log is kept, and named for what is wrong with it.
        let is_its = |loom: &LoomId| known.member.as_ref().is_some_and(|member| member.loom == *loom);
        let honest: Vec<LoomId> = known.looms.iter().copied().filter(|loom| !is_its(loom)).collect();
        for place in &self.places {
            let (name, lists) = (place.name, place.name != "c");
            let deeds = place.deed.all();
            for deed in deeds.keys().filter(|deed| deed.starts_with(MARK)) {
                if !rights.allow_deed(lists) {
                    self.found(format!("`{deed}` was done on {name} without a right to it: {rights:?}"));
                }
            }
            for deed in place.vault.all().keys() {
                self.found(format!("`{deed}` was done on {name} with a gate that is granted to nobody"));
            }
            if place.asked.load(Ordering::Relaxed) > 0 && !rights.allow_model(lists) {
                self.found(format!("the model of {name} was asked by the hostile peer: {rights:?}"));
            }
            for wrong in rights::too_large(name, &place.folder) {
                self.found(wrong);
            }
            for wrong in rights::recorded_wrongly(name, &place.disk, &honest) {
                self.found(wrong);
            }
            // Whatever is recorded can be looked at.
            let clock = self.clock(9);
            let runtime = Runtime::new(Arc::clone(&place.disk) as _, Arc::new(NoMedia), clock, whole(name));
            for summary in place.disk.looms().unwrap() {
                let Ok(tree) = runtime.tree(summary.loom) else { continue };
                drop(tree.turns());
                for (entity, _) in tree.entities() {
                    drop(tree.thread(entity));
                }
            }
        }
        self.judge_members();
        self.judge_hosted();
        for found in self.ears.findings.lock().unwrap().drain(..) {
            self.found(found);
        }
    }
}

/// Runs a scenario. Returns what was found that may not be.
pub(crate) fn run(scenario: Scenario) -> Vec<String> {
    let before = panics().len();
    let world = World::new(scenario);
    played(&world);
    world.judge();
    let mut found = world.findings();
    // What the simulated end of a machine does to a connection in use, and nothing else does.
    let of_the_simulation = |panic: &String| panic.contains("/proto/streams/counts.rs");
    let panicked = panics().into_iter().skip(before).filter(|panic| !of_the_simulation(panic));
    found.extend(panicked.map(|panic| format!("a panic: {panic}")));
    found
}

/// Plays it to its end.
pub(super) fn played(world: &Arc<World>) {
    let mut sim = turmoil::Builder::new()
        .rng_seed(world.scenario.seed)
        .tick_duration(Duration::from_millis(10))
        .simulation_duration(Duration::from_mins(20))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(20))
        .tcp_capacity(65_536)
        .build();
    for (number, name) in HONEST.into_iter().enumerate() {
        let world = Arc::clone(world);
        sim.host(name, move || {
            let world = Arc::clone(&world);
            async move {
                let Some(node) = world.start(number).await else { return Ok(()) };
                if number == 0 {
                    let round = world.honest.load(Ordering::Relaxed);
                    world.calls(node, round).await;
                    world.honest.store(round + 1, Ordering::Relaxed);
                } else if number == 2 && world.honest.load(Ordering::Relaxed) > 0 {
                    let taking_part = world.takes_part(&node);
                    world.expect("another member", Some(Some(json!("another member"))), taking_part).await;
                    world.took_part.store(true, Ordering::Relaxed);
                }
                std::future::pending::<()>().await;
                Ok(())
            }
        });
    }
    let hostile = Arc::clone(world);
    sim.host("m", move || {
        let world = Arc::clone(&hostile);
        async move {
            world.hostile().await;
            Ok(())
        }
    });
    sim.client("end", std::future::pending());
    let until = |done: &dyn Fn() -> bool, sim: &mut turmoil::Sim<'_>| {
        let limit = sim.elapsed() + Duration::from_mins(8);
        while !done() && sim.elapsed() < limit {
            if let Err(error) = sim.step() {
                world.found(format!("a node ended: {error}"));
                return false;
            }
        }
        if !done() {
            world.found("the scenario did not end".to_owned());
        }
        done()
    };
    let first = || world.honest.load(Ordering::Relaxed) == 1 && world.is_attacked.load(Ordering::Relaxed);
    if until(&first, &mut sim) {
        for name in HONEST {
            sim.bounce(name);
        }
        until(&|| world.honest.load(Ordering::Relaxed) == 2 && world.has_taken_part(), &mut sim);
        // What is on its way comes.
        let end = sim.elapsed() + Duration::from_secs(8);
        while sim.elapsed() < end && sim.step().is_ok() {}
    }
}
