//! The same against a node that is served by the command, from peers that have certificates of its cluster.

use std::path::Path;
use std::sync::{Arc, Mutex};

use cantrip_runtime::adapters::peer::{DeployError, Deployed, Identity, Package, PeerNodes, TcpNet, Way};
use cantrip_runtime::domain::ids::EntityId;
use cantrip_runtime::domain::ids::LoomId;
use cantrip_runtime::domain::ids::NodeAddress;
use cantrip_runtime::domain::loom::{Body, CastHead, Sealed};
use cantrip_runtime::domain::model::{ModelError, Question, RawAnswer};
use cantrip_runtime::domain::remote::{GateOrder, Order};
use cantrip_runtime::ports::{BoxFuture, Home, HomeError, PeerError, Pieces, Signal};
use cantrip_runtime::{GateError, Wards};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::authority::{component, order, spec};
use crate::node_support::{Served, binary, lend, port, text};
use crate::peer_support::limits;

/// A caller that keeps what comes, and gives a guest where it is asked for one.
#[derive(Debug, Default)]
struct Giving {
    came: Mutex<Vec<Sealed>>,
    guest: Option<Vec<u8>>,
}

impl Giving {
    /// The guest that ran, as the host has recorded it.
    fn ran(&self) -> Option<String> {
        self.came
            .lock()
            .unwrap()
            .iter()
            .find_map(|sealed| if let Body::Opened(opened) = &sealed.entry.body { opened.guest.clone() } else { None })
    }
}

impl Home for Giving {
    fn named(&self, _: LoomId, _: EntityId) -> Result<(), HomeError> {
        Ok(())
    }

    fn receive(&self, sealed: Sealed) -> Result<(), HomeError> {
        self.came.lock().unwrap().push(sealed);
        Ok(())
    }

    fn cover(&self, _: Vec<CastHead>) -> Result<(), HomeError> {
        Ok(())
    }

    fn sync(&self) -> BoxFuture<'_, Result<(), HomeError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn is_watched(&self) -> bool {
        false
    }

    fn event(&self, _: cantrip_runtime::domain::event::Event) {}

    fn gate<'a>(&'a self, _: &'a str, _: Value) -> BoxFuture<'a, Result<Value, GateError>> {
        Box::pin(std::future::ready(Ok(json!("words of the caller"))))
    }

    fn ask<'a>(&'a self, _: &'a Question, _: &'a dyn Pieces) -> BoxFuture<'a, Result<RawAnswer, ModelError>> {
        Box::pin(std::future::ready(Err(ModelError::Setup { message: "none".to_owned() })))
    }

    fn guest<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Option<Vec<u8>>> {
        Box::pin(std::future::ready(self.guest.clone()))
    }

    fn signal(&self) -> BoxFuture<'_, Signal> {
        Box::pin(std::future::pending())
    }
}

/// A cluster whose node `b` serves; the others are their certificates alone.
struct Cluster {
    folder: tempfile::TempDir,
    b: NodeAddress,
    _served: Served,
}

impl Cluster {
    fn serve(change: impl Fn(String) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let node = |name: &str| format!("{name}@127.0.0.1:{}", port());
        let (a, b, mallory) = (node("a"), node("b"), node("mallory"));
        let made = binary(folder.path())
            .args(["cluster", "init", "net", "--node", &a, "--node", &b, "--node", &mallory])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", text(&made.stderr));
        let file = folder.path().join("net/b/node.toml");
        std::fs::write(&file, change(std::fs::read_to_string(&file).unwrap())).unwrap();
        let data = folder.path().join("net/b/data");
        lend(&data);
        let mut command = binary(folder.path());
        command.args(["serve", "--config", "net/b/node.toml"]);
        Self { b: b.parse().unwrap(), _served: Served::start(command), folder }
    }

    fn of(&self, name: &str) -> Arc<PeerNodes> {
        let file = |file: &str| self.folder.path().join("net").join(name).join(file);
        let identity = Identity::from_files(&file("ca.pem"), &file("node.pem"), &file("node.key")).unwrap();
        let way = Way::Tls { net: Arc::new(TcpNet), identity: Arc::new(identity) };
        PeerNodes::new(vec![self.b.clone()], way, limits())
    }
}

async fn deploy(peers: &PeerNodes, name: &str, bytes: Vec<u8>) -> Result<Deployed, DeployError> {
    let package = Package { name: name.to_owned(), bytes, signed: None };
    peers.deploy("b", &package, &|_| {}).await
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// A cast of a guest by this name.
fn guest_order(reference: &str) -> Order {
    let mut order = order(&json!("Read note.txt"));
    order.cantrip.guest = Some(reference.to_owned());
    order.cantrip.gates.push(GateOrder { name: "read_file".to_owned(), at_caller: Some(spec("read_file")) });
    order.cantrip.wards = Wards { max_turns: Some(1), ..Wards::default() };
    order
}

async fn cast(peers: &PeerNodes, reference: &str, home: &Giving) -> Result<(), PeerError> {
    crate::peer_support::cast_shown(peers, "b", &guest_order(reference), home).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_peer_runs_its_own_guest_by_its_name_and_somebody_elses_by_its_digest() {
    let everybodys = component(13);
    let named = format!("\n[guests]\nshared = \"{}\"\n", digest(&everybodys));
    let cluster = Cluster::serve(|file| format!("{file}{named}"));
    let (a, mallory) = (cluster.of("a"), cluster.of("mallory"));
    let (honest, other) = (component(11), component(12));
    let deployed = deploy(&a, "reader", honest.clone()).await.unwrap();
    assert_eq!(deployed.guest, format!("reader@{}", digest(&honest)), "callers can pin it");
    assert!(!deploy(&mallory, "reader", other.clone()).await.unwrap().known);
    for (peers, own) in [(&a, &honest), (&mallory, &other)] {
        let home = Giving::default();
        cast(peers, "reader", &home).await.unwrap();
        assert_eq!(home.ran(), Some(format!("reader@{}", digest(own))));
        let listed: Vec<String> = peers.guests("b").await.unwrap().into_iter().map(|line| line.digest).collect();
        assert_eq!(listed, [digest(own)], "nobody is shown another's");
    }
    // What the other side has is not told by an upload, and runs by its digest alone.
    deploy(&a, "private", everybodys.clone()).await.unwrap();
    let refused = cast(&mallory, "private", &Giving::default()).await.unwrap_err().to_string();
    assert!(refused.contains("there is no guest `private`") && !refused.contains("are private"), "{refused}");
    let home = Giving::default();
    cast(&mallory, &format!("any@{}", digest(&honest)), &home).await.unwrap();
    assert_eq!(home.ran(), Some(format!("any@{}", digest(&honest))));
    for odd in ["../reader", "reader@", "@", "", "reader@sha256:", "names/reader", "Reader", "reader@sha256:../../x"] {
        if !odd.is_empty() {
            assert!(cast(&mallory, odd, &Giving::default()).await.is_err(), "{odd}");
        }
    }
    // The node file names one for all.
    let home = Giving::default();
    cast(&mallory, "shared", &home).await.unwrap();
    assert_eq!(home.ran(), Some(format!("shared@{}", digest(&everybodys))));
    // None of it has become the machine's own user's.
    assert!(!Path::new(&cluster.folder.path().join("net/b/data/guests/names/reader")).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_served_node_takes_no_gate_of_the_runtime_from_a_caller_and_no_unsigned_guest_by_way_of_a_cast() {
    let strict = "require_signed = true\nquota_bytes = 1000000000\n";
    let cluster = Cluster::serve(|file| format!("{file}\n[peers.mallory.deploy]\n{strict}"));
    let (a, mallory) = (cluster.of("a"), cluster.of("mallory"));
    for name in ["call_entity", "call_entity_batch", "llm_query", "read_loom"] {
        let mut order = order(&json!([{ "done": 1 }]));
        order.cantrip.gates.push(GateOrder { name: name.to_owned(), at_caller: Some(spec(name)) });
        let refused =
            crate::peer_support::cast_shown(&mallory, "b", &order, &Giving::default()).await.unwrap_err().to_string();
        assert!(refused.contains("runs where the entity runs"), "{name}: {refused}");
    }
    let bytes = component(21);
    let reference = format!("fetched@{}", digest(&bytes));
    let giving = || Giving { guest: Some(bytes.clone()), ..Giving::default() };
    let refused = cast(&mallory, &reference, &giving()).await.unwrap_err().to_string();
    assert!(refused.contains("only signed ones are taken") && refused.contains("require_signed"), "{refused}");
    // Another component than the one that was asked for is none, for whoever is trusted with unsigned ones.
    let wrong = Giving { guest: Some(component(22)), ..Giving::default() };
    let refused = cast(&a, &reference, &wrong).await.unwrap_err().to_string();
    assert!(refused.contains("was announced"), "{refused}");
    let home = giving();
    cast(&a, &reference, &home).await.unwrap();
    assert_eq!(home.ran(), Some(reference.clone()));
    let counted = cluster.folder.path().join("net/b/data/uploads/a");
    let kept = std::fs::read_dir(counted)
        .unwrap()
        .flatten()
        .filter(|file| file.path().extension().is_some_and(|it| it == "kept"));
    assert_eq!(kept.count(), 1, "it counts against the quota of who gave it");
}
