//! Shapes about work that does not count: listing it, keeping it, letting a machine go on after two histories.

use serde::{Deserialize, Serialize};

use super::{FolderRef, NodeRef, PathText, UtcTime};

/// Changes that an answer lists at most. A guess: far more than a person reads, and they fit into an answer.
pub const LATE_CHANGES_MAX: usize = 500;

/// See `Request::Late`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LateIn {
    /// Name or id of the one folder; every folder that is received here where none is given.
    #[serde(default)]
    pub folder: Option<String>,
    /// Only this path in it and what is below.
    #[serde(default)]
    pub path: Option<PathText>,
}

/// See `Request::KeepLate`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepLate {
    /// Name or id of the node whose changes are kept; it may be no member any more.
    pub node: String,
    /// As in `LateIn`.
    #[serde(default)]
    pub folder: Option<String>,
    /// As in `LateIn`.
    #[serde(default)]
    pub path: Option<PathText>,
}

/// See `Request::Reinstate`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReinstateNode {
    /// Name or id of the node.
    pub node: String,
    /// Name or id of the one folder; every folder where none is given.
    #[serde(default)]
    pub folder: Option<String>,
}

/// Why a change does not count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LateReason {
    /// A rule or a removal that its author did not know took the right, and who signed that did not know the change.
    Frozen,
    /// It rests on a grant that has ended, and came after what is known of that time.
    Sealed,
    /// Its author knew that its node had signed two histories, and nobody let it go on.
    Suspended,
    /// Its node signed two histories; it cannot be kept.
    Forked,
    /// It belongs to a burst of changes that was rejected.
    Rejected,
    /// Its author had no right to it, and could know.
    NotPermitted,
    /// A newer version of the program is needed to judge it.
    Stopped,
}

impl LateReason {
    /// Whether honest work can be so: it came too late.
    pub fn is_late(self) -> bool {
        matches!(self, Self::Frozen | Self::Sealed)
    }

    /// Whether `Request::KeepLate` can keep it.
    pub fn can_be_kept(self) -> bool {
        !matches!(self, Self::Forked | Self::Stopped)
    }
}

/// A change that does not count.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LateChange {
    /// Where.
    pub folder: FolderRef,
    /// Of what.
    pub path: PathText,
    /// Whether it is a deletion.
    pub deleted: bool,
    /// Who made it.
    pub node: NodeRef,
    /// When, by its author's clock.
    pub at: UtcTime,
    /// Why it does not count.
    pub reason: LateReason,
    /// The same in words.
    pub why: String,
}

/// Answer to `Request::Late`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Late {
    /// What came too late first, then the rest; each part by folder and path. At most `LATE_CHANGES_MAX`.
    pub changes: Vec<LateChange>,
    /// How many there are besides.
    pub more: u64,
}

/// How many changes of one node came too late.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LateCount {
    /// Whose.
    pub node: NodeRef,
    /// How many.
    pub count: u64,
}

/// Answer to `Request::KeepLate`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Kept {
    /// Whose changes.
    pub node: NodeRef,
    /// Where.
    pub folders: Vec<KeptIn>,
    /// The statements, in hexadecimal.
    pub statements: Vec<String>,
}

/// What was kept in one folder.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeptIn {
    /// The folder.
    pub folder: FolderRef,
    /// The paths, in order; at most `LATE_CHANGES_MAX`.
    pub paths: Vec<PathText>,
    /// How many changes.
    pub count: u64,
}

/// Answer to `Request::Reinstate`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reinstated {
    /// Who goes on.
    pub node: NodeRef,
    /// Where.
    pub folders: Vec<FolderRef>,
    /// The statements, in hexadecimal.
    pub statements: Vec<String>,
}
