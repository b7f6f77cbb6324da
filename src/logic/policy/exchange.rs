//! Reconciliation of two statement sets over a link: what each side announces, asks for and sends.
//!
//! 1. Each side announces its heads, with some older statements at doubling distances.
//! 2. What is announced and known, the other has, with all ancestors. What is unknown is asked for.
//! 3. An answer holds what was asked for and its ancestors, less what the other is known to have, ancestors first,
//!    within one message. What is left over is asked for again.
//!
//! Every answer grows what the other is known to have, or repeats exactly what was asked for; so two sets are equal
//! after a bounded number of messages, each bounded. The older statements of rule 1 keep what is sent twice below
//! what is new on the other side. A new link starts a new `Exchange`.

use std::collections::BTreeSet;

use super::set::{Clock, Inserted, NotTaken, Slot, StatementSet};
use crate::base::StatementId;
use crate::wire::codec::{DecodeError, List};
use crate::wire::message::Message;
use crate::wire::signed::Signed;
use crate::wire::statement::Statement;

/// Ids in one announcement.
pub const HEADS_MAX: usize = 256;
/// Ids in one request.
pub const WANT_MAX: usize = 1024;
/// Statements in one answer.
pub const STATEMENTS_MAX: usize = 1024;
/// Bytes of statements in one message. A guess: half a frame, 4 ms of a gigabit link, so that small changes get by.
pub const MESSAGE_BYTES_MAX: usize = 512 * 1024;

/// Encoding around one statement: signature, two lengths.
const OVERHEAD_BYTES: usize = 64 + 8;
/// Announced statements that the peer turned out to have but this node refuses; remembered so as not to ask again.
const REFUSED_MAX: usize = 1024;

/// The state of reconciliation with one peer.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// What the peer is known to have.
    peer: Clock,
    /// What the peer announced and this node lacks.
    unknown: BTreeSet<StatementId>,
    refused: BTreeSet<StatementId>,
}

/// What came of a message with statements.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Received {
    /// New in the set, ancestors first: to be stored, and offered to the other peers.
    pub taken: Vec<StatementId>,
    /// Not taken, and why: for the audit log.
    pub refused: Vec<(StatementId, NotTaken)>,
    /// What to send back.
    pub replies: Vec<Message>,
}

impl Exchange {
    /// The state of a fresh link.
    pub fn new() -> Self {
        Self::default()
    }

    /// The announcement that opens the exchange, and that may be repeated at any time.
    pub fn announce(&self, set: &StatementSet) -> Vec<Message> {
        let mut ids = set.heads();
        let older = std::iter::successors(Some(1_usize), |step| step.checked_mul(2));
        for step in older.take_while(|step| *step < set.len()) {
            ids.extend(set.in_order().rev().nth(step).map(Statement::id));
        }
        let mut seen = BTreeSet::new();
        ids.retain(|id| seen.insert(*id));
        ids.chunks(HEADS_MAX).map(|chunk| Message::StatementHeads(List::truncated(chunk.to_vec()))).collect()
    }

    /// Takes the peer's announcement; returns a request for what is missing.
    pub fn handle_heads(&mut self, set: &StatementSet, ids: &[StatementId]) -> Vec<Message> {
        for id in ids {
            match set.slot(id) {
                Some(slot) => set.close_over(&mut self.peer, slot),
                None if self.unknown.len() < WANT_MAX && !self.refused.contains(id) => {
                    self.unknown.insert(*id);
                }
                None => {}
            }
        }
        self.want(set)
    }

    /// Answers a request.
    pub fn handle_want(&mut self, set: &StatementSet, ids: &[StatementId]) -> Vec<Message> {
        let asked: Vec<Slot> = ids.iter().filter_map(|id| set.slot(id)).collect();
        let mut target = Clock::default();
        for slot in &asked {
            set.close_over(&mut target, *slot);
        }
        let lacking: Vec<Slot> = set
            .ordered_slots()
            .filter(|slot| set.is_within(&target, *slot) && !set.is_within(&self.peer, *slot))
            .take(STATEMENTS_MAX)
            .collect();
        // The peer asks for what it should have: it forgot it, so it gets exactly that, and asks its way back.
        self.statements(set, if lacking.is_empty() { &asked } else { &lacking })
    }

    /// Takes statements into the set; returns what is new and what to ask for next. An error: the peer broke the
    /// protocol, and the set is unchanged.
    pub fn handle_statements(
        &mut self,
        set: &mut StatementSet,
        statements: Vec<Signed>,
    ) -> Result<Received, DecodeError> {
        let statements: Vec<Statement> = statements.into_iter().map(Statement::open).collect::<Result<_, _>>()?;
        let mut received = Received::default();
        for statement in statements {
            let id = statement.id();
            match set.insert(statement) {
                Ok(Inserted::Accepted { taken, refused }) => {
                    received.taken.extend(taken);
                    received.refused.extend(refused);
                }
                Ok(Inserted::Known | Inserted::Parked(_)) => {}
                Err(reason) => received.refused.push((id, reason)),
            }
            if let Some(slot) = set.slot(&id) {
                set.close_over(&mut self.peer, slot);
            }
        }
        for (id, _) in &received.refused {
            self.unknown.remove(id);
            if self.refused.len() < REFUSED_MAX {
                self.refused.insert(*id);
            }
        }
        received.replies = self.want(set);
        Ok(received)
    }

    /// Offers what is new in the set: sends what the peer can take at once, announces the rest.
    pub fn news(&mut self, set: &StatementSet, taken: &[StatementId]) -> Vec<Message> {
        let mut ready = Vec::new();
        let mut rest = false;
        let mut peer = self.peer.clone();
        for slot in taken.iter().filter_map(|id| set.slot(id)) {
            if set.is_within(&peer, slot) {
                continue;
            }
            let parents = set.statement(slot).head().parents.iter();
            let fits = parents.filter_map(|id| set.slot(id)).all(|parent| set.is_within(&peer, parent));
            if fits && ready.len() < STATEMENTS_MAX {
                set.close_over(&mut peer, slot);
                ready.push(slot);
            } else {
                rest = true;
            }
        }
        let mut messages = self.statements(set, &ready);
        if rest || ready.iter().any(|slot| !set.is_within(&self.peer, *slot)) {
            messages.extend(self.announce(set));
        }
        messages
    }

    /// As many of `slots` as fit one message; the peer has them from now on.
    fn statements(&mut self, set: &StatementSet, slots: &[Slot]) -> Vec<Message> {
        let mut bytes = 0;
        let mut statements = Vec::new();
        for slot in slots.iter().take(STATEMENTS_MAX) {
            let signed = set.statement(*slot).signed();
            bytes += signed.envelope.len() + OVERHEAD_BYTES;
            if bytes > MESSAGE_BYTES_MAX && !statements.is_empty() {
                break;
            }
            statements.push(signed.clone());
            set.close_over(&mut self.peer, *slot);
        }
        if statements.is_empty() { Vec::new() } else { vec![Message::Statements(List::truncated(statements))] }
    }

    /// A request for what the peer has and for parents that parked statements wait for.
    fn want(&mut self, set: &StatementSet) -> Vec<Message> {
        self.unknown.retain(|id| !set.contains(id));
        let mut ids: BTreeSet<StatementId> = set.missing().into_iter().collect();
        ids.extend(&self.unknown);
        let ids: Vec<StatementId> = ids.into_iter().filter(|id| !self.refused.contains(id)).take(WANT_MAX).collect();
        if ids.is_empty() { Vec::new() } else { vec![Message::StatementWant(List::truncated(ids))] }
    }
}
