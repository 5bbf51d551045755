//! `cantrip-preinit IN OUT`: runs a medium's `_initialize` once and writes the module with the memory it left behind.
//!
//! Refuses a module that imports anything but the medium's interface, or keeps state where a copy of its memory would
//! not find it, and says so: the runtime relies on both.

use std::path::Path;

use wasmparser::{Operator, Parser, Payload};
use wasmtime::error::Context as _;
use wasmtime::{Caller, Config, Engine, Extern, Linker, Result, Store, bail, ensure};
use wasmtime_wizer::Wizer;

/// All that a medium may import.
const IMPORTS: [&str; 5] = ["clock_ns", "gate_call", "gate_take", "interrupted", "output"];
/// All that it exports.
const EXPORTS: [&str; 4] = ["buffer", "configure", "evaluate", "memory"];

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(from), Some(to), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        bail!("usage: cantrip-preinit IN.wasm OUT.wasm");
    };
    let (from, to) = (Path::new(&from), Path::new(&to));
    let module = std::fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    let initialised = initialise(&module).with_context(|| format!("initialising {}", from.display()))?;
    let shape = inspect(&initialised)?;
    std::fs::write(to, &initialised).with_context(|| format!("writing {}", to.display()))?;
    eprintln!("{}: {} bytes, {shape}", to.display(), initialised.len());
    Ok(())
}

/// During initialisation it is 1970, and there is nobody to talk to.
fn initialise(module: &[u8]) -> Result<Vec<u8>> {
    let engine = Engine::new(&Config::new())?;
    let mut linker: Linker<()> = Linker::new(&engine);
    linker.func_wrap("cantrip", "clock_ns", || 0_i64)?;
    linker.func_wrap("cantrip", "interrupted", || 0_i32)?;
    linker.func_wrap("cantrip", "gate_call", |_: i32, _: i32, _: i32, _: i32| -> Result<i64> {
        bail!("a gate was called")
    })?;
    linker.func_wrap("cantrip", "gate_take", |_: i32| -> Result<()> { bail!("a gate was called") })?;
    linker.func_wrap(
        "cantrip",
        "output",
        |mut caller: Caller<'_, ()>, _: i32, at: u32, length: u32| -> Result<()> {
            // What is printed now is why the initialisation failed.
            let memory = caller.get_export("memory").and_then(Extern::into_memory);
            let bytes =
                memory.as_ref().and_then(|memory| memory.data(&caller).get(at as usize..(at + length) as usize));
            bail!("the medium said: {}", String::from_utf8_lossy(bytes.unwrap_or_default()))
        },
    )?;
    let mut wizer = Wizer::new();
    wizer.init_func("_initialize");
    let mut store = Store::new(&engine, ());
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let initialised = runtime
        .block_on(wizer.run(&mut store, module, async |store, module| linker.instantiate_async(store, module).await))?;
    Ok(initialised)
}

/// Checks the module's interface and describes its size.
fn inspect(module: &[u8]) -> Result<String> {
    let (mut pages, mut data_bytes, mut mutable, mut exports) = (0, 0, Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import?;
                    ensure!(
                        import.module == "cantrip" && IMPORTS.contains(&import.name),
                        "imports {}.{}, which is no part of the medium's interface",
                        import.module,
                        import.name
                    );
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    exports.push(export?.name.to_owned());
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    pages += memory?.initial;
                }
            }
            Payload::GlobalSection(globals) => {
                for global in globals {
                    let global = global?;
                    if global.ty.mutable {
                        let value = global.init_expr.get_operators_reader().read()?;
                        mutable.push(match value {
                            Operator::I32Const { value } => value.to_string(),
                            other => format!("{other:?}"),
                        });
                    }
                }
            }
            Payload::DataSection(segments) => {
                for segment in segments {
                    data_bytes += segment?.data.len();
                }
            }
            Payload::CustomSection(section) => bail!("carries a custom section {:?}", section.name()),
            _ => {}
        }
    }
    exports.sort_unstable();
    ensure!(exports == EXPORTS, "exports {exports:?} and not {EXPORTS:?}");
    ensure!(mutable.len() == 1, "has {} mutable globals and not just the stack pointer", mutable.len());
    Ok(format!(
        "{pages} pages of memory, {data_bytes} bytes of data, the one mutable global (stack pointer) at {}",
        mutable[0]
    ))
}
