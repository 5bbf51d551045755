//! The words of the command line. No logic.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::domain::members::Right;
use crate::driver::ACKS_WAIT_MS;

/// Runs agents whose every action crosses a WebAssembly sandbox, and records what they do.
#[derive(Debug, Parser)]
#[command(
    name = "cantrip-runtime",
    version,
    max_term_width = 100,
    after_help = "\
Exit codes:
  0  done
  1  the entity failed or was truncated, or a case of a suite failed
  2  the command line or a file is wrong; nothing ran
  3  the runtime itself could not go on
  4  the record is damaged
  5  another node could not be reached, or refused

Environment:
  CANTRIP_CONFIG  your configuration file (default: ~/.config/cantrip/config.toml)
  CANTRIP_DATA    the data directory, where --data is not given
  CANTRIP_LLM     the Familiar's model, where --llm is not given, such as anthropic/claude-sonnet-4-5
  NO_COLOR        if it is set, nothing is coloured; CLICOLOR=0 and CLICOLOR_FORCE=1 are heard too
  CANTRIP_LOG     what is logged to stderr, such as `debug` or `cantrip_runtime=trace` (default: warn)"
)]
pub(super) struct Cli {
    /// The data directory: looms, the node's key, compiled code [default: the platform's data directory]
    #[arg(long, global = true, value_name = "DIR", env = "CANTRIP_DATA", hide_env = true)]
    pub(super) data: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run one intent to its end
    Cast(CastArgs),
    /// Check a cantrip file and say what its entity could do, without running anything
    Check(CheckArgs),
    /// Keep an entity and talk to it
    Summon(SummonArgs),
    /// Talk to the coordinator of a workspace, which remembers what it did
    Familiar(FamiliarArgs),
    /// Trust a file with what it reaches beyond its own project, list what is trusted, or take it back
    #[command(args_conflicts_with_subcommands = true)]
    Trust(TrustArgs),
    /// Say where your configuration is, and where each value comes from
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Make a project of a guest: a cantrip as a WebAssembly component, with a test
    New(NewArgs),
    /// Compile a guest's project into a component
    Build(BuildArgs),
    /// Say what a component needs, before anything of it runs
    Inspect(InspectArgs),
    /// Keep guests under their digests, and cast them by name
    #[command(subcommand)]
    Guests(GuestsCommand),
    /// Serve as a node: run what peers and this machine's clients cast
    Serve(ServeArgs),
    /// Make what the nodes of a cluster need
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Bring a component to a node, checked and compiled there
    Deploy(DeployArgs),
    /// Read, export and verify what was recorded
    #[command(subcommand)]
    Loom(LoomCommand),
    /// Run a suite of the Cantrip specification through the real parts
    Conform(ConformArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(super) struct CastArgs {
    /// The cantrip file
    pub(super) cantrip: PathBuf,
    /// What the entity is to do; left out only with --resume
    #[arg(required_unless_present = "resume")]
    pub(super) intent: Option<String>,
    /// Print the outcome as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Print every event as a line of JSON on stderr
    #[arg(long, conflicts_with = "quiet")]
    pub(super) events: bool,
    /// Do not show turns as they happen
    #[arg(long, short)]
    pub(super) quiet: bool,
    /// Keep the record in memory only
    #[arg(long, conflicts_with = "resume")]
    pub(super) scratch: bool,
    /// Go on with the entity at the root of this loom, where its record ends
    #[arg(long, value_name = "LOOM")]
    pub(super) resume: Option<String>,
    /// Run it on this node, such as agents@host:7432; a node has to serve on this machine
    #[arg(long, value_name = "NODE", conflicts_with_all = ["resume", "scratch"])]
    pub(super) node: Option<String>,
    /// Record it in this loom, beside what is there [default: a new one]
    #[arg(long, value_name = "LOOM", conflicts_with = "resume")]
    pub(super) loom: Option<String>,
    /// Another model: one of your configuration, PROVIDER/MODEL or scripted/FILE [default: `llm` of the file, or your default]
    #[arg(long, value_name = "MODEL")]
    pub(super) llm: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct TrustArgs {
    /// A cantrip file, a workspace's cantrip.toml or a node file; what it reaches is printed, and trusted from now on
    pub(super) file: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Option<TrustCommand>,
}

#[derive(Debug, Subcommand)]
pub(super) enum TrustCommand {
    /// List the files that are trusted, and with what
    Ls {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Trust a file no more
    Rm {
        /// The file; it need not be there any more
        file: PathBuf,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print every value with its source: flag, environment, your file, the cantrip file, or the default
    Show(ConfigShowArgs),
    /// Print where your configuration file is, or would be
    Path,
}

#[derive(Debug, Args)]
pub(super) struct ConfigShowArgs {
    /// A cantrip file whose values are to be shown, too
    pub(super) file: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The cantrip file
    pub(super) cantrip: PathBuf,
    /// Demand a declared medium
    #[arg(long)]
    pub(super) strict: bool,
    /// Print as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct SummonArgs {
    /// The cantrip file
    pub(super) cantrip: PathBuf,
    /// Go on with the entity at the root of this loom
    #[arg(long, value_name = "LOOM")]
    pub(super) resume: Option<String>,
    /// Keep the record in memory only
    #[arg(long, conflicts_with = "resume")]
    pub(super) scratch: bool,
    /// Keep it on this node, such as agents@host:7432; a node has to serve on this machine
    #[arg(long, value_name = "NODE", conflicts_with_all = ["resume", "scratch"])]
    pub(super) node: Option<String>,
    /// Another model: one of your configuration, PROVIDER/MODEL or scripted/FILE [default: `llm` of the file, or your default]
    #[arg(long, value_name = "MODEL")]
    pub(super) llm: Option<String>,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(super) struct FamiliarArgs {
    /// What it is to do; left out: a conversation
    pub(super) intent: Option<String>,
    /// The workspace
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(super) root: PathBuf,
    /// Let it write files of the workspace too
    #[arg(long)]
    pub(super) write: bool,
    /// Have this node keep its loom too, such as agents@host:7432, from now on; a node has to serve on this machine
    #[arg(long, value_name = "NODE")]
    pub(super) replicate: Option<String>,
    /// A turn counts as recorded once so many other nodes have it on disk
    #[arg(long, value_name = "N", requires = "replicate")]
    pub(super) acks: Option<u32>,
    /// How long a turn waits for them, in milliseconds, before its episode stops; 0: as long as it takes
    #[arg(long, value_name = "MS", default_value_t = ACKS_WAIT_MS, requires = "acks")]
    pub(super) acks_wait_ms: u64,
    /// The model: one of your configuration, PROVIDER/MODEL or scripted/FILE [default: `CANTRIP_LLM`, `llm` of the workspace's cantrip.toml, or your default]
    #[arg(long, value_name = "MODEL")]
    pub(super) llm: Option<String>,
    /// Print the outcome as JSON
    #[arg(long, requires = "intent")]
    pub(super) json: bool,
    /// Print every event as a line of JSON on stderr
    #[arg(long, conflicts_with = "quiet")]
    pub(super) events: bool,
    /// Do not show turns as they happen
    #[arg(long, short)]
    pub(super) quiet: bool,
}

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// The node file [default: node.toml here, which is then judged like any file that is merely found]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Make an authority, certificates and node files that can be served as they are
    Init(ClusterInitArgs),
    /// Make new keys and certificates for nodes, with the authority's key; nodes that serve take them over
    Renew(ClusterRenewArgs),
    /// Show the certificates of nodes: fingerprints and when they end
    Show(ClusterShowArgs),
}

#[derive(Debug, Args)]
pub(super) struct ClusterRenewArgs {
    /// The folder that `cluster init` has written: all of its nodes, or those of --node
    #[arg(required_unless_present = "config")]
    pub(super) folder: Option<PathBuf>,
    /// One node, by its node file, instead
    #[arg(long, value_name = "FILE", conflicts_with = "folder")]
    pub(super) config: Option<PathBuf>,
    /// Of the folder, only the node of this name; repeat it for more
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    pub(super) node: Vec<String>,
    /// The authority's key [default: ca.key in the folder, or in the one above the node file's]
    #[arg(long, value_name = "FILE")]
    pub(super) authority_key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ClusterShowArgs {
    /// The folder that `cluster init` has written
    #[arg(required_unless_present = "config")]
    pub(super) folder: Option<PathBuf>,
    /// One node, by its node file, instead
    #[arg(long, value_name = "FILE", conflicts_with = "folder")]
    pub(super) config: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ClusterInitArgs {
    /// The folder to write to; one that has an authority already keeps it, so that nodes can be added
    pub(super) folder: PathBuf,
    /// A node, as name@host:port; repeat it for each
    #[arg(long, value_name = "NODE", required = true)]
    pub(super) node: Vec<String>,
    /// What the nodes' gates for files reach [default: a folder `files` of each node's own]
    #[arg(long, value_name = "DIR")]
    pub(super) root: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct DeployArgs {
    /// The component; a signature beside it, FILE.sig, goes with it
    pub(super) file: PathBuf,
    /// The node that is to keep it, such as agents@host:7432
    #[arg(long, value_name = "NODE")]
    pub(super) node: String,
    /// Its name there [default: the file's]
    #[arg(long)]
    pub(super) name: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct NewArgs {
    /// The folder to make; the guest has its name
    pub(super) folder: PathBuf,
    /// The language
    #[arg(long, value_enum, default_value_t = Language::Rust)]
    pub(super) lang: Language,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Language {
    /// Rust, with the SDK of this version in the project
    Rust,
    /// JavaScript, compiled by componentize-js (Node.js 20 or newer)
    Javascript,
    /// Python, compiled by componentize-py
    Python,
}

#[derive(Debug, Args)]
pub(super) struct BuildArgs {
    /// The project
    #[arg(default_value = ".")]
    pub(super) folder: PathBuf,
    /// Where the component goes [default: where the project's cantrip.toml expects it]
    #[arg(long, short, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// If Rust has no target for WebAssembly, unpack a compiler that has into a cache folder (about 135 MB, once)
    #[arg(long)]
    pub(super) fetch_toolchain: bool,
    /// Give the project's tools this variable too: they get PATH, HOME and what compilers read, and no other; repeat it for more
    #[arg(long, value_name = "NAME")]
    pub(super) env: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// The component: a file, or the name or digest of a guest that is kept
    pub(super) guest: String,
    /// Print as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum GuestsCommand {
    /// Check, compile and keep a component; prints how a cantrip file names it
    Add {
        /// The component
        file: PathBuf,
        /// Its name [default: the file's]
        #[arg(long)]
        name: Option<String>,
    },
    /// List the guests that are kept
    Ls {
        /// Print as JSON
        #[arg(long)]
        json: bool,
        /// Those of this node, such as agents@host:7432, instead
        #[arg(long, value_name = "NODE")]
        node: Option<String>,
    },
    /// Make a publisher's key, and print its public half
    Key {
        /// The file to write the secret half to
        file: PathBuf,
    },
    /// Sign a component, for nodes that take signed ones only; writes FILE.sig
    Sign {
        /// The component
        file: PathBuf,
        /// The publisher's key
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Take a name away, and the guest when it has no other; what it did stays in the record
    Rm {
        /// Its name or digest
        guest: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum LoomCommand {
    /// List the looms, newest first: when, how far, how they ended, and for what
    Ls {
        /// How many at most
        #[arg(long, short = 'n', default_value_t = 20)]
        limit: usize,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the turns of a loom
    Show {
        /// The loom: its id, the beginning or the end of it, or nothing for the newest
        loom: Option<String>,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the path from the root to an entity's last turn
    Thread {
        /// The loom
        loom: String,
        /// The entity: its id, the beginning or the end of it; nothing for the root
        entity: Option<String>,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Write a loom out, secrets taken out unless told otherwise
    Export {
        /// The loom: its id, the beginning or the end of it, or nothing for the newest
        loom: Option<String>,
        /// All looms of the record
        #[arg(long, conflicts_with = "loom")]
        all: bool,
        /// The format
        #[arg(long, value_enum, default_value_t = Format::Jsonl)]
        format: Format,
        /// The file [default: the standard output]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Leave secrets in; an archive always has everything, because a hash covers it
        #[arg(long, alias = "no-redaction")]
        raw: bool,
    },
    /// Have another node keep a loom too: what is there goes over now, what comes goes over as it is written
    Replicate(ReplicateArgs),
    /// Say who writes a loom, who keeps it, and how far each of them is
    Status(StatusArgs),
    /// Say who founded a loom, who may write into it, and who was expelled
    Members {
        /// The loom: its id, the beginning or the end of it, or nothing for the newest
        loom: Option<String>,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a node a member of a loom: it may write there, go on with others' entities, or admit others
    Admit(AdmitArgs),
    /// Take a member's rights: what it has written stays, and what it writes from now on decides nothing
    Expel(ExpelArgs),
    /// Recompute everything and name what is damaged
    Verify {
        /// The loom; nothing for all
        loom: Option<String>,
        /// The copy that this node keeps, such as agents@host:7432, instead of the one here
        #[arg(long, value_name = "NODE", requires = "loom")]
        node: Option<String>,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Cast again from any turn: the same, or with another intent, model or ward
    Fork(ForkArgs),
    /// Run a thread again with its recorded results of gates and models, and name the first thing that comes out otherwise
    Replay(ReplayArgs),
    /// Compare two threads, turn by turn
    Diff(ThreadsArgs),
    /// Go on here with an entity of another node, of whose loom this node keeps a copy
    Adopt {
        /// The entity: its id or a part of it, LOOM/ENTITY, or a loom, whose root is meant
        entity: String,
        /// Do it although too few of the nodes answer that have what was acknowledged: what only the others have is lost
        #[arg(long)]
        accept_loss: bool,
    },
    /// Read an archive into the record, everything recomputed
    Import {
        /// The archive, as `loom export --format car` writes it
        file: PathBuf,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Judge a turn
    Reward {
        /// The loom
        loom: String,
        /// The entry that the turn begins with
        entry: String,
        /// The judgement
        #[arg(allow_negative_numbers = true)]
        value: f64,
        /// Whose it is
        #[arg(long, default_value = "person")]
        by: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct AdmitArgs {
    /// The loom: its id, the beginning or the end of it
    pub(super) loom: String,
    /// The node, by its name or as name@host:port, or a writer's key
    pub(super) node: String,
    /// What it may: write (open, fork, judge, resume), adopt (go on with others' entities), admit (others)
    #[arg(long, value_name = "RIGHTS", value_delimiter = ',', default_values_t = [Right::Write])]
    pub(super) may: Vec<Right>,
    /// Who wants it, for the record
    #[arg(long)]
    pub(super) by: Option<String>,
    /// Print as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ExpelArgs {
    /// The loom: its id, the beginning or the end of it
    pub(super) loom: String,
    /// The node, by its name or as name@host:port, or a writer's key
    pub(super) node: String,
    /// Who wants it, for the record
    #[arg(long)]
    pub(super) by: Option<String>,
    /// Print as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ReplicateArgs {
    /// The loom: its id, the beginning or the end of it
    pub(super) loom: String,
    /// The node, such as agents@host:7432; a node has to serve on this machine
    #[arg(long, value_name = "NODE")]
    pub(super) to: String,
    /// Where it keeps it
    #[arg(long, value_enum, default_value_t = CopyChoice::Disk)]
    pub(super) copies: CopyChoice,
    /// A turn counts as recorded once so many other nodes have it on disk [default: as before, at first 0]
    #[arg(long, value_name = "N")]
    pub(super) acks: Option<u32>,
    /// How long a turn waits for them, in milliseconds, before its episode stops; 0: as long as it takes
    #[arg(long, value_name = "MS", default_value_t = ACKS_WAIT_MS, requires = "acks")]
    pub(super) acks_wait_ms: u64,
    /// Admit it to the loom too, with these rights: write, adopt, admit
    #[arg(long, value_name = "RIGHTS", value_delimiter = ',')]
    pub(super) may: Vec<Right>,
    /// Ask no node that is away what it has, and wait for no acknowledgement of what was before: what only those nodes have may be lost
    #[arg(long)]
    pub(super) accept_loss: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum CopyChoice {
    /// Durable
    Disk,
    /// In memory only: gone when that node ends
    Memory,
    /// No longer: it is sent nothing more, and forgets what it has
    None,
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The loom: its id, the beginning or the end of it, or nothing for the newest
    pub(super) loom: Option<String>,
    /// Print as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Format {
    /// One entry a line
    Jsonl,
    /// An archive of content-addressed blocks with the writers' signatures, for `loom import`; needs --raw
    Car,
    /// A table of threads for training: prompt, turns, rewards, how they ended, pass@k and pass^k
    Parquet,
}

#[derive(Debug, Args)]
pub(super) struct ForkArgs {
    /// The entry that the last turn to keep begins with, as `loom show` prints it
    pub(super) entry: String,
    /// The cantrip file [default: the one that the loom was cast from]
    #[arg(long, value_name = "FILE")]
    pub(super) cantrip: Option<PathBuf>,
    /// Another intent [default: the one of that episode]
    #[arg(long)]
    pub(super) intent: Option<String>,
    /// Another model: one of your configuration, PROVIDER/MODEL or scripted/FILE
    #[arg(long)]
    pub(super) model: Option<String>,
    /// Another value of the cantrip file, such as `circle.wards.max_turns=5`; repeat it for more
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    /// How many
    #[arg(short, default_value_t = 1, value_parser = forks)]
    pub(super) n: usize,
    /// Print as JSON
    #[arg(long)]
    pub(super) json: bool,
}

fn forks(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| (1..=1_000).contains(n)).ok_or_else(|| "expected a number from 1 to 1000".to_owned())
}

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// The thread: its entity, whole or a part of its id, LOOM/ENTITY, or a loom, whose root is meant
    pub(super) thread: String,
    /// Record what came of it beside the thread, in this node's signed log
    #[arg(long)]
    pub(super) record: bool,
    /// Print as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ThreadsArgs {
    /// A thread: its entity, whole or a part of its id, LOOM/ENTITY, or a loom, whose root is meant
    pub(super) one: String,
    /// Another
    pub(super) other: String,
    /// Print as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ConformArgs {
    /// The suite
    pub(super) file: PathBuf,
    /// Only the cases of one rule, such as LOOP-1
    #[arg(long, value_name = "RULE")]
    pub(super) filter: Option<String>,
    /// Print as JSON
    #[arg(long)]
    pub(super) json: bool,
}
