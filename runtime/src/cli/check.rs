//! `check`: what an entity of a cantrip could do, before anything runs. A = (M ∪ G) − W.

use std::path::Path;

use cantrip_gates::{Exposure, Reach};
use serde::Serialize;
use serde_json::Value;

use crate::domain::circle::Circle;
use crate::driver::Cantrip;

use super::args::CheckArgs;
use super::exit::{CliError, Exit};
use super::output::{Page, print_json, print_page};
use super::settings::{LookedAt, Settings};
use super::trust;

#[derive(Debug, Serialize)]
struct Checked {
    /// The component that does the work in a model's place, or is the medium.
    #[serde(skip_serializing_if = "Option::is_none")]
    guest: Option<String>,
    medium: String,
    model: String,
    gates: Vec<GateLine>,
    /// Gates that a ward took away.
    removed: Vec<String>,
    /// Gates that only children can be given.
    for_children: Vec<String>,
    wards: Value,
    exposure: Exposure,
    trifecta: Trifecta,
    /// What its file reaches beyond its own project.
    reach: Vec<ReachLine>,
    /// What would trust all of that, where something is not trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    trust: Option<String>,
}

#[derive(Debug, Serialize)]
struct ReachLine {
    #[serde(flatten)]
    reach: trust::Reach,
    words: String,
    trusted: bool,
}

#[derive(Debug, Serialize)]
struct GateLine {
    name: String,
    arguments: Vec<String>,
    reach: Reach,
    exposure: Exposure,
    ephemeral: bool,
}

#[derive(Debug, Serialize)]
struct Trifecta {
    /// Whether one entity could see private data, read untrusted content and send something out.
    possible: bool,
    /// Whether the ward `no_trifecta` prevents it.
    warded: bool,
    verdict: String,
}

pub(super) fn run(settings: &Settings, args: &CheckArgs) -> Result<Exit, CliError> {
    let looked = settings.sandbox()?.look_at(&args.cantrip, args.strict)?;
    let checked = look(&looked.cantrip, &looked, &args.cantrip);
    if args.json {
        print_json(&checked)?;
    } else {
        print_page(&page(&checked))?;
    }
    Ok(Exit::Done)
}

fn look(cantrip: &Cantrip, looked: &LookedAt, file: &Path) -> Checked {
    let circle = cantrip.circle();
    let for_children = cantrip
        .equipped_specs()
        .iter()
        .filter(|spec| !circle.holds(spec.name.as_str()) && !circle.removed().contains(spec.name.as_str()));
    let delegates =
        circle.holds(crate::domain::circle::CALL_ENTITY) || circle.holds(crate::domain::circle::CALL_ENTITY_BATCH);
    let lent: Vec<_> =
        for_children.filter(|spec| delegates && !crate::domain::circle::delegates(spec.name.as_str())).collect();
    let exposure = lent.iter().fold(circle.exposure(), |sum, spec| sum.union(spec.exposure));
    Checked {
        guest: cantrip.guest().map(|guest| guest.manifest().reference()),
        medium: circle.medium().name().to_owned(),
        model: cantrip.llm().name().to_owned(),
        gates: circle
            .gates()
            .map(|spec| GateLine {
                name: spec.name.to_string(),
                arguments: spec.positional.clone(),
                reach: spec.reach,
                exposure: spec.exposure,
                ephemeral: spec.ephemeral,
            })
            .collect(),
        removed: circle.removed().iter().cloned().collect(),
        for_children: lent.iter().map(|spec| spec.name.to_string()).collect(),
        wards: serde_json::to_value(circle.wards().to_wards()).unwrap_or(Value::Null),
        exposure,
        trifecta: trifecta(circle, exposure),
        reach: looked
            .reach
            .iter()
            .map(|reach| ReachLine {
                words: reach.to_string(),
                trusted: !looked.beyond.iter().any(|beyond| beyond == reach),
                reach: reach.clone(),
            })
            .collect(),
        trust: (!looked.beyond.is_empty()).then(|| trust::command(file)),
    }
}

fn trifecta(circle: &Circle, exposure: Exposure) -> Trifecta {
    let (possible, warded) = (exposure.is_trifecta(), circle.declared().no_trifecta);
    let verdict = match (possible, warded) {
        (true, false) => {
            "an entity could read private data, meet untrusted content, and send something out; the ward no_trifecta = true would prevent that"
        }
        (true, true) => {
            "all three are there, and the ward no_trifecta closes outbound gates once an entity has met the other two"
        }
        (false, _) => "private data, untrusted content and a way out never come together here",
    };
    Trifecta { possible, warded, verdict: verdict.to_owned() }
}

fn exposes(exposure: Exposure) -> String {
    let words = [("private", exposure.private), ("untrusted", exposure.untrusted), ("outbound", exposure.outbound)];
    words.into_iter().filter_map(|(word, on)| on.then_some(word)).collect::<Vec<_>>().join(", ")
}

fn page(checked: &Checked) -> Page {
    let mut page = Page::default();
    if let Some(guest) = &checked.guest {
        page.line(format_args!("guest    {guest}"));
    }
    page.line(format_args!("model    {}", checked.model));
    page.line(format_args!("medium   {}", checked.medium));
    page.head("gates");
    for gate in &checked.gates {
        let call = format!("{}({})", gate.name, gate.arguments.join(", "));
        let ephemeral = if gate.ephemeral { "ephemeral" } else { "" };
        page.line(format_args!("  {call:<40} {:<9} {:<30} {ephemeral}", gate.reach, exposes(gate.exposure)));
    }
    for name in &checked.removed {
        page.line(format_args!("  {name:<40} removed by the ward max_depth = 0"));
    }
    if !checked.for_children.is_empty() {
        page.line(format_args!("  for children only: {}", checked.for_children.join(", ")));
    }
    page.head("wards");
    for (name, value) in checked.wards.as_object().into_iter().flatten() {
        if !value.is_null() && *value != Value::Bool(false) {
            page.line(format_args!("  {name:<24} {value}"));
        }
    }
    page.head("trifecta");
    page.line(format_args!("  {}", checked.trifecta.verdict));
    if !checked.reach.is_empty() {
        page.head("reach, beyond its own project");
    }
    for line in &checked.reach {
        let mark = if line.trusted { "" } else { " (not trusted)" };
        page.line(format_args!("  it {}{mark}", line.words));
    }
    if let Some(command) = &checked.trust {
        page.line(format_args!("  `{command}` trusts it with that; a cast asks or refuses until then"));
    }
    page
}
