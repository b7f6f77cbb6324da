//! Links through a relay: one machine against the rules, and two that cannot reach each other.

use super::*;
use crate::logic::peering::relayed::STEADY_MS;

/// A machine that knows node 2's address, where nothing answers, with direct links to these relays.
fn with_relays(own: u8, relays: &[u8]) -> (Peering, Vec<Output>) {
    let mut a = machine(own, &[&[1, 2], relays].concat());
    let mut out = Vec::new();
    for relay in relays {
        let link = Up { run: 9, ..up(u64::from(*relay), *relay, Purpose::Control, None, relay_addr(*relay)) };
        a.handle_link_up(0, link, &mut out);
    }
    a.handle_relays(0, relays.iter().map(|n| node(*n)).collect(), &mut out);
    a.handle_told(0, &[(node(3 - own.min(2)), addr(2))], &mut out);
    (a, out)
}

fn through(out: &[Output]) -> Vec<(DialId, NodeId, NodeId, Purpose)> {
    out.iter()
        .filter_map(|o| match o {
            Output::Dial { dial, expected: Some(to), via: Some(relay), purpose, .. } => {
                Some((*dial, *to, *relay, *purpose))
            }
            _ => None,
        })
        .collect()
}

fn direct(out: &[Output]) -> Vec<DialId> {
    out.iter().filter_map(|o| if let Output::Dial { dial, via: None, .. } = o { Some(*dial) } else { None }).collect()
}

/// Lets every direct dial fail until one through a relay is due.
fn until_asked(a: &mut Peering, out: &mut Vec<Output>, now: &mut u64) -> (DialId, NodeId) {
    for _ in 0..10_000 {
        if let Some((dial, to, relay, purpose)) = through(out).first().copied() {
            assert_eq!((to, purpose), (node(2), Purpose::Control));
            out.clear();
            return (dial, relay);
        }
        let failed = direct(out);
        out.clear();
        for dial in failed {
            a.handle_dial_failed(*now, dial, out);
        }
        *now += 100;
        a.handle_tick(*now, out);
    }
    panic!("no relay was asked by {now} ms");
}

#[test]
fn a_relay_is_asked_only_after_the_direct_way_failed_several_times() {
    let (mut a, mut out) = with_relays(1, &[3]);
    let (mut now, mut failed) = (0, 0);
    assert_eq!(through(&out), []);
    while failed < 2 {
        let dials = direct(&out);
        out.clear();
        for dial in dials {
            failed += 1;
            a.handle_dial_failed(now, dial, &mut out);
        }
        now += 10;
        a.handle_tick(now, &mut out);
        assert_eq!(through(&out), [], "after {failed} failures");
    }
    assert_eq!(until_asked(&mut a, &mut out, &mut now).1, node(3));
    assert!(now < 8_000, "long before its patience ends: {now}");
}

#[test]
fn who_knows_no_address_at_all_asks_once_its_patience_ends() {
    let mut a = machine(1, &[1, 2, 3]);
    let mut out = Vec::new();
    a.handle_relays(0, vec![node(3)], &mut out);
    a.handle_link_up(0, up(3, 3, Purpose::Control, None, relay_addr(3)), &mut out);
    assert_eq!(through(&out), []);
    let wake = out.iter().rev().find_map(|o| if let Output::Wake { at_ms } = o { Some(*at_ms) } else { None });
    let now = wake.expect("it comes back");
    out.clear();
    a.handle_tick(now, &mut out);
    assert_eq!(through(&out).len(), 1);
}

#[test]
fn the_higher_id_never_asks_and_nobody_asks_a_node_that_may_not_relay_or_is_relayed_itself() {
    let mut out = Vec::new();
    let (mut b, mut told) = with_relays(2, &[3]);
    for now in (0..120_000).step_by(500) {
        for dial in direct(&told) {
            b.handle_dial_failed(now, dial, &mut out);
        }
        told.clear();
        b.handle_tick(now, &mut told);
        out.append(&mut told.clone());
    }
    assert_eq!(through(&out).iter().filter(|d| d.1 == node(1)).count(), 0);

    for (relays, via) in [(vec![], None), (vec![node(3)], Some(node(4)))] {
        let mut a = machine(1, &[1, 2, 3, 4]);
        let mut out = Vec::new();
        a.handle_link_up(0, Up { via, ..up(3, 3, Purpose::Control, None, relay_addr(3)) }, &mut out);
        a.handle_relays(0, relays, &mut out);
        a.handle_tick(60_000, &mut out);
        assert_eq!(through(&out), []);
    }
}

#[test]
fn a_relay_that_is_busy_is_left_alone_as_long_as_it_said_and_the_next_is_asked() {
    let (mut a, mut out) = with_relays(1, &[3, 4]);
    let mut now = 0;
    let (dial, relay) = until_asked(&mut a, &mut out, &mut now);
    assert_eq!(relay, node(3), "the preferred");
    a.handle_relay_busy(now, relay, 20_000);
    a.handle_dial_failed(now, dial, &mut out);
    let began = now;
    let mut asked = Vec::new();
    while now < began + 19_000 {
        let (dial, relay) = until_asked(&mut a, &mut out, &mut now);
        asked.push((now, relay));
        a.handle_dial_failed(now, dial, &mut out);
    }
    assert!(asked.iter().all(|(at, relay)| *relay == node(4) || *at >= began + 20_000), "{asked:?}");
    assert!(asked.len() < 8, "ever later: {asked:?}");
}

#[test]
fn attempts_through_relays_become_rare_and_news_of_the_node_begins_anew() {
    let (mut a, mut out) = with_relays(1, &[3]);
    let (mut now, mut count) = (0, 0);
    while now < 3_600_000 {
        let (dial, _) = until_asked(&mut a, &mut out, &mut now);
        count += 1;
        a.handle_dial_failed(now, dial, &mut out);
    }
    assert!((15..60).contains(&count), "{count} in an hour");
    out.clear();
    a.handle_told(now, &[(node(2), addr(2))], &mut out);
    assert!(
        !through(&out).is_empty() || out.iter().any(|o| matches!(o, Output::Wake { at_ms } if *at_ms <= now + 1_100))
    );
}

#[test]
fn a_relayed_link_tells_nobody_an_address_and_is_no_direct_one() {
    let (mut a, mut out) = with_relays(1, &[3]);
    let mut now = 0;
    let (dial, relay) = until_asked(&mut a, &mut out, &mut now);
    let relayed = Up { via: Some(relay), ..up(10, 2, Purpose::Control, Some(dial), relay_addr(3)) };
    a.handle_link_up(now, relayed, &mut out);
    assert!(out.contains(&Output::Linked { node: node(2), purpose: Purpose::Control, link: LinkId(10) }));
    assert!(!out.iter().any(|o| matches!(o, Output::Remember { .. })));
    assert_eq!((a.via(node(2)), a.direct(node(2))), (Some(node(3)), None));
    assert!(a.addresses().all(|(of, _)| of == node(3)));
    let bulk: Vec<_> = through(&out).into_iter().map(|(_, to, relay, purpose)| (to, relay, purpose)).collect();
    assert_eq!(bulk, [(node(2), node(3), Purpose::Bulk)], "contents go the same way");
}

#[test]
fn a_direct_link_that_comes_and_goes_moves_nothing_and_is_not_dialled_without_pause() {
    let (mut a, mut out) = with_relays(1, &[3]);
    let mut now = 0;
    let (dial, relay) = until_asked(&mut a, &mut out, &mut now);
    a.handle_link_up(now, Up { via: Some(relay), ..up(10, 2, Purpose::Control, Some(dial), relay_addr(3)) }, &mut out);
    let (mut ups, began) = (0, now);
    let mut moved = 0;
    out.retain(|o| matches!(o, Output::Dial { .. }));
    while now < began + 120_000 {
        let dials = dials(&out);
        out.clear();
        for (dial, _, _, purpose) in dials {
            if purpose == Purpose::Control {
                ups += 1;
                a.handle_link_up(now, up(100 + ups, 2, Purpose::Control, Some(dial), addr(2)), &mut out);
                a.handle_tick(now + STEADY_MS / 2, &mut out);
                a.handle_link_down(now + STEADY_MS / 2, LinkId(100 + ups), &mut out);
            } else {
                a.handle_dial_failed(now, dial, &mut out);
            }
        }
        moved += out.iter().filter(|o| matches!(o, Output::Linked { purpose: Purpose::Control, .. })).count();
        now += 100;
        a.handle_tick(now, &mut out);
    }
    assert_eq!(moved, 0, "what carries is left alone");
    assert!((2..20).contains(&ups), "{ups} direct links in two minutes");
    // One that stands takes over, and only then the relayed one is closed.
    a.handle_network_changed(now, &mut out);
    let direct = *direct(&out).last().expect("dialled again");
    out.clear();
    a.handle_link_up(now, up(99, 2, Purpose::Control, Some(direct), addr(2)), &mut out);
    a.handle_tick(now + STEADY_MS - 1, &mut out);
    assert!(!out.contains(&Output::Close { link: LinkId(10), bye: Bye::Duplicate }));
    a.handle_tick(now + STEADY_MS, &mut out);
    assert!(out.contains(&Output::Linked { node: node(2), purpose: Purpose::Control, link: LinkId(99) }));
    assert!(out.contains(&Output::Close { link: LinkId(10), bye: Bye::Duplicate }));
}

#[test]
fn a_peer_that_was_restarted_leaves_its_relayed_link_at_once() {
    let (mut a, mut out) = with_relays(1, &[3]);
    let mut now = 0;
    let (dial, relay) = until_asked(&mut a, &mut out, &mut now);
    a.handle_link_up(now, Up { via: Some(relay), ..up(10, 2, Purpose::Control, Some(dial), relay_addr(3)) }, &mut out);
    out.clear();
    a.handle_link_up(now + 10, Up { run: 2, ..up(11, 2, Purpose::Control, None, addr(2)) }, &mut out);
    assert!(out.contains(&Output::Close { link: LinkId(10), bye: Bye::Duplicate }));
    assert!(out.contains(&Output::Linked { node: node(2), purpose: Purpose::Control, link: LinkId(11) }));
}

/// Two machines that know each other's addresses, and the relays both are connected to.
fn apart(seed: u64, delay_max: u64, fail_percent: u64, relays: &[(u8, u64)]) -> World {
    let mut world = World::new(seed, delay_max, fail_percent);
    world.direct_from = u64::MAX;
    world.relays = relays.to_vec();
    let members: Vec<u8> = [1, 2].into_iter().chain(relays.iter().map(|(n, _)| *n)).collect();
    world.machines = [machine(1, &members), machine(2, &members)];
    for side in 0..2 {
        let ids = relays.iter().map(|(n, _)| node(*n)).collect();
        world.machines[side].handle_relays(0, ids, &mut Vec::new());
        world.plan(1, Due::Found(side, 2));
        for (relay, dies) in relays {
            let at = world.delay();
            world.plan(at, Due::Relay(side, *relay, true));
            if *dies < u64::MAX {
                let noticed = dies + world.delay();
                world.plan(noticed, Due::Relay(side, *relay, false));
            }
        }
    }
    world
}

fn ways(world: &World) -> Result<Vec<(Purpose, Option<NodeId>)>, TestCaseError> {
    let (a, b) = (world.open(0), world.open(1));
    prop_assert_eq!(&a, &b);
    for (side, machine) in world.machines.iter().enumerate() {
        for (purpose, number) in &a {
            let used = machine.link(node(2 - side as u8), *purpose);
            prop_assert_eq!(used, Some(LinkId(2 * number + side as u64)));
        }
    }
    let through = |number: &u64| world.through.get(number).map(|relay| node(*relay));
    Ok(a.iter().map(|(purpose, number)| (*purpose, through(number))).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn two_that_are_kept_apart_meet_at_a_relay_and_move_to_the_direct_way_when_it_opens(
        seed: u64,
        delay_max in 1_u64..1_000,
        fail_percent in 0_u64..60,
    ) {
        let mut world = apart(seed, delay_max, fail_percent, &[(3, u64::MAX), (4, u64::MAX)]);
        world.run(120_000);
        let relayed = ways(&world)?;
        let via = relayed.first().and_then(|(_, via)| *via);
        prop_assert!(via.is_some());
        prop_assert_eq!(relayed, [(Purpose::Control, via), (Purpose::Bulk, via)]);
        let turns = world.turns;
        world.direct_from = 120_000;
        world.run(360_000);
        prop_assert_eq!(ways(&world)?, [(Purpose::Control, None), (Purpose::Bulk, None)]);
        for (before, after) in turns.iter().zip(world.turns) {
            prop_assert!(after - before <= 3, "moved {} times", after - before);
        }
    }

    #[test]
    fn when_their_relay_dies_they_meet_at_another(seed: u64, delay_max in 1_u64..1_000, dies in 60_000_u64..90_000) {
        let mut world = apart(seed, delay_max, 0, &[(3, dies), (4, u64::MAX)]);
        world.run(50_000);
        prop_assert_eq!(ways(&world)?, [(Purpose::Control, Some(node(3))), (Purpose::Bulk, Some(node(3)))]);
        let relayed: Vec<u64> = world.through.iter().filter(|(_, relay)| **relay == 3).map(|(n, _)| *n).collect();
        for number in relayed {
            for side in 0..2 {
                let noticed = dies + world.delay();
                world.go_down(side, number, noticed);
            }
        }
        world.run(dies + 30_000);
        prop_assert_eq!(ways(&world)?, [(Purpose::Control, Some(node(4))), (Purpose::Bulk, Some(node(4)))]);
    }
}
