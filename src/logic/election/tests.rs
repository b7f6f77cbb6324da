//! One behaviour each, of one machine; what several do together is in `tests/model`.

use super::*;

const T: Timing = Timing::OFFICE;
const START: u64 = 1_000_000;

fn node(n: u8) -> NodeId {
    NodeId([n; 32])
}

/// Priorities: node 1 has 30, node 2 has 20, node 3 has 10; others are not eligible.
fn eligible() -> BTreeMap<NodeId, u16> {
    [(1, 30), (2, 20), (3, 10)].map(|(n, priority)| (node(n), priority)).into()
}

struct One {
    machine: Election,
    now: u64,
    out: Vec<Output>,
}

impl One {
    /// Node `own`, linked to all of `links`, one start time after its start.
    fn new(own: u8, links: &[u8]) -> Self {
        let mut one = Self { machine: Election::new(node(own), T, 0, START), now: START, out: Vec::new() };
        one.machine.handle_eligible(one.now, eligible(), &mut one.out);
        for link in links {
            one.machine.handle_linked(one.now, node(*link), &mut one.out);
        }
        one
    }

    fn hears(&mut self, from: u8, claim: Option<Claim>) -> Vec<Output> {
        let candidate = eligible().contains_key(&node(from));
        let heartbeat = Heartbeat { claim: claim.map(Claim::unsigned), hears: None, candidate };
        self.out.clear();
        self.machine.handle_heartbeat(self.now, node(from), heartbeat, &mut self.out);
        self.out.clone()
    }

    /// Goes on for `ms`, with a tick whenever one is asked for; returns everything that came out.
    fn pass(&mut self, ms: u64) -> Vec<Output> {
        let (end, mut all) = (self.now + ms, Vec::new());
        while let Some(at) = self.machine.wake_ms.filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.out.clear();
            self.machine.handle_tick(self.now, &mut self.out);
            all.append(&mut self.out.clone());
        }
        self.now = end;
        all
    }

    fn tick(&mut self) -> Vec<Output> {
        self.out.clear();
        self.machine.handle_tick(self.now, &mut self.out);
        self.out.clone()
    }

    fn leads(&self) -> Option<u64> {
        self.machine.leads(self.now)
    }

    fn follows(&self) -> Option<(NodeId, u64)> {
        self.machine.coordinator().map(|hears| (hears.node, hears.term))
    }
}

fn claim(n: u8, term: u64, beat: u64) -> Claim {
    Claim { node: node(n), term, beat, settled: true, state: ClaimState::Serves }
}

fn sends(out: &[Output], to: u8) -> Vec<Heartbeat> {
    out.iter()
        .filter_map(|output| match output {
            Output::Send(at, heartbeat) if *at == node(to) => Some(heartbeat.clone()),
            _ => None,
        })
        .collect()
}

#[test]
fn a_term_is_durable_before_it_is_announced() {
    let mut one = One::new(1, &[2]);
    let out = one.pass(T.start_ms);
    let persist = out.iter().position(|o| *o == Output::Persist(1)).expect("it stands");
    let lead = out.iter().position(|o| *o == Output::Lead(1)).expect("it leads");
    let said = out.iter().position(|o| matches!(o, Output::Send(_, Heartbeat { claim: Some(_), .. })));
    assert!(persist < lead && lead < said.expect("it says so"));
    assert_eq!(one.leads(), Some(1));
}

#[test]
fn where_nobody_is_eligible_nothing_is_said_and_nothing_is_waited_for() {
    let mut out = Vec::new();
    let mut machine = Election::new(node(1), T, 0, START);
    machine.handle_linked(START, node(2), &mut out);
    machine.handle_tick(START + 60_000, &mut out);
    assert_eq!(out, []);
    let mut one = One::new(1, &[2]);
    one.pass(T.start_ms);
    one.out.clear();
    one.machine.handle_eligible(one.now, BTreeMap::new(), &mut one.out);
    assert!(one.out.contains(&Output::Yield) && sends(&one.out, 2).is_empty());
    assert_eq!((one.leads(), one.follows(), one.pass(60_000)), (None, None, Vec::new()));
}

#[test]
fn a_node_that_is_not_eligible_never_stands() {
    let mut one = One::new(9, &[1]);
    assert!(!one.pass(60_000).iter().any(|o| matches!(o, Output::Persist(_) | Output::Lead(_))));
}

#[test]
fn a_claim_of_a_node_that_is_not_eligible_is_neither_followed_nor_passed_on() {
    let mut one = One::new(2, &[1, 9]);
    assert!(!one.machine.is_news(&claim(9, 1, 1)));
    let out = one.hears(9, Some(claim(9, u64::from(u32::MAX), 1)));
    assert!(sends(&out, 1).is_empty());
    assert_eq!((one.follows(), one.machine.term), (None, 0));
}

#[test]
fn a_member_without_a_link_is_not_heard() {
    let mut one = One::new(2, &[]);
    one.hears(1, Some(claim(1, 1, 1)));
    assert_eq!(one.follows(), None);
}

#[test]
fn absurd_terms_are_not_followed_and_lift_the_term_by_a_bounded_step_a_beat() {
    let mut one = One::new(2, &[1]);
    for beat in 0..1_000 {
        one.hears(1, Some(claim(1, TERM_MAX, beat)));
        one.hears(1, Some(claim(1, u64::MAX, beat)));
    }
    assert_eq!((one.follows(), one.machine.term), (None, TERM_STEP_MAX));
    one.pass(T.start_ms + T.stagger_ms);
    assert_eq!(one.leads(), Some(TERM_STEP_MAX + 1), "the office is not wedged");
}

#[test]
fn a_node_that_lost_its_term_catches_up_with_a_term_far_above() {
    let mut one = One::new(9, &[1]);
    for beat in 1..10 {
        one.now += T.beat_ms;
        one.hears(1, Some(claim(1, 3 * TERM_STEP_MAX, beat)));
    }
    assert_eq!(one.follows(), Some((node(1), 3 * TERM_STEP_MAX)));
}

#[test]
fn a_replayed_claim_does_not_keep_a_dead_coordinator_alive() {
    let mut one = One::new(9, &[1, 3]);
    one.hears(1, Some(claim(1, 4, 7)));
    for _ in 0..20 {
        one.now += 100;
        one.hears(3, Some(claim(1, 4, 7)));
        one.hears(3, Some(claim(1, 4, 2)));
        one.hears(3, Some(claim(1, 3, 900)));
    }
    assert_eq!(one.follows(), None);
    one.hears(3, Some(claim(1, 4, 7)));
    assert_eq!(one.follows(), None, "nor does it bring it back");
}

#[test]
fn candidates_stand_in_the_order_of_priority_and_id() {
    let mut first = One::new(1, &[3, 9]);
    assert!(first.pass(T.start_ms).contains(&Output::Lead(1)), "the best does not wait");
    for (linked, wait) in
        [(&[1, 2][..], 2 * T.stagger_ms), (&[2], T.stagger_ms / 2 + T.stagger_ms), (&[], T.stagger_ms)]
    {
        let mut third = One::new(3, linked);
        third.pass(T.start_ms - 1);
        linked.iter().for_each(|link| drop(third.hears(*link, None)));
        assert!(!third.pass(wait).contains(&Output::Lead(1)), "linked to {linked:?}");
        assert!(third.pass(1).contains(&Output::Lead(1)), "linked to {linked:?}");
    }
}

#[test]
fn a_lost_link_to_the_coordinator_makes_candidates_stand_soon() {
    let mut one = One::new(2, &[1]);
    one.hears(1, Some(claim(1, 4, 1)));
    one.out.clear();
    one.machine.handle_unlinked(one.now, node(1), &mut one.out);
    assert!(!one.pass(T.lost_ms - 1).contains(&Output::Lead(5)));
    assert!(one.pass(1 + T.stagger_ms / 2).contains(&Output::Lead(5)));
}

#[test]
fn a_lost_link_is_no_loss_where_others_pass_the_claims_on() {
    let mut one = One::new(2, &[1, 9]);
    one.hears(1, Some(claim(1, 4, 1)));
    one.out.clear();
    one.machine.handle_unlinked(one.now, node(1), &mut one.out);
    assert_eq!(sends(&one.out, 9)[0].hears, None, "the others are told to pass claims on");
    one.pass(T.beat_ms);
    one.hears(9, Some(claim(1, 4, 2)));
    one.pass(T.lost_ms);
    assert_eq!(one.follows(), Some((node(1), 4)));
}

#[test]
fn a_claim_is_passed_on_only_to_those_who_do_not_hear_it_themselves() {
    let mut one = One::new(9, &[1, 2, 8]);
    one.hears(1, Some(claim(1, 4, 1)));
    let heard = Some(Hears { node: node(1), term: 4 });
    let heartbeat = Heartbeat { claim: None, hears: heard, candidate: true };
    one.machine.handle_heartbeat(one.now, node(2), heartbeat, &mut one.out);
    one.now += T.beat_ms;
    let out = one.hears(1, Some(claim(1, 4, 2)));
    assert!(sends(&out, 2).is_empty() && sends(&out, 1).is_empty());
    assert_eq!(sends(&out, 8)[0].claim, Some(claim(1, 4, 2).unsigned()));
    assert_eq!(sends(&out, 8)[0].hears, heard);
}

#[test]
fn the_coordinator_yields_to_a_later_term_before_anything_else() {
    let mut one = One::new(1, &[2]);
    one.pass(T.start_ms);
    assert_eq!(one.leads(), Some(1));
    let out = one.hears(2, Some(claim(2, 2, 1)));
    assert_eq!(out[..2], [Output::Yield, Output::Follow(Hears { node: node(2), term: 2 })]);
    assert_eq!(one.leads(), None);
}

#[test]
fn of_two_in_one_term_the_preferred_one_stays() {
    let mut one = One::new(2, &[1, 3]);
    one.pass(T.start_ms - 1);
    one.hears(3, None);
    one.pass(1 + T.stagger_ms);
    assert_eq!(one.leads(), Some(1));
    assert!(!one.hears(3, Some(claim(3, 1, 5))).contains(&Output::Yield));
    assert!(one.hears(1, Some(claim(1, 1, 5))).contains(&Output::Yield));
}

#[test]
fn who_made_itself_coordinator_of_nobody_takes_nothing_from_the_others() {
    let mut alone = One::new(2, &[]);
    alone.pass(T.start_ms + T.stagger_ms);
    alone.machine.term = 40;
    let leading = alone.machine.leading.as_mut().expect("it leads");
    assert!(!leading.claim.settled);
    leading.claim.term = 40;
    alone.machine.handle_linked(alone.now, node(9), &mut alone.out);
    assert!(alone.hears(9, Some(claim(1, 3, 5))).contains(&Output::Yield));
}

#[test]
fn a_coordinator_that_slept_longer_than_its_lease_steps_down_before_it_acts() {
    let mut one = One::new(1, &[2]);
    one.pass(T.start_ms);
    one.now += T.lease_ms;
    assert_eq!(one.leads(), None, "it may not act, though nobody told it");
    let out = one.tick();
    assert_eq!(out[0], Output::Yield);
    assert!(sends(&out, 2).iter().all(|heartbeat| heartbeat.claim.is_none()));
    assert_eq!(one.follows(), None);
}

#[test]
fn who_slept_listens_before_it_stands() {
    let mut one = One::new(1, &[2]);
    one.hears(2, Some(claim(2, 4, 1)));
    one.now += 10_000;
    assert!(!one.tick().contains(&Output::Lead(5)));
    assert!(!one.pass(T.start_ms - 1).contains(&Output::Lead(5)));
    assert!(one.pass(1).contains(&Output::Lead(5)));
}

#[test]
fn a_better_candidate_takes_over_only_after_it_has_been_there_for_a_while() {
    let mut one = One::new(1, &[2]);
    let mut took = None;
    let started = one.now;
    for beat in 0..400 {
        one.hears(2, Some(claim(2, 4, beat)));
        if one.pass(T.beat_ms).contains(&Output::Lead(5)) {
            took = Some(one.now - started);
            break;
        }
    }
    let took = took.expect("it takes over");
    assert!((T.stable_ms..T.stable_ms + 2 * T.beat_ms).contains(&took), "{took}");
    let mut worse = One::new(3, &[2]);
    for beat in 0..400 {
        worse.hears(2, Some(claim(2, 4, beat)));
        assert!(!worse.pass(T.beat_ms).contains(&Output::Lead(5)));
    }
}

#[test]
fn a_step_down_names_the_best_other_and_serves_until_it_does() {
    let mut one = One::new(1, &[2, 3]);
    one.hears(3, None);
    one.hears(2, None);
    one.pass(T.start_ms);
    one.out.clear();
    assert_eq!(one.machine.handle_step_down(one.now, &mut one.out), Ok(node(2)));
    let said = sends(&one.out, 2)[0].claim.clone().expect("a claim").claim;
    assert_eq!(said.state, ClaimState::Hands(node(2)));
    assert_eq!(one.leads(), Some(1), "no gap");
    assert!(one.hears(2, Some(claim(2, 2, 1))).contains(&Output::Yield));
    one.machine.handle_unlinked(one.now, node(2), &mut one.out);
    assert!(!one.pass(T.lost_ms + 5 * T.stagger_ms).contains(&Output::Lead(3)), "it lets others go first");
    assert!(one.pass(T.stagger_ms).contains(&Output::Lead(3)), "and stands when nobody does");
}

#[test]
fn nobody_steps_down_where_nobody_would_follow() {
    let mut one = One::new(1, &[9]);
    assert_eq!(one.machine.handle_step_down(one.now, &mut one.out), Err(CannotStepDown::NotCoordinator));
    one.pass(T.start_ms);
    one.out.clear();
    assert_eq!(one.machine.handle_step_down(one.now, &mut one.out), Err(CannotStepDown::NoOther));
    assert_eq!(one.leads(), Some(1));
}

#[test]
fn the_named_successor_stands_at_once() {
    let mut one = One::new(3, &[1]);
    one.hears(1, Some(claim(1, 4, 1)));
    let out = one.hears(1, Some(Claim { state: ClaimState::Hands(node(3)), ..claim(1, 4, 2) }));
    assert!(out.contains(&Output::Lead(5)));
    let mut unfit = One::new(3, &[1]);
    unfit.machine.handle_fit(unfit.now, false, &mut Vec::new());
    let out = unfit.hears(1, Some(Claim { state: ClaimState::Hands(node(3)), ..claim(1, 4, 2) }));
    assert!(!out.contains(&Output::Lead(5)));
}

#[test]
fn a_successor_that_does_not_come_ends_the_term_all_the_same() {
    let mut one = One::new(1, &[2]);
    one.hears(2, None);
    one.pass(T.start_ms);
    one.machine.handle_stop(one.now, &mut one.out);
    let out = one.pass(T.hand_ms);
    let last = sends(&out, 2).pop().and_then(|heartbeat| heartbeat.claim).expect("a last word").claim;
    assert_eq!(last.state, ClaimState::Over);
    assert!(out.contains(&Output::Yield) && one.leads().is_none());
    assert!(!one.pass(600_000).contains(&Output::Lead(2)), "a node that ends does not stand");
}

#[test]
fn a_term_that_is_over_is_followed_by_the_next_at_once() {
    let mut one = One::new(2, &[1, 9]);
    one.hears(1, Some(claim(1, 4, 1)));
    let over = Claim { state: ClaimState::Over, ..claim(1, 4, 2) };
    let last = Heartbeat { claim: Some(over.unsigned()), hears: None, candidate: false };
    one.out.clear();
    one.machine.handle_heartbeat(one.now, node(1), last, &mut one.out);
    let out = one.out.clone();
    assert!(out.contains(&Output::Lead(5)));
    let relayed = sends(&out, 9).into_iter().filter_map(|heartbeat| heartbeat.claim).any(|c| c.claim == over);
    assert!(relayed, "others hear of it, too");
}

#[test]
fn a_node_that_is_not_fit_steps_aside_and_comes_back() {
    let mut one = One::new(1, &[9]);
    one.pass(T.start_ms);
    one.out.clear();
    one.machine.handle_fit(one.now, false, &mut one.out);
    assert!(one.out.contains(&Output::Yield) && !sends(&one.out, 9).last().expect("told").candidate);
    assert!(!one.pass(60_000).contains(&Output::Lead(2)));
    one.out.clear();
    one.machine.handle_fit(one.now, true, &mut one.out);
    assert!(one.out.contains(&Output::Lead(2)));
}

#[test]
fn a_term_that_cannot_be_made_durable_is_not_claimed() {
    let mut one = One::new(1, &[2]);
    one.pass(T.start_ms);
    one.out.clear();
    one.machine.handle_not_durable(one.now, &mut one.out);
    assert_eq!((one.leads(), one.follows()), (None, None));
    assert!(!one.pass(60_000).iter().any(|o| matches!(o, Output::Persist(_))));
}

#[test]
fn an_echo_of_an_earlier_life_is_not_followed_and_its_term_not_claimed_again() {
    let mut one = One::new(1, &[2]);
    one.hears(2, Some(claim(1, 6, 80)));
    assert_eq!(one.follows(), None);
    one.pass(T.start_ms);
    assert_eq!(one.leads(), Some(7));
}

#[test]
fn signs_of_life_lengthen_a_coordinators_time_but_not_for_ever() {
    let mut one = One::new(2, &[1]);
    one.hears(1, Some(claim(1, 4, 1)));
    let started = one.now;
    while one.now < started + 60_000 && one.follows() == Some((node(1), 4)) {
        one.pass(T.beat_ms);
        one.out.clear();
        one.machine.handle_sign_of_life(one.now, node(1), &mut one.out);
    }
    let lasted = one.now - started;
    assert!((3 * T.expire_ms..=5 * T.expire_ms + T.beat_ms).contains(&lasted), "{lasted}");
}

#[test]
fn who_is_denied_yields_and_is_followed_no_more() {
    let mut without = eligible();
    without.remove(&node(1));
    let mut one = One::new(1, &[2]);
    one.pass(T.start_ms);
    one.out.clear();
    one.machine.handle_eligible(one.now, without.clone(), &mut one.out);
    assert!(one.out.contains(&Output::Yield));
    let mut other = One::new(2, &[1]);
    other.hears(1, Some(claim(1, 4, 1)));
    other.out.clear();
    other.machine.handle_eligible(other.now, without, &mut other.out);
    assert!(other.out.contains(&Output::Vacant) && other.out.contains(&Output::Lead(5)));
}
