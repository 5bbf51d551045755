//! Gates as functions of the language: arguments out as JSON, the answer back as a value, a failure as a `GateError`.

use alloc::ffi::CString;
use alloc::vec::Vec;

use rquickjs_sys as qjs;

use crate::medium::{self, Stop, context};
use crate::value::{Thrown, Value, Zeroed};
use crate::{host, value};

/// Not writable and not configurable: `done = 1` cannot take a gate away, and `let done` says that the name is taken.
const FIXED: u32 = qjs::JS_PROP_ENUMERABLE;

/// Adds the global functions for the gates of a JSON list that are not there yet. Answers how many gates there are.
pub(crate) fn install(list: &Zeroed<'_>) -> Result<usize, Thrown> {
    let list = Value::from_json(list, c"<gates>")?;
    let len = list.property(c"length")?;
    // SAFETY: the length of a list is a small integer; of anything else it is undefined, and reads as nothing.
    let len = unsafe { if qjs::JS_IsInt(len.raw()) { qjs::JS_VALUE_GET_INT(len.raw()) } else { 0 } };
    // SAFETY: the context is live.
    let global = Value::own(unsafe { qjs::JS_GetGlobalObject(context()) })?;
    let mut folders: Vec<(CString, Value)> = Vec::new();
    for index in 0..len.cast_unsigned() {
        let name = list.item(index)?.to_text()?;
        let name = name.bytes();
        if medium::gates().iter().any(|known| known.as_bytes() == name) {
            continue;
        }
        let Ok(whole) = CString::new(name) else { continue };
        let function = function(&whole)?;
        match name.iter().position(|&byte| byte == b'.') {
            None => global.define(&whole, function, FIXED)?,
            Some(dot) => {
                let (Ok(folder), Ok(last)) = (CString::new(&name[..dot]), CString::new(&name[dot + 1..])) else {
                    continue;
                };
                if !folders.iter().any(|(known, _)| *known == folder) {
                    // SAFETY: the context is live.
                    folders.push((folder.clone(), Value::own(unsafe { qjs::JS_NewObject(context()) })?));
                }
                if let Some((_, object)) = folders.iter().find(|(known, _)| *known == folder) {
                    object.define(&last, function, FIXED)?;
                }
            }
        }
    }
    for (name, object) in folders {
        // SAFETY: the object is live.
        if unsafe { qjs::JS_FreezeObject(context(), object.raw()) } < 0 {
            return Err(Thrown);
        }
        global.define(&name, object, FIXED)?;
    }
    Ok(medium::gates().len())
}

/// The function for a gate; its number is its place in the list of gates.
fn function(name: &CString) -> Result<Value, Thrown> {
    let gates = medium::gates();
    let magic = i32::try_from(gates.len()).map_err(|_| Thrown)?;
    gates.push(name.clone());
    // SAFETY: the engine stores the function with its magic type and calls it as that.
    let plain = unsafe {
        core::mem::transmute::<
            unsafe extern "C" fn(*mut qjs::JSContext, qjs::JSValue, i32, *mut qjs::JSValue, i32) -> qjs::JSValue,
            unsafe extern "C" fn(*mut qjs::JSContext, qjs::JSValue, i32, *mut qjs::JSValue) -> qjs::JSValue,
        >(gate)
    };
    // SAFETY: the context is live, and the engine copies the name.
    Value::own(unsafe {
        qjs::JS_NewCFunction2(
            context(),
            Some(plain),
            name.as_ptr(),
            0,
            qjs::JSCFunctionEnum_JS_CFUNC_generic_magic,
            magic,
        )
    })
}

unsafe extern "C" fn gate(
    _: *mut qjs::JSContext,
    _: qjs::JSValue,
    argc: i32,
    argv: *mut qjs::JSValue,
    magic: i32,
) -> qjs::JSValue {
    if medium::is_stopped() {
        return medium::throw_stop();
    }
    // SAFETY: the engine passes its arguments, all live.
    let arguments = unsafe { core::slice::from_raw_parts(argv, usize::try_from(argc).unwrap_or(0)) };
    match cross(magic, arguments) {
        Ok(value) => value.into_raw(),
        Err(Thrown) => qjs::JS_EXCEPTION,
    }
}

fn cross(gate: i32, arguments: &[qjs::JSValue]) -> Result<Value, Thrown> {
    let Some(name) = usize::try_from(gate).ok().and_then(|index| medium::gates().get(index)) else {
        return Ok(Value::undefined());
    };
    let name_value = Value::text(name.as_bytes())?;
    // SAFETY: the context is live.
    let list = Value::own(unsafe { qjs::JS_NewArray(context()) })?;
    for (index, argument) in (0_u32..).zip(arguments) {
        let item = Value::borrowed(*argument).into_raw();
        // SAFETY: a new array; the engine takes over the item.
        if unsafe {
            qjs::JS_DefinePropertyValueUint32(context(), list.raw(), index, item, qjs::JS_PROP_C_W_E.cast_signed())
        } < 0
        {
            return Err(Thrown);
        }
    }
    let encoded = medium::prelude().encode.call(&[&name_value, &list])?.to_text()?;
    // A toJSON may have crossed a gate that ended everything.
    if medium::is_stopped() {
        medium::throw_stop();
        return Err(Thrown);
    }
    let answer = host::call(name.as_bytes(), encoded.bytes());
    drop(encoded);
    let taken = Taken::new(&answer)?;
    let parsed = Value::from_json(&taken.zeroed(), c"<gate>")?;
    if !answer.is_error {
        return Ok(parsed);
    }
    let kind = parsed.property(c"kind")?;
    if kind.to_text()?.bytes() == b"stop" {
        medium::stop(Stop::Done);
        medium::throw_stop();
        return Err(Thrown);
    }
    let error = medium::prelude().gate_error.call(&[&parsed.property(c"message")?, &kind, &name_value])?;
    // SAFETY: the context is live, and takes over the error.
    unsafe { qjs::JS_Throw(context(), error.into_raw()) };
    Err(Thrown)
}

/// The answer, copied into the engine's heap: a large one counts there, and is refused like any other value.
struct Taken {
    start: *mut u8,
    len: usize,
}

impl Taken {
    fn new(answer: &host::Answer) -> Result<Self, value::Thrown> {
        // SAFETY: the context is live.
        let start: *mut u8 = unsafe { qjs::js_malloc(context(), (answer.len + 1) as qjs::size_t) }.cast();
        if start.is_null() {
            return Err(Thrown);
        }
        // SAFETY: the block holds the answer and one byte more.
        unsafe {
            host::take(start);
            start.add(answer.len).write(0);
        }
        Ok(Self { start, len: answer.len + 1 })
    }

    fn zeroed(&self) -> Zeroed<'_> {
        // SAFETY: all of the block was written.
        let bytes = unsafe { core::slice::from_raw_parts(self.start, self.len) };
        Zeroed::new(bytes).unwrap_or_else(|| core::arch::wasm32::unreachable())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        // SAFETY: it came from js_malloc.
        unsafe { qjs::js_free(context(), self.start.cast()) }
    }
}
