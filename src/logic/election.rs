//! Coordinator election: in every connected group, one coordinator in the end.
//!
//! Nobody is asked for a vote: two machines must go on when one of them dies, so there is no quorum. A candidate that
//! hears of no coordinator says to be it; of two that meet the lesser yields. Nothing is unsafe while there are two:
//! rules are signed and data merges. Rules, checked by `tests/model` and `tests/sim`:
//! 1. a term that a node claims only grows, and is durable before it is announced;
//! 2. a coordinator that hears a better claim, or slept longer than its lease, steps down before it acts again;
//! 3. claims reach members without a link to the coordinator, passed on from one to the next; only the coordinator makes
//!    a newer one, so what is passed on in circles ages all the same;
//! 4. only what an eligible node signed counts, and nothing that is heard lifts the term by more than a bounded step;
//! 5. clocks of two nodes are never compared.
//!
//! Page: `docs/spec/election.md`. Source: Garcia-Molina, *Elections in a Distributed Computing System* (1982), the
//! Invitation algorithm (groups that merge, timeouts only to go on, never to be right); Gray and Cheriton, *Leases* (1989).

use std::collections::BTreeMap;

use crate::base::NodeId;
use crate::wire::heartbeat::{Claim, ClaimState, Hears, Heartbeat, TERM_MAX};

mod hearing;
#[cfg(test)]
mod tests;
mod timing;

pub use timing::Timing;

use hearing::{Following, Neighbour};

/// What is heard lifts the known term by at most this, and not more than once in a beat: a node that was told absurd
/// terms for a year still has room for an election a second for ages. A guess: more than an office ever holds.
pub const TERM_STEP_MAX: u64 = 1 << 20;
/// Candidates that one waits for; those behind wait no longer. A guess: more are seldom eligible.
const WAITS_MAX: u64 = 5;

/// What to do. In order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Make this term durable before anything after this; if that fails, drop the rest and call `handle_not_durable`.
    Persist(u64),
    /// From now on this node is the coordinator, while `leads` says so.
    Lead(u64),
    /// It is not any more.
    Yield,
    /// This other node is the coordinator.
    Follow(Hears),
    /// Nobody is.
    Vacant,
    /// Send over the link to a member. A claim of this node is still to be signed.
    Send(NodeId, Heartbeat),
    /// Call `handle_tick` then. One timer: the newest counts.
    Wake {
        /// When.
        at_ms: u64,
    },
}

/// A coordinator cannot step down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CannotStepDown {
    /// It is none.
    #[error("this machine is not the coordinator")]
    NotCoordinator,
    /// Nobody would take its place.
    #[error("no other machine that is connected may and can be coordinator")]
    NoOther,
}

/// The state.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Election {
    own: NodeId,
    timing: Timing,
    eligible: BTreeMap<NodeId, u16>,
    fit: bool,
    stopping: bool,
    /// The highest term known; what this node claims is above.
    term: u64,
    lifted_ms: Option<u64>,
    links: BTreeMap<NodeId, Neighbour>,
    /// Term and beat of the newest claim of each eligible node: nothing older is news.
    newest: BTreeMap<NodeId, (u64, u64)>,
    leading: Option<Leading>,
    following: Option<Following>,
    /// While nobody is coordinator: when the best candidate may stand.
    ready_ms: u64,
    held_until_ms: u64,
    /// When the machine was last called.
    now_ms: u64,
    wake_ms: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Leading {
    claim: Claim,
    next_beat_ms: u64,
    lease_ms: u64,
    /// Since when there is company, while the claim is not settled.
    company_ms: Option<u64>,
    /// Until when the successor is waited for.
    hands_until_ms: u64,
}

impl Election {
    /// A node that hears nobody yet. `term` is the highest one that it ever claimed.
    pub fn new(own: NodeId, timing: Timing, term: u64, now_ms: u64) -> Self {
        Self {
            own,
            timing,
            eligible: BTreeMap::new(),
            fit: true,
            stopping: false,
            term: term.min(TERM_MAX),
            lifted_ms: None,
            links: BTreeMap::new(),
            newest: BTreeMap::new(),
            leading: None,
            following: None,
            ready_ms: now_ms + timing.start_ms,
            held_until_ms: 0,
            now_ms,
            wake_ms: None,
        }
    }

    /// The term in which this node is coordinator at this moment: asked before each act as one.
    pub fn leads(&self, now_ms: u64) -> Option<u64> {
        self.leading.as_ref().filter(|leading| now_ms < leading.lease_ms).map(|leading| leading.claim.term)
    }

    /// Until when `leads` holds, should nothing else happen.
    pub fn lease_ms(&self) -> Option<u64> {
        self.leading.as_ref().map(|leading| leading.lease_ms)
    }

    /// The coordinator, as far as this node knows.
    pub fn coordinator(&self) -> Option<Hears> {
        let claim = self.leading.as_ref().map(|leading| &leading.claim);
        let claim = claim.or(self.following.as_ref().map(|following| &following.signed.claim))?;
        Some(Hears { node: claim.node, term: claim.term })
    }

    /// Linked members that would be coordinator, best first.
    pub fn candidates(&self) -> Vec<NodeId> {
        let mut all: Vec<NodeId> = self
            .links
            .iter()
            .filter(|(node, link)| link.candidate && self.eligible.contains_key(node))
            .map(|(node, _)| *node)
            .collect();
        all.sort_by_key(|node| self.preference(*node));
        all
    }

    /// Whether a claim is worth checking its signature: it is news, and of a node that may make it.
    pub fn is_news(&self, claim: &Claim) -> bool {
        let newest = self.newest.get(&claim.node).copied().unwrap_or_default();
        let is_own = claim.node == self.own && claim.term > self.term;
        claim.term <= TERM_MAX
            && self.eligible.contains_key(&claim.node)
            && (is_own || claim.node != self.own && (claim.term, claim.beat) > newest)
    }

    /// Who may be coordinator, and how much it is preferred.
    pub fn handle_eligible(&mut self, now_ms: u64, eligible: BTreeMap<NodeId, u16>, out: &mut Vec<Output>) {
        self.wake_up(now_ms, out);
        if self.eligible != eligible {
            self.eligible = eligible;
            self.newest.retain(|node, _| self.eligible.contains_key(node));
            if self.leading.is_some() && !self.eligible.contains_key(&self.own) {
                self.end_term(now_ms, out);
            }
            if self.following.as_ref().is_some_and(|f| !self.eligible.contains_key(&f.signed.claim.node)) {
                self.vacate(now_ms, out);
            }
            self.tell_all(now_ms, out);
        }
        self.go_on(now_ms, out);
    }

    /// Whether this node can do a coordinator's work: one that is not fit steps aside.
    pub fn handle_fit(&mut self, now_ms: u64, fit: bool, out: &mut Vec<Output>) {
        self.wake_up(now_ms, out);
        if self.fit != fit {
            self.fit = fit;
            if !fit && self.leading.is_some() {
                self.hand_over(now_ms, out);
            }
            self.tell_all(now_ms, out);
        }
        self.go_on(now_ms, out);
    }

    /// There is a link to this member now, or another one than before.
    pub fn handle_linked(&mut self, now_ms: u64, node: NodeId, out: &mut Vec<Output>) {
        self.wake_up(now_ms, out);
        self.links.insert(node, Neighbour::default());
        self.tell(now_ms, node, out);
        self.go_on(now_ms, out);
    }

    /// There is none any more.
    pub fn handle_unlinked(&mut self, now_ms: u64, node: NodeId, out: &mut Vec<Output>) {
        self.wake_up(now_ms, out);
        self.links.remove(&node);
        let soon = now_ms + self.timing.lost_ms;
        if let Some(following) = self.following.as_mut().filter(|f| f.signed.claim.node == node) {
            following.expires_ms = following.expires_ms.min(soon);
            if following.direct_until_ms.take().is_some() {
                self.tell_all(now_ms, out);
            }
        }
        self.go_on(now_ms, out);
    }

    /// A member says what it hears. The signature of a claim that `is_news` was checked.
    pub fn handle_heartbeat(&mut self, now_ms: u64, from: NodeId, heartbeat: Heartbeat, out: &mut Vec<Output>) {
        self.wake_up(now_ms, out);
        if let Some(link) = self.links.get_mut(&from) {
            let Heartbeat { claim, hears, candidate } = heartbeat;
            link.hears = hears;
            link.candidate = candidate;
            link.spoke_ms = Some(now_ms);
            link.said = claim.as_ref().map(|signed| (signed.claim.node, signed.claim.term, signed.claim.beat));
            if let Some(signed) = claim {
                self.hear(now_ms, from, signed, out);
            }
        }
        self.go_on(now_ms, out);
    }

    /// Bytes of this member have come, or wait here untaken: it lives, whatever its heartbeats wait behind.
    pub fn handle_sign_of_life(&mut self, now_ms: u64, node: NodeId, out: &mut Vec<Output>) {
        self.wake_up(now_ms, out);
        let timing = self.timing;
        if let Some(following) = self.following.as_mut().filter(|f| f.signed.claim.node == node) {
            following.lives(now_ms, &timing);
        }
        self.go_on(now_ms, out);
    }

    /// Time has passed.
    pub fn handle_tick(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        self.wake_up(now_ms, out);
        self.go_on(now_ms, out);
    }

    /// Hand over to the best other candidate, and stay back for a while. Returns who that is.
    pub fn handle_step_down(&mut self, now_ms: u64, out: &mut Vec<Output>) -> Result<NodeId, CannotStepDown> {
        self.wake_up(now_ms, out);
        if self.leading.is_none() {
            self.go_on(now_ms, out);
            return Err(CannotStepDown::NotCoordinator);
        }
        let next = self.candidates().first().copied();
        if next.is_some() {
            self.held_until_ms = now_ms + self.timing.hold_ms;
            self.hand_over(now_ms, out);
        }
        self.go_on(now_ms, out);
        next.ok_or(CannotStepDown::NoOther)
    }

    /// The node ends. It can be ended once it leads no more.
    pub fn handle_stop(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        self.wake_up(now_ms, out);
        self.stopping = true;
        if self.leading.is_some() {
            self.hand_over(now_ms, out);
        }
        self.go_on(now_ms, out);
    }

    /// A term could not be made durable: it was not announced, and this node is not fit.
    pub fn handle_not_durable(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        self.now_ms = now_ms;
        self.fit = false;
        if self.leading.take().is_some() {
            self.ready_ms = now_ms;
        }
        self.wake_ms = None;
        self.go_on(now_ms, out);
    }

    /// Before anything else: what slept longer than it may does not go on as if nothing had been.
    fn wake_up(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        self.now_ms = now_ms;
        let overslept = self.wake_ms.is_some_and(|at| now_ms >= at + self.timing.lease_ms);
        if self.leading.as_ref().is_some_and(|leading| now_ms >= leading.lease_ms) {
            // Rule 2. Others may have another by now, and will say so.
            self.leading = None;
            out.push(Output::Yield);
            out.push(Output::Vacant);
            self.ready_ms = now_ms + self.timing.start_ms;
        } else if overslept {
            if self.following.take().is_some() {
                out.push(Output::Vacant);
            }
            self.ready_ms = self.ready_ms.max(now_ms + self.timing.start_ms);
        }
    }

    /// What the time asks for, and when it does next.
    fn go_on(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        if self.eligible.is_empty() {
            self.wake_ms = None;
            return;
        }
        if self.leading.is_some() {
            self.lead_on(now_ms, out);
        }
        if self.following.as_ref().is_some_and(|following| following.expires_ms <= now_ms) {
            self.vacate(now_ms, out);
        }
        if self.following.as_mut().is_some_and(|following| following.missed(now_ms)) {
            self.tell_all(now_ms, out);
        }
        if self.stands_ms().is_some_and(|at| at <= now_ms) {
            self.stand(now_ms, out);
        }
        let refresh_ms = self.timing.refresh_ms;
        let due: Vec<NodeId> =
            self.links.iter().filter(|(_, link)| link.told_ms + refresh_ms <= now_ms).map(|(node, _)| *node).collect();
        for node in due {
            self.tell(now_ms, node, out);
        }
        self.wake(out);
    }

    fn wake(&mut self, out: &mut Vec<Output>) {
        let refresh = self.links.values().map(|link| link.told_ms + self.timing.refresh_ms).min();
        let leading = self.leading.as_ref().map(|leading| leading.next_beat_ms.min(leading.hands_until_ms));
        let following = self.following.as_ref().map(Following::next_ms);
        let next = [refresh, leading, following, self.stands_ms()].into_iter().flatten().min();
        if let Some(at_ms) = next.filter(|_| next != self.wake_ms) {
            out.push(Output::Wake { at_ms });
        }
        self.wake_ms = next;
    }

    fn lead_on(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        let company = self.has_company();
        let Some(leading) = &mut self.leading else { return };
        if leading.hands_until_ms <= now_ms {
            return self.end_term(now_ms, out);
        }
        if leading.next_beat_ms <= now_ms {
            leading.company_ms = company.then(|| leading.company_ms.unwrap_or(now_ms));
            leading.claim.settled |= leading.company_ms.is_some_and(|since| since + self.timing.settle_ms <= now_ms);
            self.beat(now_ms, out);
        }
    }

    /// Says once more that this node is coordinator, and may act for another lease.
    fn beat(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        let Some(leading) = &mut self.leading else { return };
        leading.claim.beat += 1;
        leading.next_beat_ms = now_ms + self.timing.beat_ms;
        leading.lease_ms = now_ms + self.timing.lease_ms;
        self.tell_all(now_ms, out);
    }

    /// When this node stands, should nothing else happen.
    fn stands_ms(&self) -> Option<u64> {
        let priority = *self.eligible.get(&self.own)?;
        let may = self.fit && !self.stopping && self.leading.is_none() && self.term < TERM_MAX;
        let wait = self.wait_ms();
        match &self.following {
            _ if !may => None,
            None => Some(self.ready_ms + wait),
            // Only a strictly better one takes over, and not before it has been there for a while: no flapping.
            Some(f) if self.eligible.get(&f.signed.claim.node).is_some_and(|other| *other < priority) => {
                Some((f.since_ms + self.timing.stable_ms + wait).max(self.held_until_ms))
            }
            Some(_) => None,
        }
    }

    /// How long this node lets those stand who are preferred to it. Of one without a link nobody knows whether it is
    /// there and reached through others: half the time, for most such are just off.
    fn wait_ms(&self) -> u64 {
        let stagger_ms = self.timing.stagger_ms;
        // After it was told to step down, everybody else comes first.
        if self.is_held() {
            return (WAITS_MAX + 1) * stagger_ms;
        }
        let own = self.preference(self.own);
        let wait_for = |node: NodeId| match self.links.get(&node).filter(|link| self.is_heard(link)) {
            Some(link) if link.candidate => stagger_ms,
            Some(_) => 0,
            None => stagger_ms / 2,
        };
        let preferred = self.eligible.keys().copied().filter(|node| self.preference(*node) < own);
        preferred.map(wait_for).sum::<u64>().min(WAITS_MAX * stagger_ms)
    }

    /// The preferred one is the least.
    fn preference(&self, node: NodeId) -> (u16, NodeId) {
        (u16::MAX - self.eligible.get(&node).copied().unwrap_or_default(), node)
    }

    fn stand(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        self.term += 1;
        // Rule 1: durable before announced. A term forgotten in a crash could be claimed twice.
        out.push(Output::Persist(self.term));
        let settled = self.has_company();
        let claim = Claim { node: self.own, term: self.term, beat: 0, settled, state: ClaimState::Serves };
        self.following = None;
        self.leading = Some(Leading {
            claim,
            next_beat_ms: now_ms,
            lease_ms: now_ms + self.timing.lease_ms,
            company_ms: None,
            hands_until_ms: u64::MAX,
        });
        out.push(Output::Lead(self.term));
        self.beat(now_ms, out);
    }

    /// Makes way for the best candidate, or for nobody.
    fn hand_over(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        let next = self.candidates().first().copied();
        let Some(leading) = &mut self.leading else { return };
        let Some(next) = next else { return self.end_term(now_ms, out) };
        if leading.claim.state == ClaimState::Serves {
            leading.claim.state = ClaimState::Hands(next);
            leading.hands_until_ms = now_ms + self.timing.hand_ms;
            self.beat(now_ms, out);
        }
    }

    /// Says that this was the last of its term.
    fn end_term(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        let Some(leading) = &mut self.leading else { return };
        out.push(Output::Yield);
        leading.claim.state = ClaimState::Over;
        leading.claim.beat += 1;
        self.tell_all(now_ms, out);
        self.leading = None;
        self.vacate(now_ms, out);
        // The others first.
        self.ready_ms = now_ms + self.timing.expire_ms;
    }

    /// Whether any neighbour is heard.
    fn has_company(&self) -> bool {
        self.links.values().any(|link| self.is_heard(link))
    }

    /// Whether a neighbour spoke within the time in which a coordinator is thought to live. A link that says nothing is
    /// no company, though nobody has noticed yet that it is broken.
    fn is_heard(&self, link: &Neighbour) -> bool {
        link.spoke_ms.is_some_and(|at| at + self.timing.expire_ms > self.now_ms)
    }

    fn is_candidate(&self) -> bool {
        self.eligible.contains_key(&self.own) && self.fit && !self.stopping && !self.is_held()
    }

    fn is_held(&self) -> bool {
        self.now_ms < self.held_until_ms
    }
}
