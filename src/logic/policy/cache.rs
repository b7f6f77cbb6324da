//! Policies as of some heads, kept for a while: batches of one author mostly name the same heads.
//!
//! What heads stand for never changes, so an entry is never stale; it is only dropped for room.

use std::sync::Arc;

use super::evaluate::{MissingStatements, policy_at};
use super::set::StatementSet;
use super::state::Policy;
use crate::base::StatementId;

/// Policies by heads, the latest used first, at most a fixed number.
#[derive(Clone, Debug)]
pub struct PolicyCache {
    entries: Vec<(Vec<StatementId>, Arc<Policy>)>,
    entries_max: usize,
}

impl PolicyCache {
    /// A cache of at most `entries_max` policies, at least one.
    pub fn new(entries_max: usize) -> Self {
        Self { entries: Vec::new(), entries_max: entries_max.max(1) }
    }

    /// The policy as of `heads`, in any order; evaluated only if it is not here.
    pub fn policy_at(&mut self, set: &StatementSet, heads: &[StatementId]) -> Result<Arc<Policy>, MissingStatements> {
        let mut key = heads.to_vec();
        key.sort_unstable();
        key.dedup();
        let entry = match self.entries.iter().position(|(heads, _)| *heads == key) {
            Some(at) => self.entries.remove(at),
            None => {
                let policy = Arc::new(policy_at(set, &key)?);
                (key, policy)
            }
        };
        let policy = Arc::clone(&entry.1);
        self.entries.insert(0, entry);
        self.entries.truncate(self.entries_max);
        Ok(policy)
    }

    /// The policy of the whole set.
    pub fn current(&mut self, set: &StatementSet) -> Arc<Policy> {
        self.policy_at(set, &set.heads()).expect("a set has its own heads")
    }
}
