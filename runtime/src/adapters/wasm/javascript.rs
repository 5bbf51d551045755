//! The JavaScript medium: one instance of the interpreter for each entity, kept between turns and sends.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;
use wasmtime::{InstancePre, Memory, PoolConcurrencyLimitError, Store, TypedFunc, UpdateDeadline};

pub use crate::domain::circle::JAVASCRIPT;
use crate::domain::limits::{MEMORY_BYTES_MAX, SOURCE_BYTES_MAX};
use crate::domain::medium::{
    Evaluated, Evaluation, EvaluationOutcome, GateAnswer, Image, MediumOpening, PAGE_BYTES, StopReason,
};
use crate::ports::{BoxFuture, Medium, MediumFactory, MediumFault, Yielded};

use super::artefacts;
use super::engine::{Sandbox, Use};
use super::exchange::{Advanced, Coroutine, SharedExchange};
use super::host::{self, Run, State};
use super::trapped::{Circumstances, reason};

/// The interpreter, built from `runtime/media/javascript` and initialised at build time.
const WASM: &[u8] = include_bytes!("../../../media/javascript/javascript.wasm");
/// 250 ms. Code is first asked to stop, which keeps its instance; this much later it is stopped.
const GRACE: Duration = Duration::from_millis(250);
/// 3 MiB. What the interpreter needs beside the heap of the code: its stack, its own data, the text of an evaluation.
const OVERHEAD_BYTES: u64 = 3 * 1024 * 1024;
/// 1 MiB. Below this the interpreter cannot work at all.
const HEAP_BYTES_MIN: u64 = 1024 * 1024;
/// 64 KiB: what memory grows by.
const WASM_PAGE_BYTES: u64 = 64 * 1024;
/// What memory has where nothing was written.
const ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
/// 16 MiB. No account of an evaluation is longer: the interpreter cuts what it tells, and this is a look at the interpreter.
const ACCOUNT_BYTES: usize = 16 * 1024 * 1024;

/// Makes JavaScript media.
#[derive(Debug)]
pub struct Javascript {
    sandbox: Arc<Sandbox>,
    plain: OnceLock<Prepared>,
    metered: OnceLock<Prepared>,
    digest: String,
    /// What every fresh instance has in memory.
    initial: Arc<OnceLock<Vec<u8>>>,
}

struct Prepared(InstancePre<State>);

impl std::fmt::Debug for Prepared {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Prepared")
    }
}

fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> MediumFault {
    MediumFault::Broken { name: JAVASCRIPT.to_owned(), source: error.into() }
}

impl Javascript {
    /// A factory on a sandbox. Compiles nothing yet.
    pub fn new(sandbox: Arc<Sandbox>) -> Self {
        Self {
            sandbox,
            plain: OnceLock::new(),
            metered: OnceLock::new(),
            digest: format!("blake3:{}", blake3::hash(WASM).to_hex()),
            initial: Arc::default(),
        }
    }

    fn prepared(&self, metered: bool) -> Result<&InstancePre<State>, MediumFault> {
        let cell = if metered { &self.metered } else { &self.plain };
        if let Some(Prepared(pre)) = cell.get() {
            return Ok(pre);
        }
        let engine = self.sandbox.engine(Use::Interpreters, metered).map_err(broken)?;
        let module = artefacts::module(engine, WASM, self.sandbox.artefacts.as_deref()).map_err(broken)?;
        let pre = host::linker(engine).and_then(|linker| linker.instantiate_pre(&module)).map_err(broken)?;
        Ok(&cell.get_or_init(|| Prepared(pre)).0)
    }

    /// Compiles the interpreter, or loads it compiled, so that the first entity need not wait for it.
    ///
    /// # Errors
    /// A sandbox that cannot be made on this machine.
    pub fn prepare(&self) -> Result<(), MediumFault> {
        self.prepared(false).map(|_| ())
    }

    /// The median time of an instance that is made and dropped, with nothing of ours around it: the floor that the
    /// benchmark compares with.
    ///
    /// # Errors
    /// As [`MediumFactory::open`].
    pub async fn instantiate_bare(&self, times: usize) -> Result<Duration, MediumFault> {
        let pre = self.prepared(false)?;
        let mut measured = Vec::with_capacity(times);
        for _ in 0..times {
            let start = Instant::now();
            let mut store = Store::new(pre.module().engine(), State::new(SharedExchange::default(), MEMORY_BYTES_MAX));
            store.set_epoch_deadline(1_000);
            pre.instantiate_async(&mut store).await.map_err(|error| self.refused(error))?;
            drop(store);
            measured.push(start.elapsed());
        }
        measured.sort_unstable();
        Ok(measured.get(times / 2).copied().unwrap_or_default())
    }

    /// Names the medium as it is opened: its code, and what was written into its memory at its start.
    fn mark(&self, opening: &MediumOpening) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.digest.as_bytes());
        for gate in &opening.gates {
            hasher.update(&(gate.len() as u64).to_be_bytes()).update(gate.as_bytes());
        }
        hasher.update(&heap_bytes(opening).to_be_bytes());
        format!("blake3:{}", hasher.finalize().to_hex())
    }

    async fn instance(&self, opening: &MediumOpening, image: Option<&Image>) -> Result<JavascriptMedium, MediumFault> {
        let pre = self.prepared(opening.metered)?;
        let exchange = SharedExchange::default();
        let memory_bytes_max = opening.memory_bytes_max.min(MEMORY_BYTES_MAX);
        let mut store = Store::new(pre.module().engine(), State::new(exchange.clone(), memory_bytes_max));
        store.limiter(|state| state);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|context| {
            let late = context.data().run.trap_at.is_some_and(|at| Instant::now() >= at);
            Ok(if late { UpdateDeadline::Interrupt } else { UpdateDeadline::Yield(1) })
        });
        if opening.metered {
            // Starting the interpreter is ours to pay.
            store.set_fuel(u64::MAX).map_err(broken)?;
        }
        let instance = pre.instantiate_async(&mut store).await.map_err(|error| self.refused(error))?;
        let memory = instance.get_memory(&mut store, "memory").ok_or_else(|| broken("it exports no memory"))?;
        let mut guest = Guest {
            buffer: instance.get_typed_func(&mut store, "buffer").map_err(broken)?,
            evaluate: instance.get_typed_func(&mut store, "evaluate").map_err(broken)?,
            memory,
            store,
        };
        self.initial.get_or_init(|| memory.data(&guest.store).to_vec());
        let medium = |guest| JavascriptMedium {
            stage: Stage::Idle(Box::new(guest)),
            exchange,
            metered: opening.metered,
            mark: self.mark(opening),
            initial: Arc::clone(&self.initial),
        };
        if let Some(image) = image {
            guest.put_image(image).map_err(broken)?;
            return Ok(medium(guest));
        }
        let configure: TypedFunc<(u32, u32, i64), i32> =
            instance.get_typed_func(&mut guest.store, "configure").map_err(broken)?;
        let gates = serde_json::to_vec(&opening.gates).map_err(broken)?;
        let heap = heap_bytes(opening);
        let (pointer, length) = guest.put(&gates).await.map_err(broken)?;
        let heap = i64::try_from(heap).unwrap_or(i64::MAX);
        if configure.call_async(&mut guest.store, (pointer, length, heap)).await.map_err(broken)? < 0 {
            return Err(broken("it could not take its list of gates"));
        }
        Ok(medium(guest))
    }

    fn refused(&self, error: wasmtime::Error) -> MediumFault {
        if error.is::<PoolConcurrencyLimitError>() {
            let limit = format!(
                "{} instances live at once in this process; end some entities, or start the runtime with more",
                self.sandbox.instances_max
            );
            return MediumFault::Full { limit };
        }
        broken(error)
    }
}

impl MediumFactory for Javascript {
    fn names(&self) -> Vec<String> {
        vec![JAVASCRIPT.to_owned()]
    }

    fn digest(&self, medium: &str) -> Option<String> {
        (medium == JAVASCRIPT).then(|| self.digest.clone())
    }

    fn open<'a>(&'a self, opening: &'a MediumOpening) -> BoxFuture<'a, Result<Box<dyn Medium>, MediumFault>> {
        Box::pin(async move {
            if opening.medium != JAVASCRIPT {
                return Err(MediumFault::Unknown { name: opening.medium.clone(), known: JAVASCRIPT.to_owned() });
            }
            Ok(Box::new(self.instance(opening, None).await?) as Box<dyn Medium>)
        })
    }

    fn fits(&self, opening: &MediumOpening, image: &Image) -> bool {
        // An image may be another node's: what it says of itself is checked before memory is made for it.
        let is_bounded = image.memory_bytes <= opening.memory_bytes_max.min(MEMORY_BYTES_MAX);
        let end = image.pages.keys().next_back().map_or(0, |last| (u64::from(*last) + 1) * PAGE_BYTES as u64);
        let is_inside = end <= image.memory_bytes && image.pages.values().all(|page| page.len() == PAGE_BYTES);
        opening.medium == JAVASCRIPT && image.medium == self.mark(opening) && is_bounded && is_inside
    }

    fn open_image<'a>(
        &'a self,
        opening: &'a MediumOpening,
        image: &'a Image,
    ) -> BoxFuture<'a, Result<Box<dyn Medium>, MediumFault>> {
        Box::pin(async move { Ok(Box::new(self.instance(opening, Some(image)).await?) as Box<dyn Medium>) })
    }
}

/// How much memory the code itself may use.
fn heap_bytes(opening: &MediumOpening) -> u64 {
    let memory_bytes_max = opening.memory_bytes_max.min(MEMORY_BYTES_MAX);
    memory_bytes_max.saturating_sub(OVERHEAD_BYTES).max(HEAP_BYTES_MIN)
}

/// A live instance.
struct Guest {
    store: Store<State>,
    memory: Memory,
    buffer: TypedFunc<u32, u32>,
    evaluate: TypedFunc<(u32, u32, i64), i64>,
}

/// The account of an evaluation, as the guest gives it.
#[derive(Debug, Deserialize)]
struct Account {
    ok: bool,
    #[serde(default)]
    value: Option<Value>,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    error: Option<Thrown>,
    #[serde(default)]
    stopped: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Thrown {
    #[serde(default)]
    name: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    stack: String,
}

impl Guest {
    async fn put(&mut self, bytes: &[u8]) -> wasmtime::Result<(u32, u32)> {
        let length = u32::try_from(bytes.len()).map_err(wasmtime::Error::from)?;
        let pointer = self.buffer.call_async(&mut self.store, length).await?;
        self.memory.write(&mut self.store, pointer as usize, bytes).map_err(wasmtime::Error::from)?;
        Ok((pointer, length))
    }

    /// Makes the memory what it was when an image was taken. Nothing else of an instance changes: its one mutable global, the
    /// stack's pointer, is where it was at the start whenever nothing runs.
    fn put_image(&mut self, image: &Image) -> wasmtime::Result<()> {
        let has = self.memory.data_size(&self.store) as u64;
        let more = image.memory_bytes.saturating_sub(has).div_ceil(WASM_PAGE_BYTES);
        if more > 0 {
            self.memory.grow(&mut self.store, more)?;
        }
        for (place, page) in &image.pages {
            let at = usize::try_from(*place)?.saturating_mul(PAGE_BYTES);
            self.memory.write(&mut self.store, at, page).map_err(wasmtime::Error::from)?;
        }
        Ok(())
    }

    async fn run(&mut self, source: &str, seed: u64) -> wasmtime::Result<Account> {
        let (pointer, length) = self.put(source.as_bytes()).await?;
        let packed = self
            .evaluate
            .call_async(&mut self.store, (pointer, length, i64::from_le_bytes(seed.to_le_bytes())))
            .await?;
        let packed = u64::from_le_bytes(packed.to_le_bytes());
        let (pointer, length) = (usize::try_from(packed >> 32)?, usize::try_from(packed & 0xffff_ffff)?);
        if length > ACCOUNT_BYTES {
            return Err(wasmtime::Error::msg(format!(
                "the account of the evaluation has {length} bytes, and the limit is {ACCOUNT_BYTES}"
            )));
        }
        let data = self.memory.data(&self.store);
        let bytes = data
            .get(pointer..pointer.saturating_add(length))
            .ok_or_else(|| wasmtime::Error::msg("the account lies outside of the memory"))?;
        serde_json::from_value(crate::domain::json::parse_bytes(bytes)?).map_err(wasmtime::Error::from)
    }
}

enum Stage {
    Idle(Box<Guest>),
    Running(Coroutine<(Box<Guest>, wasmtime::Result<Account>)>),
    Gone,
}

struct JavascriptMedium {
    stage: Stage,
    exchange: SharedExchange,
    metered: bool,
    mark: String,
    initial: Arc<OnceLock<Vec<u8>>>,
}

impl std::fmt::Debug for JavascriptMedium {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stage = match self.stage {
            Stage::Idle(_) => "idle",
            Stage::Running(_) => "running",
            Stage::Gone => "gone",
        };
        out.debug_struct("JavascriptMedium").field("stage", &stage).finish_non_exhaustive()
    }
}

fn lost(reason: StopReason, detail: impl Into<String>) -> Yielded {
    Yielded::Finished(Box::new(Evaluated::of(EvaluationOutcome::Lost { reason, detail: detail.into() })))
}

impl JavascriptMedium {
    fn start(&mut self, evaluation: Evaluation) -> Result<(), Yielded> {
        let Stage::Idle(mut guest) = std::mem::replace(&mut self.stage, Stage::Gone) else {
            return Err(lost(StopReason::Trap, "the instance was not ready"));
        };
        if evaluation.source.len() > SOURCE_BYTES_MAX {
            self.stage = Stage::Idle(guest);
            let message =
                format!("the source has {} bytes, and the limit is {SOURCE_BYTES_MAX}", evaluation.source.len());
            let outcome = EvaluationOutcome::Threw { name: "RangeError".to_owned(), message, stack: String::new() };
            return Err(Yielded::Finished(Box::new(Evaluated::of(outcome))));
        }
        let now = Instant::now();
        guest.store.data_mut().memory_refused = false;
        guest.store.data_mut().run = Run {
            output_bytes_max: usize::try_from(evaluation.output_bytes_max).unwrap_or(usize::MAX),
            clock_ns: evaluation.clock_us.saturating_mul(1_000),
            stop_at_poll: evaluation.stop_at_poll,
            stop: evaluation.stop,
            fuel: evaluation.fuel_max.unwrap_or(u64::MAX),
            until: now.checked_add(evaluation.time_max),
            trap_at: now.checked_add(evaluation.time_max + GRACE),
            ..Run::default()
        };
        if self.metered
            && let Err(error) = guest.store.set_fuel(guest.store.data().run.fuel)
        {
            return Err(lost(StopReason::Trap, error.to_string()));
        }
        let (source, seed) = (evaluation.source, evaluation.seed);
        self.stage = Stage::Running(Coroutine::new(self.exchange.clone(), async move {
            let account = guest.run(&source, seed).await;
            (guest, account)
        }));
        Ok(())
    }

    /// Runs until the guest asks for a gate or ends.
    async fn advance(&mut self) -> Yielded {
        let Stage::Running(running) = &mut self.stage else { return lost(StopReason::Trap, "nothing was running") };
        match running.advance().await {
            Advanced::Asked(gate, arguments) => Yielded::Gate { gate, arguments },
            Advanced::Ended((guest, account)) => {
                self.stage = Stage::Gone;
                self.ended(guest, account)
            }
        }
    }

    fn ended(&mut self, mut guest: Box<Guest>, account: wasmtime::Result<Account>) -> Yielded {
        let fuel_left = guest.store.get_fuel().ok();
        let run = std::mem::take(&mut guest.store.data_mut().run);
        let memory_refused = guest.store.data().memory_refused;
        let outcome = match account {
            Ok(account) => outcome(account, &run),
            Err(error) => {
                let circumstances = Circumstances { stopped: run.stop.is_set(), late: false, memory_refused };
                let (reason, detail) = reason(&error, circumstances);
                EvaluationOutcome::Lost { reason, detail }
            }
        };
        if !matches!(outcome, EvaluationOutcome::Lost { .. }) {
            self.stage = Stage::Idle(guest);
        }
        Yielded::Finished(Box::new(Evaluated {
            stopped_at_poll: matches!(outcome, EvaluationOutcome::Stopped(_)).then_some(run.polls),
            outcome,
            output: String::from_utf8_lossy(&run.output).into_owned(),
            output_dropped_bytes: run.output_dropped_bytes,
            fuel: fuel_left.map_or(0, |left| run.fuel.saturating_sub(left)),
        }))
    }
}

fn outcome(account: Account, run: &Run) -> EvaluationOutcome {
    match (account.stopped.as_deref(), account.error) {
        (Some("done"), _) => EvaluationOutcome::Done,
        (Some(_), _) => EvaluationOutcome::Stopped(run.stopped.unwrap_or(StopReason::Outside)),
        (None, Some(error)) => {
            EvaluationOutcome::Threw { name: error.name, message: error.message, stack: error.stack }
        }
        (None, None) if account.ok => {
            EvaluationOutcome::Value { value: account.value, text: account.text, kind: account.kind }
        }
        (None, None) => EvaluationOutcome::Threw {
            name: "Error".to_owned(),
            message: "the interpreter gave no account".to_owned(),
            stack: String::new(),
        },
    }
}

impl Medium for JavascriptMedium {
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

    fn image(&mut self, since: Option<&Image>) -> Option<Image> {
        let Stage::Idle(guest) = &self.stage else { return None };
        let initial = self.initial.get()?;
        let data = guest.memory.data(&guest.store);
        let since = since.filter(|since| since.medium == self.mark);
        let mut pages = BTreeMap::new();
        let fresh = initial.chunks_exact(PAGE_BYTES).chain(std::iter::repeat(&ZEROS[..]));
        for ((place, page), fresh) in (0..).zip(data.chunks_exact(PAGE_BYTES)).zip(fresh) {
            match since.and_then(|since| since.pages.get(&place)) {
                Some(before) if **before == *page => drop(pages.insert(place, Arc::clone(before))),
                None if fresh == page => {}
                // A page that is as at the start again is named too: what is not named is as it was before.
                Some(_) | None => drop(pages.insert(place, Arc::from(page))),
            }
        }
        Some(Image { medium: self.mark.clone(), memory_bytes: data.len() as u64, pages })
    }
}
