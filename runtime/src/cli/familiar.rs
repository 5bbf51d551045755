//! `familiar`: the coordinator of a workspace. Its node name, its loom and its thread are the workspace's: tomorrow's summoning goes
//! on where today's ended.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cantrip_gates::{Wards, builtin};
use serde::{Deserialize, Serialize};

use crate::adapters::llm::{self, LlmConfig};
use crate::adapters::reading;
use crate::adapters::store::replace_file;
use crate::domain::circle::JAVASCRIPT;
use crate::domain::copies::CopyKind;
use crate::domain::familiar::prompt;
use crate::domain::ids::{EntityId, LoomId, NodeAddress};
use crate::domain::limits::NOTE_BYTES_MAX;
use crate::domain::loom::ViewError;
use crate::domain::medium::SnapshotPolicy;
use crate::driver::{Cantrip, CantripBuilder, CastOptions, Control, Runtime, Summoned};
use crate::ports::Peers;

use super::args::FamiliarArgs;
use super::cast::{finish, observer, stop_on_signal};
use super::config::ChosenModel;
use super::copies::{self, Keeping};
use super::exit::{CliError, Exit};
use super::prompt::Prompt;
use super::settings::Settings;
use super::summon::{Talk, talk};
use super::{file, node, say};

/// The file of a workspace that names its models.
const WORKSPACE_FILE: &str = "cantrip.toml";
/// The version of what is written down of a workspace.
const VERSION: u32 = 1;
/// 20 turns, 3 levels of children and 120 s for each evaluation: enough to coordinate, and an end.
fn wards() -> Wards {
    Wards { max_turns: Some(20), max_depth: Some(3), max_eval_ms: Some(120_000), ..Wards::default() }
}

/// What is remembered of a workspace.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    version: u32,
    root: PathBuf,
    loom: LoomId,
    /// Whose thread the next summoning goes on with.
    entity: EntityId,
}

/// A workspace: its folder, and where its Familiar is remembered.
struct Workspace {
    root: PathBuf,
    /// Of the folder's whole path: the Familiar's name, and that of the file.
    name: String,
    file: PathBuf,
}

impl Workspace {
    fn new(settings: &Settings, root: &Path) -> Result<Self, CliError> {
        let root = root.canonicalize().map_err(|error| {
            CliError::usage(anyhow::anyhow!("{} is no workspace: {error}", root.display()))
                .hint("--root names a folder")
        })?;
        let digest = blake3::hash(root.as_os_str().as_encoded_bytes()).to_hex();
        let name = format!("familiar-{}", digest.as_str().get(..12).unwrap_or_default());
        let file = settings.familiars().join(format!("{name}.json"));
        Ok(Self { root, name, file })
    }

    fn remembered(&self) -> Result<Option<Remembered>, CliError> {
        let text = match reading::bytes(&self.file, NOTE_BYTES_MAX) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(CliError::fault(error)),
        };
        let remembered: Remembered = serde_json::from_slice(&text).map_err(|error| {
            CliError::fault(anyhow::anyhow!("{} cannot be read: {error}", self.file.display()))
                .hint("without that file the Familiar begins anew; what it did stays in its loom")
        })?;
        if remembered.version != VERSION {
            let what = format!("{} has version {}", self.file.display(), remembered.version);
            return Err(CliError::fault(anyhow::anyhow!("{what}, and this one reads {VERSION}")));
        }
        Ok(Some(remembered))
    }

    fn remember(&self, loom: LoomId, entity: EntityId) -> Result<(), CliError> {
        let remembered = Remembered { version: VERSION, root: self.root.clone(), loom, entity };
        let text = serde_json::to_vec_pretty(&remembered).map_err(CliError::fault)?;
        replace_file(&self.file, &text).map_err(CliError::fault)
    }
}

/// A model of the user's configuration, `PROVIDER/MODEL`, or `scripted/FILE`.
pub(super) fn model_named(settings: &Settings, text: &str, from: &str, folder: &Path) -> Result<ChosenModel, CliError> {
    let configuration = settings.config()?;
    if let Some(model) = configuration.model(text, &Settings::env) {
        return model.map_err(CliError::file);
    }
    let shape = "expected a model of your configuration, PROVIDER/MODEL, such as anthropic/claude-sonnet-4-5, or \
                 scripted/turns.jsonl";
    let wrong = |what: String| CliError::usage(anyhow::anyhow!("{from}: {what}")).hint(shape);
    let (provider, model) = text
        .split_once('/')
        .ok_or_else(|| wrong(format!("`{text}` names no model; {}", configuration.unknown(text))))?;
    let config = LlmConfig::named(provider, model);
    let llm = llm::build(&config, folder, &Settings::env).map_err(|error| wrong(error.to_string()))?;
    Ok(ChosenModel { llm, retry: config.retry })
}

/// The model: of the flag, of the environment, the one that the workspace's file names, the user's default. Children may ask for
/// every model of the user's configuration.
fn with_models(
    mut builder: CantripBuilder,
    args: &FamiliarArgs,
    workspace: &Workspace,
    settings: &Settings,
) -> Result<CantripBuilder, CliError> {
    let named = match (&args.llm, Settings::env("CANTRIP_LLM")) {
        (Some(text), _) => Some(model_named(settings, text, "--llm", Path::new("."))?),
        (None, Some(text)) => Some(model_named(settings, &text, "CANTRIP_LLM", Path::new("."))?),
        (None, None) => None,
    };
    let mut needed = named.is_none();
    if let Some(ChosenModel { llm, retry }) = named {
        builder = builder.llm(llm).retry(retry);
    }
    let path = workspace.root.join(WORKSPACE_FILE);
    if path.exists() {
        let (added, names_one) = settings.for_user(None, |user| file::add_models(builder, &path, needed, user))?;
        needed = needed && !names_one;
        builder = added;
    }
    let configuration = settings.config()?;
    if needed
        && let Some(name) = &configuration.default_model
        && let Some(model) = configuration.model(name, &Settings::env)
    {
        let ChosenModel { llm, retry } = model.map_err(CliError::file)?;
        builder = builder.llm(llm).retry(retry);
        needed = false;
    }
    for name in configuration.names() {
        match configuration.model(name, &Settings::env) {
            Some(Ok(model)) => builder = builder.model(name, model.llm),
            // It may lack its key today: only whoever asks for it is to hear of that.
            Some(Err(error)) => tracing::debug!(%error, "a model of the configuration is left out"),
            None => {}
        }
    }
    if needed {
        let place = configuration.file().display();
        return Err(CliError::usage(anyhow::anyhow!("the Familiar has no model")).hint(format!(
            "name one with --llm PROVIDER/MODEL, with CANTRIP_LLM=PROVIDER/MODEL, or in {place}:\n\n    default_model = \
             \"sonnet\"\n\n    [models.sonnet]\n    provider = \"anthropic\"\n    model = \"claude-sonnet-4-5\"\n\nThe \
             workspace's cantrip.toml can name one of those, llm = \"sonnet\". An [llm] table there is taken, too, where it \
             reaches nothing that you do not trust"
        )));
    }
    Ok(builder)
}

fn cantrip(
    args: &FamiliarArgs,
    workspace: &Workspace,
    media: &dyn crate::ports::MediumFactory,
    nodes: &[NodeAddress],
    settings: &Settings,
) -> Result<Cantrip, CliError> {
    let closed = settings.closed();
    let root = || file::open_root(&workspace.root, &closed).map_err(CliError::usage);
    let mut builder = Cantrip::builder()
        .medium(JAVASCRIPT)
        .gate(builtin::done())
        .gate(builtin::list_dir(root()?))
        .gate(builtin::read_file(root()?))
        .gate(builtin::search(root()?))
        .delegation()
        .snapshots(SnapshotPolicy::Idle)
        .wards(&wards());
    if args.write {
        builder = builder.gate(builtin::write_file(root()?));
    }
    let builder = with_models(builder, args, workspace, settings)?;
    // The prompt says what the circle is, so the circle comes first.
    let bare = builder.clone().build(media).map_err(CliError::usage)?;
    let root = workspace.root.display().to_string();
    let prompt = prompt(bare.circle(), &root, nodes, &bare.model_names());
    builder.system_prompt(prompt).build(media).map_err(CliError::usage)
}

/// The entity that goes on: the one of the last summoning, or, where it is not made any more as it was, a fork of its thread.
async fn entity(
    runtime: &Runtime,
    cantrip: &Cantrip,
    remembered: Option<&Remembered>,
    options: CastOptions,
) -> Result<Summoned, CliError> {
    let Some(Remembered { loom, entity, .. }) = remembered else {
        return runtime.summon(cantrip, options).map_err(CliError::driver);
    };
    runtime.ready_for(*loom, *entity).await.map_err(CliError::driver)?;
    let Ok(tree) = runtime.tree(*loom) else { return runtime.summon(cantrip, options).map_err(CliError::driver) };
    let view = match tree.entity(*entity) {
        Ok(view) => view,
        // It was remembered before its first intent was recorded, and perhaps before its loom was founded.
        Err(ViewError::NoEntity(_)) => {
            let is_founded = !runtime.store().logs(*loom).map_err(CliError::fault)?.is_empty();
            let loom = Some(*loom).filter(|_| is_founded);
            return runtime.summon(cantrip, CastOptions { loom, ..options }).map_err(CliError::driver);
        }
        Err(error) => return Err(CliError::fault(error)),
    };
    let held: Vec<&str> = cantrip.circle().gates().map(|spec| spec.name.as_str()).collect();
    let is_same = view.identity == *cantrip.identity()
        && view.opened.gates.iter().map(|gate| gate.name.as_str()).eq(held)
        && view.opened.wards == *cantrip.circle().declared()
        && view.opened.model == cantrip.llm().name()
        && view.opened.medium_digest == runtime.media().digest(cantrip.circle().medium().name());
    if is_same {
        return runtime.resume(cantrip, *loom, *entity, &options).map_err(CliError::driver);
    }
    let turns = tree.restore(*entity, None).map_err(CliError::fault)?.turns;
    runtime.fork(cantrip, *loom, *entity, turns, options).map_err(CliError::driver)
}

pub(super) async fn run(settings: &Settings, args: FamiliarArgs) -> Result<Exit, CliError> {
    if args.intent.as_ref().is_some_and(|intent| intent.trim().is_empty()) {
        return Err(CliError::usage(crate::driver::CastError::NoIntent));
    }
    let workspace = Workspace::new(settings, &args.root)?;
    let sandboxed = settings.sandbox()?;
    let peers = node::peers_here().await;
    let nodes = peers.as_ref().map(|peers| peers.known()).unwrap_or_default();
    let cantrip = cantrip(&args, &workspace, sandboxed.media(), &nodes, settings)?;
    let (runtime, keeping) = copies::runtime(settings, &sandboxed, &workspace.name, args.replicate.as_deref()).await?;
    let runtime = match peers {
        Some(peers) => runtime.with_peers(peers as Arc<dyn Peers>),
        None => runtime,
    };
    let remembered = workspace.remembered()?;
    let observer = observer(args.quiet, args.events);
    let options = CastOptions { observer, control: Some(Control::new()), ..CastOptions::default() };
    let entity = entity(&runtime, &cantrip, remembered.as_ref(), options).await?;
    workspace.remember(entity.loom(), entity.entity())?;
    share(&args, keeping.as_ref(), entity.loom())?;
    let loom = entity.loom();
    let ended = match &args.intent {
        Some(intent) => once(entity, intent, args.json).await,
        None => converse(settings, &workspace, &runtime, &cantrip, entity, remembered.is_some()).await,
    };
    if let Some(keeping) = keeping {
        keeping.end(loom).await;
    }
    ended
}

fn share(args: &FamiliarArgs, keeping: Option<&Keeping>, loom: LoomId) -> Result<(), CliError> {
    let (Some(to), Some(keeping)) = (&args.replicate, keeping) else { return Ok(()) };
    let acks = args.acks.map(|acks| (acks, args.acks_wait_ms));
    keeping.copies().share(loom, &node::keeper(to)?, CopyKind::Disk, acks).map_err(CliError::usage)
}

async fn once(mut entity: Summoned, intent: &str, as_json: bool) -> Result<Exit, CliError> {
    let stopping = tokio::spawn(stop_on_signal(entity.control()));
    let ended = entity.send(intent).await;
    stopping.abort();
    finish(as_json, &entity, ended)
}

async fn converse(
    settings: &Settings,
    workspace: &Workspace,
    runtime: &Runtime,
    cantrip: &Cantrip,
    entity: Summoned,
    again: bool,
) -> Result<Exit, CliError> {
    let known = if again { format!("after {} turns", entity.turns()) } else { "new here".to_owned() };
    say(&format!(
        "{} of {}, {known}, loom {}; /help says what there is",
        workspace.name,
        workspace.root.display(),
        entity.loom()
    ));
    if entity.is_unfinished() {
        say("the last request was cut off; /continue goes on with it");
    }
    let prompt = Prompt::with_history(settings.familiars().join(format!("{}.history", workspace.name)))?;
    let remember = |entity: &Summoned| workspace.remember(entity.loom(), entity.entity());
    talk(Talk { runtime, cantrip, entity, prompt, changed: &remember }).await.map(|_| Exit::Done)
}
