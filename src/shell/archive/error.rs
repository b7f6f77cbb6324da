//! Why something could not be done with an archive, by who must act.

use std::io;
use std::path::PathBuf;

/// Why something could not be done with an archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The disk of the archive is full.
    #[error("cannot write {}: the disk is full", path.display())]
    Full {
        /// What was being written.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The system refused.
    #[error("cannot read or write {}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// There is no repository, though there was one.
    #[error("there is no archive in {}", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The node's key does not open it.
    #[error("the archive in {} cannot be opened with this node's key", path.display())]
    NotOurs {
        /// Where it is.
        path: PathBuf,
    },
    /// Another tool works on it.
    #[error("the archive in {} is in use by another tool", path.display())]
    InUse {
        /// Where it is.
        path: PathBuf,
    },
    /// The secret that opens it is damaged.
    #[error("the key of the archive is damaged")]
    Key,
    /// It was told to stop.
    #[error("the work on the archive was stopped")]
    Stopped,
    /// Something in it is wrong.
    #[error("cannot {doing}: {why}")]
    Broken {
        /// What was being done.
        doing: &'static str,
        /// The library's word.
        why: String,
    },
}

impl ArchiveError {
    /// Whether freeing space would help.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }

    /// Whether nothing is wrong with the archive itself: trying again later may do.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::InUse { .. } | Self::Stopped)
    }
}
