//! What honest nodes do in a loom, and what hostile ones try.

use crate::derive::{
    ADMIT, ADOPT, Body, EPOCHS, Id, Node, Record, Rules, Succession, Target, UNBOUNDED, WRITE, Who, minter,
};
use crate::world::{FOUNDER, OUTSIDER, World, holder, is_hostile};

/// One random history.
pub(crate) fn history(seed: u64, rules: Rules) -> World {
    let mut world = World::new(seed);
    world.random.next();
    for node in [1, 2] {
        let rights = world.random.pick(&[WRITE, WRITE | ADOPT, WRITE | ADMIT, WRITE | ADOPT | ADMIT]).unwrap_or(WRITE);
        let by = if node == 2 && world.may(1, ADMIT) && world.random.one_in(2) { 1 } else { FOUNDER };
        let rights = if by == 1 { rights & world.basis[1].1 } else { rights };
        world.admit(by, node, rights, Vec::new());
    }
    for node in [3, 4] {
        let rights = [0, 0, WRITE, WRITE, WRITE | ADMIT, WRITE | ADOPT, WRITE | ADOPT | ADMIT];
        let rights = world.random.pick(&rights).unwrap_or(0);
        if rights != 0 {
            let by = if world.may(1, ADMIT) && rights & !world.basis[1].1 == 0 && world.random.one_in(2) {
                1
            } else {
                FOUNDER
            };
            world.admit(by, node, rights, Vec::new());
        }
    }
    for node in [0, 1, 2, 0, 1] {
        world.open(node);
    }
    let acts = 6 + world.random.below(16);
    for _ in 0..acts {
        if world.random.one_in(2) {
            honest(&mut world, rules);
        } else {
            hostile(&mut world, rules);
        }
    }
    world.go_on(rules);
    world.prove();
    world
}

fn own_ent(world: &mut World) -> Option<(u16, Node)> {
    let free = world.ents.iter().filter(|(ent, node)| {
        !world.taken.contains(ent)
            && !world.expelled.contains_key(node)
            && !world.forked.contains(&world.key(*node))
            && minter(*ent) == world.key(*node)
    });
    let free = free.copied().collect::<Vec<_>>();
    world.random.pick(&free)
}

fn honest(world: &mut World, rules: Rules) {
    match world.random.below(16) {
        0 => {
            let node = world.random.below(3) as Node;
            if !world.expelled.contains_key(&node) {
                world.open(node);
            }
        }
        1 | 2 => {
            if let Some((ent, node)) = own_ent(world) {
                world.honest(node, Body::Intent { ent });
                world.honest(node, Body::Step { ent });
            }
        }
        3 | 4 => {
            let host = world.random.below(5) as Node;
            let calls = own_ent(world).filter(|(_, node)| *node != host && !world.expelled.contains_key(&host));
            if let Some((ent, node)) = calls {
                world.cast(ent, node, host);
            }
        }
        5 => judge(world),
        6 => adopt(world, rules),
        7 => restore(world, rules),
        8 => {
            let node = 1 + world.random.below(4) as Node;
            if !world.expelled.contains_key(&node) && world.basis[usize::from(node)].0 != 0 {
                world.expel(node);
                // An entry of its own making that still lies in a drawer.
                let late = world.key(node);
                world.write(late, world.basis[usize::from(node)].0, Body::Rewarded { ent: 0, of: 0, ends: Vec::new() });
            }
        }
        9 => readmit(world),
        10 => settle(world),
        11 => thief(world),
        12 => founders_keys(world),
        13 => unlucky_caller(world),
        14 => lost_certificate(world),
        _ => expelled_fork(world),
    }
}

fn judge(world: &mut World) {
    let Some(of) = world.some_entry(|entry| matches!(entry.body, Body::Intent { .. })) else { return };
    let ent = of.ent().unwrap_or(0);
    for _ in 0..2 {
        let node = world.random.below(3) as Node;
        if !world.expelled.contains_key(&node) && !world.forked.contains(&world.key(node)) {
            world.honest(node, Body::Rewarded { ent, of: of.id, ends: Vec::new() });
        }
    }
}

/// An honest member that may adopts another's entity.
fn adopt(world: &mut World, rules: Rules) {
    let Some((ent, owner)) = own_ent(world) else { return };
    let node = world.random.below(3) as Node;
    if node == owner || !world.may(node, ADOPT) || world.expelled.contains_key(&node) {
        return;
    }
    if world.forked.contains(&world.key(node)) {
        return;
    }
    let key = world.key(node);
    let before = world.tip(world.key(owner));
    if let Some(id) = world.adopt(key, world.basis[usize::from(node)].0, ent, rules) {
        world.taken.insert(ent);
        // What it pinned stays, though its writer equivocates or is expelled to nothing later.
        let is_pinned = |entry: &crate::derive::Entry| {
            entry.signed
                && entry.ent() == Some(ent)
                && holder(entry.writer) == owner
                && !matches!(entry.body, Body::Rewarded { .. })
        };
        let pinned = world.all.entries.values().filter(|entry| is_pinned(entry)).map(|entry| entry.id);
        let pinned = pinned.collect::<Vec<_>>();
        let lasts = world.rights_of_hostile & ADOPT == 0 && owner != FOUNDER && !world.all.proofs.contains_key(&key);
        if lasts && node == FOUNDER && world.stolen.is_empty() {
            world.noted.stays.extend(pinned.iter().filter(|id| {
                let reader = crate::derive::Reader::new(&world.all, rules);
                reader.is_in_thread(&world.all.entries[*id])
            }));
            if world.random.one_in(2) {
                // Both histories: the owner writes another end behind the place before the last.
                let place = world.all.entries[&before].prev;
                world.write_at(place, world.key(owner), world.basis[usize::from(owner)].0, Body::Step { ent }, true);
                world.forked.insert(world.key(owner));
            }
        }
        world.noted.honest.insert(id, node);
    }
}

/// A folder that was put back writes a second end of its log, before anybody notices.
fn restore(world: &mut World, rules: Rules) {
    let node = world.random.below(3) as Node;
    let key = world.key(node);
    let Some((ent, _)) = world.ents.iter().copied().find(|(ent, of)| *of == node && minter(*ent) == key) else {
        return;
    };
    if world.forked.contains(&key) || world.expelled.contains_key(&node) || !world.stolen.is_empty() {
        return;
    }
    let place = world.tip(key);
    let relies = world.basis[usize::from(node)].0;
    world.write_at(place, key, relies, Body::Step { ent }, true);
    // A new key may have gone on from one end before the other came to light.
    let goes_on = world.random.one_in(2) && !world.taken.contains(&ent) && !world.all.proofs.contains_key(&key);
    let renewed = if world.random.one_in(2) || goes_on { world.renew(node, false) } else { None };
    if let Some(new) = renewed.filter(|_| goes_on) {
        let adopted = world.adopt(new, relies, ent, rules);
        let intent = world.write(new, relies, Body::Intent { ent });
        if let Some(adopted) = adopted {
            world.noted.honest.extend([(adopted, node), (intent, node)]);
        }
    }
    world.write_at(place, key, relies, Body::Step { ent }, true);
    world.forked.insert(key);
}

fn readmit(world: &mut World) {
    let gone = world.expelled.iter().map(|(node, id)| (*node, *id)).collect::<Vec<_>>();
    let Some((node, by)) = world.random.pick(&gone) else { return };
    // What it wrote meanwhile on its old admission stays void; what it writes on the new one counts.
    let ent = world.mint(world.key(node));
    let old = world.basis[usize::from(node)].0;
    let void = world.write(world.key(node), old, Body::Opened { ent, parent: 0 });
    let names = [vec![by], world.again.get(&node).copied().into_iter().collect()].concat();
    let id = world.admit(FOUNDER, node, WRITE, names);
    world.again.insert(node, id);
    world.noted.not_at_last.insert(void);
    world.expelled.remove(&node);
    if !is_hostile(node) && !world.forked.contains(&world.key(node)) {
        world.open(node);
        // Others call it again too, who had no say in its return.
        if let Some((ent, caller)) = own_ent(world).filter(|(_, caller)| *caller != node) {
            world.cast(ent, caller, node);
        }
    }
}

/// What the founder settles: one of its casts, with the admission of the host.
fn settling(world: &mut World) -> Option<(u16, u16, Node, Id)> {
    let caller = world.key(FOUNDER);
    let casts = world.casts.iter().filter(|(ent, child, by, host)| {
        *by == FOUNDER
            && *host != FOUNDER
            && minter(*ent) == caller
            && !world.taken.contains(ent)
            && !world.settled.contains(child)
            && !world.expelled.contains_key(host)
    });
    let casts = casts.copied().collect::<Vec<_>>();
    let (ent, child, _, host) = world.random.pick(&casts)?;
    if world.forked.contains(&caller) || world.forked.contains(&world.key(host)) || !world.stolen.is_empty() {
        return None;
    }
    let of_cast = |entry: &crate::derive::Entry| {
        entry.writer == caller && matches!(entry.body, Body::Admitted { scope, .. } if scope == Some(child))
    };
    let admission = world.all.entries.values().filter(|entry| of_cast(entry)).max_by_key(|entry| entry.place)?.id;
    // Its host is the one that was admitted, under the key that it has.
    let opened = world.all.entries.values().find(|entry| entry.relies == admission && entry.ent() == Some(child))?;
    (opened.writer == world.key(host)).then_some((ent, child, host, admission))
}

/// A caller settles a cast: what its host writes afterwards is no part of it, and what it wrote before stays.
fn settle(world: &mut World) {
    let Some((ent, child, host, admission)) = settling(world) else { return };
    let writer = world.key(host);
    // What it delegated in time it may not have run by others afterwards.
    let handed = is_hostile(host).then(|| {
        let below = world.mint(writer);
        world.write(writer, admission, Body::Intent { ent: child });
        (below, world.write(writer, admission, Body::Delegated { ent: child, child: below }))
    });
    let tip = world.tip(writer);
    world.honest(FOUNDER, Body::Settled { ent, child, admission, tips: vec![tip] });
    world.settled.insert(child);
    let reached = |entry: &&crate::derive::Entry| {
        entry.signed
            && entry.ent() == Some(child)
            && entry.writer == writer
            && entry.relies == admission
            && !matches!(entry.body, Body::Rewarded { .. })
    };
    let ids = world.all.entries.values().filter(reached).map(|entry| entry.id).collect::<Vec<_>>();
    if world.rights_of_hostile & ADOPT == 0 && !is_hostile(host) {
        world.noted.stays.extend(ids);
    }
    if let Some(handed) = handed {
        late(world, (child, admission), host, handed);
    }
    // A further intent needs an admission of its own.
    if !is_hostile(host) && world.random.one_in(2) {
        let names = world.again.get(&host).copied().into_iter().collect();
        let (who, key) = (Who::Node(host), Some(writer));
        let body = Body::Admitted { who, rights: WRITE, scope: Some(child), most: UNBOUNDED, key, names };
        let again = world.honest(FOUNDER, body);
        for body in [Body::Intent { ent: child }, Body::Step { ent: child }] {
            let id = world.write(writer, again, body);
            world.noted.honest.insert(id, host);
        }
    }
    // The host is cut to nothing afterwards, by somebody who may.
    if world.random.one_in(2) && host == 2 {
        world.voided.insert(host);
        let ends = Vec::new();
        let id = world.honest(FOUNDER, Body::Expelled { target: Target::Node(host), ends });
        world.expelled.insert(host, id);
    }
}

/// What a host writes behind the end of its cast, and whom it would have write for it.
fn late(world: &mut World, (child, admission): (u16, Id), host: Node, (below, parent): (u16, Id)) {
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

/// A folder of an honest node was copied by a thief, who certifies a successor of the stolen key with an own certificate.
fn thief(world: &mut World) {
    let node = world.random.pick(&[0, 1, 2]).unwrap_or(1);
    if !world.stolen.is_empty() || !world.expelled.is_empty() || world.forked.contains(&world.key(node)) {
        return;
    }
    let old = world.key(node);
    let (Some(new), relies) = (world.fresh_key(OUTSIDER), world.basis[usize::from(node)].0) else { return };
    if node == FOUNDER && world.is_bare_founder() || world.tip(old) == 0 {
        return;
    }
    world.stolen.insert(old);
    world.all.successions.insert(Succession { old, new, by_old: true, by_new: true });
    if world.random.one_in(2) {
        world.certify(new, OUTSIDER, 9);
    }
    let ends = vec![(old, world.all.entries[&world.tip(old)].place, world.tip(old))];
    if node == FOUNDER {
        world.renew(FOUNDER, true);
    }
    let by = world.honest(FOUNDER, Body::Expelled { target: Target::Key(old), ends });
    let ent = world.mint(new);
    for key in [new, old] {
        let opened = world.write(key, relies, Body::Opened { ent, parent: 0 });
        let who = Who::Node(OUTSIDER);
        let body = Body::Admitted { who, rights: WRITE, scope: None, most: UNBOUNDED, key: None, names: Vec::new() };
        let admitted = world.write(key, relies, body);
        let ends = Vec::new();
        let target = Target::Key(world.key(FOUNDER));
        let against = world.write(key, relies, Body::Expelled { target, ends });
        world.noted.not_at_last.extend([opened, admitted, against]);
    }
    if node == FOUNDER {
        world.noted.stays.insert(by);
    }
}

/// Two of the founder's own keys: the later certificate ends the earlier one, never the reverse.
fn founders_keys(world: &mut World) {
    if world.is_bare_founder() || world.forked.contains(&world.key(FOUNDER)) || !world.stolen.is_empty() {
        return;
    }
    let old = world.key(FOUNDER);
    if old != 0 {
        return;
    }
    // The node has a second folder, which nobody but its certificate vouches for; and what it opens is the founder's.
    let Some(new) = world.fresh_key(FOUNDER) else { return };
    world.certify(new, FOUNDER, 2);
    let ent = world.mint(new);
    let opened = world.write(new, 0, Body::Opened { ent, parent: 0 });
    world.noted.stays.insert(opened);
    let ends = Vec::new();
    world.write(old, 0, Body::Expelled { target: Target::Key(new), ends });
}

/// A caller that equivocates cannot take from its host what it gave, nor from whom it admitted.
fn unlucky_caller(world: &mut World) {
    let caller = world.random.pick(&[3, 4]).unwrap_or(3);
    let (relies, rights) = world.basis[usize::from(caller)];
    let host = 1;
    if rights & WRITE == 0 || !world.expelled.is_empty() || world.rights_of_hostile & ADOPT != 0 {
        return;
    }
    if world.forked.contains(&world.key(host)) || !world.stolen.is_empty() || world.hostile_may_admit {
        return;
    }
    let key = world.key(caller);
    world.prove();
    if world.expels || world.all.proofs.contains_key(&key) || world.all.proofs.contains_key(&world.key(host)) {
        return;
    }
    world.expels = true;
    let ent = world.mint(key);
    world.write(key, relies, Body::Opened { ent, parent: 0 });
    let child = world.mint(key);
    let before = world.tip(key);
    let parent = world.write(key, relies, Body::Delegated { ent, child });
    let hosts = Some(world.key(host));
    let scope = Some(child);
    let names = world.again.get(&host).copied().into_iter().collect();
    let body = Body::Admitted { who: Who::Node(host), rights: WRITE, scope, most: UNBOUNDED, key: hosts, names };
    let admitted = world.write(key, relies, body);
    let hosting = world.key(host);
    let opened = world.write(hosting, admitted, Body::Opened { ent: child, parent });
    let step = world.write(hosting, admitted, Body::Step { ent: child });
    if world.random.one_in(2) {
        world.write_at(before, key, relies, Body::Step { ent }, true);
        world.forked.insert(key);
    }
    world.noted.stays.extend([opened, step]);
    // And it, or another, opens what the host has opened.
    let second = world.write(key, relies, Body::Opened { ent: child, parent });
    world.noted.not_at_last.insert(second);
    if let Some(other) = world.fresh_key(host) {
        world.certify(other, host, 1);
        let wrong = world.write(other, admitted, Body::Opened { ent: child, parent });
        world.noted.not_at_last.insert(wrong);
    }
    // A second opening in the host's own log is reported only.
    let again = world.write(hosting, admitted, Body::Opened { ent: child, parent });
    world.noted.not_at_last.insert(again);
}

/// A hostile member is expelled with the head of one of its histories, and admits friends in another.
fn expelled_fork(world: &mut World) {
    let node = 3;
    let (relies, rights) = world.basis[usize::from(node)];
    if rights & WRITE == 0 || !world.expelled.is_empty() || world.forked.contains(&world.key(FOUNDER)) {
        return;
    }
    if !world.stolen.is_empty() {
        return;
    }
    let key = world.key(node);
    world.prove();
    if world.all.proofs.contains_key(&key) {
        return;
    }
    let ent = world.mint(key);
    let opened = world.write(key, relies, Body::Opened { ent, parent: 0 });
    let before = world.tip(key);
    let step = world.write(key, relies, Body::Step { ent });
    world.write(key, relies, Body::Step { ent });
    let by = world.expel(node);
    // Those of its entries stand that the founder saw, whatever else it writes.
    world.noted.stays.extend([opened, step]);
    let who = Who::Node(OUTSIDER);
    let body = Body::Admitted {
        who,
        rights: rights & (WRITE | ADMIT),
        scope: None,
        most: UNBOUNDED,
        key: None,
        names: Vec::new(),
    };
    let friend = world.write_at(before, key, relies, body, true);
    let fork = world.write_at(friend, key, relies, Body::Step { ent }, true);
    world.noted.not_at_last.extend([friend, fork]);
    // Somebody without authority vouches for the wrong history.
    let place = world.all.entries[&fork].place;
    let other = world.key(4);
    if world.random.one_in(2) {
        let ends = vec![(key, place, fork)];
        world.write(other, world.basis[4].0, Body::Expelled { target: Target::Node(node), ends });
    }
    // Whoever is in its chain no longer admits it again; nor does a friend with rights from elsewhere.
    for (friend, names) in [(4, vec![by]), (4, Vec::new())] {
        let (relies, rights) = world.basis[friend];
        let body = Body::Admitted {
            who: Who::Node(node),
            rights: rights & WRITE,
            scope: None,
            most: UNBOUNDED,
            key: None,
            names,
        };
        let again = world.write(world.key(friend as Node), relies, body);
        let late = world.mint(key);
        let late = world.write(key, again, Body::Opened { ent: late, parent: 0 });
        world.noted.not_at_last.insert(late);
    }
    // A second expulsion at a higher place raises nothing.
    if world.random.one_in(2) {
        let tip = world.tip(key);
        let ends = vec![(key, world.all.entries[&tip].place, tip)];
        world.honest(FOUNDER, Body::Expelled { target: Target::Node(node), ends });
    }
}

fn hostile(world: &mut World, rules: Rules) {
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

/// A certificate is lost and expelled: the key that a later one bound too goes on, keys that it alone bound do not.
fn lost_certificate(world: &mut World) {
    let node = world.random.pick(&[1, 2]).unwrap_or(1);
    let key = world.key(node);
    if holder(key) * 8 != key || !world.expelled.is_empty() || !world.stolen.is_empty() || world.forked.contains(&key) {
        return;
    }
    let Some(thief) = world.fresh_key(OUTSIDER) else { return };
    world.certify(key, node, 7);
    world.certify(thief, node, 1);
    world.honest(FOUNDER, Body::Expelled { target: Target::Cert(node, 1), ends: Vec::new() });
    let ent = world.mint(thief);
    let opened = world.write(thief, world.basis[usize::from(node)].0, Body::Opened { ent, parent: 0 });
    world.noted.not_at_last.insert(opened);
}
