//! What a later version has written: it is kept, shown and handed on, and nothing is gone on with that has more in it than is known here.

use cantrip_runtime::adapters::store::NodeKey;
use cantrip_runtime::domain::loom::{Body, Unknown};
use cantrip_runtime::domain::members::{Admitted, Principal, Right};
use ipld_core::ipld::Ipld;

use crate::node_support::text;
use crate::record::{Machine, Other, entity, opened};

/// Something that a later version writes.
fn dreamt() -> Body {
    let value = Ipld::Map([("kind".to_owned(), Ipld::String("dreamt".to_owned()))].into());
    Body::Unknown(Box::new(Unknown { kind: "dreamt".to_owned(), value }))
}

impl Machine {
    /// A command that is not to be done, with what it says instead.
    fn refuses(&self, arguments: &[&str], why: &str) {
        let refused = self.run(arguments);
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(why), "{arguments:?}: {said}");
    }

    /// What of a record with an entry of a later version is to be had: all that only reads.
    fn reads(&self, loom: &str, why: &str) {
        let shown = self.run(&["loom", "show", loom]);
        let said = text(&shown.stdout);
        assert!(shown.status.success() && said.contains(why), "{said}");
        assert!(self.run(&["loom", "verify"]).status.success());
        for format in [["jsonl", "--raw", "out.jsonl"], ["car", "--raw", "out.car"]] {
            let [format, raw, out] = format;
            let exported = self.run(&["loom", "export", loom, "--format", format, raw, "-o", out]);
            assert!(exported.status.success(), "{format}: {}", text(&exported.stderr));
        }
        let lines = std::fs::read_to_string(self.at("out.jsonl")).unwrap();
        assert!(lines.contains("dreamt"), "{lines}");
    }

    fn cantrip(&self) {
        let cantrip = "[llm]\nprovider = \"scripted\"\npath = \"turns.jsonl\"\n[circle]\ngates = [\"done\"]\n[circle.wards]\nmax_turns = 3\n";
        std::fs::write(self.at("cantrip.toml"), cantrip).unwrap();
        std::fs::write(self.at("turns.jsonl"), "{\"content\": \"hi\"}\n").unwrap();
    }
}

#[test]
fn an_entity_with_an_entry_of_a_later_version_is_read_and_no_command_goes_on_with_it() {
    let mut other = Other::new();
    let first = other.add(entity(0), None, opened(None));
    let seen = other.turn(entity(0), first);
    other.add(entity(0), Some(seen), dreamt());
    // Another of the same loom goes on.
    other.add(entity(1), None, opened(None));
    let machine = other.imported();
    machine.cantrip();
    let (loom, entity, next) = (other.loom.to_string(), entity(0).to_string(), entity(1).to_string());
    let why = "is a `dreamt`, which this version does not know: the entity can be read here";
    machine.reads(&loom, why);
    machine.refuses(&["loom", "adopt", &entity], why);
    machine.refuses(&["cast", "cantrip.toml", "--resume", &loom], why);
    machine.refuses(&["summon", "cantrip.toml", "--resume", &loom], why);
    machine.refuses(&["loom", "fork", &seen.to_string(), "--cantrip", "cantrip.toml"], why);
    machine.refuses(&["loom", "adopt", &next], "may not adopt");
}

#[test]
fn a_loom_of_which_its_founder_says_what_is_not_known_is_read_and_no_command_writes_it() {
    for is_founder in [true, false] {
        let mut other = Other::new();
        let first = other.add(entity(0), None, opened(None));
        let seen = other.turn(entity(0), first);
        let mut stranger = Other::with_key(NodeKey::from_secret(&[6; 32]));
        let by = if is_founder { &mut other } else { &mut stranger };
        by.add(None, None, dreamt());
        if !is_founder {
            // A member who may not admit others.
            let rights = [Right::Write].into_iter().collect();
            let principal = Principal::Key(NodeKey::from_secret(&[6; 32]).writer());
            let admitted = Admitted { principal, rights, scope: None, again: Vec::new(), by: None, note: None };
            other.add(None, None, Body::Admitted(Box::new(admitted)));
        }
        let machine = other.imported();
        if !is_founder {
            stranger.import_into(&machine);
        }
        machine.cantrip();
        let (loom, entity, seen) = (other.loom.to_string(), entity(0).to_string(), seen.to_string());
        if is_founder {
            let why =
                "is a `dreamt` of the loom as a whole, which this version does not know: the loom can be read here";
            machine.reads(&loom, why);
            machine.refuses(&["cast", "cantrip.toml", "look", "--loom", &loom], why);
            machine.refuses(&["cast", "cantrip.toml", "--resume", &loom], why);
            machine.refuses(&["loom", "fork", &seen, "--cantrip", "cantrip.toml"], why);
            machine.refuses(&["loom", "reward", &loom, &seen, "1"], why);
            machine.refuses(&["loom", "replay", &entity, "--record"], why);
            machine.refuses(&["loom", "adopt", &entity], why);
        } else {
            machine.reads(&loom, "is a `dreamt` of the loom, which this version does not know");
            machine.refuses(&["loom", "adopt", &entity], "may not adopt");
        }
    }
}

#[test]
fn an_archive_of_format_1_is_refused_with_the_commit_that_shows_it() {
    let machine = Other::new().imported_as(|bytes| {
        let mut whole: Ipld = serde_ipld_dagcbor::from_slice(&bytes).unwrap();
        let Ipld::Map(map) = &mut whole else { panic!("no map") };
        map.insert("v".to_owned(), Ipld::Integer(1));
        serde_ipld_dagcbor::to_vec(&whole).unwrap()
    });
    let refused = machine.run(&["loom", "import", "other.car"]);
    let said = text(&refused.stderr);
    assert!(!refused.status.success() && said.contains("format 1") && said.contains("4e523ed"), "{said}");
}
