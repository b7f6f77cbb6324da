//! The policy in force: what a set of statements adds up to. Values only; `evaluate` makes them.

use std::collections::{BTreeMap, BTreeSet};

use super::rules::{Book, Who};
use crate::base::{FolderId, GroupId, Hlc, Level, MeshId, NodeId, RelPath, Role, StatementId};
use crate::wire::statement::Subject;

/// Why a statement has no effect. Each names whom or what it is about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Void {
    /// The issuer was no member, as it knew itself.
    #[error("{} was no member when it signed this", .0.short())]
    NotAMember(NodeId),
    /// The issuer was removed by a statement that it had not seen.
    #[error("{} was removed at the same time, by statement {}", .node.short(), &.by.to_hex()[..8])]
    Removed {
        /// Who was removed.
        node: NodeId,
        /// By what.
        by: StatementId,
    },
    /// Only an admin may say this.
    #[error("{} was no admin when it signed this", .0.short())]
    NotAnAdmin(NodeId),
    /// A removal that stood on something which a more senior removal made void.
    #[error("a more senior removal took away what {} had to sign this with", .0.short())]
    Outranked(NodeId),
    /// It is about a node that was no member.
    #[error("{} was no member", .0.short())]
    NoSuchMember(NodeId),
    /// It is about a folder that the issuer could not know.
    #[error("folder {} did not exist", &.0.to_hex()[..8])]
    NoSuchFolder(FolderId),
    /// It is about a group that the issuer could not know.
    #[error("group {} did not exist", &.0.to_hex()[..8])]
    NoSuchGroup(GroupId),
    /// The folder was retired.
    #[error("folder {} was retired", &.0.to_hex()[..8])]
    Retired(FolderId),
    /// The issuer had no `manage` where it grants.
    #[error("{} may not manage '{path}' of folder {}", .issuer.short(), &.folder.to_hex()[..8])]
    MayNotManage {
        /// Who signed.
        issuer: NodeId,
        /// Where.
        folder: FolderId,
        /// On what.
        path: RelPath,
    },
    /// A folder's name is no single safe path component, or a name is empty.
    #[error("'{0}' is no name")]
    BadName(String),
    /// Each node may create `FOLDERS_MAX` folders.
    #[error("{} has created 100 folders already", .0.short())]
    TooManyFolders(NodeId),
    /// A manager who is no admin may sign `RULES_MAX` rules on one folder.
    #[error("{} has signed 1000 rules on folder {} already", .issuer.short(), &.folder.to_hex()[..8])]
    TooManyRules {
        /// Who signed.
        issuer: NodeId,
        /// Where.
        folder: FolderId,
    },
    /// The recovery key is no node.
    #[error("the recovery key cannot be a member")]
    RecoveryKey,
    /// A seal of something that is not known, has no effect, or can lower nobody.
    #[error("statement {} is nothing that could be sealed", &.0.to_hex()[..8])]
    NothingToSeal(StatementId),
    /// It does not prove that a node signed two histories.
    #[error("this does not prove that {} signed two histories", .0.short())]
    NoProof(NodeId),
    /// A later version gives this kind of statement its meaning.
    #[error("statements of kind {0:#06x} need a newer version of lanyard")]
    NeedsNewer(u16),
}

/// A member of the mesh.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// The statement that made it a member.
    pub admitted: StatementId,
    /// Who signed that.
    pub by: NodeId,
    /// When, for people.
    pub since: Hlc,
}

/// A shared folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FolderState {
    /// Its name: one path component.
    pub name: String,
    /// Who created it.
    pub creator: NodeId,
    /// When, for people.
    pub created: Hlc,
    /// Whether it is shared no more.
    pub retired: bool,
    pub(super) book: Book,
}

/// A named set of nodes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupState {
    /// Its name.
    pub name: String,
    /// Nodes that are in every version of it that is in force.
    pub members: BTreeSet<NodeId>,
    /// Nodes that are in one of several concurrent versions of it: rules on the group count for them only if
    /// they lower.
    pub disputed: BTreeSet<NodeId>,
}

/// On how many machines a folder shall be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wanted {
    /// Machines beside those that may be coordinator.
    pub nodes: u8,
    /// Whether one that may be coordinator is wanted as well.
    pub server: bool,
}

impl Wanted {
    /// Whatever either of two wishes asks for.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { nodes: self.nodes.max(other.nodes), server: self.server || other.server }
    }

    /// Whether nothing is asked for.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// One rule, as a book keeps it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// What the subject may do; `None`: earlier grants are withdrawn.
    pub level: Option<Level>,
    /// Until when, milliseconds since 1970 UTC.
    pub not_after: Option<u64>,
    /// Its statement.
    pub statement: StatementId,
    /// Who signed it.
    pub by: NodeId,
    /// When, for people.
    pub since: Hlc,
    /// Its issuer lost `manage` there at the same time: the rule only lowers.
    pub contested: bool,
}

/// A rule with its place, for listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleInForce {
    /// Whom it is about.
    pub subject: Subject,
    /// On what, with all below it.
    pub path: RelPath,
    /// The rule.
    pub rule: Rule,
}

/// What a set of statements adds up to. Made by `evaluate`; equal sets give equal policies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    pub(super) mesh: MeshId,
    pub(super) name: String,
    pub(super) recovery: Option<NodeId>,
    pub(super) members: BTreeMap<NodeId, Member>,
    pub(super) former: BTreeMap<NodeId, String>,
    pub(super) expulsions: u64,
    pub(super) folders: BTreeMap<FolderId, FolderState>,
    pub(super) groups: BTreeMap<GroupId, GroupState>,
    pub(super) eligible: BTreeMap<NodeId, u16>,
    pub(super) copies: BTreeMap<FolderId, Wanted>,
    pub(super) stopped: BTreeMap<Option<FolderId>, StatementId>,
    pub(super) void: BTreeMap<StatementId, Void>,
    pub(super) created_by: BTreeMap<NodeId, u32>,
}

impl Policy {
    /// The mesh.
    pub fn mesh(&self) -> MeshId {
        self.mesh
    }

    /// The office's name.
    pub fn mesh_name(&self) -> &str {
        &self.name
    }

    /// The public half of the paper recovery key.
    pub fn recovery(&self) -> Option<NodeId> {
        self.recovery
    }

    /// All members, sorted by node.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.members.iter().map(|(node, member)| (*node, member))
    }

    /// One member.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node)
    }

    /// Whether `node` is a member now.
    pub fn is_member(&self, node: NodeId) -> bool {
        self.members.contains_key(&node)
    }

    /// Whether `node` was a member and is none now, by its own word or another's.
    pub fn was_expelled(&self, node: NodeId) -> bool {
        self.former.contains_key(&node)
    }

    /// The role of a member.
    pub fn role(&self, node: NodeId) -> Option<Role> {
        self.members.get(&node).map(|member| member.role)
    }

    /// Whether `node` is an admin now.
    pub fn is_admin(&self, node: NodeId) -> bool {
        self.role(node) == Some(Role::Admin)
    }

    /// The name of a member, or of one that was.
    pub fn name(&self, node: NodeId) -> Option<&str> {
        self.members.get(&node).map(|member| member.name.as_str()).or(self.former.get(&node).map(String::as_str))
    }

    /// All admins, sorted.
    pub fn admins(&self) -> Vec<NodeId> {
        self.members.iter().filter(|(_, member)| member.role == Role::Admin).map(|(node, _)| *node).collect()
    }

    /// All folders that are not retired, sorted by id.
    pub fn folders(&self) -> impl Iterator<Item = (FolderId, &FolderState)> {
        self.folders.iter().filter(|(_, folder)| !folder.retired).map(|(id, folder)| (*id, folder))
    }

    /// One folder, retired ones too.
    pub fn folder(&self, folder: FolderId) -> Option<&FolderState> {
        self.folders.get(&folder)
    }

    /// Folders in which `node` may read something at `at_ms`, sorted by id.
    pub fn visible_folders(&self, node: NodeId, at_ms: u64) -> Vec<FolderId> {
        let visible = |folder: &FolderState| {
            folder.book.paths().any(|path| self.level_in(folder, node, path, at_ms) >= Level::Read)
        };
        self.folders().filter(|(_, folder)| visible(folder)).map(|(id, _)| id).collect()
    }

    /// Whether `node` may read all of `folder` at `at_ms`.
    pub fn reads_all(&self, node: NodeId, folder: FolderId, at_ms: u64) -> bool {
        let reads = |state: &FolderState, path: &RelPath| self.level_in(state, node, path, at_ms) >= Level::Read;
        self.folders
            .get(&folder)
            .is_some_and(|state| reads(state, &RelPath::root()) && state.book.paths().all(|path| reads(state, path)))
    }

    /// What `node` may do on `path` of `folder` at `at_ms` (milliseconds since 1970 UTC).
    pub fn level(&self, node: NodeId, folder: FolderId, path: &RelPath, at_ms: u64) -> Level {
        self.folders.get(&folder).map_or(Level::None, |folder| self.level_in(folder, node, path, at_ms))
    }

    /// Whether `node` holds `manage` on `path` and all below it, and so may change its rules. Admins may without.
    pub fn may_manage(&self, node: NodeId, folder: FolderId, path: &RelPath, at_ms: u64) -> bool {
        let Some(folder) = self.folders.get(&folder) else { return false };
        let who = Who { node, in_group: &|group| self.in_group(group, node, false) };
        !folder.retired && self.is_member(node) && folder.book.managed(&who, path, at_ms)
    }

    /// The rules of a folder, by path, then subject.
    pub fn rules(&self, folder: FolderId) -> Vec<RuleInForce> {
        self.folders.get(&folder).map(|folder| folder.book.list()).unwrap_or_default()
    }

    /// The first moment after `at_ms` at which a rule is in force no more.
    pub fn next_expiry(&self, at_ms: u64) -> Option<u64> {
        let rules = self.folders().flat_map(|(folder, _)| self.rules(folder));
        // A rule counts up to and with its last millisecond.
        let ends = rules.filter_map(|listed| listed.rule.not_after).map(|last| last.saturating_add(1));
        ends.filter(|end| *end > at_ms).min()
    }

    /// All groups, sorted by id.
    pub fn groups(&self) -> impl Iterator<Item = (GroupId, &GroupState)> {
        self.groups.iter().map(|(id, group)| (*id, group))
    }

    /// The priority with which a member may be coordinator; `None`: not at all.
    pub fn eligible(&self, node: NodeId) -> Option<u16> {
        self.eligible.get(&node).copied().filter(|_| self.is_member(node))
    }

    /// Members that may be coordinator, sorted, with their priorities.
    pub fn candidates(&self) -> impl Iterator<Item = (NodeId, u16)> {
        self.eligible.iter().filter(|(node, _)| self.is_member(**node)).map(|(node, priority)| (*node, *priority))
    }

    /// How many machines shall hold all of a folder.
    pub fn copies(&self, folder: FolderId) -> Wanted {
        self.copies.get(&folder).copied().unwrap_or_default()
    }

    /// How often the discovery key must have been rotated: the number of expulsions in force.
    pub fn discovery_epoch(&self) -> u64 {
        self.expulsions
    }

    /// The scopes that statements of a later version have stopped on this node: folders, or (`None`) the mesh.
    pub fn stopped(&self) -> impl Iterator<Item = Option<FolderId>> + '_ {
        self.stopped.keys().copied()
    }

    /// The statement of a kind that this version does not know and because of which it must stop serving: for
    /// the whole mesh, or for `folder`.
    pub fn stopped_by(&self, folder: FolderId) -> Option<StatementId> {
        self.stopped.get(&None).or_else(|| self.stopped.get(&Some(folder))).copied()
    }

    /// Statements without effect, and why.
    pub fn void(&self) -> &BTreeMap<StatementId, Void> {
        &self.void
    }

    fn level_in(&self, folder: &FolderState, node: NodeId, path: &RelPath, at_ms: u64) -> Level {
        if folder.retired || !self.is_member(node) {
            return Level::None;
        }
        let surely = Who { node, in_group: &|group| self.in_group(group, node, false) };
        let level = folder.book.level(&surely, path, at_ms);
        if !self.groups.values().any(|group| group.disputed.contains(&node)) {
            return level;
        }
        let perhaps = Who { node, in_group: &|group| self.in_group(group, node, true) };
        level.min(folder.book.level(&perhaps, path, at_ms))
    }

    fn in_group(&self, group: GroupId, node: NodeId, or_disputed: bool) -> bool {
        self.groups
            .get(&group)
            .is_some_and(|group| group.members.contains(&node) || (or_disputed && group.disputed.contains(&node)))
    }
}
