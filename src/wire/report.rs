//! What a node says of itself to those that may be coordinator: health, and its audit log.
//!
//! Page: `docs/spec/reports.md`. The sender leaves out what the receiver may not see; the receiver believes it of the
//! sender alone.

use serde::{Deserialize, Serialize};

use super::codec::{List, Text};
use crate::base::FolderId;

/// Folders in one report: all that a node runs.
pub const FOLDERS_MAX: usize = 256;
/// Alerts in one report, the newest.
pub const ALERTS_MAX: usize = 20;
/// Lines of an audit log in one message.
pub const LINES_MAX: usize = 256;
/// Longest line of an audit log that travels. A longer one is left out: paths and reasons fit four times.
pub const LINE_BYTES_MAX: usize = 16 * 1024;
/// All lines of one message together.
pub const LINES_BYTES_MAX: usize = 256 * 1024;

/// See `Message::Report`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Software and version.
    pub version: Text<64>,
    /// The sender's clock, milliseconds since 1970 UTC.
    pub clock_ms: u64,
    /// Where it keeps its index.
    pub disk: Room,
    /// Folders that it runs and the receiver may see.
    pub folders: List<FolderReport, FOLDERS_MAX>,
    /// How many alerts it shows.
    pub alerts: u16,
    /// The newest of them; none where some could name what the receiver may not see.
    pub listed: List<ReportedAlert, ALERTS_MAX>,
    /// The highest number in its audit log.
    pub audit: u64,
}

/// The room on a disk, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Room {
    /// Free for this user.
    pub free: u64,
    /// In all.
    pub total: u64,
}

/// One folder of a report.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FolderReport {
    /// Which.
    pub folder: FolderId,
    /// What it is doing.
    pub doing: Doing,
    /// Files that it still needs.
    pub need_files: u64,
    /// Their bytes.
    pub need_bytes: u64,
    /// The disk that it is on.
    pub disk: Room,
    /// A hash of how far its logs reach, where all of that is on its disk: equal ones hold equal files.
    pub holds: Option<[u8; 32]>,
}

/// What a folder is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Doing {
    /// Nothing.
    Idle,
    /// Reading what changed there.
    Scanning,
    /// Receiving.
    Syncing,
    /// Paused.
    Held,
    /// Stopped.
    Error,
}

/// One alert of a report.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReportedAlert {
    /// Since when by the sender's clock, milliseconds since 1970 UTC.
    pub since_ms: u64,
    /// What is wrong.
    pub what: Text<1024>,
    /// What to do.
    pub hint: Option<Text<1024>>,
}

/// See `Message::AuditLines`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AuditLines {
    /// Whole lines with their numbers, ascending.
    pub lines: List<(u64, Text<LINE_BYTES_MAX>), LINES_MAX>,
    /// Up to which number all that travels has been sent.
    pub through: u64,
}
