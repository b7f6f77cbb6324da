//! Who is a member and who an admin: the first half of evaluation, with strong removal.
//!
//! Rules:
//! 1. *Causal authority*: a statement is judged by what is in force among its own ancestors.
//! 2. Concurrent facts about one node: the lowest wins (out < member < admin).
//! 3. *Strong removal*: what a removed node signed concurrently with its removal is void; what a demoted admin
//!    signed concurrently with its demotion counts as a member's.
//! 4. Removals are accepted in order of rank: the recovery key; then removals of one node by two admins, by the
//!    junior of the two; then each issuer's, senior first. Rank is the order of admission in the set's own order
//!    (depth, then id), never time. An accepted removal cannot be voided by a removal accepted after it.
//!
//! Rule 4 is a fixed point: accepting a removal may void admissions and other removals, so the facts are judged
//! again. Every statement is accepted at most once and dropped at most once, which bounds the rounds.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use super::set::{Clock, Slot, StatementSet};
use super::state::Void;
use super::timeline::Timeline;
use crate::base::{NodeId, Role};
use crate::wire::statement::Body;

/// What a node is in the mesh. The order is that of power.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Standing {
    Out,
    Member,
    Admin,
}

impl Standing {
    pub(super) fn of(role: Role) -> Self {
        match role {
            Role::Member => Self::Member,
            Role::Admin => Self::Admin,
        }
    }
}

/// One thing said about a node's membership.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fact {
    pub(super) standing: Standing,
    /// Whether it makes a member, as opposed to changing one.
    pub(super) admits: bool,
}

/// Who is what, at every statement of a set (or of the part that is within a closure).
pub(super) struct Membership<S> {
    set: S,
    /// Statements about membership, in the set's order.
    slots: Vec<Slot>,
    by_issuer: BTreeMap<NodeId, Vec<Slot>>,
    /// Place in the set's order, by slot; defined for `slots` only.
    place: BTreeMap<Slot, u32>,
    facts: BTreeMap<NodeId, Timeline<Fact>>,
    pub(super) void: BTreeMap<Slot, Void>,
    accepted: BTreeMap<Slot, NodeId>,
    removals: BTreeMap<NodeId, Vec<(Slot, Standing)>>,
    dropped: BTreeSet<Slot>,
}

/// A removal that may be accepted next, by rank.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Candidate {
    class: u8,
    rank: u32,
    place: u32,
    slot: Slot,
    target: NodeId,
}

impl<S: Deref<Target = StatementSet>> Membership<S> {
    /// Evaluates the membership statements of `set` that are within `closure`.
    pub(super) fn evaluate(set: S, closure: Option<&Clock>) -> Self {
        let within = |slot: &Slot| closure.is_none_or(|closure| set.is_within(closure, *slot));
        let slots: Vec<Slot> = set
            .ordered_slots()
            .filter(within)
            .filter(|slot| {
                matches!(
                    set.statement(*slot).body(),
                    Body::Found(_) | Body::Admit(_) | Body::Expel(_) | Body::SetRole(_)
                )
            })
            .collect();
        let mut by_issuer: BTreeMap<NodeId, Vec<Slot>> = BTreeMap::new();
        let mut place = BTreeMap::new();
        for (at, slot) in slots.iter().enumerate() {
            by_issuer.entry(set.statement(*slot).head().issuer).or_default().push(*slot);
            place.insert(*slot, u32::try_from(at).expect("slots are u32"));
        }
        let mut membership = Self {
            set,
            slots,
            by_issuer,
            place,
            facts: BTreeMap::new(),
            void: BTreeMap::new(),
            accepted: BTreeMap::new(),
            removals: BTreeMap::new(),
            dropped: BTreeSet::new(),
        };
        membership.settle();
        membership
    }

    /// What `node` was when it signed `at`, as far as it knew and as removals that it did not know leave it.
    pub(super) fn standing_at(&self, node: NodeId, at: Slot) -> Result<Standing, Void> {
        let causal = self.causal_standing(node, at);
        if causal == Standing::Out {
            return Err(Void::NotAMember(node));
        }
        match self.strong_cap(node, at) {
            Some((by, Standing::Out)) => Err(Void::Removed { node, by: self.set.statement(by).id() }),
            Some((_, cap)) => Ok(causal.min(cap)),
            None => Ok(causal),
        }
    }

    /// What `node` is now.
    pub(super) fn standing(&self, node: NodeId) -> Standing {
        let Some(facts) = self.facts.get(&node) else { return Standing::Out };
        lowest(facts.newest(&self.set))
    }

    /// What `node` is by the facts that `visible` shows.
    pub(super) fn standing_in(&self, node: NodeId, visible: &dyn Fn(Slot) -> bool) -> Standing {
        let Some(facts) = self.facts.get(&node) else { return Standing::Out };
        lowest(facts.in_force(&self.set, |slot, _| visible(slot), |_| false))
    }

    /// Whether anything was ever in force about `node` among the ancestors of `at`.
    pub(super) fn is_known_at(&self, node: NodeId, at: Slot) -> bool {
        self.facts.get(&node).is_some_and(|facts| facts.iter().any(|(slot, _)| self.set.before(slot, at)))
    }

    /// Nodes about which something is in force, with all that is, ancestors first.
    pub(super) fn facts(&self) -> impl Iterator<Item = (NodeId, &Timeline<Fact>)> {
        self.facts.iter().map(|(node, facts)| (*node, facts))
    }

    fn settle(&mut self) {
        loop {
            self.judge_all();
            let lost: Vec<Slot> = self.accepted.keys().filter(|slot| self.void.contains_key(slot)).copied().collect();
            if !lost.is_empty() {
                for slot in lost {
                    self.unaccept(slot);
                    self.dropped.insert(slot);
                }
                continue;
            }
            let mut settled = true;
            for candidate in self.candidates() {
                self.accept(candidate);
                if self.voids_something(candidate) {
                    settled = false;
                    break;
                }
            }
            if settled {
                return;
            }
        }
    }

    fn judge_all(&mut self) {
        self.facts.clear();
        self.void.clear();
        for at in 0..self.slots.len() {
            let slot = self.slots[at];
            match self.judge(slot) {
                Ok((node, fact)) => self.facts.entry(node).or_default().push(&self.set, slot, fact),
                Err(reason) => {
                    self.void.insert(slot, reason);
                }
            }
        }
    }

    fn judge(&self, slot: Slot) -> Result<(NodeId, Fact), Void> {
        let statement = self.set.statement(slot);
        let issuer = statement.head().issuer;
        if self.dropped.contains(&slot) {
            return Err(Void::Outranked(issuer));
        }
        match statement.body() {
            Body::Found(_) => Ok((issuer, Fact { standing: Standing::Admin, admits: true })),
            Body::Admit(admit) => {
                self.must_govern(issuer, slot)?;
                if Some(admit.node) == self.set.recovery() {
                    return Err(Void::RecoveryKey);
                }
                Ok((admit.node, Fact { standing: Standing::of(admit.role), admits: true }))
            }
            Body::Expel(expel) => {
                if expel.node == issuer {
                    self.own_standing(issuer, slot)?;
                } else {
                    self.must_govern(issuer, slot)?;
                    self.must_be_member(expel.node, slot)?;
                }
                Ok((expel.node, Fact { standing: Standing::Out, admits: false }))
            }
            Body::SetRole(set) => {
                self.must_govern(issuer, slot)?;
                self.must_be_member(set.node, slot)?;
                Ok((set.node, Fact { standing: Standing::of(set.role), admits: false }))
            }
            _ => unreachable!("only statements about membership are judged here"),
        }
    }

    /// The recovery key and admins admit, expel and set roles.
    fn must_govern(&self, issuer: NodeId, slot: Slot) -> Result<(), Void> {
        if Some(issuer) == self.set.recovery() {
            return Ok(());
        }
        match self.own_standing(issuer, slot)? {
            Standing::Admin => Ok(()),
            _ => Err(Void::NotAnAdmin(issuer)),
        }
    }

    fn must_be_member(&self, node: NodeId, slot: Slot) -> Result<(), Void> {
        match self.causal_standing(node, slot) {
            Standing::Out => Err(Void::NoSuchMember(node)),
            _ => Ok(()),
        }
    }

    /// An accepted removal was accepted before whatever would void it: for it only what its issuer knew counts.
    fn own_standing(&self, issuer: NodeId, slot: Slot) -> Result<Standing, Void> {
        if !self.accepted.contains_key(&slot) {
            return self.standing_at(issuer, slot);
        }
        match self.causal_standing(issuer, slot) {
            Standing::Out => Err(Void::NotAMember(issuer)),
            standing => Ok(standing),
        }
    }

    fn causal_standing(&self, node: NodeId, at: Slot) -> Standing {
        let Some(facts) = self.facts.get(&node) else { return Standing::Out };
        lowest(facts.newest_before(&self.set, at))
    }

    fn strong_cap(&self, node: NodeId, at: Slot) -> Option<(Slot, Standing)> {
        let removals = self.removals.get(&node)?;
        removals.iter().filter(|(slot, _)| self.set.concurrent(*slot, at)).copied().min_by_key(|(_, cap)| *cap)
    }

    /// Removals in force that are not accepted yet, most senior first.
    fn candidates(&self) -> Vec<Candidate> {
        let mut by_target: BTreeMap<NodeId, Vec<(u32, NodeId, Slot)>> = BTreeMap::new();
        for slot in &self.slots {
            if self.void.contains_key(slot) {
                continue;
            }
            if let Some(target) = removal_target(&self.set, *slot) {
                let issuer = self.set.statement(*slot).head().issuer;
                by_target.entry(target).or_default().push((self.rank(issuer, *slot), issuer, *slot));
            }
        }
        let mut candidates = Vec::new();
        for (target, removals) in by_target {
            let joint = second_rank(target, &removals);
            for (rank, issuer, slot) in removals {
                if self.accepted.contains_key(&slot) {
                    continue;
                }
                let (class, rank) = match joint {
                    _ if Some(issuer) == self.set.recovery() => (0, 0),
                    Some(joint) if issuer != target => (1, joint),
                    _ => (2, rank),
                };
                candidates.push(Candidate { class, rank, place: self.place[&slot], slot, target });
            }
        }
        candidates.sort();
        candidates
    }

    /// Seniority of an issuer at a statement: where it was admitted last, without a removal since.
    fn rank(&self, node: NodeId, at: Slot) -> u32 {
        if Some(node) == self.set.recovery() {
            return 0;
        }
        let Some(facts) = self.facts.get(&node) else { return u32::MAX };
        let mut rank = None;
        for (slot, fact) in facts.iter().filter(|(slot, _)| self.set.before(*slot, at)) {
            match fact.standing {
                Standing::Out => rank = None,
                _ if fact.admits && rank.is_none() => rank = Some(self.place[&slot]),
                _ => {}
            }
        }
        rank.unwrap_or(u32::MAX)
    }

    fn accept(&mut self, candidate: Candidate) {
        self.accepted.insert(candidate.slot, candidate.target);
        let cap = match self.set.statement(candidate.slot).body() {
            Body::SetRole(_) => Standing::Member,
            _ => Standing::Out,
        };
        self.removals.entry(candidate.target).or_default().push((candidate.slot, cap));
    }

    fn unaccept(&mut self, slot: Slot) {
        if let Some(target) = self.accepted.remove(&slot)
            && let Some(removals) = self.removals.get_mut(&target)
        {
            removals.retain(|(removal, _)| *removal != slot);
        }
    }

    /// Whether accepting changes how some membership statement of the removed node is judged.
    fn voids_something(&self, candidate: Candidate) -> bool {
        self.by_issuer.get(&candidate.target).is_some_and(|slots| {
            slots.iter().any(|slot| {
                !self.void.contains_key(slot)
                    && !self.accepted.contains_key(slot)
                    && self.set.concurrent(*slot, candidate.slot)
            })
        })
    }
}

fn lowest(facts: Vec<(Slot, &Fact)>) -> Standing {
    facts.into_iter().map(|(_, fact)| fact.standing).min().unwrap_or(Standing::Out)
}

/// Whom a statement lowers: an expulsion, or a role of member.
fn removal_target(set: &StatementSet, slot: Slot) -> Option<NodeId> {
    match set.statement(slot).body() {
        Body::Expel(expel) => Some(expel.node),
        Body::SetRole(set) if set.role == Role::Member => Some(set.node),
        _ => None,
    }
}

/// The rank of the second most senior of the nodes that remove `target`, if there are two beside itself.
fn second_rank(target: NodeId, removals: &[(u32, NodeId, Slot)]) -> Option<u32> {
    let mut best: BTreeMap<NodeId, u32> = BTreeMap::new();
    for (rank, issuer, _) in removals {
        if *issuer != target {
            let entry = best.entry(*issuer).or_insert(*rank);
            *entry = (*entry).min(*rank);
        }
    }
    let mut ranks: Vec<u32> = best.into_values().collect();
    ranks.sort_unstable();
    ranks.get(1).copied()
}
