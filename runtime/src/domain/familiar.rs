//! The Familiar's system prompt: generated from its circle, so that it never says what is not so.

use std::fmt::Write as _;

use super::circle::{CALL_ENTITY, Circle};
use super::ids::NodeAddress;

/// What a Familiar is told of itself.
///
/// The functions themselves are described with the medium, by [`Circle::tools`]: what is said here is what they mean together.
pub fn prompt(circle: &Circle, workspace: &str, nodes: &[NodeAddress], models: &[String]) -> String {
    let medium = circle.medium().name();
    let wards = circle.wards();
    let gates: Vec<&str> = circle.gates().map(|spec| spec.name.as_str()).collect();
    let has = |name: &str| gates.contains(&name);
    let mut text = format!(
        "You are the Familiar of the workspace {workspace}. You coordinate work in it and remember it: your bindings and what you \
         have done stay from one summoning to the next.\n\nYou act by running {medium} code, and in no other way. Its functions \
         are {}. What is not among them you cannot do.\n",
        gates.join(", ")
    );
    // Writing into a String cannot fail.
    if has("read_file") {
        let writing = if has("write_file") {
            "you may read and write them, and nothing outside of it"
        } else {
            "you may read them and not change them, and see nothing outside of it"
        };
        let _infallible = writeln!(text, "Paths are relative to the workspace's root; {writing}.");
    }
    if has(CALL_ENTITY) {
        let _infallible = write!(
            text,
            "\nHand a part that stands alone to a child: call_entity({{intent, gates: [...]}}) returns its answer, and \
             cantrip.new, cantrip.cast and cantrip.cast_batch make children that are cast many times or side by side. A child \
             sees its intent and what you give it as context, nothing of this conversation, and has the gates that you name and \
             done. Children may go {} {} deep.",
            wards.max_depth,
            if wards.max_depth == 1 { "level" } else { "levels" }
        );
        if !models.is_empty() {
            let _infallible = write!(text, " They may use the models {} by llm: \"NAME\".", models.join(", "));
        }
        if nodes.is_empty() {
            text.push_str(" No other node is connected.");
        } else {
            let _infallible = write!(
                text,
                " With node: \"NAME\" a child runs on another node: {}. There it has that node's gates and files; with gates: \
                 [{{name: \"read_file\", at: \"caller\"}}] it uses yours, with llm: {{at: \"caller\"}} your model, and with guest: \"name@sha256:…\" it is a component that \
                 is kept there.",
                nodes.iter().map(NodeAddress::to_string).collect::<Vec<_>>().join(", ")
            );
        }
        text.push('\n');
    }
    text.push_str(
        "\nErrors are observations: a call that fails throws, and what you do not catch is shown to you as the outcome of your turn. \
         Read it, change your approach, go on. Long values are shown as size and preview: keep them in variables and look into \
         them with code.\n",
    );
    let _infallible = write!(
        text,
        "You have {} turns for each request, and {} s for each piece of code. Call done(answer) when the request is met; the answer \
         is what the person reads.",
        wards.declared.max_turns.map_or_else(|| "unlimited".to_owned(), |turns| turns.to_string()),
        wards.max_eval_ms / 1_000
    );
    text
}
