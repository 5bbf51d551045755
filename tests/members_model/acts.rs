//! What honest nodes do in a loom.

#[path = "attacks.rs"]
mod attacks;

use attacks::{hostile, late};

use crate::derive::{ADMIT, ADOPT, Body, Id, Node, Rules, Succession, Target, UNBOUNDED, WRITE, Who, minter};
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
        10 => settle(world, rules),
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

/// What the founder settles: one of its casts or of another's, with the admission of the host.
fn settling(world: &mut World) -> Option<(u16, u16, [Node; 2], Id)> {
    let by = if world.random.one_in(3) { 1 + world.random.below(2) as Node } else { FOUNDER };
    let caller = world.key(by);
    if world.expelled.contains_key(&by) {
        return None;
    }
    let casts = world.casts.iter().filter(|(ent, child, of, host)| {
        *of == by
            && *host != FOUNDER
            && minter(*ent) == caller
            && !world.taken.contains(ent)
            && !world.settled.contains(child)
            && !world.expelled.contains_key(host)
    });
    let casts = casts.copied().collect::<Vec<_>>();
    let (ent, child, _, host) = world.random.pick(&casts)?;
    let is_forked = world.forked.contains(&caller) || world.forked.contains(&world.key(FOUNDER));
    if is_forked || world.forked.contains(&world.key(host)) || !world.stolen.is_empty() {
        return None;
    }
    let of_cast = |entry: &crate::derive::Entry| {
        entry.writer == caller && matches!(entry.body, Body::Admitted { scope, .. } if scope == Some(child))
    };
    let admission = world.all.entries.values().filter(|entry| of_cast(entry)).max_by_key(|entry| entry.place)?.id;
    // Its host is the one that was admitted, under the key that it has.
    let opened = world.all.entries.values().find(|entry| entry.relies == admission && entry.ent() == Some(child))?;
    (opened.writer == world.key(host)).then_some((ent, child, [by, host], admission))
}

/// A caller settles a cast: what its host writes afterwards is no part of it, and what it wrote before stays.
fn settle(world: &mut World, rules: Rules) {
    let Some((ent, child, [by, host], admission)) = settling(world) else { return };
    if by != FOUNDER {
        // Whoever goes on with an entity has its children, too.
        let Some(adopted) = world.adopt(world.key(FOUNDER), world.basis[0].0, ent, rules) else { return };
        world.taken.insert(ent);
        world.noted.honest.insert(adopted, FOUNDER);
    }
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
