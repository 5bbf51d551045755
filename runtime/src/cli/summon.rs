//! `summon`: an entity to talk to.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::domain::copies::LOCAL;
use crate::domain::ids::LoomId;
use crate::domain::limits::STEERS_WAITING_MAX;
use crate::driver::{Cantrip, CastError, CastOptions, Control, Runtime, Summoned};

use super::args::SummonArgs;
use super::cast::{resume, stop_on_signal};
use super::copies;
use super::exit::{CliError, Exit};
use super::familiar::model_named;
use super::output::say_text;
use super::prompt::Prompt;
use super::settings::Settings;
use super::show::{Progress, summary};
use super::{print, print_result, say};

const HELP: &str = "\
Anything else is an intent. Ctrl-C ends the episode after its turn; a second one stops it at once. Ctrl-D leaves.
  /fork N      go on in a copy of this thread after its first N turns
  /continue    go on with an episode that was cut off
  /interrupt   end the next episode at its first turn boundary
  /steer TEXT  say something that the next episode hears at its first turn
  /loom        show what was recorded
  /help        this
  /quit        leave";

pub(super) async fn run(settings: &Settings, args: SummonArgs) -> Result<Exit, CliError> {
    let sandboxed = settings.sandbox()?;
    let llm = args.llm.as_deref().map(|llm| model_named(settings, llm, "--llm", Path::new("."))).transpose()?;
    let cantrip = sandboxed.cantrip(&args.cantrip, llm.as_ref())?;
    let (runtime, keeping) = match &args.resume {
        Some(_) => copies::runtime(settings, &sandboxed, LOCAL, None).await?,
        None => (settings.runtime(&sandboxed, args.scratch)?, None),
    };
    let entity = match &args.resume {
        Some(name) => resume(&runtime, &cantrip, name, &options()).await?,
        None => runtime.summon(&cantrip, options()).map_err(CliError::driver)?,
    };
    if !args.scratch {
        settings.remember_origin(entity.loom(), &args.cantrip);
    }
    say(&format!("entity {} in loom {}; /help says what there is", entity.entity(), entity.loom()));
    let prompt = Prompt::new()?;
    let talk = Talk { runtime: &runtime, cantrip: &cantrip, entity, prompt, changed: &|_| Ok(()) };
    let ended = self::talk(talk).await;
    if let (Some(keeping), Ok(loom)) = (keeping, &ended) {
        keeping.end(*loom).await;
    }
    ended.map(|_| Exit::Done)
}

/// A conversation of a person with an entity.
pub(super) struct Talk<'a> {
    pub(super) runtime: &'a Runtime,
    pub(super) cantrip: &'a Cantrip,
    pub(super) entity: Summoned,
    pub(super) prompt: Prompt,
    /// Is told when another entity goes on.
    pub(super) changed: &'a (dyn Fn(&Summoned) -> Result<(), CliError> + Sync),
}

/// Talks until the person leaves. Returns the loom.
pub(super) async fn talk(talk: Talk<'_>) -> Result<LoomId, CliError> {
    let Talk { runtime, cantrip, mut entity, mut prompt, changed } = talk;
    while let Some(line) = prompt.line().await? {
        let line = line.as_str();
        match line.split_once(' ').map_or((line, ""), |(word, rest)| (word, rest.trim())) {
            ("", _) => {}
            ("/quit" | "/exit", _) => return Ok(entity.loom()),
            ("/help", _) => say_text(HELP),
            ("/interrupt", _) => entity.control().interrupt(),
            ("/steer", text) => {
                if !entity.control().steer(text) {
                    say(&format!("{STEERS_WAITING_MAX} messages wait already: they are heard at the next turn"));
                }
            }
            ("/loom", _) => show(runtime, &entity)?,
            ("/fork", turns) => {
                entity = fork(runtime, cantrip, entity, turns);
                changed(&entity)?;
            }
            ("/continue", _) if !entity.is_unfinished() => say("nothing was cut off"),
            ("/continue", _) => send(&mut entity, None).await?,
            (word, _) if word.starts_with('/') => say(&format!("there is no {word}; /help says what there is")),
            _ => send(&mut entity, Some(line)).await?,
        }
    }
    Ok(entity.loom())
}

fn options() -> CastOptions {
    CastOptions { observer: Some(Arc::new(Progress::new())), control: Some(Control::new()), ..CastOptions::default() }
}

async fn send(entity: &mut Summoned, intent: Option<&str>) -> Result<(), CliError> {
    let stopping = tokio::spawn(stop_on_signal(entity.control()));
    let ended = match intent {
        Some(intent) => entity.send(intent).await,
        None => entity.go_on().await,
    };
    stopping.abort();
    match ended {
        Ok(outcome) => {
            match &outcome.result {
                Some(Value::String(text)) => print_result(text)?,
                Some(value) => print_result(&value.to_string())?,
                None => say_text(outcome.summary.as_deref().unwrap_or_default()),
            }
            say(&summary(&outcome, &entity.loom().to_string()));
        }
        Err(CastError::Fault(fault)) => return Err(CliError::driver(fault)),
        Err(error) => say(&format!("error: {error}")),
    }
    Ok(())
}

fn fork(runtime: &Runtime, cantrip: &Cantrip, entity: Summoned, turns: &str) -> Summoned {
    let Ok(count) = turns.parse::<u64>() else {
        say(&format!("/fork takes the number of turns to keep, 0 to {}", entity.turns()));
        return entity;
    };
    match runtime.fork(cantrip, entity.loom(), entity.entity(), count, options()) {
        Ok(forked) => {
            say(&format!("entity {} goes on after turn {count}", forked.entity()));
            forked
        }
        Err(error) => {
            say(&format!("error: {:#}", anyhow::Error::from(error)));
            entity
        }
    }
}

fn show(runtime: &Runtime, entity: &Summoned) -> Result<(), CliError> {
    let tree = runtime.tree(entity.loom()).map_err(CliError::fault)?;
    for turn in tree.thread(entity.entity()).unwrap_or_default() {
        let gates: Vec<&str> = turn.gates.iter().map(|gate| gate.gate.as_str()).collect();
        print(&format!("{:>3}  {}  {}", turn.sequence, turn.id, gates.join(" ")))?;
    }
    Ok(())
}
