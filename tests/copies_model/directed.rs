//! Histories that miss one rule: chance finds them too seldom.

use std::collections::BTreeSet;

use crate::record::{Body, Keeping, Node, first_key};
use crate::world::{OPENER, Rules, World};

/// The entity that they are about.
const IT: u16 = 0;

fn keeping(acks: usize, keepers: &[Node]) -> Keeping {
    Keeping { acks, keepers: keepers.iter().copied().collect() }
}

/// What happens, by these rules.
type History = fn(Rules) -> World;

/// The rule by its name in [`Rules::NAMES`], and what happens.
pub(crate) const ALL: [(&str, History); 9] = [
    ("6.2 only a disk counts", a_keeper_in_memory_forgets),
    ("6.3 a change is acknowledged under the old", a_change_that_its_old_keepers_have_not),
    ("6.3 an adopter that meets a newer change begins again", an_adopter_that_does_not_know_the_change),
    ("6.4 an adoption is acknowledged where the former owner was", two_adopters_with_other_keepers),
    ("6.5 k - n + 1 of them answer", a_folder_put_back_of_which_another_keeper_knows_more),
    ("6.5 the old log is fetched back", a_folder_put_back_that_is_gone_on_with),
    (
        "6.3 a change is said again once it is acknowledged, and no other before that",
        an_adopter_by_a_change_that_is_open,
    ),
    ("6.5 of two signed tails both are written anew", two_signed_tails),
    ("6.5 of two signed tails that may be acknowledged the later one keeps its entities", two_signed_tails),
];

fn a_keeper_in_memory_forgets(rules: Rules) -> World {
    let mut world = World::of(rules, keeping(2, &[1, 2, 3]));
    world.keeps_in_memory(1);
    world.speak(&[0, 1, 2, 3], 3);
    world.write(OPENER, IT);
    world.speak(&[0, 1, 2], 2);
    world.crash(1);
    world.go_on(3, &[1, 3]);
    world
}

fn a_change_that_its_old_keepers_have_not(rules: Rules) -> World {
    let mut world = World::of(rules, keeping(2, &[1, 2]));
    world.speak(&[0, 1, 2], 3);
    world.append(OPENER, Body::Keeping(keeping(1, &[3])));
    world.write(OPENER, IT);
    world.speak(&[0, 3], 3);
    world.go_on(1, &[1, 2]);
    world
}

fn an_adopter_that_does_not_know_the_change(rules: Rules) -> World {
    let mut world = World::of(rules, keeping(2, &[1, 2]));
    world.append(3, Body::Keeping(keeping(1, &[1])));
    world.speak(&[0, 1, 2, 3], 3);
    // It asks before there is a change, and is heard when there is one.
    world.adopt(3, IT);
    world.append(OPENER, Body::Keeping(keeping(1, &[2])));
    world.speak(&[0, 1], 2);
    world.speak(&[0, 2], 2);
    world.write(OPENER, IT);
    world.speak(&[0, 2], 2);
    world.go_on(3, &[1, 3]);
    world
}

fn two_adopters_with_other_keepers(rules: Rules) -> World {
    let mut world = World::of(rules, keeping(1, &[1]));
    world.append(2, Body::Keeping(keeping(1, &[3])));
    world.speak(&[0, 1, 2, 3], 3);
    world.go_on(2, &[1, 2]);
    world.write(2, IT);
    world.speak(&[2, 3], 3);
    world.go_on(1, &[1]);
    world
}

fn a_folder_put_back_of_which_another_keeper_knows_more(rules: Rules) -> World {
    let mut world = World::of(rules, keeping(1, &[1, 2]));
    world.speak(&[0, 1, 2], 3);
    world.keep_folder(OPENER);
    world.write(OPENER, IT);
    world.speak(&[0, 1], 2);
    world.put_back(OPENER);
    world.speak(&[0, 2], 2);
    world.write(OPENER, IT);
    world.speak(&[0, 2], 2);
    world
}

fn a_folder_put_back_that_is_gone_on_with(rules: Rules) -> World {
    let mut world = World::of(rules, keeping(0, &[1]));
    world.speak(&[0, 1], 3);
    world.keep_folder(OPENER);
    world.write(OPENER, IT);
    world.speak(&[0, 1], 2);
    world.put_back(OPENER);
    world.hear_once(OPENER, 1);
    world.adopt_alone(OPENER, IT, 1);
    world
}

fn an_adopter_by_a_change_that_is_open(rules: Rules) -> World {
    let mut world = World::of(rules, keeping(1, &[3]));
    world.append(1, Body::Keeping(keeping(1, &[2])));
    world.speak(&[0, 1, 2, 3], 3);
    world.append(OPENER, Body::Keeping(keeping(1, &[2])));
    world.speak(&[0, 1], 2);
    world.go_on(1, &[2, 3]);
    world.write(1, IT);
    world.speak(&[1, 2], 3);
    world.go_on(3, &[3]);
    world
}

fn two_signed_tails(rules: Rules) -> World {
    let mut world = World::of(rules, keeping(1, &[1, 2]));
    world.speak(&[0, 1, 2, 3], 3);
    world.keep_folder(OPENER);
    // Only one sees it who keeps nothing for the opener.
    world.write(OPENER, IT);
    world.speak(&[0, 3], 2);
    world.put_back(OPENER);
    world.speak(&[0, 1, 2], 2);
    world.write(OPENER, IT);
    world.speak(&[0, 1], 2);
    world.speak(&[0, 3], 2);
    world.go_on(OPENER, &[1, 2, 3]);
    world
}

impl World {
    /// Nothing happens by chance, and whoever is honest may adopt.
    fn of(rules: Rules, first: Keeping) -> Self {
        let mut world = Self::new(1, rules);
        world.quiet(first);
        world.append(OPENER, Body::Turn { entity: IT, was: None });
        world
    }

    /// These nodes ask, tell each other everything, and hear all of it, so often.
    fn speak(&mut self, nodes: &[Node], times: usize) {
        let among: BTreeSet<Node> = nodes.iter().copied().collect();
        for _ in 0..times {
            for from in nodes {
                self.ask(*from);
                self.deliver_among(&among);
                self.begin(*from, true);
                for to in nodes.iter().filter(|to| *to != from) {
                    self.tell(*from, *to);
                }
                self.deliver_among(&among);
            }
        }
    }

    /// One goes on with the entity, while it reaches only these.
    fn go_on(&mut self, adopter: Node, reached: &[Node]) {
        let among: BTreeSet<Node> = reached.iter().copied().chain([adopter]).collect();
        for _ in 0..4 {
            self.ask(adopter);
            self.deliver_among(&among);
            self.begin(adopter, true);
            self.adopt(adopter, IT);
            self.deliver_among(&among);
        }
    }

    /// The opener asks one keeper, and hears its answer.
    fn hear_once(&mut self, node: Node, keeper: Node) {
        self.ask(node);
        self.deliver_among(&BTreeSet::from([node, keeper]));
        self.begin(node, true);
    }

    fn adopt_alone(&mut self, node: Node, entity: u16, keeper: Node) {
        debug_assert_ne!(first_key(node), first_key(keeper));
        for _ in 0..3 {
            self.adopt(node, entity);
            self.deliver_among(&BTreeSet::from([node, keeper]));
        }
        self.write(node, entity);
    }
}
