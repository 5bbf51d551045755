//! One instance of a guest at work.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use wasmtime::component::{Instance, InstancePre};
use wasmtime::{PoolConcurrencyLimitError, Store, UpdateDeadline};

use crate::domain::entity::MORE;
use crate::domain::guest::Shape;
use crate::domain::json;
use crate::domain::limits::{GUEST_RESOURCES_MAX, HOSTCALL_BYTES_MAX};
use crate::domain::medium::{Evaluated, Evaluation, EvaluationOutcome, GateAnswer, StopReason};
use crate::ports::{BoxFuture, Medium, Yielded};

use super::super::exchange::{Advanced, Coroutine, SharedExchange};
use super::super::trapped::{Circumstances, reason};
use super::bindings::cantrip::guest::types::Error;
use super::convert;
use super::state::State;
use super::worlds;

/// What instances of one guest are made of.
#[derive(Clone)]
pub(super) struct Maker {
    pub(super) pre: InstancePre<State>,
    pub(super) shape: Shape,
    pub(super) gates: Arc<[String]>,
    pub(super) memory_bytes_max: u64,
    pub(super) instances_max: u32,
    pub(super) metered: bool,
}

/// A live instance.
struct Live {
    store: Store<State>,
    instance: Option<Instance>,
}

enum Stage {
    Idle(Box<Live>),
    Running(Coroutine<(Box<Live>, wasmtime::Result<EvaluationOutcome>)>),
    Gone,
}

/// A guest as the driver sees it: a medium.
pub(super) struct GuestMedium {
    maker: Maker,
    exchange: SharedExchange,
    stage: Stage,
    fuel: u64,
}

impl std::fmt::Debug for GuestMedium {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("GuestMedium").field("shape", &self.maker.shape).finish_non_exhaustive()
    }
}

impl GuestMedium {
    pub(super) fn new(maker: Maker) -> Self {
        let exchange = SharedExchange::default();
        let state = State::new(exchange.clone(), Arc::clone(&maker.gates), maker.memory_bytes_max);
        let mut store = Store::new(maker.pre.engine(), state);
        store.limiter(|state| state);
        store.set_hostcall_fuel(HOSTCALL_BYTES_MAX);
        store.set_max_component_handles(GUEST_RESOURCES_MAX);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|context| {
            Ok(if context.data().timing.is_over() { UpdateDeadline::Interrupt } else { UpdateDeadline::Yield(1) })
        });
        Self { maker, exchange, stage: Stage::Idle(Box::new(Live { store, instance: None })), fuel: u64::MAX }
    }

    fn start(&mut self, evaluation: Evaluation) -> Result<(), Yielded> {
        let Stage::Idle(mut live) = std::mem::replace(&mut self.stage, Stage::Gone) else {
            return Err(lost(StopReason::Trap, "the instance was not ready"));
        };
        live.store.data_mut().begin(&evaluation);
        self.fuel = evaluation.fuel_max.unwrap_or(u64::MAX);
        if self.maker.metered
            && let Err(error) = live.store.set_fuel(self.fuel)
        {
            return Err(lost(StopReason::Trap, error.to_string()));
        }
        let maker = self.maker.clone();
        self.stage = Stage::Running(Coroutine::new(self.exchange.clone(), async move {
            let outcome = live.run(&maker, &evaluation.source).await;
            (live, outcome)
        }));
        Ok(())
    }

    async fn advance(&mut self) -> Yielded {
        let Stage::Running(running) = &mut self.stage else { return lost(StopReason::Trap, "nothing was running") };
        match running.advance().await {
            Advanced::Asked(gate, arguments) => Yielded::Gate { gate, arguments },
            Advanced::Ended((live, outcome)) => {
                self.stage = Stage::Gone;
                self.ended(live, outcome)
            }
        }
    }

    fn ended(&mut self, live: Box<Live>, outcome: wasmtime::Result<EvaluationOutcome>) -> Yielded {
        let fuel_left = live.store.get_fuel().ok();
        let state = live.store.data();
        let (output, output_dropped_bytes) = state.output.take();
        let outcome = outcome.unwrap_or_else(|error| {
            let circumstances = Circumstances {
                stopped: state.timing.was_stopped(),
                late: state.timing.until().is_some_and(|until| Instant::now() >= until),
                memory_refused: state.memory_refused,
            };
            let (reason, detail) = reason(&error, circumstances);
            EvaluationOutcome::Lost { reason, detail }
        });
        if !matches!(outcome, EvaluationOutcome::Lost { .. }) {
            self.stage = Stage::Idle(live);
        }
        Yielded::Finished(Box::new(Evaluated {
            outcome,
            output,
            output_dropped_bytes,
            fuel: fuel_left.map_or(0, |left| self.fuel.saturating_sub(left)),
            stopped_at_poll: None,
        }))
    }
}

impl Live {
    /// Everything of the guest runs in here, its start functions included, so that every bound holds for all of it.
    async fn run(&mut self, maker: &Maker, source: &str) -> wasmtime::Result<EvaluationOutcome> {
        let instance = match self.instance {
            Some(instance) => instance,
            None => *self.instance.insert(maker.pre.instantiate_async(&mut self.store).await.map_err(|error| {
                if error.is::<PoolConcurrencyLimitError>() {
                    return wasmtime::Error::msg(format!(
                        "there is no room for another guest: {} live at once in this process",
                        maker.instances_max
                    ));
                }
                error
            })?),
        };
        match maker.shape {
            Shape::Run => self.run_intent(instance, source).await,
            Shape::Steps => self.step(instance, source).await,
            Shape::Medium => self.evaluate(instance, source).await,
        }
    }

    async fn run_intent(&mut self, instance: Instance, source: &str) -> wasmtime::Result<EvaluationOutcome> {
        let task: Value = serde_json::from_str(source)?;
        let intent = task.get("intent").and_then(Value::as_str).unwrap_or_default();
        let run = instance.get_typed_func::<(&str,), (Result<String, Error>,)>(&mut self.store, "run")?;
        let (result,) = run.call_async(&mut self.store, (intent,)).await?;
        Ok(match result {
            Ok(text) => returned(&text),
            Err(error) => failed(error),
        })
    }

    async fn step(&mut self, instance: Instance, source: &str) -> wasmtime::Result<EvaluationOutcome> {
        let task: Value = serde_json::from_str(source)?;
        let heard = task.get("heard").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let turn = worlds::steps::Turn {
            number: task.get("number").and_then(Value::as_u64).unwrap_or_default(),
            intent: task.get("intent").and_then(Value::as_str).unwrap_or_default().to_owned(),
            heard: heard.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        };
        let step = instance.get_typed_func::<(worlds::steps::Turn,), (Result<worlds::steps::Progress, Error>,)>(
            &mut self.store,
            "step",
        )?;
        let (result,) = step.call_async(&mut self.store, (turn,)).await?;
        Ok(match result {
            Ok(worlds::steps::Progress::Finished(text)) => returned(&text),
            Ok(worlds::steps::Progress::More) => {
                EvaluationOutcome::Value { value: None, text: MORE.to_owned(), kind: MORE.to_owned() }
            }
            Err(error) => failed(error),
        })
    }

    async fn evaluate(&mut self, instance: Instance, source: &str) -> wasmtime::Result<EvaluationOutcome> {
        use worlds::medium::{Thrown, Value as Shown};
        let evaluate = instance.get_typed_func::<(&str,), (Result<Shown, Thrown>,)>(&mut self.store, "evaluate")?;
        let (result,) = evaluate.call_async(&mut self.store, (source,)).await?;
        Ok(match result {
            Ok(Shown { value, text, kind }) => {
                EvaluationOutcome::Value { value: value.and_then(|text| json::parse(&text).ok()), text, kind }
            }
            Err(Thrown { name, message, trace }) => EvaluationOutcome::Threw { name, message, stack: trace },
        })
    }
}

fn returned(text: &str) -> EvaluationOutcome {
    match json::parse(text) {
        Ok(value) => {
            EvaluationOutcome::Value { text: value.to_string(), value: Some(value), kind: "returned".to_owned() }
        }
        Err(error) => EvaluationOutcome::Threw {
            name: "invalid".to_owned(),
            message: format!("what it returned is not JSON: {error}"),
            stack: String::new(),
        },
    }
}

fn failed(error: Error) -> EvaluationOutcome {
    let (kind, message) = convert::failure(error);
    EvaluationOutcome::Threw { name: kind.to_owned(), message, stack: String::new() }
}

fn lost(reason: StopReason, detail: impl Into<String>) -> Yielded {
    let outcome = EvaluationOutcome::Lost { reason, detail: detail.into() };
    Yielded::Finished(Box::new(Evaluated::of(outcome)))
}

impl Medium for GuestMedium {
    fn evaluate(&mut self, evaluation: Evaluation) -> BoxFuture<'_, Yielded> {
        Box::pin(async move {
            match self.start(evaluation) {
                Ok(()) => self.advance().await,
                Err(yielded) => yielded,
            }
        })
    }

    fn resume(&mut self, answer: GateAnswer, clock_us: u64) -> BoxFuture<'_, Yielded> {
        Box::pin(async move {
            if let Stage::Running(running) = &mut self.stage {
                running.answer(answer, clock_us);
            }
            self.advance().await
        })
    }
}
