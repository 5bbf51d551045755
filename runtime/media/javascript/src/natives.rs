//! What the prelude cannot do in JavaScript.

use alloc::vec::Vec;

use rquickjs_sys as qjs;

use crate::host;
use crate::medium::{self, context};
use crate::value::{Thrown, Value};

/// 64 KiB: bounds one chunk of output, whatever its characters take.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;

type Native = unsafe extern "C" fn(*mut qjs::JSContext, qjs::JSValue, i32, *mut qjs::JSValue) -> qjs::JSValue;

/// The object that the prelude is called with.
pub(crate) fn object() -> Result<Value, Thrown> {
    // SAFETY: the context is live.
    let object = Value::own(unsafe { qjs::JS_NewObject(context()) })?;
    let natives: [(&core::ffi::CStr, Native, i32); 6] = [
        (c"output", output, 2),
        (c"promiseState", promise_state, 1),
        (c"promiseResult", promise_result, 1),
        (c"utf8Encode", utf8_encode, 1),
        (c"utf8Decode", utf8_decode, 4),
        (c"random", random, 0),
    ];
    for (name, native, length) in natives {
        // SAFETY: the context is live, the name is static, and the function has the type that `generic` says.
        let function = Value::own(unsafe {
            qjs::JS_NewCFunction2(
                context(),
                Some(native),
                name.as_ptr(),
                length,
                qjs::JSCFunctionEnum_JS_CFUNC_generic,
                0,
            )
        })?;
        object.define(name, function, qjs::JS_PROP_C_W_E)?;
    }
    Ok(object)
}

/// The argument at `index`; undefined where there is none.
///
/// # Safety
/// `argv` holds `argc` live values.
unsafe fn argument(argc: i32, argv: *mut qjs::JSValue, index: i32) -> Value {
    if index < argc {
        // SAFETY: within the arguments.
        Value::borrowed(unsafe { *argv.offset(index as isize) })
    } else {
        Value::undefined()
    }
}

fn answer(result: Result<Value, Thrown>) -> qjs::JSValue {
    match result {
        Ok(value) => value.into_raw(),
        Err(Thrown) => qjs::JS_EXCEPTION,
    }
}

unsafe extern "C" fn output(
    _: *mut qjs::JSContext,
    _: qjs::JSValue,
    argc: i32,
    argv: *mut qjs::JSValue,
) -> qjs::JSValue {
    // SAFETY: the engine passes its arguments.
    let (stream, text) = unsafe { (argument(argc, argv, 0), argument(argc, argv, 1)) };
    let text = match text.to_text() {
        Ok(text) => text,
        Err(Thrown) => return qjs::JS_EXCEPTION,
    };
    let mut bytes = text.bytes();
    if bytes.len() > OUTPUT_BYTES_MAX {
        let mut end = OUTPUT_BYTES_MAX;
        while end > 0 && bytes[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        bytes = &bytes[..end];
    }
    if !medium::is_stopped() {
        // SAFETY: the prelude passes 1 or 2.
        host::write(unsafe { qjs::JS_VALUE_GET_INT(stream.raw()) }, bytes);
    }
    qjs::JS_UNDEFINED
}

unsafe extern "C" fn promise_state(
    _: *mut qjs::JSContext,
    _: qjs::JSValue,
    argc: i32,
    argv: *mut qjs::JSValue,
) -> qjs::JSValue {
    // SAFETY: the engine passes its arguments; what is no promise has a state of its own.
    unsafe {
        let promise = argument(argc, argv, 0);
        qjs::JS_MKVAL(qjs::JS_TAG_INT, qjs::JS_PromiseState(context(), promise.raw()))
    }
}

unsafe extern "C" fn promise_result(
    _: *mut qjs::JSContext,
    _: qjs::JSValue,
    argc: i32,
    argv: *mut qjs::JSValue,
) -> qjs::JSValue {
    // SAFETY: as above.
    unsafe {
        let promise = argument(argc, argv, 0);
        qjs::JS_PromiseResult(context(), promise.raw())
    }
}

unsafe extern "C" fn utf8_encode(
    _: *mut qjs::JSContext,
    _: qjs::JSValue,
    argc: i32,
    argv: *mut qjs::JSValue,
) -> qjs::JSValue {
    // SAFETY: the engine passes its arguments.
    let text = unsafe { argument(argc, argv, 0) };
    answer(text.to_text().and_then(|text| {
        let bytes = text.bytes();
        // SAFETY: the engine copies the bytes.
        Value::own(unsafe { qjs::JS_NewArrayBufferCopy(context(), bytes.as_ptr(), bytes.len() as qjs::size_t) })
    }))
}

/// `(buffer, offset, length, fatal)`: invalid sequences become U+FFFD, or throw.
unsafe extern "C" fn utf8_decode(
    _: *mut qjs::JSContext,
    _: qjs::JSValue,
    argc: i32,
    argv: *mut qjs::JSValue,
) -> qjs::JSValue {
    // SAFETY: the engine passes its arguments; the prelude passes numbers in the middle.
    let (buffer, offset, len, fatal) = unsafe {
        (
            argument(argc, argv, 0),
            qjs::JS_VALUE_GET_INT(argument(argc, argv, 1).raw()) as usize,
            qjs::JS_VALUE_GET_INT(argument(argc, argv, 2).raw()) as usize,
            qjs::JS_VALUE_GET_BOOL(argument(argc, argv, 3).raw()),
        )
    };
    let mut buffer_len: qjs::size_t = 0;
    // SAFETY: the value is live; nothing runs between here and the last use of the bytes.
    let start = unsafe { qjs::JS_GetArrayBuffer(context(), &raw mut buffer_len, buffer.raw()) };
    let all = if start.is_null() {
        // SAFETY: the context is live. An empty buffer has no start, and is no error.
        if unsafe { qjs::JS_HasException(context()) } {
            return qjs::JS_EXCEPTION;
        }
        &[]
    } else {
        // SAFETY: the engine says where the buffer is.
        unsafe { core::slice::from_raw_parts(start, buffer_len as usize) }
    };
    let bytes = all.get(offset..).and_then(|rest| rest.get(..len)).unwrap_or_default();
    if core::str::from_utf8(bytes).is_ok() {
        return answer(Value::text(bytes));
    }
    if fatal {
        // SAFETY: a plain message.
        return unsafe { qjs::JS_ThrowTypeError(context(), c"TextDecoder: the bytes are not UTF-8".as_ptr()) };
    }
    let mut lossy = Vec::new();
    for chunk in bytes.utf8_chunks() {
        let more = if chunk.invalid().is_empty() { "" } else { "\u{fffd}" };
        if lossy.try_reserve(chunk.valid().len() + more.len()).is_err() {
            // SAFETY: the context is live.
            return unsafe { qjs::JS_ThrowOutOfMemory(context()) };
        }
        lossy.extend_from_slice(chunk.valid().as_bytes());
        lossy.extend_from_slice(more.as_bytes());
    }
    answer(Value::text(&lossy))
}

unsafe extern "C" fn random(_: *mut qjs::JSContext, _: qjs::JSValue, _: i32, _: *mut qjs::JSValue) -> qjs::JSValue {
    // 53 bits: every double in [0, 1) that is a multiple of 2^-53.
    qjs::JS_NewFloat64((medium::draw() >> 11) as f64 / (1_u64 << 53) as f64)
}
