//! The rules of copies as a small model: who acknowledges what, who may go on with an entity of another, and what a folder that was put
//! back may write.
//!
//! Entries are on the disk of their writer at once; everything else travels in messages that are lost, late and in any order. Processes
//! end, folders are put back to older ones, keepers keep in memory only, and one node is hostile. Required, once all is delivered: what was
//! acknowledged by keepers who told the truth is in its thread; what others saw of a writer is there or written anew; whoever owns an
//! entity can go on. Then each rule is left out once, and some history has to show it.
//!
//! Where the rules can be read in two ways, or do not say enough, the model takes what keeps these promises:
//! - A change of how many acknowledge is acknowledged for each entity by its own: a keeper with a fence of an entity does not count.
//! - An adoption is such a change too: what its writer writes behind it counts once the former owner's keepers have the adoption, else a
//!   second adopter, who knows only these, misses it.
//! - A keeper stores the fence of the entity's owner up to twice as far ahead as that of others: else one far-off fence of somebody who
//!   may adopt stops the owner for good. A fence of one's own without the adoption is passed the same way.
//! - A fence is passed once it has stood for a while: two that pass each other at once never end.
//! - One change is open at a time, and the log says it again once it is acknowledged. Until then an adopter needs the former keepers, too:
//!   else a second one that knows only of these misses it.
//! - Whoever has no keeping of its own in the record, as after its folder was put back to before it wrote, asks all that it knows of.
//! - Between its own former key and the new one a node pins what others have seen; what comes in later of the former key is written anew
//!   too. Where both tails are signed both are written anew: one goes on in its threads, the other as forks. Where turns are acknowledged it
//!   is the later one that goes on, since it was begun when nobody who had to answer had the other; else the one that others have.
//! - An adoption by who knows of no acknowledgements promises nothing about turns that were acknowledged since.
#![expect(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm,
    reason = "a test may stop, and takes its number of histories from outside"
)]

#[path = "copies_model/directed.rs"]
mod directed;
#[path = "members_model/random.rs"]
mod random;
#[path = "copies_model/record.rs"]
mod record;
#[path = "copies_model/world.rs"]
mod world;

use random::Random;
use world::{Rules, World};

/// 300 histories take seconds in a debug build; `CANTRIP_MODEL_SEEDS=20000` takes minutes in an optimised one.
const SEEDS: u64 = 300;
/// 4 000 histories without a rule.
const SEEDS_WITHOUT: u64 = 2_000;

fn violations(seed: u64, rules: Rules) -> Vec<String> {
    let mut world = World::new(seed, rules);
    world.run(400);
    world.settle();
    if world.wrong.is_empty() { Vec::new() } else { [world.told, world.wrong].concat() }
}

#[test]
fn nothing_acknowledged_is_lost_and_every_owner_can_go_on() {
    let number = |name: &str| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let (first, seeds) = (number("CANTRIP_MODEL_FIRST").unwrap_or(0), number("CANTRIP_MODEL_SEEDS").unwrap_or(SEEDS));
    for seed in first..seeds {
        let wrong = violations(seed, Rules::ALL);
        assert!(wrong.is_empty(), "history {seed}: {}", wrong.join("\n"));
    }
}

/// The rules that chance has to miss within so many histories; [`directed::ALL`] has the rest.
#[test]
fn each_rule_is_missed_when_it_is_left_out() {
    let mut missing = Vec::new();
    for (rule, name) in Rules::NAMES.iter().enumerate() {
        let is_directed = directed::ALL.iter().any(|(directed, _)| directed == name);
        if !is_directed && !(0..SEEDS_WITHOUT).any(|seed| !violations(seed, Rules::without(rule)).is_empty()) {
            missing.push(*name);
        }
    }
    assert!(missing.is_empty(), "nothing in {SEEDS_WITHOUT} histories misses: {}", missing.join(", "));
}

#[test]
fn histories_that_are_made_for_a_rule_miss_it_and_nothing_else() {
    for (name, history) in directed::ALL {
        let rule = Rules::NAMES.iter().position(|known| *known == name).unwrap();
        let with = history(Rules::ALL).lost();
        assert!(with.is_empty(), "{name}: {}", with.join("\n"));
        let without = history(Rules::without(rule)).lost();
        assert!(!without.is_empty(), "{name} is not missed");
    }
}
