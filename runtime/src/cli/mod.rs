//! The command line: arguments to settings to a command. Builds everything; nobody depends on it.
//!
//! stdout is data, stderr is talk. Exit codes are in `exit`, and in `--help`.

mod admit;
mod args;
mod cast;
mod check;
pub mod config;
mod config_show;
mod copies;
mod exit;
mod exporting;
mod familiar;
pub mod file;
mod guests;
mod looms;
mod node;
mod project;
mod prompt;
mod settings;
mod show;
mod summon;
mod timetravel;
pub mod trust;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Cli, ClusterCommand, Command, ConfigCommand, ConformArgs, GuestsCommand};
use exit::{CliError, Exit};
use settings::Settings;

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            // Where even that cannot be printed, the exit code says it.
            let _unheard = error.print();
            return exit.into();
        }
    };
    match command(cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            report(&error);
            error.exit.into()
        }
    }
}

fn report(error: &CliError) {
    let mut stderr = std::io::stderr().lock();
    let chain: Vec<String> = error.source.chain().map(ToString::to_string).collect();
    let text = cantrip_gates::redact(&format!("error: {}", chain.join(": "))).into_owned();
    let _unheard = writeln!(stderr, "{text}");
    if let Some(hint) = &error.hint {
        let _unheard = writeln!(stderr, "\nhint: {hint}");
    }
}

fn command(cli: Cli) -> Result<Exit, CliError> {
    let settings = Settings::new(cli.data)?;
    Settings::log();
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CliError::fault)?;
    match cli.command {
        Command::Cast(args) => match args.node.clone() {
            Some(node) => tokio.block_on(node::cast(&settings, &args, &node)),
            None => tokio.block_on(cast::run(&settings, args)),
        },
        Command::Check(args) => check::run(&settings, &args),
        Command::Summon(args) => match args.node.clone() {
            Some(node) => tokio.block_on(node::summon(&settings, &args, &node)),
            None => tokio.block_on(summon::run(&settings, args)),
        },
        Command::Familiar(args) => tokio.block_on(familiar::run(&settings, args)),
        Command::Serve(args) => tokio.block_on(node::serve(&settings, args.config)),
        Command::Cluster(ClusterCommand::Init(args)) => node::cluster_init(&args),
        Command::Deploy(args) => tokio.block_on(node::deploy(&settings, args)),
        Command::Guests(GuestsCommand::Ls { node: Some(node), json }) => tokio.block_on(node::guests_of(&node, json)),
        Command::Guests(GuestsCommand::Key { file }) => node::key(&file),
        Command::Guests(GuestsCommand::Sign { file, key }) => node::sign(&file, &key),
        Command::Trust(args) => trust::run(&settings, args),
        Command::Config(ConfigCommand::Show(args)) => config_show::show(&settings, &args),
        Command::Config(ConfigCommand::Path) => config_show::path(&settings),
        Command::New(args) => project::new(&settings, &args),
        Command::Build(args) => project::build(&args),
        Command::Inspect(args) => guests::inspect(&settings, &args),
        Command::Guests(command) => guests::run(&settings, command),
        Command::Loom(command) => tokio.block_on(looms::run(&settings, command)),
        Command::Conform(args) => tokio.block_on(conform(&settings, args)),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "cantrip-runtime", &mut std::io::stdout());
            Ok(Exit::Done)
        }
    }
}

async fn conform(settings: &Settings, args: ConformArgs) -> Result<Exit, CliError> {
    let options = crate::conform::Options { filter: args.filter, artefacts: Some(settings.artefacts()) };
    let report = crate::conform::run(&args.file, options).await.map_err(CliError::usage)?;
    print(&if args.json { json(&report)? } else { report.to_string() })?;
    Ok(if report.failed == 0 { Exit::Done } else { Exit::Failed })
}

/// Prints data. A reader that went away is no error of ours.
fn print(text: &str) -> Result<(), CliError> {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(CliError::fault(error)),
        _ => Ok(()),
    }
}

fn say(text: &str) {
    let _unheard = writeln!(std::io::stderr(), "{text}");
}

fn json(value: &impl serde::Serialize) -> Result<String, CliError> {
    serde_json::to_string_pretty(value).map_err(CliError::fault)
}
