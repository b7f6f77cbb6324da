//! Plain values that every layer shares: identities, paths, versions, times, levels.
//!
//! Nothing here reads a clock, a disk or a socket; a value is valid once it exists.

pub mod file;
pub mod id;
pub mod level;
pub mod path;
pub mod time;
pub mod version;

pub use file::{FileInfo, FileTime, Kind, Mode, mode_for_group};
pub use id::{
    BatchHash, ChunkHash, ContentId, DiscoveryKey, EntryHash, FolderId, GroupId, MeshId, NodeId, PassId, StatementId,
};
pub use level::{Level, Role};
pub use path::RelPath;
pub use time::Hlc;
pub use version::{Causality, VersionVector, Writer};
