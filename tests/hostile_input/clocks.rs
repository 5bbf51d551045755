//! Clocks of machines that are set while something runs, and machines that are suspended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cantrip_gates::{Exposure, FunctionGate, GateName, GateSpec, Reach};
use cantrip_runtime::adapters::clock::SystemClock;
use cantrip_runtime::adapters::llm::Scripted;
use cantrip_runtime::adapters::store::MemoryStore;
use cantrip_runtime::domain::end::EndReason;
use cantrip_runtime::domain::ids::WriterKey;
use cantrip_runtime::domain::outcome::Outcome;
use cantrip_runtime::ports::{BoxFuture, Clock};
use cantrip_runtime::{Cantrip, CastOptions, NoMedia, Runtime, Wards, builtin};
use serde_json::{Value, json};

const HOUR_US: u64 = 3_600_000_000;

/// A clock that is set by hand, and what has passed, which is not.
#[derive(Debug, Default)]
struct SetByHand {
    now_us: AtomicU64,
    elapsed_us: AtomicU64,
    system: SystemClock,
}

impl Clock for SetByHand {
    fn now_us(&self) -> u64 {
        self.now_us.load(Ordering::SeqCst)
    }

    fn elapsed_us(&self) -> u64 {
        self.elapsed_us.load(Ordering::SeqCst)
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn random(&self, bytes: &mut [u8]) {
        self.system.random(bytes);
    }
}

/// Casts an entity that calls a gate in each of two turns, and does something to the clock meanwhile.
async fn cast(sets: impl Fn(&SetByHand) + Clone + Send + Sync + 'static) -> Outcome {
    let clock = Arc::new(SetByHand::default());
    clock.now_us.store(100 * HOUR_US, Ordering::SeqCst);
    let spec = GateSpec {
        name: GateName::parse("wait").unwrap(),
        description: "Waits.".into(),
        parameters: json!({"type": "object"}),
        positional: Vec::new(),
        reach: Reach::Read,
        exposure: Exposure::default(),
        ephemeral: false,
    };
    let of = Arc::clone(&clock);
    let wait = FunctionGate::new(spec, move |_: Value| {
        sets(&of);
        async { Ok(json!(null)) }
    });
    let call = |gate: &str, args: Value| json!({"tool_calls": [{"gate": gate, "args": args}]});
    let turns = vec![call("wait", json!({})), call("done", json!({"answer": "so"}))];
    let cantrip = Cantrip::builder()
        .llm(Arc::new(Scripted::from_values(turns).unwrap()))
        .gate(Arc::new(wait))
        .gate(builtin::done())
        .wards(&Wards { max_turns: Some(5), timeout_ms: Some(60_000), ..Wards::default() })
        .build(&NoMedia)
        .unwrap();
    let store = MemoryStore::new(WriterKey::from_bytes([1; 32]));
    let runtime = Runtime::new(store as _, Arc::new(NoMedia), clock as _, "here");
    runtime.cast(&cantrip, "wait", CastOptions::default()).await.unwrap()
}

#[tokio::test]
async fn a_clock_that_is_set_ahead_stops_nothing() {
    let outcome = cast(|clock| {
        clock.now_us.fetch_add(24 * HOUR_US, Ordering::SeqCst);
    })
    .await;
    assert_eq!(outcome.result, Some(json!("so")), "{outcome:?}");
}

#[tokio::test]
async fn time_passes_though_the_clock_is_set_back() {
    let outcome = cast(|clock| {
        clock.now_us.store(HOUR_US, Ordering::SeqCst);
        clock.elapsed_us.fetch_add(61_000_000, Ordering::SeqCst);
    })
    .await;
    assert_eq!((&outcome.reason, &outcome.result), (&EndReason::Timeout, &None), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_after_its_time_by_the_clock_that_nobody_sets() {
    let clock = SystemClock::default();
    let before = clock.elapsed_us();
    let began = tokio::time::Instant::now();
    clock.sleep(Duration::from_millis(3_700)).await;
    let slept = began.elapsed();
    assert!(slept >= Duration::from_millis(3_700) && slept < Duration::from_millis(3_800), "{slept:?}");
    assert!(clock.elapsed_us() >= before);
}
