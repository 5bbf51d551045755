// What the medium adds to the language, evaluated once when the module is built. The expression is a function: it gets the
// native helpers, defines the globals, and returns what the native side calls.
//
// The code of an entity may replace any built-in by accident, so what is used here again and again is taken at the start.
(host) => {
  "use strict";
  const { output, utf8Encode, utf8Decode, promiseState, promiseResult, random } = host;
  const { stringify } = JSON;
  const { isArray } = Array;
  const { getPrototypeOf, getOwnPropertyDescriptor, defineProperty, freeze } = Object;
  const { ownKeys } = Reflect;
  const { min } = Math;
  const isView = ArrayBuffer.isView;
  const method = (type, name) => Function.prototype.call.bind(type.prototype[name]);
  const slice = method(String, "slice");
  const includes = method(String, "includes");
  const wellFormed = method(String, "toWellFormed");
  const replace = method(String, "replace");
  const split = method(String, "split");
  const isoDate = method(Date, "toISOString");
  const regexpText = method(RegExp, "toString");
  const functionText = method(Function, "toString");
  const symbolText = method(Symbol, "toString");
  const join = method(Array, "join");
  const pop = method(Array, "pop");
  const mapEach = method(Map, "forEach");
  const setEach = method(Set, "forEach");
  const WeakMapHere = WeakMap, WeakSetHere = WeakSet, MapHere = Map, SetHere = Set, DateHere = Date, RegExpHere = RegExp;
  const PromiseHere = Promise, ErrorHere = Error, TypeErrorHere = TypeError, SyntaxErrorHere = SyntaxError;
  const ArrayBufferHere = ArrayBuffer, DataViewHere = DataView, DOMExceptionHere = DOMException;
  const StringHere = String, NumberHere = Number;

  // Arrays made here get no setter of a patched Array.prototype in the way.
  const push = (list, item) => {
    defineProperty(list, list.length, { __proto__: null, value: item, writable: true, enumerable: true, configurable: true });
  };

  const hidden = (object, name, value) => {
    defineProperty(object, name, { __proto__: null, value, writable: true, enumerable: false, configurable: true });
  };

  // A string may hold half a character. JSON escapes it, but readers of JSON refuse it.
  const escapes = /\\(?:u(d[89a-f][0-9a-f]{2})|.)/g;
  const carried = (json) =>
    typeof json === "string" && includes(json, "\\ud") ? replace(json, escapes, (all, half) => (half ? "\ufffd" : all)) : json;

  // ---- Showing values ------------------------------------------------------------------------------------------------

  const DEPTH_MAX = 4; // levels below the value shown
  const ITEMS_MAX = 100; // of an array, map or set
  const KEYS_MAX = 60; // of an object
  const NESTED_TEXT_CHARS_MAX = 2000; // of a string inside something
  const LINE_CHARS = 76;

  const plainKey = /^[A-Za-z_$][\w$]*$/;
  const matches = method(RegExp, "test");
  const keyText = (key) =>
    typeof key === "symbol" ? "[" + symbolText(key) + "]" : matches(plainKey, key) ? key : stringify(key);

  const cleanStack = (stack) => {
    if (typeof stack !== "string") return "";
    const lines = split(stack, "\n");
    let clean = "";
    for (let i = 0; i < lines.length; i++) {
      const line = lines[i];
      if (line && !includes(line, "(cantrip:") && !includes(line, "at cantrip:") && !includes(line, "(native)")) {
        clean += (clean && "\n") + line;
      }
    }
    return clean;
  };

  const errorHead = (error) => {
    let name = "Error", message = "";
    try { name = StringHere(error.name); } catch {}
    try { message = StringHere(error.message); } catch {}
    return message ? name + ": " + message : name;
  };

  const className = (value) => {
    const prototype = getPrototypeOf(value);
    if (prototype === null) return null;
    const descriptor = getOwnPropertyDescriptor(prototype, "constructor");
    const made = descriptor && descriptor.value;
    const name = typeof made === "function" && getOwnPropertyDescriptor(made, "name");
    return (name && typeof name.value === "string" && name.value) || "Object";
  };

  // `chars` bounds the whole text; what lies beyond is named by its number, never silently dropped.
  const inspect = (value, chars) => {
    let left = chars;
    const ancestors = [];

    const spend = (text) => {
      left -= text.length + 2;
      return text;
    };

    const quoted = (text, most) => {
      most = min(most, left > 0 ? left : 0);
      if (text.length <= most) return spend(stringify(text));
      return spend(stringify(slice(text, 0, most)) + "… (" + (text.length - most) + " more characters)");
    };

    const show = (value, depth, indent) => {
      switch (typeof value) {
        case "string": return quoted(value, depth === 0 ? chars : NESTED_TEXT_CHARS_MAX);
        case "bigint": {
          const text = StringHere(value);
          return spend(text.length > 1000 ? slice(text, 0, 1000) + "…n" : text + "n");
        }
        case "symbol": return spend(symbolText(value));
        case "number": return spend(value === 0 && 1 / value < 0 ? "-0" : StringHere(value));
        case "function": case "object": break;
        default: return spend(StringHere(value));
      }
      if (value === null) return spend("null");
      for (let i = 0; i < ancestors.length; i++) if (ancestors[i] === value) return spend("[Circular]");
      push(ancestors, value);
      try {
        return showObject(value, depth, indent);
      } finally {
        pop(ancestors);
      }
    };

    const showObject = (value, depth, indent) => {
      let prefix = "", open = "{", close = "}";
      let packed = false; // short items share lines
      const parts = [];
      const inner = indent + "  ";
      let skipIndexes = false;
      const name = className(value);

      if (typeof value === "function") {
        const label = getOwnPropertyDescriptor(value, "name");
        const text = label && typeof label.value === "string" && label.value ? label.value : "(anonymous)";
        prefix = slice(functionText(value), 0, 6) === "class " ? "[class " + text + "]" : "[Function: " + text + "]";
        return spend(prefix);
      }
      if (value instanceof ErrorHere) {
        const stack = cleanStack(value.stack);
        prefix = errorHead(value) + (depth === 0 && stack ? "\n" + stack : "");
        if (depth > 0) prefix = "[" + prefix + "]";
      } else if (value instanceof DateHere) {
        try { prefix = isoDate(value); } catch { prefix = "Invalid Date"; }
      } else if (value instanceof RegExpHere) {
        prefix = regexpText(value);
      } else if (value instanceof PromiseHere) {
        const state = promiseState(value);
        prefix = "Promise ";
        if (state === 0) push(parts, "<pending>");
        else if (depth < DEPTH_MAX) push(parts, (state === 2 ? "<rejected> " : "") + show(promiseResult(value), depth + 1, inner));
      } else if (value instanceof WeakMapHere || value instanceof WeakSetHere) {
        prefix = name + " ";
        push(parts, "<items unknown>");
      }
      const boxed = prefix !== "" && parts.length === 0;
      if (boxed) spend(prefix);

      if (depth >= DEPTH_MAX) {
        if (boxed) return prefix;
        return spend("[" + (isArray(value) ? "Array(" + value.length + ")" : name || "Object") + "]");
      }

      if (isArray(value)) {
        open = "[", close = "]", packed = true, skipIndexes = true;
        if (name !== "Array") prefix = name + "(" + value.length + ") ";
        const shown = min(value.length, ITEMS_MAX);
        for (let i = 0; i < shown && left > 0; i++) push(parts, i in value ? show(value[i], depth + 1, inner) : "<empty>");
        if (parts.length < value.length) push(parts, "… " + (value.length - parts.length) + " more");
      } else if (isView(value) && !(value instanceof DataViewHere)) {
        open = "[", close = "]", packed = true, skipIndexes = true;
        prefix = name + "(" + value.length + ") ";
        const shown = min(value.length, ITEMS_MAX);
        for (let i = 0; i < shown && left > 0; i++) push(parts, show(value[i], depth + 1, inner));
        if (parts.length < value.length) push(parts, "… " + (value.length - parts.length) + " more");
      } else if (value instanceof ArrayBufferHere) {
        prefix = "ArrayBuffer ";
        push(parts, "byteLength: " + value.byteLength);
      } else if (value instanceof MapHere) {
        prefix = name + "(" + value.size + ") ";
        mapEach(value, (item, key) => {
          if (parts.length < ITEMS_MAX && left > 0) push(parts, show(key, depth + 1, inner) + " => " + show(item, depth + 1, inner));
        });
        if (parts.length < value.size) push(parts, "… " + (value.size - parts.length) + " more");
      } else if (value instanceof SetHere) {
        prefix = name + "(" + value.size + ") ", packed = true;
        setEach(value, (item) => {
          if (parts.length < ITEMS_MAX && left > 0) push(parts, show(item, depth + 1, inner));
        });
        if (parts.length < value.size) push(parts, "… " + (value.size - parts.length) + " more");
      } else if (!boxed && prefix === "" && name !== "Object") {
        prefix = name === null ? "[null prototype] " : name + " ";
      }

      const keys = ownKeys(value);
      let shownKeys = 0, hiddenKeys = 0;
      for (let i = skipIndexes ? min(keys.length, value.length) : 0; i < keys.length; i++) {
        const key = keys[i];
        const descriptor = getOwnPropertyDescriptor(value, key);
        if (!descriptor || !descriptor.enumerable) continue;
        if (shownKeys >= KEYS_MAX || left <= 0) {
          hiddenKeys++;
          continue;
        }
        shownKeys++;
        packed = false;
        const text = spend(keyText(key)) + ": ";
        if (descriptor.get || descriptor.set) push(parts, text + spend("[Getter]"));
        else push(parts, text + show(descriptor.value, depth + 1, inner));
      }
      if (hiddenKeys) push(parts, "… " + hiddenKeys + " more");

      if (parts.length === 0) return boxed ? prefix : prefix + open + close;
      if (boxed) prefix += " ";
      const padding = open === "{" ? " " : "";
      const line = prefix + open + padding + join(parts, ", ") + padding + close;
      if (line.length + indent.length <= LINE_CHARS && !includes(line, "\n")) return line;
      let text = prefix + open + "\n" + inner;
      let width = inner.length;
      for (let i = 0; i < parts.length; i++) {
        const part = parts[i];
        const comma = i + 1 < parts.length ? "," : "";
        if (i > 0) {
          if (packed && part.length <= 20 && width + part.length + 2 <= LINE_CHARS) {
            text += " ", width += 1;
          } else {
            text += "\n" + inner, width = inner.length;
          }
        }
        text += part + comma, width += part.length + 1;
      }
      return text + "\n" + indent + close;
    };

    return show(value, 0, "");
  };

  const OUTPUT_CHARS_MAX = 65536; // a chunk; the native side bounds its bytes as well

  const forms = /%[sdifjoOc%]/g;
  const format = (args) => {
    let text = "", from = 0;
    if (args.length > 1 && typeof args[0] === "string" && includes(args[0], "%")) {
      from = 1;
      text = replace(args[0], forms, (form) => {
        if (form === "%%") return "%";
        if (from >= args.length) return form;
        const value = args[from++];
        switch (form) {
          case "%s": return typeof value === "string" ? value : inspect(value, OUTPUT_CHARS_MAX);
          case "%d": case "%f": return typeof value === "object" ? "NaN" : StringHere(NumberHere(value));
          case "%i": return typeof value === "object" ? "NaN" : StringHere(Math.trunc(NumberHere(value)));
          case "%j": return StringHere(stringify(value));
          case "%c": return "";
          default: return inspect(value, OUTPUT_CHARS_MAX);
        }
      });
    }
    for (let i = from; i < args.length && text.length <= OUTPUT_CHARS_MAX; i++) {
      const value = args[i];
      text += (i > 0 ? " " : "") + (typeof value === "string" ? value : inspect(value, OUTPUT_CHARS_MAX));
    }
    return text;
  };

  const print = (stream, args) => {
    const text = wellFormed(format(args));
    if (text.length <= OUTPUT_CHARS_MAX) output(stream, text + "\n");
    else output(stream, slice(text, 0, OUTPUT_CHARS_MAX) + "… (" + (text.length - OUTPUT_CHARS_MAX) + " more characters)\n");
  };

  const console = {
    log(...args) { print(1, args); },
    info(...args) { print(1, args); },
    debug(...args) { print(1, args); },
    dir(value) { print(1, [value]); },
    table(value) { print(1, [value]); },
    warn(...args) { print(2, args); },
    error(...args) { print(2, args); },
    trace(...args) { print(2, args); },
    assert(truth, ...args) {
      if (!truth) print(2, args.length ? ["assertion failed:", ...args] : ["assertion failed"]);
    },
  };
  hidden(globalThis, "console", console);
  hidden(globalThis, "print", console.log);

  // ---- Gates ---------------------------------------------------------------------------------------------------------

  class GateError extends Error {
    constructor(message, { kind, gate } = {}) {
      super(message);
      this.kind = kind;
      this.gate = gate;
    }
  }
  hidden(GateError.prototype, "name", "GateError");
  hidden(globalThis, "GateError", GateError);

  const gateError = (message, kind, gate) => new GateError(message, { kind, gate });

  // What JSON would turn into `{}` or drop without a word.
  const uncarried = (value) => {
    switch (typeof value) {
      case "function": return "a function";
      case "symbol": return "a symbol";
      case "bigint": return "a BigInt: pass Number(x) or String(x)";
      case "object": break;
      default: return "";
    }
    if (value === null) return "";
    if (value instanceof PromiseHere) return "a promise: await it first";
    if (value instanceof MapHere) return "a Map: pass Object.fromEntries(map)";
    if (value instanceof SetHere) return "a Set: pass [...set]";
    if (value instanceof ArrayBufferHere || isView(value)) return "binary data: pass Array.from(bytes) or text";
    return "";
  };

  const simple = (value) => {
    switch (typeof value) {
      case "string": case "number": case "boolean": return true;
      default: return value === null;
    }
  };

  const encode = (gate, args) => {
    while (args.length > 0 && args[args.length - 1] === undefined) args.length--;
    let fast = true;
    for (let i = 0; fast && i < args.length; i++) fast = simple(args[i]);
    if (fast) return carried(stringify(args));
    let argument = 0;
    const check = function (key, value) {
      if (this === args) argument = +key + 1;
      const what = uncarried(value);
      if (what) {
        const place = this === args || key === "" ? "is" : "holds (at " + stringify(key) + ")";
        throw new TypeErrorHere(gate + ": argument " + argument + " " + place + " what JSON cannot carry: " + what);
      }
      return value;
    };
    try {
      return carried(stringify(args, check));
    } catch (error) {
      if (error instanceof TypeErrorHere && includes(StringHere(error.message), "circular")) {
        throw new TypeErrorHere(gate + ": argument " + argument + " contains itself, which JSON cannot carry");
      }
      throw error;
    }
  };

  // ---- Outcomes ------------------------------------------------------------------------------------------------------

  const VALUE_CHARS_MAX = 1048576; // of the completion value as JSON
  const TEXT_CHARS_MAX = 65536; // of its preview

  const outcome = (value) => {
    let json;
    try { json = carried(stringify(value)); } catch {}
    if (typeof json !== "string" || json.length > VALUE_CHARS_MAX) json = "null";
    const type = value === null ? "null" : isArray(value) ? "array" : typeof value;
    let text;
    try { text = inspect(value, TEXT_CHARS_MAX); } catch (error) { text = "(could not be shown: " + errorHead(error) + ")"; }
    return '{"ok":true,"value":' + json + ',"type":"' + type + '","text":' + stringify(wellFormed(text)) + "}";
  };

  const redeclared = /^redeclaration of '(.*)'$/;
  const found = method(RegExp, "exec");

  const describe = (error) => {
    let name = "Thrown", message = "", stack = "", more = "";
    if (typeof error === "object" && error !== null && (error instanceof ErrorHere || error instanceof DOMExceptionHere)) {
      try { name = StringHere(error.name); } catch { name = "Error"; }
      try { message = StringHere(error.message); } catch {}
      try { stack = cleanStack(error.stack); } catch {}
      if (error instanceof SyntaxErrorHere) {
        const match = found(redeclared, message);
        if (match) {
          message += ": an earlier turn declared it; assign to it without let, const or class, or choose another name";
        }
      }
      try {
        if (error.cause !== undefined) stack += (stack && "\n") + "caused by " + inspect(error.cause, 4096);
      } catch {}
      if (error instanceof GateError) {
        more = ',"kind":' + stringify(StringHere(error.kind)) + ',"gate":' + stringify(StringHere(error.gate));
      }
    } else {
      try { message = typeof error === "string" ? error : inspect(error, 4096); } catch {}
    }
    const text = (value, most) => stringify(wellFormed(slice(value, 0, most)));
    return '{"ok":false,"error":{"name":' + text(name, 256) + ',"message":' + text(message, 16384) +
      ',"stack":' + text(stack, 16384) + more + "}}";
  };

  const failure = (error) => {
    try {
      return describe(error);
    } catch {
      return '{"ok":false,"error":{"name":"Thrown","message":"(something that cannot be shown)","stack":""}}';
    }
  };

  const unhandled = (reason) => print(2, ["Uncaught (in promise)", reason]);

  // ---- The rest of what a reader expects -----------------------------------------------------------------------------

  // The engine's own is seeded when a context is made, so every instance of a snapshot would draw the same numbers.
  hidden(Math, "random", random);
  hidden(globalThis, "performance", performance);

  hidden(globalThis, "TextEncoder", class TextEncoder {
    get encoding() { return "utf-8"; }
    encode(text = "") { return new Uint8Array(utf8Encode(wellFormed(StringHere(text)))); }
    encodeInto(text, into) {
      const bytes = this.encode(text);
      let written = min(bytes.length, into.length);
      while (written > 0 && written < bytes.length && (bytes[written] & 0xc0) === 0x80) written--;
      into.set(bytes.subarray(0, written));
      return { read: utf8Decode(bytes.buffer, 0, written, false).length, written };
    }
  });
  hidden(globalThis, "TextDecoder", class TextDecoder {
    #fatal;
    #keepMark;
    constructor(label = "utf-8", { fatal = false, ignoreBOM = false } = {}) {
      const name = StringHere(label).trim().toLowerCase();
      if (name !== "utf-8" && name !== "utf8") throw new RangeError("TextDecoder: only utf-8 is supported, not " + label);
      this.#fatal = !!fatal;
      this.#keepMark = !!ignoreBOM;
    }
    get encoding() { return "utf-8"; }
    get fatal() { return this.#fatal; }
    get ignoreBOM() { return this.#keepMark; }
    decode(bytes = new Uint8Array(0)) {
      const view = isView(bytes) ? bytes : new Uint8Array(bytes);
      const text = utf8Decode(view.buffer, view.byteOffset, view.byteLength, this.#fatal);
      return !this.#keepMark && text.charCodeAt(0) === 0xfeff ? slice(text, 1) : text;
    }
  });

  hidden(globalThis, "structuredClone", function structuredClone(value) {
    const made = new Map();
    const refuse = (what) => { throw new DOMExceptionHere(what + " could not be cloned", "DataCloneError"); };
    const clone = (value) => {
      if (typeof value === "function") refuse("a function");
      if (typeof value === "symbol") refuse("a symbol");
      if (typeof value !== "object" || value === null) return value;
      if (made.has(value)) return made.get(value);
      const keep = (copy) => (made.set(value, copy), copy);
      if (value instanceof Date) return keep(new Date(value.getTime()));
      if (value instanceof RegExp) return keep(new RegExp(value.source, value.flags));
      if (value instanceof ArrayBuffer) return keep(value.slice(0));
      if (isView(value)) {
        const length = value instanceof DataView ? value.byteLength : value.length;
        return keep(new value.constructor(clone(value.buffer), value.byteOffset, length));
      }
      if (value instanceof Map) {
        const copy = keep(new Map());
        value.forEach((item, key) => copy.set(clone(key), clone(item)));
        return copy;
      }
      if (value instanceof Set) {
        const copy = keep(new Set());
        value.forEach((item) => copy.add(clone(item)));
        return copy;
      }
      if (value instanceof Promise || value instanceof WeakMap || value instanceof WeakSet) refuse("a " + className(value));
      if (value instanceof Error) {
        const copy = keep(new (globalThis[value.name] ?? Error)(value.message));
        hidden(copy, "stack", value.stack);
        if ("cause" in value) hidden(copy, "cause", clone(value.cause));
        return copy;
      }
      if (value instanceof Boolean || value instanceof Number || value instanceof String) return keep(Object(value.valueOf()));
      const copy = keep(isArray(value) ? new Array(value.length) : {});
      for (const key of Object.keys(value)) copy[key] = clone(value[key]);
      return copy;
    };
    return clone(value);
  });

  for (const name of ["setTimeout", "setInterval", "setImmediate"]) {
    hidden(globalThis, name, { [name]() {
      throw new Error(name + ": there are no timers in this medium; gates are synchronous, so there is nothing to wait for");
    } }[name]);
  }

  return { encode, gateError, outcome, failure, unhandled };
}
