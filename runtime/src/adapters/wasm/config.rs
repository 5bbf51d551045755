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

/// The settings of an engine. `metered` counts instructions, which costs about a quarter of the speed and is therefore on
/// only where a ward asks for it.
pub(super) fn config(instances_max: u32, metered: bool) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(instances_max)
        .total_memories(instances_max)
        .total_tables(instances_max)
        .total_stacks(instances_max)
        .max_memories_per_module(1)
        .max_tables_per_module(2)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_core_instance_size(INSTANCE_BYTES_MAX)
        .max_memory_size(usize::try_from(MEMORY_BYTES_MAX).unwrap_or(usize::MAX))
        .linear_memory_keep_resident(RESIDENT_BYTES)
        .table_keep_resident(TABLE_ELEMENTS_MAX * 8)
        .pagemap_scan(Enabled::Auto);
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
