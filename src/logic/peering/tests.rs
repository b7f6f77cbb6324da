//! One machine against its rules, and two facing each other whatever the timing.

use std::collections::BinaryHeap;

use proptest::prelude::*;

use super::*;

mod relayed;

fn node(n: u8) -> NodeId {
    NodeId([n; 32])
}

fn addr(n: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 47_474))
}

fn relay_addr(n: u8) -> SocketAddr {
    addr(1_000 + u16::from(n))
}

fn machine(own: u8, members: &[u8]) -> Peering {
    let settings = Settings { own: node(own), seed: own.into(), dials_max: 16, loopback: false };
    let mut peering = Peering::new(settings);
    peering.handle_members(0, members.iter().map(|n| node(*n)).collect(), &mut Vec::new());
    peering
}

fn dials(out: &[Output]) -> Vec<(DialId, SocketAddr, Option<NodeId>, Purpose)> {
    out.iter()
        .filter_map(|o| match o {
            Output::Dial { dial, addr, expected, purpose, .. } => Some((*dial, *addr, *expected, *purpose)),
            _ => None,
        })
        .collect()
}

fn up(link: u64, peer: u8, purpose: Purpose, dial: Option<DialId>, at: SocketAddr) -> Up {
    Up { link: LinkId(link), peer: node(peer), purpose, run: 1, dial, via: None, remote: at, port: at.port() }
}

#[test]
fn an_announcement_is_dialled_at_once_then_its_next_address_and_nothing_once_it_is_linked() {
    let mut a = machine(1, &[1, 2]);
    let mut out = Vec::new();
    a.handle_found(0, "x", &[addr(2), addr(3)], &mut out);
    let first = dials(&out);
    assert_eq!(first.len(), 1);
    assert_eq!((first[0].1, first[0].2, first[0].3), (addr(2), None, Purpose::Control));
    assert!(out.contains(&Output::Wake { at_ms: STAGGER_MS }));
    out.clear();
    a.handle_link_up(5, up(1, 2, Purpose::Control, Some(first[0].0), addr(2)), &mut out);
    assert!(out.contains(&Output::Remember { node: node(2), addr: addr(2) }));
    assert!(out.contains(&Output::Linked { node: node(2), purpose: Purpose::Control, link: LinkId(1) }));
    let bulk = dials(&out);
    assert_eq!((bulk[0].1, bulk[0].2, bulk[0].3), (addr(2), Some(node(2)), Purpose::Bulk));
    out.clear();
    a.handle_tick(STAGGER_MS, &mut out);
    assert_eq!(dials(&out), []);
}

#[test]
fn the_side_that_was_dialled_dials_no_bulk_link_and_learns_the_address() {
    let mut a = machine(1, &[1, 2]);
    let mut out = Vec::new();
    let from = SocketAddr::from(([10, 0, 0, 2], 51_234));
    let inbound = Up { port: 47_474, ..up(1, 2, Purpose::Control, None, from) };
    a.handle_link_up(0, inbound, &mut out);
    assert_eq!(dials(&out), []);
    assert_eq!(a.addresses().collect::<Vec<_>>(), [(node(2), addr(2))]);
    // When it is announced there, it is known who it is.
    a.handle_found(1, "x", &[addr(2), addr(3)], &mut out);
    assert_eq!(dials(&out), []);
}

#[test]
fn failures_back_off_and_a_change_of_the_network_begins_anew() {
    let mut a = machine(1, &[1, 2]);
    let (mut now, mut out) = (0, Vec::new());
    a.handle_found(now, "x", &[addr(2)], &mut out);
    let mut waits = Vec::new();
    for _ in 0..12 {
        let dial = dials(&out)[0].0;
        out.clear();
        a.handle_dial_failed(now, dial, &mut out);
        let Some(Output::Wake { at_ms }) = out.iter().rev().find(|o| matches!(o, Output::Wake { .. })) else {
            panic!("{out:?}")
        };
        waits.push(at_ms - now);
        now = *at_ms;
        out.clear();
        a.handle_tick(now, &mut out);
    }
    assert!((250..500).contains(&waits[0]), "{waits:?}");
    assert!((30_000..60_000).contains(&waits[11]), "{waits:?}");
    let dial = dials(&out)[0].0;
    out.clear();
    a.handle_dial_failed(now, dial, &mut out);
    assert_eq!(dials(&out), []);
    a.handle_network_changed(now + 1, &mut out);
    assert_eq!(dials(&out).len(), 1);
}

#[test]
fn who_speaks_no_common_version_is_left_alone_until_it_is_announced_anew() {
    let mut a = machine(1, &[1, 2]);
    let mut out = Vec::new();
    a.handle_relays(0, vec![node(3)], &mut out);
    a.handle_found(0, "x", &[addr(2)], &mut out);
    let dial = dials(&out)[0].0;
    out.clear();
    a.handle_apart(10, dial, Some(node(2)), &mut out);
    assert_eq!(dials(&out), []);
    let wake = out.iter().rev().find_map(|o| if let Output::Wake { at_ms } = o { Some(*at_ms) } else { None });
    assert!(wake.is_some_and(|at_ms| (30_010..60_010).contains(&at_ms)), "{out:?}");
    out.clear();
    a.handle_tick(30_000, &mut out);
    assert_eq!(dials(&out), []);
    // It was upgraded, and started again under another name.
    a.handle_found(31_000, "y", &[addr(2)], &mut out);
    assert_eq!(dials(&out).len(), 1);
}

#[test]
fn what_waits_for_a_place_is_dialled_when_another_turns_out_to_speak_no_common_version() {
    let mut a = Peering::new(Settings { own: node(1), seed: 1, dials_max: 1, loopback: false });
    let mut out = Vec::new();
    a.handle_members(0, [node(2), node(3)].into(), &mut out);
    a.handle_found(0, "x", &[addr(2)], &mut out);
    a.handle_found(0, "y", &[addr(3)], &mut out);
    let dial = dials(&out)[0].0;
    out.clear();
    a.handle_apart(10, dial, Some(node(2)), &mut out);
    assert_eq!(dials(&out).iter().map(|d| d.1).collect::<Vec<_>>(), [addr(3)]);
}

#[test]
fn at_most_so_many_dials_run_at_once_and_the_others_follow() {
    let settings = Settings { own: node(1), seed: 1, dials_max: 3, loopback: false };
    let mut a = Peering::new(settings);
    let mut out = Vec::new();
    a.handle_members(0, [node(2)].into(), &mut out);
    for n in 0..10 {
        a.handle_found(0, &format!("x{n}"), &[addr(100 + n)], &mut out);
    }
    assert_eq!(dials(&out).len(), 3);
    let mut dialled = BTreeSet::new();
    for _ in 0..10 {
        let Some(next) = dials(&out).into_iter().find(|d| dialled.insert(d.0)) else { break };
        a.handle_dial_failed(0, next.0, &mut out);
    }
    assert_eq!(dials(&out).iter().map(|d| d.1).collect::<BTreeSet<_>>().len(), 10);
}

#[test]
fn own_addresses_strangers_and_addresses_of_no_machine_are_never_dialled() {
    let mut a = machine(1, &[1, 2]);
    let mut out = Vec::new();
    a.handle_own_addresses(0, [addr(1)].into(), &mut out);
    a.handle_configured(0, &[addr(1)], &mut out);
    let group = SocketAddr::from(([224, 0, 0, 251], 5353));
    let nowhere = SocketAddr::from(([10, 0, 0, 3], 0));
    a.handle_found(0, "x", &[group, nowhere, SocketAddr::from(([255; 4], 1))], &mut out);
    let local = SocketAddr::from(([127, 0, 0, 1], 47_474));
    let scope: SocketAddr = "[fe80::1%3]:47474".parse().expect("an address");
    a.handle_told(0, &[(node(9), addr(9)), (node(2), local), (node(2), scope)], &mut out);
    assert_eq!(dials(&out), []);
    let mut alone = machine(1, &[1]);
    alone.handle_found(0, "x", &[addr(2)], &mut out);
    assert_eq!(dials(&out), []);
}

#[test]
fn what_others_tell_is_bounded_per_node_and_dialled_only_for_that_node() {
    let mut a = machine(1, &[1, 2]);
    let mut out = Vec::new();
    for n in 0..1_000 {
        a.handle_told(0, &[(node(2), addr(n))], &mut out);
    }
    assert!(a.targets.len() <= TOLD_PER_NODE_MAX + 16, "{} with those being dialled", a.targets.len());
    assert!(dials(&out).iter().all(|d| d.2 == Some(node(2))));
    for n in 0..1_000 {
        a.handle_found(0, &format!("x{n}"), &[addr(n)], &mut out);
    }
    assert!(a.instances.len() <= INSTANCES_MAX && a.targets.len() <= TARGETS_MAX);
}

#[test]
fn a_later_run_of_the_peer_replaces_its_link_at_once() {
    let mut a = machine(1, &[1, 2]);
    let mut out = Vec::new();
    a.handle_link_up(0, up(1, 2, Purpose::Control, None, addr(2)), &mut out);
    out.clear();
    a.handle_link_up(10, Up { run: 2, ..up(2, 2, Purpose::Control, None, addr(2)) }, &mut out);
    assert!(out.contains(&Output::Close { link: LinkId(1), bye: Bye::Duplicate }));
    assert!(out.contains(&Output::Linked { node: node(2), purpose: Purpose::Control, link: LinkId(2) }));
}

#[test]
fn a_member_that_is_expelled_is_cut_off_and_not_dialled_again() {
    let mut a = machine(1, &[1, 2]);
    let mut out = Vec::new();
    a.handle_found(0, "x", &[addr(2)], &mut out);
    let dial = dials(&out)[0].0;
    a.handle_link_up(5, up(1, 2, Purpose::Control, Some(dial), addr(2)), &mut out);
    out.clear();
    a.handle_members(10, [node(1)].into(), &mut out);
    assert!(out.contains(&Output::Close { link: LinkId(1), bye: Bye::NotAMember }));
    assert!(out.contains(&Output::Unlinked { node: node(2), purpose: Purpose::Control }));
    a.handle_link_down(20, LinkId(1), &mut out);
    a.handle_tick(100_000, &mut out);
    assert_eq!(dials(&out), []);
    out.clear();
    // It may still dial: it is told and cut off.
    a.handle_link_up(100_000, up(2, 2, Purpose::Control, None, addr(2)), &mut out);
    assert_eq!(out, [Output::Close { link: LinkId(2), bye: Bye::NotAMember }]);
}

#[test]
fn a_link_that_never_lasts_is_not_redialled_without_pause() {
    let mut a = machine(1, &[1, 2]);
    let (mut now, mut out, mut count) = (0, Vec::new(), 0);
    a.handle_found(0, "x", &[addr(2)], &mut out);
    for link in 0..1_000 {
        let control = dials(&out).into_iter().find(|d| d.3 == Purpose::Control);
        let bulk: Vec<_> = dials(&out).into_iter().filter(|d| d.3 == Purpose::Bulk).collect();
        let wake = out.iter().rev().find_map(|o| if let Output::Wake { at_ms } = o { Some(*at_ms) } else { None });
        out.clear();
        for dial in bulk {
            a.handle_dial_failed(now, dial.0, &mut out);
        }
        if let Some(dial) = control {
            count += 1;
            a.handle_link_up(now, up(link, 2, Purpose::Control, Some(dial.0), addr(2)), &mut out);
            a.handle_link_down(now + 1, LinkId(link), &mut out);
        } else {
            now = wake.unwrap_or(now + 100).max(now + 1);
            if now > 60_000 {
                break;
            }
            a.handle_tick(now, &mut out);
        }
    }
    assert!(count <= 12, "{count} links in a minute");
}

/// Two machines and what is between them. A link has a number and two ends; the end at side s is link 2 * number + s.
struct World {
    machines: [Peering; 2],
    now: u64,
    agenda: BinaryHeap<std::cmp::Reverse<(u64, u64, Due)>>,
    planned: u64,
    /// When each end came up, and when it goes down.
    ends: BTreeMap<LinkId, (u64, Option<u64>)>,
    links: u64,
    chance: Jitter,
    delay_max: u64,
    fail_percent: u64,
    steps: u64,
    /// No direct dial between the two works before.
    direct_from: u64,
    /// Relays, and when they die.
    relays: Vec<(u8, u64)>,
    /// Which relay each relayed link goes through.
    through: BTreeMap<u64, u8>,
    /// How often each side was told of another control link to the other.
    turns: [u32; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Up(usize, u64, usize, bool, Option<u64>),
    Down(usize, u64),
    Failed(usize, u64),
    Tick(usize),
    Found(usize, u8),
    Relay(usize, u8, bool),
}

impl World {
    fn new(seed: u64, delay_max: u64, fail_percent: u64) -> Self {
        Self {
            machines: [machine(1, &[1, 2]), machine(2, &[1, 2])],
            now: 0,
            agenda: BinaryHeap::new(),
            planned: 0,
            ends: BTreeMap::new(),
            links: 0,
            chance: Jitter::new(seed),
            delay_max,
            fail_percent,
            steps: 0,
            direct_from: 0,
            relays: Vec::new(),
            through: BTreeMap::new(),
            turns: [0; 2],
        }
    }

    fn addrs(side: usize) -> [SocketAddr; 2] {
        [addr(10 + side as u16), addr(20 + side as u16)]
    }

    fn plan(&mut self, at: u64, due: Due) {
        self.planned += 1;
        self.agenda.push(std::cmp::Reverse((at, self.planned, due)));
    }

    fn delay(&mut self) -> u64 {
        1 + self.chance.below(self.delay_max)
    }

    fn perform(&mut self, side: usize, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Dial { dial, addr, expected, via, purpose } => {
                    let other = 1 - side;
                    let relay = self.relays.iter().find(|(n, _)| addr == relay_addr(*n)).copied();
                    assert!(relay.is_some() || Self::addrs(other).contains(&addr), "dialled {addr}");
                    let bulk = purpose == Purpose::Bulk;
                    let begun = self.now + self.delay();
                    let alive = relay.is_none_or(|(_, dies)| begun < dies);
                    let to_other = expected.is_none_or(|e| e == node(other as u8 + 1));
                    let open = via.is_some() || relay.is_none() && self.now >= self.direct_from;
                    let possible = to_other && open;
                    if !alive || !possible || self.chance.below(100) < self.fail_percent && self.now < 20_000 {
                        self.plan(begun, Due::Failed(side, dial.0));
                        continue;
                    }
                    assert_eq!(relay.map(|(n, _)| node(n)), via);
                    self.links += 1;
                    if let Some((relay, _)) = relay {
                        assert_eq!(side, 0, "the lower id asks");
                        self.through.insert(self.links, relay);
                    }
                    let place = Self::addrs(other).iter().position(|a| *a == addr).unwrap_or_default();
                    for (end, dial) in [(side, Some(dial.0)), (other, None)] {
                        let at = begun + self.delay();
                        self.ends.insert(LinkId(2 * self.links + end as u64), (at, None));
                        self.plan(at, Due::Up(end, self.links, place, bulk, dial));
                    }
                }
                Output::Close { link, .. } => {
                    let number = link.0 / 2;
                    for end in [side, 1 - side] {
                        let at = if end == side { self.now + 1 } else { self.now + self.delay() };
                        self.go_down(end, number, at);
                    }
                }
                Output::Wake { at_ms } => self.plan(at_ms.max(self.now), Due::Tick(side)),
                Output::Linked { node: to, purpose: Purpose::Control, .. } if to == node(2 - side as u8) => {
                    self.turns[side] += 1;
                }
                Output::Linked { .. } | Output::Unlinked { .. } | Output::Remember { .. } => {}
            }
        }
    }

    fn go_down(&mut self, side: usize, number: u64, at: u64) {
        let Some((up, down)) = self.ends.get_mut(&LinkId(2 * number + side as u64)) else { return };
        let at = at.max(*up + 1);
        if down.is_none() {
            *down = Some(at);
            self.plan(at, Due::Down(side, number));
        }
    }

    fn run(&mut self, until: u64) {
        while let Some(std::cmp::Reverse((at, _, due))) = self.agenda.pop() {
            if at > until {
                break;
            }
            self.steps += 1;
            assert!(self.steps < 20_000, "they never settle");
            self.now = self.now.max(at);
            let (now, mut out) = (self.now, Vec::new());
            let side = match due {
                Due::Up(side, number, place, bulk, dial) => {
                    let other = 1 - side;
                    let link = 2 * number + side as u64;
                    let via = self.through.get(&number).copied();
                    let remote = match dial {
                        _ if via.is_some() => relay_addr(via.expect("just seen")),
                        Some(_) => Self::addrs(other)[place],
                        None => SocketAddr::new(Self::addrs(other)[place].ip(), 50_000),
                    };
                    let purpose = if bulk { Purpose::Bulk } else { Purpose::Control };
                    let up = Up {
                        link: LinkId(link),
                        peer: node(other as u8 + 1),
                        purpose,
                        run: 1,
                        dial: dial.map(DialId),
                        via: via.map(node),
                        remote,
                        port: 47_474,
                    };
                    self.machines[side].handle_link_up(now, up, &mut out);
                    side
                }
                Due::Down(side, number) => {
                    self.machines[side].handle_link_down(now, LinkId(2 * number + side as u64), &mut out);
                    side
                }
                Due::Failed(side, dial) => {
                    self.machines[side].handle_dial_failed(now, DialId(dial), &mut out);
                    side
                }
                Due::Tick(side) => {
                    self.machines[side].handle_tick(now, &mut out);
                    side
                }
                Due::Relay(side, relay, up_or_down) => {
                    let link = LinkId(1_000_000 + 2 * u64::from(relay) + side as u64);
                    if up_or_down {
                        let at = relay_addr(relay);
                        let up = Up { link, run: 9, ..up(0, relay, Purpose::Control, None, at) };
                        self.machines[side].handle_link_up(now, up, &mut out);
                    } else {
                        self.machines[side].handle_link_down(now, link, &mut out);
                    }
                    side
                }
                Due::Found(side, which) => {
                    let addrs = Self::addrs(1 - side);
                    let some = match which {
                        0 => &addrs[..1],
                        1 => &addrs[1..],
                        _ => &addrs[..],
                    };
                    self.machines[side].handle_found(now, "instance", some, &mut out);
                    side
                }
            };
            self.perform(side, out);
        }
        self.now = until;
    }

    fn open(&self, side: usize) -> Vec<(Purpose, u64)> {
        let peer = self.machines[side].peers.get(&node(2 - side as u8));
        let links = peer.iter().flat_map(|peer| &peer.links).filter(|l| !l.closing);
        let mut open: Vec<_> = links.map(|l| (l.purpose, l.link.0 / 2)).collect();
        open.sort_by_key(|(purpose, number)| (*purpose == Purpose::Bulk, *number));
        open
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn two_machines_facing_each_other_settle_on_one_control_and_one_bulk_link_whatever_the_timing(
        seed: u64,
        delay_max in 1_u64..4_000,
        fail_percent in 0_u64..80,
        found in prop::collection::vec((0_usize..2, 0_u8..3, 0_u64..5_000), 1..6),
    ) {
        let mut world = World::new(seed, delay_max, fail_percent);
        for (side, which, at) in found {
            world.plan(at, Due::Found(side, which));
        }
        world.run(300_000);
        let (a, b) = (world.open(0), world.open(1));
        prop_assert_eq!(&a, &b);
        prop_assert_eq!(a.iter().map(|(purpose, _)| *purpose).collect::<Vec<_>>(), [Purpose::Control, Purpose::Bulk]);
        for (side, machine) in world.machines.iter().enumerate() {
            let other = node(2 - side as u8);
            for (purpose, number) in &a {
                prop_assert_eq!(machine.link(other, *purpose), Some(LinkId(2 * number + side as u64)));
            }
        }
    }
}
