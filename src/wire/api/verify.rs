//! Shapes about reading everything again.

use serde::{Deserialize, Serialize};

use super::{Amount, FolderRef, PathText};

/// Names of one folder that an answer lists at most.
pub const DAMAGED_LISTED_MAX: usize = 1_000;

/// The longest that an answer waits for repairs.
pub const REPAIR_MS_MAX: u64 = 60_000;

/// See `Request::Verify`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyFolders {
    /// Name or id of the one folder; every folder that is received here where none is given.
    #[serde(default)]
    pub folder: Option<String>,
    /// How long to wait for the repair of what is damaged.
    pub repair_ms: u64,
}

/// What was found in one folder.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Verified {
    /// The folder.
    pub folder: FolderRef,
    /// What was read.
    pub read: Amount,
    /// Files that were damaged and are whole again; at most `DAMAGED_LISTED_MAX`.
    pub repaired: Vec<PathText>,
    /// Files that are damaged: nobody who is connected has their content. At most `DAMAGED_LISTED_MAX`.
    pub damaged: Vec<PathText>,
    /// Files that cannot be read, with the reason; at most `DAMAGED_LISTED_MAX`.
    pub unreadable: Vec<Unread>,
}

/// A file that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Unread {
    /// Which.
    pub path: PathText,
    /// Why.
    pub why: String,
}
