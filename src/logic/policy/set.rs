//! The statements of one mesh as a hash graph: each names its parents, and is taken only after all of them.
//!
//! Rules:
//! 1. whether a statement is taken depends on its ancestors alone: so every node that has them decides alike;
//! 2. the issuer numbers its statements 1, 2, 3 …, and each has the one before among its ancestors;
//! 3. an issuer that numbers two statements alike has *equivocated*: both are kept, as concurrent ones, and the
//!    pair is evidence. In a hash graph that gains it nothing, since all nodes come to hold both;
//! 4. an issuer must have been admitted by an admin among the statement's ancestors, so that strangers take no room.
//!
//! Source: Kleppmann and Howard, *Byzantine Eventual Consistency and the Fundamental Limits of Peer-to-Peer
//! Databases* (2020). Ancestry is answered by vector clocks over *lanes*: chains of one issuer's statements.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::parked::Parked;
use crate::base::{MeshId, NodeId, Role, StatementId};
use crate::wire::statement::{Body, Statement};

/// Highest number of an issuer's statement. A guess: an admin who signs 50 a day for three years.
pub(super) const ISSUER_STATEMENTS_MAX: u64 = 65_536;
/// Bytes of one issuer's chain. A guess: what bounds a member that floods, at 50 members 1.6 GiB in the worst case.
pub(super) const ISSUER_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Branches of one issuer's chain that are taken unasked. More are taken only when another statement stands on
/// them. An honest node has one; one restored from a backup twice has three.
pub(super) const LANES_MAX: usize = 8;

/// Place of a statement in this set, in order of arrival. No result may depend on it.
pub(super) type Slot = u32;

/// The statements of one mesh.
#[derive(Clone, Debug)]
pub struct StatementSet {
    mesh: MeshId,
    /// By slot; apart from `entries`, which ancestry is answered from and which so stays in the cache.
    statements: Vec<Arc<Statement>>,
    entries: Vec<Entry>,
    by_id: BTreeMap<StatementId, Slot>,
    /// Ancestors first, then by id: a function of the set.
    order: BTreeSet<(u32, StatementId, Slot)>,
    lanes: Vec<Vec<Slot>>,
    lanes_of: BTreeMap<NodeId, Vec<u32>>,
    heads: BTreeSet<StatementId>,
    root: Option<Root>,
    admitted: BTreeMap<NodeId, Vec<Slot>>,
    made_admin: BTreeMap<NodeId, Vec<Slot>>,
    /// Statements about forks whose proof is good, with the last number that both histories share.
    forks: BTreeMap<Slot, u64>,
    parked: Parked,
}

#[derive(Clone, Debug)]
struct Entry {
    depth: u32,
    lane: u32,
    /// Place in the lane, from 1.
    place: u32,
    /// For each lane, how many of its statements are strict ancestors.
    past: Clock,
    /// Bytes of the issuer's chain up to and with this one.
    chain_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Root {
    founder: NodeId,
    recovery: NodeId,
}

/// A set of statements closed under ancestry, as a count a lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Clock(Vec<u32>);

impl Clock {
    fn count(&self, lane: u32) -> u32 {
        self.0.get(lane as usize).copied().unwrap_or(0)
    }

    fn raise(&mut self, lane: u32, count: u32) {
        let lane = lane as usize;
        if self.0.len() <= lane {
            self.0.resize(lane + 1, 0);
        }
        self.0[lane] = self.0[lane].max(count);
    }

    fn join(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = (*mine).max(*theirs);
        }
    }
}

/// What became of a statement that was not refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Inserted {
    /// Taken, and with it those that had waited for it, ancestors first. `refused` had waited for it too.
    Accepted {
        /// The new members of the set.
        taken: Vec<StatementId>,
        /// Parked statements that turned out to be refused, with the reason.
        refused: Vec<(StatementId, NotTaken)>,
    },
    /// It was there already.
    Known,
    /// It waits for these parents.
    Parked(Vec<StatementId>),
}

/// Why a statement is not taken. The set is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// It belongs to another mesh.
    #[error("statement {} is of another mesh", short(.0))]
    OtherMesh(StatementId),
    /// It names a parent that is an ancestor of another of its parents.
    #[error("statement {} names a parent twice over", short(.0))]
    Parents(StatementId),
    /// Its number does not follow the issuer's last among its ancestors.
    #[error("statement {} of {} has number {found}, expected {expected}", short(.id), .issuer.short())]
    Counter {
        /// The statement.
        id: StatementId,
        /// Its issuer.
        issuer: NodeId,
        /// The number it has.
        found: u64,
        /// The number it should have.
        expected: u64,
    },
    /// No admin among its ancestors admitted its issuer.
    #[error("statement {} is by {}, whom nobody admitted", short(.id), .issuer.short())]
    Stranger {
        /// The statement.
        id: StatementId,
        /// Its issuer.
        issuer: NodeId,
    },
    /// Its issuer's chain is longer than anyone's may be.
    #[error("statement {} is beyond the {ISSUER_STATEMENTS_MAX} statements or {ISSUER_BYTES_MAX} bytes that {} may sign", short(.id), .issuer.short())]
    TooMany {
        /// The statement.
        id: StatementId,
        /// Its issuer.
        issuer: NodeId,
    },
    /// Its issuer has signed too many histories; this one is not needed as evidence.
    #[error("{} signs many histories at once; statement {} is left out", .issuer.short(), short(.id))]
    Equivocation {
        /// The statement.
        id: StatementId,
        /// Its issuer.
        issuer: NodeId,
    },
    /// Its issuer has too many statements whose parents are missing.
    #[error("too many statements of {} wait for their parents", .0.short())]
    TooManyParked(NodeId),
    /// It stands on a statement that is refused.
    #[error("statement {} stands on a refused one", short(.0))]
    Parent(StatementId),
}

/// Evidence that an issuer gave one number to two statements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Equivocation {
    /// Who.
    pub issuer: NodeId,
    /// One statement.
    pub one: StatementId,
    /// The other.
    pub other: StatementId,
}

pub(super) fn short(id: &StatementId) -> String {
    id.to_hex()[..8].to_string()
}

impl StatementSet {
    /// An empty set for one mesh; its founding statement comes first.
    pub fn new(mesh: MeshId) -> Self {
        Self {
            mesh,
            statements: Vec::new(),
            entries: Vec::new(),
            by_id: BTreeMap::new(),
            order: BTreeSet::new(),
            lanes: Vec::new(),
            lanes_of: BTreeMap::new(),
            heads: BTreeSet::new(),
            root: None,
            admitted: BTreeMap::new(),
            made_admin: BTreeMap::new(),
            forks: BTreeMap::new(),
            parked: Parked::default(),
        }
    }

    /// The mesh.
    pub fn mesh(&self) -> MeshId {
        self.mesh
    }

    /// How many statements it holds, without the parked ones.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether not even the founding statement is there.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes a statement, or parks it until its parents come.
    pub fn insert(&mut self, statement: Statement) -> Result<Inserted, NotTaken> {
        let id = statement.id();
        if self.by_id.contains_key(&id) {
            return Ok(Inserted::Known);
        }
        self.check_mesh(&statement)?;
        let missing: BTreeSet<StatementId> =
            statement.head().parents.iter().filter(|p| !self.by_id.contains_key(p)).copied().collect();
        if !missing.is_empty() {
            let listed = missing.iter().copied().collect();
            if !self.parked.contains(&id) {
                let issuer = statement.head().issuer;
                if !self.parked.park(statement, missing) {
                    return Err(NotTaken::TooManyParked(issuer));
                }
            }
            return Ok(Inserted::Parked(listed));
        }
        if let Err(reason) = self.take(statement) {
            self.parked.forget_below(&id);
            return Err(reason);
        }
        let mut taken = vec![id];
        let mut refused = Vec::new();
        let mut at = 0;
        while at < taken.len() {
            for child in self.parked.release(&taken[at]) {
                let child_id = child.id();
                match self.take(child) {
                    Ok(()) => taken.push(child_id),
                    Err(reason) => {
                        let below = self.parked.forget_below(&child_id);
                        refused.push((child_id, reason));
                        refused.extend(below.into_iter().map(|id| (id, NotTaken::Parent(id))));
                    }
                }
            }
            at += 1;
        }
        Ok(Inserted::Accepted { taken, refused })
    }

    /// The statements that none other has as an ancestor, sorted.
    pub fn heads(&self) -> Vec<StatementId> {
        self.heads.iter().copied().collect()
    }

    /// One statement.
    pub fn get(&self, id: &StatementId) -> Option<&Statement> {
        self.by_id.get(id).map(|slot| &*self.statements[*slot as usize])
    }

    /// Whether a statement is in the set.
    pub fn contains(&self, id: &StatementId) -> bool {
        self.by_id.contains_key(id)
    }

    /// All statements, ancestors first; the same order on every node with the same set.
    pub fn in_order(&self) -> impl DoubleEndedIterator<Item = &Statement> {
        self.order.iter().map(|(_, _, slot)| &*self.statements[*slot as usize])
    }

    /// Parents that parked statements wait for.
    pub fn missing(&self) -> Vec<StatementId> {
        self.parked.missing().collect()
    }

    /// How many statements are parked, and their bytes.
    pub fn parked(&self) -> (usize, usize) {
        (self.parked.len(), self.parked.bytes())
    }

    /// Whether `one` is a strict ancestor of `other`; `false` where either is unknown.
    pub fn is_ancestor(&self, one: &StatementId, other: &StatementId) -> bool {
        match (self.by_id.get(one), self.by_id.get(other)) {
            (Some(one), Some(other)) => self.before(*one, *other),
            _ => false,
        }
    }

    /// Evidence against every issuer that numbered two statements alike, sorted by issuer.
    pub fn equivocations(&self) -> Vec<Equivocation> {
        let mut found = Vec::new();
        for (issuer, lanes) in &self.lanes_of {
            let Some(second) = lanes.get(1) else { continue };
            let forked = self.statement(self.lanes[*second as usize][0]);
            let twin = lanes.iter().flat_map(|lane| &self.lanes[*lane as usize]).find(|slot| {
                let other = self.statement(**slot);
                other.head().counter == forked.head().counter && other.id() != forked.id()
            });
            if let Some(twin) = twin {
                let (a, b) = (forked.id(), self.statement(*twin).id());
                found.push(Equivocation { issuer: *issuer, one: a.min(b), other: a.max(b) });
            }
        }
        found
    }

    /// The highest number that `issuer` has given to a statement of this set; 0 where it has given none.
    pub fn last_counter(&self, issuer: NodeId) -> u64 {
        self.last_of(issuer).map_or(0, |slot| self.statement(slot).head().counter)
    }

    pub(super) fn last_of(&self, issuer: NodeId) -> Option<Slot> {
        let tips = self.lanes_of.get(&issuer)?.iter().filter_map(|lane| self.lanes[*lane as usize].last());
        tips.copied().max_by_key(|slot| {
            let statement = self.statement(*slot);
            (statement.head().counter, std::cmp::Reverse(statement.id()))
        })
    }

    // Below: for the other files of this module, by slot.

    pub(super) fn statement(&self, slot: Slot) -> &Statement {
        &self.statements[slot as usize]
    }

    pub(super) fn slot(&self, id: &StatementId) -> Option<Slot> {
        self.by_id.get(id).copied()
    }

    pub(super) fn ordered_slots(&self) -> impl DoubleEndedIterator<Item = Slot> {
        self.order.iter().map(|(_, _, slot)| *slot)
    }

    pub(super) fn depth(&self, slot: Slot) -> u32 {
        self.entries[slot as usize].depth
    }

    pub(super) fn recovery(&self) -> Option<NodeId> {
        self.root.map(|root| root.recovery)
    }

    /// Whether `one` is a strict ancestor of `other`.
    pub(super) fn before(&self, one: Slot, other: Slot) -> bool {
        let one = &self.entries[one as usize];
        self.entries[other as usize].past.count(one.lane) >= one.place
    }

    /// Whether neither has seen the other.
    pub(super) fn concurrent(&self, one: Slot, other: Slot) -> bool {
        one != other && !self.before(one, other) && !self.before(other, one)
    }

    /// The chain that a statement belongs to.
    pub(super) fn lane(&self, slot: Slot) -> u32 {
        self.entries[slot as usize].lane
    }

    /// The last number that both histories share, where `slot` proves a fork.
    pub(super) fn proven_fork(&self, slot: Slot) -> Option<u64> {
        self.forks.get(&slot).copied()
    }

    /// The statement of its issuer that `slot` follows without a branch between them.
    pub(super) fn previous_in_lane(&self, slot: Slot) -> Option<Slot> {
        let entry = &self.entries[slot as usize];
        let before = (entry.place as usize).checked_sub(2)?;
        self.lanes[entry.lane as usize].get(before).copied()
    }

    /// Whether any of `chain` that `visible` shows is concurrent with `slot`; all are of one lane, ancestors first.
    ///
    /// In a chain, ancestors of `slot` come first and descendants last: only what follows the ancestors must be asked.
    pub(super) fn any_concurrent(&self, chain: &[Slot], slot: Slot, visible: &dyn Fn(Slot) -> bool) -> bool {
        let first = chain.partition_point(|other| *other == slot || self.before(*other, slot));
        let concurrent = chain[first..].iter().take_while(|other| !self.before(slot, **other));
        concurrent.into_iter().any(|other| visible(*other))
    }

    /// Adds a statement and all its ancestors to `closure`.
    pub(super) fn close_over(&self, closure: &mut Clock, slot: Slot) {
        let entry = &self.entries[slot as usize];
        closure.join(&entry.past);
        closure.raise(entry.lane, entry.place);
    }

    pub(super) fn is_within(&self, closure: &Clock, slot: Slot) -> bool {
        let entry = &self.entries[slot as usize];
        closure.count(entry.lane) >= entry.place
    }

    fn check_mesh(&self, statement: &Statement) -> Result<(), NotTaken> {
        let ours = match statement.head().mesh {
            Some(mesh) => mesh == self.mesh,
            None => statement.id().0 == self.mesh.0,
        };
        if ours { Ok(()) } else { Err(NotTaken::OtherMesh(statement.id())) }
    }

    fn take(&mut self, statement: Statement) -> Result<(), NotTaken> {
        let (id, head) = (statement.id(), statement.head());
        let issuer = head.issuer;
        let parents: Vec<Slot> = head.parents.iter().map(|p| self.by_id[p]).collect();
        let mut past = Clock::default();
        for parent in &parents {
            past.join(&self.entries[*parent as usize].past);
        }
        // A parent that another parent has as an ancestor is within the join of their pasts.
        if parents.iter().any(|parent| self.is_within(&past, *parent)) {
            return Err(NotTaken::Parents(id));
        }
        for parent in &parents {
            let entry = &self.entries[*parent as usize];
            past.raise(entry.lane, entry.place);
        }
        let previous = self.previous_of(issuer, &past);
        let expected = previous.map_or(0, |slot| self.statement(slot).head().counter) + 1;
        if head.counter != expected {
            return Err(NotTaken::Counter { id, issuer, found: head.counter, expected });
        }
        if !matches!(statement.body(), Body::Found(_)) && !self.was_admitted(issuer, &past) {
            return Err(NotTaken::Stranger { id, issuer });
        }
        let bytes = u64::try_from(statement.signed().envelope.len()).expect("a length fits");
        let chain_bytes = bytes + previous.map_or(0, |slot| self.entries[slot as usize].chain_bytes);
        if head.counter > ISSUER_STATEMENTS_MAX || chain_bytes > ISSUER_BYTES_MAX {
            return Err(NotTaken::TooMany { id, issuer });
        }
        let lane = self.lane_after(issuer, previous, id)?;
        self.add(statement, parents, past, lane, chain_bytes);
        Ok(())
    }

    /// The issuer's own newest statement in `past`: the highest number, ties by id.
    fn previous_of(&self, issuer: NodeId, past: &Clock) -> Option<Slot> {
        let lanes = self.lanes_of.get(&issuer)?;
        let newest = lanes.iter().filter_map(|lane| {
            let count = past.count(*lane) as usize;
            (count > 0).then(|| self.lanes[*lane as usize][count - 1])
        });
        newest.max_by_key(|slot| (self.statement(*slot).head().counter, std::cmp::Reverse(self.statement(*slot).id())))
    }

    /// The lane that the next statement after `previous` goes to: its own if `previous` is the tip, else a new one.
    fn lane_after(&mut self, issuer: NodeId, previous: Option<Slot>, id: StatementId) -> Result<u32, NotTaken> {
        if let Some(previous) = previous {
            let entry = &self.entries[previous as usize];
            if self.lanes[entry.lane as usize].len() == entry.place as usize {
                return Ok(entry.lane);
            }
        }
        let lanes = self.lanes_of.entry(issuer).or_default();
        if lanes.len() >= LANES_MAX && !self.parked.is_awaited(&id) {
            return Err(NotTaken::Equivocation { id, issuer });
        }
        let lane = u32::try_from(self.lanes.len()).expect("fewer lanes than statements, and these fit u32");
        lanes.push(lane);
        self.lanes.push(Vec::new());
        Ok(lane)
    }

    fn add(&mut self, statement: Statement, parents: Vec<Slot>, past: Clock, lane: u32, chain_bytes: u64) {
        let slot = Slot::try_from(self.entries.len()).expect("memory ends before u32 does");
        let id = statement.id();
        let depth = parents.iter().map(|p| self.entries[*p as usize].depth + 1).max().unwrap_or(0);
        for parent in statement.head().parents.iter() {
            self.heads.remove(parent);
        }
        self.heads.insert(id);
        self.note_membership(&statement, &past, slot);
        self.lanes[lane as usize].push(slot);
        let place = u32::try_from(self.lanes[lane as usize].len()).expect("memory ends before u32 does");
        self.by_id.insert(id, slot);
        self.order.insert((depth, id, slot));
        if let Body::Fork(fork) = statement.body()
            && let Some(common) = fork.proof(self.mesh)
        {
            self.forks.insert(slot, common);
        }
        self.statements.push(Arc::new(statement));
        self.entries.push(Entry { depth, lane, place, past, chain_bytes });
    }

    fn note_membership(&mut self, statement: &Statement, past: &Clock, slot: Slot) {
        let (node, role) = match statement.body() {
            Body::Found(found) => {
                self.root = Some(Root { founder: statement.head().issuer, recovery: found.recovery });
                return;
            }
            Body::Admit(admit) => (admit.node, admit.role),
            Body::SetRole(set) => (set.node, set.role),
            _ => return,
        };
        if !self.was_admin(statement.head().issuer, past) {
            return;
        }
        if matches!(statement.body(), Body::Admit(_)) {
            self.admitted.entry(node).or_default().push(slot);
        }
        if role == Role::Admin {
            self.made_admin.entry(node).or_default().push(slot);
        }
    }

    fn was_admitted(&self, node: NodeId, past: &Clock) -> bool {
        self.is_root(node) || self.any_within(self.admitted.get(&node), past)
    }

    fn was_admin(&self, node: NodeId, past: &Clock) -> bool {
        self.is_root(node) || self.any_within(self.made_admin.get(&node), past)
    }

    fn is_root(&self, node: NodeId) -> bool {
        self.root.is_some_and(|root| root.founder == node || root.recovery == node)
    }

    fn any_within(&self, slots: Option<&Vec<Slot>>, past: &Clock) -> bool {
        slots.is_some_and(|slots| slots.iter().any(|slot| self.is_within(past, *slot)))
    }
}
