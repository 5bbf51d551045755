//! Guests: cantrips and media that somebody wrote as WebAssembly components, and what of the host each of them needs.
//!
//! Owns the decision whether a component may run in a circle: its imports are its own statement of what it needs, one
//! interface for each gate, and what the circle does not hold is not there for it. Reads no bytes: adapters do.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use thiserror::Error;

use super::circle::{CALL_ENTITY, CALL_ENTITY_BATCH, Circle, DONE};

/// The gate that asks the cantrip's model.
pub const LLM_QUERY: &str = "llm_query";
/// The gate that reads what was recorded.
pub const READ_LOOM: &str = "read_loom";

/// What a component is asked to do, by what it exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// World `cantrip`: its whole work is one call of `run`.
    Run,
    /// World `steps`: each call of `step` is a turn.
    Steps,
    /// World `medium`: an interpreter for a model's code.
    Medium,
}

impl Shape {
    /// The name of its world.
    pub const fn world(self) -> &'static str {
        match self {
            Self::Run => "cantrip",
            Self::Steps => "steps",
            Self::Medium => "medium",
        }
    }

    /// The function that does its work: the name under which a turn of it is recorded.
    pub const fn function(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Steps => "step",
            Self::Medium => "evaluate",
        }
    }
}

/// An interface that a component imports, and the functions of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Its name with package and version.
    pub interface: String,
    /// The functions, as the component names them.
    pub functions: Vec<String>,
}

/// What a component says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The name it goes by.
    pub name: String,
    /// `sha256:` and the hash of its bytes.
    pub digest: String,
    /// How many bytes it has.
    pub bytes: u64,
    /// What it is asked to do.
    pub shape: Shape,
    /// What it imports.
    pub imports: Vec<Import>,
    /// What it exports.
    pub exports: Vec<String>,
}

/// What one imported function takes to be there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Nothing: types, output, and gates by their name, which are judged at each call.
    Nothing,
    /// A gate of the circle.
    Gate(&'static str),
    /// A part of WASI that every guest is given, by its name: output, and a clock and randomness that are the host's.
    Wasi(String),
    /// Something that no guest is given, and what there is instead.
    Never(&'static str),
}

const PACKAGE: &str = "cantrip:guest/";
/// Additions keep the version; anything else is a new package.
const VERSION: &str = "0.1.";
const WASI_VERSION: &str = "0.2.";

/// What a function of an imported interface needs.
pub fn need(interface: &str, function: &str) -> Need {
    let (path, version) = interface.split_once('@').unwrap_or((interface, ""));
    if let Some(name) = path.strip_prefix(PACKAGE) {
        if !version.starts_with(VERSION) {
            return Need::Never("this runtime knows version 0.1 of the package cantrip:guest");
        }
        return match (name, function) {
            ("types" | "log" | "gates", _) => Need::Nothing,
            ("done", _) => Need::Gate(DONE),
            ("read-file", _) => Need::Gate("read_file"),
            ("list-dir", _) => Need::Gate("list_dir"),
            ("search", _) => Need::Gate("search"),
            ("write-file", _) => Need::Gate("write_file"),
            ("http-fetch", _) => Need::Gate("http_fetch"),
            ("call-entity", "call-batch") | ("cast", "cast-batch") => Need::Gate(CALL_ENTITY_BATCH),
            ("call-entity" | "cast", _) => Need::Gate(CALL_ENTITY),
            ("llm", _) => Need::Gate(LLM_QUERY),
            ("loom", _) => Need::Gate(READ_LOOM),
            _ => Need::Never("this runtime knows no such interface"),
        };
    }
    let Some(path) = path.strip_prefix("wasi:") else {
        return Need::Never("a guest is given interfaces of cantrip:guest and a part of WASI 0.2");
    };
    let (package, name) = path.split_once('/').unwrap_or((path, ""));
    match package {
        "sockets" => Need::Never("a guest is never given sockets: use the gate http_fetch"),
        "http" => Need::Never("a guest is not given wasi:http: use the gate http_fetch"),
        "cli" | "clocks" | "random" | "io" | "filesystem" if !version.starts_with(WASI_VERSION) => {
            Need::Never("of WASI this runtime gives version 0.2")
        }
        "cli" if name == "run" || name == "command" => Need::Never("a guest exports this, and cannot import it"),
        "cli" | "random" | "io" => Need::Wasi(path.to_owned()),
        "clocks" if matches!(name, "wall-clock" | "monotonic-clock") => Need::Wasi(path.to_owned()),
        "filesystem" if matches!(name, "types" | "preopens") => Need::Wasi(path.to_owned()),
        _ => Need::Never("of WASI a guest is given output, clocks, randomness and an empty list of folders"),
    }
}

/// One thing that a guest needs and its circle does not give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What it imports, such as `cantrip:guest/read-file@0.1.0`.
    pub interface: String,
    /// The gate, where one would help.
    pub gate: Option<&'static str>,
    /// The lines of a cantrip file that would grant it, or why nothing would.
    pub remedy: String,
}

/// A guest whose imports exceed what its circle gives. Nothing of it has run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct GuestRefusal {
    /// The guest.
    pub guest: String,
    /// Everything that is missing.
    pub missing: Vec<Missing>,
}

impl fmt::Display for GuestRefusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let things = if self.missing.len() == 1 { "thing" } else { "things" };
        write!(
            out,
            "the guest {} imports {} {things} that this circle does not give:",
            self.guest,
            self.missing.len()
        )?;
        for missing in &self.missing {
            write!(out, "\n  {}", missing.interface)?;
            match missing.gate {
                Some(gate) => write!(out, " needs the gate {gate}: {}", missing.remedy)?,
                None => write!(out, ": {}", missing.remedy)?,
            }
        }
        Ok(())
    }
}

/// The lines of a cantrip file that grant a gate.
pub fn grant_line(gate: &str) -> String {
    let mut line = format!("add \"{gate}\" to circle.gates");
    let dependency = match gate {
        "read_file" | "list_dir" | "search" | "write_file" => {
            format!(" and `[gate.{gate}]` with `root = \"…\"`")
        }
        "http_fetch" => " and `[gate.http_fetch]` with `hosts = [\"…\"]`".to_owned(),
        LLM_QUERY => " and name a model in `[llm]`".to_owned(),
        _ => String::new(),
    };
    // Writing into a String cannot fail.
    let _infallible = line.write_str(&dependency);
    line
}

impl Manifest {
    /// `name@sha256:…`: how a guest is named from elsewhere.
    pub fn reference(&self) -> String {
        format!("{}@{}", self.name, self.digest)
    }

    fn needs(&self) -> impl Iterator<Item = (&str, Need)> {
        self.imports.iter().flat_map(|import| {
            // An interface of types alone is judged as a whole.
            let functions = if import.functions.is_empty() {
                vec![""]
            } else {
                import.functions.iter().map(String::as_str).collect()
            };
            functions.into_iter().map(|function| (import.interface.as_str(), need(&import.interface, function)))
        })
    }

    /// The gates that a circle has to hold for it.
    pub fn gates(&self) -> BTreeSet<&'static str> {
        self.needs()
            .filter_map(|(_, need)| match need {
                Need::Gate(gate) => Some(gate),
                Need::Nothing | Need::Wasi(_) | Need::Never(_) => None,
            })
            .collect()
    }

    /// The parts of WASI that it uses.
    pub fn wasi(&self) -> BTreeSet<String> {
        self.needs()
            .filter_map(|(_, need)| match need {
                Need::Wasi(name) => Some(name),
                Need::Nothing | Need::Gate(_) | Need::Never(_) => None,
            })
            .collect()
    }

    /// What it needs that no circle could give.
    pub fn impossible(&self) -> Vec<Missing> {
        self.missing(&|_| true)
    }

    /// Whether it may run where these gates are held.
    ///
    /// # Errors
    /// Every import that exceeds them, with what would grant it.
    pub fn fits(&self, circle: &Circle) -> Result<(), GuestRefusal> {
        let missing = self.missing(&|gate| circle.holds(gate));
        if missing.is_empty() { Ok(()) } else { Err(GuestRefusal { guest: self.name.clone(), missing }) }
    }

    fn missing(&self, held: &dyn Fn(&str) -> bool) -> Vec<Missing> {
        let mut missing: Vec<Missing> = Vec::new();
        for (interface, need) in self.needs() {
            let (gate, remedy) = match need {
                Need::Nothing | Need::Wasi(_) => continue,
                Need::Gate(gate) if held(gate) => continue,
                Need::Gate(gate) => (Some(gate), grant_line(gate)),
                Need::Never(why) => (None, why.to_owned()),
            };
            let one = Missing { interface: interface.to_owned(), gate, remedy };
            if !missing.contains(&one) {
                missing.push(one);
            }
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(interface: &str, function: &str, expected: &Need) {
        assert_eq!(need(interface, function), *expected, "{interface}#{function}");
    }

    #[test]
    fn a_gate_interface_needs_its_gate_and_nothing_else_of_the_host_is_given_away() {
        check("cantrip:guest/read-file@0.1.0", "read", &Need::Gate("read_file"));
        check("cantrip:guest/read-file@0.1.9", "[method]reader.next", &Need::Gate("read_file"));
        check("cantrip:guest/call-entity@0.1.0", "call", &Need::Gate("call_entity"));
        check("cantrip:guest/call-entity@0.1.0", "call-batch", &Need::Gate("call_entity_batch"));
        check("cantrip:guest/cast@0.1.0", "[static]cantrip.create", &Need::Gate("call_entity"));
        check("cantrip:guest/llm@0.1.0", "query", &Need::Gate("llm_query"));
        check("cantrip:guest/log@0.1.0", "log", &Need::Nothing);
        check("cantrip:guest/types@0.1.0", "", &Need::Nothing);
        check("wasi:cli/stdout@0.2.6", "get-stdout", &Need::Wasi("cli/stdout".to_owned()));
        for refused in [
            "cantrip:guest/read-file@0.2.0",
            "cantrip:guest/read-file",
            "cantrip:guest/shell@0.1.0",
            "wasi:sockets/tcp@0.2.6",
            "wasi:http/outgoing-handler@0.2.6",
            "wasi:cli/stdout@0.3.0",
            "wasi:clocks/timezone@0.2.6",
            "wasi:keyvalue/store@0.2.0",
            "acme:shell/run@1.0.0",
            "env",
        ] {
            assert!(matches!(need(refused, "f"), Need::Never(_)), "{refused}");
        }
    }
}
