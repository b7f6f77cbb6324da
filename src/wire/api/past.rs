//! Shapes about looking back and taking back: kept versions, restoring, conflict copies.

use serde::{Deserialize, Serialize};

use super::{FolderRef, NodeRef, PathText, UtcTime};

/// Versions, names or failures that an answer lists at most. A guess: far more than a person reads.
pub const PAST_MAX: usize = 500;

/// See `Request::Versions`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionsOf {
    /// Name or id of the folder.
    pub folder: String,
    /// The path in it; the folder itself where none is given.
    #[serde(default)]
    pub path: Option<PathText>,
}

/// Answer to `Request::Versions`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Versions {
    /// Where.
    pub folder: FolderRef,
    /// Of what.
    pub path: PathText,
    /// Versions of the path itself that are not what it is now, newest first; at most `PAST_MAX`.
    pub versions: Vec<KeptVersion>,
    /// How many there are besides.
    pub more: u64,
    /// Names below the path that have such versions, in order; at most `PAST_MAX`.
    pub below: Vec<VersionsBelow>,
    /// How many there are besides.
    pub below_more: u64,
}

/// One version of a path.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeptVersion {
    /// When it was saved, by its author's clock; null for a file that is kept here and whose change is not known any more.
    pub at: Option<UtcTime>,
    /// When it was replaced or deleted.
    pub until: Option<UtcTime>,
    /// Length in bytes; 0 for a symbolic link.
    pub bytes: u64,
    /// Who saved it; null as `at`.
    pub by: Option<NodeRef>,
    /// Whether its content is on this machine. If not, others may have kept it.
    pub here: bool,
    /// Where the replaced file lies in the folder, if it does.
    pub file: Option<PathText>,
}

/// A name below a path with what is kept of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VersionsBelow {
    /// The path in the folder.
    pub path: PathText,
    /// How many versions.
    pub count: u64,
    /// When the newest of them was replaced or deleted.
    pub until: Option<UtcTime>,
    /// Whether nothing is there now.
    pub deleted: bool,
}

/// A moment in the past.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// This one.
    At(UtcTime),
    /// The end of this day, minute or second, or now where it has not ended.
    Within {
        /// Its first millisecond.
        from: UtcTime,
        /// Its last.
        to: UtcTime,
    },
    /// So many milliseconds before now.
    AgoMs(u64),
}

/// See `Request::Restore`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreAt {
    /// Name or id of the folder.
    pub folder: String,
    /// A path in it, with all below; the whole folder where none is given.
    #[serde(default)]
    pub path: Option<PathText>,
    /// As it was then.
    pub at: Moment,
    /// Absolute path of a directory to write to instead; its last component is made where it does not exist.
    #[serde(default)]
    pub to: Option<PathText>,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// Answer to `Request::Restore`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Restored {
    /// Where.
    pub folder: FolderRef,
    /// What.
    pub path: PathText,
    /// As it was then.
    pub at: UtcTime,
    /// The directory it was written to; null: in place.
    pub to: Option<PathText>,
    /// Whether this only says what would be done.
    pub dry_run: bool,
    /// Files that were brought back.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Directories and symbolic links that were brought back.
    pub others: u64,
    /// Names of which only mode or time was set back.
    pub modes: u64,
    /// Names that were removed, for nothing was there then.
    pub removed: u64,
    /// Names that were as they had been.
    pub same: u64,
    /// Files, directories and links of these that came from the archive.
    #[serde(default)]
    pub archived: u64,
    /// The time of the oldest snapshot among those that they came from.
    #[serde(default)]
    pub archived_at: Option<UtcTime>,
    /// What could not be done; at most `PAST_MAX`.
    pub failed: Vec<NotRestored>,
    /// How much more could not be done.
    pub failed_more: u64,
}

/// A name that was not brought back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NotRestored {
    /// The path in the folder.
    pub path: PathText,
    /// Why.
    pub why: String,
}

/// See `Request::Conflicts`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConflictsIn {
    /// Name or id of the one folder; every folder that is received here where none is given.
    #[serde(default)]
    pub folder: Option<String>,
}

/// Answer to `Request::Conflicts`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Conflicts {
    /// Conflict copies, by folder and path; at most `PAST_MAX`.
    pub conflicts: Vec<ConflictCopy>,
    /// How many there are besides.
    pub more: u64,
}

/// A conflict copy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConflictCopy {
    /// Where.
    pub folder: FolderRef,
    /// The path that was changed on two sides.
    pub path: PathText,
    /// The name under which the copy lies.
    pub copy: PathText,
    /// Who made the version that has the name; null where a directory took it.
    pub current: Option<ConflictSide>,
    /// Who made the version that lies beside.
    pub other: ConflictSide,
}

/// One side of a conflict.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConflictSide {
    /// Whose it is.
    pub by: NodeRef,
    /// Whether that is this machine.
    pub this: bool,
    /// When it was saved, by its author's clock.
    pub at: UtcTime,
    /// Length in bytes.
    pub bytes: u64,
}

/// What is kept of a conflict.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeepSide {
    /// What has the name; the copy goes.
    Current,
    /// The copy; it gets the name.
    Copy,
    /// Both; the copy gets an ordinary name.
    Both,
    /// The side that this machine made.
    Mine,
    /// The side that another machine made.
    Theirs,
}

/// See `Request::ResolveConflict`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolveConflict {
    /// Name or id of the folder.
    pub folder: String,
    /// The path in conflict, or the name of one of its copies.
    pub path: PathText,
    /// What is kept.
    pub keep: KeepSide,
}

/// Answer to `Request::ResolveConflict`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Resolved {
    /// Where.
    pub folder: FolderRef,
    /// What was in conflict.
    pub path: PathText,
    /// What was kept: `current`, `copy` or `both`.
    pub kept: KeepSide,
    /// The ordinary name that a copy has now, for `both`.
    pub also: Vec<PathText>,
    /// How many copies went.
    pub copies: u64,
}
