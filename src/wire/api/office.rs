//! What a machine that may be the office's server knows of all the others; and on how many machines folders shall be.
//!
//! Page: `docs/spec/api.md`.

use serde::{Deserialize, Serialize};

use super::{Alert, FolderRef, FolderState, NodeRef, UtcTime, VersionGap};

/// See `Request::Copies`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskCopies {
    /// Name or id of the folder.
    pub folder: String,
    /// On how many machines it shall be, the server not counted; as before where nothing is said.
    #[serde(default)]
    pub nodes: Option<u8>,
    /// Whether the office's server shall hold it as well; as before where nothing is said.
    #[serde(default)]
    pub server: Option<bool>,
}

/// Answer to `Request::Copies`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WantedCopies {
    /// The folder.
    pub folder: FolderRef,
    /// On how many machines it shall be, the server not counted.
    pub nodes: u8,
    /// Whether the office's server shall hold it as well.
    pub server: bool,
    /// The statement that says so, in hexadecimal; null where nothing was changed.
    pub statement: Option<String>,
}

/// Answer to `Request::Health`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Health {
    /// Every member, this node first, then by name.
    pub nodes: Vec<NodeHealth>,
    /// Every folder that this node runs, by name.
    pub folders: Vec<FolderCopies>,
}

/// A member, as it last said.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeHealth {
    /// Who.
    pub node: NodeRef,
    /// Whether it is the node that answers.
    pub this: bool,
    /// Whether it may be the office's server.
    pub server: bool,
    /// Whether there is a link now.
    pub connected: bool,
    /// Why it cannot be talked to, where the two have no version in common; else null.
    #[serde(default)]
    pub apart: Option<VersionGap>,
    /// When it was last connected; null where it never was, and for this node.
    pub last_seen: Option<UtcTime>,
    /// When what follows was said, by this node's clock; null, with the rest empty, where nothing was said since this
    /// node started.
    pub reported: Option<UtcTime>,
    /// Its software, as it said.
    pub version: Option<String>,
    /// How far its clock is ahead of this node's, in milliseconds; below 0: behind.
    pub clock_ahead_ms: Option<i64>,
    /// The disk with its index.
    pub disk: Option<DiskRoom>,
    /// Whether it has all that it should have.
    pub in_sync: Option<bool>,
    /// The folders that it runs and this node may see.
    pub folders: Vec<FolderHealth>,
    /// How many alerts it shows.
    pub alerts: u64,
    /// The newest of them; none where they could name what this node may not see.
    pub listed: Vec<Alert>,
}

/// Room on a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DiskRoom {
    /// Free bytes.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
}

/// A folder on a member.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FolderHealth {
    /// Which.
    pub folder: FolderRef,
    /// What it is doing there.
    pub state: FolderState,
    /// Files that are missing there.
    pub need_files: u64,
    /// Their bytes.
    pub need_bytes: u64,
    /// The disk that it is on.
    pub disk: DiskRoom,
}

/// Where a folder is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FolderCopies {
    /// Which.
    pub folder: FolderRef,
    /// On how many machines it shall be, the server not counted.
    pub nodes: u8,
    /// Whether the office's server shall hold it as well.
    pub server: bool,
    /// Which machines hold all of it, as this node has it; null while this node does not hold all of it itself.
    pub held_by: Option<Vec<NodeRef>>,
    /// Whether these are as many as was asked for; null while that is not known.
    pub enough: Option<bool>,
}
