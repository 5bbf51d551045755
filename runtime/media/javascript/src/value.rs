//! Owned JavaScript values, so that no reference is counted by hand outside this file.

use core::ffi::CStr;

use rquickjs_sys as qjs;

use crate::medium::context;

/// One counted reference, given back when dropped.
pub(crate) struct Value(qjs::JSValue);

/// An exception is pending in the context.
pub(crate) struct Thrown;

impl Value {
    /// Takes over a reference that the engine handed out; an exception becomes the error.
    pub(crate) fn own(raw: qjs::JSValue) -> Result<Self, Thrown> {
        // SAFETY: looks at the tag alone.
        if unsafe { qjs::JS_IsException(raw) } { Err(Thrown) } else { Ok(Self(raw)) }
    }

    /// A further reference to what the engine lends.
    pub(crate) fn borrowed(raw: qjs::JSValue) -> Self {
        // SAFETY: a lent value is live.
        Self(unsafe { qjs::JS_DupValue(context(), raw) })
    }

    pub(crate) const fn undefined() -> Self {
        Self(qjs::JS_UNDEFINED)
    }

    /// The pending exception, which is pending no more.
    pub(crate) fn exception() -> Self {
        // SAFETY: the context is live.
        let raw = unsafe { qjs::JS_GetException(context()) };
        // SAFETY: looks at the tag alone. An error that could not be built for want of memory leaves this behind.
        if unsafe { qjs::JS_IsUninitialized(raw) } { Self(qjs::JS_NULL) } else { Self(raw) }
    }

    /// A string of UTF-8 text.
    pub(crate) fn text(text: &[u8]) -> Result<Self, Thrown> {
        // SAFETY: the engine copies the bytes.
        Self::own(unsafe { qjs::JS_NewStringLen(context(), text.as_ptr().cast(), text.len() as qjs::size_t) })
    }

    /// Reads JSON. The byte after the text is NUL, as the engine's parser wants.
    pub(crate) fn from_json(text: &Zeroed<'_>, name: &CStr) -> Result<Self, Thrown> {
        let bytes = text.0;
        // SAFETY: `Zeroed` has the NUL behind its text.
        Self::own(unsafe {
            qjs::JS_ParseJSON(context(), bytes.as_ptr().cast(), (bytes.len() - 1) as qjs::size_t, name.as_ptr())
        })
    }

    /// The value, still owned here.
    pub(crate) fn raw(&self) -> qjs::JSValue {
        self.0
    }

    /// Hands the reference over to the engine.
    pub(crate) fn into_raw(self) -> qjs::JSValue {
        let raw = self.0;
        core::mem::forget(self);
        raw
    }

    pub(crate) fn property(&self, name: &CStr) -> Result<Self, Thrown> {
        // SAFETY: the value is live.
        Self::own(unsafe { qjs::JS_GetPropertyStr(context(), self.0, name.as_ptr()) })
    }

    pub(crate) fn item(&self, index: u32) -> Result<Self, Thrown> {
        // SAFETY: the value is live.
        Self::own(unsafe { qjs::JS_GetPropertyUint32(context(), self.0, index) })
    }

    /// Defines a property; `flags` are `JS_PROP_*`.
    pub(crate) fn define(&self, name: &CStr, value: Self, flags: u32) -> Result<(), Thrown> {
        // SAFETY: the value is live; the engine takes over the one given.
        let result = unsafe {
            qjs::JS_DefinePropertyValueStr(context(), self.0, name.as_ptr(), value.into_raw(), flags.cast_signed())
        };
        if result < 0 { Err(Thrown) } else { Ok(()) }
    }

    /// Calls it as a function.
    pub(crate) fn call(&self, arguments: &[&Self]) -> Result<Self, Thrown> {
        let mut raw = [qjs::JS_UNDEFINED; 4];
        for (slot, argument) in raw.iter_mut().zip(arguments) {
            *slot = argument.0;
        }
        let count = arguments.len().min(raw.len());
        // SAFETY: everything passed is live for the call.
        Self::own(unsafe { qjs::JS_Call(context(), self.0, qjs::JS_UNDEFINED, count as i32, raw.as_mut_ptr()) })
    }

    /// Its text, for as long as the result lives.
    pub(crate) fn to_text(&self) -> Result<Text, Thrown> {
        let mut len: qjs::size_t = 0;
        // SAFETY: the value is live; the engine's copy is freed by `Text`.
        let start = unsafe { qjs::JS_ToCStringLen2(context(), &raw mut len, self.0, false) };
        if start.is_null() { Err(Thrown) } else { Ok(Text { start: start.cast(), len: len as usize }) }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        // SAFETY: this reference is ours.
        unsafe { qjs::JS_FreeValue(context(), self.0) }
    }
}

/// Bytes of a string, held by the engine.
pub(crate) struct Text {
    start: *const u8,
    len: usize,
}

impl Text {
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the engine gave this pointer and length, and keeps them until they are freed.
        unsafe { core::slice::from_raw_parts(self.start, self.len) }
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        // SAFETY: it came from JS_ToCStringLen2.
        unsafe { qjs::JS_FreeCString(context(), self.start.cast()) }
    }
}

/// Bytes whose last is NUL.
pub(crate) struct Zeroed<'a>(&'a [u8]);

impl<'a> Zeroed<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Option<Self> {
        bytes.ends_with(&[0]).then_some(Self(bytes))
    }

    /// The text without its NUL.
    pub(crate) fn text(&self) -> &'a [u8] {
        &self.0[..self.0.len() - 1]
    }
}
