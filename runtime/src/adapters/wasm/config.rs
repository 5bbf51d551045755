//! The one place where `wasmtime::Config` is made.

use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::domain::limits::{
    GUEST_INSTANCES_MAX, GUEST_PARTS_MAX, GUEST_TABLE_ELEMENTS_MAX, INSTANCE_BYTES_MAX, MEMORY_BYTES_MAX,
    WASM_STACK_BYTES_MAX,
};

/// 2 MiB of native stack for a guest's calls, 1 MiB of it for wasm frames: the interpreter stops its own recursion at
/// less, as an error that code can catch.
const STACK_BYTES: usize = 2 * 1024 * 1024;
/// 1 MiB. Pages of a used slot that are zeroed instead of given back: without it the pool does not scale over cores.
const RESIDENT_BYTES: usize = 1024 * 1024;
/// 10 000 elements: the interpreter has about 1 500 functions in its table.
const INTERPRETER_TABLE_ELEMENTS: usize = 10_000;

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
        .table_elements(INTERPRETER_TABLE_ELEMENTS)
        .table_keep_resident(INTERPRETER_TABLE_ELEMENTS * 8);
    config(pool, metered)
}

/// The settings of the engine of guests.
pub(super) fn guests(metered: bool) -> Config {
    let mut pool = pool();
    pool.total_component_instances(GUEST_INSTANCES_MAX)
        // A count and no memory: a crowd of guests of many parts leaves room for the others.
        .total_core_instances(GUEST_INSTANCES_MAX.saturating_mul(GUEST_PARTS_MAX))
        .total_memories(GUEST_INSTANCES_MAX)
        .total_tables(GUEST_INSTANCES_MAX.saturating_mul(4))
        .total_stacks(GUEST_INSTANCES_MAX)
        .max_core_instances_per_component(GUEST_PARTS_MAX)
        .max_memories_per_component(8)
        .max_tables_per_component(16)
        .max_component_instance_size(INSTANCE_BYTES_MAX)
        .max_tables_per_module(4)
        .table_elements(GUEST_TABLE_ELEMENTS_MAX)
        .table_keep_resident(INTERPRETER_TABLE_ELEMENTS * 8);
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
        .max_wasm_stack(WASM_STACK_BYTES_MAX)
        // A stack is used by one guest after another: nothing of the first may be seen by the second.
        .async_stack_zeroing(true)
        // Only WASI 0.3 needs it, and it makes every gate slower.
        .concurrency_support(false)
        .wasm_memory64(false)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(16))
        .memory_init_cow(true);
    config
}
