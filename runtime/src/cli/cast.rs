//! `cast`: one intent to its end.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::domain::copies::LOCAL;
use crate::domain::ids::LoomId;
use crate::domain::loom::{How, Spent};
use crate::domain::outcome::{Failure, Outcome};
use crate::driver::{CastError, CastOptions, Control, Fault, Runtime, Summoned};
use crate::ports::Observer;

use super::args::CastArgs;
use super::copies;
use super::exit::{CliError, Exit};
use super::familiar::model_named;
use super::names::find_loom;
use super::output::{json, print_json, say_text};
use super::settings::Settings;
use super::show::{EventLines, Progress, summary};
use super::{print_result, say};

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    loom: String,
    entity: String,
    /// Where it ran, if not in this process.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    how: How,
    reason: &'a str,
    result: Option<&'a Value>,
    summary: Option<&'a str>,
    spent: Spent,
}

pub(super) async fn run(settings: &Settings, args: CastArgs) -> Result<Exit, CliError> {
    // The file is checked before anything is opened or written.
    let sandboxed = settings.sandbox()?;
    let llm = args.llm.as_deref().map(|llm| model_named(settings, llm, "--llm", Path::new("."))).transpose()?;
    let cantrip = sandboxed.cantrip(&args.cantrip, llm.as_ref())?;
    if args.intent.as_ref().is_some_and(|intent| intent.trim().is_empty()) {
        return Err(CliError::usage(CastError::NoIntent));
    }
    let (runtime, keeping) = match args.resume.as_ref().or(args.loom.as_ref()).filter(|_| !args.scratch) {
        Some(_) => copies::runtime(settings, &sandboxed, LOCAL, None).await?,
        None => (settings.runtime(&sandboxed, args.scratch)?, None),
    };
    let observer = observer(args.quiet, args.events);
    let control = Control::new();
    let loom = args.loom.as_deref().map(|loom| find_loom(&**runtime.store(), Some(loom))).transpose()?;
    let options = CastOptions { observer, control: Some(control.clone()), loom, ..CastOptions::default() };
    let mut entity = match &args.resume {
        Some(name) => resume(&runtime, &cantrip, name, &options).await?,
        None => runtime.summon(&cantrip, options).map_err(CliError::driver)?,
    };
    if !args.scratch {
        settings.remember_origin(entity.loom(), &args.cantrip);
    }
    let stopping = tokio::spawn(stop_on_signal(control));
    let ended = match &args.intent {
        Some(intent) => entity.send(intent).await,
        None if entity.is_unfinished() => entity.go_on().await,
        None => {
            return Err(CliError::usage(anyhow::anyhow!("the last episode of this loom has ended"))
                .hint("give an intent to go on with"));
        }
    };
    stopping.abort();
    if let Some(keeping) = keeping {
        keeping.end(entity.loom()).await;
    }
    finish(args.json, &entity, ended)
}

pub(super) async fn resume(
    runtime: &Runtime,
    cantrip: &crate::driver::Cantrip,
    name: &str,
    options: &CastOptions,
) -> Result<Summoned, CliError> {
    let loom = find_loom(&**runtime.store(), Some(name))?;
    runtime.ready(loom).await.map_err(CliError::driver)?;
    let tree = runtime.tree(loom).map_err(CliError::fault)?;
    let root = tree
        .entities()
        .next()
        .map(|(id, _)| id)
        .ok_or_else(|| CliError::usage(anyhow::anyhow!("the loom {loom} has no entity")))?;
    runtime.ready_for(loom, root).await.map_err(CliError::driver)?;
    runtime.resume(cantrip, loom, root, options).map_err(|fault| {
        if matches!(fault, Fault::Elsewhere { .. }) {
            let hint = format!("`loom adopt {loom}` makes it this node's, if the other does not go on with it");
            return CliError::usage(fault).hint(hint);
        }
        CliError::driver(fault)
    })
}

/// The first ctrl-c lets the turn end, the second stops at once.
pub(super) async fn stop_on_signal(control: Control) {
    if tokio::signal::ctrl_c().await.is_ok() {
        say("ending after this turn; once more stops at once");
        control.interrupt();
    }
    if tokio::signal::ctrl_c().await.is_ok() {
        control.cancel();
    }
}

pub(super) fn finish(as_json: bool, entity: &Summoned, ended: Result<Outcome, CastError>) -> Result<Exit, CliError> {
    let (outcome, failure) = match ended {
        Ok(outcome) => (outcome, None),
        Err(CastError::Failed { failure, outcome }) => (*outcome, Some(failure)),
        Err(error @ CastError::NoIntent) => return Err(CliError::usage(error)),
        Err(CastError::Fault(fault)) => return Err(CliError::driver(fault)),
    };
    print_end(as_json, &Ending { outcome, failure, loom: entity.loom(), node: None })
}

/// How a cast ended, wherever it ran.
pub(super) struct Ending<'a> {
    pub(super) outcome: Outcome,
    pub(super) failure: Option<Failure>,
    pub(super) loom: LoomId,
    pub(super) node: Option<&'a str>,
}

pub(super) fn print_end(as_json: bool, ending: &Ending<'_>) -> Result<Exit, CliError> {
    let Ending { outcome, failure, loom, node } = ending;
    let loom = loom.to_string();
    if as_json {
        print_json(&Printed {
            loom: loom.clone(),
            entity: outcome.entity.to_string(),
            node: *node,
            how: outcome.how,
            reason: outcome.reason.as_str(),
            result: outcome.result.as_ref(),
            summary: outcome.summary.as_deref(),
            spent: outcome.spent,
        })?;
    } else {
        match &outcome.result {
            Some(Value::String(text)) => print_result(text)?,
            Some(value) => print_result(&json(value)?)?,
            None => {}
        }
    }
    if let (None, Some(text)) = (failure, &outcome.summary) {
        say_text(text);
    }
    say(&summary(outcome, &loom));
    match failure {
        Some(failure) => {
            let place = node.map(|node| format!("on {node}: ")).unwrap_or_default();
            Err(CliError {
                exit: Exit::Failed,
                source: failure.clone().into(),
                hint: Some(format!("what was done until then is kept: {place}cantrip-runtime loom show {loom}")),
            })
        }
        None if outcome.is_success() => Ok(Exit::Done),
        None => Ok(Exit::Failed),
    }
}

/// Who is told what happens, as the switches say.
pub(super) fn observer(quiet: bool, events: bool) -> Option<Arc<dyn Observer>> {
    match (quiet, events) {
        (true, _) => None,
        (false, true) => Some(Arc::new(EventLines)),
        (false, false) => Some(Arc::new(Progress::new())),
    }
}
