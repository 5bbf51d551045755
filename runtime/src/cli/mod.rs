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
mod copy_status;
mod exit;
mod exporting;
mod familiar;
pub mod file;
mod guests;
mod looms;
mod members;
mod names;
mod node;
mod output;
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

use crate::adapters::private::Umask;

use args::{Cli, ClusterCommand, Command, ConfigCommand, ConformArgs, GuestsCommand};
use exit::{CliError, Exit};
use output::{Data, Page, print, print_json, print_page, print_result, say};
use settings::Settings;

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    // Before the first thread, and before anything is made: the mask is the process's.
    let umask = Umask::close();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return output::report_usage(&error).into(),
    };
    match command(cli, umask) {
        Ok(exit) => exit.into(),
        Err(error) => {
            output::report(&error);
            error.exit.into()
        }
    }
}

/// Whether a command reads or writes the data folder of `--data`: then it is looked at before.
const fn uses_data(command: &Command) -> bool {
    match command {
        Command::Cast(_)
        | Command::Check(_)
        | Command::Summon(_)
        | Command::Familiar(_)
        | Command::Inspect(_)
        | Command::Loom(_)
        | Command::Conform(_)
        | Command::Guests(
            GuestsCommand::Add { .. } | GuestsCommand::Ls { node: None, .. } | GuestsCommand::Rm { .. },
        ) => true,
        // A node has its own, which its file names.
        Command::Serve(_)
        | Command::Cluster(_)
        | Command::Trust(_)
        | Command::Config(_)
        | Command::Deploy(_)
        | Command::New(_)
        | Command::Build(_)
        | Command::Guests(GuestsCommand::Ls { .. } | GuestsCommand::Key { .. } | GuestsCommand::Sign { .. })
        | Command::Completions { .. } => false,
    }
}

fn command(cli: Cli, umask: Umask) -> Result<Exit, CliError> {
    Settings::log();
    let mut settings = Settings::new(cli.data)?;
    if uses_data(&cli.command) {
        settings.look_at_data()?.iter().for_each(|notice| say(notice));
    }
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
        Command::Cluster(ClusterCommand::Renew(args)) => node::cluster_renew(&args),
        Command::Cluster(ClusterCommand::Show(args)) => node::cluster_show(&args),
        Command::Deploy(args) => tokio.block_on(node::deploy(&settings, args)),
        Command::Guests(GuestsCommand::Ls { node: Some(node), json }) => tokio.block_on(node::guests_of(&node, json)),
        Command::Guests(GuestsCommand::Key { file }) => node::key(&file),
        Command::Guests(GuestsCommand::Sign { file, key }) => node::sign(&file, &key),
        Command::Trust(args) => trust::run(&settings, args),
        Command::Config(ConfigCommand::Show(args)) => config_show::show(&settings, &args),
        Command::Config(ConfigCommand::Path) => config_show::path(&settings),
        // A project is its user's: its files are made as the user's mask says.
        Command::New(args) => {
            umask.restore();
            project::new(&settings, &args)
        }
        Command::Build(args) => {
            umask.restore();
            project::build(&args)
        }
        Command::Inspect(args) => guests::inspect(&settings, &args),
        Command::Guests(command) => guests::run(&settings, command),
        Command::Loom(command) => tokio.block_on(looms::run(&settings, command)),
        Command::Conform(args) => tokio.block_on(conform(&settings, args)),
        Command::Completions { shell } => {
            // In memory first: what generates it takes a reader that went away for a fault of its own.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "cantrip-runtime", &mut script);
            Data.write_all(&script).map_err(CliError::fault)?;
            Ok(Exit::Done)
        }
    }
}

async fn conform(settings: &Settings, args: ConformArgs) -> Result<Exit, CliError> {
    let options = crate::conform::Options { filter: args.filter, artefacts: Some(settings.artefacts()) };
    let report = crate::conform::run(&args.file, options).await.map_err(CliError::usage)?;
    if args.json {
        print_json(&report)?;
    } else {
        let mut page = Page::default();
        report.lines().iter().for_each(|line| page.line(line));
        print_page(&page)?;
    }
    Ok(if report.failed == 0 { Exit::Done } else { Exit::Failed })
}
