//! The wards that hold where nobody set any.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cantrip_runtime::adapters::llm::Scripted;
use cantrip_runtime::domain::model::{ModelError, Question, RawAnswer, RawCall};
use cantrip_runtime::ports::{BoxFuture, Llm, Pieces};
use cantrip_runtime::{Cantrip, CastOptions, Wards, builtin};
use serde_json::json;
use tokio::sync::Barrier;

use super::sandbox::runtime;

/// A model that ends at once, and notices how many are asked at the same time.
#[derive(Debug)]
struct Ends {
    together: Option<Barrier>,
    now: AtomicU64,
    most: AtomicU64,
    asked: AtomicU64,
}

impl Ends {
    fn new(together: Option<Barrier>) -> Arc<Self> {
        let [now, most, asked] = [const { AtomicU64::new(0) }; 3];
        Arc::new(Self { together, now, most, asked })
    }
}

impl Llm for Ends {
    fn name(&self) -> &'static str {
        "ends"
    }

    fn ask<'a>(&'a self, _: &'a Question, _: &'a dyn Pieces) -> BoxFuture<'a, Result<RawAnswer, ModelError>> {
        Box::pin(async {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            if let Some(together) = &self.together {
                together.wait().await;
            }
            self.now.fetch_sub(1, Ordering::SeqCst);
            let call = RawCall { id: None, gate: "done".to_owned(), arguments: Ok(json!({"answer": 1})) };
            Ok(RawAnswer { calls: vec![call], ..RawAnswer::default() })
        })
    }
}

/// What an entity prints in its only turn, under no ward but those that end it.
async fn printed(code: &str, child: Arc<dyn Llm>) -> String {
    let model = Arc::new(Scripted::from_values(vec![json!({ "code": code })]).unwrap());
    let wards = Wards { max_turns: Some(1), max_eval_ms: Some(60_000), ..Wards::default() };
    let builder = Cantrip::builder().llm(model).medium("javascript").gate(builtin::done()).gate(builtin::echo());
    let cantrip = builder.delegation().model("child", child).wards(&wards).build(runtime().media()).unwrap();
    let mut entity = runtime().summon(&cantrip, CastOptions::default()).unwrap();
    let _truncated = entity.send("go").await;
    let turns = runtime().tree(entity.loom()).unwrap().thread(entity.entity()).unwrap();
    // A turn that casts children is two: what it prints is behind them.
    turns.iter().rev().find_map(|turn| turn.observation.as_ref()).unwrap().answers.first().unwrap().content.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn children_of_children_have_to_be_asked_for() {
    let look = "let why; try { call_entity({ intent: 'x' }) } catch (e) { why = e.message } done(why)";
    let child = Arc::new(Scripted::from_values(vec![json!({ "code": look })]).unwrap());
    let code = "console.log(call_entity({ intent: 'look', llm: 'child', medium: 'javascript' }))";
    let said = printed(code, child).await;
    assert!(said.contains("max_depth"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn gate_calls_end_where_no_ward_is_set() {
    let code = "let n = 0; try { while (true) { echo('x'); n++ } } catch (e) { console.log(n, e.message) }";
    let said = printed(code, Ends::new(None)).await;
    assert!(said.contains("10000 ") && said.contains("max_gate_calls"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn children_end_where_no_ward_is_set() {
    let child = Ends::new(None);
    let asked: Arc<dyn Llm> = Arc::<Ends>::clone(&child);
    let code = "const all = Array(50).fill({ intent: 'x', llm: 'child', medium: 'conversation' }); \
                try { while (true) call_entity_batch(all) } catch (e) { console.log(e.message) }";
    let said = printed(code, asked).await;
    assert!(said.contains("max_children"), "{said}");
    assert_eq!(child.asked.load(Ordering::SeqCst), 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_children_run_at_once_where_no_ward_is_set() {
    let child = Ends::new(Some(Barrier::new(8)));
    let asked: Arc<dyn Llm> = Arc::<Ends>::clone(&child);
    let code =
        "console.log(call_entity_batch(Array(32).fill({ intent: 'x', llm: 'child', medium: 'conversation' })).length)";
    let said = printed(code, asked).await;
    assert!(said.contains("32"), "{said}");
    assert_eq!((child.asked.load(Ordering::SeqCst), child.most.load(Ordering::SeqCst)), (32, 8));
}
