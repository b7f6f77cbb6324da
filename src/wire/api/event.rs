//! What happens, as told to those who follow.

use serde::{Deserialize, Serialize};

use super::{Amount, AuditEntry, FolderState, InvitationState, PathText, Term, UtcTime};
use crate::base::Role;

/// An event and when it happened. In JSON one flat object: `at`, `event`, and the event's own fields.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stamped {
    /// When, by the node's clock.
    pub at: UtcTime,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// What can become of one path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is new.
    Created,
    /// Its content or attributes changed.
    Changed,
    /// It is gone.
    Deleted,
}

/// How far a `join` is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JoinStep {
    /// Looking for the node that shows the code.
    Searching,
    /// Found it, connecting.
    Connecting,
    /// Proving the code to each other.
    Confirming,
    /// Admitted; taking over rules and folders.
    Admitted,
}

/// What can happen. New ones may come: a reader skips what it does not know.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A link to a member is up.
    PeerConnected {
        /// Text form of its node id.
        id: String,
        /// Its name.
        name: String,
        /// `HOST:PORT` of the link.
        address: String,
        /// Name of the relay that is there; null where the member is reached directly.
        #[serde(default)]
        via: Option<String>,
    },
    /// The link to a member is gone.
    PeerDisconnected {
        /// Text form of its node id.
        id: String,
        /// Its name.
        name: String,
        /// Why.
        why: String,
    },
    /// A node is a member now.
    Admitted {
        /// Text form of its node id.
        id: String,
        /// Its name.
        name: String,
        /// Its role.
        role: Role,
    },
    /// A node is no member any more.
    Left {
        /// Text form of its node id.
        id: String,
        /// Its name.
        name: String,
        /// Whether it was expelled; else it left by itself.
        expelled: bool,
    },
    /// An invitation ended.
    Invitation {
        /// `Invitation::id`.
        id: String,
        /// How.
        state: InvitationState,
    },
    /// A `join` of this node is a step further.
    Joining {
        /// Which step.
        step: JoinStep,
    },
    /// A folder may be received here.
    FolderOffered {
        /// Its name.
        folder: String,
    },
    /// A folder is doing something else now, or is further with it.
    Folder {
        /// Its name.
        folder: String,
        /// What it is doing.
        state: FolderState,
        /// What is missing here.
        need: Amount,
        /// Why it is held or in error.
        why: Option<String>,
    },
    /// A change of a peer is in place here.
    FileReceived {
        /// The folder's name.
        folder: String,
        /// Path in the folder.
        path: PathText,
        /// What became of it.
        change: Change,
        /// Length of its content.
        bytes: u64,
        /// Name of the node that authored the change.
        by: String,
    },
    /// A change made here is signed, and told to connected peers.
    FileAnnounced {
        /// The folder's name.
        folder: String,
        /// Path in the folder.
        path: PathText,
        /// What became of it.
        change: Change,
        /// Length of its content.
        bytes: u64,
    },
    /// Two edits that did not know of each other: both contents are kept.
    Conflict {
        /// The folder's name.
        folder: String,
        /// Path in the folder, with the content that has the name.
        path: PathText,
        /// The path beside it with the other content.
        copy: PathText,
    },
    /// A line was added to the audit log: a rule has changed, or something was refused.
    Audit {
        /// The line.
        entry: Box<AuditEntry>,
    },
    /// Work on the archive is further.
    Archive {
        /// What is being done.
        doing: String,
        /// Bytes done.
        done: u64,
        /// Bytes in all; 0: not known.
        total: u64,
    },
    /// Another node is coordinator now, or nobody is.
    Coordinator {
        /// Who; null where nobody is.
        coordinator: Option<Term>,
    },
    /// Something needs a person.
    Alert {
        /// What is wrong, naming the object.
        what: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The reader was too slow; so many events were not kept for it.
    Missed {
        /// How many.
        count: u64,
    },
    /// The node ends; nothing follows.
    Stopping,
}

impl Event {
    /// The event's name in JSON and in the stream's `event:` field.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PeerConnected { .. } => "peer_connected",
            Self::PeerDisconnected { .. } => "peer_disconnected",
            Self::Admitted { .. } => "admitted",
            Self::Left { .. } => "left",
            Self::Invitation { .. } => "invitation",
            Self::Joining { .. } => "joining",
            Self::FolderOffered { .. } => "folder_offered",
            Self::Folder { .. } => "folder",
            Self::FileReceived { .. } => "file_received",
            Self::FileAnnounced { .. } => "file_announced",
            Self::Conflict { .. } => "conflict",
            Self::Audit { .. } => "audit",
            Self::Archive { .. } => "archive",
            Self::Coordinator { .. } => "coordinator",
            Self::Alert { .. } => "alert",
            Self::Missed { .. } => "missed",
            Self::Stopping => "stopping",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_flat_object_that_names_itself() {
        let event = Event::FileReceived {
            folder: "shared".into(),
            path: PathText::from_bytes(b"plans/caf\xe9.pdf"),
            change: Change::Created,
            bytes: 12,
            by: "workshop".into(),
        };
        let stamped = Stamped { at: UtcTime::from_ms(0), event };
        let json = serde_json::to_value(&stamped).expect("json");
        assert_eq!(json["event"], stamped.event.name());
        assert_eq!(json["path"], "plans/caf\\xe9.pdf");
        assert_eq!(json["at"], "1970-01-01T00:00:00.000Z");
        assert_eq!(serde_json::from_value::<Stamped>(json).expect("event"), stamped);
    }
}
