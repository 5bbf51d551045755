//! What hostile nodes try in a loom.

use crate::derive::{ADMIT, ADOPT, Body, EPOCHS, Id, Node, Record, Rules, Succession, Target, UNBOUNDED, WRITE, Who};
use crate::world::{FOUNDER, OUTSIDER, World, holder, is_hostile};

/// What a host writes behind the end of its cast, and whom it would have write for it.
pub(super) fn late(world: &mut World, (child, admission): (u16, Id), host: Node, (below, parent): (u16, Id)) {
    let (key, friend) = (world.key(host), world.key(OUTSIDER));
    let intent = world.write(key, admission, Body::Intent { ent: child });
    let (who, scope) = (Who::Node(OUTSIDER), Some(below));
    let body = Body::Admitted { who, rights: WRITE, scope, most: UNBOUNDED, key: Some(friend), names: Vec::new() };
    let handed = world.write(key, admission, body);
    let opened = world.write(friend, handed, Body::Opened { ent: below, parent });
    world.noted.not_at_last.extend([intent, handed, opened]);
}

/// Somebody says of another's cast that it is over, or of its own by an admission that it was not given.
fn settles_for_others(world: &mut World, key: u8, relies: Id) {
    // Those of members: nobody but the founder itself is as near to the founder as it.
    let of_members = world.casts.iter().filter(|(.., caller, host)| *caller != FOUNDER && !is_hostile(*host));
    let of_members = of_members.copied().collect::<Vec<_>>();
    let Some((ent, child, _, _)) = world.random.pick(&of_members) else { return };
    let of_cast = world
        .some_entry(|entry| matches!(entry.body, Body::Admitted { scope: Some(scope), .. } if scope == child))
        .map_or(0, |entry| entry.id);
    let own = world.mint(key);
    for (ent, relies) in [(ent, relies), (own, relies), (child, of_cast)] {
        world.write(key, relies, Body::Settled { ent, child, admission: of_cast, tips: Vec::new() });
    }
}

/// A host writes more than its caller has room for.
fn greedy(world: &mut World) {
    let Some((_, child, _, host)) = world.random.pick(&world.casts.clone()) else { return };
    let bounded = |entry: &crate::derive::Entry| matches!(entry.body, Body::Admitted { scope, most, .. } if scope == Some(child) && most != UNBOUNDED);
    let Some(admission) = world.some_entry(bounded).map(|entry| entry.id) else { return };
    let (key, friend, before) = (world.key(host), world.key(OUTSIDER), world.tip(world.key(host)));
    // By another right of its own it may go on with what it owns.
    for number in 0..7 {
        let body = if number == 0 { Body::Intent { ent: child } } else { Body::Step { ent: child } };
        let id = world.write(key, admission, body);
        if number > 3 {
            world.noted.beyond.insert(id);
        }
    }
    let below = world.mint(key);
    let parent = world.write(key, admission, Body::Delegated { ent: child, child: below });
    let (who, scope) = (Who::Node(OUTSIDER), Some(below));
    let body = Body::Admitted { who, rights: WRITE, scope, most: UNBOUNDED, key: Some(friend), names: Vec::new() };
    let handed = world.write(key, admission, body);
    let opened = world.write(friend, handed, Body::Opened { ent: below, parent });
    world.noted.beyond.extend([parent, handed, opened]);
    if world.random.one_in(4) {
        world.write_at(before, key, admission, Body::Intent { ent: child }, true);
    }
}

pub(super) fn hostile(world: &mut World, rules: Rules) {
    let node = 3 + world.random.below(3) as Node;
    let own = world.basis[usize::from(node)].0;
    let key = if world.random.one_in(6) { world.fresh_key(node).unwrap_or(world.key(node)) } else { world.key(node) };
    let relies = if own == 0 || world.random.one_in(4) { world.some_admission() } else { own };
    let victim = world.some_entry(|entry| entry.ent().is_some_and(World::is_minted_by_honest));
    let Some(victim) = victim else { return };
    let ent = victim.ent().unwrap_or(0);
    match world.random.below(19) {
        0 => {
            let id = world.write(key, relies, Body::Opened { ent, parent: 0 });
            let is_hosted = world.casts.iter().any(|(_, child, _, host)| *child == ent && *host == node);
            if !is_hosted {
                world.noted.never.insert(id);
            }
        }
        1 | 2 => {
            let epoch = world.epoch();
            let is_hosted = world.casts.iter().any(|(_, child, ..)| *child == ent);
            let follows = if world.random.one_in(4) { world.random.next() } else { victim.id };
            let id = world.write(key, relies, Body::Adopted { ent, follows, epoch });
            world.write(key, relies, Body::Step { ent });
            if epoch > EPOCHS && matches!(victim.body, Body::Opened { .. }) {
                world.noted.never.insert(id);
            }
            if !is_hosted {
                world.noted.never_without.push((id, ADOPT));
            }
        }
        3 => {
            let friend = Who::Node(OUTSIDER);
            let rights = if world.random.one_in(2) { WRITE } else { 1 + world.random.below(7) as u8 };
            let scope = if world.random.one_in(2) { Some(ent) } else { None };
            let body = Body::Admitted {
                who: friend,
                rights,
                scope,
                most: UNBOUNDED,
                key: Some(world.key(OUTSIDER)),
                names: Vec::new(),
            };
            let id = world.write(key, relies, body);
            let friend = world.key(OUTSIDER);
            let mine = world.mint(friend);
            let opened = world.write(friend, id, Body::Opened { ent: scope.unwrap_or(mine), parent: 0 });
            if scope.is_some() {
                world.noted.never.insert(opened);
                let body = Body::Rewarded { ent, of: victim.id, ends: Vec::new() };
                let judged = world.write(friend, id, body);
                world.noted.never_without.push((judged, ADMIT));
            } else {
                world.noted.never_without.push((id, ADMIT | rights));
                world.noted.never_without.push((opened, ADMIT));
            }
        }
        4 if !world.expels => {
            world.expels = true;
            let who = world.random.pick(&[0, 1, 2]).unwrap_or(0);
            let target = if world.random.one_in(2) { Target::Node(who) } else { Target::Key(world.key(who)) };
            world.write(key, relies, Body::Expelled { target, ends: Vec::new() });
        }
        5 => forge(world, ent, victim.id),
        6 => {
            let (own, theirs) = (world.key(node), world.random.pick(&[0, 8, 16]).unwrap_or(8));
            let of = holder(theirs);
            world.all.records.insert(Record { key: theirs, node, begins: 7, by_cert: true, by_key: false });
            world.all.records.insert(Record { key: own, node: of, begins: 7, by_cert: false, by_key: true });
            let mine = world.mint(own);
            let id = world.write(own, world.basis[usize::from(of)].0, Body::Opened { ent: mine, parent: 0 });
            world.noted.never.insert(id);
        }
        7 => {
            let (own, theirs) = (world.key(node), world.random.pick(&[0, 8, 16]).unwrap_or(8));
            world.all.successions.insert(Succession { old: own, new: theirs, by_old: true, by_new: false });
            world.all.successions.insert(Succession { old: theirs, new: own, by_old: false, by_new: true });
            let mine = world.mint(own);
            let id =
                world.write(own, world.basis[usize::from(holder(theirs))].0, Body::Opened { ent: mine, parent: 0 });
            world.noted.never.insert(id);
        }
        8 | 9 => {
            // Back-dated: a second history from any earlier place.
            let Some(at) = world.some_entry(|entry| entry.writer == key && entry.signed) else { return };
            let mine = world.mint(key);
            world.write_at(at.prev, key, relies, Body::Opened { ent: mine, parent: 0 }, true);
            let body = Body::Admitted {
                who: Who::Node(OUTSIDER),
                rights: WRITE,
                scope: Some(mine),
                most: UNBOUNDED,
                key: Some(world.key(OUTSIDER)),
                names: Vec::new(),
            };
            let id = world.write_at(at.prev, key, relies, body, true);
            world.write(world.key(OUTSIDER), id, Body::Opened { ent: mine, parent: 0 });
        }
        10 => {
            for body in [Body::Step { ent }, Body::Intent { ent }] {
                let id = world.write(key, relies, body);
                if world.casts.iter().all(|(_, child, ..)| *child != ent) {
                    world.noted.never_without.push((id, ADOPT));
                }
            }
        }
        11 => {
            let id = world.write(key, relies, Body::Rewarded { ent, of: victim.id, ends: vec![victim.id] });
            if world.basis[usize::from(node)].0 == 0 && !world.hostile_may_admit {
                let hosts = world.casts.iter().any(|(.., host)| *host == node || is_hostile(*host));
                world.noted.never_without.extend((!hosts).then_some((id, WRITE | ADMIT)));
            }
        }
        12 => retake(world, rules),
        13 => claim_below(world),
        14 => tie(world),
        15 => vouched(world),
        16 => settles_for_others(world, key, relies),
        17 => greedy(world),
        _ => {
            // Behind what it wrote itself into the entity that it does not own.
            let Some(key) = world.fresh_key(node) else { return };
            world.certify(key, node, 1);
            let follows = world.write(key, relies, Body::Intent { ent });
            let id = world.write(key, relies, Body::Adopted { ent, follows, epoch: 2 });
            world.noted.never.extend([follows, id]);
        }
    }
}

/// Entries in the name of others, which no signature covers.
fn forge(world: &mut World, ent: u16, follows: Id) {
    let name = world.random.pick(&[0, 8, 16]).unwrap_or(0);
    let (prev, relies) = (world.tip(name), world.basis[usize::from(holder(name))].0);
    let bodies = [
        Body::Adopted { ent, follows, epoch: 1 },
        Body::Step { ent },
        Body::Admitted {
            who: Who::Node(OUTSIDER),
            rights: 7,
            scope: None,
            most: UNBOUNDED,
            key: None,
            names: Vec::new(),
        },
        Body::Expelled { target: Target::Node(1), ends: Vec::new() },
    ];
    for body in bodies {
        let id = world.write_at(prev, name, relies, body, false);
        world.noted.never.insert(id);
    }
}

/// A former owner that may only write takes its entity back from whoever adopted it.
fn retake(world: &mut World, rules: Rules) {
    let (relies, rights) = world.basis[3];
    if rights != WRITE || !world.expelled.is_empty() || world.rights_of_hostile & ADOPT != 0 || !world.stolen.is_empty()
    {
        return;
    }
    if world.forked.contains(&world.key(FOUNDER)) || world.forked.contains(&world.key(3)) {
        return;
    }
    let key = world.key(3);
    let ent = world.mint(key);
    let opened = world.write(key, relies, Body::Opened { ent, parent: 0 });
    let founder = world.key(FOUNDER);
    let Some(adopted) = world.adopt(founder, 0, ent, rules) else { return };
    let step = world.write(founder, 0, Body::Intent { ent });
    let again = world.write(key, relies, Body::Adopted { ent, follows: opened, epoch: 9 });
    world.noted.not_at_last.insert(again);
    world.noted.stays.extend([adopted, step]);
}

/// A host says that an entity which the caller never delegated is below its cast.
fn claim_below(world: &mut World) {
    let Some((_, child, caller, host)) = world.random.pick(&world.casts.clone()) else { return };
    let (key, node) = (world.key(host), host);
    let relies =
        world.some_entry(|entry| matches!(entry.body, Body::Admitted { scope: Some(scope), .. } if scope == child));
    let Some(relies) = relies.filter(|_| is_hostile(node) && !is_hostile(caller)) else { return };
    // A root of its own, and a child of the caller's entity.
    let (root, below) = (world.mint(key), world.mint(key));
    let opened = world.write(key, relies.id, Body::Opened { ent: root, parent: 0 });
    let parent = world.write(key, relies.id, Body::Delegated { ent: world.casts[0].0, child: below });
    let other = world.write(key, relies.id, Body::Opened { ent: below, parent });
    // Nor may it hand on what it has not.
    let body = Body::Admitted {
        who: Who::Node(OUTSIDER),
        rights: WRITE,
        scope: Some(root),
        most: UNBOUNDED,
        key: Some(world.key(OUTSIDER)),
        names: Vec::new(),
    };
    let handed = world.write(key, relies.id, body);
    let elsewhere = world.write(world.key(OUTSIDER), handed, Body::Opened { ent: root, parent: 0 });
    world.noted.never_without.extend([(opened, ADOPT), (other, ADOPT), (elsewhere, ADMIT)]);
}

/// An adoption of the same epoch as the founder's, with a ground id.
fn tie(world: &mut World) {
    let (relies, rights) = world.basis[3];
    world.prove();
    let (key, founder) = (world.key(3), world.key(FOUNDER));
    let proved = world.all.proofs.contains_key(&key) || world.all.proofs.contains_key(&founder);
    if rights & ADOPT == 0 || rights & WRITE == 0 || proved || !world.expelled.is_empty() || !world.stolen.is_empty() {
        return;
    }
    let ent = world.mint(key);
    let follows = world.write(key, relies, Body::Opened { ent, parent: 0 });
    let body = Body::Adopted { ent, follows, epoch: 5 };
    let adopted = world.write(founder, 0, body.clone());
    world.write(key, relies, body);
    if !world.forked.contains(&founder) {
        world.noted.stays.insert(adopted);
    }
}

/// Of two histories one is vouched for by an expulsion of somebody who has no say.
fn vouched(world: &mut World) {
    let (relies, rights) = world.basis[3];
    let (other, by) = (world.key(4), world.basis[4].0);
    if rights & WRITE == 0 || by == 0 || world.all.entries[&relies].writer == other {
        return;
    }
    let key = world.key(3);
    let ent = world.mint(key);
    let before = world.tip(key);
    let one = world.write(key, relies, Body::Opened { ent, parent: 0 });
    world.write_at(before, key, relies, Body::Intent { ent }, true);
    let ends = vec![(key, world.all.entries[&one].place, one)];
    world.write(other, by, Body::Expelled { target: Target::Node(3), ends });
    world.forked.insert(key);
    if !world.was_expelled {
        world.noted.not_vouched.insert(one);
    }
}
