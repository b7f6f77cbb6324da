//! Election under every placing of a few faults: lost, late and doubled heartbeats, crashes (also between a term's being
//! durable and its being said), restarts, pauses, cuts.
//!
//! Three of the product's own machines; time goes in rounds of one beat, and what is sent in one round arrives in the
//! next unless a fault befalls it. At most `faults` faults are placed anywhere in the first `ROUNDS` rounds, and every
//! time of coming back is tried; then nodes that sleep are woken, links are healed, and without further faults the office
//! must come to one coordinator in each connected group. `LANYARD_FAULTS` sets the number of faults.
//!
//! That the checker can find bugs is shown by planted ones: see `Plant`.

use std::collections::{BTreeMap, BTreeSet};

use lanyard::base::NodeId;
use lanyard::logic::election::{Election, Output, Timing};
use lanyard::wire::heartbeat::{Hears, Heartbeat, SignedClaim};
use stateright::{Checker, HasDiscoveries, Model, Property};

/// A bug that the world gives its nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Plant {
    Nothing,
    /// What is to be durable first is written last.
    AnnouncesFirst,
    /// The term is not written at all.
    ForgetsItsTerm,
    /// The clock that leases are measured by stands still while the machine sleeps.
    ClockStandsStill,
    /// A coordinator does not listen to other claims.
    NeverYields,
    /// Claims are not passed on.
    PassesNothingOn,
}

const NODES: usize = 3;
/// Rounds in which faults are placed.
const ROUNDS: u64 = 11;
/// Rounds in which everything must be settled afterwards.
const SETTLES: u64 = 40;
/// One round is one beat; everything else keeps the order that it has in the product.
const TIMING: Timing = Timing {
    beat_ms: 1,
    lease_ms: 3,
    expire_ms: 4,
    lost_ms: 3,
    missed_ms: 3,
    refresh_ms: 2,
    start_ms: 2,
    stagger_ms: 2,
    stable_ms: 6,
    hand_ms: 3,
    hold_ms: 9,
    settle_ms: 3,
};

type Link = (usize, usize);

#[derive(Clone)]
struct World {
    plant: Plant,
    faults: u8,
    /// Undirected: (low, high).
    links: Vec<Link>,
    eligible: BTreeMap<NodeId, u16>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    now: u64,
    faults: u8,
    nodes: Vec<Node>,
    cut: Option<Link>,
    /// What arrives in this round, by directed link, and what a round later.
    due: BTreeMap<Link, Vec<Heartbeat>>,
    late: BTreeMap<Link, Vec<Heartbeat>>,
    broken: Broken,
    /// Set once the rest of the run was done without faults: whether it came to what it should.
    settled: Option<bool>,
    replaced: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Node {
    machine: Option<Election>,
    paused: bool,
    /// Rounds that its clock did not count.
    stood_still: u64,
    wake: u64,
    durable: u64,
    life: u8,
    /// In which life each term was claimed.
    claimed: BTreeMap<u64, u8>,
    /// By the clock on the wall: until when it may act.
    lease: u64,
    dies_at_persist: bool,
}

#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
struct Broken {
    said_before_durable: bool,
    claimed_twice: bool,
    acted_after_lease: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Action {
    Round,
    Lose(Link),
    Delay(Link),
    Double(Link),
    Crash(usize),
    CrashStanding(usize),
    Pause(usize),
    Back(usize),
    Cut(Link),
    Heal,
    Settle,
}

fn id(n: usize) -> NodeId {
    NodeId([u8::try_from(n).expect("few") + 1; 32])
}

fn number(node: NodeId) -> usize {
    usize::from(node.0[0]) - 1
}

impl World {
    fn new(plant: Plant, faults: u8, links: &[Link], priorities: &[(usize, u16)]) -> Self {
        let eligible = priorities.iter().map(|(n, priority)| (id(*n), *priority)).collect();
        Self { plant, faults, links: links.to_vec(), eligible }
    }

    fn is_linked(&self, state: &State, a: usize, b: usize) -> bool {
        let link = (a.min(b), a.max(b));
        self.links.contains(&link)
            && state.cut != Some(link)
            && state.nodes[a].machine.is_some()
            && state.nodes[b].machine.is_some()
    }

    fn start(&self, state: &mut State, n: usize) {
        let node = &mut state.nodes[n];
        node.life += 1;
        let now = state.now - node.stood_still;
        node.machine = Some(Election::new(id(n), TIMING, node.durable, now));
        node.wake = 0;
        self.call(state, n, |machine, now, out| machine.handle_eligible(now, self.eligible.clone(), out));
        for other in (0..NODES).filter(|other| *other != n) {
            self.linked(state, n, other);
        }
    }

    fn linked(&self, state: &mut State, a: usize, b: usize) {
        if self.is_linked(state, a, b) {
            self.call(state, a, |machine, now, out| machine.handle_linked(now, id(b), out));
            self.call(state, b, |machine, now, out| machine.handle_linked(now, id(a), out));
        }
    }

    fn unlinked(&self, state: &mut State, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            state.due.remove(&(from, to));
            state.late.remove(&(from, to));
            self.call(state, from, |machine, now, out| machine.handle_unlinked(now, id(to), out));
        }
    }

    fn crash(&self, state: &mut State, n: usize) {
        state.nodes[n].machine = None;
        state.nodes[n].paused = false;
        for other in (0..NODES).filter(|other| *other != n) {
            self.unlinked(state, n, other);
        }
    }

    /// Calls one machine, if it runs, and does what it says.
    fn call(&self, state: &mut State, n: usize, call: impl FnOnce(&mut Election, u64, &mut Vec<Output>)) {
        let real = state.now;
        let node = &mut state.nodes[n];
        if node.paused {
            return;
        }
        let now = real - node.stood_still;
        let Some(machine) = &mut node.machine else { return };
        let (led, lease) = (machine.leads(now), machine.lease_ms());
        let mut out = Vec::new();
        call(machine, now, &mut out);
        let over = led.is_some() && real >= node.lease;
        if over && machine.leads(now) == led {
            state.broken.acted_after_lease = true;
        }
        if machine.lease_ms() != lease {
            node.lease = real + TIMING.lease_ms;
        }
        if self.plant == Plant::AnnouncesFirst {
            out.sort_by_key(|output| matches!(output, Output::Persist(_)));
        }
        for output in out {
            match output {
                Output::Persist(term) => {
                    let node = &mut state.nodes[n];
                    if self.plant != Plant::ForgetsItsTerm {
                        node.durable = term;
                    }
                    if node.dies_at_persist {
                        return self.crash(state, n);
                    }
                }
                Output::Lead(term) => state.replaced |= term > 1,
                Output::Send(to, heartbeat) => self.send(state, n, number(to), heartbeat),
                Output::Wake { at_ms } => state.nodes[n].wake = at_ms,
                Output::Yield | Output::Follow(_) | Output::Vacant => {}
            }
        }
    }

    fn send(&self, state: &mut State, from: usize, to: usize, mut heartbeat: Heartbeat) {
        if let Some(SignedClaim { claim, .. }) = &mut heartbeat.claim {
            let node = &mut state.nodes[from];
            if claim.node == id(from) {
                let life = node.life;
                state.broken.said_before_durable |= claim.term > node.durable && self.plant != Plant::ForgetsItsTerm;
                state.broken.claimed_twice |= *node.claimed.entry(claim.term).or_insert(life) != life;
            } else if self.plant == Plant::PassesNothingOn {
                heartbeat.claim = None;
            }
        }
        if self.is_linked(state, from, to) {
            state.due.entry((from, to)).or_default().push(heartbeat);
        }
    }

    /// One beat of time: what was sent arrives, who asked for it is woken.
    fn round(&self, state: &mut State) {
        state.now += 1;
        let due = std::mem::take(&mut state.due);
        let late = std::mem::take(&mut state.late);
        for ((from, to), heartbeats) in due {
            if state.nodes[to].paused {
                // A connection holds what its reader does not take; of heartbeats the newest is kept.
                let kept = heartbeats.into_iter().last();
                state.due.entry((from, to)).or_default().splice(0..0, kept);
                continue;
            }
            for heartbeat in heartbeats {
                self.deliver(state, from, to, heartbeat);
            }
        }
        for (link, heartbeats) in late {
            state.due.entry(link).or_default().extend(heartbeats);
        }
        for n in 0..NODES {
            if state.nodes[n].paused {
                state.nodes[n].stood_still += u64::from(self.plant == Plant::ClockStandsStill);
            } else if state.nodes[n].wake <= state.now - state.nodes[n].stood_still {
                self.call(state, n, |machine, now, out| machine.handle_tick(now, out));
            }
        }
    }

    fn deliver(&self, state: &mut State, from: usize, to: usize, mut heartbeat: Heartbeat) {
        if !self.is_linked(state, from, to) {
            return;
        }
        if self.plant == Plant::NeverYields
            && state.nodes[to].machine.as_ref().is_some_and(|machine| machine.leads(state.now).is_some())
        {
            heartbeat.claim = None;
        }
        self.call(state, to, |machine, now, out| machine.handle_heartbeat(now, id(from), heartbeat, out));
    }

    /// Ends a run without further faults.
    fn settle(&self, state: &mut State) {
        if let Some((a, b)) = state.cut.take() {
            self.linked(state, a, b);
        }
        for n in 0..NODES {
            state.nodes[n].paused = false;
        }
        for _ in 0..SETTLES {
            self.round(state);
        }
        let agreed = (0..NODES).all(|n| self.agrees(state, n));
        state.settled = Some(agreed);
        // The way does not matter any more: ends that are alike are one state.
        state.nodes.clear();
        (state.now, state.faults) = (0, 0);
        state.due.clear();
        state.late.clear();
    }

    /// Whether a node knows the one coordinator of its group.
    fn agrees(&self, state: &State, n: usize) -> bool {
        let Some(machine) = &state.nodes[n].machine else { return true };
        let mut group = BTreeSet::from([n]);
        for _ in 0..NODES {
            let more: Vec<usize> = (0..NODES).filter(|m| group.iter().any(|g| self.is_linked(state, *g, *m))).collect();
            group.extend(more);
        }
        let leaders: Vec<Hears> = group
            .iter()
            .filter_map(|m| {
                let term = state.nodes[*m].machine.as_ref()?.leads(state.now - state.nodes[*m].stood_still)?;
                Some(Hears { node: id(*m), term })
            })
            .collect();
        let somebody = group.iter().any(|m| self.eligible.contains_key(&id(*m)));
        leaders.len() == usize::from(somebody) && machine.coordinator() == leaders.first().copied()
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let node = Node {
            machine: None,
            paused: false,
            stood_still: 0,
            wake: 0,
            durable: 0,
            life: 0,
            claimed: BTreeMap::new(),
            lease: 0,
            dies_at_persist: false,
        };
        let mut state = State {
            now: 1,
            faults: self.faults,
            nodes: vec![node; NODES],
            cut: None,
            due: BTreeMap::new(),
            late: BTreeMap::new(),
            broken: Broken::default(),
            settled: None,
            replaced: false,
        };
        for n in 0..NODES {
            self.start(&mut state, n);
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.settled.is_some() {
            return;
        }
        if state.now > ROUNDS {
            actions.push(Action::Settle);
            return;
        }
        actions.push(Action::Round);
        for (n, node) in state.nodes.iter().enumerate() {
            match (&node.machine, node.paused) {
                (None, _) | (_, true) => actions.push(Action::Back(n)),
                (Some(_), false) if state.faults > 0 => {
                    actions.extend([Action::Crash(n), Action::Pause(n)]);
                    if self.eligible.contains_key(&id(n)) && !node.dies_at_persist {
                        actions.push(Action::CrashStanding(n));
                    }
                }
                _ => {}
            }
        }
        if state.cut.is_some() {
            actions.push(Action::Heal);
        }
        if state.faults > 0 {
            for link in state.due.iter().filter(|(_, due)| !due.is_empty()).map(|(link, _)| *link) {
                actions.extend([Action::Lose(link), Action::Delay(link), Action::Double(link)]);
            }
            if state.cut.is_none() {
                let whole = self.links.iter().filter(|(a, b)| self.is_linked(state, *a, *b));
                actions.extend(whole.map(|link| Action::Cut(*link)));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let is_free = matches!(action, Action::Round | Action::Back(_) | Action::Heal | Action::Settle);
        state.faults -= u8::from(!is_free);
        match action {
            Action::Round => self.round(&mut state),
            Action::Lose(link) => drop(state.due.remove(&link)),
            Action::Delay(link) => {
                let delayed = state.due.remove(&link).unwrap_or_default();
                state.late.entry(link).or_default().extend(delayed);
            }
            Action::Double(link) => {
                let doubled = state.due.get(&link).cloned().unwrap_or_default();
                state.late.entry(link).or_default().extend(doubled);
            }
            Action::Crash(n) => self.crash(&mut state, n),
            Action::CrashStanding(n) => state.nodes[n].dies_at_persist = true,
            Action::Pause(n) => state.nodes[n].paused = true,
            Action::Back(n) if state.nodes[n].paused => state.nodes[n].paused = false,
            Action::Back(n) => {
                state.nodes[n].dies_at_persist = false;
                self.start(&mut state, n);
            }
            Action::Cut((a, b)) => {
                state.cut = Some((a, b));
                self.unlinked(&mut state, a, b);
            }
            Action::Heal => {
                if let Some((a, b)) = state.cut.take() {
                    self.linked(&mut state, a, b);
                }
            }
            Action::Settle => self.settle(&mut state),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(DURABLE, |_, state: &State| !state.broken.said_before_durable),
            Property::always(ONCE, |_, state: &State| !state.broken.claimed_twice),
            Property::always(LEASE, |_, state: &State| !state.broken.acted_after_lease),
            Property::always(ONE, |_, state: &State| state.settled != Some(false)),
            Property::sometimes(REPLACED, |_, state: &State| state.replaced),
        ]
    }
}

const DURABLE: &str = "a term is durable before it is announced";
const ONCE: &str = "a node claims a term in one life only";
const LEASE: &str = "a coordinator that slept longer than its lease does not act";
const ONE: &str = "in the end each connected group has one coordinator, and knows it";
const REPLACED: &str = "a coordinator is replaced";

const TRIANGLE: [Link; 3] = [(0, 1), (0, 2), (1, 2)];
const LINE: [Link; 2] = [(0, 1), (1, 2)];

fn faults(usual: u8) -> u8 {
    std::env::var("LANYARD_FAULTS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Checks a world; returns the violated properties.
fn check(what: &str, world: World, finish: HasDiscoveries) -> Vec<&'static str> {
    let checker = world.checker().threads(2).finish_when(finish).spawn_bfs().join();
    println!("{what}: {} states explored, {} unique", checker.state_count(), checker.unique_state_count());
    let discoveries = checker.discoveries();
    let violated = [DURABLE, ONCE, LEASE, ONE].into_iter().filter(|name| discoveries.contains_key(name));
    violated.inspect(|name| println!("{name}: {:?}", discoveries[name].clone().into_actions())).collect()
}

fn sound(what: &str, world: World) {
    let finish = HasDiscoveries::AllOf(BTreeSet::from([DURABLE, ONCE, LEASE, ONE]));
    assert_eq!(check(what, world, finish), Vec::<&str>::new(), "{what}");
}

fn finds(plant: Plant, links: &[Link], priorities: &[(usize, u16)], violated: &'static str) {
    let world = World::new(plant, 2, links, priorities);
    let found = check(&format!("planted: {plant:?}"), world, HasDiscoveries::AllOf(BTreeSet::from([violated])));
    assert!(found.contains(&violated), "{plant:?}: found {found:?}");
    sound("the same without it", World::new(Plant::Nothing, 1, links, priorities));
}

#[test]
fn three_candidates_who_all_reach_each_other() {
    sound("triangle", World::new(Plant::Nothing, faults(1), &TRIANGLE, &[(0, 1), (1, 3), (2, 2)]));
}

#[test]
fn two_candidates_at_the_ends_of_a_line() {
    sound("line", World::new(Plant::Nothing, faults(1), &LINE, &[(0, 1), (2, 2)]));
}

#[test]
fn two_candidates_of_one_priority_and_a_member() {
    sound("two of three", World::new(Plant::Nothing, faults(1), &TRIANGLE, &[(1, 5), (2, 5)]));
}

#[test]
fn a_term_that_is_announced_before_it_is_durable_is_found() {
    finds(Plant::AnnouncesFirst, &TRIANGLE, &[(0, 1), (1, 2)], DURABLE);
}

#[test]
fn a_term_that_is_forgotten_is_found() {
    finds(Plant::ForgetsItsTerm, &TRIANGLE, &[(0, 1), (1, 2)], ONCE);
}

#[test]
fn a_clock_that_stands_still_during_sleep_is_found() {
    finds(Plant::ClockStandsStill, &TRIANGLE, &[(0, 1), (1, 2)], LEASE);
}

#[test]
fn a_coordinator_that_never_yields_is_found() {
    finds(Plant::NeverYields, &LINE, &[(0, 1), (2, 2)], ONE);
}

#[test]
fn claims_that_are_not_passed_on_are_found() {
    finds(Plant::PassesNothingOn, &LINE, &[(0, 1), (2, 2)], ONE);
}
