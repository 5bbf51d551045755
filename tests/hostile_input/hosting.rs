//! Casts that peers have run here: what has ended costs nothing, and what waits is bounded for each caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use cantrip_runtime::adapters::clock::SystemClock;
use cantrip_runtime::domain::caller::{Caller, KnownCaller};
use cantrip_runtime::domain::ids::EntityId;
use cantrip_runtime::domain::limits::{LARGE_ENTRIES_SENT_MAX, LOOKED_AT_PER_OPENING_MAX, VERIFICATIONS_WAITING_MAX};
use cantrip_runtime::domain::loom::Body;
use cantrip_runtime::domain::medium::{
    CallArguments, Evaluated, Evaluation, EvaluationOutcome, GateAnswer, MediumOpening,
};
use cantrip_runtime::domain::remote::{Onward, Order, Refusal};
use cantrip_runtime::driver::{Build, Casts, HostItem, HostLimits, Line, SlotLimits, Slots, Where};
use cantrip_runtime::ports::{BoxFuture, Clock, Medium, MediumFactory, MediumFault, RemoteEnd, Yielded};
use cantrip_runtime::{Cantrip, GateError, NoMedia, Runtime, builtin};
use futures_util::FutureExt as _;

use crate::peer_support::{Told, shown, turns};
use crate::peers::order;
use crate::raw::store;

fn caller(name: &str) -> KnownCaller {
    let recorded = format!("{name}@127.0.0.1:1");
    KnownCaller { caller: Caller::of_record(&recorded).unwrap(), recorded }
}

/// A host with nothing in its record.
fn host(limits: HostLimits) -> (Casts, Arc<dyn Clock>) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let store = store();
    let runtime = Runtime::new(store, Arc::new(NoMedia), Arc::clone(&clock), "b@127.0.0.1:1".to_owned());
    (Casts::new(runtime, limits), clock)
}

fn build(clock: &Arc<dyn Clock>) -> Build {
    let clock = Arc::clone(clock);
    Box::new(move |_: Arc<Line>| {
        Box::pin(async move {
            let built =
                Cantrip::builder().llm(Arc::new(Told(clock))).gate(builtin::done()).wards(&turns(2)).build(&NoMedia);
            built.map_err(|error| Refusal::new("cantrip", GateError::Invalid(error.to_string())))
        })
    })
}

/// Casts, and listens to the end.
async fn cast(
    (casts, clock): &(Casts, Arc<dyn Clock>),
    caller: &KnownCaller,
    slots: &Arc<Slots>,
    order: Order,
) -> Result<RemoteEnd, Refusal> {
    let place = Where::Here(build(clock), Onward::All);
    let order = shown(order, casts.runtime().store().writer());
    let mut attached = casts.open(caller, slots, order, place, (None, Vec::new()), false).await?;
    loop {
        match attached.next().await.unwrap() {
            Some(HostItem::Ended(end)) => return Ok(*end),
            Some(HostItem::Refused(refusal)) => return Err(refusal),
            Some(_) => {}
            None => panic!("it has no end"),
        }
    }
}

#[tokio::test]
async fn ended_casts_take_no_room_and_no_opening_walks_them() {
    const CASTS: usize = 12_000;
    let host = host(HostLimits::default());
    let (slots, caller) = (Slots::new(64, 256), caller("a"));
    let first = order();
    for number in 0..CASTS {
        let order = if number == 0 { first.clone() } else { order() };
        cast(&host, &caller, &slots, order).await.unwrap();
        let (in_memory, looked_at) = host.0.in_memory();
        assert!(in_memory <= 1, "{in_memory} entities are in memory after {number} casts that have ended");
        assert!(looked_at <= (number * LOOKED_AT_PER_OPENING_MAX) as u64);
    }
    // Whoever asks again is answered by the record, and nothing runs twice.
    let again = cast(&host, &caller, &slots, first).await.unwrap();
    assert_eq!(again.result, Some(serde_json::json!(1)));
}

#[tokio::test]
async fn two_openings_of_one_cast_run_it_once() {
    let host = host(HostLimits::default());
    let (slots, caller) = (Slots::new(64, 256), caller("a"));
    let order = order();
    let all = (0..8).map(|_| cast(&host, &caller, &slots, order.clone()));
    for end in futures_util::future::join_all(all).await {
        assert_eq!(end.unwrap().result, Some(serde_json::json!(1)));
    }
    let opened = host.0.runtime().store().entries(order.loom).unwrap();
    let opened = opened.iter().filter(|sealed| matches!(sealed.entry.body, Body::Opened(_)));
    assert_eq!(opened.count(), 1);
}

fn kept(order: Order) -> Order {
    Order { keep: true, ..order }
}

#[tokio::test]
async fn entities_that_wait_make_room_and_those_at_work_do_not() {
    let host = host(HostLimits { idle: Duration::from_secs(1_000_000_000), ..HostLimits::default() });
    let slots = Slots::with_entities(2, 2, 4);
    let mut entities: Vec<EntityId> = Vec::new();
    for _ in 0..40 {
        let order = kept(order());
        entities.push(order.entity);
        cast(&host, &caller("a"), &slots, order).await.unwrap();
        assert!(host.0.in_memory().0 <= 4, "an entity that waits makes room for the next of its caller");
    }
    // It cost another caller nothing.
    let theirs = Slots::with_entities(2, 2, 4);
    cast(&host, &caller("c"), &theirs, kept(order())).await.unwrap();
    assert_eq!(host.0.in_memory().0, 5);
}

#[tokio::test]
async fn what_nobody_asks_for_is_forgotten_a_few_at_a_time() {
    let limits = HostLimits { rest: Duration::from_micros(1), idle: Duration::from_micros(2), ..HostLimits::default() };
    let host = host(limits);
    let slots = Slots::new(64, 256);
    for _ in 0..200 {
        cast(&host, &caller("a"), &slots, kept(order())).await.unwrap();
    }
    host.1.sleep(Duration::from_millis(1)).await;
    let (before, looked_at) = host.0.in_memory();
    cast(&host, &caller("a"), &slots, order()).await.unwrap();
    let (after, looked_at_after) = host.0.in_memory();
    assert!(looked_at_after - looked_at <= 2 * LOOKED_AT_PER_OPENING_MAX as u64);
    assert!(after <= before);
}

/// A medium whose code is always `done(1)`; the factory counts those that are alive.
#[derive(Debug, Clone, Default)]
struct Counted(Arc<AtomicUsize>);

#[derive(Debug)]
struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Medium for Alive {
    fn evaluate(&mut self, _: Evaluation) -> BoxFuture<'_, Yielded> {
        let arguments = CallArguments::Positional(vec![serde_json::json!(1)]);
        Box::pin(std::future::ready(Yielded::Gate { gate: "done".to_owned(), arguments }))
    }

    fn resume(&mut self, _: GateAnswer, _: u64) -> BoxFuture<'_, Yielded> {
        Box::pin(std::future::ready(Yielded::Finished(Box::new(Evaluated::of(EvaluationOutcome::Done)))))
    }
}

impl MediumFactory for Counted {
    fn names(&self) -> Vec<String> {
        vec!["javascript".to_owned()]
    }

    fn digest(&self, _: &str) -> Option<String> {
        Some("none".to_owned())
    }

    fn open<'a>(&'a self, _: &'a MediumOpening) -> BoxFuture<'a, Result<Box<dyn Medium>, MediumFault>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let medium: Box<dyn Medium> = Box::new(Alive(Arc::clone(&self.0)));
        Box::pin(std::future::ready(Ok(medium)))
    }
}

#[tokio::test]
async fn entities_that_wait_give_their_instances_back_before_one_caller_takes_the_pool() {
    let (counted, clock) = (Counted::default(), Arc::new(SystemClock::default()) as Arc<dyn Clock>);
    let media: Arc<dyn MediumFactory> = Arc::new(counted.clone());
    let runtime = Runtime::new(store(), Arc::clone(&media), Arc::clone(&clock), "b@127.0.0.1:1".to_owned());
    let casts = Casts::new(runtime, HostLimits::default());
    let slots = Slots::with_entities(4, 4, 100);
    for number in 0..20 {
        let (media, clock) = (Arc::clone(&media), Arc::clone(&clock));
        let build: Build = Box::new(move |_: Arc<Line>| {
            Box::pin(async move {
                let cantrip = Cantrip::builder().llm(Arc::new(Told(clock))).gate(builtin::done()).wards(&turns(2));
                let built = cantrip.medium("javascript").build(&*media);
                built.map_err(|error| Refusal::new("cantrip", GateError::Invalid(error.to_string())))
            })
        });
        let order = Order { intent: r#"[{ "code": "done(1)" }]"#.to_owned(), ..kept(order()) };
        let (place, order) = (Where::Here(build, Onward::All), shown(order, casts.runtime().store().writer()));
        let mut attached = casts.open(&caller("a"), &slots, order, place, (None, Vec::new()), false).await.unwrap();
        while let Some(item) = attached.next().await.unwrap() {
            assert!(!matches!(item, HostItem::Refused(_)), "{item:?}");
        }
        let alive = counted.0.load(Ordering::SeqCst);
        assert!((1..=3).contains(&alive), "{alive} instances are alive after {number} casts");
    }
    assert_eq!(casts.in_memory().0, 20, "all of them wait for a further intent");
}

#[tokio::test]
async fn children_of_one_caller_take_no_more_than_its_share() {
    let (casts, clock) = host(HostLimits::default());
    let slots = Slots::within(SlotLimits { children: 2, ..SlotLimits::default() });
    let of_casts = Arc::clone(&clock);
    let build = || -> Build {
        let clock = Arc::clone(&of_casts);
        Box::new(move |_: Arc<Line>| {
            Box::pin(async move {
                let cantrip = Cantrip::builder().llm(Arc::new(Told(clock))).gate(builtin::done());
                let built = cantrip.hold("call_entity_batch").wards(&turns(2)).build(&NoMedia);
                built.map_err(|error| Refusal::new("cantrip", GateError::Invalid(error.to_string())))
            })
        })
    };
    let child = serde_json::json!({ "intent": r#"[{ "wait_ms": 1, "done": 1 }]"# });
    let script = serde_json::json!([
        { "call": "call_entity_batch", "args": { "requests": vec![child; 5] } },
        { "done": 1 },
    ]);
    // What one cast's children took is free for the next.
    for _ in 0..2 {
        let order = Order { intent: script.to_string(), ..order() };
        let loom = order.loom;
        let (place, order) = (Where::Here(build(), Onward::All), shown(order, casts.runtime().store().writer()));
        let mut attached = casts.open(&caller("a"), &slots, order, place, (None, Vec::new()), false).await.unwrap();
        let mut end = None;
        while let Some(item) = attached.next().await.unwrap() {
            if let HostItem::Ended(ended) = item {
                end = Some(ended);
            }
        }
        assert_eq!(
            end.unwrap().result,
            Some(serde_json::json!(1)),
            "those that found no room are an error of the call"
        );
        let entries = casts.runtime().store().entries(loom).unwrap();
        let opened = entries.iter().filter(|sealed| matches!(sealed.entry.body, Body::Opened(_))).count();
        assert_eq!(opened, 1 + 2, "the entity and those of its children that had room");
        let told =
            entries.iter().any(|sealed| String::from_utf8_lossy(&sealed.bytes).contains("`concurrent_children`"));
        assert!(told, "a child that finds no room is told which key raises it");
    }
}

#[tokio::test]
async fn who_joins_and_does_not_listen_holds_a_few_large_texts() {
    let (casts, clock) = host(HostLimits::default());
    let (slots, caller) = (Slots::new(64, 256), caller("a"));
    let order = Order { intent: format!("{}{}", r#"[{ "done": 1 }]"#, " ".repeat(100_000)), ..order() };
    let host = (casts, clock);
    cast(&host, &caller, &slots, order.clone()).await.unwrap();
    let mut deaf = Vec::new();
    for _ in 0..LARGE_ENTRIES_SENT_MAX {
        let place = Where::Here(build(&host.1), Onward::All);
        let mut attached = host.0.open(&caller, &slots, order.clone(), place, (None, Vec::new()), false).await.unwrap();
        let large = loop {
            let item = attached.next().await.unwrap().unwrap();
            if matches!(item, HostItem::Entry { room: Some(_), .. }) {
                break item;
            }
        };
        deaf.push((attached, large));
    }
    let place = Where::Here(build(&host.1), Onward::All);
    let mut late = host.0.open(&caller, &slots, order.clone(), place, (None, Vec::new()), false).await.unwrap();
    let mut before = Vec::new();
    while let Some(item) = late.next().now_or_never() {
        before.push(item.unwrap().unwrap());
    }
    assert!(!before.iter().any(|item| matches!(item, HostItem::Entry { room: Some(_), .. })), "{before:?}");
    deaf.pop();
    assert!(matches!(late.next().await.unwrap().unwrap(), HostItem::Entry { room: Some(_), .. }));
}

/// A clock that goes on only where somebody waits.
#[derive(Debug, Default)]
struct Standing(AtomicU64);

impl Clock for Standing {
    fn now_us(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        self.0.fetch_add(u64::try_from(duration.as_micros()).unwrap(), Ordering::SeqCst);
        Box::pin(std::future::ready(()))
    }

    fn random(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

#[tokio::test]
async fn verifications_of_one_caller_run_one_after_the_other_and_rest_in_between() {
    let standing = Arc::new(Standing::default());
    let clock: Arc<dyn Clock> = Arc::clone(&standing) as _;
    let verifications = Slots::new(1, 1).verifications();
    let first = verifications.turn(&clock).await.unwrap();
    let mut waiting: Vec<_> = (0..VERIFICATIONS_WAITING_MAX).map(|_| Box::pin(verifications.turn(&clock))).collect();
    for second in &mut waiting {
        assert!(second.as_mut().now_or_never().is_none(), "it runs beside the first");
    }
    assert_eq!(verifications.turn(&clock).await.unwrap_err().before, VERIFICATIONS_WAITING_MAX);
    standing.0.store(5_000_000, Ordering::SeqCst);
    drop(first);
    drop(waiting.split_off(1));
    let second = waiting.pop().unwrap().await.unwrap();
    assert_eq!(standing.now_us(), 10_000_000, "it rests for as long as the first has taken");
    drop(second);
    drop(verifications.turn(&clock).await.unwrap());
    assert_eq!(standing.now_us(), 10_000_000);
}
