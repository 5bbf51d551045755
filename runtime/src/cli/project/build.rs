//! `build`: a project to a component, with the tools of its language. What is missing is named, with the command that
//! brings it.
#![expect(clippy::disallowed_methods, reason = "runs compilers, and reads and writes the files of a project")]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::adapters::reading;
use crate::adapters::wasm::{Guests, read_guest_file};
use crate::cli::args::BuildArgs;
use crate::cli::exit::{CliError, Exit};
use crate::cli::settings::{guest_name, home, is_guest_file};
use crate::cli::trust::{Project, resolved};
use crate::cli::{print_result, say};
use crate::domain::limits::CANTRIP_FILE_BYTES_MAX;

const TARGET: &str = "wasm32-wasip2";
/// The variables that a project's tools are given. Its build scripts run as its user, and most of an environment is not theirs: keys
/// of providers above all.
const PASSED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TERM",
    "COLORTERM",
    "NO_COLOR",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CARGO_HOME",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_JOBS",
    "CARGO_INCREMENTAL",
    "CARGO_NET_OFFLINE",
    "CARGO_HTTP_CAINFO",
    "CARGO_TERM_COLOR",
    "CARGO_TERM_PROGRESS_WHEN",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "RUSTUP_AUTO_INSTALL",
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTFLAGS",
    "RUST_BACKTRACE",
    "CC",
    "AR",
    "CFLAGS",
    "WASI_SDK_PATH",
    "CANTRIP_TOOLCHAIN",
    "CANTRIP_TOOLCHAIN_OFFLINE",
    "LD_LIBRARY_PATH",
    "VIRTUAL_ENV",
    "PYTHONHOME",
    "PYTHONPATH",
    "NODE_PATH",
    "NVM_DIR",
    "NVM_BIN",
    "VOLTA_HOME",
];
/// Proxies, which are passed on where there is no password in them.
const PROXIES: &[&str] = &["http_proxy", "https_proxy", "all_proxy", "no_proxy"];

/// The environment of a project's tools.
struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    /// What is listed, and what the person has named.
    fn new(named: &[String]) -> Self {
        let (passed, kept): (Vec<_>, Vec<_>) = std::env::vars_os().partition(|(name, value)| {
            let name = name.to_string_lossy();
            let is_proxy = PROXIES.iter().any(|proxy| name.eq_ignore_ascii_case(proxy));
            PASSED.contains(&&*name)
                || name.starts_with("LC_")
                || named.iter().any(|it| *it == name)
                || is_proxy && !value.to_string_lossy().contains('@')
        });
        if !kept.is_empty() {
            say(&format!(
                "the project's tools get PATH, HOME and what compilers read; {} other variables are kept from them (--env NAME passes one on)",
                kept.len()
            ));
        }
        Self(passed)
    }

    /// A tool that is run for the project.
    fn tool(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(self.0.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// Makes a compiler available that rustup has not installed. The same script sets CI up.
const TOOLCHAIN: &str = include_str!("../../../../.ci/wasm-toolchain");

pub(crate) fn build(args: &BuildArgs) -> Result<Exit, CliError> {
    let folder = &args.folder;
    if !folder.is_dir() {
        return Err(CliError::usage(anyhow::anyhow!("there is no folder {}", folder.display()))
            .hint(format!("`cantrip-runtime new {} --lang rust` makes a project", folder.display())));
    }
    let folder = fs::canonicalize(folder).map_err(CliError::usage)?;
    let has = |name: &str| folder.join(name).exists();
    let output = output(args, &folder)?;
    let tools = || Environment::new(&args.env);
    match (has("Cargo.toml"), has("package.json"), has("guest.py")) {
        (true, _, _) => rust(&tools(), &folder, &output, args.fetch_toolchain)?,
        (_, true, _) => javascript(&tools(), &folder, &output)?,
        (_, _, true) => python(&tools(), &folder, &output)?,
        _ => {
            return Err(CliError::usage(anyhow::anyhow!(
                "{} holds no guest: no Cargo.toml, package.json or guest.py",
                folder.display()
            ))
            .hint("`cantrip-runtime new DIR --lang rust|javascript|python` makes one"));
        }
    }
    let bytes = read_guest_file(&output).map_err(CliError::fault)?;
    let manifest = Guests::inspect(&guest_name(&output), &bytes).map_err(|error| CliError {
        exit: Exit::Failed,
        source: error.into(),
        hint: None,
    })?;
    print_result(&output.display().to_string())?;
    let gates: Vec<&str> = manifest.gates().into_iter().collect();
    let gates = if gates.is_empty() { "no gates".to_owned() } else { gates.join(", ") };
    say(&format!(
        "{}: {} bytes, world {}, needs {gates}",
        manifest.reference(),
        manifest.bytes,
        manifest.shape.world()
    ));
    Ok(Exit::Done)
}

/// Where the cantrip file expects the component; else beside the sources, under the folder's name.
fn output(args: &BuildArgs, folder: &Path) -> Result<PathBuf, CliError> {
    #[derive(Default, Deserialize)]
    struct Cantrip {
        guest: Option<toml::Table>,
        circle: Option<toml::Table>,
    }
    if let Some(output) = &args.output {
        return std::path::absolute(output).map_err(CliError::usage);
    }
    let file = folder.join("cantrip.toml");
    let cantrip: Cantrip = match reading::text(&file, CANTRIP_FILE_BYTES_MAX) {
        Ok(text) => toml::from_str(&text)
            .map_err(|error| CliError::usage(anyhow::Error::new(error).context(file.display().to_string())))?,
        Err(_) => Cantrip::default(),
    };
    let text = |value: Option<&toml::Value>| value.and_then(toml::Value::as_str).map(str::to_owned);
    let component = cantrip.guest.and_then(|guest| text(guest.get("component")));
    let medium = cantrip.circle.and_then(|circle| text(circle.get("medium").and_then(|medium| medium.get("guest"))));
    let named = component.or(medium).filter(|reference| is_guest_file(reference));
    if let Some(named) = &named
        && !Project::of(&file, home()).holds_file(&resolved(&folder.join(named)))
    {
        // Whoever wrote the file would otherwise choose what is overwritten.
        let what = format!("{} names a component outside of its own project: {named}", file.display());
        return Err(CliError::usage(anyhow::anyhow!(what)).hint("--output FILE says where the component goes"));
    }
    Ok(folder.join(named.unwrap_or_else(|| format!("{}.wasm", guest_name(folder)))))
}

/// Runs a tool whose words go to stderr: stdout is for the result.
fn run(command: &mut Command, what: &str) -> Result<(), CliError> {
    let status = command.stdin(Stdio::null()).stdout(std::io::stderr()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(CliError {
            exit: Exit::Failed,
            source: anyhow::anyhow!("{what} ended with {status}"),
            hint: Some("its words are above".to_owned()),
        }),
        Err(error) => Err(CliError::usage(anyhow::Error::new(error).context(format!("{what} could not be started")))),
    }
}

fn rust(tools: &Environment, folder: &Path, output: &Path, may_fetch: bool) -> Result<(), CliError> {
    let probe = |arguments: &[&str]| -> Option<String> {
        let output = tools.tool("rustc").args(arguments).env("RUSTUP_AUTO_INSTALL", "0").output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    if probe(&["--version"]).is_none() {
        return Err(
            CliError::usage(anyhow::anyhow!("there is no Rust compiler here")).hint("https://rustup.rs installs one")
        );
    }
    let library = probe(&["--print", "target-libdir", "--target", TARGET]).map(PathBuf::from);
    let is_installed = library
        .and_then(|library| fs::read_dir(library).ok())
        .is_some_and(|files| files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libstd-")));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| folder.join("target"), PathBuf::from);
    let cargo = ["build", "--release", "--lib", "--target", TARGET];
    let mut command = if is_installed {
        let mut command = tools.tool("cargo");
        command.args(cargo);
        command
    } else {
        fallback(tools, &cargo, may_fetch)?
    };
    run(command.current_dir(folder).env("CARGO_TARGET_DIR", &target), "cargo")?;
    let built = target.join(TARGET).join("release").join(format!("{}.wasm", crate_name(folder)?));
    fs::copy(&built, output)
        .map_err(|error| CliError::fault(anyhow::Error::new(error).context(built.display().to_string())))?;
    Ok(())
}

/// The name that cargo gives to the library's file.
fn crate_name(folder: &Path) -> Result<String, CliError> {
    #[derive(Deserialize)]
    struct Manifest {
        package: Package,
        lib: Option<Library>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
    }
    #[derive(Deserialize)]
    struct Library {
        name: Option<String>,
    }
    let file = folder.join("Cargo.toml");
    let text = reading::text(&file, CANTRIP_FILE_BYTES_MAX)
        .map_err(|error| CliError::usage(anyhow::Error::new(error).context(file.display().to_string())))?;
    let manifest: Manifest = toml::from_str(&text)
        .map_err(|error| CliError::usage(anyhow::Error::new(error).context(file.display().to_string())))?;
    Ok(manifest.lib.and_then(|library| library.name).unwrap_or(manifest.package.name).replace('-', "_"))
}

/// Cargo with a compiler from the project's cache of toolchains. Nothing is fetched unless a person asked for it.
fn fallback(tools: &Environment, cargo: &[&str], may_fetch: bool) -> Result<Command, CliError> {
    let refused = |what: String| {
        CliError::usage(anyhow::anyhow!(what)).hint(format!(
            "run `rustup target add {TARGET}`; or add --fetch-toolchain, which unpacks Debian's compiler (about 135 MB) into a cache folder"
        ))
    };
    let mut script = tools.tool("bash");
    script.args(["-c", TOOLCHAIN, "wasm-toolchain", "--no-c", TARGET]).stdin(Stdio::null());
    if !may_fetch {
        script.env("CANTRIP_TOOLCHAIN_OFFLINE", "1").stderr(Stdio::null());
    }
    let missing = || refused(format!("there is no Rust for {TARGET}"));
    let found = script.output().map_err(|_| missing())?;
    if !found.status.success() {
        return Err(missing());
    }
    let exports = String::from_utf8_lossy(&found.stdout).into_owned();
    let mut command = tools.tool("bash");
    // The exports are the script's own words, quoted by it for a shell.
    let line = format!("eval \"$1\"; shift; exec cargo {} $CANTRIP_WASM_CARGO_FLAGS", cargo.join(" "));
    command.args(["-c", &line, "cargo", &exports]);
    Ok(command)
}

fn javascript(tools: &Environment, folder: &Path, output: &Path) -> Result<(), CliError> {
    let needs = |what: &str, hint: &str| CliError::usage(anyhow::anyhow!("{what}")).hint(hint.to_owned());
    if tools.tool("node").arg("--version").output().is_err() {
        return Err(needs("there is no Node.js here", "https://nodejs.org installs it; version 20 or newer"));
    }
    if !folder.join("node_modules/@bytecodealliance/componentize-js").exists() {
        return Err(needs(
            "the compiler componentize-js is not installed in this project",
            &format!("run `npm install` in {}", folder.display()),
        ));
    }
    run(tools.tool("node").arg("build.js").arg(output).current_dir(folder), "node build.js")
}

fn python(tools: &Environment, folder: &Path, output: &Path) -> Result<(), CliError> {
    let beside = std::env::var_os("VIRTUAL_ENV").map(|venv| PathBuf::from(venv).join("bin/componentize-py"));
    let tool = beside.filter(|tool| tool.exists()).unwrap_or_else(|| PathBuf::from("componentize-py"));
    if tools.tool(&tool).arg("--version").output().is_err() {
        return Err(CliError::usage(anyhow::anyhow!("the compiler componentize-py is not installed"))
            .hint(format!("run `pip install -r {}`", folder.join("requirements.txt").display())));
    }
    // The interpreter's own use of WASI is answered inside of the component: the guest asks for its gates alone.
    run(
        tools
            .tool(&tool)
            .args(["-d", "wit", "-w", "guest", "componentize", "guest", "--stub-wasi", "-o"])
            .arg(output)
            .current_dir(folder),
        "componentize-py",
    )
}
