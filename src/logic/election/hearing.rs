//! What a node hears of others, which of two claims is better, and what it passes on.

use core::cmp::Reverse;

use super::{ClaimState, Election, Output, TERM_STEP_MAX, Timing};
use crate::base::NodeId;
use crate::wire::heartbeat::{Claim, Hears, Heartbeat, SignedClaim};

/// Signs of life over a link lengthen a coordinator's time by at most so many times that time: heartbeats may wait
/// behind a burst of changes, but who says nothing new for long is no coordinator any more. A guess.
const SIGNS_OF_LIFE_MAX: u64 = 4;

/// A linked member.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Neighbour {
    /// Node, term and beat of the claim in its last heartbeat.
    pub(super) said: Option<(NodeId, u64, u64)>,
    pub(super) hears: Option<Hears>,
    pub(super) candidate: bool,
    pub(super) spoke_ms: Option<u64>,
    pub(super) told_ms: u64,
}

/// The coordinator, where it is another node.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Following {
    pub(super) signed: SignedClaim,
    /// Since when it has been heard without a break.
    pub(super) since_ms: u64,
    /// When the newest claim came.
    heard_ms: u64,
    pub(super) expires_ms: u64,
    /// Until when it counts as heard over a link of its own.
    pub(super) direct_until_ms: Option<u64>,
}

impl Following {
    fn new(now_ms: u64, signed: SignedClaim, timing: &Timing) -> Self {
        let expires_ms = now_ms + timing.expire_ms;
        Self { signed, since_ms: now_ms, heard_ms: now_ms, expires_ms, direct_until_ms: None }
    }

    /// Whether it is heard over its own link no more, which is said once.
    pub(super) fn missed(&mut self, now_ms: u64) -> bool {
        let missed = self.direct_until_ms.is_some_and(|until| until <= now_ms);
        if missed {
            self.direct_until_ms = None;
        }
        missed
    }

    pub(super) fn lives(&mut self, now_ms: u64, timing: &Timing) {
        let most = self.heard_ms + SIGNS_OF_LIFE_MAX * timing.expire_ms;
        self.expires_ms = self.expires_ms.max(most.min(now_ms + timing.expire_ms));
    }

    /// When time changes something about it.
    pub(super) fn next_ms(&self) -> u64 {
        self.direct_until_ms.map_or(self.expires_ms, |until| until.min(self.expires_ms))
    }

    fn is_same_term(&self, claim: &Claim) -> bool {
        (self.signed.claim.node, self.signed.claim.term) == (claim.node, claim.term)
    }
}

impl Election {
    /// A claim came over a link.
    pub(super) fn hear(&mut self, now_ms: u64, from: NodeId, signed: SignedClaim, out: &mut Vec<Output>) {
        let claim = signed.claim;
        if !self.is_news(&claim) {
            return self.hear_again(now_ms, from, &signed, out);
        }
        if claim.term > self.term.saturating_add(TERM_STEP_MAX) {
            return self.lift(now_ms);
        }
        self.term = self.term.max(claim.term);
        if claim.node == self.own {
            // An earlier life of this node is still spoken of: its next claim is above.
            return;
        }
        self.newest.insert(claim.node, (claim.term, claim.beat));
        if self.following.as_ref().is_some_and(|following| following.is_same_term(&claim)) {
            self.hear_next(now_ms, from, signed, out);
        } else {
            let current = self.leading.as_ref().map(|leading| leading.claim);
            let current = current.or(self.following.as_ref().map(|following| following.signed.claim));
            let is_over = claim.state == ClaimState::Over;
            if is_over || current.is_some_and(|current| !self.is_better(&claim, &current)) {
                return;
            }
            if self.leading.take().is_some() {
                out.push(Output::Yield);
            }
            self.follow(now_ms, from, signed, out);
        }
        if claim.state == ClaimState::Hands(self.own) && self.is_candidate() {
            self.stand(now_ms, out);
        }
    }

    /// The coordinator says once more that it is, or that it is no longer.
    fn hear_next(&mut self, now_ms: u64, from: NodeId, signed: SignedClaim, out: &mut Vec<Output>) {
        let is_over = signed.claim.state == ClaimState::Over;
        let expires_ms = now_ms + self.timing.expire_ms;
        if let Some(following) = &mut self.following {
            *following = Following { signed, heard_ms: now_ms, expires_ms, ..following.clone() };
        }
        self.pass_on(now_ms, from, out);
        if is_over {
            self.vacate(now_ms, out);
        } else {
            self.direct(now_ms, from, out);
        }
    }

    /// What is known already is no news, but says that the coordinator's own link works.
    fn hear_again(&mut self, now_ms: u64, from: NodeId, signed: &SignedClaim, out: &mut Vec<Output>) {
        if self.following.as_ref().is_some_and(|following| following.signed == *signed) {
            self.direct(now_ms, from, out);
        }
    }

    /// Rule 4. The claim is not followed; who says the truth is, after as many beats as it takes.
    fn lift(&mut self, now_ms: u64) {
        if self.lifted_ms.is_none_or(|at| at + self.timing.beat_ms <= now_ms) {
            self.lifted_ms = Some(now_ms);
            self.term += TERM_STEP_MAX;
        }
    }

    fn follow(&mut self, now_ms: u64, from: NodeId, signed: SignedClaim, out: &mut Vec<Output>) {
        let Claim { node, term, .. } = signed.claim;
        let is_direct = from == node;
        let mut following = Following::new(now_ms, signed, &self.timing);
        following.direct_until_ms = is_direct.then_some(now_ms + self.timing.missed_ms);
        self.following = Some(following);
        out.push(Output::Follow(Hears { node, term }));
        self.tell_all(now_ms, out);
    }

    /// The claim came from its maker: nobody else needs to pass it on to this node.
    fn direct(&mut self, now_ms: u64, from: NodeId, out: &mut Vec<Output>) {
        let until_ms = now_ms + self.timing.missed_ms;
        if let Some(following) = self.following.as_mut().filter(|f| f.signed.claim.node == from)
            && following.direct_until_ms.replace(until_ms).is_none()
        {
            self.tell_all(now_ms, out);
        }
    }

    /// Nobody is coordinator any more, as far as this node knows.
    pub(super) fn vacate(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        self.following = None;
        self.ready_ms = now_ms;
        out.push(Output::Vacant);
    }

    /// Which of two claims prevails. Who had company before one who made itself coordinator of nobody: a machine that was
    /// cut off alone takes nothing away from the others when it is back. Then the later term.
    fn is_better(&self, a: &Claim, b: &Claim) -> bool {
        let worth = |claim: &Claim| (claim.settled, claim.term, Reverse(self.preference(claim.node)));
        worth(a) > worth(b)
    }

    /// Tells the newest claim to those who did not hear it yet.
    fn pass_on(&mut self, now_ms: u64, from: NodeId, out: &mut Vec<Output>) {
        let all: Vec<NodeId> = self.links.keys().copied().filter(|node| *node != from).collect();
        for node in all {
            if self.message(node).claim.is_some() {
                self.tell(now_ms, node, out);
            }
        }
    }

    pub(super) fn tell_all(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        let all: Vec<NodeId> = self.links.keys().copied().collect();
        for node in all {
            self.tell(now_ms, node, out);
        }
    }

    pub(super) fn tell(&mut self, now_ms: u64, node: NodeId, out: &mut Vec<Output>) {
        // Where nobody may be coordinator, nothing is said.
        if self.eligible.is_empty() {
            return;
        }
        out.push(Output::Send(node, self.message(node)));
        if let Some(link) = self.links.get_mut(&node) {
            link.told_ms = now_ms;
        }
    }

    fn message(&self, to: NodeId) -> Heartbeat {
        let candidate = self.is_candidate();
        if let Some(leading) = &self.leading {
            return Heartbeat { claim: Some(leading.claim.unsigned()), hears: None, candidate };
        }
        let Some(following) = &self.following else { return Heartbeat { claim: None, hears: None, candidate } };
        let claim = &following.signed.claim;
        let hears = Hears { node: claim.node, term: claim.term };
        let knows = self.links.get(&to).is_some_and(|link| {
            let said = link
                .said
                .is_some_and(|(node, term, beat)| (node, term) == (claim.node, claim.term) && beat >= claim.beat);
            said || link.hears == Some(hears)
        });
        Heartbeat {
            claim: (!knows && to != claim.node).then(|| following.signed.clone()),
            hears: following.direct_until_ms.map(|_| hears),
            candidate,
        }
    }
}
