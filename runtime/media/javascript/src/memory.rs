//! The heap: the C library's allocator behind a bound for what QuickJS allocates, and the same allocator, unbounded but
//! little used, for Rust.
//!
//! The bound is our own and not the engine's, because a full heap must stay usable: building an error needs memory, and so
//! does the `big = null` of the next turn. An evaluation that hits the bound gets a little more, once; and each evaluation
//! starts with some room, however full the heap is.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use core::ffi::c_void;

use rquickjs_sys as qjs;

/// 256 KiB: what an evaluation may use beyond what is there, when the heap is full at its start.
const ROOM_BYTES: usize = 256 * 1024;
/// 64 KiB: enough for an error, its stack and its outcome.
const RESERVE_BYTES: usize = 64 * 1024;
/// 1 MiB: how far such room can take the heap beyond its bound, over any number of evaluations.
const BEYOND_BYTES_MAX: usize = 1024 * 1024;

#[link(name = "c")]
unsafe extern "C" {
    fn malloc(size: usize) -> *mut c_void;
    fn calloc(count: usize, size: usize) -> *mut c_void;
    fn realloc(pointer: *mut c_void, size: usize) -> *mut c_void;
    fn free(pointer: *mut c_void);
    fn malloc_usable_size(pointer: *const c_void) -> usize;
    fn aligned_alloc(align: usize, size: usize) -> *mut c_void;
}

struct Heap {
    used_bytes: Cell<usize>,
    bound_bytes: Cell<usize>,
    bytes_max: Cell<usize>,
    refused: Cell<bool>,
}

// SAFETY: the module has one thread; nothing is shared.
unsafe impl Sync for Heap {}

static HEAP: Heap = Heap {
    used_bytes: Cell::new(0),
    bound_bytes: Cell::new(usize::MAX),
    bytes_max: Cell::new(usize::MAX),
    refused: Cell::new(false),
};

/// Sets the bound for the engine's heap.
pub(crate) fn set_bytes_max(bytes: usize) {
    HEAP.bytes_max.set(bytes);
    HEAP.bound_bytes.set(bytes);
}

/// Opens an evaluation: room even in a full heap, and no refusal yet.
pub(crate) fn open() {
    let bytes_max = HEAP.bytes_max.get();
    let with_room = HEAP.used_bytes.get().saturating_add(ROOM_BYTES);
    HEAP.bound_bytes.set(with_room.min(bytes_max.saturating_add(BEYOND_BYTES_MAX)).max(bytes_max));
    HEAP.refused.set(false);
}

/// Whether an allocation of this evaluation was refused.
pub(crate) fn was_refused() -> bool {
    HEAP.refused.get()
}

/// The most the engine may use, and what it uses.
pub(crate) fn bytes_max_and_used() -> (usize, usize) {
    (HEAP.bytes_max.get(), HEAP.used_bytes.get())
}

/// Whether `more` bytes fit. Says no at the bound, and from then on leaves room for telling.
fn admits(more: usize) -> bool {
    let fits = HEAP.used_bytes.get().checked_add(more).is_some_and(|bytes| bytes <= HEAP.bound_bytes.get());
    if !fits {
        refuse();
    }
    fits
}

fn refuse() {
    if !HEAP.refused.replace(true) {
        HEAP.bound_bytes.set(HEAP.bound_bytes.get().saturating_add(RESERVE_BYTES));
    }
}

fn account(pointer: *mut c_void) -> *mut c_void {
    if pointer.is_null() {
        refuse();
    } else {
        // SAFETY: the pointer was just allocated.
        let bytes = unsafe { malloc_usable_size(pointer) };
        HEAP.used_bytes.set(HEAP.used_bytes.get() + bytes);
    }
    pointer
}

unsafe extern "C" fn js_calloc(_: *mut c_void, count: qjs::size_t, size: qjs::size_t) -> *mut c_void {
    match (count as usize).checked_mul(size as usize) {
        // SAFETY: plain numbers.
        Some(bytes) if admits(bytes) => account(unsafe { calloc(count as usize, size as usize) }),
        _ => core::ptr::null_mut(),
    }
}

unsafe extern "C" fn js_malloc(_: *mut c_void, size: qjs::size_t) -> *mut c_void {
    if !admits(size as usize) {
        return core::ptr::null_mut();
    }
    // SAFETY: a plain number.
    account(unsafe { malloc(size as usize) })
}

unsafe extern "C" fn js_free(_: *mut c_void, pointer: *mut c_void) {
    if pointer.is_null() {
        return;
    }
    // SAFETY: the engine frees what it got from here.
    unsafe {
        HEAP.used_bytes.set(HEAP.used_bytes.get() - malloc_usable_size(pointer));
        free(pointer);
    }
}

unsafe extern "C" fn js_realloc(opaque: *mut c_void, pointer: *mut c_void, size: qjs::size_t) -> *mut c_void {
    if pointer.is_null() {
        // SAFETY: as for any allocation.
        return unsafe { js_malloc(opaque, size) };
    }
    if size == 0 {
        // SAFETY: the engine frees what it got from here.
        unsafe { js_free(opaque, pointer) };
        return core::ptr::null_mut();
    }
    // SAFETY: the engine passes what it got from here.
    let before = unsafe { malloc_usable_size(pointer) };
    if !admits((size as usize).saturating_sub(before)) {
        return core::ptr::null_mut();
    }
    // SAFETY: as above.
    let moved = unsafe { realloc(pointer, size as usize) };
    if moved.is_null() {
        refuse();
        return moved;
    }
    HEAP.used_bytes.set(HEAP.used_bytes.get() - before);
    account(moved)
}

unsafe extern "C" fn js_usable_size(pointer: *const c_void) -> qjs::size_t {
    if pointer.is_null() {
        return 0;
    }
    // SAFETY: the engine asks for what it got from here.
    unsafe { malloc_usable_size(pointer) as qjs::size_t }
}

/// What the engine allocates with.
pub(crate) static FUNCTIONS: qjs::JSMallocFunctions = qjs::JSMallocFunctions {
    js_calloc: Some(js_calloc),
    js_malloc: Some(js_malloc),
    js_free: Some(js_free),
    js_realloc: Some(js_realloc),
    js_malloc_usable_size: Some(js_usable_size),
};

struct CLibrary;

/// What `malloc` aligns to.
const MALLOC_ALIGN: usize = 16;

// SAFETY: forwards to the C library, whose contract is the same.
unsafe impl GlobalAlloc for CLibrary {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: plain numbers; aligned_alloc wants a multiple of the alignment.
        unsafe {
            if layout.align() <= MALLOC_ALIGN {
                malloc(layout.size()).cast()
            } else {
                aligned_alloc(layout.align(), layout.size().next_multiple_of(layout.align())).cast()
            }
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, _: Layout) {
        // SAFETY: it came from `alloc`.
        unsafe { free(pointer.cast()) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.align() <= MALLOC_ALIGN {
            // SAFETY: it came from `alloc`.
            return unsafe { realloc(pointer.cast(), size).cast() };
        }
        // SAFETY: the new block is checked, and both hold the bytes copied.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                core::ptr::copy_nonoverlapping(pointer, moved, layout.size().min(size));
                free(pointer.cast());
            }
            moved
        }
    }
}

#[global_allocator]
static RUST: CLibrary = CLibrary;
