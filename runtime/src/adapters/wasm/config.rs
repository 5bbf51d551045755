//! The one place where `wasmtime::Config` is made.

use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

/// 4 000. The ceiling of live instances is the kernel's 65 530 mappings for a process, at about three for an instance
/// (measured: a pool ends near 13 000); what is refused below it is refused with a clear error.
pub const INSTANCES_MAX_DEFAULT: u32 = 4_000;
/// 256 MiB. The most that `max_memory_bytes` can give to one instance.
pub const MEMORY_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// 2 MiB of native stack for a guest's calls, 1 MiB of it for wasm frames: the interpreter stops its own recursion at
/// less, as an error that code can catch.
const STACK_BYTES: usize = 2 * 1024 * 1024;
const WASM_STACK_BYTES: usize = 1024 * 1024;
/// 1 MiB. Pages of a used slot that are zeroed instead of given back: without it the pool does not scale over cores.
const RESIDENT_BYTES: usize = 1024 * 1024;
/// 10 000 elements: the interpreter has about 1 500 functions in its table.
const TABLE_ELEMENTS_MAX: usize = 10_000;
/// 1 MiB. What the engine keeps of an instance beside its memory.
const INSTANCE_BYTES_MAX: usize = 1024 * 1024;

/// 1 000. How many guests live at once; each has its own memories and up to a hundred core instances.
pub(super) const GUESTS_MAX: u32 = 1_000;
/// 128. Python's linked libraries are about 30 core instances.
const GUEST_PARTS_MAX: u32 = 128;
/// 100 000 elements: an interpreter has about 20 000 functions in its table.
const GUEST_TABLE_ELEMENTS_MAX: usize = 100_000;

/// The settings of the engine of the built-in media. `metered` counts instructions, which costs about a quarter of the
/// speed and is therefore on only where a ward asks for it.
pub(super) fn interpreters(instances_max: u32, metered: bool) -> Config {
    let mut pool = pool();
    pool.total_core_instances(instances_max)
        .total_memories(instances_max)
        .total_tables(instances_max)
        .total_stacks(instances_max)
        .max_memories_per_module(1)
        .max_tables_per_module(2)
        .table_elements(TABLE_ELEMENTS_MAX)
        .table_keep_resident(TABLE_ELEMENTS_MAX * 8);
    config(pool, metered)
}

/// The settings of the engine of guests.
pub(super) fn guests(metered: bool) -> Config {
    let mut pool = pool();
    pool.total_component_instances(GUESTS_MAX)
        // A count and no memory: a crowd of guests of many parts leaves room for the others.
        .total_core_instances(GUESTS_MAX.saturating_mul(GUEST_PARTS_MAX))
        .total_memories(GUESTS_MAX)
        .total_tables(GUESTS_MAX.saturating_mul(4))
        .total_stacks(GUESTS_MAX)
        .max_core_instances_per_component(GUEST_PARTS_MAX)
        .max_memories_per_component(8)
        .max_tables_per_component(16)
        .max_component_instance_size(INSTANCE_BYTES_MAX)
        .max_tables_per_module(4)
        .table_elements(GUEST_TABLE_ELEMENTS_MAX)
        .table_keep_resident(TABLE_ELEMENTS_MAX * 8);
    config(pool, metered)
}

fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.max_core_instance_size(INSTANCE_BYTES_MAX)
        .max_memory_size(usize::try_from(MEMORY_BYTES_MAX).unwrap_or(usize::MAX))
        .linear_memory_keep_resident(RESIDENT_BYTES)
        .pagemap_scan(Enabled::Auto);
    pool
}

/// What holds for every engine.
fn config(pool: PoolingAllocationConfig, metered: bool) -> Config {
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        // Code that computes is stopped by the epoch, whatever it does.
        .epoch_interruption(true)
        .consume_fuel(metered)
        .async_stack_size(STACK_BYTES)
        .max_wasm_stack(WASM_STACK_BYTES)
        // A stack is used by one guest after another: nothing of the first may be seen by the second.
        .async_stack_zeroing(true)
        // Only WASI 0.3 needs it, and it makes every gate slower.
        .concurrency_support(false)
        .wasm_memory64(false)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(16))
        .memory_init_cow(true);
    config
}
