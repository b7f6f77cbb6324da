//! The policy: from signed statements to what a node may do.
//!
//! The way of a statement: `set` keeps it with its ancestors, `exchange` brings it to the other nodes, `evaluate`
//! turns the whole set into a `Policy`, `permit` asks that policy, `author` writes the next statement.
//!
//! One rule carries all of it: the result depends on the *set* of statements alone, never on the order in which
//! they came, on a clock or on a local limit.
//!
//! Page: `docs/spec/policy.md`.

mod author;
mod cache;
#[cfg(test)]
mod cases;
mod evaluate;
mod exchange;
mod find;
#[cfg(test)]
mod frozen;
mod judge;
mod membership;
mod parked;
mod permit;
mod rules;
mod sentence;
mod set;
mod state;
mod timeline;

pub use author::{
    PlanRefused, draft, found, freeze_frontiers, next_counter, plan_admission, plan_admit, plan_copies,
    plan_create_folder, plan_eligible, plan_expel, plan_fork, plan_grant, plan_group, plan_leave, plan_recovery,
    plan_reinstate, plan_rename, plan_retire, plan_revoke, plan_seal, plan_set_role, plan_verdicts, plan_vouch,
};
pub use cache::PolicyCache;
pub use evaluate::{FOLDERS_MAX, MissingStatements, RULES_MAX, evaluate, policy_at};
pub use exchange::{Exchange, HEADS_MAX, MESSAGE_BYTES_MAX, Received, STATEMENTS_MAX, WANT_MAX};
pub use find::{Unclear, find_folder, find_group, find_node, find_path, find_place, find_subject};
pub use judge::{Holds, Judge, SEAL_AFTER_MS, View, VoidEntry, Written};
pub use permit::{Ask, Lacks, Permit, Refused, needed, permit};
pub use sentence::{folder_of, node_name, place, sentence, subject};
pub use set::{Equivocation, Inserted, NotTaken, StatementSet};
pub use state::{FolderState, GroupState, Member, Policy, Rule, RuleInForce, Void, Wanted};
