//! The audit log: one line of JSON for what changed and for what was refused. The same lines are in its file.
//!
//! Page: `docs/spec/audit.md`.

use serde::{Deserialize, Serialize};

use super::{FolderRef, NodeRef, PathText, UtcTime};

/// Entries in one answer.
pub const AUDIT_ENTRIES_MAX: u32 = 1000;

/// See `Request::Audit`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditAfter {
    /// Only entries with a higher number. Without it: the newest ones.
    #[serde(default)]
    pub after: Option<u64>,
    /// At most so many, and never more than `AUDIT_ENTRIES_MAX`.
    pub limit: u32,
    /// Only what was refused.
    #[serde(default)]
    pub refused: bool,
    /// Of all members, as collected by this node; the newest ones, in order of time.
    #[serde(default)]
    pub office: bool,
}

/// Whether it took effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is in force, as of this entry.
    Done,
    /// It was not let through, or has no effect any more.
    Refused,
}

/// What an entry is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// A signed statement.
    Statement,
    /// A change of a file.
    Write,
    /// A request for a content.
    Read,
    /// A request for names or entries, or news of a folder that is none of its business.
    List,
    /// A message that breaks the protocol, wrong bytes among them.
    Protocol,
    /// A connection.
    Connect,
    /// A try to join.
    Join,
}

/// One line of the log. What is not there is null.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its number in this node's log: 1, 2, 3 ….
    pub seq: u64,
    /// When this node noted it, by its own clock.
    pub at: UtcTime,
    /// Whether it took effect.
    pub verdict: Verdict,
    /// What kind of thing it is.
    pub deed: Deed,
    /// What was done or tried, in words.
    pub text: String,
    /// Why it was refused.
    pub why: Option<String>,
    /// Who did or tried it.
    pub by: Option<NodeRef>,
    /// Which peer it came from, where that is another.
    pub from: Option<NodeRef>,
    /// Network address, of those who proved no identity.
    pub address: Option<String>,
    /// Which folder.
    pub folder: Option<FolderRef>,
    /// Which path in it.
    pub path: Option<PathText>,
    /// The statement's id in hexadecimal.
    pub statement: Option<String>,
    /// When its author says to have signed it.
    pub signed_at: Option<UtcTime>,
    /// The mesh, in hexadecimal.
    pub mesh: Option<String>,
    /// How many times; above 1 where many alike were counted instead of listed.
    pub count: u64,
    /// In whose log it is, where that is said.
    #[serde(default)]
    pub node: Option<NodeRef>,
}
