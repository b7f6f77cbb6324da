//! Shapes about the archive: its state, snapshots, checks, cleaning, passwords.

use serde::{Deserialize, Serialize};

use super::{FolderRef, PathText, Secret, Unread, UtcTime};

/// See `Request::Archive`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum AskArchive {
    /// What it is and has. Answer: `ArchiveStatus`.
    Status {},
    /// Take a snapshot now. Answer: `SnapshotsTaken`.
    Snapshot {
        /// Name or id of the one folder; every folder that is received here where none is given.
        #[serde(default)]
        folder: Option<String>,
    },
    /// Check it. Answer: `ArchiveChecked`.
    Check {
        /// Read every byte, too.
        #[serde(default)]
        read_data: bool,
        /// Repair what is damaged, from the folders as they are now.
        #[serde(default)]
        repair: bool,
    },
    /// Forget the snapshots that the configuration does not keep, and free their room. Answer: `ArchivePruned`.
    Prune {},
    /// Make a new recovery password; the one before opens it no more. Answer: `ArchivePassword`.
    Password {},
}

/// Answer to `Request::Archive`, by what was asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
pub enum ArchiveAnswer {
    /// To `AskArchive::Status`.
    Status(ArchiveStatus),
    /// To `AskArchive::Snapshot`.
    Taken(SnapshotsTaken),
    /// To `AskArchive::Check`.
    Checked(ArchiveChecked),
    /// To `AskArchive::Prune`.
    Pruned(ArchivePruned),
    /// To `AskArchive::Password`.
    Password(ArchivePassword),
}

/// Answer to `AskArchive::Status`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ArchiveStatus {
    /// Where it is, or will be.
    pub path: PathText,
    /// Whether there is one.
    pub made: bool,
    /// Whether the configuration has it switched on.
    pub enabled: bool,
    /// Whether this node may be the office's server: only then snapshots are taken.
    pub eligible: bool,
    /// Milliseconds between two snapshots of a folder that changes.
    pub every_ms: u64,
    /// Bytes that it takes; null where there is none.
    pub bytes: Option<u64>,
    /// Bytes free where it is; null where the system does not say.
    pub free: Option<u64>,
    /// When a recovery password was last printed; null: never.
    pub password: Option<UtcTime>,
    /// What is being done now.
    pub doing: Option<String>,
    /// What is wrong with it.
    pub problem: Option<String>,
    /// Whether nothing about it keeps this node from being the office's server.
    pub fit: bool,
    /// The folders that are received here.
    pub folders: Vec<ArchivedFolder>,
}

/// What the archive has of a folder.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ArchivedFolder {
    /// Which.
    pub folder: FolderRef,
    /// How many snapshots.
    pub snapshots: u64,
    /// When the first was taken.
    pub first: Option<UtcTime>,
    /// When the last was taken.
    pub last: Option<UtcTime>,
    /// Whether something is missing in the last.
    pub incomplete: bool,
    /// Why the last try failed, if it did.
    pub problem: Option<String>,
}

/// Answer to `AskArchive::Snapshot`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SnapshotsTaken {
    /// What was taken.
    pub snapshots: Vec<SnapshotTaken>,
    /// Folders of which none could be taken.
    pub failed: Vec<SnapshotFailed>,
    /// The recovery password, where this made the archive. It is not told again.
    pub password: Option<Secret>,
}

/// A snapshot that was taken.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SnapshotTaken {
    /// Of which folder.
    pub folder: FolderRef,
    /// Its id, as restic shows it.
    pub id: String,
    /// When.
    pub at: UtcTime,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that the archive grew by.
    pub added: u64,
    /// What is not in it as it should be; some of it.
    pub missing: Vec<Unread>,
    /// How much that is.
    pub missing_count: u64,
}

/// A folder of which no snapshot could be taken.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SnapshotFailed {
    /// Which.
    pub folder: FolderRef,
    /// Why, nearest cause first.
    pub why: Vec<String>,
}

/// Answer to `AskArchive::Check`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ArchiveChecked {
    /// Snapshots in the archive.
    pub snapshots: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Files of the archive that are damaged.
    pub damaged: Vec<PathText>,
    /// What is wrong besides; some of it.
    pub findings: Vec<String>,
    /// How much is wrong in all.
    pub count: u64,
    /// Whether it was repaired; what is listed was so before.
    pub repaired: bool,
    /// What is still wrong after that.
    pub left: Vec<String>,
    /// Whether something is lost from older snapshots, which are marked now.
    pub lost: bool,
}

/// Answer to `AskArchive::Prune`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ArchivePruned {
    /// Snapshots that were forgotten.
    pub forgotten: u64,
    /// Snapshots that are kept.
    pub kept: u64,
    /// Bytes that were freed.
    pub freed: u64,
}

/// Answer to `AskArchive::Password`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ArchivePassword {
    /// The password. It is not told again.
    pub password: Secret,
    /// Where the archive is.
    pub path: PathText,
}
