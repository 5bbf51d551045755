//! An owner that another has taken over while it was cut off: what it does after that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};
use cantrip_runtime::adapters::clock::SystemClock;
use cantrip_runtime::adapters::llm::Scripted;
use cantrip_runtime::domain::copies::CopyKind;
use cantrip_runtime::domain::ids::{EntityId, LoomId};
use cantrip_runtime::domain::loom::Body;
use cantrip_runtime::domain::members::{LogEnd, Principal, Right, Rights};
use cantrip_runtime::driver::{CastOptions, Changed};
use cantrip_runtime::{
    Cantrip, Exposure, FunctionGate, Gate, GateName, GateSpec, NoMedia, Reach, Runtime, Wards, builtin,
};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::copy_support::{Node, Wire, key, share_all};
use super::fences::{say, without_its_log};

/// A gate that does something. It counts how often, and lets its call wait where it is told to.
fn gate(name: &str, called: &Arc<AtomicU64>, waits_for: Option<&Arc<Notify>>) -> Result<Arc<dyn Gate>> {
    let spec = GateSpec {
        name: GateName::parse(name)?,
        description: "Does something.".to_owned(),
        parameters: json!({"type": "object", "properties": {}}),
        positional: Vec::new(),
        reach: Reach::Write,
        exposure: Exposure::default(),
        ephemeral: false,
    };
    let (called, waits_for) = (Arc::clone(called), waits_for.cloned());
    Ok(Arc::new(FunctionGate::new(spec, move |_: Value| {
        let (called, waits_for) = (Arc::clone(&called), waits_for.clone());
        async move {
            called.fetch_add(1, Ordering::SeqCst);
            if let Some(notified) = waits_for {
                notified.notified().await;
            }
            Ok(json!("done"))
        }
    })))
}

fn call(gate: &str) -> Value {
    json!({ "tool_calls": [{ "gate": gate, "args": {} }] })
}

/// The third node goes on with an entity, as far as it has it.
fn adopt(by: &Node, loom: LoomId, entity: EntityId, admission: Changed) -> Result<()> {
    let Changed::By(admission) = admission else { anyhow::bail!("it was admitted before") };
    let entries = by.disk.entries(loom)?;
    let last = entries.iter().rfind(|sealed| sealed.entry.entity == Some(entity)).context("nothing of it is there")?;
    let writer = key(1).writer();
    let head = by.disk.logs(loom)?.into_iter().find(|log| log.writer == writer).context("no log")?.head;
    let end = LogEnd { writer, sequence: head.sequence, chain: head.chain, cast: None };
    let adopted =
        Body::Adopted { epoch: 1, node: "m".to_owned(), last: Some(end), accept_loss: false, by: None, note: None };
    say(by, loom, Some(admission), (Some(entity), Some(last.id)), adopted)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_was_taken_over_while_it_waited_runs_no_further_gate() -> Result<()> {
    let nodes = [Node::new(1), Node::new(2), Node::new(3)];
    let [first, second] = [Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0))];
    let cut = Arc::new(Notify::new());
    let done = json!({ "tool_calls": [{ "gate": "done", "args": { "answer": "so" } }] });
    let cantrip = Cantrip::builder()
        .llm(Arc::new(Scripted::from_values(vec![done.clone(), call("first"), call("second"), done])?))
        .gate(builtin::done())
        .gate(gate("first", &first, Some(&cut))?)
        .gate(gate("second", &second, None)?)
        .wards(&Wards { max_turns: Some(9), ..Wards::default() })
        .build(&NoMedia)?;
    let runtime =
        Runtime::new(Arc::clone(&nodes[0].disk) as _, Arc::new(NoMedia), Arc::new(SystemClock::default()), "node1")
            .with_copies(Arc::clone(&nodes[0].copies));
    let mut entity = runtime.summon(&cantrip, CastOptions::default())?;
    entity.send("begin").await?;
    let (loom, id) = (entity.loom(), entity.entity());
    let rights = Rights::from_iter([Right::Adopt]);
    let admission = runtime.admit(loom, Principal::Key(key(3).writer()), rights, None).await?;
    share_all(&nodes, loom)?;
    let mut wires = [Wire::connect(&nodes[0], &nodes[1])?, Wire::connect(&nodes[1], &nodes[2])?];
    wires.iter_mut().try_for_each(Wire::settle)?;
    nodes[0].copies.share(loom, &nodes[1].name, CopyKind::Disk, Some((1, 0)))?;
    let running = tokio::spawn(async move { entity.send("do both").await });
    while first.load(Ordering::SeqCst) == 0 {
        ensure!(!running.is_finished(), "it ended before its first gate");
        wires.iter_mut().try_for_each(Wire::settle)?;
        tokio::task::yield_now().await;
    }
    // It is cut off in the middle of its gate, and taken over.
    wires.iter_mut().try_for_each(Wire::settle)?;
    drop(wires);
    adopt(&nodes[2], loom, id, admission)?;
    Wire::connect(&nodes[1], &nodes[2])?.settle()?;
    cut.notify_one();
    let mut wire = Wire::connect(&nodes[0], &nodes[1])?;
    while !running.is_finished() {
        without_its_log(&mut wire)?;
        tokio::task::yield_now().await;
    }
    let ended = running.await?;
    ensure!(ended.as_ref().is_err_and(|error| format!("{error:?}").contains("Elsewhere")), "{ended:?}");
    ensure!((first.load(Ordering::SeqCst), second.load(Ordering::SeqCst)) == (1, 0), "it ran its second gate");
    Ok(())
}
