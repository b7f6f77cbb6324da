//! Statements that came before their parents: kept for a while, bounded, and asked for.
//!
//! Exchange between nodes sends ancestors first, so an honest node parks next to nothing. What is evicted here
//! is only forgotten: it comes again with its ancestors.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::base::{NodeId, StatementId};
use crate::wire::statement::Statement;

/// Most parked statements. A guess: four full messages of the exchange.
pub(super) const PARKED_MAX: usize = 4096;
/// Most bytes of parked statements. A guess: far above what an honest exchange leaves, small on a Raspberry Pi.
pub(super) const PARKED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most parked statements of one issuer, so that one cannot push out all others.
pub(super) const PARKED_ISSUER_MAX: usize = 1024;

/// The parked statements. Only `StatementSet` holds one.
#[derive(Clone, Debug, Default)]
pub(super) struct Parked {
    statements: BTreeMap<StatementId, (Statement, BTreeSet<StatementId>)>,
    waiting: BTreeMap<StatementId, BTreeSet<StatementId>>,
    of_issuer: BTreeMap<NodeId, usize>,
    oldest_first: VecDeque<StatementId>,
    bytes: usize,
}

impl Parked {
    pub(super) fn contains(&self, id: &StatementId) -> bool {
        self.statements.contains_key(id)
    }

    pub(super) fn len(&self) -> usize {
        self.statements.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps a statement until `missing` is empty. `false`: its issuer has too many parked already.
    pub(super) fn park(&mut self, statement: Statement, missing: BTreeSet<StatementId>) -> bool {
        let issuer = statement.head().issuer;
        if self.of_issuer.get(&issuer).copied().unwrap_or(0) >= PARKED_ISSUER_MAX {
            return false;
        }
        let id = statement.id();
        for parent in &missing {
            self.waiting.entry(*parent).or_default().insert(id);
        }
        *self.of_issuer.entry(issuer).or_default() += 1;
        self.bytes += statement.signed().envelope.len();
        self.statements.insert(id, (statement, missing));
        self.oldest_first.push_back(id);
        while self.statements.len() > PARKED_MAX || self.bytes > PARKED_BYTES_MAX {
            let Some(oldest) = self.oldest_first.pop_front() else { break };
            self.remove(&oldest);
        }
        // Ids of statements that left otherwise stay in the queue; it is rebuilt before they outnumber the rest.
        if self.oldest_first.len() > 2 * PARKED_MAX {
            let statements = &self.statements;
            self.oldest_first.retain(|id| statements.contains_key(id));
        }
        true
    }

    /// The parent `id` has come: returns those that now have all of theirs.
    pub(super) fn release(&mut self, id: &StatementId) -> Vec<Statement> {
        let mut ready = Vec::new();
        for child in self.waiting.remove(id).unwrap_or_default() {
            let complete = self.statements.get_mut(&child).is_some_and(|(_, missing)| {
                missing.remove(id);
                missing.is_empty()
            });
            if complete && let Some(statement) = self.remove(&child) {
                ready.push(statement);
            }
        }
        ready
    }

    /// The parent `id` will never be taken: forgets all that stand on it, and returns their ids.
    pub(super) fn forget_below(&mut self, id: &StatementId) -> Vec<StatementId> {
        let mut gone = Vec::new();
        let mut refused = vec![*id];
        while let Some(parent) = refused.pop() {
            for child in self.waiting.remove(&parent).unwrap_or_default() {
                if self.remove(&child).is_some() {
                    gone.push(child);
                    refused.push(child);
                }
            }
        }
        gone
    }

    pub(super) fn is_awaited(&self, id: &StatementId) -> bool {
        self.waiting.contains_key(id)
    }

    /// What parked statements wait for and is not parked itself.
    pub(super) fn missing(&self) -> impl Iterator<Item = StatementId> {
        self.waiting.keys().copied().filter(|id| !self.contains(id))
    }

    fn remove(&mut self, id: &StatementId) -> Option<Statement> {
        let (statement, missing) = self.statements.remove(id)?;
        for parent in missing {
            if let Some(children) = self.waiting.get_mut(&parent) {
                children.remove(id);
                if children.is_empty() {
                    self.waiting.remove(&parent);
                }
            }
        }
        self.bytes -= statement.signed().envelope.len();
        let issuer = statement.head().issuer;
        if let Some(count) = self.of_issuer.get_mut(&issuer) {
            *count -= 1;
            if *count == 0 {
                self.of_issuer.remove(&issuer);
            }
        }
        Some(statement)
    }
}
