#![expect(clippy::disallowed_methods, reason = "a build script reads its environment and writes to its folder")]

//! Generates the protocol's code, without protoc.

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

use tonic_prost_build::Config;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(["cantrip/v1/node.proto"], ["proto"])?;
    let mut config = Config::new();
    config.bytes(["."]);
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo gives a folder to write to")?);
    // For reflection.
    fs::write(out.join("cantrip.v1.bin"), protox::prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure().compile_fds_with_config(descriptors, config)?;
    Ok(())
}
