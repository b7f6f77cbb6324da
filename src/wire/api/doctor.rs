//! The node's part of a check-up: what only it can measure.

use serde::{Deserialize, Serialize};

use super::{PathText, VersionGap};

/// What a running node measured. `lanyard doctor` adds what it measures itself.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Checkup {
    /// The port on which the node listens.
    pub port: u16,
    /// Members of its mesh; 0 without a mesh.
    pub members: u64,
    /// The admins among them, by name.
    pub admins: Vec<String>,
    /// Members that are connected.
    pub peers: Vec<PeerCheck>,
    /// Folders that it shares or receives.
    pub folders: Vec<FolderCheck>,
    /// Where its key and index are.
    pub state: Option<Room>,
    /// How long ago the newest snapshot of the archive was taken, in milliseconds; none where this node keeps none.
    #[serde(default)]
    pub archive_age_ms: Option<u64>,
    /// Members with which this node has no version of the protocol in common.
    #[serde(default)]
    pub apart: Vec<VersionGap>,
}

/// A connected member.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PeerCheck {
    /// Its name.
    pub name: String,
    /// `HOST:PORT` of the link.
    pub address: String,
    /// How far its clock is ahead of this machine's, in milliseconds; none where it does not tell.
    pub ahead_ms: Option<i64>,
}

/// A folder on this machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FolderCheck {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub path: PathText,
    /// What the node itself says is wrong with it.
    pub problem: Option<String>,
    /// Whether changes are seen at once.
    pub watched: bool,
    /// Why its marker does not vouch for it.
    pub marker: Option<String>,
    /// What in it the node cannot use: the directory itself, or where versions are kept.
    pub locked: Option<PathText>,
    /// The file system that holds it.
    pub room: Option<Room>,
}

/// How much room a file system has for the node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Room {
    /// A directory on it.
    pub path: PathText,
    /// Bytes that are free.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
}

/// What is wrong, and what a person does about it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at: `multicast`, `firewall`, `port`, `clock`, `watches`, `space`, `permissions`, `admins`, `archive`,
    /// `marker`, `folder`, `configuration`, `version`.
    pub check: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}
