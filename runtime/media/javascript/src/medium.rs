//! The one runtime and context of an instance, and what an evaluation is.

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::cell::{Cell, UnsafeCell};
use core::ffi::{CStr, c_void};

use rquickjs_sys as qjs;

use crate::value::{Thrown, Value, Zeroed};
use crate::{gates, host, memory, natives};

/// 256 KiB of the module's stack, measured from where an evaluation starts. The module has 1 MiB (see the build script), so
/// what the engine does without a check of its own still fits; and what the same depth takes of the host's stack for
/// compiled code stays below wasmtime's default of 512 KiB, which the tests prove with every recursion they know.
const STACK_BYTES_MAX: usize = 256 * 1024;

/// 8 MiB: a short evaluation never pays for a collection, nor dirties every page of the heap with one.
const COLLECT_BYTES: usize = 8 * 1024 * 1024;

/// 100: rejections remembered in one evaluation until somebody handles them.
const REJECTIONS_MAX: usize = 100;

/// 64 KiB: a larger buffer is given back after its evaluation.
const BUFFER_KEPT_BYTES: usize = 64 * 1024;

/// Why an evaluation ends although its code would go on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A gate ended the entity's work.
    Done,
    /// The host's limit.
    Interrupted,
}

/// What the prelude gives back.
pub(crate) struct Prelude {
    pub(crate) encode: Value,
    pub(crate) gate_error: Value,
    outcome: Value,
    failure: Value,
    unhandled: Value,
}

struct Medium {
    runtime: Cell<*mut qjs::JSRuntime>,
    context: Cell<*mut qjs::JSContext>,
    prelude: UnsafeCell<Option<Prelude>>,
    /// The engine's record of global let, const and class bindings.
    lexical: Cell<qjs::JSValue>,
    gates: UnsafeCell<Vec<CString>>,
    stop: Cell<Option<Stop>>,
    evaluating: Cell<bool>,
    random: Cell<u64>,
    rejections: UnsafeCell<Vec<(Value, Value)>>,
    buffer: UnsafeCell<Vec<u8>>,
    outcome: UnsafeCell<Vec<u8>>,
}

// SAFETY: the module has one thread, and no function holds a reference into a cell while it calls something that could
// take another one of the same cell.
unsafe impl Sync for Medium {}

static MEDIUM: Medium = Medium {
    runtime: Cell::new(core::ptr::null_mut()),
    context: Cell::new(core::ptr::null_mut()),
    prelude: UnsafeCell::new(None),
    lexical: Cell::new(qjs::JS_UNDEFINED),
    gates: UnsafeCell::new(Vec::new()),
    stop: Cell::new(None),
    evaluating: Cell::new(false),
    random: Cell::new(0),
    rejections: UnsafeCell::new(Vec::new()),
    buffer: UnsafeCell::new(Vec::new()),
    outcome: UnsafeCell::new(Vec::new()),
};

pub(crate) fn context() -> *mut qjs::JSContext {
    MEDIUM.context.get()
}

pub(crate) fn gates() -> &'static mut Vec<CString> {
    // SAFETY: see Medium.
    unsafe { &mut *MEDIUM.gates.get() }
}

pub(crate) fn prelude() -> &'static Prelude {
    // SAFETY: set while building, and never again.
    match unsafe { &*MEDIUM.prelude.get() } {
        Some(prelude) => prelude,
        None => core::arch::wasm32::unreachable(),
    }
}

/// The next number of the generator (splitmix64), which every evaluation seeds anew.
pub(crate) fn draw() -> u64 {
    let state = MEDIUM.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    MEDIUM.random.set(state);
    let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

// ---- Building: once, before the snapshot ------------------------------------------------------------------------------

/// Makes the runtime and evaluates the prelude. A failure traps, and with it the build.
pub(crate) fn build() {
    if try_build().is_err() {
        if let Ok(text) = Value::exception().to_text() {
            host::write(2, text.bytes());
        }
        core::arch::wasm32::unreachable();
    }
}

fn try_build() -> Result<(), Thrown> {
    // SAFETY: each pointer is checked before it is used, and lives as long as the instance.
    unsafe {
        let runtime = qjs::JS_NewRuntime2(&raw const memory::FUNCTIONS, core::ptr::null_mut());
        if runtime.is_null() {
            return Err(Thrown);
        }
        MEDIUM.runtime.set(runtime);
        // The engine's default of 1 MiB, taken from a stack that lies in the first 1 MiB, would leave it no stack at all.
        qjs::JS_SetMaxStackSize(runtime, STACK_BYTES_MAX as qjs::size_t);
        qjs::JS_SetGCThreshold(runtime, COLLECT_BYTES as qjs::size_t);
        let context = qjs::JS_NewContext(runtime);
        if context.is_null() {
            return Err(Thrown);
        }
        MEDIUM.context.set(context);
        qjs::JS_SetInterruptHandler(runtime, Some(on_poll), core::ptr::null_mut());
        qjs::JS_SetHostPromiseRejectionTracker(runtime, Some(on_rejection), core::ptr::null_mut());
    }
    MEDIUM.lexical.set(find_lexical()?);
    let source = concat!(include_str!("prelude.js"), "\0");
    let source = Zeroed::new(source.as_bytes()).ok_or(Thrown)?;
    let made = run(compile(&source, c"cantrip:prelude", 0)?)?.call(&[&natives::object()?])?;
    let prelude = Prelude {
        encode: made.property(c"encode")?,
        gate_error: made.property(c"gateError")?,
        outcome: made.property(c"outcome")?,
        failure: made.property(c"failure")?,
        unhandled: made.property(c"unhandled")?,
    };
    // SAFETY: nothing refers to it yet; then the memory that building leaves behind is as small as it can be.
    unsafe {
        *MEDIUM.prelude.get() = Some(prelude);
        qjs::JS_RunGC(MEDIUM.runtime.get());
    }
    Ok(())
}

/// The engine has no function for its record of lexical globals. Its context keeps it right behind the global object;
/// what is found there is only taken if a binding made for the purpose is in it. A version of the engine that keeps it
/// elsewhere fails the build and cannot fail an instance.
fn find_lexical() -> Result<qjs::JSValue, Thrown> {
    const NAME: &CStr = c"__probe";
    let source = Zeroed::new(b"let __probe = 7331\0").ok_or(Thrown)?;
    run(compile(&source, c"cantrip:probe", 0)?)?;
    // SAFETY: the context is larger than what is read of it; the values are only used once their shape is known.
    unsafe {
        let context = context();
        let global = Value::own(qjs::JS_GetGlobalObject(context))?;
        let words = core::slice::from_raw_parts(context.cast::<u64>(), 48);
        let at = words.iter().position(|&word| word == global.raw()).ok_or(Thrown)?;
        let lexical = *words.get(at + 1).ok_or(Thrown)?;
        if !qjs::JS_IsObject(lexical) {
            return Err(Thrown);
        }
        let found = Value::own(qjs::JS_GetPropertyStr(context, lexical, NAME.as_ptr()))?;
        if found.raw() != qjs::JS_MKVAL(qjs::JS_TAG_INT, 7331) {
            return Err(Thrown);
        }
        let atom = qjs::JS_NewAtom(context, NAME.as_ptr());
        qjs::JS_DeleteProperty(context, lexical, atom, 0);
        qjs::JS_FreeAtom(context, atom);
        Ok(lexical)
    }
}

// ---- What the host calls ----------------------------------------------------------------------------------------------

pub(crate) fn buffer(len: usize) -> *mut u8 {
    // SAFETY: see Medium.
    let buffer = unsafe { &mut *MEDIUM.buffer.get() };
    buffer.clear();
    let Some(with_nul) = len.checked_add(1) else { return core::ptr::null_mut() };
    if buffer.try_reserve_exact(with_nul).is_err() {
        return core::ptr::null_mut();
    }
    buffer.resize(with_nul, 0);
    buffer.as_mut_ptr()
}

/// Takes out what the host wrote, if it is what it says; the caller puts the buffer back.
fn filled(start: *const u8, len: usize) -> Option<Vec<u8>> {
    // SAFETY: see Medium.
    let mut buffer = core::mem::take(unsafe { &mut *MEDIUM.buffer.get() });
    if buffer.as_ptr() != start || len >= buffer.len() {
        return None;
    }
    buffer.truncate(len);
    buffer.push(0);
    Some(buffer)
}

fn put_back(mut buffer: Vec<u8>) {
    if buffer.capacity() <= BUFFER_KEPT_BYTES {
        buffer.clear();
        // SAFETY: see Medium.
        unsafe { *MEDIUM.buffer.get() = buffer };
    }
}

pub(crate) fn configure(list: *const u8, list_len: usize, heap_bytes_max: i64) -> i32 {
    memory::set_bytes_max(usize::try_from(heap_bytes_max).unwrap_or(if heap_bytes_max < 0 { 0 } else { usize::MAX }));
    open();
    let Some(buffer) = filled(list, list_len) else { return -1 };
    let installed = Zeroed::new(&buffer).ok_or(Thrown).and_then(|list| gates::install(&list));
    put_back(buffer);
    installed.map_or_else(
        |Thrown| {
            drop(Value::exception());
            -1
        },
        |count| i32::try_from(count).unwrap_or(-1),
    )
}

const STOPPED_DONE: &[u8] = br#"{"ok":false,"stopped":"done"}"#;
const STOPPED_INTERRUPTED: &[u8] = br#"{"ok":false,"stopped":"interrupted"}"#;
const OUT_OF_MEMORY: &[u8] = br#"{"ok":false,"error":{"name":"InternalError","message":"out of memory","stack":""}}"#;
const STACK_OVERFLOW: &[u8] =
    br#"{"ok":false,"error":{"name":"RangeError","message":"Maximum call stack size exceeded","stack":""}}"#;
const NO_SOURCE: &[u8] =
    br#"{"ok":false,"error":{"name":"InternalError","message":"the source is not in the buffer","stack":""}}"#;

pub(crate) fn evaluate(source: *const u8, source_len: usize, seed: i64) -> &'static [u8] {
    let Some(buffer) = filled(source, source_len) else { return NO_SOURCE };
    let Some(source) = Zeroed::new(&buffer) else { return NO_SOURCE };
    open();
    MEDIUM.random.set(seed.cast_unsigned());
    // Nearby seeds must not give nearby numbers.
    MEDIUM.random.set(draw());
    MEDIUM.stop.set(None);
    MEDIUM.evaluating.set(true);
    let result = settle(start(&source));
    let was_ok = result.is_ok();
    let outcome = tell(result);
    MEDIUM.evaluating.set(false);
    if !was_ok || MEDIUM.stop.get().is_some() {
        forget_uninitialised();
    }
    if memory::was_refused() {
        // SAFETY: the runtime is live, and nothing of it is running.
        unsafe { qjs::JS_RunGC(MEDIUM.runtime.get()) };
    }
    put_back(buffer);
    outcome
}

/// Opens a call of the host: the stack starts here, and the heap has some room.
fn open() {
    memory::open();
    let runtime = MEDIUM.runtime.get();
    // SAFETY: the runtime is live.
    unsafe {
        qjs::JS_UpdateStackTop(runtime);
        qjs::JS_SetMaxStackSize(runtime, STACK_BYTES_MAX as qjs::size_t);
    }
}

// ---- An evaluation ----------------------------------------------------------------------------------------------------

/// A script that was started.
enum Started {
    /// Its completion value.
    Script(Value),
    /// A promise of an object that holds it: the script awaits something.
    Awaiting(Value),
}

fn compile(source: &Zeroed<'_>, name: &CStr, flags: u32) -> Result<Value, Thrown> {
    let text = source.text();
    // SAFETY: the text is followed by NUL, and the name is too.
    Value::own(unsafe {
        qjs::JS_Eval(
            context(),
            text.as_ptr().cast(),
            text.len() as qjs::size_t,
            name.as_ptr(),
            (qjs::JS_EVAL_TYPE_GLOBAL | qjs::JS_EVAL_FLAG_COMPILE_ONLY | flags).cast_signed(),
        )
    })
}

fn run(compiled: Value) -> Result<Value, Thrown> {
    // SAFETY: the engine takes over what it compiled.
    Value::own(unsafe { qjs::JS_EvalFunction(context(), compiled.into_raw()) })
}

/// Where the word `await` appears, the script is tried as one that may await at its top level: without that,
/// `await (f())` is a call of a function named `await`. Both kinds declare the same globals.
fn start(source: &Zeroed<'_>) -> Result<Started, Thrown> {
    const NAME: &CStr = c"<code>";
    if source.text().windows(5).any(|word| word == b"await") {
        if let Ok(compiled) = compile(source, NAME, qjs::JS_EVAL_FLAG_ASYNC) {
            return run(compiled).map(Started::Awaiting);
        }
        let told = Value::exception();
        // `await` may be somebody's variable; if that does not hold either, the first message is the better one.
        let Ok(compiled) = compile(source, NAME, 0) else {
            drop(Value::exception());
            // SAFETY: the context is live and takes over the error.
            unsafe { qjs::JS_Throw(context(), told.into_raw()) };
            return Err(Thrown);
        };
        return run(compiled).map(Started::Script);
    }
    run(compile(source, NAME, 0)?).map(Started::Script)
}

/// Runs what was promised, and gives the completion value.
fn settle(started: Result<Started, Thrown>) -> Result<Value, Value> {
    let started = started.map_err(|Thrown| Value::exception());
    run_jobs();
    if is_stopped() {
        drop_jobs();
    }
    let result = started.and_then(|started| match started {
        Started::Script(value) => settled(value, true).map(|(value, _)| value),
        Started::Awaiting(promise) => {
            let (held, promise) = settled(promise, false)?;
            if promise {
                return Err(plain_error(c"the script awaits a promise that nothing will settle"));
            }
            let value = held.property(c"value").map_err(|Thrown| Value::exception())?;
            settled(value, true).map(|(value, _)| value)
        }
    });
    report_rejections();
    result
}

/// What a promise became; anything else is what it is. The flag says that it is a promise still. A pending promise is an
/// ordinary value of a script, which may hold on to it.
fn settled(value: Value, _is_completion: bool) -> Result<(Value, bool), Value> {
    // SAFETY: the value is live.
    let state = unsafe { qjs::JS_PromiseState(context(), value.raw()) };
    match state {
        qjs::JSPromiseStateEnum_JS_PROMISE_FULFILLED => {
            // SAFETY: as above.
            Value::own(unsafe { qjs::JS_PromiseResult(context(), value.raw()) })
                .map(|value| (value, false))
                .map_err(|Thrown| Value::exception())
        }
        qjs::JSPromiseStateEnum_JS_PROMISE_REJECTED => {
            rejections().retain(|(promise, _)| promise.raw() != value.raw());
            // SAFETY: as above.
            Err(Value::own(unsafe { qjs::JS_PromiseResult(context(), value.raw()) })
                .unwrap_or_else(|Thrown| Value::exception()))
        }
        qjs::JSPromiseStateEnum_JS_PROMISE_PENDING => Ok((value, true)),
        _ => Ok((value, false)),
    }
}

fn plain_error(message: &CStr) -> Value {
    // SAFETY: the message has no conversions.
    unsafe { qjs::JS_ThrowPlainError(context(), message.as_ptr()) };
    Value::exception()
}

fn run_jobs() {
    while !is_stopped() && run_job() {}
}

/// One job of the queue; whether there was one.
fn run_job() -> bool {
    let mut context: *mut qjs::JSContext = core::ptr::null_mut();
    // SAFETY: the runtime is live.
    let ran = unsafe { qjs::JS_ExecutePendingJob(MEDIUM.runtime.get(), &raw mut context) };
    if ran < 0 {
        drop(Value::exception());
    }
    ran != 0
}

/// Ends what a stopped evaluation left in the queue, or the next one would go on with it. The engine cannot drop jobs, but
/// with no stack no function of the script starts: each job ends at once, and its promise is rejected.
fn drop_jobs() {
    lock();
    while run_job() {}
}

/// From here on no function of the script can be called.
fn lock() {
    // SAFETY: the runtime is live.
    unsafe { qjs::JS_SetMaxStackSize(MEDIUM.runtime.get(), 1) };
}

/// Says how it went. Showing a value may run code of the script, which may stop it like any other.
fn tell(result: Result<Value, Value>) -> &'static [u8] {
    if let Some(stop) = MEDIUM.stop.get() {
        drop(result);
        return told(stop);
    }
    let prelude = prelude();
    let text = match &result {
        Ok(value) => prelude.outcome.call(&[value]),
        // Out of memory, the engine may be unable to make an error, and throws null.
        // SAFETY: looks at the tag alone.
        Err(error) if memory::was_refused() && unsafe { qjs::JS_IsNull(error.raw()) } => return OUT_OF_MEMORY,
        Err(error) => prelude.failure.call(&[error]),
    }
    .and_then(|text| text.to_text());
    drop(result);
    let text = match text {
        Ok(text) => Some(text),
        Err(Thrown) => {
            drop(Value::exception());
            None
        }
    };
    run_jobs();
    if is_stopped() {
        drop_jobs();
    }
    report_rejections();
    if let Some(stop) = MEDIUM.stop.get() {
        return told(stop);
    }
    let fallback = if memory::was_refused() { OUT_OF_MEMORY } else { STACK_OVERFLOW };
    let Some(text) = text else { return fallback };
    // SAFETY: see Medium.
    let outcome = unsafe { &mut *MEDIUM.outcome.get() };
    outcome.clear();
    if outcome.capacity() > BUFFER_KEPT_BYTES {
        *outcome = Vec::new();
    }
    if outcome.try_reserve_exact(text.bytes().len()).is_err() {
        return OUT_OF_MEMORY;
    }
    outcome.extend_from_slice(text.bytes());
    outcome
}

const fn told(stop: Stop) -> &'static [u8] {
    match stop {
        Stop::Done => STOPPED_DONE,
        Stop::Interrupted => STOPPED_INTERRUPTED,
    }
}

/// A script that fails between the declaration of a binding and its value leaves a name that can never be read, set or
/// declared again. `const text = read_file("a")` would be lost with its first failure, so such names are forgotten.
fn forget_uninitialised() {
    let (context, lexical) = (context(), MEDIUM.lexical.get());
    let mut names: *mut qjs::JSPropertyEnum = core::ptr::null_mut();
    let mut count = 0_u32;
    // SAFETY: the record lives as long as the context; the list is freed below.
    unsafe {
        if qjs::JS_GetOwnPropertyNames(
            context,
            &raw mut names,
            &raw mut count,
            lexical,
            qjs::JS_GPN_STRING_MASK.cast_signed(),
        ) < 0
        {
            drop(Value::exception());
            return;
        }
        for name in core::slice::from_raw_parts(names, count as usize) {
            let missing = match Value::own(qjs::JS_GetProperty(context, lexical, name.atom)) {
                Ok(value) => qjs::JS_IsUninitialized(value.raw()),
                Err(Thrown) => {
                    drop(Value::exception());
                    true
                }
            };
            if missing {
                qjs::JS_DeleteProperty(context, lexical, name.atom, 0);
            }
        }
        qjs::JS_FreePropertyEnum(context, names, count);
    }
}

// ---- Stopping ---------------------------------------------------------------------------------------------------------

pub(crate) fn is_stopped() -> bool {
    MEDIUM.stop.get().is_some()
}

/// Ends the evaluation: nothing catches it, and whatever native code of the engine swallows it can call nothing more.
pub(crate) fn stop(why: Stop) {
    if !is_stopped() {
        MEDIUM.stop.set(Some(why));
        lock();
    }
}

/// Makes the pending exception one that neither `catch` nor `finally` sees.
pub(crate) fn throw_stop() -> qjs::JSValue {
    // SAFETY: the context is live; the error is ours until it is thrown.
    unsafe {
        let error = qjs::JS_NewError(context());
        if !qjs::JS_IsException(error) {
            qjs::JS_SetUncatchableError(context(), error);
            qjs::JS_Throw(context(), error);
        }
    }
    qjs::JS_EXCEPTION
}

unsafe extern "C" fn on_poll(runtime: *mut qjs::JSRuntime, _: *mut c_void) -> i32 {
    if is_stopped() {
        return 1;
    }
    if !MEDIUM.evaluating.get() {
        return 0;
    }
    keep_collecting(runtime);
    if host::poll() {
        stop(Stop::Interrupted);
        return 1;
    }
    0
}

/// The engine sets its next collection at one and a half times what is live, which may lie beyond the heap's bound: garbage
/// would then end the evaluation. While there is much to gain, the next collection comes before the bound.
fn keep_collecting(runtime: *mut qjs::JSRuntime) {
    let (bytes_max, used_bytes) = memory::bytes_max_and_used();
    let latest = bytes_max - bytes_max / 8;
    if used_bytes < bytes_max - bytes_max / 4 {
        // SAFETY: the runtime is live; this only sets a number.
        unsafe {
            if qjs::JS_GetGCThreshold(runtime) as usize > latest {
                qjs::JS_SetGCThreshold(runtime, latest as qjs::size_t);
            }
        }
    }
}

// ---- Rejections that nobody handles -----------------------------------------------------------------------------------

fn rejections() -> &'static mut Vec<(Value, Value)> {
    // SAFETY: see Medium.
    unsafe { &mut *MEDIUM.rejections.get() }
}

unsafe extern "C" fn on_rejection(
    _: *mut qjs::JSContext,
    promise: qjs::JSValue,
    reason: qjs::JSValue,
    is_handled: bool,
    _: *mut c_void,
) {
    let rejections = rejections();
    if is_handled {
        rejections.retain(|(known, _)| known.raw() != promise);
    } else if rejections.len() < REJECTIONS_MAX && !is_stopped() && rejections.try_reserve(1).is_ok() {
        rejections.push((Value::borrowed(promise), Value::borrowed(reason)));
    }
}

fn report_rejections() {
    // SAFETY: see Medium. Reporting may run code that rejects more.
    let unhandled = core::mem::take(unsafe { &mut *MEDIUM.rejections.get() });
    if is_stopped() {
        return;
    }
    for (_, reason) in &unhandled {
        if prelude().unhandled.call(&[reason]).is_err() {
            drop(Value::exception());
        }
    }
}
