//! Shapes about the mass-change guard: what it holds, and deciding about it.

use serde::{Deserialize, Serialize};

use super::{FolderRef, NodeRef, PathText, UtcTime};

/// Names of one burst that an answer lists at most. A guess: enough to see what it is.
pub const HELD_PATHS_MAX: usize = 100;

/// A burst of changes that is held.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeldBurst {
    /// Where.
    pub folder: FolderRef,
    /// Whose changes.
    pub node: NodeRef,
    /// Deletions that wait.
    pub deletions: u64,
    /// Replacements that wait.
    pub replacements: u64,
    /// When the burst began, by its author's clock; some changes of it were let through.
    pub from: UtcTime,
    /// Its last change that is known here.
    pub to: UtcTime,
    /// Some of the names, at most `HELD_PATHS_MAX`.
    pub paths: Vec<PathText>,
}

/// See `Request::Decide`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecideHeld {
    /// Name or id of the node whose changes are held.
    pub node: String,
    /// Name or id of the one folder; every folder where none is given.
    #[serde(default)]
    pub folder: Option<String>,
    /// Whether the changes happen, or what was before comes back.
    pub release: bool,
}

/// Answer to `Request::Decide`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Decided {
    /// Whose changes.
    pub node: NodeRef,
    /// Where.
    pub folders: Vec<FolderRef>,
    /// How many changes had waited here.
    pub changes: u64,
    /// Whether they happen.
    pub release: bool,
    /// The statements, in hexadecimal.
    pub statements: Vec<String>,
}
