//! Permits: the proof, as a type, that the policy was asked and said yes.
//!
//! Only `permit` makes one, so code that serves or applies without asking does not compile.

use super::state::Policy;
use crate::base::path::IGNORE_FILE;
use crate::base::{FolderId, Level, NodeId, RelPath, StatementId};

/// The level that a change of a path needs: of the file that says what is not shared, more than `write`.
pub fn needed(path: &RelPath, level: Level) -> Level {
    if level == Level::Write && path.as_bytes() == IGNORE_FILE.as_bytes() { Level::Manage } else { level }
}

/// What a node wants to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ask {
    /// Where.
    pub folder: FolderId,
    /// On what.
    pub path: RelPath,
    /// What it needs.
    pub level: Level,
}

/// The policy permits `node` to do what needs `level` on `path` of `folder`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Permit {
    node: NodeId,
    folder: FolderId,
    path: RelPath,
    level: Level,
}

impl Permit {
    /// Who may.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Where.
    pub fn folder(&self) -> FolderId {
        self.folder
    }

    /// On what.
    pub fn path(&self) -> &RelPath {
        &self.path
    }

    /// What was asked for; the node may have more.
    pub fn level(&self) -> Level {
        self.level
    }
}

/// Why the policy does not permit something: who lacks what, where. Exit status 4 of the command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A statement of a later version stops the folder or the mesh on this node.
    #[error("statement {} needs a newer version of lanyard; until it is installed nothing is served here", &.0.to_hex()[..8])]
    Stopped(StatementId),
    /// The node is not of this mesh.
    #[error("{} is no member of this mesh", .0.short())]
    NotAMember(NodeId),
    /// The node was expelled, or has left.
    #[error("{name} ({}) is no member any more", .node.short())]
    Former {
        /// Who.
        node: NodeId,
        /// Its last name.
        name: String,
    },
    /// There is no such folder.
    #[error("there is no folder {}", &.0.to_hex()[..8])]
    NoSuchFolder(FolderId),
    /// The folder is shared no more.
    #[error("folder '{0}' is shared no more")]
    Retired(String),
    /// The node has too low a level.
    #[error(transparent)]
    Lacks(Box<Lacks>),
}

/// Who lacks what where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{node_name} has '{has}' on {folder_name}/{path}, this needs '{needs}'")]
pub struct Lacks {
    /// Who.
    pub node: NodeId,
    /// Its name.
    pub node_name: String,
    /// Where.
    pub folder: FolderId,
    /// The folder's name.
    pub folder_name: String,
    /// On what.
    pub path: RelPath,
    /// What it has.
    pub has: Level,
    /// What it needs.
    pub needs: Level,
}

/// Asks whether `node` may do what `ask` says at `at_ms` (milliseconds since 1970 UTC): for reading the serving
/// node's clock, for writing the entry's signed time.
pub fn permit(policy: &Policy, node: NodeId, ask: &Ask, at_ms: u64) -> Result<Permit, Refused> {
    if let Some(statement) = policy.stopped_by(ask.folder) {
        return Err(Refused::Stopped(statement));
    }
    let Some(member) = policy.member(node) else {
        return Err(match policy.name(node) {
            Some(name) => Refused::Former { node, name: name.to_string() },
            None => Refused::NotAMember(node),
        });
    };
    let folder = policy.folder(ask.folder).ok_or(Refused::NoSuchFolder(ask.folder))?;
    if folder.retired {
        return Err(Refused::Retired(folder.name.clone()));
    }
    let has = policy.level(node, ask.folder, &ask.path, at_ms);
    if has < ask.level {
        return Err(Refused::Lacks(Box::new(Lacks {
            node,
            node_name: member.name.clone(),
            folder: ask.folder,
            folder_name: folder.name.clone(),
            path: ask.path.clone(),
            has,
            needs: ask.level,
        })));
    }
    Ok(Permit { node, folder: ask.folder, path: ask.path.clone(), level: ask.level })
}
